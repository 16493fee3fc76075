//! Images as registries have them, and as no well-behaved one would: documents and blobs that fit each other until a test
//! says otherwise.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use super::{finish, layer, need, sha256};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// One image.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) manifest: Value,
    pub(crate) config: Value,
    pub(super) blobs: BTreeMap<String, Vec<u8>>,
    /// Served in the manifest's place, where a test says what; with its media type.
    pub(crate) document: Option<(String, Vec<u8>)>,
}

impl Served {
    /// An image of two small layers.
    pub(crate) fn small() -> Self {
        Self::of(&[layer("a: one\n"), layer("b: two\n")])
    }

    /// Busybox, which runs, and a small layer.
    pub(crate) fn busybox() -> Self {
        let busybox = fs_err::read(need::base_tar("busybox")).expect("read the busybox base");
        Self::of(&[busybox, layer("greeting: hello\n")])
    }

    /// An image of these layers, which are tars; they are served compressed with gzip.
    pub(crate) fn of(layers: &[Vec<u8>]) -> Self {
        let blobs = layers.iter().map(|tar| (gzip(tar), format!("sha256:{}", sha256(tar))));
        Self::of_blobs(&blobs.collect::<Vec<_>>())
    }

    /// An image of these blobs, each with what it says its diff id is.
    pub(crate) fn of_blobs(layers: &[(Vec<u8>, String)]) -> Self {
        let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let mut blobs = BTreeMap::new();
        let mut descriptors = Vec::new();
        for (bytes, _) in layers {
            let digest = format!("sha256:{}", sha256(bytes));
            let size = bytes.len();
            descriptors.push(json!({"mediaType": LAYER, "digest": digest, "size": size}));
            blobs.insert(digest, bytes.clone());
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG}, "layers": descriptors,
        });
        Self { manifest, config, blobs, document: None }.sealed()
    }

    /// The same after a change to its documents; the manifest's descriptor of the configuration is made true again.
    pub(crate) fn edited(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self.sealed()
    }

    /// The digest of a layer's blob, counted from the lowest.
    pub(crate) fn layer(&self, number: usize) -> String {
        self.manifest["layers"][number]["digest"].as_str().expect("a digest").to_owned()
    }

    /// The digest of the configuration.
    pub(crate) fn id(&self) -> String {
        self.manifest["config"]["digest"].as_str().expect("a digest").to_owned()
    }

    /// The bytes of a blob.
    pub(crate) fn bytes(&self, digest: &str) -> &[u8] {
        &self.blobs[digest]
    }

    /// Serves another image's blobs beside its own.
    pub(crate) fn blobs_of(&mut self, other: &Self) {
        self.blobs.extend(other.blobs.clone());
    }

    /// Serves a blob from elsewhere.
    pub(crate) fn keep(&mut self, digest: &str, bytes: Vec<u8>) {
        self.blobs.insert(digest.to_owned(), bytes);
    }

    /// What is served under the tag: its digest, its media type and itself.
    pub(crate) fn tagged(&self) -> (String, String, Vec<u8>) {
        let manifest = || (MANIFEST.to_owned(), self.manifest.to_string().into_bytes());
        let (media, bytes) = self.document.clone().unwrap_or_else(manifest);
        (format!("sha256:{}", sha256(&bytes)), media, bytes)
    }

    fn sealed(mut self) -> Self {
        let bytes = self.config.to_string().into_bytes();
        let digest = format!("sha256:{}", sha256(&bytes));
        self.manifest["config"]["digest"] = digest.clone().into();
        self.manifest["config"]["size"] = bytes.len().into();
        self.blobs.insert(digest, bytes);
        self
    }
}

/// A digest that nothing has.
pub(crate) fn absent() -> String {
    format!("sha256:{}", "0".repeat(64))
}

/// The bytes compressed by `gzip`, the same each time.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip");
    gzip.args(["-n", "-6"]);
    finish(gzip, Some(bytes)).succeeded().stdout.clone()
}
