//! What a container may use: the flags of limits, and docker's rules for them.

use anyhow::{Context, bail};
use clap::Args;
use engine::container::options::cpus;
use engine::containers::record::{HostConfig, ThrottleDevice, Ulimit, WeightDevice};
use engine::units::{self, parse_memory};

use crate::error::InvalidArgument;

const MEMORY: &str = "-m, --memory";
const CPU_PERIOD: &str =
    "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";

/// What it may use.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct ResourceArgs {
    /// Memory limit, as 512m
    #[arg(short, long, value_name = "BYTES", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Memory and swap limit; -1 is unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Soft memory limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// How readily memory is swapped out, 0 to 100
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    memory_swappiness: Option<i64>,
    /// How many CPUs may be used, as 1.5
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    cpus: Option<String>,
    /// Relative CPU weight
    #[arg(short = 'c', long, value_name = "WEIGHT", allow_hyphen_values = true)]
    cpu_shares: Option<i64>,
    /// CPU time per period, in microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// The period of --cpu-quota, in microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_period: Option<i64>,
    /// CPUs that may be used, as 0-2
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    cpuset_mems: Option<String>,
    /// How many processes may run at once; -1 is unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Relative block I/O weight, 10 to 1000
    #[arg(long, value_name = "WEIGHT", allow_hyphen_values = true)]
    blkio_weight: Option<u16>,
    /// The period of --cpu-rt-runtime, in microseconds; without that it means nothing
    #[arg(long, value_name = "US", hide = true, allow_hyphen_values = true)]
    cpu_rt_period: Option<u64>,
    /// CPU time for real-time processes per period, in microseconds: 0
    #[arg(long, value_name = "US", hide = true, allow_hyphen_values = true)]
    cpu_rt_runtime: Option<u64>,
    /// Kept for docker's sake, which takes it and does nothing either
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true)]
    kernel_memory: Option<String>,
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
        let memory = bytes(MEMORY, self.memory.as_deref())?.unwrap_or(0);
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
        set(&mut host.memory, bytes(MEMORY, self.memory.as_deref())?);
        let reservation = self.memory_reservation.as_deref();
        set(&mut host.memory_reservation, bytes("--memory-reservation", reservation)?);
        match self.memory_swap.as_deref() {
            Some("-1") => host.memory_swap = -1,
            text => {
                set(&mut host.memory_swap, bytes("--memory-swap", text)?.map(u64::cast_signed));
            }
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
        let no_weight = "invalid CPU shares: they are a weight, a number from 2 to 262144";
        set(&mut host.cpu_shares, unsigned(self.cpu_shares, no_weight)?);
        set(&mut host.cpu_quota, self.cpu_quota);
        set(&mut host.cpu_period, unsigned(self.cpu_period, CPU_PERIOD)?);
        set(&mut host.cpuset_cpus, self.cpuset_cpus.clone());
        set(&mut host.cpuset_mems, self.cpuset_mems.clone());
        set(&mut host.blkio_weight, self.blkio_weight);
        bytes("--kernel-memory", self.kernel_memory.as_deref())?;
        let (runtime, period) = (self.cpu_rt_runtime.unwrap_or(0), self.cpu_rt_period);
        if runtime > 0 && period.is_some_and(|period| period > 0 && runtime > period) {
            bail!("cpu real-time runtime cannot be higher than cpu real-time period");
        }
        if runtime > 0 {
            bail!(
                "CPU time cannot be reserved for real-time processes of a container: leave out \
                 --cpu-rt-runtime"
            );
        }
        if self.pids_limit.is_some() {
            host.pids_limit = self.pids_limit;
        }
        check_memory(host)
    }
}

/// What it may use, and cannot be changed while it runs.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct FixedResourceArgs {
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
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
    /// Kept for docker's sake: its root file system is as large as the disk
    #[arg(long, value_name = "NAME=VALUE", hide = true)]
    storage_opt: Vec<String>,
}

impl FixedResourceArgs {
    pub(super) fn apply(&self, host: &mut HostConfig) -> anyhow::Result<()> {
        if host.shm_size == 0 {
            host.shm_size = 64 << 20;
        }
        set(&mut host.shm_size, bytes("--shm-size", self.shm_size.as_deref())?);
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
        // No option is known, so the first one is one too many.
        match self.storage_opt.first().map(|option| (option, option.split_once('='))) {
            None => {}
            Some((_, Some((name, _)))) if name.eq_ignore_ascii_case("size") => bail!(
                "--storage-opt size is not supported: a container may write as much as the disk \
                 of the store holds"
            ),
            Some((_, Some((name, _)))) => bail!("Unknown option {name}"),
            Some((option, None)) => bail!("invalid storage option: {option}: write NAME=VALUE"),
        }
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
        bail!(CPU_PERIOD);
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        bail!("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    Ok(())
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

/// A size that a flag was given.
fn bytes(flag: &'static str, text: Option<&str>) -> anyhow::Result<Option<u64>> {
    let invalid = |text: &str| InvalidArgument { flag, value: text.to_owned() };
    text.map(|text| parse_memory(text).with_context(|| invalid(text))).transpose()
}

/// A number that must not be negative.
fn unsigned(number: Option<i64>, negative: &'static str) -> anyhow::Result<Option<u64>> {
    number.map(|number| u64::try_from(number).ok().context(negative)).transpose()
}
