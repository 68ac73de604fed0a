//! Where a program's code runs in a connection's life, and how it is brought there.
//!
//! Each place hooks the visit into the options or the connection, and has a way to make the
//! connection call it. Which states can be while a place is visited is written down here, too.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nats_blocking::testing::Server;
use nats_blocking::{
    Connection, ConnectionEvent, ConnectionListener, Consumer, Error, ErrorListener, Gather, Login,
    Message, OptionsBuilder, OutboxPolicy, PendingLimits, ReadOperation, ServerError, Subscription,
};

use super::stage::{Held, Visit};
use crate::support::wait::poll;

const LIMIT: Duration = Duration::from_secs(60);

/// What the connection is while the calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Connected,
    Reconnecting,
    Draining,
    /// `close` has begun on another thread and has not returned.
    Closing,
    /// `close` has returned.
    Closed,
}

pub(crate) const STATES: &[State] =
    &[State::Connected, State::Reconnecting, State::Draining, State::Closing, State::Closed];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Program,
    Handler,
    ConnectionEvent,
    OnEvent,
    OnKind,
    OnError,
    ErrorOccurred,
    ExceptionOccurred,
    SlowConsumerDetected,
    SlowConsumerRecovered,
    MessageDiscarded,
    SocketWriteTimeout,
    SubscriptionClosed,
    DispatcherClosed,
    GatherUntil,
    /// On the reader thread.
    ReadListener,
    /// On the reader thread, while an attempt is made.
    Trace,
    /// On the reader thread, before an attempt.
    ServerChoice,
    /// On the reader thread, after a pass over the servers.
    ReconnectDelay,
    /// On a thread of its own, while an attempt waits for it.
    Credentials,
    /// A listener is dropped, after `Closed`.
    ListenerDropped,
    /// A handler is dropped, after the end of its dispatcher.
    HandlerDropped,
}

pub(crate) const PLACES: &[Place] = &[
    Place::Program,
    Place::Handler,
    Place::ConnectionEvent,
    Place::OnEvent,
    Place::OnKind,
    Place::OnError,
    Place::ErrorOccurred,
    Place::ExceptionOccurred,
    Place::SlowConsumerDetected,
    Place::SlowConsumerRecovered,
    Place::MessageDiscarded,
    Place::SocketWriteTimeout,
    Place::SubscriptionClosed,
    Place::DispatcherClosed,
    Place::GatherUntil,
    Place::ReadListener,
    Place::Trace,
    Place::ServerChoice,
    Place::ReconnectDelay,
    Place::Credentials,
    Place::ListenerDropped,
    Place::HandlerDropped,
];

impl Place {
    /// Whether a connection can be in that state while code runs here.
    pub(crate) fn can_be_in(self, state: State) -> bool {
        match self {
            // They belong to an attempt, which is made while there is no connection to drain.
            _ if self.belongs_to_an_attempt() => {
                !matches!(state, State::Connected | State::Draining)
            }
            Self::ListenerDropped => state == State::Closing,
            _ => true,
        }
    }

    /// Whether this runs on the callback thread, which then cannot be held by another listener.
    pub(crate) fn on_callback_thread(self) -> bool {
        !matches!(
            self,
            Self::Program
                | Self::Handler
                | Self::GatherUntil
                | Self::ReadListener
                | Self::Trace
                | Self::ServerChoice
                | Self::ReconnectDelay
                | Self::Credentials
                | Self::HandlerDropped
        )
    }

    /// Whether it is entered on the way to a new connection: the state follows from that.
    pub(crate) fn belongs_to_an_attempt(self) -> bool {
        matches!(self, Self::Trace | Self::ServerChoice | Self::ReconnectDelay | Self::Credentials)
    }

    /// Hooks the visit into the options.
    pub(crate) fn prepare(self, options: OptionsBuilder, visit: &Arc<Visit>) -> OptionsBuilder {
        let visit = Arc::clone(visit);
        let listener = Hooked { place: self, visit: Arc::clone(&visit) };
        match self {
            Self::ConnectionEvent => options.connection_listener(listener),
            Self::ErrorOccurred
            | Self::ExceptionOccurred
            | Self::SlowConsumerDetected
            | Self::SlowConsumerRecovered => options.error_listener(listener),
            Self::MessageDiscarded => options
                .error_listener(listener)
                .outbox_size(256 * 1024)
                .outbox_policy(OutboxPolicy::DropNewest)
                .send_buffer_size(64 * 1024),
            Self::SocketWriteTimeout => options
                .error_listener(listener)
                .outbox_size(8 * 1024 * 1024)
                .socket_write_timeout(Duration::from_millis(50))
                .send_buffer_size(64 * 1024),
            Self::OnEvent => options.on_event(move |connection, _| visit.here(connection)),
            Self::OnKind => options.on_lame_duck(move |connection, _| visit.here(connection)),
            Self::OnError => options.on_error(move |connection, _| visit.here(connection)),
            Self::ReadListener => options.on_read(move |_: &ReadOperation<'_>| visit.somewhere()),
            Self::Trace => options.trace_connection(move |_| visit.somewhere()),
            Self::ServerChoice => options.select_server(move |_| {
                visit.somewhere();
                None
            }),
            // Asked before the first attempt, too.
            Self::ReconnectDelay => {
                options.wait_before_first_reconnect().reconnect_delay(move |_| {
                    visit.somewhere();
                    Duration::ZERO
                })
            }
            Self::Credentials => options.credentials_source(move |_: &_| {
                visit.somewhere();
                Ok(Login::new())
            }),
            Self::ListenerDropped => {
                let dropped = Dropped(visit);
                options.on_event(move |_, _| _ = &dropped)
            }
            _ => options,
        }
    }

    /// Hooks the visit into the connection; gives what must be kept for that.
    pub(crate) fn hook(self, connection: &Connection, visit: &Arc<Visit>) -> Vec<Held> {
        let visit = Arc::clone(visit);
        match self {
            Self::Handler => {
                let dispatcher =
                    connection.dispatcher(move |connection, _| visit.here(connection)).unwrap();
                dispatcher.subscribe("go").unwrap();
                vec![Box::new(dispatcher)]
            }
            Self::ExceptionOccurred => {
                let dispatcher =
                    connection.dispatcher(|_, _| resume_unwind(Box::new("meant"))).unwrap();
                dispatcher.subscribe("go").unwrap();
                vec![Box::new(dispatcher)]
            }
            Self::GatherUntil => {
                let dispatcher = connection
                    .dispatcher(|connection, message| drop(connection.respond(&message, "")))
                    .unwrap();
                dispatcher.subscribe("go").unwrap();
                vec![Box::new(dispatcher)]
            }
            _ => Vec::new(),
        }
    }

    /// Makes the connection call the code at this place; gives what must be kept for that.
    pub(crate) fn call(
        self,
        server: &Server,
        connection: &Connection,
        visit: &Arc<Visit>,
    ) -> Vec<Held> {
        let mine = Arc::clone(visit);
        match self {
            Self::Program => {
                let connection = connection.clone();
                thread::spawn(move || mine.here(&connection));
            }
            Self::Handler | Self::ExceptionOccurred => connection.publish("go", "").unwrap(),
            Self::ConnectionEvent | Self::OnEvent | Self::OnKind => server.lame_duck(),
            Self::OnError | Self::ErrorOccurred => server.send_error("odd"),
            Self::SlowConsumerDetected | Self::SlowConsumerRecovered => {
                return vec![Box::new(slow(connection, self == Self::SlowConsumerRecovered))];
            }
            Self::MessageDiscarded | Self::SocketWriteTimeout => {
                server.go_silent(true);
                let payload = vec![0; 256 * 1024];
                let called = poll(LIMIT, || {
                    let _ = connection.publish("void", &payload);
                    visit.is_entered().then_some(())
                });
                assert!(called.is_some(), "{self:?} is not called");
                server.go_silent(false);
            }
            Self::SubscriptionClosed => {
                let subscription = connection.subscribe("go").unwrap();
                subscription.on_closed(move |connection, _| mine.here(connection));
                subscription.unsubscribe();
            }
            Self::DispatcherClosed => {
                let dispatcher = connection.dispatcher(|_, _| ()).unwrap();
                let sid = dispatcher.subscribe("go").unwrap();
                dispatcher.on_closed(sid, move |connection, _| mine.here(connection));
                dispatcher.unsubscribe(sid);
                return vec![Box::new(dispatcher)];
            }
            Self::GatherUntil => gather(connection.clone(), mine),
            Self::ReadListener => server.ping_clients(),
            Self::Trace | Self::ServerChoice | Self::ReconnectDelay | Self::Credentials => {
                server.drop_clients();
            }
            Self::ListenerDropped => {
                let connection = connection.clone();
                thread::spawn(move || connection.close());
            }
            Self::HandlerDropped => {
                let dropped = Dropped(mine);
                let dispatcher = connection.dispatcher(move |_, _| _ = &dropped).unwrap();
                thread::spawn(move || drop(dispatcher));
            }
        }
        Vec::new()
    }
}

fn gather(connection: Connection, visit: Arc<Visit>) {
    thread::spawn(move || {
        let gather = Gather::for_at_most(LIMIT).until(move |_| {
            visit.somewhere();
            true
        });
        connection.request_many("go", "", gather).map(Iterator::count)
    });
}

/// A subscription that has been too slow, and has recovered if that is wanted.
fn slow(connection: &Connection, recovered: bool) -> Subscription {
    let subscription = connection.subscribe("slow").unwrap();
    subscription.set_pending_limits(PendingLimits::new(2, 1 << 20));
    for _ in 0..5 {
        connection.publish("slow", "").unwrap();
    }
    let dropped = poll(LIMIT, || (subscription.dropped() > 0).then_some(()));
    assert!(dropped.is_some(), "it is not slow");
    if recovered {
        subscription.try_iter().count();
    }
    subscription
}

/// A listener of both kinds that calls the visit in the method of its place.
struct Hooked {
    place: Place,
    visit: Arc<Visit>,
}

impl Hooked {
    fn called(&self, place: Place, connection: &Connection) {
        if self.place == place {
            self.visit.here(connection);
        }
    }
}

impl ConnectionListener for Hooked {
    fn connection_event(&self, connection: &Connection, _: &ConnectionEvent) {
        self.called(Place::ConnectionEvent, connection);
    }
}

impl ErrorListener for Hooked {
    fn error_occurred(&self, connection: &Connection, _: &ServerError) {
        self.called(Place::ErrorOccurred, connection);
    }

    fn exception_occurred(&self, connection: &Connection, _: &Error) {
        self.called(Place::ExceptionOccurred, connection);
    }

    fn slow_consumer_detected(&self, connection: &Connection, _: &dyn Consumer) {
        self.called(Place::SlowConsumerDetected, connection);
    }

    fn slow_consumer_recovered(&self, connection: &Connection, _: &dyn Consumer) {
        self.called(Place::SlowConsumerRecovered, connection);
    }

    fn message_discarded(&self, connection: &Connection, _: &Message) {
        self.called(Place::MessageDiscarded, connection);
    }

    fn socket_write_timeout(&self, connection: &Connection) {
        self.called(Place::SocketWriteTimeout, connection);
    }
}

/// Calls the visit when it is dropped.
struct Dropped(Arc<Visit>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.somewhere();
    }
}
