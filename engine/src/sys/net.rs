//! The calls that container networks need and rustix does not offer as safe ones.
//!
//! Knows neither bridges nor addresses: it has network namespaces and locks on single bytes.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::thread::UnshareFlags;

/// Moves the calling thread, and no other, into a new network namespace (`unshare(2)`).
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET alone changes which network the thread sees. It leaves the descriptor
    // table shared, which is what makes other flags of this call unsafe.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// Locks one byte of a file for its open file description (`fcntl_locking(2)`, F_OFD_SETLK).
///
/// Answers whether it was free. The file need not be long enough to have that byte. The kernel
/// drops the lock with the last descriptor, so nothing is left by a process that was killed.
pub(crate) fn lock_byte(file: impl AsFd, offset: u64) -> io::Result<bool> {
    let mut request = byte_range(libc::F_WRLCK, offset);
    match fcntl_lock(file, libc::F_OFD_SETLK, &mut request) {
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Gives back what `lock_byte` took.
pub(crate) fn unlock_byte(file: impl AsFd, offset: u64) -> io::Result<()> {
    let mut request = byte_range(libc::F_UNLCK, offset);
    fcntl_lock(file, libc::F_OFD_SETLK, &mut request)
}

/// Whether another open file description has the byte locked.
pub(crate) fn is_byte_locked(file: impl AsFd, offset: u64) -> io::Result<bool> {
    let mut request = byte_range(libc::F_WRLCK, offset);
    fcntl_lock(file, libc::F_OFD_GETLK, &mut request)?;
    Ok(request.l_type != libc::F_UNLCK as libc::c_short)
}

fn byte_range(kind: libc::c_int, offset: u64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: offset as libc::off_t,
        l_len: 1,
        // Open file description locks require it to be 0.
        l_pid: 0,
    }
}

fn fcntl_lock(file: impl AsFd, command: libc::c_int, request: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and the three lock
    // commands read and write one `flock`, which `request` is.
    match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, request as *mut libc::flock) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
