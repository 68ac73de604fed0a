//! The two small servers that are never the bottleneck: a sink that reads and discards, and a
//! source that sends messages when it is asked to. Both speak just enough of the protocol.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use memchr::memmem::Finder;

use crate::plan::{FEED, Plan, Result, SUBJECT};
use crate::raw::Wire;

const INFO: &str = "INFO {\"server_id\":\"PEERS\",\"server_name\":\"peers\",\"version\":\"2.10.0\",\
                    \"go\":\"none\",\"proto\":1,\"host\":\"127.0.0.1\",\"port\":4222,\
                    \"headers\":true,\"max_payload\":1048576,\"client_id\":1,\
                    \"client_ip\":\"127.0.0.1\"}\r\n";

/// Starts one of the two on a free port; it runs until the process ends.
pub fn start(name: &str) -> Result<SocketAddr> {
    let serve: fn(TcpStream) -> Result<()> = match name {
        "sink" => sink,
        "source" => source,
        _ => return Err(format!("there is no server '{name}'").into()),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        for stream in listener.incoming().map_while(std::result::Result::ok) {
            let body = move || {
                // A client that has gone is no failure of the server.
                let _ = serve(stream);
            };
            let _ = thread::Builder::new().name("client".to_owned()).spawn(body);
        }
    })?;
    Ok(address)
}

/// Answers every PING and looks at nothing else: the payloads of this package never hold that word.
fn sink(mut stream: TcpStream) -> Result<()> {
    const PING: &[u8] = b"PING\r\n";
    stream.set_nodelay(true)?;
    stream.write_all(INFO.as_bytes())?;
    let finder = Finder::new(PING);
    let mut buffer = vec![0; 256 * 1024];
    // The end of the bytes before, in which a PING may have begun.
    let mut kept = 0;
    loop {
        let count = stream.read(&mut buffer[kept..])?;
        if count == 0 {
            return Ok(());
        }
        let length = kept + count;
        let mut rest = 0;
        for at in finder.find_iter(&buffer[..length]) {
            stream.write_all(b"PONG\r\n")?;
            rest = at + PING.len();
        }
        let from = rest.max(length.saturating_sub(PING.len() - 1));
        buffer.copy_within(from..length, 0);
        kept = length - from;
    }
}

/// Sends messages to all subscriptions in turn, as many as a message to [`FEED`] asks for.
fn source(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(INFO.as_bytes())?;
    let mut sids: Vec<(String, String)> = Vec::new();
    let mut blast = Blast::default();
    let mut buffer = vec![0; 256 * 1024];
    let (mut start, mut end) = (0, 0);
    loop {
        while let Some(at) = memchr::memchr(b'\n', &buffer[start..end]) {
            let line = String::from_utf8_lossy(&buffer[start..start + at]).trim_end().to_owned();
            let words: Vec<&str> = line.split(' ').collect();
            let mut length = 0;
            if words[0] == "PUB" || words[0] == "HPUB" {
                length = words[words.len() - 1].parse::<usize>()? + 2;
                if end - start < at + 1 + length {
                    break;
                }
            }
            let payload = start + at + 1;
            start = payload + length;
            match words[0] {
                "PING" => stream.write_all(b"PONG\r\n")?,
                "SUB" if words[1].starts_with(SUBJECT) => {
                    sids.push((words[1].to_owned(), words[words.len() - 1].to_owned()));
                }
                "PUB" if words[1] == FEED => {
                    let order = Order::parse(&buffer[payload..payload + length - 2])?;
                    blast.prepare(&order, |index, bytes| {
                        let (subject, sid) = &sids[index % sids.len()];
                        bytes.extend_from_slice(
                            format!("MSG {subject} {sid} {}\r\n", order.size).as_bytes(),
                        );
                    });
                    blast.send(&mut stream, order.count)?;
                }
                _ => {}
            }
        }
        buffer.copy_within(start..end, 0);
        (start, end) = (0, end - start);
        let count = stream.read(&mut buffer[end..])?;
        if count == 0 {
            return Ok(());
        }
        end += count;
    }
}

/// How many messages, how large, to how many subjects.
struct Order {
    count: u64,
    size: usize,
    subs: usize,
}

impl Order {
    fn parse(payload: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(payload)?;
        let numbers: Vec<u64> =
            text.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?;
        match numbers[..] {
            [count, size, subs] => Ok(Self { count, size: size as usize, subs: subs as usize }),
            _ => Err(format!("'{text}' is no order").into()),
        }
    }
}

/// Frames made in advance, written again and again.
#[derive(Default)]
struct Blast {
    made_for: Option<(usize, usize)>,
    bytes: Vec<u8>,
    /// Where each frame ends.
    ends: Vec<usize>,
}

impl Blast {
    fn prepare(&mut self, order: &Order, head: impl Fn(usize, &mut Vec<u8>)) {
        let made_for = Some((order.size, order.subs));
        if self.made_for == made_for {
            return;
        }
        self.made_for = made_for;
        self.bytes.clear();
        self.ends.clear();
        while self.bytes.len() < 65_536 {
            for index in 0..order.subs {
                head(index, &mut self.bytes);
                self.bytes.resize(self.bytes.len() + order.size, b'x');
                self.bytes.extend_from_slice(b"\r\n");
                self.ends.push(self.bytes.len());
            }
        }
    }

    fn send(&self, stream: &mut TcpStream, count: u64) -> Result<()> {
        let frames = self.ends.len() as u64;
        for _ in 0..count / frames {
            stream.write_all(&self.bytes)?;
        }
        if let Some(last) = (count % frames).checked_sub(1) {
            stream.write_all(&self.bytes[..self.ends[last as usize]])?;
        }
        Ok(())
    }
}

/// Beside the real server: publishes as many messages as a message to [`FEED`] asks for.
pub fn feed(mut wire: Wire) -> Result<()> {
    wire.send(format!("SUB {FEED} 1\r\nPING\r\n").as_bytes())?;
    wire.pong()?;
    let mut blast = Blast::default();
    let mut stream = wire.stream.try_clone()?;
    let body = move || -> Result<()> {
        loop {
            let Some((_, payload)) = wire.message()? else { continue };
            let order = Order::parse(&payload)?;
            blast.prepare(&order, |index, bytes| {
                let subject = Plan::subject(index);
                bytes.extend_from_slice(format!("PUB {subject} {}\r\n", order.size).as_bytes());
            });
            blast.send(&mut stream, order.count)?;
        }
    };
    spawn("feed", body)
}

/// Beside the real server: answers requests with their own payload, all of one read at once.
pub fn echo(mut wire: Wire) -> Result<()> {
    wire.send(format!("SUB {} 1\r\nPING\r\n", crate::plan::ECHO).as_bytes())?;
    wire.pong()?;
    let body = move || -> Result<()> {
        let mut out = Vec::new();
        loop {
            if let Some((Some(reply), payload)) = wire.message()? {
                out.extend_from_slice(format!("PUB {reply} {}\r\n", payload.len()).as_bytes());
                out.extend_from_slice(&payload);
                out.extend_from_slice(b"\r\n");
            }
            if !wire.has_more() {
                wire.send(&out)?;
                out.clear();
            }
        }
    };
    spawn("echo", body)
}

fn spawn(name: &str, body: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        // It ends with the server.
        let _ = body();
    })?;
    Ok(())
}
