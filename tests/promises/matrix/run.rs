//! All visits, several at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::methods;
use super::places::{PLACES, Place, STATES, State};
use super::stage::{Calls, visit};
use crate::Tier;
use crate::support::leaks::{Snapshot, wait_back_to};

/// Most of their time is waiting.
const AT_ONCE: usize = 16;
const LIMIT: Duration = Duration::from_secs(60);

type Visits = VecDeque<(Place, State, Calls)>;

fn visits() -> Visits {
    let mut visits = Visits::new();
    for place in PLACES {
        for state in STATES.iter().filter(|state| place.can_be_in(**state)) {
            let quiet = methods::all().filter(|method| !method.alone).collect();
            visits.push_back((*place, *state, Calls::Many(quiet)));
            for method in methods::all().filter(|method| method.alone) {
                visits.push_back((*place, *state, Calls::Many(vec![method])));
            }
            visits.push_back((*place, *state, Calls::LastHandle));
        }
    }
    visits
}

/// What has been reached, over all visits.
#[derive(Default)]
struct Figures {
    cells: usize,
    longest: Duration,
    of: String,
}

/// Every method from every place in every state.
pub(crate) fn all_cells(_: Tier) -> String {
    methods::compare_with_the_sources();
    let before = Snapshot::take();
    let visits = visits();
    let count = visits.len();
    let left = Arc::new(Mutex::new(visits));
    let figures: Arc<Mutex<Figures>> = Arc::default();
    let threads: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (left, figures) = (Arc::clone(&left), Arc::clone(&figures));
            thread::spawn(move || {
                loop {
                    let next = left.lock().unwrap().pop_front();
                    let Some((place, state, calls)) = next else { return };
                    let made = visit(place, state, &calls);
                    let mut figures = figures.lock().unwrap();
                    figures.cells += made.len();
                    let waits =
                        |name: &str| matches!(name, "Connection::flush" | "Connection::rtt");
                    for made in made.iter().filter(|made| !waits(made.name)) {
                        if made.took > figures.longest {
                            figures.longest = made.took;
                            figures.of = format!("{} in {place:?} while {state:?}", made.name);
                        }
                    }
                }
            })
        })
        .collect();
    let outcomes: Vec<_> = threads.into_iter().map(thread::JoinHandle::join).collect();
    for outcome in outcomes {
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    wait_back_to(&before, LIMIT);
    let figures = figures.lock().unwrap();
    format!(
        "{} cells: {} methods in {} places and {} states ({count} connections), each ended; the \
         longest call took {} ms ({}); threads and descriptors left over 0",
        figures.cells,
        methods::all().count() + 1,
        PLACES.len(),
        STATES.len(),
        figures.longest.as_millis(),
        figures.of,
    )
}
