//! `logs --follow`: each container's lines until it has ended, and those of containers that are started meanwhile.
//!
//! Ends when all containers that were there have ended. One that had ended before is waited for: it may be started.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use anyhow::Context;
use cache::Store;
use compose::make::labels;
use engine::containers::follow::{Next, Range};
use engine::containers::{Containers, State, Status};
use engine::events::{self, Event};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags};

use super::{Log, Wanted, print_line};
use crate::ending::Ending;
use crate::home::Here;
use crate::printer::{Printer, label};
use crate::ui;

/// How long a container's state may take to say what comes after its end, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// What other threads tell.
enum News {
    /// Something happened to a container of the project.
    Event(Event),
    /// There is no more of a container's lines.
    Over(Box<Log>),
    /// Something cannot be read.
    Failed(anyhow::Error),
    /// Somebody wants this to end.
    Stopped,
}

/// What is done about a container.
enum Reading {
    /// A thread reads it.
    Now(Heard),
    /// It has ended, or never ran; what comes can be read on from here.
    Over(Box<Log>),
}

/// What was heard of a container since a thread began to read it. Its end is told when all of its lines are.
#[derive(Default)]
struct Heard {
    /// The exit codes with which it ended, of which none is told yet.
    ends: VecDeque<String>,
    /// How often it was started again after an end.
    starts: usize,
    /// Whether its policy is about to start it again, which is no end.
    restarts: bool,
}

/// What the threads have in common.
struct Following<'a> {
    here: &'a Here,
    wanted: &'a Wanted,
    printer: &'a Printer,
    ending: &'a Ending,
    news: Sender<News>,
}

/// The containers, as far as their events are known.
#[derive(Default)]
struct Known {
    /// Those that have not ended.
    awaited: BTreeSet<String>,
    readings: BTreeMap<String, Reading>,
}

/// Prints lines until there are no more, or somebody wants it to end.
pub(super) fn follow(
    here: &Here,
    wanted: &Wanted,
    printer: &Printer,
    ending: &Ending,
) -> anyhow::Result<ExitCode> {
    // First of all: what is started meanwhile is heard of then.
    let events = events::Follower::from_now(here.store.root())
        .context("cannot watch the events; perhaps fs.inotify.max_user_instances must be raised")?;
    let containers = here.containers()?;
    let mut logs = wanted.logs(&containers)?;
    super::print(&mut logs, printer)?;
    let (news, told) = channel();
    let following = Following { here, wanted, printer, ending, news };
    let mut known = Known::default();
    std::thread::scope(|scope| {
        let following = &following;
        scope.spawn(|| following.hear(events));
        for log in logs {
            known.awaited.insert(log.id.clone());
            known.read(following, scope, log, Heard::default());
        }
        let code = loop {
            if known.is_over() {
                break Ok(ExitCode::SUCCESS);
            }
            let seen = match told.recv() {
                Ok(News::Event(event)) => known.happened(following, scope, &containers, &event),
                Ok(News::Over(log)) => {
                    known.over(following, scope, &containers, *log);
                    Ok(())
                }
                Ok(News::Failed(error)) => Err(error),
                Ok(News::Stopped) | Err(_) => break Ok(ending.code()),
            };
            if let Err(error) = seen {
                break Err(error);
            }
        };
        ending.end();
        code
    })
}

impl Known {
    /// Whether there is nothing more to come.
    fn is_over(&self) -> bool {
        let is_read = |it: &Reading| matches!(it, Reading::Now(_));
        self.awaited.is_empty() && !self.readings.values().any(is_read)
    }

    /// Reads a container's log in a thread of its own.
    fn read<'scope>(
        &mut self,
        following: &'scope Following<'_>,
        scope: &'scope Scope<'scope, '_>,
        mut log: Log,
        heard: Heard,
    ) {
        self.readings.insert(log.id.clone(), Reading::Now(heard));
        scope.spawn(move || {
            let news = match following.print(&mut log) {
                Ok(()) => News::Over(Box::new(log)),
                Err(error) => News::Failed(error.context(format!("logs of {}", log.label))),
            };
            let _ = following.news.send(news);
        });
    }

    /// Sees to what happened to a container.
    fn happened<'scope>(
        &mut self,
        following: &'scope Following<'_>,
        scope: &'scope Scope<'scope, '_>,
        containers: &Containers<'_>,
        event: &Event,
    ) -> anyhow::Result<()> {
        let id = &event.actor.id;
        let attribute = |name: &str| event.actor.attributes.get(name).map_or("", String::as_str);
        let label = || label(&following.wanted.project, attribute("name"));
        let reading = self.readings.get_mut(id);
        match (event.action.as_str(), reading) {
            ("create", _) => drop(self.awaited.insert(id.clone())),
            ("destroy", _) => drop(self.awaited.remove(id)),
            ("start", Some(Reading::Now(heard))) => {
                self.awaited.insert(id.clone());
                heard.starts += usize::from(!std::mem::take(&mut heard.restarts));
            }
            ("start", _) => {
                self.awaited.insert(id.clone());
                let range = Range { until: following.wanted.range.until, ..Range::default() };
                let log = match self.readings.remove(id) {
                    Some(Reading::Over(log)) => Some(*log),
                    _ => Log::open(containers, id, label(), range)?,
                };
                if let Some(log) = log {
                    self.read(following, scope, log, Heard::default());
                }
            }
            ("die", Some(Reading::Now(heard))) => {
                let code = attribute("exitCode");
                if starts_again(containers, event) {
                    heard.restarts = true;
                    ui::line(format_args!("{} exited with code {code} (restarting)", label()));
                } else {
                    heard.ends.push_back(code.to_owned());
                }
            }
            ("die", _) => self.ended(id, &label(), attribute("exitCode")),
            _ => {}
        }
        Ok(())
    }

    /// Goes on when a container's lines have been read to its end.
    fn over<'scope>(
        &mut self,
        following: &'scope Following<'_>,
        scope: &'scope Scope<'scope, '_>,
        containers: &Containers<'_>,
        log: Log,
    ) {
        let Some(Reading::Now(mut heard)) = self.readings.remove(&log.id) else { return };
        let end = heard.ends.pop_front();
        if let Some(code) = &end {
            self.ended(&log.id, &log.label, code);
        }
        let runs = || containers.observe(&log.id).is_ok_and(|it| it.state.status.is_active());
        if following.wanted.range.until.is_some_and(|until| until <= Timestamp::now()) {
            // Whatever it does from now on is not wanted.
            self.awaited.remove(&log.id);
            self.readings.insert(log.id.clone(), Reading::Over(Box::new(log)));
        } else if heard.starts > 0 {
            heard.starts -= 1;
            self.awaited.insert(log.id.clone());
            self.read(following, scope, log, heard);
        } else if end.is_none() && runs() {
            self.read(following, scope, log, heard);
        } else {
            self.readings.insert(log.id.clone(), Reading::Over(Box::new(log)));
        }
    }

    fn ended(&mut self, id: &str, label: &str, code: &str) {
        self.awaited.remove(id);
        ui::line(format_args!("{label} exited with code {code}"));
    }
}

impl Following<'_> {
    /// Passes on what happens to the project's containers.
    fn hear(&self, mut events: events::Follower) {
        loop {
            let read = match events.read() {
                Ok(read) => read,
                Err(error) => return self.failed(error, "cannot read the events"),
            };
            for event in read {
                let label =
                    |name: &str| event.actor.attributes.get(name).map_or("", String::as_str);
                let is_ours = event.kind == "container"
                    && label(labels::PROJECT) == self.wanted.project
                    && !label(labels::ONEOFF).eq_ignore_ascii_case("true")
                    && self.wanted.has_service(label(labels::SERVICE))
                    && (self.wanted.index == 0
                        || label(labels::NUMBER) == self.wanted.index.to_string());
                if is_ours {
                    let _ = self.news.send(News::Event(event));
                }
            }
            match events.wait(None, PollFd::new(self.ending, PollFlags::IN)) {
                Ok(events::Next::Stopped) => {
                    let _ = self.news.send(News::Stopped);
                    return;
                }
                Ok(_) => {}
                Err(error) => return self.failed(error, "cannot wait for events"),
            }
        }
    }

    fn failed(&self, error: impl Into<anyhow::Error>, what: &'static str) {
        let _ = self.news.send(News::Failed(error.into().context(what)));
    }

    /// Prints a container's lines until it has ended.
    fn print(&self, log: &mut Log) -> anyhow::Result<()> {
        let store = Store::open(self.here.store.root())?;
        let containers = Containers::open(&store)?;
        log.follower.follow(&containers)?;
        loop {
            while let Some(line) = log.next_line()? {
                print_line(self.printer, &log.label, line);
            }
            match log.follower.wait(PollFd::new(self.ending, PollFlags::IN))? {
                Next::More => {}
                Next::Stopped => return Ok(()),
                Next::Over => break,
            }
        }
        log.print_rest(self.printer);
        Ok(())
    }
}

/// Whether a container that has ended is started again by its policy. Its end is told before its state says what comes
/// then.
fn starts_again(containers: &Containers<'_>, died: &Event) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match containers.observe(&died.actor.id).map(|it| it.state) {
            Ok(State { status: Status::Restarting, .. }) => return true,
            Ok(State { status: Status::Running, started_at, .. }) => {
                let started = started_at.parse::<Timestamp>().map(Timestamp::as_nanosecond);
                if started.is_ok_and(|started| started > i128::from(died.time_nano)) {
                    return true;
                }
            }
            _ => return false,
        }
        std::thread::sleep(PAUSE);
    }
    false
}
