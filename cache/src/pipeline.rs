//! A file that is digested and brought to the disk while it is written.
//!
//! Who writes it, the digest and the disk each take about as long for a big layer, so they work
//! side by side: the first buffers are worked off by the writer itself, and with more of them a
//! thread takes over the digest, a second one the writing, and a third one has the disk begin.
//!
//! Long runs of zeros are digested and not written: the file has holes there. What comes from
//! another file is copied in the kernel, without its holes; where the file system can, both files
//! have the same blocks then.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;

use crate::digest::Digest;
use crate::flush::Flusher;
use crate::layer::writer::{Output, Stretch};
use crate::parts::{Digesting, Noted};

/// Bytes that are written before threads are worth their starting.
const ALONE: u64 = 2 << 20;

/// Buffers on their way at once to each of the threads.
const QUEUE: usize = 4;

/// Bytes that are written at once. For more the kernel takes larger pieces of memory, such as a
/// hypervisor takes back when they are free; to have them again takes ten times as long as to write.
///
/// So many zeros become a hole. With smaller holes a file would have more extents than the blocks
/// they save are worth.
const PIECE: usize = 64 << 10;

static ZEROS: [u8; PIECE] = [0; PIECE];

/// A file in the making.
pub(crate) struct Pipeline {
    work: Work,
    /// What is written in pieces is gathered in it.
    buffer: Vec<u8>,
}

enum Work {
    /// The writer does all.
    Alone(Sparse, Digesting),
    /// Threads do what comes after the writing into buffers.
    Beside(Beside),
    /// It failed, and has said so.
    Failed,
}

struct Beside {
    full: SyncSender<Piece>,
    empty: Receiver<Vec<u8>>,
    worker: JoinHandle<io::Result<(Sparse, Digesting)>>,
}

/// What comes next in the file.
enum Piece {
    Bytes(Vec<u8>),
    Stretch(Stretch),
}

/// A file that is written.
pub(crate) struct Finished {
    pub(crate) file: File,
    pub(crate) digest: Digest,
    /// What a later tar that is like this one needs of the way to its digest.
    pub(crate) noted: Option<Noted>,
}

impl Pipeline {
    /// Starts with an empty file.
    pub(crate) fn new(file: File, digesting: Digesting) -> Self {
        Self { work: Work::Alone(Sparse::new(file), digesting), buffer: Vec::new() }
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
        if let Work::Alone(out, _) = &self.work
            && out.end >= ALONE
        {
            self.share()?;
        }
        match &mut self.work {
            Work::Alone(out, digesting) => {
                out.append(buffer)?;
                digesting.update(buffer)
            }
            Work::Beside(beside) => {
                let next = beside.empty.try_recv().unwrap_or_default();
                self.send(Piece::Bytes(std::mem::replace(buffer, next)))
            }
            Work::Failed => Err(failed_before()),
        }
    }

    /// Appends the bytes of another file.
    fn take_stretch(&mut self, stretch: Stretch) -> io::Result<()> {
        self.share()?;
        self.send(Piece::Stretch(stretch))
    }

    /// Starts the threads, if they do not run.
    fn share(&mut self) -> io::Result<()> {
        self.work = match std::mem::replace(&mut self.work, Work::Failed) {
            Work::Alone(out, digesting) => Work::Beside(Beside::start(out, digesting)?),
            work => work,
        };
        Ok(())
    }

    fn send(&mut self, piece: Piece) -> io::Result<()> {
        if let Work::Beside(beside) = &self.work
            && beside.full.send(piece).is_ok()
        {
            return Ok(());
        }
        match std::mem::replace(&mut self.work, Work::Failed) {
            Work::Beside(beside) => Err(beside.failure()),
            _ => Err(failed_before()),
        }
    }

    /// Ends the file. What is left to be brought to the disk is for the caller to sync, beside what
    /// else there is to do.
    pub(crate) fn finish(self) -> io::Result<Finished> {
        let (out, digesting) = match self.work {
            Work::Alone(out, digesting) => (out, digesting),
            Work::Beside(beside) => beside.finish()?,
            Work::Failed => return Err(failed_before()),
        };
        let file = out.finish()?;
        let (digest, noted) = digesting.finish()?;
        Ok(Finished { file, digest, noted })
    }
}

fn failed_before() -> io::Error {
    io::Error::other("an earlier write failed")
}

impl Output for &mut Pipeline {
    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        Pipeline::take(self, buffer)
    }

    fn take_stretch(&mut self, stretch: Stretch) -> io::Result<()> {
        Pipeline::take_stretch(self, stretch)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Beside {
    fn start(out: Sparse, digesting: Digesting) -> io::Result<Self> {
        let (full, to_digest) = sync_channel(QUEUE);
        let (to_fill, empty) = sync_channel(2 * QUEUE + 2);
        let worker = std::thread::Builder::new()
            .name("digest".into())
            .spawn(move || work(out, digesting, &to_digest, &to_fill))?;
        Ok(Self { full, empty, worker })
    }

    fn finish(self) -> io::Result<(Sparse, Digesting)> {
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

/// Digests pieces and has them written until there are no more.
fn work(
    out: Sparse,
    mut digesting: Digesting,
    full: &Receiver<Piece>,
    empty: &SyncSender<Vec<u8>>,
) -> io::Result<(Sparse, Digesting)> {
    let flusher = Flusher::new(&out.file, out.end)?;
    let (to_write, digested) = sync_channel(QUEUE);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write(out, flusher, &digested, empty));
        let mut failed = Ok(());
        for piece in full {
            failed = match &piece {
                Piece::Bytes(bytes) => digesting.update(bytes),
                Piece::Stretch(stretch) => digesting.update_from(stretch),
            };
            // The writer ends early only when it fails.
            if failed.is_err() || to_write.send(piece).is_err() {
                break;
            }
        }
        drop(to_write);
        let out = writer.join().expect("writing does not panic")?;
        failed.map(|()| (out, digesting))
    })
}

/// Writes pieces until there are no more, and calls for the disk now and then.
fn write(
    mut out: Sparse,
    mut flusher: Flusher,
    full: &Receiver<Piece>,
    empty: &SyncSender<Vec<u8>>,
) -> io::Result<Sparse> {
    for piece in full {
        match piece {
            Piece::Bytes(buffer) => {
                out.append(&buffer)?;
                flusher.wrote(buffer.len() as u64);
                let _ = empty.try_send(buffer);
            }
            Piece::Stretch(stretch) => {
                out.append_stretch(&stretch)?;
                flusher.wrote(stretch.length());
            }
        }
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

    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // What was never written is zeros: a piece may also be the beginning or end of a hole.
            let to_border = PIECE - (self.end % PIECE as u64) as usize;
            let (piece, rest) = bytes.split_at(bytes.len().min(to_border));
            if *piece != ZEROS[..piece.len()] {
                self.file.write_all_at(piece, self.end)?;
            }
            self.end += piece.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Copies what of a stretch is no hole.
    fn append_stretch(&mut self, stretch: &Stretch) -> io::Result<()> {
        let (from, mut at) = (&stretch.file, stretch.start);
        while at < stretch.end {
            let data = match seek(from, SeekFrom::Data(at)) {
                // What is left of the file is a hole.
                Err(Errno::NXIO) => stretch.end,
                data => data?.min(stretch.end),
            };
            self.end += data - at;
            at = data;
            let hole = if at < stretch.end { seek(from, SeekFrom::Hole(at))? } else { at };
            while at < hole.min(stretch.end) {
                let missing = usize::try_from(hole.min(stretch.end) - at).unwrap_or(usize::MAX);
                let (mut start, mut end) = (at, self.end);
                match copy_file_range(from, Some(&mut start), &self.file, Some(&mut end), missing) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(count) => {
                        at += count as u64;
                        self.end += count as u64;
                    }
                    Err(Errno::INTR) => {}
                    // There are file systems that cannot.
                    Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                        let rest =
                            Stretch { start: at, end: at + missing as u64, ..stretch.clone() };
                        rest.read(|bytes| self.append(bytes))?;
                        at = rest.end;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
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
            let mut out = Pipeline::new(file.reopen().expect("open"), Digesting::new());
            for part in bytes.chunks(512 * 1024) {
                out.write(part).expect("write");
            }
            let digest = out.finish().expect("finish").digest;
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
                let mut out = Pipeline::new(File::create(&path).expect("create"), Digesting::new());
                for part in bytes.chunks(part) {
                    out.write(part).expect("write");
                }
                let Finished { file, digest, .. } = out.finish().expect("finish");
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
        let mut out = Pipeline::new(full, Digesting::new());
        let error = out.write(b"x").expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);

        let file = tempfile::NamedTempFile::new().expect("file");
        // Not open for writing: every write fails, also the thread's.
        let read_only = Sparse::new(File::open(file.path()).expect("open"));
        let beside = Beside::start(read_only, Digesting::new()).expect("start");
        let mut out = Pipeline { work: Work::Beside(beside), buffer: Vec::new() };
        let written = (0..100).try_for_each(|_| out.write(&[1; 4096]));
        assert_eq!(written.expect_err("refused").raw_os_error(), Some(9));
        assert!(out.finish().is_err());
    }
}
