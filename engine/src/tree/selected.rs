//! What a selector named, with all that is selected below it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use rustix::fs::FileType;

use crate::view::{Metadata, join, split};

/// A file or directory that a selector named, with all that is selected below it. A large tree has
/// too many entries for each to be memory of its own: they stand in the listings of their
/// directories.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Its last component, as it was named.
    pub name: Vec<u8>,
    /// Where in a path the part below what was named starts.
    pub(super) below: usize,
    /// What it is in, with it alone; then it and all directories below it.
    pub(super) listings: Vec<Listing>,
    /// Listings and places in them: itself first, then everything below it, parents before
    /// children, names sorted.
    pub(super) order: Vec<(u32, u32)>,
    /// Which listings are of directories with extended attributes, by where these are in others.
    pub(super) with_xattrs: BTreeMap<(u32, u32), u32>,
}

/// What is selected in one directory, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    /// The directory's path.
    pub(super) path: Vec<u8>,
    /// All names, one after the other.
    pub(super) names: Vec<u8>,
    /// Where among the names each ends.
    pub(super) ends: Vec<u32>,
    pub(super) metadata: Vec<Metadata>,
    /// The directory's own extended attributes.
    pub(super) xattrs: Xattrs,
}

/// Extended attributes by their full names.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

impl Listing {
    pub(super) fn push(&mut self, name: &[u8], metadata: Metadata) {
        self.names.extend(name);
        self.ends.push(short(self.names.len()));
        self.metadata.push(metadata);
    }

    fn name(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.names[start as usize..self.ends[place] as usize]
    }
}

/// A number of things that are all in memory, in four bytes.
pub(super) fn short(number: usize) -> u32 {
    u32::try_from(number).expect("no directory has names of four gigabytes")
}

impl Selected {
    pub(super) fn new(name: &[u8], path: &[u8], metadata: Metadata) -> Self {
        let (dir, last) = split(path);
        let mut listing = Listing { path: dir.to_vec(), ..Listing::default() };
        listing.push(last, metadata);
        let below = if path.is_empty() { 0 } else { path.len() + 1 };
        Self {
            name: name.to_vec(),
            below,
            listings: vec![listing],
            order: vec![(0, 0)],
            with_xattrs: BTreeMap::new(),
        }
    }

    /// Whether a directory was named.
    pub fn is_dir(&self) -> bool {
        self.root().metadata().is_dir()
    }

    /// How many files and directories there are.
    pub fn count(&self) -> usize {
        self.order.len()
    }

    /// What was named.
    pub fn root(&self) -> Entry<'_> {
        self.entry(0)
    }

    /// What was named, then everything below it, parents before children, names sorted.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.slice(0..self.count())
    }

    /// Some of the entries, by their places.
    pub fn slice(&self, places: Range<usize>) -> impl Iterator<Item = Entry<'_>> {
        places.map(|place| self.entry(place))
    }

    /// Which entries are one more name of an earlier one's file, and of which: by their places.
    pub fn links(&self) -> BTreeMap<usize, usize> {
        let (mut firsts, mut links) = (HashMap::new(), BTreeMap::new());
        for (place, entry) in self.entries().enumerate() {
            let metadata = entry.metadata();
            if metadata.links > 1 && metadata.kind == FileType::RegularFile {
                let first = *firsts.entry((metadata.device, metadata.inode)).or_insert(place);
                if first != place {
                    links.insert(place, first);
                }
            }
        }
        links
    }

    /// The entry at a place.
    pub fn entry(&self, place: usize) -> Entry<'_> {
        let (listing, place) = self.order[place];
        Entry { of: self, listing, place }
    }
}

/// One selected file or directory.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    of: &'a Selected,
    listing: u32,
    place: u32,
}

impl<'a> Entry<'a> {
    fn listing(&self) -> &'a Listing {
        &self.of.listings[self.listing as usize]
    }

    /// What it is.
    pub fn metadata(&self) -> &'a Metadata {
        &self.listing().metadata[self.place as usize]
    }

    /// Its extended attributes, if it is a directory below what was named.
    pub fn xattrs(&self) -> Option<&'a BTreeMap<Vec<u8>, Vec<u8>>> {
        let listing = self.of.with_xattrs.get(&(self.listing, self.place))?;
        Some(&self.of.listings[*listing as usize].xattrs)
    }

    /// Its path in the tree, without links.
    pub fn path(&self) -> Vec<u8> {
        let listing = self.listing();
        join(&listing.path, listing.name(self.place as usize))
    }

    /// Whether it is what was named, and not below it.
    pub fn is_root(&self) -> bool {
        self.listing == 0
    }

    /// Its path below `to`, if what was named is there.
    pub fn path_below(&self, to: &[u8]) -> Vec<u8> {
        if self.is_root() {
            return to.to_vec();
        }
        let listing = self.listing();
        let dir = listing.path.get(self.of.below..).unwrap_or_default();
        let parts = [to, dir, listing.name(self.place as usize)];
        let length = parts.iter().map(|part| part.len() + 1).sum::<usize>() - 1;
        let mut path = Vec::with_capacity(length);
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(part);
        }
        path
    }
}
