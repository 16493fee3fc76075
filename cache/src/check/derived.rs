//! Derived forms of layers: each is derived once more, in a second store that shares the tars, and
//! compared. So this knows no form's encoding.
//!
//! A form of a whole chain is found again through the images that have it; one of a chain that no
//! image has cannot be derived, and is passed over.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fs_err as fs;

use super::tars::open_dir;
use super::{Checker, in_parallel};
use crate::digest::{Digest, DigestWriter};
use crate::error::{Error, Result};
use crate::layer::pack;
use crate::layer::writer::LayerWriter;
use crate::lower::Mark;
use crate::store::Store;

/// Chains of layers, by what their forms are named after.
type Chains = BTreeMap<String, Vec<Digest>>;

impl Checker<'_> {
    pub(super) fn derived(&mut self) -> Result<()> {
        let mut jobs: Vec<(Digest, Vec<PathBuf>)> = Vec::new();
        for (digest, dir) in self.store.listed("layers")? {
            let forms = self.store.derived_forms(&dir)?;
            if !forms.is_empty() && !self.lost_layers.contains(&digest) {
                jobs.push((digest, forms));
            }
        }
        self.report.objects += jobs.iter().map(|(_, forms)| forms.len() as u64).sum::<u64>();
        let chains = self.chains()?;
        let store = self.store;
        let idle = Mutex::new(Vec::new());
        let found = in_parallel(&jobs, |(digest, forms)| {
            let waiting = idle.lock().expect("no holder panics").pop();
            let second = match waiting {
                Some(second) => second,
                None => Store::open(&store.scratch_dir()?)?,
            };
            let wrong = wrong_forms(store, &second, digest, forms, &chains);
            for (_, dir) in second.listed("layers")? {
                fs::remove_dir_all(dir).map_err(Error::Io)?;
            }
            idle.lock().expect("no holder panics").push(second);
            wrong
        });
        drop(idle);
        for ((digest, forms), wrong) in jobs.iter().zip(found) {
            let wrong = wrong?;
            if wrong.is_empty() {
                continue;
            }
            // The mark belongs to all forms: with one of them wrong none is sure to be used rightly.
            let removed = self.remove(forms, Some(digest))?;
            for (form, why) in wrong {
                let name = form.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let meaning = "containers may see other files than the layer has";
                let done = match (removed, self.repairs()) {
                    (true, _) => Some("removed: it is derived again when it is needed"),
                    (false, true) => Some("left, because a process uses it"),
                    (false, false) => None,
                };
                self.fault(format!("layer {digest}"), format!("{name} {why}"), meaning, done);
            }
        }
        Ok(())
    }

    /// All chains that images have.
    fn chains(&self) -> Result<Chains> {
        let mut chains = Chains::new();
        for listed in self.store.list_images().unwrap_or_default() {
            let Ok(image) = self.store.peek_image(&listed.digest) else { continue };
            let layers = &image.config.rootfs.diff_ids;
            for end in 1..=layers.len() {
                let chain: String = layers[..end].iter().map(Digest::hex).collect();
                chains.insert(Digest::of(chain).short(), layers[..end].to_vec());
            }
        }
        Ok(chains)
    }
}

/// The forms of a layer that are not what its tar gives, and why.
fn wrong_forms(
    store: &Store,
    second: &Store,
    digest: &Digest,
    forms: &[PathBuf],
    chains: &Chains,
) -> Result<Vec<(PathBuf, String)>> {
    let mut wrong = Vec::new();
    let mut derived_alone = false;
    for form in forms {
        let name = form.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if Mark::ALL.iter().any(|mark| mark.name() == name) {
            continue;
        }
        let chain = chain_of(name).map(|chain| chains.get(chain));
        let chain = match chain {
            Some(Some(chain)) => chain.as_slice(),
            Some(None) => continue,
            None => std::slice::from_ref(digest),
        };
        let why = match derive(store, second, chain, name) {
            Ok(fresh) => {
                derived_alone |= chain.len() == 1;
                let why = difference(form, &fresh)?;
                let outdated = why.is_some() && form.is_file() && store.is_outdated(form, chain)?;
                why.filter(|_| !outdated)
            }
            // Whatever is missing or damaged below is told of as itself.
            Err(Error::Missing { .. } | Error::Corrupt { .. }) => None,
            Err(error) => Some(format!("cannot be derived again: {error}")),
        };
        wrong.extend(why.map(|why| (form.clone(), why)));
    }
    for mark in Mark::ALL {
        if derived_alone && store.is_marked(digest, mark) != second.is_marked(digest, mark) {
            let path = store.layer_dir(digest).join(mark.name());
            wrong.push((path, "does not say how the layer lies on others".to_owned()));
        }
    }
    Ok(wrong)
}

/// What a form's name says of the chain that it is a form of, if it is one of a chain.
fn chain_of(name: &str) -> Option<&str> {
    let chain = name.strip_prefix("flat-").or_else(|| name.strip_prefix("chain-"))?;
    Some(chain.split('.').next().unwrap_or(chain))
}

/// Derives a form in the second store and returns where it should be.
fn derive(store: &Store, second: &Store, chain: &[Digest], name: &str) -> Result<PathBuf> {
    for digest in chain {
        let (dir, tar) = (second.layer_dir(digest), second.layer_tar(digest));
        fs::create_dir_all(&dir).map_err(Error::Io)?;
        match fs::hard_link(store.layer_tar(digest), tar) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { digest: *digest });
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::Io(error));
            }
            _ => {}
        }
    }
    let top = chain.last().expect("a form has a layer");
    match name {
        "tree" => drop(second.layer_tree(top)?),
        _ if name.starts_with("flat-") => drop(second.flat_tree(chain)?),
        _ if name.starts_with("chain-") => drop(second.chain_index(chain)?),
        // An index is not made beside a tree, which has been compared already.
        _ if second.layer_dir(top).join("tree").exists() => {
            fs::remove_dir_all(second.layer_dir(top).join("tree")).map_err(Error::Io)?;
            drop(second.layer_index(top)?);
        }
        _ => drop(second.layer_index(top)?),
    }
    Ok(second.layer_dir(top).join(name))
}

/// How a form differs from a fresh one; what is not there any more differs in nothing.
fn difference(form: &Path, fresh: &Path) -> Result<Option<String>> {
    if !fresh.exists() {
        return Ok(Some("is nothing that is derived from a layer".to_owned()));
    }
    let differs = match (form.is_dir(), fresh.is_dir()) {
        (true, true) => packed(form)? != packed(fresh)?,
        (false, false) => form.exists() && !same_bytes(form, fresh)?,
        _ => form.exists(),
    };
    Ok(differs.then(|| "is not what its tar gives".to_owned()))
}

/// The digest of a tree as a layer, or why it cannot be one.
fn packed(tree: &Path) -> Result<std::result::Result<Digest, String>> {
    let Some(dir) = open_dir(tree)? else { return Ok(Err("it is not there".to_owned())) };
    let mut tar = LayerWriter::new(DigestWriter::new(io::sink()));
    let packed = pack::pack_upper(dir.as_fd(), &mut tar, None).and_then(|_| tar.finish());
    Ok(packed.map(|out| out.finish().1).map_err(|error| error.to_string()))
}

fn same_bytes(one: &Path, other: &Path) -> Result<bool> {
    let open = |path| fs::File::open(path).map(io::BufReader::new).map_err(Error::Io);
    let (mut one, mut other) = (open(one)?.bytes(), open(other)?.bytes());
    loop {
        match (one.next().transpose(), other.next().transpose()) {
            (Ok(None), Ok(None)) => return Ok(true),
            (Ok(a), Ok(b)) if a == b => {}
            (Err(error), _) | (_, Err(error)) => return Err(Error::Io(error)),
            _ => return Ok(false),
        }
    }
}
