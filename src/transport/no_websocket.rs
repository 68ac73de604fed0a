//! What stands in for WebSocket in a build without the feature `websocket`: no option asks for it,
//! and no URL can, for one that does is refused when it is read.

use std::time::Instant;

use super::stream::Stream;
use crate::error::{Error, ErrorKind, Result};
use crate::server_url::ServerUrl;
use crate::sync::Arc;

/// The settings that there are without WebSocket: none.
#[derive(Debug, Clone, Default)]
pub(crate) struct WebSocketSettings {}

impl WebSocketSettings {
    pub(crate) fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Refuses.
pub(crate) fn upgrade(
    _: &WebSocketSettings,
    _: Arc<dyn Stream>,
    _: &ServerUrl,
    _: Instant,
) -> Result<Arc<dyn Stream>> {
    Err(Error::new(ErrorKind::InvalidUrl, "this build does not have WebSocket"))
}
