//! Git references: the sources of `ADD` and the build contexts that name a git repository.
//!
//! Fetches nothing. Two shapes exist: URLs, `https://host/path.git#ref:subdir`, and what scp
//! takes, `user@host:path`; both may have a query instead of, or beside, the fragment.

use crate::flags::parse_bool;
use crate::path;

/// A repository and what is wanted of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitRef {
    /// The repository, without fragment and query.
    pub remote: String,
    /// The repository's own name: the last component without `.git`.
    pub short_name: String,
    /// A branch, a tag or a commit.
    pub reference: Option<String>,
    /// The commit that the reference must be.
    pub checksum: Option<String>,
    /// The directory wanted.
    pub subdir: Option<String>,
    /// Whether a local path could look the same, as `github.com/foo/bar` does.
    pub looks_local: bool,
    /// Whether it is fetched without encryption.
    pub unencrypted: bool,
    /// Whether `.git` is kept.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched.
    pub submodules: Option<bool>,
    /// What the files' times are.
    pub mtime: Option<MTime>,
    /// Whether the commit is fetched by its digest alone.
    pub fetch_by_commit: bool,
}

/// What the times of fetched files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MTime {
    /// The time of checking out.
    Checkout,
    /// The commit's time.
    Commit,
}

/// A git reference with options that cannot be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum GitUrlError {
    /// An option without a value.
    #[error("query {0:?} has no value")]
    NoValue(String),
    /// An option given twice.
    #[error("query {0:?} has multiple values")]
    ManyValues(String),
    /// An option that does not exist.
    #[error("unexpected query {0:?}")]
    Unknown(String),
    /// A value that is not a truth value.
    #[error("invalid {key} value: {value:?}")]
    Bool {
        /// The option.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A policy for times that does not exist.
    #[error("invalid mtime value: {0:?} (must be \"checkout\" or \"commit\")")]
    MTime(String),
    /// Two different values for the same thing.
    #[error("{key} conflicts: {one:?} vs {other:?}")]
    Conflict {
        /// What is given twice.
        key: &'static str,
        /// One value.
        one: String,
        /// The other.
        other: String,
    },
    /// Both a tag and a branch.
    #[error("branch conflicts with tag")]
    BranchAndTag,
}

/// The parts of a reference before any is understood.
struct Parts<'a> {
    scheme: String,
    remote: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

impl GitRef {
    /// Reads a git reference; `None` if the text is anything else.
    pub fn parse(text: &str) -> Result<Option<Self>, GitUrlError> {
        if text.starts_with("./") || text.starts_with("../") {
            return Ok(None);
        }
        let looks_local = text.starts_with("github.com/");
        let Some(parts) = (if looks_local { Some(split_local(text)) } else { split_url(text) })
        else {
            return Ok(None);
        };
        // Any web page is a URL; only the suffix tells that git is meant.
        if matches!(parts.scheme.as_str(), "http" | "https") && !parts.path.ends_with(".git") {
            return Ok(None);
        }
        let last = parts.remote.rsplit('/').next().unwrap_or_default();
        let mut git = Self {
            remote: parts.remote.to_owned(),
            short_name: last.strip_suffix(".git").unwrap_or(last).to_owned(),
            looks_local,
            unencrypted: matches!(parts.scheme.as_str(), "http" | "git"),
            ..Self::default()
        };
        git.read_fragment(&percent_decode(parts.fragment));
        git.read_query(parts.query)?;
        Ok(Some(git))
    }

    /// Writes the reference as `remote#ref` or `remote#ref:subdir`.
    pub fn to_fragment_form(&self, subdir: Subdir) -> String {
        let reference = self.reference.as_deref().unwrap_or_default();
        let subdir = match subdir {
            Subdir::Keep => self.subdir.as_deref().map(|subdir| path::join("/", subdir)),
            Subdir::Drop => None,
        };
        match subdir
            .as_deref()
            .map(|subdir| subdir.trim_start_matches('/'))
            .filter(|subdir| !subdir.is_empty())
        {
            Some(subdir) => format!("{}#{reference}:{subdir}", self.remote),
            None if reference.is_empty() => self.remote.clone(),
            None => format!("{}#{reference}", self.remote),
        }
    }

    fn read_fragment(&mut self, fragment: &str) {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        self.reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
        let subdir = path::join("/", subdir);
        self.subdir = Some(subdir[1..].to_owned()).filter(|subdir| !subdir.is_empty());
    }

    fn read_query(&mut self, query: &str) -> Result<(), GitUrlError> {
        let mut seen = Vec::new();
        let (mut tag, mut branch) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (query_decode(key), query_decode(value));
            if seen.contains(&key) {
                return Err(GitUrlError::ManyValues(key));
            }
            match key.as_str() {
                "keep-git-dir" => self.keep_git_dir = Some(truth("keep-git-dir", &value)?),
                "submodules" => self.submodules = Some(truth("submodules", &value)?),
                "fetch-by-commit" => self.fetch_by_commit = truth("fetch-by-commit", &value)?,
                _ if value.is_empty() => return Err(GitUrlError::NoValue(key)),
                "ref" => agree("ref", &mut self.reference, value)?,
                "subdir" => agree("subdir", &mut self.subdir, value)?,
                "tag" => tag = Some(prefixed("refs/tags/", &value)),
                "branch" => branch = Some(prefixed("refs/heads/", &value)),
                "checksum" | "commit" => self.checksum = Some(value),
                "mtime" => self.mtime = Some(parse_mtime(value)?),
                _ => return Err(GitUrlError::Unknown(key)),
            }
            seen.push(key);
        }
        if tag.is_some() && branch.is_some() {
            return Err(GitUrlError::BranchAndTag);
        }
        tag.or(branch).map_or(Ok(()), |named| agree("ref", &mut self.reference, named))
    }
}

/// Whether a subdirectory is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subdir {
    /// It is.
    Keep,
    /// It is not.
    Drop,
}

/// Splits `github.com/owner/repository`.
fn split_local(text: &str) -> Parts<'_> {
    let (remote, query, fragment) = split_tail(text);
    Parts { scheme: String::new(), remote, path: remote, query, fragment }
}

fn split_url(text: &str) -> Option<Parts<'_>> {
    let (remote, query, fragment) = split_tail(text);
    if let Some((scheme, rest)) = remote.split_once("://")
        && !scheme.is_empty()
        && scheme.chars().all(|char| char.is_ascii_alphanumeric())
    {
        let scheme = scheme.to_ascii_lowercase();
        let known = matches!(scheme.as_str(), "http" | "https" | "ssh" | "git");
        let path = rest.find('/').map_or("", |slash| &rest[slash..]);
        return known.then_some(Parts { scheme, remote, path, query, fragment });
    }
    let (user, rest) = remote.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    let named = |name: &str, extra: &[char]| {
        !name.is_empty()
            && name.chars().all(|char| char.is_ascii_alphanumeric() || extra.contains(&char))
    };
    let scp = named(user, &['-', '_']) && named(host, &['-', '.']);
    scp.then(|| Parts { scheme: "ssh".to_owned(), remote, path, query, fragment })
}

/// Cuts off query and fragment.
fn split_tail(text: &str) -> (&str, &str, &str) {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    (text, query, fragment)
}

/// Sets a value that may have been set to the same before.
fn agree(key: &'static str, slot: &mut Option<String>, value: String) -> Result<(), GitUrlError> {
    match slot {
        Some(one) if *one != value => {
            Err(GitUrlError::Conflict { key, one: one.clone(), other: value })
        }
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn prefixed(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn truth(key: &'static str, value: &str) -> Result<bool, GitUrlError> {
    match value {
        "" => Ok(true),
        _ => parse_bool(value).ok_or_else(|| GitUrlError::Bool { key, value: value.to_owned() }),
    }
}

fn parse_mtime(value: String) -> Result<MTime, GitUrlError> {
    match value.as_str() {
        "checkout" => Ok(MTime::Checkout),
        "commit" => Ok(MTime::Commit),
        _ => Err(GitUrlError::MTime(value)),
    }
}

fn query_decode(text: &str) -> String {
    percent_decode(&text.replace('+', " "))
}

/// Decodes `%xx`; anything else that begins with a percent sign stays.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let code = (*first == b'%').then_some(behind).and_then(|behind| {
            let digits =
                behind.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        });
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<Option<&str>, &str>) {
        let found = GitRef::parse(text).map_err(|error| error.to_string());
        let found = found.map(|git| git.map(|git| git.to_fragment_form(Subdir::Keep)));
        assert_eq!(
            found,
            expected.map(|form| form.map(str::to_owned)).map_err(str::to_owned),
            "{text}"
        );
    }

    #[test]
    fn references_are_told_from_other_sources() {
        check("file.txt", Ok(None));
        check("./github.com/a/b", Ok(None));
        check("ftp://a/b.git", Ok(None));
        check("https://a.org/file", Ok(None));
        check("https://a.org/b.git", Ok(Some("https://a.org/b.git")));
        check("HTTPS://a.org/b.git#v1", Ok(Some("HTTPS://a.org/b.git#v1")));
        check("git@a.org:b.git#:x/../y", Ok(Some("git@a.org:b.git#:y")));
        check("ssh://git@a.org/b#v%201:z", Ok(Some("ssh://git@a.org/b#v 1:z")));
        check("git@a_b:c", Ok(None));
    }

    #[test]
    fn queries_are_read() {
        check("https://a/b.git?branch=x&subdir=y", Ok(Some("https://a/b.git#refs/heads/x:y")));
        check("https://a/b.git?tag=refs/tags/x", Ok(Some("https://a/b.git#refs/tags/x")));
        check("https://a/b.git?ref=", Err("query \"ref\" has no value"));
        check("https://a/b.git?ref=a&ref=b", Err("query \"ref\" has multiple values"));
        check("https://a/b.git?subdir=x#:y", Err("subdir conflicts: \"y\" vs \"x\""));
        check("https://a/b.git?submodules=x", Err("invalid submodules value: \"x\""));
        let git = GitRef::parse("https://a/b.git?submodules=0&keep-git-dir&mtime=commit")
            .unwrap()
            .unwrap();
        assert_eq!(
            (git.submodules, git.keep_git_dir, git.mtime),
            (Some(false), Some(true), Some(MTime::Commit))
        );
    }
}
