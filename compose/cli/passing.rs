//! What a container prints, as it comes from its monitor, which has the program wait for who reads slowly: no line is
//! lost, whether a log is kept and how soon that is rotated.
//!
//! Nothing that was printed before is known.

use std::collections::VecDeque;

use anyhow::Context;
use engine::containers::follow::Next;
use engine::containers::log::Output;
use engine::containers::protocol::{Frame, Request};
use engine::containers::{Client, Containers, Error};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// A line that goes on for longer is shown in pieces: not everybody ends lines.
const LONGEST: usize = 16 << 20;

/// How long a monitor has to send on what its container has printed.
const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// The lines of a container.
pub(crate) struct Passing {
    client: Option<Client>,
    /// Lines that have not ended, of standard output and standard error.
    begun: [Vec<u8>; 2],
    told: VecDeque<Told>,
    exit: Option<i32>,
}

/// What a container tells.
pub(crate) enum Told {
    /// It has printed a line, or the end of one.
    Line(Output, Timestamp, Vec<u8>),
    /// It has ended so, and is started again.
    Restarts(i32),
}

impl Passing {
    /// The lines that come by a connection.
    pub(crate) fn of(client: Client) -> anyhow::Result<Passing> {
        let mut passing = Passing {
            client: Some(client),
            begun: Default::default(),
            told: VecDeque::new(),
            exit: None,
        };
        // What came with the word that it runs is in no socket any more, to be waited for.
        passing.take(true)?;
        Ok(passing)
    }

    /// The lines of a container that runs; none of one that does not.
    pub(crate) fn open(containers: &Containers<'_>, id: &str) -> anyhow::Result<Passing> {
        let request = Request::Attach { stdin: false, output: true, starter: false };
        match Client::connect(containers, id, request)? {
            Some(client) => Passing::of(client),
            None => Err(Error::NotRunning(id.to_owned()).into()),
        }
    }

    /// What has come; none if there is no more for now.
    pub(crate) fn next(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// Waits until there may be more of a container that has ended, but not for ever.
    pub(crate) fn wait_for_rest(&mut self) -> anyhow::Result<Next> {
        let Some(client) = &mut self.client else { return Ok(Next::Over) };
        let mut polled = [PollFd::from_borrowed_fd(client.as_fd(), PollFlags::IN)];
        match poll(&mut polled, Some(&PATIENCE)) {
            Ok(0) => return Ok(Next::Stopped),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Next::More),
            Err(errno) => return Err(errno).context("cannot wait for what it prints"),
        }
        let open = client.fill()?;
        self.take(open)?;
        Ok(Next::More)
    }

    /// Waits until there may be more, or `stop` is ready.
    pub(crate) fn wait(&mut self, stop: PollFd<'_>) -> anyhow::Result<Next> {
        let Some(client) = &mut self.client else { return Ok(Next::Over) };
        let mut polled = [PollFd::from_borrowed_fd(client.as_fd(), PollFlags::IN), stop];
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Next::More),
            Err(errno) => return Err(errno).context("cannot wait for what it prints"),
        }
        let [came, stopped] = polled.map(|fd| !fd.revents().is_empty());
        if stopped {
            return Ok(Next::Stopped);
        }
        if came {
            let open = client.fill()?;
            self.take(open)?;
        }
        Ok(Next::More)
    }

    /// Takes what has been received; there will be more if the connection is open.
    fn take(&mut self, mut open: bool) -> anyhow::Result<()> {
        while let Some(client) = &mut self.client
            && let Some(frame) = client.next_frame()?
        {
            match frame {
                Frame::Stdout(bytes) => self.add(Output::Stdout, &bytes),
                Frame::Stderr(bytes) => self.add(Output::Stderr, &bytes),
                Frame::Exited(code) | Frame::Failed(code, _) => {
                    (open, self.exit) = (false, Some(code));
                }
                Frame::Restarts(code) => {
                    self.end_lines();
                    self.told.push_back(Told::Restarts(code));
                }
                _ => {}
            }
        }
        if !open {
            self.client = None;
            self.end_lines();
        }
        Ok(())
    }

    /// How the container has ended; none if it has not, or nobody knows.
    pub(crate) fn exit(&self) -> Option<i32> {
        self.exit
    }

    /// Makes lines of what has come.
    fn add(&mut self, stream: Output, bytes: &[u8]) {
        let begun = &mut self.begun[usize::from(stream == Output::Stderr)];
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            begun.extend_from_slice(&rest[..=end]);
            rest = &rest[end + 1..];
            self.told.push_back(line(stream, std::mem::take(begun)));
        }
        begun.extend_from_slice(rest);
        if begun.len() > LONGEST {
            self.told.push_back(line(stream, std::mem::take(begun)));
        }
    }

    /// Makes lines also of what has no end: no more comes.
    fn end_lines(&mut self) {
        for (stream, begun) in [Output::Stdout, Output::Stderr].into_iter().zip(&mut self.begun) {
            if !begun.is_empty() {
                self.told.push_back(line(stream, std::mem::take(begun)));
            }
        }
    }
}

fn line(stream: Output, bytes: Vec<u8>) -> Told {
    Told::Line(stream, Timestamp::now(), bytes)
}
