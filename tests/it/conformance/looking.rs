//! What a connection tells about itself.

use nats_blocking::{ConnectionStatus, ErrorKind};

use super::backend::{Backend, LIMIT, kind, texts};

conformance! {
    accessors_tell_of_the_server_in_use,
    accessors_tell_of_a_lost_server,
    statistics_count_what_happened,
    statuses_can_be_waited_for,
    the_cause_of_the_end_is_told_as_long_as_one_asks,
}

fn the_cause_of_the_end_is_told_as_long_as_one_asks(backend: &Backend) {
    let closed = backend.client();
    closed.close();
    assert!(closed.close_cause().is_none(), "the program closed it");
    let lost = backend.client_with(|options| options.no_reconnect());
    assert!(lost.close_cause().is_none());
    backend.go_down();
    lost.wait_for_status(ConnectionStatus::Closed, LIMIT).unwrap();
    let cause = lost.close_cause().expect("a cause");
    let delivered = lost.wait_closed(LIMIT).unwrap().expect("the same cause");
    assert_eq!(cause.to_string(), delivered.to_string());
    backend.come_up();
}

fn accessors_tell_of_the_server_in_use(backend: &Backend) {
    let client = backend.client_with(|options| options.name("looked-at"));
    assert_eq!(client.status(), ConnectionStatus::Connected);
    assert!(client.is_connected());
    assert!(!client.is_reconnecting() && !client.is_draining() && !client.is_closed());
    assert_eq!(client.connected_url(), Some(backend.url()));
    assert_eq!(client.servers(), [backend.url()]);
    assert_eq!(client.discovered_servers(), Vec::<String>::new());
    let info = client.server_info();
    assert_eq!(info.max_payload(), client.max_payload());
    assert_eq!(client.max_payload(), 1_048_576);
    assert!(client.client_id().is_some());
    assert_eq!(client.client_ip().as_deref(), Some("127.0.0.1"));
    let (local, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    assert!(local.ip().is_loopback() && local.port() != peer.port());
    assert!(backend.url().ends_with(&format!(":{}", peer.port())));
    client.wait_written();
    assert_eq!((client.subscription_count(), client.pending_requests()), (0, 0));
    assert!(client.last_error().is_none());
    assert_eq!(client.name(), Some("looked-at"));
    assert!(client.supports_headers());
    assert!(client.connected_since().unwrap().elapsed() < LIMIT);
    assert!(client.close_cause().is_none());
    assert!(client.new_inbox().unwrap().starts_with("_INBOX."));
    let shown = format!("{:?}", client.connection);
    assert!(shown.contains("looked-at") && shown.contains("Connected"), "{shown}");
    let other = backend.client();
    assert_ne!(other.client_id(), client.client_id());
    assert!(other.name().is_none());
    let bare = backend.client_with(|options| options.no_headers());
    assert!(!bare.supports_headers() && bare.server_info().headers());
}

fn accessors_tell_of_a_lost_server(backend: &Backend) {
    let client = backend.client();
    backend.go_down();
    client.wait_lost();
    assert!(client.is_reconnecting() && !client.is_connected());
    assert!(client.connected_url().is_none());
    assert!(client.local_addr().is_none() && client.peer_addr().is_none());
    assert!(client.connected_since().is_none());
    assert_eq!(client.max_payload(), 1_048_576, "that of the last server");
    assert_eq!(client.servers(), [backend.url()]);
    client.publish("a", "123").unwrap();
    let (messages, bytes) = client.pending_out();
    assert_eq!((messages, bytes), (1, "PUB a 3\r\n123\r\n".len()));
    backend.come_up();
    client.wait_for_status(ConnectionStatus::Connected, LIMIT).unwrap();
    client.flush().unwrap();
    client.wait_written();
    assert_eq!(client.connected_url(), Some(backend.url()));
    assert!(client.connected_since().is_some());
    assert!(client.last_error().is_some());
    client.clear_last_error();
    assert!(client.last_error().is_none());
}

fn statistics_count_what_happened(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    for _ in 0..10 {
        client.publish("a", "12345").unwrap();
    }
    assert_eq!(texts(&subscription, 10), ["12345"; 10]);
    client.flush().unwrap();
    let statistics = client.statistics();
    assert_eq!((statistics.out_messages(), statistics.in_messages()), (10, 10));
    assert_eq!(statistics.out_bytes(), 10 * "PUB a 5\r\n12345\r\n".len() as u64);
    assert_eq!(statistics.in_bytes(), 10 * "MSG a 1 5\r\n12345\r\n".len() as u64);
    assert_eq!((statistics.connects(), statistics.reconnects()), (1, 0));
    assert_eq!((statistics.flushes(), statistics.pings()), (1, 1));
    assert_eq!((statistics.errors(), statistics.exceptions()), (0, 0));
    backend.go_down();
    client.wait_lost();
    backend.come_up();
    client.wait_resubscribed(1);
    client.publish("a", "12345").unwrap();
    client.flush().unwrap();
    let later = client.statistics();
    assert_eq!((later.connects(), later.reconnects(), later.disconnects()), (2, 1, 1));
    assert_eq!((later.out_messages(), later.in_messages()), (11, 11));
    assert_eq!(statistics.out_messages(), 10, "a copy does not change");
}

fn statuses_can_be_waited_for(backend: &Backend) {
    use std::time::Duration;

    let client = backend.client();
    let short = Duration::from_millis(20);
    client.wait_for_status(ConnectionStatus::Connected, short).unwrap();
    let draining = client.wait_for_status(ConnectionStatus::Draining, short);
    assert_eq!(kind(draining), ErrorKind::Timeout);
    assert_eq!(kind(client.wait_closed(short)), ErrorKind::Timeout);
    client.close();
    client.wait_for_status(ConnectionStatus::Closed, LIMIT).unwrap();
    let connected = client.wait_for_status(ConnectionStatus::Connected, LIMIT);
    assert_eq!(kind(connected), ErrorKind::Closed);
    assert!(client.wait_closed(LIMIT).unwrap().is_none());
}
