//! placeholder
mod error;
mod protocol;
mod server_error;
mod server_url;
mod statistics;
mod sync;
mod transport;
pub use error::{ConnectAttempt, Error, ErrorKind, Result};
pub use protocol::{Headers, Message, ServerInfo, Status, subject_matches};
pub use server_error::{RefusedOperation, ServerError, ServerErrorKind};
pub use statistics::Statistics;
/// x
pub fn connect(s: &str) -> Result<()> {
    server_url::ServerUrl::parse_list(s).map(|_| ())
}
#[cfg(feature = "testing")]
pub mod testing;
