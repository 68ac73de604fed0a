//! What a server says before it goes, and lines that are too long for the client's options.

use nats_blocking::testing::{Happening, Recorder};
use nats_blocking::{ConnectionEventKind as Kind, ErrorKind};

use crate::hostile::{LIMIT, after_login, healthy_end, is_event, message, options, texts};
use crate::support::scripted::{Afterwards, ScriptedServer, Step};
use crate::support::wait::Gate;
use crate::support::watchdog::within;

#[test]
fn what_the_server_said_long_before_is_not_the_cause_of_a_loss() {
    within(LIMIT * 2, "last word", || {
        let leave = Gate::new();
        let first = after_login([
            Step::send("-ERR 'something new'\r\n"),
            Step::Wait(leave.clone()),
            Step::Close,
        ]);
        let server = ScriptedServer::start(vec![first, healthy_end()], Afterwards::Repeat);
        let recorder = Recorder::new();
        let connection = options(&server.url(), &recorder).connect().unwrap();
        let subscription = connection.subscribe("work").unwrap();
        let said = |happening: &Happening| matches!(happening, Happening::ServerError(_));
        recorder.wait_for(LIMIT, said).unwrap();
        // The server goes on after it.
        connection.flush_timeout(LIMIT).unwrap();
        leave.open();
        let lost = is_event(|kind| matches!(kind, Kind::Disconnected { .. }));
        let lost = recorder.wait_for(LIMIT, lost).unwrap();
        let Some(Kind::Disconnected { cause }) = lost.event_kind() else { panic!("{lost}") };
        assert!(cause.server_error().is_none(), "{cause:?}");
        assert_eq!(texts(&subscription, 1), ["the end"]);
        connection.close();
        recorder.check().unwrap();
    });
}

#[test]
fn a_line_longer_than_the_option_allows_is_a_protocol_error() {
    within(LIMIT * 2, "incoming line", || {
        let line = format!("MSG {} 1 2\r\nhi\r\n", "a".repeat(100));
        let first = after_login([Step::Send(message("fits")), Step::Send(line.into_bytes())]);
        let server = ScriptedServer::start(vec![first, healthy_end()], Afterwards::Repeat);
        let recorder = Recorder::new();
        let builder = options(&server.url(), &recorder).max_incoming_control_line(64);
        let connection = builder.connect().unwrap();
        let subscription = connection.subscribe("work").unwrap();
        assert_eq!(texts(&subscription, 2), ["fits", "the end"]);
        let is_protocol = |happening: &Happening| {
            matches!(happening, Happening::Exception(error)
                if error.kind() == ErrorKind::Protocol)
        };
        connection.close();
        connection.wait_closed(LIMIT).unwrap();
        recorder.check().unwrap();
        assert_eq!(recorder.count(is_protocol), 1);
    });
}
