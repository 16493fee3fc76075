//! What is known of a directory's files from earlier scans: path and stat -> content digest.
//!
//! An unchanged file costs one stat and is not read again. The index is safe against the race that
//! git calls racy: a file changed within the clock's grain of its last reading is never trusted.
//! Losing or damaging an index only costs reading the files again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use fs_err as fs;

use crate::content::ContentDigest;
use crate::digest::Digest;
use crate::error::Result;
use crate::store::Store;

/// The last byte is the version: an index of another one is no index.
const MAGIC: &[u8; 8] = b"rbctx\0\0\x02";

/// Coarse kernel clocks tick every 10 ms at worst; within a few ticks a second change could leave
/// the same times behind.
const GRAIN: Duration = Duration::from_millis(50);

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
    /// What the file says, sorted by path as it stands there: nothing to build before it is used.
    known: Vec<(Vec<u8>, Known)>,
    /// What has been found out since; nothing for what is not to be trusted.
    learnt: BTreeMap<Vec<u8>, Option<Known>>,
}

type Known = (Stat, ContentDigest);

impl ContextIndex {
    /// Loads the index of the directory named by `id`; an unreadable one is empty.
    pub fn load(store: &Store, id: &Digest) -> Self {
        let path = store.root().join("cache/context").join(id.hex());
        let known = fs::read(&path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        Self { path, known, learnt: BTreeMap::new() }
    }

    /// The digest of the file at `path` if it is still as it was when it was read.
    pub fn get(&self, path: &[u8], stat: &Stat) -> Option<ContentDigest> {
        let (known, digest) = match self.learnt.get(path) {
            Some(learnt) => (*learnt)?,
            None => {
                let at =
                    self.known.binary_search_by(|(known, _)| known.as_slice().cmp(path)).ok()?;
                self.known[at].1
            }
        };
        (known == *stat).then_some(digest)
    }

    /// Remembers that the file had `digest` when it had `stat`, unless it changed so recently that
    /// a further change might not show. `stat` must have been taken before the file was read.
    pub fn set(&mut self, path: &[u8], stat: Stat, digest: ContentDigest) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let trusted_until = now.saturating_sub(GRAIN).as_nanos() as i64;
        let trusted = stat.ctime < trusted_until && stat.mtime < trusted_until;
        self.learnt.insert(path.to_vec(), trusted.then_some((stat, digest)));
    }

    /// Whether anything was learnt since it was loaded or saved.
    pub fn has_learnt(&self) -> bool {
        !self.learnt.is_empty()
    }

    /// Writes the index back if anything was learnt.
    pub fn save(&mut self, store: &Store) -> Result<()> {
        if self.learnt.is_empty() {
            return Ok(());
        }
        let learnt = std::mem::take(&mut self.learnt);
        self.known.retain(|(path, _)| !learnt.contains_key(path));
        self.known.extend(learnt.into_iter().filter_map(|(path, known)| Some((path, known?))));
        // Two sorted runs, which the sort finds and merges.
        self.known.sort_by(|(a, _), (b, _)| a.cmp(b));
        store.write_atomically(&self.path, &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (path, (stat, digest)) in &self.known {
            bytes.extend((path.len() as u32).to_le_bytes());
            bytes.extend(path);
            for number in [stat.size, stat.mtime as u64, stat.ctime as u64, stat.inode, stat.device]
            {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(digest.bytes());
        }
        let check = ContentDigest::of(&bytes);
        bytes.extend(check.bytes());
        bytes
    }
}

/// Tells whether these are the bytes of a whole index, as far as that can be told of one of another
/// version.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    let (name, version) = MAGIC.split_at(MAGIC.len() - 1);
    let other = bytes.strip_prefix(name).is_some_and(|rest| !rest.starts_with(version));
    other && bytes.len() > MAGIC.len() || decode(bytes).is_some()
}

/// `None` when the bytes are not a whole index of this version.
fn decode(bytes: &[u8]) -> Option<Vec<(Vec<u8>, Known)>> {
    let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if ContentDigest::of(body).bytes() != check {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC.as_slice())?;
    // An entry is hardly shorter than this; growing costs more than some spare room.
    let mut known = Vec::with_capacity(rest.len() / 80);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(take::<4>(&mut rest)?) as usize;
        let (path, behind) = rest.split_at_checked(length)?;
        rest = behind;
        let mut number = || Some(u64::from_le_bytes(take::<8>(&mut rest)?));
        let stat = Stat {
            size: number()?,
            mtime: number()? as i64,
            ctime: number()? as i64,
            inode: number()?,
            device: number()?,
        };
        known.push((path.to_vec(), (stat, ContentDigest::from_bytes(take::<32>(&mut rest)?))));
    }
    Some(known)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
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
        let mut bytes = index.encode();
        assert!(decode(&bytes).is_some());
        bytes[20] ^= 1;
        assert!(decode(&bytes).is_none());
        assert!(decode(&bytes[..30]).is_none());
        assert!(!is_whole(&bytes));
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
        let mut bytes = index.encode();
        bytes.truncate(bytes.len() - 32);
        bytes[7] = 1;
        for check in [*Digest::of(&bytes).bytes(), *ContentDigest::of(&bytes).bytes()] {
            let old = [bytes.as_slice(), &check].concat();
            fs::write(&index.path, &old).expect("write");
            assert_eq!(ContextIndex::load(&store, &Digest::of("ctx")).get(b"a", &OLD), None);
            assert!(is_whole(&old));
        }
        index.set(b"a", OLD, ContentDigest::of("again"));
        let index = reload(&store, &mut index);
        assert_eq!(index.get(b"a", &OLD), Some(ContentDigest::of("again")));
    }
}
