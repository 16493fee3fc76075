//! Images from one repository to another, and lists made of several: all bytes stay what they are,
//! and with them digests and signatures.

use std::io;
use std::sync::atomic::AtomicBool;

use cache::oci::{self, Descriptor, Index, Manifest, Platform};

use super::document::{Content, Document};
use super::settings::Purpose;
use super::upload::{SendError, Uploads};
use super::{Error, Remote, Settings};
use crate::platform;
use crate::reference::Reference;

/// A repository that images are copied into.
pub struct Target {
    uploads: Uploads,
    reference: Reference,
}

impl Target {
    /// Finds the registry of a name.
    pub fn open(reference: &Reference, settings: &Settings) -> Result<Self, Error> {
        let place = settings.places(reference, Purpose::Push)?.pop();
        let place = place.expect("every image has a place");
        Ok(Self { uploads: Uploads::open(settings, place)?, reference: reference.clone() })
    }

    /// Has all that a document names in the repository, and the document by its digest.
    pub fn copy(&self, from: &Remote<'_>, document: &Document) -> Result<(), Error> {
        match &document.content {
            Content::Manifest(manifest) => self.blobs(from, manifest)?,
            Content::Index(index) => {
                for entry in &index.manifests {
                    self.copy(from, &from.read(entry)?)?;
                }
            }
        }
        self.uploads.put(document, &document.digest.to_string())
    }

    /// Names a document whose parts are there.
    pub fn name(&self, document: &Document) -> Result<(), Error> {
        let digest = document.digest.to_string();
        self.uploads.put(document, self.reference.tag.as_deref().unwrap_or(&digest))
    }

    fn blobs(&self, from: &Remote<'_>, manifest: &Manifest) -> Result<(), Error> {
        let (there, here) = (from.place(), &self.uploads.client.place);
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if self.uploads.has(&blob.digest)?
                || there.host == here.host && self.uploads.mount(&blob.digest, &there.repository)?
            {
                continue;
            }
            self.stream(from, blob)?;
        }
        Ok(())
    }

    /// Sends a blob while it comes.
    fn stream(&self, from: &Remote<'_>, blob: &Descriptor) -> Result<(), Error> {
        let (stop, quiet) = (AtomicBool::new(false), |_: u64| {});
        let mut download = from.download(blob, &stop, &quiet);
        let what = format!("copy blob {}", blob.digest);
        let sent = self.uploads.send(&what, |out| io::copy(&mut download, out).map(drop));
        let failure = download.take_failure();
        match sent {
            Ok(_) => download.finish(),
            Err(SendError::Registry(error)) => Err(error),
            Err(SendError::Source(source)) => Err(failure.unwrap_or(Error::BrokenOff {
                what,
                received: 0,
                size: blob.size,
                source,
            })),
        }
    }
}

/// How a list calls a document: by its digest, and by what its image runs on.
pub fn entry(from: &Remote<'_>, document: &Document) -> Result<Vec<Descriptor>, Error> {
    let manifest = match &document.content {
        // A list in a list is its entries.
        Content::Index(index) => return Ok(index.manifests.clone()),
        Content::Manifest(manifest) => manifest,
    };
    let config = from.platform(manifest)?;
    let size = document.bytes.len() as u64;
    Ok(vec![Descriptor {
        platform: config,
        artifact_type: manifest.artifact_type.clone(),
        ..Descriptor::new(&document.media_type, document.digest, size)
    }])
}

/// Adds to a list what a source has for it. Of what several sources have, the later ones say more.
pub fn add(entries: &mut Vec<Descriptor>, new: Vec<Descriptor>) {
    for entry in new {
        match entries.iter_mut().find(|known| known.digest == entry.digest) {
            Some(known) => {
                known.platform = entry.platform.or(known.platform.take());
                known.annotations.extend(entry.annotations);
            }
            None => entries.push(entry),
        }
    }
}

/// A list of these manifests.
pub fn list(manifests: Vec<Descriptor>, annotations: oci::StringMap) -> Document {
    list_as(oci::INDEX, manifests, &Index { annotations, ..Index::default() })
}

/// The same as a document of this media type, which says of itself what `like` says.
pub(super) fn list_as(media_type: &str, manifests: Vec<Descriptor>, like: &Index) -> Document {
    let media_type = media_type.to_owned();
    let index = Index { media_type: Some(media_type.clone()), manifests, ..like.clone() };
    let bytes = serde_json::to_vec(&index).expect("documents have string keys only");
    Document {
        digest: cache::digest::Digest::of(&bytes),
        bytes,
        media_type,
        content: Content::Index(Box::new(index)),
    }
}

/// What a configuration says its image runs on.
pub(super) fn platform_of(config: &oci::ImageConfig) -> Option<Platform> {
    (!config.os.is_empty()).then(|| platform::of(config))
}
