//! Which of several images is the one for a platform (image-spec `image-index.md`).
//!
//! Does not know how platforms are typed, nor what this machine is.

use cache::oci::{ImageConfig, Platform};

/// Which images are wanted.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Those for this platform; an image for another one does not do.
    Only(Platform),
    /// Of several the one for this platform; an image that is there alone is taken as it is.
    Preferably(Platform),
}

impl Choice {
    /// The platform.
    pub fn platform(&self) -> &Platform {
        let (Self::Only(platform) | Self::Preferably(platform)) = self;
        platform
    }
}

/// Tells whether an image for `found` can be run where `wanted` is asked for, and how far from it
/// that is: 0 is the very same.
pub fn rank(wanted: &Platform, found: &Platform) -> Option<u32> {
    if wanted.os != found.os || wanted.architecture != found.architecture {
        return None;
    }
    let architecture = &wanted.architecture;
    let [wanted, found] = [wanted, found].map(|platform| variant(platform, architecture));
    if wanted == found {
        return Some(0);
    }
    // Newer variants run what was made for older ones.
    let number = |variant: &str| variant.strip_prefix('v')?.parse::<u32>().ok();
    match architecture.as_str() {
        "arm" | "arm64" | "amd64" => number(wanted)?.checked_sub(number(found)?),
        _ => None,
    }
}

/// How far an image for `found` is from what is `wanted`; `None` if it will not do. Who names no
/// variant takes any, but the usual one first; an image that says nothing of itself is for anything.
pub fn fits(wanted: &Platform, found: &Platform) -> Option<u32> {
    let is_any = wanted.variant.is_none()
        && wanted.os == found.os
        && wanted.architecture == found.architecture;
    let is_silent = found.architecture.is_empty();
    rank(wanted, found).or((is_any || is_silent).then_some(u32::MAX))
}

/// A platform's variant, or the one that an architecture means without any.
fn variant<'a>(platform: &'a Platform, architecture: &str) -> &'a str {
    match (platform.variant.as_deref().unwrap_or_default(), architecture) {
        ("", "arm") => "v7",
        ("", "arm64") => "v8",
        ("", "amd64") => "v1",
        (variant, _) => variant,
    }
}

/// What an image runs on.
pub fn of(config: &ImageConfig) -> Platform {
    Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        variant: config.variant.clone(),
        ..Platform::default()
    }
}

/// A platform as people write it.
pub fn shown(platform: &Platform) -> String {
    let Platform { os, architecture, variant, .. } = platform;
    match variant.as_deref() {
        None | Some("") => format!("{os}/{architecture}"),
        Some(variant) => format!("{os}/{architecture}/{variant}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_variants_take_images_for_older_ones() {
        let platform = |text: &str| {
            let mut parts = text.split('/').map(str::to_owned);
            let mut next = || parts.next();
            Platform {
                os: next().unwrap_or_default(),
                architecture: next().unwrap_or_default(),
                variant: next(),
                ..Platform::default()
            }
        };
        for (wanted, found, expected) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/amd64/v1", Some(0)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/amd64", "linux/arm64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm", "linux/arm/v7", Some(0)),
            ("linux/arm", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/mips/a", "linux/mips/b", None),
        ] {
            assert_eq!(rank(&platform(wanted), &platform(found)), expected, "{wanted} {found}");
        }
    }
}
