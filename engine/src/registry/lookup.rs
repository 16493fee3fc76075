//! Documents of a repository, by tag or digest.

use cache::Store;
use cache::digest::Digest;
use ureq::http::Method;
use ureq::http::header::{self, HeaderMap};

use super::Error;
use super::client::{Ask, Client};
use super::document::{ACCEPTED, Document};
use crate::reference::Reference;

/// Reads documents of a repository.
pub(super) struct Reader<'a> {
    pub(super) client: &'a Client,
    pub(super) reference: &'a Reference,
    pub(super) scope: &'a str,
}

impl Reader<'_> {
    /// The document that the store has under this name already, if the registry still means that
    /// one: registries count how often documents are read, and not how often they are asked for.
    pub(super) fn known(&self, store: &Store, wanted: &str) -> Result<Option<Document>, Error> {
        let prefix = format!("{}@", self.reference.name());
        let listed = store.list_images()?;
        let mut names = listed.iter().filter_map(|listed| listed.name.as_ref());
        if !names.any(|name| name.starts_with(&prefix)) {
            return Ok(None);
        }
        let url = self.client.url(&format!("manifests/{wanted}"));
        let response = self.client.ask(&self.question(Method::HEAD, &url, &accepted()))?;
        let digest = match content_digest(response.headers()) {
            Some(digest) if response.status().is_success() => digest,
            _ => return Ok(None),
        };
        let is_listed = listed.iter().any(|listed| listed.documents.first() == Some(&digest));
        let bytes = is_listed.then(|| store.read_blob(&digest).ok()).flatten();
        Ok(bytes.and_then(|bytes| Document::parse(bytes, None).ok()))
    }

    fn question<'b>(
        &'b self,
        method: Method,
        url: &'b str,
        headers: &'b [(header::HeaderName, &'b str)],
    ) -> Ask<'b> {
        Ask { what: "read a manifest", method, url, headers, scope: self.scope }
    }

    /// Reads a document by its tag or its digest.
    pub(super) fn read(&self, wanted: &str) -> Result<Document, Error> {
        let url = self.client.url(&format!("manifests/{wanted}"));
        let what = format!("read manifest {wanted} of {}", self.reference.familiar_name());
        let headers = accepted();
        let ask = Ask { what: &what, ..self.question(Method::GET, &url, &headers) };
        let (headers, bytes) =
            self.client.read(&ask).map_err(|error| self.refused(wanted, error))?;
        let told = content_digest(&headers);
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type =
            media_type.map(|text| text.split(';').next().unwrap_or(text).trim().to_owned());
        let found = Digest::of(&bytes);
        let by_name = wanted.parse().ok();
        if let Some(expected) = by_name.into_iter().chain(told).find(|expected| *expected != found)
        {
            return Err(Error::Digest { what: format!("manifest {wanted}"), found, expected });
        }
        Document::parse(bytes, media_type.as_deref()).map_err(|why| match media_type {
            Some(kind) if kind.starts_with("text/") => Error::NoRegistry {
                host: self.client.place.host.clone(),
                why: format!("it sends {kind} where a manifest should be"),
            },
            _ => Error::Answer { what, why },
        })
    }

    /// What it means that a document cannot be had.
    fn refused(&self, wanted: &str, error: Error) -> Error {
        match error {
            Error::Refused { status: 404, said, .. } => {
                let said = if said.starts_with("manifest unknown") { String::new() } else { said };
                let mark = if wanted.contains(':') { '@' } else { ':' };
                let name = format!("{}{mark}{wanted}", self.reference.familiar_name());
                Error::NotFound { name, said }
            }
            Error::Refused { status: 401 | 403, said, .. } => {
                Error::Denied { name: self.reference.familiar_name(), said }
            }
            error => error,
        }
    }
}

fn accepted() -> [(header::HeaderName, &'static str); 4] {
    ACCEPTED.map(|media_type| (header::ACCEPT, media_type))
}

/// What a registry says the digest of its answer is.
pub(super) fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}
