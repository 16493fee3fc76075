//! The program `git`, started so that nothing but its arguments and an [`Access`] decides what it does.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};

use super::GitRequest;
use crate::source::url::{Parts, redact_credentials};
use crate::source::{Access, Error, base64};

/// Settings that hold for every command.
const SETTINGS: &[(&str, &str)] = &[
    ("advice.detachedHead", "false"),
    ("checkout.workers", "0"),
    ("core.autocrlf", "false"),
    ("core.fsmonitor", "false"),
    ("core.hooksPath", "/dev/null"),
    ("credential.helper", ""),
    ("fetch.recurseSubmodules", "false"),
    ("gc.auto", "0"),
    // A stalled transfer ends after a minute.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "60"),
    ("init.defaultBranch", "master"),
    ("maintenance.auto", "false"),
];

/// Runs git for one request.
pub(super) struct Git<'a> {
    pub(super) request: &'a GitRequest,
    access: &'a Access<'a>,
    settings: Vec<(String, String)>,
}

/// Where a command works.
#[derive(Clone, Copy, Default)]
pub(super) struct Place<'a> {
    /// The working directory, in whose `.git` the repository is unless the next field names it.
    pub(super) directory: Option<&'a Path>,
    /// A bare repository.
    pub(super) repository: Option<&'a Path>,
    /// The tree to write, and the file for the index of it.
    pub(super) tree: Option<(&'a Path, &'a Path)>,
    /// Whether to fetch from a path on this machine instead of the network.
    pub(super) local: bool,
}

impl<'a> Git<'a> {
    pub(super) fn new(request: &'a GitRequest, access: &'a Access<'a>) -> Self {
        let fixed = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings: Vec<_> = fixed.collect();
        if let Some(header) = authorization(&request.remote, access) {
            let name = format!("http.{}.extraHeader", token_scope(&request.remote));
            settings.push((name, format!("Authorization: {header}")));
        }
        Self { request, access, settings }
    }

    /// Runs a command that needs no repository, and returns what it printed.
    pub(super) fn run(&self, step: &'static str, args: &[&str]) -> Result<String, Error> {
        self.run_at(Place::default(), step, args)
    }

    /// Runs a command and returns what it printed. `step` says what fails when it fails.
    pub(super) fn run_at(
        &self,
        place: Place<'_>,
        step: &'static str,
        args: &[impl AsRef<OsStr>],
    ) -> Result<String, Error> {
        let mut command = Command::new("git");
        command.args(args).stdin(Stdio::null()).env_clear().envs(self.environment(place));
        if let Some(directory) = place.directory {
            command.current_dir(directory);
        }
        let output = command.output().map_err(|source| Error::StartGit { source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let remote = redact_credentials(&self.request.remote);
        let stderr = String::from_utf8_lossy(&output.stderr).replace(&self.request.remote, &remote);
        let lines: Vec<_> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let reference = self.request.reference.clone().unwrap_or_default();
        Err(Error::Git { step, remote, reference, stderr: lines.join("; ") })
    }

    fn environment(&self, place: Place<'_>) -> Vec<(OsString, OsString)> {
        let mut variables: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: &OsStr| variables.push((name.into(), value.into()));
        set("PATH", &self.access.program_path);
        set("LC_ALL", "C".as_ref());
        set("HOME", "/dev/null".as_ref());
        set("GIT_ATTR_NOSYSTEM", "1".as_ref());
        set("GIT_CONFIG_NOSYSTEM", "1".as_ref());
        set("GIT_CONFIG_GLOBAL", "/dev/null".as_ref());
        set("GIT_TERMINAL_PROMPT", "0".as_ref());
        let protocols = if place.local { "file" } else { "http:https:git:ssh" };
        set("GIT_ALLOW_PROTOCOL", protocols.as_ref());
        set("GIT_SSH_COMMAND", &ssh_command(self.access.known_hosts.as_deref()));
        if let Some(socket) = &self.access.ssh_auth_sock {
            set("SSH_AUTH_SOCK", socket.as_ref());
        }
        for (name, value) in self.access.proxy.variables() {
            set(name, value.as_ref());
        }
        // Settings travel in the environment, which other users cannot read as they can arguments.
        set("GIT_CONFIG_COUNT", self.settings.len().to_string().as_ref());
        for (index, (name, value)) in self.settings.iter().enumerate() {
            set(&format!("GIT_CONFIG_KEY_{index}"), name.as_ref());
            set(&format!("GIT_CONFIG_VALUE_{index}"), value.as_ref());
        }
        if let Some(repository) = place.repository {
            set("GIT_DIR", repository.as_ref());
        }
        if let Some((tree, index)) = place.tree {
            set("GIT_WORK_TREE", tree.as_ref());
            set("GIT_INDEX_FILE", index.as_ref());
        }
        variables
    }
}

/// Returns the `Authorization` header for a remote, from the most specific secret there is.
fn authorization(remote: &str, access: &Access<'_>) -> Option<String> {
    let parts = Parts::parse(remote).filter(|parts| parts.scheme.starts_with("http"))?;
    let host = parts.authority;
    let of_token = |id: &str| {
        let token = access.secret_text(id)?;
        Some(format!("basic {}", base64::encode(format!("x-access-token:{token}").as_bytes())))
    };
    access
        .secret_text(&format!("GIT_AUTH_HEADER.{host}"))
        .or_else(|| of_token(&format!("GIT_AUTH_TOKEN.{host}")))
        .or_else(|| access.secret_text("GIT_AUTH_HEADER"))
        .or_else(|| of_token("GIT_AUTH_TOKEN"))
}

/// Returns the URLs a token is good for: the remote, or all of GitHub, for submodules from there.
fn token_scope(remote: &str) -> &str {
    let github = ["https://github.com/", "https://www.github.com/"];
    github.into_iter().find(|prefix| remote.starts_with(prefix)).unwrap_or(remote)
}

/// Returns how git is to call ssh: never asking, never with the user's configuration.
fn ssh_command(known_hosts: Option<&Path>) -> OsString {
    let mut command = OsString::from("ssh -F /dev/null -o BatchMode=yes");
    match known_hosts {
        Some(path) => {
            command.push(" -o StrictHostKeyChecking=yes -o UserKnownHostsFile='");
            command.push(path.to_string_lossy().replace('\'', "'\\''"));
            command.push("'");
        }
        None => command.push(" -o StrictHostKeyChecking=accept-new"),
    }
    command
}
