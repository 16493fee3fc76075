//! Makes what is written down true again: after a reboot, and after a monitor, or somebody who made a
//! container, was killed.
//!
//! Nobody watches the containers as a whole: the commands that look at them do this on their way.
//! In the machine's first command it costs what a dead container left; in all others three small reads.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::boot::boot_id;
use super::client::start;
use super::protocol::Request;
use super::record::Record;
use super::state::{NEVER, State, Status};
use super::{Containers, Error, Observed, Result};
use crate::container;
use crate::network;
use crate::volume::{Users, Volumes};

/// What was found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Containers whose monitor was gone, and that are known to have ended now.
    pub ended: Vec<String>,
    /// Those that were removed, because they were to go with their end.
    pub removed: Vec<String>,
    /// Those that were started, as they were when the machine went down.
    pub started: Vec<String>,
    /// Those that could not be started, and why.
    pub failed: Vec<(String, String)>,
}

/// Reconciles if the machine has been started since somebody last did, and removes what who was killed
/// has left in the scratch space, and volumes that he has left to no container. Costs three small reads
/// else.
///
/// `networks` is where it is written down who uses which address.
pub fn after_boot(containers: &Containers<'_>, networks: &Path) -> Result<()> {
    containers.store.sweep()?;
    Volumes::open(containers.store)?.sweep_unclaimed(|| super::users(containers))?;
    let path = boot_file(containers);
    if std::fs::read_to_string(&path).is_ok_and(|known| known == boot_id()) {
        return Ok(());
    }
    if containers.ids()?.is_empty() {
        return write_boot(&path);
    }
    reconcile(containers, networks).map(drop)
}

/// Reconciles if one of these was left by its monitor; whether it was so.
pub fn after_death(
    containers: &Containers<'_>,
    seen: &[Observed],
    networks: &Path,
) -> Result<bool> {
    let dead = seen.iter().any(|observed| is_abandoned(&observed.state));
    if dead {
        reconcile(containers, networks)?;
    }
    Ok(dead)
}

/// A monitor that ends by itself says so.
pub(super) fn is_abandoned(state: &State) -> bool {
    !state.status.is_active() && state.monitor != 0
}

/// Writes down what is true, removes what the dead have left, and starts what is to run always.
/// Does nothing while somebody else does it.
pub fn reconcile(containers: &Containers<'_>, networks: &Path) -> Result<Reconciled> {
    let path = boot_file(containers);
    fs::create_dir_all(path.parent().expect("the file is in a directory"))?;
    let lock = File::create(path.with_extension("lock")).map_err(Error::Io)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Reconciled::default()),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let mut done = Reconciled::default();
    let rebooted = std::fs::read_to_string(&path).unwrap_or_default() != boot_id();
    let all = containers.list()?;
    for observed in &all {
        if is_abandoned(&observed.state) {
            write_end(containers, observed, &mut done)?;
        }
    }
    sweep(containers, &all, networks)?;
    // First of all: what fails to start is not tried again by every command.
    write_boot(&path)?;
    if rebooted {
        start_all(containers, &all, networks, &mut done);
    }
    Ok(done)
}

fn boot_file(containers: &Containers<'_>) -> PathBuf {
    containers.store.root().join("run/boot")
}

fn write_boot(path: &Path) -> Result<()> {
    fs::create_dir_all(path.parent().expect("the file is in a directory"))?;
    let temp = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&temp, boot_id())?;
    Ok(fs::rename(temp, path)?)
}

/// Writes down how a container ended whose monitor could not.
fn write_end(containers: &Containers<'_>, seen: &Observed, done: &mut Reconciled) -> Result<()> {
    let Record { id, name, .. } = &seen.record;
    let held = match containers.hold(id) {
        Ok(Some(held)) => held,
        // It is started again, or removed.
        Ok(None) | Err(Error::NotFound(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    if containers.written_state(id)?.monitor == 0 {
        // Another command has done so since it was seen.
        return Ok(());
    }
    let state = State { monitor: 0, ..seen.state.clone() };
    containers.write_state(id, &state)?;
    let code = state.exit_code.to_string();
    containers.tell(&seen.record, "die", &[("exitCode", &code)]);
    done.ended.push(name.clone());
    if seen.record.host_config.auto_remove {
        // A disk so full that nothing can be written down keeps nobody from removing something.
        let volumes = super::removal::part_with(containers, &seen.record, true);
        let away = containers.take_away(id)?;
        drop((held, volumes));
        away.remove()?;
        super::removal::remove_anonymous_volumes(containers, &seen.record.mounts)?;
        containers.tell(&seen.record, "destroy", &[]);
        done.removed.push(name.clone());
    }
    Ok(())
}

/// Removes what dead monitors have left: cgroups, veth pairs and firewall rules, mounted volumes.
fn sweep(containers: &Containers<'_>, all: &[Observed], networks: &Path) -> Result<()> {
    let parents = all.iter().map(|observed| observed.record.host_config.cgroup_parent.as_str());
    let mut parents: Vec<&str> = parents.collect();
    parents.push("");
    parents.sort_unstable();
    parents.dedup();
    for parent in parents {
        container::sweep(Some(parent).filter(|parent| !parent.is_empty()));
    }
    if networks.exists() {
        network::sweep(networks).map_err(io::Error::other)?;
    }
    let running = || {
        let mut users = Users::new();
        for Observed { record, state } in containers.list().map_err(io::Error::other)? {
            for mount in record.mounts.iter().filter(|_| state.status.is_active()) {
                users.entry(mount.point.name.clone()).or_default().push(record.id.clone());
            }
        }
        Ok(users)
    };
    Ok(Volumes::open(containers.store)?.sweep(running)?)
}

/// Whether a container comes up with the machine. `state` is what was known before.
fn comes_up(record: &Record, written: &State) -> bool {
    if written.boot == boot_id() || written.started_at == NEVER {
        return false;
    }
    match record.host_config.restart_policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !written.manually_stopped,
        // It ended with the machine, which is no success.
        "on-failure" => written.status == Status::Exited && is_abandoned(written),
        _ => false,
    }
}

/// Starts all that come up with the machine, the oldest first. One that needs another is tried
/// again when all others are up.
fn start_all(
    containers: &Containers<'_>,
    all: &[Observed],
    networks: &Path,
    done: &mut Reconciled,
) {
    let mut wanted: Vec<&Record> = all
        .iter()
        .rev()
        .filter(|observed| !observed.record.host_config.auto_remove)
        .filter(|observed| comes_up(&observed.record, &observed.state))
        .map(|observed| &observed.record)
        .collect();
    for last in [false, true] {
        wanted.retain(|record| {
            let request = Request::Attach { stdin: false, output: false, starter: true };
            match start(containers, &record.id, networks, request) {
                Ok(_) => {
                    done.started.push(record.name.clone());
                    false
                }
                Err(error) => {
                    if last {
                        done.failed.push((record.name.clone(), super::assemble::causes(&error)));
                    }
                    true
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::RestartPolicy;
    use crate::containers::state::now;

    #[test]
    fn who_reconciles_what_another_has_reconciled_tells_of_no_end() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = cache::Store::open(dir.path()).expect("open");
        let containers = Containers::open(&store).expect("open");
        let record = Record { name: "ended".to_owned(), ..Record::default() };
        let record = containers.add(record).expect("add");
        let state = State { status: Status::Exited, monitor: 7, ..State::default() };
        containers.write_state(&record.id, &state).expect("write");
        // Both have seen it before either has done anything.
        let seen = Observed { record, state };
        let mut done = Reconciled::default();
        for _ in 0..2 {
            write_end(&containers, &seen, &mut done).expect("write");
        }
        assert_eq!(done.ended, ["ended"]);
        let told = fs::read_to_string(dir.path().join("events")).expect("read");
        assert_eq!(told.matches("\"die\"").count(), 2, "as status and as action: {told}");
    }

    #[test]
    fn what_ran_comes_up_with_the_machine_as_its_policy_says() {
        let ran = State {
            status: Status::Exited,
            monitor: 7,
            started_at: now(),
            boot: "another".to_owned(),
            ..State::default()
        };
        let check = |policy: &str, state: &State, expected: bool| {
            let mut record = Record::default();
            let name = policy.to_owned();
            record.host_config.restart_policy = RestartPolicy { name, maximum_retry_count: 0 };
            assert_eq!(comes_up(&record, state), expected, "{policy} {state:?}");
        };
        let ended = State { monitor: 0, ..ran.clone() };
        let stopped = State { manually_stopped: true, ..ended.clone() };
        let created = State { started_at: NEVER.to_owned(), ..ended.clone() };
        let current = State { boot: boot_id(), ..ran.clone() };
        for (policy, expected) in [
            ("no", [false, false, false]),
            ("", [false, false, false]),
            ("on-failure", [true, false, false]),
            ("unless-stopped", [true, true, false]),
            ("always", [true, true, true]),
        ] {
            for (state, expected) in [&ran, &ended, &stopped].into_iter().zip(expected) {
                check(policy, state, expected);
            }
            check(policy, &created, false);
            check(policy, &current, false);
        }
    }
}
