//! A name that stands for one image on several platforms.
//!
//! ```text
//! images/index.json:  app -> manifest of the image that the name means when nobody says more
//!                            documents: an index over all of them, and the others' manifests
//! ```
//!
//! The index is there if the images were made together: then it is what a registry or an archive
//! gets. Images that came one by one, as bases of builds, have none of ours. What a registry has
//! under the name is among the documents too; its manifests are of compressed layers, and stand for
//! no image here.

use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{Image, Listed};
use crate::oci::{Descriptor, INDEX, Index, MANIFEST, Platform, StringMap};
use crate::store::Store;

/// What a name means.
#[derive(Clone, Debug)]
pub struct Meaning {
    /// The image; of several, the one that is meant when nobody says more.
    pub image: Image,
    /// All of them, if they were made together.
    pub several: Option<Several>,
}

/// Images that were made together, and what says so.
#[derive(Clone, Debug)]
pub struct Several {
    /// The digest of the index.
    pub digest: Digest,
    /// The index.
    pub index: Index,
    /// Its images, in its order.
    pub images: Vec<Image>,
}

impl Meaning {
    /// One image.
    pub fn one(image: Image) -> Self {
        Self { image, several: None }
    }

    /// All its images, in the index's order.
    pub fn images(&self) -> &[Image] {
        let one = std::slice::from_ref(&self.image);
        self.several.as_ref().map_or(one, |several| &several.images)
    }

    /// The digest of its document: the manifest, or the index over several.
    pub fn digest(&self) -> Digest {
        self.several.as_ref().map_or(self.image.digest, |several| several.digest)
    }
}

impl Image {
    /// What it runs on, as far as it says.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.config.architecture.clone(),
            os: self.config.os.clone(),
            variant: self.config.variant.clone(),
            ..Platform::default()
        }
    }
}

impl Store {
    /// Makes an index over images of the store; does not name it.
    pub fn put_index(&self, images: Vec<Image>, annotations: StringMap) -> Result<Several> {
        let like = Index { annotations, ..Index::default() };
        self.put_index_like(like, entries_for(&images), images)
    }

    /// Makes an index over images of the store that says of all of them what `like` says, and of each
    /// what its entry says, which may be of other bytes; does not name it.
    pub fn put_index_like(
        &self,
        like: Index,
        mut entries: Vec<Descriptor>,
        images: Vec<Image>,
    ) -> Result<Several> {
        for (entry, image) in entries.iter_mut().zip(&images) {
            MANIFEST.clone_into(&mut entry.media_type);
            entry.digest = image.digest;
            entry.size = self.read_blob(&image.digest)?.len() as u64;
            entry.platform.get_or_insert_with(|| image.platform());
        }
        let index = Index { media_type: Some(INDEX.to_owned()), manifests: entries, ..like };
        let bytes = serde_json::to_vec(&index).expect("documents have string keys only");
        Ok(Several { digest: self.put_blob(&bytes)?, index, images })
    }

    /// Gives names to an image, or to several.
    pub fn tag_meaning(&self, meaning: &Meaning, names: &[String]) -> Result<()> {
        let own = meaning.image.digest;
        let several = meaning.several.iter();
        let documents = several.flat_map(|several| {
            let images = several.images.iter().map(|image| image.digest);
            [several.digest].into_iter().chain(images.filter(|digest| *digest != own))
        });
        self.enlist(&own, names, &documents.collect::<Vec<_>>())
    }

    /// Adds an image to a name that stands for it on other platforms, in the place of the one that
    /// was for the same platform; `documents` are what a registry has of it. A name that nothing has
    /// is given to the image.
    pub fn add_platform(&self, name: &str, image: &Image, documents: &[Digest]) -> Result<()> {
        let listed = self.list_images()?;
        let known = listed.iter().find(|listed| listed.name.as_deref() == Some(name));
        let names = [name.to_owned()];
        let Some(known) = known else { return self.enlist(&image.digest, &names, documents) };
        let is_same = |other: &Image| other.platform() == image.platform();
        // One that cannot be read is of no use to anybody.
        let main = match self.peek_image(&known.digest) {
            Ok(main) if !is_same(&main) => main.digest,
            _ => image.digest,
        };
        let others = self.others(known)?;
        let replaced: BTreeSet<Digest> =
            others.iter().filter(|other| is_same(other)).map(|other| other.digest).collect();
        let kept = known.documents.iter().filter(|digest| !replaced.contains(digest));
        let mut all: Vec<Digest> = Vec::new();
        for digest in kept.chain(documents).chain([&image.digest]) {
            if *digest != main && !all.contains(digest) {
                all.push(*digest);
            }
        }
        self.enlist(&main, &names, &all)
    }

    /// The images that a name stands for beside the one that its entry points to. One that cannot be
    /// read is none.
    pub fn others(&self, listed: &Listed) -> Result<Vec<Image>> {
        let mut others = Vec::new();
        for digest in listed.documents.iter().filter(|digest| **digest != listed.digest) {
            match self.peek_image(digest) {
                Ok(image) if is_ours(&image) => others.push(image),
                Ok(_)
                | Err(Error::Missing { .. } | Error::Corrupt { .. } | Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(others)
    }

    /// Reads all that a name means, to use it.
    pub fn read_meaning(&self, listed: &Listed) -> Result<Meaning> {
        let image = self.read_image(&listed.digest)?;
        let mut ours = listed.documents.iter().filter_map(|digest| self.read_ours(digest, listed));
        let Some((digest, index)) = ours.next() else { return Ok(Meaning::one(image)) };
        self.pin(&[digest])?;
        let images = index.manifests.iter().map(|entry| self.read_image(&entry.digest));
        let images = images.collect::<Result<_>>()?;
        Ok(Meaning { image, several: Some(Several { digest, index, images }) })
    }

    /// The digest of the index over a name's images, if they were made together.
    pub fn index_of(&self, listed: &Listed) -> Option<Digest> {
        listed.documents.iter().find_map(|digest| Some(self.read_ours(digest, listed)?.0))
    }

    /// Reads a document that is an index over nothing but images that its name stands for here.
    pub(crate) fn read_ours(&self, digest: &Digest, listed: &Listed) -> Option<(Digest, Index)> {
        let index: Index = serde_json::from_slice(&self.read_blob(digest).ok()?).ok()?;
        let is_known = |entry: &Descriptor| {
            entry.digest == listed.digest || listed.documents.contains(&entry.digest)
        };
        let is_ours = index.media_type.as_deref() == Some(INDEX)
            && index.manifests.iter().any(|entry| entry.digest == listed.digest)
            && index.manifests.iter().all(is_known);
        is_ours.then_some((*digest, index))
    }
}

/// Entries of an index over images that say nothing of them yet, for [`Store::put_index_like`].
pub fn entries_for(images: &[Image]) -> Vec<Descriptor> {
    images.iter().map(|image| Descriptor::new(MANIFEST, image.digest, 0)).collect()
}

/// Whether a manifest is one that the store has made: its layers are plain, and so is what it calls
/// them by.
pub(crate) fn is_ours(image: &Image) -> bool {
    let layers = image.manifest.layers.iter().map(|layer| layer.digest);
    layers.eq(image.config.rootfs.diff_ids.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Repair;
    use crate::layer::{Entry, Kind};
    use crate::oci::ImageConfig;
    use crate::prune::Scope;

    /// An image with a layer of its own.
    fn image(store: &Store, architecture: &str, text: &str) -> Image {
        let entry = Entry::new("file", Kind::File { size: text.len() as u64 }, 0o644);
        let draft = store.draft_layer().expect("draft");
        let layer = draft.commit_tar(|out| {
            out.append(&entry, &mut text.as_bytes()).expect("append");
            Ok(())
        });
        let layer = layer.expect("commit");
        let mut config = ImageConfig {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids.push(layer.diff_id);
        let (digest, _) = store.put_image(&config, &StringMap::new()).expect("put");
        store.peek_image(&digest).expect("read")
    }

    fn of(image: &Image, several: Several) -> Meaning {
        Meaning { image: image.clone(), several: Some(several) }
    }

    fn listed(store: &Store, name: &str) -> Listed {
        let listed = store.list_images().expect("list").into_iter();
        listed.into_iter().find(|listed| listed.name.as_deref() == Some(name)).expect(name)
    }

    /// The architectures that a name stands for, its own first.
    fn architectures(store: &Store, name: &str) -> String {
        let listed = listed(store, name);
        let own = store.peek_image(&listed.digest).expect("read");
        let mut all = vec![own.config.architecture];
        let others = store.others(&listed).expect("read");
        all.extend(others.into_iter().map(|other| other.config.architecture));
        all.join(" ")
    }

    fn prune(store: Store) -> Store {
        let root = store.root().to_owned();
        drop(store);
        let store = Store::open(&root).expect("open");
        store.prune(&Scope::default()).expect("prune");
        store
    }

    #[test]
    fn images_made_together_stay_whole_as_long_as_a_name_stands_for_them() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let images = ["amd64", "arm64"].map(|name| image(&store, name, name));
        let [main, other] = [images[0].digest, images[1].digest];
        let several = store.put_index(images.to_vec(), StringMap::new()).expect("put");
        let (index, meaning) = (several.digest, of(&images[0], several));
        store.tag_meaning(&meaning, &["app".to_owned()]).expect("tag");
        let again = store.read_meaning(&listed(&store, "app")).expect("read");
        store.tag_meaning(&again, &["other".to_owned()]).expect("tag");
        store.untag("app").expect("untag");
        let store = prune(store);
        assert_eq!(architectures(&store, "other"), "amd64 arm64");
        let found = store.read_meaning(&listed(&store, "other")).expect("read");
        assert_eq!((found.digest(), found.image.digest), (index, main));
        assert_eq!(found.images()[1].digest, other);
        let layer = found.images()[1].config.rootfs.diff_ids[0];
        assert!(store.layer(&layer).expect("look").is_some());
        assert_eq!(store.check(Repair::Nothing, &|_, _| {}).faults, []);
        store.untag("other").expect("untag");
        let store = prune(store);
        assert!(store.layer(&layer).expect("look").is_none());
        assert!(store.read_image(&main).is_ok() && store.read_image(&other).is_err());
    }

    #[test]
    fn an_image_that_is_added_replaces_the_one_for_its_platform() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let name = "base".to_owned();
        store.tag(&image(&store, "amd64", "1").digest, std::slice::from_ref(&name)).expect("tag");
        let document = store.put_blob(b"{}").expect("put");
        for (architecture, text) in [("arm64", "1"), ("arm64", "2"), ("s390x", "1")] {
            let image = image(&store, architecture, text);
            store.add_platform(&name, &image, &[document]).expect("add");
        }
        let store = prune(store);
        assert_eq!(architectures(&store, &name), "amd64 arm64 s390x");
        let found = listed(&store, &name);
        assert_eq!(found.documents.iter().filter(|digest| **digest == document).count(), 1);
        let meaning = store.read_meaning(&found).expect("read");
        assert!(meaning.several.is_none(), "nobody made them together");
        store.add_platform(&name, &image(&store, "amd64", "2"), &[]).expect("add");
        assert_eq!(architectures(&store, &name), "amd64 arm64 s390x");
        assert_ne!(listed(&store, &name).digest, found.digest);
        let newest = &store.others(&found).expect("read")[0];
        let newest = store.layer_tar(&newest.config.rootfs.diff_ids[0]);
        assert!(String::from_utf8_lossy(&fs_err::read(newest).expect("read")).contains('2'));
    }

    #[test]
    fn a_lost_image_of_an_index_is_a_fault() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let images = ["amd64", "arm64"].map(|name| image(&store, name, name));
        let lost = images[1].digest;
        let several = store.put_index(images.to_vec(), StringMap::new()).expect("put");
        store.tag_meaning(&of(&images[0], several), &["app".to_owned()]).expect("tag");
        fs_err::remove_file(store.blob_path(&lost)).expect("remove");
        let faults = store.check(Repair::Nothing, &|_, _| {}).faults;
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].object, "image app");
        assert!(faults[0].wrong.contains(&lost.to_string()), "{faults:?}");
    }
}
