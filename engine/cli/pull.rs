//! `pull`: images from registries; also what other verbs do when an image is not there.

use std::process::ExitCode;

use anyhow::bail;
use cache::Store;
use cache::oci::Platform;
use clap::Args;
use engine::reference::Reference;
use engine::registry::progress::Listener;
use engine::registry::{self, Pulled, Remote, Settings};

use crate::paths::Home;
use crate::transfers::{Show, Transfers, Way};
use crate::{registries, tags, ui};

/// What `pull` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct PullArgs {
    /// Pull all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// The platform to pull for, if the image is there for several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Print the image's full name only
    #[arg(short, long)]
    quiet: bool,
    /// Accepted as docker does; nothing is signed here
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// The image: NAME, NAME:TAG or NAME@DIGEST
    name: String,
}

/// Pulls.
pub(crate) fn pull(home: &Home, args: &PullArgs) -> anyhow::Result<ExitCode> {
    let reference = Reference::parse(&args.name)?;
    let platform = args.platform.as_deref().map(frontend::platform::parse).transpose()?;
    let store = home.open()?;
    store.sweep()?;
    let settings = registries::settings()?;
    let references = wanted(&reference, args, &settings)?;
    for reference in references {
        let pulled = told(&store, &reference, platform.as_ref(), &settings, args.quiet)?;
        if !args.quiet {
            ui::line(format_args!("Digest: {}", pulled.digest));
            let status = match pulled.is_new {
                true => "Downloaded newer image for",
                false => "Image is up to date for",
            };
            ui::line(format_args!("Status: {status} {}", reference.familiar()));
        }
        ui::line(&reference);
    }
    Ok(ExitCode::SUCCESS)
}

/// The names that are meant.
fn wanted(
    reference: &Reference,
    args: &PullArgs,
    settings: &Settings,
) -> anyhow::Result<Vec<Reference>> {
    if args.all_tags {
        if reference.tag.is_some() || reference.digest.is_some() {
            bail!("tag can't be used with --all-tags/-a");
        }
        let tags = registry::tags(reference, settings)?;
        let named = tags.iter().map(|tag| Ok(reference.clone().with_tag(tag)?));
        return named.collect();
    }
    if reference.tag.is_none() && reference.digest.is_none() && !args.quiet {
        ui::line("Using default tag: latest");
    }
    Ok(vec![reference.clone().for_pull()])
}

fn told(
    store: &Store,
    reference: &Reference,
    platform: Option<&Platform>,
    settings: &Settings,
    quiet: bool,
) -> anyhow::Result<Pulled> {
    let show = if quiet { Show::Nothing } else { Show::Answer };
    bring(store, reference, settings, show, |remote, listener| match platform {
        Some(wanted) => remote.pull(store, wanted, true, listener),
        None => remote.pull(store, &frontend::platform::host(), false, listener),
    })
}

/// Brings an image into the store in some way, and tells of it.
fn bring(
    store: &Store,
    reference: &Reference,
    settings: &Settings,
    show: Show,
    way: impl FnOnce(&Remote<'_>, Listener<'_>) -> Result<Pulled, registry::Error>,
) -> anyhow::Result<Pulled> {
    let remote = Remote::find(store, reference, settings)?;
    let what = match (&reference.tag, &reference.digest) {
        (Some(tag), None) => tag.clone(),
        _ => reference.to_string(),
    };
    let heading = format!("{what}: Pulling from {}", reference.path);
    match show {
        Show::Answer => ui::line(heading),
        Show::Beside => ui::note(heading),
        Show::Nothing => {}
    }
    let transfers = Transfers::new(Way::Pull, show);
    let pulled = way(&remote, &|event| transfers.event(event))?;
    let image = store.read_image(&pulled.manifest)?;
    tags::tell(store, "pull", &image, &reference.familiar());
    Ok(pulled)
}

/// Brings an image that another verb needs, telling of it beside that verb's answer. One that is
/// asked for by its platform does not take the name from those for others.
pub(crate) fn for_use(
    store: &Store,
    name: &str,
    platform: Option<&Platform>,
    quiet: bool,
) -> anyhow::Result<()> {
    let reference = Reference::parse(name)?.for_pull();
    let settings = registries::settings()?;
    let show = if quiet { Show::Nothing } else { Show::Beside };
    let pulled = bring(store, &reference, &settings, show, |remote, listener| match platform {
        Some(wanted) => remote.pull_beside(store, wanted, listener),
        None => remote.pull(store, &frontend::platform::host(), false, listener),
    })?;
    if !quiet {
        ui::note(format_args!("Digest: {}", pulled.digest));
        let status = if pulled.is_new { "Downloaded newer image" } else { "Image is up to date" };
        ui::note(format_args!("Status: {status} for {}", reference.familiar()));
    }
    Ok(())
}
