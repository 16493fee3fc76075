//! Parts: what a layer's tar consists of, so that the next layer that a copy makes takes what has
//! not changed from the one before: no file is opened for it, and what is the same from the
//! beginning is not digested again.
//!
//! `layers/<hex>/parts` says of each entry what it was made of, by a digest, and where it ends in
//! `layer.tar`; and now and then what the digest of the tar was until there. It is derived,
//! disposable, and not synced: behind it stands its own digest, and who cannot read it does without.
//! It holds for the tar that the layer's index was made of, see [`crate::index`].
//!
//! An entry with extended attributes is in no part that can be found: they are known only when its
//! file is open.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use fs_err as fs;

use crate::content::ContentDigest;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::layer::writer::{Place, Stretch};
use crate::layer::{Entry, Kind};
use crate::regular;
use crate::store::Store;

/// Its name in a layer's directory.
pub(crate) const PARTS: &str = "parts";

/// Begins a file of parts; the last digit is the version.
const MAGIC: &[u8; 8] = b"rparts-1";

/// Bytes of a tar from one state of its digest that is kept to the next.
const BETWEEN_STATES: u64 = 4 << 20;

/// Bytes of a part, and of a state that is kept.
const PER_PART: usize = 32 + 8;
const PER_STATE: usize = 8 + STATE;
const STATE: usize = 32 + 8 + 64;

/// Of a tar with fewer bytes all is done again before its parts are read.
pub(crate) const WORTH_PARTS: u64 = 4 << 20;

/// What an entry was made of; nothing of one that is not to be found again.
type Made = Option<ContentDigest>;

/// Up to where a tar is digested, and the state of its digest there.
pub(crate) type State = (u64, Vec<u8>);

/// What a tar consists of.
#[derive(Default)]
pub(crate) struct Parts {
    /// In the order of the tar: what each entry was made of, and where it ends.
    entries: Vec<(Made, u64)>,
    states: Vec<State>,
}

impl Parts {
    /// Adds an entry that ends here in the tar.
    fn push(&mut self, made: Made, end: u64) {
        self.entries.push((made, end));
    }

    /// Says what the entry that was added last was made of.
    fn note(&mut self, made: Made) {
        if let Some(last) = self.entries.last_mut() {
            last.0 = made;
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((self.entries.len() as u64).to_le_bytes());
        for (made, end) in &self.entries {
            bytes.extend(made.map_or([0; 32], |made| *made.bytes()));
            bytes.extend(end.to_le_bytes());
        }
        for (at, state) in &self.states {
            bytes.extend(at.to_le_bytes());
            bytes.extend(state);
        }
        bytes.extend(ContentDigest::of(&bytes).bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (bytes, digest) = bytes.split_last_chunk::<32>()?;
        let bytes = (ContentDigest::of(bytes).bytes() == digest).then_some(bytes)?;
        let (count, bytes) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
        let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
        let (entries, states) = bytes.split_at_checked(count.checked_mul(PER_PART)?)?;
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let entry = |bytes: &[u8; PER_PART]| {
            let made: [u8; 32] = bytes[..32].try_into().expect("32 bytes");
            let made = (made != [0; 32]).then(|| ContentDigest::from_bytes(made));
            (made, number(&bytes[32..]))
        };
        let state = |bytes: &[u8; PER_STATE]| (number(&bytes[..8]), bytes[8..].to_vec());
        Some(Self {
            entries: entries.as_chunks().0.iter().map(entry).collect(),
            states: states.as_chunks().0.iter().map(state).collect(),
        })
    }
}

/// Whether a file of parts is what was written; one that is not there is not.
pub(crate) fn is_whole(path: &Path) -> Result<bool> {
    Ok(regular::read(path)?.is_some_and(|bytes| Parts::decode(&bytes).is_some()))
}

/// What an entry is made of: all that its header says, and the digest of its content, which is that
/// of its attributes too.
fn made_of(entry: &Entry, content: Option<&ContentDigest>) -> Made {
    let is_file = matches!(entry.kind, Kind::File { .. });
    if !entry.xattrs.is_empty() || is_file && content.is_none() && entry.size() > 0 {
        return None;
    }
    let (kind, link, numbers): (u8, &[u8], [u64; 2]) = match &entry.kind {
        Kind::File { size } => (0, b"", [*size, 0]),
        Kind::Hardlink(target) => (1, target, [0; 2]),
        Kind::Symlink(target) => (2, target, [0; 2]),
        Kind::Char(major, minor) => (3, b"", [(*major).into(), (*minor).into()]),
        Kind::Block(major, minor) => (4, b"", [(*major).into(), (*minor).into()]),
        Kind::Directory => (5, b"", [0; 2]),
        Kind::Fifo => (6, b"", [0; 2]),
    };
    let mut text = Vec::with_capacity(entry.path.len() + link.len() + 128);
    text.push(kind);
    for name in [&entry.path, link] {
        text.extend((name.len() as u64).to_le_bytes());
        text.extend(name);
    }
    let (seconds, nanoseconds) = (entry.mtime.seconds, entry.mtime.nanoseconds);
    let numbers = numbers.into_iter().chain([
        entry.mode.into(),
        entry.uid,
        entry.gid,
        seconds.cast_unsigned(),
        nanoseconds.into(),
    ]);
    numbers.for_each(|number| text.extend(number.to_le_bytes()));
    text.extend(content.map_or([0; 32], |content| *content.bytes()));
    Some(ContentDigest::of(text))
}

/// A layer that another one is like.
pub(crate) struct Earlier {
    tar: Arc<File>,
    parts: Parts,
    places: HashMap<[u8; 32], u32>,
}

impl Earlier {
    /// Where an entry like this one is in it.
    fn find(&self, made: &ContentDigest) -> Option<Place> {
        self.places.get(made.bytes()).copied().map(Place)
    }

    /// A place's bytes.
    fn stretch(&self, Place(number): Place) -> Stretch {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.parts.entries[before].1);
        Stretch { file: self.tar.clone(), start, end: self.parts.entries[number].1 }
    }
}

impl Store {
    /// A layer that another one may be like, if its parts are known and can be read.
    pub(crate) fn earlier(&self, diff_id: &Digest) -> Option<Arc<Earlier>> {
        self.read_earlier(diff_id).ok().flatten()
    }

    fn read_earlier(&self, diff_id: &Digest) -> Result<Option<Arc<Earlier>>> {
        let is_as_indexed = self.has_sealed_layer(diff_id)?;
        let path = self.layer_dir(diff_id).join(PARTS);
        let Some(bytes) = regular::read(&path)?.filter(|_| is_as_indexed) else { return Ok(None) };
        let tar = regular::open(&self.layer_tar(diff_id))?;
        let (Some(parts), Some(tar)) = (Parts::decode(&bytes), tar) else { return Ok(None) };
        let made = parts.entries.iter().enumerate();
        let places = made.filter_map(|(at, (made, _))| Some((*made.as_ref()?.bytes(), at as u32)));
        let (places, tar) = (places.collect(), Arc::new(tar.into_parts().0));
        Ok(Some(Arc::new(Earlier { tar, parts, places })))
    }
}

/// The parts of a tar in the making, and those of the one it is like.
#[derive(Default)]
pub(crate) struct Recording {
    parts: Parts,
    earlier: Option<Arc<Earlier>>,
}

impl Recording {
    pub(crate) fn new(earlier: Option<Arc<Earlier>>) -> Self {
        Self { parts: Parts::default(), earlier }
    }

    /// Whether there is an earlier layer.
    pub(crate) fn has_earlier(&self) -> bool {
        self.earlier.is_some()
    }

    /// Where the earlier layer has an entry like this one.
    pub(crate) fn find(&self, entry: &Entry, content: Option<&ContentDigest>) -> Option<Place> {
        let earlier = self.earlier.as_ref()?;
        earlier.find(&made_of(entry, content)?)
    }

    /// The bytes of an entry that was found.
    pub(crate) fn stretch(&self, place: Place) -> Stretch {
        self.earlier.as_ref().expect("it was found there").stretch(place)
    }

    /// Adds an entry that was found, and ends here.
    pub(crate) fn push_found(&mut self, place: Place, end: u64) {
        let earlier = self.earlier.as_ref().expect("it was found there");
        self.parts.push(earlier.parts.entries[place.0 as usize].0, end);
    }

    /// Adds an entry that ends here.
    pub(crate) fn push(&mut self, end: u64) {
        self.parts.push(None, end);
    }

    /// Says what content the entry that was added last has.
    pub(crate) fn note(&mut self, entry: &Entry, content: Option<&ContentDigest>) {
        self.parts.note(made_of(entry, content));
    }

    /// Writes the parts beside their tar, with the states that its digest went through.
    pub(crate) fn write(mut self, path: &Path, states: Vec<State>) -> Result<()> {
        self.parts.states = states;
        fs::write(path, self.parts.encode()).map_err(Error::Io)
    }

    /// What digests a tar like the earlier one.
    pub(crate) fn digesting(&self) -> Digesting {
        Digesting::new(self.earlier.clone())
    }
}

/// The digest of a tar in the making. What the tar has in common with an earlier one from the
/// beginning is digested only from the last state that is known of it.
pub(crate) struct Digesting {
    hasher: Hasher,
    /// Up to where it is digested.
    at: u64,
    states: Vec<State>,
    earlier: Option<Arc<Earlier>>,
    /// Up to where it is the same as the earlier one; the hasher knows nothing of that yet.
    same: u64,
}

impl Digesting {
    pub(crate) fn new(earlier: Option<Arc<Earlier>>) -> Self {
        Self { hasher: Hasher::new(), at: 0, states: Vec::new(), earlier, same: 0 }
    }

    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.catch_up()?;
        self.add(bytes);
        Ok(())
    }

    /// Adds the bytes of a stretch of another file.
    pub(crate) fn update_from(&mut self, stretch: &Stretch) -> io::Result<()> {
        let is_same = self.at == 0 && self.same == stretch.start;
        if is_same && self.earlier.as_ref().is_some_and(|it| Arc::ptr_eq(&it.tar, &stretch.file)) {
            self.same = stretch.end;
            return Ok(());
        }
        self.catch_up()?;
        stretch.read(|bytes| {
            self.add(bytes);
            Ok(())
        })
    }

    /// The digest, and the states it went through.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, Vec<State>)> {
        self.catch_up()?;
        Ok((self.hasher.finish(), self.states))
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        if self.at >= self.states.last().map_or(0, |(at, _)| *at) + BETWEEN_STATES {
            self.states.push((self.at, self.hasher.state()));
        }
    }

    /// Digests what is the same, from the last known state on.
    fn catch_up(&mut self) -> io::Result<()> {
        if self.same <= self.at {
            return Ok(());
        }
        let earlier = self.earlier.take().expect("it is the same as that");
        let known = earlier.parts.states.iter().take_while(|(at, _)| *at <= self.same);
        self.states = known.cloned().collect();
        if let Some((at, state)) = self.states.last()
            && let Some(hasher) = Hasher::from_state(state)
        {
            (self.at, self.hasher) = (*at, hasher);
        }
        let rest = Stretch { file: earlier.tar.clone(), start: self.at, end: self.same };
        rest.read(|bytes| {
            self.add(bytes);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::index::INDEX;
    use crate::layer::Timestamp;
    use crate::layer::writer::Append;
    use crate::layers::Layer;
    use crate::lower::Driver;

    /// Bytes of each file but the sparse one.
    const SIZE: usize = 40_000;

    /// Files and what they are made of: so many bytes of one value.
    type Files<'a> = Vec<(&'a str, u8)>;

    fn content(of: u8) -> Vec<u8> {
        (0..SIZE).map(|at| of ^ (at % 251) as u8).collect()
    }

    fn stored(store: &Store, files: &Files<'_>, earlier: Option<&Digest>) -> (Layer, usize) {
        let mut found = 0;
        let draft = store.draft_layer().expect("draft");
        let mut write = |out: &mut dyn Append| -> Result<(), crate::layer::Error> {
            let directory = Entry::new("dir", Kind::Directory, 0o755);
            match out.find(&directory, None) {
                Some(place) => out.append_from(&directory, place)?,
                None => out.append(&directory, &mut io::empty())?,
            }
            out.note(&directory, None);
            for (name, of) in files {
                let mut entry = Entry::new(*name, Kind::File { size: SIZE as u64 }, 0o644);
                entry.mtime = Timestamp { seconds: 1, nanoseconds: u32::from(*of) };
                let content = content(*of);
                let digest = ContentDigest::of(&content);
                match out.find(&entry, Some(&digest)) {
                    Some(place) => {
                        found += 1;
                        out.append_from(&entry, place)?;
                    }
                    None => {
                        out.append(&entry, &mut content.as_slice())?;
                        out.note(&entry, Some(&digest));
                    }
                }
            }
            Ok(())
        };
        let written = draft.write_tar_like(earlier, |out| {
            write(out).map_err(|source| Error::Layer {
                what: "is written".to_owned(),
                source: Box::new(source),
            })
        });
        (written.expect("write").commit().expect("commit"), found)
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        store.set_driver(Driver::Erofs);
        (dir, store)
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("dir/{at:04}")).collect()
    }

    /// What a layer like an earlier one is, is what it is alone: tar, index and parts.
    #[track_caller]
    fn check(before: &Files<'_>, after: &Files<'_>, expected: usize) {
        let ((_one, like), (_other, alone)) = (store(), store());
        let (earlier, found) = stored(&like, before, None);
        assert_eq!(found, 0);
        let (layer, found) = stored(&like, after, Some(&earlier.diff_id));
        assert_eq!(found, expected);
        assert_eq!(stored(&alone, after, None), (layer, 0));
        let read = |store: &Store, name: &str| {
            fs::read(store.layer_dir(&layer.diff_id).join(name)).expect(name)
        };
        let tar = read(&like, "layer.tar");
        assert_eq!(Digest::of(&tar), layer.diff_id);
        assert!(tar == read(&alone, "layer.tar"));
        // The seal says when the tar was written.
        let index = |store: &Store| {
            let mut index = read(store, INDEX);
            index.truncate(index.len() - 64);
            index
        };
        assert!(index(&like) == index(&alone));
        assert!(like.has_sealed_layer(&layer.diff_id).expect("look"));
        // A third one finds all of it.
        let (third, found) = stored(&like, after, Some(&layer.diff_id));
        assert_eq!((third, found), (layer, after.len()));
        assert!(is_whole(&like.layer_dir(&layer.diff_id).join(PARTS)).expect("look"));
    }

    #[test]
    fn a_layer_like_an_earlier_one_is_what_it_is_alone() {
        let names = names(500);
        let files = |of: fn(usize) -> u8| -> Files<'_> {
            names.iter().enumerate().map(|(at, name)| (name.as_str(), of(at))).collect()
        };
        let before = files(|at| at as u8);
        check(&before, &before, 500);
        check(&before, &files(|at| if at == 400 { 7 } else { at as u8 }), 499);
        check(&before, &files(|at| if at == 0 { 7 } else { at as u8 }), 499);
        check(&before, &files(|at| if at == 499 { 7 } else { at as u8 }), 499);
        check(&before, &files(|at| if at % 2 == 1 { !(at as u8) } else { at as u8 }), 250);
        check(&before, &files(|at| !(at as u8)), 0);
        check(&before, &before[..300].to_vec(), 300);
        check(&before, &before[200..].to_vec(), 300);
        check(&before[100..400].to_vec(), &before, 300);
    }

    #[test]
    fn what_is_not_as_it_was_written_is_not_used() {
        let names = names(300);
        let files: Files<'_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let damage: [fn(&Store, &Digest); 4] = [
            |store, layer| {
                let path = store.layer_dir(layer).join(PARTS);
                let mut bytes = fs::read(&path).expect("read");
                bytes[5000] ^= 1;
                fs::write(&path, bytes).expect("write");
            },
            |store, layer| fs::write(store.layer_dir(layer).join(PARTS), "").expect("write"),
            |store, layer| fs::remove_file(store.layer_dir(layer).join(PARTS)).expect("remove"),
            // The tar is another one than the index was made of.
            |store, layer| {
                let path = store.layer_tar(layer);
                let mut bytes = fs::read(&path).expect("read");
                bytes[SIZE] ^= 1;
                fs::write(&path, bytes).expect("write");
            },
        ];
        for damage in damage {
            let (_dir, store) = store();
            let (earlier, _) = stored(&store, &files, None);
            damage(&store, &earlier.diff_id);
            let more: Files<'_> = files.iter().copied().chain([("dir/more", 2)]).collect();
            let (layer, found) = stored(&store, &more, Some(&earlier.diff_id));
            assert_eq!(found, 0);
            let tar = fs::read(store.layer_tar(&layer.diff_id)).expect("read");
            assert_eq!(Digest::of(tar), layer.diff_id);
        }
    }

    #[test]
    fn holes_stay_holes() {
        let (_dir, store) = store();
        let digest = ContentDigest::of("of a hole");
        let write = |changed: u8, earlier: Option<&Digest>| {
            let draft = store.draft_layer().expect("draft");
            let written = draft.write_tar_like(earlier, |out| {
                let first = Entry::new("a", Kind::File { size: 1 }, 0o644);
                out.append(&first, &mut [changed].as_slice()).expect("append");
                let hole = Entry::new("b", Kind::File { size: 64 << 20 }, 0o644);
                match out.find(&hole, Some(&digest)) {
                    Some(place) => out.append_from(&hole, place).expect("take"),
                    None => {
                        assert!(earlier.is_none());
                        out.append(&hole, &mut io::repeat(0)).expect("append");
                        out.note(&hole, Some(&digest));
                    }
                }
                Ok(())
            });
            written.expect("write").commit().expect("commit").diff_id
        };
        let earlier = write(1, None);
        let layer = write(2, Some(&earlier));
        let tar = fs::metadata(store.layer_tar(&layer)).expect("stat");
        assert!(tar.len() > 64 << 20 && tar.blocks() * 512 < 1 << 20, "{tar:?}");
        let (found, _) = Digest::of_reader(fs::File::open(store.layer_tar(&layer)).expect("open"))
            .expect("read");
        assert_eq!(found, layer);
    }
}
