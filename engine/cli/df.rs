//! `system df` and `buildx du`: what takes the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use cache::Store;
use cache::digest::Digest;
use cache::prune::Kind;
use cache::usage::{Entry, Usage};
use clap::Args;
use engine::containers::{Containers, Observed, users};
use engine::units;
use engine::volume::{Users, Volume, Volumes};
use serde_json::{Value, json};

use crate::format::{self, Listing};
use crate::images::{self, Named};
use crate::in_use::InUse;
use crate::{container_row, ui, volume_row};

/// What `system df` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
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
    type_name: "*formatter.diskUsageImagesContext",
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
    type_name: "*formatter.imageContext",
};

const CONTAINERS: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    headings: &[
        ("Command", "COMMAND"),
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Names", "NAMES"),
        ("RunningFor", "CREATED"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
    ],
    type_name: "*formatter.ContainerContext",
};

const VOLUMES: Listing = Listing {
    table: "{{.Name}}\t{{.Links}}\t{{.Size}}",
    headings: &[("Links", "LINKS"), ("Name", "VOLUME NAME"), ("Size", "SIZE")],
    type_name: "*formatter.volumeContext",
};

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
    type_name: "*formatter.buildCacheContext",
};

/// What is known of the store.
struct Known {
    usage: Usage,
    images: Vec<Named>,
    in_use: InUse,
    volumes: Vec<Volume>,
    /// Which containers use which volumes.
    users: Users,
}

impl Known {
    fn read(store: &Store) -> anyhow::Result<Self> {
        // Who only looks makes no directories.
        let has = |dir: &str| store.root().join(dir).exists();
        Ok(Self {
            usage: store.usage()?,
            images: images::all(store)?,
            in_use: InUse::read(store)?,
            volumes: if has("volumes") { Volumes::open(store)?.list()? } else { Vec::new() },
            users: match has("containers") {
                true => users(&Containers::open(store)?)?,
                false => Users::new(),
            },
        })
    }

    /// How many containers have an image.
    fn containers_of(&self, named: &Named) -> usize {
        self.in_use.of(&named.image, &named.names).len()
    }

    /// How many containers use a volume.
    fn links(&self, name: &str) -> usize {
        self.users.get(name).map_or(0, Vec::len)
    }
}

/// Prints what takes the disk.
pub(crate) fn df(root: &Path, args: &DfArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let known = Known::read(&store)?;
    if args.verbose {
        verbose(&store, &known, args.format.as_deref())?;
    } else {
        ui::raw(SUMMARY.text(args.format.as_deref(), &summary(&known))?.as_bytes());
    }
    Ok(ExitCode::SUCCESS)
}

/// A row for each kind of thing; together they are what `du` says of the store. The frame around it
/// all counts as the images', once there are any.
fn summary(known: &Known) -> Vec<Value> {
    let Known { usage, images, in_use, volumes, .. } = known;
    let row = |kind: &str, count: usize, active: usize, size: u64, reclaimable: String| {
        json!({
            "Active": active.to_string(),
            "Reclaimable": reclaimable,
            "Size": human(size),
            "TotalCount": count.to_string(),
            "Type": kind,
        })
    };
    let active_images = images.iter().filter(|named| known.containers_of(named) > 0).count();
    let of_images = usage.images + if usage.images > 0 { usage.frame } else { 0 };
    let unused_images = part(usage.images - usage.images_in_use, usage.images);
    let is_active = |one: &&Observed| one.state.status.is_active();
    let active = in_use.containers.iter().filter(is_active).count();
    let all = |id: &str| usage.containers.get(id).map_or(0, |container| container.all);
    let busy =
        in_use.containers.iter().filter(is_active).map(|one| all(&one.record.id)).sum::<u64>();
    let own = usage.containers.values().map(|container| container.all).sum::<u64>();
    let active_volumes = volumes.iter().filter(|volume| known.links(&volume.name) > 0).count();
    let in_volumes = usage.volumes.values().sum::<u64>();
    let unused = usage.volumes.iter().filter(|(name, _)| known.links(name) == 0);
    let unused = unused.map(|(_, bytes)| bytes).sum::<u64>();
    let shared = usage.cache.iter().filter(|entry| entry.shared).count();
    let cache = usage.cache_bytes();
    vec![
        row("Images", images.len(), active_images, of_images, unused_images),
        row(
            "Containers",
            in_use.containers.len(),
            active,
            usage.container_bytes(),
            part(own.saturating_sub(busy), own),
        ),
        row("Local Volumes", volumes.len(), active_volumes, in_volumes, part(unused, in_volumes)),
        row("Build Cache", usage.cache.len(), shared, cache, human(cache)),
    ]
}

/// A size, and how much of the whole it is.
fn part(bytes: u64, whole: u64) -> String {
    match whole {
        0 => human(bytes),
        whole => format!("{} ({}%)", human(bytes), u128::from(bytes) * 100 / u128::from(whole)),
    }
}

fn human(bytes: u64) -> String {
    units::human_size(bytes as f64)
}

fn verbose(store: &Store, known: &Known, format: Option<&str>) -> anyhow::Result<()> {
    let usage = &known.usage;
    let written = |one: &Observed| {
        usage.containers.get(&one.record.id).map_or(0, |container| container.written)
    };
    let image_rows = image_rows(known);
    let container_rows =
        container_row::rows(store, &known.in_use.containers, |one| human(written(one)))?;
    let volume_rows: Vec<Value> = known.volumes.iter().map(|one| volume_row(known, one)).collect();
    let cache_rows: Vec<Value> = usage.cache.iter().map(cache_row).collect();
    if let Some(format) = format.filter(|format| *format != "table") {
        let all = json!({
            "Images": image_rows,
            "Containers": container_rows,
            "Volumes": volume_rows,
            "BuildCache": cache_rows,
        });
        ui::line(format::value(format, &all, &all)?);
        return Ok(());
    }
    let sections = [
        ("Images space usage:", &IMAGES, image_rows),
        ("\nContainers space usage:", &CONTAINERS, container_rows),
        ("\nLocal Volumes space usage:", &VOLUMES, volume_rows),
        (&format!("\nBuild cache usage: {}", human(usage.cache_bytes())), &CACHE, cache_rows),
    ];
    for (title, listing, rows) in sections {
        ui::raw(format!("{title}\n\n{}", listing.text(None, &rows)?).as_bytes());
    }
    Ok(())
}

fn volume_row(known: &Known, one: &Volume) -> Value {
    let mut row = volume_row::row(one);
    row["Links"] = known.links(&one.name).to_string().into();
    row["Size"] = human(known.usage.volumes.get(&one.name).copied().unwrap_or_default()).into();
    row
}

/// A row for each image; a layer that several images have is shared among them.
fn image_rows(known: &Known) -> Vec<Value> {
    let images = &known.images;
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
        row["Containers"] = known.containers_of(named).to_string().into();
        row["SharedSize"] = human(shared).into();
        row["UniqueSize"] = human(named.image.size() - shared).into();
        row
    };
    images.iter().map(shown).collect()
}

fn cache_row(entry: &Entry) -> Value {
    let kind = match entry.kind {
        Kind::Record => "regular",
        Kind::Image | Kind::Layer | Kind::Blob | Kind::Derived | Kind::Journal => "internal",
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
