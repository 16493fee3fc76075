//! A process over layers in the foreground, in a container that nothing is kept of: for looking into
//! a build's steps.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, bail};
use cache::Store;
use cache::digest::Digest;
use engine::container::spec::{
    ContainerSpec, Mount, MountSource, Network, Process, Rootfs, Seccomp,
};
use engine::container::{self, DEFAULT_CAPABILITIES, Stdio, Stream};
use engine::network::{Lease, resolv};
use engine::session::Networks;
use engine::signals::{HANG_UP, INTERRUPT, QUIT, RESIZE, Signals, TERMINATE};
use rustix::process::Signal;

use crate::limits::LimitArgs;

/// Where programs are looked up when nothing says otherwise.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
            rlimits: engine::open_files::limits_of_container(&wanted.limits.rlimits()?),
            no_new_privileges: false,
            terminal: wanted.terminal,
            ..Process::default()
        },
        ..ContainerSpec::default()
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
