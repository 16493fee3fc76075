//! Several `rcompose` of one project at once: who changes it, and who waits.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::containers::soon;
use crate::support::project::Project;

const IDLE: &str = "sh -c 'trap exit TERM; sleep 600 & wait'";

/// Starts `rcompose`, whose messages are read as they come.
fn start(project: &Project, arguments: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let mut command = project.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    (child, stderr)
}

/// Kills it: the child is `timeout`, whose child is what is meant.
fn kill(project: &Project, mut child: Child) {
    project.test.shell(&format!("pkill -KILL -P {} || true", child.id()));
    child.wait().unwrap();
}

/// Reads up to the line that has this text.
#[track_caller]
fn read_to(stderr: &mut impl BufRead, text: &str) {
    let mut seen = String::new();
    while !seen.lines().last().is_some_and(|line| line.contains(text)) {
        assert_ne!(stderr.read_line(&mut seen).unwrap(), 0, "no {text:?} in\n{seen}");
    }
}

#[test]
fn one_at_a_time_changes_a_project_and_who_waits_can_be_interrupted() {
    let project = Project::of(
        "services:
  a: {image: busybox, command: sh -c 'trap \"\" TERM; sleep 600', stop_grace_period: 100s}
  b: {image: busybox, command: sleep 600, init: true}
",
    );
    project.compose(&["up", "-d"]).succeeded();
    let (mut first, mut told) = start(&project, &["stop", "a"]);
    read_to(&mut told, "a-1 Stopping");
    let waiting = format!("waiting for another rcompose that changes project {:?}", project.name);
    let (mut second, mut told) = start(&project, &["up", "-d"]);
    read_to(&mut told, &waiting);
    let (mut third, mut told) = start(&project, &["down"]);
    read_to(&mut told, &waiting);
    kill_process(Pid::from_child(&third), Signal::INT).unwrap();
    assert_eq!(third.wait().unwrap().code(), Some(130));
    // What only shows something, and signals, wait for nobody.
    project.compose(&["ps"]).succeeded();
    project.compose(&["pause", "b"]).succeeded();
    project.compose(&["unpause", "b"]).succeeded();
    project.compose(&["pause", "b"]).succeeded();
    project.compose(&["kill", "b"]).succeeded();
    assert_eq!(project.shown("b", "{{.State.Status}}"), "exited", "also one that is frozen");
    project.compose(&["kill", "a"]).succeeded();
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(project.shown("a", "{{.State.Status}}"), "running");
    let many = ["up", "-d", "--force-recreate", "-t", "0"];
    let many: Vec<_> = (0..3).map(|_| start(&project, &many)).collect();
    for (mut child, mut told) in many {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut told, &mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    }
    assert_eq!(project.containers(), ["a-1", "b-1"]);
}

#[test]
fn who_only_waits_lets_others_change_the_project() {
    let project = Project::of(&format!(
        "services:
  slow:
    image: busybox
    command: {IDLE:?}
    healthcheck: {{test: [CMD, test, -e, /shared/ready], interval: 100ms, retries: 1000}}
    volumes: [shared:/shared]
  last: {{image: busybox, command: {IDLE:?}, depends_on: {{slow: {{condition: service_healthy}}}}}}
volumes: {{shared: }}
"
    ));
    let (mut first, mut told) = start(&project, &["up", "-d"]);
    read_to(&mut told, "slow-1 Waiting");
    let (mut second, mut told) = start(&project, &["up", "-d"]);
    read_to(&mut told, "slow-1 Waiting");
    // What they wait for comes of it.
    project.compose(&["run", "--rm", "--no-deps", "slow", "touch", "/shared/ready"]).succeeded();
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(project.containers(), ["last-1", "slow-1"]);
    // Or it is taken away.
    project.compose(&["down", "-v", "-t", "0"]).succeeded();
    let (mut first, mut told) = start(&project, &["up", "-d"]);
    read_to(&mut told, "slow-1 Waiting");
    project.compose(&["down", "-v", "-t", "0"]).succeeded();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut told, &mut text).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(1), "{text}");
    assert!(
        text.contains("No such container") || text.contains("dependency failed to start"),
        "{text}"
    );
    assert!(project.containers().is_empty(), "{text}");
    // So does one that is interrupted.
    let (mut first, mut told) = start(&project, &["up", "-d"]);
    read_to(&mut told, "slow-1 Waiting");
    kill_process(Pid::from_child(&first), Signal::INT).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut told, &mut text).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(130), "{text}");
    assert!(text.ends_with("interrupted\n"), "{text}");
}

#[test]
fn what_only_shows_lines_keeps_nobody_waiting() {
    let project = Project::of(&format!("services: {{a: {{image: busybox, command: {IDLE:?}}}}}"));
    let (mut up, _told) = start(&project, &["up"]);
    soon("it runs", || {
        let names = project.test.rbuild(&["ps", "--format", "{{.Names}}"]).ok();
        names.lines().count() == 1
    });
    let down = project.compose(&["down"]);
    assert!(!down.succeeded().stderr.contains("waiting for another"), "{down}");
    assert_eq!(up.wait().unwrap().code(), Some(0));
    assert!(project.containers().is_empty());
}

#[test]
fn who_comes_after_a_killed_one_finishes_the_job() {
    let project = Project::of(&format!(
        "services: {{web: {{image: busybox, command: {IDLE:?}, deploy: {{replicas: 4}}, volumes: [/a, /b, /c]}}}}"
    ));
    let volumes = || project.test.rbuild(&["volume", "ls", "-q"]).ok().lines().count();
    let killed = |arguments: &[&str], after: u64| {
        let (child, told) = start(&project, arguments);
        std::thread::sleep(Duration::from_millis(after));
        kill(&project, child);
        drop(told);
    };
    let moments = [30, 60, 90, 120, 160, 220, 300];
    for moment in moments {
        killed(&["up", "-d"], moment);
        project.compose(&["down", "-v"]).succeeded();
        assert_eq!(project.containers(), [""; 0], "killed after {moment} ms");
        assert_eq!(volumes(), 0, "killed after {moment} ms");
    }
    project.compose(&["up", "-d"]).succeeded();
    for moment in moments {
        killed(&["up", "-d", "--force-recreate", "-t", "0"], moment);
        project.compose(&["up", "-d", "-t", "0"]).succeeded();
        let all = ["web-1", "web-2", "web-3", "web-4"];
        assert_eq!(project.containers(), all, "killed after {moment} ms");
        assert_eq!(volumes(), 4 * 3, "killed after {moment} ms");
    }
}

#[test]
fn volumes_of_who_was_killed_while_it_made_a_container_go() {
    let project = Project::of(
        "services:
  a:
    build: {dockerfile_inline: \"FROM busybox\\nRUN mkdir /data; cd /data; seq 20000 | xargs touch\\nVOLUME /data\\n\"}
    command: sleep 600
    stop_grace_period: 0s
    volumes: [named:/named]
volumes: {named: }
",
    );
    project.compose(&["build"]).succeeded();
    let volumes = || project.test.rbuild(&["volume", "ls", "-q"]).ok().lines().count();
    // One that nobody made for a container stays.
    project.test.rbuild(&["volume", "create"]).succeeded();
    let (child, told) = start(&project, &["up", "-d"]);
    let folder = project.test.outside("store/volumes");
    soon("its volume is being filled", || {
        std::fs::read_dir(&folder).unwrap().flatten().any(|it| it.path().join("filling").exists())
    });
    kill(&project, child);
    drop(told);
    assert_eq!(project.containers(), [""; 0]);
    assert_eq!(volumes(), 2, "what was made for no container is gone when somebody looks");
    project.compose(&["up", "-d"]).succeeded();
    assert_eq!(volumes(), 3);
    // Who cannot be removed yet keeps them.
    let container = format!("{}-a-1", project.name);
    project.test.rbuild(&["rm", "-v", &container]).failed(1);
    assert_eq!(std::fs::read_dir(folder.join(".unclaimed")).unwrap().count(), 0);
    // Without `-v` they stay, also when somebody comes along.
    project.compose(&["down"]).succeeded();
    project.compose(&["ps"]).succeeded();
    assert_eq!(volumes(), 3);
}
