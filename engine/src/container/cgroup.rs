//! Cgroups: one directory per container in each hierarchy that a limit needs, versions 1 and 2 and
//! both at once.
//!
//! Which controller is in which hierarchy is the machine's choice; a limit that no hierarchy can
//! enforce is an error.
//!
//! A container is kept from devices by a cgroup that all share whose devices are the usual ones:
//! one with devices of its own or that may mount has a cgroup of its own, a privileged one none.
//! Where no such cgroup can be had, its mounts keep it from devices: none of them allows any but the
//! usual ones.
//!
//! To join a cgroup is slow (it waits for the kernel's RCU, 5 to 15 ms) where to be born in one costs
//! nothing: see [`Birthplace`]. So the shared one is of version 2, which a machine with version 1 may
//! have beside it.

mod check;
mod freezer;
mod hierarchy;
mod limits;
mod membership;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use self::hierarchy::{Hierarchy, Version, hierarchies, inherit_cpuset, prepare_parent};
pub(super) use self::membership::{Membership, memberships_of, processes_below};
use super::devices::RULES;
use super::running::processes_in_namespace;
use super::spec::{ContainerSpec, DeviceRule, Mount, MountSource, Namespace, Resources};
use super::wire::{Birthplace, CgroupMount};
use crate::sys::bpf;

/// Where containers' cgroups are made if their specification does not say.
const DEFAULT_PARENT: &str = "rbuild";

/// The cgroup, below the parent, that keeps containers from devices.
const SHARED: &str = "devices";

/// A limit or a cgroup that could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// The kernel, or what of its cgroups this process may use, has no means for this limit.
    #[error("this machine cannot enforce a limit on {limit}: {reason}")]
    Unsupported {
        /// What was to be limited.
        limit: &'static str,
        /// What is missing.
        reason: String,
    },
    /// The limits contradict themselves or are out of range, in docker's words.
    #[error("{0}")]
    Invalid(String),
    /// The kernel refused a limit.
    #[error("cannot limit {limit} to {value}{hint}")]
    Refused {
        /// What was to be limited.
        limit: &'static str,
        /// To what.
        value: String,
        /// What may help.
        hint: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The container's processes did not stop.
    #[error("the container cannot be paused: {0}")]
    NotPaused(String),
    /// The parent is no path below the root of the cgroups.
    #[error("invalid cgroup parent: {0}")]
    InvalidParent(String),
    /// A directory or file of a cgroup was refused; its path is in the error.
    #[error("set up a cgroup")]
    Io(#[from] io::Error),
}

/// A container's cgroups. Dropping them removes those that are its own.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    /// Where the container's own are made in each hierarchy, and their name there.
    place: Option<(PathBuf, String)>,
    /// Made for this container, with the hierarchy they are in.
    own: Vec<(Hierarchy, PathBuf)>,
    /// Shared with others, with the hierarchy it is in: keeps devices from the container.
    shared: Option<(Hierarchy, PathBuf)>,
    /// The one that all its processes are in because no namespace of their own tells which they
    /// are.
    holding: Option<PathBuf>,
    unified_only: bool,
    confines_devices: bool,
}

impl Cgroups {
    /// Makes the cgroups a container needs and sets its limits. `devices` may be used beside the
    /// usual ones.
    pub(super) fn create(
        spec: &ContainerSpec,
        devices: &[DeviceRule],
    ) -> Result<Cgroups, CgroupError> {
        check::check(&spec.resources)?;
        let hierarchies = hierarchies();
        let parent = parent_path(spec.cgroup_parent.as_deref())?;
        let owner = (std::process::id(), start_time("self").unwrap_or(0));
        let name = format!("{}.{}-{}", spec.id, owner.0, owner.1);
        let mut cgroups = Cgroups::default();
        cgroups.place = Some((parent.clone(), name));
        cgroups.unified_only = !hierarchies.is_empty()
            && hierarchies.iter().all(|hierarchy| hierarchy.version == Version::Two);
        cgroups.limit(&spec.resources)?;
        if spec.pid != Namespace::New {
            cgroups.holding = Some(cgroups.freezer()?.1);
        }
        if spec.privileged {
            return Ok(cgroups);
        }
        // Who may mount may mount the cgroup it is in, and change what that allows.
        let confined = match devices {
            [] if !may_mount(spec) => cgroups.confine_to_usual(shows_devices(spec)),
            devices => cgroups.confine_to(devices),
        };
        match confined {
            Err(error) if !devices.is_empty() || mounts_do_not_confine(spec) => Err(error),
            _ => Ok(cgroups),
        }
    }

    /// Sets limits, in cgroups that are made if there are none.
    fn limit(&mut self, resources: &Resources) -> Result<(), CgroupError> {
        for (controller, limit) in limits::needed(resources) {
            let found = hierarchies()
                .iter()
                .find_map(|hierarchy| Some((hierarchy, hierarchy.name_of(controller)?)));
            let Some((hierarchy, name)) = found else {
                return Err(CgroupError::Unsupported {
                    limit,
                    reason: format!("there is no {controller} cgroup controller"),
                });
            };
            let directory = self.own_in(hierarchy, Some(name), limit)?;
            limits::set(controller, hierarchy.version, &directory, resources)?;
        }
        Ok(())
    }

    /// Changes the limits of a container while it runs. `init` is its process 1.
    pub(super) fn update(&mut self, init: &str, resources: &Resources) -> Result<(), CgroupError> {
        check::check(resources)?;
        self.limit(resources)?;
        if let Some((hierarchy, _)) = &self.shared
            && self.own.iter().any(|(its, _)| its == hierarchy)
        {
            self.shared = None;
            self.confine_to_usual(true)?;
        }
        if resources.pids.is_some_and(|pids| pids <= 0) {
            for (_, directory) in self.own.iter().filter(|(found, _)| found.has("pids")) {
                limits::set("pids", Version::One, directory, resources)?;
            }
        }
        self.gather(init)
    }

    /// Moves all of the container's processes into its own cgroups.
    fn gather(&self, init: &str) -> Result<(), CgroupError> {
        for (_, directory) in &self.own {
            // Those that are born meanwhile may be outside, their children are inside.
            loop {
                let inside = processes_below(directory);
                let all = match &self.holding {
                    None => processes_in_namespace(init)?,
                    Some(holding) => processes_below(holding),
                };
                let outside: Vec<i32> =
                    all.into_iter().filter(|pid| !inside.contains(pid)).collect();
                if outside.is_empty() {
                    break;
                }
                for pid in outside {
                    move_process(directory, pid)?;
                }
            }
        }
        Ok(())
    }

    /// The container's directory in a hierarchy, made if this is the first use of it.
    fn own_in(
        &mut self,
        hierarchy: &Hierarchy,
        controller: Option<&str>,
        limit: &'static str,
    ) -> Result<PathBuf, CgroupError> {
        let Some((parent, name)) = &self.place else {
            let reason = "it is another container's process".to_owned();
            return Err(CgroupError::Unsupported { limit, reason });
        };
        let unsupported = |error: io::Error| {
            let kind = controller.unwrap_or("own");
            CgroupError::Unsupported {
                limit,
                reason: format!("no {kind} cgroup can be made: {error}"),
            }
        };
        if let Some((_, directory)) = self.own.iter().find(|(known, _)| known == hierarchy) {
            prepare_parent(hierarchy, parent, controller).map_err(unsupported)?;
            return Ok(directory.clone());
        }
        let directory = hierarchy.mount.join(parent).join(name);
        let make = || {
            prepare_parent(hierarchy, parent, controller)?;
            match fs_err::create_dir(&directory) {
                // What an earlier run of the same container by this process could not remove.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    remove(&directory);
                    fs_err::create_dir(&directory)
                }
                result => result,
            }
        };
        // Whoever was the last to use the parent may remove it between the two.
        let mut made = make();
        while made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            made = make();
        }
        made.map_err(unsupported)?;
        self.own.push((hierarchy.clone(), directory.clone()));
        if hierarchy.has("cpuset") && hierarchy.version == Version::One {
            inherit_cpuset(&directory).map_err(unsupported)?;
        }
        Ok(directory)
    }

    /// Sees to it that a cgroup of the container's own denies it all devices but the usual ones
    /// and these.
    fn confine_to(&mut self, devices: &[DeviceRule]) -> Result<(), CgroupError> {
        let rules: Vec<DeviceRule> = RULES.iter().chain(devices).copied().collect();
        let hierarchy = device_hierarchy(hierarchies())?;
        let directory = self.own_in(hierarchy, None, "devices")?;
        set_device_rules(hierarchy.version, &directory, &rules)?;
        self.confines_devices = true;
        Ok(())
    }

    /// Sees to it that a cgroup denies the container all but the usual devices: the one that all
    /// share, unless it has its own or is in a place that somebody chose, where nothing may stay. It
    /// is joined, if it cannot be born in, only if it must be.
    fn confine_to_usual(&mut self, must: bool) -> Result<(), CgroupError> {
        let unified = hierarchies().iter().find(|hierarchy| hierarchy.version == Version::Two);
        let hierarchy = match unified {
            Some(unified) => unified,
            None if must => device_hierarchy(hierarchies())?,
            None => return Ok(()),
        };
        let has_own = self.own.iter().any(|(known, _)| known == hierarchy);
        let is_ours = |place: &(PathBuf, String)| place.0 == Path::new(DEFAULT_PARENT);
        if has_own || !self.place.as_ref().is_some_and(is_ours) {
            return self.confine_to(&[]);
        }
        let shared = hierarchy.mount.join(DEFAULT_PARENT).join(SHARED);
        make_shared(hierarchy.version, &shared)?;
        self.shared = Some((hierarchy.clone(), shared));
        self.confines_devices = true;
        Ok(())
    }

    /// Kills what is left of a container whose processes do not end with its process 1.
    pub(super) fn kill(&self) {
        if let Some(holding) = &self.holding {
            for attempt in 0..20 {
                if processes_below(holding).is_empty() {
                    return;
                }
                kill_all(holding);
                std::thread::sleep(Duration::from_micros(100 << attempt.min(10)));
            }
        }
    }

    /// The cgroup the container's first process may be born in.
    pub(super) fn birthplace(&self) -> Option<Birthplace> {
        let unified = self.own.iter().find(|(hierarchy, _)| hierarchy.version == Version::Two);
        let (hierarchy, directory) = unified.or(self.shared.as_ref())?;
        Some(Birthplace {
            directory: directory.clone(),
            unified: hierarchy.version == Version::Two,
            shared: unified.is_none(),
        })
    }

    /// The directories of the others, which it must join.
    pub(super) fn to_join(&self) -> Vec<PathBuf> {
        let birthplace = self.birthplace().map(|place| place.directory);
        let all = self.own.iter().chain(&self.shared).map(|(_, directory)| directory);
        all.filter(|directory| Some(*directory) != birthplace.as_ref()).cloned().collect()
    }

    /// What the container is to see below /sys/fs/cgroup.
    pub(super) fn mounts(&self) -> Vec<CgroupMount> {
        if self.unified_only {
            return vec![CgroupMount::Unified];
        }
        self.own
            .iter()
            .filter(|(hierarchy, _)| hierarchy.version == Version::One)
            .map(|(hierarchy, _)| CgroupMount::Legacy(hierarchy.controllers.join(",")))
            .collect()
    }

    /// Whether a cgroup keeps devices out of the container's reach.
    pub(super) fn confines_devices(&self) -> bool {
        self.confines_devices
    }

    /// The container's own directories, by controller.
    pub(super) fn directories(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.own.iter().flat_map(|(hierarchy, directory)| {
            hierarchy.controllers.iter().map(|name| (name.as_str(), directory.as_path()))
        })
    }

    /// Whether the kernel killed a process for exceeding the memory limit.
    pub(super) fn oom_killed(&self) -> bool {
        self.directories().filter(|(controller, _)| *controller == "memory").any(
            |(_, directory)| {
                ["memory.events", "memory.oom_control"].iter().any(|file| {
                    std::fs::read_to_string(directory.join(file)).is_ok_and(|text| {
                        text.lines().any(|line| {
                            line.strip_prefix("oom_kill ").is_some_and(|count| count != "0")
                        })
                    })
                })
            },
        )
    }
}

/// Whether a container could use devices in spite of mounts that do not allow any: it may change
/// mounts, or it shows the host's devices and expects the usual ones among them to work.
fn mounts_do_not_confine(spec: &ContainerSpec) -> bool {
    may_mount(spec) || shows_devices(spec)
}

fn shows_devices(spec: &ContainerSpec) -> bool {
    spec.mounts.iter().any(|mount: &Mount| match &mount.source {
        MountSource::Bind(path) => path == Path::new("/") || path.starts_with("/dev"),
        _ => false,
    })
}

fn may_mount(spec: &ContainerSpec) -> bool {
    spec.process.capabilities.iter().any(|name| name == "CAP_SYS_ADMIN")
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for (_, directory) in &self.own {
            remove(directory);
            // Our own parent goes with its last user; one that somebody chose is theirs.
            let parent = directory.parent().filter(|parent| parent.ends_with(DEFAULT_PARENT));
            parent.map(std::fs::remove_dir);
        }
    }
}

/// Removes a cgroup. Its last processes may not quite be gone yet.
fn remove(directory: &Path) {
    for below in directories_in(directory) {
        remove(&below);
    }
    for attempt in 0..10 {
        match std::fs::remove_dir(directory) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_micros(100 << attempt));
            }
            // If it stays, it is swept when this process is gone.
            _ => return,
        }
    }
}

/// Removes the cgroups below a parent whose makers are dead, and kills what is left in them.
pub fn sweep(parent: Option<&str>) {
    let Ok(parent) = parent_path(parent) else {
        return;
    };
    for hierarchy in hierarchies() {
        let Ok(entries) = std::fs::read_dir(hierarchy.mount.join(&parent)) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_some_and(is_stale) {
                kill_all(&entry.path());
                remove(&entry.path());
            }
        }
    }
}

/// Whether a cgroup's name says that it was made by a process that is gone.
fn is_stale(name: &str) -> bool {
    owner_of(name).is_some_and(|(pid, start)| start_time(pid) != Some(start))
}

/// The process that made a cgroup for a container, and when that process started.
fn owner_of(name: &str) -> Option<(&str, u64)> {
    let (pid, start) = name.rsplit_once('.')?.1.split_once('-')?;
    pid.parse::<u32>().ok()?;
    Some((pid, start.parse().ok()?))
}

fn kill_all(directory: &Path) {
    for pid in processes_below(directory) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    // A process that is stopped by version 1's freezer does not die.
    freezer::thaw(directory);
}

/// The cgroups in a cgroup.
fn directories_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Moves a process, all its threads with it; one that has ended is nowhere.
fn move_process(directory: &Path, pid: i32) -> io::Result<()> {
    // Not by `fs_err`, whose errors have no number.
    match std::fs::write(directory.join("cgroup.procs"), pid.to_string()) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        Err(error) => {
            let text = format!("move process {pid} to {}: {error}", directory.display());
            Err(io::Error::new(error.kind(), text))
        }
        Ok(()) => Ok(()),
    }
}

/// The hierarchy that can keep devices from processes.
fn device_hierarchy(hierarchies: &[Hierarchy]) -> Result<&Hierarchy, CgroupError> {
    let legacy = hierarchies.iter().find(|hierarchy| hierarchy.has("devices"));
    let unified = || hierarchies.iter().find(|hierarchy| hierarchy.version == Version::Two);
    legacy.or_else(unified).ok_or_else(|| CgroupError::Unsupported {
        limit: "devices",
        reason: "there is no cgroup hierarchy".to_owned(),
    })
}

/// When a process started, in ticks since boot: with its id it names it for all time.
pub(super) fn start_time(pid: &str) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field may contain anything; the 22nd is the 20th after its closing parenthesis.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn parent_path(parent: Option<&str>) -> Result<PathBuf, CgroupError> {
    let parent = parent.unwrap_or(DEFAULT_PARENT);
    let path = Path::new(parent.trim_matches('/'));
    let is_plain = |part| matches!(part, std::path::Component::Normal(_));
    if path.components().all(is_plain) && !path.as_os_str().is_empty() {
        Ok(path.to_owned())
    } else {
        Err(CgroupError::InvalidParent(parent.to_owned()))
    }
}

fn make_shared(version: Version, shared: &Path) -> io::Result<()> {
    match version {
        Version::One => make_shared_with_rules(shared),
        // Whoever finds it sees to its rules.
        Version::Two => {
            fs_err::create_dir_all(shared)?;
            set_device_rules(version, shared, &RULES)
        }
    }
}

/// Makes the shared cgroup of version 1, complete with its rules before it has its name: it must
/// never be seen without them.
fn make_shared_with_rules(shared: &Path) -> io::Result<()> {
    if shared.exists() {
        return Ok(());
    }
    let parent = shared.parent().unwrap_or(shared);
    fs_err::create_dir_all(parent)?;
    let owner = format!("new.{}-{}", std::process::id(), start_time("self").unwrap_or(0));
    let thread = rustix::thread::gettid().as_raw_nonzero();
    let new = parent.join(format!("{thread}.{owner}"));
    fs_err::create_dir(&new)?;
    let result =
        set_device_rules(Version::One, &new, &RULES).and_then(|()| fs_err::rename(&new, shared));
    if result.is_err() {
        remove(&new);
    }
    // Somebody else may have been first.
    if shared.exists() { Ok(()) } else { result }
}

/// Denies a cgroup all devices but these.
fn set_device_rules(version: Version, directory: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    if version == Version::Two {
        return bpf::confine_devices(directory, rules);
    }
    fs_err::write(directory.join("devices.deny"), "a")?;
    for rule in rules {
        fs_err::write(directory.join("devices.allow"), rule.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_ended_needs_no_moving() {
        let mut process = std::process::Command::new("true").spawn().unwrap();
        process.wait().unwrap();
        let hierarchy = &hierarchies()[0];
        move_process(&hierarchy.mount, process.id().cast_signed()).unwrap();
    }
}
