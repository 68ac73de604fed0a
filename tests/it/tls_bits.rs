//! A bit that turns on the way, at any place of a TLS connection: an attempt that fails or a
//! connection that is lost, and never another byte in a message.

use std::time::Duration;

use nats_blocking::{Connection, ErrorKind, Options};

use crate::support::certificates::Authority;
use crate::support::faults::Faults;
use crate::support::nats_server::{Config, NatsServer};
use crate::support::proxy::{Proxy, Way};
use crate::support::watchdog::within;

const LONG: Duration = Duration::from_secs(480);
/// Long enough for a handshake on a busy machine; some turned bits let both sides wait for it.
const LIMIT: Duration = Duration::from_secs(2);
/// By then a handshake is over, either way.
const HANDSHAKE: u64 = 4_000;

/// What becomes of it: the kind of the loss, or None if there was none.
fn outcome(proxy: &Proxy, authority: &Authority) -> Option<ErrorKind> {
    let connected = Options::builder()
        .server(proxy.url().replace("nats://", "tls://"))
        .root_certificates_file(&authority.file)
        .tls_first()
        .connect_timeout(LIMIT)
        .no_reconnect()
        .connect();
    match connected {
        Ok(connection) => talk(&connection),
        Err(error) => Some(error.attempts()[0].cause().kind()),
    }
}

/// Sends and receives for longer than the place of any bit.
fn talk(connection: &Connection) -> Option<ErrorKind> {
    let text = |number: u32| format!("{number:0100}");
    if let Ok(subscription) = connection.subscribe("a") {
        let sent = (0..60).take_while(|number| connection.publish("a", text(*number)).is_ok());
        for number in 0..sent.count() as u32 {
            let Ok(message) = subscription.next_timeout(LIMIT) else { break };
            assert_eq!(message.text().unwrap(), text(number));
            assert_eq!(message.subject(), "a");
        }
    }
    let alive = connection.flush_timeout(LIMIT).is_ok();
    connection.close();
    let cause = connection.wait_closed(LONG).unwrap();
    assert!(!alive || cause.is_none(), "{cause:?}");
    (!alive).then(|| cause.map_or(ErrorKind::Timeout, |cause| cause.kind()))
}

#[test]
fn a_bit_that_turns_anywhere_over_tls_is_a_clean_loss() {
    within(LONG, "bits", || {
        let authority = Authority::new();
        let block = authority.server().tls_block("handshake_first: true");
        let server = NatsServer::start(&Config::new().extra(&block).tls_first());
        let proxy = Proxy::start(server.client_address(), 1);
        assert_eq!(outcome(&proxy, &authority), None);
        for way in [Way::ToServer, Way::ToClient] {
            let passed = proxy.passed(way).first().map_or(0, |link| link.bytes);
            assert!(passed > HANDSHAKE + 600, "{passed} bytes {way:?}");
            let places = (0..HANDSHAKE).step_by(97).chain((HANDSHAKE..HANDSHAKE + 600).step_by(31));
            let mut lost = 0;
            for place in places {
                proxy.set(way, Faults { flip_at: Some(place), ..Faults::default() });
                match outcome(&proxy, &authority) {
                    Some(ErrorKind::Tls | ErrorKind::Io | ErrorKind::Timeout) => lost += 1,
                    // The heads of the first records are read and not protected.
                    None if place < HANDSHAKE => {}
                    other => panic!("byte {place} {way:?}: {other:?}"),
                }
            }
            proxy.calm();
            assert!(lost > 40, "{lost} lost {way:?}");
        }
        assert_eq!(outcome(&proxy, &authority), None);
    });
}
