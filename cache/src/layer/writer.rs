//! Writes a layer's tar in its one canonical form.
//!
//! An entry is a ustar header where that can say everything, and has extended records for exactly
//! what it cannot: long or non-ASCII names, numbers too big, times before the epoch or between
//! seconds, extended attributes. The same entries always give the same bytes. Does not sort,
//! check for duplicates, or know what a whiteout is.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tar::Header;

use super::block::{BLOCK, padding, put_checksum, put_octal};
use super::entry::{Entry, Kind, Timestamp, split};
use super::pax::{self, Records};
use super::{Error, entry};
use crate::content::ContentDigest;

/// Big enough that a digest and a file system see few calls, small enough for the cache.
const BUFFER: usize = 256 * 1024;

/// Below this much room the buffer is written out before content is read into it.
const READ_AT_LEAST: usize = 64 * 1024;

/// So many bytes from elsewhere are handed on at once: who works them off need not wait for the last.
const STRETCH: u64 = 16 << 20;

/// Takes the entries of a layer in their order: the tar itself, or what keeps a record of it too.
///
/// Who knows an earlier layer that this one is like can take entries from it.
pub trait Append {
    /// Adds an entry; of `data`, a file's size is read and the rest ignored.
    fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error>;

    /// Whether anything can be found in an earlier layer.
    fn has_earlier(&self) -> bool {
        false
    }

    /// Where an earlier layer has the same entry, for [`Self::append_from`]. `content` is the digest
    /// of a file's content and of its attributes, which the entry need not have.
    fn find(&self, entry: &Entry, content: Option<&ContentDigest>) -> Option<Place> {
        let _ = (entry, content);
        None
    }

    /// Adds an entry that was found.
    fn append_from(&mut self, entry: &Entry, place: Place) -> Result<(), Error> {
        unreachable!("{place:?} of {entry:?} was not found here")
    }

    /// Says what content the entry that was added last has, so that a later layer finds it.
    fn note(&mut self, entry: &Entry, content: Option<&ContentDigest>) {
        let _ = (entry, content);
    }
}

/// Where an entry is in an earlier layer.
///
/// One that is there or not takes no more room than one: there may be very many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(NonZeroU32);

impl Place {
    /// That of the entry with this number, from 0.
    pub(crate) fn of(number: u32) -> Option<Self> {
        Some(Self(NonZeroU32::MIN.checked_add(number)?))
    }

    /// The entry's number.
    pub(crate) fn number(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Bytes of a file.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The file.
    pub file: Arc<File>,
    /// Where they begin.
    pub start: u64,
    /// Where they end.
    pub end: u64,
}

impl Stretch {
    /// How many they are.
    pub fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Reads them, piece by piece.
    pub fn read(&self, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let (mut buffer, mut at) = (vec![0; BUFFER], self.start);
        while at < self.end {
            let wanted = (self.end - at).min(BUFFER as u64) as usize;
            match self.file.read_at(&mut buffer[..wanted], at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    each(&buffer[..count])?;
                    at += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Where a tar goes, buffer by buffer.
pub trait Output {
    /// Takes the bytes of a buffer, and leaves one with anything in it, of any length.
    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<()>;

    /// Takes the bytes of another file.
    fn take_stretch(&mut self, stretch: Stretch) -> io::Result<()>;

    /// Brings what was taken on its way.
    fn flush(&mut self) -> io::Result<()>;
}

impl<W: Write> Output for W {
    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.write_all(buffer)
    }

    fn take_stretch(&mut self, stretch: Stretch) -> io::Result<()> {
        stretch.read(|bytes| self.write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(self)
    }
}

impl<W: Output> Append for LayerWriter<W> {
    fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error> {
        LayerWriter::append(self, entry, data)
    }
}

/// A layer's tar in the making.
///
/// Without [`finish`](Self::finish) the tar lacks its end and perhaps more.
pub struct LayerWriter<W> {
    output: W,
    // Content is read straight into it, behind the header before it.
    buffer: Vec<u8>,
    filled: usize,
    written: u64,
    /// What is to be handed on with what may follow it in its file; then the buffer is empty.
    stretch: Option<Stretch>,
}

impl<W: Output> LayerWriter<W> {
    /// Starts an empty layer. `output` need not be buffered.
    pub fn new(output: W) -> Self {
        Self { output, buffer: vec![0; BUFFER], filled: 0, written: 0, stretch: None }
    }

    /// Returns how long the tar is so far.
    pub fn position(&self) -> u64 {
        let stretch = self.stretch.as_ref().map_or(0, Stretch::length);
        self.written + self.filled as u64 + stretch
    }

    /// Adds an entry; of `data`, a file's size is read and the rest ignored.
    pub fn append(&mut self, entry: &Entry, data: impl Read) -> Result<(), Error> {
        let mut records = Records::default();
        let header = encode(entry, &mut records)?;
        if !records.is_empty() {
            let text = records.encode();
            self.put(pax_header(entry, text.len()).as_bytes())?;
            self.put(&text)?;
            self.put_zeros(padding(text.len() as u64))?;
        }
        self.put(header.as_bytes())?;
        self.put_content(entry, data)?;
        self.put_zeros(padding(entry.size()))
    }

    /// Adds whole entries from another tar in the same form.
    pub(crate) fn append_stretch(&mut self, next: Stretch) -> Result<(), Error> {
        match &mut self.stretch {
            Some(stretch)
                if Arc::ptr_eq(&stretch.file, &next.file)
                    && stretch.end == next.start
                    && stretch.length() < STRETCH =>
            {
                stretch.end = next.end;
            }
            _ => {
                self.flush()?;
                self.stretch = Some(next);
            }
        }
        Ok(())
    }

    /// Ends the tar and returns what it was written to.
    pub fn finish(mut self) -> Result<W, Error> {
        self.put_zeros(2 * BLOCK as u64)?;
        self.hand_over()?;
        self.output.flush().map_err(|source| Error::Write { source })?;
        Ok(self.output)
    }

    fn put_content(&mut self, entry: &Entry, mut data: impl Read) -> Result<(), Error> {
        debug_assert!(self.stretch.is_none(), "a header comes before content");
        let mut missing = entry.size();
        while missing > 0 {
            let room = self.buffer.len() - self.filled;
            if (room as u64) < missing && room < READ_AT_LEAST {
                self.flush()?;
                continue;
            }
            let room = &mut self.buffer[self.filled..];
            let wanted = room.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
            match data.read(&mut room[..wanted]) {
                Ok(0) => {
                    return Err(Error::Shrunk { path: entry.path.clone(), missing });
                }
                Ok(count) => {
                    self.filled += count;
                    missing -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::Content { path: entry.path.clone(), source });
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.stretch.is_some() {
            self.flush()?;
        }
        // Attributes may be longer than the buffer.
        for part in bytes.chunks(BUFFER) {
            if part.len() > self.buffer.len() - self.filled {
                self.flush()?;
            }
            self.buffer[self.filled..][..part.len()].copy_from_slice(part);
            self.filled += part.len();
        }
        Ok(())
    }

    fn put_zeros(&mut self, count: u64) -> Result<(), Error> {
        const ZEROS: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
        let count = usize::try_from(count).expect("padding is less than two blocks");
        self.put(&ZEROS[..count])
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.hand_over()?;
        self.buffer.resize(BUFFER, 0);
        Ok(())
    }

    /// Leaves a buffer of any length.
    fn hand_over(&mut self) -> Result<(), Error> {
        if let Some(stretch) = self.stretch.take() {
            self.written += stretch.length();
            return self.output.take_stretch(stretch).map_err(|source| Error::Write { source });
        }
        if self.filled == 0 {
            return Ok(());
        }
        self.buffer.truncate(self.filled);
        self.written += self.filled as u64;
        self.filled = 0;
        self.output.take(&mut self.buffer).map_err(|source| Error::Write { source })
    }
}

/// Returns the entry's header, and puts what that cannot say into `records`.
fn encode(entry: &Entry, records: &mut Records) -> Result<Header, Error> {
    let mut header = Header::new_ustar();
    let fields = header.as_ustar_mut().expect("made as one");
    put_name(&mut fields.name, &mut fields.prefix, &stored_name(entry), records);
    put_octal(&mut fields.mode, u64::from(entry.mode & 0o7777));
    put_number(&mut fields.uid, entry.uid, b"uid", records);
    put_number(&mut fields.gid, entry.gid, b"gid", records);
    put_number(&mut fields.size, entry.size(), b"size", records);
    put_time(&mut fields.mtime, entry.mtime, records);
    fields.typeflag = [typeflag(&entry.kind)];
    let (mut major, mut minor) = (0, 0);
    match &entry.kind {
        Kind::Symlink(target) | Kind::Hardlink(target) => {
            put_link(&mut fields.linkname, target, records)
        }
        Kind::Char(a, b) | Kind::Block(a, b) => (major, minor) = (*a, *b),
        Kind::File { .. } | Kind::Directory | Kind::Fifo => {}
    }
    let fits = put_octal(&mut fields.dev_major, u64::from(major))
        & put_octal(&mut fields.dev_minor, u64::from(minor));
    check(entry, fits)?;
    for (name, value) in &entry.xattrs {
        records.insert(&[pax::XATTR, name].concat(), value.as_slice());
    }
    put_checksum(&mut header);
    Ok(header)
}

/// Refuses what would be read back as something else.
fn check(entry: &Entry, device_fits: bool) -> Result<(), Error> {
    let link: &[u8] = match &entry.kind {
        Kind::Symlink(target) | Kind::Hardlink(target) => target,
        _ => b"",
    };
    let reason = if !device_fits {
        "the device number is too big"
    } else if entry.path.contains(&0) || link.contains(&0) {
        "a name contains NUL"
    } else if entry.path.is_empty() && entry.kind != Kind::Directory {
        "the root is not a directory"
    } else if entry.xattrs.keys().any(|name| name.is_empty() || name.contains(&b'=')) {
        "an extended attribute's name contains \"=\""
    } else {
        return Ok(());
    };
    Err(Error::Inexpressible { path: entry.path.clone(), reason })
}

fn stored_name(entry: &Entry) -> Cow<'_, [u8]> {
    match entry.kind {
        Kind::Directory if entry.path.is_empty() => Cow::Borrowed(b"./"),
        Kind::Directory => Cow::Owned([&entry.path[..], b"/"].concat()),
        _ => Cow::Borrowed(&entry.path),
    }
}

fn typeflag(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } => b'0',
        Kind::Hardlink(_) => b'1',
        Kind::Symlink(_) => b'2',
        Kind::Char(..) => b'3',
        Kind::Block(..) => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

fn put_name(name: &mut [u8; 100], prefix: &mut [u8; 155], path: &[u8], records: &mut Records) {
    if path.is_ascii() && path.len() <= name.len() {
        name[..path.len()].copy_from_slice(path);
    } else if let Some((before, after)) = ustar_split(path) {
        prefix[..before.len()].copy_from_slice(before);
        name[..after.len()].copy_from_slice(after);
    } else {
        records.insert(b"path", path);
        put_ascii(name, path);
    }
}

fn put_link(field: &mut [u8; 100], target: &[u8], records: &mut Records) {
    if !target.is_ascii() || target.len() > field.len() {
        records.insert(b"linkpath", target);
    }
    put_ascii(field, target);
}

/// Splits a long ASCII name at the last slash that lets both parts fit.
fn ustar_split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    // A directory's own slash stays with its name.
    let body = path.strip_suffix(b"/").unwrap_or(path);
    let slash = body.iter().take(156).rposition(|&byte| byte == b'/')?;
    let (before, after) = (&path[..slash], &path[slash + 1..]);
    (path.is_ascii() && slash > 0 && after.len() <= 100).then_some((before, after))
}

/// Fills `field` with as much as fits, for readers that do not know extended records.
fn put_ascii(field: &mut [u8], text: &[u8]) {
    for (place, byte) in field.iter_mut().zip(text.iter().filter(|byte| byte.is_ascii())) {
        *place = *byte;
    }
}

fn put_number(field: &mut [u8], value: u64, key: &[u8], records: &mut Records) {
    if !put_octal(field, value) {
        records.insert(key, value.to_string());
    }
}

fn put_time(field: &mut [u8], time: Timestamp, records: &mut Records) {
    let seconds = u64::try_from(time.seconds);
    let fits = put_octal(field, seconds.unwrap_or(0)) && seconds.is_ok();
    if !fits || time.nanoseconds != 0 {
        records.insert(b"mtime", pax::encode_time(time));
    }
}

/// Returns the header before `size` bytes of extended records.
fn pax_header(entry: &Entry, size: usize) -> Header {
    let mut header = Header::new_ustar();
    let fields = header.as_ustar_mut().expect("made as one");
    let (directory, name) = split(&entry.path);
    let path = entry::join(&entry::join(directory, b"PaxHeaders.0"), name);
    put_ascii(&mut fields.name, &path);
    for field in [
        &mut fields.mode,
        &mut fields.uid,
        &mut fields.gid,
        &mut fields.dev_major,
        &mut fields.dev_minor,
    ] {
        put_octal(field, 0);
    }
    put_octal(&mut fields.size, size as u64);
    put_octal(&mut fields.mtime, 0);
    fields.typeflag = [b'x'];
    put_checksum(&mut header);
    header
}
