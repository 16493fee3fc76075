//! Follows what a container prints: its log, from where it is wanted to the container's end.
//!
//! Whoever reads has a [`Follower`] of his own; several may follow one container, each in its thread.
//! What they say is that there is more, they neither start threads nor print.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags};

use super::log::{self, Line, LogReader};
use super::protocol::{Frame, Request};
use super::{Client, Containers, Error, Result};
use crate::changes::{self, Changes};

/// Which lines are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Of what was printed already only so many lines; all without.
    pub tail: Option<usize>,
    /// None that was printed before.
    pub since: Option<Timestamp>,
    /// None that was printed after.
    pub until: Option<Timestamp>,
}

/// What came of waiting for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There may be more.
    More,
    /// There will be no more.
    Over,
    /// The caller's own descriptor is ready.
    Stopped,
}

/// Reads a container's log, and waits for what comes.
pub struct Follower {
    id: String,
    dir: PathBuf,
    reader: LogReader,
    range: Range,
    /// As long as it is followed and has not ended.
    life: Option<Life>,
    /// Whether what follows is not wanted any more.
    is_past: bool,
    exit: Option<i32>,
    /// The codes it has ended with since somebody asked, and was started again.
    restarts: Vec<i32>,
}

/// A container that runs, and the directory of its log.
struct Life {
    client: Client,
    changes: Changes,
}

impl Follower {
    /// Reads a container's log, without following it.
    pub fn open(containers: &Containers<'_>, id: &str, range: Range) -> Result<Follower> {
        if !log::Plan::parse(&containers.record(id)?.host_config.log_config)?.kept {
            let text = "configured logging driver does not support reading";
            return Err(Error::Refused(text.to_owned()));
        }
        let dir = containers.dir(id);
        let reader = LogReader::open(&dir, id, range.tail);
        let reader = reader.map_err(|source| Error::ReadLog { id: id.to_owned(), source })?;
        let id = id.to_owned();
        let (is_past, restarts) = (false, Vec::new());
        Ok(Follower { id, dir, reader, range, life: None, is_past, exit: None, restarts })
    }

    /// Goes on until the container has ended; false if it does not run. One that its policy starts
    /// again has not ended. A container that has ended and was started anew can be followed again:
    /// no line is lost or told twice.
    pub fn follow(&mut self, containers: &Containers<'_>) -> Result<bool> {
        self.life = match Client::connect(containers, &self.id, Request::Wait)? {
            Some(client) => {
                let changes = Changes::watch(&self.dir);
                let id = self.id.clone();
                let changes = changes.map_err(|source| Error::WatchLog { id, source })?;
                Some(Life { client, changes })
            }
            None => None,
        };
        self.exit = None;
        Ok(self.life.is_some())
    }

    /// A line that is there and is wanted; none if there is no more for now.
    pub fn next_line(&mut self) -> Result<Option<Line>> {
        while !self.is_past {
            let line = match self.reader.next_line() {
                // It was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                line => line.map_err(|source| Error::ReadLog { id: self.id.clone(), source })?,
            };
            let Some(line) = line else { return Ok(None) };
            self.is_past = self.range.until.is_some_and(|until| line.time > until);
            if !self.is_past && self.range.since.is_none_or(|since| line.time >= since) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Waits, when there is no more for now, until there may be, or `stop` is ready.
    pub fn wait(&mut self, stop: PollFd<'_>) -> Result<Next> {
        let Some(life) = self.life.as_mut().filter(|_| !self.is_past) else {
            return Ok(Next::Over);
        };
        let left = self.range.until.map(|until| until.duration_since(Timestamp::now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        let mut over = left == Some(Duration::ZERO);
        if !over {
            let client = PollFd::from_borrowed_fd(life.client.as_fd(), PollFlags::IN);
            let waited = changes::wait([client, changes::readable(&life.changes), stop], left);
            let [told, changed, stopped] =
                waited.map_err(|source| Error::WatchLog { id: self.id.clone(), source })?;
            if stopped {
                return Ok(Next::Stopped);
            }
            if changed {
                life.changes.forget();
            }
            if told {
                (over, self.exit) = life.end(&mut self.restarts)?;
            }
        }
        if over {
            // What was printed before the end may not have been read yet.
            self.life = None;
        }
        Ok(Next::More)
    }

    /// Takes the codes that it has ended with and was started again, by its policy or by somebody.
    pub fn take_restarts(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.restarts)
    }

    /// How the container ended that was followed; none if it has not, or nobody knows.
    pub fn exit(&self) -> Option<i32> {
        self.exit
    }
}

impl Life {
    /// Whether the container has ended, and how.
    fn end(&mut self, restarts: &mut Vec<i32>) -> Result<(bool, Option<i32>)> {
        let open = self.client.fill()?;
        while let Some(frame) = self.client.next_frame()? {
            match frame {
                Frame::Exited(code) | Frame::Failed(code, _) => return Ok((true, Some(code))),
                Frame::Restarts(code) => restarts.push(code),
                _ => {}
            }
        }
        Ok((!open, None))
    }
}
