//! `run`: a command in a new container, in the foreground.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::Store;
use cache::image::Image;
use clap::Args;
use engine::container::spec::{
    ContainerSpec, Mount, MountSource, Network, Process, Rootfs, Seccomp,
};
use engine::container::{self, DEFAULT_CAPABILITIES, Stdio, Stream};
use engine::network::{Lease, resolv};
use engine::session::Networks;

use crate::args::LimitArgs;
use crate::error::RunFailed;
use crate::resolve;

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
pub(crate) fn run(root: &Path, args: RunArgs) -> anyhow::Result<ExitCode> {
    let code = execute(root, &args).context(RunFailed)?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}

fn execute(root: &Path, args: &RunArgs) -> anyhow::Result<i32> {
    let store = Store::open(root)?;
    store.sweep()?;
    let Some(image) = resolve::find(&store, &args.image)? else {
        bail!("Unable to find image '{}' locally", args.image);
    };
    let draft = store.draft_layer()?;
    let id: String =
        cache::digest::Digest::of(format!("{}{}", std::process::id(), draft.id())).short();
    let networks = Networks::new(&root.join("networks"), 0);
    let (network, mounts, _lease) = connect(args, &id, &networks)?;
    let mut lower: Vec<PathBuf> = Vec::new();
    for layer in image.config.rootfs.diff_ids.iter().rev() {
        lower.push(store.layer_tree(layer)?);
    }
    if lower.is_empty() {
        lower.push(store.scratch_dir()?);
    }
    let spec = ContainerSpec {
        id: id.clone(),
        hostname: args.hostname.clone().unwrap_or(id),
        rootfs: Rootfs::Overlay { lower, upper: Some(draft.make_upper()?), volatile: true },
        mounts,
        process: process(args, &image)?,
        network,
        resources: args.limits.resources()?,
        shm_size: args.limits.shm_bytes()?,
        read_only: args.read_only,
        privileged: args.privileged,
        cgroup_parent: args.limits.cgroup_parent.clone(),
        seccomp: if args.privileged { Seccomp::Unconfined } else { Seccomp::Default },
        sysctls: Vec::new(),
    };
    start(args, &spec)
}

fn start(args: &RunArgs, spec: &ContainerSpec) -> anyhow::Result<i32> {
    let stdin = if args.interactive { Stream::Inherit } else { Stream::Null };
    let stdio = Stdio { stdin, stdout: Stream::Inherit, stderr: Stream::Inherit };
    let mut container = container::launch(spec, stdio)?;
    if let Some(master) = container.terminal.take() {
        relay(args, &master).context("relay the terminal")?;
    }
    Ok(container.wait().context("wait for the container")?.code)
}

/// Connects our terminal with the container's.
fn relay(args: &RunArgs, master: &OwnedFd) -> std::io::Result<()> {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    let input = args.interactive.then(|| stdin.as_fd());
    let raw = container::tty::RawMode::set(stdin.as_fd())?;
    let relayed = container::tty::relay(input, stdout.as_fd(), master.as_fd(), None);
    drop(raw);
    relayed
}

fn process(args: &RunArgs, image: &Image) -> anyhow::Result<Process> {
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
    Ok(Process {
        args: argv,
        env: environment(args, image),
        cwd: working_dir(args, image).into(),
        user: args.user.clone().unwrap_or_else(|| config.user.clone()),
        additional_groups: Vec::new(),
        capabilities: DEFAULT_CAPABILITIES.iter().map(|name| name.to_string()).collect(),
        rlimits: args.limits.rlimits()?,
        no_new_privileges: false,
        terminal: args.tty,
    })
}

fn working_dir(args: &RunArgs, image: &Image) -> String {
    let dir = args.workdir.as_ref().unwrap_or(&image.config.config.working_dir);
    if dir.is_empty() { "/".to_owned() } else { dir.clone() }
}

fn environment(args: &RunArgs, image: &Image) -> Vec<String> {
    let mut env = image.config.config.env.clone();
    if !env.iter().any(|pair| pair.starts_with("PATH=")) {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        env.insert(0, format!("PATH={path}"));
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
    args: &RunArgs,
    id: &str,
    networks: &Networks,
) -> anyhow::Result<(Network, Vec<Mount>, Option<Lease>)> {
    let hostname = args.hostname.as_deref().unwrap_or(id);
    let mut own: Vec<IpAddr> = Vec::new();
    let mut gateway: IpAddr = std::net::Ipv4Addr::LOCALHOST.into();
    let mut reach = resolv::Reach::Host;
    let mut lease = None;
    let network = match args.network.as_str() {
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
    let extra = args.limits.hosts()?;
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
