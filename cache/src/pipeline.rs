//! A file that is digested and brought to the disk while it is written.
//!
//! Who writes it, the digest and the disk each take about as long for a big layer, so they work
//! side by side: the first buffers are worked off by the writer itself, and with more of them a
//! thread takes over the digest and the writing, and a second one has the disk begin.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::digest::{Digest, DigestWriter};

/// Bytes that are written before threads are worth their starting.
const ALONE: u64 = 2 << 20;

/// Bytes between two calls for the disk.
const FLUSH_EVERY: u64 = 16 << 20;

/// Buffers on their way at once.
const QUEUE: usize = 4;

/// A file in the making.
pub(crate) struct Pipeline(State);

enum State {
    /// The writer does all.
    Alone(DigestWriter<File>, u64),
    /// A thread does what comes after the writing into buffers.
    Beside(Beside),
    /// It failed, and has said so.
    Failed,
}

struct Beside {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    worker: JoinHandle<io::Result<DigestWriter<File>>>,
}

impl Pipeline {
    /// Starts with an empty file.
    pub(crate) fn new(file: File) -> Self {
        Self(State::Alone(DigestWriter::new(file), 0))
    }

    /// Ends the file; returns it synced, with its digest.
    pub(crate) fn finish(self) -> io::Result<(File, Digest)> {
        let out = match self.0 {
            State::Alone(out, _) => out,
            State::Beside(beside) => beside.finish()?,
            State::Failed => return Err(io::Error::other("an earlier write failed")),
        };
        let (file, digest) = out.finish();
        file.sync_all()?;
        Ok((file, digest))
    }
}

impl Write for Pipeline {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let State::Alone(_, written) = &self.0
            && *written >= ALONE
            && let State::Alone(out, _) = std::mem::replace(&mut self.0, State::Failed)
        {
            self.0 = State::Beside(Beside::start(out)?);
        }
        match &mut self.0 {
            State::Alone(out, written) => {
                let count = out.write(bytes)?;
                *written += count as u64;
                return Ok(count);
            }
            State::Beside(beside) if beside.send(bytes) => return Ok(bytes.len()),
            State::Beside(_) | State::Failed => {}
        }
        match std::mem::replace(&mut self.0, State::Failed) {
            State::Beside(beside) => Err(beside.failure()),
            _ => Err(io::Error::other("an earlier write failed")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Beside {
    fn start(out: DigestWriter<File>) -> io::Result<Self> {
        let (full, to_write) = sync_channel::<Vec<u8>>(QUEUE);
        let (to_fill, empty) = sync_channel(QUEUE + 2);
        let worker = std::thread::Builder::new()
            .name("digest".into())
            .spawn(move || work(out, &to_write, &to_fill))?;
        Ok(Self { full, empty, worker })
    }

    /// Hands bytes on; answers whether there is still somebody to take them.
    fn send(&self, bytes: &[u8]) -> bool {
        let mut buffer = self.empty.try_recv().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        self.full.send(buffer).is_ok()
    }

    fn finish(self) -> io::Result<DigestWriter<File>> {
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

/// Digests and writes buffers until there are no more.
fn work(
    mut out: DigestWriter<File>,
    full: &Receiver<Vec<u8>>,
    empty: &SyncSender<Vec<u8>>,
) -> io::Result<DigestWriter<File>> {
    let file = out.inner().try_clone()?;
    let (flush, flushes) = sync_channel::<()>(1);
    std::thread::scope(|scope| {
        // Nobody waits for it: what it leaves, and what goes wrong, the sync at the end finds.
        scope.spawn(move || flushes.iter().for_each(|()| drop(file.sync_data())));
        let mut unflushed = 0;
        for buffer in full {
            out.write_all(&buffer)?;
            unflushed += buffer.len() as u64;
            if unflushed >= FLUSH_EVERY && flush.try_send(()).is_ok() {
                unflushed = 0;
            }
            let _ = empty.try_send(buffer);
        }
        drop(flush);
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_and_has_its_digest() {
        for size in [0, 1, 700_000, ALONE as usize, 9_000_001] {
            let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let file = tempfile::NamedTempFile::new().expect("file");
            let mut out = Pipeline::new(file.reopen().expect("open"));
            for part in bytes.chunks(512 * 1024) {
                out.write_all(part).expect("write");
            }
            let (_, digest) = out.finish().expect("finish");
            assert_eq!(digest, Digest::of(&bytes), "{size}");
            assert!(fs_err::read(file.path()).expect("read") == bytes, "{size}");
        }
    }

    #[test]
    fn a_full_disk_is_told_of() {
        let full = File::options().write(true).open("/dev/full").expect("open");
        let mut out = Pipeline::new(full);
        let error = out.write_all(b"x").expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);

        let file = tempfile::NamedTempFile::new().expect("file");
        // Not open for writing: every write fails, also the thread's.
        let mut out = Pipeline(State::Beside(
            Beside::start(DigestWriter::new(File::open(file.path()).expect("open")))
                .expect("start"),
        ));
        let written = (0..100).try_for_each(|_| out.write_all(&[0; 4096]));
        assert_eq!(written.expect_err("refused").raw_os_error(), Some(9));
        assert!(out.finish().is_err());
    }
}
