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
