//! The layer that a copy makes, decided before a byte is written.
//!
//! A [`Plan`] maps paths of the target root to what will be there, over a view of what is there
//! already: directories on the way are made, links in the target are followed inside it, conflicts
//! are found. [`Plan::write`] then turns it into a tar. Knows nothing of where sources were found.

mod ahead;
mod files;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use cache::layer::writer::Append;
use cache::layer::{self, Entry, Kind, Timestamp};
use rustix::fs::{FileType, OFlags};

use self::ahead::Ahead;
use crate::tree::{self, Tree};
use crate::view::{self, Metadata, View, join, split, xattrs};

/// Why a copy cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory would have to replace something that is none.
    #[error("cannot copy to non-directory: {0}")]
    NotADirectory(String),
    /// A file would have to replace a directory.
    #[error("cannot replace to directory {0} with file")]
    IsADirectory(String),
    /// A source changed while it was copied.
    #[error("{0} changed while it was copied: build again once nothing writes to it")]
    Changed(String),
    /// The target cannot be looked into, or a source cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The target cannot be looked into.
    #[error("cannot look into the target")]
    Io(#[from] io::Error),
    /// The layer cannot be written.
    #[error("cannot write the layer")]
    Write(#[from] layer::Error),
}

/// Where an entry's bytes come from.
pub enum Content {
    /// There are none.
    None,
    /// A stretch of a file.
    Range(Arc<File>, u64),
}

/// The earliest time that a zip archive can hold: what has no time of its own gets no earlier one.
pub const EARLIEST: Timestamp = Timestamp { seconds: 315_532_800, nanoseconds: 0 };

/// What will be at a path.
enum Planned<'a> {
    /// A large copy is nearly all files of a tree, so these take little room.
    TreeFile(TreeFile<'a>),
    Made(Box<Made>),
}

/// A file of a tree, as it was when it was looked at, and whose it becomes.
struct TreeFile<'a> {
    tree: &'a Tree,
    file: tree::Entry<'a>,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// Anything else.
struct Made {
    /// Has its path only when it is written.
    entry: Entry,
    content: Content,
    /// Whether it was there before and stands in the layer only to carry what is below it.
    existed: bool,
    /// Whether nothing was there before, so that nothing can have been below it.
    fresh: bool,
}

impl Made {
    fn new(entry: Entry, content: Content) -> Self {
        Self { entry, content, existed: false, fresh: false }
    }

    fn append(
        &self,
        out: &mut dyn Append,
        path: &[u8],
        clamped: impl Fn(Timestamp) -> Timestamp,
    ) -> Result<(), Error> {
        let mut entry = Entry { path: path.to_vec(), ..self.entry.clone() };
        if !self.existed {
            entry.mtime = clamped(entry.mtime);
        }
        match &self.content {
            Content::None => match out.find(&entry, None) {
                Some(place) => out.append_from(&entry, place)?,
                None => {
                    out.append(&entry, &mut io::empty())?;
                    out.note(&entry, None);
                }
            },
            Content::Range(file, offset) => {
                let data = Range { file, offset: *offset };
                out.append(&entry, &mut data.take(entry.size()))?;
            }
        }
        Ok(())
    }
}

impl<'a> Planned<'a> {
    fn file(&self) -> Option<&TreeFile<'a>> {
        match self {
            Self::TreeFile(file) => Some(file),
            Self::Made(_) => None,
        }
    }

    fn made(&self) -> Option<&Made> {
        match self {
            Self::TreeFile(_) => None,
            Self::Made(made) => Some(made),
        }
    }

    fn made_mut(&mut self) -> Option<&mut Made> {
        match self {
            Self::TreeFile(_) => None,
            Self::Made(made) => Some(made),
        }
    }

    fn mtime(&self) -> Timestamp {
        match self {
            Self::TreeFile(file) => file.file.metadata().mtime,
            Self::Made(made) => made.entry.mtime,
        }
    }

    /// What it is, unless it is a file of a tree.
    fn kind(&self) -> Option<&Kind> {
        self.made().map(|made| &made.entry.kind)
    }

    /// The path it is a hard link to.
    fn linked(&self) -> Option<&[u8]> {
        match self.kind() {
            Some(Kind::Hardlink(target)) => Some(target),
            _ => None,
        }
    }

    fn existed(&self) -> bool {
        self.made().is_some_and(|made| made.existed)
    }

    fn fresh(&self) -> bool {
        self.made().is_some_and(|made| made.fresh)
    }
}

/// How directories that have to be made for something to be put in them look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDirectories {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A layer in the planning.
pub struct Plan<'a> {
    base: &'a View,
    new_directories: NewDirectories,
    planned: BTreeMap<Box<[u8]>, Planned<'a>>,
    /// Directories that have no time of their own, with one that they have at least.
    timeless: BTreeMap<Vec<u8>, Timestamp>,
}

impl<'a> Plan<'a> {
    /// Starts with nothing planned over what is in `base`.
    pub fn new(base: &'a View, new_directories: NewDirectories) -> Self {
        let (planned, timeless) = (BTreeMap::new(), BTreeMap::new());
        Self { base, new_directories, planned, timeless }
    }

    /// What is, or will be, at a path without links on its way.
    fn kind_at(&self, path: &[u8]) -> Result<Option<FileType>, Error> {
        // Most come in the order of their paths.
        let is_behind = self.planned.last_key_value().is_some_and(|(last, _)| **last < *path);
        if !is_behind && let Some(planned) = self.planned.get(path) {
            return Ok(Some(match planned.kind() {
                Some(Kind::Directory) => FileType::Directory,
                Some(Kind::Symlink(_)) => FileType::Symlink,
                _ => FileType::RegularFile,
            }));
        }
        let parent = self.planned.get(split(path).0);
        if parent.is_some_and(Planned::fresh) {
            return Ok(None);
        }
        Ok(self.base_metadata(path)?.map(|metadata| metadata.kind))
    }

    fn base_metadata(&self, path: &[u8]) -> Result<Option<Metadata>, Error> {
        self.base.metadata(path).map_err(|source| Error::Read { path: shown(path), source })
    }

    /// Follows the links on a path's way through what is and will be there.
    pub fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        view::resolve(path, &mut |path| self.link_at(path))
    }

    /// The text of the symbolic link that is, or will be, at a path without links on its way.
    fn link_at(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let path = match self.planned.get(path).and_then(|planned| planned.linked()) {
            Some(_) => &self.linked_file(path),
            None => path,
        };
        match self.planned.get(path) {
            Some(planned) => Ok(match planned.kind() {
                Some(Kind::Symlink(target)) => Some(target.clone()),
                _ => None,
            }),
            None => match self.base_metadata(path)? {
                Some(metadata) if metadata.kind == FileType::Symlink => {
                    Ok(Some(self.base.read_link(path)?))
                }
                _ => Ok(None),
            },
        }
    }

    /// Whether a directory is, or will be, at a path, links followed.
    pub fn is_dir(&self, path: &[u8]) -> Result<bool, Error> {
        Ok(self.kind_at(&self.resolve(path)?)? == Some(FileType::Directory))
    }

    /// Whether anything is, or will be, at a path, links followed.
    pub fn exists(&self, path: &[u8]) -> Result<bool, Error> {
        Ok(self.kind_at(&self.resolve(path)?)?.is_some())
    }

    /// Makes sure that there is a directory at a path, links followed; returns the path without
    /// links.
    pub fn make_dirs(&mut self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let path = self.resolve(path)?;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in ends.chain([path.len()]).filter(|end| *end > 0) {
            self.make_dir(&path[..end])?;
        }
        Ok(path)
    }

    fn make_dir(&mut self, path: &[u8]) -> Result<(), Error> {
        match self.kind_at(path)? {
            Some(FileType::Directory) => self.carry(path),
            Some(_) => Err(Error::NotADirectory(shown(path))),
            None => {
                let NewDirectories { mode, uid, gid } = self.new_directories;
                let mut entry = Entry::new(path, Kind::Directory, mode);
                (entry.uid, entry.gid) = (uid.into(), gid.into());
                self.timeless.insert(path.to_vec(), EARLIEST);
                self.plan(path.into(), Made { fresh: true, ..Made::new(entry, Content::None) });
                Ok(())
            }
        }
    }

    /// Puts a directory that exists into the layer as it is: without it, the layer's implied
    /// directory would hide its mode and owner.
    fn carry(&mut self, path: &[u8]) -> Result<(), Error> {
        if path.is_empty() || self.planned.contains_key(path) {
            return Ok(());
        }
        let metadata =
            self.base_metadata(path)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let read = |source| Error::Read { path: shown(path), source };
        let dir = self.base.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(read)?;
        let mut entry = entry_of(path.to_vec(), &metadata, Kind::Directory);
        entry.xattrs = xattrs(dir.as_fd()).map_err(read)?;
        self.plan(path.into(), Made { existed: true, ..Made::new(entry, Content::None) });
        Ok(())
    }

    fn plan(&mut self, path: Box<[u8]>, made: Made) {
        self.planned.insert(path, Planned::Made(Box::new(made)));
    }

    /// Tells the time of a directory whose content is copied into the one at a path, which takes it if
    /// it is made for that.
    pub fn made_at(&mut self, path: &[u8], time: Timestamp) {
        if let Some(known) = self.timeless.get_mut(path) {
            *known = time.max(*known);
        }
    }

    /// Puts a directory at a path whose parent exists; one that exists takes its owner, mode and
    /// times.
    pub fn put_dir(&mut self, entry: Entry) -> Result<(), Error> {
        let path = entry.path.clone();
        let fresh = match self.kind_at(&path)? {
            Some(FileType::Directory) if path.is_empty() => return Ok(()),
            Some(FileType::Directory) => {
                self.planned.get(path.as_slice()).is_some_and(Planned::fresh)
            }
            Some(_) => return Err(Error::NotADirectory(shown(&path))),
            None => true,
        };
        self.check(&entry)?;
        self.plan(path.into(), Made { fresh, ..Made::new(entry, Content::None) });
        Ok(())
    }

    /// Puts a directory whose own time means nothing.
    pub fn put_timeless_dir(&mut self, entry: Entry) -> Result<(), Error> {
        self.timeless.insert(entry.path.clone(), EARLIEST);
        self.put_dir(entry)
    }

    /// Gives those directories a time that have none: that of the newest thing right in it; one that
    /// has directories only, that of the oldest of them. So a file that changes says nothing of the
    /// directories beside its own, and who writes the layer again finds them as they were.
    fn give_times(&mut self) {
        let mut given = self.timeless.clone();
        // Of each directory: its newest thing, and its oldest directory.
        let mut below: BTreeMap<&[u8], (Option<Timestamp>, Option<Timestamp>)> = BTreeMap::new();
        for (path, planned) in self.planned.iter().rev() {
            let known = below.remove(&**path);
            if let Some(own) = given.get_mut(&**path) {
                let (newest, oldest) = known.unwrap_or_default();
                *own = newest.or(oldest).map_or(*own, |time| time.max(*own));
            }
            let (newest, oldest) = below.entry(split(path).0).or_default();
            let time = given.get(&**path).copied().unwrap_or_else(|| planned.mtime());
            match planned.kind() {
                Some(Kind::Directory) => {
                    *oldest = oldest.map_or(Some(time), |old| Some(time.min(old)))
                }
                _ => *newest = (*newest).max(Some(time)),
            }
        }
        for (path, time) in given {
            let planned = self.planned.get_mut(path.as_slice());
            if let Some(made) = planned.and_then(Planned::made_mut) {
                made.entry.mtime = time;
            }
        }
    }

    /// Puts anything but a directory at a path whose parent exists, replacing what is there unless
    /// that is a directory.
    pub fn put(&mut self, entry: Entry, content: Content) -> Result<(), Error> {
        self.check_no_dir(&entry)?;
        self.insert(entry, content)
    }

    /// Puts a tree's file as [`Self::put`] does, with the path, the mode and the owner of `entry`.
    pub fn put_file(
        &mut self,
        entry: Entry,
        tree: &'a Tree,
        file: tree::Entry<'a>,
    ) -> Result<(), Error> {
        self.check_no_dir(&entry)?;
        self.check(&entry)?;
        let Entry { path, mode, uid, gid, .. } = entry;
        let short = |id: u64| u32::try_from(id).expect("the owner of a file has a short number");
        let file = TreeFile { tree, file, mode, uid: short(uid), gid: short(gid) };
        self.planned.insert(path.into(), Planned::TreeFile(file));
        Ok(())
    }

    fn check_no_dir(&self, entry: &Entry) -> Result<(), Error> {
        match self.kind_at(&entry.path)? {
            Some(FileType::Directory) => Err(Error::IsADirectory(shown(&entry.path))),
            _ => Ok(()),
        }
    }

    /// Puts an archive's entry at a path whose parent exists: it replaces whatever is there, as
    /// tar does; a directory with things in it can only be replaced by a directory.
    pub fn put_unpacked(&mut self, entry: Entry, content: Content) -> Result<(), Error> {
        let is = self.kind_at(&entry.path)?;
        if entry.kind != Kind::Directory && is == Some(FileType::Directory) {
            let below = join(&entry.path, b"");
            self.planned.retain(|path, _| !path.starts_with(&below));
        }
        self.insert(entry, content)
    }

    fn insert(&mut self, mut entry: Entry, content: Content) -> Result<(), Error> {
        self.check(&entry)?;
        let path = std::mem::take(&mut entry.path);
        self.plan(path.into(), Made::new(entry, content));
        Ok(())
    }

    /// Refuses what a layer cannot say.
    fn check(&self, entry: &Entry) -> Result<(), Error> {
        // In a layer these two would delete something instead of being there.
        if split(&entry.path).1.starts_with(b".wh.") {
            return Err(inexpressible(
                &entry.path,
                "names that start with \".wh.\" stand for deleted files there",
            ));
        }
        if entry.kind == Kind::Char(0, 0) {
            return Err(inexpressible(&entry.path, "device 0:0 stands for a deleted file there"));
        }
        Ok(())
    }

    /// Leaves directories out that existed and have nothing new below them.
    pub fn forget_unchanged(&mut self) {
        let new: Vec<Vec<u8>> = self
            .planned
            .iter()
            .filter(|(_, planned)| !planned.existed())
            .map(|(path, _)| path.to_vec())
            .collect();
        self.planned.retain(|path, planned| {
            !planned.existed()
                || new.iter().any(|new| new.starts_with(path) && new.get(path.len()) == Some(&b'/'))
        });
    }

    /// Lets the first of a file's names be the file and the others links to it: a layer is written
    /// in the order of paths, and a link can only name what stands before it.
    fn order_hard_links(&mut self) {
        let mut links: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for (path, planned) in &self.planned {
            if planned.linked().is_some() {
                links.entry(self.linked_file(path)).or_default().push(path.to_vec());
            }
        }
        links.retain(|file, _| self.planned.contains_key(file.as_slice()));
        for (file, names) in links {
            let first = names[0].clone().min(file.clone());
            if first != file
                && let Some(whole) = self.planned.remove(file.as_slice())
                && let Some(link) = self.planned.remove(first.as_slice())
            {
                self.planned.extend([(first.clone().into(), whole), (file.clone().into(), link)]);
            }
            for name in names.iter().chain([&file]).filter(|name| **name != first) {
                let planned = self.planned.get_mut(name.as_slice());
                if let Some(link) = planned.and_then(Planned::made_mut) {
                    link.entry.kind = Kind::Hardlink(first.clone());
                }
            }
        }
    }

    /// The file that a hard link, or a chain of them, names.
    fn linked_file(&self, path: &[u8]) -> Vec<u8> {
        let mut path = path;
        for _ in 0..self.planned.len() {
            match self.planned.get(path).and_then(|planned| planned.linked()) {
                Some(target) => path = target,
                None => break,
            }
        }
        path.to_vec()
    }

    /// Refuses hard links to what is not there, or is a directory: nobody could unpack the layer.
    fn check_hard_links(&self) -> Result<(), Error> {
        for (path, planned) in &self.planned {
            if planned.linked().is_none() {
                continue;
            }
            let file = self.linked_file(path);
            let linkable = match self.planned.get(file.as_slice()) {
                Some(planned) => {
                    !matches!(planned.kind(), Some(Kind::Directory | Kind::Hardlink(_)))
                }
                None => self
                    .base_metadata(&file)?
                    .is_some_and(|metadata| metadata.kind != FileType::Directory),
            };
            if !linkable {
                return Err(inexpressible(path, "it is a hard link to a file that is not there"));
            }
        }
        Ok(())
    }

    /// Writes the layer's entries; those that an earlier layer has are found before the others are
    /// opened. Times later than `clamp` are lowered to it. Who has failed can do it again.
    pub fn write(&mut self, out: &mut dyn Append, clamp: Option<Timestamp>) -> Result<(), Error> {
        self.give_times();
        self.check_hard_links()?;
        self.order_hard_links();
        // One put behind the other they leave half of the map's nodes empty.
        self.planned = std::mem::take(&mut self.planned).into_iter().collect();
        let clamped = |time: Timestamp| clamp.map_or(time, |clamp| time.min(clamp));
        let files = self.planned.iter().filter_map(|(path, planned)| Some((path, planned.file()?)));
        let places: Vec<_> = match out.has_earlier() {
            true => {
                files.clone().map(|(path, file)| files::find(out, path, file, clamped)).collect()
            }
            false => Vec::new(),
        };
        let mut found = places.iter().copied().chain(std::iter::repeat(None));
        let unfound = files.zip(found.clone()).filter(|(_, place)| place.is_none());
        let unfound: Vec<_> = unfound.map(|((_, file), _)| file).collect();
        std::thread::scope(|scope| {
            let mut ahead = Ahead::start(scope, &unfound);
            for (path, planned) in &self.planned {
                match planned {
                    Planned::Made(made) => made.append(out, path, clamped)?,
                    Planned::TreeFile(file) => match found.next().flatten() {
                        Some(place) => files::append_from(out, path, file, place, clamped)?,
                        None => files::append(out, path, file, ahead.take(file), clamped)?,
                    },
                }
            }
            Ok(())
        })
    }
}

/// The entry of something with this metadata at a clean path.
pub fn entry_of(path: Vec<u8>, metadata: &Metadata, kind: Kind) -> Entry {
    let (uid, gid) = (metadata.uid.into(), metadata.gid.into());
    let (mode, mtime) = (metadata.mode.into(), metadata.mtime);
    Entry { path, kind, mode, uid, gid, mtime, xattrs: BTreeMap::new() }
}

fn inexpressible(path: &[u8], reason: &'static str) -> Error {
    Error::Write(layer::Error::Inexpressible { path: path.to_vec(), reason })
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

struct Range<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// The parent of a path, for callers that make it before they put something there.
pub fn parent(path: &[u8]) -> &[u8] {
    split(path).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_file_is_the_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let base = View::open(dir.path()).expect("open");
        let mut plan = Plan::new(&base, NewDirectories { mode: 0o755, uid: 0, gid: 0 });
        let link = |target: &str| Kind::Hardlink(target.into());
        let entries = [
            ("m", Kind::File { size: 0 }),
            ("z", link("m")),
            ("a", link("z")),
            ("b", link("gone")),
        ];
        for (path, kind) in entries {
            plan.insert(Entry::new(path, kind, 0o640), Content::None).expect("insert");
        }
        plan.order_hard_links();
        let kinds = plan.planned.into_iter().map(|(path, planned)| {
            let kind = planned.kind().expect("no file of a tree").clone();
            (String::from_utf8(path.into()).expect("a name"), kind)
        });
        let expected = [
            ("a", Kind::File { size: 0 }),
            ("b", link("gone")),
            ("m", link("a")),
            ("z", link("a")),
        ];
        assert_eq!(kinds.collect::<Vec<_>>(), expected.map(|(path, kind)| (path.into(), kind)));
    }

    #[test]
    fn a_hard_link_to_a_symbolic_link_is_followed_as_one() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::os::unix::fs::symlink("real", dir.path().join("there")).expect("symlink");
        let base = View::open(dir.path()).expect("open");
        let mut plan = Plan::new(&base, NewDirectories { mode: 0o755, uid: 0, gid: 0 });
        for (path, kind) in [
            ("link", Kind::Symlink("real".into())),
            ("second", Kind::Hardlink("link".into())),
            ("third", Kind::Hardlink("second".into())),
            ("below", Kind::Hardlink("there".into())),
        ] {
            plan.put_unpacked(Entry::new(path, kind, 0o777), Content::None).expect("put");
        }
        for path in ["second", "third", "below"] {
            let resolved = plan.resolve(format!("{path}/file").as_bytes()).expect("resolve");
            assert_eq!(String::from_utf8_lossy(&resolved), "real/file", "{path}");
        }
        plan.check_hard_links().expect("they are links to what is there");
    }

    #[test]
    fn what_a_layer_cannot_say_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs_err::write(dir.path().join("there"), "").expect("write");
        fs_err::create_dir(dir.path().join("dir")).expect("mkdir");
        let base = View::open(dir.path()).expect("open");
        let file = Kind::File { size: 0 };
        let link = |target: &str| Kind::Hardlink(target.into());
        let check = |entries: &[(&str, Kind)], expected: Option<&str>| {
            let mut plan = Plan::new(&base, NewDirectories { mode: 0o755, uid: 0, gid: 0 });
            let mut put = || {
                for (path, kind) in entries {
                    plan.put_unpacked(Entry::new(*path, kind.clone(), 0o640), Content::None)?;
                }
                plan.check_hard_links()
            };
            let found = put().err().map(|error| match error {
                Error::Write(error) => error.to_string(),
                other => other.to_string(),
            });
            let expected = expected.map(|text| format!("cannot put {text}"));
            assert_eq!(found, expected, "{entries:?}");
        };
        let dangling = |path| {
            format!("\"{path}\" into a layer: it is a hard link to a file that is not there")
        };
        check(&[("a", link("b")), ("b", link("there"))], None);
        check(&[("a", file.clone()), ("b", link("a"))], None);
        check(&[("a", link("a"))], Some(&dangling("a")));
        check(&[("a", link("b")), ("b", link("a"))], Some(&dangling("a")));
        check(&[("a", link("gone"))], Some(&dangling("a")));
        check(&[("a", link("dir"))], Some(&dangling("a")));
        check(
            &[("a", file.clone()), ("b", link("a")), ("a", Kind::Directory)],
            Some(&dangling("b")),
        );
        let mark = "names that start with \".wh.\" stand for deleted files there";
        check(&[("d/.wh.x", file)], Some(&format!("\"d/.wh.x\" into a layer: {mark}")));
        let device = "\"d\" into a layer: device 0:0 stands for a deleted file there";
        check(&[("d", Kind::Char(0, 0))], Some(device));
        check(&[("d", Kind::Char(1, 3))], None);
    }
}
