//! Which check failed, in words; the library tells it in its own only.
//!
//! The words are OpenSSL's. What is not known here, or comes from another system's library, is
//! passed on as it is: no text of a certificate or key is in it.

use std::io;

use crate::error::{Error, ErrorKind};

/// What the library's words mean: the first that is found counts.
const REASONS: &[(&str, &str)] = &[
    ("signed certificate in certificate chain", ISSUER),
    ("self-signed certificate", SELF_SIGNED),
    ("self signed certificate", SELF_SIGNED),
    ("issuer certificate", ISSUER),
    ("verify the first certificate", ISSUER),
    ("certificate has expired", "the server's certificate, or that of its issuer, has expired"),
    ("certificate is not yet valid", "the server's certificate is not yet valid"),
    ("hostname mismatch", "the server's certificate is not for the name '{name}'"),
    ("ip address mismatch", "the server's certificate is not for the address '{name}'"),
    ("wrong version number", "the server answered in clear, where TLS begins"),
    ("packet length too long", "the server answered in clear, where TLS begins"),
    ("alert certificate required", "the server wants a client certificate, and got none"),
    ("alert bad certificate", REFUSED),
    ("alert unknown ca", REFUSED),
    ("alert certificate unknown", REFUSED),
    ("alert certificate expired", "the server refused the client certificate: it has expired"),
    ("alert certificate revoked", "the server refused the client certificate: it is revoked"),
    ("alert unsupported certificate", REFUSED),
    ("alert access denied", REFUSED),
    ("alert protocol version", VERSION),
    ("unsupported protocol", VERSION),
    ("no protocols available", VERSION),
    ("alert handshake failure", "the server found no cipher or certificate in common"),
    ("key values mismatch", "the client certificate and the key do not belong together"),
];

const ISSUER: &str = "the issuer of the server's certificate is not trusted here";
const SELF_SIGNED: &str = "the server's certificate is self-signed, and not trusted here";
const REFUSED: &str = "the server refused the client certificate, or wants one and got none";
const VERSION: &str = "there is no version of TLS that both sides allow";

/// The error of a handshake with the server of that name.
pub(super) fn handshake_failed(error: native_tls::Error, name: &str) -> Error {
    let text = format!("TLS with '{name}' failed: {}", explained(&error.to_string(), name));
    Error::with_source(ErrorKind::Tls, text, error)
}

/// The error of a read or write on a session that had begun, as a stream gives it.
pub(super) fn session_failed(error: io::Error, name: &str) -> io::Error {
    let text = format!("TLS with '{name}' failed: {}", explained(&error.to_string(), name));
    io::Error::other(Error::with_source(ErrorKind::Tls, text, error))
}

/// The reason in words, or as the library tells it.
pub(super) fn explained(told: &str, name: &str) -> String {
    let lower = told.to_ascii_lowercase();
    let known = REASONS.iter().find(|(words, _)| lower.contains(words));
    known.map_or_else(|| told.to_owned(), |(_, meaning)| meaning.replace("{name}", name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_told_in_words_and_an_unknown_one_as_it_is() {
        let chain = "verify failed: (self-signed certificate in certificate chain)";
        assert_eq!(explained(chain, "a"), ISSUER);
        assert_eq!(explained("(self-signed certificate)", "a"), SELF_SIGNED);
        assert!(explained("(Hostname mismatch)", "host").ends_with("the name 'host'"));
        assert_eq!(explained("something new", "a"), "something new");
    }
}
