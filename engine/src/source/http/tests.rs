use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::source::Proxy;

/// A server on the loopback that answers by a table and writes down what it was asked.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What the server says: the status line's end, headers, and a body.
type Page = (&'static str, Vec<(&'static str, String)>, &'static [u8]);

impl Server {
    /// Serves pages by path. A page with an `ETag` is answered by 304 to whoever has it, and a path
    /// starting with `/nohead` refuses `HEAD`. One starting with `/tagless` has its 304 without a tag.
    fn start(pages: Vec<(&'static str, Page)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let pages: BTreeMap<_, _> = pages.into_iter().collect();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &pages, &log);
            }
        });
        Self { address, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the requests since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("not poisoned"))
    }
}

fn answer(mut stream: TcpStream, pages: &BTreeMap<&str, Page>, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
    let header = |name: &str| {
        headers.iter().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let authorization = header("authorization").map_or(String::new(), |a| format!(" [{a}]"));
    log.lock().expect("not poisoned").push(format!("{method} {path}{authorization}"));
    if method == "CONNECT" {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        return answer(stream, pages, log);
    }
    let missing: Page = ("404 Not Found", vec![], b"no such page");
    let (mut status, mut sent, mut body) = pages.get(path).unwrap_or(&missing).clone();
    let tag = sent.iter().find(|(name, _)| *name == "ETag").map(|(_, value)| value.clone());
    if method == "HEAD" && path.starts_with("/nohead") {
        (status, sent, body) = ("405 Method Not Allowed", vec![], b"");
    } else if tag.is_some() && header("if-none-match") == tag {
        (status, body) = ("304 Not Modified", b"");
        sent.retain(|_| !path.starts_with("/tagless"));
    }
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    if !sent.iter().any(|(name, _)| *name == "Content-Length") {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    sent.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    let _ = stream.write_all(format!("{text}\r\n").as_bytes());
    if method != "HEAD" {
        let _ = stream.write_all(body);
    }
}

fn get(server: &Server, path: &str, directory: &Path) -> Result<HttpFile, Error> {
    let request = HttpRequest { url: server.url(path), checksum: None };
    fetch(&request, &Access::none(), directory, &|_| {})
}

fn etag(value: &str) -> Vec<(&'static str, String)> {
    vec![("ETag", value.to_owned())]
}

#[test]
fn a_file_is_downloaded_with_its_digest_date_and_name() {
    let headers = vec![("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT".to_owned())];
    let server = Server::start(vec![("/dir/a%20b?x=/y", ("200 OK", headers, b"content"))]);
    let directory = tempfile::tempdir().expect("a directory");
    let seen = Cell::new(0);
    let request = HttpRequest { url: server.url("/dir/a b?x=/y"), checksum: None };
    let file = fetch(&request, &Access::none(), directory.path(), &|total| seen.set(total));
    let file = file.expect("fetched");
    assert_eq!(fs_err::read(&file.path).expect("kept"), b"content");
    assert_eq!(file.digest, Digest::of("content"));
    assert_eq!(file.file_name, "a b");
    assert_eq!(file.last_modified, Some(1_445_412_480));
    assert_eq!(seen.get(), 7);
    // Without a tag nothing tells that it is still current.
    fetch(&request, &Access::none(), directory.path(), &|_| {}).expect("fetched");
    assert_eq!(server.asked(), ["GET /dir/a%20b?x=/y", "GET /dir/a%20b?x=/y"]);
}

#[test]
fn a_tagged_file_is_revalidated_and_not_downloaded_again() {
    let page = || ("200 OK", etag("W/\"1\""), b"content".as_slice());
    let server = Server::start(vec![("/f", page()), ("/nohead", page()), ("/tagless", page())]);
    let directory = tempfile::tempdir().expect("a directory");
    let check = |path: &str, again: &[&str]| {
        let first = get(&server, path, directory.path()).expect("fetched");
        server.asked();
        assert_eq!(get(&server, path, directory.path()).expect("fetched"), first);
        assert_eq!(server.asked(), again);
    };
    check("/f", &["HEAD /f"]);
    check("/nohead", &["HEAD /nohead", "GET /nohead"]);
    check("/tagless", &["HEAD /tagless"]);
}

#[test]
fn a_changed_file_replaces_the_one_before_and_both_stay_readable() {
    let old = Server::start(vec![("/f", ("200 OK", etag("\"1\""), b"old"))]);
    let new = Server::start(vec![("/f", ("200 OK", etag("\"2\""), b"new"))]);
    let directory = tempfile::tempdir().expect("a directory");
    let before = get(&old, "/f", directory.path()).expect("fetched");
    // The same URL with another answer: what is recorded of the one is moved to the other.
    let record = |server: &Server| {
        let name = Digest::of(server.url("/f")).hex();
        directory.path().join(format!("{name}.json"))
    };
    fs_err::rename(record(&old), record(&new)).expect("moved");
    let after = get(&new, "/f", directory.path()).expect("fetched");
    assert_eq!(new.asked(), ["HEAD /f", "GET /f"]);
    assert_eq!(fs_err::read(&before.path).expect("kept"), b"old");
    assert_eq!(fs_err::read(&after.path).expect("kept"), b"new");
}

#[test]
fn a_known_digest_needs_no_server_and_a_wrong_one_is_refused() {
    let server = Server::start(vec![("/f", ("200 OK", vec![], b"content"))]);
    let directory = tempfile::tempdir().expect("a directory");
    let with = |checksum| {
        let request = HttpRequest { url: server.url("/f"), checksum: Some(checksum) };
        fetch(&request, &Access::none(), directory.path(), &|_| {})
    };
    let error = with(Digest::of("other")).expect_err("another file").to_string();
    let (actual, expected) = (Digest::of("content"), Digest::of("other"));
    let url = server.url("/f");
    assert_eq!(error, format!("digest mismatch for {url}: {actual} (expected: {expected})"));
    let first = with(actual).expect("fetched");
    assert_eq!(server.asked().len(), 2);
    assert_eq!(with(actual).expect("kept"), first);
    assert_eq!(server.asked(), [] as [&str; 0]);
}

#[test]
fn a_failure_names_the_url_and_hides_its_credentials() {
    let short = vec![("Content-Length", "100".to_owned())];
    let server = Server::start(vec![("/short", ("200 OK", short, b"cut"))]);
    let directory = tempfile::tempdir().expect("a directory");
    let error = get(&server, "/none", directory.path()).expect_err("404").to_string();
    assert_eq!(error, format!("fetch {}: invalid response status 404", server.url("/none")));
    let error = get(&server, "/short", directory.path()).expect_err("too short");
    assert!(matches!(error, Error::FetchUrl { .. }), "{error:?}");
    let request = HttpRequest { url: "http://u:p@127.0.0.1:1/x".into(), checksum: None };
    let error = fetch(&request, &Access::none(), directory.path(), &|_| {}).expect_err("closed");
    assert_eq!(error.to_string(), "fetch http://xxxxx:xxxxx@127.0.0.1:1/x");
    let request = HttpRequest { url: "ftp://h/x".into(), checksum: None };
    let error = fetch(&request, &Access::none(), directory.path(), &|_| {}).expect_err("ftp");
    assert_eq!(error.to_string(), "\"ftp://h/x\" is not an http or https URL");
}

#[test]
fn redirects_are_followed_and_credentials_stay_with_their_host() {
    let other = Server::start(vec![("/end", ("200 OK", vec![], b"there"))]);
    let location = |to: String| ("302 Found", vec![("Location", to)], b"".as_slice());
    let server = Server::start(vec![
        ("/near", location("/end".into())),
        ("/far", location(other.url("/end").replace("127.0.0.1", "localhost"))),
        ("/end", ("200 OK", vec![], b"here")),
    ]);
    let directory = tempfile::tempdir().expect("a directory");
    let access = Access {
        secrets: &|id| (id == "HTTP_AUTH_TOKEN_127.0.0.1").then(|| b"s3cret\n".to_vec()),
        ..Access::none()
    };
    let through = |path| {
        let request = HttpRequest { url: server.url(path), checksum: None };
        fetch(&request, &access, directory.path(), &|_| {}).expect("fetched")
    };
    let near = through("/near");
    assert_eq!((near.digest, near.file_name.as_str()), (Digest::of("here"), "near"));
    assert_eq!(through("/far").digest, Digest::of("there"));
    let token = "[Bearer s3cret]";
    let paths = ["/near", "/end", "/far"].map(|path| format!("GET {path} {token}"));
    assert_eq!(server.asked(), paths);
    assert_eq!(other.asked(), ["GET /end"]);
}

#[test]
fn credentials_come_from_secrets_or_the_url() {
    let server = Server::start(vec![("/f", ("200 OK", vec![], b"x"))]);
    let directory = tempfile::tempdir().expect("a directory");
    let url = server.url("/f").replace("http://", "http://u:p@");
    let request = HttpRequest { url, checksum: None };
    fetch(&request, &Access::none(), directory.path(), &|_| {}).expect("fetched");
    let header = |id: &str| (id == "HTTP_AUTH_HEADER_127.0.0.1").then(|| b"Token t".to_vec());
    let access = Access { secrets: &header, ..Access::none() };
    fetch(&request, &access, directory.path(), &|_| {}).expect("fetched");
    assert_eq!(server.asked(), ["GET /f [Basic dTpw]", "GET /f [Token t]"]);
}

#[test]
fn a_proxy_is_used_where_the_settings_say_so() {
    let server = Server::start(vec![("/f", ("200 OK", vec![], b"x"))]);
    let directory = tempfile::tempdir().expect("a directory");
    let proxy = Proxy { http: Some(server.url("")), ..Proxy::default() };
    let access = Access { proxy, ..Access::none() };
    let request = HttpRequest { url: "http://far.test/f".into(), checksum: None };
    fetch(&request, &access, directory.path(), &|_| {}).expect("fetched");
    assert_eq!(server.asked(), ["CONNECT far.test:80", "GET /f"]);
}

#[test]
fn the_server_may_name_the_file() {
    let named =
        |text: &str| ("200 OK", vec![("Content-Disposition", text.to_owned())], b"".as_slice());
    let server = Server::start(vec![
        ("/a", named("attachment; filename=\"../b.txt\"")),
        ("/c", named("attachment; filename=\"..\"")),
        ("/", ("200 OK", vec![], b"")),
    ]);
    let directory = tempfile::tempdir().expect("a directory");
    for (path, name) in [("/a", "b.txt"), ("/c", "c"), ("/", "__unnamed__"), ("", "__unnamed__")] {
        assert_eq!(get(&server, path, directory.path()).expect("fetched").file_name, name);
    }
}

#[test]
fn a_download_that_was_killed_leaves_nothing_that_counts() {
    let server = Server::start(vec![("/f", ("200 OK", etag("\"1\""), b"content"))]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = get(&server, "/f", directory.path()).expect("fetched");
    let part = directory.path().join(format!("{}.part", Digest::of(server.url("/f")).hex()));
    fs_err::write(&part, "cont").expect("written");
    assert_eq!(get(&server, "/f", directory.path()).expect("kept"), file);
    assert_eq!(fs_err::read(&file.path).expect("kept"), b"content");
    fs_err::remove_file(&file.path).expect("removed");
    assert_eq!(get(&server, "/f", directory.path()).expect("fetched again"), file);
    let mut content = Vec::new();
    fs_err::File::open(&file.path).expect("kept").read_to_end(&mut content).expect("read");
    assert_eq!(content, b"content");
}
