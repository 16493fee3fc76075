//! The file name in a `Content-Disposition` header (RFC 6266). Other parameters do not matter here.

use super::url::unescape;

/// Returns the name a header proposes, as sent: it may still hold slashes and worse.
pub(super) fn file_name(header: &str) -> Option<String> {
    let (_kind, mut rest) = header.split_once(';')?;
    let (mut plain, mut best) = (None, None);
    while let Some((name, value, after)) = parameter(rest) {
        match name.to_ascii_lowercase().as_str() {
            // The extended form wins wherever it stands.
            "filename*" => best = extended(&value),
            "filename" => plain = Some(value),
            _ => {}
        }
        rest = after;
    }
    best.or(plain)
}

/// Splits off the first `name=value`, the value without its quotes.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim_matches([' ', '\t', ';']);
    let value = value.trim_start();
    let Some(quoted) = value.strip_prefix('"') else {
        let (token, after) = value.split_once(';').unwrap_or((value, ""));
        return Some((name, token.trim_end().to_owned(), after));
    };
    let mut unquoted = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((name, unquoted, &quoted[at + 1..])),
            '\\' => unquoted.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => unquoted.push(char),
        }
    }
    None
}

/// Decodes `charset'language'escaped` (RFC 8187); only UTF-8 is in use.
fn extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, escaped) = rest.split_once('\'')?;
    charset.eq_ignore_ascii_case("utf-8").then(|| String::from_utf8(unescape(escaped)).ok())?
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_found() {
        let check = |header: &str, name: Option<&str>| {
            assert_eq!(super::file_name(header).as_deref(), name, "{header}");
        };
        check("attachment; filename=plain.txt", Some("plain.txt"));
        check("attachment; filename=\"a; b.txt\"; size=3", Some("a; b.txt"));
        check("attachment; filename=\"say \\\"hi\\\"\"", Some("say \"hi\""));
        check("attachment; size=3; FileName = x", Some("x"));
        check("attachment; filename=\"x\"; filename*=UTF-8''%E2%82%AC.txt", Some("\u{20ac}.txt"));
        check("attachment; filename*=latin1''x; filename=y", Some("y"));
        check("attachment", None);
        check("attachment; filename=\"open", None);
    }
}
