//! Options from properties: a text or a file in Java's format, or pairs, with Java's keys.
//!
//! What a key does is said in `property_keys`; here is which key is meant, which of two spellings
//! wins, and what an error says. The result does not depend on the order of a map.

use std::path::Path;

use super::builder::OptionsBuilder;
use super::made::Options;
use super::property_keys::{KEYS, Key, Meaning, PREFIX, Value};
use super::property_text::{Property, parse};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::quote;

/// Options from properties.
impl Options {
    /// Starts with the defaults and applies the text of a properties file: comments behind `#` and
    /// `!`, `key=value`, `key: value`, escapes with a backslash, lines that go on behind one. The
    /// text is UTF-8.
    ///
    /// The keys are those of the Java client. Each is understood, or refused with the name of what
    /// to use instead; a key that begins with `io.nats.client.` and is not Java's is an error that
    /// names the nearest, if one is near. Every other key is left alone, so that the file can be
    /// shared with the rest of the program.
    ///
    /// The prefix `io.nats.client.` may be left out, as in Java; in a file that is shared write it,
    /// for `url` or `name` may mean something else there. With it wins over without; of two lines
    /// with the same key the last wins. Underscores in a key count as dots.
    ///
    /// Times are in milliseconds or ISO 8601 (`PT2S`). A wait, a jitter or a push time-out of -1 is
    /// left as it is; otherwise a negative number means what the table says, or is refused.
    ///
    /// In the table every key has the prefix. A switch is `true` or `false`, and `false` undoes
    /// what was set before.
    ///
    #[doc = include_str!("properties.md")]
    ///
    /// Departures from Java's defaults: reconnecting has no limit (there 60 attempts), the jitter
    /// is 1 s (100 ms), the send buffer 256 KiB (2 MiB), IPv6 is tried too, the outbox is limited
    /// in bytes (messages).
    ///
    /// Options that Java does not have are set with the methods of the builder that this returns.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`](ErrorKind::InvalidOption) and [`InvalidUrl`](ErrorKind::InvalidUrl),
    /// naming the line, the key and what was expected, never the value of a password or token.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use nats_blocking::Options;
    ///
    /// let text = "
    /// ## the servers
    /// io.nats.client.servers = nats://one:4222, nats://two:4222
    /// io.nats.client.reconnect.wait = PT0.5S
    /// io.nats.client.noecho = true
    /// database.url = not ours
    /// ";
    /// // What is called later wins.
    /// let options = Options::from_properties(text)?
    ///     .reconnect_wait(Duration::from_secs(1))
    ///     .build()?;
    ///
    /// let error = Options::from_properties("io.nats.client.pingInterval=1").unwrap_err();
    /// assert!(error.to_string().contains("did you mean io.nats.client.pinginterval?"));
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn from_properties(text: &str) -> Result<OptionsBuilder> {
        Self::builder().properties(text)
    }

    /// Starts with the defaults and applies a properties file, which is UTF-8; see
    /// [`from_properties`](Self::from_properties).
    ///
    /// # Blocking
    ///
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if it cannot be read; otherwise those of
    /// [`from_properties`](Self::from_properties), naming the file.
    ///
    /// ```no_run
    /// use nats_blocking::Options;
    ///
    /// let connection = Options::from_properties_file("nats.properties")?.connect()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn from_properties_file(path: impl AsRef<Path>) -> Result<OptionsBuilder> {
        Self::builder().properties_file(path)
    }

    /// Starts with the defaults and applies pairs of a key and a value, such as a map has; see
    /// [`from_properties`](Self::from_properties).
    ///
    /// # Errors
    ///
    /// Those of [`from_properties`](Self::from_properties), without lines.
    ///
    /// ```
    /// use std::collections::HashMap;
    ///
    /// use nats_blocking::Options;
    ///
    /// let mut map = HashMap::new();
    /// map.insert("io.nats.client.url", "localhost");
    /// map.insert("io.nats.client.maxpings", "3");
    /// let options = Options::from_property_pairs(map)?.build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn from_property_pairs<K, V>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<OptionsBuilder>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        Self::builder().property_pairs(pairs)
    }
}

/// Options from properties, on top of what is set already.
impl OptionsBuilder {
    /// Applies the text of a properties file on top of what is set already; see
    /// [`Options::from_properties`].
    ///
    /// # Errors
    ///
    /// Those of [`Options::from_properties`].
    pub fn properties(self, text: &str) -> Result<Self> {
        apply(self, &parse(text, "properties")?, "properties")
    }

    /// Applies a properties file on top of what is set already; see
    /// [`Options::from_properties_file`]. Reads the file.
    ///
    /// # Errors
    ///
    /// Those of [`Options::from_properties_file`].
    pub fn properties_file(self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let source = format!("properties file '{}'", path.display());
        let bytes = std::fs::read(path).map_err(|error| Error::io(&source, error))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.as_bytes().get(..error.utf8_error().valid_up_to());
            let line = valid.unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() + 1;
            let text = format!("{source}, line {line}: the file is not UTF-8");
            Error::new(ErrorKind::InvalidOption, text)
        })?;
        apply(self, &parse(&text, &source)?, &source)
    }

    /// Applies pairs of a key and a value on top of what is set already; see
    /// [`Options::from_property_pairs`].
    ///
    /// # Errors
    ///
    /// Those of [`Options::from_property_pairs`].
    pub fn property_pairs<K, V>(self, pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let pairs = pairs.into_iter().map(|(key, value)| Property {
            key: key.as_ref().to_owned(),
            value: value.as_ref().to_owned(),
            line: None,
        });
        apply(self, &pairs.collect::<Vec<_>>(), "")
    }
}

fn apply(
    mut builder: OptionsBuilder,
    properties: &[Property],
    source: &str,
) -> Result<OptionsBuilder> {
    let mut known: Vec<(&Key, bool, &Property)> = Vec::new();
    for property in properties {
        let bare = property.key.strip_prefix(PREFIX);
        let name = bare.unwrap_or(&property.key).replace('_', ".");
        match KEYS.iter().find(|key| key.name == name) {
            Some(key) => known.push((key, bare.is_some(), property)),
            None if bare.is_some() => return Err(unknown(property, &name, source)),
            None => {}
        }
    }
    for key in KEYS {
        let mut meant = known.iter().filter(|(found, _, _)| found.name == key.name);
        let prefixed = meant.clone().rfind(|(_, prefixed, _)| *prefixed);
        if let Some((_, _, property)) = prefixed.or_else(|| meant.next_back()) {
            builder = set(builder, key, property, source)?;
        }
    }
    Ok(builder)
}

fn set(
    builder: OptionsBuilder,
    key: &Key,
    property: &Property,
    source: &str,
) -> Result<OptionsBuilder> {
    let secret =
        matches!(key.name, "username" | "password" | "token") || key.name.ends_with("Password");
    let place = place(property, &format!("{PREFIX}{}", key.name), source);
    let value = Value { text: &property.value, place, secret };
    let refuse =
        |why: String| Err(Error::new(ErrorKind::InvalidOption, format!("{}: {why}", value.place)));
    match key.meaning {
        Meaning::Set(set) => set(builder, &value),
        Meaning::Always => value.boolean().map(|_| builder),
        Meaning::Only(on, _) if value.boolean()? == on => Ok(builder),
        Meaning::Only(on, instead) => refuse(format!("always {on} here; use {instead}")),
        Meaning::Instead(instead) => {
            refuse(format!("this cannot be set by a property; use {instead}"))
        }
    }
}

/// How an error about a property begins: where it stands, and its key.
fn place(property: &Property, key: &str, source: &str) -> String {
    match property.line {
        Some(line) => format!("{source}, line {line}: {key}"),
        None => key.to_owned(),
    }
}

#[cold]
fn unknown(property: &Property, name: &str, source: &str) -> Error {
    let shown = quote(property.key.as_bytes());
    let nearest = KEYS.iter().map(|key| (distance(key.name, name), key.name)).min();
    let hint = match nearest {
        Some((steps, near)) if steps <= near.len() / 4 + 1 => {
            format!("; did you mean {PREFIX}{near}?")
        }
        _ => String::new(),
    };
    let place = place(property, &shown, source);
    Error::new(ErrorKind::InvalidOption, format!("{place} is no known key{hint}"))
}

/// How many characters must be added, removed or changed; the case does not count.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, c) in one.to_lowercase().chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (above, d) in row.iter_mut().skip(1).zip(&other) {
            let changed = diagonal + usize::from(c != *d);
            diagonal = *above;
            left = changed.min(left + 1).min(*above + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;

    /// Java's keys without the prefix, each with a value, and what `Debug` shows of it, or what the
    /// refusal names.
    const JAVA: &[(&str, &str, std::result::Result<&str, &str>)] = &[
        ("url", "tls://a:1", Ok("servers: [tls://a:1]")),
        ("servers", "a,b", Ok("servers: [nats://a:4222, nats://b:4222]")),
        ("name", "me", Ok("name: Some(\"me\")")),
        ("username", "joe", Ok("user_and_password")),
        ("token", "t", Ok("\"token\"")),
        ("timeout", "1234", Ok("connect_timeout: 1.234s")),
        ("reconnect.max", "7", Ok("max_attempts: Some(7)")),
        ("reconnect.wait", "PT3S", Ok("reconnect_wait: 3s")),
        ("reconnect.jitter", "0", Ok("reconnect_jitter: 0ns")),
        ("reconnect.jitter.tls", "77", Ok("reconnect_jitter_tls: 77ms")),
        ("reconnect.buffer.size", "0", Ok("reconnect_buffer: Off")),
        ("norandomize", "true", Ok("keep_order: true")),
        ("ignore.discovered.servers", "TRUE", Ok("ignore_discovered: true")),
        ("ignore_discovered_servers", "true", Ok("ignore_discovered: true")),
        ("hostnameResolveMode", "ResolveToFirst", Ok("resolve_mode: First")),
        ("noResolveHostnames", "true", Ok("resolve_mode: First")),
        ("fast.fallback", "true", Ok("resolve_mode: All")),
        ("pinginterval", "0", Ok("ping_interval: None")),
        ("maxpings", "5", Ok("max_pings_out: Some(5)")),
        ("socket.read.timeout.ms", "0", Ok("")),
        ("socket.read.timeout.ms", "100", Err("OptionsBuilder::ping_interval")),
        ("socket.write.timeout", "PT5S", Ok("write_timeout: 5s")),
        ("socket.so.linger", "-1", Ok("")),
        ("socket.so.linger", "1", Err("OptionsBuilder::close_timeout")),
        ("socket.receive.buffer.size", "999", Ok("receive_buffer: Some(999)")),
        ("socket.send.buffer.size", "-1", Ok("send_buffer: None")),
        ("max.control.line", "999", Ok("control_line: 999")),
        ("outgoingqueue.maxmessages", "5000", Err("OptionsBuilder::outbox_size")),
        ("outgoingqueue.discardwhenfull", "true", Ok("policy: DropNewest")),
        ("writeQueuePushTimeout", "4321", Ok("policy: Block(4.321s)")),
        ("cleanupinterval", "5000", Err("Connection::request")),
        ("use.old.request.style", "true", Err("Connection::request")),
        ("use.timeout.exception", "true", Ok("")),
        ("advanced.request.behavior", "true", Ok("")),
        ("reportNoResponders", "true", Ok("")),
        ("force.flush.on.request", "false", Ok("")),
        ("inbox.prefix", "mine.", Ok("inbox_prefix: \"mine\"")),
        ("noecho", "true", Ok("echo: false")),
        ("noheaders", "true", Ok("headers: false")),
        ("nonoresponders", "true", Ok("no_responders: false")),
        ("verbose", "true", Ok("verbose: true")),
        ("pedantic", "true", Ok("pedantic: true")),
        ("clientsidelimitchecks", "true", Ok("")),
        ("clientsidelimitchecks", "false", Err("Connection::max_payload")),
        ("allow.utf8.subjects", "true", Ok("")),
        ("subjectValidationType", "strict", Ok("strict_subjects: true")),
        ("subjectValidationType", "None", Err("Lenient or Strict")),
        ("noSubjectValidation", "true", Err("OptionsBuilder::strict_subjects")),
        ("strictSubjectValidation", "true", Ok("strict_subjects: true")),
        ("reconnect.delay.handler.class", "a.B", Err("OptionsBuilder::reconnect_delay")),
        ("reconnect.delay.behavior", "BeforeSubsequentRounds", Ok("wait_before_reconnect: false")),
        ("reconnect.delay.behavior", "BeforeAllRounds", Ok("wait_before_reconnect: true")),
        ("reconnect.delay.behavior", "Never", Err("BeforeAllRounds")),
        ("servers_pool_implementation_class", "a.B", Err("OptionsBuilder::select_server")),
        ("servers.pool.implementation.class", "a.B", Err("Connection::set_server_pool")),
        ("token.supplier", "a.B", Err("OptionsBuilder::token_supplier")),
        ("credential.path", "a.creds", Ok("credentials_file")),
        ("ssl.context.factory.class", "a.B", Err("OptionsBuilder::root_certificates_file")),
        ("secure", "true", Ok("require: true")),
        ("opentls", "true", Err("OptionsBuilder::danger_accept_invalid_certs")),
        ("opentls", "false", Ok("")),
        ("keyStore", "a.p12", Err("OptionsBuilder::client_certificate_pkcs12_file")),
        ("keyStorePassword", "hunter2", Err("OptionsBuilder::client_certificate_pkcs12_file")),
        ("trustStore", "a.jks", Err("OptionsBuilder::root_certificates_file")),
        ("trustStorePassword", "hunter2", Err("OptionsBuilder::root_certificates_file")),
        ("tls.algorithm", "SunX509", Err("those of the system")),
        ("tls.first", "true", Ok("first: true")),
        ("dataport.type", "a.B", Err("OptionsBuilder::server")),
        ("callback.connection", "a.B", Err("OptionsBuilder::connection_listener")),
        ("callback.error", "a.B", Err("OptionsBuilder::error_listener")),
        ("read.listener.class", "a.B", Err("OptionsBuilder::read_listener")),
        ("write.listener", "a.B", Err("Connection::statistics")),
        ("time.trace", "a.B", Err("OptionsBuilder::trace_connection")),
        ("statisticscollector", "a.B", Err("Connection::statistics")),
        ("dispatcher.factory.class", "a.B", Err("Connection::dispatcher")),
        ("use.dispatcher.with.executor", "true", Err("Connection::dispatcher")),
        ("executor.service.class", "a.B", Err("Connection::dispatcher")),
        ("scheduled.executor.service.class", "a.B", Err("Connection::dispatcher")),
        ("connect.executor.service.class", "a.B", Err("Connection::dispatcher")),
        ("callback.executor.service.class", "a.B", Err("Connection::dispatcher")),
        ("reader.executor.service.class", "a.B", Err("Connection::dispatcher")),
        ("writer.executor.service.class", "a.B", Err("Connection::dispatcher")),
        ("connect.thread.factory.class", "a.B", Err("OptionsBuilder::name")),
        ("callback.thread.factory.class", "a.B", Err("OptionsBuilder::name")),
        ("reader.thread.factory.class", "a.B", Err("OptionsBuilder::name")),
        ("writer.thread.factory.class", "a.B", Err("OptionsBuilder::name")),
    ];

    /// A password needs a user name beside it, so it has no line of its own above.
    const WITH_OTHERS: &str = "password";

    fn one(key: &str, value: &str) -> Result<OptionsBuilder> {
        Options::from_property_pairs([(key, value)])
    }

    fn shown(builder: &OptionsBuilder) -> String {
        format!("{builder:?}")
    }

    fn refusal(result: Result<OptionsBuilder>) -> String {
        let error = result.and_then(OptionsBuilder::build).expect_err("a refusal");
        assert!(
            matches!(error.kind(), ErrorKind::InvalidOption | ErrorKind::InvalidUrl),
            "{error:?}"
        );
        error.to_string()
    }

    #[test]
    fn every_key_of_java_is_understood_or_refused_with_what_to_use() {
        for (name, value, expected) in JAVA {
            for key in [format!("{PREFIX}{name}"), (*name).to_owned()] {
                match expected {
                    Ok(part) => {
                        let builder = one(&key, value).expect(&key);
                        assert!(shown(&builder).contains(part), "{key}: {part} in {builder:?}");
                        builder.build().expect(&key);
                    }
                    Err(part) => {
                        let error = refusal(one(&key, value));
                        assert!(error.contains(part), "{key}: {part} in {error}");
                        assert!(error.contains(&name.replace('_', ".")), "{key} in {error}");
                        assert!(!error.contains("hunter2"), "{error}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_tables_of_the_code_the_tests_and_the_documentation_name_the_same_keys() {
        let documented = include_str!("properties.md");
        for key in KEYS {
            let tested = JAVA.iter().any(|(name, ..)| *name == key.name);
            assert!(tested || key.name == WITH_OTHERS, "{}", key.name);
            // Of keys that differ in the first word only, the words are in the table.
            let whole = documented.contains(&format!("`{}`", key.name));
            let (first, rest) = key.name.split_once('.').unwrap_or((key.name, ""));
            let common = rest == "executor.service.class" || rest == "thread.factory.class";
            let parts = common && documented.contains(&format!("`{first}.`"));
            assert!(whole || parts, "{} is not in properties.md", key.name);
        }
        for (name, ..) in JAVA {
            let name = name.replace('_', ".");
            assert!(KEYS.iter().any(|key| key.name == name), "{name}");
        }
    }

    #[test]
    fn values_that_cannot_be_used_are_refused_with_key_and_expectation() {
        for (name, value, part) in [
            ("reconnect.max", "-2", "-1 for no limit"),
            ("reconnect.max", "many", "found 'many'"),
            ("reconnect.max", "", "a number of attempts"),
            ("reconnect.max", "4294967296", "a number of attempts"),
            ("reconnect.wait", "-2", "-1 for the default"),
            ("reconnect.wait", "2s", "ISO 8601"),
            ("reconnect.wait", "99999999999999999", "reconnect_wait"),
            ("timeout", "0", "above zero"),
            ("timeout", "-1", "above zero"),
            ("pinginterval", "-1", "0 for no pings"),
            ("socket.write.timeout", "0", "above zero"),
            ("writeQueuePushTimeout", "0", "above zero"),
            ("reconnect.buffer.size", "-2", "-1 for no limit"),
            ("socket.send.buffer.size", "0", "above zero"),
            ("socket.receive.buffer.size", "-2", "above zero"),
            ("max.control.line", "0", "above zero"),
            ("noecho", "yes", "true or false"),
            ("use.timeout.exception", "1", "true or false"),
            ("secure", "maybe", "true or false"),
            ("hostnameResolveMode", "Unresolved", "ResolveToAll"),
            ("subjectValidationType", "", "Lenient or Strict"),
            ("url", "http://host", "scheme 'http'"),
            ("servers", " , ", "the list of servers is empty"),
            ("inbox.prefix", "a.*", "inbox prefix"),
            ("password", "hunter2", "without a user name"),
        ] {
            let error = refusal(one(&format!("{PREFIX}{name}"), value));
            assert!(error.contains(part), "{name}: {part} in {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let both = [("token", "hunter2"), ("username", "joe"), ("password", "hunter2")];
        let error = refusal(Options::from_property_pairs(both));
        assert!(error.contains("token") && !error.contains("hunter2"), "{error}");
        let url = refusal(one("io.nats.client.url", "nats://joe:hunter2@host:port"));
        assert!(url.starts_with("io.nats.client.url: ") && !url.contains("hunter2"), "{url}");
    }

    #[test]
    fn special_numbers_mean_what_java_says() {
        let shown = |name: &str, value: &str| {
            let before = Options::builder()
                .max_reconnects(3)
                .reconnect_wait(Duration::from_secs(9))
                .receive_buffer_size(1);
            shown(&before.property_pairs([(name, value)]).expect(name))
        };
        assert!(shown("reconnect.max", "-1").contains("max_attempts: None"));
        assert!(shown("reconnect.max", "0").contains("reconnect: false"));
        assert!(shown("reconnect.wait", "-1").contains("reconnect_wait: 9s"));
        assert!(shown("maxpings", "-1").contains("max_pings_out: None"));
        assert!(shown("socket.receive.buffer.size", "-1").contains("receive_buffer: None"));
        let unlimited = format!("Bytes({})", usize::MAX);
        assert!(shown("reconnect.buffer.size", "-1").contains(&unlimited));
    }

    #[test]
    fn an_unknown_key_under_the_prefix_is_an_error_with_line_and_nearest_key() {
        let error = refusal(Options::from_properties("# \n\nio.nats.client.max-pings=hunter2"));
        assert_eq!(
            error,
            "properties, line 3: 'io.nats.client.max-pings' is no known key; did you mean \
             io.nats.client.maxpings?"
        );
        let far = refusal(one("io.nats.client.colour.of.the.logo", "hunter2"));
        assert_eq!(far, "'io.nats.client.colour.of.the.logo' is no known key");
        // Whatever else is in a shared file is not ours, with or without dots.
        let other = Options::from_properties("io.nats.clients.x=1\nmaxping=2\n=3\nspring.url=4");
        assert_eq!(shown(&other.expect("others")), shown(&Options::builder()));
    }

    #[test]
    fn the_last_wins_in_a_text_and_among_calls_and_the_prefix_wins_over_none() {
        let text = "name=a\nio.nats.client.name=b\nio.nats.client.name=c\nname=d";
        let builder = Options::from_properties(text).expect("options");
        assert!(shown(&builder).contains("\"c\""));
        let builder = builder.properties("name=e").expect("options");
        assert!(shown(&builder).contains("\"e\""));
        assert!(shown(&builder.clone().name("f")).contains("\"f\""));
        // A switch goes both ways.
        let switches = "noecho=false\nverbose=false\noutgoingqueue.discardwhenfull=false";
        let on = Options::from_properties(&switches.replace("false", "true")).expect("on");
        let off = on.properties(switches).expect("off");
        assert_eq!(shown(&off), shown(&Options::builder()));
        // Servers add up, as with the methods.
        let more = builder.server("one").properties("url=two\nservers=three").expect("more");
        assert_eq!(more.build().expect("options").config.servers.len(), 3);
    }

    #[test]
    fn user_and_password_come_together_or_one_after_the_other() {
        let login = |builder: OptionsBuilder| {
            builder.known_user().map(|(user, password)| format!("{user}/{password}"))
        };
        // In whatever order the map has them.
        let map = HashMap::from([("password", " p w "), ("username", "joe")]);
        let builder = Options::from_property_pairs(&map).expect("options");
        assert_eq!(login(builder.clone()).as_deref(), Some("joe/ p w "));
        let secret = builder.clone().properties("password=new").expect("options");
        assert_eq!(login(secret).as_deref(), Some("joe/new"));
        assert!(!shown(&builder).contains("joe"), "{builder:?}");
        assert!(shown(&one("url", "u:hunter2@h").expect("url")).contains("[nats://h:4222]"));
    }

    #[test]
    fn a_file_is_read_and_named_when_it_cannot_be() {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("nats-blocking-{}.properties", std::process::id()));
        std::fs::write(&path, "name=grüße\nurl=a\n").expect("a file");
        let builder = Options::from_properties_file(&path).expect("options");
        assert!(shown(&builder).contains("grüße"));
        std::fs::write(&path, b"name=a\nname=gr\xfc\xdfe\n").expect("a file");
        let latin = refusal(Options::from_properties_file(&path));
        assert!(latin.contains(".properties', line 2: the file is not UTF-8"), "{latin}");
        std::fs::write(&path, "\nio.nats.client.noecho=x").expect("a file");
        let value = refusal(Options::from_properties_file(&path));
        assert!(value.contains(".properties', line 2: io.nats.client.noecho: "), "{value}");
        std::fs::remove_file(&path).expect("no file");
        let gone = Options::from_properties_file(&path).expect_err("no file");
        assert_eq!(gone.kind(), ErrorKind::Io);
        assert!(gone.to_string().contains(".properties'"), "{gone}");
    }
}
