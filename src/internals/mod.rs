//! Private parts for models, simulations and fuzzing. Outside of semver: anything here may change
//! or go with any release, and nothing here is for programs.
//!
//! Each file wraps one part in plain types, thin enough that what is tested is the part itself.
//! There is no such module unless the feature `internals` or one of the cfgs `loom`, `shuttle` and
//! `fuzzing` is on.

#![allow(missing_docs, missing_debug_implementations)]

mod inputs;
mod life;
mod outbox;
mod pipe;
mod queue;
mod requests;
mod servers;
#[cfg(any(loom, shuttle))]
mod time;
#[cfg(feature = "websocket")]
mod websocket;

pub use inputs::{
    HeaderBlock, Login, LoginStep, Op, Reading, Received, Url, connect_line, count_header_lines,
    publish_frame, read_headers, read_info, read_properties, read_public_key, read_server_error,
    read_urls,
};
#[cfg(feature = "nkeys")]
pub use inputs::{read_creds, read_seed};
pub use life::{Life, connect_over};
pub use outbox::{FlushWait, Outbox};
pub use pipe::{Dial, Pipe};
pub use queue::{Arrivals, Counts, Queue, Seen};
pub use requests::{Requests, Waiting};
pub use servers::{Attempt, KeepAlive, Servers};
#[cfg(any(loom, shuttle))]
pub use time::{lose_wakes, pass_time};
#[cfg(feature = "websocket")]
pub use websocket::{Frames as WebSocketFrames, accepts_upgrade};
