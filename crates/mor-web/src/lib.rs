//! The browser surface of the engine and tokenizer.
