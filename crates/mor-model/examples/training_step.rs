//! Times forward and backward of one batch:
//! `training_step [PRESET] [BATCH] [SEQ] [DEPTH] [RUNS] [f32|bf16]`.

use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use mor_config::{Depth, Preset};
use mor_model::{ForwardOptions, Model, recycle_gradients};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let config = args
        .next()
        .unwrap_or("technical-10m".to_owned())
        .parse::<Preset>()?
        .config();
    let mut number = |default: usize| -> Result<usize, std::num::ParseIntError> {
        args.next().map_or(Ok(default), |arg| arg.parse())
    };
    let (batch, seq) = (number(64)?, number(64)?);
    let (depth, runs) = (number(1)?, number(5)?);
    if args.next().as_deref() == Some("bf16") {
        mor_kernels::set_matmul_precision(mor_kernels::MatmulPrecision::Bf16);
    }

    let device = Device::flex().autodiff();
    let mut model = Model::new(&config, &device, 1)?;
    let ids: Vec<i64> = (0..batch * seq)
        .map(|at| 1 + (at * 2_654_435_761 % (config.vocab_size - 1)) as i64)
        .collect();
    let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [batch, seq]), &device);
    let options = ForwardOptions {
        depth: Depth::Forced(depth),
        ..ForwardOptions::default()
    };
    for run in 0..runs {
        let start = Instant::now();
        let output = model.forward(ids.clone(), &options)?;
        let hidden = start.elapsed();
        let loss = model.loss(output.hidden, ids.clone(), -1)?;
        let forward = start.elapsed();
        let mut gradients = loss.backward();
        let backward = start.elapsed();
        drop(loss);
        let gradients = model.take_gradients(&mut gradients);
        model = model.update(|parameter| {
            if let Some(gradient) = &gradients[parameter.index] {
                for (value, gradient) in parameter.values.iter_mut().zip(gradient) {
                    *value -= 0.01 * gradient;
                }
            }
        });
        recycle_gradients(gradients);
        let step = start.elapsed();
        println!(
            "run {run}: {:.0} tokens/s; layers {:.0} ms, head and loss {:.0} ms, backward {:.0} ms, update {:.0} ms",
            (batch * seq) as f64 / step.as_secs_f64(),
            hidden.as_secs_f64() * 1e3,
            (forward - hidden).as_secs_f64() * 1e3,
            (backward - forward).as_secs_f64() * 1e3,
            (step - backward).as_secs_f64() * 1e3,
        );
    }
    Ok(())
}
