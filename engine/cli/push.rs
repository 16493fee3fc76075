//! `push`: images to registries.

use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use cache::compressor::Format;
use cache::oci::Platform;
use cache::platforms::Meaning;
use clap::{Args, ValueEnum};
use engine::reference::Reference;
use engine::registry::{Push, Settings};

use crate::paths::Home;
use crate::transfers::{Show, Transfers, Way};
use crate::{platforms, registries, resolve, tags, ui};

/// What `push` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct PushArgs {
    /// Push all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Of an image for several platforms push that one alone
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Print the image's full name only
    #[arg(short, long)]
    quiet: bool,
    /// How layers must be compressed; else what the registry has already may stay as it is
    #[arg(long, value_name = "KIND")]
    compression: Option<Compression>,
    /// How much work goes into compressing: 0 to 9 for gzip, 1 to 22 for zstd
    #[arg(long, value_name = "LEVEL", requires = "compression")]
    compression_level: Option<u32>,
    /// Accepted as docker does; nothing is signed here
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// The image: NAME or NAME:TAG
    name: String,
}

/// How layers may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// RFC 1952, which every registry and every engine reads
    Gzip,
    /// RFC 8878, faster and smaller
    Zstd,
    /// As it is
    Uncompressed,
}

impl Compression {
    /// The same for the compressor.
    pub(crate) fn format(self, level: Option<u32>) -> Format {
        match (self, level) {
            (Self::Gzip, None) => Format::GZIP,
            (Self::Gzip, Some(level)) => Format::Gzip(level),
            (Self::Zstd, None) => Format::ZSTD,
            (Self::Zstd, Some(level)) => Format::Zstd(level.min(22) as i32),
            (Self::Uncompressed, _) => Format::Uncompressed,
        }
    }
}

/// Pushes.
pub(crate) fn push(home: &Home, args: &PushArgs) -> anyhow::Result<ExitCode> {
    let reference = Reference::parse(&args.name)?;
    if reference.digest.is_some() {
        bail!("cannot push a digest reference");
    }
    let store = home.open()?;
    let references = wanted(&store, &reference, args)?;
    if !args.quiet {
        ui::line(format_args!("The push refers to repository [{}]", reference.name()));
    }
    let settings = registries::settings()?;
    let platform = args.platform.as_deref().map(frontend::platform::parse).transpose()?;
    let format = args.compression.map(|kind| kind.format(args.compression_level));
    for reference in references {
        let show = if args.quiet { Show::Nothing } else { Show::Answer };
        send(&store, &reference, &settings, format, platform.as_ref(), show)?;
        if args.quiet {
            ui::line(&reference);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The names that are meant.
fn wanted(store: &Store, reference: &Reference, args: &PushArgs) -> anyhow::Result<Vec<Reference>> {
    if !args.all_tags {
        if reference.tag.is_none() && !args.quiet {
            ui::line("Using default tag: latest");
        }
        return Ok(vec![reference.clone().or_latest()]);
    }
    if reference.tag.is_some() {
        bail!("tag can't be used with --all-tags/-a");
    }
    let listed = store.list_images()?.into_iter();
    let names = listed.filter_map(|listed| Reference::parse(&listed.name?).ok());
    let mut ours: Vec<Reference> =
        names.filter(|name| name.tag.is_some() && name.name() == reference.name()).collect();
    ours.sort();
    if ours.is_empty() {
        bail!("An image does not exist locally with the tag: {}", reference.familiar_name());
    }
    Ok(ours)
}

/// Sends an image that has this name here.
pub(crate) fn send(
    store: &Store,
    reference: &Reference,
    settings: &Settings,
    format: Option<Format>,
    platform: Option<&Platform>,
    show: Show,
) -> anyhow::Result<()> {
    // Nothing but the name counts: an id is no place in a registry.
    let is_named = store.find_image(&reference.to_string())?.is_some();
    let meaning = resolve::meaning(store, &reference.to_string())?.filter(|_| is_named);
    let Some(meaning) = meaning else {
        bail!("An image does not exist locally with the tag: {}", reference.familiar_name());
    };
    let meaning = match platform {
        Some(wanted) => {
            let name = reference.to_string();
            let image = platforms::choose(store, Some(&name), meaning.image, wanted)?;
            let missing = || platforms::not_provided(&reference.familiar(), wanted);
            Meaning::one(image.with_context(missing)?)
        }
        None => meaning,
    };
    let transfers = Transfers::new(Way::Push, show);
    let push = Push { format, ..Push::new(store, settings) };
    let pushed = push.push(&meaning, reference, &|event| transfers.event(event))?;
    let tag = reference.tag.as_deref().unwrap_or("latest");
    let line = format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size);
    match show {
        Show::Answer => ui::line(line),
        Show::Beside => ui::note(line),
        Show::Nothing => {}
    }
    tags::tell(store, "push", &meaning.image, &reference.familiar());
    Ok(())
}
