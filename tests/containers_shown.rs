//! What is shown of containers: the list, all that is known of one, what it printed, its processes, what it uses.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::Test;
use crate::support::containers::{shown, soon_is, world};

impl Test {
    /// Starts a container of busybox and returns its id.
    #[track_caller]
    fn started(&self, options: &[&str], command: &[&str]) -> String {
        let line = [&["run", "-d"], options, &["busybox"], command].concat();
        self.rbuild(&line).ok().trim().to_owned()
    }

    #[track_caller]
    fn listed(&self, options: &[&str], format: &str) -> Vec<String> {
        let line = [&["ps", "--format", format], options].concat();
        self.rbuild(&line).ok().lines().map(str::to_owned).collect()
    }
}

#[test]
fn containers_are_listed_with_what_they_do() {
    let test = world();
    let web = test.started(
        &["--name", "web", "--label", "tier=front", "-p", "127.0.0.1::80", "-v", "data:/data"],
        &["sleep", "300"],
    );
    test.rbuild(&["create", "--name", "idle", "--network", "none", "busybox", "true"]).succeeded();
    test.rbuild(&["run", "--name", "failed", "--network", "none", "busybox", "sh", "-c", "exit 3"])
        .failed(3);

    let table = test.rbuild(&["ps"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    let headings: Vec<&str> =
        lines[0].split("  ").map(str::trim).filter(|it| !it.is_empty()).collect();
    assert_eq!(
        headings,
        ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    );
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[1].starts_with(&web[..12]) && lines[1].ends_with("   web"), "{table}");
    assert!(
        lines[1].contains("busybox   \"sleep 300\"") && lines[1].contains("->80/tcp"),
        "{table}"
    );

    let all = test.listed(
        &["-a"],
        "{{.Names}}|{{.State}}|{{.Status}}|{{.Networks}}|{{.Mounts}}|{{.Label \"tier\"}}",
    );
    let [failed, idle, running] = all.as_slice() else { panic!("{all:?}") };
    assert!(
        failed.starts_with("failed|exited|Exited (3) ") && failed.ends_with(" ago|none||"),
        "{failed}"
    );
    assert_eq!(idle, "idle|created|Created|none||");
    assert!(
        running.starts_with("web|running|Up ") && running.ends_with("|bridge|data|front"),
        "{running}"
    );
    assert_eq!(test.rbuild(&["ps", "-q", "--no-trunc"]).ok().trim(), web);
    assert_eq!(
        test.listed(&[], "table {{.Names}}\\t{{.Label \"tier\"}}\\t{{.Labels}}"),
        ["NAMES     tier      LABELS", "web       front     tier=front"]
    );
    assert_eq!(test.listed(&["-l"], "{{.Names}}"), ["failed"]);
    assert_eq!(test.listed(&["-n", "2"], "{{.Names}}"), ["failed", "idle"]);
    let json = test.rbuild(&["ps", "--format", "json", "--no-trunc"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["ID"], &json["LocalVolumes"]), (&web.as_str().into(), &"1".into()));
    for (filters, expected) in [
        (&["status=exited"][..], "failed"),
        (&["status=created", "status=running"], "idle web"),
        (&["name=^/we", "label=tier"], "web"),
        (&["ancestor=busybox"], "web"),
        (&["volume=data"], "web"),
        (&["publish=80"], "web"),
        (&["network=bridge"], "web"),
        (&["since=failed"], ""),
    ] {
        let options: Vec<&str> = filters.iter().flat_map(|filter| ["-f", filter]).collect();
        assert_eq!(test.listed(&options, "{{.Names}}").join(" "), expected, "{filters:?}");
    }
    assert_eq!(test.listed(&["-a", "-f", "before=failed"], "{{.Names}}"), ["idle", "web"]);
    assert_eq!(test.listed(&["-a", "-f", "exited=3"], "{{.Names}}"), ["failed"]);

    test.rbuild(&["pause", "web"]).succeeded();
    assert!(test.listed(&[], "{{.Status}}")[0].ends_with(" (Paused)"));
    test.rbuild(&["unpause", "web"]).succeeded();
    test.rbuild(&["exec", "web", "sh", "-c", "head -c 5000 /dev/zero > /zeros"]).succeeded();
    let size = test.rbuild(&["ps", "-s"]).ok();
    assert!(
        size.lines().next().unwrap().ends_with("   SIZE") && size.contains("5kB (virtual "),
        "{size}"
    );
}

#[test]
fn a_container_whose_monitor_was_killed_is_known_to_have_ended() {
    let test = world();
    test.started(&["--name", "web", "--network", "none"], &["sleep", "300"]);
    let monitor = shown(&test, "web", "{{.State.Monitor}}");
    test.shell(&format!("kill -9 {monitor}"));
    soon_is(&test, "web", "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}", "exited 137 0");
    assert_eq!(test.listed(&[], "{{.Names}}"), [""; 0]);
    let status = test.listed(&["-a"], "{{.Status}}").join("\n");
    assert!(status.starts_with("Exited (137) ") && status.ends_with(" ago"), "{status}");
    let error = test.rbuild(&["top", "web"]);
    assert!(error.failed(1).contains("container web is not running"), "{error}");
    assert_eq!(test.rbuild(&["logs", "-f", "web"]).ok(), "");
}

#[test]
fn all_that_is_known_of_a_container_has_docker_s_shape() {
    let test = world();
    let id = test.started(
        &[
            "--name",
            "web",
            "-p",
            "127.0.0.1::80",
            "-v",
            "data:/data:ro",
            "-e",
            "A=b",
            "--hostname",
            "host",
        ],
        &["sleep", "300"],
    );
    let document = test.rbuild(&["inspect", "web"]).ok();
    let document: Value = serde_json::from_str(&document).unwrap();
    let web = &document[0];
    assert_eq!((&web["Id"], &web["Name"]), (&id.as_str().into(), &"/web".into()));
    assert_eq!((&web["Path"], &web["Args"]), (&"sleep".into(), &json!(["300"])));
    assert_eq!(web["Config"]["Hostname"], "host");
    assert_eq!(web["Config"]["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(web["HostConfig"]["Binds"], json!(["data:/data:ro"]));
    assert_eq!(
        (&web["Mounts"][0]["Type"], &web["Mounts"][0]["RW"]),
        (&"volume".into(), &false.into())
    );
    assert!(web["State"].get("Health").is_none() && web.get("SizeRw").is_none());
    let network = &web["NetworkSettings"];
    assert_eq!(network["Networks"]["bridge"]["IPAddress"], network["IPAddress"]);
    assert_eq!(network["SandboxKey"], format!("/proc/{}/ns/net", web["State"]["Pid"]));
    let port = network["Ports"]["80/tcp"][0]["HostPort"].as_str().unwrap();
    assert_eq!(test.rbuild(&["port", "web"]).ok(), format!("80/tcp -> 127.0.0.1:{port}\n"));
    assert_eq!(test.rbuild(&["port", "web", "80"]).ok(), format!("127.0.0.1:{port}\n"));
    let error = test.rbuild(&["port", "web", "80/udp"]);
    assert!(error.failed(1).contains("no public port '80/udp' published for web"), "{error}");

    // What the directories have is what the container sees.
    test.rbuild(&["exec", "web", "touch", "/made"]).succeeded();
    let data = &web["GraphDriver"]["Data"];
    for directory in ["UpperDir", "MergedDir"] {
        let directory = data[directory].as_str().unwrap();
        assert!(std::path::Path::new(directory).join("made").exists(), "{directory}");
    }
    assert!(!data["LowerDir"].as_str().unwrap().is_empty());
    let namespace = web["Namespaces"]["pid"].as_str().unwrap();
    assert!(std::fs::read_link(namespace).is_ok(), "{namespace}");

    for (template, expected) in [
        ("{{.State.Running}} {{.HostConfig.NetworkMode}}", "true bridge"),
        ("{{if .State.Health}}yes{{else}}no{{end}}", "no"),
        ("{{range .Mounts}}{{.Name}}:{{.Destination}}{{end}}", "data:/data"),
        ("{{join .Config.Cmd \" \"}}", "sleep 300"),
        ("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostIp}}", "127.0.0.1"),
        ("{{len .NetworkSettings.Networks}}", "1"),
    ] {
        assert_eq!(shown(&test, &id[..12], template), expected, "{template}");
    }
    let size = test.rbuild(&["inspect", "-s", "-f", "{{.SizeRw}}", "web"]).ok();
    assert_eq!(size, "0\n");
}

#[test]
fn a_name_is_looked_for_among_all_kinds_of_things() {
    let test = world();
    test.rbuild(&["create", "--name", "thing", "--network", "none", "busybox"]).succeeded();
    test.rbuild(&["volume", "create", "thing"]).succeeded();
    test.rbuild(&["volume", "create", "data"]).succeeded();
    assert_eq!(shown(&test, "thing", "{{.Name}}"), "/thing");
    assert_eq!(shown(&test, "data", "{{.Mountpoint}}").rsplit_once('/').unwrap().1, "_data");
    assert_eq!(shown(&test, "none", "{{.Driver}}"), "null");
    assert_eq!(shown(&test, "busybox", "{{index .RepoTags 0}}"), "busybox:latest");
    let volume = test.rbuild(&["inspect", "--type", "volume", "-f", "{{.Name}}", "thing"]).ok();
    assert_eq!(volume, "thing\n");
    for (line, text) in [
        (&["inspect", "missing"][..], "Error: No such object: missing\n"),
        (&["inspect", "--type", "container", "busybox"], "Error: No such container: busybox\n"),
        (&["inspect", "--type", "image", "thing"], "Error: No such image: thing\n"),
    ] {
        let outcome = test.rbuild(line);
        assert_eq!(
            (outcome.failed(1), outcome.stdout.as_slice()),
            (text, &b"[]\n"[..]),
            "{line:?}"
        );
    }
    let outcome = test.rbuild(&["inspect", "-f", "{{.Name}}", "thing", "missing"]);
    assert_eq!(outcome.failed(1), "Error: No such object: missing\n");
    assert_eq!(outcome.stdout, b"/thing\n");
    assert!(test.rbuild(&["inspect", "--type", "secret", "x"]).failed(1).contains("--type"));
}

#[test]
fn what_was_printed_is_shown_as_far_as_it_is_wanted() {
    let test = world();
    let script = "echo one; sleep 0.1; echo two >&2; sleep 0.1; printf three";
    test.rbuild(&["run", "--name", "job", "--network", "none", "busybox", "sh", "-c", script])
        .succeeded();
    let logs = |options: &[&str]| {
        let outcome = test.rbuild(&[&["logs"], options, &["job"]].concat());
        (outcome.ok(), outcome.stderr)
    };
    let both = |one: &str, two: &str| (one.to_owned(), two.to_owned());
    assert_eq!(logs(&[]), both("one\nthree", "two\n"));
    assert_eq!(logs(&["-n", "2"]), both("three", "two\n"));
    assert_eq!(logs(&["--tail", "all"]), both("one\nthree", "two\n"));
    assert_eq!(logs(&["--tail", "0"]), both("", ""));
    assert_eq!(logs(&["--details", "--tail=1"]), both(" three", ""));
    assert_eq!(logs(&["-f"]), both("one\nthree", "two\n"));
    let (_, line) = logs(&["-t"]);
    let (time, text) = line.split_once(' ').unwrap();
    assert_eq!((time.len(), text), ("2024-05-06T07:08:09.123456789Z".len(), "two\n"));
    assert_eq!(logs(&["--since", time]), both("three", "two\n"));
    assert_eq!(logs(&["--until", time]), both("one\n", "two\n"));
    assert_eq!(logs(&["--since", "1h"]), both("one\nthree", "two\n"));
    assert_eq!(logs(&["--until", "1h"]), both("", ""));
    let error = test.rbuild(&["logs", "--since", "soon", "job"]);
    assert!(error.failed(1).contains("failed to parse value as time or duration"), "{error}");
    test.started(&["--name", "quiet", "--network", "none", "--log-driver", "none"], &["true"]);
    let error = test.rbuild(&["logs", "quiet"]);
    assert!(
        error.failed(1).contains("configured logging driver does not support reading"),
        "{error}"
    );
    assert!(test.rbuild(&["logs", "missing"]).failed(1).contains("No such container: missing"));
}

#[test]
fn what_is_printed_is_followed_to_the_end() {
    let test = world();
    test.started(
        &["--name", "job", "--network", "none"],
        &[
            "sh",
            "-c",
            "echo ready; while [ ! -e /go ]; do sleep 0.05; done; echo last; echo error >&2",
        ],
    );
    let mut follow = test.command(&["logs", "-f", "job"]);
    let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "ready");
    test.rbuild(&["exec", "job", "touch", "/go"]).succeeded();
    assert_eq!(lines.collect::<Vec<_>>(), ["last"]);
    let ended = follow.wait_with_output().unwrap();
    assert!(ended.status.success());
    assert_eq!(ended.stderr, b"error\n");
}

#[test]
fn a_restart_does_not_end_the_following() {
    let test = world();
    let options = ["--name", "job", "--network", "none", "--restart", "on-failure:2"];
    test.started(&options, &["sh", "-c", "sleep 0.2; echo run; exit 1"]);
    assert_eq!(test.rbuild(&["logs", "-f", "job"]).ok(), "run\nrun\nrun\n");
    soon_is(&test, "job", "{{.State.Status}} {{.RestartCount}}", "exited 2");
}

#[test]
fn following_ends_when_nobody_reads_and_when_its_time_is_over() {
    let test = world();
    test.started(&["--name", "job", "--network", "none"], &["sh", "-c", "echo ready; sleep 300"]);
    let first = test.shell("timeout 20 \"$RBUILD\" logs -f job | head -n 1");
    assert_eq!(first, "ready\n");
    let until = jiff::Timestamp::now() + Duration::from_millis(300);
    let begin = Instant::now();
    assert_eq!(test.rbuild(&["logs", "-f", "--until", &until.to_string(), "job"]).ok(), "ready\n");
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn processes_and_what_they_use_are_shown() {
    let test = world();
    test.started(&["--name", "web", "--network", "none"], &["sh", "-c", "sleep 301 & sleep 302"]);
    test.rbuild(&["create", "--name", "idle", "--network", "none", "busybox"]).succeeded();
    let pid = shown(&test, "web", "{{.State.Pid}}");
    let table = test.rbuild(&["top", "web"]).ok();
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!((lines[1][0], lines[1][1]), ("root", pid.as_str()));
    assert!(table.contains("sleep 301") && table.contains("sleep 302"), "{table}");
    let own = test.rbuild(&["top", "web", "-o", "pid,args"]).ok();
    assert!(own.starts_with("PID ") && own.contains(&pid) && own.contains("sleep 302"), "{own}");
    let error = test.rbuild(&["top", "web", "-o", "user"]);
    assert!(error.failed(1).contains("Couldn't find PID field in ps output"), "{error}");
    let error = test.rbuild(&["top", "idle"]);
    assert!(error.failed(1).contains("container idle is not running"), "{error}");

    let format = "{{.Name}} {{.PIDs}} {{.CPUPerc}}";
    let used = test.rbuild(&["stats", "--no-stream", "--format", format]).ok();
    assert!(used.starts_with("web 2 ") && used.lines().count() == 1, "{used}");
    let used = test.rbuild(&["stats", "--no-stream", "-a"]).ok();
    assert!(used.contains("idle      0.00%     0B / 0B"), "{used}");
    let used = test.rbuild(&["stats", "--no-stream", "idle", "web"]).ok();
    let names: Vec<&str> = used.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(names, ["ID", "idle", "web"]);
    assert!(test.rbuild(&["stats", "missing"]).failed(1).contains("No such container: missing"));
}

#[test]
fn what_runs_beside_the_program_is_shown_and_told_of() {
    let test = world();
    test.started(&["--name", "web", "--network", "none"], &["sleep", "300"]);
    assert_eq!(shown(&test, "web", "{{json .ExecIDs}}"), "null");
    let script = "while [ ! -e /go ]; do sleep 0.05; done; exit 7";
    test.rbuild(&["exec", "-d", "web", "sh", "-c", script]).succeeded();
    let id = shown(&test, "web", "{{index .ExecIDs 0}}");
    assert_eq!((id.len(), shown(&test, "web", "{{len .ExecIDs}}").as_str()), (64, "1"));
    let mut attached = test.command(&["exec", "web", "sh", "-c", script]);
    let mut attached = attached.spawn().unwrap();
    soon_is(&test, "web", "{{len .ExecIDs}}", "2");
    test.rbuild(&["exec", "web", "touch", "/go"]).succeeded();
    assert_eq!(attached.wait().unwrap().code(), Some(7));
    soon_is(&test, "web", "{{.ExecIDs}}", "[]");

    // A detached one that cannot be started is docker's fault of the request, not of the program.
    let missing = test.rbuild(&["exec", "-d", "web", "nosuch"]);
    let said = missing.failed(1);
    assert!(said.contains("\"nosuch\": executable file not found in $PATH"), "{said}");
    test.rbuild(&["exec", "web", "nosuch"]).failed(127);
    let events = || {
        let format = "{{.Action}} {{index .Actor.Attributes \"execID\"}} \
                      {{index .Actor.Attributes \"exitCode\"}}";
        let until = jiff::Timestamp::now().to_string();
        let line = ["events", "--since", "1h", "--until", &until, "--format", format];
        let all = test.rbuild(&line).ok();
        let own = all.lines().filter(|line| line.contains(&id));
        own.map(|line| line.replace(&id, "ID").trim_end().to_owned()).collect::<Vec<_>>()
    };
    let line = format!("sh -c {script}");
    let expected = [
        format!("exec_create: {line} ID"),
        format!("exec_start: {line} ID"),
        "exec_die ID 7".into(),
    ];
    crate::support::containers::soon("its end is told", || events().len() == expected.len());
    assert_eq!(events(), expected);

    // It ends with the container, and keeps nobody from being removed.
    test.rbuild(&["exec", "-d", "web", "sleep", "300"]).succeeded();
    test.rbuild(&["rm", "-f", "web"]).succeeded();
}

#[test]
fn a_format_is_refused_in_docker_s_words_before_there_is_anything_to_list() {
    let test = Test::empty();
    let type_name = "*formatter.ContainerContext";
    for (format, expected) in [
        (
            "{{.Foo}}",
            format!(
                "failed to execute template: template: :1:2: executing \"\" at <.Foo>: can't \
                 evaluate field Foo in type {type_name}"
            ),
        ),
        (
            "table {{.ID}} {{.Foo}}",
            format!(
                "failed to execute template: template: :1:16: executing \"\" at <.Foo>: can't \
                 evaluate field Foo in type {type_name}"
            ),
        ),
        ("{{.ID", "failed to parse template: template: :1: unclosed action".to_owned()),
    ] {
        let outcome = test.rbuild(&["ps", "--format", format]);
        assert!(outcome.failed(1).contains(&expected), "{format}: {outcome}");
    }
    for format in ["json", "table", "{{json .}}", "{{.CreatedAt}}{{.Label \"x\"}}{{.Size}}"] {
        test.rbuild(&["ps", "--format", format]).succeeded();
    }
}

#[test]
fn a_field_that_no_row_has_is_refused_as_docker_does() {
    let test = world();
    test.rbuild(&["volume", "create", "v1"]).succeeded();
    for (verb, type_name) in [
        (&["images"][..], "*formatter.imageContext"),
        (&["volume", "ls"], "*formatter.volumeContext"),
        (&["network", "ls"], "*network.networkContext"),
        (&["history", "busybox"], "*image.historyContext"),
        (&["system", "df"], "*formatter.diskUsageImagesContext"),
    ] {
        for format in ["{{.Foo}}", "table {{.Foo}}", "{{json .Foo}}"] {
            let refused = test.rbuild(&[verb, &["--format", format]].concat());
            let column = if format.contains("json") { 7 } else { 2 };
            let expected = format!(
                "template parsing error: template: :1:{column}: executing \"\" at <.Foo>: can't \
                 evaluate field Foo in type {type_name}\n"
            );
            assert!(refused.failed(1).ends_with(&expected), "{refused}");
            assert_eq!(refused.stdout, b"", "{refused}");
        }
        test.rbuild(&[verb, &["--format", "{{json .}}"]].concat()).succeeded();
    }
    let none = test.rbuild(&["images", "--format", "{{.Foo}}", "nosuch"]).ok();
    assert_eq!(none, "", "nothing is asked for a field");
}

#[test]
fn what_nobody_typed_is_shown_as_docker_does() {
    let test = world();
    let options = ["--network", "none", "--ulimit", "nproc=9", "--ulimit", "core=0", "--ulimit"];
    let line =
        [&["create", "--name", "all", "--privileged"], &options[..], &["nproc=8", "busybox"]];
    test.rbuild(&line.concat()).succeeded();
    let ulimits = "{{range .HostConfig.Ulimits}}{{.Name}}={{.Soft}} {{end}}";
    assert_eq!(shown(&test, "all", ulimits), "core=0 nproc=8");
    let options = "{{json .HostConfig.SecurityOpt}}";
    assert_eq!(shown(&test, "all", options), "[\"label=disable\"]");
    for (name, flags, expected) in [
        ("plain", &[][..], "null"),
        ("pids", &["--pid", "host"], "[\"label=disable\"]"),
        ("own", &["--privileged", "--security-opt", "label=type:x"], "[\"label=type:x\"]"),
    ] {
        let line = [&["create", "--name", name, "--network", "none"], flags, &["busybox"]];
        test.rbuild(&line.concat()).succeeded();
        assert_eq!(shown(&test, name, options), expected, "{flags:?}");
    }
    // What the words stand for is shown, and not the words.
    let flags = ["--isolation", "default", "--cpu-rt-period", "1000", "--kernel-memory", "1m"];
    let open = ["--security-opt", "systempaths=unconfined", "--security-opt", "no-new-privileges"];
    let line =
        [&["create", "--name", "open", "--network", "none"], &flags[..], &open, &["busybox"]];
    test.rbuild(&line.concat()).succeeded();
    let host = "{{json .HostConfig.SecurityOpt}} {{json .HostConfig.MaskedPaths}} \
                {{json .HostConfig.ReadonlyPaths}} {{.HostConfig.Isolation}}";
    assert_eq!(shown(&test, "open", host), "[\"no-new-privileges\"] [] [] default");
    let command = ["cat", "/proc/mounts"];
    let line = [&["run", "--rm", "--network", "none"], &open[..2], &["busybox"], &command[..]];
    let mounts = test.rbuild(&line.concat()).ok();
    assert!(!mounts.contains(" /proc/sys ") && !mounts.contains("/proc/kcore"), "{mounts}");
    let limit = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}";
    test.rbuild(&["create", "--name", "limited", "-m", "64m", "busybox"]).succeeded();
    assert_eq!(shown(&test, "limited", limit), format!("{} {}", 64 << 20, 128 << 20));
    assert_eq!(shown(&test, "plain", limit), "0 0");
    let unset = "{{with .HostConfig}}{{.CpuRealtimePeriod}} {{.CpuRealtimeRuntime}} {{.CpuCount}} \
                 {{.CpuPercent}} {{.IOMaximumIOps}} {{.IOMaximumBandwidth}}{{end}}";
    assert_eq!(shown(&test, "open", unset), "0 0 0 0 0 0");
    let row = test.rbuild(&[
        "ps",
        "-a",
        "--filter",
        "name=open",
        "--format",
        "{{.State}} {{js .Command}}",
    ]);
    assert_eq!(row.ok(), "created \\\"sh\\\"\n");
    let nils = "{{.Config.OnBuild}} {{.Config.Volumes}} {{.State.Health}} {{.HostConfig.Binds}}";
    assert_eq!(shown(&test, "plain", nils), "[] map[] <nil> []");
}
