//! Ssh agents for `--mount=type=ssh`.
//!
//! Keys never enter a container: a process there asks an agent outside to sign. That agent is the
//! user's own, or one started for key files by the programs `ssh-agent` and `ssh-add` (an agent
//! of ours would need the mathematics of every kind of key). Containers reach it through a
//! [`Relay`], which has the owner and the mode a mount asks for, connects as the user, since agents
//! turn other users away, and passes on only what uses keys (draft-ietf-sshm-ssh-agent), so that
//! nothing in a container can add, remove or lock them.
//!
//! Reads no environment and does not know what a mount is.

mod protocol;
mod relay;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use relay::{Relay, SocketOwner};

/// An agent as it is asked for: `default`, or `id=socket`, or `id=key,key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSpec {
    /// By what name mounts ask for it.
    pub id: String,
    /// One socket, or any number of key files; none for the user's own agent.
    pub paths: Vec<PathBuf>,
}

impl AgentSpec {
    /// Parses the value of `--ssh`; no id at all is `default`.
    pub fn parse(text: &str) -> Self {
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        let paths = paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        Self { id: if id.is_empty() { "default" } else { id }.to_owned(), paths }
    }
}

/// An agent that runs, and runs on for as long as this value lives.
#[derive(Debug)]
pub struct Agent {
    socket: PathBuf,
    /// The process that `ssh-agent` watches: when it ends, so does the agent. It ends itself when
    /// its input is closed, so that no agent with keys outlives us, however we end.
    started: Option<Child>,
}

/// An agent that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no agent to forward.
    #[error("invalid empty ssh agent socket for \"{id}\": make sure SSH_AUTH_SOCK is set")]
    NoSocket {
        /// The agent that was asked for.
        id: String,
    },
    /// A path that names no file.
    #[error("look at the ssh key or socket {}", path.display())]
    Look {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An agent is one socket or keys, and nothing else.
    #[error("ssh agent \"{id}\" is given {}", if *keys { "keys and a socket, which do not go together" } else { "several sockets: only single socket allowed" })]
    Combination {
        /// The agent that was asked for.
        id: String,
        /// Whether keys were given too.
        keys: bool,
    },
    /// The programs that serve key files are not there, or fail.
    #[error(
        "run {program}, which serves ssh keys given as files (package openssh-client); an agent's socket needs no program"
    )]
    Program {
        /// The program.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file that the agent does not take.
    #[error("add the ssh key {}: {stderr}", path.display())]
    AddKey {
        /// The file.
        path: PathBuf,
        /// What `ssh-add` said, on one line.
        stderr: String,
    },
    /// A socket for containers could not be made.
    #[error("listen for ssh agent clients at {}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Agent {
    /// Opens what `spec` asks for. `own` is the user's agent, `SSH_AUTH_SOCK`; `directory` is empty
    /// and private, and `program_path` says where programs are, as the variable `PATH`.
    pub fn open(
        spec: &AgentSpec,
        own: Option<&Path>,
        directory: &Path,
        program_path: &std::ffi::OsStr,
    ) -> Result<Self, Error> {
        let mut paths: Vec<&Path> = spec.paths.iter().map(PathBuf::as_path).collect();
        if paths.is_empty() {
            paths.extend(own.filter(|path| !path.as_os_str().is_empty()));
        }
        let mut sockets = Vec::new();
        let mut keys = Vec::new();
        for path in paths {
            let look = |source| Error::Look { path: path.to_owned(), source };
            let is_socket = fs_err::metadata(path).map_err(look)?.file_type().is_socket();
            let these = if is_socket { &mut sockets } else { &mut keys };
            these.push(path);
        }
        match (sockets.as_slice(), keys.as_slice()) {
            ([], []) => Err(Error::NoSocket { id: spec.id.clone() }),
            ([socket], []) => Ok(Self { socket: (*socket).to_owned(), started: None }),
            ([], keys) => Self::start(keys, directory, program_path),
            (_, keys) => Err(Error::Combination { id: spec.id.clone(), keys: !keys.is_empty() }),
        }
    }

    /// Returns the agent's own socket: not for containers, which get a [`Relay`].
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Starts an agent that serves key files.
    fn start(
        keys: &[&Path],
        directory: &Path,
        program_path: &std::ffi::OsStr,
    ) -> Result<Self, Error> {
        let program = "ssh-agent";
        let failed = |source| Error::Program { program, source };
        let child = Command::new(program)
            // Relative, because a socket's path must be short.
            .args(["-a", SOCKET, "cat"])
            .current_dir(directory)
            .env_clear()
            .env("PATH", program_path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut agent = Self { socket: directory.join(SOCKET), started: Some(child) };
        agent.wait_until_it_listens().map_err(failed)?;
        for key in keys {
            agent.add_key(key, program_path)?;
        }
        Ok(agent)
    }

    fn wait_until_it_listens(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match relay::connect(&self.socket) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {}
            }
            if let Some(child) = &mut self.started
                && let Some(status) = child.try_wait()?
            {
                return Err(io::Error::other(format!("it ended with {status}")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Hands a key over by standard input: a file would be refused if others may read it, as is
    /// usual in a checkout.
    fn add_key(&self, path: &Path, program_path: &std::ffi::OsStr) -> Result<(), Error> {
        let look = |source| Error::Look { path: path.to_owned(), source };
        let key: File = fs_err::File::open(path).map_err(look)?.into_file();
        let directory = self.socket.parent().expect("the socket is in a directory");
        let output = Command::new("ssh-add")
            .args(["-q", "-"])
            .current_dir(directory)
            .env_clear()
            .env("PATH", program_path)
            .env("SSH_AUTH_SOCK", SOCKET)
            // Nobody is asked for a passphrase: an encrypted key is refused.
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("SSH_ASKPASS", "false")
            .stdin(key)
            .output()
            .map_err(|source| Error::Program { program: "ssh-add", source })?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let stderr =
            if lines.is_empty() { "it needs a passphrase".into() } else { lines.join("; ") };
        Err(Error::AddKey { path: path.to_owned(), stderr })
    }
}

/// The name of the socket of an agent we started, in the directory we were given.
const SOCKET: &str = "agent.sock";

impl Drop for Agent {
    fn drop(&mut self) {
        let Some(child) = &mut self.started else {
            return;
        };
        // The agent notices the end of the process it watches after some seconds: until then it
        // should have nothing to give away.
        if let Ok(mut stream) = relay::connect(&self.socket) {
            let _ = forget_keys(&mut stream);
        }
        drop(child.stdin.take());
        let _ = child.wait();
        let _ = fs_err::remove_file(&self.socket);
    }
}

fn forget_keys(stream: &mut UnixStream) -> io::Result<()> {
    protocol::write_message(stream, &[protocol::REMOVE_ALL_IDENTITIES])?;
    stream.read_exact(&mut [0; 5])
}

#[cfg(test)]
mod tests;
