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
    /// Make a container, without starting it
    Create(Box<crate::run::CreateVerb>),
    /// Start containers
    Start(crate::lifecycle::StartArgs),
    /// Ask containers to end, and kill those that do not
    Stop(crate::lifecycle::StopArgs),
    /// Stop containers and start them again
    Restart(crate::lifecycle::StopArgs),
    /// Send containers a signal
    Kill(crate::lifecycle::KillArgs),
    /// Remove containers
    #[command(visible_alias = "remove")]
    Rm(crate::lifecycle::RmArgs),
    /// Wait until containers have ended, and print their exit codes
    Wait(crate::lifecycle::NamesArgs),
    /// Freeze containers
    Pause(crate::lifecycle::NamesArgs),
    /// Let frozen containers go on
    Unpause(crate::lifecycle::NamesArgs),
    /// Give a container another name
    Rename(crate::lifecycle::RenameArgs),
    /// List containers
    Ps(crate::ps::PsArgs),
    /// Show what a container printed
    Logs(crate::logs::LogsArgs),
    /// Show the processes of a container
    Top(crate::top::TopArgs),
    /// Show what containers use
    Stats(crate::stats::StatsArgs),
    /// Show the published ports of a container
    Port(crate::port::PortArgs),
    /// Run a command in a container that runs
    Exec(crate::exec::ExecArgs),
    /// Copy files between a container and here
    Cp(crate::cp::CpArgs),
    /// Make an image of what a container has changed
    Commit(crate::commit::CommitArgs),
    /// Write a container's files as a tar
    Export(crate::container_export::ExportArgs),
    /// Print the process numbers of containers that run
    Pid(crate::enter::PidArgs),
    /// Open a root shell in all namespaces of a container
    Enter(crate::enter::EnterArgs),
    /// Change the limits and the restart policy of containers
    Update(crate::update::UpdateArgs),
    /// Show what happens to containers, images, networks and volumes
    Events(crate::events::EventsArgs),
    /// Connect this terminal with a container
    Attach(crate::attach::AttachArgs),
    /// Make, list and remove volumes
    Volume {
        #[command(subcommand)]
        verb: crate::volume::VolumeVerb,
    },
    /// Make, list, join and remove networks
    Network {
        #[command(subcommand)]
        verb: crate::network::NetworkVerb,
    },
    /// Tell why the steps of the last build were or were not cached
    Explain(crate::explain::ExplainArgs),
    /// Open a shell in a step of the last build, the failed one too
    Shell(crate::shell::ShellArgs),
    /// Show what a container, or a step of the last build, has changed
    Diff(crate::diff::DiffArgs),
    /// Write images as a tar
    Save(crate::save::SaveArgs),
    /// Bring in the images of a tar that save has written
    Load(crate::load::LoadArgs),
    /// Log in to a registry
    Login(crate::login::LoginArgs),
    /// Log out of a registry
    Logout(crate::login::LogoutArgs),
    /// Bring images from registries
    Pull(crate::pull::PullArgs),
    /// Send images to registries
    Push(crate::push::PushArgs),
    /// Make and show lists of images for several platforms
    Manifest {
        #[command(subcommand)]
        verb: crate::manifest::ManifestVerb,
    },
    /// Make an image of a root file system's tar
    Import(crate::import::ImportArgs),
    /// List images
    Images(crate::images::ImagesArgs),
    /// Show all that is known of containers, images, networks and volumes
    Inspect(crate::inspect::InspectArgs),
    /// Show how an image was made
    History(crate::history::HistoryArgs),
    /// Give an image one more name
    Tag(crate::tags::TagArgs),
    /// Remove images
    Rmi(crate::tags::RemoveArgs),
    /// List, inspect and prune containers
    Container {
        #[command(subcommand)]
        verb: crate::groups::ContainerVerb,
    },
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
    /// Run a compose project's verbs (the program rcompose)
    Compose(crate::compose::ComposeArgs),
    /// Print a script that completes command lines in a shell
    Completion(crate::completion::CompletionArgs),
    /// Write manual pages into a directory
    Man(crate::completion::ManArgs),
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
        || group == "container" && !crate::groups::ContainerVerb::knows(word(at + 1))
        || matches!(group, "image") && matches!(word(at + 1), "build" | "import" | "pull" | "push")
    {
        argv.remove(at);
        return argv;
    }
    let options_first = at < argv.len() && group.starts_with('-');
    let asks_us = matches!(group, "-h" | "--help" | "-V" | "--version" | "help");
    if !asks_us && (options_first || !is_verb(group) && is_path(group)) {
        argv.insert(at, "build".into());
    }
    argv
}

/// The place of the first argument behind the program's name and the options that are all verbs'.
fn first_word(argv: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(text) = argv.get(at).and_then(|word| word.to_str()) {
        match text {
            "--root" | "--storage-driver" => at += 2,
            _ if text.starts_with("--root=") || text.starts_with("--storage-driver=") => at += 1,
            _ => break,
        }
    }
    at
}

/// A verb is one whatever directories there are.
fn is_verb(word: &str) -> bool {
    <Verb as Subcommand>::has_subcommand(word)
}

fn is_path(word: &str) -> bool {
    word == "-"
        || word == "."
        || word.contains('/')
        || (!word.is_empty() && Path::new(word).join("Dockerfile").exists())
}
