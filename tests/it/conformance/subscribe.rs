//! Subscriptions that the program reads from: reading, queue groups, wildcards, their end.

use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::Happening;
use nats_blocking::{Consumer, ConsumerStatus, ErrorKind};

use super::backend::{Backend, LIMIT, Setup, kind, numbers, text, text_of, texts};

conformance! {
    every_way_to_wait_for_the_next_message_tells_message_time_out_and_end_apart,
    iterators_give_what_comes_and_say_why_they_ended,
    a_reader_without_a_deadline_ends_with_the_connection,
    several_threads_read_one_subscription_and_each_message_goes_to_one,
    a_queue_group_gets_each_message_once_and_everybody_else_gets_all,
    wildcards_match_as_the_server_says,
    unsubscribing_and_dropping_tell_the_server_and_throw_away_what_waits,
    a_subscription_ends_after_exactly_the_number_asked_for,
    a_number_that_has_been_reached_ends_the_subscription_at_once,
    the_number_asked_for_counts_across_a_reconnect,
    what_has_arrived_stays_readable_after_close_and_drain,
    a_consumer_tells_what_waits_and_what_was_delivered,
}

conformance! {
    setup: Setup { unsubscribable: Some("private.>"), ..Setup::default() };
    a_refused_subscription_says_so_once_and_stays,
}

fn every_way_to_wait_for_the_next_message_tells_message_time_out_and_end_apart(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    let short = Duration::from_millis(20);
    assert!(subscription.try_next().unwrap().is_none());
    let started = Instant::now();
    assert_eq!(kind(subscription.next_timeout(short)), ErrorKind::Timeout);
    assert_eq!(kind(subscription.next_deadline(Instant::now() + short)), ErrorKind::Timeout);
    assert!(started.elapsed() >= short * 2);
    for payload in numbers(5) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    assert_eq!(text_of(&subscription.try_next().unwrap().unwrap()), "0");
    assert_eq!(text_of(&subscription.next().unwrap()), "1");
    assert_eq!(text_of(&subscription.next_timeout(LIMIT).unwrap()), "2");
    assert_eq!(text_of(&subscription.next_deadline(Instant::now() + LIMIT).unwrap()), "3");
    assert_eq!(text_of(&subscription.next_timeout(Duration::MAX).unwrap()), "4");
    subscription.unsubscribe();
    assert_eq!(kind(subscription.try_next()), ErrorKind::Closed);
    assert_eq!(kind(subscription.next()), ErrorKind::Closed);
    assert_eq!(kind(subscription.next_timeout(LIMIT)), ErrorKind::Closed);
    assert_eq!(kind(subscription.next_deadline(Instant::now() + LIMIT)), ErrorKind::Closed);
}

fn iterators_give_what_comes_and_say_why_they_ended(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    for payload in numbers(6) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    let all = |messages: &mut dyn Iterator<Item = nats_blocking::Message>| {
        messages.map(|message| text_of(&message)).collect::<Vec<_>>()
    };
    assert!(subscription.last_error().is_none());
    assert_eq!(all(&mut subscription.iter().take(2)), ["0", "1"]);
    assert!(subscription.last_error().is_none());
    let mut borrowed = Vec::new();
    for message in &subscription {
        borrowed.push(text_of(&message));
        if borrowed.len() == 2 {
            break;
        }
    }
    assert_eq!(borrowed, ["2", "3"]);
    assert_eq!(all(&mut subscription.try_iter()), ["4", "5"]);
    assert_eq!(subscription.last_error().unwrap().kind(), ErrorKind::Timeout);

    client.publish("a", "6").unwrap();
    client.flush().unwrap();
    let mut waiting = subscription.timeout_iter(Duration::from_millis(20));
    assert_eq!(text_of(&waiting.next().unwrap()), "6");
    assert!(waiting.next().is_none());
    assert_eq!(subscription.last_error().unwrap().kind(), ErrorKind::Timeout);
    client.publish("a", "7").unwrap();
    client.flush().unwrap();
    assert_eq!(text_of(&waiting.next().unwrap()), "7", "it goes on after a time-out");

    client.publish("a", "8").unwrap();
    client.flush().unwrap();
    client.close();
    assert_eq!(all(&mut subscription.iter()), ["8"]);
    assert_eq!(subscription.last_error().unwrap().kind(), ErrorKind::Closed);
    assert_eq!(subscription.into_iter().count(), 0);
}

fn a_reader_without_a_deadline_ends_with_the_connection(backend: &Backend) {
    let client = backend.client();
    let read = client.subscribe("a").unwrap();
    let iterated = client.subscribe("a").unwrap();
    client.publish("a", "1").unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| (text_of(&read.next().unwrap()), kind(read.next())));
        let iterator = scope.spawn(|| iterated.iter().count());
        // Both have read what there is, so they wait, or are about to.
        while read.delivered() + iterated.delivered() < 2 {
            thread::yield_now();
        }
        client.close();
        assert_eq!(reader.join().unwrap(), ("1".to_owned(), ErrorKind::Closed));
        assert_eq!(iterator.join().unwrap(), 1);
    });
}

fn several_threads_read_one_subscription_and_each_message_goes_to_one(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    subscription.unsubscribe_after(1_000).unwrap();
    let mut read: Vec<usize> = thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let numbers = subscription.iter().map(|message| text_of(&message));
                    numbers.map(|number| number.parse().unwrap()).collect::<Vec<usize>>()
                })
            })
            .collect();
        for payload in numbers(1_000) {
            client.publish("a", payload).unwrap();
        }
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    read.sort_unstable();
    assert_eq!(read, (0..1_000).collect::<Vec<_>>());
}

fn a_queue_group_gets_each_message_once_and_everybody_else_gets_all(backend: &Backend) {
    const COUNT: usize = 300;
    let client = backend.client();
    let others = backend.client();
    let members = [
        client.queue_subscribe("work", "group").unwrap(),
        others.queue_subscribe("work", "group").unwrap(),
        others.queue_subscribe("work", "group").unwrap(),
    ];
    assert_eq!(members[0].queue(), Some("group"));
    let other_group = others.queue_subscribe("work", "other").unwrap();
    let plain = client.subscribe("work").unwrap();
    assert_eq!(plain.queue(), None);
    client.flush().unwrap();
    others.flush().unwrap();
    for payload in numbers(COUNT) {
        client.publish("work", payload).unwrap();
    }
    assert_eq!(texts(&plain, COUNT), numbers(COUNT));
    assert_eq!(texts(&other_group, COUNT), numbers(COUNT));
    // All has been sent to everybody when the plain subscriptions of both have it; what one read
    // brought reaches one queue after the other, so both look once more.
    client.flush().unwrap();
    others.flush().unwrap();
    let mut got: Vec<usize> = Vec::new();
    for member in &members {
        let part: Vec<usize> = member.try_iter().map(|m| text_of(&m).parse().unwrap()).collect();
        assert!(!part.is_empty(), "a member got nothing");
        assert!(part.is_sorted());
        got.extend(part);
    }
    got.sort_unstable();
    assert_eq!(got, (0..COUNT).collect::<Vec<_>>());
}

fn wildcards_match_as_the_server_says(backend: &Backend) {
    let client = backend.client();
    let subjects = ["a", "a.b", "a.b.c", "a.b.c.d", "b.a", "x*.y", "a.*b"];
    let patterns = ["a", "a.*", "a.>", "*.b", "*.*.c", ">", "*", "a.*.c.>", "x*.y", "*.a"];
    let subscriptions = patterns.map(|pattern| client.subscribe(pattern).unwrap());
    for subject in subjects {
        client.publish(subject, "").unwrap();
    }
    client.flush().unwrap();
    for (pattern, subscription) in patterns.iter().zip(&subscriptions) {
        let got: Vec<String> = subscription.try_iter().map(|m| m.subject().to_owned()).collect();
        let expected: Vec<&str> = subjects
            .into_iter()
            .filter(|subject| nats_blocking::subject_matches(pattern, subject))
            .collect();
        assert_eq!(got, expected, "{pattern}");
    }
}

fn unsubscribing_and_dropping_tell_the_server_and_throw_away_what_waits(backend: &Backend) {
    let client = backend.client();
    let first = client.subscribe("a").unwrap();
    let second = client.subscribe("a").unwrap();
    assert_ne!(first.sid(), second.sid());
    client.publish("a", "waits").unwrap();
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 2);
    assert_eq!(client.subscription_count(), 2);

    first.unsubscribe();
    assert_eq!(kind(first.try_next()), ErrorKind::Closed);
    assert_eq!(first.status(), ConsumerStatus::Ended);
    first.unsubscribe();
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 1);
    drop(first);
    drop(second);
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0);
    assert_eq!(client.subscription_count(), 0);

    // On another thread, while messages arrive.
    let third = client.subscribe("a").unwrap();
    thread::scope(|scope| {
        let client = &client;
        scope.spawn(move || drop(third));
        for _ in 0..1_000 {
            client.publish("a", "late").unwrap();
        }
    });
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0);
}

fn a_subscription_ends_after_exactly_the_number_asked_for(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    assert_eq!(kind(subscription.unsubscribe_after(0)), ErrorKind::InvalidOption);
    client.publish("a", "0").unwrap();
    assert_eq!(text(&subscription), "0");
    subscription.unsubscribe_after(5).unwrap();
    for payload in &numbers(20)[1..] {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0);
    assert_eq!(client.subscription_count(), 0);
    assert_eq!(texts(&subscription, 4), numbers(5)[1..]);
    assert_eq!(kind(subscription.next()), ErrorKind::Closed);
    assert_eq!(subscription.delivered(), 5);
}

fn a_number_that_has_been_reached_ends_the_subscription_at_once(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    for payload in numbers(5) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    subscription.unsubscribe_after(3).unwrap();
    assert_eq!(subscription.status(), ConsumerStatus::Ended);
    client.publish("a", "late").unwrap();
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0);
    assert_eq!(texts(&subscription, 5), numbers(5), "what had arrived stays");
    assert_eq!(kind(subscription.next()), ErrorKind::Closed);
}

fn the_number_asked_for_counts_across_a_reconnect(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    let complete = client.subscribe("a").unwrap();
    subscription.unsubscribe_after(5).unwrap();
    complete.unsubscribe_after(2).unwrap();
    client.publish("a", "0").unwrap();
    client.publish("a", "1").unwrap();
    client.flush().unwrap();
    backend.go_down();
    client.wait_lost();
    backend.come_up();
    client.wait_resubscribed(1);
    assert_eq!(client.subscription_count(), 1);
    for payload in &numbers(10)[2..] {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0);
    assert_eq!(texts(&subscription, 5), numbers(5));
    assert_eq!(kind(subscription.next()), ErrorKind::Closed);
    assert_eq!(texts(&complete, 2), numbers(2));
    assert_eq!(kind(complete.next()), ErrorKind::Closed);
}

fn what_has_arrived_stays_readable_after_close_and_drain(backend: &Backend) {
    let closed = backend.client();
    let drained = backend.client();
    for client in [&closed, &drained] {
        let subscription = client.subscribe("a").unwrap();
        for payload in numbers(100) {
            client.publish("a", payload).unwrap();
        }
        client.flush().unwrap();
        if std::ptr::eq(client, &closed) {
            client.close();
        } else {
            client.drain(LIMIT).unwrap();
        }
        assert!(client.is_closed());
        assert_eq!(subscription.pending_messages(), 100);
        assert_eq!(texts(&subscription, 100), numbers(100));
        assert_eq!(kind(subscription.next()), ErrorKind::Closed);
    }
}

fn a_consumer_tells_what_waits_and_what_was_delivered(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    let consumer: &dyn Consumer = &subscription;
    assert_eq!(consumer.id(), subscription.sid());
    assert_eq!(consumer.subject(), "a");
    assert_eq!(consumer.status(), ConsumerStatus::Active);
    for _ in 0..4 {
        client.publish("a", "12345").unwrap();
    }
    client.flush().unwrap();
    assert_eq!((consumer.pending_messages(), consumer.pending_bytes()), (4, 20));
    text(&subscription);
    assert_eq!((consumer.pending_messages(), consumer.pending_bytes()), (3, 15));
    assert_eq!((consumer.delivered(), consumer.dropped()), (1, 0));
    subscription.unsubscribe();
    assert_eq!((consumer.pending_messages(), consumer.pending_bytes()), (0, 0));
    assert_eq!((consumer.delivered(), consumer.status()), (1, ConsumerStatus::Ended));
}

fn a_refused_subscription_says_so_once_and_stays(backend: &Backend) {
    let client = backend.client();
    let refused = client.subscribe("private.a").unwrap();
    let other = client.subscribe("open").unwrap();
    assert_eq!(kind(refused.next_timeout(LIMIT)), ErrorKind::PermissionsViolation);
    assert_eq!(kind(refused.next_timeout(Duration::from_millis(20))), ErrorKind::Timeout);
    assert_eq!(refused.status(), ConsumerStatus::Active);
    assert!(refused.is_refused() && !other.is_refused());
    client.publish("open", "goes on").unwrap();
    assert_eq!(text(&other), "goes on");
    let violation = |happening: &Happening| matches!(happening, Happening::ServerError(_));
    client.recorder.wait_for(LIMIT, violation).unwrap();
    // After a reconnect it is announced again, and refused again.
    backend.go_down();
    client.wait_lost();
    backend.come_up();
    client.wait_resubscribed(1);
    assert_eq!(kind(refused.next_timeout(LIMIT)), ErrorKind::PermissionsViolation);
    client.recorder.wait_for_count(LIMIT, 2, violation).unwrap();

    let member = client.queue_subscribe("private.a", "q").unwrap();
    assert_eq!(kind(member.next_timeout(LIMIT)), ErrorKind::PermissionsViolation);
    assert_eq!(Consumer::queue(&member).as_deref(), Some("q"));
    let dispatcher = client.dispatcher(|_, _| ()).unwrap();
    let handled = dispatcher.subscription(dispatcher.subscribe("private.b").unwrap()).unwrap();
    let fine = dispatcher.subscription(dispatcher.subscribe("open").unwrap()).unwrap();
    client.flush().unwrap();
    assert!(handled.is_refused() && dispatcher.is_refused() && !fine.is_refused());
    // The same again is refused for itself.
    let again = client.subscribe("private.a").unwrap();
    assert_eq!(kind(again.next_timeout(LIMIT)), ErrorKind::PermissionsViolation);
    assert_eq!(kind(refused.next_timeout(Duration::from_millis(20))), ErrorKind::Timeout);
}
