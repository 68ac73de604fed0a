//! Java's keys, as data: what each one does here, or what to use instead. The documentation of
//! [`Options::from_properties`](super::made::Options) shows the same list; a test compares them.
//!
//! Reading a value is here too. A value is shown in an error only if its key is none of a secret.

use std::time::Duration;

use super::builder::OptionsBuilder;
use super::durations;
use crate::error::{Error, ErrorKind, Result};
use crate::outbox::{OutboxPolicy, ReconnectBuffer};
use crate::protocol::quote;
use crate::server_url::ServerUrl;
use crate::transport::ResolveMode;

/// What all of Java's keys begin with; it may be left out.
pub(super) const PREFIX: &str = "io.nats.client.";

/// A key of Java's.
pub(super) struct Key {
    /// Without the prefix, and with dots where an old spelling has underscores.
    pub(super) name: &'static str,
    pub(super) meaning: Meaning,
}

/// What a key does.
pub(super) enum Meaning {
    /// Sets an option.
    Set(fn(OptionsBuilder, &Value<'_>) -> Result<OptionsBuilder>),
    /// A switch for what is always so here: both positions are accepted.
    Always,
    /// A switch that stands like this here; the text says what to use in place of the other
    /// position.
    Only(bool, &'static str),
    /// Cannot be said in a properties file; the text says what to use.
    Instead(&'static str),
}

use Meaning::{Always, Instead, Only, Set};

const fn key(name: &'static str, meaning: Meaning) -> Key {
    Key { name, meaning }
}

const THREADS: &str = "nothing: a connection has its own threads, and Connection::dispatcher \
                       starts another";
const THREAD_NAMES: &str = "OptionsBuilder::name, which also names the threads";

/// All keys, in the order in which they are applied: that of a map is nobody's wish.
pub(super) const KEYS: &[Key] = &[
    key("url", Set(servers)),
    key("servers", Set(servers)),
    key("name", Set(|builder, value| Ok(builder.name(value.text)))),
    key("username", Set(username)),
    key("password", Set(password)),
    key("token", Set(token)),
    key("timeout", Set(|b, value| Ok(b.connect_timeout(value.some_time()?)))),
    key("reconnect.max", Set(reconnect_max)),
    key("reconnect.wait", Set(|b, v| v.time(b, OptionsBuilder::reconnect_wait))),
    key("reconnect.jitter", Set(|b, v| v.time(b, OptionsBuilder::reconnect_jitter))),
    key("reconnect.jitter.tls", Set(|b, v| v.time(b, OptionsBuilder::reconnect_jitter_tls))),
    key("reconnect.buffer.size", Set(reconnect_buffer)),
    key("norandomize", Set(|b, v| v.flag(b, |b, on| b.config.pool.keep_order = on))),
    key(
        "ignore.discovered.servers",
        Set(|b, v| v.flag(b, |b, on| b.config.pool.ignore_discovered = on)),
    ),
    key("noResolveHostnames", Set(|b, v| resolve_switch(b, v, ResolveMode::First))),
    key("fast.fallback", Set(|b, v| resolve_switch(b, v, ResolveMode::All))),
    key("hostnameResolveMode", Set(resolve_mode)),
    key("pinginterval", Set(ping_interval)),
    key("maxpings", Set(max_pings)),
    key("socket.read.timeout.ms", Set(read_timeout)),
    key("socket.write.timeout", Set(|b, v| Ok(b.socket_write_timeout(v.some_time()?)))),
    key("socket.so.linger", Set(linger)),
    key("socket.receive.buffer.size", Set(|b, v| Ok(b.receive_buffer_size(v.system_size()?)))),
    key("socket.send.buffer.size", Set(|b, v| Ok(b.send_buffer_size(v.system_size()?)))),
    key("max.control.line", Set(|b, v| Ok(b.max_control_line(v.size()?)))),
    key(
        "outgoingqueue.maxmessages",
        Instead("OptionsBuilder::outbox_size, which is a number of bytes"),
    ),
    key("writeQueuePushTimeout", Set(push_timeout)),
    key("outgoingqueue.discardwhenfull", Set(discard_when_full)),
    key("cleanupinterval", Instead("the time-out that Connection::request takes")),
    key("use.old.request.style", Only(false, "Connection::request")),
    key("use.timeout.exception", Always),
    key("advanced.request.behavior", Always),
    key("reportNoResponders", Always),
    key("force.flush.on.request", Always),
    key("inbox.prefix", Set(|b, v| Ok(b.inbox_prefix(v.trimmed())))),
    key("noecho", Set(|b, v| v.flag(b, |b, on| b.config.echo = !on))),
    key("noheaders", Set(|b, v| v.flag(b, |b, on| b.config.headers = !on))),
    key("nonoresponders", Set(|b, v| v.flag(b, |b, on| b.config.no_responders = !on))),
    key("verbose", Set(|b, v| v.flag(b, |b, on| b.config.verbose = on))),
    key("pedantic", Set(|b, v| v.flag(b, |b, on| b.config.pedantic = on))),
    key("clientsidelimitchecks", Only(true, "Connection::max_payload to know the limit")),
    key("allow.utf8.subjects", Always),
    key(
        "noSubjectValidation",
        Only(
            false,
            "OptionsBuilder::strict_subjects or nothing: what breaks the protocol is refused",
        ),
    ),
    key("strictSubjectValidation", Set(|b, v| v.flag(b, |b, on| b.config.strict_subjects = on))),
    key("subjectValidationType", Set(subject_validation)),
    key("reconnect.delay.behavior", Set(delay_behavior)),
    key("reconnect.delay.handler.class", Instead("OptionsBuilder::reconnect_delay")),
    key(
        "servers.pool.implementation.class",
        Instead("OptionsBuilder::select_server, Connection::set_server_pool"),
    ),
    key("token.supplier", Instead("OptionsBuilder::token_supplier")),
    #[cfg(feature = "nkeys")]
    key("credential.path", Set(|b, value| Ok(b.credentials_file(value.text)))),
    #[cfg(not(feature = "nkeys"))]
    key("credential.path", Instead("the feature nkeys and OptionsBuilder::credentials_file")),
    #[cfg(feature = "tls")]
    key("secure", Set(|b, v| v.flag(b, |b, on| b.config.tls.require = on))),
    #[cfg(not(feature = "tls"))]
    key("secure", Only(false, "the feature tls and OptionsBuilder::require_tls")),
    #[cfg(feature = "tls")]
    key("tls.first", Set(|b, v| v.flag(b, |b, on| b.config.tls.first = on))),
    #[cfg(not(feature = "tls"))]
    key("tls.first", Only(false, "the feature tls and OptionsBuilder::tls_first")),
    key("opentls", Only(false, "OptionsBuilder::danger_accept_invalid_certs in the program")),
    key("keyStore", Instead("OptionsBuilder::client_certificate_pkcs12_file")),
    key("keyStorePassword", Instead("OptionsBuilder::client_certificate_pkcs12_file")),
    key("trustStore", Instead("OptionsBuilder::root_certificates_file, which is PEM")),
    key("trustStorePassword", Instead("OptionsBuilder::root_certificates_file, which is PEM")),
    key("tls.algorithm", Instead("nothing: the algorithms are those of the system")),
    key("ssl.context.factory.class", Instead("OptionsBuilder::root_certificates_file")),
    key("callback.connection", Instead("OptionsBuilder::connection_listener")),
    key("callback.error", Instead("OptionsBuilder::error_listener")),
    key("read.listener.class", Instead("OptionsBuilder::read_listener")),
    key("write.listener", Instead("OptionsBuilder::on_event or Connection::statistics")),
    key("time.trace", Instead("OptionsBuilder::trace_connection")),
    key("statisticscollector", Instead("Connection::statistics")),
    key("dataport.type", Instead("OptionsBuilder::server, whose scheme says how to connect")),
    key("dispatcher.factory.class", Instead("Connection::dispatcher")),
    key("use.dispatcher.with.executor", Only(false, "Connection::dispatcher")),
    key("executor.service.class", Instead(THREADS)),
    key("scheduled.executor.service.class", Instead(THREADS)),
    key("connect.executor.service.class", Instead(THREADS)),
    key("callback.executor.service.class", Instead(THREADS)),
    key("reader.executor.service.class", Instead(THREADS)),
    key("writer.executor.service.class", Instead(THREADS)),
    key("connect.thread.factory.class", Instead(THREAD_NAMES)),
    key("callback.thread.factory.class", Instead(THREAD_NAMES)),
    key("reader.thread.factory.class", Instead(THREAD_NAMES)),
    key("writer.thread.factory.class", Instead(THREAD_NAMES)),
];

/// The value of a key, with what an error says of it.
pub(super) struct Value<'a> {
    pub(super) text: &'a str,
    /// Where it stands and the key, as errors begin.
    pub(super) place: String,
    /// It is never shown.
    pub(super) secret: bool,
}

impl Value<'_> {
    pub(super) fn fault(&self, expected: &str) -> Error {
        let place = &self.place;
        let text = if self.secret {
            format!("{place}: expected {expected}")
        } else {
            let found = quote(self.trimmed().as_bytes());
            format!("{place}: expected {expected}, found {found}")
        };
        Error::new(ErrorKind::InvalidOption, text)
    }

    pub(super) fn trimmed(&self) -> &str {
        self.text.trim()
    }

    pub(super) fn boolean(&self) -> Result<bool> {
        match self.trimmed() {
            text if text.eq_ignore_ascii_case("true") => Ok(true),
            text if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(self.fault("true or false")),
        }
    }

    fn flag(
        &self,
        mut builder: OptionsBuilder,
        set: fn(&mut OptionsBuilder, bool),
    ) -> Result<OptionsBuilder> {
        set(&mut builder, self.boolean()?);
        Ok(builder)
    }

    fn number(&self, expected: &str) -> Result<i64> {
        self.trimmed().parse().map_err(|_| self.fault(expected))
    }

    /// Milliseconds or ISO 8601.
    fn duration(&self) -> Option<Duration> {
        let text = self.trimmed();
        text.parse().ok().map(Duration::from_millis).or_else(|| durations::iso8601(text))
    }

    /// A time, which -1 leaves as it is.
    fn time(
        &self,
        builder: OptionsBuilder,
        set: fn(OptionsBuilder, Duration) -> OptionsBuilder,
    ) -> Result<OptionsBuilder> {
        if self.trimmed() == "-1" {
            return Ok(builder);
        }
        let expected = "milliseconds, an ISO 8601 duration such as PT2S, or -1 for the default";
        Ok(set(builder, self.duration().ok_or_else(|| self.fault(expected))?))
    }

    /// A time that is not zero.
    fn some_time(&self) -> Result<Duration> {
        let expected = "milliseconds above zero, or an ISO 8601 duration such as PT2S";
        let time = self.duration().filter(|time| !time.is_zero());
        time.ok_or_else(|| self.fault(expected))
    }

    fn size(&self) -> Result<usize> {
        let size = self.trimmed().parse().ok().filter(|size| *size > 0);
        size.ok_or_else(|| self.fault("a number of bytes above zero"))
    }

    /// A size, or -1 for what the system chooses.
    fn system_size(&self) -> Result<Option<usize>> {
        match self.trimmed() {
            "-1" => Ok(None),
            text => match text.parse() {
                Ok(size) if size > 0 => Ok(Some(size)),
                _ => Err(self.fault("a number of bytes above zero, or -1 for the system's choice")),
            },
        }
    }
}

fn servers(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    let urls = ServerUrl::parse_list(value.text).map_err(|error| {
        let text = format!("{}: {error}", value.place);
        Error::caused_by(ErrorKind::InvalidUrl, text, error)
    })?;
    if urls.is_empty() {
        let text = format!("{}: the list of servers is empty", value.place);
        return Err(Error::new(ErrorKind::InvalidUrl, text));
    }
    Ok(builder.servers(value.text))
}

/// Applied before the password; one that was given earlier stays.
fn username(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    let password = builder.known_user().map(|(_, password)| password).unwrap_or_default();
    Ok(builder.user_and_password(value.text, password))
}

fn password(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    let Some((user, _)) = builder.known_user() else {
        let text = format!("{}: a password without a user name", value.place);
        return Err(Error::new(ErrorKind::InvalidOption, text));
    };
    Ok(builder.user_and_password(user, value.text))
}

fn token(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    // As Java: a token of blanks is none.
    Ok(if value.trimmed().is_empty() { builder } else { builder.token(value.text) })
}

fn reconnect_max(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    let expected = "a number of attempts, 0 for none, or -1 for no limit";
    match value.number(expected)? {
        -1 => Ok(builder.max_reconnects(None)),
        number => match u32::try_from(number) {
            Ok(number) => Ok(builder.max_reconnects(number)),
            Err(_) => Err(value.fault(expected)),
        },
    }
}

fn reconnect_buffer(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    let expected = "a number of bytes, 0 for none, or -1 for no limit";
    let buffer = match value.number(expected)? {
        -1 => ReconnectBuffer::Bytes(usize::MAX),
        0 => ReconnectBuffer::Off,
        number => match usize::try_from(number) {
            Ok(number) => ReconnectBuffer::Bytes(number),
            Err(_) => return Err(value.fault(expected)),
        },
    };
    Ok(builder.reconnect_buffer(buffer))
}

fn resolve_switch(
    builder: OptionsBuilder,
    value: &Value<'_>,
    mode: ResolveMode,
) -> Result<OptionsBuilder> {
    Ok(if value.boolean()? { builder.resolve_mode(mode) } else { builder })
}

fn resolve_mode(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    let mode = match value.trimmed().to_ascii_lowercase().as_str() {
        "resolvetoall" | "resolvetoallincludeipv6" | "happyeyeballs" => ResolveMode::All,
        "resolvetofirst" | "resolvetofirstincludeipv6" => ResolveMode::First,
        _ => {
            let expected = "ResolveToAll, ResolveToFirst (both with or without IncludeIPV6) or \
                            HappyEyeballs; OptionsBuilder::resolve_mode has more";
            return Err(value.fault(expected));
        }
    };
    Ok(builder.resolve_mode(mode))
}

fn ping_interval(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    let expected = "milliseconds, an ISO 8601 duration such as PT2M, or 0 for no pings";
    let interval = value.duration().ok_or_else(|| value.fault(expected))?;
    Ok(builder.ping_interval((!interval.is_zero()).then_some(interval)))
}

fn max_pings(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    let expected = "a number of pings, or 0 for any number";
    let pings = value.number(expected)?;
    match u32::try_from(pings.max(0)) {
        Ok(pings) => Ok(builder.max_pings_out((pings > 0).then_some(pings))),
        Err(_) => Err(value.fault(expected)),
    }
}

fn read_timeout(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    match value.trimmed() {
        "0" | "-1" => Ok(builder),
        _ => Err(value.fault("0: silence is noticed by OptionsBuilder::ping_interval")),
    }
}

fn linger(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    match value.trimmed() {
        "0" | "-1" => Ok(builder),
        _ => Err(value.fault("-1: OptionsBuilder::close_timeout bounds what closing waits")),
    }
}

fn push_timeout(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    if value.trimmed() == "-1" {
        return Ok(builder);
    }
    Ok(builder.outbox_policy(OutboxPolicy::Block(value.some_time()?)))
}

/// Applied after the time that a publisher waits.
fn discard_when_full(builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    if value.boolean()? {
        return Ok(builder.outbox_policy(OutboxPolicy::DropNewest));
    }
    let drops = builder.config.outbox.policy == OutboxPolicy::DropNewest;
    let default = OptionsBuilder::default().config.outbox.policy;
    Ok(if drops { builder.outbox_policy(default) } else { builder })
}

fn subject_validation(mut builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    builder.config.strict_subjects = match value.trimmed().to_ascii_lowercase().as_str() {
        "lenient" => false,
        "strict" => true,
        _ => return Err(value.fault("Lenient or Strict: some checks there are always")),
    };
    Ok(builder)
}

fn delay_behavior(mut builder: OptionsBuilder, value: &Value<'_>) -> Result<OptionsBuilder> {
    builder.config.wait_before_reconnect = match value.trimmed().to_ascii_lowercase().as_str() {
        "beforesubsequentrounds" => false,
        "beforeallrounds" => true,
        _ => return Err(value.fault("BeforeSubsequentRounds or BeforeAllRounds")),
    };
    Ok(builder)
}
