//! Certificates for a test, made by the `openssl` command in a folder of their own.
//!
//! An [`Authority`] issues them; each has its key beside it (PKCS#8, P-256). The folder is removed
//! with the authority, and kept when the test panics.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

static NEXT_FOLDER: AtomicU32 = AtomicU32::new(0);

/// From when until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Valid {
    Now,
    Past,
    Future,
}

/// An issuer of certificates.
#[derive(Debug)]
pub(crate) struct Authority {
    folder: PathBuf,
    /// Its own certificate.
    pub(crate) file: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) file: PathBuf,
    pub(crate) key: PathBuf,
}

const CONFIG: &str = "\
[ca]
default_ca = this
[this]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
default_days = 30
unique_subject = no
policy = any
[any]
commonName = supplied
[req]
distinguished_name = any
prompt = no
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
";

impl Authority {
    pub(crate) fn new() -> Self {
        let number = NEXT_FOLDER.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("certificates-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for certificates");
        fs::write(folder.join("config"), CONFIG).unwrap();
        fs::write(folder.join("index.txt"), "").unwrap();
        let authority = Self { file: folder.join("ca.pem"), folder };
        authority.make_key("ca");
        authority.openssl(
            "req -x509 -new -key ca.key -out ca.pem -days 30 -config config \
             -extensions authority -subj",
            &["/CN=the tests"],
        );
        authority
    }

    /// Any certificate: for these alternative names (`DNS:a, IP:127.0.0.1`; none if empty).
    pub(crate) fn issue(&self, name: &str, alternative: &str, valid: Valid) -> Certificate {
        self.make_key(name);
        self.request(name, alternative);
        let dates = match valid {
            Valid::Now => "-days 30",
            Valid::Past => "-startdate 20200101000000Z -enddate 20200201000000Z",
            Valid::Future => "-startdate 20980101000000Z -enddate 20990101000000Z",
        };
        self.openssl(
            &format!(
                "ca -batch -notext -config config -cert ca.pem -keyfile ca.key {dates} \
                 -extfile {name}.ext -in {name}.csr -out {name}.pem"
            ),
            &[],
        );
        self.certificate(name)
    }

    /// A certificate for the loopback address and `localhost`.
    pub(crate) fn server(&self) -> Certificate {
        self.issue("server", "DNS:localhost, IP:127.0.0.1", Valid::Now)
    }

    /// One that nobody else has issued.
    pub(crate) fn self_signed(&self) -> Certificate {
        self.make_key("self");
        self.request("self", "DNS:localhost, IP:127.0.0.1");
        self.openssl(
            "x509 -req -days 30 -in self.csr -signkey self.key -extfile self.ext -out self.pem",
            &[],
        );
        self.certificate("self")
    }

    /// The same certificate and key as a PKCS#12 archive.
    pub(crate) fn archive(&self, certificate: &Certificate, password: &str) -> PathBuf {
        let file = certificate.file.with_extension("p12");
        let (from, key, to) = (text(&certificate.file), text(&certificate.key), text(&file));
        let word = format!("pass:{password}");
        self.openssl(
            "pkcs12 -export",
            &["-in", &from, "-inkey", &key, "-out", &to, "-passout", &word],
        );
        file
    }

    /// The same key in an older form: `-traditional` is SEC1, with `-aes128` it has a password.
    pub(crate) fn converted_key(&self, certificate: &Certificate, options: &str) -> PathBuf {
        let file = certificate.key.with_extension("old");
        let (from, to) = (text(&certificate.key), text(&file));
        self.openssl(&format!("pkey {options}"), &["-in", &from, "-out", &to]);
        file
    }

    /// A path in the folder of the authority.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn certificate(&self, name: &str) -> Certificate {
        Certificate {
            file: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
        }
    }

    fn make_key(&self, name: &str) {
        self.openssl(
            &format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"),
            &[],
        );
    }

    fn request(&self, name: &str, alternative: &str) {
        let names = match alternative {
            "" => "basicConstraints = CA:FALSE\n".to_owned(),
            names => format!("subjectAltName = {names}\n"),
        };
        fs::write(self.folder.join(format!("{name}.ext")), names).unwrap();
        self.openssl(
            &format!("req -new -key {name}.key -out {name}.csr -config config -subj"),
            &[&format!("/CN={name}")],
        );
    }

    /// Words, and further arguments that may hold blanks.
    fn openssl(&self, words: &str, further: &[&str]) {
        let output = Command::new("openssl")
            .args(words.split_whitespace())
            .args(further)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .output()
            .expect("the openssl command (Debian package openssl)");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {words}: {errors}");
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

impl Certificate {
    /// The `tls` block of a server's configuration, with further lines in it.
    pub(crate) fn tls_block(&self, further: &str) -> String {
        format!(
            "tls {{\n  cert_file: \"{}\"\n  key_file: \"{}\"\n  {further}\n}}",
            self.file.display(),
            self.key.display()
        )
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path of the tests").to_owned()
}
