//! The build checks of an instruction's text: keywords, names and comments.
//!
//! Expands nothing and knows no scope.

use std::collections::BTreeSet;

use crate::check_rules as rules;
use crate::checks::Linter;
use crate::error::{Error, ErrorKind, InstructionError};
use crate::instruction::{From, Instruction, Kind};
use crate::lines::{Dockerfile, RawInstruction, split_blanks};
use crate::parse::parse_instruction;

/// Checks the text of each instruction, and reads it.
pub(crate) fn check_instructions(
    dockerfile: &Dockerfile,
    linter: &mut Linter,
) -> Result<Vec<Instruction>, Error> {
    let mut instructions = Vec::new();
    let mut in_stage = false;
    for raw in &dockerfile.instructions {
        if raw.keyword.eq_ignore_ascii_case("maintainer") {
            let detail = "Maintainer instruction is deprecated in favor of using label".to_owned();
            linter.warn(&rules::MAINTAINER_DEPRECATED, &raw.comments, raw.lines, detail);
        }
        if raw.keyword.eq_ignore_ascii_case("from") {
            check_from_casing(raw, linter);
            in_stage = true;
        }
        let instruction = parse_instruction(raw, dockerfile.escape)?;
        if !in_stage && !matches!(instruction.kind, Kind::Arg(_)) {
            return Err(Error::new(
                ErrorKind::Instruction(InstructionError::BeforeFrom),
                raw.lines,
            ));
        }
        check_description(&instruction, linter);
        instructions.push(instruction);
    }
    Ok(instructions)
}

fn check_from_casing(raw: &RawInstruction, linter: &mut Linter) {
    let words = split_blanks(&raw.rest);
    let [_, keyword, name] = words.as_slice() else {
        return;
    };
    if *name != name.to_lowercase() {
        let detail = format!("Stage name '{name}' should be lowercase");
        linter.warn(&rules::STAGE_NAME_CASING, &raw.comments, raw.lines, detail);
    }
    // A keyword of mixed case is wrong by itself, and another rule's business.
    let matches = match casing(&raw.keyword) {
        Casing::Lower => *keyword == keyword.to_lowercase(),
        Casing::Upper => *keyword == keyword.to_uppercase(),
        Casing::Mixed => true,
    };
    if !matches {
        let detail = format!("'{keyword}' and '{}' keywords' casing do not match", raw.keyword);
        linter.warn(&rules::FROM_AS_CASING, &raw.comments, raw.lines, detail);
    }
}

/// Checks that the comment right before an argument or a named stage begins with its name.
fn check_description(instruction: &Instruction, linter: &mut Linter) {
    let (keyword, names): (_, Vec<&str>) = match &instruction.kind {
        Kind::From(From { name: Some(name), .. }) => ("FROM", vec![name]),
        Kind::Arg(pairs) => ("ARG", pairs.iter().map(|pair| pair.key.as_str()).collect()),
        _ => return,
    };
    let Some(comment) = instruction.comments.last() else {
        return;
    };
    if names.contains(&comment.split(' ').next().unwrap_or_default()) {
        return;
    }
    let example = if let [name] = names.as_slice() { name } else { "<arg_key>" };
    let detail =
        format!("Comment for {keyword} should follow the format: `# {example} <description>`");
    let rule = &rules::INVALID_DEFINITION_DESCRIPTION;
    linter.warn(rule, &instruction.comments, instruction.lines, detail);
}

pub(crate) fn check_stage_names(stages: &[Instruction], linter: &mut Linter) {
    let mut seen = BTreeSet::new();
    for instruction in stages {
        let Kind::From(From { name: Some(name), .. }) = &instruction.kind else {
            continue;
        };
        if matches!(name.as_str(), "context" | "scratch") {
            let detail =
                format!("Stage name should not use the same name as reserved stage {name:?}");
            linter.warn(&rules::RESERVED_STAGE_NAME, &[], instruction.lines, detail);
        }
        if !seen.insert(name) {
            let detail = format!("Duplicate stage name {name:?}, stage names should be unique");
            linter.warn(&rules::DUPLICATE_STAGE_NAME, &[], instruction.lines, detail);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Casing {
    Lower,
    Upper,
    Mixed,
}

fn casing(word: &str) -> Casing {
    if word == word.to_lowercase() {
        Casing::Lower
    } else if word == word.to_uppercase() {
        Casing::Upper
    } else {
        Casing::Mixed
    }
}

/// Checks that all keywords are in the case that most are in.
pub(crate) fn check_casing(stages: &[Instruction], linter: &mut Linter) {
    let count =
        |wanted| stages.iter().filter(|instruction| casing(&instruction.keyword) == wanted).count();
    let (majority, name) = if count(Casing::Lower) > count(Casing::Upper) {
        (Casing::Lower, "lowercase")
    } else {
        (Casing::Upper, "uppercase")
    };
    for Instruction { keyword, lines, .. } in stages {
        if casing(keyword) != majority {
            let detail = format!(
                "Command '{keyword}' should match the case of the command majority ({name})"
            );
            linter.warn(&rules::CONSISTENT_INSTRUCTION_CASING, &[], *lines, detail);
        }
    }
}
