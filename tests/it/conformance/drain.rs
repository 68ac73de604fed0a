//! Draining a connection and a subscription: ending without losing what has arrived.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nats_blocking::testing::Happening;
use nats_blocking::{
    ConnectionEventKind, ConnectionStatus, Consumer, ConsumerStatus, EndReason, ErrorKind,
};

use super::backend::{Backend, Client, LIMIT, kind, numbers, text, text_of, texts};
use crate::support::wait::{Gate, poll};

conformance! {
    nothing_that_has_arrived_is_lost,
    messages_that_flow_while_it_drains_are_handled_or_never_delivered,
    while_it_drains_handlers_publish_and_new_work_is_refused,
    a_drain_that_takes_too_long_says_so_and_closes,
    a_drain_without_a_server_is_refused_and_harms_nothing,
    a_second_drain_joins_the_first,
    a_drain_ends_when_the_server_is_lost,
    a_drained_subscription_keeps_what_arrived_and_ends,
    a_subscription_drains_while_the_server_is_down,
    a_subscription_whose_drain_took_too_long_says_so_and_keeps_what_arrived,
    a_dispatcher_whose_drain_took_too_long_says_so_and_handles_what_arrived,
    a_drain_of_a_consumer_does_not_wait_for_a_lost_server,
    draining_twice_and_after_the_end_is_no_fault,
    a_draining_subscription_is_not_announced_again,
    consumers_of_a_closed_connection_cannot_drain,
}

fn draining_events(client: &Client) -> usize {
    let draining = |happening: &Happening| {
        matches!(happening.event_kind(), Some(ConnectionEventKind::Draining))
    };
    client.recorder.count(draining)
}

fn nothing_that_has_arrived_is_lost(backend: &Backend) {
    const COUNT: usize = 2_000;
    let client = backend.client();
    let other = backend.client();
    let echoes = other.subscribe("echoes").unwrap();
    other.flush().unwrap();
    let read = client.subscribe("a").unwrap();
    let dispatcher = client
        .dispatcher(|connection, message| connection.publish("echoes", message.payload()).unwrap())
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    client.flush().unwrap();
    for payload in numbers(COUNT) {
        other.publish("a", payload).unwrap();
    }
    other.flush().unwrap();
    client.drain(LIMIT).unwrap();
    assert_eq!(client.status(), ConnectionStatus::Closed);
    let delivered = client.recorder.events();
    assert!(matches!(
        delivered.last().map(|event| event.kind()),
        Some(ConnectionEventKind::Closed { cause: None })
    ));
    assert!(client.wait_closed(Duration::ZERO).unwrap().is_none());
    assert_eq!(texts(&read, COUNT), numbers(COUNT));
    assert_eq!(kind(read.next()), ErrorKind::Closed);
    assert_eq!(texts(&echoes, COUNT), numbers(COUNT));
    assert_eq!(dispatcher.delivered(), COUNT as u64);
    assert_eq!(draining_events(&client), 1);
    backend.wait_clients(1);
}

fn messages_that_flow_while_it_drains_are_handled_or_never_delivered(backend: &Backend) {
    let client = backend.client();
    let other = backend.client();
    let (sender, handled) = mpsc::channel();
    let dispatcher = client
        .dispatcher(move |_, message| {
            let _ = sender.send(text_of(&message));
        })
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    client.flush().unwrap();
    let over = Gate::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if over.is_open() {
                    return;
                }
                other.publish("a", number.to_string()).unwrap();
            }
        });
        let first = handled.recv_timeout(LIMIT).unwrap();
        let outcome = client.drain(LIMIT);
        over.open();
        outcome.unwrap();
        let rest: Vec<String> = handled.try_iter().collect();
        let all: Vec<String> = [vec![first], rest].concat();
        // No gap: the server stopped at one moment, and all before it was handled.
        assert_eq!(all, numbers(all.len()));
        assert_eq!(client.statistics().in_messages(), all.len() as u64);
    });
}

fn while_it_drains_handlers_publish_and_new_work_is_refused(backend: &Backend) {
    let client = backend.client();
    let other = backend.client();
    let results = other.subscribe("results").unwrap();
    other.flush().unwrap();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let dispatcher = client
        .dispatcher(move |connection, message| {
            assert!(at_gate.wait(LIMIT));
            connection.publish("results", message.payload()).unwrap();
        })
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    client.publish("a", "from the handler").unwrap();
    client.flush().unwrap();
    let drain = client.start_drain(LIMIT).unwrap();
    assert_eq!(client.status(), ConnectionStatus::Draining);
    assert!(client.is_draining() && client.is_connected() && !drain.is_finished());
    let refused = [
        kind(client.subscribe("b")),
        kind(client.queue_subscribe("b", "q")),
        kind(client.request("b", "", LIMIT)),
        kind(client.send_request("b", "")),
        kind(client.dispatcher(|_, _| ())),
        kind(client.force_reconnect()),
    ];
    assert_eq!(refused, [ErrorKind::Draining; 6]);
    assert_eq!(kind(drain.wait(Duration::from_millis(20))), ErrorKind::Timeout);
    client.publish("results", "from the program").unwrap();
    client.flush().unwrap();
    assert_eq!(text(&results), "from the program");
    gate.open();
    drain.wait(LIMIT).unwrap();
    assert!(drain.is_finished());
    assert_eq!(text(&results), "from the handler");
    assert_eq!(kind(client.publish("results", "")), ErrorKind::Closed);
}

fn a_drain_that_takes_too_long_says_so_and_closes(backend: &Backend) {
    let client = backend.client_with(|options| options.close_timeout(Duration::from_millis(200)));
    let gate = Gate::new();
    let at_gate = gate.clone();
    let dispatcher = client.dispatcher(move |_, _| assert!(at_gate.wait(LIMIT))).unwrap();
    let stuck = dispatcher.subscribe("a").unwrap();
    let (sender, ended) = mpsc::channel();
    assert!(dispatcher.on_closed(stuck, move |_, end| sender.send(end.reason().clone()).unwrap()));
    client.publish("a", "in the handler's hand").unwrap();
    client.publish("a", "behind it").unwrap();
    client.flush().unwrap();
    assert_eq!(kind(client.drain(Duration::from_millis(50))), ErrorKind::Timeout);
    client.wait_for_status(ConnectionStatus::Closed, LIMIT).unwrap();
    let reason = ended.recv_timeout(LIMIT).unwrap();
    assert!(matches!(reason, EndReason::Closed(None)), "a message was thrown away: {reason:?}");
    // Where nobody waits for the drain, the listener knows.
    let told = |happening: &Happening| match happening {
        Happening::Exception(error) => error.is_timeout(),
        _ => false,
    };
    client.recorder.wait_for(LIMIT, told).unwrap();
    gate.open();

    let client = backend.client_with(|options| options.close_timeout(Duration::from_millis(200)));
    let _subscription = client.subscribe("a").unwrap();
    backend.go_silent(true);
    assert_eq!(kind(client.drain(Duration::from_millis(50))), ErrorKind::Timeout);
    client.wait_for_status(ConnectionStatus::Closed, LIMIT).unwrap();
    backend.go_silent(false);
}

fn a_drain_without_a_server_is_refused_and_harms_nothing(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    backend.go_down();
    client.wait_lost();
    assert_eq!(kind(client.start_drain(LIMIT)), ErrorKind::Disconnected);
    assert_eq!(kind(client.drain(LIMIT)), ErrorKind::Disconnected);
    assert_eq!(client.status(), ConnectionStatus::Reconnecting);
    client.publish("a", "goes on").unwrap();
    backend.come_up();
    assert_eq!(text(&subscription), "goes on");
    client.drain(LIMIT).unwrap();
    assert_eq!(draining_events(&client), 1);
    client.drain(LIMIT).unwrap();
}

fn a_second_drain_joins_the_first(backend: &Backend) {
    let client = backend.client();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let dispatcher = client.dispatcher(move |_, _| assert!(at_gate.wait(LIMIT))).unwrap();
    dispatcher.subscribe("a").unwrap();
    client.publish("a", "").unwrap();
    client.flush().unwrap();
    let first = client.start_drain(LIMIT).unwrap();
    // Its time-out is that of the first.
    let second = client.start_drain(Duration::ZERO).unwrap();
    thread::scope(|scope| {
        let third = scope.spawn(|| client.drain(LIMIT));
        gate.open();
        first.wait(LIMIT).unwrap();
        second.wait(LIMIT).unwrap();
        third.join().unwrap().unwrap();
    });
    assert_eq!(draining_events(&client), 1);
}

fn a_drain_ends_when_the_server_is_lost(backend: &Backend) {
    let client = backend.client();
    let _subscription = client.subscribe("a").unwrap();
    client.flush().unwrap();
    backend.go_silent(true);
    let drain = client.start_drain(LIMIT * 3).unwrap();
    backend.go_down();
    assert_eq!(kind(drain.wait(LIMIT)), ErrorKind::Disconnected);
    client.wait_for_status(ConnectionStatus::Closed, LIMIT).unwrap();
    let reconnecting = |happening: &Happening| {
        matches!(happening.event_kind(), Some(ConnectionEventKind::Reconnecting { .. }))
    };
    assert_eq!(client.recorder.count(reconnecting), 0);
}

fn a_drained_subscription_keeps_what_arrived_and_ends(backend: &Backend) {
    let client = backend.client();
    let other = backend.client();
    let drained = client.subscribe("a").unwrap();
    let stays = client.subscribe("a").unwrap();
    client.flush().unwrap();
    for payload in numbers(500) {
        other.publish("a", payload).unwrap();
    }
    other.flush().unwrap();
    drained.drain(LIMIT).unwrap();
    assert_eq!(backend.subscription_count(), 1);
    other.publish("a", "late").unwrap();
    other.flush().unwrap();
    client.flush().unwrap();
    assert_eq!(texts(&drained, 500), numbers(500));
    assert_eq!(kind(drained.next()), ErrorKind::Closed);
    assert_eq!(drained.status(), ConsumerStatus::Ended);
    assert_eq!(texts(&stays, 500), numbers(500));
    assert_eq!(text(&stays), "late");
    assert_eq!(client.status(), ConnectionStatus::Connected);
    assert_eq!(draining_events(&client), 0);
}

fn a_subscription_drains_while_the_server_is_down(backend: &Backend) {
    let client = backend.client();
    let drained = client.subscribe("a").unwrap();
    let stays = client.subscribe("a").unwrap();
    client.publish("a", "before").unwrap();
    client.flush().unwrap();
    backend.go_down();
    client.wait_lost();
    drained.drain(LIMIT).unwrap();
    backend.come_up();
    client.wait_resubscribed(1);
    client.publish("a", "after").unwrap();
    assert_eq!(texts(&stays, 2), ["before", "after"]);
    assert_eq!(text(&drained), "before");
    assert_eq!(kind(drained.next()), ErrorKind::Closed);
}

fn a_subscription_whose_drain_took_too_long_says_so_and_keeps_what_arrived(backend: &Backend) {
    let client = backend.client();
    let drained = client.subscribe("a").unwrap();
    for payload in numbers(3) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    backend.go_silent(true);
    assert_eq!(kind(drained.drain(Duration::from_millis(50))), ErrorKind::Timeout);
    assert_eq!(drained.status(), ConsumerStatus::Ended);
    assert_eq!((drained.pending_messages(), drained.dropped()), (3, 0));
    assert_eq!(texts(&drained, 3), numbers(3));
    assert_eq!(kind(drained.next()), ErrorKind::Closed);
    backend.go_silent(false);
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0, "it was unsubscribed all the same");
}

fn a_dispatcher_whose_drain_took_too_long_says_so_and_handles_what_arrived(backend: &Backend) {
    let client = backend.client();
    let (sender, handled) = mpsc::channel();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let dispatcher = client
        .dispatcher(move |_, message| {
            assert!(at_gate.wait(LIMIT));
            let _ = sender.send(text_of(&message));
        })
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    for payload in numbers(3) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    backend.go_silent(true);
    assert_eq!(kind(dispatcher.drain(Duration::from_millis(50))), ErrorKind::Timeout);
    gate.open();
    let order: Vec<String> = (0..3).map(|_| handled.recv_timeout(LIMIT).unwrap()).collect();
    assert_eq!(order, numbers(3));
    backend.go_silent(false);
    dispatcher.drain(LIMIT).unwrap();
    assert_eq!(dispatcher.status(), ConsumerStatus::Ended);
}

fn a_drain_of_a_consumer_does_not_wait_for_a_lost_server(backend: &Backend) {
    let client = backend.client();
    let drained = client.subscribe("a").unwrap();
    let dispatcher = client.dispatcher(|_, _| ()).unwrap();
    dispatcher.subscribe("a").unwrap();
    client.publish("a", "before").unwrap();
    client.flush().unwrap();
    backend.go_silent(true);
    thread::scope(|scope| {
        // Longer than the scenario may take.
        let one = scope.spawn(|| drained.drain(LIMIT * 100));
        let other = scope.spawn(|| dispatcher.drain(LIMIT * 100));
        backend.go_down();
        // The server has forgotten both: there is nothing left to confirm.
        one.join().unwrap().unwrap();
        other.join().unwrap().unwrap();
    });
    assert_eq!(text(&drained), "before");
    assert_eq!(kind(drained.next()), ErrorKind::Closed);
    assert_eq!(dispatcher.delivered(), 1);
    backend.come_up();
    client.wait_resubscribed(1);
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0);
}

fn draining_twice_and_after_the_end_is_no_fault(backend: &Backend) {
    let client = backend.client();
    let drained = client.subscribe("a").unwrap();
    client.publish("a", "1").unwrap();
    thread::scope(|scope| {
        let one = scope.spawn(|| drained.drain(LIMIT));
        drained.drain(LIMIT).unwrap();
        one.join().unwrap().unwrap();
    });
    drained.drain(LIMIT).unwrap();
    assert_eq!(text(&drained), "1");
    assert_eq!(kind(drained.next()), ErrorKind::Closed);
    let dropped = client.subscribe("b").unwrap();
    client.publish("b", "waits").unwrap();
    client.flush().unwrap();
    dropped.unsubscribe();
    dropped.drain(LIMIT).unwrap();
    assert_eq!(kind(dropped.next()), ErrorKind::Closed);
    let dispatcher = client.dispatcher(|_, _| ()).unwrap();
    dispatcher.subscribe("c").unwrap();
    dispatcher.drain(LIMIT).unwrap();
    dispatcher.drain(LIMIT).unwrap();
    assert_eq!(backend.subscription_count(), 0);
}

fn a_draining_subscription_is_not_announced_again(backend: &Backend) {
    let client = backend.client();
    let drained = client.subscribe("a").unwrap();
    client.flush().unwrap();
    backend.go_silent(true);
    thread::scope(|scope| {
        let draining = scope.spawn(|| drained.drain(LIMIT * 3));
        let begun = poll(LIMIT, || (drained.status() != ConsumerStatus::Active).then_some(()));
        assert!(begun.is_some());
        backend.go_down();
        draining.join().unwrap().unwrap();
    });
    backend.come_up();
    client.wait_resubscribed(1);
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 0);
    let other = client.subscribe("a").unwrap();
    client.publish("a", "new").unwrap();
    assert_eq!(text(&other), "new");
    assert_eq!(kind(drained.next()), ErrorKind::Closed);
}

fn consumers_of_a_closed_connection_cannot_drain(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    let dispatcher = client.dispatcher(|_, _| ()).unwrap();
    dispatcher.subscribe("a").unwrap();
    client.publish("a", "kept").unwrap();
    client.flush().unwrap();
    client.close();
    assert_eq!(kind(subscription.drain(LIMIT)), ErrorKind::Closed);
    assert_eq!(kind(dispatcher.drain(LIMIT)), ErrorKind::Closed);
    assert_eq!(text(&subscription), "kept");
}
