//! What limits need of a cgroup: which controllers, which files, which values.
//!
//! The choice is made by pure functions; [`set`] writes what they chose.

use std::io;
use std::path::Path;

use super::CgroupError;
use super::hierarchy::Version;
use crate::container::spec::Resources;

/// The controllers that limits need, and what each limits.
pub(super) fn needed(resources: &Resources) -> Vec<(&'static str, &'static str)> {
    let asked = [
        ("memory", "memory", resources.memory.is_some() || resources.memory_swap.is_some()),
        (
            "cpu",
            "CPU time",
            resources.cpu_quota.is_some()
                || resources.cpu_period.is_some()
                || resources.cpu_shares.is_some(),
        ),
        (
            "cpuset",
            "CPUs and memory nodes",
            resources.cpuset_cpus.is_some() || resources.cpuset_mems.is_some(),
        ),
        ("pids", "the number of processes", resources.pids.is_some_and(|pids| pids > 0)),
    ];
    asked.iter().filter(|asked| asked.2).map(|asked| (asked.0, asked.1)).collect()
}

/// The values to write for one controller's limits, in order.
fn values(controller: &str, version: Version, limits: &Resources) -> Vec<(&'static str, String)> {
    let mut values = Vec::new();
    let mut set = |file: &'static str, value: Option<String>| {
        values.extend(value.map(|value| (file, value)));
    };
    let text = |value: Option<u64>| value.map(|value| value.to_string());
    let period = limits.cpu_period;
    match (controller, version) {
        ("memory", Version::One) => {
            set("memory.limit_in_bytes", text(limits.memory));
            set("memory.memsw.limit_in_bytes", limits.memory_swap.map(|swap| swap.to_string()));
        }
        ("memory", Version::Two) => {
            set("memory.max", text(limits.memory));
            set(
                "memory.swap.max",
                limits.memory_swap.map(|swap| match u64::try_from(swap) {
                    Ok(total) => total.saturating_sub(limits.memory.unwrap_or(0)).to_string(),
                    Err(_) => "max".to_owned(),
                }),
            );
        }
        ("cpu", Version::One) => {
            set("cpu.shares", text(limits.cpu_shares));
            set("cpu.cfs_period_us", text(period));
            set("cpu.cfs_quota_us", limits.cpu_quota.map(|quota| quota.to_string()));
        }
        ("cpu", Version::Two) => {
            set("cpu.weight", limits.cpu_shares.map(|shares| weight(shares).to_string()));
            if limits.cpu_quota.is_some() || period.is_some() {
                let quota = limits.cpu_quota.filter(|quota| *quota > 0);
                let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
                set("cpu.max", Some(format!("{quota} {}", period.unwrap_or(100_000))));
            }
        }
        ("cpuset", _) => {
            set("cpuset.cpus", limits.cpuset_cpus.clone());
            set("cpuset.mems", limits.cpuset_mems.clone());
        }
        ("pids", _) => set("pids.max", limits.pids.map(|pids| pids.to_string())),
        _ => {}
    }
    values
}

/// Version 1's shares (2 to 262144) on version 2's scale (1 to 10000).
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Writes one controller's limits into a container's cgroup.
pub(super) fn set(
    controller: &str,
    version: Version,
    directory: &Path,
    limits: &Resources,
) -> Result<(), CgroupError> {
    for (file, value) in values(controller, version, limits) {
        match fs_err::write(directory.join(file), &value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let is_swap = file.contains("swap") || file.contains("memsw");
                return Err(CgroupError::Unsupported {
                    limit: if is_swap { "swap" } else { "this resource" },
                    reason: format!("the kernel has no {file}"),
                });
            }
            result => result?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(controller: &str, version: Version, limits: &Resources, expected: &[(&str, &str)]) {
        let values = values(controller, version, limits);
        let values: Vec<_> = values.iter().map(|(file, value)| (*file, value.as_str())).collect();
        assert_eq!(values, expected);
    }

    #[test]
    fn limits_become_values_of_either_version() {
        let limits = Resources {
            memory: Some(1000),
            memory_swap: Some(1500),
            cpu_quota: Some(50_000),
            cpu_shares: Some(1024),
            ..Resources::default()
        };
        assert_eq!(needed(&limits), [("memory", "memory"), ("cpu", "CPU time")]);
        let memory = [("memory.limit_in_bytes", "1000"), ("memory.memsw.limit_in_bytes", "1500")];
        check("memory", Version::One, &limits, &memory);
        check(
            "memory",
            Version::Two,
            &limits,
            &[("memory.max", "1000"), ("memory.swap.max", "500")],
        );
        check(
            "cpu",
            Version::One,
            &limits,
            &[("cpu.shares", "1024"), ("cpu.cfs_quota_us", "50000")],
        );
        check("cpu", Version::Two, &limits, &[("cpu.weight", "39"), ("cpu.max", "50000 100000")]);
        let limits = Resources { memory_swap: Some(-1), pids: Some(-1), ..Resources::default() };
        assert_eq!(needed(&limits), [("memory", "memory")]);
        check("memory", Version::Two, &limits, &[("memory.swap.max", "max")]);
        assert_eq!((weight(0), weight(2), weight(262_144)), (1, 1, 10_000));
    }
}
