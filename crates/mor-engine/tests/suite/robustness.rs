//! Pads wherever they may stand give numbers, and contexts that come about in any way agree.

use std::sync::Arc;

use crate::common::{self, all_logits, assert_close, one_thread, read};
use mor_config::{Architecture, Depth, ModelConfig, Pooling, Positions};
use mor_engine::{DecodeOptions, Decoder, LoadOptions, Model, Routing, WeightPrecision};
use safetensors::Dtype;

fn models(config: &ModelConfig) -> [Arc<Model>; 2] {
    [WeightPrecision::F32, WeightPrecision::F16].map(|precision| {
        let options = LoadOptions {
            precision,
            ..LoadOptions::default()
        };
        common::model(config, Dtype::F32, options)
    })
}

#[test]
fn pads_anywhere_give_numbers() {
    let real: Vec<u32> = (1..12).map(|i| i * 5 % 60 + 1).collect();
    let padded = |left: usize, right: usize| {
        let pads = |n| std::iter::repeat_n(0, n);
        pads(left)
            .chain(real.iter().copied())
            .chain(pads(right))
            .collect::<Vec<_>>()
    };
    let mut configs = common::routed_configs();
    configs.push(common::technical(Positions::Learned, Pooling::Sequence));
    for config in configs {
        for model in models(&config) {
            for ids in [
                padded(1, 0),
                padded(9, 0),
                padded(3, 20),
                vec![0; 40],
                vec![0],
            ] {
                for (depth, portion) in [
                    (Depth::Configured, ids.len()),
                    (Depth::Configured, 1),
                    (Depth::Forced(3), 7),
                ] {
                    let options = DecodeOptions {
                        depth,
                        ..one_thread()
                    };
                    let mut decoder = read(&model, options, &ids, portion);
                    let finite = |row: &Vec<f32>| row.iter().all(|x| x.is_finite());
                    assert!(
                        all_logits(&mut decoder).iter().all(finite),
                        "{config:?}, {ids:?}"
                    );
                    for router in 0..config.routed_depths() {
                        let sum: f32 = decoder.router_probabilities(router).iter().sum();
                        let expected = if depth == Depth::Configured { 1.0 } else { 0.0 };
                        assert!((sum - expected).abs() < 1e-5, "{sum}");
                    }
                }
            }
        }
    }
}

/// Rotary positions are relative, so where pads are left out of the mean as well, they change nothing.
#[test]
fn left_padding_changes_nothing_where_pads_are_left_out() {
    let real: Vec<u32> = (1..16).map(|i| i * 7 % 60 + 1).collect();
    for config in common::routed_configs() {
        if config.routing.pooling == Pooling::Sequence {
            continue;
        }
        for model in models(&config) {
            let mut alone = read(&model, one_thread(), &real, real.len());
            let expected = all_logits(&mut alone);
            for pads in [1, 6, 20] {
                let ids = [vec![0; pads], real.clone()].concat();
                let mut decoder = read(&model, one_thread(), &ids, ids.len());
                assert_eq!(decoder.steps(), alone.steps());
                let actual = all_logits(&mut decoder);
                for (actual, expected) in actual[pads..].iter().zip(&expected) {
                    assert_close(actual, expected, 1e-4, "left padding");
                }
            }
        }
    }
}

/// Contexts are cut, continued and replaced at random; each must be what a fresh decoder makes of its ids.
#[test]
fn a_changed_context_is_a_fresh_one() {
    let mut state = 99_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut configs = common::routed_configs();
    configs.push(common::technical(Positions::Learned, Pooling::Real));
    for config in configs {
        let model = common::model(&config, Dtype::F32, LoadOptions::default());
        let mut decoder = Decoder::new(Arc::clone(&model), one_thread()).expect("one");
        let mut depths = Vec::new();
        for round in 0..60 {
            let mut ids = decoder.ids().to_vec();
            match random(4) {
                // Another end, as the next turn of a chat has.
                0 => {
                    ids.truncate(random(ids.len() + 1));
                    ids.extend((0..1 + random(6)).map(|_| random(61) as u32));
                    ids.truncate(48);
                    decoder.set_context(&ids).expect("fits");
                }
                // A window that slides.
                1 if ids.len() > 2 => {
                    ids.remove(0);
                    decoder.set_context(&ids).expect("fits");
                }
                _ if ids.len() < 48 => {
                    let id = random(61) as u32;
                    ids.push(id);
                    decoder.push(id).expect("fits");
                }
                _ => decoder.reset(),
            }
            if decoder.ids().is_empty() {
                continue;
            }
            depths.push(decoder.steps().to_vec());
            assert_eq!(decoder.ids(), ids);
            let mut fresh = read(&model, one_thread(), &ids, ids.len());
            let what = format!(
                "{:?} {:?}, round {round}",
                config.architecture, config.routing.pooling
            );
            for position in 0..ids.len() {
                let steps = |decoder: &Decoder| decoder.steps_at(position).collect::<Vec<_>>();
                assert_eq!(steps(&decoder), steps(&fresh), "{what}");
            }
            for (actual, expected) in all_logits(&mut decoder).iter().zip(all_logits(&mut fresh)) {
                assert_close(actual, &expected, 1e-4, &what);
            }
        }
        depths.dedup();
        assert!(depths.len() > 3, "depth hardly changed: {depths:?}");
    }
}

#[test]
fn locked_routers_decide_on_the_prompt_alone() {
    let prompt: Vec<u32> = (1..10).map(|i| i * 11 % 60 + 1).collect();
    for config in common::routed_configs() {
        let model = common::model(&config, Dtype::F32, LoadOptions::default());
        let options = DecodeOptions {
            routing: Routing::Locked,
            ..one_thread()
        };
        let mut live = Decoder::new(Arc::clone(&model), one_thread()).expect("one");
        let mut locked = Decoder::new(Arc::clone(&model), options).expect("one");
        live.set_context(&prompt).expect("fits");
        locked.set_context(&prompt).expect("fits");
        assert_eq!(locked.logits(), live.logits());
        let decided = live.steps().to_vec();
        let mut went_elsewhere = false;
        for id in 20..50 {
            live.push(id).expect("fits");
            locked.push(id).expect("fits");
            went_elsewhere |= live.steps() != decided;
            assert_eq!(locked.steps(), decided);
        }
        assert!(went_elsewhere, "the test shows nothing");
        if config.architecture == Architecture::Conversational
            && config.routing.pooling != Pooling::Prefix
        {
            let forced = DecodeOptions {
                depth: Depth::Forced(usize::from(decided[0])),
                ..one_thread()
            };
            let mut forced = read(&model, forced, locked.ids(), 1);
            for (a, e) in all_logits(&mut locked).iter().zip(all_logits(&mut forced)) {
                assert_close(a, &e, 1e-4, "locked and forced");
            }
        }
        // The next prompt, which begins with what was written, is decided on anew.
        let next = [&locked.ids()[..30], &[5, 6, 7]].concat();
        locked.set_context(&next).expect("fits");
        let mut fresh = Decoder::new(Arc::clone(&model), options).expect("one");
        fresh.set_context(&next).expect("fits");
        assert_eq!(locked.steps(), fresh.steps());
        for (a, e) in all_logits(&mut locked).iter().zip(all_logits(&mut fresh)) {
            assert_close(a, &e, 1e-4, "decided anew");
        }
    }
}

/// A mask from the caller does what pads do: tokens that it hides are unseen and left out of the mean.
#[test]
fn a_mask_does_what_pads_do() {
    let ids: Vec<u32> = (0..30).map(|i| (i * 13 + 5) % 61).collect();
    let hidden = |position: usize| position < 2 || position % 9 == 4;
    for config in common::routed_configs() {
        let model = common::model(&config, Dtype::F32, LoadOptions::default());
        let masked = |ids: &[u32], visible: &[bool]| {
            let mut decoder = Decoder::new(Arc::clone(&model), one_thread()).expect("one");
            decoder.prefill_masked(ids, visible).expect("fits");
            decoder
        };
        let visible: Vec<bool> = ids.iter().map(|id| *id != 0).collect();
        let mut by_id = read(&model, one_thread(), &ids, ids.len());
        assert_eq!(
            all_logits(&mut masked(&ids, &visible)),
            all_logits(&mut by_id)
        );

        // What is hidden may be any token, as far as the others are concerned.
        if config.routing.pooling == Pooling::Sequence {
            continue;
        }
        let visible: Vec<bool> = (0..ids.len()).map(|position| !hidden(position)).collect();
        let other: Vec<u32> = (0..ids.len())
            .map(|position| if hidden(position) { 33 } else { ids[position] })
            .collect();
        let (a, b) = (
            all_logits(&mut masked(&ids, &visible)),
            all_logits(&mut masked(&other, &visible)),
        );
        for position in (0..ids.len()).filter(|position| !hidden(*position)) {
            assert_close(&a[position], &b[position], 1e-5, "a hidden token");
        }
        assert!(masked(&ids, &visible).prefill_masked(&[1], &[]).is_err());
    }
}
