//! Who gets a message; knows neither sockets nor the connection.
//!
//! ```text
//!  reader ── Router ──(one locked step a read)──▶ Mailbox ──▶ Subscription::next
//!               │                                    └──────▶ dispatcher thread ▶ handler
//!               └─────────────────────────────▶ Requests ──▶ the waiting request
//! ```
//!
//! Nothing here acts on the connection: what must be sent is handed to a closure of the caller,
//! what must be reported is returned.

mod consumer;
mod delivery;
mod mailbox;
mod registry;
mod requests;
mod router;
mod routes;
mod spares;
mod subscriber;

pub(crate) use consumer::sealed::Sealed as SealedConsumer;
pub use consumer::{
    Consumer, ConsumerStatus, ConsumerView, EndReason, PendingLimits, SubscriptionEnd,
};
pub(crate) use delivery::{First, Work, deliver};
pub(crate) use mailbox::{Empty, Rest};
pub(crate) use registry::Registry;
pub(crate) use requests::{Answered, Mark, Requests, Slot};
pub(crate) use router::{Routed, Router};
pub(crate) use subscriber::{Inbox, Item, Subscriber, Target, end_dispatcher_queue};
