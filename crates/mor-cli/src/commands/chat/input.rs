//! What a line of a conversation asks for.

/// A command, or something for the model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input<'a> {
    /// A blank line.
    Nothing,
    /// `/quit`.
    Quit,
    /// `/new`.
    New,
    /// `/help`.
    Help,
    /// `/depth`, and what follows it.
    Depth(&'a str),
    /// A word with a slash that is no command.
    Unknown(&'a str),
    /// A message.
    Message(&'a str),
}

impl<'a> Input<'a> {
    /// Reads a line. A command is a slash and letters: a path such as `/etc/fstab` is the beginning of a message, as is
    /// what follows the first of two slashes.
    pub(super) fn of(line: &'a str) -> Self {
        let line = line.trim();
        if line.is_empty() {
            return Self::Nothing;
        }
        let Some(rest) = line.strip_prefix('/') else {
            return Self::Message(line);
        };
        if rest.starts_with('/') {
            return Self::Message(rest);
        }
        let (word, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        if word.is_empty() || !word.chars().all(char::is_alphabetic) {
            return Self::Message(line);
        }
        match word {
            "quit" | "exit" => Self::Quit,
            "new" => Self::New,
            "help" => Self::Help,
            "depth" => Self::Depth(argument.trim()),
            _ => Self::Unknown(&line[..word.len() + 1]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Input::{self, Depth, Help, Message, New, Nothing, Quit, Unknown};

    #[test]
    fn commands_are_words_and_all_else_is_for_the_model() {
        for (line, expected) in [
            (" \t", Nothing),
            ("/quit", Quit),
            (" /exit ", Quit),
            ("/new", New),
            ("/help", Help),
            ("/depth", Depth("")),
            ("/depth  2 ", Depth("2")),
            ("/depth2", Message("/depth2")),
            ("/depths 2", Unknown("/depths")),
            ("/foo", Unknown("/foo")),
            ("/foo bar/baz", Unknown("/foo")),
            ("//foo", Message("/foo")),
            ("//quit", Message("/quit")),
            ("/", Message("/")),
            ("/ what is this?", Message("/ what is this?")),
            (
                "/etc/fstab: what is it?",
                Message("/etc/fstab: what is it?"),
            ),
            ("what is /new?", Message("what is /new?")),
        ] {
            assert_eq!(Input::of(line), expected, "{line}");
        }
    }
}
