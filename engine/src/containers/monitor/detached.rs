//! Processes that were started in the container and left alone (`exec -d`): the monitor attends to
//! them, a thread to each, as nobody else is there to see their end.
//!
//! A thread, because what a container does to its own file system must not keep its monitor from
//! hearing.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::JoinHandle;

use rustix::process::Pid;

use super::Monitor;
use super::program::Running;
use crate::container::{self, ExecSpec, Stdio, Stream};
use crate::containers::assemble::causes;
use crate::containers::exec::{self, ExecError};
use crate::containers::protocol::Frame;
use crate::containers::{Record, Result, event, execs};

/// Of a thread that starts one process and waits for it.
const STACK: usize = 128 << 10;

/// What a thread works with.
struct Attendant {
    root: PathBuf,
    dir: PathBuf,
    record: Record,
    container: Pid,
    exec: String,
    line: String,
    spec: ExecSpec,
    asker: UnixStream,
}

impl Monitor<'_> {
    /// Starts a process for one who does not wait for its end; its thread answers.
    pub(super) fn start_detached(
        &self,
        index: usize,
        request: exec::Request,
        running: &mut Running,
    ) -> Result<()> {
        let (exec, line) = (request.id.clone(), request.args.join(" "));
        let asker = self.peers[index].as_fd().try_clone_to_owned()?;
        let attendant = Attendant {
            root: self.containers.store.root().to_owned(),
            dir: self.containers.dir(&self.record.id),
            record: self.record.clone(),
            container: running.container.pid,
            exec,
            line,
            spec: exec::spec(&self.record, request)?,
            asker: UnixStream::from(asker),
        };
        let thread = std::thread::Builder::new()
            .name("exec".to_owned())
            .stack_size(STACK)
            .spawn(move || attendant.run())?;
        running.detached.retain(|thread| !thread.is_finished());
        running.detached.push(thread);
        Ok(())
    }
}

/// Waits for those who attend to processes of a container that has ended.
pub(super) fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        let _ = thread.join();
    }
}

impl Attendant {
    fn run(mut self) {
        // One that is not shown runs all the same.
        let listed = execs::list_in(&self.dir, &self.exec).ok();
        let started = self.start();
        let answer = match &started {
            Ok(_) => Frame::Done,
            Err(error) => Frame::Refused(causes(error)),
        };
        // Who asked may have gone.
        let _ = self.asker.write_all(&answer.encode());
        let Ok(process) = started else { return };
        let code = process.wait().map_or(-1, |exit| exit.code);
        drop(listed);
        self.tell("exec_die", &[("exitCode", &code.to_string())]);
    }

    fn start(&self) -> std::result::Result<container::Container, ExecError> {
        self.tell(&format!("exec_create: {}", self.line), &[]);
        self.tell(&format!("exec_start: {}", self.line), &[]);
        let running = container::Running::find(self.container, None).map_err(io_error)?;
        let stdio = Stdio { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null };
        Ok(container::exec(&running, &self.spec, stdio)?)
    }

    fn tell(&self, action: &str, extra: &[(&str, &str)]) {
        let extra = [&[("execID", self.exec.as_str())], extra].concat();
        event::tell(&self.root, &self.record, action, &extra);
    }
}

fn io_error(error: io::Error) -> ExecError {
    ExecError::Container(error.into())
}
