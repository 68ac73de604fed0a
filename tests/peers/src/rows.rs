//! What is measured, and what must come out: the table of targets as data.

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The name in the table: unique together with size and server.
    pub name: &'static str,
    /// What the child runs.
    pub workload: &'static str,
    pub size: usize,
    pub server: &'static str,
    pub threads: usize,
    pub subs: usize,
    pub depth: usize,
    pub metric: Metric,
    pub target: Target,
}

/// What of a cell is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Messages a second: more is better.
    Rate,
    /// The median latency: less is better.
    Latency,
    /// The CPU time of the whole cell: less is better.
    Cpu,
    /// Bytes: less is better.
    Bytes,
}

/// Ratios are such that more than 1 is better for us; 0 is no target.
#[derive(Debug, Clone, Copy, Default)]
pub struct Target {
    pub to_best: f64,
    pub to_limit: f64,
    pub cpu_to_best: f64,
    /// At most so many microseconds of CPU a message.
    pub cpu_us: f64,
    /// At most so much of the metric itself (microseconds or bytes).
    pub most: f64,
}

const NONE: Target =
    Target { to_best: 0.0, to_limit: 0.0, cpu_to_best: 0.0, cpu_us: 0.0, most: 0.0 };
/// Against the real server: never behind the best, with 0.6 of its CPU.
const REAL: Target = Target { to_best: 1.0, cpu_to_best: 1.67, ..NONE };
/// Over TLS: hardly behind the best that has TLS here. The limit speaks in clear only.
const OVER_TLS: Target = Target { to_best: 0.9, ..NONE };
/// A latency of at most 1.1 of the limit's.
const NEAR: Target = Target { to_limit: 0.91, ..NONE };

const fn best(to_best: f64) -> Target {
    Target { to_best, ..NONE }
}

const fn most(most: f64) -> Target {
    Target { most, ..NONE }
}

const fn row(
    name: &'static str,
    workload: &'static str,
    size: usize,
    server: &'static str,
    target: Target,
) -> Row {
    let metric = Metric::Rate;
    Row { name, workload, size, server, threads: 1, subs: 1, depth: 1, metric, target }
}

impl Row {
    const fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    const fn subs(mut self, subs: usize) -> Self {
        self.subs = subs;
        self
    }

    const fn depth(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }

    const fn metric(mut self, metric: Metric) -> Self {
        self.metric = metric;
        self
    }

    /// How the command line and the output name it.
    pub fn id(&self) -> String {
        format!("{}-{}-{}", self.name, self.size, self.server)
    }

    /// How many messages are asked for at a time.
    pub fn batch(&self) -> u64 {
        match (self.workload, self.size) {
            // In one process both directions share the server's memory.
            ("pubsub", 0..=128) => 100_000,
            ("pubsub", _) => 20_000,
            ("backlog-memory", 8_192) => 10_000,
            (_, 0..=128) => 200_000,
            _ => 50_000,
        }
    }
}

pub const ROWS: &[Row] = &[
    row("publish", "publish", 16, "sink", Target { cpu_us: 0.045, ..best(1.5) }),
    row("publish", "publish", 128, "sink", best(1.5)),
    row("publish", "publish", 1024, "sink", best(1.1)),
    row("publish", "publish", 8192, "sink", best(1.0)),
    row("publish-4-threads", "publish", 16, "sink", best(1.8)).threads(4),
    row("publish-16-threads", "publish", 16, "sink", NONE).threads(16),
    row("pull", "pull", 16, "source", best(4.0)),
    row("pull", "pull", 1024, "source", best(2.5)),
    row("handler", "handler", 16, "source", best(4.0)),
    row("handler", "handler", 1024, "source", best(2.5)),
    row("fanout-1000", "handler", 16, "source", best(4.0)).subs(1_000),
    row("fanout-100000", "handler", 16, "source", NONE).subs(100_000),
    row("publish", "publish", 16, "real", REAL),
    row("publish", "publish", 128, "real", REAL),
    row("publish", "publish", 1024, "real", REAL),
    row("publish", "publish", 8192, "real", REAL),
    row("publish-4-threads", "publish", 16, "real", REAL).threads(4),
    row("pull", "pull", 16, "real", REAL),
    row("pull", "pull", 1024, "real", REAL),
    row("handler", "handler", 16, "real", REAL),
    row("handler", "handler", 1024, "real", REAL),
    row("fanout-1000", "handler", 16, "real", REAL).subs(1_000),
    row("pubsub", "pubsub", 16, "real", Target { to_best: 1.15, ..REAL }),
    row("pubsub", "pubsub", 1024, "real", Target { to_best: 1.15, ..REAL }),
    row("request", "request", 16, "real", Target { to_best: 1.0, cpu_us: 30.0, ..NEAR })
        .metric(Metric::Latency),
    row("request-8-threads", "request", 16, "real", best(0.9)).threads(8),
    row("pipeline-8", "pipeline", 16, "real", Target { cpu_us: 5.0, ..NONE }).depth(8),
    row("pipeline-64", "pipeline", 16, "real", Target { cpu_us: 5.0, ..NONE }).depth(64),
    row("publish-flush", "flush", 16, "real", NEAR).metric(Metric::Latency),
    row("wake", "wake", 16, "real", NEAR).metric(Metric::Latency),
    row("connect-close", "connect", 16, "real", Target { to_limit: 0.5, ..best(1.0) })
        .metric(Metric::Latency),
    row("publish", "publish", 16, "tls", OVER_TLS),
    row("publish", "publish", 1024, "tls", OVER_TLS),
    row("publish", "publish", 8192, "tls", OVER_TLS),
    row("pull", "pull", 16, "tls", OVER_TLS),
    row("pull", "pull", 1024, "tls", OVER_TLS),
    row("handler", "handler", 1024, "tls", OVER_TLS),
    row("pubsub", "pubsub", 16, "tls", OVER_TLS),
    row("request", "request", 16, "tls", OVER_TLS).metric(Metric::Latency),
    row("publish-flush", "flush", 16, "tls", OVER_TLS).metric(Metric::Latency),
    row("connect-close", "connect", 16, "tls", OVER_TLS).metric(Metric::Latency),
    row("idle-10-s", "idle", 16, "real", most(200.0)).metric(Metric::Cpu),
    row("connection-memory", "connection-memory", 16, "real", most(65_536.0))
        .subs(100)
        .metric(Metric::Bytes),
    row("subscription-memory", "subscription-memory", 16, "sink", most(512.0))
        .subs(100_000)
        .metric(Metric::Bytes),
    row("backlog-memory", "backlog-memory", 128, "source", most(256.0)).metric(Metric::Bytes),
    row("backlog-memory", "backlog-memory", 1024, "source", most(256.0)).metric(Metric::Bytes),
    row("backlog-memory", "backlog-memory", 8192, "source", most(256.0)).metric(Metric::Bytes),
];

/// Which cost must not grow: a row, the row of one, and at most so many times its CPU a message.
pub const GROWTH: &[(&str, &str, f64)] = &[
    ("publish-4-threads-16-sink", "publish-16-sink", 1.3),
    ("publish-16-threads-16-sink", "publish-16-sink", 1.3),
    ("fanout-1000-16-source", "handler-16-source", 1.3),
    ("fanout-100000-16-source", "handler-16-source", 1.3),
];

/// Which rate must be ahead of what others reach another way: a row, the row of the best of them,
/// and at least so many times its rate.
pub const AHEAD: &[(&str, &str, f64)] = &[
    ("pipeline-8-16-real", "request-8-threads-16-real", 1.0),
    ("pipeline-64-16-real", "request-8-threads-16-real", 3.0),
];
