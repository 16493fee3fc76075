//! Programs that keep credentials: `docker-credential-NAME get|store|erase`, by the protocol of
//! `docker/docker-credential-helpers`: what is asked on standard input, the answer on standard
//! output. A program has a time limit.

use std::io::{self, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::{CredentialStore, Credentials, Error, Secret};

/// No answer is longer.
const LONGEST_ANSWER: u64 = 1 << 20;

/// What a program says of a registry it does not know; the words are part of the protocol.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The name that marks an identity token.
const TOKEN: &str = "<token>";

/// A program that keeps credentials.
pub(super) struct Helper<'a> {
    program: String,
    asked_by: &'a CredentialStore,
}

/// Credentials in the protocol's words.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// What came of a program.
struct Answer {
    text: String,
    status: ExitStatus,
}

impl<'a> Helper<'a> {
    /// The program of this name, which the store's file has.
    pub(super) fn new(name: &str, asked_by: &'a CredentialStore) -> Self {
        Self { program: format!("docker-credential-{name}"), asked_by }
    }

    /// Asks for credentials.
    pub(super) fn get(&self, registry: &str) -> Result<Option<Credentials>, Error> {
        let answer = self.run("get", registry.as_bytes())?;
        if !answer.status.success() {
            return match answer.text.trim() == NOT_FOUND {
                true => Ok(None),
                false => Err(self.failed("get", registry, &answer)),
            };
        }
        let kept: Kept = serde_json::from_str(&answer.text).map_err(|error| Error::Helper {
            program: self.program.clone(),
            verb: "get",
            registry: registry.to_owned(),
            // The text itself may hold a password.
            said: format!("its answer is no JSON of credentials (line {})", error.line()),
        })?;
        let secret = match kept.username.as_str() {
            TOKEN => Secret::IdentityToken(kept.secret),
            "" if kept.secret.is_empty() => return Ok(None),
            _ => Secret::Password(kept.secret),
        };
        Ok(Some(Credentials { username: kept.username, secret }))
    }

    /// Has credentials kept.
    pub(super) fn store(&self, registry: &str, credentials: &Credentials) -> Result<(), Error> {
        let (username, secret) = match &credentials.secret {
            Secret::Password(password) => (credentials.username.as_str(), password),
            Secret::IdentityToken(token) => (TOKEN, token),
        };
        let kept = Kept {
            server_url: registry.to_owned(),
            username: username.to_owned(),
            secret: secret.clone(),
        };
        let bytes = serde_json::to_vec(&kept).expect("keys are strings");
        let answer = self.run("store", &bytes)?;
        if answer.status.success() { Ok(()) } else { Err(self.failed("store", registry, &answer)) }
    }

    /// Has credentials forgotten.
    pub(super) fn erase(&self, registry: &str) -> Result<(), Error> {
        let answer = self.run("erase", registry.as_bytes())?;
        if answer.status.success() || answer.text.trim() == NOT_FOUND {
            return Ok(());
        }
        Err(self.failed("erase", registry, &answer))
    }

    fn failed(&self, verb: &'static str, registry: &str, answer: &Answer) -> Error {
        let said = match answer.text.trim() {
            "" => answer.status.to_string(),
            text => text.to_owned(),
        };
        let (program, registry) = (self.program.clone(), registry.to_owned());
        Error::Helper { program, verb, registry, said }
    }

    fn run(&self, verb: &'static str, input: &[u8]) -> Result<Answer, Error> {
        let cannot_start = |source| Error::StartHelper {
            program: self.program.clone(),
            path: self.asked_by.config.clone(),
            source,
        };
        let mut command = Command::new(&self.program);
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(programs) = &self.asked_by.programs {
            command.env("PATH", programs);
        }
        let mut child = command.spawn().map_err(cannot_start)?;
        let id = Pid::from_child(&child);
        let input = input.to_vec();
        let (done, answer) = mpsc::channel();
        std::thread::spawn(move || {
            if let Some(mut stdin) = child.stdin.take() {
                // A program that ends early is judged by its exit code.
                let _ = stdin.write_all(&input);
            }
            let mut text = Vec::new();
            let read = match child.stdout.take() {
                Some(stdout) => stdout.take(LONGEST_ANSWER).read_to_end(&mut text),
                None => Ok(0),
            };
            let status = child.wait();
            // Whoever waited for it may have given up.
            let _ = done.send(read.and(status).map(|status| (text, status)));
        });
        let ended = match answer.recv_timeout(self.asked_by.patience) {
            Ok(ended) => ended,
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(RecvTimeoutError::Timeout) => {
                let _ = rustix::process::kill_process(id, Signal::KILL);
                let (program, limit) = (self.program.clone(), self.asked_by.patience);
                return Err(Error::HelperTime { program, verb, limit });
            }
        };
        let (text, status) = ended.map_err(cannot_start)?;
        Ok(Answer { text: String::from_utf8_lossy(&text).into_owned(), status })
    }
}
