//! `image prune`, `builder prune`, `system prune`: removal of what nothing needs, after asking.
//! Containers, networks and volumes are in `unused`.

mod unused;

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use cache::Store;
use cache::digest::Digest;
use cache::prune::{CacheScope, Item, Kind, Plan, Reason, Scope, Stay, Staying, Use};
use clap::Args;
use engine::units;

use crate::images::{self, Filters};
use crate::in_use::InUse;
use crate::paths::network_dir;
use crate::{format, tags, ui};

pub(crate) use unused::{ContainerPruneArgs, prune_containers, tell_list};
use unused::{Gone, Wanted};

/// What all of them are told.
#[derive(Args)]
pub(crate) struct TellingArgs {
    /// Tell what would go, and why; remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Tell what stays, too, and why
    #[arg(short, long)]
    verbose: bool,
}

impl TellingArgs {
    fn how(&self) -> Telling {
        Telling { dry: self.dry_run, verbose: self.verbose }
    }
}

/// What `image prune` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct ImagePruneArgs {
    /// All images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what fits: until=24h, label=NAME[=VALUE], label!=NAME[=VALUE]
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    #[command(flatten)]
    telling: TellingArgs,
}

/// What `builder prune` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct BuilderPruneArgs {
    /// Cache mounts too
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what was last used before: until=24h
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// The least valuable goes until the build cache is no bigger
    #[arg(long, value_name = "BYTES", visible_aliases = ["reserved-space", "max-used-space"])]
    keep_storage: Option<String>,
    /// The least valuable goes until the whole store is no bigger
    #[arg(long, value_name = "BYTES")]
    max_size: Option<String>,
    #[command(flatten)]
    telling: TellingArgs,
    /// The builder (there is one)
    #[arg(long, hide = true)]
    builder: Option<String>,
}

/// What `system prune` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct SystemPruneArgs {
    /// All images that no container uses, and cache mounts
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Anonymous volumes too
    #[arg(long)]
    volumes: bool,
    /// Only what fits: until=24h, label=NAME[=VALUE], label!=NAME[=VALUE]
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Of the build cache the least valuable goes, and only until the whole store is no bigger
    #[arg(long, value_name = "BYTES")]
    max_size: Option<String>,
    #[command(flatten)]
    telling: TellingArgs,
}

/// Removes images.
pub(crate) fn prune_images(root: &Path, args: &ImagePruneArgs) -> anyhow::Result<ExitCode> {
    let what = if args.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !(args.force || args.telling.dry_run || confirmed(&question)?) {
        return Ok(ExitCode::SUCCESS);
    }
    let store = Store::open(root)?;
    let filters = prune_filters(&store, &args.filter)?;
    let gone = Gone::default();
    let chosen = choose_images(&store, &filters, args.all, &gone)?;
    let scope = Scope { images: digests(&chosen), cache: None };
    carry_out(&store, &scope, &chosen, &gone, args.telling.how())?;
    Ok(ExitCode::SUCCESS)
}

/// Removes the build cache.
pub(crate) fn prune_cache(root: &Path, args: &BuilderPruneArgs) -> anyhow::Result<ExitCode> {
    let what = if args.all { "all build cache" } else { "all dangling build cache" };
    let scope = CacheScope {
        mounts: args.all,
        before: oldest(&args.filter)?,
        keep_bytes: args.keep_storage.as_deref().map(units::parse_memory).transpose()?,
        max_bytes: args.max_size.as_deref().map(units::parse_memory).transpose()?,
    };
    let question = format!("WARNING! This will remove {what}. Are you sure you want to continue?");
    if !(args.force || args.telling.dry_run || confirmed(&question)?) {
        return Ok(ExitCode::SUCCESS);
    }
    let scope = Scope { images: Vec::new(), cache: Some(scope) };
    carry_out(&Store::open(root)?, &scope, &[], &Gone::default(), args.telling.how())?;
    Ok(ExitCode::SUCCESS)
}

/// Removes containers, networks, volumes, images and the build cache, in this order: who uses
/// something goes before it.
pub(crate) fn prune_system(root: &Path, args: &SystemPruneArgs) -> anyhow::Result<ExitCode> {
    let (images, cache) = if args.all {
        ("all images without at least one container associated to them", "all build cache")
    } else {
        ("all dangling images", "unused build cache")
    };
    let mut what =
        vec!["all stopped containers", "all networks not used by at least one container"];
    what.extend(args.volumes.then_some("all anonymous volumes not used by at least one container"));
    what.extend([images, cache]);
    let mut question = "WARNING! This will remove:\n".to_owned();
    what.iter().for_each(|line| question += &format!("  - {line}\n"));
    if !args.filter.is_empty() {
        question += "\n  Items to be pruned will be filtered with:\n";
        args.filter.iter().for_each(|line| question += &format!("  - {line}\n"));
    }
    question += "\nAre you sure you want to continue?";
    if !(args.force || args.telling.dry_run || confirmed(&question)?) {
        return Ok(ExitCode::SUCCESS);
    }
    let store = Store::open(root)?;
    let filters = prune_filters(&store, &args.filter)?;
    let wanted = Wanted::parse(&args.filter)?;
    if args.volumes && wanted.before.is_some() {
        bail!("The \"until\" filter is not supported with \"--volumes\"");
    }
    let until: Vec<String> =
        args.filter.iter().filter(|filter| filter.starts_with("until=")).cloned().collect();
    // Steps have no labels: asked for what has one, none of them is meant.
    let max_bytes = args.max_size.as_deref().map(units::parse_memory).transpose()?;
    let cache =
        CacheScope { mounts: args.all, before: oldest(&until)?, keep_bytes: None, max_bytes };
    let cache = (until.len() == args.filter.len()).then_some(cache);
    if cache.is_none() && max_bytes.is_some() {
        bail!("--max-size and --filter label do not go together: steps of a build have no labels");
    }
    let how = args.telling.how();
    let mut gone = unused::stopped_containers(&store, &wanted, how)?;
    unused::networks(root, &wanted, how)?;
    if args.volumes {
        gone.bytes += unused::volumes(&store, &wanted, &gone, how)?;
    }
    let chosen = choose_images(&store, &filters, args.all, &gone)?;
    let scope = Scope { images: digests(&chosen), cache };
    carry_out(&store, &scope, &chosen, &gone, how)?;
    if !args.telling.dry_run {
        engine::network::sweep(&network_dir()).context("remove networks that nobody uses")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks on the terminal; no answer is a no.
pub(crate) fn confirmed(question: &str) -> anyhow::Result<bool> {
    ui::screen(&format!("{question} [y/N] "));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("read the answer")?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn prune_filters(store: &Store, given: &[String]) -> anyhow::Result<Filters> {
    for filter in given {
        let name = filter.split('=').next().unwrap_or_default();
        if !["until", "label", "label!"].contains(&name) {
            bail!("invalid filter '{name}'");
        }
    }
    Filters::parse(store, given)
}

/// The latest time that all `until` filters allow.
fn oldest(filters: &[String]) -> anyhow::Result<Option<i64>> {
    let mut limit: Option<i64> = None;
    for filter in filters {
        // Docker's two names for the same: a step's time is that of its last use.
        let Some(("until" | "unused-for", text)) = filter.split_once('=') else {
            bail!("invalid filter '{filter}': steps of a build can be chosen by until=");
        };
        let time = images::until(text, format::now())?;
        limit = Some(limit.map_or(time, |limit| limit.min(time)));
    }
    Ok(limit)
}

/// An image that is to go, and what is then told: a line for each name and one for itself.
struct Chosen {
    digest: Digest,
    /// What it is called, or its id.
    name: String,
    lines: Vec<String>,
}

/// Chooses the images that go: those without a name, or all; of those that cannot be read, the
/// ones without a name. What containers were made of, the store keeps; what they mount does not go
/// either.
fn choose_images(
    store: &Store,
    filters: &Filters,
    all: bool,
    gone: &Gone,
) -> anyhow::Result<Vec<Chosen>> {
    let mut in_use = InUse::read(store)?;
    in_use.containers.retain(|one| !gone.containers.contains(&one.record.id));
    let mut chosen = Vec::new();
    for named in filters.choose(images::all(store)?)? {
        let mounted = || in_use.mounting(&named.names).next().is_some();
        if (all && !mounted()) || named.names.is_empty() {
            let names = named.familiar();
            let name = names.first().cloned().unwrap_or_else(|| named.image.id().to_string());
            let mut lines: Vec<_> = names.iter().map(|name| format!("untagged: {name}")).collect();
            lines.push(format!("deleted: {}", named.image.id()));
            chosen.push(Chosen { digest: named.image.digest, name, lines });
        }
    }
    for listed in store.list_images()? {
        if listed.name.is_none() && store.peek_image(&listed.digest).is_err() {
            let lines = vec![format!("deleted: {}", listed.digest)];
            let name = listed.digest.to_string();
            chosen.push(Chosen { digest: listed.digest, name, lines });
        }
    }
    Ok(chosen)
}

fn digests(chosen: &[Chosen]) -> Vec<Digest> {
    chosen.iter().map(|chosen| chosen.digest).collect()
}

/// Removes what the scope names and what nothing needs, or tells what that would be.
fn carry_out(
    store: &Store,
    scope: &Scope,
    chosen: &[Chosen],
    gone: &Gone,
    how: Telling,
) -> anyhow::Result<Plan> {
    let plan = if how.dry {
        let gone = gone.containers.iter().filter_map(|id| Digest::from_hex(id)).collect();
        store.plan_prune_without(scope, &gone)?
    } else {
        store.prune(scope)?
    };
    tell_images(chosen, &plan, how);
    if how.dry {
        plan.items.iter().for_each(|item| ui::line(would_go(item)));
    } else {
        tell_cache(&plan);
    }
    // What goes only after its container is worth a word without being asked.
    let told =
        |staying: &&Staying| how.verbose || how.dry && matches!(staying.why, Stay::Container(_));
    plan.stays.iter().filter(told).for_each(|staying| ui::line(stays(staying, chosen)));
    tell_total(plan.bytes() + gone.bytes, how);
    let limit = scope.cache.as_ref().and_then(|cache| cache.max_bytes);
    if let (Some(limit), Some(left)) = (limit, plan.left)
        && left > limit
    {
        ui::note(format_args!(
            "WARNING: {} of {} stay, more than the limit: what images on the list need, and what processes use, is never evicted",
            human(left),
            human(left + plan.bytes()),
        ));
    }
    Ok(plan)
}

fn tell_total(bytes: u64, how: Telling) {
    let total = human(bytes);
    ui::line(match how.dry {
        true => format!("Total reclaimable space: {total}"),
        false => format!("Total reclaimed space: {total}"),
    });
}

/// What is told.
#[derive(Clone, Copy)]
struct Telling {
    /// Nothing is removed.
    dry: bool,
    /// What stays is told, too.
    verbose: bool,
}

fn human(bytes: u64) -> String {
    units::human_size(bytes as f64)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "image",
        Kind::Journal => "build",
        Kind::Record => "step",
        Kind::Derived => "derived forms of layer",
        Kind::Layer => "layer",
        Kind::Blob => "blob",
        Kind::Source => "download",
        Kind::Context => "context",
        Kind::Mount => "cache mount",
    }
}

fn would_go(item: &Item) -> String {
    let why = match &item.reason {
        Reason::Unneeded => "no image and no step needs it".to_owned(),
        Reason::Useless(why) => (*why).to_owned(),
        Reason::Unused(usage) => unused(usage),
    };
    format!("would go: {} {}: {why}, {}", kind(item.kind), item.name, human(item.bytes))
}

fn stays(staying: &Staying, chosen: &[Chosen]) -> String {
    let why = match &staying.why {
        Stay::Image => "an image needs it".to_owned(),
        Stay::Container(name) => format!("needed by container {name}"),
        Stay::InUse => "a process uses it".to_owned(),
        Stay::Recent(usage) => format!("used since the time given: {}", unused(usage)),
        Stay::Fits(usage) => format!("within the limit: {}", unused(usage)),
        Stay::NotAsked => "not asked for".to_owned(),
    };
    let image =
        chosen.iter().find(|one| staying.kind == Kind::Image && one.digest.hex() == staying.name);
    let name = image.map_or(&staying.name, |image| &image.name);
    format!("stays: {} {name}: {why}", kind(staying.kind))
}

fn unused(usage: &Use) -> String {
    let age = Duration::from_secs(format::now().saturating_sub(usage.last).max(0).unsigned_abs());
    let since = format!("unused since {}", units::human_duration(age).to_lowercase());
    match usage.took_ms {
        Some(took) if took >= 10_000 => format!("{since}, took {} s to make", took / 1000),
        Some(took) => format!("{since}, took {took} ms to make"),
        None => since,
    }
}

fn tell_images(chosen: &[Chosen], plan: &Plan, how: Telling) {
    let mut gone = chosen.iter().filter(|chosen| plan.images.contains(&chosen.digest)).peekable();
    if gone.peek().is_none() {
        return;
    }
    if how.dry {
        gone.flat_map(|image| &image.lines)
            .for_each(|line| ui::line(format_args!("would be {line}")));
        return;
    }
    ui::line("Deleted Images:");
    gone.flat_map(|image| &image.lines).for_each(ui::line);
    tags::gone_layers(plan).for_each(|layer| ui::line(format_args!("deleted: {layer}")));
    ui::line("");
}

fn tell_cache(plan: &Plan) {
    // Downloads have files beside them, named after them: locks and records.
    let steps: Vec<_> = plan
        .items
        .iter()
        .filter(|item| {
            matches!(item.kind, Kind::Record | Kind::Source | Kind::Mount)
                && !item.name.contains('.')
        })
        .collect();
    if steps.is_empty() {
        return;
    }
    ui::line("Deleted build cache objects:");
    steps.iter().for_each(|item| ui::line(&item.name));
    ui::line("");
}
