//! The scratch space of one process: `tmp/<name>/`, alive as long as `tmp/<name>.lock` is locked.
//!
//! The lock's file says what its holder uses (`pins`). Whatever a process was making when it was
//! killed is found by its lock and swept.
//!
//! Where ext4 puts a directory decides what a file in it costs: an inode that was freed within the
//! last minutes is passed over, one by one, and a directory close to where a layer was just removed
//! costs twenty times as much a file as one elsewhere (without a journal; with one it is the same
//! everywhere). So directories are asked to be spread (`FS_TOPDIR_FL`, chattr(1) `T`), and have
//! names that never come again, because ext4 places a directory by its name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use fs_err as fs;
use rustix::fs::IFlags;

use crate::error::{Error, Result};
use crate::lock;
use crate::removal::remove_dir_all;

/// An odd number: its multiples are all different until 2^32 of them have been.
const STRIDE: u32 = 0x9e37_79b9;

/// A process's own directory in `tmp`. Dropping it removes it.
pub(crate) struct Scratch {
    dir: PathBuf,
    lock_path: PathBuf,
    lock: File,
    next: AtomicU32,
}

impl Scratch {
    /// Makes a directory that nobody else has.
    pub(crate) fn new(tmp: &Path) -> Result<Self> {
        spread(tmp);
        let (pid, first) = (std::process::id(), now());
        for attempt in 0.. {
            let name = format!("{pid:x}-{:x}", first.wrapping_add(attempt));
            let lock_path = tmp.join(format!("{name}.lock"));
            // A sweeper may hold the file, or have removed it.
            let Some(lock) = lock::try_hold(&lock_path)? else { continue };
            let dir = tmp.join(name);
            match fs::create_dir(&dir) {
                Ok(()) => {
                    spread(&dir);
                    return Ok(Self { dir, lock_path, lock, next: AtomicU32::new(first) });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let _ = fs::remove_file(&lock_path);
                    return Err(Error::Io(error));
                }
            }
        }
        unreachable!("2^32 names of this process are taken")
    }

    /// Where the lock is, which others find while this process lives.
    pub(crate) fn lock_path(&self) -> &Path {
        &self.lock_path
    }

    /// Writes into the lock's file.
    pub(crate) fn write_public(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.lock
            .write_all_at(bytes, at)
            .map_err(|source| Error::Lock { path: self.lock_path.clone(), source })
    }

    /// A path that nothing has.
    pub(crate) fn next_path(&self) -> PathBuf {
        let number = self.next.fetch_add(STRIDE, Ordering::Relaxed);
        self.dir.join(format!("{number:x}"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is swept later.
        if remove_dir_all(&self.dir).is_ok() {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

/// Removes the scratch space of processes that are gone.
pub(crate) fn sweep(tmp: &Path) -> Result<()> {
    for entry in fs::read_dir(tmp).map_err(Error::Io)? {
        let path = entry.map_err(Error::Io)?.path();
        if path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        // Another sweeper or a finishing owner may remove the file first.
        let Ok(file) = fs::File::open(&path) else { continue };
        if file.file().try_lock().is_ok() {
            match remove_dir_all(path.with_extension("")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {}
                _ => drop(fs::remove_file(&path)),
            }
        }
    }
    Ok(())
}

/// Has the directories that are made in `dir` put far from each other, where that can be had.
fn spread(dir: &Path) {
    let set = || -> io::Result<()> {
        let dir = fs::File::open(dir)?;
        let flags = rustix::fs::ioctl_getflags(dir.file())?;
        if !flags.contains(IFlags::TOPDIR) {
            rustix::fs::ioctl_setflags(dir.file(), flags | IFlags::TOPDIR)?;
        }
        Ok(())
    };
    // Most file systems have no such flag, and need none.
    let _ = set();
}

/// A number that is another one each time.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // The lowest bits of the clock may stand still.
    (since.as_nanos() >> 6) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_given_twice() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let (one, other) = (Scratch::new(tmp.path()).expect("one"), Scratch::new(tmp.path()));
        let other = other.expect("other");
        let mut names: Vec<PathBuf> = [&one, &other]
            .iter()
            .flat_map(|scratch| (0..1000).map(|_| scratch.next_path()))
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2000);
        assert!(names.iter().all(|name| !name.exists()));
        drop((one, other));
        assert_eq!(fs::read_dir(tmp.path()).expect("list").count(), 0);
    }
}
