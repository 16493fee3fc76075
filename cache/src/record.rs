//! Records: what the operation with a key produced, and the text the key is the digest of.
//!
//! The text is kept so that a miss can be explained by comparing it with an earlier one. What the
//! text says is the engine's business. When a record was last used is its file's modification time.
//!
//! Records are not synced, their layers are, before: one that was lost with the power begins with no
//! JSON and counts as none, and a text that was cut has not the key's digest and explains nothing.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::regular;
use crate::store::Store;

/// How exactly it is known when a record was last used.
const GRAIN: Duration = Duration::from_secs(60);

/// What an operation produced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The layer it made, by diff id.
    pub layer: Digest,
    /// Milliseconds it took.
    pub took_ms: u64,
    /// Seconds since 1970 when it was finished.
    pub finished: i64,
    /// Another key with the same result, whose text says more of what that depends on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_full: Option<Digest>,
}

impl Record {
    /// Reads a record from a file that begins with it.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let line = bytes.split(|byte| *byte == b'\n').next()?;
        serde_json::from_slice(line).ok()
    }
}

impl Store {
    fn record_path(&self, key: &Digest) -> PathBuf {
        self.root().join("cache/records").join(key.hex())
    }

    /// Looks up what the operation with this key produced. A record whose layer is gone, or that
    /// cannot be read, counts as none: the operation runs again.
    pub fn record(&self, key: &Digest) -> Result<Option<Record>> {
        let Some(mut file) = self.open_record(key)? else { return Ok(None) };
        // Of a long text only the beginning is read.
        let mut line = Vec::new();
        file.read_until(b'\n', &mut line).map_err(Error::Io)?;
        let Some(record) = Record::parse(&line) else { return Ok(None) };
        self.pin(&[*key, record.layer])?;
        if self.peek_layer(&record.layer)?.is_none() {
            return Ok(None);
        }
        touch(file.get_ref().file());
        Ok(Some(record))
    }

    /// Keeps what the operation with this key produced, and the key's text behind it.
    pub fn put_record(&self, key: &Digest, mut preimage: impl Read, record: &Record) -> Result<()> {
        let mut line = serde_json::to_vec(record).expect("records have string keys only");
        line.push(b'\n');
        self.pin(&[*key, record.layer])?;
        self.write_at_once(&self.record_path(key), |file| {
            file.write_all(&line)?;
            io::copy(&mut preimage, file).map(drop)
        })
    }

    /// The text a key is the digest of.
    pub fn preimage(&self, key: &Digest) -> Result<Option<String>> {
        let Some(mut file) = self.open_record(key)? else { return Ok(None) };
        let mut text = String::new();
        file.skip_until(b'\n').map_err(Error::Io)?;
        file.read_to_string(&mut text).map_err(Error::Io)?;
        Ok(Some(text).filter(|text| Digest::of(text) == *key))
    }

    fn open_record(&self, key: &Digest) -> Result<Option<BufReader<fs::File>>> {
        match regular::open(&self.record_path(key)) {
            Ok(file) => Ok(file.map(|file| BufReader::with_capacity(1024, file))),
            Err(Error::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Drops a record, so that the operation runs again.
    pub fn forget_record(&self, key: &Digest) -> Result<()> {
        match fs::remove_file(self.record_path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Io(error)),
            _ => Ok(()),
        }
    }
}

/// Notes that a record is used now. Not to know it costs a record at worst, so nothing fails here.
fn touch(file: &std::fs::File) {
    let now = SystemTime::now();
    let known = file.metadata().and_then(|metadata| metadata.modified());
    // A time to come is from a clock that went wrong.
    if known.is_ok_and(|known| now.duration_since(known).map_or(true, |age| age >= GRAIN)) {
        let _ = file.set_modified(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_noted_and_rewrites_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let layer = store.draft_layer().expect("draft").commit_empty().expect("commit");
        let key = Digest::of("key");
        let record = Record { layer: layer.diff_id, took_ms: 3, finished: 7, in_full: None };
        store.put_record(&key, "key".as_bytes(), &record).expect("put");
        let path = store.record_path(&key);
        let age = || {
            let modified = fs::metadata(&path).expect("stat").modified().expect("mtime");
            modified.elapsed().expect("the clock does not go back").as_secs()
        };
        for (before, after) in [(0, 0), (30, 30), (300, 0)] {
            let file = fs::File::open(&path).expect("open");
            let then = SystemTime::now() - Duration::from_secs(before);
            file.file().set_modified(then).expect("set");
            let bytes = fs::read(&path).expect("read");
            assert_eq!(store.record(&key).expect("get"), Some(record.clone()));
            assert!((after..after + 10).contains(&age()), "{before}: {}", age());
            assert_eq!(fs::read(&path).expect("read"), bytes);
        }
    }

    #[test]
    fn a_record_counts_only_while_its_layer_is_there() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let layer = store.draft_layer().expect("draft").commit_tar(|_| Ok(())).expect("commit");
        let key = Digest::of("key");
        let record = Record { layer: layer.diff_id, took_ms: 3, finished: 7, in_full: None };
        store.put_record(&key, "key".as_bytes(), &record).expect("put");
        assert_eq!(store.record(&key).expect("get"), Some(record));
        fs::remove_file(store.layer_tar(&layer.diff_id)).expect("remove");
        assert_eq!(store.record(&key).expect("get"), None);
        assert_eq!(store.preimage(&key).expect("text").as_deref(), Some("key"));
    }
}
