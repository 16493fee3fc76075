//! Which cgroup hierarchies this machine has, and directories in them.
//!
//! Version 1 has a hierarchy for each controller or few of them, version 2 one for all, and a
//! machine may have both. Knows no limits and no containers.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hierarchy {
    pub(super) mount: PathBuf,
    pub(super) version: Version,
    pub(super) controllers: Vec<String>,
}

impl Hierarchy {
    /// Whether a controller is in this hierarchy.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    /// What a controller is called in this hierarchy, if it has it.
    pub(super) fn name_of(&self, controller: &'static str) -> Option<&'static str> {
        let name = match (controller, self.version) {
            ("blkio", Version::Two) => "io",
            _ => controller,
        };
        self.has(name).then_some(name)
    }
}

/// A version of the kernel's interface (`cgroups(7)`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Version {
    One,
    Two,
}

/// The mounted hierarchies, looked up once.
pub(super) fn hierarchies() -> &'static [Hierarchy] {
    static FOUND: OnceLock<Vec<Hierarchy>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut found = parse_hierarchies(&text);
        for hierarchy in found.iter_mut().filter(|found| found.version == Version::Two) {
            let file = hierarchy.mount.join("cgroup.controllers");
            let names = std::fs::read_to_string(file).unwrap_or_default();
            hierarchy.controllers = names.split_ascii_whitespace().map(str::to_owned).collect();
        }
        found
    })
}

/// The hierarchies in a mountinfo text (`proc_pid_mountinfo(5)`); those of version 2 without their
/// controllers.
fn parse_hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    const CONTROLLERS: [&str; 14] = [
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "debug",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
        "rdma",
    ];
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else {
            continue;
        };
        let mut kind = kind.split(' ');
        let version = match kind.next() {
            Some("cgroup") => Version::One,
            Some("cgroup2") => Version::Two,
            _ => continue,
        };
        let Some(place) = mount.split(' ').nth(4) else {
            continue;
        };
        let controllers: Vec<String> = match version {
            Version::One => kind
                .nth(1)
                .unwrap_or("")
                .split(',')
                .filter(|option| CONTROLLERS.contains(option))
                .map(str::to_owned)
                .collect(),
            Version::Two => Vec::new(),
        };
        let is_named_only = version == Version::One && controllers.is_empty();
        let hierarchy = Hierarchy { mount: PathBuf::from(place), version, controllers };
        let is_known = found
            .iter()
            .any(|known| known.version == version && known.controllers == hierarchy.controllers);
        if !is_named_only && !is_known {
            found.push(hierarchy);
        }
    }
    found
}

/// Makes the directories above a container's and lets them use the controller, if one is
/// wanted.
pub(super) fn prepare_parent(
    hierarchy: &Hierarchy,
    parent: &Path,
    controller: Option<&str>,
) -> io::Result<()> {
    let mut directory = hierarchy.mount.clone();
    for part in parent {
        if let (Version::Two, Some(controller)) = (hierarchy.version, controller) {
            enable(&directory, controller)?;
        }
        directory.push(part);
        match fs_err::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if hierarchy.version == Version::One && hierarchy.has("cpuset") {
            inherit_cpuset(&directory)?;
        }
    }
    match (hierarchy.version, controller) {
        (Version::Two, Some(controller)) => enable(&directory, controller),
        _ => Ok(()),
    }
}

/// Lets the children of a version 2 cgroup use a controller.
fn enable(directory: &Path, controller: &str) -> io::Result<()> {
    let file = directory.join("cgroup.subtree_control");
    if fs_err::read_to_string(&file)?.split_ascii_whitespace().any(|name| name == controller) {
        return Ok(());
    }
    fs_err::write(file, format!("+{controller}"))
}

/// A new version 1 cpuset is empty and cannot have processes until it has what its parent has.
pub(super) fn inherit_cpuset(directory: &Path) -> io::Result<()> {
    let Some(parent) = directory.parent() else {
        return Ok(());
    };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if fs_err::read_to_string(directory.join(file))?.trim().is_empty() {
            fs_err::write(directory.join(file), fs_err::read_to_string(parent.join(file))?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mountinfo: &str, expected: &[(&str, Version, &[&str])]) {
        let found = parse_hierarchies(mountinfo);
        let found: Vec<(&str, Version, Vec<&str>)> = found
            .iter()
            .map(|found| {
                let controllers = found.controllers.iter().map(String::as_str).collect();
                (found.mount.to_str().expect("the path is UTF-8"), found.version, controllers)
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(mount, version, names)| (*mount, *version, names.to_vec()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        check("22 1 0:20 / / rw - ext4 /dev/vda rw", &[]);
        check(
            "31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate",
            &[("/sys/fs/cgroup", Version::Two, &[])],
        );
        check(
            "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             32 23 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             33 23 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
             34 23 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             35 23 0:29 / /mnt/pids rw - cgroup cgroup rw,pids",
            &[
                ("/sys/fs/cgroup/cpu,cpuacct", Version::One, &["cpu", "cpuacct"]),
                ("/sys/fs/cgroup/pids", Version::One, &["pids"]),
                ("/sys/fs/cgroup/unified", Version::Two, &[]),
            ],
        );
    }
}
