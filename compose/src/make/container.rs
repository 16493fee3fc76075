//! A container of a service, as the engine is asked for it.

use std::collections::BTreeMap;
use std::path::Path;

use cache::oci::{Healthcheck, StringMap};
use engine::containers::Record;
use engine::containers::create::Request;
use engine::containers::record::{Config, HostConfig, LogConfig, RestartPolicy};

use super::error::Of;
use super::{Error, labels, limits, mounts, networks};
use crate::model::{self, Project, Service};

/// A container that is to be.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// The project.
    pub project: &'a Project,
    /// What the project calls its service.
    pub service_name: &'a str,
    /// The service; for a one-off container, as `run` has changed it, with its name as `container_name`.
    pub service: &'a Service,
    /// Its place among the service's containers, from 1; of no meaning for a one-off container.
    pub number: u32,
    /// The id of its image, `sha256:...`.
    pub image: &'a str,
    /// The ids of the containers of services that it refers to, in the order of their numbers.
    pub others: &'a BTreeMap<String, Vec<String>>,
    /// The container that it replaces: what that one has at the image's volumes, and its volumes without a name, are
    /// carried over.
    pub previous: Option<&'a Record>,
    /// The folder in memory of this project's secrets and configs; see [`super::files`].
    pub files: &'a Path,
    /// Whether it is one of `run`: not numbered, never restarted, without published ports (see
    /// [`networks::publish`]) and known in its networks by its own name only (see [`networks::use_aliases`]).
    pub one_off: bool,
}

/// What a container of a service is called.
pub fn name(project: &Project, service_name: &str, service: &Service, number: u32) -> String {
    match service.container_name.as_str() {
        "" => format!("{}-{service_name}-{number}", project.name),
        name => name.to_owned(),
    }
}

impl Container<'_> {
    /// Its name; empty for a one-off container that was given none.
    pub(super) fn name(&self) -> String {
        match self.one_off {
            true => self.service.container_name.clone(),
            false => name(self.project, self.service_name, self.service, self.number),
        }
    }

    pub(super) fn of(&self) -> Of<'_> {
        Of(self.service_name)
    }
}

/// What the engine is asked for: an image's settings are not in it.
pub fn request(container: &Container<'_>) -> Result<Request, Error> {
    let of = container.of();
    refuse(of, container.service)?;
    let service = &resolve(container.service_name, container.service, container.others)?;
    let mut config = config(container, service)?;
    let mut host = host(of, service)?;
    if !container.one_off {
        host.restart_policy = restart_policy(of, service)?;
    }
    security(container, service, &mut host)?;
    limits::apply(of, service, &mut host)?;
    mounts::apply(container, service, &mut host)?;
    let networks = networks::apply(container, service, &mut config, &mut host)?;
    Ok(Request { name: container.name(), config, host_config: host, networks })
}

/// The service with the containers of other services in place of their names: `network_mode`, `ipc`, `pid` and
/// `volumes_from`.
pub(super) fn resolve(
    name: &str,
    service: &Service,
    others: &BTreeMap<String, Vec<String>>,
) -> Result<Service, Error> {
    let first = |other: &str, what: &'static str| {
        let found = others.get(other).and_then(|containers| containers.first());
        found.cloned().ok_or_else(|| Error::NoContainer {
            service: name.to_owned(),
            what,
            other: other.to_owned(),
        })
    };
    let mut service = service.clone();
    for (mode, what) in [
        (&mut service.network_mode, "network namespace"),
        (&mut service.ipc, "IPC namespace"),
        (&mut service.pid, "PID namespace"),
    ] {
        if let Some(other) = mode.strip_prefix("service:") {
            *mode = format!("container:{}", first(other, what)?);
        }
    }
    for from in &mut service.volumes_from {
        if let Some(container) = from.strip_prefix("container:") {
            *from = container.to_owned();
            continue;
        }
        let (other, access) = from.split_once(':').unwrap_or((from, ""));
        let id = first(other, "volumes")?;
        *from = if access.is_empty() { id } else { format!("{id}:{access}") };
    }
    Ok(service)
}

/// Refuses what there is nothing for here.
fn refuse(of: Of<'_>, service: &Service) -> Result<(), Error> {
    for (is_set, attribute, why) in [
        (
            service.provider.is_some(),
            "provider",
            "there are no programs that provide services here",
        ),
        (!service.models.is_empty(), "models", "there is nothing here that runs models"),
        (service.use_api_socket, "use_api_socket", "there is no daemon, and so no socket of one"),
        (
            !service.storage_opt.0.is_empty(),
            "storage_opt",
            "the size of a container cannot be limited",
        ),
        (
            !matches!(service.isolation.as_str(), "" | "default"),
            "isolation",
            "there is one kind on Linux, write `default` or nothing",
        ),
        (
            !matches!(service.runtime.as_str(), "" | "runc" | "io.containerd.runc.v2"),
            "runtime",
            "there is one runtime, write `runc` or nothing; for GPUs, write `gpus: all`",
        ),
        (
            service.cpu_rt_period != 0 || service.cpu_rt_runtime != 0,
            "cpu_rt_runtime",
            "the kernel's real-time scheduler cannot be limited",
        ),
        (
            !matches!(service.userns_mode.as_str(), "" | "host" | "private"),
            "userns_mode",
            "write `host` or nothing",
        ),
    ] {
        if is_set {
            return Err(of.unsupported(attribute, why));
        }
    }
    Ok(())
}

fn config(container: &Container<'_>, service: &Service) -> Result<Config, Error> {
    if service.uts == "host" && !service.hostname.is_empty() {
        let why = "conflicting options: hostname and the UTS mode";
        return Err(container.of().invalid("hostname", why));
    }
    let variable = |(name, value): (&String, &Option<String>)| match value {
        Some(value) => format!("{name}={value}"),
        None => name.clone(),
    };
    let words = |command: &Option<model::Command>| command.as_ref().map(|words| words.0.clone());
    Ok(Config {
        hostname: service.hostname.clone(),
        domainname: service.domainname.clone(),
        user: service.user.clone(),
        attach_stdout: true,
        attach_stderr: true,
        tty: service.tty,
        open_stdin: service.stdin_open,
        env: service.environment.0.iter().map(variable).collect(),
        cmd: words(&service.command),
        healthcheck: service
            .healthcheck
            .as_ref()
            .map(|health| healthcheck(container.of(), health))
            .transpose()?,
        image: service.image_name(&container.project.name, container.service_name),
        working_dir: service.working_dir.clone(),
        entrypoint: words(&service.entrypoint),
        labels: labels::container(container),
        stop_signal: Some(service.stop_signal.clone()).filter(|signal| !signal.is_empty()),
        stop_timeout: service.stop_grace_period.map(|time| time.0 / 1_000_000_000),
        ..Config::default()
    })
}

fn healthcheck(of: Of<'_>, health: &model::Healthcheck) -> Result<Healthcheck, Error> {
    let time = |time: Option<model::Duration>| time.map_or(0, |time| time.0);
    if health.start_interval.is_some() && health.start_period.is_none() {
        let why = "start_interval requires start_period to be set";
        return Err(of.invalid("healthcheck", why));
    }
    let none = || vec!["NONE".to_owned()];
    Ok(Healthcheck {
        test: if health.disable { none() } else { health.test.0.clone() },
        interval: time(health.interval),
        timeout: time(health.timeout),
        start_period: time(health.start_period),
        start_interval: time(health.start_interval),
        retries: health.retries.map_or(0, |retries| i64::try_from(retries).unwrap_or(i64::MAX)),
    })
}

/// What the machine gives it, but for limits, mounts and networks.
fn host(of: Of<'_>, service: &Service) -> Result<HostConfig, Error> {
    let or_private = |mode: &str| if mode.is_empty() { "private" } else { mode }.to_owned();
    let options = service.logging.as_ref().map(|logging| logging.options.0.clone());
    let driver = service.logging.as_ref().map_or("", |logging| logging.driver.as_str());
    for address in &service.dns {
        if address.parse::<std::net::IpAddr>().is_err() {
            return Err(of.invalid("dns", format!("{address:?} is not an address")));
        }
    }
    let addresses = |(host, addresses): (&String, &Vec<String>)| {
        addresses.iter().map(|address| format!("{host}:{address}")).collect::<Vec<_>>()
    };
    Ok(HostConfig {
        log_config: LogConfig {
            kind: if driver.is_empty() { "json-file" } else { driver }.to_owned(),
            config: options.unwrap_or_default(),
        },
        restart_policy: RestartPolicy { name: "no".to_owned(), maximum_retry_count: 0 },
        cap_add: service.cap_add.clone(),
        cap_drop: service.cap_drop.clone(),
        cgroupns_mode: or_private(&service.cgroup),
        dns: service.dns.clone(),
        dns_options: service.dns_opt.clone(),
        dns_search: service.dns_search.clone(),
        extra_hosts: service.extra_hosts.0.iter().flat_map(addresses).collect(),
        group_add: service.group_add.clone(),
        ipc_mode: or_private(&service.ipc),
        pid_mode: service.pid.clone(),
        privileged: service.privileged,
        readonly_rootfs: service.read_only,
        tmpfs: service.tmpfs.iter().map(|text| engine::volume::tmpfs::typed(text)).collect(),
        uts_mode: service.uts.clone(),
        userns_mode: service.userns_mode.clone(),
        sysctls: StringMap::from_iter(service.sysctls.0.clone()),
        runtime: "runc".to_owned(),
        volumes_from: service.volumes_from.clone(),
        init: service.init,
        ..HostConfig::default()
    })
}

/// `security_opt`, read as docker's command line does.
fn security(
    container: &Container<'_>,
    service: &Service,
    host: &mut HostConfig,
) -> Result<(), Error> {
    for option in &service.security_opt {
        if option == "systempaths=unconfined" {
            host.masked_paths = Some(Vec::new());
            host.readonly_paths = Some(Vec::new());
            continue;
        }
        let pair = option.split_once('=').or_else(|| option.split_once(':'));
        let Some((key, value)) = pair else {
            if option != "no-new-privileges" {
                let why = format!("invalid security-opt: {option:?}");
                return Err(container.of().invalid("security_opt", why));
            }
            host.security_opt.push(option.clone());
            continue;
        };
        let is_file = key == "seccomp" && !matches!(value, "unconfined" | "builtin");
        host.security_opt.push(match is_file {
            true => format!("seccomp={}", container.project.working_dir.join(value).display()),
            false => option.clone(),
        });
    }
    Ok(())
}

/// `restart`, or `deploy.restart_policy`, which wins.
fn restart_policy(of: Of<'_>, service: &Service) -> Result<RestartPolicy, Error> {
    let deployed = service.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref());
    let (condition, count) = match deployed {
        Some(policy) => (policy.condition.as_str(), policy.max_attempts.unwrap_or(0)),
        None => {
            let (name, count) = service.restart.split_once(':').unwrap_or((&service.restart, ""));
            (name, count.parse().unwrap_or(0))
        }
    };
    let name = match condition {
        "none" | "no" | "" => "no",
        "any" | "always" => "always",
        other => other,
    };
    let policy = RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count: u32::try_from(count).unwrap_or(u32::MAX),
    };
    engine::containers::create::check_restart(&policy)
        .map_err(|error| of.invalid("restart", error))?;
    Ok(policy)
}
