//! A certificate for the server over TLS, and the authority that has signed it, made by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::plan::Result;

/// The files of a server over TLS.
pub struct Certificates {
    /// What clients must trust.
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// An authority signs for 127.0.0.1: some clients refuse a certificate that has signed itself.
pub fn make(folder: &Path) -> Result<Certificates> {
    let file = |name: &str| folder.join(name);
    let name = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n";
    fs::write(file("extensions"), name)?;
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    run(folder, &format!("req -x509 {new} -keyout ca.key -out ca.pem -days 2 -subj /CN=peers"))?;
    run(folder, &format!("req {new} -keyout server.key -out server.csr -subj /CN=localhost"))?;
    let sign = "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                -extfile extensions -out server.pem";
    run(folder, sign)?;
    Ok(Certificates {
        authority: file("ca.pem"),
        certificate: file("server.pem"),
        key: file("server.key"),
    })
}

fn run(folder: &Path, words: &str) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(words.split_whitespace()).current_dir(folder).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("openssl: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("openssl {words}: {}", text.trim()).into())
}
