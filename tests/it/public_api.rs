//! What every public type is, checked by the compiler: who may send it, share it, clone it, print
//! it, and use it behind `dyn`.
//!
//! Whoever adds a public type adds it to a table here; a test compares the tables with the
//! `pub use` lines of `src/lib.rs` and `src/testing/mod.rs`. What the documentation of public
//! functions must say is checked in `public_docs.rs`.

use std::error::Error as StdError;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::io;
use std::iter::FusedIterator;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use nats_blocking::testing::{
    ClientOp, ClientOpParser, Happening, Permissions, Publication, Record, Recorder, Server,
    ServerBuilder, Timeline,
};
use nats_blocking::{
    Challenge, ConnectAttempt, Connection, ConnectionEvent, ConnectionEventKind,
    ConnectionListener, ConnectionStatus, Connector, Consumer, ConsumerStatus, ConsumerView,
    Credentials, Dispatcher, Drain, EndReason, Error, ErrorKind, ErrorListener, ErrorNotice,
    Events, Gather, HeaderIter, Headers, IntoIter, Iter, ListenerId, Login, Message, Notice,
    Options, OptionsBuilder, OutboxPolicy, PendingLimits, PendingReply, PoolServer, ReadListener,
    ReadOperation, ReconnectBuffer, RefusedOperation, Replies, ResolveMode, Result, RetryConnect,
    SelectedServer, ServerAddress, ServerChoice, ServerError, ServerErrorKind, ServerInfo,
    ServerList, SetIter, SetKey, Statistics, Status, Subscription, SubscriptionEnd,
    SubscriptionSet, TimeoutIter, TlsVersion, TraceStep, TraceStepKind, Transport, TryIter,
    WeakConnection,
};

use crate::support::source::Source;

/// Asserts, when it is compiled, that each type implements the traits, and gives the types' names.
macro_rules! every {
    ([$($type:ty),+ $(,)?]: $($bound:tt)+) => {{
        fn implements<T: $($bound)+ + ?Sized>() {}
        $(implements::<$type>();)+
        [$(stringify!($type)),+]
    }};
}

/// A handle or a value that every thread may have, and that a panic leaves whole.
trait Plain: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug {}
impl<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug> Plain for T {}

/// The same, but it holds code of the program, which may be anything.
trait Holder: Send + Unpin + Debug {}
impl<T: Send + Unpin + Debug> Holder for T {}

/// A type is one of these kinds. Public functions, and the alias `Result`, stand at the end.
fn asserted() -> Vec<&'static str> {
    let mut names = Vec::new();
    // Handles of something that lives: shared by reference, or by a clone.
    names.extend(every!([Connection, WeakConnection, ConsumerView]: Plain + Clone));
    names.extend(every!([Subscription, Dispatcher, Drain, PendingReply, Events]: Plain));
    names.extend(every!([SubscriptionSet]: Plain));
    // Values, told or given.
    names.extend(every!([Message, Headers, ServerInfo, Status, Statistics]: Plain + Clone));
    names
        .extend(every!([ConnectionEvent, ConnectionEventKind, ErrorNotice, Notice]: Plain + Clone));
    names.extend(every!([ConnectAttempt, TraceStep, TraceStepKind]: Plain + Clone));
    names.extend(every!([SubscriptionEnd, EndReason]: Plain + Clone));
    names.extend(every!([Challenge, Login, ServerAddress]: Plain + Clone));
    names.extend(every!([PoolServer, ServerChoice, SelectedServer]: Plain + Clone));
    names.extend(every!([ReadOperation<'static>]: Plain + Copy + Display));
    names.extend(every!([Error, ServerError]: Plain + Clone + StdError));
    // Small values to decide by.
    names.extend(every!([
        ErrorKind, ConnectionStatus, ConsumerStatus, RefusedOperation, ListenerId, OutboxPolicy,
        ReconnectBuffer, PendingLimits, ResolveMode, RetryConnect,
        TlsVersion,
    ]: Plain + Copy + Eq + Hash));
    names.extend(every!([ServerErrorKind]: Plain + Clone + Eq + Hash));
    names.extend(every!([SetKey]: Plain + Copy + Eq + Hash));
    // Options hold listeners, and a gathering a sentinel: code of the program.
    names.extend(every!([Options, OptionsBuilder]: Holder + Sync + Clone));
    names.extend(every!([Gather, Replies]: Holder));
    // Iterators.
    names.extend(every!([Iter<'static>, TryIter<'static>, TimeoutIter<'static>, IntoIter]:
        Plain + Iterator<Item = Message>));
    names.extend(every!([SetIter<'static>]: Plain + Iterator));
    names.extend(every!([HeaderIter<'static>]: Plain + Clone + ExactSizeIterator));
    // Traits, behind `dyn`, which is what an `Arc` of a listener needs.
    names.extend(every!([dyn ConnectionListener, dyn ErrorListener, dyn ReadListener]:
        Send + Sync));
    names.extend(every!([dyn Credentials, dyn Connector, dyn Transport]: Send + Sync));
    names.extend(every!([dyn Consumer]: Send + Sync + Debug));
    names.extend(every!([Arc<dyn ConnectionListener>]: ConnectionListener));
    names.extend(every!([Arc<dyn ErrorListener>]: ErrorListener));
    names.extend(every!([Arc<dyn ReadListener>]: ReadListener));
    names.extend(every!([&'static str, String, Vec<String>, [&'static str; 2]]: ServerList));
    // For tests.
    names.extend(every!([Recorder, Timeline, Record, Happening]: Holder + Sync + Clone));
    names.extend(every!([Server]: Holder + Sync));
    names.extend(every!([ServerBuilder, Permissions]: Plain + Clone));
    names.extend(every!([ClientOp, Publication]: Plain + Clone + Eq));
    names.extend(every!([ClientOpParser]: Plain));
    names.extend(["ServerList", "Result", "connect", "subject_matches", "check_header"]);
    names.extend(["check_publish_subject", "check_subscribe_subject", "check_queue_group"]);
    names
}

/// The last identifier of a type's text: `dyn Consumer` and `Iter<'static>` are named so.
fn short(name: &str) -> &str {
    let name = name.split('<').next().unwrap_or(name);
    name.trim_start_matches("dyn ").trim()
}

#[test]
fn every_public_type_has_an_assertion_here() {
    let names = asserted();
    let known: Vec<&str> = names.iter().map(|name| short(name)).collect();
    let mut missing = Vec::new();
    for file in ["src/lib.rs", "src/testing/mod.rs"] {
        for name in exported(file) {
            if !known.contains(&name.as_str()) {
                missing.push(format!("{name} of {file}"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "add these to a line of `asserted` in tests/it/public_api.rs (a type that holds no code \
         of the program should be `Plain`): {missing:?}"
    );
}

/// What the `pub use` lines of a file make public.
fn exported(file: &str) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let source = Source::new(&std::fs::read_to_string(path).unwrap());
    let mut names = Vec::new();
    for found in source.uses() {
        if source.code[..found.position].trim_end().ends_with("pub") {
            names.extend(found.alias.or_else(|| found.segments.last().cloned()));
        }
    }
    assert!(names.len() > 5, "{file} exports only {names:?}");
    names
}

#[test]
fn iterators_that_end_for_good_say_so() {
    every!([Iter<'static>, IntoIter, Events, Replies, HeaderIter<'static>]: FusedIterator);
    every!([&'static Subscription, Subscription]: IntoIterator<Item = Message>);
    every!([&'static Headers]: IntoIterator<Item = (&'static str, &'static str)>);
}

#[test]
fn an_iterator_that_ended_for_a_refusal_does_not_begin_again() {
    let limit = Duration::from_secs(10);
    let server = Server::start().unwrap();
    server.set_subscribe_permissions(Permissions::new().deny("a"));
    let connection = nats_blocking::connect(server.url()).unwrap();
    let subscription = connection.subscribe("a").unwrap();
    let mut messages = subscription.iter();
    assert!(messages.next().is_none());
    let error = subscription.last_error().expect("why it ended");
    assert_eq!(error.kind(), ErrorKind::PermissionsViolation);
    // A message that comes all the same is for those who ask the subscription.
    server.send_raw("MSG a 1 2\r\nhi\r\n");
    assert_eq!(subscription.next_timeout(limit).unwrap().payload(), b"hi");
    server.send_raw("MSG a 1 2\r\nho\r\n");
    server.send_raw("MSG a 1 2\r\nhu\r\n");
    assert_eq!(subscription.next_timeout(limit).unwrap().payload(), b"ho");
    assert!(messages.next().is_none());
    assert_eq!(subscription.next_timeout(limit).unwrap().payload(), b"hu");
}

#[test]
fn what_is_compared_hashed_printed_and_made_by_default() {
    every!([Headers, Status, ServerError, ServerErrorKind]: Eq + Hash);
    every!([Statistics, ServerInfo, Permissions]: Eq + Default);
    every!([Headers, OptionsBuilder, PendingLimits]: Default);
    every!([ConnectionEvent, ErrorNotice, Notice, ConnectionStatus, TraceStep, TraceStepKind,
        Statistics, Status, Error, ServerError, Happening]: Display);
}

#[test]
fn an_error_is_one_word_and_becomes_an_io_error() {
    let word = size_of::<usize>();
    assert_eq!(size_of::<Error>(), word);
    assert_eq!(size_of::<Result<()>>(), word);
    assert_eq!(size_of::<Option<Error>>(), word);

    fn other(_: Result<u8>, _: Result<u8, String>) {}
    other(Ok(1), Ok(1));

    fn in_a_program_of_io() -> io::Result<()> {
        nats_blocking::connect("nats://")?;
        Ok(())
    }
    let error = in_a_program_of_io().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    assert_eq!(inner.map(Error::kind), Some(ErrorKind::InvalidUrl));

    fn in_any_program() -> std::result::Result<(), Box<dyn StdError + Send + Sync>> {
        nats_blocking::connect("nats://")?;
        Ok(())
    }
    assert!(in_any_program().is_err());
}

#[test]
fn a_listener_may_be_shared_and_be_any_of_several() {
    let listeners: Vec<Arc<dyn ConnectionListener>> =
        vec![Arc::new(|_: &Connection, _: &ConnectionEvent| ()), Arc::new(Recorder::new())];
    let mut builder = Options::builder();
    for listener in listeners {
        builder = builder.connection_listener(listener);
    }
    let shared: Arc<dyn ErrorListener> = Arc::new(Recorder::new());
    let reading: Arc<dyn ReadListener> = Arc::new(|_: &ReadOperation<'_>| ());
    let options = builder.error_listener(Arc::clone(&shared)).read_listener(reading).build();
    assert!(options.is_ok());
}
