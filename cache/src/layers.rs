//! Layers in the store: made as drafts, committed under their diff id by one rename, and mounted
//! as directories in overlay's form.
//!
//! `layer.tar` is the layer; `tree/` is derived from it (or is the very directory a step wrote to)
//! and may be removed at any time. Knows nothing of images or of what made a layer.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::digest::{Digest, DigestWriter};
use crate::error::{Error, Result};
use crate::layer::{self, Timestamp, pack};
use crate::store::Store;

/// Big enough that a read costs little beside the copying.
const BUFFER: usize = 1 << 18;

/// Where a draft's tar goes; its bytes are digested on the way.
pub type TarWriter = DigestWriter<File>;

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

    /// Packs what was written to the upper directory and commits it; the directory stays as the
    /// layer's tree. Times later than `clamp` are lowered to it.
    pub fn commit_upper(self, clamp: Option<Timestamp>) -> Result<Layer> {
        let upper = self.upper();
        let dir = fs::File::open(&upper).map_err(Error::Io)?;
        let layer = self.write_tar(|out| {
            pack::pack_upper(dir.as_fd(), out, clamp).map(drop).map_err(|source| Error::Layer {
                what: format!("cannot be packed from {}", upper.display()),
                source: Box::new(source),
            })
        })?;
        // Overlay leaves a directory of mode 0 in its work directory.
        let _ = fs::remove_dir_all(self.dir.join("work"));
        if clamp.is_some() {
            // The tree shows the times as they were, the tar has others: derive it again.
            fs::remove_dir_all(&upper).map_err(Error::Io)?;
        }
        self.publish(layer)
    }

    /// Commits the tar that `write` produces; the tree is derived when somebody needs it.
    pub fn commit_tar(self, write: impl FnOnce(&mut TarWriter) -> Result<()>) -> Result<Layer> {
        let layer = self.write_tar(write)?;
        self.publish(layer)
    }

    /// Commits a layer that changes nothing.
    pub fn commit_empty(self) -> Result<Layer> {
        let failed = |source| Error::Layer {
            what: "cannot be written".to_owned(),
            source: Box::new(source),
        };
        self.commit_tar(|out| {
            layer::writer::LayerWriter::new(out).finish().map(drop).map_err(failed)
        })
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
        let mut count = 0;
        let layer = self.write_tar(|out| {
            let mut entries =
                layer::reader::entries(io::BufReader::with_capacity(BUFFER, Tee { input, out }));
            while entries.next_entry().map_err(failed)?.is_some() {
                count += 1;
            }
            entries.finish().map(drop).map_err(failed)
        })?;
        Ok((layer, count))
    }

    fn write_tar(&self, write: impl FnOnce(&mut TarWriter) -> Result<()>) -> Result<Layer> {
        let file = fs::File::create(self.dir.join("layer.tar")).map_err(Error::Io)?.into_parts().0;
        let mut out = DigestWriter::new(file);
        write(&mut out)?;
        let (file, diff_id) = out.finish();
        file.sync_all().map_err(Error::Io)?;
        let size = file.metadata().map_err(Error::Io)?.len();
        Ok(Layer { diff_id, size })
    }

    fn publish(self, layer: Layer) -> Result<Layer> {
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

    /// Looks a layer up; `None` when it is not in the store.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
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

/// Passes on what is read, and writes it too.
struct Tee<'a, R> {
    input: R,
    out: &'a mut TarWriter,
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
