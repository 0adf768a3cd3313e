//! Conversations as token ids, laid out by the chat template.

use super::{CONFIG_FILE, Tokenizer};
use crate::template::{Piece, pieces};
use crate::vocabulary::AddedToken;
use crate::{Message, Result, Role, TextError};

impl Tokenizer {
    /// Renders `messages` with the chat template and encodes the result. The template's special tokens become
    /// single ids; contents are inserted verbatim and stay plain text, whatever they say.
    ///
    /// # Errors
    /// [`TextError::Template`] if there is no template, or it refuses these messages.
    pub fn encode_chat(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>> {
        self.lay_out(messages, add_generation_prompt, |_, _| ())
    }

    /// Encodes a whole conversation, and says of each id whether a model learns to write it: those of an
    /// assistant's content, and those that follow it up to the one that ends the answer (see
    /// [`Tokenizer::stop_ids`]). Where the template writes no such token, only the content counts.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_chat`].
    pub fn encode_chat_learned(&self, messages: &[Message]) -> Result<(Vec<u32>, Vec<bool>)> {
        let stop_ids = self.stop_ids();
        let mut learned = Vec::new();
        let mut answered = false;
        let ids = self.lay_out(messages, false, |piece, ids| {
            let count = match *piece {
                Piece::Content(index) => {
                    answered = messages[index].role == Role::Assistant;
                    if answered { ids.len() } else { 0 }
                }
                Piece::Markup(_) if std::mem::take(&mut answered) => ids
                    .iter()
                    .position(|id| stop_ids.contains(id))
                    .map_or(0, |end| end + 1),
                Piece::Markup(_) => 0,
            };
            learned.extend((0..ids.len()).map(|at| at < count));
        })?;
        Ok((ids, learned))
    }

    /// Encodes many conversations, on every core.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_chat`].
    #[cfg(feature = "fs")]
    pub fn encode_chat_batch<M: AsRef<[Message]> + Sync>(
        &self,
        conversations: &[M],
        add_generation_prompt: bool,
    ) -> Result<Vec<Vec<u32>>> {
        use rayon::prelude::*;
        conversations
            .par_iter()
            .map(|messages| self.encode_chat(messages.as_ref(), add_generation_prompt))
            .collect()
    }

    /// The ids of a conversation; `on_piece` sees each part of it with its ids, in order.
    fn lay_out(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        mut on_piece: impl FnMut(&Piece<'_>, &[u32]),
    ) -> Result<Vec<u32>> {
        let template = self.template.as_ref().ok_or_else(|| TextError::Template {
            reason: format!(
                "{CONFIG_FILE} has no `chat_template`; this tokenizer cannot write conversations"
            ),
        })?;
        let name = |token: &Option<AddedToken>| {
            token
                .as_ref()
                .map_or(String::new(), |token| token.name.clone())
        };
        let rendered = template.render(
            messages,
            add_generation_prompt,
            &name(&self.bos),
            &name(&self.eos),
        )?;
        let mut ids = Vec::new();
        for piece in pieces(&rendered, messages.len())? {
            let start = ids.len();
            match piece {
                Piece::Markup(markup) => ids.extend(self.encode_markup(markup)?),
                Piece::Content(index) => self.encode_into(&messages[index].content, &mut ids)?,
            }
            on_piece(&piece, &ids[start..]);
        }
        Ok(ids)
    }
}

#[cfg(all(test, feature = "fs"))]
mod tests {
    use super::*;
    use crate::{TrainOptions, train_tokenizer};

    /// A tokenizer of single bytes, with another template if one is given.
    fn tokenizer(template: Option<&str>) -> Tokenizer {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("a.txt");
        std::fs::write(&text, "a").unwrap();
        let options = TrainOptions {
            vocab_size: 270,
            ..TrainOptions::default()
        };
        let (tokenizer, _) = train_tokenizer(&[text], &options).unwrap();
        let Some(template) = template else {
            return tokenizer;
        };
        let (json, mut config) = tokenizer.files;
        config["chat_template"] = template.into();
        Tokenizer::from_bytes(&json, config.to_string().as_bytes()).unwrap()
    }

    /// The text of the ids that are learned, with special tokens by name.
    fn learned(tokenizer: &Tokenizer, messages: &[(Role, &str)]) -> String {
        let messages: Vec<_> = messages
            .iter()
            .map(|&(role, content)| Message::new(role, content))
            .collect();
        let (ids, learned) = tokenizer.encode_chat_learned(&messages).unwrap();
        assert_eq!(ids, tokenizer.encode_chat(&messages, false).unwrap());
        assert_eq!(ids.len(), learned.len());
        let ids = ids.iter().zip(learned);
        let ids: Vec<u32> = ids.filter_map(|(&id, it)| it.then_some(id)).collect();
        String::from_utf8(tokenizer.decode_bytes(&ids, true)).unwrap()
    }

    #[test]
    fn answers_and_their_ends_are_learned_and_nothing_else() {
        use Role::{Assistant, System, User};
        let tokenizer = tokenizer(None);
        let messages = [
            (System, "s"),
            (User, "<assistant>q"),
            (Assistant, "one"),
            (User, "r"),
            (Assistant, "two"),
        ];
        assert_eq!(learned(&tokenizer, &messages), "one<eos>two<eos>");
        assert_eq!(learned(&tokenizer, &messages[..2]), "");
        assert_eq!(learned(&tokenizer, &[(Assistant, "")]), "<eos>");
    }

    #[test]
    fn an_answer_ends_at_the_first_token_that_stops_generation() {
        let messages = [(Role::Assistant, "a"), (Role::User, "u")];
        let each = |after: &str| {
            tokenizer(Some(&format!(
                "{{% for m in messages %}}{{{{ m.content }}}}{after}{{% endfor %}}"
            )))
        };
        assert_eq!(learned(&each("\n\n<eos>.<eos>"), &messages), "a\n\n<eos>");
        assert_eq!(learned(&each("."), &messages), "a");
        assert_eq!(learned(&each(""), &messages), "a");
    }

    #[test]
    fn the_fingerprint_tells_templates_apart() {
        let print = tokenizer(None).fingerprint();
        assert_eq!(print.len(), 64);
        assert_eq!(print, tokenizer(None).fingerprint());
        assert_ne!(print, tokenizer(Some("x")).fingerprint());
    }
}
