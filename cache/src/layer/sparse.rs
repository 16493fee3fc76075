//! Sparse files as GNU tar stores them: a map of where the stored bytes belong.
//!
//! Four encodings of the same map: in the header blocks (old GNU), and pax versions 0.0, 0.1 and
//! 1.0. Only the map is here; the reader fills the holes with zeros.

use super::pax::{Records, decimal};
use super::reader::Part;

/// Which parts of a file are stored.
#[derive(Debug)]
pub(super) struct Map {
    /// Offset and length of each part in order, without overlaps.
    parts: Vec<(u64, u64)>,
    /// The length of the whole file.
    pub(super) size: u64,
    /// The first part that does not end at or before `position`.
    next: usize,
    position: u64,
}

/// What comes next in a sparse file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// This many zeros.
    Hole(u64),
    /// This many stored bytes.
    Stored(u64),
    /// Nothing more.
    End,
}

impl Map {
    /// Makes a map of offsets and lengths in turn, if they are in order, fit into `size`, and
    /// account for exactly `stored` bytes.
    pub(super) fn new(numbers: &[u64], size: u64, stored: u64) -> Option<Self> {
        let (pairs, []) = numbers.as_chunks::<2>() else {
            return None;
        };
        let (mut end, mut total) = (0, 0_u64);
        for &[offset, length] in pairs {
            if offset < end {
                return None;
            }
            end = offset.checked_add(length)?;
            total = total.checked_add(length)?;
        }
        let parts = pairs.iter().map(|&[offset, length]| (offset, length)).collect();
        (end <= size && total == stored).then_some(Self { parts, size, next: 0, position: 0 })
    }

    /// Returns all parts, of which the first is stored at `position` and the others follow.
    pub(super) fn parts(&self, mut position: u64) -> impl Iterator<Item = Part> {
        self.parts.iter().map(move |&(offset, length)| {
            let part = Part { offset, length, position };
            position += length;
            part
        })
    }

    /// Returns what comes next.
    pub(super) fn run(&self) -> Run {
        match self.parts[self.next..]
            .iter()
            .find(|(offset, length)| offset + length > self.position)
        {
            Some(&(offset, _)) if offset > self.position => Run::Hole(offset - self.position),
            Some(&(offset, length)) => Run::Stored(offset + length - self.position),
            None if self.size > self.position => Run::Hole(self.size - self.position),
            None => Run::End,
        }
    }

    /// Moves on by `count` bytes of the file.
    pub(super) fn advance(&mut self, count: u64) {
        self.position += count;
        while self
            .parts
            .get(self.next)
            .is_some_and(|(offset, length)| offset + length <= self.position)
        {
            self.next += 1;
        }
    }
}

/// Returns the numbers of a map in extended records (0.0 and 0.1) with the file's size.
pub(super) fn numbers_in_records(records: &Records) -> Option<Vec<u64>> {
    match records.get("GNU.sparse.map") {
        Some(map) => map.split(|&byte| byte == b',').map(decimal).collect(),
        None => Some(records.sparse().to_vec()),
    }
}

/// Reads the map at the head of a file's content (1.0): decimal lines, their count first.
///
/// `more` adds the next block of content to the text, or fails.
pub(super) fn numbers_in_content<E>(
    mut more: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Option<Vec<u64>>, E> {
    let (mut text, mut lines, mut wanted) = (Vec::new(), 0, None);
    while wanted.is_none_or(|wanted| lines <= wanted) {
        let known = text.len();
        more(&mut text)?;
        lines += text[known..].iter().filter(|&&byte| byte == b'\n').count();
        if wanted.is_none() {
            let count = text.split(|&byte| byte == b'\n').next().and_then(decimal);
            wanted = count.and_then(|count| usize::try_from(count).ok()?.checked_mul(2));
            if lines == 0 || wanted.is_none() {
                return Ok(None);
            }
        }
    }
    // What follows the map in its last block is padding, not numbers.
    Ok(text.split(|&byte| byte == b'\n').skip(1).take(wanted.unwrap_or(0)).map(decimal).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(numbers: &[u64], size: u64, stored: u64) -> Option<Vec<Run>> {
        let mut map = Map::new(numbers, size, stored)?;
        let mut runs = Vec::new();
        loop {
            match map.run() {
                Run::End => return Some(runs),
                Run::Hole(count) | Run::Stored(count) => {
                    runs.push(map.run());
                    map.advance(count);
                }
            }
        }
    }

    #[test]
    fn a_map_covers_the_file() {
        use Run::{Hole, Stored};
        for (numbers, size, stored, expected) in [
            (&[][..], 0, 0, Some(vec![])),
            (&[], 5, 0, Some(vec![Hole(5)])),
            (&[0, 5], 5, 5, Some(vec![Stored(5)])),
            (&[2, 3, 5, 0], 5, 3, Some(vec![Hole(2), Stored(3)])),
            (&[2, 3, 7, 1], 9, 4, Some(vec![Hole(2), Stored(3), Hole(2), Stored(1), Hole(1)])),
            (&[2, 3, 4, 1], 9, 4, None),
            (&[2, 3], 4, 3, None),
            (&[2, 3], 9, 4, None),
            (&[2, u64::MAX], 9, 4, None),
            (&[2], 9, 4, None),
        ] {
            assert_eq!(runs(numbers, size, stored), expected, "{numbers:?} of {size}");
        }
    }
}
