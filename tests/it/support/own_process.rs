//! A test in a process of its own: for what belongs to the whole process, such as its memory, its
//! logger or its leaks.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::wait::poll;

const MARK: &str = "IN_ITS_OWN_PROCESS";

/// Runs `body` in a process of its own. Called by the test with that full name, and by nothing
/// else: the other process runs just that test, and gets here again.
pub(crate) fn in_own_process(test: &str, limit: Duration, body: impl FnOnce()) {
    with_variables(test, limit, || ((), Vec::new()), body);
}

/// The same with a limit for the addresses of the process, in bytes: more it cannot even reserve.
pub(crate) fn in_small_process(test: &str, limit: Duration, addresses: u64, body: impl FnOnce()) {
    let script = format!("ulimit -v {} && exec \"$0\" \"$@\"", addresses / 1024);
    let mut command = Command::new("sh");
    command.args(["-c".as_ref(), script.as_ref(), env::current_exe().unwrap().as_os_str()]);
    with(command, test, limit, || ((), Vec::new()), body);
}

/// Runs `body` in a process of its own that has these environment variables, and none of this
/// crate's besides. What `prepare` gives beside them, such as a server, lives as long as that
/// process; it is not called there.
pub(crate) fn with_variables<T>(
    test: &str,
    limit: Duration,
    prepare: impl FnOnce() -> (T, Vec<(&'static str, String)>),
    body: impl FnOnce(),
) {
    with(Command::new(env::current_exe().unwrap()), test, limit, prepare, body);
}

fn with<T>(
    mut command: Command,
    test: &str,
    limit: Duration,
    prepare: impl FnOnce() -> (T, Vec<(&'static str, String)>),
    body: impl FnOnce(),
) {
    if env::var(MARK).is_ok_and(|name| name == test) {
        return body();
    }
    let (_kept, variables) = prepare();
    let inherited = env::vars_os().map(|(name, _)| name);
    let ours = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with("NATS_"));
    // The path of the server binary is for the tests themselves.
    for name in inherited.filter(ours).filter(|name| name != "NATS_SERVER") {
        command.env_remove(name);
    }
    // To a file: nobody reads a pipe while it runs.
    let said = output_of(test);
    let mut child = command
        .envs(variables)
        .args([test, "--exact", "--nocapture", "--test-threads", "1"])
        .env(MARK, test)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let status = ended_within(&mut child, limit);
    let text = fs::read_to_string(&said).unwrap_or_default();
    let _ = fs::remove_file(&said);
    let status = status.unwrap_or_else(|| panic!("{test} is not done after {limit:?}"));
    assert!(status.success(), "{test} failed in its own process; what it said stands above");
    // A name that is none of a test runs nothing, which is no failure.
    assert!(text.contains("test result: ok. 1 passed"), "{test} is no test: {text}");
}

/// Where what that test says is kept while it runs.
fn output_of(test: &str) -> PathBuf {
    let name = format!("{}-{}", test.replace("::", "-"), std::process::id());
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Waits for the end of a process. One that takes longer is ended, and its status none.
pub(crate) fn ended_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let status = poll(limit, || child.try_wait().unwrap());
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    status
}
