//! Containers that are changed, also by several at once: their networks, limits and names, and what
//! a running one is told of that.

use std::process::{Child, Stdio};

use crate::support::Test;
use crate::support::containers::{run, shown, soon, world};

/// Networks of a test, gone with it.
struct Networks<'a>(&'a Test, Vec<String>);

impl<'a> Networks<'a> {
    fn create(test: &'a Test, count: usize) -> Self {
        let name = |number| format!("changed{}-{number}", std::process::id());
        let names: Vec<String> = (0..count).map(name).collect();
        for name in &names {
            test.rbuild(&["network", "create", name]).succeeded();
        }
        Networks(test, names)
    }
}

impl Drop for Networks<'_> {
    fn drop(&mut self) {
        let _ = self.0.rbuild(&["rm", "-f", "c1"]);
        self.1.iter().for_each(|name| drop(self.0.rbuild(&["network", "rm", name])));
    }
}

fn begin(test: &Test, arguments: &[&str]) -> Child {
    let mut command = test.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn connected(test: &Test) -> Vec<String> {
    let names = "{{range $name, $it := .NetworkSettings.Networks}}{{$name}} {{end}}";
    shown(test, "c1", names).split_whitespace().map(str::to_owned).collect()
}

/// Changes a container in all ways at once; each must succeed and none may be lost.
fn change_at_once(test: &Test, networks: &[String]) {
    let mut changes: Vec<Child> =
        networks.iter().map(|name| begin(test, &["network", "connect", name, "c1"])).collect();
    changes.push(begin(test, &["update", "--pids-limit", "77", "c1"]));
    changes.push(begin(test, &["update", "--memory", "64m", "--memory-swap", "64m", "c1"]));
    changes.push(begin(test, &["update", "--restart", "on-failure:3", "c1"]));
    for change in changes {
        let output = change.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let limits =
        "{{.HostConfig.PidsLimit}} {{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(shown(test, "c1", limits), "77 67108864 on-failure");
}

#[test]
fn changes_of_a_running_container_at_once_are_all_made() {
    let test = world();
    let networks = Networks::create(&test, 6);
    test.rbuild(&["run", "-d", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
    change_at_once(&test, &networks.1);
    let mut expected = vec!["bridge".to_owned()];
    expected.extend(networks.1.clone());
    assert_eq!(connected(&test), expected);
    let devices = test.rbuild(&["exec", "c1", "ls", "/sys/class/net"]).ok();
    assert_eq!(devices.lines().filter(|name| name.starts_with("eth")).count(), 7, "{devices}");
    let left: Vec<Child> = networks
        .1
        .iter()
        .map(|name| begin(&test, &["network", "disconnect", name, "c1"]))
        .collect();
    assert!(left.into_iter().all(|mut child| child.wait().unwrap().success()));
    assert_eq!(connected(&test), ["bridge"]);
}

#[test]
fn changes_of_a_stopped_container_at_once_are_all_made() {
    let test = world();
    let networks = Networks::create(&test, 6);
    test.rbuild(&["create", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
    change_at_once(&test, &networks.1);
    test.rbuild(&["start", "c1"]).succeeded();
    assert_eq!(connected(&test).len(), 7);
}

#[test]
fn a_change_that_is_refused_is_taken_back() {
    let test = world();
    let networks = Networks::create(&test, 1);
    let [network] = networks.1.as_slice() else { panic!("one") };
    test.rbuild(&["run", "-d", "--name", "c1", "busybox", "sleep", "600"]).succeeded();
    let connect = ["network", "connect", "--ip", "192.0.2.1", network, "c1"];
    let refused = test.rbuild(&connect);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert_eq!(connected(&test), ["bridge"]);
    // Nothing of it is left that the next change or start would stumble over.
    test.rbuild(&["update", "--pids-limit", "77", "c1"]).succeeded();
    test.rbuild(&["restart", "-t", "0", "c1"]).succeeded();
    assert_eq!(connected(&test), ["bridge"]);
}

#[test]
fn a_running_container_is_told_of_its_networks_as_they_change() {
    let test = world();
    let networks = Networks::create(&test, 1);
    let [network] = networks.1.as_slice() else { panic!("one") };
    let line = ["run", "-d", "--name", "c1", "--hostname", "box", "busybox", "sleep", "600"];
    test.rbuild(&line).succeeded();
    let read = |file: &str| test.rbuild(&["exec", "c1", "cat", file]).ok();
    test.rbuild(&["exec", "c1", "sh", "-c", "echo '192.0.2.9 mine' >>/etc/hosts"]).succeeded();
    let before = read("/etc/hosts");
    test.rbuild(&["network", "connect", network, "c1"]).succeeded();
    let template = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
    let address = shown(&test, "c1", &template);
    assert_eq!(read("/etc/hosts"), format!("{before}{address}\tbox\n"));
    assert!(read("/etc/resolv.conf").starts_with("nameserver 127.0.0.11\n"));
    test.rbuild(&["network", "disconnect", network, "c1"]).succeeded();
    assert_eq!(read("/etc/hosts"), before);
}

#[test]
fn what_was_mounted_over_the_hosts_file_is_left_alone() {
    let test = world();
    let networks = Networks::create(&test, 1);
    test.file("hosts", "192.0.2.9 mine\n");
    let mount = format!("{}:/etc/hosts", test.context().join("hosts").display());
    test.rbuild(&["run", "-d", "--name", "c1", "-v", &mount, "busybox", "sleep", "600"])
        .succeeded();
    test.rbuild(&["network", "connect", &networks.1[0], "c1"]).succeeded();
    assert_eq!(test.rbuild(&["exec", "c1", "cat", "/etc/hosts"]).ok(), "192.0.2.9 mine\n");
}

#[test]
fn a_renamed_container_is_found_by_its_new_name() {
    let test = world();
    let networks = Networks::create(&test, 1);
    let [network] = networks.1.as_slice() else { panic!("one") };
    let line = ["run", "-d", "--network", network, "--name", "old1", "busybox", "sleep", "600"];
    test.rbuild(&line).succeeded();
    test.rbuild(&["rename", "old1", "c1"]).succeeded();
    let ask = |name: &str| test.rbuild(&["exec", "c1", "nslookup", name]).code == Some(0);
    soon("it is known by its new name", || ask("c1"));
    assert!(!ask("old1"), "nobody has the old name");
    test.rbuild(&["create", "--name", "old1", "busybox"]).succeeded();
    test.rbuild(&["rename", "old1", "c1"]).failed(1);
    assert_eq!(shown(&test, "old1", "{{.Name}}"), "/old1");
}

#[test]
fn the_file_with_the_id_appears_whole_or_not_at_all() {
    let test = world();
    let file = test.context().join("cid");
    let path = file.to_str().unwrap();
    run(&test, &["--name", "c1", "--cidfile", path, "busybox", "true"]).succeeded();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), shown(&test, "c1", "{{.Id}}"));
    let again = run(&test, &["--cidfile", path, "busybox", "true"]);
    assert!(again.failed(125).contains("container ID file found"), "{again}");
    assert_eq!(test.rbuild(&["ps", "-aq"]).ok().lines().count(), 1, "nothing was made");
}
