//! `build`: images of services; and from a service's `build` to the command line of `rbuild build`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::bail;
use clap::Args;
use compose::Project;
use compose::failure::Failure;
use compose::images::{self, Wishes};
use compose::make::labels;
use compose::model::{Build, FileMount, Service};
use compose::plan::Plan;
use serde_json::{Map, Value, json};

use crate::args::Globals;
use crate::fetch;
use crate::home;
use crate::ui;

/// What `build` is told.
#[derive(Args, Debug, Default)]
pub(crate) struct BuildArgs {
    /// Set a build argument, or take it over from here
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Do every step again
    #[arg(long)]
    no_cache: bool,
    /// Look for newer base images
    #[arg(long)]
    pull: bool,
    /// Push what was built
    #[arg(long)]
    push: bool,
    /// Show nothing of the builds
    #[arg(short, long)]
    quiet: bool,
    /// An ssh agent or keys for RUN --mount=type=ssh
    #[arg(long, value_name = "default|ID[=SOCKET|KEY,...]")]
    ssh: Vec<String>,
    /// Build what the services depend on as well
    #[arg(long)]
    with_dependencies: bool,
    /// Print what would be built, as a bake file
    #[arg(long)]
    print: bool,
    /// Check the Dockerfiles and build nothing
    #[arg(long)]
    check: bool,
    /// Kept for docker compose's sake: there is one builder
    #[arg(long, value_name = "NAME", hide = true)]
    builder: Option<String>,
    /// Kept for docker compose's sake
    #[arg(long, hide = true)]
    compress: bool,
    /// Kept for docker compose's sake
    #[arg(long, hide = true)]
    force_rm: bool,
    /// Kept for docker compose's sake
    #[arg(long, hide = true)]
    no_rm: bool,
    /// Add a list of what is in the image
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    /// Add how the image was made
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    /// The memory that steps have
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// The services; none is all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Builds.
pub(crate) fn build(globals: &Globals, args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let project = selected(globals, args)?;
    let wishes = Wishes { build: true, ..Wishes::default() };
    let work = images::plan(&project, &Default::default(), &wishes)?;
    let work: Vec<_> = work.into_iter().filter(|work| work.build).collect();
    if args.print {
        ui::line(format_args!("{:#}", bake_file(&project, &work, args)?));
        return Ok(ExitCode::SUCCESS);
    }
    if work.is_empty() {
        ui::warn("No services to build");
        return Ok(ExitCode::SUCCESS);
    }
    let mut plan = Plan::default();
    images::steps(&mut plan, &project, work);
    fetch::carry_out(globals, &project, &plan, Some(args), args.quiet)?;
    Ok(ExitCode::SUCCESS)
}

/// The project with those services alone that are built.
fn selected(globals: &Globals, args: &BuildArgs) -> anyhow::Result<Project> {
    let mut project =
        home::load(globals, if args.with_dependencies { &args.services } else { &[] })?;
    if !args.with_dependencies && !args.services.is_empty() {
        // What is built on another service's image comes with that.
        let mut wanted = BTreeSet::new();
        let mut open = args.services.clone();
        while let Some(name) = open.pop() {
            let all = project.all_services();
            let build = all.get(name.as_str()).and_then(|service| service.build.as_ref());
            open.extend(build.into_iter().flat_map(images::built_on).map(str::to_owned));
            if !wanted.insert(name) {
                continue;
            }
        }
        project.select_alone(&Vec::from_iter(wanted))?;
    }
    project.services.retain(|_, service| service.build.is_some());
    Ok(project)
}

/// The labels of an image: compose's, and the file's, which win.
fn image_labels<'a>(
    project: &'a Project,
    service_name: &'a str,
    build: &'a Build,
) -> std::collections::BTreeMap<&'a str, &'a str> {
    let own = build.labels.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let ours = [
        (labels::PROJECT, project.name.as_str()),
        (labels::SERVICE, service_name),
        (labels::VERSION, env!("CARGO_PKG_VERSION")),
    ];
    ours.into_iter().chain(own).collect()
}

/// Whether a context is no folder here.
fn is_remote(context: &str) -> bool {
    context.contains("://") || context.starts_with("git@") || context.starts_with("github.com/")
}

/// The Dockerfile that a build names, if it is not its context's usual one.
fn dockerfile(build: &Build) -> Option<String> {
    let name = build.dockerfile.as_str();
    match (name, is_remote(&build.context)) {
        ("" | "Dockerfile", _) => None,
        (name, true) => Some(name.to_owned()),
        (name, false) => Some(Path::new(&build.context).join(name).to_string_lossy().into_owned()),
    }
}

/// The build arguments that have a value, by the file, its variables and the command line.
fn build_args(project: &Project, build: &Build, given: &[String]) -> Vec<(String, String)> {
    let known = |name: &str| project.environment.get(name).cloned();
    let own =
        build.args.0.iter().filter_map(|(name, value)| {
            Some((name.clone(), value.clone().or_else(|| known(name))?))
        });
    let given = given.iter().filter_map(|text| match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.clone(), known(text)?)),
    });
    own.chain(given).collect::<std::collections::BTreeMap<_, _>>().into_iter().collect()
}

/// The platforms that are built for: all with the verb `build`, the one that is run otherwise; none is this machine's.
fn platforms(service: &Service, is_verb: bool) -> Vec<String> {
    let all = service.build.iter().flat_map(|build| &build.platforms).cloned();
    let all: Vec<String> = all.collect();
    // The loader sees to it that the one that is run is among them.
    let run = &service.platform;
    match (is_verb && !all.is_empty(), run.is_empty()) {
        (true, _) => all,
        (false, true) => Vec::new(),
        (false, false) => vec![run.clone()],
    }
}

/// A named context, where another service's image stands for that service.
fn context(project: &Project, place: &str) -> Result<String, Failure> {
    let Some(name) = place.strip_prefix("service:") else { return Ok(place.to_owned()) };
    let services = project.all_services();
    let service = services
        .get(name)
        .ok_or_else(|| Failure::Refused(format!("additional_contexts: no such service: {name}")))?;
    Ok(format!("docker-image://{}", service.image_name(&project.name, name)))
}

/// Adds what builds a service's image under these names; what the command is to read, if that is the Dockerfile.
pub(crate) fn arguments(
    command: &mut Command,
    project: &Project,
    service_name: &str,
    images: &[String],
    args: Option<&BuildArgs>,
) -> Result<Option<String>, Failure> {
    let services = project.all_services();
    let service = services.get(service_name).copied();
    let Some((service, build)) = service.and_then(|it| Some((it, it.build.as_ref()?))) else {
        return Err(Failure::Refused(format!("service {service_name:?} has no build section")));
    };
    let refused = |text: String| Err(Failure::Refused(format!("service {service_name:?}: {text}")));
    if !matches!(build.isolation.as_str(), "" | "default") {
        return refused(
            "build.isolation: there is one kind on Linux, write `default` or nothing".to_owned(),
        );
    }
    let given = args.map_or(&[][..], |args| &args.build_arg);
    command.args(["build", "--progress", "plain"]);
    let mut put = |flag: &str, value: &str| {
        command.args([flag, value]);
    };
    let is_check = args.is_some_and(|args| args.check);
    if !is_check {
        build.tags.iter().chain(images).for_each(|name| put("--tag", name));
    }
    match (build.dockerfile_inline.as_str(), dockerfile(build)) {
        ("", Some(path)) => put("--file", &path),
        ("", None) => {}
        _ => put("--file", "-"),
    }
    for (name, value) in build_args(project, build, given) {
        put("--build-arg", &format!("{name}={value}"));
    }
    for (name, value) in image_labels(project, service_name, build) {
        put("--label", &format!("{name}={value}"));
    }
    for (name, place) in &build.additional_contexts.0 {
        put("--build-context", &format!("{name}={}", context(project, place)?));
    }
    for (id, place) in &build.ssh.0 {
        match place {
            Some(place) => put("--ssh", &format!("{id}={place}")),
            None => put("--ssh", id),
        }
    }
    let stages = &build.no_cache_filter;
    for (flag, all) in [
        ("--cache-from", &build.cache_from),
        ("--cache-to", &build.cache_to),
        ("--no-cache-filter", stages),
        ("--add-host", &build.extra_hosts.lines()),
        ("--allow", &build.entitlements),
        ("--platform", &platforms(service, args.is_some())),
    ] {
        all.iter().for_each(|value| put(flag, value));
    }
    for (name, limit) in &build.ulimits {
        put("--ulimit", &format!("{name}={}:{}", limit.soft, limit.hard));
    }
    for (flag, value) in [
        ("--target", &build.target),
        ("--network", &build.network),
        ("--provenance", &build.provenance),
        ("--sbom", &build.sbom),
    ] {
        if !value.is_empty() {
            put(flag, value);
        }
    }
    if build.shm_size.0 > 0 {
        put("--shm-size", &build.shm_size.0.to_string());
    }
    if build.privileged {
        put("--allow", "security.insecure");
    }
    for secret in &build.secrets {
        let (text, variable) = self::secret(project, secret)?;
        command.args(["--secret", &text]);
        command.envs(variable);
    }
    // A name that nobody gave is for no registry.
    let is_named = images.iter().all(|image| services.values().any(|it| it.image == *image));
    let is_set = |flag: fn(&BuildArgs) -> bool| args.is_some_and(flag);
    for (flag, is_on) in [
        ("--no-cache", build.no_cache || is_set(|args| args.no_cache)),
        ("--pull", build.pull || is_set(|args| args.pull)),
        ("--push", is_set(|args| args.push) && !is_check && is_named),
        ("--check", is_check),
    ] {
        if is_on {
            command.arg(flag);
        }
    }
    if let Some(args) = args {
        for text in &args.ssh {
            command.args(["--ssh", text]);
        }
        for (flag, value) in
            [("--memory", &args.memory), ("--sbom", &args.sbom), ("--provenance", &args.provenance)]
        {
            if let Some(value) = value {
                command.arg(format!("{flag}={value}"));
            }
        }
    }
    command.arg(&build.context);
    Ok(Some(build.dockerfile_inline.clone()).filter(|text| !text.is_empty()))
}

/// A secret as `--secret` says it, and the variable that it is read from if it is none of our own.
fn secret(
    project: &Project,
    mount: &FileMount,
) -> Result<(String, Option<(String, String)>), Failure> {
    let name = &mount.source;
    let refused = |why: &str| Failure::Refused(format!("secret {name:?} of a build: {why}"));
    let secret =
        project.secrets.get(name).ok_or_else(|| refused("the project does not have it"))?;
    if secret.external {
        return Err(refused("there is nothing outside of the project that keeps secrets"));
    }
    let id = if mount.target.is_empty() { name } else { &mount.target };
    if !secret.file.is_empty() {
        return Ok((format!("id={id},src={}", secret.file), None));
    }
    let variable = &secret.environment;
    let value = secret.value.0.clone().or_else(|| project.environment.get(variable).cloned());
    let value = value.ok_or_else(|| refused(&format!("the variable {variable:?} is not set")))?;
    Ok((format!("id={id},env={variable}"), Some((variable.clone(), value))))
}

/// What would be built, as `docker buildx bake` reads it.
fn bake_file(project: &Project, work: &[images::Work], args: &BuildArgs) -> anyhow::Result<Value> {
    let mut targets = Map::new();
    for work in work {
        let Some(name) = work.services.first() else { continue };
        let services = project.all_services();
        let service = services[name.as_str()];
        let Some(build) = &service.build else { bail!("service {name:?} has no build section") };
        let contexts = build.additional_contexts.0.iter();
        let contexts = contexts.map(|(name, place)| match place.strip_prefix("service:") {
            Some(other) => (name, format!("target:{other}")),
            None => (name, place.clone()),
        });
        let mut secrets = Vec::new();
        for mount in &build.secrets {
            secrets.push(secret(project, mount)?.0);
        }
        let is_pushed = args.push && !service.image.is_empty();
        let fields = [
            ("context", json!(build.context)),
            ("contexts", json!(contexts.collect::<std::collections::BTreeMap<_, _>>())),
            ("dockerfile", json!(dockerfile(build).unwrap_or_default())),
            ("dockerfile-inline", json!(build.dockerfile_inline)),
            (
                "args",
                json!(Map::from_iter(
                    build_args(project, build, &args.build_arg)
                        .into_iter()
                        .map(|(name, value)| (name, json!(value)))
                )),
            ),
            ("labels", json!(image_labels(project, name, build))),
            ("tags", json!(build.tags.iter().chain(&work.images).collect::<Vec<_>>())),
            ("cache-from", json!(build.cache_from)),
            ("cache-to", json!(build.cache_to)),
            ("target", json!(build.target)),
            ("secret", json!(secrets)),
            ("ssh", json!(build.ssh)),
            ("platforms", json!(platforms(service, true))),
            ("no-cache", json!(build.no_cache || args.no_cache)),
            ("pull", json!(build.pull || args.pull)),
            ("output", json!([if is_pushed { "type=image,push=true" } else { "type=docker" }])),
        ];
        let is_said = |value: &Value| match value {
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            value => value != &json!(false),
        };
        let fields = fields.into_iter().filter(|(_, value)| is_said(value));
        let fields: Map<String, Value> =
            fields.map(|(key, value)| (key.to_owned(), value)).collect();
        targets.insert(name.clone(), Value::Object(fields));
    }
    let mut names: Vec<&String> = targets.keys().collect();
    names.sort();
    Ok(json!({"group": {"default": {"targets": names}}, "target": targets}))
}

#[cfg(test)]
mod tests {
    use compose::Request;

    use super::*;

    fn project(text: &str) -> Project {
        let request = Request {
            files: vec!["-".to_owned()],
            stdin: Some(format!("name: p\nservices:\n{text}").into_bytes()),
            current_dir: "/here".into(),
            environment: [("KNOWN".to_owned(), "here".to_owned())].into(),
            ..Request::default()
        };
        compose::load::load(&request, &mut Vec::new()).expect("a project")
    }

    fn line(text: &str, args: Option<&BuildArgs>) -> String {
        let project = project(text);
        let mut command = Command::new("rbuild");
        let images = vec!["i".to_owned()];
        let read = arguments(&mut command, &project, "s", &images, args);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let words = words.join(" ");
        let labels = format!(
            " --label com.docker.compose.project=p --label com.docker.compose.service=s \
             --label com.docker.compose.version={}",
            env!("CARGO_PKG_VERSION")
        );
        let words = words.replace("build --progress plain ", "").replace(&labels, "");
        match read {
            Ok(None) => words,
            Ok(Some(text)) => format!("{words} < {text}"),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn each_attribute_of_a_build_has_its_flag() {
        let check = |build: &str, expected: &str| {
            assert_eq!(line(&format!("  s: {{build: {build}}}\n"), None), expected, "{build}");
        };
        check("./a", "--tag i /here/a");
        check("{context: a, dockerfile: D}", "--tag i --file /here/a/D /here/a");
        check("{context: a, dockerfile: /D}", "--tag i --file /D /here/a");
        check("https://h/r.git", "--tag i https://h/r.git");
        check("{context: 'https://h/r.git', dockerfile: D}", "--tag i --file D https://h/r.git");
        check("{dockerfile_inline: FROM a}", "--tag i --file - /here < FROM a");
        check(
            "{args: {A: b, KNOWN: , UNKNOWN: }}",
            "--tag i --build-arg A=b --build-arg KNOWN=here /here",
        );
        check("{tags: [x:1], labels: {l: m}}", "--tag x:1 --tag i --label l=m /here");
        check(
            "{target: t, network: host, pull: true}",
            "--tag i --target t --network host --pull /here",
        );
        check(
            "{no_cache: true, no_cache_filter: [a, b]}",
            "--tag i --no-cache-filter a --no-cache-filter b --no-cache /here",
        );
        check("{cache_from: [a], cache_to: [b]}", "--tag i --cache-from a --cache-to b /here");
        check("{ssh: [default, k=/s]}", "--tag i --ssh default --ssh k=/s /here");
        check("{extra_hosts: ['h:1.2.3.4']}", "--tag i --add-host h=1.2.3.4 /here");
        check(
            "{shm_size: 1kb, ulimits: {nofile: 5}}",
            "--tag i --ulimit nofile=5:5 --shm-size 1024 /here",
        );
        check(
            "{privileged: true, entitlements: [network.host]}",
            "--tag i --allow network.host --allow security.insecure /here",
        );
        check("{provenance: false, sbom: true}", "--tag i --provenance false --sbom true /here");
        check(
            "{isolation: hyperv}",
            "service \"s\": build.isolation: there is one kind on Linux, write `default` or nothing",
        );
    }

    #[test]
    fn another_service_is_its_image() {
        let text =
            "  s: {build: {additional_contexts: {b: 'service:o', d: ./d}}}\n  o: {build: ./o}\n";
        let expected =
            "--tag i --build-context b=docker-image://p-o --build-context d=/here/d /here";
        assert_eq!(line(text, None), expected);
    }

    #[test]
    fn secrets_are_files_or_variables() {
        let text = "  s: {build: {secrets: [f, {source: e, target: t}]}}\nsecrets: {f: {file: ./f}, e: {environment: KNOWN}}\n";
        assert_eq!(
            line(text, None),
            "--tag i --secret id=f,src=/here/f --secret id=t,env=KNOWN /here"
        );
    }

    #[test]
    fn all_platforms_are_built_for_by_the_verb_alone() {
        let text = "  s: {platform: linux/arm64, build: {platforms: [linux/amd64, linux/arm64]}}\n";
        assert_eq!(line(text, None), "--tag i --platform linux/arm64 /here");
        let verb = BuildArgs::default();
        assert_eq!(
            line(text, Some(&verb)),
            "--tag i --platform linux/amd64 --platform linux/arm64 /here"
        );
    }

    #[test]
    fn flags_come_on_top_of_the_file() {
        let args = BuildArgs {
            build_arg: vec!["A=c".to_owned(), "KNOWN".to_owned()],
            no_cache: true,
            push: true,
            ssh: vec!["default".to_owned()],
            memory: Some("1g".to_owned()),
            ..BuildArgs::default()
        };
        let built = "--tag i --build-arg A=c --build-arg KNOWN=here --no-cache";
        let text = "  s: {build: {args: {A: b}}}\n";
        assert_eq!(line(text, Some(&args)), format!("{built} --ssh default --memory=1g /here"));
        let text = "  s: {image: i, build: {args: {A: b}}}\n";
        assert_eq!(
            line(text, Some(&args)),
            format!("{built} --push --ssh default --memory=1g /here")
        );
        let check = BuildArgs { check: true, ..BuildArgs::default() };
        assert_eq!(line(text, Some(&check)), "--build-arg A=b --check /here");
    }
}
