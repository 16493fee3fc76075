//! A service as `run` changes it for one container: pure, but for the variable files that are read.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::load::Warnings;
use crate::model::{BindOptions, Command, Mount, Port, Project, Service, Volume, VolumeOptions};
use crate::{mount, ports, variable_files, words};

/// What `run` was told about the container.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// What it is called.
    pub name: String,
    /// The command and its arguments; none are the service's.
    pub command: Vec<String>,
    /// The program, as a shell's words.
    pub entrypoint: Option<String>,
    /// Variables, `NAME=value` or those of the project by `NAME`.
    pub environment: Vec<String>,
    /// Files with variables; what `environment` says wins.
    pub env_files: Vec<PathBuf>,
    /// `NAME=value`.
    pub labels: Vec<String>,
    /// Volumes beside the service's, in short syntax.
    pub volumes: Vec<String>,
    /// Whether the service's ports are published.
    pub service_ports: bool,
    /// Ports that are published in place of the service's, in short syntax.
    pub publish: Vec<String>,
    /// The user.
    pub user: Option<String>,
    /// Where the program starts.
    pub working_dir: Option<String>,
    /// Capabilities beside the service's.
    pub cap_add: Vec<String>,
    /// Capabilities less than the service's.
    pub cap_drop: Vec<String>,
    /// Whether it has a terminal, if not as the service says.
    pub tty: Option<bool>,
    /// Whether its input is kept open, if not as the service says.
    pub stdin_open: Option<bool>,
    /// The folder that relative paths on the command line begin at.
    pub current_dir: PathBuf,
}

/// Changes a service of a project for one container; the ports that it publishes are in its `ports`. Volumes that only
/// the command line names are known to the project then.
pub fn change(
    project: &mut Project,
    service: &mut Service,
    changes: &Changes,
    warnings: &mut Warnings,
) -> Result<(), Failure> {
    changes.name.clone_into(&mut service.container_name);
    service.scale = Some(1);
    if let Some(text) = &changes.entrypoint {
        let words = words::split(text)
            .map_err(|wrong| Failure::Refused(format!("--entrypoint {text:?}: {wrong}")))?;
        service.entrypoint = Some(Command(words));
        service.command = Some(Command(Vec::new()));
    }
    if !changes.command.is_empty() {
        service.command = Some(Command(changes.command.clone()));
    }
    environment(project, service, changes, warnings)?;
    for text in &changes.labels {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        service.labels.0.insert(name.to_owned(), value.to_owned());
    }
    for text in &changes.volumes {
        let mount = volume(text, project, &changes.current_dir)?;
        service.volumes.retain(|own| own.target != mount.target);
        service.volumes.push(mount);
    }
    if !changes.service_ports {
        service.ports.clear();
    }
    for text in &changes.publish {
        let parsed = ports::parse(text)
            .map_err(|wrong| Failure::Refused(format!("--publish {text:?}: {wrong}")))?;
        service.ports.extend(parsed.into_iter().map(|port| Port {
            mode: "ingress".to_owned(),
            host_ip: port.host_ip,
            target: port.target,
            published: port.published,
            protocol: port.protocol,
            ..Port::default()
        }));
    }
    let replace = |place: &mut String, value: &Option<String>| {
        if let Some(value) = value {
            value.clone_into(place);
        }
    };
    replace(&mut service.user, &changes.user);
    replace(&mut service.working_dir, &changes.working_dir);
    // What is given on the command line wins over what the file says the other way.
    service.cap_drop.retain(|it| !changes.cap_add.contains(it));
    service.cap_add.retain(|it| !changes.cap_drop.contains(it));
    service.cap_add.extend(changes.cap_add.iter().cloned());
    service.cap_drop.extend(changes.cap_drop.iter().cloned());
    service.tty = changes.tty.unwrap_or(service.tty);
    service.stdin_open = changes.stdin_open.unwrap_or(service.stdin_open);
    Ok(())
}

fn environment(
    project: &Project,
    service: &mut Service,
    changes: &Changes,
    warnings: &mut Warnings,
) -> Result<(), Failure> {
    let read =
        variable_files::read_for_container(&changes.env_files, &project.environment, warnings);
    let read = read.map_err(|error| Failure::Refused(error.render()))?;
    let own = &mut service.environment.0;
    own.extend(read.into_iter().map(|(name, value)| (name, Some(value))));
    for text in &changes.environment {
        match text.split_once('=') {
            Some((name, value)) => own.insert(name.to_owned(), Some(value.to_owned())),
            None => own.insert(text.clone(), project.environment.get(text).cloned()),
        };
    }
    Ok(())
}

fn volume(text: &str, project: &mut Project, current_dir: &Path) -> Result<Mount, Failure> {
    let refused = |why: String| Failure::Refused(format!("--volume {text:?}: {why}"));
    let short = mount::parse(text).map_err(|wrong| refused(wrong.to_string()))?;
    if !short.target.starts_with('/') {
        return Err(refused(format!(
            "the path {:?} in the container is not absolute",
            short.target
        )));
    }
    let mut made = Mount { target: short.target, read_only: short.read_only, ..Mount::default() };
    if short.is_bind {
        made.kind = "bind".to_owned();
        let source = match short.source.strip_prefix('~') {
            Some(rest) => {
                let home = project.environment.get("HOME").map_or("", String::as_str);
                format!("{home}{rest}")
            }
            None => short.source,
        };
        made.source = current_dir.join(source).to_string_lossy().into_owned();
        made.bind = Some(BindOptions {
            propagation: short.propagation.unwrap_or_default(),
            selinux: short.selinux.unwrap_or_default(),
            ..BindOptions::default()
        });
        return Ok(made);
    }
    made.kind = "volume".to_owned();
    if !short.source.is_empty() {
        let outside = || Volume { name: short.source.clone(), external: true, ..Volume::default() };
        project.volumes.entry(short.source.clone()).or_insert_with(outside);
    }
    made.source = short.source;
    made.volume = Some(VolumeOptions { nocopy: short.nocopy, ..VolumeOptions::default() });
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;

    fn changed(file: &str, changes: &Changes) -> Result<(Project, Service), String> {
        let request = Request {
            files: vec!["-".to_owned()],
            stdin: Some(format!("name: p\nservices: {{s: {file}}}\n").into_bytes()),
            current_dir: "/here".into(),
            environment: [("KNOWN", "here"), ("HOME", "/home/me")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Request::default()
        };
        let mut project = crate::load::load(&request, &mut Vec::new()).expect("a project");
        let mut service = project.services["s"].clone();
        change(&mut project, &mut service, changes, &mut Vec::new())
            .map_err(|failure| failure.to_string())?;
        Ok((project, service))
    }

    fn service(file: &str, changes: &Changes) -> Service {
        changed(file, changes).expect("it can be changed").1
    }

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_command_takes_the_place_of_the_services_and_an_entrypoint_that_of_both() {
        let file = "{image: x, command: a b, entrypoint: c}";
        let words = |changes: &Changes| {
            let service = service(file, changes);
            let words = |command: Option<Command>| command.map(|it| it.0.join(" "));
            (words(service.entrypoint), words(service.command))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(words(&Changes::default()), (some("c"), some("a b")));
        let command = Changes { command: texts(&["d", "e"]), ..Changes::default() };
        assert_eq!(words(&command), (some("c"), some("d e")));
        let entrypoint = Changes { entrypoint: some("sh -c"), ..Changes::default() };
        assert_eq!(words(&entrypoint), (some("sh -c"), some("")));
        let both = Changes { command: texts(&["f"]), ..entrypoint };
        assert_eq!(words(&both), (some("sh -c"), some("f")));
        let wrong = Changes { entrypoint: some("'a"), ..Changes::default() };
        assert!(changed(file, &wrong).expect_err("a quote").starts_with("--entrypoint \"'a\": "));
    }

    #[test]
    fn variables_come_from_the_file_then_from_files_then_from_flags() {
        let file = std::env::temp_dir().join(format!("rcompose-one-off-{}", std::process::id()));
        std::fs::write(&file, "A=file\nB=file\n").expect("write");
        let changes = Changes {
            environment: texts(&["B=flag", "KNOWN", "UNKNOWN"]),
            env_files: vec![file.clone()],
            ..Changes::default()
        };
        let service = service("{image: x, environment: {A: own, B: own, C: own}}", &changes);
        std::fs::remove_file(file).expect("remove");
        let pairs = service.environment.0.iter();
        let pairs: Vec<_> =
            pairs.map(|(k, v)| format!("{k}={}", v.as_deref().unwrap_or("?"))).collect();
        assert_eq!(pairs.join(" "), "A=file B=flag C=own KNOWN=here UNKNOWN=?");
        let missing = Changes { env_files: vec!["/nowhere/x".into()], ..Changes::default() };
        assert!(changed("{image: x}", &missing).expect_err("no file").contains("/nowhere/x"));
    }

    #[test]
    fn volumes_are_added_and_take_the_place_of_those_at_the_same_path() {
        let changes = Changes {
            volumes: texts(&["./a:/a:ro", "~/h:/h", "data:/d", "/anon"]),
            current_dir: "/now".into(),
            ..Changes::default()
        };
        let (project, service) =
            changed("{image: x, volumes: [/old:/a, /b:/b]}", &changes).expect("it can");
        let line = |it: &Mount| format!("{}:{}:{}:{}", it.kind, it.source, it.target, it.read_only);
        let lines: Vec<String> = service.volumes.iter().map(line).collect();
        let expected = [
            "bind:/b:/b:false",
            "bind:/now/./a:/a:true",
            "bind:/home/me/h:/h:false",
            "volume:data:/d:false",
            "volume::/anon:false",
        ];
        assert_eq!(lines, expected);
        assert_eq!(project.volumes["data"].name, "data");
        for wrong in ["a:b:c:d", "x:relative"] {
            let changes = Changes { volumes: texts(&[wrong]), ..Changes::default() };
            let error = changed("{image: x}", &changes).expect_err(wrong);
            assert!(error.starts_with(&format!("--volume {wrong:?}: ")), "{error}");
        }
    }

    #[test]
    fn ports_are_published_only_where_that_is_asked_for() {
        let targets = |changes: &Changes| {
            let service = service("{image: x, ports: ['1:80']}", changes);
            service
                .ports
                .iter()
                .map(|port| format!("{}:{}", port.published, port.target))
                .collect::<Vec<_>>()
        };
        assert!(targets(&Changes::default()).is_empty());
        let own = Changes { service_ports: true, ..Changes::default() };
        assert_eq!(targets(&own), ["1:80"]);
        let given = Changes { publish: texts(&["8000-8001:90-91"]), ..Changes::default() };
        assert_eq!(targets(&given), ["8000:90", "8001:91"]);
        let wrong = Changes { publish: texts(&["x"]), ..Changes::default() };
        assert!(
            changed("{image: x}", &wrong).expect_err("no port").starts_with("--publish \"x\": ")
        );
    }

    #[test]
    fn flags_win_over_what_the_file_says() {
        let changes = Changes {
            name: "n".to_owned(),
            user: Some("u".to_owned()),
            working_dir: Some("/w".to_owned()),
            labels: texts(&["a=b", "c"]),
            cap_add: texts(&["SYS_TIME"]),
            cap_drop: texts(&["KILL"]),
            tty: Some(false),
            stdin_open: Some(true),
            ..Changes::default()
        };
        let file = "{image: x, user: o, working_dir: /o, tty: true, scale: 3, labels: {a: o}, cap_add: [KILL], cap_drop: [SYS_TIME, CHOWN]}";
        let service = service(file, &changes);
        assert_eq!((service.container_name.as_str(), service.user.as_str()), ("n", "u"));
        assert_eq!((service.working_dir.as_str(), service.replicas()), ("/w", 1));
        assert_eq!((service.tty, service.stdin_open), (false, true));
        assert_eq!((service.labels.0["a"].as_str(), service.labels.0["c"].as_str()), ("b", ""));
        assert_eq!(service.cap_add, ["SYS_TIME"]);
        assert_eq!(service.cap_drop, ["CHOWN", "KILL"]);
    }
}
