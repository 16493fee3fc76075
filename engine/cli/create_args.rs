//! The flags of `run` and `create`, and the container that they ask for.

mod health;
mod network;
mod resources;
mod security;
mod switches;

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use cache::oci::{Empty, StringMap};
use clap::Args;
use engine::containers::create::Request;
use engine::containers::record::{Config, HostConfig, LogConfig, RestartPolicy};
use engine::volume::{bind, mount, tmpfs};
use fs_err as fs;

use self::health::HealthArgs;
use self::network::NetworkArgs;
use self::resources::FixedResourceArgs;
pub(crate) use self::resources::ResourceArgs;
use self::security::SecurityArgs;
pub(crate) use self::switches::valued;
use crate::error::InvalidArgument;

/// What `run` and `create` are told of a container.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CreateArgs {
    /// Attach to stdin, stdout or stderr
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Remove the container, and its volumes without a name, when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// The container's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: String,
    /// Print no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The platform of the image
    #[arg(long, env = "DOCKER_DEFAULT_PLATFORM", value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Set a variable, or take it over from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// The directory the command starts in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The user the command runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Groups beyond the user's own
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// The program to run instead of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// The container's host name
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// The container's domain name
    #[arg(long)]
    domainname: Option<String>,
    /// Say something about the container
    #[arg(short, long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Kept for docker's sake
    #[arg(long, value_name = "NAME=VALUE", hide = true)]
    annotation: Vec<String>,
    /// What to do when it ends: no, `on-failure[:times]`, always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: String,
    /// Let a small init be the first process
    #[arg(long)]
    init: bool,
    /// What asks the program to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds until it is killed then
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    stop_timeout: Option<i64>,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    resources: ResourceArgs,
    #[command(flatten)]
    fixed: FixedResourceArgs,
    #[command(flatten)]
    security: SecurityArgs,
    #[command(flatten)]
    health: HealthArgs,
    /// How output is kept: json-file, local or none
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// max-size, max-file
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
}

/// What is mounted.
#[derive(Args, Clone, Debug, Default)]
struct StorageArgs {
    /// Mount a volume or a directory of the host
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// The same in another form: type=bind|volume|tmpfs|image,src=...,dst=...
    #[arg(long, value_name = "KEY=VALUE,...")]
    mount: Vec<String>,
    /// Mount a file system in memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Mount what another container has
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,
    /// The driver of volumes
    #[arg(long, value_name = "DRIVER")]
    volume_driver: Option<String>,
    /// Mount the root file system read-only
    #[arg(long)]
    read_only: bool,
}

impl CreateArgs {
    /// The container that is asked for.
    pub(crate) fn request(&self, image: &str, command: &[String]) -> anyhow::Result<Request> {
        let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let mut config = self.config(image, command)?;
        let mut host = HostConfig {
            container_id_file: self
                .cidfile
                .as_ref()
                .map(|it| it.display().to_string())
                .unwrap_or_default(),
            log_config: self.log_config()?,
            restart_policy: restart_policy(&self.restart)?,
            auto_remove: self.rm,
            group_add: self.group_add.clone(),
            init: self.init.then_some(true),
            ..HostConfig::default()
        };
        self.storage.apply(&mut config, &mut host, &directory)?;
        self.fixed.apply(&mut host)?;
        self.resources.apply(&mut host)?;
        self.security.apply(&mut host)?;
        let networks = self.network.apply(&mut config, &mut host)?;
        config.healthcheck = self.health.healthcheck()?;
        let name = self.name.clone().unwrap_or_default();
        // A slash alone is a name like any other, and no valid one.
        let name = name.strip_prefix('/').filter(|name| !name.is_empty()).unwrap_or(&name);
        let name = name.to_owned();
        Ok(Request { name, config, host_config: host, networks })
    }

    fn log_config(&self) -> anyhow::Result<LogConfig> {
        let kind = self.log_driver.clone().unwrap_or_else(|| "json-file".to_owned());
        if kind == "none" && !self.log_opt.is_empty() {
            bail!("invalid logging opts for driver {kind}");
        }
        Ok(LogConfig { kind, config: pairs(&self.log_opt, "--log-opt")? })
    }

    fn config(&self, image: &str, command: &[String]) -> anyhow::Result<Config> {
        let mut env = Vec::new();
        for file in &self.env_file {
            read_variables(file, &mut env)?;
        }
        for given in &self.env {
            variable(given, &mut env)?;
            // A name alone that stands for nothing here keeps the image's variable out.
            if !given.contains('=') && std::env::var_os(given).is_none() {
                env.push(given.clone());
            }
        }
        let mut labels = StringMap::new();
        for file in &self.label_file {
            let lines = fs::read_to_string(file)?;
            let lines = lines.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            labels.extend(pairs(lines, "--label-file")?);
        }
        labels.extend(pairs(&self.label, "--label")?);
        Ok(Config {
            hostname: self.hostname.clone().unwrap_or_default(),
            domainname: self.domainname.clone().unwrap_or_default(),
            user: self.user.clone().unwrap_or_default(),
            tty: self.tty,
            open_stdin: self.interactive,
            env,
            cmd: (!command.is_empty()).then(|| command.to_vec()),
            image: image.to_owned(),
            working_dir: self.workdir.clone().unwrap_or_default(),
            entrypoint: self.entrypoint.clone().map(|program| vec![program]),
            labels,
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
            ..Config::default()
        })
    }
}

impl StorageArgs {
    fn apply(&self, config: &mut Config, host: &mut HostConfig, dir: &Path) -> anyhow::Result<()> {
        for text in &self.volume {
            match bind::typed(text, dir)? {
                bind::Typed::Bind(bind) => host.binds.push(bind),
                bind::Typed::Anonymous(path) => {
                    config.volumes.get_or_insert_default().insert(path, Empty {});
                }
            }
        }
        for text in &self.mount {
            host.mounts.push(mount::parse(text, dir)?);
        }
        host.tmpfs = self.tmpfs.iter().map(|text| tmpfs::typed(text)).collect();
        host.volumes_from.clone_from(&self.volumes_from);
        host.volume_driver = self.volume_driver.clone().unwrap_or_default();
        host.readonly_rootfs = self.read_only;
        Ok(())
    }
}

/// `--restart`.
pub(crate) fn restart_policy(text: &str) -> anyhow::Result<RestartPolicy> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    let maximum_retry_count = match count {
        "" => 0,
        count => count.parse().ok().context("maximum retry count must be an integer")?,
    };
    let policy = RestartPolicy { name: name.to_owned(), maximum_retry_count };
    engine::containers::create::check_restart(&policy)?;
    Ok(policy)
}

/// `NAME=VALUE` or, for a variable of ours, `NAME`.
pub(crate) fn variable(given: &str, env: &mut Vec<String>) -> anyhow::Result<()> {
    if given.is_empty() || given.starts_with('=') {
        let invalid = InvalidArgument { flag: "-e, --env", value: given.to_owned() };
        return Err(anyhow!("invalid environment variable: {given}").context(invalid));
    }
    if given.contains('=') {
        env.push(given.to_owned());
    } else if let Ok(value) = std::env::var(given) {
        env.push(format!("{given}={value}"));
    }
    Ok(())
}

/// Reads `--env-file`: a variable a line, `#` for comments.
pub(crate) fn read_variables(file: &Path, env: &mut Vec<String>) -> anyhow::Result<()> {
    let text = fs::read(file)?;
    let Ok(text) = String::from_utf8(text) else {
        bail!("env file {} contains invalid utf8 bytes", file.display());
    };
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            bail!(
                "invalid environment file ({}): no variable name on line '{line}'",
                file.display()
            );
        }
        if name.contains([' ', '\t']) {
            bail!(
                "invalid environment file ({}): variable '{name}' contains whitespaces",
                file.display()
            );
        }
        variable(line, env)?;
    }
    Ok(())
}

/// `NAME=VALUE` pairs; without a value it is empty.
fn pairs<T: AsRef<str>>(
    given: impl IntoIterator<Item = T>,
    flag: &str,
) -> anyhow::Result<StringMap> {
    let pair = |text: T| match text.as_ref().split_once('=').unwrap_or((text.as_ref(), "")) {
        ("", _) => bail!("{flag} {}: expected NAME=VALUE", text.as_ref()),
        (name, value) => Ok((name.to_owned(), value.to_owned())),
    };
    given.into_iter().map(pair).collect()
}
