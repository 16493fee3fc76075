//! `rcompose build`, `pull` and `push`.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Registry;
use crate::support::project::{Project, refused};

/// What stands in an image's file.
#[track_caller]
fn read(project: &Project, image: &str, path: &str) -> String {
    project.test.rbuild(&["run", "--rm", "--network", "none", image, "cat", path]).ok()
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
