//! Every example in examples/ is built and used as its first lines say.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

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

/// A container in the foreground on the host's network, told to stop in the end.
struct Service {
    child: Child,
    port: u16,
}

impl Service {
    /// Runs an image with these options and arguments; `@PORT` in them is a free port.
    fn start(test: &Test, options: &[&str], image: &str, arguments: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("a bound socket has an address").port();
        drop(free);
        let line = [&["run", "--rm", "--network", "host"], options, &[image], arguments].concat();
        let line: Vec<_> =
            line.iter().map(|word| word.replace("@PORT", &port.to_string())).collect();
        let mut command = test.command(&line);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start rbuild");
        Self { child, port }
    }

    /// Sends one HTTP request, again and again until the service answers; gives the whole answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match self.try_ask(method, path, body) {
                Ok(answer) if !answer.is_empty() => return answer,
                _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                other => panic!("{method} {path}: {other:?}"),
            }
        }
    }

    fn try_ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        let length = body.len();
        write!(
            connection,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // `timeout`, our child, passes the signal on to rbuild and that to the service.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
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
    let script =
        "mkdir -p /data /reports; printf 12345 > /data/a; printf 678 > /data/b; entrypoint.sh once";
    let report = test.rbuild(&["run", "--rm", "cron-job", "sh", "-c", script]).ok();
    assert_eq!(report, "files: 2\nbytes: 8\n");
}

#[test]
fn c_server_answers_without_an_operating_system() {
    let Some(test) = build("c-server", &["gcc"]) else {
        return;
    };
    let server = Service::start(&test, &[], "c-server", &["@PORT"]);
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
    let listen = "sed -i 's/listen 80/listen @PORT/' /etc/nginx/conf.d/default.conf && exec nginx -g 'daemon off;'";
    let site = Service::start(&test, &[], "nginx-site", &["sh", "-c", listen]);
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
    let notes = Service::start(&test, &[], "flask", &["flask", "run", "--port=@PORT"]);
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
    let links = Service::start(&test, &["-e", "PORT=@PORT"], "node-app", &[]);
    let made = links.ask("POST", "/", "https://example.com/");
    assert!(made.starts_with("HTTP/1.1 201") && made.ends_with("0\n"), "{made}");
    assert!(links.ask("GET", "/0", "").contains("Location: https://example.com/\r\n"));
}
