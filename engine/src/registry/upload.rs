//! Blobs and manifests into a repository (distribution specification, "Push").
//!
//! Does not know what an image is made of.

use std::io::{self, Write};

use cache::digest::{Digest, DigestWriter};
use ureq::Body;
use ureq::http::header;
use ureq::http::{Method, Response, StatusCode};

use super::client::{Ask, Client};
use super::document::Document;
use super::lookup::content_digest;
use super::{Error, Settings};
use crate::registry::settings::Place;

const OCTETS: &str = "application/octet-stream";

/// A repository that takes things.
pub(super) struct Uploads {
    pub(super) client: Client,
    scope: String,
}

/// A blob that has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Why a blob was not sent.
#[derive(Debug)]
pub(super) enum SendError {
    /// What makes its bytes has failed.
    Source(io::Error),
    /// The registry has not taken it.
    Registry(Error),
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        Self::Registry(error)
    }
}

impl Uploads {
    /// Finds the repository's registry.
    pub(super) fn open(settings: &Settings, place: Place) -> Result<Self, Error> {
        let scope = format!("repository:{}:pull,push", place.repository);
        Ok(Self { client: Client::connect(settings, place)?, scope })
    }

    fn question<'b>(&'b self, what: &'b str, method: Method, url: &'b str) -> Ask<'b> {
        Ask { what, method, url, headers: &[], scope: &self.scope }
    }

    /// Asks whether the repository has a blob.
    pub(super) fn has(&self, digest: &Digest) -> Result<bool, Error> {
        let url = self.client.url(&format!("blobs/{digest}"));
        let what = format!("look for blob {digest} in {}", self.client.place.full_name());
        let response = self.client.ask(&self.question(&what, Method::HEAD, &url))?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refused(&what, response)),
        }
    }

    /// Asks the registry to take a blob from another of its repositories.
    pub(super) fn mount(&self, digest: &Digest, from: &str) -> Result<bool, Error> {
        let what = format!("take blob {digest} from {from}");
        let url = self.client.url(&format!("blobs/uploads/?mount={digest}&from={from}"));
        let scope = format!("{} repository:{from}:pull", self.scope);
        let ask = Ask { scope: &scope, ..self.question(&what, Method::POST, &url) };
        // Who may not read there sends it instead.
        let Ok(response) = self.client.send(&ask, b"") else { return Ok(false) };
        if response.status() == StatusCode::CREATED {
            return Ok(true);
        }
        // It has begun an upload, which nobody needs.
        if let Some(location) = self.client.location(response.headers()) {
            let _ = self.client.ask(&self.question(&what, Method::DELETE, &location));
        }
        Ok(false)
    }

    /// Sends a blob whose bytes `write` makes while they are sent.
    pub(super) fn send(
        &self,
        what: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
    ) -> Result<Sent, SendError> {
        let place = self.begin(what)?;
        let (mut reader, writer) = io::pipe().map_err(SendError::Source)?;
        let (made, response) = std::thread::scope(|scope| {
            let making = scope.spawn(|| {
                let mut out = Counted { inner: DigestWriter::new(writer), bytes: 0 };
                write(&mut out)?;
                out.flush()?;
                Ok(Sent { size: out.bytes, digest: out.inner.finish().1 })
            });
            let headers = [(header::CONTENT_TYPE, OCTETS)];
            let ask = Ask { headers: &headers, ..self.question(what, Method::PATCH, &place) };
            let response = self.client.stream(&ask, &mut reader);
            // Who still writes is told that nobody reads.
            drop(reader);
            (making.join().expect("making a blob does not panic"), response)
        });
        let sent = match (made, &response) {
            // Nobody read to the end: the registry says why.
            (Err(error), Err(_)) if is_unread(&error) => None,
            (Err(error), Ok(answer)) if is_unread(&error) && !answer.status().is_success() => None,
            (made, _) => Some(made.map_err(SendError::Source)?),
        };
        let response = response?;
        let (Some(sent), true) = (sent, response.status().is_success()) else {
            return Err(self.refused(what, response).into());
        };
        self.end(what, &self.place_of(what, &response)?, &sent.digest, b"")?;
        Ok(sent)
    }

    /// Sends a short blob, if it is not there.
    pub(super) fn send_bytes(&self, what: &str, bytes: &[u8]) -> Result<Sent, Error> {
        let sent = Sent { digest: Digest::of(bytes), size: bytes.len() as u64 };
        if !self.has(&sent.digest)? {
            self.end(what, &self.begin(what)?, &sent.digest, bytes)?;
        }
        Ok(sent)
    }

    /// Begins an upload; returns where it goes.
    fn begin(&self, what: &str) -> Result<String, Error> {
        let url = self.client.url("blobs/uploads/");
        let response = self.client.send(&self.question(what, Method::POST, &url), b"")?;
        match response.status() {
            StatusCode::ACCEPTED => self.place_of(what, &response),
            _ => Err(self.refused(what, response)),
        }
    }

    fn place_of(&self, what: &str, response: &Response<Body>) -> Result<String, Error> {
        self.client.location(response.headers()).ok_or_else(|| Error::Answer {
            what: what.to_owned(),
            why: "it does not say where to (no Location)".to_owned(),
        })
    }

    /// Ends an upload with its last bytes.
    fn end(&self, what: &str, place: &str, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let mark = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{mark}digest={digest}");
        let headers = [(header::CONTENT_TYPE, OCTETS)];
        let ask = Ask { headers: &headers, ..self.question(what, Method::PUT, &url) };
        let response = self.client.send(&ask, bytes)?;
        match response.status() {
            status if status.is_success() => Ok(()),
            _ => Err(self.refused(what, response)),
        }
    }

    /// Puts a document there under a tag or its digest, if that is not what it stands for already.
    pub(super) fn put(&self, document: &Document, name: &str) -> Result<(), Error> {
        let url = self.client.url(&format!("manifests/{name}"));
        let what = format!("name {}:{name} in the registry", self.client.place.full_name());
        let headers = [(header::ACCEPT, document.media_type.as_str())];
        let ask = Ask { headers: &headers, ..self.question(&what, Method::HEAD, &url) };
        let response = self.client.ask(&ask)?;
        if response.status().is_success()
            && content_digest(response.headers()) == Some(document.digest)
        {
            return Ok(());
        }
        let headers = [(header::CONTENT_TYPE, document.media_type.as_str())];
        let ask = Ask { headers: &headers, ..self.question(&what, Method::PUT, &url) };
        let response = self.client.send(&ask, &document.bytes)?;
        match response.status() {
            status if status.is_success() => Ok(()),
            _ => Err(self.refused(&what, response)),
        }
    }

    /// What an answer without success means to who wants to push.
    fn refused(&self, what: &str, response: Response<Body>) -> Error {
        match self.client.refused(what, response) {
            Error::Refused { status: 401 | 403, said, what } => Error::Refused {
                what,
                status: 401,
                said: format!("denied: requested access to the resource is denied ({said})"),
            },
            error => error,
        }
    }
}

fn is_unread(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
