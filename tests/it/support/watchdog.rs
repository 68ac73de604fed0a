//! A limit for a piece of a test: what hangs is named, with what every thread of the process does.
//!
//! The piece runs on a thread of its own; when it does not finish in time, the caller panics with
//! the report and the hanging thread is left behind, since a thread cannot be ended from outside.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

static NEXT_FILE: AtomicU32 = AtomicU32::new(0);
/// Shows all stacks of the process that is its first argument.
const LOOK: &str = "
timeout -k 2 30 gdb -p $0 -batch -nx -ex 'thread apply all bt 30'
status=$?
kill -CONT $0
if [ $status = 124 ] || [ $status = 137 ]; then echo 'no stacks: gdb was not done after 30 s'; fi
";

/// Runs `body` and returns what it returns; a panic in it goes on here.
///
/// Panics with `name` and a report of all threads when `body` is not done within `limit`.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    within_or(limit, name, report, body)
}

/// As `within`, with the report of one's choice.
fn within_or<T: Send + 'static>(
    limit: Duration,
    name: &str,
    report: impl FnOnce() -> String,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, finished) = mpsc::channel();
    let thread = thread::Builder::new()
        .name(format!("w-{name}"))
        .spawn(move || {
            let value = body();
            // The receiver is gone only if the limit has passed.
            let _ = done.send(());
            value
        })
        .expect("a thread for the body");
    if finished.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("'{name}' is not done after {limit:?}; the threads:\n{}", report());
    }
    // Done, or it panicked and dropped its end of the channel: the join does not wait.
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// What every thread of this process does, with its stack where there is a gdb.
pub(crate) fn report() -> String {
    threads() + &stacks(std::process::id())
}

/// One line for each thread of this process: id, name, state, where in the kernel it waits.
pub(crate) fn threads() -> String {
    let mut report = String::new();
    let Ok(entries) = fs::read_dir("/proc/self/task") else {
        return "  (no /proc here)".to_owned();
    };
    for entry in entries.filter_map(Result::ok) {
        let field = |name: &str| {
            let text = fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            text.trim().to_owned()
        };
        let status = field("status");
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or("?");
        let _ = writeln!(
            report,
            "  {} {:<15} {} wchan={} syscall={}",
            entry.file_name().to_string_lossy(),
            field("comm"),
            state.trim(),
            field("wchan"),
            field("syscall"),
        );
    }
    report
}

/// All stacks of a process by `gdb`, or why there are none: it may be missing or forbidden.
///
/// While gdb looks, it stops the process, which may be this one. So nothing here may be needed for
/// gdb to go on: its output goes to a file, since a pipe could fill up with nobody able to empty
/// it, and its limit is kept by the program `timeout`, since a clock of ours would stand still. A
/// gdb that is ended in the middle can leave the process stopped, so a shell continues it.
fn stacks(pid: u32) -> String {
    let number = NEXT_FILE.fetch_add(1, Ordering::Relaxed);
    let name = format!("stacks-{}-{number}", std::process::id());
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (output, errors) = match File::create(&file).and_then(|f| Ok((f.try_clone()?, f))) {
        Ok(both) => both,
        Err(error) => return format!("no stacks: {error}"),
    };
    let ran = Command::new("sh")
        .args(["-c", LOOK, &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status();
    let text = fs::read(&file).unwrap_or_default();
    // A file that cannot be removed lies in the folder for temporary files.
    let _ = fs::remove_file(&file);
    match ran {
        Ok(_) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => format!("no stacks: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::super::wait::{Gate, poll};
    use super::*;

    #[test]
    fn what_is_done_in_time_returns_its_value() {
        assert_eq!(within(Duration::from_secs(10), "quick", || 7), 7);
    }

    #[test]
    fn a_panic_in_the_body_is_a_panic_of_the_test() {
        let outcome = catch_unwind(|| {
            within(Duration::from_secs(10), "panics", || -> u8 { panic!("inside") })
        });
        assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"inside"));
    }

    #[test]
    fn what_hangs_is_named_with_its_threads() {
        let gate = Gate::new();
        let inside = gate.clone();
        let outcome = catch_unwind(move || {
            // Without the stacks: gdb would stop the tests that run beside this one.
            let body = move || inside.wait(Duration::from_secs(60));
            within_or(Duration::from_secs(1), "hangs", threads, body)
        });
        gate.open();
        let panic = outcome.unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("'hangs' is not done after 1s"), "{text}");
        #[cfg(target_os = "linux")]
        assert!(text.contains("w-hangs"), "{text}");
    }

    #[test]
    fn a_process_goes_on_once_its_stacks_were_taken() {
        let mut child = Command::new("sleep").arg("120").spawn().unwrap();
        let pid = child.id().to_string();
        // As a gdb leaves it that is ended while it attaches.
        assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
        let stands = || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains("State:\tT")
        };
        stacks(child.id());
        let goes_on = poll(Duration::from_secs(20), || (!stands()).then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(goes_on.is_some(), "the process stands still");
    }

    #[test]
    fn stacks_are_of_the_process_that_was_asked_for() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let text = stacks(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        // Where gdb is missing or may not look, the text says so.
        let reasons = ["#0 ", "ptrace", "no stacks", "failed to run"];
        assert!(reasons.iter().any(|reason| text.contains(reason)), "{text}");
        let gone = stacks(u32::MAX);
        assert!(!gone.contains("#0 "), "{gone}");
    }
}
