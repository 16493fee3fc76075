//! The firewall's part of a bridge: masquerading, and who may reach whom.
//!
//! ```text
//! table inet <bridge> {
//!     chain postrouting { type nat hook postrouting priority srcnat
//!         ip saddr <subnet> oifname != <bridge> masquerade
//!         ip6 saddr <subnet> oifname != <bridge> masquerade
//!     }
//!     chain forward { type filter hook forward priority filter
//!         iifname <bridge> accept
//!         oifname <bridge> ct state established,related accept
//!         oifname <bridge> drop
//!     }
//! }
//! ```
//!
//! A packet passes only if every table lets it. Where docker or ufw drop what they do not know, in
//! the table `filter` that the iptables program keeps in nf_tables, two rules are put in front of
//! theirs; they go with the bridge. The older iptables, which is not in nf_tables, is out of reach.
//!
//! Does not know whether the bridge exists: rules name it, and a name may be absent.

use super::bridge::Bridge;
use super::netlink::{Message, Refusal, Socket};
use super::nftables::{
    Chain, Comparison, Device, Family, Hook, Rule, commit, delete_table, new_table, table_exists,
};

/// The chains of others that may drop what they do not know: docker's own for additions like
/// ours, which it keeps over its restarts, else the one that iptables rules all forwarding with.
const FOREIGN_CHAINS: [&str; 2] = ["DOCKER-USER", "FORWARD"];
const FOREIGN_TABLE: &str = "filter";
const FOREIGN_FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Puts the bridge's table and its rules in others' chains in place, replacing older ones.
pub(super) fn install(bridge: &Bridge) -> Result<(), Refusal> {
    let socket = Socket::netfilter()?;
    let mut messages = removals(&socket, &bridge.name)?;
    messages.extend(table(bridge));
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
    table_exists(&socket, Family::Inet, name)
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
fn table(bridge: &Bridge) -> Vec<Message> {
    let name = bridge.name.as_str();
    let chain = |chain| Chain { family: Family::Inet, table: name, name: chain };
    let hook = |kind, number, priority| Hook { kind, number, priority, policy: libc::NF_ACCEPT };
    let (postrouting, forward) = (chain("postrouting"), chain("forward"));
    let leaving =
        |rule: Rule| rule.device(Device::Output, Comparison::Different, name).masquerade();
    let to = |rule: Rule| rule.device(Device::Output, Comparison::Equal, name);

    let mut messages = vec![
        new_table(Family::Inet, name),
        postrouting.create(&hook("nat", libc::NF_INET_POST_ROUTING, libc::NF_IP_PRI_NAT_SRC)),
        postrouting.append(|rule| leaving(rule.source(bridge.ipv4))),
    ];
    if let Some(subnet) = bridge.ipv6 {
        messages.push(postrouting.append(|rule| leaving(rule.source(subnet))));
    }
    messages.extend([
        forward.create(&hook("filter", libc::NF_INET_FORWARD, libc::NF_IP_PRI_FILTER)),
        forward.append(|rule| rule.device(Device::Input, Comparison::Equal, name).accept()),
        forward.append(|rule| to(rule).established().accept()),
        forward.append(|rule| to(rule).drop()),
    ]);
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
