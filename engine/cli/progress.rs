//! Shows a build while it runs, in the style asked for: [`plain`], [`tty`] or [`rawjson`].
//!
//! Events come from many threads; what they say is kept on the [`Board`], and the style makes text
//! of it. Knows no Dockerfile, and not how a build goes on after an event.

mod board;
mod output;
mod plain;
mod rawjson;
pub(crate) mod text;
mod tty;

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::ValueEnum;
use clap::builder::{PossibleValue, TypedValueParser};
use engine::graph::{Definition, Op, Vertex, VertexId};
use engine::progress::Event;

use crate::ui;

use self::board::Board;
use self::output::Line;
use self::plain::Plain;
use self::rawjson::RawJson;
use self::tty::Tty;

/// How often what only time changes is shown anew.
const TICK: Duration = Duration::from_millis(100);

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

impl Style {
    /// The style of this name; an empty one says nothing.
    pub(crate) fn named(name: &str) -> anyhow::Result<Self> {
        match (name, Self::from_str(name, false)) {
            ("", _) => Ok(Self::default()),
            (_, Ok(style)) => Ok(style),
            (_, Err(_)) => {
                bail!("invalid progress mode {name}: use auto, tty, plain, rawjson, quiet or none")
            }
        }
    }
}

/// Takes a style's name as it is typed: that there is none of it is the build's to say, as in docker.
#[derive(Clone)]
pub(crate) struct StyleName;

impl TypedValueParser for StyleName {
    type Value = String;

    fn parse_ref(
        &self,
        _: &clap::Command,
        _: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        Ok(value.to_string_lossy().into_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Style::value_variants().iter().filter_map(ValueEnum::to_possible_value)))
    }
}

/// Shows a build's events, and remembers what its steps printed last.
pub(crate) struct Progress<'a> {
    definition: &'a Definition,
    shared: Arc<Mutex<Shared>>,
    ticker: Mutex<Option<Ticker>>,
}

struct Shared {
    board: Board,
    view: View,
}

enum View {
    Nothing,
    Plain(Plain),
    Tty(Tty),
    RawJson(RawJson),
}

/// The thread that shows time passing.
struct Ticker {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl<'a> Progress<'a> {
    /// Begins to show a build of `target`.
    pub(crate) fn start(definition: &'a Definition, target: VertexId, style: Style) -> Self {
        let view = match style {
            Style::Quiet | Style::None => View::Nothing,
            Style::Rawjson => View::RawJson(RawJson::default()),
            // What is no terminal cannot be drawn on.
            Style::Auto | Style::Tty if ui::is_terminal() => View::Tty(Tty::default()),
            Style::Auto | Style::Tty | Style::Plain => View::Plain(Plain::default()),
        };
        let needed = definition.vertices.iter().zip(definition.needed(target));
        let total = needed.filter(|(vertex, needed)| *needed && is_shown(vertex)).count();
        let ticks = matches!(view, View::Plain(_) | View::Tty(_));
        let shared = Shared { board: Board::new(total, Instant::now()), view };
        let shared = Arc::new(Mutex::new(shared));
        let ticker = ticks.then(|| Ticker::start(shared.clone()));
        Self { definition, shared, ticker: Mutex::new(ticker) }
    }

    /// Takes an event in. Called from many threads at once.
    pub(crate) fn event(&self, event: Event<'_>) {
        let (Event::Started { vertex }
        | Event::Output { vertex, .. }
        | Event::Finished { vertex, .. }) = event;
        let known = self.definition.vertex(vertex);
        if is_shown(known) {
            lock(&self.shared).event(vertex, &known.name, event, Instant::now());
        }
    }

    /// Shows how the build has ended. Nothing more is shown after that.
    pub(crate) fn finish(&self) {
        if let Some(ticker) = lock(&self.ticker).take() {
            ticker.stop();
            lock(&self.shared).finish(Instant::now());
        }
    }

    /// The last lines that a failed step printed, at most so many, with the seconds they came after.
    pub(crate) fn last_lines(&self, vertex: VertexId, most: usize) -> Vec<String> {
        let shared = lock(&self.shared);
        let lines =
            shared.board.step(vertex).map(|step| step.output.last(most)).unwrap_or_default();
        lines
            .iter()
            .map(|line| format!("{} {}", output::seconds(line.at), text::clean(&line.text)))
            .collect()
    }

    /// Whether all that steps print has been told already.
    pub(crate) fn shows_output(&self) -> bool {
        matches!(lock(&self.shared).view, View::Plain(_) | View::RawJson(_))
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn event(&mut self, vertex: VertexId, name: &str, event: Event<'_>, now: Instant) {
        if let View::RawJson(rawjson) = &mut self.view {
            ui::screen(&rawjson.line(vertex, name, &event, jiff::Timestamp::now()));
        }
        let mut lines: Vec<Line> = Vec::new();
        match &event {
            Event::Started { .. } => self.board.start(vertex, name, now),
            Event::Output { bytes, .. } => lines = self.board.output(vertex, bytes, now),
            Event::Finished { outcome, took, .. } => {
                lines.extend(self.board.end(vertex, outcome.clone(), *took));
            }
        }
        if let View::Plain(plain) = &mut self.view {
            plain.event(vertex, name, &event, lines, now);
            ui::screen(&plain.take());
        }
    }

    fn tick(&mut self, now: Instant) {
        match &mut self.view {
            View::Plain(plain) => {
                plain.tick(now);
                ui::screen(&plain.take());
            }
            View::Tty(tty) => ui::screen(&tty.draw(&self.board, now, ui::size(), ui::colors())),
            View::Nothing | View::RawJson(_) => {}
        }
    }

    fn finish(&mut self, now: Instant) {
        match &mut self.view {
            View::Plain(plain) => {
                plain.finish();
                ui::screen(&plain.take());
            }
            View::Tty(tty) => {
                ui::screen(&tty.draw_last(&self.board, now, ui::size(), ui::colors()))
            }
            View::Nothing | View::RawJson(_) => {}
        }
    }
}

impl Ticker {
    fn start(shared: Arc<Mutex<Shared>>) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                lock(&shared).tick(Instant::now());
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        drop(self.stop);
        self.thread.join().expect("the ticker only writes to the screen");
    }
}

/// Whether people care about a vertex: what starts from nothing or joins results takes no work.
fn is_shown(vertex: &Vertex) -> bool {
    match &vertex.op {
        Op::Merge(_) => false,
        Op::Base(base) => !base.layers.is_empty(),
        _ => true,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}
