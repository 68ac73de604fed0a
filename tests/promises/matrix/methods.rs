//! The public methods of everything that belongs to a connection, each as a call.
//!
//! A method of a subscription, a dispatcher and so on gets one of its own, which is made while the
//! connection is connected. What waits without a deadline gets something to read beforehand. A test
//! compares the table with the sources, so that no new method is forgotten.

#![allow(clippy::let_unit_value, reason = "the table treats what a call returns alike")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nats_blocking::{
    Connection, ConnectionStatus, Consumer, Dispatcher, Drain, Events, Gather, Headers, Message,
    Options, PendingLimits, PendingReply, Replies, SetKey, Subscription, SubscriptionSet,
    WeakConnection,
};

use super::Quiet;
use crate::support::public_items::{files, items};
use crate::support::source::Source;

/// What a call that takes a time is given.
const WAIT: Duration = Duration::from_millis(20);

pub(crate) type Call = Box<dyn FnOnce(&Connection) + Send>;

/// One public method, as something that can be called somewhere.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    /// Makes what the call needs, on a connected connection.
    pub(crate) prepare: fn(&Connection) -> Call,
    /// It changes the connection so that other calls would see something else.
    pub(crate) alone: bool,
}

/// Methods of the connection that is lent.
macro_rules! lent {
    ($alone:literal, $($name:literal |$c:ident| $call:expr;)+) => {
        &[$(Method {
            name: $name,
            prepare: |_| Box::new(|$c| { let _ = $call; }),
            alone: $alone,
        },)+]
    };
}

/// Methods of something that is made first.
macro_rules! own {
    ($make:ident, $($name:literal |$one:ident| $call:expr;)+) => {
        &[$(Method {
            name: $name,
            prepare: |connection| {
                #[allow(unused_mut, reason = "iterators need it")]
                let mut $one = $make(connection);
                Box::new(move |_| { let _ = $call; })
            },
            alone: false,
        },)+]
    };
}

const GROUPS: &[&[Method]] = &[
    LOOKING,
    SENDING,
    WAITING,
    LISTENING,
    ENDING,
    SUBSCRIPTION,
    ITERATORS,
    CONSUMER,
    DISPATCHER,
    SET,
    EVENTS,
    PENDING,
    REPLIES,
    DRAIN,
    WEAK,
    OPENING,
];

const LOOKING: &[Method] = lent! { false,
    "Connection::clear_last_error" |c| c.clear_last_error();
    "Connection::client_id" |c| c.client_id();
    "Connection::client_ip" |c| c.client_ip();
    "Connection::clone" |c| c.clone();
    "Connection::close_cause" |c| c.close_cause();
    "Connection::connected_since" |c| c.connected_since();
    "Connection::connected_url" |c| c.connected_url();
    "Connection::discovered_servers" |c| c.discovered_servers();
    "Connection::downgrade" |c| c.downgrade();
    "Connection::fmt" |c| format!("{c:?}");
    "Connection::is_closed" |c| c.is_closed();
    "Connection::is_connected" |c| c.is_connected();
    "Connection::is_connecting" |c| c.is_connecting();
    "Connection::is_draining" |c| c.is_draining();
    "Connection::is_reconnecting" |c| c.is_reconnecting();
    "Connection::is_tls" |c| c.is_tls();
    "Connection::last_error" |c| c.last_error();
    "Connection::local_addr" |c| c.local_addr();
    "Connection::max_payload" |c| c.max_payload();
    "Connection::name" |c| c.name().is_some();
    "Connection::new_inbox" |c| c.new_inbox();
    "Connection::peer_addr" |c| c.peer_addr();
    "Connection::pending_out" |c| c.pending_out();
    "Connection::pending_requests" |c| c.pending_requests();
    "Connection::server_info" |c| c.server_info();
    "Connection::server_pool" |c| c.server_pool();
    "Connection::servers" |c| c.servers();
    "Connection::statistics" |c| c.statistics();
    "Connection::status" |c| c.status();
    "Connection::subscription_count" |c| c.subscription_count();
    "Connection::supports_headers" |c| c.supports_headers();
};

const SENDING: &[Method] = lent! { false,
    "Connection::publish" |c| c.publish("m.a", "x");
    "Connection::publish_message" |c| c.publish_message(&Message::new("m.a", "x"));
    "Connection::publish_with_headers" |c| c.publish_with_headers("m.a", &Headers::new(), "x");
    "Connection::publish_with_reply" |c| c.publish_with_reply("m.a", "m.b", "x");
    "Connection::respond" |c| c.respond(&asked(), "x");
    "Connection::respond_with_headers" |c| c.respond_with_headers(&asked(), &Headers::new(), "x");
    "Connection::send_request" |c| c.send_request("m.nobody", "x");
    "Connection::send_request_message" |c| c.send_request_message(&Message::new("m.b", ""));
};

const WAITING: &[Method] = lent! { false,
    "Connection::barrier" |c| c.barrier(WAIT);
    "Connection::flush_timeout" |c| c.flush_timeout(WAIT);
    "Connection::request" |c| c.request("m.nobody", "x", WAIT);
    "Connection::request_many" |c| c.request_many("m.nobody", "", gather()).map(Iterator::count);
    "Connection::request_many_message"
        |c| c.request_many_message(&asked(), gather()).map(Iterator::count);
    "Connection::request_message" |c| c.request_message(&Message::new("m.b", ""), WAIT);
    "Connection::request_with_headers"
        |c| c.request_with_headers("m.nobody", &Headers::new(), "", WAIT);
    "Connection::wait_closed" |c| c.wait_closed(WAIT);
    "Connection::wait_for_status" |c| c.wait_for_status(ConnectionStatus::Connecting, WAIT);
};

const LISTENING: &[Method] = lent! { false,
    "Connection::add_connection_listener" |c| c.add_connection_listener(Quiet);
    "Connection::add_error_listener" |c| c.add_error_listener(Quiet);
    "Connection::dispatcher" |c| c.dispatcher(|_, _| ()).map(|one| one.subscribe("m.a"));
    "Connection::events" |c| c.events();
    "Connection::on_error" |c| c.on_error(|_, _| ());
    "Connection::on_event" |c| c.on_event(|_, _| ());
    "Connection::queue_subscribe" |c| c.queue_subscribe("m.a", "q");
    "Connection::remove_listener" |c| c.remove_listener(c.add_error_listener(Quiet));
    "Connection::subscribe" |c| c.subscribe("m.a");
};

const ENDING: &[Method] = lent! { true,
    "Connection::close" |c| c.close();
    "Connection::drain" |c| c.drain(WAIT);
    // These two have ten seconds while no server is there.
    "Connection::flush" |c| c.flush();
    "Connection::rtt" |c| c.rtt();
    "Connection::set_server_pool" |c| c.set_server_pool(c.servers());
    "Connection::force_reconnect" |c| c.force_reconnect();
    "Connection::start_drain" |c| c.start_drain(WAIT).map(|drain| drain.wait(WAIT));
};

const SUBSCRIPTION: &[Method] = own! { subscription,
    "Subscription::drain" |s| s.drain(WAIT);
    "Subscription::drop" |s| drop(s);
    "Subscription::fmt" |s| format!("{s:?}");
    "Subscription::last_error" |s| s.last_error();
    "Subscription::next" |s| s.next();
    "Subscription::next_deadline" |s| s.next_deadline(Instant::now() + WAIT);
    "Subscription::next_timeout" |s| s.next_timeout(WAIT);
    "Subscription::on_closed" |s| s.on_closed(|connection, _| drop(connection.publish("m.a", "")));
    "Subscription::queue" |s| s.queue().is_some();
    "Subscription::ready" |s| s.ready().len();
    "Subscription::set_pending_limits" |s| s.set_pending_limits(PendingLimits::new(1, 1));
    "Subscription::sid" |s| s.sid();
    "Subscription::try_next" |s| s.try_next();
    "Subscription::unsubscribe" |s| s.unsubscribe();
    "Subscription::unsubscribe_after" |s| s.unsubscribe_after(1);
};

const ITERATORS: &[Method] = own! { subscription,
    "Subscription::iter" |s| s.iter().next();
    "Subscription::into_iter" |s| s.into_iter().next();
    "Subscription::timeout_iter" |s| s.timeout_iter(WAIT).count();
    "Subscription::try_iter" |s| s.try_iter().count();
};

const CONSUMER: &[Method] = own! { subscription,
    "Consumer::delivered" |s| s.delivered();
    "Consumer::dropped" |s| s.dropped();
    "Consumer::id" |s| s.id();
    "Consumer::is_refused" |s| s.is_refused();
    "Consumer::pending_bytes" |s| s.pending_bytes();
    "Consumer::pending_limits" |s| s.pending_limits();
    "Consumer::pending_messages" |s| s.pending_messages();
    "Consumer::queue" |s| s.queue().is_some();
    "Consumer::status" |s| s.status();
    "Consumer::subject" |s| s.subject();
};

const DISPATCHER: &[Method] = own! { dispatcher,
    "Dispatcher::consumer" |d| (d.0.id(), d.0.pending_messages(), d.0.status(), d.0.subject());
    "Dispatcher::drain" |d| d.0.drain(WAIT);
    "Dispatcher::drop" |d| drop(d);
    "Dispatcher::fmt" |d| format!("{:?}", d.0);
    "Dispatcher::on_closed" |d| d.0.on_closed(d.1, |connection, _| connection.clear_last_error());
    "Dispatcher::queue_subscribe" |d| d.0.queue_subscribe("m.c", "q");
    "Dispatcher::queue_subscribe_with" |d| d.0.queue_subscribe_with("m.c", "q", |_, _| ());
    "Dispatcher::set_pending_limits" |d| d.0.set_pending_limits(PendingLimits::new(1, 1));
    "Dispatcher::set_pending_limits_of"
        |d| d.0.set_pending_limits_of(d.1, PendingLimits::new(1, 1));
    "Dispatcher::subscribe" |d| d.0.subscribe("m.c");
    "Dispatcher::subscribe_with" |d| d.0.subscribe_with("m.c", |_, _| ());
    "Dispatcher::subscription" |d| d.0.subscription(d.1).map(|view| view.delivered());
    "Dispatcher::unsubscribe" |d| d.0.unsubscribe(d.1);
    "Dispatcher::unsubscribe_after" |d| d.0.unsubscribe_after(d.1, 1);
};

const SET: &[Method] = own! { set,
    "SubscriptionSet::add" |s| s.0.remove(s.1).map(|one| s.0.add(one));
    "SubscriptionSet::drop" |s| drop(s);
    "SubscriptionSet::get" |s| s.0.get(s.1).map(|view| view.dropped());
    "SubscriptionSet::is_empty" |s| s.0.is_empty();
    "SubscriptionSet::iter" |s| s.0.iter().next();
    "SubscriptionSet::keys" |s| s.0.keys();
    "SubscriptionSet::len" |s| s.0.len();
    "SubscriptionSet::new" |s| drop((SubscriptionSet::new(), s));
    "SubscriptionSet::next" |s| s.0.next();
    "SubscriptionSet::next_deadline" |s| s.0.next_deadline(Instant::now() + WAIT);
    "SubscriptionSet::next_timeout" |s| s.0.next_timeout(WAIT);
    "SubscriptionSet::ready" |s| s.0.ready().len();
    "SubscriptionSet::remove" |s| s.0.remove(s.1);
    "SubscriptionSet::try_next" |s| s.0.try_next();
};

const EVENTS: &[Method] = own! { events,
    "Events::drop" |e| drop(e);
    "Events::is_finished" |e| e.is_finished();
    "Events::next" |e| e.next();
    "Events::next_timeout" |e| e.next_timeout(WAIT);
    "Events::ready" |e| e.ready().len();
    "Events::try_next" |e| e.try_next();
};

const PENDING: &[Method] = own! { pending,
    "PendingReply::drop" |p| drop(p);
    "PendingReply::try_wait" |p| p.try_wait();
    "PendingReply::wait" |p| p.wait(WAIT);
};

const REPLIES: &[Method] = own! { replies,
    "Replies::drop" |r| drop(r);
    "Replies::next" |r| r.next();
};

const DRAIN: &[Method] = own! { drain,
    "Drain::is_finished" |d| d.is_finished();
    "Drain::wait" |d| d.wait(WAIT);
};

const WEAK: &[Method] = own! { weak,
    "WeakConnection::upgrade" |w| w.upgrade();
    "WeakConnection::clone" |w| w.clone().upgrade();
};

const OPENING: &[Method] = own! { url,
    "Options::connect" |u| options(&u).build().map(|options| options.connect());
    "OptionsBuilder::connect" |u| options(&u).connect();
    "connect" |u| nats_blocking::connect(u);
};

/// What belongs to no connection: data, settings, words.
const VALUES: &[&str] = &[
    "Challenge",
    "ConnectAttempt",
    "ConnectionEvent",
    "ConsumerView",
    "Error",
    "Gather",
    "Headers",
    "Login",
    "Message",
    "Options",
    "OptionsBuilder",
    "PendingLimits",
    "PoolServer",
    "ReadOperation",
    "SelectedServer",
    "ServerAddress",
    "ServerChoice",
    "ServerError",
    "ServerInfo",
    "Statistics",
    "Status",
    "SubscriptionEnd",
    "TraceStep",
];

/// Functions that stand alone and touch no connection, as their files name them.
const WORDS: &[&str] =
    &["check_header", "check_publish", "check_queue", "check_subscribe", "subject_matches"];

/// Methods that no `pub fn` declares: those of traits, and of handles that go.
const OF_TRAITS: &[&str] = &["clone", "consumer", "drop", "fmt", "into_iter", "next"];

pub(crate) fn all() -> impl Iterator<Item = &'static Method> {
    GROUPS.iter().flat_map(|group| group.iter())
}

/// Panics if a public method is not in the table, or a row of the table is none.
pub(crate) fn compare_with_the_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut public = BTreeSet::new();
    for path in files(&root) {
        let below = path.strip_prefix(&root).unwrap();
        if below.starts_with("testing") || below.starts_with("internals") {
            continue;
        }
        let source = Source::new(&fs::read_to_string(&path).unwrap());
        let functions = items(&below.to_string_lossy(), &source);
        public.extend(functions.into_iter().filter(|item| item.is_function()).map(|i| i.name));
    }
    let is_value = |name: &str| match name.split_once("::") {
        Some((owner, _)) => VALUES.contains(&owner),
        None => WORDS.contains(&name),
    };
    let rows: BTreeSet<&str> = all().map(|method| method.name).collect();
    let missing: Vec<&String> = public
        .iter()
        .filter(|name| !rows.contains(name.as_str()))
        .filter(|name| !is_value(name))
        .collect();
    assert!(missing.is_empty(), "not in the table of tests/promises/matrix: {missing:?}");
    let strange: Vec<&&str> = rows
        .iter()
        .filter(|row| !public.contains(**row))
        .filter(|row| !row.starts_with("Consumer::"))
        .filter(|row| !OF_TRAITS.contains(&row.rsplit("::").next().unwrap_or(row)))
        .collect();
    assert!(strange.is_empty(), "in the table and no public method: {strange:?}");
}

const LIMIT: Duration = Duration::from_secs(60);

fn asked() -> Message {
    Message::new("m.b", "x").with_reply("m.reply")
}

fn gather() -> Gather {
    Gather::for_at_most(WAIT)
}

fn options(url: &str) -> nats_blocking::OptionsBuilder {
    Options::builder().server(url).connect_timeout(Duration::from_secs(2))
}

/// With one message to read, so that `next` has something whatever happens later.
fn subscription(connection: &Connection) -> Subscription {
    let subject = connection.new_inbox().unwrap();
    let subscription = connection.subscribe(&subject).unwrap();
    connection.publish(&subject, "one").unwrap();
    connection.flush_timeout(LIMIT).unwrap();
    subscription
}

fn dispatcher(connection: &Connection) -> (Dispatcher, u64) {
    let dispatcher = connection.dispatcher(|_, _| ()).unwrap();
    let sid = dispatcher.subscribe("m.d").unwrap();
    (dispatcher, sid)
}

fn set(connection: &Connection) -> (SubscriptionSet, SetKey) {
    let set = SubscriptionSet::new();
    let key = set.add(subscription(connection));
    (set, key)
}

/// The stage makes the server say something, so that `next` has one.
fn events(connection: &Connection) -> Events {
    connection.events()
}

fn pending(connection: &Connection) -> PendingReply {
    connection.send_request("m.silent", "").unwrap()
}

fn replies(connection: &Connection) -> Replies {
    connection.request_many("m.silent", "", gather()).unwrap()
}

/// Of another connection: this one is not to drain yet.
fn drain(connection: &Connection) -> Drain {
    let other = options(&url(connection)).connect().unwrap();
    let drain = other.start_drain(LIMIT).unwrap();
    drain.wait(LIMIT).unwrap();
    drain
}

fn weak(connection: &Connection) -> WeakConnection {
    connection.downgrade()
}

fn url(connection: &Connection) -> String {
    connection.connected_url().unwrap()
}
