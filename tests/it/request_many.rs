//! One request, many replies.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nats_blocking::testing::Server;
use nats_blocking::{Connection, Dispatcher, Gather, Message};

const LIMIT: Duration = Duration::from_secs(30);

/// A server, and a connection that answers `who` with "1", "2", "3" and an empty message.
fn answered() -> (Server, Connection, Dispatcher) {
    let server = Server::start().expect("a server");
    let connection = nats_blocking::connect(server.url()).expect("a connection");
    let dispatcher = connection
        .dispatcher(|connection, message| {
            for text in ["1", "2", "3", ""] {
                connection.respond(&message, text).expect("room");
            }
        })
        .expect("a dispatcher");
    dispatcher.subscribe("who").expect("subscribed");
    (server, connection, dispatcher)
}

fn texts(connection: &Connection, gather: Gather) -> Vec<String> {
    let replies = connection.request_many("who", "", gather).expect("sent");
    replies
        .map(|reply| String::from_utf8_lossy(reply.expect("a reply").payload()).into_owned())
        .collect()
}

#[test]
fn replies_end_at_a_number_a_silence_a_last_message_or_the_time() {
    let (_server, connection, _dispatcher) = answered();
    let long = || Gather::for_at_most(Duration::from_secs(30));
    assert_eq!(texts(&connection, long().count(2)), ["1", "2"]);
    let silence = Duration::from_millis(500);
    assert_eq!(texts(&connection, long().silence(silence)), ["1", "2", "3", ""]);
    let is_empty = |message: &Message| message.payload().is_empty();
    assert_eq!(texts(&connection, long().until(is_empty)), ["1", "2", "3"]);
    let short = Gather::for_at_most(Duration::from_secs(1));
    assert_eq!(texts(&connection, short), ["1", "2", "3", ""]);
    assert!(connection.request_many("who", "", long().count(0)).is_err());
}

#[test]
fn nobody_listening_is_an_error_at_once_and_the_end() {
    let (_server, connection, _dispatcher) = answered();
    let gather = Gather::for_at_most(Duration::from_secs(30));
    let mut replies = connection.request_many("nobody", "", gather).expect("sent");
    let error = replies.next().expect("an outcome").expect_err("nobody");
    assert!(error.is_no_responders());
    assert!(replies.next().is_none());
}

#[test]
fn a_message_is_gathered_for_with_its_headers_and_not_with_its_own_reply_subject() {
    let server = Server::start().expect("a server");
    let connection = nats_blocking::connect(server.url()).expect("a connection");
    let stranger = connection.subscribe("elsewhere").expect("subscribed");
    let dispatcher = connection
        .dispatcher(|connection, message| {
            let asked = message.headers().get("Asked").unwrap_or("nothing");
            connection.respond(&message, asked).expect("room");
        })
        .expect("a dispatcher");
    dispatcher.subscribe("who").expect("subscribed");
    let message = Message::new("who", "").with_reply("elsewhere");
    let message = message.with_header("Asked", "name").expect("a header");
    let gather = Gather::for_at_most(Duration::from_secs(30)).count(1);
    let mut replies = connection.request_many_message(&message, gather).expect("sent");
    let reply = replies.next().expect("an outcome").expect("a reply");
    assert_eq!(reply.payload(), b"name");
    assert!(replies.next().is_none());
    connection.flush().expect("a round trip");
    assert!(stranger.try_next().expect("open").is_none());
}

#[test]
fn replies_without_end_end_with_the_time() {
    let (server, connection, _dispatcher) = answered();
    let talker = nats_blocking::connect(server.url()).expect("a connection");
    let questions = talker.subscribe("talk").expect("subscribed");
    talker.flush().expect("a flush");
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let question = questions.next_timeout(LIMIT).expect("a question");
            while !stop.load(Ordering::SeqCst) && begun.elapsed() < LIMIT {
                talker.respond(&question, "and").expect("room");
                talker.flush().expect("a flush");
            }
        });
        let gather = Gather::for_at_most(Duration::from_millis(200));
        let replies = connection.request_many("talk", "", gather).expect("sent");
        let mut count = 0;
        for reply in replies {
            reply.expect("a reply");
            count += 1;
            // Slower than they come.
            for _ in 0..3 {
                connection.rtt().expect("a round trip");
            }
        }
        assert!(count > 0);
        stop.store(true, Ordering::SeqCst);
    });
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}
