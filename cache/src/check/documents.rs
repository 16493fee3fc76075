//! The list of images, records, and what else is kept beside layers.

use std::collections::BTreeSet;

use fs_err as fs;

use super::{Checker, is_there};
use crate::context;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::measure;
use crate::oci::{self, Descriptor, Index, Manifest};
use crate::prune::Kind;
use crate::record::Record;
use crate::usage::ALSO;

/// No manifest is longer; a longer blob is a layer.
const LONGEST_MANIFEST: u64 = 1 << 22;

const UNUSABLE: &str = "the image cannot be used until it is made again, or removed (rmi)";

impl Checker<'_> {
    /// The list of images, and whether what is on it has all its parts.
    pub(super) fn index(&mut self) -> Result<()> {
        self.report.objects += 1;
        let listed = match self.store.list_images() {
            Ok(listed) => listed,
            Err(Error::Damaged { path, why }) => return self.bad_index(path, &why),
            Err(error) => return Err(error),
        };
        let mut seen = BTreeSet::new();
        for image in &listed {
            self.report.objects += 1;
            let name = match &image.name {
                Some(name) => format!("image {name}"),
                None => format!("image {}", image.digest),
            };
            match self.store.peek_image(&image.digest) {
                Ok(found) => {
                    let layers = found.config.rootfs.diff_ids.iter();
                    let gone: Vec<_> = layers.filter(|layer| self.is_lost(layer)).collect();
                    for layer in gone {
                        let wrong = format!("its layer {layer} is gone or damaged");
                        self.fault(&name, wrong, UNUSABLE, None);
                    }
                    let blobs = found.manifest.layers.iter().map(|layer| layer.digest);
                    let blobs: Vec<Digest> = blobs.filter(|digest| seen.insert(*digest)).collect();
                    for blob in blobs {
                        self.blob_of_image(&name, &blob)?;
                    }
                }
                Err(error @ (Error::Missing { .. } | Error::Corrupt { .. })) => {
                    self.fault(&name, error.to_string(), UNUSABLE, None);
                }
                Err(Error::Damaged { path, why }) => {
                    self.fault(&name, format!("{}: {why}", path.display()), UNUSABLE, None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_lost(&self, layer: &Digest) -> bool {
        self.lost_layers.contains(layer) || !self.store.layer_tar(layer).exists()
    }

    /// A layer as the image layout shows it: its bytes were looked at, but is it there?
    fn blob_of_image(&mut self, image: &str, blob: &Digest) -> Result<()> {
        if is_there(&self.store.blob_path(blob))? {
            return Ok(());
        }
        let is_layer = !self.is_lost(blob);
        let done = (is_layer && self.repairs()).then_some("linked to the layer's tar again");
        if done.is_some() {
            self.store.share_layer_as_blob(blob)?;
        }
        let meaning = match is_layer {
            true => "other programs cannot read the image; the layer itself is there",
            false => UNUSABLE,
        };
        self.fault(image, format!("its blob {blob} is not there"), meaning, done);
        Ok(())
    }

    /// The list cannot be read: what is on it can still be told from the manifests, but not how it
    /// was called.
    fn bad_index(&mut self, path: std::path::PathBuf, why: &str) -> Result<()> {
        let mut index = Index::default();
        for (digest, blob) in self.store.listed("images/blobs/sha256")? {
            let Some(size) = measure::stat(&blob)?.map(|metadata| metadata.len()) else { continue };
            if size > LONGEST_MANIFEST {
                continue;
            }
            let bytes = self.store.read_blob(&digest).unwrap_or_default();
            if serde_json::from_slice::<Manifest>(&bytes).is_ok() {
                let media_type = oci::MANIFEST.to_owned();
                let annotations = Default::default();
                let entry = Descriptor { media_type, digest, size, annotations, platform: None };
                index.manifests.push(entry);
            }
        }
        let meaning = format!(
            "no image can be found; {} can be listed again, without their names",
            index.manifests.len()
        );
        let done = self.repairs().then_some("written anew from the manifests; give names with tag");
        if self.repairs() {
            let bytes = serde_json::to_vec(&index).expect("documents have string keys only");
            self.store.write_durably(&path, &bytes)?;
        }
        self.fault("images/index.json", why, meaning, done);
        Ok(())
    }

    /// Records: each is named by the digest of its text and has a layer.
    pub(super) fn records(&mut self) -> Result<()> {
        for (key, path) in self.store.listed("cache/records")? {
            self.report.objects += 1;
            let Ok(bytes) = fs::read(&path) else { continue };
            let text = bytes.iter().position(|byte| *byte == b'\n').map(|end| &bytes[end + 1..]);
            let wrong = match (Record::parse(&bytes), text) {
                (None, _) => "it cannot be read".to_owned(),
                (_, None) => "its text is missing".to_owned(),
                (_, Some(text)) if Digest::of(text) != key => {
                    "its text is not the one that its key is the digest of".to_owned()
                }
                (Some(record), _) if self.is_lost(&record.layer) => {
                    format!("its layer {} is gone or damaged", record.layer)
                }
                _ => continue,
            };
            // It may have been pruned, with its layer, while we looked.
            if !is_there(&path)? {
                continue;
            }
            let removed = self.remove(&[path], None)?;
            let done = removed.then_some("removed: the step will run again");
            let meaning = "a step may run again, or find what another has made";
            self.fault(format!("record {key}"), wrong, meaning, done);
        }
        Ok(())
    }

    /// What is known of contexts, what was downloaded, what builds wrote down about themselves.
    pub(super) fn others(&mut self) -> Result<()> {
        for (kind, dir) in ALSO {
            for path in measure::children(&self.store.root().join(dir))? {
                if !path.is_file() {
                    continue;
                }
                self.report.objects += 1;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let wrong = match (kind, Digest::from_hex(&name)) {
                    (Kind::Source, Some(digest)) => {
                        let found = fs::File::open(&path).and_then(Digest::of_reader);
                        found.is_ok_and(|(found, _)| found != digest)
                    }
                    (Kind::Context, _) => {
                        fs::read(&path).is_ok_and(|bytes| !context::is_whole(&bytes))
                    }
                    (Kind::Journal, _) => fs::read(&path).is_ok_and(|bytes| {
                        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_err()
                    }),
                    _ => false,
                };
                if wrong && is_there(&path)? {
                    let pin = (kind == Kind::Source).then(crate::pins::sources);
                    let removed = self.remove(&[path], pin.as_ref())?;
                    let done = removed.then_some("removed: it is made again when it is needed");
                    let meaning = "it is of no use";
                    self.fault(format!("{dir}/{name}"), "it is not whole", meaning, done);
                }
            }
        }
        Ok(())
    }
}
