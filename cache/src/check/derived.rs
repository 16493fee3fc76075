//! Derived forms of layers: each is derived once more, in a second store that shares the tars, and
//! compared. So this knows no form's encoding.
//!
//! A form of a whole chain is found again through the images and containers that have it. One of a
//! chain that none has cannot be derived: an index of it is compared with its seal; a tree of it is passed
//! over, and goes in repairs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fs_err as fs;

use super::tars::{open_dir, packed};
use super::{Checker, in_parallel, is_of_system, is_there, is_unreadable};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::index;
use crate::lower::Mark;
use crate::measure;
use crate::parts::{self, PARTS};
use crate::prune::containers::read;
use crate::regular;
use crate::removal::remove_dir_all;
use crate::store::Store;

/// Chains of layers, by what their forms are named after.
type Chains = BTreeMap<String, Vec<Digest>>;

impl Checker<'_> {
    pub(super) fn derived(&mut self) -> Result<()> {
        let mut jobs: Vec<(Digest, Vec<PathBuf>)> = Vec::new();
        let chains = self.chains()?;
        for (digest, dir) in self.store.listed("layers")? {
            if !dir.is_dir() {
                continue;
            }
            let forms = self.store.derived_forms(&dir)?;
            let (unknown, forms) = forms.into_iter().partition(|form| is_unknown(form, &chains));
            self.pass_over(&digest, unknown)?;
            if !forms.is_empty() && !self.lost_layers.contains(&digest) {
                jobs.push((digest, forms));
            }
        }
        self.report.objects += jobs.iter().map(|(_, forms)| forms.len() as u64).sum::<u64>();
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
                remove_dir_all(dir).map_err(Error::Io)?;
            }
            idle.lock().expect("no holder panics").push(second);
            wrong
        });
        drop(idle);
        for ((digest, forms), wrong) in jobs.iter().zip(found) {
            let wrong = match wrong {
                Ok(wrong) if wrong.is_empty() => continue,
                Ok(wrong) => wrong,
                Err(error) => {
                    self.report.unfinished.get_or_insert(error);
                    continue;
                }
            };
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

    /// Counts trees that there is nothing to compare with; in repairs they go.
    fn pass_over(&mut self, digest: &Digest, trees: Vec<PathBuf>) -> Result<()> {
        let count = trees.len() as u64;
        if count > 0 {
            let removed = self.remove(&trees, Some(digest))?;
            self.report.passed_over += count;
            self.report.dropped += if removed { count } else { 0 };
        }
        Ok(())
    }

    /// All chains that images and containers have.
    fn chains(&self) -> Result<Chains> {
        let mut all = Vec::new();
        for listed in self.store.list_images().unwrap_or_default() {
            let Ok(image) = self.store.peek_image(&listed.digest) else { continue };
            all.push(image.config.rootfs.diff_ids);
        }
        for (_, dir) in self.store.listed("containers")? {
            if let Ok(Some(container)) = read(&dir.join("config.json")) {
                all.push(container.layers);
            }
        }
        let mut chains = Chains::new();
        for layers in all {
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
        let name = name_of(form);
        let Some(found) = measure::stat(form)? else { continue };
        if let Some(what) = regular::instead(found.file_type())
            && !(found.is_dir() && is_tree(name))
        {
            wrong.push((form.clone(), what.to_owned()));
            continue;
        }
        if Mark::ALL.iter().any(|mark| mark.name() == name) {
            continue;
        }
        let unsealed = |whole: bool| {
            (!whole && form.exists()).then(|| (form.clone(), "is not what was sealed".to_owned()))
        };
        // What they are derived from is gone.
        if name == PARTS {
            wrong.extend(unsealed(parts::is_whole(form)?));
            continue;
        }
        let chain = chain_of(name).map(|chain| chains.get(chain));
        let chain = match chain {
            Some(Some(chain)) => chain.as_slice(),
            Some(None) => {
                wrong.extend(unsealed(index::is_whole(form)?));
                continue;
            }
            None => std::slice::from_ref(digest),
        };
        let why = match derive(store, second, chain, name) {
            Ok(fresh) => {
                derived_alone |= chain.len() == 1;
                let why = match difference(form, &fresh) {
                    // It was removed while it was being read.
                    Err(_) if !is_there(form)? => None,
                    why => why?,
                };
                let outdated = why.is_some() && form.is_file() && store.is_outdated(form, chain)?;
                why.filter(|_| !outdated)
            }
            // Whatever is missing or damaged below is told of as itself.
            Err(Error::Missing { .. } | Error::Corrupt { .. }) => None,
            Err(error) if blames_layer(&error) => Some(format!("cannot be derived again: {error}")),
            Err(error) => return Err(error),
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

/// Whether an error says something about what was to be derived, and not about this machine's disk,
/// memory or rights.
pub(super) fn blames_layer(error: &Error) -> bool {
    let is_about =
        matches!(error, Error::Layer { .. } | Error::Index { .. } | Error::Damaged { .. });
    is_about && !is_of_system(error)
}

fn name_of(form: &Path) -> &str {
    form.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

fn is_tree(name: &str) -> bool {
    name == "tree" || name.starts_with("flat-")
}

/// Whether this is a tree of a chain that no image has.
fn is_unknown(form: &Path, chains: &Chains) -> bool {
    let name = name_of(form);
    is_tree(name) && chain_of(name).is_some_and(|chain| !chains.contains_key(chain))
}

/// What a form's name says of the chain that it is a form of, if it is one of a chain.
fn chain_of(name: &str) -> Option<&str> {
    let chain = name.strip_prefix("flat-").or_else(|| name.strip_prefix("chain-"))?;
    Some(chain.split('.').next().unwrap_or(chain))
}

/// Derives a form in the second store and returns where it should be.
fn derive(store: &Store, second: &Store, chain: &[Digest], name: &str) -> Result<PathBuf> {
    for digest in chain {
        let whole = measure::stat(&store.layer_tar(digest))?;
        if whole.is_none_or(|found| !found.is_file()) {
            return Err(Error::Missing { digest: *digest });
        }
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
            remove_dir_all(second.layer_dir(top).join("tree")).map_err(Error::Io)?;
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
        (true, true) => match (open_dir(form)?, open_dir(fresh)?) {
            (Some(form), Some(fresh)) => packed(&form, io::sink())? != packed(&fresh, io::sink())?,
            (form, _) => form.is_some(),
        },
        (false, false) => form.exists() && !same_bytes(form, fresh)?,
        _ => form.exists(),
    };
    Ok(differs.then(|| "is not what its tar gives".to_owned()))
}

fn same_bytes(one: &Path, other: &Path) -> Result<bool> {
    let open = |path| {
        let file = fs::File::open(path).map_err(Error::Io)?;
        Ok(io::BufReader::new(file.into_parts().0).bytes())
    };
    let (mut one, mut other) = (open(one)?, open(other)?);
    loop {
        match (one.next().transpose(), other.next().transpose()) {
            (Ok(None), Ok(None)) => return Ok(true),
            (Ok(a), Ok(b)) if a == b => {}
            (Err(error), _) if is_unreadable(&error) => return Ok(false),
            (Err(error), _) | (_, Err(error)) => return Err(Error::Io(error)),
            _ => return Ok(false),
        }
    }
}
