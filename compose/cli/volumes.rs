//! `volumes`: the volumes of a project.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use compose::make::labels;
use compose::observe::{self, Instance};
use engine::volume::Volumes;
use serde_json::Value;

use crate::args::Globals;
use crate::home::{self, Here};
use crate::ui;
use crate::volume_row::{VOLUMES, row};

/// What `volumes` is told.
#[derive(Args, Debug)]
pub(crate) struct VolumesArgs {
    /// table, table TEMPLATE, json or a Go template
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// Only volumes that these services' containers have mounted
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Lists volumes.
pub(crate) fn volumes(globals: &Globals, args: &VolumesArgs) -> anyhow::Result<ExitCode> {
    let (project, name) = home::project_or_name(globals, &args.services)?;
    if let Some(project) = &project {
        for service in &args.services {
            if !project.services.contains_key(service) {
                bail!("no such service: {service}");
            }
        }
    }
    let here = Here::look(globals)?;
    let mut volumes = Volumes::open(&here.store)?.list()?;
    volumes.retain(|volume| {
        volume.labels.as_ref().and_then(|labels| labels.get(labels::PROJECT)) == Some(&name)
    });
    if !args.services.is_empty() {
        let is_named = |it: &Instance| {
            it.label(labels::PROJECT) == name
                && args.services.iter().any(|service| service == it.service())
        };
        let instances = observe::instances(&here.containers()?, is_named)?;
        let mounts = instances.iter().flat_map(|it| &it.record.mounts);
        let used: BTreeSet<&str> = mounts.map(|mount| mount.point.name.as_str()).collect();
        volumes.retain(|volume| used.contains(volume.name.as_str()));
    }
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    if args.quiet {
        volumes.iter().for_each(|volume| ui::line(&volume.name));
    } else {
        let rows: Vec<Value> = volumes.iter().map(row).collect();
        let format = Some(args.format.as_str()).filter(|format| !format.is_empty());
        ui::raw(VOLUMES.text(format, &rows)?);
    }
    Ok(ExitCode::SUCCESS)
}
