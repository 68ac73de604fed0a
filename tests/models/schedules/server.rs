//! What the scenarios put in the place of servers: it reads what the library writes, answers PINGs,
//! hands out messages, keeps what was said on which connection, and cuts connections.
//!
//! Writes take a part of the bytes now and then, or long, and reads bring them in pieces: where is
//! drawn with the schedule.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nats_blocking::internals::{Dial, Pipe};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Condvar, Mutex, MutexGuard};
use shuttle::thread::yield_now;

/// What is said first.
const INFO: &str = "INFO {}\r\n";

/// One connection, as the server sees it.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// What has come and is no whole frame yet.
    rest: Vec<u8>,
    /// Whole frames, a payload behind its control line.
    pub(crate) frames: Vec<String>,
    /// The subscriptions: sid and subject.
    pub(crate) subs: Vec<(u64, String)>,
    unread: Vec<u8>,
    /// The client has logged in.
    pub(crate) up: bool,
    /// Nothing can be written any more.
    pub(crate) down: bool,
    /// A write is under way: there must never be two.
    busy: bool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) links: Vec<Link>,
    /// So many attempts to connect are refused.
    pub(crate) refusing: usize,
    /// Requests to `svc` are answered at once.
    pub(crate) answering: bool,
    /// It loses the payloads that end in a 2: no server does.
    pub(crate) losing: bool,
    /// Nobody may subscribe to an inbox.
    pub(crate) forbidding: bool,
    /// Nobody asks any more.
    pub(crate) over: bool,
    /// The reply subjects and payloads of requests that were not answered.
    pub(crate) unanswered: Vec<(String, String)>,
}

impl State {
    /// The connection in use.
    pub(crate) fn live(&mut self) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.up && !link.down)
    }

    /// The payloads that came for `subject`, in order, over all connections.
    pub(crate) fn payloads(&self, subject: &str) -> Vec<String> {
        let frames = self.links.iter().flat_map(|link| &link.frames);
        let head = format!("PUB {subject} ");
        let bodies = frames.filter_map(|frame| frame.strip_prefix(&head)?.split_once("\r\n"));
        bodies.map(|(_, body)| body.to_owned()).collect()
    }
}

impl Link {
    /// Says something.
    pub(crate) fn say(&mut self, text: &str) {
        self.unread.extend_from_slice(text.as_bytes());
    }

    /// Hands a message to whoever subscribed; false if nobody did.
    pub(crate) fn send(&mut self, subject: &str, payload: &str) -> bool {
        let wanted = |pattern: &str| match pattern.strip_suffix('*') {
            Some(head) => subject.starts_with(head),
            None => pattern == subject,
        };
        let sids: Vec<_> =
            self.subs.iter().filter(|(_, of)| wanted(of)).map(|(sid, _)| *sid).collect();
        for sid in &sids {
            let frame = format!("MSG {subject} {sid} {}\r\n{payload}\r\n", payload.len());
            self.unread.extend_from_slice(frame.as_bytes());
        }
        !sids.is_empty()
    }
}

#[derive(Debug)]
pub(crate) struct Server {
    state: Mutex<State>,
    changed: Condvar,
}

impl Server {
    pub(crate) fn new() -> Arc<Self> {
        Self::with(State { answering: true, ..State::default() })
    }

    pub(crate) fn with(state: State) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    pub(crate) fn dial(self: &Arc<Self>) -> impl Dial {
        Dialler(Arc::clone(self))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until something of it is so.
    pub(crate) fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut state = self.state();
        loop {
            if let Some(found) = look(&mut state) {
                return found;
            }
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Changes something of it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.notify_all();
        changed
    }

    /// Waits until connection `number` (from 0) is in use, or lost, or all is over, then cuts it;
    /// what it has sent arrives, or does not.
    pub(crate) fn cut(&self, number: usize) {
        self.wait(|state| {
            let there = state.links.get(number).is_some_and(|link| link.up || link.down);
            (there || state.over).then_some(())
        });
        let lost = thread_rng().gen_bool(0.5);
        self.change(|state| {
            let Some(link) = state.links.get_mut(number) else { return };
            link.down = true;
            if lost {
                link.unread.clear();
            }
        });
    }

    /// Takes in what was written on a connection.
    fn take_in(state: &mut State, number: usize, bytes: &[u8]) {
        let State { links, answering, losing, forbidding, unanswered, .. } = state;
        let link = &mut links[number];
        link.rest.extend_from_slice(bytes);
        while let Some(frame) = next_frame(&mut link.rest) {
            let (line, body) = frame.split_once("\r\n").expect("a line");
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["CONNECT", ..] => {}
                ["PING"] => {
                    link.up = true;
                    link.unread.extend_from_slice(b"PONG\r\n");
                }
                ["SUB", subject, _] if *forbidding && subject.starts_with("_INBOX.") => {
                    let text = format!("Permissions Violation for Subscription to \"{subject}\"");
                    link.say(&format!("-ERR '{text}'\r\n"));
                }
                ["SUB", subject, sid] => {
                    link.subs.push((sid.parse().expect("a sid"), subject.to_owned()));
                }
                ["UNSUB", sid] => {
                    let sid: u64 = sid.parse().expect("a sid");
                    link.subs.retain(|(known, _)| *known != sid);
                }
                ["UNSUB", _, _] => {}
                ["PUB", "svc", reply, _] if *answering => {
                    link.send(reply, body);
                }
                ["PUB", "svc", reply, _] => unanswered.push((reply.to_owned(), body.to_owned())),
                ["PUB", subject, _] => {
                    link.send(subject, body);
                }
                _ => panic!("not understood: {line}"),
            }
            if !(*losing && frame.ends_with('2')) {
                link.frames.push(frame);
            }
        }
    }
}

/// Takes a whole frame out of the bytes: the line, and what follows it without its line end.
fn next_frame(bytes: &mut Vec<u8>) -> Option<String> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let line = std::str::from_utf8(&bytes[..end]).expect("text");
    let size = match line.strip_prefix("PUB ") {
        Some(rest) => rest.trim_end().rsplit(' ').next()?.parse::<usize>().expect("a size") + 2,
        None => 0,
    };
    if bytes.len() < end + size {
        return None;
    }
    let mut frame: Vec<u8> = bytes.drain(..end + size).collect();
    if size > 0 {
        assert!(frame.ends_with(b"\r\n"), "a payload is longer than its line says");
        frame.truncate(end + size - 2);
    }
    Some(String::from_utf8(frame).expect("text"))
}

#[derive(Debug)]
struct Dialler(Arc<Server>);

impl Dial for Dialler {
    fn dial(&self, _: &str) -> io::Result<Arc<dyn Pipe>> {
        let server = &self.0;
        let number = server.change(|state| {
            if let Some(left) = state.refusing.checked_sub(1) {
                state.refusing = left;
                return None;
            }
            state.links.push(Link { unread: INFO.as_bytes().to_vec(), ..Link::default() });
            Some(state.links.len() - 1)
        });
        let number = number.ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(Arc::new(End { server: Arc::clone(server), number }))
    }
}

/// The client's end of a connection.
#[derive(Debug)]
struct End {
    server: Arc<Server>,
    number: usize,
}

/// So many of these bytes, or fewer: at least `least`.
fn part(length: usize, least: usize) -> usize {
    let mut random = thread_rng();
    if length > least && random.gen_bool(0.2) { random.gen_range(least..length) } else { length }
}

impl Pipe for End {
    fn read(&self, buffer: &mut [u8], _: Option<Duration>) -> io::Result<usize> {
        self.server.wait(|state| {
            let link = &mut state.links[self.number];
            if link.unread.is_empty() {
                return link.down.then_some(Ok(0));
            }
            let count = part(link.unread.len().min(buffer.len()), 1);
            buffer[..count].copy_from_slice(&link.unread[..count]);
            link.unread.drain(..count);
            Some(Ok(count))
        })
    }

    fn write(&self, bytes: &[u8], wait: bool) -> io::Result<usize> {
        {
            let mut state = self.server.state();
            let link = &mut state.links[self.number];
            assert!(!link.busy, "two threads write at once");
            if link.down {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            link.busy = true;
        }
        if wait && thread_rng().gen_bool(0.1) {
            // The kernel has no room for long.
            for _ in 0..thread_rng().gen_range(0..100) {
                yield_now();
            }
        }
        let count = part(bytes.len(), usize::from(wait));
        self.server.change(|state| {
            let link = &mut state.links[self.number];
            link.busy = false;
            if link.down {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Server::take_in(state, self.number, &bytes[..count]);
            Ok(count)
        })
    }

    fn shutdown(&self) {
        self.server.change(|state| state.links[self.number].down = true);
    }

    /// The server reads what came, answers, and closes.
    fn finish(&self) {
        self.server.change(|state| state.links[self.number].down = true);
    }
}
