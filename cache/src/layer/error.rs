//! What can go wrong between a tree and its tar.
//!
//! Paths are bytes; here they become text fit for one line.

use std::io;

/// A layer that could not be read, written, packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on the tree failed.
    #[error("cannot {step} \"{}\"", shown(path))]
    Tree {
        /// What was being done, as a verb phrase.
        step: &'static str,
        /// Relative to the tree's root.
        path: Vec<u8>,
        /// Why it failed.
        source: io::Error,
    },
    /// The source of an archive failed.
    #[error("cannot read the archive at byte {position}")]
    Read {
        /// How far it had been read.
        position: u64,
        /// Why it failed.
        source: io::Error,
    },
    /// The archive ends in the middle of an entry.
    #[error("the archive ends within \"{}\" at byte {position}", shown(path))]
    Truncated {
        /// The entry, or the last one before a header that was cut.
        path: Vec<u8>,
        /// How far it had been read.
        position: u64,
    },
    /// Something that is not a tar header stands where one should be.
    #[error("not a tar header at byte {position}{}", after(path))]
    NotAHeader {
        /// Where it stands.
        position: u64,
        /// The last entry before it, empty if it would be the first.
        path: Vec<u8>,
    },
    /// A header field or an extended record makes no sense.
    #[error("the archive's entry \"{}\" has an invalid {field}", shown(path))]
    InvalidField {
        /// The entry.
        path: Vec<u8>,
        /// The field, by the name the formats give it.
        field: &'static str,
    },
    /// An extended attribute that no file system would take.
    #[error(
        "the archive's entry \"{}\" has an invalid extended attribute \"{}\"",
        shown(path),
        shown(name)
    )]
    InvalidAttribute {
        /// The entry.
        path: Vec<u8>,
        /// The attribute, by its full name.
        name: Vec<u8>,
    },
    /// An entry that is no file, directory, link, device or fifo.
    #[error("the archive's entry \"{}\" has the unknown type \"{}\"", shown(path), typeflag.escape_ascii())]
    UnknownType {
        /// The entry.
        path: Vec<u8>,
        /// Its type flag.
        typeflag: u8,
    },
    /// A hard link to something that is neither in the archive nor in the tree.
    #[error("\"{}\" is a hard link to \"{}\", which does not exist", shown(path), shown(target))]
    MissingLinkTarget {
        /// The entry.
        path: Vec<u8>,
        /// What it links to.
        target: Vec<u8>,
    },
    /// The archive could not be written.
    #[error("cannot write the layer")]
    Write {
        /// Why it failed.
        source: io::Error,
    },
    /// A file's content could not be read while it was being packed.
    #[error("cannot read \"{}\"", shown(path))]
    Content {
        /// The file.
        path: Vec<u8>,
        /// Why it failed.
        source: io::Error,
    },
    /// A file became shorter while it was being packed.
    #[error("\"{}\" ended {missing} bytes early: it changed while it was read", shown(path))]
    Shrunk {
        /// The file.
        path: Vec<u8>,
        /// How much is missing.
        missing: u64,
    },
    /// A tar has no way to say this.
    #[error("cannot put \"{}\" into a layer: {reason}", shown(path))]
    Inexpressible {
        /// The entry.
        path: Vec<u8>,
        /// What about it cannot be said.
        reason: &'static str,
    },
}

impl Error {
    /// Wraps a failed system call on `path`.
    pub(super) fn tree(step: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Tree { step, path: path.to_vec(), source: source.into() }
    }
}

/// Returns `path` as text without control characters; the root is `/`.
fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    let text = String::from_utf8_lossy(path);
    let escaped = |c: char| if c.is_control() { c.escape_default().collect() } else { vec![c] };
    let length = text.chars().count();
    if length <= LONGEST_SHOWN {
        return text.chars().flat_map(escaped).collect();
    }
    let [start, end] = [0, length - LONGEST_SHOWN / 2];
    let part = |from| text.chars().skip(from).take(LONGEST_SHOWN / 2).flat_map(escaped);
    part(start).chain(['…']).chain(part(end)).collect()
}

/// Characters of a path that anybody would read.
const LONGEST_SHOWN: usize = 256;

fn after(path: &[u8]) -> String {
    if path.is_empty() { String::new() } else { format!(", after \"{}\"", shown(path)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_on_one_line() {
        for (path, expected) in [
            (&b"a/b"[..], "a/b"),
            (b"", "/"),
            (b"a\nb", "a\\nb"),
            ("h\u{e4}".as_bytes(), "h\u{e4}"),
            (b"\xff", "\u{fffd}"),
        ] {
            assert_eq!(shown(path), expected);
        }
    }
}
