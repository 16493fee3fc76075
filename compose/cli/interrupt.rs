//! What can come while something is being done: Ctrl-C, or the end of a container. The first signal asks what is being done
//! to end, the second ends us.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use compose::apply::Cancel;
use compose::failure::Failure;
use engine::signals::{HANG_UP, INTERRUPT, Signals, TERMINATE};

/// What a program ends with that was interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

/// Something that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A signal.
    Signal(i32),
    /// A container has ended.
    Ended {
        /// Its service.
        service: String,
        /// How.
        code: i32,
    },
    /// Nobody follows a container any more.
    Left {
        /// Its id.
        id: String,
        /// Whether it cannot be followed.
        is_lost: bool,
    },
    /// A container was started, by whomever.
    Started {
        /// Its id.
        id: String,
    },
    /// Nobody reads any more what is printed.
    Unread,
    /// What was done about changed files is done.
    Settled,
    /// What was being done is done.
    Done,
}

/// Says that something is done, however it ends.
struct Finally<'a>(&'a Sender<News>);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        let _ = self.0.send(News::Done);
    }
}

/// Where news come together.
pub(crate) struct Interrupt {
    came: Mutex<Receiver<News>>,
    /// What came while nobody could do anything about it.
    early: Mutex<VecDeque<News>>,
    sender: Sender<News>,
}

impl Interrupt {
    /// Takes signals from now on; called before any other thread is started.
    pub(crate) fn take() -> io::Result<Interrupt> {
        let signals = Signals::take(&[INTERRUPT, TERMINATE, HANG_UP])?;
        let (sender, came) = channel();
        let to = sender.clone();
        std::thread::spawn(move || {
            while let Ok(signal) = signals.wait() {
                if to.send(News::Signal(signal)).is_err() {
                    return;
                }
            }
        });
        Ok(Interrupt { came: Mutex::new(came), early: Mutex::default(), sender })
    }

    /// Does something that a signal cancels, and a second one breaks off with us. One that comes too late to cancel it
    /// keeps all the same what would be done next from being done.
    pub(crate) fn during<T, E: From<Failure>>(
        &self,
        cancel: &Cancel,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut asked = false;
        let on_signal = |signal| match std::mem::replace(&mut asked, true) {
            true => std::process::exit(128 + signal),
            false => cancel.cancel(),
        };
        let done = self.attend(on_signal, work)?;
        if asked { Err(Failure::Interrupted.into()) } else { Ok(done) }
    }

    /// Does something, and something else for each signal that comes meanwhile.
    pub(crate) fn attend<T>(
        &self,
        mut on_signal: impl FnMut(i32) + Send,
        work: impl FnOnce() -> T,
    ) -> T {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let came = self.came.lock().expect("no holder panics");
                while let Ok(news) = came.recv() {
                    match news {
                        News::Done => return,
                        News::Signal(signal) => on_signal(signal),
                        ended => self.early.lock().expect("no holder panics").push_back(ended),
                    }
                }
            });
            // Also when the work panics: otherwise nobody would hear of it.
            let _done = Finally(&self.sender);
            work()
        })
    }

    /// For whoever has news.
    pub(crate) fn sender(&self) -> Sender<News> {
        self.sender.clone()
    }

    /// The next news; waits for them.
    pub(crate) fn next(&self) -> News {
        if let Some(early) = self.early.lock().expect("no holder panics").pop_front() {
            return early;
        }
        let came = self.came.lock().expect("no holder panics");
        came.recv().unwrap_or(News::Signal(TERMINATE))
    }

    /// The same, but waits only so long.
    pub(crate) fn next_within(&self, time: Duration) -> Option<News> {
        if let Some(early) = self.early.lock().expect("no holder panics").pop_front() {
            return Some(early);
        }
        self.came.lock().expect("no holder panics").recv_timeout(time).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interrupt() -> Interrupt {
        let (sender, came) = channel();
        Interrupt { came: Mutex::new(came), early: Mutex::default(), sender }
    }

    #[test]
    fn a_signal_that_comes_at_the_very_end_is_not_lost() {
        let interrupt = interrupt();
        let cancel = Cancel::new().expect("an event");
        let done = interrupt.during(&cancel, || {
            interrupt.sender().send(News::Signal(INTERRUPT)).expect("somebody hears");
            while !cancel.is_canceled() {
                std::thread::yield_now();
            }
            Ok::<_, Failure>(())
        });
        assert!(matches!(done, Err(Failure::Interrupted)), "{done:?}");
        // Without one all goes on, and what else has come is kept.
        let cancel = Cancel::new().expect("an event");
        let left = News::Left { id: "a".to_owned(), is_lost: false };
        let done = interrupt.during(&cancel, || {
            interrupt.sender().send(left.clone()).expect("somebody hears");
            Ok::<_, Failure>(3)
        });
        assert!(matches!(done, Ok(3)), "{done:?}");
        assert_eq!(interrupt.next(), left);
    }
}
