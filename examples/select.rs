//! Waits on a subscription, on the events of the connection and on a channel of the program at
//! once, with the `select!` of crossbeam-channel.
//!
//! ```text
//! cargo run --example select --features testing,crossbeam-channel -- [--server URL]
//! ```
//!
//! Without `--server` it starts a server of its own.

use std::error::Error;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, select};

mod support;
use support::{Arguments, say};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, _own) = arguments.server()?;
    let connection = nats_blocking::connect(&url)?;
    let subscription = connection.subscribe("ticks")?;
    let events = connection.events();
    let (commands, of_program) = bounded(1);
    connection.flush()?;

    // Another part of the program: publishes, and says so.
    let (other, done) = (connection.clone(), commands.clone());
    let work = move || -> Result<(), nats_blocking::Error> {
        for number in 1..=3 {
            other.publish("ticks", format!("tick {number}"))?;
        }
        other.flush()?;
        // Whether somebody still listens is not this thread's matter.
        let _ = done.send("enough");
        Ok(())
    };
    let worker = thread::Builder::new().name("worker".to_owned()).spawn(work)?;

    let (mut ticks, mut enough) = (0, false);
    loop {
        if ticks == 3 && enough {
            connection.close();
        }
        select! {
            // A token says that there is something to take: one `try_next` for each.
            recv(subscription.ready()) -> _ => match subscription.try_next() {
                Ok(Some(message)) => {
                    ticks += 1;
                    say(String::from_utf8_lossy(message.payload()));
                }
                Ok(None) => {}
                Err(error) => {
                    say(format!("the subscription ended: {error}"));
                    break;
                }
            },
            recv(events.ready()) -> _ => {
                if let Some(notice) = events.try_next() {
                    say(notice);
                }
            },
            // `commands` keeps this channel open: the arm is ready only for a command.
            recv(of_program) -> command => {
                say(format!("command: {}", command?));
                enough = true;
            }
            default(Duration::from_secs(30)) => return Err("nothing came".into()),
        }
    }
    drop(commands);
    // What the connection told before its end, if the end of the subscription was seen first.
    for notice in events {
        say(notice);
    }
    worker.join().map_err(|_| "the worker panicked")??;
    Ok(())
}
