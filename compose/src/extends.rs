//! Phase 5: `extends`, services made from other services of the same file or another one.

use std::sync::Arc;

use crate::error::{Error, Wrong};
use crate::load::{Loader, Scope};
use crate::merge::merge_at;
use crate::node::{Map, Node, Value};
use crate::path::Path;
use crate::place::Source;
use crate::relative::{Base, way};
use crate::reset::Resets;
use frontend::suggest::nearest;

/// The services that have led to one by `extends`, with their files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain(Vec<(String, String)>);

impl Chain {
    fn with(&self, service: &str, file: &str) -> Result<Self, Error> {
        let link = (service.to_owned(), file.to_owned());
        let mut chain = self.clone();
        let closes = chain.0.contains(&link);
        chain.0.push(link);
        if closes {
            let chain = chain.0.iter().map(|(service, file)| format!("{service} in {file}"));
            return Err(Error::ExtendsCycle { chain: chain.collect() });
        }
        Ok(chain)
    }
}

/// The services of one file, while they are made of each other.
struct Services {
    map: Map,
    file: String,
    /// Where other files are looked for.
    dir: String,
    resets: Arc<Resets>,
}

/// Resolves every `extends` of a document.
pub(crate) fn apply(
    loader: &mut Loader<'_>,
    document: &mut Node,
    source: &Arc<Source>,
    scope: &Scope<'_>,
    resets: &Arc<Resets>,
) -> Result<(), Error> {
    let Some(services) = document.get_mut("services").and_then(Node::as_map_mut) else {
        return Ok(());
    };
    let names: Vec<String> = services
        .iter()
        .filter(|(_, service)| service.get("extends").is_some())
        .map(|(name, _)| name.clone())
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    let (file, dir) = (source.name.clone(), scope.dir.to_owned());
    let mut all = Services { map: std::mem::take(services), file, dir, resets: Arc::clone(resets) };
    for name in names {
        let chain = loader.chain();
        let extended = extend(loader, &mut all, &name, scope, &chain)?;
        all.map.insert(name, extended);
    }
    *services = all.map;
    Ok(())
}

/// A service with everything that it extends.
fn extend(
    loader: &mut Loader<'_>,
    services: &mut Services,
    name: &str,
    scope: &Scope<'_>,
    chain: &Chain,
) -> Result<Node, Error> {
    let service = services.map[name].clone();
    let Some(extends) = service.get("extends") else {
        return Ok(service);
    };
    let root = Path::ROOT.key("services");
    let path = root.key(name);
    let path = path.key("extends");
    let wanted = extends.as_text().or_else(|| extends.get("service").and_then(Node::as_text));
    let Some(base_name) = wanted else {
        return Err(extends.wrong(&path, Wrong::MissingKey { key: "service" }).into());
    };
    let chain = chain.with(name, &services.file)?;
    let base = match extends.get("file").and_then(Node::as_text) {
        Some(file) => {
            let mut other = other_file(loader, services, file, scope).map_err(|error| {
                // What is wrong inside the file says so itself; that it cannot be read is said where it is named.
                match error {
                    Error::Read { .. } | Error::IsDirectory { .. } => {
                        let wrong = Wrong::Nested(error.render());
                        extends.wrong(&path, wrong).into()
                    }
                    error => error,
                }
            })?;
            find(&other.map, base_name, name, &other.file, extends, &path)?;
            extend(loader, &mut other, base_name, scope, &chain)?
        }
        None => {
            find(&services.map, base_name, name, &services.file, extends, &path)?;
            let base = extend(loader, services, base_name, scope, &chain)?;
            services.map.insert(base_name.to_owned(), base.clone());
            base
        }
    };
    let mut over = service;
    if let Some(map) = over.as_map_mut() {
        map.remove("extends");
    }
    if base.is_null() {
        return Ok(over);
    }
    let mut base = base;
    services.resets.apply_to_service(name, &mut base);
    Ok(merge_at(base, over, &root.key("x"))?)
}

fn find(
    services: &Map,
    base: &str,
    service: &str,
    file: &str,
    extends: &Node,
    path: &Path<'_>,
) -> Result<(), Error> {
    if services.contains_key(base) {
        return Ok(());
    }
    let suggestion = nearest(base, services.keys().map(String::as_str));
    let (service, file, base) = (service.to_owned(), file.to_owned(), base.to_owned());
    Err(extends.wrong(path, Wrong::NoBase { service, file, base, suggestion }).into())
}

/// The services of another file in long syntax, with paths that begin at the folder of the file that names it.
fn other_file(
    loader: &mut Loader<'_>,
    services: &Services,
    file: &str,
    scope: &Scope<'_>,
) -> Result<Services, Error> {
    let here = Base { dir: &services.dir, home: loader.home() };
    let path = here.join(file);
    let dir = path.rsplit_once('/').map_or("/", |(dir, _)| if dir.is_empty() { "/" } else { dir });
    let key = (path.clone(), services.dir.clone());
    let (map, resets) = match loader.bases.get(&key) {
        Some(known) => known.clone(),
        None => {
            let (_, documents) = loader.parse(&path)?;
            let mut all: Option<Node> = None;
            let mut resets = Resets::default();
            for mut document in documents {
                if document.as_map().is_none() {
                    return Err(document.wrong(&Path::ROOT, Wrong::TopLevel).into());
                }
                resets = Resets::take(&mut document);
                loader.interpolate(&mut document, scope.environment)?;
                all = Some(match all {
                    Some(mut before) => {
                        before.as_map_mut().into_iter().for_each(|map| resets.apply(map));
                        crate::merge::merge(before, document)?
                    }
                    None => document,
                });
            }
            let mut map = match all.map(|node| node.value) {
                Some(Value::Map(map)) => map,
                _ => Map::new(),
            };
            loader.canonical(&mut map)?;
            let relative = way(&services.dir, dir);
            Base { dir: &relative, home: loader.home() }.resolve(&mut map);
            let services = map.remove("services").map(|node| node.value);
            let map = match services {
                Some(Value::Map(map)) => map,
                _ => Map::new(),
            };
            let read = (map, Arc::new(resets));
            loader.bases.insert(key, read.clone());
            read
        }
    };
    // `extends.file` inside was made relative to here along with the other paths.
    Ok(Services { map, file: path, dir: services.dir.clone(), resets })
}
