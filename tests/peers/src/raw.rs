//! The limit: plain sockets, one thread, frames made in advance. Not a client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use crate::common;
use crate::meter::{Latencies, Meter, Outcome, repeat_timed};
use crate::plan::{ECHO, FEED, NOWHERE, Plan, Result};

pub fn run(plan: &Plan) -> Result<Outcome> {
    if plan.ca.is_some() {
        // It speaks in clear only: over TLS there is no limit to compare with.
        return plan.unknown();
    }
    match plan.workload.as_str() {
        "publish" => publish(plan),
        "pull" | "handler" => receive(plan),
        "pubsub" => pubsub(plan),
        "request" => request(plan, plan.threads),
        "pipeline" => request(plan, plan.depth),
        "flush" => flush(plan),
        "wake" => wake(plan),
        "connect" => connects(plan),
        _ => plan.unknown(),
    }
}

/// A socket behind its handshake, and what of the stream has been read.
pub struct Wire {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// A message: where to answer, and its payload.
type Received = (Option<String>, Vec<u8>);

impl Wire {
    pub fn connect(url: &str) -> Result<Self> {
        let stream = TcpStream::connect(url)?;
        stream.set_nodelay(true)?;
        let mut wire = Self { stream, buffer: vec![0; 256 * 1024], start: 0, end: 0 };
        let connect = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"raw\",\
                       \"version\":\"0\",\"protocol\":1,\"headers\":true,\
                       \"no_responders\":true}\r\nPING\r\n";
        while !wire.line()?.starts_with(b"INFO") {}
        wire.stream.write_all(connect.as_bytes())?;
        wire.pong()?;
        Ok(wire)
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let count = self.stream.read(&mut self.buffer[self.end..])?;
        if count == 0 {
            return Err("the server closed the connection".into());
        }
        self.end += count;
        Ok(())
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<Vec<u8>> {
        let mut from = 0;
        loop {
            let seen = &self.buffer[self.start..self.end];
            if let Some(at) = memchr::memchr(b'\n', &seen[from..]) {
                let line = seen[..from + at].trim_ascii_end().to_vec();
                self.start += from + at + 1;
                return Ok(line);
            }
            from = seen.len();
            self.fill()?;
        }
    }

    /// The message that comes next, if the next operation is one. Answers PING.
    pub fn message(&mut self) -> Result<Option<Received>> {
        let line = self.line()?;
        if line == b"PING" {
            self.send(b"PONG\r\n")?;
        }
        if !line.starts_with(b"MSG ") && !line.starts_with(b"HMSG ") {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = text.split(' ').collect();
        let numbers = if line[0] == b'H' { 2 } else { 1 };
        let length: usize = words[words.len() - 1].parse()?;
        while self.end - self.start < length + 2 {
            self.fill()?;
        }
        let payload = self.buffer[self.start..self.start + length].to_vec();
        self.start += length + 2;
        let reply = (words.len() == 4 + numbers).then(|| words[3].to_owned());
        Ok(Some((reply, payload)))
    }

    /// Whether another line has been read already.
    pub fn has_more(&self) -> bool {
        memchr::memchr(b'\n', &self.buffer[self.start..self.end]).is_some()
    }

    pub fn pong(&mut self) -> Result<()> {
        while self.line()? != b"PONG" {}
        Ok(())
    }

    /// Counts messages without looking at more than their lengths, until so many have come.
    fn count(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            let seen = &self.buffer[self.start..self.end];
            let Some(at) = memchr::memchr(b'\n', seen) else {
                self.fill()?;
                continue;
            };
            let mut length = 0;
            if seen[0] == b'M' {
                let mut digits = &seen[..at - 1];
                digits = &digits[memchr::memrchr(b' ', digits).unwrap_or(0) + 1..];
                length = digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
                length += 2;
                count -= 1;
            }
            while self.end - self.start < at + 1 + length {
                self.fill()?;
            }
            self.start += at + 1 + length;
        }
        Ok(())
    }

    /// Waits for a reply and takes all that came with it; how many there were.
    fn replies(&mut self) -> Result<usize> {
        self.count(1)?;
        let mut count = 1;
        // Only whole messages that are there already.
        loop {
            let seen = &self.buffer[self.start..self.end];
            let Some(at) = memchr::memchr(b'\n', seen) else { return Ok(count) };
            let digits = &seen[..at - 1];
            let digits = &digits[memchr::memrchr(b' ', digits).unwrap_or(0) + 1..];
            let length: usize = std::str::from_utf8(digits)?.parse()?;
            if seen.len() < at + 1 + length + 2 {
                return Ok(count);
            }
            self.count(1)?;
            count += 1;
        }
    }
}

fn frame(subject: &str, reply: &str, size: usize) -> Vec<u8> {
    let mut frame = format!("PUB {subject}{reply} {size}\r\n").into_bytes();
    frame.resize(frame.len() + size, b'x');
    frame.extend_from_slice(b"\r\n");
    frame
}

/// As many frames as make about 64 KiB, and their number.
fn chunk(subject: &str, size: usize) -> (Vec<u8>, u64) {
    let one = frame(subject, "", size);
    let count = (65_536 / one.len()).max(1);
    (one.repeat(count), count as u64)
}

fn publish(plan: &Plan) -> Result<Outcome> {
    let mut wire = Wire::connect(&plan.url)?;
    let (chunk, frames) = chunk(NOWHERE, plan.size);
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    let mut count = 0;
    while Instant::now() < end {
        wire.send(&chunk)?;
        count += frames;
    }
    wire.send(b"PING\r\n")?;
    wire.pong()?;
    Ok(meter.finish(count))
}

fn receive(plan: &Plan) -> Result<Outcome> {
    let mut wire = Wire::connect(&plan.url)?;
    let mut subs = String::new();
    for number in 0..plan.subs {
        subs += &format!("SUB {} {}\r\n", Plan::subject(number), number + 1);
    }
    wire.send(subs.as_bytes())?;
    wire.send(b"PING\r\n")?;
    wire.pong()?;
    common::batches(plan, |count| {
        let order = plan.order(count);
        wire.send(format!("PUB {FEED} {}\r\n{order}\r\n", order.len()).as_bytes())?;
        wire.count(count)
    })
}

fn pubsub(plan: &Plan) -> Result<Outcome> {
    let mut wire = Wire::connect(&plan.url)?;
    let subject = Plan::subject(0);
    wire.send(format!("SUB {subject} 1\r\nPING\r\n").as_bytes())?;
    wire.pong()?;
    let (chunk, frames) = chunk(&subject, plan.size);
    let mut sending = wire.stream.try_clone()?;
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    let mut count = 0;
    while Instant::now() < end {
        let chunks = plan.batch / frames;
        thread::scope(|scope| {
            let writer = scope.spawn(|| -> Result<()> {
                for _ in 0..chunks {
                    sending.write_all(&chunk)?;
                }
                Ok(())
            });
            wire.count(chunks * frames)?;
            writer.join().map_err(|_| "a thread panicked")?
        })?;
        count += chunks * frames;
    }
    Ok(meter.finish(count))
}

/// So many requests under way at any time, all on one thread.
fn request(plan: &Plan, depth: usize) -> Result<Outcome> {
    let mut wire = Wire::connect(&plan.url)?;
    wire.send(b"SUB _INBOX.raw.* 1\r\nPING\r\n")?;
    wire.pong()?;
    let one = frame(ECHO, " _INBOX.raw.1", plan.size);
    let all = one.repeat(depth);
    let mut latencies = Latencies::new()?;
    let mut sent = std::collections::VecDeque::new();
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    let mut ready = depth;
    loop {
        let now = Instant::now();
        if now < end {
            sent.extend(std::iter::repeat_n(now, ready));
            wire.send(&all[..ready * one.len()])?;
        }
        if sent.is_empty() {
            return Ok(meter.finish_with(&latencies));
        }
        ready = wire.replies()?;
        for start in sent.drain(..ready) {
            latencies.record(start);
        }
    }
}

fn flush(plan: &Plan) -> Result<Outcome> {
    let mut wire = Wire::connect(&plan.url)?;
    let mut both = frame(NOWHERE, "", plan.size);
    both.extend_from_slice(b"PING\r\n");
    let meter = Meter::start();
    let latencies = repeat_timed(plan.time(), || {
        wire.send(&both)?;
        wire.pong()
    })?;
    Ok(meter.finish_with(&latencies))
}

fn wake(plan: &Plan) -> Result<Outcome> {
    let (mut publisher, mut receiver) = (Wire::connect(&plan.url)?, Wire::connect(&plan.url)?);
    let subject = Plan::subject(0);
    receiver.send(format!("SUB {subject} 1\r\nPING\r\n").as_bytes())?;
    receiver.pong()?;
    let one = frame(&subject, "", plan.size);
    let (sender, arrived) = channel();
    let stream = receiver.stream.try_clone()?;
    let reader = thread::Builder::new()
        .spawn(move || while receiver.count(1).is_ok() && sender.send(Instant::now()).is_ok() {})?;
    let outcome = common::wakes(plan, &arrived, || publisher.send(&one));
    stream.shutdown(std::net::Shutdown::Both)?;
    reader.join().map_err(|_| "a thread panicked")?;
    outcome
}

fn connects(plan: &Plan) -> Result<Outcome> {
    let meter = Meter::start();
    let latencies = common::at_most(plan, || {
        let stream = TcpStream::connect(&plan.url)?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        reader.get_mut().write_all(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n")?;
        line.clear();
        reader.read_line(&mut line)?;
        Ok(())
    })?;
    Ok(meter.finish_with(&latencies))
}
