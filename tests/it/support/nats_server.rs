//! A real `nats-server` as a child process of the test.
//!
//! The binary is the one that `NATS_SERVER` names, else the one that `tests/run` keeps under
//! `target/`. Each server has a folder of its own under `target/tmp` with its configuration, its
//! ports file and its log: removed in the end, kept and named when the test panics. The port is
//! drawn by `ports` (not by the server from the outgoing range, see there), confirmed by the ports
//! file, and kept across restarts.
//!
//! A signal goes to the child's own id only, and only while the child is not yet reaped: the id
//! cannot have passed to another process. Dropping a server kills it, stopped or not.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::jwt::{Account, Operator};
use super::ports;
use super::wait::poll;

/// Generous: a loaded machine with two cores still starts a server in a second.
const START_LIMIT: Duration = Duration::from_secs(20);
const EXIT_LIMIT: Duration = Duration::from_secs(20);
/// How often a first start may meet a port that was taken between the draw and the bind.
const PORT_DRAWS: u32 = 5;

static NEXT_FOLDER: AtomicU32 = AtomicU32::new(0);

/// What is written into the configuration file of a server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    lines: Vec<String>,
    users: Vec<String>,
    authorization: Vec<String>,
    cluster: Vec<String>,
    program: Option<PathBuf>,
    tls_first: bool,
}

impl Config {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Runs this program in place of the usual one, such as an older server.
    pub(crate) fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Any further text of the configuration language, at the top level.
    pub(crate) fn extra(mut self, text: &str) -> Self {
        self.lines.push(text.to_owned());
        self
    }

    /// Adds a user who may do everything.
    pub(crate) fn user(mut self, user: &str, password: &str) -> Self {
        self.users.push(format!("{{ user: {}, password: {} }}", quoted(user), quoted(password)));
        self
    }

    /// Adds a user with the text of a permissions block, such as `publish: { deny: "a.>" }`.
    pub(crate) fn user_with_permissions(
        mut self,
        user: &str,
        password: &str,
        permissions: &str,
    ) -> Self {
        self.users.push(format!(
            "{{ user: {}, password: {}, permissions: {{ {permissions} }} }}",
            quoted(user),
            quoted(password)
        ));
        self
    }

    /// Adds a user with the public nkey, who may do everything.
    pub(crate) fn nkey(mut self, public: &str) -> Self {
        self.users.push(format!("{{ nkey: {} }}", quoted(public)));
        self
    }

    /// Users are those of the operator's accounts, which the server holds itself.
    pub(crate) fn operator(self, operator: &Operator, accounts: &[&Account]) -> Self {
        let preload: Vec<String> = accounts
            .iter()
            .map(|account| format!("{}: {}", account.public(), quoted(&account.jwt(operator))))
            .collect();
        self.extra(&format!("operator: {}\nresolver: MEMORY", quoted(&operator.jwt())))
            .extra(&format!("resolver_preload: {{\n{}\n}}", preload.join("\n")))
    }

    /// Clients must show this token. Cannot be combined with users.
    pub(crate) fn token(mut self, token: &str) -> Self {
        self.authorization.push(format!("token: {}", quoted(token)));
        self
    }

    /// Clients that show nothing are this user, who must have been added.
    pub(crate) fn no_auth_user(self, user: &str) -> Self {
        let line = format!("no_auth_user: {}", quoted(user));
        self.extra(&line)
    }

    /// The largest payload with headers, in bytes.
    pub(crate) fn max_payload(self, bytes: usize) -> Self {
        self.extra(&format!("max_payload: {bytes}"))
    }

    pub(crate) fn max_connections(self, count: u32) -> Self {
        self.extra(&format!("max_connections: {count}"))
    }

    /// The longest protocol line that a client may send, in bytes.
    pub(crate) fn max_control_line(self, bytes: usize) -> Self {
        self.extra(&format!("max_control_line: {bytes}"))
    }

    pub(crate) fn max_subscriptions(self, count: u32) -> Self {
        self.extra(&format!("max_subscriptions: {count}"))
    }

    /// The most bytes that may wait for one client before it counts as slow.
    pub(crate) fn max_pending(self, bytes: usize) -> Self {
        self.extra(&format!("max_pending: {bytes}"))
    }

    /// How often the server pings a client.
    pub(crate) fn ping_interval(self, interval: Duration) -> Self {
        self.extra(&format!("ping_interval: {}", duration(interval)))
    }

    /// How many pings may be unanswered before the server calls the connection stale.
    pub(crate) fn ping_max(self, count: u32) -> Self {
        self.extra(&format!("ping_max: {count}"))
    }

    pub(crate) fn write_deadline(self, limit: Duration) -> Self {
        self.extra(&format!("write_deadline: {}", duration(limit)))
    }

    /// Lame duck mode: clients are told, kept for `grace`, then closed over the rest of `whole`
    /// (at least 30 s for this server, which then waits at most 1 s between two clients).
    pub(crate) fn lame_duck(self, whole: Duration, grace: Duration) -> Self {
        self.extra(&format!("lame_duck_duration: {}", duration(whole)))
            .extra(&format!("lame_duck_grace_period: {}", duration(grace)))
    }

    /// The server begins with TLS and says nothing in clear: a `tls` block says the same.
    pub(crate) fn tls_first(mut self) -> Self {
        self.tls_first = true;
        self
    }

    /// Takes WebSockets on this port too, with these lines in the block.
    pub(crate) fn websocket(self, port: u16, lines: &str) -> Self {
        self.extra(&format!("websocket {{\nlisten: \"127.0.0.1:{port}\"\n{lines}\n}}"))
    }

    /// A name for the server, as it appears in INFO.
    pub(crate) fn server_name(self, name: &str) -> Self {
        let line = format!("server_name: {}", quoted(name));
        self.extra(&line)
    }

    /// Makes the server a member of a cluster: its own route port and those of the others.
    pub(crate) fn cluster(mut self, name: &str, port: u16, routes: &[u16]) -> Self {
        let routes: Vec<String> =
            routes.iter().map(|route| format!("\"nats-route://127.0.0.1:{route}\"")).collect();
        self.cluster = vec![
            format!("name: {}", quoted(name)),
            format!("listen: \"127.0.0.1:{port}\""),
            format!("routes: [{}]", routes.join(", ")),
        ];
        self
    }

    fn text(&self, port: u16, folder: &Path) -> String {
        let mut text = format!(
            "listen: \"127.0.0.1:{port}\"\nlog_file: {}\ndebug: true\n",
            quoted(&folder.join("log").to_string_lossy())
        );
        for line in &self.lines {
            let _ = writeln!(text, "{line}");
        }
        let mut authorization = self.authorization.clone();
        if !self.users.is_empty() {
            authorization.push(format!("users: [\n  {}\n]", self.users.join("\n  ")));
        }
        for (name, block) in [("authorization", &authorization), ("cluster", &self.cluster)] {
            if !block.is_empty() {
                let _ = writeln!(text, "{name} {{\n{}\n}}", block.join("\n"));
            }
        }
        text
    }
}

/// A running (or stopped, or killed) server.
#[derive(Debug)]
pub(crate) struct NatsServer {
    config: Config,
    port: u16,
    folder: PathBuf,
    /// None once the child has been reaped.
    child: Option<Child>,
}

impl NatsServer {
    /// Starts a server and waits until it is ready.
    pub(crate) fn start(config: &Config) -> Self {
        for _ in 0..PORT_DRAWS {
            if let Some(server) = Self::try_start(config, ports::free()) {
                return server;
            }
        }
        panic!("{PORT_DRAWS} ports in a row were taken");
    }

    /// Starts a server that needs nothing special.
    pub(crate) fn start_plain() -> Self {
        Self::start(&Config::new())
    }

    /// None if the port, or a route port of the configuration, is taken.
    pub(crate) fn try_start(config: &Config, port: u16) -> Option<Self> {
        let number = NEXT_FOLDER.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("nats-server-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the server");
        let mut server = Self { config: config.clone(), port, folder, child: None };
        server.launch().then_some(server)
    }

    /// `nats://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where clients connect to.
    pub(crate) fn client_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The process id; panics if the server is not running.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server is running").id()
    }

    /// Whether there is a process, stopped or not.
    pub(crate) fn is_running(&mut self) -> bool {
        self.reap().is_none() && self.child.is_some()
    }

    /// SIGKILL; returns when the process is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has already ended.
            let _ = child.kill();
            child.wait().expect("the server's end");
        }
    }

    /// SIGSTOP: returns when the process stands still; its sockets stay open.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
        // The signal is sent at once, but a thread on another processor runs a little longer.
        let stands = poll(EXIT_LIMIT, || self.stands_still().then_some(()));
        assert!(stands.is_some(), "the server does not stop\n{}", self.log());
    }

    /// Whether all threads are stopped; where there is no `/proc`, that is believed.
    fn stands_still(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid())) else {
            return true;
        };
        threads.filter_map(Result::ok).all(|thread| {
            let status = fs::read_to_string(thread.path().join("status"));
            status.is_ok_and(|status| status.contains("State:\tT"))
        })
    }

    /// SIGCONT: the process goes on.
    pub(crate) fn cont(&self) {
        self.signal("CONT");
    }

    /// SIGUSR2: the server tells its clients that it is about to leave, and then leaves.
    pub(crate) fn lame_duck(&self) {
        self.signal("USR2");
    }

    /// SIGTERM; returns when the process is gone.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_exit(EXIT_LIMIT)
    }

    /// Waits until the process has ended by itself or by a signal.
    pub(crate) fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        poll(limit, || self.reap())
            .unwrap_or_else(|| panic!("the server still runs after {limit:?}\n{}", self.log()))
    }

    /// Kills the server if it runs, and starts it again on the same port.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + START_LIMIT;
        // The port may be busy for a moment, in a rare case because another test tries it.
        while !self.launch() {
            assert!(Instant::now() < deadline, "port {} stays busy\n{}", self.port, self.log());
        }
    }

    /// As `restart`, with another configuration from now on.
    pub(crate) fn restart_with(&mut self, config: &Config) {
        self.config = config.clone();
        self.restart();
    }

    /// Another configuration from now on, without a restart (SIGHUP).
    pub(crate) fn reload_with(&mut self, config: &Config) {
        self.config = config.clone();
        let done = "Reloaded server configuration";
        let before = self.log().matches(done).count();
        fs::write(self.folder.join("conf"), self.config.text(self.port, &self.folder)).unwrap();
        self.signal("HUP");
        let met = poll(EXIT_LIMIT, || (self.log().matches(done).count() > before).then_some(()));
        assert!(met.is_some(), "the configuration is not taken\n{}", self.log());
    }

    /// Connects and reads INFO, again and again until it works; returns the INFO.
    pub(crate) fn wait_ready(&self, limit: Duration) -> Value {
        poll(limit, || self.info())
            .unwrap_or_else(|| panic!("no INFO within {limit:?}\n{}", self.log()))
    }

    /// The INFO that a client gets now, or None if it gets none within a second.
    pub(crate) fn info(&self) -> Option<Value> {
        let limit = Duration::from_secs(1);
        let stream = TcpStream::connect_timeout(&self.client_address(), limit).ok()?;
        stream.set_read_timeout(Some(limit)).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        serde_json::from_str(line.strip_prefix("INFO ")?).ok()
    }

    /// What the server has logged so far, over all its starts.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("log")).unwrap_or_default();
        let errors = fs::read(self.folder.join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned() + &String::from_utf8_lossy(&errors)
    }

    /// Waits until the log holds `text`.
    pub(crate) fn wait_log(&self, text: &str, limit: Duration) {
        let found = poll(limit, || self.log().contains(text).then_some(()));
        assert!(found.is_some(), "no '{text}' in the log within {limit:?}\n{}", self.log());
    }

    /// One start. True when ready; false when a port is taken; panics for any other end.
    fn launch(&mut self) -> bool {
        let logged = self.log().len();
        let file = self.folder.join("conf");
        fs::write(&file, self.config.text(self.port, &self.folder)).expect("the configuration");
        let errors = File::create(self.folder.join("stderr")).expect("a file for errors");
        let program = self.config.program.clone().unwrap_or_else(binary);
        let child = Command::new(&program)
            .arg("-c")
            .arg(&file)
            .arg("--ports_file_dir")
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("nats-server starts");
        let ports_file = self.folder.join(format!("nats-server_{}.ports", child.id()));
        // The file is named after the program; a pinned one has its version in the name.
        let named_after = program.file_name().map(|name| name.to_string_lossy().into_owned());
        let other_file =
            self.folder.join(format!("{}_{}.ports", named_after.unwrap_or_default(), child.id()));
        self.child = Some(child);
        let confirmed = poll(START_LIMIT, || {
            if self.reap().is_some() {
                return Some(false);
            }
            let text = fs::read_to_string(&ports_file)
                .or_else(|_| fs::read_to_string(&other_file))
                .ok()?;
            let ports: Value = serde_json::from_str(&text).ok()?;
            let urls = ports.get("nats")?.as_array()?;
            let address = format!("://127.0.0.1:{}", self.port);
            Some(urls.iter().any(|url| url.as_str().is_some_and(|url| url.ends_with(&address))))
        });
        let log = self.log();
        match confirmed {
            Some(true) => {
                if !self.config.tls_first {
                    self.wait_ready(START_LIMIT);
                }
                true
            }
            Some(false) if self.child.is_none() => {
                let busy = log.get(logged..).unwrap_or(&log).contains("address already in use");
                assert!(busy, "the server ended at once\n{log}");
                false
            }
            Some(false) => panic!("the ports file names another port than {}", self.port),
            None => panic!("the server is not ready after {START_LIMIT:?}\n{log}"),
        }
    }

    /// The status of the child if it has ended since the last look.
    fn reap(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("the child's state")?;
        self.child = None;
        Some(status)
    }

    fn signal(&self, name: &str) {
        // The shell's own `kill`: the crate has no unsafe code, and so no call of the C function.
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.pid().to_string()])
            .status()
            .expect("a shell");
        assert!(status.success(), "SIG{name} could not be sent");
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("port {}: the server's files are in {}", self.port, self.folder.display());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// The program to run unless a configuration names one: that of `NATS_SERVER`, else what
/// `tests/run` has fetched.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = env::var_os("NATS_SERVER") {
        return path.into();
    }
    // The folder for temporary files is target/tmp.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let pinned = target.join("nats-server/nats-server-2.15.1");
    assert!(pinned.exists(), "no nats-server here: run tests/run, or set NATS_SERVER=path");
    pinned
}

fn duration(duration: Duration) -> String {
    format!("\"{}ms\"", duration.as_millis())
}

fn quoted(text: &str) -> String {
    assert!(!text.contains(['"', '\\', '\n']), "not a word for the configuration: {text:?}");
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Sends CONNECT and PING as a client without a name, and returns what comes until `end`.
    fn talk(server: &NatsServer, connect: &str, end: &str) -> String {
        let mut stream = TcpStream::connect(server.client_address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "CONNECT {connect}\r\nPING\r\n").unwrap();
        read_until(&mut stream, end)
    }

    fn read_until(stream: &mut TcpStream, end: &str) -> String {
        let mut text = String::new();
        let mut chunk = [0; 4_096];
        while !text.contains(end) {
            let length = stream.read(&mut chunk).unwrap_or(0);
            assert!(length > 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&chunk[..length]));
        }
        text
    }

    #[test]
    fn a_server_starts_and_restarts_on_the_same_port_and_leaves_nothing() {
        let mut server = NatsServer::start_plain();
        let first = server.wait_ready(LIMIT);
        let (port, pid, folder) = (server.port(), server.pid(), server.folder.clone());
        assert_eq!(first["port"], port);
        server.kill();
        assert!(!server.is_running());
        assert!(server.info().is_none());
        server.restart();
        let second = server.wait_ready(LIMIT);
        assert_eq!(second["port"], port);
        assert_ne!(second["server_id"], first["server_id"]);
        assert_ne!(server.pid(), pid);
        assert!(server.log().contains("Server is ready"));
        assert!(folder.exists());
        drop(server);
        assert!(!folder.exists());
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    }

    #[test]
    fn a_stopped_server_is_silent_and_goes_on_later() {
        let server = NatsServer::start_plain();
        let mut stream = TcpStream::connect(server.client_address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        read_until(&mut stream, "\r\n");
        server.stop();
        assert!(server.stands_still());
        stream.write_all(b"CONNECT {}\r\nPING\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(stream.read(&mut [0; 1]).is_err());
        server.cont();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        read_until(&mut stream, "PONG\r\n");
    }

    #[test]
    fn a_server_told_to_leave_says_so_first() {
        let config = Config::new().lame_duck(Duration::from_secs(30), Duration::from_millis(50));
        let mut server = NatsServer::start(&config);
        let mut stream = TcpStream::connect(server.client_address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n").unwrap();
        read_until(&mut stream, "PONG\r\n");
        server.lame_duck();
        read_until(&mut stream, "\"ldm\":true");
        server.wait_exit(LIMIT);
        assert!(!server.is_running());
    }

    #[test]
    fn a_terminated_server_can_be_restarted() {
        let mut server = NatsServer::start_plain();
        server.terminate();
        assert!(!server.is_running());
        server.restart();
        assert!(server.is_running());
    }

    #[test]
    fn users_tokens_permissions_and_limits_are_in_force() {
        let config = Config::new()
            .user("anna", "secret")
            .user_with_permissions("guest", "guest", "publish: { deny: \"private.>\" }")
            .no_auth_user("guest")
            .max_payload(1_000)
            .max_connections(10)
            .max_subscriptions(5)
            .max_pending(2_000_000)
            .ping_interval(Duration::from_secs(60))
            .ping_max(3)
            .write_deadline(Duration::from_millis(2_500))
            .server_name("configured");
        let server = NatsServer::start(&config);
        let info = server.wait_ready(LIMIT);
        assert_eq!(info["max_payload"], 1_000);
        assert_eq!(info["server_name"], "configured");
        talk(&server, r#"{"user":"anna","pass":"secret"}"#, "PONG");
        talk(&server, r#"{"user":"anna","pass":"wrong"}"#, "Authorization Violation");
        let denied = talk(&server, "{}\r\nPUB private.x 0\r\n", "Permissions Violation");
        assert!(denied.contains("private.x"), "{denied}");

        let token = NatsServer::start(&Config::new().token("t0ken"));
        talk(&token, r#"{"auth_token":"t0ken"}"#, "PONG");
        talk(&token, "{}", "Authorization Violation");
    }

    #[test]
    fn a_taken_port_is_noticed() {
        let taken = ports::listen();
        let port = taken.local_addr().unwrap().port();
        assert!(NatsServer::try_start(&Config::new(), port).is_none());
    }
}
