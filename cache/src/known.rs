//! What compressed blobs are known to hold a layer, and in which repositories of registries they
//! are: `layers/<hex>/blobs`, in JSON.
//!
//! This is what saves a push the compressing and the sending. It is only ever a hint: who uses it
//! asks the registry, and it may be lost at any time. Knows no registry.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Result;
use crate::layers::Layer;
use crate::regular;
use crate::store::Store;

/// Its name beside the layer's tar.
pub(crate) const BLOBS: &str = "blobs";

/// How many blobs are remembered of a layer, and how many repositories of a blob: the latest.
const MOST: usize = 16;

/// A compressed form of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What it is, in the words of image-spec `media-types.md` or docker's.
    pub media_type: String,
    /// Where it has been seen, the latest last: `registry/repository`.
    pub repositories: Vec<String>,
}

impl Store {
    /// What is known of a layer's compressed forms, the latest last.
    pub fn known_blobs(&self, diff_id: &Digest) -> Vec<KnownBlob> {
        let path = self.layer_dir(diff_id).join(BLOBS);
        let bytes = regular::read(&path).ok().flatten().unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Remembers a compressed form of a layer of the store. Two at once may forget one of theirs.
    pub fn note_blob(&self, layer: &Layer, blob: KnownBlob) -> Result<()> {
        let mut known = self.known_blobs(&layer.diff_id);
        let before = known.clone();
        let mut repositories = Vec::new();
        if let Some(at) = known.iter().position(|known| known.digest == blob.digest) {
            repositories = known.remove(at).repositories;
        }
        repositories.retain(|repository| !blob.repositories.contains(repository));
        repositories.extend(blob.repositories);
        keep_last(&mut repositories);
        known.push(KnownBlob { repositories, ..blob });
        keep_last(&mut known);
        if known == before {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&known).expect("no maps with odd keys");
        self.write_atomically(&self.layer_dir(&layer.diff_id).join(BLOBS), &bytes)
    }
}

fn keep_last<T>(items: &mut Vec<T>) {
    items.drain(..items.len().saturating_sub(MOST));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_blobs_and_places_are_remembered_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let layer = store.draft_layer().expect("draft").commit_empty().expect("commit");
        let blob = |text: &str, places: &[&str]| KnownBlob {
            digest: Digest::of(text),
            size: text.len() as u64,
            media_type: "x".to_owned(),
            repositories: places.iter().map(|place| (*place).to_owned()).collect(),
        };
        for (text, places) in [("a", &["r/1", "r/2"][..]), ("b", &["r/1"]), ("a", &["r/1"])] {
            store.note_blob(&layer, blob(text, places)).expect("note");
        }
        assert_eq!(
            store.known_blobs(&layer.diff_id),
            [blob("b", &["r/1"]), blob("a", &["r/2", "r/1"])]
        );
        for number in 0..20 {
            store.note_blob(&layer, blob(&number.to_string(), &[])).expect("note");
        }
        let known = store.known_blobs(&layer.diff_id);
        assert_eq!((known.len(), &known[MOST - 1]), (MOST, &blob("19", &[])));
        let checked = store.check(crate::check::Repair::Nothing, &|_, _| {});
        assert!(checked.faults.is_empty(), "{:?}", checked.faults);
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let layer = store.draft_layer().expect("draft").commit_empty().expect("commit");
        let path = store.layer_dir(&layer.diff_id).join(BLOBS);
        std::fs::write(path, "{half").expect("write");
        assert!(store.known_blobs(&layer.diff_id).is_empty());
    }
}
