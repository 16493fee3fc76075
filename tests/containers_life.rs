//! What containers do while nobody looks: their health, what they tell of themselves, what is left
//! when a monitor or the machine goes down, and what a monitor costs.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cache::Store;
use engine::containers::follow::{Follower, Next, Range};
use engine::containers::protocol::Request;
use engine::containers::{Client, Containers, Verdict};
use rustix::event::{PollFd, PollFlags};

use crate::support::Test;
use crate::support::containers::{run, shown, soon, soon_is, world};

/// What has happened, but for when and to whom.
fn events(test: &Test, arguments: &[&str]) -> Vec<String> {
    let format = "{{.Type}} {{.Action}}";
    let first = ["events", "--since", "1h", "--until", "0s", "--format", format];
    let told = test.rbuild(&[&first[..], arguments].concat()).ok();
    told.lines().map(str::to_owned).collect()
}

fn kill_monitor(test: &Test, name: &str) {
    let monitor = shown(test, name, "{{.State.Monitor}}");
    let pid = shown(test, name, "{{.State.Pid}}");
    assert!(Command::new("kill").args(["-9", &monitor]).status().unwrap().success());
    soon("the program ends with its monitor", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_err()
    });
}

/// Has the store believe that the machine was started since.
fn reboot(test: &Test) {
    test.shell(
        r#"printf another >"$RBUILD_ROOT/run/boot"
        for state in "$RBUILD_ROOT"/containers/*/state.json; do
            sed -i 's/"boot":"[^"]*"/"boot":"another"/' "$state"
        done"#,
    );
}

#[test]
fn a_container_becomes_healthy_and_unhealthy() {
    let test = world();
    let check = "echo seen >&2; cat /well";
    let flags = ["--health-interval", "100ms", "--health-retries", "2", "--health-cmd", check];
    let arguments = [&["-d", "--name", "c1"], &flags[..], &["busybox", "sleep", "600"]].concat();
    run(&test, &arguments).succeeded();
    soon_is(&test, "c1", "{{.State.Health.Status}}", "unhealthy");
    test.rbuild(&["exec", "c1", "sh", "-c", "echo yes >/well"]).succeeded();
    soon_is(&test, "c1", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}", "healthy 0");
    soon("only five are kept", || shown(&test, "c1", "{{len .State.Health.Log}}") == "5");
    soon("all are well", || !shown(&test, "c1", "{{json .State.Health.Log}}").contains("No such"));
    let last =
        shown(&test, "c1", "{{with index .State.Health.Log 4}}{{.ExitCode}} {{.Output}}{{end}}");
    assert_eq!(last, "0 seen\nyes");
    let told = events(&test, &["--filter", "event=health_status"]);
    assert_eq!(told, ["container health_status: unhealthy", "container health_status: healthy"]);
    let listed = test.rbuild(&["ps", "--format", "{{.Status}}"]).ok();
    assert!(listed.trim().ends_with("(healthy)"), "{listed}");
    test.rbuild(&["stop", "-t", "0", "c1"]).succeeded();
    assert_eq!(shown(&test, "c1", "{{.State.Health.Status}}"), "unhealthy");
}

#[test]
fn a_probe_that_takes_too_long_is_killed() {
    let test = world();
    let flags = ["--health-interval", "50ms", "--health-timeout", "300ms", "--health-retries", "1"];
    let check = ["--health-cmd", "echo began; sleep 77"];
    let arguments =
        [&["-d", "--name", "c1"], &flags[..], &check[..], &["busybox", "sleep", "600"]].concat();
    run(&test, &arguments).succeeded();
    soon_is(&test, "c1", "{{.State.Health.Status}}", "unhealthy");
    let first =
        shown(&test, "c1", "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}");
    assert_eq!(first, "-1 Health check exceeded timeout (300ms): began");
    // A probe that runs does not keep the container from ending.
    let begun = Instant::now();
    test.rbuild(&["rm", "-f", "c1"]).succeeded();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_paused_container_is_not_probed() {
    let test = world();
    let flags = ["--health-interval", "50ms", "--health-cmd", "true"];
    let arguments = [&["-d", "--name", "c1"], &flags[..], &["busybox", "sleep", "600"]].concat();
    run(&test, &arguments).succeeded();
    soon_is(&test, "c1", "{{.State.Health.Status}}", "healthy");
    test.rbuild(&["pause", "c1"]).succeeded();
    let last = || shown(&test, "c1", "{{json .State.Health.Log}}");
    let before = last();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(last(), before);
    test.rbuild(&["unpause", "c1"]).succeeded();
    soon("it is probed again", || last() != before);
}

#[test]
fn the_start_period_forgives() {
    let test = world();
    let flags = [
        "--health-interval",
        "50ms",
        "--health-start-period",
        "2s",
        "--health-start-interval",
        "50ms",
        "--health-retries",
        "1",
        "--health-cmd",
        "false",
    ];
    let arguments = [&["-d", "--name", "c1"], &flags[..], &["busybox", "sleep", "600"]].concat();
    run(&test, &arguments).succeeded();
    soon("probes failed", || shown(&test, "c1", "{{len .State.Health.Log}}").as_str() >= "2");
    assert_eq!(shown(&test, "c1", "{{.State.Health.Status}}"), "starting");
    soon_is(&test, "c1", "{{.State.Health.Status}}", "unhealthy");
}

fn store(test: &Test) -> Store {
    Store::open(&test.outside("store")).unwrap()
}

/// Begins to wait for a container to become healthy.
fn await_health(test: &Test, name: &str) -> Client {
    let store = store(test);
    let containers = Containers::open(&store).unwrap();
    let id = containers.find(name).unwrap();
    Client::connect(&containers, &id, Request::Healthy).unwrap().expect("it runs")
}

fn verdict(test: &Test, name: &str) -> Verdict {
    await_health(test, name).healthy().unwrap()
}

/// What a container has changed: a file in its own layer.
fn changed(test: &Test, container: &str, file: &str) -> PathBuf {
    let id = shown(test, container, "{{.Id}}");
    test.outside("store").join("containers").join(id).join("upper").join(file)
}

#[test]
fn who_waits_for_health_hears_of_it_early() {
    let test = world();
    test.file("shared/none", "");
    let shared = format!("{}:/shared", test.context().join("shared").display());
    let check = "echo probe >>/probes; test -e /shared/well";
    let flags = ["-v", &shared, "--health-interval", "60s", "--health-cmd", check];
    let arguments = [&["-d", "--name", "c1"], &flags[..], &["busybox", "sleep", "600"]].concat();
    run(&test, &arguments).succeeded();
    let mut waiting = await_health(&test, "c1");
    let probes = changed(&test, "c1", "probes");
    let count = || std::fs::read_to_string(&probes).unwrap_or_default().lines().count();
    soon("it is probed often", || count() >= 3);
    test.file("shared/well", "");
    let since = Instant::now();
    assert_eq!(waiting.healthy().unwrap(), Verdict::Healthy);
    // A pause is 1 s at most.
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    // Those that failed are forgotten.
    let health =
        "{{.State.Health.Status}} {{.State.Health.FailingStreak}} {{len .State.Health.Log}}";
    assert_eq!(shown(&test, "c1", health), "healthy 0 1");
    // Who comes late need not wait.
    let before = count();
    assert_eq!(verdict(&test, "c1"), Verdict::Healthy);
    assert_eq!(count(), before);
}

#[test]
fn there_are_no_extra_probes_when_nobody_waits() {
    let test = world();
    let flags = ["--health-interval", "60s", "--health-cmd", "echo probe >>/probes; false"];
    let arguments = [&["-d", "--name", "c1"], &flags[..], &["busybox", "sleep", "600"]].concat();
    run(&test, &arguments).succeeded();
    let probes = changed(&test, "c1", "probes");
    let count = || std::fs::read_to_string(&probes).unwrap_or_default().lines().count();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(count(), 0);
    let waiting = await_health(&test, "c1");
    soon("it is probed", || count() >= 3);
    drop(waiting);
    let (mut before, mut since) = (count(), Instant::now());
    soon("probes come to an end", || {
        if count() != before {
            (before, since) = (count(), Instant::now());
        }
        since.elapsed() > Duration::from_millis(1500)
    });
    assert_eq!(
        shown(&test, "c1", "{{.State.Health.Status}} {{len .State.Health.Log}}"),
        "starting 0"
    );
}

#[test]
fn who_waits_for_health_hears_that_there_is_none() {
    let test = world();
    let check = ["--health-cmd", "echo broken; false"];
    let flags = ["--health-interval", "300ms", "--health-retries", "2"];
    let arguments =
        [&["-d", "--name", "c1"], &flags[..], &check[..], &["busybox", "sleep", "600"]].concat();
    run(&test, &arguments).succeeded();
    let unhealthy = Verdict::Unhealthy("container c1 is unhealthy: broken".to_owned());
    assert_eq!(verdict(&test, "c1"), unhealthy);
    assert_eq!(verdict(&test, "c1"), unhealthy);
    let slow = ["--health-timeout", "300ms", "--health-cmd", "sleep 77"];
    let arguments =
        [&["-d", "--name", "s1"], &flags[..], &slow[..], &["busybox", "sleep", "600"]].concat();
    run(&test, &arguments).succeeded();
    let why = "container s1 is unhealthy: Health check exceeded timeout (300ms)";
    assert_eq!(verdict(&test, "s1"), Verdict::Unhealthy(why.to_owned()));
    run(&test, &["-d", "--name", "n1", "busybox", "sleep", "600"]).succeeded();
    let none = "container n1 has no healthcheck configured";
    assert_eq!(verdict(&test, "n1"), Verdict::Unhealthy(none.to_owned()));
}

#[test]
fn who_waits_for_health_hears_of_the_end() {
    let test = world();
    let check = ["--health-cmd", "false"];
    let begin = |name: &str, flags: &[&str], script: &str| {
        let first = ["-d", "--name", name];
        let last = ["busybox", "sh", "-c", script];
        run(&test, &[&first, flags, &check[..], &last].concat()).succeeded();
    };
    begin("c1", &[], "sleep 1; exit 7");
    assert_eq!(verdict(&test, "c1"), Verdict::Exited(7));
    begin("l1", &["--restart", "always"], "sleep 0.1; exit 3");
    let Verdict::Unhealthy(why) = verdict(&test, "l1") else { panic!("it never becomes healthy") };
    assert!(why.contains("restarting") && why.contains("exit code 3"), "{why}");
}

#[test]
fn who_waits_for_health_outwaits_a_restart() {
    let test = world();
    let flags = ["--restart", "always", "--health-cmd", "test -e /well"];
    let script = "test -e /again && touch /well && exec sleep 600; touch /again; sleep 1; exit 3";
    let arguments =
        [&["-d", "--name", "c1"], &flags[..], &["busybox", "sh", "-c", script]].concat();
    run(&test, &arguments).succeeded();
    assert_eq!(verdict(&test, "c1"), Verdict::Healthy);
    assert_eq!(shown(&test, "c1", "{{.RestartCount}}"), "1");
}

#[test]
fn a_container_that_waits_to_be_started_again_is_restarted_at_once() {
    let test = world();
    test.file("shared/none", "");
    let shared = format!("{}:/shared", test.context().join("shared").display());
    let script = "test -e /shared/well && exec sleep 600; exit 1";
    let flags = ["-d", "--name", "c1", "--restart", "always", "-v", &shared];
    run(&test, &[&flags[..], &["busybox", "sh", "-c", script]].concat()).succeeded();
    soon_is(&test, "c1", "{{.State.Status}} {{.RestartCount}}", "restarting 4");
    test.file("shared/well", "");
    test.rbuild(&["restart", "c1"]).succeeded();
    assert_eq!(shown(&test, "c1", "{{.State.Status}} {{.RestartCount}}"), "running 0");
}

/// Reads what a container prints until it has ended: the lines, and how it ended.
fn followed(mut follower: Follower, stop: PollFd<'_>) -> (String, Option<i32>) {
    let mut lines = String::new();
    loop {
        while let Some(line) = follower.next_line().unwrap() {
            lines += &line.text;
        }
        match follower.wait(stop.clone()).unwrap() {
            Next::More => {}
            Next::Over => return (lines, follower.exit()),
            Next::Stopped => return (lines + "stopped", follower.exit()),
        }
    }
}

#[test]
fn logs_are_followed_by_several_at_once() {
    let test = world();
    let script = "echo one; sleep 0.2; echo two >&2; exit $CODE";
    let create = ["create", "--network", "none"];
    let scripts = [("a1", "CODE=0", script), ("b1", "CODE=5", script)];
    let endless = ("e1", "CODE=0", "echo begun; sleep 600");
    for (name, code, script) in scripts.into_iter().chain([endless]) {
        let rest = ["--name", name, "-e", code, "busybox", "sh", "-c", script];
        test.rbuild(&[&create[..], &rest].concat()).succeeded();
    }
    let store = store(&test);
    let containers = Containers::open(&store).unwrap();
    let (wish, stop) = rustix::pipe::pipe().unwrap();
    let begin = |name: &str| {
        let id = containers.find(name).unwrap();
        // What is printed before it is followed is not lost.
        let mut follower = Follower::open(&containers, &id, Range::default()).unwrap();
        test.rbuild(&["start", name]).succeeded();
        follower.follow(&containers).unwrap();
        follower
    };
    let followers = ["a1", "b1", "e1"].map(begin);
    let found = std::thread::scope(|scope| {
        let stop_fd = PollFd::new(&wish, PollFlags::IN);
        let threads = followers.map(|it| {
            let stop = stop_fd.clone();
            scope.spawn(move || followed(it, stop))
        });
        let [first, second, endless] = threads;
        let ended = [first, second].map(|thread| thread.join().unwrap());
        drop(stop);
        [ended, [endless.join().unwrap(), Default::default()]].concat()
    });
    let printed = "one\ntwo\n".to_owned();
    // One that had ended before it could be followed has not told how.
    let code = |found: Option<i32>, expected| found.is_none_or(|code| code == expected);
    assert_eq!([&found[0].0, &found[1].0], [&printed, &printed]);
    assert!(code(found[0].1, 0) && code(found[1].1, 5), "{found:?}");
    assert_eq!(found[2], ("begun\nstopped".to_owned(), None));
}

#[test]
fn a_life_is_told_in_events() {
    let test = world();
    run(&test, &["--name", "c1", "--label", "tier=front", "busybox", "sh", "-c", "exit 3"])
        .failed(3);
    let told =
        test.rbuild(&["events", "--since", "1h", "--until", "0s", "--filter", "event=die"]).ok();
    let id = shown(&test, "c1", "{{.Id}}");
    let (time, rest) = told.trim().split_once(' ').unwrap();
    assert!(time.len() == 30 && time.ends_with('Z'), "{time}");
    let expected = format!(
        "container die {id} (execDuration=0, exitCode=3, image=busybox, name=c1, tier=front)"
    );
    assert_eq!(rest, expected);
    test.rbuild(&["rename", "c1", "d1"]).succeeded();
    test.rbuild(&["rm", "d1"]).succeeded();
    let own = events(&test, &["--filter", "type=container"]);
    let actions = ["create", "attach", "start", "die", "rename", "destroy"];
    assert_eq!(own, actions.map(|action| format!("container {action}")));
    run(&test, &["-d", "--name", "e1", "-v", "v1:/v", "busybox", "sleep", "600"]).succeeded();
    test.rbuild(&["pause", "e1"]).succeeded();
    test.rbuild(&["unpause", "e1"]).succeeded();
    test.rbuild(&["exec", "e1", "sh", "-c", "exit 4"]).failed(4);
    test.rbuild(&["stop", "-t", "0", "e1"]).succeeded();
    test.rbuild(&["rm", "e1"]).succeeded();
    test.rbuild(&["volume", "rm", "v1"]).succeeded();
    test.rbuild(&["tag", "busybox", "box"]).succeeded();
    let all = events(&test, &[]);
    let own: Vec<&str> =
        all.iter().skip_while(|it| *it != "volume create").map(String::as_str).collect();
    assert_eq!(
        own,
        [
            "volume create",
            "container create",
            "volume mount",
            "container start",
            "container pause",
            "container unpause",
            "container exec_create: sh -c exit 4",
            "container exec_start: sh -c exit 4",
            "container exec_die",
            "container kill",
            "container kill",
            "volume unmount",
            "container die",
            "container stop",
            "container destroy",
            "volume destroy",
            "image tag",
        ]
    );
}

#[test]
fn events_are_followed() {
    let test = world();
    let mut follower = test
        .command(&["events", "--filter", "event=start", "--format", "{{.Actor.Attributes.name}}"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let watched = follower.id();
    soon("it watches", || {
        // `timeout` is in between.
        let children = format!("/proc/{watched}/task/{watched}/children");
        let child = std::fs::read_to_string(children).unwrap_or_default();
        let Ok(entries) = std::fs::read_dir(format!("/proc/{}/fd", child.trim())) else {
            return false;
        };
        entries.flatten().any(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("inotify"))
        })
    });
    for name in ["first", "second"] {
        run(&test, &["--rm", "--name", name, "busybox", "true"]).succeeded();
        assert_eq!(lines.next().unwrap().unwrap(), name);
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn limits_and_the_restart_policy_are_updated() {
    let test = world();
    run(&test, &["-d", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
    let update = test.rbuild(&["update", "--pids-limit", "20", "--restart", "on-failure:3", "c1"]);
    assert_eq!(update.ok(), "c1\n");
    let policy = "{{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(shown(&test, "c1", policy), "20 on-failure 3");
    let bomb = "i=0; while [ $i -lt 30 ]; do sleep 600 >/dev/null 2>&1 & i=$((i+1)); done";
    let bombed = test.rbuild(&["exec", "c1", "sh", "-c", bomb]);
    assert!(bombed.stderr.contains("can't fork"), "{bombed}");
    let nothing = test.rbuild(&["update", "c1"]);
    assert!(nothing.failed(1).contains("one or more flags"), "{nothing}");
    run(&test, &["-d", "--rm", "--name", "r1", "busybox", "sleep", "600"]).succeeded();
    let refused = test.rbuild(&["update", "--restart", "always", "r1"]);
    assert!(refused.failed(1).contains("AutoRemove is enabled"), "{refused}");
    let fill = "dd if=/dev/zero of=/t/full bs=1M count=20; echo filled; exec sleep 600";
    let flags = ["-d", "--name", "m1", "-m", "64m", "--tmpfs", "/t", "busybox", "sh", "-c", fill];
    run(&test, &flags).succeeded();
    soon("the memory is used", || test.rbuild(&["logs", "m1"]).ok().contains("filled"));
    let used = test.rbuild(&["update", "-m", "6m", "--memory-swap", "6m", "m1"]);
    assert!(used.failed(1).contains("the container uses more than that"), "{used}");
}

#[test]
fn a_killed_monitor_is_noticed_and_cleaned_up_after() {
    let test = world();
    let flags = ["--network", "bridge", "--pids-limit", "50"];
    let arguments =
        [&["run", "-d", "--name", "c1"], &flags[..], &["busybox", "sleep", "600"]].concat();
    test.rbuild(&arguments).succeeded();
    test.rbuild(&[
        "run",
        "-d",
        "--rm",
        "--network",
        "none",
        "--name",
        "r1",
        "busybox",
        "sleep",
        "600",
    ])
    .succeeded();
    let cgroup = test.shell(
        r#"sed -n 's/.*"cgroups":{"pids":"\([^"]*\)".*/\1/p' "$RBUILD_ROOT"/containers/*/state.json"#,
    );
    assert!(std::path::Path::new(cgroup.trim()).exists(), "{cgroup}");
    kill_monitor(&test, "c1");
    kill_monitor(&test, "r1");
    let listed = test.rbuild(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok();
    assert!(listed.contains("c1 exited"), "{listed}");
    assert!(!std::path::Path::new(cgroup.trim()).exists(), "{cgroup}");
    assert_eq!(test.rbuild(&["ps", "-aq", "--filter", "name=r1"]).ok(), "");
    assert_eq!(shown(&test, "c1", "{{.State.ExitCode}} {{.State.Pid}}"), "137 0");
    let status = test.rbuild(&["ps", "-a", "--format", "{{.Status}}"]).ok();
    assert!(status.starts_with("Exited (137) ") && status.ends_with(" ago\n"), "{status}");
    let told = events(&test, &["--filter", "event=die", "--filter", "container=c1"]);
    assert_eq!(told, ["container die"]);
    // It is written down: there is no more to do.
    assert_eq!(test.rbuild(&["system", "reconcile"]).ok(), "");
    test.rbuild(&["start", "c1"]).succeeded();
    assert_eq!(shown(&test, "c1", "{{.State.Status}}"), "running");
}

#[test]
fn what_ran_comes_up_with_the_machine() {
    let test = world();
    for (name, policy) in [
        ("a1", "always"),
        ("u1", "unless-stopped"),
        ("s1", "unless-stopped"),
        ("n1", "no"),
        ("t1", "always"),
    ] {
        run(&test, &["-d", "--name", name, "--restart", policy, "busybox", "sleep", "600"])
            .succeeded();
    }
    test.rbuild(&["stop", "-t", "0", "s1", "t1"]).succeeded();
    ["a1", "u1", "n1"].iter().for_each(|name| kill_monitor(&test, name));
    reboot(&test);
    let listed = test.rbuild(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok();
    let mut states: Vec<&str> = listed.lines().collect();
    states.sort_unstable();
    assert_eq!(states, ["a1 running", "n1 exited", "s1 exited", "t1 running", "u1 running"]);
    assert_eq!(shown(&test, "n1", "{{.State.ExitCode}}"), "255");
    let status = test.rbuild(&["ps", "-a", "--filter", "name=n1", "--format", "{{.Status}}"]).ok();
    assert!(status.starts_with("Exited (255) ") && status.ends_with(" ago\n"), "{status}");
    test.rbuild(&["stop", "-t", "0", "a1"]).succeeded();
    let listed = test.rbuild(&["ps", "--format", "{{.Names}}"]).ok();
    assert!(!listed.contains("a1"), "it was stopped in this boot: {listed}");
}

#[test]
fn a_container_is_entered_from_the_host() {
    let test = world();
    let flags = ["--cap-drop", "ALL", "--user", "1000", "--hostname", "inside"];
    let arguments = [&["-d", "--name", "c1"], &flags[..], &["busybox", "sleep", "600"]].concat();
    run(&test, &arguments).succeeded();
    let pid = test.rbuild(&["pid", "c1"]).ok();
    assert_eq!(pid.trim(), shown(&test, "c1", "{{.State.Pid}}"));
    let script = "id -u; hostname; grep -E 'CapEff|Seccomp:' /proc/self/status; exit 6";
    let entered = test.rbuild(&["enter", "c1", "sh", "-c", script]);
    assert_eq!(entered.code, Some(6), "{entered}");
    let printed = String::from_utf8_lossy(&entered.stdout).into_owned();
    let all = std::fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap().to_owned();
    let expected = format!("0\ninside\nCapEff:\t{all}\nSeccomp:\t0\n");
    assert_eq!(printed, expected);
    test.rbuild(&["stop", "-t", "0", "c1"]).succeeded();
    assert!(test.rbuild(&["pid", "c1"]).failed(1).contains("is not running"));
}

/// The bytes of a process's memory that it shares with nobody, but for the program's own.
fn private_memory(pid: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let sum = |line: &str| line.split_whitespace().nth(1).and_then(|it| it.parse::<u64>().ok());
    text.lines().filter(|line| line.starts_with("Private_Dirty:")).filter_map(sum).sum::<u64>()
        * 1024
}

#[test]
fn an_idle_monitor_takes_little_memory() {
    let test = world();
    let flags = ["--health-interval", "50ms", "--health-cmd", "true"];
    let arguments = [&["-d", "--name", "c1"], &flags[..], &["busybox", "sleep", "600"]].concat();
    run(&test, &arguments).succeeded();
    soon_is(&test, "c1", "{{.State.Health.Status}}", "healthy");
    let bytes = private_memory(&shown(&test, "c1", "{{.State.Monitor}}"));
    assert!(bytes < 4 << 20, "{bytes}");
}

#[test]
fn fifty_idle_containers_take_little_memory() {
    let test = world();
    for _ in 0..50 {
        run(&test, &["-d", "busybox", "sleep", "600"]).succeeded();
    }
    let ids = test.rbuild(&["ps", "-q"]).ok();
    let mut shown = vec!["inspect", "--format", "{{.State.Monitor}} {{.State.Pid}}"];
    shown.extend(ids.lines());
    let processes = test.rbuild(&shown).ok();
    assert_eq!(processes.split_whitespace().count(), 100);
    let bytes: u64 = processes.split_whitespace().map(private_memory).sum();
    assert!(bytes < 250 << 20, "{bytes}");
}

#[test]
fn input_that_nobody_reads_ends_nothing() {
    let test = world();
    let script = "exec 0<&-; sleep 0.5; echo done; exit 4";
    let arguments =
        ["run", "-i", "--network", "none", "--name", "c1", "busybox", "sh", "-c", script];
    let input = vec![b'x'; 1 << 20];
    let found = test.rbuild_with(&arguments, &[], Some(&input));
    assert_eq!((found.code, found.stdout.as_slice()), (Some(4), &b"done\n"[..]), "{found}");
    assert_eq!(shown(&test, "c1", "{{.State.Status}} {{.State.ExitCode}}"), "exited 4");
}
