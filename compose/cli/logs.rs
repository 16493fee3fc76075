//! `logs`: what a project's containers have printed, and what they print.
//!
//! What is there already comes in the order in which it was printed, whichever container it is of. What is followed
//! comes as it is read: a thread reads each container, one more hears of containers that are started.

mod follow;

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use compose::Project;
use compose::make::labels;
use compose::observe::{self, Instance};
use engine::containers::follow::{Follower, Range};
use engine::containers::log::{Line, Output};
use engine::containers::{self, Containers};
use jiff::Timestamp;

use crate::args::Globals;
use crate::ending::Ending;
use crate::events::time;
use crate::home::{self, Here};
use crate::printer::{Printer, label};
use crate::ui;

/// What `logs` is told.
#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Go on with what is printed from now on
    #[arg(short, long)]
    follow: bool,
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    index: u32,
    /// Print without colours
    #[arg(long)]
    no_color: bool,
    /// Print no names in front of lines
    #[arg(long)]
    no_log_prefix: bool,
    /// Only what was printed since a time (2024-05-06T07:08:09Z) or so long ago (42m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Begin with the last N lines of each container, or all
    #[arg(short = 'n', long, value_name = "N", default_value = "all", allow_hyphen_values = true)]
    tail: String,
    /// Print when each line was printed
    #[arg(short, long)]
    timestamps: bool,
    /// Only what was printed until a time, or so long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Which containers' lines are wanted, and which of them.
struct Wanted {
    project: String,
    /// All if there are none.
    services: Vec<String>,
    /// All if it is 0.
    index: u32,
    range: Range,
}

/// Prints what containers have printed.
pub(crate) fn logs(globals: &Globals, args: &LogsArgs) -> anyhow::Result<ExitCode> {
    if args.index > 0 && args.services.len() != 1 {
        bail!("--index requires one service to be selected");
    }
    let now = Timestamp::now();
    let (since, until) =
        (time("since", args.since.as_deref(), now)?, time("until", args.until.as_deref(), now)?);
    let (project, name) = home::project_or_name(globals, &args.services)?;
    let wanted = Wanted {
        services: services(project.as_ref(), &args.services),
        project: name,
        index: args.index,
        range: Range { tail: args.tail.parse().ok(), since, until },
    };
    let colors = if args.no_color { ui::Colors::Never } else { ui::colors(&globals.ansi) };
    let printer = Printer::new(!args.no_log_prefix, args.timestamps, colors);
    // Before there are other threads.
    let ending = args.follow.then(Ending::watch).transpose()?;
    let here = Here::look(globals)?;
    if let Some(ending) = &ending {
        return follow::follow(&here, &wanted, &printer, ending);
    }
    let mut logs = wanted.logs(&here.containers()?)?;
    print(&mut logs, &printer)?;
    for log in &mut logs {
        log.print_rest(&printer);
    }
    Ok(ExitCode::SUCCESS)
}

/// The services that are wanted: those that are named, or else the project's, without those that say `attach: false`.
fn services(project: Option<&Project>, named: &[String]) -> Vec<String> {
    match project {
        Some(project) if named.is_empty() => {
            let services =
                project.services.iter().filter(|(_, service)| service.attach != Some(false));
            services.map(|(name, _)| name.clone()).collect()
        }
        _ => named.to_vec(),
    }
}

impl Wanted {
    /// Whether a service's lines are wanted.
    fn has_service(&self, service: &str) -> bool {
        self.services.is_empty() || self.services.iter().any(|name| name == service)
    }

    /// The logs of the containers that there are, by their names.
    fn logs(&self, containers: &Containers<'_>) -> anyhow::Result<Vec<Log>> {
        let is_wanted = |it: &Instance| {
            it.label(labels::PROJECT) == self.project
                && !it.is_one_off()
                && self.has_service(it.service())
                && (self.index == 0 || it.number() == self.index)
        };
        let mut instances = observe::instances(containers, is_wanted)?;
        if let (true, [service]) =
            (instances.is_empty() && self.index > 0, self.services.as_slice())
        {
            bail!("service {service:?} is not running container #{}", self.index);
        }
        instances.sort_by(|a, b| (a.service(), a.number()).cmp(&(b.service(), b.number())));
        let mut logs = Vec::new();
        for instance in instances {
            let label = label(&self.project, instance.name());
            logs.extend(Log::open(containers, instance.id(), label, self.range)?);
        }
        Ok(logs)
    }
}

/// A container's log, in whole lines.
struct Log {
    id: String,
    /// What the container is called beside its lines.
    label: String,
    follower: Follower,
    /// The beginning of a line so long that it is kept in parts.
    begun: Option<Line>,
}

impl Log {
    /// Opens a container's log; none if the container is gone, or if nothing is kept, of which is told.
    fn open(
        containers: &Containers<'_>,
        id: &str,
        label: String,
        range: Range,
    ) -> anyhow::Result<Option<Log>> {
        match Follower::open(containers, id, range) {
            Ok(follower) => Ok(Some(Log { id: id.to_owned(), label, follower, begun: None })),
            Err(containers::Error::NotFound(_)) => Ok(None),
            Err(error @ containers::Error::Refused(_)) => {
                ui::warn(format_args!("Can't retrieve logs for {label:?}: {error}"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next line; none if there is no more for now.
    fn next_line(&mut self) -> anyhow::Result<Option<Line>> {
        while let Some(part) = self.follower.next_line()? {
            let line = match self.begun.take() {
                Some(begun) if begun.stream == part.stream => {
                    Line { text: begun.text + &part.text, ..begun }
                }
                Some(begun) => {
                    self.begun = Some(part);
                    return Ok(Some(begun));
                }
                None => part,
            };
            if line.text.ends_with('\n') {
                return Ok(Some(line));
            }
            self.begun = Some(line);
        }
        Ok(None)
    }

    /// Prints the beginning of a line whose end has not come.
    fn print_rest(&mut self, printer: &Printer) {
        if let Some(line) = self.begun.take() {
            print_line(printer, &self.label, line);
        }
    }
}

/// Prints what is there of several logs, in the order in which it was printed.
fn print(logs: &mut [Log], printer: &Printer) -> anyhow::Result<()> {
    let mut heads = logs.iter_mut().map(Log::next_line).collect::<anyhow::Result<Vec<_>>>()?;
    for (log, head) in logs.iter().zip(&heads) {
        if head.is_some() {
            printer.know(&log.label);
        }
    }
    // Only to hear now and then that nobody reads any more.
    let mut printed = 0_u32;
    loop {
        let waiting =
            heads.iter().enumerate().filter_map(|(at, head)| Some((head.as_ref()?.time, at)));
        let Some((_, at)) = waiting.min() else { return Ok(()) };
        if let Some(line) = std::mem::replace(&mut heads[at], logs[at].next_line()?) {
            print_line(printer, &logs[at].label, line);
        }
        printed += 1;
        if printed.is_multiple_of(1024) && ui::is_unread() {
            return Ok(());
        }
    }
}

/// Prints a line. What went to standard error comes to standard output too, as with docker compose.
fn print_line(printer: &Printer, label: &str, line: Line) {
    printer.line(label, &Line { stream: Output::Stdout, ..line });
}
