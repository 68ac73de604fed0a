//! TLS.
//!
//! Without any of these a server that requires TLS gets it, verified against the platform's
//! certificates; `require_tls` and every option that only makes sense with TLS, but for the
//! dangerous ones, refuse a server that does not offer it.

use std::path::Path;

use super::builder::OptionsBuilder;
use crate::auth::Secret;
use crate::transport::{ClientIdentity, Pem, TlsVersion};

/// TLS (feature `tls`, on by default).
impl OptionsBuilder {
    /// Speaks TLS or not at all: a server that does not offer it is refused before anything is
    /// sent. `tls://` in the URL of any configured server does the same, for all servers.
    ///
    /// Without it, and without any other option that asks for TLS, the server decides: one that
    /// requires TLS gets it, and whoever can change what the server says can prevent that.
    pub fn require_tls(mut self) -> Self {
        self.config.tls.require = true;
        self
    }

    /// Begins with TLS instead of the server's INFO in clear, as servers with
    /// `handshake_first: true` want it; implies [`require_tls`](Self::require_tls). Any other
    /// server is refused: it waits for the client as the client waits for it, until the connect
    /// time-out, or answers in clear.
    pub fn tls_first(mut self) -> Self {
        self.config.tls.first = true;
        self
    }

    /// Trusts the certificates in this PEM file too, besides the platform's; implies
    /// [`require_tls`](Self::require_tls). May be called more than once.
    ///
    /// The file is read at each attempt to connect: one that cannot be read within the connect
    /// time-out, or is larger than 16 MiB, fails the attempt.
    pub fn root_certificates_file(mut self, path: impl AsRef<Path>) -> Self {
        self.config.tls.roots.push(Pem::file(path));
        self
    }

    /// Trusts these PEM certificates too, besides the platform's; implies
    /// [`require_tls`](Self::require_tls). May be called more than once.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.config.tls.roots.push(Pem::Bytes(pem.into(), "root_certificates"));
        self
    }

    /// Shows this certificate to a server that asks for one; implies
    /// [`require_tls`](Self::require_tls). Both files are PEM: the certificate followed by those of
    /// its issuers, and the key in the form PKCS#8 without a password
    /// (`openssl pkcs8 -topk8 -nocrypt` makes it of others).
    ///
    /// The files are read at each attempt to connect, so that a certificate can be renewed while
    /// the program runs; one that cannot be read within the connect time-out, or is larger than
    /// 16 MiB, fails the attempt.
    pub fn client_certificate_files(
        mut self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Self {
        let (certificate, key) = (Pem::file(certificate), Pem::file(key));
        self.config.tls.identity = Some(ClientIdentity::Pem { certificate, key });
        self
    }

    /// As [`client_certificate_files`](Self::client_certificate_files), with the PEM texts
    /// themselves.
    pub fn client_certificate(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        let certificate = Pem::Bytes(certificate.into(), "client_certificate: the certificate");
        let key = Pem::Bytes(key.into(), "client_certificate: the key");
        self.config.tls.identity = Some(ClientIdentity::Pem { certificate, key });
        self
    }

    /// As [`client_certificate_files`](Self::client_certificate_files), with a PKCS#12 archive
    /// (`.p12`, `.pfx`), which is read at each attempt to connect.
    pub fn client_certificate_pkcs12_file(
        mut self,
        path: impl AsRef<Path>,
        password: impl Into<String>,
    ) -> Self {
        let (archive, password) = (Pem::file(path), Secret::new(password));
        self.config.tls.identity = Some(ClientIdentity::Pkcs12 { archive, password });
        self
    }

    /// As [`client_certificate_pkcs12_file`](Self::client_certificate_pkcs12_file), with the
    /// archive itself.
    pub fn client_certificate_pkcs12(
        mut self,
        archive: impl Into<Vec<u8>>,
        password: impl Into<String>,
    ) -> Self {
        let archive = Pem::Bytes(archive.into(), "client_certificate_pkcs12");
        let password = Secret::new(password);
        self.config.tls.identity = Some(ClientIdentity::Pkcs12 { archive, password });
        self
    }

    /// The oldest version of TLS that is spoken; implies [`require_tls`](Self::require_tls).
    /// Default TLS 1.2, for a server that has TLS.
    ///
    /// ```
    /// use nats_blocking::{Options, TlsVersion};
    ///
    /// let options = Options::builder()
    ///     .server("tls://nats.example.com")
    ///     .min_tls_version(TlsVersion::V1_3)
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn min_tls_version(mut self, version: TlsVersion) -> Self {
        self.config.tls.min_version = Some(version);
        self
    }

    /// **Dangerous**: accepts any certificate, from anybody, for any name, expired or not. Whoever
    /// is between this program and the server can read and change everything, credentials
    /// included. For a test against a server of one's own, at most; a certificate of one's own is
    /// trusted with [`root_certificates_file`](Self::root_certificates_file).
    pub fn danger_accept_invalid_certs(mut self) -> Self {
        self.config.tls.accept_invalid_certs = true;
        self
    }

    /// **Dangerous**: accepts a certificate that is for another name than the server's. Whoever
    /// has a certificate of any trusted issuer, for any name, can then be the server.
    pub fn danger_accept_invalid_hostnames(mut self) -> Self {
        self.config.tls.accept_invalid_hostnames = true;
        self
    }
}
