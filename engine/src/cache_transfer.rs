//! Takes results of earlier builds to another machine.
//!
//! ```text
//! layout      by way of a directory, an OCI image layout
//! registry    by way of a registry, as an artifact of its own
//! inline      in the configuration of an image, which is carried anyway
//! ```
//!
//! What is carried is a list of records with their keys, and the layers that these name. Only the
//! lists are read at first; a layer is brought when a step asks for its key. A key's text is not
//! carried: who asks for a key has it.
//!
//! Knows nothing of how a result is made, and nothing of BuildKit's caches, whose keys are others.

mod inline;
mod layout;
mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use cache::Store;
use cache::digest::Digest;
use cache::oci::Platform;
use cache::record::Record;
use serde::{Deserialize, Serialize};

pub use self::layout::{ToDirectory, Which};
pub use self::registry::ToRegistry;
use crate::progress::Outcome;
use crate::reference::Reference;
use crate::registry::{self as registries, Settings};
use crate::solve::Solution;

pub use self::inline::{add_inline, remove_inline};

/// Media type of the list of records; as the configuration's type it names the whole artifact.
const RECORDS: &str = "application/vnd.rbuild.cache.records.v1+json";

/// Why results could not be taken along, or brought in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory, or a file in it, cannot be read.
    #[error("the cache in {} cannot be read", dir.display())]
    Read {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory cannot be written to.
    #[error("the cache cannot be written to {}", dir.display())]
    Write {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What a registry has cannot be had.
    #[error("the cache in {name} cannot be read")]
    Pull {
        /// Its name there.
        name: String,
        /// Why.
        source: Box<registries::Error>,
    },
    /// A registry does not take it.
    #[error("the cache cannot be written to {name}")]
    Push {
        /// Its name there.
        name: String,
        /// Why.
        source: Box<registries::Error>,
    },
    /// A file or a document does not have the form it should have.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// The file, or the name in a registry.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such export.
    #[error("{place} holds no cache of this kind{which}")]
    Absent {
        /// The directory, or the name in a registry.
        place: String,
        /// Which was wanted, as ` with tag "x"`; empty for any.
        which: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] cache::Error),
}

/// A record with its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    key: Digest,
    record: Record,
}

/// Where results are offered.
enum Source<'a> {
    Directory(layout::Layout),
    Registry(Box<registry::Registered<'a>>),
}

impl Source<'_> {
    /// Has a record's layer in the store; false when nothing comes from here any more.
    fn bring(&self, store: &Store, record: &Record, stop: &AtomicBool) -> Result<bool, Error> {
        if store.layer(&record.layer)?.is_some() {
            return Ok(true);
        }
        match self {
            Self::Directory(layout) => layout.bring(store, record).map(|()| true),
            Self::Registry(registered) => registered.bring(store, record, stop),
        }
    }
}

/// Results that are offered elsewhere, of which what is asked for is brought.
#[derive(Default)]
pub struct Imports<'a> {
    offers: BTreeMap<Digest, (Record, Arc<Source<'a>>)>,
    problems: Mutex<Problems>,
}

/// What could not be had.
#[derive(Default)]
struct Problems {
    told: Vec<Error>,
    /// Layers that a source, by its address, does not have as it should: there may be several keys
    /// to one, and it is neither tried nor told of again.
    lost: BTreeSet<(usize, Digest)>,
}

impl<'a> Imports<'a> {
    /// Adds what a directory offers; of two results with one key the newer export's stands, and
    /// the one that was added first.
    pub fn add_directory(&mut self, dir: &Path, which: &Which) -> Result<(), Error> {
        let layout = layout::Layout { dir: dir.to_owned() };
        let lists = layout.lists(which)?;
        let source = Arc::new(Source::Directory(layout));
        for list in lists {
            match list {
                Ok(entries) => self.offer(entries, &source),
                Err(problem) => self.problems().told.push(problem),
            }
        }
        Ok(())
    }

    /// Adds what a registry offers under a name: a cache, or an image for `platform` with a cache
    /// in it.
    pub fn add_registry(
        &mut self,
        store: &Store,
        reference: &Reference,
        settings: &'a Settings,
        platform: &Platform,
    ) -> Result<(), Error> {
        let (entries, registered) =
            registry::Registered::open(store, reference, settings, platform)?;
        self.offer(entries, &Arc::new(Source::Registry(Box::new(registered))));
        Ok(())
    }

    fn offer(&mut self, entries: Vec<Entry>, source: &Arc<Source<'a>>) {
        for Entry { key, record } in entries {
            self.offers.entry(key).or_insert_with(|| (record, source.clone()));
        }
    }

    /// Whether nothing is offered.
    pub(crate) fn is_empty(&self) -> bool {
        self.offers.is_empty()
    }

    /// Brings the result of a key with this text into the store, if it is offered. One that is
    /// damaged is none, and a problem to be told of.
    pub(crate) fn bring(
        &self,
        store: &Store,
        key: &Digest,
        text: &str,
        stop: &AtomicBool,
    ) -> Option<Record> {
        let (record, source) = self.offers.get(key)?;
        let place = (Arc::as_ptr(source).addr(), record.layer);
        if self.problems().lost.contains(&place) {
            return None;
        }
        let brought = source.bring(store, record, stop).and_then(|is_there| {
            if is_there {
                store.put_record(key, text.as_bytes(), record)?;
            }
            Ok(is_there)
        });
        match brought {
            Ok(is_there) => is_there.then(|| record.clone()),
            Err(problem) => {
                let mut problems = self.problems();
                if problems.lost.insert(place) {
                    problems.told.push(problem);
                }
                None
            }
        }
    }

    /// What was offered and could not be had, since this was last asked.
    pub fn take_problems(&self) -> Vec<Error> {
        std::mem::take(&mut self.problems().told)
    }

    fn problems(&self) -> MutexGuard<'_, Problems> {
        self.problems.lock().expect("no holder panics")
    }
}

/// How much of a build is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The steps whose layers are in the image.
    Min,
    /// All steps.
    Max,
}

/// What is exported of a build.
#[derive(Default)]
struct Results {
    records: BTreeMap<Digest, Record>,
    /// Layers that this build made.
    fresh: BTreeSet<Digest>,
}

impl Results {
    /// The results of a build, which are in the store.
    fn of(store: &Store, solution: &Solution, mode: Mode) -> Result<Self, Error> {
        let mut results = Self::default();
        for step in &solution.steps {
            for key in [step.key, step.short_key].into_iter().flatten() {
                let Some(record) = store.record(&key)? else { continue };
                if mode == Mode::Min && !solution.layers.contains(&record.layer) {
                    continue;
                }
                if step.outcome == Outcome::Done {
                    results.fresh.insert(record.layer);
                }
                results.records.insert(key, record);
            }
        }
        Ok(results)
    }

    fn entries(&self) -> Vec<Entry> {
        let entry = |(key, record): (&Digest, &Record)| Entry { key: *key, record: record.clone() };
        self.records.iter().map(entry).collect()
    }

    /// The layers, each once.
    fn layers(&self) -> Vec<Digest> {
        let layers: BTreeSet<Digest> = self.records.values().map(|record| record.layer).collect();
        layers.into_iter().collect()
    }
}

fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents have string keys only")
}

#[cfg(test)]
mod tests;
