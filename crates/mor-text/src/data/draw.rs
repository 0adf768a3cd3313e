//! Choices that depend on a row and a seed alone: adding rows to a file does not change those of the others.

use sha2::{Digest, Sha256};

use crate::{Conversation, Role};

/// A number in 0..1 for a whole conversation.
fn draw(purpose: &str, seed: u64, texts: impl Iterator<Item = impl AsRef<str>>) -> f64 {
    let mut hash = Sha256::new_with_prefix(purpose);
    hash.update(seed.to_le_bytes());
    for text in texts {
        hash.update(text.as_ref());
        // A byte that no UTF-8 text holds keeps texts apart.
        hash.update([0xFF]);
    }
    let bytes: [u8; 32] = hash.finalize().into();
    let number = bytes.first_chunk().copied().map_or(0, u64::from_le_bytes);
    (number >> 11) as f64 / (1u64 << 53) as f64
}

/// How often a row of a file of this weight is taken: the whole part of the weight, and once more for a share
/// of the rows that is its fraction.
pub fn times_taken(row: &Conversation, weight: f64, seed: u64) -> u64 {
    let contents = row.messages.iter().map(|message| &message.content);
    weight as u64 + u64::from(draw("weight", seed, contents) < weight.fract())
}

/// Whether a row belongs to the `share` of conversations held out for validation. Its first user message
/// decides, without regard to case and white space, or its first message if there is none: conversations that
/// begin alike stay together.
pub fn is_held_out(row: &Conversation, share: f64, seed: u64) -> bool {
    let question = row.messages.iter().find(|it| it.role == Role::User);
    let question = question.or(row.messages.first());
    let text = question.map_or("", |message| &message.content);
    let words = text.split_whitespace().map(str::to_lowercase);
    draw("valid", seed, words) < share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    fn row(question: &str, answer: &str) -> Conversation {
        Conversation {
            messages: vec![
                Message::new(Role::User, question),
                Message::new(Role::Assistant, answer),
            ],
            ..Conversation::default()
        }
    }

    #[test]
    fn weights_take_rows_as_often_as_they_say() {
        let taken = |weight: f64, seed: u64| -> Vec<u64> {
            let rows = (0..2000).map(|n| row(&n.to_string(), "a"));
            rows.map(|row| times_taken(&row, weight, seed)).collect()
        };
        assert_eq!(taken(1.0, 0), [1; 2000]);
        assert_eq!(taken(3.0, 0), [3; 2000]);
        for weight in [0.25, 1.5] {
            let sum: u64 = taken(weight, 0).iter().sum();
            assert!((sum as f64 - 2000.0 * weight).abs() < 100.0, "{sum}");
            assert_eq!(taken(weight, 0), taken(weight, 0));
            assert_ne!(taken(weight, 0), taken(weight, 1));
        }
    }

    #[test]
    fn conversations_that_begin_alike_stay_together() {
        let held = |question: &str, answer: &str| is_held_out(&row(question, answer), 0.5, 1);
        let count = (0..2000)
            .filter(|n| held(&format!("Question {n}"), "a"))
            .count();
        assert!((900..1100).contains(&count), "{count}");
        for n in 0..50 {
            let question = format!("Question {n}");
            assert_eq!(held(&question, "a"), held(&format!(" question\n{n}"), "b"));
        }
        assert!(!is_held_out(&row("q", "a"), 0.0, 1) && is_held_out(&row("q", "a"), 1.0, 1));
    }
}
