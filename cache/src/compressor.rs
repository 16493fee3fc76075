//! Compression of layers on their way out, on all cores.
//!
//! The same bytes in give the same bytes out on any machine, however many cores it has: what is
//! compressed side by side are blocks of a fixed length. Does not know where the bytes go.

use std::io::{self, Read, Write};

use flate2::{Compress, Compression as Level, Crc, FlushCompress, Status};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As it is.
    Uncompressed,
    /// RFC 1952, level 0 to 9.
    Gzip(u32),
    /// RFC 8878, level 1 to 22.
    Zstd(i32),
}

impl Format {
    /// What docker's `gzip` means.
    pub const GZIP: Self = Self::Gzip(6);
    /// What zstd does by itself.
    pub const ZSTD: Self = Self::Zstd(3);

    /// Compresses all of `input`.
    pub fn compress(
        self,
        input: &mut (impl Read + Send),
        output: &mut impl Write,
    ) -> io::Result<()> {
        match self {
            Self::Uncompressed => io::copy(input, output).map(drop),
            Self::Gzip(level) => gzip(input, output, Level::new(level.min(9))),
            Self::Zstd(level) => zstd(input, output, level),
        }
    }
}

fn zstd(input: &mut impl Read, output: &mut impl Write, level: i32) -> io::Result<()> {
    let mut encoder = zstd::stream::write::Encoder::new(output, level.clamp(1, 22))?;
    encoder.include_checksum(true)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    encoder.multithread(u32::try_from(cores).unwrap_or(1))?;
    // By itself each thread would hold four windows' length of input, and as much again.
    encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(JOB))?;
    let mut buffer = vec![0; BLOCK];
    loop {
        match fill(input, &mut buffer)? {
            0 => break,
            length => encoder.write_all(&buffer[..length])?,
        }
    }
    encoder.finish().map(drop)
}

/// Bytes that are compressed by one core at a time.
const BLOCK: usize = 1 << 18;
/// Bytes that zstd gives to a thread at a time.
const JOB: u32 = 1 << 21;
/// How much of a block is tried before the work of compressing it.
const SAMPLE: usize = 1 << 13;
/// How far deflate looks back (RFC 1951).
const WINDOW: usize = 1 << 15;
/// What a member begins with: no name, no time, no extra flags, made on a system unknown.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A last block that is empty.
const DEFLATE_END: [u8; 2] = [3, 0];

/// One gzip member, made in the way of pigz: each block is compressed with the end of the one before
/// it as its dictionary, and ends at a byte's border, so that blocks can stand one after another.
fn gzip(input: &mut (impl Read + Send), output: &mut impl Write, level: Level) -> io::Result<()> {
    output.write_all(&GZIP_HEADER)?;
    let mut crc = Crc::new();
    // What comes before a batch, then the batch: read while the one before is compressed.
    let batch = || vec![0; WINDOW + BLOCK * 2 * rayon::current_num_threads()];
    let (mut current, mut next) = (batch(), batch());
    let mut before = 0;
    let mut length = fill(input, &mut current[WINDOW..])?;
    while length > 0 {
        let bytes = &current[WINDOW - before..WINDOW + length];
        let starts: Vec<usize> = (before..bytes.len()).step_by(BLOCK).collect();
        let mut read = Ok(0);
        let mut blocks = Vec::new();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| fill(input, &mut next[WINDOW..]));
            blocks = starts.par_iter().map(|start| deflate(bytes, *start, level)).collect();
            read = reader.join().expect("reading does not panic");
        });
        crc.update(&bytes[before..]);
        for block in blocks {
            output.write_all(&block?)?;
        }
        before = bytes.len().min(WINDOW);
        let tail = bytes[bytes.len() - before..].to_vec();
        next[WINDOW - before..WINDOW].copy_from_slice(&tail);
        std::mem::swap(&mut current, &mut next);
        length = read?;
    }
    output.write_all(&DEFLATE_END)?;
    output.write_all(&crc.sum().to_le_bytes())?;
    output.write_all(&crc.amount().to_le_bytes())
}

/// Compresses the block that begins at `start`, up to a byte's border.
fn deflate(bytes: &[u8], start: usize, level: Level) -> io::Result<Vec<u8>> {
    let block = &bytes[start..bytes.len().min(start + BLOCK)];
    let mut state = Compress::new(worth(block, level), false);
    let dictionary = &bytes[start.saturating_sub(WINDOW)..start];
    if !dictionary.is_empty() {
        state.set_dictionary(dictionary).map_err(io::Error::other)?;
    }
    let mut out = Vec::with_capacity(block.len() / 2 + 64);
    loop {
        let done = state.total_in() as usize;
        let status = state
            .compress_vec(&block[done..], &mut out, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        // With room to spare, all is written.
        if out.len() < out.capacity() && state.total_in() as usize == block.len() {
            return Ok(out);
        }
        if status == Status::BufError || out.len() == out.capacity() {
            out.reserve(BLOCK / 4);
        }
    }
}

/// How much work a block is worth: what is compressed already, as archives and pictures are, is
/// stored as it is.
fn worth(block: &[u8], level: Level) -> Level {
    if block.len() < 4 * SAMPLE {
        return level;
    }
    let middle = block.len() / 2;
    let is_dense = [0, middle, block.len() - SAMPLE].iter().all(|at| {
        let mut out = Vec::with_capacity(2 * SAMPLE);
        let sample = &block[*at..at + SAMPLE];
        let tried =
            Compress::new(Level::new(1), false).compress_vec(sample, &mut out, FlushCompress::Sync);
        tried.is_ok() && out.len() > SAMPLE - SAMPLE / 50
    });
    if is_dense { Level::none() } else { level }
}

/// Reads until the buffer is full or nothing more comes.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match input.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::decompress;
    use crate::digest::Digest;

    fn noise() -> impl FnMut() -> u8 {
        let mut seed = 1_u32;
        move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        }
    }

    fn sample_of_noise(length: usize) -> Vec<u8> {
        let mut noise = noise();
        (0..length).map(|_| noise()).collect()
    }

    /// Text that compresses, and noise that does not.
    fn sample(length: usize) -> Vec<u8> {
        let mut noise = noise();
        let line = |at: usize| format!("line {} of a file\n", at / 7).into_bytes();
        let mut bytes = Vec::with_capacity(length + 64);
        while bytes.len() < length {
            match (bytes.len() / 50_000) % 3 {
                0 => bytes.push(noise()),
                _ => bytes.extend(line(bytes.len())),
            }
        }
        bytes.truncate(length);
        bytes
    }

    fn compressed(format: Format, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        format.compress(&mut &*bytes, &mut out).expect("compress");
        out
    }

    #[test]
    fn what_was_compressed_is_read_back() {
        let long = 2 * BLOCK * 2 * rayon::current_num_threads() + 12_345;
        for length in [0, 1, WINDOW, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7, long] {
            let bytes = sample(length);
            for format in [Format::Gzip(1), Format::GZIP, Format::ZSTD, Format::Uncompressed] {
                let out = compressed(format, &bytes);
                let mut back = Vec::new();
                if format == Format::Uncompressed {
                    back.clone_from(&out);
                } else {
                    decompress(&*out).expect("begin").0.read_to_end(&mut back).expect("read");
                }
                assert!(back == bytes, "{format:?} of {length} bytes");
            }
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_cores() {
        let bytes = sample(5 * BLOCK + 99);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
            pool.install(|| Digest::of(compressed(Format::GZIP, &bytes)))
        };
        assert_eq!(with(1), with(3));
    }

    #[test]
    fn what_is_compressed_already_is_stored() {
        let noise = sample_of_noise(3 * BLOCK + 5);
        let out = compressed(Format::GZIP, &noise);
        assert!(out.len() < noise.len() + noise.len() / 1000, "{} bytes", out.len());
        let mut back = Vec::new();
        decompress(&*out).expect("begin").0.read_to_end(&mut back).expect("read");
        assert!(back == noise);
        assert!(worth(&noise[..BLOCK], Level::new(6)) == Level::none());
        assert!(worth(&sample(BLOCK), Level::new(6)) == Level::new(6));
    }

    #[test]
    fn blocks_beside_each_other_cost_little() {
        let bytes = sample(4 * BLOCK);
        let mut whole = flate2::write::GzEncoder::new(Vec::new(), Level::new(6));
        whole.write_all(&bytes).expect("write");
        let whole = whole.finish().expect("finish").len();
        let ours = compressed(Format::GZIP, &bytes).len();
        assert!(ours < whole + whole / 100, "{ours} bytes, in one piece {whole}");
    }
}
