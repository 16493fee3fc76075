//! `ps` and `container ls`: the list of containers.

mod filters;
mod pattern;

use std::path::Path;
use std::process::ExitCode;

use anyhow::anyhow;
use cache::Store;
use clap::Args;
use engine::containers::Containers;
use engine::containers::record::Record;
use engine::template::{Template, TemplateError};

pub(crate) use filters::Filters;

use crate::container_row::Rows;
use crate::format::{self, Listing};
use crate::list_flags::ListFlags;
use crate::{container_inspect, reconcile, ui};

/// What `ps` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct PsArgs {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: ListFlags,
    /// Show the last N that were made, whatever they do
    #[arg(short = 'n', long, value_name = "N", default_value_t = -1, allow_hyphen_values = true)]
    last: i64,
    /// Show the last one that was made, whatever it does
    #[arg(short, long)]
    latest: bool,
    /// Show how much the containers have written
    #[arg(short, long)]
    size: bool,
    /// Print whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only containers that fit: name=, label=, status=, ancestor=, health=, network=, volume=, ...
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
}

const HEADINGS: &[(&str, &str)] = &[
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Names", "NAMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("Ports", "PORTS"),
    ("RunningFor", "CREATED"),
    ("Size", "SIZE"),
    ("State", "STATE"),
    ("Status", "STATUS"),
];

const CONTAINERS: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    headings: HEADINGS,
    type_name: "*formatter.ContainerContext",
};

const WITH_SIZES: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    headings: HEADINGS,
    type_name: "*formatter.ContainerContext",
};

/// Lists containers.
pub(crate) fn ps(root: &Path, args: &PsArgs) -> anyhow::Result<ExitCode> {
    let own = args.flags.format("").filter(|format| !format.is_empty());
    own.map_or(Ok(()), check_format)?;
    let store = Store::open(root)?;
    let containers = Containers::open(&store)?;
    let filters = Filters::parse(root, &containers, &args.filter)?;
    let last = if args.latest { 1 } else { usize::try_from(args.last).unwrap_or(0) };
    let all = args.all || last > 0 || filters.asks_for_stopped();
    reconcile::after_boot(&containers);
    let listed = containers.list()?;
    reconcile::after_death(&containers, &listed);
    let chosen = listed.iter().filter(|one| all || one.state.status.is_active());
    let chosen =
        chosen.filter(|one| filters.fit(one)).take(if last > 0 { last } else { usize::MAX });
    let sized = args.size || args.flags.asks_for(".Size");
    let row = Rows::new(&store, args.no_trunc)?;
    let mut rows = Vec::new();
    for observed in chosen {
        let size = if sized { size(&containers, &observed.record) } else { "0B".to_owned() };
        rows.push(row.of(observed, size));
    }
    let listing = if args.size { &WITH_SIZES } else { &CONTAINERS };
    ui::raw(listing.text(args.flags.format("{{.ID}}"), &rows)?.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// Refuses a format before there is anything to list, as docker does.
fn check_format(format: &str) -> anyhow::Result<()> {
    let said = |error: TemplateError, what: &'static str| {
        let text = error.to_string();
        let text = text.strip_prefix("template parsing error: ").unwrap_or(&text).to_owned();
        anyhow!(text).context(what)
    };
    let template =
        Template::parse(format).map_err(|error| said(error, "failed to parse template"))?;
    // What else fails with empty values need not fail with those of a container.
    CONTAINERS
        .check_fields(&template, &CONTAINERS.empty_row())
        .map_err(|error| said(error, "failed to execute template"))
}

fn size(containers: &Containers<'_>, record: &Record) -> String {
    let sizes = container_inspect::Sizes::of(containers, record);
    let written = format::size(sizes.written);
    match sizes.all {
        0 => written,
        all => format!("{written} (virtual {})", format::size(all)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_nothing_is_its_headings() {
        let table = CONTAINERS.text(None, &[]).expect("table");
        let headings = "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n";
        assert_eq!(table, headings);
    }
}
