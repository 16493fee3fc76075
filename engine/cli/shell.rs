//! `shell`: a shell in the file system of any step of the last build, the failed one too.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use engine::session::Networks;

use crate::foreground::{self, Foreground};
use crate::journal::{Journal, Step};
use crate::paths::Home;
use crate::ui;

/// Which step of the last build.
#[derive(Args)]
pub(crate) struct StepArgs {
    /// The step's number, as in [2/5] (default: the one that failed, or the last)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) step: Option<usize>,
    /// The step's stage (default: that of the step that failed, or the last)
    #[arg(long, value_name = "NAME")]
    pub(crate) stage: Option<String>,
}

/// What `shell` is told.
#[derive(Args)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    step: StepArgs,
    /// Open it as the step found things, not as it left them
    #[arg(long)]
    before: bool,
    /// bridge, host or none
    #[arg(long, default_value = "bridge")]
    network: String,
    /// What to run instead of a shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl StepArgs {
    /// Finds the step in a build.
    pub(crate) fn find<'a>(&'a self, journal: &'a Journal) -> anyhow::Result<&'a Step> {
        let Some(usual) = journal.failed().or(journal.steps.last()) else {
            bail!("the last build of {} had no steps", journal.what);
        };
        let stage = self.stage.as_deref().unwrap_or(&usual.origin.stage);
        let number = match self.step {
            Some(number) => number,
            None if stage == usual.origin.stage => usual.origin.step,
            None => journal.in_stage(stage).map(|step| step.origin.step).max().unwrap_or(0),
        };
        let found = journal.in_stage(stage).find(|step| step.origin.step == number);
        found.ok_or_else(|| {
            let known: Vec<_> = journal.steps.iter().map(|step| step.name.as_str()).collect();
            anyhow::anyhow!(
                "the last build of {} has no step {number} in stage {stage}; it has:\n  {}",
                journal.what,
                known.join("\n  ")
            )
        })
    }
}

/// Opens a shell.
pub(crate) fn shell(home: &Home, args: &ShellArgs) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    let Some(journal) = Journal::load(&store, None) else {
        bail!("nothing has been built here yet");
    };
    let step = args.step.find(&journal)?;
    let layers = if args.before { &step.layers_before } else { &step.layers };
    if layers.is_empty() {
        bail!("{} left no file system to look into", step.name);
    }
    let (mut env, cwd, user) = match &step.process {
        Some(process) => (process.env.clone(), process.cwd.clone(), process.user.clone()),
        None => (vec![format!("PATH={}", foreground::DEFAULT_PATH)], "/".to_owned(), String::new()),
    };
    let terminal = ui::is_interactive();
    if terminal {
        env.push("TERM=xterm".to_owned());
    }
    let command = match args.command.as_slice() {
        [] => vec!["/bin/sh".to_owned()],
        command => command.to_vec(),
    };
    ui::note(format_args!("{}: changes made here are dropped", step.name));
    let networks = Networks::new(&crate::paths::network_dir(), 0);
    let code = foreground::foreground(
        &store,
        &networks,
        Foreground {
            layers,
            args: command,
            env,
            cwd: PathBuf::from(cwd),
            user,
            network: &args.network,
            terminal,
            interactive: true,
            ..Foreground::default()
        },
    )?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}
