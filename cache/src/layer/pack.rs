//! Packs a tree into a layer's tar.
//!
//! Reads overlay's upper directories and plain ones. Does not know what lies below an upper
//! directory, and hashes nothing: that is for the writer it is given.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::entry::{Entry, Kind, Timestamp, join};
use super::walk::{Found, HardLinks, Next, walk};
use super::writer::Append;
use super::{Error, OPAQUE_MARK, PATH_LIMIT, WHITEOUT_PREFIX, xattr};

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
    Packer::new(output, Form::Upper, clamp).run(directory)
}

/// Packs a directory as it is into a layer that its maker ends; times after `clamp` become `clamp`. Sockets are left out.
pub fn pack_plain(
    directory: BorrowedFd<'_>,
    output: &mut dyn Append,
    clamp: Option<Timestamp>,
) -> Result<PackStats, Error> {
    Packer::new(output, Form::Plain, clamp).run(directory)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Upper,
    Plain,
}

struct Packer<'a> {
    output: &'a mut dyn Append,
    form: Form,
    clamp: Option<Timestamp>,
    links: HardLinks,
    stats: PackStats,
}

impl<'a> Packer<'a> {
    fn new(output: &'a mut dyn Append, form: Form, clamp: Option<Timestamp>) -> Self {
        let (links, stats) = (HardLinks::default(), PackStats::default());
        Self { output, form, clamp, links, stats }
    }

    fn run(mut self, directory: BorrowedFd<'_>) -> Result<PackStats, Error> {
        if self.form == Form::Upper {
            let xattrs = xattr::get_all(directory, b"")
                .map_err(|error| Error::tree("read the extended attributes of", b"", error))?;
            let root = Entry { xattrs, ..Entry::new(b"", Kind::Directory, 0o755) };
            self.put_opaque_mark(&root)?;
        }
        walk(directory, |found| self.visit(found))?;
        Ok(self.stats)
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
        let Some(mut entry) = found.entry()? else {
            return Ok(Next::Skip);
        };
        if self.form == Form::Upper {
            if entry.kind == (Kind::File { size: 0 }) && is_marked(&entry, "whiteout").is_some() {
                self.put_whiteout(found)?;
                return Ok(Next::Skip);
            }
            check(&entry)?;
        }
        self.put(found, &mut entry)?;
        Ok(Next::Enter)
    }

    fn put(&mut self, found: &Found<'_>, entry: &mut Entry) -> Result<(), Error> {
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
        if entry.size() > 0 {
            self.output.append(entry, &mut found.open()?)?;
        } else {
            self.output.append(entry, &mut io::empty())?;
        }
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
        self.output.append(&Entry::new(path, Kind::File { size: 0 }, 0), &mut io::empty())
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
