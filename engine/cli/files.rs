//! Opens small files that the user names. Nobody waits here for a writer that never comes, nor reads
//! without an end. Does not know what is in the files.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::bail;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::OFlags;

/// Reads a file, up to one byte more than `most`: who gets that many knows that it is too long.
///
/// A pipe that a shell made (`<(command)`, given as `/dev/fd/63`) is read to its end. One with a
/// name is refused: opening it waits until somebody writes to it, and mostly nobody does.
pub(crate) fn read(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = fs_err::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        let link = fs_err::read_link(format!("/proc/self/fd/{}", file.file().as_raw_fd()))?;
        // A pipe without a name shows as `pipe:[number]`.
        if link.is_absolute() {
            bail!("{} is not a regular file", path.display());
        }
    }
    rustix::fs::fcntl_setfl(file.file(), OFlags::empty()).map_err(std::io::Error::from)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
