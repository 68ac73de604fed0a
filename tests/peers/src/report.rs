//! The verdicts: medians, ratios, the table for people and the lines for machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::meter::Outcome;
use crate::rows::{AHEAD, GROWTH, Metric, Row};
use crate::run::Rounds;
use crate::stats::{interval, median};

const OURS: &str = "ours";
const LIMIT: &str = "raw";

/// What the rounds of a row say.
pub struct Report<'a> {
    row: &'a Row,
    rounds: &'a Rounds,
    /// The peer with the best median, the limit and ourselves left out.
    best: Option<String>,
}

/// The ratios of the rounds, such that more than 1 is better for us.
struct Ratios(Vec<f64>);

impl Ratios {
    fn median(&self) -> f64 {
        median(&self.0)
    }

    fn won(&self) -> usize {
        self.0.iter().filter(|ratio| **ratio >= 1.0).count()
    }
}

impl<'a> Report<'a> {
    pub fn of(row: &'a Row, rounds: &'a Rounds) -> Self {
        let mut report = Self { row, rounds, best: None };
        report.best = report.ranking().into_iter().next();
        report
    }

    /// The peers, the best first.
    fn ranking(&self) -> Vec<String> {
        let mut peers: Vec<(String, f64)> = self
            .names()
            .into_iter()
            .filter(|name| name != OURS && name != LIMIT)
            .map(|name| (name.clone(), self.goodness(&name)))
            .collect();
        peers.sort_by(|a, b| b.1.total_cmp(&a.1));
        peers.into_iter().map(|(name, _)| name).collect()
    }

    fn names(&self) -> Vec<String> {
        let mut names: BTreeMap<&str, ()> = BTreeMap::new();
        for round in self.rounds {
            names.extend(round.keys().map(|name| (name.as_str(), ())));
        }
        names.into_keys().map(str::to_owned).collect()
    }

    /// The metric of an outcome, turned so that more is better.
    fn good(&self, outcome: &Outcome) -> f64 {
        match self.row.metric {
            Metric::Rate => outcome.rate(),
            Metric::Latency => 1.0 / outcome.p50_us.unwrap_or(f64::NAN),
            Metric::Cpu => 1.0 / outcome.cpu_us,
            Metric::Bytes => 1.0 / outcome.value.unwrap_or(f64::NAN),
        }
    }

    fn goodness(&self, name: &str) -> f64 {
        self.median_of(name, |outcome| self.good(outcome))
    }

    fn median_of(&self, name: &str, figure: impl Fn(&Outcome) -> f64) -> f64 {
        let values: Vec<f64> =
            self.rounds.iter().filter_map(|round| round.get(name)).map(figure).collect();
        median(&values)
    }

    /// Our figure over the other's, round by round.
    fn ratios(&self, other: &str, figure: impl Fn(&Outcome) -> f64) -> Ratios {
        let both = |round: &BTreeMap<String, Outcome>| {
            Some(figure(round.get(OURS)?) / figure(round.get(other)?))
        };
        Ratios(self.rounds.iter().filter_map(both).collect())
    }

    fn to_best(&self) -> Ratios {
        match &self.best {
            Some(best) => self.ratios(best, |outcome| self.good(outcome)),
            None => Ratios(Vec::new()),
        }
    }

    fn to_limit(&self) -> Ratios {
        self.ratios(LIMIT, |outcome| self.good(outcome))
    }

    fn cpu_to_best(&self) -> Ratios {
        match &self.best {
            Some(best) => self.ratios(best, |outcome| 1.0 / outcome.cpu_each()),
            None => Ratios(Vec::new()),
        }
    }

    /// The peers between whom more rounds must decide: none if the rounds have decided.
    pub fn contested(&self) -> Option<Vec<String>> {
        let open = |ratios: &Ratios, target: f64| {
            let (low, high) = interval(&ratios.0);
            target > 0.0 && low < target && target <= high
        };
        let target = &self.row.target;
        if !open(&self.to_best(), target.to_best) && !open(&self.to_limit(), target.to_limit) {
            return None;
        }
        let mut names: Vec<String> = self.ranking().into_iter().take(2).collect();
        names.extend([OURS.to_owned(), LIMIT.to_owned()]);
        Some(names)
    }

    /// The figure of a peer as a person reads it.
    fn shown(&self, name: &str) -> String {
        let rate = || match self.median_of(name, Outcome::rate) {
            rate if rate.is_nan() => "-".to_owned(),
            rate if rate >= 1e6 => format!("{:.2} M/s", rate / 1e6),
            rate => format!("{:.1} k/s", rate / 1e3),
        };
        let with = |value: f64, unit: &str| match value {
            value if value.is_nan() => "-".to_owned(),
            value if value >= 1_000.0 => format!("{value:.0} {unit}"),
            value => format!("{value:.1} {unit}"),
        };
        match self.row.metric {
            Metric::Rate => rate(),
            Metric::Latency => {
                let p50 = self.median_of(name, |outcome| outcome.p50_us.unwrap_or(f64::NAN));
                with(p50, "us")
            }
            Metric::Cpu => with(self.median_of(name, |outcome| outcome.cpu_us), "us"),
            Metric::Bytes => {
                with(self.median_of(name, |outcome| outcome.value.unwrap_or(f64::NAN)), "B")
            }
        }
    }

    /// Each target with what was reached.
    fn verdicts(&self) -> Vec<String> {
        let target = &self.row.target;
        let mut verdicts = Vec::new();
        let mut at_least = |what: &str, reached: f64, wanted: f64| {
            if wanted > 0.0 {
                let word = if reached >= wanted { "met" } else { "MISSED" };
                verdicts.push(format!("{what} >= {wanted}: {word}"));
            }
        };
        at_least("best", self.to_best().median(), target.to_best);
        at_least("limit", self.to_limit().median(), target.to_limit);
        at_least("cpu", self.cpu_to_best().median(), target.cpu_to_best);
        let mut at_most = |what: &str, reached: f64, wanted: f64| {
            if wanted > 0.0 {
                let word = if reached <= wanted { "met" } else { "MISSED" };
                verdicts.push(format!("{what} <= {wanted}: {word}"));
            }
        };
        at_most("cpu us", self.median_of(OURS, Outcome::cpu_each), target.cpu_us);
        let own = |outcome: &Outcome| match self.row.metric {
            Metric::Bytes => outcome.value.unwrap_or(f64::NAN),
            _ => outcome.cpu_us,
        };
        at_most("ours", self.median_of(OURS, own), target.most);
        verdicts
    }

    fn line(&self) -> String {
        let best = self.best.clone().unwrap_or_else(|| "-".to_owned());
        let to_best = self.to_best();
        let (low, high) = interval(&to_best.0);
        let cpu = |name: &str| self.median_of(name, Outcome::cpu_each);
        format!(
            "{:<28} {:>10} {:>10} {:<8} {:>10} {:>6} [{:>5},{:>6}] {:>2}/{:<2} {:>6} {:>8} {:>6} \
             {}",
            self.row.id(),
            self.shown(OURS),
            self.shown(LIMIT),
            best,
            self.shown(&best),
            ratio(to_best.median()),
            ratio(low),
            ratio(high),
            to_best.won(),
            to_best.0.len(),
            ratio(self.to_limit().median()),
            format!("{:.3}", cpu(OURS)),
            ratio(self.cpu_to_best().median()),
            self.verdicts().join(", "),
        )
    }

    fn medians(&self) -> Vec<Value> {
        let one = |name: String| {
            let of = |figure: fn(&Outcome) -> f64| finite(self.median_of(&name, figure));
            json!({
                "workload": self.row.name,
                "size": self.row.size,
                "server": self.row.server,
                "peer": name,
                "msgs_per_s": of(Outcome::rate),
                "p50_us": of(|outcome| outcome.p50_us.unwrap_or(f64::NAN)),
                "p99_us": of(|outcome| outcome.p99_us.unwrap_or(f64::NAN)),
                "cpu_us": of(Outcome::cpu_each),
                "bytes": of(|outcome| outcome.value.unwrap_or(f64::NAN)),
            })
        };
        self.names().into_iter().map(one).collect()
    }

    fn summary(&self) -> Value {
        let to_best = self.to_best();
        let (low, high) = interval(&to_best.0);
        json!({
            "workload": self.row.name,
            "size": self.row.size,
            "server": self.row.server,
            "best": self.best,
            "to_limit": finite(self.to_limit().median()),
            "to_best": finite(to_best.median()),
            "to_best_low": finite(low),
            "to_best_high": finite(high),
            "cpu_to_best": finite(self.cpu_to_best().median()),
            "rounds": to_best.0.len(),
            "rounds_won": to_best.won(),
            "verdicts": self.verdicts(),
        })
    }
}

fn ratio(value: f64) -> String {
    match value {
        value if value.is_nan() => "-".to_owned(),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

/// JSON has no NaN.
fn finite(value: f64) -> Value {
    if value.is_finite() { json!((value * 1e4).round() / 1e4) } else { Value::Null }
}

/// The table, with a line for each row and one for each comparison across rows.
pub fn table(results: &[(Row, Rounds)]) -> String {
    let mut text = format!(
        "{:<28} {:>10} {:>10} {:<8} {:>10} {:>6} {:<14} {:<5} {:>6} {:>8} {:>6}  {}\n",
        "row",
        "ours",
        "limit",
        "best",
        "its",
        "ratio",
        "95 %",
        "won",
        "limit",
        "cpu us",
        "cpu",
        "targets"
    );
    for (row, rounds) in results {
        let _ = writeln!(text, "{}", Report::of(row, rounds).line());
    }
    for across in across(results) {
        let _ = writeln!(text, "{}", across.line());
    }
    text
}

/// One of our rows beside another row.
struct Across {
    what: &'static str,
    row: &'static str,
    other: &'static str,
    ratio: f64,
    sign: &'static str,
    target: f64,
    met: bool,
}

impl Across {
    fn verdict(&self) -> &'static str {
        if self.met { "met" } else { "MISSED" }
    }

    fn line(&self) -> String {
        let Self { what, row, other, ratio, sign, target, .. } = self;
        format!("{what} of {row} over {other}: {ratio:.2} {sign} {target}: {}", self.verdict())
    }

    fn value(&self) -> Value {
        json!({
            "what": self.what,
            "row": self.row,
            "over": self.other,
            "ratio": finite(self.ratio),
            "target": format!("{} {}", self.sign, self.target),
            "verdict": self.verdict(),
        })
    }
}

/// What is compared across rows, of the rows that were run.
fn across(results: &[(Row, Rounds)]) -> Vec<Across> {
    let report = |id: &str| {
        let (row, rounds) = results.iter().find(|(row, _)| row.id() == id)?;
        Some(Report::of(row, rounds))
    };
    let growth = GROWTH.iter().filter_map(|(row, other, target)| {
        let cpu = |id: &str| Some(report(id)?.median_of(OURS, Outcome::cpu_each));
        let ratio = cpu(row)? / cpu(other)?;
        let met = ratio <= *target;
        Some(Across { what: "cpu", row, other, ratio, sign: "<=", target: *target, met })
    });
    let ahead = AHEAD.iter().filter_map(|(row, other, target)| {
        let others = report(other)?;
        let best = others.median_of(others.best.as_deref()?, Outcome::rate);
        let ratio = report(row)?.median_of(OURS, Outcome::rate) / best;
        let (what, met) = ("rate to the best", ratio >= *target);
        Some(Across { what, row, other, ratio, sign: ">=", target: *target, met })
    });
    growth.chain(ahead).collect()
}

/// A line for each median, then the summary.
pub fn lines(results: &[(Row, Rounds)]) -> String {
    let mut text = String::new();
    let mut summary = Vec::new();
    for (row, rounds) in results {
        let report = Report::of(row, rounds);
        for median in report.medians() {
            let _ = writeln!(text, "{median}");
        }
        summary.push(report.summary());
    }
    let across: Vec<Value> = across(results).iter().map(Across::value).collect();
    let _ = writeln!(text, "{}", json!({ "summary": summary, "across": across }));
    text
}
