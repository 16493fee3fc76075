//! The command of a `RUN`: its words, its heredocs and the shell put together.
//!
//! Runs nothing, and expands nothing: variables in a command are the shell's.

use crate::heredoc::parse_heredoc;
use crate::instruction::{CommandLine, Run};

/// The command of a `RUN` once its heredocs have found their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunCommand {
    /// The whole command, shell included.
    pub args: Vec<String>,
    /// A file that the command is, to be mounted read-only and executable.
    pub script: Option<Script>,
    /// The first line of a heredoc that is the whole command, to show beside `RUN <<EOF`.
    pub summary: Option<String>,
}

/// A script of a `RUN` that begins with `#!`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The directory to mount it in.
    pub dir: &'static str,
    /// Its name there.
    pub name: String,
    /// Its content.
    pub data: String,
}

impl Run {
    /// Puts heredocs and shell into the command.
    ///
    /// A heredoc that is all there is becomes the script itself, so that shells without heredocs
    /// run it too; any other is left to the shell.
    pub fn to_command(&self, shell: &[String]) -> RunCommand {
        let plain = |command: &CommandLine| RunCommand {
            args: command.to_args(shell),
            script: None,
            summary: None,
        };
        let (CommandLine::Shell(text), [first, ..]) = (&self.command, self.heredocs.as_slice())
        else {
            return plain(&self.command);
        };
        if !matches!(parse_heredoc(text), Ok(Some(_))) {
            let bodies = self
                .heredocs
                .iter()
                .map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
            return plain(&CommandLine::Shell(format!("{text}{}", bodies.collect::<String>())));
        }
        let data = first.chomped();
        let summary = Some(summarize(&first.content));
        if !data.starts_with("#!") {
            return RunCommand { summary, ..plain(&CommandLine::Shell(data)) };
        }
        let script = Script { dir: "/dev/pipes", name: first.name.clone(), data };
        let command = CommandLine::Shell(format!("{}/{}", script.dir, script.name));
        RunCommand { script: Some(script), summary, ..plain(&command) }
    }
}

fn summarize(body: &str) -> String {
    let mut lines = body.trim().lines();
    let first = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() { "..." } else { "" };
    format!("{first}{more}")
}

#[cfg(test)]
mod tests {
    use crate::instruction::Kind;
    use crate::lines;
    use crate::parse::parse_instruction;

    #[test]
    fn heredocs_find_their_place() {
        let shell = ["/bin/sh".to_owned(), "-c".to_owned()];
        let check = |text: &str, last: &str, script: Option<&str>, summary: Option<&str>| {
            let file = lines::parse(text.as_bytes()).unwrap();
            let instruction = parse_instruction(&file.instructions[0], '\\').unwrap();
            let Kind::Run(run) = instruction.kind else { panic!("{text}") };
            let command = run.to_command(&shell);
            assert_eq!(command.args, [&shell[..], &[last.to_owned()]].concat(), "{text}");
            assert_eq!(command.script.map(|script| script.data).as_deref(), script, "{text}");
            assert_eq!(command.summary.as_deref(), summary, "{text}");
        };
        check("RUN a\\\n b", "a b", None, None);
        check("RUN <<X\na\nb\nX", "a\nb\n", None, Some("a..."));
        check("RUN <<-X\n\ta\nX", "a\n", None, Some("a"));
        check(
            "RUN <<X\n#!/bin/a\nb\nX",
            "/dev/pipes/X",
            Some("#!/bin/a\nb\n"),
            Some("#!/bin/a..."),
        );
        check("RUN <<X sh\na\nX", "<<X sh\na\nX", None, None);
        check("RUN cat <<X <<Y\na\nX\nb\nY", "cat <<X <<Y\na\nX\nb\nY", None, None);
    }
}
