//! What the tests stand on: real and scripted servers, deadlines, leak counts, seeds.
//!
//! | file | what it gives |
//! | --- | --- |
//! | `wait` | waiting for a state with a deadline; a gate that a test opens |
//! | `ports` | loopback ports that no outgoing connection can take |
//! | `nats_server` | a real `nats-server` as a child process, and signals to it |
//! | `certificates` | certificates of every kind, good and bad |
//! | `tls_peer` | a server, also of TLS or WebSocket, that does what a healthy one never does |
//! | `cluster` | several of them with routes |
//! | `jwt` | keys, JWTs and credentials files of operators, accounts and users |
//! | `scripted` | a server that does what a healthy one never does |
//! | `proxy` | a proxy that delays, throttles, swallows, cuts and counts, as `faults` says |
//! | `tunnel` | a proxy as firewalls have one: HTTP CONNECT and SOCKS5 |
//! | `frames` | a byte stream cut into frames, both directions |
//! | `own_process` | a test in a process of its own |
//! | `leaks` | threads and descriptors before and after |
//! | `seed` | random numbers that can be replayed |
//! | `watchdog` | a limit for a piece of a test, with a report of what hangs |
//! | `source` | Rust text seen as code, comments and literals, for the structure test |
//! | `public_items` | the public functions and types of a Rust text |
//!
//! Nothing here knows the crate under test.

#![allow(dead_code, reason = "each test binary that includes this uses a part of it")]

pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod faults;
pub(crate) mod frames;
pub(crate) mod jwt;
pub(crate) mod leaks;
pub(crate) mod nats_server;
pub(crate) mod own_process;
pub(crate) mod ports;
pub(crate) mod proxy;
pub(crate) mod public_items;
pub(crate) mod scripted;
pub(crate) mod seed;
pub(crate) mod source;
pub(crate) mod tls_peer;
pub(crate) mod tunnel;
pub(crate) mod wait;
pub(crate) mod watchdog;
