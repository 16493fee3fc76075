//! Images in the store: names, listing, tags, removal, import, running them.

use serde_json::json;

use crate::support::{Test, inspect, layer};

#[test]
fn names_are_normalised_and_bad_ones_refused() {
    let test = Test::of("FROM scratch\nLABEL a=b\n");
    for (given, shown) in [
        ("plain", "plain:latest"),
        ("docker.io/library/plain:2", "plain:2"),
        ("user/name:tag", "user/name:tag"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("Example.com/x", "Example.com/x:latest"),
    ] {
        test.rbuild(&["build", "-t", given, "."]).succeeded();
        assert!(test.names().contains(&shown.to_owned()), "{given}: {:?}", test.names());
    }
    for bad in ["Upper", "a:b:c", "-x/y", "a/", "a:", "a@sha256:short"] {
        let refused = test.rbuild(&["build", &format!("--tag={bad}"), "."]);
        assert!(refused.code != Some(0) && refused.stderr.contains("invalid"), "{bad}: {refused}");
    }
    let upper = test.rbuild(&["build", "-t", "Upper", "."]);
    assert!(upper.stderr.contains("repository name (library/Upper) must be lowercase"), "{upper}");
    test.file("Dockerfile", "FROM BusyBox\n");
    test.refused(&[], &["repository name (library/BusyBox) must be lowercase"]);
}

#[test]
fn every_way_to_say_a_name_finds_the_image() {
    let test = Test::of("FROM busybox\n");
    let id = inspect(&test, "busybox")["Id"].as_str().unwrap().to_owned();
    let short = &id["sha256:".len()..][..12];
    for name in
        ["busybox:latest", "library/busybox", "docker.io/library/busybox:latest", &id, short]
    {
        assert_eq!(inspect(&test, name)["Id"], id.as_str(), "{name}");
    }
    let missing = test.rbuild(&["image", "inspect", "missing"]);
    assert_eq!(
        (missing.code, String::from_utf8_lossy(&missing.stdout).trim()),
        (Some(1), "[]"),
        "{missing}"
    );
    assert!(missing.stderr.contains("No such image: missing"), "{missing}");
}

#[test]
fn images_lists_what_is_there() {
    let test = Test::of("FROM busybox\nLABEL a=b\n");
    test.build(&["-t", "other:1"]);
    let table = test.rbuild(&["images"]).ok();
    let mut lines = table.lines();
    let heading: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]);
    assert_eq!(lines.count(), 3, "{table}");
    let quiet = test.rbuild(&["images", "-q"]).ok();
    assert!(quiet.lines().all(|line| line.len() == 12), "{quiet}");
    assert_eq!(test.rbuild(&["images", "-q", "other"]).ok().lines().count(), 1);
    assert_eq!(
        test.rbuild(&["images", "-q", "--no-trunc", "busybox"]).ok().trim(),
        inspect(&test, "busybox")["Id"]
    );
    let json = test.rbuild(&["image", "ls", "--format", "json", "other"]).ok();
    let row: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!((&row["Repository"], &row["Tag"]), (&json!("other"), &json!("1")));
}

#[test]
fn a_tag_is_another_name_and_removing_the_last_one_removes_the_image() {
    let test = Test::of("FROM scratch\nCOPY Dockerfile /\n");
    let id = test.build(&[]).id();
    test.rbuild(&["tag", "test", "again:1"]).ok();
    let refused = test.rbuild(&["rmi", &id]);
    assert!(
        refused.failed(1).contains("image is referenced in multiple repositories"),
        "{refused}"
    );
    assert_eq!(test.rbuild(&["rmi", "again:1"]).ok(), "Untagged: again:1\n");
    let removed = test.rbuild(&["rmi", "test"]).ok();
    assert!(
        removed.starts_with("Untagged: test:latest\n")
            && removed.contains(&format!("Deleted: {id}")),
        "{removed}"
    );
    assert!(test.rbuild(&["rmi", "test"]).failed(1).contains("No such image: test"));
    assert_eq!(test.names(), ["busybox:latest"]);
}

#[test]
fn an_archive_is_imported_with_changes() {
    let test = Test::of("FROM imported\n-- root/file\ntext\n");
    test.shell("tar -C root -czf root.tar.gz .");
    let changes = ["-c", "CMD [\"sh\"]", "-c", "ENV A=b", "-c", "WORKDIR /w", "-m", "a message"];
    let id = test
        .rbuild(&[&["import"], changes.as_slice(), &["root.tar.gz", "imported:latest"]].concat())
        .ok();
    let inspected = inspect(&test, "imported");
    assert_eq!(inspected["Id"], id.trim());
    assert_eq!(inspected["Config"]["Cmd"], json!(["sh"]));
    assert_eq!(inspected["Config"]["ArgsEscaped"], json!(null), "only a build says so");
    assert_eq!(
        (&inspected["Config"]["Env"], &inspected["Config"]["WorkingDir"]),
        (&json!(["A=b"]), &json!("/w"))
    );
    assert_eq!(test.build(&[]).read("file"), "text\n");
    let input = fs_err::read(test.context().join("root.tar.gz")).unwrap();
    test.rbuild_with(&["import", "-", "piped"], &[], Some(&input)).succeeded();
    assert!(test.names().contains(&"piped:latest".to_owned()));
}

#[test]
fn a_built_image_runs_as_configured() {
    let test = Test::of(
        r#"
        FROM busybox
        ENV WHO=world
        WORKDIR /work
        USER daemon
        ENTRYPOINT ["sh", "-c"]
        CMD ["echo $WHO $(pwd) $(id -un); exit 3"]
        "#,
    );
    let image = test.build(&[]);
    let outcome = image.run(&[]);
    assert_eq!(
        (outcome.code, String::from_utf8_lossy(&outcome.stdout).as_ref()),
        (Some(3), "world /work daemon\n")
    );
    assert_eq!(image.run(&["echo given"]).ok(), "given\n");
    let missing = test.rbuild(&["run", "--rm", "busybox", "no-such-program"]);
    assert_eq!(missing.code, Some(127), "{missing}");
    let folder = test.rbuild(&["run", "--rm", "busybox", "/etc"]);
    assert_eq!(folder.code, Some(126), "{folder}");
    assert_eq!(test.rbuild(&["run", "--rm", "no-such-image"]).code, Some(125));
    let unknown = test.rbuild(&["run", "--rm", "--no-such-flag", "busybox"]);
    assert_eq!(unknown.code, Some(125), "{unknown}");
}

#[test]
fn disk_use_is_told() {
    let test = Test::of("FROM busybox\nRUN head -c 3000000 /dev/urandom > /big\n");
    test.build(&[]);
    let used = test.rbuild(&["system", "df"]).ok();
    assert!(used.contains("Images") && used.contains("Build Cache"), "{used}");
}

#[test]
fn history_tells_each_step_and_its_size() {
    let test = Test::of("FROM busybox\nRUN head -c 3000000 /dev/zero > /big\nENV A=b\n");
    test.build(&[]);
    let table = test.rbuild(&["history", "test"]).ok();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("IMAGE ") && lines[0].ends_with("COMMENT"), "{table}");
    assert!(lines[1].contains("ENV A=b") && lines[1].contains("0B"), "{table}");
    assert!(lines[2].starts_with("<missing>") && lines[2].contains("3MB"), "{table}");
    let sizes =
        test.rbuild(&["image", "history", "-H=false", "--format", "{{.Size}}", "test"]).ok();
    assert!(sizes.lines().any(|size| size.parse::<u64>().unwrap() > 3_000_000), "{sizes}");
    let ids = test.rbuild(&["history", "-q", "--no-trunc", "test"]).ok();
    assert_eq!(ids.lines().next().unwrap(), inspect(&test, "test")["Id"]);
    assert!(test.rbuild(&["history", "missing"]).failed(1).contains("No such image: missing"));
}

#[test]
fn images_are_filtered() {
    let test = Test::of("FROM busybox\nLABEL colour=red\n");
    let old = test.build(&[]).id();
    test.write("FROM busybox\nLABEL colour=blue\n");
    test.build(&["-t", "other"]);
    let list = |filters: &[&str]| {
        let mut line = vec!["images", "--format", "{{.Repository}}:{{.Tag}}"];
        filters.iter().for_each(|filter| line.extend(["--filter", filter]));
        let mut names: Vec<_> = test.rbuild(&line).ok().lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(list(&["dangling=true"]), "<none>:<none>");
    assert_eq!(list(&["dangling=false", "label=colour"]), "other:latest test:latest");
    assert_eq!(list(&["label=colour=red"]), "<none>:<none>");
    assert_eq!(list(&["reference=b*x"]), "busybox:latest");
    assert_eq!(test.rbuild(&["images", "-f", "color=red"]).code, Some(1));
    let pruned = test.rbuild(&["image", "prune", "-f"]).ok();
    assert!(
        pruned.contains(&format!("deleted: {old}")) && pruned.contains("Total reclaimed space: "),
        "{pruned}"
    );
    assert_eq!(test.names(), ["busybox:latest", "other:latest", "test:latest"]);
    test.rbuild(&["image", "prune", "-a", "-f", "--filter", "label=colour=blue"]).ok();
    assert_eq!(test.names(), ["busybox:latest"]);
    test.rbuild(&["image", "prune", "-a"]).ok();
    assert_eq!(test.names(), ["busybox:latest"], "nobody said yes");
    test.rbuild_with(&["image", "prune", "-a"], &[], Some(b"y\n")).succeeded();
    assert!(test.names().is_empty());
}

#[test]
fn an_image_with_several_names_goes_by_force() {
    let test = Test::of("FROM scratch\nCOPY Dockerfile /\n");
    let id = test.build(&["-t", "again:1"]).id();
    let removed = test.rbuild(&["image", "rm", "-f", &id[7..19]]).ok();
    assert_eq!(
        removed.lines().take(3).collect::<Vec<_>>(),
        ["Untagged: again:1", "Untagged: test:latest", &format!("Deleted: {id}")]
    );
    assert_eq!(test.rbuild(&["rmi", "-f", "missing"]).code, Some(0));
    assert_eq!(test.rbuild(&["tag", "missing", "x"]).code, Some(1));
    assert_eq!(test.rbuild(&["tag", "busybox", "Upper"]).code, Some(1));
    assert_eq!(test.names(), ["busybox:latest"]);
}

#[test]
fn everything_that_is_pruned_leaves_the_disk() {
    let test = Test::of(
        "FROM busybox\nRUN --mount=type=cache,target=/c head -c 3000000 /dev/urandom | tee /c/x > /big\n",
    );
    test.build(&[]);
    let size = |of: &str| {
        let line = format!("{{{{if eq .Type \"{of}\"}}}}{{{{.Size}}}}{{{{end}}}}");
        test.rbuild(&["system", "df", "--format", &line]).ok().trim().to_owned()
    };
    assert!(
        size("Build Cache").starts_with("3.") && size("Build Cache").ends_with("MB"),
        "{}",
        size("Build Cache")
    );
    test.rbuild(&["rmi", "test"]).ok();
    assert_eq!(test.build(&[]).cached(), 1, "the build cache outlives the image");
    test.rbuild(&["system", "prune", "-a", "-f"]).ok();
    assert_eq!((size("Images").as_str(), size("Build Cache").as_str()), ("0B", "0B"));
    let left = test.shell("find \"$RBUILD_ROOT/layers\" \"$RBUILD_ROOT/images/blobs\" \"$RBUILD_ROOT/cache/mounts\" \"$RBUILD_ROOT/tmp\" -mindepth 1 ! -path '*/sha256'");
    assert_eq!(left, "");
}

#[test]
fn scripts_that_ask_for_versions_and_builders_are_answered() {
    let test = Test::empty();
    for (line, part) in [
        (&["version"][..], "Version:"),
        (&["version", "--format", "{{.Server.Version}}"], "."),
        (&["version", "--format", "json"], "\"ApiVersion\""),
        (&["info"], "Storage Driver: "),
        (&["system", "info", "--format", "{{.OSType}}"], "linux"),
        (&["buildx", "version"], "github.com/docker/buildx v0."),
        (&["buildx", "ls"], "default"),
        (&["buildx", "create", "--name", "ci", "--driver", "docker-container", "--use"], "ci"),
        (&["buildx", "inspect", "--bootstrap", "--builder", "ci"], "Platforms:"),
        (&["buildx", "use", "ci"], ""),
        (&["buildx", "rm", "ci"], ""),
        (&["buildx", "du"], "Total:"),
        (&["buildx", "prune", "-f"], "Total"),
    ] {
        let answer = test.rbuild(line).ok();
        assert!(answer.contains(part), "{line:?}: {answer}");
    }
    assert!(test.rbuild(&["buildx", "bake"]).failed(1).contains("not supported"));
}

#[test]
fn a_damaged_image_can_be_removed() {
    let test = Test::of("FROM scratch\nCOPY Dockerfile /\n");
    test.build(&[]);
    let digest = test.rbuild(&["images", "--format", "{{.Digest}}", "test"]).ok();
    let hex = digest.trim().strip_prefix("sha256:").unwrap();
    test.shell(&format!("echo > \"$RBUILD_ROOT/images/blobs/sha256/{hex}\""));
    let listed = test.rbuild(&["images", "-q"]);
    assert_eq!(listed.ok().lines().count(), 1);
    assert!(listed.stderr.contains("cannot be read"), "{listed}");
    let removed = test.rbuild(&["rmi", "test"]).ok();
    assert!(removed.starts_with("Untagged: test:latest\nDeleted: sha256:"), "{removed}");
    assert_eq!(test.rbuild(&["images", "-q"]).succeeded().stderr, "");
}

#[test]
fn an_archive_that_is_imported_can_be_run_and_another_is_refused() {
    let test = Test::of("FROM scratch\n");
    let import = |text: &str, driver: &str| {
        test.file("more.tar", layer(text));
        test.shell("cp \"$RBUILD_ROOT\"/layers/*/layer.tar root.tar; tar -Af root.tar more.tar");
        let store = format!("../{driver}");
        let line = ["--root", &store, "--storage-driver", driver, "import", "root.tar", "odd"];
        let imported = test.rbuild(&line);
        if imported.code == Some(0) {
            let line = "--rm --network none odd cat /tmp/file";
            let line = format!("--root {store} --storage-driver {driver} run {line}");
            let line: Vec<_> = line.split(' ').collect();
            return test.rbuild(&line).ok();
        }
        imported.failed(1).to_owned()
    };
    for driver in ["erofs", "dir"] {
        if driver == "erofs" && std::env::var("RBUILD_DRIVER").is_ok_and(|only| only == "dir") {
            continue;
        }
        for (text, expected) in [
            ("link -> /tmp\nlink/file: by a link\n", "by a link"),
            ("link -> ../../../tmp\nlink/file: inside the root\n", "inside the root"),
            ("tmp/other: linked\ntmp/file => /tmp/other\n", "linked"),
            (
                "link -> /nowhere\nlink/file: lost\n",
                "ERROR: the archive's entry \"link/file\" cannot be part of an image: cannot create the directory \"link\": Not a directory (os error 20)\n",
            ),
            (
                "tmp/file => missing\n",
                "ERROR: layer cannot be imported: \"tmp/file\" is a hard link to \"missing\", which does not exist\n",
            ),
        ] {
            assert_eq!(import(text, driver), expected, "{driver}");
        }
    }
}

#[test]
fn an_image_that_a_container_uses_goes_only_by_force() {
    let test = Test::of("FROM busybox\nRUN echo 1 > /1\n");
    let id = test.build(&[]).id();
    let short = &id["sha256:".len()..][..12];
    let run = ["run", "-d", "--network", "none", "--name", "web", "test", "sleep", "100"];
    let container = test.rbuild(&run).ok()[..12].to_owned();
    let refused = |line: &[&str], conflict: &str| {
        let refused = test.rbuild(line);
        assert_eq!(refused.failed(1), format!("Error: conflict: unable to {conflict}\n"));
    };
    let by_name = format!(
        "remove repository reference \"test\" (must force) - container {container} is using its referenced image {short}"
    );
    let by_running = format!(
        "delete {short} (cannot be forced) - image is being used by running container {container}"
    );
    refused(&["rmi", "test"], &by_name);
    refused(&["rmi", &id], &by_running);
    refused(&["rmi", "-f", &id], &by_running);
    assert_eq!(test.rbuild(&["rmi", "-f", "test"]).ok(), "Untagged: test:latest\n");
    refused(&["rmi", "-f", &id], &by_running);
    test.rbuild(&["tag", short, "test"]).ok();
    test.rbuild(&["kill", "web"]).ok();
    test.rbuild(&["wait", "web"]).ok();
    refused(&["rmi", "test"], &by_name);
    let by_stopped = format!(
        "delete {short} (must be forced) - image is being used by stopped container {container}"
    );
    refused(&["rmi", short], &by_stopped);
    let removed = test.rbuild(&["rmi", "-f", short]).ok();
    assert_eq!(removed, format!("Untagged: test:latest\nDeleted: {id}\n"), "no layer goes");
    assert_eq!(test.rbuild(&["start", "web"]).ok(), "web\n");
    assert_eq!(test.rbuild(&["exec", "web", "cat", "/1"]).ok(), "1\n");
}
