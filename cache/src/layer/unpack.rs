//! Unpacks a layer's tar into a tree.
//!
//! The archive is not trusted: parents are resolved inside the destination, names are never
//! followed, and whatever stands in an entry's place is removed, not written to. Does not know
//! where the layer comes from, nor what its digest should be.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, linkat, makedev, mkdirat, mknodat, openat, symlinkat,
};
use rustix::io::Errno;

use super::entry::{Entry, Kind, Timestamp, join, split};
use super::tree::{self, Directory, is_directory, is_whiteout};
use super::walk::{Identity, mtime, names};
use super::{Error, OPAQUE_MARK, WHITEOUT_PREFIX, reader, xattr};

/// The attribute by which overlay knows that a directory hides those below it.
pub const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";

/// What tree to make of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In overlay's form, in a directory that is empty: a lower layer for a mount.
    Overlay,
    /// Applied to a tree of the layers below: what the layer deletes is deleted.
    Apply,
    /// Put into a tree that is no layer: every name stands for itself, and what the archive says
    /// nothing of stays.
    Plain,
}

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnpackStats {
    /// How many entries the layer has, whiteouts included.
    pub entries: u64,
    /// How many bytes the files have.
    pub content: u64,
    /// Directories that the layer has files in but no entry for, and that were not there. They were
    /// made with mode 0755 for root and the epoch's time, which in overlay's form covers what the
    /// layers below say of them.
    pub implied: BTreeSet<Vec<u8>>,
    /// Whether the layer hides all layers below it. Overlay ignores the attribute on a layer's
    /// root, so whoever mounts must leave those layers out.
    pub opaque_root: bool,
    /// How many extended attributes the file system refused to take.
    pub refused_xattrs: u64,
}

/// Unpacks the uncompressed tar in `input`, which is read to its very end, into `destination`.
pub fn unpack_layer(
    input: impl Read,
    destination: BorrowedFd<'_>,
    form: Form,
) -> Result<UnpackStats, Error> {
    let mut unpacker = Unpacker::new(destination, form)?;
    let mut entries = reader::entries(BufReader::with_capacity(64 * 1024, input));
    while let Some((entry, mut data)) = entries.next_entry()? {
        unpacker.unpack(&entry, &mut data)?;
    }
    entries.finish()?;
    unpacker.finish()
}

/// Puts entries of an archive into a tree one by one, in the [plain form](Form::Plain), for whoever
/// has a say in each.
pub struct Extractor<'a>(Unpacker<'a>);

impl<'a> Extractor<'a> {
    /// Starts to put entries into a tree.
    pub fn new(destination: BorrowedFd<'a>) -> Result<Self, Error> {
        Unpacker::new(destination, Form::Plain).map(Self)
    }

    /// Puts an entry into the tree; whatever else stands there is removed.
    pub fn put(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), Error> {
        self.0.unpack(entry, data)
    }

    /// Sets the times of the directories that were put.
    pub fn finish(self) -> Result<UnpackStats, Error> {
        self.0.finish()
    }
}

struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    form: Form,
    stats: UnpackStats,
    /// The directory of the last entry, which most often is that of the next.
    parent: Option<(Vec<u8>, Rc<Directory>)>,
    /// Set at the end, because every file put into a directory changes its time.
    times: BTreeMap<Vec<u8>, Timestamp>,
    /// The times that directories of the layers below had, unless this layer says others.
    kept_times: BTreeMap<Vec<u8>, (Identity, Timestamp)>,
    /// The directories that are in one of the two.
    timed: HashSet<Identity>,
    /// The directories of this layer, up to the root, and the names it made in them: what a
    /// whiteout spares, wherever it stands in the archive. Only kept where whiteouts delete.
    own: HashMap<Identity, BTreeSet<Vec<u8>>>,
    buffer: Box<[u8]>,
}

impl<'a> Unpacker<'a> {
    fn new(root: BorrowedFd<'a>, form: Form) -> Result<Self, Error> {
        let opened =
            Directory::open_in_root(root, b"").map_err(|error| Error::tree("open", b"", error))?;
        Ok(Self {
            root,
            form,
            stats: UnpackStats::default(),
            parent: None,
            times: BTreeMap::new(),
            kept_times: BTreeMap::new(),
            timed: HashSet::new(),
            own: HashMap::from([(opened.identity, BTreeSet::new())]),
            buffer: vec![0; 256 * 1024].into_boxed_slice(),
        })
    }

    fn unpack(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), Error> {
        self.stats.entries += 1;
        self.stats.content += entry.size();
        let (directory, name) = entry.split();
        if name.is_empty() {
            return self.unpack_root(entry);
        }
        if let Some(deleted) = name.strip_prefix(WHITEOUT_PREFIX)
            && self.form != Form::Plain
        {
            return self.unpack_mark(directory, name, deleted);
        }
        let parent = self.parent(directory)?;
        let at = At { parent: &parent, name };
        match &entry.kind {
            Kind::Directory => return self.make_directory(at, entry),
            Kind::File { .. } => self.make_file(at, entry, data)?,
            Kind::Hardlink(target) => self.make_hard_link(at, entry, target)?,
            _ => self.make_node(at, entry)?,
        }
        if let Some(names) = self.own.get_mut(&parent.identity) {
            names.insert(name.to_vec());
        }
        Ok(())
    }

    /// Sets what only can be set when nothing changes any more.
    fn finish(self) -> Result<UnpackStats, Error> {
        // By way of links two paths may name one directory: what the layer says comes last.
        for (path, (identity, time)) in &self.kept_times {
            let set = || {
                let directory = Directory::open_in_root(self.root, path)?;
                // In its place there may be a link to another one by now.
                if directory.identity == *identity {
                    tree::set_times(directory.as_fd(), b".", *time)?;
                }
                Ok(())
            };
            ignore_absent(set(), path)?;
        }
        for (path, time) in &self.times {
            let (directory, name) = split(path);
            let name = if name.is_empty() { b"." } else { name };
            let set = || {
                let parent = Directory::open_in_root(self.root, directory)?;
                // A later entry may have taken the directory's place.
                if parent.stat(name)?.as_ref().is_some_and(is_directory) {
                    tree::set_times(parent.as_fd(), name, *time)?;
                }
                Ok(())
            };
            ignore_absent(set(), path)?;
        }
        Ok(self.stats)
    }

    fn unpack_root(&mut self, entry: &Entry) -> Result<(), Error> {
        if entry.kind != Kind::Directory {
            return Err(Error::InvalidField { path: entry.path.clone(), field: "name" });
        }
        tree::set_directory(self.root, b".", entry)?;
        self.stats.refused_xattrs += tree::set_xattrs(self.root, b"", entry)?;
        let root = Directory::open_in_root(self.root, b"");
        self.timed.extend(root.ok().map(|root| root.identity));
        self.times.insert(Vec::new(), entry.mtime);
        Ok(())
    }

    fn make_directory(&mut self, at: At<'_>, entry: &Entry) -> Result<(), Error> {
        let existing = self.ensure_directory(at, &entry.path)?;
        tree::set_directory(at.parent.as_fd(), at.name, entry)?;
        if existing && self.form == Form::Apply {
            remove_other_xattrs(at, entry)?;
        }
        self.stats.refused_xattrs += tree::set_xattrs(at.parent.as_fd(), at.name, entry)?;
        self.stats.implied.remove(&entry.path);
        self.times.insert(entry.path.clone(), entry.mtime);
        Ok(())
    }

    /// Makes a directory unless there is one, which it returns. Anything else there is replaced.
    fn ensure_directory(&mut self, at: At<'_>, path: &[u8]) -> Result<bool, Error> {
        let make = || mkdirat(at.parent, at.name, Mode::from_raw_mode(0o700));
        let mut existing = None;
        match make() {
            Err(Errno::EXIST) => {
                existing = self.stat(at, path)?;
                if !existing.as_ref().is_some_and(is_directory) {
                    self.remove(at, path)?;
                    make().map_err(|error| Error::tree("create the directory", path, error))?;
                }
            }
            made => made.map_err(|error| Error::tree("create the directory", path, error))?,
        }
        if self.form == Form::Overlay && existing.as_ref().is_some_and(is_whiteout) {
            self.make_opaque(at, path)?;
        }
        if self.form == Form::Apply {
            let directory = at.parent.open(at.name);
            let directory =
                directory.map_err(|error| Error::tree("open the directory", path, error))?;
            self.timed.insert(directory.identity);
            self.keep(directory, path)?;
        }
        Ok(existing.as_ref().is_some_and(is_directory))
    }

    fn make_file(&mut self, at: At<'_>, entry: &Entry, data: &mut impl Read) -> Result<(), Error> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || openat(at.parent, at.name, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(self.replace(at, &entry.path, make)?);
        self.copy(data, &mut file, entry)?;
        self.stats.refused_xattrs += tree::set_file(&file, at.parent.as_fd(), at.name, entry)?;
        Ok(())
    }

    /// Copies a file's content; long runs of zeros become holes.
    fn copy(&mut self, data: &mut impl Read, file: &mut File, entry: &Entry) -> Result<(), Error> {
        let write_failed = |error| Error::tree("write", &entry.path, error);
        let mut ends_in_hole = false;
        loop {
            let count = match data.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(content_error(error, entry)),
            };
            let chunk = &self.buffer[..count];
            ends_in_hole = count >= 4096 && chunk.iter().all(|&byte| byte == 0);
            if ends_in_hole {
                file.seek(SeekFrom::Current(count as i64)).map_err(write_failed)?;
            } else {
                file.write_all(chunk).map_err(write_failed)?;
            }
        }
        if ends_in_hole {
            file.set_len(entry.size()).map_err(write_failed)?;
        }
        Ok(())
    }

    fn make_node(&mut self, at: At<'_>, entry: &Entry) -> Result<(), Error> {
        let node =
            |kind, device| mknodat(at.parent, at.name, kind, Mode::from_raw_mode(0o600), device);
        let make = || match &entry.kind {
            Kind::Symlink(target) => symlinkat(target.as_slice(), at.parent, at.name),
            Kind::Char(major, minor) => node(FileType::CharacterDevice, makedev(*major, *minor)),
            Kind::Block(major, minor) => node(FileType::BlockDevice, makedev(*major, *minor)),
            _ => node(FileType::Fifo, 0),
        };
        self.replace(at, &entry.path, make)?;
        let has_mode = !matches!(entry.kind, Kind::Symlink(_));
        self.stats.refused_xattrs += tree::set_node(at.parent.as_fd(), at.name, entry, has_mode)?;
        Ok(())
    }

    fn make_hard_link(&mut self, at: At<'_>, entry: &Entry, target: &[u8]) -> Result<(), Error> {
        let (directory, name) = split(target);
        let missing =
            || Error::MissingLinkTarget { path: entry.path.clone(), target: target.to_vec() };
        let from = Directory::open_in_root(self.root, directory).map_err(|_| missing())?;
        let target = from.stat(name).ok().flatten().ok_or_else(missing)?;
        let existing = self.stat(at, &entry.path)?;
        if existing.is_some_and(|existing| tree::identity(&existing) == tree::identity(&target)) {
            return Ok(());
        }
        // Without AT_SYMLINK_FOLLOW a link to a symbolic link is just that.
        self.replace(at, &entry.path, || linkat(&from, name, at.parent, at.name, AtFlags::empty()))
    }

    /// Makes something that must not exist yet, after removing what stands in its place.
    fn replace<T>(
        &mut self,
        at: At<'_>,
        path: &[u8],
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, Error> {
        let mut made = make();
        if matches!(made, Err(Errno::EXIST)) {
            self.remove(at, path)?;
            made = make();
        }
        made.map_err(|error| Error::tree("create", path, error))
    }

    /// Unpacks `.wh.<deleted>` in `directory`; `name` is all of it.
    fn unpack_mark(&mut self, directory: &[u8], name: &[u8], deleted: &[u8]) -> Result<(), Error> {
        if name == OPAQUE_MARK {
            return self.unpack_opaque(directory);
        }
        // Other names of this kind were a file system's private affair (aufs).
        if deleted.starts_with(WHITEOUT_PREFIX) {
            return Ok(());
        }
        let path = join(directory, name);
        if matches!(deleted, b"" | b"." | b"..") {
            return Err(Error::InvalidField { path, field: "whiteout" });
        }
        if self.form == Form::Apply {
            return self.delete(directory, deleted);
        }
        let parent = self.parent(directory)?;
        let at = At { parent: &parent, name: deleted };
        match self.stat(at, &path)? {
            // The layer's own directory in the place of whatever was below.
            Some(stat) if is_directory(&stat) => self.make_opaque(at, &path),
            Some(_) => Ok(()),
            None => {
                let made = mknodat(
                    &*parent,
                    deleted,
                    FileType::CharacterDevice,
                    Mode::empty(),
                    makedev(0, 0),
                );
                made.map_err(|error| Error::tree("create the whiteout", &path, error))?;
                let set = tree::set_times(parent.as_fd(), deleted, Timestamp::default());
                set.map_err(|error| Error::tree("set the times of", &path, error))
            }
        }
    }

    fn unpack_opaque(&mut self, directory: &[u8]) -> Result<(), Error> {
        self.stats.opaque_root |= directory.is_empty();
        if self.form == Form::Overlay {
            let parent = self.parent(directory)?;
            return self.make_opaque(At { parent: &parent, name: b"." }, directory);
        }
        match self.open(directory)? {
            Some(emptied) => {
                self.keep_time(&emptied, directory)?;
                self.empty(reopen(&emptied, directory)?, directory)
            }
            None => Ok(()),
        }
    }

    fn make_opaque(&mut self, at: At<'_>, path: &[u8]) -> Result<(), Error> {
        let set = xattr::set(at.parent.as_fd(), at.name, OPAQUE_ATTRIBUTE.as_bytes(), b"y");
        set.map_err(|error| Error::tree("make opaque the directory", path, error))
    }

    /// Deletes what the layers below have under this name.
    fn delete(&mut self, directory: &[u8], name: &[u8]) -> Result<(), Error> {
        let Some(parent) = self.open(directory)? else {
            return Ok(());
        };
        self.keep_time(&parent, directory)?;
        let path = join(directory, name);
        match self.delete_in(&parent, name, &path)? {
            Some(own) => self.empty(own, &path),
            None => Ok(()),
        }
    }

    /// Deletes everything in `directory` that the layers below have.
    fn empty(&mut self, directory: Directory, path: &[u8]) -> Result<(), Error> {
        let list = |directory: Directory, path: Vec<u8>| match names(directory.as_fd()) {
            Ok(names) => Ok((directory, path, names.into_iter())),
            Err(error) => Err(Error::tree("list", &path, error)),
        };
        let mut levels = vec![list(directory, path.to_vec())?];
        while let Some((directory, path, names)) = levels.last_mut() {
            let Some(name) = names.next() else {
                levels.pop();
                continue;
            };
            let path = join(path, name.to_bytes());
            if let Some(own) = self.delete_in(directory, name.to_bytes(), &path)? {
                levels.push(list(own, path)?);
            }
        }
        Ok(())
    }

    /// Deletes a name unless it is of this layer; returns the layer's own directory that has it,
    /// which is to be emptied.
    fn delete_in(
        &mut self,
        parent: &Directory,
        name: &[u8],
        path: &[u8],
    ) -> Result<Option<Directory>, Error> {
        let at = At { parent, name };
        let Some(stat) = self.stat(at, path)? else {
            return Ok(None);
        };
        if is_directory(&stat) && self.own.contains_key(&tree::identity(&stat)) {
            let own = parent
                .open(name)
                .map_err(|error| Error::tree("open the directory", path, error))?;
            return Ok(Some(own));
        }
        let is_own = self.own.get(&parent.identity).is_some_and(|names| names.contains(name));
        if !is_own || is_directory(&stat) {
            self.remove(at, path)?;
        }
        Ok(None)
    }

    fn remove(&mut self, at: At<'_>, path: &[u8]) -> Result<(), Error> {
        // It may lie on the way to the directory that is open.
        self.parent = None;
        if let Some(names) = self.own.get_mut(&at.parent.identity) {
            names.remove(at.name);
        }
        let removed = at.parent.remove(at.name, &mut |directory| {
            self.own.remove(&directory);
            self.timed.remove(&directory);
        });
        removed.map_err(|error| Error::tree("remove", path, error))
    }

    /// Opens the directory an entry is to be put into, and makes it if the layer only implies it.
    fn parent(&mut self, path: &[u8]) -> Result<Rc<Directory>, Error> {
        if let Some((known, parent)) = &self.parent
            && known == path
        {
            return Ok(Rc::clone(parent));
        }
        let parent = match Directory::open_in_root(self.root, path) {
            // "Not a directory" may be a whiteout that the layer has in its own directory's place.
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_implied(path)?,
            parent => parent.map_err(|error| Error::tree("open the directory", path, error))?,
        };
        let parent = Rc::new(parent);
        if self.form == Form::Apply {
            self.keep_time(&parent, path)?;
            if !self.own.contains_key(&parent.identity) {
                self.keep(reopen(&parent, path)?, path)?;
            }
        }
        self.parent = Some((path.to_vec(), Rc::clone(&parent)));
        Ok(parent)
    }

    fn make_implied(&mut self, path: &[u8]) -> Result<Directory, Error> {
        let (directory, name) = split(path);
        let parent = self.parent(directory)?;
        let at = At { parent: &parent, name };
        if self.stat(at, path)?.is_some_and(|stat| !is_whiteout(&stat) && !is_directory(&stat)) {
            return Err(Error::tree("create the directory", path, Errno::NOTDIR));
        }
        if !self.ensure_directory(at, path)? {
            tree::set_directory(parent.as_fd(), name, &Entry::new(path, Kind::Directory, 0o755))?;
            self.stats.implied.insert(path.to_vec());
            if self.form != Form::Plain {
                self.times.insert(path.to_vec(), Timestamp::default());
            }
        }
        parent.open(name).map_err(|error| Error::tree("open the directory", path, error))
    }

    /// Remembers the time of a directory of the layers below, unless the layer says another.
    fn keep_time(&mut self, directory: &Directory, path: &[u8]) -> Result<(), Error> {
        if self.timed.insert(directory.identity) {
            let stat = rustix::fs::fstat(directory.as_fd())
                .map_err(|error| Error::tree("stat", path, error))?;
            self.kept_times.insert(path.to_vec(), (directory.identity, mtime(&stat)));
        }
        Ok(())
    }

    /// Opens a directory that need not be there.
    fn open(&self, path: &[u8]) -> Result<Option<Directory>, Error> {
        match Directory::open_in_root(self.root, path) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            directory => {
                directory.map(Some).map_err(|error| Error::tree("open the directory", path, error))
            }
        }
    }

    /// Remembers that a directory holds something of this layer, and so do those it is in.
    fn keep(&mut self, mut directory: Directory, path: &[u8]) -> Result<(), Error> {
        while !self.own.contains_key(&directory.identity) {
            self.own.insert(directory.identity, BTreeSet::new());
            directory = directory
                .up()
                .map_err(|error| Error::tree("open the directory above", path, error))?;
        }
        Ok(())
    }

    fn stat(&self, at: At<'_>, path: &[u8]) -> Result<Option<Stat>, Error> {
        at.parent.stat(at.name).map_err(|error| Error::tree("stat", path, error))
    }
}

/// A name in a directory.
#[derive(Clone, Copy)]
struct At<'a> {
    parent: &'a Directory,
    name: &'a [u8],
}

/// Removes attributes that only the layers below gave a directory.
fn remove_other_xattrs(at: At<'_>, entry: &Entry) -> Result<(), Error> {
    let failed = |error| Error::tree("replace the extended attributes of", &entry.path, error);
    for attribute in xattr::get_all(at.parent.as_fd(), at.name).map_err(failed)?.keys() {
        if !entry.xattrs.contains_key(attribute) {
            xattr::remove(at.parent.as_fd(), at.name, attribute).map_err(failed)?;
        }
    }
    Ok(())
}

/// A directory whose time was to be set may be gone.
fn ignore_absent(set: rustix::io::Result<()>, path: &[u8]) -> Result<(), Error> {
    match set {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
        Err(error) => Err(Error::tree("set the times of", path, error)),
    }
}

/// Opens a directory again, for reading its names.
fn reopen(directory: &Directory, path: &[u8]) -> Result<Directory, Error> {
    directory.open(b".").map_err(|error| Error::tree("open the directory", path, error))
}

/// Takes our own error out of the one that [`Read`] had to make of it.
fn content_error(error: io::Error, entry: &Entry) -> Error {
    error.downcast().unwrap_or_else(|source| Error::Content { path: entry.path.clone(), source })
}
