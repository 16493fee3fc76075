//! Lines of several containers, each with its container's name in front.

use std::collections::BTreeMap;
use std::sync::Mutex;

use engine::containers::log::{Line, Output};
use jiff::Timestamp;

use crate::ui::{self, Colors};

/// The colours of names, by their numbers in ECMA-48's SGR, as docker compose has them.
const PALETTE: [&str; 10] = ["36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"];

/// Prints lines, one at a time.
pub(crate) struct Printer {
    /// Whether names stand in front.
    pub(crate) prefix: bool,
    /// Whether times do.
    pub(crate) timestamps: bool,
    /// Whether names are coloured.
    pub(crate) colors: Colors,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    colors: BTreeMap<String, usize>,
    width: usize,
}

impl Printer {
    /// A printer that knows no names yet.
    pub(crate) fn new(prefix: bool, timestamps: bool, colors: Colors) -> Printer {
        Printer { prefix, timestamps, colors, names: Mutex::default() }
    }

    /// Makes room for a name, and gives it a colour.
    pub(crate) fn know(&self, name: &str) {
        let mut names = self.names.lock().expect("no holder panics");
        let next = names.colors.len();
        names.colors.entry(name.to_owned()).or_insert(next);
        names.width = names.width.max(name.chars().count());
    }

    /// Prints a line of a container's log.
    pub(crate) fn line(&self, name: &str, line: &Line) {
        self.print(name, line.stream, line.time, line.text.as_bytes());
    }

    /// Prints a line of a container, whatever bytes it has.
    pub(crate) fn print(&self, name: &str, stream: Output, time: Timestamp, line: &[u8]) {
        let mut text = self.front(name);
        if self.timestamps {
            text += &time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string();
        }
        let mut text = text.into_bytes();
        text.extend(line);
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        // Whole lines at once: other threads print between them and not in them.
        match stream {
            Output::Stdout => ui::raw(&text),
            Output::Stderr => ui::screen(&text),
        }
    }

    /// Prints a line of our own beside those of containers.
    pub(crate) fn say(&self, text: &str) {
        let mut line = format!("{text}\n");
        if self.prefix {
            let width = self.names.lock().expect("no holder panics").width;
            line.insert_str(0, &self.colors.paint("92", &format!("{:width$}  ⦿ ", "")));
        }
        ui::raw(line);
    }

    fn front(&self, name: &str) -> String {
        if !self.prefix {
            return String::new();
        }
        self.know(name);
        let names = self.names.lock().expect("no holder panics");
        let width = names.width;
        self.colors
            .paint(PALETTE[names.colors[name] % PALETTE.len()], &format!("{name:width$}  | "))
    }
}

/// What a container is called beside its lines: its name without its project's.
pub(crate) fn label(project: &str, name: &str) -> String {
    let short = name.strip_prefix(project).and_then(|rest| rest.strip_prefix(['-', '_']));
    short.unwrap_or(name).to_owned()
}
