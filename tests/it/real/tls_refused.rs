//! TLS that must not be: each check that fails is told by name, within the connect time-out.

use std::time::{Duration, Instant};

use nats_blocking::{Error, ErrorKind, OptionsBuilder};

use super::{Client, LIMIT, quick};
use crate::support::certificates::{Authority, Certificate, Valid};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::watchdog::within;

const LONG: Duration = Duration::from_secs(120);

/// The cause of the one attempt that these options make; it is of kind TLS and in time.
fn refused(options: OptionsBuilder) -> Error {
    let started = Instant::now();
    let error = options.connect().unwrap_err();
    assert!(started.elapsed() < LIMIT * 2, "{:?}", started.elapsed());
    let [attempt] = error.attempts() else { panic!("{error}") };
    assert_eq!(attempt.cause().kind(), ErrorKind::Tls, "{error}");
    attempt.cause().clone()
}

fn server(certificate: &Certificate, further: &str) -> NatsServer {
    NatsServer::start(&Config::new().extra(&certificate.tls_block(further)))
}

#[test]
fn each_bad_certificate_of_a_server_is_refused_for_its_own_reason() {
    within(LONG, "bad certificates", || {
        let authority = Authority::new();
        let stranger = Authority::new();
        let good = "DNS:localhost, IP:127.0.0.1";
        let issue = |name, names, valid| authority.issue(name, names, valid);
        for (certificate, reason) in [
            (stranger.server(), "issuer of the server's certificate is not trusted"),
            (authority.self_signed(), "self-signed"),
            (issue("past", good, Valid::Past), "expired"),
            (issue("future", good, Valid::Future), "not yet valid"),
            (issue("wrong", "DNS:elsewhere", Valid::Now), "not for the address '127.0.0.1'"),
            (issue("no-address", "DNS:localhost", Valid::Now), "not for the address '127.0.0.1'"),
            (issue("no-names", "", Valid::Now), "not for the address '127.0.0.1'"),
        ] {
            let server = server(&certificate, "");
            let error = refused(quick(server.url()).root_certificates_file(&authority.file));
            assert!(error.to_string().contains(reason), "no '{reason}': {error}");
            assert!(error.to_string().contains("127.0.0.1"), "{error}");
            // Without a trusted issuer of one's own the platform's do not know it either.
            refused(quick(server.url()));
        }
        let server = server(&issue("address", "IP:127.0.0.1", Valid::Now), "");
        let named = format!("tls://localhost:{}", server.port());
        let error = refused(quick(named).root_certificates_file(&authority.file));
        assert!(error.to_string().contains("not for the name 'localhost'"), "{error}");
    });
}

#[test]
fn a_client_without_the_wanted_certificate_is_told_that_it_was_refused() {
    within(LONG, "client certificates", || {
        let authority = Authority::new();
        let stranger = Authority::new();
        let ca = authority.file.display();
        for further in ["", "min_version: \"1.3\""] {
            let further = format!("ca_file: \"{ca}\"\n  verify: true\n  {further}");
            let server = server(&authority.server(), &further);
            let options = || quick(server.url()).root_certificates_file(&authority.file);
            let error = refused(options());
            assert!(error.to_string().contains("client certificate"), "{error}");
            for bad in [
                stranger.issue("client", "DNS:client", Valid::Now),
                authority.issue("past", "DNS:client", Valid::Past),
            ] {
                let error = refused(options().client_certificate_files(&bad.file, &bad.key));
                assert!(
                    error.to_string().contains("client's certificate")
                        || error.to_string().contains("client certificate"),
                    "{error}"
                );
            }
        }
    });
}

#[test]
fn a_wrong_name_is_accepted_only_by_the_option_that_says_so() {
    within(LONG, "dangerous", || {
        let authority = Authority::new();
        let server = server(&authority.issue("wrong", "DNS:elsewhere", Valid::Now), "");
        let options = || quick(server.url()).root_certificates_file(&authority.file);
        refused(options());
        for options in [
            options().danger_accept_invalid_hostnames(),
            quick(server.url()).danger_accept_invalid_certs(),
        ] {
            let client = Client::connect(options);
            assert!(client.is_tls());
            client.round_trip("a");
            client.finish();
        }
        // The name alone is let pass: the issuer is still looked at.
        let error = refused(quick(server.url()).danger_accept_invalid_hostnames());
        assert!(error.to_string().contains("issuer"), "{error}");
    });
}

#[test]
fn a_file_that_cannot_be_used_fails_the_attempt_and_is_named() {
    within(LONG, "files", || {
        let authority = Authority::new();
        let server = server(&authority.server(), "");
        let client = authority.issue("client", "DNS:client", Valid::Now);
        let missing = authority.path("missing.pem");
        let empty = authority.path("empty.pem");
        std::fs::write(&empty, "\n").unwrap();
        let old = authority.converted_key(&client, "-traditional");
        let options = || quick(server.url());
        for (options, parts) in [
            (options().root_certificates_file(&missing), ["missing.pem", "cannot be read"]),
            (options().root_certificates_file(&empty), ["empty.pem", "no certificate"]),
            (options().client_certificate_files(&client.file, &missing), ["missing.pem", "read"]),
            (options().client_certificate_files(&client.file, &old), ["client.old", "SEC1"]),
            (options().client_certificate_pkcs12_file(&empty, "p"), ["empty.pem", "PKCS#12"]),
        ] {
            options.clone().build().expect("files are read at each attempt");
            let error = refused(options);
            for part in parts {
                assert!(error.to_string().contains(part), "no '{part}': {error}");
            }
        }
    });
}
