//! A file that is digested and brought to the disk while it is written.
//!
//! Who writes it, the digest and the disk each take about as long for a big layer, so they work
//! side by side: the first buffers are worked off by the writer itself, and with more of them a
//! thread takes over the digest, a second one the writing, and a third one has the disk begin.
//!
//! Long runs of zeros are digested and not written: the file has holes there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::digest::{Digest, Hasher};
use crate::flush::Flusher;
use crate::layer::writer::Output;

/// Bytes that are written before threads are worth their starting.
const ALONE: u64 = 2 << 20;

/// Buffers on their way at once to each of the threads.
const QUEUE: usize = 4;

/// So many zeros in one piece become a hole. With smaller holes a file would have more extents than
/// the blocks they save are worth.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A file in the making.
pub(crate) struct Pipeline {
    state: State,
    /// What is written in pieces is gathered in it.
    buffer: Vec<u8>,
}

enum State {
    /// The writer does all.
    Alone(Sparse, Hasher),
    /// Threads do what comes after the writing into buffers.
    Beside(Beside),
    /// It failed, and has said so.
    Failed,
}

struct Beside {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    worker: JoinHandle<io::Result<(Sparse, Hasher)>>,
}

impl Pipeline {
    /// Starts with an empty file.
    pub(crate) fn new(file: File) -> Self {
        Self { state: State::Alone(Sparse::new(file), Hasher::new()), buffer: Vec::new() }
    }

    /// Appends a copy of bytes; who has a buffer of its own need not copy, see [`Self::take`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend_from_slice(bytes);
        let taken = self.take(&mut buffer);
        self.buffer = buffer;
        taken
    }

    /// Appends the bytes of a buffer, and leaves one with anything in it.
    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        if let State::Alone(out, _) = &self.state
            && out.end >= ALONE
            && let State::Alone(out, hasher) = std::mem::replace(&mut self.state, State::Failed)
        {
            self.state = State::Beside(Beside::start(out, hasher)?);
        }
        match &mut self.state {
            State::Alone(out, hasher) => {
                out.append(buffer)?;
                hasher.update(buffer);
                return Ok(());
            }
            State::Beside(beside) if beside.exchange(buffer) => return Ok(()),
            State::Beside(_) | State::Failed => {}
        }
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Beside(beside) => Err(beside.failure()),
            _ => Err(io::Error::other("an earlier write failed")),
        }
    }

    /// Ends the file; returns it with its digest. What is left to be brought to the disk is for the
    /// caller to sync, beside what else there is to do.
    pub(crate) fn finish(self) -> io::Result<(File, Digest)> {
        let (out, hasher) = match self.state {
            State::Alone(out, hasher) => (out, hasher),
            State::Beside(beside) => beside.finish()?,
            State::Failed => return Err(io::Error::other("an earlier write failed")),
        };
        Ok((out.finish()?, hasher.finish()))
    }
}

impl Output for &mut Pipeline {
    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        Pipeline::take(self, buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Beside {
    fn start(out: Sparse, hasher: Hasher) -> io::Result<Self> {
        let (full, to_digest) = sync_channel(QUEUE);
        let (to_fill, empty) = sync_channel(2 * QUEUE + 2);
        let worker = std::thread::Builder::new()
            .name("digest".into())
            .spawn(move || work(out, hasher, &to_digest, &to_fill))?;
        Ok(Self { full, empty, worker })
    }

    /// Hands a buffer on and leaves another one; answers whether there was still somebody to take
    /// it.
    fn exchange(&self, buffer: &mut Vec<u8>) -> bool {
        let next = self.empty.try_recv().unwrap_or_default();
        self.full.send(std::mem::replace(buffer, next)).is_ok()
    }

    fn finish(self) -> io::Result<(Sparse, Hasher)> {
        drop(self.full);
        self.worker.join().expect("writing does not panic")
    }

    fn failure(self) -> io::Error {
        match self.finish() {
            Err(error) => error,
            Ok(_) => io::Error::other("the writing ended early"),
        }
    }
}

/// Digests buffers and has them written until there are no more.
fn work(
    out: Sparse,
    mut hasher: Hasher,
    full: &Receiver<Vec<u8>>,
    empty: &SyncSender<Vec<u8>>,
) -> io::Result<(Sparse, Hasher)> {
    let flusher = Flusher::new(&out.file, out.end)?;
    let (to_write, digested) = sync_channel(QUEUE);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write(out, flusher, &digested, empty));
        for buffer in full {
            hasher.update(&buffer);
            // The writer ends early only when it fails.
            if to_write.send(buffer).is_err() {
                break;
            }
        }
        drop(to_write);
        Ok((writer.join().expect("writing does not panic")?, hasher))
    })
}

/// Writes buffers until there are no more, and calls for the disk now and then.
fn write(
    mut out: Sparse,
    mut flusher: Flusher,
    full: &Receiver<Vec<u8>>,
    empty: &SyncSender<Vec<u8>>,
) -> io::Result<Sparse> {
    for buffer in full {
        out.append(&buffer)?;
        flusher.wrote(buffer.len());
        let _ = empty.try_send(buffer);
    }
    Ok(out)
}

/// A file that was empty and gets holes where long runs of zeros are appended.
struct Sparse {
    file: File,
    end: u64,
}

impl Sparse {
    fn new(file: File) -> Self {
        Self { file, end: 0 }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut at, mut data) = (0, 0);
        while at < bytes.len() {
            // What was never written is zeros: a piece may also be the beginning or end of a hole.
            let to_border = ZEROS.len() - ((self.end + at as u64) % ZEROS.len() as u64) as usize;
            let piece = &bytes[at..bytes.len().min(at + to_border)];
            if *piece == ZEROS[..piece.len()] {
                self.file.write_all_at(&bytes[data..at], self.end + data as u64)?;
                data = at + piece.len();
            }
            at += piece.len();
        }
        self.file.write_all_at(&bytes[data..], self.end + data as u64)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn finish(self) -> io::Result<File> {
        // A hole at the end is there by the length alone.
        self.file.set_len(self.end)?;
        Ok(self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_written_is_there_and_has_its_digest() {
        for size in [0, 1, 700_000, ALONE as usize, 9_000_001] {
            let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let file = tempfile::NamedTempFile::new().expect("file");
            let mut out = Pipeline::new(file.reopen().expect("open"));
            for part in bytes.chunks(512 * 1024) {
                out.write(part).expect("write");
            }
            let (_, digest) = out.finish().expect("finish");
            assert_eq!(digest, Digest::of(&bytes), "{size}");
            assert!(fs_err::read(file.path()).expect("read") == bytes, "{size}");
        }
    }

    #[test]
    fn runs_of_zeros_are_digested_and_take_no_blocks() {
        const MIB: usize = 1 << 20;
        let dir = tempfile::tempdir().expect("tempdir");
        let check = |pieces: &[(u8, usize)], most: u64| {
            let bytes: Vec<u8> = pieces
                .iter()
                .flat_map(|(byte, count)| std::iter::repeat_n(*byte, *count))
                .collect();
            // Whatever the bytes come in, and wherever they begin in the file's blocks.
            for part in [700, 65_536, 512 * 1024, usize::MAX] {
                let path = dir.path().join("file");
                let mut out = Pipeline::new(File::create(&path).expect("create"));
                for part in bytes.chunks(part) {
                    out.write(part).expect("write");
                }
                let (file, digest) = out.finish().expect("finish");
                assert_eq!(digest, Digest::of(&bytes), "{pieces:?} by {part}");
                assert!(fs_err::read(&path).expect("read") == bytes, "{pieces:?} by {part}");
                let taken = file.metadata().expect("stat").blocks() * 512;
                assert!(taken <= most, "{pieces:?} by {part} takes {taken}");
            }
        };
        check(&[(0, 8 * MIB)], 0);
        check(&[(1, 700), (0, 8 * MIB), (2, 700), (0, 3 * MIB)], 256 << 10);
        check(&[(0, 5 * MIB), (1, MIB), (0, 100), (1, 100)], (1 << 20) + (192 << 10));
    }

    #[test]
    fn a_full_disk_is_told_of() {
        let full = File::options().write(true).open("/dev/full").expect("open");
        let mut out = Pipeline::new(full);
        let error = out.write(b"x").expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);

        let file = tempfile::NamedTempFile::new().expect("file");
        // Not open for writing: every write fails, also the thread's.
        let read_only = Sparse::new(File::open(file.path()).expect("open"));
        let beside = Beside::start(read_only, Hasher::new()).expect("start");
        let mut out = Pipeline { state: State::Beside(beside), buffer: Vec::new() };
        let written = (0..100).try_for_each(|_| out.write(&[1; 4096]));
        assert_eq!(written.expect_err("refused").raw_os_error(), Some(9));
        assert!(out.finish().is_err());
    }
}
