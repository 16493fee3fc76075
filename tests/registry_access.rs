//! Registries that want to know who asks: certificates, passwords, tokens; login and logout.

use serde_json::json;

use crate::registry::{app, greeting, pull, refused};
use crate::support::{Outcome, Registry, Test, tokens};

#[test]
fn a_certificate_is_trusted_only_when_its_authority_is() {
    let Some(registry) = Registry::plain().map(Registry::with_tls) else { return };
    let test = Test::empty();
    registry.fill(&app(&test), "app:latest", &[]);
    let name = registry.name("app");
    // On this machine any certificate will do, until somebody says which: at first one of another authority.
    let other = Registry::plain().map(Registry::with_tls).expect("there was one before");
    let folder = registry.trust(&test);
    fs_err::copy(other.authority(), folder.join("ca.crt")).unwrap();
    refused(&test, &["pull", &name], &[registry.address(), "certificate"]);
    registry.trust(&test);
    pull(&test, &name).succeeded();
    assert_eq!(greeting(&test, &name), "hello");
    test.rbuild(&["tag", &name, &registry.name("second")]).succeeded();
    test.rbuild(&["push", &registry.name("second")]).succeeded();
}

#[test]
fn a_certificate_is_shown_to_a_registry_that_wants_one() {
    let Some(registry) = Registry::plain().map(Registry::with_tls) else { return };
    let registry = registry.with_client_certificates();
    let test = Test::empty();
    registry.fill(&app(&test), "app:latest", &[]);
    let folder = registry.trust(&test);
    let name = registry.name("app");
    let kept = test.outside("client.cert");
    fs_err::rename(folder.join("client.cert"), &kept).unwrap();
    assert_eq!(pull(&test, &name).code, Some(1));
    fs_err::rename(kept, folder.join("client.cert")).unwrap();
    pull(&test, &name).succeeded();
}

#[test]
fn a_password_opens_a_registry_until_logout() {
    let Some(registry) = Registry::plain() else { return };
    let registry = registry.with_htpasswd("amy", "secret word");
    let test = Test::empty();
    registry.fill(&app(&test), "app:latest", &[]);
    let (name, address) = (registry.name("app"), registry.address().to_owned());
    refused(&test, &["pull", &name], &["unauthorized", "login"]);
    let wrong = login(&test, &address, "amy", "wrong");
    assert!(wrong.failed(1).contains("nauthorized"), "{wrong}");
    assert!(!wrong.stderr.contains("rbuild login"), "{wrong}");
    assert!(!test.outside(".docker/config.json").exists(), "wrong credentials are not kept");
    let right = login(&test, &address, "amy", "secret word");
    assert!(right.ok().contains("Login Succeeded"), "{right}");
    pull(&test, &name).succeeded();
    test.rbuild(&["tag", &name, &registry.name("second")]).succeeded();
    test.rbuild(&["push", &registry.name("second")]).succeeded();
    let logout = test.rbuild(&["logout", &address]).ok();
    assert_eq!(logout, format!("Removing login credentials for {address}\n"));
    let after = pull(&test, &name);
    assert!(after.failed(1).contains("unauthorized"), "{after}");
}

fn login(test: &Test, address: &str, user: &str, password: &str) -> Outcome {
    let arguments = ["login", "-u", user, "--password-stdin", address];
    test.rbuild_with(&arguments, &[], Some(password.as_bytes()))
}

#[test]
fn tokens_are_asked_for_what_is_done() {
    let Some(registry) = Registry::plain() else { return };
    let registry = registry.with_token_server();
    let test = Test::empty();
    let source = app(&test);
    registry.fill(&source, "public/app:latest", &[]);
    registry.fill(&source, "app:latest", &[]);
    // Without credentials: what is public, and nothing else.
    pull(&test, &registry.name("public/app")).succeeded();
    assert_eq!(greeting(&test, &registry.name("public/app")), "hello");
    let private = registry.name("app");
    let denied = pull(&test, &private);
    assert!(denied.failed(1).contains("pull access denied"), "{denied}");
    let wrong = login(&test, registry.address(), tokens::USER, "wrong");
    assert!(wrong.failed(1).contains("incorrect username or password"), "{wrong}");
    assert!(!wrong.stderr.contains("rbuild login"), "{wrong}");
    login(&test, registry.address(), tokens::USER, tokens::PASSWORD).succeeded();
    pull(&test, &private).succeeded();
    test.rbuild(&["tag", &private, &registry.name("second")]).succeeded();
    test.rbuild(&["push", &registry.name("second")]).succeeded();
    let requests = registry.token_requests();
    let asked = |who: &str, scope: &str| {
        requests.iter().any(|line| {
            line.split(' ').nth(1) == Some(who)
                && line.split(' ').any(|word| word == format!("repository:{scope}"))
        })
    };
    assert!(asked("-", "public/app:pull"), "{requests:?}");
    assert!(asked(tokens::USER, "app:pull"), "{requests:?}");
    let pushed = asked(tokens::USER, "second:pull,push") || asked(tokens::USER, "second:push,pull");
    assert!(pushed, "{requests:?}");
}

#[test]
fn an_identity_token_stands_for_the_password() {
    let Some(registry) = Registry::plain() else { return };
    let registry = registry.with_token_server();
    let test = Test::empty();
    registry.fill(&app(&test), "app:latest", &[]);
    let kept = json!({"auths": {registry.address(): {
        // "amy:" in base64: docker keeps the name, and the token beside it.
        "auth": "YW15Og==", "identitytoken": tokens::IDENTITY,
    }}});
    fs_err::create_dir(test.outside(".docker")).unwrap();
    fs_err::write(test.outside(".docker/config.json"), kept.to_string()).unwrap();
    pull(&test, &registry.name("app")).succeeded();
    let requests = registry.token_requests();
    let exchanged = requests.iter().any(|line| line.starts_with("POST amy repository:app:pull"));
    assert!(exchanged, "{requests:?}");
}
