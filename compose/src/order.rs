//! Which service comes before which.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Project;
use crate::observe::Observed;

/// What each service depends on, directly.
pub type Dependencies = BTreeMap<String, BTreeSet<String>>;

/// What the services of a project depend on; what is not selected is left out.
pub fn of_project(project: &Project) -> Dependencies {
    let selected = |name: &&String| project.services.contains_key(*name);
    let of = |service: &crate::model::Service| {
        service.depends_on.keys().filter(selected).cloned().collect()
    };
    project.services.iter().map(|(name, service)| (name.clone(), of(service))).collect()
}

/// What the services that have containers depend on, by what their containers say.
pub fn of_containers(observed: &Observed) -> Dependencies {
    let mut all = Dependencies::new();
    for instance in &observed.containers {
        let own: &mut BTreeSet<String> = all.entry(instance.service().to_owned()).or_default();
        own.extend(instance.dependencies().map(str::to_owned));
    }
    all
}

/// All services, each behind what it depends on; where nothing orders them by name. What goes in a circle is broken
/// at some place: a project has none, but labels can say anything.
pub fn sorted(dependencies: &Dependencies) -> Vec<String> {
    fn visit(name: &str, all: &Dependencies, seen: &mut BTreeSet<String>, found: &mut Vec<String>) {
        if !seen.insert(name.to_owned()) {
            return;
        }
        for dependency in all.get(name).into_iter().flatten() {
            if all.contains_key(dependency) {
                visit(dependency, all, seen, found);
            }
        }
        found.push(name.to_owned());
    }
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    for name in dependencies.keys() {
        visit(name, dependencies, &mut seen, &mut found);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_depended_on_comes_first_and_circles_end() {
        let of = |all: &[(&str, &[&str])]| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let all = all.iter().map(|(name, on)| ((*name).to_owned(), names(on))).collect();
            sorted(&all).join(" ")
        };
        assert_eq!(of(&[("a", &["c"]), ("b", &[]), ("c", &["b", "x"])]), "b c a");
        assert_eq!(of(&[("a", &["b"]), ("b", &["a"])]), "b a");
    }
}
