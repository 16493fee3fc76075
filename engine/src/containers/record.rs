//! What a container was asked to be, in the shapes of docker's API (`GET /containers/{id}/json`):
//! what is kept is what `inspect` shows.
//!
//! Knows nothing of whether the container runs.

use std::collections::BTreeMap;

use cache::digest::Digest;
use cache::oci::{Healthcheck, Set, StringMap};
use serde::{Deserialize, Serialize};

use crate::volume::Resolved;
use crate::volume::api::Mount;

/// A container, as it was made. Changed only by `rename`, `update` and the networks' verbs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without docker's slash in front.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The image's id, with its algorithm.
    pub image: String,
    /// The image's manifest, by which the store knows it.
    pub manifest: Option<Digest>,
    /// The layers of the image, the lowest first: they are kept while the container is.
    pub layers: Vec<Digest>,
    /// What its program is told.
    pub config: Config,
    /// What the machine gives it.
    pub host_config: HostConfig,
    /// What it has mounted, in the order of mounting.
    pub mounts: Vec<Resolved>,
    /// The networks it is connected to when it runs, by their names.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// What a container's program is told: its image's settings with those it was started with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// The host name.
    pub hostname: String,
    /// The NIS domain name.
    pub domainname: String,
    /// `user[:group]`.
    pub user: String,
    /// Whether whoever starts it gives it its input.
    pub attach_stdin: bool,
    /// Whether whoever starts it sees its output.
    pub attach_stdout: bool,
    /// Whether whoever starts it sees its error output.
    pub attach_stderr: bool,
    /// `port/protocol`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: Set,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input is kept open.
    pub open_stdin: bool,
    /// Whether its input ends with the first who was attached to it.
    pub stdin_once: bool,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The arguments of the entry point, or the program.
    pub cmd: Option<Vec<String>>,
    /// How to tell whether it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The image, as it was named.
    pub image: String,
    /// Directories that get a volume of their own.
    pub volumes: Option<Set>,
    /// Where the program starts.
    pub working_dir: String,
    /// The program and its first arguments.
    pub entrypoint: Option<Vec<String>>,
    /// Instructions for images built on this one.
    pub on_build: Option<Vec<String>>,
    /// Anything said about the container.
    pub labels: StringMap,
    /// What asks the program to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds after which it is killed then; -1 is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// What runs the shell forms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// What the machine gives a container. Sizes are bytes, times as their names say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `-v` as it was typed.
    #[serde(with = "nullable")]
    pub binds: Vec<String>,
    /// Where the id was written.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// How output is kept.
    pub log_config: LogConfig,
    /// `bridge`, `none`, `host`, `container:ID` or a network's name.
    pub network_mode: String,
    /// Published ports, by `port/protocol`.
    pub port_bindings: PortMap,
    /// What to do when the program ends.
    pub restart_policy: RestartPolicy,
    /// Whether the container is removed when it has ended.
    pub auto_remove: bool,
    /// The driver of volumes without one.
    pub volume_driver: String,
    /// Containers whose volumes this one has, `id[:ro]`.
    #[serde(with = "nullable")]
    pub volumes_from: Vec<String>,
    /// Rows and columns of the terminal at the start.
    pub console_size: [u16; 2],
    /// Capabilities beyond the default ones.
    #[serde(with = "nullable")]
    pub cap_add: Vec<String>,
    /// Default capabilities that it lacks.
    #[serde(with = "nullable")]
    pub cap_drop: Vec<String>,
    /// `private` or `host`.
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: Vec<String>,
    /// Options of the resolver.
    pub dns_options: Vec<String>,
    /// Domains in which names are looked for.
    pub dns_search: Vec<String>,
    /// `name:address` for `/etc/hosts`.
    #[serde(with = "nullable")]
    pub extra_hosts: Vec<String>,
    /// Groups beyond the user's own.
    #[serde(with = "nullable")]
    pub group_add: Vec<String>,
    /// `private`, `shareable`, `host`, `none` or `container:ID`.
    pub ipc_mode: String,
    /// Unused; docker prints it.
    pub cgroup: String,
    /// Containers known by a name.
    #[serde(with = "nullable")]
    pub links: Vec<String>,
    /// Added to how readily the kernel kills it for want of memory.
    pub oom_score_adj: i64,
    /// Empty, `host` or `container:ID`.
    pub pid_mode: String,
    /// Whether it has all the host's powers.
    pub privileged: bool,
    /// Whether all exposed ports are published.
    pub publish_all_ports: bool,
    /// Whether `/` cannot be written to.
    pub readonly_rootfs: bool,
    /// `no-new-privileges`, `seccomp=...`, ...
    #[serde(with = "nullable")]
    pub security_opt: Vec<String>,
    /// File systems in memory by where they are mounted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: StringMap,
    /// Empty or `host`.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// Empty or `host`.
    pub userns_mode: String,
    /// Of /dev/shm.
    pub shm_size: u64,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: StringMap,
    /// `runc` or `io.containerd.runc.v2`, which tools look for.
    pub runtime: String,
    /// Unused; docker prints it.
    pub isolation: String,
    /// Relative CPU weight; 0 is the default.
    pub cpu_shares: u64,
    /// Memory limit; 0 is none.
    pub memory: u64,
    /// CPUs in billionths; 0 is no limit.
    pub nano_cpus: u64,
    /// The cgroup to make its own below.
    pub cgroup_parent: String,
    /// Relative weight of block I/O; 0 is the default.
    pub blkio_weight: u16,
    /// The same for single devices.
    pub blkio_weight_device: Vec<WeightDevice>,
    /// Bytes per second read from devices.
    pub blkio_device_read_bps: Vec<ThrottleDevice>,
    /// Bytes per second written to devices.
    pub blkio_device_write_bps: Vec<ThrottleDevice>,
    /// Reads per second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Vec<ThrottleDevice>,
    /// Writes per second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Vec<ThrottleDevice>,
    /// Microseconds; 0 is the default.
    pub cpu_period: u64,
    /// Microseconds of each period; 0 is no limit.
    pub cpu_quota: i64,
    /// CPUs that may be used.
    pub cpuset_cpus: String,
    /// Memory nodes that may be used.
    pub cpuset_mems: String,
    /// The host's devices that it has.
    pub devices: Vec<DeviceMapping>,
    /// Rules for devices, as `c 1:3 rwm`.
    #[serde(with = "nullable")]
    pub device_cgroup_rules: Vec<String>,
    /// Devices by what they are.
    #[serde(with = "nullable")]
    pub device_requests: Vec<DeviceRequest>,
    /// Soft memory limit; 0 is none.
    pub memory_reservation: u64,
    /// Memory and swap together; 0 is the default, -1 unlimited.
    pub memory_swap: i64,
    /// 0 to 100, or the kernel's choice.
    pub memory_swappiness: Option<i64>,
    /// Whether the kernel does not kill it for want of memory.
    pub oom_kill_disable: Option<bool>,
    /// Processes at once; none, 0 or -1 is unlimited.
    pub pids_limit: Option<i64>,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Mounts that `--mount` asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Paths that it cannot see; none is the default list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_paths: Option<Vec<String>>,
    /// Paths that it cannot write to; none is the default list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly_paths: Option<Vec<String>>,
    /// Whether a small init is its first process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

/// How output is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// `json-file`, `local` or `none`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `max-size`, `max-file`, ...
    pub config: StringMap,
}

/// What to do when a program ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped` or `on-failure`.
    pub name: String,
    /// How often, on failure; 0 is without end.
    pub maximum_retry_count: u32,
}

/// Published ports by `port/protocol`.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// Where a port is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// The host's address; empty is all.
    pub host_ip: String,
    /// The host's port; empty is any.
    pub host_port: String,
}

/// A weight for a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    /// The device's path.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A rate for a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    /// The device's path.
    pub path: String,
    /// Per second.
    pub rate: u64,
}

/// A device of the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    /// Where the host has it.
    pub path_on_host: String,
    /// Where the container has it.
    pub path_in_container: String,
    /// Of `rwm`.
    pub cgroup_permissions: String,
}

/// Devices by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceRequest {
    /// `cdi`, or empty.
    pub driver: String,
    /// How many; -1 is all.
    pub count: i64,
    /// Which.
    #[serde(rename = "DeviceIDs", with = "nullable")]
    pub device_ids: Vec<String>,
    /// What they must be capable of.
    #[serde(with = "nullable")]
    pub capabilities: Vec<Vec<String>>,
    /// The driver's own.
    pub options: Option<StringMap>,
}

/// A limit of a container's processes; -1 is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// As `nofile`.
    pub name: String,
    /// What cannot be exceeded.
    pub hard: i64,
    /// What it begins with.
    pub soft: i64,
}

/// A container on a network: what was asked for, and while it runs what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Addresses that were asked for.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<StringMap>,
    /// Unused; docker prints it.
    pub links: Option<Vec<String>>,
    /// Names beside the container's own.
    pub aliases: Option<Vec<String>>,
    /// The device's hardware address.
    pub mac_address: String,
    /// The driver's own options.
    pub driver_opts: Option<StringMap>,
    /// Which network has the default route: the highest.
    pub gw_priority: i64,
    /// The network's id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// This connection's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The network's router.
    pub gateway: String,
    /// The container's address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Bits of the network's prefix.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// The network's IPv6 router.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// The container's IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Bits of the network's IPv6 prefix.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// What it is known by.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

impl Record {
    /// What is shown of the id: its first 12 digits.
    pub fn short_id(&self) -> &str {
        &self.id[..self.id.len().min(12)]
    }

    /// The program and its arguments: the entry point's, then the command's.
    pub fn argv(&self) -> Vec<String> {
        let parts = [&self.config.entrypoint, &self.config.cmd];
        parts.into_iter().flatten().flatten().cloned().collect()
    }
}

/// Lists as Go prints them: one that nothing was put in is `null`.
mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer, T: Serialize>(
        items: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if items.is_empty() { serializer.serialize_none() } else { items.serialize(serializer) }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_meant() {
        let mut record = Record { name: "x".into(), ..Record::default() };
        let text = serde_json::to_string(&record).expect("print");
        assert!(text.contains("\"CapAdd\":null"), "{text}");
        assert_eq!(serde_json::from_str::<Record>(&text).expect("parse"), record);
        record.host_config.cap_add = vec!["ALL".into()];
        let text = serde_json::to_string(&record).expect("print");
        assert_eq!(serde_json::from_str::<Record>(&text).expect("parse"), record);
    }
}
