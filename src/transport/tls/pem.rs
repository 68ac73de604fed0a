//! The blocks of a PEM text, and where one is malformed. Pure.
//!
//! An error names the line and what is wrong with it, never what stands there: it may be a key.

/// One block of a PEM text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// What the block is, such as `CERTIFICATE`.
    pub(super) label: &'a str,
    /// The line of its beginning, from 1.
    pub(super) line: usize,
    /// All of it, from BEGIN to END.
    pub(super) text: &'a [u8],
}

/// Finds all blocks; text between them is a comment.
pub(super) fn blocks(bytes: &[u8]) -> Result<Vec<Block<'_>>, String> {
    let mut found = Vec::new();
    let mut open: Option<(&str, usize, usize)> = None;
    let mut start = 0;
    for (index, whole) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let (number, end) = (index + 1, start + whole.len());
        let line = whole.trim_ascii();
        match (marker(line), open) {
            (Some(Marker::Begin(label)), None) => open = Some((label, number, start)),
            (Some(Marker::Begin(_)), Some((_, since, _))) => {
                return Err(format!(
                    "line {number} begins a block inside the one of line {since}, which has no END"
                ));
            }
            (Some(Marker::End(_)), None) => {
                return Err(format!("line {number} ends a block that has no BEGIN"));
            }
            (Some(Marker::End(label)), Some((opened, since, from))) => {
                if label != opened {
                    return Err(format!(
                        "line {number} does not end the block that begins in line {since}"
                    ));
                }
                let text = bytes.get(from..end).unwrap_or_default();
                found.push(Block { label, line: since, text });
                open = None;
            }
            (Some(Marker::Broken), _) => {
                return Err(format!("line {number} is neither a whole BEGIN nor a whole END"));
            }
            (None, Some(_)) if !is_content(line) => {
                return Err(format!("line {number} is not base64"));
            }
            (None, _) => {}
        }
        start = end;
    }
    match open {
        Some((_, since, _)) => Err(format!("the block that begins in line {since} has no END")),
        None => Ok(found),
    }
}

enum Marker<'a> {
    Begin(&'a str),
    End(&'a str),
    Broken,
}

fn marker(line: &[u8]) -> Option<Marker<'_>> {
    let begin = line.strip_prefix(b"-----BEGIN ");
    let end = line.strip_prefix(b"-----END ");
    let rest = match (begin, end) {
        (None, None) => return line.starts_with(b"-----").then_some(Marker::Broken),
        (Some(rest), _) | (_, Some(rest)) => rest,
    };
    let label = rest.strip_suffix(b"-----").and_then(|label| std::str::from_utf8(label).ok());
    Some(match label {
        None => Marker::Broken,
        Some(label) if begin.is_some() => Marker::Begin(label),
        Some(label) => Marker::End(label),
    })
}

/// Base64, or one of the header lines of an encrypted block.
fn is_content(line: &[u8]) -> bool {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    line.iter().all(base64) || line.contains(&b':') || line.contains(&b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_between_comments_with_any_line_end() {
        let text = "a comment\r\n-----BEGIN A-----\r\nAb+/==\r\n-----END A-----\r\n\n\
                    -----BEGIN B C-----\nX: y\n\nAA\n-----END B C-----";
        let found = blocks(text.as_bytes()).unwrap();
        let seen: Vec<_> = found.iter().map(|block| (block.label, block.line)).collect();
        assert_eq!(seen, [("A", 2), ("B C", 6)]);
        assert!(found[0].text.starts_with(b"-----BEGIN A") && found[0].text.ends_with(b"\r\n"));
        assert!(found[1].text.ends_with(b"-----END B C-----"));
        assert!(blocks(b"").unwrap().is_empty());
    }

    #[test]
    fn a_malformed_text_names_the_line_and_nothing_that_stands_there() {
        for (text, line) in [
            ("x\n-----BEGIN A-----\nsecret!\n-----END A-----\n", "line 3"),
            ("-----BEGIN A-----\nsecret\n", "line 1"),
            ("\n-----END A-----\n", "line 2"),
            ("-----BEGIN A-----\nsecret\n-----END secret-----\n", "line 3"),
            ("-----BEGIN A-----\nsecret\n-----BEGIN A-----\n", "line 3"),
            ("-----BEGIN secret\nAAAA\n", "line 1"),
            ("-----secret-----\n", "line 1"),
        ] {
            let error = blocks(text.as_bytes()).err().unwrap();
            assert!(error.contains(line) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
