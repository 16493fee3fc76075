//! A token server for a registry, in the test's own process: it checks who asks, and signs what they may.
//!
//! Speaks both ways of asking of distribution's `spec/auth`: GET with Basic credentials, and POST with a form. Anybody may
//! pull what is below `public/`; the one user may do everything.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::http::{Request, base64, reply, serve};
use super::{certificates, finish};

/// What the registry and its tokens call each other.
pub(crate) const SERVICE: &str = "test registry";
pub(crate) const ISSUER: &str = "test tokens";

/// The one user.
pub(crate) const USER: &str = "amy";
pub(crate) const PASSWORD: &str = "pass word:1";

/// What the user is given for asking with `offline_token`, and may show in the password's place.
pub(crate) const IDENTITY: &str = "identity-token-of-amy";

/// A running token server.
pub(crate) struct TokenServer {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TokenServer {
    /// Starts one with a certificate of its own in `folder`: `token.crt`.
    pub(crate) fn start(folder: &Path) -> Self {
        certificates::tokens(folder);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (folder, log) = (folder.to_owned(), Arc::clone(&requests));
        let port = serve(move |request, to| answer(&folder, request, to, &log));
        Self { port, requests }
    }

    /// The address that tokens are asked at.
    pub(crate) fn realm(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    /// The requests so far, as `GET amy repository:app:pull 200`; `-` is who gives no name.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no request panics").clone()
    }
}

fn answer(folder: &Path, request: &Request, to: &mut TcpStream, log: &Mutex<Vec<String>>) {
    let user = who(request);
    let scopes = request.values("scope").join(" ");
    let status = if user.is_ok() { 200 } else { 401 };
    let name = user.as_ref().map_or("?", |user| user.unwrap_or("-"));
    let line = format!("{} {name} {scopes} {status}", request.method);
    log.lock().expect("no request panics").push(line);
    let Ok(user) = user else {
        let body =
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}"#;
        return reply(to, status, &[("Content-Type", "application/json")], body.as_bytes());
    };
    let token = signed(folder, user, &access(user, &scopes));
    let mut body = json!({"token": token, "access_token": token, "expires_in": 60});
    if user.is_some() && request.values("offline_token") == ["true"]
        || request.values("access_type") == ["offline"]
    {
        body["refresh_token"] = IDENTITY.into();
    }
    reply(to, status, &[("Content-Type", "application/json")], body.to_string().as_bytes());
}

/// The user that the request proves to come from; none without credentials, an error with wrong ones.
fn who(request: &Request) -> Result<Option<&'static str>, ()> {
    let one = |name: &str| request.values(name).pop().unwrap_or_default();
    let proven = match request.header("authorization") {
        Some(given) => {
            given == format!("Basic {}", base64(format!("{USER}:{PASSWORD}").as_bytes()))
        }
        None if request.method == "POST" && one("grant_type") == "refresh_token" => {
            one("refresh_token") == IDENTITY
        }
        None if request.method == "POST" => one("username") == USER && one("password") == PASSWORD,
        None => return Ok(None),
    };
    if proven { Ok(Some(USER)) } else { Err(()) }
}

/// What of the scopes is granted, as a token's `access`.
fn access(user: Option<&str>, scopes: &str) -> Vec<Value> {
    let mut granted = Vec::new();
    for scope in scopes.split_whitespace() {
        let Some((kind, rest)) = scope.split_once(':') else { continue };
        let Some((name, actions)) = rest.rsplit_once(':') else { continue };
        let may =
            |action: &&str| user.is_some() || *action == "pull" && name.starts_with("public/");
        let actions: Vec<&str> = actions.split(',').filter(may).collect();
        granted.push(json!({"type": kind, "name": name, "actions": actions}));
    }
    granted
}

/// A token as distribution 2.8's `registry/auth/token` wants it: RS256, with the certificate in its header.
fn signed(folder: &Path, user: Option<&str>, access: &[Value]) -> String {
    let certificate =
        fs_err::read_to_string(folder.join("token.crt")).expect("read the certificate");
    let der: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
    let claims = json!({
        "iss": ISSUER, "sub": user.unwrap_or_default(), "aud": SERVICE, "jti": "1",
        "iat": now, "nbf": now - 10, "exp": now + 60, "access": access,
    });
    let text = [header, claims].map(|part| for_urls(part.to_string().as_bytes())).join(".");
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-sign"]).arg(folder.join("token.key"));
    let signature = finish(openssl, Some(text.as_bytes()));
    format!("{text}.{}", for_urls(&signature.succeeded().stdout))
}

/// Base64 as tokens have it. RFC 7515, appendix C.
fn for_urls(bytes: &[u8]) -> String {
    base64(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}
