//! An image to a registry.
//!
//! ```text
//! each layer:  known blobs -> there already? -> in another repository there? -> else
//!              layer.tar -> digest -> compressor -> digest -> socket
//! then the configuration, then the manifest, which makes it an image
//! for several platforms: all that for each, then the list of their manifests
//! ```
//!
//! An image that was pulled, and whose blobs are all there or could be had from another repository
//! of the registry, is pushed by the very bytes of its manifest. What was compressed is not kept,
//! but its digest is (`cache::known`), so that the next push only asks.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use cache::Store;
use cache::compressor::Format;
use cache::digest::{Digest, Hasher};
use cache::image::{Image, Said};
use cache::known::KnownBlob;
use cache::layers::Layer;
use cache::oci::{self, Descriptor, Manifest};
use cache::platforms::{Meaning, Several};

use super::copy;
use super::document::{Content, DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, Document};
use super::progress::{Event, Listener, State};
use super::settings::Purpose;
use super::upload::{SendError, Sent, Uploads};
use super::{Error, Settings};
use crate::reference::Reference;

/// How many layers move at once; each is compressed on all cores.
const SIDE_BY_SIDE: usize = 4;
/// How many known blobs of a layer are asked for.
const ASKED: usize = 4;
/// How often a layer is sent from its beginning.
const ATTEMPTS: u32 = 3;
/// What docker calls layers.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// What is pushed, and how.
pub struct Push<'a> {
    /// Where the image is.
    pub store: &'a Store,
    /// Of registries.
    pub settings: &'a Settings,
    /// How layers must be compressed; else those that are there may be of any kind, and those that
    /// are sent are compressed by gzip, which everybody reads.
    pub format: Option<Format>,
    /// Layers, by diff id, that may nevertheless be of the kind that is there.
    pub as_found: &'a [Digest],
    /// In whose words the manifest is.
    pub words: Words,
}

/// The media types of a manifest and of what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// Those of the place where the image comes from, else OCI's.
    Any,
    /// Those of image-spec `media-types.md`.
    Oci,
    /// Docker's, which know no zstd, no annotations and no artifacts; an image that has any of them
    /// gets OCI's.
    Docker,
}

/// What has come into a registry.
#[derive(Clone, Debug)]
pub struct Published {
    /// What the name stands for.
    pub root: Document,
    /// If that is a list, the manifests on it.
    pub manifests: Vec<Document>,
}

/// An image that has been pushed.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The digest of its manifest in the registry.
    pub digest: Digest,
    /// Bytes of that manifest.
    pub size: u64,
    /// The manifest's media type.
    pub media_type: String,
}

impl<'a> Push<'a> {
    /// A push of whatever is there as it is.
    pub fn new(store: &'a Store, settings: &'a Settings) -> Self {
        Self { store, settings, format: None, as_found: &[], words: Words::Any }
    }

    /// Sends what the registry does not have, and names it by the reference's tag, or by its digest
    /// alone.
    pub fn push(
        &self,
        meaning: &Meaning,
        reference: &Reference,
        listener: Listener<'_>,
    ) -> Result<Pushed, Error> {
        let published = self.publish(meaning, reference, listener)?;
        let mut documents = vec![published.root.digest];
        for document in [&published.root].into_iter().chain(&published.manifests) {
            documents.push(self.store.put_blob(&document.bytes)?);
        }
        let others = meaning.images().iter().map(|image| image.digest);
        documents.extend(others.filter(|digest| *digest != meaning.image.digest));
        let name = format!("{}@{}", reference.name(), published.root.digest);
        self.store.tag_pulled(&meaning.image.digest, &name, &unique(documents))?;
        Ok(Pushed::of(&published.root))
    }

    /// The same for what need not be on the store's list, and does not come there.
    pub fn publish(
        &self,
        meaning: &Meaning,
        reference: &Reference,
        listener: Listener<'_>,
    ) -> Result<Published, Error> {
        let uploads = self.uploads(reference)?;
        let mut manifests = Vec::new();
        for image in meaning.images() {
            manifests.push(self.send(&uploads, image, listener)?);
        }
        let root = match &meaning.several {
            None => manifests.pop().expect("there is an image"),
            Some(several) => {
                for manifest in &manifests {
                    uploads.put(manifest, &manifest.digest.to_string())?;
                }
                list_of(several, &manifests)
            }
        };
        let digest = root.digest.to_string();
        uploads.put(&root, reference.tag.as_deref().unwrap_or(&digest))?;
        Ok(Published { root, manifests })
    }

    /// Finds the repository of a name.
    pub(super) fn uploads(&self, reference: &Reference) -> Result<Uploads, Error> {
        let place = self.settings.places(reference, Purpose::Push)?.pop();
        Uploads::open(self.settings, place.expect("every image has a place"))
    }

    /// Sends all that an image is made of; returns the manifest that it has there.
    fn send(
        &self,
        uploads: &Uploads,
        image: &Image,
        listener: Listener<'_>,
    ) -> Result<Document, Error> {
        let origin = self.origin(image)?;
        let known = origin.as_ref().map(|(_, manifest)| manifest);
        let mut layers = self.layers(uploads, &image.config.rootfs.diff_ids, known, listener)?;
        let config = self.store.read_blob(&image.id())?;
        uploads.send_bytes(&format!("send configuration {}", image.id()), &config)?;
        let same = |manifest: &Manifest| {
            let found = layers.iter().map(|layer| layer.digest);
            manifest.layers.iter().map(|layer| layer.digest).eq(found)
        };
        Ok(match origin {
            Some((document, manifest)) if same(&manifest) => document,
            _ => {
                let words = self.words_for(image, &layers);
                for layer in &mut layers {
                    layer.media_type = layer_type(&layer.media_type, words).to_owned();
                }
                manifest_of(image, config.len() as u64, layers, words)
            }
        })
    }

    /// Has layers in the repository; returns what they are there, in their order.
    pub(super) fn layers(
        &self,
        uploads: &Uploads,
        diff_ids: &[Digest],
        origin: Option<&Manifest>,
        listener: Listener<'_>,
    ) -> Result<Vec<Descriptor>, Error> {
        Sending { push: self, uploads, listener }.layers(diff_ids, origin)
    }

    /// Whether a layer may be there as a blob of this type.
    fn may_be(&self, diff_id: &Digest, media_type: &str) -> bool {
        let fits = |format| is_of(media_type, format) || self.as_found.contains(diff_id);
        self.format.is_none_or(fits)
    }

    /// The words that can say what this image has.
    fn words_for(&self, image: &Image, layers: &[Descriptor]) -> Words {
        let is_plain = Said::from(&image.manifest) == Said::default()
            && !layers.iter().any(|layer| is_of(&layer.media_type, Format::ZSTD));
        match self.words {
            Words::Docker if !is_plain => Words::Oci,
            words => words,
        }
    }

    /// The manifest that the image had where it came from.
    fn origin(&self, image: &Image) -> Result<Option<(Document, Manifest)>, Error> {
        let listed = self.store.list_images()?;
        let ours = listed.iter().filter(|listed| {
            listed.digest == image.digest || listed.documents.contains(&image.digest)
        });
        let documents = ours.flat_map(|listed| &listed.documents);
        // What is under that digest is the store's own manifest.
        for digest in documents.filter(|digest| **digest != image.digest) {
            let Ok(bytes) = self.store.read_blob(digest) else { continue };
            let Ok(document) = Document::parse(bytes, None) else { continue };
            if let Content::Manifest(manifest) = &document.content
                && manifest.config.digest == image.id()
                && self.is_as_wanted(image, &document, manifest)
            {
                let manifest = (**manifest).clone();
                return Ok(Some((document, manifest)));
            }
        }
        Ok(None)
    }

    /// Whether a manifest that the image has had elsewhere has the form that is asked for.
    fn is_as_wanted(&self, image: &Image, document: &Document, manifest: &Manifest) -> bool {
        let words = match self.words_for(image, &manifest.layers) {
            Words::Any => true,
            Words::Oci => document.media_type == oci::MANIFEST,
            Words::Docker => document.media_type == DOCKER_MANIFEST,
        };
        let mut layers = manifest.layers.iter().zip(&image.config.rootfs.diff_ids);
        words && layers.all(|(layer, diff_id)| self.may_be(diff_id, &layer.media_type))
    }
}

/// The list that stands in a registry for an index of the store.
fn list_of(several: &Several, manifests: &[Document]) -> Document {
    let known = several.index.manifests.iter().zip(manifests);
    let entries = known.map(|(entry, document)| Descriptor {
        media_type: document.media_type.clone(),
        digest: document.digest,
        size: document.bytes.len() as u64,
        ..entry.clone()
    });
    let says = |entry: &Descriptor| !entry.annotations.is_empty() || entry.artifact_type.is_some();
    let is_docker = several.index.annotations.is_empty()
        && !several.index.manifests.iter().any(says)
        && manifests.iter().all(|document| document.media_type == DOCKER_MANIFEST);
    let media_type = if is_docker { DOCKER_LIST } else { oci::INDEX };
    copy::list_as(media_type, entries.collect(), &several.index)
}

/// Digests, each once, in their order.
fn unique(digests: Vec<Digest>) -> Vec<Digest> {
    let mut seen = BTreeSet::new();
    digests.into_iter().filter(|digest| seen.insert(*digest)).collect()
}

impl Pushed {
    /// What a document is in the registry.
    pub fn of(document: &Document) -> Self {
        let (digest, size) = (document.digest, document.bytes.len() as u64);
        Self { digest, size, media_type: document.media_type.clone() }
    }
}

/// Whether a media type stands for this compression.
fn is_of(media_type: &str, format: Format) -> bool {
    match format {
        Format::Gzip(_) => media_type.ends_with("gzip"),
        Format::Zstd(_) => media_type.ends_with("zstd"),
        Format::Uncompressed => media_type.ends_with("tar"),
    }
}

/// The media type of a layer that may be called in either's words.
fn layer_type(media_type: &str, words: Words) -> &'static str {
    let is_docker = words == Words::Docker;
    match media_type {
        kind if kind.ends_with("gzip") && is_docker => DOCKER_GZIP,
        kind if kind.ends_with("gzip") => type_of(Format::GZIP),
        kind if kind.ends_with("zstd") => type_of(Format::ZSTD),
        _ if is_docker => DOCKER_LAYER,
        _ => type_of(Format::Uncompressed),
    }
}

/// The media type of image-spec `layer.md` for a layer.
fn type_of(format: Format) -> &'static str {
    match format {
        Format::Gzip(_) => "application/vnd.oci.image.layer.v1.tar+gzip",
        Format::Zstd(_) => "application/vnd.oci.image.layer.v1.tar+zstd",
        Format::Uncompressed => oci::LAYER,
    }
}

fn manifest_of(image: &Image, config_size: u64, layers: Vec<Descriptor>, words: Words) -> Document {
    let (media_type, config_type) = match words {
        Words::Docker => (DOCKER_MANIFEST, DOCKER_CONFIG),
        Words::Any | Words::Oci => (oci::MANIFEST, oci::CONFIG),
    };
    let said = &image.manifest;
    let manifest = Manifest {
        media_type: Some(media_type.to_owned()),
        artifact_type: said.artifact_type.clone(),
        subject: said.subject.clone(),
        annotations: said.annotations.clone(),
        ..Manifest::new(Descriptor::new(config_type, image.id(), config_size), layers)
    };
    Document::of(manifest)
}

/// A push under way.
struct Sending<'a> {
    push: &'a Push<'a>,
    uploads: &'a Uploads,
    listener: Listener<'a>,
}

impl Sending<'_> {
    /// Has all layers in the registry; returns what they are there, in their order.
    fn layers(
        &self,
        diff_ids: &[Digest],
        origin: Option<&Manifest>,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut jobs: Vec<(Layer, Option<&Descriptor>)> = Vec::new();
        for (at, diff_id) in diff_ids.iter().enumerate() {
            let layer = self.push.store.layer(diff_id)?;
            let layer = layer.ok_or(cache::Error::Missing { digest: *diff_id })?;
            let known = origin.and_then(|manifest| manifest.layers.get(at));
            if jobs.iter().all(|(job, _)| job != &layer) {
                self.tell(&layer, State::Waiting);
                jobs.push((layer, known));
            }
        }
        let threads = jobs.len().min(SIDE_BY_SIDE);
        let next = Mutex::new(jobs.iter());
        let done = Mutex::new(Vec::new());
        let failed = Mutex::new(None);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let job = next.lock().expect("no holder panics").next();
                        let Some((layer, known)) = job else { break };
                        match self.layer(layer, *known) {
                            Ok(blob) => done.lock().expect("no holder panics").push((*layer, blob)),
                            Err(error) => {
                                stop.store(true, Ordering::Relaxed);
                                failed.lock().expect("no holder panics").get_or_insert(error);
                            }
                        }
                    }
                });
            }
        });
        if let Some(error) = failed.into_inner().expect("no holder panics") {
            return Err(error);
        }
        let done = done.into_inner().expect("no holder panics");
        let of = |diff_id: &Digest| {
            let found = done.iter().find(|(layer, _)| layer.diff_id == *diff_id);
            found.map(|(_, blob)| blob.clone()).expect("each layer was sent")
        };
        Ok(diff_ids.iter().map(of).collect())
    }

    fn tell(&self, layer: &Layer, state: State<'_>) {
        (self.listener)(Event { layer: &layer.diff_id, size: layer.size, state });
    }

    /// Has one layer in the registry.
    fn layer(&self, layer: &Layer, origin: Option<&Descriptor>) -> Result<Descriptor, Error> {
        let known = self.candidates(layer, origin);
        for blob in &known {
            if self.uploads.has(&blob.digest)? {
                return self.settled(layer, blob, State::Present);
            }
        }
        let host = format!("{}/", self.uploads.client.place.host);
        for blob in &known {
            let mut places = blob.repositories.iter().rev();
            let Some(from) = places.find_map(|place| place.strip_prefix(&host)) else { continue };
            if self.uploads.mount(&blob.digest, from)? {
                return self.settled(layer, blob, State::Mounted(from));
            }
        }
        let sent = self.send(layer)?;
        self.settled(layer, &sent, State::Done)
    }

    /// The compressed forms that the registry may have, the likeliest first.
    fn candidates(&self, layer: &Layer, origin: Option<&Descriptor>) -> Vec<KnownBlob> {
        let mut known = self.push.store.known_blobs(&layer.diff_id);
        known.reverse();
        known.retain(|blob| self.push.may_be(&layer.diff_id, &blob.media_type));
        let is_origin = |blob: &KnownBlob| origin.is_some_and(|first| first.digest == blob.digest);
        known.sort_by_key(|blob| !is_origin(blob));
        known.truncate(ASKED);
        known
    }

    fn settled(
        &self,
        layer: &Layer,
        blob: &KnownBlob,
        state: State<'_>,
    ) -> Result<Descriptor, Error> {
        let repositories = vec![self.uploads.client.place.full_name()];
        // Only a hint for the next push.
        let _ = self.push.store.note_blob(layer, KnownBlob { repositories, ..blob.clone() });
        self.tell(layer, state);
        Ok(Descriptor::new(&blob.media_type, blob.digest, blob.size))
    }

    /// Sends a layer, from its beginning again where that may help.
    fn send(&self, layer: &Layer) -> Result<KnownBlob, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.send_once(layer) {
                Err(Error::Request { .. } | Error::Refused { status: 500..=599 | 429, .. })
                    if attempt < ATTEMPTS => {}
                sent => return sent,
            }
        }
    }

    fn send_once(&self, layer: &Layer) -> Result<KnownBlob, Error> {
        let format = self.push.format.unwrap_or(Format::GZIP);
        let unreadable = |source| Error::Read { layer: layer.diff_id, source };
        let tar = self.push.store.layer_tar(&layer.diff_id);
        let mut source = Source {
            file: fs_err::File::open(&tar).map_err(unreadable)?,
            hasher: Hasher::new(),
            expected: layer.diff_id,
            moved: 0,
            tell: &|bytes| self.tell(layer, State::Moved(bytes)),
        };
        let what = format!("send layer {}", layer.diff_id);
        let sent = self.uploads.send(&what, |mut out| format.compress(&mut source, &mut out));
        let Sent { digest, size } = sent.map_err(|error| match error {
            SendError::Registry(error) => error,
            SendError::Source(error) => unreadable(error),
        })?;
        let media_type = type_of(format).to_owned();
        Ok(KnownBlob { digest, size, media_type, repositories: Vec::new() })
    }
}

/// A layer's tar, digested while it is read: what is damaged is not sent to its end.
struct Source<'a> {
    file: fs_err::File,
    hasher: Hasher,
    expected: Digest,
    moved: u64,
    tell: &'a (dyn Fn(u64) + Sync),
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if read > 0 {
            self.hasher.update(&buffer[..read]);
            self.moved += read as u64;
            (self.tell)(self.moved);
        } else if !buffer.is_empty() {
            let found = self.hasher.clone().finish();
            if found != self.expected {
                let (path, expected) = (self.file.path().to_owned(), self.expected);
                return Err(io::Error::other(cache::Error::Corrupt { path, expected, found }));
            }
        }
        Ok(read)
    }
}
