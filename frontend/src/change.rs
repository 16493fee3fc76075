//! Dockerfile instructions applied to an image's configuration alone: `--change` of `import` and
//! `commit`.

use cache::oci::{Empty, ImageConfig};

use crate::error::Error;
use crate::error::{ErrorKind, InstructionError};
use crate::expand::Expander;
use crate::expose::parse_ports;
use crate::instruction::Kind;
use crate::lines;
use crate::lower_stage::{set_config, set_env, shell_of};
use crate::parse::parse_instruction;
use crate::span::Lines;

/// Applies each text, one instruction, to the configuration.
pub fn apply(image: &mut ImageConfig, changes: &[String]) -> Result<(), Error> {
    for text in changes {
        let place = |kind| Error::new(kind, Lines::default());
        let file =
            lines::parse(text.as_bytes()).map_err(|error| place(ErrorKind::Text(error.kind)))?;
        for raw in &file.instructions {
            let mut instruction = parse_instruction(raw, file.escape)?;
            let env = image.config.env.clone();
            let lookup = |name: &str| {
                env.iter()
                    .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
            };
            instruction.expand(&mut Expander::new(file.escape, &lookup))?;
            change(image, &instruction.kind, &raw.keyword)?;
        }
    }
    Ok(())
}

fn change(image: &mut ImageConfig, kind: &Kind, keyword: &str) -> Result<(), Error> {
    let place = |kind| Error::new(kind, Lines::default());
    let shell = shell_of(&image.config);
    match kind {
        Kind::Env(pairs) => {
            for pair in pairs {
                set_env(&mut image.config.env, &pair.key, &pair.value);
            }
        }
        Kind::Workdir(dir) => image.config.working_dir.clone_from(dir),
        Kind::Onbuild(trigger) => image.config.on_build.push(trigger.clone()),
        Kind::Expose(specs) => {
            let ports = parse_ports(specs).map_err(|error| place(ErrorKind::Port(error)))?;
            image.config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
        }
        Kind::Run(_)
        | Kind::Copy(_)
        | Kind::Add(_)
        | Kind::From(_)
        | Kind::Arg(_)
        | Kind::Shell(_) => {
            let keyword = keyword.to_uppercase();
            return Err(place(ErrorKind::Instruction(InstructionError::NotAChange { keyword })));
        }
        kind => {
            set_config(image, kind, &shell, &mut true);
            // Only a build says so of a command.
            if matches!(kind, Kind::Cmd(_)) {
                image.config.args_escaped = false;
            }
        }
    }
    Ok(())
}
