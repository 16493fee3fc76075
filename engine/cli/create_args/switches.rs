//! Switches as docker has them: `--rm`, but also `--rm=true` and `-d=false`, which scripts write.

use clap::{Arg, ArgAction};

/// Lets a switch take a value behind `=`; leaves other options alone. For `#[command(mut_args)]`.
pub(crate) fn valued(option: Arg) -> Arg {
    if !matches!(option.get_action(), ArgAction::SetTrue) {
        return option;
    }
    option
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
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
