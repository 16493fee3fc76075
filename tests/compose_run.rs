//! `rcompose run`, and what runs before and after services.

use serde_json::Value;

use crate::support::project::{IDLE, Project, refused, running};

#[test]
fn run_makes_a_container_of_its_own() {
    let project = running();
    let run = |arguments: &[&str]| project.compose(&[&["run", "--rm"], arguments].concat());
    let plain = run(&["web", "echo", "hi"]);
    assert_eq!(plain.ok(), "hi\n");
    let container = format!(" Container {}-web-run-", project.name);
    for word in ["Creating", "Created"] {
        let is_said =
            |line: &str| line.starts_with(&container) && line.ends_with(&format!(" {word} "));
        assert!(plain.stderr.lines().any(is_said), "no {word} in\n{plain}");
    }
    run(&["web", "sh", "-c", "exit 9"]).failed(9);
    let input = project.compose_with(&["run", "--rm", "-T", "web", "cat"], &[], Some(b"given"));
    assert_eq!(input.ok(), "given");
    assert_eq!(run(&["-q", "web", "echo", "--rm", "-d"]).ok(), "--rm -d\n");
    assert_eq!(run(&["-q", "web", "true"]).stderr, "");

    let host = project.test.context().join("file");
    project.test.file("file", "on the host\n").file("vars", "F=file\nG=file\n");
    let volume = format!("{}:/x:ro", host.display());
    let flags = [
        "--name",
        "mine",
        "-e",
        "A=b",
        "-e",
        "G=flag",
        "--env-from-file",
        "vars",
        "-l",
        "l=m",
        "-w",
        "/tmp",
        "-u",
        "nobody",
        "-v",
        &volume,
        "-v",
        "./file:/y",
        "--entrypoint",
        "sh -c",
        "web",
        "id -un; pwd; echo $A $F $G; cat /x /y",
    ];
    let expected = "nobody\n/tmp\nb file flag\non the host\non the host\n";
    assert_eq!(run(&flags).ok(), expected);
    let bits = |flags: &[&str]| {
        run(&[flags, &["-q", "web", "grep", "CapEff", "/proc/self/status"]].concat()).ok()
    };
    let capabilities = bits(&[]);
    assert_ne!(bits(&["--cap-add", "SYS_TIME"]), capabilities);
    assert_ne!(bits(&["--cap-drop", "CHOWN"]), capabilities);
    assert_eq!(project.containers(), ["web-1"], "all of them are gone");

    let missing = run(&["web", "nosuchprogram"]);
    assert!(missing.code != Some(0) && missing.stderr.contains("nosuchprogram"), "{missing}");
    assert_eq!(project.containers(), ["web-1"], "what did not start is gone");
    refused(&run(&["nosuch"]), "no such service: nosuch");
    refused(&run(&[]), "requires at least 1 arg(s), only received 0");
    refused(&run(&["-v", "a:b:c:d", "web"]), "a:b:c:d");
    refused(&run(&["-p", "x", "web"]), "--publish \"x\"");
    refused(&run(&["-P", "-p", "80", "web"]), "--service-ports and --publish are incompatible");
    refused(&run(&["--env-from-file", "nosuch", "web"]), "nosuch");
}

#[test]
fn a_one_off_container_is_left_alone_by_up_and_known_by_its_labels() {
    let project = running();
    let left =
        project.compose(&["run", "-d", "--name", "left", "-l", "x=y", "web", "sleep", "600"]);
    let id = left.ok().trim().to_owned();
    let shown = |template: &str| {
        project.test.rbuild(&["inspect", "--format", template, "left"]).ok().trim().to_owned()
    };
    assert_eq!(shown("{{.Id}} {{.State.Status}}"), format!("{id} running"));
    let labels: Value = serde_json::from_str(&shown("{{json .Config.Labels}}")).expect("labels");
    let label =
        |name: &str| labels[format!("com.docker.compose.{name}")].as_str().unwrap_or_default();
    assert_eq!((label("oneoff"), label("service"), label("container-number")), ("True", "web", ""));
    assert_eq!((label("slug").len(), labels["x"].as_str()), (64, Some("y")));
    let again = project.compose(&["run", "--rm", "--name", "left", "web", "true"]);
    refused(&again, "The container name \"/left\" is already in use");
    let up = project.compose(&["up", "-d"]);
    assert!(!up.succeeded().stderr.contains("left"), "{up}");
    assert_eq!(shown("{{.State.Status}}"), "running");
    project.test.rbuild(&["rm", "-f", "left"]).succeeded();

    let named = project.compose(&["run", "-d", "web", "sleep", "600"]).ok();
    let shown = project
        .test
        .rbuild(&[
            "inspect",
            "--format",
            "{{.Name}} {{index .Config.Labels \"com.docker.compose.slug\"}}",
            named.trim(),
        ])
        .ok();
    let (name, slug) = shown.trim().split_once(' ').expect("two words");
    assert_eq!(name, format!("/{}-web-run-{}", project.name, &slug[..12]));
    project.test.rbuild(&["rm", "-f", named.trim()]).succeeded();
}

#[test]
fn run_starts_what_the_service_depends_on_and_nothing_else() {
    let project = Project::of(&format!(
        "services:
  db:
    image: busybox
    {}
    healthcheck: {{test: test -e /ready, interval: 100ms, retries: 100}}
    post_start: [{{command: [touch, /ready]}}]
  other: {{image: busybox, {IDLE}}}
  task:
    image: busybox
    command: [sh, -c, 'nslookup db > /dev/null && echo found']
    depends_on: {{db: {{condition: service_healthy}}}}
    profiles: [tools]
    ports: ['127.0.0.1::80']
    networks: {{default: {{aliases: [helper]}}}}
",
        IDLE.replace(", stop", "\n    stop")
    ));
    refused(
        &project.compose(&["run", "--rm", "--no-deps", "--build", "task", "sh", "-c", "exit 1"]),
        "",
    );
    assert_eq!(project.containers(), [""; 0], "no dependencies");
    let run = project.compose(&["run", "--rm", "task"]);
    assert_eq!(run.ok(), "found\n");
    assert_eq!(project.containers(), ["db-1"]);
    assert_eq!(project.shown("db", "{{.State.Health.Status}}"), "healthy");
    let again = project.compose(&["run", "--rm", "task", "true"]);
    assert!(again.succeeded().stderr.contains("db-1 Running"), "{again}");

    let detached = |flags: &[&str]| {
        let line = [&["run", "-d"], flags, &["--name", "task", "task", "sleep", "600"]].concat();
        project.compose(&line).succeeded();
        let template = "{{len .HostConfig.PortBindings}} {{range .NetworkSettings.Networks}}{{join .Aliases \" \"}}{{end}}";
        let shown = project.test.rbuild(&["inspect", "--format", template, "task"]).ok();
        project.test.rbuild(&["rm", "-f", "task"]).succeeded();
        let (ports, names) = shown.trim().split_once(' ').expect("two words");
        (ports.to_owned(), names.contains("helper"))
    };
    assert_eq!(detached(&[]), ("0".to_owned(), false));
    assert_eq!(detached(&["--service-ports", "--use-aliases"]), ("1".to_owned(), true));
    assert_eq!(detached(&["-p", "127.0.0.1::90", "-p", "127.0.0.1::91"]), ("2".to_owned(), false));

    project.rewrite("services:\n  a: {image: busybox, depends_on: {b: {condition: service_completed_successfully}}}\n  b: {image: busybox, command: [sh, -c, exit 3]}\n");
    let failed = project.compose(&["run", "--rm", "--remove-orphans", "a", "echo", "never"]);
    refused(&failed, "exit 3");
    assert!(failed.stdout.is_empty(), "{failed}");
    assert_eq!(project.containers(), ["b-1"], "orphans are gone");
}

#[test]
fn run_builds_an_image_that_is_not_there_or_when_it_is_asked_to() {
    let project = Project::of("services:\n  a: {build: ., command: [cat, /v]}\n");
    project.test.file("Dockerfile", "FROM busybox\nRUN echo 1 > /v\n");
    assert!(project.compose(&["run", "--rm", "a"]).ok().ends_with("1\n"));
    project.test.file("Dockerfile", "FROM busybox\nRUN echo 2 > /v\n");
    assert_eq!(project.compose(&["run", "--rm", "a"]).ok(), "1\n");
    assert_eq!(project.compose(&["run", "--rm", "--build", "--quiet-build", "a"]).ok(), "2\n");
    let never = project.compose(&["run", "--rm", "--pull", "never", "a"]);
    assert_eq!(never.ok(), "2\n");
}

#[test]
fn hooks_run_when_a_container_starts_and_before_it_stops() {
    let hooks = |pre_stop: &str| {
        format!(
        "services:
  web:
    image: busybox
    {}
    volumes: ['./seen:/seen']
    post_start: [{{command: [sh, -c, 'echo start $$A $$(id -un) $$(pwd) >> /seen/log'], user: nobody, working_dir: /tmp, environment: [A=b]}}]
    pre_stop: [{{command: [sh, -c, '{pre_stop}']}}]
",
        IDLE.replace(", stop", "\n    stop")
    )
    };
    let project = Project::of(&hooks("echo stop >> /seen/log; chmod 666 /seen/log"));
    project.test.shell("mkdir -m 777 seen");
    let log = || project.test.shell("cat seen/log 2> /dev/null; rm -f seen/log; ls seen");
    project.compose(&["up", "-d"]).succeeded();
    assert_eq!(log(), "start b nobody /tmp\n");
    project.compose(&["restart"]).succeeded();
    assert_eq!(log(), "stop\nstart b nobody /tmp\n");
    assert_eq!(
        project
            .compose(&[
                "run",
                "--rm",
                "web",
                "sh",
                "-c",
                "until test -e /seen/log; do sleep 0.01; done; echo ran"
            ])
            .ok(),
        "ran\n"
    );
    assert_eq!(log(), "start b nobody /tmp\n");
    project.compose(&["stop"]).succeeded();
    assert_eq!(log(), "stop\n");
    project.rewrite(&hooks("exit 5"));
    project.compose(&["up", "-d"]).succeeded();
    refused(&project.compose(&["down"]), "exited with status 5");
    project.rewrite(&hooks("true"));
    project.compose(&["down"]).succeeded();
}

#[test]
fn what_runs_before_a_service_runs_once_before_its_first_container() {
    let file = |last: &str| {
        format!(
            "services:
  web:
    image: busybox
    scale: 2
    {}
    environment: {{X: own}}
    volumes: ['./seen:/seen', 'data:/data']
    pre_start:
      - command: [sh, -c, 'sleep 0.2; echo $$X >> /seen/log; touch /data/there']
      - {{image: busybox, environment: {{X: other}}, command: [sh, -c, '{last}']}}
volumes: {{data: {{}}}}
",
            IDLE.replace(", stop", "\n    stop")
        )
    };
    let project = Project::of(&file("echo $$X >> /seen/log"));
    let log = || project.test.shell("cat seen/log 2> /dev/null || true; rm -f seen/log");
    let up = project.compose(&["up", "-d"]);
    assert!(up.succeeded().stderr.contains("web-pre_start-1 Exited"), "{up}");
    assert_eq!(log(), "own\nother\n");
    assert_eq!(project.containers(), ["web-1", "web-2"], "they are gone");
    project.compose(&["exec", "web", "test", "-e", "/data/there"]).succeeded();
    for (arguments, expected) in [
        (&["up", "-d"][..], ""),
        (&["up", "-d", "--scale", "web=3"], ""),
        (&["restart"], ""),
        (&["up", "-d", "--force-recreate"], "own\nother\n"),
        (&["run", "--rm", "web", "true"], ""),
    ] {
        project.compose(arguments).succeeded();
        assert_eq!(log(), expected, "{arguments:?}");
    }
    project.compose(&["down"]).succeeded();
    project.rewrite(&file("echo oh; exit 3"));
    let failed = project.compose(&["up", "-d"]);
    refused(&failed, "service \"web\" pre_start[1] exited with code 3\n    oh");
    assert_eq!(project.shown("web", "{{.State.Status}}"), "created");
}
