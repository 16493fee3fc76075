use serde_json::Value;

use super::*;
use crate::conformance;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn check(text: &str, canonical: &str, familiar: &str) {
    let reference = Reference::parse(text).expect(text);
    assert_eq!(reference.to_string(), canonical);
    assert_eq!(reference.familiar(), familiar);
    assert_eq!(Reference::parse(familiar).as_ref(), Ok(&reference));
    assert_eq!(Reference::parse(canonical), Ok(reference));
}

#[test]
fn names_are_written_in_full_and_as_people_do() {
    check("busybox", "docker.io/library/busybox", "busybox");
    check("me/app:1", "docker.io/me/app:1", "me/app:1");
    check("index.docker.io/a", "docker.io/library/a", "a");
    check("localhost/a", "localhost/a", "localhost/a");
    check("host:5000/a/b:c", "host:5000/a/b:c", "host:5000/a/b:c");
    let both = format!("a:b@{DIGEST}");
    check(&both, &format!("docker.io/library/{both}"), &both);
}

#[test]
fn what_is_no_name_is_refused_in_the_known_words() {
    let check = |text: &str, expected: &str| {
        assert_eq!(Reference::parse(text).expect_err(text).to_string(), expected);
    };
    check("", "invalid reference format");
    check("a b", "invalid reference format");
    check("Foo", "invalid reference format: repository name (library/Foo) must be lowercase");
    check("a/B:c", "invalid reference format: repository name (a/B) must be lowercase");
    check("a@sha256:00", "invalid reference format");
    check(&format!("a@{}", &DIGEST[..70]), "invalid checksum digest length");
    check(
        &DIGEST[7..],
        &format!(
            "invalid repository name ({}), cannot specify 64-byte hexadecimal strings",
            &DIGEST[7..]
        ),
    );
}

/// Returns the cases of a table, which is named after the Go test it comes from.
pub(super) fn cases(table: &str) -> Vec<Value> {
    let Some(folder) = conformance::folder("image-reference") else {
        return Vec::new();
    };
    let mut files = fs_err::read_dir(folder).expect("the suite is there");
    let name = files
        .find_map(|file| {
            let name = file.expect("readable").file_name().into_string().expect("UTF-8");
            name.starts_with(&format!("{table}.")).then_some(name)
        })
        .unwrap_or_else(|| panic!("no table {table}"));
    let rows = conformance::rows("image-reference", &name);
    rows[0]["cases"].as_array().expect("cases").clone()
}

/// Evaluates `{"$expr": "\"a\" + strings.Repeat(\"b\", 3)"}`; null is empty, a string itself.
pub(super) fn expand(value: &Value) -> String {
    let Some(expression) = value["$expr"].as_str() else {
        return value.as_str().unwrap_or_default().to_owned();
    };
    let term = |term: &str| {
        let repeated = term.strip_prefix("strings.Repeat(").and_then(|term| term.strip_suffix(')'));
        let (text, count) = match repeated {
            Some(arguments) => arguments.split_once(", ").expect("two arguments"),
            None => (term, "1"),
        };
        text.trim_matches('"').repeat(count.parse().expect("a number"))
    };
    expression.split(" + ").map(term).collect()
}

#[test]
fn every_case_of_the_normalising_suites_holds() {
    for case in cases("normalize.TestNormalizedSplitHostname") {
        let reference = Reference::parse(&expand(&case["input"])).expect("valid");
        assert_eq!(reference.domain, expand(&case["domain"]), "{case}");
        assert_eq!(reference.path, expand(&case["path"]), "{case}");
    }
    for case in cases("normalize.TestParseDockerRef") {
        let reference = Reference::parse(&expand(&case["input"])).expect("valid");
        assert_eq!(reference.for_pull().to_string(), expand(&case["expected"]), "{case}");
    }
    for case in cases("normalize.TestParseAnyReference") {
        let printed = match NameOrDigest::parse(&expand(&case["Reference"])).expect("valid") {
            NameOrDigest::Name(reference) => reference.to_string(),
            NameOrDigest::Digest(digest) => digest,
        };
        assert_eq!(printed, expand(&case["Equivalent"]), "{case}");
    }
    for case in cases("normalize.TestParseRepositoryInfo") {
        for key in ["FamiliarName", "FullName", "AmbiguousName"] {
            let text = expand(&case[key]);
            if text.is_empty() {
                continue;
            }
            let reference = Reference::parse(&text).expect("valid");
            assert_eq!(reference.domain, expand(&case["Domain"]), "{case}");
            assert_eq!(reference.path, expand(&case["RemoteName"]), "{case}");
            assert_eq!(reference.familiar_name(), expand(&case["FamiliarName"]), "{case}");
            assert_eq!(reference.name(), expand(&case["FullName"]), "{case}");
        }
    }
}

#[test]
fn every_case_of_the_validating_suites_holds() {
    for (table, valid) in [
        ("normalize.TestValidateReferenceName.validRepoNames", true),
        ("normalize.TestValidateReferenceName.invalidRepoNames", false),
        ("normalize.TestValidateRemoteName.validRepositoryNames", true),
        ("normalize.TestValidateRemoteName.invalidRepositoryNames", false),
    ] {
        for case in cases(table) {
            let parsed = Reference::parse(&expand(&case));
            assert_eq!(parsed.is_ok(), valid, "{case}: {parsed:?}");
        }
    }
}

/// A name is canonical if parsing and printing gives it back.
#[test]
fn every_case_of_the_canonical_suite_holds() {
    for case in cases("reference.TestParseNamed") {
        let input = expand(&case["input"]);
        let reference = Reference::parse(&input).expect("valid");
        assert_eq!(reference.to_string() == input, case["err"].is_null(), "{case}");
        if case["err"].is_null() {
            assert_eq!(reference.domain, expand(&case["domain"]), "{case}");
            assert_eq!(reference.path, expand(&case["path"]), "{case}");
        }
    }
}

#[test]
fn every_case_of_the_matching_suite_holds() {
    for case in cases("normalize.TestMatch") {
        let reference = Reference::parse(&expand(&case["reference"])).expect("valid");
        let matched = reference.familiar_matches(&expand(&case["pattern"])).expect("well formed");
        assert_eq!(matched, case["expected"] == true, "{case}");
    }
}

/// `WithTag` and `WithDigest` there take names without a domain, which ours cannot be: a row's
/// name is normalised first, and so is what is expected. Digests of the table are too short to
/// parse, so they are put in place. `sort.TestReferenceSorting` does not apply: nothing is sorted.
#[test]
fn every_case_of_the_combining_suites_holds() {
    for case in cases("reference.TestWithTag").into_iter().chain(cases("reference.TestWithDigest"))
    {
        let name = expand(&case["name"]);
        let mut reference = Reference::parse(&name).expect("valid");
        let prefix = reference.to_string().strip_suffix(&name).expect("a suffix").to_owned();
        reference.digest = case["digest"].as_str().map(str::to_owned);
        if let Some(tag) = case["tag"].as_str() {
            reference = reference.with_tag(tag).expect("valid");
        }
        assert_eq!(
            reference.to_string(),
            format!("{prefix}{}", expand(&case["combined"])),
            "{case}"
        );
    }
}
