//! Scratch space of a process: `tmp/<name>/`, alive as long as `tmp/<name>.lock` is locked. It has one for
//! what it makes and one for what it discards, whose lock another process may take over at its end.
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
use std::time::SystemTime;

use fs_err as fs;
use rustix::fs::IFlags;

use crate::error::{Error, Result};
use crate::lock;
use crate::removal::remove_dir_all;

/// An odd number: its multiples are all different until 2^32 of them have been.
const STRIDE: u32 = 0x9e37_79b9;

/// A process's own directory in `tmp`, made when something is put there. Dropping it removes it,
/// unless it has been left to somebody.
pub(crate) struct Scratch {
    dir: PathBuf,
    is_made: bool,
    is_left: bool,
    lock_path: PathBuf,
    lock: File,
    next: u32,
}

impl Scratch {
    /// Takes a place that nobody else has.
    pub(crate) fn new(tmp: &Path) -> Result<Self> {
        let (pid, first) = (std::process::id(), now());
        for attempt in 0.. {
            let name = format!("{pid:x}-{:x}", first.wrapping_add(attempt));
            let lock_path = tmp.join(format!("{name}.lock"));
            // A sweeper may hold the file, or have removed it.
            let Some(lock) = lock::try_hold(&lock_path)? else { continue };
            let dir = tmp.join(name);
            match fs::symlink_metadata(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let (is_made, is_left) = (false, false);
                    return Ok(Self { dir, is_made, is_left, lock_path, lock, next: first });
                }
                Ok(_) => {}
                Err(error) => {
                    let _ = fs::remove_file(&lock_path);
                    return Err(Error::Io(error));
                }
            }
        }
        unreachable!("2^32 names of this process are taken")
    }

    /// Takes a directory out of everybody's sight, to be removed.
    pub(crate) fn of(tmp: &Path, taken: &Path) -> Result<Self> {
        let mut scratch = Self::new(tmp)?;
        fs::rename(taken, &scratch.dir).map_err(Error::Io)?;
        scratch.is_made = true;
        Ok(scratch)
    }

    /// Removes what is in it, and says why it cannot be removed.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        remove_dir_all(&self.dir)?;
        self.is_made = false;
        Ok(())
    }

    /// Leaves it to whoever gets its lock, which is held as long as what is returned is open anywhere.
    pub(crate) fn leave(mut self) -> io::Result<File> {
        let lock = self.lock.try_clone()?;
        self.is_left = true;
        Ok(lock)
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
    pub(crate) fn next_path(&mut self) -> Result<PathBuf> {
        if !self.is_made {
            if let Some(tmp) = self.dir.parent() {
                spread(tmp);
            }
            fs::create_dir(&self.dir).map_err(Error::Io)?;
            spread(&self.dir);
            self.is_made = true;
        }
        let number = self.next;
        self.next = number.wrapping_add(STRIDE);
        Ok(self.dir.join(format!("{number:x}")))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        // What cannot be removed now is swept later.
        if !self.is_made || remove_dir_all(&self.dir).is_ok() {
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
        let mut both = [one, other.expect("other")];
        let mut names: Vec<PathBuf> = both
            .iter_mut()
            .flat_map(|scratch| (0..1000).map(|_| scratch.next_path().expect("a path")))
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2000);
        assert!(names.iter().all(|name| !name.exists()));
        drop(both);
        assert_eq!(fs::read_dir(tmp.path()).expect("list").count(), 0);
    }

    #[test]
    fn what_is_taken_out_is_gone_and_is_swept_after_a_kill() {
        let [tmp, home] = [(); 2].map(|()| tempfile::tempdir().expect("tempdir"));
        let dir = home.path().join("dir");
        let left = || fs::read_dir(tmp.path()).expect("list").count();
        let take = || {
            fs::create_dir_all(dir.join("below")).expect("mkdir");
            let taken = Scratch::of(tmp.path(), &dir).expect("take");
            assert!(!dir.exists());
            taken
        };
        take().remove().expect("remove");
        assert_eq!(left(), 0);
        drop(take());
        assert_eq!(left(), 0);
        // A kill gives up the lock and nothing else.
        let killed = take();
        assert_eq!(left(), 2);
        sweep(tmp.path()).expect("sweep");
        assert_eq!(left(), 2, "its holder lives");
        killed.lock.unlock().expect("unlock");
        sweep(tmp.path()).expect("sweep");
        assert_eq!(left(), 0);
        assert!(Scratch::of(tmp.path(), &dir).is_err(), "there is nothing to take");
        assert_eq!(left(), 0);
    }
}
