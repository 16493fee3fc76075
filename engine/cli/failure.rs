//! A failed step as people are shown it: what it printed last, where it stands in the Dockerfile,
//! and how to look inside.

use std::fmt::Write;

use engine::graph::{Definition, Op, Origin, VertexId};
use engine::solve::Failure;
use engine::step::StepError;
use frontend::shown::{self, Marked};

use crate::progress::Progress;
use crate::ui::{self, Report};

/// How much of a step's output is shown again when it has been on the screen before.
const LAST_LINES: usize = 20;

/// How much is shown of output that nobody has seen.
const UNSEEN_LINES: usize = 1000;

/// Says what failed; before it, what went wrong with the build's journal.
pub(crate) fn describe(
    failure: Failure,
    definition: &Definition,
    progress: &Progress<'_>,
    journal: &anyhow::Result<()>,
    file: &str,
    text: &str,
) -> anyhow::Error {
    if let Err(error) = journal {
        ui::note(format_args!("WARNING: cannot keep what is known of this build: {error:#}"));
    }
    let Some(vertex) = failure.vertex else {
        return anyhow::Error::new(crate::error::Silent(130)).context("canceled");
    };
    let known = definition.vertex(vertex);
    let name = shown::clipped(&known.name);
    let causes = failure.error.whole();
    let ran = matches!(failure.error, StepError::Exit { .. });
    let what = match &failure.error {
        StepError::Exit { command, .. } => {
            let short = format!("{:?}", shown::clipped(command));
            let causes = causes.replace(&format!("{command:?}"), &short);
            format!("failed to build: failed to solve: {causes}")
        }
        // What is fetched is named by what could not be fetched.
        _ if causes.contains(&*name) => format!("failed to build: failed to solve: {causes}"),
        _ => format!("failed to build: failed to solve: {name}: {causes}"),
    };
    let most = if progress.shows_output() { LAST_LINES } else { UNSEEN_LINES };
    let mut place = output(&name, &progress.last_lines(vertex, most));
    if let Some(origin) = known.origin.as_ref().or_else(|| user(definition, vertex)) {
        place.push_str(&excerpt(file, text, origin.first_line, origin.last_line));
    }
    let hint = known
        .origin
        .as_ref()
        .filter(|_| ran && journal.is_ok())
        .map(|origin| look_inside(definition, origin));
    Report { what, place, hint }.into()
}

/// Where what is fetched from elsewhere is first asked for.
fn user(definition: &Definition, vertex: VertexId) -> Option<&Origin> {
    if !matches!(definition.vertex(vertex).op, Op::Http(_) | Op::Git(_)) {
        return None;
    }
    let mut users = definition.vertices.iter().filter(|user| user.op.inputs().contains(&vertex));
    users.find_map(|user| user.origin.as_ref())
}

/// What a step printed last, between lines.
fn output(name: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("------\n > {name}:\n{}\n------\n", lines.join("\n"))
}

/// How to see what the step has left behind.
fn look_inside(definition: &Definition, origin: &Origin) -> String {
    let mut hint = format!("look inside with: rbuild shell --step {}", origin.step);
    let mut origins = definition.vertices.iter().filter_map(|vertex| vertex.origin.as_ref());
    if origins.any(|other| other.stage != origin.stage) {
        hint.push_str(&format!(" --stage {}", origin.stage));
    }
    hint
}

/// Lines of the Dockerfile with two around them; those meant are marked, the instruction has
/// a caret.
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
        let word = line.trim_start();
        let column = line.chars().count() - word.chars().count();
        let width = word.split(char::is_whitespace).next().map_or(0, |word| word.chars().count());
        let Marked { line, indent, carets } = Marked::new(line, column, width.max(1));
        writeln!(shown, " {number:3} | {mark} {line}").expect("writing to a string cannot fail");
        if number == first {
            writeln!(shown, "     |     {indent}{carets}")
                .expect("writing to a string cannot fail");
        }
    }
    shown.push_str("--------------------\n");
    shown
}
