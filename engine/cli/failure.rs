//! A failed step as people are shown it: what it printed last, where it stands in the Dockerfile,
//! and how to look inside.

use std::error::Error;
use std::fmt::Write;

use engine::graph::Definition;
use engine::solve::Failure;
use engine::step::StepError;

use crate::progress::Progress;

/// How much of a step's output is shown again.
const LAST_LINES: usize = 20;

/// Says what failed.
pub(crate) fn describe(
    failure: Failure,
    definition: &Definition,
    progress: &Progress<'_>,
    file: &str,
    text: &str,
) -> anyhow::Error {
    let Some(vertex) = failure.vertex else {
        return anyhow::Error::new(crate::error::Silent(130)).context("canceled");
    };
    let known = definition.vertex(vertex);
    let mut said = String::from("failed to build: ");
    let causes = chain(&failure.error);
    match &failure.error {
        StepError::Exit { .. } => said.push_str(&format!("failed to solve: {causes}")),
        _ => said.push_str(&format!("failed to solve: {}: {causes}", known.name)),
    }
    let output = progress.last_lines(vertex, LAST_LINES);
    let mut place = String::new();
    if !output.is_empty() {
        writeln!(place, "------\n > {}:", known.name).expect("writing to a string cannot fail");
        for line in output {
            writeln!(place, "{line}").expect("writing to a string cannot fail");
        }
        place.push_str("------\n");
    }
    if let Some(origin) = &known.origin {
        place.push_str(&excerpt(file, text, origin.first_line, origin.last_line));
    }
    if let StepError::Exit { .. } = failure.error
        && let Some(origin) = &known.origin
    {
        let step = origin.step;
        write!(place, "look inside with: rbuild shell --step {step}")
            .expect("writing to a string cannot fail");
        if definition
            .vertices
            .iter()
            .filter_map(|vertex| vertex.origin.as_ref())
            .any(|other| other.stage != origin.stage)
        {
            write!(place, " --stage {}", origin.stage).expect("writing to a string cannot fail");
        }
    }
    anyhow::anyhow!("{said}\n{place}")
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        source = cause.source();
    }
    text
}

/// Lines of the Dockerfile with two around them; those meant are marked and have a caret.
pub(crate) fn excerpt(file: &str, text: &str, first: usize, last: usize) -> String {
    if first == 0 {
        return String::new();
    }
    let mut shown = format!("{file}:{first}\n--------------------\n");
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        if number + 2 < first || number > last + 2 {
            continue;
        }
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        writeln!(shown, " {number:3} | {mark} {line}").expect("writing to a string cannot fail");
        if number == first {
            let indent = line.len() - line.trim_start().len();
            let carets = "^".repeat(line.trim().chars().count().max(1));
            writeln!(shown, "     |     {}{carets}", " ".repeat(indent))
                .expect("writing to a string cannot fail");
        }
    }
    shown.push_str("--------------------\n");
    shown
}
