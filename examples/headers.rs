//! Headers: several values, any letter case, order, and requests and answers with them.
//!
//! ```text
//! cargo run --example headers --features testing -- [--server URL]
//! ```
//!
//! Without `--server` it starts a server of its own.

use std::error::Error;
use std::time::Duration;

use nats_blocking::{Headers, Message, check_header};

mod support;
use support::{Arguments, say};

const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, _own) = arguments.server()?;
    let connection = nats_blocking::connect(url)?;
    let subscription = connection.subscribe("measured")?;

    let mut headers = Headers::try_from_iter([("Sensor", "7"), ("Unit", "mm")])?;
    headers.append("Tag", "raw")?;
    headers.append("Tag", "unchecked")?;
    // In the place of the first value; `append` would add a third.
    headers.insert("Unit", "cm")?;
    connection.publish_with_headers("measured", &headers, "42")?;

    let message = subscription.next_timeout(PATIENCE)?;
    for (name, value) in message.headers() {
        say(format!("{name}: {value}"));
    }
    let received = message.headers();
    say(format!("first tag: {:?}, last tag: {:?}", received.get("Tag"), received.get_last("Tag")));
    say(format!("as written: {:?}", received.get("sensor")));
    say(format!("in any case: {:?}", received.get_ignore_case("sensor")));

    // What cannot be a header is refused before anything is sent.
    if let Err(error) = check_header("Not a name", "") {
        say(error);
    }

    // A request and its answer may have headers too.
    let dispatcher = connection.dispatcher(|connection, message| {
        let mut headers = message.headers().clone();
        let answered = headers.insert("Answered-By", "headers");
        let sent =
            answered.and_then(|()| connection.respond_with_headers(&message, &headers, "ok"));
        if let Err(error) = sent {
            say(error);
        }
    })?;
    dispatcher.subscribe("check")?;
    let trace = Headers::try_from_iter([("Trace", "1")])?;
    let reply = connection.request_with_headers("check", &trace, "", PATIENCE)?;
    say(format!("reply: {:?}", reply.headers().iter().collect::<Vec<_>>()));

    // A whole message is plain data: take it from one subject to another.
    let copy = Message::new("archive", message.payload_bytes());
    let copy = copy.with_headers(message.headers().clone()).with_header("Copied", "yes")?;
    let archive = connection.subscribe("archive")?;
    connection.publish_message(&copy)?;
    let names: Vec<String> =
        archive.next_timeout(PATIENCE)?.headers().names().map(str::to_owned).collect();
    say(format!("archived with: {}", names.join(", ")));
    Ok(())
}
