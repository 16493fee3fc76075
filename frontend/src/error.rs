//! What can be wrong with a Dockerfile, and how it is shown in its text.
//!
//! Prints nothing: [`Error::render`] returns a string.

use std::fmt;

use crate::check_config::CheckConfigError;
use crate::device::DeviceError;
use crate::expose::PortError;
use crate::flags::FlagError;
use crate::git_url::GitUrlError;
use crate::lines::{ParseError, ParseErrorKind};
use crate::mount::MountError;
use crate::shown::Marked;
use crate::span::Lines;
use crate::suggest::Suggestion;
use crate::words::WordError;

/// Something wrong at a place in a Dockerfile.
#[derive(Clone, Debug)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Where; line 0 for the file as a whole.
    pub lines: Lines,
}

/// What is wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ErrorKind {
    /// The text cannot be cut into instructions.
    #[error(transparent)]
    Text(ParseErrorKind),
    /// An instruction cannot be read.
    #[error(transparent)]
    Instruction(InstructionError),
    /// Variables cannot be expanded.
    #[error(transparent)]
    Word(WordError),
    /// A `--mount` flag cannot be read once its variables are known.
    #[error(transparent)]
    Mount(MountError),
    /// `EXPOSE` with something that is no port.
    #[error(transparent)]
    Port(PortError),
    /// A URL that is meant for git but cannot be read.
    #[error(transparent)]
    GitUrl(GitUrlError),
    /// The stages do not fit together.
    #[error(transparent)]
    Stage(StageError),
    /// The options of the build checks cannot be read.
    #[error("failed to parse check options: {0}")]
    CheckConfig(CheckConfigError),
    /// Build checks failed that were to fail the build.
    #[error("lint violation found for rules: {}", rules.join(", "))]
    Violations {
        /// Their rules.
        rules: Vec<&'static str>,
    },
}

/// An instruction that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InstructionError {
    /// A keyword that does not exist.
    #[error("unknown instruction: {keyword}{suggestion}")]
    Unknown {
        /// The keyword as written.
        keyword: String,
        /// A keyword that it may have meant.
        suggestion: Suggestion,
    },
    /// A flag that cannot be read.
    #[error(transparent)]
    Flag(FlagError),
    /// A `--mount` flag that cannot be read.
    #[error(transparent)]
    Mount(MountError),
    /// A `--device` flag that cannot be read.
    #[error(transparent)]
    Device(DeviceError),
    /// Arguments that cannot be split.
    #[error(transparent)]
    Arguments(ParseErrorKind),
    /// A heredoc word that cannot be read.
    #[error(transparent)]
    Heredoc(WordError),
    /// No arguments.
    #[error("{keyword} requires at least one argument")]
    AtLeastOne {
        /// The keyword.
        keyword: &'static str,
    },
    /// None or several arguments.
    #[error("{keyword} requires exactly one argument")]
    ExactlyOne {
        /// The keyword.
        keyword: &'static str,
    },
    /// Sources without a destination.
    #[error(
        "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination {
        /// The keyword.
        keyword: &'static str,
    },
    /// A heredoc as destination.
    #[error("{keyword} cannot accept a heredoc as a destination")]
    HeredocDestination {
        /// The keyword.
        keyword: &'static str,
    },
    /// A pair without a name.
    #[error("{keyword} names can not be blank")]
    BlankName {
        /// The keyword.
        keyword: &'static str,
    },
    /// `FROM` that is neither `FROM base` nor `FROM base AS name`.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// A stage name with characters that it cannot have.
    #[error(
        "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
    )]
    StageName {
        /// The name.
        name: String,
    },
    /// `ONBUILD ONBUILD`.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChain,
    /// An instruction that changes more than an image's configuration.
    #[error("{keyword} is not a valid change command")]
    NotAChange {
        /// Its keyword.
        keyword: String,
    },
    /// Several sources and a destination that is no directory.
    #[error(
        "When using {keyword} with more than one source file, the destination must be a directory and end with a /"
    )]
    SeveralSources {
        /// The keyword.
        keyword: &'static str,
    },
    /// `COPY` from where only `ADD` copies from.
    #[error("source can't be a {what} for COPY")]
    CopySource {
        /// What the source is.
        what: &'static str,
    },
    /// `--chmod` that is no mode.
    #[error(transparent)]
    Chmod(engine::mode::ModeError),
    /// `--checksum` that is no digest.
    #[error("invalid checksum digest format: {checksum:?}")]
    Checksum {
        /// The checksum.
        checksum: String,
    },
    /// `--checksum` for several sources.
    #[error("checksum can't be specified for multiple sources")]
    ChecksumSources,
    /// `--checksum` for a file of the context.
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumLocal,
    /// `--checksum` and the URL do not agree.
    #[error("checksum mismatch {flag:?} != {query:?}")]
    Checksums {
        /// The flag's.
        flag: String,
        /// The URL's.
        query: String,
    },
    /// `--keep-git-dir` and the URL do not agree.
    #[error("inconsistent keep-git-dir configuration")]
    KeepGitDir,
    /// A signal that does not exist.
    #[error("invalid signal: {0}")]
    Signal(String),
    /// Something that has to be allowed when the build is started.
    #[error("{entitlement} is not allowed: start the build with --allow {entitlement}")]
    NotAllowed {
        /// What has to be allowed.
        entitlement: &'static str,
    },
    /// A mount over everything.
    #[error("invalid mount target {target:?}")]
    MountTarget {
        /// The target.
        target: String,
    },
    /// An instruction that cannot be a trigger.
    #[error("{keyword} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger {
        /// Its keyword.
        keyword: String,
    },
    /// An image's trigger that is not one instruction.
    #[error("onbuild trigger should be a single expression")]
    TriggerCount,
    /// Arguments that are not a JSON array of strings.
    #[error("{keyword} requires the arguments to be in JSON form")]
    NotJson {
        /// The keyword.
        keyword: &'static str,
    },
    /// `HEALTHCHECK NONE` with arguments.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    /// `HEALTHCHECK CMD` without a command.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    /// A health check that is neither `NONE` nor `CMD`.
    #[error("Unknown type {word:?} in HEALTHCHECK (try CMD)")]
    HealthcheckType {
        /// The word found, in upper case.
        word: String,
    },
    /// A duration that cannot be read.
    #[error("{0}")]
    Duration(String),
    /// An interval that is too short.
    #[error("Interval {flag:?} cannot be less than 1ms")]
    Interval {
        /// The flag without dashes.
        flag: &'static str,
    },
    /// Retries that are not a number.
    #[error("strconv.ParseInt: parsing {value:?}: {reason}")]
    Retries {
        /// The value.
        value: String,
        /// `invalid syntax` or `value out of range`.
        reason: &'static str,
    },
    /// Fewer than no retries.
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i32),
    /// A volume without a path.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// A network that does not exist.
    #[error("invalid network mode {value:?}")]
    Network {
        /// The value.
        value: String,
    },
    /// A security mode that does not exist.
    #[error("security {value:?} is not valid")]
    Security {
        /// The value.
        value: String,
    },
    /// An instruction before the first `FROM`.
    #[error("no build stage in current context")]
    BeforeFrom,
}

impl InstructionError {
    /// Returns the word of the text that is wrong, if it is one.
    fn subject(&self) -> Option<&str> {
        match self {
            Self::Unknown { keyword, .. } => Some(keyword),
            Self::Flag(error) => Some(error.subject()),
            Self::StageName { name } => Some(name),
            Self::Network { value } | Self::Security { value } | Self::Retries { value, .. } => {
                Some(value)
            }
            Self::Mount(_) => Some("--mount"),
            Self::Device(_) => Some("--device"),
            _ => None,
        }
    }
}

/// Stages that do not fit together.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StageError {
    /// A file without `FROM`.
    #[error("dockerfile contains no stages to build")]
    None,
    /// A base that expands to nothing.
    #[error("base name ({base}) should not be blank")]
    BlankBase {
        /// The base as written.
        base: String,
    },
    /// A base that is no image name.
    #[error("failed to parse stage name {base:?}: {reason}")]
    Base {
        /// The base, expanded.
        base: String,
        /// Why not.
        reason: String,
    },
    /// A platform that expands to nothing.
    #[error("empty platform value from expression {expression}{suggestion}")]
    EmptyPlatform {
        /// The platform as written.
        expression: String,
        /// An argument that it may have meant.
        suggestion: Suggestion,
    },
    /// A platform that cannot be read.
    #[error("failed to parse platform {expression}: {reason}{suggestion}")]
    Platform {
        /// The platform as written.
        expression: String,
        /// Why.
        reason: String,
        /// An argument that it may have meant.
        suggestion: Suggestion,
    },
    /// A target that does not exist.
    #[error("target stage {target:?} could not be found{suggestion}")]
    UnknownTarget {
        /// The target.
        target: String,
        /// A stage that it may have meant.
        suggestion: Suggestion,
    },
    /// Stages that need each other.
    #[error("circular dependency detected on stage: {stage}")]
    Circular {
        /// One of them.
        stage: String,
    },
    /// `COPY --from` with a number that no stage has.
    #[error("invalid stage index {index}")]
    Index {
        /// The number.
        index: i64,
    },
    /// `COPY --from` with a variable.
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
    )]
    VariableFrom,
    /// `COPY --from` a stage that comes later.
    #[error(
        "cannot copy from stage {from:?}, it needs to be defined before current stage {stage:?}"
    )]
    CopyFromLater {
        /// The stage copied from.
        from: String,
        /// The stage copied to.
        stage: String,
    },
    /// `RUN --mount=from` a stage that comes later.
    #[error(
        "cannot mount from stage {from:?} to {target:?}, stage needs to be defined before current command"
    )]
    MountFromLater {
        /// The stage mounted.
        from: String,
        /// Where.
        target: String,
    },
}

impl Error {
    /// Places an error.
    pub fn new(kind: ErrorKind, lines: Lines) -> Self {
        Self { kind, lines }
    }

    /// Shows the error in the text it is about: file, line, column, the line itself and a caret.
    pub fn render(&self, file: &str, text: &str) -> String {
        let Some(line) = self.lines.first.checked_sub(1).and_then(|line| text.lines().nth(line))
        else {
            return format!("error: {}\n --> {file}\n", self.message());
        };
        let (number, line, column, width) = self.mark(text, line);
        let gutter = " ".repeat(number.to_string().len());
        let Marked { line, indent, carets } = Marked::new(line, column, width);
        format!(
            "error: {}\n{gutter}--> {file}:{number}:{}\n{gutter} |\n{number} | {line}\n{gutter} | {indent}{carets}\n",
            self.message(),
            column + 1,
        )
    }

    /// Returns what is wrong and why, in one line.
    fn message(&self) -> String {
        let mut message = self.kind.to_string();
        let mut cause = std::error::Error::source(&self.kind);
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        message
    }

    /// Finds the characters to point at: the wrong word, or else the first line as a whole.
    fn mark<'t>(&self, text: &'t str, first: &'t str) -> (usize, &'t str, usize, usize) {
        let Lines { first: number, last } = self.lines;
        if let Some(subject) = self.subject().filter(|subject| !subject.is_empty()) {
            let lines =
                text.lines().enumerate().skip(number - 1).take(last.max(number) - number + 1);
            for (index, line) in lines {
                if let Some(at) = line.find(subject) {
                    return (index + 1, line, line[..at].chars().count(), subject.chars().count());
                }
            }
        }
        let column = first.chars().take_while(|char| char.is_whitespace()).count();
        (number, first, column, first.trim().chars().count().max(1))
    }

    fn subject(&self) -> Option<&str> {
        match &self.kind {
            ErrorKind::Instruction(error) => error.subject(),
            ErrorKind::Word(error) => Some(&error.word),
            ErrorKind::Stage(StageError::BlankBase { base } | StageError::Base { base, .. }) => {
                Some(base)
            }
            ErrorKind::Stage(
                StageError::EmptyPlatform { expression, .. }
                | StageError::Platform { expression, .. },
            ) => Some(expression),
            ErrorKind::Stage(StageError::VariableFrom | StageError::CopyFromLater { .. }) => {
                Some("--from")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::Instruction(error) if !matches!(error, InstructionError::BeforeFrom) => {
                write!(f, "dockerfile parse error on line {}: {error}", self.lines.first)
            }
            kind => kind.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self::new(ErrorKind::Text(error.kind), error.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suggest::nearest;

    fn check(text: &str, kind: ErrorKind, (first, last): (usize, usize), expected: &str) {
        assert_eq!(Error::new(kind, Lines { first, last }).render("Dockerfile", text), expected);
    }

    #[test]
    fn errors_point_at_the_wrong_word() {
        let keyword = "RNU".to_owned();
        let suggestion = nearest("RNU", ["RUN"]);
        check(
            "FROM a\n\tRNU b\n",
            ErrorKind::Instruction(InstructionError::Unknown { keyword, suggestion }),
            (2, 2),
            "error: unknown instruction: RNU (did you mean RUN?)\n --> Dockerfile:2:2\n  |\n2 | \tRNU b\n  | \t^^^\n",
        );
        let flag = FlagError::MissingValue { flag: "--chown".to_owned() };
        check(
            "FROM a\nCOPY --link \\\n  --chown b c\n",
            ErrorKind::Instruction(InstructionError::Flag(flag)),
            (2, 3),
            "error: missing a value on flag: --chown\n --> Dockerfile:3:3\n  |\n3 |   --chown b c\n  |   ^^^^^^^\n",
        );
    }

    #[test]
    fn errors_point_at_the_line_otherwise() {
        check(
            "FROM a\n  WORKDIR\n",
            ErrorKind::Instruction(InstructionError::ExactlyOne { keyword: "WORKDIR" }),
            (2, 2),
            "error: WORKDIR requires exactly one argument\n --> Dockerfile:2:3\n  |\n2 |   WORKDIR\n  |   ^^^^^^^\n",
        );
        check(
            "FROM a\n",
            ErrorKind::Stage(StageError::None),
            (0, 0),
            "error: dockerfile contains no stages to build\n --> Dockerfile\n",
        );
    }
}
