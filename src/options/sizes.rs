//! Sizes and limits.

use super::builder::OptionsBuilder;
use crate::outbox::{OutboxPolicy, ReconnectBuffer};
use crate::subscriptions::PendingLimits;

/// Sizes and limits.
impl OptionsBuilder {
    /// The bytes that may wait to be written while connected. Default 8 MiB.
    pub fn outbox_size(mut self, bytes: usize) -> Self {
        self.config.outbox.limit = bytes;
        self
    }

    /// What a publisher does when the outbox is full, or fills. Default: wait up to 2 s.
    pub fn outbox_policy(mut self, policy: OutboxPolicy) -> Self {
        self.config.outbox.policy = policy;
        self
    }

    /// What may wait while the connection is down. Default 8 MiB.
    ///
    /// ```
    /// use nats_blocking::{Options, OptionsBuilder, OutboxPolicy, ReconnectBuffer};
    ///
    /// let options: OptionsBuilder = Options::builder()
    ///     .outbox_policy(OutboxPolicy::Error)
    ///     .reconnect_buffer(ReconnectBuffer::Bytes(64 * 1024));
    /// assert!(options.build().is_ok());
    /// ```
    pub fn reconnect_buffer(mut self, buffer: ReconnectBuffer) -> Self {
        self.config.outbox.reconnect_buffer = buffer;
        self
    }

    /// The longest protocol line that is sent, in bytes. Default 4096, that of the server.
    pub fn max_control_line(mut self, bytes: usize) -> Self {
        self.config.outbox.control_line = bytes;
        self
    }

    /// The longest protocol line that is accepted from the server, in bytes; INFO has a limit of
    /// 1 MiB of its own. Default 64 KiB, less than 4 GiB.
    pub fn max_incoming_control_line(mut self, bytes: usize) -> Self {
        self.config.limits.control_line = bytes;
        self
    }

    /// The largest message that is accepted from the server, in bytes of payload and headers.
    /// Default 64 MiB, the most that a server can be configured for; `usize::MAX` is no limit.
    pub fn max_incoming_payload(mut self, bytes: usize) -> Self {
        self.config.limits.payload = bytes;
        self
    }

    /// How much may wait for a subscription unless it is told otherwise. Default 524,288 messages
    /// or 64 MiB.
    pub fn pending_limits(mut self, limits: PendingLimits) -> Self {
        self.config.pending_limits = limits;
        self
    }

    /// The size of the kernel's send buffer in bytes, `None` for the system's choice. Default
    /// 256 KiB. It bounds what a dead server can swallow unseen.
    pub fn send_buffer_size(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.config.tcp.send_buffer = bytes.into();
        self
    }

    /// The size of the kernel's receive buffer in bytes, `None` (the default) for the system's
    /// choice.
    pub fn receive_buffer_size(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.config.tcp.receive_buffer = bytes.into();
        self
    }
}
