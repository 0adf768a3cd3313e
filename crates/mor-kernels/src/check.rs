//! Length checks shared by all kernels.

/// Panics unless `slice` holds exactly the product of `shape`; `name` is the argument's name.
#[track_caller]
pub(crate) fn check_len<T>(name: &str, slice: &[T], shape: &[usize]) {
    let wanted: usize = shape.iter().product();
    assert!(
        slice.len() == wanted,
        "`{name}` has {} elements, but its shape {shape:?} needs {wanted}",
        slice.len()
    );
}
