//! The flags of `run` and `create`, and the container that they ask for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cache::oci::{Empty, Healthcheck, StringMap};
use clap::Args;
use engine::container::options::cpus;
use engine::container::spec::Device;
use engine::containers::create::Request;
use engine::containers::record::{
    Config, DeviceMapping, DeviceRequest, EndpointSettings, HostConfig, LogConfig, PortBinding,
    PortMap, RestartPolicy, ThrottleDevice, Ulimit, WeightDevice,
};
use engine::duration;
use engine::network::{HostPorts, parse_expose, parse_publish};
use engine::units::{self, parse_memory};
use engine::volume::{bind, mount, tmpfs};
use fs_err as fs;

/// What `run` and `create` are told of a container.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CreateArgs {
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Remove the container, and its volumes without a name, when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// The container's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: String,
    /// Print no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The platform of the image
    #[arg(long, env = "DOCKER_DEFAULT_PLATFORM", value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Set a variable, or take it over from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// The directory the command starts in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The user the command runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Groups beyond the user's own
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// The program to run instead of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// The container's host name
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// The container's domain name
    #[arg(long)]
    domainname: Option<String>,
    /// Say something about the container
    #[arg(short, long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Kept for docker's sake
    #[arg(long, value_name = "NAME=VALUE", hide = true)]
    annotation: Vec<String>,
    /// What to do when it ends: no, `on-failure[:times]`, always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: String,
    /// Let a small init be the first process
    #[arg(long)]
    init: bool,
    /// What asks the program to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds until it is killed then
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    stop_timeout: Option<i64>,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    resources: ResourceArgs,
    #[command(flatten)]
    fixed: FixedResourceArgs,
    #[command(flatten)]
    security: SecurityArgs,
    #[command(flatten)]
    health: HealthArgs,
    /// How output is kept: json-file, local or none
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// max-size, max-file
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
}

/// What is mounted.
#[derive(Args, Clone, Debug, Default)]
struct StorageArgs {
    /// Mount a volume or a directory of the host
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// The same in another form: type=bind|volume|tmpfs|image,src=...,dst=...
    #[arg(long, value_name = "KEY=VALUE,...")]
    mount: Vec<String>,
    /// Mount a file system in memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Mount what another container has
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,
    /// The driver of volumes
    #[arg(long, value_name = "DRIVER")]
    volume_driver: Option<String>,
    /// Mount the root file system read-only
    #[arg(long)]
    read_only: bool,
}

/// What it is connected to.
#[derive(Args, Clone, Debug, Default)]
struct NetworkArgs {
    /// bridge, host, none, container:NAME or a network's name
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// A name of the container on its network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Its IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Its IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Its hardware address
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,
    /// Publish a port of the container
    #[arg(short, long, value_name = "[[IP:]HOST:]PORT[/PROTOCOL]")]
    publish: Vec<String>,
    /// Publish all exposed ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    expose: Vec<String>,
    /// Ask this name server
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Look for names in this domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Set an option of the resolver
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Extra line for /etc/hosts, as name:address or name:host-gateway
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
}

/// What it may use.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct ResourceArgs {
    /// Memory limit, as 512m
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Memory and swap limit; -1 is unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Soft memory limit
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// How readily memory is swapped out, 0 to 100
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    memory_swappiness: Option<i64>,
    /// How many CPUs may be used, as 1.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// Relative CPU weight
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// CPU time per period, in microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// The period of --cpu-quota, in microseconds
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// CPUs that may be used, as 0-2
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// How many processes may run at once; -1 is unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Relative block I/O weight, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
}

/// What it may use, and cannot be changed while it runs.
#[derive(Args, Clone, Debug, Default)]
struct FixedResourceArgs {
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Resource limit, as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Do not kill its processes for want of memory
    #[arg(long)]
    oom_kill_disable: bool,
    /// How readily it is killed for want of memory, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    oom_score_adj: Option<i64>,
    /// Block I/O weight for a device
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Limit reading from a device, in bytes per second
    #[arg(long, value_name = "DEVICE:RATE")]
    device_read_bps: Vec<String>,
    /// Limit writing to a device, in bytes per second
    #[arg(long, value_name = "DEVICE:RATE")]
    device_write_bps: Vec<String>,
    /// Limit reads from a device per second
    #[arg(long, value_name = "DEVICE:RATE")]
    device_read_iops: Vec<String>,
    /// Limit writes to a device per second
    #[arg(long, value_name = "DEVICE:RATE")]
    device_write_iops: Vec<String>,
    /// Where the container's cgroups are made
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
}

/// What it is allowed.
#[derive(Args, Clone, Debug, Default)]
struct SecurityArgs {
    /// Give the command all the host's powers
    #[arg(long)]
    privileged: bool,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=FILE|unconfined, systempaths=unconfined, ...
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Give it a device of the host
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    device: Vec<String>,
    /// Allow devices by their numbers, as 'c 1:3 rwm'
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    /// Give it GPUs: all, a number, or device=ID
    #[arg(long, value_name = "GPUS")]
    gpus: Option<String>,
    /// Set a kernel parameter
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// Process namespace: host or container:NAME
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// Shared memory: private, shareable, none, host or container:NAME
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// Host name namespace: host
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// Cgroup namespace: private or host
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
    /// User namespace: host
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Kept for docker's sake
    #[arg(long, value_name = "RUNTIME", hide = true)]
    runtime: Option<String>,
}

/// How to tell whether it works.
#[derive(Args, Clone, Debug, Default)]
struct HealthArgs {
    /// A command that tells whether it is healthy
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// The time between two probes
    #[arg(long, value_name = "DURATION")]
    health_interval: Option<String>,
    /// Failures in a row that mean unhealthy
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<i64>,
    /// How long a probe may take
    #[arg(long, value_name = "DURATION")]
    health_timeout: Option<String>,
    /// How long failures do not count at first
    #[arg(long, value_name = "DURATION")]
    health_start_period: Option<String>,
    /// The time between two probes meanwhile
    #[arg(long, value_name = "DURATION")]
    health_start_interval: Option<String>,
    /// Take the image's probe away
    #[arg(long)]
    no_healthcheck: bool,
}

impl CreateArgs {
    /// The container that is asked for.
    pub(crate) fn request(&self, image: &str, command: &[String]) -> anyhow::Result<Request> {
        let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let mut config = self.config(image, command)?;
        let mut host = HostConfig {
            container_id_file: self
                .cidfile
                .as_ref()
                .map(|it| it.display().to_string())
                .unwrap_or_default(),
            log_config: LogConfig {
                kind: self.log_driver.clone().unwrap_or_else(|| "json-file".to_owned()),
                config: pairs(&self.log_opt, "--log-opt")?,
            },
            restart_policy: restart_policy(&self.restart)?,
            auto_remove: self.rm,
            group_add: self.group_add.clone(),
            runtime: "runc".to_owned(),
            init: self.init.then_some(true),
            ..HostConfig::default()
        };
        self.storage.apply(&mut config, &mut host, &directory)?;
        self.fixed.apply(&mut host)?;
        self.resources.apply(&mut host)?;
        self.security.apply(&mut host)?;
        let networks = self.network.apply(&mut config, &mut host)?;
        config.healthcheck = self.health.healthcheck()?;
        let name = self.name.clone().unwrap_or_default();
        let name = name.strip_prefix('/').unwrap_or(&name).to_owned();
        Ok(Request { name, config, host_config: host, networks })
    }

    fn config(&self, image: &str, command: &[String]) -> anyhow::Result<Config> {
        let mut env = Vec::new();
        for file in &self.env_file {
            read_variables(file, &mut env)?;
        }
        for given in &self.env {
            variable(given, &mut env)?;
        }
        let mut labels = StringMap::new();
        for file in &self.label_file {
            let lines = fs::read_to_string(file)?;
            let lines = lines.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            labels.extend(pairs(lines, "--label-file")?);
        }
        labels.extend(pairs(&self.label, "--label")?);
        Ok(Config {
            hostname: self.hostname.clone().unwrap_or_default(),
            domainname: self.domainname.clone().unwrap_or_default(),
            user: self.user.clone().unwrap_or_default(),
            tty: self.tty,
            open_stdin: self.interactive,
            env,
            cmd: (!command.is_empty()).then(|| command.to_vec()),
            image: image.to_owned(),
            working_dir: self.workdir.clone().unwrap_or_default(),
            entrypoint: self.entrypoint.clone().map(|program| vec![program]),
            labels,
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
            ..Config::default()
        })
    }
}

impl StorageArgs {
    fn apply(&self, config: &mut Config, host: &mut HostConfig, dir: &Path) -> anyhow::Result<()> {
        for text in &self.volume {
            match bind::typed(text, dir)? {
                bind::Typed::Bind(bind) => host.binds.push(bind),
                bind::Typed::Anonymous(path) => {
                    config.volumes.get_or_insert_default().insert(path, Empty {});
                }
            }
        }
        for text in &self.mount {
            host.mounts.push(mount::parse(text, dir)?);
        }
        host.tmpfs = self.tmpfs.iter().map(|text| tmpfs::typed(text)).collect();
        host.volumes_from.clone_from(&self.volumes_from);
        host.volume_driver = self.volume_driver.clone().unwrap_or_default();
        host.readonly_rootfs = self.read_only;
        Ok(())
    }
}

impl NetworkArgs {
    fn apply(
        &self,
        config: &mut Config,
        host: &mut HostConfig,
    ) -> anyhow::Result<BTreeMap<String, EndpointSettings>> {
        for text in &self.expose {
            for port in parse_expose(text)? {
                config.exposed_ports.insert(port.to_string(), Empty {});
            }
        }
        for text in &self.publish {
            publish(text, config, &mut host.port_bindings)?;
        }
        host.publish_all_ports = self.publish_all;
        host.dns.clone_from(&self.dns);
        host.dns_search.clone_from(&self.dns_search);
        host.dns_options.clone_from(&self.dns_option);
        for text in &self.add_host {
            text.parse::<engine::network::resolv::ExtraHost>()?;
        }
        host.extra_hosts.clone_from(&self.add_host);
        let mut networks = BTreeMap::new();
        for text in &self.network {
            let (name, settings) = network(text)?;
            if host.network_mode.is_empty() {
                host.network_mode.clone_from(&name);
            }
            if networks.insert(name.clone(), settings).is_some() {
                bail!("network {name:?} is specified multiple times");
            }
        }
        if host.network_mode.is_empty() {
            host.network_mode = "bridge".to_owned();
        }
        self.first(host, &mut networks)?;
        Ok(networks)
    }

    /// What the flags say of the container's first network.
    fn first(
        &self,
        host: &HostConfig,
        networks: &mut BTreeMap<String, EndpointSettings>,
    ) -> anyhow::Result<()> {
        let mode = host.network_mode.as_str();
        if matches!(mode, "none" | "host") || mode.starts_with("container:") {
            networks.remove(mode);
            if !networks.is_empty() {
                bail!(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                );
            }
            if mode.starts_with("container:") && !host.port_bindings.is_empty() {
                bail!("conflicting options: port publishing and the container type network mode");
            }
            return Ok(());
        }
        let settings = networks.entry(mode.to_owned()).or_default();
        if !self.network_alias.is_empty() {
            settings.aliases.get_or_insert_default().extend(self.network_alias.iter().cloned());
        }
        for (key, address) in [("IPv4Address", &self.ip), ("IPv6Address", &self.ip6)] {
            if let Some(address) = address {
                if address.parse::<std::net::IpAddr>().is_err() {
                    bail!("invalid IP address: {address}");
                }
                let asked = settings.ipam_config.get_or_insert_default();
                asked.insert(key.to_owned(), address.clone());
            }
        }
        let custom = settings.ipam_config.is_some() || settings.aliases.is_some();
        if custom && mode == "bridge" {
            let what = if settings.ipam_config.is_some() {
                "user specified IP address is supported on user defined networks only"
            } else {
                "network-scoped alias is supported only for containers in user defined networks"
            };
            bail!("invalid config for network bridge: invalid endpoint settings:\n{what}");
        }
        if let Some(address) = &self.mac_address {
            engine::network::parse_mac(address)?;
            settings.mac_address.clone_from(address);
        }
        Ok(())
    }
}

/// `--network`: a name, or `name=...,alias=...,ip=...`.
fn network(text: &str) -> anyhow::Result<(String, EndpointSettings)> {
    let mut settings = EndpointSettings::default();
    if !text.contains('=') {
        return Ok((text.to_owned(), settings));
    }
    let mut name = None;
    for part in text.split(',') {
        let (key, value) = part.split_once('=').with_context(|| {
            format!("invalid key value pair format in network options: {part:?}")
        })?;
        let mut address = |key: &str| {
            let asked = settings.ipam_config.get_or_insert_default();
            asked.insert(key.to_owned(), value.to_owned());
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => name = Some(value.to_owned()),
            "alias" => settings.aliases.get_or_insert_default().push(value.to_owned()),
            "ip" => address("IPv4Address"),
            "ip6" => address("IPv6Address"),
            "mac-address" => value.clone_into(&mut settings.mac_address),
            "gw-priority" => settings.gw_priority = value.parse().context("gw-priority")?,
            "driver-opt" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                let options = settings.driver_opts.get_or_insert_default();
                options.insert(name.to_owned(), value.to_owned());
            }
            other => bail!("invalid field key {other}"),
        }
    }
    Ok((name.context("network name is not specified")?, settings))
}

/// `-p`.
fn publish(text: &str, config: &mut Config, bindings: &mut PortMap) -> anyhow::Result<()> {
    for mapping in parse_publish(text)? {
        let port = mapping.container.to_string();
        config.exposed_ports.insert(port.clone(), Empty {});
        let host_port = match mapping.host_ports {
            HostPorts { first: 0, .. } => String::new(),
            HostPorts { first, last } if first == last => first.to_string(),
            HostPorts { first, last } => format!("{first}-{last}"),
        };
        let host_ip = mapping.host.map(|address| address.to_string()).unwrap_or_default();
        let binding = PortBinding { host_ip, host_port };
        bindings.entry(port).or_default().get_or_insert_default().push(binding);
    }
    Ok(())
}

impl ResourceArgs {
    /// Whether nothing was given.
    pub(crate) fn is_empty(&self) -> bool {
        *self == ResourceArgs::default()
    }

    /// Docker's rules for changing what a container has already.
    pub(crate) fn conflict(&self, host: &HostConfig) -> anyhow::Result<()> {
        if host.nano_cpus > 0 && self.cpu_period.is_some() {
            bail!(
                "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"
            );
        }
        if host.nano_cpus > 0 && self.cpu_quota.is_some() {
            bail!(
                "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"
            );
        }
        if host.cpu_period > 0 && self.cpus.is_some() {
            bail!(
                "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"
            );
        }
        if host.cpu_quota > 0 && self.cpus.is_some() {
            bail!(
                "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"
            );
        }
        let memory = self.memory.as_deref().map(bytes).transpose()?.unwrap_or(0);
        let swap = host.memory_swap;
        if self.memory_swap.is_none() && swap > 0 && memory > swap.cast_unsigned() {
            bail!(
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
            );
        }
        Ok(())
    }

    /// Sets what was given, and leaves the rest.
    pub(crate) fn apply(&self, host: &mut HostConfig) -> anyhow::Result<()> {
        set(&mut host.memory, self.memory.as_deref().map(bytes).transpose()?);
        set(
            &mut host.memory_reservation,
            self.memory_reservation.as_deref().map(bytes).transpose()?,
        );
        if let Some(text) = self.memory_swap.as_deref() {
            host.memory_swap = if text == "-1" { -1 } else { bytes(text)?.cast_signed() };
        }
        if let Some(value) = self.memory_swappiness {
            if !(-1..=100).contains(&value) {
                bail!("invalid value: {value}. Valid memory swappiness range is 0-100");
            }
            host.memory_swappiness = Some(value).filter(|value| *value >= 0);
        }
        if let Some(text) = &self.cpus {
            if self.cpu_quota.is_some() || self.cpu_period.is_some() {
                bail!("Conflicting options: Nano CPUs and CPU Period cannot both be set.");
            }
            // Microseconds of 100,000 are billionths divided by 10,000.
            host.nano_cpus = (cpus(text)? * 10_000).cast_unsigned();
            (host.cpu_quota, host.cpu_period) = (0, 0);
        }
        if self.cpu_quota.is_some() || self.cpu_period.is_some() {
            host.nano_cpus = 0;
        }
        set(&mut host.cpu_shares, self.cpu_shares);
        set(&mut host.cpu_quota, self.cpu_quota);
        set(&mut host.cpu_period, self.cpu_period);
        set(&mut host.cpuset_cpus, self.cpuset_cpus.clone());
        set(&mut host.cpuset_mems, self.cpuset_mems.clone());
        set(&mut host.blkio_weight, self.blkio_weight);
        if self.pids_limit.is_some() {
            host.pids_limit = self.pids_limit;
        }
        check_memory(host)
    }
}

impl FixedResourceArgs {
    fn apply(&self, host: &mut HostConfig) -> anyhow::Result<()> {
        if host.shm_size == 0 {
            host.shm_size = 64 << 20;
        }
        set(&mut host.shm_size, self.shm_size.as_deref().map(bytes).transpose()?);
        for text in &self.ulimit {
            let units::Ulimit { name, soft, hard } =
                text.parse().with_context(|| format!("--ulimit {text}"))?;
            host.ulimits.push(Ulimit { name, hard, soft });
        }
        host.oom_kill_disable = self.oom_kill_disable.then_some(true).or(host.oom_kill_disable);
        if let Some(value) = self.oom_score_adj {
            if !(-1000..=1000).contains(&value) {
                bail!("Invalid value {value}, range for oom score adj is [-1000, 1000]");
            }
            host.oom_score_adj = value;
        }
        set(&mut host.cgroup_parent, self.cgroup_parent.clone());
        for text in &self.blkio_weight_device {
            let (path, weight) = device_rate(text)?;
            let weight =
                weight.parse().with_context(|| format!("invalid weight for device: {text}"))?;
            host.blkio_weight_device.push(WeightDevice { path, weight });
        }
        let rates = |given: &[String], is_bytes: bool| -> anyhow::Result<Vec<ThrottleDevice>> {
            let rate = |text: &String| {
                let (path, rate) = device_rate(text)?;
                let number = if is_bytes { parse_memory(&rate).ok() } else { rate.parse().ok() };
                let rate = number.with_context(|| format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"))?;
                Ok(ThrottleDevice { path, rate })
            };
            given.iter().map(rate).collect()
        };
        host.blkio_device_read_bps.extend(rates(&self.device_read_bps, true)?);
        host.blkio_device_write_bps.extend(rates(&self.device_write_bps, true)?);
        host.blkio_device_read_iops.extend(rates(&self.device_read_iops, false)?);
        host.blkio_device_write_iops.extend(rates(&self.device_write_iops, false)?);
        Ok(())
    }
}

/// Docker's rules for memory limits.
fn check_memory(host: &HostConfig) -> anyhow::Result<()> {
    const LEAST: u64 = 6 << 20;
    if host.memory > 0 && host.memory < LEAST {
        bail!("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap.cast_unsigned() < host.memory {
        bail!("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 {
        bail!("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if host.memory_reservation > 0 && host.memory_reservation < LEAST {
        bail!("Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory < host.memory_reservation {
        bail!("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if host.blkio_weight > 0 && !(10..=1000).contains(&host.blkio_weight) {
        bail!("Range of blkio weight is from 10 to 1000");
    }
    if host.cpu_period > 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        bail!(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        );
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        bail!("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    Ok(())
}

impl SecurityArgs {
    fn apply(&self, host: &mut HostConfig) -> anyhow::Result<()> {
        host.privileged = self.privileged;
        host.cap_add.clone_from(&self.cap_add);
        host.cap_drop.clone_from(&self.cap_drop);
        host.security_opt.clone_from(&self.security_opt);
        host.device_cgroup_rules.clone_from(&self.device_cgroup_rule);
        for text in &self.device {
            if is_cdi(text) {
                host.device_requests.push(cdi(vec![text.clone()]));
                continue;
            }
            let device: Device = text.parse()?;
            host.devices.push(DeviceMapping {
                path_on_host: device.host.display().to_string(),
                path_in_container: device.container.display().to_string(),
                cgroup_permissions: device.access.to_string(),
            });
        }
        if let Some(text) = &self.gpus {
            host.device_requests.push(cdi(engine::container::options::gpus(text)?));
        }
        host.sysctls = pairs(&self.sysctl, "--sysctl")?;
        host.pid_mode = self.pid.clone().unwrap_or_default();
        host.ipc_mode = self.ipc.clone().unwrap_or_else(|| "private".to_owned());
        host.uts_mode = self.uts.clone().unwrap_or_default();
        host.cgroupns_mode = self.cgroupns.clone().unwrap_or_else(|| "private".to_owned());
        host.userns_mode = self.userns.clone().unwrap_or_default();
        if !matches!(host.userns_mode.as_str(), "" | "host") {
            bail!(
                "invalid USER mode {:?}: containers have no user namespace of their own here",
                host.userns_mode
            );
        }
        Ok(())
    }
}

/// Whether a device is one by its qualified name, `vendor/class=name`.
fn is_cdi(text: &str) -> bool {
    !text.starts_with('/') && text.contains('/') && text.contains('=')
}

fn cdi(device_ids: Vec<String>) -> DeviceRequest {
    DeviceRequest { driver: "cdi".to_owned(), device_ids, ..DeviceRequest::default() }
}

impl HealthArgs {
    fn healthcheck(&self) -> anyhow::Result<Option<Healthcheck>> {
        let time = |text: &Option<String>, flag: &str| match text {
            None => Ok(0),
            Some(text) => match duration::parse(text) {
                Ok(time) if time >= 0 => Ok(time),
                Ok(_) => bail!("{flag} cannot be negative"),
                Err(error) => Err(error).with_context(|| format!("{flag} {text}")),
            },
        };
        let given = Healthcheck {
            test: match &self.health_cmd {
                Some(command) if !command.is_empty() => {
                    vec!["CMD-SHELL".to_owned(), command.clone()]
                }
                _ => Vec::new(),
            },
            interval: time(&self.health_interval, "--health-interval")?,
            timeout: time(&self.health_timeout, "--health-timeout")?,
            start_period: time(&self.health_start_period, "--health-start-period")?,
            start_interval: time(&self.health_start_interval, "--health-start-interval")?,
            retries: self.health_retries.unwrap_or(0),
        };
        let any = given != Healthcheck::default();
        if given.retries < 0 {
            bail!("--health-retries cannot be negative");
        }
        if !self.no_healthcheck {
            return Ok(any.then_some(given));
        }
        if any {
            bail!("--no-healthcheck conflicts with --health-* options");
        }
        Ok(Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }))
    }
}

/// `--restart`.
pub(crate) fn restart_policy(text: &str) -> anyhow::Result<RestartPolicy> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    let maximum_retry_count = match count {
        "" => 0,
        count => count.parse().ok().context("maximum retry count must be an integer")?,
    };
    let policy = RestartPolicy { name: name.to_owned(), maximum_retry_count };
    engine::containers::create::check_restart(&policy)?;
    Ok(policy)
}

/// `NAME=VALUE` or, for a variable of ours, `NAME`.
pub(crate) fn variable(given: &str, env: &mut Vec<String>) -> anyhow::Result<()> {
    if given.is_empty() || given.starts_with('=') {
        bail!("invalid environment variable: {given}");
    }
    if given.contains('=') {
        env.push(given.to_owned());
    } else if let Ok(value) = std::env::var(given) {
        env.push(format!("{given}={value}"));
    }
    Ok(())
}

/// Reads `--env-file`: a variable a line, `#` for comments.
pub(crate) fn read_variables(file: &Path, env: &mut Vec<String>) -> anyhow::Result<()> {
    let text = fs::read(file)?;
    let Ok(text) = String::from_utf8(text) else {
        bail!("env file {} contains invalid utf8 bytes", file.display());
    };
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            bail!(
                "invalid environment file ({}): no variable name on line '{line}'",
                file.display()
            );
        }
        if name.contains([' ', '\t']) {
            bail!(
                "invalid environment file ({}): variable '{name}' contains whitespaces",
                file.display()
            );
        }
        variable(line, env)?;
    }
    Ok(())
}

/// `NAME=VALUE` pairs; without a value it is empty.
fn pairs<T: AsRef<str>>(
    given: impl IntoIterator<Item = T>,
    flag: &str,
) -> anyhow::Result<StringMap> {
    let pair = |text: T| match text.as_ref().split_once('=').unwrap_or((text.as_ref(), "")) {
        ("", _) => bail!("{flag} {}: expected NAME=VALUE", text.as_ref()),
        (name, value) => Ok((name.to_owned(), value.to_owned())),
    };
    given.into_iter().map(pair).collect()
}

fn device_rate(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once(':') {
        Some((path, rate)) if path.starts_with("/dev/") => Ok((path.to_owned(), rate.to_owned())),
        _ => bail!("bad format for device path: {text}"),
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn bytes(text: &str) -> anyhow::Result<u64> {
    parse_memory(text).with_context(|| format!("invalid size: '{text}'"))
}
