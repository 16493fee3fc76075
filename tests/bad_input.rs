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
fn what_flags_do_not_take_ends_as_in_docker() {
    let test = Test::of("FROM scratch\n");
    for (flag, code, text) in [
        ("--ulimit=foo=1", 125, "invalid ulimit type: foo"),
        ("--shm-size=x", 125, "invalid size: 'x'"),
        ("--progress=foo", 1, "invalid progress mode foo"),
    ] {
        let outcome = test.rbuild(&["build", flag, "."]);
        assert!(outcome.failed(code).contains(text), "{outcome}");
    }
}

#[test]
fn an_error_shows_no_control_characters_and_no_endless_lines() {
    let test = Test::empty();
    test.import("busybox");
    let long = "a".repeat(3000);
    let shown = |dockerfile: String| {
        let errors = test.file("Dockerfile", dockerfile).refused(&[], &["\\u{1b}[31m"]);
        assert!(!errors.contains('\x1b'), "{errors}");
        let (_, after) = errors.rsplit_once("Dockerfile:").unwrap();
        let longest = after.lines().map(|line| line.chars().count()).max();
        assert!(longest < Some(400), "{errors}");
        errors
    };
    let failed = shown(format!("FROM busybox\nRUN false '\x1b[31m' {long}\n"));
    assert!(failed.contains("…\" did not complete successfully: exit code: 1"), "{failed}");
    let unknown = shown(format!("FROM busybox\nNO\x1b[31mPE {long}\n"));
    assert!(unknown.contains("\n  | ^^^^^^^^^^^^^^\n"), "{unknown}");
    shown(format!("FROM busybox\nCOPY '\x1b[31m' {long} /\n"));
    shown("FROM busybox\nCOPY --from=\x1b[31m a /\n".to_owned());
}

#[test]
fn what_keeps_a_build_from_its_files_is_named() {
    let test = Test::of("FROM scratch\nCOPY . /\n-- .dockerignore\na[\n");
    let ignore = test.context().canonicalize().unwrap().join(".dockerignore");
    let named = format!("{} cannot be used: syntax error in pattern", ignore.display());
    test.refused(&[], &[&named]);
    let removed = test.outside("removed");
    let script =
        format!("mkdir {0}; cd {0}; rmdir {0}; $RBUILD build . 2>&1 || true", removed.display());
    let said = test.shell(&script);
    let text = format!("the current directory {} was removed", removed.display());
    assert!(said.contains(&text), "{said}");
    let said = test.unshared(
        "mount --bind ../store ../store; mount -o remount,ro,bind ../store; \
         $RBUILD build . 2>&1 || true",
    );
    assert!(said.contains("read-only: make it writable"), "{said}");
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
fn deep_trees_are_copied_and_written_out_and_what_has_no_path_is_refused() {
    let test = Test::of(
        "
        FROM scratch AS all
        COPY deep /all
        FROM scratch
        COPY --from=all / /
        ",
    );
    test.shell("mkdir -p deep/$(yes d | head -n 1500 | tr '\\n' /); touch deep/file");
    let line = ["build", "-o", "type=local,dest=../out", "."];
    // Over nothing, and over what is there.
    for _ in 0..2 {
        test.rbuild(&line).succeeded();
    }
    assert_eq!(test.shell("find ../out/all -type d | wc -l"), "1501\n");

    let nest = "mkdir -p n/$p; if [ -d deep ]; then mv deep n/$p; fi; mv n deep";
    let make =
        format!("RUN p=$(yes d | head -n 1900 | tr '\\n' /); for i in 1 2 3; do {nest}; done");
    test.file("Dockerfile", format!("FROM busybox\n{make}\n"));
    test.refused(&[], &["cannot pack \"deep/d/d/", "too long"]);
    assert_eq!(test.shell("ls ../store/tmp"), "", "what is too deep is removed");
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

#[test]
fn a_pipe_that_nobody_writes_to_is_refused_and_one_of_a_shell_is_read() {
    let test = Test::of(
        "FROM busybox\nRUN --mount=type=secret,id=s,required=true cat /run/secrets/s > /out\n",
    );
    test.shell("mkfifo ../pipe; echo from-a-file > ../file");
    let secret = |place: &str| format!("id=s,src={place}");
    test.refused(&["--secret", &secret("../pipe")], &["../pipe is not a regular file"]);
    let image = test.build(&["--secret", &secret("../file")]);
    assert_eq!(image.read("out"), "from-a-file\n");
    // A secret is in no key.
    for place in ["/dev/stdin", "/dev/fd/3"] {
        let build = "$RBUILD build -q --no-cache -o type=tar,dest=../t --secret id=s,src=";
        let script = match place {
            "/dev/stdin" => format!("echo piped | {build}{place} ."),
            _ => format!("echo piped | {{ exec 3<&0; {build}{place} . < /dev/null; }}"),
        };
        test.shell(&script);
        assert_eq!(test.shell("tar -xOf ../t out"), "piped\n", "{place}");
    }
    test.shell("head -c 512001 /dev/zero > ../big");
    test.refused(&["--secret", &secret("../big")], &["../big is larger than 500 KiB"]);
    test.refused(&["--secret", &secret("/dev/zero")], &["/dev/zero is larger than 500 KiB"]);
    test.shell("mkfifo .dockerignore");
    test.refused(&[], &[".dockerignore is not a regular file"]);
    test.shell("mv .dockerignore Dockerfile");
    test.refused(&[], &["failed to read dockerfile", "Dockerfile is not a regular file"]);
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure_unless_its_reader_has_left() {
    let test = Test::of("FROM busybox\nRUN echo > /out\n");
    test.build(&[]);
    for line in [
        "build -q .",
        "images",
        "images -q",
        "history test",
        "system df",
        "image inspect test",
        "version",
        "--help",
        "build -o - .",
    ] {
        let failed = test.shell(&format!(
            "code=0; $RBUILD {line} 2> ../err > /dev/full || code=$?; echo $code; cat ../err"
        ));
        assert!(failed.starts_with("1\n"), "{line}: {failed}");
        assert!(failed.contains("No space left on device"), "{line}: {failed}");
        if line != "build -o - ." {
            assert!(
                failed.contains("cannot write to standard output: No space left on device"),
                "{line}: {failed}"
            );
            let quiet = test.shell(&format!(
                "{{ code=0; $RBUILD {line} 2> ../err || code=$?; echo $code > ../code; }} | :; cat ../code ../err"
            ));
            assert_eq!(quiet, "0\n", "{line}");
        }
    }
}

#[test]
fn a_compressed_archive_that_is_cut_is_refused_wherever_it_is_cut() {
    let test = Test::of("FROM scratch\nADD cut /\n-- made/file\n");
    test.shell("head -c 2000000 /dev/urandom > made/noise; tar -cf made.tar made; gzip -k made.tar; bzip2 -k made.tar; xz -k made.tar; zstd -q made.tar");
    for kind in ["gz", "bz2", "xz", "zst"] {
        let whole = fs_err::read(test.context().join(format!("made.tar.{kind}"))).unwrap();
        test.file("cut", &whole).build(&[]);
        for missing in [1, 4, 12] {
            test.file("cut", &whole[..whole.len() - missing]);
            test.refused(&[], &["ADD cut /: cannot ", " \"/cut\": "]);
        }
    }
    // What tapes put behind a gzip archive is no part of it.
    test.shell("{ cat made.tar.gz; head -c 700 /dev/zero; } > cut");
    assert!(test.build(&[]).tree().ends_with(" made/noise\n"));
}

#[test]
fn a_malformed_attribute_in_an_archive_fails_where_the_archive_is_added() {
    let test = Test::of("FROM scratch\nADD bad.tar /\n-- file\ntext\n");
    let valid = [&[0, 0, 0, 2][..], &[0; 16]].concat();
    for (value, valid) in [(&valid[..], true), (&valid[..17], false), (&[0], false)] {
        // The kernel would not set it, but it would one of a name as long.
        let file = test.context().join("file");
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&file, "user.yyy.capability", value, flags).unwrap();
        test.shell("tar --xattrs --xattrs-include='*' -cf bad.tar file");
        test.shell("LC_ALL=C sed -i s/user.yyy.cap/security.cap/ bad.tar");
        let built = test.rbuild(&["build", "-t", "test", "."]);
        let text = "the archive's entry \"file\" has an invalid extended attribute \"security.capability\"";
        assert_eq!(
            (built.code == Some(0), built.stderr.contains(text)),
            (valid, !valid),
            "{built}"
        );
    }
}

#[test]
fn an_empty_variable_is_none() {
    let test = Test::of("FROM busybox\nRUN echo > /out\n");
    let empty = [("RBUILD_DRIVER", ""), ("RBUILD_ROOT", "")];
    let root = test.outside("store");
    let line = ["--root", root.to_str().unwrap(), "build", "."];
    test.rbuild_with(&line, &empty, None).succeeded();
    let root = test.rbuild_with(&["info", "-f", "{{.DockerRootDir}}"], &empty, None).ok();
    assert_eq!(root, "/var/lib/rbuild\n");
    let wrong = test.rbuild_with(&["images"], &[("RBUILD_DRIVER", "moon")], None);
    assert!(wrong.failed(125).contains("there is no storage driver \"moon\""), "{wrong}");
}

#[test]
fn a_store_whose_path_is_no_text_is_refused() {
    let test = Test::of("FROM busybox\n");
    test.shell(
        "bad=$(printf '../\\351'); mkdir \"$bad\"; ln -s \"${bad#../}\" ../good
        for root in \"$bad/store\" ../good; do
          for verb in 'build .' images info; do
            if RBUILD_ROOT=$root $RBUILD $verb 2> ../log; then exit 1; fi
            grep 'ERROR: the store cannot be in .*, which is not UTF-8: use another directory' ../log
          done
        done
        ! ls \"$bad\"/* 2> ../log",
    );
}

#[test]
fn what_only_root_can_do_says_so_first() {
    let test = Test::of("FROM busybox\nCOPY Dockerfile /\n");
    test.file("run", "FROM scratch\nRUN true\n").file("label", "FROM busybox\nLABEL a=b\n");
    test.shell("chmod 755 ..; cp \"$RBUILD\" ../rbuild; mkdir -m 777 ../theirs");
    let theirs = |line: &str| {
        let rbuild = "setpriv --reuid 65534 --regid 65534 --clear-groups ../rbuild";
        let import = "$RBUILD_ROOT/layers/*/layer.tar busybox";
        test.shell(&format!(
            "{rbuild} --root ../theirs/store {} > ../log 2>&1 && echo 0 || echo $?; tail -n 1 ../log",
            line.replace("BUSYBOX", import)
        ))
    };
    assert!(test.shell("chmod -R a+rX ..").is_empty());
    assert!(theirs("import BUSYBOX").starts_with("0\n"));
    assert!(theirs("build -t x -f label .").starts_with("0\n"));
    for (line, code, what) in [
        ("build .", 1, "build file systems"),
        ("build -f run .", 1, "build file systems"),
        ("run --rm busybox true", 125, "run containers"),
        ("shell", 1, "run containers"),
    ] {
        let said = theirs(line);
        assert!(said.starts_with(&format!("{code}\n")), "{line}: {said}");
        let expected = format!("rbuild must run as root to {what}: no daemon does it");
        assert!(said.contains(&expected), "{line}: {said}");
    }
}

#[test]
fn a_low_limit_on_open_files_is_raised_for_us_and_kept_for_containers() {
    let steps: String = (0..60).map(|step| format!("RUN echo > /{step}\n")).collect();
    let test =
        Test::of(&format!("FROM busybox\n{steps}RUN ulimit -n > /out; ulimit -Hn >> /out\n"));
    let limits = |test: &Test, script: &str| {
        test.shell(&format!(
            "hard=$(ulimit -Hn); ulimit -Sn 64; {script} > ../out 2> ../log; sed s/$hard/hard/ ../out"
        ))
    };
    let build = "\"$RBUILD\" build -q -t test . > ../id && \"$RBUILD\" run --rm test cat /out";
    assert_eq!(limits(&test, build), "64\nhard\n");
    let run = "\"$RBUILD\" run --rm --network none";
    let tell = "test sh -c 'ulimit -n; ulimit -Hn'";
    assert_eq!(limits(&test, &format!("{run} {tell}")), "64\nhard\n");
    assert_eq!(limits(&test, &format!("{run} --ulimit nofile=77:99 {tell}")), "77\n99\n");
}

/// A verb is one whatever directories there are.
#[test]
fn a_directory_with_a_dockerfile_takes_no_verb_away() {
    let test = Test::of("FROM busybox\nRUN true\n");
    test.shell("for d in build run images system mine; do mkdir $d; cp Dockerfile $d; done");
    test.rbuild(&["build", "-q", "-f", "build/Dockerfile", "."]).succeeded();
    assert_eq!(test.rbuild(&["run", "--rm", "busybox", "echo", "ran"]).ok(), "ran\n");
    assert!(test.rbuild(&["images"]).ok().starts_with("REPOSITORY"));
    test.rbuild(&["system", "df"]).succeeded();
    test.rbuild(&["mine", "-t", "short"]).succeeded();
    assert!(test.names().contains(&"short:latest".to_owned()));
}

#[test]
fn a_full_disk_is_told_of_and_hides_no_failed_step() {
    let test = Test::of("FROM busybox\nRUN cat /dev/zero > /big; exit 3\n");
    let script = r#"
        mkdir ../full
        mount -t tmpfs -o size=1m none ../full
        tar=$(echo "$RBUILD_ROOT"/layers/*/layer.tar)
        export RBUILD_ROOT=../full/store
        if "$RBUILD" import "$tar" busybox 2> ../log; then exit 1; fi
        sed 's/`.*`/FILE/' ../log
        mount -o remount,size=12m ../full
        "$RBUILD" import "$tar" busybox > ../log
        if "$RBUILD" build --progress plain . 2> ../log; then exit 1; fi
        grep -c 'WARNING: cannot keep what is known of this build: the store.s disk is full' ../log
        tail -n 1 ../log
        "#;
    let said = test.unshared(script);
    assert_eq!(
        said,
        "ERROR: the store's disk is full: free some of it (rbuild system prune), or take another store (--root DIR): failed to write to file FILE: No space left on device (os error 28)\n1\n\
         ERROR: failed to build: failed to solve: process \"/bin/sh -c cat /dev/zero > /big; exit 3\" did not complete successfully: exit code: 3\n"
    );
}

#[test]
fn a_step_whose_result_does_not_get_into_the_store_fails_the_build() {
    let test = Test::of("FROM busybox\nRUN echo one > /one\nRUN cat /one > /two\n");
    let script = r#"
        trap 'chattr -i "$RBUILD_ROOT/layers"' EXIT
        chattr +i "$RBUILD_ROOT/layers"
        if "$RBUILD" build --network none -t some . 2> ../log; then exit 1; fi
        grep -c 'ERROR: failed to build: .*/layers/[0-9a-f]*`: Operation not permitted' ../log
        "$RBUILD" image ls -q some
        chattr -i "$RBUILD_ROOT/layers"
        "$RBUILD" build --network none -t some . 2> ../log
        grep -c CACHED ../log || true
        "$RBUILD" run --rm --network none some cat /two
        "#;
    assert_eq!(test.shell(script), "1\n0\none\n");
}

#[test]
fn many_steps_at_once_pack_their_files_within_a_low_limit() {
    let stages: String = (0..24)
        .map(|i| {
            let files = "for j in $(seq 300); do echo $j > /q/$j; done";
            format!("FROM busybox AS s{i}\nRUN mkdir /q; {files}; echo {i} > /out\n")
        })
        .collect();
    let copies: String = (0..24).map(|i| format!("COPY --from=s{i} /out /o{i}\n")).collect();
    let test = Test::of(&format!("{stages}FROM busybox\n{copies}"));
    let script = r#"
        ulimit -n 768
        "$RBUILD" build -q --network none --jobs 24 -t some . > ../log
        "$RBUILD" run --rm --network none some sh -c 'cat /o?' | tr '\n' ' '
        "#;
    assert_eq!(test.shell(script), "0 1 2 3 4 5 6 7 8 9 ");
}

#[test]
fn a_file_system_that_takes_no_changes_of_containers_is_named() {
    let test = Test::of("FROM busybox\nCOPY Dockerfile /\n");
    test.file("run", "FROM busybox\nRUN true\n");
    let script = r#"
        mkdir ../over ../over/lower ../over/top
        mount -t tmpfs none ../over/top
        mkdir ../over/top/upper ../over/top/work ../over/root
        mount -t overlay -o lowerdir=../over/lower,upperdir=../over/top/upper,workdir=../over/top/work none ../over/root
        tar=$(echo "$RBUILD_ROOT"/layers/*/layer.tar)
        unset RBUILD_DRIVER
        export RBUILD_ROOT=../over/root/store
        "$RBUILD" import "$tar" busybox > ../log
        "$RBUILD" build -q . > ../log
        for driver in "" dir; do
          for line in "build -f run ." "run --rm --network none busybox true"; do
            if RBUILD_DRIVER=$driver "$RBUILD" $line 2> ../log; then exit 1; fi
            tail -n 1 ../log | grep -o 'the store .* is on a file system (overlay) .* (--root DIR or RBUILD_ROOT)' | cut -d' ' -f 4-
          done
        done
        "#;
    let expected = "is on a file system (overlay) that cannot hold the changes of a container: put the store on another one, such as ext4, xfs, btrfs or tmpfs (--root DIR or RBUILD_ROOT)\n";
    assert_eq!(test.unshared(script), expected.repeat(4));
}

#[test]
fn who_waits_for_another_build_says_for_whom() {
    let test = Test::of("FROM busybox\nRUN echo begun; sleep 2; echo done > /out\n");
    let script = r#"
        until_said() { for i in $(seq 600); do ! grep -q "$1" "$2" || return 0; sleep 0.05; done; cat "$2" >&2; return 1; }
        build="build --progress plain --network none -o type=tar,dest=../tar"
        "$RBUILD" $build . > ../first 2>&1 < /dev/null & first=$!
        until_said 'begun$' ../first
        kill -STOP $first
        "$RBUILD" $build.2 . > ../second 2>&1 < /dev/null & second=$!
        until_said "waiting for process $first, which runs the same step and is stopped$" ../second || { kill -CONT $first; exit 1; }
        kill -CONT $first
        wait $first
        wait $second
        grep -c waiting ../second
        grep -c CACHED ../second
        tar -xOf ../tar.2 out
        "#;
    let said = test.shell(script);
    assert!(said.ends_with("1\ndone\n"), "{said}");
}
