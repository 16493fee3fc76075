//! Loading: from files to a `Project`, in numbered phases.
//!
//! For every document of every file, in the order in which they are given (`Loader::document`):
//!
//! 1. parse (`crate::yaml`); anchors and `<<` are gone after it, `!reset` and `!override` are taken out (`crate::reset`)
//! 2. variables in values (`crate::interpolate`)
//! 3. `include`: whole files with their own folders and variables (`crate::include`)
//! 4. what this file resets or overrides is forgotten of the files before
//! 5. `extends`: services made from other services (`crate::extends`)
//! 6. it is laid over the files before (`crate::merge`)
//! 7. what may be there once is there once (`crate::unique`)
//! 8. every key is known, every value of its kind (`crate::validate`)
//! 9. short syntax becomes long syntax (`crate::canonical`)
//! 10. what may be there once is there once, now that ports and mounts can be compared
//!
//! Then for all files together (`Loader::files`, `load`):
//!
//! 11. defaults, 12. what excludes each other (`crate::complete`)
//! 13. relative paths (`crate::relative`)
//! 14. what is implied: networks, names, dependencies (`crate::complete`)
//! 15. the typed model (`crate::field`)
//! 16. profiles and selected services (`crate::select`)
//! 17. what services refer to is there (`crate::consistency`)
//! 18. variable files and label files (`crate::variable_files`)

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::Arc;

use crate::canonical::{self, Unreadable};
use crate::complete;
use crate::consistency;
use crate::discover::{self, Found};
use crate::error::{Error, Wrong};
use crate::extends::{self, Chain};
use crate::field::Field;
use crate::include;
use crate::interpolate;
use crate::locate;
use crate::merge;
use crate::model::Project;
use crate::node::{Map, Node, Value};
use crate::path::Path;
use crate::place::Source;
use crate::relative::Base;
use crate::request::{Request, Skip};
use crate::reset::Resets;
use crate::runnable::Places;
use crate::template::{self, Variable, Variables};
use crate::unique;
use crate::validate;
use crate::variable_files;
use crate::yaml;

/// How large a compose file may be.
const SIZE_LIMIT: u64 = 16 << 20;

/// Things to tell that keep nothing from working.
pub type Warnings = Vec<String>;

/// Loads a project.
pub fn load(request: &Request, warnings: &mut Warnings) -> Result<Project, Error> {
    load_with_places(request, warnings).map(|(project, _)| project)
}

/// Loads a project of which containers are to be made: what is in the way of that has a place.
pub fn load_with_places(
    request: &Request,
    warnings: &mut Warnings,
) -> Result<(Project, Places), Error> {
    let (found, name, mut model) = model(request, warnings)?;
    let places = Places::of(&model);
    let skip = request.skip;
    let read =
        |model: &mut Map, key: &str| model.remove(key).unwrap_or_else(|| found.nothing.clone());
    let root = Path::ROOT;
    // What is wrong with the whole is found when places are gone, and shown where it stands nevertheless.
    let services = model.get("services").cloned().unwrap_or_else(|| found.nothing.clone());
    let located = |error| locate::locate(error, &services);
    let mut project = Project {
        name,
        services: Field::read(read(&mut model, "services"), &root.key("services"))?,
        networks: Field::read(read(&mut model, "networks"), &root.key("networks"))?,
        volumes: Field::read(read(&mut model, "volumes"), &root.key("volumes"))?,
        secrets: Field::read(read(&mut model, "secrets"), &root.key("secrets"))?,
        configs: Field::read(read(&mut model, "configs"), &root.key("configs"))?,
        models: Field::read(read(&mut model, "models"), &root.key("models"))?,
        working_dir: found.working_dir.clone(),
        compose_files: found.files.iter().map(|source| source.name.clone().into()).collect(),
        env_files: request.env_files.clone(),
        environment: found.environment.clone(),
        ..Project::default()
    };
    let extensions = model.iter().filter(|(key, _)| key.starts_with("x-"));
    project.extensions = extensions.map(|(key, node)| (key.clone(), node.into())).collect();
    let profiles = discover::profiles(request, &found.environment);
    project.apply_profiles(profiles);
    if !skip.consistency {
        consistency::check(&mut project).map_err(located)?;
    }
    project.select(&request.services)?;
    if !request.all_resources {
        project.drop_unused();
    }
    if !skip.environment {
        variable_files::read_environments(&mut project, warnings).map_err(located)?;
    }
    variable_files::read_labels(&mut project, warnings).map_err(located)?;
    Ok((project, places))
}

/// Loads files as far as they can be without knowing variables: what `config --no-interpolate` prints.
pub fn load_untyped(
    request: &Request,
    warnings: &mut Warnings,
) -> Result<serde_json::Value, Error> {
    let (_, name, model) = model(request, warnings)?;
    let mut values: serde_json::Map<String, serde_json::Value> = serde_json::Map::new();
    if !request.skip.normalization {
        values.insert("name".to_owned(), name.into());
    }
    for (key, node) in &model {
        values.entry(key.clone()).or_insert_with(|| node.into());
    }
    values.sort_keys();
    Ok(values.into())
}

/// The variables that files use, by name.
pub fn variables(
    request: &Request,
    warnings: &mut Warnings,
) -> Result<BTreeMap<String, Variable>, Error> {
    let skip = Skip { interpolation: true, validation: true, ..request.skip };
    let (_, _, model) = model(&Request { skip, ..request.clone() }, warnings)?;
    let mut found = BTreeMap::new();
    let mut note = |variable: Variable| {
        found.insert(variable.name.clone(), variable);
    };
    model.values().for_each(|node| note_variables(node, &mut note));
    Ok(found)
}

fn note_variables(node: &Node, note: &mut dyn FnMut(Variable)) {
    match &node.value {
        Value::Text(text) => template::variables(text, &mut |variable| note(variable)),
        Value::List(list) => list.iter().for_each(|node| note_variables(node, note)),
        Value::Map(map) => map.values().for_each(|node| note_variables(node, note)),
        _ => {}
    }
}

/// Phases 1 to 14.
fn model(request: &Request, warnings: &mut Warnings) -> Result<(Found, String, Map), Error> {
    let mut found = discover::find(request, warnings)?;
    let documents = found.files.iter().map(yaml::parse).collect::<Result<Vec<_>, _>>()?;
    let name = discover::project_name(request, &found, &documents, warnings)?;
    found.environment.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    let dir = found.working_dir.to_string_lossy().into_owned();
    let mut loader = Loader::new(request, warnings);
    let scope = Scope { dir: &dir, environment: &found.environment, included: &[] };
    let files = found.files.iter().cloned().zip(documents);
    let mut model = loader.files(files, &scope, &dir)?;
    if model.is_empty() {
        let names: Vec<&str> = found.files.iter().map(|source| source.name.as_str()).collect();
        return Err(Error::Empty { name: names.join(", ") });
    }
    if name.is_empty() {
        return Err(Error::NoProjectName { dir: found.working_dir });
    }
    model.remove("name");
    if !request.skip.normalization {
        complete::normalize(&mut model, &name, &found.environment)?;
    }
    Ok((found, name, model))
}

/// What a file is loaded in.
pub(crate) struct Scope<'a> {
    /// The folder that it looks for other files in.
    pub(crate) dir: &'a str,
    /// The values of variables.
    pub(crate) environment: &'a BTreeMap<String, String>,
    /// The files that have led to it by `include`.
    pub(crate) included: &'a [String],
}

/// What all files of a project have in common while they are loaded.
pub(crate) struct Loader<'a> {
    pub(crate) request: &'a Request,
    pub(crate) warnings: &'a mut Warnings,
    pub(crate) skip: Skip,
    /// Files that have been read for `extends`, so that a hundred services that extend one file read it once.
    pub(crate) bases: BTreeMap<(String, String), (Map, Arc<Resets>)>,
}

impl<'a> Loader<'a> {
    fn new(request: &'a Request, warnings: &'a mut Warnings) -> Self {
        Self { request, warnings, skip: request.skip, bases: BTreeMap::new() }
    }

    /// What `~` stands for.
    pub(crate) fn home(&self) -> Option<&'a str> {
        self.request.environment.get("HOME").map(String::as_str)
    }

    /// Several files laid over each other, complete, with paths that begin at `base`.
    pub(crate) fn files(
        &mut self,
        files: impl Iterator<Item = (Arc<Source>, Vec<Node>)>,
        scope: &Scope<'_>,
        base: &str,
    ) -> Result<Map, Error> {
        let mut all = None;
        for (source, documents) in files {
            for document in documents {
                all = Some(self.document(document, &source, all, scope)?);
            }
        }
        let Some(Value::Map(mut model)) = all.map(|node| node.value) else {
            return Ok(Map::new());
        };
        complete::defaults(&mut model);
        if !self.skip.validation {
            complete::exclusions(&model)?;
        }
        if !self.skip.paths {
            Base { dir: base, home: self.home() }.resolve(&mut model);
        }
        complete::variables(&mut model, scope.environment);
        Ok(model)
    }

    /// Phases 2 to 10 for one document.
    fn document(
        &mut self,
        mut document: Node,
        source: &Arc<Source>,
        before: Option<Node>,
        scope: &Scope<'_>,
    ) -> Result<Node, Error> {
        if document.as_map().is_none() {
            return Err(document.wrong(&Path::ROOT, Wrong::TopLevel).into());
        }
        let resets = Arc::new(Resets::take(&mut document));
        self.interpolate(&mut document, scope.environment)?;
        include::apply(self, &mut document, source, scope, &resets)?;
        let mut before = before;
        if let Some(map) = before.as_mut().and_then(Node::as_map_mut) {
            resets.apply(map);
        }
        extends::apply(self, &mut document, source, scope, &resets)?;
        let mut all = match before {
            Some(before) => merge::merge(before, document)?,
            None => document,
        };
        unique::enforce(&mut all);
        if !self.skip.validation {
            validate::validate(&all)?;
        }
        let map = all.as_map_mut().expect("a mapping over a mapping is one");
        if map.remove("version").is_some() {
            self.warnings.push(format!(
                "{}: the attribute `version` is obsolete, it will be ignored, please remove it to avoid potential confusion",
                source.name
            ));
        }
        self.canonical(map)?;
        unique::enforce(&mut all);
        Ok(all)
    }

    /// Long syntax, without empty addresses of name servers, which variables leave behind.
    pub(crate) fn canonical(&self, map: &mut Map) -> Result<(), Error> {
        let unreadable =
            if self.skip.interpolation { Unreadable::Keep } else { Unreadable::Refuse };
        canonical::canonical(map, unreadable)?;
        let services = map.get_mut("services").and_then(Node::as_map_mut);
        for service in services.into_iter().flat_map(Map::values_mut) {
            if let Some(dns) = service.get_mut("dns").and_then(Node::as_list_mut) {
                dns.retain(|server| !server.is_null() && server.as_text() != Some(""));
            }
        }
        Ok(())
    }

    pub(crate) fn interpolate(
        &mut self,
        document: &mut Node,
        environment: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        if self.skip.interpolation {
            return Ok(());
        }
        let warnings = &mut *self.warnings;
        let mut unset = |name: &str| {
            let warning =
                format!("The {name:?} variable is not set. Defaulting to a blank string.");
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        };
        let lookup = |name: &str| environment.get(name).cloned();
        let mut variables = Variables { lookup: &lookup, unset: &mut unset };
        interpolate::interpolate(document, &mut variables).map_err(Error::from)
    }

    /// The file at a path, parsed. `extends` and `include` come by here.
    pub(crate) fn parse(&self, path: &str) -> Result<(Arc<Source>, Vec<Node>), Error> {
        let source = Arc::new(read(FilePath::new(path))?);
        let documents = yaml::parse(&source)?;
        Ok((source, documents))
    }

    /// Where a service stands in a chain of `extends`.
    pub(crate) fn chain(&self) -> Chain {
        Chain::default()
    }
}

/// Reads a compose file.
pub(crate) fn read(path: &FilePath) -> Result<Source, Error> {
    let name = path.to_string_lossy().into_owned();
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if about.is_dir() {
        return Err(Error::IsDirectory { path: path.to_owned() });
    }
    if about.len() > SIZE_LIMIT {
        let (size, limit) = (about.len(), SIZE_LIMIT);
        return Err(Error::TooLarge { path: path.to_owned(), size, limit });
    }
    // A pipe has no size beforehand.
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, SIZE_LIMIT + 1), &mut bytes)
        .map_err(unreadable)?;
    text(name, bytes)
}

/// A compose file from its bytes.
pub(crate) fn text(name: String, bytes: Vec<u8>) -> Result<Source, Error> {
    if bytes.len() as u64 > SIZE_LIMIT {
        let (size, limit) = (bytes.len() as u64, SIZE_LIMIT);
        return Err(Error::TooLarge { path: name.into(), size, limit });
    }
    match String::from_utf8(bytes) {
        Ok(text) => {
            let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
            Ok(Source { name, text })
        }
        Err(error) => Err(Error::NotText { name, at: error.utf8_error().valid_up_to() }),
    }
}
