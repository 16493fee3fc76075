//! Docker's verbs in groups, `image ls` and the like: the same verbs by their longer names.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use crate::check::{self, CheckArgs};
use crate::df::{self, DfArgs};
use crate::events::{self, EventsArgs};
use crate::history::{self, HistoryArgs};
use crate::image_inspect::{self, InspectArgs};
use crate::images::{self, ImagesArgs};
use crate::info::{self, InfoArgs};
use crate::inspect;
use crate::load::{self, LoadArgs};
use crate::paths::Home;
use crate::prune::{self, BuilderPruneArgs, ContainerPruneArgs, ImagePruneArgs, SystemPruneArgs};
use crate::ps::{self, PsArgs};
use crate::reconcile::{self, ReconcileArgs};
use crate::save::{self, SaveArgs};
use crate::tags::{self, RemoveArgs, TagArgs};

/// `container`; all its verbs but these are turned into those without `container` before.
#[derive(Subcommand)]
#[command(
    defer = true,
    after_help = "Beside these: all verbs of containers, as `container run` for `run`"
)]
pub(crate) enum ContainerVerb {
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(PsArgs),
    /// Show all that is known of containers
    Inspect(inspect::InspectArgs),
    /// Remove containers that do not run
    Prune(ContainerPruneArgs),
}

impl ContainerVerb {
    /// Whether `container` has this word for itself.
    pub(crate) fn knows(word: &str) -> bool {
        matches!(word, "ls" | "list" | "ps" | "inspect" | "prune" | "help" | "")
            || word.starts_with('-')
    }
}

/// `image`; `image build` and `image import` are turned into `build` and `import` before.
#[derive(Subcommand)]
#[command(defer = true)]
pub(crate) enum ImageVerb {
    /// List images
    #[command(visible_alias = "list")]
    Ls(ImagesArgs),
    /// Show all that is known of images
    Inspect(InspectArgs),
    /// Show how an image was made
    History(HistoryArgs),
    /// Give an image one more name
    Tag(TagArgs),
    /// Remove images
    #[command(visible_aliases = ["remove", "rmi"])]
    Rm(RemoveArgs),
    /// Write images as a tar
    Save(SaveArgs),
    /// Bring in the images of a tar that save has written
    Load(LoadArgs),
    /// Remove images that nothing uses
    Prune(ImagePruneArgs),
}

/// `builder`; `builder build` is turned into `build` before.
#[derive(Subcommand)]
#[command(defer = true)]
pub(crate) enum BuilderVerb {
    /// Remove build cache
    Prune(BuilderPruneArgs),
}

/// `system`.
#[derive(Subcommand)]
#[command(defer = true)]
pub(crate) enum SystemVerb {
    /// Show what takes the disk
    Df(DfArgs),
    /// Check that everything in the store is whole
    Check(CheckArgs),
    /// Show what is found on this machine
    Info(InfoArgs),
    /// Remove everything that nothing uses
    Prune(SystemPruneArgs),
    /// Make true again what is known of containers whose monitor was killed
    Reconcile(ReconcileArgs),
    /// Show what happens to containers, images, networks and volumes
    Events(EventsArgs),
}

/// Does what was asked of containers.
pub(crate) fn container(home: &Home, verb: &ContainerVerb) -> anyhow::Result<ExitCode> {
    match verb {
        ContainerVerb::Ls(args) => ps::ps(&home.root, args),
        ContainerVerb::Inspect(args) => inspect::inspect_containers(home, args),
        ContainerVerb::Prune(args) => prune::prune_containers(&home.root, args),
    }
}

/// Does what was asked of images.
pub(crate) fn image(home: &Home, verb: &ImageVerb) -> anyhow::Result<ExitCode> {
    let root = &home.root;
    match verb {
        ImageVerb::Save(args) => save::save(root, args),
        ImageVerb::Load(args) => load::load(home, args),
        ImageVerb::Ls(args) => images::images(root, args),
        ImageVerb::Inspect(args) => image_inspect::inspect_images(home, args),
        ImageVerb::History(args) => history::history(root, args),
        ImageVerb::Tag(args) => tags::tag(root, args),
        ImageVerb::Rm(args) => tags::remove(root, args),
        ImageVerb::Prune(args) => prune::prune_images(root, args),
    }
}

/// Does what was asked of the build cache.
pub(crate) fn builder(root: &Path, verb: &BuilderVerb) -> anyhow::Result<ExitCode> {
    match verb {
        BuilderVerb::Prune(args) => prune::prune_cache(root, args),
    }
}

/// Does what was asked of the whole.
pub(crate) fn system(home: &Home, verb: &SystemVerb) -> anyhow::Result<ExitCode> {
    let root = &home.root;
    match verb {
        SystemVerb::Df(args) => df::df(root, args),
        SystemVerb::Check(args) => check::check(root, args),
        SystemVerb::Info(args) => info::info(home, args),
        SystemVerb::Prune(args) => prune::prune_system(root, args),
        SystemVerb::Reconcile(args) => reconcile::reconcile(home, args),
        SystemVerb::Events(args) => events::events(root, args),
    }
}
