//! `ready()`: waiting on subscriptions, sets and events beside the program's own channels.
#![cfg(feature = "crossbeam-channel")]

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Select, select, unbounded};
use nats_blocking::testing::Happening;
use nats_blocking::{
    ConnectionEventKind, Consumer, ErrorKind, Message, Notice, PendingLimits, Subscription,
    SubscriptionSet,
};

use super::backend::{Backend, LIMIT, Setup, kind, numbers, text_of};

conformance! {
    every_message_has_a_token_in_time_and_keeps_its_order,
    messages_that_wait_already_give_a_token,
    the_end_gives_a_token_that_stays,
    one_select_waits_on_a_subscription_on_events_and_on_a_channel,
    limits_and_counts_are_those_of_the_subscription,
    ways_of_reading_may_be_mixed,
    a_set_gives_tokens_until_it_is_empty,
    several_subscriptions_are_selected_at_run_time,
    events_give_a_token_each_and_one_at_the_end,
    dropping_the_subscription_unsubscribes,
}

conformance! {
    setup: Setup { unsubscribable: Some("secret"), ..Setup::default() };
    a_refusal_gives_a_token,
}

/// The next message by tokens alone.
fn selected(subscription: &Subscription) -> Message {
    let deadline = Instant::now() + LIMIT;
    loop {
        subscription.ready().recv_deadline(deadline).expect("a token");
        if let Some(message) = subscription.try_next().expect("no end") {
            return message;
        }
    }
}

fn every_message_has_a_token_in_time_and_keeps_its_order(backend: &Backend) {
    const COUNT: usize = 5_000;
    let client = backend.client();
    let other = backend.client();
    let subscription = client.subscribe("a").unwrap();
    assert!(subscription.ready().is_empty());
    client.flush().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for payload in numbers(COUNT) {
                other.publish("a", payload).unwrap();
            }
        });
        let got: Vec<String> = (0..COUNT).map(|_| text_of(&selected(&subscription))).collect();
        assert_eq!(got, numbers(COUNT));
    });
    assert!(subscription.try_next().unwrap().is_none());
}

fn messages_that_wait_already_give_a_token(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    for payload in numbers(3) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    assert_eq!(subscription.pending_messages(), 3);
    let got: Vec<String> = (0..3).map(|_| text_of(&selected(&subscription))).collect();
    assert_eq!(got, numbers(3));
}

fn the_end_gives_a_token_that_stays(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    let waiting = subscription.ready().clone();
    client.publish("a", "last").unwrap();
    client.flush().unwrap();
    client.close();
    assert_eq!(text_of(&selected(&subscription)), "last");
    for _ in 0..3 {
        waiting.recv_timeout(LIMIT).unwrap();
        assert_eq!(kind(subscription.try_next()), ErrorKind::Closed);
    }
}

fn one_select_waits_on_a_subscription_on_events_and_on_a_channel(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    let events = client.events();
    let (own, commands) = unbounded();
    let (mut messages, mut notices, mut words) = (0, 0, 0);
    for payload in numbers(10) {
        client.publish("a", payload).unwrap();
    }
    own.send("word").unwrap();
    let deadline = Instant::now() + LIMIT;
    while !events.is_finished() {
        select! {
            recv(subscription.ready()) -> _ => match subscription.try_next() {
                Ok(message) => messages += usize::from(message.is_some()),
                Err(_) => break,
            },
            recv(events.ready()) -> _ => notices += usize::from(events.try_next().is_some()),
            recv(commands) -> word => {
                assert_eq!(word.unwrap(), "word");
                words += 1;
            }
            default(deadline.saturating_duration_since(Instant::now())) => panic!("nothing came"),
        }
        if (messages, words) == (10, 1) && client.is_connected() {
            client.close();
        }
    }
    assert_eq!((messages, words), (10, 1));
    assert!(notices <= 1, "Closed is all");
}

fn limits_and_counts_are_those_of_the_subscription(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    subscription.set_pending_limits(PendingLimits::new(10, 0));
    subscription.ready();
    for payload in numbers(100) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    assert_eq!((subscription.pending_messages(), subscription.dropped()), (10, 90));
    let got: Vec<String> = (0..10).map(|_| text_of(&selected(&subscription))).collect();
    assert_eq!(got, numbers(10));
    assert_eq!((subscription.pending_messages(), subscription.delivered()), (0, 10));
    let recovered =
        |happening: &Happening| matches!(happening, Happening::SlowConsumerRecovered { .. });
    client.recorder.wait_for(LIMIT, recovered).unwrap();
}

fn ways_of_reading_may_be_mixed(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    for payload in numbers(9) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(text_of(&subscription.next_timeout(LIMIT).unwrap()));
        got.push(text_of(&selected(&subscription)));
        got.extend(subscription.try_iter().take(1).map(|message| text_of(&message)));
    }
    assert_eq!(got, numbers(9));
}

fn a_set_gives_tokens_until_it_is_empty(backend: &Backend) {
    let client = backend.client();
    let set = SubscriptionSet::new();
    let keys = ["a", "b"].map(|subject| {
        let subscription = client.subscribe(subject).unwrap();
        subscription.ready();
        subscription.unsubscribe_after(50).unwrap();
        set.add(subscription)
    });
    for payload in numbers(60) {
        client.publish("a", &payload).unwrap();
        client.publish("b", &payload).unwrap();
    }
    let deadline = Instant::now() + LIMIT;
    let mut counts = [0, 0];
    let end = loop {
        set.ready().recv_deadline(deadline).expect("a token");
        match set.try_next() {
            Ok(Some((key, outcome))) => {
                counts[usize::from(key == keys[1])] += usize::from(outcome.is_ok());
            }
            Ok(None) => {}
            Err(error) => break error,
        }
    };
    assert_eq!((end.kind(), counts), (ErrorKind::Closed, [50, 50]));
    // A subscription that leaves the set has its own tokens again.
    let subscription = client.subscribe("c").unwrap();
    subscription.ready();
    let key = set.add(subscription);
    let subscription = set.remove(key).unwrap();
    client.publish("c", "back").unwrap();
    assert_eq!(text_of(&selected(&subscription)), "back");
}

fn several_subscriptions_are_selected_at_run_time(backend: &Backend) {
    let client = backend.client();
    let subscriptions: Vec<_> =
        ["a", "b", "c"].map(|subject| client.subscribe(subject).unwrap()).into();
    client.publish("b", "hello").unwrap();
    let mut select = Select::new();
    for subscription in &subscriptions {
        select.recv(subscription.ready());
    }
    let index = select.ready_timeout(LIMIT).unwrap();
    assert_eq!(index, 1);
    assert_eq!(text_of(&selected(&subscriptions[index])), "hello");
}

fn events_give_a_token_each_and_one_at_the_end(backend: &Backend) {
    let client = backend.client();
    let events = client.events();
    backend.go_down();
    client.wait_lost();
    client.close();
    let deadline = Instant::now() + LIMIT;
    let mut kinds = Vec::new();
    while !events.is_finished() {
        events.ready().recv_deadline(deadline).expect("a token");
        if let Some(Notice::Event(event)) = events.try_next() {
            kinds.push(event.kind().clone());
        }
    }
    assert!(matches!(kinds.first(), Some(ConnectionEventKind::Disconnected { .. })), "{kinds:?}");
    assert!(matches!(kinds.last(), Some(ConnectionEventKind::Closed { .. })), "{kinds:?}");
    events.ready().recv_timeout(LIMIT).expect("the end stays");
    assert!(events.try_next().is_none());
}

fn dropping_the_subscription_unsubscribes(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    let tokens = subscription.ready().clone();
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 1);
    drop(subscription);
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0);
    // A token for the end, then nobody is left who could send one.
    while tokens.recv_timeout(LIMIT).is_ok() {}
    assert_eq!(tokens.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected));
}

fn a_refusal_gives_a_token(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("secret").unwrap();
    subscription.ready().recv_timeout(LIMIT).unwrap();
    assert_eq!(kind(subscription.try_next()), ErrorKind::PermissionsViolation);
    assert!(subscription.try_next().unwrap().is_none());
    assert!(subscription.ready().recv_timeout(Duration::from_millis(1)).is_err());
}
