//! `stats`: what a project's containers use.

use std::process::ExitCode;

use clap::Args;
use compose::make::labels;
use engine::containers::Observed;

use crate::args::Globals;
use crate::home::{self, Here};
use crate::usage::{self, UsageFlags};

/// What `stats` is told.
#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: UsageFlags,
    /// The service; none is all
    service: Option<String>,
}

/// Shows what containers use, with those that are started meanwhile.
pub(crate) fn stats(globals: &Globals, args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let name = home::name(globals)?;
    let here = Here::look(globals)?;
    let containers = here.containers()?;
    let is_chosen = |it: &Observed| {
        let labels = &it.record.config.labels;
        let is_of = |label: &str, value: &str| labels.get(label).is_some_and(|own| own == value);
        (args.all || it.state.status.is_active())
            && is_of(labels::PROJECT, &name)
            && args.service.as_ref().is_none_or(|service| is_of(labels::SERVICE, service))
    };
    let list = || -> anyhow::Result<Vec<(String, Observed)>> {
        let chosen = containers.list()?.into_iter().filter(is_chosen);
        Ok(chosen.map(|it| (it.record.short_id().to_owned(), it)).collect())
    };
    // Of nothing there is not even a heading, as with docker compose.
    if !(args.flags.no_stream && list()?.is_empty()) {
        usage::show(&args.flags, list)?;
    }
    Ok(ExitCode::SUCCESS)
}
