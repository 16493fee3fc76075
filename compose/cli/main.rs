//! `rcompose`: the command line of compose. Each verb is a file; [`ui`] alone writes to the terminal.

mod args;
mod config;
mod ui;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use args::Globals;

/// Runs compose files.
#[derive(Parser)]
#[command(name = "rcompose", version, disable_help_subcommand = true, subcommand_required = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// What is to be done.
#[derive(Subcommand)]
enum Verb {
    /// Parse, resolve and render compose files in canonical format
    #[command(alias = "convert")]
    Config(config::ConfigArgs),
    /// Show the version
    Version(VersionArgs),
}

/// What `version` is told.
#[derive(clap::Args)]
struct VersionArgs {
    /// Only the number
    #[arg(long)]
    short: bool,
    /// `pretty` or `json`
    #[arg(short, long, value_parser = ["pretty", "json"], default_value = "pretty")]
    format: String,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ui::usage(&error),
    };
    let done = match &cli.verb {
        Verb::Config(args) => config::run(&cli.globals, args),
        Verb::Version(args) => {
            version(args);
            Ok(())
        }
    };
    match done.and_then(|()| ui::answered()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ui::failed(&error),
    }
}

fn version(args: &VersionArgs) {
    let number = env!("CARGO_PKG_VERSION");
    match (args.short, args.format.as_str()) {
        (_, "json") => ui::line(serde_json::json!({ "version": number })),
        (true, _) => ui::line(number),
        (false, _) => ui::line(format_args!("rcompose version {number}")),
    }
}
