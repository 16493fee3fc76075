//! `top`: a container's processes, as the host sees them.
//!
//! The columns of `ps -ef` are read from /proc; for others the host's `ps` is asked.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};
use cache::Store;
use clap::Args;
use engine::containers::Containers;
use rustix::process::Pid;

use crate::processes::{running, table};
use crate::{format, ui};

/// What `top` is told.
#[derive(Args)]
pub(crate) struct TopArgs {
    /// A name or an id
    container: String,
    /// Options of the host's ps
    #[arg(value_name = "PS-OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Shows a container's processes.
pub(crate) fn top(root: &Path, args: &TopArgs) -> anyhow::Result<ExitCode> {
    let store = Store::open(root)?;
    let containers = Containers::open(&store)?;
    let observed = containers.observe(&containers.find(&args.container)?)?;
    let running = running(&observed)?;
    let processes = running.processes().context("cannot list the container's processes")?;
    let options: Vec<&str> = args.options.iter().flat_map(|word| word.split_whitespace()).collect();
    let lines = match options.as_slice() {
        [] | ["-ef"] => table(&processes)?,
        options => ps_table(options, &processes)?,
    };
    let text: String = lines.iter().map(|row| row.join("\t") + "\n").collect();
    ui::raw(format::aligned(&text, 20, 3).as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// What the host's `ps` says of these processes.
fn ps_table(options: &[&str], processes: &[Pid]) -> anyhow::Result<Vec<Vec<String>>> {
    let done = Command::new("ps").args(options).output();
    let done = done.context("cannot run the host's ps, which knows these options")?;
    ensure!(done.status.success(), "ps: {}", String::from_utf8_lossy(&done.stderr).trim_end());
    filtered(&String::from_utf8_lossy(&done.stdout), processes)
}

/// The lines of a table about these processes; what is in its last column may have spaces.
fn filtered(text: &str, processes: &[Pid]) -> anyhow::Result<Vec<Vec<String>>> {
    let mut lines = text.lines();
    let titles: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let Some(column) = titles.iter().position(|title| *title == "PID") else {
        bail!("Couldn't find PID field in ps output");
    };
    let wanted: BTreeSet<String> = processes.iter().map(Pid::to_string).collect();
    let mut table = vec![titles.iter().map(|title| (*title).to_owned()).collect()];
    for line in lines {
        let mut rest = line;
        let mut row = Vec::new();
        while row.len() + 1 < titles.len() {
            let (cell, behind) =
                rest.trim_start().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
            row.push(cell.to_owned());
            rest = behind;
        }
        row.push(rest.trim().to_owned());
        if wanted.contains(&row[column]) {
            table.push(row);
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pids(numbers: &[i32]) -> Vec<Pid> {
        numbers.iter().map(|number| Pid::from_raw(*number).expect("a number")).collect()
    }

    #[test]
    fn the_host_s_table_is_filtered() {
        let text =
            "  PID USER     COMMAND\n    1 root     init\n   17 www      nginx: worker process\n";
        let expected = [["PID", "USER", "COMMAND"], ["17", "www", "nginx: worker process"]];
        assert_eq!(filtered(text, &pids(&[17, 20])).expect("a table"), expected);
        let error = filtered("USER CMD\nroot x\n", &pids(&[1])).expect_err("no numbers");
        assert_eq!(error.to_string(), "Couldn't find PID field in ps output");
    }
}
