//! What happened in a store: `<root>/events`, a JSON object a line, in the shape of docker's API.
//!
//! ```text
//! events      appended to by whoever did something, one write(2) an event
//! events.old  what was there before, once `events` has grown too long
//! ```
//!
//! Nobody waits for an event and no verb fails for want of one. Nothing is synced: it is a diary,
//! and no state is read from it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::PollFd;
use serde::{Deserialize, Serialize};

use crate::changes::{Changes, readable, wait};

/// The names of the files in the store's root.
pub const FILE: &str = "events";
const OLD: &str = "events.old";

/// Bytes from which on a new file is begun.
const LONGEST: u64 = 1 << 20;

/// Something that happened, as docker's API tells it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// The action again, for old readers: containers and images only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The actor's id again, likewise.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// A container's image, likewise.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `volume` or `network`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What was done: `start`, `die`, `health_status: healthy`, ...
    #[serde(rename = "Action")]
    pub action: String,
    /// What it was done to.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Always `local`.
    pub scope: String,
    /// Seconds since 1970.
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// What something was done to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// An id, or the name of what has none.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name, its labels, how it ended: whatever tells more.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// Something that happens now.
    pub fn now(kind: &str, action: &str, id: &str) -> Event {
        let now = Timestamp::now();
        let old = matches!(kind, "container" | "image");
        let old = |text: &str| if old { text.to_owned() } else { String::new() };
        Event {
            status: old(action),
            id: old(id),
            from: String::new(),
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes: BTreeMap::new() },
            scope: "local".to_owned(),
            time: now.as_second(),
            time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
        }
    }

    /// The same with an attribute more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Event {
        self.actor.attributes.insert(name.to_owned(), value.to_string());
        self
    }

    /// Docker's line: `2026-01-02T03:04:05.000000006Z container start ID (image=busybox, name=c)`.
    pub fn line(&self) -> String {
        let time = Timestamp::from_nanosecond(self.time_nano.into()).unwrap_or_default();
        let Event { kind, action, actor, .. } = self;
        let mut line = format!("{time:.9} {kind} {action} {}", actor.id);
        let attributes: Vec<String> =
            actor.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !attributes.is_empty() {
            line += &format!(" ({})", attributes.join(", "));
        }
        line
    }
}

/// Writes down that something happened. Costs microseconds, and whether it worked is nobody's
/// concern.
pub fn emit(root: &Path, event: &Event) {
    let _ = append(root, event);
}

fn append(root: &Path, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let path = root.join(FILE);
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        // Something that is no file must neither hold us up nor lead us elsewhere.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(&path)?;
    file.write_all(&line)?;
    if file.metadata()?.len() >= LONGEST {
        begin_anew(root, &path, &file)?;
    }
    Ok(())
}

/// Puts the file aside. One of those who find it too long does it.
fn begin_anew(root: &Path, path: &Path, file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    if is_at(path, file)? {
        std::fs::rename(path, root.join(OLD))?;
    }
    Ok(())
}

/// Whether a file is the one that a path leads to.
fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    let (there, here) = (std::fs::metadata(path), file.metadata()?);
    Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (here.dev(), here.ino())))
}

/// Reads events, the oldest first, and those that come.
pub struct Events {
    root: PathBuf,
    /// Files that may still grow, the oldest first.
    open: Vec<Part>,
}

/// A file of events, read so far.
struct Part {
    file: File,
    rest: Vec<u8>,
}

impl Part {
    fn open(path: &Path) -> io::Result<Option<Part>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Part { file, rest: Vec::new() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The whole lines that were added; what is no event is left out.
    fn read(&mut self, found: &mut Vec<Event>) -> io::Result<()> {
        self.file.read_to_end(&mut self.rest)?;
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        let events =
            lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        found.extend(events);
        Ok(())
    }
}

impl Events {
    /// The events of a store.
    pub fn open(root: &Path) -> io::Result<Events> {
        let old = Part::open(&root.join(OLD))?;
        Ok(Events { root: root.to_owned(), open: old.into_iter().collect() })
    }

    /// What has happened since the last look.
    pub fn read(&mut self) -> io::Result<Vec<Event>> {
        let path = self.root.join(FILE);
        let known = match self.open.last() {
            Some(part) => is_at(&path, &part.file)?,
            None => false,
        };
        if !known && let Some(part) = Part::open(&path)? {
            self.open.push(part);
        }
        let mut found = Vec::new();
        for part in &mut self.open {
            part.read(&mut found)?;
        }
        // Whoever had the last one open when it was put aside has written to it by now.
        let superfluous = self.open.len().saturating_sub(2);
        self.open.drain(..superfluous);
        Ok(found)
    }
}

/// Reads events, and waits for those that come.
pub struct Follower {
    events: Events,
    changes: Changes,
}

/// What came of waiting for more events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There may be more.
    More,
    /// The time is up.
    TimedOut,
    /// The caller's own descriptor is ready.
    Stopped,
}

impl Follower {
    /// Follows the events of a store: first come those that are kept.
    pub fn open(root: &Path) -> io::Result<Follower> {
        // First of all: what happens meanwhile is seen then.
        let changes = Changes::watch(root)?;
        Ok(Follower { events: Events::open(root)?, changes })
    }

    /// Follows the events of a store from now on.
    pub fn from_now(root: &Path) -> io::Result<Follower> {
        let mut follower = Follower::open(root)?;
        follower.read().map(drop)?;
        Ok(follower)
    }

    /// What has happened since the last look.
    pub fn read(&mut self) -> io::Result<Vec<Event>> {
        self.events.read()
    }

    /// Waits until there may be more, the time is up, or `stop` is ready.
    pub fn wait(&mut self, time: Option<Duration>, stop: PollFd<'_>) -> io::Result<Next> {
        let until = time.map(|time| Instant::now() + time);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let [changed, stopped] = wait([readable(&self.changes), stop.clone()], left)?;
            if stopped {
                return Ok(Next::Stopped);
            }
            if changed {
                self.changes.forget();
                return Ok(Next::More);
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Next::TimedOut);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> Event {
        Event::now("volume", "create", &number.to_string()).with("padding", "x".repeat(1000))
    }

    fn numbers(events: &[Event]) -> Vec<usize> {
        events.iter().map(|event| event.actor.id.parse().expect("a number")).collect()
    }

    #[test]
    fn lines_are_dockers() {
        let mut event =
            Event::now("container", "start", "abc").with("name", "c").with("image", "busybox");
        event.time_nano = 1_767_323_045_000_000_006;
        let line = "2026-01-02T03:04:05.000000006Z container start abc";
        assert_eq!(event.line(), format!("{line} (image=busybox, name=c)"));
        event.actor.attributes.clear();
        assert_eq!(event.line(), line);
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_follower_misses_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut follower = Events::open(dir.path()).expect("open");
        let mut seen = Vec::new();
        for number in 0..3000 {
            emit(dir.path(), &event(number));
            if number % 100 == 0 {
                seen.extend(numbers(&follower.read().expect("read")));
            }
        }
        seen.extend(numbers(&follower.read().expect("read")));
        assert_eq!(seen, (0..3000).collect::<Vec<_>>());
        let kept: u64 = std::fs::read_dir(dir.path())
            .expect("list")
            .map(|entry| entry.expect("entry").metadata().expect("metadata").len())
            .sum();
        assert!(kept <= 2 * (LONGEST + 2000), "{kept}");
        let late = numbers(&Events::open(dir.path()).expect("open").read().expect("read"));
        assert_eq!(late.last(), Some(&2999));
        assert!(late.is_sorted() && late.len() < 3000, "{}", late.len());
    }

    #[test]
    fn many_writers_do_not_cut_each_others_lines() {
        let dir = tempfile::tempdir().expect("a directory");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let root = dir.path();
                scope.spawn(move || {
                    (0..200).for_each(|number| emit(root, &event(writer * 200 + number)))
                });
            }
        });
        let mut found = numbers(&Events::open(dir.path()).expect("open").read().expect("read"));
        found.sort_unstable();
        assert_eq!(found, (0..800).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_happens_where_nothing_can_be_written() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join(FILE)).expect("a directory");
        emit(dir.path(), &event(1));
        emit(&dir.path().join("nowhere"), &event(1));
    }

    #[test]
    fn a_follower_hears_of_events_and_of_the_wish_to_stop() {
        let dir = tempfile::tempdir().expect("a directory");
        emit(dir.path(), &event(1));
        let mut follower = Follower::from_now(dir.path()).expect("open");
        let (wish, stop) = rustix::pipe::pipe().expect("a pipe");
        let moment = Duration::from_millis(20);
        assert_eq!(follower.wait(Some(moment), readable(&wish)).expect("wait"), Next::TimedOut);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(moment);
                emit(dir.path(), &event(2));
            });
            assert_eq!(follower.wait(None, readable(&wish)).expect("wait"), Next::More);
        });
        assert_eq!(numbers(&follower.read().expect("read")), [2]);
        drop(stop);
        // What was written last may still be told of.
        while follower.wait(None, readable(&wish)).expect("wait") != Next::Stopped {}
    }
}
