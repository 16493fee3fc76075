use super::*;
use crate::conformance;

fn check(patterns: &[&str], path: &str, expected: bool) {
    let parsed = Patterns::new(patterns).expect("well formed");
    assert_eq!(parsed.matches_or_parent_matches(path), expected, "{patterns:?} on {path}");
    assert_eq!(matches_step_by_step(&parsed, path), expected, "{patterns:?} on {path}, by steps");
}

/// Matches as a walk does: each directory with the result of the one above.
fn matches_step_by_step(patterns: &Patterns, path: &str) -> bool {
    let ends = path.match_indices('/').map(|(end, _)| end).filter(|end| *end > 0);
    let mut parent = None;
    for end in ends {
        parent = Some(patterns.matches_below(&path[..end], parent.as_ref()));
    }
    patterns.matches_file(path, parent.as_ref())
}

#[test]
fn the_last_pattern_that_matches_decides() {
    check(&[], "a", false);
    check(&["a"], "a", true);
    check(&["a"], "a/b/c", true);
    check(&["a"], "ab", false);
    check(&["a", "!a/b"], "a/b/c", false);
    check(&["a", "!a/b", "a/b/c"], "a/b/c", true);
    check(&["!a", "a"], "a", true);
    check(&["*", "!*.md", "README*.md"], "README-x.md", true);
    check(&["*", "!*.md", "README*.md"], "x.md", false);
    check(&["  ./a//b/../c  "], "a/c", true);
}

#[test]
fn double_stars_have_their_short_forms() {
    check(&["**/x"], "x", true);
    check(&["**/x"], "a/b/x", true);
    check(&["**/x"], "a/bx", false);
    check(&["**x"], "a/bx", true);
    check(&["a/**"], "a", false);
    check(&["a/**"], "a/b/c", true);
    check(&["a**"], "ab/c", true);
    check(&["**"], "a/b", true);
    check(&["a/**/b"], "a/b", true);
    check(&["a/**/b"], "a/x/y/b/z", true);
}

#[test]
fn malformed_patterns_are_refused() {
    let malformed = |pattern: &str| PatternError::Malformed { pattern: pattern.to_owned() };
    let check = |pattern: &str, expected: PatternError| {
        assert_eq!(Patterns::new(&[pattern]).expect_err(pattern), expected);
    };
    check("!", PatternError::EmptyException);
    for pattern in ["[", "[]a]", "[a-", "[a", "a\\", "[-a]"] {
        check(pattern, malformed(pattern));
    }
}

#[test]
fn only_exceptions_keep_an_ignored_directory_open() {
    let check = |patterns: &[&str], dir: &str, expected: bool| {
        let parsed = Patterns::new(patterns).expect("well formed");
        assert_eq!(parsed.may_reinclude_below(dir), expected, "{patterns:?} below {dir}");
    };
    check(&["a"], "a", false);
    check(&["a", "!a/b/c"], "a", true);
    check(&["a", "!a/b/c"], "a/x", false);
    check(&["a", "!ab/c"], "a", false);
    check(&["a", "!a/**"], "a/b", true);
    check(&["a", "!**/x"], "a", true);
    check(&["*", "!b*/c"], "a", false);
    check(&["*", "!b*/c"], "bb", true);
}

#[test]
fn paths_are_cleaned_by_their_text() {
    for (path, expected) in [
        ("", "."),
        ("/", "/"),
        ("a//b/./c/", "a/b/c"),
        ("a/../..", ".."),
        ("/../a", "/a"),
        ("../../a", "../../a"),
        ("a/b/../../..", ".."),
    ] {
        assert_eq!(clean(path), expected, "{path}");
    }
}

/// A walk that prunes must keep what a walk that looks at every path keeps.
#[test]
fn pruning_loses_nothing() {
    let words = ["a", "b", "ab", "*", "a*", "**", "?", "[ab]", "**b"];
    let patterns: Vec<String> = words
        .iter()
        .flat_map(|first| words.iter().map(move |second| format!("{first}/{second}")))
        .chain(words.map(str::to_owned))
        .collect();
    let names = ["a", "b", "ab", "c"];
    let mut random = 1_u32;
    let mut next = |below: usize| {
        random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        (random >> 16) as usize % below
    };
    for _ in 0..2_000 {
        let list: Vec<String> = (0..1 + next(4))
            .map(|_| format!("{}{}", ["", "!"][next(2)], patterns[next(patterns.len())]))
            .collect();
        let parsed = Patterns::new(&list).expect("well formed");
        for (first, second) in names.iter().flat_map(|a| names.iter().map(move |b| (a, b))) {
            let path = format!("{first}/{second}/ab");
            let matched = matches_step_by_step(&parsed, &path);
            if !parsed.has_exceptions() {
                assert_eq!(parsed.matches_or_parent_matches(&path), matched, "{list:?} on {path}");
            }
            let dir = parsed.matches_below(first, None);
            if dir.matched && !parsed.may_reinclude_below(first) {
                assert!(matched, "{list:?} on {path}");
            }
            if !dir.matched && !parsed.may_match_below(first) {
                assert!(!matched, "{list:?} on {path}");
            }
        }
    }
}

#[test]
fn every_row_of_the_matching_suite_holds() {
    for row in conformance::rows("dockerignore", "match.jsonl") {
        let patterns = conformance::strings(&row["patterns"]);
        let parsed = Patterns::new(&patterns);
        if row["error"] == true {
            assert!(parsed.is_err(), "{row}");
            continue;
        }
        let parsed = parsed.expect("well formed");
        let path = row["path"].as_str().expect("a path");
        // The rows of these two cases went through the function that cleans its path first.
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        let expected = row["excluded"] == true;
        assert_eq!(parsed.matches_or_parent_matches(path), expected, "{row}");
        assert_eq!(matches_step_by_step(&parsed, path), expected, "{row}, step by step");
    }
}
