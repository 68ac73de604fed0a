//! What a subject, a queue group and an inbox prefix may hold, and how patterns match.
//!
//! Everything that a program names passes one of these checks before it is encoded: this is the
//! wall that keeps a name from becoming a second protocol line, and no option takes it down. The
//! checks know nothing of permissions or lengths. Text from outside enters an error escaped and
//! cut, through [`quote`].

use crate::error::{Error, ErrorKind, Result};

/// How many characters of a foreign text an error shows.
const QUOTE_LIMIT: usize = 64;

/// A foreign text as an error may show it: in quotes, escaped, at most 64 characters of it.
pub(crate) fn quote(bytes: &[u8]) -> String {
    // No character has more than four bytes, so a longer head would be cut anyway.
    let head = bytes.get(..QUOTE_LIMIT * 4).unwrap_or(bytes);
    let text = String::from_utf8_lossy(head);
    let shown: String = text.chars().take(QUOTE_LIMIT).collect();
    let more =
        if text.chars().count() > QUOTE_LIMIT || head.len() < bytes.len() { "…" } else { "" };
    format!("'{}{more}'", shown.escape_debug())
}

/// Checks a subject to publish to, as every call that publishes does: not empty, no blank and no
/// control character.
///
/// Wildcards and empty tokens are the server's to judge: they cannot break the line.
///
/// ```
/// use nats_blocking::check_publish_subject;
///
/// assert!(check_publish_subject("greet.joe").is_ok());
/// let error = check_publish_subject("greet joe").unwrap_err();
/// assert_eq!(error.to_string(), "invalid subject 'greet joe': it holds a blank at byte 5");
/// ```
///
/// # Errors
///
/// [`InvalidSubject`](ErrorKind::InvalidSubject).
pub fn check_publish(subject: &str) -> Result<()> {
    check_text(subject, ErrorKind::InvalidSubject, "subject")
}

/// Checks a reply subject; the rules are those of [`check_publish`].
pub(crate) fn check_reply(subject: &str) -> Result<()> {
    check_text(subject, ErrorKind::InvalidSubject, "reply subject")
}

/// Checks a subject to subscribe to, as every call that subscribes does: like one to publish to,
/// and also no empty token, and `>` only as the last token.
///
/// ```
/// use nats_blocking::check_subscribe_subject;
///
/// assert!(check_subscribe_subject("orders.*.>").is_ok());
/// assert!(check_subscribe_subject("orders.>.new").is_err());
/// assert!(check_subscribe_subject("orders..new").is_err());
/// ```
///
/// # Errors
///
/// [`InvalidSubject`](ErrorKind::InvalidSubject).
pub fn check_subscribe(subject: &str) -> Result<()> {
    check_publish(subject)?;
    check_tokens(subject, ErrorKind::InvalidSubject, "subject")?;
    match subject.match_indices('>').find(|(at, _)| is_inner_full_wildcard(subject, *at)) {
        Some((at, _)) => Err(fault(
            ErrorKind::InvalidSubject,
            "subject",
            subject,
            &format!("the wildcard '>' at byte {at} is not the last token"),
        )),
        None => Ok(()),
    }
}

/// Checks the name of a queue group, as every call that takes one does: not empty, no blank and no
/// control character.
///
/// ```
/// use nats_blocking::check_queue_group;
///
/// assert!(check_queue_group("workers").is_ok());
/// assert!(check_queue_group("my workers").is_err());
/// ```
///
/// # Errors
///
/// [`InvalidQueueGroup`](ErrorKind::InvalidQueueGroup).
pub fn check_queue(queue: &str) -> Result<()> {
    check_text(queue, ErrorKind::InvalidQueueGroup, "queue group")?;
    // The server takes any text here; Unicode blanks are refused because nobody means them.
    match queue.char_indices().find(|(_, c)| c.is_whitespace() || c.is_control()) {
        Some((at, c)) => Err(fault(
            ErrorKind::InvalidQueueGroup,
            "queue group",
            queue,
            &format!("it holds '{}' at byte {at}", c.escape_unicode()),
        )),
        None => Ok(()),
    }
}

/// Checks the prefix of inbox subjects: a subject without wildcards and without empty tokens.
pub(crate) fn check_inbox_prefix(prefix: &str) -> Result<()> {
    check_text(prefix, ErrorKind::InvalidOption, "inbox prefix")?;
    check_literal(prefix, ErrorKind::InvalidOption, "inbox prefix")
}

/// Checks a subject to publish to, beyond [`check_publish`], where the program asked for it: no
/// wildcard and no empty token. Such a message reaches nobody who means it.
pub(crate) fn check_strict_publish(subject: &str) -> Result<()> {
    check_literal(subject, ErrorKind::InvalidSubject, "subject")
}

/// Checks a reply subject; the rules are those of [`check_strict_publish`].
pub(crate) fn check_strict_reply(subject: &str) -> Result<()> {
    check_literal(subject, ErrorKind::InvalidSubject, "reply subject")
}

/// Whether a subject matches a pattern, as the server decides it.
///
/// In the pattern `*` stands for one token and a final `>` for one or more. The subject is taken
/// literally. A subject with an empty token matches nothing.
///
/// ```
/// use nats_blocking::subject_matches;
///
/// assert!(subject_matches("orders.*.new", "orders.eu.new"));
/// assert!(subject_matches("orders.>", "orders.eu.new"));
/// assert!(!subject_matches("orders.*", "orders.eu.new"));
/// assert!(!subject_matches("orders.>", "orders"));
/// ```
pub fn subject_matches(pattern: &str, subject: &str) -> bool {
    if subject.split('.').any(str::is_empty) {
        return false;
    }
    let mut patterns = pattern.split('.').peekable();
    let mut tokens = subject.split('.');
    while let Some(wanted) = patterns.next() {
        let Some(token) = tokens.next() else { return false };
        if wanted == ">" && patterns.peek().is_none() {
            return true;
        }
        if wanted != "*" && wanted != token {
            return false;
        }
    }
    tokens.next().is_none()
}

/// One pass without an early end, so that the compiler can look at many bytes at a time.
fn check_text(text: &str, kind: ErrorKind, what: &str) -> Result<()> {
    let bad = text.as_bytes().iter().fold(false, |bad, byte| bad | breaks_line(*byte));
    if bad || text.is_empty() { Err(text_fault(text, kind, what)) } else { Ok(()) }
}

fn breaks_line(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

#[cold]
fn text_fault(text: &str, kind: ErrorKind, what: &str) -> Error {
    let found = text.bytes().enumerate().find(|(_, byte)| breaks_line(*byte));
    let why = match found {
        None => "it is empty".to_owned(),
        Some((at, b' ')) => format!("it holds a blank at byte {at}"),
        Some((at, byte)) => {
            format!("it holds the control character 0x{byte:02x} at byte {at}")
        }
    };
    fault(kind, what, text, &why)
}

fn check_tokens(text: &str, kind: ErrorKind, what: &str) -> Result<()> {
    let mut at = 0;
    for token in text.split('.') {
        if token.is_empty() {
            return Err(fault(kind, what, text, &format!("it has an empty token at byte {at}")));
        }
        at += token.len() + 1;
    }
    Ok(())
}

/// No empty token, and no token that is a wildcard.
fn check_literal(text: &str, kind: ErrorKind, what: &str) -> Result<()> {
    check_tokens(text, kind, what)?;
    match text.split('.').find(|token| matches!(*token, "*" | ">")) {
        Some(token) => Err(fault(kind, what, text, &format!("it holds the wildcard '{token}'"))),
        None => Ok(()),
    }
}

/// Whether the `>` at this place is a token of its own and another token follows.
fn is_inner_full_wildcard(subject: &str, at: usize) -> bool {
    let bytes = subject.as_bytes();
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    before.is_none_or(|byte| *byte == b'.') && bytes.get(at + 1) == Some(&b'.')
}

fn fault(kind: ErrorKind, what: &str, text: &str, why: &str) -> Error {
    Error::new(kind, format!("invalid {what} {}: {why}", quote(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_subject_may_hold_anything_that_does_not_break_the_line() {
        for good in ["a", "a.b", "a..b", ".", "*", "a.>", ">.a", "grüße.日本", "$SYS.x", "a'b\"c"]
        {
            check_publish(good).unwrap();
            check_reply(good).unwrap();
        }
        for bad in
            ["", " ", "a b", "a\tb", "a\rb", "a\nb", "a\0b", "a\x7fb", "a\x1bb", "a\r\nPUB x"]
        {
            assert_eq!(
                check_publish(bad).unwrap_err().kind(),
                ErrorKind::InvalidSubject,
                "{bad:?}"
            );
            assert_eq!(check_reply(bad).unwrap_err().kind(), ErrorKind::InvalidSubject, "{bad:?}");
        }
    }

    #[test]
    fn a_strict_subject_to_publish_to_has_neither_wildcards_nor_empty_tokens() {
        for good in ["a", "a.b", "a*.b>", "grüße.日本", "$SYS.x"] {
            check_strict_publish(good).unwrap();
            check_strict_reply(good).unwrap();
        }
        for bad in ["a..b", ".", ".a", "a.", "*", "a.*", "a.>", ">.a"] {
            let kind = check_strict_publish(bad).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::InvalidSubject, "{bad:?}");
            let kind = check_strict_reply(bad).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::InvalidSubject, "{bad:?}");
        }
    }

    #[test]
    fn a_subscription_subject_has_whole_tokens_and_the_full_wildcard_last() {
        for good in ["a", "a.*", "*.a", "a.>", ">", "a>.b", "a.b>", "a*.b", "ü.>", ">a.b"] {
            check_subscribe(good).unwrap();
        }
        for bad in ["", "a..b", ".a", "a.", ".", ">.a", "a.>.b", "a b", "a\r\n", ">.>"] {
            let kind = check_subscribe(bad).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::InvalidSubject, "{bad:?}");
        }
    }

    #[test]
    fn a_queue_group_holds_no_white_space() {
        check_queue("workers").unwrap();
        check_queue("ar.beiter-ü").unwrap();
        for bad in ["", "a b", "a\tb", "a\n", "a\u{a0}b", "a\u{2028}b", "a\u{85}b"] {
            let kind = check_queue(bad).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::InvalidQueueGroup, "{bad:?}");
        }
    }

    #[test]
    fn an_inbox_prefix_is_a_literal_subject_without_a_trailing_dot() {
        check_inbox_prefix("_INBOX").unwrap();
        check_inbox_prefix("my.in_box").unwrap();
        for bad in ["", "a.", ".a", "a..b", "*", "a.*", "a.>", "a b", "a\r\nb"] {
            let kind = check_inbox_prefix(bad).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::InvalidOption, "{bad:?}");
        }
    }

    #[test]
    fn an_error_names_the_part_the_place_and_what_is_wrong() {
        let text = |result: Result<()>| result.unwrap_err().to_string();
        assert_eq!(
            text(check_publish("a\r\nb")),
            "invalid subject 'a\\r\\nb': it holds the control character 0x0d at byte 1"
        );
        assert_eq!(
            text(check_reply("a b")),
            "invalid reply subject 'a b': it holds a blank at byte 1"
        );
        assert_eq!(
            text(check_subscribe("a..b")),
            "invalid subject 'a..b': it has an empty token at byte 2"
        );
        assert_eq!(
            text(check_subscribe("a.>.b")),
            "invalid subject 'a.>.b': the wildcard '>' at byte 2 is not the last token"
        );
        assert_eq!(text(check_queue("")), "invalid queue group '': it is empty");
    }

    #[test]
    fn a_quoted_text_is_escaped_and_cut() {
        assert_eq!(quote(b"a\0\xff"), "'a\\0\u{fffd}'");
        assert_eq!(quote("ü".repeat(64).as_bytes()), format!("'{}'", "ü".repeat(64)));
        assert_eq!(quote("ü".repeat(65).as_bytes()), format!("'{}…'", "ü".repeat(64)));
        assert_eq!(quote(&[b'x'; 100_000]), format!("'{}…'", "x".repeat(64)));
    }

    #[test]
    fn patterns_match_as_the_server_matches_them() {
        for (pattern, subject, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a.b", "a", false),
            ("a", "a.b", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a.*", "a", false),
            ("*.*", "a.b", true),
            (">", "a", true),
            (">", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "a.b.c", true),
            ("a.*.>", "a.b", false),
            ("a.*.>", "a.b.c", true),
            ("a*", "ab", false),
            ("a*", "a*", true),
            ("a.>.b", "a.x.b", false),
            (">", "", false),
            ("*", "", false),
            ("a..b", "a..b", false),
            (">", "a..b", false),
            ("a", "A", false),
        ] {
            assert_eq!(subject_matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }
}
