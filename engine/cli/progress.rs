//! Shows a build while it runs. `plain` is made to be read later: a line each for what begins,
//! what is printed and what ends.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use clap::ValueEnum;
use engine::graph::{Definition, VertexId};
use engine::progress::{Event, Outcome};

use crate::ui;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Style {
    /// A live view on a terminal, else plain
    #[default]
    Auto,
    /// A live view
    Tty,
    /// Lines that stay
    Plain,
    /// A JSON object for each event
    Rawjson,
    /// Nothing
    Quiet,
    /// Nothing
    None,
}

/// Shows events in plain lines.
pub(crate) struct Progress<'a> {
    definition: &'a Definition,
    style: Style,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    numbers: BTreeMap<VertexId, (usize, Instant)>,
    /// What of each vertex's output is no whole line yet.
    rest: BTreeMap<VertexId, Vec<u8>>,
}

impl<'a> Progress<'a> {
    pub(crate) fn start(definition: &'a Definition, style: Style) -> Self {
        Self { definition, style, state: Mutex::default() }
    }

    pub(crate) fn finish(&self) {}

    pub(crate) fn last_lines(&self, _vertex: VertexId, _most: usize) -> Vec<String> {
        Vec::new()
    }

    pub(crate) fn event(&self, event: Event<'_>) {
        if matches!(self.style, Style::Quiet | Style::None) {
            return;
        }
        let mut state = self.state.lock().expect("no holder panics");
        match event {
            Event::Started { vertex } => {
                let number = state.numbers.len() + 1;
                state.numbers.insert(vertex, (number, Instant::now()));
                ui::note(format_args!("#{number} {}", self.definition.vertex(vertex).name));
            }
            Event::Output { vertex, bytes, .. } => state.output(vertex, bytes),
            Event::Finished { vertex, outcome, took } => {
                state.flush(vertex);
                let number = state.numbers[&vertex].0;
                match outcome {
                    Outcome::Cached => ui::note(format_args!("#{number} CACHED\n")),
                    Outcome::Done => {
                        ui::note(format_args!("#{number} DONE {:.1}s\n", took.as_secs_f64()));
                    }
                    Outcome::Canceled => ui::note(format_args!("#{number} CANCELED\n")),
                    Outcome::Failed(why) => ui::note(format_args!("#{number} ERROR: {why}\n")),
                }
            }
        }
    }
}

impl State {
    fn output(&mut self, vertex: VertexId, bytes: &[u8]) {
        let (number, begun) = self.numbers[&vertex];
        let rest = self.rest.entry(vertex).or_default();
        rest.extend_from_slice(bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line[..end]);
            let seconds = begun.elapsed().as_secs_f64();
            ui::note(format_args!("#{number} {seconds:.3} {}", text.trim_end_matches('\r')));
        }
    }

    fn flush(&mut self, vertex: VertexId) {
        if self.rest.get(&vertex).is_some_and(|rest| !rest.is_empty()) {
            self.output(vertex, b"\n");
        }
    }
}
