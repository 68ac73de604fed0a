//! From the Java client (`io.nats.client`), whose model this crate follows.
//!
//! The words are the same: connection, options, connection listener, error listener, dispatcher,
//! consumer. What differs is what Rust does otherwise (`Result` in place of exceptions and nulls,
//! `Duration`, builders by value) and what users of the Java client complained of.
//!
//! # Names
//!
//! | Java | here |
//! | --- | --- |
//! | `JetStream`, `KeyValue`, `ObjectStore`, `Service` | not here yet |
//! | `Nats.connect(url)` | [`connect(url)`](crate::connect) |
//! | `Nats.connect(options)` | [`Options::connect`](crate::Options::connect) |
//! | `Options.Builder` | [`OptionsBuilder`](crate::OptionsBuilder) |
//! | `new Options.Builder(properties)` | [`from_property_pairs`](crate::Options::from_property_pairs) of a map, [`from_properties_file`](crate::Options::from_properties_file), [`from_properties`](crate::Options::from_properties) of a text, with the list of all keys, [`from_environment`](crate::Options::from_environment) |
//! | `Options.Builder.maxReconnects(n)`, `maxReconnects(-1)` | [`max_reconnects(n)`](crate::OptionsBuilder::max_reconnects), `max_reconnects(None)`: the default |
//! | `Options.Builder.credentialPath(path)` | [`credentials_file`](crate::OptionsBuilder::credentials_file) |
//! | `Options.Builder.tokenSupplier(supplier)` | [`token_supplier`](crate::OptionsBuilder::token_supplier) |
//! | `AuthHandler` | [`Credentials`](crate::Credentials): one call gives name and signature |
//! | `Nats.staticCredentials(jwt, seed)` | [`jwt_and_seed`](crate::OptionsBuilder::jwt_and_seed), [`credentials`](crate::OptionsBuilder::credentials) |
//! | `Connection.publish(subject, body)` | [`publish`](crate::Connection::publish) |
//! | `Connection.publish(subject, replyTo, body)` | [`publish_with_reply`](crate::Connection::publish_with_reply) |
//! | `Connection.publish(message)` | [`publish_message`](crate::Connection::publish_message) |
//! | `NatsMessage.builder()` | [`Message::new`](crate::Message::new) and its `with_…` methods |
//! | `Connection.request(subject, body, timeout)` | [`request`](crate::Connection::request): an error instead of null |
//! | `Connection.request(subject, body)`, a future | [`send_request`](crate::Connection::send_request), a [`PendingReply`](crate::PendingReply) |
//! | `Connection.requestWithTimeout(subject, body, timeout)` | [`send_request`](crate::Connection::send_request), then [`wait(timeout)`](crate::PendingReply::wait) |
//! | `Connection.subscribe(subject)` | [`subscribe`](crate::Connection::subscribe) |
//! | `Connection.subscribe(subject, queue)` | [`queue_subscribe`](crate::Connection::queue_subscribe) |
//! | `Subscription.nextMessage(timeout)` | [`next_timeout`](crate::Subscription::next_timeout), [`next`](crate::Subscription::next), [`try_next`](crate::Subscription::try_next) |
//! | `Subscription.unsubscribe(after)` | [`unsubscribe_after`](crate::Subscription::unsubscribe_after) |
//! | `Connection.createDispatcher(handler)` | [`dispatcher`](crate::Connection::dispatcher) |
//! | `Dispatcher.subscribe(subject)` | [`subscribe`](crate::Dispatcher::subscribe), which gives the sid |
//! | `Dispatcher.subscribe(subject, handler)` | [`subscribe_with`](crate::Dispatcher::subscribe_with) |
//! | `Dispatcher.unsubscribe(subject)`, `unsubscribe(subject, after)` | [`unsubscribe(sid)`](crate::Dispatcher::unsubscribe), [`unsubscribe_after(sid, n)`](crate::Dispatcher::unsubscribe_after) |
//! | `Connection.createDispatcher()` without a handler | nothing: a dispatcher has one, and `subscribe_with` others |
//! | `Connection.closeDispatcher(d)` | drop it |
//! | `Consumer.setPendingLimits(n, bytes)` | `set_pending_limits` of both kinds |
//! | `Consumer.getDroppedCount()`, `getPendingMessageCount()` … | [`Consumer`](crate::Consumer) |
//! | `Consumer.drain(timeout)`, `Connection.drain(timeout)` | `drain(timeout)`; [`start_drain`](crate::Connection::start_drain) gives what a future would |
//! | `Connection.flush(timeout)` | [`flush_timeout`](crate::Connection::flush_timeout) |
//! | `Connection.flushBuffer()` | not needed: nothing waits in a buffer for want of a flush |
//! | `Connection.close()` | [`close`](crate::Connection::close) |
//! | `Connection.getStatus()` | [`status`](crate::Connection::status) |
//! | `Connection.getConnectedUrl()`, `getServers()`, `getServerInfo()` | [`connected_url`](crate::Connection::connected_url), [`servers`](crate::Connection::servers), [`server_info`](crate::Connection::server_info) |
//! | `Connection.getLastError()`, `clearLastError()` | [`last_error`](crate::Connection::last_error), [`clear_last_error`](crate::Connection::clear_last_error) |
//! | `Connection.getMaxPayload()`, `getClientInetAddress()` | [`max_payload`](crate::Connection::max_payload), [`client_ip`](crate::Connection::client_ip) |
//! | `Message.getConnection()`, `getSubscription()`, `Consumer.clearDroppedCount()` | nothing: messages hold no connection, counts only grow |
//! | `Connection.getStatistics()` | [`statistics`](crate::Connection::statistics) |
//! | `Connection.RTT()` | [`rtt`](crate::Connection::rtt) |
//! | `Connection.createInbox()` | [`new_inbox`](crate::Connection::new_inbox) |
//! | `Nats.connectReconnectOnConnect(options)`, `Nats.connectAsynchronously(options, true)` | [`retry_on_failed_connect`](crate::OptionsBuilder::retry_on_failed_connect), within a limit or in the background; the first success is `Connected` |
//! | `ReconnectDelayHandler` | [`reconnect_delay`](crate::OptionsBuilder::reconnect_delay) |
//! | `ServerPool` | [`select_server`](crate::OptionsBuilder::select_server), [`set_server_pool`](crate::Connection::set_server_pool) |
//! | `Connection.forceReconnect()` | [`force_reconnect`](crate::Connection::force_reconnect), which returns at once |
//! | `addConnectionListener`, `removeConnectionListener` | [`add_connection_listener`](crate::Connection::add_connection_listener) or a closure with [`on_event`](crate::Connection::on_event), [`remove_listener`](crate::Connection::remove_listener) |
//! | `Options.Builder.errorListener(listener)` | [`error_listener`](crate::OptionsBuilder::error_listener); on a connection that is there [`add_error_listener`](crate::Connection::add_error_listener), or a closure with [`on_error`](crate::Connection::on_error) |
//! | `connection == other` in a shared listener | the same: handles of one connection are equal |
//! | `Subscription.getQueueName()` | [`Consumer::queue`](crate::Consumer::queue) |
//! | `Connection.forceReconnect(options)` | [`flush`](crate::Connection::flush) before [`force_reconnect`](crate::Connection::force_reconnect) |
//! | `Message.getData()`, `getSubject()`, `getReplyTo()` | [`payload`](crate::Message::payload), [`subject`](crate::Message::subject), [`reply`](crate::Message::reply) |
//! | `Headers.add`, `put`, `getFirst`, `getIgnoreCase` | [`append`](crate::Headers::append), [`insert`](crate::Headers::insert), [`get`](crate::Headers::get), [`get_all_ignore_case`](crate::Headers::get_all_ignore_case) |
//!
//! # Events
//!
//! | Java | here | what differs |
//! | --- | --- | --- |
//! | `CONNECTED` | `Connected` | also when the first connect succeeds late |
//! | `DISCONNECTED` | `Disconnected` | once for each loss, with its cause; not for failed attempts |
//! | – | `Reconnecting`, `ReconnectFailed` | each attempt, with its server, number and cause |
//! | `RECONNECTED` | `Reconnected` | with the number of attempts and the time of the outage |
//! | `RESUBSCRIBED` | `Resubscribed` | the subscriptions have been written, not only queued |
//! | `DISCOVERED_SERVERS` | `DiscoveredServers` | only what changed; never before `Connected` |
//! | `LAME_DUCK` | `LameDuck` | once for each server |
//! | – | `StaleConnection`, `ForcedReconnect`, `Draining` | |
//! | `CLOSED` | `Closed` | with its cause; always, and always the last call |
//!
//! | `ErrorListener` in Java | here |
//! | --- | --- |
//! | `errorOccurred(connection, text)` | [`error_occurred(connection, &ServerError)`](crate::ErrorListener::error_occurred) |
//! | `exceptionOccurred(connection, exception)` | [`exception_occurred(connection, &Error)`](crate::ErrorListener::exception_occurred) |
//! | `slowConsumerDetected(connection, consumer)` | [`slow_consumer_detected`](crate::ErrorListener::slow_consumer_detected), and [`slow_consumer_recovered`](crate::ErrorListener::slow_consumer_recovered) |
//! | `messageDiscarded(connection, message)` | [`message_discarded`](crate::ErrorListener::message_discarded) |
//! | `socketWriteTimeout(connection)` | [`socket_write_timeout`](crate::ErrorListener::socket_write_timeout) |
//!
//! # What behaves otherwise
//!
//! * **A time-out of zero ends at once**; `Duration::MAX` waits for ever.
//! * **Subscribing twice to one subject gives each message twice**: a dispatcher tells its
//!   subscriptions apart by sid.
//! * **Any number of threads may flush**; flush pings are not counted as keep-alive pings.
//! * **`request` says why there is no reply**: `Timeout`, `NoResponders`, `Disconnected`, `Closed`,
//!   `PermissionsViolation`.
//! * **Reconnecting is endless by default**, with a jitter of a second before every attempt but
//!   the first.
//! * **The outgoing queue is limited in bytes** (8 MiB), not in messages.
//! * **What is queued at `close` is written**, for at most half of the close time-out.
//! * **`unsubscribe_after` survives a reconnect.**
//! * **A server that refuses us twice is given up alone**; the others are still used, and once one
//!   of them accepts the connection it counts again.
//! * **A slow consumer** recovers at half of its limit, so that it does not flap.
//! * **Listeners may call `close`**, and `Closed` still comes.
//! * **A property that is misspelt or cannot be had is an error**, which names the nearest or what
//!   to use instead.
//! * **Subjects are always checked** for what breaks the protocol; strictly on request.
//! * **No password appears** in a URL that an event or an accessor gives.
