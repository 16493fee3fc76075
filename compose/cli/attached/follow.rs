//! One container's lines, from its log or as they come, until it has ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard};

use cache::Store;
use compose::apply::Cancel;
use engine::containers::follow::{Follower, Next, Range};
use engine::containers::{Client, Containers};
use rustix::event::{PollFd, PollFlags};

use crate::interrupt::News;
use crate::passing::{Passing, Told};
use crate::printer::Printer;

/// What each thread has.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) root: PathBuf,
    pub(super) printer: Arc<Printer>,
    pub(super) stop: Arc<Cancel>,
    pub(super) news: Sender<News>,
    /// The logs of containers that have ended, by their ids, each read as far as it was. What a container prints that is
    /// started again at once may have been read with what it printed last.
    pub(super) read: Arc<Mutex<BTreeMap<String, Follower>>>,
}

impl Watch {
    /// Prints a container's lines, if they have a name, until it has ended; how it has. None if nobody wants to know any
    /// more. `restarts` hears how it has ended whenever it is started again.
    pub(super) fn follow(
        &self,
        id: &str,
        label: Option<&str>,
        (since, output): (Option<jiff::Timestamp>, Option<Client>),
        restarts: &dyn Fn(i32),
    ) -> anyhow::Result<Option<i32>> {
        let store = Store::open(&self.root)?;
        let containers = Containers::open(&store)?;
        let mut lines = match output {
            Some(client) => Lines::Passing(Passing::of(client)?),
            None => self.open(&containers, id, since)?,
        };
        let mut is_stopped = false;
        loop {
            // First: what it printed until then is there to be read. A log does not tell of it.
            let codes = match &mut lines {
                Lines::Kept(follower) => follower.take_restarts(),
                Lines::Passing(_) => Vec::new(),
            };
            while let Some(told) = lines.next()? {
                match (told, label) {
                    (Told::Line(stream, time, line), Some(label)) => {
                        self.printer.print(label, stream, time, &line);
                    }
                    (Told::Line(..), None) => {}
                    (Told::Restarts(code), _) => restarts(code),
                }
            }
            codes.into_iter().for_each(restarts);
            let next = match (is_stopped, &mut lines) {
                (false, lines) => lines.wait(PollFd::new(&*self.stop, PollFlags::IN))?,
                // What was printed until then is shown.
                (true, Lines::Passing(passing)) if !is_active(&containers, id) => {
                    passing.wait_for_rest()?
                }
                (true, _) => Next::Stopped,
            };
            match next {
                Next::More => {}
                Next::Stopped if is_stopped => return Ok(None),
                Next::Stopped => is_stopped = true,
                Next::Over => break,
            }
        }
        // One that was removed when it ended is not there to be asked.
        let code = lines.exit().or_else(|| Some(containers.observe(id).ok()?.state.exit_code));
        if let Lines::Kept(follower) = lines {
            self.read().insert(id.to_owned(), follower);
        }
        Ok(Some(code.unwrap_or_default()))
    }

    /// A container's lines, from where they were read to, or from a time on.
    fn open(
        &self,
        containers: &Containers<'_>,
        id: &str,
        since: Option<jiff::Timestamp>,
    ) -> anyhow::Result<Lines> {
        if containers.record(id)?.host_config.log_config.kind == "none" {
            return Ok(Lines::Passing(Passing::open(containers, id)?));
        }
        let read = self.read().remove(id);
        let mut follower = match read {
            Some(follower) => follower,
            None => Follower::open(containers, id, Range { since, ..Range::default() })?,
        };
        follower.follow(containers)?;
        Ok(Lines::Kept(follower))
    }

    /// Forgets how far the log of a container was read, which is not followed now.
    pub(super) fn forget(&self, id: &str) {
        self.read().remove(id);
    }

    fn read(&self) -> MutexGuard<'_, BTreeMap<String, Follower>> {
        self.read.lock().expect("no holder panics")
    }
}

fn is_active(containers: &Containers<'_>, id: &str) -> bool {
    containers.observe(id).is_ok_and(|seen| seen.state.status.is_active())
}

/// What a container prints.
enum Lines {
    /// As its log has it.
    Kept(Follower),
    /// As it comes.
    Passing(Passing),
}

impl Lines {
    fn next(&mut self) -> anyhow::Result<Option<Told>> {
        match self {
            Lines::Kept(follower) => {
                let line = follower.next_line()?;
                Ok(line.map(|line| Told::Line(line.stream, line.time, line.text.into_bytes())))
            }
            Lines::Passing(passing) => Ok(passing.next()),
        }
    }

    fn wait(&mut self, stop: PollFd<'_>) -> anyhow::Result<Next> {
        match self {
            Lines::Kept(follower) => Ok(follower.wait(stop)?),
            Lines::Passing(passing) => passing.wait(stop),
        }
    }

    fn exit(&self) -> Option<i32> {
        match self {
            Lines::Kept(follower) => follower.exit(),
            Lines::Passing(passing) => passing.exit(),
        }
    }
}
