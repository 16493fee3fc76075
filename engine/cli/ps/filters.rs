//! Which containers `ps` is asked for: of each filter one value must fit, of labels all.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use cache::image::Image;
use engine::containers::record::Record;
use engine::containers::{Containers, Observed};
use engine::network::DefinitionError;

use super::pattern::Pattern;
use crate::container_row::{mounts, networks};
use crate::{network, resolve};

const KNOWN: [&str; 15] = [
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name",
    "network", "publish", "since", "status", "volume", "label!",
];
const STATUSES: [&str; 7] =
    ["created", "restarting", "running", "removing", "paused", "exited", "dead"];
const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// What containers must be like.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    given: BTreeMap<String, Vec<String>>,
    /// Images of which they are, or from which theirs are made.
    ancestors: Vec<Image>,
    before: Option<String>,
    since: Option<String>,
    /// First and last port with the protocol, of `publish` and `expose`.
    ports: BTreeMap<&'static str, Vec<Ports>>,
}

#[derive(Debug)]
struct Ports {
    first: u16,
    last: u16,
    protocol: String,
}

impl Filters {
    /// Reads `--filter`s; containers that they name must be there.
    pub(crate) fn parse(
        root: &Path,
        containers: &Containers<'_>,
        given: &[String],
    ) -> anyhow::Result<Self> {
        let mut filters = Self::default();
        for text in given {
            let Some((name, value)) = text.split_once('=') else {
                bail!("invalid filter '{text}': write NAME=VALUE");
            };
            let (name, mut value) = (name.trim().to_lowercase(), value.trim().to_owned());
            let invalid = || format!("invalid filter '{name}={value}'");
            let created =
                || Ok::<_, anyhow::Error>(containers.record(&containers.find(&value)?)?.created);
            match name.as_str() {
                other if !KNOWN.contains(&other) => bail!("invalid filter '{other}'"),
                "status" if !STATUSES.contains(&value.as_str()) => bail!(invalid()),
                "health" if !HEALTHS.contains(&value.as_str()) => bail!(invalid()),
                "exited" => drop(value.parse::<i32>().with_context(invalid)?),
                "is-task" => drop(truth(&value).with_context(invalid)?),
                "publish" => filters.port("publish", &value).with_context(invalid)?,
                "expose" => filters.port("expose", &value).with_context(invalid)?,
                "before" => filters.before = filters.before.into_iter().chain([created()?]).min(),
                "since" => filters.since = filters.since.max(Some(created()?)),
                "ancestor" => filters.ancestors.extend(resolve::find(containers.store, &value)?),
                "network" => match network::definitions(root).find(&value) {
                    Ok(definition) => value = definition.name,
                    // What there is not, nobody is connected to.
                    Err(DefinitionError::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                },
                _ => {}
            }
            filters.given.entry(name).or_default().push(value);
        }
        Ok(filters)
    }

    fn port(&mut self, name: &'static str, value: &str) -> Option<()> {
        let (range, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let ports = Ports {
            first: first.parse().ok()?,
            last: last.parse().ok()?,
            protocol: protocol.to_owned(),
        };
        self.ports.entry(name).or_default().push(ports);
        Some(())
    }

    /// Whether containers that do not run are asked for.
    pub(crate) fn asks_for_stopped(&self) -> bool {
        self.given.contains_key("status")
    }

    fn any(&self, name: &str, fits: impl Fn(&str) -> bool) -> bool {
        self.given.get(name).is_none_or(|values| values.iter().any(|value| fits(value)))
    }

    /// Whether a container is as it must be.
    pub(crate) fn fit(&self, observed: &Observed) -> bool {
        let Observed { record, state } = observed;
        let labels = |name: &str| self.given.get(name).into_iter().flatten();
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((name, value)) => record.config.labels.get(name).is_some_and(|it| it == value),
            None => record.config.labels.contains_key(wanted),
        };
        let health = state.health.as_ref().map(|health| health.status.as_str());
        let health = health.filter(|status| !status.is_empty()).unwrap_or("none");
        let created = record.created.as_str();
        let exited = state.status.as_str() == "exited";
        self.any("id", |value| matches(value, &record.id))
            && self.any("name", |value| {
                matches(value, &record.name) || matches(value, &format!("/{}", record.name))
            })
            && self.any("status", |value| value == state.status.as_str())
            && self.any("exited", |value| exited && value.parse() == Ok(state.exit_code))
            && self.any("health", |value| value == health)
            && self.any("network", |value| networks(record).contains(&value))
            && self.any("volume", |value| {
                mounts(record).any(|mount| {
                    [&mount.name, &mount.source, &mount.destination].iter().any(|it| *it == value)
                })
            })
            && self.any("is-task", |value| truth(value) == Some(false))
            && self.any("ancestor", |_| self.ancestors.iter().any(|image| is_of(record, image)))
            && self.before.as_deref().is_none_or(|before| created < before)
            && self.since.as_deref().is_none_or(|since| created > since)
            && self.has_port("publish", record.host_config.port_bindings.keys())
            && self.has_port("expose", record.config.exposed_ports.keys())
            && labels("label").all(has)
            && !labels("label!").any(has)
    }

    fn has_port<'a>(&self, name: &str, mut ports: impl Iterator<Item = &'a String>) -> bool {
        let Some(wanted) = self.ports.get(name) else { return true };
        ports.any(|port| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let Ok(number) = number.parse::<u16>() else { return false };
            wanted.iter().any(|wanted| {
                (wanted.first..=wanted.last).contains(&number) && wanted.protocol == protocol
            })
        })
    }
}

/// Whether a container is of an image, or of one made from it.
fn is_of(record: &Record, image: &Image) -> bool {
    let layers = &image.config.rootfs.diff_ids;
    record.manifest == Some(image.digest)
        || record.image == image.id().to_string()
        || !layers.is_empty() && record.layers.starts_with(layers)
}

/// Whether a text is, or is matched by, a value.
fn matches(value: &str, text: &str) -> bool {
    value == text || Pattern::parse(value).is_some_and(|pattern| pattern.matches(text))
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache::Store;
    use engine::containers::record::{Config, EndpointSettings, HostConfig};
    use engine::containers::state::Health;
    use engine::containers::{State, Status};
    use engine::volume::Resolved;

    /// Two containers: `web`, which runs, and `db`, which was made later and has failed.
    fn containers() -> Vec<Observed> {
        let text = |text: &str| text.to_owned();
        let mut data = Resolved::default();
        (data.point.name, data.point.destination) = (text("data"), text("/var/lib"));
        let web = Observed {
            record: Record {
                id: "a1".repeat(32),
                name: text("web"),
                created: text("2024-01-01T00:00:00Z"),
                config: Config {
                    labels: [(text("tier"), text("front"))].into(),
                    exposed_ports: [(text("80/tcp"), Default::default())].into(),
                    ..Config::default()
                },
                host_config: HostConfig {
                    network_mode: text("bridge"),
                    port_bindings: [(text("80/tcp"), None)].into(),
                    ..HostConfig::default()
                },
                networks: [(text("bridge"), EndpointSettings::default())].into(),
                ..Record::default()
            },
            state: State {
                status: Status::Running,
                health: Some(Health { status: text("healthy"), ..Health::default() }),
                ..State::default()
            },
        };
        let db = Observed {
            record: Record {
                id: "b2".repeat(32),
                name: text("db"),
                created: text("2024-01-02T00:00:00Z"),
                config: Config {
                    labels: [(text("tier"), text("back"))].into(),
                    ..Config::default()
                },
                host_config: HostConfig { network_mode: text("none"), ..HostConfig::default() },
                mounts: vec![data],
                ..Record::default()
            },
            state: State { status: Status::Exited, exit_code: 3, ..State::default() },
        };
        vec![web, db]
    }

    #[test]
    fn filters_choose_containers() {
        let directory = tempfile::tempdir().expect("tempdir");
        let store = Store::open(directory.path()).expect("open");
        let known = Containers::open(&store).expect("containers");
        let parse = |filters: &[&str]| {
            let given: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
            Filters::parse(directory.path(), &known, &given)
        };
        let check = |filters: &[&str], expected: &str| {
            let parsed = parse(filters).expect("filters");
            let all = containers();
            let chosen = all.iter().filter(|observed| parsed.fit(observed));
            let names: Vec<_> = chosen.map(|observed| observed.record.name.as_str()).collect();
            assert_eq!(names.join(" "), expected, "{filters:?}");
        };
        check(&[], "web db");
        check(&["id=a1a1"], "web");
        check(&["name=^/web$"], "web");
        check(&["name=b"], "web db");
        check(&["name=x", "name=db"], "db");
        check(&["label=tier"], "web db");
        check(&["label=tier", "label=tier=back"], "db");
        check(&["label!=tier=back"], "web");
        check(&["status=exited", "status=paused"], "db");
        check(&["exited=3"], "db");
        check(&["exited=0"], "");
        check(&["health=healthy"], "web");
        check(&["health=none"], "db");
        check(&["network=none"], "db");
        check(&["network=bridge"], "web");
        check(&["network=missing"], "");
        check(&["volume=data"], "db");
        check(&["volume=/var/lib"], "db");
        check(&["publish=80"], "web");
        check(&["publish=70-90/udp"], "");
        check(&["expose=70-90/tcp"], "web");
        check(&["is-task=false"], "web db");
        check(&["is-task=true"], "");
        check(&["ancestor=missing"], "");
        for bad in [
            "name",
            "color=red",
            "status=on",
            "health=ill",
            "exited=x",
            "before=x",
            "publish=http",
            "is-task=maybe",
        ] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn before_and_since_name_containers() {
        let directory = tempfile::tempdir().expect("tempdir");
        let store = Store::open(directory.path()).expect("open");
        let known = Containers::open(&store).expect("containers");
        let created = "2024-01-01T12:00:00Z".to_owned();
        let middle = Record { name: "middle".to_owned(), created, ..Record::default() };
        known.add(middle).expect("add");
        for (filter, expected) in [("before=middle", "web"), ("since=middle", "db")] {
            let filters = Filters::parse(directory.path(), &known, &[filter.to_owned()]);
            let filters = filters.expect(filter);
            let all = containers();
            let chosen: Vec<_> = all.iter().filter(|observed| filters.fit(observed)).collect();
            assert_eq!(chosen.len(), 1, "{filter}");
            assert_eq!(chosen[0].record.name, expected);
        }
    }
}
