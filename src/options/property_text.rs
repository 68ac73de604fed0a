//! The text of a properties file, read as Java reads it, in UTF-8: comments, three separators,
//! escapes, lines that go on. What the keys mean is not known here, and no value enters an error.

use crate::error::{Error, ErrorKind, Result};

/// A key and its value.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Property {
    pub(crate) key: String,
    pub(crate) value: String,
    /// The line on which it begins, from 1; `None` if it comes from no text.
    pub(crate) line: Option<usize>,
}

/// All properties of a text, in order; an error calls it `source`.
pub(crate) fn parse(text: &str, source: &str) -> Result<Vec<Property>> {
    let mut properties = Vec::new();
    for (line, text) in logical_lines(text) {
        let (key, value) = split(&text);
        let plain = |part: &str| {
            unescape(part).ok_or_else(|| {
                let text = format!("{source}, line {line}: \\u needs four hexadecimal digits");
                Error::new(ErrorKind::InvalidOption, text)
            })
        };
        properties.push(Property { key: plain(key)?, value: plain(value)?, line: Some(line) });
    }
    Ok(properties)
}

/// A blank of the format; other white space of Unicode is text.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// The lines that hold something, put together where a backslash at the end says so, each with the
/// number of its first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut lines = text.split(['\n', '\r']).zip(1..);
    let mut found = Vec::new();
    while let Some((line, number)) = lines.next() {
        let line = line.trim_start_matches(is_blank);
        // A backslash alone goes on with nothing: the next line is a beginning again.
        if line.is_empty() || line == "\\" || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = line.to_owned();
        while goes_on(&whole) {
            whole.pop();
            let Some((next, _)) = lines.next() else { break };
            whole.push_str(next.trim_start_matches(is_blank));
        }
        found.push((number, whole));
    }
    found
}

/// Whether the line ends with a backslash that is not itself escaped.
fn goes_on(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Key and value, still escaped. The key ends at the first blank, `=` or `:` that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && (is_blank(*c) || matches!(c, '=' | ':'));
        escaped = !escaped && *c == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.map_or(line.len(), |(at, _)| at));
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start_matches(is_blank))
}

/// Undoes escapes. `None` if a `\u` is not one; half a surrogate pair becomes U+FFFD.
fn unescape(text: &str) -> Option<String> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let mut buffer = [0; 2];
    while let Some(c) = chars.next() {
        if c != '\\' {
            units.extend_from_slice(c.encode_utf16(&mut buffer));
            continue;
        }
        match chars.next() {
            Some('u') => {
                let digits = chars.as_str().get(..4)?;
                if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return None;
                }
                units.push(u16::from_str_radix(digits, 16).ok()?);
                chars = chars.as_str().get(4..)?.chars();
            }
            Some(other) => {
                let c = match other {
                    't' => '\t',
                    'n' => '\n',
                    'r' => '\r',
                    'f' => '\x0c',
                    other => other,
                };
                units.extend_from_slice(c.encode_utf16(&mut buffer));
            }
            None => {}
        }
    }
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        let found = parse(text, "properties").unwrap();
        found.into_iter().map(|p| (p.line.unwrap(), p.key, p.value)).collect()
    }

    #[test]
    fn keys_and_values_are_split_as_java_splits_them() {
        for (text, key, value) in [
            ("a=b", "a", "b"),
            ("a:b", "a", "b"),
            ("a b", "a", "b"),
            ("a\tb", "a", "b"),
            ("  a  =  b  ", "a", "b  "),
            ("a = = b", "a", "= b"),
            ("a==b", "a", "=b"),
            ("a: =b", "a", "=b"),
            ("a", "a", ""),
            ("a=", "a", ""),
            ("=b", "", "b"),
            (r"a\=b=c", "a=b", "c"),
            (r"a\:b c", "a:b", "c"),
            (r"a\ b=c", "a b", "c"),
            (r"a\\=b", "a\\", "b"),
            (r"a=b\tc\nd\re\ff", "a", "b\tc\nd\re\u{c}f"),
            (r"a=\q\#\!", "a", "q#!"),
            (r"a=gr\u00fc\u00DFe", "a", "grüße"),
            (r"a=\ud83d\ude00", "a", "😀"),
            (r"a=\ud83d", "a", "\u{fffd}"),
            ("a=grüße", "a", "grüße"),
            ("\u{feff}a=b", "a", "b"),
            ("a=b # no comment", "a", "b # no comment"),
        ] {
            assert_eq!(pairs(text), [(1, key.to_owned(), value.to_owned())], "{text:?}");
        }
    }

    #[test]
    fn comments_and_empty_lines_are_skipped_and_lines_go_on() {
        let text =
            "# a=1\n! b=2\r\n\n  \t\n   # c=3\nd=4\\\n   5\\\n\t6\re=7\\\\\nf=\\\r\n 8\n# 9\\\ng=0";
        let expected = [(6, "d", "456"), (9, "e", "7\\"), (10, "f", "8"), (13, "g", "0")];
        let expected = expected.map(|(line, key, value)| (line, key.to_owned(), value.to_owned()));
        assert_eq!(pairs(text), expected);
        assert_eq!(pairs("a=b\\"), [(1, "a".to_owned(), "b".to_owned())], "the last line");
        assert_eq!(pairs(" \\\n# a=b\n\\\n c=d"), [(4, "c".to_owned(), "d".to_owned())]);
        assert!(pairs("").is_empty() && pairs("\\").is_empty());
    }

    #[test]
    fn a_broken_escape_names_its_line_and_shows_no_value() {
        for bad in [r"a=hunter2\u12", r"a=hunter2\u12x4", r"a=hunter2\u+123", r"a=hunter2\uüüüü"]
        {
            let error = parse(&format!("# one\n{bad}"), "text").err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidOption);
            assert!(error.to_string().contains("text, line 2"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
