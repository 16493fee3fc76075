//! What helps to understand a build: the graph, a shell in a step, what a step changed; and what
//! happens when a build cannot go on.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Server, Test, need, unindent};

const STEPS: &str = "
    FROM busybox AS one
    RUN echo first > /first
    FROM busybox
    WORKDIR /work
    COPY --from=one /first .
    RUN echo second > second && rm /etc/group && exit 3
    ";

#[test]
fn a_shell_opens_in_any_step_and_in_the_one_that_failed() {
    let test = Test::of(STEPS);
    let said = test.refused(&[], &["exit code: 3", "rbuild shell --step 4 --stage stage-1"]);
    assert!(said.contains(">>> RUN echo second"), "{said}");
    let shell = |arguments: &[&str]| {
        test.rbuild(&[&["shell"], arguments, &["sh", "-c", "pwd; ls; ls /etc/group"]].concat())
    };
    let failed = shell(&[]);
    assert!(failed.code != Some(0), "/etc/group is gone: {failed}");
    assert_eq!(String::from_utf8_lossy(&failed.stdout), "/work\nfirst\nsecond\n");
    let before = shell(&["--before"]);
    assert_eq!(before.ok(), "/work\nfirst\n/etc/group\n");
    let other = test.rbuild(&["shell", "--stage", "one", "--step", "2", "cat", "/first"]);
    assert_eq!(other.ok(), "first\n");
    let unknown = test.rbuild(&["shell", "--step", "9"]);
    assert!(unknown.stderr.contains("no step 9 in stage stage-1"), "{unknown}");
}

#[test]
fn what_a_step_changed_is_told_in_dockers_letters() {
    let test = Test::of(STEPS);
    test.refused(&[], &[]);
    let diff = |arguments: &[&str]| test.rbuild(&[&["diff"], arguments].concat()).ok();
    assert_eq!(diff(&[]), "C /etc\nD /etc/group\nC /work\nA /work/second\n");
    assert_eq!(diff(&["--step", "3"]), "C /work\nA /work/first\n");
    assert_eq!(diff(&["--stage", "one", "--step", "2"]), "A /first\n");
}

#[test]
fn the_graph_is_printed_and_nothing_runs() {
    let test = Test::of("FROM busybox AS unused\nRUN false\nFROM busybox\nRUN exit 7\n");
    let dot = test.rbuild(&["build", "--print=dot", "."]).ok();
    assert!(dot.starts_with("digraph") && dot.contains("RUN exit 7"), "{dot}");
    assert!(!dot.contains("RUN false"), "{dot}");
    let json = test.rbuild(&["build", "--print=json", "."]).ok();
    let graph: serde_json::Value = serde_json::from_str(&json).unwrap();
    let target = graph["target"].as_u64().unwrap() as usize;
    assert_eq!(graph["vertices"][target]["op"]["kind"], "run");
}

#[test]
fn one_job_runs_one_step_after_the_other() {
    let stages = |count: usize| {
        let stage = |i| format!("FROM busybox AS s{i}\nRUN sleep 0.4 && echo {i} > /o\n");
        let all: String = (0..count).map(stage).collect();
        let copies: String = (0..count).map(|i| format!("COPY --from=s{i} /o /o{i}\n")).collect();
        format!("{all}FROM busybox\n{copies}")
    };
    let test = Test::of(&stages(3));
    let time = |arguments: &[&str]| {
        let begun = Instant::now();
        test.build(&[&["--no-cache"], arguments].concat());
        begun.elapsed()
    };
    time(&[]);
    let (together, apart) = (time(&[]), time(&["--jobs", "1"]));
    assert!(apart >= Duration::from_millis(1200), "{apart:?}");
    assert!(together < apart, "{together:?} {apart:?}");
}

#[test]
fn an_interrupted_build_ends_at_once_and_leaves_nothing() {
    let test = Test::of("FROM busybox\nRUN echo begun && sleep 4242 & sleep 4242\n");
    let log = test.outside("log");
    let mut build = std::process::Command::new(need::RBUILD);
    build.args(["build", "--progress", "plain", "--memory", "64m", "."]);
    build.current_dir(test.context()).env("RBUILD_ROOT", test.outside("store"));
    build.stderr(fs_err::File::create(&log).unwrap().into_parts().0).stdin(Stdio::null());
    let mut running = build.spawn().expect("start the build");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !fs_err::read_to_string(&log).unwrap().contains(" begun\n") {
        assert!(Instant::now() < deadline, "the step does not begin");
        std::thread::yield_now();
    }
    let asked = Instant::now();
    test.shell(&format!("kill -INT {}", running.id()));
    let status = running.wait().expect("wait for the build");
    assert_eq!(status.code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(test.shell("pgrep -f '^sleep 4242$' || :"), "", "a process is left");
    let id = running.id();
    assert_eq!(test.shell(&format!("find /sys/fs/cgroup -name '*.{id}-*' -type d")), "");
    assert_eq!(test.shell("grep -c rbuild-test /proc/self/mountinfo || :"), "0\n");
}

#[test]
fn a_full_disk_fails_the_step_and_leaves_the_store_whole() {
    let test = Test::empty();
    test.write("FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=64\n");
    let folder = test.outside("small");
    fs_err::create_dir(&folder).unwrap();
    let script = format!(
        r#"
        mount -t tmpfs -o size=24m none {folder}
        export RBUILD_ROOT={folder}/store
        {bases} import busybox > /dev/null
        if "$RBUILD" build --progress plain . 2> {folder}.log; then exit 1; fi
        grep -q "No space left on device" {folder}.log
        printf 'FROM busybox\nRUN echo fine > /fine\n' > Dockerfile
        "$RBUILD" build -q -t fine . > /dev/null
        "$RBUILD" run --rm --network none fine cat /fine
        "#,
        folder = folder.display(),
        bases = need::BASES,
    );
    let mut shell = std::process::Command::new("unshare");
    shell.args(["--mount", "sh", "-euc", &script]).current_dir(test.context());
    let output = shell.env("RBUILD", need::RBUILD).output().expect("start a shell");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "fine\n", "{stderr}");
}

/// Runs a script with a tmpfs as the store: `$SMALL` is its folder, `$RBUILD_ROOT` the store in it.
fn on_small_disk(test: &Test, size: &str, script: &str) -> String {
    let folder = test.outside("small");
    fs_err::create_dir(&folder).unwrap();
    let script = format!(
        r#"
        SMALL={folder}
        mount -t tmpfs -o size={size} none $SMALL
        export RBUILD_ROOT=$SMALL/store
        {bases} import busybox > /dev/null
        fill() {{ dd if=/dev/zero of=$SMALL/filler bs=4k 2> /dev/null || true; }}
        full() {{ ! sh -c 'echo x > $0/probe' $SMALL 2> /dev/null; }}
        {script}"#,
        folder = folder.display(),
        bases = need::BASES,
    );
    test.unshared(&script)
}

#[test]
fn a_full_disk_keeps_nobody_from_looking_and_pruning() {
    let test = Test::empty();
    test.write("FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=4\nRUN echo > /x\n");
    let said = on_small_disk(
        &test,
        "24m",
        r#"
        "$RBUILD" build -q -t app . > /dev/null
        "$RBUILD" image prune -f > /dev/null
        fill; full
        "$RBUILD" images --format '{{.Repository}}' | sort
        "$RBUILD" history -q app > $SMALL.log; wc -l < $SMALL.log
        "$RBUILD" system df --format '{{.Type}} {{.TotalCount}}' | grep -v Cache
        "$RBUILD" image inspect app > /dev/null
        "$RBUILD" tag app again 2> $SMALL.log && exit 1
        grep -q 'No space left on device' $SMALL.log
        # Steps need the layers of both images: nothing else makes room for the new list.
        "$RBUILD" rmi app | head -n 1
        fill; full
        "$RBUILD" image prune -af | grep -c '^untagged'
        fill; full
        "$RBUILD" images -q | wc -l
        "$RBUILD" system prune -af | grep -c '^Total reclaimed space: [1-9]'
        "$RBUILD" system df --format '{{.Type}} {{.TotalCount}} {{.Size}}'
        rm $SMALL/filler
        {bases} import busybox > /dev/null
        "$RBUILD" build -q -t app . > /dev/null
        "$RBUILD" run --rm --network none app stat -c %s /big
        find $RBUILD_ROOT/tmp -mindepth 1
        "#
        .replace("{bases}", need::BASES)
        .as_str(),
    );
    let expected = "
        app
        busybox
        3
        Images 2
        Containers 0
        Local Volumes 0
        Untagged: app:latest
        1
        0
        1
        Images 0 0B
        Containers 0 0B
        Local Volumes 0 0B
        Build Cache 0 0B
        4194304
        ";
    assert_eq!(said, unindent(expected));
}

#[test]
fn a_check_of_a_store_on_a_full_disk_takes_nothing_for_a_fault() {
    let test = Test::empty();
    test.write("FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=4\n");
    let said = on_small_disk(
        &test,
        "24m",
        r#"
        export RBUILD_DRIVER=dir
        "$RBUILD" build -q -t app . > /dev/null
        "$RBUILD" run --rm --network none app true
        forms() { find $RBUILD_ROOT/layers -maxdepth 2 | sort; }
        forms > $SMALL.before
        fill; full
        "$RBUILD" system check --repair 2> $SMALL.log && exit 1
        grep -o 'not everything could be checked' $SMALL.log
        forms | diff - $SMALL.before
        rm $SMALL/filler
        "$RBUILD" system check | grep -o 'no faults'
        "#,
    );
    let expected = "
        not everything could be checked
        no faults
        ";
    let said: Vec<_> = said.lines().filter(|line| !line.starts_with("checked ")).collect();
    assert_eq!(said.join("\n") + "\n", unindent(expected));
}

/// A build in a process group of its own, as a shell starts it; its standard error goes to a file.
struct Foreground {
    child: std::process::Child,
    log: std::path::PathBuf,
}

impl Foreground {
    fn start(test: &Test) -> Self {
        let log = test.outside("log");
        let mut build = std::process::Command::new(need::RBUILD);
        build.args(["build", "--progress", "plain", "-t", "test", "."]).stdin(Stdio::null());
        build.current_dir(test.context()).env("RBUILD_ROOT", test.outside("store"));
        build.stderr(fs_err::File::create(&log).unwrap().into_parts().0);
        std::os::unix::process::CommandExt::process_group(&mut build, 0);
        Self { child: build.spawn().expect("start the build"), log }
    }

    fn log(&self) -> String {
        fs_err::read_to_string(&self.log).expect("read the log")
    }

    fn wait_until(&self, happened: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !happened() {
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What Ctrl-C does: the signal goes to the whole group.
    fn interrupt(mut self, test: &Test) {
        let asked = Instant::now();
        test.shell(&format!("kill -INT -{}", self.child.id()));
        let status = self.child.wait().expect("wait for the build");
        assert_eq!(status.code(), Some(130), "{}", self.log());
        // Gigabytes on their way to a busy disk are given up first.
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    }
}

#[test]
fn an_interrupted_download_or_copy_leaves_nothing_and_the_next_build_works() {
    let test = Test::of("FROM busybox\nADD {url} /file\nRUN cat /file > /out\n-- file\nwhole\n");
    let records = || test.shell("ls \"$RBUILD_ROOT\"/cache/records");
    let left = || test.shell("find \"$RBUILD_ROOT\"/tmp -mindepth 1");
    let none = records();
    for slow in [Slow::Dribbles, Slow::Stalls] {
        let (url, asked) = slow.serve();
        test.file("Dockerfile", format!("FROM busybox\nADD {url} /file\nRUN cat /file > /out\n"));
        let build = Foreground::start(&test);
        asked.recv_timeout(Duration::from_secs(30)).expect("the file is asked for");
        build.interrupt(&test);
        assert_eq!((left(), records()), (String::new(), none.clone()), "{slow:?}");
    }
    let server = Server::of(&test.context());
    let dockerfile = |url: &str| format!("FROM busybox\nADD {url} /file\nRUN cat /file > /out\n");
    test.file("Dockerfile", dockerfile(&server.url("file")));
    assert_eq!(test.build(&[]).read("out"), "whole\n");

    test.file("Dockerfile", "FROM busybox\nADD big.tar /\nRUN cat /big > /out\n");
    // An archive is written twice and read at once: there is much to be left.
    test.shell("truncate -s 16G big; tar -cf big.tar --sparse big");
    let none = records();
    let build = Foreground::start(&test);
    build.wait_until(|| left().contains("/spool"));
    build.interrupt(&test);
    assert_eq!((left(), records()), (String::new(), none.clone()));
    test.file("Dockerfile", "FROM busybox\nCOPY big /big\nRUN cat /big > /out\n");
    let build = Foreground::start(&test);
    build.wait_until(|| build.log().contains("] COPY big /big"));
    build.interrupt(&test);
    assert_eq!((left(), records()), (String::new(), none));
    test.shell("echo small > big");
    assert_eq!(test.build(&[]).read("out"), "small\n");
}

/// A server that never comes to the end of a file.
#[derive(Clone, Copy, Debug)]
enum Slow {
    /// It sends a byte now and then.
    Dribbles,
    /// It sends nothing more.
    Stalls,
}

impl Slow {
    /// Serves one request; tells when the beginning of the file is under way.
    fn serve(self) -> (String, std::sync::mpsc::Receiver<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/file", listener.local_addr().expect("it is bound"));
        let (sender, asked) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("a request");
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegin";
            let mut sent = std::io::Write::write_all(&mut peer, head);
            let _ = sender.send(());
            while sent.is_ok() {
                std::thread::sleep(Duration::from_millis(20));
                match self {
                    Self::Dribbles => sent = std::io::Write::write_all(&mut peer, b"."),
                    Self::Stalls => {}
                }
            }
        });
        (url, asked)
    }
}
