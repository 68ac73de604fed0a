//! What the documentation of every public function and type must say, checked on the text of `src`.
//!
//! - Whatever can wait says how long and where, in a section `# Blocking`.
//! - Whatever is public is used in an example of the documentation, or of the README, or stands in
//!   [`NO_EXAMPLE`] with the reason. Getters and the setters of builders need none: their sentence
//!   says it all, and their type has an example.
//!
//! That a function which returns a `Result` has a section `# Errors` is clippy's to check.
//! Functions that a macro makes (`on_connected` …, the counts of `Statistics`) are not seen here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::source::Source;

/// Functions that can wait although neither their signature nor their body shows it.
const WAITS: &[&str] = &[
    "Connection::close",
    "Connection::flush",
    "Connection::publish",
    "Connection::publish_message",
    "Connection::publish_with_headers",
    "Connection::publish_with_reply",
    "Connection::request_many",
    "Connection::respond",
    "Options::connect",
    "Subscription::next",
    "connect",
];

/// Functions that take or compute a time and do not wait.
const DOES_NOT_WAIT: &[(&str, &str)] = &[
    ("Connection::start_drain", "the time is for the drain, which another thread does"),
    ("Gather::for_at_most", "it only says how long the replies are waited for"),
    ("Gather::silence", "it only says how long the replies are waited for"),
    ("Subscription::timeout_iter", "the iterator waits, not the call"),
];

/// Public names without an example, each with the reason. `Type::*` is all functions of the type.
const NO_EXAMPLE: &[(&str, &str)] = &[
    ("ClientOp", "hidden: the parser of the test server, for the crate's own tests"),
    ("ClientOpParser", "hidden, as ClientOp"),
    ("ClientOpParser::*", "hidden, as ClientOp"),
    ("ConnectAttempt", "`Error::attempts` gives it, in the guide's example of errors"),
    ("ConsumerStatus", "`Consumer::status` gives it; its variants say it all"),
    ("ConsumerView", "a listener gets it; it is used like any `Consumer`"),
    ("Events", "`Connection::events` gives it, and has an example"),
    ("EndReason", "`SubscriptionEnd::reason` gives it, in the example of `on_closed`"),
    ("SetIter", "`SubscriptionSet::iter` gives it; a `for` loop uses it"),
    ("SetKey", "`SubscriptionSet::add` gives it, in the example there"),
    ("SubscriptionEnd", "the closure of `on_closed` gets it, in the example there"),
    ("Iter", "`Subscription::iter` and `Headers::iter` give it; a `for` loop uses it"),
    ("IntoIter", "what a `for` loop over a subscription uses"),
    ("Notice", "`Connection::events` gives it; most programs print it"),
    ("OptionsBuilder::properties_file", "`OptionsBuilder::properties` with a file"),
    ("OptionsBuilder::property_pairs", "`OptionsBuilder::properties` with pairs"),
    ("Publication", "hidden, as ClientOp"),
    ("Record", "`Recorder::records` gives it; its three getters say it all"),
    ("Recorder::wait_for_sequence", "`Recorder::wait_for` for several, one after the other"),
    ("RefusedOperation", "part of a `ServerErrorKind`; its variants say it all"),
    ("Replies", "`Connection::request_many` gives it, and has an example"),
    ("ResolveMode", "the argument of `OptionsBuilder::resolve_mode`; its variants say it all"),
    ("Sealed", "private: nobody can name it"),
    ("Server::*", "each is one thing that a server does; `Server` and the guide show the form"),
    ("ServerInfo", "`Connection::server_info` gives it; it has getters only"),
    ("ServerList", "the argument of `connect`, which has an example"),
    ("Status", "`Message::status` gives it; it has getters only"),
    ("TimeoutIter", "`Subscription::timeout_iter` gives it, and has an example"),
    ("TryIter", "`Subscription::try_iter` gives it; a `for` loop uses it"),
    ("Connection::request_many_message", "`request_many` with a message, as `request_message`"),
];

/// A public function or type.
#[derive(Debug)]
struct Item {
    /// `Type::function`, `function` or `Type`.
    name: String,
    file: String,
    line: usize,
    docs: String,
    /// From the visibility to the body; empty for a type.
    signature: String,
    body: String,
}

impl Item {
    fn is_function(&self) -> bool {
        !self.signature.is_empty()
    }

    fn short(&self) -> &str {
        self.name.rsplit("::").next().unwrap_or(&self.name)
    }

    /// `&self` alone and something that comes back, or `self` and the same back.
    fn is_getter_or_setter(&self) -> bool {
        let (Some(open), Some(arrow)) = (self.signature.find('('), self.signature.find("->"))
        else {
            return false;
        };
        let result = self.signature[arrow + 2..].trim();
        let parameters = self.signature[open..arrow].trim().trim_end_matches(')');
        let parameters = parameters.trim_start_matches('(').trim().trim_end_matches(',');
        let getter = parameters == "&self" && !result.contains("Result<");
        let owned = parameters.starts_with("self") || parameters.starts_with("mut self");
        getter || (owned && result.starts_with("Self"))
    }

    fn finding(&self, text: &str) -> String {
        format!("  {}:{}: {}: {text}", self.file, self.line, self.name)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder of the repository.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Everything public that a text declares, outside of its tests.
fn items(file: &str, source: &Source) -> Vec<Item> {
    let tests = source.test_parts();
    let mut items = Vec::new();
    for position in source.words("pub") {
        let rest = &source.code[position + "pub".len()..];
        let words: Vec<&str> = rest.split_whitespace().take(4).collect();
        let at = words.iter().position(|word| matches!(*word, "fn" | "struct" | "enum" | "trait"));
        let Some(at) = at.filter(|at| words[..*at].iter().all(|word| *word == "const")) else {
            continue;
        };
        let length = |text: &str| text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        let name = words.get(at + 1).map_or("", |word| &word[..length(word).unwrap_or(word.len())]);
        if name.is_empty() || tests.iter().any(|part| part.contains(&position)) {
            continue;
        }
        let docs = docs_above(source, position);
        if docs.contains("doc(hidden)") {
            continue;
        }
        let end = rest.find(['{', ';']).unwrap_or(rest.len());
        let is_function = words[at] == "fn";
        let owner = if is_function { owner(source, position) } else { None };
        let body = if is_function { body(source, position) } else { String::new() };
        items.push(Item {
            name: owner.map_or_else(|| name.to_owned(), |owner| format!("{owner}::{name}")),
            file: file.to_owned(),
            line: source.line_of(position),
            docs,
            signature: if is_function { rest[..end].to_owned() } else { String::new() },
            body,
        });
    }
    items
}

fn body(source: &Source, position: usize) -> String {
    let functions = source.functions();
    let own = functions.iter().find(|function| function.position >= position);
    own.map(|function| source.code[function.body.clone()].to_owned()).unwrap_or_default()
}

/// The type of the `impl` block around a position.
fn owner(source: &Source, position: usize) -> Option<String> {
    let start = source.words("impl").into_iter().rfind(|at| {
        let open = source.code[*at..].find('{').map(|open| at + open);
        *at < position
            && open.is_some_and(|open| open < position && !closes(&source.code[open..position]))
    })?;
    let header = source.code[start + "impl".len()..].split('{').next()?.trim();
    // `impl<'a> Iter<'a>` is one of `Iter`.
    let header = match header.strip_prefix('<') {
        Some(rest) => rest.split_once('>')?.1.trim(),
        None => header,
    };
    let name = header.rsplit(" for ").next()?.split('<').next()?.trim();
    Some(name.to_owned())
}

/// Whether the brace at the beginning of a code is closed in it.
fn closes(code: &str) -> bool {
    let mut depth = 0_i32;
    for byte in code.bytes() {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        if depth == 0 {
            return true;
        }
    }
    false
}

/// The doc comments and attributes above a position, without the slashes.
fn docs_above(source: &Source, position: usize) -> String {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut first = source.line_of(position) - 1;
    let belongs = |line: &str| {
        let line = line.trim();
        ["///", "#[", "//"].iter().any(|start| line.starts_with(start))
            || (line.ends_with(")]") && !line.contains('{'))
    };
    while first > 0 && belongs(lines[first - 1]) {
        first -= 1;
    }
    let above = lines[first..source.line_of(position) - 1].iter();
    above.map(|line| line.trim().trim_start_matches("///")).collect::<Vec<_>>().join("\n")
}

/// The code of all examples in the documentation of a text.
fn examples(text: &str) -> String {
    let mut found = String::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.trim_start();
        let line = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).unwrap_or(line);
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            found.push_str(line);
            found.push('\n');
        }
    }
    found
}

/// Whether a word stands in a text with one of these signs before it.
fn used(text: &str, word: &str, before: &[&str]) -> bool {
    let named = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let front = &text[..at];
        let ends = !text[at + word.len()..].starts_with(named);
        let begins = !front.ends_with(named);
        ends && begins && (before.is_empty() || before.iter().any(|sign| front.ends_with(sign)))
    })
}

fn library() -> (Vec<Item>, String) {
    let mut found = Vec::new();
    let mut shown = examples(&fs::read_to_string(root().join("README.md")).unwrap());
    // What nobody outside of the tests can reach is not for programs.
    let private = root().join("src/internals");
    for path in files(&root().join("src")).into_iter().filter(|path| !path.starts_with(&private)) {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        shown.push_str(&examples(&text));
        found.extend(items(&name, &Source::new(&text)));
    }
    assert!(found.len() > 200, "only {} public items", found.len());
    (found, shown)
}

/// What can wait and does not say so; and what stands in a list for nothing.
fn silent_waits(items: &[Item]) -> Vec<String> {
    let mut findings = Vec::new();
    for item in items.iter().filter(|item| item.is_function()) {
        let timed = ["Duration", "Instant"].iter().any(|word| used(&item.signature, word, &[]));
        let takes = timed
            && item.signature.split("->").next().is_some_and(|parameters| {
                used(parameters, "Duration", &[]) || used(parameters, "Instant", &[])
            });
        let waits = (takes && !item.is_getter_or_setter()) || item.body.contains("clock::after(");
        let listed = WAITS.contains(&item.name.as_str());
        let excused = DOES_NOT_WAIT.iter().any(|(name, _)| *name == item.name);
        if (waits || listed) && !excused && !item.docs.contains("# Blocking") {
            findings.push(item.finding(
                "it can wait: say how long, and on which thread it does not, under `# Blocking` \
                 (or add it to DOES_NOT_WAIT in tests/it/public_docs.rs with the reason)",
            ));
        }
    }
    let listed = WAITS.iter().copied().chain(DOES_NOT_WAIT.iter().map(|(name, _)| *name));
    findings.extend(strangers(items, listed));
    findings
}

/// Names of a list that are no public item.
fn strangers<'a>(items: &[Item], listed: impl Iterator<Item = &'a str>) -> Vec<String> {
    let known: BTreeSet<&str> = items.iter().map(|item| item.name.as_str()).collect();
    let is_known = |name: &&str| match name.strip_suffix("::*") {
        Some(owner) => known.contains(owner),
        None => known.contains(*name),
    };
    let gone = listed.filter(|name| !is_known(name));
    gone.map(|name| format!("  tests/it/public_docs.rs: {name} is no public item")).collect()
}

/// What is public and shown nowhere.
fn unshown(items: &[Item], shown: &str, excused: &[(&str, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    for item in items {
        let owner = item.name.split_once("::").map(|(owner, _)| owner);
        let all = owner.map(|owner| format!("{owner}::*"));
        let listed =
            excused.iter().any(|(name, _)| *name == item.name || Some(*name) == all.as_deref());
        let is_shown = if item.is_function() {
            used(shown, item.short(), &[".", "::"])
        } else {
            used(shown, item.short(), &[])
        };
        let own = item.docs.contains("```");
        if !(own || is_shown || listed || (item.is_function() && item.is_getter_or_setter())) {
            findings.push(item.finding(
                "no example of the documentation uses it: add one, or add the name to NO_EXAMPLE \
                 in tests/it/public_docs.rs with the reason",
            ));
        }
    }
    findings.extend(strangers(items, excused.iter().map(|(name, _)| *name)));
    findings
}

#[test]
fn whatever_can_wait_says_how_long() {
    let (items, _) = library();
    let findings = silent_waits(&items);
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn whatever_is_public_has_an_example_or_a_reason_why_not() {
    let (items, shown) = library();
    let findings = unshown(&items, &shown, NO_EXAMPLE);
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn bad_samples_are_found() {
    let text = "//! x\n/// A.\npub struct A;\nimpl<'a> A {\n    /// Waits.\n    \
                pub fn wait(&self, timeout: Duration) -> Result<()> {\n        x\n    }\n    \
                /// Looks.\n    pub fn look(&self) -> u8 { 1 }\n    /// Sets.\n    \
                #[must_use]\n    pub fn set(mut self, time: Duration) -> Self { self }\n    \
                /// Inside.\n    pub fn inside(&self) { clock::after(x); }\n    \
                fn private(&self, x: Duration) {}\n}\n\
                #[cfg(test)]\nmod tests { pub fn f(x: Duration) {} }\n";
    let items = items("a.rs", &Source::new(text));
    let names: Vec<_> = items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["A", "A::wait", "A::look", "A::set", "A::inside"]);
    let waits: Vec<_> = silent_waits(&items).into_iter().filter(|f| f.contains("a.rs")).collect();
    assert_eq!(waits.len(), 2, "{waits:?}");
    assert!(waits[0].contains("a.rs:6: A::wait:") && waits[1].contains("A::inside"));
    let shown = examples("/// ```\n/// let a = A;\n/// ```\n/// a.wait(x)\n");
    assert_eq!(unshown(&items, &shown, &[]).len(), 2);
    assert_eq!(unshown(&items, &shown, &[("A::*", "because")]).len(), 0);
    assert_eq!(unshown(&items, &shown, &[("A::*", "x"), ("B", "gone")]).len(), 1);
}
