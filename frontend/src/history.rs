//! What an image's history says of each instruction (`created_by`), to the letter as BuildKit
//! writes it: people and scripts read it.
//!
//! Everything here is called after expansion, and knows nothing of layers.

use crate::healthcheck::format_duration;
use crate::instruction::{Healthcheck, KeyValue, Kind, SourcesAndDest};

/// What marks an entry that changes files.
const MARK: &str = " # buildkit";

/// Says what an instruction did; `shell` is what stands before a command in shell form.
///
/// `None` for those that have no entry, or that depend on more than themselves and so have a
/// function of their own here: `RUN`, `ARG`, `WORKDIR`, `EXPOSE`.
pub fn created_by(kind: &Kind, shell: &[String]) -> Option<String> {
    Some(match kind {
        Kind::Env(pairs) => format!("ENV{}", join_pairs(pairs)),
        Kind::Label(pairs) => format!("LABEL{}", join_pairs(pairs)),
        Kind::Copy(copy) => {
            let parents = if copy.parents { " --parents" } else { "" };
            let owner = file_flags(copy.chown.as_deref(), copy.chmod.as_deref());
            format!("COPY{parents}{owner}{}{MARK}", join_paths(&copy.paths))
        }
        Kind::Add(add) => {
            let owner = file_flags(add.chown.as_deref(), add.chmod.as_deref());
            format!("ADD{owner}{}{MARK}", join_paths(&add.paths))
        }
        Kind::Cmd(command) => format!("CMD {}", quote_all(&command.to_args(shell))),
        Kind::Entrypoint(command) => format!("ENTRYPOINT {}", quote_all(&command.to_args(shell))),
        Kind::User(user) => format!("USER {user}"),
        Kind::Volume(paths) => format!("VOLUME [{}]", paths.join(" ")),
        Kind::Shell(words) => format!("SHELL [{}]", words.join(" ")),
        Kind::StopSignal(signal) => format!("STOPSIGNAL {signal}"),
        Kind::Maintainer(name) => format!("MAINTAINER {name}"),
        Kind::Healthcheck(check) => healthcheck(check),
        _ => return None,
    })
}

/// Says what a `RUN` did. `args` is the whole command; `build_args` are the arguments declared
/// before it, in their order, a repeated one once.
pub fn run(args: &[String], build_args: &[(String, String)]) -> String {
    let mut words = Vec::new();
    if !build_args.is_empty() {
        words.push(format!("|{}", build_args.len()));
        words.extend(build_args.iter().map(|(name, value)| format!("{name}={value}")));
    }
    words.extend_from_slice(args);
    format!("RUN {}{MARK}", words.join(" "))
}

/// Says what an `ARG` declared, with the values that hold.
pub fn arg(pairs: &[(String, Option<String>)]) -> String {
    let pair = |(name, value): &(String, Option<String>)| match value {
        Some(value) => format!(" {name}={value}"),
        None => format!(" {name}"),
    };
    format!("ARG{}", pairs.iter().map(pair).collect::<String>())
}

/// Says which directory a `WORKDIR` led to.
pub fn workdir(path: &str) -> String {
    format!("WORKDIR {path}")
}

/// Says which ports an `EXPOSE` declared: those of [`crate::expose::parse_ports`].
pub fn expose(ports: &[String]) -> String {
    format!("EXPOSE [{}]", ports.join(" "))
}

fn join_pairs(pairs: &[KeyValue]) -> String {
    pairs.iter().map(|pair| format!(" {}={}", pair.key, pair.value)).collect()
}

fn file_flags(chown: Option<&str>, chmod: Option<&str>) -> String {
    let flag = |name: &str, value: Option<&str>| value.map(|value| format!(" --{name}={value}"));
    [flag("chown", chown), flag("chmod", chmod)].into_iter().flatten().collect()
}

fn join_paths(paths: &SourcesAndDest) -> String {
    let sources = paths.sources.iter().map(|source| format!(" {source}"));
    let contents = paths.contents.iter().map(|file| format!(" <<{}", file.path));
    format!("{} {}", sources.chain(contents).collect::<String>(), paths.dest)
}

fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.join(" "),
        format_duration(check.interval),
        format_duration(check.timeout),
        format_duration(check.start_period),
        format_duration(check.start_interval),
        check.retries,
    )
}

fn quote_all(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Quotes a string as Go does (`strconv.Quote`).
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            char if char.is_ascii_control() => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(char)))
            }
            char if char.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines;
    use crate::parse::parse_instruction;

    const SHELL: [&str; 2] = ["/bin/sh", "-c"];

    fn shell() -> Vec<String> {
        SHELL.map(str::to_owned).to_vec()
    }

    fn parse(text: &str) -> Kind {
        let file = lines::parse(text.as_bytes()).unwrap();
        parse_instruction(&file.instructions[0], '\\').unwrap().kind
    }

    #[test]
    fn entries_are_buildkits() {
        let check = |text: &str, expected: &str| {
            assert_eq!(created_by(&parse(text), &shell()).as_deref(), Some(expected), "{text}");
        };
        check("ENV a=1 b=2", "ENV a=1 b=2");
        check("LABEL a 1", "LABEL a=1");
        check(
            "COPY --chmod=755 --chown=a:b --link x y /z",
            "COPY --chown=a:b --chmod=755 x y /z # buildkit",
        );
        check("COPY --parents --from=b x .", "COPY --parents x . # buildkit");
        check("COPY <<a x /b/\nA\na", "COPY x <<a /b/ # buildkit");
        check("ADD a b", "ADD a b # buildkit");
        check("CMD [\"a\", \"b\\\"\\t\"]", r#"CMD ["a" "b\"\t"]"#);
        check("CMD echo hi", r#"CMD ["/bin/sh" "-c" "echo hi"]"#);
        check("ENTRYPOINT [\"a\"]", r#"ENTRYPOINT ["a"]"#);
        check("USER a:b", "USER a:b");
        check("VOLUME /a /b", "VOLUME [/a /b]");
        check("SHELL [\"a\", \"-c\"]", "SHELL [a -c]");
        check("STOPSIGNAL 9", "STOPSIGNAL 9");
        check("MAINTAINER me you", "MAINTAINER me you");
        check(
            "HEALTHCHECK --interval=90s --retries=3 CMD true",
            "HEALTHCHECK {Test:[CMD-SHELL true] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}",
        );
    }

    #[test]
    fn entries_with_context() {
        let own = |text: &str| text.to_owned();
        let command = [shell(), vec![own("ls")]].concat();
        assert_eq!(run(&command, &[]), "RUN /bin/sh -c ls # buildkit");
        let args = [(own("A"), own("b")), (own("C"), own(""))];
        assert_eq!(run(&command, &args), "RUN |2 A=b C= /bin/sh -c ls # buildkit");
        assert_eq!(arg(&[(own("A"), None), (own("B"), Some(own("")))]), "ARG A B=");
        assert_eq!(expose(&[own("80/tcp"), own("81/udp")]), "EXPOSE [80/tcp 81/udp]");
        assert_eq!(workdir("/a"), "WORKDIR /a");
    }
}
