//! Keys: what the result of an operation depends on, as a text, and its digest.
//!
//! | operation | what is in its key |
//! |---|---|
//! | `Base`, `Merge` | none: their results are the layers they name |
//! | `Run` | arguments, environment, directory, user, chain id of the base, each mount with the content it shows, network mode, security mode, host name and hosts, shm size, ulimits, devices |
//! | `Copy` | chain id of the base, destination, owner, mode, flags, and a row for each selected file: name, mode, owner, kind, digest of content and attributes, the first of its names |
//! | `Mkdir` | chain id of the base, path, owner |
//!
//! Each has the time that `SOURCE_DATE_EPOCH` sets, if it does. Sources (`Local`, `Http`, `Git`,
//! `Inline`) have no key: the copies from them have their files'. A copy from file systems in the
//! store has a second, short key with their chain ids instead of rows. A big copy from elsewhere
//! leaves a record under a third one, with the line `done before` instead of rows: where that is
//! missing, no row can be known, and the layer is written while the files are digested.
//!
//! What is not in a key: time, host paths, inodes, modification times, secrets, the content of
//! cache mounts, proxies, cgroup limits, the order of anything unordered.
//!
//! The text has a line for each fact, `name value`, values quoted where they may hold anything.
//! Two texts can thus be compared line by line: that is how a miss is explained.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use cache::digest::Digest;

use crate::graph::{Copy, Mkdir, Run, RunMount, RunMountKind, Unpack};

/// Changes when results made by an earlier version may no longer stand for today's.
const VERSION: u32 = 4;

/// A key's text in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preimage(String, OnceCell<Digest>);

impl Preimage {
    fn new(operation: &str) -> Self {
        Self(format!("rbuild {VERSION} {operation}\n"), OnceCell::new())
    }

    /// Adds a fact that needs no quotes.
    fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        writeln!(self.0, "{name} {value}").expect("writing to a string cannot fail");
    }

    /// Adds a fact that may hold anything.
    fn quoted(&mut self, name: &str, value: &str) {
        writeln!(self.0, "{name} {value:?}").expect("writing to a string cannot fail");
    }

    fn quoted_all<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a String>) {
        for value in values {
            self.quoted(name, value);
        }
    }

    /// Adds what the sources of a copy show.
    pub fn showing(mut self, shown: &str) -> Self {
        self.0.push_str(shown);
        self
    }

    /// Adds what the sources of a copy show, as `write` appends it: it may be long.
    pub fn showing_all<E>(
        mut self,
        write: impl FnOnce(&mut String) -> Result<(), E>,
    ) -> Result<Self, E> {
        write(&mut self.0)?;
        Ok(self)
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Takes the text away; the key stays.
    pub fn take_text(&mut self) -> String {
        self.key();
        std::mem::take(&mut self.0)
    }

    /// The key. Asked for once the text is whole: it is digested once.
    pub fn key(&self) -> Digest {
        *self.1.get_or_init(|| Digest::of(self.0.as_bytes()))
    }
}

/// Names the file system that layers make, the lowest first (image-spec `config.md`, ChainID).
pub fn chain_id(layers: &[Digest]) -> Digest {
    let Some((first, rest)) = layers.split_first() else { return Digest::of([]) };
    rest.iter().fold(*first, |chain, layer| Digest::of(format!("{chain} {layer}")))
}

/// What a run depends on; `shown` says for each mount, by its place, what content it shows.
pub fn run(run: &Run, base: &Digest, shown: &[Option<String>], epoch: Option<i64>) -> Preimage {
    let mut image = Preimage::new("run");
    image.plain("base", base);
    image.quoted_all("arg", &run.args);
    image.quoted_all("env", &run.env);
    image.quoted("cwd", &run.cwd);
    image.quoted("user", &run.user);
    image.plain("network", format!("{:?}", run.network).to_lowercase());
    image.plain("security", format!("{:?}", run.security).to_lowercase());
    image.quoted("hostname", &run.hostname);
    for (name, address) in &run.extra_hosts {
        image.quoted("host", &format!("{name}={address}"));
    }
    if let Some(size) = run.shm_size {
        image.plain("shm-size", size);
    }
    for limit in &run.ulimits {
        image.plain("ulimit", format_args!("{}={}:{}", limit.name, limit.soft, limit.hard));
    }
    image.quoted_all("device", &run.devices);
    for (mount, shown) in run.mounts.iter().zip(shown) {
        describe_mount(&mut image, mount, shown.as_deref());
    }
    add_epoch(&mut image, epoch);
    image
}

fn describe_mount(image: &mut Preimage, mount: &RunMount, shown: Option<&str>) {
    image.quoted("mount", &mount.target);
    match &mount.kind {
        RunMountKind::Bind { source, writable, .. } => {
            image.quoted("mount-bind", source);
            image.plain("mount-writable", writable);
        }
        RunMountKind::Cache { id, read_only, seed, .. } => {
            image.quoted("mount-cache", id);
            image.plain("mount-writable", !read_only);
            if let Some((_, path)) = seed {
                image.quoted("mount-seed", path);
            }
        }
        RunMountKind::Tmpfs { size } => image.plain("mount-tmpfs", format_args!("{size:?}")),
        RunMountKind::Secret { id, env, .. } => {
            image.quoted("mount-secret", id);
            image.quoted_all("mount-secret-env", env);
        }
        RunMountKind::Ssh { id, .. } => image.quoted("mount-ssh", id),
        RunMountKind::Script { content } => image.quoted("mount-script", content),
    }
    if let Some(shown) = shown {
        image.0.push_str(shown);
    }
}

/// What a copy depends on but for the content of its sources; that is to be added with
/// [`Preimage::showing`], in rows of files or as the sources' chain ids. The two texts have different
/// keys for the same result: the short one is enough to know that nothing has changed, the long one
/// knows what has.
pub fn copy(copy: &Copy, base: &Digest, epoch: Option<i64>) -> Preimage {
    let mut image = Preimage::new("copy");
    image.plain("base", base);
    image.quoted("dest", &copy.dest);
    image.quoted_all("owner", &copy.owner);
    image.quoted_all("mode", &copy.mode);
    image.plain("parents", copy.parents);
    image.quoted_all("exclude", &copy.excludes);
    for source in &copy.sources {
        image.quoted("source", &source.path);
        image.plain("wildcards", source.wildcards);
        image.plain("unpack", source.unpack == Unpack::Archives);
    }
    add_epoch(&mut image, epoch);
    image
}

/// What making a directory depends on.
pub fn mkdir(mkdir: &Mkdir, base: &Digest, epoch: Option<i64>) -> Preimage {
    let mut image = Preimage::new("mkdir");
    image.plain("base", base);
    image.quoted("path", &mkdir.path);
    image.quoted("owner", &mkdir.owner);
    add_epoch(&mut image, epoch);
    image
}

/// A layer made for `SOURCE_DATE_EPOCH` has its times lowered, so it is another result.
fn add_epoch(image: &mut Preimage, epoch: Option<i64>) {
    if let Some(epoch) = epoch {
        image.plain("epoch", epoch);
    }
}

/// One difference between the texts of two keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What kind of fact differs, as the text names it: `arg`, `env`, `file`, `base`, ...
    pub fact: String,
    /// What it was; absent when it is new.
    pub before: Option<String>,
    /// What it is; absent when it is gone.
    pub after: Option<String>,
}

/// Compares the texts of two keys fact by fact. Facts that name something (`env`, `file`) are
/// paired by name, others in order.
pub fn differences(before: &str, after: &str) -> Vec<Difference> {
    let (before, after) = (facts(before), facts(after));
    let is: BTreeMap<_, _> = after.iter().map(|(name, value)| (name, value)).collect();
    let was: BTreeSet<_> = before.iter().map(|(name, _)| name).collect();
    let mut found = Vec::new();
    for (name, value) in &before {
        match is.get(name) {
            Some(now) if *now == value => {}
            now => found.push(Difference {
                fact: name.0.clone(),
                before: Some(value.clone()),
                after: now.map(|value| value.to_string()),
            }),
        }
    }
    for (name, value) in &after {
        if !was.contains(name) {
            found.push(Difference {
                fact: name.0.clone(),
                before: None,
                after: Some(value.clone()),
            });
        }
    }
    found
}

/// A fact's kind and what it is about: a variable's name, a file's path, else its number.
type Name = (String, String);

fn facts(text: &str) -> Vec<(Name, String)> {
    let mut counts = BTreeMap::<&str, usize>::new();
    let facts = text.lines().skip(1).map(|line| {
        let (kind, value) = line.split_once(' ').unwrap_or((line, ""));
        let about = match kind {
            "env" => value.split_once('=').map(|(name, _)| format!("{name}\"")),
            "file" => end_of_quoted(value).map(|end| value[..end].to_owned()),
            _ => None,
        };
        let about = about.unwrap_or_else(|| {
            let count = counts.entry(kind).or_default();
            *count += 1;
            count.to_string()
        });
        ((kind.to_owned(), about), value.to_owned())
    });
    facts.collect()
}

/// The length of the quoted text that `text` begins with.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{CopySource, VertexId};

    fn example() -> Copy {
        Copy {
            base: VertexId(0),
            sources: vec![CopySource {
                from: VertexId(1),
                path: "/a b".into(),
                wildcards: true,
                unpack: Unpack::Never,
            }],
            dest: "/x/".into(),
            owner: Some("app".into()),
            mode: None,
            parents: false,
            excludes: vec![],
        }
    }

    #[test]
    fn a_key_is_the_same_on_every_machine_and_for_ever() {
        let image =
            copy(&example(), &chain_id(&[]), None).showing("file \"a b\" 0644 0:0 blake3:0\n");
        let text = "rbuild 4 copy\n\
            base sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\
            dest \"/x/\"\nowner \"app\"\nparents false\nsource \"/a b\"\nwildcards true\n\
            unpack false\nfile \"a b\" 0644 0:0 blake3:0\n";
        assert_eq!(image.text(), text);
        assert_eq!(image.key(), Digest::of(text));
    }

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let (one, two) = (Digest::of("1"), Digest::of("2"));
        assert_eq!(chain_id(&[one]), one);
        assert_eq!(chain_id(&[one, two]), Digest::of(format!("{one} {two}")));
    }

    #[test]
    fn differences_name_the_file_and_the_variable() {
        let before =
            "rbuild 3 run\nenv \"A=1\"\nenv \"B=2\"\nfile \"x y\" 0644 0:0 blake3:1\narg \"a\"\n";
        let after = "rbuild 3 run\nenv \"B=2\"\nenv \"A=3\"\nfile \"x y\" 0755 0:0 blake3:1\narg \"a\"\narg \"b\"\n";
        let found: Vec<_> = differences(before, after)
            .into_iter()
            .map(|one| format!("{}: {:?} -> {:?}", one.fact, one.before, one.after))
            .collect();
        assert_eq!(
            found,
            [
                r#"env: Some("\"A=1\"") -> Some("\"A=3\"")"#,
                r#"file: Some("\"x y\" 0644 0:0 blake3:1") -> Some("\"x y\" 0755 0:0 blake3:1")"#,
                r#"arg: None -> Some("\"b\"")"#,
            ]
        );
    }
}
