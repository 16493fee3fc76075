//! Reads any tar as a stream of entries.
//!
//! Understands the seventh edition's tar, ustar, pax with global headers, GNU's long names, base
//! 256 numbers and every kind of sparse file. What is not content of a tree (volume labels) is
//! passed over. Paths come out clean and below the root, whatever the archive says. Whiteouts are
//! ordinary files here, and compression is the caller's.

use std::io::{self, Read, Seek, SeekFrom};
use std::mem;

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::block::{BLOCK, has_valid_checksum, number, padding};
use super::entry::{Entry, Kind, Timestamp, clean};
use super::pax::{self, Records};
use super::sparse::{self, Map, Run};
use super::{Error, attribute};

/// Long names and extended records beyond this are an attack, not a name.
const LONGEST_EXTENSION: u64 = 16 << 20;

/// Reads the tar in `input`, front to back. Wants a buffered reader for archives of small files.
pub fn entries<R: Read>(input: R) -> Entries<R> {
    Entries::new(input, skip_by_reading)
}

/// Reads the tar in `input`, and seeks over the content that nobody reads.
pub fn entries_seeking<R: Read + Seek>(input: R) -> Entries<R> {
    Entries::new(input, skip_by_seeking)
}

/// Returns whether `input` is a tar with at least one entry, be it one that nobody could make: what
/// makes `ADD` unpack a file.
pub fn is_archive(input: impl Read) -> bool {
    matches!(entries(input).next_entry(), Ok(Some(_)) | Err(Error::InvalidAttribute { .. }))
}

/// Returns whether a block is a tar header, and not the zeros at the end.
pub(crate) fn is_header(block: &[u8]) -> bool {
    let mut header = Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    block.iter().any(|&byte| byte != 0) && has_valid_checksum(&header)
}

/// A tar being read.
pub struct Entries<R> {
    input: R,
    skip: fn(&mut R, u64) -> io::Result<()>,
    position: u64,
    /// Bytes of the current entry's content that have not been read, and the padding after them.
    stored: u64,
    padding: u64,
    sparse: Option<Map>,
    /// The current entry's path, for errors.
    path: Vec<u8>,
    global: Records,
    ended: bool,
}

/// The content of the entry that was last returned.
///
/// What is not read of it is passed over.
pub struct Data<'a, R>(&'a mut Entries<R>);

impl<R> Data<'_, R> {
    /// Returns where in the archive the content starts, if it is stored there whole.
    ///
    /// Only meaningful before anything is read.
    pub fn position(&self) -> Option<u64> {
        self.0.sparse.is_none().then_some(self.0.position)
    }

    /// Returns where in the archive the content lies.
    ///
    /// Only meaningful before anything is read.
    pub fn content(&self) -> Content {
        match &self.0.sparse {
            Some(map) => Content::Parts(map.parts(self.0.position).collect()),
            None if self.0.stored == 0 => Content::None,
            None => Content::At(self.0.position),
        }
    }
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_content(buffer)
    }
}

/// Where a file's content lies in its tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// There is none.
    None,
    /// From this position on, whole.
    At(u64),
    /// In these parts, in order; what is between them is not stored, and zeros.
    Parts(Vec<Part>),
}

/// A part of a file that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where in the file it belongs.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
    /// Where in the tar they are.
    pub position: u64,
}

/// What the headers before an entry's own say of it.
#[derive(Default)]
struct Extensions {
    records: Records,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> Entries<R> {
    fn new(input: R, skip: fn(&mut R, u64) -> io::Result<()>) -> Self {
        Self {
            input,
            skip,
            position: 0,
            stored: 0,
            padding: 0,
            sparse: None,
            path: Vec::new(),
            global: Records::default(),
            ended: false,
        }
    }

    /// Returns the next entry and its content, or nothing at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<(Entry, Data<'_, R>)>, Error> {
        self.skip_content()?;
        let mut extensions = Extensions { records: self.global.clone(), ..Extensions::default() };
        let mut awaits_entry = false;
        while let Some(header) = self.read_header()? {
            let typeflag = header.as_old().linkflag[0];
            awaits_entry |= matches!(typeflag, b'x' | b'X' | b'L' | b'K');
            match typeflag {
                b'x' | b'X' => {
                    let text = self.read_extension(&header)?;
                    extensions
                        .records
                        .parse(&text)
                        .ok_or_else(|| self.invalid("extended header"))?;
                }
                b'g' => {
                    let text = self.read_extension(&header)?;
                    self.global
                        .parse(&text)
                        .ok_or_else(|| self.invalid("global extended header"))?;
                    extensions.records.parse(&text);
                }
                b'L' => extensions.long_name = Some(self.read_long(&header)?),
                b'K' => extensions.long_link = Some(self.read_long(&header)?),
                // A volume's label, and the rest of a file from another volume.
                b'V' | b'M' => {
                    self.read_size(&header, None)?;
                    self.skip_content()?;
                }
                _ => {
                    let entry = self.decode(&header, &extensions)?;
                    return Ok(Some((entry, Data(self))));
                }
            }
        }
        // Extensions of nothing: the archive was cut between the two.
        if awaits_entry {
            return Err(self.truncated());
        }
        Ok(None)
    }

    /// Reads whatever follows the archive's end and returns the input.
    ///
    /// A digest of the whole stream needs this: archives are padded at will.
    pub fn finish(mut self) -> Result<R, Error> {
        self.skip_content()?;
        let copied = io::copy(&mut self.input, &mut io::sink());
        copied.map_err(|source| Error::Read { position: self.position, source })?;
        Ok(self.input)
    }

    fn read_header(&mut self) -> Result<Option<Header>, Error> {
        if self.ended {
            return Ok(None);
        }
        let mut header = Header::new_old();
        let start = self.position;
        let count = self.read_up_to(header.as_mut_bytes())?;
        // One block of zeros ends an archive, and so does its end, as GNU tar sees it.
        if count == 0 || (count == BLOCK && header.as_bytes().iter().all(|&byte| byte == 0)) {
            self.ended = true;
            return Ok(None);
        }
        if count < BLOCK {
            return Err(self.truncated());
        }
        if !has_valid_checksum(&header) {
            return Err(Error::NotAHeader { position: start, path: mem::take(&mut self.path) });
        }
        Ok(Some(header))
    }

    fn decode(&mut self, header: &Header, extensions: &Extensions) -> Result<Entry, Error> {
        let records = &extensions.records;
        let raw = name_of(header, extensions);
        self.path = clean(&raw);
        let mut kind = self.kind(header, extensions, raw.ends_with(b"/"))?;
        match kind {
            Kind::File { .. } => {
                self.read_size(header, Some(records))?;
                self.read_sparse_map(header, records)?;
                kind =
                    Kind::File { size: self.sparse.as_ref().map_or(self.stored, |map| map.size) };
            }
            // GNU's dump directories list their names; every other size without content is a lie.
            Kind::Directory if header.as_old().linkflag[0] == b'D' => {
                self.read_size(header, Some(records))?
            }
            _ => {}
        }
        let old = header.as_old();
        let entry = Entry {
            path: self.path.clone(),
            kind,
            mode: (self.field(&old.mode, "mode")? & 0o7777)
                .unsigned_abs()
                .try_into()
                .expect("masked"),
            uid: self.id(&old.uid, records, "uid")?,
            gid: self.id(&old.gid, records, "gid")?,
            mtime: match records.get("mtime") {
                Some(text) => pax::parse_time(text).ok_or_else(|| self.invalid("mtime"))?,
                None => Timestamp::from_seconds(self.field(&old.mtime, "mtime")?),
            },
            xattrs: records.xattrs(),
        };
        match attribute::malformed(&entry) {
            None => Ok(entry),
            Some(name) => {
                Err(Error::InvalidAttribute { path: entry.path.clone(), name: name.to_vec() })
            }
        }
    }

    fn kind(&self, header: &Header, extensions: &Extensions, slash: bool) -> Result<Kind, Error> {
        let typeflag = header.as_old().linkflag[0];
        let link = || {
            let target = extensions.records.get("linkpath").or(extensions.long_link.as_deref());
            target.map_or_else(
                || header.link_name_bytes().unwrap_or_default().into_owned(),
                <[u8]>::to_vec,
            )
        };
        Ok(match typeflag {
            // The seventh edition had no type for directories but a slash.
            b'0' | 0 if slash => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File { size: 0 },
            b'1' => Kind::Hardlink(clean(&link())),
            b'2' => Kind::Symlink(link()),
            b'3' => self.device(header).map(|(major, minor)| Kind::Char(major, minor))?,
            b'4' => self.device(header).map(|(major, minor)| Kind::Block(major, minor))?,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => {
                return Err(Error::UnknownType { path: self.path.clone(), typeflag });
            }
        })
    }

    fn device(&self, header: &Header) -> Result<(u32, u32), Error> {
        // These two fields stand at the same place in ustar and GNU headers.
        let fields = [&header.as_bytes()[329..337], &header.as_bytes()[337..345]];
        let [major, minor] =
            fields.map(|field| number(field).and_then(|value| u32::try_from(value).ok()));
        major.zip(minor).ok_or_else(|| self.invalid("device number"))
    }

    fn field(&self, field: &[u8], name: &'static str) -> Result<i64, Error> {
        number(field).ok_or_else(|| self.invalid(name))
    }

    fn id(&self, field: &[u8], records: &Records, name: &'static str) -> Result<u64, Error> {
        match records.number(name).map_err(|field| self.invalid(field))? {
            Some(id) => Ok(id),
            None => self.field(field, name)?.try_into().map_err(|_| self.invalid(name)),
        }
    }

    /// Makes the bytes after the header the current entry's content.
    fn read_size(&mut self, header: &Header, records: Option<&Records>) -> Result<(), Error> {
        let extended = records.map_or(Ok(None), |records| records.number("size"));
        let size = match extended.map_err(|field| self.invalid(field))? {
            Some(size) => Some(size),
            None => number(&header.as_old().size).and_then(|size| u64::try_from(size).ok()),
        };
        // No archive is longer than an offset can say; this also keeps the sums below from overflow.
        self.stored = size.filter(|size| *size < 1 << 62).ok_or_else(|| self.invalid("size"))?;
        self.padding = padding(self.stored);
        Ok(())
    }

    fn read_sparse_map(&mut self, header: &Header, records: &Records) -> Result<(), Error> {
        let invalid = |entries: &Self| entries.invalid("sparse map");
        let (numbers, size) = if header.as_old().linkflag[0] == b'S' {
            let gnu = header.as_gnu().ok_or_else(|| invalid(self))?;
            (
                self.read_old_map(gnu)?,
                number(&gnu.realsize).and_then(|size| u64::try_from(size).ok()),
            )
        } else if records.get("GNU.sparse.major") == Some(b"1") {
            let numbers = sparse::numbers_in_content(|text| self.read_content_block(text))?;
            (
                numbers.ok_or_else(|| invalid(self))?,
                records.get("GNU.sparse.realsize").and_then(pax::decimal),
            )
        } else if let Some(size) = records.get("GNU.sparse.size") {
            (sparse::numbers_in_records(records).ok_or_else(|| invalid(self))?, pax::decimal(size))
        } else {
            return Ok(());
        };
        let map = size.and_then(|size| Map::new(&numbers, size, self.stored));
        self.sparse = Some(map.ok_or_else(|| invalid(self))?);
        Ok(())
    }

    /// Reads the map of the old GNU format, which goes on in blocks after the header.
    fn read_old_map(&mut self, gnu: &tar::GnuHeader) -> Result<Vec<u64>, Error> {
        let mut numbers = Vec::new();
        self.add_parts(&gnu.sparse, &mut numbers)?;
        let mut more = gnu.isextended[0] != 0;
        while more {
            let mut block = GnuExtSparseHeader::new();
            self.read_fully(block.as_mut_bytes())?;
            self.add_parts(&block.sparse, &mut numbers)?;
            more = block.isextended[0] != 0;
        }
        Ok(numbers)
    }

    fn add_parts(&self, parts: &[GnuSparseHeader], numbers: &mut Vec<u64>) -> Result<(), Error> {
        for part in parts.iter().take_while(|part| part.offset[0] != 0) {
            for field in [&part.offset, &part.numbytes] {
                let value = number(field).and_then(|value| u64::try_from(value).ok());
                numbers.push(value.ok_or_else(|| self.invalid("sparse map"))?);
            }
        }
        Ok(())
    }

    fn read_content_block(&mut self, text: &mut Vec<u8>) -> Result<(), Error> {
        let mut block = [0; BLOCK];
        self.stored =
            self.stored.checked_sub(BLOCK as u64).ok_or_else(|| self.invalid("sparse map"))?;
        self.read_fully(&mut block)?;
        text.extend_from_slice(&block);
        Ok(())
    }

    fn read_extension(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        self.read_size(header, None)?;
        if self.stored > LONGEST_EXTENSION {
            return Err(self.invalid("extended header"));
        }
        let mut text = Vec::new();
        let read = Data(self).read_to_end(&mut text);
        read.map_err(|error| self.unwrap_error(error))?;
        self.skip_content()?;
        Ok(text)
    }

    fn read_long(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        let mut text = self.read_extension(header)?;
        if let Some(end) = text.iter().position(|&byte| byte == 0) {
            text.truncate(end);
        }
        Ok(text)
    }

    fn skip_content(&mut self) -> Result<(), Error> {
        self.sparse = None;
        let count = mem::take(&mut self.stored) + mem::take(&mut self.padding);
        match (self.skip)(&mut self.input, count) {
            Ok(()) => {
                self.position += count;
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(map) = &mut self.sparse else {
            return self.read_stored(buffer);
        };
        let (limit, stored) = match map.run() {
            Run::End => return Ok(0),
            Run::Hole(count) => (count, false),
            Run::Stored(count) => (count, true),
        };
        let limit = buffer.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..limit];
        let count = if stored {
            self.read_stored(buffer)?
        } else {
            buffer.fill(0);
            limit
        };
        if let Some(map) = &mut self.sparse {
            map.advance(count as u64);
        }
        Ok(count)
    }

    fn read_stored(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = buffer.len().min(usize::try_from(self.stored).unwrap_or(usize::MAX));
        if limit == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..limit])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, self.truncated()));
        }
        self.position += count as u64;
        self.stored -= count as u64;
        Ok(count)
    }

    fn read_fully(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        if self.read_up_to(buffer)? == buffer.len() { Ok(()) } else { Err(self.truncated()) }
    }

    fn read_up_to(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.position += filled as u64;
        Ok(filled)
    }

    fn invalid(&self, field: &'static str) -> Error {
        Error::InvalidField { path: self.path.clone(), field }
    }

    fn truncated(&self) -> Error {
        Error::Truncated { path: self.path.clone(), position: self.position }
    }

    fn failed(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated(),
            _ => Error::Read { position: self.position, source },
        }
    }

    /// Takes our own error out of the one that [`Read`] had to make of it.
    fn unwrap_error(&self, error: io::Error) -> Error {
        error.downcast().unwrap_or_else(|source| Error::Read { position: self.position, source })
    }
}

/// Returns an entry's name as the archive has it.
fn name_of(header: &Header, extensions: &Extensions) -> Vec<u8> {
    let records = &extensions.records;
    let extended = records.get("GNU.sparse.name").or_else(|| records.get("path"));
    match extended.or(extensions.long_name.as_deref()) {
        Some(name) => name.to_vec(),
        None => header.path_bytes().into_owned(),
    }
}

fn skip_by_reading<R: Read>(input: &mut R, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut input.take(count), &mut io::sink())?;
    if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn skip_by_seeking<R: Read + Seek>(input: &mut R, count: u64) -> io::Result<()> {
    // A seek costs what is in a reader's buffer, which may hold the next headers.
    if count < 32 * 1024 {
        return skip_by_reading(input, count);
    }
    // Seeking beyond the end succeeds, so the last byte is read to see that it is there.
    input.seek(SeekFrom::Current((count - 1).cast_signed()))?;
    input.read_exact(&mut [0])
}
