//! What a message costs: allocations, wake-ups of threads, system calls, memory. Not how long it
//! takes.
//!
//! Counts do not swing with the machine, so speed cannot be lost silently. They are of the whole
//! process: this is a program of its own, without the test harness. The other side is a small
//! server on a thread here that allocates nothing while it is measured and is never the bottleneck.
//! Each bound is the target, or twice what was counted when it was written, whichever is less
//! strict: a change that breaks one has to say why.
//!
//! Arguments that are no options choose the measurements whose names hold one of them. System calls
//! are counted by `strace`, where there is one, over the same program with `--alone NAME`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::alloc::System;
use std::collections::VecDeque;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nats_blocking::{Connection, Consumer, Dispatcher, Options, PendingLimits};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LIMIT: Duration = Duration::from_secs(60);

/// A measurement: what it does so many times, and the most that each may cost.
struct Cost {
    name: &'static str,
    count: u64,
    size: usize,
    /// What it gives back has a thread of its own, whose switches count too.
    run: fn(&Connection, &Self) -> Option<Dispatcher>,
    allocations: f64,
    /// Voluntary switches of the connection's own threads and of the caller.
    wakes: f64,
    /// By name, under `strace`.
    calls: &'static [(&'static str, f64)],
}

const COSTS: &[Cost] = &[
    Cost {
        name: "publish 16",
        count: 100_000,
        size: 16,
        run: publish,
        allocations: 0.05,
        wakes: 0.2,
        calls: &[("sendto", 0.1), ("futex", 0.2)],
    },
    Cost {
        name: "publish 1024",
        count: 50_000,
        size: 1_024,
        run: publish,
        // Buffers that grow and shrink with what waits, which depends on the machine.
        allocations: 0.1,
        wakes: 0.3,
        calls: &[("sendto", 0.2), ("futex", 0.6)],
    },
    Cost {
        name: "pull 16",
        count: 100_000,
        size: 16,
        run: pull,
        allocations: 0.2,
        wakes: 0.1,
        calls: &[("recvfrom", 0.1), ("futex", 0.3)],
    },
    Cost {
        name: "pull 128",
        count: 100_000,
        size: 128,
        run: pull,
        allocations: 0.2,
        wakes: 0.1,
        calls: &[("recvfrom", 0.1), ("futex", 0.3)],
    },
    Cost {
        name: "pull 1024",
        count: 50_000,
        size: 1_024,
        run: pull,
        allocations: 1.0,
        wakes: 0.2,
        calls: &[("recvfrom", 0.2), ("futex", 0.4)],
    },
    Cost {
        name: "handler 16",
        count: 100_000,
        size: 16,
        run: handler,
        allocations: 0.2,
        wakes: 0.1,
        calls: &[("recvfrom", 0.1), ("futex", 0.3)],
    },
    Cost {
        name: "request",
        count: 5_000,
        size: 16,
        run: request,
        allocations: 4.0,
        wakes: 3.0,
        calls: &[("sendto", 1.1), ("recvfrom", 1.1), ("futex", 3.0)],
    },
    Cost {
        name: "pipeline 8",
        count: 40_000,
        size: 16,
        run: |connection, cost| pipeline(connection, cost, 8),
        allocations: 4.0,
        wakes: 1.5,
        calls: &[("sendto", 1.1), ("recvfrom", 1.1), ("futex", 2.5)],
    },
    Cost {
        name: "pipeline 64",
        count: 40_000,
        size: 16,
        run: |connection, cost| pipeline(connection, cost, 64),
        allocations: 4.0,
        wakes: 0.6,
        calls: &[("sendto", 0.6), ("recvfrom", 0.6), ("futex", 1.0)],
    },
    Cost {
        name: "flush",
        count: 5_000,
        size: 16,
        run: flush,
        allocations: 3.0,
        wakes: 3.0,
        calls: &[("sendto", 2.1), ("recvfrom", 1.1), ("futex", 4.0)],
    },
];

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        return;
    }
    if let [alone, name, url] = words.as_slice() {
        if alone == "--alone" {
            let cost = COSTS.iter().find(|cost| cost.name == name).expect("a name");
            let connection = connect(url);
            let _kept = (cost.run)(&connection, cost);
            // Neither an orderly end nor its calls belong to the count.
            std::process::exit(0);
        }
    }
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|word| name.contains(*word));
    let url = serve();
    let strace = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    if !strace {
        println!("system calls are not counted: no strace here");
    }
    for cost in COSTS.iter().filter(|cost| chosen(cost.name)) {
        measure(cost, &url);
        if strace {
            count_calls(cost, &url);
        }
    }
    if chosen("kept") {
        keep(&url);
    }
    if chosen("held") {
        hold_subscriptions(&url);
        [16, 128, 1024].into_iter().for_each(|size| hold_messages(&url, size));
    }
}

fn connect(url: &str) -> Connection {
    let builder = Options::builder().server(url).pending_limits(PendingLimits::UNLIMITED);
    builder.connect().expect("a connection")
}

fn measure(cost: &Cost, url: &str) {
    let connection = connect(url);
    // Buffers that grow to their working size, and what is made once.
    let warm = Cost { count: cost.count / 10, ..*cost };
    let _warmed = (cost.run)(&connection, &warm);
    let (region, wakes) = (Region::new(ALLOCATOR), switches());
    let _measured = (cost.run)(&connection, cost);
    let wakes = (switches() - wakes) as f64 / cost.count as f64;
    let change = region.change();
    let allocations = (change.allocations + change.reallocations) as f64 / cost.count as f64;
    println!("{}: {allocations:.4} allocations, {wakes:.4} wakes each", cost.name);
    assert!(
        allocations <= cost.allocations,
        "{}: at most {} allocations",
        cost.name,
        cost.allocations
    );
    assert!(wakes <= cost.wakes, "{}: at most {} wakes", cost.name, cost.wakes);
    connection.close();
}

/// What subscriptions hold once everything is read, each after a peak of its own.
fn keep(url: &str) {
    const SUBSCRIPTIONS: usize = 300;
    const MESSAGES: usize = 2_000;
    const MOST: usize = 8 * 1024;
    let connection = connect(url);
    let _warmed = pull(&connection, &Cost { count: 100_000, ..COSTS[2] });
    let region = Region::new(ALLOCATOR);
    let subscriptions: Vec<_> = (0..SUBSCRIPTIONS)
        .map(|_| {
            let subscription = connection.subscribe("fed").unwrap();
            connection.publish("feed", format!("{MESSAGES} 16")).unwrap();
            // The server answers in order: then all have arrived.
            connection.flush_timeout(LIMIT).unwrap();
            subscription
        })
        .collect();
    for subscription in &subscriptions {
        for _ in 0..MESSAGES {
            subscription.next_timeout(LIMIT).unwrap();
        }
    }
    let held = growth(&region);
    let each = held / SUBSCRIPTIONS;
    println!("kept: {held} bytes in all, {each} by each of {SUBSCRIPTIONS} subscriptions");
    assert!(each <= MOST, "kept: at most {MOST} bytes");
    connection.close();
}

/// Bytes that are held now and were not when the region began.
fn growth(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated.saturating_sub(change.bytes_deallocated)
}

/// What a subscription of a dispatcher holds.
fn hold_subscriptions(url: &str) {
    const SUBSCRIPTIONS: usize = 10_000;
    const MOST: usize = 512;
    let connection = connect(url);
    let dispatcher = connection.dispatcher(|_, _| ()).unwrap();
    connection.flush_timeout(LIMIT).unwrap();
    let region = Region::new(ALLOCATOR);
    for number in 0..SUBSCRIPTIONS {
        dispatcher.subscribe(format!("many.{number}")).unwrap();
    }
    connection.flush_timeout(LIMIT).unwrap();
    let each = growth(&region) / SUBSCRIPTIONS;
    println!("held: {each} bytes by each of {SUBSCRIPTIONS} subscriptions");
    assert!(each <= MOST, "held: at most {MOST} bytes");
    connection.close();
}

/// What messages that nobody reads yet hold beside their payload.
fn hold_messages(url: &str, size: usize) {
    const MESSAGES: usize = 20_000;
    const MOST: usize = 256;
    let connection = connect(url);
    let _warmed = pull(&connection, &Cost { count: 100_000, ..COSTS[2] });
    let region = Region::new(ALLOCATOR);
    let subscription = connection.subscribe("fed").unwrap();
    connection.publish("feed", format!("{MESSAGES} {size}")).unwrap();
    // The server answers in order: then all have arrived.
    connection.flush_timeout(LIMIT).unwrap();
    assert_eq!(subscription.pending_messages(), MESSAGES as u64);
    let beside = growth(&region).saturating_sub(MESSAGES * size) / MESSAGES;
    println!("held: {beside} bytes beside each of {MESSAGES} payloads of {size} bytes");
    assert!(beside <= MOST, "held: at most {MOST} bytes");
    connection.close();
}

/// How often the threads of connections and the main thread have gone to sleep so far.
fn switches() -> u64 {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return 0 };
    let one = |folder: &Path| {
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let main = folder.ends_with(std::process::id().to_string());
        if !main && !name.starts_with("nats-") {
            return None;
        }
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    threads.flatten().filter_map(|entry| one(&entry.path())).sum()
}

/// Runs the same in a process of its own under `strace`, against the server here.
fn count_calls(cost: &Cost, url: &str) {
    let summary = env::temp_dir().join(format!("costs-{}", std::process::id()));
    let status = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&summary)
        .arg(env::current_exe().expect("a path"))
        .args(["--alone", cost.name, url])
        .stdin(Stdio::null())
        .status()
        .expect("strace starts");
    let text = fs::read_to_string(&summary).unwrap_or_default();
    let _ = fs::remove_file(&summary);
    if !status.success() {
        println!("{}: strace may not trace here", cost.name);
        return;
    }
    for (name, most) in cost.calls {
        // The columns: time, seconds, usecs/call, calls, [errors,] name.
        let found = text.lines().find(|line| line.split_whitespace().last() == Some(name));
        let column = found.and_then(|line| line.split_whitespace().nth(3));
        let calls: f64 = column.map_or(0.0, |number| number.parse().expect("a number"));
        let each = calls / cost.count as f64;
        println!("{}: {each:.4} {name} each", cost.name);
        assert!(each <= *most, "{}: at most {most} {name}", cost.name);
    }
}

fn publish(connection: &Connection, cost: &Cost) -> Option<Dispatcher> {
    let payload = vec![b'x'; cost.size];
    for _ in 0..cost.count {
        connection.publish("nowhere", &payload).unwrap();
    }
    connection.flush_timeout(LIMIT).unwrap();
    None
}

fn pull(connection: &Connection, cost: &Cost) -> Option<Dispatcher> {
    let subscription = connection.subscribe("fed").unwrap();
    connection.publish("feed", format!("{} {}", cost.count, cost.size)).unwrap();
    for _ in 0..cost.count {
        subscription.next_timeout(LIMIT).unwrap();
    }
    None
}

fn handler(connection: &Connection, cost: &Cost) -> Option<Dispatcher> {
    let (sender, done) = channel();
    let (seen, wanted) = (Arc::new(AtomicU64::new(0)), cost.count);
    let dispatcher = connection.dispatcher(move |_, _| {
        if seen.fetch_add(1, Ordering::Relaxed) + 1 == wanted {
            sender.send(()).unwrap();
        }
    });
    let dispatcher = dispatcher.unwrap();
    dispatcher.subscribe("fed").unwrap();
    connection.publish("feed", format!("{} {}", cost.count, cost.size)).unwrap();
    done.recv_timeout(LIMIT).unwrap();
    Some(dispatcher)
}

fn request(connection: &Connection, cost: &Cost) -> Option<Dispatcher> {
    let payload = vec![b'x'; cost.size];
    for _ in 0..cost.count {
        connection.request("echo", &payload, LIMIT).unwrap();
    }
    None
}

/// So many requests under way at any time, all of one thread.
fn pipeline(connection: &Connection, cost: &Cost, depth: u64) -> Option<Dispatcher> {
    let payload = vec![b'x'; cost.size];
    let send = |_| connection.send_request("echo", &payload).unwrap();
    let mut pending: VecDeque<_> = (0..depth).map(send).collect();
    for number in depth..cost.count + depth {
        pending.pop_front().unwrap().wait(LIMIT).unwrap();
        if number < cost.count {
            pending.push_back(send(number));
        }
    }
    None
}

fn flush(connection: &Connection, cost: &Cost) -> Option<Dispatcher> {
    let payload = vec![b'x'; cost.size];
    for _ in 0..cost.count {
        connection.publish("nowhere", &payload).unwrap();
        connection.flush_timeout(LIMIT).unwrap();
    }
    None
}

/// Starts the server; one thread for each client, until the process ends.
fn serve() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    let body = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let client = thread::Builder::new().name("peer".to_owned());
            client.spawn(move || Peer::new(stream).run()).expect("a thread");
        }
    };
    thread::Builder::new().name("server".to_owned()).spawn(body).expect("a thread");
    url
}

/// One client of the server: it feeds the last subscription on demand and answers requests.
struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    sid: Vec<u8>,
    inbox: Vec<u8>,
    out: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an option");
        let (sid, inbox) = (Vec::with_capacity(20), Vec::with_capacity(20));
        let (buffer, out) = (vec![0; 256 * 1024], Vec::with_capacity(256 * 1024));
        Self { stream, buffer, sid, inbox, out }
    }

    /// Ends when the client goes.
    fn run(mut self) {
        let info =
            b"INFO {\"server_id\":\"x\",\"version\":\"2.10.0\",\"proto\":1,\"headers\":true,\
                     \"max_payload\":1048576}\r\n";
        let mut end = 0;
        let mut alive = self.stream.write_all(info).is_ok();
        while alive {
            let Ok(count @ 1..) = self.stream.read(&mut self.buffer[end..]) else { return };
            end += count;
            let buffer = std::mem::take(&mut self.buffer);
            let mut start = 0;
            while let Some(used) = self.frame(&buffer[start..end]) {
                start += used;
            }
            alive = self.stream.write_all(&self.out).is_ok();
            self.out.clear();
            self.buffer = buffer;
            self.buffer.copy_within(start..end, 0);
            end -= start;
        }
    }

    /// Handles the first frame if it is there whole; how many bytes it took.
    fn frame(&mut self, bytes: &[u8]) -> Option<usize> {
        let line = bytes.iter().position(|byte| *byte == b'\n')?;
        let head = bytes[..line].trim_ascii_end();
        let mut words = head.split(|byte| *byte == b' ');
        let last = head.rsplit(|byte| *byte == b' ').next()?;
        match words.next()? {
            b"PUB" => {
                let length = number(last);
                let payload = bytes.get(line + 1..line + 1 + length)?;
                bytes.get(line + length + 2)?;
                let subject = words.next()?;
                match subject {
                    b"feed" => self.feed(payload),
                    b"echo" => {
                        let (sid, reply) = (&self.inbox, words.next()?);
                        for part in [b"MSG ", reply, b" ", sid, b" ", last, b"\r\n", payload] {
                            self.out.extend_from_slice(part);
                        }
                        self.out.extend_from_slice(b"\r\n");
                    }
                    _ => {}
                }
                return Some(line + 1 + length + 2);
            }
            b"SUB" => {
                let sid = if words.next()? == b"fed" { &mut self.sid } else { &mut self.inbox };
                sid.clear();
                sid.extend_from_slice(last);
            }
            b"PING" => self.out.extend_from_slice(b"PONG\r\n"),
            _ => {}
        }
        Some(line + 1)
    }

    /// Sends as many messages as the payload `count size` says, in writes of up to 64 KiB.
    fn feed(&mut self, order: &[u8]) {
        let mut numbers = order.split(|byte| *byte == b' ').map(number);
        let (mut count, size) = (numbers.next().unwrap(), numbers.next().unwrap());
        while count > 0 {
            self.out.extend_from_slice(b"MSG fed ");
            self.out.extend_from_slice(&self.sid);
            write!(self.out, " {size}\r\n").expect("memory");
            self.out.resize(self.out.len() + size, b'x');
            self.out.extend_from_slice(b"\r\n");
            count -= 1;
            if self.out.len() > 64 * 1024 || count == 0 {
                // A client that has gone is noticed by the next read.
                let _ = self.stream.write_all(&self.out);
                self.out.clear();
            }
        }
    }
}

fn number(digits: &[u8]) -> usize {
    digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}
