//! The files through which processes share one bridge.
//!
//! ```text
//! <runtime directory>/<bridge>/
//!   lock         held while the bridge is set up, taken down or swept
//!   leases       held by all who use the bridge; its bytes are the addresses (see `lease`)
//!   endpoints/   a file for each container that is connected (see `record`)
//!   reservation  the subnets that a definition keeps, also while the bridge is down
//! ```
//!
//! Does not know what a bridge is; it has locks and whole files.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err::File;

use super::Error;
use super::lease::Leases;

/// The files of one bridge, locked against whoever would set it up or take it down.
pub(super) struct Files {
    pub(super) directory: PathBuf,
    _lock: File,
}

impl Files {
    pub(super) fn lock(directory: &Path, name: &str) -> Result<Self, Error> {
        let directory = directory.join(name);
        match Self::lock_directory(&directory) {
            Ok(lock) => Ok(Files { directory, _lock: lock }),
            Err(source) => Err(Error::Runtime { path: directory, source }),
        }
    }

    /// The directory may go while its lock is waited for; a lock on a file without a name is none.
    fn lock_directory(directory: &Path) -> io::Result<File> {
        let path = directory.join("lock");
        loop {
            fs_err::create_dir_all(directory)?;
            let file = match File::create(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            file.file().lock()?;
            match fs_err::metadata(&path) {
                Ok(named) if named.ino() == file.metadata()?.ino() => return Ok(file),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }

    pub(super) fn leases(&self) -> Result<Leases, Error> {
        leases(&self.directory)
    }

    pub(super) fn failure(&self, source: io::Error) -> Error {
        Error::Runtime { path: self.directory.clone(), source }
    }

    /// Removes all of them. Whoever waits for the lock makes new ones.
    pub(super) fn remove(self) -> Result<(), Error> {
        fs_err::remove_dir_all(&self.directory).map_err(|source| self.failure(source))
    }
}

/// Opens the leases of a bridge without becoming a user.
pub(super) fn leases(directory: &Path) -> Result<Leases, Error> {
    Leases::open(&directory.join("leases"))
        .map_err(|source| Error::Runtime { path: directory.to_owned(), source })
}

/// Puts a file in place as a whole; what its name had before is replaced.
pub(super) fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs_err::create_dir_all(directory)?;
    // What is unfinished has no name, or one that begins with a dot: no reader takes that.
    crate::place::write(&directory.join(name), bytes)
}

/// The names in a directory that no dot begins; none where there is no directory.
pub(super) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs_err::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        match entry?.file_name().into_string() {
            Ok(name) if !name.starts_with('.') => names.push(name),
            _ => {}
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_outlasts_the_removal_of_its_directory() {
        let runtime = tempfile::tempdir().unwrap();
        let first = Files::lock(runtime.path(), "br").unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Files::lock(runtime.path(), "br").unwrap());
            std::thread::sleep(std::time::Duration::from_millis(20));
            first.remove().unwrap();
            let second = second.join().unwrap();
            assert!(second.directory.join("lock").exists(), "the second has a lock with a name");
        });
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        write_whole(directory.path(), "a", b"one").unwrap();
        write_whole(directory.path(), "a", b"two").unwrap();
        assert_eq!(fs_err::read(directory.path().join("a")).unwrap(), b"two");
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(names(directory.path()).unwrap(), ["a"]);
    }
}
