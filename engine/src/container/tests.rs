//! Containers as the kernel sees them: each test launches some and looks at what they print.
//!
//! They need root and a static busybox.

mod exec;
mod limits;
mod mounts;
mod privileges;
mod zygote;

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cache::lower::Lower;
use tempfile::TempDir;

use super::spec::{Mount, MountSource, Network, Process, Resources, Rootfs, Seccomp};
use super::{
    Container, ContainerSpec, DEFAULT_CAPABILITIES, Exit, LaunchError, Running, Stdio, Stream,
    Zygote, launch, launch_from,
};

/// A root file system with nothing but busybox in it, as an overlay.
struct Machine {
    directory: TempDir,
    spec: ContainerSpec,
}

/// What a container's program wrote, and how it ended.
#[derive(Debug)]
struct Outcome {
    stdout: String,
    stderr: String,
    exit: Exit,
}

impl Machine {
    fn new() -> Machine {
        let directory = TempDir::new().unwrap();
        let lower = directory.path().join("lower");
        for name in ["lower/bin", "lower/etc", "upper", "work"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        fs::copy("/bin/busybox", lower.join("bin/busybox")).unwrap();
        let applets = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(applets.stdout).unwrap().lines() {
            if applet != "busybox" {
                std::os::unix::fs::symlink("busybox", lower.join("bin").join(applet)).unwrap();
            }
        }
        fs::write(
            lower.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n",
        )
        .unwrap();
        fs::write(lower.join("etc/group"), "root:x:0:\nweb:x:34:\nlog:x:60:web\n").unwrap();
        let path = |name: &str| directory.path().join(name);
        let spec = ContainerSpec {
            id: directory.path().file_name().unwrap().display().to_string(),
            hostname: "machine".to_owned(),
            rootfs: Rootfs::Overlay {
                lower: vec![Lower::Directory(path("lower"))],
                upper: Some((path("upper"), path("work"))),
                volatile: true,
            },
            mounts: Vec::new(),
            process: Process {
                args: Vec::new(),
                env: vec!["PATH=/bin".to_owned()],
                cwd: PathBuf::from("/"),
                user: String::new(),
                additional_groups: Vec::new(),
                capabilities: DEFAULT_CAPABILITIES.map(str::to_owned).into(),
                rlimits: Vec::new(),
                no_new_privileges: false,
                terminal: false,
                ..Process::default()
            },
            network: Network::Host,
            resources: Resources::default(),
            shm_size: None,
            read_only: false,
            privileged: false,
            cgroup_parent: None,
            seccomp: Seccomp::Default,
            sysctls: Vec::new(),
            ..ContainerSpec::default()
        };
        Machine { directory, spec }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a program to its end.
    fn run(&self, args: &[&str]) -> Result<Outcome, LaunchError> {
        self.run_from(None, args)
    }

    fn run_from(&self, zygote: Option<&Zygote>, args: &[&str]) -> Result<Outcome, LaunchError> {
        let mut spec = self.spec.clone();
        spec.process.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (stdout, stdout_end) = pipe();
        let (stderr, stderr_end) = pipe();
        let stdio = Stdio::output(stdout_end, stderr_end);
        let container = match zygote {
            None => launch(&spec, stdio)?,
            Some(zygote) => launch_from(zygote, &spec, stdio)?,
        };
        let (stdout, stderr) = (read(stdout), read(stderr));
        Ok(Outcome { stdout, stderr, exit: container.wait().unwrap() })
    }

    /// Runs a line of shell, which must succeed, and returns what it printed.
    #[track_caller]
    fn sh(&self, script: &str) -> String {
        let outcome = self.run(&["sh", "-c", script]);
        let outcome = outcome.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(outcome.exit.code, 0, "{outcome:?}");
        outcome.stdout.trim_end().to_owned()
    }
}

/// A running container whose program does nothing.
struct Sleeper {
    container: Container,
    machine: Machine,
}

impl Machine {
    /// Starts a container that does nothing.
    fn sleep(self) -> Sleeper {
        self.start(&["sleep", "1000"])
    }

    /// Starts a container whose output nobody reads.
    #[track_caller]
    fn start(self, args: &[&str]) -> Sleeper {
        let mut spec = self.spec.clone();
        spec.process.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let null = || Stream::Null;
        let stdio = Stdio { stdin: null(), stdout: null(), stderr: null() };
        let container = launch(&spec, stdio).unwrap_or_else(|error| panic!("{}", chain(&error)));
        Sleeper { container, machine: self }
    }
}

impl Sleeper {
    fn running(&self) -> Running {
        Running::find(self.container.pid, None).unwrap()
    }

    /// Kills it.
    fn end(self) -> Machine {
        drop(self.container);
        self.machine
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

fn read(from: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(from).read_to_string(&mut text).unwrap();
    text
}

fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", chain(source))).unwrap_or_default();
    format!("{error}{source}")
}

/// A mount of a path on the host.
fn bind(host: &Path, target: &str) -> Mount {
    mount(target, MountSource::Bind(host.to_owned()))
}

fn mount(target: &str, source: MountSource) -> Mount {
    Mount { target: PathBuf::from(target), source, read_only: false }
}

#[test]
fn exit_codes_and_signals_are_passed_on() {
    let machine = Machine::new();
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 0), ("false", 1)] {
        let outcome = machine.run(&["sh", "-c", script]).unwrap();
        // Process 1 of a namespace is not killed by signals from inside it.
        assert_eq!(outcome.exit.code, code, "{script}");
    }
    let mut spec = machine.spec.clone();
    spec.process.args = vec!["sleep".to_owned(), "60".to_owned()];
    let container = launch(&spec, Stdio { stdin: Stream::Null, ..Stdio::inherit() }).unwrap();
    container.kill(rustix::process::Signal::KILL).unwrap();
    let exit = container.wait().unwrap();
    assert_eq!((exit.code, exit.oom_killed), (137, false));
}

#[test]
fn the_streams_are_kept_apart() {
    let outcome = Machine::new().run(&["sh", "-c", "echo out; echo err >&2; cat"]).unwrap();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_program_that_cannot_run_is_told_from_one_that_is_not_there() {
    let machine = Machine::new();
    let lower = machine.path("lower");
    fs::write(lower.join("bin/garbage"), "\0\0").unwrap();
    fs::write(lower.join("bin/script"), "#!/nowhere\n").unwrap();
    for name in ["bin/garbage", "bin/script"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(lower.join(name), mode).unwrap();
    }
    #[track_caller]
    fn check(machine: &Machine, program: &str, code: i32, text: &str) {
        let error = machine.run(&[program]).map(drop).unwrap_err();
        assert_eq!((error.exit_code(), chain(&error)), (code, text.to_owned()));
    }
    check(&machine, "foo", 127, "exec: \"foo\": executable file not found in $PATH");
    check(&machine, "/foo", 127, "exec: \"/foo\": stat /foo: no such file or directory");
    check(&machine, "/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied");
    check(&machine, "/etc", 126, "exec: \"/etc\": is a directory");
    check(&machine, "garbage", 126, "exec /bin/garbage: exec format error");
    check(&machine, "script", 127, "exec /bin/script: no such file or directory");
}

#[test]
fn privileges_are_docker_s() {
    let mut machine = Machine::new();
    let status = "grep -E '^(Cap|Seccomp:|NoNew|Groups)' /proc/self/status | tr -s '\\t ' ' '";
    assert_eq!(
        machine.sh(status),
        "Groups: 0 \nCapInh: 0000000000000000\nCapPrm: 00000000a80425fb\nCapEff: 00000000a80425fb\n\
         CapBnd: 00000000a80425fb\nCapAmb: 0000000000000000\nNoNewPrivs: 0\nSeccomp: 2"
    );
    machine.spec.process.user = "web".to_owned();
    machine.spec.process.no_new_privileges = true;
    assert_eq!(
        machine.sh(status),
        "Groups: 34 60 \nCapInh: 0000000000000000\nCapPrm: 0000000000000000\n\
         CapEff: 0000000000000000\nCapBnd: 00000000a80425fb\nCapAmb: 0000000000000000\n\
         NoNewPrivs: 1\nSeccomp: 2"
    );
}

#[test]
fn calls_that_are_not_docker_s_are_refused() {
    let mut machine = Machine::new();
    let refused = "mount -t tmpfs none /etc 2>&1; unshare -U true 2>&1; chroot / true && echo ok";
    let text = machine.sh(refused);
    assert_eq!(text.matches("Operation not permitted").count(), 1, "{text}");
    assert!(text.contains("mount: permission denied") && text.ends_with("ok"), "{text}");
    machine.spec.privileged = true;
    assert_eq!(machine.sh("mount -t tmpfs none /etc && ls /etc; unshare -U true; echo ok"), "ok");
}

#[test]
fn users_are_those_of_the_container() {
    let mut machine = Machine::new();
    let mut check = |user: &str, expected: &str| {
        machine.spec.process.user = user.to_owned();
        assert_eq!(machine.sh("id -u; id -g; id -G; echo $HOME").replace('\n', " "), expected);
    };
    check("", "0 0 0 /root");
    check("web", "33 34 34 60 /srv/web");
    check("web:log", "33 60 60 /srv/web");
    check("33", "33 34 34 60 /srv/web");
    check("1000", "1000 0 0 /");
    check("1000:1001", "1000 1001 1001 /");
    machine.spec.process.additional_groups = vec!["log".to_owned(), "77".to_owned()];
    machine.spec.process.user = "1000".to_owned();
    assert_eq!(machine.sh("id -G; echo x > /dev/stdout"), "0 60 77\nx");
    machine.spec.process.user = "nobody".to_owned();
    let error = machine.run(&["true"]).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "unable to find user nobody: no matching entries in passwd file");
}

#[test]
fn a_network_of_its_own_has_a_loopback_device_only() {
    let mut machine = Machine::new();
    machine.spec.network = Network::None;
    assert_eq!(
        machine.sh("ip -o addr | grep -c inet; ping -c1 -W1 127.0.0.1 | grep -c ttl"),
        "2\n1"
    );
    machine.spec.sysctls = vec![("net.ipv4.ip_forward".to_owned(), "1".to_owned())];
    assert_eq!(machine.sh("ls /sys/class/net; cat /proc/sys/net/ipv4/ip_forward"), "lo\n1");
    let namespace = |path: &str| fs::read_link(path).unwrap().display().to_string();
    let ours = format!("/proc/{}/ns/net", std::process::id());
    machine.spec.network = Network::Path(PathBuf::from(&ours));
    assert_eq!(machine.sh("readlink /proc/self/ns/net"), namespace(&ours));
    machine.spec.sysctls = vec![("vm.swappiness".to_owned(), "1".to_owned())];
    let error = machine.run(&["true"]).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "sysctl \"vm.swappiness\" is not in a separate kernel namespace");
}

#[test]
fn limits_are_enforced() {
    let mut machine = Machine::new();
    machine.spec.resources.pids = Some(5);
    let fork = "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait";
    let outcome = machine.run(&["sh", "-c", fork]).unwrap();
    assert!(outcome.stderr.contains("can't fork"), "{outcome:?}");

    machine.spec.resources = Resources { memory: Some(16 << 20), ..Resources::default() };
    let visible = machine.sh(
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true",
    );
    assert_eq!(visible, (16 << 20).to_string());
    let grow = "head -c 100000000 /dev/zero | tail -c 90000000 | wc -c";
    let outcome = machine.run(&["sh", "-c", grow]).unwrap();
    assert!(outcome.exit.oom_killed, "{outcome:?}");

    machine.spec.resources = Resources {
        cpu_quota: Some(50_000),
        cpuset_cpus: Some("0".to_owned()),
        ..Resources::default()
    };
    assert_eq!(machine.sh("grep Cpus_allowed_list /proc/self/status | cut -f2"), "0");
}

#[test]
fn resource_limits_can_be_lowered_and_a_refusal_says_why() {
    let mut machine = Machine::new();
    let limit =
        |name: &str, value| super::spec::Rlimit { name: name.to_owned(), soft: value, hard: value };
    machine.spec.process.rlimits = vec![limit("nofile", 1062)];
    assert_eq!(machine.sh("ulimit -n; ulimit -Hn"), "1062\n1062");
    machine.spec.process.rlimits = vec![limit("shoes", 2)];
    let error = machine.run(&["true"]).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "invalid ulimit type: shoes");
    machine.spec.process.rlimits = vec![limit("nofile", 100_000_000_000)];
    let error = machine.run(&["true"]).map(drop).unwrap_err();
    assert!(error.to_string().contains("--ulimit nofile=100000000000"), "{error}");
}

#[test]
fn a_terminal_is_the_container_s_own() {
    let mut machine = Machine::new();
    machine.spec.process.terminal = true;
    machine.spec.process.user = "web".to_owned();
    machine.spec.process.args = [
        "sh",
        "-c",
        "tty; stat -c %U /dev/console; read line; echo got $line; : > /dev/tty; exit 4",
    ]
    .map(str::to_owned)
    .into();
    let mut container = launch(&machine.spec, Stdio::inherit()).unwrap();
    let master = container.terminal.take().unwrap();
    let (shown, output) = pipe();
    let (input, typed) = pipe();
    std::io::Write::write_all(&mut fs::File::from(typed), b"hello\n").unwrap();
    {
        use super::tty::{DetachKeys, User, relay};
        use std::os::fd::AsFd;
        let input = Some(input.as_fd());
        let user =
            User { input, output: output.as_fd(), resized: None, keys: DetachKeys::default() };
        relay(user, master.as_fd()).unwrap();
    }
    drop(output);
    assert_eq!(container.wait().unwrap().code, 4);
    // What was typed is echoed, before or after the first lines.
    let text = read(shown).replacen("hello\r\n", "", 1);
    assert_eq!(text, "/dev/pts/0\r\nweb\r\ngot hello\r\n");
}

#[test]
fn many_are_launched_at_once() {
    let machines: Vec<Machine> = (0..8).map(|_| Machine::new()).collect();
    std::thread::scope(|scope| {
        for (number, machine) in machines.iter().enumerate() {
            scope.spawn(move || {
                for _ in 0..4 {
                    assert_eq!(machine.sh(&format!("echo {number}")), number.to_string());
                }
            });
        }
    });
}

#[test]
fn cgroups_of_dead_launchers_are_swept() {
    let parent = format!("rbuild-test-{}", std::process::id());
    let mut machine = Machine::new();
    machine.spec.cgroup_parent = Some(parent.clone());
    machine.spec.resources.pids = Some(100);
    let mut spec = machine.spec.clone();
    spec.process.args = vec!["sleep".to_owned(), "60".to_owned()];
    let container = launch(&spec, Stdio { stdin: Stream::Null, ..Stdio::inherit() }).unwrap();
    let own = container.cgroups().find(|(controller, _)| *controller == "pids").unwrap().1;
    let own = own.to_owned();
    let stale = own.parent().unwrap().join("gone.999999999-1");
    fs::create_dir(&stale).unwrap();
    super::sweep(Some(&parent));
    assert!(own.exists() && !stale.exists());
    drop(container);
    assert!(!own.exists());
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
        let parent = hierarchy.unwrap().path().join(&parent);
        if parent.exists() {
            fs::remove_dir(parent).unwrap();
        }
    }
}

/// Not a test of its own: the process that the next test kills.
#[test]
fn launcher_to_be_killed() {
    let Some(directory) = std::env::var_os("RBUILD_TEST_LAUNCHER") else {
        return;
    };
    let mut machine = Machine::new();
    machine.spec.mounts = vec![bind(Path::new(&directory), "/out")];
    machine.spec.process.user = "web".to_owned();
    let script = "grep NSpid /proc/self/status; touch /out/up; sleep 1000 & sleep 1000";
    machine.spec.process.args = ["sh", "-c", script].map(str::to_owned).into();
    let container =
        launch(&machine.spec, Stdio { stdin: Stream::Null, ..Stdio::inherit() }).unwrap();
    fs::write(Path::new(&directory).join("pid"), container.pid.to_string()).unwrap();
    container.wait().unwrap();
}

#[test]
fn a_killed_launcher_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(directory.path(), mode).unwrap();
    let mut launcher = std::process::Command::new("/proc/self/exe")
        .args(["container::tests::launcher_to_be_killed", "--exact", "--nocapture"])
        .env("RBUILD_TEST_LAUNCHER", directory.path())
        // What it makes it cannot remove.
        .env("TMPDIR", directory.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let exists = |name: &str| directory.path().join(name).exists();
    wait_until(|| exists("up") && exists("pid"));
    let pid = fs::read_to_string(directory.path().join("pid")).unwrap();
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    // Nobody reaps it but whoever adopts orphans: dead is enough.
    wait_until(|| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    });
}

#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited too long");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
