//! Options from the environment of a process: variables are given to a child, never changed here.

use std::time::Duration;

use nats_blocking::{ErrorKind, Options};

use crate::support::nats_server::{Config, NatsServer};
use crate::support::own_process::with_variables;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_program_connects_as_its_environment_says() {
    let name = "environment::a_program_connects_as_its_environment_says";
    let prepare = || {
        let server = NatsServer::start(&Config::new().user("joe", "hunter2"));
        let variables = vec![
            ("NATS_URL", server.url()),
            ("NATS_USER", "joe".to_owned()),
            ("NATS_PASSWORD", "hunter2".to_owned()),
            ("NATS_TIMEOUT", "20s".to_owned()),
            ("NATS_INBOX_PREFIX", "mine".to_owned()),
            ("NATS_TOKEN", String::new()),
            ("NATS_COLOR", "red".to_owned()),
        ];
        (server, variables)
    };
    with_variables(name, LIMIT, prepare, || {
        let builder = Options::from_environment().unwrap();
        let shown = format!("{builder:?}");
        assert!(shown.contains("connect_timeout: 20s"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("joe"), "{shown}");
        let connection = builder.connect().unwrap();
        let inbox = connection.new_inbox().unwrap();
        assert!(inbox.starts_with("mine."), "{inbox}");
        let subscription = connection.subscribe(&inbox).unwrap();
        connection.publish(&inbox, "here").unwrap();
        assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload(), b"here");
        // Nobody else reads the environment.
        let error = Options::builder().server(std::env::var("NATS_URL").unwrap()).connect();
        assert!(error.unwrap_err().is_authorization());
    });
}

#[test]
fn a_variable_that_cannot_be_used_is_named() {
    let name = "environment::a_variable_that_cannot_be_used_is_named";
    let variables = || ((), vec![("NATS_TIMEOUT", "soon".to_owned())]);
    with_variables(name, LIMIT, variables, || {
        let error = Options::from_environment().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert!(error.to_string().starts_with("NATS_TIMEOUT: expected a time"), "{error}");
    });
}
