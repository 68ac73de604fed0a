//! The iterator over everything that a connection tells.

use std::time::Duration;

use super::handle::Connection;
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
        Events(self.core().hub.tap())
    }
}

/// The events and errors of a connection; see [`Connection::events`].
///
/// `next` waits for the next notice without a deadline and gives `None` after `Closed`.
#[derive(Debug)]
pub struct Events(Arc<Tap>);

impl Events {
    /// The next notice if one comes in time, otherwise `None`: then
    /// [`is_finished`](Self::is_finished) tells whether more may come.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    pub fn next_timeout(&self, timeout: Duration) -> Option<Notice> {
        match self.0.next(Some(clock::after(timeout))) {
            Tapped::Notice(notice) => Some(notice),
            Tapped::Timeout | Tapped::Finished => None,
        }
    }

    /// Whether `Closed` has been given out.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Iterator for Events {
    type Item = Notice;

    fn next(&mut self) -> Option<Notice> {
        // A callback that a connection waits for takes what is there.
        let deadline = sync::is_essential().then(|| clock::after(Duration::ZERO));
        match self.0.next(deadline) {
            Tapped::Notice(notice) => Some(notice),
            Tapped::Timeout | Tapped::Finished => None,
        }
    }
}

impl std::iter::FusedIterator for Events {}
