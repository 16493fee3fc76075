//! What tests of containers that have a name are written with.

use std::time::{Duration, Instant};

use super::{Outcome, Test};

/// A world whose store knows `busybox`.
pub(crate) fn world() -> Test {
    let test = Test::empty();
    test.import("busybox");
    test
}

/// Runs a container without a network, which is all that most tests need.
pub(crate) fn run(test: &Test, arguments: &[&str]) -> Outcome {
    test.rbuild(&[&["run", "--network", "none"], arguments].concat())
}

/// What a template shows of a container, or of whatever else has the name.
#[track_caller]
pub(crate) fn shown(test: &Test, name: &str, template: &str) -> String {
    let shown = test.rbuild(&["inspect", "--format", template, name]);
    shown.ok().trim().to_owned()
}

/// Waits for what must happen soon.
#[track_caller]
pub(crate) fn soon(what: &str, mut happens: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !happens() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a template shows this of a container.
#[track_caller]
pub(crate) fn soon_is(test: &Test, name: &str, template: &str, expected: &str) {
    soon(&format!("{name} never is {expected}"), || shown(test, name, template) == expected);
}
