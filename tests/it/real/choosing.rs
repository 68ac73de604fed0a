//! Which server comes next and when: the pool, the selection and the delay callbacks.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use nats_blocking::testing::Happening;
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, ConnectionStatus, ErrorKind, Options, RetryConnect,
    SelectedServer,
};

use super::{Client, LIMIT, disconnected, quick, reconnect_failed, reconnected, resubscribed};
use crate::support::cluster::Cluster;
use crate::support::nats_server::{Config, NatsServer};
use crate::support::ports;
use crate::support::wait::{Gate, poll};
use crate::support::watchdog::within;

const ALL: Duration = Duration::from_secs(120);

type Notes<T> = Arc<Mutex<Vec<T>>>;

fn taken<T>(notes: &Notes<T>) -> Vec<T> {
    std::mem::take(&mut notes.lock().unwrap())
}

fn nobody() -> String {
    format!("nats://127.0.0.1:{}", ports::free())
}

fn exceptions(client: &Client, kind: ErrorKind) -> usize {
    client
        .recorder
        .count(|happening| matches!(happening, Happening::Exception(error) if error.kind() == kind))
}

#[test]
fn the_delay_callback_is_asked_after_each_full_pass_of_each_outage() {
    within(ALL, "delay", || {
        let mut server = NatsServer::start_plain();
        let (asked, notes) = (Notes::<u32>::default(), Notes::<u32>::default());
        let seen = asked.clone();
        let options = quick([server.url(), nobody()])
            .no_randomize()
            .reconnect_wait(ALL)
            .reconnect_jitter(Duration::from_millis(1))
            .reconnect_delay(move |passes| {
                seen.lock().unwrap().push(passes);
                Duration::from_millis(5)
            });
        let client = Client::connect(options);
        for outage in 1..=2 {
            let before = client.count(reconnect_failed);
            server.kill();
            client.wait_count(before + 6, reconnect_failed);
            server.restart();
            client.wait_count(outage, reconnected);
            let passes = taken(&asked);
            notes.lock().unwrap().push(passes.len() as u32);
            let counted: Vec<u32> = (1..=passes.len() as u32).collect();
            assert_eq!(passes, counted, "{}", client.timeline("passes"));
            assert!(passes.len() >= 2);
        }
        client.finish();
    });
}

#[test]
fn an_absurd_delay_hangs_neither_close_nor_a_forced_reconnect() {
    within(ALL, "absurd", || {
        let options = quick(nobody())
            .retry_on_failed_connect(RetryConnect::InBackground)
            .reconnect_delay(|_| Duration::MAX);
        let client = Client::connect(options.clone());
        for count in 1..4 {
            client.wait_count(count, reconnect_failed);
            client.force_reconnect().unwrap();
        }
        let begun = Instant::now();
        client.finish();
        assert!(begun.elapsed() < LIMIT);

        // A total deadline holds whatever the callback says.
        let limit = RetryConnect::Within(Duration::from_millis(100));
        let (outcome, recorder) = Client::try_connect(options.retry_on_failed_connect(limit));
        assert_eq!(outcome.err().unwrap().attempts().len(), 1);
        recorder.check().unwrap();
    });
}

#[test]
fn a_callback_that_panics_is_told_and_the_default_holds() {
    within(ALL, "panics", || {
        let mut server = NatsServer::start_plain();
        let options = quick(server.url())
            .reconnect_delay(|_| panic!("a delay callback of the test"))
            .select_server(|_| panic!("a selection callback of the test"));
        let client = Client::connect(options);
        server.kill();
        client.wait_count(2, reconnect_failed);
        server.restart();
        client.wait(reconnected);
        assert!(exceptions(&client, ErrorKind::UserPanic) >= 4);
        assert!(client.statistics().panics() >= 4);
        client.round_trip("a");
        client.finish();
    });
}

#[test]
fn a_callback_may_call_anything_on_a_handle_of_its_connection() {
    within(ALL, "anything", || {
        let port = ports::free();
        let handle = Arc::new(OnceLock::<Connection>::new());
        let (inside, done) = (handle.clone(), Gate::new());
        let (finished, outcome) = (done.clone(), Notes::<String>::default());
        let said = outcome.clone();
        let other = NatsServer::start_plain();
        let url = other.url();
        let options = quick(format!("127.0.0.1:{port}"))
            .retry_on_failed_connect(RetryConnect::InBackground)
            .reconnect_delay(move |_| {
                let Some(own) = inside.get() else { return Duration::from_millis(1) };
                let say = |name: &str, error: Option<nats_blocking::Error>| {
                    let kind = error.map(|error| error.kind());
                    said.lock().unwrap().push(format!("{name} {kind:?}"));
                };
                say("publish", own.publish("a", "b").err());
                let subscription = own.subscribe("a").unwrap();
                say("next", subscription.next().err());
                say("flush", own.flush().err());
                say("wait", own.wait_for_status(ConnectionStatus::Connected, ALL).err());
                say("closed", own.wait_closed(ALL).err());
                say("request", own.request("a", "", Duration::from_millis(5)).err());
                say("drain", own.drain(ALL).err());
                say("force", own.force_reconnect().err());
                say("events", own.events().next().map(|notice| panic!("{notice}")));
                say("unsubscribe", subscription.drain(ALL).err());
                say("rtt", own.rtt().err());
                own.dispatcher(|_, _| ()).unwrap().subscribe("a").unwrap();
                own.set_server_pool(&url).unwrap();
                assert_eq!(own.server_pool().len(), 1);
                finished.open();
                Duration::ZERO
            });
        let client = Client::connect(options);
        assert!(handle.set(client.connection.clone()).is_ok());
        assert!(done.wait(LIMIT), "{}", client.timeline("the callback hangs"));
        let kinds = taken(&outcome);
        assert_eq!(
            kinds[..11],
            [
                "publish None",
                "next Some(Misuse)",
                "flush Some(Misuse)",
                "wait Some(Misuse)",
                "closed Some(Misuse)",
                "request Some(Timeout)",
                "drain Some(Disconnected)",
                "force None",
                "events None",
                "unsubscribe None",
                "rtt Some(Disconnected)",
            ]
        );
        client.wait_for_status(ConnectionStatus::Connected, LIMIT).unwrap();
        assert_eq!(client.connected_url(), Some(other.url()));
        client.finish();
    });
}

/// What a callback of the ending connection does.
type Ending = fn(&Mutex<Option<Connection>>);

#[test]
fn a_callback_may_end_its_connection_and_is_dropped_with_it() {
    let ways: [Ending; 2] = [
        // The handle stays in the callback: only its end breaks the circle.
        |held| held.lock().unwrap().as_ref().unwrap().close(),
        |held| drop(held.lock().unwrap().take()),
    ];
    for way in ways {
        within(ALL, "ending", move || {
            let probe = Arc::new(());
            let (kept, held) = (probe.clone(), Arc::new(Mutex::new(None::<Connection>)));
            let inside = held.clone();
            let options = quick(nobody())
                .close_timeout(ALL)
                .retry_on_failed_connect(RetryConnect::InBackground)
                .select_server(move |choice| {
                    let _kept = &kept;
                    if inside.lock().unwrap().is_some() {
                        way(&inside);
                    }
                    let first = choice.servers()[0].url();
                    Some(SelectedServer::new(first).with_delay(Duration::from_millis(1)))
                });
            let Client { connection, recorder } = Client::connect(options);
            let weak = connection.downgrade();
            *held.lock().unwrap() = Some(connection);
            drop(held);
            recorder.wait_for_event(LIMIT, super::closed).unwrap();
            recorder.check().unwrap();
            let gone = poll(LIMIT, || {
                (Arc::strong_count(&probe) == 1 && weak.upgrade().is_none()).then_some(())
            });
            assert!(gone.is_some(), "the callback is still there");
        });
    }
}

/// Names the server at that place of `urls`.
fn place(urls: &[String], url: &str) -> usize {
    urls.iter().position(|known| known == url).expect("one of them")
}

#[test]
fn the_program_chooses_the_server_of_every_attempt() {
    within(ALL, "choice", || {
        let mut servers: Vec<NatsServer> = (0..3).map(|_| NatsServer::start_plain()).collect();
        let urls: Vec<String> = servers.iter().map(NatsServer::url).collect();
        let chosen = Notes::<String>::default();
        let (seen, wanted, dead) = (chosen.clone(), urls[2].clone(), urls[1].clone());
        let options = quick(urls.clone()).no_randomize().select_server(move |choice| {
            let tried = choice.servers().iter().find(|server| server.url() == dead).unwrap();
            seen.lock().unwrap().push(format!(
                "{} {} {:?} {} {}",
                choice.attempt(),
                choice.servers().len(),
                choice.last_server(),
                choice.server_info().unwrap().server_id().len() > 10,
                tried.failed_attempts(),
            ));
            // Twice the dead one, then the third: without the program it would be the second.
            let url = if tried.failed_attempts() < 2 { &dead } else { &wanted };
            Some(SelectedServer::new(url))
        });
        let client = Client::connect(options);
        assert!(taken(&chosen).is_empty(), "a first connect without a retry is not asked for");
        servers[1].kill();
        servers[0].kill();
        client.wait(resubscribed);
        assert_eq!(place(&urls, &client.connected_url().unwrap()), 2);
        let last = urls[0].as_str();
        let expected =
            |attempt: u32, failed: u32| format!("{attempt} 3 {:?} true {failed}", Some(last));
        assert_eq!(taken(&chosen), [expected(1, 0), expected(2, 1), expected(3, 2)]);
        let attempted: Vec<_> = client
            .recorder
            .events()
            .iter()
            .filter(|event| matches!(event.kind(), Kind::Reconnecting { .. }))
            .map(|event| place(&urls, event.server().unwrap()))
            .collect();
        assert_eq!(attempted, [1, 1, 2]);
        let pool = client.server_pool();
        assert_eq!(pool.iter().filter(|server| server.is_in_use()).count(), 1);
        let dead = pool.iter().find(|server| server.url() == urls[1]).unwrap();
        assert!(dead.failed_attempts() == 2 && dead.last_error().is_some(), "{dead:?}");
        client.finish();
    });
}

#[test]
fn a_foreign_server_is_told_and_no_choice_is_the_usual_order() {
    within(ALL, "foreign", || {
        let servers: Vec<NatsServer> = (0..2).map(|_| NatsServer::start_plain()).collect();
        let urls: Vec<String> = servers.iter().map(NatsServer::url).collect();
        let options = quick(urls.clone()).no_randomize().select_server(|choice| {
            match choice.last_server().map(str::len) {
                Some(_) if choice.attempt() == 1 => {
                    Some(SelectedServer::new("nats://joe:hunter2@10.1.2.3:1"))
                }
                _ => None,
            }
        });
        let client = Client::connect(options);
        client.force_reconnect().unwrap();
        client.wait(resubscribed);
        assert_eq!(client.connected_url(), Some(urls[1].clone()));
        assert_eq!(exceptions(&client, ErrorKind::Misuse), 1);
        assert!(!client.timeline("").to_string().contains("hunter2"));
        client.finish();

        let client = Client::connect(quick(urls.clone()).no_randomize().select_server(|_| None));
        client.force_reconnect().unwrap();
        client.wait(resubscribed);
        assert_eq!(client.connected_url(), Some(urls[1].clone()));
        assert_eq!(exceptions(&client, ErrorKind::Misuse), 0);
        client.finish();
    });
}

#[test]
fn the_delay_of_a_choice_is_kept_and_can_be_cut_short() {
    within(ALL, "chosen delay", || {
        let server = NatsServer::start_plain();
        let delay = Arc::new(Mutex::new(Duration::from_millis(200)));
        let set = delay.clone();
        let options = quick(server.url()).select_server(move |choice| {
            let delay = *set.lock().unwrap();
            Some(SelectedServer::new(choice.servers()[0].url()).with_delay(delay))
        });
        let client = Client::connect(options);
        client.force_reconnect().unwrap();
        let back = client.wait(reconnected);
        let Kind::Reconnected { downtime, .. } = back.kind() else { panic!("{back}") };
        assert!(*downtime >= Duration::from_millis(200), "{downtime:?}");
        *delay.lock().unwrap() = Duration::MAX;
        client.force_reconnect().unwrap();
        client.wait_count(2, disconnected);
        let cut = poll(LIMIT, || {
            client.force_reconnect().unwrap();
            (client.count(reconnected) >= 2).then_some(())
        });
        assert!(cut.is_some(), "{}", client.timeline("the delay was not cut short"));
        // Once more into the endless delay: a call that finds it there cuts it short.
        let waits = poll(LIMIT, || {
            if client.status() == ConnectionStatus::Reconnecting {
                return Some(());
            }
            client.force_reconnect().unwrap();
            None
        });
        assert!(waits.is_some());
        let begun = Instant::now();
        client.finish();
        assert!(begun.elapsed() < LIMIT);
    });
}

#[test]
fn another_pool_counts_from_the_next_reconnect_on() {
    within(ALL, "pool", || {
        let mut cluster = Cluster::start(2);
        let client = Client::connect(quick(cluster[0].url()).ignore_discovered_servers());
        let config = Config::new().user("joe", "secret");
        let private = NatsServer::start(&config);
        for bad in ["", " , ", "http://x", "a,b:0"] {
            let error = client.set_server_pool(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{bad}");
        }
        assert_eq!(client.servers(), [cluster[0].url()], "nothing has changed");

        let with_user = format!("nats://joe:secret@127.0.0.1:{}", private.port());
        client.set_server_pool(&with_user).unwrap();
        assert_eq!(client.connected_url(), Some(cluster[0].url()));
        client.round_trip("still.here");
        assert_eq!(client.server_pool().len(), 1);
        assert!(!client.server_pool()[0].is_in_use());
        assert!(!format!("{:?}", client.server_pool()).contains("secret"));
        cluster[0].kill();
        client.wait(resubscribed);
        assert_eq!(client.connected_url(), Some(private.url()));
        assert!(client.server_pool()[0].is_in_use());
        assert_eq!(client.count(|kind| matches!(kind, Kind::DiscoveredServers { .. })), 0);

        // In an outage the next attempt is with the new ones.
        client.set_server_pool(nobody()).unwrap();
        client.force_reconnect().unwrap();
        client.wait_count(2, reconnect_failed);
        client.set_server_pool([cluster[1].url(), private.url()]).unwrap();
        client.wait_count(2, resubscribed);
        client.connection.close();
        assert!(client.set_server_pool("a").unwrap_err().is_closed());
        client.finish();
    });
}

#[test]
fn discovered_servers_go_with_the_old_pool() {
    within(ALL, "gossip", || {
        let cluster = Cluster::start(3);
        let client = Client::connect(quick(cluster[0].url()));
        let all: BTreeSet<String> = cluster.urls().into_iter().collect();
        let known = poll(LIMIT, || {
            let now: BTreeSet<String> = client.servers().into_iter().collect();
            (now == all).then_some(())
        });
        assert!(known.is_some(), "{}", client.timeline("discovery"));
        // More than one look: the cluster may announce its nodes once more at any time.
        let replaced = poll(LIMIT, || {
            let told = || client.count(|kind| matches!(kind, Kind::DiscoveredServers { .. }));
            let before = told();
            client.set_server_pool([cluster[0].url(), cluster[1].url()]).unwrap();
            let pool = client.server_pool();
            client.round_trip("a");
            let kept = pool.len() == 2 && pool.iter().all(|server| !server.is_discovered());
            let used = pool.iter().filter(|server| server.is_in_use()).count() == 1;
            (kept && used && client.discovered_servers().is_empty() && told() == before)
                .then_some(())
        });
        assert!(replaced.is_some(), "{}", client.timeline("another pool"));
        client.finish();
    });
}

#[test]
fn the_first_attempt_waits_where_that_is_asked_for() {
    within(ALL, "herd", || {
        let mut server = NatsServer::start_plain();
        let asked = Notes::<u32>::default();
        let seen = asked.clone();
        let options = Options::builder()
            .server(server.url())
            .connect_timeout(LIMIT)
            .wait_before_first_reconnect()
            .reconnect_delay(move |passes| {
                seen.lock().unwrap().push(passes);
                Duration::from_millis(150)
            });
        let client = Client::connect(options);
        server.restart();
        let back = client.wait(reconnected);
        let Kind::Reconnected { downtime, attempts } = back.kind() else { panic!("{back}") };
        assert!(*downtime >= Duration::from_millis(150), "{downtime:?}");
        let expected: Vec<u32> = (0..*attempts).collect();
        assert_eq!(taken(&asked), expected);
        // Whoever asks for a reconnect does not want to wait for it.
        client.force_reconnect().unwrap();
        client.wait_count(2, reconnected);
        assert!(taken(&asked).is_empty());
        client.finish();
    });
}
