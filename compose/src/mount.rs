//! Mounts in short syntax: `/anonymous`, `name:/data:ro`, `./here:/there:rw,z`, also with drives of Windows.
//!
//! Knows nothing of nodes or of what is on the disk.

use crate::error::Wrong;

/// A mount as its short form says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Short {
    /// A path, a volume's name, or nothing for an anonymous volume.
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    /// Whether the source is a path.
    pub(crate) is_bind: bool,
    pub(crate) propagation: Option<String>,
    pub(crate) selinux: Option<String>,
    pub(crate) nocopy: bool,
}

/// Reads one entry. Variables in braces may hold colons, for files that are read without expanding them.
pub(crate) fn parse(spec: &str) -> Result<Short, Wrong> {
    let wrong = |reason| Wrong::Mount { spec: spec.to_owned(), reason };
    if spec.is_empty() {
        return Err(wrong("invalid empty volume spec"));
    }
    let mut mount = Short::default();
    if spec.len() <= 2 {
        mount.target = spec.to_owned();
        return Ok(mount);
    }
    let sections = sections(spec);
    if sections.iter().any(|section| section.is_empty()) {
        return Err(wrong("empty section between colons"));
    }
    match sections.as_slice() {
        [target] => mount.target = (*target).to_owned(),
        [source, target, options @ ..] => {
            mount.source = (*source).to_owned();
            mount.target = (*target).to_owned();
            match options {
                [] => {}
                [options] => options.split(',').for_each(|option| set(&mut mount, option)),
                _ => return Err(wrong("too many colons")),
            }
        }
        [] => {}
    }
    mount.is_bind = is_path(&mount.source);
    Ok(mount)
}

/// Cuts at colons, but neither after a drive's letter nor between the braces of a variable.
fn sections(spec: &str) -> Vec<&str> {
    let mut sections = Vec::new();
    let (mut start, mut depth) = (0, 0usize);
    let bytes = spec.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b':' if depth == 0 && !is_drive(&spec[start..at]) => {
                sections.push(&spec[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    sections.push(&spec[start..]);
    sections
}

fn is_drive(section: &str) -> bool {
    let mut characters = section.chars();
    characters.next().is_some_and(char::is_alphabetic) && characters.next().is_none()
}

/// What to do about a target that is not absolute. The volume `v` of `v:/data` is none: a letter and a colon begin a path of
/// Windows, on Linux too, as docker compose has it.
pub(crate) fn advice(source: &str, target: &str) -> String {
    let read_as_drive = [source, target].into_iter().find_map(|path| {
        let (letter, rest) = path.split_once(':')?;
        (is_drive(letter) && rest.starts_with('/')).then_some((letter, rest))
    });
    match read_as_drive {
        None => "begin it with /".to_owned(),
        Some((letter, rest)) => format!(
            "\"{letter}:\" is read as a drive of Windows, as docker compose reads it, and not as the volume \"{letter}\": \
             write {{type: volume, source: {letter}, target: {rest}}}"
        ),
    }
}

fn set(mount: &mut Short, option: &str) {
    match option {
        "ro" => mount.read_only = true,
        "rw" => mount.read_only = false,
        "nocopy" => mount.nocopy = true,
        "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => {
            mount.propagation = Some(option.to_owned());
        }
        "z" | "Z" => mount.selinux = Some(option.to_owned()),
        // Unknown options are passed over, as docker compose does.
        _ => {}
    }
}

/// Whether a source is a path and no volume's name.
fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~'])
        || source.starts_with("\\\\")
        || source.split_once(':').is_some_and(|(drive, _)| is_drive(drive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart_by_how_they_begin() {
        let bind = |source: &str| Short {
            source: source.to_owned(),
            target: "/t".to_owned(),
            is_bind: true,
            ..Short::default()
        };
        for source in [".", "./a", "~/a", "/a", "../a", "C:\\a", "c:/a"] {
            assert_eq!(parse(&format!("{source}:/t")), Ok(bind(source)), "{source}");
        }
        let named = parse("data:/t:ro,nocopy").expect("it is a mount");
        assert!(!named.is_bind && named.read_only && named.nocopy, "{named:?}");
        assert_eq!(parse("/t").expect("it is a mount").source, "");
    }

    #[test]
    fn the_references_mounts_read_alike() {
        crate::conformance::rows("compose-short-syntax/volumes.jsonl", |row| {
            if row.get("src").and_then(|src| src.as_str()) == Some("TestParseVolumeSplitCases") {
                return None;
            }
            let found = parse(row["spec"].as_str()?);
            let Some(expected) = row.get("expected") else {
                let agrees = found.is_ok() == (row.get("ok").is_some());
                return (!agrees).then(|| format!("found {found:?}"));
            };
            let text = |name: &str| expected[name].as_str().unwrap_or_default().to_owned();
            let option = |name: &str| expected["Bind"][name].as_str().map(str::to_owned);
            let expected = Short {
                source: text("Source"),
                target: text("Target"),
                read_only: expected["ReadOnly"].as_bool().unwrap_or_default(),
                is_bind: expected["Type"] == "bind",
                propagation: option("Propagation"),
                selinux: option("SELinux"),
                nocopy: expected["Volume"]["NoCopy"].as_bool().unwrap_or_default(),
            };
            (found.as_ref() != Ok(&expected)).then(|| format!("found {found:?}"))
        });
    }
}
