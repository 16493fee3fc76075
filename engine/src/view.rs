//! A look into a tree: paths resolved inside it, whatever its links say.
//!
//! A [`View`] is a directory descriptor; a path is resolved component by component below it, links
//! followed as if it were `/`. Nothing outside can be reached. Never writes.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cache::layer::Timestamp;
use cache::lower::Lower;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fgetxattr, flistxattr,
    flistxattr_query,
};
use rustix::io::Errno;

use crate::overlay::{self, Overlay};

/// As many links as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What stat(2) says of an entry, as far as builds care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Directory, file, link, ...
    pub kind: FileType,
    /// Permission bits, set-id bits and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// When the content changed.
    pub mtime: Timestamp,
    /// When the inode changed: nanoseconds since 1970, which wrap around. To be compared, not shown.
    pub ctime: i64,
    /// The inode's number.
    pub inode: u64,
    /// Of the device the entry is on.
    pub device: (u32, u32),
    /// Of a device node.
    pub node: (u32, u32),
    /// How many names it has.
    pub links: u32,
}

impl Metadata {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }
}

/// A tree to look into.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
}

impl View {
    /// Looks into a directory.
    pub fn open(path: &std::path::Path) -> io::Result<Self> {
        let root = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root })
    }

    /// Looks into a directory that is open.
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Looks into what overlay makes of these layers, the uppermost first. The mount is attached
    /// nowhere and ends with the view.
    pub fn overlay(lower: &[Lower]) -> io::Result<Self> {
        let overlay = Overlay { lower, upper: None, volatile: false };
        Ok(Self { root: overlay::mount_apart(overlay)? })
    }

    /// The directory itself.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens the entry at a path without links on its way, see [`View::resolve`].
    pub fn open_at(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        Ok(rustix::fs::openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        )?)
    }

    /// Tells what is at a path without links on its way; `None` when nothing is.
    pub fn metadata(&self, path: &[u8]) -> io::Result<Option<Metadata>> {
        let opened = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW);
        match opened {
            Ok(entry) => metadata_at(entry.as_fd(), b"", AtFlags::EMPTY_PATH).map(Some),
            Err(error) if is_absent(&error) => Ok(None),
            // The last component is a link: openat2 refuses it even with O_PATH | O_NOFOLLOW.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                let (parent, name) = split(path);
                let parent = self.open_at(parent, OFlags::PATH | OFlags::DIRECTORY)?;
                metadata_at(parent.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).map(Some)
            }
            Err(error) => Err(error),
        }
    }

    /// The text of the link at a path without links on its way.
    pub fn read_link(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let (parent, name) = split(path);
        let parent = self.open_at(parent, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(rustix::fs::readlinkat(&parent, name, Vec::new())?.into_bytes())
    }

    /// Follows all links on a path's way, the last component's too; returns a path without links,
    /// which may not exist.
    pub fn resolve(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        resolve(path, &mut |path| match self.metadata(path)? {
            Some(metadata) if metadata.kind == FileType::Symlink => Ok(Some(self.read_link(path)?)),
            _ => Ok(None),
        })
    }

    /// Reads a small file, links on its way followed; `None` when there is none.
    pub fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.resolve(path.as_bytes())?;
        match self.open_at(&path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => {
                let mut bytes = Vec::new();
                io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes)?;
                Ok(Some(bytes))
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Tells what is at `name` in `dir`.
pub fn metadata_at(dir: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> io::Result<Metadata> {
    let stat = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?;
    let time = |time: rustix::fs::StatxTimestamp| Timestamp {
        seconds: time.tv_sec,
        nanoseconds: time.tv_nsec,
    };
    Ok(Metadata {
        kind: FileType::from_raw_mode(stat.stx_mode.into()),
        mode: stat.stx_mode & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: stat.stx_size,
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime).wrapping_nanoseconds(),
        inode: stat.stx_ino,
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        node: (stat.stx_rdev_major, stat.stx_rdev_minor),
        links: stat.stx_nlink,
    })
}

/// The extended attributes of an open file or directory, without overlay's own and the machine's
/// labels; a file system that has none has no attributes.
pub fn xattrs(file: BorrowedFd<'_>) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    // Nearly all have none.
    if let Ok(0) | Err(Errno::NOTSUP) = flistxattr_query(file) {
        return Ok(BTreeMap::new());
    }
    let names = whole(|buffer| flistxattr(file, buffer))?;
    let foreign = |name: &[u8]| {
        let kinds: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"security.selinux"];
        kinds.iter().any(|kind| name.starts_with(kind))
    };
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !foreign(name));
    names.map(|name| Ok((name.to_vec(), whole(|buffer| fgetxattr(file, name, buffer))?))).collect()
}

/// Reads with a buffer that grows until the answer fits.
fn whole(
    mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Err(Errno::RANGE) => buffer.resize(buffer.len() * 4, 0),
            length => {
                buffer.truncate(length?);
                return Ok(buffer);
            }
        }
    }
}

/// Splits a clean path into its directory and its last component.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Appends a component to a clean path; the root is empty.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Tells the text of the link at a path, or that there is none.
pub type LinkAt<'a, E> = dyn FnMut(&[u8]) -> Result<Option<Vec<u8>>, E> + 'a;

/// Follows all links of a path in a tree of which `link_at` tells the text of the link at a path.
/// `..` above the root stays at the root, as in the kernel.
pub fn resolve<E: From<io::Error>>(path: &[u8], link_at: &mut LinkAt<'_, E>) -> Result<Vec<u8>, E> {
    let mut reached: Vec<u8> = Vec::new();
    let mut rest: Vec<Vec<u8>> = components(path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        match name.as_slice() {
            b"." => {}
            b".." => reached.truncate(split(&reached).0.len()),
            _ => {
                let next = join(&reached, &name);
                let Some(target) = link_at(&next)? else {
                    reached = next;
                    continue;
                };
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::from(rustix::io::Errno::LOOP).into());
                }
                if target.starts_with(b"/") {
                    reached.clear();
                }
                rest.extend(components(&target));
            }
        }
    }
    Ok(reached)
}

/// The components of a path, the last one first.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    let mut parts: Vec<_> = parts.map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_path_leads_out_of_a_tree() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path();
        std::fs::create_dir_all(root.join("real/deep")).expect("mkdir");
        std::fs::write(root.join("real/deep/file"), "inside").expect("write");
        symlink("/real", root.join("absolute")).expect("symlink");
        symlink("../../../../real", root.join("real/up")).expect("symlink");
        symlink("loop", root.join("loop")).expect("symlink");
        let view = View::open(root).expect("open");
        for (path, expected) in [
            ("absolute/deep/file", "real/deep/file"),
            ("/real/up/deep/file", "real/deep/file"),
            ("../../etc/passwd", "etc/passwd"),
            ("real/../absolute", "real"),
            ("absent/below", "absent/below"),
            ("/", ""),
        ] {
            let resolved = view.resolve(path.as_bytes()).expect("resolve");
            assert_eq!(String::from_utf8_lossy(&resolved), expected, "{path}");
        }
        assert!(view.resolve(b"loop").is_err());
        assert_eq!(view.read("absolute/deep/file").expect("read").as_deref(), Some(&b"inside"[..]));
        assert_eq!(view.read("etc/passwd").expect("read"), None);
    }

    #[test]
    fn attributes_are_read_but_for_overlays_own() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("file");
        std::fs::write(&path, "").expect("write");
        let create = rustix::fs::XattrFlags::CREATE;
        for name in ["user.colour", "trusted.overlay.opaque"] {
            rustix::fs::setxattr(&path, name, b"green", create).expect("set");
        }
        let file = std::fs::File::open(&path).expect("open");
        let expected = BTreeMap::from([(b"user.colour".to_vec(), b"green".to_vec())]);
        assert_eq!(xattrs(file.as_fd()).expect("read"), expected);
    }

    #[test]
    fn what_is_at_a_link_is_the_link() {
        let dir = tempfile::tempdir().expect("tempdir");
        symlink("target", dir.path().join("link")).expect("symlink");
        let view = View::open(dir.path()).expect("open");
        let metadata = view.metadata(b"link").expect("stat").expect("present");
        assert_eq!(metadata.kind, FileType::Symlink);
        assert_eq!(view.read_link(b"link").expect("readlink"), b"target");
        assert_eq!(view.metadata(b"nothing/here").expect("stat"), None);
    }
}
