//! The fourteen kinds of faults: twelve of a proxy, two of a node.

use std::thread;
use std::time::Duration;

use super::clients::Client;
use crate::support::cluster::Cluster;
use crate::support::faults::{Cut, Faults};
use crate::support::proxy::{Proxy, Way};
use crate::support::seed::Seed;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Delay,
    Throttle,
    StopReading,
    Hold,
    Swallow,
    Slice,
    CutAfter,
    Reset,
    HalfClose,
    Refuse,
    EditInfo,
    /// Over TLS, where it must end the connection; in clear NATS has nothing to notice it by.
    FlipBit,
    KillNode,
    StopNode,
}

pub(crate) const FAULTS: &[Fault] = &[
    Fault::Delay,
    Fault::Throttle,
    Fault::StopReading,
    Fault::Hold,
    Fault::Swallow,
    Fault::Slice,
    Fault::CutAfter,
    Fault::Reset,
    Fault::HalfClose,
    Fault::Refuse,
    Fault::EditInfo,
    Fault::FlipBit,
    Fault::KillNode,
    Fault::StopNode,
];

/// The server is about to leave, it says.
fn lame(line: &str) -> String {
    line.replacen('{', "{\"ldm\":true,", 1)
}

impl Fault {
    /// Happens to one client or node, from its beginning to its end.
    pub(crate) fn happen(self, clients: &[Client], cluster: &mut Cluster, seed: &mut Seed) {
        let pause = Duration::from_millis(seed.within(10..120));
        let node = seed.below(cluster.nodes().len() as u64) as usize;
        match self {
            Self::KillNode => {
                cluster[node].kill();
                // Paces: the time in which the node is away.
                thread::sleep(pause);
                cluster[node].restart();
            }
            Self::StopNode => {
                cluster[node].stop();
                // Paces: the time in which the node stands still.
                thread::sleep(pause * 2);
                cluster[node].cont();
            }
            _ => {
                let fits = |client: &&Client| match self {
                    Self::FlipBit => client.tls,
                    // The first line that the proxy edits is INFO in either case.
                    _ => true,
                };
                let choice: Vec<&Client> = clients.iter().filter(fits).collect();
                let proxies = &seed.pick(&choice).proxies;
                // Where the client is, if it is anywhere now.
                let used = proxies.iter().find(|proxy| proxy.open_links() > 0);
                self.disturb(used.unwrap_or(&proxies[node]), pause, seed);
            }
        }
    }

    fn disturb(self, proxy: &Proxy, pause: Duration, seed: &mut Seed) {
        let way = *seed.pick(&[Way::ToServer, Way::ToClient]);
        let how = *seed.pick(&[Cut::Close, Cut::Reset]);
        let none = Faults::default();
        // After bytes have vanished or changed the link must not go on.
        let mut ends = false;
        match self {
            Self::Delay => {
                let (delay, jitter) = (pause / 4, pause / 4);
                proxy.set_both(&Faults { delay, jitter, ..none });
            }
            Self::Throttle => {
                proxy.set_both(&Faults { bytes_per_second: Some(20_000), ..none });
            }
            Self::StopReading => proxy.set(way, Faults::stopped()),
            Self::Hold => proxy.set(way, Faults { held: true, ..none }),
            Self::Swallow => {
                proxy.set(way, Faults::swallowed());
                ends = true;
            }
            Self::Slice => {
                let slice = Some(seed.within(1..40) as usize);
                proxy.set(way, Faults { slice, ..none });
            }
            Self::CutAfter => {
                proxy.set(way, Faults::cut_after(seed.within(1..20_000), how));
                proxy.cut(how);
            }
            Self::Reset => _ = proxy.cut(Cut::Reset),
            Self::HalfClose => {
                proxy.half_close(way);
                ends = true;
            }
            Self::Refuse => {
                proxy.refuse(true);
                proxy.cut(how);
            }
            Self::EditInfo => {
                proxy.set(Way::ToClient, Faults { edit_first_line: Some(lame), ..none });
                proxy.cut(how);
            }
            Self::FlipBit => {
                // Behind INFO, which is in clear: in the handshake or in what follows.
                proxy.set(way, Faults { flip_at: Some(seed.within(1_500..6_000)), ..none });
                proxy.cut(how);
                ends = true;
            }
            Self::KillNode | Self::StopNode => {}
        }
        // Paces: the time in which the fault is there.
        thread::sleep(pause);
        if ends {
            proxy.cut(how);
        }
        proxy.calm();
    }
}
