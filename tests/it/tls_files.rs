//! Files with certificates and keys that do not end, or cannot be read to their end: an attempt to
//! connect costs its time-out and no more, and a connection that is closed meanwhile ends.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nats_blocking::testing::Recorder;
use nats_blocking::{ConnectionEventKind as Kind, Error, ErrorKind, Options, OptionsBuilder};

use crate::support::certificates::{Authority, Valid};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::watchdog::within;

/// For what takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_millis(200);

fn options(server: &NatsServer) -> OptionsBuilder {
    let url = server.url().replace("nats://", "tls://");
    Options::builder().server(url).connect_timeout(LIMIT).close_timeout(SHORT)
}

/// Why the one attempt failed, in time.
fn cause(options: OptionsBuilder) -> Error {
    let started = Instant::now();
    let error = options.connect().unwrap_err();
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    error.attempts()[0].cause().clone()
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Lets whoever was left behind at the reading end come to its end.
fn release(path: &Path) {
    drop(OpenOptions::new().write(true).open(path).unwrap());
}

/// A pipe that nobody writes to stands for a file system that has gone away.
#[test]
fn a_file_that_cannot_be_read_to_its_end_costs_the_connect_timeout() {
    within(LONG, "pipe", || {
        let authority = Authority::new();
        let server = NatsServer::start(&Config::new().extra(&authority.server().tls_block("")));
        let client = authority.issue("client", "DNS:client", Valid::Now);
        let pipe = authority.path("pipe");
        make_pipe(&pipe);
        let trusting = || options(&server).root_certificates_file(&authority.file);
        for options in [
            options(&server).root_certificates_file(&pipe),
            trusting().client_certificate_files(&client.file, &pipe),
            trusting().client_certificate_pkcs12_file(&pipe, "p"),
        ] {
            let error = cause(options.connect_timeout(SHORT));
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(error.to_string().contains("certificates"), "{error}");
            release(&pipe);
        }
    });
}

#[test]
fn a_file_that_is_far_too_large_is_named_and_not_kept() {
    within(LONG, "large", || {
        let authority = Authority::new();
        let server = NatsServer::start(&Config::new().extra(&authority.server().tls_block("")));
        let large = authority.path("large.pem");
        File::create(&large).unwrap().set_len(1 << 40).unwrap();
        for path in [Path::new("/dev/zero"), &large] {
            let error = cause(options(&server).root_certificates_file(path));
            assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
            let said = error.to_string();
            assert!(said.contains(path.to_str().unwrap()) && said.contains("larger"), "{error}");
        }
    });
}

#[test]
fn close_ends_a_reconnect_that_waits_for_a_file() {
    within(LONG, "close", || {
        let authority = Authority::new();
        let config = Config::new().extra(&authority.server().tls_block(""));
        let mut server = NatsServer::start(&config);
        let file = authority.path("roots.pem");
        fs::copy(&authority.file, &file).unwrap();
        let recorder = Recorder::new();
        let connection = options(&server)
            .connect_timeout(LONG)
            .root_certificates_file(&file)
            .reconnect_wait(Duration::from_millis(10))
            .reconnect_jitter_tls(Duration::ZERO)
            .connection_listener(recorder.clone())
            .connect()
            .unwrap();
        fs::remove_file(&file).unwrap();
        make_pipe(&file);
        server.restart();
        recorder.wait_for_event(LIMIT, |kind| matches!(kind, Kind::Reconnecting { .. })).unwrap();
        let started = Instant::now();
        connection.close();
        assert!(connection.wait_closed(LIMIT).unwrap().is_none());
        assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
        recorder.wait_for_event(LIMIT, |kind| matches!(kind, Kind::Closed { .. })).unwrap();
        // The reading end may not have been opened yet: a writer that does not wait tells.
        let unblock = OpenOptions::new().read(true).write(true).open(&file).unwrap();
        drop(unblock);
    });
}
