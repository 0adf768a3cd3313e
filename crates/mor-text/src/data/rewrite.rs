//! Reworded copies of rows: people leave out of a question what its documentation always says.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use regex::Regex;
use serde::Deserialize;

use crate::{Conversation, Result, Role, TextError};

/// Which rows gain reworded copies. Read from TOML:
///
/// ```toml
/// [[copy]]
/// name = "command not named"      # for the report
/// sources = ["tldr"]              # rows of these sources only; absent: all rows
/// share = 0.5                     # of the rows that a rule fits; absent: 1
/// rules = [
///   { find = '^(How do I .+?) with `[^`]+`\?$', replace = '$1?' },
/// ]
/// ```
///
/// A row gains at most one copy of each kind, reworded by the first rule that changes its first user message.
/// Patterns are those of the `regex` crate, and every match is replaced. Everything else of the row stays.
#[derive(Debug)]
pub struct Rewrites {
    copies: Vec<Copy>,
}

#[derive(Debug)]
struct Copy {
    name: String,
    sources: Option<Vec<String>>,
    share: f64,
    rules: Vec<(Regex, String)>,
    made: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    copy: Vec<CopyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CopyEntry {
    name: String,
    sources: Option<Vec<String>>,
    #[serde(default = "all")]
    share: f64,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    find: String,
    replace: String,
}

fn all() -> f64 {
    1.0
}

impl Rewrites {
    /// Reads the rules from the TOML file at `path`.
    ///
    /// # Errors
    /// [`TextError::Io`] if the file cannot be read, [`TextError::Rewrites`] if it is not of this form, a pattern
    /// is no regular expression, or a share lies outside 0 to 1.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|cause| TextError::io(path, cause))?;
        Self::parse(&text).map_err(|reason| TextError::Rewrites {
            path: path.to_owned(),
            reason,
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let copies = file.copy.into_iter().map(CopyEntry::compile);
        Ok(Self {
            copies: copies.collect::<Result<_, _>>()?,
        })
    }

    /// The reworded copies of `row`, the same on every run.
    pub fn copies(&mut self, row: &Conversation) -> Vec<Conversation> {
        let question = row.messages.iter().position(|it| it.role == Role::User);
        let Some(question) = question else {
            return Vec::new();
        };
        let text = &row.messages[question].content;
        let reword = |copy: &mut Copy| {
            let reworded = copy.reword(row.source.as_deref(), text)?;
            copy.made += 1;
            let mut row = row.clone();
            row.messages[question].content = reworded;
            Some(row)
        };
        self.copies.iter_mut().filter_map(reword).collect()
    }

    /// Each kind of copy by name, with how many were made so far.
    pub fn made(&self) -> impl Iterator<Item = (&str, u64)> {
        self.copies
            .iter()
            .map(|copy| (copy.name.as_str(), copy.made))
    }
}

impl CopyEntry {
    fn compile(self) -> Result<Copy, String> {
        let name = self.name;
        if !(0.0..=1.0).contains(&self.share) {
            let share = self.share;
            return Err(format!(
                "copy \"{name}\": share is {share}, expected 0 to 1"
            ));
        }
        let compile = |rule: Rule| match Regex::new(&rule.find) {
            Ok(regex) => Ok((regex, rule.replace)),
            Err(error) => Err(format!("copy \"{name}\": {error}")),
        };
        let rules = self.rules.into_iter().map(compile);
        Ok(Copy {
            rules: rules.collect::<Result<_, _>>()?,
            name,
            sources: self.sources,
            share: self.share,
            made: 0,
        })
    }
}

impl Copy {
    /// `text` reworded, unless the row is of another source, no rule changes it, or it is not of the share.
    fn reword(&self, source: Option<&str>, text: &str) -> Option<String> {
        if let Some(sources) = &self.sources
            && !source.is_some_and(|source| sources.iter().any(|wanted| wanted == source))
        {
            return None;
        }
        if draw(&self.name, text) >= self.share {
            return None;
        }
        let reworded = self.rules.iter().map(|(regex, replacement)| {
            let reworded = regex.replace_all(text, replacement.as_str());
            (reworded != text && !reworded.trim().is_empty()).then(|| reworded.into_owned())
        });
        reworded.flatten().next()
    }
}

/// A number in 0..1 that depends on nothing but the kind of copy and the text, so that adding rows to a file does
/// not change the copies of the others.
fn draw(name: &str, text: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    (name, text).hash(&mut hasher);
    (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    const RULES: &str = r"
        [[copy]]
        name = 'unnamed'
        sources = ['tldr']
        rules = [
          { find = '^(How do I .+?) with `[^`]+`\?$', replace = '$1?' },
          { find = '^What is the `[^`]+` command to (.+?)\?$', replace = 'How do I $1?' },
        ]

        [[copy]]
        name = 'plain'
        share = 0.5
        rules = [{ find = '`', replace = '' }]
    ";

    fn row(source: &str, question: &str) -> Conversation {
        Conversation {
            messages: vec![
                Message::new(Role::System, "`s`"),
                Message::new(Role::User, question),
                Message::new(Role::Assistant, "`tar`"),
            ],
            source: Some(source.to_owned()),
            licence: Some("MIT".to_owned()),
        }
    }

    #[test]
    fn the_first_fitting_rule_rewords_the_question_and_nothing_else() {
        let mut rewrites = Rewrites::parse(&RULES.replace("0.5", "1")).unwrap();
        let mut of = |source, question| -> Vec<String> {
            let copies = rewrites.copies(&row(source, question));
            for copy in &copies {
                assert_eq!(copy.messages[0], Message::new(Role::System, "`s`"));
                assert_eq!(copy.messages[2], Message::new(Role::Assistant, "`tar`"));
                assert_eq!(copy.licence.as_deref(), Some("MIT"));
            }
            let questions = copies
                .into_iter()
                .map(|mut copy| copy.messages.remove(1).content);
            questions.collect()
        };
        assert_eq!(
            of("tldr", "How do I unpack with `tar`?"),
            ["How do I unpack?", "How do I unpack with tar?"]
        );
        assert_eq!(
            of("tldr", "What is the `tar` command to unpack?"),
            ["How do I unpack?", "What is the tar command to unpack?"]
        );
        assert_eq!(
            of("fig", "How do I unpack with `tar`?"),
            ["How do I unpack with tar?"]
        );
        assert_eq!(of("tldr", "How do I unpack?"), [""; 0]);
        assert_eq!(of("tldr", "``"), [""; 0], "an empty question is none");
        let made: Vec<_> = rewrites.made().collect();
        assert_eq!(made, [("unnamed", 2), ("plain", 3)]);
    }

    #[test]
    fn a_share_of_the_rows_the_same_every_time() {
        let run = || {
            let mut rewrites = Rewrites::parse(RULES).unwrap();
            let copied = |n: &u32| !rewrites.copies(&row("x", &format!("`{n}`"))).is_empty();
            (0..1000).filter(copied).collect::<Vec<u32>>()
        };
        let copied = run();
        assert!((430..570).contains(&copied.len()), "{}", copied.len());
        assert_eq!(copied, run());
    }

    #[test]
    fn rules_that_cannot_work_say_why() {
        let refused = |text: &str, reason: &str| {
            let error = Rewrites::parse(text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        };
        refused(
            &RULES.replace("0.5", "1.5"),
            "share is 1.5, expected 0 to 1",
        );
        refused(
            &RULES.replace(".+?", "(.+?"),
            "copy \"unnamed\": regex parse error",
        );
        refused(
            &RULES.replace("replace", "repalce"),
            "unknown field `repalce`",
        );
        refused("copy = 1", "invalid type");
    }
}
