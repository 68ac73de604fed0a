//! What a cell reports: wall time, the CPU time of this process, latencies, memory.

use std::fs;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::plan::Result;

/// One measurement of one cell.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub count: u64,
    pub seconds: f64,
    /// Of the whole window, not of one message.
    pub cpu_us: f64,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    /// Bytes, in the rows about memory.
    pub value: Option<f64>,
}

impl Outcome {
    pub fn of_value(value: f64) -> Self {
        Self { count: 1, seconds: 1.0, value: Some(value), ..Self::default() }
    }

    pub fn to_json(&self) -> Value {
        json!({
            "count": self.count,
            "seconds": self.seconds,
            "cpu_us": self.cpu_us,
            "p50_us": self.p50_us,
            "p99_us": self.p99_us,
            "value": self.value,
        })
    }

    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let float = |key: &str| value.get(key).and_then(Value::as_f64);
        let missing = |key: &str| format!("no '{key}' in '{text}'");
        Ok(Self {
            count: float("count").ok_or_else(|| missing("count"))? as u64,
            seconds: float("seconds").ok_or_else(|| missing("seconds"))?,
            cpu_us: float("cpu_us").ok_or_else(|| missing("cpu_us"))?,
            p50_us: float("p50_us"),
            p99_us: float("p99_us"),
            value: float("value"),
        })
    }

    pub fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    pub fn cpu_each(&self) -> f64 {
        self.cpu_us / self.count.max(1) as f64
    }
}

/// The begun window.
pub struct Meter {
    wall: Instant,
    cpu: Duration,
}

impl Meter {
    pub fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }

    pub fn finish(self, count: u64) -> Outcome {
        let cpu_us = (cpu_time() - self.cpu).as_nanos() as f64 / 1e3;
        Outcome { count, seconds: self.wall.elapsed().as_secs_f64(), cpu_us, ..Outcome::default() }
    }

    pub fn finish_with(self, latencies: &Latencies) -> Outcome {
        let mut outcome = self.finish(latencies.0.len());
        outcome.p50_us = Some(latencies.0.value_at_quantile(0.5) as f64 / 1e3);
        outcome.p99_us = Some(latencies.0.value_at_quantile(0.99) as f64 / 1e3);
        outcome
    }
}

/// Latencies in nanoseconds, to three digits.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new(3)?))
    }

    pub fn record(&mut self, since: Instant) {
        self.record_span(since.elapsed());
    }

    pub fn record_span(&mut self, span: Duration) {
        // It grows with what it is given: no span is out of range.
        let _ = self.0.record(nanos(span));
    }

    pub fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The CPU time that this process has used so far, in user and kernel, all threads.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Calls `one` until the time is over; how often it was called.
pub fn repeat(time: Duration, mut one: impl FnMut() -> Result<()>) -> Result<u64> {
    let end = Instant::now() + time;
    let mut count = 0;
    while Instant::now() < end {
        for _ in 0..STRIDE {
            one()?;
        }
        count += STRIDE;
    }
    Ok(count)
}

/// So many calls for each look at the clock.
pub const STRIDE: u64 = 250;

/// Calls `one` until the time is over, with the latency of each call.
pub fn repeat_timed(time: Duration, mut one: impl FnMut() -> Result<()>) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let end = Instant::now() + time;
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(latencies);
        }
        one()?;
        latencies.record(start);
    }
}

/// The anonymous memory of this process in bytes, without the stacks of its threads.
pub fn resident() -> Result<f64> {
    // Stacks have the sizes that Rust (2 MiB) and the C library (8 MiB) give them.
    const STACKS: [u64; 2] = [2_048, 8_192];
    let text = fs::read_to_string("/proc/self/smaps")?;
    let (mut total, mut size) = (0, 0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (key, value) = (words.next(), words.next().and_then(|word| word.parse::<u64>().ok()));
        match (key, value) {
            (Some("Size:"), Some(kib)) => size = kib,
            (Some("Anonymous:"), Some(kib)) if !STACKS.contains(&size) => total += kib,
            _ => {}
        }
    }
    Ok(total as f64 * 1024.0)
}
