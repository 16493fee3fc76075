//! What a container sees of files and devices.

use std::fs;
use std::path::{Path, PathBuf};

use cache::lower::Lower;

use super::{Machine, bind, chain, mount};
use crate::container::spec::{Below, Mount, MountSource, Propagation, Rootfs, Seccomp};

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
fn nothing_is_mounted_in_proc_but_what_runc_allows() {
    let mut machine = Machine::new();
    let (host, lower) = (machine.path("host"), machine.path("lower"));
    fs::create_dir_all(host.join("sub")).unwrap();
    fs::write(host.join("file"), "emulated\n").unwrap();
    std::os::unix::fs::symlink("/proc", lower.join("kernel")).unwrap();
    std::os::unix::fs::symlink("/proc/uptime", lower.join("etc/uptime")).unwrap();
    std::os::unix::fs::symlink("../kernel/irq", lower.join("etc/irq")).unwrap();
    std::os::unix::fs::symlink("/kernel/self", host.join("self")).unwrap();
    let tmpfs = || MountSource::Tmpfs { size: None, mode: 0o755 };
    let inside = |path: &str| format!("{path:?} cannot be mounted because it is inside /proc");
    let own = "\"/proc\" cannot be mounted because it is not of type proc".to_owned();
    for (mounts, refused) in [
        (vec![mount("/proc", tmpfs())], Some(own.clone())),
        (vec![bind(&host, "/proc")], Some(own.clone())),
        (vec![bind(&host, "/kernel")], Some(own.clone())),
        (vec![bind(&host, "/etc/../proc/.")], Some(own)),
        (vec![mount("/proc/acpi", tmpfs())], Some(inside("/proc/acpi"))),
        (vec![bind(&host, "/proc/nosuch")], Some(inside("/proc/nosuch"))),
        (vec![bind(&host, "/kernel/irq")], Some(inside("/proc/irq"))),
        (vec![bind(&host, "/etc/irq")], Some(inside("/proc/irq"))),
        (vec![bind(&host.join("file"), "/proc/version")], Some(inside("/proc/version"))),
        (
            vec![bind(&host, "/data"), bind(&host, "/data/self/attr")],
            Some("inside /proc".to_owned()),
        ),
        (vec![bind(Path::new("/proc"), "/proc")], None),
        (vec![bind(&host.join("file"), "/proc/cpuinfo")], None),
        (vec![bind(&host.join("file"), "/etc/uptime")], None),
        (vec![bind(&host, "/procedure")], None),
    ] {
        let what = format!("{mounts:?}");
        machine.spec.mounts = mounts;
        match (machine.run(&["true"]), refused) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) => {
                let text = chain(&error);
                assert!(text.contains(&expected), "{what}: {text}");
            }
            (ended, refused) => panic!("{what}: {:?} instead of {refused:?}", ended.map(drop)),
        }
    }
    machine.spec.mounts = vec![bind(&host.join("file"), "/etc/uptime")];
    assert_eq!(machine.sh("cat /proc/uptime"), "emulated");
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
    let make = "mknod /tmp-fuse c 10 229; mknod /dev/fuse c 10 229; mknod /dev/shm/fuse c 10 229;
                for node in /tmp-fuse /dev/fuse /dev/shm/fuse; do head -c1 $node; done 2>&1; true";
    let check = |machine: &Machine| {
        let text = machine.sh(make);
        // Of /dev/shm the mount allows no devices either.
        assert_eq!(text.matches("Operation not permitted").count(), 2, "{text}");
        assert_eq!(text.matches("Permission denied").count(), 1, "{text}");
        // What debootstrap makes, to use it at once.
        assert_eq!(machine.sh("mknod /null c 1 3; echo x > /null; rm /null; echo ok"), "ok");
    };
    check(&machine);
    machine.spec.process.capabilities.push("CAP_SYS_ADMIN".to_owned());
    machine.spec.seccomp = Seccomp::Unconfined;
    check(&machine);
    // It may change what its own cgroup allows, and nobody else's.
    let change = "mkdir /own; mount -t cgroup -o devices none /own && echo 'c 10:229 rwm' > /own/devices.allow;
                  umount /own; true";
    machine.sh(change);
    check(&Machine::new());
    machine.spec.cgroup_parent = Some("rbuild-test-devices/below".to_owned());
    machine.spec.resources.pids = Some(100);
    check(&machine);
    drop(machine);
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
        let parent = hierarchy.unwrap().path().join("rbuild-test-devices");
        if parent.exists() {
            fs::remove_dir(parent.join("below")).unwrap();
            fs::remove_dir(parent).unwrap();
        }
    }
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
    assert_eq!(mounts, "/\n/dev\n/dev/mqueue\n/dev/pts\n/dev/shm\n/proc\n/sys");
}

/// Runs in a thread with a mount namespace of its own, whose mounts are shared below `directory`:
/// nothing of it outlives the thread.
fn with_shared_mount(directory: &Path, run: impl FnOnce() + Send) {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                crate::sys::mount::unshare_mounts().unwrap();
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                mount_change("/", private).unwrap();
                mount("none", directory, "tmpfs", MountFlags::empty(), c"").unwrap();
                mount_change(directory, MountPropagationFlags::SHARED).unwrap();
                run();
            })
            .join()
            .unwrap();
    });
}

fn tmpfs_at(path: &Path) {
    fs::create_dir_all(path).unwrap();
    rustix::mount::mount("none", path, "tmpfs", rustix::mount::MountFlags::empty(), c"").unwrap();
}

#[test]
fn mounts_spread_as_far_as_they_were_asked_to() {
    let mut machine = Machine::new();
    let host = machine.path("host");
    fs::create_dir_all(host.join("plain")).unwrap();
    let with = |propagation| MountSource::BindWith {
        path: host.clone(),
        below: Below::Followed,
        propagation,
    };
    machine.spec.process.capabilities.push("CAP_SYS_ADMIN".to_owned());
    machine.spec.seccomp = Seccomp::Unconfined;
    // The host makes a mount when the container is ready, the container makes one of its own.
    let script = "touch /data/ready; mkdir /data/own && mount -t tmpfs none /data/own;
                  while [ ! -e /data/go ]; do sleep 0.01; done;
                  grep -c ' /data/late ' /proc/self/mountinfo; true";
    for (propagation, seen) in [
        (Propagation::Private, ("0", false)),
        (Propagation::Slave, ("1", false)),
        (Propagation::Shared, ("1", true)),
    ] {
        machine.spec.mounts = vec![mount("/data", with(propagation))];
        with_shared_mount(&host, || {
            let late = std::thread::scope(|scope| {
                let container = scope.spawn(|| {
                    // The thread is in the namespace of the one that made it.
                    machine.sh(script)
                });
                let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
                while !host.join("own").exists() {
                    assert!(std::time::Instant::now() < deadline && !container.is_finished());
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                tmpfs_at(&host.join("late"));
                fs::write(host.join("go"), "").unwrap();
                container.join().unwrap()
            });
            let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let own = mounts.contains("/host/own ");
            assert_eq!((late.as_str(), own), seen, "{propagation:?}");
        });
    }
    // Nothing can spread from a private mount.
    machine.spec.mounts = vec![mount("/data", with(Propagation::Shared))];
    with_shared_mount(&host, || {
        let private = rustix::mount::MountPropagationFlags::PRIVATE;
        rustix::mount::mount_change(&host, private).unwrap();
        let error = machine.run(&["true"]).map(drop).unwrap_err().to_string();
        assert!(error.contains("but it is not a shared mount"), "{error}");
    });
}

#[test]
fn mounts_below_a_bind_are_followed_or_not() {
    let mut machine = Machine::new();
    let host = machine.path("host");
    fs::create_dir_all(&host).unwrap();
    let script =
        "for at in /data /data/below; do touch $at/x 2>/dev/null && echo $at w || echo $at r; done;
                  ls /data/below | tr '\\n' ' '";
    for (below, read_only, seen) in [
        (Below::Followed, false, "/data w\n/data/below w\nthere x"),
        (Below::Followed, true, "/data r\n/data/below r\nthere"),
        (Below::Writable, true, "/data r\n/data/below w\nthere x"),
        (Below::Absent, false, "/data w\n/data/below w\nx"),
        (Below::Absent, true, "/data r\n/data/below r"),
    ] {
        let source =
            MountSource::BindWith { path: host.clone(), below, propagation: Propagation::Private };
        machine.spec.mounts = vec![Mount { read_only, ..mount("/data", source) }];
        with_shared_mount(&host, || {
            tmpfs_at(&host.join("below"));
            fs::write(host.join("below/there"), "").unwrap();
            assert_eq!(machine.sh(script), seen, "{below:?}");
            // On the host everything is as it was.
            fs::write(host.join("new"), "").unwrap();
        });
    }
}

#[test]
fn devices_of_the_host_are_of_no_use_on_a_bind() {
    let mut machine = Machine::new();
    let host = machine.path("host");
    fs::create_dir_all(&host).unwrap();
    let make = |path: &Path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let fuse = rustix::fs::makedev(10, 229);
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, fuse).unwrap();
    };
    for below in [Below::Followed, Below::Writable, Below::Absent] {
        let source =
            MountSource::BindWith { path: host.clone(), below, propagation: Propagation::Slave };
        machine.spec.mounts = vec![Mount { read_only: true, ..mount("/data", source) }];
        with_shared_mount(&host, || {
            make(&host.join("fuse"));
            tmpfs_at(&host.join("below"));
            make(&host.join("below/fuse"));
            let text = machine.sh("head -c1 /data/fuse 2>&1; head -c1 /data/below/fuse 2>&1; true");
            let denied = if below == Below::Absent { 1 } else { 2 };
            assert_eq!(
                text.matches("Operation not permitted").count(),
                denied,
                "{below:?}: {text}"
            );
        });
    }
}

#[test]
fn a_tmpfs_has_its_options() {
    let mut machine = Machine::new();
    fs::create_dir(machine.path("lower/secret")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(machine.path("lower/secret"), mode).unwrap();
    let tmpfs = |text: &str| {
        let options = crate::volume::tmpfs::parse(text).unwrap();
        MountSource::TmpfsWith { options: options.data, attributes: options.attributes }
    };
    machine.spec.mounts = vec![
        mount("/plain", tmpfs("")),
        Mount { read_only: true, ..mount("/secret", tmpfs("size=1m,uid=33,gid=34,exec")) },
        mount("/own", tmpfs("mode=700,nr_inodes=3,noatime")),
    ];
    let flags = |at: &str| format!("grep ' {at} ' /proc/self/mountinfo | cut -d' ' -f6;");
    let script = format!(
        "stat -c '%n %a %u:%g' /plain /secret /own; {}{}{}
         df -m /secret | tail -1 | tr -s ' ' | cut -d' ' -f2;
         touch /own/a /own/b /own/c 2>&1 | grep -c 'No space'",
        flags("/plain"),
        flags("/secret"),
        flags("/own"),
    );
    assert_eq!(
        machine.sh(&script),
        "/plain 1777 0:0\n/secret 711 33:34\n/own 700 0:0\n\
         rw,nosuid,nodev,noexec,relatime\nro,nosuid,nodev,relatime\n\
         rw,nosuid,nodev,noexec,noatime\n1\n1"
    );
}
