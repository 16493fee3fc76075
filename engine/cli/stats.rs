//! `stats`: what containers use.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cache::Store;
use clap::Args;
use engine::container::Usage;
use engine::containers::{Containers, Observed};
use engine::units::memory_size;
use serde_json::{Value, json};

use crate::format::{self, Listing};
use crate::{top, ui};

/// What `stats` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct StatsArgs {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    all: bool,
    /// Show what is used now and end
    #[arg(long)]
    no_stream: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// table, table TEMPLATE, json or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Names or ids; without any, those that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Between two looks, if there are more to come.
const PERIOD: Duration = Duration::from_secs(1);

/// Between the only two looks.
const GLANCE: Duration = Duration::from_millis(500);

/// Go to the upper left corner; clear to the end of the line, of the screen.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_REST: &str = "\x1b[J";

const STATS: Listing = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    headings: &[
        ("BlockIO", "BLOCK I/O"),
        ("CPUPerc", "CPU %"),
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("MemPerc", "MEM %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("Name", "NAME"),
        ("NetIO", "NET I/O"),
        ("PIDs", "PIDS"),
    ],
};

/// Shows what containers use, again and again.
pub(crate) fn stats(root: &Path, args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let containers = Containers::open(&store)?;
    for name in &args.containers {
        containers.find(name)?;
    }
    let mut before = look(&containers, args)?;
    loop {
        std::thread::sleep(if args.no_stream { GLANCE } else { PERIOD });
        let now = look(&containers, args)?;
        let row = |look: &Look| {
            let same = |earlier: &&Look| earlier.observed.record.id == look.observed.record.id;
            look.row(before.iter().find(same), args.no_trunc)
        };
        let rows: Vec<Value> = now.iter().map(row).collect();
        let text = STATS.text(args.format.as_deref(), &rows)?;
        if !args.no_stream && ui::stdout_is_terminal() {
            let lines: String = text.lines().map(|line| format!("{line}{CLEAR_LINE}")).collect();
            ui::raw(format!("{HOME}{lines}{CLEAR_REST}").as_bytes());
        } else {
            ui::raw(text.as_bytes());
        }
        if args.no_stream || ui::is_unread() {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

/// What a container uses at one time.
struct Look {
    observed: Observed,
    /// As it was called, if it was.
    called: String,
    at: Instant,
    /// Nothing if it does not run.
    usage: Option<Usage>,
}

/// Looks at all containers that are to be shown, in their order.
fn look(containers: &Containers<'_>, args: &StatsArgs) -> anyhow::Result<Vec<Look>> {
    let mut called = Vec::new();
    if args.containers.is_empty() {
        for observed in containers.list()? {
            if args.all || observed.state.status.is_active() {
                called.push((observed.record.short_id().to_owned(), observed));
            }
        }
    }
    for name in &args.containers {
        // It may be gone by now.
        if let Ok(observed) = containers.find(name).and_then(|id| containers.observe(&id)) {
            called.push((name.clone(), observed));
        }
    }
    let look = |(called, observed): (String, Observed)| {
        let usage = top::running(&observed).ok().and_then(|running| running.usage().ok());
        Look { observed, called, at: Instant::now(), usage }
    };
    Ok(called.into_iter().map(look).collect())
}

impl Look {
    /// A row in the fields of docker's statistics; for how busy it was an earlier look is needed.
    fn row(&self, earlier: Option<&Look>, whole_id: bool) -> Value {
        let record = &self.observed.record;
        let usage = self.usage.unwrap_or_default();
        let busy = earlier.and_then(|earlier| Some((earlier.usage?.cpu, earlier.at)));
        let busy = busy.filter(|_| self.usage.is_some()).map_or(0.0, |(cpu, at)| {
            let time = self.at.duration_since(at).as_nanos().max(1) as f64;
            100.0 * usage.cpu.saturating_sub(cpu) as f64 / time
        });
        let part = match usage.memory_limit {
            0 => 0.0,
            limit => 100.0 * usage.memory as f64 / limit as f64,
        };
        let memory = |bytes: u64| memory_size(bytes as f64);
        let both =
            |one: u64, other: u64| format!("{} / {}", format::size(one), format::size(other));
        json!({
            "BlockIO": both(usage.block_read, usage.block_written),
            "CPUPerc": format!("{busy:.2}%"),
            "Container": self.called,
            "ID": if whole_id { &record.id } else { record.short_id() },
            "MemPerc": format!("{part:.2}%"),
            "MemUsage": format!("{} / {}", memory(usage.memory), memory(usage.memory_limit)),
            "Name": record.name,
            "NetIO": both(usage.received, usage.sent),
            "PIDs": usage.pids.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::containers::{Record, State};

    #[test]
    fn rows_are_docker_s() {
        let begin = Instant::now();
        let look = |after: Duration, usage| Look {
            observed: Observed {
                record: Record { id: "ab".repeat(32), name: "web".into(), ..Record::default() },
                state: State::default(),
            },
            called: "web".to_owned(),
            at: begin + after,
            usage,
        };
        let used = |cpu| {
            Some(Usage {
                cpu,
                memory: 3 << 20,
                memory_limit: 12 << 20,
                pids: 2,
                block_read: 1_500_000,
                block_written: 0,
                received: 1_234,
                sent: 5,
            })
        };
        let first = look(Duration::ZERO, used(1_000_000_000));
        let second = look(Duration::from_secs(2), used(4_000_000_000));
        let stopped = look(Duration::from_secs(2), None);
        let rows = [second.row(Some(&first), false), stopped.row(Some(&first), false)];
        let expected = "\
CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O       BLOCK I/O    PIDS
abababababab   web       150.00%   3MiB / 12MiB        25.00%    1.23kB / 5B   1.5MB / 0B   2
abababababab   web       0.00%     0B / 0B             0.00%     0B / 0B       0B / 0B      0
";
        assert_eq!(STATS.text(None, &rows).expect("table"), expected);
        assert_eq!(first.row(None, true)["CPUPerc"], "0.00%");
    }
}
