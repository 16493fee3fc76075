//! What a container prints of which no log is kept (`logging: {driver: none}`): as it comes, from its monitor.
//!
//! Nothing that was printed before is known.

use std::collections::VecDeque;

use anyhow::Context;
use engine::containers::follow::Next;
use engine::containers::log::{Line, Output};
use engine::containers::protocol::{Frame, Request};
use engine::containers::{Client, Containers, Error};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// The lines of a container.
pub(crate) struct Unlogged {
    client: Option<Client>,
    /// Lines that have not ended, of standard output and standard error.
    begun: [Vec<u8>; 2],
    lines: VecDeque<Line>,
    exit: Option<i32>,
}

impl Unlogged {
    /// The lines that come by a connection.
    pub(crate) fn of(client: Client) -> Unlogged {
        Unlogged {
            client: Some(client),
            begun: Default::default(),
            lines: VecDeque::new(),
            exit: None,
        }
    }

    /// The lines of a container that runs; none of one that does not.
    pub(crate) fn open(containers: &Containers<'_>, id: &str) -> anyhow::Result<Unlogged> {
        let request = Request::Attach { stdin: false, output: true, starter: false };
        match Client::connect(containers, id, request)? {
            Some(client) => Ok(Unlogged::of(client)),
            None => Err(Error::NotRunning(id.to_owned()).into()),
        }
    }

    /// A line that has come; none if there is no more for now.
    pub(crate) fn next_line(&mut self) -> Option<Line> {
        self.lines.pop_front()
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
            let mut open = client.fill()?;
            let mut frames = Vec::new();
            while let Some(frame) = client.next_frame()? {
                frames.push(frame);
            }
            for frame in frames {
                match frame {
                    Frame::Stdout(bytes) => self.add(Output::Stdout, &bytes),
                    Frame::Stderr(bytes) => self.add(Output::Stderr, &bytes),
                    Frame::Exited(code) | Frame::Failed(code, _) => {
                        (open, self.exit) = (false, Some(code));
                    }
                    _ => {}
                }
            }
            if !open {
                self.client = None;
                self.add(Output::Stdout, b"");
                self.add(Output::Stderr, b"");
            }
        }
        Ok(Next::More)
    }

    /// How the container has ended; none if it has not, or nobody knows.
    pub(crate) fn exit(&self) -> Option<i32> {
        self.exit
    }

    /// Makes lines of what has come; also of what has no end if no more comes.
    fn add(&mut self, stream: Output, bytes: &[u8]) {
        let begun = &mut self.begun[usize::from(stream == Output::Stderr)];
        begun.extend_from_slice(bytes);
        let mut line = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.lines.push_back(Line { text, stream, time: Timestamp::now() });
        };
        while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
            line(&begun.drain(..=end).collect::<Vec<u8>>());
        }
        if self.client.is_none() && !begun.is_empty() {
            line(&std::mem::take(begun));
        }
    }
}
