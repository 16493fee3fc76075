//! `login` and `logout`: their words, docker's file, programs that keep credentials, passwords that are typed.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Outcome, Registry, Test};

const USER: &str = "amy";
const PASSWORD: &str = "secret word";

/// A registry that lets one user in, and a test that has not logged in.
fn closed() -> Option<(Test, Registry)> {
    Some((Test::empty(), Registry::plain()?.with_htpasswd(USER, PASSWORD)))
}

fn login(test: &Test, arguments: &[&str], input: Option<&str>) -> Outcome {
    test.rbuild_with(&[&["login"], arguments].concat(), &[], input.map(str::as_bytes))
}

fn config(test: &Test) -> Value {
    serde_json::from_slice(&fs_err::read(test.outside(".docker/config.json")).unwrap()).unwrap()
}

#[test]
fn credentials_are_kept_where_docker_keeps_them() {
    let Some((test, registry)) = closed() else { return };
    let address = registry.address();
    let input = Some("secret word\r\n");
    let done = login(&test, &["--username", USER, "--password-stdin", address], input);
    assert_eq!(done.ok(), "Login Succeeded\n");
    let path = test.outside(".docker/config.json");
    let unencrypted =
        format!("WARNING! Your credentials are stored unencrypted in '{}'.", path.display());
    assert!(done.stderr.contains(&unencrypted), "{done}");
    // `printf 'amy:secret word' | base64`
    assert_eq!(config(&test), json!({"auths": {address: {"auth": "YW15OnNlY3JldCB3b3Jk"}}}));
    assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = login(&test, &[&format!("http://{address}/v2/")], None);
    assert_eq!(again.ok(), "Login Succeeded\n");
    assert!(again.stderr.contains("Authenticating with existing credentials"), "{again}");
    let logout = || test.rbuild(&["logout", address]).ok();
    assert_eq!(logout(), format!("Removing login credentials for {address}\n"));
    assert_eq!(config(&test), json!({"auths": {}}));
    assert_eq!(logout(), format!("Not logged in to {address}\n"));
    let elsewhere = test.outside("elsewhere");
    let variables = [("DOCKER_CONFIG", elsewhere.to_str().unwrap())];
    let line = ["login", "-u", USER, "-p", PASSWORD, address];
    let done = test.rbuild_with(&line, &variables, None);
    assert_eq!(done.ok(), "Login Succeeded\n");
    let insecure = "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n";
    assert!(done.stderr.starts_with(insecure), "{done}");
    assert!(elsewhere.join("config.json").exists());
}

#[test]
fn what_cannot_be_a_login_is_refused_before_anybody_is_asked() {
    let test = Test::empty();
    for (arguments, input, text) in [
        (&["--password-stdin"][..], Some("x"), "requires --username to be set"),
        (&["-u", "amy", "--password-stdin"], Some("\n"), "password is empty"),
        (&["-u", "", "--password-stdin"], Some("x"), "username is empty"),
        (&["-u", "amy", "-p", ""], None, "password is empty"),
        (&["-u", "amy"], None, "cannot perform an interactive login from a non-TTY device"),
        (&[], None, "cannot perform an interactive login from a non-TTY device"),
    ] {
        let refused = login(&test, arguments, input);
        assert!(refused.failed(1).contains(text), "{arguments:?}: {refused}");
    }
    let both = login(&test, &["-u", "amy", "-p", "x", "--password-stdin"], Some("x"));
    assert!(both.code != Some(0) && both.stderr.contains("cannot be used with"), "{both}");
    assert_eq!(test.rbuild(&["logout"]).ok(), "Not logged in to https://index.docker.io/v1/\n");
    assert!(!test.outside(".docker").exists(), "who was refused has nothing kept");
}

#[test]
fn a_program_keeps_the_credentials_if_the_file_says_so() {
    let Some((test, registry)) = closed() else { return };
    let address = registry.address();
    let kept = test.outside("kept");
    let script = format!(
        "#!/bin/sh\ncase $1 in store) cat > {0};; erase) rm {0};; get) cat {0} 2> /dev/null || {{ \
         echo credentials not found in native keychain; exit 1; }};; esac\n",
        kept.display()
    );
    test.file("bin/docker-credential-test", script).mode("bin/docker-credential-test", 0o755);
    fs_err::create_dir(test.outside(".docker")).unwrap();
    let before = json!({"psFormat": "x", "credsStore": "test"});
    fs_err::write(test.outside(".docker/config.json"), before.to_string()).unwrap();
    let path =
        format!("{}:{}", test.context().join("bin").display(), std::env::var("PATH").unwrap());
    let variables = [("PATH", path.as_str())];
    let line = ["login", "-u", USER, "--password-stdin", address];
    let done = test.rbuild_with(&line, &variables, Some(PASSWORD.as_bytes()));
    assert_eq!(done.ok(), "Login Succeeded\n");
    assert_eq!(done.stderr, "");
    let stored: Value = serde_json::from_slice(&fs_err::read(&kept).unwrap()).unwrap();
    assert_eq!(stored, json!({"ServerURL": address, "Username": USER, "Secret": PASSWORD}));
    let expected = json!({"psFormat": "x", "credsStore": "test", "auths": {address: {}}});
    assert_eq!(config(&test), expected);
    let missing = test.rbuild(&["logout", address]);
    assert!(missing.failed(1).contains("cannot start docker-credential-test"), "{missing}");
    let out = test.rbuild_with(&["logout", address], &variables, None);
    assert_eq!(out.ok(), format!("Removing login credentials for {address}\n"));
    assert!(!kept.exists());
}

#[test]
fn a_password_that_is_typed_is_not_shown() {
    let Some((test, registry)) = closed() else { return };
    let address = registry.address();
    // Each line is typed when it is asked for; the keys of the second one take a mistake back.
    let typed = test.shell(&format!(
        r#"export HOME={home}
        waited() {{ for i in $(seq 300); do grep -q "$1" seen && return; sleep 0.1; done; exit 1; }}
        : > seen
        {{ waited Username; echo amy; waited Password; printf 'secret wordX\177\n'; waited Login; }} |
          script -qefc '"$RBUILD" login {address}' seen > /dev/null 2>&1
        cat seen"#,
        home = test.outside("").display(),
    ));
    assert!(typed.contains("Username: amy"), "{typed}");
    assert!(
        typed.contains("Password: \r\nLogin Succeeded") || typed.contains("Login Succeeded"),
        "{typed}"
    );
    assert!(!typed.contains("secret"), "{typed}");
    assert_eq!(config(&test)["auths"][address]["auth"], "YW15OnNlY3JldCB3b3Jk");
}
