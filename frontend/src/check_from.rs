//! The build checks of how stages begin: global arguments, bases and platforms.
//!
//! Asks no registry: a base is a name here.

use std::collections::{BTreeMap, BTreeSet};

use cache::oci::Platform;
use engine::reference::Reference;

use crate::check_rules as rules;
use crate::checks::{CheckOptions, Linter};
use crate::error::{Error, ErrorKind, StageError};
use crate::expand::Expander;
use crate::instruction::{ArgPair, From, Instruction, Kind};
use crate::platform;
use crate::suggest;

/// A stage of the file, its `FROM` expanded.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    /// The instruction that begins it.
    pub(crate) start: &'a Instruction,
    /// The base's name.
    pub(crate) base: String,
    /// The stage's name.
    pub(crate) name: Option<&'a str>,
    /// The platform, where one is given.
    pub(crate) platform: Option<Platform>,
    /// The instructions behind `FROM`.
    pub(crate) body: &'a [Instruction],
}

/// The arguments before the first `FROM`.
#[derive(Debug)]
pub(crate) struct Globals {
    /// Those with a value, the predefined ones included.
    pub(crate) values: BTreeMap<String, String>,
    /// Those declared.
    declared: BTreeSet<String>,
}

/// The arguments that need no declaration before `FROM`.
pub(crate) fn predefined_args(
    options: &CheckOptions<'_>,
    last_stage: Option<&str>,
) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (prefix, platform) in
        [("BUILD", options.build_platform), ("TARGET", options.target_platform)]
    {
        args.insert(format!("{prefix}PLATFORM"), platform::format(platform));
        args.insert(format!("{prefix}OS"), platform.os.clone());
        args.insert(format!("{prefix}OSVERSION"), String::new());
        args.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        args.insert(format!("{prefix}VARIANT"), platform.variant.clone().unwrap_or_default());
    }
    let stage = options.target.or(last_stage).unwrap_or("default");
    args.insert("TARGETSTAGE".to_owned(), stage.to_owned());
    for (name, value) in &mut args {
        if let Some(given) = options.build_args.get(name) {
            value.clone_from(given);
        }
    }
    args
}

pub(crate) fn read_globals(
    escape: char,
    predefined: &BTreeMap<String, String>,
    instructions: &[Instruction],
    build_args: &BTreeMap<String, String>,
) -> Result<Globals, Error> {
    let mut globals = Globals { values: predefined.clone(), declared: BTreeSet::new() };
    for instruction in instructions {
        let Kind::Arg(pairs) = &instruction.kind else {
            continue;
        };
        for ArgPair { key, value, .. } in pairs {
            let value =
                match (build_args.get(key), value) {
                    (Some(given), _) => Some(given.clone()),
                    (None, Some(default)) => {
                        let lookup = |name: &str| globals.values.get(name).cloned();
                        let expanded = Expander::new(escape, &lookup).word(default);
                        Some(expanded.map_err(|error| {
                            Error::new(ErrorKind::Word(error), instruction.lines)
                        })?)
                    }
                    (None, None) => None,
                };
            globals.declared.insert(key.clone());
            if let Some(value) = value {
                globals.values.insert(key.clone(), value);
            }
        }
    }
    Ok(globals)
}

/// Checks that every base is an image's name also without build arguments.
pub(crate) fn check_default_bases(
    escape: char,
    predefined: &BTreeMap<String, String>,
    globals: &[Instruction],
    stages: &[Instruction],
    linter: &mut Linter,
) {
    // What cannot be expanded fails the build soon enough.
    let Ok(globals) = read_globals(escape, predefined, globals, &BTreeMap::new()) else {
        return;
    };
    let lookup = |name: &str| globals.values.get(name).cloned();
    for instruction in stages {
        let Kind::From(from) = &instruction.kind else {
            continue;
        };
        let Ok(base) = Expander::new(escape, &lookup).word(&from.base) else {
            return;
        };
        if Reference::parse(&base).is_err() {
            let detail = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                from.base
            );
            linter.warn(&rules::INVALID_DEFAULT_ARG_IN_FROM, &[], instruction.lines, detail);
        }
    }
}

/// Cuts the instructions into stages and checks how each begins.
pub(crate) fn check_stages<'a>(
    escape: char,
    globals: &Globals,
    instructions: &'a [Instruction],
    linter: &mut Linter,
) -> Result<Vec<Stage<'a>>, Error> {
    let mut stages = Vec::new();
    for stage in instructions.chunk_by(|_, next| !matches!(next.kind, Kind::From(_))) {
        let [start, body @ ..] = stage else { continue };
        let Kind::From(from) = &start.kind else {
            continue;
        };
        let lookup = |name: &str| globals.values.get(name).cloned();
        let place = |kind| Error::new(kind, start.lines);

        let mut expander = Expander::new(escape, &lookup);
        let base = expander.word(&from.base);
        check_from_args(start, globals, &expander.unmatched, linter);
        let base = base.map_err(|error| place(ErrorKind::Word(error)))?;
        if base.is_empty() {
            return Err(place(ErrorKind::Stage(StageError::BlankBase { base: from.base.clone() })));
        }

        let mut expander = Expander::new(escape, &lookup);
        let platform = match &from.platform {
            Some(text) => Some(check_platform(start, text, &mut expander, globals, linter)?),
            None => None,
        };
        stages.push(Stage { start, base, name: from.name.as_deref(), platform, body });
    }
    Ok(stages)
}

fn check_from_args(
    start: &Instruction,
    globals: &Globals,
    unmatched: &BTreeSet<String>,
    linter: &mut Linter,
) {
    for name in unmatched.difference(&globals.declared) {
        let known = globals.declared.iter().chain(globals.values.keys());
        let suggestion = suggest::nearest(name, known.map(String::as_str));
        let detail = format!("FROM argument '{name}' is not declared{suggestion}");
        linter.warn(&rules::UNDEFINED_ARG_IN_FROM, &start.comments, start.lines, detail);
    }
}

/// Checks and reads `FROM --platform`.
fn check_platform(
    start: &Instruction,
    text: &str,
    expander: &mut Expander<'_>,
    globals: &Globals,
    linter: &mut Linter,
) -> Result<Platform, Error> {
    let place = |kind| Error::new(kind, start.lines);
    let expanded = expander.word(text);
    check_from_args(start, globals, &expander.unmatched, linter);
    let expanded = expanded.map_err(|error| place(ErrorKind::Word(error)))?;
    let parsed = platform::parse(&expanded);

    let (matched, unmatched) = (&expander.matched, &expander.unmatched);
    let is_target = globals.values.get("TARGETPLATFORM") == Some(&expanded);
    if unmatched.is_empty() && matched.iter().eq(["TARGETPLATFORM"]) && is_target {
        let detail = format!(
            "Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
        );
        linter.warn(&rules::REDUNDANT_TARGET_PLATFORM, &start.comments, start.lines, detail);
    }
    if matched.is_empty()
        && unmatched.is_empty()
        && let Ok(platform) = &parsed
        && !names_platform(start, platform)
    {
        let rule = &rules::FROM_PLATFORM_FLAG_CONST_DISALLOWED;
        let detail = format!("FROM --platform flag should not use constant value {expanded:?}");
        linter.warn(rule, &start.comments, start.lines, detail);
    }
    parsed.map_err(|error| {
        let known = || globals.values.keys().map(String::as_str);
        let mut suggestions = unmatched.iter().map(|name| suggest::nearest(name, known()));
        let suggestion = suggestions.find(|found| found.0.is_some()).unwrap_or_default();
        let expression = text.to_owned();
        let reason = error.to_string();
        place(ErrorKind::Stage(match expanded.as_str() {
            "" => StageError::EmptyPlatform { expression, suggestion },
            _ => StageError::Platform { expression, reason, suggestion },
        }))
    })
}

/// Returns whether the stage's name says which platform it is for.
fn names_platform(start: &Instruction, platform: &Platform) -> bool {
    let Kind::From(From { name: Some(name), .. }) = &start.kind else {
        return false;
    };
    name.contains(&platform.os) || name.contains(&platform.architecture)
}
