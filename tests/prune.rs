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
    // A layer is its tar, or its tar and what that unpacks to.
    let reclaimed = pruned.ok();
    let expected = ["3.0", "6.0"].map(|size| format!("Total reclaimed space: {size}"));
    assert!(expected.iter().any(|size| reclaimed.contains(size)), "{pruned}");
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
fn a_lost_layer_comes_back_from_its_blob_and_a_pipe_keeps_nobody_waiting() {
    let test = Test::of("FROM busybox\nCOPY greeting /\n-- greeting\nhello\n");
    let image = test.build(&[]);
    let top = image.layers().last().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    test.shell(&format!(
        "rm -r \"$RBUILD_ROOT\"/layers/{top}
        record=$(ls -d \"$RBUILD_ROOT\"/cache/records/* | head -n 1)
        rm $record && mkfifo $record"
    ));
    assert_eq!(test.rbuild(&["system", "prune", "-f", "--dry-run"]).code, Some(0));
    let found = test.rbuild(&["system", "check", "--repair"]);
    assert_eq!(found.code, Some(1), "{found}");
    let printed = String::from_utf8_lossy(&found.stdout).into_owned();
    let lost = format!("its layer sha256:{top} is gone or damaged");
    for part in [lost.as_str(), "restored from its blob", "it is a named pipe, not a file"] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
    test.rbuild(&["system", "check"]).ok();
    assert_eq!(image.read("greeting"), "hello\n");
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

/// Runs a container that stays, without a network.
fn container(test: &Test, name: &str, image: &str, script: &str) -> String {
    let line = ["run", "-d", "--network", "none", "--name", name, image, "sh", "-c", script];
    let id = test.rbuild(&line).ok().trim().to_owned();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !test.rbuild(&["logs", name]).ok().contains("begun") {
        assert!(Instant::now() < deadline, "{name} does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    id
}

#[test]
fn a_container_keeps_its_layers_and_its_image_whatever_is_pruned() {
    let test = Test::of("FROM busybox\nRUN echo own > /own\n");
    test.build(&[]);
    let script = "trap 'exit 0' TERM; echo begun; while :; do sleep 0.1; done";
    let id = container(&test, "web", NAME, script);
    let told = test.rbuild(&["system", "prune", "-a", "--dry-run"]).ok();
    assert!(
        told.contains(&format!("stays: image {NAME}:latest: needed by container web\n")),
        "{told}"
    );
    assert!(told.contains("would be untagged: busybox:latest\n"), "{told}");
    let prune = || test.rbuild(&["system", "prune", "-a", "-f", "--volumes"]).ok();
    assert!(!prune().contains("test:latest"));
    test.rbuild(&["stop", "web"]).ok();
    // The image goes off the list; what it is made of stays.
    test.rbuild(&["rmi", "-f", NAME]).ok();
    assert_eq!(test.names(), Vec::<String>::new());
    let told = test.rbuild(&["image", "prune", "--dry-run"]).ok();
    let layer = |line: &str| {
        line.starts_with("stays: layer ") && line.ends_with(": needed by container web")
    };
    assert!(told.lines().any(layer), "{told}");
    for line in [&["image", "prune", "-a", "-f"][..], &["builder", "prune", "-a", "-f"]] {
        assert_eq!(test.rbuild(line).ok(), "Total reclaimed space: 0B\n", "{line:?}");
    }
    test.rbuild(&["system", "check"]).ok();
    assert_eq!(test.rbuild(&["start", "web"]).ok(), "web\n");
    assert_eq!(test.rbuild(&["exec", "web", "cat", "/own"]).ok(), "own\n");
    test.rbuild(&["stop", "web"]).ok();
    let pruned = prune();
    assert!(pruned.starts_with(&format!("Deleted Containers:\n{id}\n\n")), "{pruned}");
    let left = test.shell("ls \"$RBUILD_ROOT\"/layers | wc -l");
    assert_eq!(left.trim(), "0", "{pruned}");
}

#[test]
fn containers_that_do_not_run_are_pruned_as_docker_does() {
    let test = Test::of("FROM busybox\n");
    let create = |name: &str, label: &str| {
        test.rbuild(&["create", "--name", name, "--label", label, "busybox", "true"]).ok()
    };
    let (first, second) = (create("first", "a=1"), create("second", "a=2"));
    let running = container(&test, "running", "busybox", "echo begun; sleep 100");
    test.rbuild(&["run", "--name", "ended", "--network", "none", "busybox", "true"]).ok();
    let asked = test.rbuild_with(&["container", "prune"], &[], Some(b"n\n"));
    let question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] ";
    assert_eq!((asked.code, asked.stderr.as_str()), (Some(0), question), "{asked}");
    let prune = |filter: &str| test.rbuild(&["container", "prune", "-f", "--filter", filter]);
    assert_eq!(prune("until=1h").ok(), "Total reclaimed space: 0B\n");
    assert!(prune("status=exited").failed(1).contains("invalid filter 'status'"));
    let pruned = prune("label=a=1").ok();
    let expected = format!("Deleted Containers:\n{first}\nTotal reclaimed space: ");
    assert!(pruned.starts_with(&expected), "{pruned}");
    let pruned = prune("label=a").ok();
    assert!(pruned.starts_with(&format!("Deleted Containers:\n{second}\nTotal")), "{pruned}");
    test.rbuild(&["volume", "create", "named"]).ok();
    test.rbuild(&["create", "--name", "last", "-v", "/anonymous", "busybox", "true"]).ok();
    let told = test.rbuild(&["system", "prune", "--volumes", "--dry-run"]).ok();
    for part in ["would go: container ended: ", "would go: container last: ", "would go: volume "] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let pruned = test.rbuild(&["system", "prune", "-f", "--volumes"]).ok();
    let heads = pruned.lines().filter(|line| line.starts_with("Deleted"));
    assert_eq!(heads.collect::<Vec<_>>(), ["Deleted Containers:", "Deleted Volumes:"], "{pruned}");
    let left = test.rbuild(&["container", "ls", "-a", "-q", "--no-trunc"]).ok();
    assert_eq!(left.trim(), running);
    assert_eq!(test.rbuild(&["volume", "ls", "-q"]).ok(), "named\n");
    let both = ["system", "prune", "-f", "--volumes", "--filter", "until=1h"];
    assert!(test.rbuild(&both).failed(1).contains("\"until\" filter is not supported"));
}

#[test]
fn a_container_that_is_about_to_start_is_not_pruned() {
    let test = Test::of("FROM busybox\n");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut rounds = 0;
    let pruner = || {
        let mut prune = test.command(&["container", "prune", "-f"]);
        prune.stdin(Stdio::null()).stdout(Stdio::null());
        prune
    };
    let mut commands: Vec<_> = (0..400).map(|_| pruner()).collect();
    std::thread::scope(|scope| {
        let stop = &stop;
        let rounds = &mut rounds;
        let pruning = scope.spawn(move || {
            for prune in &mut commands {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                assert!(prune.status().expect("prune").success());
                *rounds += 1;
            }
        });
        for _ in 0..15 {
            let run = ["run", "--rm", "--network", "none", "busybox", "echo", "1"];
            assert_eq!(test.rbuild(&run).ok(), "1\n");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        pruning.join().expect("join");
    });
    assert!(rounds > 5, "{rounds}");
}

#[test]
fn what_system_df_says_of_containers_and_volumes_is_what_du_says() {
    let test = Test::of("FROM busybox\nRUN head -c 500000 /dev/urandom > /own\n");
    test.build(&[]);
    let write = "head -c 2000000 /dev/urandom > /big; head -c 700000 /dev/urandom > /data/x";
    let line = ["run", "-d", "--name", "web", "--network", "none", "-v", "data:/data", NAME];
    let script = format!("{write}; echo begun; sleep 100");
    test.rbuild(&[&line[..], &["sh", "-c", &script]].concat()).ok();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !test.rbuild(&["logs", "web"]).ok().contains("begun") {
        assert!(Instant::now() < deadline, "it does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    test.rbuild(&["create", "--name", "idle", "busybox", "true"]).ok();
    test.rbuild(&["volume", "create", "free"]).ok();
    test.rbuild(&["network", "create", "net"]).ok();
    let rows = |format: &str| test.rbuild(&["system", "df", "--format", format]).ok();
    let compare = |when: &str| {
        let said: f64 = rows("{{.Size}}").lines().map(bytes).sum();
        let du = test.shell("du -s --block-size=1 \"$RBUILD_ROOT\" | cut -f 1");
        let du: f64 = du.trim().parse().unwrap();
        assert!((said - du).abs() <= du / 100.0, "{when}: df says {said}, du says {du}");
    };
    compare("with two containers");
    let counts = rows("{{.Type}} {{.TotalCount}} {{.Active}}");
    assert!(
        counts.starts_with("Images 2 2\nContainers 2 1\nLocal Volumes 2 1\nBuild Cache "),
        "{counts}"
    );
    let reclaimable = rows("{{.Type}} {{.Reclaimable}}");
    assert!(reclaimable.contains("Images 0B (0%)\n"), "{reclaimable}");
    let verbose = test.rbuild(&["system", "df", "-v", "--format", "json"]).ok();
    let verbose: serde_json::Value = serde_json::from_str(&verbose).unwrap();
    let web = verbose["Containers"].as_array().unwrap().iter().find(|row| row["Names"] == "web");
    let written = bytes(web.unwrap()["Size"].as_str().unwrap());
    assert!((2e6..2.1e6).contains(&written), "{written}");
    let data = verbose["Volumes"].as_array().unwrap().iter().find(|row| row["Name"] == "data");
    let data = data.unwrap();
    assert_eq!(data["Links"], "1");
    assert!((7e5..7.5e5).contains(&bytes(data["Size"].as_str().unwrap())), "{data}");
    let info = test.rbuild(&[
        "info",
        "--format",
        "{{.Containers}} {{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}}",
    ]);
    assert_eq!(info.ok(), "2 1 0 1\n");
    test.rbuild(&["rm", "-f", "web"]).ok();
    test.rbuild(&["builder", "prune", "-a", "-f"]).ok();
    test.rbuild(&["rmi", "-f", "busybox"]).ok();
    compare("with an image off the list");
    test.rbuild(&["network", "rm", "net"]).ok();
}

#[test]
fn a_container_without_a_record_is_told_of_and_can_be_removed() {
    let test = Test::of("FROM busybox\n");
    let id = test.rbuild(&["create", "--name", "web", "busybox", "true"]).ok();
    let id = id.trim();
    test.shell(&format!("echo '{{' > \"$RBUILD_ROOT\"/containers/{id}/config.json"));
    let found = test.rbuild(&["system", "check"]);
    let printed = String::from_utf8_lossy(&found.stdout).into_owned();
    let fault = format!("container {}: config.json cannot be read: ", &id[..12]);
    assert!(found.code == Some(1) && printed.starts_with(&fault), "{found}");
    let refused = test.rbuild(&["image", "prune", "-a", "-f"]);
    assert!(refused.failed(1).contains(&format!("rbuild rm -f {}", &id[..12])), "{refused}");
    test.rbuild(&["rm", "-f", &id[..12]]).ok();
    test.rbuild(&["system", "check"]).ok();
    assert!(test.rbuild(&["image", "prune", "-a", "-f"]).ok().contains("untagged: busybox:latest"));
}
