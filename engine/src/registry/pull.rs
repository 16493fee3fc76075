//! An image from a registry.
//!
//! ```text
//! name -> places -> document (-> the platform's manifest) -> configuration -> layers -> image -> names
//!                                       each layer:  socket -> digest -> plain tar -> digest -> store
//! ```
//!
//! Layers come side by side, each once whoever asks for it, and are committed as soon as they are
//! whole: what a broken pull has brought is there for the next one. The image is named last.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache::Store;
use cache::compress::decompress;
use cache::digest::Digest;
use cache::known::KnownBlob;
use cache::layers::Layer;
use cache::oci::{self, Descriptor, ImageConfig, Manifest, Platform};
use ureq::http::Method;
use ureq::http::header::{self, HeaderMap};

use super::client::{Ask, Client};
use super::copy::platform_of;
use super::document::{self, ACCEPTED, Content, DOCKER_CONFIG, Document};
use super::download::{self, Download};
use super::progress::{Event, Listener, State};
use super::settings::{Place, Purpose};
use super::{Error, Settings};
use crate::reference::Reference;

/// How many layers come at once.
const SIDE_BY_SIDE: usize = 4;
/// How often it is looked whether another process has brought a layer.
const GLANCE: Duration = Duration::from_millis(20);
/// No configuration is longer.
const LONGEST_CONFIG: u64 = 8 << 20;
/// How many lists may lie in one another.
const DEEPEST: usize = 4;

/// An image of a registry that has been found there.
pub struct Remote<'a> {
    settings: &'a Settings,
    client: Client,
    reference: Reference,
    scope: String,
    root: Document,
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
                    wanted: document::shown(wanted),
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
        let (digest, _) = store.put_raw_image(&config_bytes, &manifest.annotations)?;
        let is_new = self.name(store, &digest, &document)?;
        Ok(Pulled { manifest: digest, config, digest: self.root.digest, is_new })
    }

    fn check_platform(&self, wanted: &Platform, config: &ImageConfig) -> Result<(), Error> {
        if config.os == wanted.os && config.architecture == wanted.architecture {
            return Ok(());
        }
        let found = Platform {
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            variant: config.variant.clone(),
        };
        let (found, wanted) = (document::shown(&found), document::shown(wanted));
        let name = self.reference.familiar();
        Err(Error::OtherPlatform { name, wanted, found })
    }

    /// Names the image, and keeps the documents under the name; returns whether anything is new.
    fn name(&self, store: &Store, image: &Digest, manifest: &Document) -> Result<bool, Error> {
        let mut documents = vec![store.put_blob(&self.root.bytes)?];
        if manifest.digest != self.root.digest {
            documents.push(store.put_blob(&manifest.bytes)?);
        }
        let by_digest = format!("{}@{}", self.reference.name(), self.root.digest);
        let mut is_new = store.find_image(&by_digest)? != Some(*image);
        store.tag_pulled(image, &by_digest, &documents)?;
        if let Some(tag) = self.reference.tag.as_ref().filter(|_| self.reference.digest.is_none()) {
            let by_tag = format!("{}:{tag}", self.reference.name());
            is_new |= store.find_image(&by_tag)? != Some(*image);
            store.tag(image, &[by_tag])?;
        }
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

    /// Brings the layers that are not there, some at once.
    fn bring(
        &self,
        store: &Store,
        pairs: &[(&Descriptor, &Digest)],
        listener: Listener<'_>,
    ) -> Result<(), Error> {
        let mut jobs: Vec<(&Descriptor, &Digest)> = Vec::new();
        for (descriptor, diff_id) in pairs {
            if jobs.iter().all(|(_, known)| known != diff_id) {
                jobs.push((descriptor, diff_id));
            }
        }
        for (blob, diff_id) in &jobs {
            if store.layer(diff_id)?.is_some() {
                continue;
            }
            listener(Event { layer: &blob.digest, size: blob.size, state: State::Waiting });
        }
        let threads = jobs.len().min(SIDE_BY_SIDE);
        let jobs = Mutex::new(jobs.into_iter());
        let (stop, failed) = (AtomicBool::new(false), Mutex::new(None));
        let work = || {
            loop {
                let next = jobs.lock().expect("no holder panics").next();
                let Some((blob, diff_id)) = next else { break };
                if let Err(error) = self.layer(store, blob, diff_id, &stop, listener) {
                    stop.store(true, Ordering::Relaxed);
                    let mut failed = failed.lock().expect("no holder panics");
                    // What was given up because of the first failure is no cause.
                    if !matches!(error, Error::GivenUp) {
                        failed.get_or_insert(error);
                    }
                    break;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        match failed.into_inner().expect("no holder panics") {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Has a layer in the store, whoever brings it.
    pub(super) fn layer(
        &self,
        store: &Store,
        blob: &Descriptor,
        diff_id: &Digest,
        stop: &AtomicBool,
        listener: Listener<'_>,
    ) -> Result<(), Error> {
        let tell = |state| listener(Event { layer: &blob.digest, size: blob.size, state });
        let (layer, state) = loop {
            if let Some(layer) = store.layer(diff_id)? {
                break (layer, State::Present);
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Error::GivenUp);
            }
            let Some(_claim) = store.try_claim(&claim_of(diff_id))? else {
                tell(State::Elsewhere);
                std::thread::sleep(GLANCE);
                continue;
            };
            // It may have come before we had the claim.
            if store.layer(diff_id)?.is_none() {
                let moved = |bytes| tell(State::Moved(bytes));
                break (self.transfer(store, blob, diff_id, stop, &moved)?, State::Done);
            }
        };
        let known = KnownBlob {
            digest: blob.digest,
            size: blob.size,
            media_type: blob.media_type.clone(),
            repositories: vec![self.client.place.full_name()],
        };
        // Only a hint for a push.
        let _ = store.note_blob(&layer, known);
        tell(state);
        Ok(())
    }

    /// Brings a layer from the socket into the store, in one pass.
    fn transfer(
        &self,
        store: &Store,
        blob: &Descriptor,
        diff_id: &Digest,
        stop: &AtomicBool,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Layer, Error> {
        let what = format!("layer {}", blob.digest);
        let mut download = self.download(blob, stop, progress);
        let limit = self.settings.rules.max_layer_bytes.unwrap_or(limit(blob.size));
        let mut exceeded = false;
        let unpacked = decompress(&mut download)
            .map_err(|source| Error::Decompress { what: what.clone(), source })
            .and_then(|(plain, _)| {
                let bounded = Bounded { plain, left: limit, exceeded: &mut exceeded };
                let place = format!("{what} of {}", self.client.place.full_name());
                let draft = store.draft_layer()?;
                draft
                    .commit_copy(bounded, Path::new(&place), diff_id)
                    .map_err(|source| Error::Layer { what: what.clone(), source: Box::new(source) })
            });
        match unpacked {
            Ok(layer) => download.finish().map(|()| layer),
            Err(_) if exceeded => Err(Error::Bomb { what, limit, size: blob.size }),
            Err(error) => Err(match download.take_failure() {
                Some(failure) => failure,
                // What is not what it should be cannot be expected to be readable.
                None => download.finish().err().unwrap_or(error),
            }),
        }
    }
}

/// Refuses an image that could not be used later.
fn check(store: &Store, manifest: &Manifest, diff_ids: &[Digest]) -> Result<(), Error> {
    // Only who is root can mount.
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    store.check_lower(diff_ids).map_err(|(layer, source)| {
        let at = diff_ids.iter().position(|diff_id| *diff_id == layer).unwrap_or_default();
        let blob = manifest.layers.get(at).map_or(layer, |blob| blob.digest);
        Error::Layer { what: format!("layer {blob}"), source: Box::new(source) }
    })
}

/// The key of bringing a layer.
fn claim_of(diff_id: &Digest) -> Digest {
    Digest::of(format!("bring layer {diff_id}"))
}

/// Bytes that a blob may unpack to if nothing else is said: more than honest layers do, less than
/// what fills disks.
fn limit(size: u64) -> u64 {
    (4_u64 << 30).saturating_add(size.saturating_mul(100))
}

/// A stream that ends in an error after so many bytes.
struct Bounded<'a, R> {
    plain: R,
    left: u64,
    exceeded: &'a mut bool,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.plain.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                *self.exceeded = true;
                return Err(io::Error::other("it unpacks to more than is allowed"));
            }
        }
        Ok(read)
    }
}

/// Reads documents of a repository.
struct Reader<'a> {
    client: &'a Client,
    reference: &'a Reference,
    scope: &'a str,
}

impl Reader<'_> {
    /// The document that the store has under this name already, if the registry still means that
    /// one: registries count how often documents are read, and not how often they are asked for.
    fn known(&self, store: &Store, wanted: &str) -> Result<Option<Document>, Error> {
        let prefix = format!("{}@", self.reference.name());
        let listed = store.list_images()?;
        let mut names = listed.iter().filter_map(|listed| listed.name.as_ref());
        if !names.any(|name| name.starts_with(&prefix)) {
            return Ok(None);
        }
        let url = self.client.url(&format!("manifests/{wanted}"));
        let response = self.client.ask(&self.question(Method::HEAD, &url, &accepted()))?;
        let digest = match content_digest(response.headers()) {
            Some(digest) if response.status().is_success() => digest,
            _ => return Ok(None),
        };
        let is_listed = listed.iter().any(|listed| listed.documents.first() == Some(&digest));
        let bytes = is_listed.then(|| store.read_blob(&digest).ok()).flatten();
        Ok(bytes.and_then(|bytes| Document::parse(bytes, None).ok()))
    }

    fn question<'b>(
        &'b self,
        method: Method,
        url: &'b str,
        headers: &'b [(header::HeaderName, &'b str)],
    ) -> Ask<'b> {
        Ask { what: "read a manifest", method, url, headers, scope: self.scope }
    }

    /// Reads a document by its tag or its digest.
    fn read(&self, wanted: &str) -> Result<Document, Error> {
        let url = self.client.url(&format!("manifests/{wanted}"));
        let what = format!("read manifest {wanted} of {}", self.reference.familiar_name());
        let headers = accepted();
        let ask = Ask { what: &what, ..self.question(Method::GET, &url, &headers) };
        let (headers, bytes) =
            self.client.read(&ask).map_err(|error| self.refused(wanted, error))?;
        let told = content_digest(&headers);
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type =
            media_type.map(|text| text.split(';').next().unwrap_or(text).trim().to_owned());
        let found = Digest::of(&bytes);
        let by_name = wanted.parse().ok();
        if let Some(expected) = by_name.into_iter().chain(told).find(|expected| *expected != found)
        {
            return Err(Error::Digest { what: format!("manifest {wanted}"), found, expected });
        }
        Document::parse(bytes, media_type.as_deref()).map_err(|why| match media_type {
            Some(kind) if kind.starts_with("text/") => Error::NoRegistry {
                host: self.client.place.host.clone(),
                why: format!("it sends {kind} where a manifest should be"),
            },
            _ => Error::Answer { what, why },
        })
    }

    /// What it means that a document cannot be had.
    fn refused(&self, wanted: &str, error: Error) -> Error {
        match error {
            Error::Refused { status: 404, said, .. } => {
                let said = if said.starts_with("manifest unknown") { String::new() } else { said };
                let mark = if wanted.contains(':') { '@' } else { ':' };
                let name = format!("{}{mark}{wanted}", self.reference.familiar_name());
                Error::NotFound { name, said }
            }
            Error::Refused { status: 401 | 403, said, .. } => {
                Error::Denied { name: self.reference.familiar_name(), said }
            }
            error => error,
        }
    }
}

fn accepted() -> [(header::HeaderName, &'static str); 4] {
    ACCEPTED.map(|media_type| (header::ACCEPT, media_type))
}

/// What a registry says the digest of its answer is.
pub(super) fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}
