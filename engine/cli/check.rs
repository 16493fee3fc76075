//! `system check`: whether all that lies in the store is whole, and the repair of what can be.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cache::Store;
use cache::check::{Fault, Repair, Report};
use clap::Args;
use engine::units;

use crate::ui;

/// How often the progress is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// What `system check` is told.
#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Make again what can be derived, and remove what is of no use
    #[arg(long)]
    repair: bool,
}

/// Checks the store; exit code 1 says that faults were found.
pub(crate) fn check(root: &Path, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let repair = if args.repair { Repair::Derivable } else { Repair::Nothing };
    let is_terminal = ui::is_terminal();
    let drawn = Mutex::new(None::<Instant>);
    let progress = |read: u64, total: u64| {
        // Who finds another one drawing has nothing newer to tell.
        let Ok(mut drawn) = drawn.try_lock() else { return };
        if is_terminal && drawn.is_none_or(|drawn| drawn.elapsed() >= FRAME) {
            *drawn = Some(Instant::now());
            ui::screen(&format!("\r\x1b[Kread {} of {}", human(read), human(total)));
        }
    };
    let report = store.check(repair, &progress)?;
    if is_terminal {
        ui::screen("\r\x1b[K");
    }
    report.faults.iter().for_each(|fault| ui::line(text(fault)));
    ui::line(summary(&report, repair));
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(fault: &Fault) -> String {
    let Fault { object, wrong, meaning, done } = fault;
    let done = done.as_ref().map(|done| format!("\n  {done}")).unwrap_or_default();
    format!("{object}: {wrong}\n  {meaning}{done}")
}

fn summary(report: &Report, repair: Repair) -> String {
    let Report { faults, objects, bytes } = report;
    let checked = format!("checked {objects} objects, read {}", human(*bytes));
    let hint = match repair {
        Repair::Nothing => "; --repair makes again what can be derived",
        Repair::Derivable => "",
    };
    match faults.len() {
        0 => format!("{checked}: no faults"),
        1 => format!("{checked}: 1 fault{hint}"),
        count => format!("{checked}: {count} faults{hint}"),
    }
}

fn human(bytes: u64) -> String {
    units::human_size(bytes as f64)
}
