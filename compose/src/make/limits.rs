//! What a container may use: memory, CPUs, processes, block I/O, devices.
//!
//! `deploy.resources` wins over the service's own attributes, as in docker compose.

use engine::containers::record::{
    DeviceMapping, DeviceRequest, HostConfig, ThrottleDevice, Ulimit, WeightDevice,
};

use super::Error;
use super::error::Of;
use crate::model::{self, Blkio, BlkioRate, Service};

/// Of `/dev/shm`, where nothing is said.
const SHM_SIZE: u64 = 64 << 20;
/// The least that docker takes for a memory limit.
const LEAST_MEMORY: u64 = 6 << 20;

/// Fills in what the service may use.
pub(super) fn apply(of: Of<'_>, service: &Service, host: &mut HostConfig) -> Result<(), Error> {
    let whole = |number: i64| u64::try_from(number).unwrap_or(0);
    // Less than nothing is refused below as too little.
    let size = |bytes: i64| u64::try_from(bytes).unwrap_or(1);
    host.memory = size(service.mem_limit.0);
    host.memory_swap = service.memswap_limit.0;
    host.memory_reservation = size(service.mem_reservation.0);
    host.memory_swappiness = Some(service.mem_swappiness.0).filter(|value| *value != 0);
    host.oom_kill_disable = service.oom_kill_disable.then_some(true);
    host.oom_score_adj = service.oom_score_adj;
    host.cpu_period = whole(service.cpu_period);
    host.cpu_quota = service.cpu_quota;
    host.cpu_shares = whole(service.cpu_shares);
    host.nano_cpus = nano_cpus(of, service.cpus.0)?;
    host.cpuset_cpus.clone_from(&service.cpuset);
    host.pids_limit = Some(service.pids_limit).filter(|limit| *limit > 0);
    host.shm_size = match whole(service.shm_size.0) {
        0 => SHM_SIZE,
        size => size,
    };
    host.cgroup_parent.clone_from(&service.cgroup_parent);
    let limit = |(name, limit): (&String, &model::Ulimit)| Ulimit {
        name: name.clone(),
        hard: limit.hard,
        soft: limit.soft,
    };
    host.ulimits = service.ulimits.iter().map(limit).collect();
    if let Some(blkio) = &service.blkio_config {
        block_io(blkio, host);
    }
    deployed(of, service, host)?;
    devices(service, host);
    check(of, host)
}

/// What `deploy.resources` says over the service's own attributes.
fn deployed(of: Of<'_>, service: &Service, host: &mut HostConfig) -> Result<(), Error> {
    let Some(deploy) = &service.deploy else { return Ok(()) };
    if let Some(limits) = &deploy.resources.limits {
        if let Ok(memory @ 1..) = u64::try_from(limits.memory.0) {
            host.memory = memory;
        }
        if limits.cpus.0 != 0.0 {
            host.nano_cpus = nano_cpus(of, limits.cpus.0)?;
        }
        if limits.pids > 0 {
            host.pids_limit = Some(limits.pids);
        }
    }
    if let Some(reserved) = &deploy.resources.reservations {
        if let Ok(memory @ 1..) = u64::try_from(reserved.memory.0) {
            host.memory_reservation = memory;
        }
        host.device_requests.extend(reserved.devices.iter().map(device_request));
    }
    Ok(())
}

/// CPUs in billionths, with the precision of docker compose: 32 bits.
fn nano_cpus(of: Of<'_>, cpus: f64) -> Result<u64, Error> {
    if cpus != 0.0 {
        engine::container::options::cpus(&cpus.to_string())
            .map_err(|error| of.invalid("cpus", error))?;
    }
    Ok((cpus as f32 * 1e9) as u64)
}

fn block_io(blkio: &Blkio, host: &mut HostConfig) {
    let rates = |rates: &[BlkioRate]| {
        let rate = |rate: &BlkioRate| ThrottleDevice {
            path: rate.path.clone(),
            rate: u64::try_from(rate.rate.0).unwrap_or(0),
        };
        rates.iter().map(rate).collect()
    };
    let weight = |device: &model::BlkioWeight| WeightDevice {
        path: device.path.clone(),
        weight: device.weight,
    };
    host.blkio_weight = blkio.weight;
    host.blkio_weight_device = blkio.weight_device.iter().map(weight).collect();
    host.blkio_device_read_bps = rates(&blkio.device_read_bps);
    host.blkio_device_read_iops = rates(&blkio.device_read_iops);
    host.blkio_device_write_bps = rates(&blkio.device_write_bps);
    host.blkio_device_write_iops = rates(&blkio.device_write_iops);
}

fn devices(service: &Service, host: &mut HostConfig) {
    let mut qualified = Vec::new();
    for device in &service.devices {
        if device.source == device.target && is_qualified(&device.source) {
            qualified.push(device.source.clone());
            continue;
        }
        host.devices.push(DeviceMapping {
            path_on_host: device.source.clone(),
            path_in_container: device.target.clone(),
            cgroup_permissions: device.permissions.clone(),
        });
    }
    if !qualified.is_empty() {
        host.device_requests.push(DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: qualified,
            ..DeviceRequest::default()
        });
    }
    for gpus in &service.gpus {
        let mut request = device_request(gpus);
        request.capabilities[0].push("gpu".to_owned());
        host.device_requests.push(request);
    }
    host.device_cgroup_rules.clone_from(&service.device_cgroup_rules);
}

/// Whether a device is one by its qualified name, `vendor/class=name`.
fn is_qualified(text: &str) -> bool {
    !text.starts_with('/') && text.contains('/') && text.contains('=')
}

fn device_request(asked: &model::DeviceRequest) -> DeviceRequest {
    DeviceRequest {
        driver: asked.driver.clone(),
        count: asked.count.0,
        device_ids: asked.device_ids.clone(),
        capabilities: vec![asked.capabilities.clone()],
        options: Some(asked.options.0.clone()).filter(|options| !options.is_empty()),
    }
}

/// What docker's daemon refuses, in its words.
fn check(of: Of<'_>, host: &HostConfig) -> Result<(), Error> {
    let refuse = |attribute, why: &str| Err(of.invalid(attribute, why));
    if host.memory > 0 && host.memory < LEAST_MEMORY {
        return refuse("mem_limit", "Minimum memory limit allowed is 6MB");
    }
    if host.memory_swap > 0 && host.memory == 0 {
        return refuse(
            "memswap_limit",
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if host.memory_swap > 0 && host.memory_swap.cast_unsigned() < host.memory {
        return refuse(
            "memswap_limit",
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        );
    }
    if host.memory_swappiness.is_some_and(|value| !(-1..=100).contains(&value)) {
        return refuse("mem_swappiness", "valid memory swappiness range is 0-100");
    }
    if (1..LEAST_MEMORY).contains(&host.memory_reservation) {
        return refuse("mem_reservation", "Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory < host.memory_reservation {
        return refuse(
            "mem_reservation",
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    for (is_set, other) in [(host.cpu_period > 0, "Period"), (host.cpu_quota > 0, "Quota")] {
        if host.nano_cpus > 0 && is_set {
            let why = format!("Conflicting options: Nano CPUs and CPU {other} cannot both be set");
            return refuse("cpus", &why);
        }
    }
    if host.cpu_period > 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return refuse(
            "cpu_period",
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if (1..1000).contains(&host.cpu_quota) {
        return refuse("cpu_quota", "CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.blkio_weight > 0 && !(10..=1000).contains(&host.blkio_weight) {
        return refuse("blkio_config", "Range of blkio weight is from 10 to 1000");
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        let why = format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        );
        return refuse("oom_score_adj", &why);
    }
    Ok(())
}
