//! Headers of a message: the public list, its encoding, and the reading of a received block.
//!
//! [`Headers`] keeps all text in one string, and for each line where in it the name and the value
//! stand: a block of many tiny lines costs a small multiple of its size, in four allocations.
//! Invariants: a name is not empty and holds no colon, no name and no value holds a line feed, so
//! that what is encoded has exactly as many lines as the list. What a program adds is checked
//! strictly; what is received is taken leniently, because another publisher must not be able to
//! end our connection: [`read`] never fails, and tells the first fault that it saw.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::space::Space;
use crate::protocol::subject::quote;

const VERSION: &[u8] = b"NATS/1.0";
const CRLF: &[u8] = b"\r\n";
const SEPARATOR: &[u8] = b": ";

/// Headers of a message: lines of a name and a value, in order.
///
/// Order and letter case are kept, and a name may have several values. Look-ups mind the case
/// unless their name says otherwise. Blanks and tabs around a value do not survive the way:
/// receivers trim them.
///
/// ```
/// use nats_blocking::Headers;
///
/// let mut headers = Headers::new();
/// headers.append("Trace", "1")?;
/// headers.append("Trace", "2")?;
/// assert_eq!(headers.get("Trace"), Some("1"));
/// assert_eq!(headers.get_all("Trace").count(), 2);
/// assert!(headers.append("Bad", "a\r\nInjected: b").is_err());
/// # Ok::<(), nats_blocking::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Headers {
    text: String,
    lines: Vec<Line>,
}

/// Where a line's name stands in the text; its value follows directly.
#[derive(Clone, Copy)]
struct Line {
    start: u32,
    name_len: u32,
    value_len: u32,
}

impl Headers {
    /// An empty list; allocates nothing.
    pub const fn new() -> Self {
        Self { text: String::new(), lines: Vec::new() }
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The number of lines: a name with two values counts twice.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Adds a line at the end, also if the name is there already.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidHeader`] if the name is empty or holds anything but visible ASCII
    /// characters other than the colon, or if the value holds CR, LF or NUL.
    pub fn append(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Result<()> {
        let (name, value) = (name.as_ref(), value.as_ref());
        check_header(name, value)?;
        if self.push(name, value) { Ok(()) } else { Err(too_long(name)) }
    }

    /// A list of these lines, in order. There is no `FromIterator`, because a line can be refused.
    ///
    /// ```
    /// use nats_blocking::Headers;
    ///
    /// let headers = Headers::try_from_iter([("Trace", "1"), ("Trace", "2"), ("Unit", "mm")])?;
    /// assert_eq!(headers.get_all("Trace").collect::<Vec<_>>(), ["1", "2"]);
    /// assert_eq!(headers.names().collect::<Vec<_>>(), ["Trace", "Unit"]);
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), for the first line that is refused.
    pub fn try_from_iter<N: AsRef<str>, V: AsRef<str>>(
        lines: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self> {
        let mut headers = Self::new();
        headers.try_extend(lines)?;
        Ok(headers)
    }

    /// Adds lines at the end; all of them, or none if one is refused. Takes another list too, by
    /// reference.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), for the first line that is refused.
    ///
    /// ```
    /// use nats_blocking::Headers;
    ///
    /// let mut headers = Headers::try_from_iter([("Trace", "1")])?;
    /// headers.try_extend([("trace", "2"), ("Unit", "mm")])?;
    /// assert!(headers.contains_ignore_case("UNIT") && !headers.contains("UNIT"));
    /// assert_eq!(headers.get_last_ignore_case("TRACE"), Some("2"));
    /// assert!(headers.remove_ignore_case("TRACE"));
    /// assert_eq!(headers.len(), 1);
    ///
    /// // A line that is refused leaves everything as it was.
    /// assert!(headers.try_extend([("a", "b"), ("c d", "e")]).is_err());
    /// assert_eq!(headers.len(), 1);
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn try_extend<N: AsRef<str>, V: AsRef<str>>(
        &mut self,
        lines: impl IntoIterator<Item = (N, V)>,
    ) -> Result<()> {
        let (text_len, lines_len) = (self.text.len(), self.lines.len());
        for (name, value) in lines {
            if let Err(error) = self.append(name, value) {
                self.text.truncate(text_len);
                self.lines.truncate(lines_len);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Replaces all values of the name by this one, where the first of them stood.
    ///
    /// A name that is not there yet is added at the end.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn insert(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Result<()> {
        let (name, value) = (name.as_ref(), value.as_ref());
        check_header(name, value)?;
        let mut replaced = Self::new();
        let mut done = false;
        let mut fits = true;
        for (line_name, line_value) in self.iter() {
            if line_name != name {
                fits &= replaced.push(line_name, line_value);
            } else if !done {
                fits &= replaced.push(name, value);
                done = true;
            }
        }
        if !done {
            fits &= replaced.push(name, value);
        }
        if !fits {
            return Err(too_long(name));
        }
        *self = replaced;
        Ok(())
    }

    /// Removes all lines of the name; says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.remove_lines(|line_name| line_name == name)
    }

    /// Removes all lines of the name in any letter case; says whether there was one.
    pub fn remove_ignore_case(&mut self, name: &str) -> bool {
        self.remove_lines(|line_name| line_name.eq_ignore_ascii_case(name))
    }

    fn remove_lines(&mut self, unwanted: impl Fn(&str) -> bool) -> bool {
        if !self.iter().any(|(name, _)| unwanted(name)) {
            return false;
        }
        let mut kept = Self::new();
        for (name, value) in self.iter().filter(|(name, _)| !unwanted(name)) {
            // What fitted before the removal fits after it.
            kept.push(name, value);
        }
        *self = kept;
        true
    }

    /// Removes all lines.
    pub fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
    }

    /// The first value of the name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).next()
    }

    /// The last value of the name.
    pub fn get_last(&self, name: &str) -> Option<&str> {
        self.get_all(name).last()
    }

    /// All values of the name, in order.
    pub fn get_all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(line_name, _)| *line_name == name).map(|(_, value)| value)
    }

    /// The first value of the name in any letter case.
    pub fn get_ignore_case(&self, name: &str) -> Option<&str> {
        self.get_all_ignore_case(name).next()
    }

    /// The last value of the name in any letter case.
    pub fn get_last_ignore_case(&self, name: &str) -> Option<&str> {
        self.get_all_ignore_case(name).last()
    }

    /// All values of the name in any letter case, in order.
    ///
    /// ```
    /// use nats_blocking::Headers;
    ///
    /// let mut headers = Headers::new();
    /// headers.append("Trace", "1")?;
    /// headers.append("trace", "2")?;
    /// headers.append("trace", "3")?;
    /// assert_eq!(headers.get_last("trace"), Some("3"));
    /// assert_eq!(headers.get_ignore_case("TRACE"), Some("1"));
    /// assert_eq!(headers.get_all_ignore_case("TRACE").count(), 3);
    /// headers.insert("trace", "4")?;
    /// assert_eq!(headers.get_all("trace").collect::<Vec<_>>(), ["4"]);
    /// assert!(headers.remove("trace") && !headers.contains("trace"));
    /// headers.clear();
    /// assert!(headers.is_empty());
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn get_all_ignore_case<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.iter()
            .filter(move |(line_name, _)| line_name.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Whether there is a line of the name.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether there is a line of the name in any letter case.
    pub fn contains_ignore_case(&self, name: &str) -> bool {
        self.get_ignore_case(name).is_some()
    }

    /// All lines as name and value, in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { text: &self.text, lines: self.lines.iter() }
    }

    /// The different names, in the order of their first lines.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let mut seen = HashSet::new();
        self.iter().map(|(name, _)| name).filter(move |name| seen.insert(*name))
    }

    /// How many bytes [`encode`](Self::encode) writes.
    pub(crate) fn encoded_len(&self) -> usize {
        let around = SEPARATOR.len() + CRLF.len();
        let lines = self.iter().map(|(name, value)| name.len() + value.len() + around);
        VERSION.len() + CRLF.len() + lines.sum::<usize>() + CRLF.len()
    }

    /// Writes the block: version line, a line for each header, blank line.
    pub(crate) fn encode(&self, out: &mut Space<'_>) {
        out.put(VERSION);
        out.put(CRLF);
        for (name, value) in self.iter() {
            out.put(name.as_bytes());
            out.put(SEPARATOR);
            out.put(value.as_bytes());
            out.put(CRLF);
        }
        out.put(CRLF);
    }

    /// Adds a line; false, and nothing added, if the list would outgrow its 32-bit places.
    fn push(&mut self, name: &str, value: &str) -> bool {
        let narrow = |len: usize| u32::try_from(len).ok();
        let end = self.text.len().saturating_add(name.len()).saturating_add(value.len());
        let (Some(start), Some(name_len), Some(value_len), Some(_)) =
            (narrow(self.text.len()), narrow(name.len()), narrow(value.len()), narrow(end))
        else {
            return false;
        };
        self.text.push_str(name);
        self.text.push_str(value);
        self.lines.push(Line { start, name_len, value_len });
        true
    }
}

/// The lines of [`Headers`] as name and value, in order; made by [`Headers::iter`].
#[derive(Clone)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct Iter<'a> {
    text: &'a str,
    lines: std::slice::Iter<'a, Line>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?;
        let start = line.start as usize;
        let middle = start + line.name_len as usize;
        let end = middle + line.value_len as usize;
        // The places were made by `push` from this text: they are never outside of it.
        let name = self.text.get(start..middle).unwrap_or_default();
        Some((name, self.text.get(middle..end).unwrap_or_default()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.lines.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl std::iter::FusedIterator for Iter<'_> {}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone().map(|(name, _)| name)).finish()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl Hash for Headers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.len());
        self.iter().for_each(|line| line.hash(state));
    }
}

impl fmt::Debug for Headers {
    /// Names only: a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = format_args!("…");
        f.debug_map().entries(self.iter().map(|(name, _)| (name, hidden))).finish()
    }
}

/// Checks a header line, as [`Headers::append`] does: the name is visible ASCII without a colon,
/// and the value holds no CR, LF and NUL.
///
/// ```
/// use nats_blocking::check_header;
///
/// assert!(check_header("Trace-Id", "grüße: any text").is_ok());
/// let error = check_header("Trace Id", "").unwrap_err();
/// assert!(error.to_string().starts_with("invalid header 'Trace Id'"));
/// ```
///
/// # Errors
///
/// [`InvalidHeader`](ErrorKind::InvalidHeader), with the name and without the value.
pub fn check_header(name: &str, value: &str) -> Result<()> {
    let wrong_name = |byte: u8| !(33..=126).contains(&byte) || byte == b':';
    if name.is_empty() {
        return Err(invalid(name, "the name is empty"));
    }
    if let Some(at) = name.bytes().position(wrong_name) {
        let why = format!("the name holds something else than visible ASCII at byte {at}");
        return Err(invalid(name, &why));
    }
    let wrong_value = |byte: u8| matches!(byte, b'\r' | b'\n' | 0);
    match value.bytes().position(wrong_value) {
        Some(at) => Err(invalid(name, &format!("the value holds CR, LF or NUL at byte {at}"))),
        None => Ok(()),
    }
}

#[cold]
fn invalid(name: &str, why: &str) -> Error {
    let name = quote(name.as_bytes());
    Error::new(ErrorKind::InvalidHeader, format!("invalid header {name}: {why}"))
}

#[cold]
fn too_long(name: &str) -> Error {
    invalid(name, "all headers together are larger than 4 GiB")
}

/// The status line of a message that the server, or JetStream, made instead of a publisher.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    code: u16,
    description: String,
}

impl Status {
    /// The code, three digits: 503 for no responders.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The server's words behind the code; may be empty.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Whether the server says that nobody listens to the subject of a request.
    pub fn is_no_responders(&self) -> bool {
        self.code == 503
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.code)?;
        if self.description.is_empty() { Ok(()) } else { write!(f, " {}", self.description) }
    }
}

/// What could be read of a received header block.
pub(crate) struct ReadHeaders {
    pub(crate) headers: Headers,
    pub(crate) status: Option<Status>,
    /// What was wrong first, without any of the block's text.
    pub(crate) fault: Option<String>,
}

/// For how many lines space is taken before they are read.
const MOST_RESERVED: usize = 256;

/// Reads a received header block, in time linear in its length.
///
/// Lines end with LF, with or without a CR before it. A name is everything up to the first colon,
/// as it stands; a value is trimmed of blanks and tabs. Bytes that are no UTF-8 are replaced,
/// which is a fault. A line without a name or a colon is left out, and is a fault.
pub(crate) fn read(block: &[u8]) -> ReadHeaders {
    let mut read = ReadHeaders { headers: Headers::new(), status: None, fault: None };
    let (first, mut rest) = split_line(block);
    let Some(behind) = first.strip_prefix(VERSION) else {
        read.note(|| "the header block does not begin with NATS/1.0".to_owned());
        return read;
    };
    match read_status(behind) {
        Ok(status) => read.status = status,
        Err(why) => read.note(|| why.to_owned()),
    }
    let count = |byte: u8| memchr::memchr_iter(byte, rest).count();
    // A block of many lines may hold none with a name: it reserves no multiple of itself.
    read.headers.lines.reserve_exact(count(b'\n').min(count(b':')).min(MOST_RESERVED));
    let mut ended = false;
    let mut number = 1;
    while !rest.is_empty() && !ended {
        let (line, behind) = split_line(rest);
        rest = behind;
        number += 1;
        if line.is_empty() {
            ended = true;
        } else {
            read.line(line, number);
        }
    }
    // The guess was too large for a block with colons in values, or with line ends behind its end.
    read.headers.lines.shrink_to_fit();
    read.headers.text.shrink_to_fit();
    if !ended {
        read.note(|| "the header block does not end with a blank line".to_owned());
    } else if rest.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
        read.note(|| "the header block goes on behind its blank line".to_owned());
    }
    read
}

impl ReadHeaders {
    fn note(&mut self, fault: impl FnOnce() -> String) {
        if self.fault.is_none() {
            self.fault = Some(fault());
        }
    }

    fn line(&mut self, line: &[u8], number: usize) {
        let colon = memchr::memchr(b':', line).filter(|at| *at > 0);
        let Some((name, value)) = colon.and_then(|at| line.split_at_checked(at)) else {
            self.note(|| format!("line {number} of the header block has no name"));
            return;
        };
        let name = String::from_utf8_lossy(name);
        let value = String::from_utf8_lossy(trim(value.strip_prefix(b":").unwrap_or(value)));
        if matches!(name, Cow::Owned(_)) || matches!(value, Cow::Owned(_)) {
            self.note(|| format!("line {number} of the header block is no UTF-8"));
        }
        if !self.headers.push(&name, &value) {
            self.note(|| "the header block is larger than 4 GiB".to_owned());
        }
    }
}

/// Reads what stands behind the version: nothing, or blanks, three digits and a text.
fn read_status(behind: &[u8]) -> Result<Option<Status>, &'static str> {
    let text = trim(behind);
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() == behind.len() || !matches!(behind.first(), Some(b' ' | b'\t')) {
        return Err("the version of the header block is not NATS/1.0");
    }
    let end = text.iter().position(|byte| is_blank(*byte)).unwrap_or(text.len());
    let (digits, description) = text.split_at_checked(end).unwrap_or((text, &[]));
    let &[hundreds, tens, ones] = digits else {
        return Err("the status of the header block has not three digits");
    };
    let mut code = 0;
    for digit in [hundreds, tens, ones] {
        if !digit.is_ascii_digit() {
            return Err("the status of the header block is no number");
        }
        code = code * 10 + u16::from(digit - b'0');
    }
    let description = String::from_utf8_lossy(trim(description)).into_owned();
    Ok(Some(Status { code, description }))
}

/// The first line without its end, and what follows. Without an LF, all is one line.
fn split_line(block: &[u8]) -> (&[u8], &[u8]) {
    let split = memchr::memchr(b'\n', block).and_then(|at| block.split_at_checked(at));
    let Some((line, rest)) = split else { return (block, &[]) };
    (line.strip_suffix(b"\r").unwrap_or(line), rest.strip_prefix(b"\n").unwrap_or(rest))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_blank(*byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_blank(*byte)).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(headers: &Headers) -> Vec<(&str, &str)> {
        headers.iter().collect()
    }

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.append(name, value).unwrap();
        }
        headers
    }

    #[test]
    fn order_case_and_repeated_names_are_kept() {
        let headers = headers(&[("b", "1"), ("A", "2"), ("b", "3"), ("a", "")]);
        assert_eq!(list(&headers), [("b", "1"), ("A", "2"), ("b", "3"), ("a", "")]);
        assert_eq!(headers.len(), 4);
        assert_eq!(headers.get("b"), Some("1"));
        assert_eq!(headers.get_last("b"), Some("3"));
        assert_eq!(headers.get_all("b").collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(headers.get("B"), None);
        assert_eq!(headers.get_ignore_case("B"), Some("1"));
        assert_eq!(headers.get_all_ignore_case("a").collect::<Vec<_>>(), ["2", ""]);
        assert_eq!(headers.names().collect::<Vec<_>>(), ["b", "A", "a"]);
        assert!(headers.contains("a") && !headers.contains("c"));
    }

    #[test]
    fn insert_replaces_in_the_first_place_and_remove_takes_all() {
        let mut headers = headers(&[("x", "0"), ("a", "1"), ("y", "2"), ("a", "3")]);
        headers.insert("a", "new").unwrap();
        assert_eq!(list(&headers), [("x", "0"), ("a", "new"), ("y", "2")]);
        headers.insert("z", "9").unwrap();
        assert_eq!(headers.len(), 4);
        assert!(headers.remove("a"));
        assert!(!headers.remove("a"));
        assert_eq!(list(&headers), [("x", "0"), ("y", "2"), ("z", "9")]);
        headers.clear();
        assert!(headers.is_empty());
        assert_eq!(headers, Headers::new());
    }

    #[test]
    fn any_letter_case_finds_and_removes() {
        let mut headers = headers(&[("Id", "1"), ("x", "2"), ("ID", "3")]);
        assert!(headers.contains_ignore_case("id") && !headers.contains("id"));
        assert_eq!(headers.get_last_ignore_case("id"), Some("3"));
        assert!(headers.remove_ignore_case("iD") && !headers.remove_ignore_case("id"));
        assert_eq!(list(&headers), [("x", "2")]);
    }

    #[test]
    fn several_lines_are_added_together_or_not_at_all() {
        let mut some = Headers::try_from_iter([("a", "1")]).unwrap();
        let error = some.try_extend([("b", "2"), ("bad name", "3"), ("c", "4")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidHeader);
        assert_eq!(list(&some), [("a", "1")]);
        let other = headers(&[("b", "2"), ("a", "3")]);
        some.try_extend(&other).unwrap();
        assert_eq!(list(&some), [("a", "1"), ("b", "2"), ("a", "3")]);
        let copy: HashSet<_> = [some.clone(), some.clone()].into();
        assert!(copy.len() == 1 && copy.contains(&some) && !copy.contains(&other));
    }

    #[test]
    fn replacing_a_value_again_and_again_does_not_grow_the_list() {
        let mut headers = Headers::new();
        for round in 0..10_000 {
            headers.insert("name", round.to_string()).unwrap();
        }
        assert_eq!(headers.len(), 1);
        assert!(headers.text.capacity() < 64);
    }

    #[test]
    fn what_cannot_be_written_is_refused_with_the_name_but_not_the_value() {
        let mut headers = Headers::new();
        for bad in ["", "a:b", "a b", "ä", "a\r\nb", "a\0", "\x7f"] {
            let error = headers.append(bad, "v").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidHeader, "{bad:?}");
            assert!(headers.insert(bad, "v").is_err());
        }
        for bad in ["secret\r\nX: y", "secret\n", "secret\r", "secret\0"] {
            let error = headers.append("Name", bad).unwrap_err().to_string();
            assert!(error.contains("'Name'") && !error.contains("secret"), "{error}");
        }
        assert!(headers.is_empty());
        headers.append("Name", "grüße \t: any").unwrap();
    }

    #[test]
    fn an_encoded_block_has_the_length_told_and_reads_back() {
        let headers = headers(&[("A", "1"), ("b", ""), ("A", "x: y")]);
        let mut out = vec![0; headers.encoded_len()];
        headers.encode(&mut Space::new(&mut out));
        assert_eq!(out, b"NATS/1.0\r\nA: 1\r\nb: \r\nA: x: y\r\n\r\n");
        let read = read(&out);
        assert_eq!(read.headers, headers);
        assert_eq!((read.status, read.fault), (None, None));
    }

    #[test]
    fn debug_shows_names_and_hides_values() {
        let shown = format!("{:?}", headers(&[("Token", "secret")]));
        assert_eq!(shown, "{\"Token\": …}");
    }

    #[test]
    fn every_odd_block_has_a_defined_outcome() {
        type Case = (&'static [u8], &'static [(&'static str, &'static str)], Option<&'static str>);
        let cases: &[Case] = &[
            (b"NATS/1.0\r\n\r\n", &[], None),
            (b"NATS/1.0\r\n\r\n\r\n", &[], None),
            (b"NATS/1.0\r\nA:b\r\n\r\n", &[("A", "b")], None),
            (b"NATS/1.0\r\nA: \t b c \t\r\n\r\n", &[("A", "b c")], None),
            (b"NATS/1.0\nA: b\n\n", &[("A", "b")], None),
            (b"NATS/1.0\r\nA: b\rc\r\n\r\n", &[("A", "b\rc")], None),
            (b"NATS/1.0\r\nA: b\tc\0\r\n\r\n", &[("A", "b\tc\0")], None),
            (b"NATS/1.0\r\nA: \xff\xc3\xbc\r\n\r\n", &[("A", "\u{fffd}ü")], Some("UTF-8")),
            (b"NATS/1.0\r\n\xe9 k: v\r\n\r\n", &[("\u{fffd} k", "v")], Some("line 2 ")),
            (b"NATS/1.0\r\nA:\r\nA: \r\n\r\n", &[("A", ""), ("A", "")], None),
            (b"NATS/1.0\r\nA: b: c\r\n\r\n", &[("A", "b: c")], None),
            (b"NATS/1.0\r\nA: b\r\n", &[("A", "b")], Some("blank line")),
            (b"NATS/1.0\r\nA: b", &[("A", "b")], Some("blank line")),
            (b"NATS/1.0\r\n", &[], Some("blank line")),
            (b"NATS/1.0", &[], Some("blank line")),
            (b"NATS/1.0\r\nA: b\r\n\r\nC: d\r\n", &[("A", "b")], Some("behind")),
            (b"NATS/1.0\r\nno colon\r\nA: b\r\n\r\n", &[("A", "b")], Some("line 2 ")),
            (b"NATS/1.0\r\nA: b\r\n: v\r\n\r\n", &[("A", "b")], Some("line 3 ")),
            (b"NATS/1.1\r\nA: b\r\n\r\n", &[], Some("NATS/1.0")),
            (b"", &[], Some("NATS/1.0")),
            (b"\r\n\r\n", &[], Some("NATS/1.0")),
            (b"A: b\r\n\r\n", &[], Some("NATS/1.0")),
        ];
        for (block, expected, fault) in cases {
            let shown = String::from_utf8_lossy(block);
            let read = read(block);
            assert_eq!(list(&read.headers), *expected, "{shown:?}");
            assert_eq!(read.status, None, "{shown:?}");
            match (read.fault, fault) {
                (None, None) => {}
                (Some(text), Some(part)) => assert!(text.contains(part), "{shown:?}: {text}"),
                (found, _) => panic!("{shown:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_status_has_three_digits_and_anything_else_is_a_fault() {
        for (line, expected) in [
            ("NATS/1.0 503", Some((503, ""))),
            ("NATS/1.0 503 No Responders", Some((503, "No Responders"))),
            ("NATS/1.0\t100  Idle Heartbeat ", Some((100, "Idle Heartbeat"))),
            ("NATS/1.0 007 x", Some((7, "x"))),
            ("NATS/1.0 ", None),
        ] {
            let read = read(format!("{line}\r\nA: b\r\n\r\n").as_bytes());
            let status = read.status.as_ref().map(|status| (status.code(), status.description()));
            assert_eq!(status, expected, "{line}");
            assert_eq!(list(&read.headers), [("A", "b")], "{line}");
            assert_eq!(read.fault, None, "{line}");
        }
        for line in ["5", " 5", " 50", " 5033", " 50333 x", "503", " abc", " 5x3", " -50", " No"] {
            let read = read(format!("NATS/1.0{line}\r\nA: b\r\n\r\n").as_bytes());
            assert_eq!(read.status, None, "{line}");
            assert!(read.fault.is_some(), "{line}");
            assert_eq!(list(&read.headers), [("A", "b")], "{line}");
        }
    }

    #[test]
    fn a_status_prints_its_code_and_text() {
        let status =
            |text: &str| read(format!("NATS/1.0 {text}\r\n\r\n").as_bytes()).status.unwrap();
        assert_eq!(status("503 No Responders").to_string(), "503 No Responders");
        assert_eq!(status("404").to_string(), "404");
        assert!(status("503").is_no_responders() && !status("404").is_no_responders());
    }

    #[test]
    fn many_tiny_lines_cost_a_small_multiple_of_the_block() {
        let mut block = b"NATS/1.0\r\n".to_vec();
        for _ in 0..100_000 {
            block.extend_from_slice(b"a:\n");
        }
        block.extend_from_slice(b"\r\n");
        let read = read(&block);
        assert_eq!(read.headers.len(), 100_000);
        let held = read.headers.text.capacity() + read.headers.lines.capacity() * size_of::<Line>();
        assert!(held <= 6 * block.len(), "{held} bytes for {}", block.len());
    }
}
