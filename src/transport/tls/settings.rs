//! What the options say about TLS, and what an attempt makes of it.
//!
//! Files are read at each attempt, so that a certificate can be renewed while the program runs;
//! what is in memory is looked at when the options are built. An error names the option or the
//! file, and the line of a malformed text; never what stands there.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use native_tls::{Certificate, Identity, Protocol, TlsConnector};

use super::explain::explained;
use super::pem::{Block, blocks};
use crate::auth::Secret;
use crate::error::{Error, ErrorKind, Result};

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Where certificates or a key come from.
#[derive(Clone)]
pub(crate) enum Pem {
    File(PathBuf),
    /// The bytes, and the option that they came by.
    Bytes(Vec<u8>, &'static str),
}

/// What the client shows to a server that asks for a certificate.
#[derive(Debug, Clone)]
pub(crate) enum ClientIdentity {
    Pem { certificate: Pem, key: Pem },
    Pkcs12 { archive: Pem, password: Secret },
}

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
}

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

    /// Whether an option asks for TLS, or makes sense with it only.
    pub(crate) fn wanted(&self) -> bool {
        self.require || self.first || !self.roots.is_empty() || self.identity.is_some()
    }

    /// Whether the handshake comes before INFO.
    pub(crate) fn first(&self) -> bool {
        self.first
    }

    /// Looks at what is in memory; files are read at each attempt.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |why| Error::new(ErrorKind::InvalidOption, why);
        for root in self.roots.iter().filter(|root| root.is_in_memory()) {
            root_certificates(root).map_err(bad)?;
        }
        match &self.identity {
            Some(ClientIdentity::Pem { certificate, key }) => {
                if certificate.is_in_memory() {
                    certificate_chain(certificate).map_err(bad)?;
                }
                if key.is_in_memory() {
                    private_key(key).map_err(bad)?;
                }
                if certificate.is_in_memory() && key.is_in_memory() {
                    self.connector(Vec::new()).map_err(bad)?;
                }
            }
            Some(ClientIdentity::Pkcs12 { archive, .. }) if archive.is_in_memory() => {
                self.connector(Vec::new()).map_err(bad)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads everything that an attempt needs.
    pub(crate) fn prepare(&self) -> Result<PreparedTls> {
        let bad = |why| Error::new(ErrorKind::Tls, why);
        let mut roots = Vec::new();
        for root in &self.roots {
            roots.extend(root_certificates(root).map_err(bad)?);
        }
        let connector = self.connector(roots).map_err(bad)?;
        Ok(PreparedTls { connector })
    }

    fn connector(&self, roots: Vec<Certificate>) -> Told<TlsConnector> {
        let mut builder = TlsConnector::builder();
        for root in roots {
            builder.add_root_certificate(root);
        }
        if let Some(identity) = &self.identity {
            builder.identity(client_identity(identity)?);
        }
        builder.min_protocol_version(Some(match self.min_version {
            None | Some(TlsVersion::V1_2) => Protocol::Tlsv12,
            Some(TlsVersion::V1_3) => Protocol::Tlsv13,
        }));
        builder.danger_accept_invalid_certs(self.accept_invalid_certs);
        builder.danger_accept_invalid_hostnames(self.accept_invalid_hostnames);
        let failed = |error: native_tls::Error| {
            format!("TLS could not be set up: {}", explained(&error.to_string(), ""))
        };
        builder.build().map_err(failed)
    }
}

/// What was read, or what is wrong with it.
type Told<T> = std::result::Result<T, String>;

fn root_certificates(root: &Pem) -> Told<Vec<Certificate>> {
    let bytes = root.read()?;
    let mut found = Vec::new();
    for block in certificate_blocks(root, &bytes)? {
        let read = Certificate::from_pem(block.text);
        found.push(read.map_err(|_| unreadable(root, block))?);
    }
    Ok(found)
}

/// The client's certificate and those of its issuers, as one text.
fn certificate_chain(certificate: &Pem) -> Told<Vec<u8>> {
    let bytes = certificate.read()?;
    let mut chain = Vec::new();
    for block in certificate_blocks(certificate, &bytes)? {
        Certificate::from_pem(block.text).map_err(|_| unreadable(certificate, block))?;
        chain.extend_from_slice(block.text);
        chain.push(b'\n');
    }
    Ok(chain)
}

fn certificate_blocks<'a>(pem: &Pem, bytes: &'a [u8]) -> Told<Vec<Block<'a>>> {
    let mut found = blocks(bytes).map_err(|why| format!("{pem}: {why}"))?;
    found.retain(|block| matches!(block.label, "CERTIFICATE" | "X509 CERTIFICATE"));
    if found.is_empty() {
        return Err(format!("{pem}: it holds no certificate in PEM form"));
    }
    Ok(found)
}

fn unreadable(pem: &Pem, block: Block<'_>) -> String {
    format!("{pem}: the certificate that begins in line {} cannot be read", block.line)
}

/// The key as the library takes it: one block of PKCS#8 and nothing before it.
fn private_key(key: &Pem) -> Told<Vec<u8>> {
    let bytes = key.read()?;
    let found = blocks(&bytes).map_err(|why| format!("{key}: {why}"))?;
    let Some(block) = found.iter().find(|block| block.label.ends_with("PRIVATE KEY")) else {
        return Err(format!("{key}: it holds no private key in PEM form"));
    };
    let line = block.line;
    let other = match block.label {
        "PRIVATE KEY" => return Ok(block.text.to_vec()),
        "ENCRYPTED PRIVATE KEY" => "encrypted",
        "RSA PRIVATE KEY" => "in the form PKCS#1",
        "EC PRIVATE KEY" => "in the form SEC1",
        _ => "not in the form PKCS#8",
    };
    Err(format!(
        "{key}: the key that begins in line {line} is {other}; \
         'openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW' makes one that can be used"
    ))
}

fn client_identity(identity: &ClientIdentity) -> Told<Identity> {
    match identity {
        ClientIdentity::Pem { certificate, key } => {
            let chain = certificate_chain(certificate)?;
            let block = private_key(key)?;
            Identity::from_pkcs8(&chain, &block)
                .map_err(|_| format!("{key}: the private key cannot be read"))
        }
        ClientIdentity::Pkcs12 { archive, password } => {
            let bytes = archive.read()?;
            Identity::from_pkcs12(&bytes, password.reveal())
                .map_err(|error| format!("{archive}: {}", archive_fault(&error.to_string())))
        }
    }
}

/// Why a PKCS#12 archive cannot be read.
fn archive_fault(told: &str) -> &'static str {
    if told.contains("mac verify failure") {
        "the password is wrong, or the archive is damaged"
    } else if told.contains("unsupported") {
        "the archive is encrypted in a way that this system's TLS library does not know; \
         'openssl pkcs12 -export' of today makes one that it does"
    } else if told.contains("at least one certificate") {
        "the archive lacks a key or its certificate"
    } else {
        "it is no PKCS#12 archive"
    }
}

impl Pem {
    pub(crate) fn file(path: impl AsRef<Path>) -> Self {
        Self::File(path.as_ref().to_owned())
    }

    fn is_in_memory(&self) -> bool {
        matches!(self, Self::Bytes(..))
    }

    fn read(&self) -> Told<Vec<u8>> {
        match self {
            Self::Bytes(bytes, _) => Ok(bytes.clone()),
            Self::File(path) => {
                fs::read(path).map_err(|error| format!("{self} cannot be read: {error}"))
            }
        }
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "'{}'", path.display()),
            Self::Bytes(_, option) => f.write_str(option),
        }
    }
}

impl fmt::Debug for Pem {
    /// Never the bytes: they may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PreparedTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedTls").finish_non_exhaustive()
    }
}
