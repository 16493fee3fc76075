//! One entry of a layer: a path and everything a layer says of it but the content.
//!
//! Does not know how it is encoded, nor whether it is in a tar or in a tree.

use std::collections::BTreeMap;

/// What a layer says of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, without `.`, `..` or a slash at either end; empty for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The permissions with set-user-id, set-group-id and sticky: `0o7777` at most.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The owning group.
    pub gid: u64,
    /// When the content was last modified.
    pub mtime: Timestamp,
    /// The extended attributes by their full names (`security.capability`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// Makes an entry that belongs to root and was modified at the epoch.
    pub fn new(path: impl AsRef<[u8]>, kind: Kind, mode: u32) -> Self {
        Self {
            path: clean(path.as_ref()),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: BTreeMap::new(),
        }
    }

    /// Returns the number of bytes of content: a file's size, else 0.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size } => size,
            _ => 0,
        }
    }

    /// Returns the directory the entry is in and its name there; the root's name is empty.
    pub fn split(&self) -> (&[u8], &[u8]) {
        split(&self.path)
    }
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its length in bytes, holes included.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link to any text.
    Symlink(Vec<u8>),
    /// Another name for the entry with this path.
    Hardlink(Vec<u8>),
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// A point in time: `seconds` after the epoch, and then `nanoseconds` more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Since 1970-01-01 00:00:00 UTC; negative before it.
    pub seconds: i64,
    /// Always forward, also from negative seconds; less than 1,000,000,000.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Makes a point in time on a whole second.
    pub fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// Returns it in nanoseconds, which wrap around after 292 years: for comparing.
    pub fn wrapping_nanoseconds(&self) -> i64 {
        self.seconds.wrapping_mul(1_000_000_000).wrapping_add(self.nanoseconds.into())
    }
}

/// Resolves `.`, `..` and repeated slashes in `path` by text alone, never above the root.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            _ => names.push(name),
        }
    }
    names.join(&b'/')
}

/// Splits a clean path into the directory and the name in it.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Joins a clean directory path and a name.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_path_stays_below_the_root() {
        for (path, expected) in [
            ("", ""),
            ("./", ""),
            ("/", ""),
            ("./a/b/", "a/b"),
            ("//a//b", "a/b"),
            ("a/./b/../c", "a/c"),
            ("../../etc/passwd", "etc/passwd"),
            ("a/../../b", "b"),
            ("...", "..."),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn split_and_join_are_inverse() {
        for path in ["a", "a/b", "a/b/c"] {
            let (directory, name) = split(path.as_bytes());
            assert_eq!(join(directory, name), path.as_bytes());
        }
    }
}
