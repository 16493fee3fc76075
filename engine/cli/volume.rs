//! `volume`: create, ls, inspect, rm, prune.

use std::cmp::Ordering;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use cache::Store;
use cache::oci::StringMap;
use clap::{Args, Subcommand};
use engine::containers::{self, Containers};
use engine::volume::{Draft, Error, Users, Volume, Volumes, is_anonymous};
use serde_json::Value;

use crate::list_flags::ListFlags;
use crate::volume_row::{VOLUMES, row};
use crate::{format, inspect, prune, ui};

/// `volume`.
#[derive(Subcommand)]
#[command(defer = true)]
pub(crate) enum VolumeVerb {
    /// Make a volume
    Create(CreateArgs),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show all that is known of volumes
    Inspect(InspectArgs),
    /// Remove volumes that no container uses
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove all volumes that no container uses
    Prune(PruneArgs),
}

/// What `volume create` is told.
#[derive(Args)]
pub(crate) struct CreateArgs {
    /// The driver (there is one)
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// What is mounted at the volume: type=, device=, o=
    #[arg(short, long = "opt", value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// Say something of the volume
    #[arg(long = "label", value_name = "NAME[=VALUE]")]
    labels: Vec<String>,
    #[arg(long = "name", hide = true, conflicts_with = "volume")]
    name: Option<String>,
    /// Its name; 64 random digits without one
    volume: Option<String>,
}

/// What `volume ls` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    flags: ListFlags,
    /// Only volumes that fit: dangling=, driver=, label=, name=
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
}

/// What `volume inspect` is told.
#[derive(Args)]
pub(crate) struct InspectArgs {
    /// json or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

/// What `volume rm` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct RmArgs {
    /// A volume that does not exist is no error
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

/// What `volume prune` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct PruneArgs {
    /// Volumes with a name, too
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only volumes that fit: label=NAME[=VALUE], label!=NAME[=VALUE], all=
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
}

/// Does what was asked of volumes.
pub(crate) fn volume(root: &Path, verb: &VolumeVerb) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let volumes = Volumes::open(&store)?;
    match verb {
        VolumeVerb::Create(args) => create(&volumes, args),
        VolumeVerb::Ls(args) => list(&store, &volumes, args),
        VolumeVerb::Inspect(args) => inspect(&volumes, args),
        VolumeVerb::Rm(args) => remove(&store, &volumes, args),
        VolumeVerb::Prune(args) => prune_volumes(&store, &volumes, args),
    }
}

fn create(volumes: &Volumes<'_>, args: &CreateArgs) -> anyhow::Result<ExitCode> {
    let mut options = StringMap::new();
    for option in &args.options {
        let Some((name, value)) = option.split_once('=') else {
            bail!("invalid argument \"{option}\" for \"-o, --opt\" flag: write NAME=VALUE");
        };
        options.insert(name.to_owned(), value.to_owned());
    }
    let label = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    let volume = volumes.create(Draft {
        name: args.volume.clone().or_else(|| args.name.clone()),
        driver: args.driver.clone(),
        options,
        labels: args.labels.iter().map(label).collect(),
    })?;
    ui::line(volume.name);
    Ok(ExitCode::SUCCESS)
}

fn list(store: &Store, volumes: &Volumes<'_>, args: &LsArgs) -> anyhow::Result<ExitCode> {
    let filters = Filters::parse(&args.filter, &["dangling", "driver", "label", "label!", "name"])?;
    let mut all = volumes.list()?;
    if filters.dangling.is_some() {
        let users = users(store)?;
        all.retain(|volume| filters.dangling == Some(!users.contains_key(&volume.name)));
    }
    all.retain(|volume| filters.fit(volume));
    all.sort_by(|a, b| natural(&a.name, &b.name));
    let rows: Vec<Value> = all.iter().map(row).collect();
    ui::raw(VOLUMES.text(args.flags.format("{{.Name}}"), &rows)?.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn inspect(volumes: &Volumes<'_>, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &args.volumes {
        match volumes.get(name) {
            Ok(volume) => found.push(serde_json::to_value(volume)?),
            Err(error) => missing.push(error),
        }
    }
    inspect::print(&found, args.format.as_deref())?;
    missing.iter().for_each(|error| ui::note(format_args!("Error: {error}")));
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn remove(store: &Store, volumes: &Volumes<'_>, args: &RmArgs) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in &args.volumes {
        match volumes.remove(name, || users(store)) {
            Ok(()) => ui::line(name),
            Err(Error::NotFound(_)) if args.force => ui::line(name),
            Err(error) => {
                ui::note(format_args!("Error: {error}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn prune_volumes(
    store: &Store,
    volumes: &Volumes<'_>,
    args: &PruneArgs,
) -> anyhow::Result<ExitCode> {
    let filters = Filters::parse(&args.filter, &["label", "label!", "all"])?;
    if args.all && filters.all.is_some() {
        bail!("conflicting options: cannot specify both --all and --filter all=1");
    }
    let all = args.all || filters.all == Some(true);
    let what = if all { "all" } else { "anonymous" };
    let question = format!(
        "WARNING! This will remove {what} local volumes not used by at least one container.\n\
         Are you sure you want to continue?"
    );
    if !(args.force || prune::confirmed(&question)?) {
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = |volume: &Volume| (all || is_anonymous(volume)) && filters.fit(volume);
    let bytes = prune_unused(store, volumes, chosen)?;
    ui::line(format_args!("Total reclaimed space: {}", format::size(bytes)));
    Ok(ExitCode::SUCCESS)
}

/// Removes volumes that no container uses and `chosen` says yes to, tells which, and returns how
/// many bytes they held.
pub(crate) fn prune_unused(
    store: &Store,
    volumes: &Volumes<'_>,
    chosen: impl Fn(&Volume) -> bool,
) -> anyhow::Result<u64> {
    let pruned = volumes.prune(chosen, || users(store))?;
    prune::tell_list("Deleted Volumes:", pruned.names.into_iter());
    Ok(pruned.bytes)
}

/// The containers that have each volume mounted or would, running or not.
fn users(store: &Store) -> io::Result<Users> {
    let containers = Containers::open(store).map_err(io::Error::other)?;
    containers::users(&containers)
}

/// Which volumes are meant.
#[derive(Debug, Default)]
struct Filters {
    dangling: Option<bool>,
    all: Option<bool>,
    drivers: Vec<String>,
    names: Vec<String>,
    labels: Vec<String>,
    without_labels: Vec<String>,
}

impl Filters {
    fn parse(given: &[String], known: &[&str]) -> anyhow::Result<Self> {
        let mut filters = Self::default();
        for text in given {
            let Some((name, value)) = text.split_once('=') else {
                bail!("invalid filter '{text}': write NAME=VALUE");
            };
            let (name, value) = (name.trim().to_lowercase(), value.trim().to_owned());
            if !known.contains(&name.as_str()) {
                bail!("invalid filter '{name}'");
            }
            match name.as_str() {
                "dangling" => filters.dangling = Some(truth(&name, &value)?),
                "all" => filters.all = Some(truth(&name, &value)?),
                "driver" => filters.drivers.push(value),
                "name" => filters.names.push(value),
                "label" => filters.labels.push(value),
                _ => filters.without_labels.push(value),
            }
        }
        Ok(filters)
    }

    /// Whether a volume fits; whether anybody uses it is not asked.
    fn fit(&self, volume: &Volume) -> bool {
        let has = |wanted: &String| {
            let Some(labels) = &volume.labels else { return false };
            match wanted.split_once('=') {
                Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
                None => labels.contains_key(wanted),
            }
        };
        (self.drivers.is_empty() || self.drivers.contains(&volume.driver))
            && (self.names.is_empty() || self.names.iter().any(|name| volume.name.contains(name)))
            && self.labels.iter().all(has)
            && !self.without_labels.iter().any(has)
    }
}

fn truth(name: &str, value: &str) -> anyhow::Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => bail!("invalid filter '{name}={value}': true or false is expected"),
    }
}

/// Orders names as people do: `v2` before `v10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (digits, others) = (digits(a), digits(b));
        if digits > 0 && others > 0 {
            let (left, right) = (&a[..digits], &b[..others]);
            let number = |text: &str| text.trim_start_matches('0').to_owned();
            let (left_number, right_number) = (number(left), number(right));
            let order = left_number.len().cmp(&right_number.len());
            let order = order.then(left_number.cmp(&right_number)).then(digits.cmp(&others));
            if order.is_ne() {
                return order;
            }
            (a, b) = (&a[digits..], &b[others..]);
            continue;
        }
        let (mut left, mut right) = (a.chars(), b.chars());
        match (left.next(), right.next()) {
            (Some(x), Some(y)) if x == y => (a, b) = (left.as_str(), right.as_str()),
            (x, y) => return x.cmp(&y),
        }
    }
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_numbers_are_ordered_by_them() {
        let mut names = ["v10", "v2", "v02", "a", "v1-b", "v1-a", "v", "10", "9", "v2x"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["9", "10", "a", "v", "v1-a", "v1-b", "v2", "v2x", "v02", "v10"]);
    }

    #[test]
    fn filters_are_dockers() {
        let volume = Volume {
            name: "web-data".to_owned(),
            driver: "local".to_owned(),
            labels: Some(StringMap::from([("a".to_owned(), "b".to_owned())])),
            ..Volume::default()
        };
        let known = ["dangling", "driver", "label", "label!", "name"];
        for (given, expected) in [
            (&["name=web"][..], Ok(true)),
            (&["name=x", "name=data"], Ok(true)),
            (&["name=x"], Ok(false)),
            (&["label=a"], Ok(true)),
            (&["label=a=b", "label=c"], Ok(false)),
            (&["label!=c"], Ok(true)),
            (&["driver=nfs"], Ok(false)),
            (&["dangling=maybe"], Err("true or false")),
            (&["until=1h"], Err("invalid filter 'until'")),
            (&["label"], Err("write NAME=VALUE")),
        ] {
            let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
            match (Filters::parse(&given, &known), expected) {
                (Ok(filters), Ok(fits)) => assert_eq!(filters.fit(&volume), fits, "{given:?}"),
                (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
                (found, _) => panic!("{given:?}: {found:?}"),
            }
        }
    }
}
