//! Containers that run to their end before a service's first one is started: migrations, seeds, permissions.

use cache::image::Image;
use engine::containers::create::create;
use engine::containers::ensure_running;
use engine::containers::protocol::Request;

use super::wait::Came;
use super::{Work, of};
use crate::failure::Failure;
use crate::make::{self, files, labels};
use crate::model::Service;
use crate::plan::Slot;

impl Work<'_> {
    /// Runs them one after another, unless a container of the service runs already. One that fails ends it.
    pub(super) fn pre_start(&self, slot: &Slot, cause: &str) -> Result<(), Failure> {
        let ids: Vec<String> = {
            let places = self.places();
            let own = places.iter().filter(|(it, _)| it.service == slot.service);
            own.map(|(_, place)| place.id.clone()).collect()
        };
        let containers = self.apply.containers;
        let runs = |id: &String| {
            containers.observe(id).is_ok_and(|observed| observed.state.status.is_active())
        };
        if ids.iter().any(runs) {
            return Ok(());
        }
        let service = &self.apply.project.services[&slot.service];
        let first = self.id(slot, &slot.service)?;
        for (index, hook) in service.pre_start.iter().enumerate() {
            let what = format!("service {:?} pre_start[{index}]", slot.service);
            if hook.per_replica {
                let why = "per_replica is not supported: remove it, or set it to false";
                return Err(Failure::Refused(format!("{what}: {why}")));
            }
            let name = format!("{}-{}-pre_start-{index}", self.apply.project.name, slot.service);
            self.told(("Container", &name), ["Starting", "Exited"], cause, || {
                self.run_before(slot, hook, (index, &name, &what), &first)
            })?;
        }
        Ok(())
    }

    fn run_before(
        &self,
        slot: &Slot,
        hook: &Service,
        (index, name, what): (usize, &str, &str),
        first: &str,
    ) -> Result<(), Failure> {
        let containers = self.apply.containers;
        let failed = |source| of(name, source);
        // What was killed with us before it had ended.
        if let Ok(left) = containers.find(name) {
            engine::containers::remove(containers, &left, true, true).map_err(failed)?;
        }
        let image = self.image_before(slot, hook)?;
        let mut hook = hook.clone();
        name.clone_into(&mut hook.container_name);
        // It sees what the service's own containers do.
        hook.volumes_from.push(format!("container:{first}"));
        let mut request = make::request(&make::Container {
            project: self.apply.project,
            service_name: &slot.service,
            service: &hook,
            number: slot.number,
            image: &image.id().to_string(),
            others: &self.others(),
            previous: None,
            files: &self.apply.files,
            one_off: true,
        })
        .map_err(|source| Failure::Make { service: slot.service.clone(), source })?;
        let own = &mut request.config.labels;
        own.insert(labels::HOOK.to_owned(), "pre_start".to_owned());
        own.insert(labels::HOOK_INDEX.to_owned(), index.to_string());
        let all = files::files(self.apply.project, &hook, &self.apply.files)
            .and_then(|all| files::write(&all));
        all.map_err(|source| Failure::Make { service: slot.service.clone(), source })?;
        let record = create(containers, &image, request).map_err(failed)?;
        let ended = ensure_running(containers, &record.id, self.apply.networks)
            .map_err(failed)
            .and_then(|()| self.come_to(&record.id, name, Request::Wait));
        let text = match &ended {
            Ok(Came::Exited(0)) | Err(_) => None,
            Ok(Came::Exited(code)) => Some(format!("{what} exited with code {code}")),
            Ok(_) => Some(format!("{what} did not end")),
        };
        let text = text.map(|text| self.with_last_lines(&record.id, text));
        let removed =
            engine::containers::remove(containers, &record.id, true, true).map_err(failed);
        match (ended, text) {
            (Err(failure), _) => Err(failure),
            (Ok(_), Some(text)) => Err(Failure::Dependency { text }),
            (Ok(_), None) => removed.map(drop),
        }
    }

    /// The image: the hook's own, which is fetched if it is not here, or the service's.
    fn image_before(&self, slot: &Slot, hook: &Service) -> Result<Image, Failure> {
        let store = self.apply.containers.store;
        let image = hook.image_name(&self.apply.project.name, &slot.service);
        if let Some(found) = engine::images::find(store, &image)? {
            return Ok(found);
        }
        self.told(("Image", &image), ["Pulling", "Pulled"], "it is not here", || {
            self.apply.commands.pull(&image, &hook.platform)
        })?;
        Ok(engine::images::image(store, &image)?)
    }
}
