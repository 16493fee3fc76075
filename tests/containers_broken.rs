//! What a container must not get hold of, and what must not be left of it: streams of whoever calls, readers that go
//! away, monitors that were killed, containers that could not be made.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::support::containers::{run, shown, soon, world};
use crate::support::{Test, finish};

/// A running container `c1`.
fn running() -> Test {
    let test = world();
    run(&test, &["-d", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
    test
}

/// What a shell says that has `$RBUILD exec` on this test's store.
fn shell(test: &Test, script: &str) -> String {
    test.shell(script).trim().to_owned()
}

#[test]
fn a_process_has_streams_of_its_own() {
    let test = running();
    // A file that is read from or written to is not the process's to open anew.
    test.file("dump", "precious").mode("dump", 0o400);
    let script =
        "$RBUILD exec -i c1 sh -c 'cat; (echo pwned > /proc/self/fd/0) 2>/dev/null; true' < dump";
    assert_eq!(shell(&test, script), "precious");
    assert_eq!(shell(&test, "cat dump"), "precious");
    let script =
        "echo old > log; $RBUILD exec c1 sh -c 'echo new > /proc/self/fd/1' >> log; cat log";
    assert_eq!(shell(&test, script), "old\nnew");
    let folder = "cd /; $RBUILD exec -i c1 sh -c 'ls /proc/self/fd/0/ 2>/dev/null | wc -l' < / 2>/dev/null || true";
    assert!(["", "0", "1"].contains(&shell(&test, folder).as_str()));
    // Opened by its name a stream goes on where it is, for any user.
    for user in ["0", "1000"] {
        let script = format!(
            "$RBUILD exec -u {user} c1 sh -c 'echo one; echo two > /dev/stdout; echo three; echo four > /dev/stderr' \
             > out 2> err; cat out err"
        );
        assert_eq!(shell(&test, &script), "one\ntwo\nthree\nfour", "{user}");
    }
}

#[test]
fn much_goes_to_a_process_and_back() {
    let test = running();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 253) as u8).collect();
    let outcome = finish(test.command(&["exec", "-i", "c1", "cat"]), Some(&bytes));
    assert!(outcome.succeeded().stdout == bytes);
    // One that reads nothing ends all the same, and one that is not to read anything has nothing.
    let outcome = finish(test.command(&["exec", "-i", "c1", "sh", "-c", "exit 7"]), Some(&bytes));
    outcome.failed(7);
    assert_eq!(finish(test.command(&["exec", "c1", "wc", "-c"]), Some(&bytes)).ok(), "0\n");
}

#[test]
fn a_process_that_left_others_behind_ends() {
    let test = running();
    let outcome = test.rbuild(&["exec", "c1", "sh", "-c", "sleep 600 & echo started"]);
    assert_eq!(outcome.ok(), "started\n");
}

#[test]
fn who_reads_no_more_ends_what_reads_for_him_and_not_the_program() {
    let test = running();
    let mut exec = test.command(&["exec", "c1", "yes"]);
    let mut exec = exec.stdout(Stdio::piped()).spawn().expect("start exec");
    let mut some = [0; 100];
    exec.stdout.take().expect("a pipe").read_exact(&mut some).expect("output");
    soon("exec ends", || exec.try_wait().expect("wait").is_some());
    // As one does that a broken pipe has ended.
    assert_eq!(exec.wait().expect("wait").code(), Some(141));
    assert_eq!(shown(&test, "c1", "{{len .ExecIDs}}"), "1");

    let mut run = test.command(&["run", "--name", "yes", "--network", "none", "busybox", "yes"]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut run = run.expect("start run");
    run.stdout.take().expect("a pipe").read_exact(&mut some).expect("output");
    let ended = run.wait_with_output().expect("run ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("write /dev/stdout: broken pipe"), "{said}");
    // The container goes on, as docker's does.
    assert_eq!(shown(&test, "yes", "{{.State.Status}}"), "running");
    test.rbuild(&["rm", "-f", "yes"]).succeeded();
}

#[test]
fn what_a_killed_monitor_held_goes_with_its_container() {
    let test = world();
    test.rbuild(&["network", "create", "rm-of-dead"]).succeeded();
    let flags = ["run", "-d", "--name", "c1", "--network", "rm-of-dead", "-m", "50m", "-p", "80"];
    test.rbuild(&[&flags[..], &["busybox", "sleep", "600"]].concat()).succeeded();
    let bridge = format!("br-{}", &shown(&test, "rm-of-dead", "{{.Id}}")[..12]);
    let ports = format!("ls /sys/class/net/{bridge}/brif | wc -l");
    assert_eq!(shell(&test, &ports), "1");
    let cgroup =
        "sed -n 's/.*\"memory\":\"\\([^\"]*\\)\".*/\\1/p' \"$RBUILD_ROOT\"/containers/*/state.json";
    let cgroup = shell(&test, cgroup);
    assert!(std::path::Path::new(&cgroup).exists(), "{cgroup}");
    let [monitor, program] =
        ["{{.State.Monitor}}", "{{.State.Pid}}"].map(|it| shown(&test, "c1", it));
    assert!(Command::new("kill").args(["-9", &monitor]).status().expect("kill").success());
    let program = std::path::Path::new("/proc").join(program);
    soon("the program ends with its monitor", || !program.exists());
    test.rbuild(&["rm", "-f", "c1"]).succeeded();
    assert_eq!(shell(&test, &ports), "0");
    assert!(!std::path::Path::new(&cgroup).exists(), "{cgroup}");
    test.rbuild(&["network", "rm", "rm-of-dead"]).succeeded();
}

#[test]
fn what_could_not_be_made_leaves_no_volumes() {
    let test = world();
    test.rbuild(&["create", "--name", "taken", "busybox", "true"]).succeeded();
    let flags = ["create", "--name", "taken", "-v", "/a", "-v", "named:/b", "busybox", "true"];
    assert!(test.rbuild(&flags).failed(1).contains("already in use"));
    // Docker makes what has a name and keeps it, too.
    assert_eq!(test.rbuild(&["volume", "ls", "-q"]).ok(), "named\n");
}

#[test]
fn volumes_without_a_name_go_with_a_container_whose_monitor_was_killed() {
    let test = world();
    for remove in [&["rm", "-f", "c1"][..], &["ps"]] {
        let flags = ["-d", "--rm", "--name", "c1", "-v", "/a", "-v", "named:/b", "busybox"];
        run(&test, &[&flags[..], &["sleep", "600"]].concat()).succeeded();
        let [monitor, program] =
            ["{{.State.Monitor}}", "{{.State.Pid}}"].map(|it| shown(&test, "c1", it));
        test.shell(&format!("kill -9 {monitor}"));
        let program = std::path::Path::new("/proc").join(program);
        soon("the program ends with its monitor", || !program.exists());
        test.rbuild(remove).succeeded();
        assert_eq!(test.rbuild(&["ps", "-aq"]).ok(), "");
        assert_eq!(test.rbuild(&["volume", "ls", "-q"]).ok(), "named\n", "{remove:?}");
    }
}

/// What two that remove one container leave when the one that did is killed before it comes to the
/// volumes.
#[test]
fn who_comes_second_to_remove_a_container_leaves_its_volumes_to_the_first() {
    let test = world();
    test.rbuild(&["create", "--name", "c1", "-v", "/a", "busybox"]).succeeded();
    let volume = test.rbuild(&["volume", "ls", "-q"]).ok();
    let script = format!(
        "cd \"$RBUILD_ROOT\"; id=$($RBUILD inspect -f '{{{{.Id}}}}' c1); : > volumes/.unclaimed/{}
         mv containers/$id away; ! $RBUILD rm -v $id 2>/dev/null; rm -r away containers/names/c1",
        volume.trim()
    );
    test.shell(&script);
    test.rbuild(&["ps"]).succeeded();
    assert_eq!(test.rbuild(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn a_name_that_a_killed_rename_left_leads_nowhere() {
    let test = world();
    let id = test.rbuild(&["create", "--name", "c1", "busybox"]).ok();
    test.shell(&format!("ln -s {} \"$RBUILD_ROOT\"/containers/names/c2", id.trim()));
    assert!(test.rbuild(&["rm", "c2"]).failed(1).contains("No such container: c2"));
    test.rbuild(&["rename", "c1", "c2"]).succeeded();
    assert_eq!(shown(&test, "c2", "{{.Name}}"), "/c2");
}

#[test]
fn what_is_removed_half_way_keeps_its_name_until_it_is_gone() {
    let test = world();
    test.rbuild(&["create", "--name", "c1", "busybox", "true"]).succeeded();
    // A directory that something is mounted on can be written to, and not be taken away.
    let script = "dir=\"$RBUILD_ROOT\"/containers/$($RBUILD inspect -f '{{.Id}}' c1)
        mount --bind \"$dir\" \"$dir\"
        $RBUILD rm -f c1 2>&1 || echo refused";
    let said = test.unshared(script);
    assert!(said.ends_with("refused\n"), "{said}");
    assert_eq!(test.rbuild(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "c1\n");
    assert!(test.rbuild(&["create", "--name", "c1", "busybox"]).failed(1).contains("in use"));
    test.rbuild(&["start", "c1"]).succeeded();
    test.rbuild(&["rm", "-f", "c1"]).succeeded();
    assert_eq!(test.shell("ls \"$RBUILD_ROOT\"/containers/names"), "");
    // Killed when its directory was gone and its name was not: the name is anybody's.
    let gone = "0".repeat(64);
    test.shell(&format!("ln -s {gone} \"$RBUILD_ROOT\"/containers/names/c1"));
    run(&test, &["--name", "c1", "busybox", "true"]).succeeded();
}
