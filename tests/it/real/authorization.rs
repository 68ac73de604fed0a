//! The server asks who we are, and changes its mind.

use std::time::{Duration, Instant};

use nats_blocking::{ConnectionEventKind as Kind, ErrorKind, OptionsBuilder, ServerErrorKind};

use super::{Client, LIMIT, closed, disconnected, quick, reconnect_failed, reconnected};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::watchdog::within;

/// The URL of the server with user information in it.
fn with(server: &NatsServer, user_info: &str) -> String {
    server.url().replace("nats://", &format!("nats://{user_info}@"))
}

fn anna(password: &str) -> Config {
    Config::new().user("anna", password)
}

fn accepted(options: OptionsBuilder) {
    let client = Client::connect(options);
    client.round_trip("a");
    client.finish();
}

/// Refused at once, with the refusal as the cause, and without a secret in any text.
fn refused(options: OptionsBuilder) {
    let started = Instant::now();
    let (client, recorder) = Client::try_connect(options.connect_timeout(Duration::from_secs(50)));
    let error = client.err().expect("wrong credentials");
    let took = started.elapsed();
    assert!(took < LIMIT, "that was a time-out: {took:?}: {error}");
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.is_authorization());
    assert_eq!(error.attempts().len(), 1);
    let cause = error.attempts()[0].cause();
    assert_eq!(cause.kind(), ErrorKind::Authorization, "{cause}");
    let said = cause.server_error().map(|said| said.kind());
    assert_eq!(said, Some(&ServerErrorKind::AuthorizationViolation));
    recorder.wait_for_event(LIMIT, closed).unwrap();
    recorder.check().unwrap();
    let shown = format!("{error} {error:?} {:?}", recorder.timeline(""));
    for secret in ["s3cret", "wr0ng", "t0ken"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

/// An attempt that the server refused for who we are.
fn refusal(kind: &Kind) -> bool {
    matches!(kind, Kind::ReconnectFailed { cause, .. } if cause.is_authorization())
}

#[test]
fn a_user_is_accepted_from_the_options_and_from_the_url() {
    within(Duration::from_secs(60), "user", || {
        let server = NatsServer::start(&anna("s3cret%25"));
        accepted(quick(server.url()).user_and_password("anna", "s3cret%25"));
        accepted(quick(with(&server, "anna:s3cret%2525")));
        // The URL says it more closely than the options.
        let both = quick(with(&server, "anna:s3cret%2525"));
        accepted(both.user_and_password("anna", "wr0ng"));
    });
}

#[test]
fn a_token_is_accepted_from_the_options_and_from_the_url() {
    within(Duration::from_secs(60), "token", || {
        let server = NatsServer::start(&Config::new().token("t0ken"));
        accepted(quick(server.url()).token("t0ken"));
        accepted(quick(with(&server, "t0ken")));
    });
}

#[test]
fn whoever_is_wrong_is_refused_at_once_with_the_refusal_as_cause() {
    within(Duration::from_secs(120), "wrong", || {
        let users = NatsServer::start(&anna("s3cret"));
        refused(quick(users.url()));
        refused(quick(users.url()).user_and_password("anna", "wr0ng"));
        refused(quick(users.url()).user_and_password("otto", "s3cret"));
        refused(quick(users.url()).token("s3cret"));
        refused(quick(with(&users, "anna:wr0ng")));
        let token = NatsServer::start(&Config::new().token("t0ken"));
        refused(quick(token.url()));
        refused(quick(token.url()).token("wr0ng"));
        refused(quick(with(&token, "wr0ng")));
    });
}

#[test]
fn who_says_nothing_is_the_user_that_the_server_names() {
    within(Duration::from_secs(60), "nobody", || {
        let config = anna("s3cret")
            .user_with_permissions("guest", "guest", "publish: { deny: \"private.>\" }")
            .no_auth_user("guest");
        let server = NatsServer::start(&config);
        let guest = Client::connect(quick(server.url()));
        guest.publish("private.a", "").unwrap();
        guest
            .wait_server_error(|kind| matches!(kind, ServerErrorKind::PermissionsViolation { .. }));
        guest.round_trip("a");
        guest.finish();
        let anna = Client::connect(quick(server.url()).user_and_password("anna", "s3cret"));
        anna.round_trip("private.a");
        anna.finish();
        refused(quick(server.url()).user_and_password("anna", "wr0ng"));
    });
}

#[test]
fn with_two_servers_the_one_that_accepts_us_is_used_from_the_start() {
    within(Duration::from_secs(60), "either", || {
        let (strict, open) = (NatsServer::start(&anna("s3cret")), NatsServer::start_plain());
        let client = Client::connect(quick([strict.url(), open.url()]).no_randomize());
        assert_eq!(client.connected_url(), Some(open.url()));
        client.finish();
    });
}

#[test]
fn a_server_that_refuses_us_twice_after_its_restart_ends_the_connection_with_its_words() {
    within(Duration::from_secs(60), "changed", || {
        let mut server = NatsServer::start(&anna("s3cret"));
        let client = Client::connect(quick(with(&server, "anna:s3cret")));
        let subscription = client.subscribe("a").unwrap();
        server.restart_with(&anna("other"));
        let cause = client.wait_closed(LIMIT).unwrap().expect("a cause");
        assert_eq!(cause.kind(), ErrorKind::Authorization, "{cause}");
        assert!(cause.is_authorization());
        assert_eq!(client.count(refusal), 2, "{}", client.timeline("two refusals"));
        assert_eq!(client.count(disconnected), 1);
        let error = subscription.next_timeout(LIMIT).unwrap_err();
        assert!(error.is_closed() && error.is_authorization(), "{error:?}");
        let error = client.publish("a", "").unwrap_err();
        assert!(error.is_closed() && error.is_authorization(), "{error:?}");
        client.finish();
    });
}

#[test]
fn a_server_that_refuses_us_twice_is_given_up_and_the_other_one_used() {
    within(Duration::from_secs(60), "other", || {
        let mut strict = NatsServer::start(&anna("s3cret"));
        let mut other = NatsServer::start(&anna("s3cret"));
        let options = quick([strict.url(), other.url()]).no_randomize();
        let client = Client::connect(options.user_and_password("anna", "s3cret"));
        assert_eq!(client.connected_url(), Some(strict.url()));
        other.kill();
        strict.restart_with(&anna("changed"));
        client.wait_count(
            2,
            |kind| matches!(kind, Kind::ReconnectFailed { cause, .. } if cause.is_authorization()),
        );
        other.restart();
        client.wait(reconnected);
        assert_eq!(client.connected_url(), Some(other.url()));
        client.round_trip("a");
        // What was wrong with the first is mended, and the other one is gone.
        assert_eq!(client.servers(), [other.url(), strict.url()]);
        strict.restart_with(&anna("s3cret"));
        other.kill();
        client.wait_count(2, reconnected);
        assert_eq!(client.connected_url(), Some(strict.url()));
        client.round_trip("a");
        client.finish();
    });
}

#[test]
fn a_program_may_keep_trying_a_server_that_refuses_it() {
    within(Duration::from_secs(60), "patient", || {
        let mut server = NatsServer::start(&anna("s3cret"));
        let options = quick(with(&server, "anna:s3cret")).ignore_authorization_abort();
        let client = Client::connect(options);
        server.restart_with(&anna("other"));
        client.wait_count(4, reconnect_failed);
        server.restart_with(&anna("s3cret"));
        client.wait(reconnected);
        client.round_trip("a");
        client.finish();
    });
}
