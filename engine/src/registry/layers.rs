//! The layers of an image from a registry: those that are not there, some at once, each once whoever
//! asks for it, and in one pass from the socket into the store.
//!
//! Does not know what the image is called.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache::Store;
use cache::compress::decompress;
use cache::digest::Digest;
use cache::known::KnownBlob;
use cache::layers::Layer;
use cache::oci::{Descriptor, Manifest};

use super::progress::{Event, Listener, State};
use super::{Error, Remote};

/// How many layers come at once.
const SIDE_BY_SIDE: usize = 4;
/// How often it is looked whether another process has brought a layer.
const GLANCE: Duration = Duration::from_millis(20);

impl Remote<'_> {
    /// Brings the layers that are not there, some at once.
    pub(super) fn bring(
        &self,
        store: &Store,
        pairs: &[(&Descriptor, &Digest)],
        listener: Listener<'_>,
    ) -> Result<(), Error> {
        let mut jobs: Vec<(&Descriptor, &Digest)> = Vec::new();
        for (descriptor, diff_id) in pairs {
            if jobs.iter().all(|(_, known)| known != diff_id) {
                jobs.push((descriptor, diff_id));
            }
        }
        for (blob, diff_id) in &jobs {
            if store.layer(diff_id)?.is_some() {
                continue;
            }
            listener(Event { layer: &blob.digest, size: blob.size, state: State::Waiting });
        }
        let threads = jobs.len().min(SIDE_BY_SIDE);
        let jobs = Mutex::new(jobs.into_iter());
        let (stop, failed) = (AtomicBool::new(false), Mutex::new(None));
        let work = || {
            loop {
                let next = jobs.lock().expect("no holder panics").next();
                let Some((blob, diff_id)) = next else { break };
                if let Err(error) = self.layer(store, blob, diff_id, &stop, listener) {
                    stop.store(true, Ordering::Relaxed);
                    let mut failed = failed.lock().expect("no holder panics");
                    // What was given up because of the first failure is no cause.
                    if !matches!(error, Error::GivenUp) {
                        failed.get_or_insert(error);
                    }
                    break;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        match failed.into_inner().expect("no holder panics") {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Has a layer in the store, whoever brings it.
    pub(super) fn layer(
        &self,
        store: &Store,
        blob: &Descriptor,
        diff_id: &Digest,
        stop: &AtomicBool,
        listener: Listener<'_>,
    ) -> Result<(), Error> {
        let tell = |state| listener(Event { layer: &blob.digest, size: blob.size, state });
        let (layer, state) = loop {
            if let Some(layer) = store.layer(diff_id)? {
                break (layer, State::Present);
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Error::GivenUp);
            }
            let Some(_claim) = store.try_claim(&claim_of(diff_id))? else {
                tell(State::Elsewhere);
                std::thread::sleep(GLANCE);
                continue;
            };
            // It may have come before we had the claim.
            if store.layer(diff_id)?.is_none() {
                let moved = |bytes| tell(State::Moved(bytes));
                break (self.transfer(store, blob, diff_id, stop, &moved)?, State::Done);
            }
        };
        let known = KnownBlob {
            digest: blob.digest,
            size: blob.size,
            media_type: blob.media_type.clone(),
            repositories: vec![self.client.place.full_name()],
        };
        // Only a hint for a push.
        let _ = store.note_blob(&layer, known);
        tell(state);
        Ok(())
    }

    /// Brings a layer from the socket into the store, in one pass.
    fn transfer(
        &self,
        store: &Store,
        blob: &Descriptor,
        diff_id: &Digest,
        stop: &AtomicBool,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Layer, Error> {
        let what = format!("layer {}", blob.digest);
        let mut download = self.download(blob, stop, progress);
        let limit = self.settings.rules.max_layer_bytes.unwrap_or(limit(blob.size));
        let mut exceeded = false;
        let unpacked = decompress(&mut download)
            .map_err(|source| Error::Decompress { what: what.clone(), source })
            .and_then(|(plain, _)| {
                let bounded = Bounded { plain, left: limit, exceeded: &mut exceeded };
                let place = format!("{what} of {}", self.client.place.full_name());
                let draft = store.draft_layer()?;
                draft
                    .commit_copy(bounded, Path::new(&place), diff_id)
                    .map_err(|source| Error::Layer { what: what.clone(), source: Box::new(source) })
            });
        match unpacked {
            Ok(layer) => download.finish().map(|()| layer),
            Err(_) if exceeded => Err(Error::Bomb { what, limit, size: blob.size }),
            Err(error) => Err(match download.take_failure() {
                Some(failure) => failure,
                // What is not what it should be cannot be expected to be readable.
                None => download.finish().err().unwrap_or(error),
            }),
        }
    }
}

/// Refuses an image that could not be used later.
pub(super) fn check(store: &Store, manifest: &Manifest, diff_ids: &[Digest]) -> Result<(), Error> {
    // Only who is root can mount.
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    store.check_lower(diff_ids).map_err(|(layer, source)| {
        let at = diff_ids.iter().position(|diff_id| *diff_id == layer).unwrap_or_default();
        let blob = manifest.layers.get(at).map_or(layer, |blob| blob.digest);
        Error::Layer { what: format!("layer {blob}"), source: Box::new(source) }
    })
}

/// The key of bringing a layer.
fn claim_of(diff_id: &Digest) -> Digest {
    Digest::of(format!("bring layer {diff_id}"))
}

/// Bytes that a blob may unpack to if nothing else is said: more than honest layers do, less than
/// what fills disks.
fn limit(size: u64) -> u64 {
    (4_u64 << 30).saturating_add(size.saturating_mul(100))
}

/// A stream that ends in an error after so many bytes.
struct Bounded<'a, R> {
    plain: R,
    left: u64,
    exceeded: &'a mut bool,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.plain.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                *self.exceeded = true;
                return Err(io::Error::other("it unpacks to more than is allowed"));
            }
        }
        Ok(read)
    }
}
