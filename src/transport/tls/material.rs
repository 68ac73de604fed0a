//! Certificates, keys and the rest of what a connector is made of.
//!
//! An error names the option or the file, and the line of a malformed text; never what stands
//! there. Not here: when any of it is read.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use native_tls::{Certificate, Identity, Protocol, TlsConnector};

use super::explain::explained;
use super::pem::{Block, blocks};
use crate::auth::Secret;

/// The largest file that is read: no bundle of certificates is so long, and a device has no end.
const LARGEST_FILE: u64 = 16 << 20;

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

/// What the client shows to a server that asks for a certificate; a source, or what was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ClientIdentity<S = Pem> {
    Pem { certificate: S, key: S },
    Pkcs12 { archive: S, password: Secret },
}

/// What was read, and where it came from.
#[derive(PartialEq)]
pub(super) struct Text {
    name: String,
    bytes: Vec<u8>,
}

/// All that a connector is made of, but for the platform's own certificates.
#[derive(PartialEq)]
pub(super) struct Material {
    pub(super) roots: Vec<Text>,
    pub(super) identity: Option<ClientIdentity<Text>>,
    pub(super) min_version: Option<TlsVersion>,
    pub(super) accept_invalid_certs: bool,
    pub(super) accept_invalid_hostnames: bool,
}

/// What was read, or what is wrong with it.
pub(super) type Told<T> = Result<T, String>;

impl Material {
    /// The connector of it all, and of the platform's certificates.
    pub(super) fn connector(&self) -> Told<TlsConnector> {
        let mut builder = TlsConnector::builder();
        for root in &self.roots {
            for certificate in root.root_certificates()? {
                builder.add_root_certificate(certificate);
            }
        }
        if let Some(identity) = &self.identity {
            builder.identity(identity.parse()?);
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

impl Text {
    pub(super) fn root_certificates(&self) -> Told<Vec<Certificate>> {
        let mut found = Vec::new();
        for block in self.certificate_blocks()? {
            let read = Certificate::from_pem(block.text);
            found.push(read.map_err(|_| self.unreadable(block))?);
        }
        Ok(found)
    }

    /// The client's certificate and those of its issuers, as one text.
    pub(super) fn certificate_chain(&self) -> Told<Vec<u8>> {
        let mut chain = Vec::new();
        for block in self.certificate_blocks()? {
            Certificate::from_pem(block.text).map_err(|_| self.unreadable(block))?;
            chain.extend_from_slice(block.text);
            chain.push(b'\n');
        }
        Ok(chain)
    }

    fn certificate_blocks(&self) -> Told<Vec<Block<'_>>> {
        let name = &self.name;
        let mut found = blocks(&self.bytes).map_err(|why| format!("{name}: {why}"))?;
        found.retain(|block| matches!(block.label, "CERTIFICATE" | "X509 CERTIFICATE"));
        if found.is_empty() {
            return Err(format!("{name}: it holds no certificate in PEM form"));
        }
        Ok(found)
    }

    fn unreadable(&self, block: Block<'_>) -> String {
        let Self { name, .. } = self;
        format!("{name}: the certificate that begins in line {} cannot be read", block.line)
    }

    /// The key as the library takes it, one block of PKCS#8 and nothing before it, and the line in
    /// which it begins.
    pub(super) fn private_key(&self) -> Told<(usize, Vec<u8>)> {
        let name = &self.name;
        let found = blocks(&self.bytes).map_err(|why| format!("{name}: {why}"))?;
        let Some(block) = found.iter().find(|block| block.label.ends_with("PRIVATE KEY")) else {
            return Err(format!("{name}: it holds no private key in PEM form"));
        };
        let line = block.line;
        let other = match block.label {
            "PRIVATE KEY" => return Ok((line, block.text.to_vec())),
            "ENCRYPTED PRIVATE KEY" => "encrypted",
            "RSA PRIVATE KEY" => "in the form PKCS#1",
            "EC PRIVATE KEY" => "in the form SEC1",
            _ => "not in the form PKCS#8",
        };
        Err(format!(
            "{name}: the key that begins in line {line} is {other}; \
             'openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW' makes one that can be used"
        ))
    }
}

impl ClientIdentity {
    /// All of it is in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        match self {
            Self::Pem { certificate, key } => certificate.is_in_memory() && key.is_in_memory(),
            Self::Pkcs12 { archive, .. } => archive.is_in_memory(),
        }
    }

    pub(super) fn read(&self) -> Told<ClientIdentity<Text>> {
        Ok(match self {
            Self::Pem { certificate, key } => {
                ClientIdentity::Pem { certificate: certificate.read()?, key: key.read()? }
            }
            Self::Pkcs12 { archive, password } => {
                ClientIdentity::Pkcs12 { archive: archive.read()?, password: password.clone() }
            }
        })
    }
}

impl ClientIdentity<Text> {
    fn parse(&self) -> Told<Identity> {
        match self {
            Self::Pem { certificate, key } => {
                let (chain, (line, block)) = (certificate.certificate_chain()?, key.private_key()?);
                let fault = |_| {
                    let name = &key.name;
                    format!("{name}: the private key that begins in line {line} cannot be read")
                };
                Identity::from_pkcs8(&chain, &block).map_err(fault)
            }
            Self::Pkcs12 { archive, password } => {
                let Text { name, bytes } = archive;
                Identity::from_pkcs12(bytes, password.reveal())
                    .map_err(|error| format!("{name}: {}", archive_fault(&error.to_string())))
            }
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

    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self, Self::Bytes(..))
    }

    pub(super) fn read(&self) -> Told<Text> {
        let bytes = match self {
            Self::Bytes(bytes, _) => bytes.clone(),
            Self::File(path) => {
                let mut bytes = Vec::new();
                let read = File::open(path)
                    .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
                let length = read.map_err(|error| format!("{self} cannot be read: {error}"))?;
                if length as u64 > LARGEST_FILE {
                    return Err(format!("{self} cannot be used: it is larger than 16 MiB"));
                }
                bytes
            }
        };
        Ok(Text { name: self.to_string(), bytes })
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
