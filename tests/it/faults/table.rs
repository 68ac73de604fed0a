//! Every number of the three lists, with the tests that show it or what it waits for.
//!
//! A row that waits becomes one that is shown by replacing `waits` with `shown` and the beginnings
//! of its tests; `also` says what a shown row still waits for. The test below keeps table and
//! sources together, and prints the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::source::Source;

/// A list of faults: its name, the beginning of its tests, how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Java,
    Choice,
    OldCrate,
}

impl List {
    const ALL: [Self; 3] = [Self::Java, Self::Choice, Self::OldCrate];

    fn prefix(self) -> &'static str {
        match self {
            Self::Java => "java_fault_",
            Self::Choice => "choice_",
            Self::OldCrate => "old_crate_fault_",
        }
    }

    fn length(self) -> u8 {
        match self {
            Self::Java => 30,
            Self::Choice => 40,
            Self::OldCrate => 24,
        }
    }
}

/// One number: what the fault is, whether tests show it, and what (else) it waits for.
#[derive(Debug)]
struct Row {
    list: List,
    number: u8,
    fault: &'static str,
    shown: bool,
    waits: Option<&'static str>,
}

impl Row {
    const fn also(mut self, waits: &'static str) -> Self {
        self.waits = Some(waits);
        self
    }
}

/// Tests show it: those whose names begin with the list's prefix and this number.
const fn shown(list: List, number: u8, fault: &'static str) -> Row {
    Row { list, number, fault, shown: true, waits: None }
}

/// Nothing shows it yet.
const fn waits(list: List, number: u8, fault: &'static str, waits: &'static str) -> Row {
    Row { list, number, fault, shown: false, waits: Some(waits) }
}

use List::{Choice, Java, OldCrate};

/// The table.
const TABLE: &[Row] = &[
    shown(Java, 1, "flushes at the same time end the connection"),
    shown(Java, 2, "odd bytes end the reader without a word"),
    shown(Java, 3, "without jitter it never reconnects"),
    shown(Java, 4, "one loss noticed twice uses up attempts"),
    shown(Java, 5, "close in a callback stalls, and no Closed follows"),
    shown(Java, 6, "auto-unsubscribe is lost by a reconnect"),
    shown(Java, 7, "a flush succeeds without its PONG"),
    shown(Java, 8, "close drops what is queued and does not say how much"),
    shown(Java, 9, "a limit in messages undermines the reconnect buffer, publishers block"),
    shown(Java, 10, "a loss during a drain is waited out in silence"),
    shown(Java, 11, "a drain that ran out of time reports success"),
    shown(Java, 12, "failed attempts look like losses and name the wrong server"),
    shown(Java, 13, "a late first connect gives no Connected"),
    shown(Java, 14, "an early -ERR costs the connect time-out, its text is lost"),
    shown(Java, 15, "no check of the host name"),
    shown(Java, 16, "one server's refusals end the connection though others are fine"),
    shown(Java, 17, "a consumer at its limit is told again and again"),
    shown(Java, 18, "a request without a reply does not say why"),
    shown(Java, 19, "a waiting request is not told of the loss"),
    shown(Java, 20, "looking blocks while a write or a reconnect does"),
    shown(Java, 21, "data limits swallow control lines; refused calls leave things behind"),
    shown(Java, 22, "CONNECT is no JSON, or too long"),
    shown(Java, 23, "a partial INFO replaces the whole; lame duck is repeated"),
    shown(Java, 24, "credentials of URLs get into texts"),
    shown(Java, 25, "no pause between the servers of a round"),
    shown(Java, 26, "dead for good after sixty attempts"),
    shown(Java, 27, "the error of a failed connect has no causes"),
    shown(Java, 28, "threads are shared, and outlive close"),
    shown(Java, 29, "the documentation of zero and null is wrong"),
    shown(Java, 30, "a refusal does not reach its subscription"),
    shown(Choice, 1, "delay before the first attempt: none"),
    shown(Choice, 2, "attempts: exactly N for each server, 0 is never"),
    shown(Choice, 3, "reason of a loss: always, with the server that was lost"),
    shown(Choice, 4, "Disconnected: once for a loss, never for an attempt"),
    shown(Choice, 5, "own close: Closed alone"),
    shown(Choice, 6, "Reconnected, then at once Resubscribed"),
    shown(Choice, 7, "failed attempts: each one is told"),
    shown(Choice, 8, "unknown -ERR: a loss, not the end"),
    shown(Choice, 9, "the text of every -ERR reaches the error listener"),
    shown(Choice, 10, "permission violation: connection and subscription stay"),
    shown(Choice, 11, "forbidden request: ends at once"),
    shown(Choice, 12, "slow consumer: once an episode, newest dropped"),
    shown(Choice, 13, "slow pull consumer: told to listeners, never by next"),
    shown(Choice, 14, "pending bytes: payload and headers"),
    shown(Choice, 15, "buffer while down: 8 MiB, then an error at once"),
    shown(Choice, 16, "half-written frames: dropped, never resumed"),
    shown(Choice, 17, "flush at a loss: Disconnected at once"),
    shown(Choice, 18, "requests at a loss: wait; end at close and forced reconnect"),
    shown(Choice, 19, "forced reconnect without reconnecting: closes"),
    shown(Choice, 20, "forced reconnect during an outage: cuts the wait"),
    shown(Choice, 21, "forced reconnect: another server first"),
    shown(Choice, 22, "drain during an outage: refused, nothing changes"),
    shown(Choice, 23, "discovered servers: after Connected, what came and went"),
    shown(Choice, 24, "vanished servers: go, unless configured or in use"),
    shown(Choice, 25, "localhost and 127.0.0.1: one server"),
    shown(Choice, 26, "lame duck: once a session, the first INFO included"),
    shown(Choice, 27, "callbacks: a thread for each connection, may call everything"),
    shown(Choice, 28, "a callback that panics: caught, reported, the others go on"),
    shown(Choice, 29, "remaining auto-unsubscribe: kept"),
    shown(Choice, 30, "draining subscriptions: not announced again"),
    shown(Choice, 31, "refusals: the same twice in a row gives that server up"),
    shown(Choice, 32, "authentication time-out: reconnects"),
    shown(Choice, 33, "reconnects: completed handshakes only"),
    shown(Choice, 34, "first connect: fails at once"),
    shown(Choice, 35, "a late reader of events: misses no change of status"),
    shown(Choice, 36, "close: writes out in bounded time"),
    shown(Choice, 37, "secrets: nowhere"),
    shown(Choice, 38, "listeners: in the options and at run time, hear what is later"),
    shown(Choice, 39, "the cause is told before the loss"),
    shown(Choice, 40, "the last handle dropped: closes, Closed is the last call"),
    shown(OldCrate, 1, "the first connect sleeps up to a second"),
    shown(OldCrate, 2, "flush_timeout blocks for ever"),
    shown(OldCrate, 3, "close during an outage never returns"),
    shown(OldCrate, 4, "a dropped connection keeps socket and thread"),
    shown(OldCrate, 5, "a callback that calls the client hangs"),
    shown(OldCrate, 6, "a request outlives its connection for ever"),
    shown(OldCrate, 7, "a long INFO is refused"),
    shown(OldCrate, 8, "subjects and sizes are not checked"),
    shown(OldCrate, 9, "connecting has no time-out"),
    shown(OldCrate, 10, "a refusal while connecting is an 'unexpected line'"),
    shown(OldCrate, 11, "a flush across a reconnect is reported as a success"),
    shown(OldCrate, 12, "no auto-unsubscribe"),
    shown(OldCrate, 13, "dropped messages with headers are not counted"),
    shown(OldCrate, 14, "a reconnect restores an old subject"),
    shown(OldCrate, 15, "writes are spaced 5 ms apart"),
    shown(OldCrate, 16, "a slow callback stops delivery and PONGs"),
    shown(OldCrate, 17, "a dropped subscription can end the reader"),
    shown(OldCrate, 18, "a buffer once full stays full"),
    shown(OldCrate, 19, "it prints on the standard error"),
    shown(OldCrate, 20, "messages keep the connection alive"),
    shown(OldCrate, 21, "dropping a clone closes all"),
    waits(OldCrate, 22, "crash in a DLL after a disconnect", "platform: Windows"),
    waits(OldCrate, 23, "consumers are lost by a reconnect", "JetStream"),
    shown(OldCrate, 24, "close hangs on a silent server").also("push consumers: JetStream"),
];

/// The tests in the sources beside this file that bear the name of a fault, in order.
fn named_tests() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let source = Source::new(&fs::read_to_string(&path).unwrap());
        for function in source.functions() {
            let before = source.code[..function.position].trim_end();
            let is_named = List::ALL.iter().any(|list| function.name.starts_with(list.prefix()));
            assert_eq!(is_named, is_named && before.ends_with("#[test]"), "{}", function.name);
            if is_named {
                assert!(names.insert(function.name.clone()), "{} twice", function.name);
            }
        }
    }
    names
}

#[test]
fn every_fault_of_the_lists_is_in_the_table_with_its_tests_or_what_it_waits_for() {
    let rows = TABLE.iter().map(|row| (row.list.prefix(), row.number));
    let expected = List::ALL
        .into_iter()
        .flat_map(|list| (1..=list.length()).map(move |number| (list.prefix(), number)));
    assert!(rows.eq(expected), "each number once, in order");

    let mut tests = named_tests();
    let (mut full, mut partly, mut waiting) = (0, 0, 0);
    for row in TABLE {
        let beginning = format!("{}{:02}_", row.list.prefix(), row.number);
        let own: Vec<String> =
            tests.iter().filter(|name| name.starts_with(&beginning)).cloned().collect();
        tests.retain(|name| !name.starts_with(&beginning));
        assert_eq!(row.shown, !own.is_empty(), "{beginning}: {own:?}");
        println!("{}{:02}: {}", row.list.prefix(), row.number, row.fault);
        for name in own {
            println!("    shown by {name}");
        }
        if let Some(waits) = row.waits {
            println!("    waits for {}{waits}", if row.shown { "the rest: " } else { "" });
        }
        match (row.shown, row.waits) {
            (true, None) => full += 1,
            (true, Some(_)) => partly += 1,
            (false, _) => waiting += 1,
        }
    }
    assert!(tests.is_empty(), "not in the table: {tests:?}");
    println!("{full} shown, {partly} shown in part, {waiting} waiting");
}
