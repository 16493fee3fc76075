//! What an end-to-end test is written with: a store of its own, a context folder, and the real program.
//!
//! A test reads as a Dockerfile with its context, one verb, and what must come out:
//!
//! ```ignore
//! let test = Test::of("
//!     FROM busybox
//!     COPY greeting /
//!     RUN cat /greeting > /out
//!     -- greeting
//!     hello
//! ");
//! assert_eq!(test.build(&[]).read("out"), "hello\n");
//! ```
//!
//! Knows nothing of the crates behind the program: it asserts on exit codes, output, and what other programs (tar, skopeo)
//! read from what it wrote.

mod certificates;
pub(crate) mod containers;
pub(crate) mod hostile_registry;
mod http;
mod image;
mod layout;
mod literal;
pub(crate) mod need;
pub(crate) mod project;
mod registry;
pub(crate) mod served;
mod server;
pub(crate) mod tokens;

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;

pub(crate) use image::{Image, inspect};
pub(crate) use layout::{layer, layer_of_a_device, layer_of_a_name, sha256, write_layout};
pub(crate) use literal::unindent;
pub(crate) use registry::Registry;
pub(crate) use server::{LAST_MODIFIED, Server};

/// The name that `Test::build` gives what it builds.
pub(crate) const NAME: &str = "test";

/// How long one command may take before it counts as hanging.
const DEADLINE: &str = "300";

/// One test's world: a folder with a store, a context and room for outputs, gone with the test unless it fails.
/// A clone is the same world.
#[derive(Clone)]
pub(crate) struct Test {
    dir: Rc<Folder>,
}

struct Folder(PathBuf);

/// What a command left: its exit code and both of its streams.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The command line, for messages.
    pub(crate) command: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Test {
    /// Makes a world from a literal (see `literal`): a Dockerfile, then context files. The store knows `busybox`.
    pub(crate) fn of(literal: &str) -> Self {
        let test = Self::empty();
        test.import("busybox");
        test.write(literal);
        test
    }

    /// Makes a world whose store knows no image.
    pub(crate) fn empty() -> Self {
        need::root();
        let dir = tempfile::Builder::new()
            .prefix("rbuild-test-")
            .tempdir()
            .expect("make a folder for the test")
            .keep();
        fs_err::create_dir(dir.join("context")).expect("make the context");
        Self { dir: Rc::new(Folder(dir)) }
    }

    /// Imports a base image that `tests/bases` makes; it is known by the name it has on Docker Hub.
    pub(crate) fn import(&self, base: &str) -> &Self {
        let mut import = Command::new(need::BASES);
        import
            .arg("import")
            .arg(base)
            .env("RBUILD", need::RBUILD)
            .env("RBUILD_ROOT", self.dir.0.join("store"));
        finish(import, None).ok();
        self
    }

    /// Writes a literal's Dockerfile and files into the context, over what is there.
    pub(crate) fn write(&self, literal: &str) -> &Self {
        literal::write(literal, &self.context());
        self
    }

    /// Writes one file into the context; its parents are made.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.context().join(name);
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent).expect("make the file's folder");
        }
        fs_err::write(path, content).expect("write a context file");
        self
    }

    /// Sets the mode of a context file.
    pub(crate) fn mode(&self, name: &str, mode: u32) -> &Self {
        fs_err::set_permissions(self.context().join(name), PermissionsExt::from_mode(mode))
            .expect("set a file's mode");
        self
    }

    /// Runs a shell script in the context, for what a literal cannot say.
    pub(crate) fn shell(&self, script: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-euc", script]).current_dir(self.context()).env("RBUILD", need::RBUILD);
        shell.env("RBUILD_ROOT", self.dir.0.join("store"));
        finish(shell, None).ok()
    }

    /// The same with mounts of its own, which are gone when it ends.
    pub(crate) fn unshared(&self, script: &str) -> String {
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh", "-euc", script]).current_dir(self.context());
        shell.env("RBUILD", need::RBUILD).env("RBUILD_ROOT", self.dir.0.join("store"));
        finish(shell, None).ok()
    }

    /// The context's folder.
    pub(crate) fn context(&self) -> PathBuf {
        self.dir.0.join("context")
    }

    /// A place outside the context and the store, for outputs and secrets.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.dir.0.join(name)
    }

    /// Builds the context as `test`, with further arguments; it must succeed.
    #[track_caller]
    pub(crate) fn build(&self, arguments: &[&str]) -> Image {
        let outcome = self.rbuild(&build_line(&["-t", NAME], arguments));
        let log = outcome.succeeded().stderr.clone();
        Image::new(self.clone(), arguments, log)
    }

    /// Builds the context and expects it to fail: exit code 1, and every one of `texts` on standard error.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str], texts: &[&str]) -> String {
        let outcome = self.rbuild(&build_line(&["-t", NAME], arguments));
        assert_eq!(outcome.code, Some(1), "{outcome}");
        for text in texts {
            assert!(outcome.stderr.contains(text), "no {text:?} in\n{outcome}");
        }
        outcome.stderr
    }

    /// Runs `rbuild` with these arguments, in the context's folder.
    pub(crate) fn rbuild(&self, arguments: &[impl AsRef<OsStr>]) -> Outcome {
        self.rbuild_with(arguments, &[], None)
    }

    /// Runs `rbuild` with these arguments, variables and standard input.
    pub(crate) fn rbuild_with(
        &self,
        arguments: &[impl AsRef<OsStr>],
        variables: &[(&str, &str)],
        input: Option<&[u8]>,
    ) -> Outcome {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        finish(command, input)
    }

    /// A command that runs `rbuild` on this test's store; nothing of the caller's environment but PATH reaches it.
    pub(crate) fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["-k", "60", DEADLINE, need::RBUILD])
            .args(arguments)
            .current_dir(self.context());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &self.dir.0).env("RBUILD_ROOT", self.dir.0.join("store"));
        // No test asks anybody beyond this machine.
        command.env("RBUILD_REGISTRIES", need::RULES);
        if let Some(driver) = std::env::var_os("RBUILD_DRIVER") {
            command.env("RBUILD_DRIVER", driver);
        }
        command
    }

    /// The names in the store, as `images` prints them, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let listed = self.rbuild(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
        let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}

impl Folder {
    /// Ends what still runs on the test's store.
    fn end_containers(&self) {
        let Ok(entries) = std::fs::read_dir(self.0.join("store/containers")) else { return };
        let names = entries.flatten().map(|entry| entry.file_name());
        let ids: Vec<_> = names.filter(|name| name.len() == 64).collect();
        if !ids.is_empty() {
            let mut remove = Command::new(need::RBUILD);
            remove.args(["rm", "-f", "-v"]).args(ids).env("RBUILD_ROOT", self.0.join("store"));
            let _ = remove.output();
        }
    }
}

impl Drop for Folder {
    #[expect(
        clippy::print_stderr,
        reason = "a test's own words, which libtest shows with its failure"
    )]
    fn drop(&mut self) {
        self.end_containers();
        if std::thread::panicking() || std::env::var_os("RBUILD_TEST_KEEP").is_some() {
            eprintln!("the test's folder is kept: {}", self.0.display());
        } else if let Err(error) = fs_err::remove_dir_all(&self.0) {
            eprintln!("the test's folder stays: {error}");
        }
    }
}

/// Builds a literal and compares what its steps wrote into `/out`.
#[track_caller]
pub(crate) fn check(literal: &str, out: &str) {
    assert_eq!(Test::of(literal).build(&[]).read("out"), unindent(out));
}

/// Builds a literal and compares the whole file system that comes out, one line a file.
#[track_caller]
pub(crate) fn check_tree(literal: &str, tree: &str) {
    assert_eq!(Test::of(literal).build(&[]).tree(), unindent(tree));
}

/// `rbuild build`'s arguments: plain progress, the test's own, the context.
pub(crate) fn build_line<'a>(first: &[&'a str], arguments: &[&'a str]) -> Vec<&'a str> {
    let mut line = vec!["build", "--progress", "plain"];
    line.extend(first);
    line.extend(arguments);
    // A test that names its own context ends with it.
    if !arguments.last().is_some_and(|last| names_context(last)) {
        line.push(".");
    }
    line
}

fn names_context(argument: &str) -> bool {
    argument == "-"
        || argument.starts_with("./")
        || argument.starts_with("http://")
        || argument.contains(".git#")
}

/// Runs a command to its end, with `input` on its standard input.
pub(crate) fn finish(mut command: Command, input: Option<&[u8]>) -> Outcome {
    let text = format!("{command:?}");
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("start {text}: {error}"));
    let pipe = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            if let (Some(mut pipe), Some(input)) = (pipe, input) {
                // A command that ends early is judged by its exit code.
                let _ = pipe.write_all(input);
            }
        });
        child.wait_with_output().expect("a started command can be waited for")
    });
    Outcome {
        command: text,
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Outcome {
    /// Standard output of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(&self) -> String {
        String::from_utf8_lossy(&self.succeeded().stdout).into_owned()
    }

    /// The outcome itself, which must be a success.
    #[track_caller]
    pub(crate) fn succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// Standard error of a command that must have ended with `code`.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self}");
        &self.stderr
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        let stdout = String::from_utf8_lossy(stdout);
        write!(
            f,
            "{command}\nexit code {code:?}\n--- standard output\n{stdout}\n--- standard error\n{stderr}"
        )
    }
}
