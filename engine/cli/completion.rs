//! `completion` and `man`: what shells and readers of manuals want, made from the command line's
//! own description; names of containers, images, networks and volumes are looked up when a shell
//! asks.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use cache::Store;
use clap::{Arg, Args, Command, CommandFactory};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use engine::containers::Containers;
use engine::reference::Reference;
use fs_err as fs;

use crate::args::Cli;
use crate::{network, paths, ui};

/// The variable by which a shell's script asks for what may come next.
const VARIABLE: &str = "COMPLETE";

/// What `completion` is told.
#[derive(Args)]
pub(crate) struct CompletionArgs {
    /// bash, zsh, fish, elvish or powershell
    shell: String,
}

/// What `man` is told.
#[derive(Args)]
pub(crate) struct ManArgs {
    /// The directory, such as /usr/local/share/man/man1
    dir: PathBuf,
}

/// Answers a shell that asks what may come next, if that is what this call is; does not return then.
pub(crate) fn answer() {
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(command).var(VARIABLE).complete();
    }
}

/// Prints a script for a shell that has it ask us.
pub(crate) fn completion(args: &CompletionArgs) -> anyhow::Result<ExitCode> {
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell).with_context(|| {
        let known: Vec<&str> = shells.names().collect();
        format!("no completion for {:?}: write one of {}", args.shell, known.join(", "))
    })?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "rbuild", "rbuild", "rbuild", &mut script)?;
    ui::raw(&script);
    Ok(ExitCode::SUCCESS)
}

/// Writes a manual page for each verb.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&args.dir)?;
    clap_mangen::generate_to(Cli::command(), &args.dir)?;
    Ok(ExitCode::SUCCESS)
}

/// What an argument names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
    Any,
}

/// The command line, with what may stand in the place of names.
fn command() -> Command {
    let mut command = Cli::command();
    command.build();
    with_names(command, "")
}

fn with_names(mut command: Command, path: &str) -> Command {
    // What these verbs take as the image's name and all that follows it has no name of its own.
    if matches!(path, "run" | "create" | "container run" | "container create") {
        command = command.arg(Arg::new("image").index(1));
    }
    let command = command.mut_args(|arg| {
        let is_flag = !arg.get_action().takes_values();
        match kind(path, arg.get_id().as_str()).filter(|_| !is_flag) {
            Some(kind) => arg.add(ArgValueCandidates::new(move || candidates(kind))),
            None => arg,
        }
    });
    command.mut_subcommands(|verb| {
        let path = format!("{path} {}", verb.get_name());
        with_names(verb, path.trim_start())
    })
}

/// What an argument of a verb names, by what it is called.
fn kind(path: &str, argument: &str) -> Option<Kind> {
    let group = path.split(' ').next().unwrap_or_default();
    match (group, argument) {
        (_, "container" | "containers") => Some(Kind::Container),
        (_, "image" | "images") => Some(Kind::Image),
        (_, "network") => Some(Kind::Network),
        ("volume", "volumes") => Some(Kind::Volume),
        ("network", "names") => Some(Kind::Network),
        ("image", "names") | ("push", "name") | ("tag", "source") => Some(Kind::Image),
        ("inspect", "names") => Some(Kind::Any),
        _ => None,
    }
}

/// The names that there are; none where the store cannot be read.
fn candidates(kind: Kind) -> Vec<CompletionCandidate> {
    let names = match kind {
        Kind::Container => containers(),
        Kind::Image => images(),
        Kind::Network => networks(),
        Kind::Volume => volumes(),
        Kind::Any => {
            containers().into_iter().chain(images()).chain(networks()).chain(volumes()).collect()
        }
    };
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn root() -> PathBuf {
    let given = std::env::var_os("RBUILD_ROOT").filter(|root| !root.is_empty());
    paths::store_root(given.map(PathBuf::from))
}

fn containers() -> Vec<String> {
    let Ok(store) = Store::open(&root()) else { return Vec::new() };
    let listed = Containers::open(&store).and_then(|containers| containers.list());
    listed.unwrap_or_default().into_iter().map(|one| one.record.name).collect()
}

fn images() -> Vec<String> {
    let listed = Store::open(&root()).and_then(|store| store.list_images()).unwrap_or_default();
    let names = listed.into_iter().filter_map(|listed| Reference::parse(&listed.name?).ok());
    names.filter(|name| name.digest.is_none()).map(|name| name.familiar()).collect()
}

fn networks() -> Vec<String> {
    let listed = network::definitions(&root()).list().unwrap_or_default();
    listed.into_iter().map(|network| network.name).collect()
}

fn volumes() -> Vec<String> {
    let entries = fs::read_dir(root().join("volumes")).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.path().join("_data").is_dir());
    dirs.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_offered_where_names_are_meant() {
        for (path, argument, expected) in [
            ("stop", "containers", Some(Kind::Container)),
            ("container stop", "containers", Some(Kind::Container)),
            ("run", "image", Some(Kind::Image)),
            ("run", "network", Some(Kind::Network)),
            ("volume rm", "volumes", Some(Kind::Volume)),
            ("rm", "volumes", None),
            ("network rm", "names", Some(Kind::Network)),
            ("inspect", "names", Some(Kind::Any)),
            ("build", "context", None),
        ] {
            assert_eq!(kind(path, argument), expected, "{path} {argument}");
        }
    }

    #[test]
    fn the_whole_command_line_can_be_completed() {
        command().debug_assert();
    }
}
