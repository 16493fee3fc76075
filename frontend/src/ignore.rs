//! The text of a `.dockerignore`: one pattern a line, made ready for matching.
//!
//! Reads no file, and does not know what the patterns match: that is [`engine::pattern`]'s.

use engine::pattern::clean;

/// Returns the patterns of a `.dockerignore` in order, without comments and blank lines.
///
/// Leading slashes and `..` go, as patterns are relative to the context; a `!` stays in front. A
/// text that is not UTF-8 has its stray bytes replaced, so such a line matches nothing.
pub fn parse(text: &[u8]) -> Vec<String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    String::from_utf8_lossy(text).lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<String> {
    // Only a `#` in the first column begins a comment.
    if line.starts_with('#') {
        return None;
    }
    match line.trim() {
        "" => None,
        line => Some(match line.strip_prefix('!') {
            Some(pattern) => format!("!{}", relative(pattern.trim())),
            None => relative(line),
        }),
    }
}

/// Cleans a pattern as if the context were the root, so that `..` cannot leave it either.
fn relative(pattern: &str) -> String {
    if pattern.is_empty() {
        return String::new();
    }
    let cleaned = clean(&format!("/{pattern}"));
    match cleaned.strip_prefix('/') {
        Some(relative) if !relative.is_empty() => relative.to_owned(),
        _ => cleaned,
    }
}

#[cfg(test)]
mod tests {
    use engine::pattern::Patterns;
    use serde_json::Value;

    use super::*;

    fn check(text: &[u8], expected: &[&str]) {
        assert_eq!(parse(text), expected, "{}", text.escape_ascii());
    }

    #[test]
    fn lines_become_clean_patterns() {
        check(b"", &[]);
        check(b"a\n\n  b  \r\n# c\n #d\n", &["a", "b", "#d"]);
        check(b"\xef\xbb\xbf# note\n/a/b/\n./c//d\n../e/..", &["a/b", "c/d", "/"]);
        check(b"! /a\n!b/../c\n!\n! \n/", &["!a", "!c", "!", "!", "/"]);
        check(b"\xef\xbb\xbfa", &["a"]);
    }

    fn rows(file: &str) -> Vec<Value> {
        let Some(folder) = std::env::var_os("RBUILD_CONFORMANCE") else {
            return Vec::new();
        };
        let file = std::path::Path::new(&folder).join("dockerignore").join(file);
        let text = std::fs::read_to_string(file).expect("the suite is there");
        let rows = serde_json::Deserializer::from_str(&text).into_iter();
        rows.collect::<Result<_, _>>().expect("the suite is JSON")
    }

    fn strings(list: &Value) -> Vec<&str> {
        let texts = list.as_array().expect("a list").iter();
        texts.map(|text| text.as_str().expect("a text")).collect()
    }

    #[test]
    fn the_reading_suite_holds() {
        for case in rows("ignorefile_read.json") {
            let content = case["content"].as_str().expect("a text");
            check(content.as_bytes(), &strings(&case["patterns"]));
        }
    }

    /// The paths a classic client sends. Two groups do not apply: the Dockerfile and the ignore
    /// file, which it sends whatever the patterns say, are left out of the comparison; and for `*`
    /// with `!*/b.py` it did not look below what `*` matched, as BuildKit does.
    #[test]
    fn every_row_of_the_sent_paths_suite_holds() {
        for row in rows("dockerpy_exclude_paths.jsonl") {
            if row["test"] == "test_include_wildcard" {
                continue;
            }
            let text = strings(&row["patterns"]).join("\n");
            let patterns = Patterns::new(&parse(text.as_bytes())).expect("well formed");
            let dockerfile = clean(row["dockerfile"].as_str().unwrap_or("Dockerfile"));
            let compared = |path: &&str| *path != ".dockerignore" && *path != dockerfile;

            let mut kept = [strings(&row["dirs"]), strings(&row["files"])].concat();
            kept.retain(|path| !patterns.matches_or_parent_matches(path));
            kept.retain(compared);
            kept.sort_unstable();
            let mut expected = strings(&row["kept"]);
            expected.retain(compared);
            expected.sort_unstable();
            assert_eq!(kept, expected, "{row}");
        }
    }
}
