//! What a context holds, wherever it is decoded: its tokens, which of them can be seen, and which of them routers decided
//! on. Executors compute; here it is decided what they must compute again.

use mor_config::ModelConfig;

use crate::{EngineError, Result, Routing};

/// The tokens of a context, and what is known of them.
pub(crate) struct History {
    ids: Vec<u32>,
    /// Which of them later ones can see as keys.
    visible: Vec<bool>,
    /// Whether some of `visible` came from the caller, and so does not follow from the ids.
    masked: bool,
    /// Whether routers have decided since the context was last cleared.
    decided: bool,
    /// Positions at the start that routers decided on; the others follow a locked depth.
    routed: usize,
    routing: Routing,
    /// Whether each position has a depth of its own.
    own_depths: bool,
    vocab_size: usize,
    pad_token_id: u32,
    capacity: usize,
}

/// What an executor can do about positions that it has read, when another depth is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// Nothing: their depth is known beforehand.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))]
    Settled,
    /// They take the steps that they lack.
    CatchUp,
    /// Which steps they have taken it does not know, so they have to be read again.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))]
    Unknown,
}

impl History {
    /// No tokens, of a model whose routers decide as `routing` says.
    pub(crate) fn new(config: &ModelConfig, routing: Routing) -> Self {
        let capacity = config.max_position_embeddings;
        Self {
            ids: Vec::with_capacity(capacity),
            visible: Vec::with_capacity(capacity),
            masked: false,
            decided: false,
            routed: 0,
            routing,
            own_depths: config.routes_by_position(),
            vocab_size: config.vocab_size,
            pad_token_id: config.pad_token_id,
            capacity,
        }
    }

    /// The tokens so far.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Their number.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Most tokens it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Which of the tokens later ones can see, by position.
    pub(crate) fn visible(&self) -> &[bool] {
        &self.visible
    }

    /// The last position.
    ///
    /// # Errors
    /// [`EngineError::EmptyPrompt`] while there is none.
    #[cfg(feature = "gpu")]
    pub(crate) fn last(&self) -> Result<usize> {
        self.len().checked_sub(1).ok_or(EngineError::EmptyPrompt)
    }

    /// Whether there is such a position.
    ///
    /// # Errors
    /// [`EngineError::Option`].
    pub(crate) fn check_position(&self, position: usize) -> Result<()> {
        match position < self.len() {
            true => Ok(()),
            false => Err(EngineError::Option {
                option: "position",
                value: position.to_string(),
                allowed: "below the number of tokens",
            }),
        }
    }

    /// Whether `ids` can follow, of which `visible` says which later ones see; returns the position of the first of them.
    ///
    /// # Errors
    /// [`EngineError::Option`] when the lengths differ, [`EngineError::EmptyPrompt`], [`EngineError::TokenOutOfRange`] or
    /// [`EngineError::ContextFull`].
    pub(crate) fn check(&self, ids: &[u32], visible: Option<&[bool]>) -> Result<usize> {
        if let Some(visible) = visible.filter(|visible| visible.len() != ids.len()) {
            return Err(EngineError::Option {
                option: "visible",
                value: format!("{} long", visible.len()),
                allowed: "as long as the tokens",
            });
        }
        if ids.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let vocab_size = self.vocab_size;
        if let Some(&id) = ids.iter().find(|id| **id as usize >= vocab_size) {
            return Err(EngineError::TokenOutOfRange { id, vocab_size });
        }
        let (tokens, limit) = (self.len() + ids.len(), self.capacity);
        match tokens > limit {
            true => Err(EngineError::ContextFull { tokens, limit }),
            false => Ok(self.len()),
        }
    }

    /// Appends tokens that were checked. Pads are hidden unless `visible` says otherwise. Returns whether routers decide on
    /// them: where `decide` says so, at every token of live routing, and on the first tokens of all.
    pub(crate) fn extend(&mut self, ids: &[u32], visible: Option<&[bool]>, decide: bool) -> bool {
        self.ids.extend_from_slice(ids);
        match visible {
            Some(visible) => self.visible.extend_from_slice(visible),
            None => {
                let pad = self.pad_token_id;
                self.visible.extend(ids.iter().map(|id| *id != pad));
            }
        }
        self.masked |= visible.is_some();
        decide || self.routing == Routing::Live || !self.decided
    }

    /// Takes down that all tokens were read, the new ones as [`Self::extend`] said.
    pub(crate) fn settle(&mut self, decided: bool) {
        if decided {
            self.decided = true;
            self.routed = self.len();
        }
    }

    /// How many of the first tokens stay when `ids` take the place of all. `decide`: whether locked routers decide anew.
    pub(crate) fn reusable(&self, ids: &[u32], decide: bool, earlier: Earlier) -> usize {
        let common = self.ids.iter().zip(ids).take_while(|(a, b)| a == b);
        // The last token always runs, for its logits.
        let common = common.count().min(ids.len().saturating_sub(1));
        match (self.routing, earlier) {
            _ if self.masked => 0,
            (Routing::Live, _) | (_, Earlier::Settled) => common,
            // Positions that followed a locked depth of their own say nothing about a context that is routed anew,
            // nor the other way round.
            (Routing::Locked, _) if self.own_depths && decide => common.min(self.routed),
            (Routing::Locked, _) if self.own_depths => 0,
            (Routing::Locked, Earlier::Unknown) if decide => 0,
            (Routing::Locked, _) => common,
        }
    }

    /// Forgets the tokens from `len` on, but not that routers have decided.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.ids.truncate(len);
        self.visible.truncate(len);
        self.routed = self.routed.min(len);
        self.masked &= len > 0;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.truncate(0);
        self.decided = false;
    }
}

#[cfg(test)]
mod tests {
    use mor_config::{Pooling, Preset};

    use super::*;

    const EARLIER: [Earlier; 3] = [Earlier::Settled, Earlier::CatchUp, Earlier::Unknown];

    fn history(pooling: Pooling, routing: Routing) -> History {
        let mut config = Preset::Technical10m.config();
        config.vocab_size = 50;
        config.pad_token_id = 0;
        config.max_position_embeddings = 8;
        config.routing.pooling = pooling;
        History::new(&config, routing)
    }

    /// Three tokens that routers decided on, and two that followed.
    fn grown(pooling: Pooling, routing: Routing) -> History {
        let mut history = history(pooling, routing);
        for (ids, decide) in [(&[5, 6, 7][..], false), (&[8], false), (&[9], false)] {
            history.check(ids, None).expect("fit");
            let decides = history.extend(ids, None, decide);
            let first = history.len() == ids.len();
            assert_eq!(decides, first || routing == Routing::Live);
            history.settle(decides);
        }
        history
    }

    #[test]
    fn what_stays_depends_on_who_decided_on_it() {
        let (same, shorter, other) = ([5, 6, 7, 8, 9, 1], [5, 6, 7, 8], [5, 6, 3]);
        let kept = |history: &History, decide, earlier| {
            [&same[..], &shorter, &other].map(|ids| history.reusable(ids, decide, earlier))
        };
        for pooling in [Pooling::Prefix, Pooling::Sequence, Pooling::Real] {
            let live = grown(pooling, Routing::Live);
            let locked = grown(pooling, Routing::Locked);
            for decide in [false, true] {
                for earlier in EARLIER {
                    assert_eq!(kept(&live, decide, earlier), [5, 3, 2]);
                }
                assert_eq!(kept(&locked, decide, Earlier::Settled), [5, 3, 2]);
            }
            let own = pooling == Pooling::Prefix;
            for earlier in [Earlier::CatchUp, Earlier::Unknown] {
                let expected = if own { [0, 0, 0] } else { [5, 3, 2] };
                assert_eq!(kept(&locked, false, earlier), expected);
                let expected = match (own, earlier) {
                    (true, _) => [3, 3, 2],
                    (false, Earlier::Unknown) => [0, 0, 0],
                    (false, _) => [5, 3, 2],
                };
                assert_eq!(kept(&locked, true, earlier), expected);
            }
        }
    }

    #[test]
    fn the_last_token_is_read_again_and_an_empty_context_keeps_nothing() {
        let history = grown(Pooling::Prefix, Routing::Live);
        assert_eq!(
            history.reusable(&[5, 6, 7, 8, 9], true, Earlier::CatchUp),
            4
        );
        assert_eq!(history.reusable(&[], true, Earlier::CatchUp), 0);
    }

    #[test]
    fn what_the_caller_hid_does_not_stay() {
        let mut history = history(Pooling::Prefix, Routing::Live);
        history.extend(&[5, 0, 6], None, false);
        assert_eq!(history.visible(), [true, false, true]);
        history.extend(&[7, 0], Some(&[false, true]), false);
        assert_eq!(history.visible(), [true, false, true, false, true]);
        for earlier in EARLIER {
            assert_eq!(history.reusable(&[5, 0, 6, 1], true, earlier), 0);
        }
        history.truncate(0);
        history.extend(&[5, 6], None, false);
        assert_eq!(history.reusable(&[5, 6, 1], true, Earlier::CatchUp), 2);
    }

    #[test]
    fn routers_decide_on_the_first_tokens_and_again_once_all_are_forgotten() {
        let mut history = grown(Pooling::Prefix, Routing::Locked);
        history.truncate(0);
        assert!(!history.extend(&[5], None, false));
        assert!(history.extend(&[6], None, true));
        history.clear();
        assert!(history.extend(&[5], None, false));
    }

    #[test]
    fn tokens_are_checked_in_order_of_what_is_wrong() {
        let history = grown(Pooling::Prefix, Routing::Live);
        assert_eq!(history.check(&[1, 2, 3], None).ok(), Some(5));
        let refused = |ids: &[u32], visible: Option<&[bool]>| {
            history
                .check(ids, visible)
                .expect_err("refused")
                .to_string()
        };
        assert_eq!(
            refused(&[], Some(&[true])),
            "`visible` is 1 long; it must be as long as the tokens"
        );
        assert_eq!(refused(&[], None), EngineError::EmptyPrompt.to_string());
        assert!(refused(&[1, 2, 3, 50], None).starts_with("token id 50 is outside"));
        assert!(refused(&[1, 2, 3, 4], None).starts_with("9 tokens do not fit"));
        assert!(history.check_position(4).is_ok());
        assert_eq!(
            history.check_position(5).expect_err("beyond").to_string(),
            "`position` is 5; it must be below the number of tokens"
        );
    }
}
