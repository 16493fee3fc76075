//! Images in the store: names, listing, tags, removal, import, running them.

use serde_json::json;

use crate::support::{Test, inspect};

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
    assert!(upper.stderr.contains("repository name must be lowercase"), "{upper}");
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
    let unknown = test.rbuild(&["run", "--rm", "--no-such-flag", "busybox"]);
    assert_eq!(unknown.code, Some(125), "{unknown}");
}

#[test]
fn disk_use_is_told_and_what_nothing_needs_is_pruned() {
    let test = Test::of("FROM busybox\nRUN head -c 3000000 /dev/urandom > /big\n");
    test.build(&[]);
    let used = test.rbuild(&["system", "df"]).ok();
    assert!(used.contains("Images") && used.contains("Build Cache"), "{used}");
    test.rbuild(&["rmi", "test"]).ok();
    let pruned = test.rbuild(&["builder", "prune", "-a", "-f"]).ok();
    assert!(pruned.contains("Total"), "{pruned}");
    assert_eq!(test.build(&[]).cached(), 0);
}
