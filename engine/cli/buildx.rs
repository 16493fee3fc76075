//! `buildx` verbs that scripts and CI actions call around a build. There is one builder, this
//! program, and it is always ready: what would make, choose or remove builders has nothing to do.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;

use crate::manifest::{self, ImagetoolsVerb};
use crate::prune::BuilderPruneArgs;
use crate::{df, format, prune, ui};

/// The name of the one builder.
const BUILDER: &str = "default";

/// The version of buildx whose command line this one follows; actions ask for one that is new
/// enough before they use a flag.
const BUILDX: &str = "0.26.1";

/// The version of BuildKit whose Dockerfiles are understood.
const BUILDKIT: &str = "0.24.0";

/// What is asked of builders. Whatever flags it takes choose between builders, so they say nothing.
#[derive(Subcommand)]
#[command(defer = true)]
pub(crate) enum BuildxVerb {
    /// Show the version
    Version(Ignored),
    /// List builders
    Ls(Ignored),
    /// Choose a builder (there is one)
    Use(Ignored),
    /// Make a builder (there is one)
    Create(Ignored),
    /// Show the builder
    Inspect(Ignored),
    /// Remove a builder (the one there is stays)
    Rm(Ignored),
    /// Stop a builder (it runs only while it builds)
    Stop(Ignored),
    /// Show what the build cache takes
    Du(Ignored),
    /// Remove build cache
    Prune(BuilderPruneArgs),
    /// Show and make what registries have under names
    Imagetools {
        #[command(subcommand)]
        verb: ImagetoolsVerb,
    },
    /// Anything else
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Words that make no difference to one builder.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Ignored {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    words: Vec<String>,
}

impl Ignored {
    /// The value of `--name`, or the word that is no flag's value.
    fn name(&self) -> Option<&str> {
        let mut words = self.words.iter().map(String::as_str);
        let mut last = None;
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some("name") => return words.next(),
                // These have no value, whatever comes behind them.
                Some("use" | "bootstrap" | "append" | "leave" | "force" | "default" | "global") => {
                }
                Some(flag) if !flag.contains('=') => drop(words.next()),
                Some(flag) => {
                    if let Some(name) = flag.strip_prefix("name=") {
                        return Some(name);
                    }
                }
                None if !word.starts_with('-') => last = Some(word),
                None => {}
            }
        }
        last
    }
}

/// Answers.
pub(crate) fn buildx(root: &Path, verb: BuildxVerb) -> anyhow::Result<ExitCode> {
    match verb {
        BuildxVerb::Version(_) => {
            // In the form that actions search for a version.
            ui::line(format_args!(
                "github.com/docker/buildx v{BUILDX} rbuild-{}",
                env!("CARGO_PKG_VERSION")
            ));
        }
        BuildxVerb::Ls(_) => ui::raw(list().as_bytes()),
        BuildxVerb::Inspect(words) => {
            ui::raw(inspected(words.name().unwrap_or(BUILDER)).as_bytes())
        }
        BuildxVerb::Create(words) => {
            ui::line(
                words
                    .words
                    .iter()
                    .any(|word| word.starts_with("--name"))
                    .then(|| words.name())
                    .flatten()
                    .unwrap_or(BUILDER),
            );
        }
        BuildxVerb::Rm(words) => {
            ui::note(format_args!("{} removed", words.name().unwrap_or(BUILDER)))
        }
        BuildxVerb::Use(_) | BuildxVerb::Stop(_) => {}
        BuildxVerb::Du(_) => return df::du(root),
        BuildxVerb::Prune(args) => return prune::prune_cache(root, &args),
        BuildxVerb::Imagetools { verb } => return manifest::imagetools(root, &verb),
        BuildxVerb::Other(words) => {
            let verb = words.first().map_or("", String::as_str);
            bail!(
                "buildx {verb} is not supported: build, imagetools, version, ls, use, create, inspect, rm, \
                 stop, du and prune are"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn platforms() -> String {
    let host = frontend::platform::host();
    format!("{}/{}", host.os, host.architecture)
}

fn list() -> String {
    let table = format!(
        "NAME/NODE\tDRIVER/ENDPOINT\tSTATUS\tBUILDKIT\tPLATFORMS\n{BUILDER}*\tdocker\t\t\t\n \\_ {BUILDER}\t \\_ {BUILDER}\trunning\tv{BUILDKIT}\t{}\n",
        platforms()
    );
    format::aligned(&table, 10, 3)
}

fn inspected(name: &str) -> String {
    let builder = format!("Name:\t{name}\nDriver:\tdocker\n");
    let node = format!(
        "Name:\t{name}\nEndpoint:\t{BUILDER}\nStatus:\trunning\nBuildKit version:\tv{BUILDKIT}\nPlatforms:\t{}\n",
        platforms()
    );
    format!("{}\nNodes:\n{}", format::aligned(&builder, 8, 1), format::aligned(&node, 10, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_builder_is_found_among_flags() {
        for (words, expected) in [
            ("--name b --driver docker-container --use", Some("b")),
            ("--driver docker-container --name=b", Some("b")),
            ("--bootstrap b", Some("b")),
            ("--bootstrap --builder x", None),
            ("-f b", Some("b")),
            ("", None),
        ] {
            let words = Ignored { words: words.split_whitespace().map(str::to_owned).collect() };
            assert_eq!(words.name(), expected, "{:?}", words.words);
        }
    }
}
