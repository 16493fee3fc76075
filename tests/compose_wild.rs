//! Compose files as people have them: `compose_wild/good` come to what docker compose 5.6.1 makes of them, and of
//! `compose_wild/bad` each is refused with the place of its one mistake.
//!
//! A project is `<name>.yaml` with `<name>.expected.yaml` or `<name>.error` beside it, or a folder with all its files, its
//! `expected.yaml` or `error`, and in `args` what the command line has before `config`. The first line of an error is the
//! place (`compose.yaml:3:7`, or `-` for what has none); every other line is a part of the message.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compose_wild");

/// One project of the folder.
struct Project {
    name: String,
    /// Where the command runs.
    dir: PathBuf,
    /// What it is told before `config`.
    args: Vec<String>,
    /// What is expected of it.
    expected: String,
}

impl Project {
    fn config(&self) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rcompose"));
        command.args(&self.args).arg("config").current_dir(&self.dir).env_clear();
        command.envs([("HOME", "/home/me"), ("PWD", "/work")]);
        command.envs([("RABBIT_USER", "bunny"), ("RABBIT_PASS", "carrot")]);
        command.output().unwrap()
    }
}

/// The projects of `good` or `bad`.
fn projects(kind: &str) -> Vec<Project> {
    let dir = Path::new(FOLDER).join(kind);
    let mut all: Vec<Project> = fs_err::read_dir(&dir)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name()?.to_str()?.to_owned();
            if path.is_dir() {
                let args = fs_err::read_to_string(path.join("args")).unwrap_or_default();
                let args = args.split_whitespace().map(str::to_owned).collect();
                let expected = if kind == "good" { "expected.yaml" } else { "error" };
                let expected = fs_err::read_to_string(path.join(expected)).unwrap();
                return Some(Project { name, dir: path, args, expected });
            }
            let stem = name.strip_suffix(".yaml").filter(|stem| !stem.ends_with(".expected"))?;
            let args = vec!["-f".to_owned(), name.clone()];
            let end = if kind == "good" { "expected.yaml" } else { "error" };
            let expected = fs_err::read_to_string(dir.join(format!("{stem}.{end}"))).unwrap();
            Some(Project { name: stem.to_owned(), dir: dir.clone(), args, expected })
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

#[test]
fn good_projects_come_to_what_docker_compose_makes_of_them() {
    let projects = projects("good");
    assert!(projects.len() >= 60, "only {} projects", projects.len());
    let mut wrong = Vec::new();
    for project in &projects {
        let expected = read_yaml(&project.expected);
        let output = project.config();
        let shown = String::from_utf8_lossy(&output.stdout).replace(FOLDER, "$WILD");
        let name = &project.name;
        if !output.status.success() {
            wrong.push(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)));
            continue;
        }
        let found = read_yaml(&shown);
        let before = wrong.len();
        differences(name, &found, &expected, &mut wrong);
        assert!(wrong.len() > before || found == expected, "{name}: unequal without a difference");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bad_projects_are_refused_at_the_place_of_their_mistake() {
    let projects = projects("bad");
    assert!(projects.len() >= 60, "only {} projects", projects.len());
    let mut wrong = Vec::new();
    for project in &projects {
        let expected = &project.expected;
        let mut lines = expected.lines();
        let place = match lines.next().unwrap() {
            "-" => None,
            place => Some(format!("{}/{place}: ", project.dir.display())),
        };
        let output = project.config();
        let message = String::from_utf8(output.stderr).unwrap();
        let mut said = 0;
        let says = |words: &str| {
            said += 1;
            message.contains(words)
        };
        let is_said = lines.all(says) && said > 0;
        let is_placed = place.is_none_or(|place| message.starts_with(&place));
        let refused = output.status.code() == Some(1) && output.stdout.is_empty();
        if !(refused && is_placed && is_said) {
            wrong.push(format!("{} (expected {expected:?}): {message}", project.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What two values differ in, by their paths.
fn differences(path: &str, found: &Value, expected: &Value, wrong: &mut Vec<String>) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for key in found.keys().chain(expected.keys().filter(|key| !found.contains_key(*key))) {
                let path = format!("{path}.{key}");
                match (found.get(key), expected.get(key)) {
                    (Some(found), Some(expected)) => differences(&path, found, expected, wrong),
                    (found, expected) => wrong.push(format!("{path}: {found:?}, not {expected:?}")),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (found, expected)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{index}]"), found, expected, wrong);
            }
        }
        _ if found == expected => {}
        _ => wrong.push(format!("{path}: {found}, not {expected}")),
    }
}

/// YAML as `config` prints it: one document without anchors and tags.
fn read_yaml(text: &str) -> Value {
    let mut events = Parser::new_from_str(text).map(|event| event.unwrap().0);
    let first = events
        .find(|event| !matches!(event, Event::StreamStart | Event::DocumentStart(_)))
        .unwrap();
    value(first, &mut events)
}

fn value<'a>(first: Event<'a>, events: &mut impl Iterator<Item = Event<'a>>) -> Value {
    match first {
        Event::Scalar(text, ScalarStyle::Plain, ..) => plain(&text),
        Event::Scalar(text, ..) => Value::String(text.into_owned()),
        Event::SequenceStart(..) => {
            let mut list = Vec::new();
            loop {
                match events.next().unwrap() {
                    Event::SequenceEnd => return Value::Array(list),
                    event => list.push(value(event, events)),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut map = Map::new();
            loop {
                match events.next().unwrap() {
                    Event::MappingEnd => return Value::Object(map),
                    Event::Scalar(key, ..) => {
                        let next = events.next().unwrap();
                        map.insert(key.into_owned(), value(next, events));
                    }
                    event => panic!("a key that is {event:?}"),
                }
            }
        }
        event => panic!("unexpected {event:?}"),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => return Value::Null,
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    match text.parse::<f64>().ok().filter(|_| is_number) {
        Some(number) => number.into(),
        None => Value::String(text.to_owned()),
    }
}
