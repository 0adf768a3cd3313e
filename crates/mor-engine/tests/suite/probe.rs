//! How far rounding moves the logits of a probe's prompt, on the model that ships: the figures behind its tolerance.

use std::path::Path;
use std::sync::Arc;

use mor_engine::{
    Context, DecodeOptions, Decoder, Isa, LoadOptions, Model, PROBE_FILE, Probe, WeightPrecision,
};
use mor_text::{Message, Role, Tokenizer};
use pollster::block_on;

#[test]
fn rounding_stays_within_the_tolerance() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/technical-10m");
    let tokenizer = Tokenizer::from_dir(&folder).expect("a tokenizer");
    let question = Message::new(Role::User, "How do I list the contents of a tar file?");
    let ids = tokenizer.encode_chat(&[question], true).expect("encodes");
    let context = |precision, isa| -> Context {
        let options = LoadOptions { precision, isa };
        let model = Model::load_with(&folder, options).expect("the model");
        let decoder = Decoder::new(Arc::new(model), DecodeOptions::default());
        decoder.expect("a decoder").into()
    };
    let mut exact = context(WeightPrecision::F32, None);
    let probe = block_on(Probe::measure(&mut exact, &ids)).expect("fits");
    let scalar = Some(Isa::Scalar);
    for (what, mut other) in [
        ("other sums", context(WeightPrecision::F32, scalar)),
        ("int8", context(WeightPrecision::Q8, None)),
        ("int8, other sums", context(WeightPrecision::Q8, scalar)),
    ] {
        let outcome = block_on(probe.check(&mut other)).expect("fits");
        println!("{what}: {outcome:?}");
        assert!(outcome.agrees, "{what}: {outcome:?}");
    }
    // Another prompt stands for a device that computes wrongly.
    let mut wrong = block_on(Probe::measure(&mut exact, &ids[1..])).expect("fits");
    let outcome = block_on(wrong.check(&mut exact)).expect("fits");
    assert!(outcome.agrees && outcome.difference < 1e-4, "{outcome:?}");
    let json = wrong.to_json().replace("{\"ids\":[", "{\"ids\":[7,");
    wrong = Probe::from_json(json.as_bytes()).expect("a probe");
    let outcome = block_on(wrong.check(&mut exact)).expect("fits");
    println!("another prompt: {outcome:?}");
    assert!(!outcome.agrees, "{outcome:?}");
}

/// The probe that ships belongs to the weights that ship.
#[test]
fn the_shipped_probe_is_the_shipped_models() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/technical-10m");
    let text = std::fs::read(folder.join(PROBE_FILE)).expect("a probe");
    let probe = Probe::from_json(&text).expect("a probe");
    let model = Model::load(&folder).expect("the model");
    let decoder = Decoder::new(Arc::new(model), DecodeOptions::default());
    let mut context = decoder.expect("a decoder").into();
    let outcome = block_on(probe.check(&mut context)).expect("fits");
    assert!(outcome.agrees && outcome.difference < 1e-3, "{outcome:?}");
}
