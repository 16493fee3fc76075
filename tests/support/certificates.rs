//! Certificates of a test's own authority, made by `openssl`: for servers on this machine, for clients, for tokens.

use std::path::Path;
use std::process::Command;

use super::finish;

/// Makes an authority: `ca.crt` and `ca.key` in `folder`.
pub(crate) fn authority(folder: &Path) {
    let usage = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign"];
    make(folder, "ca", "ec", "test authority", &usage);
}

/// Makes a server's certificate, signed by the authority, for 127.0.0.1 and localhost: `server.crt` and `server.key`.
pub(crate) fn server(folder: &Path) {
    let usage = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"];
    make(folder, "server", "ec", "localhost", &[&SIGNED[..], &usage].concat());
}

/// Makes a client's certificate, signed by the authority: `client.crt` and `client.key`.
pub(crate) fn client(folder: &Path) {
    let usage = ["-addext", "extendedKeyUsage=clientAuth"];
    make(folder, "client", "ec", "test client", &[&SIGNED[..], &usage].concat());
}

/// Makes a certificate that tokens are signed with: `token.crt` and `token.key`.
pub(crate) fn tokens(folder: &Path) {
    let usage = ["-addext", "basicConstraints=critical,CA:TRUE"];
    make(folder, "token", "rsa:2048", "test tokens", &usage);
}

const SIGNED: [&str; 4] = ["-CA", "ca.crt", "-CAkey", "ca.key"];

fn make(folder: &Path, name: &str, key: &str, subject: &str, further: &[&str]) {
    // Of its own, so that nothing of the system's configuration gets into the certificate.
    let config = folder.join("openssl.cnf");
    fs_err::write(&config, "[req]\ndistinguished_name=name\n[name]\n").expect("write a file");
    let mut openssl = Command::new("openssl");
    openssl.current_dir(folder).args(["req", "-x509", "-config", "openssl.cnf", "-days", "7"]);
    openssl.args(["-nodes", "-newkey", key]);
    if key == "ec" {
        openssl.args(["-pkeyopt", "ec_paramgen_curve:P-256"]);
    }
    openssl.args(["-subj", &format!("/CN={subject}")]);
    openssl.args(["-out", &format!("{name}.crt"), "-keyout", &format!("{name}.key")]);
    openssl.args(further);
    finish(openssl, None).ok();
}
