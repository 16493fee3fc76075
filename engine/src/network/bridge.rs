//! A bridge and the networking of the containers behind it, shared by processes that do not know
//! each other (`files` has how).
//!
//! The first user sets the bridge up. It stays when the last one leaves, for to take it down costs
//! fifty milliseconds, which is more than a whole step; [`sweep`](super::sweep()) removes what nobody uses. That
//! there is a bridge, and what its subnets are, is asked of the kernel: no file can be wrong about
//! it.
//!
//! Does not know what runs in a container, nor the names containers go by.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::files::{self, Files};
use super::lease::Leases;
use super::link::{self, Link, Mac, Veth};
use super::namespace::{DEVICE, NetworkNamespace};
use super::netlink::{Refusal, Socket};
use super::plan::{Addresses, Bridge, Outside, Plan, Subnets};
use super::subnet::{Subnet, choose_ipv4, choose_ipv6};
use super::sweep::sweep_away;
use super::{Error, nat, reservation, sysctl};

/// The MTU of a machine that is connected to nothing.
const DEFAULT_MTU: u32 = 1500;
/// Groups of devices that are deleted together have a number from here on, in which nobody else has
/// any.
const FIRST_GROUP: u32 = 0x7262_0000;

/// Somewhere outside, to ask the kernel for the way there. No packet is sent.
const OUTSIDE_IPV4: IpAddr = IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8));
const OUTSIDE_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888));

/// A bridge in use: it is not swept while any process has one of these.
pub struct Network {
    pub(super) directory: PathBuf,
    bridge: Bridge,
    addresses: Addresses,
    outside: Outside,
    index: u32,
    mtu: u32,
    leases: Leases,
    socket: Socket,
}

/// The addresses of one container. They are nobody else's until they are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leased {
    pub(super) offset: u32,
    pub(super) ipv4: Ipv4Addr,
    pub(super) ipv6: Option<Ipv6Addr>,
}

/// A network namespace that is connected to a bridge, and its addresses there.
pub struct Attachment {
    /// The namespace.
    pub namespace: NetworkNamespace,
    /// Its address on the bridge.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address, where the bridge has a subnet for it.
    pub ipv6: Option<Ipv6Addr>,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The bridge's address: the host as the namespace sees it.
    pub gateway: Ipv4Addr,
    leased: Leased,
}

impl Network {
    /// Makes sure that the bridge is there and becomes one of its users.
    ///
    /// `directory` is for networks alone, the same for all processes of the machine, and gone or
    /// stale after a reboot. A bridge that is in use keeps its subnets if they are to be free ones.
    pub fn open(directory: &Path, name: &str, subnets: Subnets) -> Result<Self, Error> {
        Self::open_planned(directory, name, &Plan::new(subnets))
    }

    /// As [`open`](Network::open), for a bridge of which more is said.
    pub(super) fn open_planned(directory: &Path, name: &str, plan: &Plan) -> Result<Self, Error> {
        let files = Files::lock(directory, name)?;
        if let Some(reservation) = &plan.reservation {
            if !reservation.is_kept(name) {
                // To lock a directory is to make it. What this does not remove, a sweep does.
                let _ = sweep_away(files, name);
                return Err(Error::Removed { definition: reservation.definition.clone() });
            }
            reservation::write(&files, reservation)?;
        }
        let network = Self::set_up(&files, name, plan)?;
        network.leases.join().map_err(|source| files.failure(source))?;
        Ok(network)
    }

    /// The bridge.
    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// Makes a namespace and connects it to the bridge.
    pub fn attach(&self) -> Result<Attachment, Error> {
        let namespace = NetworkNamespace::new(self.bridge.ipv6.is_some())?;
        let leased = self.lease(None, None)?;
        match self.connect(&namespace, DEVICE, &leased, None) {
            Ok(mac) => {
                let Leased { ipv4, ipv6, .. } = leased;
                let gateway = self.bridge.gateway;
                Ok(Attachment { namespace, ipv4, ipv6, mac, gateway, leased })
            }
            Err(error) => {
                self.give_back(&leased);
                Err(error)
            }
        }
    }

    /// Takes a namespace away again.
    pub fn detach(&self, attachment: Attachment) {
        // The kernel removes the veth pair with the namespace, when it comes to it.
        drop(attachment.namespace);
        self.give_back(&attachment.leased);
    }

    /// Whether containers reach anything beyond the bridge.
    pub(super) fn leads_outside(&self) -> bool {
        self.outside != Outside::Unreachable
    }

    fn set_up(files: &Files, name: &str, plan: &Plan) -> Result<Self, Error> {
        let refused = |source| Error::SetUpBridge { name: name.to_owned(), source };
        let socket = Socket::route().map_err(refused)?;
        let leases = files.leases()?;
        let (bridge, link) = match existing(&socket, name).map_err(refused)? {
            Some((bridge, link)) if plan.allows(&bridge) => (bridge, link),
            _ if leases.is_unused().map_err(|source| files.failure(source))? => {
                remove(&socket, name, &[]).map_err(refused)?;
                create(&socket, files, name, plan)?
            }
            _ => {
                return Err(Error::BridgeInUse { name: name.to_owned() });
            }
        };
        if !nat::is_installed(name).map_err(refused)? {
            forward(&bridge).map_err(|source| Error::Forward { source })?;
            nat::install(&bridge, plan.outside).map_err(refused)?;
        }
        let addresses = Addresses::new(plan, &bridge);
        Ok(Network {
            directory: files.directory.clone(),
            bridge,
            addresses,
            outside: plan.outside,
            index: link.index,
            mtu: link.mtu,
            leases,
            socket,
        })
    }

    /// Leases addresses: the ones that are named, for the others any.
    pub(super) fn lease(
        &self,
        ipv4: Option<Ipv4Addr>,
        ipv6: Option<Ipv6Addr>,
    ) -> Result<Leased, Error> {
        let fixed_ipv6 = ipv6.map(|address| self.lease_exactly(address.into())).transpose()?;
        let offset = match ipv4 {
            Some(address) => self.lease_exactly(address.into()).map(|_| {
                self.bridge.ipv4.offset(address).expect("it was leased, so it is in the subnet")
            }),
            None => self.lease_any(ipv6.is_none()),
        };
        let offset = offset.inspect_err(|_| {
            // The first failure is the one to tell.
            let _ = fixed_ipv6.map(|byte| self.leases.give_back(byte));
        })?;
        let leased = Leased { offset, ipv4: self.bridge.ipv4.address(offset), ipv6 };
        let ipv6 = match (ipv4, ipv6, self.bridge.ipv6) {
            (None, None, Some(_)) => self.addresses.partner(offset),
            (Some(_), None, Some(_)) => Some(self.lease_any_ipv6(offset).inspect_err(|_| {
                self.give_back(&leased);
            })?),
            _ => ipv6,
        };
        Ok(Leased { ipv6, ..leased })
    }

    fn lease_any(&self, with_ipv6: bool) -> Result<u32, Error> {
        let partner = |offset| {
            self.addresses.partner(offset).and_then(|address| self.addresses.ipv6_byte(address))
        };
        let partner: Option<&dyn Fn(u32) -> Option<u64>> =
            if with_ipv6 && self.bridge.ipv6.is_some() { Some(&partner) } else { None };
        self.leases
            .take(&self.addresses.range(), partner)
            .map_err(|source| self.failure(source))?
            .map(|(offset, _)| offset)
            .ok_or(Error::NoFreeAddress { subnet: self.bridge.ipv4 })
    }

    /// An IPv6 address for who has asked for an IPv4 address: the one that goes with it, if it is
    /// free, or another one.
    fn lease_any_ipv6(&self, offset: u32) -> Result<Ipv6Addr, Error> {
        let range = self.addresses.range();
        for offset in std::iter::once(offset).chain(range.first..=range.last) {
            let Some(address) = self.addresses.partner(offset) else { continue };
            let Some(byte) = self.addresses.ipv6_byte(address) else { continue };
            if self.leases.take_exactly(byte).map_err(|source| self.failure(source))? {
                return Ok(address);
            }
        }
        Err(Error::NoFreeAddress { subnet: self.bridge.ipv4 })
    }

    /// Leases this address and no other; the byte that stands for it.
    fn lease_exactly(&self, address: IpAddr) -> Result<u64, Error> {
        let byte = match address {
            IpAddr::V4(address) => self.bridge.ipv4.offset(address).map(u64::from),
            IpAddr::V6(address) => self.addresses.ipv6_byte(address),
        };
        let byte = byte.ok_or(Error::OutsideSubnet { address })?;
        let free = self.addresses.allows(address)
            && self.leases.take_exactly(byte).map_err(|source| self.failure(source))?;
        if free { Ok(byte) } else { Err(Error::AddressInUse { address }) }
    }

    pub(super) fn give_back(&self, leased: &Leased) {
        // Unlocking fails for a descriptor that is none, and the lock ends with ours anyway.
        let _ = self.leases.give_back(leased.offset.into());
        if let Some(byte) = leased.ipv6.and_then(|address| self.addresses.ipv6_byte(address)) {
            let _ = self.leases.give_back(byte);
        }
    }

    fn failure(&self, source: io::Error) -> Error {
        Error::Runtime { path: self.directory.clone(), source }
    }

    /// Connects a namespace to the bridge by a device of that name; the device's hardware address.
    pub(super) fn connect(
        &self,
        namespace: &NetworkNamespace,
        device: &str,
        leased: &Leased,
        mac: Option<Mac>,
    ) -> Result<Mac, Error> {
        let mac = mac.unwrap_or_else(|| self::mac(leased.ipv4));
        let name = port_name(leased.ipv4);
        let refused = |source| Error::Connect { object: name.clone(), source };
        let veth = Veth {
            name: &name,
            bridge: self.index,
            mtu: self.mtu,
            namespace: namespace.as_fd(),
            peer: device,
            peer_mac: mac,
        };
        self.plug(&veth).map_err(|refusal| match refusal.source {
            Errno::XFULL => Error::BridgeFull { name: self.bridge.name.clone() },
            _ => refused(refusal),
        })?;
        let configured = self.configure(namespace, device, leased);
        if configured.is_err() {
            let _ = self.disconnect(leased);
        }
        configured.map(|()| mac)
    }

    fn configure(
        &self,
        namespace: &NetworkNamespace,
        device: &str,
        leased: &Leased,
    ) -> Result<(), Error> {
        let port = port_name(leased.ipv4);
        let refused = |source| Error::Connect { object: port.clone(), source };
        let index = namespace.device(device).map_err(refused)?;
        let subnet = self.bridge.ipv4;
        let mut messages =
            vec![link::set_up(index), link::add_address(index, leased.ipv4, subnet.prefix())];
        if let (Some(address), Some(subnet)) = (leased.ipv6, self.bridge.ipv6) {
            namespace.allow_ipv6(device)?;
            messages.push(link::add_address(index, address, subnet.prefix()));
        }
        namespace.transact(messages).map_err(refused)?;
        self.route_by_default(namespace)?;
        self.settle(namespace, device, &port).map_err(refused)
    }

    /// Has what is for nowhere else go over this bridge, unless the namespace has such a way.
    pub(super) fn route_by_default(&self, namespace: &NetworkNamespace) -> Result<(), Error> {
        if !self.leads_outside() {
            return Ok(());
        }
        let gateways = [Some(self.bridge.gateway.into()), self.bridge.gateway_ipv6.map(Into::into)];
        for gateway in gateways.into_iter().flatten() {
            match namespace.transact(vec![link::add_default_route(gateway)]) {
                Err(Refusal { source: Errno::EXIST, .. }) => {}
                result => result.map_err(|source| Error::Connect {
                    object: format!("the default route over {}", self.bridge.name),
                    source,
                })?,
            }
        }
        Ok(())
    }

    /// Lets a container ask its own published ports: where bridged packets pass the firewall
    /// (`br_netfilter`), they go back by the port they came from.
    pub(super) fn let_answer_itself(&self, leased: &Leased) -> Result<(), Refusal> {
        match link::find(&self.socket, &port_name(leased.ipv4))? {
            Some(port) => self.socket.transact(vec![link::set_hairpin(port.index)]),
            None => Ok(()),
        }
    }

    /// Removes the cable to whoever has these addresses.
    pub(super) fn disconnect(&self, leased: &Leased) -> Result<(), Error> {
        let name = port_name(leased.ipv4);
        let remove = || match link::find(&self.socket, &name)? {
            Some(port) => delete(&self.socket, port.index),
            None => Ok(()),
        };
        remove().map_err(|source| Error::Connect { object: name.clone(), source })
    }

    /// Has all that is on the way from the namespace's device to the host ready for packets, in
    /// this order: a bridge has a carrier only when one of its ports has.
    fn settle(
        &self,
        namespace: &NetworkNamespace,
        device: &str,
        port: &str,
    ) -> Result<(), Refusal> {
        namespace.settle(device)?;
        link::settle(&self.socket, port)?;
        link::settle(&self.socket, &self.bridge.name)
    }

    /// Creates the veth pair. One of its name is left from whoever had the address before: the
    /// kernel has not come to it yet, or a process outlived its engine.
    fn plug(&self, veth: &Veth<'_>) -> Result<(), Refusal> {
        match self.socket.transact(vec![link::create_veth(veth)]) {
            Err(Refusal { source: Errno::EXIST, .. }) => {}
            result => return result,
        }
        if let Some(stale) = link::find(&self.socket, veth.name)? {
            delete(&self.socket, stale.index)?;
        }
        self.socket.transact(vec![link::create_veth(veth)])
    }
}

/// The bridge as the kernel has it; none if it is absent or half made.
pub(super) fn existing(socket: &Socket, name: &str) -> Result<Option<(Bridge, Link)>, Refusal> {
    let Some(link) = link::find(socket, name)? else {
        return Ok(None);
    };
    let (Some((gateway, prefix)), ipv6) = link::addresses(socket, link.index)? else {
        return Ok(None);
    };
    let bridge = Bridge {
        name: name.to_owned(),
        ipv4: Subnet::new(gateway, prefix),
        gateway,
        ipv6: ipv6.map(|(address, prefix)| Subnet::new(address, prefix)),
        gateway_ipv6: ipv6.map(|(address, _)| address),
    };
    Ok(Some((bridge, link)))
}

fn forward(bridge: &Bridge) -> io::Result<()> {
    sysctl::forward_ipv4()?;
    if bridge.ipv6.is_some() {
        sysctl::forward_ipv6()?;
    }
    Ok(())
}

fn create(
    socket: &Socket,
    files: &Files,
    name: &str,
    plan: &Plan,
) -> Result<(Bridge, Link), Error> {
    let refused = |source| Error::SetUpBridge { name: name.to_owned(), source };
    let outside = link::mtu_towards(socket, OUTSIDE_IPV4).map_err(refused)?;
    let outside_ipv6 = link::mtu_towards(socket, OUTSIDE_IPV6).map_err(refused)?;
    let found = outside.into_iter().chain(outside_ipv6).min().unwrap_or(DEFAULT_MTU);
    let runtime = files.directory.parent().expect("a bridge's directory is in the runtime's");
    let (ipv4, ipv6) = match plan.subnets {
        Subnets::Fixed(ipv4, ipv6) => {
            refuse_overlap(socket, runtime, name, ipv4)?;
            (ipv4, ipv6)
        }
        Subnets::Free => {
            let mut routed = link::routed(socket).map_err(refused)?;
            let reserved = reservation::all(runtime)?;
            routed.ipv4.extend(reserved.iter().map(|reserved| reserved.ipv4));
            routed.ipv6.extend(reserved.iter().filter_map(|reserved| reserved.ipv6));
            let ipv4 = choose_ipv4(&routed.ipv4).ok_or(Error::NoFreeSubnet)?;
            let ipv6 = outside_ipv6.and_then(|_| choose_ipv6(&routed.ipv6));
            (ipv4, ipv6)
        }
    };
    let bridge = plan.bridge(name, ipv4, ipv6);
    let mtu = plan.mtu.unwrap_or(found);
    let link = create_device(socket, &bridge, mtu).map_err(refused)?;
    Ok((bridge, link))
}

/// Two of our bridges with one subnet would take each other's packets.
fn refuse_overlap(
    socket: &Socket,
    runtime: &Path,
    name: &str,
    subnet: Subnet<Ipv4Addr>,
) -> Result<(), Error> {
    let refused = |source| Error::SetUpBridge { name: name.to_owned(), source };
    let failure = |source| Error::Runtime { path: runtime.to_owned(), source };
    for other in files::names(runtime).map_err(failure)? {
        if other == name {
            continue;
        }
        if let Some((bridge, _)) = existing(socket, &other).map_err(refused)?
            && bridge.ipv4.overlaps(&subnet)
        {
            return Err(Error::SubnetInUse { subnet, other: bridge.name });
        }
    }
    Ok(())
}

fn create_device(socket: &Socket, bridge: &Bridge, mtu: u32) -> Result<Link, Refusal> {
    let mac = mac(bridge.gateway);
    socket.transact(vec![link::create_bridge(&bridge.name, mac, mtu)])?;
    let link = link::find(socket, &bridge.name)?
        .ok_or(Refusal { step: "find the bridge", source: Errno::NODEV })?;
    let ipv4 = link::add_address(link.index, bridge.gateway, bridge.ipv4.prefix());
    let mut messages = vec![ipv4];
    if let (Some(subnet), Some(gateway)) = (bridge.ipv6, bridge.gateway_ipv6) {
        messages.push(link::add_address(link.index, gateway, subnet.prefix()));
    }
    socket.transact(messages)?;
    Ok(link)
}

/// Removes the bridge, these ports of it and its firewall rules, as far as they are there.
pub(super) fn remove(socket: &Socket, name: &str, ports: &[Link]) -> Result<(), Refusal> {
    std::thread::scope(|scope| {
        // Both wait for the kernel's RCU, and not for each other.
        let rules = scope.spawn(|| {
            for offset in nat::published(name)? {
                nat::unpublish(name, offset)?;
            }
            nat::remove(name)
        });
        let gone = link::find(socket, name).and_then(|link| match link {
            Some(link) => delete_with_ports(socket, link.index, ports),
            None => Ok(()),
        });
        gone.and(rules.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn delete_with_ports(socket: &Socket, bridge: u32, ports: &[Link]) -> Result<(), Refusal> {
    let indexes: Vec<u32> = ports.iter().map(|port| port.index).chain([bridge]).collect();
    let group = FIRST_GROUP + bridge % (1 << 16);
    match socket.transact(link::delete_together(&indexes, group)) {
        // Some have gone by themselves meanwhile. The others are in the group, and gone too, unless
        // they were all.
        Err(Refusal { source: Errno::NODEV, .. }) => {
            indexes.into_iter().try_for_each(|index| delete(socket, index))
        }
        result => result,
    }
}

/// Deletes a device that may be gone by itself.
pub(super) fn delete(socket: &Socket, index: u32) -> Result<(), Refusal> {
    match socket.transact(vec![link::delete(index)]) {
        Err(Refusal { source: Errno::NODEV, .. }) => Ok(()),
        result => result,
    }
}

/// The hardware address that goes with an address: who gets the address again is the same
/// neighbour to those who remember it.
fn mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    // Locally administered, and docker's own prefix.
    [0x02, 0x42, a, b, c, d]
}

/// The name of the bridge's end of the cable to the container that has this address.
fn port_name(address: Ipv4Addr) -> String {
    format!("rb{:08x}", address.to_bits())
}

pub(super) fn port_address(name: &str) -> Option<Ipv4Addr> {
    let digits = name.strip_prefix("rb").filter(|digits| digits.len() == 8)?;
    Some(Ipv4Addr::from_bits(u32::from_str_radix(digits, 16).ok()?))
}
