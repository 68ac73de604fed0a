//! How servers are reached: addresses and sockets. The sizes of the socket buffers stand in
//! `sizes`.

use std::net::IpAddr;
use std::time::Duration;

use super::builder::OptionsBuilder;
use crate::transport::{Connector, OwnConnector, ResolveMode};

/// Addresses and sockets.
impl OptionsBuilder {
    /// The address of this machine that connections come from, on a machine with several. By
    /// default the system chooses.
    ///
    /// Only addresses of servers of the same family (IPv4 or IPv6) are tried then. The port is
    /// always the system's choice: a fixed one could not be connected from again for a minute or so
    /// after a loss. An address that this machine does not have makes every attempt fail, naming
    /// it.
    pub fn local_address(mut self, address: IpAddr) -> Self {
        self.config.tcp.local_address = Some(address);
        self
    }

    /// Lets the system probe a silent server: after so much silence, and again after as much, as
    /// many times as the system is set up for (`SO_KEEPALIVE`). Between 1 and 32,767 s, whole
    /// seconds; `None`, the default, for not at all.
    ///
    /// A dead server is noticed by [pings](Self::ping_interval); this is for what is between,
    /// routers and firewalls that forget silent connections sooner than that.
    pub fn tcp_keepalive(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.config.tcp.keepalive = time.into();
        self
    }

    /// Which addresses of a host name are tried. Default: all.
    pub fn resolve_mode(mut self, mode: ResolveMode) -> Self {
        self.config.tcp.resolve_mode = mode;
        self
    }

    /// Has transports made by the program, in place of TCP connections: through a proxy or a
    /// tunnel, or to a peer in memory. See [`Connector`], which has an example. The other options
    /// of the socket, its buffer sizes included, mean nothing then. The connector lives as long as
    /// the connection's last handle.
    pub fn connector(mut self, connector: impl Connector + 'static) -> Self {
        self.config.connector = Some(OwnConnector::new(connector));
        self
    }
}
