//! `compose`: hands everything over to `rcompose`, the program beside this one.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::Args;

/// What `compose` is told: all of it is for the other program.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct ComposeArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Becomes `rcompose`: the one in our own directory, else the one in PATH.
pub(crate) fn compose(args: &ComposeArgs) -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe().ok().map(|path| path.with_file_name("rcompose"));
    let program = own.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("rcompose"));
    let error = Command::new(&program).args(&args.words).exec();
    Err(error).with_context(|| {
        format!("cannot start {}, which belongs beside this program", program.display())
    })
}
