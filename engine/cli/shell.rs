//! `shell`: a shell in the file system of any step of the last build, the failed one too.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use engine::containers::Containers;
use engine::containers::create::{self, create_over};
use engine::containers::protocol::Request;
use engine::containers::record::{Config, HostConfig, LogConfig};

use crate::attach::{self, Attachment};
use crate::journal::{Journal, Step};
use crate::paths::Home;
use crate::{run, ui};

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
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    step: StepArgs,
    /// Open it as the step found things, not as it left them
    #[arg(long)]
    before: bool,
    /// bridge, host, none or a network
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
    ui::note(format_args!("{}: changes made here are dropped", step.name));
    let containers = Containers::open(&store)?;
    let record = create_over(&containers, layers, request(args, step))?;
    let attachment = Attachment {
        stdin: true,
        shows: [true; 2],
        tty: record.config.tty,
        signals: true,
        detach: Vec::new(),
    };
    let signals = attachment.take_signals()?;
    let asked = Request::Attach { stdin: true, output: true, starter: true };
    let client = run::start_new(&containers, &record, asked)?;
    attach::exit_code(attach::relay(client, &attachment, signals)?)
}

/// The container that the shell runs in: as the step's, and gone with its end.
fn request(args: &ShellArgs, step: &Step) -> create::Request {
    let command = match args.command.as_slice() {
        [] => vec!["/bin/sh".to_owned()],
        command => command.to_vec(),
    };
    let mut config = Config {
        cmd: Some(command),
        tty: ui::is_interactive(),
        open_stdin: true,
        stdin_once: true,
        attach_stdin: true,
        attach_stdout: true,
        attach_stderr: true,
        ..Config::default()
    };
    if let Some(process) = &step.process {
        config.env.clone_from(&process.env);
        config.working_dir.clone_from(&process.cwd);
        config.user.clone_from(&process.user);
    }
    let network_mode = match args.network.as_str() {
        "default" => "bridge".to_owned(),
        network => network.to_owned(),
    };
    let host_config = HostConfig {
        network_mode,
        auto_remove: true,
        log_config: LogConfig { kind: "none".to_owned(), ..LogConfig::default() },
        ..HostConfig::default()
    };
    create::Request { config, host_config, ..create::Request::default() }
}
