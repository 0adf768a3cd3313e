//! The gradient of the training loss against finite differences.

use burn::tensor::{Device, Int, Tensor, TensorData};
use mor_config::{ModelConfig, Preset};
use mor_model::{ForwardOptions, Model};

const IGNORE: i64 = -100;

fn tiny() -> ModelConfig {
    let mut config = Preset::Technical10m.config();
    config.vocab_size = 23;
    config.hidden_size = 16;
    config.num_hidden_layers = 1;
    config.num_attention_heads = 2;
    config.intermediate_size = 20;
    config.max_position_embeddings = 8;
    config
}

fn loss(model: &Model, device: &Device) -> Tensor<1> {
    let tensor = |values: [i64; 10]| -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(values.to_vec(), [2, 5]), device)
    };
    let ids = tensor([2, 7, 9, 11, 4, 2, 8, 5, 0, 0]);
    let targets = tensor([7, 9, 11, 4, 3, 8, 5, 3, IGNORE, IGNORE]);
    let output = model
        .forward(ids, &ForwardOptions::default())
        .expect("a valid input");
    model
        .loss(output.hidden, targets, IGNORE)
        .expect("one target an input")
}

#[test]
fn agrees_with_finite_differences() {
    let device = Device::flex().autodiff();
    let mut model = Model::new(&tiny(), &device, 3).expect("valid");
    let gradients = model.take_gradients(&mut loss(&model, &device).backward());
    let specs = model.config().tensors();
    let largest = gradients
        .iter()
        .flatten()
        .flatten()
        .fold(0.0_f32, |largest, g| largest.max(g.abs()));
    for (index, spec) in specs.iter().enumerate() {
        let gradient = gradients[index].as_ref().expect("every tensor takes part");
        // The entry of the largest slope: far from rounding errors.
        let at = (0..gradient.len())
            .max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()))
            .expect("not empty");
        let step = 1e-2_f32;
        let mut value = |shift: f32| {
            let shifted =
                std::mem::replace(&mut model, Model::new(&tiny(), &device, 3).expect("valid"));
            model = shifted.update(|parameter| {
                if parameter.index == index {
                    parameter.values[at] += shift;
                }
            });
            f64::from(loss(&model, &device).into_scalar::<f32>())
        };
        let above = value(step);
        let below = value(-2.0 * step);
        value(step);
        let slope = (above - below) / (2.0 * f64::from(step));
        let found = f64::from(gradient[at]);
        let tolerance = 0.02 * found.abs() + 1e-3 * f64::from(largest);
        assert!(
            (slope - found).abs() < tolerance,
            "{}[{at}]: {found} is not {slope}",
            spec.name
        );
    }
}
