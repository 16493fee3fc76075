//! Files behind http and https URLs, kept and revalidated.
//!
//! A file whose `ETag` is known is asked for by `HEAD` first, since some servers send tags and yet
//! do not honour `If-None-Match`. Without a tag it is downloaded anew each time; a date alone is
//! too coarse to trust. Where the wanted digest is known and at hand, nobody is asked.
//! How files lie on disk is for `kept` to know.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use cache::digest::Digest;
use ureq::config::RedirectAuthHeaders;
use ureq::http::header::{self, HeaderMap, HeaderName};
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use super::disposition;
use super::kept::{ReceiveError, Record, Slot};
use super::url::{self, Parts, redact_credentials};
use super::{Access, Error};

/// A file to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Where it is.
    pub url: String,
    /// The digest it must have.
    pub checksum: Option<Digest>,
}

/// A file that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpFile {
    /// Where its content is kept.
    pub path: PathBuf,
    /// The digest of its content.
    pub digest: Digest,
    /// How the server calls it, or else its [`url_file_name`].
    pub file_name: String,
    /// `Last-Modified`, in seconds since 1970.
    pub last_modified: Option<i64>,
}

/// Fetches a file into `cache_dir`, unless what is there is still current, and tells `progress` how
/// many bytes have come so far. Credentials are those in the URL or else the secrets
/// `HTTP_AUTH_TOKEN_<host>` (a bearer token) and `HTTP_AUTH_HEADER_<host>` (a header's value).
pub fn fetch(
    request: &HttpRequest,
    access: &Access<'_>,
    cache_dir: &Path,
    progress: &dyn Fn(u64),
) -> Result<HttpFile, Error> {
    let remote = Remote::new(&request.url, access)?;
    let keep = |source| Error::Keep { remote: remote.shown.clone(), source };
    let slot = Slot::lock(cache_dir, &request.url).map_err(keep)?;
    let known = slot.load().map_err(keep)?;
    let record = match known {
        Some(known) if request.checksum == Some(known.digest) => known,
        Some(known) if remote.still_has(&known) => known,
        known => match remote.get(known.as_ref())? {
            Answer::Unchanged(known) => known.clone(),
            Answer::File(response) => {
                let mut record = record_of(&request.url, response.headers());
                let mut body = response.into_body().into_reader();
                record.digest = slot.receive(&mut body, progress).map_err(|error| match error {
                    ReceiveError::Read(source) => remote.failed(source.into()),
                    ReceiveError::Write(source) => keep(source),
                })?;
                remote.expect(request.checksum, record.digest)?;
                slot.commit(&record).map_err(keep)?;
                record
            }
        },
    };
    remote.expect(request.checksum, record.digest)?;
    let Record { digest, file_name, last_modified, .. } = record;
    Ok(HttpFile { path: slot.path_of(&digest), digest, file_name, last_modified })
}

/// Notes what the headers of an answer say; the digest is yet to come.
fn record_of(url: &str, headers: &HeaderMap) -> Record {
    let date = |text: String| jiff::fmt::rfc2822::parse(&text).ok();
    Record {
        etag: header_text(headers, header::ETAG),
        last_modified: header_text(headers, header::LAST_MODIFIED)
            .and_then(date)
            .map(|time| time.timestamp().as_second()),
        file_name: header_text(headers, header::CONTENT_DISPOSITION)
            .and_then(|text| disposition::file_name(&text))
            .and_then(|name| safe_name(&name))
            .unwrap_or_else(|| url_file_name(url)),
        digest: Digest::of(b""),
    }
}

fn header_text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Returns the last part of a URL's path, unescaped; `__unnamed__` where there is none.
pub fn url_file_name(url: &str) -> String {
    let path = Parts::parse(url).map_or("", |parts| parts.path());
    let path = String::from_utf8_lossy(&url::unescape(path)).into_owned();
    safe_name(&path).unwrap_or_else(|| "__unnamed__".to_owned())
}

/// Returns the last part of a path if a file may be called that.
fn safe_name(path: &str) -> Option<String> {
    let name = path.trim().trim_end_matches('/').rsplit('/').next()?;
    let usable = !matches!(name, "" | "." | "..") && !name.contains(char::is_control);
    usable.then(|| name.to_owned())
}

/// The other side: one URL and how to ask for it.
struct Remote {
    /// The URL without credentials, as it is sent.
    url: String,
    /// The URL as it may be shown.
    shown: String,
    authorization: Option<String>,
    proxy: Option<ureq::Proxy>,
}

impl Remote {
    fn new(url: &str, access: &Access<'_>) -> Result<Self, Error> {
        let shown = redact_credentials(url);
        let parts = Parts::parse(url)
            .filter(|parts| ["http", "https"].contains(&&*parts.scheme.to_ascii_lowercase()))
            .filter(|parts| !parts.host().is_empty())
            .ok_or_else(|| Error::InvalidUrl { url: shown.clone() })?;
        let host = parts.host();
        let proxy = match access.proxy.choose(parts.scheme, host, parts.port()) {
            Some(proxy) => Some(
                ureq::Proxy::new(proxy)
                    .map_err(|_| Error::InvalidProxy { proxy: redact_credentials(proxy) })?,
            ),
            None => None,
        };
        let bearer = |token| format!("Bearer {token}");
        let authorization = access
            .secret_text(&format!("HTTP_AUTH_TOKEN_{host}"))
            .map(bearer)
            .or_else(|| access.secret_text(&format!("HTTP_AUTH_HEADER_{host}")))
            .or_else(|| parts.basic_authorization());
        let Parts { scheme, authority, rest, .. } = parts;
        let slash = if rest.starts_with('/') { "" } else { "/" };
        let url = url::escape_invalid(&format!("{scheme}://{authority}{slash}{rest}"));
        Ok(Self { url, shown, authorization, proxy })
    }

    fn failed(&self, source: ureq::Error) -> Error {
        Error::FetchUrl { url: self.shown.clone(), source: Box::new(source) }
    }

    fn expect(&self, expected: Option<Digest>, actual: Digest) -> Result<(), Error> {
        match expected.filter(|expected| *expected != actual) {
            Some(expected) => {
                Err(Error::DigestMismatch { url: self.shown.clone(), actual, expected })
            }
            None => Ok(()),
        }
    }

    /// Tells by a `HEAD` whether the file is still the one recorded. A server that answers otherwise,
    /// or not at all, only means that it must be asked by `GET`.
    fn still_has(&self, known: &Record) -> bool {
        let Some(etag) = &known.etag else {
            return false;
        };
        let request = agent().head(&self.url).header(header::IF_NONE_MATCH, etag);
        let Ok(response) = self.call(request) else {
            return false;
        };
        match (response.status(), header_text(response.headers(), header::ETAG)) {
            (StatusCode::OK | StatusCode::NOT_MODIFIED, Some(now)) => strong(&now) == strong(etag),
            // With one tag asked about, a 304 without any can only mean that one.
            (StatusCode::NOT_MODIFIED, None) => true,
            _ => false,
        }
    }

    /// Asks for the file, or to hear that it is still the one recorded.
    fn get<'a>(&self, known: Option<&'a Record>) -> Result<Answer<'a>, Error> {
        let mut request = agent().get(&self.url);
        if let Some(etag) = known.and_then(|known| known.etag.as_ref()) {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let response = self.call(request).map_err(|source| self.failed(source))?;
        match (response.status(), known) {
            (status, _) if status.is_success() => Ok(Answer::File(Box::new(response))),
            (StatusCode::NOT_MODIFIED, Some(known)) => Ok(Answer::Unchanged(known)),
            (status, _) => Err(Error::Status { url: self.shown.clone(), status: status.as_u16() }),
        }
    }

    fn call(
        &self,
        mut request: RequestBuilder<WithoutBody>,
    ) -> Result<Response<Body>, ureq::Error> {
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        request.config().proxy(self.proxy.clone()).build().call()
    }
}

/// What a server says when asked for a file.
enum Answer<'a> {
    Unchanged(&'a Record),
    File(Box<Response<Body>>),
}

/// Returns a tag without the mark of weakness: what differs in encoding alone is the same file.
fn strong(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

/// Returns the client, made when first needed: loading the system's certificates takes a while.
fn agent() -> &'static Agent {
    static AGENT: OnceLock<Agent> = OnceLock::new();
    const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));
    AGENT.get_or_init(|| {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("rbuild/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(PATIENCE)
            .timeout_recv_response(PATIENCE)
            .timeout_per_read(PATIENCE)
            .build();
        Agent::new_with_config(config)
    })
}

#[cfg(test)]
mod tests;
