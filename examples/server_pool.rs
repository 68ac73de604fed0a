//! Has a say in which server comes next: a selection callback, and a pool replaced at run time.
//!
//! ```text
//! cargo run --example server_pool --features testing
//! cargo run --example server_pool --features testing -- --server URL,URL [--for SECONDS]
//! ```
//!
//! Alone it starts three servers of its own. With `--server` it prefers the first of those servers
//! whenever it has to look for one, until SIGINT, SIGTERM or the given time.

use std::error::Error;
use std::time::Duration;

use nats_blocking::testing::{Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, Options, OptionsBuilder, SelectedServer, ServerChoice,
};

mod support;
use support::{Arguments, listen_until_the_end, say};

const LIMIT: Duration = Duration::from_secs(10);

/// The preferred server while it has failed less than three times, otherwise the usual order.
fn prefer(url: &str, choice: &ServerChoice) -> Option<SelectedServer> {
    let favourite = choice.servers().iter().find(|server| server.url() == url)?;
    let failed = favourite.failed_attempts();
    // A choice without a delay is tried at once.
    let delay = Duration::from_millis(20) * failed;
    (failed < 3).then(|| SelectedServer::new(url).with_delay(delay))
}

fn options(servers: &str, preferred: String) -> OptionsBuilder {
    Options::builder()
        .servers(servers)
        .no_randomize()
        .reconnect_wait(Duration::from_millis(50))
        .reconnect_jitter(Duration::from_millis(20))
        .select_server(move |choice| prefer(&preferred, choice))
        .on_event(|_, event| say(event))
}

/// One line for each server of the pool.
fn show(connection: &Connection) {
    for server in connection.server_pool() {
        let used = if server.is_in_use() { ", in use" } else { "" };
        say(format!("pool: {}, failed {}{used}", server.url(), server.failed_attempts()));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let signals = arguments.signals()?;
    if let Some(servers) = &arguments.server {
        let first = servers.split(',').next().unwrap_or_default().to_owned();
        let connection = options(servers, first).connect()?;
        show(&connection);
        return listen_until_the_end(&connection, signals, arguments.lasting);
    }
    let servers = [Server::start()?, Server::start()?, Server::start()?];
    let [first, second, third] = servers.each_ref().map(Server::url);
    let recorder = Recorder::new();
    let connection = options(&format!("{first},{second}"), first.clone())
        .connection_listener(recorder.clone())
        .connect()?;
    let back = |count| {
        recorder.wait_for_count(LIMIT, count, |happening| {
            matches!(happening.event_kind(), Some(Kind::Resubscribed { .. }))
        })
    };
    // It comes back to the server that it prefers, although that is the one that was lost.
    servers[0].drop_clients();
    back(1)?;
    show(&connection);
    // The preferred one is gone: after three failures the usual order holds.
    servers[0].stop();
    back(2)?;
    show(&connection);
    // From now on there is only the third. The one in use stays until it is left.
    connection.set_server_pool(&third)?;
    say(format!("still on {}", connection.connected_url().unwrap_or_default()));
    connection.force_reconnect()?;
    back(3)?;
    show(&connection);
    connection.close();
    Ok(())
}
