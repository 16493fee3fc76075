//! What is known of a directory's files from earlier scans: path and stat -> content digest.
//!
//! An unchanged file costs one stat and is not read again. The index is safe against the race that
//! git calls racy: a file changed within the clock's grain of its last reading is never trusted.
//! Losing or damaging an index only costs reading the files again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use fs_err as fs;

use crate::content::{ContentDigest, ContentHasher};
use crate::digest::Digest;
use crate::error::Result;
use crate::store::Store;

/// The last byte is the version: an index of another one is no index.
const MAGIC: &[u8; 8] = b"rbctx\0\0\x02";

/// Coarse kernel clocks tick every 10 ms at worst; within a few ticks a second change could leave
/// the same times behind.
const GRAIN: Duration = Duration::from_millis(50);

/// Bytes that are written at once.
const BUFFER: usize = 256 << 10;

/// What tells whether a file is still the one that was read. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// Of the content.
    pub mtime: i64,
    /// Of the inode; cannot be set back.
    pub ctime: i64,
    /// The inode's number.
    pub inode: u64,
    /// The device the inode is on.
    pub device: u64,
}

/// An index in memory.
#[derive(Default)]
pub struct ContextIndex {
    path: PathBuf,
    /// What the file says, sorted by path as it stands there.
    known: Records,
    /// What has been found out since, in any order.
    learnt: Records,
    /// Which of `learnt` has a path with this hash; nothing for a file that is not to be trusted.
    /// Of two paths with one hash the later one is remembered.
    places: HashMap<u64, Option<u32>>,
    hashes: RandomState,
    unsaved: bool,
}

impl ContextIndex {
    /// Loads the index of the directory named by `id`; an unreadable one is empty.
    pub fn load(store: &Store, id: &Digest) -> Self {
        let path = store.root().join("cache/context").join(id.hex());
        let known = fs::read(&path).ok().and_then(Records::decode).unwrap_or_default();
        Self { path, known, ..Self::default() }
    }

    /// The digest of the file at `path` if it is still as it was when it was read.
    pub fn get(&self, path: &[u8], stat: &Stat) -> Option<ContentDigest> {
        let record = match self.places.get(&self.hashes.hash_one(path)) {
            Some(place) => self.learnt.at((*place)? as usize),
            None => self.known.find(path)?,
        };
        (record.path == path && record.stat() == *stat).then(|| record.digest())
    }

    /// Remembers that the file had `digest` when it had `stat`, unless it changed so recently that
    /// a further change might not show. `stat` must have been taken before the file was read.
    pub fn set(&mut self, path: &[u8], stat: Stat, digest: ContentDigest) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let trusted_until = now.saturating_sub(GRAIN).as_nanos() as i64;
        let trusted = stat.ctime < trusted_until && stat.mtime < trusted_until;
        let place = if trusted { self.learnt.push(path, &stat, &digest) } else { None };
        self.places.insert(self.hashes.hash_one(path), place);
        self.unsaved = true;
    }

    /// Whether anything was learnt since it was loaded or saved.
    pub fn has_learnt(&self) -> bool {
        self.unsaved
    }

    /// Writes the index back if anything was learnt.
    pub fn save(&mut self, store: &Store) -> Result<()> {
        if self.unsaved {
            store.write_at_once(&self.path, |file| self.write(file))?;
            self.unsaved = false;
        }
        Ok(())
    }

    /// Writes what is known and what was learnt, sorted by path.
    fn write(&self, file: &mut fs::File) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(BUFFER, Checked::new(file));
        out.write_all(MAGIC)?;
        let learnt = self.places.values().flatten().map(|place| self.learnt.at(*place as usize));
        let mut learnt: Vec<Record<'_>> = learnt.collect();
        learnt.sort_unstable_by_key(|record| record.path);
        let mut learnt = learnt.into_iter().peekable();
        for known in self.known.iter() {
            while let Some(record) = learnt.next_if(|record| record.path < known.path) {
                record.write(&mut out)?;
            }
            if !self.places.contains_key(&self.hashes.hash_one(known.path)) {
                known.write(&mut out)?;
            }
        }
        learnt.try_for_each(|record| record.write(&mut out))?;
        let Checked { file, hasher } = out.into_inner()?;
        file.write_all(hasher.finish().bytes())
    }
}

/// A file and the digest of what was written to it.
struct Checked<'a> {
    file: &'a mut fs::File,
    hasher: ContentHasher,
}

impl<'a> Checked<'a> {
    fn new(file: &'a mut fs::File) -> Self {
        Self { file, hasher: ContentHasher::new() }
    }
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What is known of files, as it stands in the index's file: for each the length of its path (four
/// bytes), the path, and what [`Record`] reads of the rest. All numbers are little-endian.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    /// Where each starts.
    starts: Vec<u32>,
}

/// What is known of a file.
#[derive(Clone, Copy)]
struct Record<'a> {
    path: &'a [u8],
    /// Its stat, five numbers of eight bytes, and its digest.
    rest: &'a [u8; 72],
}

impl Record<'_> {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&(self.path.len() as u32).to_le_bytes())?;
        out.write_all(self.path)?;
        out.write_all(self.rest)
    }

    /// Reads the record at the front of `bytes`, and returns what is behind it.
    fn decode(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
        let (length, bytes) = bytes.split_first_chunk()?;
        let (path, bytes) = bytes.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (rest, bytes) = bytes.split_first_chunk()?;
        Some((Record { path, rest }, bytes))
    }

    fn stat(&self) -> Stat {
        let number = |at: usize| u64::from_le_bytes(self.part(8 * at));
        Stat {
            size: number(0),
            mtime: number(1) as i64,
            ctime: number(2) as i64,
            inode: number(3),
            device: number(4),
        }
    }

    fn digest(&self) -> ContentDigest {
        ContentDigest::from_bytes(self.part(40))
    }

    fn part<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.rest[at..].first_chunk().expect("the rest has a fixed length")
    }
}

impl Records {
    /// `None` when the bytes are not a whole index of this version.
    fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        let (body, check) = bytes.split_last_chunk::<32>()?;
        if ContentDigest::of(body).bytes() != check {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC.as_slice())?;
        // A record is hardly shorter than this; growing costs more than some spare room.
        let mut starts = Vec::with_capacity(rest.len() / 80);
        while !rest.is_empty() {
            starts.push(u32::try_from(body.len() - rest.len()).ok()?);
            rest = Record::decode(rest)?.1;
        }
        bytes.truncate(bytes.len() - 32);
        Some(Self { bytes, starts })
    }

    /// Adds a record and returns which it is; nothing when there are too many.
    fn push(&mut self, path: &[u8], stat: &Stat, digest: &ContentDigest) -> Option<u32> {
        let place = u32::try_from(self.starts.len()).ok()?;
        self.starts.push(u32::try_from(self.bytes.len()).ok()?);
        self.bytes.extend((path.len() as u32).to_le_bytes());
        self.bytes.extend(path);
        for number in [stat.size, stat.mtime as u64, stat.ctime as u64, stat.inode, stat.device] {
            self.bytes.extend(number.to_le_bytes());
        }
        self.bytes.extend(digest.bytes());
        Some(place)
    }

    fn at(&self, place: usize) -> Record<'_> {
        let bytes = &self.bytes[self.starts[place] as usize..];
        Record::decode(bytes).expect("it was checked, or put there").0
    }

    fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        (0..self.starts.len()).map(|place| self.at(place))
    }

    /// The record of a path among sorted ones.
    fn find(&self, path: &[u8]) -> Option<Record<'_>> {
        let place = self.starts.partition_point(|start| {
            let bytes = &self.bytes[*start as usize..];
            Record::decode(bytes).expect("it was checked").0.path < path
        });
        (place < self.starts.len()).then(|| self.at(place))
    }
}

/// Tells whether these are the bytes of a whole index, as far as that can be told of one of another
/// version.
pub(crate) fn is_whole(bytes: Vec<u8>) -> bool {
    let (name, version) = MAGIC.split_at(MAGIC.len() - 1);
    let other = bytes.strip_prefix(name).is_some_and(|rest| !rest.starts_with(version));
    other && bytes.len() > MAGIC.len() || Records::decode(bytes).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Stat = Stat { size: 3, mtime: 1, ctime: 2, inode: 3, device: 4 };

    fn reload(store: &Store, index: &mut ContextIndex) -> ContextIndex {
        index.save(store).expect("save");
        ContextIndex::load(store, &Digest::of("ctx"))
    }

    #[test]
    fn a_file_is_known_until_anything_of_its_stat_changes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let mut index = ContextIndex::load(&store, &Digest::of("ctx"));
        index.set(b"a\n\xff", OLD, ContentDigest::of("content"));
        let index = reload(&store, &mut index);
        assert_eq!(index.get(b"a\n\xff", &OLD), Some(ContentDigest::of("content")));
        for changed in [
            Stat { size: 4, ..OLD },
            Stat { mtime: 9, ..OLD },
            Stat { ctime: 9, ..OLD },
            Stat { inode: 9, ..OLD },
        ] {
            assert_eq!(index.get(b"a\n\xff", &changed), None);
        }
    }

    #[test]
    fn a_file_changed_just_now_is_not_trusted() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let fresh = Stat { ctime: now.as_nanos() as i64, ..OLD };
        let mut index = ContextIndex::load(&store, &Digest::of("ctx"));
        index.set(b"a", fresh, ContentDigest::of("content"));
        assert_eq!(reload(&store, &mut index).get(b"a", &fresh), None);
    }

    #[test]
    fn what_is_learnt_takes_its_place_among_what_was_known() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let mut index = ContextIndex::load(&store, &Digest::of("ctx"));
        for path in ["a", "c", "e", "g"] {
            index.set(path.as_bytes(), OLD, ContentDigest::of(path));
        }
        let mut index = reload(&store, &mut index);
        for path in ["f", "c", "b"] {
            index.set(path.as_bytes(), OLD, ContentDigest::of("new"));
        }
        index.set(b"g", Stat { ctime: i64::MAX, ..OLD }, ContentDigest::of("new"));
        let index = reload(&store, &mut index);
        let found = ["a", "b", "c", "e", "f", "g"].map(|path| index.get(path.as_bytes(), &OLD));
        let [a, new, e] = ["a", "new", "e"].map(|text| Some(ContentDigest::of(text)));
        assert_eq!(found, [a, new, new, e, new, None]);
    }

    #[test]
    fn a_damaged_index_is_empty() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let mut index = ContextIndex::load(&store, &Digest::of("ctx"));
        index.set(b"a", OLD, ContentDigest::of("content"));
        index.save(&store).expect("save");
        let mut bytes = fs::read(&index.path).expect("read");
        assert!(is_whole(bytes.clone()));
        bytes[20] ^= 1;
        assert!(!is_whole(bytes.clone()));
        for damaged in [&bytes[..], &bytes[..30], &bytes[..3]] {
            fs::write(&index.path, damaged).expect("write");
            assert_eq!(ContextIndex::load(&store, &Digest::of("ctx")).get(b"a", &OLD), None);
        }
    }

    /// What the first version wrote: the same fields with SHA-256 digests.
    #[test]
    fn an_index_of_another_version_is_no_index_and_no_damage() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let mut index = ContextIndex::load(&store, &Digest::of("ctx"));
        index.set(b"a", OLD, ContentDigest::of("content"));
        let mut index = reload(&store, &mut index);
        assert!(index.get(b"a", &OLD).is_some());
        let mut bytes = fs::read(&index.path).expect("read");
        bytes.truncate(bytes.len() - 32);
        bytes[7] = 1;
        for check in [*Digest::of(&bytes).bytes(), *ContentDigest::of(&bytes).bytes()] {
            let old = [bytes.as_slice(), &check].concat();
            fs::write(&index.path, &old).expect("write");
            assert_eq!(ContextIndex::load(&store, &Digest::of("ctx")).get(b"a", &OLD), None);
            assert!(is_whole(old));
        }
        index.set(b"a", OLD, ContentDigest::of("again"));
        let index = reload(&store, &mut index);
        assert_eq!(index.get(b"a", &OLD), Some(ContentDigest::of("again")));
    }
}
