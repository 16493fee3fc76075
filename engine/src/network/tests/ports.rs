//! Published ports: who reaches a container through the host.

use std::net::UdpSocket;

use super::endpoints::{namespace, on_machine_with_store};
use super::*;
use crate::network::{Endpoint, Ports, parse_publish};

fn publish(text: &str, endpoint: &Endpoint) -> (Ports, u16) {
    let ports = Ports::reserve(&parse_publish(text).unwrap(), None).unwrap();
    ports.publish(endpoint).unwrap();
    let port = ports.bindings()[0].host_port;
    (ports, port)
}

/// Connects to an address from a namespace, or from the host; who the container sees.
fn ask(
    from: Option<&NetworkNamespace>,
    address: &str,
    port: u16,
    listener: &TcpListener,
) -> Result<IpAddr, ErrorKind> {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    let stream = match from {
        Some(namespace) => inside(namespace, || connect_to(address)),
        None => connect_to(address),
    }?;
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match listener.accept() {
            Ok((_, peer)) => return Ok(peer.ip()),
            Err(_) if Instant::now() > deadline => break,
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
    drop(stream);
    Err(ErrorKind::NotConnected)
}

#[test]
fn a_published_port_answers_everywhere() {
    on_machine_with_store(|machine| {
        let (front, back) = (machine.network("front"), machine.network("back"));
        let (web, neighbour, stranger) = (namespace(), namespace(), namespace());
        let endpoint = machine.connect(&front, &web, "web");
        let _neighbour = machine.connect(&front, &neighbour, "neighbour");
        let _stranger = machine.connect(&back, &stranger, "stranger");
        let listener = inside(&web, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap());
        let (ports, port) = publish("80", &endpoint);
        let gateway = IpAddr::V4(endpoint.record().gateway);
        assert_eq!(ask(None, "127.0.0.1", port, &listener), Ok(gateway));
        assert_eq!(ask(None, "::1", port, &listener), Ok(gateway), "by the relay");
        assert!(ask(None, HOST[0], port, &listener).is_ok());
        let world = ask(Some(machine.world), HOST[0], port, &listener);
        assert_eq!(world, Ok(WORLD[0].parse().unwrap()), "the asker's own address is seen");
        assert!(ask(Some(&web), HOST[0], port, &listener).is_ok(), "the container itself");
        assert!(ask(Some(&neighbour), HOST[0], port, &listener).is_ok());
        assert!(ask(Some(&stranger), HOST[0], port, &listener).is_ok());

        // The container is moved to another network, and its ports with it.
        endpoint.disconnect().unwrap();
        ports.withdraw();
        assert!(nat::published(&front.bridge_name()).unwrap().is_empty());
        for address in ["127.0.0.1", "::1"] {
            let nowhere = ask(None, address, port, &listener);
            assert_eq!(nowhere, Err(ErrorKind::NotConnected), "{address}");
        }
        let endpoint = machine.connect(&back, &web, "web");
        ports.publish(&endpoint).unwrap();
        for address in ["127.0.0.1", "::1"] {
            assert!(ask(None, address, port, &listener).is_ok(), "{address}");
        }
        drop((endpoint, ports));
        let after = ask(None, "127.0.0.1", port, &listener);
        assert_eq!(after, Err(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn a_port_on_the_loopback_device_is_the_host_s() {
    on_machine_with_store(|machine| {
        let front = machine.network("front");
        let (web, neighbour) = (namespace(), namespace());
        let endpoint = machine.connect(&front, &web, "web");
        let _neighbour = machine.connect(&front, &neighbour, "neighbour");
        let listener = inside(&web, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap());
        let (_ports, port) = publish("127.0.0.1::80", &endpoint);
        assert!(ask(None, "127.0.0.1", port, &listener).is_ok());
        assert!(ask(Some(machine.world), HOST[0], port, &listener).is_err());
        assert!(ask(Some(&neighbour), HOST[0], port, &listener).is_err());

        // Nor does a container that sends packets for 127.0.0.1 to its gateway reach the host's
        // own servers.
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let sysctl = || std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
        inside(&neighbour, sysctl);
        neighbour
            .transact(vec![link::add_host_route(
                "127.0.0.99".parse().unwrap(),
                endpoint.record().gateway.into(),
            )])
            .unwrap();
        let port = host.local_addr().unwrap().port();
        assert!(ask(Some(&neighbour), "127.0.0.99", port, &host).is_err());
    });
}

#[test]
fn ranges_and_udp_are_published() {
    on_machine_with_store(|machine| {
        let front = machine.network("front");
        let web = namespace();
        let endpoint = machine.connect(&front, &web, "web");
        let (ports, port) = publish("53/udp", &endpoint);
        let server = inside(&web, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap());
        server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        for (from, to) in [(None, "127.0.0.1"), (Some(machine.world), HOST[0]), (None, "::1")] {
            let any = if to == "::1" { "[::]:0" } else { "0.0.0.0:0" };
            let client = || UdpSocket::bind(any).unwrap();
            let client = from.map_or_else(client, |from| inside(from, client));
            client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            client.connect((to, port)).unwrap();
            client.send(b"question").unwrap();
            let mut buffer = [0; 16];
            let (length, peer) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"question");
            server.send_to(b"answer", peer).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 6, "the answer comes from {to}");
        }
        drop(ports);
        let (_ports, port) = publish("20000-20010:8000", &endpoint);
        assert!((20000..=20010).contains(&port));
    });
}

#[test]
fn hundreds_of_ports_are_published_where_others_forbid_forwarding() {
    on_machine_with_store(|machine| {
        nat::forbid_forwarding();
        let front = machine.network("front");
        let web = namespace();
        let endpoint = machine.connect(&front, &web, "web");
        let listener = inside(&web, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 1300)).unwrap());
        let (ports, _) = publish("1000-1300", &endpoint);
        let port = ports.bindings().last().unwrap().host_port;
        assert!(ask(Some(machine.world), HOST[0], port, &listener).is_ok());
    });
}

#[test]
fn a_killed_container_s_ports_are_not_the_next_one_s() {
    on_machine_with_store(|machine| {
        let mut small =
            crate::network::NetworkRequest { name: "small".into(), ..Default::default() };
        small.addresses.subnets.push("10.78.0.0/30".into());
        let network = machine.store.create(&small).unwrap();
        let one = namespace();
        let endpoint = machine.connect(&network, &one, "one");
        let offset = 2;
        let (_ports, _) = publish("80", &endpoint);
        let table = nat::published(&network.bridge_name()).unwrap();
        assert_eq!(table, [offset]);
        drop(endpoint);
        let stale = nat::Redirect {
            host: "0.0.0.0".parse().unwrap(),
            host_port: 20099,
            container: "10.78.0.2".parse().unwrap(),
            container_port: 80,
            protocol: libc::IPPROTO_TCP,
        };
        nat::publish(&network.bridge_name(), offset, &[stale]).unwrap();
        let endpoint = machine.connect(&network, &one, "two");
        assert!(nat::published(&network.bridge_name()).unwrap().is_empty());
        nat::publish(&network.bridge_name(), offset + 1, &[stale]).unwrap();
        sweep(machine.runtime).unwrap();
        assert!(nat::published(&network.bridge_name()).unwrap().is_empty(), "swept");
        // They go with the network too.
        drop(endpoint);
        nat::publish(&network.bridge_name(), offset, &[stale]).unwrap();
        machine.store.remove(&network).unwrap();
        assert!(nat::published(&network.bridge_name()).unwrap().is_empty(), "removed");
    });
}
