//! `rcompose` with containers that run: commands in them, files, restarts, scale.

use crate::support::containers::soon;
use crate::support::project::{IDLE, Project, refused, running};

/// What stands in an image's file.
#[track_caller]
fn read(project: &Project, image: &str, path: &str) -> String {
    project.test.rbuild(&["run", "--rm", "--network", "none", image, "cat", path]).ok()
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
fn what_is_of_a_profile_that_is_not_enabled_is_left_alone() {
    let project = Project::of(&format!(
        "services:
  web: {{image: busybox, {IDLE}}}
  tool: {{image: busybox, {IDLE}, profiles: [tools]}}
"
    ));
    let up = || {
        project.compose(&["--profile", "tools", "up", "-d"]).succeeded();
    };
    let status = |service: &str| project.shown(service, "{{.State.Status}}");
    up();
    for verb in [&["stop"][..], &["kill"], &["rm", "-fs"], &["down"]] {
        project.compose(verb).succeeded();
        assert_eq!(status("tool"), "running", "{verb:?}");
        assert!(!project.containers().contains(&"web-1".to_owned()) || status("web") == "exited");
        up();
    }
    let pid = |service: &str| project.shown(service, "{{.State.Pid}}");
    let (before, web) = (pid("tool"), pid("web"));
    project.compose(&["restart", "-t", "0"]).succeeded();
    assert_eq!(pid("tool"), before);
    assert_ne!(pid("web"), web);
    // Named, or with its profile, it is meant.
    project.compose(&["stop", "tool"]).succeeded();
    assert_eq!((status("tool"), status("web")), ("exited".to_owned(), "running".to_owned()));
    project.compose(&["start"]).succeeded();
    assert_eq!(status("tool"), "exited");
    project.compose(&["--profile", "tools", "down"]).succeeded();
    assert_eq!(project.containers(), [""; 0]);
}

#[test]
fn start_waits_for_what_a_service_depends_on_and_for_all_if_asked_to() {
    let project = Project::of(&format!(
        "services:
  db:
    image: busybox
    init: true
    command: sh -c 'sleep 1; touch /ready; sleep 600'
    healthcheck: {{test: test -e /ready, interval: 100ms, retries: 1000}}
  app: {{image: busybox, {IDLE}, depends_on: {{db: {{condition: service_healthy}}}}}}
  sick:
    {{image: busybox, {IDLE}, profiles: [sick], healthcheck: {{test: exit 1, interval: 100ms, retries: 1000}}}}
"
    ));
    project.compose(&["--profile", "sick", "create"]).succeeded();
    project.compose(&["start", "app"]).succeeded();
    assert_eq!(project.shown("db", "{{.State.Health.Status}}"), "healthy");
    assert_eq!(project.shown("app", "{{.State.Status}}"), "running");
    project.compose(&["stop", "-t", "0"]).succeeded();
    project.compose(&["rm", "-f"]).succeeded();
    project.compose(&["create"]).succeeded();
    project.compose(&["start", "--wait", "db"]).succeeded();
    assert_eq!(project.shown("db", "{{.State.Health.Status}}"), "healthy");
    let sick = project.compose(&["start", "--wait", "--wait-timeout", "1", "sick"]);
    refused(&sick, "application not healthy after 1s");
}

#[test]
fn a_restart_needs_no_secret_that_is_there() {
    let project = Project::of(&format!(
        "services: {{a: {{image: busybox, {IDLE}, secrets: [s, d]}}}}
secrets: {{s: {{environment: S}}, d: {{file: ./dir}}}}
"
    ));
    project.test.file(".env", "S=one").file("dir/inside", "two");
    project.compose(&["up", "-d"]).succeeded();
    project.test.shell("rm .env");
    let pid = project.shown("a", "{{.State.Pid}}");
    project.compose(&["restart", "-t", "0"]).succeeded();
    assert_ne!(project.shown("a", "{{.State.Pid}}"), pid);
    let read = ["exec", "-T", "a", "cat", "/run/secrets/s", "/run/secrets/d/inside"];
    assert_eq!(project.compose(&read).ok(), "onetwo");
    // Nothing is done that is only to be said.
    let said = project.compose(&["--dry-run", "exec", "-T", "a", "touch", "/done"]).ok();
    assert!(said.contains("touch /done"), "{said}");
    assert_ne!(project.compose(&["exec", "-T", "a", "test", "-e", "/done"]).code, Some(0));
    // A directory's files keep their modes.
    let modes = "secrets: [s, {source: d, mode: 0400}]";
    project.rewrite(&format!(
        "services: {{a: {{image: busybox, {IDLE}, {modes}}}}}
secrets: {{s: {{file: .env}}, d: {{file: ./dir}}}}
"
    ));
    project.test.file(".env", "S=one");
    project.compose(&["up", "-d"]).succeeded();
    assert_eq!(project.compose(&read).ok(), "S=onetwo");
}

#[test]
fn who_is_left_finds_his_secrets_when_he_is_started_again() {
    let project = Project::of(&format!(
        "services:
  web: {{image: busybox, {IDLE}}}
  tool: {{image: busybox, {IDLE}, secrets: [s], profiles: [tools]}}
secrets: {{s: {{environment: S}}}}
"
    ));
    project.test.file(".env", "S=one");
    project.compose(&["--profile", "tools", "up", "-d"]).succeeded();
    project.compose(&["down", "--rmi", "all"]).succeeded();
    let tool = format!("{}-tool-1", project.name);
    project.test.rbuild(&["restart", "-t", "0", &tool]).succeeded();
    assert_eq!(project.test.rbuild(&["exec", &tool, "cat", "/run/secrets/s"]).ok(), "one");
    // The memory that they take is given back with him.
    project.compose(&["--profile", "tools", "down", "-t", "0"]).succeeded();
}

#[test]
fn a_file_goes_into_all_containers_of_a_service() {
    let project =
        Project::of(&format!("services: {{web: {{image: busybox, {IDLE}, scale: 2}}}}\n"));
    project.compose(&["up", "-d"]).succeeded();
    project.compose(&["run", "-d", "--name", "once", "web", "sleep", "600"]).succeeded();
    project.test.file("file", "text");
    let has =
        |name: &str| project.test.rbuild(&["exec", name, "test", "-e", "/file"]).code == Some(0);
    let names = ["web-1", "web-2"].map(|name| format!("{}-{name}", project.name));
    project.compose(&["cp", "--index", "2", "file", "web:/file"]).succeeded();
    assert_eq!((has(&names[0]), has(&names[1])), (false, true));
    project.compose(&["cp", "file", "web:/file"]).succeeded();
    assert!(has(&names[0]) && !has("once"));
    project.compose(&["cp", "--all", "file", "web:/file"]).succeeded();
    assert!(has("once"));
    project.test.shell("tar -cf given.tar file");
    let mut given = project.command(&["cp", "-", "web:/tmp"]);
    let tar = std::fs::File::open(project.test.context().join("given.tar")).unwrap();
    assert!(given.stdin(tar).status().unwrap().success());
    for name in &names {
        project.test.rbuild(&["exec", name, "test", "-e", "/tmp/file"]).succeeded();
    }
    // It is nothing that `down` takes away unless it is asked to.
    project.compose(&["down", "-t", "0"]).succeeded();
    let left = project.test.rbuild(&["ps", "--format", "{{.Names}}"]).ok();
    assert_eq!(left.trim(), "once");
    project.compose(&["down", "-t", "0", "--remove-orphans"]).succeeded();
    assert_eq!(project.test.rbuild(&["ps", "-aq"]).ok(), "");
    assert!(
        !project
            .test
            .rbuild(&["network", "ls", "-q", "-f", "type=custom"])
            .ok()
            .contains("default")
    );
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
