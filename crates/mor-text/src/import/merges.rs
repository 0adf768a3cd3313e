//! Lists of merges, one a line.

use std::collections::HashMap;

use super::ImportReport;

/// A merge: two symbols that become one.
pub(super) type Merge = (String, String);

/// The merges that the vocabulary can use, in order, and the lines of those it cannot. Blank lines and GPT-2's heading
/// are no merges.
pub(super) fn read(text: &str, vocab: &HashMap<String, u32>) -> (Vec<Merge>, ImportReport) {
    let mut merges = Vec::new();
    let mut report = ImportReport::default();
    for (number, line) in (1..).zip(text.split('\n')) {
        if is_no_merge(number, line) {
            continue;
        }
        let mut symbols = line.split_whitespace();
        let (Some(left), Some(right), None) = (symbols.next(), symbols.next(), symbols.next())
        else {
            report.malformed_merges.push(number);
            continue;
        };
        let known = |symbol: &str| vocab.contains_key(symbol);
        if known(left) && known(right) && known(&format!("{left}{right}")) {
            merges.push((left.to_owned(), right.to_owned()));
        } else {
            report.unknown_merges.push(number);
        }
    }
    (merges, report)
}

/// Whether a list has nothing in it but blank lines and a heading.
pub(super) fn is_empty(text: &str) -> bool {
    (1..)
        .zip(text.split('\n'))
        .all(|(number, line)| is_no_merge(number, line))
}

/// Whether a line, counted from 1, is blank or GPT-2's heading.
fn is_no_merge(number: usize, line: &str) -> bool {
    line.trim().is_empty() || (number == 1 && line.starts_with("#version"))
}
