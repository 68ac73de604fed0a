//! The ways in which a program listens: closures, traits, iterators, waiting.
//!
//! What is told, and in which order, is in `events`; what a listener may do is in `callbacks`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_blocking::testing::{Happening, Recorder};
use nats_blocking::{
    Connection, ConnectionEvent, ConnectionEventKind as Kind, ConnectionListener, ConnectionStatus,
    Consumer, ErrorKind, ErrorListener, ErrorNotice, Message, Notice, OptionsBuilder, OutboxPolicy,
    PendingLimits, ServerError,
};

use crate::embedded::{LONG, Scene, event, name, names};
use crate::support::wait::Signal;
use crate::support::watchdog::within;

/// A limit for what must not hang, well above the deadlines inside it.
const MUST_END: Duration = Duration::from_secs(120);

type Heard = Arc<Mutex<Vec<String>>>;

macro_rules! closures {
    ($options:expr, $heard:expr, $($method:ident: $name:expr,)+) => {{
        let mut options: OptionsBuilder = $options;
        $(
            let heard: Heard = $heard.clone();
            options = options.$method(move |_, event| {
                assert_eq!(name(event.kind()), $name);
                heard.lock().unwrap().push($name.to_owned());
            });
        )+
        options
    }};
}

/// Lets every event of the table happen on a connection whose options suit it.
fn every_event(scene: &Scene) {
    let Scene { server, .. } = scene;
    let own = format!("127.0.0.1:{}", server.port());
    // The second announcement takes back what nobody could connect to.
    server.announce_servers(&[&own, "127.0.0.1:1"]);
    server.announce_servers(&[&own]);
    scene.event("DiscoveredServers", 2);
    server.lame_duck();
    scene.event("LameDuck", 1);
    server.refuse_connections(true).unwrap();
    server.drop_clients();
    scene.event("ReconnectFailed", 1);
    server.refuse_connections(false).unwrap();
    scene.event("Resubscribed", 1);
    scene.connection.force_reconnect().unwrap();
    scene.event("Resubscribed", 2);
    server.pause_pongs(true);
    scene.event("StaleConnection", 1);
    server.pause_pongs(false);
    scene.event("Resubscribed", 3);
    scene.connection.drain(LONG).unwrap();
    scene.event("Closed", 1);
}

fn suited(options: OptionsBuilder) -> OptionsBuilder {
    options
        .ping_interval(Duration::from_millis(250))
        .max_pings_out(2)
        .connect_timeout(Duration::from_secs(1))
}

#[test]
fn every_closure_hears_its_own_kind_and_on_event_hears_all() {
    let (single, all) = (Heard::default(), Heard::default());
    let errors: Arc<Mutex<Vec<ErrorNotice>>> = Arc::default();
    let scene = Scene::with(|options| {
        let options = closures!(suited(options), single,
            on_connected: "Connected",
            on_disconnected: "Disconnected",
            on_reconnecting: "Reconnecting",
            on_reconnect_failed: "ReconnectFailed",
            on_reconnected: "Reconnected",
            on_resubscribed: "Resubscribed",
            on_discovered_servers: "DiscoveredServers",
            on_lame_duck: "LameDuck",
            on_stale_connection: "StaleConnection",
            on_forced_reconnect: "ForcedReconnect",
            on_draining: "Draining",
            on_closed: "Closed",
        );
        let (all, errors) = (all.clone(), errors.clone());
        options
            .on_event(move |_, event| all.lock().unwrap().push(name(event.kind()).to_owned()))
            .on_error(move |_, notice| errors.lock().unwrap().push(notice.clone()))
    });
    every_event(&scene);
    let names = scene.end();
    assert_eq!(*all.lock().unwrap(), names);
    assert_eq!(*single.lock().unwrap(), names);
    let kinds: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(kinds.len(), 12, "every event of the table has happened: {names:?}");
    let heard = errors.lock().unwrap().len();
    assert_eq!(heard, scene.recorder.records().len() - names.len());
    assert!(heard >= 3);
}

#[test]
fn the_texts_of_events_begin_as_those_of_java_and_go_on_with_the_data() {
    let scene = Scene::with(suited);
    every_event(&scene);
    let url = scene.server.url();
    let mut seen = std::collections::HashSet::new();
    for event in scene.recorder.events() {
        let (java, data) = match event.kind() {
            Kind::Connected => ("nats: connection opened", String::new()),
            Kind::Disconnected { cause } => ("nats: connection disconnected", format!(": {cause}")),
            Kind::Reconnecting { attempt } => {
                ("nats: reconnecting", format!(", attempt {attempt}"))
            }
            Kind::ReconnectFailed { attempt, cause } => {
                ("nats: reconnect failed", format!(", attempt {attempt}: {cause}"))
            }
            Kind::Reconnected { attempts, downtime } => (
                "nats: connection reconnected",
                format!(", attempt {attempts}, down for {downtime:.1?}"),
            ),
            Kind::Resubscribed { .. } => {
                ("nats: subscriptions re-established", ", subscriptions 0".to_owned())
            }
            Kind::DiscoveredServers { added, .. } => (
                "nats: discovered servers",
                match added.is_empty() {
                    false => ", added [nats://127.0.0.1:1], removed []".to_owned(),
                    true => ", added [], removed [nats://127.0.0.1:1]".to_owned(),
                },
            ),
            Kind::LameDuck => ("nats: lame duck mode", String::new()),
            Kind::StaleConnection { .. } => {
                ("nats: stale connection", ", pings outstanding 2".to_owned())
            }
            Kind::ForcedReconnect => ("nats: reconnect forced", String::new()),
            Kind::Draining => ("nats: draining", String::new()),
            Kind::Closed { .. } => ("nats: connection closed", String::new()),
            other => panic!("{other:?}"),
        };
        seen.insert(java);
        assert_eq!(event.to_string(), format!("{java} {url}{data}"));
        assert_eq!(Notice::Event(event.clone()).to_string(), event.to_string());
    }
    assert_eq!(seen.len(), 12, "{seen:?}");
}

/// Writes down which methods were called, and lets the others log.
#[derive(Default)]
struct Methods(Signal<Vec<&'static str>>);

impl Methods {
    fn called(&self, method: &'static str) {
        self.0.change(|calls| calls.push(method));
    }

    fn wait_for(&self, method: &'static str) {
        let wait = |calls: &mut Vec<&'static str>| calls.contains(&method).then_some(());
        let called = self.0.wait(LONG, wait);
        assert!(called.is_some(), "{method} was not called: {:?}", self.0.read(Vec::clone));
    }
}

impl ConnectionListener for Methods {
    fn connection_event(&self, _: &Connection, _: &ConnectionEvent) {
        self.called("connection_event");
    }
}

impl ErrorListener for Methods {
    fn error_occurred(&self, _: &Connection, error: &ServerError) {
        assert_eq!(error.text(), "odd");
        self.called("error_occurred");
    }

    fn exception_occurred(&self, _: &Connection, _: &nats_blocking::Error) {
        self.called("exception_occurred");
    }

    fn slow_consumer_detected(&self, _: &Connection, consumer: &dyn Consumer) {
        assert_eq!((consumer.subject().as_str(), consumer.dropped()), ("fast", 1));
        self.called("slow_consumer_detected");
    }

    fn slow_consumer_recovered(&self, _: &Connection, consumer: &dyn Consumer) {
        assert_eq!(consumer.subject(), "fast");
        self.called("slow_consumer_recovered");
    }

    fn message_discarded(&self, _: &Connection, message: &Message) {
        assert_eq!(message.subject(), "too.much");
        self.called("message_discarded");
    }

    fn socket_write_timeout(&self, _: &Connection) {
        self.called("socket_write_timeout");
    }
}

/// An error listener with nothing but defaults.
struct Defaults;

impl ErrorListener for Defaults {}

#[test]
fn every_method_of_both_traits_is_called() {
    let methods = Arc::new(Methods::default());
    let set = |options: OptionsBuilder| {
        options
            .connection_listener(methods.clone())
            .error_listener(methods.clone())
            .error_listener(Defaults)
            .send_buffer_size(16 * 1024)
    };
    let scene = Scene::with(|options| {
        set(options).outbox_size(64 * 1024).outbox_policy(OutboxPolicy::DropNewest)
    });
    let Scene { server, connection, .. } = &scene;
    methods.wait_for("connection_event");
    let subscription = connection.subscribe("fast").unwrap();
    subscription.set_pending_limits(PendingLimits::new(4, 0));
    for _ in 0..5 {
        connection.publish("fast", "x").unwrap();
    }
    connection.flush().unwrap();
    methods.wait_for("slow_consumer_detected");
    while subscription.try_next().unwrap().is_some() {}
    methods.wait_for("slow_consumer_recovered");
    server.send_error("odd");
    methods.wait_for("error_occurred");
    // A server that reads nothing: the kernel's buffers fill up, then ours.
    server.go_silent(true);
    let block = vec![0; 32 * 1024];
    while scene.recorder.count(|h| matches!(h, Happening::MessageDiscarded(_))) == 0 {
        connection.publish("too.much", &block).unwrap();
    }
    methods.wait_for("message_discarded");
    scene.end();

    let late = Scene::with(|options| {
        set(options).outbox_size(64 << 20).socket_write_timeout(Duration::from_millis(300))
    });
    late.server.go_silent(true);
    for _ in 0..32 {
        late.connection.publish("too.much", vec![0; 1 << 20]).unwrap();
    }
    methods.wait_for("socket_write_timeout");
    let Kind::Disconnected { cause } = late.event("Disconnected", 1) else { panic!() };
    assert_eq!(cause.kind(), ErrorKind::WriteTimeout);
    methods.wait_for("exception_occurred");
    late.end();
}

#[test]
fn each_events_iterator_gets_everything_from_then_on_and_ends_after_closed() {
    let scene = Scene::new();
    scene.event("Connected", 1);
    let (first, second) = (scene.connection.events(), scene.connection.events());
    drop(scene.connection.events());
    scene.server.send_error("odd");
    scene.server.drop_clients();
    scene.event("Resubscribed", 1);
    let mut late = scene.connection.events();
    assert!(!late.is_finished());
    assert!(late.next_timeout(Duration::from_millis(1)).is_none());
    scene.connection.close();

    let texts = |events: &mut dyn Iterator<Item = Notice>| -> Vec<String> {
        events.map(|notice| notice.to_string()).collect()
    };
    let (mut first, mut second) = (first, second);
    let one = within(MUST_END, "events", move || {
        let all = texts(&mut first);
        assert!(first.next().is_none() && first.is_finished());
        all
    });
    assert_eq!(one, texts(&mut second));
    let heard: Vec<String> =
        scene.recorder.records().iter().skip(1).map(|r| r.happening().to_string()).collect();
    assert_eq!(one, heard);
    assert_eq!(texts(&mut late), ["nats: connection closed ".to_owned() + &scene.server.url()]);
    assert!(late.is_finished());
    assert!(scene.connection.events().next().is_none(), "nothing happens after Closed");
    scene.end();
}

#[test]
fn a_slow_iterator_is_bounded_and_says_what_it_missed() {
    let scene = Scene::new();
    scene.event("Connected", 1);
    let events = scene.connection.events();
    let errors: u64 = 3000;
    for _ in 0..errors {
        // After this one the server stays, so that it is not the cause of the losses that follow.
        scene.server.send_error("Invalid Subject");
    }
    scene.connection.flush().unwrap();
    for loss in 1..=20 {
        scene.server.drop_clients();
        scene.event("Resubscribed", loss);
    }
    scene.end();
    let (mut got, mut skipped, mut order) = (0, 0, Vec::new());
    for notice in events {
        match notice {
            Notice::Event(event) => {
                skipped += event.skipped();
                order.push(name(event.kind()));
            }
            Notice::Error { skipped: more, .. } => {
                got += 1;
                skipped += more;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, 1024);
    // Every loss is an exception too.
    assert_eq!(got + skipped, errors + 20);
    assert_eq!(order, names(&scene.recorder)[1..]);
}

#[test]
fn listeners_come_and_go_while_the_connection_lives() {
    let scene = Scene::new();
    scene.event("Connected", 1);
    let added = Recorder::new();
    let id = scene.connection.add_connection_listener(added.clone());
    let errors = scene.connection.add_error_listener(added.clone());
    assert_ne!(id, errors);
    let heard = Heard::default();
    let writes = heard.clone();
    let closure =
        scene.connection.add_connection_listener(move |_: &Connection, event: &ConnectionEvent| {
            writes.lock().unwrap().push(name(event.kind()).to_owned());
        });
    let (events, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = |counter: &Arc<AtomicUsize>| {
        let (counter, own) = (Arc::clone(counter), scene.connection.downgrade());
        move |connection: &Connection| {
            let same = own.upgrade().is_some_and(|own| own == *connection);
            counter.fetch_add(usize::from(same), Ordering::SeqCst);
        }
    };
    let (event_counts, error_counts) = (count(&events), count(&told));
    let closures = [
        scene.connection.on_event(move |connection, _| event_counts(connection)),
        scene.connection.on_error(move |connection, _| error_counts(connection)),
    ];
    scene.server.drop_clients();
    scene.event("Resubscribed", 1);
    event(&added, "Resubscribed", 1);
    scene.connection.barrier(LONG).unwrap();
    assert_eq!((events.load(Ordering::SeqCst), told.load(Ordering::SeqCst)), (4, 1));
    assert!(closures.into_iter().all(|id| scene.connection.remove_listener(id)));
    assert_eq!(
        names(&added),
        ["Disconnected", "Reconnecting", "Reconnected", "Resubscribed"],
        "only what happened after it was added"
    );
    assert_eq!(added.records().len(), 5, "the loss is an exception too");
    for id in [id, errors] {
        assert!(scene.connection.remove_listener(id));
        assert!(!scene.connection.remove_listener(id), "it is gone");
    }
    scene.server.drop_clients();
    scene.event("Resubscribed", 2);
    scene.end();
    assert_eq!(added.records().len(), 5, "nothing after it was removed");
    let last = heard.lock().unwrap().last().cloned();
    assert_eq!(last.as_deref(), Some("Closed"));
    assert_eq!(heard.lock().unwrap().len(), 9);
    assert!(!scene.connection.remove_listener(closure), "all are gone after Closed");
}

#[test]
fn waiting_for_a_status_tells_time_out_and_the_end_apart() {
    let scene = Scene::new();
    let Scene { server, connection, .. } = &scene;
    connection.wait_for_status(ConnectionStatus::Connected, LONG).unwrap();
    let moment = Duration::from_millis(10);
    let late = connection.wait_for_status(ConnectionStatus::Reconnecting, moment).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout);
    assert_eq!(connection.wait_closed(moment).unwrap_err().kind(), ErrorKind::Timeout);
    server.refuse_connections(true).unwrap();
    server.drop_clients();
    connection.wait_for_status(ConnectionStatus::Reconnecting, LONG).unwrap();
    assert!(connection.is_reconnecting() && !connection.is_connected());
    server.refuse_connections(false).unwrap();
    connection.wait_for_status(ConnectionStatus::Connected, LONG).unwrap();
    let waiting = connection.clone();
    let waiter = within_thread(move || {
        waiting.wait_for_status(ConnectionStatus::Closed, LONG).unwrap();
        waiting.wait_for_status(ConnectionStatus::Connected, LONG).unwrap_err()
    });
    scene.end();
    assert_eq!(waiter.join().unwrap().kind(), ErrorKind::Closed);
}

fn within_thread<T: Send + 'static>(
    body: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::Builder::new().name("waits".to_owned()).spawn(body).unwrap()
}
