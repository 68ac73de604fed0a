//! The page of promises and its proofs name each other.
//!
//! The last column of every row of `src/guide/promises.rs` is a list of proofs: numbers of the
//! promises program, tests (`it module::name`, `lib module::name`), or files. Each must be there,
//! and every number of the program must stand in a row.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every promise must have a proof; how many there are in each chapter.
const CHAPTERS: &[(char, &[u32])] = &[
    ('A', &[1, 2, 4]),
    ('B', &[1, 3]),
    ('E', &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ('F', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ('G', &[1, 2, 3, 4]),
    ('H', &[1, 2, 3, 4, 5]),
    // I1, I2 and I4 are proved by other programs: the models, and every debug build.
    ('I', &[3]),
    ('J', &[1, 2, 3]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The proofs of each row, and the row.
fn rows(page: &str) -> Vec<(Vec<String>, &str)> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("//! |"));
    let rows = lines.filter(|line| !line.starts_with(" ---") && !line.starts_with(" promise"));
    rows.map(|row| {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        (last.split(',').map(|proof| proof.trim().to_owned()).collect(), row)
    })
    .collect()
}

/// The numbers of the promises program, and that of the row which it adds by itself.
fn numbers(program: &str) -> BTreeSet<String> {
    let quoted = program.lines().filter_map(|line| line.trim().strip_prefix("number: \""));
    let mut numbers: BTreeSet<String> =
        quoted.filter_map(|rest| Some(rest.split('"').next()?.to_owned())).collect();
    assert!(program.contains("| H5 |"));
    numbers.insert("H5".to_owned());
    numbers
}

/// Whether the test of that path stands in the file of its module.
fn test_exists(folder: &str, path: &str) -> bool {
    let parts: Vec<&str> = path.split("::").filter(|part| *part != "tests").collect();
    let Some((name, modules)) = parts.split_last() else { return false };
    let base = root().join(folder).join(modules.join("/"));
    let files = [base.with_extension("rs"), base.join("mod.rs")];
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).any(|text| {
        text.contains(&format!("#[test]\n    fn {name}()"))
            || text.contains(&format!("#[test]\nfn {name}()"))
    })
}

#[test]
fn every_promise_names_its_proof_and_every_proof_exists() {
    let (page, numbers) = (read("src/guide/promises.rs"), numbers(&read("tests/promises/main.rs")));
    let mut named = BTreeSet::new();
    for (proofs, row) in rows(&page) {
        assert!(!proofs.is_empty(), "{row}");
        for proof in proofs {
            let quoted = proof.strip_prefix('`').and_then(|proof| proof.strip_suffix('`'));
            let exists = match quoted.map(|quoted| quoted.split_once(' ').unwrap_or((quoted, ""))) {
                None => numbers.contains(&proof),
                Some(("it", path)) => test_exists("tests/it", path),
                Some(("lib", path)) => test_exists("src", path),
                Some((file, _)) => root().join(file).is_file(),
            };
            assert!(exists, "there is no proof {proof}, which this row names:{row}");
            named.insert(proof);
        }
    }
    let silent: Vec<_> = numbers.difference(&named).collect();
    assert!(silent.is_empty(), "src/guide/promises.rs does not name {silent:?}");
    for (chapter, promises) in CHAPTERS {
        for promise in *promises {
            let number = format!("{chapter}{promise}");
            let parts = |known: &&String| {
                let rest = known.strip_prefix(number.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['a', 'b']))
            };
            // Older servers are a step of the long run of everything.
            let elsewhere = number == "J3" && page.contains("`tests/run --long`");
            assert!(elsewhere || numbers.iter().find(parts).is_some(), "{number} has no proof");
        }
    }
}
