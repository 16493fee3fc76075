//! Extended attributes of anything in a directory, links and devices included.
//!
//! Linux before 6.13 has no call for this that takes a directory and a name; `/proc/self/fd` is
//! the way to say so, and as safe: the directory is a descriptor, the name is not followed.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{
    XattrFlags, fgetxattr, flistxattr, lgetxattr, llistxattr, lremovexattr, lsetxattr,
};
use rustix::io::{Errno, Result};

/// Values by names.
type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// Attributes of this kind are labels of the machine, not of the tree.
const SELINUX: &[u8] = b"security.selinux";

/// Returns all attributes of `name` in `directory`; none where the file system has none.
pub(super) fn get_all(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Attributes> {
    let path = proc_path(directory, name);
    collect(|buffer| llistxattr(&path, buffer), |name, buffer| lgetxattr(&path, name, buffer))
}

/// Returns all attributes of an open file; none where the file system has none.
pub(super) fn get_all_of(file: BorrowedFd<'_>) -> Result<Attributes> {
    collect(|buffer| flistxattr(file, buffer), |name, buffer| fgetxattr(file, name, buffer))
}

fn collect(
    list: impl FnMut(&mut [u8]) -> Result<usize>,
    mut get: impl FnMut(&[u8], &mut [u8]) -> Result<usize>,
) -> Result<Attributes> {
    let names = match with_growing_buffer(list) {
        Err(Errno::OPNOTSUPP) => Vec::new(),
        names => names?,
    };
    let mut attributes = BTreeMap::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty() && *name != SELINUX) {
        match with_growing_buffer(|buffer| get(name, buffer)) {
            Ok(value) => drop(attributes.insert(name.to_vec(), value)),
            // Removed meanwhile, or listed but not ours to read.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(attributes)
}

/// Sets an attribute of `name` in `directory`.
pub(super) fn set(
    directory: BorrowedFd<'_>,
    name: &[u8],
    attribute: &[u8],
    value: &[u8],
) -> Result<()> {
    lsetxattr(proc_path(directory, name), attribute, value, XattrFlags::empty())
}

/// Removes an attribute of `name` in `directory`.
pub(super) fn remove(directory: BorrowedFd<'_>, name: &[u8], attribute: &[u8]) -> Result<()> {
    lremovexattr(proc_path(directory, name), attribute)
}

/// Returns whether the attribute is one of overlay's own marks, which no layer may carry.
pub(crate) fn is_overlay_mark(attribute: &[u8]) -> bool {
    attribute.starts_with(b"trusted.overlay.") || attribute.starts_with(b"user.overlay.")
}

fn proc_path(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    path
}

fn with_growing_buffer(mut call: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    // Nearly everything has no attributes at all or a few bytes of them.
    let mut small = [0; 256];
    match call(&mut small) {
        Ok(count) => return Ok(small[..count].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    // The kernel allows no value and no list beyond 64 KiB.
    let mut large = vec![0; 64 * 1024];
    let count = call(&mut large)?;
    large.truncate(count);
    Ok(large)
}
