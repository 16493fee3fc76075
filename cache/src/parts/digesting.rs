//! The digest of a tar in the making. What the tar has in common with an earlier one from the
//! beginning is digested only from the last state that is known of it; what else comes from there is
//! looked at, so that what has rotted on the disk since does not get into another layer.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::Crc;

use super::{Earlier, State};
use crate::digest::{Digest, Hasher};
use crate::layer::writer::Stretch;

/// Bytes of a tar that have one sum.
pub(super) const BLOCK: u64 = 64 << 10;

/// Bytes of a tar from one state of its digest that is kept to the next: whole blocks.
const BETWEEN_STATES: u64 = 64 * BLOCK;

/// The digest of a tar in the making.
pub(crate) struct Digesting {
    hasher: Hasher,
    /// Up to where it is digested.
    at: u64,
    /// What is noted on the way, if a later tar may be like this one.
    noted: Option<Noted>,
    earlier: Option<Arc<Earlier>>,
    /// Up to where it is the same as the earlier one; the hasher knows nothing of that yet.
    same: u64,
}

/// What a later tar is digested with that is like this one.
#[derive(Default)]
pub(crate) struct Noted {
    /// A sum of each block.
    pub(super) sums: Vec<u32>,
    /// The digest's states between some blocks.
    pub(super) states: Vec<State>,
    /// That of the block that is not whole yet.
    sum: Crc,
}

impl Digesting {
    /// Of a tar that no other one will be like.
    pub(crate) fn new() -> Self {
        Self { hasher: Hasher::new(), at: 0, noted: None, earlier: None, same: 0 }
    }

    /// Of one that is like an earlier one, or that a later one may be like.
    pub(super) fn noting(earlier: Option<Arc<Earlier>>) -> Self {
        Self { noted: Some(Noted::default()), earlier, ..Self::new() }
    }

    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.catch_up()?;
        self.add(bytes);
        Ok(())
    }

    /// Adds the bytes of a stretch of another file.
    pub(crate) fn update_from(&mut self, stretch: &Stretch) -> io::Result<()> {
        let earlier = self.earlier.clone().filter(|it| Arc::ptr_eq(&it.tar, &stretch.file));
        let Some(earlier) = earlier else {
            self.catch_up()?;
            return stretch.read(|bytes| {
                self.add(bytes);
                Ok(())
            });
        };
        if self.at == 0 && self.same == stretch.start {
            self.same = stretch.end;
            return Ok(());
        }
        self.catch_up()?;
        self.add_from(&earlier, stretch.start, stretch.end)
    }

    /// The digest, and what was noted on the way to it.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, Option<Noted>)> {
        self.catch_up()?;
        if let Some(noted) = &mut self.noted
            && !self.at.is_multiple_of(BLOCK)
        {
            noted.sums.push(noted.sum.sum());
        }
        Ok((self.hasher.finish(), self.noted))
    }

    fn add(&mut self, mut bytes: &[u8]) {
        let Some(noted) = &mut self.noted else {
            self.hasher.update(bytes);
            self.at += bytes.len() as u64;
            return;
        };
        while !bytes.is_empty() {
            let to_border = (BLOCK - self.at % BLOCK) as usize;
            let (piece, rest) = bytes.split_at(bytes.len().min(to_border));
            self.hasher.update(piece);
            noted.sum.update(piece);
            self.at += piece.len() as u64;
            if self.at.is_multiple_of(BLOCK) {
                noted.sums.push(noted.sum.sum());
                noted.sum.reset();
            }
            if self.at.is_multiple_of(BETWEEN_STATES) {
                noted.states.push((self.at, self.hasher.state()));
            }
            bytes = rest;
        }
    }

    /// Adds bytes of an earlier tar if they are what was written.
    fn add_from(&mut self, earlier: &Earlier, start: u64, end: u64) -> io::Result<()> {
        let mut buffer = vec![0; BLOCK as usize];
        let first = start / BLOCK;
        for number in first..end.div_ceil(BLOCK) {
            let at = number * BLOCK;
            let block = &mut buffer[..(earlier.length - at).min(BLOCK) as usize];
            earlier.tar.read_exact_at(block, at).map_err(|_| earlier.found_rotten())?;
            let mut sum = Crc::new();
            sum.update(block);
            if earlier.sums.get(number as usize) != Some(&sum.sum()) {
                return Err(earlier.found_rotten());
            }
            let (from, to) = (start.saturating_sub(at), (end - at).min(BLOCK));
            self.add(&block[from as usize..to as usize]);
        }
        Ok(())
    }

    /// Digests what is the same, from the last known state on.
    fn catch_up(&mut self) -> io::Result<()> {
        if self.same <= self.at {
            return Ok(());
        }
        let earlier = self.earlier.clone().expect("it is the same as that");
        let known = earlier.states.iter().take_while(|(at, _)| *at <= self.same);
        let states: Vec<State> = known.cloned().collect();
        if let Some((at, state)) = states.last()
            && let Some(hasher) = Hasher::from_state(state)
        {
            (self.at, self.hasher) = (*at, hasher);
            let sums = earlier.sums[..(at / BLOCK) as usize].to_vec();
            self.noted = Some(Noted { sums, states, sum: Crc::new() });
        }
        self.add_from(&earlier, self.at, self.same)
    }
}
