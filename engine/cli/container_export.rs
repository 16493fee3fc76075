//! `export`: a container's files as a tar.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use engine::containers::{Containers, export};
use engine::place::NewFile;

use crate::paths::Home;
use crate::ui;

/// What `export` is told.
#[derive(Args)]
pub(crate) struct ExportArgs {
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The container
    container: String,
}

/// Exports.
pub(crate) fn export(home: &Home, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    if args.output.is_none() && ui::stdout_is_terminal() {
        bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect");
    }
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let id = containers.find(&args.container)?;
    match &args.output {
        None => {
            let mut out = std::io::stdout().lock();
            export::export(&containers, &id, &mut out)?;
            out.flush()?;
        }
        Some(path) => {
            // It may have what only the container's root was to read.
            let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            let file = NewFile::create(path);
            rustix::process::umask(umask);
            let mut file = file.context("failed to export container")?;
            export::export(&containers, &id, &mut file)?;
            file.commit().context("failed to export container")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
