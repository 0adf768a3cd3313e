//! A padded batch of sequences.

use crate::data::Dataset;

/// Target of a padded position: it counts for nothing.
pub const IGNORE: i64 = -100;

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
}

impl Batch {
    /// Collects the given sequences.
    pub fn new(data: &Dataset, rows: &[usize], pad: u32) -> Self {
        let width = rows.iter().map(|&row| data.inputs(row)).max().unwrap_or(0);
        let mut inputs = vec![i64::from(pad); rows.len() * width];
        let mut targets = vec![IGNORE; rows.len() * width];
        let mut counted = 0;
        for (at, &row) in rows.iter().enumerate() {
            let ids = data.ids(row);
            counted += ids.len() - 1;
            let (inputs, targets) = (&mut inputs[at * width..], &mut targets[at * width..]);
            for (slot, pair) in ids.windows(2).enumerate() {
                inputs[slot] = i64::from(pair[0]);
                targets[slot] = i64::from(pair[1]);
            }
        }
        Self {
            rows: rows.len(),
            width,
            inputs,
            targets,
            counted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_on_the_right_and_ignores_pads() {
        let data = Dataset::from_sequences(&[vec![2, 7, 8, 3], vec![2, 9]]);
        let batch = Batch::new(&data, &[1, 0], 0);
        assert_eq!((batch.rows, batch.width, batch.counted), (2, 3, 4));
        assert_eq!(batch.inputs, [2, 0, 0, 2, 7, 8]);
        assert_eq!(batch.targets, [9, IGNORE, IGNORE, 7, 8, 3]);
    }
}
