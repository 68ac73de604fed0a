//! The server of a run: the one that was named, or one of our own.

use std::env;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::Connection;
use nats_blocking::testing::Server;

use crate::settings::token;
use crate::watch::Bell;
use crate::{Failure, complain};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A server for the time of the run; dropping it ends it if it is our own.
pub(crate) struct TestServer {
    pub(crate) url: String,
    /// Where it comes from, for people.
    pub(crate) origin: String,
    version: OnceLock<String>,
    _keeps: Option<Keeps>,
}

enum Keeps {
    Process(#[allow(dead_code, reason = "it is dropped")] Process),
    Embedded(#[allow(dead_code, reason = "it is dropped")] Server),
}

impl TestServer {
    pub(crate) fn theirs(url: &str) -> Self {
        Self::new(url.to_owned(), "named by --server".to_owned(), None)
    }

    /// The real server if there is one, otherwise the one that tests use.
    pub(crate) fn start(bell: &Bell) -> Result<Self, Failure> {
        let Some(program) = binary() else {
            complain("no nats-server here, so the server is a part of this program");
            let server = Server::start()?;
            let origin = "a part of this program".to_owned();
            return Ok(Self::new(server.url(), origin, Some(Keeps::Embedded(server))));
        };
        let (url, process) = Process::start(&program, bell)?;
        let origin = format!("started for the run: {}", program.display());
        Ok(Self::new(url, origin, Some(Keeps::Process(process))))
    }

    fn new(url: String, origin: String, keeps: Option<Keeps>) -> Self {
        Self { url, origin, version: OnceLock::new(), _keeps: keeps }
    }

    /// Learns what a connection was told.
    pub(crate) fn meet(&self, connection: &Connection) {
        self.version.get_or_init(|| connection.server_info().version().to_owned());
    }

    /// What it says to be, once somebody was connected.
    pub(crate) fn version(&self) -> &str {
        self.version.get().map_or("", String::as_str)
    }
}

/// `NATS_SERVER`, else the newest that `tests/run` has fetched, else what the path has.
fn binary() -> Option<PathBuf> {
    if let Some(path) = env::var_os("NATS_SERVER").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/nats-server");
    let fetched = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest =
        fetched.filter(|path| path.is_file()).max_by_key(|path| (numbers(path), path.clone()));
    let on_path = env::var_os("PATH");
    let mut folders = on_path.iter().flat_map(env::split_paths);
    let elsewhere = || {
        folders.find_map(|folder| Some(folder.join("nats-server")).filter(|path| path.is_file()))
    };
    newest.or_else(elsewhere)
}

/// The version in the name of a file: 2.9 is before 2.10.
fn numbers(path: &Path) -> Vec<u64> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// A folder of our own in the temp directory: dropping it removes it.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self, Failure> {
        let name = format!("nats-blocking-bench-{}-{}", std::process::id(), token());
        let path = env::temp_dir().join(name);
        // One that is there already belongs to somebody else: it is refused.
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A `nats-server` on a free port, with a folder for its configuration and its port.
struct Process {
    child: Child,
    folder: Folder,
}

impl Process {
    fn start(program: &Path, bell: &Bell) -> Result<(String, Self), Failure> {
        let folder = Folder::create()?;
        let conf = folder.0.join("conf");
        fs::write(&conf, "listen: \"127.0.0.1:-1\"\nmax_pending: 512MB\n")?;
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(conf)
            .arg("--ports_file_dir")
            .arg(&folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Ctrl-C goes to the whole group of a terminal: this program ends the server by itself.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command
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
            bell.check()?;
            // Paces: a look every ten milliseconds.
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!("{} is not ready after {START_LIMIT:?}", program.display()).into())
    }

    /// Where it listens, once it does.
    fn url(&self) -> Option<String> {
        let files = fs::read_dir(&self.folder.0).ok()?.flatten().map(|entry| entry.path());
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
    }
}
