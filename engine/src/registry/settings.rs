//! What a person has said of registries: mirrors, other places, plain http, certificates.
//!
//! The rules are one small file, `registries.json`:
//!
//! ```json
//! {
//!   "registries": {
//!     "docker.io": { "mirrors": ["http://10.0.0.5:5000"] },
//!     "registry.lan:5000": { "insecure": true },
//!     "docker.io/library/busybox": { "location": "registry.lan:5000/base/busybox" }
//!   },
//!   "max-layer-bytes": 10737418240
//! }
//! ```
//!
//! A key is a registry or the beginning of a repository's full name; the longest that fits counts.
//! Where the files are is for the caller to say; nothing here reads the environment.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::credentials::CredentialStore;
use crate::reference::Reference;
use crate::source::Proxy;

use super::Error;

/// Where Docker Hub's images really are.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// All that was said.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The rules.
    pub rules: Rules,
    /// Directories like docker's `certs.d`, the first that knows a registry counts.
    pub certs: Vec<PathBuf>,
    /// Where names and passwords are.
    pub credentials: Option<CredentialStore>,
    /// The way out.
    pub proxy: Proxy,
    /// How long a registry may say nothing.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            certs: Vec::new(),
            credentials: None,
            proxy: Proxy::default(),
            patience: Duration::from_secs(60),
        }
    }
}

/// The content of `registries.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rules {
    /// By the beginnings of full names.
    #[serde(default)]
    pub registries: BTreeMap<String, Rule>,
    /// Bytes that a layer may unpack to, whatever its compressed length.
    pub max_layer_bytes: Option<u64>,
}

/// What holds for the names that begin so.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// What stands in the place of the beginning: `registry[/path]`.
    pub location: Option<String>,
    /// Asked first when pulling, in this order: `[http[s]://]registry[/path]`.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Plain http, and certificates nobody vouches for, will do.
    #[serde(default)]
    pub insecure: bool,
    /// Nothing is to be had from there.
    #[serde(default)]
    pub blocked: bool,
}

impl Rules {
    /// Reads rules, the later files over the earlier; a file that is not there says nothing.
    pub fn read(files: &[PathBuf]) -> Result<Self, Error> {
        let mut rules = Self::default();
        for path in files {
            let bytes = match fs_err::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(Error::Settings { path: path.clone(), source }),
            };
            let more: Self = serde_json::from_slice(&bytes).map_err(|error| Error::Settings {
                path: path.clone(),
                source: io::Error::new(io::ErrorKind::InvalidData, error),
            })?;
            rules.registries.extend(more.registries);
            rules.max_layer_bytes = more.max_layer_bytes.or(rules.max_layer_bytes);
        }
        Ok(rules)
    }

    /// The rule whose key is the longest beginning of a name, with what the name has beyond it.
    fn of<'a>(&'a self, name: &'a str) -> Option<(&'a Rule, &'a str)> {
        let fits = |key: &str| {
            name.strip_prefix(key).filter(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let fitting =
            self.registries.iter().filter_map(|(key, rule)| Some((key, rule, fits(key)?)));
        fitting.max_by_key(|(key, ..)| key.len()).map(|(_, rule, rest)| (rule, rest))
    }

    fn is_insecure(&self, host: &str) -> bool {
        is_loopback(host) || self.of(host).is_some_and(|(rule, _)| rule.insecure)
    }
}

/// A repository at one place where it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Host and port.
    pub(super) host: String,
    /// The repository's name there.
    pub(super) repository: String,
    /// The ways to speak with the host, the best first.
    pub(super) schemes: &'static [&'static str],
    /// Certificates that nobody vouches for will do.
    pub(super) unverified: bool,
}

impl Place {
    /// Registry and repository.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }
}

/// What a repository is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Pull,
    Push,
}

impl Settings {
    /// The places of an image's repository, in the order in which they are asked.
    pub(super) fn places(
        &self,
        reference: &Reference,
        purpose: Purpose,
    ) -> Result<Vec<Place>, Error> {
        let name = reference.name();
        let Some((rule, rest)) = self.rules.of(&name) else { return Ok(vec![self.place(&name)]) };
        if rule.blocked {
            return Err(Error::Blocked { name: reference.familiar_name() });
        }
        let mut places = Vec::new();
        if purpose == Purpose::Pull {
            places.extend(rule.mirrors.iter().map(|mirror| self.place(&format!("{mirror}{rest}"))));
        }
        places.push(match &rule.location {
            Some(location) => self.place(&format!("{location}{rest}")),
            None => self.place(&name),
        });
        Ok(places)
    }

    fn place(&self, name: &str) -> Place {
        let (asked, name) = match name.split_once("://") {
            Some((scheme, name)) => (Some(scheme), name),
            None => (None, name),
        };
        let (host, repository) = name.split_once('/').unwrap_or((name, ""));
        let insecure = self.rules.is_insecure(host);
        // Who has put certificates there wants them looked at.
        let unverified = insecure && self.certs_of(host).is_none();
        let schemes: &[&str] = match asked {
            Some("http") => &["http"],
            Some(_) => &["https"],
            None if unverified => &["https", "http"],
            None => &["https"],
        };
        let host = if host == "docker.io" { DOCKER_HUB } else { host };
        Place { host: host.to_owned(), repository: repository.to_owned(), schemes, unverified }
    }

    /// The registry alone that a login goes to.
    pub(super) fn registry(&self, host: &str) -> Place {
        self.place(host)
    }

    /// The directory with certificates for a registry.
    pub(super) fn certs_of(&self, host: &str) -> Option<PathBuf> {
        let mut dirs = self.certs.iter().map(|dir| dir.join(host));
        dirs.find(|dir| dir.is_dir())
    }
}

/// Whether a host is this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The files of a directory with this ending, sorted.
pub(super) fn files(dir: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == ending) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rules: &str) -> Settings {
        Settings { rules: serde_json::from_str(rules).expect("rules"), ..Settings::default() }
    }

    #[test]
    fn places_are_the_mirrors_and_then_what_the_longest_rule_says() {
        let settings = settings(
            r#"{"registries": {
                "docker.io": {"mirrors": ["http://10.0.0.5:5000", "mirror.lan/hub"]},
                "docker.io/library/busybox": {"location": "registry.lan:5000/base/busybox"},
                "registry.lan:5000": {"insecure": true},
                "evil.example": {"blocked": true}
            }}"#,
        );
        let check = |name: &str, purpose, expected: &str| {
            let reference = Reference::parse(name).expect(name);
            let shown = |place: &Place| {
                format!("{} {}/{}", place.schemes.join("+"), place.host, place.repository)
            };
            let found = match settings.places(&reference, purpose) {
                Ok(places) => places.iter().map(shown).collect::<Vec<_>>().join(", "),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{name}");
        };
        check(
            "alpine",
            Purpose::Pull,
            "http 10.0.0.5:5000/library/alpine, https mirror.lan/hub/library/alpine, \
             https registry-1.docker.io/library/alpine",
        );
        check("alpine", Purpose::Push, "https registry-1.docker.io/library/alpine");
        check("busybox:1", Purpose::Pull, "https+http registry.lan:5000/base/busybox");
        check(
            "busybox/x",
            Purpose::Pull,
            "http 10.0.0.5:5000/busybox/x, https mirror.lan/hub/busybox/x, \
             https registry-1.docker.io/busybox/x",
        );
        check("evil.example/a", Purpose::Pull, "evil.example/a is blocked by registries.json");
        check("quay.io/a/b", Purpose::Pull, "https quay.io/a/b");
        check("localhost:5000/a", Purpose::Push, "https+http localhost:5000/a");
        check("127.0.0.1:5000/a", Purpose::Push, "https+http 127.0.0.1:5000/a");
    }

    #[test]
    fn who_puts_certificates_there_wants_them_looked_at() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(dir.path().join("localhost:5000")).expect("mkdir");
        let settings = Settings { certs: vec![dir.path().to_owned()], ..Settings::default() };
        let place = settings.registry("localhost:5000");
        assert_eq!((place.schemes, place.unverified), (&["https"][..], false));
        assert!(settings.registry("localhost:5001").unverified);
    }

    #[test]
    fn a_rule_that_is_misspelt_is_told_with_its_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("registries.json");
        std::fs::write(&path, r#"{"registries": {"a.b": {"mirror": ["x"]}}}"#).expect("write");
        let error = Rules::read(std::slice::from_ref(&path)).expect_err("misspelt");
        let text = format!("{error}: {}", std::error::Error::source(&error).expect("cause"));
        assert!(text.contains("registries.json") && text.contains("`mirror`"), "{text}");
        assert!(Rules::read(&[dir.path().join("none")]).expect("none").registries.is_empty());
    }
}
