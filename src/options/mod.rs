//! What a connection is to be.
//!
//! `builder` is the beginning and the end of the builder; the setters stand by subject in
//! `servers`, `reconnecting`, `sizes`, `wire`, `tls` and `listening`; `check` refuses what cannot
//! be used; `made` holds the result and connects.

mod builder;
mod check;
mod listening;
mod made;
mod reconnecting;
mod server_list;
mod servers;
mod sizes;
#[cfg(feature = "tls")]
mod tls;
mod wire;

pub use self::builder::{OptionsBuilder, connect};
pub use self::made::Options;
pub use self::server_list::ServerList;
