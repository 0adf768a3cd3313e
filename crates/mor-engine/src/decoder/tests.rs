//! What a decoder is after a panic within it.

use super::*;

#[test]
fn after_a_panic_the_context_is_empty_and_not_half_of_one() {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/technical-10m");
    let model = Arc::new(Model::load(&folder).expect("the shipped model"));
    let options = DecodeOptions {
        threads: 2,
        ..DecodeOptions::default()
    };
    let mut decoder = Decoder::new(model, options).expect("a decoder");
    let ids = [2, 40, 41, 42];
    decoder.set_context(&ids).expect("fits");
    let expected = decoder.logits().to_vec();
    decoder.set_context(&ids[..3]).expect("fits");

    // Where a position is missing, a layer panics after others have run.
    let positions = std::mem::take(&mut decoder.positions);
    let pushed = catch_unwind(AssertUnwindSafe(|| decoder.push(ids[3])));
    assert!(pushed.is_err());
    decoder.positions = positions;

    assert!(decoder.ids().is_empty());
    assert!(decoder.logits().iter().all(|logit| *logit == 0.0));
    decoder.set_context(&ids).expect("fits");
    assert_eq!(decoder.logits(), expected);
}
