//! What is published while the server is down.

use nats_blocking::{ErrorKind, ReconnectBuffer};

use super::backend::{Backend, LIMIT, kind, numbers, text, text_of, texts};

conformance! {
    what_is_published_while_down_arrives_whole_in_order_after_the_resubscription,
    without_a_reconnect_buffer_publishing_while_down_fails,
    a_full_reconnect_buffer_refuses_more_and_keeps_what_it_has,
    subscriptions_change_while_the_server_is_down,
    dispatchers_go_on_after_a_reconnect,
}

fn what_is_published_while_down_arrives_whole_in_order_after_the_resubscription(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    let wild = client.subscribe("*").unwrap();
    for round in 1..=3 {
        backend.go_down();
        client.wait_lost();
        for payload in numbers(1_000) {
            client.publish("a", payload).unwrap();
        }
        let large = vec![b'x'; 500_000];
        client.publish("a", &large).unwrap();
        assert_eq!(client.pending_out().0, 1_001);
        backend.come_up();
        for subscription in [&subscription, &wild] {
            assert_eq!(texts(subscription, 1_000), numbers(1_000));
            assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload(), large);
        }
        client.wait_resubscribed(round);
    }
    client.flush().unwrap();
    assert!(subscription.try_next().unwrap().is_none());
    let statistics = client.statistics();
    assert_eq!((statistics.reconnects(), statistics.disconnects()), (3, 3));
    assert_eq!((statistics.torn(), statistics.discarded()), (0, 0));
}

fn without_a_reconnect_buffer_publishing_while_down_fails(backend: &Backend) {
    let client = backend.client_with(|options| options.reconnect_buffer(ReconnectBuffer::Off));
    let subscription = client.subscribe("a").unwrap();
    backend.go_down();
    client.wait_lost();
    assert_eq!(kind(client.publish("a", "lost")), ErrorKind::ReconnectBufferFull);
    assert_eq!(kind(client.request("a", "", LIMIT)), ErrorKind::ReconnectBufferFull);
    assert_eq!(client.pending_requests(), 0);
    backend.come_up();
    client.wait_resubscribed(1);
    client.publish("a", "again").unwrap();
    assert_eq!(text(&subscription), "again");
}

fn a_full_reconnect_buffer_refuses_more_and_keeps_what_it_has(backend: &Backend) {
    let buffer = ReconnectBuffer::Bytes(1_000);
    let client = backend.client_with(|options| options.reconnect_buffer(buffer));
    let subscription = client.subscribe("a").unwrap();
    backend.go_down();
    client.wait_lost();
    let mut accepted = 0;
    let refused = loop {
        match client.publish("a", accepted.to_string()) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 1_000, "nothing is refused");
    };
    assert_eq!(refused.kind(), ErrorKind::ReconnectBufferFull);
    let (messages, bytes) = client.pending_out();
    assert_eq!(messages, accepted as u64);
    assert!((980..=1_000).contains(&bytes), "{bytes} bytes");
    backend.come_up();
    assert_eq!(texts(&subscription, accepted), numbers(accepted));
    client.flush().unwrap();
    assert!(subscription.try_next().unwrap().is_none());
}

fn subscriptions_change_while_the_server_is_down(backend: &Backend) {
    let client = backend.client();
    let goes = client.subscribe("a").unwrap();
    let stays = client.subscribe("a").unwrap();
    client.flush().unwrap();
    backend.go_down();
    client.wait_lost();
    drop(goes);
    let comes = client.queue_subscribe("a", "q").unwrap();
    let few = client.subscribe("a").unwrap();
    few.unsubscribe_after(2).unwrap();
    for payload in numbers(3) {
        client.publish("a", payload).unwrap();
    }
    backend.come_up();
    assert_eq!(texts(&stays, 3), numbers(3));
    assert_eq!(texts(&comes, 3), numbers(3));
    assert_eq!(texts(&few, 2), numbers(2));
    assert!(few.next().unwrap_err().is_closed());
    client.flush().unwrap();
    assert_eq!(backend.subscription_count(), 2);
}

fn dispatchers_go_on_after_a_reconnect(backend: &Backend) {
    let client = backend.client();
    let dispatcher = client
        .dispatcher(|connection, message| connection.respond(&message, message.payload()).unwrap())
        .unwrap();
    dispatcher.subscribe("echo").unwrap();
    for round in 1..=2 {
        backend.go_down();
        client.wait_lost();
        backend.come_up();
        client.wait_resubscribed(round);
        let reply = client.request("echo", round.to_string(), LIMIT).unwrap();
        assert_eq!(text_of(&reply), round.to_string());
    }
}
