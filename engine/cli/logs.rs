//! `logs`: what a container has printed, and what it prints.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use cache::Store;
use clap::Args;
use engine::containers::Containers;
use engine::containers::follow::{Follower, Next, Range};
use engine::containers::log::{Line, Output};
use engine::moment;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags};

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
        let parse =
            |text: &String| moment::parse(text, now).with_context(|| format!("invalid --{name}"));
        given.as_ref().map(parse).transpose()
    };
    let (since, until) = (time("since", &args.since)?, time("until", &args.until)?);
    let store = Store::open(root)?;
    let containers = Containers::open(&store)?;
    let id = containers.find(&args.container)?;
    let range = Range { tail: args.tail.parse().ok(), since, until };
    let mut follower = Follower::open(&containers, &id, range)?;
    if args.follow {
        follower.follow(&containers)?;
    }
    let mut printer = Printer::new(args);
    let stdout = std::io::stdout();
    loop {
        printer.print(&mut follower)?;
        // Only to hear that nobody reads any more.
        let unread = PollFd::new(&stdout, PollFlags::empty());
        if ui::is_unread() || follower.wait(unread)? != Next::More {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Prints lines, to the two outputs apart.
struct Printer {
    timestamps: bool,
    details: bool,
    pending: String,
    output: Output,
}

impl Printer {
    fn new(args: &LogsArgs) -> Self {
        Self {
            timestamps: args.timestamps,
            details: args.details,
            pending: String::new(),
            output: Output::Stdout,
        }
    }

    /// Prints what there is.
    fn print(&mut self, follower: &mut Follower) -> anyhow::Result<()> {
        while let Some(line) = follower.next_line()? {
            self.add(&line);
            if self.pending.len() >= CHUNK {
                self.flush();
                if ui::is_unread() {
                    break;
                }
            }
        }
        self.flush();
        Ok(())
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
