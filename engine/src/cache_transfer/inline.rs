//! The way in an image: a field of its configuration, beside those of image-spec `config.md`, holds
//! the records of the steps whose layers the image has. BuildKit does the same under a name of its
//! own, `moby.buildkit.cache.v0`; neither reads the other's.

use cache::Store;
use cache::oci::ImageConfig;

use super::{Entry, Error, Mode, Results};
use crate::solve::Solution;

/// The field.
const FIELD: &str = "io.rbuild.cache.v1";

/// Puts the results of a build that are in the image into its configuration. With `epoch`, in
/// seconds since 1970, nothing tells when they were made, so that the same build gives the same
/// image.
pub fn add_inline(
    config: &mut ImageConfig,
    store: &Store,
    solution: &Solution,
    epoch: Option<i64>,
) -> Result<(), Error> {
    let mut entries = Results::of(store, solution, Mode::Min)?.entries();
    for entry in entries.iter_mut().filter(|_| epoch.is_some()) {
        entry.record.took_ms = 0;
        entry.record.finished = epoch.unwrap_or_default();
    }
    let list = serde_json::to_value(entries).expect("records have string keys only");
    config.other.insert(FIELD.to_owned(), list);
    Ok(())
}

/// Removes what a base image had: its steps are not of the image made on it.
pub fn remove_inline(config: &mut ImageConfig) {
    config.other.remove(FIELD);
}

/// What a configuration offers, if anything.
pub(super) fn entries(config: &ImageConfig) -> serde_json::Result<Option<Vec<Entry>>> {
    config.other.get(FIELD).map(|list| serde_json::from_value(list.clone())).transpose()
}
