//! Opens a store and gives each process its own scratch space in it.
//!
//! Any number of processes use a store at once, and may remove things from it while others run:
//! `pins` says how. Knows nothing of what the files in the store mean.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use fs_err as fs;

use crate::digest::Digest;
use crate::discard::{Discarder, Remains};
use crate::error::{Error, Result};
use crate::lower::Driver;
use crate::pins::Pins;
use crate::removal::remove_dir_all;
use crate::scratch::{self, Scratch};

/// What the store's `version` file says; a store made by a newer version is refused.
pub const VERSION: u32 = 1;

/// An open store. Dropping it gives up what it has pinned and its scratch space.
pub struct Store {
    root: PathBuf,
    pub(crate) pins: Pins,
    driver: OnceLock<Driver>,
    /// The kind of file system that the store is on, if it takes no upper directory.
    no_upper: OnceLock<String>,
    discarder: Discarder,
    /// Layers that only this process knows as yet, and where they were made.
    pub(crate) offered: Mutex<BTreeMap<Digest, PathBuf>>,
    /// Made when it is first needed: a full disk must not keep anybody from looking or pruning.
    scratch: Mutex<Option<Scratch>>,
}

/// A directory on its way out of the store. Dropping it removes it.
pub struct TakenOut(Scratch);

impl TakenOut {
    /// Removes it, and says why it cannot be removed.
    pub fn remove(self) -> io::Result<()> {
        self.0.remove()
    }
}

impl Store {
    /// Opens the store at `root`, making it when it does not exist.
    pub fn open(root: &Path) -> Result<Self> {
        check_text(&std::path::absolute(root).map_err(Error::Io)?)?;
        create_root(root)?;
        let root = fs::canonicalize(root).map_err(Error::Io)?;
        check_text(&root)?;
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
        let discarder = Discarder::new(root.join("tmp"));
        let pins = Pins::open(root.join("lock"))?;
        let store = Self {
            root,
            pins,
            driver: OnceLock::new(),
            no_upper: OnceLock::new(),
            discarder,
            offered: Mutex::default(),
            scratch: Mutex::new(None),
        };
        store.check_version()?;
        store.write_layout()?;
        store.drop_unsynced()?;
        Ok(store)
    }

    /// The directory the store lives in, absolute and without symlinks.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Says how layers are mounted from now on; the first word counts.
    pub fn set_driver(&self, driver: Driver) {
        let _ = self.driver.set(driver);
    }

    /// How layers are mounted.
    pub fn driver(&self) -> Driver {
        self.driver.get().copied().unwrap_or_default()
    }

    /// Says that the store is on a kind of file system that takes no upper directory of an overlay.
    pub fn refuse_upper(&self, file_system: String) {
        let _ = self.no_upper.set(file_system);
    }

    /// Fails where no container can write.
    pub fn check_upper(&self) -> Result<()> {
        match self.no_upper.get() {
            Some(file_system) => {
                Err(Error::NoUpper { root: self.root.clone(), file_system: file_system.clone() })
            }
            None => Ok(()),
        }
    }

    /// Makes an empty directory that is removed with this process, or by the next one if this one
    /// is killed.
    pub fn scratch_dir(&self) -> Result<PathBuf> {
        let path = self.scratch_path()?;
        fs::create_dir(&path).map_err(Error::Io)?;
        Ok(path)
    }

    /// Takes a directory out of everybody's sight: it is removed with what is returned, or by the next
    /// process if this one is killed.
    pub fn take_out(&self, path: &Path) -> Result<TakenOut> {
        Scratch::of(&self.root.join("tmp"), path).map(TakenOut)
    }

    /// Removes a directory of the scratch space beside whatever is done next.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        // On a disk that is full to the last block nothing can be set aside.
        self.discarder.discard(path).or_else(|_| remove_dir_all(path).map_err(Error::Io))
    }

    /// What is still to be removed of directories that are not needed any more, if that takes long:
    /// for who may do it after this process has ended.
    pub fn leave_discarded(&self) -> Option<Remains> {
        self.discarder.leave()
    }

    /// A path in the scratch space that nothing has.
    fn scratch_path(&self) -> Result<PathBuf> {
        self.with_scratch(Scratch::next_path)
    }

    /// Writes into the file that others find while this process lives.
    pub(crate) fn write_public(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.with_scratch(|scratch| scratch.write_public(bytes, at))
    }

    /// The file that others find while this process lives, if it has been made.
    pub(crate) fn public_file(&self) -> Option<PathBuf> {
        let scratch = self.scratch.lock().expect("no holder panics");
        scratch.as_ref().map(|scratch| scratch.lock_path().to_owned())
    }

    fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> Result<T>) -> Result<T> {
        let mut scratch = self.scratch.lock().expect("no holder panics");
        if scratch.is_none() {
            *scratch = Some(Scratch::new(&self.root.join("tmp"))?);
        }
        work(scratch.as_mut().expect("it has just been made"))
    }

    /// Removes the scratch space of a process that is about to end without dropping its store. Who
    /// still works there meets errors.
    pub fn abandon_scratch(&self) {
        if let Some(discarded) = self.leave_discarded() {
            discarded.remove();
        }
        drop(self.scratch.lock().expect("no holder panics").take());
    }

    /// Writes `bytes` to `path` so that readers see the old file or the whole new one, also after
    /// a crash. After a loss of power it may be the old one: for what can be made again.
    pub fn write_atomically(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let (temp, file) = self.write_temp(|file| file.write_all(bytes))?;
        file.sync_all().map_err(Error::Io)?;
        self.publish(&temp, path)
    }

    /// Writes a file at `path` so that readers see the old file or the whole new one, unless the
    /// machine loses its power: for what its reader can tell from a part of itself, and can do
    /// without.
    pub(crate) fn write_at_once(
        &self,
        path: &Path,
        write: impl FnOnce(&mut fs::File) -> io::Result<()>,
    ) -> Result<()> {
        let (temp, _) = self.write_temp(write)?;
        self.publish(&temp, path)
    }

    fn write_temp(
        &self,
        write: impl FnOnce(&mut fs::File) -> io::Result<()>,
    ) -> Result<(PathBuf, fs::File)> {
        let temp = self.scratch_path()?;
        let mut file = fs::File::create(&temp).map_err(Error::Io)?;
        write(&mut file).map_err(Error::Io)?;
        Ok((temp, file))
    }

    /// Writes `bytes` to `path` as [`Store::write_atomically`] does, and returns when no loss of
    /// power can take it back: for what nobody can make again, and for what names it.
    pub fn write_durably(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.write_atomically(path, bytes)?;
        sync_dir(path.parent().expect("a path in the store has a parent"))
    }

    /// Gives what was made in scratch space its final name. Its content must be synced, or be told
    /// from a part of itself by whoever reads it.
    pub(crate) fn publish(&self, temp: &Path, path: &Path) -> Result<()> {
        fs::rename(temp, path).map_err(Error::Io)
    }

    /// Removes the scratch space of processes that are gone.
    pub fn sweep(&self) -> Result<()> {
        scratch::sweep(&self.root.join("tmp"))
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

/// Refuses a path that is no text: paths in the store are told to others, in JSON.
fn check_text(root: &Path) -> Result<()> {
    match root.to_str() {
        Some(_) => Ok(()),
        None => Err(Error::NotText { root: root.to_owned() }),
    }
}

/// Makes the store's directory, with its parents. It is nobody else's: layers have programs that
/// run as root whoever starts them.
fn create_root(root: &Path) -> Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    create_dir_all(root)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(root, mode).map_err(Error::Io)
}

/// Makes a directory and its parents; one that exists is fine.
fn create_dir_all(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::Io)
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
        assert!(error.to_string().contains("--root"), "it says what to do: {error}");
    }
}
