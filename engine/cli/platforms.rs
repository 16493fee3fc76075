//! Platforms on the command line: what `--platform` asks for, what this machine is, and one image out
//! of those that a name stands for.

use anyhow::Context;
use cache::image::Image;
use cache::oci::Platform;
use engine::platform::{self, fits};

pub(crate) use engine::images::choose;

/// Reads the values of a build's `--platform`, each once; without any, this machine's.
pub(crate) fn parse_all(given: &[String]) -> anyhow::Result<Vec<Platform>> {
    let mut all: Vec<Platform> = Vec::new();
    for text in given.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        let platform = frontend::platform::parse(text).context("--platform")?;
        if !all.contains(&platform) {
            all.push(platform);
        }
    }
    if all.is_empty() {
        all.push(frontend::platform::host());
    }
    Ok(all)
}

/// Of several platforms the place of the one that counts when nobody says more: this machine's, or
/// the first.
pub(crate) fn main_of<'a>(mut platforms: impl Iterator<Item = &'a Platform>) -> usize {
    let host = frontend::platform::host();
    platforms.position(|platform| fits(&host, platform).is_some()).unwrap_or(0)
}

/// What to say of a name that has no image for a platform, in docker's words.
pub(crate) fn not_provided(name: &str, wanted: &Platform) -> String {
    format!(
        "image with reference {name} was found but does not provide the specified platform ({})",
        frontend::platform::format(wanted)
    )
}

/// Warns as docker does of an image that nobody said should be for another platform.
pub(crate) fn warning(image: &Image) -> Option<String> {
    let found = platform::of(&image.config);
    let host = frontend::platform::host();
    let is_other = found.os != host.os || found.architecture != host.architecture;
    (is_other && !found.architecture.is_empty()).then(|| {
        format!(
            "WARNING: The requested image's platform ({}) does not match the detected host platform \
             ({}) and no specific platform was requested",
            frontend::platform::format(&found),
            detected()
        )
    })
}

/// This machine's platform with its variant, as docker writes it.
fn detected() -> String {
    let host = frontend::platform::format(&frontend::platform::host());
    match level() {
        Some(level) => format!("{host}/{level}"),
        None => host,
    }
}

/// The level of the x86-64 psABI that the processor has.
#[cfg(target_arch = "x86_64")]
fn level() -> Option<&'static str> {
    let v2 = is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt");
    let v3 = v2
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("movbe");
    let v4 = v3
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (v2, v3, v4) {
        (_, _, true) => Some("v4"),
        (_, true, _) => Some("v3"),
        (true, ..) => Some("v2"),
        _ => None,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn level() -> Option<&'static str> {
    cfg!(target_arch = "aarch64").then_some("v8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        frontend::platform::parse(text).expect(text)
    }

    #[test]
    fn each_platform_is_asked_for_once() {
        let given = |all: &[&str]| {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            let found = parse_all(&all).expect("platforms");
            found.iter().map(frontend::platform::format).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            given(&["linux/amd64", " linux/arm64", "linux/x86_64"]),
            "linux/amd64 linux/arm64"
        );
        assert_eq!(given(&[""]), frontend::platform::format(&frontend::platform::host()));
        assert!(parse_all(&["x/y/z/w".to_owned()]).is_err());
    }

    #[test]
    fn who_names_no_variant_takes_any() {
        for (wanted, found, expected) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v3", Some(u32::MAX)),
            ("linux/amd64/v2", "linux/amd64/v3", None),
            ("linux/arm", "linux/arm/v6", Some(1)),
            ("linux/arm64", "linux/amd64", None),
        ] {
            assert_eq!(fits(&platform(wanted), &platform(found)), expected, "{wanted} {found}");
        }
        let silent = Platform::default();
        assert!(fits(&platform("linux/arm64"), &silent).is_some());
    }

    #[test]
    fn this_machine_counts_more_than_what_comes_first() {
        let host = frontend::platform::host();
        let [other, another] = ["linux/s390x", "linux/mips"].map(platform);
        assert_eq!(main_of([&other, &host].into_iter()), 1);
        assert_eq!(main_of([&other, &another].into_iter()), 0);
    }
}
