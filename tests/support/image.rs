//! What a build made, as others see it: its files by way of `--output type=tar` and the `tar` program, its configuration
//! by way of `image inspect`.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::{NAME, Outcome, Test, build_line, finish};

/// A built image. Files are read from the tar that the same build writes when asked for one.
pub(crate) struct Image {
    test: Test,
    arguments: Vec<String>,
    /// What the build wrote on standard error.
    pub(crate) log: String,
    tar: OnceCell<PathBuf>,
}

impl Image {
    pub(super) fn new(test: Test, arguments: &[&str], log: String) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self { test, arguments, log, tar: OnceCell::new() }
    }

    /// The content of a file, by its path from the root, without the first slash.
    #[track_caller]
    pub(crate) fn read(&self, path: &str) -> String {
        String::from_utf8_lossy(&self.bytes(path)).into_owned()
    }

    /// The bytes of a file.
    #[track_caller]
    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        let outcome = self.tar(&["-xOf"], &[path.trim_start_matches('/')]);
        outcome.succeeded();
        outcome.stdout
    }

    /// All files, one a line, sorted by path: `-rw-r--r-- 0/0 etc/passwd`, a link with its target behind it.
    #[track_caller]
    pub(crate) fn tree(&self) -> String {
        self.listing(|_| true)
    }

    /// The same of one folder and what is in it.
    #[track_caller]
    pub(crate) fn tree_of(&self, folder: &str) -> String {
        self.listing(|path| {
            path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// The modification time of a file, in seconds since 1970.
    #[track_caller]
    pub(crate) fn mtime(&self, path: &str) -> i64 {
        let listed = self.tar(&["--full-time", "--utc", "-tvf"], &[path]).ok();
        let line = listed.lines().next().expect("tar lists the file it was asked for");
        let time = line.split_whitespace().skip(3).take(2).collect::<Vec<_>>().join("T") + "Z";
        time.parse::<jiff::Timestamp>().expect("tar prints times as asked").as_second()
    }

    /// `image inspect`'s one object.
    #[track_caller]
    pub(crate) fn inspect(&self) -> Value {
        inspect(&self.test, NAME)
    }

    /// The image's run configuration: `Env`, `Cmd`, `WorkingDir` and their like.
    #[track_caller]
    pub(crate) fn config(&self) -> Value {
        self.inspect()["Config"].take()
    }

    /// The value of one variable of the image's environment.
    #[track_caller]
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let config = self.config();
        let variables = config["Env"].as_array()?;
        variables
            .iter()
            .filter_map(Value::as_str)
            .find_map(|v| Some(v.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    }

    /// The image's id.
    #[track_caller]
    pub(crate) fn id(&self) -> String {
        self.inspect()["Id"].as_str().expect("an image has an id").to_owned()
    }

    /// The diff ids of its layers, lowest first.
    #[track_caller]
    pub(crate) fn layers(&self) -> Vec<String> {
        let layers = self.inspect()["RootFS"]["Layers"].take();
        let layers = layers.as_array().cloned().unwrap_or_default();
        layers.iter().map(|layer| layer.as_str().expect("a digest").to_owned()).collect()
    }

    /// The entries of its topmost layer, as `tree` shows them, out of an OCI layout that the same build writes.
    #[track_caller]
    pub(crate) fn top_layer(&self) -> String {
        let folder = self.layout();
        let blob = |digest: &Value| {
            let hex = digest.as_str().and_then(|digest| digest.strip_prefix("sha256:"));
            folder.join("blobs/sha256").join(hex.expect("a digest"))
        };
        let json = |path: PathBuf| -> Value {
            serde_json::from_slice(&fs_err::read(path).expect("read a document"))
                .expect("it is JSON")
        };
        let manifest = json(blob(&json(folder.join("index.json"))["manifests"][0]["digest"]));
        let layers = manifest["layers"].as_array().expect("a manifest has layers");
        let top = blob(&layers.last().expect("an image with a layer")["digest"]);
        listing(&tar(LISTED, &top, &[]).ok(), |_| true)
    }

    /// Builds once more, this time into an OCI layout.
    #[track_caller]
    pub(crate) fn layout(&self) -> PathBuf {
        let folder = self.place("oci");
        self.export(&format!("type=oci,tar=false,dest={}", folder.display()));
        folder
    }

    /// The files in a folder, with owners, links and attributes, as `tar` unpacks them.
    #[track_caller]
    pub(crate) fn unpacked(&self) -> PathBuf {
        let folder = self.place("unpacked");
        fs_err::create_dir(&folder).expect("make the folder");
        let into = format!("--directory={}", folder.display());
        self.tar(&["--xattrs", "--xattrs-include=*", "--numeric-owner", &into, "-xpf"], &[]).ok();
        folder
    }

    /// `CREATED BY` of its history, newest first, as `history` prints it.
    #[track_caller]
    pub(crate) fn history(&self) -> Vec<String> {
        let printed =
            self.test.rbuild(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", NAME]).ok();
        printed.lines().map(str::to_owned).collect()
    }

    /// How many steps the build took from the cache.
    pub(crate) fn cached(&self) -> usize {
        self.log.lines().filter(|line| line.ends_with(" CACHED")).count()
    }

    /// Runs the image with these arguments after its name, without a network.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        let line = ["run", "--rm", "--network", "none", NAME];
        self.test.rbuild(&[&line, arguments].concat())
    }

    #[track_caller]
    fn listing(&self, keep: impl Fn(&str) -> bool) -> String {
        listing(&self.tar(LISTED, &[]).ok(), keep)
    }

    #[track_caller]
    fn tar(&self, options: &[&str], paths: &[&str]) -> Outcome {
        let path = self.tar.get_or_init(|| {
            let path = self.place("tar");
            self.export(&format!("type=tar,dest={}", path.display()));
            path
        });
        tar(options, path, paths)
    }

    /// A name for an output, which no other image of this test has.
    fn place(&self, extension: &str) -> PathBuf {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.test.outside(&format!("{number}.{extension}"))
    }

    /// Builds once more, with another output.
    #[track_caller]
    fn export(&self, output: &str) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.test.rbuild(&build_line(&["--output", output], &arguments)).ok();
    }
}

/// `tar`'s options for a listing.
const LISTED: &[&str] = &["--numeric-owner", "--quoting-style=escape", "-tvf"];

/// Runs `tar` on an archive.
fn tar(options: &[&str], archive: &Path, paths: &[&str]) -> Outcome {
    let mut tar = Command::new("tar");
    tar.args(options).arg(archive).args(paths).env("LC_ALL", "C.UTF-8");
    finish(tar, None)
}

/// What `tar -tv` printed, sorted by path, without what differs between runs.
fn listing(printed: &str, keep: impl Fn(&str) -> bool) -> String {
    let mut entries: Vec<_> = printed.lines().map(entry).collect();
    entries.retain(|(path, _)| !path.is_empty() && keep(path));
    entries.sort();
    entries.iter().map(|(_, line)| format!("{line}\n")).collect()
}

/// `image inspect` of any name.
#[track_caller]
pub(crate) fn inspect(test: &Test, name: &str) -> Value {
    let printed = test.rbuild(&["image", "inspect", name]).ok();
    let mut objects: Value = serde_json::from_str(&printed).expect("image inspect prints JSON");
    objects[0].take()
}

/// One line of `tar -tv` as (path, `mode owner path[ -> target]`).
fn entry(line: &str) -> (String, String) {
    let mut rest = line;
    let mut column = || {
        let (word, tail) = rest.split_once(' ').expect("tar prints six columns");
        rest = tail.trim_start();
        word
    };
    let (mode, owner) = (column(), column());
    // Size (or device number), date and time differ between runs.
    let _ = (column(), column());
    let (_, shown) = rest.split_once(' ').expect("the time stands before the name");
    let shown = shown.trim_start_matches("./").trim_start_matches('/');
    let path =
        shown.split(" -> ").next().unwrap_or(shown).split(" link to ").next().unwrap_or(shown);
    let path = path.trim_end_matches('/').to_owned();
    let shown = shown.strip_suffix('/').unwrap_or(shown);
    (path, format!("{mode} {owner} {shown}"))
}
