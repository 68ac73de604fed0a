//! What came out: rate, CPU time, latencies; for people and for machines.

use std::fs;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::server::TestServer;
use crate::settings::{Mode, Settings};

/// The result of a run, or of its part until an error.
pub(crate) struct Outcome {
    settings: Settings,
    version: String,
    origin: String,
    done: Done,
    wall: Duration,
    cpu: Option<Duration>,
}

/// What had been done when.
pub(crate) struct Done {
    pub(crate) count: u64,
    /// Of these so many are not a part of the rate.
    pub(crate) before: u64,
    /// Payload of all that is counted, where there is any.
    pub(crate) bytes: Option<u64>,
    pub(crate) end: Instant,
    pub(crate) latencies: Option<Histogram<u64>>,
    pub(crate) error: Option<String>,
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
        Self::start_at(Instant::now())
    }

    /// Started a moment ago.
    pub(crate) fn start_at(wall: Instant) -> Self {
        Self { wall, cpu: cpu_time() }
    }

    pub(crate) fn stop(self, settings: &Settings, server: &TestServer, mut done: Done) -> Outcome {
        let wall = done.end.saturating_duration_since(self.wall);
        let cpu = cpu_time().and_then(|now| now.checked_sub(self.cpu?));
        done.latencies = done.latencies.filter(|latencies| !latencies.is_empty());
        let (version, origin) = (server.version().to_owned(), server.origin.clone());
        Outcome { settings: settings.clone(), version, origin, done, wall, cpu }
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
    pub(crate) fn error(&self) -> Option<&str> {
        self.done.error.as_deref()
    }

    /// None if too little was done for one, or by whom is not known.
    fn rate(&self) -> Option<f64> {
        let timed = self.done.count.saturating_sub(self.done.before);
        let seconds = self.wall.as_secs_f64();
        (timed > 0 && seconds > 0.0).then(|| timed as f64 / seconds)
    }

    /// The payload of one, on average.
    fn size(&self) -> Option<f64> {
        let bytes = self.done.bytes?;
        (self.done.count > 0).then(|| bytes as f64 / self.done.count as f64)
    }

    fn byte_rate(&self) -> Option<f64> {
        Some(self.rate()? * self.size()?)
    }

    fn cpu_each(&self) -> Option<f64> {
        let cpu = self.cpu.filter(|cpu| *cpu >= CPU_LEAST && self.done.count > 0)?;
        Some(cpu.as_secs_f64() * 1e6 / self.done.count as f64)
    }

    fn quantile(&self, quantile: f64) -> Option<f64> {
        Some(self.done.latencies.as_ref()?.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// A few lines.
    pub(crate) fn text(&self) -> String {
        let settings = &self.settings;
        let mut text = format!("{}: {} {}", settings.mode, grouped(self.done.count), self.noun());
        if self.done.error.is_some() {
            text += &format!(" of {}", grouped(settings.total()));
        }
        if let Some(size) = self.size() {
            // Only those of another program may differ.
            let digits = if size.fract() == 0.0 { 0 } else { 1 };
            text += &format!(" of {size:.digits$} bytes");
            text += if digits > 0 { " on average" } else { "" };
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
        text += &self.rate_text();
        text += &format!("\n  server   {}, {}", self.version, self.origin);
        if let Some(cpu) = self.cpu_each() {
            text += &format!("\n  CPU      {cpu:.3} us each, in this process");
        }
        if self.done.latencies.is_some() {
            text += "\n  latency ";
            for (name, quantile) in QUANTILES {
                text += &format!(" {name} {:.1} us", self.quantile(*quantile).unwrap_or(0.0));
            }
        }
        text
    }

    fn rate_text(&self) -> String {
        let Some(rate) = self.rate() else {
            return "\n  rate     none".to_owned();
        };
        let mut text = format!("\n  rate     {} {}/s", grouped(rate as u64), self.noun());
        if let Some(bytes) = self.byte_rate() {
            text += &format!(", {:.2} MiB/s", bytes / f64::from(1 << 20));
        }
        text += &format!(", in {:.3} s", self.wall.as_secs_f64());
        if self.settings.is_sub_of_others() {
            text += " from the first on";
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
        let mut value = json!({
            "mode": settings.mode.to_string(),
            "count": self.done.count,
            "wanted": settings.total(),
            "connections": settings.connections,
            "threads": settings.threads,
            "subscriptions": settings.subscriptions,
            "pipeline": settings.pipeline,
            "server": { "version": self.version, "origin": self.origin },
            "seconds": self.wall.as_secs_f64(),
            "per_s": self.rate(),
            "cpu_us": self.cpu_each(),
            "latency_us": latency,
            "error": self.done.error,
        });
        // A mode that sends no payload has no size and no rate of bytes.
        if let (Some(fields), Some(bytes)) = (value.as_object_mut(), self.done.bytes) {
            // One of our own is a whole number; only those of another program may differ.
            let own = json!(settings.size);
            let size = if settings.is_sub_of_others() { json!(self.size()) } else { own };
            fields.insert("size".to_owned(), size);
            fields.insert("bytes".to_owned(), json!(bytes));
            fields.insert("bytes_per_s".to_owned(), json!(self.byte_rate()));
        }
        value.to_string()
    }
}

/// A number with commas between its thousands.
pub(crate) fn grouped(number: u64) -> String {
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
