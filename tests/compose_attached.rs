//! `rcompose up` in the foreground: what it says of containers that end, and when it ends itself.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::containers::soon;
use crate::support::project::Project;

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_container_that_is_started_again_is_told_of_each_time() {
    let project = Project::of(
        "services:
  a: {image: busybox, command: sh -c 'echo try; exit 3', restart: 'on-failure:2'}
",
    );
    let up = project.compose(&["up"]);
    let text = up.ok();
    let expected = "a-1  | try\na-1 exited with code 3 (restarting)\n".repeat(2);
    let expected = format!("{expected}a-1  | try\na-1 exited with code 3\n");
    assert!(text.ends_with(&expected), "{text}");
    let aborted = project.compose(&["up", "--abort-on-container-exit"]);
    assert_eq!(aborted.code, Some(3), "{aborted}");
    assert!(aborted.stderr.contains("Aborting on container exit..."), "{aborted}");
}

#[test]
fn it_ends_and_stops_all_when_nobody_reads_any_more() {
    let project = Project::of(
        "services:
  a: {image: busybox, command: sh -c 'trap \"exit 0\" TERM; while true; do echo line; sleep 0.1; done'}
",
    );
    let mut command = project.command(&["up"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "Attaching to a-1\n");
    drop(stdout);
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{told}");
    assert!(told.contains("Gracefully Stopping"), "{told}");
    assert_eq!(project.shown("a", "{{.State.Status}}"), "exited");
}

#[test]
fn it_ends_with_the_last_container_also_while_files_are_watched() {
    let project = Project::of(
        "services:
  a:
    image: busybox
    command: sleep 1
    develop: {watch: [{action: restart, path: .}]}
",
    );
    let up = project.compose(&["up", "--watch"]);
    let text = up.ok();
    assert!(text.contains("Watch enabled"), "{up}");
    assert!(text.ends_with("a-1 exited with code 0\n"), "{up}");
}

#[test]
fn what_is_kept_in_no_log_is_shown_nevertheless() {
    let project = Project::of(
        "services:
  a:
    image: busybox
    command: sh -c 'echo first; echo wrong >&2; printf last; exit 4'
    logging: {driver: none}
",
    );
    let up = project.compose(&["up"]);
    assert_eq!(up.ok(), "Attaching to a-1\na-1  | first\na-1  | last\na-1 exited with code 4\n");
    assert!(up.stderr.contains("a-1  | wrong\n"), "{up}");
    let logs = project.compose(&["logs"]);
    assert!(logs.succeeded().stderr.contains("Can't retrieve logs for \"a-1\""), "{logs}");
}

#[test]
fn no_line_is_lost_that_its_log_does_not_keep() {
    let project = Project::of(
        "services:
  a:
    image: busybox
    command: seq 50000
    logging: {options: {max-size: 1k, max-file: '1'}}
",
    );
    let expected: String = (1..=50000).map(|number| format!("{number}\n")).collect();
    let up = project.compose(&["up", "--no-log-prefix"]).ok();
    assert_eq!(up, format!("Attaching to a-1\n{expected}a-1 exited with code 0\n"));
    // Its next life is told from its beginning, nothing of the one before.
    let up = project.compose(&["up", "--no-log-prefix"]).ok();
    assert_eq!(up, format!("Attaching to a-1\n{expected}a-1 exited with code 0\n"));
}

/// An `up` whose output nobody has read since its pipe was full.
fn up_unread(project: &Project, is_running: impl FnMut() -> bool) -> Child {
    let child =
        project.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    soon("it runs", is_running);
    let unread = child.stdout.as_ref().unwrap();
    soon("the pipe is full", || rustix::io::ioctl_fionread(unread).unwrap() > 60_000);
    child
}

#[test]
fn who_does_not_read_keeps_nothing_from_ending() {
    let project = Project::of(
        "services:
  a: {image: busybox, init: true, command: sh -c 'while :; do echo to be read by somebody; done'}
",
    );
    let is_running = || project.test.rbuild(&["ps", "-q"]).ok().lines().count() == 1;
    let mut child = up_unread(&project, is_running);
    std::thread::sleep(Duration::from_millis(100));
    signal(&child, Signal::INT);
    soon("it has ended", || !is_running());
    // There is still something to be read; nobody has to.
    assert!(child.try_wait().unwrap().is_none());
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn who_asks_twice_does_not_wait_for_who_does_not_read() {
    let project = Project::of(
        "services:
  a:
    image: busybox
    stop_grace_period: 100s
    command: sh -c 'trap \"\" TERM; while :; do echo to be read by somebody; done'
",
    );
    let is_running = || project.test.rbuild(&["ps", "-q"]).ok().lines().count() == 1;
    let mut child = up_unread(&project, is_running);
    signal(&child, Signal::INT);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("Gracefully Stopping") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(is_running(), "it ignores what it is asked");
    signal(&child, Signal::INT);
    // With its last lines unread; nobody has to ask for a third time.
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!is_running());
}

#[test]
fn what_is_printed_at_the_end_is_shown_byte_by_byte() {
    let project = Project::of(
        "services:
  a:
    image: busybox
    command: sh -c 'trap \"seq 60000; printf \\\\\\\\351; exit 0\" TERM; echo READY; while :; do sleep 0.05; done'
",
    );
    let mut command = project.command(&["up", "--no-log-prefix"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    while seen != "READY\n" {
        seen.clear();
        stdout.read_line(&mut seen).unwrap();
    }
    signal(&child, Signal::INT);
    // It has ended long before all is read.
    std::thread::sleep(Duration::from_millis(500));
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    let mut expected: Vec<u8> =
        (1..=60000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    expected.extend(b"\xe9\na-1 exited with code 0\n");
    assert!(
        rest == expected,
        "{} bytes: {}",
        rest.len(),
        String::from_utf8_lossy(&rest[rest.len().saturating_sub(200)..])
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn each_end_is_told_once_also_to_who_reads_late() {
    let project = Project::of(
        "services:
  a: {image: busybox, init: true, command: sh -c 'trap \"echo bye; exit 0\" TERM; seq 20000; while :; do sleep 0.05; done'}
",
    );
    let mut child =
        project.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let running = || project.test.rbuild(&["ps", "-q"]).ok().lines().count() == 1;
    soon("it runs", running);
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        let mut all = String::new();
        stdout.read_to_string(&mut all).unwrap();
        all
    });
    project.compose(&["restart"]).succeeded();
    std::thread::sleep(Duration::from_millis(1500));
    project.compose(&["stop"]).succeeded();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let all = reader.join().unwrap();
    let count = |text: &str| all.lines().filter(|line| line.contains(text)).count();
    assert_eq!((count("bye"), count("exited with code 0"), count("restarting")), (2, 2, 0));
    assert_eq!(all.lines().count(), 1 + 2 * (20000 + 2));
}

#[test]
fn it_stays_with_containers_that_somebody_starts_again() {
    let project = Project::of(
        "services:
  a: {image: busybox, command: sh -c 'trap \"exit 0\" TERM; echo hello; sleep 600 & wait'}
",
    );
    let mut command = project.command(&["up"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    let mut read = |expected: &str| {
        seen.clear();
        stdout.read_line(&mut seen).unwrap();
        assert_eq!(seen, expected);
    };
    read("Attaching to a-1\n");
    read("a-1  | hello\n");
    project.compose(&["restart"]).succeeded();
    read("a-1 exited with code 0\n");
    read("a-1  | hello\n");
    project.compose(&["up", "-d", "--scale", "a=2"]).succeeded();
    read("a-2  | hello\n");
    project.compose(&["up", "-d", "--force-recreate"]).succeeded();
    for _ in 0..2 {
        seen.clear();
        stdout.read_line(&mut seen).unwrap();
        assert!(seen.ends_with("exited with code 0\n"), "{seen}");
    }
    seen.clear();
    stdout.read_line(&mut seen).unwrap();
    assert_eq!(seen, "a-1  | hello\n");
    project.compose(&["down"]).succeeded();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn lines_of_who_is_started_again_while_nobody_reads_are_told_once() {
    let project = Project::of(
        "services:
  a:
    image: busybox
    command: sh -c 'trap \"exit 0\" TERM; for i in $$(seq 5000); do echo this is the line $$i; done; sleep 600 & wait'
",
    );
    let mut child =
        project.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let name = format!("{}-a-1", project.name);
    let printed = |count: usize| {
        let logs = project.test.rbuild(&["logs", &name]);
        logs.code == Some(0) && String::from_utf8_lossy(&logs.stdout).lines().count() == count
    };
    soon("it has printed more than a pipe holds", || printed(5000));
    project.compose(&["restart"]).succeeded();
    soon("it has printed it again", || printed(10_000));
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut to = |last: &str| {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|line| line != last) {
            seen.push(stdout.next().expect("there is more").unwrap());
        }
        seen
    };
    let mut seen = to("a-1 exited with code 0");
    // By who follows it from then on, and after all that is told by that one.
    project.compose(&["exec", "a", "sh", "-c", "echo more > /proc/1/fd/1"]).succeeded();
    seen.extend(to("a-1  | more"));
    for line in ["a-1  | this is the line 1", "a-1  | this is the line 5000"] {
        assert_eq!(seen.iter().filter(|it| *it == line).count(), 2, "{line}");
    }
    project.compose(&["down"]).succeeded();
    child.wait().unwrap();
}

#[test]
fn what_it_builds_ends_with_it_however_it_ends() {
    let project = Project::of(
        "services:
  a: {build: {dockerfile_inline: \"FROM busybox\\nRUN echo begun; sleep 47120\\n\"}}
",
    );
    let mut command = project.command(&["up"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let runs = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
        lines.filter(|line| line.starts_with(b"sleep\x0047120\0")).count()
    };
    soon("the program runs", || runs() == 1);
    // The child is `timeout`, whose child is what is meant.
    project.test.shell(&format!("pkill -KILL -P {}", child.id()));
    child.wait().unwrap();
    soon("the program ends", || runs() == 0);
}
