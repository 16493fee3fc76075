//! Too few arguments: docker's words for them, and its exit code, which is not that of a wrong
//! option.

use anyhow::anyhow;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};

use crate::args::Cli;

/// What is said where clap misses arguments; nothing if that is not what is wrong.
pub(crate) fn too_few(error: &clap::Error) -> Option<anyhow::Error> {
    let (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    else {
        return None;
    };
    // One that is an option is another matter.
    if missing.iter().any(|name| name.starts_with('-')) {
        return None;
    }
    let mut verb = Cli::command();
    verb.build();
    for name in verb_of(&error.get(ContextKind::Usage)?.to_string()) {
        verb = verb.find_subcommand(name)?.clone();
    }
    let wanted = wanted(&counts(&verb));
    Some(requires(&mut verb, &wanted))
}

/// What is said of `run` and `create`, whose arguments are not clap's.
pub(crate) fn no_image(verb: &str) -> anyhow::Error {
    let mut cli = Cli::command();
    cli.build();
    match cli.find_subcommand_mut(verb) {
        Some(verb) => requires(verb, "at least 1 argument"),
        None => anyhow!("no image is named"),
    }
}

fn requires(verb: &mut Command, wanted: &str) -> anyhow::Error {
    let usage = verb.render_usage();
    let name = verb.get_bin_name().unwrap_or_default();
    anyhow!("\"{name}\" requires {wanted}.\nSee '{name} --help'.\n\n{usage}")
}

/// The verb in a line such as `Usage: rbuild network connect [OPTIONS] <NETWORK> <CONTAINER>`.
fn verb_of(usage: &str) -> impl Iterator<Item = &str> {
    let words = usage.split_whitespace().skip_while(|word| *word == "Usage:").skip(1);
    words.take_while(|word| !word.starts_with(['-', '<', '[']))
}

/// How many arguments a verb must have at least, and may have at most.
fn counts(verb: &Command) -> (usize, Option<usize>) {
    let (mut least, mut most) = (0, Some(0));
    for argument in verb.get_positionals() {
        let count = argument.get_num_args().unwrap_or_else(|| 1.into());
        least += if argument.is_required_set() { count.min_values().max(1) } else { 0 };
        most = most.filter(|_| count.max_values() == 1).map(|most| most + 1);
    }
    (least, most)
}

fn wanted((least, most): &(usize, Option<usize>)) -> String {
    let arguments = |count: usize| if count == 1 { "argument" } else { "arguments" };
    match most {
        Some(most) if most == least => format!("exactly {least} {}", arguments(*least)),
        Some(most) => format!("at least {least} and at most {most} {}", arguments(*most)),
        None => format!("at least {least} {}", arguments(*least)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn too_few_arguments_are_told_as_docker_tells_them() {
        for (line, expected) in [
            ("wait", Some("\"rbuild wait\" requires at least 1 argument.")),
            ("exec", Some("\"rbuild exec\" requires at least 2 arguments.")),
            ("exec -i c", Some("\"rbuild exec\" requires at least 2 arguments.")),
            ("rename a", Some("\"rbuild rename\" requires exactly 2 arguments.")),
            ("attach", Some("\"rbuild attach\" requires exactly 1 argument.")),
            ("port", Some("\"rbuild port\" requires at least 1 and at most 2 arguments.")),
            ("network connect n", Some("\"rbuild network connect\" requires exactly 2 arguments.")),
            ("wait --nosuch", None),
            ("rm -f", Some("\"rbuild rm\" requires at least 1 argument.")),
        ] {
            let words = ["rbuild"].into_iter().chain(line.split(' '));
            let error = Cli::try_parse_from(words).err().expect("too few");
            let said = too_few(&error).map(|error| error.to_string());
            let head = said.as_deref().and_then(|said| said.lines().next());
            assert_eq!(head, expected, "{line}: {error}");
            if let Some(said) = said {
                assert!(said.contains("--help'.\n\nUsage: rbuild "), "{said}");
            }
        }
        let said = no_image("create").to_string();
        assert!(said.starts_with("\"rbuild create\" requires at least 1 argument."), "{said}");
        assert!(said.ends_with("Usage: rbuild create [OPTIONS] <IMAGE> [COMMAND]..."), "{said}");
    }
}
