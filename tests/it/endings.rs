//! How calls and handles end: time-outs of any length, drains, what a dispatcher remembers.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use nats_blocking::testing::{Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEventKind, ConnectionStatus, Consumer, ConsumerStatus, EndReason, Error,
    ErrorKind, Options, OutboxPolicy, SubscriptionEnd,
};

use crate::support::wait::{Gate, Signal, poll};
use crate::support::watchdog::within;

const LIMIT: Duration = Duration::from_secs(10);

fn connected() -> (Server, Recorder, Connection) {
    let server = Server::start().unwrap();
    let recorder = Recorder::new();
    let connection = Options::builder()
        .server(server.url())
        .outbox_policy(OutboxPolicy::Block(Duration::MAX))
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()
        .unwrap();
    (server, recorder, connection)
}

#[test]
fn no_timeout_is_too_long_for_a_call() {
    within(LIMIT * 3, "endless time-outs", || {
        let (_server, recorder, connection) = connected();
        let events = connection.events();
        let subscription = connection.subscribe("echo").unwrap();
        let dispatcher = connection
            .dispatcher(|connection, message| connection.respond(&message, "yes").unwrap())
            .unwrap();
        dispatcher.subscribe("ask").unwrap();
        connection.publish("echo", "hello").unwrap();
        connection.flush_timeout(Duration::MAX).unwrap();
        assert_eq!(subscription.next_timeout(Duration::MAX).unwrap().payload(), b"hello");
        assert_eq!(connection.request("ask", "", Duration::MAX).unwrap().payload(), b"yes");
        let pending = connection.send_request("ask", "").unwrap();
        assert_eq!(pending.wait(Duration::MAX).unwrap().payload(), b"yes");
        connection.wait_for_status(ConnectionStatus::Connected, Duration::MAX).unwrap();
        subscription.drain(Duration::MAX).unwrap();
        dispatcher.drain(Duration::MAX).unwrap();
        connection.drain(Duration::MAX).unwrap();
        assert!(connection.wait_closed(Duration::MAX).unwrap().is_none());
        assert!(events.next_timeout(Duration::MAX).is_some());
        recorder.check().unwrap();
    });
}

#[test]
fn a_publisher_may_wait_for_ever_for_a_full_outbox() {
    within(LIMIT * 3, "an endless wait for room", || {
        let server = Server::start().unwrap();
        let connection = Options::builder()
            .server(server.url())
            .outbox_size(64 * 1024)
            .outbox_policy(OutboxPolicy::Block(Duration::MAX))
            .connect()
            .unwrap();
        server.go_silent(true);
        let publisher = connection.clone();
        let thread = std::thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || {
                let payload = vec![b'x'; 32 * 1024];
                loop {
                    // Ends when the connection is closed: nobody takes what is written.
                    if let Err(error) = publisher.publish("full", &payload) {
                        return error;
                    }
                }
            })
            .unwrap();
        let full = poll(LIMIT, || {
            let (messages, bytes) = connection.pending_out();
            (messages > 0 && bytes >= 32 * 1024).then_some(())
        });
        assert!(full.is_some(), "{:?}", connection.pending_out());
        connection.close();
        assert_eq!(thread.join().unwrap().kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_drain_ends_after_closed_has_been_delivered() {
    for _ in 0..20 {
        let (_server, recorder, connection) = connected();
        connection.drain(LIMIT).unwrap();
        let events = recorder.events();
        let last = events.last().expect("an event");
        assert!(matches!(last.kind(), ConnectionEventKind::Closed { cause: None }), "{last}");
        recorder.check().unwrap();
    }
}

#[test]
fn a_drained_dispatcher_still_tells_what_it_has_handled() {
    let (_server, _recorder, connection) = connected();
    let dispatcher = connection.dispatcher(|_, _| ()).unwrap();
    dispatcher.subscribe("one").unwrap();
    dispatcher.subscribe_with("two", |_, _| ()).unwrap();
    for subject in ["one", "two", "two"] {
        connection.publish(subject, "").unwrap();
    }
    dispatcher.drain(LIMIT).unwrap();
    connection.drain(LIMIT).unwrap();
    assert_eq!((dispatcher.delivered(), dispatcher.dropped()), (3, 0));
}

#[test]
fn what_waits_when_the_time_to_drain_is_over_is_handled_without_its_dispatcher() {
    let (_server, _recorder, connection) = connected();
    let (gate, started) = (Gate::new(), Gate::new());
    let handled = Arc::new(Signal::new(0));
    let (at_gate, first, counter) = (gate.clone(), started.clone(), Arc::clone(&handled));
    let dispatcher = connection
        .dispatcher(move |_, _| {
            first.open();
            assert!(at_gate.wait(LIMIT));
            counter.change(|count| *count += 1);
        })
        .unwrap();
    dispatcher.subscribe("work").unwrap();
    for _ in 0..5 {
        connection.publish("work", "").unwrap();
    }
    connection.flush().unwrap();
    assert!(started.wait(LIMIT));
    let error = dispatcher.drain(Duration::from_millis(100)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    drop(dispatcher);
    gate.open();
    let all = handled.wait(LIMIT, |count| (*count == 5).then_some(()));
    assert!(all.is_some(), "{} of 5 were handled", handled.read(|count| *count));
}

#[test]
fn a_dispatcher_that_is_dropped_while_another_one_drains_still_handles_what_it_has() {
    within(LIMIT * 3, "two dispatchers", || {
        let (_server, _recorder, connection) = connected();
        let (slow, quick) = (Gate::new(), Gate::new());
        let handled = Arc::new(Signal::new(0));
        let dispatchers: Vec<_> = [&slow, &quick]
            .into_iter()
            .zip(["a", "b"])
            .map(|(gate, subject)| {
                let (gate, counter) = (gate.clone(), Arc::clone(&handled));
                let handler = move |_: &Connection, _| {
                    assert!(gate.wait(LIMIT));
                    counter.change(|count| *count += 1);
                };
                let dispatcher = connection.dispatcher(handler).unwrap();
                dispatcher.subscribe(subject).unwrap();
                dispatcher
            })
            .collect();
        for _ in 0..5 {
            connection.publish("a", "").unwrap();
            connection.publish("b", "").unwrap();
        }
        connection.flush().unwrap();
        let drain = connection.start_drain(LIMIT).unwrap();
        assert!(poll(LIMIT, || (connection.subscription_count() == 0).then_some(())).is_some());
        // Whichever is waited for first, the other one has not been.
        drop(dispatchers);
        slow.open();
        quick.open();
        drain.wait(LIMIT).unwrap();
        assert_eq!(handled.read(|count| *count), 10);
    });
}

#[test]
fn a_drain_of_a_dispatcher_that_a_close_cuts_short_says_so() {
    within(LIMIT * 3, "cut short", || {
        let (_server, _recorder, connection) = connected();
        let gate = Gate::new();
        let (at_gate, running) = (gate.clone(), Gate::new());
        let runs = running.clone();
        let dispatcher = connection
            .dispatcher(move |_, _| {
                runs.open();
                assert!(at_gate.wait(LIMIT));
            })
            .unwrap();
        let sid = dispatcher.subscribe("a").unwrap();
        let view = dispatcher.subscription(sid).unwrap();
        for _ in 0..10 {
            connection.publish("a", "").unwrap();
        }
        connection.flush().unwrap();
        assert!(running.wait(LIMIT));
        std::thread::scope(|scope| {
            let drain = scope.spawn(|| dispatcher.drain(LIMIT));
            let ended = || (view.status() == ConsumerStatus::Ended).then_some(());
            assert!(poll(LIMIT, ended).is_some());
            let close = scope.spawn(|| connection.close());
            let closed = || (connection.status() == ConnectionStatus::Closed).then_some(());
            assert!(poll(LIMIT, closed).is_some());
            gate.open();
            close.join().unwrap();
            let outcome = drain.join().unwrap();
            assert!(outcome.as_ref().is_err_and(Error::is_closed), "{outcome:?}");
        });
        assert!(view.delivered() < 10);
    });
}

#[test]
fn the_handler_of_a_subscription_that_has_ended_is_dropped() {
    within(LIMIT * 3, "dropped handlers", || {
        let (_server, _recorder, connection) = connected();
        let dispatcher = connection.dispatcher(|_, _| ()).unwrap();
        let held = Arc::new(());
        for last in 1..20 {
            let (own, gate) = (Arc::clone(&held), Gate::new());
            let at_gate = gate.clone();
            let sid = dispatcher
                .subscribe_with("a", move |_, _| {
                    let _own = &own;
                    assert!(at_gate.wait(LIMIT));
                })
                .unwrap();
            dispatcher.unsubscribe_after(sid, last).unwrap();
            let view = dispatcher.subscription(sid).unwrap();
            for _ in 0..last {
                connection.publish("a", "").unwrap();
            }
            // All have arrived, and so the end, before the handler returns.
            assert!(
                poll(LIMIT, || (view.status() == ConsumerStatus::Ended).then_some(())).is_some()
            );
            gate.open();
            assert!(poll(LIMIT, || (Arc::strong_count(&held) == 1).then_some(())).is_some());
            assert_eq!(view.delivered(), last);
        }
        assert_eq!(dispatcher.delivered(), (1..20).sum::<u64>());

        // One that has handled so many already, and one whose handler returns at any moment.
        for late in [true, false].into_iter().cycle().take(200) {
            let own = Arc::clone(&held);
            let sid = dispatcher.subscribe_with("b", move |_, _| drop(Arc::clone(&own))).unwrap();
            if !late {
                dispatcher.unsubscribe_after(sid, 1).unwrap();
            }
            connection.publish("b", "").unwrap();
            connection.flush().unwrap();
            if late {
                connection.barrier(LIMIT).unwrap();
                dispatcher.unsubscribe_after(sid, 1).unwrap();
            }
            assert!(poll(LIMIT, || (Arc::strong_count(&held) == 1).then_some(())).is_some());
            let (sender, told) = mpsc::channel();
            assert!(dispatcher.on_closed(sid, move |_, end| {
                let _ = sender.send(end.consumer().delivered());
            }));
            assert_eq!(told.recv_timeout(LIMIT), Ok(1), "it can still be looked at");
            dispatcher.unsubscribe(sid);
        }
    });
}

#[test]
fn the_end_of_a_connection_is_told_to_each_handled_subscription_with_its_cause() {
    within(LIMIT * 6, "told ends", || {
        for round in 0..20 {
            let (server, _recorder, connection) = connected();
            let (sender, ends) = mpsc::channel();
            let dispatchers: Vec<_> = (0..20)
                .map(|_| {
                    let dispatcher = connection.dispatcher(|_, _| ()).unwrap();
                    let sid = dispatcher.subscribe("a").unwrap();
                    let sender = sender.clone();
                    let tell = move |end: &SubscriptionEnd| sender.send(end.reason().clone());
                    assert!(dispatcher.on_closed(sid, move |_, end| tell(end).unwrap()));
                    dispatcher
                })
                .collect();
            connection.flush().unwrap();
            let lost = round % 2 == 0;
            if lost {
                // While it drains, a loss is the end.
                server.pause_pongs(true);
                let _drain = connection.start_drain(LIMIT).unwrap();
                server.stop();
            } else {
                connection.close();
            }
            for _ in &dispatchers {
                let reason = ends.recv_timeout(LIMIT).unwrap();
                let fine = match &reason {
                    EndReason::Closed(cause) => cause.is_some() == lost,
                    // Nothing waited, so it may have come to that.
                    EndReason::Drained => lost,
                    _ => false,
                };
                assert!(fine, "{reason:?}");
            }
        }
    });
}

#[test]
fn what_is_requested_after_a_forced_reconnect_is_answered_by_the_next_server() {
    within(LIMIT * 6, "forced", || {
        let server = Server::start().unwrap();
        let options = Options::builder().server(server.url()).fail_requests_on_disconnect();
        let quick = options.reconnect_wait(Duration::ZERO).reconnect_jitter(Duration::ZERO);
        let connection = quick.connect().unwrap();
        let helper = nats_blocking::connect(server.url()).unwrap();
        let answers = helper.dispatcher(|own, ask| own.respond(&ask, "here").unwrap()).unwrap();
        answers.subscribe("ask").unwrap();
        helper.flush().unwrap();
        for _ in 0..30 {
            connection.force_reconnect().unwrap();
            assert_eq!(connection.request("ask", "", LIMIT).unwrap().payload(), b"here");
        }
    });
}

#[test]
fn a_consumer_that_cannot_drain_says_why() {
    within(LIMIT * 3, "causes", || {
        let server = Server::start().unwrap();
        let options = Options::builder().server(server.url()).max_reconnects(0);
        let connection = options.connect().unwrap();
        let subscription = connection.subscribe("a").unwrap();
        let dispatcher = connection.dispatcher(|_, _| ()).unwrap();
        server.stop();
        assert!(connection.wait_closed(LIMIT).unwrap().is_some());
        for error in [subscription.drain(LIMIT).unwrap_err(), dispatcher.drain(LIMIT).unwrap_err()]
        {
            assert!(error.is_closed() && error.to_string().contains("server"), "{error}");
        }
    });
}

#[test]
fn what_is_subscribed_beside_the_drain_of_its_dispatcher_ends_with_it() {
    within(LIMIT * 3, "subscribed beside a drain", || {
        let (server, _recorder, connection) = connected();
        let dispatcher = Arc::new(connection.dispatcher(|_, _| ()).unwrap());
        let sid = dispatcher.subscribe("first").unwrap();
        let view = dispatcher.subscription(sid).unwrap();
        connection.flush().unwrap();
        server.go_silent(true);
        let draining = Arc::clone(&dispatcher);
        let drain = std::thread::Builder::new().spawn(move || draining.drain(LIMIT)).unwrap();
        let begun = || (view.status() == ConsumerStatus::Draining).then_some(());
        assert!(poll(LIMIT, begun).is_some());
        let _ = dispatcher.subscribe("second");
        server.go_silent(false);
        drain.join().unwrap().unwrap();
        drop(dispatcher);
        assert!(poll(LIMIT, || (connection.subscription_count() == 0).then_some(())).is_some());
        connection.close();
    });
}
