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

/// The leases of one subnet, as one of its users sees them.
pub(super) struct Leases {
    file: File,
    /// What was leased through this file: the kernel tells only of others' locks.
    own: Mutex<BTreeSet<u64>>,
}

/// The offsets that are leased to whoever asks for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) last: u32,
    /// Those between them that nobody gets.
    pub(super) excluded: BTreeSet<u32>,
}

impl Range {
    fn contains(&self, offset: u32) -> bool {
        (self.first..=self.last).contains(&offset)
    }
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

    /// Leases an offset of the range, and with it what `partner` says goes with that offset; none
    /// where all are leased. An offset without a partner, though one is asked for, is passed over.
    pub(super) fn take(
        &self,
        range: &Range,
        partner: Option<&dyn Fn(u32) -> Option<u64>>,
    ) -> io::Result<Option<(u32, Option<u64>)>> {
        let hint = self.hint();
        let hint = if range.contains(hint) { hint } else { range.first.saturating_sub(1) };
        let later = hint.saturating_add(1)..=range.last;
        for offset in later.chain(range.first..=hint.min(range.last)) {
            if range.excluded.contains(&offset) {
                continue;
            }
            let second = match partner.map(|partner| partner(offset)) {
                Some(None) => continue,
                second => second.flatten(),
            };
            if !self.take_exactly(offset.into())? {
                continue;
            }
            if let Some(second) = second
                && !self.take_exactly(second)?
            {
                self.give_back(offset.into())?;
                continue;
            }
            self.file.file().write_all_at(&offset.to_ne_bytes(), 0)?;
            return Ok(Some((offset, second)));
        }
        Ok(None)
    }

    /// Leases this offset and no other; tells whether it was free.
    pub(super) fn take_exactly(&self, offset: u64) -> io::Result<bool> {
        let mut own = self.own.lock().expect("no holder of the lock panics");
        let free = !own.contains(&offset) && lock_byte(&self.file, offset)?;
        if free {
            own.insert(offset);
        }
        Ok(free)
    }

    /// Gives an offset back.
    pub(super) fn give_back(&self, offset: u64) -> io::Result<()> {
        self.own.lock().expect("no holder of the lock panics").remove(&offset);
        unlock_byte(&self.file, offset)
    }

    /// Whether some other user has leased the offset.
    pub(super) fn is_taken(&self, offset: u64) -> io::Result<bool> {
        is_byte_locked(&self.file, offset)
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

    fn up_to(last: u32) -> Range {
        Range { first: 2, last, excluded: BTreeSet::new() }
    }

    fn take(leases: &Leases, range: &Range) -> Option<u32> {
        leases.take(range, None).unwrap().map(|(offset, _)| offset)
    }

    #[test]
    fn an_offset_is_leased_once_until_it_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        let (one, two) = (Leases::open(&path).unwrap(), Leases::open(&path).unwrap());
        assert_eq!(take(&one, &up_to(4)), Some(2));
        assert_eq!(take(&two, &up_to(4)), Some(3));
        assert_eq!(take(&one, &up_to(4)), Some(4));
        assert_eq!(take(&two, &up_to(4)), None);
        assert!(two.is_taken(2).unwrap());
        one.give_back(2).unwrap();
        assert!(!two.is_taken(2).unwrap());
        assert_eq!(take(&two, &up_to(4)), Some(2));
        drop(two);
        soon(|| take(&one, &up_to(4)) == Some(3));
    }

    #[test]
    fn what_is_excluded_or_lacks_a_partner_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        let (one, two) = (Leases::open(&path).unwrap(), Leases::open(&path).unwrap());
        let range = Range { first: 4, last: 9, excluded: BTreeSet::from([4, 6]) };
        assert!(two.take_exactly(105).unwrap(), "the partner of 5");
        assert!(!one.take_exactly(105).unwrap());
        let partner = |offset| (offset != 7).then_some(u64::from(offset) + 100);
        let partner: Option<&dyn Fn(u32) -> Option<u64>> = Some(&partner);
        assert_eq!(one.take(&range, partner).unwrap(), Some((8, Some(108))));
        assert!(!two.is_taken(5).unwrap(), "an offset without its partner is given back");
        assert_eq!(one.take(&range, partner).unwrap(), Some((9, Some(109))));
        assert_eq!(one.take(&range, partner).unwrap(), None);
        assert_eq!(take(&one, &range), Some(5));
    }

    #[test]
    fn a_file_without_users_is_known_as_such() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        let (one, two) = (Leases::open(&path).unwrap(), Leases::open(&path).unwrap());
        assert!(one.is_unused().unwrap());
        one.join().unwrap();
        assert_eq!(take(&one, &up_to(9)), Some(2), "bytes and the whole file do not conflict");
        assert!(!two.is_unused().unwrap());
        drop(one);
        soon(|| two.is_unused().unwrap());
    }
}
