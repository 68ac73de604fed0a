//! CONNECT: what the client says about itself.
//!
//! The JSON writer escapes every text, so that no name or password can end the line, and the order
//! of the fields is fixed. Whose user, token or signature it is was decided elsewhere. Nothing
//! here has a `Debug` form: half of the fields are secrets. There is no limit of the length, for
//! a JWT may be long; the server has one of its own.

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};

/// The parts of CONNECT that differ between connections.
#[derive(Clone, Default)]
pub(crate) struct ConnectFields<'a> {
    pub(crate) verbose: bool,
    pub(crate) pedantic: bool,
    pub(crate) tls_required: bool,
    pub(crate) name: Option<&'a str>,
    /// Whether the server sends this connection its own messages too.
    pub(crate) echo: bool,
    pub(crate) headers: bool,
    pub(crate) no_responders: bool,
    pub(crate) user: Option<&'a str>,
    pub(crate) pass: Option<&'a str>,
    pub(crate) auth_token: Option<&'a str>,
    pub(crate) jwt: Option<&'a str>,
    pub(crate) nkey: Option<&'a str>,
    pub(crate) sig: Option<&'a str>,
}

/// The fields in the order in which they are written.
#[derive(Serialize)]
struct Wire<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    lang: &'a str,
    version: &'a str,
    protocol: u8,
    echo: bool,
    headers: bool,
    no_responders: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<&'a str>,
}

/// Appends the CONNECT line.
pub(crate) fn encode_connect(out: &mut Vec<u8>, fields: &ConnectFields<'_>) -> Result<()> {
    let wire = Wire {
        verbose: fields.verbose,
        pedantic: fields.pedantic,
        tls_required: fields.tls_required,
        name: fields.name,
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        // 1: the client takes an INFO at any time.
        protocol: 1,
        echo: fields.echo,
        headers: fields.headers,
        no_responders: fields.no_responders,
        user: fields.user,
        pass: fields.pass,
        auth_token: fields.auth_token,
        jwt: fields.jwt,
        nkey: fields.nkey,
        sig: fields.sig,
    };
    let start = out.len();
    out.extend_from_slice(b"CONNECT ");
    if serde_json::to_writer(&mut *out, &wire).is_err() {
        // Half a line must not stay; and the cause could hold a secret, so it is not kept.
        out.truncate(start);
        return Err(Error::new(ErrorKind::Internal, "CONNECT could not be written"));
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = env!("CARGO_PKG_VERSION");

    fn encoded(fields: &ConnectFields<'_>) -> String {
        let mut out = Vec::new();
        encode_connect(&mut out, fields).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The keys in their order; the values of the tests hold no quote and no comma.
    fn keys(fields: &ConnectFields<'_>) -> Vec<String> {
        let line = encoded(fields);
        let json = line.strip_prefix("CONNECT {").unwrap().strip_suffix("}\r\n").unwrap();
        json.split(',').map(|field| field.split('"').nth(1).unwrap().to_owned()).collect()
    }

    #[test]
    fn the_line_without_credentials_is_exactly_this() {
        let fields = ConnectFields {
            echo: true,
            headers: true,
            no_responders: true,
            name: Some("n"),
            ..ConnectFields::default()
        };
        assert_eq!(
            encoded(&fields),
            format!(
                "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\
                 \"name\":\"n\",\"lang\":\"rust\",\"version\":\"{VERSION}\",\"protocol\":1,\
                 \"echo\":true,\"headers\":true,\"no_responders\":true}}\r\n"
            )
        );
    }

    #[test]
    fn each_kind_of_credentials_adds_exactly_its_keys() {
        let base = "verbose pedantic tls_required lang version protocol echo headers no_responders";
        let none = ConnectFields::default();
        let x = Some("x");
        for (fields, added) in [
            (none.clone(), ""),
            (ConnectFields { user: x, pass: x, ..none.clone() }, " user pass"),
            (ConnectFields { auth_token: x, ..none.clone() }, " auth_token"),
            (ConnectFields { nkey: x, sig: x, ..none.clone() }, " nkey sig"),
            (ConnectFields { jwt: x, sig: x, ..none.clone() }, " jwt sig"),
            (
                ConnectFields { user: x, pass: x, auth_token: x, jwt: x, nkey: x, sig: x, ..none },
                " user pass auth_token jwt nkey sig",
            ),
        ] {
            assert_eq!(keys(&fields).join(" "), format!("{base}{added}"));
        }
    }

    #[test]
    fn a_text_of_one_or_two_characters_ends_neither_the_line_nor_its_string() {
        let bytes = || (0u8..128).map(char::from);
        let two = bytes().flat_map(|a| bytes().map(move |b| format!("{a}{b}")));
        for text in bytes().map(String::from).chain(two) {
            let value = Some(text.as_str());
            let fields = ConnectFields {
                name: value,
                user: value,
                pass: value,
                auth_token: value,
                ..ConnectFields::default()
            };
            let line = encoded(&fields);
            assert_eq!(line.find(['\r', '\n']), Some(line.len() - 2), "{text:?}");
            let json = line.strip_prefix("CONNECT ").unwrap();
            let read: serde_json::Value = serde_json::from_str(json).unwrap();
            for key in ["name", "user", "pass", "auth_token"] {
                assert_eq!(read[key], text.as_str());
            }
        }
    }

    #[test]
    fn a_long_jwt_is_written_whole() {
        let jwt = "j".repeat(100_000);
        let fields = ConnectFields { jwt: Some(&jwt), ..ConnectFields::default() };
        assert!(encoded(&fields).contains(&jwt));
    }
}
