//! Options that change what the server does with messages.

use nats_blocking::testing::Happening;
use nats_blocking::{Error, ErrorKind, ServerErrorKind};

use super::backend::{Backend, LIMIT, kind, text, texts};

conformance! {
    without_echo_a_connection_does_not_hear_itself,
    a_verbose_server_confirms_everything_and_it_is_counted,
    a_pedantic_server_says_what_it_dislikes_and_the_connection_stays,
    inboxes_begin_as_the_program_wants,
    strict_subjects_refuse_wildcards_before_they_are_sent,
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
