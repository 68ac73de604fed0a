//! The list of models, their processes, and the table that is printed.

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nats_blocking::internals::lose_wakes;

use crate::engine::{self, CONTROLS, EFFORT, LONG, PROMISE, SHORT, models};

/// A model: its name and one execution of it.
pub(crate) type Model = (&'static str, fn());

/// A fault that must be found: its name, the file whose wake-ups are lost (or none, where the model
/// itself misuses the library), and the model that finds it.
pub(crate) type Control = (&'static str, Option<&'static str>, fn());

/// What is said before the effort of a run.
fn option_name() -> String {
    format!("--{EFFORT}=")
}

/// Runs the model or control of that name in this process.
fn run_here(name: &str, effort: usize) -> bool {
    if let Some((_, model)) = models().iter().find(|(known, _)| *known == name) {
        let started = Instant::now();
        let executions = engine::check(effort, *model);
        let seconds = started.elapsed().as_secs_f64();
        println!("{name:<36} {effort:>9} {executions:>10} {seconds:>8.1}");
        return true;
    }
    let Some((_, file, model)) = CONTROLS.iter().find(|(known, ..)| *known == name) else {
        return false;
    };
    if let Some(file) = file {
        lose_wakes(file);
    }
    engine::check(effort, *model);
    println!("{name}: not found");
    true
}

/// Runs a name in a process of its own. Returns what it printed, or why it failed.
fn run_apart(name: &str, effort: usize, seed: Option<u64>) -> Result<String, String> {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.arg(name).arg(format!("{}{effort}", option_name())).stdin(Stdio::null());
    command.envs(seed.map(|seed| ("SEED", seed.to_string())));
    let output = command.output().expect("a child");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn run_control(name: &str, effort: usize, seed: Option<u64>) -> Result<String, String> {
    match run_apart(name, effort, seed) {
        // The engine says why: a deadlock, or the assertion of the model.
        Err(said) if said.contains("deadlock") || said.contains("assertion") => {
            Ok(format!("{name:<36} {effort:>9} {:>10}\n", "found"))
        }
        Err(said) => Err(format!("control {name} failed in another way: {said}")),
        Ok(_) => Err(format!("control {name}: the planted fault was not found")),
    }
}

/// Two at a time: the models of one connection need no more, and it is what the machine has.
fn run_all(effort: usize) -> ExitCode {
    let begun = Instant::now();
    let mut names: Vec<_> = models().into_iter().map(|(name, _)| (name, false)).collect();
    names.extend(CONTROLS.iter().map(|(name, ..)| (*name, true)));
    let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let seed = engine::first_seed();
    println!("{:<36} {EFFORT:>9} {:>10} {:>8}", "model", "executions", "seconds");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, control)) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = if *control { run_control } else { run_apart };
                    match run(name, effort, seed) {
                        Ok(text) => print!("{text}"),
                        Err(text) => {
                            failures.fetch_add(1, Ordering::Relaxed);
                            println!("{name}: FAILED\n{text}");
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner();
    println!(
        "{PROMISE}: {} models {}, {} planted faults found, {failures} failures ({:.0} s){}",
        models().len(),
        engine::done(effort),
        CONTROLS.len(),
        begun.elapsed().as_secs_f64(),
        seed.map(|seed| format!("; seed {seed}")).unwrap_or_default()
    );
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(crate) fn main() {
    let option =
        |name: &str| std::env::args().find_map(|text| Some(text.strip_prefix(name)?.to_owned()));
    if let Some(place) = option("--lose=") {
        lose_wakes(place.leak());
    }
    let effort = match option(&option_name()) {
        Some(text) => text.parse().expect("a number"),
        None => option("--long").map_or(SHORT, |_| LONG),
    };
    let name = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let outcome = match name {
        None => run_all(effort),
        Some(name) if run_here(&name, effort) => ExitCode::SUCCESS,
        Some(name) => {
            println!("there is no model '{name}'");
            ExitCode::FAILURE
        }
    };
    std::process::exit(if outcome == ExitCode::SUCCESS { 0 } else { 1 });
}
