//! A limit for a piece of a test: what hangs is named, with what every thread of the process does.
//!
//! The piece runs on a thread of its own; when it does not finish in time, the caller panics with
//! the report and the hanging thread is left behind, since a thread cannot be ended from outside.

use std::fmt::Write as _;
use std::fs;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::wait::poll;

/// Runs `body` and returns what it returns; a panic in it goes on here.
///
/// Panics with `name` and a report of all threads when `body` is not done within `limit`.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    name: &str,
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
        panic!("'{name}' is not done after {limit:?}; the threads:\n{}", threads());
    }
    // Done, or it panicked and dropped its end of the channel: the join does not wait.
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// One line for each thread of this process: id, name, state, where in the kernel it waits; then
/// all stacks if `gdb` is here and may look.
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
    report + &stacks()
}

/// All stacks by `gdb`, or nothing where it is missing, forbidden or slow.
fn stacks() -> String {
    let pid = std::process::id().to_string();
    let started = Command::new("gdb")
        .args(["-p", &pid, "-batch", "-nx", "-ex", "thread apply all bt 30"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut gdb) = started else {
        return String::new();
    };
    let output = gdb.stdout.take();
    // The pipe must be emptied while gdb runs: a full one would stop it.
    let reading = thread::Builder::new().name("w-gdb".to_owned()).spawn(move || {
        output.and_then(|output| std::io::read_to_string(output).ok()).unwrap_or_default()
    });
    let ended = poll(Duration::from_secs(30), || gdb.try_wait().ok().flatten());
    if ended.is_none() {
        let _ = gdb.kill();
        let _ = gdb.wait();
    }
    reading.ok().and_then(|thread| thread.join().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::super::wait::Gate;
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
            within(Duration::from_millis(50), "hangs", move || inside.wait(Duration::from_secs(60)))
        });
        gate.open();
        let panic = outcome.unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("'hangs' is not done after 50ms"), "{text}");
        #[cfg(target_os = "linux")]
        assert!(text.contains("w-hangs"), "{text}");
    }
}
