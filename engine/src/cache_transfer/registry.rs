//! The way by a registry: one manifest whose configuration is the list of records, and whose layers
//! are compressed as those of images are, so that an image of the same repository shares them.
//!
//! An image with a cache in its configuration ([`super::inline`]) is read here too: its layers are
//! where all its layers are.

use std::sync::atomic::{AtomicBool, Ordering};

use cache::Store;
use cache::compressor::Format;
use cache::digest::Digest;
use cache::oci::{Descriptor, ImageConfig, Manifest, Platform};
use cache::record::Record;

use super::{Entry, Error, Mode, RECORDS, Results, inline, json};
use crate::reference::Reference;
use crate::registry::artifact::{self, Artifact};
use crate::registry::document::Content;
use crate::registry::progress::Listener;
use crate::registry::{self, Push, Pushed, Remote, Settings};
use crate::solve::Solution;

/// No list is longer: it is read whole.
const LONGEST_LIST: u64 = 64 << 20;

/// A name in a registry that a build's results are exported to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToRegistry {
    /// The name, with a tag.
    pub reference: Reference,
    /// How much.
    pub mode: Mode,
    /// How layers must be compressed; else those that are there may be of any kind.
    pub format: Option<Format>,
}

impl ToRegistry {
    /// Sends the results of a build, which are in the store, and has the name stand for them alone.
    pub fn write(
        &self,
        store: &Store,
        settings: &Settings,
        solution: &Solution,
        listener: Listener<'_>,
    ) -> Result<Pushed, Error> {
        let results = Results::of(store, solution, self.mode)?;
        let artifact = Artifact {
            config_type: RECORDS,
            config: &json(&results.entries()),
            layers: &results.layers(),
        };
        let push = Push { format: self.format, ..Push::new(store, settings) };
        push.artifact(&artifact, &self.reference, listener).map_err(|source| Error::Push {
            name: self.reference.familiar(),
            source: Box::new(source),
        })
    }
}

/// Results that a registry has.
pub(super) struct Registered<'a> {
    remote: Remote<'a>,
    name: String,
    manifest: Manifest,
    /// Of an image, what its layers are; an artifact says so itself.
    diff_ids: Vec<Digest>,
    /// Set when the registry has failed once: not every step has to wait for it anew.
    is_gone: AtomicBool,
}

impl<'a> Registered<'a> {
    /// Reads the list of a name.
    pub(super) fn open(
        store: &Store,
        reference: &Reference,
        settings: &'a Settings,
        platform: &Platform,
    ) -> Result<(Vec<Entry>, Self), Error> {
        let name = reference.familiar();
        let failed = |source| Error::Pull { name: name.clone(), source: Box::new(source) };
        let remote = Remote::find(store, reference, settings).map_err(failed)?;
        let document = remote.manifest(platform).map_err(failed)?;
        let Content::Manifest(manifest) = document.content else {
            unreachable!("a list has been chosen from")
        };
        let bytes = remote.short_blob(&manifest.config, LONGEST_LIST).map_err(failed)?;
        let damaged = |why: serde_json::Error| Error::Damaged {
            what: format!("the cache in {name}"),
            why: why.to_string(),
        };
        let (entries, diff_ids) = if manifest.config.media_type == RECORDS {
            (Some(serde_json::from_slice(&bytes).map_err(damaged)?), Vec::new())
        } else {
            // What is no configuration of an image holds nothing of ours.
            let config: ImageConfig = serde_json::from_slice(&bytes).unwrap_or_default();
            (inline::entries(&config).map_err(damaged)?, config.rootfs.diff_ids)
        };
        let Some(entries) = entries else {
            return Err(Error::Absent { place: name, which: String::new() });
        };
        let is_gone = AtomicBool::new(false);
        Ok((entries, Self { remote, name, manifest: *manifest, diff_ids, is_gone }))
    }

    /// Brings a record's layer into the store; false when the registry has failed before.
    pub(super) fn bring(
        &self,
        store: &Store,
        record: &Record,
        stop: &AtomicBool,
    ) -> Result<bool, Error> {
        if self.is_gone.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let Some(blob) = self.blob(&record.layer) else {
            let what = format!("the cache in {}", self.name);
            let why = format!("it does not say where layer {} is", record.layer);
            return Err(Error::Damaged { what, why });
        };
        match self.remote.bring_layer(store, blob, &record.layer, stop) {
            Ok(()) => Ok(true),
            Err(registry::Error::GivenUp) => Ok(false),
            Err(source) => {
                if is_lasting(&source) {
                    self.is_gone.store(true, Ordering::Relaxed);
                }
                Err(Error::Pull { name: self.name.clone(), source: Box::new(source) })
            }
        }
    }

    fn blob(&self, diff_id: &Digest) -> Option<&Descriptor> {
        let at = self.diff_ids.iter().position(|found| found == diff_id);
        let of_image = at.and_then(|at| self.manifest.layers.get(at));
        of_image.or_else(|| artifact::find(&self.manifest, diff_id))
    }
}

/// Whether the next layer would fail too: it is not this one that is wrong.
fn is_lasting(error: &registry::Error) -> bool {
    use registry::Error::{BrokenOff, NoRegistry, Refused, Request};
    matches!(error, Request { .. } | NoRegistry { .. } | BrokenOff { .. })
        || matches!(error, Refused { status, .. } if *status != 404)
}
