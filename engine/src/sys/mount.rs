//! The part of the mount API that has no safe wrapper: `mount_setattr(2)`.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Mount attributes to set and to clear (`MOUNT_ATTR_*`), and a propagation type (`MS_PRIVATE`...).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
}

/// Changes the attributes of the mount at `path` below `dir`, or of all mounts there and below.
pub(crate) fn set_attributes(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    attributes: Attributes,
) -> Result<(), Errno> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    let request = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    // SAFETY: `path` is a C string and `request` a mount_attr whose size is passed; both outlive
    // the call, which only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const request,
            size_of::<libc::mount_attr>(),
        )
    };
    super::process::check(result).map(drop)
}
