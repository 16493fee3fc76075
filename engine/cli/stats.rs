//! `stats`: what containers use.

use std::path::Path;
use std::process::ExitCode;

use cache::Store;
use clap::Args;
use engine::containers::{Containers, Observed};

use crate::usage::{self, UsageFlags};

/// What `stats` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct StatsArgs {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: UsageFlags,
    /// Names or ids; without any, those that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Shows what containers use.
pub(crate) fn stats(root: &Path, args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let containers = Containers::open(&store)?;
    for name in &args.containers {
        containers.find(name)?;
    }
    usage::show(&args.flags, || list(&containers, args))?;
    Ok(ExitCode::SUCCESS)
}

/// All containers that are to be shown, in their order.
fn list(containers: &Containers<'_>, args: &StatsArgs) -> anyhow::Result<Vec<(String, Observed)>> {
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
    Ok(called)
}
