//! Station 2: what of a project exists, known by its labels.
//!
//! Reads the store's files and nothing else: what docker compose or an older `up` has left is found as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use cache::Store;
use engine::containers::{Containers, Record, State, Status};
use engine::network::{Definitions, NetworkDefinition};
use engine::reference::Reference;
use engine::volume::Volumes;
use engine::volume::api::Volume;

use crate::failure::Failure;
use crate::images::Found;
use crate::make::labels;
use crate::plan::Condition;

/// What exists, of a project and of what it may use.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The project's containers, by service and number; those of `run` are among them.
    pub containers: Vec<Instance>,
    /// All networks, by their names.
    pub networks: BTreeMap<String, NetworkDefinition>,
    /// The names of containers that are not the project's and run, by the networks that they are on.
    pub strangers: BTreeMap<String, BTreeSet<String>>,
    /// All volumes, by their names.
    pub volumes: BTreeMap<String, Volume>,
    /// The images that were asked for and are here, by the names that they were asked for with.
    pub images: BTreeMap<String, Found>,
}

/// A container of a project.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// What it was asked to be.
    pub record: Record,
    /// What it is doing.
    pub state: State,
}

impl Instance {
    /// The value of a label; empty if it has none.
    pub fn label(&self, name: &str) -> &str {
        self.record.config.labels.get(name).map_or("", String::as_str)
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// The service that it belongs to.
    pub fn service(&self) -> &str {
        self.label(labels::SERVICE)
    }

    /// Its place among the service's containers, from 1.
    pub fn number(&self) -> u32 {
        self.label(labels::NUMBER).parse().unwrap_or(1)
    }

    /// Whether `run` made it: it is no part of what `up` keeps.
    pub fn is_one_off(&self) -> bool {
        self.label(labels::ONEOFF).eq_ignore_ascii_case("true")
    }

    /// Whether it was made to take another one's place and has not got that one's name yet: twelve digits of its id stand
    /// in front of it.
    pub fn is_replacement(&self) -> bool {
        let (digits, rest) = self.name().split_at_checked(12).unwrap_or_default();
        rest.starts_with('_') && digits.bytes().all(|it| it.is_ascii_hexdigit())
    }

    /// The config hash that it was made with.
    pub fn hash(&self) -> &str {
        self.label(labels::CONFIG_HASH)
    }

    /// Whether its program runs and is not frozen.
    pub fn is_running(&self) -> bool {
        self.state.status == Status::Running
    }

    /// Whether it is on a network now.
    pub fn is_on(&self, network: &str) -> bool {
        self.is_active()
            && (self.record.networks.contains_key(network)
                || self.state.networks.contains_key(network))
    }

    /// Whether it has to be stopped before it can be removed.
    pub fn is_active(&self) -> bool {
        self.state.status.is_active()
    }

    /// The services that its service depends on, as its label says: `name:condition:restart,...`.
    pub fn dependencies(&self) -> impl Iterator<Item = &str> {
        let items = self.label(labels::DEPENDS_ON).split(',');
        items.filter_map(|item| item.split(':').next()).filter(|name| !name.is_empty())
    }

    /// The same with what it waits for, and whether it is restarted with them. Where the label does not say so it is, as
    /// with docker compose.
    pub fn waits_for(&self) -> impl Iterator<Item = (&str, Condition, bool)> {
        self.label(labels::DEPENDS_ON).split(',').filter_map(|item| {
            let mut words = item.split(':');
            let name = words.next().filter(|name| !name.is_empty())?;
            let condition = words.next().map_or(Condition::Ready, Condition::parse);
            Some((name, condition, words.next().is_none_or(|word| word == "true")))
        })
    }
}

impl Observed {
    /// The containers of a service that `up` keeps, in the order of their numbers.
    pub fn of_service<'a, 'b>(
        &'a self,
        service: &'b str,
    ) -> impl Iterator<Item = &'a Instance> + use<'a, 'b> {
        self.containers.iter().filter(move |it| !it.is_one_off() && it.service() == service)
    }

    /// The ids of all services' containers that `up` keeps, in the order of their numbers.
    pub fn ids(&self) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for instance in self.containers.iter().filter(|it| !it.is_one_off()) {
            all.entry(instance.service().to_owned()).or_default().push(instance.id().to_owned());
        }
        all
    }

    /// The container of this id.
    pub fn by_id(&self, id: &str) -> Option<&Instance> {
        self.containers.iter().find(|it| it.id() == id)
    }

    /// The networks that were made for a project.
    pub fn networks_of<'a>(
        &'a self,
        project: &'a str,
    ) -> impl Iterator<Item = &'a NetworkDefinition> {
        let is_ours = move |network: &&NetworkDefinition| {
            network.labels.get(labels::PROJECT).is_some_and(|label| label == project)
        };
        self.networks.values().filter(is_ours)
    }

    /// The volumes that were made for a project.
    pub fn volumes_of<'a>(&'a self, project: &'a str) -> impl Iterator<Item = &'a Volume> {
        let is_ours = move |volume: &&Volume| {
            let labels = volume.labels.as_ref();
            labels.and_then(|it| it.get(labels::PROJECT)).is_some_and(|label| label == project)
        };
        self.volumes.values().filter(is_ours)
    }
}

/// Looks what exists. `networks` is where it is written down who uses which address; `images` are the names to look for.
pub fn observe(
    containers: &Containers<'_>,
    networks: &Path,
    project: &str,
    images: &BTreeSet<String>,
) -> Result<Observed, Failure> {
    let store = containers.store;
    let is_ours = |instance: &Instance| instance.label(labels::PROJECT) == project;
    let (mut instances, others): (Vec<Instance>, Vec<Instance>) =
        instances(containers, |_| true)?.into_iter().partition(is_ours);
    let mut strangers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for other in others.iter().filter(|it| it.is_active()) {
        for network in other.record.networks.keys().chain(other.state.networks.keys()) {
            strangers.entry(network.clone()).or_default().insert(other.name().to_owned());
        }
    }
    instances.sort_by(|a, b| {
        let place = |it: &Instance| (it.service().to_owned(), it.number(), it.is_replacement());
        place(a).cmp(&place(b)).then_with(|| a.name().cmp(b.name()))
    });
    let networks = Definitions::new(store.root(), networks).list()?;
    let volumes = Volumes::open(store)?.list()?;
    let mut found = BTreeMap::new();
    for name in images {
        if let Some(id) = image_id(store, name)? {
            found.insert(name.clone(), Found { id, age: since_pull(store, name) });
        }
    }
    Ok(Observed {
        containers: instances,
        networks: networks.into_iter().map(|it| (it.name.clone(), it)).collect(),
        strangers,
        volumes: volumes.into_iter().map(|it| (it.name.clone(), it)).collect(),
        images: found,
    })
}

/// The containers that are wanted, in no order.
pub fn instances(
    containers: &Containers<'_>,
    wanted: impl Fn(&Instance) -> bool,
) -> Result<Vec<Instance>, Failure> {
    let all = containers.list()?.into_iter();
    let all = all.map(|seen| Instance { record: seen.record, state: seen.state });
    Ok(all.filter(|instance| wanted(instance)).collect())
}

/// How long ago an image was pulled, as far as that is known.
fn since_pull(store: &Store, name: &str) -> Option<Duration> {
    store.since_pull(&Reference::parse(name).ok()?.for_pull().to_string())
}

/// The id of an image that is here.
pub fn image_id(store: &Store, name: &str) -> Result<Option<String>, Failure> {
    Ok(engine::images::find(store, name)?.map(|image| image.id().to_string()))
}
