//! Whether all that lies in the store is what it says it is, and the repair of what can be derived.
//!
//! Everything has a digest, or is derived from what has one: blobs and tars are digested, derived
//! forms of layers are derived once more and compared (`derived`), records name a layer and a text,
//! containers have a record and what they lie on. Files are read in a stream, by all processors.
//! Others may use the store meanwhile; what they make or remove while it is being checked is not a
//! fault, and what they use is not taken from them.
//!
//! Also drops, at the first use of a store after a start of the machine, what was derived before it
//! and never synced: after a loss of power nobody can tell whether it is whole.

mod containers;
mod derived;
mod documents;
mod tars;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use fs_err as fs;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::measure;
use crate::regular;
use crate::removal::remove_dir_all;
use crate::store::Store;

/// Where Linux tells which start of the machine this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Whether faults are only told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing is changed.
    Nothing,
    /// What can be derived is made again; what is of no use to anybody goes.
    Derivable,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The thing.
    pub object: String,
    /// What is wrong with it.
    pub wrong: String,
    /// What follows from that.
    pub meaning: String,
    /// What was done about it.
    pub done: Option<String>,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order in which they were found.
    pub faults: Vec<Fault>,
    /// How many things were looked at.
    pub objects: u64,
    /// How many bytes were digested.
    pub bytes: u64,
    /// Trees of several layers that no image has: there is nothing to compare them with.
    pub passed_over: u64,
    /// How many of these were removed, in repairs.
    pub dropped: u64,
    /// Why not everything was looked at.
    pub unfinished: Option<Error>,
}

/// Tells how many bytes of how many have been read.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

impl Store {
    /// Checks everything in the store. What keeps it from going on is told with what was found
    /// before.
    pub fn check(&self, repair: Repair, progress: Progress<'_>) -> Report {
        let mut checker = Checker {
            store: self,
            repair,
            report: Report::default(),
            lost_layers: BTreeSet::new(),
            damaged_blobs: BTreeSet::new(),
        };
        if let Err(error) = checker.everything(progress) {
            checker.report.unfinished = Some(error);
        }
        checker.report
    }

    /// Drops what an earlier start of the machine left that was derived and never synced. Nobody can
    /// be using it: whoever opened the store since has been here.
    pub(crate) fn drop_unsynced(&self) -> Result<()> {
        let Ok(boot) = fs::read(BOOT_ID) else { return Ok(()) };
        let path = self.root().join("boot");
        let is_known = || fs::read(&path).is_ok_and(|known| known == boot);
        if is_known() {
            return Ok(());
        }
        let mut trash = Vec::new();
        self.exclusively(|_| {
            if is_known() {
                return Ok(());
            }
            for (_, dir) in self.listed("layers")? {
                // Indexes are synced when they are made; directories are not.
                for form in self.derived_forms(&dir)?.iter().filter(|form| form.is_dir()) {
                    trash.extend(self.take_away(form)?);
                }
            }
            // On a full disk the next process does it all again.
            let _ = self.write_atomically(&path, &boot);
            Ok(())
        })?;
        trash.iter().try_for_each(|path| remove_dir_all(path).map_err(Error::Io))
    }
}

struct Checker<'a> {
    store: &'a Store,
    repair: Repair,
    report: Report,
    /// Layers whose tar is not whole and was not restored.
    lost_layers: BTreeSet<Digest>,
    damaged_blobs: BTreeSet<Digest>,
}

impl Checker<'_> {
    fn everything(&mut self, progress: Progress<'_>) -> Result<()> {
        self.blobs_and_tars(progress)?;
        self.index()?;
        self.containers()?;
        self.records()?;
        self.others()?;
        self.derived()
    }

    fn fault(
        &mut self,
        object: impl Into<String>,
        wrong: impl Into<String>,
        meaning: impl Into<String>,
        done: Option<&str>,
    ) {
        let (object, wrong, meaning) = (object.into(), wrong.into(), meaning.into());
        let done = done.map(str::to_owned);
        self.report.faults.push(Fault { object, wrong, meaning, done });
    }

    fn repairs(&self) -> bool {
        self.repair == Repair::Derivable
    }

    /// Removes things, in repairs, unless a process has pinned this; tells whether they are gone.
    fn remove(&self, paths: &[PathBuf], pin: Option<&Digest>) -> Result<bool> {
        if !self.repairs() {
            return Ok(false);
        }
        let mut trash = Vec::new();
        let removed = self.store.exclusively(|pinned| {
            if pin.is_some_and(|pin| pinned.contains(pin)) {
                return Ok(false);
            }
            for path in paths {
                trash.extend(self.store.take_away(path)?);
            }
            Ok(true)
        })?;
        trash.iter().try_for_each(|path| remove_dir_all(path).map_err(Error::Io))?;
        Ok(removed)
    }

    /// Takes a directory away that a file is to take the place of.
    fn clear(&self, place: &Path) -> Result<()> {
        if !place.is_dir() {
            return Ok(());
        }
        let trash = self.store.take_away(place)?;
        trash.map_or(Ok(()), |trash| remove_dir_all(trash).map_err(Error::Io))
    }
}

/// Does the work for each job, by all processors; the results are in the jobs' order.
fn in_parallel<T: Sync, R: Send>(jobs: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        while let Some((at, job)) = Some(next.fetch_add(1, Ordering::Relaxed))
            .and_then(|at| jobs.get(at).map(|job| (at, job)))
        {
            done.push((at, work(job)));
        }
        done
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<(usize, R)>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect()
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, done)| done).collect()
}

/// What a file turned out to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    /// Nothing: it is not there.
    Missing,
    Digest(Digest),
    /// It is something else than a file.
    NoFile(&'static str),
    Unreadable(String),
}

impl Content {
    fn wrong(&self) -> String {
        match self {
            Self::Missing => "is not there".to_owned(),
            Self::Digest(found) => format!("has another content, with digest {found}"),
            Self::NoFile(what) => (*what).to_owned(),
            Self::Unreadable(why) => format!("cannot be read: {why}"),
        }
    }
}

/// Reads a file by `read`. What the disk cannot read is found; that this process cannot read is an
/// error.
fn content_of(
    path: &Path,
    read: impl FnOnce(std::fs::File) -> io::Result<Digest>,
) -> Result<Content> {
    let Some(found) = measure::stat(path)? else { return Ok(Content::Missing) };
    if let Some(what) = regular::instead(found.file_type()) {
        return Ok(Content::NoFile(what));
    }
    let Some(file) = regular::open(path)? else { return Ok(Content::Missing) };
    match read(file.into_parts().0) {
        Ok(digest) => Ok(Content::Digest(digest)),
        Err(error) if is_unreadable(&error) => Ok(Content::Unreadable(error.to_string())),
        Err(error) => {
            let text = format!("cannot read {}: {error}", path.display());
            Err(Error::Io(io::Error::new(error.kind(), text)))
        }
    }
}

/// Whether the disk has lost what was to be read.
fn is_unreadable(error: &(dyn std::error::Error + 'static)) -> bool {
    let lost = Some(rustix::io::Errno::IO.raw_os_error());
    io_errors(error).any(|error| error.raw_os_error() == lost)
}

/// Whether the system is why this failed, and not what was read: `fs_err` keeps the system's errors
/// to itself, but for their kinds.
fn is_of_system(error: &(dyn std::error::Error + 'static)) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    io_errors(error).any(|error| {
        let of_content = matches!(error.kind(), InvalidData | InvalidInput | Other | UnexpectedEof);
        error.raw_os_error().is_some() || !of_content
    })
}

fn io_errors<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e io::Error> {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref())
}

/// Counts what is read.
struct Counting<'a, R> {
    inner: R,
    read: &'a AtomicU64,
    tell: &'a dyn Fn(),
}

impl<R: io::Read> io::Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        (self.tell)();
        Ok(read)
    }
}

/// Whether something is still there, and so what was found wrong with it was not its removal.
fn is_there(path: &Path) -> Result<bool> {
    Ok(measure::stat(path)?.is_some())
}

#[cfg(test)]
mod tests;
