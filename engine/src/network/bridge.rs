//! A bridge and the networking of the containers behind it, shared by processes that do not know
//! each other.
//!
//! ```text
//! <runtime directory>/<bridge>/
//!   lock      held while the bridge is set up, taken down or swept
//!   leases    held by all who use the bridge; its bytes are the addresses (see `lease`)
//! ```
//!
//! The first user sets the bridge up. It stays when the last one leaves, for to take it down costs
//! fifty milliseconds, which is more than a whole step; [`sweep`] removes what nobody uses. That
//! there is a bridge, and what its subnets are, is asked of the kernel: no file can be wrong about
//! it.
//!
//! Does not know what runs in a container, nor the names containers go by.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use fs_err::File;
use rustix::io::Errno;

use super::lease::Leases;
use super::link::{self, Link, Mac, Veth};
use super::namespace::{DEVICE, NetworkNamespace};
use super::netlink::{Refusal, Socket};
use super::subnet::{Subnet, choose_ipv4, choose_ipv6};
use super::{Error, nat, sysctl};

/// The MTU of a machine that is connected to nothing.
const DEFAULT_MTU: u32 = 1500;
/// Somewhere outside, to ask the kernel for the way there. No packet is sent.
const OUTSIDE_IPV4: IpAddr = IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8));
const OUTSIDE_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888));

/// A bridge as it is to be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bridge {
    /// The device's name, which the firewall's table has too.
    pub name: String,
    /// Where containers get their IPv4 addresses from; the first one is the bridge's.
    pub ipv4: Subnet<Ipv4Addr>,
    /// The same for IPv6; without it containers have no IPv6.
    pub ipv6: Option<Subnet<Ipv6Addr>>,
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

impl Subnets {
    fn allow(self, bridge: &Bridge) -> bool {
        match self {
            Subnets::Free => true,
            Subnets::Fixed(ipv4, ipv6) => (bridge.ipv4, bridge.ipv6) == (ipv4, ipv6),
        }
    }
}

/// A bridge in use: it is not swept while any process has one of these.
pub struct Network {
    directory: PathBuf,
    bridge: Bridge,
    index: u32,
    mtu: u32,
    leases: Leases,
    socket: Socket,
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
    offset: u32,
}

impl Network {
    /// Makes sure that the bridge is there and becomes one of its users.
    ///
    /// `directory` is for networks alone, the same for all processes of the machine, and gone or
    /// stale after a reboot. A bridge that is in use keeps its subnets if they are to be free ones.
    pub fn open(directory: &Path, name: &str, subnets: Subnets) -> Result<Self, Error> {
        let files = Files::lock(directory, name)?;
        let network = Self::set_up(&files, name, subnets)?;
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
        let offset = self.lease_address()?;
        let connected = self.connect(namespace, offset);
        if connected.is_err() {
            self.give_back(offset);
        }
        connected
    }

    /// Takes a namespace away again.
    pub fn detach(&self, attachment: Attachment) {
        // The kernel removes the veth pair with the namespace, when it comes to it.
        drop(attachment.namespace);
        self.give_back(attachment.offset);
    }

    fn set_up(files: &Files, name: &str, subnets: Subnets) -> Result<Self, Error> {
        let refused = |source| Error::SetUpBridge { name: name.to_owned(), source };
        let socket = Socket::route().map_err(refused)?;
        let leases = files.leases()?;
        let (bridge, link) = match existing(&socket, name).map_err(refused)? {
            Some((bridge, link)) if subnets.allow(&bridge) => (bridge, link),
            _ if leases.is_unused().map_err(|source| files.failure(source))? => {
                remove(&socket, name).map_err(refused)?;
                create(&socket, name, subnets)?
            }
            _ => {
                return Err(Error::BridgeInUse { name: name.to_owned() });
            }
        };
        if !nat::is_installed(name).map_err(refused)? {
            forward(&bridge).map_err(|source| Error::Forward { source })?;
            nat::install(&bridge).map_err(refused)?;
        }
        let directory = files.directory.clone();
        Ok(Network { directory, bridge, index: link.index, mtu: link.mtu, leases, socket })
    }

    fn lease_address(&self) -> Result<u32, Error> {
        // The highest address is the subnet's broadcast address.
        let last = self.bridge.ipv4.last_offset().saturating_sub(1);
        self.leases
            .take(last)
            .map_err(|source| Error::Runtime { path: self.directory.clone(), source })?
            .ok_or(Error::NoFreeAddress { subnet: self.bridge.ipv4 })
    }

    fn give_back(&self, offset: u32) {
        // Unlocking fails for a descriptor that is none, and the lock ends with ours anyway.
        let _ = self.leases.give_back(offset);
    }

    fn connect(&self, namespace: NetworkNamespace, offset: u32) -> Result<Attachment, Error> {
        let ipv4 = self.bridge.ipv4.address(offset);
        let ipv6 = self.bridge.ipv6.map(|subnet| subnet.address(offset));
        let mac = mac(ipv4);
        let name = port_name(ipv4);
        let refused = |source| Error::Connect { object: name.clone(), source };
        let veth = Veth {
            name: &name,
            bridge: self.index,
            mtu: self.mtu,
            namespace: namespace.as_fd(),
            peer: DEVICE,
            peer_mac: mac,
        };
        self.plug(&veth).map_err(refused)?;

        let device = namespace.device(DEVICE).map_err(refused)?;
        let subnet = self.bridge.ipv4;
        let mut messages = vec![
            link::set_up(device),
            link::add_address(device, ipv4, subnet.prefix()),
            link::add_default_route(subnet.gateway().into()),
        ];
        if let (Some(address), Some(subnet)) = (ipv6, self.bridge.ipv6) {
            messages.push(link::add_address(device, address, subnet.prefix()));
            messages.push(link::add_default_route(subnet.gateway().into()));
        }
        namespace.transact(messages).map_err(refused)?;
        self.settle(&namespace, &name).map_err(refused)?;
        Ok(Attachment { namespace, ipv4, ipv6, mac, gateway: subnet.gateway(), offset })
    }

    /// Has all that is on the way from the namespace's device to the host ready for packets, in
    /// this order: a bridge has a carrier only when one of its ports has.
    fn settle(&self, namespace: &NetworkNamespace, port: &str) -> Result<(), Refusal> {
        namespace.settle(DEVICE)?;
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

/// Removes what nobody uses in the networks of this directory: bridges without users, their
/// firewall tables, and the veth pairs of addresses that are not leased.
///
/// It costs some fifty milliseconds for each bridge that goes. What is set up stays up until
/// somebody calls this: a command that prunes, or a process that ends while nobody waits for it.
pub fn sweep(directory: &Path) -> Result<(), Error> {
    let failure = |source| Error::Runtime { path: directory.to_owned(), source };
    let entries = match fs_err::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failure)?,
    };
    for entry in entries {
        let name = entry.map_err(failure)?.file_name();
        let Some(name) = name.to_str() else { continue };
        sweep_bridge(&Files::lock(directory, name)?, name)?;
    }
    Ok(())
}

fn sweep_bridge(files: &Files, name: &str) -> Result<(), Error> {
    let refused = |source| Error::Sweep { name: name.to_owned(), source };
    let socket = Socket::route().map_err(refused)?;
    let leases = files.leases()?;
    let unused = leases.is_unused().map_err(|source| files.failure(source))?;
    if let Some(bridge) = link::find(&socket, name).map_err(refused)? {
        let (subnet, _) = link::subnets(&socket, bridge.index).map_err(refused)?;
        for port in link::list(&socket).map_err(refused)? {
            let offset = port_address(&port.name).and_then(|address| subnet?.offset(address));
            let (Some(offset), true) = (offset, port.master == Some(bridge.index)) else {
                continue;
            };
            if unused || !leases.is_taken(offset).map_err(|source| files.failure(source))? {
                delete(&socket, port.index).map_err(refused)?;
            }
        }
    }
    if unused {
        remove(&socket, name).map_err(refused)?;
    }
    Ok(())
}

/// The files of one bridge, locked against whoever would set it up or take it down.
struct Files {
    directory: PathBuf,
    _lock: File,
}

impl Files {
    fn lock(directory: &Path, name: &str) -> Result<Self, Error> {
        let directory = directory.join(name);
        fs_err::create_dir_all(&directory)
            .map_err(|source| Error::Runtime { path: directory.clone(), source })?;
        Self::lock_directory(directory)
    }

    fn lock_directory(directory: PathBuf) -> Result<Self, Error> {
        let path = directory.join("lock");
        match File::create(path).and_then(|file| file.file().lock().map(|()| file)) {
            Ok(file) => Ok(Files { directory, _lock: file }),
            Err(source) => Err(Error::Runtime { path: directory, source }),
        }
    }

    fn leases(&self) -> Result<Leases, Error> {
        Leases::open(&self.directory.join("leases")).map_err(|source| self.failure(source))
    }

    fn failure(&self, source: io::Error) -> Error {
        Error::Runtime { path: self.directory.clone(), source }
    }
}

/// The bridge as the kernel has it; none if it is absent or half made.
fn existing(socket: &Socket, name: &str) -> Result<Option<(Bridge, Link)>, Refusal> {
    let Some(link) = link::find(socket, name)? else {
        return Ok(None);
    };
    let (Some(ipv4), ipv6) = link::subnets(socket, link.index)? else {
        return Ok(None);
    };
    Ok(Some((Bridge { name: name.to_owned(), ipv4, ipv6 }, link)))
}

fn forward(bridge: &Bridge) -> io::Result<()> {
    sysctl::forward_ipv4()?;
    if bridge.ipv6.is_some() {
        sysctl::forward_ipv6()?;
    }
    Ok(())
}

fn create(socket: &Socket, name: &str, subnets: Subnets) -> Result<(Bridge, Link), Error> {
    let refused = |source| Error::SetUpBridge { name: name.to_owned(), source };
    let outside = link::mtu_towards(socket, OUTSIDE_IPV4).map_err(refused)?;
    let outside_ipv6 = link::mtu_towards(socket, OUTSIDE_IPV6).map_err(refused)?;
    let mtu = outside.into_iter().chain(outside_ipv6).min().unwrap_or(DEFAULT_MTU);
    let (ipv4, ipv6) = match subnets {
        Subnets::Fixed(ipv4, ipv6) => (ipv4, ipv6),
        Subnets::Free => {
            let routed = link::routed(socket).map_err(refused)?;
            let ipv4 = choose_ipv4(&routed.ipv4).ok_or(Error::NoFreeSubnet)?;
            let ipv6 = outside_ipv6.and_then(|_| choose_ipv6(&routed.ipv6));
            (ipv4, ipv6)
        }
    };
    let bridge = Bridge { name: name.to_owned(), ipv4, ipv6 };
    let link = create_device(socket, &bridge, mtu).map_err(refused)?;
    Ok((bridge, link))
}

fn create_device(socket: &Socket, bridge: &Bridge, mtu: u32) -> Result<Link, Refusal> {
    let mac = mac(bridge.ipv4.gateway());
    socket.transact(vec![link::create_bridge(&bridge.name, mac, mtu)])?;
    let link = link::find(socket, &bridge.name)?
        .ok_or(Refusal { step: "find the bridge", source: Errno::NODEV })?;
    let ipv4 = link::add_address(link.index, bridge.ipv4.gateway(), bridge.ipv4.prefix());
    let mut messages = vec![ipv4];
    if let Some(subnet) = bridge.ipv6 {
        messages.push(link::add_address(link.index, subnet.gateway(), subnet.prefix()));
    }
    socket.transact(messages)?;
    Ok(link)
}

/// Removes the bridge and its firewall rules, as far as they are there.
fn remove(socket: &Socket, name: &str) -> Result<(), Refusal> {
    if let Some(link) = link::find(socket, name)? {
        delete(socket, link.index)?;
    }
    nat::remove(name)
}

/// Deletes a device that may be gone by itself.
fn delete(socket: &Socket, index: u32) -> Result<(), Refusal> {
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

fn port_address(name: &str) -> Option<Ipv4Addr> {
    let digits = name.strip_prefix("rb").filter(|digits| digits.len() == 8)?;
    Some(Ipv4Addr::from_bits(u32::from_str_radix(digits, 16).ok()?))
}
