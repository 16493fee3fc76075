//! Pull and push against a real registry, which `skopeo` fills and reads beside us.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Outcome, Registry, Test, inspect, layer, need, sha256, write_layout};

/// A registry that has busybox with a second layer as `app:latest`, and a test with an empty store.
fn filled() -> Option<(Test, Registry)> {
    let registry = Registry::plain()?;
    let test = Test::empty();
    registry.fill(&app(&test), "app:latest", &[]);
    registry.forget_requests();
    Some((test, registry))
}

/// Writes a layout with busybox and a second layer; gives skopeo's word for it.
pub(crate) fn app(test: &Test) -> String {
    let busybox = fs_err::read(need::base_tar("busybox")).unwrap();
    write_layout(&test.outside("app"), &[busybox, layer("greeting: hello\n")]);
    format!("oci:{}", test.outside("app").display())
}

/// Pulls a name.
pub(crate) fn pull(test: &Test, name: &str) -> Outcome {
    test.rbuild(&["pull", name])
}

/// Runs the image's own `cat /greeting`.
pub(crate) fn greeting(test: &Test, image: &str) -> String {
    test.rbuild(&["run", "--rm", "--network", "none", image, "/bin/cat", "/greeting"]).ok()
}

/// The pull fails with every one of `texts` and leaves no image.
#[track_caller]
pub(crate) fn refused(test: &Test, arguments: &[&str], texts: &[&str]) {
    let outcome = test.rbuild(arguments);
    let said = outcome.failed(1);
    for text in texts {
        assert!(said.contains(text), "no {text:?} in\n{outcome}");
    }
    assert_eq!(test.rbuild(&["images", "-q", "-a"]).ok(), "");
}

fn digests(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_pulled_image_runs_and_is_the_one_that_was_pushed() {
    let Some((test, registry)) = filled() else { return };
    let name = registry.name("app");
    let pulled = pull(&test, &name);
    let said = pulled.ok();
    let first = "Using default tag: latest\nlatest: Pulling from app\n";
    let last = format!("Status: Downloaded newer image for {name}:latest\n{name}:latest\n");
    assert!(said.starts_with(first) && said.ends_with(&last), "{pulled}");
    let manifest = registry.manifest("app:latest");
    assert_eq!(inspect(&test, &name)["Id"], manifest["config"]["digest"]);
    assert_eq!(test.names(), [format!("{name}:latest")]);
    assert_eq!(greeting(&test, &name), "hello");
}

#[test]
fn what_is_up_to_date_is_not_downloaded_again() {
    let Some((test, registry)) = filled() else { return };
    let name = registry.name("app:latest");
    pull(&test, &name).succeeded();
    registry.forget_requests();
    let again = pull(&test, &name);
    assert!(again.ok().contains(&format!("Status: Image is up to date for {name}\n")), "{again}");
    let requests = registry.requests();
    assert!(!requests.is_empty(), "the tag is looked up");
    assert!(requests.iter().all(|request| !request.contains("/blobs/")), "{requests:?}");

    // Another image with the same first layer: only what is new comes over.
    let busybox = fs_err::read(need::base_tar("busybox")).unwrap();
    write_layout(&test.outside("other"), &[busybox, layer("greeting: good day\n")]);
    registry.fill(&format!("oci:{}", test.outside("other").display()), "app:latest", &[]);
    let old = inspect(&test, &name)["Id"].clone();
    registry.forget_requests();
    pull(&test, &name).succeeded();
    assert_ne!(inspect(&test, &name)["Id"], old);
    assert_eq!(greeting(&test, &name), "good day");
    let blobs = |requests: &[String]| {
        requests.iter().filter(|line| line.starts_with("GET") && line.contains("/blobs/")).count()
    };
    let requests = registry.requests();
    assert_eq!(blobs(&requests), 2, "the configuration and one layer: {requests:?}");
}

#[test]
fn quiet_and_by_digest_only_the_name_is_printed() {
    let Some((test, registry)) = filled() else { return };
    let name = registry.name("app:latest");
    assert_eq!(test.rbuild(&["pull", "-q", &name]).ok(), format!("{name}\n"));
    let bytes = fs_err::read_dir(test.outside("app/blobs/sha256")).unwrap();
    assert_eq!(bytes.count(), 4, "two layers, a configuration and a manifest");
    let digest = digest_of(&registry, "app:latest");
    let by_digest = format!("{}@{digest}", registry.name("app"));
    let pulled = pull(&test, &by_digest);
    assert!(pulled.ok().contains(&format!("Digest: {digest}\n")), "{pulled}");
    assert_eq!(greeting(&test, &by_digest), "hello");
    let wrong = format!("{}@sha256:{}", registry.name("app"), "0".repeat(64));
    let outcome = pull(&test, &wrong);
    assert!(outcome.failed(1).contains("manifest unknown"), "{outcome}");
}

/// The digest that the registry knows a name by.
fn digest_of(registry: &Registry, name: &str) -> String {
    let (repository, tag) = name.split_once(':').unwrap();
    let link = format!("_manifests/tags/{tag}/current/link");
    fs_err::read_to_string(registry.repository(repository).join(link)).unwrap()
}

#[test]
fn layers_of_every_compression_and_both_kinds_of_manifest_are_read() {
    let Some(registry) = Registry::plain() else { return };
    let test = Test::empty();
    let source = app(&test);
    for (tag, options) in [
        ("gzip", &["--dest-compress-format", "gzip"][..]),
        ("zstd", &["--dest-compress-format", "zstd"]),
        ("plain", &["--preserve-digests"]),
        ("docker", &["--format", "v2s2"]),
        ("oci", &["--format", "oci"]),
    ] {
        registry.fill(&source, &format!("app:{tag}"), options);
        let name = registry.name(&format!("app:{tag}"));
        let test = Test::empty();
        pull(&test, &name).succeeded();
        assert_eq!(greeting(&test, &name), "hello", "{tag}");
        let manifest = registry.manifest(&format!("app:{tag}"));
        assert_eq!(inspect(&test, &name)["Id"], manifest["config"]["digest"], "{tag}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let Some((test, registry)) = filled() else { return };
    let name = registry.name("app:nosuch");
    refused(&test, &["pull", &name], &[&name, "manifest unknown"]);
    let name = registry.name("nosuch");
    refused(&test, &["pull", &name], &[&name]);
    refused(&test, &["pull", "127.0.0.1:1/app"], &["127.0.0.1:1", "refused"]);
    let outcome = test.rbuild(&["pull", "no such name"]);
    assert!(outcome.failed(1).contains("invalid reference format"), "{outcome}");
}

#[test]
fn damage_in_the_registry_is_noticed_and_named() {
    let Some((test, registry)) = filled() else { return };
    let digest = digests(&registry.manifest("app:latest")).pop().unwrap();
    let blob = registry.blob(&digest);
    let whole = fs_err::read(&blob).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&blob, &bytes).unwrap();
    refused(&test, &["pull", &registry.name("app")], &[&digest]);
    fs_err::write(&blob, whole).unwrap();
    pull(&test, &registry.name("app")).succeeded();
}

#[test]
fn the_platform_is_chosen_from_an_index() {
    let Some((test, registry)) = filled() else { return };
    // The same layers under a configuration of another architecture.
    let manifest = registry.manifest("app:latest");
    let host = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let other = if host == "amd64" { "arm64" } else { "amd64" };
    let bytes =
        fs_err::read(registry.blob(manifest["config"]["digest"].as_str().unwrap())).unwrap();
    let text = String::from_utf8(bytes).unwrap().replace(host, other);
    let media = manifest["mediaType"].as_str().unwrap().to_owned();
    let config = registry.upload("app", text.as_bytes());
    let mut foreign = manifest.clone();
    foreign["config"]["digest"] = config.into();
    foreign["config"]["size"] = text.len().into();
    let foreign = foreign.to_string();
    registry.put_manifest("app", "foreign", &media, foreign.as_bytes());
    let entry = |digest: String, size: usize, architecture: &str| {
        json!({"mediaType": media, "digest": digest, "size": size,
               "platform": {"architecture": architecture, "os": "linux"}})
    };
    let native = digest_of(&registry, "app:latest");
    let size = fs_err::metadata(registry.blob(&native)).unwrap().len() as usize;
    let foreign_digest = format!("sha256:{}", sha256(foreign.as_bytes()));
    let index = |entries: &[Value]| {
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string()
    };
    let foreign = entry(foreign_digest, foreign.len(), other);
    let both = index(&[foreign.clone(), entry(native, size, host)]);
    registry.put_manifest("app", "both", INDEX, both.as_bytes());
    registry.put_manifest("app", "only", INDEX, index(&[foreign]).as_bytes());

    let only = registry.name("app:only");
    let wanted = format!("linux/{host}");
    refused(&test, &["pull", &only], &["no matching manifest", &wanted]);
    let name = registry.name("app:both");
    pull(&test, &name).succeeded();
    assert_eq!(inspect(&test, &name)["Architecture"], host);
    assert_eq!(greeting(&test, &name), "hello");
    test.rbuild(&["pull", "--platform", &format!("linux/{other}"), &name]).succeeded();
    assert_eq!(inspect(&test, &name)["Architecture"], other);
    let absent = test.rbuild(&["pull", "--platform", "linux/riscv64", &name]);
    assert!(absent.failed(1).contains("linux/riscv64"), "{absent}");
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn all_tags_are_pulled_when_asked_for() {
    let Some((test, registry)) = filled() else { return };
    for tag in ["one", "two"] {
        registry.fill(&app(&test), &format!("app:{tag}"), &[]);
    }
    test.rbuild(&["pull", "-a", &registry.name("app")]).succeeded();
    let name = registry.name("app");
    assert_eq!(test.names(), ["latest", "one", "two"].map(|tag| format!("{name}:{tag}")));
}

#[test]
fn run_create_and_build_pull_what_they_miss() {
    let Some((test, registry)) = filled() else { return };
    let name = registry.name("app:latest");
    let never = test.rbuild(&["run", "--rm", "--pull", "never", &name, "/bin/true"]);
    assert!(never.failed(125).contains(&name), "{never}");
    assert_eq!(registry.requests(), [""; 0], "nothing is asked");
    let run = test.rbuild(&["run", "--rm", "--network", "none", &name, "/bin/cat", "/greeting"]);
    assert_eq!(run.ok(), "hello");
    assert!(run.stderr.contains(&format!("Unable to find image '{name}' locally")), "{run}");
    registry.forget_requests();
    assert_eq!(greeting(&test, &name), "hello");
    assert_eq!(registry.requests(), [""; 0], "it is there now");

    let test = Test::empty();
    test.rbuild(&["create", "--name", "c1", &name, "/bin/true"]).succeeded();
    let test = Test::empty();
    test.file("Dockerfile", format!("FROM {name}\nRUN [\"/bin/cp\", \"/greeting\", \"/out\"]\n"));
    assert_eq!(test.build(&[]).read("out"), "hello");
}

#[test]
fn a_pushed_image_is_read_by_others_and_only_looked_up_when_it_is_there() {
    let Some(registry) = Registry::plain() else { return };
    let test = Test::of("FROM busybox\nRUN echo pushed > /f\nCMD [\"cat\", \"/f\"]\n");
    let image = test.build(&[]);
    let name = registry.name("team/app:v1");
    test.rbuild(&["tag", "test", &name]).succeeded();
    let pushed = test.rbuild(&["push", &name]);
    let said = pushed.ok();
    let repository = registry.name("team/app");
    assert!(said.starts_with(&format!("The push refers to repository [{repository}]\n")), "{said}");
    let digest = digest_of(&registry, "team/app:v1");
    assert!(said.contains(&format!("v1: digest: {digest} size: ")), "{said}");
    assert_eq!(registry.manifest("team/app:v1")["config"]["digest"], image.id().as_str());
    test.shell(&format!(
        "skopeo --insecure-policy copy -q --src-tls-verify=false docker://{name} oci:../named:latest
         umoci --log=error unpack --image ../named:latest ../bundle
         grep -qx pushed ../bundle/rootfs/f"
    ));

    registry.forget_requests();
    let again = test.rbuild(&["push", &name]);
    assert!(again.ok().contains(&format!("v1: digest: {digest} size: ")), "{again}");
    assert!(again.ok().contains("Layer already exists"), "{again}");
    let uploads: Vec<_> =
        registry.requests().into_iter().filter(|line| line.contains("/uploads")).collect();
    assert_eq!(uploads, [""; 0]);

    let other = Test::empty();
    pull(&other, &name).succeeded();
    assert_eq!(other.rbuild(&["run", "--rm", "--network", "none", &name]).ok(), "pushed\n");
    assert_eq!(inspect(&other, &name)["Id"], image.id().as_str());
}

#[test]
fn layers_of_another_repository_are_mounted_and_not_sent() {
    let Some((test, registry)) = filled() else { return };
    let name = registry.name("app");
    pull(&test, &name).succeeded();
    let copy = registry.name("second/copy");
    test.rbuild(&["tag", &name, &copy]).succeeded();
    registry.forget_requests();
    let pushed = test.rbuild(&["push", &copy]);
    assert!(pushed.ok().contains("Mounted from app"), "{pushed}");
    let requests = registry.requests();
    let mounted = |line: &&String| line.contains("mount=sha256") && line.ends_with(" 201");
    assert!(requests.iter().filter(mounted).count() >= 2, "{requests:?}");
    // What goes up by itself is at most the configuration.
    let sent = requests.iter().filter(|line| line.starts_with("PUT") && line.contains("/blobs/"));
    assert!(sent.count() <= 1, "{requests:?}");
    let layers = |name: &str| digests(&registry.manifest(name));
    assert_eq!(layers("second/copy:latest"), layers("app:latest"));
}

#[test]
fn a_push_of_what_is_not_there_says_so() {
    let Some((test, registry)) = filled() else { return };
    let name = registry.name("absent");
    let outcome = test.rbuild(&["push", &name]);
    let said = outcome.failed(1);
    let expected = format!("An image does not exist locally with the tag: {name}");
    assert!(said.contains(&expected), "{outcome}");
}

#[test]
fn a_registry_that_dies_while_it_is_pushed_to_is_named_and_gets_the_rest_later() {
    let Some(mut registry) = Registry::plain() else { return };
    let test = Test::of(
        "
        FROM busybox
        RUN head -c 60000000 /dev/urandom > /big
        CMD [\"sh\", \"-c\", \"wc -c < /big\"]
        ",
    );
    let image = test.build(&[]);
    let name = registry.name("app");
    test.rbuild(&["tag", "test", &name]).succeeded();
    let mut push = test.command(&["push", "--compression", "uncompressed", &name]);
    push.stdout(Stdio::null()).stderr(Stdio::piped());
    let push = push.spawn().expect("start a push");
    registry.die_of_upload("app");
    let ended = push.wait_with_output().expect("wait for the push");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains(registry.address()), "{said}");

    let _registry = registry.restarted();
    test.rbuild(&["push", "--compression", "uncompressed", &name]).succeeded();
    let other = Test::empty();
    pull(&other, &name).succeeded();
    assert_eq!(other.rbuild(&["run", "--rm", "--network", "none", &name]).ok(), "60000000\n");
    assert_eq!(inspect(&other, &name)["Id"], image.id().as_str());
}

#[test]
fn a_push_of_all_tags_pushes_each() {
    let Some((test, registry)) = filled() else { return };
    pull(&test, &registry.name("app")).succeeded();
    for tag in ["a", "b"] {
        test.rbuild(&["tag", &registry.name("app"), &registry.name(&format!("many:{tag}"))])
            .succeeded();
    }
    test.rbuild(&["push", "--all-tags", &registry.name("many")]).succeeded();
    assert_eq!(digest_of(&registry, "many:a"), digest_of(&registry, "many:b"));
}

#[test]
fn pulls_at_the_same_time_share_what_they_download() {
    let Some((test, registry)) = filled() else { return };
    let name = registry.name("app");
    std::thread::scope(|scope| {
        let commands: Vec<_> = (0..4).map(|_| test.command(&["pull", "-q", &name])).collect();
        let pulls: Vec<_> = commands
            .into_iter()
            .map(|mut command| scope.spawn(move || command.output().unwrap()))
            .collect();
        for pull in pulls {
            let output = pull.join().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    });
    assert_eq!(greeting(&test, &name), "hello");
    let requests = registry.requests();
    for digest in digests(&registry.manifest("app:latest")) {
        let got = requests.iter().filter(|line| line.starts_with("GET") && line.contains(&digest));
        assert_eq!(got.count(), 1, "{requests:?}");
    }
}
