//! Leases of a subnet's addresses among any number of processes.
//!
//! A lease is a lock on one byte of a file: the byte's offset is the address's offset in the
//! subnet. The kernel drops a killed process's locks, so a lease never outlives its owner and there
//! is nothing to sweep. Whoever uses the subnet at all holds the whole file locked, shared: that
//! is `flock(2)`, which takes no notice of locks on bytes.
//!
//! The first four bytes hold the offset leased last, as a hint: an address is not given out again
//! while others of the subnet have not been, for neighbours remember whose it was.
//!
//! Does not know what an address is.

use std::collections::BTreeSet;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use fs_err::File;
use fs_err::OpenOptions;

use crate::sys::net::{is_byte_locked, lock_byte, unlock_byte};

/// The offset of the first address to lease: the subnet's own and the gateway's come before.
const FIRST: u32 = 2;

/// The leases of one subnet, as one of its users sees them.
pub(super) struct Leases {
    file: File,
    /// What was leased through this file: the kernel tells only of others' locks.
    own: Mutex<BTreeSet<u32>>,
}

impl Leases {
    /// Opens the file without becoming a user.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Leases { file, own: Mutex::default() })
    }

    /// Becomes a user; there may be any number.
    pub(super) fn join(&self) -> io::Result<()> {
        self.file.file().lock_shared()
    }

    /// Whether there is no user. Not for a user to ask, and only while nobody may join.
    pub(super) fn is_unused(&self) -> io::Result<bool> {
        match self.file.file().try_lock() {
            Ok(()) => self.file.file().unlock().map(|()| true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Leases an offset up to `last`; none where all are leased.
    pub(super) fn take(&self, last: u32) -> io::Result<Option<u32>> {
        let mut own = self.own.lock().expect("no holder of the lock panics");
        let hint = self.hint().clamp(FIRST - 1, last);
        for offset in (hint + 1..=last).chain(FIRST..=hint) {
            if !own.contains(&offset) && lock_byte(&self.file, offset.into())? {
                own.insert(offset);
                self.file.file().write_all_at(&offset.to_ne_bytes(), 0)?;
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    /// Gives an offset back.
    pub(super) fn give_back(&self, offset: u32) -> io::Result<()> {
        self.own.lock().expect("no holder of the lock panics").remove(&offset);
        unlock_byte(&self.file, offset.into())
    }

    /// Whether some other user has leased the offset.
    pub(super) fn is_taken(&self, offset: u32) -> io::Result<bool> {
        is_byte_locked(&self.file, offset.into())
    }

    fn hint(&self) -> u32 {
        let mut bytes = [0; 4];
        match self.file.file().read_exact_at(&mut bytes, 0) {
            Ok(()) => u32::from_ne_bytes(bytes),
            Err(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Waits for what follows from a closed file. A process that another test is starting has all
    /// our descriptors until it executes.
    fn soon(mut happens: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !happens() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_offset_is_leased_once_until_it_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        let (one, two) = (Leases::open(&path).unwrap(), Leases::open(&path).unwrap());
        assert_eq!(one.take(4).unwrap(), Some(2));
        assert_eq!(two.take(4).unwrap(), Some(3));
        assert_eq!(one.take(4).unwrap(), Some(4));
        assert_eq!(two.take(4).unwrap(), None);
        assert!(two.is_taken(2).unwrap());
        one.give_back(2).unwrap();
        assert!(!two.is_taken(2).unwrap());
        assert_eq!(two.take(4).unwrap(), Some(2));
        drop(two);
        soon(|| one.take(4).unwrap() == Some(3));
    }

    #[test]
    fn a_file_without_users_is_known_as_such() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        let (one, two) = (Leases::open(&path).unwrap(), Leases::open(&path).unwrap());
        assert!(one.is_unused().unwrap());
        one.join().unwrap();
        assert_eq!(one.take(9).unwrap(), Some(2), "bytes and the whole file do not conflict");
        assert!(!two.is_unused().unwrap());
        drop(one);
        soon(|| two.is_unused().unwrap());
    }
}
