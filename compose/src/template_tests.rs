//! Tests of [`super`]: own rows, and those of the reference where they are at hand.

use super::*;

fn check(template: &str, expected: Result<&str, &str>) {
    let lookup = |name: &str| match name {
        "FOO" => Some("first".to_owned()),
        "EMPTY" => Some(String::new()),
        "B" => Some("b".to_owned()),
        _ => None,
    };
    let mut variables = Variables { lookup: &lookup, unset: &mut |_| {} };
    let found = substitute(template, &mut variables).map_err(|wrong| wrong.to_string());
    assert_eq!(found.as_deref().map_err(String::as_str), expected, "{template}");
}

#[test]
fn every_operator_looks_at_set_and_empty_as_a_shell_does() {
    check("a${FOO}b$FOO-", Ok("afirstbfirst-"));
    check("${X}", Ok(""));
    check("${X-d}${EMPTY-d}${EMPTY:-d}${FOO:-d}", Ok("ddfirst"));
    check("${X+a}${EMPTY+a}${EMPTY:+a}${FOO:+a}", Ok("aa"));
    check("${FOO:?e}${EMPTY?e}", Ok("first"));
    check("${X?}", Err("required variable X is missing a value"));
    check("${EMPTY:?set it}", Err("required variable EMPTY is missing a value: set it"));
    check("${X:?needs ${FOO}}", Err("required variable X is missing a value: needs first"));
}

#[test]
fn defaults_nest_and_may_hold_braces_and_dollars() {
    check("${X:-${Y:-${FOO}}}/${X-$B}", Ok("first/b"));
    check(r#"${X:-{"a":{"b":1}}} and ${B}"#, Ok(r#"{"a":{"b":1}} and b"#));
    check("${X:-$$HOME}", Ok("$HOME"));
    check("${X:-http://a:80/?x=1}", Ok("http://a:80/?x=1"));
}

#[test]
fn defaults_nest_only_so_deep() {
    let nested = |depth| format!("{}x{}", "${A:-".repeat(depth), "}".repeat(depth));
    check(&nested(150), Ok("x"));
    let lookup = |_: &str| None;
    let mut variables = Variables { lookup: &lookup, unset: &mut |_| {} };
    let refused = substitute(&nested(100_000), &mut variables);
    assert!(matches!(refused, Err(Wrong::Template { .. })));
}

#[test]
fn dollars_that_begin_nothing_stay() {
    check("$$FOO $1 a$ $ $-", Ok("$FOO $1 a$ $ $-"));
}

#[test]
fn what_is_not_finished_is_refused() {
    let message = |template: &str| {
        format!(
            "invalid interpolation format {template:?}; a $ that is meant as such is written $$"
        )
    };
    for template in ["${", "${FOO", "${}", "${ FOO}", "${FOO!x}", "${FOO:x}", "${1A}"] {
        check(template, Err(&message(template)));
    }
}

#[test]
fn variables_are_found_also_in_defaults() {
    let mut names = Vec::new();
    variables("$A ${B:-${C:?x}} $$D ${E+$F}", &mut |found| {
        names.push((found.name, found.default, found.alternative, found.required));
    });
    let expected = [
        ("A", "", "", false),
        ("B", "${C:?x}", "", false),
        ("C", "", "", true),
        ("E", "", "$F", false),
        ("F", "", "", false),
    ];
    let expected = expected.map(|(a, b, c, d)| (a.to_owned(), b.to_owned(), c.to_owned(), d));
    assert_eq!(names, expected);
}

#[test]
fn the_references_templates_expand_alike() {
    crate::conformance::rows("compose-interpolation/template.jsonl", |row| {
        let env = row.get("env").and_then(|env| env.as_object()).cloned().unwrap_or_default();
        let lookup = |name: &str| env.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        let mut variables = Variables { lookup: &lookup, unset: &mut |_| {} };
        let template = row["template"].as_str()?;
        let found = substitute(template, &mut variables);
        crate::conformance::compare(row, found.map_err(|wrong| wrong.to_string()).map(Into::into))
    });
}
