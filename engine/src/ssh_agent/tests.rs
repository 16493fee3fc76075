use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;

use super::protocol::{FAILURE, REMOVE_ALL_IDENTITIES, read_message, write_message};
use super::*;

const PROGRAMS: &str = "/usr/local/bin:/usr/bin:/bin";
const OWNER: SocketOwner = SocketOwner { uid: 1000, gid: 1001, mode: 0o600 };

fn open(spec: &str, own: Option<&Path>, directory: &Path) -> Result<Agent, Error> {
    Agent::open(&AgentSpec::parse(spec), own, directory, PROGRAMS.as_ref())
}

/// An agent that says everything back.
fn echo_agent(path: &Path) {
    let listener = UnixListener::bind(path).expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while let Ok(Some(message)) = read_message(&mut stream) {
                    write_message(&mut stream, &message).expect("written");
                }
            });
        }
    });
}

fn ask(socket: &Path, message: &[u8]) -> Vec<u8> {
    let mut stream = relay::connect(socket).expect("connected");
    write_message(&mut stream, message).expect("written");
    read_message(&mut stream).expect("read").expect("an answer")
}

fn make_key(path: &Path, passphrase: &str) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-C", "comment", "-N", passphrase, "-f"])
        .arg(path)
        .status();
    assert!(made.expect("ssh-keygen").success());
}

/// Lists the agent's keys as `ssh-add` shows them.
fn list(socket: &Path) -> String {
    let output = Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", socket).output();
    String::from_utf8(output.expect("ssh-add").stdout).expect("text")
}

#[test]
fn a_spec_is_an_id_and_paths() {
    let check = |text: &str, id: &str, paths: &[&str]| {
        let paths = paths.iter().map(PathBuf::from).collect();
        assert_eq!(AgentSpec::parse(text), AgentSpec { id: id.into(), paths }, "{text}");
    };
    check("default", "default", &[]);
    check("", "default", &[]);
    check("x=", "x", &[]);
    check("=/s", "default", &["/s"]);
    check("x=/a,/b=c", "x", &["/a", "/b=c"]);
}

#[test]
fn a_relay_passes_on_what_uses_keys_and_refuses_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let own = directory.path().join("own");
    echo_agent(&own);
    let agent = open("default", Some(&own), directory.path()).expect("the user's agent");
    assert_eq!(agent.socket(), own);
    let relay = Relay::start(&agent, &directory.path().join("relay"), OWNER).expect("started");
    let bind = [b"\x1b\0\0\0\x18session-bind@openssh.com".as_slice(), b"rest"].concat();
    for allowed in [&[11][..], b"\x0dsign this", &bind] {
        assert_eq!(ask(relay.path(), allowed), allowed);
    }
    for refused in [&[17][..], &[18], &[REMOVE_ALL_IDENTITIES], &[22], &[25], b"\x1b\0\0\0\x01x"] {
        assert_eq!(ask(relay.path(), refused), [FAILURE]);
    }
    let metadata = fs_err::metadata(relay.path()).expect("there");
    let seen = (metadata.uid(), metadata.gid(), metadata.permissions().mode() & 0o7777);
    assert_eq!(seen, (OWNER.uid, OWNER.gid, OWNER.mode));

    let path = relay.path().to_owned();
    let mut idle = relay::connect(&path).expect("connected");
    drop(relay);
    assert!(!path.exists());
    let _ = idle.write_all(b"x");
}

#[test]
fn a_path_too_long_for_a_socket_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let own = directory.path().join("own");
    echo_agent(&own);
    let agent = open("default", Some(&own), directory.path()).expect("the user's agent");
    let deep = directory.path().join("d".repeat(120));
    fs_err::create_dir(&deep).expect("made");
    let relay = Relay::start(&agent, &deep.join("relay"), OWNER).expect("started");
    assert_eq!(ask(relay.path(), &[11]), [11]);
}

#[test]
fn key_files_are_served_by_an_agent_that_ends_with_us() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("key");
    make_key(&key, "");
    // As after a checkout: `ssh-add` would refuse the file itself.
    fs_err::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("set");
    let home = directory.path().join("h");
    fs_err::create_dir(&home).expect("made");
    let agent = open(&format!("x={}", key.display()), None, &home).expect("started");
    let relay = Relay::start(&agent, &directory.path().join("relay"), OWNER).expect("started");
    assert!(list(relay.path()).contains("ED25519"), "{}", list(relay.path()));
    let mut open = relay::connect(agent.socket()).expect("connected");
    drop(agent);
    // Whoever still has a connection sees an agent without keys, or none.
    let asked = write_message(&mut open, &[11]).and_then(|()| read_message(&mut open));
    assert!(matches!(
        asked.as_ref().map(Option::as_deref),
        Ok(Some([12, 0, 0, 0, 0]) | None) | Err(_)
    ));
    assert!(!home.join(SOCKET).exists());
}

#[test]
fn what_cannot_be_an_agent_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    let text = |spec: &str| open(spec, None, directory.path()).expect_err("refused").to_string();
    assert_eq!(
        text("x"),
        "invalid empty ssh agent socket for \"x\": make sure SSH_AUTH_SOCK is set"
    );
    assert_eq!(
        text(&format!("x={}", at("none"))),
        format!("look at the ssh key or socket {}", at("none"))
    );
    echo_agent(Path::new(&at("a")));
    echo_agent(Path::new(&at("b")));
    fs_err::write(at("text"), "no key").expect("written");
    let both = text(&format!("x={},{}", at("a"), at("text")));
    assert_eq!(both, "ssh agent \"x\" is given keys and a socket, which do not go together");
    let several = text(&format!("x={},{}", at("a"), at("b")));
    assert_eq!(several, "ssh agent \"x\" is given several sockets: only single socket allowed");
    let wrong = text(&format!("x={}", at("text")));
    assert!(wrong.starts_with(&format!("add the ssh key {}: ", at("text"))), "{wrong}");
    make_key(Path::new(&at("locked")), "secret");
    let locked = text(&format!("x={}", at("locked")));
    assert!(locked.starts_with(&format!("add the ssh key {}: ", at("locked"))), "{locked}");
    let spec = AgentSpec::parse(&format!("x={}", at("text")));
    let error = Agent::open(&spec, None, directory.path(), "/nowhere".as_ref());
    let error = error.expect_err("no program").to_string();
    assert!(error.starts_with("run ssh-agent, which serves ssh keys given as files"), "{error}");
}
