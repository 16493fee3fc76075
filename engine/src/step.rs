//! Runs one vertex: looks its key up, and does it on a miss.
//!
//! Knows one vertex and its inputs' products; what runs beside it, and in which order, is
//! [`crate::solve`]'s.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cache::claim::Claim;
use cache::content::ContentDigest;
use cache::digest::Digest;
use cache::draft::{Offered, Written};
use cache::layer::writer::{Append, Place};
use cache::layer::{self, Entry, Timestamp};
use cache::record::Record;

use crate::graph::{Caching, Copy, Git, Http, Inline, Local, Mkdir, Op, Vertex, VertexId};
use crate::keys::{self, Preimage, chain_id};
use crate::mode::{Mode, ModeError};
use crate::plan::{self, NewDirectories, Plan};
use crate::product::Product;
use crate::progress::Outcome;
use crate::session::{Cancel, Session};
use crate::source::{self, git, http};
use crate::tree::{self, Owners, Tree};
use crate::view::View;
use crate::waiting::Waiting;
use crate::{copy, owner, pattern, run};

/// The time of files given in the text.
const INLINE_TIME: i64 = plan::EARLIEST.seconds;

/// Bytes of files that take longer to read than it takes to note that they were.
const WORTH_A_RECORD: u64 = 4 << 20;

/// How often files are copied that change meanwhile, before that is an error.
const MOST_ATTEMPTS: usize = 4;

/// How often a step looks whether another build has done with it.
const CLAIM_POLL: Duration = Duration::from_millis(10);

/// Why a vertex failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The build was ended from outside, or because something else failed.
    #[error("canceled")]
    Canceled,
    /// The process ran and failed.
    #[error("process {command:?} did not complete successfully: exit code: {code}{}", if *.oom_killed { ": killed because it used more memory than it may" } else { "" })]
    Exit {
        /// Its arguments, joined.
        command: String,
        /// Its exit code.
        code: i32,
        /// Whether the kernel killed it for its memory.
        oom_killed: bool,
        /// Its root file system as it left it: diff ids, the lowest first.
        layers: Vec<Digest>,
    },
    /// The process could not be run.
    #[error(transparent)]
    Run(#[from] run::Error),
    /// Files could not be copied.
    #[error(transparent)]
    Copy(#[from] copy::Error),
    /// An owner could not be told.
    #[error(transparent)]
    Owner(#[from] owner::Error),
    /// A mode could not be understood.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// A directory could not be made.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// A directory would have to replace something that is none.
    #[error("cannot make the directory {path}: {found} is not a directory")]
    Mkdir {
        /// The directory.
        path: String,
        /// What is no directory.
        found: String,
    },
    /// Files could not be found.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// The context's ignore rules cannot be understood.
    #[error("the ignore file of context {context:?} cannot be used")]
    Ignore {
        /// The context.
        context: String,
        /// Why.
        source: pattern::PatternError,
    },
    /// No directory has the context's name.
    #[error("there is no build context {0:?}")]
    NoContext(String),
    /// A source elsewhere could not be had.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] cache::Error),
    /// A directory cannot be looked into.
    #[error("cannot look into {what}")]
    Look {
        /// What.
        what: String,
        /// Why.
        source: io::Error,
    },
}

impl StepError {
    /// Whether a file was written to while it was copied.
    fn is_changed_source(&self) -> bool {
        matches!(
            self,
            Self::Plan(plan::Error::Changed(_))
                | Self::Copy(copy::Error::Plan(plan::Error::Changed(_)))
        )
    }

    /// The error with all its causes, in one line.
    pub fn whole(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let said = cause.to_string();
            if !text.ends_with(&said) {
                text = format!("{text}: {said}");
            }
            source = cause.source();
        }
        text
    }
}

/// What puts a result into the store that others can use already, and tells later builds of it. It
/// waits for the disk.
pub type Commit<'s> = Box<dyn FnOnce() -> Result<(), StepError> + Send + 's>;

/// A vertex that is done.
pub struct Done<'s> {
    /// What it gives.
    pub product: Product,
    /// Its key, if it has one.
    pub key: Option<Digest>,
    /// Another key of the same result, which is found with less work.
    pub short_key: Option<Digest>,
    /// Whether an earlier result stood for it.
    pub outcome: Outcome,
    /// When its layer was made, in seconds since 1970.
    pub created: Option<i64>,
    /// What is still to be done for it, beside the steps that follow.
    pub commit: Option<Commit<'s>>,
}

impl Done<'_> {
    fn given(product: Product) -> Self {
        let (key, short_key, created, commit) = (None, None, None, None);
        Self { product, key, short_key, outcome: Outcome::Done, created, commit }
    }
}

/// Which layer a copy's may be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Like {
    /// None that would be worth looking at.
    None,
    /// Nothing is known of one: it is the first on its base, or is to be made anew. Nothing can be
    /// found by its files' digests then, so they are learnt while the layer is written, instead of by
    /// reading all files twice.
    Unknown,
    /// The one that the same copy made before, if it is there.
    Earlier(Option<Digest>),
}

/// Runs a vertex whose inputs are done. `leads_to_network` says whether one that lies on it will want
/// a network if it has to be done.
pub fn run<'s, 'p>(
    session: &'s Session<'s>,
    vertex: &'s Vertex,
    id: VertexId,
    leads_to_network: bool,
    input: &'p dyn Fn(VertexId) -> &'p Product,
) -> Result<Done<'s>, StepError> {
    let step = Step { session, vertex, id, leads_to_network, input };
    match &vertex.op {
        Op::Base(base) => Ok(Done::given(Product::Rootfs(base.layers.clone()))),
        Op::Merge(merge) => {
            let mut layers = step.layers(merge.lower).to_vec();
            layers.extend(step.layers(merge.upper));
            Ok(Done::given(Product::Rootfs(layers)))
        }
        Op::Local(local) => step.local(local),
        Op::Http(file) => step.http(file),
        Op::Git(tree) => step.git(tree),
        Op::Inline(files) => step.inline(files),
        Op::Copy(copy) => step.copy(copy),
        Op::Mkdir(mkdir) => step.mkdir(mkdir),
        Op::Run(run) => step.process(run),
    }
}

/// A vertex being run.
pub(crate) struct Step<'s, 'p> {
    pub(crate) session: &'s Session<'s>,
    pub(crate) vertex: &'s Vertex,
    pub(crate) id: VertexId,
    leads_to_network: bool,
    pub(crate) input: &'p dyn Fn(VertexId) -> &'p Product,
}

impl<'s, 'p> Step<'s, 'p> {
    /// The layers of an input that is a root file system.
    pub(crate) fn layers(&self, id: VertexId) -> &'p [Digest] {
        match (self.input)(id) {
            Product::Rootfs(layers) => layers,
            Product::Files(_) => unreachable!("a definition puts steps on root file systems only"),
        }
    }

    /// Whatever an input is, as files to take.
    pub(crate) fn tree(&self, id: VertexId) -> Result<Arc<Tree>, StepError> {
        match (self.input)(id) {
            Product::Files(tree) => Ok(tree.clone()),
            Product::Rootfs(layers) => Ok(Arc::new(Tree::new(self.view(layers)?, Owners::Kept))),
        }
    }

    /// A look into the file system that layers make.
    pub(crate) fn view(&self, layers: &[Digest]) -> Result<View, StepError> {
        View::overlay(&self.session.lower(layers)?)
            .map_err(|source| StepError::Look { what: "the root file system".to_owned(), source })
    }

    pub(crate) fn clamp(&self) -> Option<Timestamp> {
        self.session.epoch.map(Timestamp::from_seconds)
    }

    /// The result of an earlier operation with this key.
    pub(crate) fn look_up(&self, image: &Preimage) -> Result<Option<Record>, StepError> {
        if self.vertex.caching == Caching::Skip {
            return Ok(None);
        }
        let key = image.key();
        match self.session.store.record(&key)? {
            Some(record) => Ok(Some(record)),
            None => {
                let Session { store, imports, cancel, .. } = self.session;
                Ok(imports.bring(store, &key, image.text(), cancel.flag()))
            }
        }
    }

    /// Says that there is no earlier result: what lies on this will have to be done too.
    fn prepare_networks(&self) {
        if self.leads_to_network {
            self.session.networks.prepare();
        }
    }

    /// Waits until nobody else does the operation with this key; then it is ours to do, or has been
    /// done. Who does it again whatever there is waits for nobody.
    pub(crate) fn claim(&self, image: &Preimage) -> Result<Option<Claim>, StepError> {
        if self.vertex.caching == Caching::Skip {
            return Ok(None);
        }
        let key = image.key();
        let mut waiting = Waiting::new(self.session, self.id, key);
        loop {
            if let Some(claim) = self.session.store.try_claim(&key)? {
                return Ok(Some(claim));
            }
            if self.session.cancel.is_canceled() {
                return Err(StepError::Canceled);
            }
            waiting.tell();
            std::thread::sleep(CLAIM_POLL);
        }
    }

    /// The base with a record's layer on top.
    pub(crate) fn on_top(
        &self,
        base: VertexId,
        record: &Record,
        key: Digest,
        outcome: Outcome,
    ) -> Done<'s> {
        let mut layers = self.layers(base).to_vec();
        layers.push(record.layer);
        let (key, created) = (Some(key), Some(record.finished));
        let (product, short_key, commit) = (Product::Rootfs(layers), None, None);
        Done { product, key, short_key, outcome, created, commit }
    }

    /// The base with a new layer on top, which is kept for later builds. The claim is given up when
    /// they can find it.
    pub(crate) fn on_top_new(
        &self,
        base: VertexId,
        layer: Offered<'s>,
        image: Preimage,
        claim: Option<Claim>,
        begun: Instant,
    ) -> Done<'s> {
        let record = made(layer.layer().diff_id, begun);
        let done = self.on_top(base, &record, image.key(), Outcome::Done);
        let store = self.session.store;
        let commit = move || {
            let _claim = claim;
            layer.commit()?;
            Ok(store.put_record(&image.key(), image.text().as_bytes(), &record)?)
        };
        Done { commit: Some(Box::new(commit)), ..done }
    }

    fn local(&self, local: &Local) -> Result<Done<'s>, StepError> {
        let context = self
            .session
            .contexts
            .get(&local.name)
            .ok_or_else(|| StepError::NoContext(local.name.clone()))?;
        let ignore = pattern::walk::Filter::new(&[], &context.ignore)
            .map_err(|source| StepError::Ignore { context: local.name.clone(), source })?;
        let look = |source| StepError::Look { what: context.dir.display().to_string(), source };
        let dir = context.dir.canonicalize().map_err(look)?;
        let id = Digest::of(std::os::unix::ffi::OsStrExt::as_bytes(dir.as_os_str()));
        let index = cache::context::ContextIndex::load(self.session.store, &id);
        let tree = Tree::context(View::open(&dir).map_err(look)?, ignore, index);
        Ok(Done::given(Product::Files(Arc::new(tree))))
    }

    fn http(&self, file: &Http) -> Result<Done<'s>, StepError> {
        let request = http::HttpRequest { url: file.url.clone(), checksum: file.checksum };
        let kept = self.session.store.sources()?;
        let fetched = http::fetch(&request, &self.session.access, &kept, &|_| {})?;
        let dir = self.session.store.scratch_dir()?;
        let name = file.file_name.as_ref().unwrap_or(&fetched.file_name);
        let write = || -> io::Result<()> {
            let path = dir.join(name);
            fs_err::copy(&fetched.path, &path)?;
            let time = fetched.last_modified.unwrap_or(INLINE_TIME);
            prepare_file(&path, 0o600, time)
        };
        write().map_err(|source| StepError::Look { what: file.url.clone(), source })?;
        self.files(&dir)
    }

    fn git(&self, wanted: &Git) -> Result<Done<'s>, StepError> {
        let request = git::GitRequest {
            remote: wanted.remote.clone(),
            reference: wanted.reference.clone(),
            subdir: wanted.subdir.clone(),
            checksum: wanted.checksum.clone(),
            keep_git_dir: wanted.keep_git_dir,
            submodules: wanted.submodules,
            ..Default::default()
        };
        let kept = self.session.store.sources()?;
        let checkout = git::checkout(&request, &self.session.access, &kept)?;
        self.files(&checkout.directory)
    }

    fn inline(&self, inline: &Inline) -> Result<Done<'s>, StepError> {
        let dir = self.session.store.scratch_dir()?;
        for (name, content) in &inline.files {
            let write = || -> io::Result<()> {
                let path = dir.join(name.trim_start_matches('/').replace('/', "_"));
                fs_err::write(&path, content)?;
                prepare_file(&path, 0o644, INLINE_TIME)
            };
            write().map_err(|source| StepError::Look { what: name.clone(), source })?;
        }
        self.files(&dir)
    }

    fn files(&self, dir: &std::path::Path) -> Result<Done<'s>, StepError> {
        let view = View::open(dir)
            .map_err(|source| StepError::Look { what: dir.display().to_string(), source })?;
        Ok(Done::given(Product::Files(Arc::new(Tree::new(view, Owners::Root)))))
    }

    fn copy(&self, operation: &Copy) -> Result<Done<'s>, StepError> {
        let begun = Instant::now();
        let base = chain_id(self.layers(operation.base));
        // When all sources are file systems in the store, their names alone tell that nothing has
        // changed, and nothing need be mounted to find out.
        let by_name = self.source_names(operation);
        let key = || keys::copy(operation, &base, self.session.epoch);
        let short = by_name.map(|names| key().showing(&names));
        if let Some(short) = &short
            && let Some(record) = self.look_up(short)?
        {
            let done = self.on_top(operation.base, &record, short.key(), Outcome::Cached);
            let key = record.in_full.or(done.key);
            return Ok(Done { key, short_key: Some(short.key()), ..done });
        }
        let trees: Vec<Arc<Tree>> = operation
            .sources
            .iter()
            .map(|source| self.tree(source.from))
            .collect::<Result<_, _>>()?;
        let trees: Vec<&Tree> = trees.iter().map(Arc::as_ref).collect();
        let mut attempts = 1;
        let copied = loop {
            match self.copy_files(operation, &base, &trees, begun) {
                // A log, or what an editor writes: the next moment may be a quieter one.
                Err(error) if error.is_changed_source() && attempts < MOST_ATTEMPTS => {
                    attempts += 1
                }
                done => break done?,
            }
        };
        let Copied { record, key, outcome, commit } = copied;
        let done = self.on_top(operation.base, &record, key, outcome);
        let (short_key, store) = (short.as_ref().map(Preimage::key), self.session.store);
        let commit = move || {
            commit()?;
            let Some(short) = short else { return Ok(()) };
            let record = Record { in_full: Some(key), ..record };
            Ok(store.put_record(&short.key(), short.text().as_bytes(), &record)?)
        };
        Ok(Done { short_key, commit: Some(Box::new(commit)), ..done })
    }

    /// Copies files as they are now, or finds that this was done before.
    fn copy_files(
        &self,
        operation: &Copy,
        base: &Digest,
        trees: &[&Tree],
        begun: Instant,
    ) -> Result<Copied<'s>, StepError> {
        let sources = copy::select(operation, trees)?;
        let key = || keys::copy(operation, base, self.session.epoch);
        let before = key().showing("done before\n");
        let bytes: u64 = sources.iter().map(copy::Source::bytes).sum();
        let is_big = bytes >= WORTH_A_RECORD && trees.iter().any(|tree| tree.remembers_digests());
        let like = match is_big {
            true => self.earlier(&before)?,
            false => Like::None,
        };
        let layers = self.layers(operation.base);
        let write = || self.write_copy(layers, operation, &sources, like);
        if like == Like::Unknown {
            self.prepare_networks();
        }
        let written = (like == Like::Unknown).then(write).transpose()?;
        let mut long = key().showing_all(|text| copy::rows(&sources, text))?;
        let make = || -> Result<_, StepError> {
            Ok(match (self.look_up(&long)?, written) {
                (Some(record), written) => {
                    written.map_or(Ok(()), Written::discard)?;
                    (record, None)
                }
                (None, written) => {
                    let (written, text) = match written {
                        Some(written) => (written, Held::Here(long.take_text())),
                        None => {
                            self.prepare_networks();
                            let text = self.held(long.take_text())?;
                            (write()?, text)
                        }
                    };
                    let layer = written.offer()?;
                    (made(layer.layer().diff_id, begun), Some((layer, text)))
                }
            })
        };
        let (record, new) = self.beside_saving(trees, make)?;
        let outcome = if new.is_some() { Outcome::Done } else { Outcome::Cached };
        let is_like_later_ones =
            like != Like::None && (outcome == Outcome::Done || like == Like::Unknown);
        let (key, store, its_record) = (long.key(), self.session.store, record.clone());
        let commit = move || {
            if let Some((layer, text)) = new {
                layer.commit()?;
                store.put_record(&key, text.read()?, &its_record)?;
            }
            if is_like_later_ones {
                let record = Record { in_full: Some(key), ..its_record };
                store.put_record(&before.key(), before.text().as_bytes(), &record)?;
            }
            Ok(())
        };
        Ok(Copied { record, key, outcome, commit: Box::new(commit) })
    }

    /// What a big copy may be like; `before` is the key of the same on this base, whatever is copied.
    fn earlier(&self, before: &Preimage) -> Result<Like, StepError> {
        if self.vertex.caching == Caching::Skip {
            return Ok(Like::Unknown);
        }
        let record = self.session.store.record(&before.key())?;
        Ok(match record {
            Some(record) => Like::Earlier(Some(record.layer)),
            None if self.session.imports.is_empty() => Like::Unknown,
            None => Like::Earlier(None),
        })
    }

    /// Does something while what was learnt of trees is written back, if anything was.
    fn beside_saving<T>(
        &self,
        trees: &[&Tree],
        make: impl FnOnce() -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let save = || trees.iter().try_for_each(|tree| tree.save_index(self.session.store));
        if !trees.iter().any(|tree| tree.has_learnt()) {
            return make();
        }
        std::thread::scope(|scope| {
            let saving = scope.spawn(save);
            let made = make();
            let saved = saving.join().expect("saving does not panic");
            let made = made?;
            saved?;
            Ok(made)
        })
    }

    /// The chain ids of a copy's sources, if all of them are file systems in the store.
    fn source_names(&self, operation: &Copy) -> Option<String> {
        let mut names = String::new();
        for source in &operation.sources {
            match (self.input)(source.from) {
                Product::Rootfs(layers) => {
                    names.push_str(&format!("from {}\n", chain_id(layers)));
                }
                Product::Files(_) => return None,
            }
        }
        Some(names)
    }

    /// Writes the layer of a copy onto the file system that `base` makes.
    pub(crate) fn write_copy(
        &self,
        base: &[Digest],
        operation: &Copy,
        sources: &[copy::Source<'_>],
        like: Like,
    ) -> Result<Written<'s>, StepError> {
        let base = self.view(base)?;
        let changes = copy::Changes {
            owner: operation.owner.as_deref().map(|spec| look_up_owner(&base, spec)).transpose()?,
            mode: operation.mode.as_deref().map(Mode::parse).transpose()?,
        };
        let scratch = self.scratch_file()?;
        let plan = copy::plan(operation, sources, &base, &changes, &scratch)?;
        self.write_plan(plan, like)
    }

    /// Holds a text while something else is done.
    fn held(&self, text: String) -> Result<Held, StepError> {
        if text.len() < LONG {
            return Ok(Held::Here(text));
        }
        let mut file = self.scratch_file()?;
        let written = io::Write::write_all(&mut file, text.as_bytes());
        written.map_err(|source| StepError::Look { what: "scratch space".to_owned(), source })?;
        Ok(Held::Aside(file))
    }

    fn scratch_file(&self) -> Result<std::fs::File, StepError> {
        let path = self.session.store.scratch_dir()?.join("spool");
        fs_err::OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .map(|file| file.into_parts().0)
            .map_err(|source| StepError::Look { what: "scratch space".to_owned(), source })
    }

    fn write_plan(&self, mut plan: Plan<'_>, like: Like) -> Result<Written<'s>, StepError> {
        let mut failed = None;
        let cancel = self.session.cancel;
        let write = |out: &mut dyn Append| {
            failed = plan.write(&mut Cancelable { out, cancel }, self.clamp()).err();
            match failed {
                Some(_) => Err(cache::Error::Io(io::Error::other("the layer cannot be written"))),
                None => Ok(()),
            }
        };
        let draft = self.session.store.draft_layer()?;
        let written = match like {
            Like::None => draft.write_tar(write),
            Like::Unknown => draft.write_tar_like(None, write),
            Like::Earlier(earlier) => draft.write_tar_like(earlier.as_ref(), write),
        };
        match failed {
            Some(_) if cancel.is_canceled() => Err(StepError::Canceled),
            Some(error) => Err(error.into()),
            None => Ok(written?),
        }
    }

    fn mkdir(&self, operation: &Mkdir) -> Result<Done<'s>, StepError> {
        let begun = Instant::now();
        let layers = self.layers(operation.base);
        let image = keys::mkdir(operation, &chain_id(layers), self.session.epoch);
        if let Some(record) = self.look_up(&image)? {
            return Ok(self.on_top(operation.base, &record, image.key(), Outcome::Cached));
        }
        self.prepare_networks();
        let view = self.view(layers)?;
        // Of a user that nobody knows it is root's, as in BuildKit; a process would be refused.
        let (uid, gid) = match look_up_owner(&view, &operation.owner) {
            Err(StepError::Owner(_)) => (0, 0),
            owner => owner?,
        };
        let mut plan = Plan::new(&view, NewDirectories { mode: 0o755, uid, gid });
        plan.make_dirs(operation.path.as_bytes()).map_err(|error| match error {
            plan::Error::NotADirectory(found) => {
                StepError::Mkdir { path: operation.path.clone(), found }
            }
            error => error.into(),
        })?;
        plan.forget_unchanged();
        let layer = self.write_plan(plan, Like::None)?.offer()?;
        Ok(self.on_top_new(operation.base, layer, image, None, begun))
    }
}

/// Files that are copied, or were before.
struct Copied<'s> {
    record: Record,
    key: Digest,
    outcome: Outcome,
    commit: Commit<'s>,
}

/// The record of a layer that was made now.
pub(crate) fn made(layer: Digest, begun: Instant) -> Record {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (took_ms, finished) = (begun.elapsed().as_millis() as u64, now.as_secs() as i64);
    Record { layer, took_ms, finished, in_full: None }
}

/// So many bytes of text are laid aside while something else needs the memory.
const LONG: usize = 4 << 20;

/// A text that is needed later.
enum Held {
    Here(String),
    Aside(std::fs::File),
}

impl Held {
    fn read(&self) -> Result<Box<dyn io::Read + '_>, StepError> {
        Ok(match self {
            Self::Here(text) => Box::new(text.as_bytes()),
            Self::Aside(file) => {
                let mut file = file;
                let rewound = io::Seek::rewind(&mut file);
                rewound.map_err(|source| StepError::Look {
                    what: "scratch space".to_owned(),
                    source,
                })?;
                Box::new(file)
            }
        })
    }
}

/// A layer in the making that nobody may want any more.
struct Cancelable<'a> {
    out: &'a mut dyn Append,
    cancel: &'a Cancel,
}

impl Append for Cancelable<'_> {
    fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), layer::Error> {
        self.out.append(entry, &mut Wanted { data, cancel: self.cancel })
    }

    fn has_earlier(&self) -> bool {
        self.out.has_earlier()
    }

    fn find(&self, entry: &Entry, content: Option<&ContentDigest>) -> Option<Place> {
        self.out.find(entry, content)
    }

    fn append_from(&mut self, entry: &Entry, place: Place) -> Result<(), layer::Error> {
        match self.cancel.is_canceled() {
            true => Err(layer::Error::Write { source: canceled() }),
            false => self.out.append_from(entry, place),
        }
    }

    fn note(&mut self, entry: &Entry, content: Option<&ContentDigest>) {
        self.out.note(entry, content);
    }
}

fn canceled() -> io::Error {
    io::Error::other("canceled")
}

/// What ends when the build does.
struct Wanted<'a> {
    data: &'a mut dyn Read,
    cancel: &'a Cancel,
}

impl Read for Wanted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.cancel.is_canceled() {
            true => Err(canceled()),
            false => self.data.read(buffer),
        }
    }
}

/// Looks an owner up in the file system it is for.
fn look_up_owner(view: &View, spec: &str) -> Result<(u32, u32), StepError> {
    let read = |path: &str| -> Result<String, StepError> {
        let bytes =
            view.read(path).map_err(|source| StepError::Look { what: path.to_owned(), source })?;
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    };
    Ok(owner::look_up(spec, &read("etc/passwd")?, &read("etc/group")?)?)
}

fn prepare_file(path: &std::path::Path, mode: u32, seconds: i64) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let file = fs_err::File::options().write(true).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    let time = if seconds >= 0 {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds as u64)
    } else {
        SystemTime::UNIX_EPOCH
    };
    file.file().set_modified(time)
}
