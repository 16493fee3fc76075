//! A second process in a running container.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Machine, Sleeper, chain, pipe, read, wait_until};
use crate::container::spec::{Process, Resources, Seccomp};
use crate::container::{ExecSpec, LaunchError, Running, Stdio, Stream, exec};

/// A process with the container's capabilities, as the container's own program has them.
fn spec(machine: &Machine, args: &[&str]) -> ExecSpec {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    ExecSpec {
        process: Process { args, ..machine.spec.process.clone() },
        seccomp: machine.spec.seccomp.clone(),
        ..ExecSpec::default()
    }
}

/// Runs a process in the container to its end: exit code and both streams.
fn run(sleeper: &Sleeper, spec: &ExecSpec) -> Result<(i32, String), LaunchError> {
    let (stdout, stdout_end) = pipe();
    let (stderr, stderr_end) = pipe();
    let process = exec(&sleeper.running(), spec, Stdio::output(stdout_end, stderr_end))?;
    let text = read(stdout) + &read(stderr);
    Ok((process.wait().unwrap().code, text.trim_end().to_owned()))
}

#[track_caller]
fn sh(sleeper: &Sleeper, script: &str) -> String {
    let outcome = run(sleeper, &spec(&sleeper.machine, &["sh", "-c", script]));
    let (code, text) = outcome.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(code, 0, "{text}");
    text
}

#[test]
fn a_process_is_in_all_of_the_container_s_namespaces() {
    let sleeper = Machine::new().sleep();
    let namespaces = "for it in cgroup ipc mnt net pid uts; do readlink /proc/$P/ns/$it; done";
    let of = |pid: &str| sh(&sleeper, &namespaces.replace("$P", pid));
    assert_eq!(of("self"), of("1"));
    assert_eq!(
        sh(&sleeper, "hostname; cat /etc/passwd | head -1"),
        "machine\nroot:x:0:0:root:/root:/bin/sh"
    );
    // Its parent is outside; nothing that was open there is open here.
    assert_eq!(
        sh(&sleeper, "grep PPid /proc/$$/status | cut -f2; ls /proc/self/fd | wc -l"),
        "0\n4"
    );
    let outcome = run(&sleeper, &spec(&sleeper.machine, &["sh", "-c", "exit 7"])).unwrap();
    assert_eq!(outcome.0, 7);
}

#[test]
fn the_privileges_of_a_process_are_the_container_s() {
    let sleeper = Machine::new().sleep();
    let status = "grep -E '^(Cap(Prm|Bnd)|Seccomp:|NoNew)' /proc/self/status | tr -s '\\t\\n' ' '";
    let docker_s = "CapPrm: 00000000a80425fb CapBnd: 00000000a80425fb NoNewPrivs: 0 Seccomp: 2";
    assert_eq!(sh(&sleeper, status), docker_s);
    let mut privileged = spec(&sleeper.machine, &["sh", "-c", status]);
    privileged.privileged = true;
    let (_, text) = run(&sleeper, &privileged).unwrap();
    assert!(text.contains("CapPrm: 000001ff") && text.ends_with("Seccomp: 2"), "{text}");
    privileged.seccomp = Seccomp::Unconfined;
    assert!(run(&sleeper, &privileged).unwrap().1.ends_with("Seccomp: 0"));
    let mut user = spec(&sleeper.machine, &["sh", "-c", "id; pwd; echo $HOME $A"]);
    user.process.user = "web".to_owned();
    user.process.cwd = PathBuf::from("/etc");
    user.process.env.push("A=b".to_owned());
    let expected = "uid=33(web) gid=34(web) groups=34(web),60(log)\n/etc\n/srv/web b";
    assert_eq!(run(&sleeper, &user).unwrap(), (0, expected.to_owned()));
}

#[test]
fn what_cannot_be_started_has_docker_s_exit_codes() {
    let sleeper = Machine::new().sleep();
    let check = |program: &str, cwd: &str, code: i32, text: &str| {
        let mut spec = spec(&sleeper.machine, &[program]);
        spec.process.cwd = PathBuf::from(cwd);
        let error = run(&sleeper, &spec).unwrap_err();
        assert_eq!((error.exit_code(), chain(&error)), (code, text.to_owned()));
    };
    check("foo", "/", 127, "exec: \"foo\": executable file not found in $PATH");
    check("/etc/passwd", "/", 126, "exec: \"/etc/passwd\": permission denied");
    check("true", "/nope", 126, "chdir to cwd (\"/nope\"): no such file or directory");
    check("true", "/etc/passwd", 126, "chdir to cwd (\"/etc/passwd\"): not a directory");
    let mut unknown = spec(&sleeper.machine, &["true"]);
    unknown.process.user = "nobody".to_owned();
    assert_eq!(run(&sleeper, &unknown).unwrap_err().exit_code(), 125);
}

#[test]
fn a_process_has_a_terminal_of_the_container_s() {
    let sleeper = Machine::new().sleep();
    let mut spec = spec(&sleeper.machine, &["sh", "-c", "tty; stty size; read line; stty size"]);
    spec.process.terminal = true;
    spec.process.window = Some((11, 77));
    let mut process = exec(&sleeper.running(), &spec, Stdio::inherit()).unwrap();
    let master = process.terminal.take().unwrap();
    let mut text = String::new();
    let mut buffer = [0; 256];
    while !text.contains("77") {
        let length = rustix::io::read(&master, &mut buffer).unwrap();
        text += &String::from_utf8_lossy(&buffer[..length]);
    }
    let size = rustix::termios::Winsize { ws_row: 5, ws_col: 6, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    rustix::io::write(&master, b"\n").unwrap();
    while let Ok(length @ 1..) = rustix::io::read(master.as_fd(), &mut buffer) {
        text += &String::from_utf8_lossy(&buffer[..length]);
    }
    assert_eq!(text, "/dev/pts/0\r\n11 77\r\n\r\n5 6\r\n");
    assert_eq!(process.wait().unwrap().code, 0);
}

#[test]
fn a_process_joins_the_container_s_limits() {
    let mut machine = Machine::new();
    machine.spec.resources.pids = Some(4);
    let sleeper = machine.sleep();
    assert_eq!(
        sh(
            &sleeper,
            "cat /sys/fs/cgroup/pids/pids.current /sys/fs/cgroup/pids.current 2>/dev/null; true"
        ),
        "3"
    );
    let fill = ["sh", "-c", "sleep 9 & sleep 9 & wait"];
    let (stdout, stdout_end) = pipe();
    let null = fs::File::create("/dev/null").unwrap().into();
    let stdio =
        Stdio { stdin: Stream::Null, stdout: Stream::File(stdout_end), stderr: Stream::File(null) };
    let filling = exec(&sleeper.running(), &spec(&sleeper.machine, &fill), stdio).unwrap();
    drop(stdout);
    wait_until(|| sleeper.running().processes().unwrap().len() >= 4);
    let error = run(&sleeper, &spec(&sleeper.machine, &["true"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "start a process: the container has as many processes as it may have"
    );
    drop(filling);
}

#[test]
fn a_container_cannot_deceive_who_enters_it() {
    let mut machine = Machine::new();
    machine.spec.process.capabilities.push("CAP_SYS_ADMIN".to_owned());
    let sleeper = machine.sleep();
    let hide = "mount -t tmpfs none /proc; mount -t tmpfs none /dev/pts; mkfifo /dev/pts/ptmx;
                rm /etc/passwd; mkfifo /etc/passwd; ln -s / /link";
    sh(&sleeper, hide);
    assert_eq!(sh(&sleeper, "echo $HOME; ls /proc | wc -l"), "/\n0");
    let mut terminal = spec(&sleeper.machine, &["true"]);
    terminal.process.terminal = true;
    let error = exec(&sleeper.running(), &terminal, Stdio::inherit()).unwrap_err();
    assert!(chain(&error).contains("/dev/pts"), "{}", chain(&error));
    // A descriptor of the launching process's is no way out.
    for number in 3..9 {
        let mut outside = spec(&sleeper.machine, &["pwd"]);
        outside.process.cwd = PathBuf::from(format!("/proc/self/fd/{number}"));
        assert!(run(&sleeper, &outside).is_err(), "descriptor {number}");
    }
}

#[test]
fn nobody_enters_a_container_that_has_ended() {
    let sleeper = Machine::new().sleep();
    let running = sleeper.running();
    let error = {
        let machine = sleeper.end();
        exec(&running, &spec(&machine, &["true"]), Stdio::inherit()).unwrap_err()
    };
    assert!(
        ["the container is not running", "talk to the container's init"]
            .contains(&error.to_string().as_str()),
        "{error}"
    );
    assert!(Running::find(running.pid(), None).is_err());
}

#[test]
fn entering_is_quick() {
    let sleeper = Machine::new().sleep();
    let spec = spec(&sleeper.machine, &["true"]);
    let best = (0..10)
        .map(|_| {
            let begun = Instant::now();
            run(&sleeper, &spec).unwrap();
            begun.elapsed()
        })
        .min()
        .unwrap();
    // This program without optimisation on a busy machine; the budget of the real one is 8 ms.
    assert!(best < Duration::from_millis(40), "{best:?}");
    println!("{best:?}");
}

#[test]
fn limits_of_a_process_do_not_need_the_container_s() {
    let mut machine = Machine::new();
    machine.spec.resources = Resources::default();
    let sleeper = machine.sleep();
    let mut limited =
        spec(&sleeper.machine, &["sh", "-c", "ulimit -n; cat /proc/self/oom_score_adj"]);
    limited.process.rlimits =
        vec![crate::container::spec::Rlimit { name: "nofile".to_owned(), soft: 99, hard: 99 }];
    limited.process.oom_score_adj = Some(500);
    assert_eq!(run(&sleeper, &limited).unwrap(), (0, "99\n500".to_owned()));
}
