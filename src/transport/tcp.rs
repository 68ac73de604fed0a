//! TCP: addresses, socket options, and the stream.
//!
//! Connecting does not block in the kernel: the socket connects in the background and is asked for
//! its state, so that closing the connection cuts it off at once on every platform. Each address of
//! a host gets an equal share of what is left of the deadline, so that one dead address cannot use
//! up the time of a live one.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::resolve::{Resolution, ResolveMode};
use super::stream::{Cancel, Cancelled, Dial, Stream};
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::server_url::ServerUrl;
use crate::sync::{Arc, assert_unlocked};
use crate::trace::{Trace, TraceStepKind};

/// How long the kernel lets one write wait before the caller looks at its own clock.
const WRITE_SLICE: Duration = Duration::from_millis(250);

/// The most bytes given to the kernel in one write: a peer that trickles must not keep the caller
/// from its clock.
const WRITE_MOST: usize = 256 * 1024;

/// Socket options.
#[derive(Debug, Clone, Default)]
pub(crate) struct TcpOptions {
    /// The size of the kernel's send buffer, which is what a dead peer can swallow unseen.
    pub(crate) send_buffer: Option<usize>,
    pub(crate) receive_buffer: Option<usize>,
    /// The address of this machine that connections come from.
    pub(crate) local_address: Option<IpAddr>,
    /// The silence after which, and the interval in which, the kernel probes the peer.
    pub(crate) keepalive: Option<Duration>,
    pub(crate) resolve_mode: ResolveMode,
}

/// Makes TCP streams.
#[derive(Debug)]
pub(crate) struct TcpConnector {
    options: TcpOptions,
    resolution: Resolution,
}

impl TcpConnector {
    pub(crate) fn new(options: TcpOptions, resolution: Resolution) -> Self {
        Self { options, resolution }
    }

    fn open(&self, address: SocketAddr, deadline: Instant, cancel: &Cancel) -> Result<TcpStream> {
        let failed = |error: io::Error| {
            Error::with_source(ErrorKind::Io, format!("connecting to {address}: {error}"), error)
        };
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(failed)?;
        // Buffer sizes count only when they are set before the connection is made.
        if let Some(size) = self.options.send_buffer {
            socket.set_send_buffer_size(size).map_err(failed)?;
        }
        if let Some(size) = self.options.receive_buffer {
            socket.set_recv_buffer_size(size).map_err(failed)?;
        }
        if let Some(time) = self.options.keepalive {
            socket.set_tcp_keepalive(&keepalive(time)).map_err(failed)?;
        }
        if let Some(local) = self.options.local_address {
            socket.bind(&SocketAddr::new(local, 0).into()).map_err(|error| {
                let text = format!("connecting from the local address {local}: {error}");
                Error::with_source(ErrorKind::Io, text, error)
            })?;
        }
        socket.set_nonblocking(true).map_err(failed)?;
        if let Err(error) = socket.connect(&address.into()) {
            if !is_in_progress(&error) {
                return Err(failed(error));
            }
        }
        let poll = Some(Duration::from_micros(50));
        let outcome = cancel.wait_for(deadline, poll, || match socket.take_error() {
            Ok(Some(error)) | Err(error) => Some(Err(error)),
            Ok(None) => socket.peer_addr().is_ok().then_some(Ok(())),
        });
        match outcome {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(error))) => return Err(failed(error)),
            Ok(None) => {
                let text = format!("connecting to {address} took longer than the connect time-out");
                return Err(Error::new(ErrorKind::Timeout, text));
            }
            Err(Cancelled) => {
                return Err(Error::new(ErrorKind::Closed, "the connection was closed"));
            }
        }
        // A port of this machine that nobody listens on can be connected to itself.
        let (local, peer) = (socket.local_addr().ok(), socket.peer_addr().ok());
        if local.is_some()
            && local.as_ref().map(SockAddr::as_socket) == peer.as_ref().map(SockAddr::as_socket)
        {
            let text = format!("connecting to {address}: nobody listens there");
            return Err(Error::new(ErrorKind::Io, text));
        }
        socket.set_nonblocking(false).map_err(failed)?;
        socket.set_tcp_nodelay(true).map_err(failed)?;
        socket.set_write_timeout(Some(WRITE_SLICE)).map_err(failed)?;
        Ok(TcpStream { socket, read_wait: AtomicU64::new(NO_WAIT) })
    }

    /// The addresses to try, in order; never none.
    fn addresses(
        &self,
        url: &ServerUrl,
        deadline: Instant,
        cancel: &Arc<Cancel>,
        trace: &Trace<'_>,
    ) -> Result<Vec<SocketAddr>> {
        let (host, mode) = (url.host(), self.options.resolve_mode);
        let (mut addresses, is_name) = match url.ip() {
            Some(ip) => (vec![SocketAddr::new(ip, url.port())], false),
            None => {
                trace.step(|| TraceStepKind::Resolving { host: host.to_owned() });
                (self.resolution.addresses(host, url.port(), deadline, cancel)?, true)
            }
        };
        if is_name && !mode.keep_family(&mut addresses) {
            let text = format!("'{host}' has no address that the resolve mode {mode:?} allows");
            return Err(Error::new(ErrorKind::Dns, text));
        }
        if let Some(local) = self.options.local_address {
            addresses.retain(|address| address.is_ipv4() == local.is_ipv4());
            if addresses.is_empty() {
                let family = if local.is_ipv4() { "IPv4" } else { "IPv6" };
                let text = format!("'{host}' has no {family} address to reach from {local}");
                return Err(Error::new(ErrorKind::Io, text));
            }
        }
        if is_name && mode == ResolveMode::First {
            addresses.truncate(1);
        }
        if is_name {
            trace.step(|| TraceStepKind::Resolved { addresses: addresses.clone() });
        }
        Ok(addresses)
    }
}

/// Probes after so much silence, and again every so often; how many is the system's choice.
fn keepalive(time: Duration) -> TcpKeepalive {
    let keepalive = TcpKeepalive::new().with_time(time);
    // Elsewhere the interval, too, is the system's choice.
    #[cfg(any(
        target_os = "linux",
        target_os = "android",
        target_os = "macos",
        target_os = "ios",
        target_os = "freebsd",
        windows
    ))]
    let keepalive = keepalive.with_interval(time);
    keepalive
}

impl Dial for TcpConnector {
    fn connect(
        &self,
        url: &ServerUrl,
        deadline: Instant,
        cancel: &Arc<Cancel>,
        trace: &Trace<'_>,
    ) -> Result<Arc<dyn Stream>> {
        assert_unlocked("connecting");
        let addresses = self.addresses(url, deadline, cancel, trace)?;
        let mut last = None;
        let count = addresses.len();
        for (index, address) in addresses.into_iter().enumerate() {
            let left = deadline.saturating_duration_since(clock::now());
            let share = left / u32::try_from(count - index).unwrap_or(u32::MAX);
            trace.step(|| TraceStepKind::Connecting { address });
            match self.open(address, clock::now() + share, cancel) {
                Ok(stream) => {
                    let (local, peer) = (stream.local_addr(), stream.peer_addr());
                    trace.step(|| TraceStepKind::Connected { local, peer });
                    return Ok(Arc::new(stream));
                }
                Err(error) if error.is_closed() => return Err(error),
                Err(error) => {
                    trace.step(|| TraceStepKind::AddressFailed { address, cause: error.clone() });
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            Error::new(ErrorKind::Dns, format!("'{}' has no address", url.host()))
        }))
    }
}

/// Whether a connect without blocking has begun and not failed.
fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EINPROGRESS) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

/// The socket has no read time-out.
const NO_WAIT: u64 = 0;

#[derive(Debug)]
struct TcpStream {
    socket: Socket,
    /// The socket's present read time-out in nanoseconds, so that it is only set when it changes.
    /// Only the reading thread touches it.
    read_wait: AtomicU64,
}

impl Stream for TcpStream {
    fn read(&self, buffer: &mut [u8], wait: Option<Duration>) -> io::Result<usize> {
        assert_unlocked("reading from a socket");
        let nanos = wait.map_or(NO_WAIT, |wait| {
            u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).max(1_000_000)
        });
        if self.read_wait.load(Ordering::Relaxed) != nanos {
            let wait = (nanos != NO_WAIT).then(|| Duration::from_nanos(nanos));
            self.socket.set_read_timeout(wait)?;
            self.read_wait.store(nanos, Ordering::Relaxed);
        }
        io::Read::read(&mut &self.socket, buffer)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        assert_unlocked("writing to a socket");
        let part = bytes.get(..WRITE_MOST).unwrap_or(bytes);
        match self.socket.send_with_flags(part, NO_SIGNAL) {
            Ok(0) if !part.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            outcome => outcome,
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        assert_unlocked("writing to a socket");
        let Some(flags) = NO_WAITING else { return Ok(0) };
        match self.socket.send_with_flags(bytes, flags) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(0)
            }
            result => result,
        }
    }

    fn finish(&self) {
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
    }

    fn shutdown(&self) {
        // It fails only when the other side is gone already.
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Both);
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        let mut address = self.socket.peer_addr().ok()?.as_socket()?;
        // An IPv4 peer of an IPv6 socket is the IPv4 peer.
        if let IpAddr::V6(v6) = address.ip() {
            if let Some(v4) = v6.to_ipv4_mapped() {
                address.set_ip(IpAddr::V4(v4));
            }
        }
        Some(address)
    }
}

/// A write to a broken connection is an error, not a signal that ends the process.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const NO_SIGNAL: i32 = libc::MSG_NOSIGNAL;
/// Elsewhere the socket itself is told (`socket2` does so where it must) or no such signal exists.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const NO_SIGNAL: i32 = 0;

/// The flags of a write that does not wait, where there is such a thing.
#[cfg(unix)]
const NO_WAITING: Option<i32> = Some(NO_SIGNAL | libc::MSG_DONTWAIT);
/// Elsewhere everything goes through the flusher.
#[cfg(not(unix))]
const NO_WAITING: Option<i32> = None;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn connector() -> TcpConnector {
        let options = TcpOptions { send_buffer: Some(64 * 1024), ..TcpOptions::default() };
        TcpConnector::new(options, Resolution::new())
    }

    #[test]
    fn shutdown_frees_a_blocked_read_and_a_blocked_write() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let text = listener.local_addr().expect("address").to_string();
        let url = ServerUrl::parse(&text).expect("url");
        let deadline = Instant::now() + Duration::from_secs(10);
        let stream = connector()
            .connect(&url, deadline, &Arc::new(Cancel::new()), &Trace::off())
            .expect("a stream");
        let (_peer, _) = listener.accept().expect("the other end");
        assert_eq!(stream.peer_addr().map(|a| a.to_string()), Some(text));
        let reading = Arc::clone(&stream);
        let reader = std::thread::Builder::new()
            .spawn(move || reading.read(&mut [0; 16], None))
            .expect("a thread");
        let writing = Arc::clone(&stream);
        let writer = std::thread::Builder::new()
            .spawn(move || {
                loop {
                    match writing.write(&[0; 65536]) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return error.kind(),
                        Ok(_) => {}
                    }
                }
            })
            .expect("a thread");
        while stream.try_write(&[0; 1024]).expect("room or none") > 0 {}
        stream.shutdown();
        assert_eq!(reader.join().expect("no panic").expect("the end"), 0);
        assert_eq!(writer.join().expect("no panic"), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_socket_has_the_options_that_it_was_given() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("address");
        let wanted = TcpOptions {
            send_buffer: Some(64 * 1024),
            receive_buffer: Some(96 * 1024),
            keepalive: Some(Duration::from_secs(90)),
            ..TcpOptions::default()
        };
        let connector = TcpConnector::new(wanted, Resolution::new());
        let deadline = Instant::now() + Duration::from_secs(10);
        let stream = connector.open(address, deadline, &Cancel::new()).expect("a stream");
        let socket = &stream.socket;
        assert!(socket.tcp_nodelay().expect("an option"));
        // The kernel rounds to its ticks.
        let slice = socket.write_timeout().expect("an option").expect("a time-out");
        assert!(slice >= WRITE_SLICE && slice < WRITE_SLICE * 2);
        // Linux doubles what it is told, for its own book-keeping.
        let sizes = (64 * 1024..=128 * 1024, 96 * 1024..=192 * 1024);
        assert!(sizes.0.contains(&socket.send_buffer_size().expect("an option")));
        assert!(sizes.1.contains(&socket.recv_buffer_size().expect("an option")));
        assert!(socket.keepalive().expect("an option"));
        #[cfg(target_os = "linux")]
        {
            let wanted = Duration::from_secs(90);
            assert_eq!(socket.tcp_keepalive_time().expect("an option"), wanted);
            assert_eq!(socket.tcp_keepalive_interval().expect("an option"), wanted);
        }
        let plain = TcpConnector::new(TcpOptions::default(), Resolution::new());
        let stream = plain.open(address, deadline, &Cancel::new()).expect("a stream");
        assert!(!stream.socket.keepalive().expect("an option"), "off unless it is asked for");
    }

    /// The addresses that are tried for a name with one IPv6 address and two of IPv4.
    fn tried(options: TcpOptions, url: &str) -> Result<Vec<String>> {
        let resolution = Resolution::with(|_, port| {
            Ok(vec![
                SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)),
                SocketAddr::from(([127, 0, 0, 1], port)),
                SocketAddr::from(([127, 0, 0, 2], port)),
            ])
        });
        let connector = TcpConnector::new(options, resolution);
        let url = ServerUrl::parse(url).expect("url");
        let deadline = Instant::now() + Duration::from_secs(10);
        let found = connector.addresses(&url, deadline, &Arc::new(Cancel::new()), &Trace::off())?;
        Ok(found.iter().map(|address| address.ip().to_string()).collect())
    }

    #[test]
    fn the_resolve_mode_says_which_addresses_of_a_name_are_tried() {
        let with = |resolve_mode| TcpOptions { resolve_mode, ..TcpOptions::default() };
        let cases: [(ResolveMode, &[&str]); 4] = [
            (ResolveMode::All, &["::1", "127.0.0.1", "127.0.0.2"]),
            (ResolveMode::First, &["::1"]),
            (ResolveMode::Ipv4Only, &["127.0.0.1", "127.0.0.2"]),
            (ResolveMode::Ipv6Only, &["::1"]),
        ];
        for (mode, expected) in cases {
            assert_eq!(tried(with(mode), "name").expect("addresses"), expected, "{mode:?}");
        }
        // An address in the URL is what the program wants, whatever the mode.
        let literal = tried(with(ResolveMode::Ipv4Only), "[::1]:4222").expect("an address");
        assert_eq!(literal, ["::1"]);
    }

    #[test]
    fn only_addresses_of_the_family_of_the_local_address_are_tried() {
        let from = |local: &str, resolve_mode| TcpOptions {
            local_address: Some(local.parse().expect("an address")),
            resolve_mode,
            ..TcpOptions::default()
        };
        let found = tried(from("127.0.0.3", ResolveMode::All), "name").expect("addresses");
        assert_eq!(found, ["127.0.0.1", "127.0.0.2"]);
        let first = tried(from("127.0.0.3", ResolveMode::First), "name").expect("an address");
        assert_eq!(first, ["127.0.0.1"]);
        let none = tried(from("::1", ResolveMode::Ipv4Only), "name").expect_err("no address");
        assert!(none.to_string().contains("'name' has no IPv6 address"), "{none}");
    }

    #[test]
    fn a_local_address_that_this_machine_does_not_have_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("address");
        // Of the range that is kept for documentation.
        let local = Some(IpAddr::from([192, 0, 2, 1]));
        let options = TcpOptions { local_address: local, ..TcpOptions::default() };
        let connector = TcpConnector::new(options, Resolution::new());
        let deadline = Instant::now() + Duration::from_secs(10);
        let error = connector.open(address, deadline, &Cancel::new()).expect_err("not ours");
        assert!(error.to_string().contains("local address 192.0.2.1"), "{error}");
    }

    #[test]
    fn a_dead_address_does_not_use_up_the_time_of_a_live_one() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("address").port();
        // The first of the two addresses refuses, or does not exist on this machine.
        let resolution = Resolution::with(|_, port| {
            Ok(vec![
                SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)),
                SocketAddr::from(([127, 0, 0, 1], port)),
            ])
        });
        let connector = TcpConnector::new(TcpOptions::default(), resolution);
        let url = ServerUrl::parse(&format!("both:{port}")).expect("url");
        let deadline = Instant::now() + Duration::from_secs(10);
        let stream = connector.connect(&url, deadline, &Arc::new(Cancel::new()), &Trace::off());
        let peer = stream.expect("the second address").peer_addr().expect("a peer");
        assert!(peer.ip().is_loopback() && peer.port() == port);
    }

    #[test]
    fn a_server_is_reached_over_ipv6_where_the_machine_has_it() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
        let text = listener.local_addr().expect("address").to_string();
        let url = ServerUrl::parse(&text).expect("url");
        let deadline = Instant::now() + Duration::from_secs(10);
        let stream = connector().connect(&url, deadline, &Arc::new(Cancel::new()), &Trace::off());
        let peer = stream.expect("a stream").peer_addr().map(|peer| peer.to_string());
        assert_eq!(peer, Some(text));
    }

    #[test]
    fn a_refused_address_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let text = listener.local_addr().expect("address").to_string();
        drop(listener);
        let url = ServerUrl::parse(&text).expect("url");
        let deadline = Instant::now() + Duration::from_secs(10);
        let error = connector()
            .connect(&url, deadline, &Arc::new(Cancel::new()), &Trace::off())
            .expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains(&text), "{error}");
    }
}
