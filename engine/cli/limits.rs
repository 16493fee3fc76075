//! Limits as they are typed, turned into what a container is given.

use anyhow::{Context, bail};
use engine::container::spec::{Resources, Rlimit};
use engine::units::{SizeError, Ulimit, UlimitError, parse_memory};

use clap::Args;

/// Limits and kernel settings of containers, the same for build steps and for `run`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LimitArgs {
    /// Memory limit, as 512m
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Memory and swap limit; -1 is unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// How many CPUs may be used, as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<f64>,
    /// CPU time per period, in microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// The period of --cpu-quota, in microseconds
    #[arg(long, value_name = "US")]
    pub(crate) cpu_period: Option<u64>,
    /// Relative CPU weight
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    pub(crate) cpu_shares: Option<u64>,
    /// CPUs that may be used, as 0-2
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// How many processes may run at once; -1 is unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = checked_size)]
    pub(crate) shm_size: Option<String>,
    /// Resource limit, as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = checked_ulimit)]
    pub(crate) ulimit: Vec<String>,
    /// Extra line for /etc/hosts, as name:address or name:host-gateway
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    /// Where the containers' cgroups are made
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
}

impl LimitArgs {
    /// Takes limits from a list, as BuildKit's `--resource` has them: `memory=2g`.
    pub(crate) fn add_resources(&mut self, given: &[String]) -> anyhow::Result<()> {
        for text in given {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            let number = || value.parse().with_context(|| format!("--resource {text}"));
            let text = || Some(value.to_owned());
            match name {
                "memory" => self.memory = text(),
                "memory-swap" => self.memory_swap = text(),
                "cpu-shares" => self.cpu_shares = Some(number()? as u64),
                "cpu-period" => self.cpu_period = Some(number()? as u64),
                "cpu-quota" => self.cpu_quota = Some(number()?),
                "cpuset-cpus" => self.cpuset_cpus = text(),
                "cpuset-mems" => self.cpuset_mems = text(),
                "pids-limit" => self.pids_limit = Some(number()?),
                _ => bail!("--resource {name}: unknown; use memory, cpu-quota, cpu-period, ..."),
            }
        }
        Ok(())
    }

    /// The limits of the container's cgroup.
    pub(crate) fn resources(&self) -> anyhow::Result<Resources> {
        let memory = self.memory.as_deref().map(bytes).transpose()?;
        let swap = match self.memory_swap.as_deref() {
            None => None,
            Some("-1") => Some(-1),
            Some(text) => Some(bytes(text)? as i64),
        };
        let (quota, period) = match (self.cpus, self.cpu_quota) {
            (Some(_), Some(_)) => bail!("--cpus and --cpu-quota cannot be given together"),
            (Some(cpus), None) if cpus > 0.0 => (Some((cpus * 100_000.0) as i64), Some(100_000)),
            (Some(cpus), None) => bail!("--cpus {cpus}: expected a number above 0"),
            (None, quota) => (quota, self.cpu_period),
        };
        Ok(Resources {
            memory,
            memory_swap: swap,
            cpu_quota: quota,
            cpu_period: period,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit,
            ..Resources::default()
        })
    }

    /// Bytes of /dev/shm.
    pub(crate) fn shm_bytes(&self) -> anyhow::Result<Option<u64>> {
        self.shm_size.as_deref().map(bytes).transpose()
    }

    /// The resource limits of the process.
    pub(crate) fn rlimits(&self) -> anyhow::Result<Vec<Rlimit>> {
        let limit = |text: &String| -> anyhow::Result<Rlimit> {
            let limit: Ulimit = text.parse().with_context(|| format!("--ulimit {text}"))?;
            let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
            Ok(Rlimit { soft: value(limit.soft), hard: value(limit.hard), name: limit.name })
        };
        self.ulimit.iter().map(limit).collect()
    }

    /// Names and addresses for /etc/hosts.
    pub(crate) fn hosts(&self) -> anyhow::Result<Vec<(String, String)>> {
        let host = |text: &String| match text.split_once(['=', ':']) {
            Some((name, address)) if !name.is_empty() && is_address(address) => {
                let address = address.trim_start_matches('[').trim_end_matches(']');
                Ok((name.to_owned(), address.to_owned()))
            }
            _ => bail!("--add-host {text}: expected name:address or name:host-gateway"),
        };
        self.add_host.iter().map(host).collect()
    }
}

/// A size, as it was typed.
fn checked_size(text: &str) -> Result<String, SizeError> {
    parse_memory(text).map(|_| text.to_owned())
}

/// A resource limit, as it was typed.
fn checked_ulimit(text: &str) -> Result<String, UlimitError> {
    text.parse::<Ulimit>().map(|_| text.to_owned())
}

fn bytes(text: &str) -> anyhow::Result<u64> {
    parse_memory(text).with_context(|| format!("{text:?} is not a size"))
}

fn is_address(text: &str) -> bool {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text == "host-gateway" || bare.parse::<std::net::IpAddr>().is_ok()
}
