//! What stands in for TLS in a build without the feature `tls`: it is never wanted by an option,
//! and never to be had. The policy refuses before anything here is asked.

use std::time::Instant;

use super::stream::Stream;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;

/// The settings that there are without TLS: none.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsSettings {}

/// What an attempt needs for TLS.
#[derive(Debug)]
pub(crate) struct PreparedTls;

impl TlsSettings {
    /// Whether this build has TLS.
    pub(crate) const BUILT: bool = false;

    pub(crate) fn wanted(&self) -> bool {
        false
    }

    pub(crate) fn first(&self) -> bool {
        false
    }

    pub(crate) fn check(&self) -> Result<()> {
        Ok(())
    }

    pub(crate) fn prepare(&self) -> Result<PreparedTls> {
        Err(missing())
    }
}

/// Refuses.
pub(crate) fn secure(
    _: &PreparedTls,
    _: Arc<dyn Stream>,
    _: &str,
    _: Instant,
) -> Result<Arc<dyn Stream>> {
    Err(missing())
}

fn missing() -> Error {
    Error::new(ErrorKind::Tls, "this build does not have TLS")
}
