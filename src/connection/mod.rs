//! The handle of a connection: what a program calls.
//!
//! One file for each thing that a program does with it; requests, subscriptions, dispatchers and
//! drains stand in files of their own above.

mod events;
mod handle;
mod looking;
mod pool;
mod publish;

pub use self::events::Events;
pub use self::handle::{Connection, WeakConnection};
