//! Images in registries that are not what they say, or are made to harm: refused by name, and nothing outside the store
//! is changed.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::hostile_registry::{ALWAYS, Fault, HostileRegistry, SOON};
use crate::support::served::{INDEX, MANIFEST, Served, absent, gzip};
use crate::support::{Test, layer, layer_of_a_device, layer_of_a_name, need, sha256, unindent};

/// A change that makes an image untrue.
type Lie = fn(&mut Served);

/// Tells each of some lies about a small image; each must be refused with its texts.
#[track_caller]
fn lies(lies: &[(Lie, &[&str])]) {
    for (number, (lie, texts)) in lies.iter().enumerate() {
        let registry = HostileRegistry::serving(Served::small().edited(lie));
        registry.is_refused_for(&format!("lie {number}"), texts);
    }
}

#[test]
fn a_blob_that_is_not_what_its_digest_says_is_refused() {
    let image = Served::busybox();
    for digest in [image.layer(0), image.layer(1), image.id()] {
        let right = image.bytes(&digest).to_vec();
        let mut wrong = right.clone();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 1;
        for fault in [
            Fault::Bytes(wrong),
            Fault::Bytes(right[..right.len() - 1].to_vec()),
            Fault::Bytes([&right[..], b"more"].concat()),
            Fault::Bytes(Vec::new()),
        ] {
            let registry = HostileRegistry::serving(image.clone());
            registry.fault(&format!("/blobs/{digest}"), ALWAYS, fault);
            registry.is_refused(&[&digest]);
        }
    }
}

#[test]
fn a_manifest_that_is_not_what_its_digest_says_is_refused() {
    let image = Served::small();
    let digest = image.tagged().0;
    let lie = format!("sha256:{}", "0".repeat(64));
    let registry = HostileRegistry::serving(image.clone());
    registry.fault("/manifests/", ALWAYS, Fault::Header("Docker-Content-Digest", lie.clone()));
    registry.is_refused(&[&lie]);

    // By digest, the registry cannot hand out another one.
    let other = Served::of(&[layer("evil: yes\n")]);
    let registry = HostileRegistry::serving(image.edited(|image| {
        image.blobs_of(&other);
    }));
    registry.fault("/manifests/", ALWAYS, Fault::Bytes(other.tagged().2));
    let test = Test::empty();
    let name = registry.name().replace(":latest", &format!("@{digest}"));
    let outcome = test.rbuild(&["pull", &name]);
    assert!(outcome.failed(1).contains(&digest), "{outcome}");
    assert_eq!(test.rbuild(&["images", "-q", "-a"]).ok(), "");
}

#[test]
fn a_manifest_that_lies_about_its_blobs_is_refused() {
    lies(&[
        (|image| image.manifest["layers"][1]["size"] = 1.into(), &["blob sha256:"]),
        (|image| image.manifest["layers"][1]["size"] = 1_000_000.into(), &["blob sha256:"]),
        (|image| image.manifest["layers"][1]["size"] = (-1).into(), &["manifest"]),
        (|image| image.manifest["layers"][1]["size"] = Value::from(u64::MAX), &["blob sha256:"]),
        (|image| image.manifest["layers"][1]["digest"] = absent().into(), &["sha256:00000"]),
        (
            |image| image.manifest["layers"][1]["digest"] = "sha256:../../etc/passwd".into(),
            &["manifest"],
        ),
        (
            |image| image.manifest["layers"][1]["digest"] = "md5:d41d8cd98f00b204".into(),
            &["manifest"],
        ),
        (|image| image.manifest["layers"][1]["digest"] = "".into(), &["manifest"]),
        (
            |image| {
                image.manifest["config"]["mediaType"] =
                    "application/vnd.cncf.helm.config.v1+json".into()
            },
            &["application/vnd.cncf.helm.config.v1+json"],
        ),
        (|image| image.config["rootfs"]["diff_ids"][1] = absent().into(), &["sha256:00000"]),
        (|image| image.config["rootfs"]["diff_ids"][1] = "sha256:x".into(), &["configuration"]),
        (|image| swap_diff_ids(&mut image.config), &["sha256:"]),
        (|image| image.config["rootfs"]["diff_ids"] = json!([]), &["2", "0"]),
        (|image| add_diff_id(&mut image.config), &["2", "3"]),
        (|image| image.manifest["layers"] = json!([]), &["2", "0"]),
        (|image| image.config = json!([1]), &["configuration"]),
    ]);
}

fn add_diff_id(config: &mut Value) {
    config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(absent().into());
}

fn swap_diff_ids(config: &mut Value) {
    let ids = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
    ids.swap(0, 1);
}

#[test]
fn what_is_no_manifest_is_refused() {
    let document = |media: &str, text: &str| Some((media.to_owned(), text.as_bytes().to_vec()));
    for (media, text) in [
        (MANIFEST, ""),
        (MANIFEST, "no JSON"),
        (MANIFEST, "{}"),
        (MANIFEST, "[]"),
        (MANIFEST, r#"{"schemaVersion":1,"name":"app","fsLayers":[]}"#),
        ("text/html", "<html>Please log in to the hotel's network</html>"),
        (INDEX, r#"{"schemaVersion":2,"manifests":[]}"#),
        (MANIFEST, r#"{"schemaVersion":2,"config":{},"layers":[]}"#),
    ] {
        let image = Served::small().edited(|image| image.document = document(media, text));
        HostileRegistry::serving(image).is_refused(&["manifest"]);
    }
    let deep = "[".repeat(100_000);
    let image = Served::small().edited(|image| image.document = document(MANIFEST, &deep));
    HostileRegistry::serving(image).is_refused(&["manifest"]);
}

#[test]
fn an_index_that_lies_is_refused() {
    let host = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let index = |media: &str, digest: &str, size: usize| {
        let platform = json!({"architecture": host, "os": "linux"});
        let entry =
            json!({"mediaType": media, "digest": digest, "size": size, "platform": platform});
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string()
    };
    let image = Served::small();
    let (digest, _, bytes) = image.tagged();
    let serving = |text: String| {
        let document = Some((INDEX.to_owned(), text.into_bytes()));
        HostileRegistry::serving(image.clone().edited(|image| image.document = document))
    };
    serving(index(MANIFEST, &digest, bytes.len())).is_pulled(&image);
    serving(index(MANIFEST, &digest, bytes.len() + 1)).is_refused(&[&digest]);
    let absent = absent();
    serving(index(MANIFEST, &absent, 7)).is_refused(&[&absent]);
    serving(index(MANIFEST, "sha256:..", 7)).is_refused(&["manifest"]);
    // Every manifest is this index again, whatever digest it is asked by.
    let registry = serving(index(INDEX, &absent, 7));
    let text = index(INDEX, &absent, 7).into_bytes();
    let again = Fault::Answer(200, vec![("Content-Type", INDEX.to_owned())], text);
    registry.fault("/manifests/", ALWAYS, again);
    registry.is_refused(&["sha256:"]);
    assert!(registry.asked("/manifests/").len() < 20);
}

/// A gzip of so many MiB of one byte, made of many of the same members; with the digest of nothing in particular.
fn bomb(byte: u8, megabytes: usize) -> Served {
    const MEMBER: usize = 16;
    let head = layer(&format!("bomb: {}\n", "x".repeat(600)));
    let member = gzip(&vec![byte; MEMBER << 20]);
    let bytes = [gzip(&head[..1024]), member.repeat(megabytes / MEMBER)].concat();
    Served::of_blobs(&[(bytes, absent())])
}

#[test]
fn a_bomb_fills_neither_memory_nor_the_store() {
    // Zeros might be kept as holes, other bytes cannot be.
    for byte in [0, b'x'] {
        let image = bomb(byte, 10 << 10);
        assert!(image.bytes(&image.layer(0)).len() < 20 << 20);
        let registry = HostileRegistry::serving(image.clone());
        let test = Test::empty();
        let script = "
            mkdir -p $RBUILD_ROOT; mount -t tmpfs -o size=400m tmpfs $RBUILD_ROOT
            code=0; prlimit --as=4000000000 $RBUILD pull -q NAME 2> ../said || code=$?
            test $code = 1
            test -z \"$($RBUILD images -q -a)\"
            du -sm $RBUILD_ROOT | cut -f 1
        ";
        let begun = Instant::now();
        let left = test.unshared(&unindent(script).replace("NAME", &registry.name()));
        assert!(begun.elapsed() < 2 * SOON, "{:?}", begun.elapsed());
        let said = fs_err::read_to_string(test.outside("said")).unwrap();
        assert!(said.contains(&image.layer(0)), "{said}");
        assert!(left.trim().parse::<u64>().unwrap() < 50, "{left} MB stay in the store");
    }
}

#[test]
fn hostile_layers_change_nothing_outside() {
    let test = Test::empty();
    let canary = test.outside("canary");
    fs_err::write(&canary, "alive").unwrap();
    let up = "../".repeat(12);
    let (at, name) = (canary.parent().unwrap().display().to_string(), canary.display().to_string());
    let base = fs_err::read(need::base_tar("busybox")).unwrap();
    let mut useless = Vec::new();
    for hostile in [
        format!("{up}{name}: dead\n"),
        format!("{name}: dead\n"),
        format!("x/{up}{name}: dead\n"),
        format!("link -> {at}\nlink/canary: dead\n"),
        format!("link -> {up}{at}\nlink/canary: dead\n"),
        format!("link -> /\ndeep -> link{at}\ndeep/canary: dead\n"),
        format!("hard => {name}\nhard: dead\n"),
        format!("hard => {up}{name}\nhard: dead\n"),
        format!("link -> {at}\nhard => link/canary\nhard: dead\n"),
        format!("{up}{at}/.wh.canary\n"),
        format!("link -> {at}\nlink/.wh.canary\n"),
        format!("link -> {at}\nlink/.wh..wh..opq\n"),
        ".wh..\n.wh...\n".to_owned(),
        ".wh.\n".to_owned(),
        "d/.wh...\nd/.wh..\n".to_owned(),
    ] {
        let image = Served::of(&[base.clone(), layer(&hostile)]);
        let digest = image.layer(1);
        let registry = HostileRegistry::serving(image);
        let test = Test::empty();
        let outcome = registry.pull(&test);
        // Refused by name, or tamed so that the image can be used.
        if outcome.code == Some(0) {
            let line = ["run", "--rm", "--network", "none", &registry.name(), "/bin/true"];
            let run = test.rbuild(&line);
            if run.code != Some(0) {
                useless.push(format!("{hostile}{}", run.stderr));
            }
            test.file("Dockerfile", format!("FROM {}\nRUN /bin/true\n", registry.name()));
            test.rbuild(&["build", "-o", "type=local,dest=../out", "."]);
        } else {
            assert!(outcome.failed(1).contains(&digest), "{hostile}{outcome}");
            assert_eq!(test.rbuild(&["images", "-q", "-a"]).ok(), "");
        }
        assert_eq!(fs_err::read_to_string(&canary).unwrap(), "alive", "{hostile}");
    }
    assert!(useless.is_empty(), "pulled, but not to be run:\n{}", useless.concat());
}

#[test]
fn strange_layers_that_harm_nobody_are_pulled() {
    let base = fs_err::read(need::base_tar("busybox")).unwrap();
    for (strange, script) in [
        (layer("/etc/absolute: a\n"), "cat /etc/absolute"),
        (layer("./dotted: a\n"), "cat /dotted"),
        (layer("twice: old\ntwice: a\n"), "cat /twice"),
        (layer("kind: old\nkind/\nkind/f: a\n"), "cat /kind/f"),
        (layer("no/parent/of/it: a\n"), "cat /no/parent/of/it"),
        (layer(".wh.nosuch\nf: a\n"), "cat /f"),
        (layer_of_a_device("dev/own"), "test -e /dev/null && echo -n a"),
        (layer_of_a_device("own"), "test -c /own && echo -n a"),
        (layer_of_a_name(b"not\xff\xfetext"), "test -f /not* && echo -n a"),
        (layer_of_a_name("n".repeat(255).as_bytes()), "test -f /nnn* && echo -n a"),
        (
            layer_of_a_name("d/".repeat(500).trim_end_matches('/').as_bytes()),
            "test -d /d/d/d/d && echo -n a",
        ),
        (Vec::new(), "echo -n a"),
        (vec![0; 1024], "echo -n a"),
    ] {
        let image = Served::of(&[base.clone(), strange]);
        let test = Test::empty();
        let registry = HostileRegistry::serving(image);
        registry.pull(&test).succeeded();
        let line = ["run", "--rm", "--network", "none", &registry.name(), "/bin/sh", "-c", script];
        assert_eq!(test.rbuild(&line).ok(), "a", "{script}");
    }
}

#[test]
fn a_name_longer_than_the_kernel_takes_at_once_is_refused_or_borne_with() {
    let base = fs_err::read(need::base_tar("busybox")).unwrap();
    let name = "d/".repeat(10_000);
    let image = Served::of(&[base, layer_of_a_name(name.trim_end_matches('/').as_bytes())]);
    let digest = image.layer(1);
    let registry = HostileRegistry::serving(image);
    let test = Test::empty();
    let outcome = registry.pull(&test);
    if outcome.code != Some(0) {
        assert!(outcome.failed(1).contains(&digest), "{outcome}");
        return;
    }
    let begun = Instant::now();
    let line = ["run", "--rm", "--network", "none", &registry.name(), "/bin/test", "-d", "/d/d/d"];
    test.rbuild(&line).succeeded();
    test.file("Dockerfile", format!("FROM {}\nRUN rm -r /d\n", registry.name()));
    assert_eq!(test.build(&[]).tree_of("d"), "");
    test.rbuild(&["rmi", "-f", &registry.name(), "test"]).succeeded();
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
}

#[test]
fn what_cannot_be_a_file_systems_layer_is_refused() {
    let tars = [
        layer_of_a_name("n".repeat(256).as_bytes()),
        layer_of_a_name(b"nul\0inside"),
        b"this is no tar at all, and it is longer than one block".repeat(100),
        layer("cut: short\n")[..700].to_vec(),
        layer("hard => nosuch\n"),
        layer("hard => hard\n"),
    ];
    let mut taken = Vec::new();
    for (number, tar) in tars.into_iter().enumerate() {
        let image = Served::of(&[layer("a: 1\n"), tar]);
        let digest = image.layer(1);
        let registry = HostileRegistry::serving(image);
        match registry.pull(&Test::empty()).code {
            Some(0) => taken.push(number),
            _ => registry.is_refused_for(&format!("tar {number}"), &[&digest]),
        }
    }
    assert_eq!(taken, [0; 0], "tars that were pulled");
}

#[test]
fn compressed_layers_that_are_damaged_or_cut_are_refused() {
    let tar = layer("a: 1\n");
    let id = format!("sha256:{}", sha256(&tar));
    let whole = gzip(&tar);
    let damaged = [
        whole[..whole.len() - 9].to_vec(),
        [&whole[..20], &[0xff; 20], &whole[40..]].concat(),
        b"\x1f\x8b".to_vec(),
        b"\x28\xb5\x2f\xfd".to_vec(),
    ];
    for (number, bytes) in damaged.into_iter().enumerate() {
        let image = Served::of_blobs(&[(bytes, id.clone())]);
        let digest = image.layer(0);
        HostileRegistry::serving(image).is_refused_for(&format!("stream {number}"), &[&digest]);
    }
}
