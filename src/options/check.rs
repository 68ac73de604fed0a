//! What no setting may be: every value is looked at before anything is sent.

use std::time::Duration;

use crate::core::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::check_inbox_prefix;

/// Ten years: no setting that is meant is longer, and every deadline can be computed.
const LONGEST: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 10);

pub(crate) fn check(config: &Config) -> Result<()> {
    let bad = |text: String| Err(Error::new(ErrorKind::InvalidOption, text));
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
    let sizes = [
        ("outbox_size", config.outbox.limit),
        ("max_control_line", config.outbox.control_line),
        ("max_incoming_control_line", config.limits.control_line),
        ("send_buffer_size", config.tcp.send_buffer.unwrap_or(1)),
        ("receive_buffer_size", config.tcp.receive_buffer.unwrap_or(1)),
    ];
    for (name, value) in sizes {
        if value == 0 {
            return bad(format!("{name} is zero"));
        }
    }
    if config.max_pings_out == Some(0) {
        return bad("max_pings_out is zero: every silence would be a loss".to_owned());
    }
    if config.name.as_ref().is_some_and(|name| name.contains('\0')) {
        return bad("name holds a NUL, which a thread name cannot hold".to_owned());
    }
    config.credentials.check()?;
    config.tls.check()?;
    check_inbox_prefix(&config.inbox_prefix)?;
    let (prefix, line) = (config.inbox_prefix.len(), config.outbox.control_line);
    if prefix.saturating_add(AROUND_PREFIX) > line {
        let text = "with a unique part the inbox prefix does not fit into the control line";
        return bad(format!("{text}: {prefix} bytes of {line}"));
    }
    Ok(())
}

/// What stands around the inbox prefix in the longest line of a connection's own, a SUB: operation,
/// unique part, token, sid and blanks.
const AROUND_PREFIX: usize = 80;
