//! BuildKit's tables of word expansion, run where `RBUILD_CONFORMANCE` names their folder.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use serde_json::Value;

use crate::lines_conformance::{rows, strings};
use crate::shell_pattern::ShellPattern;
use crate::words::{Expansion, Lexer};

fn pairs(env: &Value) -> BTreeMap<String, String> {
    match env {
        Value::Object(map) => {
            map.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect()
        }
        list => strings(list)
            .iter()
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
    }
}

fn set(value: &Value) -> BTreeSet<String> {
    strings(value).into_iter().collect()
}

/// The messages of an error and its causes, joined as BuildKit prints them.
fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[test]
fn words_expand_as_in_buildkit() {
    let env: BTreeMap<&str, &str> =
        [("PWD", "/home"), ("SHELL", "bash"), ("KOREAN", "한국어"), ("NULL", "")].into();
    let lookup = |name: &str| env.get(name).map(|value| value.to_string());
    for row in rows("buildkit-shell/envVarTest.jsonl") {
        let input = row["input"].as_str().unwrap();
        let found = Lexer::new('\\').expand_word(input, &lookup).map(|found| found.text);
        assert_eq!(found.ok().as_deref(), row["expected"].as_str(), "{row}");
    }
}

#[test]
fn words_split_as_in_buildkit() {
    for row in rows("buildkit-shell/wordsTest.jsonl") {
        let env = pairs(&row["env"]);
        let input = row["input"].as_str().unwrap();
        let found = Lexer::new('\\').expand_words(input, &|name| env.get(name).cloned());
        let expected = row.get("expected_words").map(strings);
        assert_eq!(found.ok(), expected, "{row}");
    }
}

#[test]
fn modifiers_expand_as_in_buildkit() {
    for row in rows("buildkit-shell/processWordWithMatches.jsonl") {
        let env = pairs(&row["env"]);
        let input = row["input"].as_str().unwrap();
        let found = Lexer::new('\\').expand_word(input, &|name| env.get(name).cloned());
        if let Some(text) = row["error_contains"].as_str() {
            let error = chain(found.as_ref().unwrap_err());
            assert!(error.contains(text), "{row}: {error}");
        }
        let Some(expected) = row["expected"].as_str() else {
            assert!(found.is_err(), "{row}: {found:?}");
            continue;
        };
        let mut found = found.unwrap();
        if row.get("matched").is_none() {
            found = Expansion { text: found.text, ..Expansion::default() };
        }
        let expected = Expansion {
            text: expected.to_owned(),
            matched: row.get("matched").map(set).unwrap_or_default(),
            unmatched: row.get("unmatched").map(set).unwrap_or_default(),
        };
        assert_eq!(found, expected, "{row}");
    }
}

/// The table's regular expressions are BuildKit's way of matching, not ours: only its verdict on
/// the pattern applies.
#[test]
fn patterns_are_accepted_as_in_buildkit() {
    for row in rows("buildkit-shell/shellPatternToRegex.jsonl") {
        let found = ShellPattern::parse(row["pattern"].as_str().unwrap());
        assert_eq!(found.is_err(), row.get("error").is_some(), "{row}");
    }
}
