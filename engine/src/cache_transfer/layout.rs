//! The way by a directory.
//!
//! ```text
//! <dir>/oci-layout, index.json   one manifest for each export, the newest last
//!       index.json.lock          held by who writes
//!       blobs/sha256/<hex>       manifests, their lists of records, tars of layers
//! ```
//!
//! Blobs are written first and the index last. They are not synced: whatever is read is checked
//! against its digest, and what does not have it is as good as not there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cache::Store;
use cache::digest::Digest;
use cache::oci::{self, Descriptor, Index, Manifest};
use cache::record::Record;
use serde::de::DeserializeOwned;

use super::{Entry, Error, Mode, RECORDS, Results, json};
use crate::solve::Solution;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Which of a directory's exports are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those with this tag.
    Tag(String),
    /// The one whose manifest has this digest.
    Manifest(Digest),
}

impl Which {
    fn takes(&self, manifest: &Descriptor) -> bool {
        match self {
            Self::All => true,
            Self::Tag(tag) => manifest.annotations.get(oci::REF_NAME) == Some(tag),
            Self::Manifest(digest) => manifest.digest == *digest,
        }
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Tag(tag) => write!(f, " with tag {tag:?}"),
            Self::Manifest(digest) => write!(f, " with digest {digest}"),
        }
    }
}

/// A directory that a build's results are exported to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToDirectory {
    /// The directory; made if it does not exist.
    pub dir: PathBuf,
    /// How much.
    pub mode: Mode,
    /// Takes the place of an earlier export with this tag; without one, it stands beside them.
    pub tag: Option<String>,
    /// Drops all earlier exports.
    pub reset: bool,
}

impl ToDirectory {
    /// Writes the results of a build, which are in the store, to the directory. One writer at a
    /// time; a reader sees the earlier exports, or this one too.
    pub fn write(&self, store: &Store, solution: &Solution) -> Result<(), Error> {
        let layout = Layout { dir: self.dir.clone() };
        let failed = |source| Error::Write { dir: self.dir.clone(), source };
        fs_err::create_dir_all(layout.blobs()).map_err(failed)?;
        let _lock = layout.lock().map_err(failed)?;
        let results = Results::of(store, solution, self.mode)?;
        let descriptor = layout.put_results(store, &results)?;
        // An index that cannot be read is of use to nobody.
        let earlier =
            if self.reset { Index::default() } else { layout.index().unwrap_or_default() };
        let index = self.extend(earlier, descriptor);
        layout.write("oci-layout", LAYOUT).map_err(failed)?;
        layout.write("index.json", &json(&index)).map_err(failed)?;
        if self.reset {
            layout.keep_only(&results, &index).map_err(failed)?;
        }
        Ok(())
    }

    fn extend(&self, mut index: Index, mut descriptor: Descriptor) -> Index {
        if let Some(tag) = &self.tag {
            descriptor.annotations.insert(oci::REF_NAME.to_owned(), tag.clone());
        }
        index.manifests.retain(|earlier| match &self.tag {
            Some(tag) => earlier.annotations.get(oci::REF_NAME) != Some(tag),
            None => *earlier != descriptor,
        });
        index.manifests.push(descriptor);
        index
    }
}

/// A directory in the form of an OCI image layout.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
}

impl Layout {
    fn blobs(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Opens a file, which must not be a pipe that never says anything.
    fn open(&self, path: &Path) -> Result<File, Error> {
        let failed = |source| Error::Read { dir: self.dir.clone(), source };
        if !fs_err::metadata(path).map_err(failed)?.is_file() {
            return Err(damaged(path, "it is not a file"));
        }
        Ok(fs_err::File::open(path).map_err(failed)?.into_parts().0)
    }

    pub(super) fn index(&self) -> Result<Index, Error> {
        let path = self.dir.join("index.json");
        let file = io::BufReader::new(self.open(&path)?);
        serde_json::from_reader(file).map_err(|error| damaged(&path, error))
    }

    fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = self.blob(digest);
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut self.open(&path)?, &mut bytes)
            .map_err(|source| Error::Read { dir: self.dir.clone(), source })?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(damaged(&path, format_args!("its content has digest {found}")));
        }
        Ok(bytes)
    }

    fn read_json<T: DeserializeOwned>(&self, digest: &Digest) -> Result<T, Error> {
        let bytes = self.read_blob(digest)?;
        serde_json::from_slice(&bytes).map_err(|error| damaged(&self.blob(digest), error))
    }

    /// The records of an export; none when a manifest is of something else.
    fn entries(&self, manifest: &Descriptor) -> Result<Option<Vec<Entry>>, Error> {
        if manifest.media_type != oci::MANIFEST {
            return Ok(None);
        }
        let manifest: Manifest = self.read_json(&manifest.digest)?;
        if manifest.config.media_type != RECORDS {
            return Ok(None);
        }
        self.read_json(&manifest.config.digest).map(Some)
    }

    /// The lists of records of the exports that are meant, the newest first.
    pub(super) fn lists(&self, which: &Which) -> Result<Vec<Result<Vec<Entry>, Error>>, Error> {
        let index = self.index()?;
        let wanted = index.manifests.iter().rev().filter(|manifest| which.takes(manifest));
        let lists: Vec<_> =
            wanted.filter_map(|manifest| self.entries(manifest).transpose()).collect();
        if lists.is_empty() {
            let (place, which) = (self.dir.display().to_string(), which.to_string());
            return Err(Error::Absent { place, which });
        }
        Ok(lists)
    }

    /// Brings a record's layer into the store.
    pub(super) fn bring(&self, store: &Store, record: &Record) -> Result<(), Error> {
        let path = self.blob(&record.layer);
        store.draft_layer()?.commit_copy(self.open(&path)?, &path, &record.layer)?;
        Ok(())
    }

    /// Waits until nobody else writes to the directory.
    fn lock(&self) -> io::Result<File> {
        let path = self.dir.join("index.json.lock");
        let lock = fs_err::File::options().create(true).truncate(false).write(true).open(path)?;
        lock.file().lock()?;
        Ok(lock.into_parts().0)
    }

    /// Writes all blobs of an export; returns what points to it.
    fn put_results(&self, store: &Store, results: &Results) -> Result<Descriptor, Error> {
        let failed = |source| Error::Write { dir: self.dir.clone(), source };
        let layers = results.layers().into_iter();
        let layers = layers
            .map(|layer| self.put_layer(store, &layer, &results.fresh))
            .collect::<io::Result<_>>()
            .map_err(failed)?;
        let config = self.put_blob(RECORDS, &json(&results.entries())).map_err(failed)?;
        let manifest = Manifest::new(config, layers);
        self.put_blob(oci::MANIFEST, &json(&manifest)).map_err(failed)
    }

    fn put_blob(&self, media_type: &str, bytes: &[u8]) -> io::Result<Descriptor> {
        let digest = Digest::of(bytes);
        let path = self.blob(&digest);
        if !fs_err::read(&path).is_ok_and(|present| present == bytes) {
            self.put(&path, |file| file.write_all(bytes))?;
        }
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }

    /// A layer that this build made is written even over one that looks the same: that may be the
    /// damaged one which made this build do the step again.
    fn put_layer(
        &self,
        store: &Store,
        diff_id: &Digest,
        fresh: &BTreeSet<Digest>,
    ) -> io::Result<Descriptor> {
        let mut source = fs_err::File::open(store.layer_tar(diff_id))?.into_parts().0;
        let size = source.metadata()?.len();
        let path = self.blob(diff_id);
        let there = fs_err::metadata(&path).is_ok_and(|present| present.len() == size);
        if !there || fresh.contains(diff_id) {
            self.put(&path, |file| io::copy(&mut source, file).map(drop))?;
        }
        Ok(Descriptor::new(oci::LAYER, *diff_id, size))
    }

    /// Writes a file of the directory, whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put(&self.dir.join(name), |file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
    }

    /// Writes beside the final name and renames; nobody else does so while the lock is held, so
    /// what is there under the name beside it is left from one who was killed.
    fn put(&self, path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let temp = path.with_extension("part");
        match fs_err::remove_file(&temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs_err::File::create_new(&temp)?.into_parts().0;
        let done = write(&mut file).and_then(|()| fs_err::rename(&temp, path));
        if done.is_err() {
            let _ = fs_err::remove_file(&temp);
        }
        done
    }

    /// Removes the blobs that are not of the one export there is.
    fn keep_only(&self, results: &Results, index: &Index) -> io::Result<()> {
        let mut kept: BTreeSet<String> = results.layers().iter().map(Digest::hex).collect();
        for manifest in &index.manifests {
            kept.insert(manifest.digest.hex());
            let manifest: Result<Manifest, _> = self.read_json(&manifest.digest);
            kept.extend(manifest.map(|manifest| manifest.config.digest.hex()));
        }
        for entry in fs_err::read_dir(self.blobs())? {
            let entry = entry?;
            if !kept.contains(&*entry.file_name().to_string_lossy()) {
                fs_err::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn damaged(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::Damaged { what: path.display().to_string(), why: why.to_string() }
}
