//! One registry: requests, with what it wants to hear of who we are, again where that may help.
//!
//! Speaks HTTP/1.1 through `ureq`, which follows redirects and tells another host nothing of who we
//! are. Does not know what is in the documents and blobs that it brings.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::config::RedirectAuthHeaders;
use ureq::http::header::{self, HeaderMap, HeaderName};
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use super::auth::{Auth, Scope};
use super::settings::{Place, files};
use super::{Error, Settings};
use crate::credentials::Credentials;

/// How often a request is made again.
const ATTEMPTS: u32 = 5;
/// How often a request is made again with another proof of who we are.
const PROOFS: u32 = 3;
/// Whatever asks us to wait longer is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// No manifest, token or error is longer; the specification has registries take 4 MiB.
const LONGEST: u64 = 4 << 20;
/// Where systems keep the certificates that they trust.
const SYSTEM_CERTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A repository of a registry that answers.
pub(super) struct Client {
    /// Where it is.
    pub(super) place: Place,
    base: String,
    agent: Agent,
    auth: Auth,
}

/// One request, but for its body.
pub(super) struct Ask<'a> {
    /// What it is for, as a verb: `read manifest x`.
    pub(super) what: &'a str,
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) headers: &'a [(HeaderName, &'a str)],
    /// What a token must allow.
    pub(super) scope: &'a Scope,
}

impl Client {
    /// Finds out how a registry is spoken to, and what it wants to hear.
    pub(super) fn connect(settings: &Settings, place: Place) -> Result<Self, Error> {
        let host = &place.host;
        let failed = |source| Error::Credentials { host: host.clone(), source };
        let credentials = match &settings.credentials {
            Some(store) => store.get(host).map_err(failed)?,
            None => None,
        };
        Self::reach(settings, place, credentials)
    }

    /// The same as somebody whose credentials are not written down.
    pub(super) fn connect_as(
        settings: &Settings,
        place: Place,
        credentials: &Credentials,
    ) -> Result<Self, Error> {
        Self::reach(settings, place, Some(credentials.clone()))
    }

    fn reach(
        settings: &Settings,
        place: Place,
        credentials: Option<Credentials>,
    ) -> Result<Self, Error> {
        let mut failed = None;
        for scheme in place.schemes {
            let client = Self::new(settings, place.clone(), scheme, credentials.clone())?;
            match client.ping() {
                Ok(()) => return Ok(client),
                // That it cannot be spoken to in plain text either says less.
                Err(error) if failed.is_none() || !is_unreachable(&error) => failed = Some(error),
                Err(_) => {}
            }
        }
        Err(failed.expect("a place has a scheme"))
    }

    fn new(
        settings: &Settings,
        place: Place,
        scheme: &str,
        credentials: Option<Credentials>,
    ) -> Result<Self, Error> {
        let host = &place.host;
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok()),
            None => (host.as_str(), None),
        };
        let proxy =
            settings.proxy.choose(scheme, name, port).and_then(|p| ureq::Proxy::new(p).ok());
        let config = Agent::config_builder()
            .tls_config(tls(settings, &place)?)
            .proxy(proxy)
            .user_agent(concat!("rbuild/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(settings.patience.min(Duration::from_secs(30))))
            .timeout_recv_response(Some(settings.patience))
            .timeout_per_read(Some(settings.patience))
            .timeout_per_write(Some(settings.patience))
            .input_buffer_size(1 << 18)
            .output_buffer_size(1 << 18)
            .build();
        Ok(Self {
            base: format!("{scheme}://{host}"),
            agent: Agent::new_with_config(config),
            auth: Auth::new(host, scheme == "https" && !place.unverified, credentials),
            place,
        })
    }

    /// Asks whether this is a registry; one that asks who we are is one.
    fn ping(&self) -> Result<(), Error> {
        let url = format!("{}/v2/", self.base);
        let what = format!("reach registry {}", self.place.host);
        let ask = Ask { what: &what, method: Method::GET, url: &url, headers: &[], scope: "" };
        let response = self.attempt(&ask, None, None)?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return self.auth.ask(response.headers(), "", None);
        }
        if is_worth_waiting(status) || status.is_success() {
            return Ok(());
        }
        let why = format!("GET /v2/ gives status {}", status.as_u16());
        Err(Error::NoRegistry { host: self.place.host.clone(), why })
    }

    /// The URL of something in the repository: `manifests/latest`.
    pub(super) fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.base, self.place.repository)
    }

    /// A place that the registry names in an answer, whole.
    pub(super) fn location(&self, headers: &HeaderMap) -> Option<String> {
        self.whole(headers.get(header::LOCATION)?.to_str().ok()?)
    }

    /// A URL that may leave out the registry.
    pub(super) fn whole(&self, url: &str) -> Option<String> {
        match url.starts_with('/') {
            true => Some(format!("{}{url}", self.base)),
            false => {
                (url.starts_with("https://") || url.starts_with("http://")).then(|| url.to_owned())
            }
        }
    }

    /// Whether a URL is of this registry; no other is told who we are.
    fn is_ours(&self, url: &str) -> bool {
        url.strip_prefix(&self.base).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Makes a request without a body, again and again where that may help.
    pub(super) fn ask(&self, ask: &Ask<'_>) -> Result<Response<Body>, Error> {
        self.send(ask, &[])
    }

    /// Reads a short answer, which is asked for again if it breaks off.
    pub(super) fn read(&self, ask: &Ask<'_>) -> Result<(HeaderMap, Vec<u8>), Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let response = self.ask(ask)?;
            if !response.status().is_success() {
                return Err(self.refused(ask.what, response));
            }
            let headers = response.headers().clone();
            match read_bounded(response, ask.what) {
                Err(error) if is_unreachable(&error) && attempt < ATTEMPTS => {
                    std::thread::sleep(wait(attempt));
                }
                bytes => return Ok((headers, bytes?)),
            }
        }
    }

    /// Makes a request with a short body.
    pub(super) fn send(&self, ask: &Ask<'_>, body: &[u8]) -> Result<Response<Body>, Error> {
        let has_body = ask.method != Method::GET && ask.method != Method::HEAD;
        let mut attempt = 0;
        let mut proofs = 0;
        loop {
            attempt += 1;
            let mut reader = body;
            let body = has_body.then(|| SendBody::from_reader(&mut reader));
            let last = attempt >= ATTEMPTS;
            let shown = self.proof(ask)?;
            match self.attempt(ask, shown.as_deref(), body) {
                // More than once, since others may have used up a token that we share.
                Ok(response)
                    if response.status() == StatusCode::UNAUTHORIZED && proofs < PROOFS =>
                {
                    proofs += 1;
                    self.auth.ask(response.headers(), ask.scope, shown.as_deref())?;
                }
                Ok(response) if is_worth_waiting(response.status()) && !last => {
                    match asked_wait(response.headers()) {
                        // Nobody sits that long before a command.
                        Some(long) if long > LONGEST_WAIT => return Ok(response),
                        asked => std::thread::sleep(asked.unwrap_or_else(|| wait(attempt))),
                    }
                }
                Err(error) if is_unreachable(&error) && !last => {
                    std::thread::sleep(wait(attempt));
                }
                answer => return answer,
            }
        }
    }

    /// Makes a request once, with a body that cannot be sent twice.
    pub(super) fn stream(
        &self,
        ask: &Ask<'_>,
        body: &mut dyn Read,
    ) -> Result<Response<Body>, Error> {
        let shown = self.proof(ask)?;
        self.attempt(ask, shown.as_deref(), Some(SendBody::from_reader(body)))
    }

    /// What to show of who we are; no other host is told.
    fn proof(&self, ask: &Ask<'_>) -> Result<Option<String>, Error> {
        match self.is_ours(ask.url) {
            true => self.auth.header(&self.agent, ask.scope),
            false => Ok(None),
        }
    }

    fn attempt(
        &self,
        ask: &Ask<'_>,
        shown: Option<&str>,
        body: Option<SendBody<'_>>,
    ) -> Result<Response<Body>, Error> {
        let bad = |error: ureq::http::Error| Error::Answer {
            what: ask.what.to_owned(),
            why: format!("{:?} is no address: {error}", ask.url),
        };
        let mut request = Request::builder().method(&ask.method).uri(ask.url);
        for (name, value) in ask.headers {
            request = request.header(name, *value);
        }
        if let Some(value) = shown {
            request = request.header(header::AUTHORIZATION, value);
        }
        let sent = match body {
            Some(body) => self.agent.run(request.body(body).map_err(bad)?),
            None => self.agent.run(request.body(()).map_err(bad)?),
        };
        sent.map_err(|source| Error::Request {
            what: ask.what.to_owned(),
            url: ask.url.to_owned(),
            source: Box::new(source),
        })
    }

    /// What an answer without success means.
    pub(super) fn refused(&self, what: &str, response: Response<Body>) -> Error {
        let status = response.status();
        let body = read_bounded(response, what).unwrap_or_default();
        Error::Refused { what: what.to_owned(), status: status.as_u16(), said: said(status, &body) }
    }

    /// Has the registry say whether it knows who we say we are, and asks it for a token that stands
    /// for the password.
    pub(super) fn log_in(&self) -> Result<Option<String>, Error> {
        let url = format!("{}/v2/", self.base);
        let what = format!("log in to registry {}", self.place.host);
        let response = self.ask(&Ask {
            what: &what,
            method: Method::GET,
            url: &url,
            headers: &[],
            scope: "",
        })?;
        if !response.status().is_success() {
            return Err(self.refused(&what, response));
        }
        Ok(self.auth.identity_token(&self.agent).unwrap_or_default())
    }
}

/// How long to wait before another attempt: longer each time.
fn wait(attempt: u32) -> Duration {
    Duration::from_millis(100 << attempt.min(6))
}

/// How long a registry asks to wait.
fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Whether another attempt may succeed (RFC 9110, RFC 6585).
fn is_worth_waiting(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

/// Whether nothing came of an attempt; a name that nobody has, or a certificate, stays what it is.
fn is_unreachable(error: &Error) -> bool {
    let Error::Request { source, .. } = error else { return false };
    matches!(
        **source,
        ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::ConnectionFailed
            | ureq::Error::Protocol(_)
    )
}

/// Reads an answer that should be short.
pub(super) fn read_bounded(response: Response<Body>, what: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut reader = response.into_body().into_reader().take(LONGEST + 1);
    reader.read_to_end(&mut bytes).map_err(|source| Error::Request {
        what: what.to_owned(),
        url: "while the answer was read".to_owned(),
        source: Box::new(source.into()),
    })?;
    match bytes.len() as u64 > LONGEST {
        true => Err(Error::Answer {
            what: what.to_owned(),
            why: format!("it is longer than {LONGEST} bytes"),
        }),
        false => Ok(bytes),
    }
}

/// What a registry says in an error's body (distribution spec, "Error Codes"), else its status.
pub(super) fn said(status: StatusCode, body: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: &serde_json::Value, key: &str| {
        value[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let mut parts: Vec<String> = Vec::new();
    for error in document["errors"].as_array().into_iter().flatten() {
        let words = [
            text(error, "code").map(|code| code.to_lowercase().replace('_', " ")),
            text(error, "message"),
        ];
        parts.push(words.into_iter().flatten().collect::<Vec<_>>().join(": "));
    }
    parts.extend(text(&document, "details").or_else(|| text(&document, "message")));
    parts.retain(|part| !part.is_empty());
    // It goes to a terminal.
    let clean =
        |text: String| text.chars().filter(|c| !c.is_control()).take(500).collect::<String>();
    match parts.is_empty() {
        true => format!("status {status}"),
        false => clean(parts.join("; ")),
    }
}

/// How far a registry's certificate is believed, and ours.
fn tls(settings: &Settings, place: &Place) -> Result<TlsConfig, Error> {
    let builder = TlsConfig::builder();
    let Some(dir) = settings.certs_of(&place.host) else {
        return Ok(match place.unverified {
            true => builder.disable_verification(true).build(),
            false => builder.root_certs(RootCerts::PlatformVerifier).build(),
        });
    };
    let failed = |path: &Path, why: &dyn std::fmt::Display| Error::Certificate {
        host: place.host.clone(),
        path: path.to_owned(),
        why: why.to_string(),
    };
    let list = |ending| files(&dir, ending).map_err(|error| failed(&dir, &error));
    let mut roots = Vec::new();
    for path in list("crt")? {
        let found = certificates(&path).map_err(|why| failed(&path, &why))?;
        roots.extend(found);
    }
    let own = if roots.is_empty() {
        RootCerts::PlatformVerifier
    } else {
        let system = SYSTEM_CERTS.iter().find_map(|path| certificates(Path::new(path)).ok());
        roots.extend(system.unwrap_or_default());
        RootCerts::Specific(Arc::new(roots))
    };
    let mut client = None;
    for path in list("cert")? {
        let chain = certificates(&path).map_err(|why| failed(&path, &why))?;
        let key_path = path.with_extension("key");
        let pem = fs::read(&key_path).map_err(|error| failed(&key_path, &error))?;
        let key = PrivateKey::from_pem(&pem).map_err(|error| failed(&key_path, &error))?;
        client = Some(ClientCert::new_with_certs(&chain, key));
    }
    Ok(builder.root_certs(own).client_cert(client).build())
}

/// The certificates in a file.
fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(found) }
}

/// A time after which a registry that says next to nothing has said nothing.
pub(super) struct Patience {
    limit: Duration,
    since: Instant,
    bytes: u64,
}

impl Patience {
    /// Bytes that count as something.
    const LEAST: u64 = 1 << 10;

    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: Instant::now(), bytes: 0 }
    }

    /// Counts what came; false when it was too little for too long.
    pub(super) fn bear(&mut self, bytes: usize) -> bool {
        self.bytes += bytes as u64;
        if self.bytes >= Self::LEAST {
            (self.bytes, self.since) = (0, Instant::now());
        }
        self.since.elapsed() < self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_taken_from_its_error() {
        let check = |body: &str, expected: &str| {
            assert_eq!(said(StatusCode::NOT_FOUND, body.as_bytes()), expected, "{body}");
        };
        check(
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#,
            "manifest unknown: manifest unknown",
        );
        check(r#"{"details":"incorrect username or password"}"#, "incorrect username or password");
        check("<html>", "status 404 Not Found");
        check("{\"message\":\"a\\u001b[31mb\"}", "a[31mb");
    }

    #[test]
    fn a_registry_says_in_seconds_how_long_to_wait() {
        let mut headers = HeaderMap::new();
        for (text, seconds) in [("3", Some(3)), ("0", Some(0)), ("soon", None)] {
            headers.insert(header::RETRY_AFTER, text.parse().expect("value"));
            assert_eq!(asked_wait(&headers), seconds.map(Duration::from_secs));
        }
        assert!(wait(5) > wait(4));
    }
}
