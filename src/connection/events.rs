//! The iterator over everything that a connection tells.

use std::time::Duration;

use super::handle::Connection;
#[cfg(feature = "crossbeam-channel")]
use crate::bell::Signal;
use crate::clock;
use crate::core::{Notice, Tap, Tapped};
use crate::sync::{self, Arc};

/// Listening without a listener.
impl Connection {
    /// Everything that happens from now on, events and errors in order, as an iterator.
    ///
    /// It ends after [`Closed`](crate::ConnectionEventKind::Closed). Each call gives an independent
    /// iterator with a queue of its own, bounded like that of the listeners; it does not keep the
    /// connection open.
    ///
    /// ```no_run
    /// # let connection = nats_blocking::connect("nats://127.0.0.1:4222")?;
    /// let events = connection.events();
    /// std::thread::spawn(move || {
    ///     for notice in events {
    ///         println!("{notice}");
    ///     }
    /// });
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn events(&self) -> Events {
        Events {
            tap: self.core().hub.tap(),
            #[cfg(feature = "crossbeam-channel")]
            signal: std::sync::OnceLock::new(),
        }
    }
}

/// The events and errors of a connection; see [`Connection::events`].
///
/// `next` waits for the next notice without a deadline and gives `None` after `Closed`.
#[derive(Debug)]
#[must_use = "dropping it forgets what it would have told"]
pub struct Events {
    tap: Arc<Tap>,
    #[cfg(feature = "crossbeam-channel")]
    signal: std::sync::OnceLock<Arc<Signal>>,
}

impl Events {
    /// The next notice if one is there, otherwise `None`: then [`is_finished`](Self::is_finished)
    /// tells whether more may come. Does not wait.
    pub fn try_next(&self) -> Option<Notice> {
        self.next_timeout(Duration::ZERO)
    }

    /// The next notice if one comes in time, otherwise `None`: then
    /// [`is_finished`](Self::is_finished) tells whether more may come.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    pub fn next_timeout(&self, timeout: Duration) -> Option<Notice> {
        match self.tap.next(Some(clock::after(timeout))) {
            Tapped::Notice(notice) => Some(notice),
            Tapped::Timeout | Tapped::Finished => None,
        }
    }

    /// Whether `Closed` has been given out.
    pub fn is_finished(&self) -> bool {
        self.tap.is_finished()
    }

    /// A receiver for `select!` that has a token whenever [`try_next`](Self::try_next) would give a
    /// notice, or `Closed` has been given out. After each token call `try_next` once; what
    /// [`Subscription::ready`](crate::Subscription::ready) says of tokens and of the type holds
    /// here too. Needs the feature `crossbeam-channel`.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use nats_blocking::testing::Server;
    ///
    /// let server = Server::start()?;
    /// let connection = nats_blocking::connect(server.url())?;
    /// let events = connection.events();
    /// connection.close();
    /// while !events.is_finished() {
    ///     crossbeam_channel::select! {
    ///         recv(events.ready()) -> _ => {
    ///             if let Some(notice) = events.try_next() {
    ///                 println!("{notice}");
    ///             }
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    #[cfg(feature = "crossbeam-channel")]
    pub fn ready(&self) -> &crossbeam_channel::Receiver<()> {
        let signal = self.signal.get_or_init(|| {
            let signal = Arc::new(Signal::new());
            self.tap.attach(Arc::<Signal>::clone(&signal));
            signal
        });
        signal.receiver()
    }
}

impl Iterator for Events {
    type Item = Notice;

    fn next(&mut self) -> Option<Notice> {
        // A callback that a connection waits for takes what is there.
        let deadline = sync::is_essential().then(|| clock::after(Duration::ZERO));
        match self.tap.next(deadline) {
            Tapped::Notice(notice) => Some(notice),
            Tapped::Timeout | Tapped::Finished => None,
        }
    }
}

impl std::iter::FusedIterator for Events {}
