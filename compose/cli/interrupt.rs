//! What can come while something is being done: Ctrl-C, or the end of a container. The first signal asks what is being done
//! to end, the second ends us.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use compose::apply::Cancel;
use engine::signals::{HANG_UP, INTERRUPT, Signals, TERMINATE};

/// Something that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A signal.
    Signal(i32),
    /// A container has ended.
    Ended {
        /// Its service.
        service: String,
        /// What it is called beside its lines.
        label: String,
        /// How.
        code: i32,
    },
    /// What was being done is done.
    Done,
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

    /// Does something that a signal cancels, and a second one breaks off with us.
    pub(crate) fn during<T>(&self, cancel: &Cancel, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let came = self.came.lock().expect("no holder panics");
                while let Ok(news) = came.recv() {
                    match news {
                        News::Done => return,
                        News::Signal(signal) if cancel.is_canceled() => {
                            std::process::exit(128 + signal)
                        }
                        News::Signal(_) => cancel.cancel(),
                        ended => self.early.lock().expect("no holder panics").push_back(ended),
                    }
                }
            });
            let result = work();
            let _ = self.sender.send(News::Done);
            result
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
}
