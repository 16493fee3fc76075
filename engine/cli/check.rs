//! `system check`: whether all that lies in the store is whole, and the repair of what can be.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;
use cache::Store;
use cache::check::{Fault, Repair, Report};
use clap::Args;
use engine::units;

use crate::ui;

/// How often the progress is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// What `system check` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct CheckArgs {
    /// Make again what can be derived, and remove what is of no use
    #[arg(long)]
    repair: bool,
}

/// Checks the store; exit code 1 says that faults were found, or that not everything was checked.
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
    let report = store.check(repair, &progress);
    if is_terminal {
        ui::screen("\r\x1b[K");
    }
    report.faults.iter().for_each(|fault| ui::line(text(fault)));
    ui::line(summary(&report, repair));
    if let Some(error) = report.unfinished {
        return Err(error).context("not everything could be checked");
    }
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(fault: &Fault) -> String {
    let Fault { object, wrong, meaning, done } = fault;
    let done = done.as_ref().map(|done| format!("\n  {done}")).unwrap_or_default();
    format!("{object}: {wrong}\n  {meaning}{done}")
}

fn summary(report: &Report, repair: Repair) -> String {
    let Report { faults, objects, bytes, passed_over, dropped, .. } = report;
    let mut text = format!("checked {objects} objects, read {}: ", human(*bytes));
    text += &match faults.len() {
        0 => "no faults".to_owned(),
        1 => "1 fault".to_owned(),
        count => format!("{count} faults"),
    };
    if repair == Repair::Nothing && !faults.is_empty() {
        text += "; --repair makes again what can be derived";
    }
    if *dropped > 0 {
        text +=
            &format!("; removed {dropped} unpacked chains of no image, which cannot be checked");
    }
    let left = passed_over - dropped;
    if left > 0 {
        text +=
            &format!("; passed over {left} unpacked chains of no image, which cannot be checked");
    }
    text
}

fn human(bytes: u64) -> String {
    units::human_size(bytes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_checked_is_told() {
        let check = |report: Report, repair, expected: &str| {
            assert_eq!(summary(&report, repair), format!("checked 2 objects, read 0B: {expected}"));
        };
        let report =
            |passed_over, dropped| Report { objects: 2, passed_over, dropped, ..Report::default() };
        check(report(0, 0), Repair::Nothing, "no faults");
        let chains = "unpacked chains of no image, which cannot be checked";
        check(report(3, 0), Repair::Nothing, &format!("no faults; passed over 3 {chains}"));
        let both = format!("no faults; removed 2 {chains}; passed over 1 {chains}");
        check(report(3, 2), Repair::Derivable, &both);
    }
}
