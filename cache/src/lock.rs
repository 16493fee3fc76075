//! Lock files: opened, made when they are not there, and held by flock(2).
//!
//! The kernel gives a lock up when its holder is gone. Who removes a lock's file does so while
//! holding it, so one that was opened before and locked after is known by its missing name. Does
//! not know what is locked.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fs_err as fs;

use crate::error::{Error, Result};

/// Opens a lock's file, which stays empty unless its holder has something to say in it.
pub(crate) fn open(path: &Path) -> Result<File> {
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(false).write(true);
    Ok(options.open(path).map_err(Error::Io)?.into_parts().0)
}

/// Waits for a lock. A signal does not end the waiting.
pub(crate) fn wait(file: &File, path: &Path, lock: fn(&File) -> io::Result<()>) -> Result<()> {
    while let Err(source) = lock(file) {
        if source.kind() != io::ErrorKind::Interrupted {
            return Err(Error::Lock { path: path.to_owned(), source });
        }
    }
    Ok(())
}

/// Takes a lock whose holder removes its file; nothing while somebody has it, or when it has just
/// been removed.
pub(crate) fn try_hold(path: &Path) -> Result<Option<File>> {
    let failed = |source| Error::Lock { path: path.to_owned(), source };
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let links = file.metadata().map_err(failed)?.nlink();
    Ok((links == 1).then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_whose_file_was_removed_is_not_held() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("lock");
        let first = try_hold(&path).expect("open").expect("free");
        assert!(try_hold(&path).expect("open").is_none(), "one holder at a time");
        // Somebody opened it before its holder removed it and gave it up.
        let late = open(&path).expect("open");
        fs::remove_file(&path).expect("remove");
        drop(first);
        let second = try_hold(&path).expect("open").expect("a new file is free");
        late.try_lock().expect("the old file is another lock");
        assert_eq!(late.metadata().expect("stat").nlink(), 0);
        drop(second);
    }
}
