//! Phase 3: `include`, whole compose files with folders and variables of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Wrong};
use crate::load::{Loader, Scope};
use crate::merge::merge_at;
use crate::node::{Map, Node, Value};
use crate::path::Path;
use crate::place::Source;
use crate::relative::{Base, way};
use crate::reset::Resets;
use crate::variable_files;

/// What a file may bring along.
const KINDS: [&str; 6] = ["services", "volumes", "networks", "secrets", "configs", "models"];

/// Brings everything that a document includes into it; what the document says itself is laid over it.
pub(crate) fn apply(
    loader: &mut Loader<'_>,
    document: &mut Node,
    source: &Arc<Source>,
    scope: &Scope<'_>,
    resets: &Resets,
) -> Result<(), Error> {
    let Some(include) = document.as_map_mut().and_then(|map| map.remove("include")) else {
        return Ok(());
    };
    let path = Path::ROOT.key("include");
    let Some(list) = include.as_list() else {
        if include.is_null() {
            return Ok(());
        }
        return Err(crate::field::wrong_kind(&include, &path, "a list").into());
    };
    let mut included = scope.included.to_vec();
    included.push(source.name.clone());
    for (index, entry) in list.iter().enumerate() {
        let imported = load(loader, entry, &path.index(index), scope, &included)?;
        bring_in(document, imported, resets)?;
    }
    Ok(())
}

/// Loads what one entry names.
fn load(
    loader: &mut Loader<'_>,
    entry: &Node,
    path: &Path<'_>,
    scope: &Scope<'_>,
    included: &[String],
) -> Result<Map, Error> {
    let here = Base { dir: scope.dir, home: loader.home() };
    let files = texts(entry, "path").or_else(|| entry.as_text().map(|text| vec![text.to_owned()]));
    let Some(files) = files.filter(|files| !files.is_empty()) else {
        return Err(entry.wrong(path, Wrong::MissingKey { key: "path" }).into());
    };
    if let Some(remote) = files.iter().find(|file| is_remote(file)) {
        return Err(entry.wrong(path, Wrong::Remote(remote.clone())).into());
    }
    let files: Vec<String> = files.iter().map(|file| here.join(file)).collect();
    let main = &files[0];
    if included.contains(main) {
        let chain = included.iter().chain([main]).cloned().collect();
        return Err(Error::IncludeCycle { chain });
    }
    let dir = match entry.get("project_directory").and_then(Node::as_text) {
        Some(dir) if !dir.is_empty() => here.join(dir),
        _ => main.rsplit_once('/').map_or_else(String::new, |(dir, _)| dir.to_owned()),
    };
    let environment = environment(loader, entry, path, scope, &dir, &here)?;
    let parsed = files.iter().map(|file| loader.parse(file)).collect::<Result<Vec<_>, _>>();
    let parsed = parsed.map_err(|error| match error {
        Error::Read { .. } | Error::IsDirectory { .. } => {
            entry.wrong(path, Wrong::Nested(error.render())).into()
        }
        error => error,
    })?;
    let inner = Scope { dir: &dir, environment: &environment, included };
    // Its paths must say where they begin even where paths are left as they are written.
    let skips_paths = std::mem::replace(&mut loader.skip.paths, false);
    let model = loader.files(parsed.into_iter(), &inner, &way(scope.dir, &dir));
    loader.skip.paths = skips_paths;
    model
}

/// Whether docker compose would fetch a file: from a repository of git or from a registry.
fn is_remote(file: &str) -> bool {
    // As ssh writes it: user@host:path.
    let is_ssh = || {
        let (user, rest) = file.split_once('@')?;
        let (host, _) = rest.split_once(':')?;
        Some(![user, host].iter().any(|part| part.is_empty() || part.contains('/')))
    };
    file.contains("://") || file.starts_with("github.com/") || is_ssh().unwrap_or(false)
}

/// The variables of an included file: its own variable files', below those around it.
fn environment(
    loader: &mut Loader<'_>,
    entry: &Node,
    path: &Path<'_>,
    scope: &Scope<'_>,
    dir: &str,
    here: &Base<'_>,
) -> Result<BTreeMap<String, String>, Error> {
    let files: Vec<PathBuf> = match texts(entry, "env_file") {
        Some(files) if !files.is_empty() => files
            .iter()
            .filter(|file| *file != "/dev/null")
            .map(|file| here.join(file).into())
            .collect(),
        _ => Some(PathBuf::from(format!("{dir}/.env")))
            .into_iter()
            .filter(|file| file.is_file())
            .collect(),
    };
    let mut environment = scope.environment.clone();
    let own =
        variable_files::read_all(&files, scope.environment, loader.warnings).map_err(|error| {
            match error {
                Error::Read { .. } | Error::IsDirectory { .. } => {
                    entry.wrong(path, Wrong::Nested(error.render())).into()
                }
                error => error,
            }
        })?;
    for (name, value) in own {
        environment.entry(name).or_insert(value);
    }
    Ok(environment)
}

/// A text or a list of texts under a key.
fn texts(entry: &Node, key: &str) -> Option<Vec<String>> {
    let node = entry.get(key)?;
    match &node.value {
        Value::Text(text) => Some(vec![text.clone()]),
        Value::List(list) => Some(list.iter().filter_map(Node::plain).collect()),
        _ => None,
    }
}

fn bring_in(document: &mut Node, mut imported: Map, resets: &Resets) -> Result<(), Error> {
    resets.apply(&mut imported);
    let nothing = document.with(Value::Map(Map::new()));
    let Some(target) = document.as_map_mut() else {
        return Ok(());
    };
    for kind in KINDS {
        let Some(Value::Map(entries)) = imported.remove(kind).map(|node| node.value) else {
            continue;
        };
        let into = target.entry(kind.to_owned()).or_insert_with(|| nothing.clone());
        if into.is_null() {
            *into = nothing.clone();
        }
        let kinds = Path::ROOT.key(kind);
        let Some(into) = into.as_map_mut() else {
            continue;
        };
        for (name, node) in entries {
            let node = match into.remove(&name) {
                Some(own) => merge_at(node, own, &kinds.key(&name))?,
                None => node,
            };
            into.insert(name, node);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_compose_fetches_is_told_from_files() {
        for (file, expected) in [
            ("https://github.com/a/b.git", true),
            ("git@github.com:a/b.git", true),
            ("me@host:a/b.git#main:dir", true),
            ("ssh://git@host/a", true),
            ("oci://docker.io/me/app:1", true),
            ("github.com/a/b", true),
            ("sub/compose.yaml", false),
            ("./a@b/c:d.yaml", false),
            ("me@home.yaml", false),
        ] {
            assert_eq!(is_remote(file), expected, "{file}");
        }
    }
}
