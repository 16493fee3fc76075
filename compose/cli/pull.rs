//! `pull`: images of services from registries.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use compose::apply::Event;
use compose::observe;
use compose::plan::{Action, Plan};

use crate::args::Globals;
use crate::fetch;
use crate::home::{self, Here};
use crate::progress::Progress;
use crate::ui;

/// What `pull` is told.
#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    /// Leave out images that can be built
    #[arg(long)]
    ignore_buildable: bool,
    /// Pull what can be pulled
    #[arg(long)]
    ignore_pull_failures: bool,
    /// Pull the images of dependencies as well
    #[arg(long)]
    include_deps: bool,
    /// Show no progress of downloads
    #[arg(short, long)]
    quiet: bool,
    /// Which images are pulled: missing or always
    #[arg(long, value_name = "WHICH", value_parser = ["missing", "always"])]
    policy: Option<String>,
    /// Kept for docker compose's sake
    #[arg(long, hide = true)]
    parallel: bool,
    /// Kept for docker compose's sake
    #[arg(long, hide = true)]
    no_parallel: bool,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Pulls.
pub(crate) fn pull(globals: &Globals, args: &PullArgs) -> anyhow::Result<ExitCode> {
    let mut project = home::load(globals, &args.services)?;
    if !args.include_deps {
        project.select_alone(&args.services)?;
    }
    let here = Here::open(globals, "pull images")?;
    let progress = Progress::new(&globals.progress, "pull");
    let skip = |kind: &str, name: &str, why: &str| {
        progress.event(&Event::Progress { kind, name, what: why, cause: "", done: true });
    };
    let mut plan = Plan::default();
    let mut seen = BTreeSet::new();
    for (name, service) in &project.services {
        let image = &service.image;
        if image.is_empty() {
            skip("", name, "Skipped No image to be pulled");
            continue;
        }
        // Images that are pulled for one service are there for all.
        if !seen.insert((image, &service.platform)) {
            continue;
        }
        let policy = args.policy.as_deref().unwrap_or(&service.pull_policy);
        let is_here = || observe::image_id(&here.store, image).map(|id| id.is_some());
        match policy {
            _ if args.ignore_buildable && service.build.is_some() => {
                skip("Image", image, "Skipped Image can be built");
                continue;
            }
            "never" | "build" => {
                skip("Image", image, "Skipped");
                continue;
            }
            "missing" | "if_not_present" if is_here()? => {
                skip("Image", image, "Skipped Image is already present locally");
                continue;
            }
            _ => {}
        }
        let (services, images) = (vec![name.clone()], vec![image.clone()]);
        let action = Action::Image { services, images, pull: true, build: false };
        match args.ignore_pull_failures || service.build.is_some() {
            true => plan.add_optional(action, "it was asked for", []),
            false => plan.add(action, "it was asked for", []),
        };
    }
    drop(here);
    if plan.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let missed = fetch::carry_out(globals, &project, &plan, None, args.quiet)?;
    let is_missed = |image: &String| missed.contains(image);
    let buildable = project.services.iter().filter(|(_, service)| service.build.is_some());
    let buildable = buildable.filter(|(_, service)| is_missed(&service.image));
    let names: Vec<&str> = buildable.map(|(name, _)| name.as_str()).collect();
    if !names.is_empty() {
        ui::warn(format_args!(
            "Some service image(s) must be built from source by running:\n    rcompose build {}",
            names.join(" ")
        ));
    }
    Ok(ExitCode::SUCCESS)
}
