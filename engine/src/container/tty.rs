//! The user's terminal and a container's: raw mode, window size, and what goes to and fro.
//!
//! Knows nothing of containers beyond the master side of their terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// As much as is moved at once.
const CHUNK: usize = 16 << 10;

/// A terminal that passes on every key as it is typed, until this is dropped.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Sets a terminal to raw mode; what is no terminal is left alone.
    pub fn set(terminal: impl AsFd) -> io::Result<Option<RawMode>> {
        let before = match tcgetattr(&terminal) {
            Err(Errno::NOTTY) => return Ok(None),
            attributes => attributes?,
        };
        let mut raw = before.clone();
        raw.make_raw();
        let terminal = rustix::io::fcntl_dupfd_cloexec(terminal, 3)?;
        tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(Some(RawMode { terminal, before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Gives one terminal the window size of another; what is no terminal has none to give.
pub fn copy_window_size(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    match tcgetwinsize(from) {
        Err(Errno::NOTTY) => Ok(()),
        size => Ok(tcsetwinsize(to, size?)?),
    }
}

/// Relays between the user's terminal and a container's until the container has closed its own.
///
/// Without `input` nothing is sent. Whenever the user's terminal changes its size the container's
/// is made the same: `resized` is a descriptor that becomes readable then, such as a `signalfd` or
/// the end of a pipe that a SIGWINCH handler writes to.
pub fn relay(
    input: Option<BorrowedFd<'_>>,
    output: BorrowedFd<'_>,
    master: BorrowedFd<'_>,
    resized: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    copy_window_size(output, master)?;
    // A container that does not read must not keep us from showing what it writes.
    rustix::io::ioctl_fionbio(master, true)?;
    let mut relay = Relay { input, pending: Vec::new() };
    loop {
        let ready = relay.wait(master, resized)?;
        if ready.resized {
            if let Some(resized) = resized {
                rustix::io::read(resized, &mut [0; 256])?;
            }
            copy_window_size(output, master)?;
        }
        if ready.input {
            relay.read_input()?;
        }
        if ready.writable {
            relay.send(master)?;
        }
        if ready.output && !pass_on(master, output)? {
            return Ok(());
        }
    }
}

/// What the user typed and the container has not yet taken.
struct Relay<'a> {
    input: Option<BorrowedFd<'a>>,
    pending: Vec<u8>,
}

/// What can be done without waiting.
struct Ready {
    input: bool,
    output: bool,
    writable: bool,
    resized: bool,
}

impl Relay<'_> {
    fn wait(&self, master: BorrowedFd<'_>, resized: Option<BorrowedFd<'_>>) -> io::Result<Ready> {
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, !self.pending.is_empty());
        let mut polled = vec![PollFd::from_borrowed_fd(master, interest)];
        // A container that does not read holds up the user's keys, not our memory.
        let input = self.input.filter(|_| self.pending.is_empty());
        for fd in input.iter().chain(&resized) {
            polled.push(PollFd::from_borrowed_fd(*fd, PollFlags::IN));
        }
        match poll(&mut polled, None) {
            Err(Errno::INTR) | Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |index: usize| {
            polled.get(index).is_some_and(|fd| {
                fd.revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            })
        };
        let after_input = 1 + usize::from(input.is_some());
        Ok(Ready {
            input: input.is_some() && is_ready(1),
            output: is_ready(0),
            writable: polled[0].revents().contains(PollFlags::OUT),
            resized: resized.is_some() && is_ready(after_input),
        })
    }

    fn read_input(&mut self) -> io::Result<()> {
        let Some(input) = self.input else {
            return Ok(());
        };
        let mut bytes = [0; CHUNK];
        match rustix::io::read(input, &mut bytes) {
            // The user's side has ended; for the container that is the end-of-file character.
            Ok(0) | Err(Errno::IO) => {
                self.input = None;
                self.pending.push(4);
            }
            Ok(length) => self.pending.extend_from_slice(&bytes[..length]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// Sends what the container takes now.
    fn send(&mut self, master: BorrowedFd<'_>) -> io::Result<()> {
        match rustix::io::write(master, &self.pending) {
            Ok(written) => drop(self.pending.drain(..written)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody has the container's side open any more.
            Err(Errno::IO) => self.pending.clear(),
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

/// Passes on what the container wrote; false when it has closed its side.
fn pass_on(master: BorrowedFd<'_>, output: BorrowedFd<'_>) -> io::Result<bool> {
    let mut bytes = [0; CHUNK];
    let length = match rustix::io::read(master, &mut bytes) {
        Ok(0) | Err(Errno::IO) => return Ok(false),
        Err(Errno::INTR | Errno::AGAIN) => return Ok(true),
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
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

    use super::*;

    #[test]
    fn what_is_typed_arrives_and_what_is_written_comes_back() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        drop(RawMode::set(&slave).unwrap().expect("a terminal"));
        let (input, typed) = rustix::pipe::pipe().unwrap();
        let (shown, output) = rustix::pipe::pipe().unwrap();
        std::fs::File::from(typed).write_all(b"hello\n").unwrap();
        let program = std::thread::spawn(move || {
            let mut line = [0; 64];
            let length = rustix::io::read(&slave, &mut line).unwrap();
            rustix::io::write(&slave, b"got it").unwrap();
            line[..length].to_vec()
        });
        relay(Some(input.as_fd()), output.as_fd(), master.as_fd(), None).unwrap();
        assert_eq!(program.join().unwrap(), b"hello\n");
        drop(output);
        let mut text = String::new();
        io::Read::read_to_string(&mut std::fs::File::from(shown), &mut text).unwrap();
        assert!(text.ends_with("got it"), "{text:?}");
    }
}
