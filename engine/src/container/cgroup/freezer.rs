//! Stopping all processes of a cgroup and letting them go on, with either version's freezer.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::hierarchy::{Hierarchy, Version, hierarchies};
use super::{CgroupError, Cgroups};

/// How long processes may take to stop: one that waits for a disk does not.
const PATIENCE: Duration = Duration::from_secs(10);

impl Cgroups {
    /// The container's cgroup that can be stopped, made if there is none. Version 2 is preferred:
    /// what is stopped there can be killed.
    pub(super) fn freezer(&mut self) -> Result<(Hierarchy, PathBuf), CgroupError> {
        let unified = hierarchies().iter().find(|hierarchy| hierarchy.version == Version::Two);
        let legacy = || hierarchies().iter().find(|hierarchy| hierarchy.has("freezer"));
        let Some(hierarchy) = unified.or_else(legacy) else {
            let reason = "there is no cgroup hierarchy with a freezer".to_owned();
            return Err(CgroupError::NotPaused(reason));
        };
        self.freezer_in(hierarchy)
    }

    pub(super) fn freezer_in(
        &mut self,
        hierarchy: &Hierarchy,
    ) -> Result<(Hierarchy, PathBuf), CgroupError> {
        let directory = self.own_in(hierarchy, None, "running")?;
        Ok((hierarchy.clone(), directory))
    }

    /// Stops all processes of a container. `init` is its process 1.
    pub(in crate::container) fn pause(&mut self, init: &str) -> Result<(), CgroupError> {
        let (hierarchy, directory) = self.freezer()?;
        self.pause_in(init, &hierarchy, &directory)
    }

    pub(super) fn pause_in(
        &mut self,
        init: &str,
        hierarchy: &Hierarchy,
        directory: &Path,
    ) -> Result<(), CgroupError> {
        self.gather(init)?;
        let (file, value) = match hierarchy.version {
            Version::Two => ("cgroup.freeze", "1"),
            Version::One => ("freezer.state", "FROZEN"),
        };
        let deadline = Instant::now() + PATIENCE;
        fs_err::write(directory.join(file), value)?;
        while !is_frozen(directory) {
            if Instant::now() > deadline {
                thaw(directory);
                let reason = "a process does not stop, perhaps it waits for a device".to_owned();
                return Err(CgroupError::NotPaused(reason));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    }

    /// Lets all processes of a container go on.
    pub(in crate::container) fn resume(&self) {
        self.own.iter().for_each(|(_, directory)| thaw(directory));
    }

    /// Whether the container's processes are stopped.
    pub(in crate::container) fn is_paused(&self) -> bool {
        self.own.iter().any(|(_, directory)| is_frozen(directory))
    }
}

/// Whether all processes of a cgroup are stopped, with either version.
pub(super) fn is_frozen(directory: &Path) -> bool {
    let has_line = |file: &str, wanted: &str| {
        std::fs::read_to_string(directory.join(file))
            .is_ok_and(|text| text.lines().any(|line| line == wanted))
    };
    has_line("cgroup.events", "frozen 1") || has_line("freezer.state", "FROZEN")
}

/// Lets the processes of a cgroup go on; one that is not stopped, or gone, needs nothing.
pub(super) fn thaw(directory: &Path) {
    // Only if they are there: to write to what is not would be to make it.
    for (file, value) in [("cgroup.freeze", "0"), ("freezer.state", "THAWED")] {
        let file = std::fs::OpenOptions::new().write(true).open(directory.join(file));
        if let Ok(mut file) = file {
            // Nothing else can be tried.
            let _ = std::io::Write::write_all(&mut file, value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::{move_process, start_time};
    use super::*;

    #[test]
    fn either_version_stops_processes_and_what_is_stopped_can_be_killed() {
        let able =
            |hierarchy: &&Hierarchy| hierarchy.version == Version::Two || hierarchy.has("freezer");
        for hierarchy in hierarchies().iter().filter(able) {
            let own = std::process::id();
            let started = start_time("self").unwrap();
            let mut cgroups = Cgroups::default();
            let name = format!("freezer-test.{own}-{started}");
            cgroups.place = Some((PathBuf::from(format!("rbuild-freezer-{own}")), name));
            let (_, directory) = cgroups.freezer_in(hierarchy).unwrap();
            cgroups.holding = Some(directory.clone());
            let mut child = Command::new("/bin/busybox").args(["sleep", "1000"]).spawn().unwrap();
            move_process(&directory, child.id() as i32).unwrap();
            assert!(!cgroups.is_paused());
            cgroups.pause_in(&child.id().to_string(), hierarchy, &directory).unwrap();
            assert!(cgroups.is_paused());
            cgroups.resume();
            assert!(!cgroups.is_paused());
            cgroups.pause_in(&child.id().to_string(), hierarchy, &directory).unwrap();
            std::thread::scope(|scope| {
                // It is only gone from its cgroup when it was waited for.
                scope.spawn(|| child.wait().unwrap());
                cgroups.kill();
            });
            let parent = directory.parent().unwrap().to_owned();
            drop(cgroups);
            assert!(!directory.exists());
            std::fs::remove_dir(parent).unwrap();
        }
    }
}
