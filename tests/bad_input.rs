//! Contexts, arguments and stores that no one means, and what is said about them.

use crate::support::{Test, need};

#[test]
fn a_context_or_dockerfile_that_is_not_there_is_named() {
    let test = Test::empty();
    test.refused(&[], &["failed to read dockerfile: open Dockerfile: no such file or directory"]);
    test.refused(&["./missing"], &["path \"./missing\" not found"]);
    test.file("file", "");
    test.refused(&["./file"], &["./file"]);
    test.shell("mkdir Dockerfile");
    test.refused(&[], &["Dockerfile"]);
}

#[test]
fn a_wrong_command_line_is_125_and_says_what_is_wrong() {
    let test = Test::empty();
    for (line, text) in [
        (["build", "--no-such-flag", "."].as_slice(), "--no-such-flag"),
        (&["no-such-verb"], "no-such-verb"),
        (&["build", "--build-arg"], "--build-arg"),
    ] {
        let outcome = test.rbuild(line);
        assert!(outcome.code.is_some_and(|code| code != 0), "{outcome}");
        assert!(outcome.stderr.contains(text), "{outcome}");
    }
}

#[test]
fn pipes_loops_and_odd_names_in_the_context_neither_hang_nor_fail() {
    let test = Test::of(
        "
        FROM scratch
        COPY . /all
        -- loop -> loop
        -- ping -> pong
        -- pong -> ping
        -- up -> ../../../..
        ",
    );
    let name = "n".repeat(255);
    test.file(&name, "long").file("new\nline", "line").file("\u{1f600} $HOME `id`", "smile");
    test.shell("mkfifo pipe; d=.; for i in $(seq 100); do d=$d/d$i; done; mkdir -p $d; echo deep > $d/file; printf x > \"$(printf 'latin\\351')\"");
    let tree = test.build(&[]).tree();
    assert!(tree.contains(&format!("all/{name}\n")) && tree.contains("d99/d100/file\n"), "{tree}");
    test.file("Dockerfile", "FROM scratch\nCOPY loop /\n");
    test.refused(&[], &["loop"]);
}

#[test]
fn a_dockerfile_of_noise_is_refused_quickly() {
    let test = Test::empty();
    for noise in
        [vec![0xff; 4096], vec![0; 4096], b"FROM scratch\nRUN \0\n".to_vec(), "\u{202e}FROM".into()]
    {
        let outcome = test.file("Dockerfile", &noise).rbuild(&["build", "."]);
        assert_eq!(outcome.code, Some(1), "{outcome}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
    }
    let nested = format!("FROM scratch\nENV A={}x{}\n", "${A:-".repeat(5000), "}".repeat(5000));
    let outcome = test.file("Dockerfile", nested).rbuild(&["build", "."]);
    assert!(outcome.code.is_some_and(|code| code < 2), "{outcome}");
}

#[test]
fn a_store_with_damaged_layers_is_no_panic() {
    let test = Test::of("FROM busybox\nRUN echo x > /x\n");
    test.build(&[]);
    test.shell("find ../store -type f -size +100k -exec truncate -s 1000 {} +");
    let outcome = test.rbuild(&["build", "--no-cache", "-o", "type=tar,dest=../out.tar", "."]);
    assert!(!outcome.stderr.contains("panicked"), "{outcome}");
}

#[test]
fn a_store_of_another_version_is_left_alone() {
    let test = Test::of("FROM scratch\nLABEL a=b\n");
    test.build(&[]);
    test.shell("echo 999 > ../store/version");
    test.refused(&[], &["999"]);
}

/// Every Dockerfile that the reference's parser refuses.
#[test]
fn what_the_reference_refuses_is_refused() {
    let Some(folder) = need::conformance("buildkit-parser") else {
        return;
    };
    let test = Test::empty();
    for case in fs_err::read_dir(folder.join("testfiles-negative")).unwrap() {
        let dockerfile = fs_err::read(case.unwrap().path().join("Dockerfile")).unwrap();
        test.file("Dockerfile", dockerfile).refused(&["--target", "0"], &[]);
    }
}
