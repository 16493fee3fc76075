//! `logs`: what a container has printed, and what it prints.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use cache::Store;
use clap::Args;
use engine::containers::log::{Line, LogReader, Output, Plan};
use engine::containers::protocol::{Frame, Request};
use engine::containers::{Client, Containers};
use engine::duration;
use jiff::{SignedDuration, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::ui;

/// What `logs` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct LogsArgs {
    /// Go on with what is printed from now on
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N lines, or all
    #[arg(short = 'n', long, value_name = "N", default_value = "all", allow_hyphen_values = true)]
    tail: String,
    /// Only what was printed since a time (2024-05-06T07:08:09Z) or so long ago (42m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was printed until a time, or so long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show when each line was printed
    #[arg(short, long)]
    timestamps: bool,
    /// Show what was said about the lines (here nothing is)
    #[arg(long)]
    details: bool,
    /// A name or an id
    container: String,
}

/// So many bytes are printed at once.
const CHUNK: usize = 64 << 10;

/// Prints what a container has printed.
pub(crate) fn logs(root: &Path, args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    let time = |name: &str, given: &Option<String>| {
        let parse = |text: &String| moment(text, now).with_context(|| format!("invalid --{name}"));
        given.as_ref().map(parse).transpose()
    };
    let (since, until) = (time("since", &args.since)?, time("until", &args.until)?);
    let store = Store::open(root)?;
    let containers = Containers::open(&store)?;
    let id = containers.find(&args.container)?;
    if !Plan::parse(&containers.record(&id)?.host_config.log_config)?.kept {
        bail!("configured logging driver does not support reading");
    }
    let dir = containers.dir(&id);
    // First of all: what ends meanwhile has printed all that is read then.
    let life = match args.follow {
        true => Client::connect(&containers, &id, Request::Wait)?
            .map(|client| Life::watch(&dir, client)),
        false => None,
    };
    let tail = args.tail.parse::<usize>().ok();
    let mut life = life.transpose()?;
    let mut reader = LogReader::open(&dir, &id, tail).context("cannot read the log")?;
    let mut printer = Printer::new(since, until, args);
    loop {
        let over = life.is_none();
        if !printer.print(&mut reader)? || over || ui::is_unread() {
            return Ok(ExitCode::SUCCESS);
        }
        let left = until.map(|until| until.duration_since(Timestamp::now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        if left == Some(Duration::ZERO) || !life.as_mut().expect("it is not over").wait(left)? {
            // What was printed before the end may not have been read yet.
            life = None;
        }
    }
}

/// A container that runs, and the directory of its log.
struct Life {
    client: Client,
    changes: OwnedFd,
}

impl Life {
    fn watch(dir: &Path, client: Client) -> anyhow::Result<Self> {
        let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .context("cannot watch the log: raise fs.inotify.max_user_instances")?;
        let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        match inotify::add_watch(&changes, dir, events) {
            // It is gone: so the client will say.
            Ok(_) | Err(Errno::NOENT) => Ok(Self { client, changes }),
            Err(errno) => Err(errno).context("cannot watch the log"),
        }
    }

    /// Waits until there may be more to read, or the time is up; false when the container has
    /// ended.
    fn wait(&mut self, time: Option<Duration>) -> anyhow::Result<bool> {
        let time = time.map(|time| Timespec {
            tv_sec: time.as_secs().cast_signed(),
            tv_nsec: time.subsec_nanos().into(),
        });
        let stdout = std::io::stdout();
        let mut polled = [
            PollFd::from_borrowed_fd(self.client.as_fd(), PollFlags::IN),
            PollFd::new(&self.changes, PollFlags::IN),
            // Only to hear that nobody reads any more.
            PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut polled, time.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for the log"),
        }
        let [told, changed, _] = polled.map(|fd| !fd.revents().is_empty());
        if changed {
            let mut events = [0; 4096];
            while rustix::io::read(&self.changes, &mut events).is_ok_and(|read| read > 0) {}
        }
        Ok(!(told && self.has_ended()?))
    }

    fn has_ended(&mut self) -> anyhow::Result<bool> {
        let open = self.client.fill()?;
        while let Some(frame) = self.client.next_frame()? {
            if matches!(frame, Frame::Exited(_) | Frame::Failed(..)) {
                return Ok(true);
            }
        }
        Ok(!open)
    }
}

/// Prints the lines that are wanted, to the two outputs apart.
struct Printer {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    timestamps: bool,
    details: bool,
    pending: String,
    output: Output,
}

impl Printer {
    fn new(since: Option<Timestamp>, until: Option<Timestamp>, args: &LogsArgs) -> Self {
        Self {
            since,
            until,
            timestamps: args.timestamps,
            details: args.details,
            pending: String::new(),
            output: Output::Stdout,
        }
    }

    /// Prints what there is; false if there is no more that is wanted.
    fn print(&mut self, reader: &mut LogReader) -> anyhow::Result<bool> {
        let mut wanted = true;
        while wanted {
            let line = match reader.next_line() {
                // It was removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                line => line.context("cannot read the log")?,
            };
            let Some(line) = line else { break };
            wanted = self.until.is_none_or(|until| line.time <= until);
            if wanted && self.since.is_none_or(|since| line.time >= since) {
                self.add(&line);
            }
            if self.pending.len() >= CHUNK {
                self.flush();
                wanted &= !ui::is_unread();
            }
        }
        self.flush();
        Ok(wanted)
    }

    fn add(&mut self, line: &Line) {
        if self.output != line.stream {
            self.flush();
            self.output = line.stream;
        }
        if self.timestamps {
            self.pending += &line.time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string();
        }
        if self.details {
            self.pending.push(' ');
        }
        self.pending += &line.text;
    }

    fn flush(&mut self) {
        match self.output {
            Output::Stdout => ui::raw(self.pending.as_bytes()),
            Output::Stderr => ui::screen(&self.pending),
        }
        self.pending.clear();
    }
}

/// Reads a time as docker does: how long ago (`42m`), seconds since 1970 with a fraction, a date, or
/// a date and a time with its zone or in UTC.
pub(crate) fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    let invalid = || format!("failed to parse value as time or duration: {text:?}");
    if let Ok(ago) = duration::parse(text) {
        return now.checked_sub(SignedDuration::from_nanos(ago)).with_context(invalid);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if let (Ok(seconds), true) = (seconds.parse(), fraction.bytes().all(|it| it.is_ascii_digit())) {
        let nanoseconds = format!("{fraction:0<9.9}").parse().with_context(invalid)?;
        return Timestamp::new(seconds, nanoseconds).with_context(invalid);
    }
    let parse = |text: &str| Timestamp::from_str(text).ok();
    let (date, time) = text.split_once('T').unwrap_or((text, ""));
    let completed = match time.len() {
        0 => format!("{date}T00:00:00Z"),
        2 => format!("{text}:00:00Z"),
        5 => format!("{text}:00Z"),
        _ => format!("{text}Z"),
    };
    parse(text).or_else(|| parse(&completed)).with_context(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_docker_s() {
        let now: Timestamp = "2024-05-06T12:00:00Z".parse().expect("a time");
        for (text, expected) in [
            ("90s", "2024-05-06T11:58:30Z"),
            ("1h30m", "2024-05-06T10:30:00Z"),
            ("1714979289", "2024-05-06T07:08:09Z"),
            ("1714979289.5", "2024-05-06T07:08:09.5Z"),
            ("1714979289.000000001", "2024-05-06T07:08:09.000000001Z"),
            ("2024-05-06T07:08:09.25Z", "2024-05-06T07:08:09.25Z"),
            ("2024-05-06T09:08:09+02:00", "2024-05-06T07:08:09Z"),
            ("2024-05-06T07:08:09.123", "2024-05-06T07:08:09.123Z"),
            ("2024-05-06T07:08", "2024-05-06T07:08:00Z"),
            ("2024-05-06T07", "2024-05-06T07:00:00Z"),
            ("2024-05-06", "2024-05-06T00:00:00Z"),
        ] {
            let time = moment(text, now).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(time.to_string(), expected, "{text}");
        }
        for bad in ["soon", "", "2024-13-01", "1.x"] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
    }
}
