//! A real registry for one test: Debian's `docker-registry` on a free port of 127.0.0.1, with its own folder.
//!
//! What it has to be filled with is given by `skopeo`, so that a pull is not judged by our own push.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::tokens::{self, TokenServer};
use super::{Test, certificates, finish, need, sha256};

/// A running registry, which ends with this value.
pub(crate) struct Registry {
    folder: TempDir,
    config: Value,
    process: Option<Child>,
    address: String,
    credentials: Option<String>,
    tokens: Option<TokenServer>,
}

impl Registry {
    /// Starts one that speaks HTTP and lets everybody in; none where it is not installed.
    pub(crate) fn plain() -> Option<Self> {
        if !["docker-registry", "skopeo", "openssl", "curl"].iter().all(|name| need::program(name))
        {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("rbuild-registry-").tempdir();
        let folder = folder.expect("make a folder for the registry");
        let config = json!({
            "version": "0.1",
            "storage": {
                "filesystem": {"rootdirectory": folder.path().join("storage")},
                "delete": {"enabled": true},
            },
            "http": {"addr": "127.0.0.1:0"},
        });
        let address = String::new();
        let registry =
            Self { folder, config, process: None, address, credentials: None, tokens: None };
        Some(registry.started())
    }

    /// The same over TLS, with a certificate of an authority of its own (see `trust`).
    pub(crate) fn with_tls(mut self) -> Self {
        let folder = self.folder.path();
        certificates::authority(folder);
        certificates::server(folder);
        let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
        self.config["http"]["tls"] = json!({"certificate": certificate, "key": key});
        self.started()
    }

    /// The same for those who show a certificate of the authority's (see `trust`); after `with_tls`.
    pub(crate) fn with_client_certificates(mut self) -> Self {
        certificates::client(self.folder.path());
        let authority = self.folder.path().join("ca.crt");
        self.config["http"]["tls"]["clientcas"] = json!([authority]);
        self.started()
    }

    /// The same for one user, by Basic authentication.
    pub(crate) fn with_htpasswd(mut self, user: &str, password: &str) -> Self {
        // The registry wants bcrypt, which libxcrypt knows as $2y$ and no program of Debian's core offers otherwise.
        let mut perl = Command::new("perl");
        perl.args(["-e", "print crypt($ARGV[0], q($2y$05$abcdefghijklmnopqrstuu))", password]);
        let line = format!("{user}:{}\n", finish(perl, None).ok());
        let path = self.folder.path().join("htpasswd");
        fs_err::write(&path, line).expect("write the password file");
        self.config["auth"] = json!({"htpasswd": {"realm": "test", "path": path}});
        self.credentials = Some(format!("{user}:{password}"));
        self.started()
    }

    /// The same with a token server before it; its user is `tokens::USER`.
    pub(crate) fn with_token_server(mut self) -> Self {
        let server = TokenServer::start(self.folder.path());
        self.config["auth"] = json!({"token": {
            "realm": server.realm(), "service": tokens::SERVICE, "issuer": tokens::ISSUER,
            "rootcertbundle": self.folder.path().join("token.crt"),
        }});
        self.credentials = Some(format!("{}:{}", tokens::USER, tokens::PASSWORD));
        self.tokens = Some(server);
        self.started()
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The full name of a repository or a tag here.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// The token server's requests.
    pub(crate) fn token_requests(&self) -> Vec<String> {
        self.tokens.as_ref().map(TokenServer::requests).unwrap_or_default()
    }

    /// The authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Makes this test's user trust the registry's authority, and show their certificate if the registry wants one;
    /// gives the folder that says so.
    pub(crate) fn trust(&self, test: &Test) -> PathBuf {
        let folder = test.outside(".config/rbuild/certs.d").join(&self.address);
        fs_err::create_dir_all(&folder).expect("make the certificates' folder");
        for (from, to) in
            [("ca.crt", "ca.crt"), ("client.crt", "client.cert"), ("client.key", "client.key")]
        {
            let from = self.folder.path().join(from);
            if from.exists() {
                fs_err::copy(from, folder.join(to)).expect("copy a certificate");
            }
        }
        folder
    }

    /// Copies an image into the registry with `skopeo copy`: `from` is its source, `name` the repository and tag here.
    pub(crate) fn fill(&self, from: &str, name: &str, options: &[&str]) {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]);
        if let Some(credentials) = &self.credentials {
            skopeo.args(["--dest-creds", credentials]);
        }
        if self.folder.path().join("client.crt").exists() {
            let folder = self.folder.path().join("client");
            fs_err::create_dir_all(&folder).expect("make the client's folder");
            for (from, to) in [("client.crt", "client.cert"), ("client.key", "client.key")] {
                fs_err::copy(self.folder.path().join(from), folder.join(to)).expect("copy");
            }
            skopeo.arg("--dest-cert-dir").arg(folder);
        }
        skopeo.args(options).arg(from).arg(format!("docker://{}", self.name(name)));
        finish(skopeo, None).ok();
    }

    /// What `skopeo inspect --raw` says of a name here: its manifest.
    pub(crate) fn manifest(&self, name: &str) -> Value {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "inspect", "--raw", "--tls-verify=false"]);
        if let Some(credentials) = &self.credentials {
            skopeo.args(["--creds", credentials]);
        }
        skopeo.arg(format!("docker://{}", self.name(name)));
        serde_json::from_str(&finish(skopeo, None).ok()).expect("a manifest is JSON")
    }

    /// Where the bytes of `sha256:...` lie.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a SHA-256 digest");
        let blobs = self.folder.path().join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// Where the registry keeps what it knows of a repository: tags and links to blobs.
    pub(crate) fn repository(&self, name: &str) -> PathBuf {
        self.folder.path().join("storage/docker/registry/v2/repositories").join(name)
    }

    /// Puts a blob into a repository, as `curl` would; gives its digest. For registries that let everybody in.
    pub(crate) fn upload(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = format!("sha256:{}", sha256(bytes));
        let uploads = format!("http://{}/v2/{repository}/blobs/uploads/", self.address);
        let mut begin = Command::new("curl");
        begin.args(["-sf", "-X", "POST", "-o", "/dev/null", "-w", "%header{location}", &uploads]);
        let place = format!("{}&digest={digest}", finish(begin, None).ok());
        self.put(&place, "application/octet-stream", bytes);
        digest
    }

    /// Puts a manifest or an index under a tag. For registries that let everybody in.
    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, media: &str, bytes: &[u8]) {
        let place = format!("http://{}/v2/{repository}/manifests/{tag}", self.address);
        self.put(&place, media, bytes);
    }

    fn put(&self, place: &str, media: &str, bytes: &[u8]) {
        let mut put = Command::new("curl");
        put.args(["-s", "--fail-with-body", "-X", "PUT", "--data-binary", "@-"]);
        put.arg("-H").arg(format!("Content-Type: {media}")).arg(place);
        finish(put, Some(bytes)).succeeded();
    }

    /// The requests since the last `forget_requests`, as `GET /v2/app/manifests/latest 200`, oldest first.
    pub(crate) fn requests(&self) -> Vec<String> {
        // A request is logged after it is answered; once this one is there, so are those before it.
        let mark = format!("/mark{:?}", Instant::now()).replace(|c: char| !c.is_alphanumeric(), "");
        let scheme = if self.config["http"]["tls"].is_null() { "http" } else { "https" };
        let url = format!("{scheme}://{}/{mark}", self.address);
        let _ = Command::new("curl").args(["-sk", &url]).stdout(Stdio::null()).status();
        let mut lines = Vec::new();
        wait("the registry's log", || {
            lines = self.logged();
            // Who has no certificate gets no answer and leaves no line.
            !self.config["http"]["tls"]["clientcas"].is_null()
                || lines.iter().any(|line| line.contains(&mark))
        });
        lines.retain(|line| !line.contains("/mark"));
        lines
    }

    /// Forgets the requests so far.
    pub(crate) fn forget_requests(&self) {
        self.requests();
        let log = fs_err::OpenOptions::new().write(true).open(self.access_log());
        log.and_then(|log| log.set_len(0)).expect("empty the access log");
    }

    /// Kills the registry as soon as it has some of a blob that is sent to a repository, and not all.
    pub(crate) fn die_of_upload(&mut self, repository: &str) {
        let uploads = self.repository(repository).join("_uploads");
        let process = self.process.as_ref().expect("a running registry");
        let process = Pid::from_child(process);
        wait("an upload", || {
            let begun = fs_err::read_dir(&uploads).is_ok_and(|mut uploads| {
                uploads.any(|upload| upload.is_ok_and(|upload| upload.path().join("data").exists()))
            });
            if begun {
                kill_process(process, Signal::KILL).expect("kill the registry");
            }
            begun
        });
        self.end();
    }

    /// Starts it again where it was.
    pub(crate) fn restarted(mut self) -> Self {
        self.config["http"]["addr"] = json!(self.address);
        self.started()
    }

    /// Ends the process that runs, if any, and starts one with the configuration as it is now.
    fn started(mut self) -> Self {
        self.end();
        let folder = self.folder.path().to_owned();
        let config = folder.join("config.yml");
        // JSON is YAML.
        fs_err::write(&config, self.config.to_string()).expect("write the configuration");
        let log = folder.join("log");
        let output = |path: &Path| -> Stdio {
            let _ = std::fs::remove_file(path);
            let file = fs_err::OpenOptions::new().create(true).append(true).open(path);
            file.expect("make a log").into_parts().0.into()
        };
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "docker-registry", "serve"]).arg(config);
        command.stdin(Stdio::null()).stdout(output(&self.access_log())).stderr(output(&log));
        command.env("OTEL_TRACES_EXPORTER", "none");
        let mut process = command.spawn().expect("start docker-registry");
        wait("docker-registry to listen", || {
            let text = fs_err::read_to_string(&log).expect("read the log");
            let ended = process.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "docker-registry ended: {ended:?}\n{text}");
            let Some((_, rest)) = text.split_once("listening on ") else { return false };
            let end = rest.find([',', '"']).unwrap_or(0);
            self.address = rest[..end].to_owned();
            end > 0
        });
        self.process = Some(process);
        self
    }

    fn access_log(&self) -> PathBuf {
        self.folder.path().join("access")
    }

    /// The access log, which is Apache's combined format.
    fn logged(&self) -> Vec<String> {
        let text = fs_err::read_to_string(self.access_log()).expect("read the access log");
        let request = |line: &str| -> Option<String> {
            let mut parts = line.split('"').skip(1);
            let (request, rest) = (parts.next()?, parts.next()?);
            let status = rest.split_whitespace().next()?;
            Some(format!("{} {status}", request.trim_end_matches(" HTTP/1.1")))
        };
        text.lines().filter_map(request).collect()
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for what must happen soon.
fn wait(what: &str, mut happens: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !happens() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
