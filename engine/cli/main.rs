//! `rbuild`: the command line. Each verb is a file; [`ui`] alone writes to the terminal.

mod args;
mod build;
mod buildx;
mod cache_flags;
mod check;
mod checks;
mod context;
mod contexts;
mod df;
mod diff;
mod error;
mod explain;
mod failure;
mod files;
mod format;
mod groups;
mod history;
mod image_inspect;
mod images;
mod import;
mod info;
mod journal;
mod layout;
mod limits;
mod output;
mod paths;
mod progress;
mod prune;
mod resolve;
mod run;
mod secrets;
mod shell;
mod signals;
mod tags;
mod ui;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if engine::container::is_init() {
        engine::container::init_main();
    }
    let cli = match args::Cli::try_parse_from(args::normalize(std::env::args_os().collect())) {
        Ok(cli) => cli,
        Err(error) => return ui::usage(&error),
    };
    let done = verb(cli).and_then(|code| ui::answered().map(|()| code));
    match done {
        Ok(code) => code,
        Err(error) => {
            ui::error(&error);
            ExitCode::from(error::exit_code(&error))
        }
    }
}

fn verb(cli: args::Cli) -> anyhow::Result<ExitCode> {
    let home = paths::Home { root: paths::store_root(cli.root), driver: cli.storage_driver };
    let root = &home.root;
    match cli.verb {
        args::Verb::Build(build) => build::build(&home, *build),
        args::Verb::Run(run) => run::run(&home, *run),
        args::Verb::Explain(explain) => explain::explain(root, &explain),
        args::Verb::Shell(shell) => shell::shell(&home, &shell),
        args::Verb::Diff(diff) => diff::diff(root, &diff),
        args::Verb::Import(import) => import::import(&home, &import),
        args::Verb::Images(args) => images::images(root, &args),
        args::Verb::Inspect(args) => image_inspect::inspect(root, &args),
        args::Verb::History(args) => history::history(root, &args),
        args::Verb::Tag(args) => tags::tag(root, &args),
        args::Verb::Rmi(args) => tags::remove(root, &args),
        args::Verb::Image { verb } => groups::image(root, &verb),
        args::Verb::Builder { verb } => groups::builder(root, &verb),
        args::Verb::Buildx { verb } => buildx::buildx(root, verb),
        args::Verb::System { verb } => groups::system(&home, &verb),
        args::Verb::Info(args) => info::info(&home, &args),
        args::Verb::Version(args) => info::version(&args),
    }
}
