//! Switches as docker has them: `--rm`, but also `--rm=true` and `-d=false`, which scripts write.

use std::any::TypeId;

use clap::{Arg, ArgAction};

/// Lets a switch take a value behind `=`, and only there; leaves other options alone. For
/// `#[command(mut_args)]`.
pub(crate) fn valued(option: Arg) -> Arg {
    let option = match option.get_action() {
        ArgAction::SetTrue => option.action(ArgAction::Set).default_value("false"),
        // One that is true unless somebody says otherwise, or that may be left open.
        ArgAction::Set if option.get_value_parser().type_id() == TypeId::of::<bool>() => option,
        _ => return option,
    };
    option
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .hide_default_value(true)
        .hide_possible_values(true)
        .value_name("BOOL")
        .value_parser(truth)
}

/// What Go's `strconv.ParseBool` takes for a truth value.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use clap::{Command, CommandFactory};

    use super::*;

    /// Calls `check` with each verb's words and what clap knows of it.
    fn walk(command: &Command, words: &[String], check: &mut dyn FnMut(&[String], &Command)) {
        check(words, command);
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            walk(verb, &[words, &[verb.get_name().to_owned()]].concat(), check);
        }
    }

    #[test]
    fn every_switch_of_every_verb_takes_a_value_and_may_be_repeated() {
        let mut cli = crate::args::Cli::command();
        cli.build();
        let mut tried = 0;
        walk(&cli.clone(), &[], &mut |words, verb| {
            for option in verb.get_arguments().filter(|option| !option.is_positional()) {
                let is_bool = option.get_value_parser().type_id() == TypeId::of::<bool>();
                match option.get_action() {
                    ArgAction::SetTrue | ArgAction::SetFalse => {}
                    ArgAction::Set if is_bool => {}
                    _ => continue,
                }
                let long = option.get_long().map(|long| format!("--{long}"));
                let short = option.get_short().map(|short| format!("-{short}"));
                for flag in long.into_iter().chain(short) {
                    let values = ["", "=false", "=true", "=0", "=T"];
                    let given = values.iter().map(|value| format!("{flag}{value}"));
                    let line = ["rbuild".to_owned()].into_iter().chain(words.to_vec());
                    let line: Vec<String> = line.chain(given).collect();
                    match cli.clone().try_get_matches_from(&line) {
                        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => {
                            panic!("{line:?}: {error}")
                        }
                        _ => tried += 1,
                    }
                    let line = [&line[..=words.len()], &[format!("{flag}=maybe")]].concat();
                    let refused = cli.clone().try_get_matches_from(&line).expect_err("refused");
                    assert_eq!(refused.kind(), ErrorKind::ValueValidation, "{line:?}: {refused}");
                }
            }
        });
        assert!(tried > 100, "{tried}");
    }

    #[test]
    fn what_follows_a_switch_is_no_value_of_it() {
        use clap::Parser;
        for line in ["attach --sig-proxy c1", "pull --disable-content-trust busybox", "ps -a -q"] {
            let words = ["rbuild"].into_iter().chain(line.split(' '));
            assert!(crate::args::Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
