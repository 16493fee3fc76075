//! What only those have to know who make containers: whether a container can be made of each service, with the place of
//! what is in the way. Looks at files, not at the engine: images, and what is on the machine, are not asked for.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Mistake, Wrong};
use crate::make;
use crate::model::{Project, Service};
use crate::mount;
use crate::node::{Map, Node};
use crate::place::Place;

/// Where things stand in a project's files.
#[derive(Clone, Debug)]
pub struct Places {
    services: Option<Node>,
    secrets: Option<Node>,
    configs: Option<Node>,
}

impl Places {
    /// The places of a model that is not typed yet.
    pub(crate) fn of(model: &Map) -> Places {
        let node = |key: &str| model.get(key).cloned();
        Places { services: node("services"), secrets: node("secrets"), configs: node("configs") }
    }

    /// Refuses a project with a service of which no container can be made.
    pub fn check(&self, project: &Project) -> Result<(), Error> {
        let none = || vec!["0".repeat(64)];
        let all = project.all_services();
        let others: BTreeMap<String, Vec<String>> =
            all.keys().map(|name| ((*name).to_owned(), none())).collect();
        let makes_containers = |(_, service): &(&String, &Service)| {
            service.replicas() > 0 && service.provider.is_none()
        };
        for (name, service) in project.services.iter().filter(makes_containers) {
            self.paths(name, service)?;
            let container = make::Container {
                project,
                service_name: name,
                service,
                number: 1,
                image: "",
                others: &others,
                previous: None,
                files: Path::new("/"),
                one_off: false,
            };
            if let Err(error) = make::request(&container) {
                let place = self.of_error(project, &error);
                return Err(mistake(error.to_string(), place));
            }
        }
        Ok(())
    }

    /// Refuses paths in a container that do not begin at its root.
    fn paths(&self, name: &str, service: &Service) -> Result<(), Error> {
        let volumes = service.volumes.iter().enumerate();
        let volumes = volumes.map(|(at, mount)| {
            let path = mount.target.as_str();
            ("mount target", "volumes", Some(at), path, mount::advice(&mount.source, path))
        });
        let advice = || mount::advice("", "");
        let tmpfs = service.tmpfs.iter().enumerate().map(|(at, entry)| {
            let path = entry.split(':').next().unwrap_or(entry);
            ("mount target", "tmpfs", Some(at), path, advice())
        });
        let dir = [("working_dir", "working_dir", None, service.working_dir.as_str(), advice())];
        for (what, key, at, path, advice) in volumes.chain(tmpfs).chain(dir) {
            if path.is_empty() || path.starts_with('/') {
                continue;
            }
            let node = self.service(name).and_then(|service| service.get(key));
            let node = node.and_then(|node| match at {
                Some(at) => node.as_list()?.get(at),
                None => Some(node),
            });
            let place = node.map(|node| node.get("target").unwrap_or(node).place());
            let reason = format!("service {name:?}: the {what} {path:?} is not absolute: {advice}");
            return Err(mistake(reason, place));
        }
        Ok(())
    }

    fn service(&self, name: &str) -> Option<&Node> {
        self.services.as_ref()?.get(name)
    }

    /// Where that stands of which no container can be made.
    fn of_error(&self, project: &Project, error: &make::Error) -> Option<Place> {
        let (kind, name, key) = match error {
            make::Error::Unsupported { service, attribute, .. }
            | make::Error::Invalid { service, attribute, .. } => {
                let service = self.service(service)?;
                return Some(deepest(service, attribute.split('.')).key_place());
            }
            make::Error::External { kind, name } => (*kind, name, "external"),
            make::Error::Driver { kind, name, attribute } => (*kind, name, *attribute),
            make::Error::NoVariable { kind, name, .. } => (*kind, name, "environment"),
            make::Error::Owner { kind, name, .. } => (*kind, name, ""),
            _ => return None,
        };
        let (known, all) = match kind {
            "secret" => {
                let mut all = project.secrets.iter();
                (all.find(|(_, it)| it.name == *name).map(|(key, _)| key), &self.secrets)
            }
            _ => {
                let mut all = project.configs.iter();
                (all.find(|(_, it)| it.name == *name).map(|(key, _)| key), &self.configs)
            }
        };
        let resource = all.as_ref()?.get(known?)?;
        Some(resource.get(key).map_or_else(|| resource.key_place(), Node::place))
    }
}

/// The node that keys lead to, as far as they do.
fn deepest<'a>(mut node: &'a Node, keys: impl Iterator<Item = &'a str>) -> &'a Node {
    for key in keys {
        match node.get(key) {
            Some(inner) => node = inner,
            None => break,
        }
    }
    node
}

fn mistake(text: String, place: Option<Place>) -> Error {
    Mistake { wrong: Box::new(Wrong::Unrunnable(text)), attribute: String::new(), place }.into()
}

#[cfg(test)]
mod tests {
    use crate::request::Request;

    #[track_caller]
    fn check(file: &str, expected: &str) {
        let request = Request {
            files: vec!["-".to_owned()],
            stdin: Some(format!("name: p\n{file}").into_bytes()),
            current_dir: "/".into(),
            ..Request::default()
        };
        let (project, places) =
            crate::load::load_with_places(&request, &mut Vec::new()).expect("it loads");
        let error = places.check(&project).map(|()| "nothing".to_owned());
        assert_eq!(error.unwrap_or_else(|error| error.render()), expected);
    }

    #[test]
    fn what_is_in_the_way_of_a_container_is_told_with_its_place() {
        check(
            "services: {a: {image: x, volumes: [data:/d], tmpfs: /t}}\nvolumes: {data: }",
            "nothing",
        );
        check(
            "services:\n  a:\n    image: x\n    volumes: [data:/d, data:rel]\nvolumes: {data: }",
            "-:5:24: service \"a\": the mount target \"rel\" is not absolute: begin it with /
 5 |     volumes: [data:/d, data:rel]
   |                        ^^^^",
        );
        let drive = |target: &str| {
            format!(
                "service \"a\": the mount target {target:?} is not absolute: \"v:\" is read as a drive of Windows, as docker \
                 compose reads it, and not as the volume \"v\": write {{type: volume, source: v, target: /d}}"
            )
        };
        check(
            "services: {a: {image: x, volumes: ['v:/d']}}\nvolumes: {v: }",
            &format!(
                "-:2:36: {}\n 2 | services: {{a: {{image: x, volumes: ['v:/d']}}}}\n   |                                    ^^^^^^",
                drive("v:/d")
            ),
        );
        check(
            "services: {a: {image: x, volumes: ['v:/d:ro']}}\nvolumes: {v: }",
            &format!(
                "-:2:36: {}\n 2 | services: {{a: {{image: x, volumes: ['v:/d:ro']}}}}\n   |                                    ^^^^^^^^^",
                drive("ro")
            ),
        );
        check(
            "services: {a: {image: x, volumes: [{type: volume, source: v, target: /d}]}}\nvolumes: {v: }",
            "nothing",
        );
        check(
            "services:\n  a:\n    image: x\n    volumes:\n      - {type: tmpfs, target: rel}",
            "-:6:31: service \"a\": the mount target \"rel\" is not absolute: begin it with /
 6 |       - {type: tmpfs, target: rel}
   |                               ^^^",
        );
        check(
            "services: {a: {image: x, working_dir: rel}}",
            "-:2:39: service \"a\": the working_dir \"rel\" is not absolute: begin it with /
 2 | services: {a: {image: x, working_dir: rel}}
   |                                       ^^^",
        );
        check(
            "services: {a: {image: x, secrets: [s]}}\nsecrets:\n  s: {environment: NOT_SET}",
            "-:4:20: environment variable \"NOT_SET\" required by secret \"p_s\" is not set
 4 |   s: {environment: NOT_SET}
   |                    ^^^^^^^",
        );
        check(
            "services:\n  a: {image: x, runtime: kata}",
            "-:3:17: service \"a\": runtime is not supported: there is one runtime, write `runc` or nothing; for \
             GPUs, write `gpus: all`
 3 |   a: {image: x, runtime: kata}
   |                 ^^^^^^^",
        );
    }

    #[test]
    fn a_service_without_containers_is_not_looked_at() {
        check("services: {a: {image: x, runtime: kata, scale: 0}}", "nothing");
        check("services: {a: {image: x, runtime: kata, profiles: [p]}, b: {image: x}}", "nothing");
    }
}
