//! The callback thread: every call of every listener, one at a time, in the order of what happened.
//!
//! It holds no lock while a listener runs, so a listener may call anything. A panic is caught and
//! counted; the first of each listener is told to `exception_occurred`. After `Closed` (which
//! nobody is told of where nothing is to follow the program's own close) all listeners are dropped,
//! which breaks cycles of a listener that holds its connection. Between the notices stand calls, of
//! closures that wait for the end of a subscription and of barriers.
//!
//! What happens is also logged here, not where it is noticed: a logger is code of the program, and
//! may well look at the connection or publish what it is given.

use std::collections::HashSet;

use log::{debug, info, warn};

use super::events::Due;
use super::notice::{ConnectionEventKind, Notice};
use super::shared::Core;
use crate::error::{Error, ErrorKind};
use crate::sync::{Arc, guarded};

/// The body of the callback thread; ends after `Closed`.
pub(crate) fn run(core: &Arc<Core>) {
    let mut reported = HashSet::new();
    loop {
        let (number, notice) = match core.hub.next() {
            Due::Notice(number, notice) => (number, notice),
            Due::Call(call) => {
                if !guarded(|| call(core)) {
                    core.counters.panics.add(1);
                    let text = "a closure for the end of a subscription panicked";
                    core.exception(Error::new(ErrorKind::UserPanic, text));
                }
                continue;
            }
        };
        let muted = core.hub.is_muted();
        if !muted && !guarded(|| log(&notice)) {
            core.counters.panics.add(1);
        }
        for sink in core.hub.sinks(number) {
            // An earlier listener may have removed this one, or closed the connection.
            let id = sink.id();
            let told = core.hub.has(id) && !core.hub.is_muted();
            let fine = !told || guarded(|| sink.call(core, &notice));
            // The listener may be dropped here, if it was removed meanwhile; apart from the call,
            // because a panic while another unwinds would end the process.
            if guarded(move || drop(sink)) && fine {
                continue;
            }
            core.counters.panics.add(1);
            if reported.insert(id) {
                let text = "a listener panicked; further panics of it are only counted";
                core.exception(Error::new(ErrorKind::UserPanic, text));
            }
        }
        if notice.is_end() {
            core.life.lock().closed_delivered = true;
            core.changed.notify_all();
            for sink in core.hub.take_sinks() {
                guarded(move || drop(sink));
            }
            return;
        }
    }
}

/// One line for each notice.
/// A logger is code of the program too: it must not run where the event is queued.
fn log(notice: &Notice) {
    use ConnectionEventKind as K;
    match notice {
        // The listeners of the program say more; without any, a built-in one logs it louder.
        Notice::Error { .. } => debug!("{notice}"),
        Notice::Event(event) => match event.kind() {
            K::Reconnecting { .. } | K::ReconnectFailed { .. } => debug!("{event}"),
            K::Disconnected { .. } | K::StaleConnection { .. } => warn!("{event}"),
            _ => info!("{event}"),
        },
    }
}
