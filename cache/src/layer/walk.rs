//! Visits a tree in one fixed order: each directory before what is in it, names by their bytes.
//!
//! Follows no links and knows nothing of overlay's marks. What a visit costs is one stat; links
//! are read, attributes fetched and files opened only when asked for.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::vec;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, Stat, major, minor, openat, readlinkat, statat,
};
use rustix::io::Errno;

use super::entry::{Entry, Kind, Timestamp};
use super::{Error, xattr};

/// What to do after a visit; only matters for directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Visit what is in it.
    Enter,
    /// Pass it by.
    Skip,
}

/// Something found in a tree.
pub struct Found<'a> {
    path: &'a [u8],
    name: &'a CStr,
    directory: BorrowedFd<'a>,
    stat: Stat,
}

/// A file's identity, however many names it has: its device and inode.
pub type Identity = (u64, u64);

impl Found<'_> {
    /// Returns where it is, relative to the root.
    pub fn path(&self) -> &[u8] {
        self.path
    }

    /// Returns its name in its directory.
    pub fn name(&self) -> &[u8] {
        self.name.to_bytes()
    }

    /// Returns the directory it is in, open for reading.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory
    }

    /// Returns what the kernel says of it.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Returns what it is.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Returns its identity if it has other names.
    pub fn shared(&self) -> Option<Identity> {
        let shared = self.stat.st_nlink > 1 && self.file_type() != FileType::Directory;
        shared.then_some((self.stat.st_dev, self.stat.st_ino))
    }

    /// Returns the numbers of the device it is.
    pub fn device(&self) -> (u32, u32) {
        (major(self.stat.st_rdev), minor(self.stat.st_rdev))
    }

    /// Fetches its extended attributes and returns all that a layer could say of it.
    ///
    /// Returns nothing for a socket, which no layer can hold. Hard links come out as what they
    /// link to: which of the names is the first is for [`HardLinks`] to say.
    pub fn entry(&self) -> Result<Option<Entry>, Error> {
        Ok(self.entry_and_file()?.map(|(entry, _)| entry))
    }

    /// The same, and the file if it is a regular one, opened for reading.
    pub fn entry_and_file(&self) -> Result<Option<(Entry, Option<File>)>, Error> {
        let Some(kind) = self.kind()? else {
            return Ok(None);
        };
        let stat = &self.stat;
        let file = matches!(kind, Kind::File { .. }).then(|| self.open()).transpose()?;
        let xattrs = match &file {
            // That is a third of the work.
            Some(file) => xattr::get_all_of(file.as_fd()),
            None => xattr::get_all(self.directory, self.name()),
        };
        let xattrs = xattrs
            .map_err(|error| Error::tree("read the extended attributes of", self.path, error))?;
        let entry = Entry {
            path: self.path.to_vec(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: u64::from(stat.st_uid),
            gid: u64::from(stat.st_gid),
            mtime: mtime(stat),
            xattrs,
        };
        Ok(Some((entry, file)))
    }

    fn kind(&self) -> Result<Option<Kind>, Error> {
        let (major, minor) = self.device();
        Ok(Some(match self.file_type() {
            FileType::RegularFile => Kind::File { size: self.stat.st_size.cast_unsigned() },
            FileType::Directory => Kind::Directory,
            FileType::Symlink => {
                let target = readlinkat(self.directory, self.name, Vec::new());
                Kind::Symlink(
                    target
                        .map_err(|error| Error::tree("read the link", self.path, error))?
                        .into_bytes(),
                )
            }
            FileType::CharacterDevice => Kind::Char(major, minor),
            FileType::BlockDevice => Kind::Block(major, minor),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket | FileType::Unknown => return Ok(None),
        }))
    }

    /// Opens a regular file for reading.
    pub fn open(&self) -> Result<File, Error> {
        // A pipe put in the file's place must not make us wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(self.directory, self.name, flags, Mode::empty());
        Ok(file.map_err(|error| Error::tree("open", self.path, error))?.into())
    }
}

/// Returns when the content was last modified.
pub(super) fn mtime(stat: &Stat) -> Timestamp {
    let nanoseconds = stat.st_mtime_nsec.try_into().expect("the kernel counts less than a second");
    Timestamp { seconds: stat.st_mtime, nanoseconds }
}

/// Remembers the first path of each file that has several.
#[derive(Default)]
pub struct HardLinks(HashMap<Identity, Vec<u8>>);

impl HardLinks {
    /// Returns the path under which the file was seen before, or remembers this one.
    pub fn seen(&mut self, found: &Found<'_>) -> Option<&[u8]> {
        use std::collections::hash_map::Entry;
        match self.0.entry(found.shared()?) {
            Entry::Occupied(first) => Some(first.into_mut()),
            Entry::Vacant(place) => {
                place.insert(found.path.to_vec());
                None
            }
        }
    }
}

/// A directory being visited.
struct Level {
    directory: OwnedFd,
    names: vec::IntoIter<CString>,
    /// The length of the path before the directory's own names.
    base: usize,
}

/// Visits everything below `root`, the root itself not.
pub fn walk<E: From<Error>>(
    root: BorrowedFd<'_>,
    mut visit: impl FnMut(&Found<'_>) -> Result<Next, E>,
) -> Result<(), E> {
    let mut path = Vec::new();
    let mut levels = vec![enter(root, c".", &path, 0)?];
    while let Some(level) = levels.last_mut() {
        path.truncate(level.base);
        let Some(name) = level.names.next() else {
            levels.pop();
            continue;
        };
        path.extend_from_slice(name.to_bytes());
        let directory = level.directory.as_fd();
        let stat = match statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Overlay lists a whiteout with nothing below it, and then says that it is not there.
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(Error::tree("stat", &path, error).into()),
        };
        let found = Found { path: &path, name: &name, directory, stat };
        let next = visit(&found)?;
        if next == Next::Enter && found.file_type() == FileType::Directory {
            let below = enter(directory, &name, &path, path.len() + 1)?;
            path.push(b'/');
            levels.push(below);
        }
    }
    Ok(())
}

fn enter(parent: BorrowedFd<'_>, name: &CStr, path: &[u8], base: usize) -> Result<Level, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())
        .map_err(|error| Error::tree("open the directory", path, error))?;
    let names = names(directory.as_fd()).map_err(|error| Error::tree("list", path, error))?;
    Ok(Level { directory, names: names.into_iter(), base })
}

/// Returns the sorted names in a directory that was just opened.
pub(crate) fn names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut names = Vec::new();
    let mut listing = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
