//! `rcompose` beside `up` and `down`: builds, downloads and uploads, commands in containers, one-off containers, files.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::containers::soon;
use crate::support::project::Project;
use crate::support::{Outcome, Registry};

const IDLE: &str =
    "command: [sh, -c, 'trap \"exit 0\" TERM; sleep 600 & wait'], stop_grace_period: 2s";

/// A project with one service of busybox that does nothing.
fn idle() -> Project {
    Project::of(&format!("services:\n  web: {{image: busybox, {IDLE}}}\n"))
}

/// The same, running.
fn running() -> Project {
    let project = idle();
    project.compose(&["up", "-d"]).succeeded();
    project
}

/// What stands in an image's file.
#[track_caller]
fn read(project: &Project, image: &str, path: &str) -> String {
    project.test.rbuild(&["run", "--rm", "--network", "none", image, "cat", path]).ok()
}

#[track_caller]
fn refused(outcome: &Outcome, text: &str) {
    let told = outcome.failed(1);
    assert!(told.contains(text), "no {text:?} in\n{outcome}");
}

#[test]
fn build_makes_the_images_of_all_services_or_of_those_that_are_named() {
    let project = Project::of(
        "services:
  db: {build: {context: ., dockerfile_inline: \"FROM busybox\\nARG A\\nARG B=0\\nRUN echo $$A $$B > /args\\n\", args: {A: file}}}
  app: {image: 'shop:1', build: {context: ctx, dockerfile: D, additional_contexts: {base: 'service:db'}, tags: ['shop:2']}}
  plain: {image: busybox}
",
    );
    project.test.file("ctx/D", "FROM base\nRUN cat /args > /copied\n");
    let all = project.compose(&["build"]);
    let db = format!("{}-db", project.name);
    let told = &all.succeeded().stderr;
    let line = |text: String| told.find(&text).unwrap_or_else(|| panic!("no {text:?} in\n{all}"));
    assert!(line(format!(" Image {db} Built ")) < line(" Image shop:1 Building ".to_owned()));
    assert!(
        String::from_utf8_lossy(&all.stdout).contains("[app] "),
        "the log is the answer: {all}"
    );
    assert_eq!(read(&project, "shop:2", "/copied"), "file 0\n");
    let labels =
        project.test.rbuild(&["image", "inspect", "--format", "{{json .Config.Labels}}", &db]);
    let labels: Value = serde_json::from_str(&labels.ok()).expect("labels");
    assert_eq!(labels["com.docker.compose.project"], project.name);
    assert_eq!(labels["com.docker.compose.service"], "db");

    let named =
        project.compose(&["build", "-q", "--build-arg", "A=flag", "--build-arg", "B", "db"]);
    assert!(!named.succeeded().stderr.contains("shop:1"), "{named}");
    assert_eq!(named.ok(), "", "quiet");
    assert_eq!(
        read(&project, &db, "/args"),
        "flag 0\n",
        "a variable that is not set is no argument"
    );
    // What an image is built on comes with it.
    let app = project.compose(&["build", "app"]);
    assert!(app.succeeded().stderr.contains(&format!(" Image {db} Built ")), "{app}");

    let nothing = project.compose(&["build", "plain"]);
    assert!(nothing.succeeded().stderr.contains("No services to build"), "{nothing}");
    refused(&project.compose(&["build", "nosuch"]), "no such service: nosuch");
}

#[test]
fn a_build_is_printed_or_checked_instead() {
    let project = Project::of(
        "services:
  a: {build: {context: ., target: t, args: {X: y}}, depends_on: [b]}
  b: {image: 'b:1', build: {dockerfile_inline: FROM busybox}}
",
    );
    project.test.file("Dockerfile", "FROM busybox AS t\nMAINTAINER me\n");
    let print = |arguments: &[&str]| -> Value {
        let printed = project.compose(&[&["build", "--print"], arguments].concat()).ok();
        serde_json::from_str(&printed).expect("a bake file")
    };
    let context = project.test.context().to_string_lossy().into_owned();
    let file = print(&[]);
    assert_eq!(file["group"]["default"]["targets"], serde_json::json!(["a", "b"]));
    let a = &file["target"]["a"];
    assert_eq!((&a["context"], &a["target"]), (&context.into(), &"t".into()));
    assert_eq!((&a["args"]["X"], &a["output"][0]), (&"y".into(), &"type=docker".into()));
    assert_eq!(file["target"]["b"]["dockerfile-inline"], "FROM busybox");
    let pushed = print(&["--push", "b"]);
    assert_eq!(pushed["target"]["b"]["output"][0], "type=image,push=true");
    assert_eq!(print(&["a"])["group"]["default"]["targets"], serde_json::json!(["a"]));
    let both = print(&["--with-dependencies", "a"]);
    assert_eq!(both["group"]["default"]["targets"], serde_json::json!(["a", "b"]));
    assert!(!project.test.names().contains(&"b:1".to_owned()), "nothing was built");

    let checked = project.compose(&["build", "--check", "a"]);
    assert!(format!("{checked}").contains("MaintainerDeprecated"), "{checked}");
    assert!(
        !project.test.names().iter().any(|name| name.contains(&project.name)),
        "nothing was built"
    );
    refused(&project.compose(&["build", "--nosuch"]), "--nosuch");
}

#[test]
fn a_build_takes_secrets_and_flags_of_the_file() {
    let project = Project::of(
        "services:
  a:
    image: a
    build:
      dockerfile_inline: |
        FROM busybox
        RUN --mount=type=secret,id=f --mount=type=secret,id=v cat /run/secrets/f /run/secrets/v > /secrets
        RUN grep -q 10.1.2.3 /etc/hosts && ulimit -n > /limit && df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2 >> /limit
      secrets: [f, {source: e, target: v}]
      extra_hosts: ['other:10.1.2.3']
      ulimits: {nofile: 512}
      shm_size: 8mb
      labels: {l: m}
secrets: {f: {file: ./f}, e: {environment: WORD}}
",
    );
    project.test.file("f", "file\n").file(".env", "WORD=variable\n");
    project.compose(&["build"]).succeeded();
    assert_eq!(read(&project, "a", "/secrets"), "file\nvariable");
    assert_eq!(read(&project, "a", "/limit"), "512\n8192\n");
    let again = project.compose(&["build", "--no-cache"]);
    let again = String::from_utf8_lossy(&again.succeeded().stdout).into_owned();
    assert!(!again.contains("CACHED"), "{again}");
}

#[test]
fn a_build_that_fails_ends_the_others() {
    let project = Project::of(
        "services:
  bad: {build: {dockerfile_inline: \"FROM busybox\\nRUN sleep 1; echo broken; exit 3\\n\"}}
  slow: {build: {dockerfile_inline: \"FROM busybox\\nRUN sleep 100\\n\"}}
",
    );
    let begun = Instant::now();
    let failed = project.compose(&["build"]);
    refused(&failed, "build of service bad failed");
    assert!(failed.stderr.contains("broken") && failed.stderr.contains("exit code: 3"), "{failed}");
    // What it printed was shown as it came.
    let printed = String::from_utf8_lossy(&failed.stdout).into_owned() + &failed.stderr;
    assert_eq!(printed.matches("Dockerfile:2\n").count(), 1, "{failed}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{failed}");
}

#[test]
fn a_registry_is_asked_again_when_the_last_pull_is_as_old_as_the_policy_says() {
    let Some(registry) = Registry::plain() else { return };
    let name = registry.name("app:1");
    let project = Project::of(&format!(
        "services:
  app: {{image: '{name}', pull_policy: daily, command: 'true', network_mode: none}}
"
    ));
    for line in [["tag", "busybox", &name], ["push", "-q", &name], ["rmi", "-f", &name]] {
        project.test.rbuild(&line).succeeded();
    }
    // How often the registry is asked for the image while it is brought up.
    let asked = || {
        registry.forget_requests();
        project.compose(&["up", "--no-start"]).succeeded();
        registry.requests().iter().filter(|line| line.contains("/manifests/")).count()
    };
    assert!(asked() > 0, "it is not here");
    assert_eq!(asked(), 0, "it was pulled just now");
    project.test.shell("touch -d '25 hours ago' \"$RBUILD_ROOT\"/images/pulled/*");
    assert!(asked() > 0, "it was pulled more than a day ago");
    assert_eq!(asked(), 0, "what was up to date was asked for all the same");
    project.test.shell("touch -d '23 hours ago' \"$RBUILD_ROOT\"/images/pulled/*");
    assert_eq!(asked(), 0, "it was pulled less than a day ago");
}

#[test]
fn images_are_pushed_and_pulled() {
    let Some(registry) = Registry::plain() else { return };
    let name = registry.name("app:1");
    let other = registry.name("app:2");
    let project = Project::of(&format!(
        "services:
  app: {{image: '{name}', build: {{dockerfile_inline: \"FROM busybox\\nRUN echo app > /app\\n\", tags: ['{other}']}}}}
  dep: {{image: '{name}', depends_on: [app]}}
  plain: {{image: busybox}}
  local: {{build: .}}
"
    ));
    refused(&project.compose(&["push", "app"]), &format!("push of {}", registry.name("app:")));
    let ignored = project.compose(&["push", "--ignore-push-failures", "app"]);
    assert!(ignored.succeeded().stderr.contains(&name), "{ignored}");
    let pushed = project.compose(&["build", "--push", "app"]);
    pushed.succeeded();
    assert!(registry.repository("app").exists());
    registry.manifest("app:2");
    let pushed = project.compose(&["push", "app", "plain", "local"]);
    let told = &pushed.succeeded().stderr;
    for line in [
        format!(" {name} Pushed "),
        format!(" {other} Pushed "),
        " plain Skipped ".to_owned(),
        " local Skipped ".to_owned(),
    ] {
        assert!(told.contains(&line), "no {line:?} in\n{pushed}");
    }

    project.test.rbuild(&["rmi", "-f", &name, &other]).succeeded();
    let skipped = project.compose(&["pull", "--ignore-buildable", "app", "local"]);
    let told = &skipped.succeeded().stderr;
    assert!(told.contains(&format!(" Image {name} Skipped Image can be built ")), "{skipped}");
    assert!(told.contains(" local Skipped No image to be pulled "), "{skipped}");
    let pulled = project.compose(&["pull", "-q", "dep"]);
    assert!(pulled.succeeded().stderr.contains(&format!(" Image {name} Pulled ")), "{pulled}");
    assert_eq!(read(&project, &name, "/app"), "app\n");
    let missing = project.compose(&["pull", "--policy", "missing", "dep"]);
    let line = format!(" Image {name} Skipped Image is already present locally ");
    assert!(missing.succeeded().stderr.contains(&line), "{missing}");

    let gone = registry.name("gone:1");
    project.rewrite(&format!(
        "services:
  gone: {{image: '{gone}'}}
  app: {{image: '{name}', pull_policy: never}}
  built: {{image: '{gone}x', build: .}}
"
    ));
    refused(&project.compose(&["pull", "gone"]), &format!("pull of {gone} failed"));
    let ignored = project.compose(&["pull", "--ignore-pull-failures"]);
    let told = &ignored.succeeded().stderr;
    assert!(told.contains(&format!(" Image {name} Skipped ")), "{ignored}");
    assert!(
        told.contains("must be built from source") && told.contains("build built"),
        "{ignored}"
    );
    refused(&project.compose(&["pull", "nosuch"]), "no such service: nosuch");
    refused(&project.compose(&["push", "nosuch"]), "no such service: nosuch");
}

#[test]
fn exec_runs_a_command_in_a_services_container() {
    let project = running();
    let exec = |arguments: &[&str]| project.compose(&[&["exec"], arguments].concat());
    assert_eq!(exec(&["web", "echo", "hi"]).ok(), "hi\n");
    assert_eq!(exec(&["-T", "web", "sh", "-c", "echo err >&2; exit 9"]).failed(9), "err\n");
    let flags =
        ["-e", "A=b", "-w", "/tmp", "-u", "nobody", "web", "sh", "-c", "id -un; pwd; echo $A"];
    assert_eq!(exec(&flags).ok(), "nobody\n/tmp\nb\n");
    let input = project.compose_with(&["exec", "-T", "web", "cat"], &[], Some(b"given"));
    assert_eq!(input.ok(), "given");
    // What follows the service is the command's.
    assert_eq!(exec(&["web", "echo", "-e", "a", "--index", "2"]).ok(), "a --index 2\n");
    let capabilities = |flag: &[&str]| {
        exec(&[flag, &["web", "grep", "CapEff", "/proc/self/status"]].concat()).ok()
    };
    assert_ne!(capabilities(&[]), capabilities(&["--privileged"]));
    assert_eq!(exec(&["-d", "web", "sh", "-c", "touch /tmp/detached; sleep 600"]).ok(), "");
    soon("it is run", || exec(&["web", "test", "-e", "/tmp/detached"]).code == Some(0));
    assert_ne!(exec(&["web", "nosuchprogram"]).code, Some(0));

    project.compose(&["scale", "web=2"]).succeeded();
    let hostname = exec(&["--index", "2", "web", "hostname"]).ok();
    let second = format!("{}-web-2", project.name);
    let id = project.test.rbuild(&["inspect", "--format", "{{.Id}}", &second]).ok();
    assert!(id.starts_with(hostname.trim()), "{hostname} {id}");

    refused(&exec(&["--index", "3", "web", "true"]), "service \"web\" is not running container #3");
    refused(&exec(&["nosuch", "true"]), "service \"nosuch\" is not running");
    refused(&exec(&["web"]), "requires at least 2 arg(s), only received 1");
    refused(&exec(&[]), "requires at least 2 arg(s), only received 0");
    project.compose(&["stop", "-t", "0"]).succeeded();
    refused(&exec(&["web", "true"]), "service \"web\" is not running");
}

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
fn who_is_to_be_restarted_with_a_service_is() {
    let project = Project::of(&format!(
        "services:
  db:
    image: busybox
    {}
    volumes: ['./seen:/seen']
    healthcheck: {{test: test -e /seen/well -a ! -e /seen/ill, interval: 200ms}}
    post_start: [{{command: [sh, -c, 'sleep 0.3; touch /seen/well']}}]
    pre_stop: [{{command: [rm, /seen/well]}}]
  app: {{image: busybox, {IDLE}, depends_on: {{db: {{condition: service_healthy, restart: true}}}}}}
  edge: {{image: busybox, {IDLE}, depends_on: {{app: {{condition: service_started, restart: true}}}}}}
  side: {{image: busybox, {IDLE}, network_mode: 'service:db'}}
  web: {{image: busybox, {IDLE}, depends_on: [db]}}
",
        IDLE.replace(", stop", "\n    stop")
    ));
    project.test.shell("mkdir -m 777 seen");
    project.compose(&["up", "-d"]).succeeded();
    let all = ["db", "app", "edge", "side", "web"];
    let begun = || all.map(|service| project.shown(service, "{{.State.StartedAt}}"));
    let mut before = begun();
    let mut restarted = |arguments: &[&str]| {
        project.compose(arguments).succeeded();
        let now = begun();
        let changed = all.iter().zip(now.iter().zip(&before)).filter(|(_, (now, old))| now != old);
        let changed = changed.map(|(service, _)| *service).collect::<Vec<_>>();
        before = now;
        (changed, before.clone())
    };
    let (changed, at) = restarted(&["restart", "db"]);
    assert_eq!(changed, ["db", "app", "edge", "side"]);
    assert!(at[0] < at[1] && at[1] < at[2] && at[0] < at[3], "in order: {at:?}");
    let net = |service| project.compose(&["exec", service, "readlink", "/proc/1/ns/net"]).ok();
    assert_eq!(net("side"), net("db"), "it has the network of what runs now");
    assert_eq!(restarted(&["restart", "--no-deps", "db", "web"]).0, ["db", "web"]);
    assert_eq!(restarted(&["restart", "web"]).0, ["web"]);
    assert_eq!(restarted(&["restart"]).0, all);
    // Without the file, by labels.
    project.test.shell("mv compose.yaml away");
    assert_eq!(restarted(&["restart", "app"]).0, ["app", "edge"]);
    // What it needs to be healthy is not.
    project.test.shell("touch seen/ill");
    assert!(project.compose(&["restart", "db"]).failed(1).contains("unhealthy"));
    assert_eq!(restarted(&["ps"]).0, ["db", "side"]);
    project.test.shell("mv away compose.yaml");
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

#[test]
fn files_are_copied_into_containers_and_out_of_them() {
    let project = running();
    let cp = |arguments: &[&str]| project.compose(&[&["cp"], arguments].concat());
    let name = format!("{}-web-1", project.name);
    project.test.file("a", "text\n").shell("ln -s a link");
    let into = cp(&["a", "web:/tmp/"]);
    assert_eq!(
        into.succeeded().stderr,
        format!(" {name} Copying a to {name}:/tmp/ \n {name} Copied a to {name}:/tmp/ \n")
    );
    cp(&["-L", "./link", "web:/tmp/followed"]).succeeded();
    assert_eq!(
        project.compose(&["exec", "web", "cat", "/tmp/a", "/tmp/followed"]).ok(),
        "text\ntext\n"
    );
    cp(&["web:/tmp/a", "back"]).succeeded();
    assert_eq!(project.test.shell("cat back"), "text\n");
    let tar = cp(&["-a", "web:/tmp/a", "-"]);
    assert!(tar.ok().contains("ustar"), "{tar}");

    project.compose(&["scale", "web=2"]).succeeded();
    cp(&["--index", "2", "a", "web:/second"]).succeeded();
    cp(&["--all", "a", "web:/both"]).succeeded();
    let there = |index: &str, path: &str| {
        project.compose(&["exec", "--index", index, "web", "test", "-e", path]).code == Some(0)
    };
    let seen = [("1", "/second"), ("2", "/second"), ("1", "/both"), ("2", "/both")]
        .map(|(index, path)| there(index, path));
    assert_eq!(seen, [false, true, true, true]);

    refused(&cp(&["web:/nosuch", "."]), "/nosuch");
    refused(&cp(&["nosuch", "web:/tmp"]), "nosuch");
    refused(&cp(&["nosuch:/x", "."]), "no container found for service \"nosuch\"");
    refused(&cp(&["a", "web:/tmp", "--index", "5"]), "service \"web\" is not running container #5");
    refused(&cp(&["a", "x"]), "unknown copy direction");
    refused(&cp(&["web:/a", "web:/b"]), "copying between services is not supported");
}

#[test]
fn a_container_is_exported_committed_and_attached_to() {
    let project = Project::of(
        "services:\n  web: {image: busybox, command: [sh, -c, 'for i in 1 2; do read line; echo got $$line; done; exit 4'], stdin_open: true, stop_grace_period: 0s}\n",
    );
    project.compose(&["up", "-d"]).succeeded();
    project.compose(&["exec", "web", "sh", "-c", "echo new > /new"]).succeeded();
    let name = format!("{}-web-1", project.name);
    let export = project.compose(&["export", "web", "-o", "w.tar"]);
    assert_eq!(export.succeeded().stderr, format!(" {name} Exporting \n"));
    assert_eq!(project.test.shell("tar -xOf w.tar new"), "new\n");
    let commit = project.compose(&[
        "commit",
        "-a",
        "me",
        "-m",
        "why",
        "-c",
        "ENV A=b",
        "--pause=false",
        "web",
        "committed:1",
    ]);
    let told = &commit.succeeded().stderr;
    assert!(
        told.starts_with(&format!(" {name} Committing \n {name} Committed as sha256:")),
        "{commit}"
    );
    assert_eq!(read(&project, "committed:1", "/new"), "new\n");
    let shown = project.test.rbuild(&[
        "image",
        "inspect",
        "--format",
        "{{.Author}} {{.Comment}}",
        "committed:1",
    ]);
    assert_eq!(shown.ok(), "me why\n");
    let attached = project.compose_with(&["attach", "web"], &[], Some(b"one\ntwo\n"));
    attached.failed(4);
    assert_eq!(String::from_utf8_lossy(&attached.stdout), "got one\ngot two\n");
    for verb in
        [&["attach", "--no-stdin", "nosuch"][..], &["export", "nosuch"], &["commit", "nosuch"]]
    {
        refused(&project.compose(verb), "service \"nosuch\" is not running");
    }
}

#[test]
fn wait_ends_with_the_code_of_what_has_ended() {
    let project = Project::of(
        "services:
  a: {image: busybox, command: [sh, -c, 'sleep 1; exit 7']}
  b: {image: busybox, command: [sh, -c, 'exit 0']}
",
    );
    project.compose(&["up", "-d"]).succeeded();
    let id = project.id("a");
    let waited = project.compose(&["wait", "a"]);
    waited.failed(7);
    let line = format!("container {id:?} exited with status code 7\n");
    assert_eq!(String::from_utf8_lossy(&waited.stdout), line);
    project.compose(&["wait", "b"]).succeeded();
    refused(&project.compose(&["wait", "nosuch"]), "no containers for project");
    refused(&project.compose(&["wait"]), "SERVICE");
    project.compose(&["wait", "--down-project", "a"]).failed(7);
    assert_eq!(project.containers(), [""; 0]);
}

#[test]
fn scale_starts_and_removes_containers_of_the_services_that_are_named() {
    let project = Project::of(&format!(
        "services:\n  web: {{image: busybox, {IDLE}, depends_on: [db]}}\n  db: {{image: busybox, {IDLE}}}\n"
    ));
    project.compose(&["scale", "--no-deps", "web=2"]).succeeded();
    assert_eq!(project.containers(), ["web-1", "web-2"]);
    project.compose(&["scale", "web=1", "db=2"]).succeeded();
    assert_eq!(project.containers(), ["db-1", "db-2", "web-1"]);
    refused(&project.compose(&["scale", "nosuch=2"]), "no such service: nosuch");
    refused(&project.compose(&["scale", "db"]), "invalid scale specifier: db");
    refused(
        &project.compose(&["scale", "db=x"]),
        "invalid scale specifier: can't parse replica value as int: db=x",
    );
    refused(&project.compose(&["scale"]), "SERVICE=NUMBER");
}
