//! Registries that are broken, overloaded or want to know too much: a pull ends in good time, says what is wrong, and
//! leaves no image.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::hostile_registry::{ALWAYS, Fault, HostileRegistry, SOON};
use crate::support::served::Served;
use crate::support::{Test, layer};

#[test]
fn an_answer_without_an_end_is_left() {
    let image = Served::small();
    for path in ["/blobs/", "/manifests/"] {
        let registry = HostileRegistry::serving(image.clone());
        registry.fault(path, ALWAYS, Fault::Endless);
        let test = Test::empty();
        // What is right and has zeros behind it may be taken or not; it has to end.
        let outcome = registry.pull(&test);
        assert!(
            outcome.code == Some(0) && path == "/blobs/" || outcome.code == Some(1),
            "{outcome}"
        );
    }
    let registry = HostileRegistry::serving(image);
    registry.with_tokens(ALWAYS).fault("/token", ALWAYS, Fault::Endless);
    registry.is_refused(&["token"]);
}

#[test]
fn a_download_that_breaks_off_is_taken_up_where_it_broke() {
    let image = Served::busybox();
    let digest = image.layer(0);
    let length = image.bytes(&digest).len();
    let registry = HostileRegistry::serving(image.clone());
    let path = format!("GET /v2/app/blobs/{digest}");
    registry.fault(&path, 3, Fault::Cut(length / 5));
    let test = registry.is_pulled(&image);
    let ranges: Vec<_> = registry.asked(&path).into_iter().map(|asked| asked.range).collect();
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    assert_eq!(ranges[0], None);
    // A client may come to know of fewer bytes than were sent, never of more.
    let from = |range: &Option<String>| -> usize {
        let range = range.as_deref().and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap()
    };
    let starts: Vec<_> = ranges[1..].iter().map(from).collect();
    assert!(starts.is_sorted() && starts[0] > 0 && starts[2] <= length * 3 / 5, "{ranges:?}");
    let greeting = ["run", "--rm", "--network", "none", &registry.name(), "/bin/cat", "/greeting"];
    assert_eq!(test.rbuild(&greeting).ok(), "hello");
}

#[test]
fn a_download_that_breaks_off_is_begun_again_where_ranges_are_not_known() {
    let image = Served::busybox();
    let registry = HostileRegistry::serving(image.clone());
    registry.without_ranges();
    let path = format!("GET /v2/app/blobs/{}", image.layer(0));
    registry.fault(&path, 2, Fault::Cut(image.bytes(&image.layer(0)).len() / 2));
    registry.is_pulled(&image);
    assert_eq!(registry.asked(&path).len(), 3);
}

#[test]
fn a_download_that_always_breaks_off_is_given_up() {
    let image = Served::busybox();
    let digest = image.layer(0);
    for length in [0, 1, 1000] {
        for ranges in [true, false] {
            let registry = HostileRegistry::serving(image.clone());
            if !ranges {
                registry.without_ranges();
            }
            registry.fault(&format!("/blobs/{digest}"), ALWAYS, Fault::Cut(length));
            registry.is_refused(&[&digest]);
            let asked = registry.asked(&digest).len();
            assert!(asked < 200, "it was asked {asked} times");
        }
    }
}

#[test]
fn a_manifest_that_breaks_off_is_asked_for_again() {
    let image = Served::small();
    let registry = HostileRegistry::serving(image.clone());
    registry.fault("GET /v2/app/manifests/", 1, Fault::Cut(10));
    registry.is_pulled(&image);
    registry.fault("GET /v2/app/manifests/", ALWAYS, Fault::Cut(10));
    registry.is_refused(&["manifest"]);
}

#[test]
fn what_an_overloaded_registry_refuses_is_asked_for_again_when_it_says() {
    let image = Served::small();
    for status in [429, 503] {
        let registry = HostileRegistry::serving(image.clone());
        let later = vec![("Retry-After", "1".to_owned())];
        registry.fault("/blobs/", 2, Fault::Answer(status, later.clone(), b"later".to_vec()));
        registry.fault("/manifests/", 2, Fault::Answer(status, later, b"later".to_vec()));
        registry.is_pulled(&image);
        let times: Vec<_> = registry.asked("/manifests/").iter().map(|asked| asked.at).collect();
        for pair in times[..3].windows(2) {
            let waited = pair[1] - pair[0];
            assert!(waited >= Duration::from_millis(900), "it waited {waited:?} for {status}");
        }
    }
    for status in [500, 502, 504] {
        let registry = HostileRegistry::serving(image.clone());
        registry.fault("/", 1, Fault::Answer(status, Vec::new(), Vec::new()));
        registry.fault("/manifests/", 1, Fault::Answer(status, Vec::new(), Vec::new()));
        registry.fault("/blobs/", 1, Fault::Answer(status, Vec::new(), Vec::new()));
        registry.is_pulled(&image);
    }
}

#[test]
fn a_registry_that_refuses_for_ever_is_given_up() {
    for (on, status, expected) in [
        ("/", 500, "500"),
        ("/", 503, "503"),
        ("/manifests/", 429, "429"),
        ("/manifests/", 503, "503"),
        ("/blobs/", 500, "500"),
        ("/blobs/", 403, "403"),
    ] {
        let registry = HostileRegistry::serving(Served::small());
        registry.fault(on, ALWAYS, Fault::Answer(status, Vec::new(), Vec::new()));
        registry.is_refused(&[expected]);
        assert!(registry.asked("/").len() < 40, "{on} {status}");
    }
}

#[test]
fn nobody_waits_a_day_for_a_registry() {
    let registry = HostileRegistry::serving(Served::small());
    let tomorrow = vec![("Retry-After", "86400".to_owned())];
    registry.fault("/manifests/", ALWAYS, Fault::Answer(429, tomorrow, Vec::new()));
    registry.is_refused(&["429"]);
}

#[test]
fn asking_for_credentials_again_and_again_is_given_up() {
    // A token that is never good.
    let registry = HostileRegistry::serving(Served::small());
    registry.with_tokens(0);
    registry.is_refused(&["denied"]);
    assert!(registry.asked("/").len() < 20, "{:?}", registry.asked("/"));
    // One that is not given.
    for status in [401, 403, 404, 500] {
        let registry = HostileRegistry::serving(Served::small());
        registry.with_tokens(ALWAYS);
        registry.fault("/token", ALWAYS, Fault::Answer(status, Vec::new(), Vec::new()));
        registry.is_refused(&["token"]);
        assert!(registry.asked("/token").len() < 20);
    }
    for body in ["", "<html>", "{}", r#"{"token":7}"#, "{\"token\":\"a\\r\\nX-Evil: 1\"}"] {
        let registry = HostileRegistry::serving(Served::small());
        registry.with_tokens(ALWAYS);
        registry.fault("/token", ALWAYS, Fault::Bytes(body.as_bytes().to_vec()));
        registry.is_refused(&["token"]);
    }
    for challenge in [
        "",
        "Negotiate",
        "Bearer",
        r#"Bearer realm="""#,
        r#"Bearer realm="file:///etc/passwd""#,
        r#"Bearer realm="http://127.0.0.1:1/token""#,
        r#"Bearer realm="no address at all""#,
    ] {
        let registry = HostileRegistry::serving(Served::small());
        registry.with_tokens(ALWAYS);
        registry.fault("/v2/", ALWAYS, Fault::Header("WWW-Authenticate", challenge.to_owned()));
        registry.is_refused(&["127.0.0.1"]);
    }
}

#[test]
fn a_token_that_runs_out_is_asked_for_anew() {
    let image = Served::busybox();
    let registry = HostileRegistry::serving(image.clone());
    registry.with_tokens(1);
    registry.is_pulled(&image);
    let tokens = registry.asked("/token").len();
    assert!((3..20).contains(&tokens), "{tokens} tokens");
}

#[test]
fn what_is_no_registry_is_named() {
    let page = |status| {
        let headers = vec![("Content-Type", "text/html".to_owned())];
        Fault::Answer(status, headers, b"<html><body>welcome</body></html>".to_vec())
    };
    for status in [200, 302, 404, 418] {
        let registry = HostileRegistry::serving(Served::small());
        registry.fault("/", ALWAYS, page(status));
        let name = registry.name();
        registry.is_refused(&[name.split('/').next().unwrap()]);
    }
}

#[test]
fn blobs_elsewhere_are_fetched_without_telling_who_asks() {
    let image = Served::small();
    let other = HostileRegistry::serving(image.clone());
    let registry = HostileRegistry::serving(image.clone());
    registry.with_tokens(ALWAYS);
    for number in 0..2 {
        let path = format!("/v2/app/blobs/{}", image.layer(number));
        let there = vec![("Location", other.url("localhost", &path))];
        registry.fault(&format!("GET {path}"), ALWAYS, Fault::Answer(307, there, Vec::new()));
    }
    registry.is_pulled(&image);
    assert!(registry.asked("/blobs/").iter().all(|asked| asked.authorization.is_some()));
    let elsewhere = other.asked("/blobs/");
    assert_eq!(elsewhere.len(), 2, "{elsewhere:?}");
    assert!(elsewhere.iter().all(|asked| asked.authorization.is_none()), "{elsewhere:?}");
}

#[test]
fn a_redirect_in_circles_or_to_no_server_is_given_up() {
    let image = Served::small();
    let digest = image.layer(1);
    let path = format!("/v2/app/blobs/{digest}");
    for target in [path.as_str(), "file:///etc/passwd", "http://127.0.0.1:1/x", "gopher://x/", ""] {
        let registry = HostileRegistry::serving(image.clone());
        let there = vec![("Location", target.to_owned())];
        registry.fault(&path, ALWAYS, Fault::Answer(307, there, Vec::new()));
        registry.is_refused(&[&digest]);
        assert!(registry.asked(&path).len() < 200, "{target}");
    }
}

#[test]
fn a_slow_registry_is_borne_with() {
    let image = Served::small();
    let registry = HostileRegistry::serving(image.clone());
    let piece = image.bytes(&image.layer(0)).len() / 20;
    registry.fault("/", ALWAYS, Fault::Trickle(piece, Duration::from_millis(50)));
    registry.is_pulled(&image);
}

#[test]
fn a_registry_that_falls_silent_is_asked_again_and_then_given_up() {
    let image = Served::busybox();
    let digest = image.layer(0);
    let soon = [("RBUILD_REGISTRY_TIMEOUT", "1")];
    for (on, fault) in [
        (format!("/blobs/{digest}"), Fault::Stall(100_000)),
        (format!("/blobs/{digest}"), Fault::Stall(0)),
        // Alive, but not of use to anybody.
        (format!("/blobs/{digest}"), Fault::Trickle(1, Duration::from_millis(100))),
        ("GET /v2/app/manifests/".to_owned(), Fault::Stall(10)),
    ] {
        let registry = HostileRegistry::serving(image.clone());
        registry.fault(&on, 1, fault.clone());
        let test = Test::empty();
        let begun = Instant::now();
        test.rbuild_with(&["pull", &registry.name()], &soon, None).succeeded();

        registry.mend();
        // Else it would come bit by bit.
        registry.without_ranges();
        registry.fault(&on, ALWAYS, fault);
        let test = Test::empty();
        let outcome = test.rbuild_with(&["pull", &registry.name()], &soon, None);
        let expected = if on.contains("manifests") { "manifest" } else { &digest };
        assert!(outcome.failed(1).contains(expected), "{outcome}");
        assert_eq!(test.rbuild(&["images", "-q", "-a"]).ok(), "");
        assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    }
}

#[test]
fn complete_layers_are_kept_for_the_next_try() {
    let image = Served::of(&[layer("a: 1\n"), layer("b: 2\n"), layer("c: 3\n")]);
    let registry = HostileRegistry::serving(image.clone());
    let last = image.layer(2);
    // Late, so that the others are complete by then.
    let gone = Fault::Answer(404, Vec::new(), Vec::new());
    let late = Fault::After(Duration::from_secs(2), Box::new(gone));
    registry.fault(&format!("/blobs/{last}"), ALWAYS, late);
    let test = Test::empty();
    let outcome = registry.pull(&test);
    assert!(outcome.failed(1).contains(&last), "{outcome}");
    assert_eq!(test.rbuild(&["images", "-q", "-a"]).ok(), "");
    registry.mend();
    registry.pull(&test).succeeded();
    for number in 0..2 {
        let asked = registry.asked(&format!("GET /v2/app/blobs/{}", image.layer(number)));
        assert_eq!(asked.len(), 1, "{asked:?}");
    }
}

#[test]
fn a_pull_that_is_stopped_leaves_no_image_and_the_next_one_works() {
    let image = Served::busybox();
    let registry = HostileRegistry::serving(image.clone());
    let path = format!("/blobs/{}", image.layer(0));
    registry.fault(&path, 1, Fault::Stall(1000));
    let test = Test::empty();
    let mut child = test.command(&["pull", &registry.name()]).spawn().unwrap();
    let deadline = Instant::now() + SOON;
    while registry.asked(&path).is_empty() {
        assert!(Instant::now() < deadline, "the layer is asked for");
        std::thread::sleep(Duration::from_millis(10));
    }
    // `timeout`, our child, passes the signal on.
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert!(!status.success() && Instant::now() < deadline, "{status}");
    assert_eq!(test.rbuild(&["images", "-q", "-a"]).ok(), "");
    registry.pull(&test).succeeded();
}
