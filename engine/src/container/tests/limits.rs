//! Limits that bite, pauses that hold, and what a container is said to use.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Machine, chain, wait_until};
use crate::container::Running;
use crate::container::spec::{DeviceLimit, Namespace, Resources};

fn limited(resources: Resources) -> Machine {
    let mut machine = Machine::new();
    machine.spec.resources = resources;
    machine
}

/// CPU time per wall time, in percent.
fn cpu_share(running: &Running) -> u128 {
    let (begun, before) = (Instant::now(), running.usage().unwrap().cpu);
    std::thread::sleep(Duration::from_millis(700));
    let used = running.usage().unwrap().cpu - before;
    u128::from(used) * 100 / begun.elapsed().as_nanos()
}

const BUSY: [&str; 3] = ["sh", "-c", "while :; do :; done"];

#[test]
fn a_fifth_of_a_cpu_is_not_exceeded_and_can_be_changed() {
    let quota = |quota| Resources {
        cpu_period: Some(100_000),
        cpu_quota: Some(quota),
        ..Resources::default()
    };
    let mut busy = limited(quota(20_000)).start(&BUSY);
    let running = busy.running();
    let share = cpu_share(&running);
    assert!((5..35).contains(&share), "{share} %");
    busy.container.update(&quota(60_000)).unwrap();
    let share = cpu_share(&running);
    assert!(share > 35, "{share} %");
}

#[test]
fn a_container_without_limits_can_be_given_some() {
    let mut busy =
        Machine::new().start(&["sh", "-c", "sleep 1000 & sleep 1000 & while :; do :; done"]);
    wait_until(|| busy.running().processes().unwrap().len() == 3);
    assert!(cpu_share(&busy.running()) > 25);
    let resources = Resources {
        cpu_quota: Some(10_000),
        pids: Some(3),
        memory: Some(64 << 20),
        ..Resources::default()
    };
    busy.container.update(&resources).unwrap();
    let share = cpu_share(&busy.running());
    assert!(share < 25, "{share} %");
    let usage = busy.running().usage().unwrap();
    assert_eq!((usage.memory_limit, usage.pids), (64 << 20, 3));
    let error = busy.container.update(&Resources { memory: Some(1), ..resources.clone() });
    assert_eq!(error.unwrap_err().to_string(), "Minimum memory limit allowed is 6MB");
    // Raised beyond the limit of memory and swap, which was twice the old one.
    busy.container
        .update(&Resources { memory: Some(256 << 20), memory_swap: Some(300 << 20), ..resources })
        .unwrap();
    assert_eq!(busy.running().usage().unwrap().memory_limit, 256 << 20);
}

#[test]
fn a_fork_bomb_stops_at_the_limit() {
    let machine = limited(Resources { pids: Some(20), ..Resources::default() });
    // The shell that hits the limit gives up; all others are there then.
    let bomb = "(while :; do sleep 1000 & done); exec sleep 1000";
    let bomb = machine.start(&["sh", "-c", bomb]);
    wait_until(|| bomb.running().processes().unwrap().len() == 19);
    assert_eq!(bomb.running().usage().unwrap().pids, 19);
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let check = |resources: Resources, text: &str| {
        let error = limited(resources).run(&["true"]).map(drop).unwrap_err();
        assert_eq!((chain(&error), error.exit_code()), (text.to_owned(), 125));
    };
    let words = "prepare the container's cgroups: Minimum memory limit allowed is 6MB";
    check(Resources { memory: Some(1 << 20), ..Resources::default() }, words);
    let words = "prepare the container's cgroups: Requested CPUs are not available - requested \
                 4000, available: ";
    let resources = Resources { cpuset_cpus: Some("4000".to_owned()), ..Resources::default() };
    let error = limited(resources).run(&["true"]).map(drop).unwrap_err();
    assert!(chain(&error).starts_with(words), "{}", chain(&error));
}

#[test]
fn a_limit_that_this_machine_cannot_enforce_is_refused() {
    let has = |file: &str| {
        ["memory", "blkio", "unified", "."]
            .iter()
            .any(|place| PathBuf::from("/sys/fs/cgroup").join(place).join(file).exists())
    };
    let machine = limited(Resources { blkio_weight: Some(100), ..Resources::default() });
    match machine.run(&["true"]) {
        Ok(_) => assert!(has("blkio.weight") || has("io.weight") || has("cgroup.controllers")),
        Err(error) => {
            let text = chain(&error);
            assert!(!has("blkio.weight"), "{text}");
            assert!(
                text.contains("this machine cannot enforce a limit on the weight of block I/O"),
                "{text}"
            );
        }
    }
    let device = vec![DeviceLimit { device: "/dev/null".into(), value: 1 }];
    let machine = limited(Resources { read_bps: device, ..Resources::default() });
    let text = chain(&machine.run(&["true"]).map(drop).unwrap_err());
    assert!(text.contains("/dev/null is not a block device"), "{text}");
}

/// The whole disk that the temporary directory is on, if that is one that can be throttled.
fn disk() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let device =
        mounts.lines().find(|line| line.split(' ').nth(1) == Some("/"))?.split(' ').next()?;
    let whole = PathBuf::from("/sys/block").join(device.strip_prefix("/dev/")?);
    let throttles = PathBuf::from("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device");
    (whole.exists() && throttles.exists()).then(|| PathBuf::from(device))
}

#[test]
fn writing_to_a_disk_is_slowed_down() {
    let Some(device) = disk() else { return };
    let limit = DeviceLimit { device, value: 2 << 20 };
    let machine = limited(Resources { write_bps: vec![limit], ..Resources::default() });
    let begun = Instant::now();
    machine.sh("dd if=/dev/zero of=/file bs=1M count=2 oflag=direct 2>/dev/null");
    assert!(begun.elapsed() > Duration::from_millis(700), "{:?}", begun.elapsed());
}

#[test]
fn a_paused_container_stands_still() {
    let mut busy = Machine::new().start(&["sh", "-c", "sleep 1000 & while :; do :; done"]);
    let running = busy.running();
    assert!(!running.is_paused().unwrap());
    busy.container.pause().unwrap();
    assert!(running.is_paused().unwrap() && busy.container.is_paused());
    let before = running.usage().unwrap().cpu;
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(running.usage().unwrap().cpu, before);
    let entry = crate::container::ExecSpec::default();
    let error = crate::container::exec(&running, &entry, Default::default()).unwrap_err();
    assert_eq!(error.to_string(), "the container is paused");
    busy.container.resume();
    assert!(!running.is_paused().unwrap());
    wait_until(|| running.usage().unwrap().cpu > before);
    busy.container.pause().unwrap();
    // Killed as it is.
    busy.end();
    assert!(Running::find(running.pid(), None).is_err());
}

#[test]
fn processes_of_a_shared_namespace_are_found_by_their_cgroup() {
    let mut machine = Machine::new();
    machine.spec.pid = Namespace::Host;
    let sleeper = machine.start(&["sh", "-c", "(sleep 1000 & sleep 1000 &); exec sleep 1000"]);
    let running = sleeper.running();
    wait_until(|| running.processes().unwrap().len() == 3);
    let processes = running.processes().unwrap();
    assert_eq!(processes[0], running.pid());
    assert!(!processes.contains(&rustix::process::getpid()));
    sleeper.end();
    wait_until(|| processes.iter().all(|pid| Running::find(*pid, None).is_err()));
}

#[test]
fn what_a_container_uses_is_told_without_cgroups_too() {
    let machine = Machine::new();
    let sleeper =
        machine.start(&["sh", "-c", "head -c 30000000 /dev/zero | tail -c 20000000 | sleep 1000"]);
    let running = sleeper.running();
    wait_until(|| running.usage().unwrap().memory > 15 << 20);
    let usage = running.usage().unwrap();
    assert_eq!(usage.pids, 4);
    assert!(usage.memory < 200 << 20 && usage.memory_limit > 256 << 20, "{usage:?}");
    assert_eq!((usage.received, usage.sent), (0, 0));
}
