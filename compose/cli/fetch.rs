//! Builds and downloads, in parallel: the first that fails ends the others. What need not succeed is told of.

use std::sync::Mutex;

use compose::Project;
use compose::apply::{self, Cancel, Event};
use compose::observe::Observed;
use compose::plan::Plan;

use crate::args::Globals;
use crate::build::BuildArgs;
use crate::commands::Rbuild;
use crate::home::Here;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::ui;

/// Carries out a plan of images; the names of those that failed and need not succeed.
pub(crate) fn carry_out(
    globals: &Globals,
    project: &Project,
    plan: &Plan,
    build: Option<&BuildArgs>,
    quiet: bool,
) -> anyhow::Result<Vec<String>> {
    if globals.dry_run {
        ui::raw(plan.to_string());
        return Ok(Vec::new());
    }
    let interrupt = Interrupt::take()?;
    let here = Here::open(globals, "make images")?;
    let containers = here.containers()?;
    let cancel = Cancel::new()?;
    let commands = Rbuild { globals, project, cancel: &cancel, quiet_build: quiet, build };
    let progress = Progress::new(&globals.progress, "build");
    let missed = Mutex::new(Vec::new());
    let listener = |event: Event<'_>| {
        progress.event(&event);
        match event {
            Event::Failed { name, optional: true, .. } => {
                missed.lock().expect("no holder panics").push(name.to_owned());
            }
            Event::Failed { .. } => cancel.cancel(),
            _ => {}
        }
    };
    let observed = Observed::default();
    let work = commands.work(&here, &containers, &observed, &listener);
    interrupt.during(&cancel, || apply::apply(&work, plan))?;
    Ok(missed.into_inner().expect("no holder panics"))
}
