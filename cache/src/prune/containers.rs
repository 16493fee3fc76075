//! What containers need: of each the layers that it lies on, and its image's manifest and
//! configuration, whether the image is still on the list or not.
//!
//! Reads the few fields of `containers/<id>/config.json` that say so, and knows nothing else of
//! containers. Must be read after the pins of others: who makes a container has pinned these layers
//! before, and its record is there before its pins end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::regular;
use crate::store::Store;

/// What a container's record says of what it needs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Container {
    pub(crate) name: String,
    image: String,
    manifest: Option<Digest>,
    pub(crate) layers: Vec<Digest>,
}

impl Container {
    /// The image's manifest and its configuration, as far as they are known.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Digest> {
        self.manifest.into_iter().chain(self.image.parse())
    }
}

/// What containers need, with the name of one that does.
#[derive(Debug, Default)]
pub(crate) struct NeededByContainers {
    pub(crate) blobs: BTreeMap<Digest, String>,
    pub(crate) layers: BTreeMap<Digest, String>,
}

impl Store {
    /// What all containers need but those that are `gone`. A record that cannot be read is an error: nobody can tell what must
    /// not go.
    pub(crate) fn needed_by_containers(
        &self,
        gone: &BTreeSet<Digest>,
    ) -> Result<NeededByContainers> {
        let mut needed = NeededByContainers::default();
        for (id, dir) in self.listed("containers")? {
            if gone.contains(&id) {
                continue;
            }
            let container = match read(&dir.join("config.json")) {
                Ok(Some(container)) => container,
                Ok(None) => continue,
                Err(Error::Damaged { path, why }) => {
                    let id = id.short();
                    let why = format!(
                        "{why}; nobody can tell what the container needs, so remove it first: \
                         rbuild rm -f {id}"
                    );
                    return Err(Error::Damaged { path, why });
                }
                Err(error) => return Err(error),
            };
            for blob in container.blobs() {
                needed.blobs.entry(blob).or_insert_with(|| container.name.clone());
            }
            for layer in &container.layers {
                needed.layers.entry(*layer).or_insert_with(|| container.name.clone());
            }
        }
        Ok(needed)
    }
}

/// Reads a container's record. There is none in a directory that is going, and nothing in one that
/// was never synced, which is that of a container that a loss of power has ended and removed.
pub(crate) fn read(path: &Path) -> Result<Option<Container>> {
    let Some(bytes) = regular::read(path)?.filter(|bytes| bytes.iter().any(|byte| *byte != 0))
    else {
        return Ok(None);
    };
    let container = serde_json::from_slice(&bytes);
    let damaged =
        |error: serde_json::Error| Error::Damaged { path: path.to_owned(), why: error.to_string() };
    container.map(Some).map_err(damaged)
}
