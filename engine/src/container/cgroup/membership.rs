//! Which cgroups a process is in, and which processes a cgroup has.

use std::io;
use std::path::{Path, PathBuf};

use super::directories_in;
use super::hierarchy::{Hierarchy, Version, hierarchies};

/// A cgroup that a process is in.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::container) struct Membership {
    hierarchy: Hierarchy,
    /// As seen from the host.
    pub(in crate::container) directory: PathBuf,
}

impl Membership {
    /// Whether its processes are stopped.
    pub(in crate::container) fn is_frozen(&self) -> bool {
        super::freezer::is_frozen(&self.directory)
    }

    /// Whether it is of version 2.
    pub(in crate::container) fn is_unified(&self) -> bool {
        self.hierarchy.version == Version::Two
    }

    /// Whether a controller counts here.
    pub(in crate::container) fn has(&self, controller: &'static str) -> bool {
        self.hierarchy.name_of(controller).is_some()
    }

    /// Whether it was made for one container alone.
    pub(in crate::container) fn is_own(&self) -> bool {
        self.directory
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| super::owner_of(name).is_some())
    }
}

/// The cgroups of a process (`self` or its number), one in each hierarchy.
pub(in crate::container) fn memberships_of(pid: &str) -> io::Result<Vec<Membership>> {
    let text = fs_err::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(parse(&text, hierarchies()))
}

fn parse(text: &str, hierarchies: &[Hierarchy]) -> Vec<Membership> {
    let parse_line = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let number = fields.next()?;
        let controllers = fields.next()?;
        let path = fields.next()?.strip_prefix('/')?;
        let hierarchy = hierarchies.iter().find(|hierarchy| match hierarchy.version {
            Version::Two => number == "0",
            Version::One => {
                controllers.split(',').eq(hierarchy.controllers.iter().map(String::as_str))
            }
        })?;
        let directory = hierarchy.mount.join(path);
        Some(Membership { hierarchy: hierarchy.clone(), directory })
    };
    text.lines().filter_map(parse_line).collect()
}

/// The processes of a cgroup and of those in it.
pub(in crate::container) fn processes_below(directory: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.parse().ok());
    let below = directories_in(directory);
    own.chain(below.iter().flat_map(|below| processes_below(below))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_in_one_cgroup_of_each_hierarchy() {
        let hierarchy = |mount: &str, version, controllers: &[&str]| Hierarchy {
            mount: PathBuf::from(mount),
            version,
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        };
        let hierarchies = [
            hierarchy("/cg/cpu,cpuacct", Version::One, &["cpu", "cpuacct"]),
            hierarchy("/cg/unified", Version::Two, &["hugetlb"]),
        ];
        let text = "9:name=systemd:/x\n8:pids:/\n3:cpu,cpuacct:/rbuild/a.1-2\n0::/rbuild/b\n";
        let found = parse(text, &hierarchies);
        let directories: Vec<&str> =
            found.iter().filter_map(|membership| membership.directory.to_str()).collect();
        assert_eq!(directories, ["/cg/cpu,cpuacct/rbuild/a.1-2", "/cg/unified/rbuild/b"]);
        assert_eq!(found.iter().map(Membership::is_own).collect::<Vec<_>>(), [true, false]);
    }
}
