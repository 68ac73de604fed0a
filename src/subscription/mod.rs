//! Subscriptions that the program reads from.

mod handle;
mod iterators;

pub use self::handle::Subscription;
pub(crate) use self::handle::check_max;
pub use self::iterators::{IntoIter, Iter, TimeoutIter, TryIter};
