//! What went over each link of one client, in order: publisher and number of each message.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::ledger;
use crate::support::frames::Op;
use crate::support::proxy::{Watch, Way};

/// Publishers from here on send what shows that all is calm again, with numbers of their own.
pub(crate) const PROBES: u32 = 10;

/// Publisher and number.
pub(crate) type Entry = (u32, u64);

/// One link: its proxy, its number there, and what went over it.
#[derive(Debug, Clone)]
struct Line {
    name: (usize, u64),
    entries: Vec<Entry>,
}

/// The links in the order in which something first went over them.
#[derive(Debug, Default)]
struct Lines {
    lines: Vec<Line>,
    corrupted: u64,
}

impl Lines {
    fn take(&mut self, name: (usize, u64), payload: &[u8]) {
        let Some(entry) = ledger::read(payload) else {
            self.corrupted += 1;
            return;
        };
        match self.lines.iter_mut().rev().find(|line| line.name == name) {
            Some(line) => line.entries.push(entry),
            None => self.lines.push(Line { name, entries: vec![entry] }),
        }
    }
}

/// Both directions of one client.
#[derive(Clone, Default)]
pub(crate) struct Wire {
    out: Arc<Mutex<Lines>>,
    back: Arc<Mutex<Lines>>,
}

impl Wire {
    /// For the proxy of that index.
    pub(crate) fn watch(&self, proxy: usize) -> Watch {
        let Self { out, back } = self.clone();
        Arc::new(move |link, way, frame| {
            let lines = match (way, frame.op) {
                (Way::ToServer, Op::Pub) => &out,
                (Way::ToClient, Op::Msg) => &back,
                _ => return,
            };
            // Requests and replies have other payloads.
            if frame.arguments.starts_with("chaos.") {
                lines.lock().unwrap().take((proxy, link), frame.payload());
            }
        })
    }

    /// Panics unless each message went out at most once, in order. Gives how many did, and how many
    /// runs of what was accepted did not.
    pub(crate) fn check_out(&self, name: &str, accepted: u64) -> (u64, u64) {
        let out = self.out.lock().unwrap();
        assert_eq!(out.corrupted, 0, "{name}: corrupted on the way out");
        let (mut next, mut count, mut gaps) = (0, 0, 0);
        for line in &out.lines {
            for (publisher, number) in line.entries.iter().filter(|entry| entry.0 < PROBES) {
                let told = (publisher, number, line.name);
                assert!(*number >= next, "{name}: {told:?} went out twice or late, after {next}");
                gaps += u64::from(*number > next);
                next = number + 1;
                count += 1;
            }
        }
        assert!(next <= accepted, "{name}: more went out than was accepted");
        (count, gaps + u64::from(next < accepted))
    }

    /// Panics unless what was handed out is, link by link, the beginning of what came in.
    pub(crate) fn check_handed(&self, name: &str, handed: &[Entry]) {
        let back = self.back.lock().unwrap();
        assert_eq!(back.corrupted, 0, "{name}: corrupted on the way in");
        let lines = &back.lines;
        // Where reading may stand: the link, and how far. Two copies leave a choice.
        let mut places: BTreeSet<(usize, usize)> = BTreeSet::from([(0, 0)]);
        for (at, entry) in handed.iter().enumerate() {
            let mut next = BTreeSet::new();
            for (line, offset) in &places {
                if lines.get(*line).and_then(|line| line.entries.get(*offset)) == Some(entry) {
                    next.insert((*line, offset + 1));
                }
                let later = lines.iter().enumerate().skip(line + 1);
                let begins = later.filter(|(_, one)| one.entries.first() == Some(entry));
                next.extend(begins.map(|(at, _)| (at, 1)));
            }
            assert!(!next.is_empty(), "{name}: message {at}, {entry:?}, did not come in like that");
            places = next;
        }
    }
}
