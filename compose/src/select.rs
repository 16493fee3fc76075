//! Phase 16: which services a project has, by profiles and by name, and what of the rest they need.

use std::collections::{BTreeMap, BTreeSet};

use frontend::suggest::nearest;

use crate::error::Error;
use crate::model::{Project, Service};

impl Project {
    /// Enables the services of these profiles and those of none; `*` is all profiles.
    pub(crate) fn apply_profiles(&mut self, profiles: Vec<String>) {
        let mut all = std::mem::take(&mut self.services);
        all.append(&mut self.disabled_services);
        let is_enabled = |service: &Service| {
            let active = |profile: &String| profile == "*" || service.profiles.contains(profile);
            service.profiles.is_empty() || profiles.iter().any(active)
        };
        for (name, service) in all {
            let into =
                if is_enabled(&service) { &mut self.services } else { &mut self.disabled_services };
            into.insert(name, service);
        }
        self.profiles = profiles;
    }

    /// Keeps the services of these names, all if there are none, with everything that they depend on. Naming a service
    /// enables its profiles; the others are disabled.
    pub fn select(&mut self, names: &[String]) -> Result<(), Error> {
        self.select_some(names, true)
    }

    /// The same without what they depend on.
    pub fn select_alone(&mut self, names: &[String]) -> Result<(), Error> {
        self.select_some(names, false)
    }

    fn select_some(&mut self, names: &[String], with_dependencies: bool) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let mut profiles = self.profiles.clone();
        for name in names.iter().filter(|name| !self.services.contains_key(*name)) {
            profiles.extend(
                self.disabled_services.get(name).into_iter().flat_map(|s| s.profiles.clone()),
            );
        }
        self.apply_profiles(profiles);
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        let mut open: Vec<(String, bool)> = names.iter().map(|name| (name.clone(), true)).collect();
        while let Some((name, required)) = open.pop() {
            let Some(service) = self.services.get(&name) else {
                if !required {
                    continue;
                }
                let suggestion = nearest(&name, self.services.keys().map(String::as_str));
                return Err(Error::NoService { service: name, suggestion });
            };
            if wanted.insert(name) && with_dependencies {
                let dependencies = service.depends_on.iter();
                open.extend(dependencies.map(|(name, how)| (name.clone(), how.required.0)));
            }
        }
        for (name, mut service) in std::mem::take(&mut self.services) {
            let is_wanted = wanted.contains(&name);
            if is_wanted {
                service.depends_on.retain(|dependency, _| wanted.contains(dependency));
            }
            let into = if is_wanted { &mut self.services } else { &mut self.disabled_services };
            into.insert(name, service);
        }
        Ok(())
    }

    /// Drops networks, volumes, secrets, configs and models that no service uses.
    pub fn drop_unused(&mut self) {
        let services: Vec<&Service> = self.services.values().collect();
        let used = |of: fn(&Service) -> Vec<&String>| -> BTreeSet<String> {
            services.iter().flat_map(|service| of(service)).cloned().collect()
        };
        let networks = used(|service| service.networks.keys().collect());
        let volumes = used(|service| {
            let named = service.volumes.iter().filter(|mount| mount.kind == "volume");
            named.map(|mount| &mount.source).collect()
        });
        let secrets = used(|service| {
            let built = service.build.iter().flat_map(|build| &build.secrets);
            service.secrets.iter().chain(built).map(|file| &file.source).collect()
        });
        let configs = used(|service| service.configs.iter().map(|file| &file.source).collect());
        let models = used(|service| service.models.keys().collect());
        self.networks.retain(|name, _| networks.contains(name));
        self.volumes.retain(|name, _| volumes.contains(name));
        self.secrets.retain(|name, _| secrets.contains(name));
        self.configs.retain(|name, _| configs.contains(name));
        self.models.retain(|name, _| models.contains(name));
    }

    /// All services, also the disabled ones.
    pub fn all_services(&self) -> BTreeMap<&str, &Service> {
        let all = self.services.iter().chain(&self.disabled_services);
        all.map(|(name, service)| (name.as_str(), service)).collect()
    }
}
