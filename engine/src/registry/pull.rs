//! An image from a registry.
//!
//! ```text
//! name -> places -> document (-> the platform's manifest) -> configuration -> layers -> image -> names
//!                                       each layer:  socket -> digest -> plain tar -> digest -> store
//! ```
//!
//! Layers come side by side, each once whoever asks for it, and are committed as soon as they are
//! whole: what a broken pull has brought is there for the next one. The image is named last.

use std::sync::atomic::AtomicBool;

use cache::Store;
use cache::digest::Digest;
use cache::image::Said;
use cache::oci::{self, Descriptor, ImageConfig, Manifest, Platform};

use super::client::Client;
use super::copy::platform_of;
use super::document::{self, Content, DOCKER_CONFIG, Document};
use super::download::{self, Download};
use super::layers::check;
use super::lookup::Reader;
use super::progress::Listener;
use super::settings::{Place, Purpose};
use super::{Error, Settings};
use crate::platform;
use crate::reference::Reference;

/// No configuration is longer.
const LONGEST_CONFIG: u64 = 8 << 20;
/// How many lists may lie in one another.
const DEEPEST: usize = 4;

/// An image of a registry that has been found there.
pub struct Remote<'a> {
    pub(super) settings: &'a Settings,
    pub(super) client: Client,
    pub(super) reference: Reference,
    pub(super) scope: String,
    pub(super) root: Document,
}

/// What becomes of names that stand for another image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// They are taken from it.
    Taken,
    /// They stand for both, if these are for different platforms.
    Shared,
}

/// An image that has been pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The digest of its manifest in the store.
    pub manifest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// The digest that its name stands for in the registry.
    pub digest: Digest,
    /// Whether the name stood for something else here, or for nothing.
    pub is_new: bool,
}

impl<'a> Remote<'a> {
    /// Finds an image where the rules say it may be; what a mirror does not have is looked for
    /// further on. `reference` has a tag or a digest.
    pub fn find(
        store: &Store,
        reference: &Reference,
        settings: &'a Settings,
    ) -> Result<Self, Error> {
        let mut failed = None;
        for place in settings.places(reference, Purpose::Pull)? {
            match Self::find_at(store, reference, settings, place) {
                Ok(remote) => return Ok(remote),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.expect("every image has a place"))
    }

    fn find_at(
        store: &Store,
        reference: &Reference,
        settings: &'a Settings,
        place: Place,
    ) -> Result<Self, Error> {
        let scope = format!("repository:{}:pull", place.repository);
        let client = Client::connect(settings, place)?;
        let wanted = reference.digest.as_ref().or(reference.tag.as_ref());
        let wanted = wanted.map_or("latest", String::as_str);
        let reader = Reader { client: &client, reference, scope: &scope };
        let root = match reader.known(store, wanted)? {
            Some(document) => document,
            None => reader.read(wanted)?,
        };
        Ok(Self { settings, reference: reference.clone(), scope, root, client })
    }

    /// The digest that the name stands for.
    pub fn digest(&self) -> Digest {
        self.root.digest
    }

    /// What the registry has under the name.
    pub fn document(&self) -> &Document {
        &self.root
    }

    /// The manifest for a platform; without one, for any that `host` can run.
    pub fn manifest(&self, wanted: &Platform) -> Result<Document, Error> {
        let mut document = self.root.clone();
        for _ in 0..DEEPEST {
            let Content::Index(index) = &document.content else { return Ok(document) };
            let Some(entry) = document::choose(index, wanted) else {
                return Err(Error::NoPlatform {
                    name: self.reference.familiar(),
                    wanted: platform::shown(wanted),
                    there: document::platforms(index).join(", "),
                });
            };
            document = self.read(entry)?;
        }
        let (what, why) = (self.what(), "its lists of manifests have no end".to_owned());
        Err(Error::Answer { what, why })
    }

    /// Reads a document of a list.
    pub fn read(&self, entry: &Descriptor) -> Result<Document, Error> {
        let document = self.reader().read(&entry.digest.to_string())?;
        let (found, expected) = (document.bytes.len() as u64, entry.size);
        if found != expected {
            return Err(Error::Size {
                what: format!("manifest {}", entry.digest),
                found,
                expected,
            });
        }
        Ok(document)
    }

    fn reader(&self) -> Reader<'_> {
        Reader { client: &self.client, reference: &self.reference, scope: &self.scope }
    }

    fn what(&self) -> String {
        format!("read {}", self.reference.familiar())
    }

    /// Brings the image for a platform into the store and names it. With `strict`, one that is for
    /// another platform is refused.
    pub fn pull(
        &self,
        store: &Store,
        wanted: &Platform,
        strict: bool,
        listener: Listener<'_>,
    ) -> Result<Pulled, Error> {
        self.pull_as(store, wanted, strict, Names::Taken, listener)
    }

    /// The same for a name that goes on meaning what it has meant here, and the image beside that,
    /// if that is for other platforms.
    pub fn pull_beside(
        &self,
        store: &Store,
        wanted: &Platform,
        listener: Listener<'_>,
    ) -> Result<Pulled, Error> {
        self.pull_as(store, wanted, true, Names::Shared, listener)
    }

    fn pull_as(
        &self,
        store: &Store,
        wanted: &Platform,
        strict: bool,
        names: Names,
        listener: Listener<'_>,
    ) -> Result<Pulled, Error> {
        let document = self.manifest(wanted)?;
        let Content::Manifest(manifest) = &document.content else {
            unreachable!("a list has been chosen from")
        };
        let (config_bytes, config) = self.config(store, manifest)?;
        if strict {
            self.check_platform(wanted, &config)?;
        }
        let pairs: Vec<_> = manifest.layers.iter().zip(&config.rootfs.diff_ids).collect();
        self.bring(store, &pairs, listener)?;
        check(store, manifest, &config.rootfs.diff_ids)?;
        let (digest, _) = store.put_raw_image(&config_bytes, &Said::from(&**manifest))?;
        let is_new = self.name(store, &digest, &document, names)?;
        Ok(Pulled { manifest: digest, config, digest: self.root.digest, is_new })
    }

    fn check_platform(&self, wanted: &Platform, config: &ImageConfig) -> Result<(), Error> {
        if config.os == wanted.os && config.architecture == wanted.architecture {
            return Ok(());
        }
        let (found, wanted) = (platform::shown(&platform::of(config)), platform::shown(wanted));
        let name = self.reference.familiar();
        Err(Error::OtherPlatform { name, wanted, found })
    }

    /// Names the image, and keeps the documents under the name; returns whether anything is new.
    fn name(
        &self,
        store: &Store,
        image: &Digest,
        manifest: &Document,
        names: Names,
    ) -> Result<bool, Error> {
        let mut documents = vec![store.put_blob(&self.root.bytes)?];
        if manifest.digest != self.root.digest {
            documents.push(store.put_blob(&manifest.bytes)?);
        }
        let by_digest = format!("{}@{}", self.reference.name(), self.root.digest);
        let tag = self.reference.tag.as_ref().filter(|_| self.reference.digest.is_none());
        let by_tag = tag.map(|tag| format!("{}:{tag}", self.reference.name()));
        let mut is_new = false;
        for name in [&by_digest].into_iter().chain(&by_tag) {
            is_new |= store.find_image(name)? != Some(*image);
        }
        if names == Names::Shared {
            let image = store.read_image(image)?;
            store.add_platform(&by_digest, &image, &documents)?;
            if let Some(by_tag) = &by_tag {
                store.add_platform(by_tag, &image, &[])?;
            }
        } else {
            store.tag_pulled(image, &by_digest, &documents)?;
            if let Some(by_tag) = &by_tag {
                store.tag(image, std::slice::from_ref(by_tag))?;
            }
        }
        store.note_pull(by_tag.as_ref().unwrap_or(&by_digest))?;
        Ok(is_new)
    }

    /// The configuration, as it came and read.
    fn config(&self, store: &Store, manifest: &Manifest) -> Result<(Vec<u8>, ImageConfig), Error> {
        let descriptor = &manifest.config;
        let wrong = |why: String| Error::Answer { what: self.what(), why };
        if ![oci::CONFIG, DOCKER_CONFIG, "application/octet-stream", "text/plain"]
            .contains(&descriptor.media_type.as_str())
        {
            let kind = &descriptor.media_type;
            return Err(wrong(format!(
                "it is no image to run: its configuration is of type {kind}"
            )));
        }
        if descriptor.size > LONGEST_CONFIG {
            return Err(wrong(format!("its configuration is {} bytes long", descriptor.size)));
        }
        let bytes = match store.read_blob(&descriptor.digest) {
            Ok(bytes) => bytes,
            Err(_) => {
                let (stop, quiet) = (AtomicBool::new(false), |_: u64| {});
                download::bytes(self.download(descriptor, &stop, &quiet), descriptor)?
            }
        };
        let config: ImageConfig = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("its configuration cannot be read: {error}")))?;
        let (layers, known) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != known {
            return Err(wrong(format!(
                "its manifest has {layers} layers, its configuration knows {known}"
            )));
        }
        Ok((bytes, config))
    }

    /// Where the image was found.
    pub(super) fn place(&self) -> &Place {
        &self.client.place
    }

    /// What an image runs on, by its configuration.
    pub(super) fn platform(&self, manifest: &Manifest) -> Result<Option<Platform>, Error> {
        let (stop, quiet) = (AtomicBool::new(false), |_: u64| {});
        let download = self.download(&manifest.config, &stop, &quiet);
        let bytes = download::bytes(download, &manifest.config)?;
        // An artifact that is no image runs on nothing.
        Ok(serde_json::from_slice(&bytes).ok().and_then(|config| platform_of(&config)))
    }

    pub(super) fn download<'b>(
        &'b self,
        descriptor: &'b Descriptor,
        stop: &'b AtomicBool,
        progress: &'b (dyn Fn(u64) + Sync),
    ) -> Download<'b> {
        let patience = self.settings.patience;
        Download::new(&self.client, descriptor, &self.scope, patience, stop, progress)
    }
}
