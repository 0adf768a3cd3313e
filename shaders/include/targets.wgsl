// Which rows a loss counts.

// Whether a target is a token of the vocabulary, and not the one to ignore.
fn is_counted(target_id: i32, ignored: u32) -> bool {
    return target_id != bitcast<i32>(ignored) && target_id >= 0 && u32(target_id) < VOCAB;
}
