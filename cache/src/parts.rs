//! Parts: what a layer's tar consists of, so that the next layer that a copy makes takes what has
//! not changed from the one before: no file is opened for it, and what is the same from the
//! beginning is not digested again.
//!
//! `layers/<hex>/parts` says of each entry what it was made of, by a digest, and where it ends in
//! `layer.tar`; of each block of the tar its CRC-32; and now and then what the digest of the tar was
//! until there. It is derived, disposable, and not synced: behind it stands its own digest, and who
//! cannot read it does without. It holds for the tar that the layer's index was made of, see
//! [`crate::index`].
//!
//! A tar whose bytes have rotted since, so that nothing but its digest tells it, is found where its
//! blocks are read again: all is taken from its own sources then. What is the same from the beginning
//! is not read; a layer with that has another digest than its name says, as the earlier one has.
//!
//! An entry with extended attributes is in no part that can be found: they are known only when its
//! file is open.

mod digesting;
mod form;

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use form::{Parts, PartsWriter};
use rustix::fs::Advice;

use crate::content::ContentDigest;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layer::writer::{Place, Stretch};
use crate::layer::{Entry, Kind};
use crate::regular;
use crate::store::Store;

pub(crate) use digesting::{Digesting, Noted};

/// Its name in a layer's directory.
pub(crate) const PARTS: &str = "parts";

/// Of a tar with fewer bytes all is done again before its parts are read.
pub(crate) const WORTH_PARTS: u64 = 4 << 20;

/// What an entry was made of; nothing of one that is not to be found again.
type Made = Option<ContentDigest>;

/// Up to where a tar is digested, and the state of its digest there.
type State = (u64, Vec<u8>);

/// Whether a file of parts is what was written; one that is not there is not.
pub(crate) fn is_whole(path: &Path) -> Result<bool> {
    Ok(regular::read(path)?.is_some_and(|bytes| Parts::decode(bytes).is_some()))
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
    /// Bytes of the tar.
    length: u64,
    parts: Parts,
    /// The entries that can be found, sorted by what they were made of.
    places: Vec<u32>,
    sums: Vec<u32>,
    states: Vec<State>,
    is_rotten: Arc<AtomicBool>,
}

impl Earlier {
    /// Where an entry like this one is in it.
    fn find(&self, made: &ContentDigest) -> Option<Place> {
        let made_of = |number: &u32| self.parts.made(*number as usize);
        let at = self.places.binary_search_by(|number| made_of(number).cmp(made.bytes())).ok()?;
        Place::of(self.places[at])
    }

    /// A place's bytes.
    fn stretch(&self, place: Place) -> Stretch {
        let number = place.number();
        let start = number.checked_sub(1).map_or(0, |before| self.parts.entry(before).1);
        Stretch { file: self.tar.clone(), start, end: self.parts.entry(number).1 }
    }

    /// What is true once it was found not to be what was written: for who does not keep it in memory for that.
    pub(crate) fn is_rotten(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_rotten)
    }

    /// Says so.
    fn found_rotten(&self) -> io::Error {
        self.is_rotten.store(true, Ordering::Relaxed);
        io::Error::new(io::ErrorKind::InvalidData, "an earlier layer is not what was written")
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
        let (Some(parts), Some(tar)) = (Parts::decode(bytes), tar) else { return Ok(None) };
        let length = tar.metadata().map_err(Error::Io)?.len();
        if !parts.are_of_tar(length) {
            return Ok(None);
        }
        let known = (0..parts.len()).filter(|at| parts.entry(*at).0.is_some());
        let mut places: Vec<u32> = known.map(|at| at as u32).collect();
        places.sort_unstable_by_key(|number| parts.made(*number as usize));
        let (sums, states) = (parts.sums().collect(), parts.states().collect());
        let (tar, is_rotten) = (Arc::new(tar.into_parts().0), Arc::default());
        read_ahead(&tar);
        Ok(Some(Arc::new(Earlier { tar, length, parts, places, sums, states, is_rotten })))
    }
}

/// Bytes that the kernel is told to read at once.
const AHEAD: u64 = 128 << 10;

/// Has the kernel begin to read all of a file. Who takes pieces of it in their order would wait for each of them, and the
/// disk for him.
fn read_ahead(file: &Arc<File>) {
    let file = Arc::clone(file);
    let read = move || -> io::Result<()> {
        // Of more the kernel would read no more at once.
        let (mut at, length) = (0, file.metadata()?.len());
        while at < length {
            rustix::fs::fadvise(&file, at, NonZeroU64::new(AHEAD), Advice::WillNeed)?;
            at += AHEAD;
        }
        Ok(())
    };
    // It only makes faster what works without it.
    let _ = std::thread::Builder::new().name("ahead".into()).spawn(read);
}

/// The parts of a tar in the making, and those of the one it is like.
pub(crate) struct Recording {
    parts: PartsWriter,
    /// The entry that was added last: what it is made of may still be said.
    last: Option<(Made, u64)>,
    earlier: Option<Arc<Earlier>>,
}

impl Recording {
    /// Of a tar whose parts will be in this file.
    pub(crate) fn new(path: PathBuf, earlier: Option<Arc<Earlier>>) -> Self {
        Self { parts: PartsWriter::new(path), last: None, earlier }
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
    pub(crate) fn push_found(&mut self, place: Place, end: u64) -> Result<()> {
        let earlier = self.earlier.as_ref().expect("it was found there");
        let made = earlier.parts.entry(place.number()).0;
        self.put(Some((made, end)))
    }

    /// Adds an entry that ends here.
    pub(crate) fn push(&mut self, end: u64) -> Result<()> {
        self.put(Some((None, end)))
    }

    /// Says what content the entry that was added last has.
    pub(crate) fn note(&mut self, entry: &Entry, content: Option<&ContentDigest>) {
        if let Some((made, _)) = &mut self.last {
            *made = made_of(entry, content);
        }
    }

    /// Keeps the parts of a tar with these bytes, if they are worth it.
    pub(crate) fn finish(mut self, size: u64, noted: Option<Noted>) -> Result<()> {
        self.put(None)?;
        match noted.filter(|_| size >= WORTH_PARTS) {
            Some(noted) => self.parts.finish(&noted.sums, &noted.states),
            None => self.parts.discard(),
        }
    }

    /// What digests a tar like the earlier one.
    pub(crate) fn digesting(&self) -> Digesting {
        Digesting::noting(self.earlier.clone())
    }

    fn put(&mut self, next: Option<(Made, u64)>) -> Result<()> {
        match std::mem::replace(&mut self.last, next) {
            Some((made, end)) => self.parts.push(made, end),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use fs_err as fs;

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
            found = 0;
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
        let damage: [fn(&Store, &Digest); 5] = [
            |store, layer| {
                let path = store.layer_dir(layer).join(PARTS);
                let mut bytes = fs::read(&path).expect("read");
                bytes[5000] ^= 1;
                fs::write(&path, bytes).expect("write");
            },
            |store, layer| fs::write(store.layer_dir(layer).join(PARTS), "").expect("write"),
            |store, layer| fs::remove_file(store.layer_dir(layer).join(PARTS)).expect("remove"),
            // Nothing that can be read.
            |store, layer| {
                let path = store.layer_dir(layer).join(PARTS);
                fs::remove_file(&path).expect("remove");
                fs::create_dir(&path).expect("mkdir");
            },
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
    fn what_has_rotted_gets_into_no_other_layer() {
        let names = names(500);
        let files: Files<'_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let changed = |number: usize| {
            let mut files = files.clone();
            files[number].1 = 2;
            files
        };
        // A bit of what is read again: beside the change, far behind it, and at the very end.
        for (change, rotten) in [(0, 1), (100, 101), (100, 400), (498, 499)] {
            let ((_one, like), (_other, alone)) = (store(), store());
            let (earlier, _) = stored(&like, &files, None);
            let path = like.layer_tar(&earlier.diff_id);
            let before = fs::metadata(&path).expect("stat").modified().expect("a time");
            let tar = fs::File::options().read(true).write(true).open(&path).expect("open");
            // Its time needs an extended header, with one block in it.
            let per_file = (3 * 512 + SIZE.next_multiple_of(512)) as u64;
            // Behind the directory and some files, in the middle of one.
            let at = 512 + rotten * per_file + 20_000;
            let mut byte = [0];
            tar.file().read_exact_at(&mut byte, at).expect("read");
            tar.file().write_all_at(&[byte[0] ^ 4], at).expect("write");
            tar.set_modified(before).expect("set the time");
            drop(tar);
            let after = changed(change);
            let (layer, found) = stored(&like, &after, Some(&earlier.diff_id));
            assert_eq!(found, 0, "{change} {rotten}");
            assert_eq!(layer, stored(&alone, &after, None).0, "{change} {rotten}");
            let tar = fs::read(like.layer_tar(&layer.diff_id)).expect("read");
            assert_eq!(Digest::of(tar), layer.diff_id);
            let made = like.layer_dir(&layer.diff_id).join(PARTS);
            assert!(is_whole(&made).expect("look"));
        }
    }

    #[test]
    fn a_tar_that_is_small_has_no_parts() {
        let (_dir, store) = store();
        let names = names(2000);
        let draft = store.draft_layer().expect("draft");
        let write = |out: &mut dyn Append| {
            for name in &names {
                out.append(
                    &Entry::new(name.as_str(), Kind::File { size: 0 }, 0o644),
                    &mut io::empty(),
                )
                .expect("append");
            }
            Ok(())
        };
        let written = draft.write_tar_like(None, write).expect("write");
        let layer = written.commit().expect("commit");
        assert!(layer.size < WORTH_PARTS);
        assert!(!store.layer_dir(&layer.diff_id).join(PARTS).exists());
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
