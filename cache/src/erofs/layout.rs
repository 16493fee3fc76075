//! Where everything goes in an image: decided in full before the first byte is written.
//!
//! In this order: superblock, device table, inodes with their attributes and what is inline, the
//! shared attributes, the blocks of directories and long links. Inodes of one directory stand
//! together. Nothing here is encoded.

use std::collections::BTreeMap;

use super::attributes::{Attributes, NO_ATTRIBUTES};
use super::content::HOLE;
use super::image::Image;
use super::tree::{Node, ROOT, Tree, What};
use crate::layer::Timestamp;

/// Inodes are numbered by their place, in units of this: the number of the root must fit into 16
/// bits, all others into 64.
pub(super) const SLOT: u64 = 32;

pub(super) const COMPACT_INODE: u64 = 32;
pub(super) const EXTENDED_INODE: u64 = 64;

/// In front of an inode's attributes.
pub(super) const ATTRIBUTES_HEADER: u64 = 12;

/// The number of 4-byte words of an inode's attributes has 16 bits.
pub(super) const LARGEST_ATTRIBUTES: u64 = 65534 * 4;

/// Of an inode's attributes, eight bits say how many are shared.
const MOST_SHARED: usize = 255;

/// An entry of a directory's listing, before the names.
pub(super) const DIRENT: usize = 12;

pub(super) const CHUNK: u64 = 8;

/// Bytes before the superblock, and the superblock itself.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
pub(super) const SUPERBLOCK: u64 = 128;

/// An entry of the device table.
pub(super) const DEVICE: u64 = 128;

/// What is not shared.
const NOT_SHARED: u32 = u32::MAX;

/// An inode's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) node: u32,
    /// Its own place, in slots.
    pub(super) number: u32,
    /// The first block of what it has in blocks.
    pub(super) block: u32,
    /// Whether the rest, less than a block, follows the inode.
    pub(super) inline: bool,
}

/// The places of everything.
#[derive(Debug)]
pub(super) struct Layout {
    /// The inodes, in the order of their places.
    pub(super) places: Vec<Place>,
    /// The numbers of the inodes by those of the tree; 0 for what has no name.
    pub(super) numbers: Vec<u32>,
    /// The sizes of directories, and how many links they have, by their numbers in the tree.
    directories: BTreeMap<u32, (u64, u32)>,
    /// The time that compact inodes have.
    pub(super) epoch: Timestamp,
    /// Where shared attributes start.
    pub(super) shared_at: u64,
    /// Where each attribute is, in 4-byte words from the block where the shared ones start.
    shared: Vec<u32>,
    /// Where the blocks of directories start.
    pub(super) blocks_at: u64,
    /// The length of it all.
    pub(super) size: u64,
}

impl Layout {
    /// Returns nothing if the image would be too large for the format.
    pub(super) fn new(image: &Image<'_>) -> Option<Self> {
        let (order, mut numbers) = order(image.tree);
        let mut layout = Self {
            places: Vec::with_capacity(order.len()),
            numbers: Vec::new(),
            directories: BTreeMap::new(),
            epoch: epoch(image.tree, &order),
            shared_at: 0,
            shared: vec![NOT_SHARED; image.attributes.len()],
            blocks_at: 0,
            size: 0,
        };
        let shared_size = layout.share(image, &order);
        let mut end = SUPERBLOCK_AT + SUPERBLOCK + DEVICE * image.devices.len() as u64;
        let mut blocks = 0_u64;
        for number in order {
            let node = image.tree.node(number);
            if matches!(node.what, What::Directory(_)) {
                layout.directories.insert(number, image.size_and_links_of_directory(number));
            }
            let (size, links) = layout.size_and_links(number, node);
            let is_compact = layout.is_compact(node, size, links);
            let header = if is_compact { COMPACT_INODE } else { EXTENDED_INODE };
            let (place, body_end, own_blocks) = layout.place(image, node, size, header, end);
            numbers[number as usize] = u32::try_from(place / SLOT).ok()?;
            layout.places.push(Place {
                node: number,
                number: numbers[number as usize],
                block: if own_blocks.count == 0 { HOLE } else { u32::try_from(blocks).ok()? },
                inline: own_blocks.inline,
            });
            blocks += own_blocks.count;
            end = body_end;
        }
        layout.numbers = numbers;
        layout.shared_at = end.next_multiple_of(4);
        layout.blocks_at = (layout.shared_at + shared_size).next_multiple_of(image.block_size());
        layout.size = layout.blocks_at + blocks * image.block_size();
        let first = layout.blocks_at / image.block_size();
        u32::try_from(layout.size / image.block_size()).ok()?;
        for place in layout.places.iter_mut().filter(|place| place.block != HOLE) {
            place.block += u32::try_from(first).ok()?;
        }
        layout.rebase_shared(image.block_size())?;
        Some(layout)
    }

    /// Gives attributes that occur more than once a place among the shared ones, as yet counted
    /// from the first of them, and returns how long these are.
    fn share(&mut self, image: &Image<'_>, order: &[u32]) -> u64 {
        let mut uses = vec![0_u32; image.attributes.len()];
        for number in order {
            for attribute in image.attributes.set(image.tree.node(*number).attributes) {
                uses[*attribute as usize] += 1;
            }
        }
        let mut size = 0;
        for (number, uses) in uses.into_iter().enumerate() {
            let attribute = image.attributes.get(number as u32);
            // A reference is as long as the smallest attribute.
            if uses > 1
                && attribute.encoded_size() > 4
                && let Ok(words) = u32::try_from(size / 4)
            {
                self.shared[number] = words;
                size += attribute.encoded_size();
            }
        }
        size
    }

    fn rebase_shared(&mut self, block_size: u64) -> Option<()> {
        let base = u32::try_from(self.shared_at % block_size / 4).expect("less than a block");
        for place in self.shared.iter_mut().filter(|place| **place != NOT_SHARED) {
            *place = place.checked_add(base).filter(|place| *place != NOT_SHARED)?;
        }
        Some(())
    }

    /// Returns the numbers of the attributes of a set that are shared, then of those that are not.
    pub(super) fn partition(&self, attributes: &Attributes, set: u32) -> (Vec<u32>, Vec<u32>) {
        let is_shared = |number: &u32| self.shared[*number as usize] != NOT_SHARED;
        let (mut shared, mut own): (Vec<u32>, Vec<u32>) =
            attributes.set(set).iter().copied().partition(is_shared);
        if shared.len() > MOST_SHARED {
            own.extend(shared.drain(MOST_SHARED..));
        }
        (shared, own)
    }

    /// Returns where a shared attribute is.
    pub(super) fn shared(&self, attribute: u32) -> u32 {
        self.shared[attribute as usize]
    }

    /// Returns the numbers of all shared attributes in the order of their places.
    pub(super) fn all_shared(&self) -> impl Iterator<Item = u32> {
        let places = self.shared.iter().zip(0_u32..);
        places.filter(|(place, _)| **place != NOT_SHARED).map(|(_, number)| number)
    }

    /// Returns how long the attributes of an inode are.
    pub(super) fn attributes_size(&self, attributes: &Attributes, set: u32) -> u64 {
        if set == NO_ATTRIBUTES {
            return 0;
        }
        let (shared, own) = self.partition(attributes, set);
        let own: u64 = own.iter().map(|number| attributes.get(*number).encoded_size()).sum();
        ATTRIBUTES_HEADER + 4 * shared.len() as u64 + own
    }

    /// Returns the size that an inode tells, and how many links it has.
    pub(super) fn size_and_links(&self, number: u32, node: &Node) -> (u64, u32) {
        match &node.what {
            What::Directory(_) => self.directories[&number],
            What::File { size, .. } => (*size, node.links),
            What::Symlink(target) => (target.len() as u64, node.links),
            _ => (0, node.links),
        }
    }

    /// Returns whether 32 bytes are enough for an inode.
    pub(super) fn is_compact(&self, node: &Node, size: u64, links: u32) -> bool {
        node.mtime == self.epoch && fits_compact(node, size, links)
    }

    /// Returns an inode's place at `end` or after it, where it ends, and what is elsewhere.
    fn place(
        &self,
        image: &Image<'_>,
        node: &Node,
        size: u64,
        header: u64,
        end: u64,
    ) -> (u64, u64, Blocks) {
        let head = header + self.attributes_size(image.attributes, node.attributes);
        let block = image.block_size();
        let crosses = |at: u64, length: u64| at % block + length > block;
        let start = (end.next_multiple_of(SLOT)..).step_by(SLOT as usize);
        let mut places = start.filter(|at| !crosses(*at, header));
        match &node.what {
            What::File { size: 1.., extents } => {
                let at = places.next().expect("a block has room for an inode");
                let count = extents.chunks(size, image.block_bits).count;
                let end = (at + head).next_multiple_of(CHUNK) + CHUNK * count;
                (at, end, Blocks { count: 0, inline: false })
            }
            What::Directory(_) | What::Symlink(_) => {
                let (full, tail) = (size / block, size % block);
                // After so many tries the places repeat themselves, a block later.
                let mut tries = places.clone().take((block / SLOT) as usize);
                let inline = tries.find(|at| tail > 0 && !crosses(at + head, tail));
                match inline {
                    Some(at) => (at, at + head + tail, Blocks { count: full, inline: true }),
                    None => {
                        let at = places.next().expect("a block has room for an inode");
                        let count = full + u64::from(tail > 0);
                        (at, at + head, Blocks { count, inline: false })
                    }
                }
            }
            _ => {
                let at = places.next().expect("a block has room for an inode");
                (at, at + head, Blocks { count: 0, inline: false })
            }
        }
    }
}

/// What an inode has beside itself.
#[derive(Clone, Copy)]
struct Blocks {
    count: u64,
    inline: bool,
}

fn fits_compact(node: &Node, size: u64, links: u32) -> bool {
    let short = u32::from(u16::MAX);
    node.uid <= short && node.gid <= short && links <= short && u32::try_from(size).is_ok()
}

/// Returns the inodes in their order, and room for a number for each.
fn order(tree: &Tree) -> (Vec<u32>, Vec<u32>) {
    let mut numbers = vec![0; tree.len()];
    let mut order = vec![ROOT];
    let mut next = 0;
    while let Some(number) = order.get(next).copied() {
        next += 1;
        if let What::Directory(directory) = &tree.node(number).what {
            for name in directory.names.values() {
                // Each further name of a file finds it here.
                if std::mem::replace(&mut numbers[name.node as usize], 1) == 0 {
                    order.push(name.node);
                }
            }
        }
    }
    (order, numbers)
}

/// Returns the most frequent time, the earliest of several.
fn epoch(tree: &Tree, order: &[u32]) -> Timestamp {
    let nodes = order.iter().map(|number| tree.node(*number));
    let compact = nodes.filter(|node| fits_compact(node, 0, node.links));
    let mut times: Vec<Timestamp> = compact.map(|node| node.mtime).collect();
    times.sort_unstable();
    let mut most: &[Timestamp] = &[];
    for same in times.chunk_by(PartialEq::eq) {
        if same.len() > most.len() {
            most = same;
        }
    }
    most.first().copied().unwrap_or_default()
}
