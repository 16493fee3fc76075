//! Shows layers on their way from and to registries: bars on a terminal, else a line for what each
//! has come to.

use std::fmt::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cache::digest::Digest;
use engine::registry::progress::{Event, State};

use crate::format;
use crate::progress::text::{fit, width};
use crate::ui::{self, Size};

/// How often what only grows is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// Which way the layers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Into the store.
    Pull,
    /// Out of it.
    Push,
}

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Bars on a terminal, else lines that are part of the answer.
    Answer,
    /// Bars on a terminal, else lines beside the answer.
    Beside,
    /// Nothing.
    Nothing,
}

/// Layers on their way.
pub(crate) struct Transfers {
    way: Way,
    show: Show,
    live: bool,
    board: Mutex<Board>,
}

#[derive(Default)]
struct Board {
    rows: Vec<Row>,
    /// How many lines were drawn last, and when.
    drawn: usize,
    at: Option<Instant>,
}

struct Row {
    layer: Digest,
    size: u64,
    moved: u64,
    begun: Instant,
    words: String,
    is_settled: bool,
}

impl Transfers {
    /// Begins to show.
    pub(crate) fn new(way: Way, show: Show) -> Self {
        let live = show != Show::Nothing && ui::is_terminal();
        Self { way, show, live, board: Mutex::default() }
    }

    /// Takes an event in. Called from many threads at once.
    pub(crate) fn event(&self, event: Event<'_>) {
        if self.show == Show::Nothing {
            return;
        }
        let mut board = self.board.lock().expect("no holder panics");
        let words = words(self.way, event.state);
        let has_changed = board.take(&event, &words);
        if self.live {
            let now = Instant::now();
            if has_changed || board.at.is_none_or(|at| now - at >= TICK) {
                ui::screen(&board.draw(now, ui::size()));
            }
        } else if has_changed && !matches!(event.state, State::Moved(_)) {
            let line = format!("{}: {words}", event.layer.short());
            match self.show {
                Show::Answer => ui::line(line),
                _ => ui::note(line),
            }
        }
    }
}

/// Docker's words for what a layer has come to.
fn words(way: Way, state: State<'_>) -> String {
    match (way, state) {
        (Way::Pull, State::Waiting) => "Pulling fs layer".to_owned(),
        (Way::Pull, State::Present) => "Already exists".to_owned(),
        (Way::Pull, State::Moved(_)) => "Downloading".to_owned(),
        (Way::Pull, State::Done | State::Mounted(_)) => "Pull complete".to_owned(),
        (Way::Push, State::Waiting) => "Preparing".to_owned(),
        (Way::Push, State::Present) => "Layer already exists".to_owned(),
        (Way::Push, State::Moved(_)) => "Pushing".to_owned(),
        (Way::Push, State::Done) => "Pushed".to_owned(),
        (Way::Push, State::Mounted(from)) => format!("Mounted from {from}"),
        (_, State::Elsewhere) => "Waiting for another process".to_owned(),
    }
}

impl Board {
    /// Notes an event; tells whether the layer has come to something else.
    fn take(&mut self, event: &Event<'_>, words: &str) -> bool {
        let known = self.rows.iter().position(|row| row.layer == *event.layer);
        let at = known.unwrap_or_else(|| {
            self.rows.push(Row {
                layer: *event.layer,
                size: event.size,
                moved: 0,
                begun: Instant::now(),
                words: String::new(),
                is_settled: false,
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[at];
        if let State::Moved(bytes) = event.state {
            if row.moved == 0 {
                row.begun = Instant::now();
            }
            row.moved = bytes;
        }
        row.size = event.size;
        row.is_settled = matches!(event.state, State::Present | State::Done | State::Mounted(_));
        let has_changed = row.words != words;
        row.words = words.to_owned();
        has_changed
    }

    /// What to write to see how it goes: over what was drawn before. A frame leaves the cursor below
    /// the list.
    fn draw(&mut self, now: Instant, size: Size) -> String {
        let mut out = String::from("\x1b[?7l\r");
        if self.drawn > 0 {
            write!(out, "\x1b[{}A", self.drawn).expect("writing to a string cannot fail");
        }
        let room = size.rows.saturating_sub(2).max(1);
        let lines: Vec<String> =
            self.chosen(room).iter().map(|row| row.line(now, size.columns)).collect();
        self.drawn = lines.len();
        for line in lines {
            writeln!(out, "\x1b[K{line}").expect("writing to a string cannot fail");
        }
        out.push_str("\x1b[J\x1b[?7h");
        self.at = Some(now);
        out
    }

    /// The rows that there is room for: those that move come before those that are done.
    fn chosen(&self, room: usize) -> Vec<&Row> {
        let mut spare = self.rows.len().saturating_sub(room);
        let mut chosen: Vec<&Row> = Vec::new();
        for row in &self.rows {
            if spare > 0 && row.is_settled {
                spare -= 1;
            } else {
                chosen.push(row);
            }
        }
        chosen.truncate(room);
        chosen
    }
}

impl Row {
    fn line(&self, now: Instant, columns: usize) -> String {
        let head = format!("{}: {}", self.layer.short(), self.words);
        if self.is_settled || self.moved == 0 {
            return fit(&head, columns).to_owned();
        }
        let seconds = now.saturating_duration_since(self.begun).as_secs_f64().max(0.001);
        let numbers = format!(
            "{}/{}  {}/s",
            format::size(self.moved),
            format::size(self.size),
            format::size((self.moved as f64 / seconds) as u64)
        );
        let room = columns.saturating_sub(width(&head) + width(&numbers) + 6).min(50);
        let bar = match room {
            0..10 => String::new(),
            _ => {
                let share = self.moved as f64 / self.size.max(1) as f64;
                let full = ((room as f64 * share) as usize).min(room);
                let arrow = "=".repeat(full.saturating_sub(1)) + if full > 0 { ">" } else { "" };
                format!("[{arrow:room$}]  ")
            }
        };
        fit(&format!("{head}  {bar}{numbers}"), columns).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(layer: &'a Digest, state: State<'a>) -> Event<'a> {
        Event { layer, size: 1000, state }
    }

    #[test]
    fn a_bar_grows_and_then_says_that_it_is_done() {
        let (mut board, layer) = (Board::default(), Digest::of("layer"));
        let states = [State::Waiting, State::Moved(500), State::Moved(1000), State::Done];
        let mut lines = Vec::new();
        let mut changes = Vec::new();
        for state in states {
            changes.push(board.take(&event(&layer, state), &words(Way::Pull, state)));
            lines.push(board.rows[0].line(board.rows[0].begun + Duration::from_secs(1), 100));
        }
        assert_eq!(changes, [true, true, false, true]);
        let short = layer.short();
        assert_eq!(lines[0], format!("{short}: Pulling fs layer"));
        assert!(lines[1].contains("=>   ") && lines[1].ends_with("500B/1kB  500B/s"), "{lines:?}");
        assert!(lines[2].contains("=>]  1kB/1kB"), "{lines:?}");
        assert_eq!(lines[3], format!("{short}: Pull complete"));
        assert!(lines.iter().all(|line| width(line) <= 100));
    }

    #[test]
    fn a_low_screen_shows_what_moves() {
        let mut board = Board::default();
        let layers: Vec<Digest> = (0..6_u8).map(|number| Digest::of([number])).collect();
        for (number, layer) in layers.iter().enumerate() {
            let state = if number < 3 { State::Done } else { State::Moved(1) };
            board.take(&event(layer, state), &words(Way::Pull, state));
        }
        let shown: Vec<_> = board.chosen(4).iter().map(|row| row.layer).collect();
        assert_eq!(shown, layers[2..]);
        let size = Size { columns: 30, rows: 5 };
        let frame = board.draw(Instant::now(), size);
        assert_eq!(frame.matches('\n').count(), 3);
        assert!(board.draw(Instant::now(), size).contains("\x1b[3A"));
    }
}
