//! The instructions of a Dockerfile as types, and the expansion of variables in them.
//!
//! Built by [`crate::parse`]. Knows neither stages nor scopes: which variables there are is the
//! [`Expander`]'s business, what an instruction does to an image is the lowering's.

use std::time::Duration;

use crate::device::Device;
use crate::error::{Error, ErrorKind};
use crate::expand::Expander;
use crate::lines::Heredoc;
use crate::mount::{Mount, MountError, MountFlag};
use crate::span::{Lines, Span};
use crate::words::WordError;

/// One instruction, with its place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it is.
    pub kind: Kind,
    /// The keyword as written, e.g. `From`.
    pub keyword: String,
    /// The comment lines directly before it, without `#`.
    pub comments: Vec<String>,
    /// Its lines, heredoc bodies included.
    pub lines: Lines,
    /// Its bytes in the text.
    pub span: Span,
    /// Its text, continuation lines joined, trimmed.
    pub original: String,
}

/// What an instruction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `FROM`: begins a stage.
    From(From),
    /// `ARG`: declares build arguments.
    Arg(Vec<ArgPair>),
    /// `ENV`: sets variables.
    Env(Vec<KeyValue>),
    /// `LABEL`: sets labels.
    Label(Vec<KeyValue>),
    /// `RUN`: runs a command.
    Run(Run),
    /// `COPY`: copies files.
    Copy(Copy),
    /// `ADD`: copies files, archives, URLs and git trees.
    Add(Add),
    /// `WORKDIR`: the path as written.
    Workdir(String),
    /// `USER`: the user as written.
    User(String),
    /// `CMD`: the default arguments or command.
    Cmd(CommandLine),
    /// `ENTRYPOINT`: the default program.
    Entrypoint(CommandLine),
    /// `EXPOSE`: port specifications, sorted, to be read by [`crate::expose::parse_ports`].
    Expose(Vec<String>),
    /// `VOLUME`: paths.
    Volume(Vec<String>),
    /// `SHELL`: the words put before a command in shell form.
    Shell(Vec<String>),
    /// `STOPSIGNAL`: name or number.
    StopSignal(String),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `ONBUILD`: the trigger's text, to be read by [`crate::parse::parse_trigger`].
    Onbuild(String),
    /// `MAINTAINER`: the image's author.
    Maintainer(String),
}

/// `FROM [--platform=platform] base [AS name]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct From {
    /// The image or stage, unexpanded.
    pub base: String,
    /// The stage's name in lower case.
    pub name: Option<String>,
    /// The platform, unexpanded.
    pub platform: Option<String>,
    /// What the comment `# <name> <text>` before it says of the stage.
    pub description: Option<String>,
}

/// One `name[=value]` of `ARG`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArgPair {
    /// The argument's name.
    pub key: String,
    /// Its default, unexpanded: whether it is needed depends on the build's arguments.
    pub value: Option<String>,
    /// What the comment `# <name> <text>` before it says of the argument.
    pub description: Option<String>,
}

/// One pair of `ENV` or `LABEL`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
    /// Whether it was written `key value`, the legacy form.
    pub legacy: bool,
}

/// The two forms of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Text for a shell.
    Shell(String),
    /// A program and its arguments; may be empty.
    Exec(Vec<String>),
}

impl CommandLine {
    /// Returns the command as it stands in an image's config: the shell's words come before text.
    pub fn to_args(&self, shell: &[String]) -> Vec<String> {
        match self {
            Self::Shell(text) => shell.iter().cloned().chain([text.clone()]).collect(),
            Self::Exec(args) => args.clone(),
        }
    }

    /// Returns whether the command has no words at all.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Shell(text) => text.is_empty(),
            Self::Exec(args) => args.is_empty(),
        }
    }
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command, never expanded.
    pub command: CommandLine,
    /// The bodies of its heredocs.
    pub heredocs: Vec<Heredoc>,
    /// The `--mount` flags; see [`Run::mounts`].
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: RunNetwork,
    /// `--security`.
    pub security: RunSecurity,
    /// `--device`.
    pub devices: Vec<Device>,
}

impl Run {
    /// Expands and reads the `--mount` flags.
    pub fn mounts(&self, expander: &mut Expander<'_>) -> Result<Vec<Mount>, MountError> {
        self.mounts.iter().map(|flag| Mount::parse(flag, expander)).collect()
    }
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// The build's network.
    #[default]
    Default,
    /// No network.
    None,
    /// The host's network.
    Host,
}

/// `RUN --security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunSecurity {
    /// The default confinement.
    #[default]
    Sandbox,
    /// No confinement.
    Insecure,
}

/// The sources and the destination of `COPY` and `ADD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourcesAndDest {
    /// Paths, globs and URLs.
    pub sources: Vec<String>,
    /// Files whose content stands in the Dockerfile.
    pub contents: Vec<InlineFile>,
    /// The destination.
    pub dest: String,
}

/// A source whose content stands in the Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InlineFile {
    /// Its name: the heredoc's word.
    pub path: String,
    /// Its content.
    pub data: String,
    /// Whether variables in the content are to be expanded.
    pub expand: bool,
}

/// `COPY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// What goes where.
    pub paths: SourcesAndDest,
    /// `--from`: a stage, an index, an image or a context.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub excludes: Vec<String>,
}

/// `ADD`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Add {
    /// What goes where.
    pub paths: SourcesAndDest,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`.
    pub excludes: Vec<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`.
    pub checksum: Option<String>,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// `HEALTHCHECK`, in the shape of an image's config. A zero means "not given".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", program, arg...]` or `["CMD-SHELL", text]`.
    pub test: Vec<String>,
    /// `--interval`.
    pub interval: Duration,
    /// `--timeout`.
    pub timeout: Duration,
    /// `--start-period`.
    pub start_period: Duration,
    /// `--start-interval`.
    pub start_interval: Duration,
    /// `--retries`.
    pub retries: u32,
}

impl Instruction {
    /// Expands variables where the instruction allows them.
    ///
    /// `FROM` and `ARG` are left alone, since their scope differs, and so are the mounts of `RUN`,
    /// for which there is [`Run::mounts`].
    pub fn expand(&mut self, expander: &mut Expander<'_>) -> Result<(), Error> {
        let lines = self.lines;
        self.kind.expand(expander).map_err(|error| Error::new(ErrorKind::Word(error), lines))
    }
}

impl Kind {
    fn expand(&mut self, expander: &mut Expander<'_>) -> Result<(), WordError> {
        match self {
            Self::Env(pairs) | Self::Label(pairs) => {
                for pair in pairs {
                    pair.key = expander.word(&pair.key)?;
                    pair.value = expander.word(&pair.value)?;
                }
            }
            Self::Workdir(word) | Self::User(word) | Self::StopSignal(word) => {
                *word = expander.word(word)?;
            }
            Self::Volume(paths) => expand_each(paths, expander)?,
            Self::Expose(ports) => {
                let mut expanded = Vec::new();
                for port in ports.iter() {
                    expanded.extend(expander.words(port)?);
                }
                *ports = expanded;
            }
            Self::Copy(copy) => {
                expand_flag(&mut copy.chown, expander)?;
                expand_flag(&mut copy.chmod, expander)?;
                copy.paths.expand(expander)?;
            }
            Self::Add(add) => {
                expand_flag(&mut add.chown, expander)?;
                expand_flag(&mut add.chmod, expander)?;
                expand_flag(&mut add.checksum, expander)?;
                add.paths.expand(expander)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl SourcesAndDest {
    fn expand(&mut self, expander: &mut Expander<'_>) -> Result<(), WordError> {
        expand_each(&mut self.sources, expander)?;
        self.dest = expander.word(&self.dest)?;
        for file in self.contents.iter_mut().filter(|file| file.expand) {
            file.data = expander.text(&file.data)?;
        }
        Ok(())
    }
}

fn expand_each(words: &mut [String], expander: &mut Expander<'_>) -> Result<(), WordError> {
    for word in words {
        *word = expander.word(word)?;
    }
    Ok(())
}

/// Expands a flag's value; one that expands to nothing is as good as not given.
fn expand_flag(flag: &mut Option<String>, expander: &mut Expander<'_>) -> Result<(), WordError> {
    if let Some(value) = flag {
        let value = expander.word(value)?;
        *flag = (!value.is_empty()).then_some(value);
    }
    Ok(())
}
