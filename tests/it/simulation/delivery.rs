//! Publishing and flushing across losses: outbox, frames, PONGs, servers and waits on a network
//! that takes what it likes, delays, and breaks at any byte. The ledger knows where every message
//! is: accepted, in the network, processed by a server, or lost with a connection.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_blocking::OutboxPolicy;
use nats_blocking::internals::{FlushWait, Outbox, Pipe, Servers};

use super::for_each_seed;
use crate::support::seed::Seed;

/// One connection as the network sees it.
#[derive(Debug, Default)]
struct Link {
    /// Bytes that the next writes take; past that there is no room.
    room: usize,
    /// Given to the network and not processed yet.
    carried: VecDeque<u8>,
    down: bool,
}

#[derive(Debug, Default)]
struct Network(Mutex<Link>);

impl Pipe for Network {
    fn read(&self, _: &mut [u8], _: Option<Duration>) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&self, bytes: &[u8], _: bool) -> io::Result<usize> {
        let mut link = self.0.lock().unwrap();
        if link.down {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = link.room.min(bytes.len());
        link.room -= count;
        link.carried.extend(&bytes[..count]);
        Ok(count)
    }

    fn shutdown(&self) {
        self.0.lock().unwrap().down = true;
    }
}

/// What a server has read of one connection.
#[derive(Default)]
struct Session {
    unparsed: Vec<u8>,
}

enum Op {
    Message(u64),
    Ping,
    Pong,
}

impl Session {
    /// The next whole frame. Anything else than a frame where one must begin is the client's fault.
    fn next(&mut self) -> Option<Op> {
        let end = self.unparsed.windows(2).position(|pair| pair == b"\r\n")?;
        let line = String::from_utf8(self.unparsed[..end].to_vec()).expect("text");
        let (op, taken) = match line.as_str() {
            "PING" => (Op::Ping, end + 2),
            "PONG" => (Op::Pong, end + 2),
            publish => {
                let length = publish.strip_prefix("PUB a ").expect("a frame");
                let length: usize = length.parse().expect("a length");
                let whole = self.unparsed.get(end + 2..end + 4 + length)?;
                assert_eq!(&whole[length..], b"\r\n", "a torn frame");
                let text = std::str::from_utf8(&whole[..length]).expect("text");
                let number = text.trim_end_matches('.').parse().expect("a number");
                (Op::Message(number), end + 4 + length)
            }
        };
        self.unparsed.drain(..taken);
        Some(op)
    }
}

struct Flush {
    wait: FlushWait,
    /// Messages published before it.
    after: u64,
}

/// One client, its network and its ledger.
struct World<'a> {
    seed: &'a mut Seed,
    outbox: Outbox,
    servers: Servers,
    now: Duration,
    epoch: u64,
    link: Option<(Arc<Network>, Session)>,
    /// When the next attempt is due.
    attempt: Option<(Duration, String)>,
    /// PONGs of the server on their way to the client.
    pongs: usize,
    next: u64,
    accepted: BTreeSet<u64>,
    processed: BTreeSet<u64>,
    /// Given to the kernel, at least in part, and lost with it.
    lost: BTreeSet<u64>,
    flushes: Vec<Flush>,
    flushed: u64,
    losses: u64,
}

impl World<'_> {
    fn connect(&mut self) {
        let network = Arc::new(Network::default());
        self.epoch += 1;
        let pipe: Arc<dyn Pipe> = Arc::<Network>::clone(&network);
        self.outbox.begin(self.epoch, &pipe);
        self.link = Some((network, Session::default()));
    }

    fn publish(&mut self) {
        let padding = ".".repeat(self.seed.below(40) as usize);
        let text = format!("{}{padding}", self.next);
        if self.outbox.publish(&text).is_ok() {
            self.accepted.insert(self.next);
            self.next += 1;
        }
    }

    fn flush(&mut self) {
        if let Ok(wait) = self.outbox.ping() {
            self.flushes.push(Flush { wait, after: self.next });
        }
    }

    /// The kernel takes some bytes.
    fn write(&mut self) {
        if let Some((network, _)) = &self.link {
            network.0.lock().unwrap().room = self.seed.below(200) as usize;
            while self.outbox.write_some() && network.0.lock().unwrap().room > 0 {}
        }
    }

    /// The server reads some of what is on its way.
    fn process(&mut self) {
        let Some((network, session)) = &mut self.link else { return };
        let mut link = network.0.lock().unwrap();
        let count = self.seed.below(link.carried.len() as u64 + 1) as usize;
        session.unparsed.extend(link.carried.drain(..count));
        while let Some(op) = session.next() {
            match op {
                Op::Ping => self.pongs += 1,
                Op::Pong => {}
                Op::Message(number) => {
                    let last = self.processed.last().copied();
                    assert!(last.is_none_or(|last| number > last), "doubled or out of order");
                    assert!(self.accepted.contains(&number), "never published");
                    self.processed.insert(number);
                }
            }
        }
    }

    /// A PONG arrives.
    fn pong(&mut self) {
        if self.pongs > 0 {
            self.pongs -= 1;
            self.outbox.pong();
        }
        self.settle();
    }

    /// Every flush that has ended did so rightly.
    fn settle(&mut self) {
        let mut waiting = Vec::new();
        for flush in self.flushes.drain(..) {
            match flush.wait.get() {
                None => waiting.push(flush),
                Some(Err(_)) => {}
                Some(Ok(())) => {
                    self.flushed += 1;
                    let mut before = self.accepted.range(..flush.after);
                    let settled =
                        |number| self.processed.contains(number) || self.lost.contains(number);
                    assert!(before.all(settled), "a flush succeeded before its messages");
                }
            }
        }
        self.flushes = waiting;
    }

    /// The connection breaks: what the network carried is gone.
    fn lose(&mut self) {
        let Some((network, mut session)) = self.link.take() else { return };
        network.shutdown();
        // Whole messages that no server will read any more.
        session.unparsed.extend(network.0.lock().unwrap().carried.drain(..));
        let mut carried = Vec::new();
        while let Some(op) = session.next() {
            if let Op::Message(number) = op {
                carried.push(number);
            }
        }
        self.losses += 1;
        let (_, torn_before) = self.outbox.lost();
        let pending_before = self.outbox.pending().0;
        self.outbox.end(Duration::ZERO);
        let torn = self.outbox.lost().1 - torn_before;
        assert!(torn <= 1, "one frame is torn at most");
        assert_eq!(self.outbox.pending().0 + torn, pending_before, "messages vanished");
        // Messages leave in order: the first ones that no server saw are the ones that are gone.
        let kept = self.outbox.pending().0 as usize;
        let unseen: Vec<_> = self.open().collect();
        let gone = &unseen[..unseen.len() - kept];
        assert_eq!(gone[..gone.len() - torn as usize], carried, "kept what was sent, or lost more");
        self.lost.extend(gone);
        self.pongs = 0;
        self.settle();
        assert!(self.flushes.is_empty(), "a flush outlived its connection");
        self.servers.lost(Duration::from_millis(self.seed.below(5_000)));
        self.plan();
    }

    /// Accepted, not processed, not lost.
    fn open(&self) -> impl Iterator<Item = u64> {
        let settled: BTreeSet<_> = self.processed.union(&self.lost).copied().collect();
        self.accepted.difference(&settled).copied().collect::<Vec<_>>().into_iter()
    }

    fn plan(&mut self) {
        let attempt = self.servers.next_attempt().expect("a server");
        self.attempt = Some((self.now + attempt.wait, attempt.server));
    }

    /// Time goes by; an attempt that is due is made.
    fn tick(&mut self) {
        self.now += Duration::from_millis(self.seed.below(400));
        let Some((due, server)) = self.attempt.take() else { return };
        if due > self.now {
            self.attempt = Some((due, server));
        } else if self.seed.chance(1, 3) {
            self.servers.failed(&server).expect("known");
            self.plan();
        } else {
            self.servers.succeeded(&server).expect("known");
            self.connect();
        }
    }

    /// A healthy network for as long as it takes.
    fn calm(&mut self) {
        for _ in 0..10_000 {
            self.tick();
            self.write();
            self.process();
            self.pong();
            if self.link.is_some() && self.open().next().is_none() && self.flushes.is_empty() {
                return;
            }
        }
        panic!("not everything arrived in calm weather");
    }
}

fn live(seed: &mut Seed) -> (u64, u64, u64, u64) {
    let wait = Duration::from_secs(2);
    let servers = Servers::new("a,b,c", wait, wait / 2, seed.next_u64()).expect("servers");
    let limit = 64 + seed.below(2_000) as usize;
    let steps = 50 + seed.below(200);
    let mut world = World {
        seed,
        outbox: Outbox::new(limit, OutboxPolicy::Error),
        servers,
        now: Duration::ZERO,
        epoch: 0,
        link: None,
        attempt: None,
        pongs: 0,
        next: 0,
        accepted: BTreeSet::new(),
        processed: BTreeSet::new(),
        lost: BTreeSet::new(),
        flushes: Vec::new(),
        flushed: 0,
        losses: 0,
    };
    world.connect();
    for _ in 0..steps {
        match world.seed.below(40) {
            0..12 => world.publish(),
            12..15 => world.flush(),
            15..22 => world.write(),
            22..28 => world.process(),
            28..33 => world.pong(),
            33..36 => world.tick(),
            36 => world.outbox.keep_alive(),
            37 => world.outbox.answer_ping(),
            _ => world.lose(),
        }
    }
    world.calm();
    let accounted = world.processed.len() + world.lost.len();
    assert_eq!(accounted, world.accepted.len(), "a message is unaccounted for");
    assert_eq!(world.outbox.pending().0, 0);
    (world.accepted.len() as u64, world.lost.len() as u64, world.losses, world.flushed)
}

/// Lives of one connection each, from so many seeds; what they came to.
pub(crate) fn live_many(count: u64) -> String {
    let mut total = [0; 4];
    let seeds = for_each_seed(count, |seed| {
        let (accepted, lost, losses, flushed) = live(seed);
        for (sum, value) in total.iter_mut().zip([accepted, lost, losses, flushed]) {
            *sum += value;
        }
    });
    let [accepted, lost, losses, flushed] = total;
    format!(
        "{seeds} lives, {accepted} messages, {losses} losses, {lost} lost with them, \
         {flushed} flushes: doubled 0, reordered 0, unaccounted 0; seeds 0 to {}",
        seeds - 1
    )
}

#[test]
fn every_message_is_processed_once_in_order_or_lost_with_a_connection() {
    println!("{}", live_many(10_000));
}
