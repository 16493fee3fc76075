//! `image prune`, `builder prune`, `system prune`: removal of what nothing needs, after asking.

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cache::Store;
use cache::digest::Digest;
use cache::prune::{CacheScope, Kind, Plan};
use clap::Args;
use engine::units;

use crate::images::{self, Filters};
use crate::paths::network_dir;
use crate::{format, tags, ui};

/// How long other processes have to finish what they do with the store.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `image prune` is told.
#[derive(Args)]
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
}

/// What `builder prune` is told.
#[derive(Args)]
pub(crate) struct BuilderPruneArgs {
    /// Cache mounts too
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what was made before: until=24h
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// As much of the newest stays
    #[arg(long, value_name = "BYTES", visible_aliases = ["reserved-space", "max-used-space"])]
    keep_storage: Option<String>,
    /// Tell more (nothing more is told)
    #[arg(long, hide = true)]
    verbose: bool,
    /// The builder (there is one)
    #[arg(long, hide = true)]
    builder: Option<String>,
}

/// What `system prune` is told.
#[derive(Args)]
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
}

/// Removes images.
pub(crate) fn prune_images(root: &Path, args: &ImagePruneArgs) -> anyhow::Result<ExitCode> {
    let what = if args.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !(args.force || confirmed(&question)?) {
        return Ok(ExitCode::SUCCESS);
    }
    let store = Store::open(root)?;
    let filters = prune_filters(&store, &args.filter)?;
    let chosen = choose_images(&store, &filters, args.all)?;
    let plan = carry_out(&store, &chosen.images, None)?;
    tell_images(&chosen, &plan);
    tell_total(&plan);
    Ok(ExitCode::SUCCESS)
}

/// Removes the build cache.
pub(crate) fn prune_cache(root: &Path, args: &BuilderPruneArgs) -> anyhow::Result<ExitCode> {
    let what = if args.all { "all build cache" } else { "all dangling build cache" };
    let scope = CacheScope {
        mounts: args.all,
        before: oldest(&args.filter)?,
        keep_bytes: args.keep_storage.as_deref().map(units::parse_memory).transpose()?,
    };
    let question = format!("WARNING! This will remove {what}. Are you sure you want to continue?");
    if !(args.force || confirmed(&question)?) {
        return Ok(ExitCode::SUCCESS);
    }
    let plan = carry_out(&Store::open(root)?, &[], Some(&scope))?;
    tell_cache(&plan);
    tell_total(&plan);
    Ok(ExitCode::SUCCESS)
}

/// Removes images and the build cache.
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
    if !(args.force || confirmed(&question)?) {
        return Ok(ExitCode::SUCCESS);
    }
    let store = Store::open(root)?;
    let filters = prune_filters(&store, &args.filter)?;
    let until: Vec<String> =
        args.filter.iter().filter(|filter| filter.starts_with("until=")).cloned().collect();
    // Steps have no labels: asked for what has one, none of them is meant.
    let scope = CacheScope { mounts: args.all, before: oldest(&until)?, keep_bytes: None };
    let scope = (until.len() == args.filter.len()).then_some(scope);
    let chosen = choose_images(&store, &filters, args.all)?;
    let plan = carry_out(&store, &chosen.images, scope.as_ref())?;
    engine::network::sweep(&network_dir()).context("remove networks that nobody uses")?;
    tell_images(&chosen, &plan);
    tell_cache(&plan);
    tell_total(&plan);
    Ok(ExitCode::SUCCESS)
}

/// Asks on the terminal; no answer is a no.
fn confirmed(question: &str) -> anyhow::Result<bool> {
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
        let Some(("until", text)) = filter.split_once('=') else {
            bail!("invalid filter '{filter}': steps of a build can be chosen by until=");
        };
        let time = images::until(text, format::now())?;
        limit = Some(limit.map_or(time, |limit| limit.min(time)));
    }
    Ok(limit)
}

/// Images that go, and what is then told of them, a line for each name and each image.
#[derive(Default)]
struct Chosen {
    images: Vec<Digest>,
    lines: Vec<String>,
}

/// Chooses the images that go: those without a name, or all; of those that cannot be read, the
/// ones without a name.
fn choose_images(store: &Store, filters: &Filters, all: bool) -> anyhow::Result<Chosen> {
    let mut chosen = Chosen::default();
    for named in filters.choose(images::all(store)?)? {
        if all || named.names.is_empty() {
            let names = named.familiar();
            chosen.images.push(named.image.digest);
            chosen.lines.extend(names.iter().map(|name| format!("untagged: {name}")));
            chosen.lines.push(format!("deleted: {}", named.image.id()));
        }
    }
    for listed in store.list_images()? {
        if listed.name.is_none() && store.read_image(&listed.digest).is_err() {
            chosen.images.push(listed.digest);
            chosen.lines.push(format!("deleted: {}", listed.digest));
        }
    }
    Ok(chosen)
}

/// Removes what nothing needs, waiting a moment for others who use the store.
fn carry_out(store: &Store, images: &[Digest], scope: Option<&CacheScope>) -> anyhow::Result<Plan> {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(plan) = store.prune(images, scope)? {
            return Ok(plan);
        }
        if Instant::now() > patience {
            bail!(
                "{} is in use by another process, so nothing was removed; try again when it has ended",
                store.root().display()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn tell_images(chosen: &Chosen, plan: &Plan) {
    if chosen.lines.is_empty() {
        return;
    }
    ui::line("Deleted Images:");
    chosen.lines.iter().for_each(ui::line);
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

fn tell_total(plan: &Plan) {
    ui::line(format_args!("Total reclaimed space: {}", units::human_size(plan.bytes() as f64)));
}
