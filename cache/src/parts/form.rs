//! The form of a file of parts: what it begins with, a record of each entry as the tar is written,
//! then the sums of the tar's blocks, the states of its digest, how many there are of the first two,
//! and the digest of all that.

use std::io::Write;
use std::path::PathBuf;

use fs_err as fs;

use super::digesting::BLOCK;
use super::{Made, State};
use crate::content::{ContentDigest, ContentHasher};
use crate::error::{Error, Result};

/// Begins a file of parts; the last digit is the version.
const MAGIC: &[u8; 8] = b"rparts-2";

/// Bytes of a record of an entry, of a sum, of a state, and of how many there are.
const PER_ENTRY: usize = 32 + 8;
const PER_SUM: usize = 4;
const PER_STATE: usize = 8 + STATE;
const STATE: usize = 32 + 8 + 64;
const COUNTS: usize = 8 + 8;

/// So many bytes are held back before there is a file: most tars are small, and need none.
const HELD: usize = 64 << 10;

/// What a tar consists of, as its file says.
pub(super) struct Parts {
    /// The file from its first record on.
    bytes: Vec<u8>,
    entries: usize,
    sums: usize,
}

impl Parts {
    /// Reads a file's bytes; nothing if they are not what was written.
    pub(super) fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        let (whole, digest) = bytes.split_last_chunk::<32>()?;
        let whole = (ContentDigest::of(whole).bytes() == digest).then_some(whole)?;
        let (records, counts) = whole.strip_prefix(MAGIC)?.split_last_chunk::<COUNTS>()?;
        let (entries, sums) = (count(&counts[..8])?, count(&counts[8..])?);
        let (_, rest) = records.split_at_checked(entries.checked_mul(PER_ENTRY)?)?;
        let (_, rest) = rest.split_at_checked(sums.checked_mul(PER_SUM)?)?;
        let length = records.len();
        if rest.len() % PER_STATE != 0 {
            return None;
        }
        bytes.drain(..MAGIC.len());
        bytes.truncate(length);
        Some(Self { bytes, entries, sums })
    }

    /// Whether these can be the parts of a tar with so many bytes.
    pub(super) fn are_of_tar(&self, length: u64) -> bool {
        let ends = (0..self.entries).map(|number| self.entry(number).1);
        let mut states = self.states().map(|(at, _)| at);
        ends.is_sorted()
            && self.states().is_sorted_by_key(|(at, _)| at)
            && states.all(|at| at.is_multiple_of(BLOCK))
            && self.entries.checked_sub(1).is_none_or(|last| self.entry(last).1 <= length)
            && self.states().last().is_none_or(|(at, _)| at <= length)
            && self.sums as u64 == length.div_ceil(BLOCK)
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// What an entry was made of, and where it ends.
    pub(super) fn entry(&self, number: usize) -> (Made, u64) {
        let made = self.made(number);
        let made = (*made != [0; 32]).then(|| ContentDigest::from_bytes(*made));
        (made, u64_of(&self.record(number)[32..]))
    }

    /// The bytes of what an entry was made of.
    pub(super) fn made(&self, number: usize) -> &[u8; 32] {
        self.record(number).first_chunk().expect("a record is longer")
    }

    fn record(&self, number: usize) -> &[u8] {
        &self.bytes[number * PER_ENTRY..][..PER_ENTRY]
    }

    /// The sums of the tar's blocks.
    pub(super) fn sums(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        let bytes = &self.bytes[self.entries * PER_ENTRY..][..self.sums * PER_SUM];
        bytes.as_chunks().0.iter().map(|sum| u32::from_le_bytes(*sum))
    }

    /// The states of the tar's digest.
    pub(super) fn states(&self) -> impl Iterator<Item = State> + '_ {
        let bytes = &self.bytes[self.entries * PER_ENTRY + self.sums * PER_SUM..];
        bytes.chunks_exact(PER_STATE).map(|state| (u64_of(&state[..8]), state[8..].to_vec()))
    }
}

fn u64_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

fn count(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u64_of(bytes)).ok()
}

/// A file of parts in the making.
pub(super) struct PartsWriter {
    path: PathBuf,
    /// What is not in the file yet.
    held: Vec<u8>,
    file: Option<fs::File>,
    hasher: ContentHasher,
    entries: u64,
}

impl PartsWriter {
    /// Starts one that will be there.
    pub(super) fn new(path: PathBuf) -> Self {
        let hasher = ContentHasher::new();
        Self { path, held: MAGIC.to_vec(), file: None, hasher, entries: 0 }
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, made: Made, end: u64) -> Result<()> {
        self.held.extend(made.map_or([0; 32], |made| *made.bytes()));
        self.held.extend(end.to_le_bytes());
        self.entries += 1;
        if self.held.len() < HELD { Ok(()) } else { self.write() }
    }

    /// Ends the file; it is not synced.
    pub(super) fn finish(mut self, sums: &[u32], states: &[State]) -> Result<()> {
        self.held.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
        for (at, state) in states {
            debug_assert_eq!(state.len(), STATE, "the form of a state has changed");
            self.held.extend(at.to_le_bytes());
            self.held.extend(state);
        }
        self.held.extend(self.entries.to_le_bytes());
        self.held.extend((sums.len() as u64).to_le_bytes());
        self.write()?;
        let digest = std::mem::take(&mut self.hasher).finish();
        self.held.extend(digest.bytes());
        self.write()
    }

    /// Leaves no file behind.
    pub(super) fn discard(self) -> Result<()> {
        match self.file {
            Some(_) => fs::remove_file(&self.path).map_err(Error::Io),
            None => Ok(()),
        }
    }

    fn write(&mut self) -> Result<()> {
        self.hasher.update(&self.held);
        let file = match &mut self.file {
            Some(file) => file,
            file => file.insert(fs::File::create(&self.path).map_err(Error::Io)?),
        };
        file.write_all(&self.held).map_err(Error::Io)?;
        self.held.clear();
        Ok(())
    }
}
