//! Iterators over the messages of a subscription.

use std::iter::FusedIterator;
use std::time::Duration;

use super::handle::Subscription;
use crate::error::Result;
use crate::protocol::Message;

/// Reading with a `for` loop.
impl Subscription {
    /// Messages as they come; waits for each. Ends when [`next`](Self::next) fails, and
    /// [`last_error`](Self::last_error) then says why.
    pub fn iter(&self) -> Iter<'_> {
        Iter { subscription: self, ended: false }
    }

    /// The messages that are there; does not wait. It may give more after it gave `None`.
    pub fn try_iter(&self) -> TryIter<'_> {
        TryIter(self)
    }

    /// Messages as they come, waiting up to `timeout` for each. It may give more after it gave
    /// `None`; [`last_error`](Self::last_error) tells a time-out from an end.
    pub fn timeout_iter(&self, timeout: Duration) -> TimeoutIter<'_> {
        TimeoutIter { subscription: self, timeout }
    }

    /// The step of an iterator that ends for good.
    fn next_unless(&self, ended: &mut bool) -> Option<Message> {
        let message = if *ended { None } else { self.keep(self.next()) };
        *ended = message.is_none();
        message
    }

    fn keep(&self, outcome: Result<Message>) -> Option<Message> {
        match outcome {
            Ok(message) => Some(message),
            Err(error) => {
                *self.last_error.lock() = Some(error);
                None
            }
        }
    }
}

/// Messages as they come; see [`Subscription::iter`]. Once it has ended it stays so.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct Iter<'a> {
    subscription: &'a Subscription,
    ended: bool,
}

impl Iterator for Iter<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.subscription.next_unless(&mut self.ended)
    }
}

impl FusedIterator for Iter<'_> {}

/// The messages that are there; see [`Subscription::try_iter`]. After `None` it may go on.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct TryIter<'a>(&'a Subscription);

impl Iterator for TryIter<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.0.keep(self.0.finish(self.0.mailbox.try_pop(), "now"))
    }
}

/// Messages as they come, each awaited for a time; see [`Subscription::timeout_iter`]. After
/// `None` it may go on.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct TimeoutIter<'a> {
    subscription: &'a Subscription,
    timeout: Duration,
}

impl Iterator for TimeoutIter<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.subscription.keep(self.subscription.next_timeout(self.timeout))
    }
}

/// Messages as they come, owning the subscription. Once it has ended it stays so.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct IntoIter {
    subscription: Subscription,
    ended: bool,
}

impl Iterator for IntoIter {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.subscription.next_unless(&mut self.ended)
    }
}

impl FusedIterator for IntoIter {}

impl IntoIterator for Subscription {
    type Item = Message;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter { subscription: self, ended: false }
    }
}

impl<'a> IntoIterator for &'a Subscription {
    type Item = Message;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
