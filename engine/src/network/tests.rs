//! Networks on a machine of their own: each test is a thread in a network namespace that plays the
//! host, with a second one behind its default route that plays the rest of the world.
//!
//! They need root, and change nothing outside of those namespaces.

mod endpoints;
mod names;
mod ports;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::link::{self, Veth};
use super::netlink::Socket;
use super::{Attachment, Network, NetworkNamespace, NetworkPool, Subnets, nat, sweep};
use crate::sys::net::unshare_network;

const NAME: &str = "rbtest0";
const MTU: u32 = 1400;
/// The machine and the rest of the world, as they see each other.
const HOST: [&str; 2] = ["192.0.2.2", "fd00::2"];
const WORLD: [&str; 2] = ["192.0.2.1", "fd00::1"];

/// Runs a test as if on a machine of its own, with a directory for networks, and fails if
/// sweeping then leaves a bridge or a firewall table.
fn on_machine(test: impl FnOnce(&Path, &NetworkNamespace) + Send) {
    let directory = tempfile::tempdir().unwrap();
    let run = || {
        unshare_network().unwrap();
        let socket = Socket::route().unwrap();
        socket.transact(vec![link::set_up(1)]).unwrap();
        let world = world(&socket);
        test(directory.path(), &world);
        sweep_all(directory.path());
        assert!(link::find(&socket, NAME).unwrap().is_none(), "the bridge is left");
        assert!(!nat::is_installed(NAME).unwrap(), "the firewall's table is left");
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap();
}

/// Sweeps until the bridge is gone. A process that another test is starting has all our descriptors
/// until it executes, and so uses the network for a moment.
fn sweep_all(directory: &Path) {
    let socket = Socket::route().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while link::find(&socket, NAME).unwrap().is_some() && Instant::now() < deadline {
        sweep(directory).unwrap();
    }
}

/// Makes the rest of the world, and the machine's way there.
fn world(socket: &Socket) -> NetworkNamespace {
    let world = NetworkNamespace::new(true).unwrap();
    socket.transact(vec![link::create_bridge("uplink", [2, 0, 0, 0, 0, 1], MTU)]).unwrap();
    let uplink = link::find(socket, "uplink").unwrap().unwrap().index;
    let veth = Veth {
        name: "uplink1",
        bridge: uplink,
        mtu: MTU,
        namespace: world.as_fd(),
        peer: "eth0",
        peer_mac: [2, 0, 0, 0, 0, 2],
    };
    socket.transact(vec![link::create_veth(&veth)]).unwrap();
    let address = |device: u32, [ipv4, ipv6]: [&str; 2]| {
        vec![
            link::add_address::<Ipv4Addr>(device, ipv4.parse().unwrap(), 24),
            link::add_address::<std::net::Ipv6Addr>(device, ipv6.parse().unwrap(), 64),
        ]
    };
    let device = world.device("eth0").unwrap();
    world.transact(vec![link::set_up(device)]).unwrap();
    world.transact(address(device, WORLD)).unwrap();
    socket.transact(address(uplink, HOST)).unwrap();
    let routes = WORLD.map(|gateway| link::add_default_route(gateway.parse().unwrap()));
    socket.transact(Vec::from(routes)).unwrap();
    world.settle("eth0").unwrap();
    link::settle(socket, "uplink1").unwrap();
    link::settle(socket, "uplink").unwrap();
    world
}

/// Runs something in a namespace, on a thread that ends there.
fn inside<T: Send>(namespace: impl AsFd + Sync, action: impl FnOnce() -> T + Send) -> T {
    let run = || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        action()
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap()
}

fn listen(namespace: &NetworkNamespace, address: IpAddr) -> TcpListener {
    inside(namespace, || TcpListener::bind((address, 0)).unwrap())
}

/// Connects from a namespace; the address that the listener sees.
fn connect(from: &NetworkNamespace, to: &TcpListener) -> Result<IpAddr, ErrorKind> {
    let address = to.local_addr().unwrap();
    inside(from, || connect_to(address))?;
    Ok(to.accept().unwrap().1.ip())
}

/// An IPv4 packet that is lost would cost a second, and so the test. A new IPv6 address does not
/// hear its neighbours before a worker of the kernel has had its turn.
fn connect_to(address: SocketAddr) -> Result<TcpStream, ErrorKind> {
    let patience = Duration::from_millis(if address.is_ipv4() { 600 } else { 5000 });
    TcpStream::connect_timeout(&address, patience).map_err(|error| error.kind())
}

fn open(directory: &Path) -> Network {
    Network::open(directory, NAME, Subnets::Free).unwrap()
}

/// Checks who a container reaches, and as whom.
fn check_reach(network: &Network, world: &NetworkNamespace) {
    let (one, two) = (network.attach().unwrap(), network.attach().unwrap());
    let ipv6: IpAddr = one.ipv6.unwrap().into();
    for (own, family) in [(IpAddr::V4(one.ipv4), 0), (ipv6, 1)] {
        let outside = listen(world, WORLD[family].parse().unwrap());
        assert_eq!(connect(&one.namespace, &outside), Ok(HOST[family].parse().unwrap()));

        let neighbour = [IpAddr::V4(two.ipv4), two.ipv6.unwrap().into()][family];
        let neighbour = listen(&two.namespace, neighbour);
        assert_eq!(connect(&one.namespace, &neighbour), Ok(own));

        let bridge = network.bridge();
        let gateway = [bridge.ipv4.gateway().into(), bridge.ipv6.unwrap().gateway().into()][family];
        let host = TcpListener::bind::<(IpAddr, u16)>((gateway, 0)).unwrap();
        assert_eq!(connect(&one.namespace, &host), Ok(own));
    }
    network.detach(one);
    network.detach(two);
}

#[test]
fn a_container_reaches_neighbours_the_host_and_the_world() {
    on_machine(|directory, world| {
        let network = open(directory);
        assert_eq!(network.bridge().ipv4.to_string(), "172.30.0.0/16");
        check_reach(&network, world);
        let socket = Socket::route().unwrap();
        let bridge = link::find(&socket, NAME).unwrap().unwrap();
        assert_eq!(bridge.mtu, MTU);
    });
}

#[test]
fn the_world_does_not_reach_a_container() {
    on_machine(|directory, world| {
        let network = open(directory);
        let one = network.attach().unwrap();
        let listener = listen(&one.namespace, one.ipv4.into());
        // The world knows the way: only the firewall is in it.
        world.transact(vec![link::add_default_route(HOST[0].parse().unwrap())]).unwrap();
        assert_eq!(connect(world, &listener), Err(ErrorKind::TimedOut));
        // The host itself is let through.
        assert!(connect_to(listener.local_addr().unwrap()).is_ok());
        network.detach(one);
    });
}

#[test]
fn a_bridge_is_of_use_where_others_forbid_forwarding() {
    on_machine(|directory, world| {
        nat::forbid_forwarding();
        let network = open(directory);
        assert_eq!(nat::foreign_rules(NAME), 4);
        check_reach(&network, world);
        drop(network);
        sweep_all(directory);
        assert_eq!(nat::foreign_rules(NAME), 0);
    });
}

#[test]
fn others_may_come_later_to_forbid_forwarding() {
    on_machine(|directory, world| {
        drop(open(directory));
        nat::forbid_forwarding();
        check_reach(&open(directory), world);
    });
}

#[test]
fn a_flushed_firewall_is_set_up_again() {
    on_machine(|directory, world| {
        let network = open(directory);
        nat::remove(NAME).unwrap();
        let second = open(directory);
        assert_eq!(second.bridge(), network.bridge());
        check_reach(&second, world);
    });
}

#[test]
fn fixed_subnets_are_taken_as_they_are() {
    on_machine(|directory, _| {
        let ipv4 = "10.9.8.0/30".parse().unwrap();
        let network = Network::open(directory, NAME, Subnets::Fixed(ipv4, None)).unwrap();
        let one = network.attach().unwrap();
        assert_eq!((one.ipv4, one.ipv6), (Ipv4Addr::new(10, 9, 8, 2), None));
        let full = network.attach().err().unwrap();
        assert_eq!(full.to_string(), "no address is free in 10.9.8.0/30");
        network.detach(one);
        // The veth pair may still be there when the address is leased again.
        for _ in 0..3 {
            let again = network.attach().unwrap();
            network.detach(again);
        }
    });
}

#[test]
fn a_bridge_is_full_before_its_addresses_run_out() {
    on_machine(|directory, _| {
        let network = open(directory);
        let socket = Socket::route().unwrap();
        let bridge = link::find(&socket, NAME).unwrap().unwrap().index;
        for index in 0..1022 {
            socket.transact(vec![link::create_port(&format!("port{index}"), bridge)]).unwrap();
        }
        let last = network.attach().unwrap();
        let full = network.attach().err().unwrap().to_string();
        assert!(
            full.starts_with("the bridge rbtest0 has all the containers it can have"),
            "{full}"
        );
        network.detach(last);
    });
}

#[test]
fn a_pool_hands_a_namespace_to_the_next_step() {
    on_machine(|directory, world| {
        let pool = NetworkPool::new(directory, NAME, Subnets::Free, 1);
        let first = pool.take().unwrap();
        let address = first.ipv4();
        let outside = listen(world, WORLD[0].parse().unwrap());
        assert!(connect(first.namespace(), &outside).is_ok());
        assert!(fs_err::File::open(first.path()).is_ok());
        drop(first);
        assert_eq!(pool.take().unwrap().ipv4(), address);

        let many: Vec<_> = thread::scope(|scope| {
            let takers: Vec<_> = (0..24).map(|_| scope.spawn(|| pool.take().unwrap())).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).collect()
        });
        let addresses: BTreeSet<_> = many.iter().map(|lease| lease.ipv4()).collect();
        assert_eq!(addresses.len(), 24);
        // A lease may outlast its pool.
        drop(pool);
        assert!(connect(many[0].namespace(), &outside).is_ok());
    });
}

/// What the variable of this name gives a test process that is a mere user of a network.
const USER_DIRECTORY: &str = "RBUILD_TEST_NETWORK_DIRECTORY";

/// Not a test by itself: the other process of the tests below.
#[test]
fn a_user_in_another_process() {
    let Some(directory) = std::env::var_os(USER_DIRECTORY) else {
        return;
    };
    let network = open(Path::new(&directory));
    let attachments: Vec<_> = (0..4).map(|_| network.attach().unwrap()).collect();
    let addresses: Vec<_> = attachments.iter().map(|one| one.ipv4.to_string()).collect();
    let mut stdout = std::io::stdout();
    writeln!(stdout, "\naddresses {}", addresses.join(" ")).unwrap();
    stdout.flush().unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    attachments.into_iter().for_each(|one| network.detach(one));
}

fn start_user(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "network::tests::a_user_in_another_process", "--nocapture"])
        .env(USER_DIRECTORY, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the process has its addresses.
fn addresses(user: &mut Child) -> Vec<Ipv4Addr> {
    let lines = BufReader::new(user.stdout.as_mut().unwrap()).lines();
    let line = lines
        .map(Result::unwrap)
        .find_map(|line| Some(line.strip_prefix("addresses ")?.to_owned()));
    line.unwrap().split(' ').map(|address| address.parse().unwrap()).collect()
}

fn port_count() -> usize {
    let socket = Socket::route().unwrap();
    let ports = link::list(&socket).unwrap();
    ports.iter().filter(|port| port.name.starts_with("rb") && port.name != NAME).count()
}

/// Waits for the kernel to remove what belonged to a namespace that is gone.
fn wait_for_ports(expected: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while port_count() != expected {
        assert!(Instant::now() < deadline, "{} ports, expected {expected}", port_count());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn processes_share_a_bridge_until_none_uses_it() {
    on_machine(|directory, _| {
        let mut users: Vec<_> = (0..4).map(|_| start_user(directory)).collect();
        let leased: BTreeSet<_> = users.iter_mut().flat_map(addresses).collect();
        assert_eq!(leased.len(), 16);
        let fixed = Subnets::Fixed("10.9.8.0/24".parse().unwrap(), None);
        let other = Network::open(directory, NAME, fixed).err().unwrap();
        assert_eq!(other.to_string(), "the bridge rbtest0 is in use with other subnets");
        let socket = Socket::route().unwrap();
        for mut user in users {
            sweep(directory).unwrap();
            assert!(link::find(&socket, NAME).unwrap().is_some());
            drop(user.stdin.take());
            assert!(user.wait_with_output().unwrap().status.success());
        }
        assert_eq!(Network::open(directory, NAME, fixed).unwrap().bridge().ipv6, None);
    });
}

#[test]
fn what_a_killed_process_leaves_is_swept() {
    on_machine(|directory, _| {
        let network = open(directory);
        let one = network.attach().unwrap();
        let mut user = start_user(directory);
        let leased = addresses(&mut user);
        // Whatever lives on in one of the namespaces keeps its veth pair.
        let orphan = orphan_of(&user);
        user.kill().unwrap();
        user.wait().unwrap();
        wait_for_ports(2);

        sweep(directory).unwrap();
        assert_eq!(port_count(), 1, "only the port of the address in use stays");
        assert!(!leased.contains(&one.ipv4));
        drop(orphan);
        network.detach(one);
    });
}

#[test]
fn a_bridge_whose_only_user_was_killed_is_used_again() {
    on_machine(|directory, world| {
        let mut user = start_user(directory);
        addresses(&mut user);
        user.kill().unwrap();
        user.wait().unwrap();
        check_reach(&open(directory), world);
    });
}

/// A descriptor for one of a user's namespaces, which outlives the process.
fn orphan_of(user: &Child) -> std::fs::File {
    let own = fs_err::read_link(format!("/proc/{}/ns/net", user.id())).unwrap();
    let descriptors = fs_err::read_dir(format!("/proc/{}/fd", user.id())).unwrap();
    let namespace = descriptors.map(|entry| entry.unwrap().path()).find(|path| {
        let target = fs_err::read_link(path).unwrap_or_default();
        target.to_string_lossy().starts_with("net:[") && target != own
    });
    std::fs::File::open(namespace.unwrap()).unwrap()
}

/// Not a measurement to rely on, but one to look at: `--nocapture` shows it.
#[test]
fn timings() {
    let mut report = String::new();
    on_machine(|directory, _| {
        let mut time = |what: &str, action: &mut dyn FnMut()| {
            let start = Instant::now();
            action();
            report.push_str(&format!("{what:40}{:9.3} ms\n", start.elapsed().as_secs_f64() * 1e3));
        };
        let mut networks: Vec<Network> = Vec::new();
        let mut attachments: Vec<Attachment> = Vec::new();
        time("a bare namespace", &mut || drop(NetworkNamespace::new(true).unwrap()));
        time("open, the bridge is made", &mut || networks.push(open(directory)));
        time("open, the bridge is there", &mut || networks.push(open(directory)));
        time("attach", &mut || attachments.push(networks[0].attach().unwrap()));
        for _ in 0..10 {
            time("attach", &mut || attachments.push(networks[0].attach().unwrap()));
        }
        time("detach 11", &mut || {
            attachments.drain(..).for_each(|one| networks[0].detach(one));
        });
        networks.clear();

        let mut pool = None;
        time("a pool", &mut || {
            pool = Some(NetworkPool::new(directory, NAME, Subnets::Free, 2));
        });
        time("take at once", &mut || drop(pool.as_ref().unwrap().take().unwrap()));
        thread::sleep(Duration::from_millis(50));
        time("take later", &mut || drop(pool.as_ref().unwrap().take().unwrap()));
        time("drop the pool", &mut || drop(pool.take()));
        let mut one_container = || {
            let network = open(directory);
            let one = network.attach().unwrap();
            network.detach(one);
        };
        time("one container", &mut one_container);
        time("10 containers, one after the other", &mut || (0..10).for_each(|_| one_container()));
        time("sweep", &mut || sweep(directory).unwrap());
    });
    let _ = writeln!(std::io::stdout(), "{report}");
}
