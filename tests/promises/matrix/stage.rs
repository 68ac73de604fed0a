//! One connection, brought to a place and into a state, where calls are made.
//!
//! The code at the place parks, the stage changes the state meanwhile, and then the calls are made
//! one after the other, each timed. Afterwards the connection must end as it should.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::{Happening, Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEvent, ConnectionEventKind as Kind, ConnectionListener, ConnectionStatus,
    ErrorKind, ErrorListener, Options, WeakConnection,
};

use super::methods::{Call, Method};
use super::places::{Place, State};
use crate::support::wait::{Gate, poll};
use crate::support::watchdog::report;

/// For what takes milliseconds, while everything runs at once on two cores.
const LIMIT: Duration = Duration::from_secs(60);
/// What every call may take, and by how much more two busy cores may stretch it.
const BOUND: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(5);
/// `flush` and `rtt` wait ten seconds for a server by themselves.
const LONG_BOUND: Duration = Duration::from_secs(10);
const CLOSE: Duration = Duration::from_millis(400);

/// What a program keeps so that a place can be reached.
pub(crate) type Held = Box<dyn Any + Send>;

/// A listener that does nothing.
pub(crate) struct Quiet;

impl ConnectionListener for Quiet {
    fn connection_event(&self, _: &Connection, _: &ConnectionEvent) {}
}

impl ErrorListener for Quiet {}

/// One call that was made.
pub(crate) struct Made {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
}

/// The calls, and their way to a place.
#[derive(Default)]
pub(crate) struct Visit {
    armed: AtomicBool,
    entered: Gate,
    go: Gate,
    done: Gate,
    weak: OnceLock<WeakConnection>,
    calls: Mutex<Vec<(&'static str, Call)>>,
    made: Mutex<Vec<Made>>,
    panicked: Mutex<Vec<&'static str>>,
}

impl Visit {
    pub(crate) fn is_entered(&self) -> bool {
        self.entered.is_open()
    }

    /// The code at the place, which is lent a connection.
    pub(crate) fn here(&self, connection: &Connection) {
        if self.enter() {
            self.make_calls(connection);
            self.done.open();
        }
    }

    /// The code at a place that is lent none: it has kept a weak handle.
    pub(crate) fn somewhere(&self) {
        if self.enter() {
            let upgraded = self.weak.get().and_then(WeakConnection::upgrade);
            if let Some(connection) = upgraded {
                self.make_calls(&connection);
                self.call("drop of a handle", || drop(connection));
            }
            self.done.open();
        }
    }

    fn enter(&self) -> bool {
        if !self.armed.swap(false, Ordering::SeqCst) {
            return false;
        }
        self.entered.open();
        assert!(self.go.wait(LIMIT), "nobody lets the calls begin");
        true
    }

    fn make_calls(&self, connection: &Connection) {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());
        for (name, call) in calls {
            self.call(name, || call(connection));
        }
    }

    fn call(&self, name: &'static str, call: impl FnOnce()) {
        let begun = Instant::now();
        if catch_unwind(AssertUnwindSafe(call)).is_err() {
            self.panicked.lock().unwrap().push(name);
        }
        self.made.lock().unwrap().push(Made { name, took: begun.elapsed() });
    }
}

/// What is called in a visit.
#[derive(Clone)]
pub(crate) enum Calls {
    /// All methods that leave the connection as it is.
    Many(Vec<&'static Method>),
    /// The drop of the last handle.
    LastHandle,
}

/// One visit: a connection of its own and a server of its own.
struct Stage {
    place: Place,
    state: State,
    server: Server,
    recorder: Recorder,
    /// None once the last handle is for the visit to drop.
    connection: Option<Connection>,
    visit: Arc<Visit>,
    held: Vec<Held>,
    /// Holds the callback thread, or a handler, until the end.
    release: Gate,
    blocker: Arc<Blocker>,
}

/// A listener that parks once it is armed.
#[derive(Default)]
struct Blocker {
    armed: AtomicBool,
    inside: Gate,
    release: Gate,
}

impl Blocker {
    fn park(&self) {
        if self.armed.swap(false, Ordering::SeqCst) {
            self.inside.open();
            assert!(self.release.wait(LIMIT), "nobody releases the callback thread");
        }
    }
}

/// Makes the calls there; gives how long each took. Panics if anything is not as it should be.
pub(crate) fn visit(place: Place, state: State, calls: &Calls) -> Vec<Made> {
    let mut stage = Stage::new(place, state);
    stage.prepare(calls);
    stage.arrive();
    if matches!(calls, Calls::LastHandle) {
        let mut handles = std::mem::take(&mut stage.held);
        handles.extend(stage.connection.take().map(|one| Box::new(one) as Held));
        let call: Call = Box::new(move |_| drop(handles));
        stage.visit.calls.lock().unwrap().push(("drop of the last handle", call));
    }
    stage.visit.go.open();
    assert!(stage.visit.done.wait(LIMIT * 4), "{}", stage.stuck());
    stage.end()
}

impl Stage {
    fn new(place: Place, state: State) -> Self {
        let server = Server::start().unwrap();
        let (visit, blocker) = (Arc::new(Visit::default()), Arc::new(Blocker::default()));
        let recorder = Recorder::new();
        let parks = Arc::clone(&blocker);
        let options = Options::builder()
            .server(server.url())
            .connect_timeout(Duration::from_secs(10))
            .close_timeout(CLOSE)
            .reconnect_wait(Duration::from_millis(5))
            .reconnect_jitter(Duration::from_millis(5))
            .connection_listener(recorder.clone())
            .error_listener(recorder.clone())
            .on_event(move |_, _| parks.park());
        let connection = place.prepare(options, &visit).connect().unwrap();
        assert!(visit.weak.set(connection.downgrade()).is_ok());
        let held = place.hook(&connection, &visit);
        let release = Gate::new();
        let connection = Some(connection);
        Self { place, state, server, recorder, connection, visit, held, release, blocker }
    }

    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("the visit has it")
    }

    /// Everything that must be made while the connection is as it should be.
    fn prepare(&mut self, calls: &Calls) {
        let connection = self.connection().clone();
        let silent = connection.subscribe("m.silent").unwrap();
        self.held.push(Box::new(silent));
        if self.state == State::Draining {
            self.hold_a_handler(&connection);
        }
        if let Calls::Many(methods) = calls {
            let made = methods.iter().map(|method| (method.name, (method.prepare)(&connection)));
            *self.visit.calls.lock().unwrap() = made.collect();
        }
        connection.flush_timeout(LIMIT).unwrap();
        // One notice for every iterator over the events.
        self.server.send_error("prepared");
        self.recorder.wait_for(LIMIT, |told| matches!(told, Happening::ServerError(_))).unwrap();
    }

    /// A drain waits for it.
    fn hold_a_handler(&mut self, connection: &Connection) {
        let (inside, release) = (Gate::new(), self.release.clone());
        let entered = inside.clone();
        let dispatcher = connection
            .dispatcher(move |_, _| {
                entered.open();
                release.wait(LIMIT * 4);
            })
            .unwrap();
        dispatcher.subscribe("hold").unwrap();
        connection.publish("hold", "").unwrap();
        assert!(inside.wait(LIMIT));
        self.held.push(Box::new(dispatcher));
    }

    /// Brings the code to its place, and the connection into its state while the code is parked.
    fn arrive(&mut self) {
        let connection = self.connection().clone();
        if self.state == State::Closing && !self.place.on_callback_thread() {
            self.blocker.armed.store(true, Ordering::SeqCst);
            self.server.lame_duck();
            assert!(self.blocker.inside.wait(LIMIT));
        }
        let reader_goes_on = self.place != Place::ReadListener;
        if self.state == State::Reconnecting && !reader_goes_on {
            self.lose(&connection);
            self.visit.armed.store(true, Ordering::SeqCst);
            self.server.refuse_connections(false).unwrap();
        } else {
            self.visit.armed.store(true, Ordering::SeqCst);
            let kept = self.place.call(&self.server, &connection, &self.visit);
            self.held.extend(kept);
        }
        assert!(self.visit.entered.wait(LIMIT), "{:?} is never entered", self.place);
        self.enter_state(&connection, reader_goes_on);
    }

    fn lose(&self, connection: &Connection) {
        self.server.refuse_connections(true).unwrap();
        self.server.drop_clients();
        connection.wait_for_status(ConnectionStatus::Reconnecting, LIMIT).unwrap();
    }

    fn enter_state(&self, connection: &Connection, reader_goes_on: bool) {
        if reader_goes_on && !self.place.belongs_to_an_attempt() && !connection.is_closed() {
            // A write time-out has replaced the connection.
            let _ = connection.wait_for_status(ConnectionStatus::Connected, LIMIT);
        }
        match self.state {
            State::Connected => {}
            State::Reconnecting if self.place.belongs_to_an_attempt() || !reader_goes_on => {}
            State::Reconnecting => self.lose(connection),
            State::Draining => drop(connection.start_drain(LIMIT).unwrap()),
            State::Closing => {
                let closing = connection.clone();
                thread::spawn(move || closing.close());
                let begun = poll(LIMIT, || {
                    let refused = connection.publish("m.a", "").err()?;
                    (refused.kind() == ErrorKind::Closed).then_some(())
                });
                assert!(begun.is_some(), "close does not begin");
            }
            State::Closed => connection.close(),
        }
        let expected = match self.state {
            State::Connected => ConnectionStatus::Connected,
            State::Reconnecting => ConnectionStatus::Reconnecting,
            State::Draining => ConnectionStatus::Draining,
            // Who is parked on the reader thread keeps the status as it was.
            State::Closing | State::Closed => return,
        };
        assert_eq!(connection.status(), expected, "{:?}", self.place);
    }

    fn stuck(&self) -> String {
        let made = self.visit.made.lock().unwrap();
        let last = made.last().map_or("the first call", |made| made.name);
        format!("{:?} while {:?}: stuck after {last}\n{}", self.place, self.state, report())
    }

    /// The connection closes within its time, and `Closed` came once and last.
    fn end(mut self) -> Vec<Made> {
        let name = format!("{:?} while {:?}", self.place, self.state);
        self.release.open();
        self.blocker.release.open();
        self.server.refuse_connections(false).unwrap();
        let panicked = std::mem::take(&mut *self.visit.panicked.lock().unwrap());
        assert!(panicked.is_empty(), "{name}: panicked: {panicked:?}");
        let made = std::mem::take(&mut *self.visit.made.lock().unwrap());
        assert!(!made.is_empty(), "{name}: nothing was called");
        for Made { name: call, took } in &made {
            let waits = matches!(*call, "Connection::flush" | "Connection::rtt");
            let bound = if waits { LONG_BOUND } else { BOUND } + SLACK;
            assert!(*took <= bound, "{name}: {call} took {took:?}, at most {bound:?}");
        }
        self.held.clear();
        if let Some(connection) = self.connection.take() {
            let begun = Instant::now();
            connection.close();
            let took = begun.elapsed();
            assert!(took <= CLOSE + SLACK, "{name}: close took {took:?}");
            let closed = connection.wait_closed(LIMIT);
            assert!(closed.is_ok(), "{name}: Closed is not delivered\n{}", report());
            let expected = u64::from(self.place == Place::ExceptionOccurred);
            assert_eq!(connection.statistics().panics(), expected, "{name}: panics");
        }
        let is_closed = |told: &Happening| matches!(told.event_kind(), Some(Kind::Closed { .. }));
        let told = self.recorder.wait_for(LIMIT, is_closed);
        assert!(told.is_ok(), "{name}: not closed\n{}", report());
        self.recorder.check().unwrap();
        assert_eq!(self.recorder.count(is_closed), 1, "{name}: Closed");
        let records = self.recorder.records();
        assert!(records.last().is_some_and(|last| is_closed(last.happening())), "{name}: last");
        made
    }
}
