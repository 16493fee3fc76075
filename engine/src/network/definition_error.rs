//! Why a network is not defined, found or removed: docker's words where it has any.

use std::io;
use std::path::PathBuf;

use super::Error;

/// Why a network is not defined, found or removed. The words are docker's where it has any.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// A file in the store cannot be used.
    #[error("use the network's definition {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The machine's networks are not to be had.
    #[error(transparent)]
    Network(#[from] Error),
    /// Two networks may not have one name.
    #[error("network with name {name} already exists")]
    NameInUse {
        /// The name.
        name: String,
    },
    /// What has no name that a file can have.
    #[error(
        "invalid network name {name:?}: begin with a letter or digit, and use letters, digits, \
         '_', '.' and '-'"
    )]
    InvalidName {
        /// The name.
        name: String,
    },
    /// The predefined networks are what they are.
    #[error("operation is not permitted on predefined {name} network")]
    Predefined {
        /// The name.
        name: String,
    },
    /// The predefined networks stay.
    #[error("{name} is a pre-defined network and cannot be removed")]
    RemovePredefined {
        /// The name.
        name: String,
    },
    /// No network has that name or id.
    #[error("network {name} not found")]
    NotFound {
        /// What was looked for.
        name: String,
    },
    /// Several networks' ids begin so.
    #[error("network {name} is ambiguous ({count} matches found on ID prefix)")]
    Ambiguous {
        /// What was looked for.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// Containers are connected.
    #[error("network {name} has active endpoints ({}): disconnect or stop them", users.join(", "))]
    InUse {
        /// The network's name.
        name: String,
        /// Who is connected.
        users: Vec<String>,
    },
    /// There is but the one driver.
    #[error("network driver {driver:?} is not supported: use bridge")]
    Driver {
        /// What was asked for.
        driver: String,
    },
    /// A name that no device can have.
    #[error("invalid bridge name {name:?}: a device's name has at most 15 characters")]
    BridgeName {
        /// The name.
        name: String,
    },
    /// Another network has the bridge.
    #[error("bridge name {bridge} is already used by network {network}")]
    BridgeNameInUse {
        /// The device.
        bridge: String,
        /// The network.
        network: String,
    },
    /// The machine has a device of the bridge's name already.
    #[error("the device {bridge} exists and is not this network's: choose another bridge name")]
    DeviceExists {
        /// The device.
        bridge: String,
    },
    /// The default bridge's subnet is not for users to rely on.
    #[error("user specified IP address is supported on user defined networks only")]
    FixedAddress,
    /// An option's value makes no sense.
    #[error("invalid value {value:?} for the option {name}")]
    Option {
        /// The option.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A definition that was made by somebody else.
    #[error("network {name} has no IPv4 subnet")]
    NoIpv4 {
        /// The network's name.
        name: String,
    },
    /// A range or gateway of nothing.
    #[error("every ip-range or gateway must have a corresponding subnet")]
    WithoutSubnet,
    /// Subnets that share addresses.
    #[error("multiple overlapping subnet configuration is not supported")]
    OverlappingSubnets,
    /// More than one subnet of a kind.
    #[error("bridge driver doesn't support multiple subnets")]
    MultipleSubnets,
    /// A text that is nothing of its kind.
    #[error("invalid {what} {text}")]
    Invalid {
        /// What it should be.
        what: &'static str,
        /// What was given.
        text: String,
    },
    /// A subnet by one of its inner addresses.
    #[error("invalid {what} {text}: it should be {should_be}")]
    HostBits {
        /// What it is.
        what: &'static str,
        /// What was given.
        text: String,
        /// What was meant.
        should_be: String,
    },
    /// A subnet without room.
    #[error("subnet {subnet} has no address for a container")]
    SmallSubnet {
        /// The subnet.
        subnet: String,
    },
    /// An IPv6 subnet without `--ipv6`.
    #[error("invalid subnet {subnet}: IPv6 has not been enabled")]
    Ipv6Disabled {
        /// The subnet.
        subnet: String,
    },
    /// Something that is in no subnet of the network.
    #[error("no matching subnet for {what} {text}")]
    NoMatchingSubnet {
        /// What it is.
        what: &'static str,
        /// What was given.
        text: String,
    },
    /// A subnet has one of each.
    #[error("cannot configure multiple {what} ({second}, {first}) on the same subnet ({subnet})")]
    Twice {
        /// What there are two of.
        what: &'static str,
        /// The first.
        first: String,
        /// The second.
        second: String,
        /// The subnet.
        subnet: String,
    },
    /// Another network has some of the addresses.
    #[error("Pool overlaps with other one on this address space")]
    PoolOverlaps {
        /// The subnet.
        subnet: String,
    },
    /// There is nothing to choose from.
    #[error("all predefined address pools have been fully subnetted")]
    NoPoolLeft,
}
