//! Volumes: making, listing, inspecting, removing them.

use serde_json::Value;

use crate::support::Test;
use crate::support::containers::{run, world};

#[test]
fn a_volume_is_made_shown_and_removed() {
    let test = Test::empty();
    assert_eq!(test.rbuild(&["volume", "create", "--label", "a=b", "data"]).ok().trim(), "data");
    assert_eq!(test.rbuild(&["volume", "create", "data"]).ok().trim(), "data");
    let anonymous = test.rbuild(&["volume", "create"]).ok().trim().to_owned();
    assert_eq!(anonymous.len(), 64);
    let options = ["-o", "type=tmpfs", "-o", "device=tmpfs", "--opt", "o=size=1m"];
    let line = [&["volume", "create"], &options[..], &["data10"]].concat();
    test.rbuild(&line).succeeded();

    let shown = test.rbuild(&["volume", "inspect", "data"]).ok();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown[0]["Labels"], serde_json::json!({"a": "b"}));
    assert_eq!((&shown[0]["Driver"], &shown[0]["Scope"]), (&"local".into(), &"local".into()));
    let mountpoint = shown[0]["Mountpoint"].as_str().unwrap();
    assert!(mountpoint.ends_with("/volumes/data/_data"), "{mountpoint}");
    assert!(std::path::Path::new(mountpoint).is_dir());
    let format = "{{.Name}} {{.Options.o}} {{json .Labels}}";
    let shown = test.rbuild(&["volume", "inspect", "-f", format, "data10"]).ok();
    assert_eq!(shown, "data10 size=1m null\n");

    test.rbuild(&["volume", "create", "data2"]).succeeded();
    let table = test.rbuild(&["volume", "ls", "--filter", "name=data"]).ok();
    assert_eq!(table, "DRIVER    VOLUME NAME\nlocal     data\nlocal     data2\nlocal     data10\n");
    let labelled = test.rbuild(&["volume", "ls", "-q", "-f", "label=a=b"]).ok();
    assert_eq!(labelled, "data\n");
    let line = test.rbuild(&["volume", "ls", "-f", "name=data2", "--format", "json"]).ok();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["Name"], &line["Links"]), (&"data2".into(), &"N/A".into()));
    assert_eq!(test.rbuild(&["volume", "ls", "-qf", "dangling=true"]).ok().lines().count(), 4);

    std::fs::write(format!("{mountpoint}/file"), "x".repeat(2000)).unwrap();
    let pruned = test.rbuild(&["volume", "prune", "-f"]).ok();
    assert_eq!(pruned, format!("Deleted Volumes:\n{anonymous}\n\nTotal reclaimed space: 0B\n"));
    let pruned = test.rbuild(&["volume", "prune", "-af", "--filter", "label=a"]).ok();
    assert_eq!(pruned, "Deleted Volumes:\ndata\n\nTotal reclaimed space: 2kB\n");
    assert_eq!(test.rbuild(&["volume", "rm", "data2", "data10"]).ok(), "data2\ndata10\n");
    assert_eq!(test.rbuild(&["volume", "prune", "-af"]).ok(), "Total reclaimed space: 0B\n");
}

/// What tells a container of its network lies over what is mounted above it, and under what is mounted in its place.
#[test]
fn what_is_mounted_on_etc_hides_no_names() {
    let test = world();
    test.file("there/hosts", "mine\n").file("own", "own\n");
    let bind = format!("type=bind,source={},target=/etc", test.context().join("there").display());
    for mount in ["type=volume,target=/etc", "type=tmpfs,target=/etc", &bind] {
        let mounted = ["--rm", "--hostname", "me", "--mount", mount, "busybox"];
        let shown = run(&test, &[&mounted[..], &["cat", "/etc/hosts", "/etc/hostname"]].concat());
        let shown = shown.ok();
        assert!(shown.contains("localhost") && shown.ends_with("\nme\n"), "{mount}: {shown}");
    }
    let own = ["--rm", "-v", "there:/etc", "-v", "./own:/etc/hosts"];
    let shown = run(&test, &[&own[..], &["busybox", "cat", "/etc/hosts"]].concat());
    assert_eq!(shown.ok(), "own\n");
    // Files are looked at in the same order when it does not run.
    test.rbuild(&["create", "--name", "c1", "-v", "there:/etc", "busybox"]).succeeded();
    let copied = test.rbuild(&["cp", "c1:/etc/hostname", "-"]);
    assert!(String::from_utf8_lossy(&copied.succeeded().stdout).contains("hostname"), "{copied}");
}

/// Whoever gives a mount a volume's name keeps the volume, though rbuild once made the name up.
#[test]
fn a_volume_goes_with_a_container_only_if_that_gave_it_no_name() {
    let test = world();
    let volumes = || test.rbuild(&["volume", "ls", "-q"]).ok();
    let made = test.rbuild(&["volume", "create"]).ok();
    let by_name =
        [format!("{}:/d", made.trim()), format!("type=volume,src={},dst=/d", made.trim())];
    for (flag, mount) in [("-v", &by_name[0]), ("--mount", &by_name[1])] {
        run(&test, &["--rm", flag, mount, "busybox", "touch", "/d/x"]).succeeded();
        test.rbuild(&["create", "--name", "c1", flag, mount, "busybox"]).succeeded();
        test.rbuild(&["create", "--name", "c2", "--volumes-from", "c1", "busybox"]).succeeded();
        test.rbuild(&["rm", "-v", "c1"]).succeeded();
        test.rbuild(&["rm", "-v", "c2"]).succeeded();
        assert_eq!(volumes(), made, "{flag}");
    }
    test.rbuild(&["volume", "rm", made.trim()]).succeeded();
    // One that has no name goes with the last container that wants it gone.
    test.rbuild(&["create", "--name", "c1", "-v", "/d", "busybox"]).succeeded();
    test.rbuild(&["create", "--name", "c2", "--volumes-from", "c1", "busybox"]).succeeded();
    test.rbuild(&["rm", "-v", "c1"]).succeeded();
    assert_eq!(volumes().lines().count(), 1);
    test.rbuild(&["rm", "-v", "c2"]).succeeded();
    assert_eq!(volumes(), "");
}

#[test]
fn what_is_wrong_with_a_volume_is_said_as_docker_does() {
    let test = Test::empty();
    for (line, code, text) in [
        (&["volume", "rm", "missing"][..], 1, "get missing: no such volume"),
        (&["volume", "inspect", "missing"], 1, "get missing: no such volume"),
        (&["volume", "create", "a"], 1, "volume name is too short"),
        (&["volume", "create", "../a"], 1, "includes invalid characters for a local volume name"),
        (&["volume", "create", "-d", "ceph", "data"], 1, "plugin \"ceph\" not found"),
        (&["volume", "create", "-o", "foo=bar", "data"], 1, "invalid option: \"foo\""),
        (&["volume", "create", "-o", "type=nfs", "data"], 1, "missing required option: \"device\""),
        (&["volume", "ls", "-f", "until=1h"], 1, "invalid filter 'until'"),
        (&["volume", "prune", "-af", "--filter", "all=1"], 1, "conflicting options"),
    ] {
        let outcome = test.rbuild(line);
        assert!(outcome.failed(code).contains(text), "{line:?}: {outcome}");
    }
    test.rbuild(&["volume", "rm", "-f", "missing"]).succeeded();
    assert_eq!(test.rbuild(&["volume", "ls", "-q"]).ok(), "");
    // Nobody answers: nothing is removed.
    test.rbuild(&["volume", "create"]).succeeded();
    test.rbuild(&["volume", "prune"]).succeeded();
    assert_eq!(test.rbuild(&["volume", "ls", "-q"]).ok().lines().count(), 1);
}
