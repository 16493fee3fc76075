//! A service and what belongs to it alone.

use std::collections::BTreeMap;

use super::build::{Build, Develop};
use super::deploy::{Deploy, DeviceRequest};
use super::value::{
    Bytes, Command, Decimal, Duration, Environment, FileMode, Hosts, OptOut, Options, Pairs,
    Stated, Test, Ulimit,
};
use crate::field::record;

record! {
    /// A service.
    ///
    /// The order of its attributes is docker compose's, of which its config hash depends.
    pub struct Service {
        profiles: Vec<String> = "profiles",
        deploy: Option<Deploy> = "deploy",
        develop: Option<Develop> = "develop",
        restart: String = "restart",
        /// See [`Service::replicas`].
        scale: Option<i64> = "scale",
        attach: Option<bool> = "attach",
        container_name: String = "container_name",
        provider: Option<Provider> = "provider",
        external_links: Vec<String> = "external_links",
        links: Vec<String> = "links",
        /// Containers that run to their end before the service's: each a service of its own, without volumes.
        pre_start: Vec<Service> = "pre_start",
        post_start: Vec<Hook> = "post_start",
        pre_stop: Vec<Hook> = "pre_stop",
        annotations: Pairs = "annotations",
        blkio_config: Option<Blkio> = "blkio_config",
        cap_add: Vec<String> = "cap_add",
        cap_drop: Vec<String> = "cap_drop",
        cgroup_parent: String = "cgroup_parent",
        cgroup: String = "cgroup",
        cpu_count: i64 = "cpu_count",
        cpu_percent: Decimal = "cpu_percent",
        cpu_period: i64 = "cpu_period",
        cpu_quota: i64 = "cpu_quota",
        cpu_rt_period: i64 = "cpu_rt_period",
        cpu_rt_runtime: i64 = "cpu_rt_runtime",
        cpus: Decimal = "cpus",
        cpuset: String = "cpuset",
        cpu_shares: i64 = "cpu_shares",
        /// None is the image's; an empty one is none at all.
        command: Option<Command> = "command",
        configs: Vec<FileMount> = "configs",
        credential_spec: Option<CredentialSpec> = "credential_spec",
        device_cgroup_rules: Vec<String> = "device_cgroup_rules",
        devices: Vec<Device> = "devices",
        dns: Vec<String> = "dns",
        dns_opt: Vec<String> = "dns_opt",
        dns_search: Vec<String> = "dns_search",
        domainname: String = "domainname",
        /// None is the image's; an empty one is none at all.
        entrypoint: Option<Command> = "entrypoint",
        environment: Environment = "environment",
        /// Files whose variables are in `environment` once the project is loaded with its environment.
        env_file: Vec<EnvFile> = "env_file",
        extra_hosts: Hosts = "extra_hosts",
        group_add: Vec<String> = "group_add",
        gpus: Vec<DeviceRequest> = "gpus",
        hostname: String = "hostname",
        image: String = "image",
        init: Option<bool> = "init",
        ipc: String = "ipc",
        isolation: String = "isolation",
        labels: Pairs = "labels",
        label_file: Vec<String> = "label_file",
        logging: Option<Logging> = "logging",
        mem_limit: Bytes = "mem_limit",
        mem_reservation: Bytes = "mem_reservation",
        memswap_limit: Bytes = "memswap_limit",
        mem_swappiness: Bytes = "mem_swappiness",
        mac_address: String = "mac_address",
        models: BTreeMap<String, Option<ServiceModel>> = "models",
        network_mode: String = "network_mode",
        networks: BTreeMap<String, Option<ServiceNetwork>> = "networks",
        oom_kill_disable: bool = "oom_kill_disable",
        oom_score_adj: i64 = "oom_score_adj",
        pid: String = "pid",
        pids_limit: i64 = "pids_limit",
        platform: String = "platform",
        privileged: bool = "privileged",
        pull_policy: String = "pull_policy",
        read_only: bool = "read_only",
        runtime: String = "runtime",
        secrets: Vec<FileMount> = "secrets",
        security_opt: Vec<String> = "security_opt",
        shm_size: Bytes = "shm_size",
        stop_grace_period: Option<Duration> = "stop_grace_period",
        stop_signal: String = "stop_signal",
        storage_opt: Options = "storage_opt",
        sysctls: Pairs = "sysctls",
        tmpfs: Vec<String> = "tmpfs",
        ulimits: BTreeMap<String, Ulimit> = "ulimits",
        use_api_socket: bool = "use_api_socket",
        user: String = "user",
        userns_mode: String = "userns_mode",
        uts: String = "uts",
        volumes: Vec<Mount> = "volumes",
        volumes_from: Vec<String> = "volumes_from",
        working_dir: String = "working_dir",
        build: Option<Build> = "build",
        depends_on: BTreeMap<String, Dependency> = "depends_on",
        expose: Vec<String> = "expose",
        healthcheck: Option<Healthcheck> = "healthcheck",
        ports: Vec<Port> = "ports",
        stdin_open: bool = "stdin_open",
        tty: bool = "tty",
        /// Only of what stands in `pre_start`.
        per_replica: bool = "per_replica",
    }
}

impl Service {
    /// How many containers it has.
    pub fn replicas(&self) -> i64 {
        let deployed = self.deploy.as_ref().and_then(|deploy| deploy.replicas);
        self.scale.or(deployed).unwrap_or(1)
    }

    /// The name of its image in a project: its own, or the one that is built for it.
    pub fn image_name(&self, project: &str, name: &str) -> String {
        match self.image.as_str() {
            "" => format!("{project}-{name}"),
            image => image.to_owned(),
        }
    }
}

record! {
    /// How a service waits for another one.
    pub struct Dependency {
        /// `service_started`, `service_healthy` or `service_completed_successfully`.
        condition: String = "condition",
        restart: bool = "restart",
        required: Stated = "required",
    }
}

record! {
    /// A program that provides a service in place of a container.
    pub struct Provider {
        provider: String = "type",
        options: BTreeMap<String, Vec<String>> = "options",
    }
}

record! {
    /// A command that is run inside a container when it has started or before it stops.
    pub struct Hook {
        command: Option<Command> = "command",
        user: String = "user",
        privileged: bool = "privileged",
        working_dir: String = "working_dir",
        environment: Environment = "environment",
    }
}

record! {
    /// Limits of block devices.
    pub struct Blkio {
        weight: u16 = "weight",
        weight_device: Vec<BlkioWeight> = "weight_device",
        device_read_bps: Vec<BlkioRate> = "device_read_bps",
        device_read_iops: Vec<BlkioRate> = "device_read_iops",
        device_write_bps: Vec<BlkioRate> = "device_write_bps",
        device_write_iops: Vec<BlkioRate> = "device_write_iops",
    }
}

record! {
    /// The weight of one device.
    pub struct BlkioWeight {
        path: String = "path",
        weight: u16 = "weight",
    }
}

record! {
    /// The most that one device may do in a second.
    pub struct BlkioRate {
        path: String = "path",
        rate: Bytes = "rate",
    }
}

record! {
    /// A secret or a config as a file in the container.
    pub struct FileMount {
        source: String = "source",
        target: String = "target",
        uid: String = "uid",
        gid: String = "gid",
        mode: Option<FileMode> = "mode",
    }
}

record! {
    /// Credentials for containers of Windows.
    pub struct CredentialSpec {
        config: String = "config",
        file: String = "file",
        registry: String = "registry",
    }
}

record! {
    /// A device of the host in the container.
    pub struct Device {
        source: String = "source",
        target: String = "target",
        permissions: String = "permissions",
    }
}

record! {
    /// A file with variables.
    pub struct EnvFile {
        path: String = "path",
        required: OptOut = "required",
        format: String = "format",
    }
}

record! {
    /// Where logs go.
    pub struct Logging {
        driver: String = "driver",
        options: Options = "options",
    }
}

record! {
    /// How a service learns of a model.
    pub struct ServiceModel {
        endpoint_var: String = "endpoint_var",
        model_var: String = "model_var",
    }
}

record! {
    /// A service in a network.
    pub struct ServiceNetwork {
        aliases: Vec<String> = "aliases",
        driver_opts: Options = "driver_opts",
        gw_priority: i64 = "gw_priority",
        interface_name: String = "interface_name",
        ipv4_address: String = "ipv4_address",
        ipv6_address: String = "ipv6_address",
        link_local_ips: Vec<String> = "link_local_ips",
        mac_address: String = "mac_address",
        priority: i64 = "priority",
    }
}

record! {
    /// How it is known whether a container is well.
    pub struct Healthcheck {
        test: Test = "test",
        timeout: Option<Duration> = "timeout",
        interval: Option<Duration> = "interval",
        retries: Option<u64> = "retries",
        start_period: Option<Duration> = "start_period",
        start_interval: Option<Duration> = "start_interval",
        disable: bool = "disable",
    }
}

record! {
    /// A published port.
    pub struct Port {
        name: String = "name",
        mode: String = "mode",
        host_ip: String = "host_ip",
        target: u16 = "target",
        /// A port, a range of which one is taken, or nothing for any.
        published: String = "published",
        protocol: String = "protocol",
        app_protocol: String = "app_protocol",
    }
}

record! {
    /// Something of the host, a volume, a tmpfs or an image in the container's file system.
    pub struct Mount {
        /// `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
        kind: String = "type",
        /// Empty for an anonymous volume.
        source: String = "source",
        target: String = "target",
        read_only: bool = "read_only",
        consistency: String = "consistency",
        bind: Option<BindOptions> = "bind",
        volume: Option<VolumeOptions> = "volume",
        tmpfs: Option<TmpfsOptions> = "tmpfs",
        image: Option<ImageOptions> = "image",
    }
}

record! {
    /// Of a bind mount.
    pub struct BindOptions {
        selinux: String = "selinux",
        propagation: String = "propagation",
        create_host_path: OptOut = "create_host_path",
        recursive: String = "recursive",
    }
}

record! {
    /// Of a volume.
    pub struct VolumeOptions {
        labels: Pairs = "labels",
        nocopy: bool = "nocopy",
        subpath: String = "subpath",
    }
}

record! {
    /// Of a tmpfs.
    pub struct TmpfsOptions {
        size: Bytes = "size",
        mode: i64 = "mode",
    }
}

record! {
    /// Of an image.
    pub struct ImageOptions {
        subpath: String = "subpath",
    }
}
