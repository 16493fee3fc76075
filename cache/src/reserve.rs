//! Room on the disk for the list of images, so that one that becomes shorter can be written when the
//! disk is full to the last byte: nothing can be removed before what names it is.
//!
//! The reserve is a file with blocks of its own. The list is written into these and the file is
//! renamed to the list's name, which is there already, so no block and no entry of a directory is
//! asked for. Who is killed on the way leaves a reserve with something in it. A file system that
//! never writes in place (btrfs, ZFS) keeps a reserve of its own for that.
//!
//! Used only by the holder of the list's lock. Does not know what is in the list.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::store::sync_dir;

/// Grows in steps of so many bytes.
const STEP: usize = 1 << 12;

/// The file that takes the room, in a store.
pub(crate) struct Reserve(PathBuf);

impl Reserve {
    pub(crate) fn of(root: &Path) -> Self {
        Self(root.join("reserve"))
    }

    /// Whether there is room for so many bytes.
    pub(crate) fn holds(&self, length: usize) -> bool {
        fs::symlink_metadata(&self.0)
            .is_ok_and(|found| found.is_file() && found.len() >= length as u64)
    }

    /// Sees to it that there is room for so many bytes.
    pub(crate) fn keep(&self, length: usize) -> Result<()> {
        if self.holds(length) {
            return Ok(());
        }
        let length = length.next_multiple_of(STEP);
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(&self.0);
        let file = file.map_err(Error::Io)?;
        let took = match rustix::fs::fallocate(
            file.file().as_fd(),
            FallocateFlags::empty(),
            0,
            length as u64,
        ) {
            // A file of holes would take no room.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                file.file().write_all_at(&vec![b' '; length], 0)
            }
            took => took.map_err(io::Error::from),
        };
        took.map_err(|source| {
            let text = format!("cannot reserve {length} bytes in {}: {source}", self.0.display());
            Error::Io(io::Error::new(source.kind(), text))
        })
    }

    /// Makes the reserve the file at `path`, which must be there, with this content. There is no
    /// reserve then.
    pub(crate) fn become_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let file = fs::OpenOptions::new().write(true).open(&self.0).map_err(Error::Io)?;
        file.file().write_all_at(bytes, 0).map_err(Error::Io)?;
        file.set_len(bytes.len() as u64).map_err(Error::Io)?;
        file.sync_all().map_err(Error::Io)?;
        fs::rename(&self.0, path).map_err(Error::Io)?;
        sync_dir(path.parent().expect("a file has a directory"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_reserve_has_blocks_and_becomes_the_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (reserve, path) = (Reserve::of(dir.path()), dir.path().join("list"));
        reserve.keep(5000).expect("keep");
        let inode = fs::metadata(dir.path().join("reserve")).expect("stat");
        assert!(inode.blocks() * 512 >= 5000, "{inode:?}");
        assert!(reserve.holds(8192) && !reserve.holds(8193));
        reserve.keep(100).expect("keep");
        assert!(reserve.holds(8192), "it never shrinks");
        fs::write(&path, "old").expect("write");
        // Somebody was killed here before.
        let file = fs::OpenOptions::new().write(true).open(dir.path().join("reserve"));
        file.expect("open").file().write_all_at(&[7; 4000], 0).expect("write");
        reserve.become_file(&path, b"new").expect("become");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(fs::metadata(&path).expect("stat").ino(), inode.ino());
        assert!(!reserve.holds(0));
    }
}
