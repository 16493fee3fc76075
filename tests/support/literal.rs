//! A Dockerfile and its context in one text: the Dockerfile first, then each file after a line that names it.
//!
//! ```text
//! FROM scratch
//! COPY . /
//! -- hello.sh 755
//! #!/bin/sh
//! -- current -> hello.sh
//! -- empty/
//! ```
//!
//! The text is taken out of its indentation first, so that it can stand inside a function.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Writes the literal's Dockerfile (where it has one) and files into `folder`.
pub(super) fn write(literal: &str, folder: &Path) {
    let mut sections = vec![("Dockerfile".to_owned(), String::new())];
    for line in unindent(literal).split_inclusive('\n') {
        match line.strip_prefix("-- ") {
            Some(heading) => sections.push((heading.trim_end().to_owned(), String::new())),
            None => sections.last_mut().expect("begins with one").1.push_str(line),
        }
    }
    for (heading, content) in sections {
        if heading != "Dockerfile" || !content.is_empty() {
            write_section(&heading, &content, folder);
        }
    }
}

fn write_section(heading: &str, content: &str, folder: &Path) {
    let (name, link) = match heading.split_once(" -> ") {
        Some((name, target)) => (name, Some(target)),
        None => (heading, None),
    };
    let (name, mode) = match name.rsplit_once(' ') {
        Some((name, mode)) if mode.bytes().all(|digit| matches!(digit, b'0'..=b'7')) => {
            (name, Some(u32::from_str_radix(mode, 8).expect("octal digits")))
        }
        _ => (name, None),
    };
    let path = folder.join(name);
    let parent = if name.ends_with('/') { Some(path.as_path()) } else { path.parent() };
    fs_err::create_dir_all(parent.expect("a name in the folder")).expect("make a context folder");
    match link {
        Some(target) => symlink(target, &path).expect("make a symbolic link"),
        None if name.ends_with('/') => (),
        None => fs_err::write(&path, content).expect("write a context file"),
    }
    if let Some(mode) = mode {
        fs_err::set_permissions(&path, PermissionsExt::from_mode(mode))
            .expect("set a context file's mode");
    }
}

/// The text without its first line break and without the indentation that all its lines share.
pub(crate) fn unindent(text: &str) -> String {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let shared = text
        .lines()
        .filter(|line| !line.trim_matches(' ').is_empty())
        .map(indent)
        .min()
        .unwrap_or(0);
    let mut lines: Vec<&str> = text.lines().map(|line| line.get(shared..).unwrap_or("")).collect();
    // The closing quotation mark stands on a line of its own.
    if text.ends_with(' ') && lines.last().is_some_and(|last| last.trim_matches(' ').is_empty()) {
        lines.pop();
    }
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn a_literal_loses_its_indentation_and_nothing_else() {
    assert_eq!(unindent("\n        a\n          b\n\n        c\n    "), "a\n  b\n\nc\n");
    assert_eq!(unindent("a\n"), "a\n");
    assert_eq!(unindent("\n    \ta\n"), "\ta\n");
}
