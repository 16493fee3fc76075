//! The subnets that definitions keep, told to all stores of the machine: two stores do not know
//! each other's definitions, and their bridges share one routing table.
//!
//! A reservation is a file beside the bridge's others, made and removed by who has their lock. It is
//! worth nothing once its definition is gone, or another network's, and is made again when the
//! network is used after a reboot.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use fs_err::File;
use serde::{Deserialize, Serialize};

use super::Error;
use super::definition::NetworkDefinition;
use super::files::{self, Files};
use super::subnet::Subnet;

const NAME: &str = "reservation";

/// What one definition keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reservation {
    /// The definition's file.
    pub(super) definition: PathBuf,
    pub(super) ipv4: Subnet<Ipv4Addr>,
    pub(super) ipv6: Option<Subnet<Ipv6Addr>>,
}

/// Whoever holds it is the only one to choose subnets.
pub(super) fn lock(runtime: &Path) -> Result<File, Error> {
    let lock = || {
        fs_err::create_dir_all(runtime)?;
        let file = File::create(runtime.join(".subnets"))?;
        file.file().lock().map(|()| file)
    };
    lock().map_err(|source| Error::Runtime { path: runtime.to_owned(), source })
}

impl Reservation {
    /// Whether the network that this bridge is made for still has it. A network may have been
    /// removed, and another one made that has its name and a bridge of its own.
    pub(super) fn is_kept(&self, bridge: &str) -> bool {
        NetworkDefinition::read(&self.definition).is_ok_and(|definition| {
            definition.bridge_name() == bridge
                && definition.subnets() == (Some(self.ipv4), self.ipv6)
        })
    }
}

/// Keeps subnets for a bridge.
pub(super) fn write(files: &Files, reservation: &Reservation) -> Result<(), Error> {
    let bytes = serde_json::to_vec(reservation).expect("a reservation prints into memory");
    if fs_err::read(files.directory.join(NAME)).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    files::write_whole(&files.directory, NAME, &bytes).map_err(|source| files.failure(source))
}

/// All reservations whose networks are there.
pub(super) fn all(runtime: &Path) -> Result<Vec<Reservation>, Error> {
    let failure = |source| Error::Runtime { path: runtime.to_owned(), source };
    let mut reservations = Vec::new();
    for bridge in files::names(runtime).map_err(failure)? {
        let found = read(&runtime.join(&bridge));
        reservations.extend(found.filter(|reservation| reservation.is_kept(&bridge)));
    }
    Ok(reservations)
}

/// Whether a network keeps subnets for the bridge.
pub(super) fn is_there(files: &Files, bridge: &str) -> bool {
    read(&files.directory).is_some_and(|reservation| reservation.is_kept(bridge))
}

fn read(directory: &Path) -> Option<Reservation> {
    let bytes = fs_err::read(directory.join(NAME)).ok()?;
    serde_json::from_slice(&bytes).ok()
}
