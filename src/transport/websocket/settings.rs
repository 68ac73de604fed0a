//! What the options say about WebSocket.

use std::fmt;

use crate::auth::Secret;
use crate::error::{Error, ErrorKind, Result};

/// Headers that the upgrade itself has.
const OWN: &[&str] = &["host", "connection", "upgrade", "content-length", "transfer-encoding"];

/// The longest name and value together, so that a request keeps to what servers read.
const LONGEST: usize = 8 * 1024;

/// What the options say.
#[derive(Clone, Default)]
pub(crate) struct WebSocketSettings {
    headers: Vec<(String, Secret)>,
}

impl WebSocketSettings {
    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.headers.push((name.into(), Secret::new(value)));
    }

    /// Refuses what would not be one header of its own.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, value) in &self.headers {
            let bad = |why: &str| {
                let shown = name.escape_debug();
                let text = format!("websocket_header '{shown}': {why}");
                Err(Error::new(ErrorKind::InvalidOption, text))
            };
            if name.is_empty() || !name.bytes().all(is_token) {
                return bad("it is no name of an HTTP header");
            }
            let lower = name.to_ascii_lowercase();
            if OWN.contains(&lower.as_str()) || lower.starts_with("sec-websocket-") {
                return bad("the upgrade itself says what it is");
            }
            if value.reveal().chars().any(|c| c.is_control() && c != '\t') {
                return bad("its value holds a control character");
            }
            if name.len() + value.reveal().len() > LONGEST {
                return bad("its value is longer than 8 KiB");
            }
        }
        Ok(())
    }

    /// Adds the lines of all headers to a request.
    pub(super) fn write(&self, request: &mut String) {
        for (name, value) in &self.headers {
            request.push_str(name);
            request.push_str(": ");
            request.push_str(value.reveal());
            request.push_str("\r\n");
        }
    }
}

impl fmt::Debug for WebSocketSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("WebSocketSettings").field("headers", &names).finish()
    }
}

/// Whether the byte may stand in the name of a header (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, value: &str) -> Result<WebSocketSettings> {
        let mut settings = WebSocketSettings::default();
        settings.add(name, value);
        settings.check().map(|()| settings)
    }

    #[test]
    fn a_header_is_one_line_whatever_its_name_and_value() {
        for name in (0..=u8::MAX).map(char::from) {
            for value in (0..=u8::MAX).map(char::from) {
                let Ok(settings) = checked(&format!("x{name}"), &format!("y{value}")) else {
                    continue;
                };
                let mut lines = String::new();
                settings.write(&mut lines);
                assert_eq!(lines, format!("x{name}: y{value}\r\n"));
                assert_eq!(lines.matches(['\r', '\n', '\0']).count(), 2);
                assert!(!name.is_whitespace() && name != ':');
            }
        }
    }

    #[test]
    fn what_the_upgrade_says_itself_is_refused_and_a_refusal_has_no_value() {
        for name in ["Host", "upgrade", "Connection", "Sec-WebSocket-Key", "", "a b", "a:b", "ü"] {
            let error = checked(name, "hunter2").expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidOption);
            assert!(error.to_string().contains(&format!("'{name}'")), "{error}");
        }
        for value in ["hunter2\r\nX: y", "hunter2\0", &"hunter2".repeat(2000)] {
            let error = checked("X", value).expect_err("a value");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let settings = checked("Authorization", "Bearer hunter2").expect("a header");
        let shown = format!("{settings:?} {settings:#?}");
        assert!(shown.contains("Authorization") && !shown.contains("hunter2"), "{shown}");
    }
}
