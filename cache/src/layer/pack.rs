//! Packs a tree into a layer's tar.
//!
//! Reads overlay's upper directories and plain ones. Does not know what lies below an upper
//! directory, and hashes nothing: that is for the writer it is given. One thread looks at the tree
//! and opens its files, and the caller's reads them.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::entry::{Entry, Kind, Timestamp, join};
use super::walk::{Found, HardLinks, Next, walk};
use super::writer::Append;
use super::{Error, OPAQUE_MARK, PATH_LIMIT, WHITEOUT_PREFIX, xattr};

/// So many entries are handed on at once, each of which may be an open file.
const BUNCH: usize = 16;

/// Bunches on their way at once.
const QUEUE: usize = 4;

/// Files open at once in all: with the bunch that is gathered and the one that is worked off.
const OPEN: u64 = ((QUEUE + 2) * BUNCH) as u64;

/// As many are open, at most, by all that pack in this process.
static IN_USE: AtomicU64 = AtomicU64::new(0);

/// A packing's share of the files that this process may have open, the most of which are for others.
struct Share {
    is_enough: bool,
}

impl Share {
    fn take() -> Self {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 8;
        Self { is_enough: IN_USE.fetch_add(OPEN, Ordering::Relaxed) + OPEN <= most }
    }

    /// How many entries are handed on at once.
    fn bunch(&self) -> usize {
        if self.is_enough { BUNCH } else { 1 }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        IN_USE.fetch_sub(OPEN, Ordering::Relaxed);
    }
}

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackStats {
    /// How many entries the layer has, whiteouts included.
    pub entries: u64,
    /// How many bytes the files have.
    pub content: u64,
}

/// Packs an overlay's upper directory into a layer that its maker ends; times after `clamp` become `clamp`.
///
/// The overlay must have been mounted with `redirect_dir=off` and `metacopy=off`, else a layer
/// would need what is below it. Sockets are left out.
pub fn pack_upper(
    directory: BorrowedFd<'_>,
    output: &mut dyn Append,
    clamp: Option<Timestamp>,
) -> Result<PackStats, Error> {
    pack(directory, output, Form::Upper, clamp)
}

/// Packs a directory as it is into a layer that its maker ends; times after `clamp` become `clamp`. Sockets are left out.
pub fn pack_plain(
    directory: BorrowedFd<'_>,
    output: &mut dyn Append,
    clamp: Option<Timestamp>,
) -> Result<PackStats, Error> {
    pack(directory, output, Form::Plain, clamp)
}

fn pack(
    directory: BorrowedFd<'_>,
    output: &mut dyn Append,
    form: Form,
    clamp: Option<Timestamp>,
) -> Result<PackStats, Error> {
    let share = Share::take();
    let (found, bunches) = sync_channel(QUEUE);
    thread::scope(|scope| {
        let packer = Packer {
            bunch: Vec::new(),
            most: share.bunch(),
            found,
            form,
            clamp,
            links: HardLinks::default(),
            stats: PackStats::default(),
        };
        let looking = thread::Builder::new()
            .name("pack".into())
            .spawn_scoped(scope, move || packer.run(directory))
            .map_err(|source| Error::Write { source })?;
        // It goes when this fails: who looks then looks for nobody, and ends.
        let bunches = bunches;
        for (entry, file) in bunches.iter().flatten() {
            match file {
                Some(mut file) => output.append(&entry, &mut file)?,
                None => output.append(&entry, &mut io::empty())?,
            }
        }
        looking.join().expect("looking does not panic")
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Upper,
    Plain,
}

/// An entry, and the file with what it has in it.
type Item = (Entry, Option<File>);

struct Packer {
    bunch: Vec<Item>,
    /// How many are handed on at once.
    most: usize,
    found: SyncSender<Vec<Item>>,
    form: Form,
    clamp: Option<Timestamp>,
    links: HardLinks,
    stats: PackStats,
}

impl Packer {
    fn run(mut self, directory: BorrowedFd<'_>) -> Result<PackStats, Error> {
        if self.form == Form::Upper {
            let xattrs = xattr::get_all(directory, b"")
                .map_err(|error| Error::tree("read the extended attributes of", b"", error))?;
            let root = Entry { xattrs, ..Entry::new(b"", Kind::Directory, 0o755) };
            self.put_opaque_mark(&root)?;
        }
        walk(directory, |found| self.visit(found))?;
        self.hand_on()?;
        Ok(self.stats)
    }

    fn append(&mut self, entry: Entry, file: Option<File>) -> Result<(), Error> {
        self.bunch.push((entry, file));
        if self.bunch.len() >= self.most { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> Result<(), Error> {
        // Who takes them ends early only when it fails, and says why.
        let ended = |_| Error::Write { source: io::ErrorKind::BrokenPipe.into() };
        self.found.send(std::mem::take(&mut self.bunch)).map_err(ended)
    }

    fn visit(&mut self, found: &Found<'_>) -> Result<Next, Error> {
        // No layer with it could be unpacked, whether or not the tree can be walked to its end.
        if found.path().len() >= PATH_LIMIT {
            return Err(Error::tree("pack", found.path(), Errno::NAMETOOLONG));
        }
        // Overlay makes all its whiteouts hard links of one: they are no file's other names.
        if self.form == Form::Upper
            && found.file_type() == FileType::CharacterDevice
            && found.device() == (0, 0)
        {
            self.put_whiteout(found)?;
            return Ok(Next::Skip);
        }
        let Some((entry, file)) = found.entry_and_file()? else {
            return Ok(Next::Skip);
        };
        if self.form == Form::Upper {
            if entry.kind == (Kind::File { size: 0 }) && is_marked(&entry, "whiteout").is_some() {
                self.put_whiteout(found)?;
                return Ok(Next::Skip);
            }
            check(&entry)?;
        }
        self.put(found, entry, file)?;
        Ok(Next::Enter)
    }

    fn put(
        &mut self,
        found: &Found<'_>,
        mut entry: Entry,
        file: Option<File>,
    ) -> Result<(), Error> {
        let marked =
            (self.form == Form::Upper && entry.kind == Kind::Directory).then(|| entry.clone());
        entry.xattrs.retain(|name, _| !xattr::is_overlay_mark(name));
        entry.mtime = self.clamp.map_or(entry.mtime, |clamp| entry.mtime.min(clamp));
        if let Some(first) = self.links.seen(found) {
            // The first name has said everything else; links that repeat it confuse some readers.
            entry.kind = Kind::Hardlink(first.to_vec());
            entry.xattrs.clear();
        }
        self.stats.entries += 1;
        self.stats.content += entry.size();
        let file = file.filter(|_| entry.size() > 0);
        self.append(entry, file)?;
        marked.map_or(Ok(()), |directory| self.put_opaque_mark(&directory))
    }

    /// Puts the mark of an opaque directory before everything else in it.
    fn put_opaque_mark(&mut self, directory: &Entry) -> Result<(), Error> {
        // The value "x" says something else: that whiteouts in attributes are to be looked for.
        if is_marked(directory, "opaque") != Some(b"y") {
            return Ok(());
        }
        self.put_mark(&join(&directory.path, OPAQUE_MARK))
    }

    fn put_whiteout(&mut self, found: &Found<'_>) -> Result<(), Error> {
        let (directory, name) = super::entry::split(found.path());
        self.put_mark(&join(directory, &[WHITEOUT_PREFIX, name].concat()))
    }

    fn put_mark(&mut self, path: &[u8]) -> Result<(), Error> {
        self.stats.entries += 1;
        // Nothing of a mark but its name means anything, so nothing else may vary.
        self.append(Entry::new(path, Kind::File { size: 0 }, 0), None)
    }
}

/// Returns the value of overlay's own attribute, whoever mounted it.
fn is_marked<'a>(entry: &'a Entry, mark: &str) -> Option<&'a [u8]> {
    let value =
        |namespace: &str| entry.xattrs.get(format!("{namespace}.overlay.{mark}").as_bytes());
    value("trusted").or_else(|| value("user")).map(Vec::as_slice)
}

/// Refuses what in a tar would mean something else.
fn check(entry: &Entry) -> Result<(), Error> {
    let reason = if entry.split().1.starts_with(WHITEOUT_PREFIX) {
        "names that start with \".wh.\" stand for deleted files there"
    } else if is_marked(entry, "redirect").is_some() || is_marked(entry, "metacopy").is_some() {
        "overlay has left its content in a layer below"
    } else {
        return Ok(());
    };
    Err(Error::Inexpressible { path: entry.path.clone(), reason })
}
