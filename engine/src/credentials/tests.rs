//! The file and the helpers, as docker leaves them and wants them.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

struct World {
    dir: tempfile::TempDir,
    store: CredentialStore,
}

/// A store with this file; helpers are looked for beside it.
fn world(config: &str) -> World {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("config.json");
    if !config.is_empty() {
        std::fs::write(&path, config).expect("write");
    }
    let mut programs = dir.path().as_os_str().to_owned();
    programs.push(":/usr/bin:/bin");
    let store = CredentialStore { programs: Some(programs), ..CredentialStore::new(&path) };
    World { dir, store }
}

impl World {
    fn helper(&self, name: &str, script: &str) {
        let script = format!("#!/bin/sh\ncd {}\n{script}\n", self.dir.path().display());
        // Another test's child may hold what we have open for writing, and then nobody can start it.
        let mut write = Command::new("sh");
        write.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]);
        write.arg(self.dir.path().join(format!("docker-credential-{name}"))).arg(script);
        assert!(write.status().expect("start a shell").success());
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).expect("read")
    }
}

fn password(username: &str, password: &str) -> Credentials {
    Credentials { username: username.into(), secret: Secret::Password(password.into()) }
}

fn token(username: &str, token: &str) -> Credentials {
    Credentials { username: username.into(), secret: Secret::IdentityToken(token.into()) }
}

#[test]
fn what_docker_has_written_is_found_under_all_names_of_a_registry() {
    let world = world(
        r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
            "https://old.example/v1/": {"auth": "bzpwOndpdGg6Y29sb25z"},
            "plain.example": {"username": "u", "password": "p"},
            "token.example:5000": {"auth": "YW15Og==", "identitytoken": "t"},
            "listed.example": {},
            "bad.example": {"auth": "!"}
        }}"#,
    );
    for (registry, expected) in [
        ("docker.io", Some(password("hub", "secret"))),
        ("registry-1.docker.io", Some(password("hub", "secret"))),
        ("old.example", Some(password("o", "p:with:colons"))),
        ("https://old.example/v2/", Some(password("o", "p:with:colons"))),
        ("plain.example", Some(password("u", "p"))),
        ("token.example:5000", Some(token("amy", "t"))),
        ("token.example", None),
        ("listed.example", None),
        ("other.example", None),
    ] {
        assert_eq!(world.store.get(registry).expect(registry), expected, "{registry}");
    }
    let error = world.store.get("bad.example").expect_err("no base64").to_string();
    assert!(error.contains("\"bad.example\" cannot be read; log in again"), "{error}");
}

#[test]
fn a_change_keeps_the_rest_of_the_file_its_order_and_its_link() {
    let world = world("");
    let real = world.dir.path().join("real.json");
    let text = "{\n\t\"zzz\": 1,\n\t\"auths\": {\n\t\t\"b\": {}\n\t},\n\t\"aaa\": [\n\t\t2\n\t]\n}";
    std::fs::write(&real, text).expect("write");
    std::os::unix::fs::symlink("real.json", world.store.path()).expect("symlink");
    let kept = world.store.put("a.example", &password("u", "p")).expect("put");
    assert_eq!(kept, Kept::InFile);
    let auth = "\"a.example\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}";
    let changed = text.replace("\"b\": {}", &format!("\"b\": {{}},\n\t\t{auth}"));
    assert_eq!(world.read("real.json"), changed);
    let mode = std::fs::metadata(&real).expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(world.store.erase("https://a.example").expect("erase"));
    assert!(!world.store.erase("a.example").expect("erase again"));
    assert_eq!(world.read("real.json"), text);
    assert!(world.store.path().is_symlink());
}

#[test]
fn a_file_that_is_not_there_is_made_for_its_owner_alone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join(".docker/config.json");
    let store = CredentialStore::new(&path);
    assert_eq!(store.get("a.example").expect("get"), None);
    assert!(!store.erase("a.example").expect("erase"));
    assert!(!path.exists(), "who only asks makes nothing");
    store.put("a.example", &token("u", "t")).expect("put");
    assert_eq!(store.get("a.example").expect("get"), Some(token("u", "t")));
    for (path, expected) in [(path.as_path(), 0o600), (path.parent().expect("dir"), 0o700)] {
        let mode = std::fs::metadata(path).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, expected, "{}", path.display());
    }
}

#[test]
fn those_who_change_the_file_at_once_do_not_undo_each_other() {
    let world = world("");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let store = &world.store;
            scope.spawn(move || store.put(&format!("{number}.example"), &password("u", "p")));
        }
    });
    for number in 0..8 {
        let registry = format!("{number}.example");
        assert_eq!(world.store.get(&registry).expect("get"), Some(password("u", "p")));
    }
}

const FILES: &str = r#"
    case $1 in
    store) cat > stored; cp stored kept ;;
    erase) cat > erased; rm -f kept ;;
    get) cat > asked
      if [ -e kept ]; then cat kept
      else echo "credentials not found in native keychain"; exit 1; fi ;;
    esac"#;

#[test]
fn a_helper_keeps_what_the_file_then_only_lists() {
    let world = world(r#"{"credsStore": "files"}"#);
    world.helper("files", FILES);
    let store = &world.store;
    assert_eq!(store.get("docker.io").expect("get"), None);
    assert_eq!(world.read("asked"), "https://index.docker.io/v1/");
    assert_eq!(store.put("docker.io", &password("u", "p")).expect("put"), Kept::ByHelper);
    let stored = r#"{"ServerURL":"https://index.docker.io/v1/","Username":"u","Secret":"p"}"#;
    assert_eq!(world.read("stored"), stored);
    assert_eq!(store.get("docker.io").expect("get"), Some(password("u", "p")));
    let config: serde_json::Value = serde_json::from_str(&world.read("config.json")).expect("JSON");
    assert_eq!(config["auths"], serde_json::json!({"https://index.docker.io/v1/": {}}));
    assert!(store.erase("docker.io").expect("erase"));
    assert_eq!(world.read("erased"), "https://index.docker.io/v1/");
    assert!(!store.erase("docker.io").expect("erase again"));
    store.put("docker.io", &token("u", "t")).expect("put");
    assert_eq!(store.get("docker.io").expect("get"), Some(token("<token>", "t")));
}

#[test]
fn one_registry_may_have_a_helper_of_its_own() {
    let world = world(
        r#"{"credHelpers": {"a.example": "one"}, "credsStore": "two",
            "auths": {"a.example": {"auth": "ZmlsZTpw"}}}"#,
    );
    world.helper("one", r#"echo '{"Username":"one","Secret":"1"}'"#);
    world.helper("two", r#"echo '{"Username":"two","Secret":"2"}'"#);
    assert_eq!(world.store.get("a.example").expect("get"), Some(password("one", "1")));
    assert_eq!(world.store.get("b.example").expect("get"), Some(password("two", "2")));
}

#[test]
fn a_helper_that_fails_is_named_with_what_it_said() {
    for (script, expected) in [
        (
            "echo 'the vault is sealed'; exit 2",
            "docker-credential-x get has failed for a.example: the vault is sealed",
        ),
        ("exit 7", "has failed for a.example: exit status: 7"),
        ("echo '{\"Username\": \"u\", secret'", "its answer is no JSON of credentials (line 1)"),
        ("exec sleep 600", "docker-credential-x get has not ended within 1 seconds and was killed"),
    ] {
        let world = world(r#"{"credsStore": "x"}"#);
        world.helper("x", script);
        let patience = Duration::from_secs(if script.contains("sleep") { 1 } else { 60 });
        let store = CredentialStore { patience, ..world.store.clone() };
        let error = store.get("a.example").expect_err(script).to_string();
        assert!(error.contains(expected), "{script}: {error}");
    }
    let missing = world(r#"{"credsStore": "not-there"}"#);
    let error = missing.store.get("a.example").expect_err("no program").to_string();
    assert!(error.starts_with("cannot start docker-credential-not-there, which /"), "{error}");
}

#[test]
fn a_damaged_file_is_named_and_left_alone() {
    for text in ["{", "[]", r#"{"credsStore": 1}"#, r#"{"credsStore": "../x"}"#] {
        let world = world(text);
        let error = world.store.put("a.example", &password("u", "p")).expect_err(text);
        assert!(error.to_string().contains("config.json is not what"), "{text}: {error}");
        assert_eq!(world.read("config.json"), text);
    }
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?} {:?}", password("u", "hunter2"), token("u", "hunter2"));
    assert!(!shown.contains("hunter2"), "{shown}");
}
