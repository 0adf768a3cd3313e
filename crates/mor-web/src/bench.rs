//! Decoding without text or page, to be timed from outside, and devices compared with each other.

use mor_engine::{
    Context, EngineError, GenerateOptions, Generator, Overflow, Result, SamplingOptions,
};

/// A context that has read a prompt, and always takes the likeliest token.
pub(crate) struct Bench {
    context: Context,
    generator: Generator,
}

impl Bench {
    /// Reads a prompt of `tokens` made-up tokens.
    pub(crate) async fn prefill(mut context: Context, tokens: usize) -> Result<Self> {
        let vocab_size = context.config().vocab_size as u32;
        // Any ids will do, as long as none is the padding token, which would be hidden.
        let ids: Vec<u32> = (1..=tokens as u32)
            .map(|i| 1 + i * 7919 % (vocab_size - 1).max(1))
            .collect();
        let options = GenerateOptions {
            max_new_tokens: usize::MAX,
            overflow: Overflow::Stop,
            ..GenerateOptions::default()
        };
        let mut generator = Generator::start(&mut context, &ids, options).await?;
        // A GPU has only been told what to do: the first choice shows that it has done it.
        generator.next_token(&mut context).await?;
        Ok(Self { context, generator })
    }

    /// Writes `tokens` tokens.
    pub(crate) async fn decode(&mut self, tokens: usize) -> Result<()> {
        for _ in 0..tokens {
            let Some(_) = self.generator.next_token(&mut self.context).await? else {
                let limit = self.context.capacity();
                return Err(EngineError::ContextFull {
                    tokens: limit + 1,
                    limit,
                });
            };
        }
        Ok(())
    }
}

/// In how many of `tokens` steps `other` finds the token likeliest that `reference` does, where both are given the
/// tokens that `reference` chose; and the number of steps, which the context may cut short.
pub(crate) async fn agreement(
    reference: &mut Context,
    other: &mut Context,
    prompt: &[u32],
    tokens: usize,
) -> Result<(usize, usize)> {
    let mut samplers = [
        reference.sampler(SamplingOptions::default())?,
        other.sampler(SamplingOptions::default())?,
    ];
    reference.set_context(prompt).await?;
    other.set_context(prompt).await?;
    let tokens = tokens.min(reference.capacity().saturating_sub(prompt.len()));
    let mut equal = 0;
    for _ in 0..tokens {
        let id = reference.choose(&mut samplers[0]).await?.id;
        equal += usize::from(other.choose(&mut samplers[1]).await?.id == id);
        reference.push(id).await?;
        other.push(id).await?;
    }
    Ok((equal, tokens))
}
