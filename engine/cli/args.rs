//! What may be typed: the verbs, in docker's spelling, and their flags.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

/// Builds Dockerfiles and runs containers, without a daemon.
#[derive(Parser)]
#[command(name = "rbuild", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Where images, layers and caches are kept
    #[arg(long, value_name = "DIR", env = "RBUILD_ROOT", global = true)]
    pub(crate) root: Option<PathBuf>,
    /// How layers are mounted: erofs or dir (default: the best that works)
    #[arg(long, value_name = "DRIVER", env = "RBUILD_DRIVER", global = true)]
    pub(crate) storage_driver: Option<cache::lower::Driver>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Subcommand)]
#[command(defer = true)]
pub(crate) enum Verb {
    /// Build an image from a Dockerfile (also without the verb: rbuild -t NAME PATH)
    Build(Box<crate::build::BuildArgs>),
    /// Run a command in a new container
    Run(Box<crate::run::RunArgs>),
    /// Tell why the steps of the last build were or were not cached
    Explain(crate::explain::ExplainArgs),
    /// Open a shell in a step of the last build, the failed one too
    Shell(crate::shell::ShellArgs),
    /// Show what a step of the last build changed
    Diff(crate::diff::DiffArgs),
    /// Make an image of a root file system's tar
    Import(crate::import::ImportArgs),
    /// List images
    Images(crate::images::ImagesArgs),
    /// Show all that is known of images
    Inspect(crate::image_inspect::InspectArgs),
    /// Show how an image was made
    History(crate::history::HistoryArgs),
    /// Give an image one more name
    Tag(crate::tags::TagArgs),
    /// Remove images
    Rmi(crate::tags::RemoveArgs),
    /// List, inspect, name and remove images
    Image {
        #[command(subcommand)]
        verb: crate::groups::ImageVerb,
    },
    /// Look after the build cache
    Builder {
        #[command(subcommand)]
        verb: crate::groups::BuilderVerb,
    },
    /// Docker's newer name for builds, and what scripts ask of builders
    Buildx {
        #[command(subcommand)]
        verb: crate::buildx::BuildxVerb,
    },
    /// Show what takes the disk, and clean up
    System {
        #[command(subcommand)]
        verb: crate::groups::SystemVerb,
    },
    /// Show what is found on this machine
    Info(crate::info::InfoArgs),
    /// Show versions
    Version(crate::info::InfoArgs),
}

/// Turns docker's longer spellings into ours, and a call without a verb into a build.
pub(crate) fn normalize(mut argv: Vec<OsString>) -> Vec<OsString> {
    let at = first_word(&argv);
    let word = |at: usize| argv.get(at).and_then(|word| word.to_str()).unwrap_or_default();
    let group = word(at);
    if matches!(group, "builder" | "buildx") && word(at + 1) == "build"
        || matches!(group, "container") && word(at + 1) == "run"
        || matches!(group, "image") && matches!(word(at + 1), "build" | "import")
    {
        argv.remove(at);
        return argv;
    }
    let options_first = at < argv.len() && group.starts_with('-');
    let asks_us = matches!(group, "-h" | "--help" | "-V" | "--version" | "help");
    if !asks_us && (options_first || is_path(group)) {
        argv.insert(at, "build".into());
    }
    argv
}

/// The place of the first argument behind the program's name and `--root`.
fn first_word(argv: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(text) = argv.get(at).and_then(|word| word.to_str()) {
        match text {
            "--root" => at += 2,
            _ if text.starts_with("--root=") => at += 1,
            _ => break,
        }
    }
    at
}

fn is_path(word: &str) -> bool {
    word == "-"
        || word == "."
        || word.contains('/')
        || (!word.is_empty() && Path::new(word).join("Dockerfile").exists())
}
