//! Blobs: bytes stored under their own digest, in `images/blobs/sha256`.
//!
//! Putting is idempotent and atomic; getting verifies. Knows nothing of what a blob means.

use std::path::PathBuf;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::regular;
use crate::store::Store;

impl Store {
    /// Where the blob with this digest is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("images/blobs/sha256").join(digest.hex())
    }

    /// Stores `bytes`; storing the same again does nothing.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        self.pin(&[digest])?;
        // A blob of the right length may still be corrupt: writing it again is the repair.
        if regular::read(&path).is_ok_and(|present| present.as_deref() == Some(bytes)) {
            return Ok(digest);
        }
        self.write_durably(&path, bytes)?;
        Ok(digest)
    }

    /// Returns a small blob's bytes after checking them against its digest.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let bytes = regular::read(&path)?.ok_or(Error::Missing { digest: *digest })?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(Error::Corrupt { path, expected: *digest, found });
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    #[test]
    fn a_blob_with_a_flipped_byte_is_named_and_repaired_by_putting_it_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let digest = store.put_blob(b"hello").expect("put");
        fs::write(store.blob_path(&digest), b"hallo").expect("flip");
        let error = store.read_blob(&digest).expect_err("corrupt");
        assert!(error.to_string().contains(&digest.to_string()), "{error}");
        store.put_blob(b"hello").expect("put again");
        assert_eq!(store.read_blob(&digest).expect("read"), b"hello");
    }

    #[test]
    fn a_blob_that_was_never_put_is_missing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(dir.path()).expect("open");
        let error = store.read_blob(&Digest::of(b"x")).expect_err("missing");
        assert!(matches!(error, Error::Missing { .. }));
    }
}
