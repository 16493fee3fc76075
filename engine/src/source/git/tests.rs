use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// A directory of repositories, and the servers that offer them.
struct Site {
    directory: tempfile::TempDir,
    daemon: Child,
    port: u16,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Site {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let output = Command::new("git").arg("--exec-path").output().expect("git");
        let programs = String::from_utf8(output.stdout).expect("a path");
        // Not by `git daemon`, whose own process would be killed instead of the server's.
        let daemon = Command::new(Path::new(programs.trim()).join("git-daemon"))
            .args(["--export-all", "--listen=127.0.0.1", "--reuseaddr"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", directory.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("git-daemon");
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "git-daemon does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { directory, daemon, port }
    }

    fn repository(&self, name: &str) -> Work {
        let work = Work { directory: self.directory.path().join(name), commits: 0.into() };
        work.git(&["init", "--quiet", "--initial-branch=main", "."]);
        work
    }

    fn request(&self, name: &str) -> GitRequest {
        let remote = format!("git://127.0.0.1:{}/{name}", self.port);
        GitRequest { remote, submodules: true, ..GitRequest::default() }
    }

    /// Serves the directory as plain files over HTTP and returns the address.
    fn serve_files(&self) -> String {
        use std::io::{BufRead, BufReader, Write};
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let root = self.directory.path().to_owned();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
                let head: Vec<_> =
                    lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                // "x-access-token:tok"
                let token = "Authorization: basic eC1hY2Nlc3MtdG9rZW46dG9r";
                let allowed = head.iter().any(|line| line == token);
                let path = head[0].split([' ', '?']).nth(1).unwrap_or("/");
                let secret = path.starts_with("/secret");
                let file = std::fs::read(root.join(path.trim_start_matches('/')));
                let (status, body) = match file {
                    _ if secret && !allowed => ("401 Unauthorized", vec![]),
                    Ok(body) => ("200 OK", body),
                    Err(_) => ("404 Not Found", vec![]),
                };
                let size = body.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {size}\r\n");
                let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes());
                let _ = stream.write_all(&body);
            }
        });
        format!("http://{address}")
    }
}

/// A repository one works in.
struct Work {
    directory: PathBuf,
    commits: std::cell::Cell<u32>,
}

impl Work {
    fn git(&self, args: &[&str]) -> String {
        fs_err::create_dir_all(&self.directory).expect("made");
        let output = Command::new("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"])
            .args(args)
            .current_dir(&self.directory)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_COMMITTER_DATE", format!("{} +0000", 1_700_000_000 + self.commits.get()))
            .output()
            .expect("git");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.directory.join(name);
        fs_err::create_dir_all(path.parent().expect("below the top")).expect("made");
        fs_err::write(path, content).expect("written");
    }

    /// Commits everything and returns the commit.
    fn commit(&self, message: &str) -> String {
        self.commits.set(self.commits.get() + 1);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }
}

fn get(request: &GitRequest, cache_dir: &Path) -> Result<GitCheckout, Error> {
    checkout(request, &Access::none(), cache_dir)
}

fn read(directory: &Path, name: &str) -> String {
    fs_err::read_to_string(directory.join(name)).expect("a file")
}

/// Lists a tree as `mode path`, below `.git` nothing.
fn list(directory: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut lines = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs_err::read_dir(next).expect("a directory").flatten() {
            let metadata = entry.path().symlink_metadata().expect("there");
            let path = entry.path().strip_prefix(directory).expect("below").display().to_string();
            lines.push(format!("{:o} {path}", metadata.permissions().mode()));
            if metadata.is_dir() && path != ".git" {
                pending.push(entry.path());
            }
        }
    }
    lines.sort();
    lines
}

#[test]
fn every_way_to_name_a_revision_finds_it() {
    let site = Site::start();
    let cache = tempfile::tempdir().expect("a directory");
    let work = site.repository("r");
    work.write("f", "one");
    let one = work.commit("one");
    work.git(&["tag", "light"]);
    work.git(&["tag", "-a", "-m", "x", "noted"]);
    let noted = work.git(&["rev-parse", "noted"]);
    work.git(&["update-ref", "refs/pull/7/head", &one]);
    work.write("f", "two");
    let two = work.commit("two");
    work.git(&["branch", "topic/x"]);
    work.write("f", "three");
    let three = work.commit("three");

    let check = |reference: Option<&str>, full: &str, object: &str, content: &str| {
        let reference = reference.map(str::to_owned);
        let request = GitRequest { reference, ..site.request("r") };
        let revision = resolve(&request, &Access::none(), cache.path()).expect("resolved");
        assert_eq!((revision.reference.as_str(), revision.object.as_str()), (full, object));
        let tree =
            checkout_revision(&request, &revision, &Access::none(), cache.path()).expect("made");
        assert_eq!(read(&tree.directory, "f"), content);
        assert_eq!(tree.commit, work.git(&["rev-parse", &format!("{object}^{{commit}}")]));
        assert_eq!(list(&tree.directory), ["100644 f"]);
    };
    check(None, "refs/heads/main", &three, "three");
    check(Some("main"), "refs/heads/main", &three, "three");
    check(Some("topic/x"), "refs/heads/topic/x", &two, "two");
    check(Some("heads/main"), "refs/heads/main", &three, "three");
    check(Some("refs/heads/main"), "refs/heads/main", &three, "three");
    check(Some("light"), "refs/tags/light", &one, "one");
    check(Some("noted"), "refs/tags/noted", &noted, "one");
    check(Some("refs/tags/noted"), "refs/tags/noted", &noted, "one");
    check(Some("pull/7/head"), "refs/pull/7/head", &one, "one");
    check(Some(&one), &one, &one, "one");
    check(Some(&two[..9]), &two, &two, "two");
    check(Some(&noted), &noted, &noted, "one");
}

#[test]
fn a_repository_may_name_its_objects_by_sha256() {
    let site = Site::start();
    let cache = tempfile::tempdir().expect("a directory");
    let work = Work { directory: site.directory.path().join("r"), commits: 0.into() };
    work.git(&["init", "--quiet", "--object-format=sha256", "--initial-branch=main", "."]);
    work.write("f", "x");
    let commit = work.commit("one");
    for keep_git_dir in [false, true] {
        let request = GitRequest { keep_git_dir, ..site.request("r") };
        let tree = get(&request, cache.path()).expect("checked out");
        assert_eq!((read(&tree.directory, "f").as_str(), &tree.commit), ("x", &commit));
    }
}

#[test]
fn an_old_commit_comes_from_a_server_that_offers_only_refs() {
    let site = Site::start();
    let work = site.repository("r");
    work.write("f", "one");
    let one = work.commit("one");
    work.write("f", "two");
    work.commit("two");
    work.git(&["update-server-info"]);
    let remote = format!("{}/r/.git", site.serve_files());
    let cache = tempfile::tempdir().expect("a directory");
    let check = |reference: Option<&str>, content: &str| {
        let reference = reference.map(str::to_owned);
        let request = GitRequest { remote: remote.clone(), reference, ..GitRequest::default() };
        let tree = get(&request, cache.path()).expect("checked out");
        assert_eq!(read(&tree.directory, "f"), content);
    };
    check(Some(&one), "one");
    check(None, "two");
    check(Some("main"), "two");
}

#[test]
fn a_token_opens_a_private_repository_and_is_not_shown() {
    let site = Site::start();
    let work = site.repository("secret");
    work.write("f", "x");
    work.commit("one");
    work.git(&["update-server-info"]);
    let remote = format!("{}/secret/.git", site.serve_files());
    let cache = tempfile::tempdir().expect("a directory");
    let request = GitRequest { remote: remote.clone(), ..GitRequest::default() };
    let error = get(&request, cache.path()).expect_err("no token").to_string();
    assert!(error.starts_with(&format!("ask {remote}: ")), "{error}");

    let token = |id: &str| (id == "GIT_AUTH_TOKEN").then(|| b"tok\n".to_vec());
    let access = Access { secrets: &token, ..Access::none() };
    let tree = checkout(&request, &access, cache.path()).expect("checked out");
    assert_eq!(read(&tree.directory, "f"), "x");

    let closed = GitRequest { remote: "http://me:pw@127.0.0.1:1/x".into(), ..request };
    let error = get(&closed, cache.path()).expect_err("closed port").to_string();
    assert!(error.contains("xxxxx:xxxxx@127.0.0.1:1") && !error.contains("pw"), "{error}");
}

#[test]
fn a_branch_that_moves_is_followed_and_the_old_tree_stays() {
    let site = Site::start();
    let cache = tempfile::tempdir().expect("a directory");
    let work = site.repository("r");
    work.write("f", "one");
    work.commit("one");
    let request = site.request("r");
    let stale = resolve(&request, &Access::none(), cache.path()).expect("resolved");
    let before = get(&request, cache.path()).expect("checked out");
    assert_eq!(get(&request, cache.path()).expect("at hand"), before);
    work.write("f", "two");
    work.commit("two");
    let after = get(&request, cache.path()).expect("checked out");
    assert_eq!(read(&before.directory, "f"), "one");
    assert_eq!(read(&after.directory, "f"), "two");
    // What was resolved is what is checked out, though the branch moved in between.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let tree = checkout_revision(&request, &stale, &Access::none(), elsewhere.path())
        .expect("checked out");
    assert_eq!(read(&tree.directory, "f"), "one");
}

#[test]
fn modes_links_and_times_are_those_of_git() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let site = Site::start();
    let cache = tempfile::tempdir().expect("a directory");
    let work = site.repository("r");
    work.write("d/f", "x");
    work.write("run", "x");
    let mode = std::fs::Permissions::from_mode(0o777);
    fs_err::set_permissions(work.directory.join("run"), mode).expect("set");
    std::os::unix::fs::symlink("/etc/passwd", work.directory.join("link")).expect("linked");
    work.commit("one");
    let request = GitRequest { mtime: Mtime::Commit, ..site.request("r") };
    let tree = get(&request, cache.path()).expect("checked out").directory;
    assert_eq!(list(&tree), ["100644 d/f", "100755 run", "120777 link", "40755 d"]);
    for name in ["d/f", "run", "link", "d", "."] {
        let metadata = fs_err::symlink_metadata(tree.join(name)).expect("there");
        assert_eq!(metadata.mtime(), 1_700_000_001, "{name}");
    }
}

#[test]
fn a_directory_of_the_tree_can_be_asked_for() {
    let site = Site::start();
    let cache = tempfile::tempdir().expect("a directory");
    let work = site.repository("r");
    work.write("a/b/f", "x");
    std::os::unix::fs::symlink("/etc", work.directory.join("out")).expect("linked");
    work.commit("one");
    let of = |subdir: &str| {
        let subdir = Some(subdir.to_owned());
        get(&GitRequest { subdir, keep_git_dir: true, ..site.request("r") }, cache.path())
    };
    assert_eq!(list(&of("/a/b/").expect("there").directory), ["100644 f"]);
    assert_eq!(list(&of("../a").expect("there").directory), ["100644 b/f", "40755 b"]);
    let remote = site.request("r").remote;
    for (subdir, part) in [("none", "none"), ("a/b/f", "f"), ("out/ssh", "out")] {
        let error = of(subdir).expect_err("no directory").to_string();
        let expected =
            format!("invalid subdir {subdir} of {remote}: \"{part}\" is not a directory");
        assert_eq!(error, expected);
    }
}

#[test]
fn the_git_directory_is_kept_on_request() {
    let site = Site::start();
    let cache = tempfile::tempdir().expect("a directory");
    let work = site.repository("r");
    work.write("f", "x");
    let commit = work.commit("one");
    work.git(&["tag", "-a", "-m", "x", "v1"]);
    for (reference, name) in [(None, "heads/main"), (Some("v1"), "tags/v1"), (Some(&*commit), "")] {
        let reference = reference.map(str::to_owned);
        let request = GitRequest { reference, keep_git_dir: true, ..site.request("r") };
        let directory = get(&request, cache.path()).expect("checked out").directory;
        let kept = Work { directory, commits: 0.into() };
        assert_eq!(kept.git(&["rev-parse", "HEAD"]), commit);
        assert_eq!(kept.git(&["status", "--porcelain"]), "");
        assert_eq!(kept.git(&["config", "remote.origin.url"]), request.remote);
        assert!(kept.git(&["for-each-ref", "--format=%(refname)"]).ends_with(name));
    }
}

#[test]
fn submodules_come_along_unless_refused() {
    let site = Site::start();
    let cache = tempfile::tempdir().expect("a directory");
    let inner = site.repository("inner");
    inner.write("g", "inner");
    inner.commit("one");
    let work = site.repository("r");
    work.write("f", "x");
    work.git(&["submodule", "--quiet", "add", "../inner", "sub"]);
    work.commit("one");
    let with = |submodules, keep_git_dir| {
        let request = GitRequest { submodules, keep_git_dir, ..site.request("r") };
        list(&get(&request, cache.path()).expect("checked out").directory)
    };
    let outer = ["100644 .gitmodules", "100644 f", "40755 sub"];
    assert_eq!(with(false, false), outer);
    assert_eq!(with(true, false), [outer[0], outer[1], "100644 sub/g", outer[2]]);
    assert!(with(true, true).contains(&"40755 .git".to_owned()));

    // A submodule may not reach into this machine.
    let path = inner.directory.to_str().expect("text");
    work.git(&["config", "--file=.gitmodules", "submodule.sub.url", path]);
    work.commit("hostile");
    let error = get(&site.request("r"), cache.path()).expect_err("a local path").to_string();
    assert!(error.contains("transport 'file' not allowed"), "{error}");
}

#[test]
fn a_checksum_is_the_start_of_the_commit_or_tag() {
    let site = Site::start();
    let cache = tempfile::tempdir().expect("a directory");
    let work = site.repository("r");
    work.write("f", "x");
    let commit = work.commit("one");
    work.git(&["tag", "-a", "-m", "x", "v1"]);
    let tag = work.git(&["rev-parse", "v1"]);
    let with = |reference: &str, checksum: &str| {
        let (reference, checksum) = (Some(reference.to_owned()), Some(checksum.to_owned()));
        resolve(
            &GitRequest { reference, checksum, ..site.request("r") },
            &Access::none(),
            cache.path(),
        )
    };
    for (reference, checksum) in
        [("main", &commit[..7]), ("v1", &commit), ("v1", &tag[..12]), (&commit, &commit[..4])]
    {
        with(reference, checksum).expect("matches");
    }
    assert!(with("main", &commit.to_uppercase()).is_ok());
    let text = |reference, checksum| with(reference, checksum).expect_err("differs").to_string();
    let other = "0".repeat(40);
    assert_eq!(text("main", &other), format!("expected checksum to match {other}, got {commit}"));
    assert_eq!(text("v1", "00"), format!("expected checksum to match 00, got {tag} or {commit}"));
    assert_eq!(text("v1", "xyz"), "invalid checksum xyz for git URL, expected hex commit hash");

    let (reference, checksum) = (Some("main".to_owned()), Some(commit.clone()));
    let request = GitRequest { reference, checksum, fetch_by_commit: true, ..site.request("r") };
    assert_eq!(get(&request, cache.path()).expect("checked out").commit, commit);
}

#[test]
fn what_cannot_be_had_is_named() {
    let site = Site::start();
    let cache = tempfile::tempdir().expect("a directory");
    let work = site.repository("r");
    work.commit("one");
    assert_eq!(
        list(&get(&site.request("r"), cache.path()).expect("an empty tree").directory).len(),
        0
    );
    let text = |request: GitRequest| get(&request, cache.path()).expect_err("refused").to_string();
    let with = |name: &str| GitRequest { reference: Some(name.into()), ..site.request("r") };
    let remote = site.request("r").remote;
    let missing = |name| format!("repository {remote} does not contain ref {name}");
    assert_eq!(text(with("none")), missing("none"));
    assert_eq!(text(with("abcdef12")), missing("abcdef12"));
    assert_eq!(text(with("--upload-pack=x")), "invalid git ref \"--upload-pack=x\"");
    let other = "1".repeat(40);
    assert!(text(with(&other)).contains(&other), "{}", text(with(&other)));
    let error = text(site.request("none"));
    assert!(
        error.starts_with(&format!("ask git://127.0.0.1:{}/none: fatal:", site.port)),
        "{error}"
    );
    let path = work.directory.display().to_string();
    let error = text(GitRequest { remote: path, ..GitRequest::default() });
    assert!(error.contains("transport 'file' not allowed"), "{error}");
}

#[test]
fn many_at_once_do_not_disturb_each_other() {
    let site = Site::start();
    let cache = tempfile::tempdir().expect("a directory");
    let work = site.repository("r");
    work.write("f", "x");
    work.commit("one");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let tree = get(&site.request("r"), cache.path()).expect("checked out");
                assert_eq!(read(&tree.directory, "f"), "x");
            });
        }
    });
}
