//! Who wants which messages, and who may have them.
//!
//! [`Interest`] holds the subscriptions of all clients and routes a subject to them: wildcards, one
//! member of each queue group, no-echo, and the end of a subscription after its last message.
//! [`Permissions`] says which subjects a client may use. Both are pure: no sockets, no locks, no
//! clock; the broker keeps them under its lock.
//!
//! Subjects are compared token by token. A published subject with an empty token reaches nobody,
//! as on `nats-server`.

use std::collections::HashMap;

use crate::sync::Arc;

/// Which subjects a client may use: an allow list and a deny list, both with wildcards.
///
/// An empty allow list allows everything; the deny list wins over the allow list.
///
/// ```
/// use nats_blocking::testing::Permissions;
///
/// let permissions = Permissions::new().allow("orders.>").deny("orders.secret");
/// assert!(permissions.allows("orders.new"));
/// assert!(!permissions.allows("orders.secret"));
/// assert!(!permissions.allows("other"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "permissions do nothing until a server gets them"]
pub struct Permissions {
    allow: Vec<String>,
    deny: Vec<String>,
}

impl Permissions {
    /// Permissions that allow everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows a subject, which may hold wildcards; with the first one, everything not allowed is
    /// forbidden.
    pub fn allow(mut self, subject: impl Into<String>) -> Self {
        self.allow.push(subject.into());
        self
    }

    /// Forbids a subject, which may hold wildcards.
    pub fn deny(mut self, subject: impl Into<String>) -> Self {
        self.deny.push(subject.into());
        self
    }

    /// Whether the subject may be used. A subscription with wildcards that only partly lies in the
    /// deny list is allowed; the server keeps the denied messages from it.
    pub fn allows(&self, subject: &str) -> bool {
        (self.allow.is_empty() || self.allow.iter().any(|pattern| matches(pattern, subject)))
            && !self.deny.iter().any(|pattern| matches(pattern, subject))
    }

    /// What must be kept from a subscription to `subject` although it is allowed.
    fn hidden_from(&self, subject: &str) -> Vec<String> {
        if !has_wildcard(subject) {
            return Vec::new();
        }
        self.deny.iter().filter(|pattern| overlaps(pattern, subject)).cloned().collect()
    }
}

/// The subscriptions of all clients. `H` is whatever reaches a client; a client is known by a
/// number.
#[derive(Debug)]
pub(crate) struct Interest<H> {
    /// Subscriptions without wildcards, by subject.
    exact: HashMap<Arc<str>, Vec<Subscription<H>>>,
    wild: Vec<Subscription<H>>,
    /// The subject of every subscription, by client and sid.
    clients: HashMap<u64, HashMap<Arc<str>, Arc<str>>>,
    /// Queue members that one routing has to choose from; kept for its capacity.
    members: Vec<Member>,
    random: u64,
}

#[derive(Debug)]
struct Subscription<H> {
    client: u64,
    handle: H,
    sid: Arc<str>,
    subject: Arc<str>,
    queue: Option<Arc<str>>,
    max: Option<u64>,
    delivered: u64,
    hidden: Vec<String>,
}

#[derive(Debug, Clone)]
struct Member {
    queue: Arc<str>,
    wild: bool,
    index: usize,
}

/// What a SUB names.
pub(crate) struct Wanted<'a> {
    pub(crate) subject: &'a str,
    pub(crate) queue: Option<&'a str>,
    pub(crate) sid: &'a str,
}

/// Where routed messages go: the client's handle and its sid.
pub(crate) type Target<H> = (H, Arc<str>);

impl<H: Clone> Interest<H> {
    pub(crate) fn new() -> Self {
        Self {
            exact: HashMap::new(),
            wild: Vec::new(),
            clients: HashMap::new(),
            members: Vec::new(),
            random: 0x9E37_79B9_7F4A_7C15,
        }
    }

    /// Adds a subscription; a sid that the client already uses keeps its first meaning.
    pub(crate) fn subscribe(
        &mut self,
        client: u64,
        handle: H,
        wanted: &Wanted<'_>,
        permissions: &Permissions,
    ) {
        let sids = self.clients.entry(client).or_default();
        if sids.contains_key(wanted.sid) {
            return;
        }
        let (sid, subject): (Arc<str>, Arc<str>) = (wanted.sid.into(), wanted.subject.into());
        sids.insert(sid.clone(), subject.clone());
        let subscription = Subscription {
            client,
            handle,
            sid,
            subject: subject.clone(),
            queue: wanted.queue.map(Arc::from),
            max: None,
            delivered: 0,
            hidden: permissions.hidden_from(wanted.subject),
        };
        if has_wildcard(&subject) {
            self.wild.push(subscription);
        } else {
            self.exact.entry(subject).or_default().push(subscription);
        }
    }

    /// Ends a subscription at once, or after `max` messages since it began. An unknown sid is fine:
    /// it may have ended by itself.
    pub(crate) fn unsubscribe(&mut self, client: u64, sid: &str, max: Option<u64>) {
        let Some(subject) = self.clients.get(&client).and_then(|sids| sids.get(sid)).cloned()
        else {
            return;
        };
        let list = self.list_of(&subject);
        let found = list.and_then(|list| {
            list.iter_mut().find(|known| known.client == client && *known.sid == *sid)
        });
        let Some(subscription) = found else {
            return;
        };
        match max {
            Some(max) if max > subscription.delivered => subscription.max = Some(max),
            _ => self.remove(client, sid, &subject),
        }
    }

    /// Forgets a client with all its subscriptions.
    pub(crate) fn forget(&mut self, client: u64) {
        let Some(sids) = self.clients.remove(&client) else {
            return;
        };
        self.wild.retain(|known| known.client != client);
        for subject in sids.values() {
            if let Some(list) = self.exact.get_mut(subject) {
                list.retain(|known| known.client != client);
                if list.is_empty() {
                    self.exact.remove(subject);
                }
            }
        }
    }

    /// How many subscriptions all clients have.
    pub(crate) fn count(&self) -> usize {
        self.clients.values().map(HashMap::len).sum()
    }

    /// Appends to `targets` who gets a message that `publisher` publishes, and counts it.
    pub(crate) fn route(
        &mut self,
        subject: &str,
        publisher: u64,
        echo: bool,
        targets: &mut Vec<Target<H>>,
    ) {
        if !is_routable(subject) {
            return;
        }
        let first = targets.len();
        let mut members = std::mem::take(&mut self.members);
        let mut spent = false;
        let unwanted = (!echo).then_some(publisher);
        if let Some(list) = self.exact.get_mut(subject) {
            spent |= offer(list, false, subject, unwanted, &mut members, targets);
        }
        spent |= offer(&mut self.wild, true, subject, unwanted, &mut members, targets);
        while let Some(group) = members.first().map(|member| member.queue.clone()) {
            let size = members.iter().filter(|member| member.queue == group).count();
            let drawn = self.draw(size);
            let chosen = members.iter().filter(|member| member.queue == group).nth(drawn).cloned();
            members.retain(|member| member.queue != group);
            let list = match chosen {
                Some(Member { wild: true, .. }) => Some(&mut self.wild),
                _ => self.exact.get_mut(subject),
            };
            let index = chosen.map_or(0, |member| member.index);
            if let Some(subscription) = list.and_then(|list| list.get_mut(index)) {
                spent |= subscription.deliver(targets);
            }
        }
        self.members = members;
        if spent {
            debug_assert!(targets.len() > first, "only a delivery can spend a subscription");
            self.remove_spent(subject);
        }
    }

    /// The sid by which the client itself listens to `subject`, if it does.
    pub(crate) fn own_sid(&self, client: u64, subject: &str) -> Option<Arc<str>> {
        let sids = self.clients.get(&client)?;
        sids.iter().find(|(_, pattern)| matches(pattern, subject)).map(|(sid, _)| sid.clone())
    }

    fn list_of(&mut self, subject: &str) -> Option<&mut Vec<Subscription<H>>> {
        if has_wildcard(subject) { Some(&mut self.wild) } else { self.exact.get_mut(subject) }
    }

    fn remove(&mut self, client: u64, sid: &str, subject: &str) {
        if let Some(sids) = self.clients.get_mut(&client) {
            sids.remove(sid);
            if sids.is_empty() {
                self.clients.remove(&client);
            }
        }
        if let Some(list) = self.list_of(subject) {
            list.retain(|known| known.client != client || *known.sid != *sid);
            if list.is_empty() {
                self.exact.remove(subject);
            }
        }
    }

    fn remove_spent(&mut self, subject: &str) {
        let exact = self.exact.get(subject).into_iter().flatten();
        let spent: Vec<_> = exact
            .chain(&self.wild)
            .filter(|known| known.is_spent())
            .map(|known| (known.client, known.sid.clone(), known.subject.clone()))
            .collect();
        for (client, sid, subject) in spent {
            self.remove(client, &sid, &subject);
        }
    }

    /// A number below `size`, drawn by xorshift from a fixed seed: spread, and the same every run.
    fn draw(&mut self, size: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let size = u64::try_from(size).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.random >> 16) % size).unwrap_or(0)
    }
}

impl<H: Clone> Subscription<H> {
    fn deliver(&mut self, targets: &mut Vec<Target<H>>) -> bool {
        self.delivered = self.delivered.saturating_add(1);
        targets.push((self.handle.clone(), self.sid.clone()));
        self.is_spent()
    }

    fn is_spent(&self) -> bool {
        self.max.is_some_and(|max| self.delivered >= max)
    }
}

/// Delivers to the plain subscriptions of a list and notes the queue members among them. Returns
/// whether a subscription got its last message.
fn offer<H: Clone>(
    list: &mut [Subscription<H>],
    wild: bool,
    subject: &str,
    unwanted: Option<u64>,
    members: &mut Vec<Member>,
    targets: &mut Vec<Target<H>>,
) -> bool {
    let mut spent = false;
    for (index, subscription) in list.iter_mut().enumerate() {
        if unwanted == Some(subscription.client)
            || (wild && !matches(&subscription.subject, subject))
            || subscription.hidden.iter().any(|pattern| matches(pattern, subject))
        {
            continue;
        }
        match &subscription.queue {
            Some(queue) => members.push(Member { queue: queue.clone(), wild, index }),
            None => spent |= subscription.deliver(targets),
        }
    }
    spent
}

/// Whether a pattern with wildcards takes a subject. A wildcard in the subject is a token like any
/// other, so that this also says whether a permission takes a subscription.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (_, None) => return false,
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Whether some subject is taken by both patterns.
fn overlaps(one: &str, other: &str) -> bool {
    let (mut left, mut right) = (one.split('.'), other.split('.'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (None, _) | (_, None) => return false,
            (Some(">"), _) | (_, Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

/// Whether a subject can be subscribed to: no empty token, `>` only at the end.
pub(crate) fn is_subscribable(subject: &str) -> bool {
    let tail = subject.strip_suffix(".>").unwrap_or(subject);
    subject == ">" || tail.split('.').all(|token| !token.is_empty() && token != ">")
}

/// Whether a subject is free of wildcards and empty tokens.
pub(crate) fn is_literal(subject: &str) -> bool {
    is_routable(subject) && !has_wildcard(subject)
}

fn is_routable(subject: &str) -> bool {
    !subject.is_empty()
        && !subject.starts_with('.')
        && !subject.ends_with('.')
        && !subject.contains("..")
}

fn has_wildcard(subject: &str) -> bool {
    subject.contains(['*', '>']) && subject.split('.').any(|token| token == "*" || token == ">")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(
        interest: &mut Interest<u64>,
        client: u64,
        subject: &str,
        queue: Option<&str>,
        sid: &str,
    ) {
        let wanted = Wanted { subject, queue, sid };
        interest.subscribe(client, client, &wanted, &Permissions::new());
    }

    fn routed(interest: &mut Interest<u64>, subject: &str) -> Vec<String> {
        let mut targets = Vec::new();
        interest.route(subject, 0, true, &mut targets);
        let mut shown: Vec<_> =
            targets.iter().map(|(client, sid)| format!("{client}:{sid}")).collect();
        shown.sort();
        shown
    }

    #[test]
    fn wildcards_stand_for_whole_tokens() {
        for (pattern, subject, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "a.b", false),
            ("a.b", "a", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
            (">", "a.b.c", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a*", "ab", false),
            ("a*", "a*", true),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} and {subject}");
        }
    }

    #[test]
    fn only_well_formed_subjects_can_be_subscribed_to() {
        for good in ["a", "a.b", "*", ">", "a.*", "a.>", "*.>", "a>b", "a*"] {
            assert!(is_subscribable(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", ">.a", "a.>.b", ".>", "a..>"] {
            assert!(!is_subscribable(bad), "{bad}");
        }
        assert!(is_literal("a.b") && !is_literal("a.*") && !is_literal("a..b"));
    }

    #[test]
    fn every_plain_subscription_gets_a_message() {
        let mut interest = Interest::new();
        add(&mut interest, 1, "a.b", None, "1");
        add(&mut interest, 1, "a.*", None, "2");
        add(&mut interest, 2, ">", None, "1");
        add(&mut interest, 2, "c", None, "2");
        assert_eq!(routed(&mut interest, "a.b"), ["1:1", "1:2", "2:1"]);
        assert_eq!(routed(&mut interest, "a..b"), [""; 0]);
        assert_eq!(interest.count(), 4);
        interest.forget(1);
        assert_eq!(routed(&mut interest, "a.b"), ["2:1"]);
        assert_eq!(interest.count(), 2);
    }

    #[test]
    fn one_member_of_each_queue_group_gets_a_message() {
        let mut interest = Interest::new();
        add(&mut interest, 1, "a.b", Some("q"), "1");
        add(&mut interest, 2, "a.*", Some("q"), "1");
        add(&mut interest, 3, "a.b", Some("other"), "1");
        let mut seen = HashMap::new();
        for _ in 0..200 {
            let got = routed(&mut interest, "a.b");
            assert_eq!(got.len(), 2);
            for target in got {
                *seen.entry(target).or_insert(0) += 1;
            }
        }
        assert_eq!(seen.get("3:1"), Some(&200));
        assert!(seen.get("1:1").is_some_and(|count| *count > 50), "{seen:?}");
        assert!(seen.get("2:1").is_some_and(|count| *count > 50), "{seen:?}");
    }

    #[test]
    fn a_subscription_ends_after_its_last_message() {
        let mut interest = Interest::new();
        add(&mut interest, 1, "a", None, "1");
        add(&mut interest, 1, "*", None, "2");
        interest.unsubscribe(1, "1", Some(2));
        interest.unsubscribe(1, "2", Some(1));
        interest.unsubscribe(1, "9", None);
        assert_eq!(routed(&mut interest, "a"), ["1:1", "1:2"]);
        assert_eq!(routed(&mut interest, "a"), ["1:1"]);
        assert_eq!(routed(&mut interest, "a"), [""; 0]);
        assert_eq!(interest.count(), 0);
        assert!(interest.exact.is_empty() && interest.clients.is_empty());

        add(&mut interest, 1, "a", None, "1");
        assert_eq!(routed(&mut interest, "a"), ["1:1"]);
        interest.unsubscribe(1, "1", Some(1));
        assert_eq!(interest.count(), 0, "it already had its one message");
    }

    #[test]
    fn a_sid_keeps_its_first_meaning() {
        let mut interest = Interest::new();
        add(&mut interest, 1, "a", None, "1");
        add(&mut interest, 1, "b", None, "1");
        assert_eq!(routed(&mut interest, "a"), ["1:1"]);
        assert_eq!(routed(&mut interest, "b"), [""; 0]);
    }

    #[test]
    fn no_echo_leaves_out_the_publisher() {
        let mut interest = Interest::new();
        add(&mut interest, 1, "a", None, "1");
        add(&mut interest, 1, "a", Some("q"), "2");
        add(&mut interest, 2, "a", Some("q"), "1");
        for _ in 0..20 {
            let mut targets = Vec::new();
            interest.route("a", 1, false, &mut targets);
            assert_eq!(targets, [(2, Arc::from("1"))]);
        }
        assert_eq!(interest.own_sid(2, "a").as_deref(), Some("1"));
        assert_eq!(interest.own_sid(2, "b"), None);
    }

    #[test]
    fn denied_messages_are_kept_from_a_wider_subscription() {
        let permissions = Permissions::new().allow("a.*").allow("b.>").deny("a.secret");
        assert!(permissions.allows("a.*"));
        assert!(!permissions.allows("a.secret"));
        assert!(!permissions.allows(">"));
        let mut interest = Interest::new();
        let wanted = Wanted { subject: "a.*", queue: None, sid: "1" };
        interest.subscribe(1, 1, &wanted, &permissions);
        assert_eq!(routed(&mut interest, "a.secret"), [""; 0]);
        assert_eq!(routed(&mut interest, "a.open"), ["1:1"]);
        assert!(overlaps("a.*.c", "*.b.>") && !overlaps("a.b", "a.*.c") && !overlaps("a.b", "b.>"));
    }
}
