//! What a test cannot do without. Where it is missing, the test is skipped, unless RBUILD_REQUIRE names it (or says `all`):
//! then the test fails, so that green never means skipped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

/// The program under test.
pub(crate) const RBUILD: &str = env!("CARGO_BIN_EXE_rbuild");

/// The rules for registries that tests run under.
pub(crate) const RULES: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/registries.json");

/// The script that makes and imports base images.
pub(crate) const BASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bases");

/// Sees to what every test needs: root, which containers need here, and the busybox base.
pub(crate) fn root() {
    static BUSYBOX: Once = Once::new();
    assert!(rustix::process::geteuid().is_root(), "the end-to-end tests run as root");
    BUSYBOX.call_once(|| {
        let mut make = Command::new(BASES);
        make.arg("busybox");
        super::finish(make, None).ok();
    });
}

/// Whether a program that judges or feeds ours is installed.
#[must_use]
pub(crate) fn program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    given(name, std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

/// Whether a base image has been made; those that take long are left to `tests/bases`.
#[must_use]
pub(crate) fn base(name: &str) -> bool {
    given(name, base_tar(name).is_file())
}

/// The root file system of a base image, which `tests/bases` keeps.
pub(crate) fn base_tar(name: &str) -> PathBuf {
    bases_folder().join(format!("{name}.tar"))
}

/// The folder of the reference implementations' tables, where the caller has named it.
pub(crate) fn conformance(suite: &str) -> Option<PathBuf> {
    let folder = Path::new(&std::env::var_os("RBUILD_CONFORMANCE")?).join(suite);
    assert!(folder.is_dir(), "RBUILD_CONFORMANCE has no {suite}");
    Some(folder)
}

/// Where `tests/bases` keeps its tars: the same rule as in that script.
fn bases_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("RBUILD_TEST_CACHE") {
        return folder.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("bases")
}

fn given(name: &str, there: bool) -> bool {
    let required = std::env::var("RBUILD_REQUIRE").unwrap_or_default();
    assert!(
        there || !required.split(',').any(|required| required == name || required == "all"),
        "RBUILD_REQUIRE asks for {name}, which is not there"
    );
    there
}
