//! What no setting may be: every value is looked at before anything is sent.

use std::time::Duration;

use crate::core::{Config, RetryConnect};
use crate::error::{Error, ErrorKind, Result};
use crate::outbox::{OutboxPolicy, ReconnectBuffer};
use crate::protocol::check_inbox_prefix;

/// Ten years: no setting that is meant is longer, and every deadline can be computed.
const LONGEST: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 10);

pub(crate) fn check(config: &Config) -> Result<()> {
    check_times(config)?;
    check_sizes(config)?;
    if config.reconnect_on_lame_duck && !config.reconnect {
        let text =
            "reconnect_on_lame_duck needs reconnecting, which max_reconnects(0) switches off";
        return bad(text.to_owned());
    }
    if config.max_pings_out == Some(0) {
        return bad("max_pings_out is zero: every silence would be a loss".to_owned());
    }
    if config.name.as_ref().is_some_and(|name| name.contains('\0')) {
        return bad("name holds a NUL, which a thread name cannot hold".to_owned());
    }
    config.authorization.check()?;
    config.tls.check()?;
    config.websocket.check()?;
    check_inbox_prefix(&config.inbox_prefix)?;
    let (prefix, line) = (config.inbox_prefix.len(), config.outbox.control_line);
    if prefix.saturating_add(AROUND_PREFIX) > line {
        let text = "with a unique part the inbox prefix does not fit into the control line";
        return bad(format!("{text}: {prefix} bytes of {line}"));
    }
    Ok(())
}

fn bad(text: String) -> Result<()> {
    Err(Error::new(ErrorKind::InvalidOption, text))
}

fn check_times(config: &Config) -> Result<()> {
    let positive = [
        ("connect_timeout", config.connect_timeout),
        ("close_timeout", config.close_timeout),
        ("socket_write_timeout", config.write_timeout),
        ("ping_interval", config.ping_interval.unwrap_or(Duration::from_secs(1))),
    ];
    for (name, value) in positive {
        if value.is_zero() {
            return bad(format!("{name} is zero"));
        }
    }
    let any = [
        ("reconnect_wait", config.reconnect_wait),
        ("reconnect_jitter", config.reconnect_jitter),
        ("reconnect_jitter_tls", config.reconnect_jitter_tls),
    ];
    for (name, value) in positive.into_iter().chain(any) {
        if value > LONGEST {
            return bad(format!("{name} is longer than ten years"));
        }
    }
    if config.retry_connect == Some(RetryConnect::Within(Duration::ZERO)) {
        return bad("retry_on_failed_connect: within zero time nothing can be retried".to_owned());
    }
    // What the kernel can be told: whole seconds, in 15 bits.
    let probes = Duration::from_secs(1)..=Duration::from_secs(32_767);
    if config.tcp.keepalive.is_some_and(|time| !probes.contains(&time)) {
        return bad("tcp_keepalive is not between 1 and 32,767 seconds".to_owned());
    }
    if config.outbox.policy == OutboxPolicy::Block(Duration::ZERO) {
        return bad("outbox_policy blocks for no time: OutboxPolicy::Error says so".to_owned());
    }
    Ok(())
}

fn check_sizes(config: &Config) -> Result<()> {
    let sizes = [
        ("outbox_size", config.outbox.limit),
        ("max_control_line", config.outbox.control_line),
        ("max_incoming_control_line", config.limits.control_line),
        ("max_incoming_payload", config.limits.payload),
        ("send_buffer_size", config.tcp.send_buffer.unwrap_or(1)),
        ("receive_buffer_size", config.tcp.receive_buffer.unwrap_or(1)),
    ];
    for (name, value) in sizes {
        if value == 0 {
            return bad(format!("{name} is zero"));
        }
    }
    if u32::try_from(config.limits.control_line).is_err() {
        return bad("max_incoming_control_line is 4 GiB or more".to_owned());
    }
    if config.outbox.reconnect_buffer == ReconnectBuffer::Bytes(0) {
        return bad("reconnect_buffer is zero bytes: ReconnectBuffer::Off says so".to_owned());
    }
    Ok(())
}

/// What stands around the inbox prefix in the longest line of a connection's own, a SUB: operation,
/// unique part, token, sid and blanks.
const AROUND_PREFIX: usize = 80;
