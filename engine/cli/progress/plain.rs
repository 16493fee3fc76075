//! Progress to be read later: blocks of lines that stay, as BuildKit prints them.
//!
//! ```text
//! #5 [2/3] RUN make
//! #5 0.123 cc -c main.c
//! #5 ...
//!
//! #6 [3/3] RUN true
//! #6 DONE 0.1s
//! ```
//!
//! Of steps that run at once one has the floor, and what the others say waits; so lines of one
//! step stay together. The floor changes hands when
//! - its holder ends, or another step does,
//! - its holder has been silent for [`SILENCE`] or has had it for [`TURN`],
//! - more than [`MOST_WAITING`] bytes wait.
//!
//! A step is shown when it speaks, ends, or is still there at the next tick: most end at once.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use engine::graph::VertexId;
use engine::progress::{Event, Outcome};
use frontend::shown::escaped;

use super::output::{self, Line};
use super::text;

/// After so much silence another step may speak.
const SILENCE: Duration = Duration::from_secs(1);

/// After so long another step may speak in any case.
const TURN: Duration = Duration::from_secs(5);

/// So much may wait for its turn.
const MOST_WAITING: usize = 256 << 10;

/// Makes blocks of lines of events.
#[derive(Default)]
pub(super) struct Plain {
    running: BTreeMap<VertexId, Running>,
    floor: Option<Floor>,
    /// How many steps have been shown.
    numbered: usize,
    /// Whether there is a block to keep the next one apart from.
    any_block: bool,
    out: String,
}

/// Who may speak.
struct Floor {
    vertex: VertexId,
    since: Instant,
    spoke: Instant,
}

/// A step that has not ended.
struct Running {
    name: String,
    /// Its number, once it has been shown.
    number: Option<usize>,
    unsaid: String,
    /// Since when it has had something to say.
    waiting: Instant,
}

impl Plain {
    /// Takes an event in, with the lines that it completes.
    pub(super) fn event(
        &mut self,
        vertex: VertexId,
        name: &str,
        event: &Event<'_>,
        lines: Vec<Line>,
        now: Instant,
    ) {
        match event {
            Event::Started { .. } => self.start(vertex, name, now),
            Event::Output { .. } => self.lines(vertex, &lines, now),
            Event::Finished { outcome, took, .. } => {
                self.say(vertex, &lines, now);
                self.end(vertex, outcome, *took, now);
            }
        }
    }

    /// The text that has come together since it was last taken.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    /// Lets another step speak if it is time.
    pub(super) fn tick(&mut self, now: Instant) {
        let may_keep = self.floor.as_ref().is_some_and(|floor| {
            now.duration_since(floor.spoke) < SILENCE && now.duration_since(floor.since) < TURN
        });
        if !may_keep {
            self.hand_on(|step| step.number.is_none() || !step.unsaid.is_empty(), now);
        }
    }

    fn start(&mut self, vertex: VertexId, name: &str, now: Instant) {
        let name = text::clean(name);
        let step = Running { name, number: None, unsaid: String::new(), waiting: now };
        self.running.insert(vertex, step);
    }

    fn lines(&mut self, vertex: VertexId, lines: &[Line], now: Instant) {
        self.say(vertex, lines, now);
        let unsaid = self.running[&vertex].unsaid.len();
        let speaks = self.floor.as_ref().is_none_or(|floor| floor.vertex == vertex);
        if unsaid > 0 && (speaks || unsaid > MOST_WAITING) {
            self.give_floor(vertex, now);
        }
    }

    /// Adds lines to what a step has to say.
    fn say(&mut self, vertex: VertexId, lines: &[Line], now: Instant) {
        let step = self.running.get_mut(&vertex).expect("a step starts before it speaks");
        if step.unsaid.is_empty() && step.number.is_some() {
            step.waiting = now;
        }
        for line in lines {
            writeln!(step.unsaid, "{} {}", output::seconds(line.at), line.text)
                .expect("writing to a string cannot fail");
        }
    }

    fn end(&mut self, vertex: VertexId, outcome: &Outcome, took: Duration, now: Instant) {
        let number = self.give_floor(vertex, now);
        let end = match outcome {
            Outcome::Cached => "CACHED".to_owned(),
            Outcome::Done => format!("DONE {:.1}s", took.as_secs_f64()),
            Outcome::Canceled => "CANCELED".to_owned(),
            Outcome::Failed(why) => format!("ERROR: {}", escaped(why)),
        };
        self.print(format_args!("#{number} {end}"));
        self.running.remove(&vertex);
        self.floor = None;
        self.hand_on(|step| !step.unsaid.is_empty(), now);
    }

    /// Keeps what follows apart.
    pub(super) fn finish(&mut self) {
        if self.any_block {
            self.out.push('\n');
        }
    }

    /// Gives the floor to that of such steps that has waited longest, if there is one.
    fn hand_on(&mut self, waits: impl Fn(&Running) -> bool, now: Instant) {
        let holder = self.floor.as_ref().map(|floor| floor.vertex);
        let others = self.running.iter().filter(|(vertex, _)| Some(**vertex) != holder);
        let next = others.filter(|(_, step)| waits(step)).min_by_key(|(_, step)| step.waiting);
        if let Some((&vertex, _)) = next {
            self.give_floor(vertex, now);
        }
    }

    /// Lets a step say what it has to say; returns its number.
    fn give_floor(&mut self, vertex: VertexId, now: Instant) -> usize {
        let step = self.running.get_mut(&vertex).expect("only a running step gets the floor");
        let number = *step.number.get_or_insert_with(|| {
            self.numbered += 1;
            self.numbered
        });
        let (name, unsaid) = (step.name.clone(), std::mem::take(&mut step.unsaid));
        match &mut self.floor {
            Some(floor) if floor.vertex == vertex => floor.spoke = now,
            _ => {
                self.begin_block(number, &name);
                self.floor = Some(Floor { vertex, since: now, spoke: now });
            }
        }
        for line in unsaid.lines() {
            self.print(format_args!("#{number} {line}"));
        }
        number
    }

    fn begin_block(&mut self, number: usize, name: &str) {
        if let Some(floor) = &self.floor {
            let interrupted = self.running[&floor.vertex].number.expect("its block has begun");
            self.print(format_args!("#{interrupted} ..."));
        }
        if self.any_block {
            self.out.push('\n');
        }
        self.any_block = true;
        self.print(format_args!("#{number} {name}"));
    }

    fn print(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.out, "{line}").expect("writing to a string cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use engine::progress::Stream;

    use super::*;

    /// What happens at a time in milliseconds, to step 0, 1, ...
    enum At {
        Start(u64, usize),
        Line(u64, usize, &'static str),
        End(u64, usize, Outcome),
        Tick(u64),
    }
    use At::{End, Line as Says, Start, Tick};

    fn check(trace: &[At], expected: &str) {
        let begun = Instant::now();
        let mut plain = Plain::default();
        for at in trace {
            let (Start(millis, _) | Says(millis, ..) | End(millis, ..) | Tick(millis)) = at;
            let took = Duration::from_millis(*millis);
            let (now, line) = (begun + took, |text: &str| Line { at: took, text: text.to_owned() });
            let mut tell = |step: usize, event: Event<'_>, lines| {
                plain.event(VertexId(step), &format!("[{step}] RUN"), &event, lines, now);
            };
            match at {
                Start(_, step) => tell(*step, Event::Started { vertex: VertexId(*step) }, vec![]),
                Says(_, step, text) => {
                    let (vertex, stream) = (VertexId(*step), Stream::Stdout);
                    tell(*step, Event::Output { vertex, stream, bytes: b"" }, vec![line(text)]);
                }
                End(_, step, outcome) => {
                    let (vertex, outcome) = (VertexId(*step), outcome.clone());
                    tell(*step, Event::Finished { vertex, outcome, took }, vec![]);
                }
                Tick(_) => plain.tick(now),
            }
        }
        assert_eq!(plain.take(), expected);
    }

    #[test]
    fn a_step_is_a_block() {
        check(
            &[
                Start(0, 0),
                End(10, 0, Outcome::Cached),
                Start(10, 1),
                Says(20, 1, "one"),
                Says(30, 1, "two"),
                End(1100, 1, Outcome::Done),
                Start(1100, 2),
                End(1100, 2, Outcome::Failed("no".to_owned())),
            ],
            "#1 [0] RUN\n#1 CACHED\n\n#2 [1] RUN\n#2 0.020 one\n#2 0.030 two\n#2 DONE 1.1s\n\n\
             #3 [2] RUN\n#3 ERROR: no\n",
        );
    }

    #[test]
    fn what_others_say_waits_for_the_end_of_a_step() {
        check(
            &[
                Start(0, 0),
                Start(0, 1),
                Says(10, 0, "a"),
                Says(20, 1, "b"),
                Says(30, 0, "c"),
                Tick(100),
                End(200, 0, Outcome::Done),
                Says(300, 1, "d"),
                End(400, 1, Outcome::Canceled),
            ],
            "#1 [0] RUN\n#1 0.010 a\n#1 0.030 c\n#1 DONE 0.2s\n\n\
             #2 [1] RUN\n#2 0.020 b\n#2 0.300 d\n#2 CANCELED\n",
        );
    }

    #[test]
    fn a_step_that_ends_is_told_at_once() {
        check(
            &[Start(0, 0), Start(0, 1), Tick(40), End(50, 1, Outcome::Done), Says(60, 0, "a")],
            "#1 [0] RUN\n#1 ...\n\n#2 [1] RUN\n#2 DONE 0.1s\n\n#1 [0] RUN\n#1 0.060 a\n",
        );
    }

    #[test]
    fn steps_that_end_at_once_do_not_interrupt_each_other() {
        let cached = |step| End(1, step, Outcome::Cached);
        check(
            &[Start(0, 0), Start(0, 1), cached(1), Start(1, 2), cached(0), Tick(100), Tick(200)],
            "#1 [1] RUN\n#1 CACHED\n\n#2 [0] RUN\n#2 CACHED\n\n#3 [2] RUN\n",
        );
    }

    #[test]
    fn silence_and_long_speech_give_others_the_floor() {
        check(
            &[
                Start(0, 0),
                Tick(0),
                Start(0, 1),
                Says(99, 1, "b"),
                Tick(999),
                Tick(1000),
                Tick(9000),
            ],
            "#1 [0] RUN\n#1 ...\n\n#2 [1] RUN\n#2 0.099 b\n",
        );
        let mut trace = vec![Start(0, 0), Start(0, 1)];
        for tenth in 1..=51 {
            trace.extend([Says(tenth * 100, 0, "a"), Tick(tenth * 100)]);
        }
        let lines = |range: std::ops::RangeInclusive<u64>| -> String {
            range.map(|tenth| format!("#1 {}.{}00 a\n", tenth / 10, tenth % 10)).collect()
        };
        let said = lines(1..=51);
        check(&trace, &format!("#1 [0] RUN\n{said}#1 ...\n\n#2 [1] RUN\n"));
    }
}
