//! J1: a cluster of three, its nodes killed and stopped, proxies that misbehave, and clients that
//! work on all the while.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `wire` | what went over each link of a client, and what must hold of it |
//! | `clients` | publishers, receivers, one that asks and one that answers, over TCP and TLS |
//! | `faults` | the fourteen kinds |
//! | `run` | periods of faults, and what is checked in the end |
//!
//! Two servers may each send a copy of a message, and messages that took different routes may
//! overtake each other: a client that moves within a cluster can see both, and nothing that it does
//! could help. So duplicates and order are held against what went over the links of each client:
//! nothing goes out twice or out of order, and what is handed to the program is, link by link, the
//! beginning of what came in.

mod clients;
mod faults;
mod run;
mod wire;

pub(crate) use run::chaos;
