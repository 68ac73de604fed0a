//! What a message may be at most, to the byte, while the server changes its mind.

use nats_blocking::testing::{Recorder, Server};
use nats_blocking::{Connection, ErrorKind, Headers};

use crate::embedded::{LONG, quick, recorded};
use crate::support::wait::poll;
use crate::support::watchdog::within;

/// Publishes what the limit just lets through, and one byte more, in each way; the number sent.
fn publish_around(connection: &Connection, limit: usize) -> usize {
    let headers = Headers::try_from_iter([("Name", "value")]).unwrap();
    let block = "NATS/1.0\r\nName: value\r\n\r\n".len();
    let (exact, more) = (vec![b'x'; limit], vec![b'x'; limit + 1]);
    connection.publish("a", &exact).unwrap();
    connection.publish_with_reply("a", "r", &exact).unwrap();
    connection.publish_with_headers("a", &headers, &exact[block..]).unwrap();
    for refused in [
        connection.publish("a", &more).unwrap_err(),
        connection.publish_with_reply("a", "r", &more).unwrap_err(),
        connection.publish_with_headers("a", &headers, &more[block..]).unwrap_err(),
        connection.request("a", &more, LONG).unwrap_err(),
        connection.request_with_headers("a", &headers, &more[block..], LONG).unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::MaxPayload, "{limit}: {refused}");
    }
    3
}

#[test]
fn a_limit_that_the_server_changes_counts_from_its_info_on() {
    within(LONG * 3, "changed limit", || {
        let server = Server::start().unwrap();
        let recorder = Recorder::new();
        let connection = recorded(quick(server.url().as_ref()), &recorder).connect().unwrap();
        let subscription = connection.subscribe("a").unwrap();
        let mut sent = 0;
        for limit in [1_000, 2_000, 500, 70_000, 100] {
            server.set_max_payload(limit);
            poll(LONG, || (connection.max_payload() == limit).then_some(())).expect("the new INFO");
            sent += publish_around(&connection, limit);
            // What is on its way must not meet the next limit.
            connection.flush_timeout(LONG).unwrap();
        }
        assert_eq!(subscription.try_iter().count(), sent);
        assert_eq!(connection.statistics().disconnects(), 0);
        connection.close();
        recorder.check().unwrap();
    });
}
