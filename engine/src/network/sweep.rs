//! What nobody uses any more, removed: by the commands that prune, and by those that end while
//! nobody waits.
//!
//! Who lives is told by locks alone (see `lease`). Does not know what a container is.

use std::path::Path;

use super::bridge::{delete, port_address, remove};
use super::files::{self, Files};
use super::netlink::Socket;
use super::subnet::Subnet;
use super::{Error, link, nat, record, reservation};

/// Removes what nobody uses in the networks of this directory: bridges without users, their
/// firewall tables, and the veth pairs of addresses that are not leased.
///
/// It costs some fifty milliseconds for each bridge that goes. What is set up stays up until
/// somebody calls this: a command that prunes, or a process that ends while nobody waits for it.
pub fn sweep(directory: &Path) -> Result<(), Error> {
    let failure = |source| Error::Runtime { path: directory.to_owned(), source };
    for name in files::names(directory).map_err(failure)? {
        let files = Files::lock(directory, &name)?;
        match reservation::is_there(&files, &name) {
            true => drop(sweep_bridge(&files, &name)?),
            false => sweep_away(files, &name)?,
        }
    }
    Ok(())
}

/// Removes what nobody uses of one bridge, and its files with it if that is all.
pub(super) fn sweep_away(files: Files, name: &str) -> Result<(), Error> {
    if sweep_bridge(&files, name)? { files.remove() } else { Ok(()) }
}

/// As [`sweep`], for one bridge; whether it is gone.
fn sweep_bridge(files: &Files, name: &str) -> Result<bool, Error> {
    let refused = |source| Error::Sweep { name: name.to_owned(), source };
    let socket = Socket::route().map_err(refused)?;
    let leases = files.leases()?;
    let unused = leases.is_unused().map_err(|source| files.failure(source))?;
    let is_taken = |offset: u32| match unused {
        true => Ok(false),
        false => leases.is_taken(offset.into()).map_err(|source| files.failure(source)),
    };
    let mut ports = Vec::new();
    if let Some(bridge) = link::find(&socket, name).map_err(refused)? {
        let (own, _) = link::addresses(&socket, bridge.index).map_err(refused)?;
        let subnet = own.map(|(address, prefix)| Subnet::new(address, prefix));
        for port in link::list(&socket).map_err(refused)? {
            let offset = port_address(&port.name).and_then(|address| subnet?.offset(address));
            let (Some(offset), true) = (offset, port.master == Some(bridge.index)) else {
                continue;
            };
            if !is_taken(offset)? {
                ports.push(port);
            }
        }
    }
    if unused {
        remove(&socket, name, &ports).map_err(refused)?;
    } else {
        for offset in nat::published(name).map_err(refused)? {
            if !is_taken(offset)? {
                nat::unpublish(name, offset).map_err(refused)?;
            }
        }
        for port in ports {
            delete(&socket, port.index).map_err(refused)?;
        }
    }
    record::sweep(&files.directory, is_taken)?;
    Ok(unused)
}
