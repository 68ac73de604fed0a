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
    [queue::MODELS, outbox::MODELS, pongs::MODELS, requests::MODELS, epoch::MODELS].concat()
}

const CONTROLS: &[Control] = &[
    ("lost-wake-in-queue", Some("subscriptions/mailbox.rs"), queue::pulled_by_two),
    ("lost-wake-in-turn", Some("outbox/turn.rs"), outbox::two_publishers),
    ("lost-wake-in-outcome", Some("src/outcome.rs"), requests::answered_late_or_closed),
    ("pong-before-its-waiter", None, pongs::waiter_after_ping),
];

/// How many interruptions of a thread at a moment where it could have gone on are tried.
const PREEMPTIONS: usize = 3;

/// The same for models of a whole connection (`whole: …`), which have too many steps for three.
const PREEMPTIONS_OF_WHOLE: usize = 1;

fn check(name: &str, model: fn()) -> u64 {
    let most = if name.starts_with("whole:") { PREEMPTIONS_OF_WHOLE } else { PREEMPTIONS };
    let executions = Arc::new(AtomicU64::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(most);
    builder.max_branches = 20_000;
    let count = Arc::clone(&executions);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    executions.load(Ordering::Relaxed)
}

/// Runs the model or control of that name in this process.
fn run_here(name: &str) -> bool {
    if let Some((_, model)) = models().iter().find(|(known, _)| *known == name) {
        let started = Instant::now();
        let executions = check(name, *model);
        println!("{name:<40} {executions:>9} {:>8.1}", started.elapsed().as_secs_f64());
        return true;
    }
    let Some((_, file, model)) = CONTROLS.iter().find(|(known, ..)| *known == name) else {
        return false;
    };
    if let Some(file) = file {
        lose_wakes(file);
    }
    check(name, *model);
    println!("{name}: not found");
    true
}

/// Runs a name in a process of its own. Returns what it printed, or why it failed.
fn run_apart(name: &str) -> Result<String, String> {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).arg(name).stdin(Stdio::null()).output().expect("a child");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn run_control(name: &str) -> Result<String, String> {
    match run_apart(name) {
        // Loom says why: a deadlock, or the assertion of the model.
        Err(said) if said.contains("deadlock") || said.contains("assertion") => {
            Ok(format!("{name:<40} {:>9}\n", "found"))
        }
        Err(said) => Err(format!("control {name} failed in another way: {said}")),
        Ok(_) => Err(format!("control {name}: the planted fault was not found")),
    }
}

/// Two at a time: the models of one connection need no more, and it is what the machine has.
fn run_all() -> ExitCode {
    let mut names: Vec<_> = models().into_iter().map(|(name, _)| (name, false)).collect();
    names.extend(CONTROLS.iter().map(|(name, ..)| (*name, true)));
    let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    println!("{:<40} {:>9} {:>8}", "model", "executions", "seconds");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, control)) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match if *control { run_control(name) } else { run_apart(name) } {
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
    if failures.into_inner() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(crate) fn main() {
    let lost = std::env::args().find_map(|text| Some(text.strip_prefix("--lose=")?.to_owned()));
    if let Some(place) = lost {
        lose_wakes(place.leak());
    }
    let name = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let outcome = match name {
        None => run_all(),
        Some(name) if run_here(&name) => ExitCode::SUCCESS,
        Some(name) => {
            println!("there is no model '{name}'");
            ExitCode::FAILURE
        }
    };
    std::process::exit(if outcome == ExitCode::SUCCESS { 0 } else { 1 });
}
