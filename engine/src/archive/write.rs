//! Writes images as a tar: an OCI image layout and, for docker of any age, `manifest.json` beside
//! it. What several images share is in it once.
//!
//! Blobs are checked beside the copying, by threads that read them once more: what is to be found is
//! a store that was damaged before, not one that changes while it is read. The output is right only
//! if no error is returned.

use std::io::{self, Read, Write};

use cache::Store;
use cache::digest::Digest;
use cache::image::Image;
use cache::oci::{self, Descriptor, Index};
use cache::platforms::Meaning;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde_json::json;
use tar::Header;

use super::Error;
use super::source::blob_name;
use crate::platform;
use crate::reference::Reference;

/// What says that a directory is an image layout.
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Bytes copied at a time.
const BUFFER: usize = 1 << 18;

const BLOCK: u64 = 512;

/// Whom an archive is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Who reads OCI image layouts.
    Oci,
    /// Docker too, with names in full: what a build writes.
    Docker,
    /// The same with names as people write them: what `docker save` writes.
    DockerSave,
}

/// An image, or several for their platforms, and what it is to be called in an archive.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// What is called so. Docker's own list has one image of several.
    pub meaning: &'a Meaning,
    /// Names in full, with tags.
    pub names: &'a [String],
}

/// Writes an archive of images.
pub fn write(
    store: &Store,
    images: &[Named<'_>],
    form: Form,
    mut out: impl Write,
) -> Result<(), Error> {
    let blobs = blobs_of(images);
    std::thread::scope(|scope| {
        let checking = scope.spawn(|| blobs.par_iter().try_for_each(|blob| check(store, blob)));
        let written = write_all(store, images, &blobs, form, &mut out);
        checking.join().expect("checking does not panic")?;
        written
    })
}

fn write_all(
    store: &Store,
    images: &[Named<'_>],
    blobs: &[Digest],
    form: Form,
    out: &mut impl Write,
) -> Result<(), Error> {
    for dir in ["blobs/", "blobs/sha256/"] {
        out.write_all(header(dir, 0)?.as_bytes()).map_err(Error::Write)?;
    }
    let mut buffer = vec![0; BUFFER];
    for digest in blobs {
        copy(store, digest, out, &mut buffer)?;
    }
    append(out, "index.json", &json(&index(store, images)?))?;
    if form != Form::Oci {
        append(out, "manifest.json", &json(&docker_list(images, form)))?;
    }
    append(out, "oci-layout", LAYOUT)?;
    out.write_all(&[0; 2 * BLOCK as usize]).map_err(Error::Write)?;
    out.flush().map_err(Error::Write)
}

/// Copies a blob behind its header.
fn copy(
    store: &Store,
    digest: &Digest,
    out: &mut impl Write,
    buffer: &mut [u8],
) -> Result<(), Error> {
    let mut file = fs_err::File::open(store.blob_path(digest)).map_err(Error::Content)?;
    let size = file.metadata().map_err(Error::Content)?.len();
    out.write_all(header(&blob_name(digest), size)?.as_bytes()).map_err(Error::Write)?;
    let mut left = size;
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match file.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(Error::Content(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::Content(error)),
        };
        out.write_all(&buffer[..count]).map_err(Error::Write)?;
        left -= count as u64;
    }
    pad(out, size)
}

fn append(out: &mut impl Write, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let size = bytes.len() as u64;
    out.write_all(header(name, size)?.as_bytes()).map_err(Error::Write)?;
    out.write_all(bytes).map_err(Error::Write)?;
    pad(out, size)
}

/// Fills the last block.
fn pad(out: &mut impl Write, size: u64) -> Result<(), Error> {
    let missing = usize::try_from(size.next_multiple_of(BLOCK) - size).expect("less than a block");
    out.write_all(&[0; BLOCK as usize][..missing]).map_err(Error::Write)
}

/// The header of a file or, with a slash at the end of its name, of a directory. All of them belong
/// to root and are as old as the epoch: the same images make the same archive.
fn header(name: &str, size: u64) -> Result<Header, Error> {
    let mut header = Header::new_ustar();
    let is_dir = name.ends_with('/');
    header.set_path(name).map_err(Error::Write)?;
    header.set_entry_type(if is_dir { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_mode(if is_dir { 0o755 } else { 0o644 });
    for set in [Header::set_uid, Header::set_gid, Header::set_mtime] {
        set(&mut header, 0);
    }
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// Refuses a blob that does not have its digest.
fn check(store: &Store, digest: &Digest) -> Result<(), Error> {
    let path = store.blob_path(digest);
    let file = fs_err::File::open(&path).map_err(Error::Content)?;
    let reader = io::BufReader::with_capacity(BUFFER, file);
    let (found, _) = Digest::of_reader(reader).map_err(Error::Content)?;
    if found == *digest {
        return Ok(());
    }
    Err(Error::Store(cache::Error::Corrupt { path, expected: *digest, found }))
}

/// The blobs of images in the order they are written, each once.
pub(crate) fn blobs_of(images: &[Named<'_>]) -> Vec<Digest> {
    let mut seen = std::collections::HashSet::new();
    let of_image = |image: &Image| {
        let layers = image.manifest.layers.iter().map(|layer| layer.digest);
        [image.digest, image.id()].into_iter().chain(layers).collect::<Vec<_>>()
    };
    let all = images.iter().flat_map(|Named { meaning, .. }| {
        [meaning.digest()].into_iter().chain(meaning.images().iter().flat_map(of_image))
    });
    all.filter(|digest| seen.insert(*digest)).collect()
}

/// The list of an image layout.
pub(crate) fn index(store: &Store, images: &[Named<'_>]) -> Result<Index, Error> {
    let mut manifests = Vec::new();
    for Named { meaning, names } in images {
        let (media_type, platform) = match meaning.several {
            Some(_) => (oci::INDEX, None),
            None => (oci::MANIFEST, Some(platform::of(&meaning.image.config))),
        };
        let digest = meaning.digest();
        let size = store.read_blob(&digest)?.len() as u64;
        let mut annotated: Vec<oci::StringMap> = names
            .iter()
            .map(|name| {
                let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
                oci::StringMap::from([
                    ("io.containerd.image.name".to_owned(), name.clone()),
                    (oci::REF_NAME.to_owned(), tag.to_owned()),
                ])
            })
            .collect();
        if annotated.is_empty() {
            annotated.push(oci::StringMap::new());
        }
        manifests.extend(annotated.into_iter().map(|annotations| Descriptor {
            annotations,
            platform: platform.clone(),
            ..Descriptor::new(media_type, digest, size)
        }));
    }
    Ok(Index { manifests, ..Index::default() })
}

/// Docker's list.
fn docker_list(images: &[Named<'_>], form: Form) -> serde_json::Value {
    let one = |Named { meaning, names }: &Named<'_>| {
        let image = &meaning.image;
        let shown = |name: &String| match Reference::parse(name) {
            Ok(reference) if form == Form::DockerSave => reference.familiar(),
            _ => name.clone(),
        };
        let layers = image.manifest.layers.iter().map(|layer| blob_name(&layer.digest));
        json!({
            "Config": blob_name(&image.id()),
            "RepoTags": names.iter().map(shown).collect::<Vec<_>>(),
            "Layers": layers.collect::<Vec<_>>(),
        })
    };
    images.iter().map(one).collect()
}

fn json(document: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents have string keys only")
}
