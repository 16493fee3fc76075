//! What limits need of a cgroup: which controllers, which files, which values.
//!
//! The choice is made by pure functions; [`set`] writes what they chose.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::CgroupError;
use super::hierarchy::Version;
use crate::container::spec::{DeviceLimit, Resources};

/// The controllers that limits need, and what each limits.
pub(super) fn needed(resources: &Resources) -> Vec<(&'static str, &'static str)> {
    let r = resources;
    let devices = [&r.blkio_weight_devices, &r.read_bps, &r.write_bps, &r.read_iops, &r.write_iops];
    let asked = [
        (
            "memory",
            "memory",
            r.memory.is_some()
                || r.memory_swap.is_some()
                || r.memory_reservation.is_some()
                || r.memory_swappiness.is_some()
                || r.oom_kill_disable,
        ),
        (
            "cpu",
            "CPU time",
            r.cpu_quota.is_some() || r.cpu_period.is_some() || r.cpu_shares.is_some(),
        ),
        ("cpuset", "CPUs and memory nodes", r.cpuset_cpus.is_some() || r.cpuset_mems.is_some()),
        ("pids", "the number of processes", r.pids.is_some_and(|pids| pids > 0)),
        (
            "blkio",
            "block I/O",
            r.blkio_weight.is_some() || devices.iter().any(|list| !list.is_empty()),
        ),
    ];
    asked.iter().filter(|asked| asked.2).map(|asked| (asked.0, asked.1)).collect()
}

/// A device's numbers.
type Numbers<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// The values to write for one controller's limits, in order.
fn values(
    controller: &str,
    version: Version,
    limits: &Resources,
    numbers: Numbers<'_>,
) -> io::Result<Vec<(&'static str, String)>> {
    Ok(match (controller, version) {
        ("memory", Version::One) => memory_one(limits),
        ("memory", Version::Two) => memory_two(limits),
        ("cpu", _) => cpu(version, limits),
        ("cpuset", _) => listed([
            ("cpuset.cpus", limits.cpuset_cpus.clone()),
            ("cpuset.mems", limits.cpuset_mems.clone()),
        ]),
        ("pids", _) => listed([(
            "pids.max",
            limits.pids.map(|pids| if pids > 0 { pids.to_string() } else { "max".to_owned() }),
        )]),
        ("blkio", Version::One) => blkio_one(limits, numbers)?,
        ("blkio", Version::Two) => blkio_two(limits, numbers)?,
        _ => Vec::new(),
    })
}

fn listed<const N: usize>(
    values: [(&'static str, Option<String>); N],
) -> Vec<(&'static str, String)> {
    values.into_iter().filter_map(|(file, value)| Some((file, value?))).collect()
}

fn text(value: Option<u64>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn memory_one(limits: &Resources) -> Vec<(&'static str, String)> {
    listed([
        ("memory.limit_in_bytes", text(limits.memory)),
        ("memory.memsw.limit_in_bytes", limits.memory_swap.map(|swap| swap.to_string())),
        ("memory.soft_limit_in_bytes", text(limits.memory_reservation)),
        ("memory.swappiness", text(limits.memory_swappiness)),
        ("memory.oom_control", limits.oom_kill_disable.then(|| "1".to_owned())),
    ])
}

fn memory_two(limits: &Resources) -> Vec<(&'static str, String)> {
    let swap = limits.memory_swap.map(|swap| match u64::try_from(swap) {
        Ok(total) => total.saturating_sub(limits.memory.unwrap_or(0)).to_string(),
        Err(_) => "max".to_owned(),
    });
    listed([
        ("memory.max", text(limits.memory)),
        ("memory.swap.max", swap),
        ("memory.low", text(limits.memory_reservation)),
        ("memory.swappiness", text(limits.memory_swappiness)),
        ("memory.oom_control", limits.oom_kill_disable.then(|| "1".to_owned())),
    ])
}

fn cpu(version: Version, limits: &Resources) -> Vec<(&'static str, String)> {
    let (quota, period) = (limits.cpu_quota, limits.cpu_period);
    match version {
        Version::One => listed([
            ("cpu.shares", text(limits.cpu_shares)),
            ("cpu.cfs_period_us", text(period)),
            ("cpu.cfs_quota_us", quota.map(|quota| quota.to_string())),
        ]),
        Version::Two => {
            let quota_text =
                quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |it| it.to_string());
            let has_max = quota.is_some() || period.is_some();
            let max = has_max.then(|| format!("{quota_text} {}", period.unwrap_or(100_000)));
            let weight = limits.cpu_shares.map(|shares| weight(shares).to_string());
            listed([("cpu.weight", weight), ("cpu.max", max)])
        }
    }
}

fn blkio_one(limits: &Resources, numbers: Numbers<'_>) -> io::Result<Vec<(&'static str, String)>> {
    let mut values = listed([("blkio.weight", text(limits.blkio_weight.map(u64::from)))]);
    for (file, list) in [
        ("blkio.weight_device", &limits.blkio_weight_devices),
        ("blkio.throttle.read_bps_device", &limits.read_bps),
        ("blkio.throttle.write_bps_device", &limits.write_bps),
        ("blkio.throttle.read_iops_device", &limits.read_iops),
        ("blkio.throttle.write_iops_device", &limits.write_iops),
    ] {
        for DeviceLimit { device, value } in list {
            values.push((file, format!("{} {value}", numbers(device)?)));
        }
    }
    Ok(values)
}

fn blkio_two(limits: &Resources, numbers: Numbers<'_>) -> io::Result<Vec<(&'static str, String)>> {
    let weight = |value: u64| 1 + value.clamp(10, 1000).saturating_sub(10) * 9999 / 990;
    let all = limits.blkio_weight.map(|value| format!("default {}", weight(value.into())));
    let mut values = listed([("io.weight", all)]);
    for DeviceLimit { device, value } in &limits.blkio_weight_devices {
        values.push(("io.weight", format!("{} {}", numbers(device)?, weight(*value))));
    }
    for (key, list) in [
        ("rbps", &limits.read_bps),
        ("wbps", &limits.write_bps),
        ("riops", &limits.read_iops),
        ("wiops", &limits.write_iops),
    ] {
        for DeviceLimit { device, value } in list {
            values.push(("io.max", format!("{} {key}={value}", numbers(device)?)));
        }
    }
    Ok(values)
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
    let mut values = values(controller, version, limits, &device_numbers)?;
    if (controller, version) == ("memory", Version::One) {
        order_memory(directory, limits, &mut values);
    }
    for (file, value) in values {
        // To write to what is not there would be refused as an attempt to make it.
        if !directory.join(file).exists() {
            let reason = format!("the kernel has no {file}");
            return Err(CgroupError::Unsupported { limit: limited_by(file), reason });
        }
        if let Err(source) = fs_err::write(directory.join(file), &value) {
            let busy = source.kind() == std::io::ErrorKind::ResourceBusy;
            let hint = if busy { ", the container uses more than that" } else { "" };
            return Err(CgroupError::Refused { limit: limited_by(file), value, hint, source });
        }
    }
    if controller == "memory" && limits.memory_swap.is_none() {
        limit_swap(version, directory, limits.memory);
    }
    Ok(())
}

/// Version 1 refuses a memory limit above that of memory and swap together: when both are raised
/// the latter comes first.
fn order_memory(directory: &Path, limits: &Resources, values: &mut [(&'static str, String)]) {
    let current = fs_err::read_to_string(directory.join("memory.memsw.limit_in_bytes"))
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let raised = match (limits.memory_swap, current) {
        (Some(swap), Some(current)) => u64::try_from(swap).map_or(true, |swap| current < swap),
        _ => false,
    };
    if raised && limits.memory.is_some() {
        values.swap(0, 1);
    }
}

/// Docker's default: as much swap as memory, where swap can be limited.
fn limit_swap(version: Version, directory: &Path, memory: Option<u64>) {
    let Some(memory) = memory else { return };
    let (file, value) = match version {
        Version::One => ("memory.memsw.limit_in_bytes", memory.saturating_mul(2)),
        Version::Two => ("memory.swap.max", memory),
    };
    if directory.join(file).exists() {
        // Nobody asked for it.
        let _ = std::fs::write(directory.join(file), value.to_string());
    }
}

fn device_numbers(device: &Path) -> io::Result<String> {
    let metadata = fs_err::metadata(device)?;
    let number = metadata.rdev();
    if rustix::fs::FileType::from_raw_mode(metadata.mode()) != rustix::fs::FileType::BlockDevice {
        let text = format!("{} is not a block device", device.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number)))
}

/// What a file limits, in the words of the options.
fn limited_by(file: &str) -> &'static str {
    match file {
        "memory.limit_in_bytes" | "memory.max" => "memory",
        "memory.memsw.limit_in_bytes" | "memory.swap.max" => "swap",
        "memory.soft_limit_in_bytes" | "memory.low" => "memory reservation",
        "memory.swappiness" => "swappiness",
        "memory.oom_control" => "the OOM killer",
        "cpuset.cpus" => "CPUs",
        "cpuset.mems" => "memory nodes",
        "pids.max" => "the number of processes",
        "cpu.shares" | "cpu.weight" => "the CPU weight",
        _ if file.starts_with("cpu.") => "CPU time",
        _ if file.contains("weight") => "the weight of block I/O",
        _ => "block I/O",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(controller: &str, version: Version, limits: &Resources, expected: &[(&str, &str)]) {
        let numbers = |_: &Path| Ok("8:0".to_owned());
        let values = values(controller, version, limits, &numbers).unwrap();
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
        let device = |value| vec![DeviceLimit { device: "/dev/sda".into(), value }];
        let limits = Resources {
            blkio_weight: Some(1000),
            blkio_weight_devices: device(10),
            read_bps: device(7),
            write_iops: device(9),
            ..Resources::default()
        };
        assert_eq!(needed(&limits), [("blkio", "block I/O")]);
        let one = [
            ("blkio.weight", "1000"),
            ("blkio.weight_device", "8:0 10"),
            ("blkio.throttle.read_bps_device", "8:0 7"),
            ("blkio.throttle.write_iops_device", "8:0 9"),
        ];
        check("blkio", Version::One, &limits, &one);
        let two = [
            ("io.weight", "default 10000"),
            ("io.weight", "8:0 1"),
            ("io.max", "8:0 rbps=7"),
            ("io.max", "8:0 wiops=9"),
        ];
        check("blkio", Version::Two, &limits, &two);
        assert_eq!((weight(0), weight(2), weight(262_144)), (1, 1, 10_000));
    }
}
