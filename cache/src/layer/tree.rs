//! A tree being changed: directories by descriptor, resolved inside the tree whatever its links say.
//!
//! Holds what the system calls need and nothing of layers.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, chmodat,
    chownat, fchmod, fchown, fstat, futimens, openat, openat2, statat, utimensat,
};
use rustix::io::Errno;

use super::entry::{Entry, Timestamp};
use super::walk::Identity;
use super::{Error, xattr};
use crate::removal::remove_at;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open directory in the tree.
pub(super) struct Directory {
    fd: OwnedFd,
    pub(super) identity: Identity,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Directory {
    /// Opens `path` below `root`; links, `..` and absolute targets stay inside the root.
    pub(super) fn open_in_root(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Self> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(root, path, flags, Mode::empty(), resolve) {
                // Something was renamed while the kernel looked; it asks to be called again.
                Err(Errno::AGAIN) => {}
                fd => return Self::new(fd?),
            }
        }
    }

    /// Opens a directory by its name in this one, for reading its names.
    pub(super) fn open(&self, name: &[u8]) -> rustix::io::Result<Self> {
        Self::new(openat(self, name, OFlags::RDONLY | DIRECTORY, Mode::empty())?)
    }

    /// Opens the directory this one is in.
    pub(super) fn up(&self) -> rustix::io::Result<Self> {
        Self::new(openat(self, c"..", OFlags::PATH | DIRECTORY, Mode::empty())?)
    }

    fn new(fd: OwnedFd) -> rustix::io::Result<Self> {
        let identity = identity(&fstat(&fd)?);
        Ok(Self { fd, identity })
    }

    /// Returns what the kernel says of a name in this directory, or nothing if it is not there.
    pub(super) fn stat(&self, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
        match statat(self, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            stat => stat.map(Some),
        }
    }

    /// Removes a name and everything below it; `gone` is told of every directory that goes.
    pub(super) fn remove(
        &self,
        name: &[u8],
        gone: &mut dyn FnMut(Identity),
    ) -> rustix::io::Result<()> {
        remove_at(self.as_fd(), name, gone)
    }
}

/// Returns what makes a file the same file.
pub(super) fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// Returns whether overlay would take this for a deleted file.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Returns whether it is a directory.
pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Gives a directory its owner and mode; times would be undone by what is put into it.
pub(super) fn set_directory(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
) -> Result<(), Error> {
    let (uid, gid) = owner(entry)?;
    let set = || {
        let directory = openat(parent, name, OFlags::RDONLY | DIRECTORY, Mode::empty())?;
        fchown(&directory, Some(uid), Some(gid))?;
        fchmod(&directory, Mode::from_raw_mode(entry.mode))
    };
    set().map_err(|error| Error::tree("set the owner and mode of", &entry.path, error))
}

/// Gives a file that was just written its owner, mode, attributes and times.
///
/// Returns how many attributes the file system refused.
pub(super) fn set_file(
    file: &File,
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
) -> Result<u64, Error> {
    let (uid, gid) = owner(entry)?;
    // A change of owner clears set-user-id and capabilities, so it comes first.
    fchown(file, Some(uid), Some(gid))
        .map_err(|error| Error::tree("set the owner of", &entry.path, error))?;
    fchmod(file, Mode::from_raw_mode(entry.mode))
        .map_err(|error| Error::tree("set the mode of", &entry.path, error))?;
    let refused = set_xattrs(parent, name, entry)?;
    let times = futimens(file, &times(entry.mtime));
    times.map_err(|error| Error::tree("set the times of", &entry.path, error))?;
    Ok(refused)
}

/// Gives a link, device or pipe that was just made its owner, mode, attributes and times.
///
/// Returns how many attributes the file system refused.
pub(super) fn set_node(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
    has_mode: bool,
) -> Result<u64, Error> {
    let (uid, gid) = owner(entry)?;
    chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| Error::tree("set the owner of", &entry.path, error))?;
    if has_mode {
        chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .map_err(|error| Error::tree("set the mode of", &entry.path, error))?;
    }
    let refused = set_xattrs(parent, name, entry)?;
    set_times(parent, name, entry.mtime)
        .map_err(|error| Error::tree("set the times of", &entry.path, error))?;
    Ok(refused)
}

/// Sets the times of a name, not following it.
pub(super) fn set_times(
    parent: BorrowedFd<'_>,
    name: &[u8],
    time: Timestamp,
) -> rustix::io::Result<()> {
    utimensat(parent, name, &times(time), AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets an entry's extended attributes but overlay's own, which would change what others see.
///
/// Returns how many the file system refused: it may have none, or none of a kind for links.
pub(super) fn set_xattrs(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<u64, Error> {
    let mut refused = 0;
    for (attribute, value) in
        entry.xattrs.iter().filter(|(attribute, _)| !xattr::is_overlay_mark(attribute))
    {
        match xattr::set(parent, name, attribute, value) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::PERM) => refused += 1,
            Err(error) => {
                return Err(Error::tree("set an extended attribute of", &entry.path, error));
            }
        }
    }
    Ok(refused)
}

fn owner(entry: &Entry) -> Result<(Uid, Gid), Error> {
    // The highest number would mean "leave it as it is".
    let id = |id, field| {
        let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        id.ok_or_else(|| Error::InvalidField { path: entry.path.clone(), field })
    };
    Ok((Uid::from_raw(id(entry.uid, "uid")?), Gid::from_raw(id(entry.gid, "gid")?)))
}

fn times(time: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
