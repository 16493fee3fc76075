//! The user's terminal and a container's: raw mode, window size, what goes to and fro, and the keys
//! that end that.
//!
//! Knows nothing of containers beyond the master side of their terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::streams::{Passed, Relayed, pass_on};

/// As much of what is typed is taken at once.
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

/// The keys that end a connection and leave the program alone, and how many of them were typed last.
#[derive(Clone, Debug, Default)]
pub struct DetachKeys {
    keys: Vec<u8>,
    typed: usize,
}

impl DetachKeys {
    /// Waits for these keys in a row; for none if there are none.
    pub fn new(keys: Vec<u8>) -> DetachKeys {
        DetachKeys { keys, typed: 0 }
    }

    /// What of the bytes typed goes to the program now, and whether the last key was typed. Keys
    /// that may be the beginning of all are kept until it is known.
    pub fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.keys.get(self.typed) == Some(byte) {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    self.typed = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.typed]);
            self.typed = usize::from(self.keys.first() == Some(byte));
            if self.typed == 0 {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

/// The user's side of a relay.
#[derive(Debug)]
pub struct User<'a> {
    /// Where the user types; without it nothing is sent.
    pub input: Option<BorrowedFd<'a>>,
    /// Where the user looks.
    pub output: BorrowedFd<'a>,
    /// Readable whenever the user's terminal has changed its size, such as a `signalfd` or the end of
    /// a pipe that a SIGWINCH handler writes to.
    pub resized: Option<BorrowedFd<'a>>,
    /// The keys that end the relay.
    pub keys: DetachKeys,
}

/// Relays between the user's terminal and a container's until the container has closed its own, and
/// keeps the size of the container's that of the user's.
pub fn relay(user: User<'_>, master: BorrowedFd<'_>) -> io::Result<Relayed> {
    let (output, resized) = (user.output, user.resized);
    copy_window_size(output, master)?;
    // A container that does not read must not keep us from showing what it writes.
    rustix::io::ioctl_fionbio(master, true)?;
    let mut relay = Relay { user, pending: Vec::new(), left: false };
    loop {
        let ready = relay.wait(master)?;
        if ready.resized {
            if let Some(resized) = resized {
                rustix::io::read(resized, &mut [0; 256])?;
            }
            copy_window_size(output, master)?;
        }
        if ready.input {
            relay.read_input()?;
        }
        if ready.writable || relay.left {
            relay.send(master)?;
        }
        if relay.left {
            return Ok(Relayed::Left);
        }
        if ready.output {
            match pass_on(master, output)? {
                Passed::All => return Ok(Relayed::Ended),
                Passed::Unread => return Ok(Relayed::Unread),
                Passed::Some | Passed::Nothing => {}
            }
        }
    }
}

/// A relay, and what the user typed and the container has not yet taken.
struct Relay<'a> {
    user: User<'a>,
    pending: Vec<u8>,
    /// Whether the keys to leave were typed.
    left: bool,
}

/// What can be done without waiting.
struct Ready {
    input: bool,
    output: bool,
    writable: bool,
    resized: bool,
}

impl Relay<'_> {
    fn wait(&self, master: BorrowedFd<'_>) -> io::Result<Ready> {
        let resized = self.user.resized;
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, !self.pending.is_empty());
        let mut polled = vec![PollFd::from_borrowed_fd(master, interest)];
        // A container that does not read holds up the user's keys, not our memory.
        let input = self.user.input.filter(|_| self.pending.is_empty());
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
        let Some(input) = self.user.input else {
            return Ok(());
        };
        let mut bytes = [0; CHUNK];
        match rustix::io::read(input, &mut bytes) {
            // The user's side has ended; for the container that is the end-of-file character.
            Ok(0) | Err(Errno::IO) => {
                self.user.input = None;
                self.pending.push(4);
            }
            Ok(length) => {
                let (passed, left) = self.user.keys.filter(&bytes[..length]);
                self.pending.extend(passed);
                self.left = left;
            }
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
        let input = Some(input.as_fd());
        let user =
            User { input, output: output.as_fd(), resized: None, keys: DetachKeys::default() };
        assert_eq!(relay(user, master.as_fd()).unwrap(), Relayed::Ended);
        assert_eq!(program.join().unwrap(), b"hello\n");
        drop(output);
        let mut text = String::new();
        io::Read::read_to_string(&mut std::fs::File::from(shown), &mut text).unwrap();
        assert!(text.ends_with("got it"), "{text:?}");
    }

    #[test]
    fn keys_that_leave_are_kept_from_the_program_and_others_are_not() {
        let check = |keys: &[u8], typed: &[&[u8]], expected: &[u8], left: bool| {
            let mut filter = DetachKeys::new(keys.to_vec());
            let (mut passed, mut last) = (Vec::new(), false);
            for bytes in typed {
                let (more, is_last) = filter.filter(bytes);
                passed.extend(more);
                last = is_last;
            }
            assert_eq!((passed.as_slice(), last), (expected, left), "{keys:?} {typed:?}");
        };
        check(b"pq", &[b"abpqc"], b"ab", true);
        check(b"pq", &[b"p", b"q"], b"", true);
        check(b"pq", &[b"p", b"x", b"ppx", b"pp"], b"pxppxp", false);
        check(b"pq", &[b"ppq"], b"p", true);
        check(b"", &[b"pq"], b"pq", false);
    }
}
