//! What a living process uses, so that nobody takes it away; who removes need not wait for those
//! who use.
//!
//! A process pins a thing, by a digest that names it, before it looks whether the thing is there or
//! puts it there. Its pins stand in the file that its scratch space is locked by (`tmp/<id>.lock`)
//! and end with that lock, so with the process. Writing a pin takes `<root>/lock` shared; who
//! removes holds it exclusively from reading all pins to the last rename, and passes over what is
//! pinned.
//!
//! Why nothing is taken from under its user: let a process have pinned X, and X be removed. The
//! lock orders the writing of the pin and the removal. Was the pin first, the remover has read it
//! and passed X over. Was the removal first, the process looked for X after pinning it, so after X
//! was gone, and took it for something that had never been there. Clocks do not matter, and a
//! process that is killed holds nothing.
//!
//! | what is pinned | under |
//! |---|---|
//! | a layer in all its forms, and its blob | its diff id |
//! | another blob | its digest |
//! | a record | its key |
//! | a cache mount | the digest of its id |
//! | all that was downloaded or cloned | one digest for all, `sources` |

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use fs_err as fs;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::Store;

/// Bytes of a pin in its file.
const LENGTH: usize = 32;

/// What this process has pinned, and the lock that pins are ordered by.
pub(crate) struct Pins {
    path: PathBuf,
    /// flock(2) belongs to the open file: threads must not lock and unlock it for each other.
    held: Mutex<Held>,
}

struct Held {
    lock: File,
    pinned: BTreeSet<Digest>,
    /// Whether a full disk had no room for a pin: the lock itself then stands for it, and who
    /// removes waits for the end of this process.
    keeps: bool,
}

/// What stands for everything in `cache/sources`.
pub(crate) fn sources() -> Digest {
    Digest::of("cache/sources")
}

impl Pins {
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = file.map_err(Error::Io)?.into_parts().0;
        Ok(Self { path, held: Mutex::new(Held { lock, pinned: BTreeSet::new(), keeps: false }) })
    }

    /// Runs `work` between locking and unlocking. A signal does not end the waiting.
    fn locked<T>(
        &self,
        held: &mut Held,
        lock: fn(&File) -> io::Result<()>,
        work: impl FnOnce(&mut Held) -> Result<T>,
    ) -> Result<T> {
        let failed = |source| Error::Lock { path: self.path.clone(), source };
        while let Err(error) = lock(&held.lock) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(failed(error));
            }
        }
        let done = work(held);
        let back = if held.keeps { File::lock_shared } else { File::unlock };
        back(&held.lock).map_err(failed)?;
        done
    }
}

impl Store {
    /// Pins things for as long as this store is open. What is there afterwards stays.
    pub fn pin(&self, digests: &[Digest]) -> Result<()> {
        let mut held = self.pins.held.lock().expect("no holder panics");
        let fresh: BTreeSet<Digest> =
            digests.iter().filter(|digest| !held.pinned.contains(digest)).copied().collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let bytes: Vec<u8> = fresh.iter().flat_map(|digest| *digest.bytes()).collect();
        // On a full disk half of it may be written; the next try writes over that.
        let at = (held.pinned.len() * LENGTH) as u64;
        self.pins.locked(&mut held, File::lock_shared, |held| {
            match self.write_public(&bytes, at) {
                Err(error) if is_full(&error) => held.keeps = true,
                written => written?,
            }
            held.pinned.extend(fresh);
            Ok(())
        })
    }

    /// Where downloads and clones are kept. All of them stay as long as this store is open.
    pub fn sources(&self) -> Result<PathBuf> {
        self.pin(&[sources()])?;
        Ok(self.root().join("cache/sources"))
    }

    /// Runs `work` with all that others have pinned, while nobody can pin anything. `work` must not
    /// pin, and should be short.
    pub(crate) fn exclusively<T>(
        &self,
        work: impl FnOnce(&BTreeSet<Digest>) -> Result<T>,
    ) -> Result<T> {
        // What the dead have left may be much: it goes before anybody has to wait.
        self.sweep()?;
        let mut held = self.pins.held.lock().expect("no holder panics");
        self.pins.locked(&mut held, File::lock, |_| work(&self.pinned_by_others()?))
    }

    /// What others have pinned, also those that died since the last sweep; soon out of date unless read in
    /// [`Store::exclusively`].
    pub(crate) fn pinned_by_others(&self) -> Result<BTreeSet<Digest>> {
        let own = self.public_file();
        let mut pinned = BTreeSet::new();
        for entry in fs::read_dir(self.root().join("tmp")).map_err(Error::Io)? {
            let path = entry.map_err(Error::Io)?.path();
            if path.extension().is_none_or(|extension| extension != "lock")
                || Some(&path) == own.as_ref()
            {
                continue;
            }
            match fs::read(&path) {
                Ok(bytes) => {
                    let (pins, _) = bytes.as_chunks::<LENGTH>();
                    pinned.extend(pins.iter().map(|pin| Digest::from_bytes(*pin)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
        Ok(pinned)
    }
}

fn is_full(error: &Error) -> bool {
    match error {
        Error::Io(source) | Error::Lock { source, .. } => {
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_seen_by_others_and_end_with_their_process() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (first, second) =
            (Store::open(dir.path()).expect("open"), Store::open(dir.path()).expect("open"));
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        first.pin(&[a]).expect("pin");
        first.pin(&[b, a]).expect("pin");
        let seen = |store: &Store| store.exclusively(|pinned| Ok(pinned.clone())).expect("read");
        assert_eq!(seen(&second), BTreeSet::from([a, b]));
        assert_eq!(seen(&first), BTreeSet::new(), "its own do not bind it");
        drop(first);
        assert_eq!(seen(&second), BTreeSet::new());
    }

    #[test]
    fn nothing_is_pinned_while_somebody_removes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (user, remover) =
            (Store::open(dir.path()).expect("open"), Store::open(dir.path()).expect("open"));
        let begun = std::sync::Barrier::new(2);
        let removing = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                begun.wait();
                user.pin(&[Digest::of("a")]).expect("pin");
                assert!(!removing.load(std::sync::atomic::Ordering::SeqCst));
            });
            let work = |pinned: &BTreeSet<Digest>| {
                begun.wait();
                std::thread::sleep(std::time::Duration::from_millis(50));
                assert!(pinned.is_empty());
                assert!(remover.pinned_by_others()?.is_empty());
                removing.store(false, std::sync::atomic::Ordering::SeqCst);
                Ok(())
            };
            remover.exclusively(work).expect("remove");
        });
        assert_eq!(remover.pinned_by_others().expect("read").len(), 1);
    }
}
