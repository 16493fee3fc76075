//! Builds that end in a registry, and builds that begin with what an earlier one has left there.

use std::process::Command;

use serde_json::Value;

use crate::support::hostile_registry::{ALWAYS, Fault, HostileRegistry};
use crate::support::served::Served;
use crate::support::{Outcome, Registry, Test, build_line, finish, inspect};

const APP: &str = "
    FROM busybox
    COPY greeting /
    RUN cat /greeting > /out
    CMD [\"cat\", \"/out\"]
    -- greeting
    hello
    ";

/// A stage whose layers are not in the image, and steps of which no two runs give the same.
const STAGES: &str = "
    FROM busybox AS deps
    COPY deps /deps
    RUN cat /proc/sys/kernel/random/uuid > /made
    FROM busybox
    COPY --from=deps /made /made
    RUN cat /proc/sys/kernel/random/uuid > /out
    -- deps
    dep
    ";

fn build(test: &Test, arguments: &[&str]) -> Outcome {
    test.rbuild(&build_line(&[], arguments))
}

/// What a program that is not ours reads under a name: the manifest's digest, and `/out` of the image.
fn read_by_others(test: &Test, registry: &Registry, name: &str) -> (String, String) {
    let mut skopeo = Command::new("skopeo");
    let source = format!("docker://{}", registry.name(name));
    skopeo.args(["--insecure-policy", "inspect", "--no-tags", "--tls-verify=false"]);
    skopeo.args(["--format", "{{.Digest}}", &source]);
    let digest = finish(skopeo, None).ok().trim().to_owned();
    // Umoci does not read all compressions that skopeo does.
    let out = test.shell(&format!(
        "rm -rf ../copied
         skopeo --insecure-policy copy -q --src-tls-verify=false --dest-decompress {source} dir:../copied
         for layer in ../copied/*; do tar -xOf $layer out 2> ../log || true; done"
    ));
    (digest, out)
}

fn metadata(test: &Test) -> Value {
    let bytes = fs_err::read(test.outside("metadata")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn types(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    let types = layers.chain([&manifest["config"], manifest]);
    types.map(|one| one["mediaType"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_is_built_is_pushed_and_all_digests_agree() {
    let Some(registry) = Registry::plain() else { return };
    let test = Test::of(APP);
    let (one, two) = (registry.name("team/app:v1"), registry.name("other"));
    let line = ["--push", "-t", &one, "-t", &two, "--metadata-file", "../metadata"];
    let built = build(&test, &[&line[..], &["--iidfile", "../id"]].concat());
    let said = &built.succeeded().stderr;
    let found = metadata(&test);
    let (digest, out) = read_by_others(&test, &registry, "team/app:v1");
    assert_eq!(out, "hello\n");
    assert_eq!(found["containerimage.digest"], digest.as_str(), "{found}");
    assert_eq!(found["containerimage.descriptor"]["digest"], digest.as_str(), "{found}");
    assert_eq!(found["image.name"], format!("{one},{two}:latest"), "{found}");
    for name in [&one, &format!("{two}:latest")] {
        assert!(said.contains(&format!("pushing manifest for {name}@{digest} done")), "{said}");
    }
    assert_eq!(read_by_others(&test, &registry, "other:latest").0, digest);
    let manifest = registry.manifest("team/app:v1");
    assert_eq!(manifest["config"]["digest"], inspect(&test, &one)["Id"]);
    let id = fs_err::read_to_string(test.outside("id")).unwrap();
    assert_eq!(found["containerimage.config.digest"], id.as_str());
    assert_eq!(manifest["config"]["digest"], id.as_str());
    let size = manifest_size(&registry, &digest);
    assert_eq!(found["containerimage.descriptor"]["size"], size, "{found}");
    assert_eq!(test.rbuild(&["run", "--rm", "--network", "none", &one]).ok(), "hello\n");

    // Again, nothing goes over the line but questions.
    registry.forget_requests();
    build(&test, &["-o", "type=registry", "-t", &one]).succeeded();
    let requests = registry.requests();
    assert!(
        !requests.is_empty() && requests.iter().all(|line| !line.starts_with("PUT")),
        "{requests:?}"
    );
    let quiet = build(&test, &["--push", "-q", "-t", &one]);
    assert_eq!((quiet.ok(), quiet.stderr.as_str()), (format!("{id}\n"), ""));
}

fn manifest_size(registry: &Registry, digest: &str) -> u64 {
    fs_err::metadata(registry.blob(digest)).unwrap().len()
}

#[test]
fn by_its_digest_it_is_pushed_without_a_tag() {
    let Some(registry) = Registry::plain() else { return };
    let test = Test::of(APP);
    let name = registry.name("app");
    let output =
        format!("type=image,\"name={name}\",push-by-digest=true,name-canonical=true,push=true");
    build(&test, &["-o", &output, "--metadata-file", "../metadata"]).succeeded();
    let digest = metadata(&test)["containerimage.digest"].as_str().unwrap().to_owned();
    assert_eq!(read_by_others(&test, &registry, &format!("app@{digest}")).1, "hello\n");
    assert!(!registry.repository("app").join("_manifests/tags").exists());
    let by_digest = format!("{name}@{digest}");
    assert_eq!(test.rbuild(&["run", "--rm", "--network", "none", &by_digest]).ok(), "hello\n");
    let tagged = build(
        &test,
        &["-o", "type=image,push-by-digest=true,push=true", "-t", &format!("{name}:1")],
    );
    let expected = format!("can't push tagged ref {name}:1 by digest");
    assert!(tagged.failed(1).contains(&expected), "{tagged}");
    let nameless = build(&test, &["--push"]);
    assert!(nameless.failed(1).contains("tag is needed when pushing to registry"), "{nameless}");
}

#[test]
fn layers_are_compressed_as_asked() {
    let Some(registry) = Registry::plain() else { return };
    let test = Test::empty();
    registry.fill(&crate::registry::app(&test), "base:gzip", &["--dest-compress-format", "gzip"]);
    test.file(
        "Dockerfile",
        format!(
            "FROM {}\nRUN [\"/bin/cp\", \"/greeting\", \"/out\"]\n",
            registry.name("base:gzip")
        ),
    );
    let push = |tag: &str, more: &str| {
        let name = registry.name(&format!("app:{tag}"));
        build(&test, &["-t", &name, "-o", &format!("type=image,push=true{more}")]).succeeded();
        assert_eq!(read_by_others(&test, &registry, &format!("app:{tag}")).1, "hello", "{tag}");
        types(&registry.manifest(&format!("app:{tag}")))
    };
    let oci = |kinds: [&str; 3]| {
        let layers = kinds.map(|kind| format!("application/vnd.oci.image.layer.v1.tar{kind}"));
        let rest =
            ["config", "manifest"].map(|what| format!("application/vnd.oci.image.{what}.v1+json"));
        [&layers[..], &rest].concat()
    };
    // What others have made stays as it is there.
    assert_eq!(
        push("zstd", ",compression=zstd,compression-level=5"),
        oci(["+gzip", "+gzip", "+zstd"])
    );
    assert_eq!(push("plain", ",compression=uncompressed"), oci(["+gzip", "+gzip", ""]));
    assert_eq!(push("gzip", ",compression=gzip,force-compression=true"), oci(["+gzip"; 3]));
    let docker = push("docker", ",oci-mediatypes=false,compression=gzip");
    assert!(docker.iter().all(|kind| kind.starts_with("application/vnd.docker.")), "{docker:?}");
    assert_eq!(push("forced", ",compression=zstd,force-compression=true"), oci(["+zstd"; 3]));
    let refused = build(&test, &["-o", "type=image,compression=estargz"]);
    assert!(refused.failed(1).contains("use gzip, zstd or uncompressed"), "{refused}");
}

#[test]
fn annotations_are_in_the_manifest() {
    let Some(registry) = Registry::plain() else { return };
    let test = Test::of(APP);
    let name = registry.name("app");
    let output = "type=registry,annotation.Org.two=b,annotation-manifest[linux/s390x].no=x";
    build(&test, &["-t", &name, "-o", output, "--annotation", "manifest:org.one=a"]).succeeded();
    let found = registry.manifest("app:latest")["annotations"].clone();
    assert_eq!(found, serde_json::json!({"Org.two": "b", "org.one": "a"}));
    let refused = build(&test, &["--annotation", "index:a=b"]);
    assert!(refused.failed(1).contains("index annotations not supported"), "{refused}");
}

#[test]
fn what_is_not_to_be_kept_is_pushed_and_not_listed() {
    let Some(registry) = Registry::plain() else { return };
    let test = Test::of(APP);
    let before = test.names();
    let name = registry.name("app:1");
    build(&test, &["-t", &name, "-o", "type=image,push=true,store=false"]).succeeded();
    assert_eq!(test.names(), before);
    assert_eq!(read_by_others(&test, &registry, "app:1").1, "hello\n");
    build(&test, &["-o", "type=image,dangling-name-prefix=example.com/dangling"]).succeeded();
    let listed =
        test.rbuild(&["images", "--digests", "--format", "{{.Repository}}@{{.Digest}}"]).ok();
    assert!(listed.contains("example.com/dangling@sha256:"), "{listed}");
}

#[test]
fn an_output_of_files_and_a_push_go_together() {
    let Some(registry) = Registry::plain() else { return };
    let test = Test::of(APP);
    let name = registry.name("app:1");
    build(&test, &["--push", "-t", &name, "-o", "type=local,dest=../files"]).succeeded();
    assert_eq!(fs_err::read_to_string(test.outside("files/out")).unwrap(), "hello\n");
    assert_eq!(read_by_others(&test, &registry, "app:1").1, "hello\n");
    build(&test, &["--load", "-t", "loaded", "-o", "type=local,dest=../files"]).succeeded();
    assert!(test.names().contains(&"loaded:latest".to_owned()), "{:?}", test.names());
}

#[test]
fn attestations_are_said_to_be_missing_where_they_are_asked_for() {
    let test = Test::of("FROM scratch\nCOPY Dockerfile /\n");
    let said = build(
        &test,
        &["--provenance=false", "--sbom=false", "--attest", "type=sbom,disabled=true"],
    );
    assert!(!said.succeeded().stderr.contains("WARNING"), "{said}");
    let said = build(&test, &["--provenance=mode=max", "--sbom", "--attest", "type=sbom"]);
    assert_eq!(said.succeeded().stderr.matches("images get no attestations").count(), 3, "{said}");
}

/// Builds in a fresh store; gives how many steps were cached, what `/out` holds and what was said.
fn elsewhere(literal: &str, arguments: &[&str]) -> (usize, String, String) {
    let image = Test::of(literal).build(arguments);
    (image.cached(), image.read("out"), image.log.clone())
}

#[test]
fn a_cache_in_a_registry_saves_another_machine_the_work() {
    let Some(registry) = Registry::plain() else { return };
    let test = Test::of(STAGES);
    let name = registry.name("app:cache");
    let to = |more: &str| format!("type=registry,ref={name},image-manifest=true{more}");
    let from = format!("type=registry,ref={name}");
    let made = test.build(&["--cache-to", &to(",mode=max"), "--metadata-file", "../metadata"]);
    assert!(metadata(&test)["cache.manifest"].as_str().unwrap().contains("sha256:"));
    for from in [&from, &name] {
        let (cached, out, log) = elsewhere(STAGES, &["--cache-from", from]);
        assert_eq!((cached, out), (4, made.read("out")), "{log}");
        assert!(log.contains(&format!("importing cache manifest from {name}")), "{log}");
    }
    // The same cache again is nothing new.
    registry.forget_requests();
    test.build(&["--cache-to", &to(",mode=max")]);
    let requests = registry.requests();
    assert!(requests.iter().all(|line| !line.starts_with("PUT")), "{requests:?}");

    test.build(&["--cache-to", &to(",mode=min")]);
    let (cached, out, log) = elsewhere(STAGES, &["--cache-from", &from]);
    assert!(cached == 0 && out != made.read("out"), "what makes /made differs: {log}");
}

#[test]
fn only_the_layers_of_steps_that_hit_are_fetched() {
    let Some(registry) = Registry::plain() else { return };
    let name = registry.name("app:cache");
    Test::of(STAGES)
        .build(&["--cache-to", &format!("type=registry,ref={name},mode=max,compression=zstd")]);
    let manifest = registry.manifest("app:cache");
    let layers = manifest["layers"].as_array().unwrap();
    // What is copied from a stage has the layer that the stage has made.
    assert_eq!(layers.len(), 3, "{manifest}");
    let fetched = || {
        let digests = layers.iter().map(|layer| layer["digest"].as_str().unwrap());
        let requests = registry.requests();
        let is_got = |digest: &&str| {
            requests.iter().any(|line| line.starts_with("GET") && line.contains(digest))
        };
        digests.filter(is_got).count()
    };
    registry.forget_requests();
    let other = Test::of(STAGES);
    other.file("deps", "changed\n");
    assert_eq!(other.build(&["--cache-from", &name]).cached(), 0);
    assert_eq!(fetched(), 0);
    registry.forget_requests();
    let second = other.write(STAGES).build(&["--cache-from", &name]);
    assert_eq!((second.cached(), fetched()), (4, 3), "{}", second.log);
}

#[test]
fn an_image_carries_its_own_cache() {
    let Some(registry) = Registry::plain() else { return };
    let name = registry.name("app:inline");
    for arguments in [["--cache-to", "type=inline"], ["--build-arg", "BUILDKIT_INLINE_CACHE=1"]] {
        let test = Test::of(APP);
        let line = [&["--push", "-t", &name][..], &arguments].concat();
        let built = build(&test, &line);
        let said = built.succeeded().stderr.to_lowercase();
        assert!(!said.contains("warning"), "{built}");
        let (cached, out, log) = elsewhere(APP, &["--cache-from", &name]);
        assert_eq!((cached, out.as_str()), (2, "hello\n"), "{log}");
        // It still is an image like any other.
        assert_eq!(read_by_others(&test, &registry, "app:inline").1, "hello\n");
        // What is built on it does not pretend to have made its steps.
        let other = Test::empty();
        other.file("Dockerfile", format!("FROM {name}\nRUN echo more > /more\n"));
        let config = registry.name("app:child");
        build(&other, &["--push", "-t", &config]).succeeded();
        let (_, _, log) = elsewhere(APP, &["--cache-from", &config]);
        assert!(log.contains("holds no cache of this kind"), "{log}");
    }
    let test = Test::of(STAGES);
    build(&test, &["--push", "-t", &name, "--cache-to", "type=inline"]).succeeded();
    let (cached, _, log) = elsewhere(STAGES, &["--cache-from", &name]);
    assert_eq!(cached, 0, "the stage's steps are not in it: {log}");
}

#[test]
fn with_a_set_time_an_image_with_its_cache_is_the_same_again() {
    let id = || {
        let test = Test::of("FROM busybox\nRUN echo x > /out\n");
        let line = ["--build-arg", "SOURCE_DATE_EPOCH=1600000000", "--cache-to", "type=inline"];
        let rewrite = ["-o", "type=image,rewrite-timestamp=true"];
        test.build(&[&line[..], &rewrite].concat()).id()
    };
    assert_eq!(id(), id());
}

#[test]
fn a_cache_that_is_not_there_or_no_cache_is_a_warning() {
    let Some(registry) = Registry::plain() else { return };
    let test = Test::empty();
    registry.fill(&crate::registry::app(&test), "app:latest", &[]);
    for (from, said) in [
        (registry.name("app:nosuch"), "manifest unknown"),
        (registry.name("app"), "holds no cache of this kind"),
        ("127.0.0.1:1/app".to_owned(), "refused"),
    ] {
        let (cached, out, log) = elsewhere(APP, &["--cache-from", &from]);
        assert_eq!((cached, out.as_str()), (0, "hello\n"), "{log}");
        let warning = log.lines().find(|line| line.starts_with("WARNING: "));
        assert!(warning.is_some_and(|line| line.contains(said)), "no {said:?} in {log}");
    }
}

#[test]
fn a_cache_that_cannot_be_written_to_a_registry_fails_the_build_unless_told_otherwise() {
    let test = Test::of(APP);
    let to = "type=registry,ref=127.0.0.1:1/app";
    test.refused(
        &["--cache-to", to],
        &["the cache cannot be written to 127.0.0.1:1/app", "refused"],
    );
    let image = test.build(&["--cache-to", &format!("{to},ignore-error=true")]);
    assert!(image.log.contains("WARNING: the cache cannot be written"), "{}", image.log);
    test.refused(
        &["--cache-to", "type=nowhere,mode=max"],
        &["unknown type \"nowhere\": use registry, local or inline"],
    );
}

/// What a real registry has under a name, for one that misbehaves.
fn served(registry: &Registry, name: &str) -> Served {
    let manifest = registry.manifest(name);
    let mut served = Served::small();
    served.manifest = manifest.clone();
    let parts = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
    for part in parts {
        let digest = part["digest"].as_str().unwrap();
        served.keep(digest, fs_err::read(registry.blob(digest)).unwrap());
    }
    served
}

#[test]
fn a_registry_that_dies_costs_its_results_and_not_the_build() {
    let Some(registry) = Registry::plain() else { return };
    let name = registry.name("app:cache");
    Test::of(STAGES).build(&["--cache-to", &format!("type=registry,ref={name},mode=max")]);
    let image = served(&registry, "app:cache");
    let layers: Vec<_> = (0..3).map(|number| image.layer(number)).collect();
    for fault in [Fault::Cut(0), Fault::Cut(20), Fault::Answer(500, Vec::new(), Vec::new())] {
        let dying = HostileRegistry::serving(image.clone());
        for layer in &layers {
            dying.fault(&format!("/blobs/{layer}"), ALWAYS, fault.clone());
        }
        let (cached, _, log) = elsewhere(STAGES, &["--cache-from", &dying.name()]);
        assert_eq!(cached, 0, "{log}");
        assert_eq!(log.matches("WARNING: the cache in ").count(), 1, "it is given up: {log}");
    }
    // A layer that is not what it should be is that one's fault alone.
    let lying = HostileRegistry::serving(image.clone());
    lying.fault(
        &format!("/blobs/{}", layers[0]),
        ALWAYS,
        Fault::Answer(404, Vec::new(), Vec::new()),
    );
    let (cached, _, log) = elsewhere(STAGES, &["--cache-from", &lying.name()]);
    assert!(cached < 4 && log.contains("WARNING: the cache in "), "{log}");
}

#[test]
fn who_may_not_push_is_told_so_and_who_logs_in_may() {
    let Some(registry) = Registry::plain() else { return };
    let registry = registry.with_htpasswd("amy", "secret");
    let test = Test::of(APP);
    let (name, cache) = (registry.name("app:1"), registry.name("app:cache"));
    let refused = build(&test, &["--push", "-t", &name]);
    assert!(refused.failed(1).contains("rbuild login"), "{refused}");
    let to = format!("type=registry,ref={cache}");
    let refused = build(&test, &["--cache-to", &to]);
    assert!(refused.failed(1).contains("rbuild login"), "{refused}");
    let login = ["login", "-u", "amy", "--password-stdin", registry.address()];
    test.rbuild_with(&login, &[], Some(b"secret")).succeeded();
    build(&test, &["--push", "-t", &name, "--cache-to", &to]).succeeded();
    assert_eq!(registry.manifest("app:1")["config"]["digest"], inspect(&test, &name)["Id"]);
    let other = Test::of(APP);
    let closed = other.build(&["--cache-from", &cache]);
    assert!(closed.cached() == 0 && closed.log.contains("WARNING: "), "{}", closed.log);
    let other = Test::of(APP);
    other.rbuild_with(&login, &[], Some(b"secret")).succeeded();
    assert_eq!(other.build(&["--cache-from", &cache]).cached(), 2);
}

#[test]
fn a_push_that_fails_fails_the_build_and_names_the_place() {
    let test = Test::of(APP);
    let outcome = build(&test, &["--push", "-t", "127.0.0.1:1/app"]);
    let said = outcome.failed(1);
    assert!(said.contains("127.0.0.1:1") && said.contains("refused"), "{outcome}");
}
