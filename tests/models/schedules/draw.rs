//! The orders of threads: each is drawn from a seed of its own, which replays it.
//!
//! A third of them lets any thread go on at each step; a third lets one go on for a while; a third
//! gives each thread a rank, lets the highest go on that can, and takes the rank away from the one
//! that runs at a few steps (PCT, which finds with few interruptions what needs few).

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// The seed of the schedule that runs.
static SEED: AtomicU64 = AtomicU64::new(0);

/// Stands for the steps of the last whole schedule.
static TRACE: AtomicU64 = AtomicU64::new(0);

/// More steps than any scenario needs: one that takes them spins.
const MAX_STEPS: usize = 500_000;

/// The seed of the first schedule of each scenario: `SEED`, or another one each time.
pub(crate) fn first_seed() -> Option<u64> {
    Some(match std::env::var("SEED") {
        Ok(text) => text.trim().parse().expect("SEED is a whole number"),
        Err(_) => UNIX_EPOCH.elapsed().unwrap_or_default().as_micros() as u64,
    })
}

/// Runs so many schedules, and returns their number.
pub(crate) fn check(schedules: usize, model: fn()) -> u64 {
    let first = first_seed().unwrap_or_default();
    let run = AssertUnwindSafe(|| {
        // A seed that does not replay a schedule is worth nothing.
        run(first, 1, model);
        let trace = TRACE.load(Ordering::Relaxed);
        run(first, 1, model);
        assert_eq!(trace, TRACE.load(Ordering::Relaxed), "the schedule of a seed is not the same");
        run(first, schedules, model)
    });
    catch_unwind(run).unwrap_or_else(|payload| {
        eprintln!("replay it with SEED={} and --schedules=1", SEED.load(Ordering::Relaxed));
        resume_unwind(payload)
    })
}

fn run(first: u64, schedules: usize, model: fn()) -> u64 {
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    config.silence_warnings = true;
    let drawn = Drawn { next: first, left: schedules, way: Way::Any, random: Random(0), trace: 0 };
    Runner::new(drawn, config).run(model) as u64
}

/// A stream of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// How the next thread is chosen.
enum Way {
    Any,
    /// One goes on for so many steps on average.
    Runs(usize),
    Ranks(Ranks),
}

#[derive(Default)]
struct Ranks {
    of: HashMap<usize, u64>,
    /// The steps at which the running thread gets the lowest rank.
    changes: Vec<usize>,
    lowest: u64,
    step: usize,
}

impl Ranks {
    /// The steps are spread over a length that is drawn too: scenes are short and long.
    fn draw(random: &mut Random) -> Self {
        let length = 1 << (4 + random.below(9));
        let changes = (0..=random.below(4)).map(|_| 1 + random.below(length)).collect();
        Self { changes, lowest: 1 << 32, ..Self::default() }
    }

    fn lower(&mut self, thread: usize) {
        self.lowest -= 1;
        self.of.insert(thread, self.lowest);
    }

    fn choose(
        &mut self,
        able: &[&Task],
        running: Option<usize>,
        yields: bool,
        random: &mut Random,
    ) -> TaskId {
        for task in able {
            let drawn = || (1 << 33) + (random.next() >> 32);
            self.of.entry(task.id().into()).or_insert_with(drawn);
        }
        if able.len() > 1 {
            self.step += 1;
            if let Some(running) = running.filter(|_| yields || self.changes.contains(&self.step)) {
                self.lower(running);
            }
        }
        let rank = |task: &&&Task| self.of[&task.id().into()];
        able.iter().max_by_key(rank).expect("one can go on").id()
    }
}

struct Drawn {
    next: u64,
    left: usize,
    way: Way,
    random: Random,
    trace: u64,
}

impl Scheduler for Drawn {
    fn new_execution(&mut self) -> Option<Schedule> {
        TRACE.store(self.trace, Ordering::Relaxed);
        self.left = self.left.checked_sub(1)?;
        let seed = self.next;
        self.next = self.next.wrapping_add(1);
        SEED.store(seed, Ordering::Relaxed);
        self.trace = 0;
        self.random = Random(seed);
        self.way = match self.random.below(3) {
            0 => Way::Any,
            1 => Way::Runs(2 << self.random.below(5)),
            _ => Way::Ranks(Ranks::draw(&mut self.random)),
        };
        Some(Schedule::new(seed))
    }

    fn next_task(
        &mut self,
        able: &[&Task],
        running: Option<TaskId>,
        yields: bool,
    ) -> Option<TaskId> {
        let random = &mut self.random;
        let any = |random: &mut Random| able[random.below(able.len())].id();
        let chosen = match &mut self.way {
            Way::Any => any(random),
            Way::Runs(length) => {
                let on = running.filter(|id| able.iter().any(|task| task.id() == *id));
                match on {
                    Some(on) if !yields && random.below(*length) > 0 => on,
                    _ => any(random),
                }
            }
            Way::Ranks(ranks) => ranks.choose(able, running.map(usize::from), yields, random),
        };
        self.trace = (self.trace ^ usize::from(chosen) as u64).wrapping_mul(0x0100_0000_01b3) + 1;
        Some(chosen)
    }

    fn next_u64(&mut self) -> u64 {
        self.random.next()
    }
}
