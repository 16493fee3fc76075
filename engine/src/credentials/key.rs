//! What registries are called in `config.json`: by their host and port, but Docker Hub by the
//! address of its first interface. Older files have addresses, `https://host/v1/`, for others too.

/// Docker Hub's name in the file.
const HUB: &str = "https://index.docker.io/v1/";

/// Docker Hub's names elsewhere.
const HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// A registry's name in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    name: String,
}

impl Key {
    /// The name of a registry that people call so; nothing at all is Docker Hub.
    pub(super) fn of(registry: &str) -> Self {
        let host = host_of(registry);
        let is_hub = host.is_empty() || HUB_HOSTS.contains(&host);
        Self { name: if is_hub { HUB } else { host }.to_owned() }
    }

    /// The name that is written.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a name that was found means this registry.
    pub(super) fn is(&self, found: &str) -> bool {
        found == self.name || Self::of(found) == *self
    }
}

/// The host and the port of an address.
fn host_of(address: &str) -> &str {
    let after = address.split_once("://").map_or(address, |(_, after)| after);
    after.split(['/', '?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_known_by_all_their_names() {
        for (given, name) in [
            ("docker.io", HUB),
            ("index.docker.io", HUB),
            ("registry-1.docker.io", HUB),
            ("https://index.docker.io/v1/", HUB),
            ("", HUB),
            ("localhost:5000", "localhost:5000"),
            ("http://localhost:5000/v2/", "localhost:5000"),
            ("https://ghcr.io", "ghcr.io"),
            ("ghcr.io/owner", "ghcr.io"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(Key::of(given).name(), name, "{given}");
            assert!(Key::of(name).is(given), "{given}");
        }
        assert!(!Key::of("ghcr.io").is("ghcr.io:443"));
        assert!(!Key::of("ghcr.io").is("notghcr.io"));
    }
}
