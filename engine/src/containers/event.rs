//! What containers tell of themselves in the store's events.

use std::path::Path;

use super::{Containers, Record};
use crate::events::{Event, emit};

/// Writes down in a store that something happened to a container of it.
pub(super) fn tell(root: &Path, record: &Record, action: &str, extra: &[(&str, &str)]) {
    let mut event = Event::now("container", action, &record.id);
    event.from.clone_from(&record.config.image);
    event.actor.attributes.clone_from(&record.config.labels);
    event = event.with("image", &record.config.image).with("name", &record.name);
    for (name, value) in extra {
        event = event.with(name, value);
    }
    emit(root, &event);
}

impl Containers<'_> {
    /// Writes down that something happened to a container, with attributes beside its own.
    pub fn tell(&self, record: &Record, action: &str, extra: &[(&str, &str)]) {
        tell(self.store.root(), record, action, extra);
    }

    /// Writes down that a container got a network, or lost it.
    pub(super) fn tell_network(&self, record: &Record, action: &str, name: &str, id: &str) {
        let event = Event::now("network", action, id)
            .with("container", &record.id)
            .with("name", name)
            .with("type", "bridge");
        emit(self.store.root(), &event);
    }

    /// Writes down that a container begins to use its volumes, or ends it.
    pub(super) fn tell_volumes(&self, record: &Record, action: &str) {
        for mount in record.mounts.iter().map(|mount| &mount.point) {
            if mount.name.is_empty() {
                continue;
            }
            let mut event = Event::now("volume", action, &mount.name).with("container", &record.id);
            event = event.with("driver", "local");
            if action == "mount" {
                event = event
                    .with("destination", &mount.destination)
                    .with("propagation", &mount.propagation)
                    .with("read/write", mount.rw);
            }
            emit(self.store.root(), &event);
        }
    }
}
