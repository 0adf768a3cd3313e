//! Appending tokens to a context, and replacing it.

use mor_config::Pooling;

use super::decoder::{GpuDecoder, Mode};
use crate::cpu::check_tokens;
use crate::{EngineError, Result, Routing};

impl GpuDecoder {
    pub(super) fn truncate(&mut self, len: usize) {
        // What was not checked is the last token, and gone.
        self.unchecked &= len >= self.ids.len();
        self.ids.truncate(len);
        self.visible.truncate(len);
        self.routed = self.routed.min(len);
        self.settled = false;
        self.masked &= len > 0;
    }

    /// Appends tokens, reading them in blocks; as [`crate::Decoder::prefill`].
    ///
    /// # Errors
    /// [`EngineError::EmptyPrompt`], [`EngineError::TokenOutOfRange`] or [`EngineError::ContextFull`], when the
    /// context is as before; or the device's, when it must be read anew.
    pub async fn prefill(&mut self, ids: &[u32]) -> Result<()> {
        self.append(ids, None, false).await
    }

    /// As [`Self::prefill`], where `visible` says which of the tokens later ones may see, as
    /// [`crate::Decoder::prefill_masked`].
    ///
    /// # Errors
    /// As for [`Self::prefill`], or [`EngineError::Option`] when the lengths differ.
    pub async fn prefill_masked(&mut self, ids: &[u32], visible: &[bool]) -> Result<()> {
        if ids.len() != visible.len() {
            return Err(EngineError::Option {
                option: "visible",
                value: format!("{} long", visible.len()),
                allowed: "as long as the tokens",
            });
        }
        self.append(ids, Some(visible), false).await
    }

    /// Appends one token.
    ///
    /// # Errors
    /// As for [`Self::prefill`].
    pub async fn push(&mut self, id: u32) -> Result<()> {
        self.append(&[id], None, false).await
    }

    /// Makes `ids` the context, reusing what it has in common with the present one; as
    /// [`crate::Decoder::set_context`].
    ///
    /// # Errors
    /// As for [`Self::prefill`].
    pub async fn set_context(&mut self, ids: &[u32]) -> Result<()> {
        self.replace(ids, true).await
    }

    /// As [`Self::set_context`], but locked depths stay.
    pub(crate) async fn slide_to(&mut self, ids: &[u32]) -> Result<()> {
        self.replace(ids, false).await
    }

    async fn replace(&mut self, ids: &[u32], decide: bool) -> Result<()> {
        let common = self.ids.iter().zip(ids).take_while(|(a, b)| a == b);
        // The last token always runs, for its logits.
        let common = common.count().min(ids.len().saturating_sub(1));
        let own_depths = self.config().routing.pooling == Pooling::Prefix;
        let reusable = match (self.options.routing, self.mode) {
            _ if self.masked => 0,
            (Routing::Live, _) | (_, Mode::Fixed(_)) => common,
            // As on the CPU.
            (Routing::Locked, _) if own_depths && decide => common.min(self.routed),
            (Routing::Locked, _) if own_depths => 0,
            // Which steps earlier positions have taken is known on the GPU only.
            (Routing::Locked, _) if decide => 0,
            (Routing::Locked, _) => common,
        };
        if reusable < self.ids.len() {
            // What is recorded reads the tokens whose place others now take.
            self.recorder.submit();
        }
        self.truncate(reusable);
        self.append(&ids[reusable..], None, decide).await
    }

    /// `decide` makes locked routers decide anew, as they also do on the first tokens of all.
    async fn append(&mut self, ids: &[u32], visible: Option<&[bool]>, decide: bool) -> Result<()> {
        let start = check_tokens(&self.model.config, self.ids.len(), ids)?;
        let pad_token_id = self.model.config.pad_token_id;
        self.gpu().check()?;
        self.confirm().await?;
        self.masked |= visible.is_some();
        let seen = ids.iter().enumerate().map(|(i, id)| {
            let seen = visible.map_or(*id != pad_token_id, |visible| visible[i]);
            if seen { u32::MAX } else { 0 }
        });
        let visible: Vec<u32> = seen.collect();
        let at = start as u64 * 4;
        let queue = &self.model.gpu.queue;
        queue.write_buffer(&self.buffers.ids.buffer, at, bytemuck::cast_slice(ids));
        queue.write_buffer(
            &self.buffers.visible.buffer,
            at,
            bytemuck::cast_slice(&visible),
        );
        self.ids.extend_from_slice(ids);
        self.visible.truncate(start);
        self.visible.extend(visible.iter().map(|seen| *seen != 0));
        let decide = decide || self.options.routing == Routing::Live || !self.decided;
        let result = match self.mode {
            Mode::Live if ids.len() == 1 && start > 0 => {
                self.decode(start, true);
                self.unchecked = true;
                self.stale |= self.resumes_at().is_none();
                Ok(())
            }
            Mode::Live => {
                let start = if self.stale { 0 } else { start };
                self.live(start).await
            }
            Mode::Fixed(_) | Mode::OnDevice if ids.len() == 1 => {
                self.decode(start, decide);
                Ok(())
            }
            Mode::Fixed(_) | Mode::OnDevice => {
                self.read_rows(start, decide);
                Ok(())
            }
        };
        if let Err(error) = result {
            // What the device holds is unknown now.
            self.reset();
            return Err(error);
        }
        if decide {
            self.decided = true;
            self.routed = self.ids.len();
        }
        self.settled = true;
        Ok(())
    }

    /// Makes sure that a live router's last decision is the one that earlier positions obeyed.
    pub(super) async fn confirm(&mut self) -> Result<()> {
        if !self.unchecked {
            return Ok(());
        }
        let routing = self.read_routing().await?;
        match self.know_steps(&routing) {
            true => Ok(()),
            false => self.read_again().await,
        }
    }
}
