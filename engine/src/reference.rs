//! Names of images: `[domain/]path[:tag][@digest]`, as people write them and in full.
//!
//! The grammar is that of `distribution/reference`. Nothing here asks whether an image exists.

mod grammar;

use std::fmt;
use std::str::FromStr;

use crate::pattern::{PatternError, glob::Glob};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// An image's full name, `Display`ed canonically: `docker.io/library/busybox:latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry's host and port; `docker.io` where none was written.
    pub domain: String,
    /// The repository in that registry; on `docker.io` with its `library/`.
    pub path: String,
    /// What follows the colon; nothing is filled in by parsing.
    pub tag: Option<String>,
    /// What follows the `@`, with its algorithm.
    pub digest: Option<String>,
}

/// What a command line may mean by an image: a name, or the image's own digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameOrDigest {
    /// A name to be looked up.
    Name(Reference),
    /// A full digest, `sha256:...`; the algorithm may have been left out.
    Digest(String),
}

/// A text that does not name an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing but an empty text.
    #[error("repository name must have at least one component")]
    Empty,
    /// A text outside the grammar.
    #[error("invalid reference format")]
    Format,
    /// The same text in lower case would be valid.
    #[error("repository name must be lowercase")]
    Uppercase,
    /// A repository with upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UppercaseName(String),
    /// A repository whose path is longer than 255 characters.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// A name that could be taken for an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// A tag outside the grammar.
    #[error("invalid tag format")]
    Tag,
    /// A digest that is no `algorithm:hexadecimal`.
    #[error("invalid checksum digest format")]
    DigestFormat,
    /// A digest with too few or too many digits.
    #[error("invalid checksum digest length")]
    DigestLength,
    /// A digest by another algorithm than SHA-256.
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
}

impl Reference {
    /// Parses a name as people write it: `busybox` is `docker.io/library/busybox`, without a tag.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if grammar::is_identifier(text) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let name = remainder.split(':').next().unwrap_or_default();
        if name.to_lowercase() != name {
            return Err(ReferenceError::UppercaseName(name.to_owned()));
        }
        let full = format!("{domain}/{remainder}");
        let parts = grammar::parse(&full)?;
        Ok(Self {
            domain: parts.domain.unwrap_or_default().to_owned(),
            path: parts.path.to_owned(),
            tag: parts.tag.map(str::to_owned),
            digest: parts.digest.map(str::to_owned),
        })
    }

    /// Adds the tag `latest` to a name that has neither tag nor digest.
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// Returns what a pull asks for: the digest alone where there is one, else the tag or `latest`.
    pub fn for_pull(mut self) -> Self {
        if self.digest.is_some() {
            self.tag = None;
        }
        self.or_latest()
    }

    /// Replaces the tag.
    pub fn with_tag(mut self, tag: &str) -> Result<Self, ReferenceError> {
        if !grammar::is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        self.tag = Some(tag.to_owned());
        Ok(self)
    }

    /// Returns the name without tag and digest: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Returns the name as people know it, without tag and digest: `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(official) if !official.contains('/') => official.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// Returns what people would have written: `busybox:latest`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), Suffix(self))
    }

    /// Tells whether the familiar form matches a glob, with its tag or without (`--filter
    /// reference=`).
    pub fn familiar_matches(&self, pattern: &str) -> Result<bool, PatternError> {
        let pattern = Glob::parse(pattern)?;
        Ok(pattern.matches(self.familiar()) || pattern.matches(self.familiar_name()))
    }
}

impl NameOrDigest {
    /// Parses a digest, 64 hexadecimal digits or a name.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if grammar::is_identifier(text) {
            return Ok(Self::Digest(format!("sha256:{text}")));
        }
        if grammar::check_digest(text).is_ok() {
            return Ok(Self::Digest(text.to_owned()));
        }
        Reference::parse(text).map(Self::Name)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, Suffix(self))
    }
}

/// Tag and digest, each behind its mark.
struct Suffix<'a>(&'a Reference);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.0.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.0.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Decides whether the first component is a registry; fills in docker.io and `library/`.
fn split_domain(text: &str) -> (&str, String) {
    let (domain, path) = match text.split_once('/') {
        Some((LEGACY_DEFAULT_DOMAIN, path)) => (DEFAULT_DOMAIN, path),
        Some((first, path)) if is_domain(first) => (first, path),
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain, format!("{OFFICIAL_PREFIX}{path}"));
    }
    (domain, path.to_owned())
}

/// A first component with upper-case letters can only be a host: repositories have none.
fn is_domain(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first
}

#[cfg(test)]
mod tests;
