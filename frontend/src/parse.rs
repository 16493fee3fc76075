//! From raw instructions to typed ones.
//!
//! One function per instruction; what a line is split into is [`crate::lines`]' business, what an
//! instruction means to an image is the lowering's. Variables stay as written.

use crate::device::Device;
use crate::error::{Error, ErrorKind, InstructionError, StageError};
use crate::flags::{FlagKind, Flags};
use crate::healthcheck;
use crate::heredoc::parse_heredoc;
use crate::instruction::{
    Add, ArgPair, CommandLine, Copy, From, InlineFile, Instruction, KeyValue, Kind, Run,
    RunNetwork, RunSecurity, SourcesAndDest,
};
use crate::lines::{
    self, Dockerfile, RawInstruction, Separator, parse_json_array, parse_name_values, parse_words,
    split_blanks,
};
use crate::mount::MountFlag;
use crate::span::Lines;
use crate::suggest;

type Result<T, E = InstructionError> = std::result::Result<T, E>;

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads all instructions of a file, in order; only `ARG` may come before the first `FROM`.
pub fn parse_file(dockerfile: &Dockerfile) -> Result<Vec<Instruction>, Error> {
    let mut instructions = Vec::with_capacity(dockerfile.instructions.len());
    let mut in_stage = false;
    for raw in &dockerfile.instructions {
        let instruction = parse_instruction(raw, dockerfile.escape)?;
        match instruction.kind {
            Kind::From(_) => in_stage = true,
            Kind::Arg(_) => {}
            _ if in_stage => {}
            _ => {
                return Err(Error::new(
                    ErrorKind::Instruction(InstructionError::BeforeFrom),
                    raw.lines,
                ));
            }
        }
        instructions.push(instruction);
    }
    if !in_stage {
        return Err(Error::new(ErrorKind::Stage(StageError::None), Lines::default()));
    }
    Ok(instructions)
}

/// Reads one instruction.
pub fn parse_instruction(raw: &RawInstruction, escape: char) -> Result<Instruction, Error> {
    let kind = parse_kind(raw, escape)
        .map_err(|error| Error::new(ErrorKind::Instruction(error), raw.lines))?;
    Ok(Instruction {
        kind,
        keyword: raw.keyword.clone(),
        comments: raw.comments.clone(),
        lines: raw.lines,
        span: raw.span,
        original: raw.original.trim().to_owned(),
    })
}

/// Reads a trigger that `ONBUILD` left behind, in an image or a stage, as standing at `lines`.
pub fn parse_trigger(expression: &str, lines: Lines) -> Result<Instruction, Error> {
    let place = |kind| Error::new(kind, lines);
    let file =
        lines::parse(expression.as_bytes()).map_err(|error| place(ErrorKind::Text(error.kind)))?;
    let [raw] = file.instructions.as_slice() else {
        return Err(place(ErrorKind::Instruction(InstructionError::TriggerCount)));
    };
    refuse_trigger(&raw.keyword).map_err(|error| place(ErrorKind::Instruction(error)))?;
    let instruction = parse_instruction(raw, file.escape).map_err(|error| place(error.kind))?;
    Ok(Instruction { lines, ..instruction })
}

fn parse_kind(raw: &RawInstruction, escape: char) -> Result<Kind> {
    Ok(match raw.keyword.to_ascii_uppercase().as_str() {
        "ADD" => Kind::Add(parse_add(raw)?),
        "ARG" => Kind::Arg(parse_arg(raw, escape)?),
        "CMD" => Kind::Cmd(parse_command(raw)?),
        "COPY" => Kind::Copy(parse_copy(raw)?),
        "ENTRYPOINT" => Kind::Entrypoint(parse_command(raw)?),
        "ENV" => Kind::Env(parse_pairs(raw, "ENV", escape)?),
        "EXPOSE" => Kind::Expose(parse_expose(raw)?),
        "FROM" => Kind::From(parse_from(raw)?),
        "HEALTHCHECK" => Kind::Healthcheck(healthcheck::parse(raw)?),
        "LABEL" => Kind::Label(parse_pairs(raw, "LABEL", escape)?),
        "MAINTAINER" => Kind::Maintainer(parse_one(raw, "MAINTAINER")?),
        "ONBUILD" => Kind::Onbuild(parse_onbuild(raw, escape)?),
        "RUN" => Kind::Run(parse_run(raw)?),
        "SHELL" => Kind::Shell(parse_shell(raw)?),
        "STOPSIGNAL" => Kind::StopSignal(parse_one(raw, "STOPSIGNAL")?),
        "USER" => Kind::User(parse_one(raw, "USER")?),
        "VOLUME" => Kind::Volume(parse_volume(raw)?),
        "WORKDIR" => Kind::Workdir(parse_one(raw, "WORKDIR")?),
        _ => {
            let keyword = raw.keyword.clone();
            let suggestion = suggest::nearest_ignoring_case(&keyword, KEYWORDS);
            return Err(InstructionError::Unknown { keyword, suggestion });
        }
    })
}

fn flags(raw: &RawInstruction, known: &[(&'static str, FlagKind)]) -> Result<Flags> {
    Flags::parse(&raw.flags, known).map_err(InstructionError::Flag)
}

/// Reads a JSON array of strings or else words.
fn json_or_words(raw: &RawInstruction) -> Result<Vec<String>> {
    let array = parse_json_array(&raw.rest).map_err(InstructionError::Arguments)?;
    Ok(array.unwrap_or_else(|| split_blanks(&raw.rest)))
}

fn parse_one(raw: &RawInstruction, keyword: &'static str) -> Result<String> {
    if raw.rest.is_empty() {
        return Err(InstructionError::ExactlyOne { keyword });
    }
    flags(raw, &[])?;
    Ok(raw.rest.clone())
}

fn parse_pairs(raw: &RawInstruction, keyword: &'static str, escape: char) -> Result<Vec<KeyValue>> {
    flags(raw, &[])?;
    let pairs =
        parse_name_values(&raw.rest, keyword, escape).map_err(InstructionError::Arguments)?;
    if pairs.is_empty() {
        return Err(InstructionError::AtLeastOne { keyword });
    }
    let pair = |pair: lines::NameValue| match pair.name.as_str() {
        "" => Err(InstructionError::BlankName { keyword }),
        _ => Ok(KeyValue {
            key: pair.name,
            value: pair.value,
            legacy: pair.separator == Separator::Space,
        }),
    };
    pairs.into_iter().map(pair).collect()
}

fn parse_arg(raw: &RawInstruction, escape: char) -> Result<Vec<ArgPair>> {
    let words = parse_words(&raw.rest, escape);
    if words.is_empty() {
        return Err(InstructionError::AtLeastOne { keyword: "ARG" });
    }
    let pair = |word: &String| {
        let (key, value) = match word.split_once('=') {
            Some(("", _)) => return Err(InstructionError::BlankName { keyword: "ARG" }),
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        Ok(ArgPair { key: key.to_owned(), value, description: description(&raw.comments, key) })
    };
    words.iter().map(pair).collect()
}

fn parse_from(raw: &RawInstruction) -> Result<From> {
    let words = split_blanks(&raw.rest);
    let (base, name) = match words.as_slice() {
        [base] => (base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            (base, Some(parse_stage_name(name)?))
        }
        _ => return Err(InstructionError::FromArguments),
    };
    let mut flags = flags(raw, &[("platform", FlagKind::One)])?;
    Ok(From {
        base: base.clone(),
        platform: flags.one("platform"),
        description: name.as_ref().and_then(|name| description(&raw.comments, name)),
        name,
    })
}

fn parse_stage_name(written: &str) -> Result<String> {
    let name = written.to_lowercase();
    let valid = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|char| matches!(char, 'a'..='z' | '0'..='9' | '-' | '_' | '.'));
    if !valid {
        return Err(InstructionError::StageName { name: written.to_owned() });
    }
    Ok(name)
}

/// Finds what a comment `<name> <text>` says.
fn description(comments: &[String], name: &str) -> Option<String> {
    let text = |line: &String| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    comments.iter().find_map(text)
}

fn parse_command(raw: &RawInstruction) -> Result<CommandLine> {
    flags(raw, &[])?;
    command_line(raw)
}

fn command_line(raw: &RawInstruction) -> Result<CommandLine> {
    let array = parse_json_array(&raw.rest).map_err(InstructionError::Arguments)?;
    Ok(array.map_or_else(|| CommandLine::Shell(raw.rest.clone()), CommandLine::Exec))
}

fn parse_run(raw: &RawInstruction) -> Result<Run> {
    let mut flags = flags(
        raw,
        &[
            ("mount", FlagKind::Many),
            ("network", FlagKind::One),
            ("security", FlagKind::One),
            ("device", FlagKind::Many),
        ],
    )?;
    let mounts = flags.many("mount").into_iter().map(MountFlag::parse);
    let devices = flags.many("device");
    let devices =
        devices.iter().map(|device| Device::parse(device).map_err(InstructionError::Device));
    Ok(Run {
        command: command_line(raw)?,
        heredocs: raw.heredocs.clone(),
        mounts: mounts.collect::<Result<_, _>>().map_err(InstructionError::Mount)?,
        network: match flags.one("network").as_deref() {
            None | Some("default") => RunNetwork::Default,
            Some("none") => RunNetwork::None,
            Some("host") => RunNetwork::Host,
            Some(other) => {
                return Err(InstructionError::Network { value: other.to_owned() });
            }
        },
        security: match flags.one("security").as_deref() {
            None | Some("sandbox") => RunSecurity::Sandbox,
            Some("insecure") => RunSecurity::Insecure,
            Some(other) => {
                return Err(InstructionError::Security { value: other.to_owned() });
            }
        },
        devices: devices.collect::<Result<_, _>>()?,
    })
}

fn parse_copy(raw: &RawInstruction) -> Result<Copy> {
    let words = paths(raw, "COPY")?;
    let mut flags = flags(
        raw,
        &[
            ("chown", FlagKind::One),
            ("from", FlagKind::One),
            ("chmod", FlagKind::One),
            ("link", FlagKind::Bool),
            ("exclude", FlagKind::Many),
            ("parents", FlagKind::Bool),
        ],
    )?;
    Ok(Copy {
        paths: sources_and_dest(raw, words, "COPY")?,
        from: flags.one("from"),
        chown: flags.one("chown"),
        chmod: flags.one("chmod"),
        link: flags.boolean("link").unwrap_or(false),
        parents: flags.boolean("parents").unwrap_or(false),
        excludes: flags.many("exclude"),
    })
}

fn parse_add(raw: &RawInstruction) -> Result<Add> {
    let words = paths(raw, "ADD")?;
    let mut flags = flags(
        raw,
        &[
            ("chown", FlagKind::One),
            ("chmod", FlagKind::One),
            ("link", FlagKind::Bool),
            ("keep-git-dir", FlagKind::Bool),
            ("checksum", FlagKind::One),
            ("unpack", FlagKind::Bool),
            ("exclude", FlagKind::Many),
        ],
    )?;
    Ok(Add {
        paths: sources_and_dest(raw, words, "ADD")?,
        chown: flags.one("chown"),
        chmod: flags.one("chmod"),
        link: flags.boolean("link").unwrap_or(false),
        excludes: flags.many("exclude"),
        keep_git_dir: flags.boolean("keep-git-dir"),
        checksum: flags.one("checksum"),
        unpack: flags.boolean("unpack"),
    })
}

fn paths(raw: &RawInstruction, keyword: &'static str) -> Result<Vec<String>> {
    let words = json_or_words(raw)?;
    if words.len() < 2 {
        return Err(InstructionError::NoDestination { keyword });
    }
    Ok(words)
}

/// Tells paths from heredocs and finds the bodies of the latter.
fn sources_and_dest(
    raw: &RawInstruction,
    mut words: Vec<String>,
    keyword: &'static str,
) -> Result<SourcesAndDest> {
    let dest = words.pop().expect("the caller has counted the words");
    let heredoc = |word: &str| parse_heredoc(word).map_err(InstructionError::Heredoc);
    if heredoc(&dest)?.is_some() {
        return Err(InstructionError::HeredocDestination { keyword });
    }
    let mut paths = SourcesAndDest { dest, ..SourcesAndDest::default() };
    for word in words {
        let Some(announced) = heredoc(&word)? else {
            paths.sources.push(word);
            continue;
        };
        let body = raw.heredocs.iter().rfind(|heredoc| heredoc.name == announced.name);
        paths.contents.push(InlineFile {
            data: body.map(lines::Heredoc::chomped).unwrap_or_default(),
            path: announced.name,
            expand: announced.expand,
        });
    }
    Ok(paths)
}

fn parse_expose(raw: &RawInstruction) -> Result<Vec<String>> {
    let mut ports = split_blanks(&raw.rest);
    if ports.is_empty() {
        return Err(InstructionError::AtLeastOne { keyword: "EXPOSE" });
    }
    flags(raw, &[])?;
    ports.sort();
    Ok(ports)
}

fn parse_volume(raw: &RawInstruction) -> Result<Vec<String>> {
    let paths = json_or_words(raw)?;
    if paths.is_empty() {
        return Err(InstructionError::AtLeastOne { keyword: "VOLUME" });
    }
    flags(raw, &[])?;
    let trimmed = |path: String| match path.trim() {
        "" => Err(InstructionError::EmptyVolume),
        path => Ok(path.to_owned()),
    };
    paths.into_iter().map(trimmed).collect()
}

fn parse_shell(raw: &RawInstruction) -> Result<Vec<String>> {
    let keyword = "SHELL";
    flags(raw, &[])?;
    match parse_json_array(&raw.rest).map_err(InstructionError::Arguments)? {
        Some(words) if !words.is_empty() => Ok(words),
        None if !raw.rest.is_empty() => Err(InstructionError::NotJson { keyword }),
        _ => Err(InstructionError::AtLeastOne { keyword }),
    }
}

/// Keeps the trigger's text, heredocs included: it is read when another build meets it.
fn parse_onbuild(raw: &RawInstruction, escape: char) -> Result<String> {
    let Some(trigger) = raw.nested(escape) else {
        return Err(InstructionError::AtLeastOne { keyword: "ONBUILD" });
    };
    flags(raw, &[])?;
    refuse_trigger(&trigger.keyword)?;
    let original = raw.original.trim_start();
    let mut text = original[raw.keyword.len()..].trim_start().to_owned();
    for heredoc in &raw.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(text)
}

fn refuse_trigger(keyword: &str) -> Result<()> {
    match keyword.to_ascii_uppercase().as_str() {
        "ONBUILD" => Err(InstructionError::OnbuildChain),
        keyword @ ("MAINTAINER" | "FROM") => {
            Err(InstructionError::OnbuildTrigger { keyword: keyword.to_owned() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
