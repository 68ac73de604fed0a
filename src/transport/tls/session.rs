//! What the lock of a TLS stream guards: the session, and ciphertext on its way in and out.
//!
//! No method waits. Ciphertext leaves in the order in which it was made: what was held back first,
//! of which a part may be out already, then what the session has put into its pipe since.

use std::io::{self, Read, Write};

use native_tls::TlsStream;

use super::super::held_back::{HeldBack, Unsent};

/// How much ciphertext one read of the socket takes: four full records.
const READ_SIZE: usize = 64 * 1024;

/// A record that is not whole yet is smaller than this: 2^14 bytes, and what TLS adds.
const MOST_OF_A_RECORD: usize = 18 * 1024;

/// Memory in place of a socket: it never waits, and says `WouldBlock` when it is empty.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    incoming: Vec<u8>,
    start: usize,
    end: usize,
    outgoing: Vec<u8>,
}

impl Pipe {
    /// Takes the buffer to read ciphertext into, with no lock held: behind the part of a record
    /// that is in it already.
    pub(super) fn take_space(&mut self) -> Space {
        let mut bytes = std::mem::take(&mut self.incoming);
        bytes.copy_within(self.start..self.end, 0);
        let filled = self.end - self.start;
        (self.start, self.end) = (0, 0);
        // Once only: a buffer that comes back has this length.
        bytes.resize(READ_SIZE + MOST_OF_A_RECORD, 0);
        Space { bytes, filled }
    }

    /// Gives the buffer back, with so many bytes more of ciphertext in it.
    pub(super) fn arrived(&mut self, space: Space, count: usize) {
        let Space { bytes, filled } = space;
        (self.start, self.end) = (0, filled.saturating_add(count).min(bytes.len()));
        self.incoming = bytes;
    }

    /// What the session wants to be sent.
    pub(super) fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }
}

/// The buffer of a pipe, on its way to the socket and back. Meanwhile the pipe is empty.
pub(super) struct Space {
    bytes: Vec<u8>,
    filled: usize,
}

impl Space {
    /// Where the socket puts what it has.
    pub(super) fn free(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.incoming.get(self.start..self.end).unwrap_or_default();
        if there.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = there.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), there.get(..count)) {
            to.copy_from_slice(from);
        }
        self.start += count;
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a read of the session gave.
pub(super) enum Decrypted {
    Bytes(usize),
    /// There is no whole record: more ciphertext is needed.
    Needs,
    /// The other side has ended the session in order.
    End,
}

/// A session after its handshake.
pub(super) struct Session {
    tls: TlsStream<Pipe>,
    unsent: HeldBack,
    /// What the session said after it had given bytes: told by the next read.
    failure: Option<io::Error>,
}

impl Session {
    pub(super) fn new(tls: TlsStream<Pipe>) -> Self {
        Self { tls, unsent: HeldBack::default(), failure: None }
    }

    pub(super) fn pipe(&mut self) -> &mut Pipe {
        self.tls.get_mut()
    }

    /// Fills the buffer as far as there are whole records. Says also whether the session wants
    /// something sent for it.
    pub(super) fn decrypt(&mut self, buffer: &mut [u8]) -> io::Result<(Decrypted, bool)> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let before = self.pipe().outgoing.len();
        let mut filled = 0;
        let mut outcome = Decrypted::Needs;
        while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
            match self.tls.read(space) {
                Ok(0) => {
                    outcome = Decrypted::End;
                    break;
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if filled == 0 => return Err(error),
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
        }
        if filled > 0 {
            outcome = Decrypted::Bytes(filled);
        }
        let produced = self.pipe().outgoing.len() > before;
        Ok((outcome, produced))
    }

    /// Encrypts all of the bytes.
    pub(super) fn encrypt(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.tls.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                // Memory never waits, so the session waits for the other side.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let text = "the server began to renegotiate, which is not supported";
                    return Err(io::Error::other(text));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether there is ciphertext that was not sent.
    pub(super) fn holds_back(&mut self) -> bool {
        !self.unsent.is_empty() || !self.pipe().outgoing.is_empty()
    }

    /// Takes out what comes next to be sent, if no one else has it. It must be given back.
    pub(super) fn take_unsent(&mut self) -> Option<Unsent> {
        self.unsent.take(&mut self.tls.get_mut().outgoing)
    }

    pub(super) fn give_back(&mut self, unsent: Unsent) {
        self.unsent.give_back(unsent);
    }

    /// Ends the session in order, from this side.
    pub(super) fn say_goodbye(&mut self) {
        // Where the session has failed there is nobody to tell.
        let _ = self.tls.shutdown();
    }
}
