//! What was got from a URL, on disk.
//!
//! ```text
//! <cache_dir>/
//!   <digest of the URL>.json   the record: ETag, date, name, and the digest of the file
//!   <digest of the URL>.lock   held while the URL is asked for again
//!   <digest of the URL>.part   a download under way, or what is left of one
//!   <digest of the file>       the file; never changes once it is there
//! ```
//!
//! Knows nothing of HTTP: it is given bytes and what to remember of them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use cache::digest::{Digest, DigestWriter};
use serde::{Deserialize, Serialize};

/// What is remembered of a file that came from a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The server's tag for this version of the file.
    pub(super) etag: Option<String>,
    /// When it says the file was last changed, in seconds since 1970.
    pub(super) last_modified: Option<i64>,
    /// How the file is called.
    pub(super) file_name: String,
    /// What was in it.
    pub(super) digest: Digest,
}

/// The place of one URL, locked: whoever else wants the same file waits, then finds it here.
pub(super) struct Slot {
    directory: PathBuf,
    /// The digest of the URL, in hexadecimal.
    name: String,
    _lock: File,
}

/// A body that could not be received.
pub(super) enum ReceiveError {
    /// The sender broke off.
    Read(io::Error),
    /// It could not be stored.
    Write(io::Error),
}

impl Slot {
    /// Waits for the place of `url` in `cache_dir`, which is made if it is missing.
    pub(super) fn lock(cache_dir: &Path, url: &str) -> io::Result<Self> {
        fs_err::create_dir_all(cache_dir)?;
        let directory = cache_dir.to_owned();
        let name = Digest::of(url).hex();
        let lock = fs_err::File::create(directory.join(format!("{name}.lock")))?.into_file();
        lock.lock()?;
        Ok(Self { directory, name, _lock: lock })
    }

    /// Returns what is known, provided that the file is still there.
    pub(super) fn load(&self) -> io::Result<Option<Record>> {
        let text = match fs_err::read(self.own("json")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // A record of another version of this program is as good as none.
        let record: Option<Record> = serde_json::from_slice(&text).ok();
        Ok(record.filter(|record| self.path_of(&record.digest).exists()))
    }

    /// Stores `body` for [`Slot::commit`] to accept, and returns its digest.
    pub(super) fn receive(
        &self,
        body: &mut dyn Read,
        progress: &dyn Fn(u64),
    ) -> Result<Digest, ReceiveError> {
        let file = fs_err::File::create(self.own("part")).map_err(ReceiveError::Write)?;
        let mut writer = DigestWriter::new(file);
        let mut buffer = vec![0; 128 << 10];
        let mut total = 0;
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ReceiveError::Read(error)),
            };
            writer.write_all(&buffer[..count]).map_err(ReceiveError::Write)?;
            total += count as u64;
            progress(total);
        }
        let (file, digest) = writer.finish();
        file.sync_all().map_err(ReceiveError::Write)?;
        Ok(digest)
    }

    /// Makes what was just received the file of `record`, and `record` what is known.
    pub(super) fn commit(&self, record: &Record) -> io::Result<()> {
        fs_err::rename(self.own("part"), self.path_of(&record.digest))?;
        let next = self.own("next");
        let mut file = fs_err::File::create(&next)?;
        file.write_all(&serde_json::to_vec(record).map_err(io::Error::other)?)?;
        file.sync_all()?;
        fs_err::rename(&next, self.own("json"))
    }

    /// Returns where the file with this digest is kept.
    pub(super) fn path_of(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    fn own(&self, suffix: &str) -> PathBuf {
        self.directory.join(format!("{}.{suffix}", self.name))
    }
}
