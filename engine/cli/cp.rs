//! `cp`: files into a container and out of it.

use std::io::{self, Write};
use std::path::{Path as HostPath, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use cache::compress::decompress;
use clap::Args;
use engine::containers::copy::{Copied, Links, Owner, Path, Tree};
use engine::containers::files::{Access, Files};
use engine::containers::{Containers, Record};
use engine::units::human_size_with;
use engine::view::View;

use crate::paths::{self, Home};
use crate::ui;

/// What `cp` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct CpArgs {
    /// Give what is copied into a container to the user it runs as
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link points to, not the link
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Do not say what was copied
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, a path here, or - for a tar on standard input
    source: String,
    /// CONTAINER:PATH, a path here, or - for a tar on standard output
    destination: String,
}

/// Copies.
pub(crate) fn cp(home: &Home, args: &CpArgs) -> anyhow::Result<ExitCode> {
    if args.source.is_empty() {
        bail!("source can not be empty");
    }
    if args.destination.is_empty() {
        bail!("destination can not be empty");
    }
    let (from, to) = (split(&args.source), split(&args.destination));
    let (name, access) = match (from.0, to.0) {
        (Some(_), Some(_)) => bail!("copying between containers is not supported"),
        (None, None) => bail!("must specify at least one container source"),
        (Some(name), None) => (name, Access::Read),
        (None, Some(name)) => (name, Access::Write),
    };
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let id = containers.find(name)?;
    let files = Files::open(&containers, &id, access)?;
    let work = Work {
        container: Tree::of_container(&files, name),
        record: containers.record(&id)?,
        files: &files,
        args,
    };
    let copied = match access {
        Access::Read => work.copy_out(from.1, to.1)?,
        Access::Write => work.copy_in(from.1, to.1)?,
    };
    if let Some(copied) = copied
        && !args.quiet
        && ui::stdout_is_terminal()
    {
        ui::note(summary(&copied, &shown(&args.destination)?));
    }
    Ok(ExitCode::SUCCESS)
}

struct Work<'a> {
    container: Tree<'a>,
    files: &'a Files,
    record: Record,
    args: &'a CpArgs,
}

impl Work<'_> {
    fn copy_out(&self, from: &str, to: &str) -> anyhow::Result<Option<Copied>> {
        let from = Path::in_container(from.as_bytes());
        if to == "-" {
            let mut out = io::stdout().lock();
            self.container.write(&from, self.links(), &mut out)?;
            out.flush()?;
            return Ok(None);
        }
        let own =
            Owner::Is(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let root = View::open(HostPath::new("/"))?;
        let host = Tree::of_host(&root);
        let copied = self.container.copy(&from, self.links(), &host, &on_host(to)?, own)?;
        Ok(Some(copied))
    }

    fn copy_in(&self, from: &str, to: &str) -> anyhow::Result<Option<Copied>> {
        let to = Path::in_container(to.as_bytes());
        if from == "-" {
            let (plain, _) = decompress(Box::new(io::stdin())).context("read standard input")?;
            self.container.read(&to, self.owner()?, plain)?;
            return Ok(None);
        }
        let root = View::open(HostPath::new("/"))?;
        let host = Tree::of_host(&root);
        let copied =
            host.copy(&on_host(from)?, self.links(), &self.container, &to, self.owner()?)?;
        Ok(Some(copied))
    }

    fn links(&self) -> Links {
        if self.args.follow_link { Links::Followed } else { Links::Kept }
    }

    /// Docker leaves the owners be, unless it is asked for the container's user and there is one.
    fn owner(&self) -> anyhow::Result<Owner> {
        let user = &self.record.config.user;
        if !self.args.archive || user.is_empty() {
            return Ok(Owner::Kept);
        }
        let read = |path: &str| -> io::Result<String> {
            let bytes = self.files.view().read(path)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let (uid, gid) = engine::owner::look_up(user, &read("etc/passwd")?, &read("etc/group")?)?;
        Ok(Owner::Is(uid, gid))
    }
}

/// Splits `CONTAINER:PATH`. What begins with a slash or a dot is a path here.
fn split(argument: &str) -> (Option<&str>, &str) {
    match argument.split_once(':') {
        Some((name, path)) if !argument.starts_with(['/', '.']) => (Some(name), path),
        _ => (None, argument),
    }
}

fn on_host(path: &str) -> anyhow::Result<Path> {
    let current = paths::current_dir()?;
    Ok(Path::on_host(&current, HostPath::new(path)))
}

/// The destination as docker names it: a path here in full.
fn shown(destination: &str) -> anyhow::Result<String> {
    Ok(match split(destination) {
        (Some(_), _) => destination.to_owned(),
        (None, path) => {
            let path: PathBuf = std::path::absolute(path)?;
            path.display().to_string()
        }
    })
}

fn summary(copied: &Copied, to: &str) -> String {
    let size = |bytes: u64| human_size_with(bytes as f64, 3);
    let (content, transferred) = (size(copied.content), size(copied.transferred));
    format!("Successfully copied {content} (transferred {transferred}) to {to}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_names_a_container_unless_the_path_says_otherwise() {
        for (argument, expected) in [
            ("web:/etc", (Some("web"), "/etc")),
            ("web:", (Some("web"), "")),
            ("web:a:b", (Some("web"), "a:b")),
            ("/a:b", (None, "/a:b")),
            ("./a:b", (None, "./a:b")),
            ("../a:b", (None, "../a:b")),
            ("file", (None, "file")),
            ("-", (None, "-")),
        ] {
            assert_eq!(split(argument), expected, "{argument}");
        }
    }

    #[test]
    fn what_was_copied_is_said_as_docker_does() {
        let copied = Copied { content: 3, transferred: 2048 };
        let expected = "Successfully copied 3B (transferred 2.05kB) to c:/tmp/x";
        assert_eq!(summary(&copied, "c:/tmp/x"), expected);
    }
}
