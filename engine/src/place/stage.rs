//! Many files for a directory: written into one in it, `.rbuild-<pid>-<number>.part`, and moved when
//! all are whole. What a killed process left of that is removed by the next.
//!
//! Does not know what the files are for. Nothing is followed: a link in a file's place is replaced.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cache::layer::writer::LayerWriter;
use cache::layer::{Error, pack, unpack};
use cache::removal::remove_dir_all;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, openat, renameat, statat};
use rustix::io::Errno;

use super::{UNFINISHED, beside, named};

/// Files in the making for a directory. Dropped before [`Stage::commit`], it leaves nothing.
#[derive(Debug)]
pub struct Stage {
    dest: fs_err::File,
    path: PathBuf,
    /// Locked for as long as this process lives.
    dir: File,
}

impl Stage {
    /// Begins files for the directory `dest`, which is made if it is not there.
    pub fn create(dest: &Path) -> io::Result<Self> {
        fs_err::create_dir_all(dest)?;
        sweep(dest)?;
        let path = beside(&dest.join("x"));
        fs_err::create_dir(&path)?;
        let dir = fs_err::File::open(&path)?.into_parts().0;
        dir.lock()?;
        Ok(Self { dest: fs_err::File::open(dest)?, path, dir })
    }

    /// Moves the files to their places, once all of them are on the disk. Directories that are
    /// there take the owner, mode, times and attributes of those that were made, and keep what else
    /// is in them; anything else in a file's place is replaced.
    pub fn commit(self) -> io::Result<()> {
        // One call for all: a sync of each of many small files takes a hundred times as long.
        rustix::fs::syncfs(&self.dir)?;
        merge(self.dir.as_fd(), self.dest.file().as_fd())
    }
}

impl AsFd for Stage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.path);
    }
}

/// Removes what killed processes left.
fn sweep(dest: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(dest)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let (begin, end) = UNFINISHED;
        let is_unfinished = name.starts_with(begin) && name.ends_with(end);
        if !is_unfinished || !entry.file_type()?.is_dir() {
            continue;
        }
        // Its maker may finish meanwhile.
        let Ok(dir) = File::open(entry.path()) else { continue };
        match dir.try_lock() {
            Ok(()) => drop(remove_dir_all(entry.path())),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Two directories, and what of the first is not yet in the second.
struct Merged {
    from: OwnedFd,
    to: OwnedFd,
    names: Vec<Vec<u8>>,
}

impl Merged {
    fn begin(from: OwnedFd, to: OwnedFd) -> io::Result<Self> {
        let names = names(from.as_fd())?;
        Ok(Self { from, to, names })
    }
}

/// Moves all that is in `from` into `to`.
fn merge(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut open = vec![Merged::begin(open(from, b".")?, open(to, b".")?)?];
    while let Some(Merged { from, to, names }) = open.last_mut() {
        let Some(name) = names.pop() else {
            rustix::fs::fsync(&*to)?;
            let Some(Merged { from, to, .. }) = open.pop() else { break };
            if !open.is_empty() {
                copy_attributes(&from, &to).map_err(|error| {
                    named("set the attributes of", &place_of(to.as_fd(), b""), error)
                })?;
            }
            continue;
        };
        match place(from.as_fd(), to.as_fd(), &name) {
            Ok(None) => {}
            Ok(Some((source, target))) => open.push(Merged::begin(source, target)?),
            // Another file system is mounted here: what is left of this directory is copied there.
            Err(Errno::XDEV) => {
                transfer(from.as_fd(), to.as_fd())?;
                names.clear();
            }
            Err(error) => return Err(named("write", &place_of(to.as_fd(), &name), error)),
        }
    }
    Ok(())
}

/// Moves one file, or a directory that is not there; returns both where they are to be merged.
fn place(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &[u8],
) -> rustix::io::Result<Option<(OwnedFd, OwnedFd)>> {
    let is_directory = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let source = is_directory(&statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?);
    let target = match statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => None,
        stat => Some(is_directory(&stat?)),
    };
    match (source, target) {
        (true, Some(true)) => return Ok(Some((open(from, name)?, open(to, name)?))),
        (true, Some(false)) => rustix::fs::unlinkat(to, name, AtFlags::empty())?,
        (false, Some(true)) => remove_dir_all(place_of(to, name))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?,
        (_, None) | (false, Some(false)) => {}
    }
    renameat(from, name, to, name).map(|()| None)
}

fn open(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// Copies what is in `from` into `to`, which is on another file system, by way of a stage there.
fn transfer(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stage = Stage::create(&place_of(to, b"."))?;
    let (reader, writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| -> Result<(), Error> {
            let mut tar = LayerWriter::new(writer);
            pack::pack_plain(from, &mut tar, None)?;
            tar.finish().map(drop)
        });
        let reader = io::BufReader::new(reader);
        let unpacked = unpack::unpack_layer(reader, stage.as_fd(), unpack::Form::Apply);
        packing.join().expect("packing does not panic").map_err(io::Error::other)?;
        unpacked.map(drop).map_err(io::Error::other)
    })?;
    stage.commit()
}

fn copy_attributes(source: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
    let stat = rustix::fs::fstat(source)?;
    let (uid, gid) = (stat.st_uid, stat.st_gid);
    let owner = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::fchown(target, Some(owner.0), Some(owner.1))?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    // No list and no value is longer (xattr(7)).
    let mut list = vec![0; 64 * 1024];
    let length = match rustix::fs::flistxattr(source, &mut list) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    let mut value = vec![0; 64 * 1024];
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::fgetxattr(source, name, &mut value)?;
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::fsetxattr(target, name, &value[..length], flags) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    let time = rustix::fs::Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or(0),
    };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::futimens(target, &times)
}

fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let dir = open(dir, b".")?;
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// A path for calls that take no descriptor, and for messages.
fn place_of(dir: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    let link = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    let dir = std::fs::read_link(&link).unwrap_or(link);
    dir.join(OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_another_makes_is_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let left = dir.path().join(".rbuild-1-0.part");
        std::fs::create_dir(&left).expect("mkdir");
        std::fs::write(left.join("file"), "half").expect("write");
        let first = Stage::create(dir.path()).expect("create");
        assert!(!left.exists());
        std::fs::write(first.path.join("file"), "whole").expect("write");
        drop(Stage::create(dir.path()).expect("create"));
        assert!(!dir.path().join("file").exists());
        first.commit().expect("commit");
        let names = std::fs::read_dir(dir.path()).expect("list");
        let names: Vec<_> = names.map(|entry| entry.expect("entry").file_name()).collect();
        assert_eq!(names, ["file"]);
    }
}
