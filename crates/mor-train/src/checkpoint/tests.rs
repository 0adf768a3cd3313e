//! Damage to a checkpoint is always noticed.

use std::fs;

use proptest::prelude::*;

use super::*;

/// A folder of small files of the kinds that a checkpoint holds.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let files = [
        (STATE_FILE, "{\"format\": 2, \"step\": 17}"),
        (RECIPE_FILE, "[train]\nlr = 0.1\n"),
        (WEIGHTS_FILE, "weights of some length, in bytes"),
        (OPTIMIZER_FILE, "moments"),
    ];
    for (name, text) in files {
        fs::write(dir.path().join(name), text).expect("writable");
    }
    checksums::write(dir.path()).expect("writable");
    assert_eq!(checksums::problem(dir.path()), None);
    dir
}

const FILES: [&str; 5] = [
    STATE_FILE,
    RECIPE_FILE,
    WEIGHTS_FILE,
    OPTIMIZER_FILE,
    CHECKSUMS_FILE,
];

proptest! {
    #[test]
    fn a_flipped_bit_is_noticed(file in 0..FILES.len(), at: prop::sample::Index, bit in 0..8_u8) {
        let dir = folder();
        let path = dir.path().join(FILES[file]);
        let mut bytes = fs::read(&path).expect("readable");
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        fs::write(&path, bytes).expect("writable");
        prop_assert!(checksums::problem(dir.path()).is_some());
        prop_assert!(Checkpoint::open(dir.path()).is_err());
    }

    #[test]
    fn a_shorter_file_is_noticed(file in 0..FILES.len(), at: prop::sample::Index) {
        let dir = folder();
        let path = dir.path().join(FILES[file]);
        let mut bytes = fs::read(&path).expect("readable");
        bytes.truncate(at.index(bytes.len()));
        fs::write(&path, bytes).expect("writable");
        prop_assert!(checksums::problem(dir.path()).is_some());
    }

    #[test]
    fn a_missing_or_further_file_is_noticed(file in 0..FILES.len(), name in "[a-z]{1,8}") {
        let dir = folder();
        fs::write(dir.path().join(&name), "more").expect("writable");
        prop_assert!(checksums::problem(dir.path()).is_some());
        fs::remove_file(dir.path().join(&name)).expect("removable");
        prop_assert_eq!(checksums::problem(dir.path()), None);
        fs::remove_file(dir.path().join(FILES[file])).expect("removable");
        let problem = checksums::problem(dir.path()).unwrap_or_default();
        prop_assert!(problem.contains(FILES[file]), "{}", problem);
    }
}
