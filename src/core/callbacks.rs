//! The callback thread: every call of every listener, one at a time, in the order of what happened.
//!
//! It holds no lock while a listener runs, so a listener may call anything. A panic is caught and
//! counted; the first of each listener is told to `exception_occurred`. After `Closed` all
//! listeners are dropped, which breaks cycles of a listener that holds its connection.
//!
//! What happens is also logged here, not where it is noticed: a logger is code of the program, and
//! may well look at the connection or publish what it is given.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::{debug, info, warn};

use super::notice::{ConnectionEventKind, Notice};
use super::shared::Core;
use crate::error::{Error, ErrorKind};
use crate::sync::{Arc, assert_unlocked};

/// The body of the callback thread; ends after `Closed`.
pub(super) fn run(core: &Arc<Core>) {
    let mut reported = HashSet::new();
    loop {
        let (number, notice) = core.hub.next();
        if catch_unwind(AssertUnwindSafe(|| log(&notice))).is_err() {
            core.counters.panics.add(1);
        }
        for sink in core.hub.sinks(number) {
            assert_unlocked("calling a listener");
            if catch_unwind(AssertUnwindSafe(|| sink.call(core, &notice))).is_err() {
                core.counters.panics.add(1);
                if reported.insert(sink.id()) {
                    let text = "a listener panicked; further panics of it are only counted";
                    core.exception(Error::new(ErrorKind::UserPanic, text));
                }
            }
        }
        let is_end = matches!(
            &notice,
            Notice::Event(event) if matches!(event.kind(), ConnectionEventKind::Closed { .. })
        );
        if is_end {
            // A listener's own `drop` is code of the program too.
            let _ = catch_unwind(AssertUnwindSafe(|| core.hub.clear()));
            core.life.lock().closed_delivered = true;
            core.changed.notify_all();
            return;
        }
    }
}

fn log(notice: &Notice) {
    use ConnectionEventKind as K;
    assert_unlocked("calling a logger");
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
