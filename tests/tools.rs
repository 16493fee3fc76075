//! What helps to understand a build: the graph, a shell in a step, what a step changed; and what
//! happens when a build cannot go on.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Test, need};

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
