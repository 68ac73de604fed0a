//! Every example, run as a program of its own: its status, its lines and their order.
//!
//! The lines of `connection_events` are checked against the grammar of events by a small machine
//! of their own here: what a person reads must be in order, not only what a listener is told.

mod bench;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::jwt::{Account, Key, Operator};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::tunnel::Tunnel;
use crate::support::wait::{Signal, poll};

/// For everything that takes milliseconds or a few seconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

const OPENED: &str = "nats: connection opened";
const DISCONNECTED: &str = "nats: connection disconnected";
const RECONNECTED: &str = "nats: connection reconnected";
const RESUBSCRIBED: &str = "nats: subscriptions re-established";
const CLOSED: &str = "nats: connection closed";

/// A running example.
struct Example {
    name: &'static str,
    child: Child,
    lines: Arc<Signal<Vec<String>>>,
    readers: Vec<JoinHandle<String>>,
}

impl Example {
    fn start(name: &'static str, arguments: &[&str]) -> Self {
        Self::start_with(name, arguments, &[])
    }

    /// With more variables in its environment.
    fn start_with(name: &'static str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(folder().join(name))
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let lines = Arc::new(Signal::new(Vec::new()));
        let (out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let seen = Arc::clone(&lines);
        let read_out = move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                seen.change(|lines| lines.push(line));
            }
            String::new()
        };
        let read_err = move || {
            let mut text = String::new();
            let _ = err.read_to_string(&mut text);
            text
        };
        let reader = |body: Box<dyn FnOnce() -> String + Send>| {
            thread::Builder::new().name("example-reader".to_owned()).spawn(body).unwrap()
        };
        let readers = vec![reader(Box::new(read_out)), reader(Box::new(read_err))];
        Self { name, child, lines, readers }
    }

    /// Waits until it has printed `count` lines that begin so.
    fn wait_lines(&self, beginning: &str, count: usize) {
        let enough = |lines: &mut Vec<String>| {
            let found = lines.iter().filter(|line| line.starts_with(beginning)).count();
            (found >= count).then_some(())
        };
        if self.lines.wait(LIMIT, enough).is_none() {
            let shown = self.lines.read(|lines| lines.join("\n"));
            panic!("{}: no {count} lines '{beginning}' within {LIMIT:?}:\n{shown}", self.name);
        }
    }

    /// SIGTERM, to this very child.
    fn terminate(&self) {
        let status = Command::new("sh")
            .args(["-c", "kill -s TERM \"$0\"", &self.child.id().to_string()])
            .status()
            .expect("a shell");
        assert!(status.success());
    }

    /// Waits for its end and returns what it printed; the status must be 0.
    fn finish(mut self) -> Vec<String> {
        let status: Option<ExitStatus> = poll(LIMIT, || self.child.try_wait().unwrap());
        if status.is_none() {
            let _ = self.child.kill();
        }
        let errors: String =
            self.readers.drain(..).map(|reader| reader.join().unwrap()).collect::<String>();
        let lines = self.lines.read(Clone::clone);
        let shown = lines.join("\n");
        let name = self.name;
        assert!(status.is_some(), "{name} still ran after {LIMIT:?}:\n{shown}\n{errors}");
        assert!(status.unwrap().success(), "{name}: {status:?}\n{shown}\n{errors}");
        lines
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Those that these tests have, so that the examples find the library built already.
fn features() -> String {
    let all = [
        ("testing", cfg!(feature = "testing")),
        ("internals", cfg!(feature = "internals")),
        ("websocket", cfg!(feature = "websocket")),
        ("crossbeam-channel", cfg!(feature = "crossbeam-channel")),
    ];
    let here = all.iter().filter(|(_, here)| *here).map(|(name, _)| *name);
    here.collect::<Vec<_>>().join(",")
}

/// Where the examples are, as new as the sources: cargo builds them with the tests only if it is
/// asked for all tests, so it is asked again, which costs nothing when they are there.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let own = env::current_exe().expect("the path of the test");
        let profile = own.parent().and_then(Path::parent).expect("target/PROFILE/deps");
        // Set by cargo; a test binary that was started by hand takes what is there.
        if let Some(cargo) = env::var_os("CARGO") {
            let name = profile.file_name().and_then(|name| name.to_str()).expect("a profile");
            let built = Command::new(cargo)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .args(["build", "--quiet", "--examples", "--locked", "--features", &features()])
                .args(["--profile", if name == "debug" { "dev" } else { name }])
                .arg("--target-dir")
                .arg(profile.parent().expect("the target folder"))
                .status()
                .expect("cargo starts");
            assert!(built.success(), "the examples cannot be built");
        }
        profile.join("examples")
    })
}

/// Runs an example that must fail; its status, what it printed and what it complained of.
fn run_failing(name: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(folder().join(name)).args(arguments).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!output.status.success(), "{name} {arguments:?}: {out}{err}");
    (output.status.code(), out, err)
}

fn run(name: &'static str, arguments: &[&str]) -> Vec<String> {
    Example::start(name, arguments).finish()
}

fn count(lines: &[String], beginning: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(beginning)).count()
}

/// One letter for each printed event, none for errors and other lines:
///
/// ```text
/// life   = O notice* (outage R B S notice*)* [outage] C
/// outage = D (R F)*
/// ```
///
/// `n` is a notice, `!` a notice that announces a loss.
fn letters(lines: &[String]) -> String {
    let table = [
        (OPENED, 'O'),
        (DISCONNECTED, 'D'),
        ("nats: reconnecting", 'R'),
        ("nats: reconnect failed", 'F'),
        (RECONNECTED, 'B'),
        (RESUBSCRIBED, 'S'),
        ("nats: discovered servers", 'n'),
        ("nats: lame duck mode", 'n'),
        ("nats: draining", 'n'),
        ("nats: stale connection", '!'),
        ("nats: reconnect forced", '!'),
        (CLOSED, 'C'),
    ];
    let letter = |line: &String| {
        let known = table.iter().find(|(beginning, _)| line.starts_with(beginning));
        known.map(|(_, letter)| *letter)
    };
    lines.iter().filter_map(letter).collect()
}

/// Whether the letters are a whole life that began with a connection.
fn is_legal(life: &str) -> bool {
    let Some(middle) = life.strip_prefix('O').and_then(|rest| rest.strip_suffix('C')) else {
        return false;
    };
    // What may follow which letter.
    let follows = |before: char| match before {
        'O' | 'S' | 'n' => "n!D",
        '!' => "D",
        'D' | 'F' => "R",
        'R' => "FB",
        'B' => "S",
        _ => "",
    };
    let mut before = 'O';
    for letter in middle.chars() {
        if !follows(before).contains(letter) {
            return false;
        }
        before = letter;
    }
    "OSn!DF".contains(before)
}

fn assert_legal(lines: &[String]) {
    let life = letters(lines);
    assert!(is_legal(&life), "{life} is not a life:\n{}", lines.join("\n"));
}

/// The downtimes that were printed, as in `down for 253.1ms`.
fn downtimes(lines: &[String]) -> Vec<Duration> {
    let printed = lines.iter().filter_map(|line| line.split_once("down for "));
    printed.map(|(_, text)| parse_duration(text)).collect()
}

fn parse_duration(text: &str) -> Duration {
    let unit = text.find(|c: char| c.is_alphabetic()).expect("a unit");
    let number: f64 = text[..unit].parse().expect("a number");
    let seconds = match &text[unit..] {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        other => panic!("{other} is no unit"),
    };
    Duration::from_secs_f64(number * seconds)
}

#[test]
fn the_machine_accepts_lives_and_refuses_what_is_out_of_place() {
    for life in ["OC", "OnnC", "ODRFRBSnC", "ODC", "ODRFC", "O!DRBS!DRBSC", "O!C"] {
        assert!(is_legal(life), "{life}");
    }
    for life in ["", "C", "O", "nOC", "OO", "ORBSC", "ODRC", "ODnRBSC", "O!nC", "ODRBC", "OCn"] {
        assert!(!is_legal(life), "{life}");
    }
    let line = "nats: connection reconnected nats://a:1, attempt 3, down for 253.5ms".to_owned();
    assert_eq!(downtimes(&[line]), [Duration::from_micros(253_500)]);
}

#[test]
fn connection_events_shows_every_event_and_error_in_a_legal_order() {
    let lines = run("connection_events", &[]);
    assert_legal(&lines);
    for beginning in [
        OPENED,
        "nats: discovered servers",
        "nats: lame duck mode",
        DISCONNECTED,
        "nats: reconnecting",
        "nats: reconnect failed",
        RECONNECTED,
        RESUBSCRIBED,
        "nats: stale connection",
        "nats: reconnect forced",
        "nats: draining",
        "nats: slow consumer: sid",
        "nats: slow consumer recovered",
        "nats: server error: Permissions Violation for Publish to \"secret.plans\"",
        "nats: exception: a handler of 'noise' (sid 2) panicked",
    ] {
        assert!(count(&lines, beginning) > 0, "no '{beginning}':\n{}", lines.join("\n"));
    }
    assert!(lines.last().unwrap().starts_with(CLOSED), "{lines:?}");
}

#[test]
fn connection_events_outlives_twenty_kills_of_a_real_server() {
    let mut server = NatsServer::start_plain();
    let example = Example::start("connection_events", &["--server", &server.url()]);
    example.wait_lines(OPENED, 1);
    for round in 1..=20 {
        server.kill();
        example.wait_lines(DISCONNECTED, round);
        server.restart();
        example.wait_lines(RESUBSCRIBED, round);
    }
    example.terminate();
    let lines = example.finish();
    assert_legal(&lines);
    assert_eq!(count(&lines, DISCONNECTED), 20);
    assert_eq!(count(&lines, RECONNECTED), 20);
    assert_eq!(count(&lines, RESUBSCRIBED), 20);
    assert!(lines.last().unwrap().starts_with(CLOSED), "{lines:?}");
}

#[test]
fn a_killed_server_of_a_cluster_costs_less_than_a_second() {
    let mut cluster = Cluster::start(3);
    let mut downtime = || {
        let example = Example::start("connection_events", &["--server", &cluster[0].url()]);
        example.wait_lines("nats: discovered servers", 1);
        cluster[0].kill();
        example.wait_lines(RESUBSCRIBED, 1);
        example.terminate();
        let lines = example.finish();
        assert_legal(&lines);
        let downtimes = downtimes(&lines);
        assert_eq!(downtimes.len(), 1, "{lines:?}");
        cluster[0].restart();
        downtimes[0]
    };
    // A machine that stands still in the middle is no fault of the client.
    assert!((0..3).any(|_| downtime() < Duration::from_secs(1)));
}

#[test]
fn a_listening_example_ends_after_the_given_time() {
    let server = NatsServer::start_plain();
    for name in ["connection_events", "discovered_servers", "errors"] {
        let lines = run(name, &["--server", &server.url(), "--for", "0.1"]);
        assert!(lines.last().unwrap().starts_with(CLOSED), "{name}: {lines:?}");
    }
}

#[test]
fn discovered_servers_prints_both_lists_from_inside_the_callback() {
    let lines = run("discovered_servers", &[]);
    let servers = |beginning: &str| -> Vec<usize> {
        let of = lines.iter().filter_map(|line| line.strip_prefix(beginning));
        of.map(|list| list.matches("nats://").count()).collect()
    };
    assert_eq!(servers("Known servers: "), [1, 2, 3, 2], "{lines:?}");
    assert_eq!(servers("Discovered servers: "), [1, 2, 1], "{lines:?}");
    assert!(lines.last().unwrap().starts_with(CLOSED), "{lines:?}");
}

#[test]
fn discovered_servers_names_the_nodes_of_a_real_cluster() {
    let cluster = Cluster::start(3);
    let example = Example::start("discovered_servers", &["--server", &cluster[0].url()]);
    example.wait_lines("Discovered servers: ", 1);
    example.terminate();
    let lines = example.finish();
    let known = lines.iter().rfind(|line| line.starts_with("Known servers: ")).unwrap();
    for node in cluster.nodes() {
        assert!(known.contains(&node.url()), "{} in {lines:?}", node.url());
    }
}

#[test]
fn errors_shows_each_kind_with_its_type() {
    let lines = run("errors", &[]);
    for beginning in [
        "the server refused: Publish on 'secret.plans'",
        "the server refused: Subscribe on 'secret.>'",
        "reading from it gives: the server said: Permissions Violation",
        "a slow consumer: 'ticks'",
        "a slow consumer recovered: 'ticks', 6 messages were dropped",
        "the connection handled an exception: a handler of 'noise' (sid 3) panicked (UserPanic)",
        "the connection handled an exception: the server broke the protocol",
        "the server said: Maximum Connections Exceeded (MaximumConnections)",
        "  and keeps the connection",
        "  and closes the connection",
    ] {
        assert!(count(&lines, beginning) > 0, "no '{beginning}':\n{}", lines.join("\n"));
    }
    assert!(lines.last().unwrap().starts_with(CLOSED), "{lines:?}");
}

#[test]
fn the_small_examples_run_alone() {
    assert_eq!(run("publish", &[]), ["published 1 to 'greet.joe'"]);
    let subscribed = run("subscribe", &[]);
    assert_eq!(
        subscribed[1..4],
        ["hello 0", "hello 1", "hello 2"].map(|m| format!("greet.joe: {m}"))
    );
    assert_eq!(
        run("request", &[]),
        [
            "nobody listens to 'nobody.listens.here'",
            "reply: hello",
            "reply: hello 1",
            "reply: hello 2"
        ]
    );
    let responded = run("respond", &[]);
    assert_eq!((count(&responded, "answered: "), count(&responded, "reply: ")), (3, 3));
    assert_eq!(
        run("dispatcher", &[]),
        ["1. orders.new", "2. orders.paid", "3. orders.sent", "ping: pong", "handled: 4"]
    );
}

#[test]
fn options_from_a_file_and_the_environment_are_printed_without_secrets() {
    let path = format!("{}/example-{}.properties", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    fs::write(&path, "io.nats.client.token = canary\nio.nats.client.maxpings = 7\n").unwrap();
    let variables =
        [("NATS_URL", "nats://user:canary@set.by.the.variable"), ("NATS_TIMEOUT", "9s")];
    let lines = Example::start_with("options", &[&path], &variables).finish().join("\n");
    fs::remove_file(&path).unwrap();
    for part in ["nats://set.by.the.variable:4222", "connect_timeout: 9s", "\"token\"", "7"] {
        assert!(lines.contains(part), "no {part} in {lines}");
    }
    assert!(!lines.contains("canary") && !lines.contains("localhost"), "{lines}");
    let alone = run("options", &[]).join("\n");
    assert!(alone.contains("reconnect_wait: 500ms") && !alone.contains("never shown"), "{alone}");
}

#[test]
fn authorization_is_let_in_with_each_kind_of_credentials() {
    let expected = [
        "let in with a password",
        "refused with the wrong password: true",
        "asked by a server: true",
        "asked by a server: true",
        "let in with the next password",
        "let in with a token",
    ];
    assert_eq!(run("authorization", &[]), expected);

    let (operator, account, user) = (Operator::new(), Account::new(), Key::user());
    let realm = NatsServer::start(&Config::new().operator(&operator, &[&account]));
    let nkeys = NatsServer::start(&Config::new().nkey(&user.public()));
    for (server, way, text) in
        [(&realm, "creds", account.creds(&user, None)), (&nkeys, "nkey", user.seed())]
    {
        let name = format!("example-{}-{way}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, text).unwrap();
        let arguments = ["--server", &server.url(), way, &path.to_string_lossy()];
        assert_eq!(run("authorization", &arguments), [format!("let in with {way}")]);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_queue_group_does_every_job_once() {
    let lines = run("queue_group", &[]);
    assert_eq!(lines.last().unwrap(), "300 of 300 jobs were done, each once");
    assert_eq!(lines.len(), 4, "three workers: {lines:?}");
}

#[test]
fn a_drain_handles_what_had_arrived() {
    let lines = run("drain", &[]);
    assert_legal(&lines);
    assert_eq!(lines[lines.len() - 2..], ["handled: 50 of 50", "results that arrived: 50 of 50"]);
}

#[test]
fn a_harness_tests_a_service_through_faults() {
    let lines = run("harness", &[]);
    assert_eq!(lines, ["400 of 400 answers were right", "3 losses survived", "3 losses survived"]);
}

#[test]
fn retry_connect_works_before_its_server_is_there() {
    let lines = run("retry_connect", &[]);
    assert_eq!(count(&lines, "connect returned: connecting"), 1, "{lines:?}");
    assert!(count(&lines, "connecting nats: reconnect failed") >= 2, "{lines:?}");
    assert_eq!(count(&lines, "greet.joe: hello"), 1, "{lines:?}");
    assert!(lines.iter().any(|line| line.contains(OPENED)), "{lines:?}");
    assert!(lines.last().unwrap().contains(CLOSED), "{lines:?}");
}

#[test]
fn retry_connect_finds_a_real_server_that_starts_later() {
    let mut server = NatsServer::start_plain();
    server.kill();
    let example = Example::start("retry_connect", &["--server", &server.url()]);
    example.wait_lines("connecting nats: reconnect failed", 2);
    server.restart();
    example.wait_lines("greet.joe: hello", 1);
    example.terminate();
    assert!(example.finish().last().unwrap().contains(CLOSED));
}

#[test]
fn server_pool_prefers_one_server_and_then_has_another_pool() {
    let lines = run("server_pool", &[]);
    let used: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("pool: ")?.strip_suffix(", failed 0, in use"))
        .collect();
    let [first, second, third] = used[..] else { panic!("{lines:?}") };
    assert!(first != second && second != third && first != third, "{lines:?}");
    assert_eq!(count(&lines, &format!("pool: {first}, failed 3")), 1, "{lines:?}");
    assert_eq!(count(&lines, &format!("still on {second}")), 1, "{lines:?}");
    assert_eq!(count(&lines, "pool: "), 5, "{lines:?}");
    assert_legal(&lines);

    let cluster = Cluster::start(2);
    let servers = cluster.urls().join(",");
    let lines = run("server_pool", &["--server", &servers, "--for", "0.1"]);
    assert!(count(&lines, "pool: ") >= 2, "{lines:?}");
}

#[test]
fn a_plugin_leaves_no_thread_behind_and_starts_again() {
    let server = NatsServer::start_plain();
    for arguments in [vec![], vec!["--server".to_owned(), server.url()]] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let lines = run("plugin", &arguments);
        assert_eq!(lines.len(), 12, "{lines:?}");
        for (round, lines) in (1..).zip(lines.chunks(4)) {
            let asked = format!("host: round {round}, 10 of 10 answers were right");
            assert_eq!(lines[..3], ["plugin: connected", &asked, "plugin: closed"], "{lines:?}");
            if cfg!(target_os = "linux") {
                assert_eq!(lines[3], "threads: 3 before, 7 while it ran, 3 after");
            }
        }
    }
}

#[test]
fn a_set_takes_turns_and_tells_each_end() {
    let lines = run("subscription_set", &[]);
    for (name, payload, messages) in
        [("orders", "order", 6), ("invoices", "invoice", 2), ("alarms", "alarm", 2)]
    {
        let of: Vec<_> = lines.iter().filter(|line| line.starts_with(name)).collect();
        assert_eq!(of.len(), messages + 1, "{lines:?}");
        for number in 1..=messages {
            assert_eq!(*of[number - 1], format!("{name}: {payload} {number}"));
        }
        assert!(of[messages].starts_with(&format!("{name} ended: ")), "{lines:?}");
    }
    // The busy one comes last: the others had their turns.
    let place = |line: &str| lines.iter().position(|found| found == line).expect("the line");
    for other in ["invoices: invoice 2", "alarms: alarm 2"] {
        assert!(place(other) < place("orders: order 4"), "{lines:?}");
    }
    assert_eq!(
        lines[lines.len() - 2..],
        ["late: still here, the same: true", "late delivered 1; left in the set: 0"]
    );
}

#[test]
fn a_select_waits_on_messages_events_and_a_channel_at_once() {
    let lines = run("select", &[]);
    let ticks: Vec<_> = lines.iter().filter(|line| line.starts_with("tick ")).collect();
    assert_eq!(ticks, ["tick 1", "tick 2", "tick 3"]);
    assert_eq!(count(&lines, "command: enough"), 1, "{lines:?}");
    assert_eq!(count(&lines, "the subscription ended: the connection is closed"), 1);
    assert_eq!(count(&lines, CLOSED), 1, "{lines:?}");
    assert_eq!(lines.len(), 6, "{lines:?}");
}

#[test]
fn headers_are_shown_as_they_came() {
    assert_eq!(
        run("headers", &[]),
        [
            "Sensor: 7",
            "Unit: cm",
            "Tag: raw",
            "Tag: unchecked",
            "first tag: Some(\"raw\"), last tag: Some(\"unchecked\")",
            "as written: None",
            "in any case: Some(\"7\")",
            "invalid header 'Not a name': \
             the name holds something else than visible ASCII at byte 3",
            "reply: [(\"Trace\", \"1\"), (\"Answered-By\", \"headers\")]",
            "archived with: Sensor, Unit, Tag, Copied",
        ]
    );
}

#[test]
fn both_kinds_of_proxies_lead_to_the_server_with_a_user_and_without() {
    let server = NatsServer::start_plain();
    let url = server.url().replace("127.0.0.1", "localhost");
    let users = [("PROXY_USER", "anna"), ("PROXY_PASSWORD", "hunter2")];
    for kind in ["http", "socks"] {
        for (user, variables) in [(None, &users[..0]), (Some(("anna", "hunter2")), &users[..])] {
            let tunnel = Tunnel::start(user);
            let address = tunnel.address();
            let arguments = [kind, address.as_str(), "--server", url.as_str()];
            let lines = Example::start_with("proxy", &arguments, variables).finish();
            assert_eq!(lines, ["received: through the proxy"]);
            assert_eq!(tunnel.targets(), [format!("localhost:{}", server.port())]);
        }
        let strict = Tunnel::start(Some(("anna", "other")));
        let address = strict.address();
        let output = Command::new(folder().join("proxy"))
            .args([kind, address.as_str(), "--server", url.as_str()])
            .envs(users)
            .output()
            .expect("it starts");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && err.contains("refused"), "{err}");
        assert!(!err.contains("hunter2") && strict.targets().is_empty(), "{err}");
    }
}

#[test]
fn many_replies_end_in_each_way() {
    assert_eq!(
        run("request_many", &[]),
        [
            "the first two: anna, bert",
            "until it is silent: anna, bert, carl",
            "up to the last: first, second",
            "in the time: anna, bert, carl",
            "nobody listens",
        ]
    );
}

#[test]
fn the_examples_speak_to_each_other_through_a_real_server() {
    let server = NatsServer::start_plain();
    let url = server.url();
    let subscribe = Example::start("subscribe", &["--server", &url, "--count", "5", "greet.*"]);
    subscribe.wait_lines("subscribed to 'greet.*'", 1);
    let published = run("publish", &["--server", &url, "--count", "5", "greet.anna", "good day"]);
    assert_eq!(published, ["published 5 to 'greet.anna'"]);
    let heard = subscribe.finish();
    assert_eq!(count(&heard, "greet.anna: good day"), 5, "{heard:?}");

    let respond = Example::start("respond", &["--server", &url, "--count", "4", "echo"]);
    respond.wait_lines("answering 'echo'", 1);
    let asked = run("request", &["--server", &url, "--count", "4", "echo", "who"]);
    assert_eq!(asked[1..], ["who", "who 1", "who 2", "who 3"].map(|it| format!("reply: {it}")));
    assert_eq!(count(&respond.finish(), "answered: who"), 4);

    for name in [
        "queue_group",
        "dispatcher",
        "drain",
        "harness",
        "headers",
        "request_many",
        "select",
        "subscription_set",
    ] {
        let alone = run(name, &[]);
        let served = run(name, &["--server", &url]);
        assert_eq!(alone.len(), served.len(), "{name}: {alone:?} and {served:?}");
    }
}
