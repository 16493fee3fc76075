//! Namespaces, devices, filters and inits other than the usual ones.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use rustix::process::Signal;

use super::{Machine, chain, wait_until};
use crate::container::Profile;
use crate::container::cdi::Registry;
use crate::container::spec::{Access, Device, Ipc, Namespace, Network, Seccomp};

fn namespace(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

#[test]
fn the_host_s_namespaces_are_had_when_asked_for() {
    let mut machine = Machine::new();
    let kinds = ["pid", "uts", "ipc", "cgroup"];
    let show = "for kind in pid uts ipc cgroup; do readlink /proc/self/ns/$kind; done";
    let own = machine.sh(show);
    assert!(kinds.iter().all(|kind| !own.contains(&namespace(kind))), "{own}");
    machine.spec.pid = Namespace::Host;
    machine.spec.uts = Namespace::Host;
    machine.spec.cgroup_namespace = Namespace::Host;
    machine.spec.ipc = Ipc::Host;
    let expected: Vec<String> = kinds.iter().map(|kind| namespace(kind)).collect();
    assert_eq!(machine.sh(show), expected.join("\n"));
    let mark = format!("rbuild-test-{}", std::process::id());
    machine.sh(&format!("echo shared > /dev/shm/{mark}"));
    assert_eq!(fs::read_to_string(format!("/dev/shm/{mark}")).unwrap(), "shared\n");
    fs::remove_file(format!("/dev/shm/{mark}")).unwrap();
    machine.spec.sysctls = vec![("kernel.msgmax".to_owned(), "9000".to_owned())];
    let error = machine.run(&["true"]).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "sysctl \"kernel.msgmax\" not allowed in host ipc namespace");
}

#[test]
fn another_container_s_namespaces_are_joined() {
    let mut machine = Machine::new();
    machine.spec.network = Network::None;
    machine.spec.domainname = Some("example.org".to_owned());
    let first = machine.start(&["sh", "-c", "echo hello > /dev/shm/word; exec sleep 1000"]);
    let of = |kind: &str| PathBuf::from(format!("/proc/{}/ns/{kind}", first.container.pid));
    let mut second = Machine::new();
    second.spec.hostname = "second".to_owned();
    second.spec.pid = Namespace::Path(of("pid"));
    second.spec.uts = Namespace::Path(of("uts"));
    second.spec.network = Network::Path(of("net"));
    second.spec.ipc = Ipc::Join { namespace: of("ipc"), mounts: of("mnt") };
    let shared = "hostname; cat /dev/shm/word; cat /proc/1/cmdline | tr '\\0' ' '; echo; \
                  cat /proc/sys/kernel/domainname; ls /sys/class/net; test $$ != 1";
    wait_until(|| second.run(&["cat", "/dev/shm/word"]).unwrap().stdout == "hello\n");
    assert_eq!(second.sh(shared), "machine\nhello\nsleep 1000 \nexample.org\nlo");
    // Its own processes end with it, the other's do not.
    let guest = second.start(&["sh", "-c", "sleep 999 & exec sleep 998"]);
    wait_until(|| guest.running().processes().unwrap().len() == 2);
    assert_eq!(first.running().processes().unwrap().len(), 3);
    guest.end();
    wait_until(|| first.running().processes().unwrap().len() == 1);
}

#[test]
fn a_container_may_be_without_shared_memory() {
    let mut machine = Machine::new();
    machine.spec.ipc = Ipc::NoShm;
    assert_eq!(machine.sh("ls -d /dev/shm 2>/dev/null || echo none"), "none");
}

#[test]
fn devices_that_were_asked_for_can_be_used() {
    let mut machine = Machine::new();
    let directory = machine.path("devices");
    fs::create_dir_all(directory.join("sub")).unwrap();
    let node = |name: &str, minor| {
        let (kind, mode) =
            (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::from_raw_mode(0o666));
        let number = rustix::fs::makedev(1, minor);
        rustix::fs::mknodat(rustix::fs::CWD, directory.join(name), kind, mode, number).unwrap();
    };
    // The kernel's log, which is not among the usual devices.
    node("log", 11);
    node("sub/zero", 5);
    fs::write(directory.join("file"), "").unwrap();
    let device = |host: &str, container: &str, access: &str| Device {
        host: directory.join(host),
        container: container.into(),
        access: access.parse().unwrap(),
    };
    machine.spec.devices =
        vec![device("log", "/dev/mylog", "w"), device("sub", "/dev/many", "rwm")];
    let script = "ls -l /dev/mylog | cut -c1; : > /dev/mylog && echo open; \
                  head -c1 /dev/many/zero | wc -c; mknod /fuse c 10 229; head -c1 /fuse 2>&1; true";
    let text = machine.sh(script);
    assert!(text.starts_with("c\nopen\n1\n"), "{text}");
    assert!(text.ends_with("Operation not permitted"), "{text}");
    machine.spec.devices = vec![device("log", "/dev/mylog", "r")];
    let outcome = machine.run(&["sh", "-c", ": > /dev/mylog"]).unwrap();
    assert!(outcome.stderr.contains("Operation not permitted"), "{outcome:?}");

    machine.spec.devices = Vec::new();
    machine.spec.device_rules = vec!["c 1:11 w".parse().unwrap()];
    assert_eq!(machine.sh("mknod /log c 1 11; : > /log && echo open"), "open");
    machine.spec.device_rules = Vec::new();
    for (host, text) in [("nope", "No such file or directory"), ("file", "not a device node")] {
        machine.spec.devices = vec![device(host, "/dev/x", "rwm")];
        let error = machine.run(&["true"]).map(drop).unwrap_err();
        assert!(chain(&error).contains(text), "{}", chain(&error));
    }
}

#[test]
fn a_privileged_container_has_all_devices() {
    let mut machine = Machine::new();
    machine.spec.privileged = true;
    let access = Access { read: true, write: true, make: true };
    machine.spec.devices =
        vec![Device { host: "/dev/null".into(), container: "/dev/nothing".into(), access }];
    assert_eq!(machine.sh("echo x > /dev/nothing; test -c /dev/kmsg && echo kmsg"), "kmsg");
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn a_profile_of_the_user_s_confines_the_container() {
    let mut machine = Machine::new();
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
        {"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
    machine.spec.seccomp = Seccomp::Profile(Box::new(Profile::parse(profile).unwrap()));
    let outcome = machine.run(&["mkdir", "/x"]).unwrap();
    assert!(outcome.stderr.contains("No space left on device"), "{outcome:?}");
    assert_eq!(machine.run(&["sh", "-c", "hostname x; echo $?"]).unwrap().stdout, "159\n");
    machine.spec.seccomp = Seccomp::Unconfined;
    assert_eq!(machine.sh("grep Seccomp: /proc/self/status | cut -f2; mkdir /x"), "0");
}

#[test]
fn hidden_paths_can_be_chosen() {
    let mut machine = Machine::new();
    machine.spec.masked_paths = Some(vec!["/etc/passwd".to_owned(), "/nowhere".to_owned()]);
    machine.spec.read_only_paths = Some(vec!["/etc".to_owned()]);
    let text = machine.sh(
        "wc -c < /etc/passwd; wc -c < /proc/timer_list | grep -c -v '^0$'; touch /etc/x 2>&1; true",
    );
    assert!(text.starts_with("0\n") && text.ends_with("Read-only file system"), "{text}");
    machine.spec.masked_paths = Some(Vec::new());
    machine.spec.read_only_paths = Some(Vec::new());
    assert_eq!(machine.sh("echo 1 > /proc/sys/net/ipv4/conf/lo/forwarding 2>/dev/null; test -w /proc/sys && touch /etc/x && echo w"), "w");
}

#[test]
fn an_init_passes_signals_on_and_reaps() {
    let mut machine = Machine::new();
    machine.spec.init = true;
    let shown = "cat /proc/1/cmdline | tr '\\0' ' '; echo; ls /proc/1/fd | tr '\\n' ' '; \
                 (sleep 0.01 &); sleep 0.2; cat /proc/[0-9]*/stat | grep -c ' Z '; test $$ != 1";
    let outcome = machine.run(&["sh", "-c", shown]).unwrap();
    assert!(outcome.stdout.starts_with("/sbin/docker-init -- sh -c cat"), "{outcome:?}");
    assert!(outcome.stdout.contains("\n0 1 2 3 0\n"), "{outcome:?}");
    assert_eq!(machine.run(&["sh", "-c", "exit 9"]).unwrap().exit.code, 9);
    assert_eq!(machine.run(&["sh", "-c", "kill -9 $$"]).unwrap().exit.code, 137);
    let error = machine.run(&["foo"]).map(drop).unwrap_err();
    assert_eq!(
        (error.exit_code(), chain(&error)),
        (127, "exec: \"foo\": executable file not found in $PATH".to_owned())
    );

    // A program without a handler: as process 1 the signal would not end it.
    let sleeper = machine.start(&["sleep", "1000"]);
    sleeper.container.kill(Signal::TERM).unwrap();
    assert_eq!(sleeper.container.wait().unwrap().code, 143);
}

#[test]
fn an_init_with_a_terminal_has_its_program_in_the_foreground() {
    let mut machine = Machine::new();
    machine.spec.init = true;
    machine.spec.process.terminal = true;
    machine.spec.process.window = Some((10, 20));
    let mut sleeper = machine.start(&["sh", "-c", "stty size; read line; echo got $line"]);
    let master = sleeper.container.terminal.take().unwrap();
    rustix::io::write(&master, b"it\n").unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 256]);
    while let Ok(length @ 1..) = rustix::io::read(&master, &mut buffer) {
        text += &String::from_utf8_lossy(&buffer[..length]);
    }
    assert!(text.contains("10 20") && text.contains("got it"), "{text}");
    assert_eq!(sleeper.container.wait().unwrap().code, 0);
}

#[test]
fn an_open_directory_of_the_launching_process_s_is_no_way_out() {
    let mut machine = Machine::new();
    let open = fs::File::open("/").unwrap();
    // Not closed on exec, as one that was inherited from a shell may be.
    let inherited = rustix::io::dup(&open).unwrap();
    for number in 3..16 {
        machine.spec.process.cwd = PathBuf::from(format!("/proc/self/fd/{number}"));
        if let Ok(outcome) = machine.run(&["ls"]) {
            assert!(!outcome.stdout.contains("work"), "descriptor {number}: {outcome:?}");
        }
    }
    drop(inherited);
}

#[test]
fn a_described_device_can_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let description = "kind: example.com/null\ndevices:\n- name: a\n  containerEdits:\n    env: \
                       [NULL=yes]\n    deviceNodes:\n    - path: /dev/nothing\n      hostPath: \
                       /dev/null\n    additionalGids: [77]\n";
    fs::write(directory.path().join("null.yaml"), description).unwrap();
    let registry = Registry::load(&[directory.path()]).unwrap();
    let edits = registry.edits(&["example.com/null=a".to_owned()]).unwrap();
    let mut machine = Machine::new();
    machine.spec.devices = edits.devices;
    machine.spec.process.env.extend(edits.env);
    machine.spec.process.additional_groups = edits.additional_groups;
    assert_eq!(
        machine.sh("echo x > /dev/nothing; test -c /dev/nothing && echo $NULL; id -G"),
        "yes\n0 77"
    );
}
