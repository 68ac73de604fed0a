//! What a listener may do: block, panic, and call anything on its connection, without holding it
//! up.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use nats_blocking::testing::{Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEvent, ConnectionEventKind as Kind, ConnectionListener, ConnectionStatus,
    ErrorKind, ErrorNotice, ListenerId, Notice, Options, ReadOperation, Subscription,
};

use crate::embedded::{LONG, Scene, event, name, names, quick, recorded};
use crate::support::wait::{Gate, Signal};
use crate::support::watchdog::within;

/// A limit for what must not hang, well above the deadlines inside it.
const MUST_END: Duration = Duration::from_secs(120);

/// Stands in the way of every later call until its gate opens.
struct Blocker {
    inside: Gate,
    gate: Gate,
}

impl ConnectionListener for Blocker {
    fn connection_event(&self, _: &Connection, _: &ConnectionEvent) {
        self.inside.open();
        assert!(self.gate.wait(MUST_END));
    }
}

#[test]
fn a_listener_that_blocks_holds_up_neither_reading_nor_writing_nor_reconnecting() {
    let (inside, gate) = (Gate::new(), Gate::new());
    let blocker = Blocker { inside: inside.clone(), gate: gate.clone() };
    let scene = Scene::with(|options| options.connection_listener(blocker));
    assert!(inside.wait(LONG));
    let Scene { server, connection, recorder } = &scene;
    let subscription = connection.subscribe("a").unwrap();
    let watch = connection.events();
    let errors: u64 = 4000;
    for _ in 0..errors {
        server.send_error("odd");
    }
    connection.flush().unwrap();
    let losses = 30;
    for number in 0..losses {
        server.drop_clients();
        let back = |notice: Notice| {
            matches!(&notice, Notice::Event(event)
            if matches!(event.kind(), Kind::Resubscribed { .. }))
        };
        assert!(std::iter::from_fn(|| watch.next_timeout(LONG)).any(back));
        connection.publish("a", number.to_string()).unwrap();
        connection.flush().unwrap();
        let message = subscription.next_timeout(LONG).unwrap();
        assert_eq!(message.payload(), number.to_string().as_bytes());
    }
    // Attempts that fail come in pairs, of which more are left out than any queue holds.
    server.refuse_connections(true).unwrap();
    server.drop_clients();
    let failed = |notice: &Notice| {
        matches!(notice, Notice::Event(event)
        if matches!(event.kind(), Kind::ReconnectFailed { .. }))
    };
    let pairs = std::iter::from_fn(|| watch.next_timeout(LONG)).filter(failed).take(200).count();
    assert_eq!(pairs, 200);
    server.refuse_connections(false).unwrap();
    connection.wait_for_status(ConnectionStatus::Connected, LONG).unwrap();
    assert_eq!(names(recorder), Vec::<&str>::new(), "nothing overtakes the listener");
    gate.open();
    event(recorder, "Resubscribed", losses + 1);
    let names = scene.end();
    assert_eq!(names.iter().filter(|name| **name == "Disconnected").count(), losses + 1);
    let statistics = connection.statistics();
    let said: u64 = recorder.events().iter().map(ConnectionEvent::skipped).sum();
    assert_eq!(said, statistics.skipped(), "{statistics:?}");
    assert!(said > errors - 1024, "{statistics:?}");
}

#[test]
fn a_listener_that_panics_when_it_is_dropped_ends_nothing() {
    struct Brittle(Mutex<Option<ListenerId>>);
    impl ConnectionListener for Brittle {
        fn connection_event(&self, connection: &Connection, _: &ConnectionEvent) {
            if let Some(id) = self.0.lock().unwrap().take() {
                assert!(connection.remove_listener(id));
            }
        }
    }
    impl Drop for Brittle {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let scene = Scene::new();
    scene.event("Connected", 1);
    // One that removes itself, and one that is there until the end.
    let brittle = Arc::new(Brittle(Mutex::new(None)));
    let id = scene.connection.add_connection_listener(brittle.clone());
    *brittle.0.lock().unwrap() = Some(id);
    drop(brittle);
    scene.connection.add_connection_listener(Brittle(Mutex::new(None)));
    scene.server.lame_duck();
    scene.event("LameDuck", 1);
    scene.server.drop_clients();
    scene.event("Resubscribed", 1);
    assert_eq!(scene.end().last(), Some(&"Closed"));
    let panics = scene.connection.statistics().panics();
    assert!(panics >= 1, "{panics}");
}

#[test]
fn a_removed_listener_is_not_called_for_what_had_happened_before() {
    let (inside, gate) = (Gate::new(), Gate::new());
    let scene = Scene::new();
    scene.event("Connected", 1);
    let blocker = Blocker { inside: inside.clone(), gate: gate.clone() };
    scene.connection.add_connection_listener(blocker);
    let (gone, stays) = (Recorder::new(), Recorder::new());
    let id = scene.connection.add_connection_listener(gone.clone());
    scene.connection.add_connection_listener(stays.clone());
    scene.server.lame_duck();
    assert!(inside.wait(LONG));
    // Its turn in the very same notice would come next.
    assert!(scene.connection.remove_listener(id));
    gate.open();
    event(&stays, "LameDuck", 1);
    scene.end();
    assert_eq!(names(&gone), Vec::<&str>::new());
    assert_eq!(names(&stays), ["LameDuck", "Closed"]);
}

#[test]
fn a_listener_may_remove_itself_and_add_others() {
    struct Once {
        own: Mutex<Option<ListenerId>>,
        calls: Recorder,
        next: Recorder,
    }
    impl ConnectionListener for Once {
        fn connection_event(&self, connection: &Connection, event: &ConnectionEvent) {
            self.calls.connection_event(connection, event);
            if let Some(id) = self.own.lock().unwrap().take() {
                assert!(connection.remove_listener(id));
                connection.add_connection_listener(self.next.clone());
            }
        }
    }
    let scene = Scene::new();
    scene.event("Connected", 1);
    let (calls, next) = (Recorder::new(), Recorder::new());
    let once = Arc::new(Once { own: Mutex::new(None), calls: calls.clone(), next: next.clone() });
    let id = scene.connection.add_connection_listener(once.clone());
    *once.own.lock().unwrap() = Some(id);
    // It is called after the other, so that what the other did is done.
    let after = Recorder::new();
    scene.connection.add_connection_listener(after.clone());
    scene.server.lame_duck();
    event(&after, "LameDuck", 1);
    scene.server.drop_clients();
    scene.event("Resubscribed", 1);
    scene.end();
    assert_eq!(names(&calls), ["LameDuck"]);
    assert_eq!(names(&next).last(), Some(&"Closed"));
    assert_eq!(names(&next).len(), 5, "all but what it was added in: {:?}", names(&next));
}

#[test]
fn wait_closed_returns_once_closed_has_been_delivered() {
    let (inside, gate) = (Gate::new(), Gate::new());
    let (entered, opened) = (inside.clone(), gate.clone());
    let scene = Scene::with(|options| {
        options.no_reconnect().close_timeout(Duration::from_millis(50)).on_closed(
            move |connection, _| {
                entered.open();
                assert!(opened.wait(MUST_END));
                // Inside a listener it does not wait for its own delivery.
                assert!(connection.wait_closed(LONG).unwrap().is_some());
            },
        )
    });
    scene.server.drop_clients();
    assert!(inside.wait(LONG));
    assert_eq!(scene.connection.status(), ConnectionStatus::Closed);
    let early = scene.connection.wait_closed(Duration::from_millis(20)).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Timeout, "Closed is still being delivered");
    gate.open();
    let cause = scene.connection.wait_closed(LONG).unwrap();
    assert_eq!(cause.unwrap().kind(), ErrorKind::Io);
    scene.event("Closed", 1);
}

#[test]
fn a_listener_may_call_everything_on_its_connection() {
    type Calls = Arc<Signal<Vec<&'static str>>>;
    let calls = Calls::default();
    let writes = calls.clone();
    let kept: Arc<Mutex<Option<Subscription>>> = Arc::default();
    let keeps = kept.clone();
    let scene = Scene::with(|options| {
        options.on_lame_duck(move |connection, _| {
            let did = |what| writes.change(|calls| calls.push(what));
            let subscription = connection.subscribe("own.*").unwrap();
            connection.publish("own.a", "1").unwrap();
            connection.flush().unwrap();
            did("flush");
            assert_eq!(subscription.next_timeout(LONG).unwrap().subject(), "own.a");
            subscription.unsubscribe();
            assert_eq!(connection.request("echo", "2", LONG).unwrap().payload(), b"2");
            did("request");
            connection.rtt().unwrap();
            let refused = connection.request("nobody", "", LONG).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::NoResponders);
            *keeps.lock().unwrap() = Some(connection.subscribe("kept").unwrap());
            let dispatcher = connection.dispatcher(|_, _| ()).unwrap();
            dispatcher.subscribe("handled").unwrap();
            dispatcher.drain(LONG).unwrap();
            drop(dispatcher);
            did("dispatcher");
            let id = connection.add_connection_listener(|_: &Connection, _: &ConnectionEvent| ());
            assert!(connection.remove_listener(id));
            connection.wait_for_status(ConnectionStatus::Connected, LONG).unwrap();
            connection.force_reconnect().unwrap();
            did("force_reconnect");
            connection
                .flush_timeout(LONG)
                .or_else(|error| match error.kind() {
                    ErrorKind::Disconnected => connection.flush_timeout(LONG),
                    _ => Err(error),
                })
                .unwrap();
            did("flush again");
        })
    });
    let Scene { server, connection, .. } = &scene;
    let responder = connection
        .dispatcher(|connection, message| connection.respond(&message, message.payload()).unwrap())
        .unwrap();
    responder.subscribe("echo").unwrap();
    connection.flush().unwrap();
    server.lame_duck();
    let done = calls.wait(MUST_END, |calls| calls.contains(&"flush again").then_some(()));
    assert!(done.is_some(), "{:?} {}", calls.read(Vec::clone), scene.recorder.timeline("all"));
    drop(responder);
    drop(kept.lock().unwrap().take());
    scene.end();
}

#[test]
fn close_and_drain_may_be_called_in_any_listener() {
    type Call = fn(&Connection);
    let close: Call = |connection| connection.close();
    let drain: Call = |connection| drop(connection.drain(LONG));
    let both: Call = |connection| {
        drop(connection.start_drain(LONG));
        connection.close();
        connection.close();
    };
    let places = ["Connected", "LameDuck", "Disconnected", "Reconnecting", "Resubscribed"];
    for (call, place) in [close, drain, both].iter().flat_map(|call| places.map(|p| (*call, p))) {
        within(MUST_END, place, move || {
            let server = Server::start().unwrap();
            let recorder = Recorder::new();
            let options = recorded(quick(&server.url()), &recorder);
            let options = options.on_event(move |connection, event| {
                if name(event.kind()) == place {
                    call(connection);
                }
            });
            // A close at `Connected` may come before `connect` returns.
            if let Ok(connection) = options.connect() {
                server.lame_duck();
                if place != "Connected" && place != "LameDuck" {
                    server.drop_clients();
                }
                event(&recorder, place, 1);
                // A drain is refused while the connection is down; then the program ends it.
                if !matches!(place, "Connected" | "LameDuck") {
                    connection.close();
                }
                connection.wait_closed(LONG).unwrap();
            }
            event(&recorder, "Closed", 1);
            recorder.check().unwrap();
        });
    }
}

#[test]
fn an_error_listener_may_close_the_connection() {
    let scene = Scene::with(|options| {
        options.on_error(|connection, notice| {
            if matches!(notice, ErrorNotice::ServerError(_)) {
                connection.flush().unwrap();
                connection.close();
            }
        })
    });
    scene.server.send_error("odd");
    scene.event("Closed", 1);
    assert!(scene.connection.wait_closed(LONG).unwrap().is_none());
    assert_eq!(scene.end(), ["Connected", "Closed"]);
}

/// Holds a handle of its connection until it is told something.
struct Holder {
    held: Mutex<Option<Connection>>,
    recorder: Recorder,
}

impl ConnectionListener for Holder {
    fn connection_event(&self, connection: &Connection, event: &ConnectionEvent) {
        self.recorder.connection_event(connection, event);
        match event.kind() {
            Kind::Connected => *self.held.lock().unwrap() = Some(connection.clone()),
            Kind::LameDuck => drop(self.held.lock().unwrap().take()),
            _ => {}
        }
    }
}

#[test]
fn a_listener_that_holds_the_last_handle_keeps_the_connection_and_ends_it() {
    let server = Server::start().unwrap();
    let recorder = Recorder::new();
    let holder = Arc::new(Holder { held: Mutex::new(None), recorder: recorder.clone() });
    let gone: Weak<Holder> = Arc::downgrade(&holder);
    let connection = quick(&server.url()).connection_listener(holder).connect().unwrap();
    event(&recorder, "Connected", 1);
    // The clone is made in the call that was recorded: wait for the one after it.
    server.drop_clients();
    event(&recorder, "Resubscribed", 1);
    let weak = connection.downgrade();
    drop(connection);
    assert_eq!(weak.upgrade().unwrap().status(), ConnectionStatus::Connected);
    server.lame_duck();
    event(&recorder, "Closed", 1);
    recorder.check().unwrap();
    assert!(weak.upgrade().is_none());
    assert!(server.wait_for_clients(0, LONG));
    let dropped = crate::support::wait::poll(LONG, || gone.upgrade().is_none().then_some(()));
    assert!(dropped.is_some(), "listeners are dropped after Closed");
}

#[test]
fn a_read_listener_may_close_the_connection_or_drop_its_last_handle() {
    for way in ["close", "drop"] {
        within(MUST_END, way, move || {
            let last: Arc<Mutex<Option<Connection>>> = Arc::default();
            let handle = Arc::clone(&last);
            let on_ping = move |operation: &ReadOperation<'_>| {
                if operation.name() != "PING" {
                    return;
                }
                let Some(connection) = handle.lock().unwrap().take() else { return };
                if way == "close" {
                    connection.close();
                }
            };
            let (server, recorder) = (Server::start().unwrap(), Recorder::new());
            let connection = Options::builder()
                .server(server.url())
                .connection_listener(recorder.clone())
                .on_read(on_ping)
                .connect()
                .unwrap();
            connection.publish("a", "before").unwrap();
            connection.flush().unwrap();
            let weak = connection.downgrade();
            *last.lock().unwrap() = Some(connection);
            server.ping_clients();
            event(&recorder, "Closed", 1);
            assert!(weak.upgrade().is_none());
            recorder.check().unwrap();
            assert!(server.wait_for_clients(0, LONG));
        });
    }
}
