//! Dispatchers: handlers on a thread of their own.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use nats_blocking::testing::Happening;
use nats_blocking::{Connection, Consumer, ConsumerStatus, ErrorKind, Message};

use super::backend::{Backend, LIMIT, kind, numbers, text, text_of, texts};
use crate::support::wait::Gate;

conformance! {
    messages_of_all_subjects_are_handled_in_the_order_of_their_arrival,
    a_subscription_may_have_a_handler_of_its_own,
    a_member_of_a_queue_group_may_be_a_handler,
    a_subscription_is_unsubscribed_by_its_sid,
    a_handled_subscription_ends_after_the_number_asked_for,
    a_panicking_handler_is_reported_and_goes_on,
    a_handler_may_call_anything_on_its_connection,
    a_handler_may_close_its_connection,
    a_handler_may_drain_its_connection,
    a_dropped_dispatcher_ends_after_the_message_in_hand,
    draining_waits_for_the_handlers_and_loses_nothing,
    draining_a_dispatcher_from_its_handler_only_begins,
    a_dispatcher_sums_up_its_subscriptions,
}

type Handler = Box<dyn FnMut(&Connection, Message) + Send>;

/// A handler that hands every message on to the test.
fn recording() -> (Handler, Receiver<Message>) {
    let (sender, receiver) = mpsc::channel();
    (Box::new(recording_into(sender)), receiver)
}

fn recording_into(sender: Sender<Message>) -> impl FnMut(&Connection, Message) + Send + 'static {
    move |_, message| {
        // The test may have stopped to listen.
        let _ = sender.send(message);
    }
}

fn next(receiver: &Receiver<Message>) -> Message {
    receiver.recv_timeout(LIMIT).expect("a handled message")
}

fn messages_of_all_subjects_are_handled_in_the_order_of_their_arrival(backend: &Backend) {
    let client = backend.client();
    let (handler, handled) = recording();
    let dispatcher = client.dispatcher(handler).unwrap();
    for subject in ["a", "b.*", "c"] {
        dispatcher.subscribe(subject).unwrap();
    }
    for payload in numbers(999).chunks(3) {
        client.publish("a", &payload[0]).unwrap();
        client.publish("b.x", &payload[1]).unwrap();
        client.publish("c", &payload[2]).unwrap();
    }
    let order: Vec<String> = (0..999).map(|_| text_of(&next(&handled))).collect();
    assert_eq!(order, numbers(999));
}

fn a_subscription_may_have_a_handler_of_its_own(backend: &Backend) {
    let client = backend.client();
    let (sender, handled) = mpsc::channel();
    let tagged = |tag: &'static str| {
        let sender = sender.clone();
        move |_: &Connection, message: Message| {
            let _ = sender.send(format!("{tag} {}", text_of(&message)));
        }
    };
    let dispatcher = client.dispatcher(tagged("default")).unwrap();
    dispatcher.subscribe("a").unwrap();
    dispatcher.subscribe_with("b", tagged("own")).unwrap();
    dispatcher.queue_subscribe_with("c", "q", tagged("other")).unwrap();
    for (subject, payload) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("b", "5")] {
        client.publish(subject, payload).unwrap();
    }
    let order: Vec<String> = (0..5).map(|_| handled.recv_timeout(LIMIT).unwrap()).collect();
    assert_eq!(order, ["default 1", "own 2", "default 3", "other 4", "own 5"]);
}

fn a_member_of_a_queue_group_may_be_a_handler(backend: &Backend) {
    let client = backend.client();
    let (sender, handled) = mpsc::channel();
    let first = client.dispatcher(recording_into(sender.clone())).unwrap();
    let second = client.dispatcher(recording_into(sender)).unwrap();
    first.queue_subscribe("work", "q").unwrap();
    second.queue_subscribe("work", "q").unwrap();
    for payload in numbers(200) {
        client.publish("work", payload).unwrap();
    }
    let mut got: Vec<usize> = (0..200).map(|_| text_of(&next(&handled)).parse().unwrap()).collect();
    got.sort_unstable();
    assert_eq!(got, (0..200).collect::<Vec<_>>());
    assert!(first.delivered() > 0 && second.delivered() > 0);
    assert_eq!(first.delivered() + second.delivered(), 200);
}

fn a_subscription_is_unsubscribed_by_its_sid(backend: &Backend) {
    let client = backend.client();
    let (handler, handled) = recording();
    let dispatcher = client.dispatcher(handler).unwrap();
    let other = client.dispatcher(|_, _| ()).unwrap();
    let first = dispatcher.subscribe("a").unwrap();
    dispatcher.subscribe("b").unwrap();
    let foreign = other.subscribe("c").unwrap();
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 3);
    assert!(dispatcher.unsubscribe(first));
    assert!(!dispatcher.unsubscribe(first), "it is gone");
    assert!(!dispatcher.unsubscribe(foreign), "it belongs to another");
    assert!(!dispatcher.unsubscribe(12_345));
    client.publish("a", "late").unwrap();
    client.publish("b", "goes on").unwrap();
    assert_eq!(text_of(&next(&handled)), "goes on");
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 2);
}

fn a_handled_subscription_ends_after_the_number_asked_for(backend: &Backend) {
    let client = backend.client();
    let (handler, handled) = recording();
    let dispatcher = client.dispatcher(handler).unwrap();
    let sid = dispatcher.subscribe("a").unwrap();
    dispatcher.subscribe("end").unwrap();
    assert_eq!(kind(dispatcher.unsubscribe_after(sid, 0)), ErrorKind::InvalidOption);
    assert!(!dispatcher.unsubscribe_after(12_345, 3).unwrap());
    assert!(dispatcher.unsubscribe_after(sid, 3).unwrap());
    for payload in numbers(10) {
        client.publish("a", payload).unwrap();
    }
    client.publish("end", "end").unwrap();
    let order: Vec<String> = (0..4).map(|_| text_of(&next(&handled))).collect();
    assert_eq!(order, ["0", "1", "2", "end"]);
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 1);
}

fn a_panicking_handler_is_reported_and_goes_on(backend: &Backend) {
    let client = backend.client();
    let (sender, handled) = mpsc::channel();
    let dispatcher = client
        .dispatcher(move |_, message| {
            assert!(message.payload() != b"bad", "a bad message (this panic is wanted)");
            let _ = sender.send(message);
        })
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    dispatcher.subscribe_with("own", |_, _| panic!("own (this panic is wanted)")).unwrap();
    client.publish("a", "bad").unwrap();
    client.publish("own", "").unwrap();
    client.publish("own", "").unwrap();
    client.publish("a", "good").unwrap();
    assert_eq!(text_of(&next(&handled)), "good");
    client.recorder.wait_for_count(LIMIT, 3, is_panic).unwrap();
    assert_eq!(client.statistics().panics(), 3);
    assert_eq!(dispatcher.status(), ConsumerStatus::Active);
}

fn is_panic(happening: &Happening) -> bool {
    matches!(happening, Happening::Exception(error) if error.kind() == ErrorKind::UserPanic)
}

fn a_handler_may_call_anything_on_its_connection(backend: &Backend) {
    let client = backend.client();
    let other = backend.client();
    let answering = other
        .dispatcher(|connection, message| connection.respond(&message, "answer").unwrap())
        .unwrap();
    answering.subscribe("service").unwrap();
    let results = other.subscribe("results").unwrap();
    other.flush().unwrap();
    let mut kept = Vec::new();
    let dispatcher = client
        .dispatcher(move |connection, message| {
            let reply = connection.request("service", "", LIMIT).unwrap();
            connection.flush().unwrap();
            let inner = connection.subscribe("inner").unwrap();
            connection.publish("inner", text_of(&reply)).unwrap();
            let inner_message = inner.next_timeout(LIMIT).unwrap();
            kept.push((inner, connection.clone()));
            let result = format!("{} {}", text_of(&message), text_of(&inner_message));
            connection.publish("results", result).unwrap();
        })
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    for payload in numbers(3) {
        client.publish("a", payload).unwrap();
    }
    assert_eq!(texts(&results, 3), ["0 answer", "1 answer", "2 answer"]);
}

fn a_handler_may_close_its_connection(backend: &Backend) {
    let client = backend.client();
    let other = backend.client();
    let (sender, handled) = mpsc::channel();
    let dispatcher = client
        .dispatcher(move |connection, _| {
            connection.close();
            let _ = sender.send(connection.is_closed());
        })
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    client.flush().unwrap();
    other.publish("a", "1").unwrap();
    other.publish("a", "2").unwrap();
    assert!(handled.recv_timeout(LIMIT).unwrap());
    assert!(client.wait_closed(LIMIT).unwrap().is_none());
    // The thread ends and drops its handler; what waited is not handled any more.
    assert_eq!(handled.recv_timeout(LIMIT), Err(mpsc::RecvTimeoutError::Disconnected));
    assert_eq!(kind(dispatcher.subscribe("b")), ErrorKind::Closed);
}

fn a_handler_may_drain_its_connection(backend: &Backend) {
    let client = backend.client();
    let other = backend.client();
    let results = other.subscribe("results").unwrap();
    let mut begun = false;
    let dispatcher = client
        .dispatcher(move |connection, message| {
            if !begun {
                begun = true;
                // From a handler this only starts the drain, which waits for this very handler.
                connection.drain(LIMIT).unwrap();
                assert!(connection.is_draining());
            }
            connection.publish("results", message.payload()).unwrap();
        })
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    client.flush().unwrap();
    for payload in numbers(100) {
        other.publish("a", payload).unwrap();
    }
    assert!(client.wait_closed(LIMIT).unwrap().is_none());
    let handled = dispatcher.delivered();
    assert!((1..=100).contains(&handled));
    assert_eq!(texts(&results, handled as usize), numbers(handled as usize));
}

fn a_dropped_dispatcher_ends_after_the_message_in_hand(backend: &Backend) {
    let client = backend.client();
    let gate = Gate::new();
    let (sender, handled) = mpsc::channel();
    let at_gate = gate.clone();
    let dispatcher = client
        .dispatcher(move |_, message| {
            let _ = sender.send(message);
            assert!(at_gate.wait(LIMIT));
        })
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    for payload in numbers(10) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    assert_eq!(text_of(&next(&handled)), "0");
    drop(dispatcher);
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0);
    gate.open();
    assert!(
        handled.recv_timeout(LIMIT).is_err_and(|end| end == mpsc::RecvTimeoutError::Disconnected)
    );
    client.publish("a", "nobody").unwrap();
    client.flush().unwrap();
}

fn draining_waits_for_the_handlers_and_loses_nothing(backend: &Backend) {
    let client = backend.client();
    let other = backend.client();
    let (handler, handled) = recording();
    let dispatcher = client.dispatcher(handler).unwrap();
    dispatcher.subscribe("a").unwrap();
    dispatcher.subscribe_with("b", |_, _| ()).unwrap();
    client.flush().unwrap();
    for payload in numbers(1_000) {
        other.publish("a", payload).unwrap();
        other.publish("b", "").unwrap();
    }
    other.flush().unwrap();
    dispatcher.drain(LIMIT).unwrap();
    let order: Vec<String> = handled.try_iter().map(|message| text_of(&message)).collect();
    assert_eq!(order, numbers(1_000));
    assert_eq!(dispatcher.delivered(), 2_000);
    assert_eq!(dispatcher.status(), ConsumerStatus::Ended);
    assert_eq!(backend.subscription_count(), 0);
    assert_eq!(kind(dispatcher.subscribe("c")), ErrorKind::Closed);
    let subscription = client.subscribe("goes.on").unwrap();
    client.publish("goes.on", "yes").unwrap();
    assert_eq!(text(&subscription), "yes");

    let gate = Gate::new();
    let at_gate = gate.clone();
    let stuck = client.dispatcher(move |_, _| assert!(at_gate.wait(LIMIT))).unwrap();
    stuck.subscribe("stuck").unwrap();
    client.publish("stuck", "").unwrap();
    client.flush().unwrap();
    assert_eq!(kind(stuck.drain(Duration::from_millis(50))), ErrorKind::Timeout);
    gate.open();
    stuck.drain(LIMIT).unwrap();
}

fn draining_a_dispatcher_from_its_handler_only_begins(backend: &Backend) {
    use std::sync::{Arc, OnceLock};

    use nats_blocking::Dispatcher;

    let client = backend.client();
    let itself: Arc<OnceLock<Dispatcher>> = Arc::new(OnceLock::new());
    let (sender, handled) = mpsc::channel();
    let inside = Arc::downgrade(&itself);
    let dispatcher = client
        .dispatcher(move |_, message| {
            if text_of(&message) == "0" {
                inside.upgrade().unwrap().get().unwrap().drain(LIMIT).unwrap();
            }
            let _ = sender.send(message);
        })
        .unwrap();
    itself.set(dispatcher).unwrap();
    itself.get().unwrap().subscribe("a").unwrap();
    for payload in numbers(10) {
        client.publish("a", payload).unwrap();
    }
    let order: Vec<String> =
        std::iter::from_fn(|| handled.recv_timeout(LIMIT).ok()).map(|m| text_of(&m)).collect();
    assert!(!order.is_empty() && order == numbers(order.len()), "{order:?}");
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0);
    drop(itself);
}

fn a_dispatcher_sums_up_its_subscriptions(backend: &Backend) {
    use nats_blocking::PendingLimits;

    let client = backend.client();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let dispatcher = client.dispatcher(move |_, _| assert!(at_gate.wait(LIMIT))).unwrap();
    dispatcher.subscribe("a").unwrap();
    let second = dispatcher.subscribe("b").unwrap();
    let limits = PendingLimits::new(100, 1_000);
    dispatcher.set_pending_limits(limits);
    assert_eq!(dispatcher.pending_limits(), limits);
    assert_eq!(dispatcher.subject(), "a, b");
    for payload in numbers(4) {
        client.publish("a", &payload).unwrap();
        client.publish("b", &payload).unwrap();
    }
    client.flush().unwrap();
    // One may be in hand already.
    assert!((7..=8).contains(&dispatcher.pending_messages()));
    gate.open();
    assert!(dispatcher.unsubscribe_after(second, 4).unwrap());
    dispatcher.drain(LIMIT).unwrap();
    assert_eq!((dispatcher.pending_messages(), dispatcher.pending_bytes()), (0, 0));
    assert_eq!((dispatcher.delivered(), dispatcher.dropped()), (8, 0));
}
