//! What the options say about TLS, and what an attempt makes of it.
//!
//! Files are read at each attempt, so that a certificate can be renewed while the program runs;
//! what is in memory is looked at when the options are built. Making a connector of them takes
//! tens of milliseconds, for the platform's own certificates are read with it: the last one is
//! used again as long as all that it was made of is the same.

use std::fmt;

use native_tls::TlsConnector;

use super::material::{ClientIdentity, Material, Pem, TlsVersion, Told};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, Mutex, Rank};

/// What the options say.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsSettings {
    pub(crate) require: bool,
    pub(crate) first: bool,
    pub(crate) roots: Vec<Pem>,
    pub(crate) identity: Option<ClientIdentity>,
    pub(crate) min_version: Option<TlsVersion>,
    pub(crate) accept_invalid_certs: bool,
    pub(crate) accept_invalid_hostnames: bool,
    /// Shared by all connections of these options.
    last: Arc<LastConnector>,
}

/// The connector that was made last, and of what.
struct LastConnector(Mutex<Option<(Material, TlsConnector)>>);

/// What an attempt needs for TLS: everything has been read.
pub(crate) struct PreparedTls {
    connector: TlsConnector,
}

impl PreparedTls {
    pub(super) fn connector(&self) -> &TlsConnector {
        &self.connector
    }
}

impl TlsSettings {
    /// Whether this build has TLS.
    pub(crate) const BUILT: bool = true;

    /// Whether an option asks for TLS, or makes sense with it only. Those that ask for less than
    /// there is by default ask for nothing.
    pub(crate) fn wanted(&self) -> bool {
        let asked = self.require || self.first || self.min_version.is_some();
        asked || !self.roots.is_empty() || self.identity.is_some()
    }

    /// Whether the handshake comes before INFO.
    pub(crate) fn first(&self) -> bool {
        self.first
    }

    /// Looks at what is in memory; files are read at each attempt.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |why| Error::new(ErrorKind::InvalidOption, why);
        for root in self.roots.iter().filter(|root| root.is_in_memory()) {
            root.read().and_then(|text| text.root_certificates()).map_err(bad)?;
        }
        let Some(identity) = &self.identity else { return Ok(()) };
        if let ClientIdentity::Pem { certificate, key } = identity {
            if certificate.is_in_memory() {
                certificate.read().and_then(|text| text.certificate_chain()).map_err(bad)?;
            }
            if key.is_in_memory() {
                key.read().and_then(|text| text.private_key()).map_err(bad)?;
            }
        }
        if identity.is_in_memory() {
            let alone = self.material(&[]).and_then(|material| material.connector());
            alone.map_err(bad)?;
        }
        Ok(())
    }

    /// Whether anything is read from a file, which may take its time.
    pub(crate) fn has_files(&self) -> bool {
        let identity = self.identity.as_ref().is_some_and(|identity| !identity.is_in_memory());
        identity || !self.roots.iter().all(Pem::is_in_memory)
    }

    /// Reads everything that an attempt needs.
    pub(crate) fn prepare(&self) -> Result<PreparedTls> {
        let bad = |why| Error::new(ErrorKind::Tls, why);
        let material = self.material(&self.roots).map_err(bad)?;
        if let Some(connector) = self.last.made_of(&material) {
            return Ok(PreparedTls { connector });
        }
        let connector = material.connector().map_err(bad)?;
        *self.last.0.lock() = Some((material, connector.clone()));
        Ok(PreparedTls { connector })
    }

    fn material(&self, roots: &[Pem]) -> Told<Material> {
        Ok(Material {
            roots: roots.iter().map(Pem::read).collect::<Told<_>>()?,
            identity: self.identity.as_ref().map(ClientIdentity::read).transpose()?,
            min_version: self.min_version,
            accept_invalid_certs: self.accept_invalid_certs,
            accept_invalid_hostnames: self.accept_invalid_hostnames,
        })
    }
}

impl LastConnector {
    fn made_of(&self, material: &Material) -> Option<TlsConnector> {
        let last = self.0.lock();
        let same = last.as_ref().filter(|(known, _)| known == material);
        same.map(|(_, connector)| connector.clone())
    }
}

impl Default for LastConnector {
    fn default() -> Self {
        Self(Mutex::new(Rank::Leaf, None))
    }
}

impl fmt::Debug for LastConnector {
    /// Never what it was made of: it may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastConnector").finish_non_exhaustive()
    }
}

impl fmt::Debug for PreparedTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedTls").finish_non_exhaustive()
    }
}
