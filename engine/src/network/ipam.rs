//! The choice of a new network's subnets, from what a user asks and what is taken: docker's rules
//! and words.
//!
//! Values in, values out. Does not know where what is taken is found.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::definition::IpamConfig;
use super::definition_error::DefinitionError;
use super::subnet::{Address, Subnet, choose_defined_ipv4, choose_defined_ipv6};

/// What a user says of a new network's addresses, as written.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Subnets; none is any that is free.
    pub subnets: Vec<String>,
    /// Parts of these subnets to lease addresses from.
    pub ip_ranges: Vec<String>,
    /// The bridge's addresses in these subnets.
    pub gateways: Vec<String>,
    /// Addresses that no container gets, by a name for each.
    pub auxiliary_addresses: BTreeMap<String, String>,
    /// Whether there is to be IPv6.
    pub ipv6: bool,
}

/// The subnets that are not to be chosen.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    /// Those of our networks, which nobody may ask for either.
    pub(super) ipv4: Vec<Subnet<Ipv4Addr>>,
    pub(super) ipv6: Vec<Subnet<Ipv6Addr>>,
    /// Those that the machine has routes to.
    pub(super) routed_ipv4: Vec<Subnet<Ipv4Addr>>,
    pub(super) routed_ipv6: Vec<Subnet<Ipv6Addr>>,
}

/// Chooses what is left open, and checks what is not.
pub(super) fn choose(asked: &Asked, taken: &Taken) -> Result<Vec<IpamConfig>, DefinitionError> {
    if asked.subnets.len() < asked.ip_ranges.len().max(asked.gateways.len()) {
        return Err(DefinitionError::WithoutSubnet);
    }
    let mut ipv4 = Vec::new();
    let mut ipv6 = Vec::new();
    for text in &asked.subnets {
        if text.contains(':') {
            ipv6.push(part(text, &ipv6)?)
        } else {
            ipv4.push(part(text, &ipv4)?)
        }
    }
    if !ipv6.is_empty() && !asked.ipv6 {
        return Err(DefinitionError::Ipv6Disabled { subnet: ipv6[0].subnet.to_string() });
    }
    if ipv4.len() > 1 || ipv6.len() > 1 {
        return Err(DefinitionError::MultipleSubnets);
    }
    let mut ipv4: Option<Part<Ipv4Addr>> = ipv4.pop();
    let mut ipv6: Option<Part<Ipv6Addr>> = ipv6.pop();
    for text in &asked.ip_ranges {
        let found = if text.contains(':') {
            ipv6.as_mut().map(|part| part.set_range(text))
        } else {
            ipv4.as_mut().map(|part| part.set_range(text))
        };
        found.unwrap_or_else(|| Err(unmatched("range", text)))?;
    }
    for text in &asked.gateways {
        place("gateway", text, &mut ipv4, &mut ipv6, None)?;
    }
    for (name, text) in &asked.auxiliary_addresses {
        place("aux-address", text, &mut ipv4, &mut ipv6, Some(name))?;
    }
    let mut configs = vec![match ipv4 {
        Some(part) => part.config(&taken.ipv4)?,
        None => {
            let all = [taken.ipv4.as_slice(), &taken.routed_ipv4].concat();
            Part::new(choose_defined_ipv4(&all).ok_or(DefinitionError::NoPoolLeft)?).config(&[])?
        }
    }];
    match ipv6 {
        Some(part) => configs.push(part.config(&taken.ipv6)?),
        None if asked.ipv6 => {
            let all = [taken.ipv6.as_slice(), &taken.routed_ipv6].concat();
            let subnet = choose_defined_ipv6(&all).ok_or(DefinitionError::NoPoolLeft)?;
            configs.push(Part::new(subnet).config(&[])?);
        }
        None => {}
    }
    Ok(configs)
}

/// One subnet with what belongs to it.
struct Part<A> {
    subnet: Subnet<A>,
    range: Option<Subnet<A>>,
    gateway: Option<A>,
    auxiliary: BTreeMap<String, String>,
}

/// Reads a subnet that is to be beside others.
fn part<A: Address>(text: &str, others: &[Part<A>]) -> Result<Part<A>, DefinitionError> {
    let subnet = exact(text, "subnet")?;
    // The network's own address, the highest one, the gateway and a container.
    if A::BITS - subnet.prefix() < 2 {
        return Err(DefinitionError::SmallSubnet { subnet: text.to_owned() });
    }
    if others.iter().any(|other| other.subnet.overlaps(&subnet)) {
        return Err(DefinitionError::OverlappingSubnets);
    }
    Ok(Part::new(subnet))
}

/// Reads a subnet that is written as its lowest address.
fn exact<A: Address>(text: &str, what: &'static str) -> Result<Subnet<A>, DefinitionError> {
    let invalid = || DefinitionError::Invalid { what, text: text.to_owned() };
    let subnet: Subnet<A> = text.parse().map_err(|_| invalid())?;
    let (address, _) = text.split_once('/').ok_or_else(invalid)?;
    if address.parse::<A>().ok() != Some(subnet.network()) {
        let should_be = subnet.to_string();
        return Err(DefinitionError::HostBits { what, text: text.to_owned(), should_be });
    }
    Ok(subnet)
}

/// Gives an address its role in the subnet that has it; `name` is an auxiliary address's.
fn place(
    what: &'static str,
    text: &str,
    ipv4: &mut Option<Part<Ipv4Addr>>,
    ipv6: &mut Option<Part<Ipv6Addr>>,
    name: Option<&str>,
) -> Result<(), DefinitionError> {
    match text.parse() {
        Ok(IpAddr::V4(address)) => {
            let part = ipv4.as_mut().filter(|part| part.subnet.contains(address));
            part.ok_or_else(|| unmatched(what, text))?.set(address, name)
        }
        Ok(IpAddr::V6(address)) => {
            let part = ipv6.as_mut().filter(|part| part.subnet.contains(address));
            part.ok_or_else(|| unmatched(what, text))?.set(address, name)
        }
        Err(_) => Err(DefinitionError::Invalid { what, text: text.to_owned() }),
    }
}

fn unmatched(what: &'static str, text: &str) -> DefinitionError {
    DefinitionError::NoMatchingSubnet { what, text: text.to_owned() }
}

impl<A: Address> Part<A> {
    fn new(subnet: Subnet<A>) -> Self {
        Part { subnet, range: None, gateway: None, auxiliary: BTreeMap::new() }
    }

    fn set_range(&mut self, text: &str) -> Result<(), DefinitionError> {
        let range: Subnet<A> = exact(text, "ip-range")?;
        if !self.subnet.includes(&range) {
            return Err(unmatched("range", text));
        }
        match self.range.replace(range) {
            None => Ok(()),
            Some(first) => Err(DefinitionError::Twice {
                what: "ranges",
                first: first.to_string(),
                second: text.to_owned(),
                subnet: self.subnet.to_string(),
            }),
        }
    }

    fn set(&mut self, address: A, name: Option<&str>) -> Result<(), DefinitionError> {
        if let Some(name) = name {
            self.auxiliary.insert(name.to_owned(), address.to_string());
            return Ok(());
        }
        match self.gateway.replace(address) {
            None => Ok(()),
            Some(first) => Err(DefinitionError::Twice {
                what: "gateways",
                first: first.to_string(),
                second: address.to_string(),
                subnet: self.subnet.to_string(),
            }),
        }
    }

    fn config(self, taken: &[Subnet<A>]) -> Result<IpamConfig, DefinitionError> {
        if taken.iter().any(|other| other.overlaps(&self.subnet)) {
            return Err(DefinitionError::PoolOverlaps { subnet: self.subnet.to_string() });
        }
        Ok(IpamConfig {
            subnet: self.subnet.to_string(),
            ip_range: self.range.map_or_else(String::new, |range| range.to_string()),
            gateway: self.gateway.unwrap_or(self.subnet.gateway()).to_string(),
            auxiliary_addresses: self.auxiliary,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is asked as words: a subnet, `r:` a range, `g:` a gateway, `a:` an auxiliary address,
    /// `6` IPv6.
    fn asked(words: &str) -> Asked {
        let mut asked = Asked::default();
        for word in words.split_whitespace() {
            match word.split_at(word.len().min(2)) {
                ("r:", range) => asked.ip_ranges.push(range.to_owned()),
                ("g:", gateway) => asked.gateways.push(gateway.to_owned()),
                ("a:", address) => {
                    asked.auxiliary_addresses.insert("aux".to_owned(), address.to_owned());
                }
                _ if word == "6" => asked.ipv6 = true,
                _ => asked.subnets.push(word.to_owned()),
            }
        }
        asked
    }

    fn check(words: &str, expected: &str) {
        let taken = Taken {
            ipv4: vec!["172.18.0.0/16".parse().unwrap()],
            routed_ipv4: vec!["172.19.0.0/16".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
            ..Taken::default()
        };
        let chosen = match choose(&asked(words), &taken) {
            Ok(configs) => {
                let text = |config: &IpamConfig| {
                    let auxiliary: String =
                        config.auxiliary_addresses.values().map(|a| format!(" a:{a}")).collect();
                    let range = match config.ip_range.as_str() {
                        "" => String::new(),
                        range => format!(" r:{range}"),
                    };
                    format!("{}{range} g:{}{auxiliary}", config.subnet, config.gateway)
                };
                configs.iter().map(text).collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(chosen, expected, "{words:?}");
    }

    #[test]
    fn subnets_are_chosen_and_refused_as_docker_does() {
        check("", "172.20.0.0/16 g:172.20.0.1");
        check("6", "172.20.0.0/16 g:172.20.0.1, fd72:6275:696c:6500::/64 g:fd72:6275:696c:6500::1");
        check("10.1.0.0/24", "10.1.0.0/24 g:10.1.0.1");
        check(
            "10.1.0.0/24 r:10.1.0.128/25 g:10.1.0.254 a:10.1.0.9",
            "10.1.0.0/24 r:10.1.0.128/25 g:10.1.0.254 a:10.1.0.9",
        );
        check("fd00:1::/64 6", "172.20.0.0/16 g:172.20.0.1, fd00:1::/64 g:fd00:1::1");
        check("172.18.5.0/24", "Pool overlaps with other one on this address space");
        check("172.19.5.0/24", "172.19.5.0/24 g:172.19.5.1");
        check("g:10.1.0.1", "every ip-range or gateway must have a corresponding subnet");
        check("10.1.0.0/24 g:10.2.0.1", "no matching subnet for gateway 10.2.0.1");
        check("10.1.0.0/24 r:10.2.0.0/25", "no matching subnet for range 10.2.0.0/25");
        check("10.1.0.0/24 r:10.0.0.0/8", "no matching subnet for range 10.0.0.0/8");
        check("10.1.0.0/24 a:fd00::1", "no matching subnet for aux-address fd00::1");
        check("10.1.0.7/24", "invalid subnet 10.1.0.7/24: it should be 10.1.0.0/24");
        check("10.1.0.0", "invalid subnet 10.1.0.0");
        check("10.1.0.0/33", "invalid subnet 10.1.0.0/33");
        check("10.1.0.0/24 g:ten", "invalid gateway ten");
        check("10.1.0.0/31", "subnet 10.1.0.0/31 has no address for a container");
        check(
            "10.1.0.0/24 10.1.0.0/25",
            "multiple overlapping subnet configuration is not supported",
        );
        check("10.1.0.0/24 10.2.0.0/24", "bridge driver doesn't support multiple subnets");
        check("fd00:1::/64", "invalid subnet fd00:1::/64: IPv6 has not been enabled");
    }

    #[test]
    fn all_pools_used_up_is_said() {
        let everything = vec!["172.16.0.0/12".parse().unwrap(), "192.168.0.0/16".parse().unwrap()];
        let taken = Taken { routed_ipv4: everything, ..Taken::default() };
        let error = choose(&Asked::default(), &taken).unwrap_err();
        assert_eq!(error.to_string(), "all predefined address pools have been fully subnetted");
    }
}
