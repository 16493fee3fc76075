//! Finding the container's program and becoming it.
//!
//! Runs as the container's user in the container's root, so that what is found is what that user
//! may execute. The texts are docker's, by which people and scripts tell 126 from 127.

use std::ffi::CString;

use rustix::fs::{Access, FileType};
use rustix::io::Errno;

use super::spec::Process;
use super::user::Identity;
use super::wire::Failure;

/// A program that was found, with all it is to be given.
pub(super) struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Looks the first argument up as a shell would, in the container's `PATH`.
    pub(super) fn find(process: &Process, identity: &Identity) -> Result<Program, Failure> {
        let env = environment(&process.env, &identity.home)?;
        let Some(name) = process.args.first() else {
            return Err(Failure::Refused("no command specified".to_owned()));
        };
        let path = env.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or("");
        let path = look_up(name, path)?;
        let c_strings = |strings: &[String]| {
            strings.iter().map(|string| CString::new(string.as_str())).collect::<Result<_, _>>()
        };
        let has_nul = |_| Failure::Refused("an argument contains a NUL byte".to_owned());
        Ok(Program {
            path: CString::new(path).map_err(has_nul)?,
            args: c_strings(&process.args).map_err(has_nul)?,
            env: c_strings(&env).map_err(has_nul)?,
        })
    }

    /// Becomes the program; returns why not.
    pub(super) fn exec(&self) -> Failure {
        let errno = crate::sys::process::exec(&self.path, &self.args, &self.env);
        let text = format!("exec {}: {}", self.path.to_string_lossy(), words(errno));
        match errno {
            Errno::NOENT => Failure::NotFound(text),
            _ => Failure::NotExecutable(text),
        }
    }
}

/// The variables in order, the last value of each; HOME is the user's if it has no value.
fn environment(variables: &[String], home: &str) -> Result<Vec<String>, Failure> {
    let mut env: Vec<(&str, &str)> = Vec::new();
    for variable in variables {
        match variable.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                env.retain(|(known, _)| *known != name);
                env.push((name, value));
            }
            _ => {
                return Err(Failure::Refused(format!("invalid environment variable: {variable}")));
            }
        }
    }
    env.retain(|(name, value)| *name != "HOME" || !value.is_empty());
    if !env.iter().any(|(name, _)| *name == "HOME") {
        env.push(("HOME", if home.is_empty() { "/" } else { home }));
    }
    Ok(env.iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn look_up(name: &str, path: &str) -> Result<String, Failure> {
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(Errno::NOENT) => Err(Failure::NotFound(format!(
                "exec: {name:?}: stat {name}: {}",
                words(Errno::NOENT)
            ))),
            Err(Errno::NOTDIR) => Err(Failure::NotExecutable(format!(
                "exec: {name:?}: stat {name}: {}",
                words(Errno::NOTDIR)
            ))),
            Err(errno) => Err(Failure::NotExecutable(format!("exec: {name:?}: {}", words(errno)))),
        };
    }
    path.split(':')
        .filter(|directory| directory.starts_with('/') && !name.is_empty())
        .map(|directory| format!("{}/{name}", directory.trim_end_matches('/')))
        .find(|candidate| executable(candidate).is_ok())
        .ok_or_else(|| {
            Failure::NotFound(format!("exec: {name:?}: executable file not found in $PATH"))
        })
}

fn executable(path: &str) -> Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(Errno::ISDIR);
    }
    rustix::fs::access(path, Access::EXEC_OK)
}

/// An error in the words of docker, which are strerror's in lower case.
fn words(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT => "no such file or directory",
        Errno::ACCESS => "permission denied",
        Errno::PERM => "operation not permitted",
        Errno::ISDIR => "is a directory",
        Errno::NOTDIR => "not a directory",
        Errno::NOEXEC => "exec format error",
        Errno::LOOP => "too many levels of symbolic links",
        Errno::NAMETOOLONG => "file name too long",
        Errno::TOOBIG => "argument list too long",
        Errno::TXTBSY => "text file busy",
        Errno::NOMEM => "cannot allocate memory",
        Errno::LIBBAD => "accessing a corrupted shared library",
        _ => "cannot be executed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variables: &[&str], expected: Result<&[&str], ()>) {
        let variables: Vec<String> = variables.iter().map(|text| (*text).to_owned()).collect();
        let expected = expected.map(|env| env.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(environment(&variables, "/home/a").map_err(drop), expected);
    }

    #[test]
    fn the_last_value_counts_and_home_is_filled_in() {
        check(&["A=1", "B=2", "A=3"], Ok(&["B=2", "A=3", "HOME=/home/a"]));
        check(&["HOME=/x", "E="], Ok(&["HOME=/x", "E="]));
        check(&["HOME="], Ok(&["HOME=/home/a"]));
        check(&["A"], Err(()));
        check(&["=A"], Err(()));
    }
}
