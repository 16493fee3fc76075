//! What is removed from a store and what is not, what a check of it finds, and what it takes of the disk.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::{NAME, Test, inspect};

/// Starts `rbuild` with its output in a file, and waits until that has the word in a line of its own.
#[track_caller]
fn started(test: &Test, log: &str, arguments: &[&str]) -> Child {
    let path = test.outside(log);
    let file = fs_err::File::create(&path).unwrap().into_parts().0;
    let mut command = test.command(arguments);
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let child = command.spawn().expect("start rbuild");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !said(test, log).lines().any(|line| line.ends_with("begun")) {
        assert!(Instant::now() < deadline, "it does not begin: {}", said(test, log));
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn said(test: &Test, log: &str) -> String {
    fs_err::read_to_string(test.outside(log)).unwrap()
}

/// Everything in the store but what comes and goes with each process.
fn listing(test: &Test) -> String {
    test.shell("cd \"$RBUILD_ROOT\" && find . -path ./tmp -prune -o -print | sort")
}

#[test]
fn a_running_build_and_a_running_container_are_never_robbed() {
    let test = Test::of(
        "
        FROM busybox AS tools
        RUN head -c 100000 /dev/urandom > /tool
        FROM busybox
        RUN --mount=type=cache,target=/cache echo kept > /cache/file && head -c 100000 /dev/urandom > /a
        COPY --from=tools /tool /tool
        RUN --mount=type=cache,target=/cache echo begun && sleep 3 && cat /cache/file /a /tool > /b
        RUN cat /b > /c && cmp /b /c
        ",
    );
    test.shell("\"$RBUILD\" tag busybox other && \"$RBUILD\" build -q -t old - <<END\nFROM scratch\nLABEL a=b\nEND");
    let script = "echo begun; sleep 3; ls /bin/busybox && wc -c < /bin/busybox";
    let size = test.rbuild(&[
        "run",
        "--rm",
        "--network",
        "none",
        "other",
        "sh",
        "-c",
        "wc -c < /bin/busybox",
    ]);
    let line = ["run", "--rm", "--network", "none", "other", "sh", "-c", script];
    let mut container = started(&test, "container", &line);
    let mut build = started(
        &test,
        "build",
        &["build", "--progress", "plain", "--network", "none", "-t", NAME, "."],
    );
    let (mut rounds, mut first) = (0, String::new());
    while build.try_wait().unwrap().is_none() || container.try_wait().unwrap().is_none() {
        let pruned = test.rbuild(&["system", "prune", "-a", "-f"]).ok();
        if rounds == 0 {
            first = pruned;
        }
        rounds += 1;
    }
    assert!(rounds > 5, "{rounds}");
    assert!(first.contains("untagged: old:latest"), "what nobody uses goes at once: {first}");
    assert_eq!(build.wait().unwrap().code(), Some(0), "{}", said(&test, "build"));
    assert_eq!(container.wait().unwrap().code(), Some(0), "{}", said(&test, "container"));
    assert_eq!(said(&test, "container"), format!("begun\n/bin/busybox\n{}", size.ok()));
    // The last rounds may have come when the build had ended: then its image went, too.
    test.rbuild(&["system", "check"]).ok();
}

#[test]
fn what_a_build_has_just_made_outlives_a_prune_of_what_nobody_needs() {
    let test = Test::of("FROM busybox\nRUN echo 1 > /1\nRUN echo begun && sleep 2\n");
    let line = ["build", "--progress", "plain", "--network", "none", "-t", NAME, "."];
    let mut build = started(&test, "build", &line);
    let mut rounds = 0;
    while build.try_wait().unwrap().is_none() {
        test.rbuild(&["builder", "prune", "-a", "-f"]).ok();
        test.rbuild(&["image", "prune", "-f"]).ok();
        rounds += 1;
    }
    assert!(rounds > 5, "{rounds}");
    assert_eq!(build.wait().unwrap().code(), Some(0), "{}", said(&test, "build"));
    assert!(inspect(&test, NAME)["Id"].is_string());
    let printed = test.rbuild(&["run", "--rm", "--network", "none", NAME, "cat", "/1"]);
    assert_eq!(printed.ok(), "1\n");
}

/// Reads a size as `system df` prints it.
fn bytes(size: &str) -> f64 {
    let unit = size.find(|c: char| c.is_ascii_alphabetic()).expect("a unit");
    let factor = match &size[unit..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        other => panic!("{other}"),
    };
    size[..unit].parse::<f64>().expect("a number") * factor
}

#[test]
fn what_system_df_says_is_what_du_says() {
    let test = Test::of(
        "
        FROM busybox AS one
        RUN --mount=type=cache,target=/cache head -c 300000 /dev/urandom | tee /cache/x > /a && ln /a /b
        FROM busybox
        COPY --from=one /a /b /
        COPY . /context
        RUN mkdir /many && for i in $(seq 500); do echo $i > /many/$i; done
        -- greeting
        hello
        ",
    );
    let compare = |when: &str| {
        let rows = test.rbuild(&["system", "df", "--format", "{{.Size}}"]).ok();
        let said: f64 = rows.lines().map(bytes).sum();
        let du = test.shell("du -s --block-size=1 \"$RBUILD_ROOT\" | cut -f 1");
        let du: f64 = du.trim().parse().unwrap();
        assert!((said - du).abs() <= du / 100.0, "{when}: df says {said}, du says {du}\n{rows}");
    };
    test.build(&[]);
    compare("after a build");
    test.file("greeting", "other").build(&["--no-cache"]);
    test.build(&["-t", "second", "--target", "one"]);
    compare("with two more");
    test.rbuild(&["run", "--rm", "--network", "none", NAME, "true"]).ok();
    test.rbuild(&["rmi", NAME]).ok();
    compare("with an image less");
    test.rbuild(&["builder", "prune", "-f"]).ok();
    compare("with a pruned cache");
    let verbose = test.rbuild(&["system", "df", "-v", "--format", "json"]).ok();
    let verbose: serde_json::Value = serde_json::from_str(&verbose).unwrap();
    let rows = verbose["BuildCache"].as_array().unwrap().iter();
    let sum: f64 = rows.map(|row| bytes(row["Size"].as_str().unwrap())).sum();
    let whole = test.rbuild(&["system", "df", "--format", "{{.Type}} {{.Size}}"]).ok();
    let whole =
        whole.lines().find_map(|line| line.strip_prefix("Build Cache ")).map(bytes).unwrap();
    assert!((sum - whole).abs() <= whole / 100.0, "{sum} {whole}");
}

#[test]
fn a_dry_run_gives_reasons_and_removes_nothing() {
    let test = Test::of("FROM busybox\nRUN head -c 2000000 /dev/urandom > /big\n");
    test.build(&[]);
    test.rbuild(&["rmi", "--no-prune", NAME]).ok();
    test.shell("touch -d '3 days ago' \"$RBUILD_ROOT\"/cache/records/*");
    let finished =
        "sed -i 's/\"finished\":[0-9]*/\"finished\":1/' \"$RBUILD_ROOT\"/cache/records/*";
    test.shell(&format!("{finished}; touch -d '3 days ago' \"$RBUILD_ROOT\"/cache/records/*"));
    let before = listing(&test);
    let told = test.rbuild(&["system", "prune", "-a", "--dry-run", "-v"]).ok();
    assert!(told.contains("would be untagged: busybox:latest\n"), "{told}");
    let step = told.lines().find(|line| line.starts_with("would go: step ")).expect("the step");
    assert!(
        step.contains(": unused since 3 days, took ") && step.contains(" ms to make, "),
        "{step}"
    );
    let big = |line: &str| line.starts_with("would go: layer ") && line.ends_with("MB");
    assert!(told.lines().any(big), "{told}");
    assert!(told.contains(": no image and no step needs it, "), "{told}");
    assert!(told.contains("Total reclaimable space: "), "{told}");
    assert_eq!(listing(&test), before);
    let told = test.rbuild(&["image", "prune", "--dry-run", "-v"]).ok();
    assert!(told.contains(": an image needs it\n") && told.contains(": not asked for\n"), "{told}");
    assert_eq!(listing(&test), before);
}

#[test]
fn a_step_that_was_used_is_not_old() {
    let test = Test::of("FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\n");
    test.build(&[]);
    let age = "sed -i 's/\"finished\":[0-9]*/\"finished\":1/' \"$RBUILD_ROOT\"/cache/records/*;
        touch -d '3 days ago' \"$RBUILD_ROOT\"/cache/records/*";
    test.shell(age);
    test.write("FROM busybox\nRUN echo 1 > /1\n");
    assert_eq!(test.build(&[]).cached(), 1);
    let pruned = test.rbuild(&["builder", "prune", "-f", "--filter", "until=24h"]).ok();
    assert!(pruned.starts_with("Deleted build cache objects:\n"), "{pruned}");
    assert_eq!(test.build(&[]).cached(), 1, "the step that was used stays");
    test.write("FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\n");
    assert_eq!(test.build(&[]).cached(), 1, "the other one went");
}

#[test]
fn a_store_is_brought_down_to_a_size_but_images_stay() {
    let test = Test::of("FROM busybox\nRUN head -c 3000000 /dev/urandom > /big\n");
    test.build(&[]);
    test.rbuild(&["rmi", NAME]).ok();
    let size = || -> u64 {
        test.shell("du -s --block-size=1 \"$RBUILD_ROOT\" | cut -f 1").trim().parse().unwrap()
    };
    let full = size();
    let prune =
        |limit: u64| test.rbuild(&["system", "prune", "-f", "--max-size", &limit.to_string()]);
    assert!(prune(full + 100_000).ok().contains("Total reclaimed space: 0B"));
    assert_eq!(size(), full);
    let pruned = prune(full - 1_000_000);
    assert!(pruned.ok().contains("Total reclaimed space: 3.0"), "{pruned}");
    assert_eq!(pruned.stderr, "");
    assert!(size() <= full - 1_000_000);
    let refused = prune(1000);
    assert!(refused.succeeded().stderr.contains("more than the limit: what images"), "{refused}");
    assert_eq!(test.names(), ["busybox:latest"]);
    let both = ["system", "prune", "-f", "--max-size", "1000", "--filter", "label=a"];
    assert_eq!(test.rbuild(&both).code, Some(1));
}

#[test]
fn a_check_finds_damage_and_repairs_it() {
    let test = Test::of("FROM busybox\nCOPY greeting /\nRUN echo 2 > /2\n-- greeting\nhello\n");
    test.build(&[]);
    assert!(test.rbuild(&["system", "check"]).ok().contains("no faults"));
    let record = test.shell("ls \"$RBUILD_ROOT\"/cache/records | head -n 1");
    test.shell(&format!("echo broken > \"$RBUILD_ROOT\"/cache/records/{record}"));
    let found = test.rbuild(&["system", "check"]);
    assert_eq!(found.code, Some(1), "{found}");
    let printed = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(printed.starts_with(&format!("record sha256:{}", record.trim())), "{printed}");
    assert!(printed.contains("1 fault; --repair"), "{printed}");
    assert_eq!(test.rbuild(&["system", "check", "--repair"]).code, Some(1));
    test.rbuild(&["system", "check"]).ok();
    assert_eq!(test.build(&[]).cached(), 1);
}

#[test]
fn a_flipped_byte_in_a_layer_is_found_and_the_layer_made_again() {
    let test = Test::of("FROM busybox\nCOPY greeting /\n-- greeting\nhello\n");
    let layers = test.build(&[]).layers();
    let top = layers.last().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    test.shell(&format!(
        "printf X | dd of=\"$RBUILD_ROOT\"/layers/{top}/layer.tar bs=1 seek=600 conv=notrunc status=none;
        rm -rf \"$RBUILD_ROOT\"/layers/{top}/tree"
    ));
    let found = test.rbuild(&["system", "check", "--repair"]);
    assert_eq!(found.code, Some(1), "{found}");
    let printed = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(
        printed.contains(&format!("layer sha256:{top}: layer.tar has another content")),
        "{printed}"
    );
    let again = test.build(&[]);
    assert_eq!(again.layers(), layers);
    assert_eq!(again.read("greeting"), "hello\n");
    test.rbuild(&["system", "check"]).ok();
}

#[test]
fn a_store_of_a_newer_program_is_refused_with_what_to_do() {
    let test = Test::of("FROM busybox\n");
    test.shell("echo 99 > \"$RBUILD_ROOT\"/version");
    for line in [&["system", "check"][..], &["system", "prune", "-f"], &["images"]] {
        let refused = test.rbuild(line);
        assert_eq!(refused.code, Some(1), "{refused}");
        assert!(refused.stderr.contains("has version 99"), "{refused}");
        assert!(
            refused.stderr.contains("use the rbuild that made it, or another store"),
            "{refused}"
        );
    }
}
