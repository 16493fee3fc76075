//! Links, addresses and routes: rtnetlink requests, and what the kernel tells about them
//! (`rtnetlink(7)`).
//!
//! Does not know what a container is, nor who uses a bridge.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::netlink::{Message, Refusal, Reply, Socket};
use super::subnet::{Address, Subnet};

/// A hardware address.
pub(super) type Mac = [u8; 6];

/// Attribute of a veth's data that describes its peer (`linux/veth.h`).
const VETH_INFO_PEER: u16 = 1;
/// Attribute of a bridge's port (`IFLA_BRPORT_MODE`).
const BRPORT_HAIRPIN: u16 = 4;
/// Bytes of `struct ifinfomsg`, `ifaddrmsg` and `rtmsg`.
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;
const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// A network device.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mtu: u32,
    /// The bridge it is a port of.
    pub(super) master: Option<u32>,
}

/// Creates a bridge that is up. Its hardware address is fixed, or it would follow its ports.
pub(super) fn create_bridge(name: &str, mac: Mac, mtu: u32) -> Message {
    Message::new("create the bridge", libc::RTM_NEWLINK, CREATE, &ifinfo(0, libc::IFF_UP))
        .text(libc::IFLA_IFNAME, name)
        .attribute(libc::IFLA_ADDRESS, &mac)
        .attribute(libc::IFLA_MTU, &mtu.to_ne_bytes())
        .nest(libc::IFLA_LINKINFO, |info| info.text(libc::IFLA_INFO_KIND, "bridge"))
}

/// The two ends of a cable from a bridge into a namespace.
pub(super) struct Veth<'a> {
    /// The name of the end that stays with the bridge.
    pub(super) name: &'a str,
    pub(super) bridge: u32,
    pub(super) mtu: u32,
    pub(super) namespace: BorrowedFd<'a>,
    /// The name of the end inside the namespace, and its hardware address.
    pub(super) peer: &'a str,
    pub(super) peer_mac: Mac,
}

/// Creates both ends where they belong, in one step. Only the bridge's end is up: the kernel makes
/// the peer first, and one without a peer of its own cannot be.
pub(super) fn create_veth(veth: &Veth<'_>) -> Message {
    let mtu = veth.mtu.to_ne_bytes();
    let peer = |message: Message| {
        message
            .raw(&ifinfo(0, 0))
            .text(libc::IFLA_IFNAME, veth.peer)
            .attribute(libc::IFLA_ADDRESS, &veth.peer_mac)
            .attribute(libc::IFLA_MTU, &mtu)
            .attribute(libc::IFLA_NET_NS_FD, &veth.namespace.as_raw_fd().to_ne_bytes())
    };
    Message::new("create the veth pair", libc::RTM_NEWLINK, CREATE, &ifinfo(0, libc::IFF_UP))
        .text(libc::IFLA_IFNAME, veth.name)
        .attribute(libc::IFLA_MTU, &mtu)
        .attribute(libc::IFLA_MASTER, &veth.bridge.to_ne_bytes())
        .nest(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "veth")
                .nest(libc::IFLA_INFO_DATA, |data| data.nest(VETH_INFO_PEER, peer))
        })
}

/// Brings a device up.
pub(super) fn set_up(index: u32) -> Message {
    Message::new("bring the device up", libc::RTM_NEWLINK, 0, &ifinfo(index, libc::IFF_UP))
}

/// Lets a bridge send a frame back by the port it came from.
pub(super) fn set_hairpin(port: u32) -> Message {
    let mut fixed = ifinfo(port, 0);
    fixed[0] = libc::AF_BRIDGE as u8;
    Message::new("let the bridge's port answer itself", libc::RTM_SETLINK, 0, &fixed)
        .nest(libc::IFLA_PROTINFO, |data| data.attribute(BRPORT_HAIRPIN, &[1]))
}

/// Deletes a device; with one end of a veth pair goes the other.
pub(super) fn delete(index: u32) -> Message {
    Message::new("delete the device", libc::RTM_DELLINK, 0, &ifinfo(index, 0))
}

/// Deletes several devices at once (`IFLA_GROUP`, rtnetlink(7)): the kernel waits until nobody looks
/// at them any more, for all of them together. No other device may be of this group.
pub(super) fn delete_together(indexes: &[u32], group: u32) -> Vec<Message> {
    let group = group.to_ne_bytes();
    let join = |index: &u32| {
        Message::new("put the device into a group", libc::RTM_SETLINK, 0, &ifinfo(*index, 0))
            .attribute(libc::IFLA_GROUP, &group)
    };
    let delete = Message::new("delete the devices", libc::RTM_DELLINK, 0, &ifinfo(0, 0))
        .attribute(libc::IFLA_GROUP, &group);
    indexes.iter().map(join).chain([delete]).collect()
}

/// Gives a device an address, usable at once: nobody else can have it, so IPv6 need not look.
pub(super) fn add_address<A: Address>(index: u32, address: A, prefix: u8) -> Message {
    let (family, bytes) = encode(address.into());
    let mut fixed = [0; IFADDRMSG];
    fixed[0] = family;
    fixed[1] = prefix;
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    let message = Message::new("add the address", libc::RTM_NEWADDR, CREATE, &fixed)
        .attribute(libc::IFA_LOCAL, &bytes)
        .attribute(libc::IFA_ADDRESS, &bytes);
    match address.into() {
        IpAddr::V4(address) => {
            let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let broadcast = (address.to_bits() | hosts).to_be_bytes();
            message.attribute(libc::IFA_BROADCAST, &broadcast)
        }
        IpAddr::V6(_) => message.attribute(libc::IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes()),
    }
}

/// Sends what is for nowhere else to `gateway`, a neighbour.
pub(super) fn add_default_route(gateway: IpAddr) -> Message {
    let (family, bytes) = encode(gateway);
    let mut fixed = [0; RTMSG];
    fixed[0] = family;
    fixed[4] = libc::RT_TABLE_MAIN;
    fixed[5] = libc::RTPROT_BOOT;
    fixed[6] = libc::RT_SCOPE_UNIVERSE;
    fixed[7] = libc::RTN_UNICAST;
    Message::new("add the default route", libc::RTM_NEWROUTE, CREATE, &fixed)
        .attribute(libc::RTA_GATEWAY, &bytes)
}

/// Creates a port of a bridge that is down and leads nowhere.
#[cfg(test)]
pub(super) fn create_port(name: &str, bridge: u32) -> Message {
    Message::new("create the port", libc::RTM_NEWLINK, CREATE, &ifinfo(0, 0))
        .text(libc::IFLA_IFNAME, name)
        .attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes())
        .nest(libc::IFLA_LINKINFO, |info| info.text(libc::IFLA_INFO_KIND, "veth"))
}

/// Sends what is for one address to `gateway`, a neighbour.
#[cfg(test)]
pub(super) fn add_host_route(address: IpAddr, gateway: IpAddr) -> Message {
    let (_, bytes) = encode(address);
    let mut message = add_default_route(gateway).attribute(libc::RTA_DST, &bytes);
    message.set_byte(1, (bytes.len() * 8) as u8);
    message
}

/// Looks for a device by its name.
pub(super) fn find(socket: &Socket, name: &str) -> Result<Option<Link>, Refusal> {
    let message = Message::new("look for the device", libc::RTM_GETLINK, 0, &ifinfo(0, 0))
        .text(libc::IFLA_IFNAME, name);
    Ok(socket.get(message)?.as_ref().map(link))
}

/// Makes sure that a device carries packets that it is connected for.
///
/// The kernel notices in its own time that a cable has two ends now, and until then drops packets;
/// a lost one costs TCP a second. To be asked about the device makes it do so at once (since 6.8).
pub(super) fn settle(socket: &Socket, name: &str) -> Result<(), Refusal> {
    find(socket, name).map(drop)
}

/// All devices.
pub(super) fn list(socket: &Socket) -> Result<Vec<Link>, Refusal> {
    let message = Message::new("list the devices", libc::RTM_GETLINK, 0, &ifinfo(0, 0));
    Ok(socket.dump(message)?.iter().map(link).collect())
}

/// A device's addresses with the lengths of their prefixes, where it has any of that kind.
pub(super) type Addresses = (Option<(Ipv4Addr, u8)>, Option<(Ipv6Addr, u8)>);

/// The addresses that a device has, without IPv6's link-local one.
pub(super) fn addresses(socket: &Socket, index: u32) -> Result<Addresses, Refusal> {
    let message = Message::new("list the addresses", libc::RTM_GETADDR, 0, &[0; IFADDRMSG]);
    let (mut ipv4, mut ipv6) = (None, None);
    for reply in socket.dump(message)? {
        let [_, prefix, _, _, owner @ ..] = reply.fixed::<IFADDRMSG>();
        if u32::from_ne_bytes(owner) != index {
            continue;
        }
        let attributes = reply.attributes(IFADDRMSG);
        match attributes.get(libc::IFA_ADDRESS).and_then(decode) {
            Some(IpAddr::V4(address)) => ipv4 = Some((address, prefix)),
            Some(IpAddr::V6(address)) if !address.is_unicast_link_local() => {
                ipv6 = Some((address, prefix));
            }
            _ => {}
        }
    }
    Ok((ipv4, ipv6))
}

/// What the machine has routes to, but for the default routes: no place for a subnet of ours.
#[derive(Default)]
pub(super) struct Routed {
    pub(super) ipv4: Vec<Subnet<Ipv4Addr>>,
    pub(super) ipv6: Vec<Subnet<Ipv6Addr>>,
}

/// Reads the routing tables, all of them: a VPN's has a number of its own.
pub(super) fn routed(socket: &Socket) -> Result<Routed, Refusal> {
    let message = Message::new("list the routes", libc::RTM_GETROUTE, 0, &[0; RTMSG]);
    let mut routed = Routed::default();
    for reply in socket.dump(message)? {
        let fixed = reply.fixed::<RTMSG>();
        let prefix = fixed[1];
        // A VPN that takes everything does so in two halves; those are default routes too.
        if fixed[7] != libc::RTN_UNICAST || prefix <= 1 {
            continue;
        }
        match reply.attributes(RTMSG).get(libc::RTA_DST).and_then(decode) {
            Some(IpAddr::V4(address)) => routed.ipv4.push(Subnet::new(address, prefix)),
            Some(IpAddr::V6(address)) => routed.ipv6.push(Subnet::new(address, prefix)),
            None => {}
        }
    }
    Ok(routed)
}

/// The MTU of the device through which packets to `destination` would leave; none if unreachable.
pub(super) fn mtu_towards(socket: &Socket, destination: IpAddr) -> Result<Option<u32>, Refusal> {
    let (family, bytes) = encode(destination);
    let mut fixed = [0; RTMSG];
    fixed[0] = family;
    fixed[1] = (bytes.len() * 8) as u8;
    let message = Message::new("look up the route", libc::RTM_GETROUTE, 0, &fixed)
        .attribute(libc::RTA_DST, &bytes);
    let Some(route) = socket.get(message)? else {
        return Ok(None);
    };
    let Some(device) = route.attributes(RTMSG).number(libc::RTA_OIF) else {
        return Ok(None);
    };
    let message = Message::new("look for the device", libc::RTM_GETLINK, 0, &ifinfo(device, 0));
    Ok(socket.get(message)?.map(|reply| link(&reply).mtu))
}

/// `struct ifinfomsg`, with the one flag to change.
fn ifinfo(index: u32, flag: libc::c_int) -> [u8; IFINFOMSG] {
    let mut fixed = [0; IFINFOMSG];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flag.to_ne_bytes());
    fixed[12..16].copy_from_slice(&flag.to_ne_bytes());
    fixed
}

fn link(reply: &Reply) -> Link {
    let [_, _, _, _, i0, i1, i2, i3, ..] = reply.fixed::<IFINFOMSG>();
    let attributes = reply.attributes(IFINFOMSG);
    Link {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        name: attributes.text(libc::IFLA_IFNAME).unwrap_or_default().to_owned(),
        mtu: attributes.number(libc::IFLA_MTU).unwrap_or_default(),
        master: attributes.number(libc::IFLA_MASTER),
    }
}

/// An address as the kernel writes it, and its family.
fn encode(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec()),
    }
}

fn decode(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
        _ => None,
    }
}
