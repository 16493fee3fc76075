//! The list of images, records, and what else is kept beside layers.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use super::{Checker, Content, content_of, is_there};
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
            self.image(&name, &image.digest, &mut seen)?;
            let ours = |digest| self.store.read_ours(digest, image);
            let of_index = image.documents.iter().find_map(ours).map(|(_, index)| index.manifests);
            let of_index: Vec<_> = of_index.into_iter().flatten().map(|it| it.digest).collect();
            let others = self.store.others(image)?.into_iter().map(|other| other.digest);
            let others: BTreeSet<Digest> = others.chain(of_index).collect();
            for digest in others.iter().filter(|digest| **digest != image.digest) {
                self.image(&name, digest, &mut seen)?;
            }
        }
        Ok(())
    }

    /// Whether an image has all its parts; blobs that were `seen` are passed over.
    fn image(&mut self, name: &str, digest: &Digest, seen: &mut BTreeSet<Digest>) -> Result<()> {
        match self.store.peek_image(digest) {
            Ok(found) => {
                let layers = found.config.rootfs.diff_ids.iter();
                let gone: Vec<_> = layers.filter(|layer| self.is_lost(layer)).collect();
                for layer in gone {
                    self.lost_layer(name, layer)?;
                }
                let blobs = found.manifest.layers.iter().map(|layer| layer.digest);
                let blobs: Vec<Digest> = blobs.filter(|digest| seen.insert(*digest)).collect();
                for blob in blobs {
                    self.blob_of_image(name, &blob)?;
                }
            }
            Err(error @ (Error::Missing { .. } | Error::Corrupt { .. })) => {
                self.fault(name, error.to_string(), UNUSABLE, None);
            }
            Err(Error::Damaged { path, why }) => {
                self.fault(name, format!("{}: {why}", path.display()), UNUSABLE, None);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// An image's layer is not there, but its blob may be.
    fn lost_layer(&mut self, image: &str, layer: &Digest) -> Result<()> {
        let wrong = format!("its layer {layer} is gone or damaged");
        match self.restore_from_blob(layer)? {
            true => self.restorable(image, wrong),
            false => self.fault(image, wrong, UNUSABLE, None),
        }
        Ok(())
    }

    pub(super) fn restorable(&mut self, object: &str, wrong: String) {
        let done = self.repairs().then_some("restored from its blob");
        self.fault(object, wrong, "it cannot be used; the layer's blob is whole", done);
    }

    pub(super) fn is_lost(&self, layer: &Digest) -> bool {
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
    fn bad_index(&mut self, path: PathBuf, why: &str) -> Result<()> {
        let mut index = Index::default();
        for (digest, blob) in self.store.listed("images/blobs/sha256")? {
            let Some(size) = measure::stat(&blob)?.map(|metadata| metadata.len()) else { continue };
            if size > LONGEST_MANIFEST {
                continue;
            }
            let bytes = self.store.read_blob(&digest).unwrap_or_default();
            if serde_json::from_slice::<Manifest>(&bytes).is_ok() {
                index.manifests.push(Descriptor::new(oci::MANIFEST, digest, size));
            }
        }
        let meaning = format!(
            "no image can be found; {} can be listed again, without their names",
            index.manifests.len()
        );
        let done = self.repairs().then_some("written anew from the manifests; give names with tag");
        if self.repairs() {
            let bytes = serde_json::to_vec(&index).expect("documents have string keys only");
            self.clear(&path)?;
            self.store.write_durably(&path, &bytes)?;
        }
        self.fault("images/index.json", why, meaning, done);
        Ok(())
    }

    /// Records: each is named by the digest of its text and has a layer.
    pub(super) fn records(&mut self) -> Result<()> {
        for (key, path) in self.store.listed("cache/records")? {
            self.report.objects += 1;
            let mut bytes = Vec::new();
            let content = content_of(&path, |mut file| {
                file.read_to_end(&mut bytes)?;
                Ok(Digest::of(&bytes))
            })?;
            let wrong = match content {
                Content::Missing => continue,
                Content::Digest(_) => self.wrong_record(&key, &bytes)?,
                other => Some(format!("it {}", other.wrong())),
            };
            let Some(wrong) = wrong else { continue };
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

    /// What is wrong with a record of these bytes.
    fn wrong_record(&mut self, key: &Digest, bytes: &[u8]) -> Result<Option<String>> {
        let text = bytes.iter().position(|byte| *byte == b'\n').map(|end| &bytes[end + 1..]);
        Ok(match (Record::parse(bytes), text) {
            (None, _) => Some("it cannot be read".to_owned()),
            (_, None) => Some("its text is missing".to_owned()),
            (_, Some(text)) if Digest::of(text) != *key => {
                Some("its text is not the one that its key is the digest of".to_owned())
            }
            (Some(record), _) if self.is_lost(&record.layer) => {
                let wrong = format!("its layer {} is gone or damaged", record.layer);
                if !self.restore_from_blob(&record.layer)? {
                    return Ok(Some(wrong));
                }
                self.restorable(&format!("record {key}"), wrong);
                None
            }
            _ => None,
        })
    }

    /// What is known of contexts, what was downloaded, what builds wrote down about themselves.
    pub(super) fn others(&mut self) -> Result<()> {
        for (kind, dir) in ALSO {
            for path in measure::children(&self.store.root().join(dir))? {
                // Clones and cache mounts are directories.
                if path.is_dir() && matches!(kind, Kind::Source | Kind::Mount) {
                    continue;
                }
                self.report.objects += 1;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let Some(wrong) = wrong_file(kind, &name, &path)? else { continue };
                if is_there(&path)? {
                    let pin = (kind == Kind::Source).then(crate::pins::sources);
                    let removed = self.remove(&[path], pin.as_ref())?;
                    let done = removed.then_some("removed: it is made again when it is needed");
                    self.fault(format!("{dir}/{name}"), wrong, "it is of no use", done);
                }
            }
        }
        Ok(())
    }
}

/// What is wrong with a file of the build cache.
fn wrong_file(kind: Kind, name: &str, path: &Path) -> Result<Option<String>> {
    let mut is_whole = true;
    let content = content_of(path, |mut file| {
        if kind == Kind::Source {
            let (found, _) = Digest::of_reader(file)?;
            is_whole = Digest::from_hex(name).is_none_or(|expected| expected == found);
            return Ok(found);
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let digest = Digest::of(&bytes);
        is_whole = match kind {
            Kind::Context => context::is_whole(bytes),
            Kind::Journal => serde_json::from_slice::<IgnoredAny>(&bytes).is_ok(),
            _ => true,
        };
        Ok(digest)
    })?;
    Ok(match content {
        Content::Missing => None,
        Content::Digest(_) => (!is_whole).then(|| "it is not whole".to_owned()),
        other => Some(format!("it {}", other.wrong())),
    })
}
