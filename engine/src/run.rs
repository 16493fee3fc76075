//! Runs a process over a root file system and keeps what it changed as a layer.
//!
//! The decision is a [`ContainerSpec`]; the container carries it out. What a mount needs (a cache
//! directory, a secret, a network) is held for as long as the process runs.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cache::Store;
use cache::digest::Digest;
use cache::draft::{Draft, Written};
use cache::lower::Driver;
use rustix::event::{PollFd, PollFlags, poll};

use crate::container::spec::{
    ContainerSpec, Mount, MountSource, Network, Process, Rootfs, Seccomp,
};
use crate::container::{self, DEFAULT_CAPABILITIES, LaunchError, Stdio};
use crate::copy;
use crate::foreign::{self, Foreign};
use crate::graph::{
    Copy, CopySource, NetworkMode, Ownership, Run, RunMount, RunMountKind, Security, Sharing,
    Unpack, VertexId,
};
use crate::keys::{self, chain_id};
use crate::network::{self, Lease, resolv};
use crate::open_files;
use crate::product::Product;
use crate::progress::{Event, Outcome, Stream};
use crate::ssh_agent::{Relay, SocketOwner};
use crate::step::{self, Done, Like, Step, StepError};

/// Bytes of a layer whose step's root file system is kept mounted for a while: what was written there
/// has its room on the disk for as long.
const MOST_KEPT: u64 = 64 << 20;

/// Why a process could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container could not be made, or the program not started.
    #[error("cannot start {command:?}")]
    Launch {
        /// The process's arguments, joined.
        command: String,
        /// Why.
        source: LaunchError,
    },
    /// Programs for the root file system's architecture do not run here.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// A secret that must exist does not.
    #[error("secret {0}: not found")]
    NoSecret(String),
    /// An ssh agent that must exist does not.
    #[error("unset ssh key {0:?}: no ssh agent was given for it")]
    NoAgent(String),
    /// An ssh agent cannot be reached.
    #[error("cannot offer the ssh agent {id:?} to the step")]
    Agent {
        /// Its id.
        id: String,
        /// Why.
        source: crate::ssh_agent::Error,
    },
    /// There is no network to be had.
    #[error("cannot connect the step to a network")]
    Network(#[source] network::Error),
    /// The process's output or end cannot be observed.
    #[error("cannot watch {command:?}")]
    Watch {
        /// The process's arguments, joined.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A cache mount cannot be used.
    #[error("cannot use cache mount {id:?}")]
    CacheMount {
        /// Its id.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// Devices are not given to build steps.
    #[error("device {0:?} is not available to build steps on this machine")]
    Device(String),
}

/// What has to be held while the process runs.
#[derive(Default)]
struct Held {
    _locks: Vec<File>,
    _relays: Vec<Relay>,
    network: Option<Lease>,
}

impl<'s> Step<'s, '_> {
    /// Runs a process, unless an earlier result stands for it.
    pub(crate) fn process(&self, run: &Run) -> Result<Done<'s>, StepError> {
        let begun = Instant::now();
        let shown: Vec<Option<String>> =
            run.mounts.iter().map(|mount| self.shown_by(mount)).collect::<Result<_, _>>()?;
        let image = keys::run(run, &chain_id(self.layers(run.base)), &shown, self.session.epoch);
        if let Some(record) = self.look_up(&image)? {
            return Ok(self.on_top(run.base, &record, image.key(), Outcome::Cached));
        }
        let claim = self.claim(&image)?;
        // Who had the claim before may have done it.
        if let Some(record) = self.look_up(&image)? {
            return Ok(self.on_top(run.base, &record, image.key(), Outcome::Cached));
        }
        if self.session.cancel.is_canceled() {
            return Err(StepError::Canceled);
        }
        let written = match run.args.is_empty() {
            // Docker takes `RUN []` for a step that does nothing.
            true => self.session.store.draft_layer()?.write_tar(|_| Ok(()))?,
            false => self.execute(run)?,
        };
        Ok(self.on_top_new(run.base, written.offer()?, image, claim, begun))
    }

    /// What content a mount shows, for the key.
    fn shown_by(&self, mount: &RunMount) -> Result<Option<String>, StepError> {
        let (from, path) = match &mount.kind {
            RunMountKind::Bind { from, source, .. } => (*from, source),
            RunMountKind::Cache { seed: Some((from, path)), .. } => (*from, path),
            _ => return Ok(None),
        };
        match (self.input)(from) {
            Product::Rootfs(layers) => Ok(Some(format!("from {}\n", chain_id(layers)))),
            Product::Files(tree) => {
                let operation = whole_copy(from, path);
                let sources = copy::select(&operation, &[tree.as_ref()])?;
                let mut rows = String::new();
                copy::rows(&sources, &mut rows)?;
                tree.save_index(self.session.store)?;
                Ok(Some(rows))
            }
        }
    }

    fn execute(&self, run: &Run) -> Result<Written<'s>, StepError> {
        foreign::check(self.session.store, &run.architecture).map_err(Error::Foreign)?;
        let draft = self.session.store.draft_layer()?;
        let mut held = Held::default();
        let spec = self.container_spec(run, &draft, &mut held)?;
        let command = run.args.join(" ");
        self.session.mounts.keep_root(None);
        let exit = self.run_container(&spec, &command, &run.architecture)?;
        drop(held);
        container::remove_mount_points(&draft.upper(), &exit.created);
        if self.session.cancel.is_canceled() {
            return Err(StepError::Canceled);
        }
        let written = draft.write_upper(self.clamp());
        if exit.code != 0 {
            let mut layers = self.layers(run.base).to_vec();
            // What it left behind is only there to be looked at; that it failed is the news.
            let committed = written.and_then(Written::commit);
            layers.extend(committed.ok().map(|layer| layer.diff_id));
            let oom_killed = exit.oom_killed;
            return Err(StepError::Exit { command, code: exit.code, oom_killed, layers });
        }
        let written = written?;
        if written.layer().size > MOST_KEPT {
            self.session.mounts.keep_root(None);
        }
        Ok(written)
    }

    fn run_container(
        &self,
        spec: &ContainerSpec,
        command: &str,
        architecture: &str,
    ) -> Result<container::Exit, StepError> {
        let watch = |source: io::Error| Error::Watch { command: command.to_owned(), source };
        let (stdout, stdout_writer) = pipe().map_err(watch)?;
        let (stderr, stderr_writer) = pipe().map_err(watch)?;
        let stdio = Stdio::output(stdout_writer, stderr_writer);
        let running =
            container::launch_from(&self.session.zygote, spec, stdio).map_err(|source| {
                match foreign::reason(self.session.store, architecture, source.exit_code()) {
                    Some(foreign) => Error::Foreign(foreign),
                    None => Error::Launch { command: command.to_owned(), source },
                }
            })?;
        let pidfd = running.pidfd.try_clone().map_err(watch)?;
        // An upper directory that is mounted is none to be a layer, which with the other driver it
        // becomes as it is.
        let is_packed = self.session.store.driver() == Driver::Erofs;
        let root = is_packed.then(|| running.open_root()).flatten();
        let exit = self.session.cancel.guard(pidfd, || {
            self.relay(&stdout, &stderr)?;
            running.wait()
        });
        self.session.mounts.keep_root(root);
        Ok(exit.map_err(watch)?)
    }

    /// Passes the process's output on until both streams end.
    fn relay(&self, stdout: &OwnedFd, stderr: &OwnedFd) -> io::Result<()> {
        let mut open = vec![(stdout, Stream::Stdout), (stderr, Stream::Stderr)];
        let mut buffer = vec![0; 1 << 14];
        while !open.is_empty() {
            let mut polled: Vec<PollFd<'_>> =
                open.iter().map(|(fd, _)| PollFd::new(*fd, PollFlags::IN)).collect();
            match poll(&mut polled, None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut ready = ready.into_iter();
            let mut failed = None;
            open.retain(|(fd, stream)| {
                if !ready.next().unwrap_or(false) {
                    return true;
                }
                match rustix::io::read(fd, &mut buffer) {
                    Ok(0) => false,
                    Ok(read) => {
                        let bytes = &buffer[..read];
                        let vertex = self.id;
                        (self.session.listener)(Event::Output { vertex, stream: *stream, bytes });
                        true
                    }
                    Err(rustix::io::Errno::INTR) => true,
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                }
            });
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn container_spec(
        &self,
        run: &Run,
        draft: &Draft<'_>,
        held: &mut Held,
    ) -> Result<ContainerSpec, StepError> {
        if let Some(device) = run.devices.first() {
            return Err(Error::Device(device.clone()).into());
        }
        let insecure = run.security == Security::Insecure;
        let (network, mut mounts) = self.network(run, held)?;
        let mut env = run.env.clone();
        env.extend(run.unkeyed_env.iter().cloned());
        for mount in &run.mounts {
            self.mount(run, mount, &mut mounts, &mut env, held)?;
        }
        Ok(ContainerSpec {
            id: draft.id(),
            hostname: run.hostname.clone(),
            rootfs: Rootfs::Overlay {
                lower: self.session.lower_of_upper(self.layers(run.base))?,
                upper: Some(draft.make_upper()?),
                volatile: true,
            },
            mounts,
            process: Process {
                args: run.args.clone(),
                env,
                cwd: run.cwd.clone().into(),
                user: run.user.clone(),
                additional_groups: Vec::new(),
                capabilities: DEFAULT_CAPABILITIES.iter().map(|name| name.to_string()).collect(),
                rlimits: open_files::limits_of_container(&run.ulimits),
                no_new_privileges: false,
                terminal: false,
                ..Process::default()
            },
            network,
            resources: run.resources.clone(),
            shm_size: run.shm_size,
            read_only: false,
            privileged: insecure,
            cgroup_parent: run.cgroup_parent.clone(),
            seccomp: if insecure { Seccomp::Unconfined } else { Seccomp::Default },
            sysctls: Vec::new(),
            ..ContainerSpec::default()
        })
    }

    /// The process's network, and the files that tell it of it.
    fn network(&self, run: &Run, held: &mut Held) -> Result<(Network, Vec<Mount>), StepError> {
        let mut own: Vec<IpAddr> = Vec::new();
        let mut gateway: IpAddr = std::net::Ipv4Addr::LOCALHOST.into();
        let (network, reach) = match run.network {
            NetworkMode::None => (Network::None, resolv::Reach::Host),
            NetworkMode::Host => (Network::Host, resolv::Reach::Host),
            NetworkMode::Default => {
                let lease = match run.security {
                    Security::Sandbox => self.session.networks.take(),
                    Security::Insecure => self.session.networks.take_alone(),
                };
                let lease = lease.map_err(Error::Network)?;
                own.push(lease.ipv4().into());
                own.extend(lease.ipv6().map(IpAddr::from));
                gateway = lease.gateway().into();
                let network = Network::Path(lease.path());
                let reach = resolv::Reach::Bridge { ipv6: lease.ipv6().is_some() };
                held.network = Some(lease);
                (network, reach)
            }
        };
        let extra: Vec<(String, IpAddr)> = run
            .extra_hosts
            .iter()
            .map(|(name, address)| (name.clone(), address.parse().unwrap_or(gateway)))
            .collect();
        if run.network == NetworkMode::None {
            own.push(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let hosts = resolv::hosts(&own, &[&run.hostname], &extra);
        let hostname = resolv::hostname(&run.hostname);
        let host = resolv::host_resolv_conf().unwrap_or_default();
        let servers = resolv::resolv_conf(&host, &resolv::Dns::default(), reach);
        let mounts = vec![
            file("/etc/hosts", hosts),
            file("/etc/hostname", hostname),
            file("/etc/resolv.conf", servers),
        ];
        Ok((network, mounts))
    }

    /// Adds what one `--mount` asks for.
    fn mount(
        &self,
        run: &Run,
        mount: &RunMount,
        mounts: &mut Vec<Mount>,
        env: &mut Vec<String>,
        held: &mut Held,
    ) -> Result<(), StepError> {
        let target = Path::new(&run.cwd).join(&mount.target);
        let (source, read_only) = match &mount.kind {
            RunMountKind::Bind { from, source, writable } => {
                (self.bind(*from, source, *writable)?, !writable)
            }
            RunMountKind::Cache { id, sharing, seed, read_only, owner } => {
                let id = cache_id(id, *owner, self.shown_by(mount)?.as_deref());
                let dir = self.cache_mount(&id, *sharing, seed.as_ref(), *owner, held)?;
                (MountSource::Bind(dir), *read_only)
            }
            RunMountKind::Tmpfs { size } => {
                (MountSource::Tmpfs { size: *size, mode: 0o1777 }, false)
            }
            RunMountKind::Script { content } => {
                let bytes = content.clone().into_bytes();
                (MountSource::File { bytes, mode: 0o755, uid: 0, gid: 0 }, true)
            }
            RunMountKind::Secret { id, env: variable, required, owner } => {
                let Some(bytes) = self.session.secrets.get(id) else {
                    return if *required {
                        Err(Error::NoSecret(id.clone()).into())
                    } else {
                        Ok(())
                    };
                };
                if let Some(variable) = variable {
                    env.push(format!("{variable}={}", String::from_utf8_lossy(bytes)));
                }
                if mount.target.is_empty() {
                    return Ok(());
                }
                let Ownership { uid, gid, mode } = *owner;
                (MountSource::File { bytes: bytes.clone(), mode, uid, gid }, true)
            }
            RunMountKind::Ssh { id, required, owner } => {
                let Some(agent) = self.session.ssh.get(id) else {
                    return if *required { Err(Error::NoAgent(id.clone()).into()) } else { Ok(()) };
                };
                let Ownership { uid, gid, mode } = *owner;
                let path = self.session.store.scratch_dir()?.join("agent");
                let relay = Relay::start(agent, &path, SocketOwner { uid, gid, mode })
                    .map_err(|source| Error::Agent { id: id.clone(), source })?;
                held._relays.push(relay);
                if !env.iter().any(|pair| pair.starts_with("SSH_AUTH_SOCK=")) {
                    env.push(format!("SSH_AUTH_SOCK={}", target.display()));
                }
                (MountSource::Bind(path), false)
            }
        };
        mounts.push(Mount { target, source, read_only });
        Ok(())
    }

    /// What a bind mount shows. Files of a context are mounted as a layer made of them: what is
    /// ignored is not there, and nobody can change them under the process.
    fn bind(&self, from: VertexId, path: &str, writable: bool) -> Result<MountSource, StepError> {
        let upper = match writable {
            true => Some(self.session.store.draft_layer()?.make_upper()?),
            false => None,
        };
        let tree = match (self.input)(from) {
            Product::Rootfs(layers) => {
                return Ok(MountSource::Overlay {
                    lower: self.session.lower(layers)?,
                    upper,
                    path: path.into(),
                });
            }
            Product::Files(tree) => tree,
        };
        let operation = whole_copy(from, path);
        let sources = copy::select(&operation, &[tree.as_ref()])?;
        let is_file = sources.iter().any(copy::Source::is_file);
        let dest = if is_file { "/file" } else { "/" };
        let operation = Copy { dest: dest.to_owned(), ..operation.clone() };
        let layer = self.copied_layer(&operation, &sources)?;
        let lower = self.session.lower(&[layer])?;
        Ok(MountSource::Overlay { lower, upper, path: dest.into() })
    }

    /// The layer that a copy onto nothing makes, made once for the same files.
    fn copied_layer(
        &self,
        operation: &Copy,
        sources: &[copy::Source<'_>],
    ) -> Result<Digest, StepError> {
        let begun = Instant::now();
        let image = keys::copy(operation, &chain_id(&[]), self.session.epoch)
            .showing_all(|text| copy::rows(sources, text))?;
        if let Some(record) = self.session.store.record(&image.key())? {
            return Ok(record.layer);
        }
        let layer = self.write_copy(&[], operation, sources, Like::None)?.commit()?.diff_id;
        let record = step::made(layer, begun);
        self.session.store.put_record(&image.key(), image.text().as_bytes(), &record)?;
        Ok(layer)
    }

    /// The directory behind a cache mount, made and filled when it is new.
    fn cache_mount(
        &self,
        id: &str,
        sharing: Sharing,
        seed: Option<&(VertexId, String)>,
        owner: Ownership,
        held: &mut Held,
    ) -> Result<PathBuf, StepError> {
        let failed = |source| Error::CacheMount { id: id.to_owned(), source };
        let slot = CacheSlot::take(self.session.store, id, sharing)?;
        held._locks.push(slot.lock);
        if slot.dir.exists() {
            return Ok(slot.dir);
        }
        let fresh = self.session.store.scratch_dir()?;
        if let Some((from, path)) = seed {
            let tree = self.tree(*from)?;
            let operation = whole_copy(*from, path);
            let sources = copy::select(&operation, &[tree.as_ref()])?;
            let layer = self.copied_layer(&operation, &sources)?;
            self.session.store.unpack_layer(&layer, &fresh)?;
        }
        let prepare = || -> io::Result<()> {
            std::os::unix::fs::chown(&fresh, Some(owner.uid), Some(owner.gid))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(owner.mode);
            fs_err::set_permissions(&fresh, mode)?;
            match fs_err::rename(&fresh, &slot.dir) {
                // Another step that shares it was faster.
                Err(_) if slot.dir.is_dir() => Ok(()),
                renamed => renamed,
            }
        };
        prepare().map_err(failed)?;
        Ok(slot.dir)
    }
}

/// A directory of a cache mount that may be used while the lock is held.
struct CacheSlot {
    dir: PathBuf,
    lock: File,
}

impl CacheSlot {
    fn take(store: &Store, id: &str, sharing: Sharing) -> Result<Self, StepError> {
        let failed = |source| Error::CacheMount { id: id.to_owned(), source };
        store.pin(&[Digest::of(id)])?;
        let home = store.root().join("cache/mounts").join(Digest::of(id).hex());
        fs_err::create_dir_all(&home).map_err(failed)?;
        // What people look for when they wonder what takes their disk.
        let name = home.join("id");
        if !name.exists() {
            store.write_atomically(&name, id.as_bytes())?;
        }
        Ok(Self::lock(&home, sharing).map_err(failed)?)
    }

    fn lock(home: &Path, sharing: Sharing) -> io::Result<Self> {
        for number in 0.. {
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(home.join(format!("{number}.lock")))?;
            let dir = home.join(number.to_string());
            match sharing {
                Sharing::Shared => lock.lock_shared()?,
                Sharing::Locked => lock.lock()?,
                Sharing::Private if lock.try_lock().is_err() => continue,
                Sharing::Private => {}
            }
            return Ok(Self { dir, lock });
        }
        unreachable!("there are fewer processes than numbers")
    }
}

/// What a cache mount is kept under: its name and what it is made with, so that nobody is given a
/// directory that belongs to another user or began with other files.
fn cache_id(id: &str, owner: Ownership, seed: Option<&str>) -> String {
    let Ownership { uid, gid, mode } = owner;
    let mut text = id.to_owned();
    if (uid, gid, mode) != (0, 0, 0o755) {
        text.push_str(&format!(" {uid}:{gid} {mode:04o}"));
    }
    if let Some(seed) = seed {
        text.push_str(&format!(" from {}", Digest::of(seed)));
    }
    text
}

/// A copy of everything at a path, to wherever its user says.
fn whole_copy(from: VertexId, path: &str) -> Copy {
    Copy {
        base: from,
        sources: vec![CopySource {
            from,
            path: path.to_owned(),
            wildcards: false,
            unpack: Unpack::Never,
        }],
        dest: "/".to_owned(),
        owner: None,
        mode: None,
        parents: false,
        excludes: Vec::new(),
    }
}

fn file(target: &str, text: String) -> Mount {
    let bytes = text.into_bytes();
    let source = MountSource::File { bytes, mode: 0o644, uid: 0, gid: 0 };
    Mount { target: target.into(), source, read_only: false }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_mounts_made_differently_are_kept_apart() {
        let root = Ownership { uid: 0, gid: 0, mode: 0o755 };
        let user = Ownership { uid: 1000, gid: 0, mode: 0o750 };
        assert_eq!(cache_id("/go", root, None), "/go");
        assert_eq!(cache_id("/go", user, None), "/go 1000:0 0750");
        assert_ne!(cache_id("/go", root, Some("a")), cache_id("/go", root, Some("b")));
    }
}
