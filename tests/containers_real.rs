//! Servers that people know, detached, asked through their published ports.

use std::time::{Duration, Instant};

use crate::support::Test;

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
    assert!(said.contains("port is already allocated") && said.contains("process"), "{said}");
    let state = test.rbuild(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "second"]).ok();
    assert_eq!(state, "created 0\n");
    test.rbuild(&["rm", "second"]).succeeded();
    test.rbuild(&["rm", "-f", "first"]).succeeded();
    test.rbuild(&["run", "--rm", "-p", &taken, "busybox", "true"]).succeeded();
}
