//! `rcompose watch` and `up --watch`: containers follow the files of their sources.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::containers::soon;
use crate::support::project::Project;

const IDLE: &str = "init: true, command: [sleep, '600'], stop_grace_period: 1s";

/// A project of a service `web` that idles and has these triggers.
fn watched(more: &str, triggers: &str) -> Project {
    let project = Project::of(&format!(
        "services:\n  web: {{image: busybox, {IDLE}, {more} develop: {{watch: [{triggers}]}}}}\n"
    ));
    project.test.file("src/old", "old\n").file("src/sub/f", "f\n");
    project
}

/// `rcompose` under way, and what it has printed so far.
struct Watch {
    child: Child,
    seen: Arc<Mutex<String>>,
}

impl Watch {
    #[track_caller]
    fn start(project: &Project, arguments: &[&str]) -> Watch {
        let mut command = project.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for mut stream in streams {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    *seen.lock().unwrap() += &String::from_utf8_lossy(&buffer[..read]);
                }
            });
        }
        let watch = Watch { child, seen };
        watch.says("Watch enabled\n");
        watch
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    #[track_caller]
    fn says(&self, text: &str) {
        soon(&format!("{text:?} in {}", self.seen()), || self.seen().contains(text));
    }

    /// Presses Ctrl-C.
    #[track_caller]
    fn interrupt(mut self) -> String {
        let group = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        // The one that watches over the time passes it on.
        rustix::process::kill_process(group, rustix::process::Signal::INT).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(130), "{}", self.seen());
        self.seen()
    }
}

/// What a script prints in the first container of `web`.
fn shell(project: &Project, script: &str) -> String {
    let outcome = project.compose(&["exec", "-T", "web", "sh", "-c", script]);
    String::from_utf8_lossy(&outcome.stdout).into_owned()
}

#[track_caller]
fn soon_prints(project: &Project, script: &str, expected: &str) {
    let mut last = String::new();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while std::time::Instant::now() < deadline {
        last = shell(project, script);
        if last == expected {
            return;
        }
    }
    assert_eq!(last, expected, "{script}");
}

#[test]
fn changed_files_are_copied_and_removed_ones_removed() {
    let project = watched("scale: 2,", "{path: ./src, action: sync, target: /app, ignore: [no/]}");
    let watch = Watch::start(&project, &["watch"]);
    assert_eq!(project.containers(), ["web-1", "web-2"]);
    assert_eq!(shell(&project, "ls /app 2>/dev/null"), "", "nothing is copied at the beginning");
    // Links of the container are followed.
    shell(&project, "mkdir -p /opt/real && ln -s /opt/real /app");
    let twice = project.compose(&["watch", "--no-up"]);
    assert!(twice.failed(1).contains("cannot take exclusive lock for project"), "{twice}");

    project.test.shell(
        "umask 022; mkdir -p src/new/deep src/no; echo a > src/new/deep/a; chmod 751 src/new/deep/a
         chown 7:8 src/new/deep/a; echo n > src/no/n; ln -s deep/a src/new/link",
    );
    soon_prints(&project, "cat /app/new/link", "a\n");
    let listed = shell(&project, "cd /app && find . | sort && stat -c '%a %u:%g' new/deep/a");
    assert_eq!(listed, ".\n./new\n./new/deep\n./new/deep/a\n./new/link\n751 7:8\n");
    watch.says("Syncing service \"web\" after 4 changes were detected\n");
    let second = format!("{}-web-2", project.name);
    assert_eq!(project.test.rbuild(&["exec", &second, "cat", "/app/new/deep/a"]).ok(), "a\n");

    // As editors save: what is new takes the old one's place.
    project.test.shell("echo b > src/new/deep/.a.tmp && mv src/new/deep/.a.tmp src/new/deep/a");
    soon_prints(&project, "cat /app/new/deep/a; ls -A /app/new/deep", "b\na\n");

    project.test.shell("rm src/new/deep/a");
    soon_prints(&project, "ls -A /app/new/deep", "");
    // What was a directory is a file, and the other way round.
    project.test.shell(
        "rm -r src/new && echo file > src/new; rm src/old; mkdir src/old; echo x > src/old/x",
    );
    soon_prints(&project, "cat /app/new /app/old/x", "file\nx\n");
    project.test.shell("rm -r src/old src/new");
    soon_prints(&project, "ls -A /app", "");

    project.test.shell("mkdir src/many; cd src/many; for i in $(seq 3000); do echo $i > $i; done");
    soon_prints(&project, "ls /app/many | wc -l; cat /app/many/3000", "3000\n3000\n");
    project.test.shell("mv src/many elsewhere");
    soon_prints(&project, "ls -A /app", "");

    assert_eq!(shell(&project, "readlink /app"), "/opt/real\n");
    let seen = watch.interrupt();
    assert!(!seen.contains("Error"), "{seen}");
    assert_eq!(project.shown("web", "{{.State.Status}}"), "running", "watch stops nothing");
}

#[test]
fn included_files_of_a_user_are_there_from_the_beginning() {
    let trigger = "{path: ./src, action: sync, target: /home/app, include: ['*.txt', sub], \
                   initial_sync: true}, {path: ./bound, action: sync, target: /b}";
    let project = watched("user: '1000:1001', volumes: ['./bound:/b'],", trigger);
    project.test.file("src/a.txt", "a").file("bound/f", "f");
    let watch = Watch::start(&project, &["watch"]);
    watch.says("also declared by a bind mount volume, this path won't be monitored!");
    let script = "cd /home/app && find . -type f | sort && stat -c %u:%g a.txt";
    soon_prints(&project, script, "./a.txt\n./sub/f\n1000:1001\n");
    project.test.file("src/b.txt", "b").file("src/c.md", "c").file("src/sub/x/y", "y");
    soon_prints(&project, script, "./a.txt\n./b.txt\n./sub/f\n./sub/x/y\n1000:1001\n");
    watch.interrupt();
}

#[test]
fn containers_are_restarted_or_told() {
    let project = watched(
        "",
        "{path: ./r, action: restart}, {path: ./s, action: sync+restart, target: /s}, \
         {path: ./e, action: sync+exec, target: /e, exec: {command: [sh, -c, 'echo run >> /told; echo said']}}",
    );
    let watch = Watch::start(&project, &["watch"]);
    let id = project.id("web");
    let mut started = project.shown("web", "{{.State.StartedAt}}");
    for (file, place) in [("r", "/r"), ("s", "/s")] {
        project.test.file(file, "1\n");
        soon("it is restarted", || {
            let now = project.shown("web", "{{.State.Running}} {{.State.StartedAt}}");
            now.starts_with("true") && now != format!("true {started}")
        });
        started = project.shown("web", "{{.State.StartedAt}}");
        let there = shell(&project, &format!("cat {place} 2>/dev/null"));
        assert_eq!(there, if file == "s" { "1\n" } else { "" });
    }
    watch.says("service(s) [\"web\"] restarted\n");
    project.test.file("e/1", "1").file("e/2", "2");
    soon_prints(&project, "cat /told /e/1 /e/2", "run\n12");
    watch.says("said\n");
    assert_eq!(project.id("web"), id, "it is the same container");
    assert_eq!(project.shown("web", "{{.State.StartedAt}}"), started);
    watch.interrupt();
}

#[test]
fn images_are_built_anew_and_what_they_replace_goes() {
    let project = watched("", "");
    project.rewrite(&format!(
        "services:
  web:
    {{build: {{context: ., dockerfile_inline: \"FROM busybox\\nCOPY src /src\\n\"}}, {IDLE}, depends_on: [db],
     develop: {{watch: [{{path: ./src, action: rebuild}}]}}}}
  db: {{image: busybox, {IDLE}}}
"
    ));
    project.test.file(".dockerignore", "src/log\n");
    let watch = Watch::start(&project, &["watch"]);
    let (id, db) = (project.id("web"), project.id("db"));
    let image = project.shown("web", "{{.Image}}");
    project.test.file("src/log", "of no interest");
    project.test.file("src/old", "new\n");
    watch.says("Rebuilding service(s) [\"web\"] after changes were detected...\n");
    watch.says("service(s) [\"web\"] successfully built\n");
    soon_prints(&project, "cat /src/old; ls /src", "new\nold\nsub\n");
    assert_ne!(project.id("web"), id);
    assert_eq!(project.id("db"), db, "what it depends on is left alone");
    soon("the old image is removed", || {
        project.test.rbuild(&["image", "inspect", &image]).code != Some(0)
    });

    let id = project.id("web");
    project.test.shell("rm -r src");
    watch.says("Build failed. Error: ");
    assert_eq!(project.id("web"), id, "a build that fails changes nothing");
    project.test.file("src/old", "again\n");
    soon_prints(&project, "cat /src/old", "again\n");
    watch.interrupt();
}

#[test]
fn up_watches_beside_what_containers_print() {
    let project = Project::of(
        "services:
  web:
    image: busybox
    command: sh -c 'trap \"exit 0\" TERM; echo ready; cat /app/f; sleep 600 & wait'
    develop: {watch: [{path: ./src, action: sync+restart, target: /app}]}
",
    );
    project.test.file("src/f", "one\n");
    let watch = Watch::start(&project, &["up", "--watch"]);
    watch.says("web-1  | ready\n");
    project.test.file("src/f", "two\n");
    watch.says("web-1  | two\n");
    watch.says("  ⦿ service(s) [\"web\"] restarted\n");
    let seen = watch.interrupt();
    assert_eq!(seen.matches("| ready").count(), 2, "{seen}");
    assert_eq!(project.shown("web", "{{.State.Status}}"), "exited", "up stops what it has started");
}

#[test]
fn what_cannot_be_watched_is_told() {
    let refused = |arguments: &[&str], project: &Project, text: &str| {
        let outcome = project.compose(arguments);
        assert!(outcome.failed(1).contains(text), "{outcome}");
        assert_eq!(project.containers(), [""; 0], "nothing was started");
    };
    let plain = Project::of(&format!("services:\n  web: {{image: busybox, {IDLE}}}\n"));
    refused(&["watch"], &plain, "none of the selected services is configured for watch, consider");
    refused(&["up", "-w"], &plain, "none of the selected services is configured for watch, see");
    let rebuilt = watched("", "{path: ./src, action: rebuild}");
    let text = "can't watch service \"web\" with action rebuild without a build context";
    refused(&["watch"], &rebuilt, text);
    refused(&["up", "-w", "--no-build"], &rebuilt, "--no-build and --watch are incompatible");
    refused(&["up", "-d", "-w"], &rebuilt, "--detach cannot be combined with --watch");
}
