//! Decoding without sampler, text or page, to be timed from outside.

use std::sync::Arc;

use mor_config::Depth;
use mor_engine::{DecodeOptions, Decoder, Model};

/// A decoder that has read a prompt.
pub(crate) struct Bench {
    decoder: Decoder,
    next: u32,
}

impl Bench {
    /// Reads a prompt of `tokens` made-up tokens.
    pub(crate) fn prefill(
        model: Arc<Model>,
        tokens: usize,
        depth: Depth,
    ) -> mor_engine::Result<Self> {
        let options = DecodeOptions {
            depth,
            ..DecodeOptions::default()
        };
        let vocab_size = model.config().vocab_size as u32;
        let mut decoder = Decoder::new(model, options)?;
        // Any ids will do, as long as none is the padding token, which would be hidden.
        let ids: Vec<u32> = (1..=tokens as u32)
            .map(|i| 1 + i * 7919 % (vocab_size - 1).max(1))
            .collect();
        decoder.prefill(&ids)?;
        let next = likeliest(decoder.logits());
        Ok(Self { decoder, next })
    }

    /// Writes `tokens` tokens, always the likeliest.
    pub(crate) fn decode(&mut self, tokens: usize) -> mor_engine::Result<()> {
        for _ in 0..tokens {
            self.decoder.push(self.next)?;
            self.next = likeliest(self.decoder.logits());
        }
        Ok(())
    }
}

/// The index of the largest value.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &value) in logits.iter().enumerate() {
        if value > best.1 {
            best = (id, value);
        }
    }
    best.0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeliest_is_the_first_maximum() {
        assert_eq!(likeliest(&[0.0, 2.0, -1.0, 2.0]), 1);
        assert_eq!(likeliest(&[f32::NAN, -3.0]), 1);
        assert_eq!(likeliest(&[]), 0);
    }
}
