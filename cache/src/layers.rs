//! Layers in the store: made as drafts, committed under their diff id by one rename, and mounted
//! as directories in overlay's form.
//!
//! `layer.tar` is the layer; what it is mounted by is derived from it, made on the way where that
//! costs nothing, and may be removed at any time. Knows nothing of images or of what made a layer.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;

use crate::content::ContentDigest;
use crate::digest::Digest;
use crate::erofs::{self, Builder, Content};
use crate::error::{Error, Result};
use crate::index::{self, INDEX};
use crate::layer::unpack::{Form, unpack_layer};
use crate::layer::writer::{Append, LayerWriter, Place};
use crate::layer::{self, Entry, Timestamp, pack};
use crate::lower::{Driver, Mark};
use crate::parts::{Digesting, PARTS, Recording};
use crate::pipeline::{Finished, Pipeline};
use crate::removal::remove_dir_all;
use crate::store::Store;

/// Big enough that a read costs little beside the copying.
const BUFFER: usize = 1 << 18;

/// Bytes that a tar counts in.
const BLOCK: u64 = 512;

/// Bytes of a tar whose way to the disk takes longer than starting a thread.
const WORTH_A_THREAD: u64 = 4 << 20;

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

/// A layer that is written and not in the store yet.
#[must_use]
pub struct Written<'store> {
    draft: Draft<'store>,
    layer: Layer,
    kept: Kept,
}

/// What of a written layer has its way to the disk behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// Tar and index.
    Whole,
    /// Nothing: the store has the same layer, as it was when its index was made.
    Before,
}

impl Written<'_> {
    /// Puts it into the store.
    pub fn commit(self) -> Result<Layer> {
        match self.kept {
            Kept::Whole => self.draft.publish(self.layer)?,
            Kept::Before => self.draft.discard()?,
        }
        Ok(self.layer)
    }

    /// Removes what was written.
    pub fn discard(self) -> Result<()> {
        self.draft.discard()
    }
}

impl<'store> Draft<'store> {
    /// Where a container writes: overlay's upper directory and its work directory.
    pub fn make_upper(&self) -> Result<(PathBuf, PathBuf)> {
        self.store.check_upper()?;
        let (upper, work) = (self.dir.join("tree"), self.dir.join("work"));
        fs::create_dir(&upper).map_err(Error::Io)?;
        fs::create_dir(&work).map_err(Error::Io)?;
        open_to_all(&upper)?;
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
        let (layer, kept) = self.write_entries(None, |out| {
            pack::pack_upper(dir.as_fd(), out, clamp).map(drop).map_err(|source| Error::Layer {
                what: format!("cannot be packed from {}", upper.display()),
                source: Box::new(source),
            })
        })?;
        self.store.discard(&self.dir.join("work"))?;
        // The upper directory is the layer's tree already, but for the times that the tar has.
        if self.store.driver() == Driver::Erofs || clamp.is_some() {
            self.store.discard(&upper)?;
        }
        Written { draft: self, layer, kept }.commit()
    }

    /// Commits the layer of the entries that `write` appends.
    pub fn commit_tar(self, write: impl FnOnce(&mut dyn Append) -> Result<()>) -> Result<Layer> {
        self.write_tar(write)?.commit()
    }

    /// Writes the layer of the entries that `write` appends, for who learns only by that whether it
    /// is needed.
    pub fn write_tar(
        self,
        write: impl FnOnce(&mut dyn Append) -> Result<()>,
    ) -> Result<Written<'store>> {
        let (layer, kept) = self.write_entries(None, write)?;
        Ok(Written { draft: self, layer, kept })
    }

    /// The same for one that a later layer may be like, or that is like an earlier one: who writes
    /// can find entries there, and what is the same costs little. When the earlier one turns out to
    /// have rotted, or cannot be read, all is written again without it.
    pub fn write_tar_like(
        self,
        earlier: Option<&Digest>,
        mut write: impl FnMut(&mut dyn Append) -> Result<()>,
    ) -> Result<Written<'store>> {
        let known = earlier.and_then(|earlier| self.store.earlier(earlier));
        let is_rotten = known.as_ref().map(|earlier| earlier.is_rotten());
        let recording = |earlier| Some(Recording::new(self.dir.join(PARTS), earlier));
        let mut written = self.write_entries(recording(known), &mut write);
        // Whose bytes are only copied says nothing of it when it cannot be read.
        let is_bad = |rotten: Arc<AtomicBool>| {
            rotten.load(Ordering::Relaxed) || earlier.is_some_and(|it| !self.store.can_be_read(it))
        };
        if written.is_err() && is_rotten.is_some_and(is_bad) {
            written = self.write_entries(recording(None), write);
        }
        let (layer, kept) = written?;
        Ok(Written { draft: self, layer, kept })
    }

    /// Commits a layer that changes nothing.
    pub fn commit_empty(self) -> Result<Layer> {
        self.commit_tar(|_| Ok(()))
    }

    /// Commits a tar from elsewhere byte by byte; one that is no tar is refused. Whether it can be
    /// mounted depends on the layers it lies on.
    pub fn commit_import(self, input: impl io::Read) -> Result<Layer> {
        let import = self.write_import(input, Height::Any)?;
        let (layer, kept) = (import.layer()?, import.kept);
        Written { draft: self, layer, kept }.commit()
    }

    /// Commits the tar of a root file system, which lies on nothing; one that could not be mounted
    /// is refused.
    pub fn commit_root(self, input: impl io::Read) -> Result<Layer> {
        let import = self.write_import(input, Height::Lowest)?;
        let (layer, kept) = (import.layer()?, import.kept);
        // Only who is root can mount, and only root can unpack.
        if !import.indexed && rustix::process::geteuid().is_root() {
            self.unpack()?;
        }
        Written { draft: self, layer, kept }.commit()
    }

    /// Commits a layer from elsewhere; one that does not have this diff id, or is no tar, is
    /// refused. `path` is where it comes from, for errors.
    pub fn commit_copy(self, input: impl io::Read, path: &Path, diff_id: &Digest) -> Result<Layer> {
        let Import { layer, kept, .. } = self.write_import(input, Height::Any)?;
        if layer.diff_id != *diff_id {
            let (path, expected, found) = (path.to_owned(), *diff_id, layer.diff_id);
            return Err(Error::Corrupt { path, expected, found });
        }
        Written { draft: self, layer, kept }.commit()
    }

    /// Writes a tar from elsewhere.
    fn write_import(&self, input: impl io::Read, height: Height) -> Result<Import> {
        let (mut entries, mut index) = (0, self.index());
        if height == Height::Lowest {
            // Also where it is only to tell what cannot be mounted.
            index.0.get_or_insert_with(Builder::new);
        }
        let (tar, layer) = self.write_file(Digesting::new(), |out| {
            let tee = Tee { input, out };
            let mut archive = layer::reader::entries(io::BufReader::with_capacity(BUFFER, tee));
            while let Some((entry, data)) = archive.next_entry().map_err(not_imported)? {
                entries += 1;
                match index.add(&entry, || data.content()) {
                    Err(refused) if height == Height::Lowest => {
                        return Err(no_entry_of_a_root(&entry, refused));
                    }
                    _ => {}
                }
            }
            archive.finish().map(drop).map_err(not_imported)
        })?;
        if self.store.driver() != Driver::Erofs {
            index.0 = None;
        }
        let indexed = index.0.is_some();
        let kept = self.keep(&tar.file, &layer, index)?;
        Ok(Import { layer, kept, entries, indexed })
    }

    /// Unpacks the tar, which lies on nothing.
    fn unpack(&self) -> Result<()> {
        let tree = self.upper();
        fs::create_dir(&tree).map_err(Error::Io)?;
        open_to_all(&tree)?;
        let tar = fs::File::open(self.dir.join("layer.tar")).map_err(Error::Io)?;
        let dir = fs::File::open(&tree).map_err(Error::Io)?;
        let stats = unpack_layer(tar, dir.as_fd(), Form::Overlay).map_err(not_imported)?;
        let opaque = stats.opaque_root.then_some(Mark::Opaque);
        let dependent = (!stats.implied.is_empty()).then_some(Mark::Dependent);
        opaque.into_iter().chain(dependent).try_for_each(|mark| set_mark(&self.dir, mark))
    }

    /// The index that is made while the tar is, if the layer is to be mounted by one.
    fn index(&self) -> Index {
        Index((self.store.driver() == Driver::Erofs).then(Builder::new))
    }

    /// Writes the tar of the entries that `write` appends.
    fn write_entries(
        &self,
        mut parts: Option<Recording>,
        write: impl FnOnce(&mut dyn Append) -> Result<()>,
    ) -> Result<(Layer, Kept)> {
        let mut index = self.index();
        let digesting = parts.as_ref().map_or_else(Digesting::new, Recording::digesting);
        let (tar, layer) = self.write_file(digesting, |out| {
            let tar = LayerWriter::new(out);
            let mut tar = Indexed { tar, index: &mut index, parts: parts.as_mut() };
            write(&mut tar)?;
            let failed = |source| Error::Layer {
                what: "cannot be written".to_owned(),
                source: Box::new(source),
            };
            tar.tar.finish().map(drop).map_err(failed)
        })?;
        if let Some(parts) = parts {
            parts.finish(layer.size, tar.noted)?;
        }
        let kept = self.keep(&tar.file, &layer, index)?;
        Ok((layer, kept))
    }

    /// Sees to it that a power loss takes nothing of what is written, unless it is not needed.
    fn keep(&self, tar: &File, layer: &Layer, index: Index) -> Result<Kept> {
        if index.0.is_some() && self.store.has_sealed_layer(&layer.diff_id)? {
            return Ok(Kept::Before);
        }
        self.sync(tar, || index.write(&self.dir, &layer.diff_id))?;
        Ok(Kept::Whole)
    }

    /// Writes the tar; it is not synced yet.
    fn write_file(
        &self,
        digesting: Digesting,
        write: impl FnOnce(&mut TarFile) -> Result<()>,
    ) -> Result<(Finished, Layer)> {
        let file = fs::File::create(self.dir.join("layer.tar")).map_err(Error::Io)?.into_parts().0;
        let mut out = Pipeline::new(file, digesting);
        write(&mut out).map_err(|error| self.unwritten(error))?;
        let finished = out.finish().map_err(|error| self.not_written(&error))?;
        let size = finished.file.metadata().map_err(Error::Io)?.len();
        let layer = Layer { diff_id: finished.digest, size };
        Ok((finished, layer))
    }

    /// Syncs the tar while its index is written.
    fn sync(&self, tar: &File, write_index: impl FnOnce() -> Result<()>) -> Result<()> {
        let synced = |result: io::Result<()>| result.map_err(|error| self.not_written(&error));
        if tar.metadata().map_err(Error::Io)?.len() < WORTH_A_THREAD {
            synced(tar.sync_all())?;
            return write_index();
        }
        std::thread::scope(|scope| {
            let syncing = scope.spawn(|| tar.sync_all());
            let written = write_index();
            synced(syncing.join().expect("syncing does not panic"))?;
            written
        })
    }

    /// Tells the store's failure from the layer's.
    fn unwritten(&self, error: Error) -> Error {
        match error {
            Error::Layer { source, what } => match *source {
                layer::Error::Write { source } => self.not_written(&source),
                source => Error::Layer { source: Box::new(source), what },
            },
            error => error,
        }
    }

    fn not_written(&self, error: &io::Error) -> Error {
        let tar = self.dir.join("layer.tar");
        let text = format!("failed to write to file `{}`: {error}", tar.display());
        Error::Io(io::Error::new(error.kind(), text))
    }

    fn discard(self) -> Result<()> {
        self.store.discard(&self.dir)
    }

    fn publish(self, layer: Layer) -> Result<()> {
        self.store.pin(&[layer.diff_id])?;
        let target = self.store.layer_dir(&layer.diff_id);
        match self.store.publish(&self.dir, &target) {
            Ok(()) => Ok(()),
            // The layer is there, or what is left of it: a tar in its place is the repair.
            Err(Error::Io(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                self.store.publish(&self.dir.join("layer.tar"), &target.join("layer.tar"))?;
                remove_dir_all(&self.dir).map_err(Error::Io)
            }
            Err(error) => Err(error),
        }
    }
}

/// What a layer from elsewhere may lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Height {
    /// Nothing.
    Lowest,
    /// Layers that are not known here.
    Any,
}

/// A tar from elsewhere that has been written.
struct Import {
    layer: Layer,
    kept: Kept,
    entries: usize,
    indexed: bool,
}

impl Import {
    /// The layer, if there is anything in it.
    fn layer(&self) -> Result<Layer> {
        if self.entries == 0 { Err(Error::EmptyArchive) } else { Ok(self.layer) }
    }
}

/// What the reader of an archive says, or what is behind it: the tar that is written on the way.
fn not_imported(error: layer::Error) -> Error {
    let source = match error {
        layer::Error::Read { source, position } => source
            .downcast::<layer::Error>()
            .unwrap_or_else(|source| layer::Error::Read { source, position }),
        error => error,
    };
    Error::Layer { what: "cannot be imported".to_owned(), source: Box::new(source) }
}

/// Names the entry if the error names only a directory on the way to it.
fn no_entry_of_a_root(entry: &Entry, error: layer::Error) -> Error {
    match &error {
        layer::Error::Tree { path, .. } if *path != entry.path => Error::Entry {
            entry: String::from_utf8_lossy(&entry.path).into_owned(),
            source: Box::new(error),
        },
        _ => not_imported(error),
    }
}

/// Gives a directory the mode of `/` in a container, whatever umask we run under.
fn open_to_all(dir: &Path) -> Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir, mode).map_err(Error::Io)
}

/// Notes what is known of a layer in the making.
fn set_mark(dir: &Path, mark: Mark) -> Result<()> {
    let file = fs::File::create(dir.join(mark.name())).map_err(Error::Io)?;
    file.sync_all().map_err(Error::Io)
}

impl Store {
    pub(crate) fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.root().join("layers").join(diff_id.hex())
    }

    /// Where a layer's uncompressed tar is.
    pub fn layer_tar(&self, diff_id: &Digest) -> PathBuf {
        self.layer_dir(diff_id).join("layer.tar")
    }

    /// Whether all of a layer's tar can be read.
    fn can_be_read(&self, diff_id: &Digest) -> bool {
        let tar = fs::File::open(self.layer_tar(diff_id));
        tar.is_ok_and(|mut tar| io::copy(&mut tar, &mut io::sink()).is_ok())
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
    /// Fails at what could not be unpacked either, by itself.
    fn add(
        &mut self,
        entry: &Entry,
        content: impl FnOnce() -> Content,
    ) -> Result<(), layer::Error> {
        let Some(builder) = &mut self.0 else { return Ok(()) };
        let added = builder.add(entry, content());
        if added.is_err() {
            self.0 = None;
        }
        match added {
            Err(erofs::Error::Layer(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn write(self, dir: &Path, diff_id: &Digest) -> Result<()> {
        let Some(mut builder) = self.0 else { return Ok(()) };
        builder.set_tag(diff_id.hex().as_bytes());
        for mark in index::marks(&builder) {
            set_mark(dir, mark)?;
        }
        let tar = fs::File::open(dir.join("layer.tar")).map_err(Error::Io)?;
        index::finish(builder, &[tar], &dir.join(INDEX))
    }
}

/// A tar that is indexed while it is written.
struct Indexed<'a> {
    tar: LayerWriter<&'a mut TarFile>,
    index: &'a mut Index,
    parts: Option<&'a mut Recording>,
}

impl Indexed<'_> {
    /// Tells the index of an entry that the tar has now.
    fn index(&mut self, entry: &Entry) {
        let (end, size) = (self.tar.position(), entry.size());
        // What is missing here, the layers below may have.
        let _ = self.index.add(entry, || match size {
            0 => Content::None,
            // Content is padded to whole blocks.
            _ => Content::At(end - size.next_multiple_of(BLOCK)),
        });
    }
}

impl Append for Indexed<'_> {
    fn append(&mut self, entry: &Entry, data: &mut dyn io::Read) -> Result<(), layer::Error> {
        self.tar.append(entry, data)?;
        self.index(entry);
        if let Some(parts) = &mut self.parts {
            parts.push(self.tar.position()).map_err(not_noted)?;
        }
        Ok(())
    }

    fn has_earlier(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.has_earlier())
    }

    fn find(&self, entry: &Entry, content: Option<&ContentDigest>) -> Option<Place> {
        self.parts.as_ref()?.find(entry, content)
    }

    fn append_from(&mut self, entry: &Entry, place: Place) -> Result<(), layer::Error> {
        let parts = self.parts.as_mut().expect("it was found there");
        self.tar.append_stretch(parts.stretch(place))?;
        parts.push_found(place, self.tar.position()).map_err(not_noted)?;
        self.index(entry);
        Ok(())
    }

    fn note(&mut self, entry: &Entry, content: Option<&ContentDigest>) {
        if let Some(parts) = &mut self.parts {
            parts.note(entry, content);
        }
    }
}

/// What cannot be written beside the tar cannot be written.
fn not_noted(error: Error) -> layer::Error {
    layer::Error::Write { source: io::Error::other(error) }
}

/// Passes on what is read, and writes it too.
struct Tee<'a, R> {
    input: R,
    out: &'a mut TarFile,
}

impl<R: io::Read> io::Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        let written = self.out.write(&buffer[..read]);
        // The reader would take it for its own.
        written.map_err(|source| io::Error::other(layer::Error::Write { source }))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Kind;

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

    fn tar(entries: &[Entry]) -> Vec<u8> {
        let mut tar = LayerWriter::new(Vec::new());
        for entry in entries {
            let content = vec![b'x'; entry.size() as usize];
            tar.append(entry, content.as_slice()).expect("expressible");
        }
        tar.finish().expect("a vector takes everything")
    }

    /// Imports a root file system under both drivers.
    #[track_caller]
    fn import(tar: &[u8], expected: Result<(), &str>) {
        for driver in [Driver::Dir, Driver::Erofs] {
            let dir = tempfile::tempdir().expect("tempdir");
            let store = Store::open(dir.path()).expect("open");
            store.set_driver(driver);
            let imported = store.draft_layer().expect("draft").commit_root(tar);
            match (imported, expected) {
                (Ok(layer), Ok(())) => {
                    let lower = store.lower(&[layer.diff_id]).expect("can be mounted");
                    assert_eq!(lower.len(), 2, "{driver}");
                }
                (Err(error), Err(expected)) => {
                    assert_eq!(whole(&error), expected, "{driver}");
                    assert_eq!(fs::read_dir(dir.path().join("layers")).expect("list").count(), 0);
                }
                (imported, _) => panic!("{driver}: {imported:?}, not {expected:?}"),
            }
        }
    }

    fn whole(error: &dyn std::error::Error) -> String {
        match error.source() {
            Some(source) => format!("{error}: {}", whole(source)),
            None => error.to_string(),
        }
    }

    #[test]
    fn a_root_that_is_imported_can_be_mounted_and_what_cannot_be_is_named() {
        let file = |path: &str| Entry::new(path, Kind::File { size: 1 }, 0o644);
        let directory = |path: &str| Entry::new(path, Kind::Directory, 0o755);
        let link = |path: &str, to: &str| Entry::new(path, Kind::Symlink(to.into()), 0o777);
        let hard = |path: &str, to: &str| Entry::new(path, Kind::Hardlink(to.into()), 0o644);
        let long = |length: usize| "n".repeat(length);
        let owned = |uid| Entry { uid, ..file("f") };
        let too_long = |path: &str| {
            format!(
                "layer cannot be imported: cannot create \"{path}\": File name too long (os error 36)"
            )
        };
        for (entries, expected) in [
            (vec![directory("tmp"), link("l", "/tmp"), file("l/f")], Ok(())),
            (
                vec![link("l", "/tmp"), file("l/f")],
                Err("the archive's entry \"l/f\" cannot be part of an image: cannot create the directory \"l\": Not a directory (os error 20)".to_owned()),
            ),
            (
                vec![link("l", "l"), file("l/f")],
                Err("the archive's entry \"l/f\" cannot be part of an image: cannot open the directory \"l\": Too many levels of symbolic links (os error 40)".to_owned()),
            ),
            (vec![file("a"), hard("b", "a")], Ok(())),
            (
                vec![hard("b", "a")],
                Err("layer cannot be imported: \"b\" is a hard link to \"a\", which does not exist".to_owned()),
            ),
            (vec![owned(u64::from(u32::MAX) - 1)], Ok(())),
            (
                vec![owned(u32::MAX.into())],
                Err("layer cannot be imported: the archive's entry \"f\" has an invalid uid".to_owned()),
            ),
            (vec![file(&long(255))], Ok(())),
            (vec![file(&long(256))], Err(too_long(&long(256)))),
            (vec![link("l", &long(4095))], Ok(())),
            (vec![link("l", &long(4096))], Err(too_long("l"))),
            (vec![], Err("the archive holds no files".to_owned())),
        ] {
            import(&tar(&entries), expected.as_ref().map(|_| ()).map_err(String::as_str));
        }
    }

    /// A file with holes, so long and so finely cut that an index of it would be too large.
    #[test]
    fn a_root_that_no_index_can_express_is_unpacked() {
        let mut tar = tar(&[Entry::new("f", Kind::File { size: 512 }, 0o644)]);
        let header = &mut tar[..512];
        header[156] = b'S';
        header[257..265].copy_from_slice(b"ustar  \0");
        header[345..].fill(0);
        for (at, number) in [(386, 512), (398, 512), (483, 2_200_000_000_u64)] {
            header[at..at + 12].copy_from_slice(format!("{number:011o}\0").as_bytes());
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        import(&tar, Ok(()));
    }

    #[test]
    fn a_full_disk_is_not_taken_for_a_bad_archive() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let full =
            || fs::File::options().write(true).open("/dev/full").expect("open").into_parts().0;
        let tar = tar(&[Entry::new("f", Kind::File { size: 1 }, 0o644)]);
        let mut out = Pipeline::new(full(), Digesting::new());
        let mut archive = layer::reader::entries(Tee { input: tar.as_slice(), out: &mut out });
        let error = not_imported(archive.next_entry().map(drop).expect_err("full"));
        let error = store.draft_layer().expect("draft").unwritten(error);
        let text = whole(&error);
        assert!(text.starts_with("the store's disk is full: free some of it"), "{text}");
        assert!(text.ends_with("layer.tar`: No space left on device (os error 28)"), "{text}");
    }
}
