//! Removal of the containers that do not run.
//!
//! Whoever makes a container pins its id as long as it lives (`Containers::add`): `run` makes one
//! that does not run yet, and must not lose it.

use cache::digest::Digest;

use super::{Containers, Error, Record, Result, removal};

/// What a prune removed, or would.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pruned {
    /// The containers.
    pub records: Vec<Record>,
    /// The bytes they held.
    pub bytes: u64,
}

/// The containers that do not run and `chosen` says yes to.
pub fn prunable(
    containers: &Containers<'_>,
    chosen: impl Fn(&Record) -> bool,
) -> Result<Vec<Record>> {
    let all = containers.list()?;
    // After the list: a container on it was pinned before.
    let pinned = containers.store.pinned_by_others()?;
    let is_made = |id: &str| Digest::from_hex(id).is_some_and(|id| pinned.contains(&id));
    let unused = all.into_iter().filter(|one| !one.state.status.is_active());
    let records = unused.map(|one| one.record);
    Ok(records.filter(|record| chosen(record) && !is_made(&record.id)).collect())
}

/// Removes the containers that do not run and `chosen` says yes to. Their volumes stay.
pub fn prune(containers: &Containers<'_>, chosen: impl Fn(&Record) -> bool) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    for record in prunable(containers, chosen)? {
        let bytes = containers.store.bytes_of(&containers.dir(&record.id))?;
        match removal::remove(containers, &record.id, false, false) {
            Ok(_) => {
                pruned.bytes += bytes;
                pruned.records.push(record);
            }
            // It was started or removed meanwhile.
            Err(Error::Running(_) | Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pruned)
}
