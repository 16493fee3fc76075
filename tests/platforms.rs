//! Several platforms: builds for them, names that stand for them, and programs that only an emulator runs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;

use crate::support::{Registry, Test, build_line, finish, inspect, need, sha256};

const BOTH: &str = "linux/amd64,linux/arm64";

/// A base for both platforms that is nothing but a file; the tool that makes it runs here.
const SHARED: &str = "
    FROM --platform=$BUILDPLATFORM busybox AS tool
    RUN --mount=type=cache,target=/count echo run >> /count/log; cat /count/log > /log
    FROM --platform=$BUILDPLATFORM busybox AS cross
    ARG TARGETARCH
    RUN --mount=type=cache,target=/count echo $TARGETARCH >> /count/cross; echo $TARGETARCH > /arch
    FROM scratch
    COPY --from=tool /log /
    COPY --from=cross /arch /
    COPY a /
    -- a
    text
    ";

fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

fn read(test: &Test, path: &str) -> String {
    fs_err::read_to_string(test.outside(path)).unwrap()
}

#[test]
fn stages_that_do_not_know_the_target_run_once_for_all_platforms() {
    let test = Test::of(SHARED);
    let image = test.build(&["--platform", BOTH]);
    assert!(image.log.contains("[linux/amd64 tool 2/2] RUN"), "{}", image.log);
    assert!(image.log.contains("[linux/arm64 stage-2 3/3] COPY a /"), "{}", image.log);
    test.rbuild(&["build", "--platform", BOTH, "-o", "../local", "."]).succeeded();
    for architecture in ["amd64", "arm64"] {
        let file = |name: &str| read(&test, &format!("local/linux_{architecture}/{name}"));
        assert_eq!((file("log").as_str(), file("a").as_str()), ("run\n", "text\n"));
        assert_eq!(file("arch"), format!("{architecture}\n"));
    }
    let again = test.build(&["--platform", "linux/arm64,linux/amd64", "--expect-cached"]);
    assert!(again.log.contains("built sha256:"), "{}", again.log);
}

#[test]
fn files_of_several_platforms_have_a_directory_each() {
    let test = Test::of("FROM scratch\nARG TARGETARCH\nCOPY a /dir/$TARGETARCH\n-- a\ntext\n");
    let listed = |arguments: &[&str]| {
        test.rbuild(&[&["build", "-o"], arguments, &["."]].concat()).succeeded();
        let mut tar = Command::new("tar");
        tar.arg("-tf").arg(test.outside("out.tar"));
        finish(tar, None).ok().lines().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        listed(&["type=tar,dest=../out.tar", "--platform", "linux/amd64,linux/arm/v7"]),
        "linux_amd64/ linux_amd64/dir/ linux_amd64/dir/amd64 \
         linux_arm_v7/ linux_arm_v7/dir/ linux_arm_v7/dir/arm"
    );
    assert_eq!(
        listed(&["type=tar,dest=../out.tar,platform-split=true", "--platform", "linux/arm64"]),
        "linux_arm64/ linux_arm64/dir/ linux_arm64/dir/arm64"
    );
    test.refused(
        &["--platform", BOTH, "-o", "type=local,dest=../x,platform-split=false"],
        &["need directories of their own"],
    );
}

#[test]
fn a_name_for_several_platforms_is_saved_tagged_and_pruned_as_a_whole() {
    let test = Test::of("FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH\n-- a\ntext\n");
    let line = ["--platform", BOTH, "-t", "app:1", "--annotation", "index:k=v"];
    let line = [&line[..], &["--annotation", "manifest-descriptor[linux/arm64]:m=d"]].concat();
    test.rbuild(&build_line(&line, &["--metadata-file", "../known", "--iidfile", "../id"]))
        .succeeded();
    let known = json(test.outside("known"));
    let digest = known["containerimage.digest"].as_str().unwrap().to_owned();
    assert_eq!(
        known["containerimage.descriptor"]["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    assert_eq!(read(&test, "id"), digest);
    test.rbuild(&["tag", &digest, "other"]).succeeded();
    test.rbuild(&["rmi", "app:1"]).succeeded();
    test.rbuild(&["system", "prune", "-f"]).succeeded();
    test.rbuild(&["tag", "other", "app"]).succeeded();
    test.rbuild(&["rmi", "other"]).succeeded();
    test.rbuild(&["image", "prune", "-f"]).succeeded();
    test.rbuild(&["system", "check"]).succeeded();
    test.rbuild(&["save", "-o", "../saved.tar", "app"]).succeeded();
    test.shell("mkdir ../saved; tar -C ../saved -xf ../saved.tar");
    let entry = json(test.outside("saved/index.json"))["manifests"][0].take();
    assert_eq!(entry["digest"], digest.as_str());
    let blob = |digest: &Value| {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        let path = test.outside("saved/blobs/sha256").join(hex);
        assert_eq!(sha256(&fs_err::read(&path).unwrap()), hex);
        path
    };
    let index = json(blob(&entry["digest"]));
    assert_eq!(index["annotations"]["k"], "v");
    assert_eq!(index["manifests"][0]["annotations"], Value::Null);
    assert_eq!(index["manifests"][1]["annotations"], serde_json::json!({"m": "d"}));
    for (manifest, architecture) in
        index["manifests"].as_array().unwrap().iter().zip(["amd64", "arm64"])
    {
        assert_eq!(manifest["platform"]["architecture"], architecture);
        let layer = blob(&json(blob(&manifest["digest"]))["layers"][0]["digest"]);
        let names = Command::new("tar").arg("-tf").arg(layer).output().unwrap().stdout;
        assert_eq!(String::from_utf8(names).unwrap(), format!("{architecture}\n"));
    }
    assert_eq!(json(test.outside("saved/manifest.json")).as_array().unwrap().len(), 1);
    test.rbuild(&["save", "-o", "../arm.tar", "--platform", "linux/arm64", "app"]).succeeded();
    let none = test.rbuild(&["save", "-o", "../none.tar", "--platform", "linux/s390x", "app"]);
    assert!(
        none.failed(1).contains("does not provide the specified platform (linux/s390x)"),
        "{none}"
    );
}

#[test]
fn a_name_for_several_platforms_is_loaded_as_a_whole() {
    let test = Test::of("FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH\n-- a\ntext\n");
    let line = ["--platform", BOTH, "-t", "app:1", "-t", "app:2", "--annotation", "index:k=v"];
    test.rbuild(&build_line(&line, &[])).succeeded();
    test.rbuild(&["save", "-o", "../saved.tar", "app"]).succeeded();
    let saved = fs_err::read(test.outside("saved.tar")).unwrap();
    let path = test.outside("saved.tar").display().to_string();
    let (from_file, from_pipe) = (Test::empty(), Test::empty());
    let loaded = from_file.rbuild(&["load", "-i", &path]).ok();
    assert_eq!(loaded, "Loaded image: app:1\nLoaded image: app:2\n");
    from_pipe.rbuild_with(&["load"], &[], Some(&saved)).succeeded();
    for other in [from_file, from_pipe] {
        other.rbuild(&["system", "prune", "-f"]).succeeded();
        other.rbuild(&["system", "check"]).succeeded();
        let again = other.rbuild(&["save", "app"]);
        assert!(again.succeeded().stdout == saved, "not the same archive");
    }
    let one = Test::empty();
    one.rbuild(&["load", "-i", &path, "--platform", "linux/arm64"]).succeeded();
    assert_eq!(inspect(&one, "app:1")["Architecture"], "arm64");
    let none = one.rbuild(&["save", "-o", "../none.tar", "--platform", "linux/amd64", "app:1"]);
    assert!(none.failed(1).contains("does not provide the specified platform"), "{none}");
}

#[test]
fn an_image_that_is_here_for_another_platform_is_not_taken() {
    let test = Test::of("FROM busybox\n");
    let words =
        "busybox:latest was found but does not provide the specified platform (linux/arm64)";
    test.refused(&["--platform", "linux/arm64"], &[words]);
    let line = ["run", "--rm", "--platform", "linux/arm64", "--pull", "never", "busybox", "true"];
    let run = test.rbuild(&line);
    assert!(run.failed(125).contains(words), "{run}");
    test.rbuild(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--platform",
        "linux/amd64",
        "busybox",
        "true",
    ])
    .succeeded();
    assert_eq!(inspect(&test, "busybox")["Architecture"], "amd64");
}

/// Whoever changes the kernel's list of emulators is alone.
static EMULATORS: Mutex<()> = Mutex::new(());

/// Whether the kernel knows an emulator for arm64, which it does as long as this lives.
struct Emulator<'a> {
    _alone: MutexGuard<'a, ()>,
    registered: bool,
    mounted: bool,
}

const LIST: &str = "/proc/sys/fs/binfmt_misc";
const ENTRY: &str = "/proc/sys/fs/binfmt_misc/qemu-aarch64";
const QEMU: &str = "/usr/lib/binfmt.d/qemu-aarch64.conf";

impl Emulator<'_> {
    /// Registers Debian's, if there is none; nothing where that cannot be.
    fn register() -> Option<Self> {
        if !need::program("qemu-aarch64-static") {
            return None;
        }
        let alone = EMULATORS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut emulator = Self { _alone: alone, registered: false, mounted: false };
        if !Path::new(LIST).join("register").exists() {
            let mut mount = Command::new("mount");
            mount.args(["-t", "binfmt_misc", "binfmt_misc", LIST]);
            if finish(mount, None).code != Some(0) {
                return None;
            }
            emulator.mounted = true;
        }
        if !Path::new(ENTRY).exists() {
            let entry = fs_err::read_to_string(QEMU).unwrap();
            fs_err::write(Path::new(LIST).join("register"), entry.trim()).unwrap();
            emulator.registered = true;
        }
        Some(emulator)
    }
}

impl Drop for Emulator<'_> {
    fn drop(&mut self) {
        if self.registered {
            let _ = fs_err::write(ENTRY, "-1");
        }
        if self.mounted {
            let _ = Command::new("umount").arg(LIST).status();
        }
    }
}

/// Debian's busybox for arm64 as a root file system, made once for all tests; nothing where there is no mmdebstrap.
fn foreign_root() -> Option<PathBuf> {
    if !need::program("mmdebstrap") {
        return None;
    }
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let tar = need::base_tar("busybox-arm64");
    if !tar.exists() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let mut extract = Command::new("mmdebstrap");
        extract.args(["--quiet", "--architectures=arm64", "--variant=extract"]);
        extract.args(["--include=busybox-static", "bookworm"]).arg(&root);
        finish(extract, None).succeeded();
        let tree = dir.path().join("tree");
        fs_err::create_dir_all(tree.join("bin")).unwrap();
        fs_err::copy(root.join("bin/busybox"), tree.join("bin/busybox")).unwrap();
        fs_err::set_permissions(tree.join("bin/busybox"), PermissionsExt::from_mode(0o755))
            .unwrap();
        for applet in ["sh", "uname", "cat", "echo", "true"] {
            fs_err::hard_link(tree.join("bin/busybox"), tree.join("bin").join(applet)).unwrap();
        }
        let part = tar.with_extension(std::process::id().to_string());
        let mut pack = Command::new("tar");
        pack.arg("-C").arg(&tree).arg("-cf").arg(&part).arg(".");
        finish(pack, None).succeeded();
        fs_err::rename(part, &tar).unwrap();
    }
    Some(tar)
}

/// A store that has `base` for both platforms, as a registry gives it.
fn with_base(registry: &Registry) -> Option<Test> {
    let root = foreign_root()?;
    let test = Test::of(
        "
        FROM base
        RUN uname -m > /machine
        CMD [\"cat\", \"/machine\"]
        ",
    );
    let path = "ENV PATH=/bin";
    let line = ["import", "-c", path, "--platform", "linux/arm64"];
    let line = line.map(str::to_owned).into_iter();
    test.rbuild(
        &line.chain([root.display().to_string(), "foreign".to_owned()]).collect::<Vec<_>>(),
    )
    .succeeded();
    // Their index is made by a build that only takes them over.
    test.file(
        "bases",
        "ARG TARGETARCH\nFROM busybox AS amd64\nFROM foreign AS arm64\nFROM $TARGETARCH\n",
    );
    let name = registry.name("base");
    test.rbuild(&["build", "-f", "bases", "-t", &name, "--platform", BOTH, "."]).succeeded();
    test.rbuild(&["push", &name]).succeeded();
    test.file(
        "Dockerfile",
        fs_err::read_to_string(test.context().join("Dockerfile"))
            .unwrap()
            .replace("FROM base", &format!("FROM {name}")),
    );
    test.rbuild(&["rmi", "-f", &name, "foreign"]).succeeded();
    test.rbuild(&["system", "prune", "-af"]).succeeded();
    assert!(!test.names().iter().any(|known| known.contains("base")), "{:?}", test.names());
    Some(test)
}

#[test]
fn a_build_for_a_foreign_platform_goes_to_a_registry_and_runs_elsewhere() {
    let Some(registry) = Registry::plain() else { return };
    let Some(_emulator) = Emulator::register() else { return };
    let Some(test) = with_base(&registry) else { return };
    let name = registry.name("app");
    test.rbuild(&["build", "-t", &name, "--platform", BOTH, "."]).succeeded();
    let run = |test: &Test, arguments: &[&str]| {
        let line = ["run", "--rm", "--network", "none"];
        test.rbuild(&[&line, arguments, &[name.as_str()]].concat())
    };
    assert_eq!(run(&test, &[]).ok(), "x86_64\n");
    assert_eq!(run(&test, &["--platform", "linux/arm64"]).ok(), "aarch64\n");
    // The bases came from the registry, and are all still here.
    registry.forget_requests();
    let again = test.rbuild(&["build", "-t", "again", "--platform", BOTH, "--expect-cached", "."]);
    again.succeeded();
    assert_eq!(registry.requests(), [""; 0], "{again}");
    let pushed = test.rbuild(&["push", &name]).ok();
    let index = registry.manifest("app");
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    for (entry, architecture) in
        index["manifests"].as_array().unwrap().iter().zip(["amd64", "arm64"])
    {
        assert_eq!(entry["platform"]["architecture"], architecture);
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "--override-arch", architecture, "inspect", "--config"]);
        skopeo.args(["--tls-verify=false", &format!("docker://{name}")]);
        let config: Value = serde_json::from_str(&finish(skopeo, None).ok()).unwrap();
        assert_eq!(config["architecture"], architecture);
    }
    let index = fs_err::read(registry.blob(&digest_of(&pushed))).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&index).unwrap()["manifests"].as_array().unwrap().len(),
        2
    );

    let fresh = Test::empty();
    fresh.rbuild(&["pull", "--platform", "linux/arm64", &name]).succeeded();
    let warned = run(&fresh, &[]);
    assert_eq!(warned.ok(), "aarch64\n");
    let warning = "WARNING: The requested image's platform (linux/arm64) does not match the detected host platform (linux/amd64";
    assert!(warned.stderr.contains(warning), "{warned}");
    assert!(!run(&fresh, &["--platform", "linux/arm64"]).stderr.contains("WARNING"));
    assert_eq!(run(&fresh, &["--platform", "linux/amd64"]).ok(), "x86_64\n");
    fresh.rbuild(&["pull", &name]).succeeded();
    assert_eq!(run(&fresh, &[]).ok(), "x86_64\n");
}

/// The digest that `push` has told of.
fn digest_of(pushed: &str) -> String {
    let (_, rest) = pushed.split_once("digest: ").expect("push tells the digest");
    rest.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn without_an_emulator_it_is_said_what_to_install() {
    let Some(root) = foreign_root() else { return };
    let _alone = EMULATORS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if Path::new(ENTRY).exists() || cfg!(target_arch = "aarch64") {
        return;
    }
    let test = Test::of("FROM foreign\nRUN true\n");
    let line = ["import", "-c", "ENV PATH=/bin", "--platform", "linux/arm64"];
    let line = line.map(str::to_owned).into_iter();
    test.rbuild(
        &line.chain([root.display().to_string(), "foreign".to_owned()]).collect::<Vec<_>>(),
    )
    .succeeded();
    let words = "this machine cannot run programs for arm64: install an emulator (on Debian: apt-get install qemu-user-static binfmt-support)";
    test.refused(&["--platform", "linux/arm64"], &[words, "flag F"]);
    let run = test.rbuild(&["run", "--rm", "--network", "none", "foreign", "true"]);
    assert!(run.failed(126).contains(words), "{run}");
}
