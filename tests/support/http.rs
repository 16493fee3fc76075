//! The least of an HTTP/1.1 server: one request a connection, each answered by a function in a thread of its own.
//!
//! Knows nothing of what is asked; it reads heads and bodies, and writes what it is given.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// What a client asked.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path with its query, as it was sent.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The values of one name in the query or in a form, decoded.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let form = String::from_utf8_lossy(&self.body);
        let pairs = query.split('&').chain(form.split('&'));
        pairs
            .filter_map(|pair| pair.split_once('='))
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| decoded(value))
            .collect()
    }

    /// The value of a header, whatever the case of its name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }
}

/// Answers requests at a free port of 127.0.0.1 until the process ends; gives the port.
pub(crate) fn serve(answer: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let answer = std::sync::Arc::clone(&answer);
            std::thread::spawn(move || {
                if let Some(request) = read(&connection) {
                    answer(&request, &mut connection);
                }
            });
        }
    });
    port
}

/// Writes a whole answer. A peer that has gone away needs none.
pub(crate) fn reply(to: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &[u8]) {
    let length = body.len().to_string();
    let sent = head(to, status, &[headers, &[("Content-Length", &length)]].concat());
    let _ = sent.and_then(|()| to.write_all(body));
}

/// Writes the beginning of an answer, up to where its body begins.
pub(crate) fn head(
    to: &mut TcpStream,
    status: u16,
    headers: &[(&str, &str)],
) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} -\r\nConnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    to.write_all((text + "\r\n").as_bytes())
}

fn read(connection: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request { method, target, headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_owned(), value.trim_start().to_owned()));
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    reader.take(length.unwrap_or(0)).read_to_end(&mut request.body).ok()?;
    Some(request)
}

/// `%2F` and `+` as what they stand for.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().replace('+', " ").into_bytes();
    for part in parts {
        let code = part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.extend(code);
        bytes.extend(part.get(2..).unwrap_or_default().replace('+', " ").bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Base64 with the standard alphabet and its padding. RFC 4648, section 4.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0, |group, &byte| group << 8 | u32::from(byte));
        let group = group << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET[(group >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
