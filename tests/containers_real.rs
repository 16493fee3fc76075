//! Servers that people know, detached, asked through their published ports.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Test, need};

/// The host's port that a container's port is published on.
fn port(test: &Test, name: &str, port: &str) -> String {
    let shown = test.rbuild(&["port", name, port]).ok();
    shown.lines().next().and_then(|line| line.rsplit_once(':')).expect("a port").1.to_owned()
}

/// Asks until there is an answer.
fn page(test: &Test, url: &str) -> String {
    test.shell(&format!("for i in $(seq 200); do curl -sf {url} && exit; sleep 0.05; done; exit 1"))
}

#[test]
fn nginx_serves_is_changed_committed_and_stopped() {
    let test = Test::empty();
    test.import("nginx");
    test.rbuild(&["run", "-d", "--name", "web", "-p", "127.0.0.1::80", "nginx:bookworm"])
        .succeeded();
    let url = |name: &str| format!("http://127.0.0.1:{}/", port(&test, name, "80/tcp"));
    assert!(page(&test, &url("web")).contains("nginx"));

    let change = "echo changed > /usr/share/nginx/html/index.html";
    test.rbuild(&["exec", "web", "sh", "-c", change]).succeeded();
    assert_eq!(page(&test, &url("web")), "changed\n");
    test.rbuild(&["commit", "web", "changed"]).succeeded();
    test.rbuild(&["run", "-d", "--name", "second", "-p", "127.0.0.1::80", "changed"]).succeeded();
    assert_eq!(page(&test, &url("second")), "changed\n");

    // Its image says SIGQUIT, with which it ends by itself, long before it would be killed.
    let begun = Instant::now();
    test.rbuild(&["stop", "web"]).succeeded();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let ended = test.rbuild(&["inspect", "-f", "{{.State.ExitCode}}", "web"]).ok();
    assert_eq!(ended, "0\n");
    test.rbuild(&["start", "web"]).succeeded();
    assert_eq!(page(&test, &url("web")), "changed\n");
}

#[test]
fn a_port_in_use_is_refused_with_its_holder_and_leaves_nothing() {
    let test = Test::empty();
    test.import("busybox");
    test.rbuild(&[
        "run",
        "-d",
        "--name",
        "first",
        "-p",
        "127.0.0.1::80",
        "busybox",
        "sleep",
        "600",
    ])
    .succeeded();
    let taken = format!("127.0.0.1:{}:80", port(&test, "first", "80"));
    let second = test.rbuild(&["run", "-d", "--name", "second", "-p", &taken, "busybox", "true"]);
    let said = second.failed(125);
    assert!(said.contains("port is already allocated (held by container first)"), "{said}");
    let twice =
        ["run", "--rm", "--name", "twice", "-p", "0:80", "-p", "18095:80", "-p", "18095:81"];
    let said = test.rbuild(&[&twice[..], &["busybox", "true"]].concat());
    assert!(said.failed(125).contains("(held by container twice)"), "{said}");
    let state = test.rbuild(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "second"]).ok();
    assert_eq!(state, "created 0\n");
    test.rbuild(&["rm", "second"]).succeeded();
    test.rbuild(&["rm", "-f", "first"]).succeeded();
    test.rbuild(&["run", "--rm", "-p", &taken, "busybox", "true"]).succeeded();
}

/// One exchange over TCP: sends, and reads until the answer ends so.
fn say(test: &Test, name: &str, text: &str, until: &str) -> String {
    let address = format!("127.0.0.1:{}", port(test, name, "6379/tcp"));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match exchange(&address, text, until) {
            Ok(answer) if answer.ends_with(until) => return answer,
            other => assert!(Instant::now() < deadline, "{text:?}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn exchange(address: &str, text: &str, until: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
    connection.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(until.as_bytes()) {
        match connection.read(&mut piece)? {
            0 => break,
            read => answer.extend(&piece[..read]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn redis_answers_over_its_port_and_keeps_its_data_in_a_volume() {
    if !need::base("redis") {
        return;
    }
    let test = Test::empty();
    test.import("redis");
    let run = ["run", "-d", "--name", "cache", "-p", "127.0.0.1::6379", "-v", "data:/data"];
    let run = [&run[..], &["redis:bookworm"]].concat();
    test.rbuild(&run).succeeded();
    assert_eq!(say(&test, "cache", "PING\r\n", "\r\n"), "+PONG\r\n");
    assert_eq!(say(&test, "cache", "SET greeting hello\r\n", "\r\n"), "+OK\r\n");
    assert_eq!(say(&test, "cache", "GET greeting\r\n", "hello\r\n"), "$5\r\nhello\r\n");
    let asked = test.rbuild(&["exec", "cache", "redis-cli", "get", "greeting"]).ok();
    assert_eq!(asked, "hello\n");
    // It does not run as root, whoever starts it.
    let user = test.rbuild(&["exec", "cache", "stat", "-c", "%U", "/proc/1/exe"]).ok();
    assert_eq!(user, "redis\n");

    // Told to stop it saves, and ends by itself.
    test.rbuild(&["stop", "cache"]).succeeded();
    assert!(test.rbuild(&["logs", "cache"]).ok().contains("DB saved on disk"));
    test.rbuild(&["rm", "cache"]).succeeded();
    test.rbuild(&run).succeeded();
    assert_eq!(say(&test, "cache", "GET greeting\r\n", "\r\nhello\r\n"), "$5\r\nhello\r\n");
}

/// The answer to a query, once the server takes any.
fn query(test: &Test, sql: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    // Over TCP: the server that only prepares the data does not listen there.
    let psql = ["exec", "-e", "PGPASSWORD=secret", "db", "psql", "-h", "127.0.0.1", "-U", "amy"];
    loop {
        let outcome = test.rbuild(&[&psql[..], &["-d", "shop", "-tAc", sql]].concat());
        if outcome.code == Some(0) {
            return outcome.ok();
        }
        assert!(Instant::now() < deadline, "{outcome}\n{}", test.rbuild(&["logs", "db"]));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn postgresql_initialises_its_volume_once_and_keeps_its_data() {
    if !need::base("postgres") {
        return;
    }
    let test = Test::empty();
    test.import("postgres");
    let without = test.rbuild(&["run", "--rm", "--network", "none", "postgres:15-bookworm"]);
    assert!(without.failed(1).contains("superuser password is not specified"), "{without}");

    let names = ["-e", "POSTGRES_USER=amy", "-e", "POSTGRES_DB=shop"];
    let run = ["run", "-d", "--name", "db", "-v", "pgdata:/var/lib/postgresql/data"];
    let image = ["-e", "POSTGRES_PASSWORD=secret", "postgres:15-bookworm"];
    let run = [&run[..], &names, &image].concat();
    test.rbuild(&run).succeeded();
    query(&test, "CREATE TABLE fruit (name text)");
    query(&test, "INSERT INTO fruit VALUES ('pear'), ('plum')");
    assert_eq!(query(&test, "SELECT name FROM fruit ORDER BY 1"), "pear\nplum\n");

    test.rbuild(&["stop", "db"]).succeeded();
    let ended = test.rbuild(&["inspect", "-f", "{{.State.ExitCode}}", "db"]).ok();
    assert_eq!(ended, "0\n", "{}", test.rbuild(&["logs", "db"]));
    test.rbuild(&["start", "db"]).succeeded();
    assert_eq!(query(&test, "SELECT count(*) FROM fruit"), "2\n");
    // Killed in the middle of its work it recovers from its log.
    query(&test, "INSERT INTO fruit VALUES ('fig')");
    test.rbuild(&["kill", "db"]).succeeded();
    test.rbuild(&["rm", "db"]).succeeded();
    test.rbuild(&run).succeeded();
    assert_eq!(query(&test, "SELECT count(*) FROM fruit"), "3\n");
    let log = test.rbuild(&["logs", "db"]);
    let said = format!("{}{}", log.ok(), log.stderr);
    assert!(said.contains("Skipping initialization"), "{said}");
}

#[test]
fn the_flask_example_serves_logs_and_stops() {
    if !need::base("python") {
        return;
    }
    let test = Test::empty();
    test.import("python");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/flask");
    test.rbuild(&["build", "-t", "notes", folder]).succeeded();
    test.rbuild(&["run", "-d", "--name", "notes", "-p", "127.0.0.1::8000", "notes"]).succeeded();
    let url = format!("http://127.0.0.1:{}/", port(&test, "notes", "8000/tcp"));
    assert!(page(&test, &url).contains("\"count\":0"));
    test.shell(&format!("curl -sf -d 'buy milk' {url}notes"));
    assert!(page(&test, &format!("{url}notes")).contains("buy milk"));
    let logged = |line: &str| {
        let log = test.rbuild(&["logs", "notes"]);
        format!("{}{}", log.ok(), log.stderr).contains(line)
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !logged("POST /notes HTTP/1.1") {
        assert!(Instant::now() < deadline, "{}", test.rbuild(&["logs", "notes"]));
        std::thread::sleep(Duration::from_millis(20));
    }
    test.rbuild(&["stop", "-t", "5", "notes"]).succeeded();
    let state = test.rbuild(&["inspect", "-f", "{{.State.Status}}", "notes"]).ok();
    assert_eq!(state, "exited\n");
    let closed = test.shell(&format!("curl -s {url} > /dev/null || echo closed"));
    assert_eq!(closed, "closed\n");
}
