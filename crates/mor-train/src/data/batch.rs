//! A padded batch of sequences.

use crate::data::{Dataset, Row};
use crate::recipe::Learn;

/// Target of a padded position, or of a token that is not to be learned: it counts for nothing.
pub const IGNORE: i64 = -100;

/// Which targets of a batch count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Which tokens.
    pub learn: Learn,
    /// Whether a row that is padded also learns one pad after its end.
    pub pad: bool,
    /// Whether, of conversations with messages of weight 0, only what an assistant is to learn counts, whatever `learn`
    /// says.
    pub weights: bool,
}

impl Targets {
    /// All that a text holds: what is measured.
    pub const ALL: Self = Self {
        learn: Learn::All,
        pad: false,
        weights: false,
    };
}

/// Inputs and targets, both `[rows, width]`, padded on the right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Sequences.
    pub rows: usize,
    /// Inputs of the longest one.
    pub width: usize,
    /// Input ids.
    pub inputs: Vec<i64>,
    /// The id that follows each input, or [`IGNORE`].
    pub targets: Vec<i64>,
    /// Targets that count.
    pub counted: usize,
    /// UTF-8 bytes that the sequences stand for.
    pub bytes: usize,
}

impl Batch {
    /// Collects the given sequences.
    pub fn new(data: &Dataset, rows: &[Row], pad: u32, which: Targets) -> Self {
        let width = rows.iter().map(|row| row.inputs()).max().unwrap_or(0);
        let pad = i64::from(pad);
        let mut inputs = vec![pad; rows.len() * width];
        let mut targets = vec![IGNORE; rows.len() * width];
        let (mut ids, mut learned) = (Vec::new(), Vec::new());
        for (at, &row) in rows.iter().enumerate() {
            ids.clear();
            data.read(row, &mut ids);
            learned.clear();
            let is_weighted = which.weights && data.is_weighted(row.document);
            match which.learn {
                Learn::All if !is_weighted => learned.resize(ids.len(), true),
                Learn::All | Learn::Assistant => data.read_learned(row, &mut learned),
            }
            let (inputs, targets) = (&mut inputs[at * width..], &mut targets[at * width..]);
            for (slot, pair) in ids.windows(2).enumerate() {
                inputs[slot] = i64::from(pair[0]);
                if learned[slot + 1] {
                    targets[slot] = i64::from(pair[1]);
                }
            }
            if which.pad && row.inputs() < width {
                // The last id has so far been a target only.
                inputs[row.inputs()] = ids.last().map_or(pad, |id| i64::from(*id));
                targets[row.inputs()] = pad;
            }
        }
        Self {
            rows: rows.len(),
            width,
            counted: targets.iter().filter(|target| **target != IGNORE).count(),
            bytes: rows.iter().map(|&row| data.bytes(row)).sum(),
            inputs,
            targets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(data: &Dataset) -> Vec<Row> {
        (0..data.documents())
            .flat_map(|document| data.rows_of(document))
            .collect()
    }

    #[test]
    fn pads_on_the_right_and_ignores_pads() {
        let data = Dataset::from_sequences(&[vec![2, 9], vec![2, 7, 8, 3]], 16);
        let batch = Batch::new(&data, &rows(&data), 0, Targets::ALL);
        assert_eq!((batch.rows, batch.width, batch.counted), (2, 3, 4));
        assert_eq!(batch.inputs, [2, 0, 0, 2, 7, 8]);
        assert_eq!(batch.targets, [9, IGNORE, IGNORE, 7, 8, 3]);
        assert_eq!(batch.bytes, 4);
    }

    #[test]
    fn learns_one_pad_a_padded_row_where_asked() {
        let data = Dataset::from_sequences(&[vec![2, 9], vec![2, 7, 8, 3]], 16);
        let targets = Targets {
            pad: true,
            ..Targets::ALL
        };
        let batch = Batch::new(&data, &rows(&data), 0, targets);
        assert_eq!(batch.inputs, [2, 9, 0, 2, 7, 8]);
        assert_eq!(batch.targets, [9, 0, IGNORE, 7, 8, 3]);
        assert_eq!(batch.counted, 5);
    }

    #[test]
    fn learns_what_assistants_write_where_asked() {
        let learned = vec![false, false, true, true, false];
        let data = Dataset::from_documents(&[(vec![2, 7, 8, 3, 5], learned)], 16);
        let targets = Targets {
            learn: Learn::Assistant,
            ..Targets::ALL
        };
        let batch = Batch::new(&data, &rows(&data), 0, targets);
        assert_eq!(batch.inputs, [2, 7, 8, 3]);
        assert_eq!(batch.targets, [IGNORE, 8, 3, IGNORE]);
        assert_eq!(batch.counted, 2);
    }

    #[test]
    fn messages_of_weight_0_are_not_learned_where_all_is() {
        let learned = vec![false, false, true, false];
        let documents = [(vec![2, 7, 8, 3], learned)];
        let targets = Targets {
            weights: true,
            ..Targets::ALL
        };
        for (is_weighted, expected) in [(false, [7, 8, 3]), (true, [IGNORE, 8, IGNORE])] {
            let data = Dataset::from_weighted(&documents, is_weighted, 16);
            let batch = Batch::new(&data, &rows(&data), 0, targets);
            assert_eq!(batch.targets, expected);
            let measured = Batch::new(&data, &rows(&data), 0, Targets::ALL);
            assert_eq!(measured.targets, [7, 8, 3]);
        }
    }

    #[test]
    fn cuts_what_exceeds_the_context() {
        let data = Dataset::from_sequences(&[(1..10).collect()], 4);
        let batch = Batch::new(&data, &rows(&data), 0, Targets::ALL);
        assert_eq!(batch.inputs, [1, 2, 3, 4]);
        assert_eq!(batch.targets, [2, 3, 4, 5]);
    }
}
