//! A small HTTP server for ADD of URLs and contexts by URL: it serves one folder and remembers what was asked of it.
//!
//! It speaks just enough HTTP/1.1 for that: GET and HEAD, Last-Modified, ETag, 404, one request a connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What the server sends as Last-Modified: 2020-01-02 03:04:05 UTC.
pub(crate) const LAST_MODIFIED: i64 = 1_577_934_245;
const LAST_MODIFIED_TEXT: &str = "Thu, 02 Jan 2020 03:04:05 GMT";

/// A server of a folder, on a free port of this machine.
pub(crate) struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves the files of `folder` until the process ends.
    pub(crate) fn of(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (folder, log) = (folder.to_owned(), Arc::clone(&requests));
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (folder, log) = (folder.clone(), Arc::clone(&log));
                std::thread::spawn(move || answer(connection, folder, &log));
            }
        });
        Self { port, requests }
    }

    /// The address of a path on this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// The requests so far, as `GET /path 200`, oldest first.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no request panics").clone()
    }
}

fn answer(mut connection: TcpStream, folder: PathBuf, log: &Mutex<Vec<String>>) {
    let mut head = BufReader::new(&connection)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty());
    let Some(request) = head.next() else { return };
    let headers: Vec<String> = head.collect();
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let body = std::fs::read(folder.join(path.trim_start_matches('/'))).ok();
    let tag = body.as_ref().map(|body| {
        format!("\"{}-{}\"", body.len(), body.iter().map(|&b| u64::from(b)).sum::<u64>())
    });
    let known = headers.iter().filter_map(|header| header.split_once(": ")).any(|(name, value)| {
        name.eq_ignore_ascii_case("if-none-match")
            && tag.as_deref().is_some_and(|tag| value.contains(tag))
    });
    let status = match &body {
        None => "404 Not Found",
        Some(_) if known => "304 Not Modified",
        Some(_) => "200 OK",
    };
    log.lock().expect("no request panics").push(format!("{method} {target} {}", &status[..3]));
    let body = body.filter(|_| !known).unwrap_or_default();
    let mut answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    if let Some(tag) = tag {
        answer += &format!("ETag: {tag}\r\nLast-Modified: {LAST_MODIFIED_TEXT}\r\n");
    }
    // A peer that has gone away needs no answer.
    let _ = connection.write_all((answer + "\r\n").as_bytes());
    if method != "HEAD" {
        let _ = connection.write_all(&body);
    }
}
