//! `ps` and `container ls`: the list of containers.

mod filters;
mod pattern;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use cache::Store;
use cache::digest::Digest;
use clap::Args;
use engine::containers::record::Record;
use engine::containers::state::NEVER;
use engine::containers::{Containers, Observed, State, Status};
use engine::reference::Reference;
use engine::template::{Template, TemplateError};
use engine::units::human_duration;
use engine::volume::api::MountPoint;
use serde_json::{Value, json};

pub(crate) use filters::Filters;

use crate::format::{self, Listing, ellipsis};
use crate::list_flags::ListFlags;
use crate::{container_inspect, port, reconcile, ui};

/// What `ps` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct PsArgs {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: ListFlags,
    /// Show the last N that were made, whatever they do
    #[arg(short = 'n', long, value_name = "N", default_value_t = -1, allow_hyphen_values = true)]
    last: i64,
    /// Show the last one that was made, whatever it does
    #[arg(short, long)]
    latest: bool,
    /// Show how much the containers have written
    #[arg(short, long)]
    size: bool,
    /// Print whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only containers that fit: name=, label=, status=, ancestor=, health=, network=, volume=, ...
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
}

const HEADINGS: &[(&str, &str)] = &[
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Names", "NAMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("Ports", "PORTS"),
    ("RunningFor", "CREATED"),
    ("Size", "SIZE"),
    ("State", "STATE"),
    ("Status", "STATUS"),
];

/// How a template says that a row has no such field.
const NO_ENTRY: &str = "map has no entry for key ";

const CONTAINERS: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    headings: HEADINGS,
};

const WITH_SIZES: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    headings: HEADINGS,
};

/// Lists containers.
pub(crate) fn ps(root: &Path, args: &PsArgs) -> anyhow::Result<ExitCode> {
    let own = args.flags.format("").filter(|format| !format.is_empty());
    own.map_or(Ok(()), check_format)?;
    let store = Store::open(root)?;
    let containers = Containers::open(&store)?;
    let filters = Filters::parse(root, &containers, &args.filter)?;
    let last = if args.latest { 1 } else { usize::try_from(args.last).unwrap_or(0) };
    let all = args.all || last > 0 || filters.asks_for_stopped();
    reconcile::after_boot(&containers);
    let listed = containers.list()?;
    reconcile::after_death(&containers, &listed);
    let chosen = listed.iter().filter(|one| all || one.state.status.is_active());
    let chosen =
        chosen.filter(|one| filters.fit(one)).take(if last > 0 { last } else { usize::MAX });
    let sized = args.size || args.flags.asks_for(".Size");
    let row = Row { images: named_images(&store)?, whole: args.no_trunc };
    let mut rows = Vec::new();
    for observed in chosen {
        let size = if sized { size(&containers, &observed.record) } else { "0B".to_owned() };
        rows.push(row.of(observed, size));
    }
    let listing = if args.size { &WITH_SIZES } else { &CONTAINERS };
    ui::raw(listing.text(args.flags.format("{{.ID}}"), &rows)?.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// Refuses a format before there is anything to list, as docker does.
fn check_format(format: &str) -> anyhow::Result<()> {
    let template = Template::parse(format)
        .map_err(|error| anyhow!(in_docker_s_words(error)).context("failed to parse template"))?;
    let fields = HEADINGS.iter().map(|(field, _)| ((*field).to_owned(), Value::from("")));
    // With something beside texts it is no map of texts, in which a field may be missing.
    let fields = fields.chain([(String::new(), Value::from(0))]);
    match template.render(&Value::Object(fields.collect())) {
        Err(error @ TemplateError::Render { .. }) if lacks_a_field(&error) => {
            Err(anyhow!(in_docker_s_words(error)).context("failed to execute template"))
        }
        // What fails with empty values need not fail with those of a container.
        _ => Ok(()),
    }
}

fn lacks_a_field(error: &TemplateError) -> bool {
    matches!(error, TemplateError::Render { message, .. } if message.starts_with(NO_ENTRY))
}

/// An error in Go's words for a value of docker's type.
fn in_docker_s_words(error: TemplateError) -> String {
    let error = match error {
        TemplateError::Render { line, column, at, message } => {
            let field = message.strip_prefix(NO_ENTRY).map(|field| field.trim_matches('"'));
            let message = match field {
                Some(field) => {
                    format!("can't evaluate field {field} in type *formatter.ContainerContext")
                }
                None => message,
            };
            TemplateError::Render { line, column, at, message }
        }
        error => error,
    };
    let text = error.to_string();
    text.strip_prefix("template parsing error: ").unwrap_or(&text).to_owned()
}

/// Rows of containers as `ps` shows them, with these sizes.
pub(crate) fn rows(
    store: &Store,
    containers: &[Observed],
    size: impl Fn(&Observed) -> String,
) -> anyhow::Result<Vec<Value>> {
    let row = Row { images: named_images(store)?, whole: false };
    Ok(containers.iter().map(|one| row.of(one, size(one))).collect())
}

/// What the images' names stand for now.
fn named_images(store: &Store) -> anyhow::Result<BTreeMap<String, Digest>> {
    let named = store.list_images()?.into_iter();
    Ok(named.filter_map(|listed| Some((listed.name?, listed.digest))).collect())
}

struct Row {
    images: BTreeMap<String, Digest>,
    /// Whether nothing is shortened.
    whole: bool,
}

impl Row {
    /// A row in the fields of docker's containers.
    fn of(&self, observed: &Observed, size: String) -> Value {
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
            "Ports": port::summary(&port::map(observed)),
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

    /// The image's name while it stands for this image, else its id.
    fn image(&self, record: &Record) -> String {
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
                if self.whole {
                    id.to_owned()
                } else {
                    short(id)
                }
            }
            _ if self.whole => typed.to_owned(),
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
pub(crate) fn status(state: &State, now: jiff::Timestamp) -> String {
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

fn size(containers: &Containers<'_>, record: &Record) -> String {
    let sizes = container_inspect::Sizes::of(containers, record);
    let written = format::size(sizes.written);
    match sizes.all {
        0 => written,
        all => format!("{written} (virtual {})", format::size(all)),
    }
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
        Row { images, whole }.of(&observed, "0B".to_owned())
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
        let table = CONTAINERS.text(None, &[]).expect("table");
        let headings = "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n";
        assert_eq!(table, headings);
    }
}
