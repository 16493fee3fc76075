//! `container prune`, and what `system prune` does with containers, networks and volumes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use cache::oci::StringMap;
use clap::Args;
use engine::containers::{Containers, Record, prune, users};
use engine::volume::{Volume, Volumes, is_anonymous};

use super::{Telling, confirmed, human, tell_total};
use crate::{format, images, network, ui, volume};

/// What `container prune` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct ContainerPruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what fits: until=24h, label=NAME[=VALUE], label!=NAME[=VALUE]
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Tell what would go; remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Removes containers that do not run.
pub(crate) fn prune_containers(root: &Path, args: &ContainerPruneArgs) -> anyhow::Result<ExitCode> {
    let wanted = Wanted::parse(&args.filter)?;
    let question = "WARNING! This will remove all stopped containers.\n\
                    Are you sure you want to continue?";
    if !(args.force || args.dry_run || confirmed(question)?) {
        return Ok(ExitCode::SUCCESS);
    }
    let store = Store::open(root)?;
    let how = Telling { dry: args.dry_run, verbose: false };
    let gone = stopped_containers(&store, &wanted, how)?;
    tell_total(gone.bytes, how);
    Ok(ExitCode::SUCCESS)
}

/// Which containers, networks and volumes are meant.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) before: Option<i64>,
    labels: Vec<String>,
    without_labels: Vec<String>,
}

impl Wanted {
    pub(super) fn parse(given: &[String]) -> anyhow::Result<Self> {
        let mut wanted = Self::default();
        for text in given {
            match text.split_once('=') {
                Some(("until", value)) => {
                    let time = images::until(value, format::now())?;
                    wanted.before = wanted.before.into_iter().chain([time]).min();
                }
                Some(("label", value)) => wanted.labels.push(value.to_owned()),
                Some(("label!", value)) => wanted.without_labels.push(value.to_owned()),
                Some((name, _)) => bail!("invalid filter '{name}'"),
                None => bail!("invalid filter '{text}': write NAME=VALUE"),
            }
        }
        Ok(wanted)
    }

    /// Whether something with these labels, made at this time (RFC 3339), is meant.
    fn fits(&self, labels: &StringMap, created: &str) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.before
            .is_none_or(|before| format::seconds(created).is_some_and(|created| created < before))
            && self.labels.iter().all(has)
            && !self.without_labels.iter().any(has)
    }
}

/// What went before the images, or would.
#[derive(Default)]
pub(super) struct Gone {
    /// Containers, by their ids.
    pub(super) containers: BTreeSet<String>,
    /// What all of it held.
    pub(super) bytes: u64,
}

/// Removes the containers that do not run, and tells which.
pub(super) fn stopped_containers(
    store: &Store,
    wanted: &Wanted,
    how: Telling,
) -> anyhow::Result<Gone> {
    if !store.root().join("containers").exists() {
        return Ok(Gone::default());
    }
    let containers = Containers::open(store)?;
    let chosen = |record: &Record| wanted.fits(&record.config.labels, &record.created);
    let id = |record: &Record| record.id.clone();
    if how.dry {
        let mut gone = Gone::default();
        for record in prune::prunable(&containers, chosen)? {
            let bytes = store.bytes_of(&containers.dir(&record.id))?;
            gone.bytes += bytes;
            ui::line(format_args!("would go: container {}: {}", record.name, human(bytes)));
            gone.containers.insert(record.id);
        }
        return Ok(gone);
    }
    let pruned = prune::prune(&containers, chosen)?;
    let ids: BTreeSet<String> = pruned.records.iter().map(id).collect();
    tell_list("Deleted Containers:", pruned.records.iter().map(id));
    Ok(Gone { containers: ids, bytes: pruned.bytes })
}

/// Removes the networks that nobody is connected to, and tells which.
pub(super) fn networks(root: &Path, wanted: &Wanted, how: Telling) -> anyhow::Result<()> {
    let definitions = network::definitions(root);
    let fits = |definition: &engine::network::NetworkDefinition| {
        wanted.fits(&definition.labels, &definition.created)
    };
    if how.dry {
        for one in definitions.list()? {
            if !one.is_predefined() && fits(&one) && definitions.users(&one)?.is_empty() {
                ui::line(format_args!("would go: network {}", one.name));
            }
        }
        return Ok(());
    }
    let removed = definitions.prune(fits).context("remove networks that nobody uses")?;
    tell_list("Deleted Networks:", removed.into_iter());
    Ok(())
}

/// Removes the volumes without a name that no container uses, tells which, and returns how many
/// bytes they held.
pub(super) fn volumes(
    store: &Store,
    wanted: &Wanted,
    gone: &Gone,
    how: Telling,
) -> anyhow::Result<u64> {
    let volumes = Volumes::open(store)?;
    let none = StringMap::new();
    let chosen = |volume: &Volume| {
        let labels = volume.labels.as_ref().unwrap_or(&none);
        is_anonymous(volume) && wanted.fits(labels, &volume.created_at)
    };
    if !how.dry {
        return volume::prune_unused(store, &volumes, chosen);
    }
    let users = users(&Containers::open(store)?)?;
    let mut bytes = 0;
    for one in volumes.list()?.iter().filter(|volume| chosen(volume)) {
        let users = users.get(&one.name).into_iter().flatten();
        if users.clone().all(|id| gone.containers.contains(id)) {
            let size = volumes.size(&one.name)?;
            ui::line(format_args!("would go: volume {}: {}", one.name, human(size)));
            bytes += size;
        }
    }
    Ok(bytes)
}

/// Prints a title and names below it, if there are any.
pub(crate) fn tell_list(title: &str, names: impl Iterator<Item = String>) {
    let mut names = names.peekable();
    if names.peek().is_some() {
        ui::line(title);
        names.for_each(ui::line);
        ui::line("");
    }
}
