//! Ends of containers that are started again: by their policy, or by somebody. What ends for good is told by its monitor.
//!
//! That one has ended is read in the store's events, and what comes of it is seen from its state.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use compose::make::labels;
use engine::containers::{Containers, Status};
use engine::events::Events;
use jiff::Timestamp;

/// The ends of a project's containers.
pub(crate) struct Ends {
    events: Events,
    project: String,
    /// What came before is nobody's concern.
    since: Timestamp,
    /// By the containers' ids, as far as nobody has asked for them.
    read: BTreeMap<String, Vec<End>>,
}

/// The end of a container's program.
#[derive(Clone, Debug)]
struct End {
    code: i32,
    at: Timestamp,
}

/// Ends of one container of which it is not known yet what comes of them.
#[derive(Default)]
pub(crate) struct Unclear(Vec<End>);

impl Ends {
    /// Those from now on.
    pub(crate) fn of(store: &Path, project: &str) -> io::Result<Ends> {
        let (project, since) = (project.to_owned(), Timestamp::now());
        Ok(Ends { events: Events::open(store)?, project, since, read: BTreeMap::new() })
    }

    /// Takes those of a container that have come.
    pub(crate) fn take(&mut self, id: &str, unclear: &mut Unclear) -> io::Result<()> {
        for event in self.events.read()? {
            let attributes = &event.actor.attributes;
            let is_ours = event.kind == "container"
                && event.action == "die"
                && attributes.get(labels::PROJECT) == Some(&self.project);
            let at = Timestamp::from_nanosecond(event.time_nano.into()).unwrap_or_default();
            if is_ours && at >= self.since {
                let code = attributes.get("exitCode").and_then(|code| code.parse().ok());
                let end = End { code: code.unwrap_or_default(), at };
                self.read.entry(event.actor.id).or_default().push(end);
            }
        }
        unclear.0.extend(self.read.remove(id).unwrap_or_default());
        Ok(())
    }
}

impl Unclear {
    /// Takes the exit codes of those after which the container was started again, or soon is.
    pub(crate) fn restarts(&mut self, containers: &Containers<'_>, id: &str) -> Vec<i32> {
        let Some(last) = self.0.last() else { return Vec::new() };
        let goes_on = containers.observe(id).is_ok_and(|seen| match seen.state.status {
            Status::Restarting => true,
            Status::Running | Status::Paused => {
                seen.state.started_at.parse().is_ok_and(|begun: Timestamp| begun > last.at)
            }
            _ => false,
        });
        // What another end has followed was not the last.
        let known = if goes_on { self.0.len() } else { self.0.len() - 1 };
        self.0.drain(..known).map(|end| end.code).collect()
    }
}
