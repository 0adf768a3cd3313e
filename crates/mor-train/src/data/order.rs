//! Which sequences go into which batch: grouped by length, so that little is spent on padding, and
//! shuffled as a function of seed and epoch alone, in memory that does not grow with the data.

use crate::data::{Dataset, Row};
use crate::recipe::BatchSize;
use mor_math::SplitMix64;

/// Batches' worth of sequences that are sorted by length together. Larger pools pad less, smaller
/// ones mix better; at 64 about two positions in a hundred are padding.
const POOL_BATCHES: usize = 64;
/// Least tokens of a pool of running text: its windows are all of one length, so only mixing counts.
const POOL_TEXT: usize = 1 << 20;

/// Documents that are looked up, all over the file, before its memory is let go.
const RELEASED: usize = 512;

/// The stream of random numbers that the data order is drawn from.
const STREAM: u64 = 0x6F72_6465_7200;

/// The order of an epoch: documents are shuffled by a permutation that is computed, not stored, and cut into pools;
/// a pool's sequences are grouped by length into batches, and its batches shuffled.
#[derive(Clone, Debug)]
pub struct Order {
    documents: usize,
    /// Documents of a pool.
    pool: usize,
    size: BatchSize,
    seed: u64,
}

impl Order {
    /// The order in which a run with this seed reads `data`.
    pub fn new(data: &Dataset, size: BatchSize, seed: u64) -> Self {
        let documents = data.documents();
        let mean = (data.tokens() as usize / documents.max(1)).max(1);
        let tokens = match size {
            BatchSize::Tokens(tokens) => tokens,
            BatchSize::Rows(rows) => rows.saturating_mul(mean.min(data.context())),
        };
        let mut wanted = POOL_BATCHES.saturating_mul(tokens);
        if documents > 0 && data.is_text(0) {
            wanted = wanted.max(POOL_TEXT);
        }
        Self {
            documents,
            pool: (wanted / mean).clamp(1, documents.max(1)),
            size,
            seed,
        }
    }

    /// Pools of an epoch, at least one.
    pub fn pools(&self) -> usize {
        self.documents.div_ceil(self.pool).max(1)
    }

    /// The finished share of an epoch when `done` of the `batches` batches of pool number `pool` are done.
    pub fn share(&self, pool: usize, done: usize, batches: usize) -> f64 {
        let before = pool * self.pool;
        let inside = self.pool.min(self.documents.saturating_sub(before));
        let inside = inside as f64 * done as f64 / batches.max(1) as f64;
        (before as f64 + inside) / self.documents.max(1) as f64
    }

    /// The batches of a pool, each of its sequences in exactly one of them.
    pub fn batches(&self, data: &Dataset, epoch: u64, pool: usize) -> Vec<Vec<Row>> {
        let shuffle = Permutation::new(self.documents, self.seed ^ STREAM, epoch);
        let range = pool * self.pool..((pool + 1) * self.pool).min(self.documents);
        let mut rows: Vec<Row> = Vec::new();
        for (count, at) in range.enumerate() {
            rows.extend(data.rows_of(shuffle.at(at)));
            if count % RELEASED == RELEASED - 1 {
                data.release();
            }
        }
        let mut rng =
            SplitMix64::of_stream(self.seed ^ STREAM ^ epoch.rotate_left(32), pool as u64 + 1);
        rng.shuffle(&mut rows);
        rows.sort_by_key(|row| row.inputs());
        let mut batches = fill(&rows, self.size);
        rng.shuffle(&mut batches);
        batches
    }
}

/// Documents that are sorted by length together when measuring.
const MEASURED: usize = 8192;

/// Batches for measuring, in order and without shuffling.
pub fn measured_batches(data: &Dataset, tokens: usize) -> impl Iterator<Item = Vec<Row>> + '_ {
    let pools = (0..data.documents()).step_by(MEASURED);
    pools.flat_map(move |start| {
        let end = (start + MEASURED).min(data.documents());
        let mut rows: Vec<Row> = (start..end).flat_map(|at| data.rows_of(at)).collect();
        // The longest first, so that memory peaks at once.
        rows.sort_by_key(|row| std::cmp::Reverse(row.inputs()));
        fill(&rows, BatchSize::Tokens(tokens))
    })
}

/// Batches of documents drawn by `seed`, each at most once, until they have `wanted` inputs or none is left. `tokens` is the
/// size of a batch.
pub fn sampled_batches(data: &Dataset, wanted: usize, seed: u64, tokens: usize) -> Vec<Vec<Row>> {
    let mut documents: Vec<usize> = (0..data.documents()).collect();
    let mut draw = SplitMix64::new(seed);
    let (mut rows, mut inputs): (Vec<Row>, usize) = (Vec::new(), 0);
    while inputs < wanted && !documents.is_empty() {
        let document = documents.swap_remove(draw.below(documents.len()));
        let some = data.rows_of(document);
        rows.extend(some.inspect(|row| inputs += row.inputs()));
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.inputs()));
    fill(&rows, BatchSize::Tokens(tokens))
}

/// Cuts sequences into batches. One that exceeds the size by itself gets a batch of its own.
fn fill(rows: &[Row], size: BatchSize) -> Vec<Vec<Row>> {
    let mut batches = Vec::new();
    let mut batch: Vec<Row> = Vec::new();
    let mut longest = 0;
    for &row in rows {
        let longest_with = longest.max(row.inputs());
        let full = match size {
            BatchSize::Rows(rows) => batch.len() >= rows,
            BatchSize::Tokens(tokens) => (batch.len() + 1) * longest_with > tokens,
        };
        if full && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            longest = 0;
        }
        longest = longest.max(row.inputs());
        batch.push(row);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// A pseudo-random permutation of `0..len` in constant memory: a Feistel network on the next even power of two,
/// walked along its cycle until it falls into the range (Black and Rogaway 2002, "Ciphers with arbitrary finite
/// domains").
struct Permutation {
    len: u64,
    /// Bits of each half.
    half: u32,
    keys: [u64; 4],
}

impl Permutation {
    fn new(len: usize, seed: u64, stream: u64) -> Self {
        let len = len as u64;
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        let mut rng = SplitMix64::of_stream(seed, stream);
        Self {
            len,
            half: bits.div_ceil(2).max(1),
            keys: std::array::from_fn(|_| rng.next_u64()),
        }
    }

    /// The element at a place below `len`.
    fn at(&self, place: usize) -> usize {
        let mut value = place as u64;
        loop {
            value = self.round_trip(value);
            if value < self.len {
                return value as usize;
            }
        }
    }

    fn round_trip(&self, value: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let (mut left, mut right) = (value >> self.half, value & mask);
        for key in self.keys {
            let mixed = SplitMix64::of_stream(key, right).next_u64() & mask;
            (left, right) = (right, left ^ mixed);
        }
        left << self.half | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Dataset {
        let mut rng = SplitMix64::of_stream(5, 5);
        let sequences: Vec<Vec<u32>> = (0..3000)
            .map(|_| vec![1; 20 + (rng.uniform() * 100.0) as usize])
            .collect();
        Dataset::from_sequences(&sequences, 200)
    }

    fn epoch(data: &Dataset, size: BatchSize, seed: u64, epoch: u64) -> Vec<Vec<Row>> {
        let order = Order::new(data, size, seed);
        (0..order.pools())
            .flat_map(|pool| order.batches(data, epoch, pool))
            .collect()
    }

    #[test]
    fn covers_everything_once_within_the_budget_with_little_padding() {
        let data = data();
        let batches = epoch(&data, BatchSize::Tokens(1024), 1, 0);
        let mut documents: Vec<usize> = batches.iter().flatten().map(|row| row.document).collect();
        documents.sort_unstable();
        assert_eq!(documents, (0..data.documents()).collect::<Vec<_>>());
        let (mut padded, mut inputs) = (0, 0);
        for batch in &batches {
            let longest = batch.iter().map(|row| row.inputs()).max().unwrap_or(0);
            assert!(batch.len() * longest <= 1024);
            padded += batch.len() * longest;
            inputs += batch.iter().map(|row| row.inputs()).sum::<usize>();
        }
        let padding = 1.0 - inputs as f64 / padded as f64;
        assert!(padding < 0.05, "{padding}");
    }

    #[test]
    fn a_batch_of_rows_has_that_many() {
        let data = data();
        let batches = epoch(&data, BatchSize::Rows(16), 1, 0);
        assert!(batches.iter().filter(|batch| batch.len() == 16).count() >= 180);
        assert!(batches.iter().all(|batch| batch.len() <= 16));
    }

    #[test]
    fn depends_on_seed_and_epoch_alone() {
        let data = data();
        let order = |seed, at| epoch(&data, BatchSize::Tokens(1024), seed, at);
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }

    #[test]
    fn a_share_grows_from_nothing_to_all() {
        let data = data();
        let order = Order::new(&data, BatchSize::Tokens(1024), 1);
        assert!(order.pools() > 2);
        assert_eq!(order.share(0, 0, 7), 0.0);
        assert!(order.share(0, 7, 7) == order.share(1, 0, 9));
        assert_eq!(order.share(order.pools() - 1, 5, 5), 1.0);
    }

    #[test]
    fn a_sequence_over_the_budget_gets_its_own_batch() {
        let data = Dataset::from_sequences(&[vec![1; 3], vec![1; 3], vec![1; 9]], 16);
        let batches: Vec<usize> = measured_batches(&data, 4)
            .map(|batch| batch.len())
            .collect();
        assert_eq!(batches, [1, 2]);
    }

    #[test]
    fn permutes_ranges_of_any_length() {
        for len in [1, 2, 3, 5, 64, 65, 1000] {
            let permutation = Permutation::new(len, 3, 4);
            let mut seen: Vec<usize> = (0..len).map(|at| permutation.at(at)).collect();
            if len >= 64 {
                assert_ne!(seen, (0..len).collect::<Vec<_>>());
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..len).collect::<Vec<_>>());
        }
    }
}
