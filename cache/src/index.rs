//! Indexes: what makes a file system of a layer's tar without unpacking it.
//!
//! `layers/<hex>/index.erofs` is an EROFS file system over `layer.tar`; `chain-<chain>.erofs` is
//! one over the tars of a layer and of all those below it. Both are derived and disposable. Behind
//! the file system an index has a seal: its own digest, and the length and the time of every tar it
//! was made of. An index whose seal does not fit the tars is not mounted; the tars are digested and
//! it is made anew. So a tar that was cut or written to is found when it is used, at the price of
//! a few calls; a bit that the disk lost is found by a check of the store.
//!
//! A small index is digested each time it is used, which takes less than to wait for the disk when
//! it is made: what a loss of power leaves of it is told from the whole by that. A big one is synced.
//!
//! Knows nothing of overlay, nor of how an index is mounted.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::digest::{Digest, DigestWriter};
use crate::erofs::{self, Builder};
use crate::error::{Error, Result};
use crate::layer::reader;
use crate::lower::{Lower, Mark};
use crate::regular;
use crate::store::Store;

/// Its name in a layer's directory.
pub(crate) const INDEX: &str = "index.erofs";

/// Ends a seal; the last digit is the version of the encoder, whose change makes all indexes anew.
const MAGIC: &[u8; 8] = b"rbuild-1";

/// Bytes of a file system that are digested faster than they are synced.
const SMALL: u64 = 32 << 10;

/// Big enough that a read costs little beside the copying.
const BUFFER: usize = 1 << 18;

/// Bytes of a seal beside its tars, and of each tar in it.
const FIXED: usize = 32 + 4 + MAGIC.len();
const PER_TAR: usize = 8 + 8 + 4;

/// What an index was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seal {
    /// Of the file system.
    digest: Digest,
    /// Its tars' lengths and modification times, in the order of its devices.
    tars: Vec<(u64, i64, u32)>,
}

impl Seal {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.digest.bytes().to_vec();
        for (length, seconds, nanoseconds) in &self.tars {
            bytes.extend(length.to_le_bytes());
            bytes.extend(seconds.to_le_bytes());
            bytes.extend(nanoseconds.to_le_bytes());
        }
        let count = u32::try_from(self.tars.len()).expect("the format has fewer devices");
        bytes.extend(count.to_le_bytes());
        bytes.extend(MAGIC);
        bytes
    }

    /// Reads the seal behind an index, and returns the length of the file system too; nothing if
    /// there is no whole one.
    fn read(file: &File) -> io::Result<Option<(Self, u64)>> {
        let end = file.metadata()?.len();
        let mut tail = [0; 4 + MAGIC.len()];
        let Some(at) = end.checked_sub(tail.len() as u64) else { return Ok(None) };
        file.read_exact_at(&mut tail, at)?;
        let (count, magic) = tail.split_first_chunk().expect("as long as that");
        let count = u32::from_le_bytes(*count) as usize;
        let length = FIXED + count.min(u16::MAX.into()) * PER_TAR;
        let Some(start) = end.checked_sub(length as u64).filter(|_| magic == MAGIC) else {
            return Ok(None);
        };
        let mut bytes = vec![0; length - tail.len()];
        file.read_exact_at(&mut bytes, start)?;
        let (digest, tars) = bytes.split_first_chunk().expect("as long as that");
        let (tars, _) = tars.as_chunks::<PER_TAR>();
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let tar = |bytes: &[u8; PER_TAR]| {
            let nanoseconds = u32::from_le_bytes(bytes[16..].try_into().expect("four bytes"));
            (number(&bytes[..8]), number(&bytes[8..16]).cast_signed(), nanoseconds)
        };
        let seal =
            Self { digest: Digest::from_bytes(*digest), tars: tars.iter().map(tar).collect() };
        Ok(Some((seal, start)))
    }
}

/// What a seal says of a tar.
fn identity(tar: &Metadata) -> (u64, i64, u32) {
    (tar.len(), tar.mtime(), u32::try_from(tar.mtime_nsec()).unwrap_or(0))
}

/// An index that is written, and may not be on the disk yet.
#[must_use]
pub(crate) enum WrittenIndex {
    /// There is none, or a small one, which is looked at before it is used.
    NeedsNoSync,
    NeedsSync(fs::File),
}

impl WrittenIndex {
    /// Waits until no loss of power can take anything of it.
    pub(crate) fn sync(&self) -> Result<()> {
        match self {
            Self::NeedsNoSync => Ok(()),
            Self::NeedsSync(file) => file.sync_all().map_err(Error::Io),
        }
    }
}

/// Writes the index of tars that `builder` has been told all entries of, sealed.
pub(crate) fn write(builder: Builder, tars: &[fs::File], path: &Path) -> Result<WrittenIndex> {
    let identified = |tar: &fs::File| Ok(identity(&tar.metadata()?));
    let tars = tars.iter().map(identified).collect::<io::Result<Vec<_>>>().map_err(Error::Io)?;
    let file = fs::File::create(path).map_err(Error::Io)?;
    let mut out = BufWriter::with_capacity(BUFFER, DigestWriter::new(file));
    let (size, ..) = tars.last().expect("an index has a tar");
    builder.finish(*size, &mut out).map_err(unexpected)?;
    let flushed = out.into_inner().map_err(|error| Error::Io(error.into_error()))?;
    let (mut file, digest) = flushed.finish();
    let length = file.stream_position().map_err(Error::Io)?;
    file.write_all(&Seal { digest, tars }.encode()).map_err(Error::Io)?;
    Ok(match length {
        0..=SMALL => WrittenIndex::NeedsNoSync,
        _ => WrittenIndex::NeedsSync(file),
    })
}

/// Writes the index of one tar, which is not in a store.
pub fn write_index(tar: &Path, path: &Path) -> Result<()> {
    let mut builder = Builder::new();
    let tar = fs::File::open(tar).map_err(Error::Io)?;
    add_entries(&mut builder, &tar).map_err(unexpected)?;
    write(builder, &[tar], path)?.sync()
}

/// Whether an index is the file system that was sealed, whatever it was made of; one that is not
/// there is not.
pub(crate) fn is_whole(index: &Path) -> Result<bool> {
    let Some(file) = regular::open(index)? else { return Ok(false) };
    let Some((seal, length)) = Seal::read(file.file()).map_err(Error::Io)? else {
        return Ok(false);
    };
    has_digest(&file, length, &seal.digest)
}

/// Whether the file system at the beginning of an index is the one that was sealed.
fn has_digest(mut index: &fs::File, length: u64, digest: &Digest) -> Result<bool> {
    index.seek(SeekFrom::Start(0)).map_err(Error::Io)?;
    let (found, _) = Digest::of_reader(io::Read::take(index, length)).map_err(Error::Io)?;
    Ok(found == *digest)
}

/// What the entries that a builder was told say of the layer.
pub(crate) fn marks(builder: &Builder) -> Vec<Mark> {
    let opaque = builder.opaque_root().then_some(Mark::Opaque);
    let dependent = builder.implies_directories().then_some(Mark::Dependent);
    opaque.into_iter().chain(dependent).collect()
}

/// Tells a builder the entries of a tar.
fn add_entries(builder: &mut Builder, tar: &fs::File) -> std::result::Result<(), erofs::Error> {
    let mut entries = reader::entries_seeking(BufReader::with_capacity(BUFFER, tar));
    while let Some((entry, data)) = entries.next_entry()? {
        builder.add(&entry, data.content())?;
    }
    Ok(())
}

fn unexpected(source: erofs::Error) -> Error {
    match source {
        erofs::Error::Layer(source) => {
            Error::Layer { what: "cannot be indexed".to_owned(), source: Box::new(source) }
        }
        source => Error::Index { source: Box::new(source) },
    }
}

impl Store {
    /// Returns one layer by its index, which is made when it is needed; nothing if the layer has
    /// been unpacked instead, or must be.
    pub(crate) fn layer_index(&self, diff_id: &Digest) -> Result<Option<Lower>> {
        let index = self.layer_dir(diff_id).join(INDEX);
        let chain = std::slice::from_ref(diff_id);
        if !self.is_sealed(&index, chain)? {
            let unpacked = self.layer_dir(diff_id).join("tree").is_dir();
            if unpacked || !self.make_index(chain, Builder::new(), &index)? {
                return Ok(None);
            }
        }
        Ok(Some(Lower::Erofs { index, devices: vec![self.layer_tar(diff_id)] }))
    }

    /// Returns a layer and all those below it by one index, which is made when it is needed;
    /// nothing if no index can express them.
    pub(crate) fn chain_index(&self, diff_ids: &[Digest]) -> Result<Option<Lower>> {
        let index = self.chain_path(diff_ids, "chain").with_extension("erofs");
        if !self.is_sealed(&index, diff_ids)?
            && !self.make_index(diff_ids, Builder::merged(), &index)?
        {
            return Ok(None);
        }
        let devices = diff_ids.iter().map(|diff_id| self.layer_tar(diff_id)).collect();
        Ok(Some(Lower::Erofs { index, devices }))
    }

    /// Whether a layer is there for all, with an index that was made of it as it is. It stays there as
    /// long as this store is open.
    pub(crate) fn has_sealed_layer(&self, diff_id: &Digest) -> Result<bool> {
        self.pin(&[*diff_id])?;
        let dir = self.published_dir(diff_id);
        match is_sealed_over(&dir.join(INDEX), &[(*diff_id, dir.join("layer.tar"))]) {
            // An index without its tar: the layer is to be made again.
            Err(Error::Missing { .. }) => Ok(false),
            sealed => sealed,
        }
    }

    /// Whether an index is there, and its tars are what they were when it was made.
    fn is_sealed(&self, index: &Path, diff_ids: &[Digest]) -> Result<bool> {
        let tars: Vec<_> = diff_ids.iter().map(|id| (*id, self.layer_tar(id))).collect();
        is_sealed_over(index, &tars)
    }

    /// Whether an index is whole, but of tars that have been written anew since: it is made again
    /// when it is needed.
    pub(crate) fn is_outdated(&self, index: &Path, diff_ids: &[Digest]) -> Result<bool> {
        Ok(is_whole(index)? && !self.is_sealed(index, diff_ids)?)
    }

    /// Makes an index of tars that have their digests; answers whether there can be one.
    fn make_index(&self, diff_ids: &[Digest], mut builder: Builder, path: &Path) -> Result<bool> {
        let mut tars = Vec::with_capacity(diff_ids.len());
        for diff_id in diff_ids {
            let tar = self.layer_tar(diff_id);
            let file = regular::open(&tar)?.ok_or(Error::Missing { digest: *diff_id })?;
            // Of a layer with an index of its own it is known.
            let own = self.layer_dir(diff_id).join(INDEX);
            if own == path || !self.is_sealed(&own, std::slice::from_ref(diff_id))? {
                verify(&file, &tar, diff_id)?;
            }
            if let Some(below) = tars.last() {
                builder.next_layer(length(below)?).map_err(unexpected)?;
            }
            builder.set_tag(diff_id.hex().as_bytes());
            match add_entries(&mut builder, &file) {
                Ok(()) => tars.push(file),
                Err(erofs::Error::Inexpressible { .. }) => return Ok(false),
                Err(error) => return Err(unexpected(error)),
            }
        }
        let marks = marks(&builder);
        let temp = self.scratch_dir()?.join(INDEX);
        write(builder, &tars, &temp)?.sync()?;
        if let [only] = diff_ids {
            marks.into_iter().try_for_each(|mark| self.mark(only, mark))?;
        }
        self.publish(&temp, path)?;
        Ok(true)
    }
}

/// Whether an index is there, and these tars are what they were when it was made.
fn is_sealed_over(index: &Path, tars: &[(Digest, PathBuf)]) -> Result<bool> {
    let Some(file) = regular::open(index)? else { return Ok(false) };
    let Some((seal, length)) = Seal::read(file.file()).map_err(Error::Io)? else {
        return Ok(false);
    };
    if seal.tars.len() != tars.len() {
        return Ok(false);
    }
    if length <= SMALL && !has_digest(&file, length, &seal.digest)? {
        return Ok(false);
    }
    for ((diff_id, tar), sealed) in tars.iter().zip(seal.tars) {
        let found = fs::metadata(tar).map_err(|error| missing(error, diff_id))?;
        if identity(&found) != sealed {
            return Ok(false);
        }
    }
    Ok(true)
}

fn missing(error: io::Error, diff_id: &Digest) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::Missing { digest: *diff_id },
        _ => Error::Io(error),
    }
}

fn length(tar: &fs::File) -> Result<u64> {
    tar.metadata().map(|metadata| metadata.len()).map_err(Error::Io)
}

/// Refuses a tar that does not have its digest.
fn verify(mut tar: &fs::File, path: &Path, diff_id: &Digest) -> Result<()> {
    let (found, _) = Digest::of_reader(tar).map_err(Error::Io)?;
    if found != *diff_id {
        return Err(Error::Corrupt { path: path.to_owned(), expected: *diff_id, found });
    }
    tar.seek(SeekFrom::Start(0)).map(drop).map_err(Error::Io)
}
