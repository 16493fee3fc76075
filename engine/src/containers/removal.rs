//! Ends containers and removes them, with what goes with them.

use std::io;
use std::time::Duration;

use super::client::Client;
use super::protocol::Request;
use super::reconcile::is_abandoned;
use super::{Containers, Error, Record, Result};
use crate::volume::api::Kind;
use crate::volume::{Hold, Resolved, Users, Volumes};

const KILL: i32 = 9;

/// How long a monitor may take to end what it was told to kill.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks a container's program to end, kills it when its time is up, and waits for its end. One that
/// does not run is as it should be.
pub fn stop(
    containers: &Containers<'_>,
    id: &str,
    signal: Option<i32>,
    timeout: Option<i64>,
) -> Result<()> {
    match Client::connect(containers, id, Request::Stop { signal, timeout })? {
        Some(mut client) => client.done(),
        None => Ok(()),
    }
}

/// How a container was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// As it should be.
    Quietly,
    /// Its monitor did not answer and was killed: what it held is left, to be reconciled.
    WithItsMonitor,
    /// Its monitor had been killed before: the same is left.
    Abandoned,
}

/// Removes a container; one that runs only with `force`, which kills it.
pub fn remove(
    containers: &Containers<'_>,
    id: &str,
    force: bool,
    with_volumes: bool,
) -> Result<Removed> {
    let record = containers.record(id);
    let mut removed = Removed::Quietly;
    if force {
        removed = kill(containers, id)?;
        if !containers.dir(id).exists() {
            // It was one that is removed when it ends.
            return Ok(removed);
        }
    }
    let is_left = || containers.observe(id).is_ok_and(|observed| is_abandoned(&observed.state));
    if removed == Removed::Quietly && is_left() {
        removed = Removed::Abandoned;
    }
    let go = |record: &Record| {
        with_volumes || removed != Removed::Quietly && record.host_config.auto_remove
    };
    // A disk so full that nothing can be written down keeps nobody from removing something.
    let hold =
        record.as_ref().ok().and_then(|record| part_with(containers, record, go(record)).ok());
    containers.remove(id).inspect_err(|_| {
        // It stays, with what it has; unless another one has removed it.
        if containers.dir(id).exists() {
            let _ = record.as_ref().map(|record| part_with(containers, record, false));
        }
    })?;
    drop(hold);
    if let Ok(record) = record {
        containers.tell(&record, "destroy", &[]);
        if go(&record) {
            remove_anonymous_volumes(containers, &record.mounts)?;
        }
    }
    Ok(removed)
}

/// Says of the volumes of a container that nobody named whether they go with it, wherever we are
/// killed; to be held until the container is gone.
pub(super) fn part_with(
    containers: &Containers<'_>,
    record: &Record,
    go: bool,
) -> Result<Option<Hold>> {
    let unnamed = unnamed(&record.mounts);
    if unnamed.is_empty() {
        return Ok(None);
    }
    let volumes = Volumes::open(containers.store)?;
    let hold = volumes.hold()?;
    for name in unnamed {
        match go {
            true => volumes.unclaim(&hold, name)?,
            false => volumes.claim(&hold, name)?,
        }
    }
    Ok(Some(hold))
}

/// Kills what runs in a container, by its monitor or with it.
fn kill(containers: &Containers<'_>, id: &str) -> Result<Removed> {
    let request = Request::Stop { signal: Some(KILL), timeout: Some(0) };
    let Some(mut client) = Client::connect(containers, id, request)? else {
        return Ok(Removed::Quietly);
    };
    if client.done_within(PATIENCE)? {
        return Ok(Removed::Quietly);
    }
    client.kill_monitor(containers)?;
    Ok(Removed::WithItsMonitor)
}

/// Removes the volumes of a container that nobody named and nobody else uses.
pub(super) fn remove_anonymous_volumes<'a>(
    containers: &Containers<'_>,
    mounts: impl IntoIterator<Item = &'a Resolved>,
) -> Result<()> {
    let unnamed = unnamed(mounts);
    if unnamed.is_empty() {
        return Ok(());
    }
    let volumes = Volumes::open(containers.store)?;
    for name in unnamed {
        match volumes.remove(name, || users(containers)) {
            Ok(()) => {}
            Err(crate::volume::Error::InUse { .. } | crate::volume::Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The volumes among these mounts that nobody named, as far as they have been made.
fn unnamed<'a>(mounts: impl IntoIterator<Item = &'a Resolved>) -> Vec<&'a str> {
    let mounts = mounts.into_iter().filter(|mount| mount.is_unnamed());
    mounts.map(|mount| mount.point.name.as_str()).filter(|name| !name.is_empty()).collect()
}

/// Which containers use which volumes.
pub fn users(containers: &Containers<'_>) -> io::Result<Users> {
    let mut users = Users::new();
    let ids = containers.ids().map_err(io::Error::other)?;
    for id in ids {
        let record = match containers.record(&id) {
            Ok(record) => record,
            Err(Error::NotFound(_)) => continue,
            Err(error) => return Err(io::Error::other(error)),
        };
        for mount in record.mounts.iter().filter(|mount| mount.point.kind == Kind::Volume) {
            users.entry(mount.point.name.clone()).or_default().push(id.clone());
        }
    }
    Ok(users)
}
