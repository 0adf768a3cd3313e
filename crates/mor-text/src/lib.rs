//! Tokenizer, chat template, dataset readers and filters.
