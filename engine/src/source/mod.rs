//! Sources that live elsewhere: files behind URLs and trees in git repositories.
//!
//! Each fetch keeps what it got below a directory its caller names, asks the other side whether
//! that is still current, and hands back paths into that directory: to be read, never written.
//! Knows no Dockerfile, no key and no layer, and reads no environment: what a fetch may use of its
//! user (proxies, secrets, an ssh agent) comes in one [`Access`].

pub(crate) mod base64;
pub mod context;
mod disposition;
pub mod git;
pub mod http;
mod kept;
mod proxy;
mod url;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use cache::digest::Digest;

pub use proxy::Proxy;
pub use url::redact_credentials;

/// Looks a secret up by its id; `None` where the user gave none of that name.
pub type Secrets<'a> = dyn Fn(&str) -> Option<Vec<u8>> + Sync + 'a;

/// What a fetch may use of the user it works for.
pub struct Access<'a> {
    /// The proxies to go through.
    pub proxy: Proxy,
    /// Where credentials come from.
    pub secrets: &'a Secrets<'a>,
    /// The agent that authenticates git over ssh.
    pub ssh_auth_sock: Option<PathBuf>,
    /// The only host keys git over ssh accepts; without it the user's own file is asked and an
    /// unknown host is added to it.
    pub known_hosts: Option<PathBuf>,
    /// Where `git` and `ssh` are looked for, as in the variable `PATH`.
    pub program_path: OsString,
}

impl Access<'_> {
    /// No proxy, no secret, no agent, and the programs of the usual directories.
    pub fn none() -> Self {
        Self {
            proxy: Proxy::default(),
            secrets: &|_| None,
            ssh_auth_sock: None,
            known_hosts: None,
            program_path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
        }
    }

    /// Returns the secret `id` as text without the line end that editors leave behind.
    fn secret_text(&self, id: &str) -> Option<String> {
        let bytes = (self.secrets)(id)?;
        Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }
}

/// A remote source that could not be had. Addresses are shown without their credentials.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text that is no address of a file.
    #[error("\"{url}\" is not an http or https URL")]
    InvalidUrl {
        /// The text.
        url: String,
    },
    /// A proxy setting that names no proxy this program can use.
    #[error("\"{proxy}\" is not a usable proxy: expected http://host:port")]
    InvalidProxy {
        /// The setting.
        proxy: String,
    },
    /// The server could not be reached, or broke off.
    #[error("fetch {url}")]
    FetchUrl {
        /// What was asked for.
        url: String,
        /// Why it did not come.
        source: Box<ureq::Error>,
    },
    /// The server answered, but not with the file.
    #[error("fetch {url}: invalid response status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status code.
        status: u16,
    },
    /// The file is not the one that was asked for.
    #[error("digest mismatch for {url}: {actual} (expected: {expected})")]
    DigestMismatch {
        /// Where the file came from.
        url: String,
        /// Its digest.
        actual: Digest,
        /// The digest it was to have.
        expected: Digest,
    },
    /// What was fetched could not be kept.
    #[error("keep what was fetched from {remote}")]
    Keep {
        /// Where it came from.
        remote: String,
        /// Why not, with the path.
        source: io::Error,
    },
    /// The program `git` could not be started.
    #[error("start the program git, which sources in git repositories need")]
    StartGit {
        /// Why not.
        source: io::Error,
    },
    /// A git command failed.
    #[error("{step} {remote}{}: {stderr}", fragment(reference))]
    Git {
        /// What was being done, as in "fetch from".
        step: &'static str,
        /// The repository.
        remote: String,
        /// The reference asked for; empty for the default branch.
        reference: String,
        /// What git said, on one line.
        stderr: String,
    },
    /// A reference that git could take for an option, or that no reference can look like.
    #[error("invalid git ref \"{reference}\"")]
    InvalidReference {
        /// The reference.
        reference: String,
    },
    /// The repository has nothing of that name.
    #[error("repository {remote} does not contain ref {reference}")]
    UnknownReference {
        /// The repository.
        remote: String,
        /// The reference.
        reference: String,
    },
    /// A commit was to be named by something that is no hexadecimal number.
    #[error("invalid checksum {checksum} for git URL, expected hex commit hash")]
    InvalidCommit {
        /// The text.
        checksum: String,
    },
    /// The reference stands for another commit than the one asked for.
    #[error("expected checksum to match {expected}, got {actual}")]
    CommitMismatch {
        /// The commit asked for, perhaps abbreviated.
        expected: String,
        /// What the reference stands for: a commit, or a tag "or" its commit.
        actual: String,
    },
    /// The tree has no such directory, or a link or a file stands in its way.
    #[error("invalid subdir {subdir} of {remote}: \"{part}\" is not a directory")]
    Subdirectory {
        /// The directory asked for.
        subdir: String,
        /// The repository.
        remote: String,
        /// The first part of it that is no directory.
        part: String,
    },
    /// A stream that was to be a context could not be read or kept.
    #[error("read the context {name}")]
    ReadContext {
        /// What it is called.
        name: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Writes a git reference the way it follows a URL.
fn fragment(reference: &str) -> String {
    if reference.is_empty() { String::new() } else { format!("#{reference}") }
}
