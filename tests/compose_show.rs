//! The verbs of `rcompose` that show things, compared with what docker compose prints.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::containers::soon;
use crate::support::project::{Project, RCOMPOSE};
use crate::support::{Outcome, Test, finish};

/// What tests of lists have: a service with ports, one with volumes, one that has failed.
const SHOP: &str = "
services:
  web:
    image: busybox
    command: sh -c \"echo hello; exec sleep 600\"
    stop_grace_period: 0s
    ports: [\"127.0.0.1::80\", \"127.0.0.1::53/udp\"]
    expose: [\"9000\"]
  db:
    image: busybox
    command: sleep 600
    stop_grace_period: 0s
    volumes: [\"data:/data\", \"/anon\"]
  job:
    image: busybox
    command: sh -c \"exit 3\"
volumes:
  data: {labels: {x: \"1\"}}
  other: {}
";

impl Project {
    /// Runs `rcompose` with the project's file: a project that is only named is known by what there is of it.
    fn show(&self, arguments: &[&str]) -> Outcome {
        self.compose(&[&["-f", "compose.yaml"], arguments].concat())
    }

    /// What a verb prints, with the project's name left out.
    #[track_caller]
    fn shows(&self, arguments: &[&str]) -> String {
        self.show(arguments).ok().replace(&self.name, "P")
    }

    /// Starts everything of [`SHOP`] and waits until the job has failed.
    fn shop() -> Project {
        let project = Project::of(SHOP);
        project.compose(&["up", "-d"]).succeeded();
        soon("the job never ends", || {
            !project.shows(&["ps", "--status", "exited", "-q"]).is_empty()
        });
        project
    }

    /// Starts a verb that goes on and on.
    fn started(&self, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
        let mut command = self.command(&[&["-f", "compose.yaml"], arguments].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    }
}

/// Asks a program to end; its exit code.
fn interrupted(mut child: Child) -> Option<i32> {
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    child.wait().unwrap().code()
}

fn cells(line: &str) -> Vec<String> {
    line.split("   ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn a_project_s_containers_are_listed() {
    let project = Project::shop();
    let table = project.show(&["ps"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        cells(lines[0]),
        ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]
    );
    assert_eq!(lines.len(), 3, "{table}");
    let (db, web) = (cells(lines[1]), cells(lines[2]));
    let name = |service: &str| format!("{}-{service}-1", project.name);
    assert_eq!(db[..4], [&name("db"), "busybox", "\"sleep 600\"", "db"]);
    assert_eq!(web[..4], [&name("web"), "busybox", "\"sh -c 'echo hello; …\"", "web"]);
    assert!(web[5].starts_with("Up ") && web[6].starts_with("9000/tcp, 127.0.0.1:"), "{table}");
    assert!(web[6].contains("->53/udp, 127.0.0.1:") && web[6].ends_with("->80/tcp"), "{table}");

    let format = "{{.Name}} {{.State}} {{.ExitCode}} [{{.Health}}] {{.Service}} {{.Project}}";
    assert_eq!(
        project.shows(&["ps", "-a", "--format", format]),
        "P-db-1 running 0 [] db P\nP-job-1 exited 3 [] job P\nP-web-1 running 0 [] web P\n"
    );
    let ids = [project.id("db"), project.id("job"), project.id("web")];
    assert_eq!(project.show(&["ps", "-a", "-q"]).ok(), ids.map(|id| id + "\n").concat());
    let named = |arguments: &[&str]| {
        let line = [&["ps", "--format", "{{.Service}}"], arguments].concat();
        project.show(&line).ok().lines().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    for (arguments, expected) in [
        (&[][..], "db web"),
        (&["web"], "web"),
        (&["job"], ""),
        (&["-a", "job", "db"], "db job"),
        (&["--status", "exited"], "job"),
        (&["--status", "exited", "--status", "running"], "db job web"),
        (&["--filter", "status=exited"], "job"),
        (&["--status", "paused"], ""),
    ] {
        assert_eq!(named(arguments), expected, "{arguments:?}");
    }
    assert_eq!(project.show(&["ps", "--services", "-a"]).ok(), "db\njob\nweb\n");
    let nothing = project.show(&["ps", "--status", "dead"]).ok();
    assert_eq!(nothing, "NAME      IMAGE     COMMAND   SERVICE   CREATED   STATUS    PORTS\n");
    let whole = project.show(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Command}}", "web"]).ok();
    let command = "\"sh -c 'echo hello; exec sleep 600'\"";
    assert_eq!(whole, format!("{} {command}\n", project.id("web")));
    let columns = project.show(&["ps", "--format", "table {{.Name}}\\t{{.State}}", "db"]).ok();
    let columns: Vec<Vec<String>> = columns.lines().map(cells).collect();
    assert_eq!(columns, [["NAME", "STATE"], [&name("db"), "running"]]);

    let rows = project.show(&["ps", "--format", "json", "-a"]).ok();
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys: Vec<&str> = rows[2].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys.join(" "),
        "Command CreatedAt Engine ExitCode Health ID Image Labels LocalVolumes Mounts Name Names Networks Ports \
         Project Publishers RunningFor Service Size State Status"
    );
    let ports: Vec<u64> =
        [1, 0].map(|at| rows[2]["Publishers"][at]["PublishedPort"].as_u64().unwrap()).into();
    let publisher = |target: u16, published: u64, protocol: &str| {
        let host = if published > 0 { "127.0.0.1" } else { "" };
        json!({"URL": host, "TargetPort": target, "PublishedPort": published, "Protocol": protocol})
    };
    let (tcp, udp) = (publisher(80, ports[0], "tcp"), publisher(53, ports[1], "udp"));
    assert_eq!(rows[2]["Publishers"], json!([udp, tcp, publisher(9000, 0, "tcp")]));
    assert_eq!((&rows[1]["ExitCode"], &rows[1]["Publishers"]), (&3.into(), &json!([])));
    assert_eq!((&rows[0]["LocalVolumes"], &rows[0]["Service"]), (&"2".into(), &"db".into()));
    let text = format!(
        "[53/udp -> 127.0.0.1:{} 80/tcp -> 127.0.0.1:{} 9000/tcp -> :0]\n",
        ports[1], ports[0]
    );
    assert_eq!(project.show(&["ps", "--format", "{{.Publishers}}", "web"]).ok(), text);
    let numbers = "{{range .Publishers}}{{.PublishedPort}},{{end}}";
    let shown = project.show(&["ps", "--format", numbers, "web"]).ok();
    assert_eq!(shown, format!("{},{},0,\n", ports[1], ports[0]));

    // What the file no longer has is an orphan; without the file nothing is.
    project.rewrite("services: {web: {image: busybox}}\n");
    assert_eq!(named(&[]), "db web");
    assert_eq!(named(&["--orphans=false"]), "web");
    let by_name = ["-p", &project.name, "ps", "--services", "--orphans=false"];
    let by_name = project.compose(&by_name).ok();
    assert_eq!(by_name, "db\nweb\n");
}

#[test]
fn the_projects_of_a_store_are_listed() {
    let project = Project::shop();
    let file = project.test.context().join("compose.yaml");
    let file = file.display();
    let row = |project: &str, status: &str| {
        let width = 20.max(project.len() + 3);
        let columns = 20.max(status.len() + 3);
        format!("{project:<width$}{status:<columns$}{file}\n")
    };
    let heading = |project: &str, status: &str| {
        row(project, status).replace(&file.to_string(), "CONFIG FILES")
    };
    let name = project.name.as_str();
    let ls = |arguments: &[&str]| {
        // No file is needed.
        let mut command = project.command(&[&["ls"], arguments].concat());
        command.current_dir("/");
        finish(command, None)
    };
    let shown = |status: &str| {
        let headed =
            heading(name, status).replacen(name, &format!("{:<1$}", "NAME", name.len()), 1);
        let headed = headed.replacen(status, &format!("{:<1$}", "STATUS", status.len()), 1);
        headed + &row(name, status)
    };
    assert_eq!(ls(&[]).ok(), shown("running(2)"));
    assert_eq!(ls(&["-a"]).ok(), shown("exited(1), running(2)"));
    assert_eq!(ls(&["-q"]).ok(), format!("{name}\n"));
    let json = json!([{"Name": name, "Status": "running(2)", "ConfigFiles": file.to_string()}]);
    assert_eq!(ls(&["--format", "json"]).ok(), format!("{json}\n"));
    assert_eq!(ls(&["-q", "--filter", "name=^rbuild-"]).ok(), format!("{name}\n"));
    assert_eq!(
        ls(&["--filter", "name=nosuch"]).ok(),
        "NAME                STATUS              CONFIG FILES\n"
    );
    project.compose(&["stop", "-t", "0"]).succeeded();
    assert_eq!(ls(&["-q"]).ok(), "");
    assert_eq!(ls(&["-a"]).ok(), shown("exited(3)"));
    for (arguments, said) in [
        (&["--filter", "foo=x"][..], "invalid filter 'foo'"),
        (&["--filter", "x"], "invalid filter 'x'"),
        (&["--format", "foo"], "format value \"foo\" could not be parsed"),
    ] {
        let failed = ls(arguments);
        assert!(failed.failed(1).contains(said), "{failed}");
    }
}

#[test]
fn images_ports_processes_volumes_and_what_is_used_are_shown() {
    let project = Project::shop();
    let name = project.name.as_str();

    let table = project.shows(&["images"]);
    let lines: Vec<Vec<String>> = table.lines().map(cells).collect();
    assert_eq!(
        lines[0],
        ["CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED"]
    );
    let id = project.shown("web", "{{.Image}}");
    let digits = id.strip_prefix("sha256:").unwrap();
    let platform =
        project.test.rbuild(&["inspect", "-f", "{{.Os}}/{{.Architecture}}", "busybox"]).ok();
    for (line, service) in lines[1..].iter().zip(["db", "job", "web"]) {
        let expected =
            [&format!("P-{service}-1"), "busybox", "latest", platform.trim(), &digits[..12]];
        assert_eq!(line[..5], expected, "{table}");
    }
    assert_eq!(project.show(&["images", "-q"]).ok(), format!("{digits}\n"));
    let images: Value =
        serde_json::from_str(&project.show(&["images", "--format", "json", "web"]).ok()).unwrap();
    let image = &images[0];
    assert_eq!(
        (&image["ID"], &image["ContainerName"]),
        (&id.as_str().into(), &format!("{name}-web-1").into())
    );
    assert_eq!((&image["Repository"], &image["Tag"]), (&"busybox".into(), &"latest".into()));
    assert!(
        image["Size"].as_u64().unwrap() > 0 && images.as_array().unwrap().len() == 1,
        "{images}"
    );
    assert_eq!(project.show(&["images", "nosuch"]).ok().lines().count(), 1);
    // A name that is another image's by now is not this one's.
    project.test.rbuild(&["tag", "busybox", "kept"]).succeeded();
    project.test.write("FROM busybox\nRUN echo other > /other\n");
    project.test.build(&[]);
    project.test.rbuild(&["tag", "test", "busybox"]).succeeded();
    let moved = project.shows(&["images", "web"]);
    assert!(cells(moved.lines().nth(1).unwrap())[1..3] == ["<none>", "<none>"], "{moved}");

    let all = project.show(&["port", "web"]).ok();
    let [udp, tcp, exposed] = all.lines().collect::<Vec<_>>()[..] else { panic!("{all}") };
    let tcp = tcp.strip_prefix("80/tcp -> ").unwrap();
    assert!(tcp.starts_with("127.0.0.1:") && exposed == "9000/tcp -> :0", "{all}");
    assert_eq!(project.show(&["port", "web", "80"]).ok().trim(), tcp);
    assert_eq!(project.show(&["port", "--index", "1", "web", "80"]).ok().trim(), tcp);
    let by_protocol = project.show(&["port", "--protocol", "UDP", "web", "53"]).ok();
    assert_eq!(Some(by_protocol.trim()), udp.strip_prefix("53/udp -> "));
    let container = format!("no port 81/tcp for container {name}-web-1: 53/udp, 80/tcp, 9000/tcp");
    for (arguments, said) in [
        (&["web", "81"][..], container.as_str()),
        (&["--index", "2", "web", "80"], "service \"web\" is not running container #2"),
        (&["nosuch", "80"], "service \"nosuch\" is not running"),
        (&["job", "80"], "service \"job\" is not running"),
        (&["web", "53/udp"], "53/udp"),
        (&["web", "99999"], "99999"),
    ] {
        let failed = project.show(&[&["port"], arguments].concat());
        assert!(failed.failed(1).contains(said), "{failed}");
    }

    let top = project.show(&["top"]).ok();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = top.lines().map(words).collect();
    let headings = ["SERVICE", "#", "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
    assert_eq!((&lines[0][..], lines.len()), (&headings.map(str::to_owned)[..], 3), "{top}");
    for (line, service) in lines[1..].iter().zip(["db", "web"]) {
        let expected = [service, "1", "root", &project.shown(service, "{{.State.Pid}}")];
        assert_eq!(
            (&line[..4], &line[9..]),
            (&expected.map(str::to_owned)[..], &["sleep".to_owned(), "600".to_owned()][..])
        );
    }
    assert!(top.starts_with("SERVICE  #   UID   PID"), "{top}");
    assert_eq!(project.show(&["top", "web"]).ok().lines().count(), 2);
    assert_eq!(project.show(&["top", "nosuch"]).ok(), "");

    assert_eq!(project.shows(&["volumes"]), "DRIVER    VOLUME NAME\nlocal     P_data\n");
    assert_eq!(project.shows(&["volumes", "-q"]), "P_data\n");
    assert_eq!(project.shows(&["volumes", "-q", "db"]), "P_data\n");
    assert_eq!(project.shows(&["volumes", "-q", "web"]), "");
    assert_eq!(
        project.shows(&["volumes", "--format", "{{.Name}} {{.Scope}} {{.Label \"x\"}}"]),
        "P_data local 1\n"
    );
    let volume: Value =
        serde_json::from_str(&project.show(&["volumes", "--format", "json"]).ok()).unwrap();
    assert_eq!((&volume["Driver"], &volume["Size"]), (&"local".into(), &"N/A".into()));
    let failed = project.show(&["volumes", "nosuch"]);
    assert!(failed.failed(1).contains("no such service: nosuch"), "{failed}");

    let stats = |arguments: &[&str]| {
        let line =
            [&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"], arguments].concat();
        let mut lines: Vec<String> = project.shows(&line).lines().map(str::to_owned).collect();
        lines.sort();
        lines.join(", ")
    };
    assert_eq!(stats(&[]), "P-db-1 1, P-web-1 1");
    assert_eq!(stats(&["-a"]), "P-db-1 1, P-job-1 0, P-web-1 1");
    assert_eq!(stats(&["db"]), "P-db-1 1");
    assert_eq!(stats(&["job"]), "");
    let headed = project.show(&["stats", "--no-stream", "--no-trunc", "web"]).ok();
    assert!(headed.starts_with("CONTAINER ID") && headed.contains(&project.id("web")), "{headed}");
}

#[test]
fn what_happens_to_a_project_s_containers_is_told() {
    let project = Project::of(SHOP);
    project.compose(&["up", "-d", "db", "web"]).succeeded();
    let ended = project.show(&["events", "--json", "--since", "10m", "--until", "0s"]).ok();
    let events: Vec<Value> =
        ended.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = |action: &str, service: &str| {
        let is_it = |event: &&Value| event["action"] == action && event["service"] == service;
        events.iter().find(is_it).unwrap_or_else(|| panic!("no {action} of {service} in {ended}"))
    };
    let created = told("create", "db");
    assert_eq!((&created["id"], &created["type"]), (&project.id("db").into(), &"container".into()));
    let name = format!("{}-db-1", project.name);
    assert_eq!(created["attributes"], json!({"image": "busybox", "name": name}));
    told("start", "web");
    let text = project.show(&["events", "--since", "10m", "--until", "0s", "db"]).ok();
    let line = text.lines().next().unwrap();
    let said = format!(" container create {} (image=busybox, name={name})", project.id("db"));
    assert!(line.ends_with(&said) && line.len() == said.len() + 26, "{text}");
    assert_eq!(text.lines().nth(1), Some(""));
    assert!(!text.contains("web"), "{text}");

    let (child, mut lines) = project.started(&["events", "--since", "10m", "db"]);
    assert!(lines.next().unwrap().unwrap().contains(" container create "));
    project.compose(&["kill", "db"]).succeeded();
    let died = lines.by_ref().map(Result::unwrap).find(|line| line.contains(" container die "));
    assert!(died.unwrap().contains("exitCode=137"));
    assert_eq!(interrupted(child), Some(130));
    let failed = project.show(&["events", "--since", "yesterday"]);
    assert!(failed.failed(1).contains("invalid value for --since"), "{failed}");
}

#[test]
fn logs_come_in_the_order_in_which_they_were_printed() {
    let wait = |file: &str| format!("until [ -e /s/{file} ]; do sleep 0.05; done; sleep 0.5");
    let project = Project::of(&format!(
        "services:
  a:
    image: busybox
    volumes: [\"sync:/s\"]
    command: sh -c \"echo a1; touch /s/a; {}; echo a2 >&2\"
  longer:
    image: busybox
    volumes: [\"sync:/s\"]
    command: sh -c \"{}; echo b1; touch /s/b\"
  silent:
    image: busybox
    command: \"true\"
volumes: {{sync: {{}}}}
",
        wait("b"),
        wait("a"),
    ));
    project.compose(&["up", "-d"]).succeeded();
    soon("a never ends", || {
        project.shows(&["ps", "-q", "-a", "--status", "exited"]).lines().count() == 3
    });
    let logs = |arguments: &[&str]| project.show(&[&["logs"], arguments].concat()).ok();
    assert_eq!(logs(&[]), "a-1       | a1\nlonger-1  | b1\na-1       | a2\n");
    assert_eq!(logs(&["a"]), "a-1  | a1\na-1  | a2\n");
    assert_eq!(logs(&["--tail", "1"]), "longer-1  | b1\na-1       | a2\n");
    assert_eq!(logs(&["-n", "0"]), "");
    assert_eq!(logs(&["-n", "-1", "a"]), "a-1  | a1\na-1  | a2\n");
    assert_eq!(logs(&["--tail", "x", "longer"]), "longer-1  | b1\n");
    assert_eq!(logs(&["--no-log-prefix"]), "a1\nb1\na2\n");
    assert_eq!(logs(&["--index", "1", "longer"]), "longer-1  | b1\n");
    assert_eq!(logs(&["--since", "1h", "--no-color", "longer"]), "longer-1  | b1\n");
    assert_eq!(logs(&["--until", "1h"]), "");
    assert_eq!(logs(&["silent"]), "");
    let timed = logs(&["-t", "longer"]);
    let (time, text) = timed.strip_prefix("longer-1  | ").unwrap().split_once(' ').unwrap();
    assert_eq!((time.len(), text), ("2026-11-22T12:41:09.522997099Z".len(), "b1\n"), "{timed}");
    assert_eq!(logs(&["--since", time, "--until", time]), "longer-1  | b1\n");
    let coloured = project.show(&["--ansi", "always", "logs", "longer"]).ok();
    assert!(coloured.contains("\x1b[") && coloured.contains("b1"), "{coloured}");
    assert_eq!(
        project.show(&["--ansi", "always", "logs", "--no-color", "longer"]).ok(),
        "longer-1  | b1\n"
    );
    // Without a file as well.
    assert_eq!(project.compose(&["logs", "longer"]).ok(), "longer-1  | b1\n");
    for (arguments, said) in [
        (&["nosuch"][..], "no such service: nosuch"),
        (&["--index", "1"], "--index requires one service to be selected"),
        (&["--index", "3", "a"], "service \"a\" is not running container #3"),
        (&["--since", "foo"], "foo"),
    ] {
        let failed = project.show(&[&["logs"], arguments].concat());
        assert!(failed.failed(1).contains(said), "{failed}");
    }
}

#[test]
fn a_very_long_line_is_one_line() {
    let project = Project::of(
        "services: {a: {image: busybox, command: sh -c \"head -c 40000 /dev/zero | tr '\\\\0' x; echo; echo end\"}}\n",
    );
    project.compose(&["up", "-d"]).succeeded();
    soon("a never ends", || !project.shows(&["ps", "-q", "--status", "exited"]).is_empty());
    let logs = project.show(&["logs"]).ok();
    let widths: Vec<usize> = logs.lines().map(str::len).collect();
    assert_eq!(widths, [40_000 + 7, 3 + 7]);
}

#[test]
fn logs_follow_what_runs_and_what_is_started_later() {
    let project = Project::of(
        "services:
  first: {image: busybox, command: sh -c \"echo f1; exec sleep 600\", stop_grace_period: 0s}
  second: {image: busybox, command: sh -c \"echo s1; exit 4\"}
",
    );
    project.compose(&["up", "-d", "first"]).succeeded();
    let (mut child, mut lines) = project.started(&["logs", "-f"]);
    let mut next = || lines.next().map(Result::unwrap);
    assert_eq!(next().as_deref(), Some("first-1  | f1"));
    project.compose(&["up", "-d", "second"]).succeeded();
    assert_eq!(next().as_deref(), Some("second-1  | s1"));
    assert_eq!(next().as_deref(), Some("second-1 exited with code 4"));
    // Started again it is followed again, and no line comes twice.
    project.compose(&["start", "second"]).succeeded();
    assert_eq!(next().as_deref(), Some("second-1  | s1"));
    assert_eq!(next().as_deref(), Some("second-1 exited with code 4"));
    project.compose(&["stop", "-t", "0", "first"]).succeeded();
    assert_eq!(next().as_deref(), Some("first-1 exited with code 137"));
    assert_eq!(next(), None);
    assert_eq!(child.wait().unwrap().code(), Some(0));

    project.compose(&["start", "first"]).succeeded();
    let (child, mut lines) = project.started(&["logs", "-f", "-n", "1", "first"]);
    assert_eq!(lines.next().unwrap().unwrap(), "first-1  | f1");
    assert_eq!(interrupted(child), Some(130));
    // What is printed after a time is not waited for.
    let (mut child, lines) = project.started(&["logs", "-f", "--until", "0s", "first"]);
    let lines: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(
        (lines.last().map(String::as_str), child.wait().unwrap().code()),
        (Some("first-1  | f1"), Some(0))
    );
    // Who reads no more ends it.
    let (mut child, mut lines) = project.started(&["logs", "-f", "first"]);
    assert_eq!(lines.next().unwrap().unwrap(), "first-1  | f1");
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_restart_by_policy_is_told_and_followed() {
    let project = Project::of(
        "services:
  r:
    image: busybox
    command: sh -c \"echo try; until [ -e /s/go ]; do sleep 0.1; done; exit 3\"
    restart: on-failure:1
    volumes: [\"sync:/s\"]
volumes: {sync: {}}
",
    );
    project.compose(&["up", "-d"]).succeeded();
    let (mut child, mut lines) = project.started(&["logs", "-f"]);
    assert_eq!(lines.next().unwrap().unwrap(), "r-1  | try");
    let container = format!("{}-r-1", project.name);
    project.test.rbuild(&["exec", &container, "touch", "/s/go"]).succeeded();
    let mut lines: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(lines.pop().as_deref(), Some("r-1 exited with code 3"));
    lines.sort();
    assert_eq!(lines, ["r-1  | try", "r-1 exited with code 3 (restarting)"]);
}

#[test]
fn what_there_is_nothing_of_is_shown_as_nothing_and_bad_input_is_refused() {
    let test = Test::empty();
    let project = Project { name: "nosuch".to_owned(), test };
    let headings = "NAME      IMAGE     COMMAND   SERVICE   CREATED   STATUS    PORTS\n";
    assert_eq!(project.compose(&["ps"]).ok(), headings);
    assert_eq!(project.compose(&["ps", "-q"]).ok(), "");
    assert_eq!(project.compose(&["ps", "--services"]).ok(), "\n");
    assert_eq!(project.compose(&["logs"]).ok(), "");
    assert_eq!(project.compose(&["logs", "-f"]).ok(), "");
    assert_eq!(project.compose(&["top"]).ok(), "");
    assert_eq!(project.compose(&["stats", "--no-stream"]).ok(), "");
    assert_eq!(project.compose(&["volumes"]).ok(), "DRIVER    VOLUME NAME\n");
    assert_eq!(project.compose(&["images", "--format", "json"]).ok(), "[]\n");
    assert_eq!(project.compose(&["ls", "--format", "json"]).ok(), "[]\n");
    project.rewrite("services: {web: {image: busybox}}\n");
    for (arguments, said) in [
        (&["ps", "nosuch"][..], "no such service: nosuch"),
        (&["ps", "--filter", "name=x"], "unknown filter name"),
        (&["ps", "--filter", "x"], "arguments to --filter should be in form KEY=VAL"),
        (&["ps", "--orphans=x"], "--orphans"),
        (&["ps", "--format", "{{"], "template parsing error"),
        (&["images", "--format", "x"], "format value \"x\" could not be parsed"),
        (&["volumes", "--format", "{{"], "template parsing error"),
        (&["port"], "SERVICE"),
        (&["stats", "a", "b"], "unexpected argument 'b'"),
        (&["events", "--until", "x"], "invalid value for --until"),
        (&["logs", "--nosuch"], "--nosuch"),
    ] {
        let failed = project.show(arguments);
        assert!(failed.failed(1).contains(said), "{failed}");
    }
    // Without a file and a name nobody knows which project is meant.
    fs_err::remove_file(project.test.context().join("compose.yaml")).unwrap();
    for verb in ["ps", "logs", "images", "top", "volumes", "stats", "events"] {
        let mut command = Command::new(RCOMPOSE);
        command.arg(verb).current_dir(project.test.context());
        command.env("RBUILD_ROOT", project.test.outside("store"));
        let failed = finish(command, None);
        assert!(failed.failed(1).contains("no configuration file provided"), "{failed}");
    }
    let version = project.compose(&["version", "--short"]).ok();
    assert_eq!(project.compose(&["version", "-f", "json", "--short"]).ok(), version);
    let json: Value =
        serde_json::from_str(&project.compose(&["version", "-f", "json"]).ok()).unwrap();
    assert_eq!(json, json!({"version": version.trim()}));
    assert!(project.compose(&["version"]).ok().contains(version.trim()));
}
