//! Processes that `exec` starts: they belong to their container and not to who started them.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::containers::{run, shown, soon, world};
use crate::support::{Test, finish, need};

/// Waits for a file in the container.
const UNTIL_GO: &str = "until [ -e /go ]; do sleep 0.02; done";

/// A running container `c1`.
fn running() -> Test {
    let test = world();
    run(&test, &["-d", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
    test
}

/// The program itself, to be killed or to be given a terminal.
fn program(test: &Test, before: &[&str], arguments: &[&str]) -> Command {
    let words: Vec<&str> = [before, &[need::RBUILD], arguments].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env("RBUILD_ROOT", test.outside("store"));
    command
}

fn go(test: &Test) {
    test.rbuild(&["exec", "c1", "touch", "/go"]).succeeded();
}

/// How many processes run in it beside its program.
fn listed(test: &Test) -> usize {
    shown(test, "c1", "{{json .ExecIDs}}").matches('"').count() / 2
}

#[track_caller]
fn soon_has(test: &Test, file: &str) {
    soon(file, || test.rbuild(&["exec", "c1", "test", "-e", file]).code == Some(0));
}

/// The exit codes that events tell of processes.
fn ends(test: &Test) -> String {
    let format = "{{index .Actor.Attributes \"exitCode\"}}";
    let until = jiff::Timestamp::now().to_string();
    let line = ["events", "--since", "1h", "--until", &until, "--filter", "event=exec_die"];
    let codes = test.rbuild(&[&line[..], &["--format", format]].concat()).ok();
    codes.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `rbuild` before a terminal of its own.
struct Seat {
    master: OwnedFd,
    child: Child,
    seen: String,
}

impl Seat {
    fn take(test: &Test, size: (u16, u16), arguments: &[&str]) -> Seat {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        rustix::io::ioctl_fionbio(&master, true).unwrap();
        set_size(&master, size);
        let mut command = program(test, &["setsid", "--ctty"], arguments);
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap());
        let child = command.stderr(slave).spawn().unwrap();
        Seat { master, child, seen: String::new() }
    }

    fn press(&self, keys: &[u8]) {
        rustix::io::write(&self.master, keys).unwrap();
    }

    #[track_caller]
    fn soon_shows(&mut self, text: &str) {
        soon(text, || {
            let mut bytes = [0; 4096];
            match rustix::io::read(&self.master, &mut bytes) {
                Ok(read) => self.seen += &String::from_utf8_lossy(&bytes[..read]),
                Err(errno) => assert!(matches!(errno, Errno::AGAIN | Errno::IO), "{errno}"),
            }
            self.seen.contains(text)
        });
    }

    #[track_caller]
    fn soon_ends(&mut self) -> Option<i32> {
        soon("the program ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn set_size(master: &OwnedFd, (ws_row, ws_col): (u16, u16)) {
    tcsetwinsize(master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

#[test]
fn a_process_goes_on_when_who_started_it_is_killed() {
    let test = running();
    // More than a pipe holds, after its input has ended with who wrote it.
    let script = format!(
        "echo up; cat; {UNTIL_GO}; head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; \
         echo all >/done; exit 7"
    );
    let mut exec = program(&test, &[], &["exec", "-i", "c1", "sh", "-c", &script]);
    exec.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut exec = exec.spawn().unwrap();
    exec.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    assert_eq!(listed(&test), 1);
    exec.kill().unwrap();
    exec.wait().unwrap();
    assert_eq!(listed(&test), 1);
    assert_eq!(ends(&test), "");
    go(&test);
    soon_has(&test, "/done");
    soon("it has ended", || listed(&test) == 0);
    assert!(ends(&test).split(' ').any(|code| code == "7"), "{}", ends(&test));
}

#[test]
fn keys_leave_a_process_with_a_terminal_alone() {
    let test = running();
    let left = |more: &[&str], keys: &[u8]| {
        let line = [&["exec", "-it"], more, &["c1", "sh"]].concat();
        let mut seat = Seat::take(&test, (24, 80), &line);
        seat.soon_shows("# ");
        // A key that might have been the first of those is passed on when it was not.
        let typed = format!(
            "rm -f /done; x=$((6*7)); echo ${{x}}-; {UNTIL_GO}; seq 1 50000; >/done; exit\r"
        );
        seat.press(typed.as_bytes());
        seat.soon_shows("42-");
        seat.press(keys);
        assert_eq!(seat.soon_ends(), Some(0), "{}", seat.seen);
        assert_eq!(listed(&test), 1);
        go(&test);
        // Nobody reads what it writes, and it is not held up.
        soon_has(&test, "/done");
        test.rbuild(&["exec", "c1", "rm", "/go"]).succeeded();
        soon("it has ended", || listed(&test) == 0);
    };
    left(&[], &[16, 17]);
    left(&["--detach-keys", "ctrl-a,@"], b"\x01\x01@");
    let wrong = test.rbuild(&["exec", "--detach-keys", "ctrl-1", "c1", "true"]);
    assert!(wrong.failed(1).contains("detach keys"), "{wrong}");
}

#[test]
fn a_terminal_has_the_size_of_the_user_s() {
    let test = running();
    let script = "stty size; trap 'stty size; exit 3' WINCH; echo on; while :; do sleep 0.02; done";
    let mut seat = Seat::take(&test, (20, 70), &["exec", "-it", "c1", "sh", "-c", script]);
    seat.soon_shows("20 70\r\non");
    set_size(&seat.master, (33, 99));
    seat.soon_shows("33 99");
    assert_eq!(seat.soon_ends(), Some(3));
}

#[test]
fn all_streams_carry_much_at_once() {
    let test = running();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| b'a' + (at % 23) as u8).collect();
    let line = ["exec", "-i", "c1", "sh", "-c", "tee /dev/stderr; exit 5"];
    let outcome = finish(test.command(&line), Some(&bytes));
    assert_eq!(outcome.code, Some(5));
    assert!(outcome.stdout == bytes && outcome.stderr.as_bytes() == bytes);
}

#[test]
fn several_run_at_once_and_each_has_its_own_end() {
    let test = running();
    let started: Vec<Child> = (1..5)
        .map(|number| {
            let script = format!("{UNTIL_GO}; echo {number}; exit {number}");
            let mut exec = test.command(&["exec", "c1", "sh", "-c", &script]);
            exec.stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    soon("they run", || listed(&test) == 4);
    go(&test);
    for (number, child) in (1..5).zip(started) {
        let ended = child.wait_with_output().unwrap();
        let text = String::from_utf8(ended.stdout).unwrap();
        assert_eq!((ended.status.code(), text), (Some(number), format!("{number}\n")));
    }
}

#[test]
fn a_process_ends_with_its_container_and_who_waits_hears_so() {
    let test = running();
    let start = || {
        let mut exec = test.command(&["exec", "c1", "sh", "-c", "echo up; exec sleep 600"]);
        let mut exec = exec.stdout(Stdio::piped()).spawn().unwrap();
        // Who waits has been told that it runs.
        exec.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        assert_eq!(listed(&test), 1);
        exec
    };
    let mut exec = start();
    test.rbuild(&["stop", "-t", "0", "c1"]).succeeded();
    assert_eq!(exec.wait().unwrap().code(), Some(137));
    assert_eq!(ends(&test), "137");
    test.rbuild(&["start", "c1"]).succeeded();
    let mut exec = start();
    let monitor = shown(&test, "c1", "{{.State.Monitor}}");
    test.shell(&format!("kill -9 {monitor}"));
    assert_eq!(exec.wait().unwrap().code(), Some(137));
}

#[test]
fn a_process_ends_with_its_container_where_both_are_the_host_s_processes() {
    let test = world();
    run(&test, &["-d", "--pid", "host", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
    let mut exec = test.command(&["exec", "c1", "sh", "-c", "echo $$; exec sleep 600"]);
    let mut exec = exec.stdout(Stdio::piped()).spawn().unwrap();
    let mut pid = [0; 16];
    let read = exec.stdout.as_mut().unwrap().read(&mut pid).unwrap();
    let pid = String::from_utf8_lossy(&pid[..read]).trim().to_owned();
    let process = std::path::Path::new("/proc").join(pid);
    assert!(process.exists());
    test.rbuild(&["stop", "-t", "0", "c1"]).succeeded();
    assert_eq!(exec.wait().unwrap().code(), Some(137));
    assert!(!process.exists());
}

#[test]
fn what_a_detached_process_prints_to_its_terminal_holds_nobody_up() {
    let test = running();
    let script = "seq 1 50000; tty >/done";
    test.rbuild(&["exec", "-dt", "c1", "sh", "-c", script]).succeeded();
    soon_has(&test, "/done");
    assert_eq!(test.rbuild(&["exec", "c1", "cat", "/done"]).ok(), "/dev/pts/0\n");
}

#[test]
fn a_process_has_the_container_s_limits_and_as_many_words_as_it_likes() {
    let test = world();
    let flags = ["-d", "--name", "c1", "--ulimit", "nofile=77:88", "busybox", "sleep", "600"];
    run(&test, &flags).succeeded();
    let limits = test.rbuild(&["exec", "c1", "sh", "-c", "ulimit -n; ulimit -Hn"]).ok();
    assert_eq!(limits, "77\n88\n");
    let word = "\u{1}".repeat(100_000);
    let line = ["sh", "-c", "echo ${#1} ${#9} >/out; cat /out", "-"];
    let words = [&["exec", "c1"], &line[..], &[word.as_str(); 9]].concat();
    assert_eq!(test.rbuild(&words).ok(), "100000 100000\n");
}

#[test]
fn a_paused_container_starts_nothing_and_goes_on() {
    let test = running();
    let script = format!("{UNTIL_GO}; exit 4");
    let mut exec = test.command(&["exec", "c1", "sh", "-c", &script]).spawn().unwrap();
    soon("they run", || listed(&test) == 1);
    test.rbuild(&["pause", "c1"]).succeeded();
    assert!(test.rbuild(&["exec", "c1", "true"]).failed(1).contains("is paused"));
    test.rbuild(&["unpause", "c1"]).succeeded();
    go(&test);
    assert_eq!(exec.wait().unwrap().code(), Some(4));
}

#[test]
fn what_a_process_leaves_behind_may_print() {
    let test = running();
    let line = "(until [ -e /go ]; do sleep 0.02; done; echo late; touch /late) & echo first";
    assert_eq!(test.rbuild(&["exec", "c1", "sh", "-c", line]).ok(), "first\n");
    go(&test);
    soon_has(&test, "/late");
}

#[test]
fn a_program_that_does_not_read_hinders_nobody_else() {
    let test = world();
    let mut typing = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
    let mut client = program(&test, &[], &["run", "-i", "--name", "c1", "busybox", "sleep", "600"]);
    let client = client.stdin(typing.stdout.take().unwrap()).stdout(Stdio::null());
    let mut client = client.stderr(Stdio::null()).spawn().unwrap();
    soon("it runs", || test.rbuild(&["exec", "c1", "true"]).code == Some(0));
    // By now more is typed than anybody takes.
    std::thread::sleep(std::time::Duration::from_millis(300));
    for verb in [&["exec", "c1", "true"][..], &["pause", "c1"], &["unpause", "c1"]] {
        test.rbuild(verb).succeeded();
    }
    test.rbuild(&["stop", "-t", "0", "c1"]).succeeded();
    client.wait().unwrap();
    let _ = typing.kill().and_then(|()| typing.wait());
}

#[test]
fn a_reader_who_stands_still_keeps_no_container_from_ending() {
    let test = world();
    let line = format!("{UNTIL_GO}; seq 200000");
    run(&test, &["-d", "--name", "c1", "busybox", "sh", "-c", &line]).succeeded();
    let mut reader = program(&test, &[], &["attach", "c1"]);
    let mut reader = reader.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = reader.id().to_string();
    Command::new("kill").args(["-STOP", &pid]).status().unwrap();
    go(&test);
    // It waits for its reader as long as it runs, and no longer.
    std::thread::sleep(std::time::Duration::from_millis(500));
    test.rbuild(&["kill", "c1"]).succeeded();
    soon("it has ended", || shown(&test, "c1", "{{.State.Status}}") == "exited");
    Command::new("kill").args(["-CONT", &pid]).status().unwrap();
    let mut seen = String::new();
    reader.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
    assert!(seen.starts_with("1\n2\n3\n"), "{seen:?}");
    assert_eq!(reader.wait().unwrap().code(), Some(137));
}
