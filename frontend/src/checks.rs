//! The build checks: what a Dockerfile may say and should not.
//!
//! Walks the whole file with scopes of its own and builds nothing; what it must know of base
//! images comes through one function. The rules themselves are in `check_text`, `check_from` and
//! `check_stage`, in the order in which a file is understood.

use std::collections::{BTreeMap, BTreeSet};

use cache::oci::Platform;

use crate::check_config::CheckConfig;
use crate::check_from::{check_default_bases, check_stages, predefined_args, read_globals};
use crate::check_rules::{self as rules, Rule};
use crate::check_stage::{self, Context};
use crate::check_text::{check_casing, check_instructions, check_stage_names};
use crate::error::{Error, ErrorKind, StageError};
use crate::instruction::{Instruction, Kind};
use crate::lines::Dockerfile;
use crate::span::Lines;

/// The build argument that stands in for the `# check=` directive.
const CHECK_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Something that a Dockerfile should not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The rule's name.
    pub rule: &'static str,
    /// What the rule asks for.
    pub description: &'static str,
    /// Where the rule is explained; may be empty.
    pub url: String,
    /// What is wrong here.
    pub detail: String,
    /// Where.
    pub lines: Vec<Lines>,
    /// How bad it is; always 1.
    pub level: u8,
}

/// What the checks found.
#[derive(Debug, Default)]
pub struct Report {
    /// The warnings, in the order in which a build meets them.
    pub warnings: Vec<Warning>,
    /// The error that ended the checks, or that the warnings are by `error=true`.
    pub error: Option<Error>,
}

/// What of the file is checked beyond its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The stages that the target needs, as when it is built.
    Target,
    /// All stages.
    AllStages,
}

/// What the checks depend on besides the file.
#[derive(Clone, Debug)]
pub struct CheckOptions<'a> {
    /// The build's arguments.
    pub build_args: &'a BTreeMap<String, String>,
    /// The stage to build; the last one otherwise.
    pub target: Option<&'a str>,
    /// What is checked.
    pub scope: Scope,
    /// The platform that builds.
    pub build_platform: &'a Platform,
    /// The platform built for.
    pub target_platform: &'a Platform,
    /// The patterns of the context's ignore file.
    pub ignores: &'a [String],
}

/// What is known of a base image.
#[derive(Clone, Debug)]
pub struct BaseConfig {
    /// Its variables, `name=value`.
    pub env: Vec<String>,
    /// Its shell.
    pub shell: Vec<String>,
    /// Its triggers.
    pub onbuild: Vec<String>,
    /// Its platform.
    pub platform: Platform,
}

/// Tells of a base image, by name and platform, what is known.
pub type BaseLookup<'a> = &'a mut dyn FnMut(&str, &Platform) -> Option<BaseConfig>;

/// Checks a file.
pub fn check(dockerfile: &Dockerfile, options: &CheckOptions<'_>, bases: BaseLookup<'_>) -> Report {
    let mut linter = Linter::default();
    let error = match read_config(dockerfile, options) {
        Ok(config) => {
            linter.config = config;
            check_all(dockerfile, options, bases, &mut linter).err()
        }
        Err(error) => Some(error),
    };
    let error = error.or_else(|| linter.violations());
    Report { warnings: linter.warnings, error }
}

fn read_config(dockerfile: &Dockerfile, options: &CheckOptions<'_>) -> Result<CheckConfig, Error> {
    let directive = dockerfile.directives.iter().find(|directive| directive.name == "check");
    let (text, lines) = match (options.build_args.get(CHECK_ARG), directive) {
        (Some(text), _) => (text.as_str(), Lines::default()),
        (None, Some(directive)) => (directive.first_word(), directive.lines),
        (None, None) => return Ok(CheckConfig::default()),
    };
    CheckConfig::parse(text).map_err(|error| Error::new(ErrorKind::CheckConfig(error), lines))
}

/// Runs the rules and collects their warnings.
#[derive(Debug, Default)]
pub(crate) struct Linter {
    config: CheckConfig,
    warnings: Vec<Warning>,
}

impl Linter {
    /// Warns, unless the rule is skipped for the file or by the comments above the instruction.
    pub(crate) fn warn(&mut self, rule: &Rule, comments: &[String], lines: Lines, detail: String) {
        if !self.config.with_comments(comments).allows(rule.name, rule.experimental) {
            return;
        }
        self.warnings.push(Warning {
            rule: rule.name,
            description: rule.description,
            url: rule.url(),
            detail,
            lines: vec![lines],
            level: 1,
        });
    }

    fn violations(&self) -> Option<Error> {
        if !self.config.error || self.warnings.is_empty() {
            return None;
        }
        let rules: BTreeSet<&str> = self.warnings.iter().map(|warning| warning.rule).collect();
        let kind = ErrorKind::Violations { rules: rules.into_iter().collect() };
        Some(Error::new(kind, Lines::default()))
    }
}

fn check_all(
    dockerfile: &Dockerfile,
    options: &CheckOptions<'_>,
    bases: BaseLookup<'_>,
    linter: &mut Linter,
) -> Result<(), Error> {
    for warning in &dockerfile.warnings {
        let detail = "Empty continuation line".to_owned();
        linter.warn(&rules::NO_EMPTY_CONTINUATION, &[], warning.lines, detail);
    }
    let instructions = check_instructions(dockerfile, linter)?;
    let is_from = |instruction: &Instruction| matches!(instruction.kind, Kind::From(_));
    let Some(first) = instructions.iter().position(is_from) else {
        return Err(Error::new(ErrorKind::Stage(StageError::None), Lines::default()));
    };
    let (globals, stages) = instructions.split_at(first);
    check_stage_names(stages, linter);
    check_casing(stages, linter);

    let predefined = predefined_args(options, last_stage_name(stages));
    check_default_bases(dockerfile.escape, &predefined, globals, stages, linter);
    let globals = read_globals(dockerfile.escape, &predefined, globals, options.build_args)?;
    let stages = check_stages(dockerfile.escape, &globals, stages, linter)?;
    let escape = dockerfile.escape;
    let context = Context { escape, globals: &globals, stages: &stages, options };
    check_stage::check_stages(&context, bases, linter)
}

fn last_stage_name(stages: &[Instruction]) -> Option<&str> {
    let last = stages.iter().rev().find_map(|instruction| match &instruction.kind {
        Kind::From(from) => Some(from),
        _ => None,
    });
    last.and_then(|from| from.name.as_deref())
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
