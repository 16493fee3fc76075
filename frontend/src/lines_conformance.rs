//! BuildKit's tables of Dockerfile parsing, run where `RBUILD_CONFORMANCE` names their folder.
//!
//! Its syntax tree is printed here from raw instructions, by a table of how each instruction
//! splits its arguments.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::heredoc::{Heredoc, heredocs_of_line, parse_heredoc};
use crate::lines::{
    Dockerfile, ParseErrorKind, RawInstruction, Separator, detect_syntax, parse, parse_directives,
    parse_json_array, parse_name_values, parse_words, split_blanks,
};
use crate::span::Lines;

/// A file of the tables; `None` where no tables were asked for.
fn table(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("RBUILD_CONFORMANCE")?;
    let path = PathBuf::from(root).join(path);
    assert!(path.exists(), "{} is asked for and missing", path.display());
    Some(path)
}

/// The rows of a table; none where no tables were asked for.
pub(crate) fn rows(path: &str) -> Vec<Value> {
    let Some(path) = table(path) else {
        return Vec::new();
    };
    let text = fs::read_to_string(path).unwrap();
    let rows: Vec<Value> = text
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!rows.is_empty());
    rows
}

pub(crate) fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// The Dockerfiles of the cases in a folder, with the cases' names.
fn cases(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Some(folder) = table(folder) else {
        return Vec::new();
    };
    let cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|case| (case.clone(), fs::read(case.join("Dockerfile")).unwrap()))
        .collect();
    assert!(!cases.is_empty());
    cases
}

/// Go's `strconv.Quote`, as far as the tables need it.
fn quote(text: &str) -> String {
    let escaped = |c: char| match c {
        '\\' | '"' => format!("\\{c}"),
        '\x08' => "\\b".to_owned(),
        '\t' => "\\t".to_owned(),
        '\n' => "\\n".to_owned(),
        '\x0c' => "\\f".to_owned(),
        '\r' => "\\r".to_owned(),
        '\0' => "\\x00".to_owned(),
        _ => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

fn dump(file: &Dockerfile) -> Result<String, ParseErrorKind> {
    let mut text = String::new();
    for instruction in &file.instructions {
        text += &format!("({})\n", dump_instruction(instruction, file.escape)?);
    }
    Ok(text)
}

fn dump_instruction(raw: &RawInstruction, escape: char) -> Result<String, ParseErrorKind> {
    let keyword = raw.keyword.to_lowercase();
    let mut text = keyword.clone();
    if !raw.flags.is_empty() {
        let flags: Vec<String> = raw.flags.iter().map(|flag| quote(flag)).collect();
        text += &format!(" [{}]", flags.join(" "));
    }
    if keyword == "onbuild" {
        if let Some(nested) = raw.nested(escape) {
            text += &format!(" ({})", dump_instruction(&nested, escape)?);
        }
        return Ok(text);
    }
    for argument in arguments(&keyword, &raw.rest, escape)? {
        text += &format!(" {}", quote(&argument));
    }
    Ok(text)
}

fn arguments(keyword: &str, rest: &str, escape: char) -> Result<Vec<String>, ParseErrorKind> {
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    Ok(match keyword {
        "add" | "copy" | "volume" => parse_json_array(rest)?.unwrap_or_else(|| split_blanks(rest)),
        "cmd" | "entrypoint" | "run" | "shell" => {
            parse_json_array(rest)?.unwrap_or_else(|| vec![rest.to_owned()])
        }
        "expose" | "from" => split_blanks(rest),
        "arg" => parse_words(rest, escape),
        "env" | "label" => parse_name_values(rest, &keyword.to_uppercase(), escape)?
            .into_iter()
            .flat_map(|pair| {
                let separator = if pair.separator == Separator::Equals { "=" } else { "" };
                [pair.name, pair.value, separator.to_owned()]
            })
            .collect(),
        "healthcheck" => match rest.split_once(char::is_whitespace) {
            Some((kind, command)) => {
                let mut arguments = vec![kind.to_owned()];
                arguments.extend(self::arguments("cmd", command.trim_start(), escape)?);
                arguments
            }
            None => vec![rest.to_owned()],
        },
        "maintainer" | "stopsignal" | "user" | "workdir" => vec![rest.to_owned()],
        // Unknown instructions have one empty argument in BuildKit's tree.
        _ => vec![String::new()],
    })
}

#[test]
fn files_parse_as_in_buildkit() {
    for (case, text) in cases("buildkit-parser/testfiles") {
        let expected = fs::read_to_string(case.join("result")).unwrap();
        let found = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        assert_eq!(dump(&found).unwrap(), expected, "{}", case.display());
    }
}

#[test]
fn bad_files_are_refused_as_in_buildkit() {
    for (case, text) in cases("buildkit-parser/testfiles-negative") {
        let found = parse(&text).map_err(|error| error.kind).and_then(|file| dump(&file));
        assert!(found.is_err(), "{}: {found:?}", case.display());
    }
}

#[test]
fn instructions_have_the_lines_of_buildkit() {
    let Some(file) = table("buildkit-parser/testfile-line/Dockerfile") else {
        return;
    };
    let file = parse(&fs::read(file).unwrap()).unwrap();
    let found: Vec<Lines> = file.instructions.iter().map(|instruction| instruction.lines).collect();
    let expected = [(5, 5), (11, 12), (17, 31)].map(|(first, last)| Lines { first, last });
    assert_eq!(found, expected);
}

#[test]
fn json_arrays_are_found_as_in_buildkit() {
    for row in rows("buildkit-parser/json_exec_form.jsonl") {
        let found = parse_json_array(row["input"].as_str().unwrap());
        let expected = row.get("expected").map(strings);
        assert_eq!(found.ok().flatten(), expected, "{row}");
    }
}

#[test]
fn words_are_split_as_in_buildkit() {
    for row in rows("buildkit-parser/parseWords.jsonl") {
        let found = parse_words(row["input"].as_str().unwrap(), '\\');
        assert_eq!(found, strings(&row["expected"]), "{row}");
    }
}

#[test]
fn heredoc_words_are_found_as_in_buildkit() {
    for row in rows("buildkit-parser/heredoc_words.jsonl") {
        let kind = match parse_heredoc(row["word"].as_str().unwrap()) {
            Ok(Some(heredoc)) => {
                assert_eq!(heredoc.name, "EOF", "{row}");
                "heredoc"
            }
            Ok(None) => "not-heredoc",
            Err(_) => "error",
        };
        assert_eq!(kind, row["kind"], "{row}");
    }
}

#[test]
fn heredocs_of_a_line_are_found_as_in_buildkit() {
    for row in rows("buildkit-parser/heredocs_from_line.jsonl") {
        let found = heredocs_of_line(row["line"].as_str().unwrap()).unwrap();
        let names: Vec<String> = found.into_iter().map(|heredoc| heredoc.name).collect();
        let expected = row["heredocNames"].as_array();
        assert_eq!(
            names,
            expected.map(|_| strings(&row["heredocNames"])).unwrap_or_default(),
            "{row}"
        );
    }
}

#[test]
fn heredocs_are_extracted_as_in_buildkit() {
    let Some(file) = table("buildkit-parser/heredoc_extract.json") else {
        return;
    };
    let case: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let file = parse(case["dockerfile"].as_str().unwrap().as_bytes()).unwrap();
    let expected = case["expected_heredocs_of_instruction_1_onwards"].as_array().unwrap();
    let found: Vec<&[Heredoc]> =
        file.instructions[1..].iter().map(|instruction| &instruction.heredocs[..]).collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let expected: Vec<Heredoc> = expected.as_array().unwrap().iter().map(heredoc).collect();
        assert_eq!(found, &expected);
    }
}

fn heredoc(value: &Value) -> Heredoc {
    Heredoc {
        name: value["name"].as_str().unwrap().to_owned(),
        expand: value["expand"].as_bool().unwrap(),
        chomp: value["chomp"].as_bool().unwrap(),
        fd: value["fd"].as_u64().unwrap().try_into().unwrap(),
        content: value["content"].as_str().unwrap().to_owned(),
    }
}

#[test]
fn directives_are_found_as_in_buildkit() {
    for row in rows("buildkit-parser/directives.jsonl") {
        let found = parse_directives(row["dockerfile"].as_str().unwrap().as_bytes()).unwrap();
        let found: Vec<Value> =
            found.into_iter().map(|found| vec![found.name, found.value].into()).collect();
        assert_eq!(Value::from(found), row["directives"], "{row}");
    }
}

#[test]
fn the_syntax_is_found_as_in_buildkit() {
    for row in rows("buildkit-parser/detect_syntax.jsonl") {
        let found = detect_syntax(row["dockerfile"].as_str().unwrap().as_bytes());
        let found = found.as_ref().map(|directive| directive.first_word());
        assert_eq!(found, row["syntax"].as_str(), "{row}");
    }
}
