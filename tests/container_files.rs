//! A container's files: copied in and out, compared with its image, committed, exported.

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use crate::support::{Outcome, Test};

fn test() -> Test {
    let test = Test::empty();
    test.import("busybox");
    test
}

/// Makes a container that has run this script to its end.
fn ended(test: &Test, arguments: &[&str], script: &str) {
    let tail = ["busybox", "sh", "-ec", script];
    let line = [&["run", "--network", "none", "--name", "c1"], arguments, &tail].concat();
    test.rbuild(&line).succeeded();
}

/// Makes a container that has run this script, and goes on.
fn running(test: &Test, arguments: &[&str], script: &str) {
    let script = format!("{script}; echo ready > /dev/shm/ready; exec sleep 1000");
    let tail = ["busybox", "sh", "-ec", script.as_str()];
    let line = [&["run", "-d", "--network", "none", "--name", "c1"], arguments, &tail].concat();
    test.rbuild(&line).succeeded();
    exec(test, "until test -e /dev/shm/ready; do sleep 0.01; done");
}

fn exec(test: &Test, script: &str) -> String {
    test.rbuild(&["exec", "c1", "sh", "-ec", script]).ok()
}

fn cp(test: &Test, from: &str, to: &str) -> Outcome {
    test.rbuild(&["cp", from, to])
}

/// Removes the container, running or not.
fn end(test: &Test) {
    test.rbuild(&["rm", "-f", "-v", "c1"]).succeeded();
}

fn inspect(test: &Test, image: &str) -> Value {
    let text = test.rbuild(&["inspect", "--type", "image", image]).ok();
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

#[test]
fn cp_knows_files_directories_and_their_content() {
    let test = test();
    running(&test, &[], "mkdir -p /in/dir; echo f > /in/file");
    test.shell("mkdir -p src/sub there; echo 1 > src/one; echo 2 > src/sub/two; echo old > file");
    // What is there decides: (from, to, what the container has then)
    for (from, to, list) in [
        ("src/one", "c1:/in/new", "/in/new"),
        ("src/one", "c1:/in/file", "/in/file"),
        ("src/one", "c1:/in/dir", "/in/dir/one"),
        ("src/one", "c1:in/dir/", "/in/dir/one"),
        ("src", "c1:/in/dir", "/in/dir/src/one /in/dir/src/sub/two"),
        ("src/", "c1:/in/made", "/in/made/one /in/made/sub/two"),
        ("src/.", "c1:/in/dir", "/in/dir/one /in/dir/sub/two"),
        ("./src/.", "c1:/in/made2", "/in/made2/one /in/made2/sub/two"),
    ] {
        cp(&test, from, to).succeeded();
        let text = exec(&test, &format!("cat {list}; rm -rf /in/dir/*"));
        let expected = if list.contains("two") { "1\n2\n" } else { "1\n" };
        assert_eq!(text, expected, "{from} {to}");
    }
    exec(&test, "mkdir -p /out/sub; echo 1 > /out/one; echo 2 > /out/sub/two");
    for (from, to, list) in [
        ("c1:/out/one", "new", "new"),
        ("c1:/out/one", "file", "file"),
        ("c1:out/one", "there", "there/one"),
        ("c1:/out/one", "there/", "there/one"),
        ("c1:/out", "there", "there/out/one there/out/sub/two"),
        ("c1:/out/", "made", "made/one made/sub/two"),
        ("c1:/out/.", "there", "there/one there/sub/two"),
        ("c1:/out/sub/../.", "made2", "made2/one made2/sub/two"),
    ] {
        cp(&test, from, to).succeeded();
        let text = test.shell(&format!("cat {list}; rm -rf there/*"));
        let expected = if list.contains("two") { "1\n2\n" } else { "1\n" };
        assert_eq!(text, expected, "{from} {to}");
    }
    end(&test);
}

#[test]
fn cp_refuses_in_dockers_words() {
    let test = test();
    ended(&test, &[], "mkdir /dir; echo f > /file");
    test.shell("mkdir dir; echo f > file; mkdir over; mkdir over/file");
    let here = test.context().canonicalize().unwrap();
    let here = here.to_str().unwrap();
    for (from, to, text) in [
        ("c1:/no", ".", "Could not find the file /no in container c1".to_owned()),
        ("c1:/file/", ".", "not a directory".to_owned()),
        ("no", "c1:/", format!("lstat {here}/no: no such file or directory")),
        ("file/", "c1:/", "not a directory".to_owned()),
        ("file", "c1:/no/x", "Could not find the file /no in container c1".to_owned()),
        ("file", "c1:/file/x", "extraction point is not a directory".to_owned()),
        ("file", "c1:/no/", "no such directory".to_owned()),
        ("dir", "c1:/file", "cannot copy directory".to_owned()),
        (
            "over/.",
            "c1:/",
            "cannot overwrite non-directory \"file\" with directory \"/\"".to_owned(),
        ),
        ("c1:/dir", "file", "cannot copy directory".to_owned()),
        (
            "c1:/file",
            "no/x",
            format!("invalid output path: directory \"{here}/no\" does not exist"),
        ),
        ("c1:/file", "no/", "no such directory".to_owned()),
        ("c1:/file", "over", "cannot overwrite directory \"file\" with non-directory".to_owned()),
        ("c1:/file", "/dev/null", "must be a directory or a regular file: got a device".to_owned()),
        ("c1:/file", "c1:/x", "copying between containers is not supported".to_owned()),
        ("file", "dir", "must specify at least one container source".to_owned()),
        ("nobody:/file", ".", "No such container: nobody".to_owned()),
        ("-", "c1:/file", "destination \"c1:/file\" must be a directory".to_owned()),
    ] {
        let outcome = cp(&test, from, to);
        assert!(outcome.failed(1).contains(&text), "{from} {to}: no {text:?} in\n{outcome}");
    }
    end(&test);
}

#[test]
fn cp_streams_archives() {
    let test = test();
    ended(&test, &[], "mkdir -p /dir/sub; echo 1 > /dir/sub/one; ln /dir/sub/one /dir/two");
    let archive = cp(&test, "c1:/dir", "-").succeeded().stdout.clone();
    std::fs::write(test.context().join("dir.tar"), &archive).unwrap();
    let listed = test.shell("tar tf dir.tar; tar xf dir.tar; cat dir/two");
    assert_eq!(listed, "dir/\ndir/sub/\ndir/sub/one\ndir/two\n1\n");
    // A name that deletes in a layer is a name like others here.
    test.shell("mkdir t; echo x > t/.wh.dir; tar czf t.tgz -C t .wh.dir");
    let archive = std::fs::read(test.context().join("t.tgz")).unwrap();
    let sent = test.rbuild_with(&["cp", "-", "c1:/"], &[], Some(&archive));
    sent.succeeded();
    let seen = cp(&test, "c1:/.wh.dir", "-");
    seen.succeeded();
    cp(&test, "c1:/dir/two", "still").succeeded();
    assert_eq!(test.shell("cat still"), "1\n");
    end(&test);
}

#[test]
fn cp_stays_in_the_container() {
    for is_running in [false, true] {
        let test = test();
        let script = "mkdir /d; ln -s /etc/passwd /d/link; ln -s ../../../../tmp/up /d/up; \
                      ln -s /d /dirlink; mkdir -p /tmp; echo inside > /tmp/secret; \
                      ln -s /proc/1/root/etc /magic";
        if is_running {
            running(&test, &[], script)
        } else {
            ended(&test, &[], script)
        }
        let secret = test.context().join("secret");
        std::fs::write(&secret, "outside").unwrap();
        // Links are resolved in the container, whichever way they point.
        test.shell("echo new > new");
        cp(&test, "new", "c1:/d/up").succeeded();
        cp(&test, "c1:/tmp/up", "up").succeeded();
        assert_eq!(test.shell("cat up"), "new\n");
        // A link is copied as a link unless something else is asked for.
        cp(&test, "c1:/d/link", "link").succeeded();
        assert_eq!(
            std::fs::read_link(test.context().join("link")).unwrap().to_str(),
            Some("/etc/passwd")
        );
        test.rbuild(&["cp", "-L", "c1:/dirlink", "followed"]).succeeded();
        assert!(test.context().join("followed/up").symlink_metadata().unwrap().is_symlink());
        let outside = format!("/proc/1/root{}", secret.display());
        assert!(!cp(&test, &format!("c1:{outside}"), "stolen").stderr.is_empty());
        assert!(!test.context().join("stolen").exists());
        // A link of the host's is a link in the container, or what it points to.
        symlink("secret", test.context().join("hostlink")).unwrap();
        cp(&test, "hostlink", "c1:/d/hl").succeeded();
        test.rbuild(&["cp", "-L", "hostlink", "c1:/d/hf"]).succeeded();
        cp(&test, "c1:/d/.", "back").succeeded();
        let seen = test.shell("readlink back/hl; cat back/hf");
        assert_eq!(seen, "secret\noutside");
        end(&test);
    }
}

#[test]
fn cp_sees_volumes_and_heeds_what_is_read_only() {
    for is_running in [false, true] {
        let test = test();
        test.shell("mkdir bind ro; echo b > bind/b; echo r > ro/r; echo new > new");
        let (bind, ro) = (test.context().join("bind"), test.context().join("ro"));
        let mounts = [
            "-v".to_owned(),
            "data:/data".to_owned(),
            "-v".to_owned(),
            format!("{}:/made/bind", bind.display()),
            "-v".to_owned(),
            format!("{}:/ro:ro", ro.display()),
        ];
        let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
        let script = "echo d > /data/d";
        if is_running {
            running(&test, &mounts, script)
        } else {
            ended(&test, &mounts, script)
        }
        cp(&test, "c1:/data/d", "d").succeeded();
        cp(&test, "c1:/made", "made").succeeded();
        assert_eq!(test.shell("cat d made/bind/b"), "d\nb\n");
        cp(&test, "new", "c1:/made/bind/x").succeeded();
        cp(&test, "new", "c1:/data").succeeded();
        assert_eq!(test.shell("cat bind/x"), "new\n");
        let refused = cp(&test, "new", "c1:/ro/x");
        assert!(refused.failed(1).contains("mounted volume is marked read-only"), "{refused}");
        assert!(!ro.join("x").exists());
        // What was made to mount on is no change, whether it still runs or not.
        assert_eq!(test.rbuild(&["diff", "c1"]).ok(), "");
        end(&test);
        let arguments = [&["--read-only"], &mounts[..]].concat();
        if is_running {
            running(&test, &arguments, ":")
        } else {
            ended(&test, &arguments, ":")
        }
        let refused = cp(&test, "new", "c1:/tmp");
        assert!(refused.failed(1).contains("container rootfs is marked read-only"), "{refused}");
        cp(&test, "new", "c1:/data/n2").succeeded();
        end(&test);
    }
}

#[test]
fn cp_keeps_attributes_and_gives_files_to_who_they_belong() {
    let test = test();
    running(&test, &["-u", "12:34"], ":");
    test.shell("echo x > f; chown 7:8 f; chmod 4751 f; touch -d @1000000001 f; mkfifo p");
    cp(&test, "f", "c1:/f").succeeded();
    test.rbuild(&["cp", "-a", "f", "c1:/g"]).succeeded();
    cp(&test, "p", "c1:/p").succeeded();
    let seen = exec(&test, "stat -c '%u %g %a %Y' /f /g; stat -c %F /p");
    assert_eq!(seen, "7 8 4751 1000000001\n12 34 4751 1000000001\nfifo\n");
    cp(&test, "c1:/f", "back").succeeded();
    assert_eq!(test.shell("stat -c '%u %g %a %Y' back"), "0 0 4751 1000000001\n");
    // What the container has mounted is not pulled from under it.
    let busy = cp(&test, "f", "c1:/etc/hosts");
    assert!(busy.failed(1).contains("/etc/hosts: device or resource busy"), "{busy}");
    assert!(exec(&test, "cat /etc/hosts").contains("localhost"));
    end(&test);
}

#[test]
fn the_files_that_tell_of_the_network_are_there_before_and_after() {
    let test = test();
    let script = "grep -c mine /etc/hosts; echo 192.0.2.7 mine >> /etc/hosts";
    let command = ["busybox", "sh", "-c", script];
    test.rbuild(&[&["create", "--name", "c1", "-h", "told"], &command[..]].concat()).succeeded();
    let names = ["hosts", "hostname", "resolv.conf"];
    let copied = |name: &str| {
        let out = test.rbuild(&["cp", &format!("c1:/etc/{name}"), "-"]).succeeded().stdout.clone();
        std::fs::write(test.context().join("out.tar"), out).unwrap();
        test.shell("tar -xOf out.tar")
    };
    let paths = "{{.HostsPath}} {{.HostnamePath}} {{.ResolvConfPath}}";
    let shown = || test.rbuild(&["inspect", "--format", paths, "c1"]).ok();
    assert_eq!(names.map(copied), ["", "", ""]);
    assert_eq!(shown().trim(), "");

    // What the container has written stays until it is started again.
    for _ in 0..2 {
        assert_eq!(test.rbuild(&["start", "-a", "c1"]).ok(), "0\n");
    }
    let found = names.map(copied);
    assert!(found[0].contains("localhost") && found[0].ends_with("192.0.2.7 mine\n"), "{found:?}");
    assert_eq!(found[1], "told\n");
    assert!(found[2].contains("nameserver"), "{found:?}");
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    assert_eq!(shown().split_whitespace().map(read).collect::<Vec<_>>(), found);
    assert_eq!(test.rbuild(&["diff", "c1"]).ok(), "");
    // A volume at the place of one is what is there.
    end(&test);
    test.shell("echo given > hosts");
    let bind = format!("{}:/etc/hosts", test.context().join("hosts").display());
    ended(&test, &["-v", &bind], "cat /etc/hosts");
    assert_eq!(copied("hosts"), "given\n");
    end(&test);
}

#[test]
fn a_container_that_never_ran_has_files_too() {
    let test = test();
    test.rbuild(&["create", "--name", "c1", "busybox", "cat", "/n"]).succeeded();
    assert_eq!(test.rbuild(&["diff", "c1"]).ok(), "");
    test.shell("echo given > n");
    cp(&test, "n", "c1:/n").succeeded();
    assert_eq!(test.rbuild(&["diff", "c1"]).ok(), "A /n\n");
    assert_eq!(test.rbuild(&["start", "-a", "c1"]).ok(), "given\n");
    end(&test);
}

#[test]
fn diff_lists_what_a_container_changed() {
    for is_running in [false, true] {
        let test = test();
        let script = "mkdir /new /new/dir; echo x > /new/dir/f; rm /etc/group; \
                      echo x >> /etc/passwd; rm -r /opt1; mkdir /opt1; touch /tmp/.wh";
        // The image has these, so that all letters come up.
        test.write(
            "FROM busybox\nRUN mkdir -p /opt1/a /tmp && touch /opt1/a/b /etc/group /etc/passwd\n",
        );
        test.build(&[]);
        let tail = format!("{script}; {}", if is_running { "exec sleep 1000" } else { ":" });
        let line = ["run", "-d", "--network", "none", "--name", "c1", "test", "sh", "-ec", &tail];
        test.rbuild(&line).succeeded();
        if is_running {
            exec(&test, "until test -e /tmp/.wh; do sleep 0.01; done");
        } else {
            test.rbuild(&["wait", "c1"]).succeeded();
        }
        let expected = "C /etc\nD /etc/group\nC /etc/passwd\nA /new\nA /new/dir\nA /new/dir/f\n\
                        C /opt1\nD /opt1/a\nC /tmp\nA /tmp/.wh\n";
        assert_eq!(test.rbuild(&["diff", "c1"]).ok(), expected, "running: {is_running}");
        end(&test);
    }
    let missing = Test::empty().rbuild(&["diff", "nobody"]);
    assert!(missing.failed(1).contains("No such container: nobody"), "{missing}");
}

#[test]
fn a_commit_has_the_changes_and_the_settings_but_nothing_mounted() {
    let test = test();
    test.shell("mkdir bind; echo secret > bind/b");
    let bind = format!("{}:/bind", test.context().join("bind").display());
    let arguments = ["-v", &bind, "-v", "data:/data", "-e", "A=b", "-w", "/work", "-l", "x=y"];
    running(&test, &arguments, "echo v > /data/v; mkdir -p /work; echo w > w; rm /bin/vi");
    let commit =
        ["commit", "-a", "me", "-m", "why", "-c", "CMD cat w", "-c", "ENV C=d", "c1", "made"];
    let id = test.rbuild(&commit).ok();
    let image = inspect(&test, "made");
    assert_eq!(image["Id"].as_str(), Some(id.trim()));
    assert_eq!((&image["Author"], &image["Comment"]), (&"me".into(), &"why".into()));
    let config = &image["Config"];
    assert_eq!(config["WorkingDir"], "/work");
    assert_eq!(config["Labels"], serde_json::json!({"x": "y"}));
    let env: Vec<&str> = config["Env"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    assert!(env.contains(&"A=b") && env.contains(&"C=d"), "{env:?}");
    let layers = |image: &Value| image["RootFS"]["Layers"].as_array().unwrap().len();
    assert_eq!(layers(&image), layers(&inspect(&test, "busybox")) + 1);
    // It goes on, and what it has mounted is not in the image.
    assert_eq!(exec(&test, "cat /work/w"), "w\n");
    let run = |image: &str, script: &str| {
        test.rbuild(&["run", "--rm", "--network", "none", image, "sh", "-c", script])
    };
    let script = "cat w; for it in /data /bind /bin/vi; do test ! -e $it || echo $it; done";
    assert_eq!(run("made", script).ok(), "w\n");
    let by_settings = test.rbuild(&["run", "--rm", "--network", "none", "made"]);
    assert_eq!(by_settings.ok(), "w\n");
    end(&test);
    // The history says what was run.
    let history =
        test.rbuild(&["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "made"]);
    let first = history.ok().lines().next().unwrap().to_owned();
    assert!(first.starts_with("sh -ec echo v") && first.ends_with("|why"), "{first}");
}

#[test]
fn a_commit_of_nothing_makes_no_layer_and_a_bad_one_no_image() {
    let test = test();
    ended(&test, &[], ":");
    let id = test.rbuild(&["commit", "--no-pause", "c1"]).ok();
    let image = inspect(&test, id.trim());
    assert_eq!(image["RootFS"], inspect(&test, "busybox")["RootFS"]);
    for (line, text) in [
        (&["commit", "nobody"][..], "No such container: nobody"),
        (&["commit", "c1", "Bad"], "invalid reference format"),
        (&["commit", "-c", "RUN x", "c1", "bad"], "invalid change"),
    ] {
        let outcome = test.rbuild(line);
        assert!(outcome.failed(1).contains(text), "{outcome}");
    }
    assert!(!test.names().iter().any(|name| name.starts_with("bad")));
    end(&test);
}

#[test]
fn an_export_is_the_root_without_what_is_mounted() {
    for is_running in [false, true] {
        let test = test();
        test.shell("mkdir bind; echo secret > bind/b");
        let bind = format!("{}:/bind", test.context().join("bind").display());
        let script = "echo mine > /mine; rm /bin/vi; mkdir /run2; chmod 1777 /run2";
        let arguments = ["-v", bind.as_str()];
        if is_running {
            running(&test, &arguments, script)
        } else {
            ended(&test, &arguments, script)
        }
        let out = test.rbuild(&["export", "c1"]).succeeded().stdout.clone();
        std::fs::write(test.context().join("out.tar"), &out).unwrap();
        test.rbuild(&["export", "-o", "file.tar", "c1"]).succeeded();
        let mode = std::fs::metadata(test.context().join("file.tar")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        let seen = test.shell(
            "cmp out.tar file.tar; mkdir out; tar xf out.tar -C out; cat out/mine; \
             wc -c < out/etc/hosts; ls out/proc out/dev/shm out/bind 2>/dev/null | grep -v : | wc -w; \
             stat -c %a out/run2; test ! -e out/bin/vi; test -x out/bin/sh",
        );
        assert_eq!(seen, "mine\n0\n0\n1777\n", "running: {is_running}");
        end(&test);
    }
    let missing = Test::empty().rbuild(&["export", "nobody"]);
    assert!(missing.failed(1).contains("No such container: nobody"), "{missing}");
}
