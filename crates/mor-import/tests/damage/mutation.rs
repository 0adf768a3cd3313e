//! Damage to a file, and what loading it may cost.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::allocator::{Usage, watch};

/// Bytes that loading may ask for at once beyond twice the file: small tables, compiled patterns.
const ALLOWANCE: usize = 1 << 20;

/// Whether what loading a file of `len` bytes asked for is in proportion to it.
pub(crate) fn is_in_proportion(usage: Usage, len: usize) -> bool {
    usage.largest <= 2 * len + ALLOWANCE
}

/// Values at which arithmetic goes wrong.
const NUMBERS: [u64; 11] = [
    0,
    1,
    127,
    255,
    65_535,
    1 << 31,
    u32::MAX as u64,
    1 << 61,
    1 << 63,
    u64::MAX - 7,
    u64::MAX,
];

/// One change to a file.
#[derive(Debug, Clone)]
enum Mutation {
    FlipBit(Index, u8),
    Truncate(Index),
    /// Copies a part of the file to another place, over what stands there or between.
    Splice {
        from: Index,
        len: usize,
        to: Index,
        over: bool,
    },
    /// Replaces the next number in digits.
    Digits(Index, u64),
    /// Overwrites bytes by a little-endian number.
    Binary {
        at: Index,
        value: u64,
        width: usize,
    },
    Remove {
        at: Index,
        len: usize,
    },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let number = || prop_oneof![3 => prop::sample::select(NUMBERS.to_vec()), 1 => any::<u64>()];
    prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Mutation::FlipBit(at, bit)),
        1 => at().prop_map(Mutation::Truncate),
        2 => (at(), 1..200_usize, at(), any::<bool>())
            .prop_map(|(from, len, to, over)| Mutation::Splice { from, len, to, over }),
        3 => (at(), number()).prop_map(|(at, value)| Mutation::Digits(at, value)),
        3 => (at(), number(), prop::sample::select(vec![1, 2, 4, 8]))
            .prop_map(|(at, value, width)| Mutation::Binary { at, value, width }),
        1 => (at(), 1..100_usize).prop_map(|(at, len)| Mutation::Remove { at, len }),
    ]
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let size = bytes.len();
        match self {
            Self::FlipBit(at, bit) => bytes[at.index(size)] ^= 1 << bit,
            Self::Truncate(at) => bytes.truncate(at.index(size)),
            Self::Splice {
                from,
                len,
                to,
                over,
            } => {
                let from = from.index(size);
                let part = bytes[from..size.min(from + len)].to_vec();
                let to = to.index(size);
                let end = if *over { size.min(to + part.len()) } else { to };
                bytes.splice(to..end, part);
            }
            Self::Digits(at, value) => {
                let at = at.index(size);
                let is_digit = |at: &usize| bytes[*at].is_ascii_digit();
                if let Some(start) = (at..size).find(is_digit) {
                    let end = (start..size).find(|at| !is_digit(at)).unwrap_or(size);
                    bytes.splice(start..end, value.to_string().into_bytes());
                }
            }
            Self::Binary { at, value, width } => {
                let at = at.index(size);
                let count = (*width).min(size - at);
                bytes[at..at + count].copy_from_slice(&value.to_le_bytes()[..count]);
            }
            Self::Remove { at, len } => {
                let at = at.index(size);
                bytes.drain(at..size.min(at + len));
            }
        }
    }
}

/// Calls `load` with the seeds as they are and with `cases` damaged ones, and holds its allocations to the size of what
/// it is given. A panic fails the test, with the input reduced to a few mutations.
pub(crate) fn survive(cases: u32, seeds: &[Vec<u8>], load: impl Fn(Vec<u8>)) {
    let worst = Cell::new(Usage::default());
    let check = |bytes: Vec<u8>| {
        let len = bytes.len();
        let ((), usage) = watch(|| load(bytes));
        worst.set(worst.get().max(usage));
        (is_in_proportion(usage, len), len, usage)
    };
    for seed in seeds {
        assert!(check(seed.clone()).0);
    }
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    // The same inputs every time: a failure can be repeated.
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let input = (0..seeds.len(), prop::collection::vec(mutation(), 1..5));
    let outcome = runner.run(&input, |(seed, mutations)| {
        let mut bytes = seeds[seed].clone();
        mutations
            .iter()
            .for_each(|mutation| mutation.apply(&mut bytes));
        let (fits, len, usage) = check(bytes);
        prop_assert!(fits, "{len} bytes asked for {usage:?}");
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let (largest, peak) = (worst.get().largest, worst.get().peak);
    println!("{cases} cases, at most {largest} bytes at once and {peak} in all");
}
