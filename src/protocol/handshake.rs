//! The login as a state machine; pure, driven by the reading thread.
//!
//! ```text
//! ExpectInfo --INFO--> SendConnect --connect_sent--> ExpectPong --PONG--> Ready
//!     |                    |                             |
//!     |                    +-- (the caller upgrades to TLS here, where the policy says so)
//!     +------------- -ERR, or anything out of place ------+-------------> Failed
//! ```
//!
//! The caller owns the socket and the deadline: it writes CONNECT and one PING behind it, and
//! answers each [`Step::Pong`]. An `-ERR` that the server sent right behind INFO is found by the
//! `advance` after `connect_sent`; so when writing CONNECT fails, the caller still asks `advance`
//! with what it can read before it blames the socket. After Failed every call gives the same error.

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::info::ServerInfo;
use crate::protocol::op::ServerOp;
use crate::protocol::parser::Parser;

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read more bytes.
    NeedBytes,
    /// INFO was read: apply the TLS policy, write CONNECT and PING, and call `connect_sent`.
    Info,
    /// The server sent PING: write PONG, and advance again.
    Pong,
    /// The login is complete; the parser still holds what followed.
    Ready,
}

enum State {
    ExpectInfo,
    SendConnect,
    ExpectPong,
    Ready,
    Failed(Error),
}

/// The login of one connection attempt.
pub(crate) struct Handshake {
    state: State,
    info: ServerInfo,
    /// TLS began behind INFO.
    upgraded: bool,
}

impl Handshake {
    pub(crate) fn new() -> Self {
        Self { state: State::ExpectInfo, info: ServerInfo::default(), upgraded: false }
    }

    /// Walks the operations that the parser holds, up to the next thing that the caller must do.
    /// Each of them is shown to `seen` first.
    ///
    /// # Errors
    ///
    /// What the server refused with `-ERR`, or [`ErrorKind::Protocol`].
    pub(crate) fn advance(
        &mut self,
        parser: &mut Parser,
        seen: impl FnMut(&ServerOp),
    ) -> Result<Step> {
        let step = self.walk(parser, seen);
        if let Err(error) = &step {
            self.state = State::Failed(error.clone());
        }
        step
    }

    /// A server of today says INFO once more right behind its PONG: over TLS, where its addresses
    /// and limits count. So they are known when the connection begins.
    fn hear_again(&mut self, parser: &mut Parser, mut seen: impl FnMut(&ServerOp)) -> Result<()> {
        while self.upgraded && parser.holds_info() {
            let Some(op) = parser.next()? else { break };
            seen(&op);
            if let ServerOp::Info(update) = op {
                self.info.merge(update);
            }
        }
        Ok(())
    }

    /// What the server has said about itself so far.
    pub(crate) fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// TLS begins: of what the server has said in clear nothing is believed that could lead us
    /// astray.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] if the server has said more than INFO; [`said_in_clear`].
    pub(crate) fn upgrade(&mut self, parser: &mut Parser) -> Result<()> {
        if !parser.is_empty() {
            if let Ok(Some(ServerOp::Err(error))) = parser.next() {
                return Err(said_in_clear(&error.into()));
            }
            let text = "the server sent more than INFO in clear, where TLS begins";
            return Err(Error::new(ErrorKind::Protocol, text));
        }
        self.info.forget_unproven();
        self.upgraded = true;
        Ok(())
    }

    /// Says that CONNECT and PING were written. Without an INFO before it, it does nothing.
    pub(crate) fn connect_sent(&mut self) {
        if matches!(self.state, State::SendConnect) {
            self.state = State::ExpectPong;
        }
    }

    fn walk(&mut self, parser: &mut Parser, mut seen: impl FnMut(&ServerOp)) -> Result<Step> {
        loop {
            match &self.state {
                State::SendConnect => return Ok(Step::Info),
                State::Ready => return Ok(Step::Ready),
                State::Failed(error) => return Err(error.clone()),
                State::ExpectInfo | State::ExpectPong => {}
            }
            let Some(op) = parser.next()? else { return Ok(Step::NeedBytes) };
            seen(&op);
            match (&self.state, op) {
                (_, ServerOp::Err(error)) => return Err(Error::from(error)),
                (State::ExpectInfo, ServerOp::Info(update)) => {
                    self.info.merge(update);
                    self.state = State::SendConnect;
                }
                (State::ExpectInfo, op) => {
                    return Err(out_of_place(&op, "where INFO comes first"));
                }
                (_, ServerOp::Info(update)) => self.info.merge(update),
                // In verbose mode the server confirms CONNECT.
                (_, ServerOp::Ok) => {}
                (_, ServerOp::Ping) => return Ok(Step::Pong),
                (_, ServerOp::Pong) => {
                    self.state = State::Ready;
                    self.hear_again(parser, &mut seen)?;
                }
                (_, op @ ServerOp::Message(_)) => {
                    return Err(out_of_place(&op, "before the login was complete"));
                }
            }
        }
    }
}

/// What was said with `-ERR` in clear, where TLS is wanted: told, but it counts as no refusal, for
/// anybody on the way could have said it.
pub(crate) fn said_in_clear(error: &Error) -> Error {
    Error::new(ErrorKind::Server, format!("in clear, before TLS: {error}"))
}

fn out_of_place(op: &ServerOp, place: &str) -> Error {
    let name = match op {
        ServerOp::Info(_) => "INFO",
        ServerOp::Message(_) => "a message",
        ServerOp::Ping => "PING",
        ServerOp::Pong => "PONG",
        ServerOp::Ok => "+OK",
        ServerOp::Err(_) => "-ERR",
    };
    let text = format!("the server broke the protocol: it sent {name} {place}");
    Error::new(ErrorKind::Protocol, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::parser::Limits;

    const INFO: &[u8] = b"INFO {\"server_id\":\"A\",\"max_payload\":10}\r\n";

    fn parser(bytes: &[u8]) -> Parser {
        let mut parser = Parser::new(Limits::default());
        parser.push(bytes);
        parser
    }

    /// Plays the caller: all bytes at once, CONNECT as soon as it is asked for.
    fn log_in(bytes: &[u8]) -> (Result<Step>, Vec<Step>, Handshake, Parser) {
        let mut parser = parser(bytes);
        let mut handshake = Handshake::new();
        let mut steps = Vec::new();
        let last = loop {
            match handshake.advance(&mut parser, |_| ()) {
                Ok(Step::Info) => handshake.connect_sent(),
                Ok(Step::Pong) => {}
                last => break last,
            }
            steps.push(if steps.is_empty() { Step::Info } else { Step::Pong });
        };
        (last, steps, handshake, parser)
    }

    fn after_info(bytes: &[u8]) -> Vec<u8> {
        [INFO, bytes].concat()
    }

    #[test]
    fn a_plain_login_is_info_then_pong() {
        let (last, steps, handshake, parser) = log_in(&after_info(b"PONG\r\n"));
        assert_eq!(last.unwrap(), Step::Ready);
        assert_eq!(steps, [Step::Info]);
        assert_eq!(handshake.info().server_id(), "A");
        assert!(parser.is_empty());
    }

    #[test]
    fn connect_is_asked_for_until_it_was_sent_and_nothing_is_read_over_it() {
        let mut parser = parser(&after_info(b"PONG\r\n"));
        let mut handshake = Handshake::new();
        handshake.connect_sent();
        assert_eq!(handshake.advance(&mut parser, |_| ()).unwrap(), Step::Info);
        assert_eq!(handshake.advance(&mut parser, |_| ()).unwrap(), Step::Info);
        assert!(!parser.is_empty());
        handshake.connect_sent();
        assert_eq!(handshake.advance(&mut parser, |_| ()).unwrap(), Step::Ready);
        assert_eq!(handshake.advance(&mut parser, |_| ()).unwrap(), Step::Ready);
    }

    #[test]
    fn between_connect_and_pong_the_server_may_say_ok_info_and_ping() {
        let bytes = after_info(b"+OK\r\nINFO {\"max_payload\":99}\r\nPING\r\nPONG\r\n");
        let (last, steps, handshake, _) = log_in(&bytes);
        assert_eq!(last.unwrap(), Step::Ready);
        assert_eq!(steps, [Step::Info, Step::Pong]);
        assert_eq!((handshake.info().server_id(), handshake.info().max_payload()), ("A", 99));
    }

    #[test]
    fn what_follows_the_pong_stays_in_the_parser() {
        let bytes = after_info(b"PONG\r\nPING\r\nMSG a 1 2\r\nhi\r\n");
        let (last, _, _, mut parser) = log_in(&bytes);
        assert_eq!(last.unwrap(), Step::Ready);
        assert!(matches!(parser.next().unwrap(), Some(ServerOp::Ping)));
        assert!(matches!(parser.next().unwrap(), Some(ServerOp::Message(_))));
    }

    #[test]
    fn a_login_that_is_not_complete_needs_bytes() {
        for part in [&b""[..], b"INF", b"INFO {}", &after_info(b""), &after_info(b"PON")] {
            assert_eq!(log_in(part).0.unwrap(), Step::NeedBytes);
        }
    }

    #[test]
    fn an_err_before_info_or_glued_behind_it_or_after_connect_is_the_cause() {
        let refusal = b"-ERR 'Authorization Violation'\r\n";
        let late = [&b"+OK\r\n"[..], refusal].concat();
        for bytes in [refusal.to_vec(), after_info(refusal), after_info(&late)] {
            let (last, _, mut handshake, mut parser) = log_in(&bytes);
            assert_eq!(last.unwrap_err().kind(), ErrorKind::Authorization);
            parser.push(b"PONG\r\n");
            let again = handshake.advance(&mut parser, |_| ()).unwrap_err();
            assert_eq!(again.kind(), ErrorKind::Authorization);
        }
        let full = log_in(b"-ERR 'maximum connections exceeded'\r\n").0.unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Server);
        assert!(full.server_error().is_some());
    }

    #[test]
    fn anything_out_of_place_is_a_protocol_error() {
        for bytes in [
            &b"PING\r\n"[..],
            b"PONG\r\n",
            b"+OK\r\n",
            b"MSG a 1 2\r\nhi\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\r\n",
            b"INFO\r\n",
            b"INFO null\r\n",
            b"INFO {\r\n",
            &after_info(b"MSG a 1 2\r\nhi\r\nPONG\r\n"),
            &after_info(b"+OK\r\ngarbage\r\nPONG\r\n"),
        ] {
            let shown = String::from_utf8_lossy(bytes);
            let error = log_in(bytes).0.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{shown:?}");
        }
    }

    #[test]
    fn where_tls_begins_a_limit_of_info_counts_only_above_the_usual_one() {
        let usual = 1 << 20;
        for (said, believed) in [
            ("", 0),
            ("\"max_payload\":0", 0),
            ("\"max_payload\":1", usual),
            ("\"max_payload\":1048575", usual),
            ("\"max_payload\":1048577", usual + 1),
            ("\"max_payload\":18446744073709551615", usize::MAX),
        ] {
            let mut parser = parser(format!("INFO {{{said}}}\r\n").as_bytes());
            let mut handshake = Handshake::new();
            assert_eq!(handshake.advance(&mut parser, |_| ()).unwrap(), Step::Info);
            handshake.upgrade(&mut parser).unwrap();
            assert_eq!(handshake.info().max_payload(), believed, "{said}");
            handshake.connect_sent();
            parser.push(b"PONG\r\nINFO {\"max_payload\":10}\r\n");
            assert_eq!(handshake.advance(&mut parser, |_| ()).unwrap(), Step::Ready);
            assert_eq!(handshake.info().max_payload(), 10, "said over TLS: {said}");
        }
    }

    #[test]
    fn where_tls_begins_nothing_may_follow_info_and_its_addresses_are_not_kept() {
        let info = b"INFO {\"server_id\":\"A\",\"max_payload\":10,\"nonce\":\"n\",\"ldm\":true,\
                     \"headers\":false,\"connect_urls\":[\"a:1\"]}\r\n";
        let upgrade = |rest: &[u8]| {
            let mut parser = parser(&[info, rest].concat());
            let mut handshake = Handshake::new();
            assert_eq!(handshake.advance(&mut parser, |_| ()).unwrap(), Step::Info);
            handshake.upgrade(&mut parser).map(|()| handshake)
        };
        let handshake = upgrade(b"").unwrap();
        let info = handshake.info();
        assert_eq!((info.server_id(), info.nonce()), ("A", Some("n")));
        assert!(info.headers() && info.auth_required() && !info.lame_duck());
        assert!(info.connect_urls().is_empty());
        let mut handshake = upgrade(b"").unwrap();
        handshake.connect_sent();
        let mut over_tls = parser(b"PONG\r\nINFO {\"max_payload\":20}\r\nPING\r\nINFO {}\r\n");
        assert_eq!(handshake.advance(&mut over_tls, |_| ()).unwrap(), Step::Ready);
        assert_eq!(handshake.info().max_payload(), 20);
        assert!(matches!(over_tls.next().unwrap(), Some(ServerOp::Ping)));
        for rest in ["PING\r\n", "MSG a 1 2\r\nhi\r\n", "INFO {}\r\n", "P", "\0"] {
            let error = upgrade(rest.as_bytes()).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{rest:?}");
        }
        let error = upgrade(b"-ERR 'Authorization Violation'\r\n").err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Server);
        assert!(!error.is_authorization() && error.to_string().contains("Authorization"));
    }
}
