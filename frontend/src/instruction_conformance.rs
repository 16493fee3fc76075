//! BuildKit's tables of instructions, run where `RBUILD_CONFORMANCE` names their folder.

use serde_json::Value;

use crate::device::Device;
use crate::error::Error;
use crate::expose::parse_ports;
use crate::git_url::{GitRef, MTime, Subdir};
use crate::instruction::{CommandLine, Instruction, Kind};
use crate::lines;
use crate::lines_conformance::{rows, strings};
use crate::parse::parse_instruction;

/// Reads every instruction of a text, whether or not they make a file together.
fn parse_all(text: &str) -> Result<Vec<Instruction>, Error> {
    let file = lines::parse(text.as_bytes())?;
    file.instructions.iter().map(|raw| parse_instruction(raw, file.escape)).collect()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

#[test]
fn errors() {
    for row in rows("buildkit-instructions/errors.jsonl") {
        let error = parse_all(text(&row, "dockerfile")).unwrap_err().to_string();
        assert!(error.contains(text(&row, "error_contains")), "{row}: {error}");
    }
}

#[test]
fn heredoc_instructions() {
    for row in rows("buildkit-instructions/heredoc_instructions.jsonl") {
        let instruction = parse_all(text(&row, "dockerfile")).unwrap().remove(0);
        match instruction.kind {
            Kind::Copy(copy) => {
                assert_eq!(copy.paths.dest, text(&row, "dest"), "{row}");
                assert_eq!(copy.paths.sources, strings(&row["source_paths"]), "{row}");
                let contents: Vec<Value> = copy
                    .paths
                    .contents
                    .iter()
                    .map(|file| serde_json::json!({"path": file.path, "data": file.data, "expand": file.expand}))
                    .collect();
                assert_eq!(Value::from(contents), row["source_contents"], "{row}");
            }
            Kind::Run(run) => {
                let (shell, command) = match run.command {
                    CommandLine::Shell(text) => (true, vec![text]),
                    CommandLine::Exec(args) => (false, args),
                };
                assert_eq!(Value::from(shell), row["shell"], "{row}");
                assert_eq!(command, strings(&row["command"]), "{row}");
                let expected = row["files"].as_array().cloned().unwrap_or_default();
                let expected: Vec<_> =
                    expected.iter().map(|file| (text(file, "Name"), text(file, "Data"))).collect();
                let found: Vec<_> = run
                    .heredocs
                    .iter()
                    .map(|file| (file.name.as_str(), file.content.as_str()))
                    .collect();
                assert_eq!(found, expected, "{row}");
            }
            other => panic!("{row}: {other:?}"),
        }
    }
}

#[test]
fn devices() {
    for row in rows("buildkit-instructions/run_device.jsonl") {
        match (Device::parse(text(&row, "input")), &row["expected"]) {
            (Err(error), Value::Null) => {
                assert_eq!(error.to_string(), text(&row["expectedErr"], "$error"), "{row}");
            }
            (Ok(device), expected) => {
                assert_eq!(device.name, text(expected, "Name"), "{row}");
                assert_eq!(Value::from(device.required), expected["Required"], "{row}");
            }
            (Err(error), _) => panic!("{row}: {error}"),
        }
    }
}

#[test]
fn ports() {
    for row in rows("buildkit-instructions/expose_ports.jsonl") {
        match (parse_ports(&strings(&row["specs"])), row["error_contains"].as_str()) {
            (Err(error), Some(expected)) => {
                assert!(error.to_string().contains(expected), "{row}: {error}")
            }
            (Ok(ports), None) => assert_eq!(ports, strings(&row["exposed"]), "{row}"),
            (found, _) => panic!("{row}: {found:?}"),
        }
    }
}

#[test]
fn git_references() {
    for row in rows("buildkit-instructions/git_ref.jsonl") {
        let found = GitRef::parse(text(&row, "ref"));
        if let Some(expected) = row["err"].as_str() {
            let error = found.unwrap_err().to_string();
            assert!(error.contains(expected), "{row}: {error}");
            continue;
        }
        let expected = row["expected"].as_object().map(|expected| {
            let text = |key: &str| expected.get(key).and_then(Value::as_str).map(str::to_owned);
            let truth = |key: &str| expected.get(key).is_some_and(|value| value == true);
            GitRef {
                remote: text("Remote").unwrap(),
                short_name: text("ShortName").unwrap(),
                reference: text("Ref"),
                checksum: text("Checksum"),
                subdir: text("SubDir"),
                looks_local: truth("IndistinguishableFromLocal"),
                unencrypted: truth("UnencryptedTCP"),
                mtime: text("MTime").map(|mtime| match mtime.as_str() {
                    "commit" => MTime::Commit,
                    _ => MTime::Checkout,
                }),
                fetch_by_commit: truth("FetchByCommit"),
                ..GitRef::default()
            }
        });
        assert_eq!(found.unwrap(), expected, "{row}");
    }
}

#[test]
fn git_fragments() {
    let tables =
        [("TestFragmentFormat", Subdir::Drop), ("TestFragmentFormatWithSubdir", Subdir::Keep)];
    for (table, subdir) in tables {
        for row in rows(&format!("buildkit-instructions/git_ref_{table}.jsonl")) {
            let found = GitRef::parse(text(&row, "ref")).ok().flatten();
            assert_eq!(found.is_some(), row["ok"] == true, "{row}");
            let form = found.map(|git| git.to_fragment_form(subdir));
            assert_eq!(
                form.as_deref().unwrap_or(text(&row, "ref")),
                text(&row, "expected"),
                "{row}"
            );
        }
    }
}
