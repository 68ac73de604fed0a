//! One thread waits on many subscriptions, of two connections, and takes them in turns.
//!
//! ```text
//! cargo run --example subscription_set --features testing -- [--server URL]
//! ```
//!
//! Without `--server` it starts a server of its own.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use nats_blocking::{Consumer, SubscriptionSet};

mod support;
use support::{Arguments, say};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, _own) = arguments.server()?;
    let first = nats_blocking::connect(&url)?;
    let second = nats_blocking::connect(&url)?;

    let set = SubscriptionSet::new();
    let mut names = BTreeMap::new();
    for (connection, subject) in [(&first, "orders"), (&first, "invoices"), (&second, "alarms")] {
        let subscription = connection.subscribe(subject)?;
        // Its end comes from the set like its messages, behind the last of them.
        subscription.unsubscribe_after(if subject == "orders" { 6 } else { 2 })?;
        say(format!("waiting for '{}'", subscription.subject()));
        names.insert(set.add(subscription), subject);
    }
    // The servers know of all of them.
    first.flush()?;
    second.flush()?;
    for number in 1..=6 {
        first.publish("orders", format!("order {number}"))?;
    }
    for number in 1..=2 {
        first.publish("invoices", format!("invoice {number}"))?;
        first.publish("alarms", format!("alarm {number}"))?;
    }
    // All of it has arrived when both have heard from the server: now they take turns.
    first.flush()?;
    second.flush()?;

    // It ends when the last subscription has ended.
    for (key, outcome) in &set {
        let name = names.get(&key).copied().unwrap_or("?");
        match outcome {
            Ok(message) => say(format!("{name}: {}", String::from_utf8_lossy(message.payload()))),
            Err(error) if error.is_closed() => say(format!("{name} ended: {error}")),
            Err(error) => say(format!("{name}: {error}")),
        }
    }

    // More may be added at any time, and removed with what waits for it.
    let late = set.add(first.subscribe("late")?);
    first.publish("late", "still here")?;
    let (key, outcome) = set.next_timeout(Duration::from_secs(5))?;
    say(format!(
        "late: {}, the same: {}",
        String::from_utf8_lossy(outcome?.payload()),
        key == late
    ));
    let delivered = set.get(late).map_or(0, |view| view.delivered());
    drop(set.remove(late));
    say(format!("late delivered {delivered}; left in the set: {}", set.len()));
    Ok(())
}
