//! Pipes between a process and our own streams. A process in a container never has a stream of ours
//! itself: through that it could read and write what it is not given, such as the rest of a file.
//!
//! Who makes them need not be who relays: our ends may have come from another process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::launch::{Stdio, Stream};
use super::streams::{CHUNK, Passed, Relayed, pass_on};

/// Our ends of a process's streams.
#[derive(Debug)]
pub struct Pipes {
    /// What the process reads is written here, if it reads anything.
    pub(crate) input: Option<OwnedFd>,
    /// What it writes is read here: its output, and its errors.
    pub(crate) outputs: [Option<OwnedFd>; 2],
}

impl Pipes {
    /// A process's streams, and our ends of them. Without `input` it has nothing to read.
    pub fn make(input: bool) -> io::Result<(Stdio, Pipes)> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let ((stdout, stdout_in), (stderr, stderr_in)) = (pipe()?, pipe()?);
        let mut theirs = Stdio::output(stdout_in, stderr_in);
        let mut ours = Pipes { input: None, outputs: [Some(stdout), Some(stderr)] };
        if input {
            let (read, write) = pipe()?;
            theirs.stdin = Stream::File(read);
            ours.input = Some(write);
        }
        for end in ours.input.iter().chain(ours.outputs.iter().flatten()) {
            rustix::io::ioctl_fionbio(end, true)?;
        }
        Ok((theirs, ours))
    }

    /// Relays until the process has ended, which makes `ended` readable, and all that it has written
    /// is passed on; what others still write then is not. Where nobody reads our output any more it
    /// is over at once.
    pub fn relay(
        mut self,
        input: BorrowedFd<'_>,
        outputs: [BorrowedFd<'_>; 2],
        ended: BorrowedFd<'_>,
    ) -> io::Result<Relayed> {
        let mut typed = Typed::default();
        loop {
            let ready = self.wait(&typed, input, ended)?;
            if ready.reader_gone {
                self.input = None;
            }
            if ready.input {
                typed.read(input)?;
            }
            if let Some(pipe) = &self.input
                && typed.send(pipe.as_fd())?
            {
                self.input = None;
            }
            for (pipe, output) in self.outputs.iter_mut().zip(outputs) {
                // Once it has ended there may be more than one piece.
                while let Some(end) = &*pipe {
                    match pass_on(end.as_fd(), output)? {
                        Passed::All => *pipe = None,
                        Passed::Unread => return Ok(Relayed::Unread),
                        Passed::Nothing => break,
                        Passed::Some if ready.ended => {}
                        Passed::Some => break,
                    }
                }
            }
            if ready.ended {
                return Ok(Relayed::Ended);
            }
        }
    }

    fn wait(
        &self,
        typed: &Typed,
        input: BorrowedFd<'_>,
        ended: BorrowedFd<'_>,
    ) -> io::Result<Ready> {
        let mut polled = vec![PollFd::from_borrowed_fd(ended, PollFlags::IN)];
        if let Some(pipe) = &self.input {
            // A process that does not read holds up what is typed, not our memory.
            let mut interest = PollFlags::empty();
            interest.set(PollFlags::OUT, !typed.pending.is_empty());
            polled.push(PollFd::new(pipe, interest));
            if typed.wants_more() {
                polled.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
            }
        }
        let inputs = polled.len();
        let outputs = self.outputs.iter().flatten();
        polled.extend(outputs.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut polled, None) {
            Err(Errno::INTR) | Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let happened =
            |index: usize| polled[..inputs].get(index).map_or(PollFlags::empty(), PollFd::revents);
        Ok(Ready {
            ended: !happened(0).is_empty(),
            reader_gone: happened(1).contains(PollFlags::ERR),
            input: !happened(2).is_empty(),
        })
    }
}

/// What happened, beside what the process wrote.
struct Ready {
    ended: bool,
    reader_gone: bool,
    input: bool,
}

/// What was typed and the process has not taken yet.
#[derive(Default)]
struct Typed {
    pending: Vec<u8>,
    is_over: bool,
}

impl Typed {
    fn wants_more(&self) -> bool {
        self.pending.is_empty() && !self.is_over
    }

    fn read(&mut self, input: BorrowedFd<'_>) -> io::Result<()> {
        self.pending.resize(CHUNK, 0);
        let read = rustix::io::read(input, &mut self.pending);
        self.pending.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            // Who started us without a standard input has typed nothing.
            Ok(0) | Err(Errno::BADF | Errno::IO) => self.is_over = true,
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// Sends what the process takes now; whether there is nothing more to come.
    fn send(&mut self, pipe: BorrowedFd<'_>) -> io::Result<bool> {
        if !self.pending.is_empty() {
            match rustix::io::write(pipe, &self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(Errno::PIPE) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(self.pending.is_empty() && self.is_over)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::thread;

    use super::*;

    /// What a process does with its streams.
    type Process = fn(File, File, File);

    fn file(stream: Stream) -> File {
        match stream {
            Stream::File(file) => file.into(),
            _ => File::open("/dev/null").unwrap(),
        }
    }

    /// Relays for a process; what it was sent comes from a thread, what it wrote to both.
    fn relayed(typed: Vec<u8>, process: Process) -> (Vec<u8>, Vec<u8>) {
        let (theirs, ours) = Pipes::make(true).unwrap();
        let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
        let ((input, keyboard), (screen, output), (log, errors)) = (pipe(), pipe(), pipe());
        let (ended, end) = pipe();
        thread::scope(|scope| {
            scope.spawn(move || File::from(keyboard).write_all(&typed));
            scope.spawn(move || {
                process(file(theirs.stdin), file(theirs.stdout), file(theirs.stderr));
                drop(end);
            });
            let read = |end: OwnedFd| {
                scope.spawn(move || {
                    let mut text = Vec::new();
                    File::from(end).read_to_end(&mut text).unwrap();
                    text
                })
            };
            let (shown, told) = (read(screen), read(log));
            ours.relay(input.as_fd(), [output.as_fd(), errors.as_fd()], ended.as_fd()).unwrap();
            drop((output, errors, input));
            (shown.join().unwrap(), told.join().unwrap())
        })
    }

    #[test]
    fn all_that_is_written_comes_out_where_it_belongs_and_all_that_is_typed_arrives() {
        let typed: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
        let (shown, told) = relayed(typed.clone(), |mut input, mut output, mut errors| {
            io::copy(&mut input, &mut output).unwrap();
            errors.write_all(b"done").unwrap();
        });
        assert!(shown == typed && told == b"done");
    }

    #[test]
    fn a_process_that_reads_nothing_ends_the_relay_when_it_ends() {
        let (shown, _) = relayed(vec![0; 1_000_000], |input, mut output, _| {
            drop(input);
            output.write_all(&[7; 300_000]).unwrap();
        });
        assert_eq!(shown.len(), 300_000);
    }

    #[test]
    fn what_nobody_reads_ends_the_relay_and_what_never_was_open_does_not() {
        let (theirs, ours) = Pipes::make(false).unwrap();
        let (screen, output) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (ended, end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        drop(screen);
        let null = File::open("/dev/null").unwrap();
        let mut printed = file(theirs.stdout);
        printed.write_all(b"for nobody").unwrap();
        // What is open for reading only is to a writer as one that is not open.
        let relay = |pipes: Pipes, outputs| pipes.relay(null.as_fd(), outputs, ended.as_fd());
        assert_eq!(relay(ours, [output.as_fd(), null.as_fd()]).unwrap(), Relayed::Unread);

        let (theirs, ours) = Pipes::make(false).unwrap();
        file(theirs.stderr).write_all(b"not shown").unwrap();
        drop((theirs.stdout, end));
        assert_eq!(relay(ours, [output.as_fd(), null.as_fd()]).unwrap(), Relayed::Ended);
    }
}
