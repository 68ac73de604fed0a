//! The list of models, their processes, and the table that is printed.

use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use nats_blocking::internals::lose_wakes;

use crate::{epoch, outbox, pongs, queue, requests};

/// A model: its name and one execution of it.
pub(crate) type Model = (&'static str, fn());

/// A fault that must be found: its name, the file whose wake-ups are lost (or none, where the model
/// itself misuses the library), and the model that finds it.
type Control = (&'static str, Option<&'static str>, fn());

fn models() -> Vec<Model> {
    // The longest first: two run at a time.
    [epoch::MODELS, queue::MODELS, outbox::MODELS, pongs::MODELS, requests::MODELS].concat()
}

const CONTROLS: &[Control] = &[
    ("lost-wake-in-queue", Some("subscriptions/mailbox.rs"), queue::pulled_by_two),
    ("lost-wake-in-turn", Some("outbox/turn.rs"), outbox::two_publishers),
    ("lost-wake-in-outcome", Some("src/outcome.rs"), requests::answered_late_or_closed),
    ("pong-before-its-waiter", None, pongs::waiter_after_ping),
];

/// How many interruptions of a thread at a moment where it could have gone on are tried.
const SHORT: usize = 2;

/// The same for the long tier: minutes for the largest model, many on a busy machine.
const LONG: usize = 3;

/// Runs every execution there is within the bound, and returns their number.
fn check(bound: usize, model: fn()) -> u64 {
    let executions = Arc::new(AtomicU64::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    // Neither a time nor a number ends it early: what returns is exhausted.
    (builder.max_duration, builder.max_permutations) = (None, None);
    builder.max_branches = 20_000;
    let count = Arc::clone(&executions);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    executions.load(Ordering::Relaxed)
}

/// Runs the model or control of that name in this process.
fn run_here(name: &str, bound: usize) -> bool {
    if let Some((_, model)) = models().iter().find(|(known, _)| *known == name) {
        let started = Instant::now();
        let executions = check(bound, *model);
        let seconds = started.elapsed().as_secs_f64();
        println!("{name:<36} {bound:>5} {executions:>10} {seconds:>8.1}");
        return true;
    }
    let Some((_, file, model)) = CONTROLS.iter().find(|(known, ..)| *known == name) else {
        return false;
    };
    if let Some(file) = file {
        lose_wakes(file);
    }
    check(bound, *model);
    println!("{name}: not found");
    true
}

/// Runs a name in a process of its own. Returns what it printed, or why it failed.
fn run_apart(name: &str, bound: usize) -> Result<String, String> {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.arg(name).arg(format!("--bound={bound}")).stdin(Stdio::null());
    let output = command.output().expect("a child");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn run_control(name: &str, bound: usize) -> Result<String, String> {
    match run_apart(name, bound) {
        // Loom says why: a deadlock, or the assertion of the model.
        Err(said) if said.contains("deadlock") || said.contains("assertion") => {
            Ok(format!("{name:<36} {bound:>5} {:>10}\n", "found"))
        }
        Err(said) => Err(format!("control {name} failed in another way: {said}")),
        Ok(_) => Err(format!("control {name}: the planted fault was not found")),
    }
}

/// Two at a time: the models of one connection need no more, and it is what the machine has.
fn run_all(bound: usize) -> ExitCode {
    let begun = Instant::now();
    let mut names: Vec<_> = models().into_iter().map(|(name, _)| (name, false)).collect();
    names.extend(CONTROLS.iter().map(|(name, ..)| (*name, true)));
    let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    println!("{:<36} {:>5} {:>10} {:>8}", "model", "bound", "executions", "seconds");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, control)) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome =
                        if *control { run_control(name, bound) } else { run_apart(name, bound) };
                    match outcome {
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
        "I1: {} models exhausted at bound {bound}, {} planted faults found, {failures} failures \
         ({:.0} s)",
        models().len(),
        CONTROLS.len(),
        begun.elapsed().as_secs_f64()
    );
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(crate) fn main() {
    let option =
        |name: &str| std::env::args().find_map(|text| Some(text.strip_prefix(name)?.to_owned()));
    if let Some(place) = option("--lose=") {
        lose_wakes(place.leak());
    }
    let bound = match option("--bound=") {
        Some(text) => text.parse().expect("a number"),
        None => option("--long").map_or(SHORT, |_| LONG),
    };
    let name = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let outcome = match name {
        None => run_all(bound),
        Some(name) if run_here(&name, bound) => ExitCode::SUCCESS,
        Some(name) => {
            println!("there is no model '{name}'");
            ExitCode::FAILURE
        }
    };
    std::process::exit(if outcome == ExitCode::SUCCESS { 0 } else { 1 });
}
