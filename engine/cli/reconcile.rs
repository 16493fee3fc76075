//! `system reconcile`: makes true again what is written down of containers, as the commands that
//! look at them do on their way.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use engine::containers::{Containers, Observed, reconcile};

use crate::paths::{self, Home};
use crate::ui;

/// What `system reconcile` is told.
#[derive(Args)]
pub(crate) struct ReconcileArgs {}

/// Reconciles, and tells what was done.
pub(crate) fn reconcile(home: &Home, _args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    paths::need_root("reconcile containers")?;
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let done = reconcile::reconcile(&containers, &paths::network_dir()).context("reconcile")?;
    for (what, names) in
        [("Ended", &done.ended), ("Removed", &done.removed), ("Started", &done.started)]
    {
        names.iter().for_each(|name| ui::line(format_args!("{what}: {name}")));
    }
    for (name, why) in &done.failed {
        ui::note(format_args!("cannot start container {name}: {why}"));
    }
    Ok(if done.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does what a reboot calls for, once: containers that come up with the machine are started. What
/// fails is told, and does not keep from what was asked for.
pub(crate) fn after_boot(containers: &Containers<'_>) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    if let Err(error) = reconcile::after_boot(containers, &paths::network_dir()) {
        ui::error(&anyhow::Error::new(error).context("reconcile containers after the boot"));
    }
}

/// Writes down the end of those seen whose monitor was killed, and removes what they left.
pub(crate) fn after_death(containers: &Containers<'_>, seen: &[Observed]) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    if let Err(error) = reconcile::after_death(containers, seen, &paths::network_dir()) {
        ui::error(&anyhow::Error::new(error).context("reconcile containers"));
    }
}
