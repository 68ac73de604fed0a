//! What a server says about itself with INFO.
//!
//! [`ServerInfoUpdate`] is one INFO as it came, where every field may be absent; [`ServerInfo`] is
//! what is known by now: a later INFO replaces the fields that it carries and keeps the others.
//! The JSON names stand in one place, `FieldsVisitor`. Unknown fields are skipped, null is absent,
//! and a field of the wrong type is a protocol error that names it. The nonce is shown to no one
//! but the signer.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::subject::quote;

/// What a server accepts unless it was told otherwise, in bytes of headers and payload.
const USUAL_MAX_PAYLOAD: usize = 1 << 20;

/// What the connected server says about itself, merged from all that it sent in this session.
///
/// Before the first connect everything is empty, false or zero.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ServerInfo {
    server_id: String,
    server_name: String,
    version: String,
    go: String,
    host: String,
    port: u16,
    headers: bool,
    auth_required: bool,
    tls_required: bool,
    tls_available: bool,
    max_payload: usize,
    proto: u32,
    nonce: Option<String>,
    lame_duck: bool,
    jetstream: bool,
    client_id: Option<u64>,
    client_ip: Option<String>,
    cluster: Option<String>,
    domain: Option<String>,
    connect_urls: Vec<String>,
}

impl ServerInfo {
    /// The server's identity, new at each of its starts.
    pub fn server_id(&self) -> &str {
        &self.server_id
    }

    /// The server's name.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// The server's version, as `2.11.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The Go version that the server was built with.
    pub fn go(&self) -> &str {
        &self.go
    }

    /// The address that the server listens on, often `0.0.0.0`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port that the server listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the server knows headers.
    pub fn headers(&self) -> bool {
        self.headers
    }

    /// Whether a client must say who it is.
    pub fn auth_required(&self) -> bool {
        self.auth_required
    }

    /// Whether the server takes only TLS.
    pub fn tls_required(&self) -> bool {
        self.tls_required
    }

    /// Whether the server takes TLS beside clear text.
    pub fn tls_available(&self) -> bool {
        self.tls_available
    }

    /// The largest message that the server accepts, in bytes of headers and payload; 0 if unknown.
    ///
    /// A server of 2.12 and newer says it over TLS too, and that counts. One before says it in
    /// clear, before TLS begins, where others on the way could change it: then it is never less
    /// than 1 MiB, which is what a server accepts by default, so that nobody can have small
    /// messages refused here by saying so. A server that was set to less closes the connection for
    /// a message between the two. Who makes the limit larger wins nothing but that either.
    pub fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// The version of the protocol.
    pub fn proto(&self) -> u32 {
        self.proto
    }

    /// Whether the server is about to shut down.
    pub fn lame_duck(&self) -> bool {
        self.lame_duck
    }

    /// Whether the server has JetStream switched on.
    pub fn jetstream(&self) -> bool {
        self.jetstream
    }

    /// The number that the server gave this connection.
    pub fn client_id(&self) -> Option<u64> {
        self.client_id
    }

    /// The address from which the server sees this connection come.
    pub fn client_ip(&self) -> Option<&str> {
        self.client_ip.as_deref()
    }

    /// The name of the server's cluster.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// The JetStream domain.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// The addresses of the cluster's servers, as the server last listed them.
    pub fn connect_urls(&self) -> &[String] {
        &self.connect_urls
    }

    /// What the client is asked to sign.
    pub(crate) fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// Forgets what was said before TLS and could lead us astray, should another than the server
    /// have said it: addresses, that the server leaves, a limit below the usual one, and that it
    /// knows no headers. A server from 2.12 on says all of it again over TLS.
    ///
    /// That limits and headers are not just forgotten is for servers before that. Whoever may
    /// change INFO can cut the connection too, but must not reach into the session that begins
    /// behind it: with "no headers" the server would take the headers off every message of it.
    /// Every server since 2.2 knows them; one before does not read that part of CONNECT.
    ///
    /// The nonce is kept, for it is said only once: a false one makes the login fail, no more.
    pub(crate) fn forget_unproven(&mut self) {
        self.connect_urls.clear();
        self.lame_duck = false;
        self.headers = true;
        if self.max_payload != 0 {
            self.max_payload = self.max_payload.max(USUAL_MAX_PAYLOAD);
        }
    }

    /// Takes over the fields that the update carries.
    pub(crate) fn merge(&mut self, update: ServerInfoUpdate) {
        fn take<T>(field: &mut T, update: Option<T>) {
            if let Some(value) = update {
                *field = value;
            }
        }
        fn take_some<T>(field: &mut Option<T>, update: Option<T>) {
            if update.is_some() {
                *field = update;
            }
        }
        let fields = *update.0;
        take(&mut self.server_id, fields.server_id);
        take(&mut self.server_name, fields.server_name);
        take(&mut self.version, fields.version);
        take(&mut self.go, fields.go);
        take(&mut self.host, fields.host);
        take(&mut self.port, fields.port);
        take(&mut self.headers, fields.headers);
        take(&mut self.auth_required, fields.auth_required);
        take(&mut self.tls_required, fields.tls_required);
        take(&mut self.tls_available, fields.tls_available);
        take(&mut self.max_payload, fields.max_payload.map(saturate));
        take(&mut self.proto, fields.proto);
        take_some(&mut self.nonce, fields.nonce);
        take(&mut self.lame_duck, fields.lame_duck);
        take(&mut self.jetstream, fields.jetstream);
        take_some(&mut self.client_id, fields.client_id);
        take_some(&mut self.client_ip, fields.client_ip);
        take_some(&mut self.cluster, fields.cluster);
        take_some(&mut self.domain, fields.domain);
        take(&mut self.connect_urls, fields.connect_urls);
    }
}

impl fmt::Debug for ServerInfo {
    /// Everything but the nonce.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerInfo")
            .field("server_id", &self.server_id)
            .field("server_name", &self.server_name)
            .field("version", &self.version)
            .field("go", &self.go)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("headers", &self.headers)
            .field("auth_required", &self.auth_required)
            .field("tls_required", &self.tls_required)
            .field("tls_available", &self.tls_available)
            .field("max_payload", &self.max_payload)
            .field("proto", &self.proto)
            .field("lame_duck", &self.lame_duck)
            .field("jetstream", &self.jetstream)
            .field("client_id", &self.client_id)
            .field("client_ip", &self.client_ip)
            .field("cluster", &self.cluster)
            .field("domain", &self.domain)
            .field("connect_urls", &self.connect_urls)
            .finish_non_exhaustive()
    }
}

/// One INFO, as it came.
#[derive(Clone, PartialEq)]
pub(crate) struct ServerInfoUpdate(Box<Fields>);

#[derive(Clone, Default, PartialEq)]
struct Fields {
    server_id: Option<String>,
    server_name: Option<String>,
    version: Option<String>,
    go: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    headers: Option<bool>,
    auth_required: Option<bool>,
    tls_required: Option<bool>,
    tls_available: Option<bool>,
    max_payload: Option<u64>,
    proto: Option<u32>,
    nonce: Option<String>,
    lame_duck: Option<bool>,
    jetstream: Option<bool>,
    client_id: Option<u64>,
    client_ip: Option<String>,
    cluster: Option<String>,
    domain: Option<String>,
    connect_urls: Option<Vec<String>>,
}

impl ServerInfoUpdate {
    /// Reads the JSON of an INFO line.
    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        match serde_json::from_slice::<Fields>(json) {
            Ok(mut fields) => {
                if let Some(urls) = &mut fields.connect_urls {
                    urls.retain(|url| !url.is_empty());
                }
                Ok(Self(Box::new(fields)))
            }
            Err(error) => {
                let why = quote(error.to_string().as_bytes());
                let text = format!("the server sent an INFO that cannot be read: {why}");
                Err(Error::new(ErrorKind::Protocol, text))
            }
        }
    }

    /// Whether this INFO lists the cluster's servers.
    pub(crate) fn names_connect_urls(&self) -> bool {
        self.0.connect_urls.is_some()
    }

    /// What this INFO says about shutting down, if it says something.
    pub(crate) fn lame_duck(&self) -> Option<bool> {
        self.0.lame_duck
    }
}

impl fmt::Debug for ServerInfoUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut info = ServerInfo::default();
        info.merge(self.clone());
        f.debug_tuple("ServerInfoUpdate").field(&info).finish()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "server_id" => fields.server_id = value(&mut map, &name)?,
                "server_name" => fields.server_name = value(&mut map, &name)?,
                "version" => fields.version = value(&mut map, &name)?,
                "go" => fields.go = value(&mut map, &name)?,
                "host" => fields.host = value(&mut map, &name)?,
                "port" => fields.port = value(&mut map, &name)?,
                "headers" => fields.headers = value(&mut map, &name)?,
                "auth_required" => fields.auth_required = value(&mut map, &name)?,
                "tls_required" => fields.tls_required = value(&mut map, &name)?,
                "tls_available" => fields.tls_available = value(&mut map, &name)?,
                "max_payload" => fields.max_payload = value(&mut map, &name)?,
                "proto" => fields.proto = value(&mut map, &name)?,
                "nonce" => fields.nonce = value(&mut map, &name)?,
                "ldm" => fields.lame_duck = value(&mut map, &name)?,
                "jetstream" => fields.jetstream = value(&mut map, &name)?,
                "client_id" => fields.client_id = value(&mut map, &name)?,
                "client_ip" => fields.client_ip = value(&mut map, &name)?,
                "cluster" => fields.cluster = value(&mut map, &name)?,
                "domain" => fields.domain = value(&mut map, &name)?,
                "connect_urls" => fields.connect_urls = value(&mut map, &name)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

/// The value of a field. A fault names the field and not the value, which may be the nonce.
fn value<'de, A, T>(map: &mut A, name: &str) -> Result<Option<T>, A::Error>
where
    A: MapAccess<'de>,
    T: Deserialize<'de>,
{
    map.next_value::<Option<T>>()
        .map_err(|_| A::Error::custom(format_args!("field {name} is malformed")))
}

fn saturate(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &[u8] = br#"{"server_id":"ID","server_name":"n","version":"2.11.0","proto":1,
        "git_commit":"x","go":"go1.24","host":"0.0.0.0","port":4222,"headers":true,
        "auth_required":true,"tls_required":false,"tls_available":true,"max_payload":1048576,
        "jetstream":true,"client_id":5,"client_ip":"127.0.0.1","nonce":"hush","xkey":"k",
        "cluster":"c","domain":"d","connect_urls":["a:1","","b:2"],"new":{"deep":[1,{}]}}"#;

    fn parse(json: &[u8]) -> ServerInfo {
        let mut info = ServerInfo::default();
        info.merge(ServerInfoUpdate::parse(json).unwrap());
        info
    }

    #[test]
    fn every_field_is_read_and_unknown_ones_are_skipped() {
        let info = parse(FULL);
        assert_eq!((info.server_id(), info.server_name(), info.version()), ("ID", "n", "2.11.0"));
        assert_eq!((info.go(), info.host(), info.port()), ("go1.24", "0.0.0.0", 4222));
        assert!(info.headers() && info.auth_required() && info.tls_available());
        assert!(!info.tls_required() && info.jetstream() && !info.lame_duck());
        assert_eq!((info.max_payload(), info.proto()), (1_048_576, 1));
        assert_eq!((info.client_id(), info.client_ip()), (Some(5), Some("127.0.0.1")));
        assert_eq!((info.cluster(), info.domain()), (Some("c"), Some("d")));
        assert_eq!(info.nonce(), Some("hush"));
        assert_eq!(info.connect_urls(), ["a:1", "b:2"]);
    }

    #[test]
    fn a_later_info_keeps_the_fields_that_it_does_not_carry() {
        let mut info = parse(FULL);
        let update = ServerInfoUpdate::parse(br#"{"ldm":true,"connect_urls":["z:9"]}"#).unwrap();
        assert!(update.names_connect_urls());
        assert_eq!(update.lame_duck(), Some(true));
        info.merge(update);
        assert!(info.lame_duck());
        assert_eq!((info.max_payload(), info.connect_urls()), (1_048_576, &["z:9".to_owned()][..]));
        let before = info.clone();
        let empty = ServerInfoUpdate::parse(b"{}").unwrap();
        assert!(!empty.names_connect_urls());
        assert_eq!(empty.lame_duck(), None);
        info.merge(empty);
        assert_eq!(info, before);
    }

    #[test]
    fn null_is_absent() {
        let update = ServerInfoUpdate::parse(br#"{"connect_urls":null,"ldm":null}"#).unwrap();
        assert!(!update.names_connect_urls());
        assert_eq!(update.lame_duck(), None);
    }

    #[test]
    fn what_is_no_info_is_a_protocol_error() {
        let deep = format!("{{\"domain\":{}", "[".repeat(100_000));
        for bad in [
            &b""[..],
            b"null",
            b"[]",
            b"1",
            b"\"x\"",
            b"{",
            b"{}x",
            b"{\"port\":1",
            b"{\"server_id\":\"\xff\"}",
            deep.as_bytes(),
        ] {
            let error = ServerInfoUpdate::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        }
    }

    #[test]
    fn an_unknown_field_may_be_nested_to_any_depth() {
        let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse(format!("{{\"x\":{open}{close},\"port\":7}}").as_bytes()).port(), 7);
        let cut = format!("{{\"x\":{open}");
        assert!(ServerInfoUpdate::parse(cut.as_bytes()).is_err());
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named_without_its_value() {
        for (json, name) in [
            (r#"{"max_payload":"hush"}"#, "max_payload"),
            (r#"{"max_payload":-1}"#, "max_payload"),
            (r#"{"port":65536}"#, "port"),
            (r#"{"headers":1}"#, "headers"),
            (r#"{"nonce":["hush"]}"#, "nonce"),
            (r#"{"connect_urls":["hush",1]}"#, "connect_urls"),
            (r#"{"connect_urls":"hush"}"#, "connect_urls"),
        ] {
            let error = ServerInfoUpdate::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(&format!("field {name} ")), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_payload_limit_larger_than_memory_is_the_largest() {
        assert_eq!(parse(br#"{"max_payload":18446744073709551615}"#).max_payload(), usize::MAX);
    }

    #[test]
    fn debug_hides_the_nonce() {
        let update = ServerInfoUpdate::parse(FULL).unwrap();
        for shown in [format!("{update:?}"), format!("{:?}", parse(FULL))] {
            assert!(shown.contains("2.11.0") && !shown.contains("hush"), "{shown}");
        }
    }
}
