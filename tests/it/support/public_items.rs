//! The public functions and types of a Rust text, for tests over all of them.
//!
//! Found by their words, see [`Source`]: what stands in tests or is hidden does not count.

use std::fs;
use std::path::{Path, PathBuf};

use super::source::Source;

/// A public function or type.
#[derive(Debug)]
pub(crate) struct Item {
    /// `Type::function`, `function` or `Type`.
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) docs: String,
    /// From the visibility to the body; empty for a type.
    pub(crate) signature: String,
    pub(crate) body: String,
}

impl Item {
    pub(crate) fn is_function(&self) -> bool {
        !self.signature.is_empty()
    }

    pub(crate) fn short(&self) -> &str {
        self.name.rsplit("::").next().unwrap_or(&self.name)
    }

    /// `&self` alone and something that comes back, or `self` and the same back.
    pub(crate) fn is_getter_or_setter(&self) -> bool {
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

    pub(crate) fn finding(&self, text: &str) -> String {
        format!("  {}:{}: {}: {text}", self.file, self.line, self.name)
    }
}

/// All files below a folder of the repository.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
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
pub(crate) fn items(file: &str, source: &Source) -> Vec<Item> {
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
