//! Ctrl-C: the first asks what runs to end, the second ends us.

use std::sync::Arc;

use engine::session::Cancel;
use engine::signals::{HANG_UP, INTERRUPT, Signals, TERMINATE};

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
        }
    });
    Ok(())
}
