//! `login` and `logout`: credentials for registries, kept where docker keeps them.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use engine::container::tty::RawMode;
use engine::credentials::{CredentialStore, Credentials, Kept, Secret};

use crate::error::Silent;
use crate::{registries, ui};

/// Docker Hub, as docker shows it.
const HUB: &str = "https://index.docker.io/v1/";

/// What `login` is told.
#[derive(Args)]
#[command(args_override_self = true, mut_args = crate::create_args::valued)]
pub(crate) struct LoginArgs {
    /// The name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// The password or a token; - reads standard input. Others on this machine can see it here
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password or a token from standard input
    #[arg(long)]
    password_stdin: bool,
    /// The registry (default: Docker Hub)
    server: Option<String>,
}

/// What `logout` is told.
#[derive(Args)]
pub(crate) struct LogoutArgs {
    /// The registry (default: Docker Hub)
    server: Option<String>,
}

/// Logs in, with what is given, what is kept, or what somebody types.
pub(crate) fn login(args: &LoginArgs) -> anyhow::Result<ExitCode> {
    let store = registries::credentials();
    let registry = host(args.server.as_deref());
    let password = given_password(args)?;
    if args.username.is_none() && password.is_none() && again(&store, &registry)? {
        ui::line("Login Succeeded");
        return Ok(ExitCode::SUCCESS);
    }
    let credentials = ask(args, password, &registry)?;
    accept(&store, &registry, credentials)?;
    ui::line("Login Succeeded");
    Ok(ExitCode::SUCCESS)
}

/// Logs out; the credentials are gone then, wherever they were kept.
pub(crate) fn logout(args: &LogoutArgs) -> anyhow::Result<ExitCode> {
    let registry = host(args.server.as_deref());
    match registries::credentials().erase(&registry) {
        Ok(true) => ui::line(format_args!("Removing login credentials for {registry}")),
        Ok(false) => ui::line(format_args!("Not logged in to {registry}")),
        Err(error) => {
            return Err(anyhow::Error::new(error)
                .context(format!("could not erase the credentials for {registry}")));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The registry without what stands around its host in an address.
fn host(server: Option<&str>) -> String {
    let server = server.unwrap_or_default();
    let after = server.split_once("://").map_or(server, |(_, after)| after);
    match after.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}

/// The password of the command line or of standard input.
fn given_password(args: &LoginArgs) -> anyhow::Result<Option<String>> {
    let from_stdin = args.password_stdin || args.password.as_deref() == Some("-");
    if args.username.as_deref().is_some_and(|name| name.trim().is_empty()) {
        bail!("username is empty");
    }
    if !from_stdin {
        let Some(password) = &args.password else { return Ok(None) };
        if password.is_empty() {
            bail!("password is empty");
        }
        ui::note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        return Ok(Some(password.clone()));
    }
    if args.username.is_none() {
        bail!("the --password-stdin option requires --username to be set");
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("read the password")?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let password = line.strip_suffix('\r').unwrap_or(line);
    if password.trim().is_empty() {
        bail!("password is empty");
    }
    Ok(Some(password.to_owned()))
}

/// Tries what is kept already; whether it still opens the registry.
fn again(store: &CredentialStore, registry: &str) -> anyhow::Result<bool> {
    let Some(kept) = store.get(registry)? else { return Ok(false) };
    ui::note(format_args!(
        "Authenticating with existing credentials... [Username: {}]",
        kept.username
    ));
    match check(registry, &kept) {
        Ok(_) => Ok(true),
        Err(error) if std::io::stdin().is_terminal() => {
            ui::note(format_args!("Login did not succeed, error: {error:#}"));
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Has the registry look at credentials, and keeps them if they are good.
fn accept(
    store: &CredentialStore,
    registry: &str,
    mut credentials: Credentials,
) -> anyhow::Result<()> {
    if let Some(token) = check(registry, &credentials)? {
        credentials.secret = Secret::IdentityToken(token);
    }
    let kept = store.put(registry, &credentials)?;
    if kept == Kept::InFile && matches!(credentials.secret, Secret::Password(_)) {
        ui::note(format_args!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential \
             helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n",
            store.path().display()
        ));
    }
    Ok(())
}

/// Asks the registry whether it knows who these credentials are of; it may give a token that stands
/// for the password from now on.
fn check(registry: &str, credentials: &Credentials) -> anyhow::Result<Option<String>> {
    let registry = if registry == HUB { "docker.io" } else { registry };
    Ok(engine::registry::check_login(registry, credentials, &registries::settings()?)?)
}

/// What is given, and on a terminal what is missing of it.
fn ask(args: &LoginArgs, password: Option<String>, registry: &str) -> anyhow::Result<Credentials> {
    let (username, password) = match (args.username.clone(), password) {
        (Some(username), Some(password)) => (username.trim().to_owned(), password),
        _ if !std::io::stdin().is_terminal() => {
            bail!("cannot perform an interactive login from a non-TTY device")
        }
        (username, password) => {
            if username.is_none() && registry == HUB {
                ui::line(
                    "Log in with your Docker ID or email address to push and pull images from \
                     Docker Hub. If you don't have a Docker ID, head over to \
                     https://hub.docker.com/ to create one.",
                );
            }
            let username = match username {
                Some(username) => username.trim().to_owned(),
                None => typed("Username: ", Echo::On)?.trim().to_owned(),
            };
            if username.is_empty() {
                bail!("username is required");
            }
            let password = password.map_or_else(|| typed("Password: ", Echo::Off), Ok)?;
            (username, password)
        }
    };
    if password.is_empty() {
        bail!("password is required");
    }
    Ok(Credentials { username, secret: Secret::Password(password) })
}

/// Whether what is typed is seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

/// Reads a line from the terminal.
fn typed(prompt: &str, echo: Echo) -> anyhow::Result<String> {
    ui::raw(prompt.as_bytes());
    let _ = std::io::stdout().flush();
    if echo == Echo::On {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).context("read from the terminal")?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let typed = {
        let _raw = RawMode::set(std::io::stdin()).context("hide what is typed")?;
        unseen_line()
    };
    ui::line("");
    String::from_utf8(typed?).context("the password is not UTF-8")
}

/// Reads what is typed up to the end of the line. Its keys come one by one, so that one that ends
/// the program leaves the terminal as it was.
fn unseen_line() -> anyhow::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let mut key = [0];
        match rustix::io::read(std::io::stdin(), &mut key) {
            Ok(0) => return Ok(line),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).context("read from the terminal"),
        }
        match key[0] {
            b'\r' | b'\n' => return Ok(line),
            // Ctrl-C, and Ctrl-D at the beginning.
            3 => return Err(Silent(130).into()),
            4 if line.is_empty() => return Err(Silent(1).into()),
            // Backspace and Ctrl-U.
            8 | 127 => pop_char(&mut line),
            21 => line.clear(),
            byte => line.push(byte),
        }
    }
}

/// Takes the last character off, which may have several bytes.
fn pop_char(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        if byte & 0xc0 != 0x80 {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_its_host() {
        for (server, expected) in [
            (None, HUB),
            (Some("docker.io"), HUB),
            (Some("https://index.docker.io/v1/"), HUB),
            (Some("ghcr.io"), "ghcr.io"),
            (Some("https://localhost:5000/v2/"), "localhost:5000"),
        ] {
            assert_eq!(host(server), expected);
        }
    }

    #[test]
    fn a_character_is_taken_back_whole() {
        let mut line = "aé".as_bytes().to_vec();
        pop_char(&mut line);
        assert_eq!(line, b"a");
    }
}
