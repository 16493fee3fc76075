//! Images and their names: `images/index.json` of the OCI layout.
//!
//! A name is whatever string the caller uses (the engine passes normalised references). An image
//! without a name stays listed until it is removed, as docker's `<none>` images do.

use std::fs::File;
use std::path::PathBuf;

use serde::Serialize;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::lock;
use crate::oci::{self, Descriptor, ImageConfig, Index, Manifest};
use crate::pins::is_full;
use crate::regular;
use crate::reserve::Reserve;
use crate::store::{Store, sync_dir};

/// An image of the store, whole.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: ImageConfig,
}

impl Image {
    /// The image id: the digest of its configuration.
    pub fn id(&self) -> Digest {
        self.manifest.config.digest
    }

    /// Bytes of all its layers, uncompressed.
    pub fn size(&self) -> u64 {
        self.manifest.layers.iter().map(|layer| layer.size).sum()
    }
}

/// What a manifest says beside what its image is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// What kind of artifact it is, if it is not only an image.
    pub artifact_type: Option<String>,
    /// The manifest that it tells of, if it tells of another one.
    pub subject: Option<Descriptor>,
    /// Anything else.
    pub annotations: oci::StringMap,
}

impl Said {
    /// Annotations alone.
    pub fn of_annotations(annotations: oci::StringMap) -> Self {
        Self { annotations, ..Self::default() }
    }
}

impl From<&Manifest> for Said {
    fn from(manifest: &Manifest) -> Self {
        Self {
            artifact_type: manifest.artifact_type.clone(),
            subject: manifest.subject.clone(),
            annotations: manifest.annotations.clone(),
        }
    }
}

/// One line of the index: an image under one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name, or none.
    pub name: Option<String>,
    /// The digest of the manifest.
    pub digest: Digest,
    /// What else belongs to this name. Where it comes from a registry: the digest of what the name
    /// stands for there and, if that is an index, of the manifest chosen from it. Where it stands for
    /// several platforms (see [`crate::platforms`]): those of the other images' manifests, and of an
    /// index over all of them.
    pub documents: Vec<Digest>,
}

impl Store {
    /// Stores an image whose layers are in the store already; does not name it.
    pub fn put_image(
        &self,
        config: &ImageConfig,
        annotations: &oci::StringMap,
    ) -> Result<(Digest, Manifest)> {
        self.put_image_of(config, &json(config), &Said::of_annotations(annotations.clone()))
    }

    /// Stores an image with a configuration from elsewhere, which keeps its bytes and so its id;
    /// its layers are in the store already, and with what its manifest there says beside them. Does
    /// not name it.
    pub fn put_raw_image(&self, config_bytes: &[u8], said: &Said) -> Result<(Digest, Manifest)> {
        let config = serde_json::from_slice(config_bytes)
            .map_err(|error| Error::NoConfig { why: error.to_string() })?;
        self.put_image_of(&config, config_bytes, said)
    }

    fn put_image_of(
        &self,
        config: &ImageConfig,
        config_bytes: &[u8],
        said: &Said,
    ) -> Result<(Digest, Manifest)> {
        let mut layers = Vec::with_capacity(config.rootfs.diff_ids.len());
        for diff_id in &config.rootfs.diff_ids {
            let size = self.share_layer_as_blob(diff_id)?;
            layers.push(Descriptor::new(oci::LAYER, *diff_id, size));
        }
        // Layers are named without waiting for the disk; what an image is made of has to stay.
        sync_dir(&self.root().join("layers"))?;
        let (id, size) = (self.put_blob(config_bytes)?, config_bytes.len() as u64);
        let said = said.clone();
        let manifest = Manifest {
            artifact_type: said.artifact_type,
            subject: said.subject,
            annotations: said.annotations,
            ..Manifest::new(Descriptor::new(oci::CONFIG, id, size), layers)
        };
        let digest = self.put_blob(&json(&manifest))?;
        Ok((digest, manifest))
    }

    /// Gives the image with manifest `digest` these names, taking them from whoever had them; with
    /// no names the image is listed without one. An image that loses its last name stays listed.
    pub fn tag(&self, digest: &Digest, names: &[String]) -> Result<()> {
        self.enlist(digest, names, &[])
    }

    /// Gives an image the name `repository@digest` that it has in a registry, and keeps the
    /// documents that the registry has under it, which are blobs already.
    pub fn tag_pulled(&self, digest: &Digest, name: &str, documents: &[Digest]) -> Result<()> {
        self.enlist(digest, &[name.to_owned()], documents)
    }

    pub(crate) fn enlist(
        &self,
        digest: &Digest,
        names: &[String],
        documents: &[Digest],
    ) -> Result<()> {
        let size = self.read_blob(digest)?.len() as u64;
        self.change_index(|index| {
            for name in names {
                untag_in(index, name);
            }
            let mut names: Vec<Option<&String>> = names.iter().map(Some).collect();
            let is_listed = |entry: &Descriptor| {
                entry.digest == *digest
                    && documents.iter().all(|it| documents_of(entry).contains(it))
            };
            if names.is_empty() && !index.manifests.iter().any(is_listed) {
                names.push(None);
            }
            if names.iter().any(Option::is_some) {
                index.manifests.retain(|entry| entry.digest != *digest || name_of(entry).is_some());
            }
            for name in names {
                index.manifests.push(Descriptor {
                    annotations: annotations(name, documents),
                    ..Descriptor::new(oci::MANIFEST, *digest, size)
                });
            }
        })
    }

    /// Takes a name away; `false` when nothing had it. The image stays listed without a name.
    pub fn untag(&self, name: &str) -> Result<bool> {
        let mut found = false;
        self.change_index(|index| found = untag_in(index, name))?;
        self.forget_pull(name);
        Ok(found)
    }

    /// Takes an image off the list under all its names. Its content stays until the next prune.
    pub fn forget_image(&self, digest: &Digest) -> Result<()> {
        self.change_index(|index| index.manifests.retain(|entry| entry.digest != *digest))
    }

    /// All images under all their names, in the order they were named.
    pub fn list_images(&self) -> Result<Vec<Listed>> {
        let index = self.read_index()?;
        Ok(index
            .manifests
            .iter()
            .map(|entry| Listed {
                name: name_of(entry).cloned(),
                digest: entry.digest,
                documents: documents_of(entry),
            })
            .collect())
    }

    /// The manifest digest of the image with this name.
    pub fn find_image(&self, name: &str) -> Result<Option<Digest>> {
        Ok(self
            .list_images()?
            .into_iter()
            .find(|listed| listed.name.as_deref() == Some(name))
            .map(|listed| listed.digest))
    }

    /// Reads an image by the digest of its manifest, to use it: it stays whole as long as this store
    /// is open.
    pub fn read_image(&self, digest: &Digest) -> Result<Image> {
        self.pin(&[*digest])?;
        let image = self.peek_image(digest)?;
        let blobs = image.manifest.layers.iter().map(|layer| layer.digest);
        let layers = image.config.rootfs.diff_ids.iter().copied();
        self.pin(&blobs.chain(layers).chain([image.id()]).collect::<Vec<_>>())?;
        Ok(image)
    }

    /// Reads an image by the digest of its manifest, only to tell of it.
    pub fn peek_image(&self, digest: &Digest) -> Result<Image> {
        let manifest: Manifest = self.read_json(digest)?;
        let config = self.read_json(&manifest.config.digest)?;
        Ok(Image { digest: *digest, manifest, config })
    }

    fn read_json<T: serde::de::DeserializeOwned>(&self, digest: &Digest) -> Result<T> {
        let bytes = self.read_blob(digest)?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Damaged {
            path: self.blob_path(digest),
            why: error.to_string(),
        })
    }

    fn read_index(&self) -> Result<Index> {
        let path = self.index_path();
        let Some(bytes) = regular::read(&path)? else { return Ok(Index::default()) };
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Damaged { path, why: error.to_string() })
    }

    /// Reads, changes and writes the index while no other process does.
    fn change_index(&self, change: impl FnOnce(&mut Index)) -> Result<()> {
        let lock_path = self.root().join("images.lock");
        let lock = lock::open(&lock_path)?;
        lock::wait(&lock, &lock_path, File::lock)?;
        let before = self.read_index()?;
        let mut index = before.clone();
        change(&mut index);
        let path = self.index_path();
        if index == before && path.exists() {
            return Ok(());
        }
        let reserve = Reserve::of(self.root());
        let bytes = json(&index);
        // A list that is too long for the reserve could not be made shorter on a full disk.
        let (reserved, grows) = (reserve.keep(bytes.len()), bytes.len() > json(&before).len());
        if grows {
            reserved?;
        }
        match self.write_durably(&path, &bytes) {
            Err(error) if is_full(&error) && !grows && reserve.holds(bytes.len()) => {
                reserve.become_file(&path, &bytes)?;
                // What the list took before is free now; if others are faster, there is none until
                // the list is written again.
                let _ = reserve.keep(bytes.len());
                Ok(())
            }
            written => written,
        }
    }

    fn index_path(&self) -> PathBuf {
        self.root().join("images/index.json")
    }
}

/// The annotation that holds [`Listed::documents`], separated by spaces.
const DOCUMENTS: &str = "io.rbuild.documents";

fn annotations(name: Option<&String>, documents: &[Digest]) -> oci::StringMap {
    let mut annotations = oci::StringMap::new();
    if let Some(name) = name {
        annotations.insert(oci::REF_NAME.to_owned(), name.clone());
    }
    if !documents.is_empty() {
        let digests: Vec<String> = documents.iter().map(Digest::to_string).collect();
        annotations.insert(DOCUMENTS.to_owned(), digests.join(" "));
    }
    annotations
}

fn documents_of(entry: &Descriptor) -> Vec<Digest> {
    let digests = entry.annotations.get(DOCUMENTS).map(String::as_str).unwrap_or_default();
    digests.split(' ').filter_map(|digest| digest.parse().ok()).collect()
}

fn name_of(entry: &Descriptor) -> Option<&String> {
    entry.annotations.get(oci::REF_NAME)
}

/// Removes `name`; the image stays listed without one when it was its last.
fn untag_in(index: &mut Index, name: &str) -> bool {
    let Some(position) =
        index.manifests.iter().position(|entry| name_of(entry).is_some_and(|found| found == name))
    else {
        return false;
    };
    let digest = index.manifests[position].digest;
    let named = index.manifests.iter().filter(|entry| entry.digest == digest).count();
    if named > 1 {
        index.manifests.remove(position);
    } else {
        for annotation in [oci::REF_NAME, DOCUMENTS] {
            index.manifests[position].annotations.remove(annotation);
        }
    }
    true
}

fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents have string keys only")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(store: &Store, author: &str) -> Digest {
        let config = ImageConfig { author: Some(author.to_owned()), ..Default::default() };
        store.put_image(&config, &Default::default()).expect("put").0
    }

    fn listing(store: &Store) -> Vec<(Option<String>, Digest)> {
        let listed = store.list_images().expect("list");
        listed.into_iter().map(|entry| (entry.name, entry.digest)).collect()
    }

    #[test]
    fn a_name_moves_to_the_newest_image_and_the_older_one_stays_without_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let (old, new) = (image(&store, "old"), image(&store, "new"));
        let name = "docker.io/library/app:latest".to_owned();
        store.tag(&old, std::slice::from_ref(&name)).expect("tag");
        store.tag(&new, std::slice::from_ref(&name)).expect("tag");
        assert_eq!(listing(&store), [(None, old), (Some(name.clone()), new)]);
        assert_eq!(store.find_image(&name).expect("find"), Some(new));
        assert!(store.untag(&name).expect("untag"));
        assert!(!store.untag(&name).expect("untag twice"));
        assert_eq!(listing(&store), [(None, old), (None, new)]);
    }

    #[test]
    fn a_name_from_a_registry_keeps_its_documents_until_it_goes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let digest = image(&store, "x");
        let document = store.put_blob(b"{}").expect("put");
        store.tag_pulled(&digest, "registry/app@sha256:0", &[document]).expect("tag");
        let listed = store.list_images().expect("list").remove(0);
        assert_eq!(listed.documents, [document]);
        store.prune(&Default::default()).expect("prune");
        assert_eq!(store.read_blob(&document).expect("kept"), b"{}");
        store.untag("registry/app@sha256:0").expect("untag");
        assert!(store.list_images().expect("list").remove(0).documents.is_empty());
        drop(store);
        let store = Store::open(dir.path()).expect("open");
        store.prune(&Default::default()).expect("prune");
        assert!(store.read_blob(&document).is_err());
    }

    #[test]
    fn a_configuration_from_elsewhere_keeps_its_bytes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let bytes = br#"{ "os": "linux", "architecture": "amd64", "rootfs": {"type": "layers"} }"#;
        let (digest, _) = store.put_raw_image(bytes, &Default::default()).expect("put");
        assert_eq!(store.peek_image(&digest).expect("read").id(), Digest::of(bytes));
        let error = store.put_raw_image(b"[]", &Default::default()).expect_err("no configuration");
        assert!(error.to_string().contains("configuration"), "{error}");
    }

    #[test]
    fn naming_an_image_again_changes_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let digest = image(&store, "x");
        for _ in 0..2 {
            store.tag(&digest, &["a".to_owned(), "b".to_owned()]).expect("tag");
        }
        assert_eq!(listing(&store), [(Some("a".into()), digest), (Some("b".into()), digest)]);
    }
}
