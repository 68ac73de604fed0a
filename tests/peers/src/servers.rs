//! The servers of a run: the real one as a child process with its helpers, the sink, the source.

use std::env;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::certificates;
use crate::mock;
use crate::plan::Result;
use crate::raw::Wire;

pub struct Servers {
    pub sink: String,
    pub source: String,
    /// None where there is no `nats-server`.
    pub real: Option<Real>,
    /// Another one that offers TLS.
    pub tls: Option<Real>,
}

impl Servers {
    pub fn start(over_tls: bool) -> Result<Self> {
        let binary = binary();
        let real = binary.as_deref().map(|program| Real::start(program, false)).transpose()?;
        let secured = binary.as_deref().filter(|_| over_tls);
        let tls = secured.map(|program| Real::start(program, true)).transpose()?;
        let (sink, source) = (mock::start("sink")?.to_string(), mock::start("source")?.to_string());
        Ok(Self { sink, source, real, tls })
    }

    pub fn url(&self, server: &str) -> Option<&str> {
        match server {
            "sink" => Some(&self.sink),
            "source" => Some(&self.source),
            "tls" => self.tls.as_ref().map(|real| real.url.as_str()),
            _ => self.real.as_ref().map(|real| real.url.as_str()),
        }
    }
}

impl Servers {
    /// What a client of that server must trust, if it is to speak TLS.
    pub fn authority(&self, server: &str) -> Option<String> {
        let real = self.tls.as_ref().filter(|_| server == "tls")?;
        real.authority.as_ref().map(|path| path.to_string_lossy().into_owned())
    }
}

/// `NATS_SERVER`, else what `tests/run` has fetched, else what the path has.
fn binary() -> Option<PathBuf> {
    if let Some(path) = env::var_os("NATS_SERVER") {
        return Some(path.into());
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/nats-server");
    let mut fetched: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    // The newest one: their names end with their versions.
    fetched.sort_by_key(|path| std::cmp::Reverse(version(path)));
    let on_path = env::var_os("PATH");
    let folders = on_path.iter().flat_map(env::split_paths);
    let named = folders.map(|folder| folder.join("nats-server"));
    fetched.into_iter().chain(named).find(|path| path.is_file())
}

/// The numbers in the name of a program.
fn version(path: &Path) -> Vec<u32> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// A `nats-server` with a feeder and a responder beside it.
pub struct Real {
    child: Child,
    folder: PathBuf,
    authority: Option<PathBuf>,
    pub url: String,
    pub version: String,
}

impl Real {
    fn start(program: &Path, over_tls: bool) -> Result<Self> {
        let name = format!("peers-{}{}", std::process::id(), if over_tls { "-tls" } else { "" });
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        // A batch must fit, or the server would call a slow client slow and close it.
        let mut text =
            "listen: \"127.0.0.1:-1\"\nmax_pending: 512MB\nwrite_deadline: \"30s\"\n".to_owned();
        let mut authority = None;
        if over_tls {
            let files = certificates::make(&folder)?;
            // The helpers beside it speak in clear.
            text += &format!(
                "allow_non_tls: true\ntls {{ cert_file: {:?}, key_file: {:?} }}\n",
                files.certificate, files.key
            );
            authority = Some(files.authority);
        }
        fs::write(folder.join("conf"), text)?;
        let child = Command::new(program)
            .arg("-c")
            .arg(folder.join("conf"))
            .arg("--ports_file_dir")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let (url, version) = (String::new(), String::new());
        let mut real = Self { child, folder, authority, url, version };
        real.url = real.wait_address()?;
        let shown = Command::new(program).arg("--version").output()?;
        real.version = String::from_utf8_lossy(&shown.stdout).trim().to_owned();
        mock::feed(Wire::connect(&real.url)?)?;
        mock::echo(Wire::connect(&real.url)?)?;
        Ok(real)
    }

    fn wait_address(&mut self) -> Result<String> {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("nats-server ended at once: {status}").into());
            }
            if let Some(address) = self.address() {
                if TcpStream::connect(&address).is_ok() {
                    return Ok(address);
                }
            }
            // Paces: a look every ten milliseconds.
            thread::sleep(Duration::from_millis(10));
        }
        Err("nats-server is not ready after 20 s".into())
    }

    fn address(&self) -> Option<String> {
        let files = fs::read_dir(&self.folder).ok()?.flatten().map(|entry| entry.path());
        let ports =
            files.into_iter().find(|path| path.extension().is_some_and(|e| e == "ports"))?;
        let value: Value = serde_json::from_str(&fs::read_to_string(ports).ok()?).ok()?;
        let url = value.get("nats")?.get(0)?.as_str()?;
        Some(url.strip_prefix("nats://")?.to_owned())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
