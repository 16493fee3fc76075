//! Paths inside a container's root: resolved by the kernel with `RESOLVE_IN_ROOT`, made when
//! missing, and taken away again from the layer they were made in.
//!
//! Knows nothing of what is mounted on them.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// As many symbolic links as the kernel follows in one path.
const MAX_LINKS: u32 = 40;

/// A directory or empty file that had to be made to mount something on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// Where it was made, relative to the root, free of symbolic links.
    pub path: PathBuf,
    kind: Kind,
    /// The modification time its parent had once it was made.
    parent_after: Time,
    /// The directories above it as they were before, the parent first, the root last.
    above: Vec<Directory>,
}

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Directory,
    File,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Directory {
    mode: u32,
    uid: u32,
    gid: u32,
    modified: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Time(i64, i64);

impl Time {
    fn of(stat: &Stat) -> Time {
        Time(stat.st_mtime, stat.st_mtime_nsec as i64)
    }
}

impl Directory {
    fn of(stat: &Stat) -> Directory {
        Directory {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified: Time::of(stat),
        }
    }
}

/// A container's root directory, not yet the root of anybody.
pub(super) struct Root {
    directory: OwnedFd,
    device: u64,
    created: Vec<MountPoint>,
}

impl Root {
    pub(super) fn new(directory: OwnedFd) -> Result<Root, Errno> {
        let device = rustix::fs::fstat(&directory)?.st_dev;
        Ok(Root { directory, device, created: Vec::new() })
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// The mount points made so far, in order.
    pub(super) fn into_created(self) -> Vec<MountPoint> {
        self.created
    }

    /// Finds what `path` names in the container, as an `O_PATH` descriptor.
    pub(super) fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        open_in(&self.directory, path, OFlags::PATH)
    }

    /// Finds `path`, or makes it and the directories above it.
    pub(super) fn ensure(&mut self, path: &Path, kind: Kind) -> Result<OwnedFd, Errno> {
        self.ensure_within(path, kind, MAX_LINKS)
    }

    fn ensure_within(&mut self, path: &Path, kind: Kind, links: u32) -> Result<OwnedFd, Errno> {
        match self.open(path) {
            Err(Errno::NOENT) => {}
            found => return found,
        }
        let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
        let parent_path = path.parent().ok_or(Errno::NOENT)?;
        let parent = self.ensure_within(parent_path, Kind::Directory, links)?;
        let Some(Component::Normal(name)) = path.components().next_back() else {
            // A final `..`, which exists now that its parent does.
            return self.open(path);
        };
        match rustix::fs::readlinkat(&parent, name, Vec::new()) {
            // A link to nowhere: what it points to is what has to exist.
            Ok(target) => {
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                return self.ensure_within(&parent_path.join(target), kind, links);
            }
            Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        self.make(&parent, name, kind)?;
        rustix::fs::openat(
            &parent,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }

    /// Makes one entry and remembers it if it is in the root's own file system.
    fn make(&mut self, parent: &OwnedFd, name: &OsStr, kind: Kind) -> Result<(), Errno> {
        let in_layer = rustix::fs::fstat(parent)?.st_dev == self.device;
        let place = self.place_of(parent)?;
        let above = if in_layer { self.directories_above(&place)? } else { Vec::new() };
        match kind {
            Kind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
            Kind::File => drop(rustix::fs::openat(
                parent,
                name,
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o644),
            )?),
        }
        if in_layer {
            let parent_after = Time::of(&rustix::fs::fstat(parent)?);
            self.created.push(MountPoint { path: place.join(name), kind, parent_after, above });
        }
        Ok(())
    }

    /// A directory's path relative to the root.
    fn place_of(&self, directory: &OwnedFd) -> Result<PathBuf, Errno> {
        let path = self.path_of(directory)?;
        Ok(path.strip_prefix("/").unwrap_or(&path).to_owned())
    }

    /// The path of what was found in the root, free of links. The root is mounted over `/`, so the
    /// kernel names what is in it as the container will.
    pub(super) fn path_of(&self, found: &OwnedFd) -> Result<PathBuf, Errno> {
        let link = format!("/proc/self/fd/{}", found.as_raw_fd());
        let path = rustix::fs::readlink(link, Vec::new())?;
        Ok(PathBuf::from(OsStr::from_bytes(path.as_bytes())))
    }

    fn directories_above(&self, parent: &Path) -> Result<Vec<Directory>, Errno> {
        parent
            .ancestors()
            .map(|path| {
                let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
                let stat = rustix::fs::statat(&self.directory, path, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(Directory::of(&stat))
            })
            .collect()
    }
}

/// Opens a path below a directory that is taken for `/`, whatever links lie on the way.
pub(super) fn open_in(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    // With RESOLVE_IN_ROOT the kernel answers EAGAIN when a rename elsewhere races with `..`.
    for _ in 0..64 {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Takes the mount points that a container's init made out of its upper directory, as far as the
/// container left them empty, and the traces of their making: the times of the directories above,
/// and directories that were only copied up to make them.
///
/// The container must have ended. A failure leaves an empty directory or file in the layer, no
/// more, so it is not reported.
pub fn remove_mount_points(upper: &Path, created: &[MountPoint]) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(upper) = rustix::fs::open(upper, flags, Mode::empty()) {
        for mount_point in created.iter().rev() {
            // What it is that fails, the layer is whole with the entry in it.
            let _ = remove_mount_point(&upper, mount_point);
        }
    }
}

fn remove_mount_point(upper: &OwnedFd, mount_point: &MountPoint) -> Result<(), Errno> {
    let Some(name) = mount_point.path.file_name() else {
        return Ok(());
    };
    let mut parent_path = mount_point.path.parent().unwrap_or(Path::new(""));
    let mut parent = open_directory(upper, parent_path)?;
    let mut untouched = Time::of(&rustix::fs::fstat(&parent)?) == mount_point.parent_after;
    remove_empty(&parent, name, mount_point.kind)?;
    for (index, before) in mount_point.above.iter().enumerate() {
        if !untouched {
            return Ok(());
        }
        set_modified(&parent, before.modified)?;
        let Some(name) = parent_path.file_name() else {
            return Ok(());
        };
        let unchanged = Directory::of(&rustix::fs::fstat(&parent)?) == *before;
        if !unchanged || has_own_attributes(&parent)? {
            return Ok(());
        }
        parent_path = parent_path.parent().unwrap_or(Path::new(""));
        parent = open_directory(upper, parent_path)?;
        let modified = Time::of(&rustix::fs::fstat(&parent)?);
        untouched =
            mount_point.above.get(index + 1).is_some_and(|above| above.modified == modified);
        remove_empty(&parent, name, Kind::Directory)?;
    }
    Ok(())
}

fn open_directory(upper: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    rustix::fs::openat2(
        upper,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

/// Removes an entry; that it is gone already is what is wanted, that it has content an error.
fn remove_empty(parent: &OwnedFd, name: &OsStr, kind: Kind) -> Result<(), Errno> {
    let removed = match kind {
        Kind::Directory => rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR),
        Kind::File => {
            let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(()),
                stat => stat?,
            };
            let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
            if regular && stat.st_size == 0 {
                rustix::fs::unlinkat(parent, name, AtFlags::empty())
            } else {
                Err(Errno::NOTEMPTY)
            }
        }
    };
    match removed {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

fn set_modified(directory: &OwnedFd, time: Time) -> Result<(), Errno> {
    rustix::fs::futimens(
        directory,
        &Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: time.0, tv_nsec: time.1 },
        },
    )
}

/// Whether a directory of an upper layer says more than that it was copied up.
fn has_own_attributes(directory: &OwnedFd) -> Result<bool, Errno> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::flistxattr(directory.as_fd(), &mut names[..])?;
    Ok(names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .any(|name| name == b"trusted.overlay.opaque" || !name.starts_with(b"trusted.overlay.")))
}
