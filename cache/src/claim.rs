//! Claims: who does the operation with a key, while others wait for the record.
//!
//! A claim is a locked file in `tmp/`. The kernel gives the lock up when its holder is gone, and
//! the file is swept like all that killed processes leave there. Does not know what is done
//! meanwhile, nor how long anybody waits.

use std::fs::File;
use std::path::PathBuf;

use fs_err as fs;

use crate::digest::Digest;
use crate::error::Result;
use crate::lock;
use crate::store::Store;

/// The right to do the operation with a key; given up when it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _lock: File,
}

impl Store {
    /// Claims the operation with this key; `None` while somebody else has it, in this process or
    /// another. Who holds a claim must not wait for a second one.
    pub fn try_claim(&self, key: &Digest) -> Result<Option<Claim>> {
        let path = self.root().join("tmp").join(format!("{}.lock", key.hex()));
        Ok(lock::try_hold(&path)?.map(|lock| Claim { path, _lock: lock }))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Unlinked while it is locked: nobody else can hold this name. What stays is swept later.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_claimed_by_one_at_a_time() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (one, other) =
            (Store::open(dir.path()).expect("open"), Store::open(dir.path()).expect("open"));
        let (key, another) = (Digest::of("key"), Digest::of("another"));
        let claim = one.try_claim(&key).expect("claim").expect("free");
        assert!(other.try_claim(&key).expect("claim").is_none());
        assert!(one.try_claim(&key).expect("claim").is_none(), "nor twice in one process");
        assert!(other.try_claim(&another).expect("claim").is_some());
        one.sweep().expect("sweep");
        assert!(other.try_claim(&key).expect("claim").is_none(), "a sweep spares it");
        drop(claim);
        assert!(other.try_claim(&key).expect("claim").is_some());
        assert!(!dir.path().join("tmp").join(format!("{}.lock", key.hex())).exists());
    }

    #[test]
    fn what_a_killed_holder_left_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let key = Digest::of("key");
        let left = dir.path().join("tmp").join(format!("{}.lock", key.hex()));
        fs::write(&left, "").expect("write");
        drop(store.try_claim(&key).expect("claim").expect("free"));
        fs::write(&left, "").expect("write");
        store.sweep().expect("sweep");
        assert!(!left.exists());
    }
}
