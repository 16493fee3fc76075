//! Container networks: a bridge with NAT, and network namespaces that are connected to it.
//!
//! [`Network`] is a bridge in use, [`NetworkPool`] has connected namespaces ready before they are
//! asked for, [`resolv`] writes what a container reads about its network. All is done by netlink;
//! no `ip`, `iptables` or `nft` program is needed. Processes share a bridge without knowing each
//! other: see `bridge` for how.
//!
//! Does not know images, steps or containers, publishes no ports and answers no DNS.

mod bridge;
mod lease;
mod link;
mod namespace;
mod nat;
mod netlink;
mod nftables;
mod pool;
pub mod resolv;
mod subnet;
mod sysctl;

#[cfg(test)]
mod tests;

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

pub use bridge::{Attachment, Bridge, Network, Subnets, sweep};
pub use namespace::NetworkNamespace;
pub use netlink::Refusal;
pub use pool::{Lease, NetworkPool};
pub use subnet::{Address, InvalidSubnet, Subnet};

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
    /// All addresses are leased.
    #[error("no address is free in {subnet}")]
    NoFreeAddress {
        /// Where one was looked for.
        subnet: Subnet<Ipv4Addr>,
    },
}
