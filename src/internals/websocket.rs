//! What reads a server's WebSocket bytes, in plain types.

use crate::transport::{WebSocketDecoder, check_upgrade};

/// The decoder of frames.
pub struct Frames(WebSocketDecoder);

impl Frames {
    #[allow(clippy::new_without_default, reason = "it is made in one place")]
    pub fn new() -> Self {
        Self(WebSocketDecoder::new())
    }

    /// Takes bytes in; gives the data in them, and the payload of an answer that is due.
    pub fn decode(&mut self, bytes: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut buffer = bytes.to_vec();
        let count = self.0.decode(&mut buffer, bytes.len());
        buffer.truncate(count);
        (buffer, self.0.take_answer().map(|(_, payload)| payload))
    }

    /// Whether nothing is decoded any more, and the fault if there is one.
    pub fn end(&self) -> Option<Option<String>> {
        let end = self.0.end()?;
        Some(end.err().map(|error| error.to_string()))
    }
}

/// Whether the head of a response agrees to the request with that key.
pub fn accepts_upgrade(head: &[u8], key: &str) -> Result<(), String> {
    check_upgrade(head, key).map_err(|error| error.to_string())
}
