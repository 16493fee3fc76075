//! A [`Definition`]: the graph of operations that a frontend hands to the engine.
//!
//! Operations speak of file systems, files and processes. They know no Dockerfile, no host path
//! and no time: a definition is the same on every machine.

use std::collections::BTreeMap;

use cache::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::container::spec::{Resources, Rlimit};

/// Names a vertex of one definition: its place in [`Definition::vertices`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VertexId(pub usize);

/// A graph without cycles: a vertex's inputs stand before it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Definition {
    /// The vertices, inputs first.
    pub vertices: Vec<Vertex>,
}

impl Definition {
    /// Adds a vertex behind its inputs.
    pub fn add(&mut self, vertex: Vertex) -> VertexId {
        let id = VertexId(self.vertices.len());
        debug_assert!(vertex.op.inputs().iter().all(|input| *input < id));
        self.vertices.push(vertex);
        id
    }

    /// The vertex with this id.
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.vertices[id.0]
    }

    /// Which vertices are needed for `target`, itself included, by their place.
    pub fn needed(&self, target: VertexId) -> Vec<bool> {
        let mut needed = vec![false; self.vertices.len()];
        needed[target.0] = true;
        for id in (0..=target.0).rev() {
            if needed[id] {
                for input in self.vertices[id].op.inputs() {
                    needed[input.0] = true;
                }
            }
        }
        needed
    }

    /// Which vertices something lies on, among what `target` needs, that `is` so; by their place.
    pub fn leading_to(&self, target: VertexId, is: impl Fn(&Op) -> bool) -> Vec<bool> {
        let needed = self.needed(target);
        let mut leading = vec![false; self.vertices.len()];
        for id in (0..=target.0).rev() {
            if needed[id] && (leading[id] || is(&self.vertices[id].op)) {
                for input in self.vertices[id].op.inputs() {
                    leading[input.0] = true;
                }
            }
        }
        leading
    }
}

impl Definition {
    /// The part of the graph that `target` needs, as Graphviz reads it.
    pub fn to_dot(&self, target: VertexId) -> String {
        use std::fmt::Write;
        let mut text = String::from("digraph build {\n  rankdir=LR;\n  node [shape=box];\n");
        let needed = self.needed(target);
        for (place, vertex) in self.vertices.iter().enumerate().filter(|(place, _)| needed[*place])
        {
            let name = vertex.name.replace('\\', "\\\\").replace('"', "\\\"");
            writeln!(text, "  v{place} [label=\"{name}\"];")
                .expect("writing to a string cannot fail");
            for input in vertex.op.inputs() {
                writeln!(text, "  v{} -> v{place};", input.0)
                    .expect("writing to a string cannot fail");
            }
        }
        text.push_str("}\n");
        text
    }
}

/// An operation with what people are told about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Vertex {
    /// As `[build 2/3] RUN make`.
    pub name: String,
    /// Where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Whether an earlier result may stand for it.
    pub caching: Caching,
    /// What is done.
    pub op: Op,
}

/// The place in a source text that asked for a vertex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The stage's name, or its number.
    pub stage: String,
    /// The first line, counted from 1.
    pub first_line: usize,
    /// The last line.
    pub last_line: usize,
    /// The instruction's number within its stage, counted from 1.
    pub step: usize,
}

/// Whether an earlier result may stand for a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Caching {
    /// Any earlier result with the same key.
    Use,
    /// It is done again.
    Skip,
}

/// What a vertex does. `Base`, `Run`, `Copy`, `Mkdir` and `Merge` give a root file system, the
/// others give files to copy from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Op {
    /// Starts from layers that are in the store.
    Base(Base),
    /// A directory of the caller's, by name.
    Local(Local),
    /// A file from a web server.
    Http(Http),
    /// A tree from a git repository.
    Git(Git),
    /// Files given in the text.
    Inline(Inline),
    /// Runs a process and keeps what it changed.
    Run(Box<Run>),
    /// Copies files.
    Copy(Copy),
    /// Makes a directory.
    Mkdir(Mkdir),
    /// Puts one file system's changes on top of another.
    Merge(Merge),
}

impl Op {
    /// The vertices whose results this one needs.
    pub fn inputs(&self) -> Vec<VertexId> {
        match self {
            Self::Base(_) | Self::Local(_) | Self::Http(_) | Self::Git(_) | Self::Inline(_) => {
                Vec::new()
            }
            Self::Run(run) => {
                let mounted = run.mounts.iter().filter_map(|mount| match &mount.kind {
                    RunMountKind::Bind { from, .. } => Some(*from),
                    RunMountKind::Cache { seed, .. } => seed.as_ref().map(|(from, _)| *from),
                    _ => None,
                });
                std::iter::once(run.base).chain(mounted).collect()
            }
            Self::Copy(copy) => std::iter::once(copy.base)
                .chain(copy.sources.iter().map(|source| source.from))
                .collect(),
            Self::Mkdir(mkdir) => vec![mkdir.base],
            Self::Merge(merge) => vec![merge.lower, merge.upper],
        }
    }
}

/// Layers that are in the store; none for `scratch`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Base {
    /// What people call it.
    pub reference: String,
    /// Diff ids, the lowest first.
    pub layers: Vec<Digest>,
}

/// A directory that the solver's caller gives under this name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Local {
    /// The name.
    pub name: String,
}

/// A file from a web server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Http {
    /// `http://` or `https://`.
    pub url: String,
    /// What the file's digest must be.
    pub checksum: Option<Digest>,
    /// The file's name here, when the server's does not count.
    pub file_name: Option<String>,
}

/// A tree from a git repository.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Git {
    /// The repository's URL.
    pub remote: String,
    /// Branch, tag or commit.
    pub reference: Option<String>,
    /// The part of the tree that is wanted.
    pub subdir: Option<String>,
    /// What the commit must begin with.
    pub checksum: Option<String>,
    /// Whether `.git` is kept.
    pub keep_git_dir: bool,
    /// Whether submodules are checked out.
    pub submodules: bool,
}

/// Files given in the text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inline {
    /// Name to content.
    pub files: BTreeMap<String, String>,
}

/// Runs a process in a container and keeps what it changed in the root file system.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// The root file system.
    pub base: VertexId,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `NAME=value`s that are not part of the key and not told anybody: proxies.
    pub unkeyed_env: Vec<String>,
    /// Absolute.
    pub cwd: String,
    /// `user[:group]`; empty is root.
    pub user: String,
    /// What else is mounted, in order.
    pub mounts: Vec<RunMount>,
    /// What the process can reach.
    pub network: NetworkMode,
    /// Whether it is confined.
    pub security: Security,
    /// The host name.
    pub hostname: String,
    /// `(name, address)` pairs for /etc/hosts; the address may be `host-gateway`.
    pub extra_hosts: Vec<(String, String)>,
    /// Bytes of /dev/shm.
    pub shm_size: Option<u64>,
    /// Resource limits of the process.
    pub ulimits: Vec<Rlimit>,
    /// Limits of the container's cgroup; not part of the key.
    pub resources: Resources,
    /// Where the container's cgroups are made; not part of the key.
    pub cgroup_parent: Option<String>,
    /// Devices by their CDI names.
    pub devices: Vec<String>,
    /// What the root file system's programs are made for, as Go's GOARCH; may be empty. Not part of
    /// the key, as the programs themselves are.
    pub architecture: String,
}

/// What a process can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// A network of its own, with a way out.
    Default,
    /// What the host can reach.
    Host,
    /// Nothing.
    None,
}

/// Whether a process is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Default capabilities and seccomp filter.
    Sandbox,
    /// All capabilities.
    Insecure,
}

/// A mount that lives as long as the process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunMount {
    /// Absolute, or below the working directory.
    pub target: String,
    /// What is seen there.
    #[serde(flatten)]
    pub kind: RunMountKind,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum RunMountKind {
    /// Files of another vertex. What is written is dropped.
    Bind {
        /// The vertex.
        from: VertexId,
        /// The path in it.
        source: String,
        /// Whether it can be written to.
        writable: bool,
    },
    /// A directory that lives on from build to build; not part of the key.
    Cache {
        /// Its name.
        id: String,
        /// Who may use it at once.
        sharing: Sharing,
        /// What it begins with: a vertex and a path in it.
        seed: Option<(VertexId, String)>,
        /// Whether it cannot be written to.
        read_only: bool,
        /// Owner and mode when it is made.
        owner: Ownership,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Bytes.
        size: Option<u64>,
    },
    /// A secret as a file or, with an empty target, as a variable only; its value is not part of
    /// the key.
    Secret {
        /// Its name.
        id: String,
        /// The variable that holds it.
        env: Option<String>,
        /// Whether it must exist.
        required: bool,
        /// Owner and mode of the file.
        owner: Ownership,
    },
    /// An ssh agent's socket.
    Ssh {
        /// Its name.
        id: String,
        /// Whether it must exist.
        required: bool,
        /// Owner and mode of the socket.
        owner: Ownership,
    },
    /// An executable file given in the text.
    Script {
        /// Its content.
        content: String,
    },
}

/// Who may use a cache mount at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Everybody.
    Shared,
    /// Each user its own.
    Private,
    /// One after the other.
    Locked,
}

/// Owner and mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ownership {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// Copies files into a root file system.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Copy {
    /// What is copied into.
    pub base: VertexId,
    /// What is copied, in order.
    pub sources: Vec<CopySource>,
    /// Absolute; ends in `/` when it must be a directory.
    pub dest: String,
    /// `user[:group]`, names or ids, of everything that is made; absent keeps the source's.
    pub owner: Option<String>,
    /// `--chmod`, octal or symbolic; absent keeps the source's.
    pub mode: Option<String>,
    /// Whether the sources' parent directories are copied along.
    pub parents: bool,
    /// Patterns of what is left out.
    pub excludes: Vec<String>,
}

/// One source of a copy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CopySource {
    /// Where from.
    pub from: VertexId,
    /// A path or pattern in it.
    pub path: String,
    /// Whether `*`, `?` and `[` in the path are patterns.
    pub wildcards: bool,
    /// What happens to archives.
    pub unpack: Unpack,
}

/// What a copy does with archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unpack {
    /// They are files like others.
    Never,
    /// They are unpacked.
    Archives,
}

/// Makes a directory and its parents; one that exists is left as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mkdir {
    /// What it is made in.
    pub base: VertexId,
    /// Absolute.
    pub path: String,
    /// `user[:group]` of what is made; empty is root.
    pub owner: String,
}

/// The lower file system with the upper one's layers on top.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Merge {
    /// Below.
    pub lower: VertexId,
    /// On top.
    pub upper: VertexId,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(op: Op) -> Vertex {
        Vertex { name: String::new(), origin: None, caching: Caching::Use, op }
    }

    #[test]
    fn only_what_the_target_reaches_is_needed() {
        let mut definition = Definition::default();
        let base = Op::Base(Base { reference: "scratch".into(), layers: vec![] });
        let base = definition.add(vertex(base));
        let mkdir = |base| Op::Mkdir(Mkdir { base, path: "/a".into(), owner: String::new() });
        let unused = definition.add(vertex(mkdir(base)));
        let used = definition.add(vertex(mkdir(base)));
        let target = definition.add(vertex(Op::Merge(Merge { lower: base, upper: used })));
        assert_eq!(definition.needed(target), [true, false, true, true]);
        assert_eq!(definition.needed(unused), [true, true, false, false]);
        let is_merge = |op: &Op| matches!(op, Op::Merge(_));
        assert_eq!(definition.leading_to(target, is_merge), [true, false, true, false]);
        assert_eq!(definition.leading_to(used, is_merge), [false; 4], "it is not needed");
    }
}
