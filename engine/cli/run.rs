//! `run` and `create`: a container of an image.

use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use clap::Args;
use engine::containers::create::create;
use engine::containers::protocol::Request;
use engine::containers::{Containers, Record, start};
use fs_err as fs;

use crate::attach::{self, Attachment, DETACH_KEYS};
use crate::create_args::CreateArgs;
use crate::error::RunFailed;
use crate::paths::{self, Home};
use crate::{reconcile, resolve, ui};

/// What `run` is told.
#[derive(Args)]
#[command(trailing_var_arg = true, disable_help_flag = true)]
pub(crate) struct RunArgs {
    /// Leave it running and print its id
    #[arg(short, long)]
    detach: bool,
    /// Attach to stdin, stdout or stderr
    #[arg(short, long, value_name = "STREAM")]
    attach: Vec<String>,
    /// Pass signals on
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,
    /// The keys that leave the container alone
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    detach_keys: String,
    #[command(flatten)]
    create: CreateArgs,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The image
    image: String,
    /// The command and its arguments
    #[arg(allow_hyphen_values = true)]
    command: Vec<String>,
}

/// What `create` is told.
#[derive(Args)]
#[command(trailing_var_arg = true, disable_help_flag = true)]
pub(crate) struct CreateVerb {
    #[command(flatten)]
    create: CreateArgs,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The image
    image: String,
    /// The command and its arguments
    #[arg(allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs.
pub(crate) fn run(home: &Home, args: &RunArgs) -> anyhow::Result<ExitCode> {
    execute(home, args).context(RunFailed)
}

fn execute(home: &Home, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let streams = Streams::parse(args)?;
    let store = home.open()?;
    store.sweep()?;
    let containers = Containers::open(&store)?;
    reconcile::after_boot(&containers);
    let record = make(&store, &containers, &args.create, &args.image, &args.command, &streams)?;
    let attachment = Attachment {
        stdin: streams.stdin && record.config.open_stdin,
        tty: record.config.tty,
        signals: args.sig_proxy,
        detach: attach::keys(&args.detach_keys)?,
    };
    let attached = !args.detach && (streams.stdin || streams.stdout || streams.stderr);
    let signals = if attached { attachment.take_signals()? } else { None };
    let request = Request::Attach {
        stdin: attachment.stdin,
        output: attached && (streams.stdout || streams.stderr),
        starter: true,
    };
    let started = start(&containers, &record.id, &paths::network_dir(), request);
    let client = started.inspect_err(|_| {
        if record.host_config.auto_remove {
            // The monitor may have done it already.
            let _ = containers.remove(&record.id);
        }
    })?;
    if !attached {
        ui::line(&record.id);
        return Ok(ExitCode::SUCCESS);
    }
    attach::exit_code(attach::relay(client, &attachment, signals)?)
}

/// Creates.
pub(crate) fn create_verb(home: &Home, args: &CreateVerb) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let streams = Streams { stdin: args.create.interactive, stdout: true, stderr: true };
    let record = make(&store, &containers, &args.create, &args.image, &args.command, &streams)?;
    ui::line(&record.id);
    Ok(ExitCode::SUCCESS)
}

/// Makes the container that the flags ask for.
fn make(
    store: &Store,
    containers: &Containers<'_>,
    args: &CreateArgs,
    image: &str,
    command: &[String],
    streams: &Streams,
) -> anyhow::Result<Record> {
    if !matches!(args.pull.as_str(), "always" | "missing" | "never") {
        bail!(
            "invalid pull option: '{}': must be one of \"always\", \"missing\" or \"never\"",
            args.pull
        );
    }
    if let Some(file) = &args.cidfile
        && file.exists()
    {
        bail!(
            "container ID file found, make sure the other container isn't running or delete {}",
            file.display()
        );
    }
    let Some(found) = resolve::find(store, image)? else {
        bail!("Unable to find image '{image}' locally");
    };
    let mut request = args.request(image, command)?;
    request.config.attach_stdin = streams.stdin;
    request.config.attach_stdout = streams.stdout;
    request.config.attach_stderr = streams.stderr;
    request.config.stdin_once = streams.stdin && args.interactive;
    if request.host_config.network_mode == "host" || request.host_config.uts_mode == "host" {
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        if request.config.hostname.is_empty() {
            request.config.hostname = own;
        }
    }
    if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdout())
        && args.tty
    {
        request.host_config.console_size = [size.ws_row, size.ws_col];
    }
    let record = create(containers, &found, request)?;
    if let Some(file) = &args.cidfile {
        fs::write(file, &record.id)?;
    }
    Ok(record)
}

/// Which streams are connected with ours.
struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

impl Streams {
    fn parse(args: &RunArgs) -> anyhow::Result<Streams> {
        if args.detach && !args.attach.is_empty() {
            bail!("Conflicting options: -a and -d");
        }
        if args.detach {
            return Ok(Streams { stdin: false, stdout: false, stderr: false });
        }
        if args.attach.is_empty() {
            return Ok(Streams { stdin: args.create.interactive, stdout: true, stderr: true });
        }
        let mut streams = Streams { stdin: false, stdout: false, stderr: false };
        for name in &args.attach {
            match name.to_ascii_lowercase().as_str() {
                "stdin" => streams.stdin = true,
                "stdout" => streams.stdout = true,
                "stderr" => streams.stderr = true,
                _ => bail!(
                    "invalid argument {name:?} for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
                ),
            }
        }
        Ok(streams)
    }
}
