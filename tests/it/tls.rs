//! Servers, and others on the way to them, that would have us speak in clear, believe what was
//! said in clear, or wait for ever.
//!
//! What was recorded in clear never holds CONNECT, a user or a password.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use native_tls::Protocol;
use nats_blocking::testing::Recorder;
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, Error, ErrorKind, Headers, Options, OptionsBuilder,
    OutboxPolicy,
};

use crate::support::certificates::{Authority, Certificate};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::ports;
use crate::support::scripted::{ScriptedServer, Step};
use crate::support::tls_peer::{TlsPeer, acceptor, log_in, read_to_end, welcome};
use crate::support::wait::{Gate, poll};
use crate::support::watchdog::within;

/// For what takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(120);
const INFO: &str = "INFO {\"server_id\":\"S\",\"proto\":1,\"headers\":true,\"max_payload\":1048576,\
                    \"tls_required\":true,\"nonce\":\"abc\"";

fn info(further: &str) -> String {
    format!("{INFO}{further}}}\r\n")
}

fn options(url: &str) -> OptionsBuilder {
    Options::builder().server(url).connect_timeout(LIMIT).user_and_password("anna", "secret")
}

/// A connection that tries again soon, and what its listeners hear.
fn recorded(url: &str, authority: &Authority) -> (Connection, Recorder) {
    let recorder = Recorder::new();
    let connection = options(url)
        .root_certificates_file(&authority.file)
        .reconnect_wait(Duration::from_millis(10))
        .reconnect_jitter_tls(Duration::from_millis(5))
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()
        .unwrap();
    (connection, recorder)
}

/// Why the one attempt failed.
fn cause(options: OptionsBuilder) -> Error {
    let error = options.connect().unwrap_err();
    let [attempt] = error.attempts() else { panic!("{error}") };
    attempt.cause().clone()
}

/// Nothing that a client says to a server is in there.
fn assert_nothing_said(received: &[u8]) {
    let text = String::from_utf8_lossy(received);
    for said in ["CONNECT", "anna", "secret", "PING", "user", "pass", "sig"] {
        assert!(!text.contains(said), "'{said}' was said in clear: {text:?}");
    }
}

#[test]
fn whoever_strips_tls_from_info_hears_nothing() {
    within(LONG, "stripped", || {
        let authority = Authority::new();
        for said in ["{}", "{\"tls_required\":false,\"tls_available\":false}"] {
            let script = vec![Step::SendInfo(said.to_owned()), Step::Silence];
            let server = ScriptedServer::always(script);
            let secure = server.url().replace("nats://", "tls://");
            let all = [
                options(&secure),
                options(&server.url()).require_tls(),
                options(&server.url()).root_certificates_file(&authority.file),
                options(&format!("tls://anna:secret@{}", server.address())),
            ];
            for (index, options) in all.into_iter().enumerate() {
                let error = cause(options);
                assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
                let seen = server.connection(index, LIMIT);
                seen.wait_peer_closed(LIMIT);
                assert_eq!(seen.received(), b"");
            }
        }
    });
}

#[test]
fn a_server_that_says_it_has_tls_and_has_not_hears_nothing_but_the_beginning_of_it() {
    within(LONG, "lies", || {
        let info = info("").trim_end().strip_prefix("INFO ").unwrap().to_owned();
        let hello = |further: Step| vec![Step::SendInfo(info.clone()), further];
        for (script, kind) in [
            (hello(Step::Close), ErrorKind::Tls),
            (hello(Step::send("PONG\r\nPONG\r\n")), ErrorKind::Protocol),
        ] {
            let server = ScriptedServer::once(script);
            let error = cause(options(&server.url()));
            // Glued to INFO it is one thing, behind it the other.
            let also = kind == ErrorKind::Protocol && error.kind() == ErrorKind::Tls;
            assert!(error.kind() == kind || also, "{error}");
            let seen = server.connection(0, LIMIT);
            seen.wait_peer_closed(LIMIT);
            assert_nothing_said(&seen.received());
            drop(server.take_failures());
        }
    });
}

#[test]
fn what_is_glued_to_info_in_clear_ends_the_attempt() {
    within(LONG, "glued", || {
        for glued in ["PING\r\n", "MSG a 1 2\r\nhi\r\n", "INFO {}\r\n", "+OK\r\n", "x"] {
            let bytes = info("") + glued;
            let server = ScriptedServer::once(vec![Step::send(&bytes), Step::Silence]);
            let error = cause(options(&server.url()));
            assert_eq!(error.kind(), ErrorKind::Protocol, "{glued}: {error}");
            let seen = server.connection(0, LIMIT);
            seen.wait_peer_closed(LIMIT);
            assert_eq!(seen.received(), b"", "{glued}");
        }
    });
}

#[test]
fn a_refusal_in_clear_does_not_make_us_give_a_server_up() {
    within(LONG, "refusal in clear", || {
        let authority = Authority::new();
        let accept = acceptor(&authority, &authority.server(), None);
        let peer = TlsPeer::start(move |number, mut stream| match number {
            0 => drop(welcome(&accept, stream, &info(""))),
            1..5 => {
                let refusal = "-ERR 'Authorization Violation'\r\n";
                let bytes = if number % 2 == 0 { info("") + refusal } else { refusal.to_owned() };
                let _ = stream.write_all(bytes.as_bytes());
                assert_nothing_said(&read_to_end(&mut stream));
            }
            _ => {
                if let Some((mut tls, _)) = welcome(&accept, stream, &info("")) {
                    read_to_end(&mut tls);
                }
            }
        });
        let (connection, recorder) = recorded(&peer.address(), &authority);
        recorder
            .wait_for_event(LIMIT, |kind| matches!(kind, Kind::Reconnected { attempts: 5, .. }))
            .unwrap_or_else(|timeline| panic!("{timeline}"));
        connection.close();
        recorder.check().unwrap();
    });
}

#[test]
fn addresses_and_limits_that_were_said_in_clear_are_not_believed() {
    within(LONG, "in clear", || {
        let authority = Authority::new();
        let accept = acceptor(&authority, &authority.server(), None);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (hear, gate) = (heard.clone(), Gate::new());
        let passed = gate.clone();
        let peer = TlsPeer::start(move |_, stream| {
            let further = ",\"connect_urls\":[\"10.9.8.7:4222\"],\"ldm\":true";
            let in_clear = info(further).replace("1048576", "3");
            let in_clear = in_clear.replace("\"headers\":true", "\"headers\":false");
            let Some((mut tls, said)) = welcome(&accept, stream, &in_clear) else { return };
            hear.lock().unwrap().push(said);
            passed.wait(LIMIT);
            let over_tls = "INFO {\"max_payload\":7,\"connect_urls\":[\"10.1.1.1:4222\"]}\r\n";
            let _ = tls.write_all(over_tls.as_bytes());
            read_to_end(&mut tls);
        });
        let recorder = Recorder::new();
        let connection = options(&peer.address())
            .root_certificates_file(&authority.file)
            .connection_listener(recorder.clone())
            .connect()
            .unwrap();
        assert_eq!(connection.max_payload(), 1 << 20, "what is usual");
        assert!(connection.supports_headers());
        assert!(connection.server_info().connect_urls().is_empty());
        assert_eq!(connection.discovered_servers(), Vec::<String>::new());
        connection.publish("a", "longer than three").unwrap();
        let headers = Headers::try_from_iter([("Name", "value")]).unwrap();
        connection.publish_with_headers("a", &headers, "p").unwrap();
        let error = connection.publish("a", vec![0; (1 << 20) + 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MaxPayload, "{error}");
        gate.open();
        let told = poll(LIMIT, || {
            (connection.discovered_servers() == ["tls://10.1.1.1:4222"]).then_some(())
        });
        assert!(told.is_some(), "{:?}", connection.servers());
        assert_eq!(connection.max_payload(), 7);
        connection.close();
        let lame =
            recorder.count(|happening| matches!(happening.event_kind(), Some(Kind::LameDuck)));
        assert_eq!(lame, 0);
        let said = heard.lock().unwrap().concat();
        assert!(said.contains("\"tls_required\":true") && said.contains("anna"), "{said}");
        assert!(said.contains("\"headers\":true"), "{said}");
        assert!(said.contains("\"no_responders\":true"), "{said}");
    });
}

#[test]
fn a_larger_limit_that_was_said_in_clear_counts_for_a_server_that_says_it_only_there() {
    within(LONG, "larger in clear", || {
        let authority = Authority::new();
        let accept = acceptor(&authority, &authority.server(), None);
        let peer = TlsPeer::start(move |_, stream| {
            let in_clear = info("").replace("1048576", "2097152");
            if let Some((mut tls, _)) = welcome(&accept, stream, &in_clear) {
                read_to_end(&mut tls);
            }
        });
        let options = options(&peer.address()).root_certificates_file(&authority.file);
        let connection = options.connect().unwrap();
        assert_eq!(connection.max_payload(), 2 << 20);
        connection.publish("a", vec![0; 2 << 20]).unwrap();
        let error = connection.publish("a", vec![0; (2 << 20) + 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MaxPayload, "{error}");
        connection.close();
    });
}

#[test]
fn credentials_of_a_url_do_not_go_to_a_server_of_another_name() {
    within(LONG, "another name", || {
        let authority = Authority::new();
        let certificate = authority.server();
        let serve = |announced: Option<u16>, heard: Arc<Mutex<Vec<String>>>| {
            let accept = acceptor(&authority, &certificate, None);
            TlsPeer::start(move |number, stream| {
                if number > 0 && announced.is_some() {
                    return;
                }
                let Some((mut tls, said)) = welcome(&accept, stream, &info("")) else { return };
                heard.lock().unwrap().push(said);
                match announced {
                    Some(port) => {
                        let urls = format!("\"localhost:{port}\"");
                        let _ = write!(tls, "INFO {{\"connect_urls\":[{urls}]}}\r\nPING\r\n");
                        // The PONG says that the addresses were taken in; then the server goes.
                        let _ = tls.read(&mut [0; 64]);
                    }
                    None => drop(read_to_end(&mut tls)),
                }
            })
        };
        let (first, second) = (Arc::default(), Arc::default());
        let other = serve(None, Arc::clone(&second));
        let peer = serve(Some(other.port()), Arc::clone(&first));
        let connection = Options::builder()
            .server(format!("tls://anna:secret@127.0.0.1:{}", peer.port()))
            .connect_timeout(LIMIT)
            .root_certificates_file(&authority.file)
            .reconnect_wait(Duration::from_millis(10))
            .reconnect_jitter_tls(Duration::from_millis(5))
            .connect()
            .unwrap();
        let said = poll(LIMIT, || second.lock().unwrap().first().cloned());
        let said = said.expect("the other server was tried");
        assert!(!said.contains("anna") && !said.contains("secret"), "{said}");
        assert!(first.lock().unwrap()[0].contains("anna"));
        connection.close();
    });
}

#[test]
fn a_handshake_that_never_ends_costs_the_connect_time_out() {
    within(LONG, "endless", || {
        let limit = Duration::from_millis(400);
        // A record of 16 KiB, a byte at a time.
        let slow = [vec![0x16, 3, 3, 0x40, 0], vec![2; 1 << 14]].concat();
        let trickle = Step::SendSlowly { bytes: slow, every: Duration::from_millis(5) };
        for further in [Step::Silence, trickle] {
            let script = vec![Step::send(&info("")), Step::ExpectBytes(5), further];
            let server = ScriptedServer::once(script);
            let started = Instant::now();
            let error = cause(options(&server.url()).connect_timeout(limit));
            assert!(error.is_timeout(), "{error}");
            let took = started.elapsed();
            assert!(took >= limit && took < limit * 10, "{took:?}");
            assert_nothing_said(&server.connection(0, LIMIT).received());
            drop(server.take_failures());
        }
        // TLS before INFO, with one that never says anything.
        let server = ScriptedServer::once(vec![Step::Silence]);
        let error = cause(options(&server.url()).tls_first().connect_timeout(limit));
        assert!(error.is_timeout(), "{error}");
        assert_nothing_said(&server.connection(0, LIMIT).received());
    });
}

#[test]
fn a_server_that_speaks_in_clear_where_tls_comes_first_is_told_apart() {
    within(LONG, "first", || {
        let server = ScriptedServer::once(vec![Step::DefaultInfo, Step::Silence]);
        let error = cause(options(&server.url()).tls_first());
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(error.to_string().contains("in clear"), "{error}");
        assert_nothing_said(&server.connection(0, LIMIT).received());
    });
}

#[test]
fn close_cuts_a_handshake_off() {
    within(LONG, "cut off", || {
        let authority = Authority::new();
        let accept = acceptor(&authority, &authority.server(), None);
        let reached = Gate::new();
        let (reach, hold) = (reached.clone(), Gate::new());
        let held = hold.clone();
        let peer = TlsPeer::start(move |number, mut stream| {
            if number == 0 {
                drop(welcome(&accept, stream, &info("")));
            } else {
                let _ = stream.write_all(info("").as_bytes());
                // The client's hello is there; nothing answers it.
                let _ = stream.peek(&mut [0; 1]);
                reach.open();
                held.wait(LONG);
            }
        });
        let connection = options(&peer.address())
            .root_certificates_file(&authority.file)
            .connect_timeout(LONG)
            .reconnect_wait(Duration::from_millis(10))
            .connect()
            .unwrap();
        assert!(reached.wait(LIMIT));
        let started = Instant::now();
        connection.close();
        assert!(connection.wait_closed(LIMIT).is_ok());
        assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
        hold.open();
    });
}

/// Passes everything on between a client and the server at `upstream`, until so many bytes have
/// come from the client or from the server; then cuts the connection.
fn pass_on(client: &TcpStream, upstream: SocketAddr, upwards: u64, downwards: u64) {
    let server = TcpStream::connect(upstream).unwrap();
    let cut = |one: &TcpStream, other: &TcpStream| {
        let _ = one.shutdown(Shutdown::Both);
        let _ = other.shutdown(Shutdown::Both);
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut client.take(upwards), &mut &server);
            cut(client, &server);
        });
        let _ = std::io::copy(&mut (&server).take(downwards), &mut &*client);
        cut(client, &server);
    });
}

#[test]
fn a_connection_that_is_cut_at_any_byte_of_the_handshake_is_a_failed_attempt() {
    within(LONG, "cut", || {
        let authority = Authority::new();
        let certificate = authority.server();
        let server = NatsServer::start(&Config::new().extra(&certificate.tls_block("")));
        let upstream = server.client_address();
        let most = Arc::new(Mutex::new(0));
        let limit = most.clone();
        let proxy = TlsPeer::start(move |_, client| {
            pass_on(&client, upstream, u64::MAX, *limit.lock().unwrap());
        });
        let mut failed = 0;
        for bytes in (0..).step_by(31) {
            *most.lock().unwrap() = bytes;
            let options = options(&proxy.address()).root_certificates_file(&authority.file);
            let Err(error) = options.connect() else { break };
            let kind = error.attempts()[0].cause().kind();
            assert!(matches!(kind, ErrorKind::Tls | ErrorKind::Io), "{bytes}: {error}");
            failed += 1;
        }
        // What the server says of itself, its certificate, the end of the handshake, the PONG.
        assert!(failed > 40, "{failed} failed");
    });
}

#[test]
fn an_end_without_a_farewell_is_a_loss_and_one_with_it_too() {
    within(LONG, "ends", || {
        let authority = Authority::new();
        let accept = acceptor(&authority, &authority.server(), Some(Protocol::Tlsv12));
        let peer = TlsPeer::start(move |number, stream| {
            let Some((mut tls, _)) = welcome(&accept, stream, &info("")) else { return };
            match number {
                // The socket alone.
                0 => drop(tls.get_ref().shutdown(Shutdown::Both)),
                1 => drop(tls.shutdown()),
                // A record that nobody has encrypted.
                2 => {
                    let _ = tls.get_ref().write_all(&[0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5]);
                    read_to_end(&mut tls);
                }
                _ => drop(read_to_end(&mut tls)),
            }
        });
        let (connection, recorder) = recorded(&peer.address(), &authority);
        recorder
            .wait_for_count(LIMIT, 3, |happening| {
                matches!(happening.event_kind(), Some(Kind::Reconnected { .. }))
            })
            .unwrap_or_else(|timeline| panic!("{timeline}"));
        let causes: Vec<ErrorKind> = recorder
            .events()
            .iter()
            .filter_map(|event| match event.kind() {
                Kind::Disconnected { cause } => Some(cause.kind()),
                _ => None,
            })
            .collect();
        assert_eq!(causes, [ErrorKind::Io, ErrorKind::Io, ErrorKind::Tls]);
        connection.close();
        recorder.check().unwrap();
    });
}

/// The `openssl` command as a server, which does by a letter what no NATS server does.
struct Letters {
    child: Child,
    input: ChildStdin,
    output: Arc<Mutex<Vec<String>>>,
    reading: Option<JoinHandle<()>>,
    port: u16,
}

impl Letters {
    fn start(certificate: &Certificate, version: &str) -> Self {
        let port = ports::free();
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", &format!("127.0.0.1:{port}"), version])
            .args(["-naccept", "1", "-msg", "-cert"])
            .arg(&certificate.file)
            .arg("-key")
            .arg(&certificate.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the openssl command");
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let output = Arc::new(Mutex::new(Vec::new()));
        let seen = output.clone();
        let body = move || {
            for line in lines.map_while(Result::ok) {
                seen.lock().unwrap().push(line);
            }
        };
        let reading = thread::Builder::new().name("letters".to_owned()).spawn(body).unwrap();
        let server = Self { child, input, output, reading: Some(reading), port };
        server.wait("ACCEPT", 1);
        server
    }

    /// A line that begins with a letter that is a command is one; any other is said to the client.
    fn say(&mut self, line: &str) {
        self.input.write_all(line.as_bytes()).unwrap();
    }

    /// Waits until so many lines hold the text.
    fn wait(&self, text: &str, count: usize) {
        let found = poll(LIMIT, || (self.count(text) >= count).then_some(()));
        let output = self.output.lock().unwrap().clone();
        assert!(found.is_some(), "no '{text}': {output:?}");
    }

    fn count(&self, text: &str) -> usize {
        self.output.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }
}

impl Drop for Letters {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.reading.take().map(JoinHandle::join);
    }
}

#[test]
fn new_keys_go_through_a_connection_and_a_renegotiation_does_or_ends_it() {
    within(LONG, "new keys", || {
        let authority = Authority::new();
        let certificate = authority.server();
        for (version, command) in [("-tls1_3", "K"), ("-tls1_3", "k"), ("-tls1_2", "r")] {
            let mut server = Letters::start(&certificate, version);
            let url = format!("tls://127.0.0.1:{}", server.port);
            let options = options(&url).root_certificates_file(&authority.file);
            let connect = move || options.tls_first().no_reconnect().connect();
            let connecting =
                thread::Builder::new().name("connecting".to_owned()).spawn(connect).unwrap();
            server.wait("CIPHER is", 1);
            server.say(&info(""));
            server.wait("PING", 1);
            // In capital letters it would be a command.
            server.say("pong\r\n");
            let connection = connecting.join().unwrap().unwrap();
            let subscription = connection.subscribe("a").unwrap();
            server.wait("SUB a", 1);
            server.say(&format!("{command}\n"));
            // What it reads together with a command is dropped.
            if command == "r" {
                server.wait("HelloRequest", 1);
                // It is done if nothing is written meanwhile, and ends the connection otherwise.
                let again = "<<< TLS 1.2, Handshake [length 0010], Finished";
                let over = poll(LIMIT, || {
                    let _ = connection.publish("b", "meanwhile");
                    (connection.is_closed() || server.count(again) == 2).then_some(())
                });
                assert!(over.is_some(), "{connection:?}");
                if let Some(cause) = connection.last_error() {
                    assert_eq!(cause.kind(), ErrorKind::Tls, "{cause}");
                }
                connection.close();
                continue;
            }
            server.wait(">>> TLS 1.3, Handshake [length 0005], KeyUpdate", 1);
            server.say("MSG a 1 5\r\nhello\r\n");
            let message = subscription.next_timeout(LIMIT);
            let seen = || server.output.lock().unwrap().clone();
            assert!(message.is_ok(), "{command}: {message:?} {:?}", seen());
            connection.publish("b", "still there").unwrap();
            server.wait("still there", 1);
            if command == "K" {
                server.wait("<<< TLS 1.3, Handshake [length 0005], KeyUpdate", 1);
            }
            connection.close();
        }
    });
}

#[test]
fn a_server_of_tls_1_2_alone_is_served_too_and_refused_where_it_is_too_old() {
    within(LONG, "old TLS", || {
        use nats_blocking::TlsVersion;
        let authority = Authority::new();
        let accept = acceptor(&authority, &authority.server(), Some(Protocol::Tlsv12));
        let peer = TlsPeer::start(move |_, stream| {
            let Ok(mut tls) = accept.accept(stream) else { return };
            let _ = tls.write_all(info("").as_bytes());
            if log_in(&mut tls).is_some() {
                read_to_end(&mut tls);
            }
        });
        let options =
            || options(&peer.address()).root_certificates_file(&authority.file).tls_first();
        let connection = options().connect().unwrap();
        assert!(connection.is_tls());
        assert_eq!(connection.max_payload(), 1 << 20, "INFO came over TLS");
        connection.close();
        let error = cause(options().min_tls_version(TlsVersion::V1_3));
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(error.to_string().contains("version"), "{error}");
    });
}

/// A server that logs a client in, waits for its SUB and for the gate, says this and then nothing;
/// it reads nothing more.
fn deaf(authority: &Authority, said: Vec<u8>, gate: &Gate, end: &Gate) -> TlsPeer {
    let accept = acceptor(authority, &authority.server(), None);
    let (gate, end) = (gate.clone(), end.clone());
    TlsPeer::start(move |_, stream| {
        let Some((mut tls, _)) = welcome(&accept, stream, &info("")) else { return };
        let mut heard = Vec::new();
        let mut chunk = [0; 256];
        while !heard.ends_with(b"SUB a 1\r\n") {
            match tls.read(&mut chunk) {
                Ok(count @ 1..) => heard.extend_from_slice(&chunk[..count]),
                _ => return,
            }
        }
        gate.wait(LONG);
        let _ = tls.write_all(&said);
        end.wait(LONG);
    })
}

#[test]
fn reading_goes_on_while_the_server_takes_nothing() {
    within(LONG, "deaf", || {
        const COUNT: usize = 2_000;
        let authority = Authority::new();
        let (full, end) = (Gate::new(), Gate::new());
        let said = format!("MSG a 1 1024\r\n{}\r\n", "x".repeat(1_024)).repeat(COUNT);
        let peer = deaf(&authority, said.into_bytes(), &full, &end);
        let connection = options(&peer.address())
            .root_certificates_file(&authority.file)
            .outbox_policy(OutboxPolicy::Error)
            .no_reconnect()
            .connect()
            .unwrap();
        let subscription = connection.subscribe("a").unwrap();
        let payload = vec![0; 64 * 1024];
        let error = (0..10_000).find_map(|_| connection.publish("b", &payload).err());
        assert_eq!(error.expect("the outbox fills").kind(), ErrorKind::OutboxFull);
        full.open();
        for _ in 0..COUNT {
            assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload().len(), 1_024);
        }
        assert!(connection.pending_out().1 > 0, "nothing of it was taken");
        end.open();
        connection.close();
    });
}

#[test]
fn a_server_that_takes_nothing_is_left_at_the_write_time_out() {
    within(LONG, "write time-out", || {
        let authority = Authority::new();
        let (gate, end) = (Gate::new(), Gate::new());
        let peer = deaf(&authority, Vec::new(), &gate, &end);
        let connection = options(&peer.address())
            .root_certificates_file(&authority.file)
            .socket_write_timeout(Duration::from_millis(300))
            .no_reconnect()
            .connect()
            .unwrap();
        let _subscription = connection.subscribe("a").unwrap();
        let payload = vec![0; 64 * 1024];
        let error = (0..10_000).find_map(|_| connection.publish("b", &payload).err());
        assert!(error.is_some());
        let cause = connection.wait_closed(LIMIT).unwrap().expect("a cause");
        assert_eq!(cause.kind(), ErrorKind::WriteTimeout, "{cause}");
        gate.open();
        end.open();
    });
}

#[test]
fn messages_of_a_connection_that_is_cut_again_and_again_arrive_once_and_in_order() {
    within(LONG, "cuts", || {
        const CUTS: usize = 12;
        const COUNT: u32 = 40_000;
        let authority = Authority::new();
        let certificate = authority.server();
        let server = NatsServer::start(&Config::new().extra(&certificate.tls_block("")));
        let upstream = server.client_address();
        let proxy = TlsPeer::start(move |number, client| {
            let upwards = if number < CUTS { 20_000 + 7_919 * number as u64 } else { u64::MAX };
            pass_on(&client, upstream, upwards, u64::MAX);
        });
        let connect = |url: &str| {
            let options = options(url).root_certificates_file(&authority.file);
            let options = options.reconnect_wait(Duration::from_millis(5));
            options.reconnect_jitter_tls(Duration::from_millis(2)).connect().unwrap()
        };
        let receiver = connect(&server.url());
        let all = receiver.subscribe("n").unwrap();
        receiver.flush().unwrap();
        let sender = connect(&proxy.address());
        for number in 0..COUNT {
            sender.publish("n", format!("{number:0100}")).unwrap();
        }
        // What is left of the buffer follows with the connection that is not cut.
        let flushed = poll(LIMIT, || sender.flush_timeout(LIMIT).ok());
        assert!(flushed.is_some());
        sender.publish("n", format!("{COUNT:0100}")).unwrap();
        let mut last = None;
        let mut received = 0;
        while last != Some(COUNT) {
            let message = all.next_timeout(LIMIT).unwrap();
            let number = message.text().unwrap().parse().unwrap();
            assert!(last < Some(number), "{number} behind {last:?}");
            last = Some(number);
            received += 1;
        }
        let statistics = sender.statistics();
        println!("{received} of {COUNT} received, {} reconnects", statistics.reconnects());
        // How far a cut connection got is the system's affair; that there were some is ours.
        assert!(statistics.reconnects() >= 3 && received > 1);
        sender.close();
        receiver.close();
    });
}
