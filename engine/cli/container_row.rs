//! Containers as the rows of a list: docker's fields and docker's words. Both programs have this module.

use std::collections::BTreeMap;
use std::time::Duration;

use cache::Store;
use cache::digest::Digest;
use engine::containers::record::Record;
use engine::containers::state::NEVER;
use engine::containers::{Observed, State, Status};
use engine::reference::Reference;
use engine::units::human_duration;
use engine::volume::api::MountPoint;
use serde_json::{Value, json};

use crate::format::{self, ellipsis};
use crate::port_map;

/// Rows of containers as `ps` shows them, with these sizes.
pub(crate) fn rows(
    store: &Store,
    containers: &[Observed],
    size: impl Fn(&Observed) -> String,
) -> anyhow::Result<Vec<Value>> {
    let row = Rows::new(store, false)?;
    Ok(containers.iter().map(|one| row.of(one, size(one))).collect())
}

/// How containers are shown.
pub(crate) struct Rows {
    /// What the images' names stand for now.
    images: BTreeMap<String, Digest>,
    /// Whether nothing is shortened.
    whole: bool,
}

impl Rows {
    /// Rows of containers whose images are in a store. `whole`: nothing is shortened.
    pub(crate) fn new(store: &Store, whole: bool) -> anyhow::Result<Rows> {
        let named = store.list_images()?.into_iter();
        let images = named.filter_map(|listed| Some((listed.name?, listed.digest))).collect();
        Ok(Rows { images, whole })
    }

    /// A row in the fields of docker's containers.
    pub(crate) fn of(&self, observed: &Observed, size: String) -> Value {
        let Observed { record, state } = observed;
        let command = command(&record.argv());
        let labels = record.config.labels.iter().map(|(name, value)| format!("{name}={value}"));
        let local = mounts(record).filter(|mount| mount.driver == "local").count();
        let created = format::seconds(&record.created).unwrap_or_default();
        json!({
            "Command": quoted(&if self.whole { command } else { ellipsis(&command, 20) }),
            "CreatedAt": format::go_time(created),
            "ID": if self.whole { &record.id } else { record.short_id() },
            "Image": self.image(record),
            "Labels": labels.collect::<Vec<_>>().join(","),
            "LocalVolumes": local.to_string(),
            "Mounts": mounts(record).map(|mount| self.mount(mount)).collect::<Vec<_>>().join(","),
            "Names": record.name,
            "Networks": networks(record).join(","),
            "Platform": "linux",
            "Ports": port_map::summary(&port_map::map(observed)),
            "RunningFor": format::since(created),
            "Size": size,
            "State": state.status.as_str(),
            "Status": status(state, jiff::Timestamp::now()),
        })
    }

    fn mount(&self, mount: &MountPoint) -> String {
        let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
        if self.whole { name.clone() } else { ellipsis(name, 15) }
    }

    fn image(&self, record: &Record) -> String {
        self.image_in(record, self.whole)
    }

    /// The image's name, as it was typed, while it stands for this image, else its whole id.
    #[allow(dead_code, reason = "only rcompose asks for it")]
    pub(crate) fn whole_image(&self, record: &Record) -> String {
        self.image_in(record, true)
    }

    /// The image's name while it stands for this image, else its id.
    fn image_in(&self, record: &Record, whole: bool) -> String {
        let typed = record.config.image.as_str();
        let short = |id: &str| id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect();
        let reference = Reference::parse(typed).ok();
        let stands = reference.as_ref().is_some_and(|reference| match &reference.digest {
            Some(digest) => record.manifest.is_some_and(|own| own.to_string() == *digest),
            None => {
                let found = self.images.get(&reference.clone().or_latest().to_string());
                found.is_some() && found == record.manifest.as_ref()
            }
        });
        let id = record.image.as_str();
        let is_id = |typed: &str| {
            let hex = typed.strip_prefix("sha256:").unwrap_or(typed);
            hex.len() >= 4 && id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(hex))
        };
        match reference {
            _ if typed.is_empty() && id.is_empty() => "<no image>".to_owned(),
            _ if typed.is_empty() || !stands && !is_id(typed) => {
                if whole {
                    id.to_owned()
                } else {
                    short(id)
                }
            }
            _ if whole => typed.to_owned(),
            _ if !stands && short(typed) == short(id) => short(id),
            Some(reference) => Reference { digest: None, ..reference }.familiar(),
            None => typed.to_owned(),
        }
    }
}

/// A program and its arguments in a line; those with spaces are quoted.
fn command(argv: &[String]) -> String {
    let word = |(at, word): (usize, &String)| match at > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    };
    argv.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
}

/// A text as a literal of Go.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            char if char.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", char as u32)),
            char if char.is_control() => quoted.push_str(&format!("\\u{:04x}", char as u32)),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// What a container has mounted, as far as docker lists it.
pub(crate) fn mounts(record: &Record) -> impl Iterator<Item = &MountPoint> {
    record.mounts.iter().filter(|mount| mount.is_listed()).map(|mount| &mount.point)
}

/// The networks of a container, by their names.
pub(crate) fn networks(record: &Record) -> Vec<&str> {
    match record.host_config.network_mode.as_str() {
        mode @ ("host" | "none") => vec![mode],
        _ => record.networks.keys().map(String::as_str).collect(),
    }
}

/// What a container is doing, in docker's words.
fn status(state: &State, now: jiff::Timestamp) -> String {
    let since = |time: &str| {
        let time: jiff::Timestamp = time.parse().ok().filter(|_| time != NEVER)?;
        let seconds = now.duration_since(time).as_secs();
        Some(human_duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
    };
    let up = || format!("Up {}", since(&state.started_at).unwrap_or_default());
    let ended = |how: &str| {
        // The clock may have been set, and what is written be lost.
        let known = is_after(&state.finished_at, &state.started_at);
        let when = match since(&state.finished_at).filter(|_| known) {
            Some(time) => format!("{time} ago"),
            None => "at an unknown time".to_owned(),
        };
        format!("{how} ({}) {when}", state.exit_code)
    };
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => match state.health.as_ref().map(|health| health.status.as_str()) {
            None | Some("" | "none") => up(),
            Some("starting") => format!("{} (health: starting)", up()),
            Some(health) => format!("{} ({health})", up()),
        },
        Status::Paused => format!("{} (Paused)", up()),
        Status::Restarting => ended("Restarting"),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Exited => ended("Exited"),
        Status::Dead => "Dead".to_owned(),
    }
}

fn is_after(time: &str, other: &str) -> bool {
    let parse = |text: &str| text.parse::<jiff::Timestamp>().ok();
    time != NEVER && parse(time) >= parse(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::containers::record::{Config, HostConfig};
    use engine::containers::state::Health;

    #[test]
    fn states_are_told_in_docker_s_words() {
        let now: jiff::Timestamp = "2024-01-01T12:00:00Z".parse().expect("a time");
        let check =
            |status, started: &str, finished: &str, health: Option<&str>, expected: &str| {
                let state = State {
                    status,
                    exit_code: 1,
                    started_at: started.to_owned(),
                    finished_at: finished.to_owned(),
                    health: health
                        .map(|status| Health { status: status.to_owned(), ..Health::default() }),
                    ..State::default()
                };
                assert_eq!(super::status(&state, now), expected);
            };
        let (started, ended) = ("2024-01-01T11:56:40.5Z", "2024-01-01T11:59:57Z");
        check(Status::Created, NEVER, NEVER, None, "Created");
        check(Status::Running, started, NEVER, None, "Up 3 minutes");
        check(Status::Running, started, NEVER, Some("healthy"), "Up 3 minutes (healthy)");
        check(Status::Running, started, NEVER, Some("starting"), "Up 3 minutes (health: starting)");
        check(Status::Paused, "2024-01-01T10:00:00Z", NEVER, Some("x"), "Up 2 hours (Paused)");
        check(Status::Restarting, started, ended, None, "Restarting (1) 3 seconds ago");
        check(Status::Exited, started, ended, None, "Exited (1) 3 seconds ago");
        check(Status::Exited, started, NEVER, None, "Exited (1) at an unknown time");
        check(Status::Exited, ended, started, None, "Exited (1) at an unknown time");
        check(Status::Removing, started, NEVER, None, "Removal In Progress");
        check(Status::Dead, started, ended, None, "Dead");
    }

    fn record(image: &str, argv: &[&str]) -> Record {
        let words = argv.iter().map(|word| (*word).to_owned()).collect();
        Record {
            id: "0123456789abcdef".repeat(4),
            name: "web".to_owned(),
            image: Digest::of("config").to_string(),
            manifest: Some(Digest::of("manifest")),
            config: Config { image: image.to_owned(), cmd: Some(words), ..Config::default() },
            host_config: HostConfig { network_mode: "host".to_owned(), ..HostConfig::default() },
            ..Record::default()
        }
    }

    fn row(record: Record, whole: bool) -> Value {
        let name = |name: &str| format!("docker.io/library/{name}");
        let images = BTreeMap::from([
            (name("app:latest"), Digest::of("manifest")),
            (name("moved:1"), Digest::of("other")),
        ]);
        let observed = Observed { record, state: State::default() };
        Rows { images, whole }.of(&observed, "0B".to_owned())
    }

    #[test]
    fn an_image_is_named_while_the_name_is_its_own() {
        let id = Digest::of("config").to_string();
        let short = &id["sha256:".len()..][..12];
        let by_digest = format!("app:1@{}", Digest::of("manifest"));
        for (typed, expected, whole) in [
            ("app", "app", "app"),
            ("docker.io/library/app:latest", "app:latest", "docker.io/library/app:latest"),
            ("moved:1", short, &id),
            ("gone", short, &id),
            (short, short, short),
            (&id[..20], short, &id[..20]),
            (&by_digest, "app:1", &by_digest),
        ] {
            let shown = |long| row(record(typed, &["sh"]), long)["Image"].clone();
            assert_eq!((shown(false), shown(true)), (expected.into(), whole.into()), "{typed}");
        }
    }

    #[test]
    fn rows_are_docker_s() {
        let mut long = record("app", &["sh", "-c", "echo \"a b\"\nsleep 1000"]);
        long.config.labels.insert("b".into(), "2".into());
        long.config.labels.insert("a".into(), "1".into());
        let mut mount = engine::volume::Resolved::default();
        mount.point.name = "a-volume-with-a-name".to_owned();
        mount.point.driver = "local".to_owned();
        long.mounts.push(mount);
        let short = row(long.clone(), false);
        assert_eq!(short["Command"], "\"sh -c 'echo \\\"a b\\\"\\ns…\"");
        assert_eq!(short["Labels"], "a=1,b=2");
        assert_eq!(
            (&short["Mounts"], &short["LocalVolumes"]),
            (&"a-volume-with-…".into(), &"1".into())
        );
        assert_eq!((&short["ID"], &short["Networks"]), (&"0123456789ab".into(), &"host".into()));
        let whole = row(long, true);
        assert_eq!(whole["Command"], "\"sh -c 'echo \\\"a b\\\"\\nsleep 1000'\"");
        assert_eq!(whole["ID"].as_str().map(str::len), Some(64));
    }
}
