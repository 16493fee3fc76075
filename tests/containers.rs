//! Containers with a name: their life from `create` to `rm`, and what docker's users rely on in it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Test;
use crate::support::containers::{run, shown, soon, world};
use crate::support::need;

fn log(test: &Test, name: &str) -> String {
    test.rbuild(&["logs", name]).ok()
}

/// Who may write nowhere may not write what he is told of his network either.
#[test]
fn files_of_the_network_are_read_only_with_all_else() {
    let test = world();
    let script = "for f in hosts hostname resolv.conf; do echo x >> /etc/$f || echo no; done 2>&-";
    let count = |flags: &[&str]| {
        let line = [flags, &["--rm", "busybox", "sh", "-c", script]].concat();
        run(&test, &line).ok().lines().count()
    };
    assert_eq!((count(&[]), count(&["--read-only"])), (0, 3));
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
fn what_is_attached_is_shown_and_nothing_else() {
    let test = world();
    for (streams, expected) in [("stdout", ["out\n", ""]), ("stderr", ["", "err\n"])] {
        let line = ["-a", streams, "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"];
        let run = run(&test, &line);
        let found = [String::from_utf8_lossy(&run.stdout), run.stderr.as_str().into()];
        assert_eq!(found, expected, "{run}");
    }
}

#[test]
fn who_starts_and_attaches_to_what_runs_only_attaches() {
    let test = world();
    let program = "until [ -e /go ]; do sleep 0.05; done; echo seen; exit 4";
    run(&test, &["-d", "--name", "c1", "busybox", "sh", "-c", program]).succeeded();
    let pid = shown(&test, "c1", "{{.State.Pid}}");
    let mut start = test.command(&["start", "-a", "c1"]);
    let start = start.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(shown(&test, "c1", "{{.State.Pid}}"), pid);
    test.rbuild(&["exec", "c1", "touch", "/go"]).succeeded();
    let output = start.wait_with_output().unwrap();
    let (said, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), said.as_ref(), errors.as_ref()), (Some(4), "seen\n", ""));
}

#[test]
fn names_that_a_killed_rename_has_left_are_free() {
    let test = world();
    let id = test.rbuild(&["create", "--name", "c1", "busybox"]).ok();
    for name in ["c2", "c3"] {
        test.shell(&format!("ln -s {} $RBUILD_ROOT/containers/names/{name}", id.trim()));
    }
    test.rbuild(&["rename", "c1", "c2"]).succeeded();
    test.rbuild(&["create", "--name", "c3", "busybox"]).succeeded();
    let taken = test.rbuild(&["rename", "c3", "c2"]);
    assert!(taken.failed(1).contains("The container name \"/c2\" is already in use"), "{taken}");
    assert_eq!(shown(&test, &id[..12], "{{.Name}}"), "/c2");
    assert_ne!(shown(&test, "c3", "{{.Id}}"), id.trim());
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

#[test]
fn what_follows_the_image_is_the_commands() {
    let test = world();
    let said = run(&test, &["--rm", "--entrypoint", "sh", "busybox", "-c", "echo \"$0\"", "--rm"]);
    assert_eq!(said.ok(), "--rm\n");
    // What is attached to an option in front of it is still read.
    let said = run(&test, &["--rm", "-eA=1", "-w/etc", "busybox", "sh", "-c", "echo $A $PWD"]);
    assert_eq!(said.ok(), "1 /etc\n");
    let refused = run(&test, &["--nosuch", "busybox"]);
    assert!(refused.failed(125).contains("--nosuch"), "{refused}");
    assert!(
        run(&test, &["--rm"]).failed(1).contains("\"rbuild run\" requires at least 1 argument")
    );
    test.rbuild(&["create", "--name", "c1", "busybox", "--name", "c2"]).ok();
    assert_eq!(shown(&test, "c1", "{{join .Config.Cmd \" \"}}"), "--name c2");
}

#[test]
fn switches_take_values_and_options_may_come_twice() {
    let test = world();
    run(&test, &["--rm=false", "--name", "no", "--name", "c1", "busybox", "true"]).succeeded();
    assert_eq!(shown(&test, "c1", "{{.HostConfig.AutoRemove}}"), "false");
    test.rbuild(&["rm", "-f=true", "c1"]).ok();
    let said = run(&test, &["--rm", "--rm=true", "-d=false", "-ti=false", "busybox", "tty"]);
    assert_eq!(said.ok().trim_end(), "/dev/pts/0");
    let refused = run(&test, &["--rm=perhaps", "busybox", "true"]);
    assert!(refused.failed(125).contains("perhaps"), "{refused}");
}

#[test]
fn all_who_start_it_at_once_succeed() {
    let test = world();
    for _ in 0..5 {
        test.rbuild(&["create", "--name", "c1", "busybox", "sleep", "600"]).ok();
        let start = || test.command(&["start", "c1"]).stdout(Stdio::null()).spawn().unwrap();
        let many: Vec<_> = (0..4).map(|_| start()).collect();
        for mut child in many {
            assert!(child.wait().unwrap().success());
        }
        test.rbuild(&["rm", "-f", "c1"]).ok();
    }
}

#[test]
fn what_is_refused_leaves_no_container() {
    let test = world();
    for (arguments, said) in [
        (&["--rm", "--detach-keys", "foo", "busybox", "true"][..], "invalid detach keys"),
        (&["--uts", "host", "-h", "foo", "busybox", "true"], "hostname and the UTS mode"),
        (
            &["--health-cmd", "x", "--health-interval", "1us", "busybox", "true"],
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        (
            &["--rm", "-v", "/tmp:/etc/passwd", "busybox", "true"],
            "the source is a directory, the target a file",
        ),
        (&["--link", "nosuch", "busybox", "true"], "No such container: nosuch"),
        (&["--link", "a:", "busybox", "true"], "bad format for links"),
        (&["--isolation", "hyperv", "busybox"], "\"hyperv\" - linux only supports 'default'"),
        (&["--storage-opt", "size=1G", "busybox"], "--storage-opt size is not supported"),
        (&["--storage-opt", "foo=1", "busybox"], "Unknown option foo"),
        (&["--storage-opt", "foo", "busybox"], "invalid storage option"),
        (&["--cpu-rt-runtime", "1000", "busybox"], "leave out --cpu-rt-runtime"),
        (
            &["--cpu-rt-runtime", "95000", "--cpu-rt-period", "10", "busybox"],
            "cpu real-time runtime cannot be higher than cpu real-time period",
        ),
        (&["--kernel-memory", "x", "busybox"], "invalid size: 'x'"),
        (
            &["-m", "-5", "busybox"],
            "invalid argument \"-5\" for \"-m, --memory\" flag: invalid size",
        ),
        (&["--memory-swap", "-5m", "busybox"], "\"-5m\" for \"--memory-swap\" flag: invalid size"),
        (&["--shm-size", "-1", "busybox"], "invalid size: '-1'"),
        (&["--cpu-shares", "-1", "busybox"], "invalid CPU shares"),
        (&["--cpu-period", "-1", "busybox"], "CPU cfs period can not be less than 1ms"),
        (&["--cpus", "-1", "busybox"], "range of CPUs is from 0.01"),
        (&["--blkio-weight", "-5", "busybox"], "invalid value '-5' for '--blkio-weight"),
        (&["-e", "=a", "busybox"], "invalid argument \"=a\" for \"-e, --env\" flag"),
        (&["--runtime", "foo", "busybox"], "unknown or invalid runtime name: foo"),
        (&["--name", "/", "busybox"], "Invalid container name (/)"),
        (
            &["--log-driver", "none", "--log-opt", "max-size=1", "busybox"],
            "invalid logging opts for driver none",
        ),
        (
            &["--log-driver", "local", "--log-opt", "tag=x", "busybox"],
            "unknown log opt 'tag' for log driver local",
        ),
        (&["--log-opt", "foo=1", "busybox"], "unknown log opt 'foo' for json-file log driver"),
        (
            &["--rm", "-v", "data:/proc/acpi", "busybox"],
            "\"/proc/acpi\" cannot be mounted because it is inside /proc",
        ),
        (&["--rm", "--tmpfs", "/proc", "busybox"], "because it is not of type proc"),
        (&["--rm", "--mount", "type=tmpfs,dst=/proc/x", "busybox"], "it is inside /proc"),
    ] {
        let refused = run(&test, arguments);
        assert!(refused.failed(125).contains(said), "{refused}");
    }
    assert_eq!(test.rbuild(&["ps", "-aq"]).ok(), "");
    // What is not there is no failure for `rm -f`, but it was not removed either.
    let gone = test.rbuild(&["rm", "-f", "nosuch"]);
    assert_eq!(gone.ok(), "");
}

#[test]
fn an_image_s_volumes_and_links_do_not_lead_into_proc() {
    let test = Test::of(
        "FROM busybox\nRUN ln -s /proc /kernel && ln -s proc/sys /knobs\nVOLUME /kernel/irq\n",
    );
    test.rbuild(&["build", "-t", "sly", "."]).succeeded();
    let refused = run(&test, &["--rm", "sly", "true"]);
    let words = "\"/proc/irq\" cannot be mounted because it is inside /proc";
    assert!(refused.failed(125).contains(words), "{refused}");
    test.write("-- Dockerfile\nFROM busybox\nRUN ln -s /proc /kernel\nVOLUME /proc\n");
    test.rbuild(&["build", "-t", "open", "."]).succeeded();
    for arguments in [&["open", "true"][..], &["-v", "data:/kernel", "open", "true"]] {
        let refused = run(&test, &[&["--rm"], arguments].concat());
        assert!(refused.failed(125).contains("it is not of type proc"), "{refused}");
    }
    assert_eq!(test.rbuild(&["ps", "-aq"]).ok(), "");
    // What docker allows.
    test.shell("echo '7.00 7.00' > uptime");
    let emulated = format!("{}:/proc/uptime", test.context().join("uptime").display());
    let said = run(&test, &["--rm", "-v", &emulated, "busybox", "cat", "/proc/uptime"]);
    assert_eq!(said.ok(), "7.00 7.00\n");
    run(&test, &["--rm", "-v", "/proc:/proc", "--runtime", "runc", "busybox", "true"]).succeeded();
}

#[test]
fn faults_of_who_types_end_as_with_docker() {
    let test = world();
    run(&test, &["-d", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
    for (line, code, said) in [
        (&["create"][..], 1, "\"rbuild create\" requires at least 1 argument."),
        (&["exec", "c1"], 1, "\"rbuild exec\" requires at least 2 arguments."),
        (&["wait"], 1, "\"rbuild wait\" requires at least 1 argument."),
        (&["wait", "--nosuch"], 125, "--nosuch"),
        (&["create", "-m", "-1", "busybox"], 125, "invalid size: '-1'"),
        (&["exec", "-u", "nosuch", "c1", "true"], 126, "unable to find user nosuch"),
        (&["exec", "-w", "/nosuch", "c1", "true"], 126, "no such file or directory"),
        (&["exec", "-w", "etc", "c1", "true"], 126, "an absolute path"),
        (&["exec", "-e", "=a", "c1", "true"], 125, "invalid environment variable: =a"),
        (&["exec", "c1", "nosuch"], 127, "executable file not found"),
        (&["exec", "c1", "/etc/passwd"], 126, "permission denied"),
        (&["exec", "nosuch", "true"], 1, "No such container: nosuch"),
    ] {
        let refused = test.rbuild(line);
        assert!(refused.failed(code).contains(said), "{line:?}: {refused}");
    }
    test.rbuild(&["rm", "-f", "c1"]).ok();
}

#[test]
fn force_removes_what_others_start() {
    let test = world();
    for round in 0..15 {
        test.rbuild(&["create", "--name", "c1", "--network", "none", "busybox", "sleep", "600"])
            .ok();
        let verbs = [&["start", "c1"][..], &["restart", "-t", "0", "c1"], &["start", "c1"]];
        let quiet = |line: &&[&str]| {
            let mut command = test.command(line);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let others: Vec<_> = verbs.iter().map(quiet).collect();
        std::thread::sleep(Duration::from_millis(round * 4));
        test.rbuild(&["rm", "-f", "c1"]).succeeded();
        for mut other in others {
            other.wait().unwrap();
        }
        assert_eq!(test.rbuild(&["ps", "-aq"]).ok(), "", "round {round}");
    }
}

#[test]
fn nobody_else_looks_into_containers() {
    let test = world();
    run(&test, &["--name", "c1", "-e", "PASSWORD=x", "busybox", "true"]).succeeded();
    let mode = test.shell("stat -c %a \"$RBUILD_ROOT/containers\"");
    assert_eq!(mode.trim(), "700");
}

#[test]
fn a_linked_container_is_known_by_its_alias() {
    let test = world();
    test.rbuild(&["create", "--name", "db", "busybox", "sleep", "600"]).ok();
    let link = ["run", "--rm", "--link", "db:store", "busybox", "ping", "-c", "1", "store"];
    let refused = test.rbuild(&link);
    assert!(refused.failed(125).contains("cannot link to a non running container: /db"));
    test.rbuild(&["start", "db"]).ok();
    assert!(test.rbuild(&link).ok().contains("1 packets received"));
}

#[test]
fn a_full_disk_does_not_hide_how_it_ended() {
    let test = world();
    let base = need::base_tar("busybox");
    let told = test.unshared(&format!(
        "mkdir full; truncate -s 40M full.img; mkfs.ext4 -qF full.img
        mount -o loop full.img full; export RBUILD_ROOT=\"$PWD/full/store\"
        $RBUILD import '{base}' busybox >/dev/null
        $RBUILD run -d --name c1 --network none busybox \\
            sh -c 'trap \"exit 3\" TERM; echo ready; sleep 600 & wait' >/dev/null
        until $RBUILD logs c1 | grep -q ready; do sleep 0.1; done
        for size in 1M 512; do dd if=/dev/zero of=full/fill$size bs=$size 2>/dev/null || true; done
        $RBUILD stop -t 60 c1 >/dev/null
        $RBUILD inspect -f '{{{{.State.Status}}}} {{{{.State.ExitCode}}}} {{{{.State.Error}}}}' c1
        rm full/fill*; $RBUILD rm c1 >/dev/null",
        base = base.display(),
    ));
    assert_eq!(told.trim(), "exited 3");
}

#[test]
fn who_shares_a_network_knows_its_names() {
    let test = world();
    test.rbuild(&["network", "create", "net1"]).ok();
    for name in ["c1", "c2"] {
        let detached =
            ["run", "-d", "--network", "net1", "--name", name, "busybox", "sleep", "600"];
        test.rbuild(&detached).ok();
    }
    let beside = |command: &str| {
        let share = ["run", "--rm", "--network", "container:c1", "busybox", "sh", "-c", command];
        test.rbuild(&share).ok()
    };
    let files = "hostname; cat /etc/hosts /etc/resolv.conf";
    assert_eq!(beside(files), test.rbuild(&["exec", "c1", "sh", "-c", files]).ok());
    assert!(beside("ping -c 1 c2").contains("1 packets received"));
    let named = ["run", "-h", "x", "--network", "container:c1", "busybox", "true"];
    let refused = test.rbuild(&named);
    assert!(refused.failed(125).contains("hostname and the network mode"), "{refused}");
}

#[test]
fn whoever_has_killed_it_finds_it_ended() {
    let test = world();
    for _ in 0..5 {
        run(&test, &["-d", "--rm=false", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
        test.rbuild(&["kill", "c1"]).ok();
        assert_eq!(shown(&test, "c1", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
        test.rbuild(&["rm", "c1"]).ok();
    }
}

#[test]
fn signals_with_a_meaning_of_their_own_reach_the_program() {
    let test = world();
    let script = "trap 'echo told; exit 9' USR1; echo ready; while :; do sleep 0.05; done";
    let arguments = ["run", "--network", "none", "--name", "c1", "busybox", "sh", "-c", script];
    let child = test.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    soon("it is ready", || test.rbuild(&["logs", "c1"]).stdout.starts_with(b"ready"));
    // What is between us and the program only passes on what asks it to end.
    let own = format!("/proc/{0}/task/{0}/children", child.id());
    let children = std::fs::read_to_string(own).unwrap();
    let target = children.split_whitespace().next().map_or(child.id().to_string(), str::to_owned);
    test.shell(&format!("kill -USR1 {target}"));
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(9));
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "ready\ntold\n");
}

#[test]
fn a_variable_that_is_only_named_and_is_not_set_here_is_taken_from_the_image() {
    let test = Test::empty();
    test.import("busybox");
    test.file("Dockerfile", "FROM busybox\nENV A=image B=image\n");
    test.build(&[]);
    let env = |options: &[&str]| {
        let line = [&["run", "--rm", "--network", "none"], options, &["test", "env"]].concat();
        let shown = test.rbuild_with(&line, &[("HERE", "mine")], None).ok();
        let ours = |line: &&str| ["A=", "B=", "HERE="].iter().any(|name| line.starts_with(name));
        let mut ours: Vec<_> = shown.lines().filter(ours).collect();
        ours.sort_unstable();
        ours.join(" ")
    };
    assert_eq!(env(&[]), "A=image B=image");
    assert_eq!(env(&["-e", "A", "-e", "HERE"]), "B=image HERE=mine");
}

#[test]
fn a_terminal_is_not_given_the_input_of_a_file() {
    let test = world();
    test.rbuild(&["run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "300"])
        .succeeded();
    for line in [
        &["run", "-it", "--name", "other", "busybox", "true"][..],
        &["run", "-t", "-a", "stdin", "--name", "other", "busybox", "true"],
        &["exec", "-it", "web", "true"],
    ] {
        let outcome = test.rbuild(line);
        assert!(outcome.failed(1).contains("the input device is not a TTY"), "{line:?}: {outcome}");
    }
    assert_eq!(test.rbuild(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "web\n");
    let missing = test.rbuild(&["exec", "-it", "missing", "true"]);
    assert!(missing.failed(1).contains("No such container: missing"), "{missing}");
    run(&test, &["-t", "busybox", "true"]).succeeded();
    test.rbuild(&["run", "-dit", "--network", "none", "busybox", "true"]).succeeded();
    for (name, options) in [("typed", "-dit"), ("shown", "-dt")] {
        run(&test, &[options, "--name", name, "busybox", "sleep", "300"]).succeeded();
        let refused = test.rbuild_with(&["attach", name], &[], Some(b"x\n"));
        assert!(refused.failed(1).contains("the input device is not a TTY"), "{refused}");
    }
    test.rbuild(&["stop", "-t", "0", "typed"]).succeeded();
    let stopped = test.rbuild(&["attach", "typed"]);
    assert!(stopped.failed(1).contains("cannot attach to a stopped container"), "{stopped}");
    let shown = test.command(&["attach", "--no-stdin", "shown"]).stdin(Stdio::null()).spawn();
    soon("it is attached", || {
        let until = jiff::Timestamp::now().to_string();
        let told = ["events", "--since", "1h", "--until", &until, "--filter", "event=attach"];
        test.rbuild(&told).ok().contains("name=shown")
    });
    test.rbuild(&["kill", "shown"]).succeeded();
    assert_eq!(shown.unwrap().wait().unwrap().code(), Some(137));
}

#[test]
fn a_monitor_that_does_not_answer_keeps_nobody_from_removing_by_force() {
    let test = world();
    test.rbuild(&["run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "300"])
        .succeeded();
    let pids = shown(&test, "web", "{{.State.Monitor}} {{.State.Pid}}");
    let (monitor, program) = pids.split_once(' ').unwrap();
    test.shell(&format!("kill -STOP {monitor}"));
    let removed = test.rbuild(&["rm", "-f", "web"]);
    assert_eq!(removed.ok(), "web\n");
    let said = "WARNING: the monitor of container web did not answer and was killed";
    assert!(removed.stderr.contains(said), "{removed}");
    for pid in [monitor, program] {
        let stat = format!("/proc/{pid}/stat");
        soon("both have ended", || {
            std::fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "))
        });
    }
    assert_eq!(test.rbuild(&["ps", "-aq"]).ok(), "");
}

#[test]
fn a_volume_that_was_made_for_nobody_is_pruned() {
    let test = world();
    // Whoever is killed between making the volume and the container leaves this.
    let lost = test.rbuild(&["create", "-v", "/anon", "busybox", "true"]).ok();
    test.shell(&format!("rm -r \"$RBUILD_ROOT\"/containers/{}", lost.trim()));
    test.rbuild(&["create", "--name", "kept", "-v", "/anon", "busybox", "true"]).succeeded();
    let kept = shown(&test, "kept", "{{(index .Mounts 0).Name}}");
    test.rbuild(&["volume", "prune", "-f"]).succeeded();
    assert_eq!(test.rbuild(&["volume", "ls", "-q"]).ok().trim(), kept);
}

#[test]
fn who_was_killed_for_want_of_memory_is_known() {
    let test = world();
    let eats = ["--name", "eats", "-m", "24m", "busybox", "tail", "/dev/zero"];
    run(&test, &eats).failed(137);
    assert_eq!(shown(&test, "eats", "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137");
    run(&test, &["--name", "killed", "busybox", "sh", "-c", "exit 137"]).failed(137);
    assert_eq!(shown(&test, "killed", "{{.State.OOMKilled}}"), "false");
}
