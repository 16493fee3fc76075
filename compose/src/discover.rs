//! Which files a project is made of, what it is called, and what its variables are, before any file is understood.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Wrong};
use crate::load::{self, Warnings};
use crate::node::{Node, Value};
use crate::place::Source;
use crate::request::Request;
use crate::template::{self, Variables};
use crate::variable_files;

/// Compose files, the best first.
const NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// As long a project's name may be: those of its networks begin with it and may have 200 characters.
const LONGEST_NAME: usize = 128;

/// Files that are laid over them without being named.
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// What a project is loaded from.
pub(crate) struct Found {
    /// The compose files, read.
    pub(crate) files: Vec<Arc<Source>>,
    /// The folder that relative paths begin at.
    pub(crate) working_dir: PathBuf,
    /// The values of variables.
    pub(crate) environment: BTreeMap<String, String>,
    /// Null, for what no file says.
    pub(crate) nothing: Node,
}

/// Finds and reads the files of a project.
pub(crate) fn find(request: &Request, warnings: &mut Warnings) -> Result<Found, Error> {
    let mut environment = request.environment.clone();
    let here = request.current_dir.to_string_lossy().into_owned();
    environment.entry("PWD".to_owned()).or_insert(here);
    // Variables may name the compose files, and those the folder whose variables count: hence twice.
    read_env_files(request, &request.files, &mut environment, warnings)?;
    let files = compose_files(request, &environment, warnings)?;
    read_env_files(request, &files, &mut environment, warnings)?;
    let mut sources = Vec::new();
    for file in &files {
        let source = match file.as_str() {
            "-" => load::text("-".to_owned(), request.stdin.clone().unwrap_or_default())?,
            path => load::read(&absolute(request, path))?,
        };
        sources.push(Arc::new(source));
    }
    let nothing = match sources.first() {
        Some(source) => Node::new(Value::Null, Arc::clone(source), (1, 1)),
        None => return Err(Error::NoFile { dir: start(request) }),
    };
    let working_dir = working_dir(request, &files);
    Ok(Found { files: sources, working_dir, environment, nothing })
}

fn absolute(request: &Request, path: &str) -> PathBuf {
    clean(&request.current_dir.join(path))
}

fn clean(path: &Path) -> PathBuf {
    crate::canonical::clean(&path.to_string_lossy()).into()
}

/// Where relative paths begin: the folder that was named, or that of the first file.
fn working_dir(request: &Request, files: &[String]) -> PathBuf {
    if let Some(dir) = &request.project_directory {
        return clean(&request.current_dir.join(dir));
    }
    let first = files.iter().find(|file| *file != "-").map(|file| absolute(request, file));
    let dir = first.as_deref().and_then(Path::parent).map(Path::to_owned);
    dir.unwrap_or_else(|| request.current_dir.clone())
}

fn start(request: &Request) -> PathBuf {
    working_dir(request, &[])
}

fn read_env_files(
    request: &Request,
    files: &[String],
    environment: &mut BTreeMap<String, String>,
    warnings: &mut Warnings,
) -> Result<(), Error> {
    let named: Vec<PathBuf> = match request.env_files.as_slice() {
        [] => {
            let disabled = request.environment.get("COMPOSE_DISABLE_ENV_FILE");
            let is_disabled = disabled.is_some_and(|value| is_true(value));
            let default = working_dir(request, files).join(".env");
            Some(default).into_iter().filter(|file| !is_disabled && file.is_file()).collect()
        }
        named => named.iter().map(|file| clean(&request.current_dir.join(file))).collect(),
    };
    for (name, value) in variable_files::read_all(&named, environment, warnings)? {
        environment.entry(name).or_insert(value);
    }
    Ok(())
}

/// Whether a variable of compose is switched on.
pub(crate) fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// The compose files: those asked for, those of the environment, or those that stand here or above.
fn compose_files(
    request: &Request,
    environment: &BTreeMap<String, String>,
    warnings: &mut Warnings,
) -> Result<Vec<String>, Error> {
    if !request.files.is_empty() {
        return Ok(request.files.clone());
    }
    if let Some(files) = environment.get("COMPOSE_FILE") {
        let separator = environment.get("COMPOSE_PATH_SEPARATOR").filter(|text| !text.is_empty());
        let separator = separator.map_or(":", String::as_str);
        return Ok(files.split(separator).map(str::to_owned).collect());
    }
    let start = start(request);
    for dir in start.ancestors() {
        let mut files = pick(dir, &NAMES, "config", warnings);
        if files.is_empty() {
            continue;
        }
        files.extend(pick(dir, &OVERRIDES, "override", warnings));
        return Ok(files);
    }
    Err(Error::NoFile { dir: start })
}

/// The first of some files that exist in a folder, at most one.
fn pick(dir: &Path, names: &[&str], what: &str, warnings: &mut Warnings) -> Vec<String> {
    let present = names.iter().map(|name| dir.join(name)).filter(|path| path.exists());
    let mut present: Vec<String> =
        present.map(|path| path.to_string_lossy().into_owned()).collect();
    if present.len() > 1 {
        warnings.push(format!(
            "Found multiple {what} files with supported names: {}",
            present.join(", ")
        ));
        warnings.push(format!("Using {}", present[0]));
    }
    present.truncate(1);
    present
}

/// The active profiles: those asked for, or those of the environment.
pub(crate) fn profiles(request: &Request, environment: &BTreeMap<String, String>) -> Vec<String> {
    if !request.profiles.is_empty() {
        return request.profiles.clone();
    }
    let named = environment.get("COMPOSE_PROFILES").map_or("", String::as_str);
    let profiles = named.split(',').map(str::trim).filter(|profile| !profile.is_empty());
    profiles.map(str::to_owned).collect()
}

/// Refuses what no project can be called. Names become parts of paths and of other names, so whoever takes one that was
/// not loaded asks first.
pub fn check_name(name: &str) -> Result<(), Error> {
    match !name.is_empty() && normalized(name) == name {
        true => check_length(name, None),
        false => Err(Error::ProjectName { name: name.to_owned() }),
    }
}

fn check_length(name: &str, node: Option<&Node>) -> Result<(), Error> {
    match name.len() {
        length if length > LONGEST_NAME => {
            let place = node.map(Node::place);
            Err(Error::LongProjectName { length, most: LONGEST_NAME, place })
        }
        _ => Ok(()),
    }
}

/// What a project is called: by whoever asks, by the environment, by the last file that names it, or by its folder.
pub(crate) fn project_name(
    request: &Request,
    found: &Found,
    documents: &[Vec<Node>],
    warnings: &mut Warnings,
) -> Result<String, Error> {
    let variable = found.environment.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty());
    let given = request.project_name.as_ref().filter(|name| !name.is_empty()).or(variable);
    if let Some(name) = given {
        return check_name(name).map(|()| name.clone());
    }
    let named = documents.iter().flatten().rev().find_map(|document| document.get("name"));
    if let Some(node) = named.filter(|node| node.as_text().is_some_and(|name| !name.is_empty())) {
        let text = node.as_text().unwrap_or_default();
        let name = match request.skip.interpolation {
            true => text.to_owned(),
            false => interpolated(node, text, found, warnings)?,
        };
        let name = if request.skip.normalization { name } else { normalized(&name) };
        if !name.is_empty() {
            return check_length(&name, Some(node)).map(|()| name);
        }
    }
    let dir = found.working_dir.file_name().unwrap_or_default();
    let name = normalized(&dir.to_string_lossy());
    check_length(&name, None).map(|()| name)
}

fn interpolated(
    node: &Node,
    text: &str,
    found: &Found,
    warnings: &mut Warnings,
) -> Result<String, Error> {
    let lookup = |name: &str| found.environment.get(name).cloned();
    let mut unset = |name: &str| {
        warnings.push(format!("The {name:?} variable is not set. Defaulting to a blank string."));
    };
    let mut variables = Variables { lookup: &lookup, unset: &mut unset };
    template::substitute(text, &mut variables)
        .map_err(|wrong: Wrong| node.wrong(&crate::path::Path::ROOT.key("name"), wrong).into())
}

/// A name with nothing in it that a project's name cannot have.
fn normalized(name: &str) -> String {
    let name = name.to_lowercase();
    let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    name.chars().filter(allowed).collect::<String>().trim_start_matches(['_', '-']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a project of this file in this folder.
    fn name(dir: &str, file: &str) -> String {
        let request = Request {
            files: vec!["-".to_owned()],
            stdin: Some(format!("{file}services: {{a: {{image: x}}}}\n").into_bytes()),
            current_dir: dir.into(),
            ..Request::default()
        };
        let loaded = load::load(&request, &mut Vec::new());
        loaded.map_or_else(|error| error.render(), |project| project.name)
    }

    #[test]
    fn a_folder_whose_name_has_no_latin_letters_gives_no_name() {
        assert_eq!(name("/work/Мой shop", ""), "shop");
        let text = name("/work/проект", "");
        assert!(text.contains("none can be made of the folder /work/проект"), "{text}");
        assert!(text.contains("with -p, COMPOSE_PROJECT_NAME or `name:`"), "{text}");
        assert_eq!(name("/work/проект", "name: given\n"), "given");
    }

    #[test]
    fn a_name_is_only_so_long() {
        let long = "a".repeat(LONGEST_NAME);
        let refused =
            format!("project name has {} characters: 128 are the most; ", LONGEST_NAME + 1);
        assert_eq!(name("/", &format!("name: {long}\n")), long);
        let text = name("/", &format!("name: {long}a\n"));
        assert!(text.starts_with(&format!("-:1:7: {refused}")), "{text}");
        assert!(name(&format!("/{long}a"), "").starts_with(&refused));
        assert!(
            check_name(&format!("{long}a")).is_err_and(|it| it.to_string().starts_with(&refused))
        );
    }
}
