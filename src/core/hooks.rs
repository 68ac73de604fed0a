//! Closures that are called when a subscription has ended.
//!
//! A subscription ends on any thread; its closures run on the callback thread, before `Closed`. The
//! end is told once: whoever sees that the subscription is over ([`Hooks::finish`]) marks it and
//! queues the calls in one step, under the lock of this file, so that a closure that comes later
//! finds the mark and is queued at once, and none is queued behind `Closed`.
//!
//! Lock order: Hooks → Events. The program's closures are neither called nor dropped here.

use std::collections::BTreeMap;

use super::events::{Call, Hub};
use crate::subscriptions::{ConsumerView, EndReason, Subscriber, SubscriptionEnd};
use crate::sync::{Arc, Mutex, Rank};

/// What is called at the end of a subscription.
pub(crate) type EndHook<C> = Box<dyn FnOnce(&C, &SubscriptionEnd) + Send>;

/// The closures of one connection.
pub(crate) struct Hooks<C> {
    state: Mutex<State<C>>,
}

struct State<C> {
    waiting: BTreeMap<u64, (Arc<Subscriber>, Vec<EndHook<C>>)>,
    /// The connection has ended, and with it every subscription.
    ended: Option<EndReason>,
}

impl<C: 'static> Hooks<C> {
    pub(crate) fn new() -> Self {
        let state = State { waiting: BTreeMap::new(), ended: None };
        Self { state: Mutex::new(Rank::Hooks, state) }
    }

    /// Adds a closure for the end of a subscription; if that has been told, it is queued at once.
    /// Returns it if it will not be called, because `Closed` is queued already.
    pub(crate) fn add(
        &self,
        subscriber: &Arc<Subscriber>,
        hook: EndHook<C>,
        hub: &Hub<C>,
    ) -> Result<(), Call<C>> {
        let mut state = self.state.lock();
        let told = subscriber.is_finished() && subscriber.reason().is_some();
        if !told && state.ended.is_none() {
            let sid = subscriber.sid();
            let entry = state.waiting.entry(sid);
            entry.or_insert_with(|| (Arc::clone(subscriber), Vec::new())).1.push(hook);
            return Ok(());
        }
        let reason = reason(subscriber, state.ended.as_ref());
        hub.call(call(subscriber, reason, hook))
    }

    /// Tells the end of a subscription that is over, once. Returns what could not be queued any
    /// more, to be dropped by the caller.
    #[must_use]
    pub(crate) fn finish(&self, subscriber: &Arc<Subscriber>, hub: &Hub<C>) -> Vec<Call<C>> {
        let mut state = self.state.lock();
        if !subscriber.finish() {
            return Vec::new();
        }
        let Some((subscriber, hooks)) = state.waiting.remove(&subscriber.sid()) else {
            return Vec::new();
        };
        let reason = reason(&subscriber, state.ended.as_ref());
        let calls = hooks.into_iter().map(|hook| call(&subscriber, reason.clone(), hook));
        calls.filter_map(|call| hub.call(call).err()).collect()
    }

    /// The connection ends: from now on that is the reason where there is no other.
    pub(crate) fn begin_end(&self, end: &EndReason) {
        self.state.lock().ended.get_or_insert_with(|| end.clone());
    }

    /// The connection has ended: tells the end of every subscription that somebody waits for.
    #[must_use]
    pub(crate) fn finish_all(&self, end: &EndReason, hub: &Hub<C>) -> Vec<Call<C>> {
        let mut state = self.state.lock();
        state.ended.get_or_insert_with(|| end.clone());
        let mut refused = Vec::new();
        for (subscriber, hooks) in std::mem::take(&mut state.waiting).into_values() {
            subscriber.ends_by(end.clone());
            subscriber.finish();
            let reason = reason(&subscriber, Some(end));
            let calls = hooks.into_iter().map(|hook| call(&subscriber, reason.clone(), hook));
            refused.extend(calls.filter_map(|call| hub.call(call).err()));
        }
        refused
    }
}

/// Why a subscription ended; `end` is that of the connection.
fn reason(subscriber: &Subscriber, end: Option<&EndReason>) -> EndReason {
    match subscriber.reason() {
        // What was to be handled was thrown away after all.
        Some(EndReason::Drained) if subscriber.is_cut_short() => match end {
            _ if subscriber.is_discarding() => EndReason::Unsubscribed,
            Some(end) => end.clone(),
            // What came behind the end of the drain.
            None => EndReason::Drained,
        },
        Some(reason) => reason.clone(),
        None => end.cloned().unwrap_or(EndReason::Unsubscribed),
    }
}

fn call<C: 'static>(subscriber: &Arc<Subscriber>, reason: EndReason, hook: EndHook<C>) -> Call<C> {
    let view = ConsumerView::new(Arc::<Subscriber>::clone(subscriber));
    let end = SubscriptionEnd::new(view, reason);
    Box::new(move |connection| hook(connection, &end))
}
