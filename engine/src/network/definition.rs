//! What a user-made network is: a value in the shape of docker's API, as `network inspect` shows it
//! and as its file in the store has it.
//!
//! Does not know where definitions are kept, nor whether a bridge is up.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DEFAULT_BRIDGE;
use super::definition_error::DefinitionError;
use super::plan::{Outside, Plan, Subnets};
use super::record::EndpointRecord;
use super::reservation::Reservation;
use super::subnet::{Address, Subnet};

/// Docker's options of the driver `bridge` that mean something here.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const MTU: &str = "com.docker.network.driver.mtu";
/// The longest name of a device.
const LONGEST_DEVICE: usize = 15;

/// A network, predefined or made by a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkDefinition {
    /// What people call it.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// When it was made, in RFC 3339.
    pub created: String,
    /// Always `local`.
    pub scope: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// Whether containers get IPv4 addresses.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Whether containers get IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Where addresses come from.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Whether there is no way out.
    pub internal: bool,
    /// Of no meaning outside of a swarm.
    pub attachable: bool,
    /// Of no meaning outside of a swarm.
    pub ingress: bool,
    /// Of no meaning outside of a swarm.
    pub config_from: ConfigFrom,
    /// Of no meaning outside of a swarm.
    pub config_only: bool,
    /// Who is connected, by container id; only an inspection fills it.
    pub containers: BTreeMap<String, ConnectedContainer>,
    /// What the driver is told.
    pub options: BTreeMap<String, String>,
    /// What people say about it.
    pub labels: BTreeMap<String, String>,
    /// Its file, where it has one.
    #[serde(skip)]
    pub(super) path: Option<PathBuf>,
}

/// Where a network's addresses come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipam {
    /// Always `default`.
    pub driver: String,
    /// Of no meaning to that driver.
    pub options: Option<BTreeMap<String, String>>,
    /// One for each kind of address.
    pub config: Vec<IpamConfig>,
}

/// A subnet of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpamConfig {
    /// The subnet.
    pub subnet: String,
    /// The part of it that addresses are leased from.
    #[serde(rename = "IPRange", default, skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    /// The bridge's address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses that no container gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// A network whose settings another one has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigFrom {
    /// Its name.
    pub network: String,
}

/// A container as an inspection of its network shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConnectedContainer {
    /// The container's name.
    pub name: String,
    /// What tells this connection from all others.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Its hardware address.
    pub mac_address: String,
    /// Its address with the length of the prefix.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// Its IPv6 address with the length of the prefix, or nothing.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

impl From<&EndpointRecord> for ConnectedContainer {
    fn from(record: &EndpointRecord) -> Self {
        let ipv6 = record.ipv6.zip(record.prefix_ipv6);
        ConnectedContainer {
            name: record.name.clone(),
            endpoint_id: record.endpoint_id.clone(),
            mac_address: record.mac_text(),
            ipv4_address: format!("{}/{}", record.ipv4, record.prefix),
            ipv6_address: ipv6.map_or_else(String::new, |(ip, prefix)| format!("{ip}/{prefix}")),
        }
    }
}

/// How a network's containers are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Behind a bridge.
    Bridge,
    /// In the host's own network.
    Host,
    /// Not at all.
    None,
}

impl NetworkDefinition {
    /// A predefined network.
    pub(super) fn predefined(name: &str, id: String, driver: Driver) -> Self {
        let driver = match driver {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::None => "null",
        };
        NetworkDefinition {
            name: name.to_owned(),
            id,
            created: "0001-01-01T00:00:00Z".to_owned(),
            scope: "local".to_owned(),
            driver: driver.to_owned(),
            enable_ipv4: true,
            enable_ipv6: false,
            ipam: Ipam { driver: "default".to_owned(), ..Ipam::default() },
            internal: false,
            attachable: false,
            ingress: false,
            config_from: ConfigFrom::default(),
            config_only: false,
            containers: BTreeMap::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            path: None,
        }
    }

    /// How its containers are connected.
    pub fn kind(&self) -> Driver {
        match self.driver.as_str() {
            "host" => Driver::Host,
            "null" => Driver::None,
            _ => Driver::Bridge,
        }
    }

    /// Whether it is there without anybody having made it.
    pub fn is_predefined(&self) -> bool {
        self.path.is_none()
    }

    /// Whether containers find each other by name on it.
    pub fn has_dns(&self) -> bool {
        !self.is_predefined() && self.kind() == Driver::Bridge
    }

    /// The name of its bridge.
    pub fn bridge_name(&self) -> String {
        if self.is_predefined() {
            return DEFAULT_BRIDGE.to_owned();
        }
        match self.options.get(BRIDGE_NAME) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("br-{}", &self.id[..12.min(self.id.len())]),
        }
    }

    /// The host's address that its containers' ports are published on, unless they say which.
    pub fn host_binding(&self) -> Option<IpAddr> {
        self.options.get(HOST_BINDING)?.parse().ok()
    }

    /// Its subnets, as far as they are known.
    pub fn subnets(&self) -> (Option<Subnet<Ipv4Addr>>, Option<Subnet<Ipv6Addr>>) {
        (
            self.config::<Ipv4Addr>().map(|(subnet, _)| subnet),
            self.config::<Ipv6Addr>().map(|(subnet, _)| subnet),
        )
    }

    /// Checks what the driver is told.
    pub(super) fn check(&self) -> Result<(), DefinitionError> {
        let bridge = self.bridge_name();
        if bridge.len() > LONGEST_DEVICE || bridge.contains(['/', ' ', '.']) {
            return Err(DefinitionError::BridgeName { name: bridge });
        }
        self.mtu().map(drop)?;
        self.masquerade().map(drop)
    }

    /// A user's network, as its file has it.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let definition = serde_json::from_slice(&fs_err::read(path)?)?;
        Ok(NetworkDefinition { path: Some(path.to_owned()), ..definition })
    }

    /// The subnets that are to be no other network's.
    pub(super) fn reservation(&self) -> Option<Reservation> {
        let (definition, (ipv4, ipv6)) = (self.path.clone()?, self.subnets());
        Some(Reservation { definition, ipv4: ipv4?, ipv6 })
    }

    /// The bridge that it is.
    pub(super) fn plan(&self) -> Result<Plan, DefinitionError> {
        if self.is_predefined() {
            return Ok(Plan::new(Subnets::Free));
        }
        let Some((ipv4, config)) = self.config::<Ipv4Addr>() else {
            return Err(DefinitionError::NoIpv4 { name: self.name.clone() });
        };
        let mut plan = Plan::new(Subnets::Fixed(ipv4, self.subnets().1));
        plan.gateway = config.gateway.parse().ok();
        plan.range = config.ip_range.parse().ok();
        if let Some((_, config)) = self.config::<Ipv6Addr>() {
            plan.gateway_ipv6 = config.gateway.parse().ok();
            plan.range_ipv6 = config.ip_range.parse().ok();
        }
        plan.excluded = self.auxiliary();
        plan.mtu = self.mtu()?;
        plan.outside = match (self.internal, self.masquerade()?) {
            (true, _) => Outside::Unreachable,
            (false, true) => Outside::Masqueraded,
            (false, false) => Outside::Routed,
        };
        plan.reservation = self.reservation();
        Ok(plan)
    }

    /// Addresses that no container gets.
    fn auxiliary(&self) -> BTreeSet<IpAddr> {
        let all = self.ipam.config.iter().flat_map(|config| config.auxiliary_addresses.values());
        all.filter_map(|address| address.parse().ok()).collect()
    }

    fn config<A: Address>(&self) -> Option<(Subnet<A>, &IpamConfig)> {
        self.ipam.config.iter().find_map(|config| Some((config.subnet.parse().ok()?, config)))
    }

    fn mtu(&self) -> Result<Option<u32>, DefinitionError> {
        self.option(MTU, |text| text.parse().ok().filter(|mtu| (68..=65_535).contains(mtu)))
    }

    fn masquerade(&self) -> Result<bool, DefinitionError> {
        let truth = |text: &str| match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        };
        Ok(self.option(MASQUERADE, truth)?.unwrap_or(true))
    }

    fn option<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, DefinitionError> {
        let Some(value) = self.options.get(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let invalid = || DefinitionError::Option { name, value: value.clone() };
        parse(value).map(Some).ok_or_else(invalid)
    }
}
