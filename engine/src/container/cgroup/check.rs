//! Limits that no machine could enforce, or not this one: docker's rules in docker's words.

use super::CgroupError;
use crate::container::spec::{DeviceLimit, Resources};

/// The least memory docker gives a container.
const LEAST_MEMORY: u64 = 6 << 20;

/// Refuses limits that are out of range or contradict each other.
pub(super) fn check(resources: &Resources) -> Result<(), CgroupError> {
    let online = |file: &str| std::fs::read_to_string(format!("/sys/devices/system/{file}"));
    let processors = online("cpu/online").unwrap_or_default();
    let nodes = online("node/online").unwrap_or_else(|_| "0".to_owned());
    fault(resources, processors.trim(), nodes.trim())
        .map_or(Ok(()), |fault| Err(CgroupError::Invalid(fault)))
}

impl Resources {
    /// These limits with those of a change in the place of theirs, as `update` has them.
    pub fn changed_by(&self, change: &Resources) -> Result<Resources, CgroupError> {
        let old_swap = self.memory_swap.and_then(|swap| u64::try_from(swap).ok());
        match (change.memory, old_swap, change.memory_swap) {
            (Some(memory), Some(swap), None) if memory > swap => {
                return Err(CgroupError::Invalid(
                    "Memory limit should be smaller than already set memoryswap limit, update the \
                     memoryswap at the same time"
                        .to_owned(),
                ));
            }
            _ => {}
        }
        let list = |new: &Vec<DeviceLimit>, old: &Vec<DeviceLimit>| match new.is_empty() {
            true => old.clone(),
            false => new.clone(),
        };
        Ok(Resources {
            memory: change.memory.or(self.memory),
            memory_reservation: change.memory_reservation.or(self.memory_reservation),
            memory_swappiness: change.memory_swappiness.or(self.memory_swappiness),
            oom_kill_disable: change.oom_kill_disable || self.oom_kill_disable,
            memory_swap: change.memory_swap.or(self.memory_swap),
            cpu_quota: change.cpu_quota.or(self.cpu_quota),
            cpu_period: change.cpu_period.or(self.cpu_period),
            cpu_shares: change.cpu_shares.or(self.cpu_shares),
            cpuset_cpus: change.cpuset_cpus.clone().or_else(|| self.cpuset_cpus.clone()),
            cpuset_mems: change.cpuset_mems.clone().or_else(|| self.cpuset_mems.clone()),
            pids: change.pids.or(self.pids),
            blkio_weight: change.blkio_weight.or(self.blkio_weight),
            blkio_weight_devices: list(&change.blkio_weight_devices, &self.blkio_weight_devices),
            read_bps: list(&change.read_bps, &self.read_bps),
            write_bps: list(&change.write_bps, &self.write_bps),
            read_iops: list(&change.read_iops, &self.read_iops),
            write_iops: list(&change.write_iops, &self.write_iops),
        })
    }
}

/// The first thing that is wrong, if any is. `processors` and `nodes` are lists as `0-3,5`.
fn fault(resources: &Resources, processors: &str, nodes: &str) -> Option<String> {
    memory_fault(resources)
        .map(str::to_owned)
        .or_else(|| cpu_fault(resources))
        .or_else(|| set_fault("cpuset cpus", "CPUs", &resources.cpuset_cpus, processors))
        .or_else(|| set_fault("cpuset mems", "memory nodes", &resources.cpuset_mems, nodes))
        .or_else(|| block_fault(resources).map(str::to_owned))
}

fn memory_fault(resources: &Resources) -> Option<&'static str> {
    let (memory, reservation) = (resources.memory, resources.memory_reservation);
    let swap = resources.memory_swap.and_then(|swap| u64::try_from(swap).ok());
    if memory.is_some_and(|memory| memory < LEAST_MEMORY) {
        return Some("Minimum memory limit allowed is 6MB");
    }
    match (memory, swap) {
        (Some(memory), Some(swap)) if swap < memory => {
            return Some("Minimum memoryswap limit should be larger than memory limit, see usage");
        }
        (None, Some(_)) => {
            return Some(
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            );
        }
        _ => {}
    }
    if resources.memory_swappiness.is_some_and(|value| value > 100) {
        return Some("Invalid value, valid memory swappiness range is 0-100");
    }
    if reservation.is_some_and(|reservation| reservation < LEAST_MEMORY) {
        return Some("Minimum memory reservation allowed is 6MB");
    }
    match (memory, reservation) {
        (Some(memory), Some(reservation)) if memory < reservation => {
            Some("Minimum memory limit can not be less than memory reservation limit, see usage")
        }
        _ => None,
    }
}

fn cpu_fault(resources: &Resources) -> Option<String> {
    let (quota, period) = (resources.cpu_quota, resources.cpu_period);
    if period.is_some_and(|period| !(1000..=1_000_000).contains(&period)) {
        let text = "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. \
                    1000000)";
        return Some(text.to_owned());
    }
    let is_short = quota.is_some_and(|quota| quota > 0 && quota < 1000);
    is_short.then(|| "CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned())
}

fn set_fault(
    option: &str,
    plural: &str,
    asked: &Option<String>,
    available: &str,
) -> Option<String> {
    let asked = asked.as_deref()?;
    let Some(wanted) = members(asked) else {
        return Some(format!("Invalid value {asked} for {option}"));
    };
    let there = members(available)?;
    (!wanted.iter().all(|member| there.contains(member))).then(|| {
        format!("Requested {plural} are not available - requested {asked}, available: {available}")
    })
}

fn block_fault(resources: &Resources) -> Option<&'static str> {
    let weights = resources.blkio_weight.map(u64::from).into_iter();
    let mut weights = weights.chain(resources.blkio_weight_devices.iter().map(|limit| limit.value));
    weights
        .any(|weight| !(10..=1000).contains(&weight))
        .then_some("Range of blkio weight is from 10 to 1000")
}

/// The numbers in a list such as `0-2,4`; none if it is no list.
fn members(list: &str) -> Option<Vec<u32>> {
    const MOST: u32 = 8192;
    let mut members = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > MOST {
            return None;
        }
        members.extend(first..=last);
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Resources), expected: Option<&str>) {
        let mut resources = Resources::default();
        change(&mut resources);
        assert_eq!(fault(&resources, "0-1", "0").as_deref(), expected);
    }

    #[test]
    fn impossible_limits_are_refused_in_docker_s_words() {
        const MB: u64 = 1 << 20;
        check(|_| (), None);
        check(|it| it.memory = Some(6 * MB), None);
        check(|it| it.memory = Some(5 * MB), Some("Minimum memory limit allowed is 6MB"));
        let smaller = "Minimum memoryswap limit should be larger than memory limit, see usage";
        let swap = |memory, swap| {
            move |it: &mut Resources| (it.memory, it.memory_swap) = (memory, Some(swap))
        };
        check(swap(Some(8 * MB), 7 << 20), Some(smaller));
        check(swap(Some(8 * MB), -1), None);
        let alone = "You should always set the Memory limit when using Memoryswap limit, see usage";
        check(swap(None, 7 << 20), Some(alone));
        let least = "Minimum memory reservation allowed is 6MB";
        check(|it| it.memory_reservation = Some(MB), Some(least));
        let reserved =
            "Minimum memory limit can not be less than memory reservation limit, see usage";
        let both = |it: &mut Resources| {
            (it.memory, it.memory_reservation) = (Some(8 * MB), Some(9 * MB));
        };
        check(both, Some(reserved));
        check(|it| it.cpu_quota = Some(-1), None);
        let quota = "CPU cfs quota can not be less than 1ms (i.e. 1000)";
        check(|it| it.cpu_quota = Some(999), Some(quota));
        let period =
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
        check(|it| it.cpu_period = Some(999), Some(period));
        let set = |list: &str| {
            let list = Some(list.to_owned());
            move |it: &mut Resources| it.cpuset_cpus = list
        };
        check(set("0,1"), None);
        check(set("0-x"), Some("Invalid value 0-x for cpuset cpus"));
        let missing = "Requested CPUs are not available - requested 0-7, available: 0-1";
        check(set("0-7"), Some(missing));
        let nodes = "Requested memory nodes are not available - requested 3, available: 0";
        check(|it| it.cpuset_mems = Some("3".to_owned()), Some(nodes));
        let weight = "Range of blkio weight is from 10 to 1000";
        check(|it| it.blkio_weight = Some(9), Some(weight));
        let device = DeviceLimit { device: "/dev/sda".into(), value: 1001 };
        check(|it| it.blkio_weight_devices = vec![device], Some(weight));
    }

    #[test]
    fn a_change_keeps_the_other_limits() {
        let memory = |memory, swap| Resources {
            memory: Some(memory),
            memory_swap: swap,
            pids: Some(7),
            ..Resources::default()
        };
        let change = Resources { memory: Some(20), ..Resources::default() };
        assert_eq!(memory(10, Some(30)).changed_by(&change).unwrap(), memory(20, Some(30)));
        let error = memory(10, Some(15)).changed_by(&change).unwrap_err().to_string();
        assert!(error.contains("update the memoryswap at the same time"), "{error}");
    }
}
