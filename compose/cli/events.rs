//! `events`: what happens to a project's containers.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use compose::make::labels;
use engine::events::{Event, Follower, Next};
use engine::moment;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags};
use serde_json::json;

use crate::args::Globals;
use crate::ending::Ending;
use crate::home::{self, Here};
use crate::ui;

/// What `events` is told.
#[derive(Args, Debug)]
pub(crate) struct EventsArgs {
    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
    /// Begin at a time (2024-05-06T07:08:09Z) or so long ago (42m), not now
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End at a time, or so long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Labels beginning so are compose's own.
const OWN: [&str; 2] = ["com.docker.compose.", "io.rbuild.compose."];

/// Prints events.
pub(crate) fn events(globals: &Globals, args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    let since = time("since", args.since.as_deref(), now)?.unwrap_or(now);
    let until = time("until", args.until.as_deref(), now)?;
    let (_, name) = home::project_or_name(globals, &args.services)?;
    let ending = Ending::watch()?;
    let here = Here::look(globals)?;
    let mut events = Follower::open(here.store.root())
        .context("cannot watch the events; perhaps fs.inotify.max_user_instances must be raised")?;
    loop {
        for event in events.read().context("cannot read the events")? {
            let at = Timestamp::from_nanosecond(event.time_nano.into()).unwrap_or_default();
            let is_in_time = at >= since && until.is_none_or(|until| at <= until);
            if is_in_time && is_of(&event, &name, &args.services) {
                ui::line(if args.json { json(&event, at) } else { line(&event, at) });
            }
        }
        let left = until.map(|until| until.duration_since(Timestamp::now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        if left == Some(Duration::ZERO) {
            return Ok(ExitCode::SUCCESS);
        }
        let stop = PollFd::new(&ending, PollFlags::IN);
        if events.wait(left, stop).context("cannot wait for events")? == Next::Stopped {
            return Ok(ending.code());
        }
    }
}

/// Reads a time that a flag says.
pub(crate) fn time(
    flag: &str,
    text: Option<&str>,
    now: Timestamp,
) -> anyhow::Result<Option<Timestamp>> {
    let parse =
        |text| moment::parse(text, now).with_context(|| format!("invalid value for --{flag}"));
    text.filter(|text| !text.is_empty()).map(parse).transpose()
}

/// Whether something happened to a container of a project's services.
fn is_of(event: &Event, project: &str, services: &[String]) -> bool {
    let label = |name: &str| event.actor.attributes.get(name).map_or("", String::as_str);
    event.kind == "container"
        && label(labels::PROJECT) == project
        && !label(labels::ONEOFF).eq_ignore_ascii_case("true")
        && (services.is_empty() || services.iter().any(|name| name == label(labels::SERVICE)))
}

/// What is told of a container beside compose's labels.
fn attributes(event: &Event) -> BTreeMap<&str, &str> {
    let all = event.actor.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    all.filter(|(name, _)| !OWN.iter().any(|own| name.starts_with(own))).collect()
}

/// Docker compose's line, with the empty one that follows each of them there.
fn line(event: &Event, at: Timestamp) -> String {
    let time = at.strftime("%Y-%m-%d %H:%M:%S.%6f");
    let attributes: Vec<String> =
        attributes(event).iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (action, id) = (&event.action, &event.actor.id);
    format!("{time} container {action} {id} ({})\n", attributes.join(", "))
}

fn json(event: &Event, at: Timestamp) -> String {
    let service = event.actor.attributes.get(labels::SERVICE).map_or("", String::as_str);
    json!({
        "action": event.action,
        "attributes": attributes(event),
        "id": event.actor.id,
        "service": service,
        "time": at,
        "type": "container",
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(oneoff: &str) -> (Event, Timestamp) {
        let event = Event::now("container", "die", "abc")
            .with(labels::PROJECT, "shop")
            .with(labels::SERVICE, "web")
            .with(labels::ONEOFF, oneoff)
            .with(labels::ATTRIBUTES, "{}")
            .with("tier", "front")
            .with("exitCode", 3);
        (event, "2026-11-22T12:50:11.00432409Z".parse().expect("a time"))
    }

    #[test]
    fn events_are_printed_as_docker_compose_does() {
        let (event, at) = event("False");
        let expected = "2026-11-22 12:50:11.004324 container die abc (exitCode=3, tier=front)\n";
        assert_eq!(line(&event, at), expected);
        let expected = "{\"action\":\"die\",\"attributes\":{\"exitCode\":\"3\",\"tier\":\"front\"},\"id\":\"abc\",\
                        \"service\":\"web\",\"time\":\"2026-11-22T12:50:11.00432409Z\",\"type\":\"container\"}";
        assert_eq!(json(&event, at), expected);
    }

    #[test]
    fn only_events_of_the_project_s_services_are_told() {
        let check = |oneoff: &str, project: &str, services: &[&str], expected: bool| {
            let services: Vec<String> = services.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(
                is_of(&event(oneoff).0, project, &services),
                expected,
                "{oneoff} {project} {services:?}"
            );
        };
        check("False", "shop", &[], true);
        check("False", "shop", &["db", "web"], true);
        check("False", "shop", &["db"], false);
        check("False", "other", &[], false);
        check("True", "shop", &[], false);
    }
}
