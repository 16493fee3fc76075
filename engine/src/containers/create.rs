//! From an image and what was typed to a record.

use cache::digest::Digest;
use cache::image::Image;
use cache::oci::{Empty, Healthcheck, Set};

use super::record::{Config, EndpointSettings, HostConfig, Record, RestartPolicy};
use super::removal::remove_anonymous_volumes;
use super::{Containers, Error, Result, log};
use crate::view::View;
use crate::volume::api::Kind;
use crate::volume::{self, Resolved, Volumes, bind};

/// A container to be made: what was typed, without what the image says.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Its name; empty is one that nobody has.
    pub name: String,
    /// What its program is told.
    pub config: Config,
    /// What the machine gives it.
    pub host_config: HostConfig,
    /// Its networks beside the one of `network_mode`, and what it wants of that.
    pub networks: std::collections::BTreeMap<String, EndpointSettings>,
}

/// Makes a container of an image; it can be started then.
pub fn create(containers: &Containers<'_>, image: &Image, mut request: Request) -> Result<Record> {
    check_variables(&request.config.env)?;
    merge(&mut request.config, image);
    let made_of = Record {
        image: image.id().to_string(),
        manifest: Some(image.digest),
        layers: image.config.rootfs.diff_ids.clone(),
        ..Record::default()
    };
    make(containers, made_of, request)
}

/// Makes a container of layers that are no image; it can be started then.
pub fn create_over(
    containers: &Containers<'_>,
    layers: &[Digest],
    request: Request,
) -> Result<Record> {
    make(containers, Record { layers: layers.to_vec(), ..Record::default() }, request)
}

fn make(containers: &Containers<'_>, made_of: Record, request: Request) -> Result<Record> {
    let Request { name, mut config, mut host_config, mut networks } = request;
    check(&config, &host_config)?;
    complete(&mut host_config);
    share_name(containers, &mut config, &host_config)?;
    for link in &host_config.links {
        containers.find(link.split(':').next().unwrap_or_default())?;
    }
    let mode = host_config.network_mode.as_str();
    if !matches!(mode, "none" | "host") && !mode.starts_with("container:") {
        networks.entry(mode.to_owned()).or_default();
    }
    let mounts = resolve(containers, &config, &host_config)?;
    let mut draft = Record { name, config, host_config, networks, mounts, ..made_of };
    let unnamed =
        |mount: &Resolved| mount.point.kind == Kind::Volume && mount.point.name.is_empty();
    let own: Vec<bool> = draft.mounts.iter().map(unnamed).collect();
    keep(containers, &mut draft).inspect_err(|_| {
        let mounts = draft.mounts.iter().zip(own).filter_map(|(mount, own)| own.then_some(mount));
        // The first error is the one to tell.
        let _ = remove_anonymous_volumes(containers, mounts);
    })
}

/// Makes the volumes of a container and puts it on record.
fn keep(containers: &Containers<'_>, draft: &mut Record) -> Result<Record> {
    let volumes = Volumes::open(containers.store)?;
    let hold = volumes.hold()?;
    volumes.provide(&hold, &mut draft.mounts)?;
    volumes.mount(&draft.mounts)?;
    volumes.fill_all(&draft.mounts, || {
        let lower = containers.store.lower(&draft.layers).map_err(std::io::Error::other)?;
        View::overlay(&lower)?.root().try_clone_to_owned()
    })?;
    draft.created = super::state::now();
    let record = containers.add(draft.clone())?;
    for mount in draft.mounts.iter().filter(|mount| mount.point.kind == Kind::Volume) {
        // Otherwise whoever sweeps sees that it has a container.
        let _ = volumes.claim(&hold, &mount.point.name);
    }
    containers.tell(&record, "create", &[]);
    Ok(record)
}

/// Writes down what was not typed and docker shows: who sees the host's processes has no label, and
/// limits are in order, the last of each.
fn complete(host: &mut HostConfig) {
    let is_label = |option: &String| option.split('=').next() == Some("label");
    let open = host.privileged || host.ipc_mode == "host" || host.pid_mode == "host";
    if open && !host.security_opt.iter().any(is_label) {
        host.security_opt.push("label=disable".to_owned());
    }
    let limits = host.ulimits.drain(..).map(|limit| (limit.name.clone(), limit));
    let limits: std::collections::BTreeMap<_, _> = limits.collect();
    host.ulimits = limits.into_values().collect();
}

/// Who shares another container's network is called as that one is, and asks and knows what it does.
fn share_name(containers: &Containers<'_>, config: &mut Config, host: &HostConfig) -> Result<()> {
    let Some(name) = host.network_mode.strip_prefix("container:") else { return Ok(()) };
    for (given, what) in [
        (!config.hostname.is_empty() && host.uts_mode != "host", "hostname"),
        (!host.dns.is_empty(), "dns"),
        (!host.extra_hosts.is_empty(), "custom host-to-IP mapping"),
        (!host.links.is_empty(), "links"),
    ] {
        if given {
            return Err(Error::Refused(format!(
                "conflicting options: {what} and the network mode"
            )));
        }
    }
    let other = containers.record(&containers.find(name)?)?.config;
    if host.uts_mode != "host" {
        (config.hostname, config.domainname) = (other.hostname, other.domainname);
    }
    Ok(())
}

/// The mounts of a container, by what was typed, its image and other containers.
fn resolve(
    containers: &Containers<'_>,
    config: &Config,
    host: &HostConfig,
) -> Result<Vec<Resolved>> {
    let mut from = Vec::new();
    for text in &host.volumes_from {
        let asked = bind::volumes_from(text)?;
        let other = containers.record(&containers.find(&asked.container)?)?;
        from.push((other.mounts, asked.read_only));
    }
    let anonymous: Vec<String> =
        config.volumes.iter().flatten().map(|(path, _)| path.clone()).collect();
    Ok(volume::resolve(volume::Request {
        volumes: &anonymous,
        volumes_from: &from,
        binds: &host.binds,
        mounts: &host.mounts,
        tmpfs: &host.tmpfs,
        volume_driver: &host.volume_driver,
    })?)
}

/// Takes from the image what was not typed, as docker does.
fn merge(config: &mut Config, image: &Image) {
    let from = &image.config.config;
    let text = |own: &mut String, other: &String| {
        if own.is_empty() {
            own.clone_from(other);
        }
    };
    text(&mut config.user, &from.user);
    text(&mut config.working_dir, &from.working_dir);
    for port in from.exposed_ports.keys() {
        config.exposed_ports.insert(port.clone(), Empty {});
    }
    for pair in &from.env {
        let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
        if !config.env.iter().any(|own| name(own) == name(pair)) {
            config.env.push(pair.clone());
        }
    }
    for (name, value) in &from.labels {
        config.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&from.cmd);
        }
        // One without words takes the image's away, and leaves the image's command.
        config.entrypoint = config.entrypoint.take().or_else(|| from.entrypoint.clone());
    }
    // `--entrypoint ""` takes the image's away.
    config.entrypoint =
        config.entrypoint.take().filter(|words| words.iter().any(|it| !it.is_empty()));
    let mut volumes: Set = config.volumes.take().unwrap_or_default();
    volumes.extend(from.volumes.iter().map(|(path, empty)| (path.clone(), *empty)));
    config.volumes = (!volumes.is_empty()).then_some(volumes);
    if config.stop_signal.is_none() {
        config.stop_signal = Some(from.stop_signal.clone()).filter(|signal| !signal.is_empty());
    }
    config.shell = config.shell.take().or_else(|| from.shell.clone());
    if let Some(theirs) = &from.healthcheck {
        config.healthcheck = Some(match config.healthcheck.take() {
            None => theirs.clone(),
            Some(own) => merge_health(own, theirs),
        });
    }
}

fn merge_health(own: Healthcheck, theirs: &Healthcheck) -> Healthcheck {
    let number = |own: i64, theirs: i64| if own == 0 { theirs } else { own };
    Healthcheck {
        test: if own.test.is_empty() { theirs.test.clone() } else { own.test },
        interval: number(own.interval, theirs.interval),
        timeout: number(own.timeout, theirs.timeout),
        start_period: number(own.start_period, theirs.start_period),
        start_interval: number(own.start_interval, theirs.start_interval),
        retries: number(own.retries, theirs.retries),
    }
}

fn check(config: &Config, host: &HostConfig) -> Result<()> {
    let refuse = |text: &str| Err(Error::Refused(text.to_owned()));
    if config.entrypoint.is_none() && config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return refuse("no command specified");
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::Refused(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if !matches!(host.runtime.as_str(), "" | "runc" | "io.containerd.runc.v2") {
        let name = &host.runtime;
        return Err(Error::Refused(format!("unknown or invalid runtime name: {name}")));
    }
    check_restart(&host.restart_policy)?;
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return refuse("can't create 'AutoRemove' container with restart policy");
    }
    if let Some(signal) = &config.stop_signal
        && super::signal::number(signal).is_none()
    {
        return Err(Error::Refused(format!("Invalid signal: {signal}")));
    }
    if let Some(health) = &config.healthcheck {
        check_health(health)?;
    }
    log::Plan::parse(&host.log_config).map(drop)?;
    super::assemble::check(host)
}

/// Refuses values that are no variable's.
fn check_variables(env: &[String]) -> Result<()> {
    match env.iter().find(|pair| pair.is_empty() || pair.starts_with('=')) {
        Some(pair) => Err(Error::Refused(format!("invalid environment variable: {pair}"))),
        None => Ok(()),
    }
}

/// Refuses a probe that would never rest.
fn check_health(health: &Healthcheck) -> Result<()> {
    const MILLISECOND: i64 = 1_000_000;
    for (name, value) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ] {
        if value != 0 && value < MILLISECOND {
            return Err(Error::Refused(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    Ok(())
}

/// Refuses a restart policy that there is not.
pub fn check_restart(policy: &RestartPolicy) -> Result<()> {
    match policy.name.as_str() {
        "" | "no" | "always" | "unless-stopped" if policy.maximum_retry_count > 0 => {
            Err(Error::Refused(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'"
                    .to_owned(),
            ))
        }
        "" | "no" | "always" | "unless-stopped" | "on-failure" => Ok(()),
        other => Err(Error::Refused(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', \
             'on-failure', or 'unless-stopped'"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache::digest::Digest;
    use cache::oci::{ImageConfig, Manifest, RunConfig};

    fn words(text: &str) -> Option<Vec<String>> {
        Some(text.split_whitespace().map(str::to_owned).collect())
    }

    fn image(config: RunConfig) -> Image {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": {
                "mediaType": "x", "size": 0, "digest": Digest::of("").to_string(),
            },
            "layers": [],
        });
        let manifest: Manifest = serde_json::from_value(manifest).expect("a manifest");
        let config = ImageConfig { config, ..ImageConfig::default() };
        Image { digest: Digest::of(""), manifest, config }
    }

    #[test]
    fn what_was_typed_wins_over_the_image() {
        let image = image(RunConfig {
            entrypoint: words("entry"),
            cmd: words("a b"),
            env: vec!["A=image".into(), "B=image".into()],
            user: "www".into(),
            stop_signal: "SIGQUIT".into(),
            ..RunConfig::default()
        });
        let check = |own: Config, expected: &[&str]| {
            let mut config = own;
            merge(&mut config, &image);
            let record = Record { config, ..Record::default() };
            assert_eq!(record.argv(), expected);
            record.config
        };
        let config = check(Config::default(), &["entry", "a", "b"]);
        assert_eq!((config.user.as_str(), config.stop_signal.as_deref()), ("www", Some("SIGQUIT")));
        check(Config { cmd: words("c"), ..Config::default() }, &["entry", "c"]);
        check(Config { entrypoint: words("sh"), ..Config::default() }, &["sh"]);
        check(Config { entrypoint: words(""), ..Config::default() }, &["a", "b"]);
        check(
            Config { entrypoint: Some(vec![String::new()]), cmd: words("x"), ..Config::default() },
            &["x"],
        );
        let env = vec!["C=1".to_owned(), "A=typed".to_owned()];
        let config = check(Config { env, ..Config::default() }, &["entry", "a", "b"]);
        assert_eq!(config.env, ["C=1", "A=typed", "B=image"]);
    }
}
