//! Writes an image from front to back, and knows how far it has come.
//!
//! Does not know what it writes.

use std::io::{self, Write};

/// Fields are small, and calls are not.
const BUFFER: usize = 64 * 1024;

/// Bytes on their way out.
pub(super) struct Output<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
    written: u64,
}

impl<'a> Output<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, buffer: Vec::with_capacity(BUFFER), written: 0 }
    }

    pub(super) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while self.buffer.len() + rest.len() > BUFFER {
            let (now, later) = rest.split_at(BUFFER - self.buffer.len());
            self.buffer.extend_from_slice(now);
            self.flush()?;
            rest = later;
        }
        self.buffer.extend_from_slice(rest);
        Ok(())
    }

    /// Writes zeros up to a position, which must not be behind.
    pub(super) fn pad_to(&mut self, position: u64) -> io::Result<()> {
        const ZEROS: [u8; 512] = [0; 512];
        let mut missing = position.checked_sub(self.position()).expect("places are in order");
        while missing > 0 {
            let count = missing.min(ZEROS.len() as u64);
            self.put(&ZEROS[..count as usize])?;
            missing -= count;
        }
        Ok(())
    }

    /// Writes out what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.out.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
