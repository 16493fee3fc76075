//! What goes from a process to whoever looks at it, by pipes or by a terminal.
//!
//! Knows nothing of what is typed.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// As much as is moved at once: what a pipe holds.
pub(super) const CHUNK: usize = 64 << 10;

/// How a relay between a process and a user ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// There is nothing more to come.
    Ended,
    /// The user typed the keys that leave the process alone.
    Left,
    /// Nobody takes what the process writes any more.
    Unread,
}

/// How much of what a process writes was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// A piece.
    Some,
    /// Nothing: there is none now.
    Nothing,
    /// All there will ever be.
    All,
    /// Less than there was: nobody reads it any more.
    Unread,
}

/// Passes on a piece of what a process has written, without waiting for it to write. An output that
/// never was open takes everything and shows nothing.
pub(super) fn pass_on(from: BorrowedFd<'_>, output: BorrowedFd<'_>) -> io::Result<Passed> {
    let mut bytes = [0; CHUNK];
    let length = match rustix::io::read(from, &mut bytes) {
        // The far side of a terminal is closed: `EIO`.
        Ok(0) | Err(Errno::IO) => return Ok(Passed::All),
        Err(Errno::INTR | Errno::AGAIN) => return Ok(Passed::Nothing),
        length => length?,
    };
    let mut rest = &bytes[..length];
    while !rest.is_empty() {
        match rustix::io::write(output, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&output, PollFlags::OUT)], None)?;
            }
            Err(Errno::BADF) => break,
            Err(Errno::PIPE) => return Ok(Passed::Unread),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Passed::Some)
}
