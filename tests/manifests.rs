//! What registries have under names: lists of images, copies from repository to repository, and the rules that say where
//! a name is looked for.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::registry::{app, greeting, pull};
use crate::support::{Registry, Test, sha256};

/// A registry that has busybox with a second layer as `app:latest`, and a test with an empty store.
fn filled() -> Option<(Test, Registry)> {
    let registry = Registry::plain()?;
    let test = Test::empty();
    registry.fill(&app(&test), "app:latest", &[]);
    Some((test, registry))
}

/// Rules for registries; gives what the environment has to say of them.
fn rules(test: &Test, rules: &Value) -> PathBuf {
    let path = test.outside("rules.json");
    fs_err::write(&path, rules.to_string()).unwrap();
    path
}

#[test]
fn a_list_of_images_is_made_annotated_and_pushed() {
    let Some((test, registry)) = filled() else { return };
    let [list, app] = ["list:1", "app"].map(|name| registry.name(name));
    let made = test.rbuild(&["manifest", "create", &list, &app]).ok();
    assert_eq!(made, format!("Created manifest list {list}\n"));
    let again = test.rbuild(&["manifest", "create", &list, &app]);
    assert!(again.failed(1).contains("--amend"), "{again}");
    test.rbuild(&["manifest", "create", "--amend", &list, &app]).succeeded();
    let annotate = ["manifest", "annotate", "--arch", "arm64", "--variant", "v8", &list, &app];
    test.rbuild(&annotate).succeeded();
    let shown: Value =
        serde_json::from_str(&test.rbuild(&["manifest", "inspect", &list]).ok()).unwrap();
    let digest = test.rbuild(&["manifest", "push", "--purge", &list]).ok();

    let pushed = registry.manifest("list:1");
    assert_eq!(pushed, shown);
    let entry = &pushed["manifests"][0];
    assert_eq!(pushed["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(entry["platform"], json!({"architecture": "arm64", "os": "linux", "variant": "v8"}));
    let raw = test.rbuild(&["buildx", "imagetools", "inspect", "--raw", &list]).ok();
    assert_eq!(format!("sha256:{}\n", sha256(raw.as_bytes())), digest);
    let told = test.rbuild(&["buildx", "imagetools", "inspect", &list]).ok();
    for text in ["application/vnd.oci.image.index.v1+json", "linux/arm64/v8", digest.trim()] {
        assert!(told.contains(text), "no {text} in {told}");
    }
    let gone = test.rbuild(&["manifest", "rm", &list]);
    assert!(gone.failed(1).contains("No such manifest"), "{gone}");
}

#[test]
fn those_who_change_a_list_at_once_all_do() {
    let Some((test, registry)) = filled() else { return };
    test.import("busybox");
    let list = registry.name("list:1");
    let names: Vec<_> = (0..4).map(|number| registry.name(&format!("app:{number}"))).collect();
    for (number, name) in names.iter().enumerate() {
        test.write(&format!("FROM busybox\nLABEL number={number}\n"));
        test.build(&["-t", name]);
        test.rbuild(&["push", name]).succeeded();
    }
    let all = |line: &dyn Fn(&str) -> Vec<String>| {
        let start = |name| test.command(&line(name)).stdout(Stdio::null()).spawn().unwrap();
        let many: Vec<_> = names.iter().map(|name| start(name)).collect();
        many.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    };
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let entries = || {
        let shown = test.rbuild(&["manifest", "inspect", &list]).ok();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["manifests"].as_array().unwrap().clone()
    };
    all(&|name| words(&["manifest", "create", "--amend", &list, name]));
    assert_eq!(entries().len(), names.len());
    for round in 0..10 {
        let variant = format!("v{round}");
        all(&|name| words(&["manifest", "annotate", "--variant", &variant, &list, name]));
        for entry in entries() {
            assert_eq!(entry["platform"]["variant"], variant.as_str());
        }
    }
}

#[test]
fn an_image_is_copied_with_all_its_bytes() {
    let Some((test, registry)) = filled() else { return };
    let Some(other) = Registry::plain() else { return };
    let before = registry.manifest("app:latest");
    for target in [registry.name("copy:1"), other.name("far/copy:1")] {
        let line = ["buildx", "imagetools", "create", "-t", &target, &registry.name("app")];
        test.rbuild(&line).succeeded();
    }
    assert_eq!(registry.manifest("copy:1"), before);
    assert_eq!(other.manifest("far/copy:1"), before);
    pull(&test, &other.name("far/copy:1")).succeeded();
    assert_eq!(greeting(&test, &other.name("far/copy:1")), "hello");

    // In the registry they come from they are mounted, not sent.
    let sent = registry.requests().into_iter().filter(|line| line.starts_with("PATCH "));
    assert_eq!(sent.filter(|line| line.contains("/copy/")).count(), 0);
    // Several sources make a list, which a dry run only shows.
    let line = ["buildx", "imagetools", "create", "--dry-run"];
    let names = [registry.name("app"), registry.name("copy:1")];
    let shown = test.rbuild(&[&line[..], &[&names[0], &names[1]]].concat()).ok();
    let list: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 1, "one image under two names");
}

#[test]
fn what_lists_and_manifests_say_is_kept_wherever_they_go() {
    let Some((test, registry)) = filled() else { return };
    let mut manifest = registry.manifest("app:latest");
    let oci = "application/vnd.oci.image.manifest.v1+json";
    manifest["artifactType"] = json!("application/x.test");
    manifest["subject"] =
        json!({"mediaType": oci, "digest": format!("sha256:{}", sha256(b"{}")), "size": 2});
    let bytes = manifest.to_string().into_bytes();
    registry.put_manifest("app", "said", oci, &bytes);
    let entry = json!({
        "mediaType": oci, "digest": format!("sha256:{}", sha256(&bytes)), "size": bytes.len(),
        "annotations": {"one": "1"}, "urls": ["https://example.com/"],
        "platform": {"os": "linux", "architecture": "s390x", "os.version": "5"},
        "artifactType": "application/x.test",
    });
    let list = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let list_type = "application/vnd.oci.image.index.v1+json";
    registry.put_manifest("app", "list", list_type, list.as_bytes());

    // The same image once more says less: what the list says of it stays.
    let line = ["buildx", "imagetools", "create", "--dry-run"];
    let names = ["app:list", "app:latest", "app:said"].map(|name| registry.name(name));
    let made = test.rbuild(&[&line[..], &names.each_ref().map(String::as_str)].concat()).ok();
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["manifests"].as_array().unwrap().len(), 2);
    let mut expected = entry.clone();
    expected["platform"] = made["manifests"][1]["platform"].clone();
    assert_eq!(made["manifests"][0], expected);

    // With other layers it is another manifest, and says the same.
    let name = registry.name("app:said");
    pull(&test, &name).succeeded();
    let again = registry.name("again:1");
    test.rbuild(&["tag", &name, &again]).succeeded();
    test.rbuild(&["push", "--compression", "zstd", &again]).succeeded();
    let pushed = registry.manifest("again:1");
    for key in ["artifactType", "subject"] {
        assert_eq!(pushed[key], manifest[key], "{key}");
    }
}

#[test]
fn a_pulled_image_keeps_its_manifest_byte_by_byte_and_is_pushed_by_it() {
    let Some((test, registry)) = filled() else { return };
    // As a signature's place: what we would never write by ourselves.
    let text = serde_json::to_string_pretty(&registry.manifest("app:latest")).unwrap();
    registry.put_manifest(
        "app",
        "odd",
        "application/vnd.oci.image.manifest.v1+json",
        text.as_bytes(),
    );
    let name = registry.name("app:odd");
    pull(&test, &name).succeeded();
    assert_eq!(test.rbuild(&["image", "inspect", "--raw", &name]).ok(), text);
    let again = registry.name("app:again");
    test.rbuild(&["tag", &name, &again]).succeeded();
    let pushed = test.rbuild(&["push", &again]).ok();
    assert!(pushed.contains(&sha256(text.as_bytes())), "{pushed}");
    let digests = ["image", "inspect", "-f", "{{join .RepoDigests \" \"}}", &name];
    let expected = format!("{}@sha256:{}\n", registry.name("app"), sha256(text.as_bytes()));
    assert_eq!(test.rbuild(&digests).ok(), expected);
}

#[test]
fn a_mirror_is_asked_first_and_what_it_lacks_comes_from_further_on() {
    let Some((test, mirror)) = filled() else { return };
    let Some(origin) = Registry::plain() else { return };
    origin.fill(&app(&test), "app:only-here", &[]);
    mirror.forget_requests();
    let rule = json!({ "location": origin.address(), "mirrors": [mirror.address()] });
    let rules = rules(&test, &json!({ "registries": { "images.example": rule } }));
    let variables = [("RBUILD_REGISTRIES", rules.to_str().unwrap())];
    let pull = |name: &str| test.rbuild_with(&["pull", "-q", name], &variables, None).ok();

    assert_eq!(pull("images.example/app"), "images.example/app:latest\n");
    assert!(origin.requests().iter().all(|line| !line.contains("/app/manifests/latest")));
    assert!(!mirror.requests().is_empty());
    assert_eq!(pull("images.example/app:only-here"), "images.example/app:only-here\n");
    assert!(mirror.requests().contains(&"GET /v2/app/manifests/only-here 404".to_owned()));
    assert_eq!(greeting(&test, "images.example/app"), "hello");
}

#[test]
fn rules_block_and_are_read_with_care() {
    let test = Test::empty();
    let blocked = json!({ "registries": { "images.example/no": { "blocked": true } } });
    for (text, told) in [
        (blocked.to_string(), "images.example/no/app is blocked by registries.json"),
        (r#"{"registries": {"a": {"mirrorz": []}}}"#.to_owned(), "mirrorz"),
        ("{".to_owned(), "rules.json"),
    ] {
        let path = test.outside("rules.json");
        fs_err::write(&path, text).unwrap();
        let variables = [("RBUILD_REGISTRIES", path.to_str().unwrap())];
        let outcome = test.rbuild_with(&["pull", "images.example/no/app"], &variables, None);
        assert!(outcome.failed(1).contains(told), "{outcome}");
    }
}

#[test]
fn a_damaged_layer_is_not_pushed() {
    let Some((test, registry)) = filled() else { return };
    test.import("busybox");
    let name = registry.name("damaged");
    test.rbuild(&["tag", "busybox", &name]).succeeded();
    let layer = test.rbuild(&["image", "inspect", "-f", "{{index .RootFS.Layers 0}}", &name]).ok();
    let hex = layer.trim().strip_prefix("sha256:").unwrap();
    let tar = test.outside("store/layers").join(hex).join("layer.tar");
    let mut bytes = fs_err::read(&tar).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&tar, bytes).unwrap();
    registry.forget_requests();
    let outcome = test.rbuild(&["push", &name]);
    let said = outcome.failed(1);
    assert!(said.contains(hex) && said.contains("corrupt"), "{outcome}");
    let named = registry.requests().into_iter().filter(|line| line.starts_with("PUT "));
    assert_eq!(named.filter(|line| line.contains("/manifests/")).count(), 0);
}

#[test]
fn names_and_verbs_are_completed_in_a_shell() {
    let test = Test::empty();
    test.import("busybox");
    test.rbuild(&["create", "--name", "boxed", "busybox", "true"]).succeeded();
    test.rbuild(&["volume", "create", "things"]).succeeded();
    test.rbuild(&["network", "create", "nets"]).succeeded();
    let offered = |words: &[&str]| {
        let at = (words.len() - 1).to_string();
        let variables =
            [("COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", at.as_str()), ("_CLAP_IFS", " ")];
        test.rbuild_with(&[&["--"], words].concat(), &variables, None).ok()
    };
    assert_eq!(offered(&["rbuild", "sta"]), "start stats");
    assert_eq!(offered(&["rbuild", "stop", "bo"]), "boxed");
    assert_eq!(offered(&["rbuild", "run", "--rm", "bu"]), "busybox:latest");
    assert_eq!(offered(&["rbuild", "volume", "rm", ""]).split(' ').next(), Some("things"));
    assert_eq!(offered(&["rbuild", "network", "rm", "n"]), "nets none");
    assert!(test.rbuild(&["completion", "bash"]).ok().contains("complete "));
    let unknown = test.rbuild(&["completion", "tcsh"]);
    assert!(unknown.failed(1).contains("zsh"), "{unknown}");
    test.rbuild(&["man", "../man"]).succeeded();
    let page = fs_err::read_to_string(test.outside("man/rbuild-run.1")).unwrap();
    assert!(page.contains("\\-\\-publish"), "{page}");
}
