//! From a record to a closed specification: what the container's kernel objects are to be, and what
//! has to be held while they are in use.
//!
//! Does not know how a container's network is made (`connect`).

use std::path::PathBuf;

use cache::lower::Lower;
use fs_err as fs;

use super::connect::{self, Connected};
use super::record::{HostConfig, Record, ThrottleDevice};
use super::{Containers, Error, Result, Status, told};
use crate::container::options::{SeccompOption, capabilities, security_options};
use crate::container::spec::{
    ContainerSpec, Device, DeviceLimit, DeviceRule, Ipc, Namespace, Process, Resources, Rlimit,
    Rootfs, Seccomp,
};
use crate::container::{Profile, cdi};
use crate::open_files::limits_of_container;
use crate::reference::Reference;
use crate::volume::{Hold, Volumes, assemble as volumes};

/// A container that can be launched.
pub(super) struct Assembled {
    pub(super) spec: ContainerSpec,
    pub(super) connected: Connected,
    /// Nobody removes the container's volumes before it is known to run.
    pub(super) _volumes: Hold,
}

/// Makes a specification of a record, with the container's networks and volumes ready for it.
pub(super) fn assemble(
    containers: &Containers<'_>,
    record: &Record,
    networks: &std::path::Path,
) -> Result<Assembled> {
    let (host, config) = (&record.host_config, &record.config);
    let store = Volumes::open(containers.store)?;
    let hold = store.hold()?;
    volumes::prepare_sources(&record.mounts)?;
    store.mount(&record.mounts)?;
    let mut connected = connect::connect(containers, record, networks)?;
    let volumes = volumes::mounts(&record.mounts, |image| image_layers(containers, image))?;
    let mut mounts = told::among(std::mem::take(&mut connected.files), volumes);
    let edits = device_edits(host)?;
    mounts.extend(edits.mounts);
    let options = security_options(&host.security_opt).map_err(refused)?;
    let paths = |given: &Option<Vec<String>>| match options.unconfined_paths {
        true => Some(Vec::new()),
        false => given.clone(),
    };
    let mut process = process(record)?;
    process.env.extend(edits.env);
    process.additional_groups.extend(edits.additional_groups);
    let dir = containers.dir(&record.id);
    let spec = ContainerSpec {
        id: record.short_id().to_owned(),
        hostname: config.hostname.clone(),
        domainname: Some(config.domainname.clone()).filter(|name| !name.is_empty()),
        rootfs: Rootfs::Overlay {
            lower: containers.store.lower_of_upper(&record.layers)?,
            upper: Some((dir.join("upper"), dir.join("work"))),
            // What is removed when it ends is not missed after a crash.
            volatile: host.auto_remove,
        },
        mounts,
        network: connected.network.clone(),
        pid: namespace(containers, "pid", &host.pid_mode)?,
        uts: namespace(containers, "uts", &host.uts_mode)?,
        cgroup_namespace: namespace(containers, "cgroup", &host.cgroupns_mode)?,
        ipc: ipc(containers, &host.ipc_mode)?,
        resources: resources(host)?,
        shm_size: (host.shm_size > 0).then_some(host.shm_size),
        read_only: host.readonly_rootfs,
        privileged: host.privileged,
        cgroup_parent: Some(host.cgroup_parent.clone()).filter(|parent| !parent.is_empty()),
        seccomp: seccomp(options.seccomp, host.privileged)?,
        sysctls: host.sysctls.clone().into_iter().collect(),
        devices: devices(host)?.into_iter().chain(edits.devices).collect(),
        device_rules: device_rules(host)?,
        masked_paths: paths(&host.masked_paths),
        read_only_paths: paths(&host.readonly_paths),
        init: host.init.unwrap_or(false),
        process: Process {
            no_new_privileges: options.no_new_privileges,
            rlimits: limits_of_container(&rlimits(host)),
            oom_score_adj: (host.oom_score_adj != 0).then_some(host.oom_score_adj as i32),
            window: match host.console_size {
                [0, 0] => None,
                [rows, columns] => Some((rows, columns)),
            },
            ..process
        },
    };
    Ok(Assembled { spec, connected, _volumes: hold })
}

/// What a process of a container is, but for what only the first one has.
pub(super) fn process(record: &Record) -> Result<Process> {
    let (host, config) = (&record.host_config, &record.config);
    let cwd = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
    Ok(Process {
        args: record.argv(),
        env: environment(record),
        cwd: cwd.into(),
        user: config.user.clone(),
        additional_groups: host.group_add.clone(),
        capabilities: capabilities(&host.cap_add, &host.cap_drop, host.privileged)
            .map_err(refused)?,
        terminal: config.tty,
        ..Process::default()
    })
}

/// What a container's program finds in its environment, in docker's order.
fn environment(record: &Record) -> Vec<String> {
    const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let config = &record.config;
    let mut env = vec![PATH.to_owned(), format!("HOSTNAME={}", config.hostname)];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    for pair in &config.env {
        let Some((name, _)) = pair.split_once('=') else {
            // A name alone takes the variable away.
            env.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != pair));
            continue;
        };
        let same = |known: &&mut String| known.split_once('=').is_some_and(|(it, _)| it == name);
        match env.iter_mut().find(same) {
            Some(known) => known.clone_from(pair),
            None => env.push(pair.clone()),
        }
    }
    env
}

fn namespace(containers: &Containers<'_>, kind: &str, mode: &str) -> Result<Namespace> {
    match mode {
        "" | "private" => Ok(Namespace::New),
        "host" => Ok(Namespace::Host),
        _ => match mode.strip_prefix("container:") {
            Some(name) if kind == "pid" => {
                Ok(Namespace::Path(namespace_of(containers, name, kind)?))
            }
            _ => Err(Error::Refused(format!("invalid {kind} mode: {mode}"))),
        },
    }
}

fn ipc(containers: &Containers<'_>, mode: &str) -> Result<Ipc> {
    match mode {
        "" | "private" | "shareable" => Ok(Ipc::New),
        "none" => Ok(Ipc::NoShm),
        "host" => Ok(Ipc::Host),
        _ => match mode.strip_prefix("container:") {
            Some(name) => Ok(Ipc::Join {
                namespace: namespace_of(containers, name, "ipc")?,
                mounts: namespace_of(containers, name, "mnt")?,
            }),
            None => Err(Error::Refused(format!("invalid IPC mode: {mode}"))),
        },
    }
}

/// Where a namespace of a running container is.
pub(super) fn namespace_of(containers: &Containers<'_>, name: &str, kind: &str) -> Result<PathBuf> {
    let observed = containers.observe(&containers.find(name)?)?;
    if !matches!(observed.state.status, Status::Running | Status::Paused) {
        return Err(Error::Refused(format!(
            "cannot join {kind} namespace of a non running container: container {} is {}",
            observed.record.name,
            observed.state.status.as_str()
        )));
    }
    Ok(format!("/proc/{}/ns/{kind}", observed.state.pid).into())
}

/// The layers of an image that is mounted, the uppermost first.
pub(super) fn image_layers(containers: &Containers<'_>, name: &str) -> Result<Vec<Lower>> {
    let store = containers.store;
    let none = || Error::Refused(format!("No such image: {name}"));
    let reference = Reference::parse(name).map_err(|_| none())?.or_latest();
    let digest = store.find_image(&reference.to_string())?.ok_or_else(none)?;
    let mut lower = store.lower(&store.read_image(&digest)?.config.rootfs.diff_ids)?;
    if lower.len() == 1 {
        // Overlay takes two at least.
        let empty = store.scratch_dir()?;
        lower.push(Lower::Directory(empty));
    }
    Ok(lower)
}

pub(super) fn seccomp(option: SeccompOption, privileged: bool) -> Result<Seccomp> {
    match option {
        SeccompOption::Unset if privileged => Ok(Seccomp::Unconfined),
        SeccompOption::Unset | SeccompOption::Builtin => Ok(Seccomp::Default),
        SeccompOption::Unconfined => Ok(Seccomp::Unconfined),
        SeccompOption::File(path) => {
            let text = fs::read_to_string(path)?;
            Ok(Seccomp::Profile(Box::new(Profile::parse(&text).map_err(refused)?)))
        }
    }
}

fn devices(host: &HostConfig) -> Result<Vec<Device>> {
    let device = |device: &super::record::DeviceMapping| {
        Ok(Device {
            host: device.path_on_host.clone().into(),
            container: device.path_in_container.clone().into(),
            access: device.cgroup_permissions.parse().map_err(refused)?,
        })
    };
    host.devices.iter().map(device).collect()
}

/// What devices by their qualified names change in the container.
fn device_edits(host: &HostConfig) -> Result<cdi::Edits> {
    let mut names = Vec::new();
    for request in &host.device_requests {
        names.extend(request.device_names()?);
    }
    if names.is_empty() {
        return Ok(cdi::Edits::default());
    }
    let directories = cdi::DIRECTORIES.map(std::path::Path::new);
    cdi::Registry::load(&directories).and_then(|all| all.edits(&names)).map_err(refused)
}

fn device_rules(host: &HostConfig) -> Result<Vec<DeviceRule>> {
    host.device_cgroup_rules.iter().map(|rule| rule.parse().map_err(refused)).collect()
}

/// The limits of a container.
pub(super) fn resources(host: &HostConfig) -> Result<Resources> {
    let given = |number: u64| (number > 0).then_some(number);
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let limits = |devices: &[ThrottleDevice]| {
        let limit =
            |it: &ThrottleDevice| DeviceLimit { device: it.path.clone().into(), value: it.rate };
        devices.iter().map(limit).collect()
    };
    let (quota, period) = match host.nano_cpus {
        0 => ((host.cpu_quota != 0).then_some(host.cpu_quota), given(host.cpu_period)),
        nano => (Some((nano / 10_000) as i64), Some(100_000)),
    };
    Ok(Resources {
        memory: given(host.memory),
        memory_reservation: given(host.memory_reservation),
        memory_swappiness: host.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        oom_kill_disable: host.oom_kill_disable.unwrap_or(false),
        memory_swap: (host.memory_swap != 0).then_some(host.memory_swap),
        cpu_quota: quota,
        cpu_period: period,
        cpu_shares: given(host.cpu_shares),
        cpuset_cpus: text(&host.cpuset_cpus),
        cpuset_mems: text(&host.cpuset_mems),
        pids: host.pids_limit.filter(|limit| *limit != 0),
        blkio_weight: (host.blkio_weight > 0).then_some(host.blkio_weight),
        blkio_weight_devices: host
            .blkio_weight_device
            .iter()
            .map(|it| DeviceLimit { device: it.path.clone().into(), value: it.weight.into() })
            .collect(),
        read_bps: limits(&host.blkio_device_read_bps),
        write_bps: limits(&host.blkio_device_write_bps),
        read_iops: limits(&host.blkio_device_read_iops),
        write_iops: limits(&host.blkio_device_write_iops),
    })
}

pub(super) fn rlimits(host: &HostConfig) -> Vec<Rlimit> {
    let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    let limit = |limit: &super::record::Ulimit| Rlimit {
        name: limit.name.clone(),
        soft: value(limit.soft),
        hard: value(limit.hard),
    };
    host.ulimits.iter().map(limit).collect()
}

fn refused(error: impl std::error::Error) -> Error {
    Error::Refused(causes(&error))
}

/// An error with all its causes, on one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Refuses what can be known to be wrong before a container is started.
pub(super) fn check(host: &HostConfig) -> Result<()> {
    capabilities(&host.cap_add, &host.cap_drop, host.privileged).map_err(refused)?;
    seccomp(security_options(&host.security_opt).map_err(refused)?.seccomp, host.privileged)?;
    devices(host)?;
    device_rules(host)?;
    resources(host).map(drop)
}
