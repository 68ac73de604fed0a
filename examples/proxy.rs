//! To a server through a proxy, by connectors of the program: HTTP CONNECT and SOCKS5.
//!
//! ```text
//! cargo run --example proxy --features testing -- http 127.0.0.1:3128 [--server URL]
//! cargo run --example proxy --features testing -- socks 127.0.0.1:1080 [--server URL]
//! ```
//!
//! A user for the proxy comes from the variables `PROXY_USER` and `PROXY_PASSWORD`: what stands in
//! the arguments can be seen by everybody. The proxy resolves the server's name.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use nats_blocking::{Connector, Options, ServerAddress, Transport};

mod support;
use support::{Arguments, say};

const PATIENCE: Duration = Duration::from_secs(5);

/// The longest head of an answer that is read.
const HEAD_MOST: usize = 8 * 1024;

/// A user of a proxy and the password.
type User = Option<(String, String)>;

/// The proxy's socket, which keeps the deadline in each read and write of the negotiation.
struct Negotiation {
    stream: TcpStream,
    deadline: Instant,
}

impl Negotiation {
    fn begin(proxy: &str, deadline: Instant) -> io::Result<Self> {
        let mut last = io::Error::other("the proxy's name has no address");
        for address in proxy.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Self { stream, deadline });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write_all(bytes)
    }

    /// Not a byte more: what follows is the server's.
    fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            self.stream.set_read_timeout(Some(left(self.deadline)?))?;
            self.stream.read_exact(std::slice::from_mut(byte))?;
        }
        Ok(bytes)
    }

    fn end(self) -> Box<dyn Transport> {
        Box::new(self.stream)
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A proxy that takes the method CONNECT.
struct HttpProxy {
    address: String,
    user: User,
}

impl Connector for HttpProxy {
    fn connect(&self, server: &ServerAddress, deadline: Instant) -> io::Result<Box<dyn Transport>> {
        let mut proxy = Negotiation::begin(&self.address, deadline)?;
        let mut request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n");
        if let Some((user, password)) = &self.user {
            let text = base64(format!("{user}:{password}").as_bytes());
            let _ = write!(request, "Proxy-Authorization: Basic {text}\r\n");
        }
        proxy.send(format!("{request}\r\n").as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > HEAD_MOST {
                return Err(io::Error::other("the proxy's answer does not end"));
            }
            head.extend(proxy.read::<1>()?);
        }
        let head = String::from_utf8_lossy(&head);
        let status = head.lines().next().unwrap_or_default();
        match status.split(' ').nth(1) {
            Some(code) if code.starts_with('2') => Ok(proxy.end()),
            _ => Err(io::Error::other(format!("the proxy refused: {status}"))),
        }
    }
}

/// A proxy that speaks SOCKS5 (RFC 1928, and 1929 for the user).
struct SocksProxy {
    address: String,
    user: User,
}

impl Connector for SocksProxy {
    fn connect(&self, server: &ServerAddress, deadline: Instant) -> io::Result<Box<dyn Transport>> {
        let mut proxy = Negotiation::begin(&self.address, deadline)?;
        let way = if self.user.is_some() { 2 } else { 0 };
        proxy.send(&[5, 1, way])?;
        if proxy.read()? != [5, way] {
            return Err(io::Error::other("the proxy wants another kind of authorization"));
        }
        if let Some((user, password)) = &self.user {
            let mut message = vec![1];
            for text in [user, password] {
                message.extend(prefixed(text)?);
            }
            proxy.send(&message)?;
            if proxy.read()? != [1, 0] {
                return Err(io::Error::other("the proxy refused the user"));
            }
        }
        // Always as a name, which may be the text of an address.
        let mut message = vec![5, 1, 0, 3];
        message.extend(prefixed(server.host())?);
        message.extend(server.port().to_be_bytes());
        proxy.send(&message)?;
        let [_, status, _, kind] = proxy.read()?;
        if status != 0 {
            return Err(io::Error::other(format!("the proxy refused with code {status}")));
        }
        // The address that the proxy connects from, which says nothing to us.
        let rest = match kind {
            1 => 4,
            4 => 16,
            _ => usize::from(proxy.read::<1>()?[0]),
        };
        for _ in 0..rest + 2 {
            proxy.read::<1>()?;
        }
        Ok(proxy.end())
    }
}

/// A text with its length before it.
fn prefixed(text: &str) -> io::Result<Vec<u8>> {
    let length = u8::try_from(text.len())
        .map_err(|_| io::Error::other("SOCKS takes no text of more than 255 bytes"))?;
    Ok([&[length], text.as_bytes()].concat())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * place) & 63) as usize);
            let shown = digit.filter(|_| place <= chunk.len());
            text.push(shown.map_or('=', |digit| char::from(*digit)));
        }
    }
    text
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let [kind, address] = arguments.words.as_slice() else {
        return Err("give `http` or `socks`, and the address of the proxy".into());
    };
    let user = std::env::var("PROXY_USER").ok();
    let user = user.map(|user| (user, std::env::var("PROXY_PASSWORD").unwrap_or_default()));
    let address = address.clone();
    let options = Options::builder()
        .server(arguments.server.as_deref().unwrap_or("nats://localhost:4222"))
        .connect_timeout(PATIENCE);
    let connection = match kind.as_str() {
        "http" => options.connector(HttpProxy { address, user }),
        "socks" => options.connector(SocksProxy { address, user }),
        other => return Err(format!("'{other}' is neither `http` nor `socks`").into()),
    }
    .connect()?;
    let subscription = connection.subscribe("through")?;
    connection.publish("through", "the proxy")?;
    let message = subscription.next_timeout(PATIENCE)?;
    say(format!("received: through {}", message.text()?));
    connection.close();
    Ok(())
}
