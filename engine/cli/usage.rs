//! What containers use, shown again and again. Both programs have this module.

use std::time::{Duration, Instant};

use engine::container::Usage;
use engine::containers::Observed;
use engine::units::memory_size;
use serde_json::{Value, json};

use crate::format::{self, Listing};
use crate::{processes, ui};

/// How it is shown.
#[derive(clap::Args, Debug)]
pub(crate) struct UsageFlags {
    /// Show what is used now and end
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// table, table TEMPLATE, json or a Go template
    #[arg(long)]
    format: Option<String>,
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
    type_name: "*container.statsContext",
};

/// Shows what containers use, until nobody reads any more. `list` says which they are now, in their order, and what each
/// was called.
pub(crate) fn show(
    flags: &UsageFlags,
    list: impl Fn() -> anyhow::Result<Vec<(String, Observed)>>,
) -> anyhow::Result<()> {
    let look = || -> anyhow::Result<Vec<Look>> { Ok(list()?.into_iter().map(Look::at).collect()) };
    let mut before = look()?;
    loop {
        std::thread::sleep(if flags.no_stream { GLANCE } else { PERIOD });
        let now = look()?;
        let row = |look: &Look| {
            let same = |earlier: &&Look| earlier.observed.record.id == look.observed.record.id;
            look.row(before.iter().find(same), flags.no_trunc)
        };
        let rows: Vec<Value> = now.iter().map(row).collect();
        let text = STATS.text(flags.format.as_deref(), &rows)?;
        if !flags.no_stream && ui::stdout_is_terminal() {
            let lines: String = text.lines().map(|line| format!("{line}{CLEAR_LINE}")).collect();
            ui::raw(format!("{HOME}{lines}{CLEAR_REST}").as_bytes());
        } else {
            ui::raw(text.as_bytes());
        }
        if flags.no_stream || ui::is_unread() {
            return Ok(());
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

impl Look {
    fn at((called, observed): (String, Observed)) -> Look {
        let running = processes::running(&observed).ok();
        let usage = running.and_then(|running| running.usage().ok());
        Look { observed, called, at: Instant::now(), usage }
    }

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
