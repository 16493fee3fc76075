//! `--init`: process 1 of a container that only passes signals on and reaps.
//!
//! What it does is what tini does as docker's `docker-init`: the program is its child, in a group
//! of its own that has the terminal; when that ends, so does the container, with the same code.

use std::convert::Infallible;
use std::fs::File;
use std::io::Read;

use rustix::process::{Pid, WaitOptions};

use super::wire::{AtStep, Failure};
use crate::sys::process::{Forked, close_all_but, fork, reset_signals, send_signal};
use crate::sys::signal::signal_fd;

/// Signals that tell of a fault of this process itself.
const FAULTS: [i32; 7] = [
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// The size of `struct signalfd_siginfo`; its first four bytes are the signal's number.
const RECORD: usize = 128;

/// Runs `become_program` in a child and stays; returns in the child only.
pub(super) fn run(
    become_program: impl FnOnce() -> Result<Infallible, Failure>,
) -> Result<Infallible, Failure> {
    // A namespace shared with others has another process 1.
    if rustix::process::getpid() != Pid::INIT {
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    }
    // Before the child is there, so that no signal is lost.
    let all = 1..=libc::SIGRTMAX();
    let signals: Vec<i32> = all.filter(|number| !FAULTS.contains(number)).collect();
    let pending = signal_fd(&signals).at(|| "take the container's signals")?;
    match fork().at(|| "start the program below the container's init")? {
        Forked::Child => {
            drop(pending);
            lead_group();
            reset_signals();
            become_program()
        }
        // What we have open beside it, the launching process waits for the end of.
        Forked::Parent(child) => stay(child, File::from(close_all_but(pending))),
    }
}

/// Puts this process in a group of its own, in the foreground of the terminal if there is one.
fn lead_group() {
    let _ = rustix::process::setpgid(None, None);
    // SIGTTOU, which stops a process in the background that does this, is blocked.
    let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpgrp());
}

fn stay(child: Pid, mut pending: File) -> ! {
    let mut record = [0; RECORD];
    loop {
        if pending.read_exact(&mut record).is_err() {
            std::process::exit(125);
        }
        match i32::from_ne_bytes([record[0], record[1], record[2], record[3]]) {
            libc::SIGCHLD => {
                if let Some(code) = reap(child) {
                    std::process::exit(code);
                }
            }
            libc::SIGTTIN | libc::SIGTTOU => {}
            // The program may have ended by now.
            number => drop(send_signal(child, number)),
        }
    }
}

/// Reaps all that have ended; the exit code of the program if it was among them.
fn reap(child: Pid) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == child {
            let killed = status.terminating_signal().map_or(0, |signal| 128 + signal);
            code = Some(status.exit_status().unwrap_or(killed));
        }
    }
    code
}
