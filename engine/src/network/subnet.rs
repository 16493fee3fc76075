//! Subnets as values: parse, print, overlap, the n-th address, and the choice of a free one.
//!
//! Does not know which subnets are in use; it is told.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address that a subnet can be made of: IPv4 or IPv6.
pub trait Address: Copy + Eq + fmt::Display + FromStr + Into<IpAddr> {
    /// The address's length in bits.
    const BITS: u8;
    /// The address as a number.
    fn number(self) -> u128;
    /// The address that the low bits of a number are.
    fn from_number(number: u128) -> Self;
}

impl Address for Ipv4Addr {
    const BITS: u8 = 32;
    fn number(self) -> u128 {
        self.to_bits().into()
    }
    fn from_number(number: u128) -> Self {
        Ipv4Addr::from_bits(number as u32)
    }
}

impl Address for Ipv6Addr {
    const BITS: u8 = 128;
    fn number(self) -> u128 {
        self.to_bits()
    }
    fn from_number(number: u128) -> Self {
        Ipv6Addr::from_bits(number)
    }
}

/// A range of addresses with a common prefix, such as `172.30.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String", bound = "A: Address")]
pub struct Subnet<A> {
    network: A,
    prefix: u8,
}

/// A text that is no subnet.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid subnet {text:?}: expected an address and a prefix length, such as {example}")]
pub struct InvalidSubnet {
    /// What was given.
    pub text: String,
    /// What would do.
    pub example: &'static str,
}

impl<A: Address> Subnet<A> {
    /// The subnet that contains `address`: the bits behind the prefix are cleared.
    pub fn new(address: A, prefix: u8) -> Self {
        let prefix = prefix.min(A::BITS);
        let mut subnet = Subnet { network: address, prefix };
        subnet.network = A::from_number(address.number() & !subnet.host_mask());
        subnet
    }

    /// The length of the common prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The lowest address, which stands for the subnet itself.
    pub fn network(&self) -> A {
        self.network
    }

    /// The bridge's own address, the first behind the network's.
    pub fn gateway(&self) -> A {
        self.address(1)
    }

    /// The address that many above the network's.
    pub fn address(&self, offset: u32) -> A {
        A::from_number(self.network.number() | (u128::from(offset) & self.host_mask()))
    }

    /// How far above the network's address this one is; none outside the subnet.
    pub fn offset(&self, address: A) -> Option<u32> {
        let offset = address.number().checked_sub(self.network.number())?;
        u32::try_from(offset).ok().filter(|_| offset <= self.host_mask())
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: A) -> bool {
        self.distance(address).is_some()
    }

    /// As [`offset`](Subnet::offset), without a limit.
    pub(super) fn distance(&self, address: A) -> Option<u128> {
        let distance = address.number().checked_sub(self.network.number())?;
        (distance <= self.host_mask()).then_some(distance)
    }

    /// The address at that distance; none outside the subnet.
    pub(super) fn at(&self, distance: u128) -> Option<A> {
        let number = self.network.number().checked_add(distance)?;
        (distance <= self.host_mask()).then(|| A::from_number(number))
    }

    /// Whether all addresses of the other are in it.
    pub(super) fn includes(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.network)
    }

    /// The offset of the highest address, or of the highest that an offset can name.
    pub fn last_offset(&self) -> u32 {
        u32::try_from(self.host_mask()).unwrap_or(u32::MAX)
    }

    /// Whether some address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mask = self.host_mask() | other.host_mask();
        self.network.number() | mask == other.network.number() | mask
    }

    fn host_mask(&self) -> u128 {
        u128::MAX.checked_shr(128 - u32::from(A::BITS - self.prefix)).unwrap_or(0)
    }
}

impl<A: Address> fmt::Display for Subnet<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl<A: Address> From<Subnet<A>> for String {
    fn from(subnet: Subnet<A>) -> Self {
        subnet.to_string()
    }
}

impl<A: Address> FromStr for Subnet<A> {
    type Err = InvalidSubnet;

    fn from_str(text: &str) -> Result<Self, InvalidSubnet> {
        text.split_once('/')
            .and_then(|(address, prefix)| Some((address.parse().ok()?, prefix.parse().ok()?)))
            .filter(|(_, prefix)| *prefix <= A::BITS)
            .map(|(address, prefix)| Subnet::new(address, prefix))
            .ok_or_else(|| InvalidSubnet {
                text: text.to_owned(),
                example: if A::BITS == 32 { "172.30.0.0/16" } else { "fd00:1::/64" },
            })
    }
}

impl<A: Address> TryFrom<String> for Subnet<A> {
    type Error = InvalidSubnet;

    fn try_from(text: String) -> Result<Self, InvalidSubnet> {
        text.parse()
    }
}

/// The first of our private IPv4 ranges that overlaps none of `taken`.
///
/// It begins where docker ends (172.17 upwards) and leaves out 172.31, a cloud's own default.
pub(super) fn choose_ipv4(taken: &[Subnet<Ipv4Addr>]) -> Option<Subnet<Ipv4Addr>> {
    let class_b = (18..=30).rev().map(|second| Ipv4Addr::new(172, second, 0, 0));
    let class_a = (200..=220).map(|second| Ipv4Addr::new(10, second, 0, 0));
    first_free(class_b.chain(class_a).map(|network| Subnet::new(network, 16)), taken)
}

/// The first of our unique local IPv6 ranges (RFC 4193) that overlaps none of `taken`.
pub(super) fn choose_ipv6(taken: &[Subnet<Ipv6Addr>]) -> Option<Subnet<Ipv6Addr>> {
    // "rbuild" in ASCII behind the `fd` of locally assigned ranges.
    let networks =
        (0..=0xff).map(|last| Ipv6Addr::new(0xfd72, 0x6275, 0x696c, 0x6400 | last, 0, 0, 0, 0));
    first_free(networks.map(|network| Subnet::new(network, 64)), taken)
}

/// The first of docker's IPv4 ranges for networks that people make that overlaps none of `taken`.
///
/// The default bridge's own first choice is left to it.
pub(super) fn choose_defined_ipv4(taken: &[Subnet<Ipv4Addr>]) -> Option<Subnet<Ipv4Addr>> {
    let class_b = (18..=31).filter(|second| *second != 30);
    let class_b = class_b.map(|second| Subnet::new(Ipv4Addr::new(172, second, 0, 0), 16));
    let class_c = (0..=240).step_by(16);
    let class_c = class_c.map(|third| Subnet::new(Ipv4Addr::new(192, 168, third, 0), 20));
    first_free(class_b.chain(class_c), taken)
}

/// As [`choose_ipv6`], in a range of its own.
pub(super) fn choose_defined_ipv6(taken: &[Subnet<Ipv6Addr>]) -> Option<Subnet<Ipv6Addr>> {
    let networks =
        (0..=0xff).map(|last| Ipv6Addr::new(0xfd72, 0x6275, 0x696c, 0x6500 | last, 0, 0, 0, 0));
    first_free(networks.map(|network| Subnet::new(network, 64)), taken)
}

fn first_free<A: Address>(
    mut candidates: impl Iterator<Item = Subnet<A>>,
    taken: &[Subnet<A>],
) -> Option<Subnet<A>> {
    candidates.find(|candidate| !taken.iter().any(|other| candidate.overlaps(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> Subnet<Ipv4Addr> {
        text.parse().unwrap()
    }

    #[test]
    fn a_subnet_is_its_prefix() {
        let subnet = v4("172.30.7.9/16");
        assert_eq!(subnet.to_string(), "172.30.0.0/16");
        assert_eq!(subnet.gateway(), Ipv4Addr::new(172, 30, 0, 1));
        assert_eq!(subnet.address(258), Ipv4Addr::new(172, 30, 1, 2));
        assert_eq!(subnet.offset(Ipv4Addr::new(172, 30, 1, 2)), Some(258));
        assert_eq!(subnet.offset(Ipv4Addr::new(172, 31, 1, 2)), None);
        assert_eq!(subnet.last_offset(), 0xffff);
        let subnet: Subnet<Ipv6Addr> = "fd00:1::/64".parse().unwrap();
        assert_eq!(subnet.address(3).to_string(), "fd00:1::3");
        assert_eq!(subnet.last_offset(), u32::MAX);
        assert_eq!(v4("0.0.0.0/0").last_offset(), u32::MAX);
        assert_eq!(v4("1.2.3.4/32").to_string(), "1.2.3.4/32");
    }

    #[test]
    fn text_that_is_no_subnet_is_refused() {
        for text in ["", "1.2.3.4", "1.2.3.4/33", "1.2.3/8", "fd00::/8", "1.2.3.4/-1"] {
            assert!(text.parse::<Subnet<Ipv4Addr>>().is_err(), "{text:?}");
        }
        let json = serde_json::to_string(&v4("10.0.0.0/8")).unwrap();
        assert_eq!(json, "\"10.0.0.0/8\"");
        assert_eq!(serde_json::from_str::<Subnet<Ipv4Addr>>(&json).unwrap(), v4("10.0.0.0/8"));
    }

    #[test]
    fn overlap_is_symmetric() {
        let check = |left: &str, right: &str, expected: bool| {
            assert_eq!(v4(left).overlaps(&v4(right)), expected, "{left} {right}");
            assert_eq!(v4(right).overlaps(&v4(left)), expected, "{right} {left}");
        };
        check("172.16.0.0/12", "172.30.0.0/16", true);
        check("172.30.0.0/16", "172.30.5.0/24", true);
        check("172.30.0.0/16", "172.29.0.0/16", false);
        check("0.0.0.0/0", "10.0.0.0/8", true);
        check("1.2.3.4/32", "1.2.3.4/32", true);
    }

    #[test]
    fn the_choice_avoids_what_is_taken() {
        let check = |taken: &[&str], expected: Option<&str>| {
            let taken: Vec<_> = taken.iter().copied().map(v4).collect();
            let chosen = choose_ipv4(&taken).map(|subnet| subnet.to_string());
            assert_eq!(chosen.as_deref(), expected);
        };
        check(&[], Some("172.30.0.0/16"));
        check(&["172.30.1.0/24", "172.17.0.0/16"], Some("172.29.0.0/16"));
        check(&["172.16.0.0/12"], Some("10.200.0.0/16"));
        check(&["172.16.0.0/12", "10.0.0.0/8"], None);
        assert_eq!(choose_ipv6(&[]).unwrap().to_string(), "fd72:6275:696c:6400::/64");
    }

    #[test]
    fn networks_of_people_get_docker_s_ranges() {
        let check = |taken: &[&str], expected: Option<&str>| {
            let taken: Vec<_> = taken.iter().copied().map(v4).collect();
            let chosen = choose_defined_ipv4(&taken).map(|subnet| subnet.to_string());
            assert_eq!(chosen.as_deref(), expected, "{taken:?}");
        };
        check(&[], Some("172.18.0.0/16"));
        check(&["172.18.3.0/24", "172.19.0.0/16"], Some("172.20.0.0/16"));
        check(&["172.16.0.0/12"], Some("192.168.0.0/20"));
        check(&["172.16.0.0/12", "192.168.1.0/24"], Some("192.168.16.0/20"));
        check(&["172.16.0.0/12", "192.168.0.0/16"], None);
    }
}
