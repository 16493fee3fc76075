//! The subnets that definitions keep, told to all stores of the machine: two stores do not know
//! each other's definitions, and their bridges share one routing table.
//!
//! A reservation is a file beside the bridge's others. It is worth nothing once its definition is
//! gone, and is made again when the network is used after a reboot.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use fs_err::File;
use serde::{Deserialize, Serialize};

use super::subnet::Subnet;
use super::{Error, files};

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

/// Keeps subnets for a bridge.
pub(super) fn write(runtime: &Path, bridge: &str, reservation: &Reservation) -> Result<(), Error> {
    let directory = runtime.join(bridge);
    let bytes = serde_json::to_vec(reservation).expect("a reservation prints into memory");
    if fs_err::read(directory.join(NAME)).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    files::write_whole(&directory, NAME, &bytes)
        .map_err(|source| Error::Runtime { path: directory, source })
}

/// All reservations whose definitions are there.
pub(super) fn all(runtime: &Path) -> Result<Vec<Reservation>, Error> {
    let failure = |source| Error::Runtime { path: runtime.to_owned(), source };
    let mut reservations: Vec<Reservation> = Vec::new();
    for bridge in files::names(runtime).map_err(failure)? {
        let Ok(bytes) = fs_err::read(runtime.join(bridge).join(NAME)) else { continue };
        reservations.extend(serde_json::from_slice(&bytes).ok());
    }
    reservations.retain(|reservation| reservation.definition.exists());
    Ok(reservations)
}

/// Whether a bridge's directory has a reservation whose definition is gone.
pub(super) fn is_stale(directory: &Path) -> bool {
    let reservation = fs_err::read(directory.join(NAME)).ok();
    let reservation = reservation.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    reservation.is_some_and(|reservation: Reservation| !reservation.definition.exists())
}
