//! What goes and what stays: decided from what lies in the store, what others have pinned, and the
//! time. Changes nothing.
//!
//! Within a limit, what is worth least goes first. A thing is worth the work that it saves, per byte
//! and per second since it was last used:
//!
//! ```text
//! worth = (20 ms + time to make it again) / (bytes + 4096) / (seconds unused + 60)
//! ```
//!
//! This is GreedyDual-Size with the age in the place of its inflation term: what is cheap to make
//! again, big and long unused goes first, and of equals what was unused longest. The constants stand
//! for starting a step, for the smallest file's block, and for how exactly a last use is known; they
//! keep small figures from deciding. Time to make a step again is what it took; of what nobody has
//! timed it is reckoned from its size. Steps with the same layer stay and go together, as the
//! slowest and the last used of them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::containers::NeededByContainers;
use super::{CacheScope, Item, Kept, Kind, Needed, Plan, Reason, Scope, Stay, Staying, Use};
use crate::digest::Digest;
use crate::error::Result;
use crate::measure::{self, Measures, Tally};
use crate::pins;
use crate::store::Store;
use crate::usage::ALSO;

const START_MS: u64 = 20;
const BLOCK: u64 = 4096;
const AGE_GRAIN: i64 = 60;

/// Bytes in a millisecond: of unpacking and indexing, of a download, of reading a context's files
/// for each byte of what is known of them.
const DERIVED_SPEED: u64 = 100_000;
const DOWNLOAD_SPEED: u64 = 10_000;
const CONTEXT_SPEED: u64 = 2_000;

/// All that a decision is made of.
pub(super) struct Decision<'a> {
    store: &'a Store,
    pinned: &'a BTreeSet<Digest>,
    measures: &'a mut Measures,
    cache: Option<&'a CacheScope>,
    now: i64,
    needed: Needed,
    by_containers: NeededByContainers,
    tally: Tally,
    plan: Plan,
}

/// Something of the build cache that may go.
struct Candidate {
    kind: Kind,
    usage: Use,
    /// What it takes on its own, which may be more than its removal gives back.
    bytes: u64,
    /// Names and files that go together.
    parts: Vec<(String, Vec<PathBuf>)>,
    /// The layer that nothing else needs.
    layer: Option<Digest>,
}

impl<'a> Decision<'a> {
    pub(super) fn new(
        store: &'a Store,
        scope: &'a Scope,
        by_containers: NeededByContainers,
        pinned: &'a BTreeSet<Digest>,
        measures: &'a mut Measures,
        now: i64,
    ) -> Result<Self> {
        let mut plan = Plan::default();
        for image in &scope.images {
            let why = if let Some(name) = user(store, image, &by_containers) {
                Stay::Container(name)
            } else if pinned.contains(image) {
                Stay::InUse
            } else {
                plan.images.push(*image);
                continue;
            };
            plan.stays.push(Staying { kind: Kind::Image, name: image.hex(), why });
        }
        Ok(Self {
            needed: store.needed_by_images(&plan.images)?,
            by_containers,
            plan,
            tally: Tally::of_removal(),
            cache: scope.cache.as_ref(),
            store,
            pinned,
            measures,
            now,
        })
    }

    pub(super) fn plan(mut self) -> Result<Plan> {
        let groups = self.records()?;
        self.unneeded(&groups)?;
        let candidates = self.candidates(groups)?;
        let chosen = self.choose(candidates)?;
        if let Some(limit) = self.cache.and_then(|cache| cache.max_bytes) {
            let total = self.store.measure_usage(self.measures)?.total();
            self.evict(chosen, total, limit)?;
        } else if let Some(limit) = self.cache.and_then(|cache| cache.keep_bytes) {
            let total = self.total_of(&chosen)?;
            self.evict(chosen, total, limit)?;
        } else {
            chosen.into_iter().try_for_each(|candidate| self.drop_candidate(candidate))?;
        }
        self.plan.items.sort_by_key(|item| item.kind);
        Ok(self.plan)
    }

    /// Divides the records by their layers. One that cannot be read, or whose layer is gone, goes.
    fn records(&mut self) -> Result<BTreeMap<Digest, Vec<Kept>>> {
        let mut groups: BTreeMap<Digest, Vec<Kept>> = BTreeMap::new();
        for kept in self.store.kept_records()? {
            let useless = match &kept.record {
                None => "it cannot be read",
                Some(record) if self.store.peek_layer(&record.layer)?.is_none() => {
                    "its layer is gone"
                }
                Some(record) => {
                    groups.entry(record.layer).or_default().push(kept);
                    continue;
                }
            };
            self.item(Kind::Record, kept.key.hex(), Reason::Useless(useless), vec![kept.path])?;
        }
        Ok(groups)
    }

    /// Takes the layers and blobs that neither an image nor a container nor a record needs.
    fn unneeded(&mut self, groups: &BTreeMap<Digest, Vec<Kept>>) -> Result<()> {
        for (digest, path) in self.store.listed("images/blobs/sha256")? {
            if self.needed.blobs.contains(&digest) {
                continue;
            }
            if let Some(name) = self.by_containers.blobs.get(&digest) {
                self.stay(Kind::Blob, digest.hex(), Stay::Container(name.clone()));
            } else if self.pinned.contains(&digest) {
                self.stay(Kind::Blob, digest.hex(), Stay::InUse);
            } else {
                self.item(Kind::Blob, digest.hex(), Reason::Unneeded, vec![path])?;
            }
        }
        for (digest, path) in self.store.listed("layers")? {
            if self.needed.layers.contains(&digest) {
                self.stay(Kind::Layer, digest.hex(), Stay::Image);
            } else if let Some(name) = self.by_containers.layers.get(&digest) {
                self.stay(Kind::Layer, digest.hex(), Stay::Container(name.clone()));
            } else if self.pinned.contains(&digest) {
                self.stay(Kind::Layer, digest.hex(), Stay::InUse);
            } else if !groups.contains_key(&digest) {
                self.item(Kind::Layer, digest.hex(), Reason::Unneeded, vec![path])?;
            }
        }
        Ok(())
    }

    /// All of the build cache that nobody uses.
    fn candidates(&mut self, groups: BTreeMap<Digest, Vec<Kept>>) -> Result<Vec<Candidate>> {
        let limited = self.cache.is_some_and(|cache| cache.max_bytes.is_some());
        let mut candidates = Vec::new();
        if limited {
            for (digest, path) in self.store.listed("layers")? {
                candidates.extend(self.derived(digest, path, groups.get(&digest))?);
            }
        }
        for (layer, records) in groups {
            candidates.extend(self.step(layer, records)?);
        }
        let mounts = self.cache.is_some_and(|cache| cache.mounts);
        for (kind, dir) in ALSO {
            for path in measure::children(&self.store.root().join(dir))? {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let asked = match kind {
                    Kind::Mount => mounts || limited,
                    Kind::Journal => mounts,
                    _ => true,
                };
                if !asked {
                    self.stay(kind, name, Stay::NotAsked);
                    continue;
                }
                let pin = match kind {
                    Kind::Source => Some(pins::sources()),
                    Kind::Mount => Digest::from_hex(&name),
                    _ => None,
                };
                if pin.is_some_and(|pin| self.pinned.contains(&pin)) {
                    self.stay(kind, name, Stay::InUse);
                    continue;
                }
                let Some(metadata) = measure::stat(&path)? else { continue };
                let usage = Use { last: metadata.mtime(), took_ms: None };
                let bytes = self.measures.bytes(&path)?;
                let parts = vec![(name, vec![path])];
                candidates.push(Candidate { kind, usage, bytes, parts, layer: None });
            }
        }
        Ok(candidates)
    }

    /// Steps with the same layer, unless a process uses one of them.
    fn step(&mut self, layer: Digest, records: Vec<Kept>) -> Result<Option<Candidate>> {
        if records.iter().any(|kept| self.pinned.contains(&kept.key)) {
            for kept in records {
                self.stay(Kind::Record, kept.key.hex(), Stay::InUse);
            }
            return Ok(None);
        }
        let used = records.iter().map(|kept| kept.used).max().unwrap_or_default();
        let took = records.iter().filter_map(|kept| Some(kept.record.as_ref()?.took_ms)).max();
        let stays = self.is_needed(&layer) || self.pinned.contains(&layer);
        let mut bytes =
            if stays { 0 } else { self.measures.bytes(&self.store.layer_dir(&layer))? };
        let mut parts = Vec::new();
        for kept in records {
            bytes += self.measures.bytes(&kept.path)?;
            parts.push((kept.key.hex(), vec![kept.path]));
        }
        let usage = Use { last: used, took_ms: took };
        let layer = (!stays).then_some(layer);
        Ok(Some(Candidate { kind: Kind::Record, usage, bytes, parts, layer }))
    }

    /// A layer's derived forms, unless the layer goes or a process uses it. They were used when one
    /// was made, or when a step was that has the layer.
    fn derived(
        &mut self,
        digest: Digest,
        dir: PathBuf,
        records: Option<&Vec<Kept>>,
    ) -> Result<Option<Candidate>> {
        let has_user = records.is_some() || self.is_needed(&digest);
        if self.pinned.contains(&digest) || !has_user {
            return Ok(None);
        }
        let forms = self.store.derived_forms(&dir)?;
        let Some(metadata) = measure::stat(&dir)?.filter(|_| !forms.is_empty()) else {
            return Ok(None);
        };
        let recorded = records.into_iter().flatten().map(|kept| kept.used).max();
        let last = metadata.mtime().max(recorded.unwrap_or_default());
        let mut bytes = 0;
        for form in &forms {
            bytes += self.measures.bytes(form)?;
        }
        let usage = Use { last, took_ms: None };
        let parts = vec![(digest.hex(), forms)];
        Ok(Some(Candidate { kind: Kind::Derived, usage, bytes, parts, layer: None }))
    }

    /// The candidates that are old enough, worth least first; the others stay.
    fn choose(&mut self, candidates: Vec<Candidate>) -> Result<Vec<Candidate>> {
        let before = self.cache.map(|cache| cache.before);
        let (mut chosen, mut others) = (Vec::new(), Vec::new());
        for candidate in candidates {
            match before {
                Some(before) if before.is_none_or(|before| candidate.usage.last < before) => {
                    chosen.push(candidate);
                }
                _ => others.push(candidate),
            }
        }
        for candidate in others {
            let why = match before {
                Some(_) => Stay::Recent(candidate.usage),
                None => Stay::NotAsked,
            };
            self.leave(candidate, &why);
        }
        chosen.sort_by(|a, b| worth_less(a, b, self.now));
        Ok(chosen)
    }

    /// Whether an image or a container needs a layer.
    fn is_needed(&self, layer: &Digest) -> bool {
        self.needed.layers.contains(layer) || self.by_containers.layers.contains_key(layer)
    }

    /// What the candidates take together beside what images and containers need.
    fn total_of(&mut self, candidates: &[Candidate]) -> Result<u64> {
        let mut tally = Tally::of_use();
        for layer in self.needed.layers.iter().chain(self.by_containers.layers.keys()) {
            tally.add(&self.store.layer_dir(layer), self.measures)?;
        }
        let before = tally.total();
        for candidate in candidates {
            for path in candidate.parts.iter().flat_map(|(_, paths)| paths) {
                tally.add(path, self.measures)?;
            }
            if let Some(layer) = &candidate.layer {
                tally.add(&self.store.layer_dir(layer), self.measures)?;
            }
        }
        // What goes anyway has been taken from the total of the store, not from this one.
        Ok(tally.total() - before + self.tally.total())
    }

    /// Drops the first candidates until the total is within the limit.
    fn evict(&mut self, candidates: Vec<Candidate>, total: u64, limit: u64) -> Result<()> {
        for candidate in candidates {
            if total.saturating_sub(self.tally.total()) > limit {
                self.drop_candidate(candidate)?;
            } else {
                let why = Stay::Fits(candidate.usage);
                self.leave(candidate, &why);
            }
        }
        if self.cache.is_some_and(|cache| cache.max_bytes.is_some()) {
            self.plan.left = Some(total.saturating_sub(self.tally.total()));
        }
        Ok(())
    }

    fn drop_candidate(&mut self, candidate: Candidate) -> Result<()> {
        for (name, paths) in candidate.parts {
            self.item(candidate.kind, name, Reason::Unused(candidate.usage), paths)?;
        }
        if let Some(layer) = candidate.layer {
            let path = self.store.layer_dir(&layer);
            self.item(Kind::Layer, layer.hex(), Reason::Unneeded, vec![path])?;
        }
        Ok(())
    }

    fn leave(&mut self, candidate: Candidate, why: &Stay) {
        for (name, _) in candidate.parts {
            self.stay(candidate.kind, name, why.clone());
        }
    }

    fn item(
        &mut self,
        kind: Kind,
        name: String,
        reason: Reason,
        paths: Vec<PathBuf>,
    ) -> Result<()> {
        let mut bytes = 0;
        for path in &paths {
            bytes += match kind {
                Kind::Layer => self.tally.add_parts(path, self.measures)?,
                _ => self.tally.add(path, self.measures)?,
            };
        }
        self.plan.items.push(Item { kind, name, bytes, reason, paths });
        Ok(())
    }

    fn stay(&mut self, kind: Kind, name: String, why: Stay) {
        self.plan.stays.push(Staying { kind, name, why });
    }
}

/// The name of a container that has an image, under whatever manifest.
fn user(store: &Store, image: &Digest, needed: &NeededByContainers) -> Option<String> {
    let of_manifest = needed.blobs.get(image);
    let by_id = || needed.blobs.get(&store.peek_image(image).ok()?.id());
    of_manifest.or_else(by_id).cloned()
}

/// Orders by worth; fractions are compared by multiplying crosswise, which loses nothing.
fn worth_less(a: &Candidate, b: &Candidate, now: i64) -> std::cmp::Ordering {
    let saved = |candidate: &Candidate| u128::from(START_MS.saturating_add(cost_ms(candidate)));
    let size = |candidate: &Candidate| u128::from(candidate.bytes.saturating_add(BLOCK));
    let age = |candidate: &Candidate| {
        u128::from(now.saturating_sub(candidate.usage.last).max(0).unsigned_abs())
            + u128::from(AGE_GRAIN.unsigned_abs())
    };
    let product = |factors: [u128; 3]| factors.into_iter().fold(1, u128::saturating_mul);
    let left = product([saved(a), size(b), age(b)]);
    let right = product([saved(b), size(a), age(a)]);
    left.cmp(&right).then_with(|| a.usage.last.cmp(&b.usage.last)).then_with(|| {
        let name = |candidate: &Candidate| candidate.parts.first().map(|(name, _)| name.clone());
        name(a).cmp(&name(b))
    })
}

fn cost_ms(candidate: &Candidate) -> u64 {
    let speed = match candidate.kind {
        Kind::Source | Kind::Mount => DOWNLOAD_SPEED,
        Kind::Context => CONTEXT_SPEED,
        _ => DERIVED_SPEED,
    };
    candidate.usage.took_ms.unwrap_or(candidate.bytes / speed)
}
