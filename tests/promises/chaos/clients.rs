//! The clients: each behind three proxies of its own, one for each node.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nats_blocking::testing::Recorder;
use nats_blocking::{Connection, Dispatcher, ErrorKind, Options, PendingLimits};

use super::wire::{Entry, Wire};
use crate::ledger;
use crate::support::cluster::Cluster;
use crate::support::proxy::Proxy;

/// What a request waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// One connection and its ways to the nodes.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) tls: bool,
    pub(crate) connection: Connection,
    pub(crate) recorder: Recorder,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) wire: Wire,
}

impl Client {
    /// Over TLS if there is an authority to trust.
    pub(crate) fn new(name: &'static str, cluster: &Cluster, authority: Option<&Path>) -> Self {
        let wire = Wire::default();
        let start = |(at, node): (usize, &crate::support::nats_server::NatsServer)| {
            Proxy::start_watched(node.client_address(), at as u64, Some(wire.watch(at)))
        };
        let proxies: Vec<Proxy> = cluster.nodes().iter().enumerate().map(start).collect();
        let urls: Vec<String> = proxies.iter().map(Proxy::url).collect();
        let recorder = Recorder::new();
        let mut options = Options::builder()
            .servers(urls.join(","))
            .name(name)
            // The nodes announce themselves, and that would lead around the proxies.
            .ignore_discovered_servers()
            .ignore_authorization_abort()
            .connect_timeout(Duration::from_secs(2))
            .reconnect_wait(Duration::from_millis(20))
            .reconnect_jitter(Duration::from_millis(20))
            .reconnect_jitter_tls(Duration::from_millis(20))
            .ping_interval(Duration::from_millis(500))
            .max_pings_out(2)
            .pending_limits(PendingLimits::UNLIMITED)
            .connection_listener(recorder.clone())
            .error_listener(recorder.clone());
        if let Some(authority) = authority {
            options = options.require_tls().root_certificates_file(authority);
        }
        let connection = options.connect().unwrap();
        Self { name, tls: authority.is_some(), connection, recorder, proxies, wire }
    }
}

/// What one publisher did.
pub(crate) struct Publisher {
    pub(crate) id: u32,
    pub(crate) accepted: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Publisher {
    pub(crate) fn start(id: u32, connection: &Connection, stop: &Arc<AtomicBool>) -> Self {
        let (connection, stop) = (connection.clone(), Arc::clone(stop));
        let accepted: Arc<AtomicU64> = Arc::default();
        let count = Arc::clone(&accepted);
        let thread = thread::spawn(move || {
            let (subject, mut payload) = (format!("chaos.{id}"), Vec::new());
            while !stop.load(Ordering::SeqCst) {
                for _ in 0..10 {
                    let number = count.load(Ordering::SeqCst);
                    ledger::write(&mut payload, id, number, (number % 200) as usize);
                    match connection.publish(&subject, &payload) {
                        Ok(()) => _ = count.fetch_add(1, Ordering::SeqCst),
                        Err(error) => {
                            let full = matches!(
                                error.kind(),
                                ErrorKind::OutboxFull | ErrorKind::ReconnectBufferFull
                            );
                            assert!(full, "publish: {error}");
                            break;
                        }
                    }
                }
                // Paces: a steady stream beside the faults.
                thread::sleep(Duration::from_millis(10));
            }
        });
        Self { id, accepted, thread }
    }

    pub(crate) fn join(self) -> (u32, u64) {
        self.thread.join().unwrap();
        (self.id, self.accepted.load(Ordering::SeqCst))
    }
}

/// Everything that a receiver's handler was given.
pub(crate) struct Receiver {
    pub(crate) handed: Arc<Mutex<Vec<Entry>>>,
    pub(crate) corrupted: Arc<AtomicU64>,
    _dispatcher: Dispatcher,
}

impl Receiver {
    pub(crate) fn start(connection: &Connection) -> Self {
        let (handed, corrupted): (Arc<Mutex<Vec<Entry>>>, Arc<AtomicU64>) = Default::default();
        let (list, bad) = (Arc::clone(&handed), Arc::clone(&corrupted));
        let dispatcher = connection
            .dispatcher(move |_, message| match ledger::read(message.payload()) {
                Some(entry) => list.lock().unwrap().push(entry),
                None => _ = bad.fetch_add(1, Ordering::SeqCst),
            })
            .unwrap();
        dispatcher.subscribe("chaos.*").unwrap();
        connection.flush().unwrap();
        Self { handed, corrupted, _dispatcher: dispatcher }
    }
}

/// What became of requests.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) answered: AtomicU64,
    pub(crate) failed: AtomicU64,
}

pub(crate) fn respond(connection: &Connection) -> Dispatcher {
    let dispatcher = connection
        .dispatcher(|connection, message| {
            // A full buffer: the one who asks waits in vain.
            let _ = connection.respond(&message, message.payload());
        })
        .unwrap();
    dispatcher.subscribe("ask").unwrap();
    connection.flush().unwrap();
    dispatcher
}

pub(crate) fn ask(
    connection: &Connection,
    stop: &Arc<AtomicBool>,
    asked: &Arc<Asked>,
) -> JoinHandle<()> {
    let (connection, stop, asked) = (connection.clone(), Arc::clone(stop), Arc::clone(asked));
    thread::spawn(move || {
        let mut number = 0_u64;
        while !stop.load(Ordering::SeqCst) {
            number += 1;
            match connection.request("ask", number.to_be_bytes(), PATIENCE) {
                Ok(reply) => {
                    assert_eq!(reply.payload(), number.to_be_bytes(), "a reply to another request");
                    asked.answered.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) => {
                    let meant = matches!(
                        error.kind(),
                        ErrorKind::Timeout
                            | ErrorKind::NoResponders
                            | ErrorKind::ReconnectBufferFull
                    );
                    assert!(meant, "request: {error}");
                    asked.failed.fetch_add(1, Ordering::SeqCst);
                }
            }
            // Paces: a steady stream beside the faults.
            thread::sleep(Duration::from_millis(5));
        }
    })
}
