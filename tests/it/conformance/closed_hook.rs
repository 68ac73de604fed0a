//! Closures that are called when a subscription has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use nats_blocking::testing::Happening;
use nats_blocking::{Connection, ConnectionEventKind, EndReason, ErrorKind, SubscriptionEnd};

use super::backend::{Backend, Client, LIMIT, numbers, text_of, texts};
use crate::support::wait::Gate;

conformance! {
    every_way_to_end_is_told_once_with_its_reason,
    a_closure_that_comes_after_the_end_is_called_at_once,
    a_handled_subscription_ends_behind_its_last_message,
    unsubscribing_waits_for_the_handler_that_runs,
    a_drained_dispatcher_tells_each_end,
    a_dropped_dispatcher_tells_each_end,
    every_end_comes_before_closed_and_nothing_after_it,
    a_panicking_closure_is_caught_and_told,
    a_closure_may_call_anything_on_its_connection,
    a_closure_survives_a_reconnect,
    under_load_each_end_is_told_once_and_never_during_or_before_a_handler,
}

type Hook = Box<dyn FnOnce(&Connection, &SubscriptionEnd) + Send>;

/// A closure that tells the test, with the name of the thread on which it ran.
fn telling(sender: &Sender<(SubscriptionEnd, String)>) -> Hook {
    let sender = sender.clone();
    Box::new(move |_, end| {
        let name = thread::current().name().unwrap_or_default().to_owned();
        let _ = sender.send((end.clone(), name));
    })
}

fn next(ends: &Receiver<(SubscriptionEnd, String)>) -> SubscriptionEnd {
    let (end, thread) = ends.recv_timeout(LIMIT).expect("an end");
    assert!(thread.contains("-callback"), "{thread}");
    end
}

/// The reason in one word.
fn why(end: &SubscriptionEnd) -> &'static str {
    match end.reason() {
        EndReason::Unsubscribed => "unsubscribed",
        EndReason::Completed => "completed",
        EndReason::Drained => "drained",
        EndReason::Closed(None) => "closed",
        EndReason::Closed(Some(_)) => "lost",
        _ => "else",
    }
}

fn every_way_to_end_is_told_once_with_its_reason(backend: &Backend) {
    let client = backend.client();
    let (sender, ends) = mpsc::channel();
    let subscribe = |subject: &str| {
        let subscription = client.subscribe(subject).unwrap();
        assert!(subscription.on_closed(telling(&sender)));
        subscription
    };
    let unsubscribed = subscribe("unsubscribed");
    unsubscribed.unsubscribe();
    let end = next(&ends);
    assert_eq!((end.sid(), end.subject()), (unsubscribed.sid(), "unsubscribed".to_owned()));
    assert_eq!(why(&end), "unsubscribed");
    drop(unsubscribed);

    let dropped = subscribe("dropped");
    drop(dropped);
    assert_eq!(why(&next(&ends)), "unsubscribed");

    let completed = subscribe("completed");
    completed.unsubscribe_after(3).unwrap();
    for payload in numbers(5) {
        client.publish("completed", payload).unwrap();
    }
    assert_eq!(why(&next(&ends)), "completed");
    assert_eq!(texts(&completed, 3), numbers(3), "what had arrived is still there");
    drop(completed);

    let drained = subscribe("drained");
    drained.drain(LIMIT).unwrap();
    let end = next(&ends);
    assert_eq!(why(&end), "drained");
    assert!(end.to_string().ends_with("subject 'drained': the subscription was drained"), "{end}");
    drop(drained);

    let closed = subscribe("closed");
    client.close();
    assert_eq!(why(&next(&ends)), "closed");
    drop(closed);
    drop(sender);
    assert!(ends.recv_timeout(LIMIT).is_err(), "each once");
}

fn a_closure_that_comes_after_the_end_is_called_at_once(backend: &Backend) {
    let client = backend.client();
    let (sender, ends) = mpsc::channel();
    let subscription = client.subscribe("a").unwrap();
    subscription.unsubscribe_after(1).unwrap();
    client.publish("a", "").unwrap();
    assert!(subscription.next_timeout(LIMIT).is_ok() && subscription.next().is_err());
    assert!(subscription.on_closed(telling(&sender)));
    assert_eq!(why(&next(&ends)), "completed");
    assert!(subscription.on_closed(telling(&sender)), "and another one");
    assert_eq!(why(&next(&ends)), "completed");
    client.close();
    client.wait_closed(LIMIT).unwrap();
    assert!(!subscription.on_closed(telling(&sender)), "nothing is called after Closed");
    drop(sender);
    assert!(ends.recv_timeout(LIMIT).is_err());
}

fn a_handled_subscription_ends_behind_its_last_message(backend: &Backend) {
    let client = backend.client();
    let (sender, told) = mpsc::channel();
    let gate = Gate::new();
    let (handler, at_gate) = (sender.clone(), gate.clone());
    let dispatcher = client
        .dispatcher(move |_, message| {
            assert!(at_gate.wait(LIMIT));
            let _ = handler.send(text_of(&message));
        })
        .unwrap();
    let sid = dispatcher.subscribe("a").unwrap();
    assert!(dispatcher.on_closed(sid, move |_, end| {
        let _ = sender.send(format!("{} after {}", why(end), end.consumer().delivered()));
    }));
    assert!(!dispatcher.on_closed(12_345, |_, _| ()));
    assert!(dispatcher.unsubscribe_after(sid, 3).unwrap());
    for payload in numbers(5) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    gate.open();
    let order: Vec<String> = (0..4).map(|_| told.recv_timeout(LIMIT).unwrap()).collect();
    assert_eq!(order, ["0", "1", "2", "completed after 3"]);
}

fn unsubscribing_waits_for_the_handler_that_runs(backend: &Backend) {
    let client = backend.client();
    let (sender, told) = mpsc::channel();
    let gate = Gate::new();
    let (handler, at_gate) = (sender.clone(), gate.clone());
    let dispatcher = client
        .dispatcher(move |_, message| {
            let _ = handler.send(format!("begins {}", text_of(&message)));
            assert!(at_gate.wait(LIMIT));
            let _ = handler.send(format!("ends {}", text_of(&message)));
        })
        .unwrap();
    let sid = dispatcher.subscribe("a").unwrap();
    let end = sender.clone();
    assert!(dispatcher.on_closed(sid, move |_, told| end.send(why(told).to_owned()).unwrap()));
    for payload in numbers(3) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    assert_eq!(told.recv_timeout(LIMIT).unwrap(), "begins 0");
    assert!(dispatcher.unsubscribe(sid));
    // What listeners were told so far has been handled: the closure was not among it.
    let other = client.subscribe("other").unwrap();
    let (passed, passes) = mpsc::channel();
    assert!(other.on_closed(move |_, _| passed.send(()).unwrap()));
    drop(other);
    passes.recv_timeout(LIMIT).unwrap();
    assert!(told.try_recv().is_err(), "the handler still runs");
    gate.open();
    assert_eq!(told.recv_timeout(LIMIT).unwrap(), "ends 0");
    assert_eq!(told.recv_timeout(LIMIT).unwrap(), "unsubscribed");
}

fn a_drained_dispatcher_tells_each_end(backend: &Backend) {
    let client = backend.client();
    let (sender, ends) = mpsc::channel();
    let dispatcher = client.dispatcher(|_, _| ()).unwrap();
    for subject in ["a", "b", "c"] {
        let sid = dispatcher.subscribe(subject).unwrap();
        assert!(dispatcher.on_closed(sid, telling(&sender)));
    }
    for payload in numbers(100) {
        client.publish("b", payload).unwrap();
    }
    dispatcher.drain(LIMIT).unwrap();
    let mut delivered: Vec<_> = (0..3)
        .map(|_| next(&ends))
        .map(|end| (end.subject(), why(&end), end.consumer().delivered()))
        .collect();
    delivered.sort_unstable();
    let expected = [("a", 0), ("b", 100), ("c", 0)];
    assert_eq!(delivered, expected.map(|(name, count)| (name.to_owned(), "drained", count)));
}

fn a_dropped_dispatcher_tells_each_end(backend: &Backend) {
    let client = backend.client();
    let (sender, ends) = mpsc::channel();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let dispatcher = client.dispatcher(move |_, _| assert!(at_gate.wait(LIMIT))).unwrap();
    for subject in ["a", "b"] {
        let sid = dispatcher.subscribe(subject).unwrap();
        assert!(dispatcher.on_closed(sid, telling(&sender)));
        client.publish(subject, "").unwrap();
    }
    client.flush().unwrap();
    drop(dispatcher);
    gate.open();
    let mut told = [next(&ends), next(&ends)].map(|end| (end.subject(), why(&end)));
    told.sort_unstable();
    assert_eq!(told, [("a".to_owned(), "unsubscribed"), ("b".to_owned(), "unsubscribed")]);
}

fn every_end_comes_before_closed_and_nothing_after_it(backend: &Backend) {
    let (sender, told) = mpsc::channel();
    let closed = sender.clone();
    let client = backend.client_with(|options| {
        options.on_closed(move |_, event| {
            assert!(matches!(event.kind(), ConnectionEventKind::Closed { .. }));
            let _ = closed.send("Closed".to_owned());
        })
    });
    let dispatcher = client.dispatcher(|_, _| ()).unwrap();
    let mut subscriptions = Vec::new();
    for number in 0..20 {
        let sender = sender.clone();
        let hook = move |_: &Connection, end: &SubscriptionEnd| {
            let _ = sender.send(why(end).to_owned());
        };
        if number % 2 == 0 {
            let subscription = client.subscribe("pull").unwrap();
            assert!(subscription.on_closed(hook));
            subscriptions.push(subscription);
        } else {
            let sid = dispatcher.subscribe("handled").unwrap();
            assert!(dispatcher.on_closed(sid, hook));
        }
    }
    drop(sender);
    client.close();
    drop((subscriptions, dispatcher));
    let mut all: Vec<String> = Vec::new();
    while all.last().is_none_or(|last| last != "Closed") {
        all.push(told.recv_timeout(LIMIT).unwrap());
    }
    assert_eq!(all.len(), 21);
    assert!(told.try_recv().is_err());
}

fn is_panic(happening: &Happening) -> bool {
    matches!(happening, Happening::Exception(error) if error.kind() == ErrorKind::UserPanic)
}

fn a_panicking_closure_is_caught_and_told(backend: &Backend) {
    let client: Client = backend.client();
    let (sender, ends) = mpsc::channel();
    let subscription = client.subscribe("a").unwrap();
    assert!(subscription.on_closed(|_, _| panic!("this panic is wanted")));
    assert!(subscription.on_closed(telling(&sender)));
    drop(subscription);
    assert_eq!(why(&next(&ends)), "unsubscribed", "the others are called all the same");
    client.recorder.wait_for(LIMIT, is_panic).unwrap();
    assert_eq!(client.statistics().panics(), 1);
}

fn a_closure_may_call_anything_on_its_connection(backend: &Backend) {
    let client = backend.client();
    let (sender, told) = mpsc::channel();
    let subscription = client.subscribe("a").unwrap();
    assert!(subscription.on_closed(move |connection, _| {
        connection.flush().unwrap();
        let again = connection.subscribe("again").unwrap();
        connection.publish("again", "yes").unwrap();
        let _ = sender.send(text_of(&again.next_timeout(LIMIT).unwrap()));
        connection.close();
    }));
    subscription.unsubscribe();
    assert_eq!(told.recv_timeout(LIMIT).unwrap(), "yes");
    assert!(client.wait_closed(LIMIT).unwrap().is_none());
}

fn a_closure_survives_a_reconnect(backend: &Backend) {
    let client = backend.client();
    let (sender, ends) = mpsc::channel();
    let subscription = client.subscribe("a").unwrap();
    assert!(subscription.on_closed(telling(&sender)));
    backend.go_down();
    client.wait_lost();
    backend.come_up();
    client.wait_resubscribed(1);
    assert!(ends.try_recv().is_err());
    client.drain(LIMIT).unwrap();
    assert_eq!(why(&next(&ends)), "drained");
}

/// What is seen of one subscription from outside.
#[derive(Default)]
struct Seen {
    handling: AtomicBool,
    ends: AtomicU32,
    /// Handled during or behind the end.
    wrong: AtomicBool,
}

fn under_load_each_end_is_told_once_and_never_during_or_before_a_handler(backend: &Backend) {
    const COUNT: u64 = 120;
    let client = backend.client();
    let other = backend.client();
    let dispatcher = client.dispatcher(|_, _| ()).unwrap();
    let (sender, ends) = mpsc::channel();
    let over = Gate::new();
    let all: Vec<Arc<Seen>> = (0..COUNT).map(|_| Arc::default()).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.is_open() {
                other.publish("load", "").unwrap();
                other.flush().unwrap();
            }
        });
        let mut open = Vec::new();
        for (number, seen) in (0..).zip(&all) {
            let (handled, ended, sender) = (Arc::clone(seen), Arc::clone(seen), sender.clone());
            let handler = move |_: &Connection, _| {
                handled.handling.store(true, Ordering::SeqCst);
                if handled.ends.load(Ordering::SeqCst) > 0 {
                    handled.wrong.store(true, Ordering::SeqCst);
                }
                thread::yield_now();
                handled.handling.store(false, Ordering::SeqCst);
            };
            let hook = move |_: &Connection, _: &SubscriptionEnd| {
                ended.ends.fetch_add(1, Ordering::SeqCst);
                if ended.handling.load(Ordering::SeqCst) {
                    ended.wrong.store(true, Ordering::SeqCst);
                }
                let _ = sender.send(());
            };
            let sid = dispatcher.subscribe_with("load", handler).unwrap();
            assert!(dispatcher.on_closed(sid, hook));
            match number % 4 {
                0 => assert!(dispatcher.unsubscribe_after(sid, 1 + number % 7).unwrap()),
                1 => assert!(dispatcher.unsubscribe(sid)),
                2 => open.push(sid),
                _ => {}
            }
            if number % 3 == 0 {
                open.drain(..).for_each(|sid| assert!(dispatcher.unsubscribe(sid)));
            }
        }
        dispatcher.drain(LIMIT).unwrap();
        drop(dispatcher);
        over.open();
    });
    for number in 0..COUNT {
        ends.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("{number} ends of {COUNT}"));
    }
    client.barrier(LIMIT).unwrap();
    for seen in &all {
        assert_eq!(seen.ends.load(Ordering::SeqCst), 1);
        assert!(!seen.wrong.load(Ordering::SeqCst));
    }
}
