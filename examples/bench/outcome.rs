//! What came out: rate, CPU time, latencies; for people and for machines.

use std::fs;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::Failure;
use crate::settings::{Mode, Settings};

/// The result of a run, or of its part until an error.
pub(crate) struct Outcome {
    settings: Settings,
    count: u64,
    wall: Duration,
    cpu: Option<Duration>,
    latencies: Option<Histogram<u64>>,
    pub(crate) error: Option<Failure>,
}

/// The CPU time is told in hundredths of a second: less than this says nothing.
const CPU_LEAST: Duration = Duration::from_millis(50);

/// The percentiles that are shown.
const QUANTILES: &[(&str, f64)] =
    &[("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// A begun measurement.
pub(crate) struct Clock {
    wall: Instant,
    cpu: Option<Duration>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }

    pub(crate) fn stop(
        self,
        settings: &Settings,
        count: u64,
        latencies: Option<Histogram<u64>>,
        error: Option<Failure>,
    ) -> Outcome {
        let wall = self.wall.elapsed();
        let cpu = cpu_time().and_then(|now| now.checked_sub(self.cpu?));
        let latencies = latencies.filter(|latencies| !latencies.is_empty());
        Outcome { settings: settings.clone(), count, wall, cpu, latencies, error }
    }
}

/// The CPU time of this process, all threads, in user and kernel; Linux tells it in hundredths.
fn cpu_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name, which may hold blanks.
    let rest = text.get(text.rfind(')')? + 2..)?;
    let mut words = rest.split(' ').skip(11);
    let user: u64 = words.next()?.parse().ok()?;
    let system: u64 = words.next()?.parse().ok()?;
    Some(Duration::from_millis(10 * (user + system)))
}

impl Outcome {
    fn rate(&self) -> f64 {
        self.count as f64 / self.wall.as_secs_f64().max(1e-9)
    }

    fn cpu_each(&self) -> Option<f64> {
        let cpu = self.cpu.filter(|cpu| *cpu >= CPU_LEAST && self.count > 0)?;
        Some(cpu.as_secs_f64() * 1e6 / self.count as f64)
    }

    fn quantile(&self, quantile: f64) -> Option<f64> {
        Some(self.latencies.as_ref()?.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// A few lines.
    pub(crate) fn text(&self) -> String {
        let settings = &self.settings;
        let mut text = format!("{}: {} {}", settings.mode, grouped(self.count), self.noun());
        if self.error.is_some() {
            text += &format!(" of {}", grouped(settings.total()));
        }
        if settings.mode != Mode::Connect {
            text += &format!(" of {} bytes", settings.size);
        }
        let parts = [
            ("connections", settings.connections),
            ("threads on each", settings.threads),
            ("subscriptions on each", settings.subscriptions),
            ("under way from each thread", settings.pipeline),
        ];
        for (what, number) in parts.iter().filter(|(_, number)| *number > 1) {
            text += &format!(", {number} {what}");
        }
        text += &format!(
            "\n  rate     {} {}/s, {:.2} MiB/s, in {:.3} s",
            grouped(self.rate() as u64),
            self.noun(),
            self.rate() * settings.size as f64 / f64::from(1 << 20),
            self.wall.as_secs_f64()
        );
        if let Some(cpu) = self.cpu_each() {
            text += &format!("\n  CPU      {cpu:.3} us each, in this process");
        }
        if self.latencies.is_some() {
            text += "\n  latency ";
            for (name, quantile) in QUANTILES {
                text += &format!(" {name} {:.1} us", self.quantile(*quantile).unwrap_or(0.0));
            }
        }
        text
    }

    fn noun(&self) -> &'static str {
        match self.settings.mode {
            Mode::Request => "requests",
            Mode::Flush => "flushes",
            Mode::Connect => "connections",
            _ => "messages",
        }
    }

    /// One line.
    pub(crate) fn json(&self) -> String {
        let settings = &self.settings;
        let latency: serde_json::Map<String, Value> = QUANTILES
            .iter()
            .filter_map(|(name, quantile)| {
                Some(((*name).to_owned(), json!(self.quantile(*quantile)?)))
            })
            .collect();
        json!({
            "mode": settings.mode.to_string(),
            "count": self.count,
            "wanted": settings.total(),
            "size": settings.size,
            "connections": settings.connections,
            "threads": settings.threads,
            "subscriptions": settings.subscriptions,
            "pipeline": settings.pipeline,
            "seconds": self.wall.as_secs_f64(),
            "per_s": self.rate(),
            "bytes_per_s": self.rate() * settings.size as f64,
            "cpu_us": self.cpu_each(),
            "latency_us": latency,
            "error": self.error.as_ref().map(ToString::to_string),
        })
        .to_string()
    }
}

/// A number with commas between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
