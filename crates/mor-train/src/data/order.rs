//! Which sequences go into which batch: grouped by length, so that little is spent on padding, and
//! shuffled as a function of seed and epoch alone.

use crate::data::Dataset;
use crate::rng::Rng;

/// Batches' worth of sequences that are sorted by length together. Larger pools pad less, smaller
/// ones mix better; at 64 about two positions in a hundred are padding.
const POOL_BATCHES: usize = 64;

/// The stream of random numbers that the data order is drawn from.
const STREAM: u64 = 0x6F72_6465_7200;

/// The batches of one epoch, every sequence in exactly one of them. A batch's rows times its
/// longest sequence's inputs stay within `batch_tokens`, unless a single sequence exceeds it.
pub fn epoch_batches(
    data: &Dataset,
    batch_tokens: usize,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<usize>> {
    let mut rng = Rng::new(seed ^ STREAM, epoch);
    let mut order: Vec<usize> = (0..data.len()).collect();
    rng.shuffle(&mut order);

    let mean = (data.targets() as usize / data.len().max(1)).max(1);
    let pool = (POOL_BATCHES * batch_tokens / mean).max(1);
    for (index, rows) in order.chunks_mut(pool).enumerate() {
        // Up, then down: lengths meet at the pools' borders and no batch is left half full.
        if index % 2 == 0 {
            rows.sort_by_key(|&row| data.inputs(row));
        } else {
            rows.sort_by_key(|&row| std::cmp::Reverse(data.inputs(row)));
        }
    }
    let mut batches = fill(data, &order, batch_tokens);
    rng.shuffle(&mut batches);
    batches
}

/// Batches for measuring: all sequences by falling length, so that memory peaks at once.
pub fn length_batches(data: &Dataset, batch_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..data.len()).collect();
    order.sort_by_key(|&row| std::cmp::Reverse(data.inputs(row)));
    fill(data, &order, batch_tokens)
}

fn fill(data: &Dataset, order: &[usize], batch_tokens: usize) -> Vec<Vec<usize>> {
    let mut batches = Vec::new();
    let mut batch: Vec<usize> = Vec::new();
    let mut longest = 0;
    for &row in order {
        let longest_with = longest.max(data.inputs(row));
        if !batch.is_empty() && (batch.len() + 1) * longest_with > batch_tokens {
            batches.push(std::mem::take(&mut batch));
            longest = 0;
        }
        longest = longest.max(data.inputs(row));
        batch.push(row);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Dataset {
        let mut rng = Rng::new(5, 5);
        let sequences: Vec<Vec<u32>> = (0..3000)
            .map(|_| vec![1; 20 + (rng.uniform() * 100.0) as usize])
            .collect();
        Dataset::from_sequences(&sequences)
    }

    #[test]
    fn covers_everything_once_within_the_budget_with_little_padding() {
        let data = data();
        let batches = epoch_batches(&data, 1024, 1, 0);
        let mut rows: Vec<usize> = batches.iter().flatten().copied().collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..data.len()).collect::<Vec<_>>());
        let padded: usize = batches
            .iter()
            .map(|batch| {
                let longest = batch.iter().map(|&row| data.inputs(row)).max().unwrap_or(0);
                assert!(batch.len() * longest <= 1024);
                batch.len() * longest
            })
            .sum();
        let padding = 1.0 - data.targets() as f64 / padded as f64;
        assert!(padding < 0.05, "{padding}");
    }

    #[test]
    fn depends_on_seed_and_epoch_alone() {
        let data = data();
        let order = |seed, epoch| epoch_batches(&data, 1024, seed, epoch);
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }

    #[test]
    fn a_sequence_over_the_budget_gets_its_own_batch() {
        let data = Dataset::from_sequences(&[vec![1; 9], vec![1; 3], vec![1; 3]]);
        assert_eq!(length_batches(&data, 4), vec![vec![0], vec![1, 2]]);
    }
}
