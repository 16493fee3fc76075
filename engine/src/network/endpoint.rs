//! A container's place on a network: an address that nobody else has, and a device in the
//! container's namespace.
//!
//! Does not know what runs in the namespace, nor which networks a container should be on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::bridge::{Leased, Network};
use super::definition::{Driver, NetworkDefinition};
use super::definition_error::DefinitionError;
use super::definitions::random_id;
use super::files::Files;
use super::namespace::NetworkNamespace;
use super::record::{self, EndpointRecord};
use super::{Error, nat};

/// What a container wants of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointRequest {
    /// The container's id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// What others may find it by beside its name: aliases, the short id, the host name.
    pub aliases: Vec<String>,
    /// The IPv4 address it must have, unless any.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address it must have, unless any.
    pub ipv6: Option<Ipv6Addr>,
    /// The hardware address it must have, unless one that goes with the IPv4 address.
    pub mac: Option<[u8; 6]>,
}

/// A connection to a network. The address is nobody else's while this lives.
///
/// Dropped, it leaves the device to the end of the namespace; see [`Endpoint::disconnect`].
pub struct Endpoint {
    network: Network,
    leased: Leased,
    record: EndpointRecord,
}

impl Endpoint {
    /// Connects a namespace to a network by its next free device (`eth0`, `eth1`, …).
    ///
    /// `runtime` is as for [`Network::open`]. The first network with a way out gets the default
    /// route. A network without a bridge is refused: it has nothing to connect to.
    pub fn connect(
        runtime: &Path,
        definition: &NetworkDefinition,
        namespace: &NetworkNamespace,
        request: &EndpointRequest,
    ) -> Result<Self, DefinitionError> {
        if definition.kind() != Driver::Bridge {
            return Err(DefinitionError::Predefined { name: definition.name.clone() });
        }
        if definition.is_predefined() && (request.ipv4.is_some() || request.ipv6.is_some()) {
            return Err(DefinitionError::FixedAddress);
        }
        let plan = definition.plan()?;
        let network = Network::open_planned(runtime, &definition.bridge_name(), &plan)?;
        let leased = network.lease(request.ipv4, request.ipv6)?;
        let connect = || {
            let device = free_device(namespace)?;
            // What a killed process published at this address is not this container's.
            forget_published(&network, &leased)?;
            let mac = network.connect(namespace, &device, &leased, request.mac)?;
            Ok((device, mac))
        };
        let (device, mac) = connect().inspect_err(|_: &Error| network.give_back(&leased))?;
        let bridge = network.bridge();
        let record = EndpointRecord {
            container: request.container.clone(),
            name: request.name.clone(),
            names: names(&request.name, &request.aliases),
            endpoint_id: random_id().map_err(|source| failure(&network, source))?,
            network_id: definition.id.clone(),
            device,
            mac,
            ipv4: leased.ipv4,
            prefix: bridge.ipv4.prefix(),
            gateway: bridge.gateway,
            ipv6: leased.ipv6,
            prefix_ipv6: leased.ipv6.and(bridge.ipv6).map(|subnet| subnet.prefix()),
            gateway_ipv6: leased.ipv6.and(bridge.gateway_ipv6),
            offset: leased.offset,
        };
        // Whatever fails from here on drops the endpoint, and with it the lease.
        let endpoint = Endpoint { network, leased, record };
        if let Err(error) = endpoint.tell() {
            let _ = endpoint.network.disconnect(&endpoint.leased);
            return Err(error.into());
        }
        Ok(endpoint)
    }

    /// All that others are told of this connection.
    pub fn record(&self) -> &EndpointRecord {
        &self.record
    }

    /// The bridge's directory, where others find each other.
    pub fn directory(&self) -> PathBuf {
        self.network.directory.clone()
    }

    /// Whether there is a way out over this network.
    pub fn leads_outside(&self) -> bool {
        self.network.leads_outside()
    }

    /// Tells others new names of the container.
    pub fn rename(&mut self, name: &str, aliases: &[String]) -> Result<(), Error> {
        self.record.name = name.to_owned();
        self.record.names = names(name, aliases);
        self.tell()
    }

    /// Has what is for nowhere else go over this network, unless the namespace has such a way: for
    /// after the network that had it was disconnected.
    pub fn route_by_default(&self, namespace: &NetworkNamespace) -> Result<(), Error> {
        self.network.route_by_default(namespace)
    }

    /// Takes the device out of the namespace, which lives on.
    pub fn disconnect(self) -> Result<(), Error> {
        self.network.disconnect(&self.leased)
    }

    /// Publishes ports of the container, instead of those that were.
    pub(super) fn publish(&self, redirects: &[nat::Redirect]) -> Result<(), Error> {
        let name = &self.network.bridge().name;
        if redirects.is_empty() {
            return forget_published(&self.network, &self.leased);
        }
        super::sysctl::route_loopback(name).map_err(|source| Error::Forward { source })?;
        self.network
            .let_answer_itself(&self.leased)
            .and_then(|()| nat::publish(name, self.leased.offset, redirects))
            .map_err(|source| Error::Publish { address: self.leased.ipv4.into(), source })
    }

    /// Whoever sweeps has the lock, and so never takes this record for the one it replaces.
    fn tell(&self) -> Result<(), Error> {
        let directory = &self.network.directory;
        let runtime = directory.parent().expect("a bridge's directory is in the runtime's");
        let _files = Files::lock(runtime, &self.network.bridge().name)?;
        record::write(directory, &self.record).map_err(|source| failure(&self.network, source))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // What is left without a lease is worth nothing, and swept.
        let _ = forget_published(&self.network, &self.leased);
        let _ = record::remove(&self.network.directory, &self.record.container);
        self.network.give_back(&self.leased);
    }
}

fn forget_published(network: &Network, leased: &Leased) -> Result<(), Error> {
    nat::unpublish(&network.bridge().name, leased.offset)
        .map_err(|source| Error::Publish { address: IpAddr::V4(leased.ipv4), source })
}

fn failure(network: &Network, source: std::io::Error) -> Error {
    Error::Runtime { path: network.directory.clone(), source }
}

/// The container's name first, each name once.
fn names(name: &str, aliases: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in std::iter::once(name).chain(aliases.iter().map(String::as_str)) {
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn free_device(namespace: &NetworkNamespace) -> Result<String, Error> {
    let refused = |source| Error::Connect { object: "a device of the container".into(), source };
    let present = namespace.devices().map_err(refused)?;
    let name = |index: u32| format!("eth{index}");
    Ok((0..).map(name).find(|name| !present.contains(name)).expect("names do not end"))
}

/// A text that is no hardware address of a device.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address {text:?}: expected six bytes such as 02:42:ac:12:00:05")]
pub struct InvalidMac {
    /// What was given.
    pub text: String,
}

/// Reads a hardware address (`--mac-address`); one of a group is refused, for no device may have it.
pub fn parse_mac(text: &str) -> Result<[u8; 6], InvalidMac> {
    let invalid = || InvalidMac { text: text.to_owned() };
    let is_byte = |part: &&str| part.len() == 2 && !part.starts_with('+');
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(is_byte).ok_or_else(invalid)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
    }
    if parts.next().is_some() || mac[0] & 1 == 1 || mac == [0; 6] {
        return Err(invalid());
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_six_bytes() {
        assert_eq!(parse_mac("02:42:AC:12:00:05"), Ok([2, 0x42, 0xac, 0x12, 0, 5]));
        assert_eq!(parse_mac("02-42-ac-12-00-05"), Ok([2, 0x42, 0xac, 0x12, 0, 5]));
        for text in [
            "",
            "02:42:ac:12:00",
            "02:42:ac:12:00:05:06",
            "2:42:ac:12:0:5",
            "+2:42:ac:12:00:05",
            "01:00:00:00:00:00",
            "00:00:00:00:00:00",
        ] {
            assert!(parse_mac(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_name_is_told_once() {
        let aliases = ["web", "db", "", "db"].map(str::to_owned);
        assert_eq!(names("db", &aliases), ["db", "web"]);
    }
}
