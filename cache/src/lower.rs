//! What overlay makes a file system of: layers as directories, or as file systems to be mounted.
//!
//! Which of them is the store's driver's to say; a layer that no index can express is unpacked
//! under every driver. Most layers stand alone, whatever they lie on. Three kinds do not, and what
//! is known of them is marked in the store: one whose root is opaque hides all below it (overlay
//! does not look at a root's mark, so the layers below are left out); one with a hard link to a
//! file of a layer below, and one with files in directories that it says nothing of (overlay would
//! take those for root's, mode 0755, whatever they are below), become one with all below them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layer;
use crate::store::Store;

/// What is known of a layer that does not stand alone: a file of this name in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Its root hides all below it.
    Opaque,
    /// It shows what it should only together with those below it.
    Dependent,
}

impl Mark {
    /// All there are.
    pub(crate) const ALL: [Self; 2] = [Self::Opaque, Self::Dependent];

    /// The name of its file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Dependent => "dependent",
        }
    }
}

/// Of a chain of indexed layers, so many and a multiple of it become one: a mount for each layer,
/// and a look into each for every name, cost more the deeper a chain is. One index of them costs a
/// look at all their headers, once.
const DEEP_INDEXES: usize = 32;

/// The same for directories, where it costs all the files of all layers, and is done only because
/// overlay takes no more than 500.
const DEEP_TREES: usize = 450;

/// How a store's layers are mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Unpacked. Works everywhere.
    #[default]
    Dir,
    /// As they are, by an index over the tar that the kernel reads as an EROFS file system.
    Erofs,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dir => "dir",
            Self::Erofs => "erofs",
        })
    }
}

/// A driver that there is not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no storage driver {0:?}; there are erofs and dir")]
pub struct UnknownDriver(String);

impl FromStr for Driver {
    type Err = UnknownDriver;

    fn from_str(text: &str) -> Result<Self, UnknownDriver> {
        match text {
            "dir" => Ok(Self::Dir),
            "erofs" => Ok(Self::Erofs),
            _ => Err(UnknownDriver(text.to_owned())),
        }
    }
}

/// A layer, or several, as overlay can lie on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lower {
    /// Unpacked.
    Directory(PathBuf),
    /// An EROFS file system that is to be mounted.
    Erofs {
        /// The file system itself, which has everything but the files' content.
        index: PathBuf,
        /// The files with the content, in the order of the index's device table.
        devices: Vec<PathBuf>,
    },
}

impl Store {
    /// Returns what overlay makes the file system of these layers of, the uppermost first: two at
    /// least, of which the lowest may be an empty directory. Overlay wants two, and only overlay
    /// hides what a layer deletes.
    pub fn lower(&self, diff_ids: &[Digest]) -> Result<Vec<Lower>> {
        let mut lower = self.lower_of_upper(diff_ids)?;
        if lower.len() < 2 {
            lower.push(Lower::Directory(self.scratch_dir()?));
        }
        Ok(lower)
    }

    /// The same for an overlay with an upper directory: one at least.
    ///
    /// A layer that occurs twice is needed only where it lies highest: what it did below, it does
    /// again there.
    pub fn lower_of_upper(&self, diff_ids: &[Digest]) -> Result<Vec<Lower>> {
        self.pin(diff_ids)?;
        let mut lower = Vec::with_capacity(diff_ids.len());
        let deep = match self.driver() {
            Driver::Dir => DEEP_TREES,
            Driver::Erofs => DEEP_INDEXES,
        };
        let merged = diff_ids.len() - diff_ids.len() % deep;
        if merged > 0 {
            lower.push(self.merged(&diff_ids[..merged])?);
        }
        for (at, diff_id) in diff_ids.iter().enumerate().skip(merged) {
            if diff_ids[at + 1..].contains(diff_id) {
                continue;
            }
            match self.alone(diff_id)? {
                Some(layer) if at == 0 || !self.is_marked(diff_id, Mark::Dependent) => {
                    if self.is_marked(diff_id, Mark::Opaque) {
                        lower.clear();
                    }
                    lower.push(layer);
                }
                _ => lower = vec![self.merged(&diff_ids[..=at])?],
            }
        }
        lower.reverse();
        if lower.is_empty() {
            lower.push(Lower::Directory(self.scratch_dir()?));
        }
        Ok(lower)
    }

    /// Makes sure that layers from elsewhere can be mounted, deriving what is missing for it; if not,
    /// says which is the first that cannot, and why.
    pub fn check_lower(&self, diff_ids: &[Digest]) -> Result<(), (Digest, Error)> {
        let Err(whole) = self.lower(diff_ids) else { return Ok(()) };
        for (at, diff_id) in diff_ids.iter().enumerate() {
            if let Err(error) = self.lower(&diff_ids[..=at]) {
                return Err((*diff_id, error));
            }
        }
        Err((diff_ids.last().copied().unwrap_or_else(|| Digest::of("")), whole))
    }

    /// One layer, whatever it lies on; nothing if it is known to be none without those below it.
    fn alone(&self, diff_id: &Digest) -> Result<Option<Lower>> {
        let made = || {
            if self.driver() == Driver::Erofs
                && let Some(index) = self.layer_index(diff_id)?
            {
                return Ok(index);
            }
            self.layer_tree(diff_id).map(Lower::Directory)
        };
        match made() {
            Err(error) if links_below(&error) => {
                self.mark(diff_id, Mark::Dependent)?;
                Ok(None)
            }
            made => made.map(Some),
        }
    }

    /// All these layers as one.
    fn merged(&self, diff_ids: &[Digest]) -> Result<Lower> {
        if self.driver() == Driver::Erofs
            && let Some(index) = self.chain_index(diff_ids)?
        {
            return Ok(index);
        }
        self.flat_tree(diff_ids).map(Lower::Directory)
    }

    /// Where something of a layer and all those below it is kept.
    pub(crate) fn chain_path(&self, diff_ids: &[Digest], kind: &str) -> PathBuf {
        let (top, _) = diff_ids.split_last().expect("a chain has a layer");
        let chain: String = diff_ids.iter().map(Digest::hex).collect();
        self.layer_dir(top).join(format!("{kind}-{}", Digest::of(chain).short()))
    }

    /// Notes what is known of a layer.
    pub(crate) fn mark(&self, diff_id: &Digest, mark: Mark) -> Result<()> {
        self.write_atomically(&self.layer_dir(diff_id).join(mark.name()), b"")
    }

    /// Whether this was noted of a layer.
    pub(crate) fn is_marked(&self, diff_id: &Digest, mark: Mark) -> bool {
        self.layer_dir(diff_id).join(mark.name()).exists()
    }
}

/// Whether a layer does not stand alone because it has a hard link to a file of one below.
fn links_below(error: &Error) -> bool {
    matches!(error, Error::Layer { source, .. }
        if matches!(**source, layer::Error::MissingLinkTarget { .. }))
}
