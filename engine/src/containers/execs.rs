//! Which processes were started in a container beside its program: a locked file for each in its
//! directory, named by the process's id.
//!
//! The container's monitor attends to it and holds the lock. A file that nobody holds was left by a
//! monitor that was killed, and means nothing.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::Containers;

const DIRECTORY: &str = "execs";

/// A process that is shown as long as this is kept.
#[derive(Debug)]
pub struct Listed {
    path: PathBuf,
    _lock: File,
}

impl Drop for Listed {
    fn drop(&mut self) {
        // The whole directory may be gone with the container.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The ids of the processes that run now, in order.
pub fn listed(containers: &Containers<'_>, id: &str) -> Vec<String> {
    listed_in(&containers.dir(id))
}

/// Shows a process of the container of this directory to those who look.
pub(super) fn list_in(dir: &Path, exec: &str) -> io::Result<Listed> {
    let dir = dir.join(DIRECTORY);
    let (hidden, path) = (dir.join(format!(".{exec}")), dir.join(exec));
    let file = match fs_err::File::create(&hidden) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs_err::create_dir(&dir)?;
            fs_err::File::create(&hidden)
        }
        created => created,
    };
    let file = file?.into_parts().0;
    // Before others can see it: to them a file without a holder is one that was left.
    file.lock()?;
    fs_err::rename(hidden, &path)?;
    Ok(Listed { path, _lock: file })
}

fn listed_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join(DIRECTORY)).into_iter().flatten().flatten();
    let mut ids: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') && is_held(&dir.join(DIRECTORY).join(name)))
        .collect();
    ids.sort_unstable();
    ids
}

/// Whether somebody attends to a process; what was left of one is removed.
fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => false,
        Ok(()) => {
            let _ = std::fs::remove_file(path);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_listed_while_somebody_attends_to_it() {
        let directory = tempfile::tempdir().expect("tempdir");
        let dir = directory.path();
        assert_eq!(listed_in(dir), [""; 0]);
        let one = list_in(dir, "bb").expect("list");
        let other = list_in(dir, "aa").expect("list");
        assert_eq!(listed_in(dir), ["aa", "bb"]);
        drop(one);
        assert_eq!(listed_in(dir), ["aa"]);
        drop(other);
        std::fs::write(dir.join(DIRECTORY).join("left"), "").expect("write");
        assert_eq!(listed_in(dir), [""; 0]);
        assert!(!dir.join(DIRECTORY).join("left").exists());
    }
}
