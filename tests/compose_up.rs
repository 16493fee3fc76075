//! `rcompose up` and `down`: what is there becomes what the file says, and only what differs is touched.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::containers::soon;
use crate::support::project::Project;

/// A program that ends when it is asked to.
const IDLE: &str = "sh -c 'trap \"exit 0\" TERM; sleep 600 & wait'";

fn two(extra: &str) -> String {
    format!(
        "services:
  db: {{image: busybox, command: {IDLE:?}, stop_grace_period: 2s{extra}}}
  web: {{image: busybox, command: {IDLE:?}, stop_grace_period: 2s, depends_on: [db]}}
"
    )
}

/// The lines of progress about containers, without what is in front and in order of their names.
fn told(project: &Project, stderr: &str) -> Vec<String> {
    let prefix = format!(" Container {}-", project.name);
    let mut lines: Vec<String> = stderr
        .lines()
        .filter_map(|line| Some(line.strip_prefix(&prefix)?.trim().to_owned()))
        .collect();
    lines.sort();
    lines
}

#[test]
fn what_is_as_it_should_be_is_left_alone_and_what_changed_is_made_anew() {
    let project = Project::of(&two(""));
    let first = project.compose(&["up", "-d"]);
    assert_eq!(
        told(&project, &first.succeeded().stderr),
        [
            "db-1 Created",
            "db-1 Creating",
            "db-1 Started",
            "db-1 Starting",
            "web-1 Created",
            "web-1 Creating",
            "web-1 Started",
            "web-1 Starting"
        ]
    );
    let (db, web) = (project.id("db"), project.id("web"));
    let again = project.compose(&["up", "-d"]);
    assert_eq!(told(&project, &again.succeeded().stderr), ["db-1 Running", "web-1 Running"]);
    assert_eq!([project.id("db"), project.id("web")], [db.clone(), web.clone()]);

    project.rewrite(&two(", environment: {A: b}"));
    let plan = project.compose(&["--dry-run", "up", "-d"]).ok();
    assert!(plan.contains("db-1: recreate (its environment has changed)"), "{plan}");
    assert!(plan.contains("web-1: nothing to do"), "{plan}");
    assert_eq!(project.id("db"), db, "a dry run changes nothing");
    project.compose(&["up", "-d"]).succeeded();
    assert_ne!(project.id("db"), db);
    assert_eq!(project.id("web"), web);
    assert_eq!(project.shown("db", "{{index .Config.Env 0}}"), "A=b");

    let anew = project.id("db");
    project.compose(&["up", "-d", "--no-recreate"]).succeeded();
    project.rewrite(&two(", environment: {A: c}"));
    project.compose(&["up", "-d", "--no-recreate"]).succeeded();
    assert_eq!(project.id("db"), anew);
    project.compose(&["up", "-d", "--force-recreate", "web"]).succeeded();
    assert_ne!(project.id("web"), web);

    let down = project.compose(&["down"]);
    down.succeeded();
    assert!(project.containers().is_empty());
    let networks = project.test.rbuild(&["network", "ls", "--format", "{{.Name}}"]).ok();
    assert!(!networks.contains(&project.name), "{networks}");
    let nothing = project.compose(&["down"]);
    assert!(nothing.succeeded().stderr.contains("No resource found to remove"), "{nothing}");
}

#[test]
fn an_image_that_was_built_anew_gives_new_containers() {
    let project = Project::of(&format!(
        "services:\n  app: {{build: ., command: {IDLE:?}}}\n  other: {{image: busybox, command: {IDLE:?}}}\n"
    ));
    project.test.file("Dockerfile", "FROM busybox\nRUN echo one > /version\n");
    let up = project.compose(&["up", "-d"]);
    assert!(up.succeeded().stderr.contains("-app Built"), "{up}");
    let (app, other) = (project.id("app"), project.id("other"));
    project.compose(&["up", "-d", "--build"]).succeeded();
    assert_eq!(project.id("app"), app, "nothing was changed in the image");
    project.test.file("Dockerfile", "FROM busybox\nRUN echo two > /version\n");
    project.compose(&["up", "-d"]).succeeded();
    assert_eq!(project.id("app"), app, "a build has to be asked for");
    project.compose(&["up", "-d", "--build"]).succeeded();
    assert_ne!(project.id("app"), app);
    assert_eq!(project.id("other"), other);
    let version = project.test.rbuild(&["exec", &project.id("app"), "cat", "/version"]).ok();
    assert_eq!(version, "two\n");

    project.test.file("Dockerfile", "FROM busybox\nRUN echo broken >&2; exit 3\n");
    let app = project.id("app");
    let failed = project.compose(&["up", "-d", "--build"]);
    let text = failed.failed(1);
    assert!(text.contains("build of service app") && text.contains("broken"), "{failed}");
    assert_eq!(project.id("app"), app, "what runs goes on");
}

#[test]
fn a_service_waits_for_what_it_depends_on() {
    let project = Project::of(
        "services:
  first:
    image: busybox
    command: sh -c 'sleep 0.3; echo done > /shared/first'
    volumes: [shared:/shared]
  slow:
    image: busybox
    command: sh -c 'sleep 0.3; touch /well; trap \"exit 0\" TERM; sleep 600 & wait'
    healthcheck: {test: [CMD, test, -e, /well], interval: 30s}
  last:
    image: busybox
    command: sh -c 'cat /shared/first; trap \"exit 0\" TERM; sleep 600 & wait'
    volumes: [shared:/shared]
    depends_on:
      first: {condition: service_completed_successfully}
      slow: {condition: service_healthy}
volumes: {shared: }
",
    );
    let begun = Instant::now();
    project.compose(&["up", "-d"]).succeeded();
    // Its own interval would let us wait for half a minute.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(project.shown("slow", "{{.State.Health.Status}}"), "healthy");
    assert_eq!(project.shown("first", "{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
    let name = format!("{}-last-1", project.name);
    soon("it finds what the first one wrote", || {
        project.test.rbuild(&["logs", &name]).ok() == "done\n"
    });
    project.compose(&["up", "-d", "--wait"]).succeeded();
}

#[test]
fn who_fails_soon_after_its_start_has_not_come_up() {
    let project = Project::of(&format!(
        "services:
  stays: {{image: busybox, command: {IDLE:?}}}
  fails: {{image: busybox, command: sh -c 'sleep 0.1; echo no config; exit 4', profiles: [broken]}}
"
    ));
    project.compose(&["up", "-d", "--wait"]).succeeded();
    let up = project.compose(&["--profile", "broken", "up", "-d", "--wait"]);
    let failed = up.failed(1);
    assert!(failed.contains("fails-1 exited (4)") && failed.contains("no config"), "{failed}");
}

#[test]
fn who_waits_for_the_end_of_what_is_always_started_again_is_told() {
    let project = Project::of(&format!(
        "services:
  job: {{image: busybox, command: sh -c 'exit 3', restart: always}}
  last:
    image: busybox
    command: {IDLE:?}
    depends_on: {{job: {{condition: service_completed_successfully}}}}
"
    ));
    let up = project.compose(&["--progress", "plain", "up", "-d", "--wait-timeout", "2", "--wait"]);
    let told = up.failed(1);
    let restarts = format!("Container {}-job-1 Restarting", project.name);
    assert!(told.contains(&restarts), "{told}");
}

#[test]
fn a_dependency_that_fails_is_told_at_once_with_what_it_said() {
    let project = Project::of(&format!(
        "services:
  broken:
    image: busybox
    command: sh -c 'echo no config; exit 4'
    healthcheck: {{test: [CMD, \"true\"], interval: 30s}}
  sick:
    image: busybox
    command: sh -c 'echo no key; trap \"exit 0\" TERM; sleep 600 & wait'
    healthcheck: {{test: [CMD, \"false\"], interval: 100ms, retries: 2}}
  loops:
    image: busybox
    command: sh -c 'echo no port; exit 4'
    restart: always
    healthcheck: {{test: [CMD, \"true\"], interval: 30s}}
  tries:
    image: busybox
    command: sh -c 'echo . >> /tries; test $$(wc -l < /tries) -gt 2 && touch /well && exec sleep 600'
    restart: always
    stop_grace_period: 0s
    healthcheck: {{test: [CMD, test, -e, /well], interval: 30s}}
  needs_loops: {{image: busybox, command: {IDLE:?}, depends_on: {{loops: {{condition: service_healthy}}}}}}
  needs_tries: {{image: busybox, command: {IDLE:?}, depends_on: {{tries: {{condition: service_healthy}}}}}}
  job: {{image: busybox, command: sh -c 'echo half; exit 3'}}
  bare: {{image: busybox, command: {IDLE:?}}}
  needs_broken: {{image: busybox, command: {IDLE:?}, depends_on: {{broken: {{condition: service_healthy}}}}}}
  needs_sick: {{image: busybox, command: {IDLE:?}, depends_on: {{sick: {{condition: service_healthy}}}}}}
  needs_job: {{image: busybox, command: {IDLE:?}, depends_on: {{job: {{condition: service_completed_successfully}}}}}}
  needs_bare: {{image: busybox, command: {IDLE:?}, depends_on: {{bare: {{condition: service_healthy}}}}}}
  can_do_without:
    image: busybox
    command: {IDLE:?}
    depends_on: {{job: {{condition: service_completed_successfully, required: false}}}}
"
    ));
    let begun = Instant::now();
    for (service, texts) in [
        (
            "needs_broken",
            &["dependency failed to start: container ", "-broken-1 exited (4)", "no config"][..],
        ),
        ("needs_sick", &["-sick-1 is unhealthy", "no key"]),
        (
            "needs_loops",
            &[
                "dependency failed to start: container ",
                "-loops-1 is unhealthy: it is restarting, its program ended with exit code 4",
                "no port",
            ],
        ),
        ("needs_job", &["service \"job\" didn't complete successfully: exit 3", "half"]),
        ("needs_bare", &["-bare-1 has no healthcheck configured"]),
    ] {
        let failed = project.compose(&["up", "-d", service]);
        let said = failed.failed(1);
        for text in texts {
            assert!(said.contains(text), "no {text:?} in\n{failed}");
        }
        assert_eq!(project.shown(service, "{{.State.Status}}"), "created");
    }
    // What ends once or twice may become well yet.
    project.compose(&["up", "-d", "needs_tries"]).succeeded();
    assert_eq!(project.shown("tries", "{{.RestartCount}} {{.State.Health.Status}}"), "2 healthy");
    project.compose(&["up", "-d", "can_do_without"]).succeeded();
    assert_eq!(project.shown("can_do_without", "{{.State.Status}}"), "running");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

#[test]
fn who_is_to_be_restarted_with_what_it_depends_on_is_when_that_is_replaced() {
    let file = |command: &str| {
        format!(
            "services:
  db: {{image: busybox, command: {command:?}, stop_grace_period: 0s}}
  web: {{image: busybox, command: {IDLE:?}, depends_on: {{db: {{condition: service_started, restart: true}}}}}}
  plain: {{image: busybox, command: {IDLE:?}, depends_on: [db]}}
"
        )
    };
    let project = Project::of(&file("sleep 600"));
    project.compose(&["up", "-d"]).succeeded();
    let begun = |service| project.shown(service, "{{.Id}} {{.State.StartedAt}}");
    let before = ["web", "plain"].map(begun);
    project.compose(&["up", "-d", "--scale", "db=2"]).succeeded();
    assert_eq!(["web", "plain"].map(begun), before, "a second one is no other one");
    project.rewrite(&file("sleep 700"));
    let web = project.id("web");
    project.compose(&["up", "-d"]).succeeded();
    assert_eq!(project.id("web"), web, "it is the same container");
    assert_ne!(begun("web"), before[0]);
    assert_eq!(begun("plain"), before[1]);
    assert!(
        project.shown("db", "{{.State.StartedAt}}") < project.shown("web", "{{.State.StartedAt}}")
    );
}

#[test]
fn as_many_containers_run_as_are_wanted_and_orphans_are_told_of() {
    let file = |services: &str| format!("services:\n{services}");
    let a = format!("  a: {{image: busybox, command: {IDLE:?}, scale: 2}}\n");
    let b = format!("  b: {{image: busybox, command: {IDLE:?}}}\n");
    let project = Project::of(&file(&(a.clone() + &b)));
    project.compose(&["up", "-d"]).succeeded();
    assert_eq!(project.containers(), ["a-1", "a-2", "b-1"]);
    let first = project.id("a");
    project.compose(&["up", "-d", "--scale", "a=3"]).succeeded();
    assert_eq!(project.containers(), ["a-1", "a-2", "a-3", "b-1"]);
    project.compose(&["up", "-d", "--scale", "a=1"]).succeeded();
    assert_eq!(project.containers(), ["a-1", "b-1"]);
    assert_eq!(project.id("a"), first);
    project.rewrite(&file(&a));
    let told = project.compose(&["up", "-d"]);
    assert!(told.succeeded().stderr.contains("Found orphan containers (["), "{told}");
    assert_eq!(project.containers(), ["a-1", "a-2", "b-1"]);
    project.compose(&["up", "-d", "--remove-orphans"]).succeeded();
    assert_eq!(project.containers(), ["a-1", "a-2"]);
    for bad in ["a", "a=x", "nobody=2", "a=99999999999"] {
        project.compose(&["up", "-d", "--scale", bad]).failed(1);
    }
    for negative in [&["up", "-d", "--scale", "a=-1"][..], &["scale", "a=-1"]] {
        let failed = project.compose(negative);
        assert!(failed.failed(1).contains("a service cannot have -1 containers"), "{failed}");
    }
}

#[test]
fn volumes_outlive_down_and_go_with_down_v() {
    let project = Project::of(&format!(
        "services:
  app:
    image: busybox
    command: {IDLE:?}
    volumes: [data:/data, /anonymous]
volumes: {{data: }}
"
    ));
    let run = |command: &str| {
        project.test.rbuild(&["exec", &project.id("app"), "sh", "-c", command]).ok()
    };
    project.compose(&["up", "-d"]).succeeded();
    run("echo kept > /data/x; echo carried > /anonymous/x");
    let before = project.id("app");
    project.compose(&["up", "-d", "--force-recreate"]).succeeded();
    assert_ne!(project.id("app"), before);
    assert_eq!(run("cat /data/x /anonymous/x"), "kept\ncarried\n");
    project.compose(&["up", "-d", "--force-recreate", "-V"]).succeeded();
    assert_eq!(run("cat /data/x; ls /anonymous"), "kept\n");
    project.compose(&["down"]).succeeded();
    project.compose(&["up", "-d"]).succeeded();
    assert_eq!(run("cat /data/x"), "kept\n");
    project.compose(&["down", "-v"]).succeeded();
    let left = project.test.rbuild(&["volume", "ls", "-q"]).ok();
    assert!(!left.contains(&project.name), "{left}");
    project.compose(&["up", "-d"]).succeeded();
    assert_eq!(run("ls /data"), "");
}

#[test]
fn an_external_volume_stays_whoever_made_its_name_up() {
    let project = Project::of("services: {}");
    let volume = project.test.rbuild(&["volume", "create"]).ok();
    project.rewrite(&format!(
        "services: {{app: {{image: busybox, command: sleep 600, init: true, volumes: ['data:/data', /own]}}}}
volumes: {{data: {{external: true, name: {}}}}}
",
        volume.trim()
    ));
    for again in [&["up", "-d"][..], &["up", "-d", "--force-recreate"]] {
        project.compose(again).succeeded();
        project.compose(&["down", "-v"]).succeeded();
        assert_eq!(project.test.rbuild(&["volume", "ls", "-q"]).ok(), volume);
    }
}

/// What containers have in their environment is read when they are made.
#[test]
fn what_is_there_is_seen_and_goes_without_its_env_file() {
    let project = Project::of(&format!(
        "services: {{app: {{image: busybox, command: {IDLE:?}, env_file: [gone.env]}}}}"
    ));
    project.test.file("gone.env", "A=1\n");
    project.compose(&["up", "-d"]).succeeded();
    project.test.shell("rm gone.env");
    for line in [&["ps"][..], &["logs"], &["restart"], &["exec", "app", "true"], &["stop"]] {
        project.compose(line).succeeded();
    }
    assert!(project.compose(&["up", "-d"]).failed(1).contains("gone.env"));
    project.compose(&["down"]).succeeded();
}

#[test]
fn in_the_foreground_lines_have_their_names_and_the_end_of_all_is_the_end() {
    let project = Project::of(
        "services:
  a: {image: busybox, command: sh -c 'echo one; echo two >&2'}
  longer: {image: busybox, command: sh -c 'echo three; exit 5'}
",
    );
    let up = project.compose(&["up"]);
    let text = up.ok();
    for line in [
        "Attaching to a-1, longer-1\n",
        "a-1       | one\n",
        "longer-1  | three\n",
        "a-1 exited with code 0\n",
        "longer-1 exited with code 5\n",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    assert!(up.stderr.contains("a-1       | two\n"), "{up}");
    assert_eq!(project.compose(&["up", "--exit-code-from", "longer"]).code, Some(5));
    assert_eq!(project.compose(&["up", "--abort-on-container-failure"]).code, Some(5));
    let bare = project.compose(&["up", "--no-log-prefix", "--no-attach", "longer"]).ok();
    assert!(bare.contains("\none\n") && !bare.contains("three"), "{bare}");
    project.compose(&["up", "-d", "--abort-on-container-exit"]).failed(1);
}

#[test]
fn ctrl_c_stops_all_in_order() {
    let project = Project::of(
        "services:
  db: {image: busybox, command: sh -c 'trap \"echo db ends; exit 0\" TERM; echo ready; sleep 600 & wait'}
  web:
    image: busybox
    command: sh -c 'trap \"echo web ends; exit 0\" TERM; echo ready; sleep 600 & wait'
    depends_on: [db]
",
    );
    let mut command = project.command(&["up"]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
    soon("both run", || {
        let names = project.test.rbuild(&["ps", "--format", "{{.Names}}"]).ok();
        names.lines().count() == 2
    });
    let mut out = child.stdout.take().unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while seen.matches("ready").count() < 2 {
        let read = out.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "{seen}");
        seen += &String::from_utf8_lossy(&buffer[..read]);
    }
    // The one that watches over the time passes it on.
    let watcher = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(watcher, rustix::process::Signal::INT).unwrap();
    out.read_to_string(&mut seen).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let web = seen.find("web ends").unwrap_or_else(|| panic!("{seen}"));
    let db = seen.find("db ends").unwrap_or_else(|| panic!("{seen}"));
    assert!(web < db, "{seen}");
    assert_eq!(project.containers(), ["db-1", "web-1"]);
    assert_eq!(project.shown("db", "{{.State.Status}}"), "exited");
}

#[test]
fn ctrl_c_twice_kills() {
    let project = Project::of(
        "services: {a: {image: busybox, command: sh -c 'trap \"\" TERM; echo ready; sleep 600', stop_grace_period: 100s}}",
    );
    let mut command = project.command(&["up"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    soon("it runs", || {
        project.test.rbuild(&["logs", &format!("{}-a-1", project.name)]).stdout == b"ready\n"
    });
    let watcher = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    let interrupt =
        || rustix::process::kill_process(watcher, rustix::process::Signal::INT).unwrap();
    interrupt();
    let mut told = String::new();
    let mut err = child.stderr.take().unwrap();
    let mut buffer = [0; 1024];
    while !told.contains("a-1 Stopping") {
        let read = err.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "{told}");
        told += &String::from_utf8_lossy(&buffer[..read]);
    }
    let asked = Instant::now();
    interrupt();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert_eq!(project.shown("a", "{{.State.ExitCode}}"), "137");
}

#[test]
fn what_was_interrupted_is_finished() {
    let project = Project::of(&two(""));
    project.compose(&["up", "-d"]).succeeded();
    // As if it had ended between the making of a new container and the end of the old one.
    let rename = |from: &str, to: &str| project.test.rbuild(&["rename", from, to]).ok();
    let proper = format!("{}-db-1", project.name);
    let left = format!("0123456789ab_{proper}");
    rename(&proper, &left);
    let before = project.test.rbuild(&["inspect", "-f", "{{.Id}}", &left]).ok();
    project.compose(&["up", "-d"]).succeeded();
    assert_eq!(project.containers(), ["db-1", "web-1"]);
    assert_eq!(project.id("db"), before.trim());
    // As if a replacement was made and the old one is still there.
    let label = |name: &str, value: &str| format!("com.docker.compose.{name}={value}");
    let labels = [
        label("project", &project.name),
        label("service", "db"),
        label("container-number", "1"),
        label("oneoff", "False"),
    ];
    let mut args = vec!["create", "--name", &left];
    args.extend(labels.iter().flat_map(|label| ["--label", label]));
    project.test.rbuild(&[&args[..], &["busybox"]].concat()).ok();
    project.compose(&["up", "-d"]).succeeded();
    assert_eq!(project.containers(), ["db-1", "web-1"]);
    assert_eq!(project.id("db"), before.trim());
    // The same while it has to be replaced.
    project.test.rbuild(&[&args[..], &["busybox"]].concat()).ok();
    project.rewrite(&two(", environment: {A: b}"));
    project.compose(&["up", "-d"]).succeeded();
    assert_eq!(project.containers(), ["db-1", "web-1"]);
    assert_eq!(project.shown("db", "{{index .Config.Env 0}} {{.State.Status}}"), "A=b running");
    // `down` needs no file.
    project.test.shell("rm compose.yaml");
    project.compose(&["down"]).succeeded();
    assert!(project.containers().is_empty());
}

#[test]
fn bad_projects_are_refused_before_anything_is_made() {
    for (yaml, text) in [
        (
            "services: {a: {image: busybox}}\nnetworks: {default: {external: true, name: nowhere}}",
            "network nowhere declared as external, but could not be found",
        ),
        (
            "services: {a: {image: busybox, volumes: [data:/data]}}\nvolumes: {data: {external: true, name: nowhere}}",
            "external volume \"nowhere\" not found",
        ),
        ("services: {a: {image: 127.0.0.1:1/nowhere}}", "pull of 127.0.0.1:1/nowhere failed"),
        ("services: {a: {image: nowhere, pull_policy: never}}", "its pull policy is never"),
        (
            "services: {a: {image: busybox, secrets: [s]}}\nsecrets: {s: {environment: NOT_SET}}",
            "compose.yaml:2:28: environment variable \"NOT_SET\" required by secret",
        ),
        (
            "services: {a: {image: busybox, environment: ['=x']}}",
            "-a-1: invalid environment variable: =x",
        ),
        (
            "services: {a: {image: busybox, tmpfs: [/a, b]}}",
            "compose.yaml:1:44: service \"a\": the mount target \"b\" is not absolute: begin it with /",
        ),
    ] {
        let project = Project::of(yaml);
        let failed = project.compose(&["up", "-d"]);
        assert!(failed.failed(1).contains(text), "no {text:?} in\n{failed}");
        assert!(project.containers().is_empty(), "{failed}");
    }
    let project = Project::of(&two(""));
    let unknown = project.compose(&["up", "-d", "wep"]);
    assert!(unknown.failed(1).contains("no such service: wep"), "{unknown}");
    project.test.shell("rm compose.yaml");
    assert!(project.compose(&["up", "-d"]).failed(1).contains("no configuration file provided"));
}

#[test]
fn a_name_that_leads_elsewhere_is_refused_and_nothing_there_is_touched() {
    let project = Project::of(&two(""));
    let victim = project.test.outside("victim");
    fs_err::create_dir(&victim).unwrap();
    let up = "../".repeat(8);
    let name = format!("{up}{}", victim.to_str().unwrap().trim_start_matches('/'));
    for arguments in [["-p", &name, "down"], ["-p", "Foo", "down"], ["-p", "..", "ps"]] {
        assert!(project.compose(&arguments).failed(1).contains("invalid project name"));
    }
    project.test.shell("rm compose.yaml");
    let by_variable = project.compose_with(&["down"], &[("COMPOSE_PROJECT_NAME", &name)], None);
    assert!(by_variable.failed(1).contains("invalid project name"), "{by_variable}");
    assert!(victim.is_dir());
}

#[test]
fn ports_and_names_that_are_taken_are_told() {
    let project = Project::of(&format!(
        "services:
  a: {{image: busybox, command: {IDLE:?}, ports: ['127.0.0.1:48611:80']}}
  b: {{image: busybox, command: {IDLE:?}, ports: ['127.0.0.1:48611:80'], depends_on: [a]}}
"
    ));
    let taken = project.compose(&["up", "-d"]);
    assert!(taken.failed(1).contains("48611"), "{taken}");
    assert_eq!(project.shown("a", "{{.State.Status}}"), "running");
    let other =
        Project::of("services: {a: {image: busybox, container_name: same, command: sleep 600}}");
    other.test.rbuild(&["create", "--name", "same", "busybox"]).ok();
    let taken = other.compose(&["up", "-d"]);
    assert!(taken.failed(1).contains("\"/same\" is already in use"), "{taken}");
}

#[test]
fn secrets_and_configs_come_from_memory() {
    let project = Project::of(&format!(
        "services:
  app:
    image: busybox
    command: {IDLE:?}
    secrets: [plain, {{source: owned, target: key, uid: '7', gid: '8', mode: 0400}}]
    configs: [{{source: text, target: /etc/app.conf}}]
secrets:
  plain: {{file: ./plain.txt}}
  owned: {{environment: SECRET}}
configs:
  text: {{content: 'port = $PORT'}}
"
    ));
    project.test.file("plain.txt", "from a file\n");
    let up = project.compose_with(&["up", "-d"], &[("SECRET", "s3cret"), ("PORT", "80")], None);
    up.succeeded();
    let command = "cat /run/secrets/plain; stat -c '%u %g %a' /run/secrets/key; cat /run/secrets/key; echo; cat /etc/app.conf";
    let seen = project.test.rbuild(&["exec", &project.id("app"), "sh", "-c", command]).ok();
    assert_eq!(seen, "from a file\n7 8 400\ns3cret\nport = 80");
    let on_disk = project.test.shell("grep -rl s3cret ../store || true");
    assert_eq!(on_disk, "");
    let left = format!(
        "ls -d /run/rbuild/compose/*/{0} /dev/shm/rbuild/compose/*/{0} 2>/dev/null || true",
        project.name
    );
    let folder = project.test.shell(&left);
    assert_eq!(folder.lines().count(), 1, "{folder}");
    project.compose(&["down"]).succeeded();
    assert_eq!(project.test.shell(&left), "");
    // Nor is there anything left of the store's own.
    let above = std::path::Path::new(folder.trim()).parent().unwrap();
    assert!(!above.exists(), "{}", above.display());
}
