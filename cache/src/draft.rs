//! Layers in the making.
//!
//! ```text
//! draft     a scratch directory that is written to: a tar's entries, an archive from elsewhere, or
//!           what a container does
//! written   its tar is whole and has a digest; what it is mounted by was thought of on the way
//! offered   its index is there too, and this process can use it; the disk has not got all of it
//! committed it is `layers/<hex>`, for everybody, and survives a loss of power
//! ```
//!
//! What is written can be committed without being offered. Knows nothing of images or of what a layer
//! is made of.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;

use crate::content::ContentDigest;
use crate::digest::Digest;
use crate::erofs::{self, Builder, Content};
use crate::error::{Error, Result};
use crate::index::{self, INDEX, WrittenIndex};
use crate::layer::unpack::{Form, unpack_layer};
use crate::layer::writer::{Append, LayerWriter, Place};
use crate::layer::{self, Entry, Timestamp, pack};
use crate::layers::Layer;
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

/// A layer in the making: a scratch directory that becomes `layers/<hex>` by one rename. If it is offered
/// before, a directory with the same files does.
pub struct Draft<'store> {
    store: &'store Store,
    dir: PathBuf,
}

/// A layer that is written and not in the store yet.
#[must_use]
pub struct Written<'store> {
    draft: Draft<'store>,
    layer: Layer,
    tar: File,
    index: Indexing,
    /// Whether the store had the same layer already, as it was when its index was made.
    is_known: bool,
}

/// How far the index of a written layer is.
enum Indexing {
    /// It is thought of, which takes memory by the entry.
    Told(Box<Index>),
    Written(WrittenIndex),
}

impl Indexing {
    /// Whether the layer is to have none.
    fn is_none(&self) -> bool {
        matches!(self, Self::Told(index) if index.0.is_none())
    }

    fn write(self, draft: &Draft<'_>, layer: &Layer) -> Result<WrittenIndex> {
        match self {
            Self::Told(index) => index.write(&draft.dir, &layer.diff_id),
            Self::Written(index) => Ok(index),
        }
    }
}

impl<'store> Written<'store> {
    /// The layer.
    pub fn layer(&self) -> Layer {
        self.layer
    }

    /// Puts it into the store.
    pub fn commit(self) -> Result<Layer> {
        let Self { draft, layer, tar, index, is_known } = self;
        if is_known {
            // Who closes it last waits until its room is given back.
            drop(tar);
            draft.discard()?;
        } else {
            draft.sync(&tar, || index.write(&draft, &layer)?.sync())?;
            draft.publish(&layer, &draft.dir)?;
        }
        Ok(layer)
    }

    /// Lets this process use it from now on. It is in the store when it is committed, which may take
    /// the disk a while.
    pub fn offer(self) -> Result<Offered<'store>> {
        let layer = self.layer;
        // What has no index is unpacked in the place where it is to stay.
        if self.is_known || self.index.is_none() {
            self.commit()?;
            return Ok(Offered { layer, uncommitted: None });
        }
        let Self { draft, tar, index, .. } = self;
        let index = index.write(&draft, &layer)?;
        draft.store.offer(&layer.diff_id, &draft.dir)?;
        Ok(Offered { layer, uncommitted: Some(Uncommitted { draft, layer, tar, index }) })
    }

    /// The same with its index written, for who does not put it into the store at once.
    fn indexed(mut self) -> Result<Self> {
        if !self.is_known && !self.index.is_none() {
            self.index = Indexing::Written(self.index.write(&self.draft, &self.layer)?);
        }
        Ok(self)
    }

    /// Removes what was written.
    pub fn discard(self) -> Result<()> {
        drop(self.tar);
        self.draft.discard()
    }
}

/// A layer that this process can use, and others cannot yet.
#[must_use]
pub struct Offered<'store> {
    layer: Layer,
    uncommitted: Option<Uncommitted<'store>>,
}

struct Uncommitted<'store> {
    draft: Draft<'store>,
    layer: Layer,
    tar: File,
    index: WrittenIndex,
}

/// It is found where it is published, or nowhere. Who was told before finds it as long as the process
/// lives.
impl Drop for Uncommitted<'_> {
    fn drop(&mut self) {
        self.draft.store.take_back(&self.layer.diff_id, &self.draft.dir);
    }
}

impl Offered<'_> {
    /// The layer.
    pub fn layer(&self) -> Layer {
        self.layer
    }

    /// Puts it into the store.
    pub fn commit(self) -> Result<()> {
        let Some(Uncommitted { draft, layer, tar, index }) = &self.uncommitted else {
            return Ok(());
        };
        draft.sync(tar, || index.sync())?;
        if !draft.store.has_sealed_layer(&layer.diff_id)? {
            draft.publish(layer, &draft.linked()?)?;
        }
        Ok(())
    }
}

impl Store {
    /// Starts a layer.
    pub fn draft_layer(&self) -> Result<Draft<'_>> {
        Ok(Draft { store: self, dir: self.scratch_dir()? })
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

    /// Packs what was written to the upper directory. Times later than `clamp` are lowered to it.
    pub fn write_upper(self, clamp: Option<Timestamp>) -> Result<Written<'store>> {
        let upper = self.upper();
        let dir = fs::File::open(&upper).map_err(Error::Io)?;
        let (layer, tar, index) = self.write_entries(None, |out| {
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
        self.written(layer, tar, index)
    }

    fn written(self, layer: Layer, tar: File, index: Index) -> Result<Written<'store>> {
        let is_known = index.0.is_some() && self.store.has_sealed_layer(&layer.diff_id)?;
        let index = Box::new(if is_known { Index(None) } else { index });
        Ok(Written { draft: self, layer, tar, index: Indexing::Told(index), is_known })
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
        let (layer, tar, index) = self.write_entries(None, write)?;
        self.written(layer, tar, index)
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
        let (layer, tar, index) = written?;
        self.written(layer, tar, index)?.indexed()
    }

    /// Commits a layer that changes nothing.
    pub fn commit_empty(self) -> Result<Layer> {
        self.commit_tar(|_| Ok(()))
    }

    /// Commits a tar from elsewhere byte by byte; one that is no tar is refused. Whether it can be
    /// mounted depends on the layers it lies on.
    pub fn commit_import(self, input: impl io::Read) -> Result<Layer> {
        let import = self.write_import(input, Height::Any)?;
        self.written(import.layer()?, import.tar, import.index)?.commit()
    }

    /// Commits the tar of a root file system, which lies on nothing; one that could not be mounted
    /// is refused.
    pub fn commit_root(self, input: impl io::Read) -> Result<Layer> {
        let import = self.write_import(input, Height::Lowest)?;
        let layer = import.layer()?;
        // Only who is root can mount, and only root can unpack.
        if import.index.0.is_none() && rustix::process::geteuid().is_root() {
            self.unpack()?;
        }
        self.written(layer, import.tar, import.index)?.commit()
    }

    /// Commits a layer from elsewhere; one that does not have this diff id, or is no tar, is
    /// refused. `path` is where it comes from, for errors.
    pub fn commit_copy(self, input: impl io::Read, path: &Path, diff_id: &Digest) -> Result<Layer> {
        let Import { layer, tar, index, .. } = self.write_import(input, Height::Any)?;
        if layer.diff_id != *diff_id {
            let (path, expected, found) = (path.to_owned(), *diff_id, layer.diff_id);
            return Err(Error::Corrupt { path, expected, found });
        }
        self.written(layer, tar, index)?.commit()
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
        Ok(Import { layer, tar: tar.file, index, entries })
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
    ) -> Result<(Layer, File, Index)> {
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
        Ok((layer, tar.file, index))
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

    /// Syncs the tar while its index is seen to.
    fn sync(&self, tar: &File, index: impl FnOnce() -> Result<()>) -> Result<()> {
        let synced = |result: io::Result<()>| result.map_err(|error| self.not_written(&error));
        if tar.metadata().map_err(Error::Io)?.len() < WORTH_A_THREAD {
            synced(tar.sync_all())?;
            return index();
        }
        std::thread::scope(|scope| {
            let syncing = scope.spawn(|| tar.sync_all());
            let done = index();
            synced(syncing.join().expect("syncing does not panic"))?;
            done
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

    /// Its files once more, in a directory that can be moved while somebody uses the draft. What has
    /// been unpacked there meanwhile is derived, and stays behind.
    fn linked(&self) -> Result<PathBuf> {
        let links = self.store.scratch_dir()?;
        for entry in fs::read_dir(&self.dir).map_err(Error::Io)? {
            let entry = entry.map_err(Error::Io)?;
            if !entry.file_type().map_err(Error::Io)?.is_file() {
                continue;
            }
            fs::hard_link(entry.path(), links.join(entry.file_name())).map_err(Error::Io)?;
        }
        Ok(links)
    }

    /// Makes `dir`, which has the layer's files, the layer.
    fn publish(&self, layer: &Layer, dir: &Path) -> Result<()> {
        self.store.pin(&[layer.diff_id])?;
        let target = self.store.published_dir(&layer.diff_id);
        match self.store.publish(dir, &target) {
            Ok(()) => Ok(()),
            // The layer is there, or what is left of it: a tar in its place is the repair.
            Err(Error::Io(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                self.store.publish(&dir.join("layer.tar"), &target.join("layer.tar"))?;
                remove_dir_all(dir).map_err(Error::Io)
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
    tar: File,
    index: Index,
    entries: usize,
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

    fn write(self, dir: &Path, diff_id: &Digest) -> Result<WrittenIndex> {
        let Some(mut builder) = self.0 else { return Ok(WrittenIndex::NeedsNoSync) };
        builder.set_tag(diff_id.hex().as_bytes());
        for mark in index::marks(&builder) {
            set_mark(dir, mark)?;
        }
        let tar = fs::File::open(dir.join("layer.tar")).map_err(Error::Io)?;
        index::write(builder, &[tar], &dir.join(INDEX))
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
    use crate::lower::Lower;
    use std::os::unix::fs::MetadataExt;

    const FILE: &[u8] = b"one";

    fn write(store: &Store) -> Written<'_> {
        let file = Entry::new("file", Kind::File { size: FILE.len() as u64 }, 0o644);
        let written = store.draft_layer().expect("draft").write_tar(|out| {
            out.append(&file, &mut &*FILE).expect("append");
            Ok(())
        });
        written.expect("write")
    }

    fn stores(dir: &Path) -> [Store; 2] {
        [(); 2].map(|()| {
            let store = Store::open(dir).expect("open");
            store.set_driver(Driver::Erofs);
            store
        })
    }

    #[test]
    fn what_is_offered_is_used_at_once_and_is_everybodys_when_it_is_committed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let [store, other] = stores(dir.path());
        let offered = write(&store).offer().expect("offer");
        let layer = offered.layer();
        let paths = |store: &Store| match &store.lower(&[layer.diff_id]).expect("lower")[0] {
            Lower::Erofs { index, devices } => [index.clone(), devices[0].clone()],
            Lower::Directory(path) => panic!("{path:?} is unpacked"),
        };
        let offered_paths = paths(&store);
        assert_eq!(store.layer(&layer.diff_id).expect("look up"), Some(layer));
        assert_eq!(other.layer(&layer.diff_id).expect("look up"), None);
        assert!(other.lower(&[layer.diff_id]).is_err());

        offered.commit().expect("commit");
        for store in [&store, &other] {
            assert_eq!(store.layer(&layer.diff_id).expect("look up"), Some(layer));
            assert_eq!(paths(store), paths(&other));
        }
        assert_ne!(paths(&store), offered_paths);
        let inode = |path: &PathBuf| fs::metadata(path).map(|file| file.ino()).expect("stat");
        let inodes = |paths: [PathBuf; 2]| paths.map(|path| inode(&path));
        assert_eq!(inodes(offered_paths), inodes(paths(&other)), "who was told before finds it");

        drop(store);
        paths(&other);
        drop(other);
        assert_eq!(fs::read_dir(dir.path().join("tmp")).expect("list").count(), 0);
    }

    #[test]
    fn a_layer_that_is_offered_twice_is_committed_once() {
        for is_first_last in [false, true] {
            let dir = tempfile::tempdir().expect("tempdir");
            let [store, other] = stores(dir.path());
            let mut offered = [(); 2].map(|()| write(&store).offer().expect("offer"));
            if is_first_last {
                offered.reverse();
            }
            let diff_id = offered[0].layer().diff_id;
            let [one, two] = offered;
            one.commit().expect("commit");
            let inode = || fs::metadata(other.layer_tar(&diff_id)).expect("stat").ino();
            let first = inode();
            two.commit().expect("commit");
            assert_eq!(inode(), first);
            assert!(store.offered.lock().expect("free").is_empty());
            // Of a third one nobody needs anything.
            assert!(write(&store).offer().expect("offer").uncommitted.is_none());
            assert!(other.has_sealed_layer(&diff_id).expect("look"));
        }
    }

    #[test]
    fn nothing_is_left_of_what_was_offered_and_not_committed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let [store, other] = stores(dir.path());
        let offered = write(&store).offer().expect("offer");
        let layer = offered.layer();
        drop(offered);
        assert_eq!(store.layer(&layer.diff_id).expect("look up"), None);
        drop((store, other));
        for place in ["tmp", "layers"] {
            assert_eq!(fs::read_dir(dir.path().join(place)).expect("list").count(), 0, "{place}");
        }
    }

    #[test]
    fn what_was_unpacked_meanwhile_keeps_no_layer_from_being_committed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let [store, other] = stores(dir.path());
        let offered = write(&store).offer().expect("offer");
        let diff_id = offered.layer().diff_id;
        let tree = store.flat_tree(&[diff_id]).expect("unpack");
        offered.commit().expect("commit");
        assert_eq!(fs::read(tree.join("file")).expect("read"), FILE);
        let again = other.flat_tree(&[diff_id]).expect("unpack");
        assert_eq!(fs::read(again.join("file")).expect("read"), FILE);
    }

    #[test]
    fn what_has_no_index_is_committed_when_it_is_offered() {
        let dir = tempfile::tempdir().expect("tempdir");
        let [store, other] = [(); 2].map(|()| Store::open(dir.path()).expect("open"));
        let offered = write(&store).offer().expect("offer");
        let layer = offered.layer();
        assert_eq!(other.layer(&layer.diff_id).expect("look up"), Some(layer));
        offered.commit().expect("there is nothing to do");
    }

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
