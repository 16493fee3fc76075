//! What a bridge is to be, as a value: its subnets, the addresses it has and those it gives away.
//!
//! Does not know whether there is such a bridge.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::lease::Range;
use super::reservation::Reservation;
use super::subnet::Subnet;

/// The bit that tells the leases of IPv6 addresses from those of IPv4's.
const IPV6_LEASES: u64 = 1 << 62;
const IPV6_OFFSETS: u64 = (1 << 61) - 1;

/// A bridge as it is to be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bridge {
    /// The device's name, which the firewall's table has too.
    pub name: String,
    /// Where containers get their IPv4 addresses from.
    pub ipv4: Subnet<Ipv4Addr>,
    /// The bridge's own address there.
    pub gateway: Ipv4Addr,
    /// The same for IPv6; without it containers have no IPv6.
    pub ipv6: Option<Subnet<Ipv6Addr>>,
    /// The bridge's own IPv6 address.
    pub gateway_ipv6: Option<Ipv6Addr>,
}

/// What a bridge's subnets are to be.
#[derive(Clone, Copy, Debug)]
pub enum Subnets {
    /// Free ones: they overlap nothing that the machine has routes to. IPv6 where the machine has
    /// a default route for it.
    Free,
    /// These ones.
    Fixed(Subnet<Ipv4Addr>, Option<Subnet<Ipv6Addr>>),
}

/// What containers find beyond the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outside {
    /// The world, which takes them for the host.
    Masqueraded,
    /// The world, which sees their own addresses.
    Routed,
    /// Nothing.
    Unreachable,
}

/// A bridge to be, and which of its addresses are for whoever asks for any.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) subnets: Subnets,
    /// The bridge's own addresses, where they are not the first ones.
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) gateway_ipv6: Option<Ipv6Addr>,
    /// Where in the subnets addresses are leased from, unless anywhere.
    pub(super) range: Option<Subnet<Ipv4Addr>>,
    pub(super) range_ipv6: Option<Subnet<Ipv6Addr>>,
    /// What nobody gets.
    pub(super) excluded: BTreeSet<IpAddr>,
    pub(super) outside: Outside,
    pub(super) mtu: Option<u32>,
    /// What a network keeps for it, without which there is to be no bridge.
    pub(super) reservation: Option<Reservation>,
}

impl Plan {
    /// A bridge that is just there to be used.
    pub(super) fn new(subnets: Subnets) -> Self {
        Plan {
            subnets,
            gateway: None,
            gateway_ipv6: None,
            range: None,
            range_ipv6: None,
            excluded: BTreeSet::new(),
            outside: Outside::Masqueraded,
            mtu: None,
            reservation: None,
        }
    }

    /// The bridge with these subnets.
    pub(super) fn bridge(
        &self,
        name: &str,
        ipv4: Subnet<Ipv4Addr>,
        ipv6: Option<Subnet<Ipv6Addr>>,
    ) -> Bridge {
        let first = |subnet: Subnet<Ipv6Addr>| self.gateway_ipv6.unwrap_or(subnet.gateway());
        Bridge {
            name: name.to_owned(),
            ipv4,
            gateway: self.gateway.unwrap_or(ipv4.gateway()),
            ipv6,
            gateway_ipv6: ipv6.map(first),
        }
    }

    /// Whether a bridge is what is planned.
    pub(super) fn allows(&self, bridge: &Bridge) -> bool {
        match self.subnets {
            Subnets::Free => true,
            Subnets::Fixed(ipv4, ipv6) => *bridge == self.bridge(&bridge.name, ipv4, ipv6),
        }
    }
}

/// The addresses of a bridge's containers.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    bridge: Bridge,
    range: Subnet<Ipv4Addr>,
    range_ipv6: Option<Subnet<Ipv6Addr>>,
    excluded: BTreeSet<IpAddr>,
}

impl Addresses {
    pub(super) fn new(plan: &Plan, bridge: &Bridge) -> Self {
        let mut excluded = plan.excluded.clone();
        excluded.insert(bridge.gateway.into());
        excluded.insert(bridge.ipv4.network().into());
        excluded.insert(bridge.ipv4.address(bridge.ipv4.last_offset()).into());
        excluded.extend(bridge.gateway_ipv6.map(IpAddr::from));
        excluded.extend(bridge.ipv6.map(|subnet| IpAddr::from(subnet.network())));
        Addresses {
            bridge: bridge.clone(),
            range: plan.range.unwrap_or(bridge.ipv4),
            range_ipv6: plan.range_ipv6,
            excluded,
        }
    }

    /// The offsets that are leased to whoever asks for any.
    pub(super) fn range(&self) -> Range {
        let subnet = self.bridge.ipv4;
        let offset = |address: &IpAddr| match address {
            IpAddr::V4(address) => subnet.offset(*address),
            IpAddr::V6(_) => None,
        };
        let first = subnet.offset(self.range.network()).unwrap_or(0);
        Range {
            first,
            last: first.saturating_add(self.range.last_offset()),
            excluded: self.excluded.iter().filter_map(offset).collect(),
        }
    }

    /// Whether somebody may have this address.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        !self.excluded.contains(&address)
    }

    /// The IPv6 address that goes with an IPv4 address's offset: the one as far in the range for
    /// IPv6, or without such a range in the subnet.
    pub(super) fn partner(&self, offset: u32) -> Option<Ipv6Addr> {
        let address = match self.range_ipv6 {
            Some(range) => {
                let first = self.bridge.ipv4.offset(self.range.network())?;
                range.at(offset.checked_sub(first)?.into())?
            }
            None => self.bridge.ipv6?.at(offset.into())?,
        };
        self.allows(address.into()).then_some(address)
    }

    /// The byte that a lease of the IPv6 address is.
    pub(super) fn ipv6_byte(&self, address: Ipv6Addr) -> Option<u64> {
        let distance = self.bridge.ipv6?.distance(address)?;
        Some(IPV6_LEASES | (distance as u64 & IPV6_OFFSETS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_range_is_given_away_and_never_the_gateway() {
        let ipv4 = "172.20.0.0/16".parse().unwrap();
        let ipv6 = "fd00:5::/64".parse().unwrap();
        let mut plan = Plan::new(Subnets::Fixed(ipv4, Some(ipv6)));
        plan.gateway = Some("172.20.5.3".parse().unwrap());
        plan.range = Some("172.20.5.0/29".parse().unwrap());
        plan.excluded.insert("172.20.5.6".parse().unwrap());
        let bridge = plan.bridge("br", ipv4, Some(ipv6));
        assert_eq!(bridge.gateway_ipv6, Some("fd00:5::1".parse().unwrap()));
        assert!(plan.allows(&bridge));
        assert!(!plan.allows(&Bridge { gateway: ipv4.gateway(), ..bridge.clone() }));
        let addresses = Addresses::new(&plan, &bridge);
        let range = addresses.range();
        assert_eq!((range.first, range.last), (0x500, 0x507));
        assert_eq!(range.excluded, BTreeSet::from([0, 0x503, 0x506, 0xffff]));
        assert_eq!(addresses.partner(0x502), Some("fd00:5::502".parse().unwrap()));
        plan.range_ipv6 = Some("fd00:5::/120".parse().unwrap());
        let addresses = Addresses::new(&plan, &bridge);
        assert_eq!(addresses.partner(0x500), None, "the subnet's own address");
        assert_eq!(addresses.partner(0x501), None, "the gateway's address");
        assert_eq!(addresses.partner(0x502), Some("fd00:5::2".parse().unwrap()));
    }
}
