//! The table of requests: a reply, a deadline and an end race, and exactly one of them wins.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use nats_blocking::ErrorKind;
use nats_blocking::internals::{Requests, pass_time};

use crate::run::Model;

pub(crate) const MODELS: &[Model] = &[
    ("requests: reply, deadline, end", reply_deadline_or_end),
    ("requests: two replies, late or closed", answered_late_or_closed),
    ("requests: registered while ending", registered_while_ending),
];

const SECOND: Duration = Duration::from_secs(1);

/// One outcome, whatever comes first; afterwards the table is empty.
fn reply_deadline_or_end() {
    let requests = Arc::new(Requests::new());
    let waiting = Arc::new(requests.register().expect("open"));
    let replier = {
        let (requests, waiting) = (Arc::clone(&requests), Arc::clone(&waiting));
        thread::spawn(move || requests.answer(&waiting, "yes"))
    };
    let closer = {
        let requests = Arc::clone(&requests);
        thread::spawn(move || requests.end())
    };
    let clock = thread::spawn(pass_time);
    let outcome = requests.wait(&waiting, SECOND);
    let answered = replier.join().unwrap();
    closer.join().unwrap();
    clock.join().unwrap();
    match outcome {
        Ok(text) => assert!(answered && text == "yes"),
        Err(kind) => assert!(matches!(kind, ErrorKind::Timeout | ErrorKind::Closed), "{kind:?}"),
    }
    assert_eq!(requests.waiting(), 0);
    assert!(requests.register().is_none(), "a request after the end");
}

/// No deadline: only a wake-up ends the wait. A second reply finds nobody.
pub(crate) fn answered_late_or_closed() {
    let requests = Arc::new(Requests::new());
    let waiting = Arc::new(requests.register().expect("open"));
    let replier = {
        let (requests, waiting) = (Arc::clone(&requests), Arc::clone(&waiting));
        thread::spawn(move || {
            let first = requests.answer(&waiting, "first");
            let second = requests.answer(&waiting, "second");
            assert!(!second, "two replies for one request");
            first
        })
    };
    let refuser = {
        let requests = Arc::clone(&requests);
        thread::spawn(move || requests.refuse())
    };
    let outcome = requests.wait(&waiting, SECOND);
    let answered = replier.join().unwrap();
    refuser.join().unwrap();
    let expected =
        if answered { Ok("first".to_owned()) } else { Err(ErrorKind::PermissionsViolation) };
    assert_eq!(outcome, expected);
    assert_eq!(requests.waiting(), 0);
}

/// A request that is made while the connection ends is refused, or ended with the others.
fn registered_while_ending() {
    let requests = Arc::new(Requests::new());
    let caller = {
        let requests = Arc::clone(&requests);
        thread::spawn(move || {
            let waiting = requests.register()?;
            Some(requests.wait(&waiting, SECOND))
        })
    };
    requests.end();
    let outcome = caller.join().unwrap();
    assert!(matches!(outcome, None | Some(Err(ErrorKind::Closed))), "{outcome:?}");
    assert_eq!(requests.waiting(), 0);
}
