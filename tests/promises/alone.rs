//! A proof in a process of its own: for what belongs to the whole process, such as its memory, its
//! descriptors or the signals that it gets.

use std::env;
use std::ffi::OsStr;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Tier;
use crate::support::own_process::ended_within;

/// Which proof the process is for.
const MARK: &str = "NATS_BLOCKING_ALONE";
/// Before the figure of the process of its own.
const TOLD: &str = "alone: ";

/// Where a proof runs alone.
pub(crate) struct Alone<'a> {
    number: &'a str,
    shell: String,
    variables: Vec<(&'a str, &'a OsStr)>,
}

impl<'a> Alone<'a> {
    pub(crate) fn new(number: &'a str) -> Self {
        Self { number, shell: String::new(), variables: Vec::new() }
    }

    /// As many descriptors, if the machine allows it.
    pub(crate) fn descriptors(mut self, count: u32) -> Self {
        self.shell = format!("ulimit -n {count} 2>/dev/null; ");
        self
    }

    pub(crate) fn variable(mut self, name: &'a str, value: &'a OsStr) -> Self {
        self.variables.push((name, value));
        self
    }

    /// Whether this is the process of that proof.
    pub(crate) fn is_here(number: &str) -> bool {
        env::var(MARK).is_ok_and(|marked| marked == number)
    }

    /// Runs the program for this proof alone, where `proof` is called, and gives its figure. The
    /// proof is called by this function only, from the proof with that number.
    pub(crate) fn run(
        self,
        tier: Tier,
        limit: Duration,
        proof: impl FnOnce(Tier) -> String,
    ) -> String {
        if Self::is_here(self.number) {
            let figure = proof(tier);
            println!("{TOLD}{figure}");
            return figure;
        }
        let mut child = Command::new("sh")
            .args(["-c", &format!("{}exec \"$0\" \"$@\"", self.shell)])
            .arg(env::current_exe().unwrap())
            .args([self.number, tier.choose("--short", "--long")])
            .env(MARK, self.number)
            .envs(self.variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // What it says is far less than a pipe holds.
        let status = ended_within(&mut child, limit);
        let mut told = String::new();
        child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
        let status = status.unwrap_or_else(|| panic!("not done after {limit:?}: {told}"));
        assert!(status.success(), "{status}: {told}");
        told.lines().find_map(|line| line.strip_prefix(TOLD)).expect("a figure").to_owned()
    }
}
