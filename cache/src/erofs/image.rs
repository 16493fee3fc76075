//! Encodes a tree as an EROFS image without content (`fs/erofs/erofs_fs.h`).
//!
//! Blocks are those of a tar, so that a file's content may start wherever it does there. The same
//! tree gives the same bytes. Does not know layers.

use std::io::{self, Write};

use super::attributes::{Attributes, NO_ATTRIBUTES};
use super::content::HOLE;
use super::layout::{
    CHUNK, COMPACT_INODE, DEVICE, DIRENT, EXTENDED_INODE, Layout, Place, SLOT, SUPERBLOCK,
    SUPERBLOCK_AT,
};
use super::output::Output;
use super::tree::{Node, ROOT, Tree, What};
use super::{Device, Error};
use crate::digest::{Digest, DigestWriter};

/// The binary logarithm of the size of a block.
pub(super) const BLOCK_BITS: u32 = 9;

const MAGIC: u32 = 0xe0f5_e1e2;

/// Times are those of the last change of content. There is no checksum of the superblock: it would
/// cover little else, and fsck.erofs before 1.9 cannot compute it where blocks are this small.
const COMPATIBLE: u32 = 0x2;

/// Files have chunks; there is a device table.
const INCOMPATIBLE: u32 = 0x4 | 0x8;

/// How an inode's content is stored: in blocks, in blocks and after the inode, in chunks.
const PLAIN: u16 = 0;
const INLINE: u16 = 2;
const CHUNKED: u16 = 4;

/// A chunk's table has devices, not just blocks.
const CHUNK_INDEXES: u32 = 0x20;

/// What is encoded.
pub(super) struct Image<'a> {
    pub(super) tree: &'a Tree,
    pub(super) attributes: &'a Attributes,
    pub(super) devices: &'a [Device],
    pub(super) block_bits: u32,
}

impl Image<'_> {
    pub(super) fn block_size(&self) -> u64 {
        1 << self.block_bits
    }

    /// Writes the image, and returns how many inodes and how many bytes it has.
    pub(super) fn write(&self, out: &mut dyn Write) -> Result<(u64, u64), Error> {
        let layout = Layout::new(self)
            .ok_or(Error::Inexpressible { path: Vec::new(), reason: "there is too much of it" })?;
        let failed = |source| Error::Write { source };
        // The UUID stands at the front and is made of everything: encoding twice costs less than
        // keeping it all.
        let mut digested = DigestWriter::new(io::sink());
        self.encode(&layout, [0; 16], &mut digested).map_err(failed)?;
        let uuid = uuid(digested.finish().1);
        self.encode(&layout, uuid, out).map_err(failed)?;
        Ok((layout.places.len() as u64, layout.size))
    }

    fn encode(&self, layout: &Layout, uuid: [u8; 16], out: &mut dyn Write) -> io::Result<()> {
        let mut out = Output::new(out);
        out.pad_to(SUPERBLOCK_AT)?;
        out.put(&self.superblock(layout, uuid))?;
        for device in self.devices {
            out.put(&device_slot(device, self.block_bits))?;
        }
        for (place, index) in layout.places.iter().zip(1..) {
            out.pad_to(u64::from(place.number) * SLOT)?;
            self.put_inode(layout, place, index, &mut out)?;
        }
        out.pad_to(layout.shared_at)?;
        for number in layout.all_shared() {
            self.put_attribute(number, &mut out)?;
        }
        out.pad_to(layout.blocks_at)?;
        for place in layout.places.iter().filter(|place| place.block != HOLE) {
            let content = self.content(layout, place.node);
            let full = content.len() as u64 / self.block_size() * self.block_size();
            let here = if place.inline { full as usize } else { content.len() };
            out.put(&content[..here])?;
            out.pad_to(out.position().next_multiple_of(self.block_size()))?;
        }
        out.pad_to(layout.size)?;
        out.finish()
    }

    fn superblock(&self, layout: &Layout, uuid: [u8; 16]) -> Vec<u8> {
        let block = self.block_size();
        let mut bytes = Fields::with_capacity(SUPERBLOCK as usize);
        bytes.u32(MAGIC).u32(0).u32(COMPATIBLE).u8(self.block_bits as u8).u8(0);
        let root = layout.numbers[ROOT as usize];
        bytes.u16(u16::try_from(root).expect("the root is behind the device table"));
        bytes.u64(layout.places.len() as u64);
        bytes.u64(layout.epoch.seconds.cast_unsigned()).u32(layout.epoch.nanoseconds);
        bytes.u32(u32::try_from(layout.size / block).expect("checked by the layout"));
        // Inodes are numbered from the start of the image.
        bytes.u32(0);
        bytes.u32(u32::try_from(layout.shared_at / block).expect("checked by the layout"));
        bytes.put(&uuid).put(&[0; 16]).u32(INCOMPATIBLE).u16(0);
        bytes.u16(u16::try_from(self.devices.len()).expect("checked for each layer"));
        bytes.u16(((SUPERBLOCK_AT + SUPERBLOCK) / DEVICE) as u16);
        bytes.0.resize(SUPERBLOCK as usize, 0);
        bytes.0
    }

    /// Returns the length of a directory's listing, and how many links it has.
    pub(super) fn size_and_links_of_directory(&self, number: u32) -> (u64, u32) {
        self.listing(number).size(self.block_size() as usize)
    }

    fn put_inode(
        &self,
        layout: &Layout,
        place: &Place,
        index: u32,
        out: &mut Output<'_>,
    ) -> io::Result<()> {
        let node = self.tree.node(place.node);
        let (size, links) = layout.size_and_links(place.node, node);
        let (stored, detail) = match &node.what {
            What::File { size: 1.., extents } => {
                (CHUNKED, extents.chunks(size, self.block_bits).bits | CHUNK_INDEXES)
            }
            What::Char(device) | What::Block(device) => (PLAIN, *device),
            What::Fifo | What::Gone => (PLAIN, 0),
            _ => (if place.inline { INLINE } else { PLAIN }, place.block),
        };
        let attributes_size = layout.attributes_size(self.attributes, node.attributes);
        // The header counts as one word.
        let words = attributes_size.checked_sub(8).map_or(0, |size| size / 4);
        let words = u16::try_from(words).expect("checked for each entry");
        let is_compact = layout.is_compact(node, size, links);
        let mut bytes = Fields::with_capacity(EXTENDED_INODE as usize);
        bytes.u16(stored << 1 | u16::from(!is_compact)).u16(words).u16(node.mode());
        if is_compact {
            bytes.u16(links as u16).u32(size as u32).u32(0).u32(detail).u32(index);
            bytes.u16(node.uid as u16).u16(node.gid as u16).u32(0);
            debug_assert_eq!(bytes.0.len() as u64, COMPACT_INODE);
        } else {
            bytes.u16(0).u64(size).u32(detail).u32(index).u32(node.uid).u32(node.gid);
            bytes.u64(node.mtime.seconds.cast_unsigned()).u32(node.mtime.nanoseconds);
            bytes.u32(links).put(&[0; 16]);
            debug_assert_eq!(bytes.0.len() as u64, EXTENDED_INODE);
        }
        out.put(&bytes.0)?;
        self.put_attributes(layout, node.attributes, out)?;
        self.put_tail(layout, place, node, out)
    }

    fn put_attributes(&self, layout: &Layout, set: u32, out: &mut Output<'_>) -> io::Result<()> {
        if set == NO_ATTRIBUTES {
            return Ok(());
        }
        let (shared, own) = layout.partition(self.attributes, set);
        let mut bytes = Fields::with_capacity(64);
        bytes.u32(0).u8(u8::try_from(shared.len()).expect("the rest is not shared")).put(&[0; 7]);
        for number in shared {
            bytes.u32(layout.shared(number));
        }
        out.put(&bytes.0)?;
        own.iter().try_for_each(|number| self.put_attribute(*number, out))
    }

    fn put_attribute(&self, number: u32, out: &mut Output<'_>) -> io::Result<()> {
        let attribute = self.attributes.get(number);
        let mut bytes = Fields::with_capacity(attribute.encoded_size() as usize);
        bytes.u8(u8::try_from(attribute.name.len()).expect("checked for each entry"));
        bytes.u8(attribute.prefix);
        bytes.u16(u16::try_from(attribute.value.len()).expect("checked for each entry"));
        bytes.put(&attribute.name).put(&attribute.value);
        bytes.0.resize(attribute.encoded_size() as usize, 0);
        out.put(&bytes.0)
    }

    /// Writes what follows an inode: the table of its chunks, or the end of its content.
    fn put_tail(
        &self,
        layout: &Layout,
        place: &Place,
        node: &Node,
        out: &mut Output<'_>,
    ) -> io::Result<()> {
        match &node.what {
            What::File { size: size @ 1.., extents } => {
                out.pad_to(out.position().next_multiple_of(CHUNK))?;
                let mut result = Ok(());
                extents.each(*size, self.block_bits, |device, block| {
                    let mut bytes = Fields::with_capacity(CHUNK as usize);
                    bytes.u16(0).u16(device).u32(block);
                    if result.is_ok() {
                        result = out.put(&bytes.0);
                    }
                });
                result
            }
            _ if place.inline => {
                let content = self.content(layout, place.node);
                let tail = content.len() % self.block_size() as usize;
                out.put(&content[content.len() - tail..])
            }
            _ => Ok(()),
        }
    }

    /// Returns the content of a directory or a link.
    fn content(&self, layout: &Layout, number: u32) -> Vec<u8> {
        match &self.tree.node(number).what {
            What::Symlink(target) => target.to_vec(),
            _ => self.listing(number).encode(layout, self.block_size() as usize),
        }
    }

    fn listing(&self, number: u32) -> Listing<'_> {
        let directory = self.tree.dir(number);
        let mut names: Vec<(&[u8], u32, u8)> = Vec::with_capacity(directory.names.len() + 2);
        let named = directory
            .names
            .iter()
            .map(|(name, of)| (&**name, of.node, file_type(self.tree.node(of.node))));
        names.extend(named);
        // Names are sorted, and these two are names.
        for (name, node) in [(b".".as_slice(), number), (b"..", directory.parent)] {
            let place = names.partition_point(|(other, ..)| *other < name);
            names.insert(place, (name, node, 2));
        }
        Listing(names)
    }
}

/// The names in a directory, in order, with their inodes and types.
struct Listing<'a>(Vec<(&'a [u8], u32, u8)>);

impl Listing<'_> {
    /// Returns the listing's length, and how many links the directory has.
    fn size(&self, block_size: usize) -> (u64, u32) {
        let directories = self.0.iter().filter(|(.., file_type)| *file_type == 2).count();
        let (mut full, mut used) = (0, 0);
        for (name, ..) in &self.0 {
            if used + DIRENT + name.len() > block_size {
                full += block_size as u64;
                used = 0;
            }
            used += DIRENT + name.len();
        }
        // The directory's own two names have it and the one above.
        (full + used as u64, u32::try_from(directories).unwrap_or(u32::MAX))
    }

    /// Encodes the listing: in each block first the entries and then their names.
    fn encode(&self, layout: &Layout, block_size: usize) -> Vec<u8> {
        let mut bytes = Fields::with_capacity(self.0.len() * 2 * DIRENT);
        let mut rest = self.0.as_slice();
        while !rest.is_empty() {
            let mut used = 0;
            let fits = |(name, ..): &&(&[u8], u32, u8)| {
                used += DIRENT + name.len();
                used <= block_size
            };
            let count = rest.iter().take_while(fits).count();
            let (block, later) = rest.split_at(count);
            bytes.0.resize(bytes.0.len().next_multiple_of(block_size), 0);
            let mut name_at = DIRENT * block.len();
            for (name, node, file_type) in block {
                bytes.u64(layout.numbers[*node as usize].into());
                bytes.u16(name_at as u16).u8(*file_type).u8(0);
                name_at += name.len();
            }
            for (name, ..) in block {
                bytes.put(name);
            }
            rest = later;
        }
        bytes.0
    }
}

/// Little-endian fields one after the other.
struct Fields(Vec<u8>);

impl Fields {
    fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.put(&[value])
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
}

fn device_slot(device: &Device, block_bits: u32) -> Vec<u8> {
    let mut bytes = Fields::with_capacity(DEVICE as usize);
    let blocks = device.size.div_ceil(1 << block_bits);
    bytes.put(&device.tag).u32(u32::try_from(blocks).unwrap_or(u32::MAX));
    bytes.0.resize(DEVICE as usize, 0);
    bytes.0
}

/// The types that directories tell (`EROFS_FT_*`).
fn file_type(node: &Node) -> u8 {
    match node.what {
        What::File { .. } | What::Gone => 1,
        What::Directory(_) => 2,
        What::Char(_) => 3,
        What::Block(_) => 4,
        What::Fifo => 5,
        What::Symlink(_) => 7,
    }
}

/// Makes a UUID of a digest: version 8 of RFC 9562, "custom".
fn uuid(digest: Digest) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest.bytes()[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}
