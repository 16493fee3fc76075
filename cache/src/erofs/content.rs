//! Where a file's content lies on the devices, in blocks and in chunks.
//!
//! A chunk-based inode has a table with one entry for each chunk of the file: the block where it
//! starts, or none for a hole. All chunks of a file have one size, a power of two. Does not know
//! names, nor where the table is written.

use crate::layer::reader::Content;

/// Contents lie on multiples of this in a tar, and so do blocks on the devices.
const TAR_BLOCK: u64 = 512;

/// A chunk has at most this power of two of blocks: five bits say so.
const LARGEST_CHUNK: u32 = 31;

/// The address of what is not stored.
pub(super) const HOLE: u32 = u32::MAX;

/// Files beyond this do not fit into an offset.
const LONGEST_FILE: u64 = i64::MAX.cast_unsigned();

/// The stored parts of a file.
#[derive(Debug)]
pub(super) enum Extents {
    /// The file is one hole.
    None,
    /// The file is stored whole, from this block of the device on.
    Whole { device: u16, block: u32 },
    /// In parts, with holes between them. Few files have holes, so these take their own room.
    Some(Box<Parts>),
}

/// The parts of a file that has holes, in order.
#[derive(Debug)]
pub(super) struct Parts {
    device: u16,
    extents: Box<[Extent]>,
}

/// A part of a file that is stored: all in bytes but `block`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    start: u64,
    end: u64,
    block: u32,
}

/// The table of a file's chunks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    /// The binary logarithm of how many blocks a chunk has.
    pub(super) bits: u32,
    pub(super) count: u64,
}

impl Extents {
    /// Makes extents of a file of `size` bytes, or says why the format cannot.
    pub(super) fn new(size: u64, content: Content, device: u16) -> Result<Self, &'static str> {
        if size > LONGEST_FILE {
            return Err("it is longer than any file system allows");
        }
        match content {
            _ if size == 0 => Ok(Self::None),
            Content::None => Err("it is not known where its content lies"),
            Content::At(position) => Ok(Self::Whole { device, block: block_of(position, size)? }),
            Content::Parts(parts) => {
                let mut extents: Vec<Extent> = Vec::new();
                for part in parts.iter().filter(|part| part.length > 0) {
                    let (start, end) = (part.offset, part.offset.checked_add(part.length));
                    let end = end.filter(|end| *end <= size).ok_or("its parts exceed its size")?;
                    match extents.last_mut() {
                        // Parts are stored one after the other, so these two are one.
                        Some(last) if last.end == start => {
                            block_end(part.position, part.length)?;
                            last.end = end;
                        }
                        Some(last) if last.end > start => return Err("its parts overlap"),
                        _ => {
                            let block = block_of(part.position, part.length)?;
                            extents.push(Extent { start, end, block });
                        }
                    }
                }
                if !extents.iter().all(|extent| extent.is_aligned(size)) {
                    return Err("a hole in it does not start and end with a block");
                }
                match extents.as_slice() {
                    [] => Ok(Self::None),
                    [Extent { start: 0, end, block }] if *end == size => {
                        Ok(Self::Whole { device, block: *block })
                    }
                    _ => Ok(Self::Some(Box::new(Parts { device, extents: extents.into() }))),
                }
            }
        }
    }

    /// Returns the table that a file of `size` bytes needs, its chunks as large as can be.
    pub(super) fn chunks(&self, size: u64, block_bits: u32) -> Chunks {
        let enough = size.div_ceil(1 << block_bits).next_power_of_two().trailing_zeros();
        let mut bits = enough.min(LARGEST_CHUNK);
        if let Self::Some(parts) = self {
            for extent in &parts.extents {
                let end = if extent.end == size { 0 } else { extent.end };
                bits = bits.min((extent.start | end).trailing_zeros() - block_bits);
            }
        }
        Chunks { bits, count: size.div_ceil(1 << (bits + block_bits)) }
    }

    /// Calls `put` with the device and the block of each chunk.
    pub(super) fn each(&self, size: u64, block_bits: u32, mut put: impl FnMut(u16, u32)) {
        let Chunks { bits, count } = self.chunks(size, block_bits);
        let length = 1_u64 << (bits + block_bits);
        let mut next = 0;
        for start in (0..count).map(|chunk| chunk * length) {
            // Tar's blocks may be smaller than the image's.
            let block = |base: u32, offset: u64| {
                let block = (u64::from(base) * TAR_BLOCK + offset) >> block_bits;
                u32::try_from(block).expect("the end of the content was checked")
            };
            match self {
                Self::None => put(0, HOLE),
                Self::Whole { device, block: base } => put(*device, block(*base, start)),
                Self::Some(parts) => {
                    let Parts { device, extents } = &**parts;
                    while extents.get(next).is_some_and(|part| part.end <= start) {
                        next += 1;
                    }
                    match extents.get(next).filter(|part| part.start <= start) {
                        Some(part) => put(*device, block(part.block, start - part.start)),
                        None => put(0, HOLE),
                    }
                }
            }
        }
    }
}

impl Extent {
    fn is_aligned(&self, size: u64) -> bool {
        self.start.is_multiple_of(TAR_BLOCK)
            && (self.end.is_multiple_of(TAR_BLOCK) || self.end == size)
    }
}

/// Returns the block at a position, if blocks can say it and the end of `length` bytes from there.
fn block_of(position: u64, length: u64) -> Result<u32, &'static str> {
    if !position.is_multiple_of(TAR_BLOCK) {
        return Err("its content does not start with a block of the tar");
    }
    block_end(position, length)?;
    Ok(u32::try_from(position / TAR_BLOCK).expect("before its end"))
}

fn block_end(position: u64, length: u64) -> Result<(), &'static str> {
    let end = position.checked_add(length).map(|end| end.div_ceil(TAR_BLOCK));
    // The last address means a hole.
    match end {
        Some(end) if end <= u64::from(HOLE) => Ok(()),
        _ => Err("its content lies beyond the first 2 TiB of the tar"),
    }
}
