//! Files with variables on the disk: `.env`, `--env-file`, and phase 18, the `env_file` and `label_file` of services.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::dotenv;
use crate::error::{Error, Wrong};
use crate::load::Warnings;
use crate::model::Project;
use crate::template::Variables;

/// The variables of several files, later ones over earlier ones. `outside` is looked at first where one names another.
pub(crate) fn read_all(
    files: &[PathBuf],
    outside: &BTreeMap<String, String>,
    warnings: &mut Warnings,
) -> Result<BTreeMap<String, String>, Error> {
    let (values, nameless) = read_each(files, outside, warnings)?;
    warn(nameless, warnings);
    Ok(values)
}

/// The same of variables that a container is to have: each has a name.
pub(crate) fn read_for_container(
    files: &[PathBuf],
    outside: &BTreeMap<String, String>,
    warnings: &mut Warnings,
) -> Result<BTreeMap<String, String>, Error> {
    match read_each(files, outside, warnings)? {
        (_, Some(nameless)) => Err(nameless),
        (values, None) => Ok(values),
    }
}

/// The variables of several files, and the first value that has no name.
fn read_each(
    files: &[PathBuf],
    outside: &BTreeMap<String, String>,
    warnings: &mut Warnings,
) -> Result<(BTreeMap<String, String>, Option<Error>), Error> {
    let (mut values, mut nameless) = (BTreeMap::new(), None);
    let lookup = |name: &str| outside.get(name).cloned();
    for file in files {
        nameless = nameless.or(read(file, "", &mut values, &lookup, warnings)?);
    }
    Ok((values, nameless))
}

/// Tells of a value without a name that does no harm: nobody can ask for it.
fn warn(nameless: Option<Error>, warnings: &mut Warnings) {
    if let Some(text) = nameless.map(|error| error.to_string())
        && !warnings.contains(&text)
    {
        warnings.push(text);
    }
}

/// Reads one file into `values`; what is wrong with a value without a name, which docker compose minds only when a
/// container is to have it.
fn read(
    path: &Path,
    format: &str,
    values: &mut BTreeMap<String, String>,
    lookup: &dyn Fn(&str) -> Option<String>,
    warnings: &mut Warnings,
) -> Result<Option<Error>, Error> {
    if path.is_dir() {
        return Err(Error::IsDirectory { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let mut unset = |name: &str| {
        let warning = format!("The {name:?} variable is not set. Defaulting to a blank string.");
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    };
    let mut variables = Variables { lookup, unset: &mut unset };
    let result = match format {
        "" | ".env" => dotenv::read(&text, values, &mut variables),
        "raw" => dotenv::read_raw(&text, values, lookup).map(|()| None),
        other => {
            let wrong = Wrong::EnvFileFormat { format: other.to_owned() };
            Err(dotenv::LineError { line: 1, wrong })
        }
    };
    let of = |error: dotenv::LineError| Error::VariableFile {
        path: path.to_owned(),
        line: error.line,
        wrong: Box::new(error.wrong),
    };
    result.map(|nameless| nameless.map(of)).map_err(of)
}

impl Project {
    /// Phase 18 for a project that was loaded without it ([`crate::Skip::environment`]).
    pub fn read_environments(&mut self, warnings: &mut Warnings) -> Result<(), Error> {
        read_environments(self, warnings)
    }
}

/// Puts the variables of `env_file` below those of `environment`, and values to names without one.
pub(crate) fn read_environments(
    project: &mut Project,
    warnings: &mut Warnings,
) -> Result<(), Error> {
    let outside = &project.environment;
    for (name, service) in &mut project.services {
        let own = &mut service.environment.0;
        for (variable, value) in own.iter_mut().filter(|(_, value)| value.is_none()) {
            *value = outside.get(variable).cloned();
        }
        let mut values: BTreeMap<String, String> =
            own.iter().filter_map(|(k, v)| Some((k.clone(), v.clone()?))).collect();
        for file in std::mem::take(&mut service.env_file) {
            let path = PathBuf::from(&file.path);
            if !path.exists() {
                if file.required.0 {
                    return Err(missing("env", path, name));
                }
                continue;
            }
            let lookup = |name: &str| {
                let outer = outside.get(name).cloned();
                outer.or_else(|| own.get(name).cloned().flatten())
            };
            if let Some(nameless) = read(&path, &file.format, &mut values, &lookup, warnings)? {
                return Err(nameless);
            }
        }
        for (variable, value) in values {
            own.entry(variable).or_insert(Some(value));
        }
    }
    Ok(())
}

fn missing(what: &'static str, path: PathBuf, service: &str) -> Error {
    Error::ServiceFile { what, path, service: service.to_owned(), place: None }
}

/// Puts the labels of `label_file` below those of `labels`.
pub(crate) fn read_labels(project: &mut Project, warnings: &mut Warnings) -> Result<(), Error> {
    for (name, service) in &mut project.services {
        let mut labels = BTreeMap::new();
        for file in &service.label_file {
            let path = PathBuf::from(file);
            if !path.exists() {
                return Err(missing("label", path, name));
            }
            let known = labels.clone();
            let lookup = |name: &str| BTreeMap::get(&known, name).cloned();
            warn(read(&path, "", &mut labels, &lookup, warnings)?, warnings);
        }
        for (label, value) in labels {
            service.labels.0.entry(label).or_insert(value);
        }
    }
    Ok(())
}
