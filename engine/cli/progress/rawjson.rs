//! Progress for programs: a JSON object on a line for each event, in the shape of BuildKit's
//! `SolveStatus`.

use std::collections::BTreeMap;

use cache::digest::Digest;
use engine::graph::VertexId;
use engine::progress::{Event, Outcome, Stream};
use jiff::Timestamp;
use serde::Serialize;

#[derive(Serialize)]
struct Status<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    vertexes: Option<[Vertex<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<[Log; 1]>,
}

#[derive(Serialize)]
struct Vertex<'a> {
    digest: Digest,
    name: &'a str,
    /// Times are as in RFC 3339.
    started: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

#[derive(Serialize)]
struct Log {
    vertex: Digest,
    stream: u8,
    /// In base64.
    data: String,
    timestamp: String,
}

/// Makes lines of events.
#[derive(Default)]
pub(super) struct RawJson {
    started: BTreeMap<VertexId, Timestamp>,
}

impl RawJson {
    /// The line for an event.
    pub(super) fn line(
        &mut self,
        id: VertexId,
        name: &str,
        event: &Event<'_>,
        now: Timestamp,
    ) -> String {
        // A reader knows the time by its start again, so that it must be the same each time.
        let started = *self.started.entry(id).or_insert(now);
        let status = status(id, name, event, started, now);
        serde_json::to_string(&status).expect("a status has nothing that JSON has not") + "\n"
    }
}

fn status<'a>(
    id: VertexId,
    name: &'a str,
    event: &'a Event<'_>,
    started: Timestamp,
    now: Timestamp,
) -> Status<'a> {
    // It only has to tell the vertices of one build apart.
    let digest = Digest::of(format!("{} {name}", id.0).as_bytes());
    let (timestamp, started) = (now.to_string(), started.to_string());
    let vertex = Vertex { digest, name, started, completed: None, cached: false, error: "" };
    match event {
        Event::Started { .. } => Status { vertexes: Some([vertex]), logs: None },
        Event::Output { stream, bytes, .. } => {
            let stream = match stream {
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            };
            let log = Log { vertex: digest, stream, data: base64(bytes), timestamp };
            Status { vertexes: None, logs: Some([log]) }
        }
        Event::Finished { outcome, .. } => {
            let error = match outcome {
                Outcome::Failed(why) => why,
                Outcome::Canceled => "context canceled",
                Outcome::Cached | Outcome::Done => "",
            };
            let (completed, cached) = (Some(timestamp), *outcome == Outcome::Cached);
            let vertex = Vertex { completed, cached, error, ..vertex };
            Status { vertexes: Some([vertex]), logs: None }
        }
    }
}

/// Bytes in base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) & 63;
            text.push(if place <= group.len() {
                char::from(ALPHABET[sextet as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(event: &Event<'_>, expected: &str) {
        let id = VertexId(3);
        let digest = Digest::of(b"3 [1/1] RUN \"x\"").to_string();
        let [started, now] =
            ["03.5", "05"].map(|at| format!("2024-01-02T03:04:{at}Z").parse().unwrap());
        let mut lines = RawJson::default();
        if !matches!(event, Event::Started { .. }) {
            lines.line(id, "", &Event::Started { vertex: id }, started);
        }
        let line = lines.line(id, "[1/1] RUN \"x\"", event, now);
        assert_eq!(line.replace(&digest, "DIGEST"), format!("{expected}\n"));
    }

    #[test]
    fn events_have_buildkits_shape() {
        let vertex = VertexId(3);
        check(
            &Event::Started { vertex },
            r#"{"vertexes":[{"digest":"DIGEST","name":"[1/1] RUN \"x\"","started":"2024-01-02T03:04:05Z"}]}"#,
        );
        check(
            &Event::Output { vertex, stream: Stream::Stderr, bytes: b"hi\n" },
            r#"{"logs":[{"vertex":"DIGEST","stream":2,"data":"aGkK","timestamp":"2024-01-02T03:04:05Z"}]}"#,
        );
        let took = Duration::from_millis(1500);
        check(
            &Event::Finished { vertex, outcome: Outcome::Cached, took },
            r#"{"vertexes":[{"digest":"DIGEST","name":"[1/1] RUN \"x\"","started":"2024-01-02T03:04:03.5Z","completed":"2024-01-02T03:04:05Z","cached":true}]}"#,
        );
        check(
            &Event::Finished { vertex, outcome: Outcome::Failed("no".to_owned()), took },
            r#"{"vertexes":[{"digest":"DIGEST","name":"[1/1] RUN \"x\"","started":"2024-01-02T03:04:03.5Z","completed":"2024-01-02T03:04:05Z","error":"no"}]}"#,
        );
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
