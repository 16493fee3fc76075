//! Lowers `COPY` and `ADD`: their sources, wherever they are, and the vertex that copies them.

use std::collections::BTreeMap;

use cache::digest::Digest;
use engine::graph::{Copy, CopySource, Git, Http, Inline, Merge, Op, Unpack, Vertex, VertexId};
use engine::mode::Mode;

use super::{Result, StageLowering, refused};
use crate::error::{Error, ErrorKind, InstructionError, StageError};
use crate::git_url::GitRef;
use crate::instruction::{self, Add, Instruction, Kind, SourcesAndDest};
use crate::lower::MAIN_CONTEXT;
use crate::path;
use crate::span::Lines;
use crate::words::Lexer;

impl StageLowering<'_, '_> {
    /// Where a copy goes; the slash at the end says that it is a directory.
    fn destination(&self, dest: &str) -> String {
        let mut absolute = self.absolute(dest);
        let directory =
            dest.is_empty() || dest.ends_with('/') || dest.ends_with("/.") || dest == ".";
        if directory && absolute != "/" {
            absolute.push('/');
        }
        absolute
    }

    pub(super) fn copy(
        &mut self,
        copy: &instruction::Copy,
        said: Option<String>,
        instruction: &Instruction,
    ) -> Result<()> {
        let lines = instruction.lines;
        let refuse = |what: &'static str| refused(InstructionError::CopySource { what }, lines);
        for source in &copy.paths.sources {
            if is_url(source) {
                return Err(refuse("URL"));
            }
            if git_source(source, lines)?.is_some() {
                return Err(refuse("git ref"));
            }
        }
        let from = match &copy.from {
            None => self.lowering.local(MAIN_CONTEXT),
            Some(from) => {
                let (stage, platform) = (self.stage, self.platform.clone());
                let later = StageError::CopyFromLater { from: from.clone(), stage: stage.label() };
                check_from(from, lines)?;
                self.lowering.from(from, stage, &platform, lines, later)?
            }
        };
        let mut sources = local_sources(&copy.paths, from, Unpack::Never);
        sources.extend(self.inline_sources(&copy.paths));
        let files = Files {
            sources,
            dest: &copy.paths.dest,
            chown: copy.chown.clone(),
            chmod: copy.chmod.clone(),
            link: copy.link,
            parents: copy.parents,
            excludes: copy.excludes.clone(),
        };
        self.place(files, said, instruction)
    }

    pub(super) fn add(
        &mut self,
        add: &Add,
        said: Option<String>,
        instruction: &Instruction,
    ) -> Result<()> {
        let lines = instruction.lines;
        let mut sources = Vec::new();
        let unpack = |default: bool| match add.unpack.unwrap_or(default) {
            true => Unpack::Archives,
            false => Unpack::Never,
        };
        check_checksum(add, lines)?;
        for source in &add.paths.sources {
            if let Some(git) = git_source(source, lines)? {
                let from = self.git(add, &git, lines)?;
                let path = "/".to_owned();
                sources.push(CopySource { from, path, wildcards: false, unpack: Unpack::Never });
            } else if is_url(source) {
                sources.push(self.url(add, source, unpack(false), lines)?);
            } else {
                let from = self.lowering.local(MAIN_CONTEXT);
                let path = source.clone();
                sources.push(CopySource { from, path, wildcards: true, unpack: unpack(true) });
            }
        }
        sources.extend(self.inline_sources(&add.paths));
        let files = Files {
            sources,
            dest: &add.paths.dest,
            chown: add.chown.clone(),
            chmod: add.chmod.clone(),
            link: add.link,
            parents: false,
            excludes: add.excludes.clone(),
        };
        self.place(files, said, instruction)
    }

    /// Adds the vertices of a copy: one that changes the stage, or with `--link` one that stands
    /// for itself and is put on top.
    fn place(
        &mut self,
        files: Files<'_>,
        said: Option<String>,
        instruction: &Instruction,
    ) -> Result<()> {
        if let Some(mode) = &files.chmod {
            Mode::parse(mode)
                .map_err(|error| refused(InstructionError::Chmod(error), instruction.lines))?;
        }
        if files.sources.len() > 1
            && !files.dest.ends_with('/')
            && !matches!(files.dest, "." | "..")
        {
            let keyword = if matches!(instruction.kind, Kind::Add(_)) { "ADD" } else { "COPY" };
            return Err(refused(InstructionError::SeveralSources { keyword }, instruction.lines));
        }
        // A mode keeps a copy from standing for itself, as in BuildKit: directories made on the way
        // get it too, and then those of the base would. So does a name, which only the base knows.
        let numeric = files.chown.as_deref().is_none_or(engine::owner::is_numeric);
        let link = files.link && files.chmod.is_none() && numeric;
        let base = if link { self.lowering.nothing() } else { self.root };
        let copy = Op::Copy(Copy {
            base,
            sources: files.sources,
            dest: self.destination(files.dest),
            owner: files.chown,
            mode: files.chmod,
            parents: files.parents,
            excludes: files.excludes,
        });
        let said = said.unwrap_or_default();
        if !link {
            self.add_step(instruction, copy, said);
            return Ok(());
        }
        let vertex = self.step_vertex(instruction, copy);
        let merge = Vertex { name: format!("LINK {}", vertex.name), ..vertex.clone() };
        let upper = self.lowering.add(vertex);
        let op = Op::Merge(Merge { lower: self.root, upper });
        self.root = self.lowering.add(Vertex { op, ..merge });
        self.remember(said, Some(upper));
        Ok(())
    }

    fn source_vertex(&mut self, name: String, op: Op) -> VertexId {
        let caching = self.lowering.caching(self.stage);
        self.lowering.add(Vertex { name, origin: None, caching, op })
    }

    fn inline_sources(&mut self, paths: &SourcesAndDest) -> Vec<CopySource> {
        let mut sources = Vec::new();
        for file in &paths.contents {
            let files = BTreeMap::from([(file.path.clone(), file.data.clone())]);
            let name = "[internal] preparing inline document".to_owned();
            let from = self.source_vertex(name, Op::Inline(Inline { files }));
            let path = file.path.clone();
            sources.push(CopySource { from, path, wildcards: false, unpack: Unpack::Never });
        }
        sources
    }

    fn url(&mut self, add: &Add, url: &str, unpack: Unpack, lines: Lines) -> Result<CopySource> {
        let checksum = match &add.checksum {
            None => None,
            Some(text) => Some(text.parse::<Digest>().map_err(|_| {
                refused(InstructionError::Checksum { checksum: text.clone() }, lines)
            })?),
        };
        let name = url_file_name(url);
        let op = Op::Http(Http { url: url.to_owned(), checksum, file_name: Some(name.clone()) });
        let from = self.source_vertex(url.to_owned(), op);
        Ok(CopySource { from, path: name, wildcards: false, unpack })
    }

    fn git(&mut self, add: &Add, git: &GitRef, lines: Lines) -> Result<VertexId> {
        if let (Some(flag), Some(query)) = (add.keep_git_dir, git.keep_git_dir)
            && flag != query
        {
            return Err(refused(InstructionError::KeepGitDir, lines));
        }
        if let (Some(flag), Some(query)) = (&add.checksum, &git.checksum)
            && flag != query
        {
            let (flag, query) = (flag.clone(), query.clone());
            return Err(refused(InstructionError::Checksums { flag, query }, lines));
        }
        let op = Op::Git(Git {
            remote: git.remote.clone(),
            reference: git.reference.clone(),
            subdir: git.subdir.clone(),
            checksum: git.checksum.clone().or_else(|| add.checksum.clone()),
            keep_git_dir: git.keep_git_dir.or(add.keep_git_dir).unwrap_or(false),
            submodules: git.submodules.unwrap_or(true),
        });
        Ok(self.source_vertex(git.remote.clone(), op))
    }
}

/// What a copy is made of.
struct Files<'a> {
    sources: Vec<CopySource>,
    dest: &'a str,
    chown: Option<String>,
    chmod: Option<String>,
    link: bool,
    parents: bool,
    excludes: Vec<String>,
}

fn local_sources(paths: &SourcesAndDest, from: VertexId, unpack: Unpack) -> Vec<CopySource> {
    let source = |path: &String| CopySource { from, path: path.clone(), wildcards: true, unpack };
    paths.sources.iter().map(source).collect()
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// The last component of a URL's path.
fn url_file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    match path.split_once('/').map(|(_, path)| path::base(path)) {
        Some(name) if !matches!(name, "" | "." | "/") => name.to_owned(),
        _ => "__unnamed__".to_owned(),
    }
}

/// Reads a source as a git repository, unless it could be a path of the context.
fn git_source(source: &str, lines: Lines) -> Result<Option<GitRef>> {
    let git = GitRef::parse(source).map_err(|error| Error::new(ErrorKind::GitUrl(error), lines))?;
    Ok(git.filter(|git| !git.looks_local))
}

fn check_from(from: &str, lines: Lines) -> Result<()> {
    let expanded = Lexer::new('\\').expand_word(from, &|_| None);
    match expanded {
        Ok(expansion) if expansion.text == from => Ok(()),
        _ => Err(Error::new(ErrorKind::Stage(StageError::VariableFrom), lines).into()),
    }
}

fn check_checksum(add: &Add, lines: Lines) -> Result<()> {
    if add.checksum.is_none() {
        return Ok(());
    }
    let [source] = add.paths.sources.as_slice() else {
        return Err(refused(InstructionError::ChecksumSources, lines));
    };
    if !is_url(source) && git_source(source, lines)?.is_none() {
        return Err(refused(InstructionError::ChecksumLocal, lines));
    }
    Ok(())
}
