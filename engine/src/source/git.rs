//! Trees in git repositories, by the program `git`.
//!
//! ```text
//! <cache_dir>/
//!   repositories/<digest>/       what was ever fetched from one remote, bare and mostly shallow
//!   repositories/<digest>.lock   held while that remote is worked with
//!   trees/<digest>/              a tree checked out, complete once it has this name
//! ```
//!
//! First [`resolve`] asks the remote what a reference stands for, which is all that a cache key needs
//! and for a full commit asks nobody; then [`checkout_revision`] makes the tree of just that.
//! Nothing of the user's or the machine's git configuration is used, no hook and no filter runs, and
//! neither a remote nor a submodule can name a local path. How a git URL is written is not known here.

mod program;
mod repository;
mod tree;

use std::path::{Path, PathBuf};

use self::program::Git;
use self::repository::Repository;
use super::url::redact_credentials;
use super::{Access, Error};

/// A tree in a git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitRequest {
    /// The repository, in any form git takes but a local path.
    pub remote: String,
    /// A branch, a tag, another ref or a commit; the default branch when absent.
    pub reference: Option<String>,
    /// The directory of the tree that is wanted; all of it when absent.
    pub subdir: Option<String>,
    /// The commit, or the start of it, that the reference must stand for.
    pub checksum: Option<String>,
    /// Keeps `.git`, if the whole tree is wanted.
    pub keep_git_dir: bool,
    /// Checks submodules out too.
    pub submodules: bool,
    /// What the files' times are to say.
    pub mtime: Mtime,
    /// Takes the checksum, a full commit, for what the reference stands for without asking.
    pub fetch_by_commit: bool,
}

/// What the modification time of a file from git says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mtime {
    /// When it was checked out.
    #[default]
    Checkout,
    /// When the commit was made.
    Commit,
}

/// What a reference stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The full name of the ref, such as `refs/heads/main`, or the commit that was asked for.
    pub reference: String,
    /// What it names: a commit or an annotated tag.
    pub object: String,
    /// The commit, as far as the remote told: the object itself unless that is known to be a tag.
    pub commit: String,
}

/// A tree that was checked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitCheckout {
    /// Its directory, to be read and left as it is.
    pub directory: PathBuf,
    /// The commit it is of.
    pub commit: String,
}

/// Finds out what the request's reference stands for now, and checks that against its checksum.
pub fn resolve(
    request: &GitRequest,
    access: &Access<'_>,
    cache_dir: &Path,
) -> Result<Revision, Error> {
    let checksum = request.checksum.as_deref().map(str::to_ascii_lowercase);
    if let Some(checksum) = checksum.as_ref().filter(|text| !is_hex(text)) {
        return Err(Error::InvalidCommit { checksum: checksum.clone() });
    }
    let reference = request.reference.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = reference.filter(|n| n.starts_with('-') || n.contains(char::is_control)) {
        return Err(Error::InvalidReference { reference: name.to_owned() });
    }
    let revision = match (reference, &checksum) {
        (Some(commit), _) if is_commit(commit) => Revision::of_commit(commit),
        (name, Some(commit)) if request.fetch_by_commit => {
            if !is_commit(commit) {
                return Err(Error::InvalidCommit { checksum: commit.clone() });
            }
            Revision { reference: branch_or_ref(name, commit), ..Revision::of_commit(commit) }
        }
        (Some(name), _) => ask_for(name, request, access, cache_dir)?,
        (None, _) => ask_for_default(request, access)?,
    };
    match checksum {
        Some(expected) => revision.expect(&expected),
        None => Ok(revision),
    }
}

/// Finds out what the request's reference stands for now, and makes the tree of that.
pub fn checkout(
    request: &GitRequest,
    access: &Access<'_>,
    cache_dir: &Path,
) -> Result<GitCheckout, Error> {
    let revision = resolve(request, access, cache_dir)?;
    checkout_revision(request, &revision, access, cache_dir)
}

/// Makes the tree of a revision that [`resolve`] found for the same request.
pub fn checkout_revision(
    request: &GitRequest,
    revision: &Revision,
    access: &Access<'_>,
    cache_dir: &Path,
) -> Result<GitCheckout, Error> {
    let git = Git::new(request, access);
    let repository = Repository::open(&git, cache_dir, revision.object.len())?;
    repository.fetch(revision)?;
    let commit = repository.commit_of(&revision.object)?;
    let directory = tree::check_out(request, revision, &repository, cache_dir)?;
    Ok(GitCheckout { directory, commit })
}

impl Revision {
    fn of_commit(commit: &str) -> Self {
        let commit = commit.to_owned();
        Self { reference: commit.clone(), object: commit.clone(), commit }
    }

    /// Checks that the tag or its commit starts with `expected`.
    fn expect(self, expected: &str) -> Result<Self, Error> {
        if self.object.starts_with(expected) || self.commit.starts_with(expected) {
            return Ok(self);
        }
        let actual = match self.object == self.commit {
            true => self.object,
            false => format!("{} or {}", self.object, self.commit),
        };
        Err(Error::CommitMismatch { expected: expected.to_owned(), actual })
    }
}

/// Asks what `HEAD` is, and which branch that is.
fn ask_for_default(request: &GitRequest, access: &Access<'_>) -> Result<Revision, Error> {
    let git = Git::new(request, access);
    let answer = git.run("ask", &["ls-remote", "--symref", "--", &request.remote, "HEAD"])?;
    let (mut branch, mut object) = ("HEAD", None);
    for (value, _) in answer.lines().filter_map(|line| line.split_once("\tHEAD")) {
        match value.strip_prefix("ref: ") {
            Some(name) => branch = name,
            None => object = Some(value),
        }
    }
    match object {
        Some(object) if is_commit(object) => {
            Ok(Revision { reference: branch.to_owned(), ..Revision::of_commit(object) })
        }
        _ => Err(unknown(request, "HEAD")),
    }
}

/// Asks what `name` stands for: a ref of exactly that name, a branch, a tag, or a commit cut short.
fn ask_for(
    name: &str,
    request: &GitRequest,
    access: &Access<'_>,
    cache_dir: &Path,
) -> Result<Revision, Error> {
    let git = Git::new(request, access);
    let peeled = format!("{name}^{{}}");
    let answer = git.run("ask", &["ls-remote", "--", &request.remote, name, &peeled])?;
    let refs: Vec<(&str, &str)> = answer.lines().filter_map(|line| line.split_once('\t')).collect();
    let find = |wanted: &str| {
        refs.iter().find(|(object, name)| *name == wanted && is_commit(object)).map(|found| found.0)
    };
    for space in ["refs/", "refs/heads/", "refs/tags/"] {
        let reference = format!("{space}{}", name.strip_prefix(space).unwrap_or(name));
        if let Some(object) = find(&reference) {
            let commit = find(&format!("{reference}^{{}}")).unwrap_or(object).to_owned();
            return Ok(Revision { reference, object: object.to_owned(), commit });
        }
    }
    if !(4..40).contains(&name.len()) || !is_hex(name) {
        return Err(unknown(request, name));
    }
    // No server looks up the start of a commit: everything must come here to be searched.
    let repository = Repository::open(&git, cache_dir, 40)?;
    repository.fetch_all()?;
    let commit = repository.expand(name)?.ok_or_else(|| unknown(request, name))?;
    Ok(Revision::of_commit(&commit))
}

fn unknown(request: &GitRequest, reference: &str) -> Error {
    let remote = redact_credentials(&request.remote);
    Error::UnknownReference { remote, reference: reference.to_owned() }
}

/// Names the ref a commit is to be kept under: a name without `refs/` is a branch.
fn branch_or_ref(name: Option<&str>, commit: &str) -> String {
    match name {
        Some(name) if name.starts_with("refs/") => name.to_owned(),
        Some(name) => format!("refs/heads/{name}"),
        None => commit.to_owned(),
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Tells whether `text` is a full object name, SHA-1 or SHA-256, as git writes it.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hex(text) && !text.bytes().any(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests;
