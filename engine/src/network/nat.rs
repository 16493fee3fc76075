//! The firewall's part of a bridge: masquerading, and who may reach whom.
//!
//! ```text
//! table inet <bridge> {
//!     chain guard { type filter hook prerouting priority raw
//!         iifname <bridge> ip daddr 127.0.0.0/8 drop
//!     }
//!     chain postrouting { type nat hook postrouting priority srcnat
//!         ip saddr <subnet> oifname != <bridge> masquerade          (not if routed or internal)
//!         ip saddr <subnet> oifname <bridge> ct status dnat masquerade
//!         ip saddr 127.0.0.0/8 oifname <bridge> masquerade
//!     }                                                             (the first two also for ip6)
//!     chain forward { type filter hook forward priority filter
//!         iifname <bridge> oifname <bridge> accept                  (if internal)
//!         iifname <bridge> drop                                     (if internal, else accept)
//!         oifname <bridge> ct state established,related accept
//!         oifname <bridge> ct status dnat accept
//!         oifname <bridge> drop
//!     }
//! }
//! table inet <bridge>.<offset of the container's address> {
//!     chain prerouting { type nat hook prerouting priority dstnat
//!         fib daddr type local tcp dport <port> dnat ip to <container>:<port>
//!     }
//!     chain output { type nat hook output priority dstnat           (the same rules, before them)
//!         ip6 daddr ::1 accept
//!     }
//! }
//! ```
//!
//! A container with published ports has the second table. What the host itself sends to 127.0.0.1
//! may leave by a bridge with such containers (`route_localnet`); the guard keeps the way back
//! shut, on which containers would reach what listens on the host's loopback device alone. A port
//! published on a loopback address is for the host: in `prerouting` a neighbour could ask for it.
//!
//! A packet passes only if every table lets it. Where docker or ufw drop what they do not know, in
//! the table `filter` that the iptables program keeps in nf_tables, two rules are put in front of
//! theirs; they go with the bridge. The older iptables, which is not in nf_tables, is out of reach.
//!
//! Does not know whether the bridge exists: rules name it, and a name may be absent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::{Message, Refusal, Socket};
use super::nftables::{
    Chain, Comparison, Device, Family, Hook, Rule, commit, delete_table, new_table, table_exists,
    tables,
};
use super::plan::{Bridge, Outside};
use super::subnet::{Address, Subnet};

/// The chains of others that may drop what they do not know: docker's own for additions like
/// ours, which it keeps over its restarts, else the one that iptables rules all forwarding with.
const FOREIGN_CHAINS: [&str; 2] = ["DOCKER-USER", "FORWARD"];
/// The chain that keeps containers from the host's loopback device.
const GUARD: &str = "guard";
/// The table inside a container's namespace.
const DNS_TABLE: &str = "rbuild-dns";
const FOREIGN_TABLE: &str = "filter";
const FOREIGN_FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Puts the bridge's table and its rules in others' chains in place, replacing older ones.
pub(super) fn install(bridge: &Bridge, outside: Outside) -> Result<(), Refusal> {
    let socket = Socket::netfilter()?;
    let mut messages = removals(&socket, &bridge.name)?;
    messages.extend(table(bridge, outside));
    for family in FOREIGN_FAMILIES {
        if let Some(chain) = foreign_chain(&socket, family)? {
            messages.push(foreign_rule(chain, Device::Input, &bridge.name));
            messages.push(foreign_rule(chain, Device::Output, &bridge.name));
        }
    }
    commit(&socket, messages)
}

/// Removes what `install` put in place; nothing to remove is no failure.
pub(super) fn remove(name: &str) -> Result<(), Refusal> {
    let socket = Socket::netfilter()?;
    commit(&socket, removals(&socket, name)?)
}

/// Whether all is as `install` leaves it. Whoever starts a firewall or docker may have flushed our
/// rules, or have brought a chain that lacks them.
pub(super) fn is_installed(name: &str) -> Result<bool, Refusal> {
    let socket = Socket::netfilter()?;
    for family in FOREIGN_FAMILIES {
        if let Some(chain) = foreign_chain(&socket, family)?
            && chain.delete_commented(&socket, &comment(name))?.is_empty()
        {
            return Ok(false);
        }
    }
    // What an older version left has no such chain.
    Chain { family: Family::Inet, table: name, name: GUARD }.exists(&socket)
}

/// A port of a container as the host has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    /// The host's address that is asked; unspecified is any.
    pub(super) host: IpAddr,
    pub(super) host_port: u16,
    /// The container's address, of the same protocol.
    pub(super) container: IpAddr,
    pub(super) container_port: u16,
    /// `IPPROTO_TCP` and its like.
    pub(super) protocol: i32,
}

/// Publishes ports of the container whose address has that offset, instead of what it had.
pub(super) fn publish(name: &str, offset: u32, redirects: &[Redirect]) -> Result<(), Refusal> {
    let table = published_table(name, offset);
    let chain = |name| Chain { family: Family::Inet, table: &table, name };
    let hook = |number| Hook {
        kind: "nat",
        number,
        priority: libc::NF_IP_PRI_NAT_DST,
        policy: libc::NF_ACCEPT,
    };
    let (prerouting, output) = (chain("prerouting"), chain("output"));
    let socket = Socket::netfilter()?;
    let mut messages = fresh_table(&socket, Family::Inet, &table)?;
    messages.extend([
        prerouting.create(&hook(libc::NF_INET_PRE_ROUTING)),
        output.create(&hook(libc::NF_INET_LOCAL_OUT)),
    ]);
    // No packet from ::1 leaves the host: it stays with whoever listens there.
    messages.push(
        output.append(|rule| rule.destination(Subnet::new(Ipv6Addr::LOCALHOST, 128)).accept()),
    );
    for redirect in redirects {
        let rule = |rule| redirect_rule(rule, redirect);
        messages.push(output.append(rule));
        if !redirect.host.is_loopback() {
            messages.push(prerouting.append(rule));
        }
    }
    commit(&socket, messages)
}

/// Removes what [`publish`] put in place; nothing to remove is no failure.
pub(super) fn unpublish(name: &str, offset: u32) -> Result<(), Refusal> {
    let table = published_table(name, offset);
    let socket = Socket::netfilter()?;
    if !table_exists(&socket, Family::Inet, &table)? {
        return Ok(());
    }
    match commit(&socket, vec![delete_table(Family::Inet, &table)]) {
        Err(Refusal { source: rustix::io::Errno::NOENT, .. }) => Ok(()),
        result => result,
    }
}

/// Inside a container's namespace: has what is sent to port 53 of an address arrive at other ports
/// of it. The container's programs are free to have servers of their own on 53.
pub(super) fn redirect_dns(address: Ipv4Addr, udp: u16, tcp: u16) -> Result<(), Refusal> {
    let chain = Chain { family: Family::Ipv4, table: DNS_TABLE, name: "output" };
    let hook = Hook {
        kind: "nat",
        number: libc::NF_INET_LOCAL_OUT,
        priority: libc::NF_IP_PRI_NAT_DST,
        policy: libc::NF_ACCEPT,
    };
    let rule = |protocol, port| {
        chain.append(|rule| {
            rule.destination(Subnet::new(address, 32)).port(protocol, 53).redirect(address, port)
        })
    };
    let socket = Socket::netfilter()?;
    let mut messages = fresh_table(&socket, Family::Ipv4, DNS_TABLE)?;
    messages.extend([
        chain.create(&hook),
        rule(libc::IPPROTO_UDP, udp),
        rule(libc::IPPROTO_TCP, tcp),
    ]);
    commit(&socket, messages)
}

/// Requests for an empty table. To delete one that is not there would be possible, and slow.
fn fresh_table(socket: &Socket, family: Family, name: &str) -> Result<Vec<Message>, Refusal> {
    let mut messages = Vec::new();
    if table_exists(socket, family, name)? {
        messages.push(delete_table(family, name));
    }
    messages.push(new_table(family, name));
    Ok(messages)
}

/// The offsets of a bridge's addresses whose containers have published ports.
pub(super) fn published(name: &str) -> Result<Vec<u32>, Refusal> {
    let tables = tables(&Socket::netfilter()?, Family::Inet)?;
    let offset = |table: &String| table.strip_prefix(name)?.strip_prefix('.')?.parse().ok();
    Ok(tables.iter().filter_map(offset).collect())
}

fn published_table(name: &str, offset: u32) -> String {
    format!("{name}.{offset}")
}

fn redirect_rule(rule: Rule, redirect: &Redirect) -> Rule {
    let Redirect { host_port, container_port, protocol, .. } = *redirect;
    match (redirect.host, redirect.container) {
        (IpAddr::V4(host), IpAddr::V4(container)) => {
            let rule = if host.is_unspecified() {
                rule.protocol_of::<Ipv4Addr>().local_destination()
            } else {
                rule.destination(Subnet::new(host, 32))
            };
            rule.port(protocol, host_port).redirect(container, container_port)
        }
        (host, container) => {
            let (host, container) = (ipv6(host), ipv6(container));
            let rule = if host.is_unspecified() {
                rule.protocol_of::<Ipv6Addr>().local_destination()
            } else {
                rule.destination(Subnet::new(host, 128))
            };
            rule.port(protocol, host_port).redirect(container, container_port)
        }
    }
}

fn ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Requests that delete what there is of the bridge. An empty list is worth having: the kernel
/// takes milliseconds to forget even an empty table.
fn removals(socket: &Socket, name: &str) -> Result<Vec<Message>, Refusal> {
    let mut messages = foreign_removals(socket, name)?;
    if table_exists(socket, Family::Inet, name)? {
        messages.push(delete_table(Family::Inet, name));
    }
    Ok(messages)
}

/// The table, its chains and rules, in the order of the module's picture.
fn table(bridge: &Bridge, outside: Outside) -> Vec<Message> {
    let name = bridge.name.as_str();
    let chain = |chain| Chain { family: Family::Inet, table: name, name: chain };
    let hook = |kind, number, priority| Hook { kind, number, priority, policy: libc::NF_ACCEPT };
    let (guard, postrouting, forward) = (chain(GUARD), chain("postrouting"), chain("forward"));
    let from = |rule: Rule| rule.device(Device::Input, Comparison::Equal, name);
    let to = |rule: Rule| rule.device(Device::Output, Comparison::Equal, name);
    let loopback = Subnet::new(Ipv4Addr::LOCALHOST, 8);

    let mut messages = vec![
        new_table(Family::Inet, name),
        guard.create(&hook("filter", libc::NF_INET_PRE_ROUTING, libc::NF_IP_PRI_RAW)),
        guard.append(|rule| from(rule).destination(loopback).drop()),
        postrouting.create(&hook("nat", libc::NF_INET_POST_ROUTING, libc::NF_IP_PRI_NAT_SRC)),
    ];
    messages.extend(masquerading(&postrouting, name, bridge.ipv4, outside));
    messages.extend(
        bridge.ipv6.into_iter().flat_map(|ipv6| masquerading(&postrouting, name, ipv6, outside)),
    );
    messages.push(postrouting.append(|rule| to(rule.source(loopback)).masquerade()));
    messages.push(forward.create(&hook("filter", libc::NF_INET_FORWARD, libc::NF_IP_PRI_FILTER)));
    if outside == Outside::Unreachable {
        messages.push(forward.append(|rule| to(from(rule)).accept()));
        messages.push(forward.append(|rule| from(rule).drop()));
    } else {
        messages.push(forward.append(|rule| from(rule).accept()));
        messages.push(forward.append(|rule| to(rule).established().accept()));
        messages.push(forward.append(|rule| to(rule).redirected().accept()));
    }
    messages.push(forward.append(|rule| to(rule).drop()));
    messages
}

/// The rules about the source address of what comes from a subnet.
fn masquerading<A: Address>(
    chain: &Chain<'_>,
    bridge: &str,
    subnet: Subnet<A>,
    outside: Outside,
) -> Vec<Message> {
    let by = |rule: Rule, comparison| rule.device(Device::Output, comparison, bridge);
    let mut messages = Vec::new();
    if outside == Outside::Masqueraded {
        messages
            .push(chain.append(|rule| by(rule.source(subnet), Comparison::Different).masquerade()));
    }
    messages.push(
        chain.append(|rule| by(rule.source(subnet), Comparison::Equal).redirected().masquerade()),
    );
    messages
}

/// The foreign chain to put rules into, where there is one.
fn foreign_chain(socket: &Socket, family: Family) -> Result<Option<Chain<'static>>, Refusal> {
    for name in FOREIGN_CHAINS {
        let chain = Chain { family, table: FOREIGN_TABLE, name };
        if chain.exists(socket)? {
            return Ok(Some(chain));
        }
    }
    Ok(None)
}

/// A rule in front of a foreign chain, in the form that the iptables program gives to its own
/// (`-i <bridge> -j ACCEPT`), marked as ours. Our own table still drops what it must.
fn foreign_rule(chain: Chain<'_>, device: Device, bridge: &str) -> Message {
    chain.insert(&comment(bridge), |rule| {
        rule.device(device, Comparison::Equal, bridge).count().accept()
    })
}

/// Requests that delete the rules of this bridge from others' chains.
fn foreign_removals(socket: &Socket, bridge: &str) -> Result<Vec<Message>, Refusal> {
    let mut messages = Vec::new();
    for family in FOREIGN_FAMILIES {
        for name in FOREIGN_CHAINS {
            let chain = Chain { family, table: FOREIGN_TABLE, name };
            messages.extend(chain.delete_commented(socket, &comment(bridge))?);
        }
    }
    Ok(messages)
}

/// What tells our rules from others'.
fn comment(bridge: &str) -> String {
    format!("rbuild {bridge}")
}

/// Drops all forwarded packets in the tables of the iptables program, as docker and ufw do.
#[cfg(test)]
pub(super) fn forbid_forwarding() {
    let hook = Hook {
        kind: "filter",
        number: libc::NF_INET_FORWARD,
        priority: libc::NF_IP_PRI_FILTER,
        policy: libc::NF_DROP,
    };
    let messages = FOREIGN_FAMILIES.into_iter().flat_map(|family| {
        let chain = Chain { family, table: FOREIGN_TABLE, name: "FORWARD" };
        [new_table(family, FOREIGN_TABLE), chain.create(&hook)]
    });
    commit(&Socket::netfilter().unwrap(), messages.collect()).unwrap();
}

/// How many rules of the bridge are in others' chains.
#[cfg(test)]
pub(super) fn foreign_rules(bridge: &str) -> usize {
    foreign_removals(&Socket::netfilter().unwrap(), bridge).unwrap().len()
}

/// The names of all tables.
#[cfg(test)]
pub(super) fn all_tables() -> Vec<String> {
    tables(&Socket::netfilter().unwrap(), Family::Inet).unwrap()
}
