//! A NATS server inside the test process, for programs that use this crate.
//!
//! [`Server`] listens on a loopback port and does what a client sees of a core `nats-server`: INFO
//! and CONNECT, publishing and subscribing with wildcards, queue groups, headers, replies, "no
//! responders", limits, user or token, permissions. It can be told to misbehave while it runs: to
//! drop its clients, refuse connections, fall silent, restart on its port, announce other servers,
//! go into lame duck mode or send any error.
//!
//! It is not a server for production and does not stand in for one: no persistence, no JetStream,
//! no cluster, no accounts, no TLS, no monitoring, no limit on clients. It is stricter than
//! `nats-server` about the form of what clients write.
//!
//! A test of something that speaks NATS:
//!
//! ```
//! use std::io::{BufRead, BufReader, Write};
//! use std::net::TcpStream;
//! use std::time::Duration;
//!
//! use nats_blocking::testing::Server;
//!
//! fn main() -> std::io::Result<()> {
//!     let server = Server::start()?;
//!     let mut client = TcpStream::connect(("127.0.0.1", server.port()))?;
//!     client.set_read_timeout(Some(Duration::from_secs(5)))?;
//!     client.write_all(b"CONNECT {\"verbose\":false}\r\n")?;
//!     client.write_all(b"SUB greet 1\r\nPUB greet 5\r\nhello\r\n")?;
//!
//!     let mut lines = BufReader::new(client).lines();
//!     assert!(lines.next().unwrap()?.starts_with("INFO {"));
//!     assert_eq!(lines.next().unwrap()?, "MSG greet 1 5");
//!     assert_eq!(lines.next().unwrap()?, "hello");
//!
//!     server.drop_clients();
//!     assert!(lines.next().is_none());
//!     Ok(())
//! }
//! ```

mod broker;
mod client_op;
mod grammar;
mod interest;
mod recorder;
mod server;
mod session;

#[doc(hidden)]
pub use client_op::{ClientOp, ClientOpParser, Publication};
pub use interest::Permissions;
pub use recorder::{Happening, Record, Recorder, Timeline};
pub use server::{Server, ServerBuilder};
