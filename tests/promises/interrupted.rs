//! F7 and F8: this very process is stopped, or interrupted all the time.
//!
//! Each in a process of its own, which asks others to send it the signals: nothing here may call
//! the system for it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::{Happening, Recorder};
use nats_blocking::{Connection, ConnectionEventKind as Kind, Options, PendingLimits};

use crate::Tier;
use crate::alone::Alone;
use crate::support::nats_server::{Config, NatsServer};
use crate::support::wait::poll;

const LIMIT: Duration = Duration::from_secs(60);
const PINGS: Duration = Duration::from_millis(300);
const PINGS_OUT: u32 = 2;
/// What the idle process may use of one processor once it goes on.
const BUSY: f64 = 0.05;

fn connect(url: &str) -> (Connection, Recorder) {
    let recorder = Recorder::new();
    let connection = Options::builder()
        .server(url)
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(50))
        .reconnect_jitter(Duration::from_millis(20))
        .ping_interval(PINGS)
        .max_pings_out(PINGS_OUT)
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()
        .unwrap();
    (connection, recorder)
}

fn round_trip(connection: &Connection) {
    let subscription = connection.subscribe("again").unwrap();
    let back = poll(LIMIT, || {
        connection.publish("again", "").ok()?;
        subscription.next_timeout(Duration::from_secs(1)).ok()
    });
    assert!(back.is_some(), "it works again");
}

/// This process stands still for so long. Others continue it.
fn stand_still(length: Duration) {
    let script = format!("kill -STOP $0; sleep {}; kill -CONT $0", length.as_secs_f64());
    let status = Command::new("sh").args(["-c", &script, &std::process::id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// How much of one processor this process uses meanwhile; 0 where there is no `/proc`.
fn use_of_processor(length: Duration) -> f64 {
    let ticks = || {
        let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let behind_name = text.rsplit(')').next().unwrap_or_default();
        let fields = behind_name.split_whitespace().skip(11).take(2);
        fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>()
    };
    let before = ticks();
    // Paces: an idle process.
    thread::sleep(length);
    (ticks() - before) as f64 / 100.0 / length.as_secs_f64()
}

/// The process stands still for three times as long as a dead server would take to be noticed.
pub(crate) fn stopped(tier: Tier) -> String {
    Alone::new("F7").run(tier, LIMIT * 20, live_stopped)
}

fn live_stopped(tier: Tier) -> String {
    let rounds = tier.choose(3, 30);
    let length = PINGS * (PINGS_OUT + 1) * 3;
    let patient = NatsServer::start_plain();
    // This one does not wait so long for us.
    let strict = Config::new().ping_interval(Duration::from_millis(300)).ping_max(1);
    let strict = NatsServer::start(&strict);
    let all = [connect(&patient.url()), connect(&strict.url())];
    let (mut worst, mut replaced) = (0.0_f64, [0, 0]);
    for _ in 0..rounds {
        let before = all.each_ref().map(|(one, _)| one.statistics().disconnects());
        stand_still(length);
        all.iter().for_each(|(connection, _)| round_trip(connection));
        worst = worst.max(use_of_processor(Duration::from_secs(2)));
        for (index, (connection, recorder)) in all.iter().enumerate() {
            let lost = connection.statistics().disconnects() - before[index];
            assert!(lost <= 1, "replaced {lost} times\n{}", recorder.timeline("stopped once"));
            assert!(connection.is_connected());
            replaced[index] += lost;
        }
    }
    assert!(worst < BUSY, "{:.1} % of a processor when it goes on", worst * 100.0);
    for (connection, recorder) in all {
        connection.close();
        recorder.check().unwrap();
    }
    format!(
        "{rounds} times stopped for {:.1} s: replaced {} times where the server had kept the \
         connection and {} times where it had not, never twice; then at most {:.1} % of a processor",
        length.as_secs_f64(),
        replaced[0],
        replaced[1],
        worst * 100.0
    )
}

/// Sends SIGTERM to every thread of a process, again and again, until it is killed.
const INTERRUPT: &str = "
import ctypes, os, sys, time
libc, process = ctypes.CDLL(None), int(sys.argv[1])
while True:
    for thread in os.listdir(f'/proc/{process}/task'):
        libc.tgkill(process, int(thread), 15)
    time.sleep(0.001)
";

/// Every thread of the process gets a signal every millisecond.
pub(crate) fn interrupted(tier: Tier) -> String {
    Alone::new("F8").run(tier, LIMIT * 5, live_interrupted)
}

fn interrupt() -> (Child, Arc<AtomicU64>) {
    let signals: Arc<AtomicU64> = Arc::default();
    let count = Arc::clone(&signals);
    ctrlc::set_handler(move || _ = count.fetch_add(1, Ordering::Relaxed)).unwrap();
    let child = Command::new("python3")
        .args(["-c", INTERRUPT, &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (child, signals)
}

fn live_interrupted(tier: Tier) -> String {
    let length = Duration::from_secs(tier.choose(10, 60));
    let server = NatsServer::start_plain();
    let (connection, recorder) = connect(&server.url());
    let echo = connection
        .dispatcher(|connection, message| connection.respond(&message, "").expect("an answer"))
        .unwrap();
    echo.subscribe("echo").unwrap();
    let subscription = connection.subscribe("stream").unwrap();
    subscription.set_pending_limits(PendingLimits::UNLIMITED);
    connection.flush().unwrap();
    let (mut child, signals) = interrupt();
    let begun = Instant::now();
    let (mut requests, mut messages) = (0, 0);
    while begun.elapsed() < length {
        connection.request("echo", "", LIMIT).unwrap();
        requests += 1;
        for _ in 0..100 {
            connection.publish("stream", [7; 1_000]).unwrap();
        }
        connection.flush().unwrap();
        for _ in 0..100 {
            subscription.next_timeout(LIMIT).unwrap();
            messages += 1;
        }
        // A new connection is interrupted in its login.
        if requests % 100 == 0 {
            Options::builder().server(server.url()).connect().unwrap().close();
        }
    }
    let told = signals.load(Ordering::Relaxed);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(told > 100, "{told} signals: hardly any");
    let quiet = |told: &Happening| matches!(told.event_kind(), Some(Kind::Connected));
    assert_eq!(recorder.count(|told| !quiet(told)), 0, "{}", recorder.timeline("interrupted"));
    connection.close();
    recorder.check().unwrap();
    format!(
        "{} s with a signal to every thread every millisecond ({told} heard): {requests} requests, \
         {messages} messages, {} connections made beside; errors 0, disconnects 0",
        length.as_secs(),
        requests / 100
    )
}
