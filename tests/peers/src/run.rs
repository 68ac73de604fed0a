//! The parent: starts each cell as a process of its own, one after the other, and collects.
//!
//! A process for each cell keeps one client's CPU time and memory apart from everything else. The
//! order of the peers rotates from round to round and from row to row, so that none always runs
//! after the same other.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::foreign::Program;
use crate::meter::Outcome;
use crate::plan::{NOT_HERE, Plan, Result};
use crate::report::Report;
use crate::rows::{Metric, Row};
use crate::servers::Servers;

pub struct Settings {
    pub rounds: usize,
    /// How many rounds rows get whose verdict is open after the others.
    pub contested: usize,
    pub ms: u64,
    pub rows: Vec<Row>,
    pub peers: Vec<Program>,
}

/// All outcomes of a row: one map from peer to outcome for each round.
pub type Rounds = Vec<BTreeMap<String, Outcome>>;

/// A cell that takes longer has failed, whatever it does.
const PATIENCE: Duration = Duration::from_secs(40);

/// Runs everything; what has been measured so far is what a person sees while waiting.
pub fn run(settings: &Settings, mut progress: impl FnMut(&str)) -> Result<Vec<(Row, Rounds)>> {
    let servers = Servers::start(settings.rows.iter().any(|row| row.server == "tls"))?;
    if servers.real.is_none() {
        progress("no nats-server here: rows against it are left out (set NATS_SERVER=path)");
    }
    let has_server = |row: &&Row| servers.url(row.server).is_some();
    let rows: Vec<Row> = settings.rows.iter().filter(has_server).copied().collect();
    let mut results: Vec<(Row, Rounds)> = rows.into_iter().map(|row| (row, Vec::new())).collect();
    for round in 0..settings.rounds {
        for (index, (row, rounds)) in results.iter_mut().enumerate() {
            // Nothing, and memory, are the same each time, and take long.
            if round >= 2 && matches!(row.metric, Metric::Cpu | Metric::Bytes) {
                continue;
            }
            progress(&format!("round {} of {}: {}", round + 1, settings.rounds, row.id()));
            let peers: Vec<&Program> = settings.peers.iter().collect();
            rounds.push(one_round(settings, &servers, row, &peers, round + index, &mut progress));
        }
    }
    for (index, (row, rounds)) in results.iter_mut().enumerate() {
        for round in settings.rounds..settings.contested {
            let Some(names) = Report::of(row, rounds).contested() else { break };
            progress(&format!("round {} of a contested row: {}", round + 1, row.id()));
            let peers = settings.peers.iter().filter(|peer| names.contains(&peer.name)).collect();
            let peers: Vec<&Program> = peers;
            rounds.push(one_round(settings, &servers, row, &peers, round + index, &mut progress));
        }
    }
    Ok(results)
}

fn one_round(
    settings: &Settings,
    servers: &Servers,
    row: &Row,
    peers: &[&Program],
    turn: usize,
    progress: &mut impl FnMut(&str),
) -> BTreeMap<String, Outcome> {
    let mut ordered = peers.to_vec();
    if !ordered.is_empty() {
        let turn = turn % ordered.len();
        ordered.rotate_left(turn);
    }
    let mut outcomes = BTreeMap::new();
    let mut take = |name: &str, outcome: Result<Outcome>| match outcome {
        Ok(outcome) => {
            outcomes.insert(name.to_owned(), outcome);
        }
        Err(error) if error.to_string().contains(NOT_HERE) => {}
        Err(error) => progress(&format!("{} {name}: {error}", row.id())),
    };
    let start = |peer: &Program| Cell::start(peer, &plan(settings, servers, row, peer));
    if row.metric == Metric::Cpu {
        // Nothing happens in these cells: all can do nothing at once.
        let cells: Vec<_> = ordered.iter().map(|peer| (&peer.name, start(peer))).collect();
        for (name, cell) in cells {
            take(name, cell.and_then(Cell::finish));
        }
    } else {
        for peer in ordered {
            take(&peer.name, start(peer).and_then(Cell::finish));
        }
    }
    outcomes
}

fn plan(settings: &Settings, servers: &Servers, row: &Row, peer: &Program) -> Plan {
    Plan {
        peer: peer.name.clone(),
        workload: row.workload.to_owned(),
        url: servers.url(row.server).unwrap_or_default().to_owned(),
        ca: servers.authority(row.server),
        size: row.size,
        threads: row.threads,
        subs: row.subs,
        depth: row.depth,
        ms: if row.metric == Metric::Cpu { 10_000 } else { settings.ms },
        batch: row.batch(),
    }
}

/// A running child.
struct Cell {
    child: Child,
    output: Receiver<(String, String)>,
}

impl Cell {
    fn start(peer: &Program, plan: &Plan) -> Result<Self> {
        let mut child = Command::new(&peer.path)
            .args(&peer.first)
            .args(plan.words())
            .envs(peer.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", peer.path.display()))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (sender, output) = channel();
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            let (mut text, mut errors) = (String::new(), String::new());
            if let (Some(mut out), Some(mut err)) = (out, err) {
                let _ = out.read_to_string(&mut text);
                let _ = err.read_to_string(&mut errors);
            }
            let _ = sender.send((text, errors));
        })?;
        Ok(Self { child, output })
    }

    fn finish(mut self) -> Result<Outcome> {
        let output = self.output.recv_timeout(PATIENCE);
        let _ = self.child.kill();
        let _ = self.child.wait();
        let (text, errors) = output.map_err(|_| format!("not done after {PATIENCE:?}"))?;
        match text.lines().find(|line| line.starts_with('{')) {
            Some(line) => Outcome::from_json(line),
            None => Err(errors.trim().to_owned().into()),
        }
    }
}
