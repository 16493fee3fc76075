//! `events`: what happens in the store, and what has happened.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use engine::events::{Event, Follower};
use engine::moment;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags};
use serde_json::{Value, json};

use crate::format;
use crate::ui;

/// What `events` is told.
#[derive(Args)]
pub(crate) struct EventsArgs {
    /// Begin at a time (2024-05-06T07:08:09Z) or so long ago (42m), not now
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End at a time, or so long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only events that fit: type=, event=, container=, image=, volume=, network=, label=
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// json or a Go template
    #[arg(long)]
    format: Option<String>,
}

/// Prints events.
pub(crate) fn events(root: &Path, args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    let time = |name: &str, given: &Option<String>| {
        let parse =
            |text: &String| moment::parse(text, now).with_context(|| format!("invalid --{name}"));
        given.as_ref().map(parse).transpose()
    };
    let since = time("since", &args.since)?.unwrap_or(now);
    let until = time("until", &args.until)?;
    let filters = Filters::parse(&args.filter)?;
    let store = cache::Store::open(root)?;
    let mut events = Follower::open(store.root())
        .context("cannot watch the events; perhaps fs.inotify.max_user_instances must be raised")?;
    let stdout = std::io::stdout();
    loop {
        for event in events.read().context("cannot read the events")? {
            let at = Timestamp::from_nanosecond(event.time_nano.into()).unwrap_or_default();
            if at >= since && until.is_none_or(|until| at <= until) && filters.fit(&event) {
                ui::line(shown(&event, args.format.as_deref())?);
            }
        }
        let left = until.map(|until| until.duration_since(Timestamp::now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        if left == Some(Duration::ZERO) || ui::is_unread() {
            return Ok(ExitCode::SUCCESS);
        }
        // Only to hear that nobody reads any more.
        let unread = PollFd::new(&stdout, PollFlags::empty());
        events.wait(left, unread).context("cannot wait for events")?;
    }
}

fn shown(event: &Event, format: Option<&str>) -> anyhow::Result<String> {
    let Some(format) = format else { return Ok(event.line()) };
    let json = serde_json::to_value(event)?;
    format::value(&engine::template::unescape(format), &json, &full(event))
}

/// The event by Go's names.
fn full(event: &Event) -> Value {
    json!({
        "Status": event.status,
        "ID": event.id,
        "From": event.from,
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.actor.id, "Attributes": event.actor.attributes },
        "Scope": event.scope,
        "Time": event.time,
        "TimeNano": event.time_nano,
    })
}

const KNOWN: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// What events must be like: of each name one value must fit, of labels all.
#[derive(Debug, Default)]
struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    fn parse(given: &[String]) -> anyhow::Result<Filters> {
        let mut filters = Filters::default();
        for text in given {
            let Some((name, value)) = text.split_once('=') else {
                bail!("invalid filter '{text}': write NAME=VALUE");
            };
            let name = name.trim().to_lowercase();
            if !KNOWN.contains(&name.as_str()) {
                bail!("invalid filter '{name}'");
            }
            filters.0.entry(name).or_default().push(value.trim().to_owned());
        }
        Ok(filters)
    }

    fn fit(&self, event: &Event) -> bool {
        self.0.iter().all(|(name, values)| {
            let any = |fits: &dyn Fn(&str) -> bool| values.iter().any(|value| fits(value));
            match name.as_str() {
                "type" => any(&|value| value == event.kind),
                "scope" => any(&|value| value == event.scope),
                "event" => any(&|value| is_action(&event.action, value)),
                "label" => values.iter().all(|value| has_label(event, value)),
                "image" => any(&|value| is_image(event, value)),
                kind => event.kind == kind && any(&|value| is_called(event, value)),
            }
        })
    }
}

/// What follows a colon tells more of the same action.
fn is_action(action: &str, wanted: &str) -> bool {
    action == wanted || action.split_once(": ").is_some_and(|(action, _)| action == wanted)
}

fn has_label(event: &Event, wanted: &str) -> bool {
    let (name, value) = wanted.split_once('=').map_or((wanted, None), |(n, v)| (n, Some(v)));
    event.actor.attributes.get(name).is_some_and(|own| value.is_none_or(|value| value == own))
}

fn is_called(event: &Event, wanted: &str) -> bool {
    let name = event.actor.attributes.get("name");
    event.actor.id.starts_with(wanted) || name.is_some_and(|name| name.starts_with(wanted))
}

/// Of images and of containers of them; a name without a tag stands for all tags.
fn is_image(event: &Event, wanted: &str) -> bool {
    let attribute = match event.kind.as_str() {
        "container" => "image",
        "image" => "name",
        _ => return false,
    };
    let name = event.actor.attributes.get(attribute).map_or("", String::as_str);
    let untagged = match name.rsplit_once(':') {
        Some((untagged, tag)) if !tag.contains('/') => untagged,
        _ => name,
    };
    wanted == name || wanted == untagged || event.kind == "image" && wanted == event.actor.id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_dockers() {
        let start = Event::now("container", "exec_start: sh -c x", "abcdef")
            .with("image", "busybox:1")
            .with("name", "web")
            .with("tier", "front");
        let tag = Event::now("image", "tag", "sha256:1").with("name", "localhost:5000/app");
        let check = |filters: &[&str], expected: [bool; 2]| {
            let given: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
            let filters = Filters::parse(&given).expect("filters");
            assert_eq!([filters.fit(&start), filters.fit(&tag)], expected, "{given:?}");
        };
        check(&[], [true, true]);
        check(&["type=container"], [true, false]);
        check(&["type=container", "type=image"], [true, true]);
        check(&["event=exec_start"], [true, false]);
        check(&["event=exec"], [false, false]);
        check(&["event=tag"], [false, true]);
        check(&["container=abc"], [true, false]);
        check(&["container=web", "type=image"], [false, false]);
        check(&["image=busybox"], [true, false]);
        check(&["image=busybox:2"], [false, false]);
        check(&["image=localhost:5000/app"], [false, true]);
        check(&["label=tier"], [true, false]);
        check(&["label=tier=front", "label=other"], [false, false]);
        assert!(Filters::parse(&["color=red".to_owned()]).is_err());
        assert!(Filters::parse(&["type".to_owned()]).is_err());
    }

    #[test]
    fn templates_use_gos_names() {
        let event = Event::now("container", "die", "abc").with("exitCode", 3);
        let shown = |format: &str| shown(&event, Some(format)).expect(format);
        assert_eq!(
            shown("{{.Type}} {{.Action}} {{.ID}} {{.Actor.Attributes.exitCode}}"),
            "container die abc 3"
        );
        assert_eq!(shown("{{.TimeNano}}"), event.time_nano.to_string());
        let json: Value = serde_json::from_str(&shown("json")).expect("JSON");
        assert_eq!((&json["status"], &json["Actor"]["ID"]), (&"die".into(), &"abc".into()));
    }
}
