//! What is being done to a project, as it happens: on a terminal a list that is drawn in place, else a line each.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use compose::apply::Event;

use crate::text::{clean, fit, spread};
use crate::ui::{self, Colors, Size};

/// How often the times of what runs are drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// On a narrower screen there is no room for times.
const NARROW: usize = 30;

/// Shows progress.
pub(crate) struct Progress {
    style: Style,
    board: Arc<Mutex<Board>>,
    over: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Quiet,
    Plain,
    Tty,
    Json,
}

/// What has been told so far, the oldest first.
struct Board {
    verb: &'static str,
    rows: Vec<Row>,
}

struct Row {
    subject: String,
    what: String,
    state: State,
    begun: Instant,
    took: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Runs,
    Done,
    Failed,
}

impl Progress {
    /// Progress in the style that was asked for; `verb` is what is being done.
    pub(crate) fn new(style: &str, verb: &'static str) -> Progress {
        let style = match style {
            "quiet" | "none" => Style::Quiet,
            "json" => Style::Json,
            "tty" => Style::Tty,
            "auto" if ui::is_terminal() => Style::Tty,
            _ => Style::Plain,
        };
        let board = Arc::new(Mutex::new(Board { verb, rows: Vec::new() }));
        let over = Arc::new(AtomicBool::new(false));
        let ticker = (style == Style::Tty).then(|| {
            let (board, over) = (Arc::clone(&board), Arc::clone(&over));
            std::thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    std::thread::park_timeout(TICK);
                    draw(&board);
                }
            })
        });
        Progress { style, board, over, ticker }
    }

    /// Shows what happens.
    pub(crate) fn event(&self, event: &Event<'_>) {
        let (kind, name, what, state) = match event {
            Event::Progress { kind, name, what, done, .. } => {
                (kind, name, *what, if *done { State::Done } else { State::Runs })
            }
            Event::Failed { kind, name, failure, optional: true } => {
                ui::warn(format_args!("{kind} {name}: {}", ui::chain(failure)));
                return;
            }
            Event::Failed { kind, name, .. } => (kind, name, "Error", State::Failed),
            Event::Running { .. } => return,
        };
        // Some have a name that says what they are.
        let subject = format!("{kind} {name}").trim_start().to_owned();
        match self.style {
            Style::Quiet => {}
            Style::Plain => ui::note(format_args!(" {subject} {what} ")),
            Style::Json => {
                let status = match state {
                    State::Runs => "Working",
                    State::Done => "Done",
                    State::Failed => "Error",
                };
                let line = serde_json::json!({ "id": subject, "status": status, "text": what });
                ui::note(line);
            }
            Style::Tty => {
                self.board.lock().expect("no holder panics").put(subject, what, state);
                draw(&self.board);
            }
        }
    }
}

/// Leaves the list as it is on the screen.
impl Drop for Progress {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            let _ = ticker.join();
            let board = self.board.lock().expect("no holder panics");
            ui::set_frame(&board.lines(Instant::now(), Size { rows: usize::MAX, ..ui::size() }));
            ui::leave_frame();
        }
    }
}

fn draw(board: &Mutex<Board>) {
    let board = board.lock().expect("no holder panics");
    if !board.rows.is_empty() {
        ui::set_frame(&board.lines(Instant::now(), ui::size()));
    }
}

impl Board {
    fn put(&mut self, subject: String, what: &str, state: State) {
        let now = Instant::now();
        let row = match self.rows.iter_mut().find(|row| row.subject == subject) {
            Some(row) => row,
            None => {
                let what = String::new();
                self.rows.push(Row { subject, what, state, begun: now, took: None });
                self.rows.last_mut().expect("it has just been put there")
            }
        };
        if row.took.is_some() && state == State::Runs {
            (row.begun, row.took) = (now, None);
        }
        if state != State::Runs {
            row.took = Some(now.saturating_duration_since(row.begun));
        }
        what.clone_into(&mut row.what);
        row.state = state;
    }

    /// The list as it fits on the screen: what is done goes first where there is no room.
    fn lines(&self, now: Instant, size: Size) -> Vec<String> {
        let done = self.rows.iter().filter(|row| row.state != State::Runs).count();
        let header = format!("[+] {} {done}/{}", self.verb, self.rows.len());
        let mut surplus = self.rows.len().saturating_sub(size.rows.saturating_sub(2));
        let mut lines = vec![fit(&header, size.columns).to_owned()];
        let widest =
            self.rows.iter().map(|row| crate::text::width(&row.subject)).max().unwrap_or(0);
        for row in &self.rows {
            if surplus > 0 && row.state == State::Done {
                surplus -= 1;
                continue;
            }
            lines.push(row.line(now, widest, size.columns));
        }
        lines.truncate(size.rows.saturating_sub(1).max(1));
        lines
    }
}

impl Row {
    fn line(&self, now: Instant, widest: usize, columns: usize) -> String {
        let (sign, color) = match self.state {
            State::Runs => (self.spinner(now), "33"),
            State::Done => ('✔', "32"),
            State::Failed => ('✘', "31"),
        };
        let mut text = format!(" {sign} {}", clean(&self.subject));
        let gap = widest.saturating_sub(crate::text::width(&self.subject));
        write!(text, "{:gap$} {}", "", self.what).expect("writing to a string cannot fail");
        let took = self.took.unwrap_or_else(|| now.saturating_duration_since(self.begun));
        let text = match columns < NARROW {
            true => fit(&text, columns).to_owned(),
            false => spread(&text, &format!("{:.1}s", took.as_secs_f64()), columns),
        };
        match ui::stderr_colors() {
            Colors::Always => {
                text.replacen(sign, &Colors::Always.paint(color, &sign.to_string()), 1)
            }
            Colors::Never => text,
        }
    }

    fn spinner(&self, now: Instant) -> char {
        const TURNS: [char; 8] = ['⣾', '⣽', '⣻', '⢿', '⡿', '⣟', '⣯', '⣷'];
        let ticks = now.saturating_duration_since(self.begun).as_millis() / TICK.as_millis();
        TURNS[(ticks % TURNS.len() as u128) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(rows: &[(&str, &str, State)]) -> (Board, Instant) {
        let mut board = Board { verb: "up", rows: Vec::new() };
        for (subject, what, state) in rows {
            board.put((*subject).to_owned(), what, *state);
        }
        (board, Instant::now())
    }

    #[test]
    fn rows_stand_in_columns_and_take_what_is_told_last() {
        let (board, now) = board(&[
            ("Network n", "Creating", State::Runs),
            ("Container ab", "Starting", State::Runs),
            ("Network n", "Created", State::Done),
            ("Container c", "Error", State::Failed),
        ]);
        let lines = board.lines(now, Size { columns: 40, rows: 24 });
        assert_eq!(
            lines,
            [
                "[+] up 2/3",
                " ✔ Network n    Created             0.0s",
                " ⣾ Container ab Starting            0.0s",
                " ✘ Container c  Error               0.0s",
            ]
        );
        let narrow = board.lines(now, Size { columns: 12, rows: 24 });
        assert_eq!(narrow[1], " ✔ Network n");
    }

    #[test]
    fn where_there_is_no_room_what_is_done_goes_first() {
        let (board, now) = board(&[
            ("Container a", "Started", State::Done),
            ("Container b", "Waiting", State::Runs),
            ("Container c", "Started", State::Done),
            ("Container d", "Waiting", State::Runs),
        ]);
        let lines = board.lines(now, Size { columns: 20, rows: 5 });
        let texts: Vec<&str> =
            lines.iter().map(|line| line.trim_start_matches([' ', '✔', '⣾'])).collect();
        assert_eq!(
            texts,
            ["[+] up 2/4", "Container b Waiti", "Container c Start", "Container d Waiti"]
        );
    }
}
