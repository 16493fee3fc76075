//! A new volume begins with what the image has at its path.
//!
//! The copy is made beside the volume's directory (`filling`), gets another name when it is whole
//! (`filled`) and is then moved in, entry by entry: who is killed on the way leaves what the next
//! one throws away or finishes, and a container that already uses the volume sees whole files only.
//!
//! The image is read through a directory that the caller gives, and never left by way of a link.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cache::layer::pack::pack_plain;
use cache::layer::unpack::{Form, unpack_layer};
use cache::layer::walk::{Next, walk};
use cache::layer::writer::LayerWriter;
use cache::removal::remove_dir_all;
use fs_err as fs;
use rustix::fs::{
    Dir, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags,
    fchmod, fchown, fsetxattr, renameat_with,
};
use rustix::io::Errno;

use super::resolve::{Origin, Resolved};
use super::store::{DATA, Volumes, is_mount_point};
use super::{Error, Result};
use crate::view::xattrs;

/// More files than this are synced with their whole file system.
const MOST_SYNCED_ALONE: usize = 32;

/// The entries of a copy, in a directory of their own: what is above it has the attributes of the
/// image's directory, the time too, and keeps them while the entries are moved away.
const TREE: &str = "tree";

/// What became of a volume that was to be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// It has what the image has.
    Copied,
    /// It had something already.
    InUse,
    /// The image has nothing at the path.
    Nothing,
    /// The image has something there that is no directory.
    NoDirectory,
}

impl Volumes<'_> {
    /// Fills those of a container's volumes that are empty. `root` opens the root of the
    /// container's image and is asked once at most, if there is a volume to fill.
    pub fn fill_all(
        &self,
        resolved: &[Resolved],
        mut root: impl FnMut() -> io::Result<OwnedFd>,
    ) -> Result<()> {
        let mut opened: Option<OwnedFd> = None;
        for mount in resolved.iter().filter(|mount| mount.is_filled()) {
            let (name, path) = (&mount.point.name, &mount.point.destination);
            if self.begins_with_something(name)? {
                continue;
            }
            let root = match &mut opened {
                Some(root) => root,
                none => none.insert(root()?),
            };
            let filled = self.fill(name, root.as_fd(), Path::new(path))?;
            if filled == Filled::NoDirectory && mount.origin == Origin::Volume {
                return Err(Error::OverFile(path.clone()));
            }
        }
        Ok(())
    }

    /// Whether a look from outside shows that a volume needs no filling.
    fn begins_with_something(&self, name: &str) -> Result<bool> {
        let directory = self.directory(name);
        // In this order: while it is being filled, the one is there as long as the other grows.
        Ok(!is_empty(&directory.join(DATA))? && !directory.join("filled").exists())
    }

    /// Copies what is at `path` of an image into a volume that is empty: owners, modes, times,
    /// attributes, links and devices. Waits for whoever else does so.
    pub fn fill(&self, name: &str, root: BorrowedFd<'_>, path: &Path) -> Result<Filled> {
        let _lock = self.lock(name)?;
        let directory = self.directory(name);
        let failed = |source| Error::Fill {
            name: name.to_owned(),
            path: path.display().to_string(),
            source,
        };
        Filling { directory: &directory }.run(root, path).map_err(failed)
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The filling of one volume, by who holds its lock.
struct Filling<'a> {
    directory: &'a Path,
}

impl Filling<'_> {
    fn run(&self, root: BorrowedFd<'_>, path: &Path) -> std::result::Result<Filled, Fault> {
        let data = self.directory.join(DATA);
        let [filling, filled] = ["filling", "filled"].map(|name| self.directory.join(name));
        if filled.exists() {
            // Somebody was killed with a whole copy in hand.
            move_in(&filled, &data)?;
            return Ok(Filled::Copied);
        }
        if filling.exists() {
            remove_dir_all(&filling)?;
        }
        if !is_empty(&data)? {
            return Ok(Filled::InUse);
        }
        let from = match open_in(root, path) {
            Ok(from) => from,
            Err(Errno::NOENT) => return Ok(Filled::Nothing),
            Err(Errno::NOTDIR) => return Ok(Filled::NoDirectory),
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        if is_mount_point(&data)? {
            // Nothing can be moved into another file system.
            copy_tree(from.as_fd(), &data)?;
            copy_attributes(from.as_fd(), open_directory(&data)?.as_fd())?;
            return Ok(Filled::Copied);
        }
        fs::create_dir_all(filling.join(TREE))?;
        copy_tree(from.as_fd(), &filling.join(TREE))?;
        copy_attributes(from.as_fd(), open_directory(&filling)?.as_fd())?;
        sync(&filling)?;
        fs::rename(&filling, &filled)?;
        move_in(&filled, &data)?;
        Ok(Filled::Copied)
    }
}

/// Opens a directory of the image, links on the way followed inside it.
fn open_in(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // With RESOLVE_IN_ROOT the kernel answers EAGAIN when a rename elsewhere races with `..`.
    for _ in 0..64 {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// Copies all that is in a directory into an empty one.
fn copy_tree(from: BorrowedFd<'_>, to: &Path) -> std::result::Result<(), Fault> {
    let into = File::from(open_directory(to)?);
    let (reader, writer) = io::pipe()?;
    // As a layer: packing and unpacking know all that a file can be.
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packer =
            std::thread::Builder::new().name("fill".to_owned()).spawn_scoped(scope, || {
                let mut layer = LayerWriter::new(writer);
                pack_plain(from, &mut layer, None)?;
                layer.finish().map(drop)
            });
        let unpacked = unpack_layer(reader, into.as_fd(), Form::Apply);
        packer.map(|packer| (packer.join().expect("packing does not panic"), unpacked))
    })?;
    // Who cannot unpack does not read on, which the packer only sees as a closed pipe.
    match (packed, unpacked) {
        (Err(cause), Err(_)) if !is_broken_pipe(&cause) => Err(cause.into()),
        (_, Err(cause)) | (Err(cause), Ok(_)) => Err(cause.into()),
        // Attributes that the store's file system does not take are left out, as docker does.
        (Ok(()), Ok(_)) => Ok(()),
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Gives a directory another one's owner, mode, extended attributes and time.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    let (uid, gid) =
        (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    fchown(to, Some(uid), Some(gid))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for (name, value) in xattrs(from)? {
        match fsetxattr(to, name.as_slice(), &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: time,
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

/// Moves a whole copy's entries into the volume and takes it away. What has come into the volume
/// meanwhile stays.
fn move_in(filled: &Path, data: &Path) -> io::Result<()> {
    let to = open_directory(data)?;
    let tree = filled.join(TREE);
    if tree.exists() {
        let from = open_directory(&tree)?;
        for name in names(&from)? {
            match renameat_with(&from, &name, &to, &name, RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        copy_attributes(open_directory(filled)?.as_fd(), to.as_fd())?;
        rustix::fs::fsync(&to)?;
        remove_dir_all(tree)?;
    }
    remove_dir_all(filled)
}

/// Waits until a copy is on the disk.
fn sync(copy: &Path) -> std::result::Result<(), Fault> {
    let root = open_directory(copy)?;
    let mut files = Vec::new();
    walk(root.as_fd(), |found| {
        let has_content = found.file_type().is_file() && found.stat().st_size > 0;
        if has_content && files.len() <= MOST_SYNCED_ALONE {
            files.push(found.open()?);
        }
        Ok::<_, cache::layer::Error>(Next::Enter)
    })?;
    if files.len() > MOST_SYNCED_ALONE {
        return Ok(rustix::fs::syncfs(&root).map_err(io::Error::from)?);
    }
    for file in files {
        file.sync_all()?;
    }
    Ok(())
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
        io::Error::other(format!("open {}: {}", path.display(), io::Error::from(errno)))
    })
}

fn names(directory: &OwnedFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn is_empty(directory: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(directory)?.next().transpose()?.is_none())
}

#[cfg(test)]
mod tests;
