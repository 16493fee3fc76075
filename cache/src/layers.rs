//! Layers in the store: made as drafts, committed under their diff id by one rename, and mounted
//! as directories in overlay's form.
//!
//! `layer.tar` is the layer; what it is mounted by is derived from it, made on the way where that
//! costs nothing, and may be removed at any time. Knows nothing of images or of what made a layer.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::digest::Digest;
use crate::erofs::{Builder, Content};
use crate::error::{Error, Result};
use crate::index::{self, INDEX};
use crate::layer::writer::{Append, LayerWriter};
use crate::layer::{self, Entry, Timestamp, pack};
use crate::lower::Driver;
use crate::pipeline::Pipeline;
use crate::store::Store;

/// Big enough that a read costs little beside the copying.
const BUFFER: usize = 1 << 18;

/// Bytes that a tar counts in.
const BLOCK: u64 = 512;

/// Where a draft's tar goes; its bytes are digested on the way.
type TarFile = Pipeline;

/// A layer that is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The digest of its uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of its uncompressed tar.
    pub size: u64,
}

/// A layer in the making: a scratch directory that becomes `layers/<hex>` by one rename.
pub struct Draft<'store> {
    store: &'store Store,
    dir: PathBuf,
}

impl<'store> Draft<'store> {
    /// Where a container writes: overlay's upper directory and its work directory.
    pub fn make_upper(&self) -> Result<(PathBuf, PathBuf)> {
        let (upper, work) = (self.dir.join("tree"), self.dir.join("work"));
        fs::create_dir(&upper).map_err(Error::Io)?;
        fs::create_dir(&work).map_err(Error::Io)?;
        // The mode of `/` in the container, whatever umask we run under.
        fs::set_permissions(&upper, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(Error::Io)?;
        Ok((upper, work))
    }

    /// Names the draft among all drafts of this machine that are being made.
    pub fn id(&self) -> String {
        let parts = [self.dir.parent(), Some(&self.dir)].map(|path| path.and_then(Path::file_name));
        parts.map(|name| name.unwrap_or_default().to_string_lossy().into_owned()).join(".")
    }

    /// The directory a container has written to.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// Packs what was written to the upper directory and commits it. Times later than `clamp` are
    /// lowered to it.
    pub fn commit_upper(self, clamp: Option<Timestamp>) -> Result<Layer> {
        let upper = self.upper();
        let dir = fs::File::open(&upper).map_err(Error::Io)?;
        let layer = self.write_entries(|out| {
            pack::pack_upper(dir.as_fd(), out, clamp).map(drop).map_err(|source| Error::Layer {
                what: format!("cannot be packed from {}", upper.display()),
                source: Box::new(source),
            })
        })?;
        // Overlay leaves a directory of mode 0 in its work directory.
        let _ = fs::remove_dir_all(self.dir.join("work"));
        // The upper directory is the layer's tree already, but for the times that the tar has.
        if self.store.driver() == Driver::Erofs || clamp.is_some() {
            self.store.discard(&upper)?;
        }
        self.publish(layer)
    }

    /// Commits the layer of the entries that `write` appends.
    pub fn commit_tar(self, write: impl FnOnce(&mut dyn Append) -> Result<()>) -> Result<Layer> {
        let layer = self.write_entries(write)?;
        self.publish(layer)
    }

    /// Commits a layer that changes nothing.
    pub fn commit_empty(self) -> Result<Layer> {
        self.commit_tar(|_| Ok(()))
    }

    /// Commits a tar from elsewhere byte by byte; one that is no tar is refused.
    pub fn commit_import(self, input: impl io::Read) -> Result<Layer> {
        let (layer, entries) = self.write_import(input)?;
        if entries == 0 {
            let (path, why) = (self.dir.join("layer.tar"), "it holds no files".to_owned());
            return Err(Error::Damaged { path, why });
        }
        self.publish(layer)
    }

    /// Commits a layer from elsewhere; one that does not have this diff id, or is no tar, is
    /// refused. `path` is where it comes from, for errors.
    pub fn commit_copy(self, input: impl io::Read, path: &Path, diff_id: &Digest) -> Result<Layer> {
        let written = self.write_import(input);
        if let Ok((layer, _)) = &written
            && layer.diff_id != *diff_id
        {
            let (path, expected, found) = (path.to_owned(), *diff_id, layer.diff_id);
            return Err(Error::Corrupt { path, expected, found });
        }
        self.publish(written?.0)
    }

    /// Writes a tar from elsewhere; also returns how many entries it has.
    fn write_import(&self, input: impl io::Read) -> Result<(Layer, usize)> {
        let failed = |source| Error::Layer {
            what: "cannot be imported".to_owned(),
            source: Box::new(source),
        };
        let (mut count, mut index) = (0, self.index());
        let layer = self.write_tar(|out| {
            let mut entries =
                layer::reader::entries(io::BufReader::with_capacity(BUFFER, Tee { input, out }));
            while let Some((entry, data)) = entries.next_entry().map_err(failed)? {
                count += 1;
                index.add(&entry, || data.content());
            }
            entries.finish().map(drop).map_err(failed)
        })?;
        index.write(&self.dir, &layer.diff_id)?;
        Ok((layer, count))
    }

    /// The index that is made while the tar is, if the layer is to be mounted by one.
    fn index(&self) -> Index {
        Index((self.store.driver() == Driver::Erofs).then(Builder::new))
    }

    /// Writes the tar of the entries that `write` appends.
    fn write_entries(&self, write: impl FnOnce(&mut dyn Append) -> Result<()>) -> Result<Layer> {
        let mut index = self.index();
        let layer = self.write_tar(|out| {
            let mut tar = Indexed { tar: LayerWriter::new(out), index: &mut index };
            write(&mut tar)?;
            let failed = |source| Error::Layer {
                what: "cannot be written".to_owned(),
                source: Box::new(source),
            };
            tar.tar.finish().map(drop).map_err(failed)
        })?;
        index.write(&self.dir, &layer.diff_id)?;
        Ok(layer)
    }

    fn write_tar(&self, write: impl FnOnce(&mut TarFile) -> Result<()>) -> Result<Layer> {
        let file = fs::File::create(self.dir.join("layer.tar")).map_err(Error::Io)?.into_parts().0;
        let mut out = Pipeline::new(file);
        write(&mut out)?;
        let (file, diff_id) = out.finish().map_err(Error::Io)?;
        let size = file.metadata().map_err(Error::Io)?.len();
        Ok(Layer { diff_id, size })
    }

    fn publish(self, layer: Layer) -> Result<Layer> {
        self.store.pin(&[layer.diff_id])?;
        let target = self.store.layer_dir(&layer.diff_id);
        match self.store.publish(&self.dir, &target) {
            Ok(()) => Ok(layer),
            // The layer is there, or what is left of it: a tar in its place is the repair.
            Err(Error::Io(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                self.store.publish(&self.dir.join("layer.tar"), &target.join("layer.tar"))?;
                fs::remove_dir_all(&self.dir).map_err(Error::Io)?;
                Ok(layer)
            }
            Err(error) => Err(error),
        }
    }
}

impl Store {
    pub(crate) fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.root().join("layers").join(diff_id.hex())
    }

    /// Where a layer's uncompressed tar is.
    pub fn layer_tar(&self, diff_id: &Digest) -> PathBuf {
        self.layer_dir(diff_id).join("layer.tar")
    }

    /// Starts a layer.
    pub fn draft_layer(&self) -> Result<Draft<'_>> {
        Ok(Draft { store: self, dir: self.scratch_dir()? })
    }

    /// Looks a layer up; `None` when it is not in the store. One that is found stays there as long
    /// as this store is open.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        self.pin(&[*diff_id])?;
        self.peek_layer(diff_id)
    }

    /// Looks a layer up without using it.
    pub(crate) fn peek_layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        match fs::metadata(self.layer_tar(diff_id)) {
            Ok(metadata) => Ok(Some(Layer { diff_id: *diff_id, size: metadata.len() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::Io(error)),
        }
    }

    /// Makes a layer visible as a blob of the image layout, sharing its bytes; returns its size.
    pub(crate) fn share_layer_as_blob(&self, diff_id: &Digest) -> Result<u64> {
        let layer = self.layer(diff_id)?.ok_or(Error::Missing { digest: *diff_id })?;
        let (tar, blob) = (self.layer_tar(diff_id), self.blob_path(diff_id));
        match fs::hard_link(&tar, &blob) {
            Ok(()) => Ok(layer.size),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let inode = |path| fs::metadata(path).map(|file| file.ino()).map_err(Error::Io);
                // A layer that was made again may be the repair of one that was damaged.
                if inode(&tar)? != inode(&blob)? {
                    let link = self.scratch_dir()?.join("layer.tar");
                    fs::hard_link(&tar, &link).map_err(Error::Io)?;
                    self.publish(&link, &blob)?;
                }
                Ok(layer.size)
            }
            Err(error) => Err(Error::Io(error)),
        }
    }
}

/// The index of a tar in the making. A layer that no index can express goes without, and is
/// unpacked when it is used.
struct Index(Option<Builder>);

impl Index {
    fn add(&mut self, entry: &Entry, content: impl FnOnce() -> Content) {
        if let Some(builder) = &mut self.0
            && builder.add(entry, content()).is_err()
        {
            self.0 = None;
        }
    }

    fn write(self, dir: &Path, diff_id: &Digest) -> Result<()> {
        let Some(mut builder) = self.0 else { return Ok(()) };
        builder.set_tag(diff_id.hex().as_bytes());
        for mark in index::marks(&builder) {
            fs::write(dir.join(mark.name()), b"").map_err(Error::Io)?;
        }
        let tar = fs::File::open(dir.join("layer.tar")).map_err(Error::Io)?;
        index::finish(builder, &[tar], &dir.join(INDEX))
    }
}

/// A tar that is indexed while it is written.
struct Indexed<'a> {
    tar: LayerWriter<&'a mut TarFile>,
    index: &'a mut Index,
}

impl Append for Indexed<'_> {
    fn append(&mut self, entry: &Entry, data: &mut dyn io::Read) -> Result<(), layer::Error> {
        self.tar.append(entry, data)?;
        let (end, size) = (self.tar.position(), entry.size());
        self.index.add(entry, || match size {
            0 => Content::None,
            // Content is padded to whole blocks.
            _ => Content::At(end - size.next_multiple_of(BLOCK)),
        });
        Ok(())
    }
}

/// Passes on what is read, and writes it too.
struct Tee<'a, R> {
    input: R,
    out: &'a mut TarFile,
}

impl<R: io::Read> io::Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        io::Write::write_all(self.out, &buffer[..read])?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn making_a_damaged_layer_again_repairs_it_and_its_blob() {
        let damage: [fn(&Store, &Digest); 3] = [
            |store, layer| fs::write(store.layer_tar(layer), "flipped").expect("write"),
            |store, layer| fs::write(store.layer_tar(layer), "").expect("write"),
            |store, layer| fs::remove_file(store.layer_tar(layer)).expect("remove"),
        ];
        for damage in damage {
            let dir = tempfile::tempdir().expect("tempdir");
            let store = Store::open(dir.path()).expect("open");
            let make = || store.draft_layer().expect("draft").commit_empty().expect("commit");
            let layer = make();
            store.share_layer_as_blob(&layer.diff_id).expect("share");
            store.layer_tree(&layer.diff_id).expect("unpack");
            damage(&store, &layer.diff_id);
            assert_eq!(make(), layer);
            assert_eq!(store.layer(&layer.diff_id).expect("look up"), Some(layer));
            store.share_layer_as_blob(&layer.diff_id).expect("share again");
            store.read_blob(&layer.diff_id).expect("whole");
            let tar = fs::read(store.layer_tar(&layer.diff_id)).expect("read");
            assert_eq!(Digest::of(tar), layer.diff_id);
        }
    }
}
