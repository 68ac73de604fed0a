//! This crate beside other clients: the same workloads, in the same run, on the same machine.
//!
//! ```text
//! cargo run --release --manifest-path tests/peers/Cargo.toml -- [--quick] [--json]
//!     [--rounds N] [--contested N] [--ms N] [--only ROW,…] [--peers NAME,…] [--with-go]
//! ```
//!
//! Each cell (a workload, a size, a server, a peer) is a process of its own, so that its CPU time
//! is the client's alone. `peers serve sink|source` starts one of the two small servers by itself,
//! and `peers child key=value …` one cell, for a look with other tools.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `rows` | what is measured, and the targets |
//! | `run`, `report`, `stats` | the parent: cells, verdicts, their certainty |
//! | `plan`, `meter`, `common` | what a cell is told, what it reports, what the peers share |
//! | `servers`, `certificates`, `mock` | the real server, over TLS too, the sink and the source |
//! | `ours`, `tokio_peer`, `old`, `raw`, `foreign` | the peers |

mod certificates;
mod common;
mod foreign;
mod meter;
mod mock;
mod old;
mod ours;
mod plan;
mod raw;
mod report;
mod rows;
mod run;
mod servers;
mod stats;
mod tokio_peer;

use std::io::{Read, stdin};
use std::process::ExitCode;

use crate::foreign::Program;
use crate::meter::Outcome;
use crate::plan::{Plan, Result};
use crate::rows::ROWS;
use crate::run::Settings;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let outcome = match words.peek().map(String::as_str) {
        Some("child") => child(words.skip(1)),
        Some("serve") => serve(words.nth(1)),
        _ => parent(words),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn child(words: impl Iterator<Item = String>) -> Result<()> {
    let plan = Plan::parse(words)?;
    let outcome: Outcome = match plan.peer.as_str() {
        "ours" => ours::run(&plan)?,
        "async-ct" | "async-mt" => tokio_peer::run(&plan)?,
        "nats" => old::run(&plan)?,
        "raw" => raw::run(&plan)?,
        other => return Err(format!("there is no peer '{other}'").into()),
    };
    println!("{}", outcome.to_json());
    // Nothing of what comes after the window is of interest, such as the end of a runtime.
    std::process::exit(0)
}

fn serve(name: Option<String>) -> Result<()> {
    let name = name.ok_or("which server: sink or source?")?;
    println!("{}", mock::start(&name)?);
    // Until whoever started it closes its input.
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn parent(words: impl Iterator<Item = String>) -> Result<()> {
    let (settings, json) = settings(words)?;
    let results = run::run(&settings, |line| eprintln!("{line}"))?;
    if json {
        print!("{}", report::lines(&results));
        // A person who watches wants the table all the same.
        eprint!("{}", report::table(&results));
    } else {
        print!("{}", report::table(&results));
    }
    Ok(())
}

fn settings(mut words: impl Iterator<Item = String>) -> Result<(Settings, bool)> {
    let mut settings =
        Settings { rounds: 5, contested: 15, ms: 1_000, rows: ROWS.to_vec(), peers: Vec::new() };
    let (mut json, mut with_go) = (false, false);
    let mut wanted: Option<Vec<String>> = None;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let number = |text: String| {
            let number = text.parse::<usize>().ok().filter(|number| *number > 0);
            number.ok_or_else(|| format!("'{text}' is not a number of at least 1"))
        };
        match word.as_str() {
            "--quick" => (settings.rounds, settings.contested, settings.ms) = (2, 0, 300),
            "--json" => json = true,
            "--with-go" => with_go = true,
            "--rounds" => settings.rounds = number(value()?)?,
            "--contested" => settings.contested = number(value()?)?,
            "--ms" => settings.ms = number(value()?)?.min(5_000) as u64,
            "--only" => {
                let parts = list(value()?);
                let named = |part: &String| ROWS.iter().any(|row| row.id().contains(part.as_str()));
                if let Some(part) = parts.iter().find(|part| !named(part)) {
                    return Err(format!("no row has '{part}' in its name").into());
                }
                let chosen = |id: &str| parts.iter().any(|part| id.contains(part.as_str()));
                settings.rows.retain(|row| chosen(&row.id()));
            }
            "--peers" => wanted = Some(list(value()?)),
            other => return Err(format!("what is '{other}'? (see the head of main.rs)").into()),
        }
    }
    settings.peers = peers(wanted.as_deref(), with_go)?;
    Ok((settings, json))
}

/// The peers that are wanted and can be had here; says which cannot.
fn peers(wanted: Option<&[String]>, with_go: bool) -> Result<Vec<Program>> {
    const NAMES: [&str; 7] = ["ours", "async-ct", "async-mt", "nats", "c", "go", "raw"];
    let unknown = |name: &&String| !NAMES.contains(&name.as_str());
    if let Some(name) = wanted.unwrap_or_default().iter().find(unknown) {
        return Err(format!("there is no peer '{name}', only {}", NAMES.join(", ")).into());
    }
    let mut peers = Vec::new();
    for name in NAMES {
        // Ourselves and the limit are in every comparison.
        let always = name == "ours" || name == "raw";
        let chosen = wanted.is_none_or(|wanted| wanted.iter().any(|one| one == name));
        if !always && (!chosen || (name == "go" && !with_go)) {
            continue;
        }
        let program = match name {
            "c" => Program::c(),
            "go" => Program::go(),
            name => Program::own(name),
        };
        match program {
            Ok(program) => peers.push(program),
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(peers)
}
