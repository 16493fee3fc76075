//! `--secret` and `--ssh`: what steps may see and nobody keeps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cache::Store;
use engine::ssh_agent::{Agent, AgentSpec};

use crate::files;

/// Docker takes no larger secret either.
const LARGEST: u64 = 500 << 10;

/// Reads secrets: `id=NAME[,src=FILE|,env=VARIABLE]`; without a place, the variable of that name
/// or else the file.
pub(crate) fn read(given: &[String]) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    given.iter().map(|text| read_one(text).with_context(|| format!("--secret {text}"))).collect()
}

fn read_one(text: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value),
            Some(("src" | "source", value)) => file = Some(value),
            Some(("env", value)) => variable = Some(value),
            Some(("type", value @ ("file" | "env"))) => kind = Some(value),
            _ => bail!("unexpected field {field:?}: known are id, src, env and type"),
        }
    }
    let Some(id) = id.filter(|id| !id.is_empty()) else { bail!("id is missing") };
    if kind == Some("env") && variable.is_none() {
        variable = file.take().or(Some(id));
    }
    let from_variable =
        |name: &str| std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec);
    let bytes = match (variable, file) {
        (Some(name), _) => {
            from_variable(name).with_context(|| format!("the variable {name} is not set"))?
        }
        (None, Some(file)) => read_file(&expand_home(file))?,
        (None, None) => match from_variable(id) {
            Some(bytes) => bytes,
            None => read_file(Path::new(id))?,
        },
    };
    Ok((id.to_owned(), bytes))
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = files::read(path, LARGEST)?;
    if bytes.len() as u64 > LARGEST {
        bail!("{} is larger than 500 KiB", path.display());
    }
    Ok(bytes)
}

fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// Opens ssh agents.
pub(crate) fn agents(store: &Store, given: &[String]) -> anyhow::Result<BTreeMap<String, Agent>> {
    let own = std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let open = |text: &String| {
        let spec = AgentSpec::parse(text);
        let agent = Agent::open(&spec, own.as_deref(), &store.scratch_dir()?, &path)
            .with_context(|| format!("--ssh {text}"))?;
        Ok((spec.id.clone(), agent))
    };
    given.iter().map(open).collect()
}
