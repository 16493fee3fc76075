//! Lowers `RUN --mount`.

use engine::graph::{Ownership, RunMount, RunMountKind, Sharing, VertexId};

use super::{Result, StageLowering, refused};
use crate::error::{Error, ErrorKind, InstructionError, StageError};
use crate::expand::Expander;
use crate::instruction;
use crate::lower::MAIN_CONTEXT;
use crate::mount::{self, Mount};
use crate::path;
use crate::span::Lines;

impl StageLowering<'_, '_> {
    pub(super) fn mounts(&mut self, run: &instruction::Run, lines: Lines) -> Result<Vec<RunMount>> {
        let lookup = |name: &str| self.variable(name);
        let mut expander = Expander::new(self.lowering.escape, &lookup);
        let mounts = run
            .mounts(&mut expander)
            .map_err(|error| Error::new(ErrorKind::Mount(error), lines))?;
        let mut lowered = Vec::new();
        let mut agents = 0;
        for mount in mounts {
            let mount = self.mount(mount, &mut agents, lines)?;
            let only_variable =
                mount.target.is_empty() && matches!(mount.kind, RunMountKind::Secret { .. });
            if !only_variable && self.absolute(&mount.target) == "/" {
                let target = "/".to_owned();
                return Err(refused(InstructionError::MountTarget { target }, lines));
            }
            lowered.push(mount);
        }
        Ok(lowered)
    }

    fn mount(&mut self, mount: Mount, agents: &mut usize, lines: Lines) -> Result<RunMount> {
        Ok(match mount {
            Mount::Bind { from, source, target, read_only } => {
                let from = self.mount_from(from.as_deref(), &target, lines)?;
                let kind = RunMountKind::Bind { from, source, writable: !read_only };
                RunMount { target, kind }
            }
            Mount::Cache { id, target, from, source, read_only, sharing, owner } => {
                let seed = match &from {
                    Some(name) => Some((self.mount_from(Some(name), &target, lines)?, source)),
                    None => None,
                };
                let id = if id.is_empty() { path::clean(&target) } else { id };
                let namespace = &self.lowering.request.cache_mount_namespace;
                let kind = RunMountKind::Cache {
                    id: if namespace.is_empty() { id } else { format!("{namespace}/{id}") },
                    sharing: match sharing {
                        mount::Sharing::Shared => Sharing::Shared,
                        mount::Sharing::Private => Sharing::Private,
                        mount::Sharing::Locked => Sharing::Locked,
                    },
                    seed,
                    read_only,
                    owner: ownership(owner, 0o755),
                };
                RunMount { target, kind }
            }
            Mount::Tmpfs { target, size } => {
                RunMount { target, kind: RunMountKind::Tmpfs { size } }
            }
            Mount::Secret { id, target, env, required, owner } => {
                // With a variable there is a file only where one is asked for.
                let default = || format!("/run/secrets/{}", path::base(&id));
                let target = match (&target, &env) {
                    (Some(target), _) => target.clone(),
                    (None, Some(_)) => String::new(),
                    (None, None) => default(),
                };
                let owner = ownership(owner, 0o400);
                RunMount { target, kind: RunMountKind::Secret { id, env, required, owner } }
            }
            Mount::Ssh { id, target, required, owner } => {
                let default = format!("/run/buildkit/ssh_agent.{agents}");
                *agents += 1;
                let kind = RunMountKind::Ssh { id, required, owner: ownership(owner, 0o600) };
                RunMount { target: target.unwrap_or(default), kind }
            }
        })
    }

    fn mount_from(&mut self, from: Option<&str>, target: &str, lines: Lines) -> Result<VertexId> {
        let Some(from) = from else { return Ok(self.lowering.local(MAIN_CONTEXT)) };
        let later = StageError::MountFromLater { from: from.to_owned(), target: target.to_owned() };
        let (stage, platform) = (self.stage, self.platform.clone());
        self.lowering.from(from, stage, &platform, lines, later)
    }
}

fn ownership(owner: mount::Owner, mode: u32) -> Ownership {
    Ownership {
        uid: owner.uid.unwrap_or(0),
        gid: owner.gid.unwrap_or(0),
        mode: owner.mode.unwrap_or(mode),
    }
}
