//! Opens a store and gives each process its own scratch space in it.
//!
//! Any number of processes use a store at once: each holds the lock shared for as long as it
//! lives; who removes things others may be reading takes it exclusively. Knows nothing of what the
//! files in the store mean.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fs_err as fs;

use crate::error::{Error, Result};

/// What the store's `version` file says; a store made by a newer version is refused.
pub const VERSION: u32 = 1;

/// An open store. Dropping it gives up its lock and its scratch space.
pub struct Store {
    root: PathBuf,
    lock: File,
    /// Made when it is first needed: a full disk must not keep anybody from looking or pruning.
    scratch: Mutex<Option<Scratch>>,
}

impl Store {
    /// Opens the store at `root`, making it when it does not exist, and waits while somebody
    /// prunes it.
    pub fn open(root: &Path) -> Result<Self> {
        for dir in [
            "images/blobs/sha256",
            "layers",
            "cache/records",
            "cache/mounts",
            "cache/context",
            "cache/sources",
            "cache/builds",
            "tmp",
        ] {
            create_dir_all(&root.join(dir))?;
        }
        let root = fs::canonicalize(root).map_err(Error::Io)?;
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("lock"))
            .map_err(Error::Io)?
            .into_parts()
            .0;
        lock.lock_shared().map_err(|source| Error::Lock { path: root.join("lock"), source })?;
        let store = Self { root, lock, scratch: Mutex::new(None) };
        store.check_version()?;
        store.write_layout()?;
        Ok(store)
    }

    /// The directory the store lives in, absolute and without symlinks.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs `work` while no other process uses the store; `None` when one does.
    pub fn try_exclusively<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        // flock(2) converts a lock by dropping and retaking it, so nothing is assumed of the state
        // before; `work` looks at the store afresh.
        match self.lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                self.relock()?;
                return Ok(None);
            }
            Err(TryLockError::Error(source)) => {
                return Err(Error::Lock { path: self.root.join("lock"), source });
            }
        }
        let done = work();
        self.relock()?;
        done.map(Some)
    }

    fn relock(&self) -> Result<()> {
        self.lock
            .lock_shared()
            .map_err(|source| Error::Lock { path: self.root.join("lock"), source })
    }

    /// Makes an empty directory that is removed with this process, or by the next one if this one
    /// is killed.
    pub fn scratch_dir(&self) -> Result<PathBuf> {
        let path = self.scratch_path()?;
        fs::create_dir(&path).map_err(Error::Io)?;
        Ok(path)
    }

    /// A path in the scratch space that nothing has.
    fn scratch_path(&self) -> Result<PathBuf> {
        let mut scratch = self.scratch.lock().expect("no holder panics");
        if scratch.is_none() {
            *scratch = Some(Scratch::new(&self.root.join("tmp"))?);
        }
        Ok(scratch.as_ref().expect("it has just been made").next_path())
    }

    /// Writes `bytes` to `path` so that readers see the old file or the whole new one, also after
    /// a crash. After a loss of power it may be the old one: for what can be made again.
    pub fn write_atomically(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let temp = self.scratch_path()?;
        let mut file = fs::File::create(&temp).map_err(Error::Io)?;
        file.write_all(bytes).map_err(Error::Io)?;
        file.sync_all().map_err(Error::Io)?;
        self.publish(&temp, path)
    }

    /// Writes `bytes` to `path` as [`Store::write_atomically`] does, and returns when no loss of
    /// power can take it back: for what nobody can make again, and for what names it.
    pub fn write_durably(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.write_atomically(path, bytes)?;
        sync_dir(path.parent().expect("a path in the store has a parent"))
    }

    /// Gives what was made in scratch space its final name. Its content must be synced.
    pub(crate) fn publish(&self, temp: &Path, path: &Path) -> Result<()> {
        fs::rename(temp, path).map_err(Error::Io)
    }

    /// Removes the scratch space of processes that are gone.
    pub fn sweep(&self) -> Result<()> {
        sweep_scratch(&self.root.join("tmp"))
    }

    fn check_version(&self) -> Result<()> {
        let path = self.root.join("version");
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse::<u32>() {
                Ok(VERSION) => Ok(()),
                Ok(found) => Err(Error::Version { root: self.root.clone(), found, known: VERSION }),
                Err(_) => Err(Error::Damaged { path, why: "not a number".to_owned() }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.write_durably(&path, format!("{VERSION}\n").as_bytes())
            }
            Err(error) => Err(Error::Io(error)),
        }
    }

    /// Makes `images/` an OCI image layout (image-spec `image-layout.md`).
    fn write_layout(&self) -> Result<()> {
        let path = self.root.join("images/oci-layout");
        if path.exists() {
            return Ok(());
        }
        self.write_atomically(&path, br#"{"imageLayoutVersion":"1.0.0"}"#)
    }
}

/// Waits until a directory's names are on the disk.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    fs::File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::Io)
}

/// Makes a directory and its parents; one that exists is fine.
fn create_dir_all(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::Io)
}

/// The scratch space of one process: `tmp/<name>/`, alive as long as `tmp/<name>.lock` is locked.
struct Scratch {
    dir: PathBuf,
    lock_path: PathBuf,
    _lock: File,
    next: AtomicU64,
}

impl Scratch {
    fn new(tmp: &Path) -> Result<Self> {
        let pid = std::process::id();
        for attempt in 0u32.. {
            let lock_path = tmp.join(format!("{pid}-{attempt}.lock"));
            let file = fs::OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&lock_path)
                .map_err(Error::Io)?
                .into_parts()
                .0;
            // A sweeper may have locked and unlinked the file between open and lock.
            let ours = file.try_lock().is_ok()
                && file.metadata().is_ok_and(|metadata| metadata.nlink() == 1);
            let dir = lock_path.with_extension("");
            if ours && fs::create_dir(&dir).is_ok() {
                return Ok(Self { dir, lock_path, _lock: file, next: AtomicU64::new(0) });
            }
        }
        unreachable!("2^32 names of this process are taken")
    }

    fn next_path(&self) -> PathBuf {
        self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is swept later.
        let _ = fs::remove_dir_all(&self.dir);
        let _ = fs::remove_file(&self.lock_path);
    }
}

fn sweep_scratch(tmp: &Path) -> Result<()> {
    for entry in fs::read_dir(tmp).map_err(Error::Io)? {
        let path = entry.map_err(Error::Io)?.path();
        if path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        // Another sweeper or a finishing owner may remove the file first.
        let Ok(file) = fs::File::open(&path) else { continue };
        if file.file().try_lock().is_ok() {
            let _ = fs::remove_dir_all(path.with_extension(""));
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_space_vanishes_with_its_store_and_not_before() {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = Store::open(dir.path()).expect("open");
        let second = Store::open(dir.path()).expect("open twice");
        let kept = first.scratch_dir().expect("scratch");
        second.sweep().expect("sweep");
        assert!(kept.exists());
        drop(first);
        assert!(!kept.exists());
    }

    #[test]
    fn what_a_killed_process_left_is_swept() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let left = store.root().join("tmp/1-0");
        fs::create_dir(&left).expect("mkdir");
        fs::write(store.root().join("tmp/1-0.lock"), "").expect("write");
        store.sweep().expect("sweep");
        assert!(!left.exists());
    }

    #[test]
    fn a_store_of_another_version_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        drop(Store::open(dir.path()).expect("open"));
        fs::write(dir.path().join("version"), "99\n").expect("write");
        let error = Store::open(dir.path()).err().expect("refused");
        assert!(error.to_string().contains("version 99"), "{error}");
    }

    #[test]
    fn exclusive_work_waits_for_nobody() {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = Store::open(dir.path()).expect("open");
        assert_eq!(first.try_exclusively(|| Ok(1)).expect("lock"), Some(1));
        let _second = Store::open(dir.path()).expect("open");
        assert_eq!(first.try_exclusively(|| Ok(1)).expect("lock"), None);
    }
}
