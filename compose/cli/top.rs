//! `top`: the processes of a project's containers.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use compose::make::labels;
use compose::observe::{self, Instance};
use engine::containers::Observed;

use crate::args::Globals;
use crate::format::aligned;
use crate::home::{self, Here};
use crate::{processes, ui};

/// What `top` is told.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Shows processes.
pub(crate) fn top(globals: &Globals, args: &TopArgs) -> anyhow::Result<ExitCode> {
    let name = home::name(globals)?;
    let here = Here::look(globals)?;
    let services = &args.services;
    let is_chosen = |it: &Instance| {
        it.label(labels::PROJECT) == name
            && it.is_active()
            && (services.is_empty() || services.iter().any(|service| service == it.service()))
    };
    let mut chosen = observe::instances(&here.containers()?, is_chosen)?;
    chosen.sort_by(|a, b| a.name().cmp(b.name()));
    let mut text = String::new();
    for instance in chosen {
        let first = [instance.service().to_owned(), instance.label(labels::NUMBER).to_owned()];
        let observed = Observed { record: instance.record, state: instance.state };
        // One that has ended meanwhile, or waits to be started again, has no processes.
        let Ok(running) = processes::running(&observed) else { continue };
        let pids = running.processes();
        let pids =
            pids.with_context(|| format!("cannot list the processes of {}", observed.record.name))?;
        let mut lines = processes::table(&pids)?.into_iter();
        let headings = lines.next().unwrap_or_default();
        if text.is_empty() {
            text = format!("SERVICE\t#\t{}\n", headings.join("\t"));
        }
        for line in lines {
            text += &format!("{}\t{}\n", first.join("\t"), line.join("\t"));
        }
    }
    ui::raw(aligned(&text, 4, 2));
    Ok(ExitCode::SUCCESS)
}
