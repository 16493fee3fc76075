//! A blob as a stream of bytes: taken up again where it broke off, digested on the way.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache::digest::{Digest, Hasher};
use cache::oci::Descriptor;
use ureq::BodyReader;
use ureq::http::header;
use ureq::http::{Method, StatusCode};

use super::Error;
use super::client::{Ask, Client, Patience};

/// How often in a row a blob may break off before much has come.
const ATTEMPTS: u32 = 5;
/// Bytes after which breaking off counts as the first time again.
const MUCH: u64 = 1 << 20;

/// A blob that comes.
pub(super) struct Download<'a> {
    client: &'a Client,
    descriptor: &'a Descriptor,
    what: String,
    scope: &'a str,
    patience: Duration,
    /// Says that nobody wants it any more.
    stop: &'a AtomicBool,
    progress: &'a (dyn Fn(u64) + Sync),
    body: Option<(BodyReader<'static>, Patience)>,
    received: u64,
    failures: u32,
    /// Since it broke off.
    came: u64,
    hasher: Hasher,
    failed: Option<Error>,
}

impl<'a> Download<'a> {
    /// Prepares to bring a blob. `progress` hears how many bytes have come.
    pub(super) fn new(
        client: &'a Client,
        descriptor: &'a Descriptor,
        scope: &'a str,
        patience: Duration,
        stop: &'a AtomicBool,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Self {
        Self {
            client,
            descriptor,
            what: format!("blob {}", descriptor.digest),
            scope,
            patience,
            stop,
            progress,
            body: None,
            received: 0,
            failures: 0,
            came: 0,
            hasher: Hasher::new(),
            failed: None,
        }
    }

    /// Reads what nobody has read yet, and says whether the whole is what it should be.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let mut rest = vec![0; 1 << 16];
        loop {
            match self.read(&mut rest) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(self.failed.take().unwrap_or(self.broken_off(error))),
            }
        }
        let (found, expected) = (self.hasher.finish(), self.descriptor.digest);
        if found == expected {
            return Ok(());
        }
        Err(Error::Digest { what: self.what, found, expected })
    }

    /// Why reading has failed, if it was the registry's doing.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failed.take()
    }

    fn broken_off(&self, source: io::Error) -> Error {
        let (what, received, size) = (self.what.clone(), self.received, self.descriptor.size);
        Error::BrokenOff { what, received, size, source }
    }

    /// Asks for what has not come yet.
    fn open(&mut self) -> Result<(), Error> {
        let what = format!("read {}", self.what);
        let url = self.client.url(&format!("blobs/{}", self.descriptor.digest));
        let range = format!("bytes={}-", self.received);
        let headers: &[_] = match self.received {
            0 => &[],
            _ => &[(header::RANGE, range.as_str())],
        };
        let ask = Ask { what: &what, method: Method::GET, url: &url, headers, scope: self.scope };
        let response = self.client.ask(&ask)?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.client.refused(&what, response));
        }
        let left = match status {
            StatusCode::PARTIAL_CONTENT => self.descriptor.size - self.received,
            _ => self.descriptor.size,
        };
        let told = response.body().content_length();
        if let Some(found) = told.filter(|told| *told != left) {
            let found = self.descriptor.size - left + found;
            return Err(Error::Size {
                what: self.what.clone(),
                found,
                expected: self.descriptor.size,
            });
        }
        let mut body = response.into_body().into_reader();
        let mut patience = Patience::new(self.patience);
        if status != StatusCode::PARTIAL_CONTENT {
            // A registry that knows no ranges begins anew.
            skip(&mut body, self.received, &mut patience)
                .map_err(|error| self.broken_off(error))?;
        }
        self.body = Some((body, patience));
        Ok(())
    }

    /// Reads once from what the registry sends now.
    fn read_once(&mut self, buffer: &mut [u8]) -> Result<io::Result<usize>, Error> {
        if self.body.is_none() {
            self.open()?;
        }
        let Some((body, patience)) = &mut self.body else { return Ok(Ok(0)) };
        let left = self.descriptor.size - self.received;
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = body.read(&mut buffer[..most]);
        Ok(match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) if !patience.bear(read) => Err(io::ErrorKind::TimedOut.into()),
            read => read,
        })
    }
}

/// Reads so many bytes that have come before.
fn skip(body: &mut impl Read, bytes: u64, patience: &mut Patience) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut left = bytes;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match body.read(&mut buffer[..most])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => left -= read as u64,
        }
        if !patience.bear(most) {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.received == self.descriptor.size || buffer.is_empty() {
                return Ok(0);
            }
            if self.failed.is_some() {
                return Err(io::Error::other("the blob cannot be read"));
            }
            if self.stop.load(Ordering::Relaxed) {
                self.failed = Some(Error::GivenUp);
                continue;
            }
            match self.read_once(buffer) {
                Ok(Ok(read)) => {
                    self.received += read as u64;
                    self.came += read as u64;
                    if self.came >= MUCH {
                        self.failures = 0;
                    }
                    self.hasher.update(&buffer[..read]);
                    (self.progress)(self.received);
                    return Ok(read);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => {
                    self.body = None;
                    self.came = 0;
                    self.failures += 1;
                    if self.failures >= ATTEMPTS {
                        self.failed = Some(self.broken_off(error));
                    } else {
                        std::thread::sleep(Duration::from_millis(50 << self.failures));
                    }
                }
                // One that broke off while what had come before was passed over.
                Err(Error::BrokenOff { source, .. }) if self.failures + 1 < ATTEMPTS => {
                    self.failures += 1;
                    drop(source);
                }
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

/// The bytes of a short blob, such as a configuration.
pub(super) fn bytes(mut download: Download<'_>, expected: &Descriptor) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    if let Err(error) = download.read_to_end(&mut bytes) {
        return Err(download.take_failure().unwrap_or_else(|| download.broken_off(error)));
    }
    let found = Digest::of(&bytes);
    if found != expected.digest {
        let what = format!("blob {}", expected.digest);
        return Err(Error::Digest { what, found, expected: expected.digest });
    }
    Ok(bytes)
}
