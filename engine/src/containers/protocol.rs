//! What a container's monitor and those who ask it say to each other, over a stream socket.
//!
//! Each frame is a byte that says what it is, the length of its content as a little-endian `u32`,
//! and the content. Whoever connects sends one [`Request`] first; what may follow depends on it.
//! To [`Request::Exec`] the answer is `Started` with the descriptors of the streams that were asked
//! for (`SCM_RIGHTS` of unix(7)), and `Exited` at the process's end, or `Failed` or `Refused`.

use std::collections::VecDeque;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::exec;

/// The longest content of a frame: a command with all words and variables that a program may have,
/// which JSON makes longer.
pub(super) const LONGEST: u32 = 64 << 20;

/// Bytes of memory that are kept for frames to come.
const MOST_KEPT: usize = 64 << 10;

/// Bytes of a frame beside its content.
const HEAD: usize = 5;

/// What somebody asks of a monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// To see its output and give it input, and to hear of its end.
    Attach {
        /// Whether input is sent.
        stdin: bool,
        /// Whether output is wanted.
        output: bool,
        /// Whether signals and the end of the input are its own: it was started for this one.
        starter: bool,
    },
    /// To hear of its end.
    Wait,
    /// To hear that it is healthy, or will not be: `Done`, `Refused`, or `Exited` at its end.
    Healthy,
    /// To send its first process a signal.
    Kill {
        /// The signal's number.
        signal: i32,
    },
    /// To ask it to end, and kill it if it does not.
    Stop {
        /// The signal to ask with, if not its own.
        signal: Option<i32>,
        /// Seconds until it is killed, if not its own; -1 is never.
        timeout: Option<i64>,
    },
    /// To ask it to end as `Stop` does, and to start it again.
    Restart {
        /// The signal to ask with, if not its own.
        signal: Option<i32>,
        /// Seconds until it is killed, if not its own; -1 is never.
        timeout: Option<i64>,
    },
    /// To freeze its processes.
    Pause,
    /// To let them go on.
    Unpause,
    /// To read its record again: something was changed.
    Reload,
    /// To start another process in it.
    Exec(exec::Request),
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// The first one from whoever connects.
    Request(Request),
    /// Input for the program.
    Stdin(Vec<u8>),
    /// There is no more input.
    StdinEnd,
    /// The size of whoever's terminal: rows, columns.
    Resize(u16, u16),
    /// A signal for the program.
    Signal(i32),
    /// The program runs.
    Started,
    /// It could not be started: the exit code to end with, and why.
    Failed(i32, String),
    /// What it printed.
    Stdout(Vec<u8>),
    /// What it printed as an error.
    Stderr(Vec<u8>),
    /// It ended so.
    Exited(i32),
    /// It ended so, and is started again: to those who see its output or wait for its end.
    Restarts(i32),
    /// What was asked for is done.
    Done,
    /// What was asked for cannot be done.
    Refused(String),
}

impl Frame {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let number = |number: i32| number.to_le_bytes().to_vec();
        let (kind, content) = match self {
            Frame::Request(request) => {
                (0, serde_json::to_vec(request).expect("a request is made of texts"))
            }
            Frame::Stdin(bytes) => (1, bytes.clone()),
            Frame::StdinEnd => (2, Vec::new()),
            Frame::Resize(rows, columns) => {
                (3, [rows.to_le_bytes(), columns.to_le_bytes()].concat())
            }
            Frame::Signal(signal) => (4, number(*signal)),
            Frame::Started => (10, Vec::new()),
            Frame::Failed(code, text) => (11, [number(*code), text.clone().into_bytes()].concat()),
            Frame::Stdout(bytes) => (12, bytes.clone()),
            Frame::Stderr(bytes) => (13, bytes.clone()),
            Frame::Exited(code) => (14, number(*code)),
            Frame::Done => (15, Vec::new()),
            Frame::Refused(text) => (16, text.clone().into_bytes()),
            Frame::Restarts(code) => (17, number(*code)),
        };
        let length =
            u32::try_from(content.len()).expect("frames are made of what was read at once");
        let mut bytes = Vec::with_capacity(HEAD + content.len());
        bytes.push(kind);
        bytes.extend(length.to_le_bytes());
        bytes.extend(content);
        bytes
    }

    fn decode(kind: u8, content: Vec<u8>) -> Option<Frame> {
        let number = |bytes: &[u8]| Some(i32::from_le_bytes(*bytes.first_chunk()?));
        let half = |at: usize| Some(u16::from_le_bytes(*content.get(at..)?.first_chunk()?));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(match kind {
            0 => Frame::Request(serde_json::from_slice(&content).ok()?),
            1 => Frame::Stdin(content),
            2 => Frame::StdinEnd,
            3 => Frame::Resize(half(0)?, half(2)?),
            4 => Frame::Signal(number(&content)?),
            10 => Frame::Started,
            11 => Frame::Failed(number(&content)?, text(content.get(4..)?)),
            12 => Frame::Stdout(content),
            13 => Frame::Stderr(content),
            14 => Frame::Exited(number(&content)?),
            15 => Frame::Done,
            16 => Frame::Refused(text(&content)),
            17 => Frame::Restarts(number(&content)?),
            _ => return None,
        })
    }
}

/// Makes frames of the bytes that come.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: VecDeque<u8>,
}

impl Decoder {
    /// Reads what has come; false at the end.
    pub fn fill(&mut self, from: &mut impl Read) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        match from.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(read) => {
                self.bytes.extend(&buffer[..read]);
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next whole frame.
    pub fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "no frame of a monitor");
        if self.bytes.len() < HEAD {
            return Ok(None);
        }
        let mut head = [0; HEAD];
        head.iter_mut().zip(&self.bytes).for_each(|(to, from)| *to = *from);
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length);
        if length > LONGEST {
            return Err(invalid());
        }
        let end = HEAD + length as usize;
        if self.bytes.len() < end {
            return Ok(None);
        }
        let content = self.bytes.drain(..end).skip(HEAD).collect();
        // One long frame is seldom followed by another.
        if self.bytes.is_empty() && self.bytes.capacity() > MOST_KEPT {
            self.bytes = VecDeque::new();
        }
        Frame::decode(kind, content).map(Some).ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_however_they_are_cut() {
        let frames = [
            Frame::Request(Request::Attach { stdin: true, output: true, starter: false }),
            Frame::Request(Request::Stop { signal: Some(15), timeout: Some(-1) }),
            Frame::Stdin(b"x".to_vec()),
            Frame::StdinEnd,
            Frame::Resize(24, 80),
            Frame::Signal(2),
            Frame::Started,
            Frame::Failed(127, "no such program".to_owned()),
            Frame::Stdout(vec![0, 255]),
            Frame::Stderr(Vec::new()),
            Frame::Exited(-1),
            Frame::Done,
            Frame::Refused("no".to_owned()),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        for size in [1, 7, 1000] {
            let (mut decoder, mut found) = (Decoder::default(), Vec::new());
            for mut part in bytes.chunks(size) {
                decoder.fill(&mut part).expect("fill");
                while let Some(frame) = decoder.next_frame().expect("frame") {
                    found.push(frame);
                }
            }
            assert_eq!(found, frames, "{size}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [&[99, 0, 0, 0, 0][..], &[1, 255, 255, 255, 255], &[0, 1, 0, 0, 0, b'x']] {
            let mut decoder = Decoder::default();
            decoder.fill(&mut &*bytes).expect("fill");
            assert!(decoder.next_frame().is_err(), "{bytes:?}");
        }
    }
}
