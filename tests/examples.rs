//! Every example in examples/ is built and used as its first lines say.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Test, need};

/// Builds an example under its own name, from its own folder.
fn build(example: &str, bases: &[&str]) -> Option<Test> {
    if !bases.iter().all(|base| need::base(base)) {
        return None;
    }
    let test = Test::of("");
    for base in bases {
        test.import(base);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    test.rbuild(&["build", "-t", example, folder.to_str().expect("the checkout's path is text")])
        .succeeded();
    Some(test)
}

/// A running container with a published port, removed in the end.
struct Service<'t> {
    test: &'t Test,
    id: String,
    port: u16,
}

impl<'t> Service<'t> {
    fn start(test: &'t Test, image: &str, port: u16) -> Self {
        let publish = format!("127.0.0.1::{port}");
        let id = test.rbuild(&["run", "-d", "-p", &publish, image]).ok().trim().to_owned();
        let published = test.rbuild(&["port", &id, &port.to_string()]).ok();
        let port = published
            .trim()
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .expect("a published port");
        Self { test, id, port }
    }

    /// Sends one HTTP request, again and again until the service answers; gives the whole answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match self.try_ask(method, path, body) {
                Ok(answer) if !answer.is_empty() => return answer,
                _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                other => {
                    panic!("{method} {path}: {other:?}\n{}", self.test.rbuild(&["logs", &self.id]))
                }
            }
        }
    }

    fn try_ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        let length = body.len();
        write!(
            connection,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        self.test.rbuild(&["rm", "-f", "-v", &self.id]);
    }
}

#[test]
fn helloworld_greets() {
    let test = build("helloworld", &["busybox"]).expect("busybox is always there");
    assert_eq!(test.rbuild(&["run", "--rm", "helloworld"]).ok(), "Hello, world!\n");
    assert_eq!(test.rbuild(&["run", "--rm", "-e", "NAME=you", "helloworld"]).ok(), "Hello, you!\n");
}

#[test]
fn cron_job_reports_on_its_data() {
    let test = build("cron-job", &["busybox"]).expect("busybox is always there");
    test.file("data/a", "12345").file("data/b", "678");
    let data = format!("{}:/data:ro", test.context().join("data").display());
    assert_eq!(
        test.rbuild(&["run", "--rm", "-v", &data, "cron-job", "once"]).ok(),
        "files: 2\nbytes: 8\n"
    );
}

#[test]
fn c_server_answers_without_an_operating_system() {
    let Some(test) = build("c-server", &["gcc"]) else {
        return;
    };
    let server = Service::start(&test, "c-server", 8080);
    assert!(
        server
            .ask("GET", "/", "")
            .ends_with("\r\n\r\nhello from a container without an operating system\n")
    );
}

#[test]
fn nginx_site_serves_what_its_first_stage_made() {
    let Some(test) = build("nginx-site", &["nginx"]) else {
        return;
    };
    let site = Service::start(&test, "nginx-site", 80);
    assert!(
        site.ask("GET", "/", "").contains("<li><a href=\"layers.html\">What a layer is</a></li>")
    );
    assert!(site.ask("GET", "/stages.html", "").contains("<h1>What a stage is for</h1>"));
    assert!(site.ask("GET", "/healthz", "").ends_with("ok\n"));
}

#[test]
fn flask_keeps_notes() {
    let Some(test) = build("flask", &["python"]) else {
        return;
    };
    let notes = Service::start(&test, "flask", 8000);
    assert!(notes.ask("GET", "/", "").contains("\"count\":0"));
    assert!(notes.ask("POST", "/notes", "buy milk").starts_with("HTTP/1.1 201"));
    assert!(notes.ask("GET", "/notes", "").contains("buy milk"));
}

#[test]
fn node_app_shortens_links_and_its_test_stage_passes() {
    let Some(test) = build("node-app", &["node"]) else {
        return;
    };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/node-app");
    test.rbuild(&["build", "--target", "test", folder]).succeeded();
    let links = Service::start(&test, "node-app", 3000);
    let made = links.ask("POST", "/", "https://example.com/");
    assert!(made.starts_with("HTTP/1.1 201") && made.ends_with("0\n"), "{made}");
    assert!(links.ask("GET", "/0", "").contains("Location: https://example.com/\r\n"));
}
