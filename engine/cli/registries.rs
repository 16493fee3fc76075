//! What a person has said of registries, from where people say it: files, and variables.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use engine::credentials::CredentialStore;
use engine::registry::{Rules, Settings};
use engine::source::Proxy;

/// All that is known of registries.
pub(crate) fn settings() -> anyhow::Result<Settings> {
    let own = config_dir();
    let rules = match std::env::var_os("RBUILD_REGISTRIES").filter(|path| !path.is_empty()) {
        Some(path) => vec![PathBuf::from(path)],
        None => ["/etc/rbuild".into(), own.clone()]
            .map(|dir: PathBuf| dir.join("registries.json"))
            .to_vec(),
    };
    let mut settings = Settings {
        rules: Rules::read(&rules)?,
        certs: vec![
            own.join("certs.d"),
            "/etc/rbuild/certs.d".into(),
            "/etc/docker/certs.d".into(),
            "/etc/containers/certs.d".into(),
        ],
        credentials: Some(credentials()),
        proxy: proxy(),
        ..Settings::default()
    };
    if let Some(text) = variable("RBUILD_REGISTRY_TIMEOUT") {
        let seconds = text.parse().with_context(|| {
            format!("invalid RBUILD_REGISTRY_TIMEOUT {text:?}: write a number of seconds")
        })?;
        settings.patience = Duration::from_secs(seconds);
    }
    Ok(settings)
}

/// Where docker keeps names and passwords, and so do we.
pub(crate) fn credentials() -> CredentialStore {
    let dir = match std::env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => home().join(".docker"),
    };
    CredentialStore::new(&dir.join("config.json"))
}

/// The way out that the environment says.
pub(crate) fn proxy() -> Proxy {
    let either = |name: &str| variable(&name.to_lowercase()).or_else(|| variable(name));
    Proxy {
        http: either("HTTP_PROXY"),
        https: either("HTTPS_PROXY"),
        all: either("ALL_PROXY"),
        no_proxy: either("NO_PROXY"),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn config_dir() -> PathBuf {
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty());
    config.map_or_else(|| home().join(".config"), PathBuf::from).join("rbuild")
}

fn home() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap_or_default())
}
