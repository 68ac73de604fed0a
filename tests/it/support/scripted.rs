//! A server that plays a script: for all that a healthy server never does.
//!
//! Each accepted connection gets the next script, a list of [`Step`]s, played on a thread of its
//! own (`scripted-N`). A second thread (`scripted-rN`) reads and records whatever the client sends,
//! and answers PINGs once a step has asked for that; it sees the client's frames, so a payload that
//! looks like a PING is none. When the steps have been played the connection is closed.
//!
//! Every wait ends at its limit or when the server is dropped. Dropping joins all threads, and
//! fails the test if a step did not get what it expected.

use std::io::{Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::ports;
use super::wait::{Gate, Signal};

/// How long a step waits for what it expects.
const STEP_LIMIT: Duration = Duration::from_secs(20);
/// How long a wait at a gate lasts before it looks whether the server was dropped.
const GATE_LOOK: Duration = Duration::from_millis(10);
/// The longest control line that is kept when no line end comes.
const LONGEST_LINE: usize = 1 << 20;

/// One thing that the server does on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Sends an INFO as a server of today does.
    DefaultInfo,
    /// Sends `INFO`, this JSON text and CR LF.
    SendInfo(String),
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes one by one, with a pause after each.
    SendSlowly { bytes: Vec<u8>, every: Duration },
    /// Waits for a control line that begins so; lines before it are passed over.
    ExpectLine(String),
    /// Waits until so many bytes have come, whatever they are.
    ExpectBytes(usize),
    /// Waits for CONNECT and then PING, and answers PONG.
    ExpectConnectAndPing,
    /// Answers every PING from now on, those of the past included, while further steps are played.
    AnswerPingsMeanwhile,
    /// Answers every PING until the client closes, the gate opens or the server is dropped.
    AnswerPings(Gate),
    /// Waits until the test opens the gate, at most 20 s.
    Wait(Gate),
    /// Ends the connection in order (FIN).
    Close,
    /// Breaks the connection (RST).
    Reset,
    /// Sends FIN but goes on to read.
    HalfClose,
    /// Reads nothing until the gate opens or the server is dropped.
    StopReading(Gate),
    /// Reads but says nothing until the client closes or the server is dropped.
    Silence,
}

impl Step {
    pub(crate) fn send(text: &str) -> Self {
        Self::Send(text.as_bytes().to_vec())
    }

    pub(crate) fn expect(prefix: &str) -> Self {
        Self::ExpectLine(prefix.to_owned())
    }

    /// INFO, CONNECT, PING, PONG: what comes before anything else on a connection that works.
    pub(crate) fn handshake() -> Vec<Self> {
        vec![Self::DefaultInfo, Self::ExpectConnectAndPing]
    }

    /// A connection that works and stays: the handshake, then an answer to every PING.
    pub(crate) fn healthy() -> Vec<Self> {
        vec![Self::DefaultInfo, Self::AnswerPings(Gate::new())]
    }
}

/// What the server does when each script has had its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// The port is closed: connections are refused.
    Refuse,
    /// The last script is played again for each further connection.
    Repeat,
}

/// The server: listens until it is dropped (or refuses).
pub(crate) struct ScriptedServer {
    address: SocketAddr,
    hub: Arc<Hub>,
    accepting: Option<JoinHandle<()>>,
}

struct Hub {
    state: Signal<State>,
}

#[derive(Default)]
struct State {
    stopping: bool,
    refusing: bool,
    connections: Vec<Arc<Link>>,
    threads: Vec<JoinHandle<()>>,
    failures: Vec<String>,
}

/// One accepted connection, as the script, its reader and the test share it.
struct Link {
    index: usize,
    record: Signal<Record>,
    /// Taken for each whole send, so that a PONG never falls into the middle of one.
    sending: Mutex<()>,
    /// Weak: the descriptor must go when script and reader are done with it.
    stream: Mutex<Weak<TcpStream>>,
}

#[derive(Default)]
struct Record {
    received: Vec<u8>,
    splitter: Splitter,
    lines: Vec<String>,
    captured: Vec<String>,
    answering: bool,
    pongs: usize,
    reading_stopped: bool,
    /// The client has closed, or the connection broke.
    peer_closed: bool,
    script_ended: bool,
}

impl ScriptedServer {
    /// Listens on a loopback port and plays one script for each connection.
    pub(crate) fn start(scripts: Vec<Vec<Step>>, afterwards: Afterwards) -> Self {
        let listener = ports::listen();
        let address = listener.local_addr().unwrap();
        let hub = Arc::new(Hub { state: Signal::new(State::default()) });
        let accepting = {
            let hub = hub.clone();
            spawn("scripted-accept", move || hub.accept(listener, &scripts, afterwards))
        };
        Self { address, hub, accepting: Some(accepting) }
    }

    /// One script for one connection; further ones are refused.
    pub(crate) fn once(script: Vec<Step>) -> Self {
        Self::start(vec![script], Afterwards::Refuse)
    }

    /// The same script for every connection.
    pub(crate) fn always(script: Vec<Step>) -> Self {
        Self::start(vec![script], Afterwards::Repeat)
    }

    /// `nats://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections have been accepted so far.
    pub(crate) fn connection_count(&self) -> usize {
        self.hub.state.read(|state| state.connections.len())
    }

    /// The connection with this number (from 0); waits until it has been accepted.
    pub(crate) fn connection(&self, index: usize, limit: Duration) -> ScriptedConnection {
        let found = self.hub.state.wait(limit, |state| state.connections.get(index).cloned());
        let link = found.unwrap_or_else(|| {
            panic!("no connection {index} within {limit:?}; {} came", self.connection_count())
        });
        ScriptedConnection { link }
    }

    /// Waits until the port is closed, which `Afterwards::Refuse` does after the last script began.
    pub(crate) fn wait_refusing(&self, limit: Duration) {
        let refusing = self.hub.state.wait(limit, |state| state.refusing.then_some(()));
        assert!(refusing.is_some(), "still accepting after {limit:?}");
    }

    /// What went otherwise than a script expected, so far; dropping then does not fail for it.
    pub(crate) fn take_failures(&self) -> Vec<String> {
        self.hub.state.change(|state| mem::take(&mut state.failures))
    }

    fn shut_down(&mut self) {
        self.hub.state.change(|state| state.stopping = true);
        // Wakes the accepting thread; if the port is closed already, that thread has ended.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
        let (links, threads) = self
            .hub
            .state
            .change(|state| (state.connections.clone(), mem::take(&mut state.threads)));
        for link in &links {
            link.shut_down();
        }
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.shut_down();
        let failures = self.take_failures().join("\n  ");
        if failures.is_empty() {
            return;
        }
        if thread::panicking() {
            eprintln!("a script failed as well:\n  {failures}");
        } else {
            panic!("a script failed:\n  {failures}");
        }
    }
}

/// What a test sees of one connection. Stays readable after the connection has ended.
pub(crate) struct ScriptedConnection {
    link: Arc<Link>,
}

impl ScriptedConnection {
    /// Everything that the client has sent so far.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.link.record.read(|record| record.received.clone())
    }

    /// Waits until the script has stopped reading: what comes from then on stays in the kernel.
    pub(crate) fn wait_reading_stopped(&self, limit: Duration) {
        let stopped = self.link.record.wait(limit, |record| record.reading_stopped.then_some(()));
        assert!(stopped.is_some(), "the script reads after {limit:?}");
    }

    /// The control lines of the client so far, without payloads and line ends.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.link.record.read(|record| record.lines.clone())
    }

    /// The lines that `ExpectLine` and `ExpectConnectAndPing` have met.
    pub(crate) fn captured(&self) -> Vec<String> {
        self.link.record.read(|record| record.captured.clone())
    }

    /// Waits until what was received satisfies `enough`, and returns it.
    pub(crate) fn wait_received(
        &self,
        mut enough: impl FnMut(&[u8]) -> bool,
        limit: Duration,
    ) -> Vec<u8> {
        self.wait(limit, "what was expected to be received", |record| {
            enough(&record.received).then(|| record.received.clone())
        })
    }

    /// Waits for a control line that begins so, and returns the first one.
    pub(crate) fn wait_line(&self, prefix: &str, limit: Duration) -> String {
        self.wait(limit, &format!("a line '{prefix}…'"), |record| {
            record.lines.iter().find(|line| line.starts_with(prefix)).cloned()
        })
    }

    /// Waits until the client has closed the connection, or it broke.
    pub(crate) fn wait_peer_closed(&self, limit: Duration) {
        self.wait(limit, "the client's close", |record| record.peer_closed.then_some(()));
    }

    /// Waits until all steps have been played.
    pub(crate) fn wait_script_ended(&self, limit: Duration) {
        self.wait(limit, "the end of the script", |record| record.script_ended.then_some(()));
    }

    fn wait<R>(
        &self,
        limit: Duration,
        what: &str,
        look: impl FnMut(&mut Record) -> Option<R>,
    ) -> R {
        self.link.record.wait(limit, look).unwrap_or_else(|| {
            let received = self.received();
            let text = String::from_utf8_lossy(&received);
            panic!("{what} did not come within {limit:?}; received: {text:?}")
        })
    }
}

impl Hub {
    fn accept(
        self: &Arc<Self>,
        listener: TcpListener,
        scripts: &[Vec<Step>],
        afterwards: Afterwards,
    ) {
        for index in 0.. {
            let script = match (scripts.get(index), afterwards) {
                (Some(script), _) => script.clone(),
                (None, Afterwards::Refuse) => break,
                (None, Afterwards::Repeat) => scripts.last().cloned().unwrap_or_default(),
            };
            let Ok((stream, _)) = listener.accept() else { break };
            if self.is_stopping() {
                break;
            }
            // Small writes shall leave as they are, not gathered by the kernel.
            let _ = stream.set_nodelay(true);
            self.begin(index, stream, script);
        }
        drop(listener);
        self.state.change(|state| state.refusing = true);
    }

    fn begin(self: &Arc<Self>, index: usize, stream: TcpStream, script: Vec<Step>) {
        let stream = Arc::new(stream);
        let link = Arc::new(Link {
            index,
            record: Signal::default(),
            sending: Mutex::new(()),
            stream: Mutex::new(Arc::downgrade(&stream)),
        });
        let hub = self.clone();
        let player = Player { hub, link: link.clone(), next_line: 0 };
        // The thread is listed together with the connection: whoever drops the server sees both.
        self.state.change(|state| {
            state.connections.push(link);
            state.threads.push(spawn(&format!("scripted-{index}"), move || {
                player.play(stream, script);
            }));
        });
    }

    fn is_stopping(&self) -> bool {
        self.state.read(|state| state.stopping)
    }

    fn fail(&self, text: String) {
        self.state.change(|state| {
            // What a script misses because the test is over is no failure.
            if !state.stopping {
                state.failures.push(text);
            }
        });
    }
}

impl Link {
    /// Frees whoever reads from the connection or writes to it.
    fn shut_down(&self) {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(stream) = stream {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.record.change(|record| record.peer_closed = true);
    }

    fn send(&self, mut stream: &TcpStream, bytes: &[u8]) -> Result<(), String> {
        let _whole = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        // A client that has closed meanwhile is nothing that a script can help.
        stream.write_all(bytes).map_err(|error| format!("send: {error}"))
    }

    /// The body of the reading thread: records until the stream ends.
    fn read(&self, mut stream: &TcpStream) {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            // The look waits without taking anything, so that a stop of the reading is exact.
            if !matches!(stream.peek(&mut chunk[..1]), Ok(1..)) {
                break;
            }
            let go_on = self.record.wait(Duration::from_secs(3_600), |record| {
                (!record.reading_stopped || record.peer_closed).then_some(!record.reading_stopped)
            });
            if go_on != Some(true) {
                break;
            }
            let Ok(length @ 1..) = stream.read(&mut chunk) else { break };
            self.record.change(|record| record.take_in(&chunk[..length]));
            self.answer_pings(stream);
        }
        self.record.change(|record| record.peer_closed = true);
    }

    /// Sends the PONGs that are owed, if PINGs are to be answered.
    fn answer_pings(&self, stream: &TcpStream) {
        let owed = self.record.change(|record| {
            let owed = if record.answering { record.pings() - record.pongs } else { 0 };
            record.pongs += owed;
            owed
        });
        if owed > 0 {
            // An error shows itself as the end of the stream.
            let _ = self.send(stream, "PONG\r\n".repeat(owed).as_bytes());
        }
    }
}

impl Record {
    fn take_in(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        self.splitter.take_in(bytes, &mut self.lines);
    }

    fn pings(&self) -> usize {
        self.lines.iter().filter(|line| line.eq_ignore_ascii_case("PING")).count()
    }
}

/// Finds the control lines in what a client sends, and steps over payloads.
#[derive(Default)]
struct Splitter {
    line: Vec<u8>,
    /// Bytes of a payload and its line end that are still to come.
    skip: usize,
}

impl Splitter {
    fn take_in(&mut self, mut bytes: &[u8], lines: &mut Vec<String>) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else { break };
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = String::from_utf8_lossy(&mem::take(&mut self.line)).into_owned();
            let line = line.trim_end_matches('\r');
            self.skip = payload_after(line);
            lines.push(line.to_owned());
        }
        let room = LONGEST_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// How many bytes follow a line: payload and line end of a PUB or HPUB, otherwise none.
fn payload_after(line: &str) -> usize {
    let mut words = line.split_ascii_whitespace();
    let operation = words.next().unwrap_or_default();
    if operation.eq_ignore_ascii_case("PUB") || operation.eq_ignore_ascii_case("HPUB") {
        let length: usize = words.next_back().and_then(|word| word.parse().ok()).unwrap_or(0);
        return length.saturating_add(2);
    }
    0
}

/// How the connection ends once the script does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    Reset,
}

/// Plays one script on one connection.
struct Player {
    hub: Arc<Hub>,
    link: Arc<Link>,
    /// The first control line that no expectation has passed over yet.
    next_line: usize,
}

impl Player {
    fn play(mut self, stream: Arc<TcpStream>, script: Vec<Step>) {
        let reader = {
            let (link, stream) = (self.link.clone(), stream.clone());
            spawn(&format!("scripted-r{}", self.link.index), move || link.read(&stream))
        };
        let mut end = End::Close;
        for (number, step) in script.into_iter().enumerate() {
            match step {
                Step::Close => break,
                Step::Reset => {
                    end = End::Reset;
                    break;
                }
                step => {
                    let shown = format!("{step:?}");
                    if let Err(text) = self.step(&stream, step) {
                        let shown: String = shown.chars().take(80).collect();
                        let place = format!("connection {}, step {number}", self.link.index);
                        self.hub.fail(format!("{place}, {shown}: {text}"));
                        break;
                    }
                }
            }
        }
        self.finish(stream, reader, end);
    }

    fn finish(&self, stream: Arc<TcpStream>, reader: JoinHandle<()>, end: End) {
        // To shut down reading is a local matter: it frees the reader and sends nothing.
        let how = if end == End::Reset { Shutdown::Read } else { Shutdown::Both };
        let _ = stream.shutdown(how);
        self.link.record.change(|record| {
            record.peer_closed = true;
            record.script_ended = true;
        });
        let _ = reader.join();
        if end == End::Reset {
            // With nothing to linger for, the last close of the descriptor sends RST.
            let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        }
        // The reader is gone and the link's reference is weak: this is the last one.
        drop(stream);
    }

    fn step(&mut self, stream: &TcpStream, step: Step) -> Result<(), String> {
        match step {
            Step::DefaultInfo => self.send_info(stream, &default_info(stream)),
            Step::SendInfo(json) => self.send_info(stream, &json),
            Step::Send(bytes) => {
                // A script may send what makes a client close: that it has closed is no failure.
                let _ = self.link.send(stream, &bytes);
                Ok(())
            }
            Step::SendSlowly { bytes, every } => {
                self.send_slowly(stream, &bytes, every);
                Ok(())
            }
            Step::ExpectLine(prefix) => self.expect(&prefix),
            Step::ExpectBytes(count) => {
                let enough = |record: &mut Record| (record.received.len() >= count).then_some(());
                let come = self.link.record.wait(STEP_LIMIT, enough);
                come.ok_or_else(|| format!("no {count} bytes within {STEP_LIMIT:?}"))
            }
            Step::ExpectConnectAndPing => {
                self.expect("CONNECT")?;
                self.expect("PING")?;
                self.link.record.change(|record| record.pongs += 1);
                self.link.send(stream, b"PONG\r\n")
            }
            Step::AnswerPingsMeanwhile => {
                self.answer_pings(stream);
                Ok(())
            }
            Step::AnswerPings(gate) => {
                self.answer_pings(stream);
                self.wait_at(&gate, None);
                Ok(())
            }
            Step::Wait(gate) => self.wait_for(&gate),
            Step::HalfClose => {
                let _ = stream.shutdown(Shutdown::Write);
                Ok(())
            }
            Step::StopReading(gate) => {
                self.link.record.change(|record| record.reading_stopped = true);
                self.wait_at(&gate, None);
                self.link.record.change(|record| record.reading_stopped = false);
                Ok(())
            }
            Step::Silence => {
                self.wait_at(&Gate::new(), None);
                Ok(())
            }
            // The caller ends the script for these.
            Step::Close | Step::Reset => Ok(()),
        }
    }

    fn send_info(&self, stream: &TcpStream, json: &str) -> Result<(), String> {
        self.link.send(stream, format!("INFO {json}\r\n").as_bytes())
    }

    fn send_slowly(&self, mut stream: &TcpStream, bytes: &[u8], every: Duration) {
        let _whole = self.link.sending.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            // The pause ends early when the server is dropped or the client has closed.
            self.link.record.wait(every, |record| record.peer_closed.then_some(()));
        }
    }

    fn answer_pings(&self, stream: &TcpStream) {
        self.link.record.change(|record| record.answering = true);
        self.link.answer_pings(stream);
    }

    fn expect(&mut self, prefix: &str) -> Result<(), String> {
        let from = self.next_line;
        let met = self.link.record.wait(STEP_LIMIT, |record| {
            let found = record.lines.iter().skip(from).position(|line| line.starts_with(prefix));
            match found {
                Some(offset) => {
                    let line = record.lines.get(from + offset)?.clone();
                    record.captured.push(line);
                    Some(Ok(from + offset + 1))
                }
                None => record.peer_closed.then(|| Err(record.lines.clone())),
            }
        });
        match met {
            Some(Ok(next)) => {
                self.next_line = next;
                Ok(())
            }
            Some(Err(lines)) => Err(format!("the client closed; its lines: {lines:?}")),
            None => Err(format!("no '{prefix}' within {STEP_LIMIT:?}")),
        }
    }

    fn wait_for(&self, gate: &Gate) -> Result<(), String> {
        if self.wait_at(gate, Some(Instant::now() + STEP_LIMIT)) {
            return Ok(());
        }
        Err(format!("the gate was not opened within {STEP_LIMIT:?}"))
    }

    /// False only if the deadline passed. With a deadline, a closed client does not end the wait:
    /// the test says when the script goes on. Without one it does.
    fn wait_at(&self, gate: &Gate, deadline: Option<Instant>) -> bool {
        loop {
            if gate.wait(GATE_LOOK) || self.hub.is_stopping() {
                return true;
            }
            match deadline {
                Some(deadline) if Instant::now() >= deadline => return false,
                None if self.link.record.read(|record| record.peer_closed) => return true,
                _ => {}
            }
        }
    }
}

/// An INFO as a server of today sends it, with its own port.
pub(crate) fn default_info(stream: &TcpStream) -> String {
    let port = stream.local_addr().map_or(0, |address| address.port());
    serde_json::json!({
        "server_id": "SCRIPTED",
        "server_name": "scripted",
        "version": "2.15.1",
        "proto": 1,
        "host": "127.0.0.1",
        "port": port,
        "headers": true,
        "max_payload": 1_048_576,
        "client_id": 1,
        "client_ip": "127.0.0.1",
    })
    .to_string()
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name.to_owned()).spawn(body).expect("a thread for a script")
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, ErrorKind};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn connect(server: &ScriptedServer) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        BufReader::new(stream)
    }

    fn line(client: &mut BufReader<TcpStream>) -> String {
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        line
    }

    fn say(client: &mut BufReader<TcpStream>, text: &str) {
        client.get_mut().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_healthy_script_shakes_hands_and_answers_every_ping() {
        let server = ScriptedServer::once(Step::healthy());
        let mut client = connect(&server);
        let info = line(&mut client);
        let json: serde_json::Value =
            serde_json::from_str(info.strip_prefix("INFO ").unwrap()).unwrap();
        assert_eq!(json["port"], server.port());
        say(&mut client, "CONNECT {}\r\nPING\r\nPING\r\n");
        assert_eq!(line(&mut client), "PONG\r\n");
        assert_eq!(line(&mut client), "PONG\r\n");
        // What looks like a PING inside a payload is none.
        say(&mut client, "PUB a 6\r\nPING\r\n\r\nhpub b 2 8\r\n12PING\r\n\r\nPING\r\nSUB x 1\r\n");
        assert_eq!(line(&mut client), "PONG\r\n");
        let seen = server.connection(0, LIMIT);
        assert_eq!(seen.wait_line("SUB", LIMIT), "SUB x 1");
        assert_eq!(seen.lines().iter().filter(|line| *line == "PING").count(), 3);
        drop(client);
        seen.wait_peer_closed(LIMIT);
        seen.wait_script_ended(LIMIT);
        assert!(seen.received().starts_with(b"CONNECT {}\r\nPING\r\n"));
    }

    #[test]
    fn expectations_pass_over_other_lines_and_keep_what_they_met() {
        let gate = Gate::new();
        let mut script = Step::handshake();
        script.extend([
            Step::expect("SUB b"),
            Step::AnswerPingsMeanwhile,
            Step::SendSlowly { bytes: b"+OK\r\n".to_vec(), every: Duration::from_millis(1) },
            Step::Wait(gate.clone()),
            Step::send("-ERR 'over'\r\n"),
            Step::Close,
        ]);
        let server = ScriptedServer::once(script);
        let mut client = connect(&server);
        line(&mut client);
        say(&mut client, "CONNECT {\"a\":1}\r\nPING\r\n");
        assert_eq!(line(&mut client), "PONG\r\n");
        say(&mut client, "SUB a 1\r\nSUB b 2\r\n");
        assert_eq!(line(&mut client), "+OK\r\n");
        say(&mut client, "PING\r\n");
        assert_eq!(line(&mut client), "PONG\r\n");
        gate.open();
        assert_eq!(line(&mut client), "-ERR 'over'\r\n");
        assert_eq!(line(&mut client), "");
        let seen = server.connection(0, LIMIT);
        assert_eq!(seen.captured(), ["CONNECT {\"a\":1}", "PING", "SUB b 2"]);
        let all = seen.wait_received(|bytes| bytes.ends_with(b"PING\r\n"), LIMIT);
        assert!(all.len() > 40);
    }

    #[test]
    fn scripts_are_played_in_order_and_then_refused_or_repeated() {
        let scripts = || vec![vec![Step::send("one")], vec![Step::send("two")]];
        let read = |server: &ScriptedServer| {
            let mut text = String::new();
            connect(server).read_to_string(&mut text).unwrap();
            text
        };
        let repeating = ScriptedServer::start(scripts(), Afterwards::Repeat);
        assert_eq!([read(&repeating), read(&repeating), read(&repeating)], ["one", "two", "two"]);
        assert_eq!(repeating.connection_count(), 3);

        let refusing = ScriptedServer::start(scripts(), Afterwards::Refuse);
        assert_eq!([read(&refusing), read(&refusing)], ["one", "two"]);
        refusing.wait_refusing(LIMIT);
        let refused = TcpStream::connect(refusing.address()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_reset_is_no_orderly_end() {
        let script = vec![Step::send("x"), Step::expect("GO"), Step::Reset];
        let server = ScriptedServer::once(script);
        let mut client = connect(&server);
        say(&mut client, "GO\r\n");
        let mut text = String::new();
        let error = client.read_to_string(&mut text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn after_a_half_close_the_server_still_reads() {
        let server = ScriptedServer::once(vec![Step::HalfClose, Step::Silence]);
        let mut client = connect(&server);
        assert_eq!(line(&mut client), "");
        say(&mut client, "PUB a 2\r\nhi\r\n");
        let seen = server.connection(0, LIMIT);
        assert_eq!(seen.wait_line("PUB", LIMIT), "PUB a 2");
    }

    #[test]
    fn a_server_that_stops_reading_lets_the_client_wait() {
        let gate = Gate::new();
        let script = vec![Step::expect("GO"), Step::StopReading(gate.clone()), Step::expect("END")];
        let server = ScriptedServer::once(script);
        let mut client = connect(&server);
        say(&mut client, "GO\r\n");
        let seen = server.connection(0, LIMIT);
        seen.wait_reading_stopped(LIMIT);
        client.get_ref().set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut given = 0;
        let full = loop {
            match client.get_mut().write(&[b'x'; 65_536]) {
                Ok(length) => given += length,
                Err(error) => break error,
            }
        };
        assert!(matches!(full.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{full}");
        assert_eq!(seen.received(), b"GO\r\n");
        gate.open();
        client.get_ref().set_write_timeout(Some(LIMIT)).unwrap();
        say(&mut client, "\r\nEND\r\n");
        seen.wait_line("END", LIMIT);
        assert_eq!(seen.received().len(), 4 + given + 7);
    }

    #[test]
    fn what_a_script_missed_fails_the_test() {
        let server = ScriptedServer::once(vec![Step::expect("CONNECT")]);
        say(&mut connect(&server), "PING\r\n");
        server.connection(0, LIMIT).wait_script_ended(LIMIT);
        let panic = catch_unwind(AssertUnwindSafe(|| drop(server))).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains("the client closed; its lines: [\"PING\"]"), "{text}");
    }

    #[test]
    fn dropping_ends_every_script_at_once() {
        let gate = Gate::new();
        let scripts = vec![
            vec![Step::Silence],
            vec![Step::StopReading(gate.clone())],
            vec![Step::Wait(gate.clone())],
            vec![Step::expect("NEVER")],
            vec![Step::AnswerPings(gate)],
            vec![Step::SendSlowly { bytes: vec![b'x'; 1_000], every: LIMIT }],
            vec![Step::Send(vec![b'x'; 64 << 20])],
        ];
        let count = scripts.len();
        let server = ScriptedServer::start(scripts, Afterwards::Repeat);
        let clients: Vec<_> = (0..count).map(|_| connect(&server)).collect();
        server.connection(count - 1, LIMIT);
        let started = Instant::now();
        drop(server);
        // Without being woken the slow sender alone would take hours.
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
        drop(clients);
    }
}
