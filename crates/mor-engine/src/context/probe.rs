//! A check that a device computes what the CPU does: a prompt, and what should come out of it.
//!
//! `mor export` writes `probe.json` beside the weights. Whatever is about to run the model on another device compares
//! that device's logits with the stored ones first: a driver that computes wrongly, which happens, is then noticed
//! before anybody reads its words. All kernels that an answer needs take part: those that read a prompt, those that
//! decode a token, and the one that chooses it.

use serde::{Deserialize, Serialize};

use super::Context;
use crate::{EngineError, Result, SamplingOptions};

/// File name of the probe inside a model folder.
pub const PROBE_FILE: &str = "probe.json";

/// Logits that a probe keeps.
const KEPT: usize = 16;

/// How far a logit may be from the stored one, as a share of the distance between the highest and the lowest stored one.
///
/// That distance is the scale on which logits decide. On the shipped model (see tests/suite/probe.rs) it is 6; sums of f32 in
/// another order move a logit by 0.000003 of it, products with int8 by 0.024. f16 arithmetic lies between, and a wrong
/// kernel moves logits by about the whole distance.
const TOLERANCE: f32 = 0.05;

/// Longest file that is read; one of the longest context has some 200 kB.
const LONGEST_FILE: usize = 1 << 20;

/// A prompt and its highest logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The prompt.
    ids: Vec<u32>,
    /// Tokens with the highest logits after it, and those, highest first.
    top: Vec<(u32, f32)>,
}

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ProbeOutcome {
    /// Whether the device may be trusted.
    pub agrees: bool,
    /// Largest distance of a logit from the stored one, or of the chosen token's from the highest; infinite if a logit is
    /// no number, or the choice no token.
    pub difference: f32,
    /// The largest distance that is allowed.
    pub allowed: f32,
}

impl ProbeOutcome {
    /// Refuses a device that does not agree.
    ///
    /// # Errors
    /// [`EngineError::WrongDevice`].
    #[cfg(feature = "gpu")]
    pub fn trust(self, device: &str) -> Result<()> {
        match self.agrees {
            true => Ok(()),
            false => Err(EngineError::WrongDevice {
                device: device.to_owned(),
                difference: self.difference,
                allowed: self.allowed,
            }),
        }
    }
}

impl Probe {
    /// What `context` makes of a prompt.
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] when a logit is not, or as [`Context::set_context`].
    pub async fn measure(context: &mut Context, ids: &[u32]) -> Result<Self> {
        context.set_context(ids).await?;
        let logits = context.logits().await?;
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(EngineError::NotFinite);
        }
        let mut top: Vec<(u32, f32)> = (0..).zip(logits).collect();
        top.sort_by(|a, b| b.1.total_cmp(&a.1));
        top.truncate(KEPT);
        Ok(Self {
            ids: ids.to_vec(),
            top,
        })
    }

    /// Compares what `context` makes of the prompt, whose last token it decodes as it would decode one of an answer, and
    /// looks at which token it would write next.
    ///
    /// # Errors
    /// [`EngineError::Probe`] when it belongs to another model, or as [`Context::set_context`].
    pub async fn check(&self, context: &mut Context) -> Result<ProbeOutcome> {
        let vocab_size = context.config().vocab_size;
        if self.top.iter().any(|(id, _)| *id as usize >= vocab_size) {
            return Err(wrong("a token that the model does not have"));
        }
        let (last, before) = self.ids.split_last().ok_or(EngineError::EmptyPrompt)?;
        context.reset();
        if !before.is_empty() {
            context.set_context(before).await?;
        }
        context.push(*last).await?;
        let mut greedy = context.sampler(SamplingOptions::default())?;
        let choice = context.choose(&mut greedy).await?.id;
        Ok(self.compare(&context.logits().await?, choice))
    }

    /// As [`Self::check`], of a model that was put on a GPU. It runs as configured there, as it did for the probe, however
    /// it is to run later. Whatever is to use a model on a GPU asks this first, natively and in the browser.
    ///
    /// # Errors
    /// As for [`Self::check`].
    #[cfg(feature = "gpu")]
    pub async fn check_gpu(
        &self,
        model: &std::sync::Arc<crate::gpu::GpuModel>,
    ) -> Result<ProbeOutcome> {
        let options = crate::DecodeOptions::default();
        let decoder = crate::gpu::GpuDecoder::new(std::sync::Arc::clone(model), options).await?;
        self.check(&mut decoder.into()).await
    }

    /// The prompt.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Compares logits after the prompt, `[vocab_size]`, which another program computed on a device.
    ///
    /// # Errors
    /// [`EngineError::Probe`] when it belongs to another model.
    pub fn check_logits(&self, logits: &[f32]) -> Result<ProbeOutcome> {
        if self.top.iter().any(|(id, _)| *id as usize >= logits.len()) {
            return Err(wrong("a token that the model does not have"));
        }
        let likeliest = (0..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1));
        Ok(self.compare(logits, likeliest.map_or(0, |(id, _)| id)))
    }

    /// Compares the logits and the greedy choice of a device.
    fn compare(&self, logits: &[f32], choice: u32) -> ProbeOutcome {
        let values = || self.top.iter().map(|(_, logit)| *logit);
        let highest = values().fold(f32::NEG_INFINITY, f32::max);
        let lowest = values().fold(f32::INFINITY, f32::min);
        let allowed = TOLERANCE * (highest - lowest);
        let stored = self.top.iter();
        let moved = stored.map(|(id, logit)| (logits[*id as usize] - logit).abs());
        // Nor may a token rise that is not among them.
        let above = logits.iter().map(|x| x - highest);
        let likeliest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let difference = match logits.get(choice as usize) {
            Some(chosen) if logits.iter().all(|x| x.is_finite()) => {
                let missed = likeliest - chosen;
                moved.chain(above).fold(missed, f32::max)
            }
            // `max` would pass over what is not a number.
            _ => f32::INFINITY,
        };
        ProbeOutcome {
            agrees: difference <= allowed,
            difference,
            allowed,
        }
    }

    /// Reads `probe.json`.
    ///
    /// # Errors
    /// [`EngineError::Probe`] when it is no probe.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        if text.len() > LONGEST_FILE {
            return Err(wrong("more than any probe has"));
        }
        let probe: Self =
            serde_json::from_slice(text).map_err(|error| wrong(&error.to_string()))?;
        if probe.ids.is_empty() || probe.top.len() < 2 {
            return Err(wrong("no prompt, or fewer than two logits"));
        }
        if probe.top.iter().any(|(_, logit)| !logit.is_finite()) {
            return Err(wrong("a logit that is not a number"));
        }
        Ok(probe)
    }

    /// The text of `probe.json`.
    pub fn to_json(&self) -> String {
        // Numbers and lists only: nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

fn wrong(found: &str) -> EngineError {
    EngineError::Probe {
        found: found.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        Probe {
            ids: vec![1, 2],
            top: vec![(3, 4.0), (0, 3.0), (1, 2.0)],
        }
    }

    #[test]
    fn rounding_is_allowed_and_nothing_else() {
        let outcome = |logits: [f32; 4]| probe().compare(&logits, 3);
        let exact = outcome([3.0, 2.0, 1.0, 4.0]);
        assert_eq!((exact.agrees, exact.difference), (true, 0.0));
        assert!((exact.allowed - 0.1).abs() < 1e-6);
        assert!(outcome([3.05, 1.95, -7.0, 4.05]).agrees);
        assert!(!outcome([3.2, 2.0, 1.0, 4.0]).agrees);
        // One that was not among the highest has risen above them.
        assert!(!outcome([3.0, 2.0, 4.2, 4.0]).agrees);
        assert!(!outcome([0.0; 4]).agrees);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!outcome([bad, 2.0, 1.0, 4.0]).agrees, "{bad}");
            assert!(!outcome([3.0, bad, 1.0, 4.0]).agrees, "{bad}");
        }
        assert!(!outcome([3.0, 2.0, f32::NAN, 4.0]).agrees);
    }

    #[test]
    fn the_choice_must_be_as_likely_as_any() {
        let outcome = |logits: [f32; 4], choice| probe().compare(&logits, choice);
        let exact = [3.0, 2.0, 1.0, 4.0];
        assert!(outcome(exact, 3).agrees);
        assert_eq!(outcome(exact, 0).difference, 1.0);
        assert!(!outcome(exact, 0).agrees);
        // One that rounding has brought up beside the highest.
        assert!(outcome([3.0, 2.0, 3.98, 4.0], 2).agrees);
        assert!(!outcome(exact, 4).agrees);
    }

    #[test]
    fn files_are_read_and_checked() {
        let text = probe().to_json();
        assert_eq!(text, "{\"ids\":[1,2],\"top\":[[3,4.0],[0,3.0],[1,2.0]]}\n");
        assert_eq!(Probe::from_json(text.as_bytes()).expect("its own"), probe());
        for bad in [
            "",
            "[]",
            "{\"ids\":[],\"top\":[[3,4.0],[0,3.0]]}",
            "{\"ids\":[1],\"top\":[[3,4.0]]}",
            "{\"ids\":[1],\"top\":[[3,4.0],[0,1e99]]}",
            "{\"ids\":[-1],\"top\":[[3,4.0],[0,3.0]]}",
            "{\"ids\":[1],\"top\":[[3,4.0],[0,3.0]],\"more\":1}",
        ] {
            assert!(Probe::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Probe::from_json(&vec![b' '; LONGEST_FILE + 1]).is_err());
    }
}
