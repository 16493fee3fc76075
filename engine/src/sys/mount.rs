//! The part of the mount API that has no safe wrapper: `mount_setattr(2)`, and namespaces.

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

/// Moves the calling thread, and no other, into a mount namespace of its own (`unshare(2)`), with
/// a root and a working directory of its own.
pub(crate) fn unshare_mounts() -> Result<(), Errno> {
    // SAFETY: CLONE_NEWNS (with the CLONE_FS that it implies) changes what paths mean to this
    // thread alone. It leaves the descriptor table shared, which is what makes other flags of this
    // call unsafe.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
}
