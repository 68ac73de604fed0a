//! The example `bench`: what it counts, what it refuses, and how it ends before its time.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::{Example, LIMIT, folder, run, run_failing};
use crate::support::nats_server::{self, Config, NatsServer};
use crate::support::wait::poll;

/// Every mode of `bench`, with a small count, and how many operations that makes.
const BENCHES: &[(&[&str], u64)] = &[
    (&["pub", "--connections", "2", "--threads", "2", "--size", "0"], 200),
    (&["sub", "--subscriptions", "3"], 600),
    (&["pubsub", "--connections", "2", "--size", "1000"], 400),
    (&["fanout"], 2_000),
    (&["request"], 200),
    (&["request", "--threads", "3", "--connections", "2"], 200),
    (&["request", "--pipeline", "16"], 200),
    (&["flush", "--threads", "2"], 200),
    (&["wake"], 200),
    (&["connect"], 200),
];

#[test]
fn a_bench_of_every_mode_counts_everything_and_tells_it_to_machines() {
    let server = NatsServer::start_plain();
    for (words, counted) in BENCHES {
        let mut arguments = words.to_vec();
        arguments.extend(["--count", "200", "--json"]);
        let url = server.url();
        // Without a server of others `sub` publishes for itself.
        if words[0] != "sub" {
            arguments.extend(["--server", &url]);
        }
        let lines = run("bench", &arguments);
        assert_eq!(lines.len(), 1, "{words:?}: {lines:?}");
        let value: Value = serde_json::from_str(&lines[0]).expect("JSON");
        assert_eq!(value["mode"], words[0]);
        assert_eq!(value["count"], *counted, "{words:?}: {value}");
        assert_eq!(value["wanted"], *counted);
        assert!(value["error"].is_null(), "{value}");
        assert!(value["per_s"].as_f64().unwrap() > 0.0, "{value}");
        assert_eq!(value.get("bytes_per_s").is_some(), words[0] != "connect", "{value}");
        assert!(!value["server"]["version"].as_str().unwrap().is_empty(), "{value}");
        let latency = &value["latency_us"];
        if ["request", "flush", "wake", "connect"].contains(&words[0]) {
            assert!(latency["p50"].as_f64() <= latency["p99"].as_f64(), "{value}");
            assert!(latency["p50"].as_f64().unwrap() > 0.0, "{value}");
        } else {
            assert_eq!(latency.as_object().unwrap().len(), 0, "{value}");
        }
    }
    let lines = run("bench", &["flush", "--count", "50", "--server", &server.url()]);
    assert_eq!(lines[0], "flush: 50 flushes of 16 bytes");
    assert!(lines[1].contains("flushes/s"), "{lines:?}");
    assert!(lines.last().unwrap().contains("p99.9"), "{lines:?}");
}

#[test]
fn two_benches_speak_to_each_other() {
    let server = NatsServer::start_plain();
    let url = server.url();
    let words = ["sub", "--json", "--count", "500", "--subject", "two", "--server", &url];
    let receiver = Example::start("bench", &words);
    // The one that publishes may come before the other listens: then another one comes.
    let told = poll(LIMIT, || {
        let words = ["--count", "1000", "--size", "100", "--subject", "two", "--server", &url];
        run("bench", &[&["pub"], &words[..]].concat());
        receiver.lines.read(|lines| (!lines.is_empty()).then_some(()))
    });
    assert!(told.is_some(), "nothing arrived");
    let value: Value = serde_json::from_str(&receiver.finish()[0]).expect("JSON");
    assert_eq!(value["error"], Value::Null);
    assert_eq!(value["count"], 500, "{value}");
    assert_eq!(value["bytes"], 500 * 100, "{value}");
}

#[test]
fn a_bench_refuses_what_cannot_be() {
    let server = NatsServer::start_plain();
    let (url, huge) = (server.url(), "9223372036854775808");
    for (words, complaint) in [
        (vec![], "which mode? One of pub, sub"),
        (vec!["fly"], "'fly' is no mode"),
        (vec!["pub", "--count", "0"], "--count: '0' is not a number from 1 to 1,000,000,000,000"),
        (vec!["pub", "--threads", "0"], "--threads: '0' is not a number from 1 to 10,000"),
        (vec!["request", "--pipeline", "many"], "--pipeline: 'many' is not a number from 1 to"),
        (vec!["pub", "--size", "-1"], "--size: '-1' is not a number from 0 to 67,108,864"),
        (vec!["pub", "--connections", "2", "--threads", huge], "--threads: '9223372036854775808'"),
        (vec!["pub", "--connections", "2", "--threads", "6000"], "at most 10,000 in all"),
        (vec!["fanout", "--subscriptions", "18446744073709551615"], "from 1 to 10,000,000"),
        (vec!["sub", "--size", "1", "--server", &url], "sub counts the bytes that arrive"),
        (vec!["pub", "--size"], "--size needs a value"),
        (vec!["pub", "--pipeline", "2"], "pub has no option '--pipeline'"),
        (vec!["wake", "--fast"], "wake has no option '--fast'"),
        (vec!["pub", "--size", "2000000", "--server", &url], "at most 1048576 bytes"),
        (vec!["pubsub", "--size", "2000000", "--server", &url], "at most 1048576 bytes"),
        (vec!["pub", "--subject", "a b", "--server", &url], "--subject: invalid subject 'a b'"),
        (vec!["pub", "--subject", "a.", "--server", &url], "--subject: invalid subject 'a.'"),
        (vec!["wake", "--subject", "a.*", "--server", &url], "wildcard: 'a.*'"),
        (vec!["sub", "--subject", "a.>"], "wildcard: 'a.>'"),
    ] {
        let (_, out, err) = run_failing("bench", &words);
        assert!(err.contains(complaint), "{words:?}: {err}");
        assert!(out.is_empty(), "{words:?}: {out}");
    }
    let nobody = format!("nats://127.0.0.1:{}", crate::support::ports::free());
    for mode in ["pub", "pubsub", "request", "connect"] {
        let (_, _, err) = run_failing("bench", &[mode, "--server", &nobody]);
        assert!(err.contains("nobody listens there") || err.contains("refused"), "{mode}: {err}");
        assert!(!err.contains("lost"), "what was never there is not lost: {mode}: {err}");
    }
}

#[test]
fn a_bench_whose_server_goes_away_tells_what_it_had_done() {
    for mode in ["pub", "pubsub", "request", "flush", "wake", "connect"] {
        let mut server = NatsServer::start_plain();
        let url = server.url();
        let words = [mode, "--json", "--count", "1000000000", "--server", &url];
        let mut bench = Example::start("bench", &words);
        // Both sides of a mode are connected and at work once the server has seen traffic.
        let watcher = nats_blocking::connect(&url).unwrap();
        let traffic = watcher.subscribe(">").unwrap();
        if mode != "connect" {
            traffic.next_timeout(LIMIT).unwrap();
        } else {
            server.wait_ready(LIMIT);
        }
        server.kill();
        let status = poll(LIMIT, || bench.child.try_wait().unwrap());
        assert_eq!(status.and_then(|status| status.code()), Some(1), "{mode}");
        let errors: String = bench.readers.drain(..).map(|one| one.join().unwrap()).collect();
        // One that had not begun has nothing to tell but the error.
        let lines = bench.lines.read(Clone::clone);
        if mode != "connect" || !lines.is_empty() {
            assert!(errors.contains("ended before its time"), "{mode}: {errors}");
            let value: Value = serde_json::from_str(&lines[0]).expect("JSON");
            let cause = if mode == "connect" { "cannot connect" } else { "the server was lost: " };
            assert!(value["error"].as_str().unwrap().starts_with(cause), "{mode}: {value}");
            assert!(value["count"].as_u64() < value["wanted"].as_u64(), "{mode}: {value}");
        }
    }
}

/// A server on which the user `a` may neither publish nor subscribe below `no`.
fn strict_server() -> (NatsServer, String) {
    let denied = "publish: { deny: \"no.>\" }, subscribe: { deny: \"no.>\" }";
    let server = NatsServer::start(&Config::new().user_with_permissions("a", "a", denied));
    let url = server.url().replace("nats://", "nats://a:a@");
    (server, url)
}

#[test]
fn a_bench_tells_what_the_server_refused() {
    let (_server, url) = strict_server();
    for mode in ["pub", "flush"] {
        let words = [mode, "--json", "--count", "20000", "--subject", "no.x", "--server", &url];
        let (status, out, err) = run_failing("bench", &words);
        assert_eq!(status, Some(1), "{mode}: {err}");
        let value: Value = serde_json::from_str(&out).expect("JSON");
        let error = value["error"].as_str().unwrap();
        assert!(error.contains("refused: Permissions Violation for Publish"), "{value}");
        assert_eq!(value["count"], 0, "{mode}: {value}");
        assert!(value["per_s"].is_null(), "{value}");
    }
    for mode in ["sub", "pubsub", "fanout", "request", "wake"] {
        let (_, out, err) = run_failing("bench", &[mode, "--subject", "no.x", "--server", &url]);
        assert!(err.contains("Permissions Violation for Subscription to \"no.x\""), "{err}");
        assert!(out.is_empty(), "{out}");
    }
}

#[test]
fn a_bench_does_not_count_what_others_publish() {
    let server = NatsServer::start_plain();
    let url = server.url();
    let (others, over) = (nats_blocking::connect(&url).unwrap(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                (0..100).for_each(|_| others.publish("shared", "noise").unwrap());
                others.flush().unwrap();
            }
        });
        let failed = ["pubsub", "fanout", "wake"].map(|mode| {
            let words = [mode, "--count", "20000", "--subject", "shared", "--server", &url];
            Command::new(folder().join("bench")).args(words).output().unwrap()
        });
        over.store(true, Ordering::Relaxed);
        for output in failed {
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && err.contains("others publish to it"), "{err}");
            let out = String::from_utf8_lossy(&output.stdout);
            assert!(!out.contains("20,000 messages of") || out.contains("rate     none"), "{out}");
        }
    });
    // By default nobody else speaks about the same: two at once are right, each for itself.
    let words = ["wake", "--count", "100", "--server", &url];
    let both = [Example::start("bench", &words), Example::start("bench", &words)];
    for one in both {
        assert!(one.finish()[0].starts_with("wake: 100 messages of 16 bytes"));
    }
}

#[test]
fn a_bench_without_messages_leaves_its_patience_out_of_the_rate() {
    let server = NatsServer::start_plain();
    let url = server.url();
    let words = ["request", "--json", "--count", "1000000000", "--server", &url];
    let mut bench = Example::start("bench", &words);
    let watcher = nats_blocking::connect(&url).unwrap();
    watcher.subscribe(">").unwrap().next_timeout(LIMIT).unwrap();
    server.stop();
    let status = poll(LIMIT, || bench.child.try_wait().unwrap());
    assert_eq!(status.and_then(|status| status.code()), Some(1));
    bench.readers.drain(..).for_each(|reader| drop(reader.join().unwrap()));
    let value: Value = serde_json::from_str(&bench.lines.read(|it| it[0].clone())).expect("JSON");
    assert!(value["error"].as_str().unwrap().contains("nothing arrived for 10s"), "{value}");
    assert!(value["seconds"].as_f64().unwrap() < 9.0, "{value}");
}

#[test]
fn a_bench_that_loses_one_of_its_connections_ends_soon() {
    let server = NatsServer::start_plain();
    // Every connection goes through here, so that one of them can be cut.
    let tunnel = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", tunnel.local_addr().unwrap());
    let words = ["pubsub", "--connections", "2", "--count", "1000000000", "--server", &url];
    let mut bench = Example::start("bench", &words);
    let mut ends = Vec::new();
    // Two that receive and one that publishes.
    for _ in 0..3 {
        let (near, _) = tunnel.accept().unwrap();
        let far = TcpStream::connect(server.client_address()).unwrap();
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let pump = move || drop(std::io::copy(&mut from, &mut to));
            std::thread::Builder::new().spawn(pump).unwrap();
        }
        ends.push(near);
    }
    let watcher = nats_blocking::connect(server.url()).unwrap();
    watcher.subscribe(">").unwrap().next_timeout(LIMIT).unwrap();
    ends[1].shutdown(Shutdown::Both).unwrap();
    let status = poll(LIMIT, || bench.child.try_wait().unwrap());
    assert_eq!(status.and_then(|status| status.code()), Some(1));
    let errors: String = bench.readers.drain(..).map(|one| one.join().unwrap()).collect();
    assert!(errors.contains("ended before its time: the server was lost: "), "{errors}");
}

/// A temp directory of its own, for what a bench leaves there.
fn empty_folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("bench-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_bench_that_is_told_to_end_leaves_nothing_behind() {
    let temp = empty_folder("signal");
    let program = nats_server::binary();
    let variables =
        [("TMPDIR", temp.to_str().unwrap()), ("NATS_SERVER", program.to_str().unwrap())];
    let words = ["pubsub", "--json", "--count", "1000000000"];
    let mut bench = Example::start_with("bench", &words, &variables);
    // Its server listens once the file with its port is there.
    let ports = || {
        let folder = fs::read_dir(&temp).unwrap().flatten().next()?.path();
        let mut files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        let ports = files.find(|path| path.extension() == Some(OsStr::new("ports")))?;
        let value: Value = serde_json::from_str(&fs::read_to_string(ports).ok()?).ok()?;
        Some(value["nats"][0].as_str()?.to_owned())
    };
    let url = poll(LIMIT, ports).expect("the server of the bench");
    let watcher = nats_blocking::connect(&url).unwrap();
    watcher.subscribe(">").unwrap().next_timeout(LIMIT).unwrap();
    bench.terminate();
    let status = poll(LIMIT, || bench.child.try_wait().unwrap());
    assert_eq!(status.and_then(|status| status.code()), Some(1));
    bench.readers.drain(..).for_each(|reader| drop(reader.join().unwrap()));
    let value: Value = serde_json::from_str(&bench.lines.read(|it| it[0].clone())).expect("JSON");
    assert_eq!(value["error"], "interrupted by a signal");
    assert_eq!(fs::read_dir(&temp).unwrap().count(), 0);
    let address = url.strip_prefix("nats://").unwrap();
    assert!(TcpStream::connect(address).is_err(), "the server still listens");

    let missing = [("TMPDIR", temp.to_str().unwrap()), ("NATS_SERVER", "/nobody/is/here")];
    let output = Command::new(folder().join("bench")).arg("pub").envs(missing).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(fs::read_dir(&temp).unwrap().count(), 0);
    fs::remove_dir_all(&temp).unwrap();
}

#[test]
fn a_bench_draws_a_bar_for_whom_a_terminal_shows_it_alone() {
    let server = NatsServer::start_plain();
    // About a second: the bar is drawn five times in it.
    let words = ["wake", "--count", "1000", "--server", &server.url()];
    let bench = folder().join("bench");
    let output = Command::new(&bench).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(![&output.stdout, &output.stderr].iter().any(|text| text.contains(&b'\r')));
    let line = format!("{} {}", bench.display(), words.join(" "));
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    match terminal.output() {
        Ok(output) => {
            let shown = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{shown}");
            let bars: Vec<_> = shown.split('\r').filter(|part| part.ends_with('%')).collect();
            assert!(bars.len() >= 2 && bars.iter().all(|bar| bar.starts_with('[')), "{shown}");
            assert!(shown.contains("p99.9"), "{shown}");
        }
        // Only util-linux has it in this form.
        Err(error) => eprintln!("no terminal to try it in: {error}"),
    }
}

#[test]
fn a_bench_that_nobody_reads_does_not_panic() {
    let server = NatsServer::start_plain();
    let words = ["pub", "--count", "100", "--server", &server.url()];
    let bench = || {
        let mut command = Command::new(folder().join("bench"));
        command.args(words).stderr(Stdio::piped());
        command
    };
    let mut gone = bench().stdout(Stdio::piped()).spawn().unwrap();
    drop(gone.stdout.take());
    let output = gone.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !err.contains("panicked"), "{err}");
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        let output = bench().stdout(full).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("the result cannot be written"), "{err}");
    }
    let usage = run("bench", &["--help"]);
    assert!(usage.iter().any(|line| line.starts_with("fanout     100,000")), "{usage:?}");
}
