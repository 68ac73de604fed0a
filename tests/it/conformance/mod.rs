//! What a program does with messages, each scenario against the real server and against the one of
//! `nats_blocking::testing`, so that the second cannot drift from the first.
//!
//! A scenario is a function that takes a [`Backend`](backend::Backend); [`conformance!`] makes
//! four tests of it, in a module with its name: `real`, `embedded`, and `over_tls` and
//! `over_websocket`, against the real server again.

/// Makes the tests `NAME::real`, `embedded`, `over_tls` and `over_websocket` of each function
/// named; `setup` says how the server is to be.
macro_rules! conformance {
    (setup: $setup:expr; $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[allow(unused_imports, reason = "the setup may be made of anything out there")]
            use super::*;
            use crate::conformance::backend::{Kind, run};

            #[test]
            fn real() {
                run(Kind::Real, $setup, stringify!($name), super::$name);
            }

            #[test]
            fn embedded() {
                run(Kind::Embedded, $setup, stringify!($name), super::$name);
            }

            #[test]
            #[cfg(feature = "tls")]
            fn over_tls() {
                run(Kind::RealOverTls, $setup, stringify!($name), super::$name);
            }

            #[test]
            #[cfg(feature = "websocket")]
            fn over_websocket() {
                run(Kind::RealOverWebSocket, $setup, stringify!($name), super::$name);
            }
        }
    )+};
    ($($name:ident),+ $(,)?) => {
        conformance! { setup: crate::conformance::backend::Setup::default(); $($name),+ }
    };
}

mod backend;

mod barrier;
mod close;
mod closed_hook;
mod dispatcher;
mod drain;
mod flush;
mod handles;
mod headers;
mod looking;
mod options;
mod outbox;
mod publish;
mod reconnect;
mod request;
mod select;
mod slow_consumer;
mod subscribe;
mod subscription_set;
