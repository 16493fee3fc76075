//! Which images have to be fetched or built before containers can be made of them.
//!
//! docker compose's rules: `pull_policy` says when a registry is asked, an image that can be built and is not here is
//! looked for in a registry first and built if it is not there.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::failure::Failure;
use crate::model::{Build, Project, Service};
use crate::plan::{Action, Plan, StepId};

/// How images are come by.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Build what can be built, whether it is here or not.
    pub build: bool,
    /// Build nothing.
    pub no_build: bool,
    /// In place of every service's `pull_policy`.
    pub pull: Option<String>,
}

/// An image that is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// How long ago it was fetched, as far as that is known.
    pub age: Option<Duration>,
}

/// One build, or one download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Whose image it is; the first is the one that says how it is built.
    pub services: Vec<String>,
    /// The image's names.
    pub images: Vec<String>,
    /// Whether a registry is asked.
    pub pull: bool,
    /// Whether it is built, if a registry is not asked or has it not.
    pub build: bool,
    /// Why.
    pub cause: String,
}

/// What `pull_policy` comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Always,
    Never,
    Missing,
    Build,
    Every(Duration),
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Policy {
    fn parse(service: &str, text: &str) -> Result<Policy, Failure> {
        Ok(match text {
            "" | "missing" | "if_not_present" => Policy::Missing,
            "always" => Policy::Always,
            "never" => Policy::Never,
            "build" => Policy::Build,
            "daily" => Policy::Every(DAY),
            "weekly" => Policy::Every(7 * DAY),
            other => {
                let every = other.strip_prefix("every_");
                let every = every.and_then(|text| engine::duration::parse(text).ok());
                let every = every.and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
                let Some(nanoseconds) = every else {
                    return Err(Failure::Refused(format!(
                        "service {service:?}: pull policy {other:?} is none of always, never, missing, build, daily, \
                         weekly and every_<duration>"
                    )));
                };
                Policy::Every(Duration::from_nanos(nanoseconds))
            }
        })
    }
}

/// An image, and the services that have it.
struct Named<'a> {
    services: Vec<(&'a str, &'a Service)>,
    /// The one that says how it is built.
    builder: Option<(&'a str, &'a Build)>,
}

/// What has to be done for the images of a project's services, in the order of the images' names.
pub fn plan(
    project: &Project,
    found: &BTreeMap<String, Found>,
    wishes: &Wishes,
) -> Result<Vec<Work>, Failure> {
    let mut named: BTreeMap<String, Named<'_>> = BTreeMap::new();
    for (name, service) in &project.services {
        let image = service.image_name(&project.name, name);
        let entry = named.entry(image).or_insert(Named { services: Vec::new(), builder: None });
        entry.services.push((name, service));
        if let Some(build) = &service.build {
            entry.builder.get_or_insert((name, build));
        }
    }
    let mut all: Vec<(Work, Option<String>)> = Vec::new();
    for (image, named) in &named {
        let Some(work) = one(image, named, found.get(image), wishes)? else { continue };
        // What is built in the same way is built once and called by all names.
        let way = named.builder.filter(|_| work.build && !work.pull).map(|(name, build)| {
            serde_json::json!([build, project.services[name].platform]).to_string()
        });
        match all.iter_mut().find(|(_, other)| way.is_some() && *other == way) {
            Some((same, _)) => {
                same.services.extend(work.services);
                same.images.extend(work.images);
            }
            None => all.push((work, way)),
        }
    }
    let mut all: Vec<Work> = all.into_iter().map(|(work, _)| work).collect();
    add_bases(project, &mut all);
    Ok(all)
}

/// Adds what images are built on that are of services which are not selected.
fn add_bases(project: &Project, all: &mut Vec<Work>) {
    let services = project.all_services();
    let mut at = 0;
    while let Some(work) = all.get(at) {
        at += 1;
        let builder = work.services.first().filter(|_| work.build);
        let build = builder.and_then(|name| services.get(name.as_str())?.build.as_ref());
        let mut bases = Vec::new();
        for name in build.into_iter().flat_map(built_on) {
            let is_seen = project.services.contains_key(name)
                || all.iter().any(|work| work.services.iter().any(|known| known == name));
            let Some(service) = services.get(name).filter(|it| it.build.is_some()) else {
                continue;
            };
            if !is_seen {
                bases.push(Work {
                    services: vec![name.to_owned()],
                    images: vec![service.image_name(&project.name, name)],
                    pull: false,
                    build: true,
                    cause: "another image is built on it".to_owned(),
                });
            }
        }
        all.extend(bases);
    }
}

/// The services whose images a build is made on.
pub fn built_on(build: &Build) -> impl Iterator<Item = &str> {
    build.additional_contexts.0.values().filter_map(|place| place.strip_prefix("service:"))
}

/// Adds a step for each piece of work; the step of each service. What is built on another service's image waits for it.
pub fn steps(plan: &mut Plan, project: &Project, work: Vec<Work>) -> BTreeMap<String, StepId> {
    let (mut builds, mut steps) = (Vec::new(), BTreeMap::new());
    for Work { services, images, pull, build, cause } in work {
        let names = services.clone();
        let step = plan.add(Action::Image { services, images, pull, build }, cause, []);
        if let Some(builder) = names.first().filter(|_| build) {
            builds.push((step, builder.clone()));
        }
        steps.extend(names.into_iter().map(|name| (name, step)));
    }
    let services = project.all_services();
    for (step, builder) in builds {
        let build = services.get(builder.as_str()).and_then(|service| service.build.as_ref());
        for other in build.into_iter().flat_map(built_on) {
            if let Some(other) = steps.get(other).filter(|other| **other != step) {
                plan.steps[step.0].after.insert(*other);
            }
        }
    }
    steps
}

fn one(
    image: &str,
    named: &Named<'_>,
    found: Option<&Found>,
    wishes: &Wishes,
) -> Result<Option<Work>, Failure> {
    let (first, service) = named.services[0];
    let can_build = named.builder.is_some() && !wishes.no_build;
    let policy = match &wishes.pull {
        Some(text) => Policy::parse(first, text)?,
        None => Policy::parse(first, &service.pull_policy)?,
    };
    let mut services: Vec<String> =
        named.builder.iter().map(|(name, _)| (*name).to_owned()).collect();
    for (name, _) in &named.services {
        if !services.iter().any(|known| known == name) {
            services.push((*name).to_owned());
        }
    }
    let work = |pull, build, cause: &str| {
        let images = vec![image.to_owned()];
        Some(Work { services: services.clone(), images, pull, build, cause: cause.to_owned() })
    };
    if can_build && wishes.build {
        return Ok(work(false, true, "a build was asked for"));
    }
    if can_build && policy == Policy::Build {
        return Ok(work(false, true, "its pull_policy is build"));
    }
    // A name that nobody gave is in no registry.
    let pullable = !service.image.is_empty();
    Ok(match (policy, found) {
        (Policy::Always, _) if pullable => work(true, can_build, "its pull policy is always"),
        (Policy::Every(period), Some(found))
            if pullable && found.age.is_none_or(|age| age > period) =>
        {
            work(true, can_build, "the pull policy says that it is too old")
        }
        (_, Some(_)) => None,
        (Policy::Missing | Policy::Every(_), None) if pullable => {
            work(true, can_build, "it is not here")
        }
        (_, None) if can_build => work(false, true, "it is not here"),
        (policy, None) => {
            let why = match (policy, wishes.no_build && named.builder.is_some()) {
                (_, true) => ", and --no-build forbids to build it",
                (Policy::Never, _) => ", and its pull policy is never",
                _ => ", and nothing says how to build it",
            };
            return Err(Failure::NoImage {
                service: first.to_owned(),
                image: image.to_owned(),
                why,
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(image: &str, build: Option<&str>, policy: &str) -> Service {
        let build = build.map(|context| Build { context: context.to_owned(), ..Build::default() });
        Service {
            image: image.to_owned(),
            build,
            pull_policy: policy.to_owned(),
            ..Service::default()
        }
    }

    fn planned(services: &[(&str, Service)], here: &[&str], wishes: &Wishes) -> String {
        let project = Project {
            name: "p".to_owned(),
            services: services.iter().map(|(name, it)| ((*name).to_owned(), it.clone())).collect(),
            ..Project::default()
        };
        let old = Found { id: "sha256:1".to_owned(), age: Some(2 * DAY) };
        let found = here.iter().map(|name| ((*name).to_owned(), old.clone())).collect();
        let way = |work: Work| {
            let ways = [("pull", work.pull), ("build", work.build)];
            let ways: Vec<&str> = ways.iter().filter(|(_, is)| *is).map(|(way, _)| *way).collect();
            format!("{} {} {}", ways.join("+"), work.images.join(","), work.services.join(","))
        };
        match plan(&project, &found, wishes) {
            Ok(all) => all.into_iter().map(way).collect::<Vec<_>>().join("; "),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn what_is_not_here_is_fetched_or_built() {
        let plain = Wishes::default();
        let check = |service: Service, here: &[&str], expected: &str| {
            assert_eq!(planned(&[("a", service.clone())], here, &plain), expected, "{service:?}");
        };
        check(service("x", None, ""), &[], "pull x a");
        check(service("x", None, ""), &["x"], "");
        check(service("", Some("."), ""), &[], "build p-a a");
        check(service("", Some("."), ""), &["p-a"], "");
        check(service("x", Some("."), ""), &[], "pull+build x a");
        check(service("x", Some("."), "build"), &["x"], "build x a");
        check(service("x", None, "always"), &["x"], "pull x a");
        check(service("", Some("."), "always"), &["p-a"], "");
        check(service("x", None, "daily"), &["x"], "pull x a");
        check(service("x", None, "weekly"), &["x"], "");
        check(service("x", None, "every_1h"), &["x"], "pull x a");
        check(
            service("x", None, "never"),
            &[],
            "service \"a\" has no image: x is not here, and its pull policy is never",
        );
        assert!(planned(&[("a", service("x", None, "often"))], &[], &plain).contains("none of"));
    }

    #[test]
    fn flags_come_before_policies() {
        let of = |wishes: Wishes| planned(&[("a", service("x", Some("."), ""))], &["x"], &wishes);
        assert_eq!(of(Wishes { build: true, ..Wishes::default() }), "build x a");
        let always = Some("always".to_owned());
        assert_eq!(of(Wishes { pull: always, ..Wishes::default() }), "pull+build x a");
        let no_build = Wishes { no_build: true, ..Wishes::default() };
        let missing = planned(&[("a", service("", Some("."), ""))], &[], &no_build);
        assert!(missing.ends_with("--no-build forbids to build it"), "{missing}");
    }

    #[test]
    fn what_is_the_same_is_done_once() {
        let built = || service("", Some("app"), "");
        let all = [("a", built()), ("b", built()), ("c", service("", Some("other"), ""))];
        assert_eq!(planned(&all, &[], &Wishes::default()), "build p-a,p-b a,b; build p-c c");
        let shared = [("a", service("x", None, "")), ("b", service("x", Some("."), "build"))];
        assert_eq!(planned(&shared, &[], &Wishes::default()), "pull+build x b,a");
    }
}
