//! Moving here from another client: what has which name, and what behaves otherwise; and
//! [what is promised](promises), with the proofs.
//!
//! These pages exist in the documentation only. The guide itself is the
//! [front page](crate) of the crate.

pub mod from_async_nats;
pub mod from_java;
pub mod from_nats;
pub mod promises;
