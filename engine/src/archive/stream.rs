//! An archive that can be read only once: from a pipe, or compressed.
//!
//! Its lists may stand at its end, so everything that may be a layer goes into the store at once,
//! under the diff id it turns out to have, and everything that may be a document is kept. What is
//! then named by no image of the archive is left to the next prune. What is kept at a time does not
//! grow with the layers.

use std::error::Error as _;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use cache::Store;
use cache::compress::{self, Compression, decompress};
use cache::digest::Digest;
use cache::layer::{Kind, reader};
use cache::layers::Layer;

use super::Error;
use super::members::{Member, Members};
use super::source::{LONGEST_DOCUMENT, link};

/// Documents kept, all together.
const MOST_KEPT: usize = 64 << 20;

/// A tar without entries is zeros, and not many.
const LONGEST_EMPTY: u64 = 1 << 20;

/// The size of a tar's header, by which it is told from other files.
const HEADER: usize = 512;

/// Big enough that a read costs little beside the copying.
const BUFFER: usize = 1 << 18;

/// Reads an archive to its end.
pub(super) fn read(store: &Store, file: File) -> Result<Members, Error> {
    let (plain, _) = decompress(file).map_err(Error::Read)?;
    let mut entries = reader::entries(std::io::BufReader::with_capacity(BUFFER, plain));
    let mut members = Members::default();
    let mut kept = 0;
    while let Some((entry, mut data)) = entries.next_entry().map_err(Error::Tar)? {
        let member = match entry.kind {
            Kind::File { size } => {
                let member = read_file(store, &mut data, size, MOST_KEPT - kept)?;
                if let Member::Document(bytes) = &member {
                    kept += bytes.len();
                }
                member
            }
            kind => match link(kind) {
                Some(link) => link,
                None => continue,
            },
        };
        members.add(entry.path, member)?;
    }
    // What is compressed is checked at its end.
    entries.finish().map_err(Error::Tar)?;
    Ok(members)
}

/// Looks at how a file begins, and takes it for what it may be.
fn read_file(
    store: &Store,
    data: &mut (impl Read + Send),
    size: u64,
    room: usize,
) -> Result<Member, Error> {
    let mut start = Vec::with_capacity(HEADER);
    data.by_ref().take(HEADER as u64).read_to_end(&mut start).map_err(not_read)?;
    let compressed = Compression::detect(&start) != Compression::None;
    if compressed || compress::is_tar(&start) || start.len() == HEADER && is_zero(&start) {
        return match import(store, Cursor::new(start).chain(data)) {
            Ok(layer) => Ok(Member::Layer(layer)),
            // If the archive itself has ended, that is told of with its next entry.
            Err(error @ (cache::Error::Layer { .. } | cache::Error::EmptyArchive)) => {
                Ok(Member::NoLayer(error))
            }
            Err(error) => Err(error.into()),
        };
    }
    let is_json = start.trim_ascii_start().first().is_some_and(|byte| b"{[".contains(byte));
    if !is_json || size > LONGEST_DOCUMENT.min(room as u64) {
        return Ok(Member::Other);
    }
    data.read_to_end(&mut start).map_err(not_read)?;
    Ok(Member::Document(start))
}

/// Brings a layer into the store, whichever it is.
fn import(store: &Store, input: impl Read + Send) -> Result<Layer, cache::Error> {
    let not_a_layer = |source| cache::Error::Layer {
        what: "cannot be imported".to_owned(),
        source: Box::new(cache::layer::Error::Read { position: 0, source }),
    };
    let (mut plain, _) = decompress(input).map_err(not_a_layer)?;
    let mut start = Vec::with_capacity(HEADER);
    plain.by_ref().take(HEADER as u64).read_to_end(&mut start).map_err(not_a_layer)?;
    if !is_zero(&start) {
        return store.draft_layer()?.commit_import(Cursor::new(start).chain(plain));
    }
    // A layer that changes nothing has no entries.
    plain.take(LONGEST_EMPTY).read_to_end(&mut start).map_err(not_a_layer)?;
    let diff_id = Digest::of(&start);
    store.draft_layer()?.commit_copy(start.as_slice(), Path::new("layer"), &diff_id)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Takes the reader's own error out of the one that [`Read`] had to make of it.
fn not_read(error: std::io::Error) -> Error {
    error.downcast().map_or_else(Error::Read, Error::Tar)
}

/// An error with its causes, on one line.
pub(super) fn whole(error: &cache::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
