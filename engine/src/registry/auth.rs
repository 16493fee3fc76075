//! Who we are, as a registry wants to hear it: Basic (RFC 7617) or a Bearer token (RFC 6750) from
//! where the registry says, for a scope, as `distribution/spec/auth/token.md` has it.
//!
//! Nothing is said before the registry asks. Tokens are kept until they expire, by scope.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::Agent;
use ureq::http::Request;
use ureq::http::header::{self, HeaderMap};

use crate::credentials::{Credentials, Secret};
use crate::source::base64;

use super::Error;
use super::client::read_bounded;

/// A token that does not say how long it lives (token.md).
const SHORTEST: u64 = 60;

/// What a request is for, in a token's words: `repository:NAME:pull`.
pub(super) type Scope = str;

/// What a registry has asked for, and what we have to show.
pub(super) struct Auth {
    host: String,
    encrypted: bool,
    credentials: Option<Credentials>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    asked: Option<Asked>,
    tokens: BTreeMap<String, Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

struct Token {
    text: String,
    until: Instant,
}

/// What a place of tokens answers.
#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    refresh_token: String,
    expires_in: Option<u64>,
}

impl Auth {
    pub(super) fn new(host: &str, encrypted: bool, credentials: Option<Credentials>) -> Self {
        Self { host: host.to_owned(), encrypted, credentials, state: Mutex::default() }
    }

    /// Whether there is a name to show.
    pub(super) fn is_named(&self) -> bool {
        self.credentials.is_some()
    }

    /// Takes in what the registry asks for in an answer of status 401; what was shown is no good any
    /// more, but a token that another thread has got meanwhile may be.
    pub(super) fn ask(
        &self,
        headers: &HeaderMap,
        scope: &Scope,
        shown: Option<&str>,
    ) -> Result<(), Error> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        let text = texts.join(", ");
        let asked = parse(&text)
            .ok_or_else(|| Error::Challenge { host: self.host.clone(), challenge: text.clone() })?;
        let mut state = self.state.lock().expect("no holder panics");
        let is_shown = |token: &Token| shown.is_some_and(|shown| shown.ends_with(&token.text));
        if state.tokens.get(scope).is_some_and(is_shown) {
            state.tokens.remove(scope);
        }
        state.asked = Some(asked);
        Ok(())
    }

    /// What to show for a scope, if anything was asked for.
    pub(super) fn header(&self, agent: &Agent, scope: &Scope) -> Result<Option<String>, Error> {
        let mut state = self.state.lock().expect("no holder panics");
        match state.asked.clone() {
            None => Ok(None),
            Some(Asked::Basic) => Ok(self.basic()),
            Some(Asked::Bearer { realm, service }) => {
                let alive = |token: &&Token| token.until > Instant::now();
                if let Some(token) = state.tokens.get(scope).filter(alive) {
                    return Ok(Some(format!("Bearer {}", token.text)));
                }
                let (text, lifetime) = self.fetch(agent, &realm, service.as_deref(), scope)?;
                let header = format!("Bearer {text}");
                // Old before it is refused.
                let until = Instant::now() + lifetime.mul_f64(0.8);
                state.tokens.insert(scope.to_owned(), Token { text, until });
                Ok(Some(header))
            }
        }
    }

    fn basic(&self) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        let Secret::Password(password) = &credentials.secret else { return None };
        let pair = format!("{}:{password}", credentials.username);
        Some(format!("Basic {}", base64::encode(pair.as_bytes())))
    }

    fn fetch(
        &self,
        agent: &Agent,
        realm: &str,
        service: Option<&str>,
        scope: &Scope,
    ) -> Result<(String, Duration), Error> {
        let what = format!("get a token of registry {}", self.host);
        let ask = || self.ask_for_token(agent, realm, service, scope, &what);
        // Once more, where the answer broke off.
        let answer = match ask() {
            Err(Error::Request { .. }) => ask()?,
            answer => answer?,
        };
        let text = if answer.token.is_empty() { answer.access_token } else { answer.token };
        if text.is_empty() {
            return Err(Error::Answer { what, why: "there is no token in it".to_owned() });
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = "the token in it has characters that no header may have".to_owned();
            return Err(Error::Answer { what, why });
        }
        let lifetime = answer.expires_in.unwrap_or(SHORTEST).clamp(1, 24 * 3600);
        Ok((text, Duration::from_secs(lifetime)))
    }

    fn ask_for_token(
        &self,
        agent: &Agent,
        realm: &str,
        service: Option<&str>,
        scope: &Scope,
        what: &str,
    ) -> Result<TokenAnswer, Error> {
        if self.encrypted && self.is_named() && !realm.starts_with("https://") {
            return Err(Error::PlainRealm { host: self.host.clone(), realm: realm.to_owned() });
        }
        let mut fields: Vec<(&str, &str)> = Vec::new();
        fields.extend(service.map(|service| ("service", service)));
        fields.extend(scope.split(' ').filter(|part| !part.is_empty()).map(|part| ("scope", part)));
        let called = |result: Result<_, ureq::Error>| {
            result.map_err(|source| Error::Request {
                what: what.to_owned(),
                url: realm.to_owned(),
                source: Box::new(source),
            })
        };
        let response = match &self.credentials {
            Some(Credentials { secret: Secret::IdentityToken(token), .. }) => {
                let mut form = fields;
                form.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "rbuild"),
                    ("refresh_token", token),
                ]);
                let request = Request::post(realm)
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
                let request = request.body(encode(&form)).map_err(|error| self.bad(realm, &error));
                called(agent.run(request?))?
            }
            credentials => {
                if let Some(credentials) = credentials {
                    fields.push(("account", &credentials.username));
                }
                let mark = if realm.contains('?') { '&' } else { '?' };
                let mut request = Request::get(format!("{realm}{mark}{}", encode(&fields)));
                if let Some(basic) = self.basic() {
                    request = request.header(header::AUTHORIZATION, basic);
                }
                let request = request.body(()).map_err(|error| self.bad(realm, &error))?;
                called(agent.run(request))?
            }
        };
        let status = response.status();
        let body = read_bounded(response, what)?;
        if !status.is_success() {
            let (host, said) = (self.host.clone(), super::client::said(status, &body));
            return Err(Error::Token { host, status: status.as_u16(), said });
        }
        serde_json::from_slice(&body)
            .map_err(|error| Error::Answer { what: what.to_owned(), why: error.to_string() })
    }

    /// Asks for a token that stands for the password from now on, where the registry has such.
    pub(super) fn identity_token(&self, agent: &Agent) -> Result<Option<String>, Error> {
        let asked = self.state.lock().expect("no holder panics").asked.clone();
        let Some(Asked::Bearer { realm, service }) = asked else { return Ok(None) };
        let what = format!("log in to registry {}", self.host);
        let realm = format!(
            "{realm}{}offline_token=true&client_id=rbuild",
            match realm.contains('?') {
                true => '&',
                false => '?',
            }
        );
        let answer = self.ask_for_token(agent, &realm, service.as_deref(), "", &what)?;
        Ok(Some(answer.refresh_token).filter(|token| !token.is_empty()))
    }

    fn bad(&self, realm: &str, error: &ureq::http::Error) -> Error {
        let challenge = format!("the tokens' place {realm:?} is no address: {error}");
        Error::Challenge { host: self.host.clone(), challenge }
    }
}

/// Chooses from what a registry offers: a token rather than a password at each request.
fn parse(text: &str) -> Option<Asked> {
    let mut basic = None;
    for challenge in http_auth::ChallengeParser::new(text).flatten() {
        let param = |name: &str| {
            let mut params = challenge.params.iter();
            params
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_unescaped())
        };
        if challenge.scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = param("realm")
        {
            return Some(Asked::Bearer { realm, service: param("service") });
        }
        if challenge.scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Asked::Basic);
        }
    }
    basic
}

/// Fields in the form of a URL's query.
fn encode(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    text.push(char::from(byte));
                }
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_chosen_before_a_password() {
        let bearer = |realm: &str, service: Option<&str>| {
            let service = service.map(str::to_owned);
            Some(Asked::Bearer { realm: realm.to_owned(), service })
        };
        for (text, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (r#"Basic realm="x", Bearer realm="https://t""#, bearer("https://t", None)),
            (r#"BASIC realm="Registry""#, Some(Asked::Basic)),
            ("Negotiate", None),
            ("", None),
            ("Bearer", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn fields_are_escaped() {
        let fields = [("scope", "repository:a/b:pull,push"), ("account", "ü&x")];
        assert_eq!(encode(&fields), "scope=repository%3Aa%2Fb%3Apull%2Cpush&account=%C3%BC%26x");
    }
}
