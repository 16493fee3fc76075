//! Containers with a name: their life from `create` to `rm`, and what docker's users rely on in it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::Test;
use crate::support::containers::{run, shown, soon, world};

fn log(test: &Test, name: &str) -> String {
    test.rbuild(&["logs", name]).ok()
}

#[test]
fn a_container_lives_from_create_to_rm() {
    let test = world();
    let id =
        test.rbuild(&["create", "--name", "c1", "busybox", "sh", "-c", "echo out; exit 3"]).ok();
    assert_eq!(id.trim().len(), 64, "{id}");
    assert_eq!(shown(&test, "c1", "{{.State.Status}}"), "created");
    assert_eq!(test.rbuild(&["start", "c1"]).ok(), "c1\n");
    assert_eq!(test.rbuild(&["wait", "c1"]).ok(), "3\n");
    assert_eq!(shown(&test, "c1", "{{.State.Status}} {{.State.ExitCode}}"), "exited 3");
    assert_eq!(log(&test, "c1"), "out\n");
    let again = test.rbuild(&["start", "-a", &id[..12]]);
    assert_eq!((again.code, String::from_utf8_lossy(&again.stdout).as_ref()), (Some(3), "out\n"));
    assert_eq!(log(&test, "c1"), "out\nout\n");
    test.rbuild(&["rename", "c1", "d1"]).ok();
    assert_eq!(test.rbuild(&["rm", "d1"]).ok(), "d1\n");
    let gone = test.rbuild(&["start", "d1"]);
    assert!(gone.failed(1).contains("No such container: d1"), "{gone}");
}

#[test]
fn what_it_wrote_is_there_when_it_is_started_again() {
    let test = world();
    run(&test, &["--name", "c1", "busybox", "sh", "-c", "cat /n; echo x >> /n"]).succeeded();
    let again = test.rbuild(&["start", "-a", "c1"]);
    assert_eq!(again.ok(), "x\n");
}

#[test]
fn exit_codes_are_dockers() {
    let test = world();
    for (arguments, code) in [
        (&["busybox", "sh", "-c", "exit 9"][..], 9),
        (&["busybox", "nosuch"], 127),
        (&["busybox", "/etc/passwd"], 126),
        (&["nosuch"], 125),
        (&["--restart", "sometimes", "busybox", "true"], 125),
        (&["--rm", "--restart", "always", "busybox", "true"], 125),
        (&["-w", "/etc/passwd", "busybox", "true"], 125),
    ] {
        let found = run(&test, arguments);
        assert_eq!(found.code, Some(code), "{found}");
    }
    let detached = run(&test, &["-d", "--rm", "busybox", "nosuch"]);
    assert_eq!(detached.code, Some(127), "{detached}");
}

#[test]
fn the_streams_are_kept_apart_and_input_is_passed_on() {
    let test = world();
    let both = run(&test, &["--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(both.ok(), "out\n");
    assert_eq!(both.stderr, "err\n");
    let mut cat = test
        .command(&["run", "--rm", "-i", "--network", "none", "busybox", "wc", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cat.stdin.take().unwrap().write_all(&vec![b'x'; 3_000_000]).unwrap();
    let output = cat.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "3000000");
}

#[test]
fn much_output_arrives_whole_at_a_slow_reader() {
    let test = world();
    let script = "i=0; while [ $i -lt 3000 ]; do echo $i-$(printf %0500d 0); i=$((i+1)); done";
    let mut run = test
        .command(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let slow = Command::new("sh")
        .args(["-c", "sleep 1; wc -l"])
        .stdin(run.stdout.take().unwrap())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&slow.stdout).trim(), "3000");
    assert!(run.wait().unwrap().success());
}

#[test]
fn a_detached_container_is_used_and_stopped() {
    let test = world();
    let script = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done";
    run(&test, &["-d", "--name", "c1", "busybox", "sh", "-c", script]).succeeded();
    soon("it is up", || log(&test, "c1") == "up\n");
    let exec =
        test.rbuild(&["exec", "-e", "A=1", "-w", "/etc", "c1", "sh", "-c", "echo $A; pwd; exit 4"]);
    assert_eq!((exec.code, String::from_utf8_lossy(&exec.stdout).as_ref()), (Some(4), "1\n/etc\n"));
    assert_eq!(test.rbuild(&["exec", "c1", "nosuch"]).code, Some(127));
    assert_eq!(test.rbuild(&["stop", "c1"]).ok(), "c1\n");
    assert_eq!(log(&test, "c1"), "up\nbye\n");
    assert_eq!(shown(&test, "c1", "{{.State.ExitCode}}"), "5");
    let exec = test.rbuild(&["exec", "c1", "true"]);
    assert!(exec.failed(1).contains("is not running"), "{exec}");
}

#[test]
fn who_does_not_stop_is_killed_when_its_time_is_up() {
    let test = world();
    run(&test, &["-d", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
    let begun = Instant::now();
    test.rbuild(&["stop", "-t", "1", "c1"]).ok();
    assert!((1..6).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(shown(&test, "c1", "{{.State.ExitCode}} {{.State.Status}}"), "137 exited");
}

#[test]
fn it_is_paused_killed_and_started_again() {
    let test = world();
    run(&test, &["-d", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
    test.rbuild(&["pause", "c1"]).ok();
    assert_eq!(shown(&test, "c1", "{{.State.Status}} {{.State.Paused}}"), "paused true");
    assert!(test.rbuild(&["exec", "c1", "true"]).failed(1).contains("is paused"));
    assert!(test.rbuild(&["pause", "c1"]).failed(1).contains("already paused"));
    test.rbuild(&["unpause", "c1"]).ok();
    let before = shown(&test, "c1", "{{.State.Pid}}");
    test.rbuild(&["restart", "-t", "0", "c1"]).ok();
    let after = shown(&test, "c1", "{{.State.Pid}} {{.State.Status}}");
    assert!(after.ends_with("running") && !after.starts_with(&before), "{before} {after}");
    test.rbuild(&["kill", "c1"]).ok();
    assert_eq!(test.rbuild(&["wait", "c1"]).ok(), "137\n");
    assert!(test.rbuild(&["kill", "c1"]).failed(1).contains("is not running"));
}

#[test]
fn a_policy_starts_it_again_as_often_as_it_says() {
    let test = world();
    let script = "echo x >> /n; wc -l < /n; exit 1";
    run(&test, &["-d", "--name", "c1", "--restart", "on-failure:2", "busybox", "sh", "-c", script])
        .succeeded();
    soon("it gives up", || shown(&test, "c1", "{{.State.Status}}") == "exited");
    assert_eq!(log(&test, "c1"), "1\n2\n3\n");
    assert_eq!(shown(&test, "c1", "{{.RestartCount}}"), "2");
    run(&test, &["-d", "--name", "d1", "--restart", "always", "busybox", "sleep", "600"])
        .succeeded();
    test.rbuild(&["stop", "-t", "0", "d1"]).ok();
    assert_eq!(shown(&test, "d1", "{{.State.Status}}"), "exited");
}

#[test]
fn a_killed_monitor_is_noticed_and_its_container_is_gone() {
    let test = world();
    run(&test, &["-d", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
    let (monitor, pid) =
        (shown(&test, "c1", "{{.State.Monitor}}"), shown(&test, "c1", "{{.State.Pid}}"));
    test.shell(&format!("kill -9 {monitor}"));
    soon("it is told", || shown(&test, "c1", "{{.State.Status}}") == "exited");
    assert_eq!(
        shown(&test, "c1", "{{.State.ExitCode}} {{.State.Error}}"),
        "137 its monitor was killed; the time of the end is that at which it last wrote something"
    );
    soon("the program is gone", || !std::path::Path::new(&format!("/proc/{pid}/ns")).exists());
    test.rbuild(&["start", "c1"]).ok();
    assert_eq!(shown(&test, "c1", "{{.State.Status}}"), "running");
}

#[test]
fn a_name_belongs_to_one_container() {
    let test = world();
    let id = test.rbuild(&["create", "--name", "c1", "busybox"]).ok();
    let second = test.rbuild(&["create", "--name", "c1", "busybox"]);
    let said = format!(
        "Conflict. The container name \"/c1\" is already in use by container \"{}\"",
        id.trim()
    );
    assert!(second.failed(1).contains(&said), "{second}");
    assert!(
        test.rbuild(&["create", "--name", "a b", "busybox"])
            .failed(1)
            .contains("Invalid container name (a b)")
    );
    let many: Vec<_> = (0..8)
        .map(|_| {
            test.command(&["create", "--name", "d1", "busybox"])
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let made = many
        .into_iter()
        .filter_map(|mut child| child.wait().ok())
        .filter(|status| status.success());
    assert_eq!(made.count(), 1);
}

#[test]
fn a_container_that_runs_is_removed_by_force_only() {
    let test = world();
    run(&test, &["-d", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
    let refused = test.rbuild(&["rm", "c1"]);
    assert!(refused.failed(1).contains("container is running: stop the container before removing"));
    test.rbuild(&["rm", "-f", "c1"]).ok();
    run(&test, &["-d", "--rm", "--name", "d1", "busybox", "sleep", "600"]).succeeded();
    test.rbuild(&["stop", "-t", "0", "d1"]).ok();
    soon("it is gone", || test.rbuild(&["start", "d1"]).stderr.contains("No such container"));
    let left = std::fs::read_dir(test.outside("store/containers")).unwrap().count();
    assert_eq!(left, 2, "names and lock");
}

#[test]
fn a_volume_outlives_its_containers() {
    let test = world();
    run(&test, &["--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/f"])
        .succeeded();
    let read = run(&test, &["--rm", "-v", "data:/data:ro", "busybox", "cat", "/data/f"]);
    assert_eq!(read.ok(), "kept\n");
    run(&test, &["-d", "--name", "c1", "-v", "data:/data", "busybox", "sleep", "600"]).succeeded();
    assert!(test.rbuild(&["volume", "rm", "data"]).failed(1).contains("volume is in use"));
    let other = run(&test, &["--rm", "--volumes-from", "c1", "busybox", "cat", "/data/f"]);
    assert_eq!(other.ok(), "kept\n");
    let missing =
        run(&test, &["--rm", "--mount", "type=bind,src=/no/such,dst=/x", "busybox", "true"]);
    assert!(missing.failed(125).contains("bind source path does not exist"), "{missing}");
}

#[test]
fn containers_of_a_network_find_each_other_by_name() {
    let test = world();
    let network = format!("net{}", std::process::id());
    test.rbuild(&["network", "create", &network]).succeeded();
    let serve = "mkdir /w; echo page > /w/index.html; exec httpd -f -p 80 -h /w";
    let on = ["run", "-d", "--network", &network];
    test.rbuild(
        &[
            &on[..],
            &[
                "--name",
                "web",
                "--network-alias",
                "www",
                "-p",
                "127.0.0.1:0:80",
                "busybox",
                "sh",
                "-c",
                serve,
            ],
        ]
        .concat(),
    )
    .succeeded();
    let ask = |url: &str| {
        let arguments = ["run", "--rm", "--network", &network, "busybox", "wget", "-qO-", url];
        test.rbuild(&arguments)
    };
    soon("it serves", || ask("http://web/").code == Some(0));
    assert_eq!(ask("http://www/").ok(), "page\n");
    let alone = test.rbuild(&["run", "--rm", "busybox", "wget", "-T", "2", "-qO-", "http://web/"]);
    assert_ne!(alone.code, Some(0), "{alone}");
    let port =
        shown(&test, "web", "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}");
    let page = test.shell(&format!("curl -s http://127.0.0.1:{port}/"));
    assert_eq!(page, "page\n");
    test.rbuild(&["rm", "-f", "web"]).ok();
    test.rbuild(&["network", "rm", &network]).succeeded();
}
