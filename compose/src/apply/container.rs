//! The steps that containers take: made, made anew, started, stopped, removed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use engine::containers::create::create;
use engine::containers::protocol::Request;
use engine::containers::{Client, Record, Removed, Status};
use jiff::Timestamp;

use super::{Apply, Event, Place, Work, of};
use crate::failure::Failure;
use crate::make::{self, files};
use crate::model::{Hook, Service};
use crate::observe::Instance;
use crate::plan::Slot;
use crate::reconcile::{Recreate, Wanted, decide};

impl Work<'_> {
    /// Makes a container, or makes it anew if it is not as it should be.
    pub(super) fn converge(
        &self,
        slot: &Slot,
        name: &str,
        replaces: Option<&str>,
        cause: &str,
    ) -> Result<(), Failure> {
        let service = self.service(&slot.service);
        let image = self.image_of(&slot.service, service)?;
        let others = self.others();
        let Some(instance) = replaces.and_then(|id| self.apply.observed.by_id(id)) else {
            return self.told(("Container", name), ["Creating", "Created"], cause, || {
                let record = self.create(slot, service, &image, &others, None, name)?;
                self.put(slot, &record.id, false);
                Ok(())
            });
        };
        let networks = self.networks_now()?;
        let wanted = Wanted {
            project: self.apply.project,
            service,
            image: Some(&image.id().to_string()),
            networks: &networks,
            others: &others,
            recreate: self.recreate(&slot.service),
        };
        let Some(cause) = decide(&wanted, instance) else {
            return Ok(());
        };
        self.told(("Container", name), ["Recreate", "Recreated"], &cause, || {
            self.replace(slot, service, &image, &others, instance, name)
        })
    }

    /// Makes a container in place of another one, which is there until the new one is: an interruption leaves either
    /// the old one, or the new one under a name by which the next `up` knows it.
    fn replace(
        &self,
        slot: &Slot,
        service: &Service,
        image: &cache::image::Image,
        others: &BTreeMap<String, Vec<String>>,
        old: &Instance,
        name: &str,
    ) -> Result<(), Failure> {
        let containers = self.apply.containers;
        let until_then = format!("{}_{name}", old.record.short_id());
        let record = self.create(slot, service, image, others, Some(&old.record), &until_then)?;
        // It may have been stopped on the way, for the sake of its network.
        let seen = containers.observe(old.id()).map_err(|source| of(old.name(), source))?;
        if seen.state.status.is_active() {
            self.run_hooks(&service.pre_stop, "pre_stop", old.id(), old.name())?;
        }
        engine::containers::stop(containers, old.id(), None, self.apply.stop_timeout)
            .and_then(|()| engine::containers::remove(containers, old.id(), false, false))
            .map_err(|source| of(old.name(), source))?;
        containers.rename(&record.id, name).map_err(|source| of(name, source))?;
        self.put(slot, &record.id, true);
        Ok(())
    }

    fn create(
        &self,
        slot: &Slot,
        service: &Service,
        image: &cache::image::Image,
        others: &BTreeMap<String, Vec<String>>,
        previous: Option<&Record>,
        name: &str,
    ) -> Result<Record, Failure> {
        let failed = |source| Failure::Make { service: slot.service.clone(), source };
        let previous_record = previous.map(|record| match self.apply.renew_volumes {
            true => Record { mounts: Vec::new(), ..record.clone() },
            false => record.clone(),
        });
        let mut request = make::request(&make::Container {
            project: self.apply.project,
            service_name: &slot.service,
            service,
            number: slot.number,
            image: &image.id().to_string(),
            others,
            previous: previous_record.as_ref(),
            files: &self.apply.files,
            one_off: false,
        })
        .map_err(failed)?;
        name.clone_into(&mut request.name);
        self.write_files(&slot.service, service)?;
        create(self.apply.containers, image, request).map_err(|source| of(name, source))
    }

    /// Puts a service's secrets and configs into memory.
    fn write_files(&self, name: &str, service: &Service) -> Result<(), Failure> {
        let failed = |source| Failure::Make { service: name.to_owned(), source };
        let all = files::files(self.apply.project, service, &self.apply.files).map_err(failed)?;
        files::write(&all).map_err(failed)
    }

    /// Whether all files in memory that a container was made with are there, as they are until the machine starts anew.
    fn has_files(&self, id: &str, name: &str) -> Result<bool, Failure> {
        let record = self.apply.containers.record(id).map_err(|source| of(name, source))?;
        let mut sources = record.host_config.mounts.iter().map(|mount| Path::new(&mount.source));
        Ok(sources.all(|source| !source.starts_with(&self.apply.files) || source.is_file()))
    }

    /// Starts a container that does not run.
    pub(super) fn start(&self, slot: &Slot, name: &str, cause: &str) -> Result<(), Failure> {
        let id = self.id(slot, name)?;
        let containers = self.apply.containers;
        let state = containers.observe(&id).map_err(|source| of(name, source))?.state;
        if state.status.is_active() {
            if state.status == Status::Running {
                self.tell(("Container", name), "Running", cause, true);
            }
            return Ok(());
        }
        self.told(("Container", name), ["Starting", "Started"], cause, || {
            let service = self.apply.project.services.get(&slot.service);
            if let Some(service) = service
                && let Err(failure) = self.write_files(&slot.service, service)
                && !self.has_files(&id, name)?
            {
                return Err(failure);
            }
            let before = Timestamp::now();
            let output = self.begin(&id).map_err(|source| of(name, source))?;
            self.tell_running(slot, &id, name, before, &Mutex::new(output));
            let hooks = service.map_or(&[][..], |service| &service.post_start);
            self.run_hooks(hooks, "post_start", &id, name)
        })
    }

    /// Starts a container; what comes of it is a connection if what it prints is wanted and nobody else was faster.
    fn begin(&self, id: &str) -> engine::containers::Result<Option<Client>> {
        let Apply { containers, networks, attaches, .. } = *self.apply;
        if attaches {
            let request = Request::Attach { stdin: false, output: true, starter: true };
            if let Ok(client) = engine::containers::start(containers, id, networks, request) {
                return Ok(Some(client));
            }
        }
        engine::containers::ensure_running(containers, id, networks).map(|()| None)
    }

    fn tell_running(
        &self,
        slot: &Slot,
        id: &str,
        name: &str,
        before: Timestamp,
        output: &Mutex<Option<Client>>,
    ) {
        let state = self.apply.containers.observe(id).map(|observed| observed.state);
        let started = state.ok().and_then(|state| state.started_at.parse().ok());
        // Its policy may have started it again already, or somebody else was faster than we.
        let since = Some(started.map_or(before, |started: Timestamp| started.min(before)));
        (self.apply.listener)(Event::Running { service: &slot.service, id, name, since, output });
    }

    /// Starts a container again if a container of one of these services was replaced.
    pub(super) fn restart_after(
        &self,
        slot: &Slot,
        name: &str,
        services: &[String],
        cause: &str,
    ) -> Result<(), Failure> {
        let is_replaced =
            |(slot, place): (&Slot, &Place)| place.is_replaced && services.contains(&slot.service);
        if !self.places().iter().any(is_replaced) {
            return Ok(());
        }
        let id = self.id(slot, name)?;
        self.stop(&id, name, cause)?;
        self.start(slot, name, cause)
    }

    /// Stops a container, after its service's hooks for that.
    pub(super) fn stop(&self, id: &str, name: &str, cause: &str) -> Result<(), Failure> {
        self.told(("Container", name), ["Stopping", "Stopped"], cause, || {
            let instance = self.apply.observed.by_id(id);
            let service = instance.and_then(|it| self.apply.project.services.get(it.service()));
            if let Some(service) = service.filter(|_| instance.is_some_and(Instance::is_running)) {
                self.run_hooks(&service.pre_stop, "pre_stop", id, name)?;
            }
            let stopped =
                engine::containers::stop(self.apply.containers, id, None, self.apply.stop_timeout);
            stopped.map_err(|source| of(name, source))
        })
    }

    /// Removes a container that does not run; one that somebody who was killed had begun to start is
    /// stopped.
    pub(super) fn remove(
        &self,
        id: &str,
        name: &str,
        volumes: bool,
        cause: &str,
    ) -> Result<(), Failure> {
        let containers = self.apply.containers;
        self.told(("Container", name), ["Removing", "Removed"], cause, || {
            let remove = || engine::containers::remove(containers, id, false, volumes);
            let removed = match remove() {
                Err(engine::containers::Error::Running(_)) => {
                    engine::containers::stop(containers, id, None, self.apply.stop_timeout)
                        .and_then(|()| remove())
                }
                removed => removed,
            };
            match removed {
                // Somebody else was faster, or it is one that goes when it ends.
                Err(engine::containers::Error::NotFound(_)) => Ok(()),
                Ok(Removed::Quietly) => Ok(()),
                // Its monitor was killed once, and what that held is left.
                Ok(_) => engine::containers::reconcile::reconcile(containers, self.apply.networks)
                    .map(drop)
                    .map_err(|source| of(name, source)),
                Err(source) => Err(of(name, source)),
            }
        })
    }

    fn run_hooks(
        &self,
        hooks: &[Hook],
        kind: &'static str,
        id: &str,
        name: &str,
    ) -> Result<(), Failure> {
        for hook in hooks {
            let code = self.apply.commands.hook(id, hook)?;
            if code != 0 {
                return Err(Failure::Hook { hook: kind, name: name.to_owned(), code });
            }
        }
        Ok(())
    }

    fn service(&self, name: &str) -> &Service {
        // A plan that makes containers is made of this project.
        &self.apply.project.services[name]
    }

    fn image_of(&self, name: &str, service: &Service) -> Result<cache::image::Image, Failure> {
        let image = service.image_name(&self.apply.project.name, name);
        let found = engine::images::find(self.apply.containers.store, &image)?;
        found.ok_or_else(|| Failure::NoImage { service: name.to_owned(), image, why: "" })
    }

    fn networks_now(
        &self,
    ) -> Result<BTreeMap<String, engine::network::NetworkDefinition>, Failure> {
        let root = self.apply.containers.store.root();
        let all = engine::network::Definitions::new(root, self.apply.networks).list()?;
        Ok(all.into_iter().map(|it| (it.name.clone(), it)).collect())
    }

    fn recreate(&self, service: &str) -> Recreate {
        let wishes = &self.apply.wishes;
        let is_named = wishes.named.is_empty() || wishes.named.iter().any(|name| name == service);
        if is_named { wishes.recreate } else { wishes.recreate_dependencies }
    }

    /// The ids of all containers, by their services, in order of number.
    pub(super) fn others(&self) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (slot, place) in self.places().iter() {
            all.entry(slot.service.clone()).or_default().push(place.id.clone());
        }
        all
    }

    fn put(&self, slot: &Slot, id: &str, is_replaced: bool) {
        self.places().insert(slot.clone(), Place { id: id.to_owned(), is_replaced });
    }

    pub(super) fn id(&self, slot: &Slot, name: &str) -> Result<String, Failure> {
        let known = self.places().get(slot).map(|place| place.id.clone());
        known.ok_or_else(|| of(name, engine::containers::Error::NotFound(name.to_owned())))
    }
}
