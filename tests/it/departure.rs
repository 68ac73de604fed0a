//! Leaving a lame duck that does not answer: what is called meanwhile, and the ways in which it
//! ends early.

use std::time::{Duration, Instant};

use nats_blocking::testing::{Happening, Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, ConnectionStatus, Consumer, ConsumerStatus,
    Dispatcher, ErrorKind, OptionsBuilder, ReconnectBuffer,
};

use crate::embedded::{LONG, quick, recorded};
use crate::support::wait::poll;
use crate::support::watchdog::within;

const ALL: Duration = Duration::from_secs(120);

/// How long a server that does not answer is waited for: time enough for some calls.
const PATIENCE: Duration = Duration::from_secs(3);

/// A client that is leaving the first of two servers, which does not answer.
struct Leaving {
    first: Server,
    second: Server,
    recorder: Recorder,
    connection: Connection,
}

impl Leaving {
    fn begin(patience: Duration, set: impl FnOnce(OptionsBuilder) -> OptionsBuilder) -> Self {
        let (first, second) = (Server::start().unwrap(), Server::start().unwrap());
        let recorder = Recorder::new();
        let options = quick(&format!("{},{}", first.url(), second.url()))
            .no_randomize()
            .connect_timeout(patience)
            .reconnect_on_lame_duck();
        let connection = recorded(set(options), &recorder).connect().unwrap();
        assert_eq!(connection.connected_url(), Some(first.url()));
        let leaving = Self { first, second, recorder, connection };
        leaving.first.pause_pongs(true);
        leaving
    }

    fn announce_end(&self) {
        self.first.lame_duck();
        self.connection.wait_for_status(ConnectionStatus::Reconnecting, LONG).unwrap();
        assert_eq!(self.connection.connected_url(), None);
    }

    fn wait(&self, wanted: impl Fn(&Kind) -> bool) -> Kind {
        let found = self.recorder.wait_for_event(LONG, wanted).unwrap();
        found.event_kind().unwrap().clone()
    }
}

/// Answers what is asked, until it is dropped.
fn answering(helper: &Connection) -> Dispatcher {
    let answers = helper.dispatcher(|own, message| own.respond(&message, "here").unwrap()).unwrap();
    answers.subscribe("ask").unwrap();
    helper.flush().unwrap();
    answers
}

#[test]
fn what_is_called_while_a_lame_duck_is_left_goes_to_the_next_server() {
    within(ALL, "meanwhile", || {
        let leaving = Leaving::begin(PATIENCE, OptionsBuilder::fail_requests_on_disconnect);
        let connection = &leaving.connection;
        let helper = nats_blocking::connect(leaving.second.url()).unwrap();
        let heard = helper.subscribe("news").unwrap();
        let _answers = answering(&helper);
        let silent = connection.subscribe("unanswered").unwrap();
        let before = connection.send_request("unanswered", "").unwrap();
        silent.next_timeout(LONG).unwrap();
        leaving.announce_end();

        connection.publish("news", "1").unwrap();
        let after = connection.send_request("ask", "").unwrap();
        let late = connection.subscribe("late").unwrap();
        assert!(connection.drain(LONG).unwrap_err().is_disconnected());
        connection.publish("late", "kept").unwrap();
        connection.flush_timeout(LONG).unwrap();
        assert_eq!(connection.connected_url(), Some(leaving.second.url()));
        assert_eq!(heard.next_timeout(LONG).unwrap().payload(), b"1");
        assert_eq!(late.next_timeout(LONG).unwrap().payload(), b"kept");
        assert_eq!(after.wait(LONG).unwrap().payload(), b"here");
        // The option holds for what the dying server had been asked.
        assert!(before.wait(LONG).unwrap_err().is_disconnected());
        let Kind::Disconnected { cause } =
            leaving.wait(|kind| matches!(kind, Kind::Disconnected { .. }))
        else {
            panic!("{}", leaving.recorder.timeline("no loss"))
        };
        assert_eq!(cause.kind(), ErrorKind::LameDuck);
        assert!(cause.to_string().contains("unconfirmed"), "{cause}");
        connection.close();
        leaving.recorder.check().unwrap();
    });
}

#[test]
fn a_forced_reconnect_and_a_close_do_not_wait_for_a_lame_duck() {
    within(ALL, "early", || {
        let leaving = Leaving::begin(ALL, |options| options);
        leaving.announce_end();
        leaving.connection.publish("a", "kept").unwrap();
        leaving.connection.force_reconnect().unwrap();
        leaving.connection.flush_timeout(LONG).unwrap();
        leaving.wait(|kind| matches!(kind, Kind::ForcedReconnect));
        leaving.connection.close();
        leaving.recorder.check().unwrap();

        let leaving = Leaving::begin(ALL, |options| options.close_timeout(LONG));
        leaving.announce_end();
        leaving.connection.publish("a", "to the one that is there").unwrap();
        let received = leaving.first.received();
        let begun = Instant::now();
        leaving.connection.close();
        assert!(begun.elapsed() < LONG);
        assert_eq!(leaving.connection.statistics().discarded(), 0);
        let arrived = poll(LONG, || (leaving.first.received() == received + 1).then_some(()));
        assert!(arrived.is_some());
        leaving.recorder.check().unwrap();
    });
}

#[test]
fn a_forced_reconnect_keeps_what_was_requested_while_the_lame_duck_was_left() {
    within(ALL, "forced", || {
        let leaving = Leaving::begin(ALL, OptionsBuilder::fail_requests_on_disconnect);
        let _answers = answering(&nats_blocking::connect(leaving.second.url()).unwrap());
        leaving.announce_end();
        let request = leaving.connection.send_request("ask", "").unwrap();
        leaving.connection.force_reconnect().unwrap();
        assert_eq!(request.wait(LONG).unwrap().payload(), b"here");
        leaving.connection.close();
        leaving.recorder.check().unwrap();
    });
}

#[test]
fn a_reply_has_its_moment_behind_the_confirmation_however_late_that_comes() {
    within(ALL, "late", || {
        let leaving = Leaving::begin(LONG, |options| options);
        leaving.first.pause_pongs(false);
        let helper = nats_blocking::connect(leaving.first.url()).unwrap();
        let asked = helper.subscribe("ask").unwrap();
        helper.flush().unwrap();
        leaving.first.pause_pongs(true);
        let request = leaving.connection.send_request("ask", "").unwrap();
        let question = asked.next_timeout(LONG).unwrap();
        leaving.announce_end();
        // Paces: longer than replies are waited for.
        std::thread::sleep(Duration::from_millis(400));
        leaving.first.send_raw("PONG\r\n");
        helper.respond(&question, "in time").unwrap();
        assert_eq!(request.wait(LONG).unwrap().payload(), b"in time");
        leaving.connection.close();
        leaving.recorder.check().unwrap();
    });
}

#[test]
fn without_a_reconnect_buffer_publishing_is_refused_while_a_lame_duck_is_left() {
    within(ALL, "no buffer", || {
        let leaving =
            Leaving::begin(PATIENCE, |options| options.reconnect_buffer(ReconnectBuffer::Off));
        leaving.announce_end();
        let error = leaving.connection.publish("a", "b").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReconnectBufferFull);
        leaving.wait(|kind| matches!(kind, Kind::Resubscribed { .. }));
        leaving.connection.publish("a", "b").unwrap();
        leaving.connection.close();
        leaving.recorder.check().unwrap();
    });
}

#[test]
fn a_lame_duck_that_dies_first_is_an_ordinary_loss() {
    within(ALL, "dies", || {
        let leaving = Leaving::begin(ALL, |options| options);
        leaving.announce_end();
        leaving.connection.publish("a", "kept").unwrap();
        leaving.first.stop();
        leaving.connection.flush_timeout(LONG).unwrap();
        assert_eq!(leaving.connection.connected_url(), Some(leaving.second.url()));
        assert_eq!(leaving.second.received(), 1);
        leaving.connection.close();
        leaving.recorder.check().unwrap();
    });
}

#[test]
fn a_lame_duck_is_left_as_soon_as_another_server_is_known() {
    within(ALL, "later", || {
        let (first, second) = (Server::start().unwrap(), Server::start().unwrap());
        let recorder = Recorder::new();
        let options = quick(&first.url()).reconnect_on_lame_duck();
        let connection = recorded(options, &recorder).connect().unwrap();
        first.lame_duck();
        recorder.wait_for_event(LONG, |kind| matches!(kind, Kind::LameDuck)).unwrap();
        connection.flush().unwrap();
        assert_eq!(connection.connected_url(), Some(first.url()));
        first.announce_servers(&[&format!("127.0.0.1:{}", second.port())]);
        recorder.wait_for_event(LONG, |kind| matches!(kind, Kind::Resubscribed { .. })).unwrap();
        assert_eq!(connection.connected_url(), Some(second.url()));
        connection.close();
        recorder.check().unwrap();
    });
}

#[test]
fn a_close_writes_all_that_was_kept_back_though_the_server_has_confirmed() {
    within(ALL, "close", || {
        // A machine that stands still may take longer than a server is stayed with for replies.
        let stayed = (0..20).any(|_| close_in_time(4_000));
        assert!(stayed, "the server was left before the close each time");
    });
}

/// Closes while a server is stayed with for a reply that does not come; false if it was left before
/// that.
fn close_in_time(messages: usize) -> bool {
    let leaving = Leaving::begin(ALL, |options| options.close_timeout(LONG * 2));
    let connection = &leaving.connection;
    leaving.first.pause_pongs(false);
    // Its own messages come back, and so wake the reader all the time.
    let echo = connection.subscribe("kept").unwrap();
    let silent = connection.subscribe("unanswered").unwrap();
    let _reply = connection.send_request("unanswered", "").unwrap();
    silent.next_timeout(LONG).unwrap();
    leaving.announce_end();
    for _ in 0..messages {
        connection.publish("kept", [b'x'; 1_024]).unwrap();
    }
    connection.close();
    leaving.recorder.check().unwrap();
    let lost = |happening: &Happening| {
        happening.event_kind().is_some_and(|kind| matches!(kind, Kind::Disconnected { .. }))
    };
    if leaving.recorder.count(lost) > 0 {
        return false;
    }
    drop(echo);
    assert_eq!(connection.statistics().discarded(), 0);
    true
}

#[test]
fn a_subscription_that_drains_while_its_server_is_left_gets_what_that_sends() {
    within(ALL, "drained", || {
        let leaving = Leaving::begin(PATIENCE, |options| options);
        leaving.first.pause_pongs(false);
        let other = nats_blocking::connect(leaving.first.url()).unwrap();
        leaving.first.pause_pongs(true);
        let subscription = leaving.connection.subscribe("news").unwrap();
        let received = leaving.first.received();
        // Behind the subscription: no flush is confirmed any more.
        leaving.connection.publish("sign", "").unwrap();
        assert!(poll(LONG, || (leaving.first.received() > received).then_some(())).is_some());
        leaving.announce_end();
        std::thread::scope(|scope| {
            let drain = scope.spawn(|| subscription.drain(LONG));
            let begun = || (subscription.status() != ConsumerStatus::Active).then_some(());
            assert!(poll(LONG, begun).is_some());
            other.publish("news", "late").unwrap();
            assert!(
                poll(LONG, || (leaving.first.received() > received + 1).then_some(())).is_some()
            );
            drain.join().unwrap().unwrap();
        });
        assert_eq!(subscription.next_timeout(LONG).unwrap().payload(), b"late");
        assert!(subscription.next_timeout(LONG).unwrap_err().is_closed());
        leaving.connection.close();
        leaving.recorder.check().unwrap();
    });
}
