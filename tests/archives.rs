//! Images in archives: what `save` writes and others read, what others write and `load` reads, and what nobody should load.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Outcome, Server, Test, finish, inspect, layer, need, sha256, write_layout};

const TWO_LAYERS: &str = "
    FROM busybox
    LABEL of=archives
    COPY greeting /
    -- greeting
    hello
    ";

/// A test with `app:1` and `app:2`, one image that stands on busybox.
fn app() -> Test {
    let test = Test::of(TWO_LAYERS);
    test.rbuild(&["build", "-t", "app:1", "-t", "app:2", "."]).succeeded();
    test
}

fn id(test: &Test, name: &str) -> String {
    inspect(test, name)["Id"].as_str().unwrap().to_owned()
}

/// Loads a file into a store that knows nothing.
fn load(archive: &Path, arguments: &[&str]) -> (Test, Outcome) {
    let test = Test::empty();
    let line = ["load", "-i", archive.to_str().unwrap()];
    let loaded = test.rbuild(&[&line, arguments].concat());
    (test, loaded)
}

/// The archive is refused with this text, and no image of it is listed.
#[track_caller]
fn refused(archive: &Path, arguments: &[&str], text: &str) {
    let (test, loaded) = load(archive, arguments);
    assert!(loaded.failed(1).contains(text), "no {text:?} in {loaded}");
    assert_eq!(test.names(), Vec::<String>::new(), "{loaded}");
    // The same from a stream, which is read in another way.
    let bytes = fs_err::read(archive).unwrap();
    let loaded = test.rbuild_with(&[&["load"], arguments].concat(), &[], Some(&bytes));
    assert!(loaded.failed(1).contains(text), "no {text:?} in {loaded}");
    assert_eq!(test.rbuild(&["images", "-aq"]).ok(), "", "{loaded}");
}

fn greeting(test: &Test, name: &str) -> String {
    test.rbuild(&["run", "--rm", "--network", "none", name, "cat", "/greeting"]).ok()
}

fn skopeo(arguments: &[&str]) -> String {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy"]).args(arguments);
    finish(skopeo, None).ok()
}

/// A member of an archive, as JSON.
fn member(archive: &Path, name: &str) -> Value {
    let mut tar = Command::new("tar");
    tar.arg("-xOf").arg(archive).arg(name);
    serde_json::from_str(&finish(tar, None).ok()).unwrap()
}

fn members(archive: &Path) -> Vec<String> {
    let mut tar = Command::new("tar");
    tar.arg("-tf").arg(archive);
    finish(tar, None).ok().lines().map(str::to_owned).collect()
}

#[test]
fn several_images_share_their_layers_in_an_archive_and_come_back() {
    let test = app();
    let archive = test.outside("images.tar");
    let saved = test.rbuild(&["save", "-o", "../images.tar", "app", "busybox:latest"]);
    assert_eq!(saved.ok(), "");
    let manifest = member(&archive, "manifest.json");
    assert_eq!(manifest[0]["RepoTags"], json!(["app:1", "app:2"]));
    assert_eq!(manifest[1]["RepoTags"], json!(["busybox:latest"]));
    assert_eq!(manifest[0]["Layers"][0], manifest[1]["Layers"][0]);
    let mut names = members(&archive);
    names.sort();
    let before = names.len();
    names.dedup();
    assert_eq!(names.len(), before, "a member is there twice: {names:?}");
    let (other, loaded) = load(&archive, &[]);
    let said = "Loaded image: app:1\nLoaded image: app:2\nLoaded image: busybox:latest\n";
    assert_eq!(loaded.ok(), said);
    assert_eq!(other.names(), ["app:1", "app:2", "busybox:latest"]);
    for name in ["app:1", "busybox"] {
        assert_eq!(inspect(&other, name), inspect(&test, name), "{name}");
    }
    assert_eq!(greeting(&other, "app:2"), "hello\n");
    let again = other.rbuild(&["save", "app", "busybox:latest"]);
    assert!(again.succeeded().stdout == fs_err::read(&archive).unwrap(), "not the same archive");
}

#[test]
fn names_say_what_is_saved() {
    let test = app();
    let id = id(&test, "app:1");
    let short = &id["sha256:".len()..][..12];
    let tags = |arguments: &[&str]| {
        let saved = test.rbuild(&[&["image", "save"], arguments].concat());
        let path = test.outside("saved.tar");
        fs_err::write(&path, &saved.succeeded().stdout).unwrap();
        let manifest = member(&path, "manifest.json");
        let tags: Vec<Value> =
            manifest.as_array().unwrap().iter().map(|image| image["RepoTags"].clone()).collect();
        json!(tags)
    };
    assert_eq!(tags(&["app:2"]), json!([["app:2"]]));
    assert_eq!(tags(&["docker.io/library/app"]), json!([["app:1", "app:2"]]));
    assert_eq!(tags(&["app:2", "app", "app:2"]), json!([["app:2", "app:1"]]));
    assert_eq!(tags(&[short]), json!([[]]));
    assert_eq!(tags(&[&id, "app:1"]), json!([["app:1"]]));
    for missing in ["none", "app:3", "none:1"] {
        let refused = test.rbuild(&["save", "app:1", missing]);
        assert!(refused.failed(1).contains("No such image: "), "{refused}");
        assert!(refused.stdout.is_empty(), "{missing}");
    }
    let (other, loaded) = {
        test.rbuild(&["save", "-o", "../by-id.tar", &id]).succeeded();
        load(&test.outside("by-id.tar"), &[])
    };
    assert_eq!(loaded.ok(), format!("Loaded image ID: {id}\n"));
    assert_eq!(other.rbuild(&["images", "-q", "--no-trunc"]).ok(), format!("{id}\n"));
}

#[test]
fn archives_do_not_go_to_terminals_nor_into_folders_that_are_not_there() {
    let test = app();
    let on_terminal = |line: &str| {
        test.shell(&format!("script -qec '\"$RBUILD\" {line}' /dev/null < /dev/null || :"))
    };
    let said = on_terminal("save app:1");
    let words = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
    assert!(said.contains(words), "{said}");
    let said = on_terminal("load");
    assert!(said.contains("requested load from stdin, but stdin is empty"), "{said}");
    let refused = test.rbuild(&["save", "-o", "no/such/file", "app:1"]);
    let words = "invalid output path: directory \"no/such\" does not exist";
    assert!(refused.failed(1).contains(words), "{refused}");
    test.rbuild(&["save", "-o", "../saved.tar", "app:1"]).succeeded();
    assert_eq!(test.shell("stat -c %a ../saved.tar"), "600\n");
    let other = test.rbuild(&["save", "--platform", "linux/s390x", "app:1"]);
    let words = "does not provide the specified platform (linux/s390x)";
    assert!(other.failed(1).contains(words), "{other}");
}

#[test]
fn a_damaged_store_makes_no_archive() {
    let test = app();
    let layers = inspect(&test, "app:1")["RootFS"]["Layers"].clone();
    let layer = layers[1].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let tar = test.outside(&format!("store/layers/{layer}/layer.tar"));
    let mut bytes = fs_err::read(&tar).unwrap();
    bytes[600] ^= 1;
    fs_err::write(&tar, bytes).unwrap();
    fs_err::write(test.outside("saved.tar"), "old").unwrap();
    let refused = test.rbuild(&["save", "-o", "../saved.tar", "app:1"]);
    assert!(refused.failed(1).contains("is corrupt: its content has digest"), "{refused}");
    assert_eq!(fs_err::read_to_string(test.outside("saved.tar")).unwrap(), "old");
}

#[test]
fn an_archive_is_read_from_a_file_a_stream_and_compressed() {
    let test = app();
    test.rbuild(&["save", "-o", "../plain.tar", "app:1"]).succeeded();
    test.shell(
        "cd ..; gzip -k plain.tar; zstd -q plain.tar; xz -k -0 plain.tar; bzip2 -k plain.tar",
    );
    let expected = id(&test, "app:1");
    for name in ["plain.tar", "plain.tar.gz", "plain.tar.zst", "plain.tar.xz", "plain.tar.bz2"] {
        let archive = test.outside(name);
        let (from_file, loaded) = load(&archive, &["-q"]);
        assert_eq!(loaded.ok(), "Loaded image: app:1\n", "{name}");
        assert_eq!(id(&from_file, "app:1"), expected, "{name}");
        let from_pipe = Test::empty();
        let bytes = fs_err::read(&archive).unwrap();
        let loaded = from_pipe.rbuild_with(&["image", "load"], &[], Some(&bytes));
        assert_eq!(loaded.ok(), "Loaded image: app:1\n", "{name}");
        assert_eq!(id(&from_pipe, "app:1"), expected, "{name}");
        assert_eq!(greeting(&from_pipe, "app:1"), "hello\n", "{name}");
    }
    test.shell(r#""$RBUILD" --root ../redirected load < ../plain.tar"#);
    assert!(test.outside("redirected/layers").read_dir().unwrap().count() == 2);
}

#[test]
fn a_name_that_is_taken_moves_to_the_image_that_is_loaded() {
    let test = app();
    let old = id(&test, "app:1");
    test.rbuild(&["save", "-o", "../old.tar", "app:1"]).succeeded();
    test.file("greeting", "other\n").rbuild(&["build", "-t", "app:1", "."]).succeeded();
    let new = id(&test, "app:1");
    let loaded = test.rbuild(&["load", "-i", "../old.tar"]).ok();
    assert_eq!(
        loaded,
        format!(
            "The image app:1 already exists, renaming the old one with ID {new} to empty string\n\
             Loaded image: app:1\n"
        )
    );
    assert_eq!(id(&test, "app:1"), old);
    let again = test.rbuild(&["load", "-i", "../old.tar"]).ok();
    assert_eq!(again, "Loaded image: app:1\n");
}

#[test]
fn skopeo_and_umoci_read_what_is_saved() {
    if !need::program("skopeo") || !need::program("umoci") {
        return;
    }
    let test = app();
    test.rbuild(&["save", "-o", "../saved.tar", "app:1", "busybox"]).succeeded();
    let at = |name: &str| test.outside(name).display().to_string();
    let digest = id(&test, "app:1");
    for (source, copy) in [
        (format!("docker-archive:{}:app:1", at("saved.tar")), "from-docker"),
        (format!("oci-archive:{}:1", at("saved.tar")), "from-oci"),
    ] {
        skopeo(&["copy", "-q", &source, &format!("oci:{}:x", at(copy))]);
        let raw = skopeo(&["inspect", "--raw", &source]);
        let manifest: Value = serde_json::from_str(&raw).unwrap();
        assert_eq!(manifest["config"]["digest"], digest.as_str(), "{copy}");
    }
    let mut unpack = Command::new("umoci");
    unpack.args(["unpack", "--image", &format!("{}:x", at("from-oci")), &at("bundle")]);
    finish(unpack, None).succeeded();
    let unpacked = test.outside("bundle/rootfs/greeting");
    assert_eq!(fs_err::read_to_string(unpacked).unwrap(), "hello\n");
}

#[test]
fn what_skopeo_writes_is_loaded_and_keeps_its_id() {
    if !need::program("skopeo") {
        return;
    }
    let test = Test::empty();
    let busybox = fs_err::read(need::base_tar("busybox")).unwrap();
    let layout = test.outside("layout");
    write_layout(&layout, &[busybox, layer("greeting: hello\n"), layer("")]);
    let raw = skopeo(&["inspect", "--raw", &format!("oci:{}", layout.display())]);
    let config = serde_json::from_str::<Value>(&raw).unwrap()["config"]["digest"].clone();
    let source = format!("oci:{}", layout.display());
    for (kind, options) in [
        ("docker-archive", &[][..]),
        ("oci-archive", &["--dest-compress-format", "gzip", "--dest-compress"][..]),
        ("oci-archive", &["--dest-compress-format", "zstd", "--dest-compress"][..]),
    ] {
        let archive = test.outside("archive.tar");
        let _ = fs_err::remove_file(&archive);
        let target = format!("{kind}:{}:written/by:skopeo", archive.display());
        skopeo(&[&["copy", "-q"], options, &[&source, &target]].concat());
        let (other, loaded) = load(&archive, &[]);
        assert_eq!(loaded.ok(), "Loaded image: written/by:skopeo\n", "{kind} {options:?}");
        assert_eq!(inspect(&other, "written/by:skopeo")["Id"], config, "{kind} {options:?}");
        assert_eq!(greeting(&other, "written/by:skopeo"), "hello", "{kind} {options:?}");
        let streamed = Test::empty();
        let bytes = fs_err::read(&archive).unwrap();
        streamed.rbuild_with(&["load"], &[], Some(&bytes)).succeeded();
        assert_eq!(greeting(&streamed, "written/by:skopeo"), "hello", "{kind} {options:?}");
    }
}

/// An archive in the making: files in a folder, packed in the order they are named.
struct Archive {
    test: Test,
    names: Vec<String>,
}

impl Archive {
    fn new() -> Self {
        Self { test: Test::empty(), names: Vec::new() }
    }

    fn add(&mut self, name: &str, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.test.file(&format!("packed/{name}"), bytes);
        self.names.push(name.to_owned());
        self
    }

    fn link(&mut self, name: &str, target: &str) -> &mut Self {
        self.test.shell(&format!(
            "mkdir -p packed/{name}; rmdir packed/{name}; ln -s {target} packed/{name}"
        ));
        self.names.push(name.to_owned());
        self
    }

    /// An old docker's archive of one image: layers in folders, the list at the end.
    fn docker(layers: &[(&str, &[u8])], change: impl FnOnce(&mut Value, &mut Value)) -> Self {
        let mut archive = Self::new();
        for (name, bytes) in layers {
            archive.add(name, bytes);
        }
        let diff_ids: Vec<String> =
            layers.iter().map(|(_, bytes)| format!("sha256:{}", sha256(bytes))).collect();
        let mut config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "x-unknown": [1],
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let names: Vec<&str> = layers.iter().map(|(name, _)| *name).collect();
        let mut image = json!({"Config": "config.json", "RepoTags": ["old:1"], "Layers": names});
        change(&mut config, &mut image);
        archive.add("config.json", serde_json::to_string_pretty(&config).unwrap());
        archive.add("manifest.json", json!([image]).to_string());
        archive
    }

    fn pack(&self) -> PathBuf {
        let names = self.names.join(" ");
        self.test.shell(&format!("tar -C packed --no-recursion -cf ../packed.tar {names}"));
        self.test.outside("packed.tar")
    }
}

#[test]
fn archives_of_old_dockers_are_loaded() {
    let busybox = fs_err::read(need::base_tar("busybox")).unwrap();
    let (greeting_layer, empty) = (layer("greeting: hello\n"), vec![0; 1024]);
    let (a, b) = ("a/layer.tar", "b/layer.tar");
    let mut archive = Archive::docker(
        &[(a, &busybox), (b, &greeting_layer), ("e.tar", &empty)],
        |config, image| {
            // The greeting once more, by a link to it: as docker writes a layer that is there twice.
            let again = config["rootfs"]["diff_ids"][1].clone();
            config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(again);
            image["Layers"].as_array_mut().unwrap().push(json!("c/layer.tar"));
        },
    );
    archive.link("c/layer.tar", "../b/layer.tar");
    archive.add("a/VERSION", "1.0").add("a/json", "{}").add("repositories", "{}");
    let path = archive.pack();
    let config = fs_err::read(archive.test.context().join("packed/config.json")).unwrap();
    let (file, loaded) = load(&path, &[]);
    assert_eq!(loaded.ok(), "Loaded image: old:1\n");
    let stream = Test::empty();
    let bytes = fs_err::read(&path).unwrap();
    stream.rbuild_with(&["load"], &[], Some(&bytes)).succeeded();
    for test in [file, stream] {
        assert_eq!(id(&test, "old:1"), format!("sha256:{}", sha256(&config)));
        assert_eq!(greeting(&test, "old:1"), "hello");
        assert_eq!(test.rbuild(&["system", "check"]).code, Some(0));
    }
}

#[test]
fn layers_may_be_compressed_and_called_as_anybody_likes() {
    let archive = Archive::docker(&[("1", &layer("a: 1\n")), ("2", &layer("b: 2\n"))], |_, _| {});
    archive
        .test
        .shell("cd packed; for f in 1 2; do gzip -c $f > gz; mv gz $f; done; mv 2 sha256:2");
    let config = fs_err::read(archive.test.context().join("packed/config.json")).unwrap();
    let config_name = format!("sha256:{}", sha256(&config));
    archive.test.file(&format!("packed/{config_name}"), config);
    let list = json!([{"Config": config_name, "RepoTags": ["a:1"], "Layers": ["1", "./sha256:2"]}]);
    archive.test.file("packed/manifest.json", list.to_string());
    archive.test.shell("tar -C packed -cf ../packed.tar .");
    let (test, loaded) = load(&archive.test.outside("packed.tar"), &[]);
    assert_eq!(loaded.ok(), "Loaded image: a:1\n");
    assert_eq!(id(&test, "a:1"), config_name);
    test.file("Dockerfile", "FROM a:1\n").rbuild(&["build", "-o", "../files", "."]).succeeded();
    assert_eq!(fs_err::read_to_string(test.outside("files/b")).unwrap(), "2");
    assert_eq!(test.rbuild(&["system", "check"]).code, Some(0));
}

#[test]
fn an_archive_that_is_wrong_is_refused_and_lists_no_image() {
    let small = layer("greeting: hello\n");
    let one = [("a/layer.tar", small.as_slice())];
    let same = |_: &mut Value, _: &mut Value| {};
    let packed = |change: fn(&mut Value, &mut Value)| Archive::docker(&one, change);
    let other = format!("sha256:{}", "0".repeat(64));

    let damaged = Archive::docker(&one, same);
    damaged.test.file("packed/a/layer.tar", layer("greeting: jello\n"));
    refused(&damaged.pack(), &[], "\"a/layer.tar\" is corrupt: its content has digest sha256:");

    let missing = packed(|_, image| image["Layers"] = json!(["b/layer.tar"]));
    refused(&missing.pack(), &[], "the archive has no \"b/layer.tar\"");
    let missing = packed(|_, image| image["Config"] = json!("../../../../etc/passwd"));
    refused(&missing.pack(), &[], "the archive has no \"../../../../etc/passwd\"");
    let short = packed(|_, image| image["Layers"] = json!([]));
    refused(
        &short.pack(),
        &[],
        "lists 0 layers for the image of \"config.json\", whose configuration has 1",
    );
    let name = packed(|_, image| image["RepoTags"] = json!(["Not/A:Name"]));
    refused(&name.pack(), &[], "an image of the invalid name \"Not/A:Name\"");
    let name = packed(|_, image| image["RepoTags"] = json!(["untagged"]));
    refused(&name.pack(), &[], "an image of the invalid name \"untagged\"");
    let config = packed(|config, _| *config = json!([]));
    refused(&config.pack(), &[], "\"config.json\" is not what it should be");
    let digest = format!("{other}.json");
    let mut named = Archive::docker(&one, |_, image| image["Config"] = json!(digest[7..]));
    named.add(&digest[7..], r#"{"architecture": "amd64", "os": "linux"}"#);
    refused(&named.pack(), &[], "is corrupt: its content has digest sha256:");

    let mut escaping = Archive::docker(&[], |config, image| {
        config["rootfs"]["diff_ids"] = json!([other]);
        image["Layers"] = json!(["out.tar"]);
    });
    refused(&escaping.link("out.tar", "/etc/passwd").pack(), &[], "the archive has no \"out.tar\"");
    let mut looping = Archive::docker(&[], |config, image| {
        config["rootfs"]["diff_ids"] = json!([other]);
        image["Layers"] = json!(["one"]);
    });
    refused(&looping.link("one", "two").link("two", "one").pack(), &[], "through too many links");

    let text = "no tar at all, but long enough to be a block. ".repeat(40);
    let no_layer = Archive::docker(&[("text", text.as_bytes())], same);
    let (_, loaded) = load(&no_layer.pack(), &[]);
    assert!(loaded.failed(1).contains("\"text\" cannot be read as a layer"), "{loaded}");

    let mut list = Archive::new();
    refused(
        &list.add("manifest.json", "{").pack(),
        &[],
        "\"manifest.json\" is not what it should be",
    );
    let mut nothing = Archive::new();
    refused(&nothing.add("etc/passwd", "root").pack(), &[], "the archive holds no images");
    let mut old = Archive::new();
    refused(&old.add("repositories", "{}").pack(), &[], "made by a docker older than 1.10");
    let whole = fs_err::read(packed(same).pack()).unwrap();
    for cut in [100, 700, 1500] {
        let path = list.test.outside("cut.tar");
        fs_err::write(&path, &whole[..cut]).unwrap();
        refused(&path, &[], "the archive is damaged, or is no tar");
    }
}

#[test]
fn a_layer_that_was_loaded_for_nothing_goes_with_the_next_prune() {
    let archive = Archive::docker(&[("a.tar", &layer("x: y\n"))], |config, _| {
        config["rootfs"]["diff_ids"] = json!([format!("sha256:{}", "0".repeat(64))]);
    });
    let bytes = fs_err::read(archive.pack()).unwrap();
    let test = Test::empty();
    let loaded = test.rbuild_with(&["load"], &[], Some(&bytes));
    assert!(loaded.failed(1).contains("is corrupt"), "{loaded}");
    test.rbuild(&["system", "prune", "-f"]).succeeded();
    assert_eq!(test.outside("store/layers").read_dir().unwrap().count(), 0);
}

/// Writes an OCI archive of one image for several platforms, behind a list of its own.
fn several_platforms(test: &Test, platforms: &[&str]) -> PathBuf {
    let folder = test.outside("several");
    fs_err::create_dir_all(folder.join("blobs/sha256")).unwrap();
    let blob = |media: &str, bytes: &[u8]| -> Value {
        let digest = sha256(bytes);
        fs_err::write(folder.join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({"mediaType": media, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let image = |platform: &&str| {
        let (os, architecture) = platform.split_once('/').unwrap();
        let layer =
            blob("application/vnd.oci.image.layer.v1.tar", &layer(&format!("for: {platform}\n")));
        let config = json!({
            "architecture": architecture, "os": os,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        });
        let config =
            blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let mut entry =
            blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        entry["platform"] = json!({"os": os, "architecture": architecture});
        entry
    };
    let mut entries: Vec<Value> = platforms.iter().map(image).collect();
    entries[0]["annotations"] = json!({"said": "of the first"});
    entries[0]["platform"]["os.version"] = json!("5");
    let mut attestation = entries[0].clone();
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    entries.push(attestation);
    let list = json!({"schemaVersion": 2, "manifests": entries}).to_string();
    let mut list = blob("application/vnd.oci.image.index.v1+json", list.as_bytes());
    list["annotations"] = json!({"io.containerd.image.name": "docker.io/library/several:1"});
    let index = json!({"schemaVersion": 2, "manifests": [list]});
    fs_err::write(folder.join("index.json"), index.to_string()).unwrap();
    fs_err::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    test.shell("tar -C ../several -cf ../several.tar .");
    test.outside("several.tar")
}

#[test]
fn of_several_platforms_one_is_loaded_or_all_that_are_whole() {
    let test = Test::empty();
    let host = if cfg!(target_arch = "x86_64") { "linux/amd64" } else { "linux/arm64" };
    let archive = several_platforms(&test, &["linux/s390x", host]);
    for (arguments, expected) in [
        (&[][..], host),
        (&["--platform", "linux/s390x"], "linux/s390x"),
        (&["--platform", host], host),
    ] {
        let (loaded_into, loaded) = load(&archive, arguments);
        assert_eq!(loaded.ok(), "Loaded image: several:1\n", "{arguments:?}");
        let architecture = inspect(&loaded_into, "several:1")["Architecture"].clone();
        assert_eq!(architecture, expected.split_once('/').unwrap().1, "{arguments:?}");
    }
    let words = format!("the archive has no image for linux/riscv64, but for linux/s390x, {host}");
    refused(&archive, &["--platform", "linux/riscv64"], &words);
    // Of all of them, what the archive does not have whole is left out.
    let platforms = |archive: &Path| {
        let (other, loaded) = load(archive, &[]);
        loaded.succeeded();
        other.rbuild(&["save", "-o", "../again.tar", "several:1"]).succeeded();
        let index = member(&other.outside("again.tar"), "index.json");
        let listed = &index["manifests"][0];
        if listed["mediaType"] != "application/vnd.oci.image.index.v1+json" {
            return listed["platform"]["architecture"].as_str().unwrap().to_owned();
        }
        let digest = listed["digest"].as_str().unwrap().replace(':', "/");
        let list = member(&other.outside("again.tar"), &format!("blobs/{digest}"));
        assert_eq!(list["manifests"][0]["annotations"]["said"], "of the first");
        assert_eq!(list["manifests"][0]["platform"]["os.version"], "5");
        let entries = list["manifests"].as_array().unwrap().iter();
        let entries = entries.map(|entry| entry["platform"]["architecture"].as_str().unwrap());
        entries.collect::<Vec<_>>().join(" ")
    };
    let host = host.split_once('/').unwrap().1;
    assert_eq!(platforms(&archive), format!("s390x {host}"));
    let all = ["linux/s390x", "linux/riscv64", &format!("linux/{host}")];
    let archive = several_platforms(&test, &all);
    let lost = |platform: &str| {
        let digest = sha256(&layer(&format!("for: {platform}\n")));
        fs_err::remove_file(test.outside("several/blobs/sha256").join(digest)).unwrap();
        test.shell("rm ../several.tar; tar -C ../several -cf ../several.tar .");
    };
    lost("linux/riscv64");
    assert_eq!(platforms(&archive), format!("s390x {host}"));
    lost("linux/s390x");
    assert_eq!(platforms(&archive), host);
    // What is there alone is taken, unless something else was asked for.
    let alone = several_platforms(&test, &["linux/s390x"]);
    load(&alone, &[]).1.succeeded();
    let host = format!("linux/{host}");
    refused(&alone, &["--platform", &host], &format!("no image for {host}, but for linux/s390x"));
}

#[test]
fn a_root_file_system_is_imported_from_a_url() {
    let test = Test::empty();
    test.file("served/root/greeting", "hello\n");
    test.shell("tar -C served/root -czf served/root.tar.gz .");
    let server = Server::of(&test.context().join("served"));
    let id = test.rbuild(&["import", "-m", "from afar", &server.url("root.tar.gz"), "afar:1"]).ok();
    assert_eq!(inspect(&test, "afar:1")["Id"], id.trim());
    let missing = test.rbuild(&["import", &server.url("none.tar")]);
    assert!(missing.failed(1).contains("invalid response status 404"), "{missing}");
    let digest = format!("x@sha256:{}", "0".repeat(64));
    let named = test.rbuild(&["import", &server.url("root.tar.gz"), &digest]);
    assert!(named.failed(1).contains("cannot import digest reference"), "{named}");
}
