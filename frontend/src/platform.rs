//! Platforms as `--platform` and `FROM --platform` write them: `os[/arch[/variant]]`.
//!
//! Knows the names that mean the same, not what a machine can run.

use cache::oci::Platform;

/// A text that is no platform.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlatformError {
    /// A component with characters that it cannot have.
    #[error(
        "{component:?} is an invalid component of {text:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
    )]
    Component {
        /// The component.
        component: String,
        /// The text it is part of.
        text: String,
    },
    /// One word that is neither a system nor an architecture.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
    /// More than three components.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    Length(String),
}

const SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const ARCHITECTURES: [&str; 18] = [
    "386", "amd64", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mips64", "mips64le",
    "mipsle", "ppc64", "ppc64le", "riscv64", "s390x", "sparc64", "wasm", "riscv",
];

/// Returns the platform that this program runs on.
pub fn host() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        architecture => architecture,
    };
    normalized("linux", architecture, "")
}

/// Reads a platform; what is missing is the host's.
pub fn parse(text: &str) -> Result<Platform, PlatformError> {
    let parts: Vec<&str> = text.split('/').collect();
    for part in &parts {
        let valid = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '.' | '-');
        if part.is_empty() || !part.chars().all(valid) {
            let component = (*part).to_owned();
            return Err(PlatformError::Component { component, text: text.to_owned() });
        }
    }
    match parts.as_slice() {
        [word] => {
            let host = host();
            let platform = normalized(word, word, "");
            if SYSTEMS.contains(&platform.os.as_str()) {
                Ok(Platform { os: platform.os, ..host })
            } else if ARCHITECTURES.contains(&platform.architecture.as_str()) {
                Ok(Platform { os: host.os, ..platform })
            } else {
                Err(PlatformError::Unknown(text.to_owned()))
            }
        }
        [os, architecture] => Ok(normalized(os, architecture, "")),
        [os, architecture, variant] => Ok(normalized(os, architecture, variant)),
        _ => Err(PlatformError::Length(text.to_owned())),
    }
}

/// Writes a platform as `os/arch[/variant]`.
pub fn format(platform: &Platform) -> String {
    let Platform { os, architecture, variant, .. } = platform;
    match variant.as_deref() {
        None | Some("") => format!("{os}/{architecture}"),
        Some(variant) => format!("{os}/{architecture}/{variant}"),
    }
}

/// Makes a platform of names, each replaced by the usual one for the same thing.
fn normalized(os: &str, architecture: &str, variant: &str) -> Platform {
    let os = match os.to_lowercase().as_str() {
        "macos" => "darwin".to_owned(),
        os => os.to_owned(),
    };
    let (architecture, variant) = (architecture.to_lowercase(), variant.to_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64", variant) => ("arm64", variant),
        // The seventh version is what plain `arm` means.
        ("armhf", _) | ("arm", "7" | "v7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        same => same,
    };
    let variant = Some(variant.to_owned()).filter(|variant| !variant.is_empty());
    Platform { os, architecture: architecture.to_owned(), variant, ..Platform::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalised() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let found =
                parse(text).map(|platform| format(&platform)).map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
        };
        check("linux/amd64", Ok("linux/amd64"));
        check("Linux/x86_64", Ok("linux/amd64"));
        check("linux/arm64/v8", Ok("linux/arm64"));
        check("linux/arm/7", Ok("linux/arm/v7"));
        check("linux/arm", Ok("linux/arm"));
        check("s390x", Ok("linux/s390x"));
        check(
            "toaster",
            Err("\"toaster\": unknown operating system or architecture: invalid argument"),
        );
        check("a/b/c/d", Err("\"a/b/c/d\": cannot parse platform specifier: invalid argument"));
        check(
            "linux/",
            Err(
                "\"\" is an invalid component of \"linux/\": platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument",
            ),
        );
        assert_eq!(parse("linux").unwrap(), host());
    }
}
