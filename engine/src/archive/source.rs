//! Where images are read from: a tar that can be read at any place, one that comes as a stream, or
//! a directory.
//!
//! A file is listed first, and then only what is needed is read: layers that the store has already
//! are not. A stream cannot be read twice: its layers go into the store while they pass (see
//! `stream`). Knows nothing of what the documents say.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cache::Store;
use cache::compress::{Compression, decompress};
use cache::digest::Digest;
use cache::layer::{Kind, reader};

use super::members::{From, Member, Members};
use super::{Error, stream};

/// No document of an image is longer.
pub(super) const LONGEST_DOCUMENT: u64 = 16 << 20;

/// Images that can be read.
#[derive(Debug)]
pub struct Source(Kept);

#[derive(Debug)]
enum Kept {
    File { file: File, members: Members },
    Stream { members: Members },
    Directory(PathBuf),
}

impl Source {
    /// Reads what a tar holds, plain or compressed. Layers may get into the store while this is
    /// done; nothing refers to them yet.
    pub fn open(store: &Store, mut file: File) -> Result<Self, Error> {
        let seekable = file.metadata().map_err(Error::Read)?.is_file();
        if !seekable {
            let members = stream::read(store, file)?;
            return Ok(Self(Kept::Stream { members }));
        }
        let begin = file.stream_position().map_err(Error::Read)?;
        let listed = match starts_plain(&file, begin)? {
            true => list(&file, begin)?,
            false => None,
        };
        if let Some(members) = listed {
            return Ok(Self(Kept::File { file, members }));
        }
        file.seek(io::SeekFrom::Start(begin)).map_err(Error::Read)?;
        let members = stream::read(store, file)?;
        Ok(Self(Kept::Stream { members }))
    }

    /// Reads an OCI image layout in a directory.
    pub fn directory(dir: &Path) -> Self {
        Self(Kept::Directory(dir.to_owned()))
    }

    /// Reads a document; `None` when there is none of the name.
    pub(super) fn document(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let too_long = || Error::document(name, "it is too long for a document");
        let members = match &self.0 {
            Kept::Directory(dir) => return read_file(&dir.join(name), name),
            Kept::File { members, .. } | Kept::Stream { members } => members,
        };
        match (members.find(name)?, &self.0) {
            (None, _) => Ok(None),
            (Some(Member::Document(bytes)), _) => Ok(Some(bytes.clone())),
            (Some(Member::At { offset, size }), Kept::File { file, .. }) => {
                if *size > LONGEST_DOCUMENT {
                    return Err(too_long());
                }
                let mut bytes = vec![0; usize::try_from(*size).map_err(|_| too_long())?];
                file.read_exact_at(&mut bytes, *offset).map_err(Error::Read)?;
                Ok(Some(bytes))
            }
            (Some(Member::Layer(_) | Member::NoLayer(_)), _) => {
                Err(Error::document(name, "it is no document"))
            }
            _ => Err(Error::document(name, "it is no JSON, or too long for a document")),
        }
    }

    /// Whether there is something of the name, whatever it is.
    pub(super) fn has(&self, name: &str) -> Result<bool, Error> {
        match &self.0 {
            Kept::Directory(dir) => Ok(dir.join(name).exists()),
            Kept::File { members, .. } | Kept::Stream { members } => {
                Ok(members.find(name)?.is_some())
            }
        }
    }

    /// Reads a document that has to be there.
    pub(super) fn needed(&self, name: &str) -> Result<Vec<u8>, Error> {
        self.document(name)?.ok_or_else(|| Error::missing(name))
    }

    /// Reads a document by its digest, and checks it.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let member = blob_name(digest);
        let bytes = self.needed(&member)?;
        check(&member, digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    /// Sees to it that a layer is in the store: the member of this name, unless the store has it.
    pub(super) fn bring_layer(
        &self,
        store: &Store,
        member: &str,
        diff_id: &Digest,
    ) -> Result<(), Error> {
        let missing = || Error::missing(member);
        match &self.0 {
            Kept::Stream { members } => match members.find(member)? {
                Some(Member::Layer(layer)) => check(member, diff_id, layer.diff_id),
                Some(Member::NoLayer(why)) => Err(Error::document(member, &stream::whole(why))),
                Some(_) => Err(Error::document(member, "it is no layer")),
                None => Err(missing()),
            },
            Kept::File { file, members } => {
                let found = members.find(member)?.ok_or_else(missing)?;
                let Member::At { offset, size } = found else {
                    return Err(missing());
                };
                let part = Part { file, at: *offset, end: offset + size };
                import(store, part, member, diff_id)
            }
            Kept::Directory(dir) => {
                let file = match fs_err::File::open(dir.join(member)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
                    file => file.map_err(Error::Read)?,
                };
                import(store, file, member, diff_id)
            }
        }
    }
}

/// What a blob is called in an image layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Refuses a member with another digest than it should have.
pub(super) fn check(member: &str, expected: &Digest, found: Digest) -> Result<(), Error> {
    if found == *expected {
        return Ok(());
    }
    Err(Error::Corrupt { member: member.to_owned(), expected: *expected, found })
}

/// Brings a layer into the store, if it is the one.
fn import(
    store: &Store,
    input: impl Read + Send,
    member: &str,
    diff_id: &Digest,
) -> Result<(), Error> {
    if store.layer(diff_id)?.is_some() {
        return Ok(());
    }
    let (plain, _) = decompress(input).map_err(Error::Read)?;
    let made = store.draft_layer()?.commit_copy(plain, Path::new(member), diff_id);
    match made {
        Ok(_) => Ok(()),
        Err(cache::Error::Corrupt { found, .. }) => check(member, diff_id, found),
        Err(source @ cache::Error::Layer { .. }) => {
            Err(Error::Layer { member: member.to_owned(), source })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether what begins here is not compressed.
fn starts_plain(file: &File, begin: u64) -> Result<bool, Error> {
    let mut start = [0; Compression::LONGEST_MAGIC];
    let mut part = Part { file, at: begin, end: begin + start.len() as u64 };
    let mut filled = 0;
    while filled < start.len() {
        match part.read(&mut start[filled..]).map_err(Error::Read)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(Compression::detect(&start[..filled]) == Compression::None)
}

/// Lists a tar without reading what its files hold; nothing if one of them is not stored whole.
fn list(file: &File, begin: u64) -> Result<Option<Members>, Error> {
    let mut members = Members::default();
    let mut entries = reader::entries_seeking(BufReader::new(file));
    while let Some((entry, data)) = entries.next_entry().map_err(Error::Tar)? {
        let member = match entry.kind {
            Kind::File { size } => match data.position() {
                Some(position) => Member::At { offset: begin + position, size },
                None => return Ok(None),
            },
            kind => match link(kind) {
                Some(link) => link,
                None => continue,
            },
        };
        members.add(entry.path, member)?;
    }
    Ok(Some(members))
}

/// The link that an entry is, if it is one.
pub(super) fn link(kind: Kind) -> Option<Member> {
    match kind {
        Kind::Hardlink(target) => Some(Member::Link { target, from: From::Root }),
        Kind::Symlink(target) => {
            let from = if target.starts_with(b"/") { From::Root } else { From::Here };
            Some(Member::Link { target, from })
        }
        _ => None,
    }
}

/// A document that is a file of its own.
fn read_file(path: &Path, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let file = match fs_err::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Error::Read)?,
    };
    let mut bytes = Vec::new();
    file.take(LONGEST_DOCUMENT + 1).read_to_end(&mut bytes).map_err(Error::Read)?;
    if bytes.len() as u64 > LONGEST_DOCUMENT {
        return Err(Error::document(name, "it is too long for a document"));
    }
    Ok(Some(bytes))
}

/// A part of a file; several may be read at once.
struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
