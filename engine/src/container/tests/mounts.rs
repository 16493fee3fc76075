//! What a container sees of files and devices.

use std::fs;
use std::path::{Path, PathBuf};

use cache::lower::Lower;

use super::{Machine, bind, chain, mount};
use crate::container::spec::{Mount, MountSource, Rootfs};

/// The entries of a tree, with a mark for each kind.
fn entries(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.push(format!("{name}/"));
            found.extend(entries(&entry.path()).iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

#[test]
fn mounts_are_made_in_order_and_links_stay_inside() {
    let mut machine = Machine::new();
    let (host, lower) = (machine.path("host"), machine.path("lower"));
    fs::create_dir_all(host.join("sub")).unwrap();
    fs::write(host.join("file"), "from the host\n").unwrap();
    std::os::unix::fs::symlink("/etc", host.join("out")).unwrap();
    std::os::unix::fs::symlink("/sub/../..", host.join("up")).unwrap();
    std::os::unix::fs::symlink("/run/nowhere/target", lower.join("etc/link")).unwrap();
    std::os::unix::fs::symlink("/../../../..", lower.join("escape")).unwrap();
    let within = |path: &str| MountSource::BindIn { root: host.clone(), path: PathBuf::from(path) };
    machine.spec.mounts = vec![
        bind(&host, "/data"),
        mount("/data/sub", MountSource::Tmpfs { size: Some(1 << 20), mode: 0o1777 }),
        Mount { read_only: true, ..bind(&host.join("file"), "/etc/link") },
        mount("/in", within("up")),
        mount("/escape/there", within("sub")),
        mount(
            "/run/secrets/key",
            MountSource::File { bytes: b"secret".to_vec(), mode: 0o400, uid: 33, gid: 34 },
        ),
        Mount {
            read_only: true,
            ..mount(
                "/lowers",
                MountSource::Overlay {
                    lower: [lower.join("etc"), host.clone()].map(Lower::Directory).into(),
                    upper: None,
                    path: PathBuf::from("/"),
                },
            )
        },
    ];
    let script = "ls /data /in /lowers /escape/there | tr '\\n' ' '; cat /run/nowhere/target;
                  stat -c '%a %u %g' /run/secrets/key; cat /run/secrets/key; echo;
                  echo x > /etc/link; touch /data/sub/new /data/made; df -m /data/sub | tail -1 | tr -s ' ' | cut -d' ' -f2";
    let outcome = machine.run(&["sh", "-c", script]).unwrap();
    assert_eq!(
        outcome.stdout,
        "/data: file out sub up  /escape/there:  /in: file out sub up  /lowers: file group link out passwd sub up from the host\n400 33 34\nsecret\n1\n"
    );
    assert!(outcome.stderr.contains("Read-only file system"), "{outcome:?}");
    assert!(host.join("made").exists() && !host.join("sub/new").exists());

    std::os::unix::fs::symlink("/proc/self", lower.join("sly")).unwrap();
    machine.spec.mounts = vec![bind(&host, "/sly/attr")];
    assert!(machine.run(&["true"]).is_err());
    machine.spec.mounts = vec![bind(&host, "/escape")];
    let error = machine.run(&["true"]).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "mount /escape: destination can't be '/'");
    machine.spec.mounts = vec![mount("/x", within("/out/passwd"))];
    let error = machine.run(&["true"]).map(drop).unwrap_err();
    assert!(chain(&error).contains("No such file"), "{}", chain(&error));
}

#[test]
fn mount_points_do_not_stay_in_the_layer() {
    let mut machine = Machine::new();
    let (upper, lower) = (machine.path("upper"), machine.path("lower"));
    let before = fs::metadata(lower.join("etc")).unwrap().modified().unwrap();
    fs::create_dir_all(lower.join("usr/share")).unwrap();
    let file = || MountSource::File { bytes: b"x".to_vec(), mode: 0o644, uid: 0, gid: 0 };
    machine.spec.mounts = vec![
        mount("/etc/hosts", file()),
        mount("/etc/resolv.conf", file()),
        mount("/usr/share/deep/er", MountSource::Tmpfs { size: None, mode: 0o755 }),
        mount("/cache", MountSource::Tmpfs { size: None, mode: 0o755 }),
    ];
    let outcome = machine.run(&["sh", "-c", "cat /etc/hosts; ls /usr/share"]).unwrap();
    assert_eq!(outcome.stdout, "xdeep\n");
    crate::container::remove_mount_points(&upper, &outcome.exit.created);
    assert_eq!(entries(&upper), Vec::<String>::new());

    // What the container did beside them stays.
    let outcome = machine.run(&["sh", "-c", "echo x > /etc/new; chmod 700 /usr/share"]).unwrap();
    crate::container::remove_mount_points(&upper, &outcome.exit.created);
    assert_eq!(entries(&upper), ["etc/", "etc/new", "usr/", "usr/share/"]);
    let after = fs::metadata(upper.join("etc")).unwrap().modified().unwrap();
    assert!(after > before, "a file was added");
}

#[test]
fn a_read_only_root_cannot_be_written() {
    let mut machine = Machine::new();
    machine.spec.read_only = true;
    machine.spec.process.cwd = PathBuf::from("/made/for/it");
    let outcome = machine.run(&["sh", "-c", "pwd; touch /x; touch /dev/shm/y && echo y"]).unwrap();
    assert_eq!(outcome.stdout, "/made/for/it\ny\n");
    assert!(outcome.stderr.contains("Read-only file system"), "{outcome:?}");
    let layer = machine.path("lower");
    machine.spec.rootfs = Rootfs::Directory(layer);
    machine.spec.process.cwd = PathBuf::from("/");
    for directory in ["dev", "proc", "sys"] {
        fs::create_dir_all(machine.path("lower").join(directory)).unwrap();
    }
    assert_eq!(machine.sh("ls -d /bin"), "/bin");
}

#[test]
fn devices_are_the_usual_ones_and_no_others() {
    let mut machine = Machine::new();
    let usual = "ls /dev | tr '\\n' ' '; head -c 3 /dev/zero | wc -c; echo x > /dev/null; stat -c %a /dev/null";
    let expected = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom \
                    zero 3\n666";
    assert_eq!(machine.sh(usual), expected);
    let make = "mknod /tmp-disk b 254 0; mknod /dev/disk b 254 0; mknod /dev/shm/disk b 254 0;
                for disk in /tmp-disk /dev/disk /dev/shm/disk; do head -c1 $disk; done 2>&1; true";
    let text = machine.sh(make);
    assert_eq!(text.matches("Permission denied").count(), 3, "{text}");
    // Enough to mount what allows devices: then a cgroup denies them.
    machine.spec.process.capabilities.push("CAP_SYS_ADMIN".to_owned());
    let text = machine
        .sh("mknod /disk b 254 0; head -c1 /disk 2>&1; mknod /null c 1 3; echo x > /null; echo ok");
    assert!(text.contains("Operation not permitted") && text.ends_with("ok"), "{text}");
}

#[test]
fn the_host_is_hidden() {
    let machine = Machine::new();
    assert_eq!(machine.sh("cat /proc/timer_list; cat /proc/keys; ls /sys/firmware; echo $$"), "1");
    assert_eq!(machine.sh("hostname; ls /proc | grep -c '^[0-9]'"), "machine\n3");
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_seqnum",
    ] {
        let outcome = machine.run(&["sh", "-c", &format!("echo x > {path}")]).unwrap();
        assert!(outcome.stderr.contains("Read-only file system"), "{path}: {outcome:?}");
    }
    let mounts =
        machine.sh("cut -d' ' -f5 /proc/self/mountinfo | grep -v -E '^/(proc|sys)/' | sort");
    let expected = "/\n/dev\n/dev\n/dev/full\n/dev/mqueue\n/dev/null\n/dev/pts\n/dev/random\n\
                    /dev/shm\n/dev/tty\n/dev/urandom\n/dev/zero\n/proc\n/sys";
    assert_eq!(mounts, expected);
}
