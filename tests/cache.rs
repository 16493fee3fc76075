//! The build cache: what a second build takes from it, and what it must not.

use std::process::Stdio;

use crate::support::{Test, build_line, need};

const APP: &str = "
    FROM busybox
    COPY deps /deps
    RUN cat /deps > /installed
    COPY src/*.c /src/
    RUN cat /src/* > /out
    -- deps
    dep
    -- src/a.c
    a
    -- src/b.h
    b
    ";

#[test]
fn a_second_build_is_all_cached_and_gives_the_same_image() {
    let test = Test::of(APP);
    let (first, id) = (test.build(&[]).cached(), test.build(&[]).id());
    let again = test.build(&[]);
    assert_eq!((first, again.cached()), (0, 4), "{}", again.log);
    assert_eq!(again.id(), id);
}

#[test]
fn a_change_counts_from_the_copy_that_includes_it() {
    let test = Test::of(APP);
    test.build(&[]);
    for (name, content, cached) in [
        ("src/b.h", "not matched by the wildcard\n", 4),
        ("unrelated", "new\n", 4),
        ("src/a.c", "changed\n", 2),
        ("src/new.c", "matched\n", 2),
        ("deps", "changed\n", 0),
    ] {
        let image = test.file(name, content).build(&[]);
        // A COPY whose input has not changed is a hit also above a step that had to run.
        assert!(
            image.cached() >= cached && (cached == 4) == (image.cached() == 4),
            "{name}: {}",
            image.log
        );
    }
    assert_eq!(test.build(&[]).read("out"), "changed\nmatched\n");
}

#[test]
fn content_and_mode_count_and_time_does_not() {
    let test = Test::of(APP);
    test.build(&[]);
    test.shell("touch -d @1000000000 deps src/a.c src; touch src/b.h");
    assert_eq!(test.build(&[]).cached(), 4);
    test.mode("src/a.c", 0o755);
    let image = test.build(&[]);
    assert!(image.cached() < 4, "{}", image.log);
    assert!(image.tree_of("src/a.c").starts_with("-rwxr-xr-x"));
}

/// Files of so many bytes that a first copy writes its layer before it knows its key: small ones, one
/// that is read while it is written, an empty one, and a link to one.
fn big_context(test: &Test) {
    test.shell(
        "mkdir big; cd big; for i in $(seq 40); do head -c 100000 /dev/zero | tr '\\0' $((i % 7)) > f$i; done
         head -c 900000 /dev/zero | tr '\\0' x > streamed; ln f1 linked; : > empty
         touch -d @1000000000 *",
    );
}

#[test]
fn a_big_copy_has_the_same_key_and_layer_when_its_files_are_known_and_when_not() {
    const COPY: &str = "
        FROM busybox
        COPY big /big
        RUN cat /big/* | wc -c > /bytes
        ";
    let (test, other) = (Test::of(COPY), Test::of(COPY));
    big_context(&test);
    big_context(&other);
    let first = test.build(&[]);
    assert_eq!((first.cached(), first.read("bytes").trim()), (0, "5000000"), "{}", first.log);
    let layers = first.layers();
    // Known by their stats, read again because of new times, and known from the start elsewhere.
    for change in [":", "touch -d @1000000001 big/f7", "cp -a big/f3 f3; cp -a f3 big/f3"] {
        test.shell(change);
        let image = test.build(&[]);
        assert_eq!(
            (image.cached(), image.layers()),
            (2, layers.clone()),
            "{change}: {}",
            image.log
        );
    }
    assert_eq!(other.build(&[]).layers()[..2], layers[..2]);
    test.shell("touch -d @1000000000 big/*");
    assert_eq!(test.build(&["--no-cache"]).layers()[..2], layers[..2]);
    // A change is one, and its way back is known.
    test.shell("cp -a big/f3 kept; printf y | dd of=big/f3 conv=notrunc status=none");
    let changed = test.build(&[]);
    assert_eq!(changed.cached(), 0, "{}", changed.log);
    let explained = test.rbuild(&["explain"]).ok();
    assert!(explained.contains("big/f3") && !explained.contains("big/f4"), "{explained}");
    test.shell("cp -a kept big/f3");
    assert_eq!(test.build(&[]).cached(), 2);
    // What was written for nothing is not there.
    assert_eq!(test.shell("find $RBUILD_ROOT/tmp -name layer.tar"), "");
}

#[test]
fn a_change_that_keeps_size_and_time_is_noticed() {
    let test = Test::of("FROM scratch\nCOPY f /\n");
    for content in ["one", "two", "six"] {
        test.file("f", content);
        test.shell("touch -d @1000000000 f");
        assert_eq!(test.build(&[]).read("f"), content);
    }
}

#[test]
fn a_file_that_becomes_a_folder_is_noticed_and_back() {
    let test = Test::of(
        "FROM scratch\nCOPY . /\n-- .dockerignore\nDockerfile\n.dockerignore\n-- x\nfile\n",
    );
    assert_eq!(test.build(&[]).tree(), "-rw-r--r-- 0/0 x\n");
    test.shell("rm x; mkdir x; echo inside > x/y");
    assert_eq!(test.build(&[]).tree(), "drwxr-xr-x 0/0 x\n-rw-r--r-- 0/0 x/y\n");
    test.shell("rm -r x; ln -s y x");
    assert_eq!(test.build(&[]).tree(), "lrwxrwxrwx 0/0 x -> y\n");
}

#[test]
fn no_cache_runs_everything_and_its_filter_one_stage() {
    let test = Test::of(
        "
        FROM busybox AS one
        RUN cat /proc/sys/kernel/random/uuid > /one
        FROM busybox AS two
        RUN cat /proc/sys/kernel/random/uuid > /two
        FROM scratch
        COPY --from=one /one /
        COPY --from=two /two /
        ",
    );
    let values = |arguments: &[&str]| {
        let line = [&["build", "-o", "type=local,dest=../out"], arguments, &["."]].concat();
        test.rbuild(&line).succeeded();
        ["out/one", "out/two"].map(|name| fs_err::read_to_string(test.outside(name)).unwrap())
    };
    let first = values(&[]);
    assert_eq!(values(&[]), first);
    let filtered = values(&["--no-cache-filter", "one"]);
    assert!(filtered[0] != first[0] && filtered[1] == first[1], "{first:?} {filtered:?}");
    let fresh = values(&["--no-cache"]);
    assert!(fresh[0] != filtered[0] && fresh[1] != filtered[1]);
    assert_eq!(values(&[]), fresh, "what ran anew is what is cached");
}

#[test]
fn the_same_input_gives_the_same_image_in_another_store() {
    let literal = "
        FROM busybox
        WORKDIR /made
        COPY a .
        RUN mkdir d && cp a d/b && ln -s b d/c && rm a
        LABEL k=v
        -- a
        text
        ";
    let epoch = [
        "--build-arg",
        "SOURCE_DATE_EPOCH=1600000000",
        "--output",
        "type=image,rewrite-timestamp=true",
    ];
    let make = || {
        let test = Test::of(literal);
        let image = test.build(&epoch);
        let line =
            [&["build"], epoch.as_slice(), &["-o", "type=oci,dest=../image.tar", "."]].concat();
        test.rbuild(&line).succeeded();
        (image.id(), image.layers(), fs_err::read(test.outside("image.tar")).unwrap())
    };
    let (one, other) = (make(), make());
    assert_eq!((&one.0, &one.1), (&other.0, &other.1));
    assert!(one.2 == other.2, "the archives differ");
}

#[test]
fn copied_files_give_the_same_layers_in_any_store_place_and_time() {
    let literal = "
        FROM scratch
        COPY . /new/place/
        ADD made.tar /unpacked/
        -- b/file 600
        text
        -- a 755
        #!/bin/sh
        -- link -> b/file
        ";
    let first = Test::of(literal);
    first.shell(
        "touch -d @1234567890.5 a b/file; touch -h -d @1200000000 link b; tar -cf made.tar a b",
    );
    first.shell("touch -d @1234567890 made.tar Dockerfile");
    let layers = first.build(&[]).layers();
    // Another store, another folder, another order of its names, another owner, and later.
    let second = Test::empty();
    let from = first.context();
    second
        .shell(&format!("cp -a {}/link {0}/b {0}/a {0}/made.tar {0}/Dockerfile .", from.display()));
    second.shell("chown -h 1234:1234 a b b/file link");
    assert_eq!(second.build(&[]).layers(), layers);
    assert_eq!(second.build(&["--no-cache"]).layers(), layers);
}

#[test]
fn builds_at_once_in_one_store_do_not_disturb_each_other() {
    let test = Test::of(APP);
    let start = |i: usize| {
        let version = format!("V={}", i % 3);
        let arguments = ["-t", &format!("t{i}"), "--build-arg", &version];
        let mut command = test.command(&build_line(&arguments, &[]));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..6).map(start).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(test.names().len(), 7);
    assert_eq!(test.build(&[]).read("out"), "a\n");
}

#[test]
fn a_build_that_is_killed_leaves_a_store_that_works() {
    let test = Test::of(
        "
        FROM busybox
        RUN echo done > /done
        RUN echo waiting && sleep ${WAIT:-1000}
        RUN echo end > /out
        ",
    );
    let mut command = test.command(&["build", "--progress", "plain", "."]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let waiting = std::io::BufRead::lines(stderr)
        .map_while(Result::ok)
        .any(|line| line.ends_with(" waiting"));
    assert!(waiting, "the step never started");
    // The child is `timeout`, which passes the signal on; a kill would leave rbuild without its parent.
    let pid = rustix::process::Pid::from_child(&child);
    test.shell(&format!("pkill -KILL -P {} || true", pid.as_raw_nonzero()));
    child.wait().unwrap();
    test.file("Dockerfile", "FROM busybox\nRUN echo done > /done\nRUN echo end > /out\n");
    let image = test.build(&[]);
    assert_eq!((image.read("out").as_str(), image.cached()), ("end\n", 1), "{}", image.log);
    test.rbuild(&["system", "df"]).succeeded();
}

#[test]
fn the_cache_moves_by_way_of_a_folder() {
    let test = Test::of(APP);
    let folder = test.outside("cache");
    let (to, from) = (
        format!("type=local,dest={},mode=max", folder.display()),
        format!("type=local,src={}", folder.display()),
    );
    test.build(&["--cache-to", &to]);
    let other = Test::of(APP);
    let image = other.build(&["--cache-from", &from]);
    assert_eq!((image.cached(), image.read("out").as_str()), (4, "a\n"), "{}", image.log);
}

const STAGES: &str = "
    FROM busybox AS deps
    COPY deps /deps
    RUN cat /proc/sys/kernel/random/uuid > /made
    FROM busybox
    COPY --from=deps /made /made
    RUN cat /proc/sys/kernel/random/uuid > /out
    -- deps
    dep
    ";

#[test]
fn a_second_machine_goes_on_where_the_first_stopped() {
    let first = Test::of(STAGES);
    let folder = first.outside("cache").display().to_string();
    let (to, from) =
        (format!("type=local,dest={folder},mode=max"), format!("type=local,src={folder}"));
    let made = first.build(&["--cache-to", &to]);
    let second = Test::of(STAGES);
    let image = second.build(&["--cache-from", &from, "--cache-to", &to]);
    assert_eq!((image.cached(), image.id()), (4, made.id()), "{}", image.log);
    // What came from elsewhere is ours now, with its reasons.
    assert_eq!(second.build(&[]).cached(), 4);
    let changed = second.file("deps", "new\n").build(&["--cache-from", &from, "--explain"]);
    assert!(changed.cached() == 0 && changed.log.contains("deps"), "{}", changed.log);
    // The first one now profits from what the second one made.
    second.build(&["--cache-to", &to]);
    let image = first.file("deps", "new\n").build(&["--cache-from", &from]);
    assert_eq!((image.cached(), image.id()), (4, second.build(&[]).id()), "{}", image.log);
    assert_eq!(first.build(&["--cache-from", &from, "--no-cache"]).cached(), 0);
}

#[test]
fn the_least_that_is_exported_are_the_images_own_steps() {
    let first = Test::of(STAGES);
    let to = |more: &str| format!("type=local,dest={}{more}", first.outside("cache").display());
    let from = format!("type=local,src={}", first.outside("cache").display());
    let cached_elsewhere = || Test::of(STAGES).build(&["--cache-from", &from]).cached();
    first.build(&["--cache-to", &to("")]);
    assert_eq!(cached_elsewhere(), 0, "what makes /made differs, so nothing stands on it");
    first.build(&["--cache-to", &to(",mode=max")]);
    assert_eq!(cached_elsewhere(), 4);
    first.build(&["--cache-to", &to(",reset=true")]);
    assert_eq!(cached_elsewhere(), 0);
}

#[test]
fn a_build_does_without_a_cache_of_a_kind_that_is_not_known() {
    let test = Test::of(APP);
    let line = ["--cache-from", "type=gha", "--cache-to", "type=gha,mode=max"];
    let log = test.build(&[&line[..], &["--cache-from", "type=new,a=b"]].concat()).log;
    for text in [
        "WARNING: --cache-from: a cache of type gha is not supported",
        "WARNING: --cache-to: a cache of type gha is not supported",
        "WARNING: --cache-from: unknown type \"new\"",
    ] {
        assert!(log.contains(text), "no {text:?} in\n{log}");
    }
    test.refused(&["--cache-to", "type=new"], &["unknown type \"new\""]);
}

#[test]
fn a_damaged_or_missing_cache_is_a_warning_and_its_steps_run() {
    let first = Test::of(APP);
    let folder = first.outside("cache").display().to_string();
    let (to, from) =
        (format!("type=local,dest={folder},mode=max"), format!("type=local,src={folder}"));
    let build = || {
        let other = Test::of(APP);
        let image = other.build(&["--cache-from", &from]);
        assert_eq!(image.read("out"), "a\n", "{}", image.log);
        (image.cached(), image.log)
    };
    let missing = build();
    assert!(missing.0 == 0 && missing.1.contains("WARNING: "), "{}", missing.1);
    for script in [
        "for f in $(grep -l ustar blobs/sha256/*); do printf x | dd of=$f conv=notrunc status=none; done",
        "for f in blobs/sha256/*; do truncate -s -1 $f; done",
        "echo '{' > index.json",
        "rm -r blobs",
    ] {
        first.build(&["--cache-to", &to]);
        first.shell(&format!("cd ../cache; {script}"));
        let (found, log) = build();
        assert!(found == 0 && log.contains("WARNING: "), "{script}: {log}");
        first.shell("rm -r ../cache");
    }
}

#[test]
fn a_cache_that_cannot_be_written_fails_the_build_unless_told_otherwise() {
    let test = Test::of(APP);
    test.file("file", "");
    test.refused(&["--cache-to", "type=local,dest=file/cache"], &["file/cache"]);
    let image = test.build(&["--cache-to", "type=local,dest=file/cache,ignore-error=true"]);
    assert!(image.log.contains("WARNING: "), "{}", image.log);
}

#[test]
fn explain_tells_why_a_step_ran_again() {
    let test = Test::of(APP);
    test.build(&[]);
    test.file("deps", "other\n").build(&[]);
    let told = test.rbuild(&["explain", "."]);
    assert!(told.ok().contains("deps"), "{told}");
    assert!(need::program("tar"));
}

#[test]
fn of_two_builds_of_the_same_at_once_one_runs_each_step_and_both_have_it() {
    let test = Test::of(
        "
        FROM busybox
        RUN --mount=type=cache,target=/ran echo x >> /ran/times; sleep 1; head -c 8 /dev/urandom > /out
        RUN --mount=type=cache,target=/ran echo x >> /ran/times; head -c 8 /dev/urandom > /more
        ",
    );
    let start = |name: &str| {
        let mut command = test.command(&build_line(&["-q", "-t", name], &[]));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children = ["one", "two", "three"].map(start);
    let ids = children.map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    });
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
    let times = test.shell("cat \"$RBUILD_ROOT\"/cache/mounts/*/0/times");
    assert_eq!(times, "x\nx\n");
    assert_eq!(test.shell("find \"$RBUILD_ROOT\"/tmp -mindepth 1"), "");
}

#[test]
fn who_waits_for_a_build_that_fails_or_is_killed_runs_the_step() {
    let test = Test::of(
        "FROM busybox\nRUN --mount=type=cache,target=/c test -e /c/go || { echo waits; sleep 4711; }; echo > /out\n",
    );
    let spawn = || {
        let mut command = test.command(&build_line(&["-t", "app"], &[]));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let lines_until = |child: &mut std::process::Child, end: &str| {
        let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut lines = std::io::BufRead::lines(stderr).map_while(Result::ok);
        assert!(lines.any(|line| line.contains(end)), "no {end:?}");
        lines
    };
    let mut first = spawn();
    let first_lines = lines_until(&mut first, " waits");
    let mut second = spawn();
    let second_lines = lines_until(&mut second, "] RUN ");
    test.shell("for dir in \"$RBUILD_ROOT\"/cache/mounts/*/0; do touch \"$dir/go\"; done");
    let pid = rustix::process::Pid::from_child(&first).as_raw_nonzero();
    test.shell(&format!("pkill -KILL -P {pid}"));
    let log: Vec<String> = second_lines.collect();
    assert!(second.wait().unwrap().success(), "{log:?}");
    drop(first_lines);
    first.wait().unwrap();
    assert!(!log.iter().any(|line| line.ends_with(" CACHED")), "{log:?}");
    // Nobody waits who does everything again: not even for one who is stopped.
    test.file("Dockerfile", "FROM busybox\nRUN echo begun; sleep 1\n");
    let mut stopped = spawn();
    let stopped_lines = lines_until(&mut stopped, " begun");
    let pid = rustix::process::Pid::from_child(&stopped).as_raw_nonzero();
    test.shell(&format!("pkill -STOP -P {pid}"));
    test.build(&["--no-cache"]);
    test.shell(&format!("pkill -CONT -P {pid}"));
    assert!(stopped_lines.count() > 0);
    assert!(stopped.wait().unwrap().success());
}
