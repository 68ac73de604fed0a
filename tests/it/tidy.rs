//! The structure of the repository, checked: who may import whom, sizes, and words that must not
//! appear where they would break a promise.
//!
//! [`LAYERS`] is the layering as data; whoever adds a file adds it there. Each check is a function
//! over one text that gives a list of findings, and has a test with a bad sample below. What the
//! compiler, rustfmt or clippy already refuse is not repeated here.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use crate::support::source::{FoundPath, Source};

/// The layers from the bottom up: a file imports only from files that stand before it here. Each
/// line names a folder of `src` (`.` is `src` itself) and its files in their own order.
///
/// Facades (`mod.rs`) are not listed: they hold docs, `mod` and `use` only.
const LAYERS: &str = "
    .               server_error error server_url server_list statistics
    sync            plain modelled ranked
    .               clock trace outcome random bell
    protocol        space subject headers frame message
    protocol        info tls_policy op connect plain body parser handshake
    .               read_listener
    auth            secret nkey jwt creds login sign ways
    transport       stream connector foreign resolve tcp held_back read_wait no_tls no_websocket
    transport/tls   pem explain material session settings stream
    transport/websocket settings frames stream upgrade
    subscriptions   consumer spares mailbox subscriber requests registry routes router delivery
    outbox          frames pongs state turn append room phases
    core            notice events hooks keepalive choice servers waits threads asking config life
    core            shared watch barrier callbacks traffic flusher attempt departure receive
    core            handover outage reader closing draining
    connection      handle publish looking pool events
    subscription    handle iterators
    .               drain request subscription_set request_many
    dispatcher      table thread handle
    .               listener
    options         check made builder authorization signing servers reconnecting
    options         sizes sockets wire tls websocket listening watching durations property_text
    options         property_keys properties environment
    .               lib
    guide           from_nats from_async_nats from_java promises
    internals       inputs websocket time pipe queue outbox requests servers life
    testing         client_op interest session broker server grammar recorder
";

/// Files that follow time only by what they are told.
const TIMELESS: &[&str] = &["protocol/", "core/keepalive.rs", "core/servers.rs", "core/waits.rs"];

/// The one folder that may touch locks, threads and the system's clock.
const DOOR: &str = "sync/";

/// What may lie at the top of the repository, besides names with a dot in front.
const TOP: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "examples",
    "tests",
    "README.md",
    "CHANGELOG.md",
    "target",
];

const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 70;
const WIDEST_LINE: usize = 100;

/// A place and what is wrong there.
type Finding = (usize, String);

/// Every file of `src` by its path there, and what facades hand on.
struct Tree {
    files: BTreeMap<String, Source>,
    ranks: HashMap<String, usize>,
    /// For each facade (`protocol/mod.rs`, `lib.rs`): name to the file that it comes from.
    handed_on: HashMap<String, HashMap<String, String>>,
}

impl Tree {
    fn new(files: BTreeMap<String, Source>) -> Self {
        let mut tree = Self { files, ranks: ranks(LAYERS), handed_on: HashMap::new() };
        // Again and again: each time a facade sees through those that it hands on from.
        for _ in 0..3 {
            for (path, source) in &tree.files {
                if is_facade(path) || path == "lib.rs" {
                    let map = hands_on(&tree, path, source);
                    tree.handed_on.insert(path.clone(), map);
                }
            }
        }
        tree
    }

    fn exists(&self, path: &str) -> bool {
        self.files.contains_key(path) || self.ranks.contains_key(path)
    }

    /// The file that a path of modules and items from the root of the crate leads to: a listed
    /// file, or a facade if the item cannot be told.
    fn resolve(&self, segments: &[String]) -> String {
        if segments.is_empty() {
            return "lib.rs".to_owned();
        }
        // As deep into the folders as the segments lead.
        let mut facade = "lib.rs".to_owned();
        let mut folder = String::new();
        let mut rest = segments;
        while let Some((first, after)) = rest.split_first() {
            let file = format!("{folder}{first}.rs");
            if self.exists(&file) {
                return file;
            }
            if !self.is_folder(&format!("{folder}{first}")) {
                break;
            }
            folder = format!("{folder}{first}/");
            facade = format!("{folder}mod.rs");
            rest = after;
        }
        let item = rest.first();
        let from = item.and_then(|item| self.handed_on.get(&facade)?.get(item));
        from.unwrap_or(&facade).clone()
    }

    fn is_folder(&self, name: &str) -> bool {
        let prefix = format!("{name}/");
        self.ranks.keys().chain(self.files.keys()).any(|path| path.starts_with(&prefix))
    }

    /// A facade that was imported as a whole ranks as the last file behind it.
    fn rank(&self, path: &str) -> Option<usize> {
        match path.strip_suffix("mod.rs") {
            Some(folder) if is_facade(path) => {
                let inside = self.ranks.iter().filter(|(file, _)| file.starts_with(folder));
                inside.map(|(_, rank)| *rank).max()
            }
            _ => self.ranks.get(path).copied(),
        }
    }
}

fn ranks(layers: &str) -> HashMap<String, usize> {
    let mut files = Vec::new();
    for line in layers.lines() {
        let mut words = line.split_whitespace();
        let Some(folder) = words.next() else { continue };
        files.extend(words.map(|name| match folder {
            "." => format!("{name}.rs"),
            folder => format!("{folder}/{name}.rs"),
        }));
    }
    files.into_iter().enumerate().map(|(rank, file)| (file, rank)).collect()
}

fn is_facade(path: &str) -> bool {
    path.ends_with("/mod.rs")
}

/// The modules in which a file stands, from the root: `core/reader.rs` is `core`, `reader`.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let segments = path.split('/').filter(|segment| !matches!(*segment, "mod" | "lib"));
    segments.map(str::to_owned).collect()
}

/// What a facade's `use` lines make known, with the files that it comes from.
fn hands_on(tree: &Tree, path: &str, source: &Source) -> HashMap<String, String> {
    let mut map = HashMap::new();
    for found in source.uses() {
        let from = tree.resolve(&from_root(path, source, &found, true));
        if let (false, Some(name)) =
            (is_facade(&from), found.alias.or_else(|| found.segments.last().cloned()))
        {
            map.insert(name, from);
        }
    }
    map
}

/// A path that begins with `crate`, `self`, `super` or (in a facade) a child, from the root.
fn from_root(path: &str, source: &Source, found: &FoundPath, is_use: bool) -> Vec<String> {
    let mut base = module_of(path);
    let mut inline = source.module_depth(found.position);
    let mut rest = found.segments.as_slice();
    match rest.first().map(String::as_str) {
        Some("crate") => return rest[1..].to_vec(),
        Some("self") => rest = &rest[1..],
        Some("super") => {}
        _ if is_use => {}
        _ => return rest.to_vec(),
    }
    while let Some((first, after)) = rest.split_first() {
        if first != "super" {
            break;
        }
        rest = after;
        // A way out of an inline module ends in the file itself.
        match inline.checked_sub(1) {
            Some(outer) => inline = outer,
            None => drop(base.pop()),
        }
    }
    if inline > 0 { module_of(path) } else { [base.as_slice(), rest].concat() }
}

// ---- the checks -------------------------------------------------------------------------------

/// Imports against the arrows, and files that the table does not know.
fn layering(tree: &Tree, path: &str) -> Vec<Finding> {
    let source = &tree.files[path];
    if is_facade(path) {
        return Vec::new();
    }
    let Some(own) = tree.rank(path) else {
        return vec![(1, "not in the layer table".to_owned())];
    };
    let mut findings = Vec::new();
    for root in ["crate", "super"] {
        for found in source.paths(root) {
            let to = tree.resolve(&from_root(path, source, &found, false));
            let allowed = to == path || tree.rank(&to).is_some_and(|rank| rank < own);
            if !allowed {
                let shown = found.segments.join("::");
                findings.push((source.line_of(found.position), format!("{shown} leads to {to}")));
            }
        }
    }
    if path == "lib.rs" {
        for found in source.uses() {
            let to = tree.resolve(&from_root(path, source, &found, true));
            if tree.rank(&to).is_some_and(|rank| rank > own) {
                let line = source.line_of(found.position);
                findings.push((line, format!("a use of {to}")));
            }
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

/// A facade holds docs, `mod` lines and `use` lines.
fn facade_content(source: &Source) -> Vec<Finding> {
    let mut code = source.code.clone();
    for part in source.items_under(|_| true) {
        // Only the attribute itself is blanked: the item must still be a `mod` or a `use`.
        let end = source.code[part.start..].find(']').map_or(part.end, |at| part.start + at + 1);
        code.replace_range(part.start..end, &" ".repeat(end - part.start));
    }
    let mut position = 0;
    let mut findings = Vec::new();
    for statement in code.split_inclusive(';') {
        let trimmed = statement.trim();
        let mut words = trimmed.trim_end_matches(';').trim_start();
        if let Some(rest) = words.strip_prefix("pub") {
            let rest = rest.trim_start();
            words =
                rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |s| s.1);
        }
        let words = words.trim_start();
        let plain_module = words.strip_prefix("mod ").is_some_and(|name| !name.contains('{'));
        if !(trimmed.is_empty() || plain_module || words.starts_with("use ")) {
            let blank = statement.len() - statement.trim_start().len();
            findings.push((
                source.line_of(position + blank),
                "a facade holds docs, mod and use only".to_owned(),
            ));
        }
        position += statement.len();
    }
    findings
}

fn file_length(source: &Source) -> Vec<Finding> {
    let tests: usize = source
        .test_parts()
        .iter()
        .map(|part| source.line_of(part.end.saturating_sub(1)) + 1 - source.line_of(part.start))
        .sum();
    let lines = source.text.lines().count().saturating_sub(tests);
    if lines <= LONGEST_FILE {
        return Vec::new();
    }
    vec![(1, format!("{lines} lines without tests, at most {LONGEST_FILE}"))]
}

fn function_length(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for function in source.functions() {
        let first = source.line_of(function.position);
        let lines = source.line_of(function.body.end.saturating_sub(1)) + 1 - first;
        if lines > LONGEST_FUNCTION {
            let name = function.name;
            findings.push((first, format!("{name} has {lines} lines, at most {LONGEST_FUNCTION}")));
        }
    }
    findings
}

/// Rows of tables in documentation may be as wide as they like: they cannot be broken.
fn line_width(text: &str) -> Vec<Finding> {
    let is_row = |line: &str| {
        let line = line.trim_start();
        line.starts_with("//! |") || line.starts_with("/// |")
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !is_row(line));
    let wide = lines.map(|(index, line)| (index + 1, line.chars().count()));
    wide.filter(|(_, width)| *width > WIDEST_LINE)
        .map(|(line, width)| (line, format!("{width} columns, at most {WIDEST_LINE}")))
        .collect()
}

/// The library never panics (unless an invariant is named), prints or exits.
fn panics_and_prints(source: &Source) -> Vec<Finding> {
    const PANICS: &[&str] = &[
        ".unwrap(",
        ".expect(",
        ".unwrap_err(",
        ".expect_err(",
        "panic!",
        "unreachable!",
        "todo!",
        "unimplemented!",
        "assert!",
        "assert_eq!",
        "assert_ne!",
    ];
    const NEVER: &[&str] =
        &["print!", "println!", "eprint!", "eprintln!", "dbg!", "process::exit", "process::abort"];
    let mut findings = Vec::new();
    for word in PANICS {
        for line in outside_tests(source, source.words(word)) {
            if !has_comment(source, line, "// Invariant:") {
                findings.push((line, format!("{word} without a line '// Invariant: …'")));
            }
        }
    }
    for word in NEVER {
        for line in outside_tests(source, source.words(word)) {
            findings.push((line, format!("{word} in the library")));
        }
    }
    findings
}

/// The protocol layer has no sockets, threads, clocks and locks.
fn sans_io(source: &Source) -> Vec<Finding> {
    let mut findings = forbidden_paths(
        source,
        &["std::net", "std::io", "std::thread", "std::os", "crate::sync", "socket2"],
    );
    findings.extend(forbidden_words(source, &["Instant", "SystemTime"]));
    findings
}

/// Locks and threads come from one door.
fn locks_and_threads(source: &Source) -> Vec<Finding> {
    let mut findings = forbidden_paths(
        source,
        &[
            "std::sync::Mutex",
            "std::sync::Condvar",
            "std::sync::RwLock",
            "std::sync::Barrier",
            "std::sync::mpsc",
            "std::thread::spawn",
            "std::thread::Builder",
            "std::thread::scope",
        ],
    );
    findings.extend(forbidden_words(
        source,
        &["parking_lot", "thread::spawn", "thread::Builder", "thread::scope"],
    ));
    findings.sort();
    // A full path is found as a path and as a word.
    findings.dedup_by_key(|finding| finding.0);
    findings
}

fn clock(source: &Source) -> Vec<Finding> {
    forbidden_words(source, &["Instant::now", "SystemTime::now", "clock::now", "clock::since"])
}

/// Models and simulations have a clock of their own: one folder reads the system's.
fn system_clock(source: &Source) -> Vec<Finding> {
    forbidden_words(source, &["Instant::now", ".elapsed()"])
}

/// What exists on some platforms only stands under a cfg that says so.
fn platform(source: &Source) -> Vec<Finding> {
    let allowed = source.items_under(|attribute| {
        let inside: String = attribute.split_whitespace().collect();
        let names = inside.contains("unix") || inside.contains("target_os");
        names && inside.contains("cfg") && !inside.contains("not(unix)")
    });
    let mut findings = Vec::new();
    for found in source.paths("std") {
        let special = found.segments.get(1).is_some_and(|segment| segment == "os");
        if special && !allowed.iter().any(|part| part.contains(&found.position)) {
            let shown = found.segments.join("::");
            findings.push((source.line_of(found.position), format!("{shown} without a cfg")));
        }
    }
    findings
}

fn head(source: &Source) -> Vec<Finding> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![(1, "the file does not begin with //!".to_owned())]
}

/// No test is switched off without a reason, and nothing sleeps to wait for a condition.
fn ignored_and_sleeping(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, _) in source.code.match_indices("#[ignore]") {
        findings.push((source.line_of(at), "#[ignore] without a reason".to_owned()));
    }
    for position in source.words("thread::sleep") {
        let line = source.line_of(position);
        if !has_comment(source, line, "// Paces:") {
            findings.push((line, "thread::sleep without a comment '// Paces: …'".to_owned()));
        }
    }
    findings
}

/// Tests and examples listen on ports that the system gives, so that any number run at once.
/// Port 1 stands for one that nobody listens on, 4222 for the default in what is shown to people.
fn fixed_ports(source: &Source) -> Vec<Finding> {
    const HOSTS: &[&str] =
        &["127.0.0.1:", "localhost:", "0.0.0.0:", "[::1]:", "\"127.0.0.1\", ", "LOCALHOST, "];
    let mut findings = Vec::new();
    for host in HOSTS {
        for (at, _) in source.text.match_indices(host) {
            let port: String = source.text[at + host.len()..]
                .chars()
                .take_while(|c| c.is_ascii_digit() || *c == '_')
                .collect();
            let in_comment = !source.comments[at..at + 1].trim().is_empty();
            if !in_comment && !matches!(port.as_str(), "" | "0" | "1" | "4222") {
                findings.push((
                    source.line_of(at),
                    format!("the fixed port {port}: use support::ports, or port 0"),
                ));
            }
        }
    }
    findings
}

/// The version is in the change log, and the README does not tell another one.
fn version(manifest: &str, change_log: &str, readme: &str) -> Vec<Finding> {
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = "));
    let Some(version) = line.map(|quoted| quoted.trim_matches('"')) else {
        return vec![(1, "Cargo.toml has no version".to_owned())];
    };
    let mut findings = Vec::new();
    if !change_log.lines().any(|line| line.starts_with(&format!("## [{version}]"))) {
        findings.push((1, format!("CHANGELOG.md has no section for {version}")));
    }
    for (index, line) in readme.lines().enumerate() {
        let Some((_, told)) = line.split_once("nats-blocking = ") else { continue };
        let told = told.split_once("version = ").map_or(told, |(_, told)| told);
        let told = told.trim_start().trim_start_matches('"').split('"').next().unwrap_or("");
        let same = version == told || version.starts_with(&format!("{told}."));
        if told.starts_with(|c: char| c.is_ascii_digit()) && !same {
            findings.push((index + 1, format!("README.md tells {told}, not {version}")));
        }
    }
    findings
}

fn top_level<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Finding> {
    let strange = names.into_iter().filter(|name| !name.starts_with('.') && !TOP.contains(name));
    strange.map(|name| (0, format!("{name} does not belong at the top"))).collect()
}

// ---- what the checks share --------------------------------------------------------------------

/// The lines of positions that are not in tests.
fn outside_tests(source: &Source, positions: Vec<usize>) -> Vec<usize> {
    let tests = source.test_parts();
    let outside = positions.into_iter().filter(|at| !tests.iter().any(|part| part.contains(at)));
    outside.map(|at| source.line_of(at)).collect()
}

fn forbidden_words(source: &Source, words: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for word in words {
        for line in outside_tests(source, source.words(word)) {
            findings.push((line, format!("{word} is not for this file")));
        }
    }
    findings
}

fn forbidden_paths(source: &Source, forbidden: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for root in ["std", "crate", "socket2"] {
        for found in source.paths(root) {
            let shown = found.segments.join("::");
            let hit = forbidden.iter().any(|path| {
                shown
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            });
            if hit {
                for line in outside_tests(source, vec![found.position]) {
                    findings.push((line, format!("{shown} is not for this file")));
                }
            }
        }
    }
    findings
}

/// Whether a comment beginning so stands on a line, or in the comment above it. Between them may be
/// attributes and the earlier lines of a chain of calls.
fn has_comment(source: &Source, line: usize, beginning: &str) -> bool {
    let comments: Vec<&str> = source.comments.lines().collect();
    let code: Vec<&str> = source.code.lines().collect();
    let at =
        |lines: &[&str], line: usize| lines.get(line - 1).map_or("", |text| text.trim()).to_owned();
    if at(&comments, line).starts_with(beginning) {
        return true;
    }
    let mut line = line;
    while line > 1 && (at(&code, line).starts_with('.') || at(&code, line - 1).starts_with("#[")) {
        line -= 1;
    }
    while line > 1 {
        line -= 1;
        if !at(&code, line).is_empty() || at(&comments, line).is_empty() {
            return false;
        }
        if at(&comments, line).starts_with(beginning) {
            return true;
        }
    }
    false
}

// ---- the repository ---------------------------------------------------------------------------

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files under a folder, by their path in it with `/`.
fn rust_files(folder: &str) -> BTreeMap<String, Source> {
    let mut found = BTreeMap::new();
    let mut open = vec![String::new()];
    while let Some(inside) = open.pop() {
        let Ok(entries) = fs::read_dir(root().join(folder).join(&inside)) else { continue };
        for entry in entries.map(Result::unwrap) {
            let name = format!("{inside}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                // What cargo makes for the packages among the tests.
                if entry.file_name() == "target" {
                    continue;
                }
                open.push(format!("{name}/"));
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(entry.path()).unwrap();
                found.insert(name, Source::new(&text));
            }
        }
    }
    found
}

fn top_file(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_default()
}

fn assert_tidy(findings: Vec<(String, Finding)>) {
    let lines: Vec<String> = findings
        .into_iter()
        .map(|(file, (line, text))| format!("  {file}:{line}: {text}"))
        .collect();
    assert!(lines.is_empty(), "{} findings:\n{}", lines.len(), lines.join("\n"));
}

fn check_library(check: impl Fn(&str, &Source) -> Vec<Finding>) {
    let mut findings = Vec::new();
    for (path, source) in &rust_files("src") {
        findings.extend(check(path, source).into_iter().map(|at| (format!("src/{path}"), at)));
    }
    assert_tidy(findings);
}

fn check_all(check: impl Fn(&Source) -> Vec<Finding>) {
    let mut findings = Vec::new();
    for folder in ["src", "tests", "examples"] {
        for (path, source) in &rust_files(folder) {
            findings.extend(check(source).into_iter().map(|at| (format!("{folder}/{path}"), at)));
        }
    }
    assert_tidy(findings);
}

#[test]
fn imports_follow_the_arrows_and_every_file_has_its_place() {
    let tree = Tree::new(rust_files("src"));
    check_library(|path, _| layering(&tree, path));
}

#[test]
fn facades_hold_docs_mod_and_use_only() {
    check_library(|path, source| if is_facade(path) { facade_content(source) } else { vec![] });
}

#[test]
fn no_file_is_too_long() {
    check_library(|_, source| file_length(source));
}

#[test]
fn no_function_is_too_long() {
    check_all(function_length);
}

#[test]
fn no_line_is_too_wide() {
    check_all(|source| line_width(&source.text));
}

#[test]
fn the_library_never_panics_prints_or_exits() {
    check_library(|_, source| panics_and_prints(source));
}

#[test]
fn the_protocol_layer_has_no_sockets_threads_clocks_or_locks() {
    check_library(
        |path, source| {
            if path.starts_with("protocol/") { sans_io(source) } else { vec![] }
        },
    );
}

#[test]
fn locks_and_threads_come_from_one_folder() {
    check_library(
        |path, source| if path.starts_with(DOOR) { vec![] } else { locks_and_threads(source) },
    );
}

#[test]
fn what_is_told_the_time_does_not_ask_for_it() {
    check_library(|path, source| {
        if TIMELESS.iter().any(|start| path.starts_with(start)) { clock(source) } else { vec![] }
    });
}

#[test]
fn the_clock_is_read_in_one_folder() {
    check_library(|path, source| {
        let elsewhere = !path.starts_with(DOOR) && !path.starts_with("testing/");
        if elsewhere { system_clock(source) } else { vec![] }
    });
}

#[test]
fn what_a_platform_lacks_is_under_a_cfg() {
    check_library(|_, source| platform(source));
}

#[test]
fn every_file_says_what_lives_in_it() {
    check_all(head);
}

#[test]
fn no_test_is_ignored_or_sleeps_for_a_condition() {
    check_all(ignored_and_sleeping);
}

#[test]
fn no_test_or_example_has_a_port_of_its_own() {
    let mut findings = Vec::new();
    for folder in ["tests", "examples"] {
        for (path, source) in &rust_files(folder) {
            // The sample below is bad by intent, and addresses that are only read are not used.
            if path != "it/tidy.rs" && path != "it/secrets.rs" {
                let found = fixed_ports(source).into_iter();
                findings.extend(found.map(|at| (format!("{folder}/{path}"), at)));
            }
        }
    }
    assert_tidy(findings);
}

#[test]
fn the_version_is_the_same_everywhere() {
    let [manifest, log, readme] = ["Cargo.toml", "CHANGELOG.md", "README.md"].map(top_file);
    let findings = version(&manifest, &log, &readme);
    assert_tidy(findings.into_iter().map(|at| ("Cargo.toml".to_owned(), at)).collect());
}

#[test]
fn the_top_of_the_repository_is_small() {
    let entries = fs::read_dir(root()).unwrap();
    let names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let findings = top_level(names.iter().map(String::as_str));
    assert_tidy(findings.into_iter().map(|at| (".".to_owned(), at)).collect());
}

/// Each check on bad samples: a check that finds nothing would otherwise look like a tidy crate.
#[cfg(test)]
mod samples {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), Source::new(text)));
        Tree::new(files.collect())
    }

    fn imports(files: &[(&str, &str)], path: &str) -> Vec<String> {
        layering(&tree(files), path)
            .into_iter()
            .map(|(line, text)| format!("{line}: {text}"))
            .collect()
    }

    fn lines(findings: Vec<Finding>) -> Vec<usize> {
        findings.into_iter().map(|finding| finding.0).collect()
    }

    #[test]
    fn the_table_is_one_order() {
        let ranks = ranks(LAYERS);
        assert!(ranks["error.rs"] < ranks["sync/ranked.rs"]);
        assert!(ranks["sync/ranked.rs"] < ranks["protocol/subject.rs"]);
        assert!(ranks["lib.rs"] < ranks["testing/server.rs"]);
        let listed: usize =
            LAYERS.lines().map(|line| line.split_whitespace().count().saturating_sub(1)).sum();
        assert_eq!(ranks.len(), listed, "a file is listed twice");
    }

    #[test]
    fn an_import_against_the_arrows_is_found_in_every_form() {
        let text = "//! x\nuse crate::error::Error;\n\
                    use crate::{sync::Mutex, core::reader::Reader};\n\
                    fn f() { crate::protocol::parser::parse(); }\nuse super::message::Message;\n\
                    fn g(x: crate::drain::Drain) {}\n\
                    mod inner { use super::f; use super::super::op::ClientOp; }\n\
                    use super::super::request::PendingReply;\n";
        assert_eq!(
            imports(&[("protocol/headers.rs", text)], "protocol/headers.rs"),
            [
                "3: crate::core::reader::Reader leads to core/reader.rs",
                "4: crate::protocol::parser::parse leads to protocol/parser.rs",
                "5: super::message::Message leads to protocol/message.rs",
                "6: crate::drain::Drain leads to drain.rs",
                "7: super::super::op::ClientOp leads to protocol/op.rs",
                "8: super::super::request::PendingReply leads to request.rs",
            ]
        );
    }

    #[test]
    fn a_facade_is_seen_through() {
        let facade = "//! x\nmod message;\nmod subject;\n\
                      pub(crate) use message::Message as Letter;\n\
                      pub(crate) use self::subject::{Subject};\npub(crate) use message::*;\n";
        let lib = "//! x\nmod error;\nmod protocol;\npub use error::Error;\n\
                   pub use protocol::Letter;\npub use crate::drain::Drain;\n";
        let text = "//! x\nuse crate::protocol::{Letter, Subject};\nuse crate::Error;\n\
                    use super::Letter as L;\nuse crate::Letter as M;\nuse crate::Drain;\n\
                    use crate::protocol::Unknown;\nuse crate::Nothing;\n";
        let files = [("protocol/mod.rs", facade), ("lib.rs", lib), ("protocol/headers.rs", text)];
        assert_eq!(
            imports(&files, "protocol/headers.rs"),
            [
                "2: crate::protocol::Letter leads to protocol/message.rs",
                "4: super::Letter leads to protocol/message.rs",
                "5: crate::Letter leads to protocol/message.rs",
                "6: crate::Drain leads to drain.rs",
                "7: crate::protocol::Unknown leads to protocol/mod.rs",
                "8: crate::Nothing leads to lib.rs",
            ]
        );
        assert_eq!(imports(&files, "lib.rs"), Vec::<String>::new());
        let above = imports(&[("lib.rs", "//! x\nuse testing::server::Server;")], "lib.rs");
        assert_eq!(above, ["2: a use of testing/server.rs"]);
        let below = "//! x\nuse crate::protocol::{Letter, Unknown};";
        assert!(imports(&[files[0], ("drain.rs", below)], "drain.rs").is_empty());
    }

    #[test]
    fn a_file_without_a_place_is_found() {
        let found = imports(&[("core/surprise.rs", "//! x")], "core/surprise.rs");
        assert_eq!(found, ["1: not in the layer table"]);
    }

    #[test]
    fn a_facade_with_code_is_found() {
        let good = "//! x\n#![allow(y)]\n#[cfg(test)]\nmod a;\npub(crate) mod b;\n\
                    pub(crate) use a::{A, B};\n";
        assert_eq!(facade_content(&Source::new(good)), []);
        let bad = "//! x\nmod a;\nfn f() {}\nmod b { fn g() {} }\nconst C: u8 = 1;\n";
        assert_eq!(lines(facade_content(&Source::new(bad))), [3]);
        assert_eq!(lines(facade_content(&Source::new("//! x\nmod a;\nstatic S: u8 = 1;"))), [3]);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let long = "fn f() {}\n".repeat(LONGEST_FILE);
        assert_eq!(file_length(&Source::new(&long)), []);
        let with_tests = format!("{long}#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(file_length(&Source::new(&with_tests)), []);
        assert_eq!(file_length(&Source::new(&format!("{with_tests}fn g() {{}}\n"))).len(), 1);
    }

    #[test]
    fn a_long_function_is_found_whatever_its_literals_hold() {
        let body = "    let x = \"}\"; // }\n    let y = '}'; /* } */ let z = r#\"}\"}\"#;\n";
        let function = |pairs: usize| format!("\nfn f<'a>() {{\n{}}}\n", body.repeat(pairs));
        assert_eq!(function_length(&Source::new(&function(34))), []);
        let found = function_length(&Source::new(&function(35)));
        assert_eq!(found, [(2, "f has 72 lines, at most 70".to_owned())]);
    }

    #[test]
    fn a_wide_line_is_found() {
        let text = format!("{}\n{}\n", "é".repeat(100), "x".repeat(101));
        assert_eq!(line_width(&text), [(2, "101 columns, at most 100".to_owned())]);
        let row = format!("//! | {} |\n    /// | {0} |\n", "x".repeat(101));
        assert_eq!(line_width(&row), []);
    }

    #[test]
    fn a_panic_needs_its_invariant_named_right_there() {
        let bad = "fn f() {\n a.unwrap();\n b.expect(\"x\");\n panic!();\n unreachable!();\n\
                     todo!();\n\
                   unimplemented!();\n assert_eq!(1, 1);\n}\n";
        assert_eq!(lines(panics_and_prints(&Source::new(bad))).len(), 7);
        let good = "/// a.unwrap()\nfn f() {\n // a.unwrap()\n \"a.unwrap()\"; a.unwrap_or(1);\n\
                    // Invariant: a is there,\n // always.\n #[allow(x)]\n\
                     a\n  .b()\n  .unwrap();\n\
                    b.unwrap(); // Invariant: so is b.\n debug_assert!(c);\n}\n\
                    #[cfg(test)]\nmod tests { fn g() { a.unwrap(); } }\n";
        assert_eq!(panics_and_prints(&Source::new(good)), []);
        let far = "fn f() {\n // Invariant: of another line.\n a();\n b.unwrap();\n\n\
                   // Invariant: too far.\n\n c.unwrap();\n}";
        assert_eq!(lines(panics_and_prints(&Source::new(far))), [4, 8]);
        let prints = "fn f() {\n println!();\n eprintln!();\n std::process::exit(1);\n}";
        let mut found = lines(panics_and_prints(&Source::new(prints)));
        found.sort_unstable();
        assert_eq!(found, [2, 3, 4]);
    }

    #[test]
    fn sockets_threads_clocks_and_locks_in_the_protocol_are_found() {
        let bad = "use std::{fmt, net::IpAddr};\nuse std::io;\n\
                    fn f() { std::thread::yield_now() }\n\
                   use std::time::{Duration, Instant};\nfn g(t: SystemTime) {}\n\
                   use crate::sync::Mutex;\n";
        let mut found = lines(sans_io(&Source::new(bad)));
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3, 4, 5, 6]);
        let good = "use std::time::Duration;\nuse crate::error::Error; // not std::io\n\
                    #[cfg(test)]\nmod tests { use std::time::Instant; }\n";
        assert_eq!(sans_io(&Source::new(good)), []);
    }

    #[test]
    fn locks_and_threads_beside_the_door_are_found() {
        let bad = "use std::sync::{Arc, Mutex};\nuse std::sync::Condvar;\n\
                    use parking_lot::RwLock;\n\
                   fn f() {\n thread::spawn(g);\n std::thread::Builder::new();\n}\n\
                   static S: std::sync::RwLock<u8> = x;\n";
        assert_eq!(lines(locks_and_threads(&Source::new(bad))), [1, 2, 3, 5, 6, 8]);
        let good = "use std::sync::{Arc, atomic::AtomicU8};\nuse crate::sync::{self, Mutex};\n\
                    fn f() { sync::spawn(g); std::thread::current(); }\n";
        assert_eq!(locks_and_threads(&Source::new(good)), []);
    }

    #[test]
    fn a_look_at_the_clock_is_found() {
        let bad = "fn f(now: Instant) {\n let x = Instant::now();\n}\n\
                   #[cfg(test)]\nmod tests { fn g() { Instant::now(); } }";
        assert_eq!(lines(clock(&Source::new(bad))), [2]);
        assert_eq!(lines(system_clock(&Source::new(bad))), [2]);
        let bad = "fn f(then: Instant) {\n g(then.elapsed());\n}";
        assert_eq!(lines(system_clock(&Source::new(bad))), [2]);
    }

    #[test]
    fn what_a_platform_lacks_is_found_without_its_cfg() {
        let bad = "use std::os::unix::net::UnixStream;\n#[cfg(not(unix))]\nuse std::os::fd::AsFd;\n\
                   fn f() { std::os::linux::g(); }\n";
        assert_eq!(lines(platform(&Source::new(bad))), [1, 3, 4]);
        let good = "#[cfg(unix)]\nuse std::os::unix::net::UnixStream;\n\
                    #[cfg(target_os = \"linux\")]\nfn f() { std::os::linux::g(); }\n";
        assert_eq!(platform(&Source::new(good)), []);
    }

    #[test]
    fn a_file_without_a_head_is_found() {
        assert_eq!(lines(head(&Source::new("use std::io;\n//! late"))), [1]);
        assert_eq!(head(&Source::new("//! What lives here.")), []);
    }

    #[test]
    fn ignored_tests_and_sleeps_are_found() {
        let bad = "#[ignore]\nfn f() {\n thread::sleep(x);\n std::thread::sleep(y);\n}";
        assert_eq!(lines(ignored_and_sleeping(&Source::new(bad))), [1, 3, 4]);
        let good = "#[ignore = \"needs a day\"]\nfn f() {\n // Paces: ten a second.\n\
                     thread::sleep(x);\n\
                    thread::sleep(y); // Paces: the same.\n \"thread::sleep(z) #[ignore]\";\n}";
        assert_eq!(ignored_and_sleeping(&Source::new(good)), []);
    }

    #[test]
    fn a_fixed_port_is_found() {
        let bad = "fn f() {\n g(\"127.0.0.1:5222\");\n h((\"127.0.0.1\", 7_000));\n}\n";
        assert_eq!(lines(fixed_ports(&Source::new(bad))), [2, 3]);
        let good = "// 127.0.0.1:5222\nfn f() {\n g(\"127.0.0.1:0\", \"127.0.0.1:1\");\n\
                    h(format!(\"localhost:{port}\"));\n}\n";
        assert_eq!(fixed_ports(&Source::new(good)), []);
    }

    #[test]
    fn a_version_that_differs_is_found() {
        let manifest = "[package]\nname = \"x\"\nversion = \"1.2.3\"\n";
        let log = "## [Unreleased]\n\n## [1.2.3]\n";
        let readme =
            "nats-blocking = \"1.2\"\nnats-blocking = { version = \"1.2.3\", features = [] }\n";
        assert_eq!(version(manifest, log, readme), []);
        assert_eq!(version(manifest, "## [1.2.2]", readme).len(), 1);
        let other = "x\nnats-blocking = \"1.3\"\nnats-blocking = { version = \"1.20\" }\n";
        assert_eq!(lines(version(manifest, log, other)), [2, 3]);
        assert_eq!(version("", log, readme).len(), 1);
    }

    #[test]
    fn a_stray_file_at_the_top_is_found() {
        assert_eq!(top_level(["src", ".ci", "Cargo.toml"]), []);
        assert_eq!(top_level(["src", "notes.txt"]).len(), 1);
    }
}
