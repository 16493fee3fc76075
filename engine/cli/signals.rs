//! Ctrl-C: the first asks what runs to end, the second ends us, as does time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use cache::Store;
use engine::session::Cancel;
use engine::signals::{HANG_UP, INTERRUPT, Signals, TERMINATE};

/// How long what is canceled may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// Cancels a build when the user or the system asks for its end. Where we end at once, nothing that
/// is half made stays in the store.
pub(crate) fn cancel_on_signals(cancel: Arc<Cancel>, store: &Arc<Store>) -> anyhow::Result<()> {
    let store = Arc::downgrade(store);
    let signals = Signals::take(&[INTERRUPT, TERMINATE, HANG_UP])?;
    std::thread::spawn(move || {
        let mut asked = false;
        while let Ok(signal) = signals.wait() {
            if asked {
                end(&store, signal);
            }
            asked = true;
            cancel.cancel();
            // Whatever does not look whether it is wanted, a download or a big copy, may be cut
            // off.
            let store = store.clone();
            std::thread::spawn(move || {
                std::thread::sleep(GRACE);
                end(&store, signal);
            });
        }
    });
    Ok(())
}

fn end(store: &Weak<Store>, signal: i32) -> ! {
    if let Some(store) = store.upgrade() {
        store.abandon_scratch();
    }
    std::process::exit(128 + signal);
}
