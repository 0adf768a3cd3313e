//! Rotary positions over the shader `rotary_training`, from tables of angles that stay on the device.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use burn::backend::TensorMetadata;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::cubecl::Device;
use burn::cubecl::server::Handle;
use mor_shaders::RotaryTraining;

use super::autodiff::{RotaryKernels, Rotation};
use super::positions::Positions;
use crate::ops::backend::gpu::{is_half, writable};
use crate::ops::backend::launch::{Op, launch_units, numbers};

impl RotaryKernels for CubeBackend {
    fn rotate(x: CubeTensor, rotation: &Rotation) -> CubeTensor {
        let x = writable(x);
        let [batch, seq, dim] = x.shape().dims::<3>();
        let head_dim = dim / rotation.heads;
        let positions = rotation.positions.as_deref();
        let op = RotaryTraining {
            dim: dim as u32,
            head_dim: head_dim as u32,
            indexed: positions.is_some(),
            inverse: rotation.inverse,
            half: is_half(&x),
        };
        let units = batch * seq * op.pairs() as usize;
        let reach = positions.map_or(seq, Positions::reach);
        let client = x.client.clone();
        let mut buffers = vec![x.handle.clone(), angles(&x, rotation.base, head_dim, reach)];
        buffers.extend(positions.map(|positions| positions.on_gpu(&client)));
        let params = numbers([units, seq]);
        launch_units(&client, Op::Rotary(op), units, buffers, &params);
        x
    }
}

/// Cosines and sines of at least that many positions, `[positions, head_dim / 2, 2]`, on the device of a tensor.
fn angles(like: &CubeTensor, base: f32, head_dim: usize, positions: usize) -> Handle {
    /// By device, base and size of a head: how many positions there are, and the table.
    type Known = HashMap<(Device, u32, usize), (usize, Handle)>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let key = (like.device.clone(), base.to_bits(), head_dim);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((there, table)) = known.get(&key)
        && *there >= positions
    {
        return table.clone();
    }
    // So that lengths which grow bit by bit do not make a table each.
    let positions = positions.next_power_of_two();
    let half = head_dim / 2;
    let table: Vec<[f32; 2]> = (0..positions * half)
        .map(|at| {
            let angle = mor_math::angle(at / half, at % half, head_dim, f64::from(base));
            [angle.cos() as f32, angle.sin() as f32]
        })
        .collect();
    let table = like.client.create_from_slice(bytemuck::cast_slice(&table));
    known.insert(key, (positions, table.clone()));
    table
}
