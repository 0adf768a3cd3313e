//! What an optimizer does to parameters, on tensors without a gradient: a kernel each on a GPU, composed of Burn's
//! operations elsewhere. On the CPU an optimizer works on plain vectors instead.

#[cfg(feature = "gpu")]
mod gpu;

#[cfg(feature = "gpu")]
use burn::backend::Dispatch;
#[cfg(feature = "gpu")]
use burn::tensor::DType;
use burn::tensor::Tensor;
pub use mor_kernels::AdamW;

#[cfg(feature = "gpu")]
use super::backend::is_cpu;
#[cfg(feature = "gpu")]
use gpu::UpdateOps;

/// Whether a tensor is one for the kernels.
#[cfg(feature = "gpu")]
fn is_on_gpu<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && !is_cpu(&x.device())
}

/// One step of AdamW (Loshchilov and Hutter 2019) on a parameter with its first and second moment: all three as they
/// are after it. All are `[len]`.
pub fn adamw(
    settings: &AdamW,
    values: Tensor<1>,
    gradient: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
) -> (Tensor<1>, [Tensor<1>; 2]) {
    #[cfg(feature = "gpu")]
    if is_on_gpu(&values) {
        let (values, first, second) = Dispatch::adamw(
            values.into_dispatch(),
            gradient.into_dispatch(),
            first.into_dispatch(),
            second.into_dispatch(),
            *settings,
        );
        let [values, first, second] = [values, first, second].map(Tensor::from_dispatch);
        return (values, [first, second]);
    }
    let factors = settings.factors();
    let gradient = gradient * settings.grad_scale;
    let square = gradient.clone() * gradient.clone();
    let first = first * settings.beta1 + gradient * (1.0 - settings.beta1);
    let second = second * settings.beta2 + square * (1.0 - settings.beta2);
    let root = second.clone().sqrt() * factors.root_scale + settings.eps;
    let values = values * factors.keep - first.clone() * factors.step_size / root;
    (values, [first, second])
}

/// The moving average of gradients with one more, which is multiplied by `scale` first; and Nesterov's look ahead to
/// where the average goes with it, before the average. Both are `[len]`.
pub fn momentum(
    gradient: Tensor<1>,
    momentum: Tensor<1>,
    decay: f64,
    scale: f64,
) -> (Tensor<1>, Tensor<1>) {
    #[cfg(feature = "gpu")]
    if is_on_gpu(&momentum) {
        let (ahead, momentum) = Dispatch::momentum(
            gradient.into_dispatch(),
            momentum.into_dispatch(),
            decay as f32,
            scale as f32,
        );
        return (
            Tensor::from_dispatch(ahead),
            Tensor::from_dispatch(momentum),
        );
    }
    let added = gradient * ((1.0 - decay) * scale);
    let momentum = momentum * decay + added.clone();
    (momentum.clone() * decay + added, momentum)
}

/// `a · x + b · y`, in the memory of `y` where nothing else holds it. Both have one shape.
pub fn scaled_sum<const D: usize>(x: Tensor<D>, a: f64, y: Tensor<D>, b: f64) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    if is_on_gpu(&y) {
        return Tensor::from_dispatch(Dispatch::scaled_sum(
            x.into_dispatch(),
            a as f32,
            y.into_dispatch(),
            b as f32,
        ));
    }
    x * a + y * b
}

/// The summed squares of all elements of all vectors, of which there must be one, in parts to be added up, `[parts]`: on
/// a GPU each of some elements, elsewhere each of a vector. Burn's own sums end in atomic additions on some adapters, in
/// another order each time.
pub fn sum_squares(vectors: &[Tensor<1>]) -> Tensor<1> {
    #[cfg(feature = "gpu")]
    if vectors.iter().all(is_on_gpu)
        && let Some(device) = vectors.first().map(Tensor::device)
    {
        let chunks = |x: &Tensor<1>| x.dims()[0].div_ceil(mor_shaders::SUM_SQUARES_CHUNK as usize);
        let all: usize = vectors.iter().map(chunks).sum();
        let mut sums = Tensor::<1>::empty([all], &device).into_dispatch();
        let mut place = 0;
        for vector in vectors {
            sums = Dispatch::sum_squares(vector.clone().into_dispatch(), sums, place);
            place += chunks(vector);
        }
        return Tensor::from_dispatch(sums);
    }
    let squares = vectors.iter().map(|x| (x.clone() * x.clone()).sum());
    Tensor::cat(squares.collect(), 0)
}
