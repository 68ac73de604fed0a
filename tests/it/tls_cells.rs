//! The policy for TLS, cell by cell, on the wire: what is wanted, by what, against what a server
//! says and does, configured or discovered.
//!
//! Every byte of the client is overheard. Where TLS is wanted, none of them is of a login in clear.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use native_tls::TlsAcceptor;
use nats_blocking::{ErrorKind, Options, OptionsBuilder};

use crate::support::certificates::Authority;
use crate::support::ports;
use crate::support::tls_peer::{TlsPeer, acceptor, log_in, read_to_end};
use crate::support::watchdog::within;

/// For what takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(240);

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The login was in clear.
    Clear,
    /// It was over TLS, behind INFO.
    Upgraded,
    /// It was over TLS, and INFO too.
    First,
    /// There was none.
    Refused,
}
use Outcome::{Clear, First, Refused, Upgraded};

/// What a server says of TLS in its INFO, and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    Absent,
    Available,
    Required,
    /// Says that it is required, and has none.
    Lies,
}

const OFFERS: [Offer; 4] = [Offer::Absent, Offer::Available, Offer::Required, Offer::Lies];

impl Offer {
    fn info(self) -> String {
        let says = match self {
            Self::Absent => "",
            Self::Available => ",\"tls_available\":true",
            Self::Required | Self::Lies => ",\"tls_required\":true",
        };
        format!("INFO {{\"server_id\":\"S\",\"proto\":1,\"headers\":true{says}}}\r\n")
    }
}

/// A stream with a record of what came over it.
#[derive(Debug)]
struct Overheard {
    stream: TcpStream,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Read for Overheard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.heard.lock().unwrap().extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl Write for Overheard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Serves one client as far as it goes, then hands it to `after`. Returns how far that was, and
/// every byte that came by then.
fn serve(
    accept: &TlsAcceptor,
    (offer, first): (Offer, bool),
    stream: TcpStream,
    after: impl FnOnce(&mut dyn ReadWrite),
) -> (Outcome, Vec<u8>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&heard);
    let mut stream = Overheard { stream, heard };
    let seen = |outcome| (outcome, all.lock().unwrap().clone());
    if first && offer != Offer::Lies {
        let Ok(mut tls) = accept.accept(stream) else { return seen(Refused) };
        // A client that is closed meanwhile is gone.
        let told = tls.write_all(offer.info().as_bytes()).is_ok();
        let logged_in = told && log_in(&mut tls).is_some();
        let result = seen(if logged_in { First } else { Refused });
        after(&mut tls);
        return result;
    }
    let told = stream.write_all(offer.info().as_bytes()).is_ok();
    let mut byte = [0];
    if !told || !matches!(stream.stream.peek(&mut byte), Ok(1)) {
        return seen(Refused);
    }
    if byte != [22] {
        let logged_in = log_in(&mut stream).is_some();
        let result = seen(if logged_in { Clear } else { Refused });
        after(&mut stream);
        return result;
    }
    if offer == Offer::Lies {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"PONG\r\nPONG\r\n");
        read_to_end(&mut stream);
        return seen(Refused);
    }
    let Ok(mut tls) = accept.accept(stream) else { return seen(Refused) };
    let logged_in = log_in(&mut tls).is_some();
    let result = seen(if logged_in { Upgraded } else { Refused });
    after(&mut tls);
    result
}

trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

/// Nothing that a client says to a server is in there, unless it was to be in clear.
fn assert_nothing_said(outcome: Outcome, heard: &[u8], cell: &str) {
    let text = String::from_utf8_lossy(heard);
    for said in ["CONNECT", "anna", "secret"] {
        assert_eq!(text.contains(said), outcome == Clear, "'{said}' of {cell}: {text:?}");
    }
}

/// Any certificate will do here: what counts is whether there is TLS at all.
fn options() -> OptionsBuilder {
    Options::builder()
        .no_randomize()
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(10))
        .reconnect_jitter(Duration::ZERO)
        .reconnect_jitter_tls(Duration::ZERO)
        .user_and_password("anna", "secret")
        .danger_accept_invalid_certs()
}

/// For each offer, in the order of `OFFERS`.
fn expected(wanted: bool, first: bool) -> [Outcome; 4] {
    match (wanted, first) {
        (false, false) => [Clear, Clear, Upgraded, Refused],
        (true, false) => [Refused, Upgraded, Upgraded, Refused],
        (_, true) => [First, First, First, Refused],
    }
}

#[test]
fn a_configured_server_gets_its_login_as_it_is_wanted_and_never_in_clear_where_tls_is() {
    within(LONG, "configured", || {
        let authority = Authority::new();
        let accept = acceptor(&authority, &authority.server(), None);
        let closed = ports::listen().local_addr().unwrap();
        for bits in 0..16_u8 {
            let [option, first, url, other] = [0, 1, 2, 3].map(|at| bits & (1 << at) != 0);
            let outcomes = expected(option || url || other, first);
            for (offer, outcome) in OFFERS.into_iter().zip(outcomes) {
                let cell = format!("option {option}, first {first}, url {url}, other {other}");
                let cell = format!("{cell}, {offer:?}");
                let (send, seen) = mpsc::channel();
                let accept = accept.clone();
                let peer = TlsPeer::start(move |_, stream| {
                    let result = serve(&accept, (offer, first), stream, |mut client| {
                        drop(read_to_end(&mut client))
                    });
                    send.send(result).unwrap();
                });
                let scheme = if url { "tls" } else { "nats" };
                let mut options = options().server(format!("{scheme}://{}", peer.address()));
                if option {
                    options = options.require_tls();
                }
                if first {
                    options = options.tls_first();
                }
                if other {
                    options = options.server(format!("tls://{closed}"));
                }
                match options.connect() {
                    Ok(connection) => {
                        assert_ne!(outcome, Refused, "{cell}");
                        assert_eq!(connection.is_tls(), outcome != Clear, "{cell}");
                        connection.close();
                    }
                    Err(error) => {
                        assert_eq!(outcome, Refused, "{cell}: {error}");
                        let cause = error.attempts()[0].cause();
                        let kinds = [ErrorKind::Tls, ErrorKind::Protocol];
                        let kinds = if offer == Offer::Lies { &kinds[..] } else { &kinds[..1] };
                        assert!(kinds.contains(&cause.kind()), "{cell}: {cause}");
                    }
                }
                let (found, heard) = seen.recv_timeout(LIMIT).unwrap();
                assert_eq!(found, outcome, "{cell}");
                assert_nothing_said(outcome, &heard, &cell);
                assert!(offer == Offer::Lies || outcome != Refused || heard.is_empty(), "{cell}");
            }
        }
    });
}

/// By what a connection came to TLS, or did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Through {
    Clear,
    /// The server required it.
    Server,
    Url,
    Option,
    First,
}

#[test]
fn a_discovered_server_gets_no_less_than_the_connection_it_was_learned_through() {
    within(LONG, "discovered", || {
        let authority = Authority::new();
        let accept = acceptor(&authority, &authority.server(), None);
        for through in
            [Through::Clear, Through::Server, Through::Url, Through::Option, Through::First]
        {
            let first = through == Through::First;
            for (offer, outcome) in
                OFFERS.into_iter().zip(expected(through != Through::Clear, first))
            {
                let cell = format!("through {through:?}, {offer:?}");
                let (send, seen) = mpsc::channel();
                let its = accept.clone();
                let other = TlsPeer::start(move |_, stream| {
                    // Then it goes too, so that it can be told what came.
                    let result = serve(&its, (offer, first), stream, |_| ());
                    let _ = send.send(result);
                });
                let (port, own) = (other.port(), accept.clone());
                let said = if through == Through::Clear { Offer::Absent } else { Offer::Required };
                let home = TlsPeer::start(move |number, stream| {
                    if number > 0 {
                        return;
                    }
                    serve(&own, (said, first), stream, |client| {
                        let urls = format!("\"127.0.0.1:{port}\"");
                        let _ = write!(client, "INFO {{\"connect_urls\":[{urls}]}}\r\nPING\r\n");
                        // The PONG says that the address was taken in; then the server goes.
                        let _ = client.read(&mut [0; 64]);
                    });
                });
                let scheme = if through == Through::Url { "tls" } else { "nats" };
                let mut options = options().server(format!("{scheme}://{}", home.address()));
                match through {
                    Through::Option => options = options.require_tls(),
                    Through::First => options = options.tls_first(),
                    _ => {}
                }
                let connection = options.connect().unwrap();
                let result = seen.recv_timeout(LIMIT);
                let (found, heard) = result.unwrap_or_else(|_| panic!("nobody came {cell}"));
                assert_eq!(found, outcome, "{cell}");
                assert_nothing_said(outcome, &heard, &cell);
                connection.close();
            }
        }
    });
}

#[test]
#[cfg(feature = "websocket")]
fn over_websocket_the_url_has_tls_or_nothing_is_said_where_it_is_wanted() {
    within(LONG, "websocket", || {
        let closed = ports::listen().local_addr().unwrap();
        for bits in 1..8_u8 {
            let [option, first, other] = [0, 1, 2].map(|at| bits & (1 << at) != 0);
            let peer = TlsPeer::start(|_, _| panic!("nobody calls"));
            let mut options = options().server(format!("ws://{}", peer.address()));
            if option {
                options = options.require_tls();
            }
            if first {
                options = options.tls_first();
            }
            if other {
                options = options.server(format!("wss://{closed}"));
            }
            let error = options.connect().unwrap_err();
            let cause = error.attempts()[0].cause();
            assert_eq!(cause.kind(), ErrorKind::Tls, "{cause}");
            assert!(cause.to_string().contains("wss://"), "{cause}");
        }
    });
}
