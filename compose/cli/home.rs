//! The project that is meant and the store that it lives in: what nearly every verb begins with.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::bail;
use cache::Store;
use compose::load::{self, Warnings};
use compose::observe::{self, Observed};
use compose::runnable::Places;
use compose::{Error, Project, Request};
use engine::containers::Containers;

use crate::args::Globals;
use crate::paths::{self, Home};
use crate::ui;

/// The store, open.
pub(crate) struct Here {
    /// The store.
    pub(crate) store: Store,
    /// Where it is written down who uses which address.
    pub(crate) networks: PathBuf,
}

impl Here {
    /// Opens the store. `what` is what root is needed for.
    pub(crate) fn open(globals: &Globals, what: &str) -> anyhow::Result<Here> {
        paths::need_root(what)?;
        let home =
            Home { root: paths::store_root(globals.root.clone()), driver: globals.storage_driver };
        let here = Here { store: home.open()?, networks: paths::network_dir() };
        here.after_boot();
        Ok(here)
    }

    /// Opens the store only to look at it, which others than root can do with theirs.
    pub(crate) fn look(globals: &Globals) -> anyhow::Result<Here> {
        let store = Store::open(&paths::store_root(globals.root.clone()))?;
        let here = Here { store, networks: paths::network_dir() };
        if rustix::process::geteuid().is_root() {
            here.after_boot();
        }
        Ok(here)
    }

    /// Starts what comes up with the machine, once a boot. What fails is told, and keeps nothing else from being done.
    fn after_boot(&self) {
        let reconciled = Containers::open(&self.store).and_then(|containers| {
            engine::containers::reconcile::after_boot(&containers, &self.networks)
        });
        if let Err(error) = reconciled {
            ui::warn(format_args!("containers that come up with the machine: {error}"));
        }
    }

    /// The store's containers.
    pub(crate) fn containers(&self) -> anyhow::Result<Containers<'_>> {
        Ok(Containers::open(&self.store)?)
    }
}

/// Loads the project with the services that are named, all if none are, and what they depend on.
pub(crate) fn load(globals: &Globals, services: &[String]) -> anyhow::Result<Project> {
    load_with_places(globals, services).map(|(project, _)| project)
}

/// The same for who makes containers of it.
pub(crate) fn load_with_places(
    globals: &Globals,
    services: &[String],
) -> anyhow::Result<(Project, Places)> {
    let mut request = globals.request()?;
    request.services = services.to_vec();
    read(&request)
}

/// The same for who makes no containers of it: what they would have in their environment need not be
/// there any more.
fn load_without_environment(globals: &Globals, services: &[String]) -> anyhow::Result<Project> {
    let mut request = globals.request()?;
    request.services = services.to_vec();
    request.skip.environment = true;
    read(&request).map(|(project, _)| project)
}

fn read(request: &Request) -> anyhow::Result<(Project, Places)> {
    let mut warnings = Warnings::new();
    let loaded = load::load_with_places(request, &mut warnings);
    warnings.iter().for_each(ui::warn);
    Ok(loaded?)
}

/// The project that is meant, and its name, for what is done to containers that are there. One that is
/// called by its name alone is what there is of it, whatever compose files lie here.
pub(crate) fn project_or_name(
    globals: &Globals,
    services: &[String],
) -> anyhow::Result<(Option<Project>, String)> {
    match globals.named()?.filter(|_| globals.is_only_named()) {
        Some(name) => Ok((None, name)),
        None => match (load_without_environment(globals, services), globals.named()?) {
            (Ok(project), _) => {
                let name = project.name.clone();
                Ok((Some(project), name))
            }
            (Err(error), Some(name)) if is_no_file(&error) => Ok((None, name)),
            (Err(error), _) => Err(error),
        },
    }
}

/// The name of the project that is to be shown.
pub(crate) fn name(globals: &Globals) -> anyhow::Result<String> {
    match globals.named()? {
        Some(name) => Ok(name),
        None => Ok(load_without_environment(globals, &[])?.name),
    }
}

fn is_no_file(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Error>(), Some(Error::NoFile { .. }))
}

/// A project of nothing but a name: what is done to containers that are there needs no more.
pub(crate) fn nameless(project: Option<Project>, name: &str) -> Project {
    project.unwrap_or_else(|| Project { name: name.to_owned(), ..Project::default() })
}

/// Looks what there is of a project, without its images.
pub(crate) fn observe(
    here: &Here,
    containers: &Containers<'_>,
    project: &str,
) -> anyhow::Result<Observed> {
    Ok(observe::observe(containers, &here.networks, project, &BTreeSet::new())?)
}

/// Refuses services that the project does not have.
pub(crate) fn check_services(
    project: Option<&Project>,
    observed: &Observed,
    named: &[String],
) -> anyhow::Result<()> {
    for name in named {
        let is_known =
            project.is_some_and(|project| project.all_services().contains_key(name.as_str()));
        if !is_known && !observed.containers.iter().any(|instance| instance.service() == name) {
            bail!("no such service: {name}");
        }
    }
    Ok(())
}
