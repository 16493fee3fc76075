//! An image made of a container: its image's layers, what it has changed as one more, and its
//! settings.
//!
//! What the container has mounted never enters it. Does not know what a Dockerfile's instruction
//! is: who commits changes the configuration before.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;

use cache::digest::Digest;
use cache::layer::pack::pack_upper;
use cache::layer::writer::Append;
use cache::layer::{self, Entry};
use cache::oci::{History, ImageConfig, RunConfig};
use fs_err as fs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::diff::scaffold;
use super::protocol::Request;
use super::{Client, Containers, Error, Record, Result, Status, files};
use crate::signals::Signals;
use crate::view::View;

/// What is said of an image that is made of a container, and how it is made.
#[derive(Debug, Default)]
pub struct Options {
    /// Who made it.
    pub author: String,
    /// What is said in its history.
    pub message: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Whether the container goes on meanwhile.
    pub no_pause: bool,
    /// Signals that end this early; blocked, lest they leave the container paused.
    pub signals: Option<Signals>,
}

/// The configuration of an image made of a container, without its changes.
pub fn configuration(containers: &Containers<'_>, record: &Record) -> Result<ImageConfig> {
    let store = containers.store;
    let parent = match &record.manifest {
        Some(digest) => match store.read_image(digest) {
            Ok(image) => Some(image.config),
            // It may be removed while its containers keep its layers.
            Err(cache::Error::Missing { .. }) => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let mut config = parent.unwrap_or_else(|| orphan(record));
    let own = record.config.clone();
    config.config = RunConfig {
        user: own.user,
        exposed_ports: own.exposed_ports,
        env: own.env,
        entrypoint: own.entrypoint,
        cmd: own.cmd,
        healthcheck: own.healthcheck,
        volumes: own.volumes.unwrap_or_default(),
        working_dir: own.working_dir,
        on_build: own.on_build.unwrap_or_default(),
        labels: own.labels,
        stop_signal: own.stop_signal.unwrap_or_default(),
        shell: own.shell,
        ..config.config
    };
    Ok(config)
}

/// What is known of an image that is gone: its layers.
fn orphan(record: &Record) -> ImageConfig {
    let mut config = ImageConfig {
        architecture: architecture().to_owned(),
        os: "linux".to_owned(),
        history: vec![History::default(); record.layers.len()],
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids.clone_from(&record.layers);
    config
}

/// This machine's, by Go's name.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Makes an image of a container with this configuration; returns its manifest's digest and its id.
pub fn commit(
    containers: &Containers<'_>,
    record: &Record,
    mut config: ImageConfig,
    options: &Options,
) -> Result<(Digest, Digest)> {
    let store = containers.store;
    let paused = if options.no_pause { None } else { Paused::pause(containers, &record.id)? };
    let (layer, entries) = pack(containers, record, options.signals.as_ref())?;
    drop(paused);
    if entries > 0 {
        config.rootfs.diff_ids.push(layer);
    }
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    config.author = text(&options.author);
    config.created = Some(options.created.clone());
    config.history.push(History {
        created: Some(options.created.clone()),
        created_by: record.config.cmd.as_ref().map(|words| words.join(" ")),
        author: text(&options.author),
        comment: text(&options.message),
        empty_layer: entries == 0,
    });
    let (digest, manifest) = store.put_image(&config, &Default::default())?;
    Ok((digest, manifest.config.digest))
}

/// Packs what a container has changed as a layer; returns how many entries that has.
fn pack(
    containers: &Containers<'_>,
    record: &Record,
    signals: Option<&Signals>,
) -> Result<(Digest, u64)> {
    let store = containers.store;
    let state = containers.observe(&record.id)?.state;
    let upper = containers.dir(&record.id).join("upper");
    let ignored = {
        let lower = View::overlay(&store.lower(&record.layers)?)?;
        let points = files::mount_points(record, &state);
        scaffold(&View::open(&upper)?, &lower, &points)?
    };
    let mut entries = 0;
    let layer = store.draft_layer()?.commit_tar(|out| {
        let mut filter = Filter { out, ignored, signals, entries: 0 };
        pack_into(&upper, &mut filter)?;
        entries = filter.entries;
        Ok(())
    })?;
    Ok((layer.diff_id, entries))
}

fn pack_into(upper: &Path, out: &mut dyn Append) -> cache::Result<()> {
    let dir = fs::File::open(upper).map_err(cache::Error::Io)?;
    let packed = pack_upper(std::os::fd::AsFd::as_fd(&dir), out, None);
    packed.map(drop).map_err(|source| cache::Error::Layer {
        what: format!("cannot be packed from {}", upper.display()),
        source: Box::new(source),
    })
}

/// Passes on what is not there only to be mounted on.
struct Filter<'a> {
    out: &'a mut dyn Append,
    ignored: BTreeSet<Vec<u8>>,
    signals: Option<&'a Signals>,
    entries: u64,
}

impl Append for Filter<'_> {
    fn append(
        &mut self,
        entry: &Entry,
        data: &mut dyn Read,
    ) -> std::result::Result<(), layer::Error> {
        if self.signals.is_some_and(is_signalled) {
            return Err(layer::Error::Write { source: io::ErrorKind::Interrupted.into() });
        }
        if self.ignored.contains(&entry.path) {
            return Ok(());
        }
        self.entries += 1;
        self.out.append(entry, data)
    }
}

fn is_signalled(signals: &Signals) -> bool {
    let fd = signals.as_fd();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// A container that was paused for this; it goes on when this is dropped.
struct Paused<'a> {
    containers: &'a Containers<'a>,
    id: &'a str,
}

impl<'a> Paused<'a> {
    /// Pauses a container that runs.
    fn pause(containers: &'a Containers<'_>, id: &'a str) -> Result<Option<Self>> {
        if containers.observe(id)?.state.status != Status::Running {
            return Ok(None);
        }
        let Some(mut client) = Client::connect(containers, id, Request::Pause)? else {
            return Ok(None);
        };
        match client.done() {
            Ok(()) => Ok(Some(Self { containers, id })),
            // It has ended meanwhile, or somebody else has paused it.
            Err(Error::Refused(_)) if containers.observe(id)?.state.status != Status::Running => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // A container that has ended needs no leave to go on.
        if let Ok(Some(mut client)) = Client::connect(self.containers, self.id, Request::Unpause) {
            let _ = client.done();
        }
    }
}
