//! What a connection is to be.
//!
//! `builder` is the beginning and the end of the builder; the setters stand by subject in
//! `servers`, `authorization`, `signing`, `reconnecting`, `sizes`, `sockets`, `wire`, `tls`,
//! `websocket`, `listening` and `watching`; `check` refuses what cannot be used; `made` holds the
//! result and connects.
//!
//! Options from text: `properties` applies a properties file (`property_text` reads it,
//! `property_keys` says what each key does), `environment` the variables of the process;
//! `durations` reads times in their forms.

mod authorization;
mod builder;
mod check;
mod durations;
mod environment;
mod listening;
mod made;
mod properties;
mod property_keys;
mod property_text;
mod reconnecting;
mod servers;
#[cfg(feature = "nkeys")]
mod signing;
mod sizes;
mod sockets;
#[cfg(feature = "tls")]
mod tls;
mod watching;
#[cfg(feature = "websocket")]
mod websocket;
mod wire;

pub use self::builder::{OptionsBuilder, connect};
pub use self::made::Options;
#[cfg(any(feature = "internals", loom, shuttle, fuzzing))]
pub(crate) use self::property_text::parse as parse_property_text;
