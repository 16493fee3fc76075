//! `rbuild`: the command line. Each verb is a file; [`ui`] alone writes to the terminal.

mod args;
mod build;
mod checks;
mod context;
mod contexts;
mod error;
mod explain;
mod failure;
mod import;
mod journal;
mod layout;
mod limits;
mod output;
mod progress;
mod resolve;
mod run;
mod secrets;
mod signals;
mod ui;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if engine::container::is_init() {
        engine::container::init_main();
    }
    let cli = args::Cli::parse_from(args::normalize(std::env::args_os().collect()));
    match verb(cli) {
        Ok(code) => code,
        Err(error) => {
            ui::error(&error);
            ExitCode::from(error::exit_code(&error))
        }
    }
}

fn verb(cli: args::Cli) -> anyhow::Result<ExitCode> {
    let root = args::store_root(cli.root);
    match cli.verb {
        args::Verb::Build(build) => build::build(&root, *build),
        args::Verb::Run(run) => run::run(&root, *run),
        args::Verb::Explain(explain) => explain::explain(&root, &explain),
        args::Verb::Import(import) => import::import(&root, &import),
    }
}
