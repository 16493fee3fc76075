//! The compressions that layers, contexts and archives come in, told apart by their first bytes.
//!
//! Names and media types are not looked at. Compresses nothing, and does not know what is inside.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::GzDecoder;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all, as far as we know.
    None,
    /// RFC 1952; any number of members, and then whatever else: gzip ignores it, and so does docker.
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
///
/// What ends early gives an error where it ends. Checksums stand behind what they are for: only
/// who reads to the very end knows that all was there.
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
        Compression::Gzip => Box::new(Members { member: Some(GzDecoder::new(whole)) }),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        Compression::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(whole)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
    };
    Ok((plain, compression))
}

/// The members of a gzip stream, one after the other.
struct Members<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(member) = self.member.take() else { break };
            let mut rest = member.into_inner();
            // One byte is all that a buffer is sure to show.
            if rest.fill_buf()?.first() == Some(&0x1f) {
                self.member = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const PLAIN: &[u8] = b"some text, some text, some text\n";

    fn compressed() -> Vec<(Compression, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
        gzip.write_all(PLAIN).expect("write");
        bzip2.write_all(PLAIN).expect("write");
        xz.write_all(PLAIN).expect("write");
        let zstd = zstd::stream::encode_all(PLAIN, 3).expect("encode");
        vec![
            (Compression::Gzip, gzip.finish().expect("finish")),
            (Compression::Bzip2, bzip2.finish().expect("finish")),
            (Compression::Xz, xz.finish().expect("finish")),
            (Compression::Zstd, zstd),
        ]
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        decompress(bytes)?.0.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_is_an_error() {
        for (compression, bytes) in compressed() {
            assert_eq!(Compression::detect(&bytes), compression);
            assert_eq!(read(&bytes).expect("whole"), PLAIN);
            for length in Compression::LONGEST_MAGIC..bytes.len() {
                assert!(read(&bytes[..length]).is_err(), "{compression:?} cut at {length}");
            }
        }
    }

    #[test]
    fn streams_may_follow_one_another_and_gzip_ignores_what_else_follows() {
        for (compression, bytes) in compressed() {
            let twice = read(&[&bytes[..], &bytes].concat()).expect("two streams");
            assert_eq!(twice, PLAIN.repeat(2), "{compression:?}");
            if compression == Compression::Gzip {
                let padded = [&bytes[..], &[0; 700]].concat();
                assert_eq!(read(&padded).expect("padded"), PLAIN);
                assert!(read(&[&bytes[..], &bytes[..9]].concat()).is_err(), "a second one is cut");
            }
        }
    }
}
