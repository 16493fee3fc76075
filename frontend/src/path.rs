//! Lexical operations on slash-separated paths, as Go's `path` package has them.
//!
//! Touches no file system: a path inside a rootfs is resolved elsewhere, safely.

/// Returns the shortest equal path: no `.`, no doubled slash, no `..` that can be dropped.
///
/// An empty path becomes `.`; an absolute path never climbs above `/`.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Joins two paths and cleans the result; `path` counts as relative even if it begins with `/`.
pub fn join(base: &str, path: &str) -> String {
    clean(&format!("{base}/{path}"))
}

/// Returns the last component: `/` for the root, `.` for the empty path.
pub fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    match path.trim_end_matches('/') {
        "" => "/",
        path => path.rsplit('/').next().unwrap_or(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("", "."),
            ("/", "/"),
            ("a//b/./c/", "a/b/c"),
            ("/a/../..", "/"),
            ("a/../../b", "../b"),
            ("../..", "../.."),
            ("./x", "x"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
        assert_eq!(join("/", "/a/../b"), "/b");
        assert_eq!(join("/app", "x"), "/app/x");
    }

    #[test]
    fn base_is_the_last_component() {
        for (path, expected) in [("", "."), ("/", "/"), ("//", "/"), ("a/b/", "b"), ("a", "a")] {
            assert_eq!(base(path), expected, "{path}");
        }
    }
}
