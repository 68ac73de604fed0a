//! Threads and descriptors of this process, before and after.
//!
//! The counts are of the whole process, so a test that compares them must be alone in its process:
//! a test binary of its own with one test at a time. Threads are counted by name (as the kernel has
//! it: the first 15 bytes), descriptors by what they stand for, so one that was replaced by another
//! of its sort is no leak. Where there is no `/proc`, a snapshot is empty and nothing is compared.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::wait::poll;

/// What was there at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Thread id to name.
    threads: BTreeMap<u32, String>,
    /// Descriptor to what it stands for, such as `socket:[123]`.
    descriptors: BTreeMap<u32, String>,
}

impl Snapshot {
    pub(crate) fn take() -> Self {
        Self { threads: threads(), descriptors: descriptors() }
    }

    pub(crate) fn thread_count(&self) -> usize {
        self.threads.len()
    }

    pub(crate) fn descriptor_count(&self) -> usize {
        self.descriptors.len()
    }

    /// The names of all threads, sorted.
    pub(crate) fn thread_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.threads.values().cloned().collect();
        names.sort_unstable();
        names
    }

    /// How many threads have a name that begins so (at most 15 bytes of a name are known).
    pub(crate) fn threads_named(&self, prefix: &str) -> usize {
        self.threads.values().filter(|name| name.starts_with(prefix)).count()
    }

    /// What is here and was not in `before`, one line each.
    pub(crate) fn beyond(&self, before: &Self) -> Vec<String> {
        let mut left = surplus("thread", &self.threads, &before.threads, |name| name.to_owned());
        left.extend(surplus("descriptor", &self.descriptors, &before.descriptors, sort_of));
        left
    }
}

/// Waits until nothing is there beyond `before`; panics with a list of what is left.
pub(crate) fn wait_back_to(before: &Snapshot, limit: Duration) {
    let mut left = Vec::new();
    let back = poll(limit, || {
        left = Snapshot::take().beyond(before);
        left.is_empty().then_some(())
    });
    assert!(back.is_some(), "left over after {limit:?}:\n  {}", left.join("\n  "));
}

fn surplus(
    what: &str,
    now: &BTreeMap<u32, String>,
    before: &BTreeMap<u32, String>,
    sort: impl Fn(&str) -> String,
) -> Vec<String> {
    let mut balance: BTreeMap<String, i64> = BTreeMap::new();
    for name in now.values() {
        *balance.entry(sort(name)).or_default() += 1;
    }
    for name in before.values() {
        *balance.entry(sort(name)).or_default() -= 1;
    }
    let mut lines = Vec::new();
    for (sort_name, count) in balance.iter().filter(|(_, count)| **count > 0) {
        let fresh = now.iter().filter(|(id, name)| {
            sort(name) == *sort_name && before.get(id).is_none_or(|known| known != *name)
        });
        let listed: Vec<String> = fresh.map(|(id, name)| format!("{id} {name}")).collect();
        lines.push(format!("{count} more {what}: {sort_name} ({})", listed.join(", ")));
    }
    lines
}

/// `socket:[123]` is a socket like any other; a path stays what it is.
fn sort_of(target: &str) -> String {
    match target.split_once(":[") {
        Some((sort, _)) if !target.starts_with('/') => {
            if sort == "anon_inode" {
                target.to_owned()
            } else {
                sort.to_owned()
            }
        }
        _ => target.to_owned(),
    }
}

fn threads() -> BTreeMap<u32, String> {
    numbered("/proc/self/task", |path| {
        let name = fs::read_to_string(path.join("comm")).ok()?;
        Some(name.trim_end().to_owned())
    })
}

fn descriptors() -> BTreeMap<u32, String> {
    let own = format!("/proc/{}/fd", std::process::id());
    let mut found = numbered("/proc/self/fd", |path| {
        Some(fs::read_link(path).ok()?.to_string_lossy().into_owned())
    });
    // The one with which the folder itself is read.
    found.retain(|_, target| *target != own);
    found
}

fn numbered(
    folder: &str,
    name: impl Fn(&std::path::Path) -> Option<String>,
) -> BTreeMap<u32, String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    // An entry may vanish between the listing and the look at it.
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, name(&entry.path())?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::wait::Gate;
    use super::*;

    fn with(threads: &[(u32, &str)], descriptors: &[(u32, &str)]) -> Snapshot {
        let owned = |rows: &[(u32, &str)]| {
            rows.iter().map(|(id, name)| (*id, (*name).to_owned())).collect()
        };
        Snapshot { threads: owned(threads), descriptors: owned(descriptors) }
    }

    #[test]
    fn what_is_left_is_listed_and_what_was_replaced_is_not() {
        let before = with(&[(1, "main")], &[(0, "/dev/null"), (3, "socket:[5]")]);
        let replaced = with(&[(2, "main")], &[(0, "/dev/null"), (7, "socket:[9]")]);
        assert_eq!(replaced.beyond(&before), Vec::<String>::new());

        let leaked = with(
            &[(1, "main"), (4, "nats-reader")],
            &[(0, "/dev/null"), (3, "socket:[5]"), (8, "socket:[6]")],
        );
        assert_eq!(
            leaked.beyond(&before),
            [
                "1 more thread: nats-reader (4 nats-reader)",
                "1 more descriptor: socket (8 socket:[6])"
            ]
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_and_a_descriptor_of_this_process_are_seen() {
        let gate = Gate::new();
        let thread = {
            let gate = gate.clone();
            thread::Builder::new()
                .name("leaks-seen".to_owned())
                .spawn(move || gate.wait(Duration::from_secs(30)))
                .unwrap()
        };
        let named = poll(Duration::from_secs(10), || {
            (Snapshot::take().threads_named("leaks-seen") == 1).then_some(())
        });
        assert!(named.is_some());
        let file = fs::File::open("Cargo.toml").unwrap();
        let open = Snapshot::take();
        assert!(open.descriptors.values().any(|target| target.ends_with("/Cargo.toml")));
        drop(file);
        gate.open();
        assert!(thread.join().unwrap());
        let gone = poll(Duration::from_secs(10), || {
            (Snapshot::take().threads_named("leaks-seen") == 0).then_some(())
        });
        assert!(gone.is_some());
    }
}
