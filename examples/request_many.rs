//! One request, many replies: until there are enough, until it is silent, until a last one comes,
//! or until the time is over.
//!
//! ```text
//! cargo run --example request_many --features testing -- [--server URL]
//! ```
//!
//! Without `--server` it starts a server of its own.

use std::error::Error;
use std::time::Duration;

use nats_blocking::{Connection, Gather, Result};

mod support;
use support::{Arguments, say};

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, _own) = arguments.server()?;
    let connection = nats_blocking::connect(url)?;

    // Three who answer, and one who sends a list and then an empty message.
    let dispatcher = connection.dispatcher(|connection, message| {
        for name in ["anna", "bert", "carl"] {
            if let Err(error) = connection.respond(&message, name) {
                say(error);
            }
        }
    })?;
    dispatcher.subscribe("who.is.there")?;
    dispatcher.subscribe_with("list", |connection, message| {
        for line in ["first", "second", ""] {
            if let Err(error) = connection.respond(&message, line) {
                say(error);
            }
        }
    })?;

    // The total time is the only limit that must be given.
    let long = || Gather::for_at_most(Duration::from_secs(10));
    show("the first two", &connection, "who.is.there", long().count(2))?;
    let silence = Duration::from_millis(300);
    show("until it is silent", &connection, "who.is.there", long().silence(silence))?;
    let all = long().until(|message| message.payload().is_empty());
    show("up to the last", &connection, "list", all)?;
    let short = Gather::for_at_most(Duration::from_millis(300));
    show("in the time", &connection, "who.is.there", short)?;

    // Nobody there: an error at once, not the end of a wait.
    for reply in connection.request_many("nobody.listens.here", "", long())? {
        match reply {
            Ok(_) => say("somebody does listen"),
            Err(error) if error.is_no_responders() => say("nobody listens"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn show(how: &str, connection: &Connection, subject: &str, gather: Gather) -> Result<()> {
    let mut replies = Vec::new();
    for reply in connection.request_many(subject, "", gather)? {
        replies.push(String::from_utf8_lossy(reply?.payload()).into_owned());
    }
    say(format!("{how}: {}", replies.join(", ")));
    Ok(())
}
