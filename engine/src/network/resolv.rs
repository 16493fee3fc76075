//! What a container reads about its network: the texts of `/etc/resolv.conf`, `/etc/hosts` and
//! `/etc/hostname`.
//!
//! Texts in, texts out, but for [`host_resolv_conf`]. Does not know where the files are mounted.

use std::fmt::Write;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where systemd-resolved lists the servers behind its own address.
const RESOLVED_UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";
/// The address of systemd-resolved itself.
const RESOLVED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
/// For a container whose host has no server that a container could reach.
const PUBLIC_IPV4: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
const PUBLIC_IPV6: [&str; 2] = ["2001:4860:4860::8888", "2001:4860:4860::8844"];

/// What a user asks instead of the host's own settings; each list that is empty asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of name servers (`--dns`).
    pub servers: Vec<IpAddr>,
    /// Domains to look for names in (`--dns-search`); a single `.` is none at all.
    pub search: Vec<String>,
    /// The resolver's options (`--dns-option`).
    pub options: Vec<String>,
}

/// From where name servers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From the host's own network, where all its servers answer.
    Host,
    /// From behind a bridge, where the host's loopback addresses are somebody else.
    Bridge {
        /// Whether the container has IPv6.
        ipv6: bool,
    },
}

/// The host's `/etc/resolv.conf`, or the list behind it where systemd-resolved is the only server.
/// No file is an empty one.
pub fn host_resolv_conf() -> io::Result<String> {
    let text = read_if_present("/etc/resolv.conf")?.unwrap_or_default();
    if !asks_only_resolved(&text) {
        return Ok(text);
    }
    Ok(read_if_present(RESOLVED_UPSTREAM)?.unwrap_or(text))
}

/// The name servers of a resolv.conf, for who asks from the host itself. Those with a zone
/// (`fe80::1%eth0`) are left out.
pub fn servers(text: &str) -> Vec<SocketAddr> {
    let address = |server: &str| server.parse::<IpAddr>().ok();
    all_words(text, "nameserver")
        .into_iter()
        .filter_map(address)
        .map(|ip| (ip, 53).into())
        .collect()
}

/// The container's resolv.conf (`resolv.conf(5)`), made from the host's text.
pub fn resolv_conf(host: &str, dns: &Dns, reach: Reach) -> String {
    let mut servers: Vec<String> = dns.servers.iter().map(IpAddr::to_string).collect();
    if servers.is_empty() {
        servers = reachable_servers(host, reach);
    }
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    let search = match dns.search.as_slice() {
        [] => last_words(host, &["search", "domain"]),
        [none] if none == "." => Vec::new(),
        search => search.iter().map(String::as_str).collect(),
    };
    let options = match dns.options.as_slice() {
        [] => all_words(host, "options"),
        options => options.iter().map(String::as_str).collect(),
    };
    for (keyword, words) in [("search", search), ("options", options)] {
        if !words.is_empty() {
            let _ = writeln!(text, "{keyword} {}", words.join(" "));
        }
    }
    text
}

/// The resolv.conf of a container that has its own name server at `server`, and the servers that
/// this one asks: the user's, else the host's.
pub fn with_name_server(host: &str, dns: &Dns, server: IpAddr) -> (String, Vec<SocketAddr>) {
    let mut asked = dns.clone();
    asked.servers = vec![server];
    if asked.options.is_empty() {
        asked.options = all_words(host, "options").into_iter().map(str::to_owned).collect();
    }
    // A container's name has no dot, and is to be asked for as it stands.
    if !asked.options.iter().any(|option| option.starts_with("ndots:")) {
        asked.options.push("ndots:0".to_owned());
    }
    let upstream = match dns.servers.as_slice() {
        [] => servers(host),
        given => given.iter().map(|address| (*address, 53).into()).collect(),
    };
    (resolv_conf(host, &asked, Reach::Host), upstream)
}

/// The container's hosts file: the loopback names, the user's entries, its own names.
pub fn hosts(own: &[IpAddr], names: &[&str], extra: &[(String, IpAddr)]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for (name, address) in extra {
        let _ = writeln!(text, "{address}\t{name}");
    }
    for line in own_hosts(own, names) {
        text += &line;
        text.push('\n');
    }
    text
}

/// The lines of the hosts file that name the container itself.
pub fn own_hosts(own: &[IpAddr], names: &[&str]) -> Vec<String> {
    if names.is_empty() {
        return Vec::new();
    }
    own.iter().map(|address| format!("{address}\t{}", names.join(" "))).collect()
}

/// The container's `/etc/hostname`.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

/// An entry for the hosts file as a user writes it (`--add-host`): `name:address` or
/// `name=address`, where the address may be `host-gateway`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name to be known.
    pub name: String,
    /// Its address; none is the host's, as seen from the container.
    pub address: Option<IpAddr>,
}

/// A text that is no [`ExtraHost`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid host entry {text:?}: expected name:address")]
pub struct InvalidExtraHost {
    /// What was given.
    pub text: String,
}

impl ExtraHost {
    /// The name and the address, now that it is known how the container reaches its host.
    pub fn resolve(self, gateway: IpAddr) -> (String, IpAddr) {
        (self.name, self.address.unwrap_or(gateway))
    }
}

impl FromStr for ExtraHost {
    type Err = InvalidExtraHost;

    fn from_str(text: &str) -> Result<Self, InvalidExtraHost> {
        parse_extra_host(text).ok_or_else(|| InvalidExtraHost { text: text.to_owned() })
    }
}

fn parse_extra_host(text: &str) -> Option<ExtraHost> {
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':'))?;
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address = match bare {
        "host-gateway" => None,
        bare => Some(bare.parse().ok()?),
    };
    (!name.is_empty()).then(|| ExtraHost { name: name.to_owned(), address })
}

/// The host's servers that answer from there, or public ones.
fn reachable_servers(host: &str, reach: Reach) -> Vec<String> {
    let servers = all_words(host, "nameserver").into_iter();
    let Reach::Bridge { ipv6 } = reach else {
        return servers.map(str::to_owned).collect();
    };
    let reachable = |server: &&str| match server.parse() {
        Ok(IpAddr::V4(address)) => !address.is_loopback(),
        Ok(IpAddr::V6(address)) => ipv6 && is_beyond_link(address),
        // An address with a zone: the host's device is not the container's.
        Err(_) => false,
    };
    let found: Vec<String> = servers.filter(reachable).map(str::to_owned).collect();
    if !found.is_empty() {
        return found;
    }
    let public_ipv6 = PUBLIC_IPV6.iter().filter(|_| ipv6);
    PUBLIC_IPV4.iter().chain(public_ipv6).map(|&server| server.to_owned()).collect()
}

fn is_beyond_link(address: Ipv6Addr) -> bool {
    !address.is_loopback() && !address.is_unicast_link_local()
}

fn asks_only_resolved(text: &str) -> bool {
    let servers = all_words(text, "nameserver");
    matches!(servers.as_slice(), [server] if server.parse() == Ok(RESOLVED))
}

/// Each directive's keyword and words. A comment takes a line of its own.
fn directives(text: &str) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next()?;
        (!keyword.starts_with(['#', ';'])).then_some((keyword, words))
    })
}

/// The words of all directives of a kind; of a name server's only the first counts.
fn all_words<'a>(text: &'a str, wanted: &str) -> Vec<&'a str> {
    let limit = if wanted == "nameserver" { 1 } else { usize::MAX };
    directives(text)
        .filter(|(keyword, _)| *keyword == wanted)
        .flat_map(|(_, words)| words.take(limit))
        .collect()
}

/// The words of the last directive of one of these kinds, which excludes those before it.
fn last_words<'a>(text: &'a str, wanted: &[&str]) -> Vec<&'a str> {
    directives(text)
        .filter(|(keyword, _)| wanted.contains(keyword))
        .last()
        .map_or_else(Vec::new, |(_, words)| words.filter(|word| *word != ".").collect())
}

fn read_if_present(path: &str) -> io::Result<Option<String>> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIDGE: Reach = Reach::Bridge { ipv6: false };
    const BRIDGE_IPV6: Reach = Reach::Bridge { ipv6: true };

    #[test]
    fn a_container_asks_the_servers_it_can_reach() {
        let check = |host: &str, reach: Reach, expected: &str| {
            assert_eq!(resolv_conf(host, &Dns::default(), reach), expected, "{host:?} {reach:?}");
        };
        let stub = "# by systemd\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n";
        check(stub, Reach::Host, "nameserver 127.0.0.53\nsearch lan\noptions edns0 trust-ad\n");
        let public = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n";
        check(stub, BRIDGE, &format!("{public}search lan\noptions edns0 trust-ad\n"));
        check("", BRIDGE, public);
        check("", Reach::Host, "");
        check(
            "nameserver ::1\n",
            BRIDGE_IPV6,
            &format!("{public}nameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n"),
        );
        let mixed = "nameserver fe80::1%eth0\nnameserver 127.0.0.1\nnameserver 10.0.0.1 # x\n\
                     ;nameserver 1.2.3.4\nnameserver fd00::1\n";
        check(mixed, BRIDGE, "nameserver 10.0.0.1\n");
        check(mixed, BRIDGE_IPV6, "nameserver 10.0.0.1\nnameserver fd00::1\n");
        let twice = "nameserver 9.9.9.9\ndomain a\nsearch b c\noptions x\noptions y:1\n";
        check(twice, BRIDGE, "nameserver 9.9.9.9\nsearch b c\noptions x y:1\n");
    }

    #[test]
    fn what_the_user_asks_replaces_the_hosts_settings() {
        let host = "nameserver 10.0.0.1\nsearch lan\noptions ndots:2\n";
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let check = |dns: Dns, expected: &str| {
            assert_eq!(resolv_conf(host, &dns, BRIDGE), expected);
        };
        let servers = vec!["127.0.0.11".parse().unwrap(), "fd00::2".parse().unwrap()];
        check(
            Dns { servers, ..Dns::default() },
            "nameserver 127.0.0.11\nnameserver fd00::2\nsearch lan\noptions ndots:2\n",
        );
        check(
            Dns { search: words("a b"), options: words("ndots:0"), ..Dns::default() },
            "nameserver 10.0.0.1\nsearch a b\noptions ndots:0\n",
        );
        let none = Dns { search: words("."), ..Dns::default() };
        check(none, "nameserver 10.0.0.1\noptions ndots:2\n");
    }

    #[test]
    fn the_host_s_servers_are_known() {
        let text = "nameserver 127.0.0.53\n#nameserver 1.1.1.1\nnameserver fe80::1%eth0\n\
                    nameserver fd00::1\n";
        let expected: [SocketAddr; 2] =
            ["127.0.0.53:53", "[fd00::1]:53"].map(|address| address.parse().unwrap());
        assert_eq!(servers(text), expected);
        let own = "127.0.0.11".parse().unwrap();
        let (conf, upstream) = with_name_server(text, &Dns::default(), own);
        assert_eq!(
            (conf.as_str(), upstream.as_slice()),
            ("nameserver 127.0.0.11\noptions ndots:0\n", &expected[..])
        );
        let asked = Dns {
            servers: vec!["9.9.9.9".parse().unwrap()],
            search: vec!["lan".to_owned()],
            options: vec!["ndots:2".to_owned()],
        };
        let (conf, upstream) = with_name_server(text, &asked, own);
        assert_eq!(conf, "nameserver 127.0.0.11\nsearch lan\noptions ndots:2\n");
        assert_eq!(upstream, ["9.9.9.9:53".parse().unwrap()]);
    }

    #[test]
    fn only_a_lone_stub_resolver_is_looked_behind() {
        let check = |text: &str, expected: bool| assert_eq!(asks_only_resolved(text), expected);
        check("nameserver 127.0.0.53\n", true);
        check("nameserver 127.0.0.53\nnameserver 1.1.1.1\n", false);
        check("nameserver 127.0.0.1\n", false);
        check("", false);
    }

    #[test]
    fn the_hosts_file_ends_with_the_containers_own_names() {
        let own = ["172.30.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let extra = [("db".to_owned(), "10.0.0.5".parse().unwrap())];
        let text = hosts(&own, &["web.example", "web"], &extra);
        let tail = "ff02::2\tip6-allrouters\n10.0.0.5\tdb\n\
                    172.30.0.2\tweb.example web\nfd00::2\tweb.example web\n";
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "), "{text}");
        assert!(text.ends_with(tail), "{text}");
        assert_eq!(hostname("web"), "web\n");
    }

    #[test]
    fn an_extra_host_is_a_name_and_an_address() {
        let check = |text: &str, expected: Option<(&str, Option<&str>)>| {
            let expected = expected.map(|(name, address)| ExtraHost {
                name: name.to_owned(),
                address: address.map(|address| address.parse().unwrap()),
            });
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        };
        check("db:10.0.0.5", Some(("db", Some("10.0.0.5"))));
        check("db=10.0.0.5", Some(("db", Some("10.0.0.5"))));
        check("db:::1", Some(("db", Some("::1"))));
        check("db:[::1]", Some(("db", Some("::1"))));
        check("db=[fd00::2]", Some(("db", Some("fd00::2"))));
        check("host.docker.internal:host-gateway", Some(("host.docker.internal", None)));
        check("db", None);
        check(":10.0.0.5", None);
        check("db:ten", None);
        let gateway: IpAddr = "172.30.0.1".parse().unwrap();
        let entry: ExtraHost = "h:host-gateway".parse().unwrap();
        assert_eq!(entry.resolve(gateway), ("h".to_owned(), gateway));
    }
}
