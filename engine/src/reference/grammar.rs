//! The grammar of references, written out by hand: a regular expression would take longer to
//! compile than most commands run.
//!
//! ```text
//! reference  = name [":" tag] ["@" digest]
//! name       = [domain "/"] path
//! domain     = host [":" digits]
//! host       = label *("." label) | "[" 1*(hex | ":") "]"
//! path       = component *("/" component)
//! component  = alnum *(separator alnum)         alnum = lower-case letters and digits
//! separator  = "." | "_" | "__" | 1*"-"
//! tag        = word *127(word | "." | "-")      word = letters, digits, "_"
//! digest     = algorithm ":" 32*hex
//! ```
//!
//! Knows nothing of docker.io.

use super::ReferenceError;

const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// The parts of a reference, as they stand in its text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) domain: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) tag: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
}

/// Parses a reference; a first component that could be a domain is taken for one.
pub(super) fn parse(text: &str) -> Result<Parts<'_>, ReferenceError> {
    let Some(parts) = split(text) else {
        return Err(match text {
            "" => ReferenceError::Empty,
            _ if split(&text.to_lowercase()).is_some() => ReferenceError::Uppercase,
            _ => ReferenceError::Format,
        });
    };
    if parts.path.len() > MAX_PATH {
        return Err(ReferenceError::TooLong);
    }
    parts.digest.map_or(Ok(()), check_digest)?;
    Ok(parts)
}

fn split(text: &str) -> Option<Parts<'_>> {
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) => (text, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash can only be a port's.
    let last = text.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match text[last..].find(':') {
        Some(colon) => (&text[..last + colon], Some(&text[last + colon + 1..])),
        None => (text, None),
    };
    let (domain, path) = split_name(name)?;
    let valid = tag.is_none_or(is_tag) && digest.is_none_or(looks_like_digest);
    valid.then_some(Parts { domain, path, tag, digest })
}

fn split_name(name: &str) -> Option<(Option<&str>, &str)> {
    match name.split_once('/') {
        Some((domain, path)) if is_domain(domain) && is_path(path) => Some((Some(domain), path)),
        _ => is_path(name).then_some((None, name)),
    }
}

fn is_domain(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        let is_address = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
        let digits = port.strip_prefix(':');
        return consists_of(address, is_address)
            && (port.is_empty() || digits.is_some_and(is_number));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    host.split('.').all(is_label) && port.is_none_or(is_number)
}

fn is_label(text: &str) -> bool {
    consists_of(text, |byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_number(text: &str) -> bool {
    consists_of(text, |byte| byte.is_ascii_digit())
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_component)
}

fn is_component(text: &str) -> bool {
    let is_alnum = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
    let separators: Vec<&str> = text.split(is_alnum).filter(|part| !part.is_empty()).collect();
    text.starts_with(is_alnum)
        && text.ends_with(is_alnum)
        && separators.iter().all(|separator| {
            matches!(*separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
}

/// Tells whether `text` may stand behind the colon.
pub(super) fn is_tag(text: &str) -> bool {
    text.len() <= MAX_TAG
        && consists_of(text, |byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && !text.starts_with(['.', '-'])
}

/// Tells whether `text` is 64 lower-case hexadecimal digits, an image's id.
pub(super) fn is_identifier(text: &str) -> bool {
    text.len() == 64 && consists_of(text, is_lower_hex)
}

/// The shape a digest must have for the text to be a reference at all.
fn looks_like_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let is_word = |word: &str| {
        consists_of(word, |byte| byte.is_ascii_alphanumeric())
            && word.starts_with(|first: char| first.is_ascii_alphabetic())
    };
    algorithm.split(['-', '_', '+', '.']).all(is_word)
        && hex.len() >= 32
        && consists_of(hex, |byte| byte.is_ascii_hexdigit())
}

/// Checks that a digest is one by which the store can find something.
pub(super) fn check_digest(text: &str) -> Result<(), ReferenceError> {
    let (algorithm, hex) = text.split_once(':').ok_or(ReferenceError::DigestFormat)?;
    if algorithm != "sha256" {
        let is_word = |word: &str| {
            consists_of(word, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        let valid = algorithm.split(['-', '_', '+', '.']).all(is_word)
            && consists_of(hex, |byte| byte.is_ascii_alphanumeric() || b"=_-".contains(&byte));
        return Err(match valid {
            true => ReferenceError::DigestAlgorithm,
            false => ReferenceError::DigestFormat,
        });
    }
    match hex.len() {
        0 => Err(ReferenceError::DigestFormat),
        64 if consists_of(hex, is_lower_hex) => Ok(()),
        64 => Err(ReferenceError::DigestFormat),
        _ => Err(ReferenceError::DigestLength),
    }
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn consists_of(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::reference::tests::{cases, expand};

    fn check(text: &str, expected: Result<Parts<'_>, ReferenceError>) {
        assert_eq!(parse(text), expected, "{text}");
    }

    #[test]
    fn colons_before_the_last_slash_are_ports() {
        let parts = |domain, path, tag| Ok(Parts { domain, path, tag, digest: None });
        check("a:1", parts(None, "a", Some("1")));
        check("a:1/b", parts(Some("a:1"), "b", None));
        check("[::1]:5/b:c", parts(Some("[::1]:5"), "b", Some("c")));
        check("a_b/c", parts(None, "a_b/c", None));
        check("a-.b/c", Err(ReferenceError::Format));
        check("a:b:c", Err(ReferenceError::Format));
        check("A:b", Err(ReferenceError::Uppercase));
    }

    fn error_of(case: &Value) -> Option<ReferenceError> {
        Some(match case["err"]["$expr"].as_str()? {
            "ErrNameEmpty" => ReferenceError::Empty,
            "ErrReferenceInvalidFormat" => ReferenceError::Format,
            "ErrNameContainsUppercase" => ReferenceError::Uppercase,
            "ErrNameTooLong" => ReferenceError::TooLong,
            "digest.ErrDigestInvalidLength" => ReferenceError::DigestLength,
            "digest.ErrDigestUnsupported" => ReferenceError::DigestAlgorithm,
            other => panic!("unknown error {other}"),
        })
    }

    #[test]
    fn every_case_of_the_parsing_suites_holds() {
        for suite in ["reference.TestReferenceParse", "reference.TestSerialization"] {
            for case in cases(suite) {
                let input = expand(&case["input"]);
                let parsed = parse(&input);
                if let Some(error) = error_of(&case) {
                    assert_eq!(parsed, Err(error), "{case}");
                    continue;
                }
                let parts = parsed.expect("valid");
                let domain = parts.domain.map(|domain| format!("{domain}/")).unwrap_or_default();
                let name = if case["name"].is_null() { "repository" } else { "name" };
                assert_eq!(format!("{domain}{}", parts.path), expand(&case[name]), "{case}");
                assert_eq!(parts.tag.unwrap_or_default(), expand(&case["tag"]), "{case}");
                assert_eq!(parts.digest.unwrap_or_default(), expand(&case["digest"]), "{case}");
                if suite == "reference.TestReferenceParse" {
                    assert_eq!(parts.domain.unwrap_or_default(), expand(&case["domain"]), "{case}");
                }
            }
        }
    }

    #[test]
    fn every_case_of_the_name_suites_holds() {
        for case in cases("reference.TestDomainAndPath") {
            let input = expand(&case["input"]);
            let (domain, path) = split_name(&input).expect("valid");
            assert_eq!(domain.unwrap_or_default(), expand(&case["domain"]), "{case}");
            assert_eq!(path, expand(&case["path"]), "{case}");
        }
        for case in cases("reference.TestWithNameFailure") {
            let input = expand(&case["input"]);
            let too_long = split_name(&input).is_some_and(|(_, path)| path.len() > MAX_PATH);
            assert!(too_long || split_name(&input).is_none(), "{case}");
        }
        for case in cases("regexp.TestFullNameRegexp") {
            let input = expand(&case["input"]);
            let found = split_name(&input);
            assert_eq!(found.is_some(), case["match"] == true, "{case}");
            // Some rows say only that there is a match.
            if let (Some((domain, path)), true) = (found, case["subs"].is_array()) {
                assert_eq!(domain.unwrap_or_default(), expand(&case["subs"][0]), "{case}");
                assert_eq!(path, expand(&case["subs"][1]), "{case}");
            }
        }
    }

    #[test]
    fn every_case_of_the_regular_expressions_holds() {
        for case in cases("regexp.TestDomainRegexp") {
            assert_eq!(is_domain(&expand(&case["input"])), case["match"] == true, "{case}");
        }
        for case in cases("regexp.TestIdentifierRegexp") {
            assert_eq!(is_identifier(&expand(&case["input"])), case["match"] == true, "{case}");
        }
        for case in cases("regexp.TestReferenceRegexp") {
            let input = expand(&case["input"]);
            let found = split(&input);
            assert_eq!(found.is_some(), case["match"] == true, "{case}");
            if let Some(parts) = found {
                let domain = parts.domain.map(|domain| format!("{domain}/")).unwrap_or_default();
                assert_eq!(format!("{domain}{}", parts.path), expand(&case["subs"][0]), "{case}");
                assert_eq!(parts.tag.unwrap_or_default(), expand(&case["subs"][1]), "{case}");
                assert_eq!(parts.digest.unwrap_or_default(), expand(&case["subs"][2]), "{case}");
            }
        }
    }
}
