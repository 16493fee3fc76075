//! Layers that are kept in a registry under a manifest that is no image's: its configuration is some
//! text of the caller's.
//!
//! Does not know what that text says.

use std::sync::atomic::AtomicBool;

use cache::Store;
use cache::digest::Digest;
use cache::oci::{Descriptor, Manifest};

use super::document::Document;
use super::progress::Listener;
use super::{Error, Push, Pushed, Remote, download};
use crate::reference::Reference;

/// The annotation that holds a compressed layer's diff id (containerd's and BuildKit's word for it).
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// What is kept.
pub(crate) struct Artifact<'a> {
    /// Media type of the text.
    pub(crate) config_type: &'a str,
    /// The text.
    pub(crate) config: &'a [u8],
    /// The layers, by diff id, each once.
    pub(crate) layers: &'a [Digest],
}

impl Push<'_> {
    /// Sends what the registry does not have of an artifact, and names it by the reference's tag.
    pub(crate) fn artifact(
        &self,
        artifact: &Artifact<'_>,
        reference: &Reference,
        listener: Listener<'_>,
    ) -> Result<Pushed, Error> {
        let uploads = self.uploads(reference)?;
        let mut layers = self.layers(&uploads, artifact.layers, None, listener)?;
        for (layer, diff_id) in layers.iter_mut().zip(artifact.layers) {
            layer.annotations.insert(UNCOMPRESSED.to_owned(), diff_id.to_string());
        }
        let sent = uploads.send_bytes("send what is known of the layers", artifact.config)?;
        let config = Descriptor::new(artifact.config_type, sent.digest, sent.size);
        let document = Document::of(Manifest::new(config, layers));
        let digest = document.digest.to_string();
        uploads.put(&document, reference.tag.as_deref().unwrap_or(&digest))?;
        Ok(Pushed::of(&document))
    }
}

/// The layer of an artifact that has this diff id.
pub(crate) fn find<'a>(manifest: &'a Manifest, diff_id: &Digest) -> Option<&'a Descriptor> {
    let diff_id = diff_id.to_string();
    manifest.layers.iter().find(|layer| layer.annotations.get(UNCOMPRESSED) == Some(&diff_id))
}

impl Remote<'_> {
    /// The bytes of a short blob.
    pub(crate) fn short_blob(&self, blob: &Descriptor, longest: u64) -> Result<Vec<u8>, Error> {
        if blob.size > longest {
            let what = format!("read blob {}", blob.digest);
            let why = format!("it is {} bytes long, more than {longest}", blob.size);
            return Err(Error::Answer { what, why });
        }
        let (stop, quiet) = (AtomicBool::new(false), |_: u64| {});
        download::bytes(self.download(blob, &stop, &quiet), blob)
    }

    /// Has one layer in the store, alone.
    pub(crate) fn bring_layer(
        &self,
        store: &Store,
        blob: &Descriptor,
        diff_id: &Digest,
        stop: &AtomicBool,
    ) -> Result<(), Error> {
        self.layer(store, blob, diff_id, stop, &|_| {})
    }
}
