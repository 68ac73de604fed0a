//! A thread that calls handlers for the messages of its subscriptions.
//!
//! All subscriptions of a dispatcher share one queue and one thread, so that messages are handled
//! one at a time in the order in which they arrived. The thread owns its default handler; a handler
//! of a single subscription stands in the table.

mod handle;
mod table;
mod thread;

pub use self::handle::Dispatcher;
