//! The reader's way from a sid to a mailbox, without a lock for each message.
//!
//! A [`Router`] belongs to the reader thread. It keeps a copy of the part of the registry that is
//! in use, out of which go the subscriptions that leave, and collects the messages of one read by
//! mailbox, so that each mailbox is locked and its consumer woken once for all of them.
//!
//! `flush` must be called before the reader waits for more bytes.

use std::collections::HashMap;

use super::registry::Registry;
use super::routes::Routes;
use super::spares::Spares;
use super::subscriber::{Admission, Inbox, Item, Subscriber, Target, deposit};
use crate::protocol::Message;
use crate::sync::Arc;

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Routed {
    /// It waits for its consumer, or nobody wants it any more.
    Done,
    /// It is a reply; the caller answers the request.
    Reply(Message),
    /// It was dropped, the first of an episode: the caller reports it.
    Slow(Arc<Subscriber>),
    /// It was dropped, and not the first.
    Dropped,
    /// It was the last that this subscription asked for: the caller flushes, then ends it.
    Last {
        subscriber: Arc<Subscriber>,
        dropped: bool,
        /// It was dropped, the first of an episode.
        slow: bool,
    },
}

/// From sid to mailbox.
#[derive(Debug)]
pub(crate) struct Router {
    version: u64,
    /// Up to where it knows of subscriptions that were given an end.
    limits: u64,
    routes: Routes<Route>,
    stages: Stages,
    /// The stages that hold messages.
    filled: Vec<usize>,
    spares: Arc<Spares<Item>>,
}

#[derive(Debug)]
struct Route {
    subscriber: Arc<Subscriber>,
    /// The index of its mailbox's stage; none for replies.
    stage: Option<usize>,
}

#[derive(Debug)]
struct Stage {
    mailbox: Arc<Inbox>,
    /// Whose the mailbox is, if it is that of one subscription.
    owner: Option<Arc<Subscriber>>,
    items: Vec<Item>,
    /// The sid of the last of the items; 0 without any.
    last: u64,
    /// How many routes lead here.
    routes: usize,
}

/// The stages by number. One to which no route leads any more makes place for another.
#[derive(Debug, Default)]
struct Stages {
    places: Vec<Option<Stage>>,
    free: Vec<usize>,
    /// The stage of each mailbox, by the mailbox's address.
    by_mailbox: HashMap<usize, usize>,
}

impl Stages {
    /// The number of the stage of a subscription's mailbox, which has one route more now; none for
    /// the waiting requests.
    fn join(&mut self, subscriber: &Arc<Subscriber>) -> Option<usize> {
        let (mailbox, owner) = match subscriber.target() {
            Target::Requests => return None,
            Target::Pull(mailbox) => (mailbox, Some(Arc::clone(subscriber))),
            Target::Dispatch(mailbox) => (mailbox, None),
        };
        // The stage holds the mailbox, so its address is not used again meanwhile.
        let address = Arc::as_ptr(mailbox) as usize;
        let index = *self.by_mailbox.entry(address).or_insert_with(|| {
            let (mailbox, items) = (Arc::clone(mailbox), Vec::new());
            let stage = Some(Stage { mailbox, owner, items, last: 0, routes: 0 });
            match self.free.pop().and_then(|index| Some((index, self.places.get_mut(index)?))) {
                Some((index, place)) => {
                    *place = stage;
                    index
                }
                None => {
                    self.places.push(stage);
                    self.places.len() - 1
                }
            }
        });
        self.get(index)?.routes += 1;
        Some(index)
    }

    fn get(&mut self, index: usize) -> Option<&mut Stage> {
        self.places.get_mut(index)?.as_mut()
    }

    /// One route less leads to a stage, which is empty.
    fn leave(&mut self, index: usize) {
        let Some(place) = self.places.get_mut(index) else { return };
        let Some(stage) = place else { return };
        stage.routes -= 1;
        if stage.routes == 0 {
            self.by_mailbox.remove(&(Arc::as_ptr(&stage.mailbox) as usize));
            *place = None;
            self.free.push(index);
        }
    }
}

/// The route of a subscription whose first message this is.
#[inline(never)]
fn meet<'a>(
    routes: &'a mut Routes<Route>,
    stages: &mut Stages,
    registry: &Registry,
    sid: u64,
) -> Option<&'a Route> {
    let subscriber = registry.find(sid)?;
    let stage = stages.join(&subscriber);
    routes.insert(sid, Route { subscriber, stage });
    routes.find(sid)
}

impl Drop for Router {
    /// However the reader ends, what was collected reaches its consumers.
    fn drop(&mut self) {
        self.flush();
    }
}

impl Router {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            version: 0,
            limits: 0,
            routes: Routes::new(),
            stages: Stages::default(),
            filled: Vec::new(),
            spares: Arc::clone(registry.spares()),
        }
    }

    /// Finds the consumer of a message of that size and lets `put` put it into its place in the
    /// stage. Nothing is made of one that nobody gets.
    #[inline(always)]
    pub(crate) fn route(
        &mut self,
        registry: &Registry,
        sid: u64,
        size: u64,
        put: impl FnOnce(&mut Message),
    ) -> Routed {
        if registry.version() != self.version {
            self.forget(registry);
        }
        let route = match self.routes.find(sid) {
            Some(route) => route,
            None => match meet(&mut self.routes, &mut self.stages, registry, sid) {
                Some(route) => route,
                None => return Routed::Done,
            },
        };
        let subscriber = &route.subscriber;
        let stage = route.stage.and_then(|index| Some((index, self.stages.get(index)?)));
        let Some((index, stage)) = stage else {
            let mut message = Message::NOTHING;
            put(&mut message);
            return Routed::Reply(message);
        };
        match subscriber.admit(size) {
            Admission::Ignore => Routed::Done,
            Admission::Take => {
                if stage.items.is_empty() {
                    self.filled.push(index);
                    if stage.items.capacity() == 0 {
                        stage.items = self.spares.take();
                    }
                }
                let named = stage.last != sid && stage.owner.is_none();
                stage.last = sid;
                stage.items.push(Item::NOTHING);
                if let Some(item) = stage.items.last_mut() {
                    item.subscriber = named.then(|| Arc::clone(subscriber));
                    put(&mut item.message);
                }
                if subscriber.is_complete() {
                    Routed::Last { subscriber: Arc::clone(subscriber), dropped: false, slow: false }
                } else {
                    Routed::Done
                }
            }
            Admission::Drop { first } if subscriber.is_complete() => {
                Routed::Last { subscriber: Arc::clone(subscriber), dropped: true, slow: first }
            }
            Admission::Drop { first: true } => Routed::Slow(Arc::clone(subscriber)),
            Admission::Drop { first: false } => Routed::Dropped,
        }
    }

    /// Gives every mailbox what was collected for it.
    pub(crate) fn flush(&mut self) {
        for index in self.filled.drain(..) {
            if let Some(stage) = self.stages.get(index) {
                stage.last = 0;
                deposit(&stage.mailbox, stage.owner.as_deref(), &mut stage.items);
                self.spares.take_in_list(&mut stage.items);
            }
        }
    }

    /// Subscriptions whose number of messages was set while their last one arrived, so that neither
    /// side saw it: the caller, who has counted and flushed, ends them.
    pub(crate) fn completed(&mut self, registry: &Registry) -> Vec<Arc<Subscriber>> {
        let limited = registry.take_limited(&mut self.limits);
        limited.into_values().filter(|subscriber| subscriber.is_complete()).collect()
    }

    /// Forgets the routes of subscriptions that have left.
    #[cold]
    fn forget(&mut self, registry: &Registry) {
        self.flush();
        let (version, removed) = registry.take_removed();
        self.version = version;
        let Some(removed) = removed else {
            self.routes = Routes::new();
            self.stages = Stages::default();
            return;
        };
        for sid in removed {
            if let Some(index) = self.routes.remove(sid).and_then(|route| route.stage) {
                self.stages.leave(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::consumer::PendingLimits;
    use super::*;

    /// Routes a message with that payload.
    fn route(router: &mut Router, registry: &Registry, sid: u64, payload: &str) -> Routed {
        let message = Message::new("a", payload.to_owned());
        router.route(registry, sid, message.size() as u64, |place| *place = message)
    }

    fn add(registry: &Registry, target: Target) -> Arc<Subscriber> {
        let make =
            |sid| Subscriber::new(sid, "a".to_owned(), None, target, PendingLimits::default());
        registry.insert(make, |_| (), |_| ()).expect("open")
    }

    #[test]
    fn only_the_routes_of_subscriptions_that_left_are_forgotten() {
        let registry = Registry::new();
        let mut router = Router::new(&registry);
        let (shared, own) = (registry.inbox(), registry.inbox());
        let first = add(&registry, Target::Dispatch(Arc::clone(&shared)));
        let second = add(&registry, Target::Dispatch(Arc::clone(&shared)));
        let third = add(&registry, Target::Pull(Arc::clone(&own)));
        for subscriber in [&first, &second, &third] {
            let _ = route(&mut router, &registry, subscriber.sid(), "x");
        }
        registry.remove(first.sid(), |_| ());
        registry.remove(third.sid(), |_| ());
        let _ = route(&mut router, &registry, second.sid(), "x");
        assert_eq!(router.routes.iter().map(|(sid, _)| sid).collect::<Vec<_>>(), [second.sid()]);
        assert_eq!(router.stages.free.len(), 1, "the place of the third");
        let fourth = add(&registry, Target::Pull(own));
        let _ = route(&mut router, &registry, fourth.sid(), "x");
        assert!(router.stages.free.is_empty());
        router.flush();
        let mut batch = VecDeque::new();
        assert!(shared.take_all(&mut batch));
        let names: Vec<_> =
            batch.iter().map(|item| item.subscriber.as_ref().map(|one| one.sid())).collect();
        assert_eq!(names, [Some(first.sid()), Some(second.sid()), Some(second.sid())]);
    }

    /// Reads so many messages for a subscription.
    fn read(router: &mut Router, registry: &Registry, sid: u64, count: usize) {
        for _ in 0..count {
            let _ = route(router, registry, sid, "x");
        }
        router.flush();
    }

    #[test]
    fn the_space_of_a_large_read_goes_round_and_idle_subscriptions_hold_none() {
        let registry = Registry::new();
        let mut router = Router::new(&registry);
        let inboxes: Vec<_> = (0..300).map(|_| registry.inbox()).collect();
        let sids: Vec<_> =
            inboxes.iter().map(|i| add(&registry, Target::Pull(Arc::clone(i))).sid()).collect();
        let space = |router: &Router| {
            let stages = router.stages.places.iter().flatten().map(|stage| stage.items.capacity());
            let waiting: usize = inboxes.iter().map(|inbox| inbox.space()).sum();
            stages.sum::<usize>() + waiting
        };
        let empty = |inbox: &Inbox| while inbox.try_pop(|_| ()).is_ok() {};
        // Each waits for a while with a large read; then everything is taken.
        sids.iter().for_each(|sid| read(&mut router, &registry, *sid, 2000));
        assert!(space(&router) >= 300 * 2000);
        inboxes.iter().for_each(|inbox| empty(inbox));
        assert_eq!(space(&router), 0);
        let spare = registry.spares().space();
        assert!((2000..=16 * 1024).contains(&spare), "{spare}");
        // What one emptied the next fills: in no step is there more or less space.
        for sid in 0..300 {
            read(&mut router, &registry, sids[sid], 2000);
            empty(&inboxes[sid]);
            assert_eq!((space(&router), registry.spares().space()), (0, spare));
        }
    }

    #[test]
    fn a_run_of_one_subscription_is_named_once_and_thrown_away_as_a_whole() {
        let registry = Registry::new();
        let mut router = Router::new(&registry);
        let shared = registry.inbox();
        let one = add(&registry, Target::Dispatch(Arc::clone(&shared)));
        for _ in 0..3 {
            let _ = route(&mut router, &registry, one.sid(), "four");
        }
        router.flush();
        use super::super::consumer::{Consumer, EndReason};
        assert_eq!((one.pending_messages(), one.pending_bytes()), (3, 12));
        let rest = super::super::mailbox::Rest::Drop;
        super::super::subscriber::end_dispatcher_queue(&shared, EndReason::Unsubscribed, rest);
        assert_eq!((one.pending_messages(), one.pending_bytes()), (0, 0));
        let _ = route(&mut router, &registry, one.sid(), "late");
        router.flush();
        assert_eq!(one.pending_messages(), 0);
    }

    #[test]
    fn an_end_that_is_reached_while_it_is_set_is_found_by_the_reader() {
        let registry = Registry::new();
        let mut router = Router::new(&registry);
        let one = add(&registry, Target::Pull(registry.inbox()));
        assert!(!registry.set_max(&one, 1, |_| ()));
        assert!(router.completed(&registry).is_empty());
        assert!(!registry.set_max(&one, 1, |_| ()));
        let _ = route(&mut router, &registry, one.sid(), "x");
        assert_eq!(router.completed(&registry).len(), 1);
        assert!(router.completed(&registry).is_empty());
    }
}
