//! A registry in the test's own process that serves one image, and misbehaves as it is told.
//!
//! It remembers what was asked. What is not told to go wrong goes right: tags, digests, HEAD and ranges.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{Request, head, reply, serve};
use super::served::{MANIFEST, Served};
use super::{Outcome, Test, sha256};

/// No pull takes as long when it does what it should.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// As often as it is asked for.
pub(crate) const ALWAYS: usize = usize::MAX;

/// What goes wrong with an answer.
#[derive(Clone)]
pub(crate) enum Fault {
    /// It is another one.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Its body is this, and the rest is as always.
    Bytes(Vec<u8>),
    /// It has one more header, or another value of it.
    Header(&'static str, String),
    /// It ends after so many bytes of its body, and promised all.
    Cut(usize),
    /// It sends so many bytes of its body, and then nothing.
    Stall(usize),
    /// It does not end: zeros follow the body.
    Endless,
    /// Its body comes in pieces of so many bytes, with a pause before each.
    Trickle(usize, Duration),
    /// It is what the other fault says, after a while.
    After(Duration, Box<Fault>),
}

/// One request, as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `GET /v2/app/manifests/latest`.
    pub(crate) line: String,
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) at: Instant,
}

/// The running registry; its threads end with the process.
pub(crate) struct HostileRegistry {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    image: Served,
    /// A part of the requests' lines that a fault is for, the fault, and how often it is yet to happen.
    faults: Vec<(String, Fault, usize)>,
    asked: Vec<Asked>,
    ranges: bool,
    /// How many requests each token is good for, and how many tokens and requests with the last one there were.
    tokens: Option<(usize, usize, usize)>,
}

impl HostileRegistry {
    /// Serves the image as `app:latest` and by its digest.
    pub(crate) fn serving(image: Served) -> Self {
        let state =
            State { image, faults: Vec::new(), asked: Vec::new(), ranges: true, tokens: None };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        Self { port: serve(move |request, to| answer(&shared, request, to)), state }
    }

    /// Lets requests whose `METHOD /path` has `on` in it go wrong, so many times.
    pub(crate) fn fault(&self, on: &str, times: usize, fault: Fault) -> &Self {
        self.lock().faults.push((on.to_owned(), fault, times));
        self
    }

    /// Goes right from now on.
    pub(crate) fn mend(&self) {
        self.lock().faults.clear();
    }

    /// Answers a request for a range with everything.
    pub(crate) fn without_ranges(&self) -> &Self {
        self.lock().ranges = false;
        self
    }

    /// Wants a token, which anybody gets and which is good for so many requests.
    pub(crate) fn with_tokens(&self, uses: usize) -> &Self {
        self.lock().tokens = Some((uses, 0, 0));
        self
    }

    /// The name of its image.
    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}/app:latest", self.port)
    }

    /// The address of a path here, by the machine's name or by its number.
    pub(crate) fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }

    /// The requests whose `METHOD /path` has `with` in it, oldest first.
    pub(crate) fn asked(&self, with: &str) -> Vec<Asked> {
        let state = self.lock();
        state.asked.iter().filter(|asked| asked.line.contains(with)).cloned().collect()
    }

    /// Pulls its image; that ends soon, one way or the other.
    #[track_caller]
    pub(crate) fn pull(&self, test: &Test) -> Outcome {
        let begun = Instant::now();
        let outcome = test.rbuild(&["pull", &self.name()]);
        assert!(begun.elapsed() < SOON, "it took {:?}\n{outcome}", begun.elapsed());
        outcome
    }

    /// The pull fails with every one of `texts`, and there is no image.
    #[track_caller]
    pub(crate) fn is_refused(&self, texts: &[&str]) {
        self.is_refused_for("it", texts);
    }

    /// The same, for what is one of many.
    #[track_caller]
    pub(crate) fn is_refused_for(&self, what: &str, texts: &[&str]) {
        let test = Test::empty();
        let outcome = self.pull(&test);
        assert_eq!(outcome.code, Some(1), "{what} is to be refused\n{outcome}");
        for text in texts {
            assert!(outcome.stderr.contains(text), "{what}: no {text:?} in\n{outcome}");
        }
        assert_eq!(test.rbuild(&["images", "-q", "-a"]).ok(), "", "{what}");
    }

    /// The pull succeeds with this image.
    #[track_caller]
    pub(crate) fn is_pulled(&self, image: &Served) -> Test {
        let test = Test::empty();
        self.pull(&test).succeeded();
        let listed = test.rbuild(&["images", "-q", "--no-trunc"]).ok();
        assert_eq!(listed, format!("{}\n", image.id()));
        test
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no request panics")
    }
}

impl State {
    /// Notes the request and takes the fault that is for it.
    fn note(&mut self, request: &Request) -> Option<Fault> {
        let line = format!("{} {}", request.method, request.target);
        let header = |name| request.header(name).map(str::to_owned);
        let asked = Asked {
            line,
            range: header("range"),
            authorization: header("authorization"),
            at: Instant::now(),
        };
        let fits = |on: &str, times: usize| times > 0 && asked.line.contains(on);
        let fault = self.faults.iter_mut().find(|(on, _, times)| fits(on, *times));
        let fault = fault.map(|(_, fault, times)| {
            *times -= 1;
            fault.clone()
        });
        self.asked.push(asked);
        fault
    }

    /// Whether the request has to show a token first that is still good.
    fn closed_to(&mut self, request: &Request) -> bool {
        let Some((uses, given, used)) = &mut self.tokens else { return false };
        let current = format!("Bearer token-{given}");
        if request.header("authorization") != Some(&current) || *used >= *uses {
            return true;
        }
        *used += 1;
        false
    }

    /// The right answer: status, media type, digest, body.
    fn right(&mut self, request: &Request) -> (u16, String, Option<String>, Vec<u8>) {
        let json = |status, body: Value| {
            (status, "application/json".to_owned(), None, body.to_string().into_bytes())
        };
        let path = request.path();
        if path == "/token" {
            let Some((_, given, used)) = &mut self.tokens else { return json(404, json!({})) };
            (*given, *used) = (*given + 1, 0);
            return json(200, json!({"token": format!("token-{given}"), "expires_in": 300}));
        }
        if self.closed_to(request) {
            return json(401, json!({"errors": [{"code": "UNAUTHORIZED", "message": "no token"}]}));
        }
        if path == "/v2/" {
            return json(200, json!({}));
        }
        let tagged = self.image.tagged();
        if let Some(reference) = path.strip_prefix("/v2/app/manifests/") {
            let own = self.image.manifest.to_string().into_bytes();
            let digest = format!("sha256:{}", sha256(&own));
            if reference == "latest" || reference == tagged.0 {
                return (200, tagged.1, Some(tagged.0), tagged.2);
            } else if reference == digest {
                return (200, MANIFEST.to_owned(), Some(digest), own);
            }
            return json(
                404,
                json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}),
            );
        }
        let digest = path.rsplit('/').next().unwrap_or_default();
        match self.image.blobs.get(digest) {
            Some(bytes) => {
                (200, "application/octet-stream".to_owned(), Some(digest.to_owned()), bytes.clone())
            }
            None => json(
                404,
                json!({"errors": [{"code": "BLOB_UNKNOWN", "message": "blob unknown to registry"}]}),
            ),
        }
    }
}

fn answer(state: &Mutex<State>, request: &Request, to: &mut TcpStream) {
    let mut locked = state.lock().expect("no request panics");
    let fault = locked.note(request);
    let (status, media, digest, body) = locked.right(request);
    let ranges = locked.ranges;
    drop(locked);

    let mut headers = vec![("Content-Type", media)];
    headers.extend(digest.map(|digest| ("Docker-Content-Digest", digest)));
    if status == 401 {
        let host = request.header("host").unwrap_or_default();
        let challenge = format!(
            r#"Bearer realm="http://{host}/token",service="hostile",scope="repository:app:pull""#
        );
        headers.push(("WWW-Authenticate", challenge));
    }
    let from = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok());
    let (mut status, mut body) = (status, body);
    if let Some(from) = from.filter(|from| ranges && status == 200 && *from < body.len()) {
        headers.push(("Content-Range", format!("bytes {from}-{}/{}", body.len() - 1, body.len())));
        (status, body) = (206, body.split_off(from));
    }
    misbehave(fault, Answer { status, headers, body, bodiless: request.method == "HEAD" }, to);
}

/// The answer that is about to be sent.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    bodiless: bool,
}

fn misbehave(fault: Option<Fault>, mut answer: Answer, to: &mut TcpStream) {
    match fault {
        None => answer.send(to),
        Some(Fault::After(pause, fault)) => {
            std::thread::sleep(pause);
            misbehave(Some(*fault), answer, to);
        }
        Some(Fault::Answer(status, headers, body)) => {
            Answer { status, headers, body, bodiless: answer.bodiless }.send(to);
        }
        Some(Fault::Bytes(body)) => Answer { body, ..answer }.send(to),
        Some(Fault::Header(name, value)) => {
            answer.headers.retain(|(known, _)| *known != name);
            answer.headers.push((name, value));
            answer.send(to);
        }
        Some(Fault::Cut(after)) => {
            let _ = answer.begin(to, true).and_then(|()| answer.part(to, after));
        }
        Some(Fault::Stall(after)) => {
            let begun = answer.begin(to, true).and_then(|()| answer.part(to, after));
            if begun.is_ok() {
                // Until the peer loses patience.
                let _ = std::io::Read::read(to, &mut [0]);
            }
        }
        Some(Fault::Endless) => {
            let mut sent = answer.begin(to, false).and_then(|()| to.write_all(&answer.body));
            while sent.is_ok() && !answer.bodiless {
                sent = to.write_all(&[0; 65536]);
            }
        }
        Some(Fault::Trickle(piece, pause)) => {
            let mut sent = answer.begin(to, true);
            for bytes in answer.body.chunks(piece).take_while(|_| !answer.bodiless) {
                std::thread::sleep(pause);
                sent = sent.and_then(|()| to.write_all(bytes));
            }
        }
    }
}

impl Answer {
    fn send(&self, to: &mut TcpStream) {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if self.bodiless {
            let _ = self.begin(to, true);
        } else {
            reply(to, self.status, &headers, &self.body);
        }
    }

    fn begin(&self, to: &mut TcpStream, with_length: bool) -> std::io::Result<()> {
        let mut headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let length = self.body.len().to_string();
        if with_length {
            headers.push(("Content-Length", &length));
        }
        head(to, self.status, &headers)
    }

    fn part(&self, to: &mut TcpStream, length: usize) -> std::io::Result<()> {
        let length = if self.bodiless { 0 } else { length.min(self.body.len()) };
        to.write_all(&self.body[..length])
    }
}
