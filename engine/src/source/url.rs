//! As much of URLs (RFC 3986) as fetching needs: their parts, escapes and credentials.
//!
//! Knows nothing of what a scheme means; git's `user@host:path` is not a URL and passes unchanged.

use super::base64;

/// The parts of `scheme://user:password@host:port/path?query`, still escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) scheme: &'a str,
    /// What stands before the `@`, if anything does.
    pub(super) credentials: Option<&'a str>,
    /// The host with its port.
    pub(super) authority: &'a str,
    /// Path, query and fragment, from the first slash on; may be empty.
    pub(super) rest: &'a str,
}

impl<'a> Parts<'a> {
    /// Splits `url`; `None` where no `://` follows a scheme.
    pub(super) fn parse(url: &'a str) -> Option<Self> {
        let (scheme, after) = url.split_once("://")?;
        let scheme_char = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        if scheme.is_empty() || !scheme.chars().all(scheme_char) {
            return None;
        }
        let (before_path, rest) =
            after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
        let (credentials, authority) = match before_path.rsplit_once('@') {
            Some((credentials, authority)) => (Some(credentials), authority),
            None => (None, before_path),
        };
        Some(Self { scheme, credentials, authority, rest })
    }

    /// Returns the host without its port and without the brackets of an IPv6 address.
    pub(super) fn host(&self) -> &'a str {
        if let Some((address, _)) = self.authority.strip_prefix('[').and_then(|a| a.split_once(']'))
        {
            return address;
        }
        self.authority.rsplit_once(':').map_or(self.authority, |(host, _)| host)
    }

    /// Returns the port, the scheme's own where none is written.
    pub(super) fn port(&self) -> Option<u16> {
        let after_address =
            self.authority.rsplit_once(']').map_or(self.authority, |(_, after)| after);
        match after_address.rsplit_once(':') {
            Some((_, port)) => port.parse().ok(),
            None if self.scheme.eq_ignore_ascii_case("https") => Some(443),
            None if self.scheme.eq_ignore_ascii_case("http") => Some(80),
            None => None,
        }
    }

    /// Returns the path without query and fragment.
    pub(super) fn path(&self) -> &'a str {
        let end = self.rest.find(['?', '#']).unwrap_or(self.rest.len());
        &self.rest[..end]
    }

    /// Returns the credentials as the value of a basic `Authorization` header (RFC 7617).
    pub(super) fn basic_authorization(&self) -> Option<String> {
        let (user, password) = self.credentials.map(|c| c.split_once(':').unwrap_or((c, "")))?;
        let mut plain = unescape(user);
        plain.push(b':');
        plain.extend(unescape(password));
        Some(format!("Basic {}", base64::encode(&plain)))
    }
}

/// Returns `url` with the user and the password in it replaced by `xxxxx`.
pub fn redact_credentials(url: &str) -> String {
    match Parts::parse(url) {
        Some(Parts { scheme, credentials: Some(credentials), authority, rest }) => {
            let mask = if credentials.contains(':') { "xxxxx:xxxxx" } else { "xxxxx" };
            format!("{scheme}://{mask}@{authority}{rest}")
        }
        _ => url.to_owned(),
    }
}

/// Replaces `%41` by `A`; what only looks like an escape stays.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        match escape.and_then(hex_byte) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    plain
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Escapes what may not stand in a URL and people write there all the same, such as spaces.
pub(super) fn escape_invalid(url: &str) -> String {
    let mut escaped = String::with_capacity(url.len());
    for byte in url.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_parts() {
        let check = |url, host, port, path| {
            let parts = Parts::parse(url).expect(url);
            assert_eq!((parts.host(), parts.port(), parts.path()), (host, port, path), "{url}");
        };
        check("http://h/a/b?c#d", "h", Some(80), "/a/b");
        check("https://u:p@h:8443?x", "h", Some(8443), "");
        check("https://[::1]/x", "::1", Some(443), "/x");
        check("https://[::1]:99/x", "::1", Some(99), "/x");
        check("ssh://git@h/x.git", "h", None, "/x.git");
        assert_eq!(Parts::parse("git@github.com:a/b"), None);
    }

    #[test]
    fn credentials_are_hidden() {
        let check = |url, shown: &str| assert_eq!(redact_credentials(url), shown);
        check("https://u:p@h/x", "https://xxxxx:xxxxx@h/x");
        check("https://token@h/x", "https://xxxxx@h/x");
        check("https://h/x@y", "https://h/x@y");
        check("git@h:a/b", "git@h:a/b");
    }

    #[test]
    fn credentials_become_a_header() {
        let parts = Parts::parse("http://a%20b:c%3Ad@h/").expect("a URL");
        assert_eq!(parts.basic_authorization().expect("credentials"), "Basic YSBiOmM6ZA==");
    }

    #[test]
    fn escapes_are_made_and_read() {
        assert_eq!(escape_invalid("http://h/a b\u{e9}"), "http://h/a%20b%C3%A9");
        assert_eq!(unescape("a%20b%zz%"), b"a b%zz%");
    }
}
