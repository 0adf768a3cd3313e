//! The Burn model and the engine are two implementations of one formula: they must agree.
#![cfg(feature = "train")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use mor_config::{
    AdaptiveEmbedding, Depth, HaltedRows, ModelConfig, Pooling, Positions, Precision, Preset,
    RouterKind, Weights, save_tensors,
};
use mor_engine::{DecodeOptions, Decoder, Model};
use mor_model::ForwardOptions;
use mor_text::{Message, Role};

/// Largest difference allowed between logits.
const TOLERANCE: f32 = 1e-4;

fn small(preset: Preset) -> ModelConfig {
    let mut config = preset.config();
    config.vocab_size = 300;
    config.hidden_size = 64;
    config.num_hidden_layers = 3;
    config.num_attention_heads = 4;
    config.intermediate_size = 160;
    config.max_position_embeddings = 48;
    config.dropout = 0.0;
    config.pad_token_id = 0;
    config.routing.halted_rows = HaltedRows::Freeze;
    config
}

/// Ids from 1 up: 0 is the pad, whose meaning the goldens test.
fn ids(len: usize, vocab: usize) -> Vec<u32> {
    (0..len)
        .map(|i| (1 + (i * i * 31 + i * 7 + 3) % (vocab - 1)) as u32)
        .collect()
}

/// Compares every position's logits and every layer's steps, for a prompt read at once and for one
/// read token by token.
fn assert_agreement(burn: &mor_model::Model, engine: Model, depth: Depth, ids: &[u32]) {
    let (vocab, len) = (engine.config().vocab_size, ids.len());
    let batch = TensorData::new(ids.iter().map(|id| i64::from(*id)).collect(), [1, len]);
    let batch = Tensor::<2, Int>::from_data(batch, &Device::flex());
    let options = ForwardOptions {
        depth,
        ..ForwardOptions::default()
    };
    let output = burn.forward(batch, &options).expect("forward");
    let expected = burn.logits(output.hidden).into_data();
    let expected = expected.try_into_vec::<f32>().expect("f32");

    let options = DecodeOptions {
        depth,
        threads: 1,
        ..DecodeOptions::default()
    };
    let engine = Arc::new(engine);
    for token_by_token in [false, true] {
        let mut decoder = Decoder::new(engine.clone(), options).expect("decoder");
        if token_by_token {
            ids.iter().for_each(|id| decoder.push(*id).expect("token"));
        } else {
            decoder.prefill(ids).expect("prompt");
        }
        for (layer, expected) in output.steps.iter().enumerate() {
            // One depth for the row, or one for each position.
            let first = len - expected.len();
            for (position, expected) in (first..len).zip(expected) {
                let steps = decoder.steps_at(position).nth(layer);
                assert_eq!(steps.map(usize::from), Some(*expected), "{position}");
            }
        }
        let mut logits = vec![0.0; vocab];
        for (position, expected) in expected.chunks_exact(vocab).enumerate() {
            decoder.logits_at(position, &mut logits).expect("logits");
            for (got, want) in logits.iter().zip(expected) {
                let difference = (got - want).abs();
                assert!(
                    difference <= TOLERANCE,
                    "position {position}: {got} and {want}"
                );
            }
        }
    }
}

#[test]
fn random_models_agree() {
    for (seed, positions) in [Positions::Learned, Positions::Sinusoidal, Positions::Rotary]
        .into_iter()
        .enumerate()
    {
        for kind in [RouterKind::Adaptive, RouterKind::Fixed] {
            for tied in [false, true] {
                let mut config = small(Preset::TechnicalCard);
                config.positions = positions;
                config.routing.kind = kind;
                config.tie_word_embeddings = tied;
                check(&config, seed as u64, 4);
            }
        }
    }
}

/// Compares a random model at every depth up to `deepest`, and as it routes.
fn check(config: &ModelConfig, seed: u64, deepest: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let burn = mor_model::Model::new(config, &Device::flex(), seed).expect("model");
    save_tensors(&path, &burn.to_tensors(), Precision::F32).expect("written");
    let forced = (0..=deepest).map(Depth::Forced);
    for depth in forced.chain([Depth::Configured]) {
        let weights = Weights::open(&path).expect("weights");
        let engine = Model::from_parts(config.clone(), weights).expect("engine");
        assert_agreement(&burn, engine, depth, &ids(37, config.vocab_size));
    }
}

#[test]
fn conversational_models_agree() {
    for (seed, tied) in [(3, false), (4, true)] {
        let mut config = small(Preset::Conversational198m);
        config.tie_word_embeddings = tied;
        check(&config, seed, 5);
    }
}

#[test]
fn every_pooling_and_adaptive_embeddings_agree() {
    for preset in [Preset::TechnicalCard, Preset::Conversational198m] {
        for pooling in [Pooling::Sequence, Pooling::Real, Pooling::Prefix] {
            let mut config = small(preset);
            config.routing.pooling = pooling;
            check(&config, 7, 0);
            config.adaptive_embedding = Some(AdaptiveEmbedding {
                cutoffs: vec![40, 150],
                div_val: 2,
            });
            check(&config, 8, 0);
        }
    }
}

/// The model in the repository, at every depth it has, on text of the kind it was trained on.
#[test]
fn the_shipped_model_agrees() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/technical-10m");
    let dir: PathBuf = dir.components().collect();
    let burn = mor_model::Model::load(&dir, &Device::flex()).expect("the shipped model");
    let tokenizer = mor_text::Tokenizer::from_dir(&dir).expect("tokenizer");
    let question = "What does `tar --list` do, and how do I see the files in an archive?";
    let messages = [
        Message::new(Role::User, question),
        Message::new(Role::Assistant, "`tar --list --file path/to/archive.tar`"),
    ];
    let ids = tokenizer.encode_chat(&messages, false).expect("ids");
    let deepest = ModelConfig::from_dir(&dir)
        .expect("config")
        .routing
        .max_steps;
    for depth in 0..=deepest {
        let engine = Model::load(&dir).expect("the shipped model");
        assert_agreement(&burn, engine, Depth::Forced(depth), &ids);
    }
}
