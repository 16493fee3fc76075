//! `run`: a command in a new container, in the foreground.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use cache::digest::Digest;
use cache::image::Image;
use clap::Args;
use engine::container::spec::{
    ContainerSpec, Mount, MountSource, Network, Process, Rootfs, Seccomp,
};
use engine::container::{self, DEFAULT_CAPABILITIES, Stdio, Stream};
use engine::network::{Lease, resolv};
use engine::session::Networks;
use engine::signals::{HANG_UP, INTERRUPT, QUIT, RESIZE, Signals, TERMINATE};
use rustix::process::Signal;

use crate::error::RunFailed;
use crate::limits::LimitArgs;
use crate::paths::Home;
use crate::resolve;

/// Where programs are looked up when nothing says otherwise.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What `run` is told.
#[derive(Args)]
#[command(trailing_var_arg = true)]
pub(crate) struct RunArgs {
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Remove the container when it ends (containers in the foreground are always removed)
    #[arg(long)]
    rm: bool,
    /// Set a variable, or take it over from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// The directory the command starts in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The user the command runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// The program to run instead of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// bridge, host or none
    #[arg(long, visible_alias = "net", default_value = "bridge")]
    network: String,
    /// The container's name
    #[arg(long)]
    name: Option<String>,
    /// The container's host name
    #[arg(short = 'H', long)]
    hostname: Option<String>,
    /// Mount the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Give the command all the host's powers
    #[arg(long)]
    privileged: bool,
    #[command(flatten)]
    limits: LimitArgs,
    /// The image
    image: String,
    /// The command and its arguments
    #[arg(allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs.
pub(crate) fn run(home: &Home, args: RunArgs) -> anyhow::Result<ExitCode> {
    let code = execute(home, &args).context(RunFailed)?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}

fn execute(home: &Home, args: &RunArgs) -> anyhow::Result<i32> {
    let store = home.open()?;
    store.sweep()?;
    let Some(image) = resolve::find(&store, &args.image)? else {
        bail!("Unable to find image '{}' locally", args.image);
    };
    let networks = Networks::new(&crate::paths::network_dir(), 0);
    let config = &image.config.config;
    let dir = args.workdir.as_ref().unwrap_or(&config.working_dir);
    foreground(
        &store,
        &networks,
        Foreground {
            layers: &image.config.rootfs.diff_ids,
            args: command(args, &image)?,
            env: environment(args, &image),
            cwd: if dir.is_empty() { "/".into() } else { dir.into() },
            user: args.user.clone().unwrap_or_else(|| config.user.clone()),
            network: &args.network,
            hostname: args.hostname.as_deref(),
            terminal: args.tty,
            interactive: args.interactive,
            read_only: args.read_only,
            privileged: args.privileged,
            limits: args.limits.clone(),
        },
    )
}

/// A process to run over layers, in the foreground, and then to forget.
#[derive(Default)]
pub(crate) struct Foreground<'a> {
    pub(crate) layers: &'a [Digest],
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) user: String,
    pub(crate) network: &'a str,
    pub(crate) hostname: Option<&'a str>,
    pub(crate) terminal: bool,
    pub(crate) interactive: bool,
    pub(crate) read_only: bool,
    pub(crate) privileged: bool,
    pub(crate) limits: LimitArgs,
}

/// Runs a process and returns its exit code.
pub(crate) fn foreground(
    store: &Store,
    networks: &Networks,
    wanted: Foreground<'_>,
) -> anyhow::Result<i32> {
    let draft = store.draft_layer()?;
    let id = Digest::of(format!("{}{}", std::process::id(), draft.id())).short();
    let hostname = wanted.hostname.unwrap_or(&id).to_owned();
    let (network, mounts, _lease) = connect(&wanted, &hostname, networks)?;
    let lower = store.lower(wanted.layers)?;
    let spec = ContainerSpec {
        id,
        hostname,
        rootfs: Rootfs::Overlay { lower, upper: Some(draft.make_upper()?), volatile: true },
        mounts,
        network,
        resources: wanted.limits.resources()?,
        shm_size: wanted.limits.shm_bytes()?,
        read_only: wanted.read_only,
        privileged: wanted.privileged,
        cgroup_parent: wanted.limits.cgroup_parent.clone(),
        seccomp: if wanted.privileged { Seccomp::Unconfined } else { Seccomp::Default },
        sysctls: Vec::new(),
        process: Process {
            args: wanted.args,
            env: wanted.env,
            cwd: wanted.cwd,
            user: wanted.user,
            additional_groups: Vec::new(),
            capabilities: DEFAULT_CAPABILITIES.iter().map(|name| name.to_string()).collect(),
            rlimits: wanted.limits.rlimits()?,
            no_new_privileges: false,
            terminal: wanted.terminal,
        },
    };
    start(&spec, wanted.interactive)
}

fn start(spec: &ContainerSpec, interactive: bool) -> anyhow::Result<i32> {
    let signals = Signals::take(&[INTERRUPT, TERMINATE, HANG_UP, QUIT, RESIZE])?;
    let stdin = if interactive { Stream::Inherit } else { Stream::Null };
    let stdio = Stdio { stdin, stdout: Stream::Inherit, stderr: Stream::Inherit };
    let mut container = container::launch(spec, stdio)?;
    let terminal = container.terminal.take();
    let pidfd = container.pidfd.try_clone().context("watch the container")?;
    let Some(master) = terminal else {
        std::thread::spawn(move || forward(&signals, &pidfd));
        return Ok(container.wait().context("wait for the container")?.code);
    };
    relay(&master, interactive, &signals).context("relay the terminal")?;
    Ok(container.wait().context("wait for the container")?.code)
}

/// Passes signals on to the container's first process.
fn forward(signals: &Signals, pidfd: &OwnedFd) {
    while let Ok(number) = signals.wait() {
        if let Some(signal) = Signal::from_named_raw(number).filter(|_| number != RESIZE) {
            // A process that has ended needs no signal.
            let _ = rustix::process::pidfd_send_signal(pidfd, signal);
        }
    }
}

/// Connects our terminal with the container's.
fn relay(master: &OwnedFd, interactive: bool, signals: &Signals) -> std::io::Result<()> {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    let input = interactive.then(|| stdin.as_fd());
    let raw = container::tty::RawMode::set(stdin.as_fd())?;
    let resized = Some(signals.as_fd());
    let relayed = container::tty::relay(input, stdout.as_fd(), master.as_fd(), resized);
    drop(raw);
    relayed
}

/// The entry point and the command, from what was typed or else from the image.
fn command(args: &RunArgs, image: &Image) -> anyhow::Result<Vec<String>> {
    let config = &image.config.config;
    let mut argv = match &args.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
        None => config.entrypoint.clone().unwrap_or_default(),
    };
    if !args.command.is_empty() {
        argv.extend(args.command.iter().cloned());
    } else if args.entrypoint.is_none() {
        argv.extend(config.cmd.clone().unwrap_or_default());
    }
    if argv.is_empty() {
        bail!("no command specified: the image has no CMD and no ENTRYPOINT");
    }
    Ok(argv)
}

fn environment(args: &RunArgs, image: &Image) -> Vec<String> {
    let mut env = image.config.config.env.clone();
    if !env.iter().any(|pair| pair.starts_with("PATH=")) {
        env.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    if args.tty {
        env.push("TERM=xterm".to_owned());
    }
    for given in &args.env {
        if given.contains('=') {
            env.push(given.clone());
        } else if let Ok(value) = std::env::var(given) {
            env.push(format!("{given}={value}"));
        }
    }
    env
}

/// The container's network, and the files that tell it of it.
fn connect(
    wanted: &Foreground<'_>,
    hostname: &str,
    networks: &Networks,
) -> anyhow::Result<(Network, Vec<Mount>, Option<Lease>)> {
    let mut own: Vec<IpAddr> = Vec::new();
    let mut gateway: IpAddr = std::net::Ipv4Addr::LOCALHOST.into();
    let mut reach = resolv::Reach::Host;
    let mut lease = None;
    let network = match wanted.network {
        "none" => Network::None,
        "host" => Network::Host,
        "bridge" | "default" => {
            let taken = networks.take()?;
            own.push(taken.ipv4().into());
            own.extend(taken.ipv6().map(IpAddr::from));
            gateway = taken.gateway().into();
            reach = resolv::Reach::Bridge { ipv6: taken.ipv6().is_some() };
            let network = Network::Path(taken.path());
            lease = Some(taken);
            network
        }
        other => bail!("network {other} not found: bridge, host and none are known"),
    };
    let extra = wanted.limits.hosts()?;
    let extra: Vec<(String, IpAddr)> = extra
        .into_iter()
        .map(|(name, address)| (name, address.parse().unwrap_or(gateway)))
        .collect();
    let host = resolv::host_resolv_conf().unwrap_or_default();
    let mounts = vec![
        file("/etc/hosts", resolv::hosts(&own, &[hostname], &extra)),
        file("/etc/hostname", resolv::hostname(hostname)),
        file("/etc/resolv.conf", resolv::resolv_conf(&host, &resolv::Dns::default(), reach)),
    ];
    Ok((network, mounts, lease))
}

fn file(target: &str, text: String) -> Mount {
    let source = MountSource::File { bytes: text.into_bytes(), mode: 0o644, uid: 0, gid: 0 };
    Mount { target: target.into(), source, read_only: false }
}
