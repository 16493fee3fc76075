//! When images were last pulled under their names: `images/pulled/<digest of the name>`, whose
//! content is the name and whose modification time is that of the pull.
//!
//! Written by pulls alone, so whoever does not ask pays nothing. Only ever a hint: one that is lost
//! makes a registry be asked once more.

use std::path::PathBuf;
use std::time::Duration;

use fs_err as fs;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::Store;

impl Store {
    /// Notes that what a registry has under a name is here now.
    pub fn note_pull(&self, name: &str) -> Result<()> {
        let path = self.pulled_path(name);
        fs::create_dir_all(path.parent().expect("it has one")).map_err(Error::Io)?;
        self.write_atomically(&path, name.as_bytes())
    }

    /// How long ago a name was last pulled, as far as that is known.
    pub fn since_pull(&self, name: &str) -> Option<Duration> {
        // A time to come is from a clock that went wrong.
        fs::metadata(self.pulled_path(name)).ok()?.modified().ok()?.elapsed().ok()
    }

    /// Forgets a pull whose name is gone.
    pub(crate) fn forget_pull(&self, name: &str) {
        let _ = fs::remove_file(self.pulled_path(name));
    }

    fn pulled_path(&self, name: &str) -> PathBuf {
        self.root().join("images/pulled").join(Digest::of(name).hex())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::check::Repair;

    #[test]
    fn a_pull_is_known_until_its_name_is_gone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let day = Duration::from_secs(24 * 60 * 60);
        assert_eq!(store.since_pull("app"), None);
        store.note_pull("app").expect("note");
        assert!(store.since_pull("app").expect("known") < day);
        assert_eq!(store.since_pull("other"), None);
        let file = fs::File::open(store.pulled_path("app")).expect("open");
        let set = |time: SystemTime| file.file().set_modified(time).expect("set");
        set(SystemTime::now() - 2 * day);
        assert!(store.since_pull("app").expect("known") >= 2 * day);
        set(SystemTime::now() + day);
        assert_eq!(store.since_pull("app"), None);
        store.note_pull("app").expect("note");
        assert_eq!(store.check(Repair::Nothing, &|_, _| {}).faults, []);
        store.untag("app").expect("untag");
        assert_eq!(store.since_pull("app"), None);
    }
}
