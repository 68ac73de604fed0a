//! Rust text seen as code, comments and literals: just enough for the structure test.
//!
//! Not a parser of Rust: it knows strings, raw strings, characters, lifetimes, nested comments,
//! attributes with the item that follows, functions with their bodies, and paths that begin with a
//! given word. Positions are bytes of the text; the masked forms keep every position and line end.

use std::ops::Range;

/// A text with its masked forms.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) text: String,
    /// The text with comments and the insides of literals blanked.
    pub(crate) code: String,
    /// The text with everything but comments blanked.
    pub(crate) comments: String,
    line_starts: Vec<usize>,
}

/// A path found in code: its segments, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundPath {
    pub(crate) position: usize,
    pub(crate) segments: Vec<String>,
    /// The name under which a `use` with `as` makes it known.
    pub(crate) alias: Option<String>,
}

/// A function: its name, where it begins and where its body is.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) position: usize,
    pub(crate) body: Range<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

impl Source {
    pub(crate) fn new(text: &str) -> Self {
        let kinds = classify(text.as_bytes());
        let only = |wanted: Kind| {
            let keep = |(byte, kind): (u8, &Kind)| {
                if byte == b'\n' || *kind == wanted { byte } else { b' ' }
            };
            let bytes: Vec<u8> = text.bytes().zip(&kinds).map(keep).collect();
            String::from_utf8(bytes).expect("whole characters are blanked")
        };
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(starts.map(|(at, _)| at + 1)).collect();
        Self {
            text: text.to_owned(),
            code: only(Kind::Code),
            comments: only(Kind::Comment),
            line_starts,
        }
    }

    /// The number of the line (from 1) that holds a position.
    pub(crate) fn line_of(&self, position: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= position)
    }

    /// Where `word` stands in the code as a word, or, if it ends in a sign, as the end of one.
    pub(crate) fn words(&self, word: &str) -> Vec<usize> {
        let bytes = self.code.as_bytes();
        let is_word = |at: Option<&u8>| at.is_some_and(|byte| is_name(*byte));
        let starts_named = word.bytes().next().is_some_and(is_name);
        let ends_named = word.bytes().last().is_some_and(is_name);
        self.code
            .match_indices(word)
            .map(|(at, _)| at)
            .filter(|at| !starts_named || !is_word(at.checked_sub(1).and_then(|b| bytes.get(b))))
            .filter(|at| !ends_named || !is_word(bytes.get(at + word.len())))
            .collect()
    }

    /// The extents of all items under an attribute whose text satisfies `wanted`; the whole text
    /// if such an attribute is on the file itself.
    pub(crate) fn items_under(&self, wanted: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for (at, sign) in self.code.match_indices('#') {
            let rest = &self.code[at + sign.len()..];
            let inner = rest.starts_with("![");
            if !inner && !rest.starts_with('[') {
                continue;
            }
            let open = at + 1 + usize::from(inner);
            let end = matching(self.code.as_bytes(), open);
            // The original text: a cfg may hold a literal, as in target_os = "linux".
            if !wanted(&self.text[open..end]) {
                continue;
            }
            found.push(if inner { 0..self.text.len() } else { at..self.item_end(end) });
        }
        found
    }

    /// The parts of the text that are compiled for tests only.
    pub(crate) fn test_parts(&self) -> Vec<Range<usize>> {
        self.items_under(|attribute| {
            let inside: String = attribute.split_whitespace().collect();
            inside == "[cfg(test)]" || inside.starts_with("[cfg(all(test,")
        })
    }

    /// All functions with a body, inner ones included.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let bytes = self.code.as_bytes();
        let mut functions = Vec::new();
        for position in self.words("fn") {
            let name: String = self.code[position + 2..]
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            // `fn(u8) -> u8` is a type.
            if name.is_empty() {
                continue;
            }
            let Some(open) = next_outside(bytes, position, b"{;}") else { continue };
            if bytes[open] == b'{' {
                functions.push(Function { name, position, body: open..matching(bytes, open) });
            }
        }
        functions
    }

    /// All paths in the code that begin with the word `root` and `::`, trees of `use` taken apart.
    /// `$crate` counts as `crate`; a visibility such as `pub(in crate::a)` is no path.
    pub(crate) fn paths(&self, root: &str) -> Vec<FoundPath> {
        let mut found = Vec::new();
        for position in self.words(root) {
            let before = self.code[..position].trim_end();
            let is_inside = before.ends_with("::") && !self.begins_absolute(before);
            if is_inside || ends_with_word(before, "in") || before.ends_with('.') {
                continue;
            }
            let rest = &self.code[position + root.len()..];
            if rest.trim_start().starts_with("::") {
                let start = vec![root.to_owned()];
                take_path(rest, position, start, &mut found);
            }
        }
        found
    }

    /// The paths of all `use` declarations with the given text between them and the line start.
    pub(crate) fn uses(&self) -> Vec<FoundPath> {
        let mut found = Vec::new();
        for position in self.words("use") {
            let rest = self.code[position + 3..].trim_start_matches(|c: char| c.is_whitespace());
            take_path(rest.trim_start_matches("::"), position, Vec::new(), &mut found);
        }
        found
    }

    /// How many inline modules (`mod name { … }`) enclose a position.
    pub(crate) fn module_depth(&self, position: usize) -> usize {
        let bytes = self.code.as_bytes();
        self.words("mod")
            .into_iter()
            .filter(|at| *at < position)
            .filter(|at| {
                let open = next_outside(bytes, *at, b"{;");
                open.is_some_and(|open| bytes[open] == b'{' && matching(bytes, open) > position)
            })
            .count()
    }

    /// `::std` begins a path even though `::` stands before the word.
    fn begins_absolute(&self, before: &str) -> bool {
        let front = before.trim_end_matches("::");
        !front.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '>' | ')' | ']'))
    }

    /// Where the item (or field, or statement) ends that begins after an attribute.
    fn item_end(&self, from: usize) -> usize {
        let bytes = self.code.as_bytes();
        let mut at = from;
        // Further attributes belong to the same item.
        loop {
            while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
                at += 1;
            }
            if bytes.get(at) != Some(&b'#') {
                break;
            }
            at = matching(bytes, at + 1);
        }
        let start = at;
        while let Some(end) = next_outside(bytes, at, b"{;,}") {
            match bytes[end] {
                b'{' => return matching(bytes, end),
                b',' if begins_long_item(&self.code[start..end]) => at = end + 1,
                b'}' => return end,
                _ => return end + 1,
            }
        }
        bytes.len()
    }
}

/// Items in whose head a comma may stand outside brackets (`fn f<A, B>`, `where A: B, C: D`).
fn begins_long_item(head: &str) -> bool {
    let mut words = head.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.any(|word| {
        matches!(word, "fn" | "impl" | "struct" | "enum" | "trait" | "type" | "union" | "let")
    })
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn ends_with_word(text: &str, word: &str) -> bool {
    text.strip_suffix(word).is_some_and(|rest| !rest.bytes().last().is_some_and(is_name))
}

/// The position after the bracket that closes the one at `open`, or the end.
fn matching(bytes: &[u8], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}

/// The first of `wanted` from a position on that is in no round or square bracket opened since.
fn next_outside(bytes: &[u8], from: usize, wanted: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        if depth == 0 && wanted.contains(byte) {
            return Some(at);
        }
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// Reads `a::b::{c, d as e}` (or `::a…`) from the start of `text`; each branch becomes a path.
/// Returns what follows.
fn take_path<'a>(
    text: &'a str,
    position: usize,
    mut segments: Vec<String>,
    found: &mut Vec<FoundPath>,
) -> &'a str {
    let mut rest = text;
    let mut alias = None;
    loop {
        rest = rest.trim_start();
        rest = rest.strip_prefix("::").unwrap_or(rest).trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            let mut inside = group.trim_start();
            while !inside.is_empty() && !inside.starts_with('}') {
                let before = inside.len();
                inside = take_path(inside, position, segments.clone(), found).trim_start();
                inside = inside.strip_prefix(',').unwrap_or(inside).trim_start();
                if inside.len() == before {
                    // Nothing that a `use` holds: not read further.
                    return inside;
                }
            }
            return inside.strip_prefix('}').unwrap_or(inside);
        }
        let end = if rest.starts_with('*') { 1 } else { name_length(rest) };
        if end == 0 {
            break;
        }
        segments.push(rest[..end].to_owned());
        rest = &rest[end..];
        let after = rest.trim_start();
        if let Some(renamed) = after.strip_prefix("as ") {
            let renamed = renamed.trim_start();
            let length = name_length(renamed);
            alias = Some(renamed[..length].to_owned());
            rest = &renamed[length..];
            break;
        }
        if !after.starts_with("::") {
            break;
        }
    }
    if !segments.is_empty() {
        found.push(FoundPath { position, segments, alias });
    }
    rest
}

fn name_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
}

fn classify(bytes: &[u8]) -> Vec<Kind> {
    let mut kinds = vec![Kind::Code; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let (kind, length) = token(bytes, at);
        let end = (at + length.max(1)).min(bytes.len());
        kinds[at..end].fill(kind);
        at = end;
    }
    kinds
}

/// What begins at a position, and how long it is. Code is taken word by word.
fn token(bytes: &[u8], at: usize) -> (Kind, usize) {
    let rest = &bytes[at..];
    match rest {
        [b'/', b'/', ..] => {
            (Kind::Comment, rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()))
        }
        [b'/', b'*', ..] => (Kind::Comment, block_comment(rest)),
        [b'"', ..] => (Kind::Literal, quoted(rest, b'"')),
        [b'\'', ..] => character(rest),
        [byte, ..] if is_name(*byte) => {
            let word = rest.iter().take_while(|byte| is_name(**byte)).count();
            literal_with_prefix(rest, word).unwrap_or((Kind::Code, word))
        }
        _ => (Kind::Code, 1),
    }
}

/// `b"…"`, `c"…"`, `r"…"`, `br#"…"#`, `b'x'`: the word before the quote belongs to the literal.
fn literal_with_prefix(rest: &[u8], word: usize) -> Option<(Kind, usize)> {
    let (prefix, after) = rest.split_at(word);
    match prefix {
        b"b" | b"c" if after.starts_with(b"\"") => {
            Some((Kind::Literal, word + quoted(after, b'"')))
        }
        b"b" if after.starts_with(b"'") => Some((Kind::Literal, word + quoted(after, b'\''))),
        b"r" | b"br" | b"cr" => {
            let hashes = after.iter().take_while(|byte| **byte == b'#').count();
            if after.get(hashes) != Some(&b'"') {
                return None;
            }
            let mut end = vec![b'"'];
            end.resize(hashes + 1, b'#');
            let inside = &after[hashes + 1..];
            let length = inside.windows(end.len()).position(|window| window == end);
            let length = length.map_or(inside.len(), |length| length + end.len());
            Some((Kind::Literal, word + hashes + 1 + length))
        }
        _ => None,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a literal that begins and ends with `quote`.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal, or the sign of a lifetime or label.
fn character(rest: &[u8]) -> (Kind, usize) {
    let width = match rest.get(1) {
        Some(b'\\') => return (Kind::Literal, quoted(rest, b'\'')),
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        Some(0xc0..) => 2,
        _ => 1,
    };
    if rest.get(1 + width) == Some(&b'\'') { (Kind::Literal, width + 2) } else { (Kind::Code, 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(paths: &[FoundPath]) -> Vec<String> {
        paths.iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_literals_are_told_from_code() {
        let text = r####"let a = "{ // no"; /* { /* { */ " */ let b = '{'; let c = '\''; // }
fn f<'a>(x: &'a str) { r#"}"{"#; b'}'; br"\"; 'label: loop { break 'label } "é{" } 'é'"####;
        let source = Source::new(text);
        assert_eq!(source.code.len(), text.len());
        assert_eq!(source.code.matches('{').count(), 2, "{}", source.code);
        assert_eq!(source.code.matches('}').count(), 2, "{}", source.code);
        assert!(source.code.contains("let b ="));
        assert!(source.code.contains("'a>(x: &'a str)"));
        assert!(source.code.contains("break 'label"));
        assert!(source.comments.contains("/* { /* { */ \" */"));
        assert!(source.comments.contains("// }"));
        assert!(!source.comments.contains("// no"));
        assert_eq!(source.line_of(text.find("fn f").unwrap()), 2);
    }

    #[test]
    fn words_are_whole() {
        let source = Source::new("fn fnord() { a.unwrap(); a.unwrap_or(1); } // fn");
        assert_eq!(source.words("fn"), [0]);
        assert_eq!(source.words(".unwrap(").len(), 1);
    }

    #[test]
    fn paths_are_taken_apart() {
        let source = Source::new(
            "use crate::a::{b::{C, D as E}, f::*, self};\n\
             pub(crate) fn g() { crate::h::i(); $crate::j!(); }\n\
             pub(in crate::k) struct L;\n\
             // use crate::comment::C;\n\
             use ::std::io; use std::{net::TcpStream, time::{Duration, Instant}};\n\
             fn m(x: &crate::n::O<crate::p::Q>) { not::crate::r(); }",
        );
        let found = source.paths("crate");
        let expected = [
            "crate::a::b::C",
            "crate::a::b::D",
            "crate::a::f::*",
            "crate::a::self",
            "crate::h::i",
            "crate::j",
            "crate::n::O",
            "crate::p::Q",
        ];
        assert_eq!(joined(&found), expected);
        assert_eq!(found[1].alias.as_deref(), Some("E"));
        let of_std =
            ["std::io", "std::net::TcpStream", "std::time::Duration", "std::time::Instant"];
        assert_eq!(joined(&source.paths("std")), of_std);
        assert_eq!(joined(&source.uses())[0], "crate::a::b::C");
    }

    #[test]
    fn the_item_under_an_attribute_is_found() {
        let text = "#[cfg(unix)]\nuse std::os::unix::A;\nfn a() {}\n\
                    #[cfg(test)]\n#[allow(x)]\nmod tests { fn b() {} }\nfn c() {}\n\
                    struct S { #[cfg(test)] d: u8, e: u8 }\n\
                    #[cfg(test)] fn g<A, B>(a: A, b: B) where A: X, B: Y { h() }\nfn i() {}";
        let source = Source::new(text);
        let tests: Vec<&str> = source.test_parts().into_iter().map(|part| &text[part]).collect();
        assert_eq!(tests.len(), 3);
        assert!(tests[0].ends_with("mod tests { fn b() {} }"));
        assert_eq!(tests[1], "#[cfg(test)] d: u8,");
        assert!(tests[2].ends_with("{ h() }"));
        let unix = source.items_under(|attribute| attribute.contains("unix"));
        assert_eq!(&text[unix[0].clone()], "#[cfg(unix)]\nuse std::os::unix::A;");
        assert_eq!(Source::new("#![cfg(unix)]\nfn a() {}").items_under(|_| true)[0].start, 0);
    }

    #[test]
    fn functions_and_modules_have_their_extent() {
        let text = "trait T { fn a(&self); fn b(&self) -> [u8; 2] { if x { y } z } }\n\
                    mod inner { mod deep { fn c() {} } }\ntype F = fn(u8);\nmod file;";
        let source = Source::new(text);
        let functions = source.functions();
        let names: Vec<&str> = functions.iter().map(|function| function.name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(&text[functions[0].body.clone()], "{ if x { y } z }");
        assert_eq!(source.module_depth(functions[1].position), 2);
        assert_eq!(source.module_depth(functions[0].position), 0);
    }
}
