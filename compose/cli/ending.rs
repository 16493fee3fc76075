//! The end of verbs that go on and on: a signal, or that nobody reads any more what they print.

use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use compose::apply::Cancel;
use engine::signals::{HANG_UP, INTERRUPT, Signals, TERMINATE};
use rustix::event::{PollFd, PollFlags, poll};

use crate::interrupt::INTERRUPTED;
use crate::ui;

/// The wish that a verb ends. Readable once somebody has it.
pub(crate) struct Ending {
    wish: Arc<Cancel>,
    is_signal: Arc<AtomicBool>,
}

impl Ending {
    /// Watches from now on; called before any other thread is started.
    pub(crate) fn watch() -> std::io::Result<Ending> {
        let signals = Signals::take(&[INTERRUPT, TERMINATE, HANG_UP])?;
        let ending = Ending { wish: Arc::new(Cancel::new()?), is_signal: Arc::default() };
        let (wish, is_signal) = (Arc::clone(&ending.wish), Arc::clone(&ending.is_signal));
        std::thread::spawn(move || {
            let stdout = std::io::stdout();
            let [mut signal, mut unread] = [PollFlags::empty(); 2];
            while signal.is_empty() && !unread.contains(PollFlags::ERR) {
                let mut polled = [
                    PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
                    PollFd::new(&stdout, PollFlags::empty()),
                ];
                match poll(&mut polled, None) {
                    Ok(_) => [signal, unread] = polled.map(|fd| fd.revents()),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return,
                }
                if unread.intersects(PollFlags::HUP | PollFlags::NVAL) {
                    unread = PollFlags::ERR;
                }
            }
            is_signal.store(!signal.is_empty(), Ordering::SeqCst);
            wish.cancel();
        });
        Ok(ending)
    }

    /// Ends what waits for this, without any wish.
    pub(crate) fn end(&self) {
        self.wish.cancel();
    }

    /// What to end with.
    pub(crate) fn code(&self) -> ExitCode {
        if !self.is_signal.load(Ordering::SeqCst) {
            return ExitCode::SUCCESS;
        }
        ui::note("");
        ExitCode::from(INTERRUPTED)
    }
}

impl AsFd for Ending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wish.as_fd()
    }
}
