//! What changes under a project that runs: its networks, the content of its secrets and configs.

use crate::support::project::Project;

const IDLE: &str = "sh -c 'trap \"exit 0\" TERM; sleep 600 & wait'";

#[test]
fn a_changed_network_is_made_anew_only_if_nobody_else_is_on_it() {
    let file = |more: &str| {
        format!(
            "services:
  web:
    image: busybox
    command: {IDLE:?}
    depends_on: [db]
    volumes: [data:/data]
    pre_stop: [{{command: sh -c 'echo web >> /data/ends'}}]
  db:
    image: busybox
    command: {IDLE:?}
    volumes: [data:/data]
    pre_stop: [{{command: sh -c 'echo db >> /data/ends'}}]
volumes: {{data: }}
{more}
"
        )
    };
    let project = Project::of(&file(""));
    project.compose(&["up", "-d"]).succeeded();
    let started = project.shown("web", "{{.State.StartedAt}}");
    let network = format!("{}_default", project.name);
    let stranger = format!("{}-stranger", project.name);
    let run = ["run", "-d", "--name", &stranger, "--network", &network, "busybox", "sleep", "600"];
    project.test.rbuild(&run).ok();
    project.rewrite(&file("networks: {default: {internal: true}}"));
    let refused = project.compose(&["up", "-d"]);
    let text =
        format!("that this does not change: {stranger}: stop them with: rbuild stop {stranger}");
    assert!(refused.failed(1).contains(&text), "{refused}");
    assert_eq!(
        project.shown("web", "{{.State.StartedAt}} {{.State.Status}}"),
        format!("{started} running")
    );
    project.test.rbuild(&["rm", "-f", &stranger]).ok();
    let up = project.compose(&["up", "-d"]);
    let err = up.succeeded().stderr.clone();
    for line in ["web-1 Stopping", "web-1 Stopped", "db-1 Stopping", "_default Removed"] {
        assert_eq!(err.matches(line).count(), 1, "{line}\n{up}");
    }
    let ends = project.test.rbuild(&["exec", &project.id("web"), "cat", "/data/ends"]).ok();
    assert_eq!(ends, "web\ndb\n");
    let internal = project.test.rbuild(&["network", "inspect", "-f", "{{.Internal}}", &network]);
    assert_eq!(internal.ok(), "true\n");
}

#[test]
fn a_changed_content_of_a_config_waits_for_a_new_container_as_with_docker_compose() {
    let project = Project::of(&format!(
        "services:
  app: {{image: busybox, command: {IDLE:?}, configs: [{{source: text, target: /text}}], secrets: [word]}}
configs: {{text: {{content: 'one $TEXT'}}}}
secrets: {{word: {{environment: TEXT}}}}
"
    ));
    let up = |args: &[&str], text: &str| {
        project.compose_with(&[&["up", "-d"], args].concat(), &[("TEXT", text)], None).succeeded();
        let read =
            ["exec", &project.id("app"), "sh", "-c", "cat /text; echo; cat /run/secrets/word"];
        (project.id("app"), project.test.rbuild(&read).ok())
    };
    let first = up(&[], "before");
    assert_eq!(first.1, "one before\nbefore");
    assert_eq!(up(&[], "after"), first);
    let (id, seen) = up(&["--force-recreate"], "after");
    assert_ne!(id, first.0);
    assert_eq!(seen, "one after\nafter");
}

#[test]
fn a_network_of_somebody_else_is_used_and_left() {
    let project = Project::of(&format!(
        "services: {{a: {{image: busybox, command: {IDLE:?}}}}}\nnetworks: {{default: {{name: foreign-net}}}}\n"
    ));
    project.test.rbuild(&["network", "create", "foreign-net"]).ok();
    let up = project.compose(&["up", "-d"]);
    let said = "a network with name foreign-net exists but was not created by compose.";
    assert!(up.succeeded().stderr.contains(said), "{up}");
    assert!(project.shown("a", "{{json .NetworkSettings.Networks}}").contains("foreign-net"));
    project.compose(&["down", "-t", "0"]).succeeded();
    assert_eq!(project.containers(), [""; 0]);
    project.test.rbuild(&["network", "rm", "foreign-net"]).ok();
    let labels = ["--label", "com.docker.compose.project=other", "foreign-net"];
    project.test.rbuild(&[&["network", "create"][..], &labels].concat()).ok();
    let up = project.compose(&["up", "-d"]);
    let said = format!("was not created for project {:?}", project.name);
    assert!(up.succeeded().stderr.contains(&said), "{up}");
    project.compose(&["down", "-t", "0"]).succeeded();
    project.test.rbuild(&["network", "rm", "foreign-net"]).ok();
}

#[test]
fn a_volume_that_has_changed_is_made_anew_only_for_who_says_yes() {
    let of = |label: &str| {
        format!(
            "services:
  a: {{image: busybox, command: {IDLE:?}, volumes: ['data:/data'], depends_on: [b]}}
  b: {{image: busybox, command: {IDLE:?}}}
volumes: {{data: {{labels: {{of: {label}}}}}}}
"
        )
    };
    let project = Project::of(&of("one"));
    project.compose(&["up", "-d"]).succeeded();
    project.compose(&["exec", "-T", "a", "touch", "/data/mine"]).succeeded();
    let is_there = || project.compose(&["exec", "-T", "a", "test", "-e", "/data/mine"]).code;
    let b = project.id("b");
    project.rewrite(&of("two"));
    let up = project.compose(&["up", "-d"]);
    assert!(up.succeeded().stderr.contains("make it anew, empty, with: rcompose up -y"), "{up}");
    assert_eq!(is_there(), Some(0));
    let plan = project.compose(&["--dry-run", "up", "-d", "-y"]).ok();
    assert!(plan.contains("remove (the volume has changed)"), "{plan}");
    assert_eq!(is_there(), Some(0));
    project.compose(&["up", "-d", "-y"]).succeeded();
    assert_eq!(is_there(), Some(1));
    let name = format!("{}_data", project.name);
    let shown = project.test.rbuild(&["volume", "inspect", "-f", "{{.Labels.of}}", &name]).ok();
    assert_eq!(shown.trim(), "two");
    assert_eq!(project.id("b"), b, "who has nothing of it stays");
    // Now it is as it should be.
    project.compose(&["exec", "-T", "a", "touch", "/data/mine"]).succeeded();
    project.compose(&["up", "-d", "-y"]).succeeded();
    assert_eq!(is_there(), Some(0));
}

#[test]
fn no_volume_is_made_anew_before_all_can_be_or_under_others() {
    let of = |label: &str, more: &str| {
        format!(
            "services:
  a: {{image: busybox, command: {IDLE:?}, volumes: ['data:/data']{more}}}
  b: {{image: busybox, command: {IDLE:?}, volumes: ['data:/data', 'other:/other']}}
volumes: {{data: {{labels: {{of: {label}}}}}, other: {{labels: {{of: {label}}}}}}}
"
        )
    };
    let project = Project::of(&of("one", ""));
    project.compose(&["up", "-d"]).succeeded();
    project.compose(&["exec", "-T", "a", "touch", "/data/mine"]).succeeded();
    let is_there = || project.compose(&["exec", "-T", "a", "test", "-e", "/data/mine"]).code;
    let ids = [project.id("a"), project.id("b")];
    // Another service has it, which is not to be changed.
    project.rewrite(&of("two", ""));
    let up = project.compose(&["up", "-d", "-y", "a"]);
    assert!(up.failed(1).contains("b-1: remove them with: rbuild rm -f"), "{up}");
    // Its image cannot be made.
    let broken =
        ", build: {dockerfile_inline: \"FROM busybox\\nRUN false\\n\"}, pull_policy: build";
    project.rewrite(&of("two", broken).replacen("image: busybox", "image: mine", 1));
    project.compose(&["up", "-d", "-y"]).failed(1);
    assert_eq!([project.id("a"), project.id("b")], ids);
    assert_eq!(is_there(), Some(0));
    // What no service that is meant has is not touched.
    project.rewrite(&of("two", ""));
    project.compose(&["rm", "-fs", "b"]).succeeded();
    project.compose(&["up", "-d", "-y", "--no-deps", "a"]).succeeded();
    assert_eq!(is_there(), Some(1));
    let other = format!("{}_other", project.name);
    let shown = project.test.rbuild(&["volume", "inspect", "-f", "{{.Labels.of}}", &other]).ok();
    assert_eq!(shown.trim(), "one");
}
