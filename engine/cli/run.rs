//! `run` and `create`: a container of an image.

use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use clap::{Args, Subcommand};
use engine::containers::create::create;
use engine::containers::protocol::Request;
use engine::containers::{Client, Containers, Record, start};
use engine::place;

use crate::attach::{self, Attachment, DETACH_KEYS};
use crate::create_args::{CreateArgs, valued};
use crate::error::RunFailed;
use crate::paths::{self, Home};
use crate::{misuse, reconcile, resolve, ui};

/// What `run` is told.
#[derive(Args)]
#[command(
    disable_help_flag = true,
    disable_help_subcommand = true,
    override_usage = "rbuild run [OPTIONS] <IMAGE> [COMMAND]...",
    args_override_self = true,
    mut_args = valued
)]
pub(crate) struct RunArgs {
    /// Leave it running and print its id
    #[arg(short, long)]
    detach: bool,
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
    #[command(subcommand)]
    words: Option<Words>,
}

/// What `create` is told.
#[derive(Args)]
#[command(
    disable_help_flag = true,
    disable_help_subcommand = true,
    override_usage = "rbuild create [OPTIONS] <IMAGE> [COMMAND]...",
    args_override_self = true,
    mut_args = valued
)]
pub(crate) struct CreateVerb {
    #[command(flatten)]
    create: CreateArgs,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(subcommand)]
    words: Option<Words>,
}

/// The image, the command and its arguments. To the parser they are a verb that it does not know:
/// behind one nothing is an option of ours, `-c` least of all.
#[derive(Subcommand)]
enum Words {
    /// The image and what follows it.
    #[command(external_subcommand)]
    Image(Vec<String>),
}

/// Runs.
pub(crate) fn run(home: &Home, args: &RunArgs) -> anyhow::Result<ExitCode> {
    if !args.detach
        && let Ok(streams) = Streams::parse(&args.create, false)
    {
        // To docker this is a fault of who types and not of the run: it ends with 1.
        attach::check_terminal(streams.stdin, args.create.tty)?;
    }
    let (image, command) = image_and_command(args.words.as_ref(), "run")?;
    execute(home, args, image, command).context(RunFailed)
}

fn execute(
    home: &Home,
    args: &RunArgs,
    image: &str,
    command: &[String],
) -> anyhow::Result<ExitCode> {
    let streams = Streams::parse(&args.create, args.detach)?;
    let detach = attach::keys(&args.detach_keys)?;
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    reconcile::after_boot(&containers);
    let record = make(&store, &containers, &args.create, (image, command), &streams)?;
    let attachment = Attachment {
        stdin: streams.stdin && record.config.open_stdin,
        shows: [streams.stdout, streams.stderr],
        tty: record.config.tty,
        signals: args.sig_proxy,
        detach,
    };
    let attached = !args.detach && (streams.stdin || streams.stdout || streams.stderr);
    let signals = if attached { attachment.take_signals()? } else { None };
    let request = Request::Attach {
        stdin: attachment.stdin,
        output: attached && (streams.stdout || streams.stderr),
        starter: true,
    };
    let client = start_new(&containers, &record, request)?;
    if !attached {
        ui::line(&record.id);
        return Ok(ExitCode::SUCCESS);
    }
    attach::exit_code(attach::relay(client, &attachment, signals)?)
}

/// Starts a container that was made for this; one that does not start is removed, if it is not to
/// stay.
pub(crate) fn start_new(
    containers: &Containers<'_>,
    record: &Record,
    request: Request,
) -> anyhow::Result<Client> {
    let started = start(containers, &record.id, &paths::network_dir(), request);
    Ok(started.inspect_err(|_| {
        if record.host_config.auto_remove {
            // The monitor may have done it already.
            let _ = containers.remove(&record.id);
        }
    })?)
}

/// Creates.
pub(crate) fn create_verb(home: &Home, args: &CreateVerb) -> anyhow::Result<ExitCode> {
    let words = image_and_command(args.words.as_ref(), "create")?;
    let streams = Streams::parse(&args.create, false)?;
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let record = make(&store, &containers, &args.create, words, &streams)?;
    ui::line(&record.id);
    Ok(ExitCode::SUCCESS)
}

/// Makes the container that the flags ask for.
fn make(
    store: &Store,
    containers: &Containers<'_>,
    args: &CreateArgs,
    (image, command): (&str, &[String]),
    streams: &Streams,
) -> anyhow::Result<Record> {
    if let Some(file) = &args.cidfile
        && file.exists()
    {
        bail!(
            "container ID file found, make sure the other container isn't running or delete {}",
            file.display()
        );
    }
    let found = resolve::for_run(store, image, args)?;
    let mut request = args.request(image, command)?;
    request.config.attach_stdin = streams.stdin;
    request.config.attach_stdout = streams.stdout;
    request.config.attach_stderr = streams.stderr;
    request.config.stdin_once = streams.stdin && args.interactive;
    if request.host_config.uts_mode == "host" && !request.config.hostname.is_empty() {
        bail!("conflicting options: hostname and the UTS mode");
    }
    if request.host_config.network_mode == "host" && !request.host_config.port_bindings.is_empty() {
        ui::note("WARNING: Published ports are discarded when using host network mode");
    }
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
        place::write(file, record.id.as_bytes())?;
    }
    Ok(record)
}

/// Takes the image from the command of a verb.
fn image_and_command<'a>(
    words: Option<&'a Words>,
    verb: &str,
) -> anyhow::Result<(&'a str, &'a [String])> {
    let words = words.map(|Words::Image(words)| words.as_slice()).unwrap_or_default();
    let (image, command) = words.split_first().ok_or_else(|| misuse::no_image(verb))?;
    Ok((image, command))
}

/// Which streams are connected with ours.
struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

impl Streams {
    fn parse(args: &CreateArgs, detach: bool) -> anyhow::Result<Streams> {
        if detach && !args.attach.is_empty() {
            bail!("Conflicting options: -a and -d");
        }
        if detach {
            return Ok(Streams { stdin: false, stdout: false, stderr: false });
        }
        if args.attach.is_empty() {
            return Ok(Streams { stdin: args.interactive, stdout: true, stderr: true });
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
