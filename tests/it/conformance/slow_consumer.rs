//! Consumers that do not keep up: the newest messages are dropped, and it is told once.

use std::sync::mpsc;

use nats_blocking::testing::Happening;
use nats_blocking::{Consumer, ConsumerStatus, PendingLimits};

use super::backend::{Backend, Client, LIMIT, numbers, text, text_of, texts};
use crate::support::wait::Gate;

conformance! {
    a_slow_consumer_loses_its_newest_messages_and_is_told_of_once,
    bytes_have_a_limit_of_their_own,
    the_limit_of_the_options_holds_for_new_subscriptions,
    what_was_dropped_counts_for_the_number_asked_for,
    a_slow_handler_is_a_slow_consumer,
    each_subscription_of_a_dispatcher_may_have_a_limit_of_its_own,
    the_limit_of_the_options_may_be_none,
}

fn slow(client: &Client) -> usize {
    client.recorder.count(|happening| matches!(happening, Happening::SlowConsumer { .. }))
}

fn recovered(client: &Client) -> usize {
    let recovered =
        |happening: &Happening| matches!(happening, Happening::SlowConsumerRecovered { .. });
    client.recorder.count(recovered)
}

/// Publishes numbers and waits until they have come back.
fn publish(client: &Client, count: usize) {
    for payload in numbers(count) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
}

fn a_slow_consumer_loses_its_newest_messages_and_is_told_of_once(backend: &Backend) {
    let client = backend.client();
    let consumer = client.subscribe("a").unwrap();
    let healthy = client.subscribe("a").unwrap();
    consumer.set_pending_limits(PendingLimits::new(10, 0));
    assert_eq!(consumer.pending_limits().messages(), 10);
    publish(&client, 100);
    assert_eq!((consumer.pending_messages(), consumer.dropped()), (10, 90));
    let told = client
        .recorder
        .wait_for(LIMIT, |happening| matches!(happening, Happening::SlowConsumer { .. }))
        .unwrap();
    let Happening::SlowConsumer { id, subject, .. } = told else { panic!("{told}") };
    assert_eq!((id, subject.as_str()), (consumer.sid(), "a"));
    assert_eq!(texts(&healthy, 100), numbers(100), "others are unharmed");
    assert_eq!(healthy.dropped(), 0);

    assert_eq!(texts(&consumer, 4), numbers(4), "the oldest stay, and there is no error");
    publish(&client, 1);
    assert_eq!(consumer.pending_messages(), 7);
    assert_eq!((slow(&client), recovered(&client)), (1, 0));
    assert_eq!(texts(&consumer, 2), ["4", "5"]);
    let is_recovery =
        |happening: &Happening| matches!(happening, Happening::SlowConsumerRecovered { .. });
    client.recorder.wait_for(LIMIT, is_recovery).unwrap();
    assert_eq!(texts(&consumer, 5), ["6", "7", "8", "9", "0"]);

    publish(&client, 30);
    client
        .recorder
        .wait_for_count(LIMIT, 2, |h| matches!(h, Happening::SlowConsumer { .. }))
        .unwrap();
    assert_eq!(consumer.dropped(), 110);
    assert_eq!(texts(&consumer, 10), numbers(10));
    client.recorder.wait_for_count(LIMIT, 2, is_recovery).unwrap();
    client.close();
    assert_eq!((slow(&client), recovered(&client)), (2, 2));
    let statistics = client.statistics();
    assert_eq!((statistics.dropped(), statistics.slow_consumers()), (110, 2));
    assert_eq!(statistics.disconnects(), 0);
}

fn bytes_have_a_limit_of_their_own(backend: &Backend) {
    let client = backend.client();
    let consumer = client.subscribe("a").unwrap();
    consumer.set_pending_limits(PendingLimits::new(0, 100));
    for _ in 0..30 {
        client.publish("a", "0123456789").unwrap();
    }
    client.flush().unwrap();
    assert_eq!((consumer.pending_messages(), consumer.pending_bytes()), (10, 100));
    assert_eq!(consumer.dropped(), 20);
    consumer.set_pending_limits(PendingLimits::UNLIMITED);
    publish(&client, 100);
    assert_eq!((consumer.pending_messages(), consumer.dropped()), (110, 20));
    // The limit is beyond what waits now: the next message handed out ends the episode.
    text(&consumer);
    client
        .recorder
        .wait_for(LIMIT, |happening| matches!(happening, Happening::SlowConsumerRecovered { .. }))
        .unwrap();
}

fn the_limit_of_the_options_holds_for_new_subscriptions(backend: &Backend) {
    let limits = PendingLimits::new(5, 1_000);
    let client = backend.client_with(|options| options.pending_limits(limits));
    let consumer = client.subscribe("a").unwrap();
    let dispatcher = client.dispatcher(|_, _| ()).unwrap();
    assert_eq!((consumer.pending_limits(), dispatcher.pending_limits()), (limits, limits));
    publish(&client, 8);
    assert_eq!(consumer.dropped(), 3);
    // Replies have no such limit.
    let requests = client.subscribe("service").unwrap();
    requests.set_pending_limits(PendingLimits::UNLIMITED);
    let pending: Vec<_> = (0..50).map(|_| client.send_request("service", "").unwrap()).collect();
    for _ in 0..50 {
        let request = requests.next_timeout(LIMIT).unwrap();
        client.respond(&request, "yes").unwrap();
    }
    for reply in pending {
        assert_eq!(text_of(&reply.wait(LIMIT).unwrap()), "yes");
    }
}

fn what_was_dropped_counts_for_the_number_asked_for(backend: &Backend) {
    let client = backend.client();
    let consumer = client.subscribe("a").unwrap();
    consumer.set_pending_limits(PendingLimits::new(3, 0));
    consumer.unsubscribe_after(10).unwrap();
    publish(&client, 20);
    assert_eq!((consumer.pending_messages(), consumer.dropped()), (3, 7));
    assert_eq!(consumer.status(), ConsumerStatus::Ended);
    assert_eq!(texts(&consumer, 3), numbers(3));
    assert!(consumer.next().unwrap_err().is_closed());
    assert_eq!(backend.subscription_count(), 0);
}

fn a_slow_handler_is_a_slow_consumer(backend: &Backend) {
    let client = backend.client();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let (sender, handled) = mpsc::channel();
    let dispatcher = client
        .dispatcher(move |_, message| {
            let _ = sender.send(text_of(&message));
            assert!(at_gate.wait(LIMIT));
        })
        .unwrap();
    dispatcher.set_pending_limits(PendingLimits::new(10, 0));
    let sid = dispatcher.subscribe("a").unwrap();
    client.publish("a", "first").unwrap();
    assert_eq!(handled.recv_timeout(LIMIT).unwrap(), "first");
    publish(&client, 25);
    assert_eq!((dispatcher.pending_messages(), dispatcher.dropped()), (10, 15));
    let told = |happening: &Happening| match happening {
        Happening::SlowConsumer { id, .. } => *id == sid,
        _ => false,
    };
    client.recorder.wait_for(LIMIT, told).unwrap();
    gate.open();
    let rest: Vec<String> = (0..10).map(|_| handled.recv_timeout(LIMIT).unwrap()).collect();
    assert_eq!(rest, numbers(10));
    client
        .recorder
        .wait_for(LIMIT, |happening| matches!(happening, Happening::SlowConsumerRecovered { .. }))
        .unwrap();
}

fn each_subscription_of_a_dispatcher_may_have_a_limit_of_its_own(backend: &Backend) {
    let client = backend.client();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let (sender, begins) = mpsc::channel();
    let dispatcher = client
        .dispatcher(move |_, _| {
            let _ = sender.send(());
            assert!(at_gate.wait(LIMIT));
        })
        .unwrap();
    let stuck = dispatcher.subscribe("stuck").unwrap();
    client.publish("stuck", "").unwrap();
    begins.recv_timeout(LIMIT).unwrap();
    let narrow = dispatcher.subscribe("a").unwrap();
    let wide = dispatcher.subscribe("a").unwrap();
    let limits = PendingLimits::new(3, 0);
    assert!(dispatcher.set_pending_limits_of(narrow, limits));
    assert!(!dispatcher.set_pending_limits_of(12_345, limits));
    publish(&client, 10);
    let look = |sid| dispatcher.subscription(sid).unwrap();
    assert_eq!(look(narrow).pending_limits(), limits);
    assert_eq!(look(wide).pending_limits(), dispatcher.pending_limits());
    assert_eq!((look(narrow).pending_messages(), look(narrow).dropped()), (3, 7));
    assert_eq!((look(wide).pending_messages(), look(wide).dropped()), (10, 0));
    let told = |happening: &Happening| match happening {
        Happening::SlowConsumer { id, .. } => *id == narrow,
        _ => false,
    };
    client.recorder.wait_for(LIMIT, told).unwrap();
    // Those of the dispatcher are set for all, the present ones too.
    let all = PendingLimits::new(20, 2_000);
    dispatcher.set_pending_limits(all);
    assert_eq!([narrow, wide, stuck].map(|sid| look(sid).pending_limits()), [all; 3]);
    assert!(dispatcher.subscription(12_345).is_none());
    gate.open();
    dispatcher.drain(LIMIT).unwrap();
    assert_eq!((dispatcher.delivered(), dispatcher.dropped()), (14, 7));
}

fn the_limit_of_the_options_may_be_none(backend: &Backend) {
    let client = backend.client_with(|options| options.pending_limits(PendingLimits::UNLIMITED));
    let consumer = client.subscribe("a").unwrap();
    assert_eq!(consumer.pending_limits(), PendingLimits::UNLIMITED);
    let usual = backend.client();
    let default = usual.subscribe("a").unwrap().pending_limits();
    assert_eq!(default, PendingLimits::default());
    assert_eq!((default.messages(), default.bytes()), (524_288, 67_108_864));
}
