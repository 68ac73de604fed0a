//! What this crate promises, by how much, and what proves it.
//!
//! The words of the promises stand in the guide, under
//! [What happens to a message](crate#what-happens-to-a-message),
//! [Listening](crate#listening) and [Reconnecting](crate#reconnecting). Here is what each of them
//! is held to. A proof with a letter and a number is one of `tests/promises`, a program that prints
//! a table of the figures that it reached:
//!
//! ```text
//! cargo test --release --features testing,crossbeam-channel,internals,websocket --test promises
//! ```
//!
//! takes minutes; with `-- --long` behind it there is more of everything, and with `-- E1 J1` these
//! alone.
//!
//! What is drawn at random comes from a seed, which is printed; `SEED=n` draws the same again.
//!
//! # Messages
//!
//! | promise | held to | proof |
//! | --- | --- | --- |
//! | nothing is sent twice, reordered or damaged; a loss costs one run of messages | 1,000 disconnects, 10⁷ messages received: twice 0, out of order 0, damaged 0, unaccounted 0 | E1a |
//! | the same when the server is killed | 40 kills under load | E1b |
//! | what is published in an outage arrives whole and in order; what is beyond the buffer is refused | 500 outages, at least 200 messages each: lost 0 | E2 |
//! | no part of a frame reaches another connection | cut at each byte of three frames: complaints of the server 0 | E3 |
//! | a request ends once, on time, with its own reply | 10⁶ requests, replies late, doubled or missing: crossed 0, left behind 0 | E4 |
//! | a flush that succeeds answers for all before it | 200,000 flushes; 1,000 without an answer end at their deadline | E5 |
//! | a drain handles all that had arrived | 200 drains under load: handled = received | E6 |
//! | an auto-unsubscribe delivers its number, across a reconnect | 200 subscriptions: exactly | E7 |
//! | a slow consumer is bounded and counted, and harms no other | 10⁶ messages to ten consumers: dropped + handled = sent, others drop 0 | E8 |
//! | each connection announces each live subscription once | 10,000 subscriptions, 60 reconnects | E9 |
//!
//! # Waiting
//!
//! | promise | held to | proof |
//! | --- | --- | --- |
//! | a dead peer blocks nobody for longer than agreed | 200 dead peers: `publish`, `subscribe`, `close`, and notice of the death, each within its bound | F1 |
//! | a slow link that is alive is not cut | a message that takes ten seconds, pings every second | F2 |
//! | an attempt ends in its time | silence at 14 steps of a login: late by 100 ms at most, half of the time | F3, `it handshake::silence_at_any_step_costs_the_connect_timeout` |
//! | back when the server is back | 300 returns after kills, and 3 nodes of a cluster killed in turn (10,000 and 50 in the long run): all, within the wait, the jitter and 200 ms, half of the time | F4 |
//! | the same under load, with nothing left behind | 1,000 restarts | `tests/restarts.rs` |
//! | no storm on a server that comes back | 1,000 clients lose three servers, in virtual time: after the first second at most 22 % of them come within 100 ms; and 300 real clients | F5, `lib core::servers::tests::a_thousand_clients_of_a_dead_cluster_do_not_come_at_once` |
//! | names that resolve late, not at all, or to something else | a resolver of 30 s costs the connect time-out, and hinders no `close` | F6 |
//! | a process that stood still goes on | three times as long as it takes to notice a dead server: replaced once at most, then less than 5 % of a processor | F7 |
//! | signals change nothing | one to each thread every millisecond, for ten seconds (a minute in the long run): errors 0, disconnects 0 | F8 |
//! | a server that leaves is left in time | each node in turn, under load: failed requests 0 | F9, `it real::lame_duck::a_lame_duck_is_left_without_losing_or_doubling_a_message` |
//! | a refusal has its kind and its consequence | 28 texts, and what the real server says by itself | F10, `it real::credentials::a_revoked_user_comes_back_as_another` |
//!
//! # The program's code
//!
//! | promise | held to | proof |
//! | --- | --- | --- |
//! | anything may be called from anywhere, in every state | every public method × 22 places × 5 states, about 13,000 cells: each ends within 5 s (`flush` and `rtt` within their own 10 s), then `Closed` comes once and last | G1 |
//! | a panic harms nobody else | 10,000 in a handler, 1,000 in each listener: all else delivered | G2 |
//! | events keep to their grammar | 100 random lives and 20 over TLS in each run, 2,000 and 400 in the long one: illegal orders 0 | G3, J1, `it random_faults::the_events_keep_to_their_grammar_under_random_faults` |
//! | a slow listener slows only listeners | ten seconds of sleep: pings, delivery and reconnects go on, at most 1,024 errors wait, no event is lost | G4 |
//!
//! # Resources
//!
//! | promise | held to | proof |
//! | --- | --- | --- |
//! | nothing is left behind | 1,000 connections, failures, reconnects, 100,000 subscriptions and requests: threads and descriptors 0, memory less than 1 MiB | H1 |
//! | what runs out is an error, and recovers | 24 descriptors | H2 |
//! | handles may be dropped in any order | 720 orders, on any thread | H3 |
//! | children get no descriptors | 50 connections | H4 |
//! | the library itself never panics | in all of these runs: 0 | H5 |
//!
//! # Every order
//!
//! | promise | held to | proof |
//! | --- | --- | --- |
//! | I1: queues, outbox, PONGs, requests and epochs are right whatever order their threads run in | 36 models, four planted faults found; the long run tries every order with three interruptions | `tests/models/main.rs` |
//! | I4: a whole connection keeps its promises whatever order its threads run in, beside losses, drains and closes at any moment | 29 scenes under 5,000 orders each (100,000 in the long run), drawn from seeds that replay them; three planted faults found: hangs 0, lost or doubled messages 0 | `tests/models/schedules/mod.rs` |
//! | I2: no lock is taken out of order, or held over a socket, a join or the program's code | checked at each lock in debug builds, so in every test: 0 violations | `lib sync::ranked::tests::a_wrong_lock_order_is_noticed_at_once` |
//! | under virtual time every message is processed once, or lost with a connection | 10,000 lives (1,000,000 in the long run) over a network that delays, splits and loses: twice 0, out of order 0, unaccounted 0 | I3 |
//!
//! # Hostile bytes, in and out
//!
//! | promise | held to | proof |
//! | --- | --- | --- |
//! | no input makes anything panic, hang or be read wrongly | 10⁶ changed inputs against a second, slower reading: findings 0 | A1 |
//! | how bytes are cut into reads changes nothing | every named input at every place, and at random: the same operations | A2 |
//! | the time that an input takes is linear | eleven kinds of input doubled: at most 2.3 times as long | A4 |
//! | no string of the program becomes a second protocol line | every ASCII text of one and two characters in each place, and 10⁶ more in places drawn at random: lines too many 0 | B1 |
//! | one publish is one whole frame | 8 threads, 80,000 frames of up to 100 kB: broken 0 | B3 |
//!
//! # The whole
//!
//! | promise | held to | proof |
//! | --- | --- | --- |
//! | all of this holds in a cluster under faults, over TCP and TLS | 100 faults of fourteen kinds in a minute (300 in ten in the long run), all well again within 30 s | J1 |
//! | a steady load stays steady | `SOAK=seconds`: threads and descriptors unchanged, unexplained events 0; from half an hour on memory grows by less than 1 MiB an hour, and the slowest hundredth of requests takes at most 1.2 times as long as at first | J2 |
//! | older servers serve as well | 2.12, 2.10 and 2.9 run the core tests | `tests/run --long` |
