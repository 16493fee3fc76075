//! Progress on a terminal: a list that is drawn anew a few times a second, in place.
//!
//! [`frame`] decides what is to be seen; [`Tty`] brings it to the screen. A frame leaves the cursor
//! visible and below the list: however the program ends, the terminal is as it was.

use std::fmt::Write;
use std::time::Instant;

use engine::progress::Outcome;

use super::board::{Board, Step};
use super::text::{clean, fit, spread, width};
use crate::ui::{Colors, Size};

/// As many lines of a running step's output are shown.
const OUTPUT_LINES: usize = 4;

/// On a narrower screen there is no room for times.
const NARROW: usize = 24;

/// A line of the list.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    text: String,
    color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Color {
    Plain,
    Done,
    Canceled,
    Failed,
    Faint,
}

/// The list on the screen.
#[derive(Default)]
pub(super) struct Tty {
    /// The widths of the lines that were drawn last.
    drawn: Vec<usize>,
}

impl Tty {
    /// What to write to see how the build is going.
    pub(super) fn draw(
        &mut self,
        board: &Board,
        now: Instant,
        size: Size,
        colors: Colors,
    ) -> String {
        self.redraw(frame(board, now, size), size, colors)
    }

    /// What to write to see, for good, how the build went.
    pub(super) fn draw_last(
        &mut self,
        board: &Board,
        now: Instant,
        size: Size,
        colors: Colors,
    ) -> String {
        self.redraw(whole(board, now, size.columns), size, colors)
    }

    fn redraw(&mut self, lines: Vec<Line>, size: Size, colors: Colors) -> String {
        // Without a cursor, and without line wrapping for what is wider than we think.
        let mut out = String::from("\x1b[?25l\x1b[?7l\r");
        // A screen that has become narrower has broken the lines that are on it.
        let rows: usize = self.drawn.iter().map(|width| width.div_ceil(size.columns).max(1)).sum();
        if rows > 0 {
            write!(out, "\x1b[{rows}A").expect("writing to a string cannot fail");
        }
        for line in &lines {
            // Cleared first: a line that fills the row leaves the cursor on its last character.
            out.push_str("\x1b[K");
            out.push_str(&painted(line, colors));
            out.push('\n');
        }
        out.push_str("\x1b[J\x1b[?7h\x1b[?25h");
        self.drawn = lines.iter().map(|line| width(&line.text)).collect();
        out
    }
}

fn painted(line: &Line, colors: Colors) -> String {
    let code = match line.color {
        Color::Plain => return line.text.clone(),
        Color::Done => "36",
        Color::Canceled => "33",
        Color::Failed => "31",
        Color::Faint => "2",
    };
    colors.paint(code, &line.text)
}

/// The list that fits on the screen above the cursor's line: what runs comes before what is done,
/// and what runs prints into the room that is left.
fn frame(board: &Board, now: Instant, size: Size) -> Vec<Line> {
    let room = size.rows.saturating_sub(2);
    let steps = chosen(board.steps(), room);
    let mut spare = room - steps.len();
    let mut talking = steps.iter().filter(|step| step.is_running()).count();
    let mut lines = vec![header(board, now, size.columns)];
    for step in steps {
        lines.push(step_line(step, now, size.columns));
        if step.is_running() {
            // Later steps keep their part of the room.
            let share = spare.div_ceil(talking).min(OUTPUT_LINES);
            let output = output_lines(step, share, size.columns);
            talking -= 1;
            spare -= output.len();
            lines.extend(output);
        }
    }
    lines
}

/// The whole list without what steps print.
fn whole(board: &Board, now: Instant, columns: usize) -> Vec<Line> {
    let steps = board.steps().iter().map(|step| step_line(step, now, columns));
    std::iter::once(header(board, now, columns)).chain(steps).collect()
}

/// The steps to show when there is room for so many: those that ended first are left out first.
fn chosen(steps: &[Step], room: usize) -> Vec<&Step> {
    let mut surplus = steps.len().saturating_sub(room);
    let mut chosen: Vec<&Step> = Vec::with_capacity(room);
    for step in steps {
        if surplus > 0 && !step.is_running() {
            surplus -= 1;
        } else {
            chosen.push(step);
        }
    }
    chosen.truncate(room);
    chosen
}

fn header(board: &Board, now: Instant, columns: usize) -> Line {
    let seconds = now.saturating_duration_since(board.begun).as_secs_f64();
    let (done, total) = (board.done(), board.total);
    let finished = if board.is_finished() { " FINISHED" } else { "" };
    let text = format!("[+] Building {seconds:.1}s ({done}/{total}){finished}");
    Line { text: fit(&text, columns).to_owned(), color: Color::Plain }
}

fn step_line(step: &Step, now: Instant, columns: usize) -> Line {
    let (state, color) = match &step.end {
        None => ("", Color::Plain),
        Some((Outcome::Done, _)) => ("", Color::Done),
        Some((Outcome::Cached, _)) => ("CACHED ", Color::Done),
        Some((Outcome::Canceled, _)) => ("CANCELED ", Color::Canceled),
        Some((Outcome::Failed(_), _)) => ("ERROR ", Color::Failed),
    };
    let name = format!(" => {state}{}", clean(&step.name));
    let text = if columns < NARROW {
        fit(&name, columns).to_owned()
    } else {
        spread(&name, &format!("{:.1}s", step.took(now).as_secs_f64()), columns)
    };
    Line { text, color }
}

fn output_lines(step: &Step, most: usize, columns: usize) -> Vec<Line> {
    // Empty lines would only take the room of others.
    let texts = step.output.last_texts(4 * OUTPUT_LINES);
    let texts: Vec<String> =
        texts.iter().map(|text| clean(text)).filter(|text| !text.trim().is_empty()).collect();
    let shown = texts.len().saturating_sub(most);
    let line = |text: &String| {
        let text = format!(" => => # {text}");
        Line { text: fit(&text, columns).to_owned(), color: Color::Faint }
    };
    texts[shown..].iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::graph::VertexId;

    use super::*;

    /// A build of `total` steps that began 2 seconds ago, with steps as their names begin.
    fn board(total: usize, steps: &[(&str, &str)]) -> (Board, Instant) {
        let begun = Instant::now();
        let mut board = Board::new(total, begun);
        for (place, (name, output)) in steps.iter().enumerate() {
            let (id, took) = (VertexId(place), Duration::from_millis(1500));
            board.start(id, name, begun);
            board.output(id, output.as_bytes(), begun);
            let outcome = match name.split(' ').next() {
                Some("done") => Outcome::Done,
                Some("cached") => Outcome::Cached,
                Some("canceled") => Outcome::Canceled,
                Some("failed") => Outcome::Failed("why".to_owned()),
                _ => continue,
            };
            board.end(id, outcome, took);
        }
        (board, begun + Duration::from_secs(2))
    }

    fn check(steps: &[(&str, &str)], columns: usize, rows: usize, expected: &[&str]) {
        let (board, now) = board(9, steps);
        let lines = frame(&board, now, Size { columns, rows });
        let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, expected);
        assert!(texts.iter().all(|text| width(text) <= columns) && texts.len() < rows.max(2));
    }

    #[test]
    fn steps_are_listed_with_their_state_and_time() {
        check(
            &[
                ("cached a", ""),
                ("done b", "x\n"),
                ("failed c", ""),
                ("canceled d", ""),
                ("run e", ""),
            ],
            30,
            24,
            &[
                "[+] Building 2.0s (4/9)",
                " => CACHED cached a       1.5s",
                " => done b                1.5s",
                " => ERROR failed c        1.5s",
                " => CANCELED canceled d   1.5s",
                " => run e                 2.0s",
            ],
        );
    }

    #[test]
    fn a_running_step_shows_the_end_of_its_output() {
        check(
            &[("run a", "1\n2\n\n3\n4\n\x1b[31m5%\r6%"), ("run b", "a long line of text\n")],
            24,
            24,
            &[
                "[+] Building 2.0s (0/9)",
                " => run a           2.0s",
                " => => # 2",
                " => => # 3",
                " => => # 4",
                " => => # 6%",
                " => run b           2.0s",
                " => => # a long line of ",
            ],
        );
    }

    #[test]
    fn a_low_screen_shows_what_runs_and_what_ended_last() {
        let steps =
            [("done a", ""), ("run b", "1\n2\n"), ("done c", ""), ("run d", "3\n"), ("done e", "")];
        let header = "[+] Building 2.0s (3/9)";
        let (b, d, e) =
            (" => run b           2.0s", " => run d           2.0s", " => done e          1.5s");
        check(&steps, 24, 5, &[header, b, d, e]);
        check(&steps, 24, 4, &[header, b, d]);
        check(&steps, 24, 3, &[header, b]);
        check(&steps, 24, 1, &[header]);
        let (a, c) = (" => done a          1.5s", " => done c          1.5s");
        check(&steps, 24, 9, &[header, a, b, " => => # 2", c, d, " => => # 3", e]);
        check(&steps, 8, 4, &["[+] Buil", " => run ", " => run "]);
    }

    #[test]
    fn the_last_frame_has_all_steps_and_says_that_they_are_done() {
        let (board, now) = board(2, &[("cached a", ""), ("done b", "")]);
        let texts: Vec<_> = whole(&board, now, 26).into_iter().map(|line| line.text).collect();
        let expected = [
            "[+] Building 2.0s (2/2) FI",
            " => CACHED cached a   1.5s",
            " => done b            1.5s",
        ];
        assert_eq!(texts, expected);
        let mut tty = Tty::default();
        let size = Size { columns: 26, rows: 2 };
        let first = tty.draw_last(&board, now, size, Colors::Never);
        assert!(first.starts_with("\x1b[?25l\x1b[?7l\r\x1b[K[+]"), "{first:?}");
        assert!(first.ends_with("1.5s\n\x1b[J\x1b[?7h\x1b[?25h"), "{first:?}");
        // Each of the lines takes two rows of a screen that is half as wide.
        let narrow = Size { columns: 13, rows: 9 };
        let second = tty.draw_last(&board, now, narrow, Colors::Always);
        assert!(second.starts_with("\x1b[?25l\x1b[?7l\r\x1b[6A\x1b[K[+]"), "{second:?}");
        assert!(second.contains("\x1b[36m => CACHED ca\x1b[0m"), "{second:?}");
    }
}
