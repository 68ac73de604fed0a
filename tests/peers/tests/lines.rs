//! What the program prints for machines, of rows that need no server: every field of every line,
//! and that a row, a peer or a number that there is not is refused before anything is measured.
//!
//! `cargo test --release --manifest-path tests/peers/Cargo.toml` runs it.

use std::process::{Command, Output};

use serde_json::Value;

fn peers(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peers")).args(arguments).output().expect("the program runs")
}

#[test]
fn each_median_and_the_summary_are_lines_with_every_field() {
    let rows = "publish-16-sink,handler-16-source";
    let output = peers(&[
        "--json",
        "--quick",
        "--ms",
        "100",
        "--only",
        rows,
        "--peers",
        "ours,async-ct,raw",
    ]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let last = lines.pop().expect("a line");
    assert_eq!(lines.len(), 6, "two rows of three peers: {text}");
    for line in &lines {
        for field in
            ["workload", "size", "server", "peer", "msgs_per_s", "p50_us", "p99_us", "cpu_us"]
        {
            assert!(line.get(field).is_some(), "{field}: {line}");
        }
        assert!(line["msgs_per_s"].as_f64().is_some_and(|rate| rate > 1_000.0), "{line}");
    }
    let summary = last["summary"].as_array().expect("a summary");
    assert_eq!(summary.len(), 2);
    for row in summary {
        for field in
            ["workload", "size", "server", "to_limit", "to_best", "cpu_to_best", "rounds_won"]
        {
            assert!(row.get(field).is_some_and(|value| !value.is_null()), "{field}: {row}");
        }
    }
}

#[test]
fn what_there_is_not_is_refused_with_its_name() {
    for (arguments, named) in [
        (["--only", "no-such-row"], "no-such-row"),
        (["--peers", "no-such-peer"], "no-such-peer"),
        (["--rounds", "many"], "many"),
    ] {
        let output = peers(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(named), "{said}");
    }
}
