//! Digests of a tree's files: read from what is known of them, or from the files, and remembered.
//!
//! Does not know which files are wanted, nor what their digests are for.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::RwLock;

use cache::content::{ContentDigest, ContentHasher};
use cache::context::{ContextIndex, Stat};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use rustix::fs::{FileType, OFlags};

use super::{Entry, Error, FEW, Owners, Tree};
use crate::view::{Metadata, xattrs};

/// Bytes that are read at once for a digest: most files in one go.
const READ: usize = 64 << 10;

/// What a program that is executed may do though its user may not (capabilities(7)).
const CAPABILITY: &[u8] = b"security.capability";

impl Tree {
    /// Whether there is anything to write back.
    pub fn has_learnt(&self) -> bool {
        let learnt =
            |index: &RwLock<ContextIndex>| index.read().expect("no holder panics").has_learnt();
        self.index.as_ref().is_some_and(learnt)
    }

    /// Writes back what was learnt of the files.
    pub fn save_index(&self, store: &cache::Store) -> cache::Result<()> {
        match &self.index {
            Some(index) => index.write().expect("no holder panics").save(store),
            None => Ok(()),
        }
    }

    /// The digests of the regular files among `entries`, by their place. A file with extended
    /// attributes has a digest of both.
    pub fn digests(&self, entries: &[Entry<'_>]) -> Result<Vec<Option<ContentDigest>>, Error> {
        let mut digests: Vec<Option<ContentDigest>> = match &self.index {
            None => vec![None; entries.len()],
            Some(index) => {
                let index = index.read().expect("no holder panics");
                let known =
                    |entry: &Entry<'_>| index.get(&entry.path(), &index_stat(entry.metadata()));
                entries.iter().map(|entry| is_file(entry).then(|| known(entry)).flatten()).collect()
            }
        };
        let unknown: Vec<usize> = (0..entries.len())
            .filter(|at| is_file(&entries[*at]) && digests[*at].is_none())
            .collect();
        let buffer = || vec![0; READ];
        let compute = |buffer: &mut Vec<u8>, at: &usize| self.digest(&entries[*at], buffer);
        let computed: Vec<ContentDigest> = if unknown.len() < FEW {
            let mut buffer = if unknown.is_empty() { Vec::new() } else { buffer() };
            unknown.iter().map(|at| compute(&mut buffer, at)).collect::<Result<_, _>>()?
        } else {
            unknown.par_iter().map_init(buffer, compute).collect::<Result<_, _>>()?
        };
        if let (Some(index), false) = (&self.index, unknown.is_empty()) {
            let mut index = index.write().expect("no holder panics");
            for (at, digest) in unknown.iter().zip(&computed) {
                index.set(&entries[*at].path(), index_stat(entries[*at].metadata()), *digest);
            }
        }
        for (at, digest) in unknown.into_iter().zip(computed) {
            digests[at] = Some(digest);
        }
        Ok(digests)
    }

    /// Whether this is a tree that remembers its files' digests.
    pub(crate) fn remembers_digests(&self) -> bool {
        self.index.is_some()
    }

    /// The digest of a file that is as this tree remembers it.
    pub(crate) fn known_digest(&self, path: &[u8], metadata: &Metadata) -> Option<ContentDigest> {
        let index = self.index.as_ref()?.read().expect("no holder panics");
        index.get(path, &index_stat(metadata))
    }

    /// Remembers what was found in a file, and returns the digest of that. The metadata must have been
    /// taken before it was read.
    pub(crate) fn learn(
        &self,
        path: &[u8],
        metadata: &Metadata,
        content: ContentHasher,
        attributes: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> ContentDigest {
        let digest = with_attributes(content.finish(), attributes);
        if let Some(index) = &self.index {
            index.write().expect("no holder panics").set(path, index_stat(metadata), digest);
        }
        digest
    }

    /// The extended attributes of a file that a copy takes along. A file of a build context loses its
    /// capabilities, as on its way to docker's builder, which gives it to root after it was written.
    pub(crate) fn xattrs(&self, file: BorrowedFd<'_>) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut all = xattrs(file)?;
        if self.owners == Owners::Root {
            all.remove(CAPABILITY);
        }
        Ok(all)
    }

    fn digest(&self, entry: &Entry<'_>, buffer: &mut [u8]) -> Result<ContentDigest, Error> {
        let path = entry.path();
        let mut read = || -> io::Result<ContentDigest> {
            let file = self.view.open_at(&path, OFlags::RDONLY | OFlags::NONBLOCK)?;
            let attributes = self.xattrs(file.as_fd())?;
            let mut file = std::fs::File::from(file);
            let mut hasher = ContentHasher::new();
            let mut digested = 0;
            loop {
                match file.read(buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        hasher.update(&buffer[..count]);
                        digested += count as u64;
                        // A file that ends where it should is not asked once more.
                        if count < buffer.len() && digested == entry.metadata().size {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(with_attributes(hasher.finish(), &attributes))
        };
        read().map_err(|source| Error::read(&path, source))
    }
}

fn is_file(entry: &Entry<'_>) -> bool {
    entry.metadata().kind == FileType::RegularFile
}

fn index_stat(metadata: &Metadata) -> Stat {
    Stat {
        size: metadata.size,
        mtime: metadata.mtime.wrapping_nanoseconds(),
        ctime: metadata.ctime,
        inode: metadata.inode,
        device: u64::from(metadata.device.0) << 32 | u64::from(metadata.device.1),
    }
}

/// The digest of content with attributes; without any it is the content's own.
fn with_attributes(
    content: ContentDigest,
    attributes: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> ContentDigest {
    if attributes.is_empty() {
        return content;
    }
    let mut hasher = ContentHasher::new();
    hasher.update(content.bytes());
    update(&mut hasher, attributes);
    hasher.finish()
}

/// The digest of the attributes of a directory.
pub fn digest_of_attributes(attributes: &BTreeMap<Vec<u8>, Vec<u8>>) -> ContentDigest {
    let mut hasher = ContentHasher::new();
    update(&mut hasher, attributes);
    hasher.finish()
}

fn update(hasher: &mut ContentHasher, attributes: &BTreeMap<Vec<u8>, Vec<u8>>) {
    for (name, value) in attributes {
        for part in [name, value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
}
