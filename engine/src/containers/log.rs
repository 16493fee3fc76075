//! What containers printed: files in docker's json-file format, one JSON object a line, rotated.
//!
//! `<id>-json.log` is the newest file, `<id>-json.log.1` the one before. A line of the program
//! longer than 16 KiB takes several objects, of which only the last one ends in a newline.
//!
//! Knows nothing of containers but where their output is kept.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::LogConfig;
use super::{Error, Result};
use crate::units::parse_size;

/// What a line is cut at, as in docker.
const LONGEST: usize = 16 << 10;

/// How much is read at once, looking for the last lines.
const CHUNK: u64 = 64 << 10;

/// One of a program's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Standard output, and all that goes to a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of a log, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What was printed, with its newline.
    #[serde(rename = "log")]
    pub text: String,
    /// Where.
    pub stream: Output,
    /// When.
    pub time: Timestamp,
}

/// Where a log is and how large it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether anything is kept.
    pub kept: bool,
    /// Bytes after which a new file is begun; 0 is never.
    pub max_size: u64,
    /// How many files there are at most.
    pub max_file: u32,
}

impl Plan {
    /// Reads `--log-driver` and `--log-opt`.
    pub fn parse(config: &LogConfig) -> Result<Plan> {
        let refuse = |text: String| Err(Error::Refused(text));
        let local = match config.kind.as_str() {
            "" | "json-file" => false,
            "local" => true,
            "none" => return Ok(Plan { kept: false, max_size: 0, max_file: 1 }),
            other => {
                return refuse(format!(
                    "logger: no log driver named '{other}' is registered: there are json-file, \
                     local and none"
                ));
            }
        };
        let (max_size, max_file) = if local { (20 << 20, 5) } else { (0, 1) };
        let mut plan = Plan { kept: true, max_size, max_file };
        for (name, value) in &config.config {
            match name.as_str() {
                "max-size" if value == "-1" => plan.max_size = 0,
                "max-size" => match parse_size(value) {
                    Ok(size) if size > 0 => plan.max_size = size,
                    _ => return refuse(format!("invalid log-opt max-size: {value:?}")),
                },
                "max-file" => match value.parse() {
                    Ok(count) if count > 0 => plan.max_file = count,
                    _ => return refuse("max-file cannot be less than 1".to_owned()),
                },
                "mode" if !matches!(value.as_str(), "" | "blocking" | "non-blocking") => {
                    return refuse(format!("logger: logging mode not supported: {value}"));
                }
                "max-buffer-size"
                    if config.config.get("mode").is_none_or(|mode| mode != "non-blocking") =>
                {
                    return refuse(
                        "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
                            .to_owned(),
                    );
                }
                "compress" | "mode" | "max-buffer-size" => {}
                // What they would add to each line is not shown by any command of ours.
                "labels" | "labels-regex" | "env" | "env-regex" | "tag" if !local => {}
                other if local => {
                    return refuse(format!("unknown log opt '{other}' for log driver local"));
                }
                other => {
                    return refuse(format!("unknown log opt '{other}' for json-file log driver"));
                }
            }
        }
        Ok(plan)
    }
}

/// The newest file of a container's log.
pub fn path(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}-json.log"))
}

/// Writes a log.
pub(super) struct LogWriter {
    plan: Plan,
    path: PathBuf,
    file: Option<fs::File>,
    size: u64,
    /// The beginnings of lines, of both outputs.
    begun: [Vec<u8>; 2],
}

impl LogWriter {
    /// Goes on with a container's log.
    pub(super) fn open(dir: &Path, id: &str, plan: Plan) -> io::Result<LogWriter> {
        let path = path(dir, id);
        let file = plan.kept.then(|| append_to(&path)).transpose()?;
        let size = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|data| data.len()))?;
        Ok(LogWriter { plan, path, file, size, begun: [Vec::new(), Vec::new()] })
    }

    /// Keeps what was printed; the beginning of a line waits for its end.
    pub(super) fn write(&mut self, output: Output, mut bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        while !bytes.is_empty() {
            let mut begun = std::mem::take(&mut self.begun[output as usize]);
            let room = LONGEST - begun.len();
            let newline = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let end = newline.map_or(room.min(bytes.len()), |at| at + 1);
            begun.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end..];
            if newline.is_some() || begun.len() == LONGEST {
                self.line(output, &begun)?;
                begun.clear();
            }
            self.begun[output as usize] = begun;
        }
        Ok(())
    }

    /// Keeps lines that have no end: there will be none.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        for output in [Output::Stdout, Output::Stderr] {
            let begun = std::mem::take(&mut self.begun[output as usize]);
            if !begun.is_empty() {
                self.line(output, &begun)?;
            }
        }
        Ok(())
    }

    fn line(&mut self, stream: Output, text: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(text).into_owned();
        let mut bytes = serde_json::to_vec(&Line { text, stream, time: Timestamp::now() })?;
        bytes.push(b'\n');
        if self.plan.max_size > 0 && self.size + bytes.len() as u64 > self.plan.max_size {
            self.rotate()?;
        }
        if let Some(file) = &mut self.file {
            file.write_all(&bytes)?;
            self.size += bytes.len() as u64;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.plan.max_file).rev() {
            match fs::rename(rotated(&self.path, number - 1), rotated(&self.path, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.plan.max_file == 1 {
            fs::remove_file(&self.path)?;
        }
        self.file = Some(append_to(&self.path)?);
        self.size = 0;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().create(true).append(true).open(path)
}

/// A file of a log; 0 is the newest.
fn rotated(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_owned(),
        _ => path.with_extension(format!("log.{number}")),
    }
}

/// Reads a log, from where it is wanted to what will come yet.
pub struct LogReader {
    path: PathBuf,
    /// Files still to be read, the oldest first; the last one is the newest.
    files: VecDeque<BufReader<fs::File>>,
    line: Vec<u8>,
}

impl LogReader {
    /// Reads from the last `tail` lines on, or from the beginning.
    pub fn open(dir: &Path, id: &str, tail: Option<usize>) -> io::Result<LogReader> {
        let path = path(dir, id);
        let (mut files, mut missing) = (VecDeque::new(), tail);
        for number in 0.. {
            let mut file = match fs::File::open(rotated(&path, number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                file => file?,
            };
            if let Some(missing) = &mut missing {
                let found = seek_last_lines(&mut file, *missing)?;
                *missing -= found;
            }
            files.push_front(BufReader::new(file));
            if missing == Some(0) {
                break;
            }
        }
        Ok(LogReader { path, files, line: Vec::new() })
    }

    /// The next line; none if there is no more for now. A line that is no JSON is passed over, as
    /// what a full disk cut off.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        while let Some(file) = self.files.front_mut() {
            file.read_until(b'\n', &mut self.line)?;
            if self.line.ends_with(b"\n") {
                let parsed = serde_json::from_slice(&self.line);
                self.line.clear();
                if let Ok(line) = parsed {
                    return Ok(Some(line));
                }
            } else if self.files.len() > 1 || self.find_newer()? {
                self.line.clear();
                self.files.pop_front();
            } else {
                return Ok(None);
            }
        }
        // There was no file when it was opened.
        if self.find_newer()? { self.next_line() } else { Ok(None) }
    }

    /// Opens the files that are newer than the last one; whether there are any. It may have been rotated more than
    /// once since that was opened.
    fn find_newer(&mut self) -> io::Result<bool> {
        let inode = |file: &fs::File| Ok::<_, io::Error>(file.metadata()?.ino());
        let last = self.files.back().map(|file| inode(file.get_ref())).transpose()?;
        let mut newer: Vec<fs::File> = Vec::new();
        let mut known = Vec::new();
        // From the newest on: what becomes an older one meanwhile is met twice, and none is passed over.
        for number in 0.. {
            let file = match fs::File::open(rotated(&self.path, number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                file => file?,
            };
            let inode = inode(&file)?;
            if Some(inode) == last {
                break;
            }
            if !known.contains(&inode) {
                known.push(inode);
                newer.push(file);
            }
        }
        let found = !newer.is_empty();
        self.files.extend(newer.into_iter().rev().map(BufReader::new));
        Ok(found)
    }
}

/// Goes to where the last `wanted` lines of a file begin; returns how many it has of them.
fn seek_last_lines(file: &mut fs::File, wanted: usize) -> io::Result<usize> {
    let length = file.metadata()?.len();
    let (mut end, mut found) = (length, 0);
    let mut chunk = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        chunk.resize((end - start) as usize, 0);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut chunk)?;
        for (at, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if found == wanted {
                file.seek(SeekFrom::Start(start + at as u64 + 1))?;
                return Ok(wanted);
            }
            found += 1;
        }
        end = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: &str, options: &[(&str, &str)]) -> LogConfig {
        let config = options.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        LogConfig { kind: kind.to_owned(), config: config.collect() }
    }

    fn all(reader: &mut LogReader) -> Vec<String> {
        std::iter::from_fn(|| reader.next_line().expect("read")).map(|line| line.text).collect()
    }

    #[test]
    fn options_are_dockers() {
        let check = |kind, options: &[(&str, &str)], expected: std::result::Result<Plan, &str>| {
            let found = Plan::parse(&config(kind, options)).map_err(|error| error.to_string());
            match (found, expected) {
                (Ok(plan), Ok(expected)) => assert_eq!(plan, expected),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                other => panic!("{kind} {options:?}: {other:?}"),
            }
        };
        check("", &[], Ok(Plan { kept: true, max_size: 0, max_file: 1 }));
        check("none", &[], Ok(Plan { kept: false, max_size: 0, max_file: 1 }));
        check("local", &[], Ok(Plan { kept: true, max_size: 20 << 20, max_file: 5 }));
        let rotating = [("max-size", "10k"), ("max-file", "3")];
        check("json-file", &rotating, Ok(Plan { kept: true, max_size: 10_000, max_file: 3 }));
        check("", &[("max-file", "3")], Ok(Plan { kept: true, max_size: 0, max_file: 3 }));
        check("local", &[("tag", "x")], Err("unknown log opt 'tag' for log driver local"));
        check("", &[("mode", "fast")], Err("logger: logging mode not supported: fast"));
        let buffer = ("max-buffer-size", "1m");
        check("", &[buffer], Err("max-buffer-size option is only supported with"));
        let unlimited = Plan { kept: true, max_size: 0, max_file: 1 };
        check("", &[buffer, ("mode", "non-blocking"), ("tag", "x")], Ok(unlimited));
        check("json-file", &[("max-size", "much")], Err("invalid log-opt max-size"));
        check("json-file", &[("colour", "red")], Err("unknown log opt 'colour' for json-file"));
        check("syslog", &[], Err("no log driver named 'syslog'"));
    }

    #[test]
    fn lines_come_back_whole_and_in_order() {
        let dir = tempfile::tempdir().expect("tempdir");
        let plan = Plan::parse(&LogConfig::default()).expect("plan");
        let mut log = LogWriter::open(dir.path(), "x", plan.clone()).expect("open");
        let mut reader = LogReader::open(dir.path(), "x", None).expect("open");
        log.write(Output::Stdout, b"one\ntw").expect("write");
        log.write(Output::Stderr, b"beside\n").expect("write");
        assert_eq!(all(&mut reader), ["one\n", "beside\n"]);
        log.write(Output::Stdout, b"o\n\nend").expect("write");
        assert_eq!(all(&mut reader), ["two\n", "\n"]);
        log.finish().expect("finish");
        assert_eq!(all(&mut reader), ["end"]);
        let mut again = LogWriter::open(dir.path(), "x", plan).expect("open");
        let long = [b"a".repeat(LONGEST + 3), b"\n".to_vec()].concat();
        again.write(Output::Stdout, &long).expect("write");
        let parts = all(&mut reader);
        assert_eq!(parts.iter().map(String::len).collect::<Vec<_>>(), [LONGEST, 4]);
        for (tail, expected) in [(1, 1), (3, 3), (100, 7), (0, 0)] {
            let mut reader = LogReader::open(dir.path(), "x", Some(tail)).expect("open");
            assert_eq!(all(&mut reader).len(), expected, "{tail}");
        }
    }

    #[test]
    fn a_log_is_rotated_and_followed_over_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let options = config("json-file", &[("max-size", "1k"), ("max-file", "3")]);
        let plan = Plan::parse(&options).expect("plan");
        let mut log = LogWriter::open(dir.path(), "x", plan).expect("open");
        let mut reader = LogReader::open(dir.path(), "x", None).expect("open");
        for number in 0..100 {
            log.write(Output::Stdout, format!("line {number}\n").as_bytes()).expect("write");
            assert_eq!(all(&mut reader), [format!("line {number}\n")]);
        }
        let files = fs::read_dir(dir.path()).expect("list").count();
        assert_eq!(files, 3);
        // Over more than one file at once, as long as they are kept.
        let lines: Vec<String> = (0..25).map(|number| format!("more {number}\n")).collect();
        for line in &lines {
            log.write(Output::Stdout, line.as_bytes()).expect("write");
        }
        assert_eq!(all(&mut reader), lines);
        for number in 80..100 {
            log.write(Output::Stdout, format!("line {number}\n").as_bytes()).expect("write");
        }
        let mut tail = LogReader::open(dir.path(), "x", Some(20)).expect("open");
        let lines = all(&mut tail);
        assert_eq!(
            (lines.len(), lines[0].as_str(), lines[19].as_str()),
            (20, "line 80\n", "line 99\n")
        );
    }

    #[test]
    fn a_line_that_was_cut_off_hides_no_other() {
        let dir = tempfile::tempdir().expect("tempdir");
        let plan = Plan::parse(&LogConfig::default()).expect("plan");
        fs::write(path(dir.path(), "x"), "{\"log\":\"cu\n").expect("write");
        let mut log = LogWriter::open(dir.path(), "x", plan).expect("open");
        log.write(Output::Stdout, b"whole\n").expect("write");
        let mut reader = LogReader::open(dir.path(), "x", None).expect("open");
        assert_eq!(all(&mut reader), ["whole\n"]);
    }
}
