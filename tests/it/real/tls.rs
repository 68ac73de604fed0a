//! Over TLS.
//!
//! The server's certificate is one of the test's own; what a bad one does is in `tls_refused`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nats_blocking::{ErrorKind, Options, OptionsBuilder, TlsVersion};

use super::{Client, LIMIT, closed, disconnected, quick, reconnected};
use crate::support::certificates::{Authority, Valid};
use crate::support::cluster::Cluster;
use crate::support::nats_server::{Config, NatsServer};
use crate::support::wait::poll;
use crate::support::watchdog::within;

const LONG: Duration = Duration::from_secs(120);

/// A server with the usual certificate and these lines in its `tls` block.
fn server(authority: &Authority, further: &str) -> NatsServer {
    NatsServer::start(&config(authority, further))
}

fn config(authority: &Authority, further: &str) -> Config {
    Config::new().extra(&authority.server().tls_block(further))
}

fn trusting(authority: &Authority, url: &str) -> OptionsBuilder {
    quick(url).root_certificates_file(&authority.file)
}

#[test]
fn a_server_that_requires_tls_gets_it_by_url_by_option_and_without_being_asked() {
    within(LONG, "tls required", || {
        let authority = Authority::new();
        let server = server(&authority, "");
        let secure = server.url().replace("nats://", "tls://");
        let named = secure.replace("127.0.0.1", "localhost");
        let pem = fs::read(&authority.file).unwrap();
        for options in [
            trusting(&authority, &server.url()),
            trusting(&authority, &secure),
            trusting(&authority, &named),
            trusting(&authority, &server.url()).require_tls(),
            quick(server.url()).root_certificates(pem),
            quick(server.url()).danger_accept_invalid_certs(),
        ] {
            let client = Client::connect(options);
            assert!(client.is_tls());
            client.round_trip("a");
            assert_eq!(client.max_payload(), 1 << 20, "the limit was told again over TLS");
            client.flush().unwrap();
            client.finish();
        }
    });
}

#[test]
fn a_server_that_offers_tls_gets_it_only_when_it_is_wanted() {
    within(LONG, "tls available", || {
        let authority = Authority::new();
        let server = NatsServer::start(&config(&authority, "").extra("allow_non_tls: true"));
        let plain = Client::connect(quick(server.url()));
        assert!(!plain.is_tls() && plain.server_info().tls_available());
        plain.finish();
        let client = Client::connect(trusting(&authority, &server.url()));
        assert!(client.is_tls());
        client.round_trip("a");
        client.finish();
    });
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_wanted() {
    within(LONG, "no tls", || {
        let authority = Authority::new();
        let server = NatsServer::start_plain();
        let secure = server.url().replace("nats://", "tls://");
        for options in [
            quick(secure),
            quick(server.url()).require_tls(),
            trusting(&authority, &server.url()),
            quick(server.url()).tls_first(),
            quick(server.url()).min_tls_version(TlsVersion::V1_2),
            // One URL asks for all.
            quick([server.url(), "tls://127.0.0.1:1".to_owned()]).no_randomize(),
        ] {
            let error = options.connect().unwrap_err();
            let cause = error.attempts()[0].cause();
            assert_eq!(cause.kind(), ErrorKind::Tls, "{error}");
        }
        assert!(!server.log().contains("Client connection closed: Parser"), "{}", server.log());
    });
}

#[test]
fn tls_may_come_before_info() {
    within(LONG, "tls first", || {
        let authority = Authority::new();
        let config = config(&authority, "handshake_first: true").tls_first();
        let server = NatsServer::start(&config);
        let client = Client::connect(trusting(&authority, &server.url()).tls_first());
        assert!(client.is_tls() && client.server_info().tls_required());
        client.round_trip("a");
        client.finish();

        // Both wait for the other to begin.
        let limit = Duration::from_millis(300);
        let options = trusting(&authority, &server.url()).connect_timeout(limit);
        let error = options.connect().unwrap_err();
        assert!(error.attempts()[0].cause().is_timeout(), "{error}");
    });
}

#[test]
fn a_server_of_tls_1_3_alone_is_served() {
    within(LONG, "versions", || {
        let authority = Authority::new();
        let newest = server(&authority, "min_version: \"1.3\"");
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let options = trusting(&authority, &newest.url()).min_tls_version(version);
            let client = Client::connect(options);
            client.round_trip("a");
            client.finish();
        }
    });
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_wants_one() {
    within(LONG, "client certificate", || {
        let authority = Authority::new();
        let ca = authority.file.display();
        let server = server(&authority, &format!("ca_file: \"{ca}\"\n  verify: true"));
        let client = authority.issue("client", "DNS:client", Valid::Now);
        let archive = authority.archive(&client, "word");
        let options = || trusting(&authority, &server.url());
        let (certificate, key) = (fs::read(&client.file).unwrap(), fs::read(&client.key).unwrap());
        for options in [
            options().client_certificate_files(&client.file, &client.key),
            options().client_certificate(certificate, key),
            options().client_certificate_pkcs12_file(&archive, "word"),
            options().client_certificate_pkcs12(fs::read(&archive).unwrap(), "word"),
        ] {
            let client = Client::connect(options);
            client.round_trip("a");
            client.finish();
        }
    });
}

#[test]
fn a_client_reconnects_over_tls_with_the_certificate_of_that_time() {
    within(LONG, "reconnect", || {
        let authority = Authority::new();
        let ca = authority.file.display();
        let mut server = server(&authority, &format!("ca_file: \"{ca}\"\n  verify: true"));
        let first = authority.issue("client", "DNS:client", Valid::Now);
        let client = Client::connect(
            trusting(&authority, &server.url()).client_certificate_files(&first.file, &first.key),
        );
        let subscription = client.subscribe("a").unwrap();
        client.flush().unwrap();
        server.kill();
        client.wait(disconnected);
        assert!(!client.is_tls());
        client.publish("a", "meanwhile").unwrap();
        // A file that is missing for a while costs an attempt, no more.
        let kept = fs::read(&first.key).unwrap();
        fs::remove_file(&first.key).unwrap();
        let told = |error: &nats_blocking::Error| {
            error.kind() == ErrorKind::Tls
                && error.to_string().contains(first.key.to_str().unwrap())
        };
        let failed = poll(LIMIT, || client.last_error().filter(&told));
        assert!(failed.is_some(), "{}", client.timeline("no error about the key"));
        fs::write(&first.key, kept).unwrap();
        server.restart();
        client.wait(reconnected);
        assert!(client.is_tls());
        assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload(), b"meanwhile");
        client.round_trip("b");
        client.finish();
    });
}

#[test]
fn root_certificates_are_those_that_the_file_holds_at_that_time() {
    within(LONG, "another root", || {
        let (authority, other) = (Authority::new(), Authority::new());
        let server = server(&authority, "");
        let right = fs::read(&authority.file).unwrap();
        let wrong = fs::read(&other.file).unwrap();
        let options = trusting(&other, &server.url()).build().unwrap();
        for round in 0..2 {
            let error = options.connect().unwrap_err();
            let kind = error.attempts()[0].cause().kind();
            assert_eq!(kind, ErrorKind::Tls, "round {round}: signed by another");
            fs::write(&other.file, &right).unwrap();
            for _ in 0..2 {
                options.connect().unwrap().close();
            }
            fs::write(&other.file, "\n").unwrap();
            let text = options.connect().unwrap_err().to_string();
            assert!(text.contains(&other.file.display().to_string()), "{text}");
            fs::write(&other.file, &wrong).unwrap();
        }
    });
}

#[test]
fn discovered_servers_inherit_tls_and_the_verified_name() {
    within(LONG, "cluster", || {
        let authority = Authority::new();
        // For the name alone: the addresses that the servers announce are not in it.
        let certificate = authority.issue("named", "DNS:localhost", Valid::Now);
        let config = Config::new().extra(&certificate.tls_block("")).user("anna", "secret");
        let mut cluster = Cluster::start_with(3, &config);
        let url = format!("tls://anna:secret@localhost:{}", cluster[0].port());
        let client =
            Client::connect(trusting(&authority, &url).reconnect_jitter_tls(Duration::ZERO));
        let all = poll(LIMIT, || (client.discovered_servers().len() == 2).then_some(()));
        assert!(all.is_some(), "{:?}", client.servers());
        assert!(client.servers().iter().all(|url| url.starts_with("tls://")));
        for gone in [0, 1] {
            let connected = client.connected_url();
            cluster[gone].kill();
            client.publish("a", "b").unwrap();
            let moved = poll(LIMIT, || {
                let now = client.connected_url();
                (now.is_some() && client.is_tls() && (now != connected)).then_some(())
            });
            if connected.unwrap().ends_with(&cluster[gone].port().to_string()) {
                assert!(moved.is_some(), "{}", client.timeline("not moved"));
            }
        }
        client.round_trip("a");
        client.finish();
    });
}

#[test]
fn what_was_published_before_close_and_drain_arrives_over_tls() {
    within(LONG, "close", || {
        let authority = Authority::new();
        let server = server(&authority, "");
        let receiver = Client::connect(trusting(&authority, &server.url()));
        let all = receiver.subscribe("a").unwrap();
        receiver.flush().unwrap();
        for drain in [false, true] {
            let sender = Client::connect(trusting(&authority, &server.url()));
            let payload = vec![7; 100_000];
            for _ in 0..100 {
                sender.publish("a", &payload).unwrap();
            }
            if drain {
                sender.drain(LIMIT).unwrap();
            } else {
                sender.close();
            }
            sender.wait(closed);
            for _ in 0..100 {
                assert_eq!(all.next_timeout(LIMIT).unwrap().payload(), payload);
            }
        }
        assert!(!server.log().contains("unexpected EOF"), "{}", server.log());
        receiver.finish();
    });
}

#[test]
fn an_option_that_cannot_be_used_is_named_and_never_shown() {
    let authority = Authority::new();
    let certificate = authority.issue("client", "DNS:client", Valid::Now);
    let other = authority.issue("other", "DNS:other", Valid::Now);
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let (good, key) = (read(&certificate.file), read(&certificate.key));
    let archive = fs::read(authority.archive(&certificate, "word")).unwrap();
    let sec1 = read(&authority.converted_key(&certificate, "-traditional"));
    let locked = read(&authority.converted_key(&certificate, "-aes128 -passout pass:word"));
    let line = key.lines().nth(1).unwrap().to_owned();
    let broken = key.replace(&line, &format!("{line}!"));
    // A block that holds no key.
    let empty = "\n\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let new = Options::builder;
    for (builder, parts) in [
        (new().root_certificates(""), &["root_certificates", "no certificate"][..]),
        (new().root_certificates(good.split("-----END").next().unwrap()), &["line 1", "END"]),
        (new().root_certificates(key.as_str()), &["root_certificates", "no certificate"]),
        (new().client_certificate(good.as_str(), broken), &["the key", "line 2"]),
        (new().client_certificate(good.as_str(), empty), &["the key", "line 3", "cannot be read"]),
        (new().client_certificate(good.as_str(), good.as_str()), &["the key", "no private key"]),
        (new().client_certificate(good.as_str(), sec1), &["the key", "SEC1", "openssl pkcs8"]),
        (new().client_certificate(good.as_str(), locked), &["encrypted", "openssl pkcs8"]),
        (new().client_certificate("", key.as_str()), &["the certificate", "no certificate"]),
        (new().client_certificate(good.as_str(), read(&other.key)), &["not belong together"]),
        (new().client_certificate_pkcs12(archive.clone(), "wrong"), &["pkcs12", "password"]),
        (new().client_certificate_pkcs12(good.as_str(), "word"), &["no PKCS#12"]),
    ] {
        let shown = format!("{builder:?}");
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "no '{part}' in: {error}");
        }
        let shown = format!("{shown} {error:?}");
        assert!(!shown.contains(&line) && !shown.contains("word\""), "{shown}");
    }
}
