//! Ctrl-C: the first asks what runs to end, the second ends us, as does time.

use std::sync::Arc;
use std::time::Duration;

use engine::session::Cancel;
use engine::signals::{HANG_UP, INTERRUPT, Signals, TERMINATE};

/// How long what is canceled may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// Cancels a build when the user or the system asks for its end.
pub(crate) fn cancel_on_signals(cancel: Arc<Cancel>) -> anyhow::Result<()> {
    let signals = Signals::take(&[INTERRUPT, TERMINATE, HANG_UP])?;
    std::thread::spawn(move || {
        let mut asked = false;
        while let Ok(signal) = signals.wait() {
            if asked {
                std::process::exit(128 + signal);
            }
            asked = true;
            cancel.cancel();
            // Whatever does not look whether it is wanted, a download or a big copy, may be cut
            // off: what is half done is swept by the next of us.
            std::thread::spawn(move || {
                std::thread::sleep(GRACE);
                std::process::exit(128 + signal);
            });
        }
    });
    Ok(())
}
