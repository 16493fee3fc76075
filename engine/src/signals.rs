//! Waits for the signals that ask a program to end, on a thread instead of in a handler.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `SIGINT`, as Ctrl-C sends it.
pub const INTERRUPT: i32 = libc::SIGINT;
/// `SIGTERM`.
pub const TERMINATE: i32 = libc::SIGTERM;
/// `SIGHUP`: the terminal is gone.
pub const HANG_UP: i32 = libc::SIGHUP;
/// `SIGWINCH`: the terminal has another size.
pub const RESIZE: i32 = libc::SIGWINCH;
/// `SIGQUIT`.
pub const QUIT: i32 = libc::SIGQUIT;

/// Lets all signals come again: whoever takes them keeps them from the programs that it starts or becomes. Called before
/// any is taken.
pub fn let_all_come() -> io::Result<()> {
    crate::sys::signal::unblock_all()
}

/// Has a program that is started with this command killed when the thread that starts it ends, also if that is killed.
/// Not for a command that this program becomes.
pub fn die_with_parent(command: &mut std::process::Command) -> &mut std::process::Command {
    crate::sys::process::die_with_parent(command)
}

/// Signals that are waited for.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Takes these signals from now on. Called before any other thread is started: the others
    /// inherit that they are blocked.
    pub fn take(signals: &[i32]) -> io::Result<Self> {
        Ok(Self { fd: crate::sys::signal::signal_fd(signals)? })
    }

    /// A descriptor that is readable while a signal is pending; who reads it takes the signal.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Waits for the next signal and returns its number.
    pub fn wait(&self) -> io::Result<i32> {
        // signalfd(2): a record of 128 bytes that begins with the number.
        let mut record = [0; 128];
        loop {
            match rustix::io::read(&self.fd, &mut record) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        Ok(i32::from_ne_bytes([record[0], record[1], record[2], record[3]]))
    }
}
