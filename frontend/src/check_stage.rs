//! The build checks of instructions in their stage: variables, commands, ports, copied files.
//!
//! Follows the stages as a build does, but only as far as scopes and the rules need it.

use std::collections::{BTreeMap, BTreeSet};

use cache::oci::Platform;
use engine::pattern::Patterns;

use crate::check_from::{Globals, Stage};
use crate::check_rules::{self as rules, Rule};
use crate::checks::{BaseConfig, BaseLookup, CheckOptions, Linter, Scope};
use crate::error::{Error, ErrorKind, StageError};
use crate::expand::Expander;
use crate::expose::{PortSpec, parse_ports};
use crate::git_url::GitRef;
use crate::instruction::{ArgPair, CommandLine, Instruction, KeyValue, Kind};
use crate::parse::parse_trigger;
use crate::path;
use crate::platform;
use crate::span::Lines;
use crate::suggest;

/// Where a process looks for programs if an image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Arguments that configure the builder and are never variables.
const BUILDER_ARGS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// The file as a whole.
pub(crate) struct Context<'a> {
    pub(crate) escape: char,
    pub(crate) globals: &'a Globals,
    pub(crate) stages: &'a [Stage<'a>],
    pub(crate) options: &'a CheckOptions<'a>,
}

/// What holds at one place of a stage.
#[derive(Clone, Debug, Default)]
struct State {
    /// The variables of `ENV` and `ARG`.
    env: BTreeMap<String, String>,
    /// The arguments declared, with or without value.
    args: BTreeSet<String>,
    /// Whether `SHELL` or the base has set a shell.
    has_shell: bool,
    /// Whether a `WORKDIR` of this file came before.
    has_workdir: bool,
    /// Whether all variables of the base are known.
    known: bool,
    /// The last `ENTRYPOINT`, `CMD` and `HEALTHCHECK` of the stage itself.
    last: BTreeMap<&'static str, Lines>,
    /// The triggers left for stages that begin here.
    triggers: Vec<String>,
    platform: Option<Platform>,
}

/// Checks the stages that the options name, in their order.
pub(crate) fn check_stages(
    context: &Context<'_>,
    bases: BaseLookup<'_>,
    linter: &mut Linter,
) -> Result<(), Error> {
    let wanted = context.wanted_stages()?;
    let ignores = Patterns::new(context.options.ignores).ok();
    let mut states: Vec<State> = Vec::new();
    for (index, stage) in context.stages.iter().enumerate() {
        if !wanted.contains(&index) {
            states.push(State::default());
            continue;
        }
        let mut state = match context.stage_before(&stage.base, index) {
            Some(base) => states[base].child(),
            None => context.base_state(stage, bases, linter),
        };
        for trigger in std::mem::take(&mut state.triggers) {
            let instruction = parse_trigger(&trigger, stage.start.lines)?;
            Checker { context, ignores: &ignores, state: &mut state, linter }
                .check(&instruction)?;
        }
        for instruction in stage.body {
            Checker { context, ignores: &ignores, state: &mut state, linter }.check(instruction)?;
        }
        states.push(state);
    }
    Ok(())
}

impl Context<'_> {
    /// Finds a stage by name among those before `index`; the last of equal names holds.
    fn stage_before(&self, name: &str, index: usize) -> Option<usize> {
        let is_named =
            |stage: &Stage<'_>| stage.name.is_some_and(|own| own.eq_ignore_ascii_case(name));
        self.stages[..index].iter().rposition(is_named)
    }

    /// Returns the stages to check: the target and what it needs, or all.
    fn wanted_stages(&self) -> Result<BTreeSet<usize>, Error> {
        let count = self.stages.len();
        let target = match self.options.target {
            None => count - 1,
            Some(target) => self.target(target)?,
        };
        for index in 0..count {
            self.needs(index)?;
        }
        if self.options.scope == Scope::AllStages {
            return Ok((0..count).collect());
        }
        let mut wanted = BTreeSet::new();
        let mut queue = vec![target];
        while let Some(index) = queue.pop() {
            if wanted.insert(index) {
                queue.extend(self.needs(index)?);
            }
        }
        Ok(wanted)
    }

    fn target(&self, target: &str) -> Result<usize, Error> {
        let count = self.stages.len();
        let by_number = || target.parse().ok().filter(|index| *index < count);
        self.stage_before(target, count).or_else(by_number).ok_or_else(|| {
            let suggestion =
                suggest::nearest(target, self.stages.iter().filter_map(|stage| stage.name));
            let kind = StageError::UnknownTarget { target: target.to_owned(), suggestion };
            Error::new(ErrorKind::Stage(kind), Lines::default())
        })
    }

    /// Returns the stages that a stage begins with, copies from and mounts.
    fn needs(&self, index: usize) -> Result<Vec<usize>, Error> {
        let count = self.stages.len();
        let stage = &self.stages[index];
        let mut needs: Vec<usize> = self.stage_before(&stage.base, index).into_iter().collect();
        for instruction in stage.body {
            match &instruction.kind {
                Kind::Copy(copy) => {
                    let Some(from) = &copy.from else { continue };
                    needs.extend(self.copy_source(from, instruction.lines)?);
                }
                Kind::Run(run) => {
                    let sources = run.mounts.iter().filter_map(|mount| mount.from.as_deref());
                    needs.extend(sources.filter_map(|from| self.stage_before(from, count)));
                }
                _ => {}
            }
        }
        Ok(needs)
    }

    fn copy_source(&self, from: &str, lines: Lines) -> Result<Option<usize>, Error> {
        let place = |kind| Error::new(kind, lines);
        let expanded = Expander::new(self.escape, &|_| None).word(from);
        if expanded.map_err(|error| place(ErrorKind::Word(error)))? != from {
            return Err(place(ErrorKind::Stage(StageError::VariableFrom)));
        }
        match from.parse::<i64>() {
            Ok(index) => {
                match usize::try_from(index).ok().filter(|index| *index < self.stages.len()) {
                    Some(index) => Ok(Some(index)),
                    None => Err(place(ErrorKind::Stage(StageError::Index { index }))),
                }
            }
            Err(_) => Ok(self.stage_before(from, self.stages.len())),
        }
    }

    /// Returns what a stage begins with whose base is an image.
    fn base_state(&self, stage: &Stage<'_>, bases: BaseLookup<'_>, linter: &mut Linter) -> State {
        let platform = stage.platform.as_ref().unwrap_or(self.options.target_platform);
        let mut state = State { platform: Some(platform.clone()), known: true, ..State::default() };
        if stage.base != "scratch" {
            match bases(&stage.base, platform) {
                Some(base) => state.take_base(base, stage, linter),
                None => state.known = false,
            }
        }
        state.env.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
        state
    }
}

impl State {
    /// Returns what a stage begins with that has this one as its base.
    fn child(&self) -> Self {
        Self { last: BTreeMap::new(), ..self.clone() }
    }

    fn take_base(&mut self, base: BaseConfig, stage: &Stage<'_>, linter: &mut Linter) {
        let pairs = base.env.iter().filter_map(|pair| pair.split_once('='));
        self.env.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self.has_shell = !base.shell.is_empty();
        self.triggers = base.onbuild;
        let Some(expected) = &self.platform else {
            return;
        };
        if (&expected.os, &expected.architecture)
            != (&base.platform.os, &base.platform.architecture)
        {
            let detail = format!(
                "Base image {} was pulled with platform {:?}, expected {:?} for current build",
                stage.base,
                platform::format(&base.platform),
                platform::format(expected),
            );
            linter.warn(&rules::INVALID_BASE_IMAGE_PLATFORM, &[], stage.start.lines, detail);
        }
    }
}

/// Checks one instruction at its place.
struct Checker<'a> {
    context: &'a Context<'a>,
    ignores: &'a Option<Patterns>,
    state: &'a mut State,
    linter: &'a mut Linter,
}

impl Checker<'_> {
    fn check(&mut self, instruction: &Instruction) -> Result<(), Error> {
        let at = &self.expand(instruction)?;
        match &at.kind {
            Kind::Env(pairs) => self.check_env(at, pairs),
            Kind::Label(pairs) => self.check_legacy(at, pairs),
            Kind::Arg(pairs) => self.check_arg(at, pairs)?,
            Kind::Cmd(command) | Kind::Entrypoint(command) => self.check_command(at, command),
            Kind::Healthcheck(_) => self.check_once(at),
            Kind::Workdir(path) => self.check_workdir(at, path),
            Kind::Expose(ports) => self.check_ports(at, ports)?,
            Kind::Copy(copy) if copy.from.is_none() => {
                self.check_sources(at, "Copy", &copy.paths.sources)
            }
            Kind::Add(add) => self.check_sources(at, "Add", &add.paths.sources),
            Kind::Shell(_) => self.state.has_shell = true,
            Kind::Onbuild(trigger) => self.state.triggers.push(trigger.clone()),
            _ => {}
        }
        Ok(())
    }

    fn warn(&mut self, rule: &Rule, at: &Instruction, detail: String) {
        self.linter.warn(rule, &at.comments, at.lines, detail);
    }

    /// Expands an instruction's variables and checks that they exist.
    fn expand(&mut self, instruction: &Instruction) -> Result<Instruction, Error> {
        let mut expanded = instruction.clone();
        let lookup = |name: &str| self.state.env.get(name).cloned();
        let mut expander = Expander::new(self.context.escape, &lookup);
        let mut outcome = expanded.expand(&mut expander);
        if let Kind::Run(run) = &instruction.kind {
            let mounts = run.mounts(&mut expander).map(drop);
            outcome =
                mounts.map_err(|error| Error::new(ErrorKind::Mount(error), instruction.lines));
        }
        let unmatched = expander.unmatched;
        self.check_variables(instruction, unmatched);
        outcome.map(|()| expanded)
    }

    fn check_variables(&mut self, at: &Instruction, unmatched: BTreeSet<String>) {
        // What an unknown base sets cannot be told from what nobody sets.
        if !self.state.known {
            return;
        }
        for name in unmatched.difference(&self.state.args.clone()) {
            if BUILDER_ARGS.contains(&name.as_str()) {
                continue;
            }
            let suggestion =
                match suggest::nearest(name, self.state.env.keys().map(String::as_str)).0 {
                    Some(known) => format!(" (did you mean ${known}?)"),
                    None => String::new(),
                };
            self.warn(
                &rules::UNDEFINED_VAR,
                at,
                format!("Usage of undefined variable '${name}'{suggestion}"),
            );
        }
    }

    fn check_env(&mut self, at: &Instruction, pairs: &[KeyValue]) {
        self.check_legacy(at, pairs);
        for KeyValue { key, value, .. } in pairs {
            self.check_secret(at, "ENV", key);
            self.state.env.insert(key.clone(), value.clone());
        }
    }

    fn check_legacy(&mut self, at: &Instruction, pairs: &[KeyValue]) {
        if pairs.iter().any(|pair| pair.legacy) {
            let keyword = &at.keyword;
            let detail = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
            );
            self.warn(&rules::LEGACY_KEY_VALUE_FORMAT, at, detail);
        }
    }

    fn check_secret(&mut self, at: &Instruction, keyword: &str, name: &str) {
        if looks_secret(name) {
            let detail = format!(
                "Do not use ARG or ENV instructions for sensitive data ({keyword} {name:?})"
            );
            self.warn(&rules::SECRETS_USED_IN_ARG_OR_ENV, at, detail);
        }
    }

    fn check_arg(&mut self, at: &Instruction, pairs: &[ArgPair]) -> Result<(), Error> {
        for ArgPair { key, value, .. } in pairs {
            self.check_secret(at, "ARG", key);
            let value = match (self.context.options.build_args.get(key), value) {
                (Some(given), _) => Some(given.clone()),
                (None, None) => self.context.globals.values.get(key).cloned(),
                (None, Some(default)) => {
                    let lookup = |name: &str| self.state.env.get(name).cloned();
                    let mut expander = Expander::new(self.context.escape, &lookup);
                    let expanded = expander.word(default);
                    let unmatched = expander.unmatched;
                    self.check_variables(at, unmatched);
                    Some(expanded.map_err(|error| Error::new(ErrorKind::Word(error), at.lines))?)
                }
            };
            if let Some(value) = value.filter(|_| !BUILDER_ARGS.contains(&key.as_str())) {
                self.state.env.insert(key.clone(), value);
            }
            self.state.args.insert(key.clone());
        }
        Ok(())
    }

    fn check_command(&mut self, at: &Instruction, command: &CommandLine) {
        self.check_once(at);
        // A shell that was chosen is a shell that is wanted; that of an unknown base may be.
        if matches!(command, CommandLine::Shell(_)) && !self.state.has_shell && self.state.known {
            let detail = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                at.keyword
            );
            self.warn(&rules::JSON_ARGS_RECOMMENDED, at, detail);
        }
    }

    /// Checks that an instruction is the first of its kind; the earlier one is the useless one.
    fn check_once(&mut self, at: &Instruction) {
        let kind = match at.kind {
            Kind::Cmd(_) => "CMD",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            _ => "HEALTHCHECK",
        };
        if let Some(earlier) = self.state.last.insert(kind, at.lines) {
            let detail = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                at.keyword
            );
            self.linter.warn(
                &rules::MULTIPLE_INSTRUCTIONS_DISALLOWED,
                &at.comments,
                earlier,
                detail,
            );
        }
    }

    fn check_workdir(&mut self, at: &Instruction, path: &str) {
        if !self.state.has_workdir && !path.starts_with('/') {
            let detail = format!(
                "Relative workdir {path:?} can have unexpected results if the base image changes"
            );
            self.warn(&rules::WORKDIR_RELATIVE_PATH, at, detail);
        }
        self.state.has_workdir = true;
    }

    fn check_ports(&mut self, at: &Instruction, ports: &[String]) -> Result<(), Error> {
        let place = |error| Error::new(ErrorKind::Port(error), at.lines);
        for text in ports {
            let spec = PortSpec::split(text).map_err(place)?;
            if !spec.is_lowercase() {
                let detail =
                    format!("Defined protocol '{text}' in EXPOSE instruction should be lowercase");
                self.warn(&rules::EXPOSE_PROTO_CASING, at, detail);
            }
            if spec.names_host() {
                let detail = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'"
                );
                self.warn(&rules::EXPOSE_INVALID_FORMAT, at, detail);
            }
        }
        parse_ports(ports).map(drop).map_err(place)
    }

    /// Checks that sources in the context are not ignored.
    ///
    /// With patterns that take back others, only the files themselves could tell.
    fn check_sources(&mut self, at: &Instruction, verb: &str, sources: &[String]) {
        let Some(ignores) = self.ignores.as_ref().filter(|ignores| !ignores.has_exceptions())
        else {
            return;
        };
        let patterns = self.context.options.ignores;
        let ignores_all =
            patterns.iter().any(|pattern| matches!(pattern.as_str(), "*" | "**" | "**/*"));
        for source in sources.iter().filter(|source| !is_remote(source)) {
            let source = path::clean(source);
            // The context itself is no file; it is ignored with everything in it.
            let ignored = match source.as_str() {
                "." | "/" => ignores_all,
                source => ignores.matches_or_parent_matches(source),
            };
            if ignored {
                let detail = format!(
                    "Attempting to {verb} file {source:?} that is excluded by .dockerignore"
                );
                self.warn(&rules::COPY_IGNORED_FILE, at, detail);
            }
        }
    }
}

/// Returns whether a source of `ADD` is fetched from elsewhere.
fn is_remote(source: &str) -> bool {
    let is_url = ["http://", "https://"].iter().any(|scheme| source.starts_with(scheme));
    is_url || !matches!(GitRef::parse(source), Ok(None | Some(GitRef { looks_local: true, .. })))
}

/// Returns whether a variable's name has a word for a secret in it, and none that says otherwise.
fn looks_secret(name: &str) -> bool {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let name = name.to_lowercase();
    let has = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
    has(&SECRET) && !has(&HARMLESS)
}
