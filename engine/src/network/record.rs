//! Who is connected to a bridge: one file for each container, below the bridge's `endpoints/`.
//!
//! A record is valid only while the lease of its address is taken: a killed process leaves its file
//! and not its lock. Does not know how a container is connected, nor who asks.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use serde::{Deserialize, Serialize};

use super::Error;
use super::files;
use super::lease::Leases;

const DIRECTORY: &str = "endpoints";
/// How long a directory may change without its modification time doing so: more than a tick of the
/// slowest kernel clock.
const GRAIN: Duration = Duration::from_millis(20);

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The container's id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// All names it is known by on this network, the first of them for reverse look-ups.
    pub names: Vec<String>,
    /// What tells this connection from all others.
    pub endpoint_id: String,
    /// The network's id.
    pub network_id: String,
    /// The device inside the container.
    pub device: String,
    /// The device's hardware address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// The length of that address's prefix.
    pub prefix: u8,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// Its IPv6 address, where the network has any.
    pub ipv6: Option<Ipv6Addr>,
    /// The length of that address's prefix.
    pub prefix_ipv6: Option<u8>,
    /// The bridge's IPv6 address.
    pub gateway_ipv6: Option<Ipv6Addr>,
    /// The lease that this record is valid with.
    pub(super) offset: u32,
}

impl EndpointRecord {
    /// The hardware address as people write it.
    pub fn mac_text(&self) -> String {
        Mac(self.mac).to_string()
    }
}

struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Makes a container's record known, in place of an older one.
pub(super) fn write(bridge: &Path, record: &EndpointRecord) -> io::Result<()> {
    let bytes = serde_json::to_vec(record).expect("a record prints into memory");
    files::write_whole(&bridge.join(DIRECTORY), &record.container, &bytes)
}

/// Takes a record back; one that is gone is no failure.
pub(super) fn remove(bridge: &Path, container: &str) -> io::Result<()> {
    match fs_err::remove_file(bridge.join(DIRECTORY).join(container)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes the records whose leases nobody has.
pub(super) fn sweep(
    bridge: &Path,
    is_taken: impl Fn(u32) -> Result<bool, Error>,
) -> Result<(), Error> {
    let failure = |source| Error::Runtime { path: bridge.to_owned(), source };
    for record in read(bridge).map_err(failure)? {
        if !is_taken(record.offset)? {
            remove(bridge, &record.container).map_err(failure)?;
        }
    }
    Ok(())
}

/// All valid records of a bridge, in the order of the containers' ids.
pub(super) fn live(bridge: &Path) -> Result<Vec<EndpointRecord>, Error> {
    if !bridge.join("leases").exists() {
        return Ok(Vec::new());
    }
    match Directory::open(bridge) {
        // Its network has just been removed.
        Err(Error::Runtime { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(Vec::new())
        }
        directory => directory?.records(),
    }
}

/// Every record, valid or not. What is no record is passed over: the next writer replaces it.
fn read(bridge: &Path) -> io::Result<Vec<EndpointRecord>> {
    let directory = bridge.join(DIRECTORY);
    let mut records = Vec::new();
    for name in files::names(&directory)? {
        match fs_err::read(directory.join(name)) {
            Ok(bytes) => records.extend(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

/// The records of a bridge, for who asks often: files are read again only after a change.
pub(super) struct Directory {
    bridge: PathBuf,
    /// Not those of a user: through these all leases are others'.
    leases: Leases,
    read_at: Option<SystemTime>,
    records: Vec<EndpointRecord>,
}

impl Directory {
    pub(super) fn open(bridge: &Path) -> Result<Self, Error> {
        let leases = files::leases(bridge)?;
        Ok(Directory { bridge: bridge.to_owned(), leases, read_at: None, records: Vec::new() })
    }

    /// The valid records.
    pub(super) fn records(&mut self) -> Result<Vec<EndpointRecord>, Error> {
        self.refresh().map_err(|source| Error::Runtime { path: self.bridge.clone(), source })?;
        let valid =
            |record: &&EndpointRecord| self.leases.is_taken(record.offset.into()).unwrap_or(false);
        Ok(self.records.iter().filter(valid).cloned().collect())
    }

    fn refresh(&mut self) -> io::Result<()> {
        let now = SystemTime::now();
        let changed = match fs_err::metadata(self.bridge.join(DIRECTORY)) {
            Ok(metadata) => metadata.modified()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => SystemTime::UNIX_EPOCH,
            Err(error) => return Err(error),
        };
        // A change just before the last reading may have been followed by one that shows no more.
        if self.read_at.is_none_or(|read_at| changed + GRAIN >= read_at) {
            self.records = read(&self.bridge)?;
            self.read_at = Some(now);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::network) fn record(
        container: &str,
        offset: u32,
        names: &[&str],
    ) -> EndpointRecord {
        EndpointRecord {
            container: container.to_owned(),
            name: names[0].to_owned(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            endpoint_id: String::new(),
            network_id: String::new(),
            device: "eth0".to_owned(),
            mac: [2, 0x42, 0, 0, 0, 0xff],
            ipv4: Ipv4Addr::from_bits(0xac12_0000 + offset),
            prefix: 16,
            gateway: Ipv4Addr::new(172, 18, 0, 1),
            ipv6: None,
            prefix_ipv6: None,
            gateway_ipv6: None,
            offset,
        }
    }

    #[test]
    fn a_record_is_valid_while_its_lease_is_taken() {
        let bridge = tempfile::tempdir().unwrap();
        let leases = files::leases(bridge.path()).unwrap();
        let names = |directory: &mut Directory| -> Vec<String> {
            directory.records().unwrap().into_iter().map(|record| record.name).collect()
        };
        let mut directory = Directory::open(bridge.path()).unwrap();
        assert!(names(&mut directory).is_empty());
        for (container, offset) in [("aa", 2), ("bb", 3)] {
            assert!(leases.take_exactly(offset.into()).unwrap());
            write(bridge.path(), &record(container, offset, &[container])).unwrap();
            // Read at once, when the directory's time may not tell one change from the next.
            assert!(names(&mut directory).contains(&container.to_owned()));
        }
        leases.give_back(2).unwrap();
        assert_eq!(names(&mut directory), ["bb"]);
        sweep(bridge.path(), |offset| Ok(leases.is_taken(offset.into()).unwrap() || offset == 3))
            .unwrap();
        assert_eq!(files::names(&bridge.path().join(DIRECTORY)).unwrap(), ["bb"]);
        remove(bridge.path(), "bb").unwrap();
        remove(bridge.path(), "bb").unwrap();
        assert!(live(bridge.path()).unwrap().is_empty());
        assert_eq!(record("aa", 2, &["a"]).mac_text(), "02:42:00:00:00:ff");
    }
}
