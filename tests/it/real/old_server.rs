//! An older server: a smoke test with the program that `NATS_SERVER_OLD` names.

use std::env;
use std::time::Duration;

use super::{Client, LIMIT, disconnected, quick, reconnected};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::watchdog::within;

#[test]
fn an_older_server_serves_as_well() {
    let Some(program) = env::var_os("NATS_SERVER_OLD") else {
        println!("skipped: NATS_SERVER_OLD names no older nats-server");
        return;
    };
    within(Duration::from_secs(120), "old", move || {
        let mut server = NatsServer::start(&Config::new().program(program).user("anna", "secret"));
        let version = server.wait_ready(LIMIT)["version"].as_str().unwrap().to_owned();
        let wrong = quick(server.url()).user_and_password("anna", "wrong").connect();
        assert!(wrong.unwrap_err().is_authorization());

        let client = Client::connect(quick(server.url()).user_and_password("anna", "secret"));
        assert_eq!(client.server_info().version(), version);
        println!("an older server: {version}");
        let subscription = client.subscribe("a.*").unwrap();
        let responder = client.dispatcher(|connection, message| {
            connection.respond(&message, "answer").unwrap();
        });
        let responder = responder.unwrap();
        responder.queue_subscribe("ask", "q").unwrap();
        for round in 0..2 {
            client.publish("a.b", format!("{round}")).unwrap();
            let message = subscription.next_timeout(LIMIT).unwrap();
            assert_eq!(message.text().unwrap(), format!("{round}"));
            assert_eq!(client.request("ask", "", LIMIT).unwrap().payload(), b"answer");
            let nobody = client.request("nobody", "", LIMIT).unwrap_err();
            assert!(nobody.is_no_responders(), "{nobody}");
            if round == 0 {
                server.kill();
                client.wait(disconnected);
                server.restart();
                client.wait(reconnected);
            }
        }
        client.finish();
    });
}
