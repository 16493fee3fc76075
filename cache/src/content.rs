//! BLAKE3 digests of files' content, by which a changed file is told from an unchanged one.
//!
//! They stand in keys and in the context index, never in an image: what OCI addresses is a
//! [`Digest`](crate::digest::Digest). BLAKE3, because each file of a context is digested before
//! anything is known of it, and SHA-256 takes three times as long for that.

use std::fmt;

/// The digest of a file's content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(blake3::hash(bytes.as_ref()).into())
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest with these 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blake3:")?;
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A content digest in the making.
#[derive(Default)]
pub struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes added.
    pub fn finish(self) -> ContentDigest {
        ContentDigest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_digest_is_the_same_on_every_machine() {
        let empty = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(ContentDigest::of(b"").to_string(), empty);
        let bytes: Vec<u8> = (0..300_000).map(|at| (at % 251) as u8).collect();
        let mut hasher = ContentHasher::new();
        bytes.chunks(7_777).for_each(|part| hasher.update(part));
        assert_eq!(hasher.finish(), ContentDigest::of(&bytes));
        assert_eq!(ContentDigest::from_bytes(*ContentDigest::of(b"").bytes()).to_string(), empty);
    }
}
