//! Appending tokens to a context, and replacing it.

use super::decoder::GpuDecoder;
use crate::Result;
use crate::gpu::plan::Mode;
use crate::history::Earlier;

impl GpuDecoder {
    pub(super) fn truncate(&mut self, len: usize) {
        // What was not checked is the last token, and gone.
        self.unchecked &= len >= self.history.len();
        self.history.truncate(len);
        self.settled = false;
    }

    /// Appends tokens, reading them in blocks; as [`crate::Decoder::prefill`].
    ///
    /// # Errors
    /// [`crate::EngineError::EmptyPrompt`], [`crate::EngineError::TokenOutOfRange`] or
    /// [`crate::EngineError::ContextFull`], when the context is as before; or the device's, when it must be read anew.
    pub async fn prefill(&mut self, ids: &[u32]) -> Result<()> {
        self.append(ids, None, false).await
    }

    /// As [`Self::prefill`], where `visible` says which of the tokens later ones may see, as
    /// [`crate::Decoder::prefill_masked`].
    ///
    /// # Errors
    /// As for [`Self::prefill`], or [`crate::EngineError::Option`] when the lengths differ.
    pub async fn prefill_masked(&mut self, ids: &[u32], visible: &[bool]) -> Result<()> {
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
        let earlier = match self.mode {
            Mode::Fixed(_) => Earlier::Settled,
            // Which steps earlier positions have taken is known on the GPU only.
            Mode::OnDevice | Mode::Live => Earlier::Unknown,
        };
        let reusable = self.history.reusable(ids, decide, earlier);
        if reusable < self.history.len() {
            // What is recorded reads the tokens whose place others now take.
            self.recorder.submit();
        }
        self.truncate(reusable);
        self.append(&ids[reusable..], None, decide).await
    }

    /// `decide` makes locked routers decide anew, as they also do on the first tokens of all.
    async fn append(&mut self, ids: &[u32], visible: Option<&[bool]>, decide: bool) -> Result<()> {
        let start = self.history.check(ids, visible)?;
        self.gpu().check()?;
        self.confirm().await?;
        let decide = self.history.extend(ids, visible, decide);
        let seen = self.history.visible()[start..].iter();
        let visible: Vec<u32> = seen.map(|seen| if *seen { u32::MAX } else { 0 }).collect();
        let at = start as u64 * 4;
        let queue = &self.model.gpu.queue;
        queue.write_buffer(&self.buffers.ids.buffer, at, bytemuck::cast_slice(ids));
        queue.write_buffer(
            &self.buffers.visible.buffer,
            at,
            bytemuck::cast_slice(&visible),
        );
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
        self.history.settle(decide);
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
