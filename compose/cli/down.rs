//! `down`: what a project has is taken away.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use compose::Project;
use compose::apply::{self, Apply, Cancel, Event};
use compose::make::files;
use compose::observe::Observed;
use compose::plan::Plan;
use compose::teardown::{self, Down, Images};

use crate::args::Globals;
use crate::commands::Rbuild;
use crate::home::{self, Here};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::turn::{Turn, Yielding};
use crate::ui;

/// What `down` is told.
#[derive(Args, Debug, Default)]
pub(crate) struct DownArgs {
    /// Remove named volumes of the file, and containers' volumes without a name
    #[arg(short, long)]
    volumes: bool,
    /// Remove images: all, or those without a name of their own (local)
    #[arg(long, value_name = "WHICH", value_parser = ["all", "local"])]
    rmi: Option<String>,
    /// Remove containers of services that the project does not have
    #[arg(long)]
    remove_orphans: bool,
    /// Seconds that containers have to end
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// The services; none is all, with networks
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Takes down.
pub(crate) fn down(globals: &Globals, args: &DownArgs) -> anyhow::Result<ExitCode> {
    let (project, name) = home::project_or_name(globals, &[])?;
    let interrupt = Interrupt::take()?;
    let here = Here::open(globals, "remove containers")?;
    let turn = match globals.dry_run {
        true => None,
        false => Some(Turn::take(&here, &name, &interrupt)?),
    };
    let observed = home::observe(&here, &here.containers()?, &name)?;
    home::check_services(project.as_ref(), &observed, &args.services)?;
    let wishes = Down {
        named: args.services.clone(),
        volumes: args.volumes,
        images: args.rmi.as_deref().map(|which| match which {
            "all" => Images::All,
            _ => Images::Local,
        }),
        remove_orphans: args.remove_orphans,
    };
    let plan = teardown::down(project.as_ref(), &name, &observed, &wishes);
    if globals.dry_run {
        ui::raw(plan.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    if plan.is_empty() && !observed.networks_of(&name).any(|_| true) {
        ui::warn(format_args!("No resource found to remove for project {name:?}."));
    }
    let project = home::nameless(project, &name);
    let change = Change {
        globals,
        here: &here,
        project: &project,
        observed: &observed,
        interrupt: &interrupt,
        verb: "down",
        timeout: args.timeout,
        deadline: None,
        hurry: None,
    };
    // It waits for nothing that others could have the turn meanwhile for.
    change.carry_out(&plan, None)?;
    // What is left, as by a profile that is not enabled, needs its files when it is started again.
    let is_empty = home::observe(&here, &here.containers()?, &name)?.containers.is_empty();
    if args.services.is_empty() && is_empty {
        forget_files(&files::folder(here.store.root(), &name))?;
    }
    drop(turn);
    Ok(ExitCode::SUCCESS)
}

/// Removes a project's secrets and configs from memory.
fn forget_files(folder: &std::path::Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error)
            .with_context(|| format!("cannot remove secrets and configs in {}", folder.display())),
        _ => {
            // The store's own folder, if this was its last project.
            let _ = folder.parent().map(std::fs::remove_dir);
            Ok(())
        }
    }
}

/// A plan that makes nothing, and all that it takes to carry it out.
pub(crate) struct Change<'a> {
    pub(crate) globals: &'a Globals,
    pub(crate) here: &'a Here,
    pub(crate) project: &'a Project,
    pub(crate) observed: &'a Observed,
    pub(crate) interrupt: &'a Interrupt,
    /// What it is called.
    pub(crate) verb: &'static str,
    /// Seconds that containers have to end, if not their own.
    pub(crate) timeout: Option<i64>,
    /// When waiting for containers has taken too long, and how many seconds that is.
    pub(crate) deadline: Option<(Instant, u64)>,
    /// What is done when somebody does not want to wait; else a signal ends it, and a second one us.
    pub(crate) hurry: Option<&'a (dyn Fn() + Sync)>,
}

impl DownArgs {
    /// All of a project, and what its file does not know.
    pub(crate) fn of_all() -> DownArgs {
        DownArgs { remove_orphans: true, ..DownArgs::default() }
    }
}

impl Change<'_> {
    /// Carries it out, and gives up the turn while there is nothing to do but to wait.
    pub(crate) fn carry_out(&self, plan: &Plan, turn: Option<Turn>) -> anyhow::Result<()> {
        let containers = self.here.containers()?;
        let cancel = Cancel::new()?;
        let commands = Rbuild {
            globals: self.globals,
            project: self.project,
            cancel: &cancel,
            quiet_build: true,
            build: None,
        };
        let progress = Progress::new(&self.globals.progress, self.verb);
        let listener = |event: Event<'_>| progress.event(&event);
        let turn = turn.map(|turn| Yielding::new(self.here, &self.project.name, &cancel, turn));
        let work = Apply {
            stop_timeout: self.timeout,
            deadline: self.deadline,
            turn: turn.as_ref().map(|turn| turn as &dyn apply::Turn),
            ..commands.work(self.here, &containers, self.observed, &listener)
        };
        let apply = || apply::apply(&work, plan);
        let applied = match self.hurry {
            Some(hurry) => self.interrupt.attend(|_| hurry(), apply),
            None => self.interrupt.during(&cancel, apply),
        };
        Ok(applied?)
    }
}
