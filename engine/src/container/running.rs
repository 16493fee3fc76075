//! A running container as others than its launcher find it: by its process 1.
//!
//! Tells which processes it has and what they use, from its cgroups where it has them and else from
//! /proc. Knows nothing of stores or names.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::cgroup::{Membership, memberships_of, processes_below, start_time};
use crate::sys::process::{clock_ticks, parent_namespace};

/// Process 1 of a running container, held so that its number cannot come to mean another process.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    pidfd: OwnedFd,
}

/// What a container uses and has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in nanoseconds.
    pub cpu: u64,
    /// Bytes of memory, without what the kernel could drop at once.
    pub memory: u64,
    /// The most it may use: the machine's memory if there is no limit.
    pub memory_limit: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes read from block devices.
    pub block_read: u64,
    /// Bytes written to block devices.
    pub block_written: u64,
    /// Bytes received on all network devices but the loopback; none in the host's network.
    pub received: u64,
    /// Bytes sent on them.
    pub sent: u64,
}

impl Running {
    /// Finds a container by its process 1. `started` is what [`Running::start_time`] said when the
    /// number was written down: another process of that number is not found.
    pub fn find(pid: Pid, started: Option<u64>) -> io::Result<Running> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the container is not running");
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Err(gone()),
            pidfd => pidfd?,
        };
        let running = Running { pid, pidfd };
        if started.is_some() && running.start_time() != started {
            return Err(gone());
        }
        // Only if it still lives what was read was its own.
        if running.is_alive()? { Ok(running) } else { Err(gone()) }
    }

    /// When the process started, in ticks since boot.
    pub fn start_time(&self) -> Option<u64> {
        start_time(&self.number())
    }

    /// Its number, as this process sees it.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor of it: readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether the container is paused.
    pub fn is_paused(&self) -> io::Result<bool> {
        Ok(self.memberships()?.iter().any(Membership::is_frozen))
    }

    /// All processes of the container, as this process sees them, process 1 first.
    pub fn processes(&self) -> io::Result<Vec<Pid>> {
        let own = self.memberships()?.into_iter().find(Membership::is_own);
        let numbers = match (self.has_own_processes(), own) {
            // Its process namespace is shared with others, then it has a cgroup.
            (false, Some(membership)) => processes_below(&membership.directory),
            _ => processes_in_namespace(&self.number())?,
        };
        let mut pids: Vec<Pid> = numbers.into_iter().filter_map(Pid::from_raw).collect();
        pids.sort_by_key(|pid| (*pid != self.pid, pid.as_raw_nonzero()));
        Ok(pids)
    }

    /// What the container uses.
    pub fn usage(&self) -> io::Result<Usage> {
        let own: Vec<Membership> =
            self.memberships()?.into_iter().filter(Membership::is_own).collect();
        let processes: Vec<String> = self.processes()?.iter().map(Pid::to_string).collect();
        let find = |controller| own.iter().find(|membership| membership.has(controller));
        let directory = |controller| find(controller).map(|found| found.directory.as_path());
        let (memory, limit) =
            directory("memory").and_then(memory_of_cgroup).unwrap_or((None, None));
        let total = || meminfo("MemTotal:");
        let (block_read, block_written) = directory("blkio")
            .and_then(blocks_of_cgroup)
            .unwrap_or_else(|| sum_pairs(&processes, blocks_of_process));
        let (received, sent) = self.traffic();
        Ok(Usage {
            cpu: directory("cpuacct")
                .or_else(|| directory("cpu"))
                .and_then(cpu_of_cgroup)
                .unwrap_or_else(|| processes.iter().filter_map(|pid| cpu_of_process(pid)).sum()),
            memory: memory
                .unwrap_or_else(|| processes.iter().filter_map(|pid| memory_of_process(pid)).sum()),
            memory_limit: limit.unwrap_or(u64::MAX).min(total()),
            pids: processes.iter().filter_map(|pid| threads_of_process(pid)).sum(),
            block_read,
            block_written,
            received,
            sent,
        })
    }

    /// The cgroups its process 1 is in.
    pub(super) fn memberships(&self) -> io::Result<Vec<Membership>> {
        memberships_of(&self.number())
    }

    fn number(&self) -> String {
        self.pid.to_string()
    }

    fn is_alive(&self) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        Ok(poll(&mut polled, Some(&now))? == 0)
    }

    /// Whether it is process 1 of a namespace, in which all other processes are its own.
    fn has_own_processes(&self) -> bool {
        let status = proc_file(&self.number(), "status").unwrap_or_default();
        field(&status, "NSpid:").is_some_and(|numbers| {
            let numbers: Vec<&str> = numbers.split_ascii_whitespace().collect();
            numbers.len() > 1 && numbers.last() == Some(&"1")
        })
    }

    fn traffic(&self) -> (u64, u64) {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        if namespace("self") == namespace(&self.number()) {
            return (0, 0);
        }
        traffic_in(&proc_file(&self.number(), "net/dev").unwrap_or_default())
    }
}

/// The processes in the process namespace of one of them and in all namespaces within that one,
/// without those that have ended and wait to be reaped.
pub(super) fn processes_in_namespace(init: &str) -> io::Result<Vec<i32>> {
    let wanted = namespace_number(fs_err::File::open(format!("/proc/{init}/ns/pid"))?.as_fd())?;
    let mut known: BTreeMap<u64, bool> = BTreeMap::from([(wanted, true)]);
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // One that has ended is in no namespace.
        let Ok(namespace) = fs::File::open(format!("/proc/{pid}/ns/pid")) else {
            continue;
        };
        if is_within(namespace.as_fd(), &mut known) && !has_ended(pid) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Whether a namespace is one known to be wanted or within one.
fn is_within(namespace: BorrowedFd<'_>, known: &mut BTreeMap<u64, bool>) -> bool {
    let Ok(number) = namespace_number(namespace) else {
        return false;
    };
    if let Some(answer) = known.get(&number) {
        return *answer;
    }
    let parent = parent_namespace(namespace);
    let answer = parent.is_some_and(|parent| is_within(parent.as_fd(), known));
    known.insert(number, answer);
    answer
}

fn has_ended(pid: i32) -> bool {
    let stat = proc_file(&pid.to_string(), "stat");
    let state = stat.as_deref().and_then(|text| text.rsplit_once(") ")?.1.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

fn namespace_number(namespace: BorrowedFd<'_>) -> Result<u64, Errno> {
    Ok(rustix::fs::fstat(namespace)?.st_ino)
}

fn proc_file(pid: &str, file: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc").join(pid).join(file)).ok()
}

/// What follows a name at the beginning of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn number(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.split_ascii_whitespace().next()?.parse().ok()
}

fn file_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn meminfo(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    number(&text, name).unwrap_or(0) * 1024
}

fn cpu_of_cgroup(directory: &Path) -> Option<u64> {
    file_number(&directory.join("cpuacct.usage")).or_else(|| {
        let text = fs::read_to_string(directory.join("cpu.stat")).ok()?;
        Some(number(&text, "usage_usec ")? * 1000)
    })
}

/// Of a process and its children that were waited for.
fn cpu_of_process(pid: &str) -> Option<u64> {
    let text = proc_file(pid, "stat")?;
    // The fields after the name: utime, stime, cutime and cstime are the 14th to 17th of all.
    let fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11).take(4);
    let ticks: u64 = fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some(ticks * (1_000_000_000 / clock_ticks().max(1)))
}

/// What is used, and the limit; the page cache that nobody has asked for of late is not counted.
fn memory_of_cgroup(directory: &Path) -> Option<(Option<u64>, Option<u64>)> {
    let file = |name: &str| file_number(&directory.join(name));
    let stat = fs::read_to_string(directory.join("memory.stat")).ok()?;
    let inactive =
        number(&stat, "total_inactive_file ").or_else(|| number(&stat, "inactive_file "));
    let used = file("memory.usage_in_bytes").or_else(|| file("memory.current"));
    let used = used.map(|used| used.saturating_sub(inactive.unwrap_or(0)));
    Some((used, file("memory.limit_in_bytes").or_else(|| file("memory.max"))))
}

/// A process's share of the memory it has together with others, in bytes.
fn memory_of_process(pid: &str) -> Option<u64> {
    let rollup = proc_file(pid, "smaps_rollup").and_then(|text| number(&text, "Pss:"));
    let resident = || number(&proc_file(pid, "status")?, "VmRSS:");
    Some(rollup.or_else(resident)? * 1024)
}

fn threads_of_process(pid: &str) -> Option<u64> {
    number(&proc_file(pid, "status")?, "Threads:")
}

fn blocks_of_process(pid: &str) -> Option<(u64, u64)> {
    let text = proc_file(pid, "io")?;
    Some((number(&text, "read_bytes:")?, number(&text, "write_bytes:")?))
}

fn blocks_of_cgroup(directory: &Path) -> Option<(u64, u64)> {
    if let Ok(text) = fs::read_to_string(directory.join("io.stat")) {
        let sum = |key: &str| {
            text.split_ascii_whitespace()
                .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
                .sum()
        };
        return Some((sum("rbytes="), sum("wbytes=")));
    }
    let file = directory.join("blkio.throttle.io_service_bytes_recursive");
    let text = fs::read_to_string(file).ok()?;
    let sum = |kind: &str| {
        text.lines().filter_map(|line| line.split_once(kind)?.1.trim().parse::<u64>().ok()).sum()
    };
    Some((sum(" Read "), sum(" Write ")))
}

fn sum_pairs(pids: &[String], of: impl Fn(&str) -> Option<(u64, u64)>) -> (u64, u64) {
    pids.iter().filter_map(|pid| of(pid)).fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
}

/// Received and sent bytes in a `/proc/net/dev`.
fn traffic_in(text: &str) -> (u64, u64) {
    let devices = text.lines().filter_map(|line| line.split_once(':'));
    devices.filter(|(name, _)| name.trim() != "lo").fold((0, 0), |sum, (_, counters)| {
        let counters: Vec<u64> =
            counters.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect();
        let at = |index: usize| counters.get(index).copied().unwrap_or(0);
        (sum.0 + at(0), sum.1 + at(8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traffic_of_all_devices_but_the_loopback_counts() {
        let text = "Inter-|   Receive                    |  Transmit\n face |bytes packets\n    lo: \
                    9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 100 2 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n \
                    eth1:5 2 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n";
        assert_eq!(traffic_in(text), (105, 13));
    }

    #[test]
    fn a_number_that_came_to_mean_another_process_is_not_found() {
        let own = rustix::process::getpid();
        let running = Running::find(own, None).unwrap();
        let started = running.start_time().unwrap();
        assert!(Running::find(own, Some(started)).is_ok());
        let error = Running::find(own, Some(started + 1)).unwrap_err();
        assert_eq!(error.to_string(), "the container is not running");
    }
}
