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
use std::path::Path;

use crate::support::public_items::{Item, files, items};
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
    (
        "PoolServer",
        "`Connection::server_pool` and a choice give it, in the example of `select_server`",
    ),
    ("ServerChoice", "the closure of `select_server` gets it, in the example there"),
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
    ("ServerAddress", "a `Connector` gets it, in the example there"),
    ("ServerAddress::*", "as `ServerAddress`: getters"),
    ("Transport", "a `Connector` gives it, in the example there"),
    ("Status", "`Message::status` gives it; it has getters only"),
    ("TimeoutIter", "`Subscription::timeout_iter` gives it, and has an example"),
    ("TryIter", "`Subscription::try_iter` gives it; a `for` loop uses it"),
    ("Connection::request_many_message", "`request_many` with a message, as `request_message`"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
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
