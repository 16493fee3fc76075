//! Which proxy a request goes through, by the rules that curl and Go's `net/http` share.
//!
//! Reads no environment: whoever makes a [`Proxy`] says where its settings come from.

use std::net::IpAddr;

/// Proxy settings, each as the environment variable of that name would hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// `HTTP_PROXY`: for plain requests.
    pub http: Option<String>,
    /// `HTTPS_PROXY`: for encrypted requests.
    pub https: Option<String>,
    /// `ALL_PROXY`: where the one above is not given.
    pub all: Option<String>,
    /// `NO_PROXY`: hosts that are reached directly, separated by commas.
    pub no_proxy: Option<String>,
}

impl Proxy {
    /// Returns the settings as environment variables for a program, in both spellings.
    pub fn variables(&self) -> Vec<(&'static str, &str)> {
        let both = [
            (["HTTP_PROXY", "http_proxy"], &self.http),
            (["HTTPS_PROXY", "https_proxy"], &self.https),
            (["ALL_PROXY", "all_proxy"], &self.all),
            (["NO_PROXY", "no_proxy"], &self.no_proxy),
        ];
        both.iter()
            .filter_map(|(names, value)| Some((names, value.as_deref()?)))
            .flat_map(|(names, value)| names.map(|name| (name, value)))
            .collect()
    }

    /// Returns the proxy for `scheme://host:port`. This machine itself is never behind one.
    pub(crate) fn choose(&self, scheme: &str, host: &str, port: Option<u16>) -> Option<&str> {
        let own = if scheme.eq_ignore_ascii_case("https") { &self.https } else { &self.http };
        let set = |setting: &&String| !setting.is_empty();
        let proxy = own.as_ref().filter(set).or(self.all.as_ref().filter(set))?;
        let direct = self.no_proxy.as_deref().unwrap_or_default();
        let excluded = is_loopback(host) || direct.split(',').any(|rule| matches(rule, host, port));
        (!excluded).then_some(proxy)
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Tells whether one rule of `NO_PROXY` covers the host.
fn matches(rule: &str, host: &str, port: Option<u16>) -> bool {
    let rule = rule.trim().to_ascii_lowercase();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if rule.is_empty() || rule == "*" {
        return rule == "*";
    }
    if let Ok(address) = host.parse::<IpAddr>()
        && let Some((network, bits)) = rule.split_once('/')
    {
        return in_network(address, network, bits).unwrap_or(false);
    }
    let (name, rule_port) = split_port(&rule);
    if rule_port.is_some() && rule_port != port {
        return false;
    }
    match name.strip_prefix("*.").or(name.strip_prefix('.')) {
        Some(domain) => is_below(&host, domain),
        None => host == name || is_below(&host, name),
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|label| label.len() > 1 && label.ends_with('.'))
}

/// Splits `name:port` and `[address]:port`; a bare IPv6 address has no port.
fn split_port(rule: &str) -> (&str, Option<u16>) {
    if let Some((address, after)) = rule.strip_prefix('[').and_then(|r| r.split_once(']')) {
        return (address, after.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match rule.split_once(':') {
        Some((name, port)) if !port.contains(':') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (rule, None),
        },
        _ => (rule, None),
    }
}

/// Tells whether `address` is in the network `network/bits`; `None` where that is no network.
fn in_network(address: IpAddr, network: &str, bits: &str) -> Option<bool> {
    let bits: u32 = bits.parse().ok()?;
    match (address, network.parse().ok()?) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let shift = 32_u32.checked_sub(bits)?;
            let prefix = |a: std::net::Ipv4Addr| a.to_bits().checked_shr(shift).unwrap_or(0);
            Some(prefix(address) == prefix(network))
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let shift = 128_u32.checked_sub(bits)?;
            let prefix = |a: std::net::Ipv6Addr| a.to_bits().checked_shr(shift).unwrap_or(0);
            Some(prefix(address) == prefix(network))
        }
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_chooses() {
        let proxy = Proxy {
            http: Some("http://plain:1".into()),
            https: Some(String::new()),
            all: Some("http://all:2".into()),
            no_proxy: None,
        };
        assert_eq!(proxy.choose("http", "h", Some(80)), Some("http://plain:1"));
        assert_eq!(proxy.choose("https", "h", Some(443)), Some("http://all:2"));
        assert_eq!(proxy.choose("http", "localhost", Some(80)), None);
        assert_eq!(proxy.choose("http", "127.0.0.2", Some(80)), None);
        assert_eq!(Proxy::default().choose("http", "h", Some(80)), None);
        assert!(proxy.variables().contains(&("http_proxy", "http://plain:1")));
    }

    #[test]
    fn exceptions_are_domains_addresses_and_networks() {
        let check = |rule, host, covered| {
            assert_eq!(matches(rule, host, Some(80)), covered, "{rule} {host}");
        };
        check("*", "anything", true);
        check("", "anything", false);
        check("example.com", "example.com", true);
        check(" Example.com ", "a.EXAMPLE.com", true);
        check("example.com", "badexample.com", false);
        check(".example.com", "example.com", false);
        check("*.example.com", "a.example.com", true);
        check("example.com:80", "example.com", true);
        check("example.com:81", "example.com", false);
        check("10.0.0.0/8", "10.1.2.3", true);
        check("10.0.0.0/8", "11.1.2.3", false);
        check("0.0.0.0/0", "11.1.2.3", true);
        check("10.1.2.3", "10.1.2.3", true);
        check("fd00::/8", "fd00::1", true);
        check("fd00::1", "fd00::1", true);
    }
}
