//! One thread that waits on many subscriptions.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use nats_blocking::{
    ConsumerStatus, ErrorKind, Message, PendingLimits, Result, SetKey, SubscriptionSet,
};

use super::backend::{Backend, LIMIT, Setup, kind, numbers, text, text_of};
use crate::support::wait::poll;

conformance! {
    each_message_comes_with_its_subscription_and_in_its_order,
    a_busy_subscription_leaves_the_others_their_turn,
    each_end_is_told_behind_the_last_message,
    subscriptions_come_and_go_while_a_thread_waits,
    a_removed_subscription_keeps_what_waits,
    a_set_waits_on_several_connections_until_all_have_ended,
    dropping_a_set_unsubscribes_what_it_holds,
    limits_and_counts_are_those_of_each_subscription,
    several_threads_may_share_a_set,
    a_set_that_is_empty_waits_for_nothing,
    a_drained_connection_leaves_everything_readable_and_then_the_ends,
    the_end_of_the_last_subscription_closes_a_connection_of_its_own,
}

conformance! {
    setup: Setup { unsubscribable: Some("secret.>"), ..Setup::default() };
    a_refused_subscription_says_so_once_and_stays,
}

fn received(outcome: Result<(SetKey, Result<Message>)>) -> (SetKey, String) {
    let (key, message) = outcome.expect("something came");
    (key, text_of(&message.expect("a message")))
}

fn next(set: &SubscriptionSet) -> (SetKey, String) {
    received(set.next_timeout(LIMIT))
}

fn ended(set: &SubscriptionSet) -> SetKey {
    let (key, outcome) = set.next_timeout(LIMIT).expect("something came");
    assert_eq!(kind(outcome), ErrorKind::Closed);
    key
}

fn each_message_comes_with_its_subscription_and_in_its_order(backend: &Backend) {
    let client = backend.client();
    let set = SubscriptionSet::new();
    let subjects = ["a", "b", "c"];
    let keys = subjects.map(|subject| set.add(client.subscribe(subject).unwrap()));
    assert_eq!((set.keys(), set.len()), (keys.to_vec(), 3));
    for payload in numbers(500) {
        for subject in subjects {
            client.publish(subject, &payload).unwrap();
        }
    }
    let mut got: BTreeMap<SetKey, Vec<String>> = BTreeMap::new();
    for _ in 0..1_500 {
        let (key, text) = next(&set);
        got.entry(key).or_default().push(text);
    }
    for key in keys {
        assert_eq!(got[&key], numbers(500));
    }
    assert!(set.try_next().unwrap().is_none());
    assert_eq!(kind(set.next_timeout(Duration::from_millis(1))), ErrorKind::Timeout);
}

fn a_busy_subscription_leaves_the_others_their_turn(backend: &Backend) {
    let client = backend.client();
    let set = SubscriptionSet::new();
    let busy = set.add(client.subscribe("busy").unwrap());
    let calm = set.add(client.subscribe("calm").unwrap());
    for payload in numbers(1_000) {
        client.publish("busy", payload).unwrap();
    }
    client.publish("calm", "now").unwrap();
    client.flush().unwrap();
    assert_eq!(set.get(busy).unwrap().pending_messages(), 1_000);
    let first: Vec<_> = (0..4).map(|_| next(&set).0).collect();
    assert!(first.contains(&calm), "after one or two of the busy one");
    let rest: Vec<_> = (0..997).map(|_| next(&set).0).collect();
    assert!(rest.iter().all(|key| *key == busy));
}

fn each_end_is_told_behind_the_last_message(backend: &Backend) {
    let client = backend.client();
    let set = SubscriptionSet::new();
    let few = client.subscribe("few").unwrap();
    few.unsubscribe_after(2).unwrap();
    let few = set.add(few);
    let drained = client.subscribe("drained").unwrap();
    client.publish("drained", "1").unwrap();
    drained.drain(LIMIT).unwrap();
    let drained = set.add(drained);
    assert_eq!(next(&set), (drained, "1".to_owned()));
    assert_eq!(ended(&set), drained);
    for payload in numbers(5) {
        client.publish("few", payload).unwrap();
    }
    assert_eq!(next(&set), (few, "0".to_owned()));
    assert_eq!(next(&set), (few, "1".to_owned()));
    assert_eq!(ended(&set), few);
    assert_eq!(kind(set.next()), ErrorKind::Closed);
    assert!(set.get(few).is_none() && set.remove(few).is_none());
}

fn subscriptions_come_and_go_while_a_thread_waits(backend: &Backend) {
    let client = backend.client();
    let set = SubscriptionSet::new();
    let quiet = set.add(client.subscribe("quiet").unwrap());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| next(&set));
        let late = set.add(client.subscribe("late").unwrap());
        client.publish("late", "hello").unwrap();
        assert_eq!(waiting.join().unwrap(), (late, "hello".to_owned()));
        // One that holds messages already is ready at once.
        let full = client.subscribe("full").unwrap();
        client.publish("full", "before").unwrap();
        client.flush().unwrap();
        let waiting = scope.spawn(|| next(&set));
        let full = set.add(full);
        assert_eq!(waiting.join().unwrap(), (full, "before".to_owned()));
        // The last one that goes ends the wait.
        let waiting = scope.spawn(|| kind(set.next()));
        for key in [quiet, late, full] {
            drop(set.remove(key).unwrap());
        }
        assert_eq!(waiting.join().unwrap(), ErrorKind::Closed);
    });
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0);
}

fn a_removed_subscription_keeps_what_waits(backend: &Backend) {
    let client = backend.client();
    let set = SubscriptionSet::new();
    let key = set.add(client.subscribe("a").unwrap());
    for payload in numbers(3) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    assert_eq!(next(&set), (key, "0".to_owned()));
    let subscription = set.remove(key).unwrap();
    client.publish("a", "3").unwrap();
    for expected in ["1", "2", "3"] {
        assert_eq!(text(&subscription), expected);
    }
    // It may come back, under another key.
    client.publish("a", "4").unwrap();
    let again = set.add(subscription);
    assert_ne!(again, key);
    assert_eq!(next(&set), (again, "4".to_owned()));
}

fn a_set_waits_on_several_connections_until_all_have_ended(backend: &Backend) {
    let (first, second) = (backend.client(), backend.client());
    let set = SubscriptionSet::new();
    let of_first = set.add(first.subscribe("a").unwrap());
    let of_second = set.add(second.subscribe("a").unwrap());
    first.flush().unwrap();
    second.publish("a", "1").unwrap();
    second.flush().unwrap();
    first.flush().unwrap();
    let mut got = [next(&set).0, next(&set).0];
    got.sort_unstable();
    assert_eq!(got, [of_first, of_second]);
    thread::scope(|scope| {
        let all = scope
            .spawn(|| set.iter().map(|(key, outcome)| (key, kind(outcome))).collect::<Vec<_>>());
        first.close();
        second.close();
        let ends = all.join().unwrap();
        assert_eq!(ends.len(), 2);
        assert!(ends.contains(&(of_first, ErrorKind::Closed)));
        assert!(ends.contains(&(of_second, ErrorKind::Closed)));
    });
    assert!(set.is_empty());
}

fn dropping_a_set_unsubscribes_what_it_holds(backend: &Backend) {
    let client = backend.client();
    let set = SubscriptionSet::new();
    let _first = set.add(client.subscribe("a").unwrap());
    let second = set.add(client.subscribe("b").unwrap());
    client.publish("a", "waits").unwrap();
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 2);
    let view = set.get(second).unwrap();
    let shown = format!("{set:?}");
    assert!(shown.contains("subject: \"a\""), "{shown}");
    drop(set);
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0);
    assert_eq!(view.status(), ConsumerStatus::Ended);
}

fn limits_and_counts_are_those_of_each_subscription(backend: &Backend) {
    let client = backend.client();
    let limited = client.subscribe("a").unwrap();
    limited.set_pending_limits(PendingLimits::new(10, 0));
    let set = SubscriptionSet::new();
    let limited = set.add(limited);
    let other = set.add(client.subscribe("a").unwrap());
    for payload in numbers(100) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    let look = |key| {
        let view = set.get(key).unwrap();
        (view.pending_messages(), view.delivered(), view.dropped())
    };
    assert_eq!((look(limited), look(other)), ((10, 0, 90), (100, 0, 0)));
    for _ in 0..110 {
        next(&set);
    }
    assert_eq!((look(limited), look(other)), ((0, 10, 90), (0, 100, 0)));
    let recovered = |happening: &nats_blocking::testing::Happening| {
        matches!(happening, nats_blocking::testing::Happening::SlowConsumerRecovered { .. })
    };
    client.recorder.wait_for(LIMIT, recovered).unwrap();
}

fn several_threads_may_share_a_set(backend: &Backend) {
    const COUNT: usize = 2_000;
    let client = backend.client();
    let set = SubscriptionSet::new();
    for subject in ["a", "b", "c", "d"] {
        let subscription = client.subscribe(subject).unwrap();
        subscription.unsubscribe_after(COUNT as u64).unwrap();
        set.add(subscription);
    }
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| set.iter().filter(|(_, outcome)| outcome.is_ok()).count()))
            .collect();
        for payload in numbers(COUNT) {
            for subject in ["a", "b", "c", "d"] {
                client.publish(subject, &payload).unwrap();
            }
        }
        let total: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert_eq!(total, 4 * COUNT);
    });
}

fn a_set_that_is_empty_waits_for_nothing(_: &Backend) {
    let set = SubscriptionSet::default();
    assert!(set.is_empty() && set.keys().is_empty());
    assert_eq!(kind(set.next()), ErrorKind::Closed);
    assert_eq!(kind(set.try_next()), ErrorKind::Closed);
    assert_eq!(kind(set.next_timeout(LIMIT)), ErrorKind::Closed);
    assert!(set.iter().next().is_none());
}

fn a_drained_connection_leaves_everything_readable_and_then_the_ends(backend: &Backend) {
    let client = backend.client();
    let set = SubscriptionSet::new();
    let keys = ["a", "b"].map(|subject| set.add(client.subscribe(subject).unwrap()));
    for payload in numbers(50) {
        client.publish("a", &payload).unwrap();
        client.publish("b", &payload).unwrap();
    }
    client.drain(LIMIT).unwrap();
    let mut got: BTreeMap<SetKey, Vec<String>> = BTreeMap::new();
    for (key, outcome) in &set {
        let text = outcome.map_or_else(|error| error.to_string(), |message| text_of(&message));
        got.entry(key).or_default().push(text);
    }
    for key in keys {
        let (end, messages) = got[&key].split_last().unwrap();
        assert_eq!((messages, end.as_str()), (&*numbers(50), "the subscription was drained"));
    }
}

fn the_end_of_the_last_subscription_closes_a_connection_of_its_own(backend: &Backend) {
    let connection = backend.options().connect().unwrap();
    let set = SubscriptionSet::new();
    let subscription = connection.subscribe("a").unwrap();
    subscription.unsubscribe_after(1).unwrap();
    let key = set.add(subscription);
    connection.publish("a", "last").unwrap();
    let weak = connection.downgrade();
    drop(connection);
    assert_eq!(next(&set), (key, "last".to_owned()));
    assert!(weak.upgrade().is_some());
    assert_eq!(ended(&set), key);
    assert!(weak.upgrade().is_none());
    backend.wait_clients(0);
}

fn a_refused_subscription_says_so_once_and_stays(backend: &Backend) {
    let client = backend.client();
    let set = SubscriptionSet::new();
    let secret = set.add(client.subscribe("secret.plans").unwrap());
    let open = set.add(client.subscribe("open").unwrap());
    let (key, outcome) = set.next_timeout(LIMIT).unwrap();
    assert_eq!((key, kind(outcome)), (secret, ErrorKind::PermissionsViolation));
    client.publish("open", "goes on").unwrap();
    assert_eq!(next(&set), (open, "goes on".to_owned()));
    assert_eq!(set.len(), 2);
    let nothing = poll(Duration::from_millis(20), || set.try_next().unwrap());
    assert!(nothing.is_none());
}

#[test]
fn sets_keys_and_ends_are_for_any_thread() {
    fn for_any_thread<T: Send + Sync + 'static>() {}
    for_any_thread::<SubscriptionSet>();
    for_any_thread::<SetKey>();
    for_any_thread::<nats_blocking::SubscriptionEnd>();
    for_any_thread::<nats_blocking::EndReason>();
    for_any_thread::<nats_blocking::Events>();
}
