//! Connects this terminal, or these pipes, with a container: `run`, `start -a` and `attach`.

use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use engine::container::tty::{DetachKeys, RawMode};
use engine::containers::protocol::{Frame, Request};
use engine::containers::{Client, Containers, Error, Sender, Status};
use engine::signals::{HANG_UP, INTERRUPT, QUIT, RESIZE, Signals, TERMINATE};
use rustix::termios::tcgetwinsize;

use crate::paths::Home;
use crate::ui;

/// What `attach` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct AttachArgs {
    /// Send no input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    sig_proxy: bool,
    /// The keys that leave the container alone, as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    detach_keys: String,
    /// The container
    container: String,
}

/// Docker's.
pub(crate) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// What programs give a meaning of their own; it would end us, and leave them alone.
const FOR_THE_PROGRAM: [rustix::process::Signal; 4] = [
    rustix::process::Signal::USR1,
    rustix::process::Signal::USR2,
    rustix::process::Signal::ALARM,
    rustix::process::Signal::CONT,
];

/// How one is connected.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    /// Whether our input is sent.
    pub(crate) stdin: bool,
    /// Whether standard output and standard error are shown.
    pub(crate) shows: [bool; 2],
    /// Whether the container has a terminal.
    pub(crate) tty: bool,
    /// Whether signals are passed on.
    pub(crate) signals: bool,
    /// The keys that end the connection and leave the container alone.
    pub(crate) detach: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The program has ended with this code.
    Exited(i32),
    /// The keys to leave were typed.
    Detached,
    /// Nobody takes what the program prints any more; it goes on.
    Unread,
    /// The monitor was killed.
    Lost,
}

/// Attaches.
pub(crate) fn attach(home: &Home, args: &AttachArgs) -> anyhow::Result<ExitCode> {
    let store = home.open()?;
    let containers = Containers::open(&store)?;
    let observed = containers.observe(&containers.find(&args.container)?)?;
    let record = &observed.record;
    match observed.state.status {
        Status::Running => {}
        Status::Paused => {
            return Err(Error::Refused(
                "You cannot attach to a paused container, unpause it first".into(),
            )
            .into());
        }
        Status::Restarting => {
            return Err(Error::Refused(
                "You cannot attach to a restarting container, wait until it is running".into(),
            )
            .into());
        }
        _ => {
            return Err(Error::Refused(
                "You cannot attach to a stopped container, start it first".into(),
            )
            .into());
        }
    }
    // Docker asks for a terminal even where the program does not read from it.
    check_terminal(!args.no_stdin, record.config.tty)?;
    let stdin = !args.no_stdin && record.config.open_stdin;
    let attachment = Attachment {
        stdin,
        shows: [true; 2],
        tty: record.config.tty,
        signals: args.sig_proxy,
        detach: keys(&args.detach_keys)?,
    };
    let signals = attachment.take_signals()?;
    let request = Request::Attach { stdin, output: true, starter: false };
    let client = Client::connect(&containers, &record.id, request)?
        .ok_or_else(|| Error::NotRunning(record.name.clone()))?;
    exit_code(relay(client, &attachment, signals)?)
}

/// Refuses to give a program's terminal input that is no terminal's.
pub(crate) fn check_terminal(stdin: bool, tty: bool) -> anyhow::Result<()> {
    if stdin && tty && !io::stdin().is_terminal() {
        anyhow::bail!("the input device is not a TTY");
    }
    Ok(())
}

/// What our own program ends with.
pub(crate) fn exit_code(ended: Ended) -> anyhow::Result<ExitCode> {
    match ended {
        Ended::Exited(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(255))),
        Ended::Detached => Ok(ExitCode::SUCCESS),
        Ended::Unread => Ok(ExitCode::FAILURE),
        Ended::Lost => {
            anyhow::bail!("the container's monitor was killed, and the container with it")
        }
    }
}

/// Reads `--detach-keys`: letters, or `ctrl-` and a letter or one of `@[\]^_`, with commas between.
pub(crate) fn keys(text: &str) -> anyhow::Result<Vec<u8>> {
    let key = |part: &str| {
        let control = |key: u8| match key {
            b'a'..=b'z' => Some(key - b'a' + 1),
            b'@' => Some(0),
            b'[' | b'\\' | b']' | b'^' | b'_' => Some(key - b'@'),
            _ => None,
        };
        match (part.strip_prefix("ctrl-").map(str::as_bytes), part.as_bytes()) {
            (Some([key]), _) => control(*key),
            (None, [key]) => Some(*key),
            _ => None,
        }
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|part| {
            key(part).with_context(|| {
                format!("invalid detach keys ({text}): unknown character: '{part}'")
            })
        })
        .collect()
}

impl Attachment {
    /// Takes the signals that are passed on; called before any other thread is started.
    pub(crate) fn take_signals(&self) -> io::Result<Option<Signals>> {
        let mut taken = vec![RESIZE];
        if self.signals {
            taken.extend([INTERRUPT, TERMINATE, HANG_UP, QUIT]);
            taken.extend(FOR_THE_PROGRAM.map(rustix::process::Signal::as_raw));
        }
        Signals::take(&taken).map(Some)
    }
}

/// Passes on what is typed, printed and sent until the container has ended or is left.
pub(crate) fn relay(
    mut client: Client,
    attachment: &Attachment,
    signals: Option<Signals>,
) -> anyhow::Result<Ended> {
    let stdin = io::stdin();
    let raw = match attachment.tty && attachment.stdin {
        true => RawMode::set(stdin.as_fd())?,
        false => None,
    };
    if attachment.tty {
        send_size(&mut client.sender()?);
    }
    if let Some(signals) = signals {
        let mut sender = client.sender()?;
        let tty = attachment.tty;
        std::thread::spawn(move || {
            while let Ok(number) = signals.wait() {
                match number {
                    RESIZE if tty => send_size(&mut sender),
                    RESIZE => {}
                    number => drop(sender.send(&Frame::Signal(number))),
                }
            }
        });
    }
    let mut left = None;
    if attachment.stdin {
        let (mut sender, keys) = (client.sender()?, attachment.detach.clone());
        let keys = DetachKeys::new(if attachment.tty { keys } else { Vec::new() });
        let (leave, leaving) = rustix::pipe::pipe().map_err(io::Error::from)?;
        left = Some(leave);
        std::thread::spawn(move || {
            if pass_input(&mut sender, keys) {
                let _ = rustix::io::write(&leaving, b"x");
            }
            // Closed without a word, it means nothing.
            std::mem::forget(leaving);
        });
    }
    let ended = show(&mut client, attachment.shows, left.as_ref().map(AsFd::as_fd));
    drop(raw);
    ended
}

/// Sends our input until it ends; true when the keys to leave were typed.
fn pass_input(sender: &mut Sender, mut keys: DetachKeys) -> bool {
    let mut stdin = io::stdin().lock();
    let mut buffer = [0; 16 << 10];
    loop {
        let bytes = match stdin.read(&mut buffer) {
            Ok(0) => {
                let _ = sender.send(&Frame::StdinEnd);
                return false;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return false,
            Ok(read) => &buffer[..read],
        };
        let (passed, left) = keys.filter(bytes);
        if sender.send(&Frame::Stdin(passed)).is_err() || left {
            return left;
        }
    }
}

/// Prints what the container prints.
fn show(
    client: &mut Client,
    [stdout, stderr]: [bool; 2],
    left: Option<BorrowedFd<'_>>,
) -> anyhow::Result<Ended> {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        while let Some(frame) = client.next_frame()? {
            let passed_on = match frame {
                Frame::Stdout(bytes) if stdout => ui::pass_on(&bytes, "/dev/stdout", io::stdout()),
                Frame::Stderr(bytes) if stderr => ui::pass_on(&bytes, "/dev/stderr", io::stderr()),
                Frame::Exited(code) | Frame::Failed(code, _) => return Ok(Ended::Exited(code)),
                _ => Ok(()),
            };
            if let Err(error) = passed_on {
                ui::error(&error);
                return Ok(Ended::Unread);
            }
        }
        let mut polled = vec![PollFd::from_borrowed_fd(client.as_fd(), PollFlags::IN)];
        polled.extend(left.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        if polled.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            return Ok(Ended::Detached);
        }
        if !client.fill()? {
            return Ok(Ended::Lost);
        }
    }
}

fn send_size(sender: &mut Sender) {
    // What is no terminal has no size.
    if let Ok(size) = tcgetwinsize(io::stdout()) {
        let _ = sender.send(&Frame::Resize(size.ws_row, size.ws_col));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("ctrl-p,ctrl-q", Some(vec![16, 17])),
            ("ctrl-@", Some(vec![0])),
            ("ctrl-],x", Some(vec![29, b'x'])),
            ("", Some(vec![])),
            ("ctrl-1", None),
            ("ab", None),
        ] {
            assert_eq!(keys(text).ok(), expected, "{text}");
        }
    }
}
