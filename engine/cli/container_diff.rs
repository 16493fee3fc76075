//! `diff` of a container: what it has changed in its image's files.

use std::io::Write;
use std::process::ExitCode;

use engine::containers::{Containers, diff};

use crate::paths::Home;
use crate::ui;

/// Prints what a container has changed.
pub(crate) fn diff(home: &Home, name: &str) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let id = containers.find(name)?;
    let mut text = Vec::new();
    for change in diff::diff(&containers, &id)? {
        write!(text, "{} ", change.kind)?;
        text.extend(change.path);
        text.push(b'\n');
    }
    ui::raw(&text);
    Ok(ExitCode::SUCCESS)
}
