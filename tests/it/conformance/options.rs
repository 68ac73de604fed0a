//! Options that change what the server does with messages.

use std::net::IpAddr;
use std::time::Duration;

use nats_blocking::testing::Happening;
use nats_blocking::{Error, ErrorKind, Options, ServerErrorKind};

use super::backend::{Backend, LIMIT, kind, text, text_of, texts};
use crate::support::wait::poll;

conformance! {
    without_echo_a_connection_does_not_hear_itself,
    a_verbose_server_confirms_everything_and_it_is_counted,
    a_pedantic_server_says_what_it_dislikes_and_the_connection_stays,
    inboxes_begin_as_the_program_wants,
    strict_subjects_refuse_wildcards_before_they_are_sent,
    a_connection_made_from_a_properties_file_behaves_as_the_file_says,
    a_connection_comes_from_the_local_address_it_was_told,
}

fn without_echo_a_connection_does_not_hear_itself(backend: &Backend) {
    let quiet = backend.client_with(|options| options.no_echo());
    let other = backend.client();
    let own = quiet.subscribe("a").unwrap();
    let foreign = other.subscribe("a").unwrap();
    quiet.flush().unwrap();
    other.flush().unwrap();
    quiet.publish("a", "quiet").unwrap();
    quiet.flush().unwrap();
    other.publish("a", "loud").unwrap();
    assert_eq!(text(&own), "loud");
    assert_eq!(texts(&foreign, 2), ["quiet", "loud"]);
    assert!(own.try_next().unwrap().is_none());
    // Its own responder does not hear its request.
    assert_eq!(kind(quiet.request("own", "", LIMIT)), ErrorKind::NoResponders);
}

fn a_verbose_server_confirms_everything_and_it_is_counted(backend: &Backend) {
    let client = backend.client_with(|options| options.verbose());
    let subscription = client.subscribe("a").unwrap();
    for _ in 0..10 {
        client.publish("a", "x").unwrap();
    }
    assert_eq!(texts(&subscription, 10), ["x"; 10]);
    client.flush().unwrap();
    let confirmed = client.statistics().oks();
    assert!(confirmed >= 11, "a SUB and ten PUBs, {confirmed} +OK");
    let responder = client.dispatcher(|c, m| c.respond(&m, "yes").unwrap()).unwrap();
    responder.subscribe("service").unwrap();
    assert_eq!(client.request("service", "", LIMIT).unwrap().payload(), b"yes");
    assert_eq!(client.statistics().errors(), 0);
}

fn a_pedantic_server_says_what_it_dislikes_and_the_connection_stays(backend: &Backend) {
    let client = backend.client_with(|options| options.pedantic());
    let subscription = client.subscribe("a").unwrap();
    client.publish("bad.*", "x").unwrap();
    let disliked = |happening: &Happening| {
        matches!(happening, Happening::ServerError(error)
            if *error.kind() == ServerErrorKind::InvalidPublishSubject)
    };
    client.recorder.wait_for(LIMIT, disliked).unwrap();
    client.publish("a", "goes on").unwrap();
    assert_eq!(text(&subscription), "goes on");
    let last = client.last_error().map(|error: Error| error.kind());
    assert_eq!(last, Some(ErrorKind::Server));
    assert_eq!(client.statistics().disconnects(), 0);
}

fn inboxes_begin_as_the_program_wants(backend: &Backend) {
    for prefix in ["mine.inbox", "mine.inbox."] {
        let client = backend.client_with(|options| options.inbox_prefix(prefix));
        let inbox = client.new_inbox().unwrap();
        assert!(inbox.starts_with("mine.inbox.") && inbox.len() == 33, "{inbox}");
        assert_ne!(client.new_inbox().unwrap(), inbox);
        let requests = client.subscribe("service").unwrap();
        let pending = client.send_request("service", "").unwrap();
        let request = requests.next_timeout(LIMIT).unwrap();
        let reply = request.reply().unwrap();
        assert!(reply.starts_with("mine.inbox.") && !reply.contains(".."), "{reply}");
        client.respond(&request, "yes").unwrap();
        assert_eq!(pending.wait(LIMIT).unwrap().payload(), b"yes");
    }
}

fn strict_subjects_refuse_wildcards_before_they_are_sent(backend: &Backend) {
    let strict = backend.client_with(|options| options.strict_subjects());
    let subscription = strict.subscribe(">").unwrap();
    for bad in ["a.*", "a..b", ">", ".a"] {
        assert_eq!(kind(strict.publish(bad, "x")), ErrorKind::InvalidSubject, "{bad}");
        let asked = strict.request(bad, "x", LIMIT);
        assert_eq!(kind(asked), ErrorKind::InvalidSubject, "{bad}");
        let answered = strict.publish_with_reply("a", bad, "x");
        assert_eq!(kind(answered), ErrorKind::InvalidSubject, "{bad}");
    }
    strict.publish("a.b", "good").unwrap();
    assert_eq!(text(&subscription), "good");
}

fn a_connection_made_from_a_properties_file_behaves_as_the_file_says(backend: &Backend) {
    let port = backend.port();
    let file = format!("{}/{port}.properties", env!("CARGO_TARGET_TMPDIR"));
    let text = format!(
        "# A file that other programs share.\n\
         database.url = postgres://elsewhere\n\
         io.nats.client.url : 127.0.0.1:\\\n  {port}\n\
         io.nats.client.name = gr\\u00fc\u{df}e\n\
         io.nats.client.noecho=true\n\
         io.nats.client.inbox.prefix = filed.\n\
         io.nats.client.pinginterval = PT0.05S\n\
         io.nats.client.maxpings = -1\n\
         io.nats.client.reconnect.max = 0\n\
         io.nats.client.timeout = 20000\n\
         io.nats.client.subjectValidationType = Strict\n"
    );
    std::fs::write(&file, text).unwrap();
    let client = backend.client_with(|_| Options::from_properties_file(&file).unwrap());
    std::fs::remove_file(&file).unwrap();
    if let Some(rows) = backend.monitored() {
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["name"], "grüße");
    }
    assert!(client.new_inbox().unwrap().starts_with("filed."));
    // No echo: of both messages only the other's comes.
    let other = backend.client();
    let subscription = client.subscribe("a").unwrap();
    client.publish("a", "own").unwrap();
    client.flush().unwrap();
    other.publish("a", "foreign").unwrap();
    assert_eq!(text_of(&subscription.next_timeout(LIMIT).unwrap()), "foreign");
    assert_eq!(kind(client.publish("a.*", "")), ErrorKind::InvalidSubject);
    // By default the first ping would come after two minutes.
    let before = client.statistics().pings();
    let pinged = poll(LIMIT, || (client.statistics().pings() >= before + 3).then_some(()));
    assert!(pinged.is_some(), "{} pings", client.statistics().pings());
    drop(other);
    backend.go_down();
    client.wait_closed(LIMIT).unwrap();
}

fn a_connection_comes_from_the_local_address_it_was_told(backend: &Backend) {
    // Linux has the whole of 127.0.0.0/8 at the loopback; elsewhere there is just the one.
    let local = IpAddr::from([127, 0, 0, if cfg!(target_os = "linux") { 2 } else { 1 }]);
    let keepalive = Duration::from_secs(60);
    let client = backend.client_with(|o| o.local_address(local).tcp_keepalive(keepalive));
    for round in 0..2 {
        assert_eq!(client.local_addr().unwrap().ip(), local);
        if let Some(rows) = backend.monitored() {
            // Whoever waited for the server to come up may still be listed beside it.
            let found = rows.iter().any(|row| row["ip"] == local.to_string().as_str());
            assert!(found, "{rows:?}");
            assert_eq!(client.client_ip(), Some(local.to_string()));
        }
        if round == 0 {
            backend.go_down();
            client.wait_lost();
            backend.come_up();
            client.wait_resubscribed(1);
        }
    }
}
