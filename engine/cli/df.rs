//! `system df` and `buildx du`: what takes the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use cache::Store;
use cache::digest::Digest;
use cache::prune::Kind;
use cache::usage::{Entry, Usage};
use clap::Args;
use engine::units;
use serde_json::{Value, json};

use crate::format::{self, Listing};
use crate::images::{self, Named};
use crate::ui;

/// What `system df` is told.
#[derive(Args)]
pub(crate) struct DfArgs {
    /// Show each image, container, volume and step
    #[arg(short, long)]
    verbose: bool,
    /// table, table TEMPLATE, json or a Go template
    #[arg(long)]
    format: Option<String>,
}

const SUMMARY: Listing = Listing {
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    headings: &[
        ("Active", "ACTIVE"),
        ("Reclaimable", "RECLAIMABLE"),
        ("Size", "SIZE"),
        ("TotalCount", "TOTAL"),
        ("Type", "TYPE"),
    ],
};

const IMAGES: Listing = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    headings: &[
        ("Containers", "CONTAINERS"),
        ("CreatedSince", "CREATED"),
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("SharedSize", "SHARED SIZE"),
        ("Size", "SIZE"),
        ("Tag", "TAG"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
};

const CONTAINERS: Listing = Listing {
    table: "CONTAINER ID\tIMAGE\tCOMMAND\tLOCAL VOLUMES\tSIZE\tCREATED\tSTATUS\tNAMES",
    headings: &[],
};

const VOLUMES: Listing = Listing { table: "VOLUME NAME\tLINKS\tSIZE", headings: &[] };

const CACHE: Listing = Listing {
    table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
    headings: &[
        ("CacheType", "CACHE TYPE"),
        ("CreatedSince", "CREATED"),
        ("ID", "CACHE ID"),
        ("LastUsedSince", "LAST USED"),
        ("Shared", "SHARED"),
        ("Size", "SIZE"),
        ("UsageCount", "USAGE"),
    ],
};

/// Prints what takes the disk.
pub(crate) fn df(root: &Path, args: &DfArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let usage = store.usage()?;
    let images = images::all(&store)?;
    if args.verbose {
        verbose(&usage, &images, args.format.as_deref())?;
    } else {
        let rows = summary(&usage, images.len());
        ui::raw(SUMMARY.text(args.format.as_deref(), &rows)?.as_bytes());
    }
    Ok(ExitCode::SUCCESS)
}

/// A row for each kind of thing; together they are what `du` says of the store. Containers in the
/// foreground leave nothing behind, and there are no volumes yet, so nothing is in use when nothing
/// runs. The frame around the images counts as theirs, once there are any.
fn summary(usage: &Usage, images: usize) -> Vec<Value> {
    let row = |kind: &str, count: usize, active: usize, size: u64, reclaimable: String| {
        json!({
            "Active": active.to_string(),
            "Reclaimable": reclaimable,
            "Size": human(size),
            "TotalCount": count.to_string(),
            "Type": kind,
        })
    };
    let all_of = |size: u64| match size {
        0 => "0B".to_owned(),
        size => format!("{} (100%)", human(size)),
    };
    let shared = usage.cache.iter().filter(|entry| entry.shared).count();
    let cache = usage.cache_bytes();
    let of_images = usage.images + if usage.images > 0 { usage.frame } else { 0 };
    vec![
        row("Images", images, 0, of_images, all_of(usage.images)),
        row("Containers", 0, 0, usage.scratch, all_of(0)),
        row("Local Volumes", 0, 0, 0, all_of(0)),
        row("Build Cache", usage.cache.len(), shared, cache, human(cache)),
    ]
}

fn human(bytes: u64) -> String {
    units::human_size(bytes as f64)
}

fn verbose(usage: &Usage, images: &[Named], format: Option<&str>) -> anyhow::Result<()> {
    let image_rows = image_rows(images);
    let cache_rows: Vec<Value> = usage.cache.iter().map(cache_row).collect();
    if let Some(format) = format.filter(|format| *format != "table") {
        let all = json!({
            "Images": image_rows,
            "Containers": [],
            "Volumes": [],
            "BuildCache": cache_rows,
        });
        ui::line(format::value(format, &all, &all)?);
        return Ok(());
    }
    let sections = [
        ("Images space usage:", &IMAGES, image_rows),
        ("\nContainers space usage:", &CONTAINERS, Vec::new()),
        ("\nLocal Volumes space usage:", &VOLUMES, Vec::new()),
        (&format!("\nBuild cache usage: {}", human(usage.cache_bytes())), &CACHE, cache_rows),
    ];
    for (title, listing, rows) in sections {
        ui::raw(format!("{title}\n\n{}", listing.text(None, &rows)?).as_bytes());
    }
    Ok(())
}

/// A row for each image; a layer that several images have is shared among them.
fn image_rows(images: &[Named]) -> Vec<Value> {
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    for named in images {
        let layers: BTreeSet<Digest> =
            named.image.manifest.layers.iter().map(|layer| layer.digest).collect();
        for layer in layers {
            *users.entry(layer).or_default() += 1;
        }
    }
    let shown = |named: &Named| {
        let layers = named.image.manifest.layers.iter();
        let shared: u64 =
            layers.filter(|layer| users[&layer.digest] > 1).map(|layer| layer.size).sum();
        let name = named.names.first();
        let repository = name.map_or_else(|| "<none>".to_owned(), |name| name.familiar_name());
        let tag = name.and_then(|name| name.tag.clone()).unwrap_or_else(|| "<none>".to_owned());
        let mut row = images::row(named, &repository, &tag, "<none>", false);
        row["Containers"] = "0".into();
        row["SharedSize"] = human(shared).into();
        row["UniqueSize"] = human(named.image.size() - shared).into();
        row
    };
    images.iter().map(shown).collect()
}

fn cache_row(entry: &Entry) -> Value {
    let kind = match entry.kind {
        Kind::Record => "regular",
        Kind::Layer | Kind::Blob | Kind::Derived | Kind::Journal => "internal",
        Kind::Source => "source.local",
        Kind::Context => "context",
        Kind::Mount => "exec.cachemount",
    };
    json!({
        "CacheType": kind,
        "CreatedSince": format::since(entry.changed),
        "Description": entry.description,
        "ID": entry.name.chars().take(12).collect::<String>(),
        "InUse": "false",
        "LastUsedSince": format::since(entry.used),
        "Parent": "",
        "Shared": entry.shared.to_string(),
        "Size": human(entry.bytes),
        "UsageCount": "1",
    })
}

/// Prints the build cache as `buildx du` does.
pub(crate) fn du(root: &Path) -> anyhow::Result<ExitCode> {
    let usage = Store::open(root)?.usage()?;
    let mut table = "ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n".to_owned();
    for entry in &usage.cache {
        let reclaimable = !entry.shared;
        let size = human(entry.bytes);
        table += &format!("{}\t{reclaimable}\t{size}\t{}\n", entry.name, format::since(entry.used));
    }
    let shared: u64 =
        usage.cache.iter().filter(|entry| entry.shared).map(|entry| entry.bytes).sum();
    let total = usage.cache_bytes();
    table += &format!("Shared:\t{}\nPrivate:\t{}\n", human(shared), human(total - shared));
    table += &format!("Reclaimable:\t{}\nTotal:\t{}\n", human(total), human(total));
    ui::raw(format::aligned(&table, 10, 3).as_bytes());
    Ok(ExitCode::SUCCESS)
}
