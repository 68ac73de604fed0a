//! The server of a run: the one that was named, or one of our own.

use std::env;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::Server;

use crate::Failure;

const START_LIMIT: Duration = Duration::from_secs(20);

/// A server for the time of the run; dropping it ends it if it is our own.
pub(crate) struct TestServer {
    pub(crate) url: String,
    /// Nobody else publishes to it.
    pub(crate) is_own: bool,
    _keeps: Option<Keeps>,
}

enum Keeps {
    Process(#[allow(dead_code, reason = "it is dropped")] Process),
    Embedded(#[allow(dead_code, reason = "it is dropped")] Server),
}

impl TestServer {
    pub(crate) fn theirs(url: &str) -> Self {
        Self { url: url.to_owned(), is_own: false, _keeps: None }
    }

    /// The real server if there is one, otherwise the one that tests use.
    pub(crate) fn start() -> Result<Self, Failure> {
        let (url, keeps) = match binary() {
            Some(program) => {
                let (url, process) = Process::start(&program)?;
                (url, Keeps::Process(process))
            }
            None => {
                eprintln!("bench: no nats-server here, so the server is a part of this program");
                let server = Server::start()?;
                (server.url(), Keeps::Embedded(server))
            }
        };
        Ok(Self { url, is_own: true, _keeps: Some(keeps) })
    }
}

/// `NATS_SERVER`, else what `tests/run` has fetched, else what the path has.
fn binary() -> Option<PathBuf> {
    if let Some(path) = env::var_os("NATS_SERVER") {
        return Some(path.into());
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/nats-server");
    let fetched = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let on_path = env::var_os("PATH");
    let folders = on_path.iter().flat_map(env::split_paths);
    fetched.chain(folders.map(|folder| folder.join("nats-server"))).find(|path| path.is_file())
}

/// A `nats-server` on a free port, with a folder for its configuration and its port.
struct Process {
    child: Child,
    folder: PathBuf,
}

impl Process {
    fn start(program: &Path) -> Result<(String, Self), Failure> {
        let folder = env::temp_dir().join(format!("nats-blocking-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("conf"), "listen: \"127.0.0.1:-1\"\nmax_pending: 512MB\n")?;
        let child = Command::new(program)
            .arg("-c")
            .arg(folder.join("conf"))
            .arg("--ports_file_dir")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        let mut process = Self { child, folder };
        let end = Instant::now() + START_LIMIT;
        while Instant::now() < end {
            if let Some(status) = process.child.try_wait()? {
                return Err(format!("{} ended at once: {status}", program.display()).into());
            }
            if let Some(url) = process.url() {
                return Ok((url, process));
            }
            // Paces: a look every ten milliseconds.
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!("{} is not ready after {START_LIMIT:?}", program.display()).into())
    }

    /// Where it listens, once it does.
    fn url(&self) -> Option<String> {
        let files = fs::read_dir(&self.folder).ok()?.flatten().map(|entry| entry.path());
        let ports =
            files.into_iter().find(|path| path.extension().is_some_and(|e| e == "ports"))?;
        let text = fs::read_to_string(ports).ok()?;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        let url = value.get("nats")?.get(0)?.as_str()?;
        TcpStream::connect(url.strip_prefix("nats://")?).ok()?;
        Some(url.to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
