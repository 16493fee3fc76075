//! The compressions that layers, contexts and archives come in, told apart by their first bytes.
//!
//! Names and media types are not looked at. Compresses nothing, and does not know what is inside.

use std::io::{self, BufReader, Cursor, Read};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all, as far as we know.
    None,
    /// RFC 1952; any number of members.
    Gzip,
    /// Any number of streams.
    Bzip2,
    /// Any number of streams.
    Xz,
    /// RFC 8878; any number of frames, skippable ones included.
    Zstd,
}

impl Compression {
    /// How many bytes [`detect`](Self::detect) wants to see.
    pub const LONGEST_MAGIC: usize = 6;

    /// Tells by the first bytes of a stream how it is compressed.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            // The third byte is the method; there is but one.
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Returns what `input` holds, decompressed, and how it was compressed.
pub fn decompress<'a>(
    mut input: impl Read + Send + 'a,
) -> io::Result<(Box<dyn Read + Send + 'a>, Compression)> {
    let mut start = Vec::with_capacity(Compression::LONGEST_MAGIC);
    input.by_ref().take(Compression::LONGEST_MAGIC as u64).read_to_end(&mut start)?;
    let compression = Compression::detect(&start);
    let whole = Cursor::new(start).chain(input);
    // Decompressors read in small pieces.
    let whole = BufReader::with_capacity(64 * 1024, whole);
    let plain: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        Compression::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(whole)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
    };
    Ok((plain, compression))
}

/// Returns whether `input`, decompressed, is a tar with at least one entry.
///
/// This is what makes `ADD` unpack a file, whatever it is called.
pub fn is_archive(input: impl Read + Send) -> bool {
    decompress(input).is_ok_and(|(plain, _)| crate::layer::reader::is_archive(plain))
}

/// Returns whether a tar could begin with these bytes: a header with a valid checksum.
pub fn is_tar(start: &[u8]) -> bool {
    start.len() >= 512 && crate::layer::reader::is_header(&start[..512])
}
