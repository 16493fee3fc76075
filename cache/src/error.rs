//! What can go wrong in the store, each with the object it went wrong on.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;

/// The store's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed intention.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed; the message names the path.
    #[error("{}", intention(.0))]
    Io(#[source] io::Error),
    /// The store's file system takes no upper directory of an overlay (`overlayfs.rst`).
    #[error(
        "the store {root} is on a file system ({file_system}) that cannot hold the changes of a \
         container: put the store on another one, such as ext4, xfs, btrfs or tmpfs (--root DIR or \
         RBUILD_ROOT)"
    )]
    NoUpper {
        /// The store.
        root: PathBuf,
        /// The kind of its file system.
        file_system: String,
    },
    /// The store was made by another version.
    #[error(
        "the store {root} has version {found}, this program knows version {known}: use the rbuild that \
         made it, or another store (--root DIR)"
    )]
    Version {
        /// The store.
        root: PathBuf,
        /// What its version file says.
        found: u32,
        /// What this program can read.
        known: u32,
    },
    /// The store's path is not UTF-8.
    #[error(
        "the store cannot be in {root:?}, which is not UTF-8: use another directory (--root DIR)"
    )]
    NotText {
        /// The store.
        root: PathBuf,
    },
    /// A lock could not be taken.
    #[error("cannot lock {path}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the store does not have the form it should have.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An image from elsewhere has a configuration that is none.
    #[error("its configuration cannot be read: {why}")]
    NoConfig {
        /// What is wrong with it.
        why: String,
    },
    /// Content that should be in the store is not.
    #[error("{digest} is not in the store")]
    Missing {
        /// The content's name.
        digest: Digest,
    },
    /// Content does not have the digest it is stored under.
    #[error("{path} is corrupt: its content has digest {found}, not {expected}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The digest it is stored under.
        expected: Digest,
        /// The digest of what it holds.
        found: Digest,
    },
    /// A layer could not be read or written.
    #[error("layer {what}")]
    Layer {
        /// Which layer, or which directory.
        what: String,
        /// Why.
        #[source]
        source: Box<crate::layer::Error>,
    },
    /// An archive has no entries.
    #[error("the archive holds no files")]
    EmptyArchive,
    /// An archive has something that no root file system can have.
    #[error("the archive's entry {entry:?} cannot be part of an image")]
    Entry {
        /// The entry's path.
        entry: String,
        /// Why.
        #[source]
        source: Box<crate::layer::Error>,
    },
    /// A layer's index cannot be made.
    #[error("a layer cannot be indexed")]
    Index {
        /// Why.
        source: Box<crate::erofs::Error>,
    },
}

fn intention(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the store's disk is full: free some of it (rbuild system prune), or take another store \
             (--root DIR)"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the store's file system is read-only: make it writable (mount -o remount,rw), or take \
             another store (--root DIR or RBUILD_ROOT)"
        }
        _ => "the store cannot be used",
    }
}
