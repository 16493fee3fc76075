//! Container networks: bridges with NAT, and network namespaces that are connected to them.
//!
//! [`Network`] is a bridge in use, [`NetworkPool`] has connected namespaces ready before a build
//! asks for them. [`Definitions`] are the networks that users made, [`Endpoint`] is a container's
//! place on one, [`Ports`] are the host's ports that lead to it, [`Dns`] answers it about names,
//! [`resolv`] writes what it reads about its network. All is done by netlink; no `ip`, `iptables`
//! or `nft` program is needed. Processes share a bridge without knowing each other: see `bridge`
//! and `files` for how. What a process has here ends with it; [`sweep`](sweep()) removes what is left.
//!
//! Does not know images, steps or what runs in a container.

mod bridge;
mod definition;
mod definition_error;
mod definitions;
mod dns;
mod endpoint;
mod files;
mod ipam;
mod lease;
mod link;
mod namespace;
mod nat;
mod netlink;
mod nftables;
mod plan;
mod pool;
mod publish;
mod record;
mod reservation;
pub mod resolv;
mod subnet;
mod sweep;
mod sysctl;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

pub use bridge::{Attachment, Network};
pub use definition::{ConfigFrom, ConnectedContainer, Driver, Ipam, IpamConfig, NetworkDefinition};
pub use definition_error::DefinitionError;
pub use definitions::{Definitions, NetworkRequest};
pub use dns::{Dns, DnsError, NAME_SERVER, Zone};
pub use endpoint::{Endpoint, EndpointRequest, InvalidMac, parse_mac};
pub use ipam::Asked as AskedAddresses;
pub use namespace::NetworkNamespace;
pub use netlink::Refusal;
pub use plan::{Bridge, Subnets};
pub use pool::{Lease, NetworkPool};
pub use publish::{
    ContainerPort, Holder, HostPorts, InvalidPort, PortBinding, PortError, PortMapping, Ports,
    Protocol, parse_expose, parse_publish,
};
pub use record::EndpointRecord;
pub use subnet::{Address, InvalidSubnet, Subnet};
pub use sweep::sweep;

/// The name of the bridge behind which containers are that asked for no other network.
pub const DEFAULT_BRIDGE: &str = "rbuild0";

/// What went wrong with a network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory through which processes share bridges is of no use.
    #[error("lock the network's runtime directory {}", path.display())]
    Runtime {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A bridge, its addresses or its firewall rules could not be made.
    #[error("set up the bridge {name}")]
    SetUpBridge {
        /// The bridge's name.
        name: String,
        /// What the kernel would not do.
        source: Refusal,
    },
    /// A bridge of that name has users who rely on other subnets.
    #[error("the bridge {name} is in use with other subnets")]
    BridgeInUse {
        /// The bridge's name.
        name: String,
    },
    /// The machine would not forward packets.
    #[error("enable packet forwarding")]
    Forward {
        /// Why, with the parameter's path.
        source: io::Error,
    },
    /// A namespace could not be made.
    #[error("create a network namespace")]
    CreateNamespace {
        /// Why.
        source: io::Error,
    },
    /// A namespace's device could not be made or configured.
    #[error("connect {object}")]
    Connect {
        /// The device.
        object: String,
        /// What the kernel would not do.
        source: Refusal,
    },
    /// The kernel has no more ports for a bridge.
    #[error("the bridge {name} has all the containers it can have (1023): use another network")]
    BridgeFull {
        /// The bridge's name.
        name: String,
    },
    /// What was left of a network could not be removed.
    #[error("remove what is left of the bridge {name}")]
    Sweep {
        /// The bridge's name.
        name: String,
        /// What the kernel would not do.
        source: Refusal,
    },
    /// All the ranges to choose from are routed somewhere.
    #[error("no private IPv4 range is free for a bridge: name one")]
    NoFreeSubnet,
    /// A network's definition went while it was about to be used.
    #[error("the network was removed: {} is gone", definition.display())]
    Removed {
        /// The definition's file.
        definition: PathBuf,
    },
    /// Another of our bridges has the subnet, or a part of it.
    #[error("the subnet {subnet} overlaps that of the bridge {other}: remove one of the networks")]
    SubnetInUse {
        /// The subnet.
        subnet: Subnet<Ipv4Addr>,
        /// The bridge that is there.
        other: String,
    },
    /// A namespace could not be entered.
    #[error("open the network namespace {}", path.display())]
    OpenNamespace {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A device could not be given IPv6.
    #[error("enable IPv6 on {device}")]
    AllowIpv6 {
        /// The device, inside its namespace.
        device: String,
        /// Why, with the parameter's path.
        source: io::Error,
    },
    /// A container's ports could not be published, or taken back.
    #[error("publish the ports of {address}")]
    Publish {
        /// The container's address.
        address: IpAddr,
        /// What the kernel would not do.
        source: Refusal,
    },
    /// An address was asked for that the network does not have.
    #[error("no configured subnet contains IP address {address}")]
    OutsideSubnet {
        /// The address.
        address: IpAddr,
    },
    /// An address was asked for that somebody has.
    #[error("{address}: Address already in use")]
    AddressInUse {
        /// The address.
        address: IpAddr,
    },
    /// All addresses are leased.
    #[error("no address is free in {subnet}")]
    NoFreeAddress {
        /// Where one was looked for.
        subnet: Subnet<Ipv4Addr>,
    },
}
