//! What all parts of a connection share, and what it tells.
//!
//! [`Core`] is held by the handles of the program and by the connection's threads. It is dropped
//! when both are gone; that alone closes nothing. Life and its condition variable stand here; the
//! moves are made in `reader.rs`, `closing.rs` and `draining.rs`.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::asking::{Asking, CERTIFICATES, CONNECTOR, CREDENTIALS};
use super::choice::{Deciders, PoolServer};
use super::config::Config;
use super::events::Hub;
use super::hooks::Hooks;
use super::life::{ConnectionStatus, Life};
use super::notice::{ConnectionEvent, ConnectionEventKind, ErrorNotice, Notice};
use super::servers::Pool;
use super::threads::Threads;
use crate::auth::Login;
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::outbox::{Outbox, ServerLimits};
use crate::outcome::Barrier;
use crate::protocol::ServerInfo;
use crate::random::{self, Random};
use crate::server_error::ServerError;
use crate::server_url::ServerUrl;
use crate::statistics::{Counters, Statistics};
use crate::subscriptions::{Inbox, Registry, Requests};
use crate::sync::{self, Arc, Condvar, Mutex, MutexGuard, Rank, Weak, current_owner};
use crate::transport::{Cancel, Dial, PreparedTls, Stream};

/// One connection.
pub(crate) struct Core {
    /// Tells this connection's threads from all others.
    pub(crate) id: u64,
    pub(crate) config: Config,
    pub(crate) dial: Box<dyn Dial>,
    /// The callbacks that are asked for a decision, until the end.
    pub(super) deciders: Mutex<Deciders>,
    /// Cuts off an attempt to connect.
    pub(crate) cancel: Arc<Cancel>,
    /// The call to the credentials of the program, while there is one.
    pub(super) asking: Asking<Login>,
    /// The call to the connector of the program, while there is one.
    pub(super) connecting: Asking<Arc<dyn Stream>>,
    /// The reading of files for TLS, while it lasts.
    pub(super) preparing: Asking<PreparedTls>,
    pub(super) life: Mutex<Life>,
    /// Anything in `life` changed.
    pub(super) changed: Condvar,
    pub(crate) registry: Registry,
    pub(crate) requests: Requests,
    /// The sid of the subscription that replies come to, once there is one.
    pub(super) inbox: Mutex<Option<u64>>,
    pub(crate) outbox: Outbox,
    pub(crate) hub: Hub<Arc<Self>>,
    pub(crate) counters: Counters,
    pub(crate) threads: Arc<Threads>,
    /// The queues of all dispatchers, to end them with the connection.
    pub(super) dispatchers: Mutex<Vec<Weak<Inbox>>>,
    /// What the program wants called at the end of a subscription.
    pub(super) hooks: Hooks<Arc<Self>>,
    /// Barriers that are waited for, to be given up with the connection; none once they were.
    pub(super) barriers: Mutex<Option<Vec<Weak<Barrier>>>>,
    /// A panic of a read listener or trace has been told.
    pub(super) watch_told: AtomicBool,
    /// Handles of the program. The count never rises from zero: that is the end.
    handles: AtomicUsize,
}

/// The number of the next connection of this process.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Core {
    /// A connection that nothing runs yet, with one counted handle.
    pub(crate) fn new(mut config: Config, dial: Box<dyn Dial>) -> Result<Arc<Self>> {
        let mut random = Random::new()?;
        let pool = Pool::new(config.servers.clone(), config.pool.clone(), &mut || random.draw());
        let inbox = format!("{}.{}.", config.inbox_prefix, random::unique()?);
        Ok(Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            dial,
            deciders: Mutex::new(Rank::Leaf, std::mem::take(&mut config.deciders)),
            cancel: Arc::new(Cancel::new()),
            asking: Asking::new(CREDENTIALS),
            connecting: Asking::new(CONNECTOR),
            preparing: Asking::new(CERTIFICATES),
            life: Mutex::new(Rank::Life, Life::new(pool, random)),
            changed: Condvar::new(),
            registry: Registry::new(),
            requests: Requests::new(inbox),
            inbox: Mutex::new(Rank::Inbox, None),
            outbox: Outbox::new(config.outbox.clone()),
            hub: Hub::new(),
            counters: Counters::default(),
            threads: Threads::new(),
            dispatchers: Mutex::new(Rank::Leaf, Vec::new()),
            hooks: Hooks::new(),
            barriers: Mutex::new(Rank::Leaf, Some(Vec::new())),
            watch_told: AtomicBool::new(false),
            handles: AtomicUsize::new(1),
            config,
        }))
    }

    /// The name of one of this connection's threads. The number comes first: the system keeps only
    /// 15 bytes, and they must tell the threads of one connection from those of another.
    pub(crate) fn thread_name(&self, role: &str) -> String {
        match &self.config.name {
            Some(name) => format!("nats-{}-{role}-{name}", self.id),
            None => format!("nats-{}-{role}", self.id),
        }
    }

    /// Takes one more handle, unless the last one is gone.
    pub(crate) fn take_handle(&self) -> bool {
        let more = |count: usize| if count == 0 { None } else { count.checked_add(1) };
        self.handles.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Gives a handle back. Returns whether it was the last.
    pub(crate) fn drop_handle(&self) -> bool {
        self.handles.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Whether the calling thread is one of this connection's.
    pub(crate) fn on_own_thread(&self) -> bool {
        current_owner() == self.id
    }

    /// Whether the calling thread is the reader, in a callback that it asks, or the reader or the
    /// flusher in a transport of the program.
    pub(crate) fn on_essential_thread(&self) -> bool {
        self.on_own_thread() && sync::is_essential()
    }

    /// Refuses to wait for the connection where the connection waits for the caller.
    pub(super) fn check_may_wait(&self) -> Result<()> {
        if self.on_essential_thread() {
            let text = "the connection waits for this callback, which must not wait for it";
            return Err(Error::new(ErrorKind::Misuse, text));
        }
        Ok(())
    }

    // Looking

    pub(crate) fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock()
    }

    pub(crate) fn status(&self) -> ConnectionStatus {
        self.life.lock().status
    }

    pub(crate) fn info(&self) -> Arc<ServerInfo> {
        Arc::clone(&self.life.lock().info)
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let outbox = self.outbox.counts();
        self.counters.snapshot().with_outbox(
            outbox.messages,
            outbox.bytes,
            outbox.torn,
            outbox.discarded,
            outbox.pings,
        )
    }

    pub(crate) fn server_pool(&self) -> Vec<PoolServer> {
        let life = self.life.lock();
        let in_use = life.present().map(|link| link.url.clone());
        life.pool.list(in_use.as_ref())
    }

    /// Puts other servers in place of all; see
    /// [`Connection::set_server_pool`](crate::Connection::set_server_pool).
    pub(crate) fn set_server_pool(&self, urls: Vec<ServerUrl>) -> Result<()> {
        let mut life = self.life.lock();
        if life.closing || life.status == ConnectionStatus::Closed {
            return Err(closed_error(life.close_cause.as_ref()));
        }
        let Life { pool, random, .. } = &mut *life;
        pool.replace(urls, &mut || random.draw());
        Ok(())
    }

    /// Waits until the connection has that status; the error tells time-out and closed apart.
    pub(crate) fn wait_for_status(
        &self,
        status: ConnectionStatus,
        deadline: Instant,
    ) -> Result<()> {
        let mut life = self.life.lock();
        loop {
            if life.status == status {
                return Ok(());
            }
            self.check_may_wait()?;
            if life.status == ConnectionStatus::Closed {
                return Err(closed_error(life.close_cause.as_ref()));
            }
            if clock::now() >= deadline {
                let text = format!("the connection is {}, not {status}", life.status);
                return Err(Error::new(ErrorKind::Timeout, text));
            }
            self.changed.wait_until(&mut life, Some(deadline));
        }
    }

    // Telling

    /// Tells an event. Called with `life` locked where the event is a move.
    pub(crate) fn emit(&self, server: Option<Arc<str>>, kind: ConnectionEventKind) {
        self.queue(&Notice::Event(ConnectionEvent::new(server, kind)));
    }

    /// Tells an error along the way.
    pub(crate) fn notice(&self, notice: ErrorNotice) {
        match &notice {
            ErrorNotice::SlowConsumer(_) => self.counters.slow_consumers.add(1),
            ErrorNotice::ServerError(_) => self.counters.errors.add(1),
            ErrorNotice::Exception(_) => self.counters.exceptions.add(1),
            _ => {}
        }
        self.queue(&notice.into());
    }

    /// Tells a failure that the library has handled.
    pub(crate) fn exception(&self, error: Error) {
        self.life.lock().last_error = Some(error.clone());
        self.notice(ErrorNotice::Exception(error));
    }

    /// Counts a panic of the program's code (credentials, connector or transport) that ended a
    /// connection or an attempt.
    pub(super) fn count_panic(&self, error: &Error) {
        if error.kind() == ErrorKind::UserPanic {
            self.counters.panics.add(1);
        }
    }

    /// Tells what the server said.
    pub(crate) fn server_error(&self, error: ServerError) {
        self.life.lock().last_error = Some(error.clone().into());
        self.notice(ErrorNotice::ServerError(error));
    }

    fn queue(&self, notice: &Notice) {
        let skipped = self.hub.emit(notice);
        self.counters.skipped.add(skipped);
    }

    /// What a server accepts from this connection, from its INFO. Headers that the connection has
    /// switched off would make the server end it.
    pub(crate) fn server_limits(&self, info: &ServerInfo) -> ServerLimits {
        let headers = info.headers() && self.config.headers;
        ServerLimits { max_payload: info.max_payload(), headers }
    }

    /// Somebody noticed that a connection failed. The first report for an epoch wins; its stream is
    /// shut down, and the reader does the rest.
    pub(crate) fn fail(&self, epoch: u64, cause: Error) {
        let stream = self.life.lock().fail(epoch, cause);
        if let Some(stream) = stream {
            self.outbox.mark_broken(epoch);
            stream.shutdown();
        }
    }
}

/// Code of the program never runs while a lock is held or a step is half done, so a panic of it
/// leaves everything here whole.
impl UnwindSafe for Core {}
impl RefUnwindSafe for Core {}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The error of a call on a connection that has ended.
pub(super) fn closed_error(cause: Option<&Error>) -> Error {
    match cause {
        None => Error::new(ErrorKind::Closed, "the connection is closed"),
        Some(cause) => Error::caused_by(
            ErrorKind::Closed,
            format!("the connection is closed: {cause}"),
            cause.clone(),
        ),
    }
}
