//! What is done when files of a service change while it is developed: `develop.watch`.
//!
//! Paths that have changed go in, a [`Batch`] comes out: what to build, to copy, to restart and to run. This file
//! touches no disk but to read ignore files; [`tree`] tells which paths have changed, [`sync`] copies into containers.

pub mod sync;
pub mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use engine::pattern::{Patterns, clean};

use crate::failure::Failure;
use crate::model::{Build, Hook, Mount, Project, Service, Trigger};

/// What editors and compilers make for a moment, and the history of the sources: never of interest.
const EPHEMERAL: [&str; 13] = [
    "**/.git",
    "**/*___jb_old___",
    "**/*___jb_tmp___",
    "**/.idea/**",
    "**/.#*",
    "**/#*#",
    "**/4913",
    "**/*~",
    "**/.*.swp",
    "**/.*.swx",
    "**/.*.swo",
    "**/.*.swn",
    "**/.*.kate-swp",
];

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Rebuild,
    Restart,
    Sync,
    SyncRestart,
    SyncExec,
}

/// One entry of a service's `develop.watch`.
#[derive(Clone, Debug)]
struct Rule {
    service: String,
    path: PathBuf,
    target: String,
    action: Action,
    exec: Hook,
    /// All paths if there is none.
    include: Option<Patterns>,
    ignore: Vec<Patterns>,
    is_initial: bool,
}

/// All that is watched of a project.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// What somebody should know.
    pub warnings: Vec<String>,
}

/// A file here, and its place in a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mapping {
    /// The file; one that is gone is to be removed from the container.
    pub host: PathBuf,
    /// The path in the container.
    pub target: Vec<u8>,
}

/// What is to be done about changes, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Services that are built and get new containers.
    pub rebuild: BTreeSet<String>,
    /// Files that go into the containers of services.
    pub sync: BTreeMap<String, BTreeSet<Mapping>>,
    /// Services whose containers are restarted.
    pub restart: BTreeSet<String>,
    /// Commands that are run in the containers of services.
    pub exec: Vec<(String, Hook)>,
}

impl Action {
    fn parse(text: &str) -> Option<Action> {
        Some(match text {
            "rebuild" => Action::Rebuild,
            "restart" => Action::Restart,
            "sync" => Action::Sync,
            "sync+restart" => Action::SyncRestart,
            "sync+exec" => Action::SyncExec,
            _ => return None,
        })
    }

    /// Whether nothing is to be done about files that a bind mount shows to the container anyway.
    fn is_sync(self) -> bool {
        matches!(self, Action::Sync | Action::SyncRestart)
    }
}

impl Rules {
    /// Reads the rules of a project's services, and the ignore files of their contexts.
    pub fn of(project: &Project) -> Result<Rules, Failure> {
        Self::with(project, ignored_by_context)
    }

    fn with(
        project: &Project,
        ignored: impl Fn(&Build) -> io::Result<Vec<String>>,
    ) -> Result<Rules, Failure> {
        let mut rules = Rules::default();
        for (name, service) in &project.services {
            let triggers = service.develop.iter().flat_map(|develop| &develop.watch);
            let triggers: Vec<&Trigger> = triggers.collect();
            if triggers.is_empty() {
                continue;
            }
            let context = match &service.build {
                Some(build) => {
                    let patterns = ignored(build).map_err(|error| {
                        Failure::Refused(format!("cannot read the ignore file of {name}: {error}"))
                    })?;
                    Some(patterns_in(name, &build.context, &patterns)?)
                }
                None => None,
            };
            for trigger in triggers {
                rules.add(name, service, trigger, context.as_ref())?;
            }
        }
        Ok(rules)
    }

    fn add(
        &mut self,
        name: &str,
        service: &Service,
        trigger: &Trigger,
        context: Option<&Patterns>,
    ) -> Result<(), Failure> {
        let refused = |text: String| Err(Failure::Refused(text));
        let action = &trigger.action;
        let Some(parsed) = Action::parse(action) else {
            return refused(format!("service {name:?}: develop.watch has no action {action:?}"));
        };
        if parsed == Action::Rebuild && service.build.is_none() {
            return refused(format!(
                "can't watch service {name:?} with action {action} without a build context"
            ));
        }
        let command = trigger.exec.command.as_ref();
        if parsed == Action::SyncExec && command.is_none_or(|command| command.0.is_empty()) {
            return refused(format!(
                "can't watch with action {action:?} on service {name} without a command"
            ));
        }
        let path = PathBuf::from(clean(&trigger.path));
        if parsed.is_sync() && is_mounted(&path, &service.volumes) {
            self.warnings.push(format!(
                "path '{}' also declared by a bind mount volume, this path won't be monitored!",
                trigger.path
            ));
            return Ok(());
        }
        let ephemeral = patterns_in(name, "/", &EPHEMERAL.map(str::to_owned))?;
        let own = patterns_in(name, &trigger.path, &trigger.ignore)?;
        let include = match trigger.include.iter().any(|pattern| pattern.trim() == "*") {
            true => None,
            false if trigger.include.is_empty() => None,
            false => Some(patterns_in(name, &trigger.path, &trigger.include)?),
        };
        self.rules.push(Rule {
            service: name.to_owned(),
            path,
            target: trigger.target.clone(),
            action: parsed,
            exec: trigger.exec.clone(),
            include,
            ignore: context.into_iter().cloned().chain([ephemeral, own]).collect(),
            is_initial: trigger.initial_sync && parsed.is_sync(),
        });
        Ok(())
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether changes lead to builds.
    pub fn builds(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == Action::Rebuild)
    }

    /// What is watched.
    pub fn roots(&self) -> BTreeSet<PathBuf> {
        self.rules.iter().map(|rule| rule.path.clone()).collect()
    }

    /// Whether anything below a directory, or the directory itself, can be of interest.
    pub fn enters(&self, dir: &Path) -> bool {
        self.rules.iter().any(|rule| {
            rule.path.starts_with(dir) || dir.starts_with(&rule.path) && !rule.is_closed(dir)
        })
    }

    /// The files that containers are to have from the beginning, out of those that are there.
    pub fn initial<'a>(
        &self,
        there: impl Iterator<Item = &'a PathBuf> + Clone,
    ) -> BTreeMap<String, BTreeSet<Mapping>> {
        let mut all: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for rule in self.rules.iter().filter(|rule| rule.is_initial) {
            let mappings = there.clone().filter_map(|path| rule.mapping(path));
            all.entry(rule.service.clone()).or_default().extend(mappings);
        }
        all.retain(|_, mappings| !mappings.is_empty());
        all
    }

    /// What is to be done about changed paths.
    pub fn batch(&self, changed: &BTreeSet<PathBuf>) -> Batch {
        let mut batch = Batch::default();
        for rule in &self.rules {
            let mut mappings = changed.iter().filter_map(|path| rule.mapping(path)).peekable();
            if mappings.peek().is_none() {
                continue;
            }
            let service = rule.service.clone();
            match rule.action {
                Action::Rebuild => _ = batch.rebuild.insert(service.clone()),
                Action::Restart | Action::SyncRestart => _ = batch.restart.insert(service.clone()),
                Action::SyncExec => batch.exec.push((service.clone(), rule.exec.clone())),
                Action::Sync => {}
            }
            if !matches!(rule.action, Action::Rebuild | Action::Restart) {
                batch.sync.entry(service).or_default().extend(mappings);
            }
        }
        batch
    }
}

impl Rule {
    /// Where a changed path belongs, if this is its rule.
    fn mapping(&self, path: &Path) -> Option<Mapping> {
        let below = path.strip_prefix(&self.path).ok()?;
        let bytes = path.as_os_str().as_bytes();
        let matches = |patterns: &Patterns| patterns.matches_or_parent_matches(bytes);
        let is_included = self.include.as_ref().is_none_or(matches);
        if !is_included || self.ignore.iter().any(matches) {
            return None;
        }
        let mut target = self.target.trim_end_matches('/').as_bytes().to_vec();
        if !below.as_os_str().is_empty() {
            target.push(b'/');
            target.extend_from_slice(below.as_os_str().as_bytes());
        }
        Some(Mapping { host: path.to_owned(), target })
    }

    /// Whether a directory is ignored with everything below it.
    fn is_closed(&self, dir: &Path) -> bool {
        let dir = dir.as_os_str().as_bytes();
        let is_closed = |patterns: &Patterns| {
            patterns.matches_or_parent_matches(dir) && !patterns.may_reinclude_below(dir)
        };
        self.ignore.iter().any(is_closed)
    }
}

impl Batch {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.rebuild.is_empty() && self.sync.is_empty() && self.restart.is_empty()
    }
}

/// A line for each thing to be done.
impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for service in &self.rebuild {
            writeln!(f, "rebuild {service}")?;
        }
        for (service, mappings) in &self.sync {
            for Mapping { host, target } in mappings {
                let target = String::from_utf8_lossy(target);
                writeln!(f, "sync {service} {} {target}", host.display())?;
            }
        }
        for service in &self.restart {
            writeln!(f, "restart {service}")?;
        }
        for (service, hook) in &self.exec {
            let words = hook.command.iter().flat_map(|command| &command.0);
            let words: Vec<&str> = words.map(String::as_str).collect();
            writeln!(f, "exec {service} {}", words.join(" "))?;
        }
        Ok(())
    }
}

/// Patterns that are relative to a folder, as patterns of whole paths.
///
/// As in docker compose a lone `*` takes all but exceptions out: a context that has nothing but what is named would
/// otherwise keep from being synced what was never meant for its image.
fn patterns_in(service: &str, root: &str, patterns: &[String]) -> Result<Patterns, Failure> {
    if patterns.iter().any(|pattern| pattern == "*") {
        return Ok(Patterns::default());
    }
    let root = escaped(root.trim_end_matches('/'));
    let patterns = patterns.iter().map(|pattern| pattern.trim()).filter(|it| !it.is_empty());
    let patterns: Vec<String> = patterns
        .map(|pattern| {
            let (sign, text) = match pattern.strip_prefix('!') {
                Some(text) => ("!", text),
                None => ("", pattern),
            };
            match text.starts_with('/') {
                true => format!("{sign}{}", clean(text)),
                false => format!("{sign}{}", clean(&format!("{root}/{text}"))),
            }
        })
        .collect();
    Patterns::new(&patterns)
        .map_err(|error| Failure::Refused(format!("service {service:?}: develop.watch: {error}")))
}

/// A path in which no character means another one.
fn escaped(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for character in path.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Whether a bind mount shows a path to the container.
fn is_mounted(path: &Path, mounts: &[Mount]) -> bool {
    let binds = mounts.iter().filter(|mount| mount.kind == "bind");
    binds.into_iter().any(|mount| path.starts_with(clean(&mount.source)))
}

/// The patterns of a context's ignore file: the Dockerfile's own, or else the usual one.
fn ignored_by_context(build: &Build) -> io::Result<Vec<String>> {
    let context = Path::new(&build.context);
    let dockerfile = match build.dockerfile.as_str() {
        "" => "Dockerfile",
        name => name,
    };
    for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
        match std::fs::read(context.join(name)) {
            Ok(text) => return Ok(frontend::ignore::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests;
