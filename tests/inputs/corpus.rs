//! The named inputs of `tests/corpus`.
//!
//! They are lines of the files there; the head of `lines.txt` says how to read them.

use std::fs;
use std::path::Path;

/// From where programs with this file run: the top of the repository.
const FOLDER: &str = "tests/corpus";

/// An input and what must come of it.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// A protocol error: the connection is replaced, nothing of it is delivered.
    Error,
    /// Taken in without a trace for the subscription.
    Nothing,
    Message(Vec<u8>),
    /// A message, and the odd header is told.
    Odd(Vec<u8>),
}

/// All of them, in the order of the files.
pub(crate) fn read_entries() -> Vec<Entry> {
    let folder = Path::new(FOLDER);
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut entries = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        entries.extend(lines.map(read_entry));
    }
    assert!(entries.len() >= 120, "only {} entries", entries.len());
    entries
}

fn read_entry(line: &str) -> Entry {
    let mut fields = line.splitn(3, " | ");
    let mut field = || fields.next().unwrap_or_else(|| panic!("a field is missing: {line}"));
    let (name, outcome, bytes) = (field().to_owned(), field(), unescape(field()));
    let (word, text) = outcome.split_once(' ').unwrap_or((outcome, ""));
    let outcome = match word {
        "error" => Outcome::Error,
        "nothing" => Outcome::Nothing,
        "message" => Outcome::Message(unescape(text)),
        "odd" => Outcome::Odd(unescape(text)),
        _ => panic!("no such outcome: {line}"),
    };
    Entry { name, outcome, bytes }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let repeated = rest.strip_prefix('<').and_then(|inner| {
            let (count, inner) = inner.split_once('*')?;
            let (part, behind) = inner.split_once('>')?;
            Some((count.parse::<usize>().ok()?, part, behind))
        });
        if let Some((count, part, behind)) = repeated {
            bytes.extend(unescape(part).repeat(count));
            rest = behind;
        } else if let Some(escaped) = rest.strip_prefix('\\') {
            let (byte, length) = match escaped.as_bytes()[0] {
                b'r' => (b'\r', 1),
                b'n' => (b'\n', 1),
                b't' => (b'\t', 1),
                b'\\' => (b'\\', 1),
                b'x' => (u8::from_str_radix(&escaped[1..3], 16).unwrap(), 3),
                other => panic!("no such escape: \\{}", char::from(other)),
            };
            bytes.push(byte);
            rest = &escaped[length..];
        } else {
            bytes.extend_from_slice(first.to_string().as_bytes());
            rest = &rest[first.len_utf8()..];
        }
    }
    bytes
}
