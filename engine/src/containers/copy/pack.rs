//! What is copied, as an archive.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use cache::layer::walk::{HardLinks, Next, walk};
use cache::layer::writer::LayerWriter;
use cache::layer::{self, Entry, Kind};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

use super::{Copied, Error};
use crate::view::join;

/// Ends an archive whose files have so many bytes.
pub(super) fn finish(tar: LayerWriter<impl Write>, content: u64) -> Result<Copied, Error> {
    // Two blocks of zeros follow.
    let transferred = tar.position() + 1024;
    tar.finish()?;
    Ok(Copied { content, transferred })
}

/// A file's content; the kernel's own files have some though they say that they have none.
pub(super) fn append_file(
    tar: &mut LayerWriter<impl Write>,
    entry: &mut Entry,
    file: &mut std::fs::File,
    size: u64,
) -> io::Result<Result<u64, Error>> {
    const MOST: u64 = 1 << 20;
    entry.kind = Kind::File { size };
    if size > 0 {
        return Ok(tar.append(entry, file).map(|()| size).map_err(Error::from));
    }
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    let size = bytes.len() as u64;
    entry.kind = Kind::File { size };
    Ok(tar.append(entry, bytes.as_slice()).map(|()| size).map_err(Error::from))
}

/// Packs what is in a directory under a prefix; returns how many bytes its files have. Sockets, and
/// what is in the kernel's own file systems, are left out.
pub(super) fn pack_below(
    dir: BorrowedFd<'_>,
    prefix: &[u8],
    tar: &mut LayerWriter<impl Write>,
) -> Result<u64, Error> {
    let mut links = HardLinks::default();
    let mut content = 0;
    walk(dir, |found| -> Result<Next, layer::Error> {
        let Some(mut entry) = found.entry()? else { return Ok(Next::Skip) };
        entry.path = join(prefix, found.path());
        entry.xattrs.retain(|name, _| !name.starts_with(b"trusted.overlay."));
        if let Some(first) = links.seen(found) {
            entry.kind = Kind::Hardlink(join(prefix, first));
            entry.xattrs.clear();
        }
        content += entry.size();
        if entry.size() > 0 {
            tar.append(&entry, found.open()?)?;
        } else {
            tar.append(&entry, io::empty())?;
        }
        let kernels = entry.kind == Kind::Directory && is_kernels(found.directory(), found.name());
        Ok(if kernels { Next::Skip } else { Next::Enter })
    })?;
    Ok(content)
}

/// Whether something is mounted there whose files are made up as they are read.
fn is_kernels(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    const PROC: u64 = 0x9fa0;
    const SYSFS: u64 = 0x6265_6572;
    const CGROUP: u64 = 0x0027_e0eb;
    const CGROUP2: u64 = 0x6367_7270;
    let flags = StatxFlags::BASIC_STATS;
    let stat = rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, flags);
    let root = rustix::fs::StatxAttributes::MOUNT_ROOT;
    if !stat.is_ok_and(|stat| stat.stx_attributes.contains(root)) {
        return false;
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let system = rustix::fs::openat(dir, name, flags, Mode::empty())
        .and_then(|opened| rustix::fs::fstatfs(&opened));
    system.is_ok_and(|it| [PROC, SYSFS, CGROUP, CGROUP2].contains(&(it.f_type as u64)))
}
