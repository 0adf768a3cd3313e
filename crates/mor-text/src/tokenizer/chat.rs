//! Conversations as token ids, laid out by the chat template.

use chrono::Local;

use super::Tokenizer;
use super::layout::{Layout, Rendering, Writer};
use crate::template::Setting;
use crate::{Message, Result, TextError};

impl Tokenizer {
    /// Renders `messages` with the chat template and encodes the result, as transformers does. Special tokens that
    /// the template writes become single ids; those that messages spell stay text.
    ///
    /// # Errors
    /// [`TextError::Template`] if there is no template or it cannot be used, if it refuses these messages, or if it
    /// cannot be told which special tokens are its own.
    pub fn encode_chat(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>> {
        let layout = self.layout(messages, add_generation_prompt, false)?;
        Ok(layout.encoded.ids)
    }

    /// Encodes a whole conversation, and says of each id whether a model learns to write it: those of an
    /// assistant's content, and those that follow it up to the one that ends the answer (see
    /// [`Tokenizer::stop_ids`]). Where the template writes no such token, only the content counts.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_chat`], and [`TextError::Template`] if it cannot be told which text is an answer.
    pub fn encode_chat_learned(&self, messages: &[Message]) -> Result<(Vec<u32>, Vec<bool>)> {
        let layout = self.layout(messages, false, true)?;
        let learned = self.learned(&layout);
        Ok((layout.encoded.ids, learned))
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

    fn layout(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        with_writers: bool,
    ) -> Result<Layout> {
        let template = self
            .template
            .as_ref()
            .map_err(|reason| TextError::Template {
                reason: reason.clone(),
            })?;
        let setting = Setting {
            add_generation_prompt,
            tokens: &self.named,
            now: Local::now(),
        };
        self.lay_out(&Rendering {
            template,
            messages,
            setting: &setting,
            with_writers,
        })
    }

    /// Which ids of a conversation a model learns to write.
    fn learned(&self, layout: &Layout) -> Vec<bool> {
        let stop_ids = self.stop_ids();
        let ids = &layout.encoded.ids;
        let mut learned = vec![false; ids.len()];
        let mut empty_answers = layout.empty_answers.iter().peekable();
        // Behind an answer: the first id that is learned if a token that ends the answer follows.
        let mut open = None;
        for (at, (id, place)) in ids.iter().zip(&layout.encoded.places).enumerate() {
            while empty_answers.next_if(|it| **it <= place.start).is_some() {
                open = Some(at);
            }
            let wrote = |writer| layout.writers[place.clone()].contains(&writer);
            let is_special = self.is_special(*id);
            if !is_special && wrote(Writer::Assistant) {
                learned[at] = true;
                open = Some(at + 1);
            } else if !is_special && wrote(Writer::Other) {
                open = None;
            } else if let Some(from) = open.filter(|_| stop_ids.contains(id)) {
                learned[from..=at].fill(true);
                open = None;
            }
        }
        learned
    }
}

#[cfg(all(test, feature = "fs"))]
mod tests {
    use super::*;
    use crate::{Role, TrainOptions, train_tokenizer};

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
