//! `rcompose config` with images by their digests.

use crate::support::Registry;
use crate::support::project::Project;

#[test]
fn images_are_named_by_the_digests_that_their_registry_says() {
    let Some(registry) = Registry::plain() else { return };
    let (app, hook) = (registry.name("app:1"), registry.name("hook:1"));
    let project = Project::of(&format!(
        "services:
  app:
    image: '{app}'
    build: {{dockerfile_inline: \"FROM busybox\\nRUN echo app > /app\\n\"}}
    pre_start: [{{image: '{hook}', command: 'true'}}]
    volumes: [{{type: image, source: '{hook}', target: /hook}}, './x:/x']
  again: {{image: '{app}'}}
  hook: {{image: '{hook}', build: {{dockerfile_inline: \"FROM busybox\\nRUN echo hook > /hook\\n\"}}}}
  local: {{build: .}}
"
    ));
    project.compose(&["build", "--push", "app", "hook"]).succeeded();
    project.test.rbuild(&["rmi", "-f", &app, &hook]).succeeded();
    // Asked of the registry, as nothing is here.
    let config = project.compose(&["config", "--resolve-image-digests"]).ok();
    let images: Vec<&str> =
        config.lines().filter_map(|line| line.split_once("image: ")).map(|it| it.1).collect();
    let pinned = |name: &str| {
        let found = images.iter().find(|it| it.starts_with(&format!("{name}@sha256:")));
        (*found.unwrap_or_else(|| panic!("no {name} in\n{config}"))).to_owned()
    };
    let (app_pinned, hook_pinned) = (pinned(&app), pinned(&hook));
    let mut expected = [&app_pinned, &app_pinned, &hook_pinned, &hook_pinned];
    expected.sort();
    let mut images = images.clone();
    images.sort_unstable();
    assert_eq!(images, expected, "{config}");
    assert!(config.contains(&format!("source: {hook_pinned}")), "{config}");
    // The names are of what is pulled by them, and what is here is known without the registry.
    for name in [&app_pinned, &hook_pinned, &app, &hook] {
        project.test.rbuild(&["pull", "-q", name]).succeeded();
    }
    drop(registry);
    assert_eq!(project.compose(&["config", "--resolve-image-digests"]).ok(), config);
    let untyped = ["config", "--no-interpolate", "--resolve-image-digests"];
    assert!(project.compose(&untyped).ok().contains(&format!("image: {app_pinned}")));
    let lock = project.compose(&["config", "--lock-image-digests"]);
    assert!(
        lock.stderr.contains("service \"app\": pre_start hook images are not pinned"),
        "{lock}"
    );
    let file = lock.ok();
    assert!(!file.contains("./x") && !file.contains("build") && !file.contains("name:"), "{file}");
    project.test.file("lock.yaml", &file);
    let both = project.compose(&["-f", "compose.yaml", "-f", "lock.yaml", "config", "--images"]);
    assert!(both.ok().lines().any(|line| line == app_pinned), "{both}");
    // Nobody can say what a name means that is neither here nor there.
    project.test.rbuild(&["rmi", "-f", &app, &app_pinned]).succeeded();
    let failed = project.compose(&["config", "--resolve-image-digests"]);
    assert!(
        failed.failed(1).contains(&format!("failed to resolve digest for {app}: ")),
        "{failed}"
    );
}
