//! What can be wrong with a project, and how it is shown in its text.
//!
//! Prints nothing: [`Error::render`] returns a string.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::place::Place;
use frontend::suggest::Suggestion;

/// Why a project cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither here nor in a parent folder is there a compose file.
    #[error("no configuration file provided: not found (looked for compose.yaml, compose.yml, docker-compose.yml and docker-compose.yaml in {} and its parents; name one with -f)", dir.display())]
    NoFile {
        /// Where the search began.
        dir: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder where a file should be.
    #[error("{} is a directory, not a file", path.display())]
    IsDirectory {
        /// The folder.
        path: PathBuf,
    },
    /// A file that is larger than compose files can be.
    #[error("{} is {size} bytes, and a compose file may have {limit} at most", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A file that is not text.
    #[error("{name} is not valid UTF-8 text (byte {at})")]
    NotText {
        /// The file.
        name: String,
        /// The first byte that is none.
        at: usize,
    },
    /// Nothing in the files.
    #[error("empty compose file: {name}")]
    Empty {
        /// The file.
        name: String,
    },
    /// A name that a project cannot have.
    #[error(
        "invalid project name {name:?}: must consist only of lowercase alphanumeric characters, hyphens, and underscores as well as start with a letter or number"
    )]
    ProjectName {
        /// The name.
        name: String,
    },
    /// No name could be found for the project.
    #[error(
        "project name must not be empty: none can be made of the folder {}, in whose name is neither a letter from a to \
         z nor a digit; give one with -p, COMPOSE_PROJECT_NAME or `name:` in the compose file", dir.display()
    )]
    NoProjectName {
        /// The folder.
        dir: PathBuf,
    },
    /// A name of which no names of networks and containers can be made.
    #[error(
        "project name has {length} characters: {most} are the most; give another one with -p, COMPOSE_PROJECT_NAME or \
         `name:` in the compose file"
    )]
    LongProjectName {
        /// How many it has.
        length: usize,
        /// How many are allowed.
        most: usize,
        /// Where it stands.
        place: Option<Place>,
    },
    /// A variable file that cannot be understood.
    #[error("failed to read {}: line {line}: {wrong}", path.display())]
    VariableFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        wrong: Box<Wrong>,
    },
    /// A file named by `env_file` or `label_file` that does not exist.
    #[error("{what} file {} not found (service {service:?})", path.display())]
    ServiceFile {
        /// `env` or `label`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The service that names it.
        service: String,
        /// Where it names it.
        place: Option<Place>,
    },
    /// A service that was asked for and does not exist.
    #[error("no such service: {service}{suggestion}")]
    NoService {
        /// Its name.
        service: String,
        /// A name that it may have meant.
        suggestion: Suggestion,
    },
    /// Files that include each other.
    #[error("include cycle detected:\n{}", chain.join("\n include "))]
    IncludeCycle {
        /// The files, the first one again at the end.
        chain: Vec<String>,
    },
    /// Services that extend each other.
    #[error("Circular reference:\n  {}", chain.join("\n  extends "))]
    ExtendsCycle {
        /// `service in file`, the first one again at the end.
        chain: Vec<String>,
    },
    /// Services that wait for each other.
    #[error("dependency cycle detected: {}", chain.join(" -> "))]
    DependencyCycle {
        /// The services, the first one again at the end.
        chain: Vec<String>,
        /// Where the first one says that it waits.
        place: Option<Place>,
    },
    /// Something that a compose file says is wrong.
    #[error(transparent)]
    Mistake(Box<Mistake>),
}

impl From<Mistake> for Error {
    fn from(mistake: Mistake) -> Self {
        Self::Mistake(Box::new(mistake))
    }
}

impl Error {
    /// The error as a person is shown it: where, what, and the line with a caret.
    pub fn render(&self) -> String {
        let place = match self {
            Self::Mistake(mistake) => mistake.place.as_ref(),
            Self::DependencyCycle { place, .. }
            | Self::ServiceFile { place, .. }
            | Self::LongProjectName { place, .. } => place.as_ref(),
            _ => None,
        };
        match (place, self) {
            (Some(place), _) => format!("{}: {self}\n{}", place.name(), place.excerpt()),
            (None, other) => {
                let mut shown = other.to_string();
                let mut cause = std::error::Error::source(other);
                while let Some(error) = cause {
                    shown.push_str(&format!(": {error}"));
                    cause = error.source();
                }
                shown
            }
        }
    }
}

/// Something wrong at a place in a compose file.
#[derive(Debug)]
pub struct Mistake {
    /// What is wrong.
    pub wrong: Box<Wrong>,
    /// The attribute, as `services.web.ports[0]`; empty for the file as a whole.
    pub attribute: String,
    /// Where; none for what follows from several places.
    pub place: Option<Place>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attribute.as_str() {
            "" => self.wrong.fmt(f),
            attribute => write!(f, "{attribute}: {}", self.wrong),
        }
    }
}

impl std::error::Error for Mistake {}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Text that is no YAML.
    #[error("not valid YAML: {0}")]
    Syntax(String),
    /// A key twice in one mapping.
    #[error("mapping key {key:?} already defined at line {line}")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where it stands first.
        line: u32,
    },
    /// A key that is a number, a boolean, a list or a mapping.
    #[error("non-string key: {key} (quote it)")]
    KeyIsNoString {
        /// The key as written.
        key: String,
    },
    /// Values inside values without end.
    #[error("nested more than {limit} levels deep")]
    TooDeep {
        /// What is allowed.
        limit: usize,
    },
    /// Aliases of aliases that come to more than a person writes.
    #[error("aliases expand to more than {limit} values")]
    TooManyAliases {
        /// What is allowed.
        limit: usize,
    },
    /// An anchor inside itself.
    #[error("the alias refers to a value that contains it")]
    AliasOfItself,
    /// `<<` with something that has no keys.
    #[error("the merge key `<<` needs a mapping or a list of mappings")]
    MergeKey,
    /// Something else than a mapping at the top.
    #[error("top-level object must be a mapping")]
    TopLevel,
    /// `${` that is not finished.
    #[error("invalid interpolation format {template:?}; a $ that is meant as such is written $$")]
    Template {
        /// The whole text.
        template: String,
    },
    /// `${NAME:?reason}` without a value.
    #[error("required variable {variable} is missing a value{}{reason}", if reason.is_empty() { "" } else { ": " })]
    MissingVariable {
        /// The variable.
        variable: String,
        /// What the file says about it.
        reason: String,
    },
    /// Text that should have been a number or a boolean.
    #[error("failed to cast to expected type: {value:?} is not {expected}")]
    Cast {
        /// What it should have been.
        expected: &'static str,
        /// What it is.
        value: String,
    },
    /// A key that means nothing.
    #[error("additional property {key:?} is not allowed{suggestion}")]
    UnknownKey {
        /// The key.
        key: String,
        /// A key that it may have meant.
        suggestion: Suggestion,
    },
    /// A name with characters that names cannot have.
    #[error("invalid name {name:?}: letters, digits, '.', '_' and '-' are allowed")]
    Name {
        /// The name.
        name: String,
    },
    /// The wrong kind of value.
    #[error("must be {expected}, not {found}")]
    Type {
        /// What it should be.
        expected: String,
        /// What it is.
        found: &'static str,
    },
    /// A value that is not among those allowed.
    #[error("{value:?} is not one of {}{suggestion}", allowed.join(", "))]
    Choice {
        /// The value.
        value: String,
        /// What is allowed.
        allowed: &'static [&'static str],
        /// What it may have meant.
        suggestion: Suggestion,
    },
    /// A mapping without a key that it must have.
    #[error("missing property {key:?}")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// The same item twice.
    #[error("item {item} is there twice")]
    NotUnique {
        /// The item.
        item: String,
    },
    /// A number outside its bounds.
    #[error("must be between {least} and {most}")]
    Range {
        /// The least.
        least: i64,
        /// The most.
        most: i64,
    },
    /// A port that cannot be read.
    #[error("invalid {what}: {value}")]
    Port {
        /// `containerPort`, `hostPort`, `ip address`, `proto` or `port range`.
        what: &'static str,
        /// The text.
        value: String,
    },
    /// A mount that cannot be read.
    #[error("invalid spec: {spec}: {reason}")]
    Mount {
        /// The text.
        spec: String,
        /// Why.
        reason: &'static str,
    },
    /// A device with too many colons.
    #[error("confusing device mapping, please use long syntax: {value}")]
    Device {
        /// The text.
        value: String,
    },
    /// An additional host without an address.
    #[error("invalid additional host, missing IP: {value}")]
    HostWithoutAddress {
        /// The text.
        value: String,
    },
    /// An additional host without a usable name.
    #[error("bad host name '{host}'")]
    HostName {
        /// The name.
        host: String,
    },
    /// A duration that cannot be read.
    #[error(
        "invalid duration {value:?} (numbers with the units w, d, h, m, s, ms, us, ns, as in \"1m30s\")"
    )]
    Duration {
        /// The text.
        value: String,
    },
    /// A size that cannot be read.
    #[error("invalid size {value:?} (a number with b, k, m, g, t or p, as in \"512m\")")]
    Size {
        /// The text.
        value: String,
    },
    /// A number that cannot be read.
    #[error("invalid number {value:?}")]
    Number {
        /// The text.
        value: String,
    },
    /// A boolean that cannot be read.
    #[error("invalid boolean: {value}")]
    Boolean {
        /// The text.
        value: String,
    },
    /// A command whose quotes do not close.
    #[error("invalid command line string: {value}")]
    Command {
        /// The text.
        value: String,
    },
    /// A pair that should have been `key=value`.
    #[error("invalid value {value}, expected key=value")]
    Pair {
        /// The text.
        value: String,
    },
    /// A variable with a space behind its name.
    #[error("environment variable {name:?} is declared with a trailing space")]
    TrailingSpace {
        /// Its name.
        name: String,
    },
    /// Values of kinds that cannot be merged.
    #[error("cannot override {base} with {over}")]
    Merge {
        /// What the earlier file has.
        base: &'static str,
        /// What the later file has.
        over: &'static str,
    },
    /// `extends` of a service that does not exist.
    #[error("cannot extend service {service:?} in {file}: service {base:?} not found{suggestion}")]
    NoBase {
        /// The service.
        service: String,
        /// The file that was looked in.
        file: String,
        /// What it extends.
        base: String,
        /// What it may have meant.
        suggestion: Suggestion,
    },
    /// A file that cannot be loaded from here.
    #[error("{0}: remote compose files are not supported")]
    Remote(String),
    /// Another error while a file was loaded that this one names.
    #[error("{0}")]
    Nested(String),
    /// Keys that exclude each other.
    #[error("{} attributes are mutually exclusive", keys.join("|"))]
    Exclusive {
        /// The keys.
        keys: &'static [&'static str],
    },
    /// None of the keys of which one is needed.
    #[error("one of {} must be set", keys.join("|"))]
    OneOf {
        /// The keys.
        keys: &'static [&'static str],
    },
    /// `external` with something that says how to make it.
    #[error("conflicting parameters \"external\" and {key:?} specified")]
    External {
        /// The key.
        key: String,
    },
    /// `external.name` and `name` that differ.
    #[error("name and external.name conflict; only use name")]
    ExternalName,
    /// A text that must not be empty.
    #[error("value can't be blank")]
    Blank,
    /// A reference to something that is not declared.
    #[error("service {service:?} refers to undefined {what} {name}{suggestion}")]
    Undefined {
        /// The service.
        service: String,
        /// `network`, `volume`, `secret`, `config` or `model`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What it may have meant.
        suggestion: Suggestion,
    },
    /// A dependency on a service that does not exist.
    #[error("service {service:?} depends on undefined service {name:?}{suggestion}")]
    UndefinedService {
        /// The service.
        service: String,
        /// What it depends on.
        name: String,
        /// What it may have meant.
        suggestion: Suggestion,
    },
    /// A dependency on a service whose profile is not active.
    #[error("service {service:?} depends on service {name:?}, which no active profile enables (activate one of {}, or set `required: false`)", profiles.join(", "))]
    DisabledService {
        /// The service.
        service: String,
        /// What it depends on.
        name: String,
        /// What would enable it.
        profiles: Vec<String>,
    },
    /// A service of which nothing can be run.
    #[error("service {service:?} has neither an image nor a build context specified")]
    NoImage {
        /// The service.
        service: String,
    },
    /// Two things of one service that do not go together.
    #[error("service {service:?}: {reason}")]
    Inconsistent {
        /// The service.
        service: String,
        /// What does not go together.
        reason: String,
    },
    /// Something in the way of a service's containers.
    #[error("{0}")]
    Unrunnable(String),
    /// A key of a variable file with a space.
    #[error("key cannot contain a space")]
    KeyWithSpace,
    /// A value in a variable file that is no variable's.
    #[error("no variable name on line '{text}'")]
    NoVariableName {
        /// The line.
        text: String,
    },
    /// A character that no variable name has.
    #[error("unexpected character {character:?} in variable name {text:?}")]
    VariableName {
        /// The character.
        character: char,
        /// The line.
        text: String,
    },
    /// A quote that does not close.
    #[error("unterminated quoted value {text}")]
    Unterminated {
        /// The text from its quote on.
        text: String,
    },
    /// A format of variable files that does not exist.
    #[error("unsupported env_file format {format:?}")]
    EnvFileFormat {
        /// The format.
        format: String,
    },
}
