//! Hears of servers that join and leave the cluster, and prints all known and the discovered ones.
//!
//! ```text
//! cargo run --example discovered_servers --features testing
//! cargo run --example discovered_servers --features testing -- --server URL [--for SECONDS]
//! ```
//!
//! Alone it starts three servers of its own, of which one announces the others. With `--server` it
//! listens to that server until SIGINT, SIGTERM or the given time.

use std::error::Error;
use std::time::Duration;

use nats_blocking::testing::{Happening, Recorder, Server};
use nats_blocking::{Connection, ConnectionEvent, ConnectionEventKind as Kind, Options};

mod support;
use support::{Arguments, listen_until_the_end, say};

const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let signals = arguments.signals()?;
    let (url, own) = arguments.server()?;
    let recorder = Recorder::new();
    let connection = Options::builder()
        .server(url)
        .on_discovered_servers(show)
        .on_closed(|_, event| say(event))
        .connection_listener(recorder.clone())
        .connect()?;
    say(format!("Known servers: {}", connection.servers().join(", ")));
    match own {
        Some(server) => announce(&server, &recorder)?,
        None => return listen_until_the_end(&connection, signals, arguments.lasting),
    }
    connection.close();
    Ok(())
}

/// The callback: what changed is in the event, what is true now in the connection.
fn show(connection: &Connection, event: &ConnectionEvent) {
    if let Kind::DiscoveredServers { added, removed } = event.kind() {
        say(format!("Added: {}; removed: {}", added.join(", "), removed.join(", ")));
    }
    say(format!("Known servers: {}", connection.servers().join(", ")));
    say(format!("Discovered servers: {}", connection.discovered_servers().join(", ")));
}

/// A cluster grows to three servers and shrinks to two.
fn announce(server: &Server, recorder: &Recorder) -> Result<(), Box<dyn Error>> {
    let others = [Server::start()?, Server::start()?];
    let [second, third] = others.each_ref().map(|other| format!("127.0.0.1:{}", other.port()));
    let own = format!("127.0.0.1:{}", server.port());
    let lists: [&[&str]; 3] = [&[&own, &second], &[&own, &second, &third], &[&own, &third]];
    for (index, list) in lists.iter().enumerate() {
        server.announce_servers(list);
        recorder.wait_for_count(LIMIT, index + 1, |happening| {
            matches!(happening, Happening::Event(event)
                if matches!(event.kind(), Kind::DiscoveredServers { .. }))
        })?;
    }
    Ok(())
}
