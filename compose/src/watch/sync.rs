//! Changed files put into a container, and those that are gone removed from it.
//!
//! As docker compose does, through an archive that is put into the container's root: a file keeps its mode and its
//! owner, but where the container's program runs as another user, it is that user's. A directory is only made: what is
//! in it has changed by itself, or is ignored.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cache::layer::writer::LayerWriter;
use cache::layer::{Entry, Kind, Timestamp};
use engine::containers::copy::{self, Owner, Tree};
use engine::containers::files::{Access, Files};
use engine::containers::{Containers, Record};
use engine::view::{View, join, split};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Mapping;

/// Larger files may change while they are copied.
const WHOLE: u64 = 8 << 20;

/// Why a container does not have what has changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its files cannot be reached.
    #[error("container {name}")]
    Container {
        /// The container.
        name: String,
        /// Why not.
        source: engine::containers::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nobody knows whose the files are to be.
    #[error("copying files to {name}")]
    Owner {
        /// The container.
        name: String,
        /// Why not.
        source: engine::owner::Error,
    },
    /// Something cannot be looked at or removed.
    #[error("deleting {path} in {name}")]
    Remove {
        /// The path in the container.
        path: String,
        /// The container.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// Something cannot be put there.
    #[error("copying files to {name}")]
    Copy {
        /// The container.
        name: String,
        /// Why not.
        source: copy::Error,
    },
}

/// Brings a container's files up to date.
pub fn sync(
    containers: &Containers<'_>,
    record: &Record,
    mappings: &BTreeSet<Mapping>,
) -> Result<(), Error> {
    let name = &record.name;
    let failed = |source| Error::Container { name: name.clone(), source };
    let files = Files::open(containers, &record.id, Access::Write).map_err(failed)?;
    let view = files.view();
    let mut copied = Vec::new();
    for mapping in mappings {
        let target = clean(&mapping.target);
        let new = std::fs::symlink_metadata(&mapping.host);
        let new = match new {
            Err(error) if is_absent(&error) => None,
            new => Some(new.map_err(|error| unread(&mapping.host, error))?),
        };
        let failed = |source| Error::Remove {
            path: format!("/{}", String::from_utf8_lossy(&target)),
            name: name.clone(),
            source,
        };
        if make_way(view, &target, new.as_ref()).map_err(failed)?
            && let Some(new) = new
        {
            copied.push((&mapping.host, target, new));
        }
    }
    if copied.is_empty() {
        return Ok(());
    }
    // A directory comes before what is in it.
    copied.sort_by(|a, b| a.1.cmp(&b.1));
    let owner = owner(record, view)?;
    let (reader, writer) = io::pipe().map_err(|error| unread(Path::new("a pipe"), error))?;
    let tree = Tree::of_container(&files, name);
    let root = copy::Path::in_container(b"/");
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| pack(copied, LayerWriter::new(writer)));
        let put = tree.read(&root, owner, reader);
        let packed = packing.join().expect("packing does not panic");
        match put {
            // What cannot be packed ends the archive early, which is no fault of its own.
            Err(_) if packed.is_err() => packed,
            Err(source) => Err(Error::Copy { name: name.clone(), source }),
            Ok(()) => packed,
        }
    })
}

/// Removes what is not to be there, or would keep something of another kind from being put there. Whether anything is
/// to be put there.
fn make_way(view: &View, target: &[u8], new: Option<&Metadata>) -> io::Result<bool> {
    if target.is_empty() {
        return Ok(false);
    }
    let (parent, name) = split(target);
    let parent = view.resolve(parent)?;
    let there = view.metadata(&join(&parent, name))?.map(|there| there.kind);
    let is_removed = match (there, new) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(FileType::Symlink), Some(new)) if new.is_dir() => {
            // A link to a directory is as good.
            let led = view.metadata(&view.resolve(target)?)?;
            if led.is_some_and(|led| led.is_dir()) {
                return Ok(false);
            }
            true
        }
        (Some(there), Some(new)) => (there == FileType::Directory) != new.is_dir(),
    };
    if is_removed {
        let parent = view.open_at(&parent, OFlags::PATH | OFlags::DIRECTORY)?;
        remove(parent.as_fd(), name)?;
    }
    Ok(new.is_some())
}

/// Removes something with all that is in it.
fn remove(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&opened)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove(opened.as_fd(), name)?;
        }
    }
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Whose the files are to be.
fn owner(record: &Record, view: &View) -> Result<Owner, Error> {
    let user = &record.config.user;
    if user.is_empty() {
        return Ok(Owner::Kept);
    }
    let read = |path: &str| {
        let bytes = view.read(path).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    engine::owner::look_up(user, &read("etc/passwd"), &read("etc/group"))
        .map(|(uid, gid)| Owner::Is(uid, gid))
        .map_err(|source| Error::Owner { name: record.name.clone(), source })
}

/// Packs files under their names in the container. What is gone meanwhile, and what no archive holds, is left out.
fn pack(
    files: Vec<(&PathBuf, Vec<u8>, Metadata)>,
    mut tar: LayerWriter<impl io::Write>,
) -> Result<(), Error> {
    for (host, target, metadata) in files {
        let failed = |error| unread(host, error);
        let unwritten = |error| unread(host, io::Error::other(error));
        let mut entry = Entry::new(target, Kind::Directory, metadata.mode() & 0o7777);
        entry.uid = metadata.uid().into();
        entry.gid = metadata.gid().into();
        entry.mtime = Timestamp {
            seconds: metadata.mtime(),
            nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
        };
        let kind = metadata.file_type();
        if kind.is_file() {
            let mut file = match File::open(host) {
                Err(error) if is_absent(&error) => continue,
                opened => opened.map_err(failed)?,
            };
            let size = file.metadata().map_err(failed)?.len();
            if size > WHOLE {
                entry.kind = Kind::File { size };
                tar.append(&entry, file).map_err(unwritten)?;
                continue;
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(failed)?;
            entry.kind = Kind::File { size: bytes.len() as u64 };
            tar.append(&entry, bytes.as_slice()).map_err(unwritten)?;
            continue;
        }
        if kind.is_symlink() {
            match std::fs::read_link(host) {
                Ok(link) => entry.kind = Kind::Symlink(link.as_os_str().as_bytes().to_vec()),
                Err(_) => continue,
            }
        } else if !kind.is_dir() {
            continue;
        }
        tar.append(&entry, io::empty()).map_err(unwritten)?;
    }
    tar.finish()
        .map(drop)
        .map_err(|error| unread(Path::new("the archive"), io::Error::other(error)))
}

/// A path in the container without a slash at either end.
fn clean(target: &[u8]) -> Vec<u8> {
    let names = target.split(|byte| *byte == b'/');
    let mut clean: Vec<&[u8]> = Vec::new();
    for name in names {
        match name {
            b"" | b"." => {}
            b".." => drop(clean.pop()),
            name => clean.push(name),
        }
    }
    clean.join(&b'/')
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unread(path: &Path, source: io::Error) -> Error {
    Error::Read { path: path.to_owned(), source }
}
