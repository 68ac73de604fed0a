//! The faults of the lists that are about TLS, long credentials and options from text; each test
//! provokes what that client did.

use std::time::{Duration, Instant};

use nats_blocking::{ErrorKind, Options};

use super::stage::{Client, LONG, quick, within};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::scripted::{Afterwards, ScriptedServer, Step};
use crate::support::wait::Gate;

#[cfg(feature = "tls")]
#[test]
fn java_fault_15_a_certificate_for_another_name_is_refused_without_any_option() {
    use crate::support::certificates::{Authority, Valid};
    within("the name", || {
        let authority = Authority::new();
        let certificate = authority.issue("other", "DNS:elsewhere.example", Valid::Now);
        let server = NatsServer::start(&Config::new().extra(&certificate.tls_block("")));
        let url = format!("tls://localhost:{}", server.port());
        let options = quick(&url).root_certificates_file(&authority.file);
        let error = options.connect().unwrap_err();
        let cause = error.attempts()[0].cause();
        assert_eq!(cause.kind(), ErrorKind::Tls, "{error}");
        assert!(cause.to_string().contains("not for the name 'localhost'"), "{cause}");
        // The same authority, the right name: that is all that was wrong.
        let right = authority.issue("right", "DNS:localhost", Valid::Now);
        let server = NatsServer::start(&Config::new().extra(&right.tls_block("")));
        let url = format!("tls://localhost:{}", server.port());
        let client = Client::with(&url, |_| quick(&url).root_certificates_file(&authority.file));
        assert!(client.is_tls());
        client.flush_timeout(LONG).unwrap();
        client.finish();
    });
}

#[cfg(feature = "nkeys")]
#[test]
fn java_fault_22_a_jwt_longer_than_a_control_line_gets_through() {
    use crate::support::jwt::{Account, Key, Operator};
    within("a long JWT", || {
        let (operator, account, user) = (Operator::new(), Account::new(), Key::user());
        let jwt = account.long_user_jwt(&user, 10_000);
        let config = Config::new().operator(&operator, &[&account]).max_control_line(65_536);
        let server = NatsServer::start(&config);
        let client = Client::with(&server.url(), |options| options.jwt_and_seed(jwt, user.seed()));
        client.flush_timeout(LONG).unwrap();
        client.finish();
    });
}

#[test]
fn java_fault_29_what_zero_and_none_mean_in_a_properties_file_is_so() {
    let read = |text: &str| Options::from_properties(text).and_then(|options| options.build());
    // Java's documentation calls 0 an off switch here, and its code refuses it.
    let error = read("io.nats.client.socket.write.timeout=0").unwrap_err();
    assert!(error.to_string().contains("above zero"), "{error}");
    // What is documented as a switch is one.
    for (line, shown) in [
        ("io.nats.client.pinginterval=0", "ping_interval: None"),
        ("io.nats.client.maxpings=0", "max_pings_out: None"),
        ("io.nats.client.reconnect.max=-1", "max_attempts: None"),
        ("io.nats.client.reconnect.buffer.size=0", "reconnect_buffer: Off"),
    ] {
        let options = format!("{:?}", read(line).unwrap());
        assert!(options.contains(shown), "{line}: no {shown} in {options}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn choice_07_a_failed_tls_handshake_is_told_like_every_failed_attempt() {
    use nats_blocking::ConnectionEventKind as Kind;
    within("a failed handshake", || {
        // It wants TLS, and answers in clear.
        let info = "INFO {\"tls_required\":true,\"proto\":1,\"max_payload\":1000}\r\n";
        let mut first = Step::handshake();
        first.push(Step::Close);
        let second = vec![Step::send(info), Step::ExpectBytes(1), Step::send("no TLS\r\n")];
        let server = ScriptedServer::start(vec![first, second], Afterwards::Repeat);
        let client = Client::connect(&server.url());
        let Kind::ReconnectFailed { attempt, cause, .. } = client.event("ReconnectFailed", 1)
        else {
            panic!("no failed attempt")
        };
        assert_eq!((attempt, cause.kind()), (1, ErrorKind::Tls), "{cause}");
        let told = |happening: &nats_blocking::testing::Happening| {
            matches!(happening, nats_blocking::testing::Happening::Exception(error)
                if error.kind() == ErrorKind::Tls)
        };
        assert!(client.recorder.count(told) > 0, "the error listener hears of it too");
        client.finish();
    });
}

#[cfg(feature = "tls")]
#[test]
fn old_crate_fault_09_a_silent_tls_handshake_costs_the_connect_timeout() {
    within("a silent handshake", || {
        let info = "INFO {\"tls_required\":true,\"proto\":1,\"max_payload\":1000}\r\n";
        let script = vec![Step::send(info), Step::ExpectBytes(1), Step::Wait(Gate::new())];
        let server = ScriptedServer::always(script);
        let timeout = Duration::from_millis(400);
        let started = Instant::now();
        let error = quick(&server.url()).connect_timeout(timeout).connect().unwrap_err();
        let took = started.elapsed();
        assert_eq!(error.attempts()[0].cause().kind(), ErrorKind::Timeout, "{error}");
        assert!(took >= timeout && took < LONG, "{took:?}");
    });
}
